"""A world model by hand, in a world that is fully known, and through a run's life."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import rlab
from rlab.agents.types import Step
from rlab.agents.world_model.agent import WorldModelAgent
from rlab.agents.world_model.config import WorldModelConfig
from rlab.agents.world_model.model import WorldModel
from rlab.errors import RlabError
from rlab.registry import RECIPES
from rlab.run.checkpoint import digest
from rlab.run.config import changed
from rlab.run.contract import Stop
from rlab.run.journal import Journal
from rlab.run.lifecycle import read_newest, resume_run, start_run
from tests.agents.helpers import agent_context, learner
from tests.agents.test_transfer import Quiet, runs

assert runs  # a fixture: where runs lie

BOX = gym.spaces.Box(-1, 1, (2,), np.float32)
IMAGE = gym.spaces.Box(0, 255, (3, 5, 5), np.uint8)
SMALL = {
    "num_envs": 4, "random_steps": 80, "memory_size": 400, "rollout": 10, "sequence": 5, "batch_size": 8, "width": 8,
    "hidden": 16, "units": 8, "model_updates": 2, "dream_updates": 2, "dreams": 8, "horizon": 4,
}  # fmt: skip


def test_surprise_is_the_mixture_s_likelihood() -> None:
    model = WorldModel(BOX, 2, 4, 4, mixtures=2)
    nexts = torch.tensor([[[0.0, math.log(3), 0.5, -0.5, 0.0, math.log(2)]] * 2])  # weights 1/4 and 3/4
    before, code = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.5, 2.5]])

    def normal(x: float, mean: float, std: float) -> float:
        return math.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))

    each = 0.25 * normal(0.5, 0.5, 1) + 0.75 * normal(0.5, -0.5, 2)
    assert model.surprise(nexts, code, before).item() == pytest.approx(-2 * math.log(each), rel=1e-5)
    generator = torch.Generator().manual_seed(0)
    drawn = model.draw(nexts.expand(4_000, 2, 6), before.expand(4_000, 2), 1.0, generator) - before
    assert drawn.mean().item() == pytest.approx(0.25 * 0.5 - 0.75 * 0.5, abs=0.08)
    assert drawn.var().item() == pytest.approx(0.25 * 1.25 + 0.75 * 4.25 - 0.25**2, rel=0.08)


def test_cells_of_images_are_probabilities() -> None:
    model = WorldModel(IMAGE, 2, 4, 4, mixtures=2)
    obs = torch.zeros(2, 3, 5, 5, dtype=torch.uint8)
    obs[0, 1] = 255
    code = model.code(obs)
    assert code.shape == (2, 75)
    assert code.sum().item() == 25
    nexts = torch.full((2, 75, 1), math.log(3))  # probability 3/4 of each
    by_hand = -math.log(0.75) * code.sum(1) - math.log(0.25) * (1 - code).sum(1)
    torch.testing.assert_close(model.surprise(nexts, code, code), by_hand)
    assert model.draw(nexts.expand(2, 75, 1), code, 1.0, torch.Generator()).unique().tolist() == [0, 1]


def played(agent: WorldModelAgent, ticks: int) -> dict[str, float]:
    """A world of two numbers: action 1 pays 1 if the first is above 0, else costs 1; action 0 pays nothing.

    Both numbers change signs at every step; an episode is over with probability 0.2.
    """
    rng, n = np.random.default_rng(0), agent.config.num_envs
    obs, first, metrics = rng.choice([-1.0, 1.0], (n, 2)).astype(np.float32), np.ones(n, bool), {}
    for _ in range(ticks):
        action = agent.act(obs, first, None)
        following, over = -obs, rng.random(n) < 0.2
        paid = (action * np.sign(obs[:, 0])).astype(np.float32)
        step = Step(obs, action, paid, (~over).astype(np.float32), over, following, None, None)
        metrics = agent.learn(step) or metrics
        fresh = rng.choice([-1.0, 1.0], (n, 2)).astype(np.float32)
        obs, first = np.where(over[:, None], fresh, following), over
    return metrics


@pytest.mark.parametrize("untrained", [False, True])
def test_policy_learns_in_dreams_alone(untrained: bool) -> None:
    big = {"width": 16, "hidden": 32, "model_updates": 12, "dream_updates": 8, "dreams": 32, "learning_rate": 5e-3}
    config = replace(WorldModelConfig(**SMALL | big | {"gamma": 0.5}), untrained_memory=untrained)  # type: ignore[arg-type]
    agent = WorldModelAgent(config, agent_context(space=BOX, actions=2))
    before = {name: w.clone() for name, w in agent.model.memory.state_dict().items()}
    metrics = played(agent, 160)
    assert metrics["reward_loss"] < 0.1
    obs = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
    assert agent.choose(obs, np.ones(4, bool), np.zeros((0, 0), np.float32), None)[0].tolist() == [1, 1, 0, 0]
    same = all(torch.equal(w, before[name]) for name, w in agent.model.memory.state_dict().items())
    assert same == untrained


def test_rewards_of_the_game_reach_the_policy_through_the_model_alone() -> None:
    """Without an update of the policy in dreams it stays as it was, whatever is paid."""
    agent = WorldModelAgent(WorldModelConfig(**SMALL | {"dream_updates": 0}), agent_context(space=BOX, actions=2))  # type: ignore[arg-type]
    before = [w.clone() for w in agent.controller.parameters()]
    played(agent, 40)
    assert agent.updates > 0
    assert all(torch.equal(a, b) for a, b in zip(before, agent.controller.parameters(), strict=True))


def test_run_resumes_exactly_with_its_memory_full(runs: Path) -> None:
    class Until(Quiet):
        def show(self, progress: Any, metrics: Any) -> None:
            if progress.done >= 500:
                stop.request("test")

    quick = {"steps": 1_000, "evaluate_steps": 0, "checkpoint_steps": 0, "final_episodes": 2, "threads": 1}
    config = changed(RECIPES.get("world-model").default("CartPole-v1"), SMALL | quick)
    folders = []
    for name, view in (("whole", Quiet()), ("broken", Until())):
        stop = Stop()
        folder, _ = start_run("world-model", config, name, stop, view, lambda config, *_: config)
        folders.append(folder)
    resume_run(folders[1], None, Stop(), Quiet())
    one, other = (read_newest(f) for f in folders)
    assert one is not None
    assert other is not None
    assert digest(one.state) == digest(other.state)
    assert len(one.state["agent"]["rows"]["last"]) == 100  # the newest of 250 steps of each environment
    assert rlab.evaluate("whole", episodes=2)["episodes"] == 2
    with rlab.load("whole") as player:
        assert player.film(1, max_steps=3, values=False).steps == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"env": "Pendulum-v1"}, "takes Discrete actions"),
        ({"env": "rlab/ProbeMask-v0"}, "knows no masks of actions"),
        ({"env": "Breakout"}, "observations of at most 4,096 numbers.* nearest: --env MinAtar/Breakout"),
        ({"memory_size": 30}, "--memory-size is 30; 4 environments .* need 40"),
        ({"sequence": 1}, "--sequence is 1; it must be a number of at least 2"),
    ],
    ids=str,
)
def test_what_it_cannot_dream_of_is_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(RlabError, match=message):
        learner(Journal(tmp_path), "world-model", **{"env": "CartPole-v1"} | SMALL | settings)
