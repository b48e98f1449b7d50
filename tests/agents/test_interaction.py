"""The interaction: true successors, exact resume, determinism; and the contract over every registered agent."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlab.agents.interaction import Interaction
from rlab.agents.types import Step
from rlab.agents.value.config import PARTS
from rlab.envs import atari
from rlab.errors import RlabError
from rlab.registry import RECIPES
from rlab.run.checkpoint import Checkpoints, digest
from rlab.run.config import changed
from rlab.run.contract import NonFinite, Stop, Stopped
from rlab.run.journal import Journal
from rlab.run.lifecycle import BuildContext
from tests.agents.helpers import contract_cases, known, learner
from tests.agents.planted import Spoils

ENVS = [
    "CartPole-v1",
    "Breakout",
    "MinAtar/Breakout",
    "Go5",
    "rlab/ProbeMask-v0",
    "rlab/ProbeTruncation-v0",
    "Pendulum-v1",
]

BOX = ["Pendulum-v1"]
"""Environments with continuous actions."""

MASKS = ["rlab/ProbeMask-v0", "Go5"]
"""Environments that forbid actions."""

DISCRETE = [env for env in ENVS if env not in BOX]

UNFIT = {
    "dqn": BOX,
    "averaged-dqn": BOX,
    "nature": BOX,
    "pqn": BOX,
    "world-model": BOX + MASKS + ["Breakout"],
    **dict.fromkeys(PARTS, BOX),
    "ppo": MASKS,
    "sb3-a2c": MASKS,
    "sb3-dqn": BOX + MASKS,
    "sac": DISCRETE,
    "td3": DISCRETE,
    "ddpg": DISCRETE,
}
"""Recipe -> environments that it must refuse."""


def steps_seen(run: Interaction, count: int) -> list[Step]:
    """Drive a learner and collect what its agent was taught."""
    seen: list[Step] = []
    taught = run.agent.learn

    def learn(step: Step) -> dict[str, float] | None:
        seen.append(step)
        return taught(step)

    run.agent.learn = learn  # type: ignore[method-assign]
    while len(seen) < count:
        run.step()
    return seen


def save_and_restore(run: Any, before: Journal, folder: Path, build: Callable[[Journal], Any]) -> tuple[Any, Journal]:
    """Through the disk and back: a checkpoint, a new journal, a new learner."""
    path = Checkpoints(folder / "checkpoints", before).save(run.state(), {}, run.progress().done)
    journal = Journal(before.folder)
    saved = Checkpoints(folder / "checkpoints", journal).load(path)
    again = build(journal)
    again.restore(saved.state, Stop())
    return again, journal


@pytest.mark.parametrize(("recipe", "env", "settings"), contract_cases(ENVS), ids=str)
def test_contract_ten_steps_save_restore_same_digest(
    recipe: str, env: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    def build(journal: Journal) -> Any:
        return learner(journal, recipe, env, **settings)

    journal = Journal(tmp_path / "journal")
    if env in UNFIT.get(recipe, []):
        with pytest.raises(RlabError, match=r"takes|knows"):
            build(journal)
        return
    run = build(journal)
    for _ in range(10):
        run.step()
    before = digest(run.state())
    assert digest(run.state()) == before  # asking alters nothing
    again, new_journal = save_and_restore(run, journal, tmp_path, build)
    assert digest(again.state()) == before
    for _ in range(10):  # and they go on alike, through resets and updates
        assert {k: v for k, v in run.step().items() if not k.startswith("clock")} == {
            k: v for k, v in again.step().items() if not k.startswith("clock")
        }
    assert digest(run.state()) == digest(again.state())
    for each in (run, again, journal, new_journal):
        each.close()


@pytest.mark.parametrize("env", ["CartPole-v1", "Breakout"])
def test_two_runs_with_one_seed_are_the_same_and_another_seed_is_not(env: str, tmp_path: Path) -> None:
    digests = []
    for number, seed in enumerate((3, 3, 4)):
        journal = Journal(tmp_path / str(number))
        run = learner(journal, env=env, num_envs=2, seed=seed, steps=4_000)
        while run.done < 160:
            run.step()
        digests.append(digest(run.state()))
        run.close()
        journal.close()
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_saving_at_any_step_is_exact(tmp_path: Path) -> None:
    """Around resets too: environments restart every 5 ticks here. One run is saved and restored again and again."""

    def build(journal: Journal) -> Interaction:
        return learner(journal, num_envs=3, train_every=3, reset_steps=15, steps=240, learning_starts=30)

    journal = Journal(tmp_path / "whole")
    whole = build(journal)
    at = Journal(tmp_path / "journal")
    run = build(at)
    for number in range(80):
        if number % 7 == 0 or number in (5, 9, 30, 61):
            again, newer = save_and_restore(run, at, tmp_path / str(number), build)
            run.close()
            at.close()
            run, at = again, newer
            assert digest(run.state()) == digest(whole.state()), number
        run.step()
        whole.step()
    assert whole.progress().finished
    assert digest(run.state()) == digest(whole.state())
    for each in (run, whole, journal, at):
        each.close()


@pytest.mark.parametrize("env", ["CartPole-v1", "Breakout"])
def test_next_obs_is_never_a_reset_observation(env: str, journal: Journal) -> None:
    """Item 263: what an agent is given of an environment: each step leads to where the next one begins."""
    run = learner(journal, env=env, num_envs=2, steps=10_000, reset_steps=200)
    seen = steps_seen(run, 250)
    ends = np.stack([s.last for s in seen])
    assert ends.any()
    for now, then in pairwise(seen):
        for i in range(2):
            if now.last[i]:
                assert not np.array_equal(now.next_obs[i], then.obs[i])
                if env == "Breakout":
                    assert now.next_obs[i, :3].any(axis=(1, 2)).all()  # a reset's older frames are zero
            else:
                np.testing.assert_array_equal(now.next_obs[i], then.obs[i])
    run.close()


def test_a_planned_restart_is_a_truncation_and_bootstraps(journal: Journal) -> None:
    run = learner(journal, "dqn", "rlab/ProbeTruncation-v0", num_envs=2, steps=1_000, reset_steps=8)
    seen = steps_seen(run, 12)
    for t, step in enumerate(seen):
        assert step.last.all() == (t % 4 == 3)
        assert (step.discount == 1).all()
    run.close()


def test_a_lost_life_stops_bootstrapping_in_classic_only(journal: Journal, tmp_path: Path) -> None:
    stops = {}
    for protocol in ("classic", "v5"):
        other = Journal(tmp_path / protocol)
        run = learner(other, env="Breakout", protocol=protocol, num_envs=4, steps=10_000, learning_starts=9_000)
        seen = steps_seen(run, 300)
        stopped = np.stack([s.discount == 0 for s in seen])
        last = np.stack([s.last for s in seen])
        stops[protocol] = (stopped & ~last).sum()
        assert (np.abs(np.stack([s.reward for s in seen])) <= 1).all()
        run.close()
        other.close()
    assert stops["classic"] > 10
    assert stops["v5"] == 0


def test_an_environment_that_does_not_repeat_itself_is_found_out(journal: Journal) -> None:
    run = learner(journal, num_envs=2, steps=1_000)
    for _ in range(10):
        run.step()
    state = run.state()
    state["observed"] = "00" * 16
    with pytest.raises(RlabError, match="did not repeat"):
        run.restore(state, Stop())


def test_restoring_and_evaluating_can_be_stopped(journal: Journal) -> None:
    run = learner(journal, num_envs=2, steps=1_000)
    for _ in range(10):
        run.step()
    stop = Stop()
    stop.request("test")
    with pytest.raises(Stopped):
        run.evaluate(stop)
    with pytest.raises(Stopped):
        run.restore(run.state(), stop)


def test_an_evaluation_alters_nothing_and_repeats(journal: Journal) -> None:
    run = learner(journal, num_envs=2, steps=1_000)
    for _ in range(50):
        run.step()
    before = digest(run.state())
    first, second = run.evaluate(Stop()), run.evaluate(Stop())
    assert first == second
    assert digest(run.state()) == before
    assert first["low"] <= first["mean"] <= first["high"]
    assert first["episodes"] == len(first["returns"]) == 2


@pytest.mark.parametrize("recipe", ["pqn", "dqn", "a2c", "ppo"])
def test_training_and_evaluations_play_by_the_rules_of_the_run(
    recipe: str, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    monkeypatch.setattr("rlab.envs.minatar.MinAtarEngine.__init__", _noting(made))
    small = {"num_envs": 2, "steps": 1_000, "sticky": 0.0, "ramping": False}
    run = learner(journal, recipe, "MinAtar/Asterix", **small)
    said = run.evaluate_games(2, 0, Stop())
    assert [(e.rules.sticky, e.rules.ramping) for e in made] == [(0.0, False)] * 2
    assert (said["sticky"], said["ramping"], said["protocol"]) == (0.0, False, None)
    made.clear()
    own = learner(journal, recipe, "MinAtar/Asterix", num_envs=2, steps=1_000)
    assert "sticky" not in own.evaluate_games(2, 0, Stop())
    assert [(e.rules.sticky, e.rules.ramping) for e in made] == [(0.1, True)] * 2


def _noting(made: list[Any]) -> Callable[..., None]:
    from rlab.envs.minatar import MinAtarEngine

    original = MinAtarEngine.__init__

    def noting(self: Any, *args: Any, **more: Any) -> None:
        original(self, *args, **more)
        made.append(self)

    return noting


@pytest.mark.parametrize(
    ("env", "rule", "sentence"),
    [
        ("CartPole-v1", {"sticky": 0.0}, "sticky belongs to Atari and MinAtar, and 'CartPole-v1' is not"),
        ("CartPole-v1", {"ramping": False}, "ramping belongs to MinAtar, and 'CartPole-v1' is not"),
        ("Breakout", {"ramping": False}, "ramping belongs to MinAtar, and 'Breakout' is not"),
        ("CartPole-v1", {"opponent": "random"}, "opponent belongs to Go, and 'CartPole-v1' is not Go"),
        ("Go5", {"komi": 0.1}, "komi is 0.1"),
        ("Go5", {"opponent": "nobody"}, "there is no player or run 'nobody'"),
        ("MinAtar/Breakout", {"sticky": 1.0}, "sticky is 1.0; it must be a probability below 1"),
        ("MinAtar/Breakout", {"sticky": float("nan")}, "sticky is nan"),
    ],
)
def test_rules_that_a_game_does_not_have_are_refused(
    env: str, rule: dict[str, Any], sentence: str, journal: Journal
) -> None:
    for recipe in ("pqn", "ppo"):
        with pytest.raises(RlabError, match=sentence):
            learner(journal, recipe, env, **rule)


def test_a_bad_reward_halts_at_its_step(journal: Journal) -> None:
    run = learner(journal, num_envs=2, steps=1_000)
    run.step()
    receive = run.envs.recv

    def poisoned() -> Any:
        obs, reward, terminated, truncated, info = receive()
        return obs, reward, terminated, truncated, info | {"raw_reward": np.array([1.0, np.nan], np.float32)}

    run.envs.recv = poisoned
    with pytest.raises(NonFinite) as caught:
        run.step()
    assert caught.value.quantity == "reward"


def run_out(run: Any) -> None:
    while not run.progress().finished:
        run.step()


@pytest.mark.filterwarnings("ignore:.*obs")  # Gymnasium's checker sees it, too
@pytest.mark.parametrize("recipe", ["dqn", "drqn", "pqn", "a2c", "ppo", "sb3-dqn"])
def test_an_observation_that_is_no_number_reaches_nobody(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It halts at its step, and a run goes on from before it once the environment is healed."""
    small = known(RECIPES.get(recipe).default("CartPole-v1"), {"num_envs": 4, "rollout": 4, "n_steps": 8})

    def build(journal: Journal) -> Any:
        return learner(journal, recipe, "tests.agents.planted:planted/Spoils-v0", steps=600, **small)

    monkeypatch.setattr(Spoils, "late", 120)
    journal = Journal(tmp_path / "journal")
    run = build(journal)
    while run.done < 200:
        run.step()
    again, later = save_and_restore(run, journal, tmp_path, build)
    with pytest.raises(NonFinite, match=r"observation\[2\] became nan at step 480 \(step 120 of copy 0 of"):
        run_out(run)
    monkeypatch.setattr(Spoils, "late", 5)
    with pytest.raises(NonFinite, match=r"observation\[2\] became nan at step 5 of copy 0"):
        run.evaluate_games(4, 0, Stop())
    monkeypatch.setattr(Spoils, "late", -1)
    run_out(again)
    for each in (run, again, journal, later):
        each.close()


