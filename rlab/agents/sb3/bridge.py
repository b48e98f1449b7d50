"""What stands between stable-baselines3 and the lab: our environments, encoders and random numbers in its shapes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv as PeerVecEnv
from torch import Tensor

from rlab.agents.interaction import EnvStream
from rlab.nn import make_encoder
from rlab.nn.inputs import is_image
from rlab.nn.optim import make_dense


class Features(BaseFeaturesExtractor):
    """One of the lab's encoders under a policy of stable-baselines3.

    Args:
        observation_space: of one observation.
        encoder: a registered name, or auto.
    """

    def __init__(self, observation_space: gym.Space[Any], encoder: str):
        flat = not isinstance(observation_space, Box)  # the library makes classes one-hot before this
        shape = (get_flattened_obs_dim(observation_space),) if flat else observation_space.shape
        assert shape is not None
        network = make_encoder(encoder, shape)
        make_dense(network.parameters())
        for parameter in network.parameters():
            parameter.data = parameter.data.contiguous()  # the library's initialisation takes no other
        super().__init__(observation_space, int(network.out_dim))  # type: ignore[arg-type]
        self.encoder = network
        # Scaled here and only here: the policies are made with normalize_images=False.
        self.scale = 1 / 255 if is_image(observation_space) else 1.0

    def forward(self, obs: Tensor) -> Tensor:
        """obs float32[B, *shape] -> [B, D]."""
        return self.encoder(obs if self.scale == 1.0 else obs * self.scale)


class BridgeEnv(PeerVecEnv):
    """Our vector environment as stable-baselines3 sees one.

    A lost life that ends a return (Atari, classic) is a `done` after which the game goes on, as behind the library's
    own wrapper.
    """

    def __init__(self, stream: EnvStream):
        envs = stream.envs
        self._stream = stream
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> np.ndarray:
        """New episodes in all environments: obs[N, *shape]."""
        self._stream.restart()
        return self._stream.obs

    def step_async(self, actions: np.ndarray) -> None:
        """Hand over actions [N] or [N, *shape]; rounding may have left the bounds."""
        space = self.action_space
        if isinstance(space, Box):
            actions = np.clip(actions.astype(space.dtype), space.low, space.high)
        self._stream.envs.send(actions)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """(obs, reward, done, infos) as the library wants them; infos hold what ended episodes led to."""
        stream = self._stream
        step = stream.advance()
        over = step.last | (step.discount == 0)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.nonzero(over)[0]:
            truncated = bool(step.discount[i] != 0)
            infos[i] = {"terminal_observation": step.next_obs[i], "TimeLimit.truncated": truncated}
        if stream.restart_is_due:
            stream.restart()
        return stream.obs, step.reward.copy(), over, infos  # a copy: the library adds to rewards

    def close(self) -> None:
        """The learner closes the environments."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The same for every environment; only render_mode is asked for."""
        if attr_name != "render_mode":
            raise AttributeError(attr_name)
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not supported."""
        raise NotImplementedError

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Not supported."""
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Not at all."""
        return [False] * self.num_envs


class OwnRandomness:
    """Generator states that stand in the global generators only inside ``with own.in_place():``."""

    def __init__(self, seed: int, device: torch.device):
        self._device = device
        with _outer_kept(device):
            np.random.seed(seed)  # noqa: NPY002 - the library draws from this generator
            torch.manual_seed(seed)
            self._take()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the states into the global generators, and take them back at the end."""
        with _outer_kept(self._device):
            np.random.set_state(self._numpy)  # noqa: NPY002
            torch.set_rng_state(self._torch)
            if self._device.type == "cuda":
                torch.cuda.set_rng_state(self._cuda, self._device)
            try:
                yield
            finally:
                self._take()

    def _take(self) -> None:
        self._numpy: Any = np.random.get_state()  # noqa: NPY002
        self._torch = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else torch.empty(0)

    def state(self) -> dict[str, Any]:
        """As JSON and tensors."""
        _, key, pos, has_gauss, cached = self._numpy
        numpy = {"key": key.astype(np.int64), "pos": pos, "has_gauss": has_gauss, "cached": cached}
        return {"numpy": numpy, "torch": self._torch, "cuda": self._cuda}

    def restore(self, state: dict[str, Any]) -> None:
        """Undo `state`."""
        n = state["numpy"]
        self._numpy = ("MT19937", n["key"].astype(np.uint32), n["pos"], n["has_gauss"], n["cached"])
        self._torch = state["torch"]
        if len(state["cuda"]) and len(self._cuda):  # on another device the old stream means nothing
            self._cuda = state["cuda"]


@contextmanager
def _outer_kept(device: torch.device) -> Iterator[None]:
    outer, python = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        np.random.set_state(outer)  # noqa: NPY002
        random.setstate(python)
