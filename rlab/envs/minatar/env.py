"""The environment of MinAtar's games: N copies stepped by numba at millions of steps a second.

Young & Tian 2019, "MinAtar: An Atari-Inspired Testbed for Thorough and Reproducible Reinforcement Learning
Experiments", https://arxiv.org/abs/1903.03176; each game's rules stand in a module beside this one. What
differs by choice from the authors' package:

* Observations are uint8 [C, 10, 10] of 0 and 255, the lab's form of an image, where the package gives bool [10, 10, C]:
  an encoder sees exactly 0 and 1, and its convolution the channels first.
* A game is truncated after 5,000 steps; the package has no limit, and a good policy may play on for ever. gymnax
  cuts at 1,000 and calls that the end, which teaches wrong values. Freeway is over after 2,501 steps by its rules.

Threads are Python's, each in a loop that holds no GIL: of numba's own, those of OpenMP break in a forked process, and
the others when two threads call at once.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from rlab.envs.minatar import asterix, breakout, freeway, seaquest, space_invaders
from rlab.envs.minatar.common import OBSERVE, RESET, SIZE, STEP, GameStates, MinAtarGame, MinAtarRules, StepBuffers
from rlab.envs.splitmix import mix, rng_key, split, uniforms
from rlab.envs.vector import StepResult, VecEnv
from rlab.errors import RlabError, nearest
from rlab.machine import cores

GAMES: dict[str, MinAtarGame] = {
    "Asterix": asterix.GAME,
    "Breakout": breakout.GAME,
    "Freeway": freeway.GAME,
    "Seaquest": seaquest.GAME,
    "SpaceInvaders": space_invaders.GAME,
}
STICKY = 0.1
"""Probability of repeating the action before: the package's default."""
MAX_STEPS = 5_000
"""Steps after which a game is truncated."""
CHUNK = 256
"""Copies below which a thread of its own does not pay."""
CELL = 32
"""Pixels of a cell's side in a picture."""
FPS = 12

COLOURS = np.array(
    [
        (255, 255, 255),
        (230, 60, 50),
        (90, 90, 110),
        (250, 200, 50),
        (80, 180, 250),
        (240, 130, 40),
        (190, 90, 220),
        (70, 200, 120),
        (240, 120, 180),
        (160, 220, 220),
    ],
    np.uint8,
)
"""Of the channels; the first that is set in a cell is shown."""


