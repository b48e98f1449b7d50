"""The engine behind protocol and board: moves of any colour, undo, answers, dead stones; a game judged."""

from __future__ import annotations

import numpy as np
import pytest

from rlab.agents.go.analysis import last_of, never
from rlab.agents.go.engine import Engine, chains, judge, score_text
from rlab.agents.go.rollouts import Rollouts, rollouts_named
from rlab.envs.go.boards import Boards, Setting, point_of
from rlab.envs.go.players import PLAYERS, RESIGN
from rlab.envs.go.sgf import parse_sgf, replay, write_sgf
from rlab.errors import RlabError
from tests.agents.go.helpers import Mover, Planned


def at(*names: str, size: int = 5) -> list[int]:
    return [point_of(name, size) for name in names]


def engine(size: int = 5, komi: float = 0.0, player: Planned | None = None, **settings: float) -> Engine:
    return Engine(player or Planned(at("C3", "B2", size=size)), Setting(size, komi), **settings)  # type: ignore[arg-type]


def test_moves_of_one_colour_in_a_row_and_undo() -> None:
    game = engine()
    for point in at("A1", "B1", "C1"):
        game.play(1, point)
    assert game.boards.stones()[0, 4].tolist() == [1, 1, 1, 0, 0]
    assert game.turn == 2
    game.undo(2)
    assert game.boards.stones()[0, 4].tolist() == [1, 0, 0, 0, 0]
    with pytest.raises(RlabError, match="1 moves were made, so 2 cannot"):
        game.undo(2)


def test_a_game_goes_on_after_two_passes() -> None:
    game = engine()
    game.play(1, 25)
    assert not game.over
    game.play(2, 25)
    assert game.over
    game.play(1, at("C3")[0])
    assert not game.over
    assert game.boards.stones()[0, 2, 2] == 1
    game.undo()
    assert game.over


def test_an_illegal_move_changes_nothing_and_says_why() -> None:
    game = engine()
    game.play(1, at("C3")[0])
    before = game.boards.words.tolist()
    with pytest.raises(RlabError, match="white cannot play C3: there is a stone on C3"):
        game.play(2, at("C3")[0])
    assert game.boards.words.tolist() == before
    assert len(game.moves) == 1


def test_superko_holds_whatever_is_passed_between() -> None:
    game = engine()
    stones = ".....  .XO..  XO.O.  .XO..  .....".replace(" ", "")
    game.arrange([".XO".index(c) for c in stones], 1)
    game.play(1, at("C3")[0])  # takes the stone on B3
    for passes in ((), (2,), (2, 1)):
        for colour in passes:
            game.play(colour, 25)
        with pytest.raises(RlabError, match="a white stone on B3 would repeat a position: superko"):
            game.play(2, at("B3")[0])
    assert game.over
    game.undo(2)
    game.play(2, at("A1")[0])
    game.play(1, at("E1")[0])
    game.play(2, at("B3")[0])  # now the position is another one
    assert game.boards.stones()[0, 2].tolist() == [1, 2, 0, 2, 0]


def test_a_long_game_gets_a_larger_cap() -> None:
    game = Engine(Mover([]), Setting(2, 0, cap=12))
    for n in range(40):
        game.play(1 + n % 2, 4)  # passes alone do not fill it
    assert game.boards.made[0] == 2
    other = Engine(Mover([]), Setting(5, 0, cap=6))
    for point in range(20):
        other.play(1, point)
    assert other.boards.stones()[0].ravel()[:20].tolist() == [1] * 20
    assert other.setting.cap > 20
    other.clear()
    assert other.setting.cap == 6


def test_a_move_for_either_colour() -> None:
    game = engine()
    assert game.choose(2) == at("C3")[0]  # Black passes for this; nothing is played
    assert game.moves == []
    game.play(1, at("C3")[0])
    assert game.choose(1) == at("B2")[0]


