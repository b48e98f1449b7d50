"""Search on real boards, with random games in the place of a network: a capture, the best move of 3x3."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlab.agents.go import search_player
from rlab.agents.go.analysis import Avoided
from rlab.agents.go.search_player import SearchPlayer
from rlab.agents.go.tree_game import GoGame, PositionBatch
from rlab.agents.search import Gumbel, Puct, search
from rlab.envs.go.boards import Boards, Setting, point_of

GAMES = 4


class RandomGames:
    """Values by random games from each position, drawn by its word of chance alone; all moves are as probable."""

    def __init__(self, setting: Setting):
        self.setting = setting

    def __call__(self, positions: PositionBatch, rows: Any, rng_keys: Any) -> Any:
        number, points = len(rows), self.setting.size**2
        boards = Boards(number * GAMES, self.setting, threads=1)
        boards.copy(np.arange(number * GAMES), positions.boards, np.repeat(rows, GAMES))
        with np.errstate(over="ignore"):
            boards.games.words[:, 2] = np.repeat(rng_keys, GAMES) + np.tile(np.arange(GAMES, dtype=np.uint64), number)
        sign = np.where(boards.turn == 1, 1, -1)
        boards.playout()
        values = (np.sign(boards.score()) * sign).reshape(number, GAMES).mean(1)
        return np.zeros((number, points + 1), np.float32), values.astype(np.float32)


def best_move(size: int, black: str, white: str, turn: int, rule: Any, visits: int, komi: float = 0.0) -> int:
    setting = Setting(size, komi, cap=3 * size * size)
    boards = Boards(1, setting)
    stones = np.zeros(size * size, np.uint8)
    stones[[point_of(name, size) for name in black.split()]] = 1
    stones[[point_of(name, size) for name in white.split()]] = 2
    boards.arrange(0, stones.reshape(size, size), turn)
    game = GoGame(setting, 8)
    found = search(game, boards, RandomGames(setting), np.array([visits]), np.array([7], np.uint64), rule, leaves=1)
    return int(found.action[0])


@pytest.mark.parametrize("rule", [Puct(), Gumbel(considered=26, scale=0.0)], ids=["puct", "gumbel"])
def test_it_takes_what_can_be_taken(rule: Any) -> None:
    # Four stones in the middle line have their last liberty at E3; whoever takes them has the board.
    outer, inner = "A4 B4 C4 D4 A2 B2 C2 D2", "A3 B3 C3 D3"
    assert best_move(5, outer, inner, 1, rule, 400, 15.0) == point_of("E3", 5)
    assert best_move(5, inner, outer, 2, rule, 400, -15.0) == point_of("E3", 5)


def test_the_first_move_of_three_by_three() -> None:
    """Solved: the centre wins everything, by 9; no other first move wins with this komi."""
    assert best_move(3, "", "", 1, Puct(), 4_000, 8.5) == point_of("B2", 3)


def chain_of(stones: np.ndarray, point: int) -> tuple[set[int], set[int]]:
    """Points and liberties of a chain."""
    n = len(stones)
    chain, todo, liberties = {point}, [point], set()
    while todo:
        y, x = divmod(todo.pop(), n)
        for row, col in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= row < n and 0 <= col < n:
                if not stones[row, col]:
                    liberties.add(row * n + col)
                elif stones[row, col] == stones[y, x] and row * n + col not in chain:
                    chain.add(row * n + col)
                    todo.append(row * n + col)
    return chain, liberties


class Looking:
    """Likes the liberties of chains that have few, and sees whether White's stone `prey` stands or is in atari now: no
    more, so that all reading is the search's."""

    def __init__(self, prey: int):
        self.prey = prey

    def __call__(self, positions: PositionBatch, rows: Any, rng_keys: Any) -> Any:
        boards, n = positions.boards, positions.boards.size
        stones, black = boards.stones(), boards.turn == 1
        logits, values = np.zeros((len(rows), n * n + 1), np.float32), np.zeros(len(rows), np.float32)
        for k, row in enumerate(rows):
            for p in np.flatnonzero(stones[row]):
                liberties = chain_of(stones[row], int(p))[1]
                if len(liberties) <= 2:
                    logits[k, list(liberties)] = 3
            there = stones[row].flat[self.prey] == 2
            left = len(chain_of(stones[row], self.prey)[1]) if there else 0
            value = {0: 1.0, 1: 0.5 if black[row] else 0.0, 2: 0.0}.get(left, -1.0)
            values[k] = value if black[row] else -value
        return logits, values


