from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlab.agents.go.arena import Finished, Pairing, ThinkingTime, key_of, play_games
from rlab.agents.go.openings import make_openings
from rlab.agents.go.players import find_player
from rlab.envs.go.boards import Boards, Setting
from rlab.envs.go.gtp_client import Program
from rlab.envs.go.players import RESIGN, RandomPlayer
from rlab.errors import RlabError
from rlab.run.contract import Stop
from tests.envs.go.programs import dummy

FIVE = Setting(5, 2.5)


class Scripted:
    """Plays as a random player, but at its nth move something else."""

    def __init__(self, name: str, nth: int, move: int):
        self.name, self.nth, self.move = name, nth, move
        self.inner = RandomPlayer()

    def choose(self, boards: Boards, rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
        moves = self.inner.choose(boards, rows, keys)
        return np.where(boards.made[rows] // 2 == self.nth, self.move, moves)

    def close(self) -> None:
        pass


def pairings(number: int, opening: tuple[int, ...] = ()) -> list[Pairing]:
    return [Pairing("a", "b", n, opening) for n in range(number)]


def played(players, games, setting=FIVE, **options) -> dict[int, Finished]:
    found: dict[int, Finished] = {}

    def done(games) -> bool:
        for game in games:
            assert game.pairing.number not in found
            found[game.pairing.number] = game
        return False

    play_games(players, games, setting, done=done, **options)
    return found


def test_a_game_depends_on_its_key_and_not_on_what_is_played_beside_it() -> None:
    players = {"a": RandomPlayer(), "b": RandomPlayer()}
    together = played(players, pairings(12), at_once=12)
    assert played(players, pairings(12), at_once=5) == together
    assert played(players, pairings(12)[7:9], at_once=1) == {n: together[n] for n in (7, 8)}
    assert len({game.moves for game in together.values()}) == 12
    assert played(players, pairings(12), at_once=12, seed=1) != together
    assert key_of(0, Pairing("a", "b", 1)) != key_of(0, Pairing("a", "b", 2)) != key_of(0, Pairing("a", "c", 2))


def test_colours_alternate_and_the_board_decides() -> None:
    games = played({"a": RandomPlayer(), "b": RandomPlayer()}, pairings(6, (12, 3)), at_once=4)
    for number, game in games.items():
        assert (game.pairing.black, game.pairing.white) == (("a", "b") if number % 2 == 0 else ("b", "a"))
        assert game.moves[:2] == (12, 3)
        assert game.moves[-2:] == (25, 25)
        boards = Boards(1, FIVE)
        for move in game.moves:
            boards.play([move])
        assert game.score == boards.score()[0]
        assert game.reason == "score"
        assert game.winner == (1 if game.score > 0 else 2)
        assert game.share == float((game.winner == 1) == (number % 2 == 0))
        assert game.result == f"{'BW'[game.winner - 1]}+{abs(game.score):g}"


def test_a_draw_and_a_game_that_is_cut() -> None:
    passing = Scripted("p", 0, 25)
    (game,) = played({"a": passing, "b": passing}, pairings(1), Setting(5, 0.0)).values()
    assert (game.winner, game.share, game.result, game.score) == (0, 0.5, "0", 0.0)
    players = {"a": RandomPlayer(), "b": RandomPlayer()}
    (game,) = played(players, pairings(1), Setting(5, 0.5, cap=6)).values()
    assert (len(game.moves), game.reason) == (6, "length")


@pytest.mark.parametrize(
    ("move", "reason", "result"), [(RESIGN, "resign", "W+R"), (12, "illegal", "W+F"), (26, "illegal", "W+F")]
)
def test_whoever_gives_up_or_breaks_a_rule_loses(move: int, reason: str, result: str) -> None:
    players = {"a": Scripted("a", 2, move), "b": RandomPlayer()}
    games = played(players, pairings(2, (12,)), at_once=2)
    assert games[0].reason == reason
    assert games[0].result == result
    assert games[0].share == games[1].share == 0
    assert games[0].score is None
    assert len(games[0].moves) == 4
    assert ("a played" in games[0].detail) == (reason == "illegal")


def test_a_program_that_fails_loses_and_the_others_go_on(tmp_path: Path) -> None:
    broken, good = (find_player(dummy(tmp_path, kind)) for kind in ("crash", "good"))
    assert isinstance(broken, Program)
    try:
        clock = ThinkingTime()
        games = played({"a": broken, "b": good}, pairings(4), at_once=4, clock=clock)
    finally:
        broken.close()
        good.close()
    assert [game.reason for game in games.values()] == ["crash"] * 4
    assert [game.share for game in games.values()] == [0.0] * 4
    assert "it hurts" in games[0].detail
    assert clock.moves["a"] == 2 * 2 + 2 * 2
    assert clock.seconds["a"] > 0


def test_what_no_restart_would_mend_stops_everything(tmp_path: Path) -> None:
    small = find_player(dummy(tmp_path, "small"))
    with pytest.raises(RlabError, match="unacceptable size"):
        played({"a": small, "b": RandomPlayer()}, pairings(2), Setting(6))
    small.close()


def test_stopping(tmp_path: Path) -> None:
    stop, ended = Stop(), []

    def done(games) -> bool:
        ended.extend(games)
        stop.request("enough")
        return False

    players = {"a": RandomPlayer(), "b": RandomPlayer()}
    play_games(players, pairings(50), FIVE, at_once=2, stop=stop, done=done)
    assert 1 <= len(ended) <= 2
    ended.clear()
    play_games(players, pairings(50), FIVE, at_once=2, done=lambda games: bool(ended.extend(games)) or len(ended) > 4)
    assert 5 <= len(ended) <= 6


@pytest.mark.parametrize(
    ("size", "moves", "number"), [(2, 1, 1), (3, 1, 3), (5, 1, 6), (7, 1, 6), (9, 1, 10), (9, 0, 1)]
)
def test_openings_are_all_that_symmetry_leaves(size: int, moves: int, number: int) -> None:
    """A corner of the board: on 5x5 6 points of 25; from 7x7 on without the first line, so on 9x9 10 of 49."""
    assert len(make_openings(Setting(size), 100, moves, 0)) == number


def test_openings_differ_and_more_begin_with_fewer() -> None:
    few, many = make_openings(Setting(9), 20, 3, 5), make_openings(Setting(9), 40, 3, 5)
    assert many[:20] == few
    assert make_openings(Setting(9), 20, 3, 6) != few
    seen = set()
    for opening in many:
        assert len(opening) == 3
        board = np.zeros((9, 9), np.int8)
        for n, move in enumerate(opening):
            assert 1 <= move // 9 <= 7
            assert 1 <= move % 9 <= 7
            board.flat[move] = 1 + n % 2
        views = [np.rot90(mirrored, k).tobytes() for mirrored in (board, board[:, ::-1]) for k in range(4)]
        assert not seen & set(views)
        seen |= set(views)


def test_an_opening_that_is_too_long() -> None:
    with pytest.raises(RlabError, match="an opening of 41 moves; on 9x9 it has 0 to 40"):
        make_openings(Setting(9), 1, 41, 0)
