"""N boards with the opponent inside: each is the environment of Gymnasium, and all of their state can be put back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rlab.envs import make_vec
from rlab.envs.go.boards import Boards, Setting
from rlab.envs.go.env import Go
from rlab.envs.go.match import Matches, seen_by
from rlab.envs.go.planes import planes_of
from rlab.envs.go.players import RandomPlayer
from rlab.envs.go.vector import GoVec
from rlab.envs.vector import spread_seed
from rlab.errors import RlabError


def chosen(info: dict[str, Any], step: int) -> NDArray[np.int64]:
    """A legal move of every row that depends on its mask and the step alone."""
    mask = info["action_mask"]
    nth = (step * 7 + mask.sum(1)) % mask.sum(1)
    return (mask.cumsum(1) > nth[:, None]).argmax(1)


def same(a: Any, b: Any) -> None:
    """Two steps, or resets."""
    for x, y in zip(a[:-1], b[:-1], strict=True):
        np.testing.assert_array_equal(x, y)
    assert a[-1].keys() == b[-1].keys()
    for name in a[-1]:
        np.testing.assert_array_equal(a[-1][name], b[-1][name])


@pytest.mark.parametrize("colour", ["black", "white", "random", "alternate"])
def test_each_row_is_the_environment_of_gymnasium(colour: str) -> None:
    rows = [0] if colour == "alternate" else [0, 1, 2, 3]  # odd rows begin with the other colour then
    envs = GoVec(5, 4, 11, colour=colour)
    obs, info = envs.reset()
    ones = [Go(5, colour=colour) for _ in rows]
    seen = [env.reset(seed=int(seed)) for env, seed in zip(ones, spread_seed(11, 4), strict=False)]
    ends = 0
    for k in range(60):
        actions = chosen(info, k)
        for row, (one, (own, told)) in enumerate(zip(ones, seen, strict=True)):
            np.testing.assert_array_equal(obs[row], own)
            np.testing.assert_array_equal(info["action_mask"][row], told["action_mask"])
            assert (one.matches.side[0] == 1) == (told["colour"] == "black")
        obs, reward, over, cut, info = envs.step(actions)
        assert not cut.any()
        for row, one in enumerate(ones):
            own, paid, ended, _, told = one.step(actions[row])
            assert (paid, ended) == (reward[row], over[row])
            np.testing.assert_array_equal(info["final_obs"][row], own)
            np.testing.assert_array_equal(info["final_mask"][row], told["action_mask"])
            seen[row] = one.reset() if ended else (own, told)
            ends += ended
    assert ends >= len(rows)


def test_neither_number_nor_threads_change_a_game() -> None:
    several, few = GoVec(4, 130, 3, threads=2), GoVec(4, 66, 3, threads=1)
    (obs, info), (some, told) = several.reset(), few.reset()
    for k in range(40):
        np.testing.assert_array_equal(obs[:66], some)
        np.testing.assert_array_equal(info["action_mask"][:66], told["action_mask"])
        obs, _, over, _, info = several.step(chosen(info, k))
        some, _, ended, _, told = few.step(chosen(told, k))
        np.testing.assert_array_equal(over[:66], ended)
    several.close()


def test_state_and_restore_are_exact() -> None:
    options: dict[str, Any] = {"colour": "random", "ko": "situational", "suicide": True}
    envs, other = GoVec(5, 70, 1, threads=1, **options), GoVec(5, 70, 2, threads=2, **options)
    _, info = envs.reset()
    other.reset()
    for k in range(25):
        obs, *_, info = envs.step(chosen(info, k))
    saved = envs.state()
    for target in (other, GoVec(5, 70, 3, **options)):  # one of them has not even been reset
        back, told = target.restore(saved)
        np.testing.assert_array_equal(back, obs)
        np.testing.assert_array_equal(told["action_mask"], info["action_mask"])
    for k in range(40):
        actions = chosen(info, k)
        result = envs.step(actions)
        same(result, other.step(actions))
        info = result[-1]
    for name, array in envs.state().items():
        np.testing.assert_array_equal(array, other.state()[name])
        assert not np.shares_memory(array, envs.state()[name])
    other.restore(saved)
    np.testing.assert_array_equal(other.state()["cells"], saved["cells"])  # nobody wrote to what was given


def test_a_state_that_does_not_fit_is_refused() -> None:
    envs = GoVec(5, 3, 0)
    with pytest.raises(RlabError, match=r"state\(\) out of turn: call reset\(\) first"):
        envs.state()
    _, info = envs.reset()
    good = envs.state()
    for wrong in (
        {},
        GoVec(4, 3, 0)._matches.state(),
        {**good, "dice": good["dice"][:1]},
        {**good, "side": 1.0 * good["side"]},
    ):
        with pytest.raises(RlabError, match=r"this is no state of 3 games on 5x5: '.*' does not fit"):
            envs.restore(wrong)
    envs.send(chosen(info, 0))
    for call in (envs.state, lambda: envs.restore(good)):
        with pytest.raises(RlabError, match="have not been received"):
            call()
    envs.recv()
    envs.close()
    with pytest.raises(RlabError, match="closed"):
        envs.restore(good)


def test_an_illegal_action_is_told_before_any_game_has_changed() -> None:
    envs = GoVec(5, 3, 0, colour="black")
    _, info = envs.reset()
    _, _, _, _, info = envs.step(np.zeros(3, np.int64))
    before = envs.state()
    with pytest.raises(RlabError, match="action 0 in game 1 is not legal: there is a stone on A5"):
        envs.step(np.array([25, 0, 25]))
    for name, array in envs.state().items():
        np.testing.assert_array_equal(array, before[name])
    envs.step(chosen(info, 0))


def test_after_an_opponents_failure_only_a_reset_helps() -> None:
    def zero(boards: Boards, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        return np.zeros(len(rows), np.int64)

    envs = GoVec(5, 2, 0, opponent=zero, colour="black")
    envs.reset()
    envs.step(np.array([1, 1]))
    with pytest.raises(RlabError, match="the opponent 'zero' made no legal move: game 0"):
        envs.step(np.array([2, 2]))
    with pytest.raises(RlabError, match=r"call reset\(\) first"):
        envs.step(np.array([3, 3]))
    assert envs.reset()[1]["action_mask"].all()


def test_colours_alternate_and_begin_evenly() -> None:
    def passes(boards: Boards, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        return np.full(len(rows), boards.pass_)

    envs = GoVec(3, 4, 0, opponent=passes, komi=0.5)
    obs, _ = envs.reset()
    komi = [obs[:, -1, 0, 0] > 0]
    for _ in range(3):
        obs, reward, over, _, info = envs.step(np.full(4, 9))
        assert over.all()
        np.testing.assert_array_equal(reward > 0, komi[-1])  # White has won the empty board
        np.testing.assert_array_equal(info["raw_reward"], reward)
        np.testing.assert_array_equal(info["final_obs"][:, -1, 0, 0] > 0, komi[-1])
        assert not info["final_mask"].any()
        komi.append(obs[:, -1, 0, 0] > 0)
    assert [k.tolist() for k in komi] == [[False, True] * 2, [True, False] * 2] * 2


def test_the_opponent_gives_up_in_some_rows() -> None:
    def gives_up(boards: Boards, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        return np.where(rows % 2, -1, boards.pass_)

    envs = GoVec(3, 4, 0, opponent=gives_up, colour="black", komi=0.5)
    envs.reset()
    _, reward, over, _, info = envs.step(np.full(4, 4))
    assert over.tolist() == [False, True, False, True]
    assert reward.tolist() == [0, 1, 0, 1]
    assert info["final_obs"][1, 0, 1, 1] == 1
    assert info["final_mask"].any(1).tolist() == [True, False, True, False]
    assert info["action_mask"].all(1).tolist() == [False, True, False, True]


def test_make_vec_hands_over_what_a_game_is_told() -> None:
    envs = make_vec("Go5", 2, 0, opponent=RandomPlayer(), colour="white", komi=1.5, threads=1, render=True)
    obs, _ = envs.reset()
    assert obs[0, -1, 0, 0] == pytest.approx(0.1)
    assert (obs[:, 1].sum((1, 2)) == 1).all()  # Black has moved
    assert envs.frame().shape == (480, 480, 3)
    assert envs.metadata["render_fps"] == 2
    assert make_vec("rlab/Go13-v0", 1, 0).single_observation_space.shape[1:] == (13, 13)


# ---- What stands beneath.


def test_a_side_is_seen_without_a_turn() -> None:
    boards = Boards(3, Setting(3))
    boards.play([0, 4, 8])
    rows = np.array([2, 0])
    before = {name: array.copy() for name, array in boards.games._asdict().items()}
    black, white = seen_by(boards, rows, np.array([1, 1])), seen_by(boards, rows, np.array([2, 2]))
    np.testing.assert_array_equal(black[:, 0], white[:, 1])
    np.testing.assert_array_equal(white, planes_of(boards, rows))  # whose turn it is
    for name, array in boards.games._asdict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("size", [2, 3, 5, 7])
def test_the_random_player_moves_as_its_rule_says(size: int) -> None:
    """The rule by the letter: legal, no eye of one's own, evenly by the key; a pass if there is nothing else."""
    number = 400 // size**2
    boards = Boards(number, Setting(size, cap=2 * size * size), threads=1)
    chance = np.random.default_rng(size)
    eyes = 0
    while not boards.over.all():
        rows = np.flatnonzero(~boards.over)[::-1].copy()
        keys = chance.integers(0, 2**64, len(rows), dtype=np.uint64)
        moves = RandomPlayer().choose(boards, rows, keys)
        for row, key, move in zip(rows, keys, moves, strict=True):
            me, board = int(boards.turn[row]), np.pad(boards.stones()[row], 1, constant_values=3)
            fit = []
            for point in np.flatnonzero(boards.legal()[row, :-1]):
                y, x = divmod(int(point), size)
                around = board[y : y + 3, x : x + 3]
                sides, corners = around[[0, 1, 1, 2], [1, 0, 2, 1]], around[[0, 0, 2, 2], [0, 2, 0, 2]]
                eye = np.isin(sides, (me, 3)).all() and (corners == 3 - me).sum() <= (0 if 3 in sides else 1)
                eyes += eye
                if not eye:
                    fit.append(int(point))
            assert move == (fit[int(int(key) / 2**64 * len(fit))] if fit else size * size)
        points = np.full(number, -1)
        points[rows] = moves
        boards.play(points)
    assert eyes


def test_a_match_of_two_random_players_is_even_on_5x5() -> None:
    """Komi of 24.5 is fair for them, too: their games end with one colour on the whole board."""
    number, player, chance = 512, RandomPlayer(), np.random.default_rng(0)
    matches = Matches(number, Setting(5, 24.5), colour="black")
    matches.begin(chance.integers(0, 2**64, number, dtype=np.uint64))
    results: list[float] = []
    for _ in range(40):
        keys = chance.integers(0, 2**64, number, dtype=np.uint64)
        reward, over = matches.advance(player.choose(matches.boards, np.arange(number), keys))
        results += reward[over].tolist()
        matches.restart(np.flatnonzero(over))
    assert len(results) > 500
    assert abs(np.mean(results)) < 0.15