def test_footprint_measures_without_touching_the_run(journal: Journal) -> None:
    run = learner(journal, num_envs=2, steps=10_000)
    before = digest(run.state())
    footprint = run.footprint(Stop())
    assert digest(run.state()) == before
    assert footprint.seconds is not None
    assert 0 < footprint.seconds < 600
    assert footprint.memory > 0
    assert footprint.disk > 0


def test_atari_is_measured_in_the_environments_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    make = atari.AtariVectorEnv

    def counted(*given: Any, **settings: Any) -> Any:
        made.append(1)
        return make(*given, **settings)

    monkeypatch.setattr(atari, "AtariVectorEnv", counted)
    monkeypatch.setattr(atari, "AT_ONCE", 1)
    digests = []
    for name in ("measured", "not"):
        journal = Journal(tmp_path / name)
        with closing(learner(journal, "pqn", "Breakout", num_envs=2, rollout=2, batch_size=4, encoder="flat")) as run:
            if name == "measured":
                late = Stop()
                assert run.footprint(late).seconds
                late.request("after the measurement")  # which is not the run's
            run.step()
            run.step()
            digests.append(digest(run.state()))
    assert digests[0] == digests[1]
    assert len(made) == 2


@pytest.mark.parametrize(("recipe", "length"), [("pqn", "rollout"), ("ppo", "n_steps")])
def test_measurement_learns_as_often_as_the_run(recipe: str, length: str) -> None:
    """In every short rollout as many updates for each step, so that a second's measurement sees them."""
    settings = RECIPES.get(recipe).default("Breakout").agent
    quick = settings.for_profile()
    assert getattr(quick, length) * quick.num_envs == math.lcm(settings.batch_size, settings.num_envs)
    assert (
        replace(quick, **{length: getattr(settings, length)}, **({"compile": "auto"} if recipe == "pqn" else {}))
        == settings
    )


