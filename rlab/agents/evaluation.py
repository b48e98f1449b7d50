"""Whole games with raw scores, and honest statistics of them."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium.vector import VectorEnv

from rlab.envs.scores import human_normalised
from rlab.envs.vector import Interrupted, VecEnv
from rlab.errors import RlabError
from rlab.run.contract import Stop, Stopped
from rlab.stats import bootstrap_mean


class Policy(Protocol):
    """Something that plays."""

    def act(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """obs[N, *shape], first bool[N] (an episode starts), mask bool[N, A] or None -> int64[N] or floats."""


@runtime_checkable
class HearsRewards(Protocol):
    """A policy that is told what its actions paid, as it goes for a return that was asked for."""

    def hear(self, reward: np.ndarray) -> None:
        """Take the raw rewards float[N] of the last actions."""


def refuse_no_games(episodes: int, seed: int) -> None:
    """Refuse to play no episodes, or with a negative seed.

    Raises:
        RlabError: a sentence that names the number.
    """
    if episodes < 1:
        raise RlabError(f"episodes is {episodes}; it must be at least 1")
    if seed < 0:
        raise RlabError(f"seed is {seed}; it must be at least 0")


def play(policy: Policy, envs: VectorEnv, episodes: int, seed: int, stop: Stop) -> tuple[np.ndarray, np.ndarray]:
    """Play whole episodes and collect their raw returns.

    Each environment plays a share fixed beforehand, so that short games are not counted more often than long ones.

    Args:
        policy: chooses the actions.
        envs: an evaluation environment of `rlab.envs.make_vec(..., training=False)`, N <= episodes.
        episodes: how many in all.
        seed: of the environments.
        stop: polled at every step, and told of every game.

    Returns:
        (raw returns float64[episodes], lengths in steps int64[episodes]), environment by environment.

    Raises:
        Stopped: a stop was requested.
    """
    n = envs.num_envs
    share = np.full(n, episodes // n) + (np.arange(n) < episodes % n)
    returns: list[list[float]] = [[] for _ in range(n)]
    lengths: list[list[int]] = [[] for _ in range(n)]
    if isinstance(envs, VecEnv):
        envs.interrupted = lambda: stop.requested
    try:
        obs, info = envs.reset(seed=seed)
    except Interrupted:
        raise Stopped from None
    first = np.ones(n, bool)
    total, length = np.zeros(n), np.zeros(n, np.int64)
    while any(len(r) < s for r, s in zip(returns, share, strict=True)):
        if stop.requested:
            raise Stopped
        obs, _, terminated, truncated, info = envs.step(policy.act(obs, first, info.get("action_mask")))
        first = terminated | truncated
        if isinstance(policy, HearsRewards):
            policy.hear(info["raw_reward"])
        total += info["raw_reward"]
        length += 1
        for i in np.nonzero(first)[0]:
            if len(returns[i]) < share[i]:
                returns[i].append(float(total[i]))
                lengths[i].append(int(length[i]))
                stop.tell(sum(map(len, returns)), episodes)
            total[i], length[i] = 0, 0
    return np.concatenate([np.array(r) for r in returns]), np.concatenate([np.array(n) for n in lengths]).astype(
        np.int64
    )


def score(returns: np.ndarray, lengths: np.ndarray, env: str) -> dict[str, Any]:
    """Mean, median, 95 % bootstrap interval of the mean, and the human-normalised score where one is defined."""
    low, high = bootstrap_mean(returns)
    return {
        "mean": float(returns.mean()),
        "median": float(np.median(returns)),
        "low": low,
        "high": high,
        "human_normalised": human_normalised(env, float(returns.mean())),
        "episodes": len(returns),
        "returns": [float(r) for r in returns],
        "mean_length": float(lengths.mean()),
    }
