"""The rules of Go: against a board of the letter of the rules, against counts that are known, and in the cases that are
told of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rlab.envs.go import rules as go
from rlab.envs.go.boards import KO, Boards, Setting, name_of, point_of
from rlab.errors import RlabError
from tests.envs.go import naive


def colours(picture: str) -> NDArray[np.uint8]:
    """A board of X, O and dots."""
    return np.array([[".XO".index(mark) for mark in row] for row in picture.split()], np.uint8)


def picture(boards: Boards, row: int = 0) -> str:
    return "\n".join("".join(".XO"[colour] for colour in line) for line in boards.stones()[row])


def begin(shown: str, turn: int = 1, **changes: object) -> Boards:
    stones = colours(shown)
    boards = Boards(1, Setting(len(stones), **changes))  # type: ignore[arg-type]
    boards.arrange(0, stones, turn)
    return boards


def play(boards: Boards, *names: str) -> Boards:
    for name in names:
        boards.play([point_of(name, boards.size)])
    return boards


def may(boards: Boards, name: str) -> bool:
    return bool(boards.legal()[0, point_of(name, boards.size)])


@settings(max_examples=60, deadline=None)
@given(size=st.integers(2, 6), ko=st.sampled_from(sorted(KO)), suicide=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_a_game_is_that_of_the_letter_of_the_rules(size: int, ko: str, suicide: bool, seed: int) -> None:
    chance = np.random.default_rng(seed)
    boards = Boards(1, Setting(size, ko=ko, suicide=suicide, cap=4 * size * size))
    slow = naive.Game(size, ko, suicide)
    while not boards.over[0]:
        legal = boards.legal()[0]
        assert legal.tolist() == [slow.legal(point) for point in range(size * size + 1)]
        places = np.flatnonzero(legal[:-1])
        point = int(chance.choice(places)) if len(places) and chance.random() < 0.95 else size * size
        boards.play([point])
        slow.play(point)
        assert tuple(boards.stones().ravel().tolist()) == slow.position
        assert boards.score()[0] == naive.score(slow.position, size) - 7.0
        assert boards.turn[0] == slow.turn


@pytest.mark.parametrize(("size", "suicide"), [(9, False), (9, True), (19, False)])
def test_last_liberties_are_known_as_such(size: int, suicide: bool) -> None:
    """What `legal` looks at alone: a chain that it did not know to have one liberty could not be taken."""
    setting = Setting(size, suicide=suicide, cap=2 * size * size)
    boards = Boards(1, setting, seed=3)
    boards.playout()
    moves = boards.moves(0)
    boards.clear()
    tense = 0
    for k, move in enumerate(moves):
        boards.play([move])
        if k % 7:
            continue
        stones = tuple(boards.stones().ravel().tolist())
        last: set[int] = set()
        todo = {p for p in range(size * size) if stones[p]}
        while todo:
            chain = naive.reached(stones, size, min(todo))[0]
            todo -= chain
            free = {there for p in chain for there in naive.neighbours(p, size) if not stones[there]}
            last |= free if len(free) == 1 else set()
        found = {p for p in range(size * size) if is_tense(boards, p)}
        assert last <= found
        assert not any(stones[p] for p in found)
        tense += len(last)
    assert tense > size


def is_tense(boards: Boards, point: int) -> bool:
    cell = int(boards.rules.numbers[1, point])
    return bool(int(boards.games.words[0, go.TENSE + cell // 64]) >> cell % 64 & 1)


@pytest.mark.parametrize(("size", "number"), [(1, 1), (2, 57), (3, 12_675)])
def test_number_of_legal_positions(size: int, number: int) -> None:
    """Tromp & Farneback 2007, "Combinatorics of Go", table 1; a board of one point is not played on here."""
    if size == 1:
        with pytest.raises(RlabError, match="2 to 19 wide, not 1"):
            Setting(size)
        return
    assert legal_positions(size) == number


@pytest.mark.slow
def test_number_of_legal_positions_of_4x4() -> None:
    assert legal_positions(4) == 24_318_165


def legal_positions(size: int) -> int:
    boards = Boards(1, Setting(size))
    found = np.zeros(1, np.int64)
    count_positions(*boards.games, *boards.rules, np.zeros(size * size, np.uint8), found)
    return int(found[0])


@go.jit
def count_positions(s, w, q, m, r, z, stones, found):  # type: ignore[no-untyped-def]
    while True:
        found[0] += go.arrange(s, w, q, m, r, z, 0, stones, go.BLACK)
        p = 0
        while p < len(stones) and stones[p] == go.WHITE:
            stones[p] = go.EMPTY
            p += 1
        if p == len(stones):
            return
        stones[p] += 1


def test_ko() -> None:
    shown = """
        .XO..
        XO.O.
        .XO..
        .....
        ....."""
    for ko in KO:
        boards = play(begin(shown, ko=ko), "C4")
        assert picture(boards).split()[1] == "X.XO."
        assert not may(boards, "B4")
        with pytest.raises(RlabError, match=r"game 0: .*B4.*ko"):
            play(boards, "B4")
        play(boards, "E1", "A1")
        assert may(boards, "B4"), "there is another stone on the board now"
        assert may(play(boards, "B4", "D1", "pass"), "C4")


def test_snapback() -> None:
    """What took one stone is taken with all its chain, on the point where that stone stood: this is no ko."""
    shown = """
        XO..X
        XOOOX
        XXXXX
        .....
        ....."""
    for ko in KO:
        boards = play(begin(shown, ko=ko), "C5", "D5")
        assert picture(boards).split()[:2] == ["XO.OX", "XOOOX"]
        play(boards, "C5")
        assert picture(boards).split()[:2] == ["X.X.X", "X...X"]


def test_send_two_return_one() -> None:
    """White sends two stones and takes one: the position of before, but it is Black's turn then."""
    shown = """
        .O.O.
        XXO..
        .....
        .....
        ....."""
    for ko in KO:
        boards = play(begin(shown, turn=2, ko=ko), "A5", "C5")
        assert picture(boards).split()[0] == "..XO."
        assert may(boards, "B5") == (ko != "positional")
    with pytest.raises(RlabError, match="a white stone on B5 would repeat a position: superko"):
        play(play(begin(shown, turn=2), "A5", "C5"), "B5")
    for ko in ("situational", "simple"):
        boards = play(begin(shown, turn=2, ko=ko), "A5", "C5", "B5")
        assert (boards.stones()[0] == colours(shown)).all()
        play(boards, "E1", "A5", "C5")
        assert may(boards, "B5") == (ko != "positional"), "E1 is new"
        boards = play(begin(shown, turn=2, ko=ko), "A5", "C5", "B5", "pass")
        assert may(boards, "A5") == (ko == "simple"), "with two stones there it was Black's turn before, too"


