"""Planted failures are named by training health in real runs; healthy runs are not warned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rlab
from rlab.agents.diagnostics import policy_spread, value_diagnostics
from rlab.agents.interaction import Interaction
from rlab.agents.types import Step
from rlab.agents.value.dqn import DQN
from rlab.agents.value.replay import Replay
from rlab.envs.generic import Generic
from rlab.envs.probes import PROBES
from rlab.nn.dead_units import watch
from rlab.registry import RECIPES
from rlab.run.checkpoint import digest
from rlab.run.folder import RunFolder, find_run
from rlab.run.health import Collapsed, warnings_in
from rlab.run.journal import Journal
from rlab.run.metrics import read_metrics
from rlab.run.status import newest_checkpoint
from tests.agents.helpers import known, learner

QUICK: dict[str, dict[str, Any]] = {
    # many small updates on few steps
    "dqn": {"num_envs": 8, "train_every": 1, "batch_size": 8, "learning_starts": 100},
    "pqn": {"num_envs": 8, "rollout": 16, "batch_size": 16},
    "a2c": {},
}
RUN = {"threads": 1, "log_steps": 100, "evaluate_steps": 0, "final_episodes": 1, "checkpoint_minutes": 0}


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(Interaction, "seconds_per_step", lambda self, stop: 0.0)  # no dry run of a second


def run(recipe: str, env: str, steps: int, **settings: Any) -> RunFolder:
    return rlab.train(recipe, env, name="run", steps=steps, **(RUN | QUICK.get(recipe, {}) | settings))


def collapse(recipe: str, env: str, steps: int, **settings: Any) -> Collapsed:
    """The error that ends a run under stop_on_collapse; a checkpoint of before must be left, and the reason told."""
    with pytest.raises(Collapsed) as e:
        run(recipe, env, steps, stop_on_collapse=True, checkpoint_steps=100, **settings)
    folder = find_run("run")
    newest = newest_checkpoint(folder)
    assert newest is not None
    assert newest[1] < e.value.warning.step
    assert [w["rule"] for w in warnings(folder)] == [e.value.warning.rule]
    return e.value


def warnings(folder: RunFolder) -> list[dict[str, Any]]:
    return warnings_in(read_metrics(folder.metrics))


FAST = {"learning_rate": 1.0, "final_learning_rate": 1.0}


@pytest.mark.parametrize(("recipe", "steps"), [("dqn", 1_500), ("pqn", 5_000), ("a2c", 8_000)])
def test_a_learning_rate_of_1_is_named(recipe: str, steps: int) -> None:
    error = collapse(recipe, "CartPole-v1", steps, **FAST)
    assert error.warning.rule in ("q-drift", "gradient-explosion", "dead-units", "entropy-collapse")
    assert "likely cause: a learning rate that is too large" in str(error)
    assert "try: --learning-rate ten times smaller" in str(error)


def test_values_that_run_away_are_named() -> None:
    error = collapse("dqn", "CartPole-v1", 3_000, learning_rate=0.02, final_learning_rate=0.02, target_every=8)
    assert error.warning.rule == "q-drift"
    assert "the largest reward so far was 1" in str(error)


def clipped_off(self: Generic) -> Any:
    obs, reward, terminated, truncated, info = RECEIVE(self)
    return obs, np.clip(reward, 0, 0), terminated, truncated, info


RECEIVE = Generic.recv


@pytest.mark.parametrize("recipe", sorted(QUICK))
def test_rewards_that_are_clipped_off_are_named(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Generic, "recv", clipped_off)
    error = collapse(recipe, "CartPole-v1", 2_500)
    assert error.warning.rule == "no-reward"
    assert "no reward reaches the learner: all of them were 0" in str(error)
    assert "whose raw returns are" in str(error)
    assert "likely cause: rewards are clipped, scaled or wrapped away" in str(error)


def test_an_environment_without_reward_is_named() -> None:
    error = collapse("dqn", "tests.agents.planted:planted/NoReward-v0", 12_000, learning_starts=12_000)
    assert error.warning.rule == "no-reward"


@pytest.mark.parametrize("recipe", sorted(QUICK))
def test_a_wrong_done_flag_is_named(recipe: str) -> None:
    error = collapse(recipe, "tests.agents.planted:planted/EndsAsCuts-v0", 3_000)
    assert error.warning.rule == "no-terminals"
    assert "share of terminals in what is learned from is 0, although" in str(error)
    assert "likely cause: a wrong done flag" in str(error)


def test_a_done_flag_that_stays_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    learn = DQN.learn
    stuck = lambda self, step: learn(self, step._replace(discount=np.zeros_like(step.discount)))  # noqa: E731
    monkeypatch.setattr(DQN, "learn", stuck)
    assert collapse("dqn", "CartPole-v1", 3_000).warning.rule == "too-many-terminals"


@pytest.mark.parametrize(
    ("recipe", "env", "steps"),
    [
        ("dqn", "CartPole-v1", 1_500),
        ("pqn", "CartPole-v1", 5_000),
        ("a2c", "CartPole-v1", 10_000),
        ("dqn", "rlab/ProbeTruncation-v0", 2_000),  # no terminal ever, and rightly so
        ("a2c", "Pendulum-v1", 10_000),
    ],
)
def test_a_healthy_run_is_not_warned(recipe: str, env: str, steps: int) -> None:
    folder = run(recipe, env, steps)
    assert warnings(folder) == []
    last = [row for row in read_metrics(folder.metrics) if row["kind"] == "train"]
    reported = {name for row in last for name in row}
    assert {"terminals", "dead_units", "value_rate", "reward_size", "episode_length", "grad_norm"} <= reported


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["dqn", "rainbow", "btr", "iqn", "pqn", "a2c", "reinforce", "actor-critic"])
@pytest.mark.parametrize("env", [*sorted(PROBES), "FrozenLake-v1", "MountainCar-v0", "CartPole-v1"])
def test_healthy_runs_of_all_kinds_are_not_warned(recipe: str, env: str) -> None:
    small = known(RECIPES.get(recipe).default(env), {"batch_size": 32, "learning_starts": 200})
    folder = run(recipe, env, 10_000, log_steps=250, **small)
    found = [w["rule"] for w in warnings(folder)]
    if not any(row.get("reward_size") for row in read_metrics(folder.metrics)):
        found.remove("no-reward")  # on FrozenLake noise alone may never find the goal, which is worth a warning
    if recipe == "pqn" and env in ("rlab/Probe1-v0", "rlab/Probe4-v0", "rlab/ProbeTruncation-v0"):
        found.remove("dead-units")  # the only observation is 0, and LayerNorm leaves it so: worth a warning
    assert found == []


# Vital signs by themselves --------------------------------------------------------------------------------------


def test_dead_units_by_hand() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2), torch.nn.ReLU())
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
        net[0].bias.copy_(torch.tensor([0.0, 0.0, 0.0, -1.0]))
        net[2].weight.copy_(torch.ones(2, 4))
        net[2].bias.copy_(torch.tensor([0.0, -100.0]))
    obs = torch.tensor([[1.0, 0.0], [-1.0, -2.0]])  # units 0 and 1 answer to one each; 2 and 3 to neither
    with watch(net) as activity:
        net(obs)
    assert activity.dead() == pytest.approx(3 / 6)  # 2 of 4, and 1 of 2
    convolution = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 1), torch.nn.ReLU())
    with torch.no_grad():
        convolution[0].weight.copy_(torch.tensor([1.0, -1.0, 0.0]).reshape(3, 1, 1, 1))
        convolution[0].bias.zero_()
    maps = torch.zeros(2, 1, 2, 2)
    maps[1, 0, 1, 1] = 1.0
    with watch(convolution) as activity:
        convolution(maps)
    assert activity.dead() == pytest.approx(2 / 3)
    with watch(torch.nn.Linear(1, 1)) as activity:
        pass
    assert activity.dead() is None


def test_vital_signs_of_values_by_hand() -> None:
    q = np.array([[1.0, 3.0, 2.0], [-8.0, 0.0, 5.0], [0.0, 9.0, 0.0]], np.float32)
    mask = torch.tensor([[True, True, False], [True, True, True], [False, True, False]])
    net = torch.nn.Linear(1, 1)
    diagnostics = value_diagnostics(net, lambda: q, 3, mask, 0.9)
    assert diagnostics == {"value_rate": pytest.approx(0.9), "action_gap": pytest.approx((2 + 5) / 2)}
    assert value_diagnostics(net, lambda: q, 3, mask, 0.9, bonus=0.5)["value_rate"] == pytest.approx(0.4)
    assert value_diagnostics(net, lambda: q[:, :1], 3, None, 0.5) == {"value_rate": 4.0}
    assert value_diagnostics(net, lambda: np.zeros((0, 1)), 3, None, 0.5) == {}


def test_the_spread_of_a_policy_by_hand() -> None:
    assert policy_spread(np.log(4), 0) == pytest.approx(3.0)
    assert policy_spread(0.0, 0) == 0.0
    normal = 0.5 * np.log(2 * np.pi * np.e)
    assert policy_spread(2 * normal + np.log(0.1) + np.log(0.4), 2) == pytest.approx(0.2)


@pytest.mark.parametrize("recipe", ["dqn", "rainbow", "iqn"])
def test_a_look_alters_nothing(recipe: str, journal: Journal) -> None:
    a = learner(journal, recipe, num_envs=2, steps=4_000)
    while a.agent.updates < 3:
        a.step()
    before, drawn = digest(a.state()), torch.get_rng_state().clone()
    diagnostics = a.agent.diagnostics()
    assert {"value_rate", "action_gap", "dead_units", "terminals"} == set(diagnostics)
    assert diagnostics == a.agent.diagnostics()
    assert digest(a.state()) == before
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not any(m._forward_hooks for m in a.agent.online.modules())
    a.close()


def test_the_replays_share_of_terminals(journal: Journal) -> None:
    memory = Replay(8, 2, (1,), np.dtype(np.float32), 1, None, "cpu", journal)
    assert memory.terminals() == 0.0
    obs = np.zeros((2, 1), np.float32)

    def add(discount: list[float], last: list[bool]) -> None:
        d = np.array(discount, np.float32)
        memory.add(Step(obs, np.zeros(2, np.int64), d, d, np.array(last), obs, None, None))

    add([1, 1], [False, False])
    add([0, 1], [True, True])  # a terminal and a cut, each with its final frame
    assert memory.terminals() == pytest.approx(1 / 4)
    add([1, 1], [False, False])
    add([0, 0], [False, False])  # 4 places each: the oldest went, then the next
    assert memory.terminals() == pytest.approx(3 / 6)