def test_being_asked_out_of_turn_is_no_pass_of_the_other() -> None:
    """Else a pass would end the game, which whoever leads would do at once."""
    game = engine(komi=-1)  # Black leads
    game.play(1, at("C3")[0])
    boards = game.board_of(1)
    boards.play([25])
    assert not boards.over[0]
    assert not game.boards.over[0]


def test_visits_resignation_and_what_is_told() -> None:
    player = Planned(at("C3"), winrate=0.04)
    game = Engine(player, Setting(5, 0), resign=0.05)
    assert game.choose(1) == at("C3")[0]  # without an analysis nothing is known
    assert game.choose(1, visits=7) == RESIGN
    told: list[int] = []
    game.choose(1, on_analysis=lambda analysis: told.append(analysis.visits))
    assert told == [1, 2, 3]
    assert player.asked == [7, 3]
    game.choose(1, visits=9, stop=lambda: True)
    assert Engine(player, Setting(5, 0), visits=11).choose(1) == at("C3")[0]
    assert player.asked[-1] == 11


def test_a_player_without_analysis_gives_its_move() -> None:
    game = Engine(Mover(at("C3")), Setting(5, 0))
    assert game.choose(1, visits=50) == at("C3")[0]
    assert game.dead() == []
    with pytest.raises(RlabError, match="planned gives moves, but no analysis"):
        game.analyse(1, 10)


