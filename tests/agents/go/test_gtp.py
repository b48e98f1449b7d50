"""The protocol's server: what the specification says, by hand; whatever comes in is answered."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.agents.go.engine import Engine
from rlab.agents.go.gtp import (
    FIRST_VISITS,
    LAG_SECONDS,
    MOST_LINE,
    TIMED_VISITS,
    GtpClock,
    GtpInput,
    Server,
    handicap_points,
)
from rlab.agents.go.rollouts import Rollouts
from rlab.envs.go.boards import Setting, name_of, point_of
from rlab.envs.go.sgf import parse_sgf
from tests.agents.go.helpers import Mover, Planned
from tests.processes import LONGEST

REQUIRED = """protocol_version name version known_command list_commands quit boardsize clear_board komi play genmove
undo fixed_handicap place_free_handicap set_free_handicap time_settings time_left final_score final_status_list loadsgf
reg_genmove showboard lz-analyze kata-analyze genmove_analyze lz-genmove_analyze kata-set-rules kata-get-rules
kgs-time_settings printsgf set_position kata-set-param kata-get-param kata-list-params clear_cache kgs-rules
kata-time_settings kata-list_time_settings cputime"""
SOME = (
    """b w black pass d4 A1 e5 z9 3 5 19 -1 nan 0.5 1e9 true interval ownership maxmoves dead alive none byoyomi { }"""
)


class Client:
    """A server that is asked line by line."""

    def __init__(self, player: Planned | None = None, size: int = 5, **settings: float):
        player = player or Planned([point_of(n, size) for n in ("C3", "B2", "A1")])
        self.engine = Engine(player, Setting(size, 0.5), **settings)  # type: ignore[arg-type]
        self.said: list[str] = []
        self.server = Server(self.engine, "rlab planned", "1.2", write=self.said.append)

    def raw(self, line: str | bytes) -> str:
        self.said.clear()
        self.server.answer(line.encode() if isinstance(line, str) else line)
        return "".join(self.said)

    def ask(self, line: str) -> str:
        said = self.raw(line)
        assert said.startswith("=")
        assert said.endswith("\n\n")
        return said[1:].strip()

    def refused(self, line: str) -> str:
        said = self.raw(line)
        assert said.startswith("? ")
        assert said.endswith("\n\n")
        assert said.count("\n") == 2
        return said[2:].strip()


@pytest.fixture
def gtp() -> Client:
    return Client()


def test_answers_have_the_forms_of_the_specification(gtp: Client) -> None:
    assert gtp.raw("name\n") == "= rlab planned\n\n"
    assert gtp.raw("12 protocol_version") == "=12 2\n\n"
    assert gtp.raw("0 version # a comment") == "=0 1.2\n\n"
    assert gtp.raw("boardsize 7") == "=\n\n"
    assert gtp.raw("3 boardsize 7") == "=3\n\n"
    assert gtp.raw("nonsense").startswith("? unknown command")
    assert gtp.raw("99 nonsense").startswith("?99 unknown command")
    assert gtp.raw("17") == "?17 unknown command: there is none\n\n"


def test_lines_with_nothing_in_them_are_not_answered(gtp: Client) -> None:
    for line in ("", "\n", "   \t ", "# comment", "\r\n", "\x01\x02"):
        assert gtp.raw(line) == ""


def test_tabs_are_spaces_and_control_characters_nothing(gtp: Client) -> None:
    assert gtp.raw("5\tprotocol\x07_version\r\n") == "=5 2\n\n"


def test_required_commands_are_known_and_listed(gtp: Client) -> None:
    listed = gtp.ask("list_commands").split("\n")
    for name in REQUIRED.split():
        assert name in listed
        assert gtp.ask(f"known_command {name}") == "true"
    assert gtp.ask("known_command Quit") == "false"


def test_a_game(gtp: Client) -> None:
    gtp.ask("boardsize 5")
    gtp.ask("clear_board")
    gtp.ask("komi 0.5")
    gtp.ask("play B c3")
    assert gtp.ask("genmove white") == "B2"
    assert gtp.ask("reg_genmove b") == "A1"
    assert gtp.ask("showboard").split("\n") == [
        "A B C D E",
        " 5 . . . . . 5",
        " 4 . . . . . 4",
        " 3 . . X . . 3",
        " 2 .(O). . . 2",
        " 1 . . . . . 1",
        "   A B C D E",
        "black to move, 2 moves, komi 0.5",
    ]
    gtp.ask("undo")
    gtp.ask("undo")
    assert gtp.refused("undo") == "cannot undo: no move was made"
    assert gtp.engine.boards.stones().sum() == 0


def test_moves_need_not_alternate_nor_end_with_passes(gtp: Client) -> None:
    for move in ("b a1", "b b1", "w pass", "b pass", "w e5"):
        gtp.ask(f"play {move}")
    assert gtp.engine.boards.stones()[0].tolist()[4] == [1, 1, 0, 0, 0]
    assert gtp.ask("genmove b") == "C3"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("play b", "syntax error: it takes 2 arguments, not 1"),
        ("play x c3", "syntax error: 'x' is no colour"),
        ("play b z9", "syntax error: 'z9' is no point"),
        ("play b i5", "syntax error: 'i5' is no point"),
        ("play b c3", "illegal move: black cannot play C3: there is a stone on C3"),
        ("genmove", "syntax error"),
        ("boardsize 20", "unacceptable size: a Go board is 2 to 19 wide, not 20"),
        ("boardsize 1", "unacceptable size"),
        ("boardsize x", "syntax error: the size is 'x'"),
        ("boardsize 99999999999999999999", "syntax error"),
        ("komi nan", "syntax error: the komi is 'nan'"),
        ("komi 1e3", "syntax error"),
        ("komi 0.3", "komi is 0.3; it is a half or whole number"),
        ("fixed_handicap 2", "board not empty"),
        ("final_status_list none", "syntax error: 'none' is no status"),
        ("time_settings 1 2", "syntax error"),
        ("time_settings -1 0 0", "syntax error"),
        ("kgs-time_settings sometimes", "syntax error: none, absolute"),
        ("time_left b x 0", "syntax error"),
        ("loadsgf /nowhere/game.sgf", "cannot load file: there is no file '/nowhere/game.sgf'"),
        ("loadsgf game.sgf 0", "syntax error: the move number counts from 1"),
        ("kata-set-rules japanese", "there are no rules 'japanese', only such that count by area"),
        ("kata-set-rules {", "syntax error: the rules are no JSON"),
        ('kata-set-rules {"ko":"NONE"}', "there is no ko rule 'NONE'"),
        ('kata-set-rules {"scoring":"TERRITORY"}', "scoring can only be AREA"),
        ('kata-set-rules {"colour":1}', "syntax error: 'colour' is no part of rules"),
        ("lz-analyze b foo", "syntax error: 'foo' is no option"),
        ("lz-analyze allow b 1", "syntax error: allow COLOUR VERTEX,VERTEX,... DEPTH"),
        ("lz-analyze avoid b C9 1", "syntax error: 'C9' is no point"),
        ("lz-analyze b allow b C3 1", "no legal move of black is left"),
        ("set_position b c3 w", "syntax error: a position is COLOUR VERTEX"),
        ("set_position b c3 w c3", "illegal position: there are two stones on C3"),
        ("set_position b a1 w a2 w b1", "illegal position: the position has a chain without a liberty"),
        ("kgs-rules japanese", "there are no rules 'japanese' here, only such that count by area"),
        ("kata-get-param maxvisits", "there is no parameter 'maxvisits'; nearest: maxVisits"),
        ("kata-set-param maxVisits 1.5", "syntax error: maxVisits is '1.5'"),
        ("kata-set-param maxTime -1", "maxTime is -1; it is 0 to 1e+09"),
        ("kata-time_settings fischer 10", "syntax error: none, absolute MAIN, byoyomi"),
    ],
)
def test_what_is_wrong_is_said(gtp: Client, line: str, says: str) -> None:
    gtp.ask("play b c3")
    assert gtp.refused(line).startswith(says)
    assert gtp.engine.moves == [(1, 12)]
    assert gtp.engine.size == 5


def test_handicaps_stand_where_the_specification_has_them() -> None:
    def names(size: int, number: int) -> set[str]:
        return {name_of(p, size) for p in handicap_points(size)[number]}

    assert names(19, 2) == {"D4", "Q16"}
    assert names(19, 9) == {"D4", "Q4", "D16", "Q16", "K10", "D10", "Q10", "K4", "K16"}
    assert names(19, 5) == {"D4", "Q4", "D16", "Q16", "K10"}
    assert names(9, 4) == {"C3", "G7", "C7", "G3"}
    assert names(13, 6) == {"D4", "K10", "D10", "K4", "D7", "K7"}
    assert names(9, 8) - names(9, 6) == {"E3", "E7"}
    assert max(handicap_points(7)) == max(handicap_points(8)) == 4
    assert handicap_points(6) == {}


def test_handicap_commands() -> None:
    gtp = Client(size=9)
    assert set(gtp.ask("fixed_handicap 3").split()) == {"C3", "G7", "C7"}
    assert gtp.engine.turn == 2
    assert gtp.engine.boards.stones().sum() == 3
    gtp.ask("clear_board")
    assert gtp.refused("fixed_handicap 10").startswith("invalid number of stones: 10")
    assert len(gtp.ask("place_free_handicap 20").split()) == 9  # fewer may be placed
    gtp.ask("clear_board")
    assert gtp.refused("place_free_handicap 1").startswith("invalid number")
    for wrong in ("A1", "A1 A1", "A1 pass"):
        assert gtp.refused(f"set_free_handicap {wrong}").startswith("bad vertex list")
    gtp.ask("set_free_handicap A1 B2 C3")
    assert "HA[3]" in gtp.ask("printsgf")
    gtp.ask("play w e5")
    gtp.ask("undo")
    assert gtp.refused("set_free_handicap A1 B2") == "board not empty"


def test_the_end_of_a_game() -> None:
    """Black's wall on the third line, White's behind it, a white stone lost on Black's side."""
    lost = np.array([[1, 1, 1, -1, -1]] * 5, float)
    for player in (Planned([], black=lost), Mover([])):  # by its own analysis, or by random games
        gtp = Client(player)
        for row in "12345":
            gtp.ask(f"play b C{row}")
            gtp.ask(f"play w D{row}")
        gtp.ask("play w A1")
        assert gtp.ask("final_score") == "B+4.5"
        assert gtp.ask("final_status_list dead") == "A1"
        assert gtp.ask("final_status_list seki") == ""
        alive = gtp.ask("final_status_list alive").split("\n")
        assert {frozenset(chain.split()) for chain in alive} >= {frozenset({"C1", "C2", "C3", "C4", "C5"})}
        assert "A1" not in alive
    assert Client(Planned([])).ask("final_score") == "W+0.5"


