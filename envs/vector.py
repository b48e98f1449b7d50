"""What every vector environment of the lab looks like from outside."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium.spaces import Discrete, Space
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rlab.errors import RlabError

StepResult = tuple[NDArray[Any], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class VecEnv(VectorEnv):
    """N environments that reset themselves in the step in which an episode ends (SAME_STEP).

    ``step`` is ``send`` followed by ``recv``; between the two the environments may run in their own threads.
    A step returns (obs [N, *], reward float32[N], terminated bool[N], truncated bool[N], info), in arrays
    that no later step writes to. ``terminated`` means game over, never a lost life. ``info`` always holds

    * ``final_obs`` like obs: what the action led to, so never a reset observation. It differs from obs in the
      rows that ended, and is obs itself where none did;
    * ``raw_reward`` float32[N]: before any clipping;
    * ``action`` int64[N]: what was really executed (a forced FIRE included);
    * ``life_lost`` bool[N]: a life was lost and the game goes on (Atari only);

    and, where the environment reports legal actions, ``action_mask`` bool[N, A] for obs and ``final_mask``
    bool[N, A] for ``final_obs``. The info of ``reset`` then holds ``action_mask`` too.

    Actions are always 0 .. A-1, whatever the ``start`` of the environment's own Discrete space.

    Attributes:
        frame_stack: frames in one observation, the newest last (4 in Atari, else 1).
        protocol: "classic" or "v5" in Atari, else None.
        life_loss_ends: a learner should put the discount to 0 where ``life_lost`` (Atari, classic, training).
    """

    single_action_space: Discrete
    frame_stack: int = 1
    protocol: str | None = None
    life_loss_ends: bool = False
    # What may be called next; a call out of turn would hang ALE's threads for ever.
    _turn: Literal["reset", "send", "recv", "closed"] = "closed"
    _needs: ClassVar = {
        "reset": "call reset() first",
        "send": "send actions first",
        "recv": "the actions sent before have not been received",
        "closed": "the environment is closed",
    }

    def __init__(self, num_envs: int, observation_space: Space[Any], actions: int, seed: int, render: bool):
        self.num_envs = num_envs
        self.single_observation_space = observation_space
        self.single_action_space = Discrete(actions)
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.render_mode = "rgb_array" if render else None
        self._first_seed: int | None = seed
        self._turn = "reset"

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

    def send(self, actions: NDArray[np.integer[Any]]) -> None:
        """Hand over the actions of one step, integers [N] in 0 .. A-1, and let the environments run.

        Raises:
            RlabError: out of turn, or actions of another kind, shape or range.
        """
        if self._turn != "send":
            raise RlabError(f"send() out of turn: {self._needs[self._turn]}")
        array = np.array(actions)  # a copy: the caller may reuse its buffer while the environments run
        last = int(self.single_action_space.n) - 1
        if array.dtype.kind not in "iu" or array.shape != (self.num_envs,):
            raise RlabError(
                f"actions must be integers of shape ({self.num_envs},), but got {array.dtype} of shape {array.shape}"
            )
        if array.min() < 0 or array.max() > last:
            raise RlabError(f"actions must lie in 0..{last}, but got {array.min()}..{array.max()}")
        self._send(array.astype(np.int64, copy=False))
        self._turn = "recv"

    def recv(self) -> StepResult:
        """Wait for the step that ``send`` began and return it (see the class for the contents).

        Raises:
            RlabError: nothing was sent.
        """
        if self._turn != "recv":
            raise RlabError(f"recv() out of turn: {self._needs[self._turn]}")
        self._turn = "send"  # before the wait: an interrupt arrives after ALE has handed its batch over
        return self._recv()

    def step(self, actions: NDArray[np.integer[Any]]) -> StepResult:
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

    def close_extras(self, **kwargs: Any) -> None:
        """Release everything; ``close`` calls this once, and so does the end of an object half made."""
        if self._turn != "closed":
            self._turn = "closed"
            self._close()

    # What an adapter supplies. Arguments are checked and calls are in turn.
    def _reset(self, seeds: NDArray[np.int64] | None) -> tuple[NDArray[Any], dict[str, Any]]:
        raise NotImplementedError

    def _send(self, actions: NDArray[np.int64]) -> None:
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