def test_a_move_that_is_not_legal_is_the_players_fault() -> None:
    class Wrong(Mover):
        def choose(self, boards: Boards, rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
            return np.array([0])

    game = Engine(Wrong([]), Setting(5, 0))
    game.play(1, 0)
    with pytest.raises(RlabError, match="planned chose 0, which is not legal: there is a stone on A5"):
        game.choose(2)


def test_a_player_for_some_sizes_only() -> None:
    player = Planned([])
    player.sizes = (5, 7)  # type: ignore[attr-defined]
    assert Engine(player).size == 7
    with pytest.raises(RlabError, match="planned plays on boards of 5, 7, not of 9"):
        Engine(player, Setting(9))


def test_dead_stones_are_taken_off_before_counting() -> None:
    """A wall of Black's at the third line, White's behind it, one stone of White's lost on Black's side."""
    black = np.array([[1, 1, 1, -1, -1]] * 5, float)
    game = engine(komi=0.5, player=Planned([], black=black))
    for row in "12345":
        game.play(1, at(f"C{row}")[0])
        game.play(2, at(f"D{row}")[0])
    lost = at("A1")[0]
    game.play(1, 25)
    game.play(2, lost)
    assert game.score() == 5 - 11 - 0.5  # A and B touch both colours
    assert game.dead() == [[lost]]
    assert game.score(game.dead()) == 15 - 10 - 0.5
    assert [len(c) for c in chains(game.boards.stones()[0])] == [5, 5, 1]


def test_scores_in_words() -> None:
    assert [score_text(s) for s in (3.5, -2.0, 0.0)] == ["B+3.5", "W+2", "0"]


def test_a_game_as_a_record_and_back() -> None:
    game = engine(komi=-3.5)
    game.change(Setting(5, -3.5, "simple"))
    game.arrange([1] + 23 * [0] + [1], 2, handicap=2)
    for colour, name in ((2, "C3"), (1, "B2"), (1, "D4"), (2, "pass")):
        game.play(colour, at(name)[0])
    text = write_sgf(game.record(black="a", result="W+R"))
    record = parse_sgf(text)
    assert (record.black, record.result, record.handicap, record.komi) == ("a", "W+R", 2, -3.5)
    other = engine()
    other.load(record)
    assert other.setting == game.setting
    assert other.moves == game.moves
    assert other.boards.words.tolist() == game.boards.words.tolist() == replay(record).words.tolist()
    other.load(record, 1)
    assert other.moves == game.moves[:1]
    with pytest.raises(RlabError, match="move 1 at A5 is not legal"):
        other.load(parse_sgf("(;SZ[5]AB[aa];W[aa])"))
    assert other.moves == game.moves[:1]


def test_a_game_is_judged_move_by_move() -> None:
    """A player who always says 60 %: every move leads from 60 to 40 %, but for its own choice nothing is lost."""
    c3, b2, a1 = at("C3", "B2", "A1")
    game = engine(player=Planned([c3, b2]))
    for colour, point in ((1, c3), (2, a1), (2, b2)):
        game.play(colour, point)
    found = list(judge(game, 5))
    assert [(m.number, m.colour, m.point, m.best) for m in found] == [(1, 1, c3, c3), (2, 2, a1, b2), (3, 2, b2, b2)]
    assert [round(m.before, 6) for m in found] == [0.6] * 3
    assert [round(m.after, 6) for m in found] == [0.4] * 3
    assert [round(m.loss, 6) for m in found] == [0, 0.2, 0]
    assert [m.score_after for m in found] == [-1.5] * 3
    assert len(game.moves) == 3
    assert list(judge(game, 5, lambda: True)) == []


# ---- The analyst that needs no network.


def test_rollouts_take_what_decides_the_game() -> None:
    """Black to move takes a row of four, or is taken himself."""
    game = Engine(Rollouts(300), Setting(5, 10.5))
    stones = "XXXXX O.OOO XXXXX ..... .....".replace(" ", "")
    game.arrange([".XO".index(c) for c in stones], 1)
    take = at("B4")[0]
    found = last_of(game.analyse(1, 300))
    assert found.candidates[0].point == take
    assert found.visits == 300 == sum(c.visits for c in found.candidates)
    assert game.choose(1) == take
    assert found.winrate == pytest.approx(sum(c.visits * c.winrate for c in found.candidates) / 300)
    assert found.ownership is not None
    assert found.ownership.shape == (5, 5)
    assert found.ownership.sum() > 0


def test_rollouts_are_the_same_again_and_alter_nothing() -> None:
    boards = Boards(3, Setting(5), threads=1)
    boards.play([12, 0, 24])
    before = [a.copy() for a in boards.games]
    rows, keys = np.array([0, 2]), np.array([7, 9], np.uint64)
    both = Rollouts(60).choose(boards, rows, keys)
    assert both.tolist() == Rollouts(60).choose(boards, rows, keys).tolist()
    assert both[1] == Rollouts(60).choose(boards, rows[1:], keys[1:])[0]
    player = Rollouts(60)
    first, second = (last_of(player.analyse(boards, 0, 80, never)) for _ in range(2))
    assert [c.visits for c in first.candidates] == [c.visits for c in second.candidates]
    for a, b in zip(before, boards.games, strict=True):
        assert (a == b).all()


def test_few_rollouts_favour_no_corner() -> None:
    boards = Boards(1, Setting(9), threads=1)
    keys = np.arange(1, 41, dtype=np.uint64)
    moves = {int(Rollouts(1).choose(boards, np.array([0]), keys[k : k + 1])[0]) for k in range(40)}
    assert len(moves) > 20


def test_two_analyses_at_once_do_not_disturb_each_other() -> None:
    boards, player = Boards(1, Setting(5), threads=1), Rollouts(60)
    alone = last_of(player.analyse(boards, 0, 4_000, never))
    turns = zip(player.analyse(boards, 0, 4_000, never), player.analyse(boards, 0, 4_000, never), strict=True)
    for one, other in turns:
        assert one.winrate == other.winrate
    assert one.winrate == alone.winrate


def test_rollouts_stop_when_told_but_say_something() -> None:
    boards = Boards(1, Setting(5), threads=1)
    assert len(list(Rollouts().analyse(boards, 0, 100_000, lambda: True))) == 1


def test_rollouts_end_a_game_that_is_won() -> None:
    game = Engine(Rollouts(200), Setting(5, -0.5))
    game.play(1, at("C3")[0])
    game.play(2, 25)
    assert game.choose(1) == 25


def test_rollouts_by_name() -> None:
    assert rollouts_named("").name == "rollout:400"
    assert PLAYERS.get("rollout")("25").name == "rollout:25"
    for wrong in ("0", "x", "-1", "9" * 12, "2000000"):
        with pytest.raises(RlabError, match="random games"):
            rollouts_named(wrong)
