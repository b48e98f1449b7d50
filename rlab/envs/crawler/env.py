"""A crawler that learns to walk: reward is the distance walked, less a little for the energy spent.

A trunk on two legs of two joints each, in a vertical plane; its mechanics stand in `rlab.envs.crawler.physics`. Its
ids:

* ``rlab/Crawler-v0``: actions float32 [4] in [-1, 1], the speed of each joint (hip and knee in front, then behind);
* ``rlab/CrawlerDiscrete-v0``: 81 actions, each joint back, still or on: digits of a number in base 3.

The reward of a step is ``PER_METRE * distance - ENERGY_COST * effort``: decimetres forward, less a little for the
joules that the motors gave (what they take back counts nothing). An episode ends when the trunk is on its back (turned
by more than 90 degrees), and is truncated after 500 steps, 20 seconds.
Observations are float32 [12]: height, sine and cosine of the turn, velocity (2), angular velocity, the four joints'
angles, and whether the front and the hind foot touch the ground. Where it stands is not among them.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from rlab.envs.crawler.physics import (
    BOUND,
    DT,
    HEIGHT,
    HIP,
    LENGTH,
    POINTS,
    START_NOISE,
    SUBSTEPS,
    TURN,
    CrawlerStates,
    CrawlerStep,
    X,
    Z,
    new_copies,
    new_seen,
    place_points,
    restart_all,
    step_all,
)
from rlab.envs.vector import StepResult, VecEnv

PER_METRE = 10.0
"""Reward of a metre: it is paid in decimetres, so that values are of a size that networks learn well."""
ENERGY_COST = 0.02
"""Reward that a joule costs: 2 mm of the way."""
FPS = round(1 / (DT * SUBSTEPS))
SPEEDS = np.stack(np.unravel_index(np.arange(81), (3, 3, 3, 3)), axis=1).astype(np.float64) - 1
"""Discrete action -> the four joints' speeds, [81, 4] of -1, 0, 1; 40 is all still."""

WIDTH, TALL, SCALE, GROUND = 480, 240, 200, 200
"""Of a picture, in pixels: its size, a metre, and the row of the ground."""


def actions_of(discrete: bool) -> Discrete | Box:
    """The space of one crawler's actions."""
    return Discrete(len(SPEEDS)) if discrete else Box(-1, 1, (4,), np.float32)


class Crawler(gym.Env[NDArray[np.float32], Any]):
    """One crawler; ``info`` holds ``distance`` (m from the start), ``work`` and ``effort`` (J) of the step.

    Args:
        discrete: 81 actions in place of four speeds.
        noise: rad, how far each joint may be from neutral at the start.
        render_mode: "rgb_array" or None.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": FPS}  # noqa: RUF012 - Gymnasium's own name for it

    def __init__(self, discrete: bool = False, noise: float = START_NOISE, render_mode: str | None = None):
        self.observation_space = Box(-BOUND, BOUND)
        self.action_space = actions_of(discrete)
        self.noise = float(noise)
        self.render_mode = render_mode
        self.copies = new_copies(1)
        self._seen = new_seen(1)
        self._seeded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Stand still at 0, joints near neutral."""
        super().reset(seed=seed)
        if seed is not None or not self._seeded:
            self.copies.random[0] = _word(self.np_random)
            self._seeded = True
        restart_all(self.copies, self.noise, self._seen.obs)
        return self._seen.obs[0].copy(), {"distance": 0.0, "work": 0.0, "effort": 0.0}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Move the joints for 1/25 s; speeds beyond -1 and 1 count as these."""
        seen = self._seen
        step_all(self.copies, self._speeds(action), 0, self.noise, seen)
        told = {
            "distance": float(self.copies.body[0, X]),
            "work": float(seen.work[0]),
            "effort": float(seen.effort[0]),
        }
        return seen.obs[0].copy(), float(_reward(seen)[0]), bool(seen.over[0]), False, told

    def _speeds(self, action: Any) -> NDArray[np.float64]:
        if isinstance(self.action_space, Discrete):
            if not 0 <= int(action) < len(SPEEDS):
                raise ValueError(f"an action of CrawlerDiscrete is one of 0..{len(SPEEDS) - 1}, but got {action}")
            return SPEEDS[None, int(action)]
        speeds = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        if speeds.shape != (4,) or np.isnan(speeds).any():
            raise ValueError(f"an action of Crawler is 4 numbers from -1 to 1, but got {action}")
        return speeds[None]

    def render(self) -> Any:
        """uint8[240, 480, 3], the trunk in the middle."""
        return draw(self.copies, 0)


class Crawlers(VecEnv):
    """N crawlers stepped by compiled code: copy i does what `Crawler` does with the i-th seed.

    Args:
        num_envs: N.
        seed: of the first reset.
        discrete: 81 actions in place of four speeds.
        render: prepare for ``frame()``.
        max_steps: of an episode, then it is truncated.
    """

    def __init__(self, num_envs: int, seed: int, *, discrete: bool, render: bool, max_steps: int):
        self._limit = max_steps
        self._copies = new_copies(num_envs)
        space = actions_of(discrete)
        actions = int(space.n) if isinstance(space, Discrete) else space
        super().__init__(num_envs, Box(-BOUND, BOUND), actions, seed, render)
        self.metadata["render_fps"] = FPS

    def _reset(self, seeds: NDArray[np.int64] | None) -> tuple[NDArray[Any], dict[str, Any]]:
        if seeds is not None:
            self._copies.random[:] = [_word(np.random.default_rng(int(seed))) for seed in seeds]
        obs = new_seen(self.num_envs).obs
        restart_all(self._copies, START_NOISE, obs)
        return obs, {}

    def _send(self, actions: NDArray[Any]) -> None:
        self._actions = actions

    def _recv(self) -> StepResult:
        speeds = SPEEDS[self._actions] if self._actions.dtype == np.int64 else self._actions.astype(np.float64)
        seen = new_seen(self.num_envs)
        step_all(self._copies, speeds, self._limit, START_NOISE, seen)
        reward = _reward(seen).astype(np.float32)
        own = {
            "final_obs": seen.final if (seen.over | seen.cut).any() else seen.obs,
            "raw_reward": reward,
            "action": self._actions,
            "life_lost": np.zeros(self.num_envs, bool),
        }
        return seen.obs, reward, seen.over, seen.cut, own

    def _frame(self) -> NDArray[np.uint8]:
        return draw(self._copies, 0)

    def _close(self) -> None:
        pass


def _reward(seen: CrawlerStep) -> NDArray[np.float64]:
    return PER_METRE * seen.moved - ENERGY_COST * seen.effort


def _word(rng: np.random.Generator) -> int:
    """Where a copy's stream of chance begins."""
    return int(rng.integers(0, 2**64, dtype=np.uint64))