@pytest.mark.parametrize(
    ("shown", "turn", "cycle"),
    [
        pytest.param(
            """
            XO.O.XO.O
            .XO...XO.
            .........
            .........
            .........
            .........
            .........
            .XO......
            X.XO.....""",
            1,
            ["C9", "B1", "H9", "B9", "C1", "G9"],
            id="triple ko",
        ),
        pytest.param(
            """
            OXX.X
            .X.XO
            XXXXO
            OO.O.
            OOOOX""",
            1,
            ["E2", "E3", "E1", "E4"],
            id="eternal life",
        ),
    ],
)
def test_long_cycles(shown: str, turn: int, cycle: list[str]) -> None:
    for ko in KO:
        boards = play(begin(shown, turn, ko=ko), *cycle[:-1])
        assert may(boards, cycle[-1]) == (ko == "simple")
    boards = begin(shown, turn, ko="simple")
    for _ in range(3):
        play(boards, *cycle)
        assert (boards.stones()[0] == colours(shown)).all()
        assert boards.turn[0] == turn


def test_several_stones_of_suicide() -> None:
    shown = """
        .XO..
        XXO..
        OOO..
        .....
        ....."""
    assert not may(begin(shown), "A5")
    boards = begin(shown, suicide=True)
    assert may(boards, "A5")
    play(boards, "A5")
    assert picture(boards).split()[:3] == ["..O..", "..O..", "OOO.."]
    assert boards.turn[0] == 2
    with pytest.raises(RlabError, match=r"A5.*no liberty: suicide"):
        play(begin(shown), "A5")


def test_suicide_of_one_stone_repeats_the_position() -> None:
    shown = """
        .O.
        O..
        ..."""
    assert not may(begin(shown, suicide=True), "A3")
    assert may(begin(shown, suicide=True, ko="situational"), "A3"), "it is White's turn then, which it was not"
    assert may(begin(shown, suicide=True, ko="simple"), "A3")


@settings(max_examples=30, deadline=None)
@given(size=st.integers(2, 9), seed=st.integers(0, 2**31), ko=st.sampled_from(sorted(KO)), suicide=st.booleans())
def test_undo_and_copy_are_exact(size: int, seed: int, ko: str, suicide: bool) -> None:
    setting = Setting(size, ko=ko, suicide=suicide)
    played = Boards(1, setting, seed=seed)
    played.playout()
    moves = played.moves(0)
    cut = seed % len(moves)
    again = Boards(2, setting)
    for point in moves[:cut]:
        again.play([point, -1])
    played.undo(0, len(moves) - cut)
    again.copy([1], played, [0])
    assert again.words[0].tolist() == played.words[0].tolist() == again.words[1].tolist()
    assert again.moves(0) == again.moves(1) == played.moves(0) == moves[:cut]
    for point in moves[cut:]:
        assert (again.legal()[0] == again.legal()[1]).all()
        assert (again.legal()[0] == played.legal()[0]).all()
        again.play([point, point])
        played.play([point])
    assert again.over.all()
    assert played.over.all()