def test_records_go_out_and_in(gtp: Client, tmp_path: Path) -> None:
    gtp.ask("kata-set-rules tromp-taylor")
    for move in ("b c3", "w pass", "b a1"):
        gtp.ask(f"play {move}")
    file = tmp_path / "é.sgf"
    gtp.ask(f"printsgf {file}")
    assert parse_sgf(gtp.ask("printsgf")) == parse_sgf(file.read_bytes())
    gtp.ask("clear_board")
    gtp.ask("kata-set-rules chinese")
    gtp.ask(f"loadsgf {file}")
    assert gtp.engine.moves == [(1, 12), (2, 25), (1, 20)]
    assert gtp.engine.setting.suicide
    gtp.ask(f"loadsgf {file} 2")  # the position before move 2
    assert gtp.engine.moves == [(1, 12)]
    assert gtp.refused(f"printsgf {tmp_path}/none/a.sgf").startswith("cannot write")


def test_a_record_goes_to_standard_output(gtp: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    gtp.ask("play b c3")
    gtp.engine.comments[1] = "one\n\ntwo"  # an empty line would end the answer
    assert gtp.ask("printsgf -") == gtp.ask("printsgf")
    assert parse_sgf(gtp.ask("printsgf -")).moves == ((1, 12),)
    assert not list(tmp_path.iterdir())


def test_a_position_is_set(gtp: Client) -> None:
    gtp.ask("play b a1")
    gtp.ask("set_position w C3 B D4 white e5")
    assert gtp.engine.boards.stones()[0].tolist() == [
        [0, 0, 0, 0, 2],
        [0, 0, 0, 1, 0],
        [0, 0, 2, 0, 0],
        [0] * 5,
        [0] * 5,
    ]
    assert (gtp.engine.turn, gtp.engine.moves) == (1, [])
    gtp.ask("set_position")
    assert not gtp.engine.boards.stones().any()


def test_parameters_have_katagos_names(gtp: Client) -> None:
    assert gtp.ask("kata-list-params").split() == ["maxVisits", "maxTime", "resignThreshold"]
    assert json.loads(gtp.ask("kata-get-params")) == {"maxVisits": 0, "maxTime": 1e9, "resignThreshold": -1}
    for name, value in (("maxVisits", "50"), ("maxTime", "2.5"), ("resignThreshold", "-0.9")):
        gtp.ask(f"kata-set-param {name} {value}")
        assert gtp.ask(f"kata-get-param {name}") == value
    assert gtp.engine.resign == pytest.approx(0.05)
    gtp.ask("genmove b")
    assert gtp.engine.player.asked == [50]
    assert gtp.ask("clear_cache") == ""
    assert float(gtp.ask("cputime")) > 0


def test_rules_by_kgs_names(gtp: Client) -> None:
    for name, ko, suicide in (("chinese", "positional", False), ("new_zealand", "situational", True)):
        gtp.ask(f"kgs-rules {name}")
        assert (gtp.engine.setting.ko, gtp.engine.setting.suicide) == (ko, suicide)


def test_a_ko_is_taken_back_after_two_passes(gtp: Client) -> None:
    gtp.ask("kata-set-rules chinese")
    for move in ("b c4", "w d4", "b b3", "w e3", "b c2", "w d2", "w c3", "b d3"):
        gtp.ask(f"play {move}")
    assert "ko" in gtp.refused("play w c3")
    gtp.ask("play w pass")
    gtp.ask("play b pass")
    assert gtp.ask("genmove w") == "C3"


def test_moves_are_avoided_or_allowed(gtp: Client) -> None:
    assert "move B2" in gtp.raw("lz-analyze b 0 avoid b C3,A1 1")
    assert "move A1" in gtp.raw("kata-analyze b avoid b C3 1 avoid b B2 1")
    assert "move pass" in gtp.raw("kata-analyze w allow w pass 1")
    assert "move C3" in gtp.raw("lz-analyze b avoid w C3 1")  # the other's
    assert gtp.raw("lz-genmove_analyze b 0 allow b A1,B2 2").endswith("play B2\n\n")
    rollouts = Client(Rollouts(60))  # type: ignore[arg-type]
    assert rollouts.raw("lz-genmove_analyze b 100 allow b A1 1").endswith("play A1\n\n")


def test_rules(gtp: Client) -> None:
    assert json.loads(gtp.ask("kata-get-rules")) | {"ko": "", "suicide": 0} == {
        "ko": "", "scoring": "AREA", "tax": "NONE", "suicide": 0, "hasButton": False, "whiteHandicapBonus": "0",
        "friendlyPassOk": False,
    }  # fmt: skip
    gtp.ask('kata-set-rules {"ko":"SIMPLE","suicide":true}')
    rules = json.loads(gtp.ask("kata-get-rules"))
    assert (rules["ko"], rules["suicide"]) == ("SIMPLE", True)
    gtp.ask(f"kata-set-rules {json.dumps(rules)}")
    gtp.ask("kata-set-rules aga")
    assert gtp.engine.setting.ko == "situational"
    gtp.ask("komi -3.5")
    assert gtp.ask("get_komi") == "-3.5"


def test_analysis_in_two_forms(gtp: Client) -> None:
    lz = gtp.raw("7 lz-analyze b 0")
    assert lz == "=7\ninfo move C3 visits 1 winrate 6000 prior 2500 lcb 6000 order 0 pv C3 pass\n\n"
    kata = gtp.raw("kata-analyze w interval 0 rootInfo true maxmoves 3").split("\n")
    assert kata == [
        "=",
        "info move C3 visits 1 winrate 0.600000 scoreMean 1.500 scoreLead 1.500 prior 0.250000 lcb 0.600000 order 0 "
        "pv C3 pass rootInfo visits 1 winrate 0.600000 scoreLead 1.500",
        "",
        "",
    ]
    assert gtp.engine.moves == []


def test_ownership_is_told_from_the_side_to_move() -> None:
    gtp = Client(Planned([12], black=np.array([[1.0] + 24 * [-0.5]]).reshape(5, 5)))
    assert gtp.raw("kata-analyze b ownership true").split("ownership ")[1].split()[:2] == ["1.000", "-0.500"]
    assert gtp.raw("kata-analyze w ownership true").split("ownership ")[1].split()[:2] == ["-1.000", "0.500"]


def test_genmove_with_analysis_plays(gtp: Client) -> None:
    said = gtp.raw("lz-genmove_analyze b 0").split("\n")
    assert said[0] == "="
    assert all(line.startswith("info move C3") for line in said[1:-3])
    assert said[-3:] == ["play C3", "", ""]
    assert gtp.engine.moves == [(1, 12)]
    assert "winrate 0.6" in gtp.raw("kata-genmove_analyze w 0")
    assert gtp.raw("genmove_analyze").endswith("play A1\n\n")


def test_gogui_draws_an_analysis(gtp: Client) -> None:
    for line in gtp.ask("gogui-analyze_commands").split("\n"):
        kind, _, command = line.split("/")
        assert (kind, gtp.ask(f"known_command {command.split()[0]}")) == ("gfx", "true")
    assert not gtp.engine.player.asked  # GoGui waits for it when it starts
    gtp.ask("play b C3")
    assert gtp.ask("rlab-moves").split("\n") == [
        "LABEL B2 100", "COLOR green B2", "TEXT White wins 60%, +1.5 points, 3 visits: B2 pass",
    ]  # fmt: skip
    gtp.ask("play w B2")
    gtp.ask("play b A1")
    assert gtp.ask("rlab-moves w") == "TEXT White wins 60%, +1.5 points, 3 visits: pass pass"  # no point to draw on
    black = np.linspace(-1, 1, 25).reshape(5, 5).round(2)
    gtp = Client(Planned([12], black=black))
    for move in ("play w D4", "play b C3"):  # Black's side, whoever is to move
        gtp.ask(move)
        drawn, text = gtp.ask("rlab-ownership").split("\n")
        said = drawn.split()
        assert said[:3] == ["INFLUENCE", "A5", "-1.00"]
        assert said[-2:] == ["E1", "1.00"]
        assert [float(v) for v in said[2::2]] == black.ravel().tolist()
        assert text == "TEXT Whose each point will be"
    gtp = Client(Rollouts(50), judge=50)  # type: ignore[arg-type]
    for stone in ("B5", "B4", "B3", "B2", "B1"):
        gtp.ask(f"play b {stone}")
    assert float(gtp.ask("rlab-ownership").split("A3 ")[1].split()[0]) > 0.8  # behind a wall
    gtp = Client(Planned([12]), judge=50)
    assert gtp.ask("rlab-ownership").endswith("by random games")


def test_without_an_analysis_its_commands_are_unknown() -> None:
    gtp = Client(Mover([12]))
    assert gtp.refused("lz-analyze b 10").startswith("unknown command")
    assert "lz-analyze" not in gtp.ask("list_commands")
    assert gtp.raw("lz-genmove_analyze b 10") == "= play C3\n\n"


def test_resignation() -> None:
    gtp = Client(Planned([12], winrate=0.01), visits=5, resign=0.05)
    assert gtp.ask("genmove b") == "resign"
    assert gtp.engine.moves == []


def test_a_failing_player_is_answered_with_a_sentence() -> None:
    class Broken(Mover):
        def choose(self, boards: object, rows: object, keys: object) -> np.ndarray:
            raise ZeroDivisionError("it broke\ntwice")

    assert Client(Broken([])).refused("genmove b") == "internal error: ZeroDivisionError: it broke?twice"


# ---- Time.


def test_no_clock_is_no_limit() -> None:
    assert GtpClock().allowance(1, 0, 81) is None
    gtp = Client()
    gtp.ask("time_settings 0 1 0")  # a period that need hold no stone
    assert not gtp.server.clock.limited
    gtp.ask("time_settings 60 0 0")
    assert gtp.server.clock.limited
    gtp.ask("kgs-time_settings none")
    assert not gtp.server.clock.limited


def test_a_clock_gives_shares() -> None:
    absolute = GtpClock(main=400)
    assert absolute.allowance(1, 0, 80) == pytest.approx(0.9 * 400 / 40)
    assert absolute.allowance(1, 70, 80) == pytest.approx(0.9 * 400 / 20)
    absolute.spend(1, 100)
    assert absolute.allowance(1, 0, 80) == pytest.approx(0.9 * 300 / 40)
    assert absolute.allowance(2, 0, 80) == pytest.approx(0.9 * 400 / 40)
    canadian = GtpClock(main=0, period=30, stones=3)
    assert canadian.allowance(1, 0, 80) == pytest.approx(9)
    canadian.spend(1, 20)
    assert canadian.allowance(1, 0, 80) == pytest.approx(0.9 * 10 / 2)
    canadian.spend(1, 1)
    canadian.spend(1, 1)
    assert canadian.allowance(1, 0, 80) == pytest.approx(9)  # a new period
    assert GtpClock(main=10).allowance(1, 500, 80) == pytest.approx(0.9 * 10 / 20)


def test_under_a_clock_an_analysis_chooses() -> None:
    player = Planned([12])
    gtp = Client(player)
    gtp.ask("time_settings 10 0 0")
    gtp.ask("time_left b 5 0")
    assert gtp.server.clock.left[1] == (5.0, 0)
    assert gtp.ask("genmove b") == "C3"
    assert player.asked == [FIRST_VISITS, TIMED_VISITS]  # compiled before the clock runs
    assert gtp.server.clock.left[1][0] < 5
    gtp.ask("kgs-time_settings byoyomi 0 30 5")
    assert gtp.server.clock.allowance(2, 0, 25) == pytest.approx(27)
    gtp.ask("time_left b 8 3")  # seconds of the period and periods that are left, as KGS has it
    assert gtp.server.clock.allowance(1, 0, 25) == pytest.approx(7.2)


@pytest.mark.parametrize("points", [25, 81, 169, 361])
@pytest.mark.parametrize("seconds", [0.2, 1.0, 2.0])
def test_a_reserve_is_kept_on_every_board(points: int, seconds: float) -> None:
    clocks = (
        GtpClock(period=seconds, stones=1),
        GtpClock(period=seconds, periods=3),
        GtpClock(main=seconds),
        GtpClock(main=seconds, increment=10.0),
        GtpClock(main=60.0, increment=5.0, most_move=seconds),
    )
    for clock in clocks:
        allowed = clock.allowance(1, 0, points)
        assert allowed is not None
        assert 0 < allowed <= max(seconds - LAG_SECONDS, seconds / 4) or clock.most_move == allowed == seconds


def test_byoyomi_counts_periods() -> None:
    clock = GtpClock(main=10, period=8, periods=3)
    for spent, left in ((4, (6, 0)), (7, (8, 3)), (7.9, (8, 3)), (9, (8, 2)), (40, (8, 1))):
        clock.spend(1, spent)
        assert clock.left[1] == left
    sudden = GtpClock(main=10, period=8, periods=3)
    sudden.spend(2, 19)  # the main time, a period and a second of the next
    assert sudden.left[2] == (8, 2)


def test_kinds_of_clocks_by_name(gtp: Client) -> None:
    kinds = gtp.ask("kata-list_time_settings").split()
    numbers = {"none": "", "absolute": "9", "byoyomi": "9 5 3", "canadian": "9 5 4", "fischer": "9 2.5",
               "fischer-capped": "9 2 12 -1"}  # fmt: skip
    assert set(kinds) == set(numbers)
    for kind, words in numbers.items():
        gtp.ask(f"kata-time_settings {kind} {words}")
    clock = gtp.server.clock
    clock.spend(1, 1)
    assert clock.left[1] == (10, 0)
    for _ in range(2):
        clock.spend(1, 0)
        assert clock.left[1] == (12, 0)
    gtp.ask("kata-time_settings byoyomi 9 5 3")
    assert (gtp.server.clock.periods, gtp.server.clock.stones) == (3, 0)


# ---- Lines.


def test_lines_are_cut_at_their_ends_only() -> None:
    pieces = [b"na", b"me\nver", b"sion\n\nquit", b"", b"not read"]
    assert list(GtpInput(iter(pieces).__next__)) == [b"name", b"version", b"", b"quit"]


def test_a_megabyte_is_refused_without_being_kept(gtp: Client) -> None:
    pieces = iter([b"7 play b ", *[b"a" * 65_536] * 16, b"\nname\n", b""])
    lines = list(GtpInput(pieces.__next__))
    assert [len(line) < 3 * MOST_LINE for line in lines] == [True, True]
    assert gtp.raw(lines[0]) == f"?7 a line has at most {MOST_LINE} bytes\n\n"
    assert gtp.raw(lines[1]) == "= rlab planned\n\n"


def test_an_analysis_ends_when_the_next_line_comes() -> None:
    """It goes on as long as nobody says anything, though all its visits are made."""
    pieces: queue.Queue[bytes] = queue.Queue()
    said: queue.Queue[str] = queue.Queue()
    lines = GtpInput(pieces.get)
    server = Server(Engine(Planned([12]), Setting(5)), write=said.put, waiting=lines.waiting)
    thread = threading.Thread(target=lambda: server.serve(iter(lines)))
    thread.start()
    pieces.put(b"1 lz-analyze b 0\n")
    heard = ""
    while "visits 3" not in heard:
        heard += said.get(timeout=LONGEST)
    assert said.empty()
    pieces.put(b"2 name\n3 quit\n4 name\n")
    thread.join(LONGEST)
    assert not thread.is_alive()
    rest = "".join(said.queue)
    assert rest == "\n=2 rlab\n\n=3\n\n"  # the empty line ends the analysis; nothing is answered after quit


def test_the_end_of_the_input_ends_an_analysis() -> None:
    server = Server(Engine(Planned([12]), Setting(5)), write=lambda text: None)
    pieces: Iterator[bytes] = iter([b"lz-analyze", b""])
    server.serve(iter(GtpInput(pieces.__next__)))


WORDS = st.one_of(
    st.sampled_from(SOME.split()),
    st.text(max_size=8),
    st.integers().map(str),
)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_every_line_gets_one_answer(data: st.DataObject) -> None:
    gtp = Client(Rollouts(2), judge=2)  # type: ignore[arg-type]
    apart = (
        "quit",
        "printsgf",
        *(c for c in gtp.ask("list_commands").split() if "time_settings" in c or "set-param" in c),
    )
    commands = [c for c in gtp.ask("list_commands").split() if c not in apart]
    for _ in range(6):
        command = data.draw(st.sampled_from(commands))
        words = [
            *data.draw(st.lists(st.integers(0, 99).map(str), max_size=1)),
            command,
            *data.draw(st.lists(WORDS, max_size=4)),
        ]
        line = " ".join(words).encode("utf-8", "surrogatepass").replace(b"\n", b"")
        said = gtp.raw(line)
        assert said[0] in "=?"
        assert said.endswith("\n\n")
        assert "internal error" not in said
        assert said.count("\n\n") == 1


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_get_an_answer_or_hold_none(line: bytes) -> None:
    gtp = Client(Mover([12]))
    said = gtp.raw(line.replace(b"\n", b" "))
    assert said == "" or (said[0] in "=?" and said.endswith("\n\n"))
    assert "internal error" not in said