class MinAtarEngine:
    """N copies of a game on arrays: no spaces, no checks, results into buffers that the caller owns.

    Args:
        game: a key of `GAMES`.
        num_envs: N.
        sticky: probability of repeating the action before.
        ramping: whether Asterix, Seaquest and Space Invaders get harder with time.
        minimal: only the actions that do something, instead of all six.
        max_steps: of a game, then it is truncated; 0: never.
        threads: 0 for one per core; fewer where N is small. Results do not depend on it.

    Attributes:
        states: the whole state, as arrays.
    """

    def __init__(
        self,
        game: str,
        num_envs: int,
        *,
        sticky: float = STICKY,
        ramping: bool = True,
        minimal: bool = True,
        max_steps: int = MAX_STEPS,
        threads: int = 0,
    ):
        self.game = GAMES[game]
        self.num_envs = num_envs
        self.shape = (len(self.game.channels), SIZE, SIZE)
        self.states = GameStates(
            np.zeros((num_envs, self.game.columns), np.int32),
            np.zeros(num_envs, np.uint64),
            np.zeros(num_envs, np.int64),
            np.zeros(num_envs, np.int64),
        )
        actions = np.array(self.game.actions if minimal else range(6), np.int64)
        self.rules = MinAtarRules(actions, float(sticky), bool(ramping), max_steps or np.iinfo(np.int64).max)
        self._final = np.zeros((num_envs, *self.shape), np.uint8)
        parts = max(1, min(threads or cores(), num_envs // CHUNK))
        bounds = np.linspace(0, num_envs, parts + 1).astype(int).tolist()
        self._chunks = list(pairwise(bounds))
        self._pool: ThreadPoolExecutor | None = None
        self._pool_of = 0
        self._running: list[Future[None]] = []

    def buffers(self) -> StepBuffers:
        """New arrays for the results of a step; `final` is shared by all of them."""
        n = self.num_envs
        return StepBuffers(
            np.empty((n, *self.shape), np.uint8),
            self._final,
            np.empty(n, np.float32),
            np.empty(n, np.bool_),
            np.empty(n, np.bool_),
        )

    def reset(self, seeds: NDArray[np.int64] | None, buffers: StepBuffers) -> None:
        """Begin N games and draw them; seeds [N] of 31 bits begin their streams of random numbers anew."""
        if seeds is not None:
            # The place beside the seed: no two copies share a stream, even if two of N seeds are alike.
            self.states.rng_keys[:] = rng_key(seeds, np.arange(self.num_envs))
            self.states.last_action[:] = 0
        self.states.steps[:] = 0
        self._run(RESET, self.states.last_action, buffers)
        self.wait()

    def observe(self, buffers: StepBuffers) -> None:
        """Draw the games as they stand, into ``buffers.obs``."""
        self._run(OBSERVE, self.states.last_action, buffers)
        self.wait()

    def send(self, actions: NDArray[np.int64], buffers: StepBuffers) -> None:
        """Begin to step all copies with actions [N] in 0 .. A-1; `wait` before reading ``buffers``."""
        self._run(STEP, actions, buffers)

    def wait(self) -> None:
        """Wait until all threads have done their part.

        Raises:
            RlabError: the process was forked in the middle of a step, and the threads stayed behind.
        """
        if self._running and self._pool_of != os.getpid():
            self._running = []
            raise RlabError("the process was forked between send() and recv(); the step was lost")
        for part in self._running:
            part.result()
        self._running = []  # only now: what an interrupt left behind, the next step waits for

    def step(self, actions: NDArray[np.int64], buffers: StepBuffers) -> None:
        """Do ``send`` and ``wait`` at once."""
        self._run(STEP, actions, buffers)
        self.wait()

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None and self._pool_of == os.getpid():
            self._pool.shutdown()  # waits for a step under way
        self._pool, self._running = None, []

    def _run(self, mode: int, actions: NDArray[np.int64], buffers: StepBuffers) -> None:
        run = self.game.run
        if len(self._chunks) == 1:
            run(0, self.num_envs, mode, actions, self.rules, self.states, buffers)
            return
        self.wait()
        if self._pool is None or self._pool_of != os.getpid():  # a fork copies no threads
            self._pool, self._pool_of = ThreadPoolExecutor(len(self._chunks), "minatar"), os.getpid()
        self._running = [
            self._pool.submit(run, lo, hi, mode, actions, self.rules, self.states, buffers) for lo, hi in self._chunks
        ]


class MinAtar(VecEnv):
    """One game of MinAtar N times; observations are uint8 [N, C, 10, 10] of 0 and 255, one step is one frame.

    ``info["action"]`` is the action sent: that the game may repeat the one before is part of its dynamics. Rewards
    are never clipped.

    Args:
        game: a key of `GAMES`.
        num_envs: N.
        seed: of the first reset.
        threads, sticky, ramping, minimal, max_steps: see `MinAtarEngine`.
        render: prepare for ``frame()``.
        flicker: probability that an observation is missing: zeros in its place. Pictures are whole.

    Raises:
        RlabError: a number out of range.
    """

    def __init__(
        self,
        game: str,
        num_envs: int,
        seed: int,
        *,
        threads: int = 0,
        render: bool = False,
        sticky: float = STICKY,
        ramping: bool = True,
        minimal: bool = True,
        max_steps: int = MAX_STEPS,
        flicker: float = 0.0,
    ):
        if not 0 <= sticky < 1:
            raise RlabError(f"sticky is a probability below 1, but got {sticky}")
        if max_steps < 0:
            raise RlabError(f"max_steps must be 1 or more, or 0 for no limit, but got {max_steps}")
        if not 0 <= flicker < 1:
            raise RlabError(f"flicker is a probability below 1, but got {flicker}")
        self.game = game
        self._flicker = flicker
        self._engine = MinAtarEngine(
            game,
            num_envs,
            sticky=sticky,
            ramping=ramping,
            minimal=minimal,
            max_steps=max_steps,
            threads=threads,
        )
        space = Box(0, 255, self._engine.shape, np.uint8)
        super().__init__(num_envs, space, len(self._engine.rules.actions), seed, render)
        self.metadata["render_fps"] = FPS

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that decides what happens next, as arrays of N rows, copied.

        Raises:
            RlabError: not reset yet, a step is under way, or closed.
        """
        if self._turn != "send":
            raise RlabError(f"state() out of turn: {self._needs[self._turn]}")
        return {name: array.copy() for name, array in self._engine.states._asdict().items()}

    def restore(self, state: dict[str, NDArray[Any]]) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Go back to what `state` gave, here or in another object with the same game, N and options.

        Returns:
            The observations [N, C, 10, 10] at that moment, and an empty info, as ``reset`` does.

        Raises:
            RlabError: a step is under way, closed, or the state is of another game or another N.
        """
        if self._turn in ("recv", "closed"):
            raise RlabError(f"restore() out of turn: {self._needs[self._turn]}")
        mine = self._engine.states._asdict()
        for name, array in mine.items():
            given = state.get(name)
            if given is None or given.shape != array.shape or given.dtype != array.dtype:
                raise RlabError(f"this is no state of {self.num_envs} x MinAtar/{self.game}: '{name}' does not fit")
        for name, array in mine.items():
            array[:] = state[name]
        self._first_seed = None
        self._buffers = self._engine.buffers()
        self._engine.observe(self._buffers)
        self._turn = "send"
        return self._flickering(self._buffers.obs), {}

    def _reset(self, seeds: NDArray[np.int64] | None) -> tuple[NDArray[Any], dict[str, Any]]:
        self._buffers = self._engine.buffers()
        self._engine.reset(seeds, self._buffers)
        return self._flickering(self._buffers.obs), {}

    def _send(self, actions: NDArray[np.int64]) -> None:
        self._actions = actions
        self._buffers = self._engine.buffers()
        self._engine.send(actions, self._buffers)

    def _recv(self) -> StepResult:
        self._engine.wait()
        buffers = self._buffers
        (ended,) = np.nonzero(buffers.terminated | buffers.truncated)
        obs = final_obs = self._flickering(buffers.obs)
        if len(ended):
            final_obs = final_obs.copy()
            final_obs[ended] = self._flickering(buffers.final, last=True)[ended]
        own = {
            "final_obs": final_obs,
            "raw_reward": buffers.reward,
            "action": self._actions,
            "life_lost": np.zeros(self.num_envs, bool),
        }
        return obs, buffers.reward, buffers.terminated, buffers.truncated, own

    def _flickering(self, obs: NDArray[np.uint8], last: bool = False) -> NDArray[np.uint8]:
        """Observations [N, C, 10, 10], some of them missing; which follows from the games' state alone."""
        if not self._flicker:
            return obs
        states = self._engine.states
        coins = uniforms(split(mix(states.rng_keys), 2 * states.steps + last))
        return np.where((coins < self._flicker)[:, None, None, None], np.uint8(0), obs)

    def _frame(self) -> NDArray[np.uint8]:
        on = self._buffers.obs[0] != 0
        picture = np.where(on.any(axis=0)[..., None], COLOURS[on.argmax(axis=0)], np.uint8(16))
        return picture.repeat(CELL, axis=0).repeat(CELL, axis=1)

    def _close(self) -> None:
        self._engine.close()


def find_game(name: str) -> tuple[str, bool]:
    """What a name that begins with ``MinAtar/`` means: (key of `GAMES`, whether only the minimal actions).

    As in the package's Gymnasium ids, ``MinAtar/Breakout-v0`` has all six actions, ``-v1`` and no version those that
    do something. Case and underscores do not matter.

    Raises:
        RlabError: there is no such game or version.
    """
    game_name, version = re.fullmatch(r"[^/]*/(.*?)(-v\d+)?", name, re.DOTALL).groups()  # type: ignore[union-attr]
    game = {g.lower(): g for g in GAMES}.get(game_name.replace("_", "").lower())
    if game is None:
        raise RlabError(f"unknown environment '{name}'; {nearest('MinAtar/' + game_name, names())}")
    if version not in (None, "-v0", "-v1"):
        raise RlabError(f"unknown environment '{name}'; valid: MinAtar/{game}, MinAtar/{game}-v0, MinAtar/{game}-v1")
    return game, version != "-v0"


def names() -> list[str]:
    """The names that `rlab.envs.make_vec` shows."""
    return [f"MinAtar/{game}" for game in GAMES]
