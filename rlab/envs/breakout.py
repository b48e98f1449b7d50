"""Breakout as its objects: where ball, paddle and bricks are by the game's own memory, and the game played on them.

Addresses 72, 99, 101 and those of the wall are those of AtariARI (https://arxiv.org/abs/1906.08226) and OCAtari
(https://arxiv.org/abs/2306.08649); a test compares all of them with the pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import ale_py
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from rlab.envs.atari import MAX_FRAMES, STICKY, Protocol
from rlab.envs.vector import Interrupted, StepResult, VecEnv
from rlab.errors import RlabError

ROM = "breakout"
TOP, LEFT, HEIGHT, WIDTH = 33, 8, 160, 144
"""The picture, cut out of the screen 210x160: all inside the walls, down to the paddle's last row."""

ROWS, COLUMNS, BRICK = 6, 18, (8, 6)
"""Of the wall, and (width, height) of a brick."""

WALL_TOP, WALL_BOTTOM, PADDLE_TOP = 57 - TOP, 93 - TOP, 189 - TOP
BALL, PADDLE_HEIGHT = (2, 4), 4
CLASSES = ("ball", "paddle", "brick 1", "brick 4", "brick 7")
"""A brick is of the class of its points: from the top two rows each of 7, 4 and 1."""

_column, _row = np.meshgrid(np.arange(COLUMNS) * BRICK[0], WALL_TOP + np.arange(ROWS) * BRICK[1])
BRICKS = np.stack([_column, _row, _column + BRICK[0], _row + BRICK[1]], 2)
"""Boxes of all bricks, [ROWS, COLUMNS, 4]."""

PADDLE_X, BALL_X, BALL_Y, PADDLE_WIDTH = 72, 99, 101, 108
"""Addresses of places on the screen, less 47, 49 and -9 pixels, and of half the paddle's width: it shrinks after the
ball's first hit at the top. Above the end of the wall the ball is drawn a row higher, and with 5 rows across it."""

STEP_FRAMES, NOOPS = 4, 30

FINDERS = "rlab.tasks.detection.breakout"
"""What opens a detector's run; it lies above this package and is known by name only."""

Found = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Boxes [K, 4] (left, top, right, bottom) in pixels of the picture, and the class of each [K]."""

Finder = Callable[[NDArray[np.uint8]], list[Found]]
"""What finds the objects in each of pictures uint8[B, 3, HEIGHT, WIDTH]."""


def _bits() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(address, bit)[COLUMNS] of the top row's bricks; each row below is one address lower."""
    order = ((35, (6,)), (29, (6, 4, 2, 0)), (23, (0, 2, 4, 6)), (17, (4, 6)), (11, (6, 4, 2, 0)), (5, (0, 2, 4)))
    pairs = np.array([(address, bit) for address, bits in order for bit in bits])
    return pairs[:, 0], pairs[:, 1]


ADDRESSES, BITS = _bits()