def test_restart_that_a_stop_interrupts_is_made_later(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atari, "AT_ONCE", 1)

    def build(journal: Journal, stop: Stop) -> Interaction:
        settings = {"num_envs": 2, "reset_steps": 4, "encoder": "flat", "rollout": 1, "batch_size": 2}
        config = changed(RECIPES.get("pqn").default("Breakout"), settings)
        return RECIPES.get("pqn").build(config, BuildContext("cpu", journal, stop=stop))

    stop, whole = Stop(), Journal(tmp_path / "whole")
    run, other = build(journal, stop), build(whole, Stop())
    for _ in range(2):
        run.step()
    stop.request("test")
    before = run.progress().done
    run.step()
    assert run.progress().done == before  # neither restarted nor stepped
    again, later = save_and_restore(run, journal, tmp_path, lambda journal: build(journal, Stop()))
    for _ in range(4):
        other.step()
    again.step()
    again.step()
    assert again.progress().done == other.progress().done
    assert digest(again.state()) == digest(other.state())
    for each in (run, again, other, later, whole):
        each.close()


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_dry_run_ends_after_a_stop(steps: int, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    run, stop, taken = learner(journal, num_envs=2, steps=10_000), Stop(), []
    step = Interaction.step

    def ask(self: Interaction) -> Any:
        taken.append(self)
        if len(taken) == steps:
            stop.request("test")
        return step(self)

    monkeypatch.setattr(Interaction, "step", ask)
    if steps == 0:
        stop.request("test")
    before = set(threading.enumerate())
    with pytest.raises(Stopped):
        run.footprint(stop)
    assert len(taken) == steps
    assert run not in taken  # only its copy ran
    assert set(threading.enumerate()) == before


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(5))
def test_cartpole_is_solved(seed: int, journal: Journal) -> None:
    run = learner(journal, small=False, seed=seed, final_episodes=20)
    while not run.progress().finished:
        run.step()
    assert run.evaluate(Stop())["mean"] >= 475
