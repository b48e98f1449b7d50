"""Any registered Gymnasium environment with Discrete or Box actions, N times, in the lab's own shape."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import DependencyNotInstalled
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from numpy.typing import NDArray

from rlab.envs.vector import StepResult, VecEnv
from rlab.errors import NonFinite, RlabError


class Generic(VecEnv):
    """Any Gymnasium environment, N times, stepped one after the other: observations [N, *] as it gives them.

    This is where foreign code enters. So whatever an environment gives or is given is copied at once: it may reuse its
    arrays, and change the action that it gets. Gymnasium's own ``SyncVectorEnv`` resets before it has copied. An
    observation or a reward that is NaN or Inf is refused before anybody can learn from it.

    Discrete observations and actions count from 0, whatever their space starts at; a Tuple of Discrete observations
    (Blackjack's) becomes a MultiDiscrete one. An environment that
    reports ``info["action_mask"]`` (integers or booleans [A]) must do so on every reset and step.

    Args:
        env_id: a registered Gymnasium id.
        num_envs: N.
        seed: of the first reset.
        render: make the environments with ``render_mode="rgb_array"`` for ``frame()``.
        max_steps: truncate episodes after so many steps, in place of the environment's own limit.
        make: makes a copy in place of ``gymnasium.make(env_id, ...)``; see `rlab.envs.maker`.

    Raises:
        RlabError: a space that the lab cannot use, a missing package, or no rgb_array mode though asked for.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        seed: int,
        *,
        render: bool = False,
        max_steps: int | None = None,
        make: Callable[..., gym.Env[Any, Any]] | None = None,
    ):
        self._id = env_id
        make = make or partial(gym.make, env_id)
        try:
            if render:
                _require_pictures(env_id, make)
            options: dict[str, Any] = (
                {"render_mode": "rgb_array"} if render else {}
            )  # not every environment takes a None
            if max_steps is not None:
                options["max_episode_steps"] = max_steps
            self._envs = [make(**options) for _ in range(num_envs)]
        except DependencyNotInstalled as e:
            raise RlabError(f"'{env_id}' needs a package that is missing: {e}") from e
        try:
            obs_space, self._obs_start = _observations(env_id, self._envs[0].observation_space)
            actions, self._action_start = _actions(env_id, self._envs[0].action_space)
        except RlabError:
            self._close()
            raise
        super().__init__(num_envs, obs_space, actions, seed, render)
        shape, dtype = obs_space.shape, obs_space.dtype
        assert shape is not None
        assert dtype is not None
        self._shape, self._dtype = shape, dtype
        self.observation_start, self.action_start = self._obs_start, self._action_start
        self._real = np.issubdtype(dtype, np.inexact)  # whole numbers are never NaN
        self._steps = 0  # since all were reset
        fps = self._envs[0].metadata.get("render_fps")
        if fps:
            self.metadata["render_fps"] = fps

    def _reset(self, seeds: NDArray[np.int64] | None) -> tuple[NDArray[Any], dict[str, Any]]:
        self._steps = 0
        self._masked = False
        obs = np.empty((self.num_envs, *self._shape), self._dtype)
        mask: NDArray[np.bool_] | None = None
        for i, env in enumerate(self._envs):
            given, info = env.reset(seed=None if seeds is None else int(seeds[i]))
            self._put(obs, i, given)
            if i == 0 and "action_mask" in info:
                self._masked = True
                mask = np.empty((self.num_envs, self.num_actions), bool)
            if mask is not None:
                mask[i] = self._mask(info)
        self._check("observation", obs)
        return obs, {} if mask is None else {"action_mask": mask}

    def _send(self, actions: NDArray[Any]) -> None:
        self._actions = actions

    def _recv(self) -> StepResult:
        n = self.num_envs
        # What an environment does to its action must not reach what is logged.
        actions = self._actions + self._action_start if self._action_start else self._actions.copy()
        final_obs, rewards = np.empty((n, *self._shape), self._dtype), np.empty(n)
        terminated, truncated = np.empty(n, bool), np.empty(n, bool)
        final_mask = np.empty((n, self.num_actions), bool) if self._masked else None
        for i, env in enumerate(self._envs):
            given, rewards[i], terminated[i], truncated[i], info = env.step(actions[i])
            self._put(final_obs, i, given)
            if final_mask is not None:
                final_mask[i] = self._mask(info)
        self._steps += 1
        reward = rewards.astype(np.float32)
        self._check("observation", final_obs)
        self._check("reward", reward)
        obs, mask = final_obs, final_mask
        ended = np.flatnonzero(terminated | truncated)
        if len(ended):
            obs = final_obs.copy()
            mask = None if final_mask is None else final_mask.copy()
            for i in ended.tolist():
                given, info = self._envs[i].reset()
                self._put(obs, i, given)
                if mask is not None:
                    mask[i] = self._mask(info)
            self._check("observation", obs)
        own: dict[str, Any] = {
            "final_obs": final_obs,
            "raw_reward": reward,
            "action": self._actions,
            "life_lost": np.zeros(n, bool),
        }
        if mask is not None:
            own |= {"action_mask": mask, "final_mask": final_mask}
        return obs, reward, terminated, truncated, own

    def _put(self, rows: NDArray[Any], i: int, given: Any) -> None:
        """Copy what copy i observes to its row, counted from 0."""
        if self._obs_start:
            given = given - self._obs_start
        # A Tuple space's observation is a tuple.
        if np.shape(given) != self._shape:
            raise RlabError(
                f"'{self._id}' gave an observation of shape {np.shape(given)}, but its space says {self._shape}"
            )
        try:
            np.copyto(rows[i, ...], given, casting="same_kind")
        except TypeError:
            kind = np.asarray(given).dtype
            raise RlabError(
                f"'{self._id}' gave an observation of {kind}, but its space says {self._dtype}, which cannot hold that"
            ) from None

    def _check(self, quantity: str, values: NDArray[Any]) -> None:
        """Refuse NaN and Inf in values[N, *]."""
        if not (self._real or quantity == "reward") or np.isfinite(values).all():
            return
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        place = f"{quantity}[{', '.join(map(str, at[1:]))}]" if at[1:] else quantity
        raise NonFinite(place, float(values[at]), f"step {self._steps:,} of copy {at[0]} of '{self._id}'")

    def _mask(self, info: dict[str, Any]) -> NDArray[np.bool_]:
        """Legal actions bool[A] of one copy."""
        mask = np.asarray(info.get("action_mask"))
        if mask.shape != (self.num_actions,) or mask.dtype == object:
            raise RlabError(
                f"'{self._id}' must report info['action_mask'] as an array [{self.num_actions}] on every step"
            )
        return mask.astype(bool)

    def _frame(self) -> NDArray[np.uint8]:
        try:
            picture = self._envs[0].render()
        except DependencyNotInstalled as e:
            raise RlabError(f"a picture of '{self._id}' needs a package that is missing: {e}") from e
        return np.asarray(picture, np.uint8)

    def _close(self) -> None:
        for env in self._envs:
            env.close()


