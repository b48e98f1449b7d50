"""PQN (Gallici et al. 2024) in one plain file of torch, in the manner of CleanRL: what ours is measured beside.

Games are EnvPool's where it is installed, else those of ALE's own vector environment, both in C++ threads.
"""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn


@dataclass
class Args:
    """Settings; steps are environment steps."""

    game: str = "Breakout"
    seed: int = 0
    device: str = "cpu"
    total_steps: int = 10_000_000
    num_envs: int = 128
    rollout: int = 32
    epochs: int = 2
    batch_size: int = 128
    learning_rate: float = 5e-4
    gamma: float = 0.99
    lam: float = 0.65
    epsilon_end: float = 0.01
    epsilon_fraction: float = 0.1
    max_grad_norm: float = 10.0


class _EnvPool:
    """N games of EnvPool; `step` returns obs, clipped rewards, dones (a lost life is one) and scores of ended games."""

    def __init__(self, args: Args):
        import envpool

        self.envs = envpool.make(
            f"{args.game}-v5", env_type="gymnasium", num_envs=args.num_envs, seed=args.seed,
            episodic_life=True, reward_clip=True, repeat_action_probability=0.0, noop_max=30, use_fire_reset=True,
        )  # fmt: skip
        self.num_actions = int(self.envs.action_space.n)
        self.scores = np.zeros(args.num_envs)

    def reset(self) -> np.ndarray:
        return self.envs.reset()[0]

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[float]]:
        obs, reward, terminated, truncated, info = self.envs.step(actions)
        self.scores += info["reward"]
        over = (info["terminated"] | truncated).astype(bool)
        ended, self.scores = self.scores[over].tolist(), np.where(over, 0, self.scores)
        return obs, reward, terminated | truncated, ended


class _Ale:
    """The same of ALE's vector environment, which counts lives and leaves it to others what one means."""

    def __init__(self, args: Args):
        from ale_py.vector_env import AtariVectorEnv

        self.envs: Any = AtariVectorEnv(
            args.game.lower(), args.num_envs, autoreset_mode="SameStep", repeat_action_probability=0.0,
            noop_max=30, use_fire_reset=True, reward_clipping=False,
        )  # fmt: skip
        self.num_actions = len(self.envs.ale.get_action_set())
        self.seed, self.scores = args.seed, np.zeros(args.num_envs)
        self.fire = np.zeros(args.num_envs, bool)

    def reset(self) -> np.ndarray:
        obs, info = self.envs.reset(seed=self.seed)
        self.lives = info["lives"]
        return obs

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[float]]:
        obs, raw, terminated, truncated, info = self.envs.step(np.where(self.fire, 1, actions))
        over = terminated | truncated
        self.fire = (info["lives"] < self.lives) & ~over
        self.lives = info["lives"]
        self.scores += raw
        ended, self.scores = self.scores[over].tolist(), np.where(over, 0, self.scores)
        return obs, np.sign(raw), over | self.fire, ended


def _orthogonal(layer: Any, gain: float = 2**0.5) -> Any:
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def _network(num_actions: int) -> nn.Module:
    return nn.Sequential(
        _orthogonal(nn.Conv2d(4, 32, 8, stride=4)), nn.LayerNorm([32, 20, 20]), nn.ReLU(),
        _orthogonal(nn.Conv2d(32, 64, 4, stride=2)), nn.LayerNorm([64, 9, 9]), nn.ReLU(),
        _orthogonal(nn.Conv2d(64, 64, 3)), nn.LayerNorm([64, 7, 7]), nn.ReLU(),
        nn.Flatten(), _orthogonal(nn.Linear(3136, 512)), nn.LayerNorm(512), nn.ReLU(),
        _orthogonal(nn.Linear(512, num_actions), 1.0),
    )  # fmt: skip


def train(args: Args, stop: Callable[[int, deque[float]], bool]) -> None:
    """Train until the budget is spent or stop(steps, scores of the last 100 games), asked after a rollout, is true."""
    games = (_EnvPool if importlib.util.find_spec("envpool") else _Ale)(args)
    rng = np.random.default_rng(args.seed)
    torch.manual_seed(args.seed)
    device, shape = torch.device(args.device), (args.rollout, args.num_envs)
    q_net = _network(games.num_actions).to(device)
    optimizer = torch.optim.RAdam(q_net.parameters(), lr=args.learning_rate)
    obs = torch.zeros((*shape, 4, 84, 84), dtype=torch.uint8, device=device)
    actions = torch.zeros(shape, dtype=torch.int64, device=device)
    rewards, dones, values, returns = (torch.zeros(shape, device=device) for _ in range(4))
    next_obs = torch.as_tensor(games.reset(), device=device)
    steps, scores = 0, deque[float](maxlen=100)
    while steps < args.total_steps and not stop(steps, scores):
        optimizer.param_groups[0]["lr"] = args.learning_rate * (1 - steps / args.total_steps)
        for t in range(args.rollout):
            epsilon = 1 - (1 - args.epsilon_end) * min(1, steps / (args.epsilon_fraction * args.total_steps))
            obs[t] = next_obs
            with torch.no_grad():
                values[t], greedy = q_net(next_obs.float() / 255).max(dim=1)
            explore = rng.random(args.num_envs) < epsilon
            action = np.where(explore, rng.integers(games.num_actions, size=args.num_envs), greedy.cpu().numpy())
            seen, reward, done, ended = games.step(action)
            actions[t] = torch.as_tensor(action)
            rewards[t], dones[t] = torch.as_tensor(reward), torch.as_tensor(done).float()
            next_obs = torch.as_tensor(seen, device=device)
            scores.extend(ended)
            steps += args.num_envs
        with torch.no_grad():  # Q(lambda), backwards
            value = after = q_net(next_obs.float() / 255).max(dim=1).values
            for t in reversed(range(args.rollout)):
                after = rewards[t] + args.gamma * (1 - dones[t]) * (args.lam * after + (1 - args.lam) * value)
                returns[t], value = after, values[t]
        flat_obs, flat_actions, flat_returns = obs.flatten(0, 1), actions.flatten(), returns.flatten()
        for _ in range(args.epochs):
            for chosen in torch.as_tensor(rng.permutation(len(flat_actions)), device=device).split(args.batch_size):
                q = q_net(flat_obs[chosen].float() / 255).gather(1, flat_actions[chosen, None]).squeeze(1)
                loss = nn.functional.mse_loss(q, flat_returns[chosen])
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(q_net.parameters(), args.max_grad_norm)
                optimizer.step()
