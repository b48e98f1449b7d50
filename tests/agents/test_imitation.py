"""Agents that learn from another agent: policy distillation and GAIL, by hand and through a run's life."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import rlab
from rlab.agents.evaluation import Policy
from rlab.agents.imitation.config import DistillationConfig, GailConfig
from rlab.agents.imitation.distillation import Distillation
from rlab.agents.imitation.gail import Gail
from rlab.agents.policy.policy_gradient import PolicyGradient, Rollout
from rlab.agents.sequence.trajectories import save_trajectories
from rlab.agents.value.config import QConfig
from rlab.agents.value.q_network import QNetwork
from rlab.errors import RlabError
from rlab.registry import RECIPES
from rlab.run.checkpoint import digest
from rlab.run.config import changed, to_plain
from rlab.run.contract import Stop
from rlab.run.folder import RunFolder
from rlab.run.lifecycle import read_newest, resume_run, start_run
from rlab.run.warm_start import Source
from tests.agents.helpers import SMALL, agent_context, known
from tests.agents.test_transfer import QUICK, Quiet, at_start, runs, trained

assert runs  # a fixture: where runs lie

ROWS = np.random.default_rng(0).normal(size=(64, 4, 3)).astype(np.float32)
"""64 steps of 4 environments."""


def rollout_of(agent: PolicyGradient, obs: np.ndarray = ROWS, mask: np.ndarray | None = None) -> Rollout:
    """What the agent draws at obs[T, N, *shape]; every step ends an episode and pays action 0."""
    flat = obs.reshape(-1, *obs.shape[2:])
    action = agent.choose(flat, None if mask is None else mask.reshape(len(flat), -1), agent.rng)
    action = action.reshape(obs.shape[:2])
    ones = np.ones(action.shape, np.float32)
    return Rollout(obs, action, (action == 0).astype(np.float32), 0 * ones, ones > 0, flat, mask)


def q_source(**settings: Any) -> Source:
    """A teacher of three numbers and four actions whose Q-values are far from equal."""
    config = QConfig(encoder="mlp-8", **settings)
    torch.manual_seed(1)
    network = QNetwork(agent_context().observation_space, 4, "mlp-8", False, config)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn_like(p))
    return Source({"run": "by-hand", "recipe": "dqn", "agent": to_plain(config)}, network.state_dict())


def test_student_learns_the_tempered_probabilities_of_its_teacher() -> None:
    config = DistillationConfig(temperature=2.0, encoder="mlp-16", learning_rate=2e-2, epochs=5)
    agent = Distillation(config, agent_context(), q_source())
    mask = np.ones((64, 4, 4), bool)
    mask[:, 0, 3] = False
    obs = torch.from_numpy(ROWS.reshape(-1, 3))
    network: Any = agent._known().network
    by_hand = (network(obs) / 2.0).masked_fill(~torch.from_numpy(mask.reshape(-1, 4)), -math.inf).softmax(1)
    first = agent.update(rollout_of(agent, mask=mask))
    for _ in range(16):
        last = agent.update(rollout_of(agent, mask=mask))
    learned = agent.network.policy(obs, torch.from_numpy(mask.reshape(-1, 4)))
    got = learned.log_p.exp()  # type: ignore[union-attr]
    assert (got[::4, 3] == 0).all()
    assert (got - by_hand).abs().mean() < 0.03
    assert last["loss"] < 0.1 * first["loss"]
    assert last["agreement"] > 0.9 > first["agreement"]


def test_teacher_acts_if_it_is_to() -> None:
    agent = Distillation(DistillationConfig(acts="teacher"), agent_context(), q_source())
    network: Any = agent._known().network
    best = network.predict(ROWS[0]).argmax(1)
    assert (agent.act(ROWS[0], np.ones(4, bool), None) == best).all()  # at 0.01 nothing else is likely


@pytest.mark.parametrize("reward", ["balanced", "expert"])
def test_gail_does_as_its_expert_whatever_is_paid(reward: str) -> None:
    """The expert takes action 1 where the first number is positive, else 2; the environment pays for action 0."""
    obs = torch.from_numpy(ROWS.reshape(-1, 3))
    right = torch.where(obs[:, 0] > 0, 1, 2)
    expert = Source({"run": "by-hand", "mean": 4.0}, {"obs": obs, "action": right})
    config = GailConfig(
        reward=reward,  # type: ignore[arg-type]
        encoder="mlp-16", gamma=0.0, learning_rate=2e-2, discriminator_rate=2e-2, discriminator="mlp-16",
        normalise_advantages=True, discriminator_updates=2,
    )  # fmt: skip
    agent = Gail(config, agent_context(), expert)
    logits = torch.tensor([-1.0, 2.0])
    by_hand = {"balanced": 2 * logits.sigmoid() - 1, "expert": -(1 - logits.sigmoid()).log()}
    torch.testing.assert_close(agent._reward(logits), by_hand[reward])
    for _ in range(80):
        metrics = agent.update(rollout_of(agent))
    assert (torch.from_numpy(agent.choose(obs.numpy(), None, None)) == right).float().mean() > 0.9
    assert 0.4 < metrics["discriminator_accuracy"] < 0.85  # it no longer tells them apart
    assert agent.compared(3.0, lambda policy: 0.0) == {"expert": 4.0, "share": 0.75}


@pytest.fixture
def source(runs: Path) -> RunFolder:
    folder = trained("dqn", "source", steps=600, memory_size=2_000, encoder="mlp-64")
    save_trajectories(folder)
    return folder


SETTINGS: dict[str, dict[str, Any]] = {
    "policy-distillation": {"teacher": "source", "encoder": "mlp-4"},
    "gail": {"trajectories": "source", "expert_episodes": 2, "discriminator": "mlp-8", "encoder": "mlp-8"},
}


@pytest.mark.parametrize("recipe", SETTINGS)
def test_run_resumes_exactly_without_its_source(recipe: str, source: RunFolder) -> None:
    whole = trained(recipe, "whole", **SETTINGS[recipe])

    class Until(Quiet):
        def show(self, progress: Any, metrics: Any) -> None:
            if progress.done >= 80:
                stop.request("test")

    stop, default = Stop(), RECIPES.get(recipe).default("CartPole-v1")
    small = known(default, SMALL | QUICK | {"rollout": 8, "batch_size": 16} | SETTINGS[recipe])
    broken, outcome = start_run(recipe, changed(default, small), "broken", stop, Until(), lambda config, *_: config)
    assert not outcome.finished
    shutil.rmtree(source.path)
    resume_run(broken, None, Stop(), Quiet())
    one, other = (read_newest(f) for f in (broken, whole))
    assert one is not None
    assert other is not None
    assert digest(one.state) == digest(other.state)
    score = rlab.evaluate("whole", episodes=2)
    theirs = score["teacher" if recipe == "policy-distillation" else "expert"]
    assert score["share"] == pytest.approx(score["mean"] / theirs)
    if recipe == "policy-distillation":
        assert score["parameters"] == 4 * 4 + 4 + 4 * 2 + 2
        assert score["parameters_share"] == pytest.approx(score["parameters"] / (4 * 64 + 64 + 64 * 2 + 2))
    with rlab.load("whole") as player:
        assert player.film(1, max_steps=3, values=False).steps == 3
        assert player.predict(np.zeros(4, np.float32), first=True) in (0, 1)


def test_a_policy_gradient_teaches_as_it_is_evaluated(runs: Path) -> None:
    """Its value function is not counted, and an expert's episodes make another teacher in turn."""
    trained("a2c", "source", encoder="mlp-16", evaluate="sample", value_coef=0.5)
    folder = trained("policy-distillation", "new", teacher="source", encoder="mlp-4", temperature=1.0)
    score = rlab.evaluate(folder, episodes=2)
    assert score["parameters_share"] == pytest.approx(30 / (4 * 16 + 16 + 16 * 2 + 2))
    with rlab.load("new") as player:
        agent: Any = player.learner.agent
        teacher: Policy = agent.teacher.player(0)
        drawn = np.concatenate([teacher.act(np.zeros((64, 4), np.float32), np.ones(64, bool), None) for _ in range(2)])
    assert {0, 1} == set(drawn.tolist())


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("policy-distillation", {}, "--teacher is empty; it names what is learned from: a run of dqn"),
    ("policy-distillation", {"teacher": "sorce"}, "'sorce'.*nearest: source"),
    ("policy-distillation", {"teacher": "other"}, r"'other' \(ppo\) holds no network.*nearest: a run of dqn"),
    ("policy-distillation", {"teacher": "memory"}, r"'memory' \(drqn\) remembers"),
    ("policy-distillation", {"teacher": "source", "env": "Acrobot-v1"}, "plays CartPole-v1, and this one Acrobot"),
    ("policy-distillation", {"temperature": 0.0}, "--temperature is 0; it must be above 0"),
    ("gail", {}, "--trajectories is empty"),
    ("gail", {"trajectories": "source", "memory": "gru"}, "--memory is gru; .* nearest: --memory none"),
    ("gail", {"trajectories": "source", "expert_episodes": 900}, "is 900, and the trajectories .* nearest: [0-9]+"),
    ("gail", {"trajectories": "source", "env": "Acrobot-v1"}, "nearest: --env CartPole-v1"),
]


def test_what_cannot_be_learned_from_is_refused(source: RunFolder) -> None:
    for other, name in (("ppo", "other"), ("drqn", "memory")):
        at_start(other, name)
    for recipe, settings, message in REFUSED:
        with pytest.raises(RlabError, match=message):
            trained(recipe, "new", **settings)


def test_continuous_actions_are_refused() -> None:
    box = gym.spaces.Box(-1, 1, (2,), np.float32)
    for make in (lambda c: Distillation(DistillationConfig(), c, None), lambda c: Gail(GailConfig(), c, None)):
        with pytest.raises(RlabError, match="takes Discrete actions"):
            make(agent_context(actions=box))