@pytest.mark.parametrize(
    ("white", "move"),
    [("G3 G4", "E4"), ("B5 F4", "E4"), ("F5 D7", "E4"), ("A3 C2", "D3"), ("C7 D1", "D3"), ("D2 G6", "D3")],
)
@pytest.mark.parametrize("rule", [Puct(), Gumbel(scale=0.0)], ids=["puct", "gumbel"])
def test_it_reads_ladders(white: str, move: str, rule: Any) -> None:
    """D4 is caught by one of two ataris; after the other one, more than ten moves later, White's stones are there."""
    size, prey = 7, point_of("D4", 7)
    boards = Boards(1, Setting(size, 9.5, cap=3 * size * size), threads=1)
    stones = np.zeros(size * size, np.uint8)
    stones[[point_of(name, size) for name in ("C3", "C4", "D5", "E5")]] = 1
    stones[[point_of(name, size) for name in ("D4", *white.split())]] = 2
    boards.arrange(0, stones.reshape(size, size), 1)
    found = search(
        GoGame(boards.setting, 8), boards, Looking(prey), np.array([400]), np.array([3], np.uint64), rule, leaves=1
    )
    assert found.action[0] == point_of(move, size)


def answers(player: SearchPlayer, visits: int = 100, stop: Any = lambda: False, avoided: Any = ()) -> list[Any]:
    boards = Boards(1, Setting(5, 0.5), threads=1)
    boards.play([7])
    return list(player.analyse(boards, 0, visits, stop, avoided))


def test_an_analysis_does_not_depend_on_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on how many positions are asked of at once, nor on how often it answers."""
    evaluator = RandomGames(Setting(5, 0.5))
    found = []
    for seconds in (1e-6, 10.0):
        monkeypatch.setattr(search_player, "POLL_SECONDS", seconds)
        monkeypatch.setattr(search_player, "ANSWER_SECONDS", seconds)
        found.append(answers(SearchPlayer("x", evaluator, 1)))
    slow, fast = found
    assert len(slow) > len(fast)
    assert slow[-1] == fast[-1]
    assert fast[-1].visits == 100


@pytest.mark.parametrize("polls", [0, 1, 3, 30])
def test_nothing_is_evaluated_after_a_stop(polls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_player, "POLL_SECONDS", 1e-9)  # so each position is asked of by itself
    asked, left, games = [0, 0], [polls], RandomGames(Setting(5, 0.5))

    def evaluate(positions: Any, rows: Any, keys: Any) -> Any:
        asked[left[0] < 0] += len(rows)
        return games(positions, rows, keys)

    def stop() -> bool:
        left[0] -= 1
        return left[0] < 0

    found = answers(SearchPlayer("x", evaluate, 1), 1_000, stop)
    assert found
    assert found[-1].candidates
    assert asked[1] == 0
    assert asked[0] <= polls + 1


def test_moves_are_left_out_as_deep_as_asked() -> None:
    player = SearchPlayer("x", RandomGames(Setting(5, 0.5)), 1)
    own = answers(player, avoided=[Avoided(2, frozenset(range(20)), 1)])[-1]
    assert {c.point for c in own.candidates} <= set(range(20, 26))
    both = answers(player, 200, avoided=[Avoided(c, frozenset(range(20)), 9) for c in (1, 2)])[-1]
    assert {point for c in both.candidates for point in c.variation} <= set(range(20, 26))
    assert any(len(c.variation) > 1 for c in both.candidates)
