"""Dynamic programming as agents: by hand, beside published values and the exact solver, and what it plays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Discrete

from rlab.agents.tabular.config import PLANNING_PRESETS, PlanningEnvConfig
from rlab.agents.tabular.exact import value_iteration
from rlab.agents.tabular.learner import Tabular
from rlab.agents.tabular.planning import Planner
from rlab.cli import main
from rlab.envs.make import load_model
from rlab.envs.tabular import MDP, NAMES, model_of
from rlab.errors import RlabError
from rlab.run.contract import Stop
from tests.agents.helpers import Corridor


class SmallGrid(gym.Env):
    """4x4 cells, two opposite corners are the end, -1 a step (Sutton & Barto 2018, example 4.1)."""

    observation_space = Discrete(16)
    action_space = Discrete(4)

    def __init__(self) -> None:
        def outcome(s: int, dy: int, dx: int) -> list[Any]:
            y, x = min(max(s // 4 + dy, 0), 3), min(max(s % 4 + dx, 0), 3)
            after = 4 * y + x
            return [(1.0, s, 0.0, True)] if s in (0, 15) else [(1.0, after, -1.0, after in (0, 15))]

        moves = ((-1, 0), (0, 1), (1, 0), (0, -1))
        self.P = {s: {a: outcome(s, *move) for a, move in enumerate(moves)} for s in range(16)}


def planner(mdp: MDP | str, preset: str, **changes: Any) -> Planner:
    return Planner(replace(PLANNING_PRESETS[preset], **changes), load_model(mdp) if isinstance(mdp, str) else mdp)


def settle(agent: Planner) -> int:
    """The sweeps until it has."""
    sweeps = 0
    while not agent.settled:
        agent.run(sweeps, 1)
        sweeps += 1
        assert sweeps < 20_000
    return sweeps


def test_sweeps_of_value_iteration_by_hand() -> None:
    agent = planner(model_of(Corridor()), "value-iteration", gamma=0.5)
    seen = []
    for sweep in range(4):
        agent.run(sweep, 1)
        seen.append(agent.v.tolist())
    assert seen == [[1, 2, 4], [2, 4, 4], [3, 4, 4], [3, 4, 4]]
    assert agent.settled
    assert agent.table().tolist() == [[1.5, 3], [2, 4], [2, 4]]


def test_sweeps_of_policy_evaluation_by_hand() -> None:
    agent = planner(model_of(Corridor()), "policy-evaluation", gamma=0.5)
    assert agent.run(0, 1) == 2  # the largest change
    assert agent.v.tolist() == [0.5, 1, 2]
    agent.run(1, 1)
    assert agent.v.tolist() == [0.5 * 0.25 + 0.5 * 1.5, 0.5 * 0.5 + 0.5 * 3, 0.5 * 1 + 0.5 * 4]


def test_the_published_values_of_actions_at_random() -> None:
    """Sutton & Barto 2018, figure 4.1: k = 1 and 2, and the end."""
    agent = planner(model_of(SmallGrid()), "policy-evaluation", gamma=1.0)
    agent.run(0, 1)
    assert agent.v[1:15].tolist() == [-1] * 14
    agent.run(1, 1)
    assert np.round(agent.v[:6], 2).tolist() == [0, -1.75, -2, -2, -1.75, -2]
    settle(agent)
    grid = [[0, -14, -20, -22], [-14, -18, -20, -20], [-20, -20, -18, -14], [-22, -20, -14, 0]]
    np.testing.assert_allclose(agent.v.reshape(4, 4), grid, atol=1e-6)
    steps = np.array([min(s // 4 + s % 4, 6 - s // 4 - s % 4) for s in range(16)])
    played = agent.policy(0).pi
    after = np.array([[agent.mdp.next_state[s, a, 0] for a in range(4)] for s in range(16)])
    best = steps[after] == steps[after].min(axis=1, keepdims=True)
    assert (best[1:15] | (played[1:15] == 0)).all()  # the greedy policy of those values is already the best one


@pytest.mark.parametrize("sweeps", [0, 1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_all_come_to_the_exact_values(name: str, sweeps: int) -> None:
    agent = planner(name, "value-iteration", sweeps=sweeps)
    settle(agent)
    np.testing.assert_allclose(agent.table(), value_iteration(agent.mdp, 0.99), atol=1e-8, rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_policy_evaluation_by_sweeps_and_by_equations_agree(name: str) -> None:
    swept, solved = planner(name, "policy-evaluation"), planner(name, "policy-evaluation", sweeps=0)
    assert settle(swept) > settle(solved) == 2
    np.testing.assert_allclose(swept.v, solved.v, atol=1e-8, rtol=1e-9)
    np.testing.assert_allclose(swept.table(), swept.reference(0), atol=1e-8, rtol=1e-9)


def test_policy_iteration_improves_a_few_times_where_value_iteration_sweeps_hundreds() -> None:
    assert settle(planner("FrozenLake-v1", "policy-iteration")) <= 6
    assert settle(planner("FrozenLake-v1", "value-iteration")) > 300


@pytest.mark.parametrize("preset", ["value-iteration", "policy-iteration"])
def test_without_discount_ties_do_not_go_round(preset: str) -> None:
    """On the slippery lake many actions are equally good with gamma 1, and some of them lead nowhere."""
    agent = planner("FrozenLake-v1", preset, gamma=1.0)
    settle(agent)
    run = Tabular(agent, PlanningEnvConfig(), 0)
    assert run.exact()["start_value"] == pytest.approx(14 / 17, abs=1e-6)


def test_a_policy_that_never_ends_is_told() -> None:
    """Staying pays, so that is the first greedy policy."""

    class Stay(Corridor):
        def __init__(self) -> None:
            super().__init__()
            self.P[0][0] = [(1.0, 0, 5.0, False)]

    agent = planner(replace(model_of(Stay()), name="Stay"), "policy-iteration", gamma=1.0)
    with pytest.raises(
        RlabError, match=r"this policy never ends in 'Stay', so it has no values with gamma 1; use 0.99"
    ):
        settle(agent)


def test_it_resumes_to_the_bit() -> None:
    def made() -> Tabular:
        return Tabular(planner("FrozenLake-v1", "policy-iteration"), PlanningEnvConfig(), 0)

    whole, first, second = made(), made(), made()
    for _ in range(2):
        whole.step(), first.step()
    second.restore(first.state(), Stop())
    while not whole.progress().finished:
        whole.step(), second.step()
    assert second.progress() == whole.progress()
    assert all(np.array_equal(a, second.agent.arrays()[name]) for name, a in whole.agent.arrays().items())
    assert whole.step() == {}


@pytest.mark.parametrize("preset", PLANNING_PRESETS)
def test_train_evaluate(preset: str, capsys: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    assert main(["train", preset, "--env", "CliffWalking-v1", "--name", "cliff", "--final-episodes", "5"]) == 0
    said = capsys.readouterr().out
    assert "ε" not in said  # it acts at random nowhere
    assert (tmp_path / "cliff" / "metrics.jsonl").exists()
    assert main(["train", preset, "--env", "CartPole-v1"]) == 1
    assert "'CartPole-v1' has no table of transitions" in capsys.readouterr().err
    assert main(["train", preset, "--env", "CliffWalking-v1", "--sweeps", "-1"]) == 1
    assert "--sweeps is -1" in capsys.readouterr().err
