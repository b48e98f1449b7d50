"""Scores: by hand, and without the bias towards short games."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from rlab.agents.evaluation import play, score
from rlab.envs import make_vec
from rlab.envs.scores import RANDOM_AND_HUMAN, human_normalised
from rlab.run.contract import Stop


class Constant:
    """Always the same action."""

    def __init__(self, action: int):
        self.action = action

    def act(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        return np.full(len(obs), self.action)


@pytest.mark.parametrize("name", ["Breakout", "ALE/Breakout-v5", "BreakoutNoFrameskip-v4"])
def test_human_normalised(name: str) -> None:
    assert human_normalised(name, 1.7) == pytest.approx(0)
    assert human_normalised(name, 30.5) == pytest.approx(1)
    assert human_normalised("CartPole-v1", 500) is None
    assert len(RANDOM_AND_HUMAN) == 57


def test_a_score_by_hand() -> None:
    found = score(np.array([1.0, 2.0, 3.0, 10.0]), np.array([1, 2, 3, 4]), "CartPole-v1")
    assert found["mean"] == 4
    assert found["median"] == 2.5
    assert found["episodes"] == 4
    assert found["mean_length"] == 2.5
    # exactly: the 2.5 % and 97.5 % quantiles over all 4^4 resamples
    values = np.array([1.0, 2.0, 3.0, 10.0])
    means = values[np.array(np.meshgrid(*[range(4)] * 4)).reshape(4, -1)].mean(axis=0)
    low, high = np.percentile(means, [2.5, 97.5])
    assert found["low"] == pytest.approx(low, abs=0.3)
    assert found["high"] == pytest.approx(high, abs=0.3)


def test_one_game_has_an_interval_of_no_width() -> None:
    found = score(np.array([7.0]), np.array([3]), "Breakout")
    assert found["low"] == found["mean"] == found["high"] == 7


@pytest.mark.parametrize(("num_envs", "episodes"), [(1, 3), (3, 3), (3, 7)])
def test_every_environment_plays_its_share(num_envs: int, episodes: int) -> None:
    with closing(make_vec("rlab/ProbeTruncation-v0", num_envs, 0, training=False)) as envs:
        returns, lengths = play(Constant(0), envs, episodes, 0, Stop())
    assert returns.tolist() == [10.0] * episodes  # ten steps of reward 1, then truncated
    assert lengths.tolist() == [10] * episodes


def test_short_games_are_not_counted_more_often() -> None:
    """With one game each, an environment's first game counts however many others end meanwhile."""
    with closing(make_vec("CartPole-v1", 8, 0, training=False)) as envs:
        together, _ = play(Constant(1), envs, 8, 5, Stop())
    with closing(make_vec("CartPole-v1", 8, 0, training=False)) as envs:
        envs.reset(seed=5)
        first_games = np.zeros(8)
        running, total = np.ones(8, bool), np.zeros(8)
        while running.any():
            _, _, terminated, truncated, info = envs.step(np.ones(8, np.int64))
            total += info["raw_reward"]
            over = running & (terminated | truncated)
            first_games[over] = total[over]
            running &= ~over
    assert together.tolist() == first_games.tolist()
