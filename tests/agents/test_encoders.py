"""Encoders that are not like the lab's under every kind of agent: dropout, statistics of batches, other memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlab.nn import ENCODERS
from rlab.registry import RECIPES
from rlab.run.checkpoint import digest
from rlab.run.contract import Stop
from rlab.run.journal import Journal
from tests.agents.helpers import known, learner
from tests.agents.test_interaction import save_and_restore


class Small(nn.Module):
    """Two layers with one of somebody's choice between them."""

    def __init__(self, shape: tuple[int, ...], between: nn.Module):
        super().__init__()
        self.out_dim = 8
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 8), between, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """x[B, *shape] -> [B, 8]."""
        features: Tensor = self.layers(x)
        return features


class Transposed(nn.Module):
    """A layer whose weights lie in memory the other way round."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.out_dim = 5
        self.weight = nn.Parameter(torch.empty(int(np.prod(shape)), 5).normal_().t())

    def forward(self, x: Tensor) -> Tensor:
        """x[B, *shape] -> [B, 5]."""
        return torch.tanh(x.flatten(1) @ self.weight.t())


class Convolution(nn.Module):
    """Kernels that lie channels last."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.out_dim = 6
        self.kernels = nn.Conv2d(2, 6, (1, 2)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """x[B, 4] -> [B, 6]."""
        return torch.tanh(self.kernels(x.view(-1, 2, 1, 2)).flatten(1))


ODD = {
    "dropout": lambda shape: Small(shape, nn.Dropout(0.5)),
    "batches": lambda shape: Small(shape, nn.BatchNorm1d(8)),
    "transposed": Transposed,
    "channels-last": Convolution,
}

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "dqn": ("double-dqn", {}),
    "rainbow": ("rainbow", {"hidden": 8}),
    "drqn": ("drqn", {"double": True}),
    "pqn": ("pqn", {"rollout": 8, "batch_size": 8, "overlap": True}),
    "pqn at once": ("pqn", {"rollout": 8, "batch_size": 8, "overlap": False}),
    "a2c": ("a2c", {"rollout": 4}),
    "two encoders": ("a2c", {"rollout": 4, "share_encoder": False}),
    "ppo": ("ppo", {"n_steps": 16, "batch_size": 16, "hidden": ()}),
    "sb3-dqn": ("sb3-dqn", {"memory_size": 200, "train_every": 16, "hidden": ()}),
}


def odd(journal: Journal, agent: str, encoder: str) -> Any:
    """One of the agents with one of the encoders, small."""
    recipe, settings = SETTINGS[agent]
    small = {"num_envs": 4, "learning_starts": 32, "steps": 4_000, "reset_steps": 400, "gradient_steps": 1}
    small = known(RECIPES.get(recipe).default("CartPole-v1"), small)
    return learner(journal, recipe, **(small | settings | {"encoder": f"odd-{encoder}"}))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, factory in ODD.items():
        monkeypatch.setitem(ENCODERS._entries, f"odd-{name}", factory)


@pytest.mark.parametrize("encoder", ODD)
@pytest.mark.parametrize("agent", SETTINGS)
def test_an_odd_encoder_trains_saves_and_resumes(agent: str, encoder: str, tmp_path: Path) -> None:
    def build(journal: Journal) -> Any:
        return odd(journal, agent, encoder)

    journals = [Journal(tmp_path / name) for name in ("one", "other")]
    run, twin = (build(journal) for journal in journals)
    for _ in range(20):
        run.step()
        torch.rand(3)  # whatever else draws
        twin.step()
    assert digest(run.state()) == digest(twin.state()), "a seed is a run"
    obs = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    played = [run.agent.policy(0).act(obs, np.ones(6, bool), None) for _ in range(2)]
    assert np.array_equal(*played)
    assert run.evaluate(Stop()) == run.evaluate(Stop())
    assert digest(run.state()) == digest(twin.state()), "playing alters nothing"
    again, journal = save_and_restore(run, journals[0], tmp_path, build)
    for _ in range(10):
        twin.step()
        again.step()
    assert digest(again.state()) == digest(twin.state()), "and so is a run that was resumed"
    for each in (run, twin, again, *journals, journal):
        each.close()


@pytest.mark.parametrize("agent", ["dqn", "drqn", "pqn", "a2c"])
def test_dropout_and_batches_are_for_learning_only(agent: str, journal: Journal) -> None:
    """Whoever acts, values or makes targets sees the mean network; whoever learns does not."""
    run = odd(journal, agent, "batches")
    modes: set[tuple[bool, bool]] = set()

    def look(module: nn.Module, _: Any) -> None:
        modes.add((module.training, torch.is_grad_enabled()))

    for network in {id(n): n for n in vars(run.agent).values() if isinstance(n, nn.Module)}.values():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.register_forward_pre_hook(look)
    for _ in range(25):
        run.step()
    run.evaluate(Stop())
    assert modes == {(True, True), (False, False)}
    run.close()


class Picture(gym.Env[Any, Any]):
    """Channels last; the action is right if it says whether the left half is the brighter one."""

    observation_space = gym.spaces.Box(0, 255, (36, 36, 3), np.uint8)
    action_space = gym.spaces.Discrete(2)  # type: ignore[assignment]

    def __init__(self, render_mode: str | None = None):
        pass

    def _see(self) -> np.ndarray:
        self.left = int(self.np_random.integers(2))
        shown = self.np_random.integers(0, 100, (36, 36, 3))
        shown[:, slice(18) if self.left else slice(18, None)] += 100
        return shown.astype(np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self._see(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        reward = float(action == self.left)
        return self._see(), reward, self.t == 8, False, {}


@pytest.mark.parametrize(
    ("recipe", "encoder"),
    [("ppo", "auto"), ("ppo", "sb3"), ("sb3-dqn", "auto"), ("sb3-dqn", "sb3"), ("pqn", "auto"), ("dqn", "auto")],
)
def test_pictures_with_channels_last_resume(
    recipe: str, encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gym.registry, "Picture-v0", gym.envs.registration.EnvSpec("Picture-v0", entry_point=Picture))
    small = {"num_envs": 2, "n_steps": 8, "rollout": 4, "learning_starts": 8, "memory_size": 60, "batch_size": 4}

    def build(journal: Journal) -> Any:
        chosen = known(RECIPES.get(recipe).default("Picture-v0"), small)
        return learner(journal, recipe, "Picture-v0", False, steps=1_000, encoder=encoder, reset_steps=50, **chosen)

    journals = [Journal(tmp_path / name) for name in ("one", "other")]
    run, twin = (build(journal) for journal in journals)
    for _ in range(5):
        run.step()
        twin.step()
    again, journal = save_and_restore(run, journals[0], tmp_path, build)
    for _ in range(5):
        twin.step()
        again.step()
    assert digest(again.state()) == digest(twin.state())
    obs = run.envs.reset()[0]
    assert obs.shape == (2, 36, 36, 3)
    assert run.agent.policy(0).act(obs, np.ones(2, bool), None).shape == (2,)
    for each in (run, twin, again, *journals, journal):
        each.close()
