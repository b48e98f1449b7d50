"""What every vector environment of the lab looks like from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rlab.errors import RlabError

StepResult = tuple[NDArray[Any], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class Interrupted(Exception):
    """Raised by a reset that was to stop before it was whole; another one must follow."""


class VecEnv(VectorEnv):
    """N environments that reset themselves in the step in which an episode ends (SAME_STEP).

    ``step`` is ``send`` followed by ``recv``; between the two the environments may run in their own threads.
    A step returns (obs [N, *], reward float32[N], terminated bool[N], truncated bool[N], info), in arrays
    that no later step writes to. ``terminated`` means game over, never a lost life. ``info`` always holds

    * ``final_obs`` like obs: what the action led to, so never a reset observation. It differs from obs in the
      rows that ended, and is obs itself where none did;
    * ``raw_reward`` float32[N]: before any clipping;
    * ``action`` like the actions sent: what was really executed (a forced FIRE included);
    * ``life_lost`` bool[N]: a life was lost and the game goes on (Atari only);

    and, where the environment reports legal actions, ``action_mask`` bool[N, A] for obs and ``final_mask``
    bool[N, A] for ``final_obs``. The info of ``reset`` then holds ``action_mask`` too.

    Discrete actions are int64[N], always 0 .. A-1, whatever the ``start`` of the environment's own space;
    continuous ones are [N, *shape] in the dtype and within the bounds of the environment's Box.

    Attributes:
        frame_stack: frames in one observation, the newest last (4 in Atari, else 1).
        protocol: "classic" or "v5" in Atari, else None.
        life_loss_ends: a learner should put the discount to 0 where ``life_lost`` (Atari, classic, training).
        endless: nothing that is known limits an episode.
        observation_start: what the environment itself counts observations from: a number, an array, or None for 0.
        action_start: what the environment itself counts Discrete actions from.
        interrupted: asked during a reset that takes long; if it says so, `reset` raises `Interrupted`.
    """

    single_action_space: Discrete | Box
    frame_stack: int = 1
    protocol: str | None = None
    life_loss_ends: bool = False
    endless: bool = False
    observation_start: Any = None
    action_start: int = 0
    # What may be called next; a call out of turn would hang ALE's threads for ever.
    _turn: Literal["reset", "send", "recv", "closed"] = "closed"
    _needs: ClassVar = {
        "reset": "call reset() first",
        "send": "send actions first",
        "recv": "the actions sent before have not been received",
        "closed": "the environment is closed",
    }

    lends = False
    """Whether a measurement plays in a learner's environments before they are reset with a seed, instead of its own:
    where making and seeding them takes long."""

    def __init__(self, num_envs: int, observation_space: Space[Any], actions: int | Box, seed: int, render: bool):
        self.num_envs = num_envs
        self.single_observation_space = observation_space
        self.single_action_space = actions if isinstance(actions, Box) else Discrete(actions)
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.render_mode = "rgb_array" if render else None
        self.interrupted: Callable[[], bool] = lambda: False
        self._first_seed: int | None = seed
        self._turn = "reset"

    @property
    def num_actions(self) -> int:
        """A, the number of discrete actions.

        Raises:
            RlabError: the actions are continuous.
        """
        if isinstance(self.single_action_space, Box):
            raise RlabError(
                f"this agent takes Discrete actions, but the environment has {self.single_action_space}; "
                "agents for such actions: a2c, actor-critic, ppo, sac, td3"
            )
        return int(self.single_action_space.n)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start N new episodes.

        Args:
            seed: restarts the streams of chance, so that the same actions give the same steps as after any
                other reset with this seed. None: the seed of construction the first time, later no reseeding.
            options: none are known.

        Returns:
            obs [N, *] and an info that holds ``action_mask`` bool[N, A] where legal actions are reported.

        Raises:
            RlabError: closed, a step is under way, a negative seed, or options.
            Interrupted: it takes long and `interrupted` said so; a whole reset must follow.
        """
        if self._turn in ("recv", "closed"):
            raise RlabError(f"reset() out of turn: {self._needs[self._turn]}")
        if options:
            raise RlabError(f"reset() takes no options here, but got {sorted(options)}")
        if seed is None:
            seed = self._first_seed
        if seed is not None and seed < 0:
            raise RlabError(f"a seed must be 0 or more, but got {seed}")
        super().reset(seed=seed)
        self._first_seed = None
        obs, info = self._reset(None if seed is None else spread_seed(seed, self.num_envs))
        self._turn = "send"
        return obs, info

    def reset_anyhow(self) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start N new episodes by whatever chance there is, as nothing depends on them: `reset` without a seed."""
        self._first_seed = None
        return self.reset()

    @property
    def masks(self) -> bool:
        """Whether infos hold ``action_mask``; resets, to see it."""
        return "action_mask" in self.reset()[1]

    def send(self, actions: NDArray[Any]) -> None:
        """Hand over the actions of one step and let the environments run.

        Args:
            actions: integers [N] in 0 .. A-1, or floats [N, *shape] within the bounds of a Box.

        Raises:
            RlabError: out of turn, or actions of another kind, shape or range.
        """
        if self._turn != "send":
            raise RlabError(f"send() out of turn: {self._needs[self._turn]}")
        array = np.array(actions)  # a copy: the caller may reuse its buffer while the environments run
        if isinstance(self.single_action_space, Box):
            self._send(self._within(array, self.single_action_space))
            self._turn = "recv"
            return
        last = self.num_actions - 1
        if array.dtype.kind not in "iu" or array.shape != (self.num_envs,):
            raise RlabError(
                f"actions must be integers of shape ({self.num_envs},), but got {array.dtype} of shape {array.shape}"
            )
        if array.min() < 0 or array.max() > last:
            raise RlabError(f"actions must lie in 0..{last}, but got {array.min()}..{array.max()}")
        self._send(array.astype(np.int64, copy=False))
        self._turn = "recv"

    def _within(self, array: NDArray[Any], space: Box) -> NDArray[Any]:
        """Continuous actions [N, *shape] in the space's dtype, checked."""
        shape = (self.num_envs, *space.shape)
        if array.dtype.kind != "f" or array.shape != shape:
            raise RlabError(f"actions must be floats of shape {shape}, but got {array.dtype} of shape {array.shape}")
        array = array.astype(space.dtype, copy=False)
        if not ((array >= space.low) & (array <= space.high)).all():  # a NaN fails this, too
            raise RlabError(f"actions must lie within {space}, but got {array.min()}..{array.max()}")
        return array

    def recv(self) -> StepResult:
        """Wait for the step that ``send`` began and return it (see the class for the contents).

        Raises:
            RlabError: nothing was sent.
        """
        if self._turn != "recv":
            raise RlabError(f"recv() out of turn: {self._needs[self._turn]}")
        self._turn = "send"  # before the wait: an interrupt arrives after ALE has handed its batch over
        return self._recv()

    def step(self, actions: NDArray[Any]) -> StepResult:
        """Do ``send`` and ``recv`` at once."""
        self.send(actions)
        return self.recv()

    def frame(self) -> NDArray[np.uint8]:
        """Return the current picture of environment 0, uint8 [H, W, 3]; needs ``render=True``.

        Raises:
            RlabError: not made for rendering, not reset yet, or a package for drawing is missing.
        """
        if self.render_mode is None:
            raise RlabError("no picture without make_vec(..., render=True)")
        if self._turn in ("reset", "closed"):
            raise RlabError(f"frame() out of turn: {self._needs[self._turn]}")
        return self._frame()

    def examine(self) -> list[str]:
        """Try out before a run what would keep it from being repeated, a sentence each; a reset must follow."""
        return []

    def take_notes(self) -> list[str]:
        """What was seen since the last call that a user should know; a sentence each."""
        return []

    def close_extras(self, **kwargs: Any) -> None:
        """Release everything; ``close`` calls this once, and so does the end of an object half made."""
        if self._turn != "closed":
            self._turn = "closed"
            self._close()

    # What an adapter supplies. Arguments are checked and calls are in turn.
    def _reset(self, seeds: NDArray[np.int64] | None) -> tuple[NDArray[Any], dict[str, Any]]:
        raise NotImplementedError

    def _send(self, actions: NDArray[Any]) -> None:
        raise NotImplementedError

    def _recv(self) -> StepResult:
        raise NotImplementedError

    def _frame(self) -> NDArray[np.uint8]:
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError


def spread_seed(seed: int, n: int) -> NDArray[np.int64]:
    """Derive n seeds, int64[n] of 31 bits each, from one.

    Neighbouring seeds give unrelated sets, unlike seed + i, under which seeds 0 and 1 share all streams but
    one. The i-th does not depend on n.
    """
    return (np.random.SeedSequence(seed).generate_state(n) & 0x7FFFFFFF).astype(np.int64)
