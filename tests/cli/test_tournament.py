from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from pathlib import Path

import psutil
import pytest

from tests.envs.go.programs import dummy, needs_gnugo
from tests.processes import LONGEST, Spawn, until


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path / "runs"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("random random --games 0", "--games is 0; it must be at least 2"),
        ("random random --games 7", "--games is 7; it is even, for every opening is played with both colours: 6 or 8"),
        ("random", "1 player; name at least two"),
        ("", "0 players; name at least two"),
        ("random random --board 20", "a Go board is 2 to 19 wide, not 20"),
        ("random random --komi 6.75", "komi is 6.75; it is a half or whole number"),
        ("random random --ko super", "there is no ko rule 'super'"),
        ("random randon", "there is no player or run 'randon'; nearest: random"),
        ("random gnugo:99", "GNU Go's levels are 0 to 20, not '99'"),
        ("random gtp:nowhere", "there is no program `nowhere`"),
        ("random gtp:true", "gtp:true ended with status 0 at `protocol_version`"),
        ("random random random --kind sprt", "a test is between two players, not 3"),
        ("random random --elo0 9 --elo1 3", "elo0 is the smaller"),
        ("random random --alpha 0.7", "--alpha is 0.7; it lies between 0 and 0.5"),
        ("random random --seconds 0", "--seconds is 0;"),
        ("random random --seconds nan", "--seconds is nan;"),
        ("random random --jobs 0", "--jobs is 0; it must be at least 1"),
        ("random random --openings 0", "--openings is 0; it must be at least 1"),
        ("random random --moves-random 41", "an opening of 41 moves; on 9x9 it has 0 to 40"),
        ("random random --anchor gnugo:1", "--anchor is 'gnugo:1', which does not take part"),
        ("random random --name a/b", "'a/b' cannot be a tournament's name"),
        ("random --checkpoints nobody", "no run 'nobody'"),
    ],
)
def test_what_makes_no_sense_gets_one_sentence(words: str, said: str, rlab, tmp_path: Path) -> None:
    done = rlab("tournament", *words.split())
    assert done.status == 1
    assert done.err.startswith("rlab: ")
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not list(tmp_path.glob("runs/*/games.sqlite"))


def test_a_tournament_from_the_command_line(rlab, rlab_json, tmp_path: Path) -> None:
    words = ("tournament", "random", dummy(tmp_path), "--board", "5", "--games", "4")
    done = rlab(*words)
    assert done.status == 0, done.err
    assert "95 % interval" in done.out
    result = rlab_json(*words)  # the same command: nothing is played any more
    assert result["finished"]
    assert result["games"] == 4
    (pair,) = result["pairs"]
    assert f"points  {pair['first']} has {pair['share']:.1%} [{100 * pair['low']:.1f}, " in done.out
    assert 0 <= pair["low"] < pair["share"] + 1e-9 <= pair["high"] + 2e-9 <= 1 + 3e-9
    assert result["machine"]["git"].keys() == {"commit", "dirty"}
    assert {row["player"]: row["elo"] for row in result["ratings"]}["random"] == 0
    assert result["ratings"][0]["about"] in ("random", "Dummy 7")
    assert json.loads(Path(result["files"]["json"]).read_text())["games"] == 4
    assert Path(result["files"]["html"]).is_file()
    assert len(list((tmp_path / "runs" / result["tournament"] / "games").glob("*.sgf"))) == 4
    more = rlab_json(*words[:-1], "6")  # more games belong to the same tournament
    assert more["tournament"] == result["tournament"]
    assert more["games"] == 6


def test_a_test_from_the_command_line(rlab_json) -> None:
    result = rlab_json("tournament", "random", "random", "--board", "5", "--games", "6", "--kind", "sprt")
    assert result["sprt"]["verdict"] is None
    assert result["sprt"]["pairs"] == 3
    assert result["ratings"][0]["player"] in ("random", "random#2")


def games_in(file: Path) -> int:
    if not file.is_file():
        return 0
    base = sqlite3.connect(file)
    try:
        return int(base.execute("SELECT count(*) FROM games").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        base.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_stopped_or_killed_it_goes_on(number: signal.Signals, rlab_json, tmp_path: Path, spawn: Spawn) -> None:
    words = ["random", dummy(tmp_path, "held"), "--board", "5", "--games", "24", "--at-once", "2", "--jobs", "2"]
    hold = tmp_path / "held.log.hold"  # its games end after the fourth of each process only once this is gone
    hold.touch()
    process = spawn(sys.executable, "-m", "rlab", "tournament", *words, "--name", "killed")
    file = tmp_path / "runs" / "killed" / "games.sqlite"
    until(lambda: games_in(file) >= 3, process)
    children = psutil.Process(process.pid).children(True)
    assert children
    os.kill(process.pid, number)
    hold.unlink()
    out, _ = process.communicate(timeout=LONGEST)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130)
    if number == signal.SIGINT:
        assert "the same command goes on" in out
        assert "of 24 games are played" in out
    assert not psutil.wait_procs(children, LONGEST)[1]
    there = games_in(file)
    assert 3 <= there < 24
    again = rlab_json("tournament", *words, "--name", "killed")
    assert again["finished"]
    assert again["games"] == 24
    if number == signal.SIGKILL:
        rlab_json("tournament", *words, "--name", "once")
        records = [sorted((tmp_path / "runs" / name / "games").iterdir()) for name in ("killed", "once")]
        for one, other in zip(*records, strict=True):
            assert one.read_text().replace("EV[killed]", "EV[once]") == other.read_text()


@needs_gnugo
def test_gnu_go_takes_part(rlab_json) -> None:
    result = rlab_json("tournament", "gnugo:1", "random", "--board", "5", "--games", "4", "--komi", "0.5")
    assert result["ratings"][0]["player"] == "gnugo:1"
    assert result["ratings"][0]["wins"] >= 3
    assert result["ratings"][0]["about"].startswith("GNU Go 3")
    assert result["reasons"].keys() <= {"score", "length", "resign"}


def test_the_doctor_knows_gnu_go(rlab_json, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlab.cli import doctor

    monkeypatch.setattr(doctor, "CHECKS", {"gnugo": doctor.CHECKS["gnugo"]})
    monkeypatch.setattr("rlab.envs.go.gtp_client.find_gnugo", lambda: None)
    (check,) = rlab_json("doctor")["checks"]
    assert not check["ok"]
    assert not check["needed"]
    assert "apt-get install gnugo" in check["detail"] + check["hint"]
