"""The T-maze step by step, and what flickers."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rlab.envs import make_vec
from rlab.envs.pomdp import EAST, NORTH, SOUTH, WEST, Flicker, TMaze
from rlab.errors import RlabError


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("turn", [NORTH, SOUTH])
def test_the_maze_step_by_step(seed: int, turn: int) -> None:
    env = TMaze(length=3)
    obs, _ = env.reset(seed=seed)
    goal = NORTH if obs.tolist() == [0, 1, 1] else SOUTH
    assert obs.tolist() in ([0, 1, 1], [1, 1, 0])
    cue = obs.tolist()
    expected = [
        (WEST, cue, -0.1), (SOUTH, cue, -0.1), (EAST, [1, 0, 1], 0), (NORTH, [1, 0, 1], -0.1), (EAST, [1, 0, 1], 0),
        (WEST, [1, 0, 1], 0), (WEST, cue, 0), (EAST, [1, 0, 1], 0), (EAST, [1, 0, 1], 0), (EAST, [0, 1, 0], 0),
        (EAST, [0, 1, 0], -0.1),
    ]  # fmt: skip
    for action, seen, paid in expected:
        obs, reward, over, cut, _ = env.step(action)
        assert (obs.tolist(), reward, over, cut) == (seen, paid, False, False)
    obs, reward, over, _, _ = env.step(turn)
    assert over
    assert reward == (4.0 if turn == goal else -0.1)


def test_both_cues_come_and_chance_is_the_mean_of_the_turns() -> None:
    env = TMaze()
    env.reset(seed=0)
    goals = [env.reset() and env.goal for _ in range(1000)]
    assert 430 < goals.count(NORTH) < 570
    assert TMaze.chance == pytest.approx((TMaze.best - 0.1) / 2)


def test_they_are_environments_by_name() -> None:
    check_env(TMaze(), skip_render_check=True)
    for name in ("rlab/TMaze-v0", "rlab/FlickerCartPole-v0"):
        env = make_vec(name, 2, 0)
        env.reset()
        env.step(np.zeros(2, np.int64))
        env.close()
    with pytest.raises(RlabError, match=r"nearest: .*rlab/TMaze-v0"):
        make_vec("TMaze-v0", 2, 0)


def test_half_of_the_observations_are_missing_and_nothing_else_changes() -> None:
    flickers, plain = make_vec("rlab/FlickerCartPole-v0", 4, 0), make_vec("CartPole-v1", 4, 0)
    rng = np.random.default_rng(0)
    seen, missing = 0, []
    obs, same = flickers.reset(seed=5)[0], plain.reset(seed=5)[0]
    for _ in range(300):
        gone = (obs == 0).all(axis=1)
        np.testing.assert_array_equal(obs[~gone], same[~gone])
        missing.append(gone)
        action = rng.integers(0, 2, 4)
        (obs, *rest, _), (same, *others, _) = flickers.step(action), plain.step(action)
        for a, b in zip(rest, others, strict=True):
            np.testing.assert_array_equal(a, b)
        seen += 4
    gone = np.concatenate(missing)
    assert abs(gone.mean() - 0.5) < 5 * 0.5 / np.sqrt(seen)
    together = np.stack(missing)
    assert len({tuple(column) for column in together.T}) == 4  # each environment by itself
    flickers.reset(seed=5)
    again = [flickers.step(np.zeros(4, np.int64))[0] for _ in range(9)]
    flickers.reset(seed=5)
    np.testing.assert_array_equal(again, [flickers.step(np.zeros(4, np.int64))[0] for _ in range(9)])
    flickers.close()
    plain.close()


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(RlabError, match="corridor of at least 1 step, not 0"):
        TMaze(length=0)
    with pytest.raises(RlabError, match=r"probability from 0 to 1, not 1\.5"):
        Flicker(gym.make("CartPole-v1"), p=1.5)
    with pytest.raises(RlabError, match=r"only a Box .* can flicker, not Discrete"):
        Flicker(gym.make("CliffWalking-v1"))


def test_boards_flicker_by_their_state_and_nothing_else_changes() -> None:
    """MinAtar: as often as said, each copy by itself, the last board of a game too; a restored state shows the same."""
    flickers, plain = make_vec("MinAtar/Breakout", 64, 0, flicker=0.3), make_vec("MinAtar/Breakout", 64, 0)
    rng, missing, ends = np.random.default_rng(0), [], []
    flickers.reset(seed=5), plain.reset(seed=5)
    for _ in range(120):
        action = rng.integers(0, flickers.num_actions, 64)
        (obs, *rest, info), (same, *others, _) = flickers.step(action), plain.step(action)
        gone = ~obs.any(axis=(1, 2, 3))
        np.testing.assert_array_equal(obs[~gone], same[~gone])
        over = rest[1]
        ends.append(~info["final_obs"][over].any(axis=(1, 2, 3)))
        np.testing.assert_array_equal(info["final_obs"][~over], obs[~over])
        for a, b in zip(rest, others, strict=True):
            np.testing.assert_array_equal(a, b)
        missing.append(gone)
    together = np.stack(missing)
    assert abs(together.mean() - 0.3) < 5 * np.sqrt(0.21 / together.size)
    assert len({tuple(column) for column in together.T}) == 64
    assert abs((together[1:] == together[:-1]).mean() - 0.58) < 0.03  # one after the other, too
    assert 0.15 < np.concatenate(ends).mean() < 0.45
    np.testing.assert_array_equal(flickers.restore(flickers.state())[0], obs)
    flickers.close()
    plain.close()


def test_passive_maze_carries_to_the_junction_and_pays_the_turn() -> None:
    for turn in (NORTH, SOUTH):
        env = TMaze(length=4, passive=True)
        env.reset(seed=0)
        paid = [env.step(action) for action in (WEST, NORTH, EAST, SOUTH)]
        assert [(reward, over) for _, reward, over, _, _ in paid] == [(0.0, False)] * 4
        assert env.step(WEST)[1] == -0.1  # at the junction it does not go back
        _, reward, over, _, _ = env.step(turn)
        assert (over, reward) == (True, 4.0 if turn == env.goal else -0.1)


@pytest.mark.parametrize("length", [10, 100])
def test_maze_is_cut_after_five_corridors(length: int) -> None:
    env = make_vec("rlab/TMaze-v0", 1, 0, env_args={"length": length})
    env.reset()
    cuts = [bool(env.step(np.array([WEST]))[3][0]) for _ in range(5 * (length + 10))]
    assert cuts == [False] * (len(cuts) - 1) + [True]
    env.close()