def _require_pictures(env_id: str, make: Callable[..., gym.Env[Any, Any]]) -> None:
    # Asked of a plain copy first: Gymnasium only warns when a render mode is unknown.
    env = make()
    modes = env.metadata.get("render_modes", [])
    env.close()
    if "rgb_array" not in modes:
        raise RlabError(f"'{env_id}' has no rgb_array render mode, so there is no picture of it")


def _observations(env_id: str, space: Space[Any]) -> tuple[Space[Any], int]:
    if isinstance(space, Discrete):
        return Discrete(int(space.n)), int(space.start)
    if isinstance(space, Box | MultiBinary | MultiDiscrete):
        return space, 0
    if isinstance(space, Tuple) and all(isinstance(part, Discrete) and part.start == 0 for part in space.spaces):
        return MultiDiscrete([int(part.n) for part in space.spaces]), 0  # type: ignore[attr-defined]
    raise RlabError(f"'{env_id}' has observations of {space}, but the lab needs Box, Discrete or Multi* ones")


def _actions(env_id: str, space: Space[Any]) -> tuple[int | Box, int]:
    if isinstance(space, Discrete):
        return int(space.n), int(space.start)
    if isinstance(space, Box) and np.issubdtype(space.dtype, np.floating):
        return space, 0
    raise RlabError(f"'{env_id}' has actions of {space}, but the lab's agents need Discrete or Box ones of floats")