def draw(copies: CrawlerStates, i: int) -> NDArray[np.uint8]:
    """Copy i before a wall and a ground with a mark every half metre: uint8[TALL, WIDTH, 3]."""
    import pygame

    pygame.font.init()
    font = pygame.font.Font(None, 22)
    body, points = copies.body[i], np.empty((POINTS, 2))
    place_points(copies.joints[i], points)
    picture = pygame.Surface((WIDTH, TALL))
    picture.fill((232, 238, 244))
    pygame.draw.rect(picture, (150, 132, 110), (0, GROUND, WIDTH, TALL - GROUND))
    half = WIDTH / 2 / SCALE
    for mark in range(int(np.floor((body[X] - half) * 2)), int(np.ceil((body[X] + half) * 2)) + 1):
        x, whole = WIDTH / 2 + (mark / 2 - body[X]) * SCALE, mark % 2 == 0
        pygame.draw.line(picture, (60, 50, 40), (x, GROUND), (x, GROUND + (14 if whole else 7)), 2)
        if whole:
            number = font.render(f"{mark // 2} m", True, (60, 50, 40))
            picture.blit(number, (x - number.get_width() / 2, GROUND + 17))
    _draw_body(pygame, picture, body, points)
    picture.blit(font.render(f"{body[X]:+.2f} m", True, (30, 30, 30)), (10, 8))
    return np.ascontiguousarray(pygame.surfarray.array3d(picture).transpose(1, 0, 2))


def _draw_body(pygame: Any, picture: Any, body: NDArray[np.float64], points: NDArray[np.float64]) -> None:
    cos, sin = np.cos(body[TURN]), np.sin(body[TURN])

    def pixel(x: float, z: float) -> tuple[float, float]:
        return WIDTH / 2 + (cos * x - sin * z) * SCALE, GROUND - (body[Z] + sin * x + cos * z) * SCALE

    trunk = [pixel(sx * LENGTH / 2, sz * HEIGHT / 2) for sx, sz in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    pygame.draw.polygon(picture, (70, 110, 170), trunk)
    pygame.draw.circle(picture, (240, 240, 240), pixel(0.4 * LENGTH, 0.2 * HEIGHT), 4)  # an eye shows the front
    for leg, colour in ((1, (190, 110, 50)), (0, (220, 60, 60))):
        hip = pixel((HIP, -HIP)[leg], 0.0)
        knee, foot = (pixel(*points[k]) for k in (2 * leg + 1, 2 * leg))
        for a, b in ((hip, knee), (knee, foot)):
            pygame.draw.line(picture, colour, a, b, 7)
        for joint in (hip, knee, foot):
            pygame.draw.circle(picture, (50, 50, 60), joint, 5)