def wall_of(ram: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Say which bricks stand by the memory uint8[128]: bool[ROWS, COLUMNS], the top row first."""
    return (ram[ADDRESSES - np.arange(ROWS)[:, None]] >> BITS & 1).astype(bool)


def objects_of(ram: NDArray[np.uint8]) -> Found:
    """Find what can be seen in the picture by the memory uint8[128]: ball, paddle, and a box for each brick."""
    paddle, x, y, half = (int(ram[at]) for at in (PADDLE_X, BALL_X, BALL_Y, PADDLE_WIDTH))
    left, top = x - 49 - LEFT, y + 9 - TOP
    bottom = top + BALL[1] - (top + BALL[1] <= WALL_BOTTOM)
    ball = (left, top - (top <= WALL_BOTTOM), left + BALL[0], bottom)
    left = paddle - 47 - LEFT
    both = ball, (left, PADDLE_TOP, left + 2 * half, PADDLE_TOP + PADDLE_HEIGHT)
    wall = wall_of(ram)
    boxes = np.concatenate([both, BRICKS[wall]]).clip(0, [WIDTH, HEIGHT, WIDTH, HEIGHT]).astype(np.float32)
    there = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)  # the walls and what is below the paddle hide the ball
    there[0] &= y > 0
    return boxes[there], np.concatenate([[0, 1], 4 - np.argwhere(wall)[:, 0] // 2])[there]


SIZE = 7 + ROWS * COLUMNS
"""Numbers of a vector."""

SPREAD = 8
"""What a place is multiplied by, so that the picture reaches from -4 to 4."""


def vector_of(found: Found, before: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Write objects as numbers float32[SIZE], of each class but the bricks the first one.

    They are: ball and paddle there (0 or 1), the middle of the paddle (x) and of the ball (x, y), -4 to 4 across the
    picture (0 where there is none), how far the ball has moved since the vector before in twentieths of the picture (0
    where one of the two has none), and which bricks stand. From places between 0 and 1 beside 108 bricks a network
    learned little.
    """
    boxes, labels = found
    vector = np.zeros(SIZE, np.float32)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2 / np.array([WIDTH, HEIGHT], np.float32)
    for kind, places in ((0, slice(3, 5)), (1, slice(2, 3))):
        mine = np.flatnonzero(labels == kind)
        if len(mine):
            vector[kind] = 1
            vector[places] = SPREAD * (middles[mine[0]][: places.stop - places.start] - 0.5)
    if before is not None and vector[0] and before[0]:
        vector[5:7] = (20 / SPREAD * (vector[3:5] - before[3:5])).clip(-5, 5)
    at = middles[labels > 1] * (WIDTH, HEIGHT)
    column, row = at[:, 0] // BRICK[0], (at[:, 1] - WALL_TOP) // BRICK[1]
    inside = (row >= 0) & (row < ROWS) & (column < COLUMNS)
    vector[7 + (row * COLUMNS + column)[inside].astype(int)] = 1
    return vector


def start(seed: int, sticky: float = 0.0) -> ale_py.ALEInterface:
    """Put the cartridge in, with a seed of the sticky actions."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setInt("random_seed", seed)
    ale.setFloat("repeat_action_probability", sticky)
    path = ale_py.roms.get_rom_path(ROM)
    assert path is not None  # ALE brings it
    ale.loadROM(path)
    return ale


def picture_of(ale: ale_py.ALEInterface) -> NDArray[np.uint8]:
    """Cut the picture out of the screen: uint8[3, HEIGHT, WIDTH]."""
    return np.moveaxis(ale.getScreenRGB()[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH], 2, 0)


class BreakoutObjects(VecEnv):
    """Breakout N times under the protocols of `rlab.envs.atari.Atari`; observations are vectors float32 [N, SIZE] of
    `vector_of` in place of pictures.

    Args:
        observe: "ram", or the run of a detector that has learned on ``breakout-objects`` and finds the objects.
        num_envs: N.
        seed: of the first reset.
        protocol: "classic" or "v5".
        training: clip rewards and, in classic, let a lost life end the return.
        render: prepare for ``frame()``.
        sticky: the probability of repeating the action before, in place of the protocol's.
        max_frames: of a game, in frames; beyond it the game is truncated.

    Raises:
        RlabError: there is no such run, or it finds no objects of such pictures.
    """

    lends = True  # the cartridge is loaded anew for each seed: a tenth of a second for each game

    masks = False

    def __init__(
        self,
        observe: str,
        num_envs: int,
        seed: int,
        *,
        protocol: Protocol = "classic",
        training: bool = True,
        render: bool = False,
        sticky: float | None = None,
        max_frames: int = MAX_FRAMES,
    ):
        self._observe = observe
        self._find: Finder | None = None if observe == "ram" else import_module(FINDERS).finder(observe)
        self._sticky = STICKY[protocol] if sticky is None else sticky
        self._games = list[ale_py.ALEInterface]()  # `reset` loads the cartridges
        self._rngs = list[np.random.Generator]()
        self._actions = start(0).getMinimalActionSet()
        super().__init__(num_envs, Box(-5.0, 5.0, (SIZE,), np.float32), len(self._actions), seed, render)
        classic = protocol == "classic"
        self.protocol, self.life_loss_ends = protocol, classic and training
        self._classic, self._clip, self._max_frames = classic, training, max_frames
        self._fire = self._actions.index(ale_py.Action.FIRE)
        self._frames, self._lives = np.zeros(num_envs, np.int64), np.zeros(num_envs, np.int64)
        self._must_fire = np.zeros(num_envs, bool)
        self._seen = np.zeros((num_envs, SIZE), np.float32)

    def _reset(self, seeds: NDArray[np.int64] | None) -> tuple[NDArray[Any], dict[str, Any]]:
        if seeds is None and not self._games:
            seeds = np.arange(self.num_envs)
        if seeds is not None:
            self._games, self._rngs = [], []
            for seed in seeds.tolist():
                if self.interrupted():
                    self._games = []
                    raise Interrupted
                self._games.append(start(seed, self._sticky))
                self._rngs.append(np.random.default_rng(seed))
        for i in range(self.num_envs):
            self._begin(i)
        self._must_fire = np.zeros(self.num_envs, bool)
        self._seen = self._look(list(range(self.num_envs)), first=True)
        return self._seen, {}

    def _begin(self, i: int) -> None:
        """Start a game as its protocol does."""
        ale = self._games[i]
        ale.reset_game()
        if self._classic:
            for _ in range(self._rngs[i].integers(NOOPS + 1)):
                ale.act(ale_py.Action.NOOP)
            for _ in range(STEP_FRAMES):  # the game does not look at the button in each of them
                ale.act(ale_py.Action.FIRE)
        self._frames[i], self._lives[i] = 0, ale.lives()

    def examine(self) -> list[str]:
        """See `VecEnv.examine`: what a detector finds is repeated only as long as the detector stays what it is."""
        if self._find is None:
            return []
        return [f"it observes by run '{self._observe}', which must stay where and as it is until this run is done"]

    def _look(self, rows: list[int], first: bool) -> NDArray[np.float32]:
        """Vectors of some of the games; the first of a game knows none before."""
        games = [self._games[i] for i in rows]
        found = (
            [objects_of(ale.getRAM()) for ale in games]
            if self._find is None
            else self._find(np.stack([picture_of(ale) for ale in games]))
        )
        pairs = zip(rows, found, strict=True)
        return np.stack([vector_of(one, None if first else self._seen[i]) for i, one in pairs])

    def _send(self, actions: NDArray[np.int64]) -> None:
        if self._classic:
            actions[self._must_fire] = self._fire
        self._executed = actions

    def _recv(self) -> StepResult:
        n = self.num_envs
        raw, terminated, lives = np.zeros(n, np.float32), np.zeros(n, bool), np.zeros(n, np.int64)
        for i, ale in enumerate(self._games):
            action = self._actions[self._executed[i]]
            for _ in range(STEP_FRAMES):
                raw[i] += ale.act(action)
                self._frames[i] += 1
                if ale.game_over(with_truncation=False):
                    break
            terminated[i], lives[i] = ale.game_over(with_truncation=False), ale.lives()
        truncated = ~terminated & (self._frames >= self._max_frames)
        ended = terminated | truncated
        final_obs = obs = self._look(list(range(n)), first=False)
        life_lost = (lives < self._lives) & ~ended
        self._lives, self._must_fire = lives, life_lost
        if ended.any():
            rows = np.flatnonzero(ended).tolist()
            for i in rows:
                self._begin(i)
            obs = final_obs.copy()
            obs[rows] = self._look(rows, first=True)
        self._seen = obs
        own = {"final_obs": final_obs, "raw_reward": raw, "action": self._executed, "life_lost": life_lost}
        return obs, np.sign(raw) if self._clip else raw.copy(), terminated, truncated, own

    def _frame(self) -> NDArray[np.uint8]:
        return np.asarray(self._games[0].getScreenRGB())

    def _close(self) -> None:
        self._games = []


def make_objects(rom: str, observe: str, num_envs: int, seed: int, **how: Any) -> BreakoutObjects:
    """Make the environments of a game as objects; see `BreakoutObjects`.

    Raises:
        RlabError: the objects of this game are not known.
    """
    if rom != ROM:
        raise RlabError(f"observe is '{observe}', but of '{rom}' no objects are known; nearest: pixels, or Breakout")
    return BreakoutObjects(observe, num_envs, seed, **how)
