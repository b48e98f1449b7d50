"""Go at the command line: a game in the terminal, a record judged, an engine on pipes; as a stranger types."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlab.envs.go.sgf import parse_sgf
from rlab.run.folder import find_run, runs_dir
from tests.processes import LONGEST, Spawn

Verb = Callable[..., SimpleNamespace]


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def play(rlab: Verb, monkeypatch: pytest.MonkeyPatch) -> Verb:
    """``rlab play`` with lines on stdin."""

    def call(*words: str, lines: str = "") -> SimpleNamespace:
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        return rlab("play", *words)

    return call


def boards_in(text: str) -> list[str]:
    """Each board that was shown: its rows from the top, one letter a point."""
    rows = [line for line in text.splitlines() if line[:3].strip().isdigit()]
    size = max(int(row[:3]) for row in rows)
    letters = str.maketrans({"●": "X", "○": "O", "·": ".", "+": ".", "(": " ", ")": " "})
    cells = ["".join(row[3 : 3 + 2 * size + 1].translate(letters).split()) for row in rows]
    return ["/".join(cells[k : k + size]) for k in range(0, len(cells), size)]


def test_escape_sequences_of_names_are_text(play: Verb, rlab: Verb) -> None:
    shutil.copytree(find_run("go5").path, runs_dir() / (name := "a\x1b[2Jy"))
    Path("game.sgf").write_text("(;SZ[5]PB[\x1b[2J];B[cc])")
    for done in (
        play("go5", "--with", name, lines="quit\n"),
        rlab("tournament", name, "random", "--board", "5", "--games", "2"),
        rlab("analyze", name, "game.sgf", "--visits", "2"),
    ):
        assert done.status == 0, done.err
        assert "\x1b" not in done.out + done.err
        assert r"a\x1b[2Jy" in done.out


def test_a_game_against_a_player(play: Verb) -> None:
    done = play("go5", "--with", "rollout:30", lines="c3\nundo\nhint\nC3\nsave game.sgf\nscore\nresign\nquit\n")
    assert done.status == 0
    shown = boards_in(done.out)
    assert shown[0] == "/".join(["....."] * 5)
    assert shown[1].count("X") == shown[1].count("O") == 1
    assert shown[1].split("/")[2][2] == "X"
    assert shown[2] == shown[0]
    assert "in your place:" in done.out
    assert shown[3].count("a") == 1  # a hint's best move on the board
    assert "komi 24.5" in done.out  # what is fair on this board
    assert "win rate  black" in done.out
    assert "rollout:30 thought of" in done.out
    assert "W+R: white wins" in done.out
    record = parse_sgf(Path("game.sgf").read_bytes())
    assert record.moves[0] == (1, 12)
    assert len(record.moves) == 2
    assert (record.black, record.white, record.komi) == ("you", "rollout:30", 24.5)


def test_the_other_colour_waits_for_the_first_move(play: Verb) -> None:
    done = play("go5", "--with", "random", "--colour", "white", "--komi", "0.5", "--seed", "3", lines="quit\n")
    assert boards_in(done.out)[0].count("X") == 1
    assert "win rate" not in done.out  # this player says none
    assert (
        play("go5", "--with", "random", "--colour", "white", "--seed", "3").out.split("komi")[0]
        == (done.out.split("komi")[0])
    )


def test_two_passes_end_the_game(play: Verb) -> None:
    done = play("go5", "--with", "rollout:200", "--komi", "0.5", lines="pass\nc3\nscore\nhint\nresign\nundo\nc3\n")
    assert "W+0.5: white wins" in done.out
    assert "the game is over: W+0.5; undo takes it back" in done.out
    assert boards_in(done.out)[-1].count("X") == 1
    assert done.status == 0  # the end of the input is a way to leave


def test_what_is_mistyped_is_said_and_the_game_goes_on(play: Verb) -> None:
    lines = "z9\nc9\npasss\nc3 d3\nsave\nsave /no/where.sgf\nundo\nhelp\nc3\nc3\n\n\x00\né\n" + "x" * 20_000 + "\n"
    done = play("go5", "--with", "random", lines=lines)
    assert done.status == 0
    assert done.err == ""
    for said in (
        "'z9' is no point of a 5x5 board",
        "'c9' is no point",
        "'passs' is no move and no command; nearest: pass",
        "'c3 d3' is more than one word",
        "save what?",
        "cannot write under /no: No such file",
        "you have made no move yet",
        "take back your last move",
        "black cannot play C3: there is a stone on C3",
    ):
        assert said in done.out


def test_a_file_of_somebody_else_is_not_overwritten(play: Verb) -> None:
    Path("mine.sgf").write_text("mine")
    done = play("go5", "--with", "random", lines="save mine.sgf\nsave new.sgf\nc3\nsave new.sgf\n")
    assert "'mine.sgf' exists already" in done.out
    assert Path("mine.sgf").read_text() == "mine"
    assert len(parse_sgf(Path("new.sgf").read_bytes()).moves) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["go13"], "there is no trained player go13 here; say who plays: --with random, rollout:400, gnugo:10"),
        (["go9", "--with", "nobody"], "there is no player or run 'nobody'"),
        (["go30", "--with", "random"], "a Go board is 2 to 19 wide, not 30"),
        (["go9", "--size", "7", "--with", "random"], "go9 is a board of 9, and --size is 7"),
        (["chess", "--with", "random"], "'chess' is no board; rlab play go9 --with random"),
        (["go9", "--with", "random", "--colour", "red"], "--colour is 'red'; valid: black, white"),
        (["go9", "--with", "random", "--komi", "0.3"], "komi is 0.3"),
        (["go9", "--with", "random", "--visits", "-1"], "--visits is -1"),
        (["go9", "--with", "random", "--resign", "2"], "--resign is 2.0"),
    ],
)
def test_flags_that_cannot_be(play: Verb, words: list[str], says: str) -> None:
    done = play(*words)
    assert done.status == 1
    assert done.err.startswith(f"rlab: {says}")
    assert done.err.count("\n") == 1


def test_what_to_do_next_with_a_player_of_go_is_to_play(play: Verb, rlab: Verb) -> None:
    shutil.copytree(find_run("go5").path, runs_dir() / "Mine")
    for words in (["runs", "show", "Mine"], ["report", "Mine"], ["resume", "Mine"], ["watch", "go9"]):
        assert "rlab play" in rlab(*words).out, words
    assert "go9" in rlab("watch", "go9").out.split("rlab play")[1].splitlines()[0]
    done = play("Mine", lines="quit\n")  # as it is written
    assert "Mine is white" in done.out


def test_a_player_may_stand_in_the_place_of_the_board(play: Verb) -> None:
    assert boards_in(play("random", "--size", "7", lines="d4\n").out)[-1].count("X") == 1


# ---- A record judged.

GAME = "(;SZ[5]KM[0.5]PB[Kuro]PW[$x_1$]AB[aa][ba][ca][da][ea][ab]PL[W];W[cc];B[cb]C[well];W[dc];B[ee])"


def test_a_record_is_judged(rlab: Verb, rlab_json: Callable[..., dict[str, Any]]) -> None:
    Path("game.sgf").write_text(GAME)
    found = rlab_json("analyze", "rollout:50", "game.sgf", "--out", "there")
    assert [(m["number"], m["colour"], m["move"]) for m in found["moves"]] == [
        (1, "white", "C3"), (2, "black", "C4"), (3, "white", "D3"), (4, "black", "E1"),
    ]  # fmt: skip
    for m in found["moves"]:
        assert 0 <= m["before"] <= 1
        assert m["loss"] == (0 if m["best"] == m["move"] else max(0, m["before"] - m["after"]))
    assert found["moves"][0]["after"] == 1 - found["moves"][1]["before"]
    assert found["visits"] == 50
    record = parse_sgf(Path(found["sgf"]).read_bytes())
    assert record.moves == parse_sgf(GAME).moves
    assert record.comments[2].startswith("well\n[rollout:50] ")
    assert "Black C4: win rate" in record.comments[2]
    assert set(record.comments) == {1, 2, 3, 4}
    assert Path(found["png"]).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    shown = json.loads(re.findall(r'json">(.*?)</script>', Path(found["html"]).read_text())[0])["games"][0]
    black = [
        1 - found["moves"][0]["before"],
        *(m["after"] if m["number"] % 2 == 0 else 1 - m["after"] for m in found["moves"]),
    ]
    assert shown["rates"] == [round(rate, 4) for rate in black]
    assert shown["moves"][:2] == [[2, 12], [1, 7]]
    assert shown["start"] == "11111" + "1" + "0" * 19
    assert shown["notes"]["2"] == record.comments[2]

    done = rlab("analyze", "rollout:50", "game.sgf", "--threshold", "0.001")
    assert done.status == 0
    assert "judged by rollout:50, 50 visits a position" in done.out
    assert Path("game-analyzed.sgf").is_file()
    blunders = [m["number"] for m in found["moves"] if m["loss"] >= 0.001]  # the same again
    assert done.out.count(" blunder\n") == len(blunders)
    assert Path("game-analyzed.sgf").read_text().count("BLUNDER") == len(blunders)
    assert Path("game.sgf").read_text() == GAME


def test_a_judged_record_keeps_all_that_it_had(rlab_json: Callable[..., dict[str, Any]]) -> None:
    facts = "EV[a cup]BR[3d]WR[2d]XX[?]"
    Path("full.sgf").write_text(f"(;GM[1]SZ[5]KM[0.5]{facts}(;B[cc];W[bc](;B[dc])(;B[bb]C[or]))(;B[aa]))(;SZ[5];B[ee])")
    out = Path(rlab_json("analyze", "rollout:9", "full.sgf")["sgf"]).read_text().replace("\n", "")
    for kept in ("EV[a cup]", "BR[3d]", "WR[2d]", "XX[?]", "B[bb]C[or]", "(;B[aa])", "(;SZ[5];B[ee])"):
        assert kept in out
    assert out.count("[rollout:9") == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["random", "game.sgf"], "random gives moves, but no analysis"),
        (["rollout:9", "none.sgf"], "there is no file 'none.sgf'"),
        (["rollout:9", "bad.sgf"], "bad.sgf: this is no SGF"),
        (["rollout:9", "illegal.sgf"], "move 2 at A5 is not legal: there is a stone on A5"),
        (["rollout:9", "empty.sgf"], "empty.sgf holds no move"),
        (["nobody", "game.sgf"], "there is no player or run 'nobody'"),
        (["rollout:9", "game.sgf", "--threshold", "0"], "--threshold is 0.0"),
        (["rollout:9", "game.sgf", "--visits", "-3"], "--visits is -3"),
    ],
)
def test_what_cannot_be_judged(rlab: Verb, words: list[str], says: str) -> None:
    Path("game.sgf").write_text(GAME)
    Path("bad.sgf").write_text("(;SZ[5]")
    Path("illegal.sgf").write_text("(;SZ[5];B[aa];W[aa])")
    Path("empty.sgf").write_text("(;SZ[5])")
    done = rlab("analyze", *words)
    assert done.status == 1
    assert done.err.startswith(f"rlab: {says}")
    assert done.err.count("\n") == 1


# ---- The engine as another program sees it.


def test_an_engine_on_pipes(spawn: Spawn) -> None:
    """stdout holds the protocol alone; an analysis runs until the next line; the end of the input ends all."""
    child: Any = spawn(
        *(sys.executable, "-m", "rlab", "gtp", "rollout:20", "--size", "5", "--komi", "0.5"),
        stdin=subprocess.PIPE, text=False, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None

    def send(line: bytes) -> None:
        assert child.stdin is not None
        child.stdin.write(line)
        child.stdin.flush()

    send(b"name\r\n")
    assert child.stdout.readline() == b"= rlab rollout:20\n"
    child.stdout.readline()
    send(b"1 lz-analyze b 1\n")
    assert child.stdout.readline() == b"=1\n"
    for _ in range(3):
        assert child.stdout.readline().startswith(b"info move ")
    send(b"2 genmove b\n\xff\xfe\n")
    rest, errors = child.communicate(timeout=LONGEST)
    assert child.returncode == 0
    assert errors == b""
    *_, end, answer, _, last, _, _ = rest.split(b"\n")
    assert end == b""
    assert answer.startswith(b"=2 ")
    assert last.startswith(b"? unknown command")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nobody"], "there is no player or run 'nobody'"),
        (["random", "--size", "20"], "a Go board is 2 to 19 wide"),
        (["random", "--ko", "super"], "there is no ko rule 'super'"),
        (["random", "--resign", "1"], "--resign is 1.0"),
        (["random", "--visits", "-1"], "--visits is -1"),
    ],
)
def test_an_engine_that_cannot_be(rlab: Verb, words: list[str], says: str) -> None:
    done = rlab("gtp", *words)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"rlab: {says}")
    assert done.err.count("\n") == 1
