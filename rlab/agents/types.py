"""`Step` and `Transitions`: what passes between environments, memory and losses. Time and discount are data.

`AgentContext` is what an agent is built for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Discrete

from rlab.errors import RlabError
from rlab.run.budget import Budget
from rlab.run.contract import Stop
from rlab.run.journal import Journal


@dataclass(frozen=True)
class AgentContext:
    """What an agent is built for, besides its settings: environments, budget, seed and device.

    Attributes:
        observation_space: of one environment.
        action_space: of one environment.
        frame_stack: frames in an observation (4 on Atari), 1 elsewhere.
        has_masks: whether steps come with action masks.
        longest_episode: steps after which an episode is cut at the latest.
        total_steps: the budget in environment steps, which schedules are fractions of.
        seed: the run's, from which an agent derives its own.
        device: torch device.
        journal: takes what is too long for a checkpoint, such as a replay's rows.
        budget: the run's; `place` asks it.
        stop: the run's; learning that takes long polls it.
    """

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    frame_stack: int
    has_masks: bool
    longest_episode: int
    total_steps: float
    seed: int
    device: str
    journal: Journal
    budget: Budget = field(default_factory=Budget)
    stop: Stop = field(default_factory=Stop)

    def place(self, steps: int) -> float:
        """Where schedules stand after some steps, 0..total_steps: there, or by the clock at the share of time."""
        return self.budget.place(steps, self.total_steps)

    @property
    def num_actions(self) -> int:
        """A, the number of discrete actions.

        Raises:
            RlabError: the actions are continuous.
        """
        if not isinstance(self.action_space, Discrete):
            raise RlabError(
                f"this agent takes Discrete actions, but the environment has {self.action_space}; "
                "agents for such actions: a2c, actor-critic, ppo, sac, td3"
            )
        return int(self.action_space.n)

    def observations(self, agent: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """(shape, dtype) of one observation.

        Raises:
            RlabError: observations are neither Box nor Discrete; the message names the agent.
        """
        shape, dtype = self.observation_space.shape, self.observation_space.dtype
        if shape is None or dtype is None:
            raise RlabError(f"{agent} takes Box and Discrete observations, not {self.observation_space}")
        return shape, dtype


class Step(NamedTuple):
    """One step of N environments.

    `discount` is 0 where bootstrapping stops (the game is over; a lost life in classic Atari training), else 1.
    `last` tells that the stream breaks here (terminated or truncated). `next_obs` is the true successor of `obs`,
    never a reset observation. `action` is the one that was executed.
    """

    obs: np.ndarray  # [N, *shape]
    action: np.ndarray  # int64[N], or a Box's floats [N, *shape]
    reward: np.ndarray  # float32[N]
    discount: np.ndarray  # float32[N]
    last: np.ndarray  # bool[N]
    next_obs: np.ndarray  # [N, *shape]
    mask: np.ndarray | None  # bool[N, A], True where an action is allowed; None: all are
    next_mask: np.ndarray | None  # bool[N, A], for next_obs


class Windows(NamedTuple):
    """W pieces of streams, E steps each, that a recurrent batch's transitions are taken from.

    Places count step by step from the end of the burn-in: (step - burn_in) * W + window.
    """

    first: torch.Tensor  # bool[E, W], an episode starts with this observation
    state: torch.Tensor  # float32[W, S], the recurrent state before the first step, as it was when that was played
    burn_in: int  # steps that only bring the state up to date
    now: torch.Tensor  # int64[B], the place of a transition's observation
    following: torch.Tensor  # int64[B], of what it led to


class Transitions(NamedTuple):
    """B transitions as losses see them; gamma, n and episode ends are all in `discount`.

    `discount` is gamma^k times the product of k step discounts, where k <= n steps were summed into `reward`.
    """

    obs: torch.Tensor  # [B, *shape]
    action: torch.Tensor  # int64[B]
    reward: torch.Tensor  # float32[B]
    discount: torch.Tensor  # float32[B]
    next_obs: torch.Tensor  # [B, *shape]
    next_mask: torch.Tensor | None  # bool[B, A]
    weight: torch.Tensor | None  # float32[B]; None: all 1
    index: np.ndarray  # type: ignore[assignment]  # int64[B], places in the memory
    mask: torch.Tensor | None = None  # bool[B, A], for obs
    windows: Windows | None = None  # of a recurrent batch; obs and next_obs then hold the windows [E, W, *shape]


class Needs(NamedTuple):
    """What an agent will hold when its memory is full."""

    memory: int  # bytes of main memory
    device_memory: int  # bytes on the accelerator, 0 on a CPU
    checkpoint: int  # bytes of tensors in a checkpoint
    rows: int  # entries of the journal that a checkpoint points to
    trainable: int | None = None  # parameters that are learned; None: not counted
    frozen: int = 0  # parameters that stay as they are
