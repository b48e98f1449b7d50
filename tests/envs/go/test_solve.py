"""Solved boards: the table of moves against the rules' engine, the search against a plain one, and values that are
known."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rlab.envs.go.boards import Boards, Setting
from rlab.envs.go.solve import KO, Solver, make_tables, solve
from rlab.errors import RlabError
from tests.envs.go import naive


def codes(stones: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Boards [N, n, n] as numbers in base 3."""
    flat = stones.reshape(len(stones), -1).astype(np.int64)
    return np.asarray(flat @ 3 ** np.arange(flat.shape[1]))


@pytest.mark.parametrize("suicide", [False, True])
@pytest.mark.parametrize(("size", "number"), [(2, 57), (3, 12_675)])
def test_tables_are_the_rules_of_the_engine(size: int, number: int, suicide: bool) -> None:
    """Every position, every move of both players, every score."""
    points = size * size
    tables = make_tables(size, size, suicide)
    positions = np.flatnonzero(tables.stands)
    assert len(positions) == number
    setting = Setting(size, komi=0, ko="simple", suicide=suicide)
    boards, moved = Boards(number, setting, threads=1), Boards(number, setting, threads=1)
    stones = (positions[:, None] // 3 ** np.arange(points) % 3).reshape(-1, size, size)
    for turn in (1, 2):
        for row in range(number):
            boards.arrange(row, stones[row], turn)
        assert (codes(boards.stones()) == positions).all()
        assert (boards.score() == tables.score[positions]).all()
        legal = boards.legal()
        assert (legal[:, :-1] == (tables.after[positions, turn - 1] >= 0)).all()
        for point in range(points):
            moved.copy(range(number), boards, range(number))
            moved.play(np.where(legal[:, point], point, -1))
            made = legal[:, point]
            assert (codes(moved.stones())[made] == tables.after[positions, turn - 1, point][made]).all()


@settings(max_examples=40, deadline=None)
@given(size=st.integers(2, 3), ko=st.sampled_from(KO), suicide=st.booleans(), seed=st.integers(0, 2**31))
def test_ko_is_that_of_the_engine(size: int, ko: str, suicide: bool, seed: int) -> None:
    """After any moves, those that the solver takes for legal are those of the engine."""
    solver = solvers(size, size, ko, suicide)
    chance = np.random.default_rng(seed)
    boards = Boards(1, Setting(size, ko=ko, suicide=suicide, cap=40), threads=1)
    while not boards.over[0]:
        moves, legal = boards.moves(0), boards.legal()[0]
        assert [solver.legal(moves, move) for move in range(size * size + 1)] == legal.tolist()
        places = np.flatnonzero(legal[:-1])
        go_on = len(places) and chance.random() < 0.9
        boards.play([int(chance.choice(places)) if go_on else size * size])


KEPT: dict[tuple[int, int, str, bool], Solver] = {}


def solvers(rows: int, columns: int, ko: str, suicide: bool = False) -> Solver:
    key = rows, columns, ko, suicide
    if key not in KEPT:
        KEPT[key] = Solver(rows, columns, ko=ko, suicide=suicide)
    return KEPT[key]


def plain(game: naive.Game, passed: bool, low: int, high: int) -> int:
    """Alpha-beta by the letter of the rules, the pass first; nothing is remembered but the game itself."""
    black = game.turn == 1
    points = game.size**2
    for move in (points, *range(points)):
        if not game.legal(move):
            continue
        if move == points and passed:
            value = naive.score(game.position, game.size)
        else:
            after = copy.deepcopy(game)
            after.play(move)
            value = plain(after, move == points, low, high)
        if black:
            low = max(low, value)
        else:
            high = min(high, value)
        if low >= high:
            break
    return low if black else high


@pytest.mark.parametrize("ko", ["positional", "situational"])
def test_a_plain_search_finds_the_same(ko: str) -> None:
    """2x2 from the empty board, and after every first and second move."""
    solver = solvers(2, 2, ko)
    assert plain(naive.Game(2, ko, False), False, -4, 4) == solver.value() == 1
    for first in (0, 4):
        for second in range(4):
            game = naive.Game(2, ko, False)
            game.play(first)
            if game.legal(second):
                game.play(second)
                assert plain(game, False, -4, 4) == solver.value([first, second])


@pytest.mark.parametrize(("rows", "columns"), [(1, 4), (1, 5), (2, 2), (2, 3)])
@pytest.mark.parametrize("ko", ["positional", "situational"])
def test_sure_wins_change_no_answer(rows: int, columns: int, ko: str) -> None:
    short, long = solvers(rows, columns, ko), Solver(rows, columns, ko=ko, sure=False)
    points = rows * columns
    chance = np.random.default_rng(0)
    for k in range(0, 12, 2):
        moves: list[int] = []
        for _ in range(k):
            places = [move for move in range(points) if short.legal(moves, move)]
            moves += [int(chance.choice(places))] if places else []
        for goal in range(1 - points, points + 1):
            assert short.reaches(goal, moves) == long.reaches(goal, moves)
    assert short.looked < long.looked


@pytest.mark.parametrize("ko", KO)
def test_2x2(ko: str) -> None:
    """Tromp, https://tromp.github.io/java/go/twoxtwo.html: 1 by positional superko. Simple ko lets both play on."""
    assert solve(2, 2, ko=ko).value == (0 if ko == "simple" else 1)
    assert solve(2, 2, ko=ko).moves == ((0, 1, 2, 3, 4) if ko == "simple" else (0, 1, 2, 3))


@pytest.mark.parametrize("ko", KO)
def test_3x3(ko: str) -> None:
    solver = solvers(3, 3, ko)
    assert solver.best()[:2] == (9, (4,))
    assert [solver.value([first]) for first in (4, 1, 0)] == [9, 3, -9]
    assert [solver.value([first]) for first in (3, 5, 7)] == [3, 3, 3]


@pytest.mark.parametrize("ko", KO)
def test_2x4(ko: str) -> None:
    assert solvers(2, 4, ko).value() == 8
    assert Solver(4, 2, ko=ko).value() == 8


@pytest.mark.slow
@pytest.mark.parametrize("ko", ["positional", "situational"])
def test_3x4(ko: str) -> None:
    assert Solver(3, 4, ko=ko).value() == 4


def test_games_without_end_count_what_is_agreed() -> None:
    """By simple ko Black and White each can keep 2x2 from ending; on 2x4 Black can make an end and win all."""
    for cycles in (-4, -1, 0, 1, 4):
        assert Solver(2, 2, ko="simple", cycles=cycles).value() == cycles
        assert Solver(2, 4, ko="simple", cycles=cycles).value() == 8


def test_what_is_refused() -> None:
    with pytest.raises(RlabError, match="2 to 12 points, not 4 x 4"):
        solve(4, 4)
    with pytest.raises(RlabError, match="2 to 12 points, not -1 x -4"):
        solve(-1, -4)
    with pytest.raises(RlabError, match=r"no ko rule 'super'.*simple"):
        solve(2, 2, ko="super")
    with pytest.raises(RlabError, match="count -4 to 4, not 5"):
        solve(2, 2, ko="simple", cycles=5)
    solver = solvers(2, 2, "positional")
    with pytest.raises(RlabError, match="a stone on point 0 is not legal"):
        solver.value([0, 0])
    with pytest.raises(RlabError, match="move 5 cannot be made"):
        solver.value([5])
    with pytest.raises(RlabError, match="not solved within 100 states"):
        Solver(2, 2, most=100, sure=False).value()
    assert solver.value([4, 4]) == 0
    with pytest.raises(RlabError, match="move 0 cannot be made"):
        solver.value([4, 4, 0])
