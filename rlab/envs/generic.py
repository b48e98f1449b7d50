"""Any registered Gymnasium environment with Discrete or Box actions, N times, in the lab's own shape."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import DependencyNotInstalled
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from rlab.envs.vector import StepResult, VecEnv
from rlab.errors import RlabError


class Generic(VecEnv):
    """Gymnasium's ``SyncVectorEnv``, normalised: observations [N, *] as the environment gives them.

    Discrete observations and actions count from 0, whatever their space starts at; a Tuple of Discrete observations
    (Blackjack's) becomes a MultiDiscrete one. An environment that
    reports ``info["action_mask"]`` (integers or booleans [A]) must do so on every reset and step.

    Args:
        env_id: a registered Gymnasium id.
        num_envs: N.
        seed: of the first reset.
        render: make the environments with ``render_mode="rgb_array"`` for ``frame()``.
        max_steps: truncate episodes after so many steps, in place of the environment's own limit.

    Raises:
        RlabError: a space that the lab cannot use, a missing package, or no rgb_array mode though asked for.
    """

    def __init__(self, env_id: str, num_envs: int, seed: int, *, render: bool = False, max_steps: int | None = None):
        self._id = env_id
        try:
            if render:
                _require_pictures(env_id)
            options: dict[str, Any] = (
                {"render_mode": "rgb_array"} if render else {}
            )  # not every environment takes a None
            if max_steps is not None:
                options["max_episode_steps"] = max_steps
            make = partial(gym.make, env_id, **options)
            self._envs = SyncVectorEnv([make] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
        except DependencyNotInstalled as e:
            raise RlabError(f"'{env_id}' needs a package that is missing: {e}") from e
        try:
            obs_space, self._obs_start = _observations(env_id, self._envs.single_observation_space)
            actions, self._action_start = _actions(env_id, self._envs.single_action_space)
        except RlabError:
            self._envs.close()
            raise
        super().__init__(num_envs, obs_space, actions, seed, render)
        fps = self._envs.metadata.get("render_fps")
        if fps:
            self.metadata["render_fps"] = fps

    def _reset(self, seeds: NDArray[np.int64] | None) -> tuple[NDArray[Any], dict[str, Any]]:
        obs, info = self._envs.reset(seed=None if seeds is None else seeds.tolist())
        self._masked = "action_mask" in info
        return self._from_zero(obs), {"action_mask": self._mask(info)} if self._masked else {}

    def _send(self, actions: NDArray[Any]) -> None:
        self._actions = actions

    def _recv(self) -> StepResult:
        actions = self._actions + self._action_start if self._action_start else self._actions
        given, reward, terminated, truncated, info = self._envs.step(actions)
        ended = terminated | truncated
        obs = final_obs = self._from_zero(given)
        if ended.any():
            final_obs = obs.copy()
            final_obs[ended] = self._from_zero(np.stack(list(info["final_obs"][ended])))
        reward32 = reward.astype(np.float32)
        own = {
            "final_obs": final_obs,
            "raw_reward": reward32,
            "action": self._actions,
            "life_lost": np.zeros(self.num_envs, bool),
        }
        if self._masked:
            mask = own["action_mask"] = own["final_mask"] = self._mask(info)
            if ended.any():
                own["final_mask"] = np.where(ended[:, None], self._mask(info["final_info"]), mask)
        return obs, reward32, terminated, truncated, own

    def _from_zero(self, obs: Any) -> NDArray[Any]:
        if isinstance(obs, tuple):  # of a Tuple space: one array [N] a component
            return np.stack(obs, axis=-1)
        return obs - self._obs_start if self._obs_start else obs

    def _mask(self, info: dict[str, Any]) -> NDArray[np.bool_]:
        """Legal actions bool[N, A]; only rows that this info reports mean anything."""
        mask = np.asarray(info.get("action_mask"))
        shape = (self.num_envs, self.num_actions)
        if mask.shape != shape or mask.dtype == object:
            raise RlabError(f"'{self._id}' must report info['action_mask'] as an array [{shape[1]}] on every step")
        return mask.astype(bool)

    def _frame(self) -> NDArray[np.uint8]:
        try:
            picture = self._envs.envs[0].render()
        except DependencyNotInstalled as e:
            raise RlabError(f"a picture of '{self._id}' needs a package that is missing: {e}") from e
        return np.asarray(picture, np.uint8)

    def _close(self) -> None:
        self._envs.close()


def _require_pictures(env_id: str) -> None:
    # Asked of a plain copy first: Gymnasium only warns when a render mode is unknown.
    env = gym.make(env_id)
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
