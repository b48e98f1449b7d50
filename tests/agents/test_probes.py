"""Five small environments with known action values, each catching one kind of mistake."""

from __future__ import annotations

import numpy as np
import pytest

from rlab.agents.value.config import PARTS
from rlab.envs.probes import PROBES
from rlab.registry import RECIPES
from rlab.run.journal import Journal
from tests.agents.helpers import known, learner

SETTINGS = {
    "steps": 3_000,
    "num_envs": 2,
    "train_every": 2,
    "target_every": 50,
    "learning_starts": 100,
    "memory_size": 3_000,
    "batch_size": 64,
    "gamma": 0.8,
    "learning_rate": 1e-3,
    "final_learning_rate": 1e-4,
    "epsilon_end": 0.2,
    "max_grad_norm": 100.0,
}


HALF = {
    "steps": 1_500,
    "target_every": 25,
    "batch_size": 32,
    "learning_rate": 2e-3,
    "final_learning_rate": 1e-5,
}
"""As many targets in half of the steps; all values come out to four places."""

QUICK = {
    "steps": 1_200,
    "target_every": 24,
    "batch_size": 32,
    "learning_rate": 2e-3,
    "final_learning_rate": 1e-5,
    "v_min": -6.0,
    "v_max": 6.0,
    "quantiles": 16,
}
"""For each of the presets in turn."""

SHORT = {"burn_in": 1, "sequence": 4, "train_every": 4, "batch_size": 64}
"""For who learns from sequences: fewer updates, each of more steps."""


def largest_error(journal: Journal, probe: str, recipe: str = "dqn", **settings: object) -> float:
    """max |Q - Q*| over the observations that a solution is known for.

    Munchausen learns other values for actions that its policy does not take: of it only the best action counts.
    """
    run = learner(journal, recipe, env=probe, **(known(RECIPES.get(recipe).default(probe), SETTINGS) | settings))
    while not run.progress().finished:
        run.step()
    errors = []
    policy = run.agent.policy(0)
    for obs, q_star in PROBES[probe].solution(0.8):  # in the order of an episode, for who remembers
        q = policy.values(np.asarray(obs, np.float32)[None], np.array([float(obs[0]) in PROBES[probe].starts]))[0]
        told = ~np.isnan(q_star)
        if getattr(run.agent.config, "munchausen", False):
            told = np.arange(len(q_star)) == np.nanargmax(q_star)
            assert q.argmax() == np.nanargmax(q_star)
        errors.append(np.abs(q - q_star)[told].max())
    run.close()
    return float(max(errors))


@pytest.mark.parametrize("probe", sorted(PROBES))
def test_q_values_are_right(journal: Journal, probe: str) -> None:
    assert largest_error(journal, probe, **HALF, seed=0) < 0.05


def test_several_steps_find_the_same_values(journal: Journal) -> None:
    assert largest_error(journal, "rlab/Probe3-v0", **HALF, n_step=3) < 0.05


@pytest.mark.parametrize(
    ("preset", "probe"), [(preset, f"rlab/Probe{k % 5 + 1}-v0") for k, preset in enumerate(sorted(PARTS))]
)
def test_every_preset_finds_the_values(journal: Journal, preset: str, probe: str) -> None:
    """A probe each, so that every probe has two presets; all of them: the slow test below."""
    settings = QUICK | (SHORT if PARTS[preset].get("memory") else {})
    assert largest_error(journal, probe, preset, **settings, seed=0) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("probe", [f"rlab/Probe{i}-v0" for i in range(1, 6)])
@pytest.mark.parametrize("preset", sorted(PARTS))
@pytest.mark.parametrize("seed", range(10))
def test_every_preset_finds_the_values_ten_times_of_ten(journal: Journal, preset: str, probe: str, seed: int) -> None:
    settings = QUICK | (SHORT if PARTS[preset].get("memory") else {})
    assert largest_error(journal, probe, preset, **settings, seed=seed) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("probe", sorted(PROBES))
@pytest.mark.parametrize("seed", range(10))
def test_ten_seeds_of_ten(journal: Journal, probe: str, seed: int) -> None:
    assert largest_error(journal, probe, seed=seed) < 0.05


PQN = {
    "steps": 6_000,
    "num_envs": 8,
    "rollout": 16,
    "epochs": 4,
    "batch_size": 32,
    "lam": 0.5,
    "learning_rate": 2e-2,
    "final_learning_rate": 0.0,
    "epsilon_start": 1.0,
    "epsilon_fraction": 0.5,
}


@pytest.mark.parametrize(
    ("probe", "overlap"), [*((f"rlab/Probe{i}-v0", False) for i in range(1, 6)), ("rlab/Probe5-v0", True)]
)
def test_pqn_finds_the_values(journal: Journal, probe: str, overlap: bool) -> None:
    settings = PQN | ({"steps": 12_000} if probe == "rlab/Probe4-v0" else {})  # which takes the longest
    assert largest_error(journal, probe, "pqn", **settings, overlap=overlap, seed=0) < 0.1
