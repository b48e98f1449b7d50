"""MinAtar: the authors' package step by step, and what the engine promises beyond it."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import is_minatar, make_vec
from envs.minatar import MAX_STEPS, Engine, MinAtar
from envs.minatar_rules import DOWN, FIRE, GAMES, LEFT, NOOP, RIGHT, UP, below, uniform
from rlab.errors import RlabError

STEPS = 20_000
PACKAGE = {game: game.lower() if game != "SpaceInvaders" else "space_invaders" for game in GAMES}

each_game = pytest.mark.parametrize("game", sorted(GAMES))


# ---- Parity with the package `minatar`. It plays with our dice: what it draws comes from the engine's own stream, so
# both must draw the same things in the same order, and a single draw more or less would show at once.


class Dice:
    """Stands in for numpy's RandomState in the package; the words are the engine's way of holding a stream."""

    def __init__(self, word: np.uint64):
        self.word = np.array([word], np.uint64)

    def _many(self, size: int | None, draw: Callable[[], Any]) -> Any:
        return draw() if size is None else np.array([draw() for _ in range(size)])

    def rand(self, size: int | None = None) -> Any:
        return self._many(size, lambda: uniform(self.word, 0))

    def randint(self, low: int, high: int | None = None, size: int | None = None) -> Any:
        low, high = (0, low) if high is None else (low, high)
        return self._many(size, lambda: low + below(self.word, 0, high - low))


def original(game: str, sticky: float, ramping: bool, word: np.uint64) -> Any:
    """The package's game, just begun with our dice."""
    package = pytest.importorskip("minatar", reason="the authors' package is installed by `make test`")
    env = package.Environment(PACKAGE[game], sticky_action_prob=sticky, difficulty_ramping=ramping)
    env.random = env.env.random = Dice(word)
    env.reset()
    return env


def image(env: Any) -> np.ndarray:
    """The package's observation in our form: bool [10, 10, C] -> uint8 [C, 10, 10]."""
    return np.where(env.state().transpose(2, 0, 1), 255, 0).astype(np.uint8)


def choices(game: str, seed: int) -> Callable[[np.ndarray], int]:
    """Random play; in Breakout, where that ends at once, the paddle mostly goes where the ball is."""
    rng = np.random.default_rng(seed)

    def choose(obs: np.ndarray) -> int:
        if game == "Breakout" and rng.random() < 0.9:
            ball, paddle = obs[1].any(axis=0).argmax(), obs[0, 9].argmax()
            return RIGHT if ball > paddle else LEFT if ball < paddle else NOOP
        return int(rng.integers(6))

    return choose


@each_game
@pytest.mark.parametrize("ramping", [True, False], ids=["ramping", "steady"])
def test_every_step_is_that_of_the_package(game: str, ramping: bool) -> None:
    with closing(MinAtar(game, 1, 5, ramping=ramping, minimal=False, max_steps=0)) as envs:
        envs.reset()
        word = np.uint64(123)
        envs.restore({**envs.state(), "dice": np.array([word])})
        obs, _ = envs.reset()  # goes on with the stream, from `word`
        theirs = original(game, 0.1, ramping, word)
        choose = choices(game, 0)
        games = 0
        for _ in range(STEPS):
            np.testing.assert_array_equal(obs[0], image(theirs))
            action = choose(obs[0])
            reward, over = theirs.act(action)
            last = image(theirs)
            if over:
                theirs.reset()
                games += 1
            obs, ours, terminated, truncated, info = envs.step(np.array([action]))
            np.testing.assert_array_equal(info["final_obs"][0], last)
            assert (ours[0], terminated[0], truncated[0]) == (reward, over, False)
        assert envs.state()["dice"] == theirs.random.word[0]
        assert games >= (7 if game == "Freeway" else 20)