@settings(max_examples=30, deadline=None)
@given(size=st.integers(2, 9), seed=st.integers(0, 2**31), turned=st.integers(0, 3), flipped=st.booleans())
def test_turned_boards_are_the_same_game(size: int, seed: int, turned: int, flipped: bool) -> None:
    chance = np.random.default_rng(seed)
    boards = Boards(2, Setting(size))

    def moved(grid: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.rot90(np.fliplr(grid) if flipped else grid, turned)

    place = moved(np.arange(size * size).reshape(size, size)).ravel()
    where = np.append(np.argsort(place), size * size)
    while not boards.over[0]:
        legal = boards.legal()
        assert (moved(legal[0, :-1].reshape(size, size)).ravel() == legal[1, :-1]).all()
        point = int(chance.choice(np.flatnonzero(legal[0])))
        boards.play([point, where[point]])
        owners, scores = boards.owners()
        assert (moved(boards.stones()[0]) == boards.stones()[1]).all()
        assert (moved(owners[0]) == owners[1]).all()
        assert scores[0] == scores[1]


def test_rows_and_threads_do_not_change_a_game() -> None:
    alone, many, threads = (Boards(n, Setting(7), seed=5, threads=k) for n, k in ((1, 1), (300, 1), (300, 4)))
    assert many.playout() == threads.playout() > 300 * 40
    alone.playout()
    assert alone.moves(0) == many.moves(0)
    assert (many.words == threads.words).all()
    assert (many.score() == threads.score()).all()
    threads.close()


def test_moves_by_chance_are_all_as_probable() -> None:
    boards = Boards(20_000, Setting(3), seed=1)
    boards.playout()
    first = np.bincount(boards.games.moves[:, 0], minlength=10)
    assert abs(first - 2_000).max() < 5 * np.sqrt(2_000 * 0.9)


def test_names_of_points() -> None:
    assert [name_of(p, 9) for p in (0, 8, 80, 72, 81)] == ["A9", "J9", "J1", "A1", "pass"]
    for size in (2, 9, 19):
        assert [point_of(name_of(p, size).lower(), size) for p in range(size * size + 1)] == list(
            range(size * size + 1)
        )
    for wrong in ("I5", "A0", "A10", "", "5", "K1", "A-1", "A٣", "A1B"):
        with pytest.raises(RlabError, match="no point of a 9x9 board; A1 to J9"):
            point_of(wrong, 9)


def test_the_end_of_a_game() -> None:
    boards = play(Boards(1, Setting(5)), "C3", "pass", "pass")
    assert boards.over[0]
    assert not boards.legal().any()
    assert boards.score()[0] == 25 - 7
    with pytest.raises(RlabError, match="the game is over"):
        play(boards, "A1")
    boards.undo(0)
    assert not boards.over[0]
    capped = play(Boards(1, Setting(5, cap=2)), "C3", "A1")
    assert capped.over[0]
    assert capped.score()[0] == -7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": 20}, "2 to 19 wide, not 20"),
        ({"ko": "positionel"}, "no ko rule 'positionel'.*positional"),
        ({"komi": 6.6}, "komi is 6.6"),
        ({"komi": float("nan")}, "komi is nan"),
        ({"cap": -1}, "1 to 30000 moves"),
    ],
)
def test_what_is_no_setting(changes: dict[str, object], said: str) -> None:
    with pytest.raises(RlabError, match=said):
        Setting(**changes)  # type: ignore[arg-type]


def test_what_is_refused() -> None:
    boards = Boards(2, Setting(5))
    with pytest.raises(RlabError, match="game 1: 26 is no point of a 5x5 board"):
        boards.play([0, 26])
    with pytest.raises(RlabError, match="game 0: there is a stone on A5"):
        boards.play([0, 0])
    with pytest.raises(RlabError, match="2 games, and moves of shape"):
        boards.play([0])
    with pytest.raises(RlabError, match="cannot begin with a chain that has no liberty"):
        boards.arrange(0, np.ones((5, 5)), 1)
    assert not boards.stones()[0].any()
    with pytest.raises(RlabError, match="games are 0 to 1, not 2 to 2"):
        boards.clear([2])
    with pytest.raises(RlabError, match="cannot become games of"):
        boards.copy([0], Boards(1, Setting(5, komi=0.5)), [0])
    boards.play([3, -1])
    with pytest.raises(RlabError, match="0 moves were made, so 1"):
        boards.undo(1)


@pytest.mark.parametrize("ko", ["positional", "simple"])
def test_one_board_steps_as_many_do(ko: str) -> None:
    setting, chance = Setting(4, 0.5, ko), np.random.default_rng(1)
    one, many = (Boards(1, setting, threads=1) for _ in range(2))
    for _ in range(20):
        one.clear()
        many.clear()
        legal = one.step(-1)
        while len(legal):
            assert legal.tolist() == np.flatnonzero(many.legal()[0]).tolist()
            move = chance.choice(legal)
            legal = one.step(move)
            many.play([move])
        assert many.over[0]
        assert one.words.tolist() == many.words.tolist()


def test_a_step_that_is_not_legal_says_why() -> None:
    boards = Boards(1, Setting(3), threads=1)
    boards.step(4)
    for move, why in ((4, "there is a stone on B2"), (10, "10 is no point"), (-2, "-2 is no point")):
        with pytest.raises(RlabError, match=why):
            boards.step(move)
    assert boards.made[0] == 1
    with pytest.raises(RlabError, match=r"step\(\) is for one game, not 2"):
        Boards(2, Setting(3)).step(0)
