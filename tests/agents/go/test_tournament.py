from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sgfmill import sgf

from rlab.agents.go.players import find_player
from rlab.agents.go.ratings import Sprt
from rlab.agents.go.tournament import Common, Folder, Tournament, TournamentPlan, distinct
from rlab.agents.go.tournament_page import notes, page, training_curves, write_result
from rlab.envs.go.boards import Boards, Setting
from rlab.envs.go.players import RandomPlayer
from rlab.errors import RlabError
from rlab.run.contract import Stop
from tests.envs.go.programs import dummy

COMMON = Common(Setting(5, 2.5))


class Weak(RandomPlayer):
    """Passes its first seven moves."""

    name = "weak"

    def choose(self, boards, rows, keys):
        moves = super().choose(boards, rows, keys)
        moves[boards.made[rows] < 14] = boards.pass_
        return moves


PLAYERS = {"random": RandomPlayer(), "random#2": RandomPlayer(), "weak": Weak()}


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))


def whole(
    plan: TournamentPlan,
    name: str | None = None,
    stop_at: int = 10**9,
    common: Common = COMMON,
    players: Any = None,
    **options,
) -> tuple[dict[str, Any], dict[tuple[str, str, int], tuple[int, ...]]]:
    """Play until so many games are there; the result, and every game's moves."""
    said: list[str] = []
    of = players or {label: PLAYERS[label] for label in plan.labels}
    tournament = Tournament(common, plan, of, name, report=said.append, **options)
    try:
        stop = Stop()
        tournament.play(stop, lambda done, total: stop.request("enough") if done >= stop_at else None)
        result = tournament.result("random" if "random" in plan.labels else None)
        games = {(g.pairing.first, g.pairing.second, g.pairing.number): g.moves for g in tournament.games}
        return result | {"said": said}, games
    finally:
        tournament.close()


def test_whoever_is_weaker_is_rated_lower(tmp_path: Path) -> None:
    result, games = whole(TournamentPlan(tuple(PLAYERS), games=60))
    assert result["finished"]
    assert len(games) == result["games"] == 180
    assert [row["player"] for row in result["ratings"]][-1] == "weak"
    weak = result["ratings"][-1]
    assert weak["elo"] < weak["high"] < 0
    assert weak["low"] < weak["elo"]
    twin = next(row for row in result["ratings"] if row["player"] == "random#2")
    assert twin["low"] < 0 < twin["high"]
    assert sum(row["wins"] for row in result["ratings"]) == sum(row["losses"] for row in result["ratings"])
    assert [(p["first"], p["second"]) for p in result["pairs"]] == [
        ("random", "random#2"), ("random", "weak"), ("random#2", "weak")]  # fmt: skip
    write_result(result, tmp_path)
    text = (tmp_path / "tournament.html").read_text()
    for word in ("weak", "random#2", "95 % interval", "data:image/png;base64,"):
        assert word in text
    assert re.findall("<script[^>]*>", text) == ['<script type="application/json">', "<script>"]
    assert "http" not in text.replace("http-equiv", "")


@pytest.mark.parametrize("kind", ["round-robin", "gauntlet"])
def test_stopped_and_gone_on_is_the_same_as_in_one_go(kind: str) -> None:
    plan = TournamentPlan(("weak", "random", "random#2"), kind, 12)
    result, games = whole(plan, "once")
    assert len(games) == 12 * (3 if kind == "round-robin" else 2)
    part, some = whole(plan, "twice", stop_at=9, at_once=4)
    assert not part["finished"]
    assert 9 <= len(some) < 18
    assert notes(part)[0].endswith("games are played.")
    again, rest = whole(plan, "twice", at_once=9)
    assert rest == games
    for key in ("ratings", "pairs", "reasons", "games"):
        assert strip(again[key]) == strip(result[key])


def strip(value: Any) -> Any:
    """Without time."""
    if isinstance(value, list):
        return [strip(v) for v in value]
    return {k: v for k, v in value.items() if k != "ms_per_move"} if isinstance(value, dict) else value


def test_it_may_grow_and_keeps_its_games() -> None:
    _, few = whole(TournamentPlan(("random", "weak"), games=10), "grow")
    result, more = whole(TournamentPlan(("weak", "random#2", "random"), games=14), "grow")
    assert few.items() <= more.items()
    assert len(more) == 3 * 14
    less, _ = whole(TournamentPlan(("weak", "random"), games=4), "grow")
    assert less["games"] == 4
    assert result["games"] == 42


def test_every_game_is_a_record(tmp_path: Path) -> None:
    _, games = whole(TournamentPlan(("random", "weak"), games=6), "records")
    files = sorted((tmp_path / "records" / "games").glob("*.sgf"))
    assert len(files) == 6
    (tmp_path / "records" / "games" / files[2].name).unlink()
    whole(TournamentPlan(("random", "weak"), games=6), "records")  # lost by a kill, say
    for number, file in enumerate(files):
        record = sgf.Sgf_game.from_bytes(file.read_bytes())
        root = record.get_root()
        assert (root.get("PB"), root.get("PW")) == (("random", "weak") if number % 2 == 0 else ("weak", "random"))
        assert root.get("KM") == 2.5
        boards = Boards(1, COMMON.setting)
        for node in list(record.main_sequence_iter())[1:]:
            _, point = node.get_move()
            boards.play([25 if point is None else (4 - point[0]) * 5 + point[1]])
        assert tuple(boards.moves(0)) == games["random", "weak", number]
        score = boards.score()[0]
        assert root.get("RE") == f"{'B' if score > 0 else 'W'}+{abs(score):g}"


def test_a_sequential_test_stops_early_and_at_the_same_game_however_it_is_played() -> None:
    plan = TournamentPlan(("random", "weak"), "sprt", 400, Sprt(0, 100))
    result, _ = whole(plan, "one", at_once=3)
    test = result["sprt"]
    assert test["verdict"] == "elo1"
    assert test["ratio"] >= test["high"]
    assert result["finished"]
    assert result["games"] == 2 * test["pairs"] == 2 * sum(test["counts"]) < 200
    again, _ = whole(plan, "other", at_once=40)
    assert again["sprt"] == test
    assert strip(again["ratings"]) == strip(result["ratings"])
    turned, _ = whole(TournamentPlan(("weak", "random"), "sprt", 400, Sprt(0, 100)), "one")
    assert turned["sprt"]["verdict"] == "elo0"
    assert turned["sprt"]["counts"][3:] == test["counts"][1::-1] == [0, 0]


@pytest.mark.parametrize("damage", ["garbage", "half", "cell"])
def test_a_damaged_file_is_told_and_kept(damage: str, tmp_path: Path) -> None:
    plan = TournamentPlan(("random", "weak"), games=40)
    _, games = whole(plan, "bad")
    file = tmp_path / "bad" / "games.sqlite"
    if damage == "garbage":
        file.write_bytes(b"no data base" * 100)
    elif damage == "half":
        file.write_bytes(file.read_bytes()[:8192])
    else:
        base = sqlite3.connect(file)
        with base:
            base.execute("UPDATE games SET moves = 'C3 Z9' WHERE number = 3")
        base.close()
    before = file.read_bytes()
    result, again = whole(plan, "bad")
    assert len(result["said"]) == 1
    assert "games.sqlite is damaged" in result["said"][0]
    assert "kept as damaged-1.sqlite" in result["said"][0]
    assert (damage == "cell") == ("(game random - weak 3)" in result["said"][0] and "39 of its" in result["said"][0])
    assert (tmp_path / "bad" / "damaged-1.sqlite").read_bytes() == before
    assert again == games


def test_flipped_bits_change_no_game_silently(tmp_path: Path) -> None:
    pairs, said = [("random", "weak")], list[str]()
    _, games = whole(TournamentPlan(("random", "weak"), games=40), "flips")
    file, lost = tmp_path / "flips" / "games.sqlite", 0
    sound, chance = file.read_bytes(), np.random.default_rng(0)
    for where in chance.integers(0, 8 * len(sound), 60).tolist():
        data = bytearray(sound)
        data[where // 8] ^= 1 << where % 8
        file.write_bytes(data)
        said.clear()
        folder = Folder(COMMON, ("random", "weak"), "flips", said.append)
        try:
            found = {(g.pairing.first, g.pairing.second, g.pairing.number): g.moves for g in folder.games(pairs, 40)}
            shares = {g.share for g in folder.games(pairs, 40)}
        finally:
            folder.close()
        assert found.items() <= games.items()
        assert shares <= {0.0, 0.5, 1.0}
        lost += len(found) < 40
        assert len(found) == 40 or said
    assert lost > 5


def test_games_of_an_older_rlab_count_once_told(tmp_path: Path) -> None:
    plan = TournamentPlan(("random", "weak"), games=6)
    _, games = whole(plan, "old")
    base = sqlite3.connect(tmp_path / "old" / "games.sqlite")
    with base:
        for table in ("games", "players"):
            base.execute(f"ALTER TABLE {table} DROP COLUMN sha256")
        base.execute("PRAGMA user_version = 0")
    base.close()
    for said in (1, 0):
        result, again = whole(plan, "old")
        assert again == games
        assert len(result["said"]) == said
        assert all("holds 6 games without checksums" in line for line in result["said"])


def test_the_page_shows_games_move_by_move(tmp_path: Path) -> None:
    result, games = whole(TournamentPlan(("random", "weak"), games=4), "page")
    text = page(result)
    (content,) = re.findall(r'json">(.*?)</script>', text)
    shown = json.loads(content)["games"]
    assert [game["link"].rsplit("-", 1)[1] for game in shown] == [f"{n:05d}.sgf" for n in range(4)]
    for number, game in enumerate(shown):
        stones = list(map(int, game["start"]))
        for colour, point, *gone in game["moves"]:
            if point >= 0:
                stones[point] = colour
            for other in gone:
                stones[other] = 0
        boards = Boards(1, COMMON.setting)
        for move in games["random", "weak", number]:
            boards.play([move])
        assert boards.stones().ravel().tolist() == stones
    digest = base64.b64encode(hashlib.sha256(text.split("<script>")[1].split("</script>")[0].encode()).digest())
    assert f"script-src 'sha256-{digest.decode()}'" in text


def test_what_a_tournament_is_cannot_change(tmp_path: Path) -> None:
    plan = TournamentPlan(("random", "weak"), games=2)
    whole(plan, "same")
    for common, said in (
        (Common(Setting(6, 2.5)), "has size 5, and now it is 6"),
        (Common(Setting(5, 3.5)), "has komi 2.5, and now it is 3.5"),
        (Common(Setting(5, 2.5), seed=1), "has seed 0, and now it is 1"),
    ):
        with pytest.raises(RlabError, match=f"tournament 'same' {said}; take another --name"):
            whole(plan, "same", common=common)

    class Other(RandomPlayer):
        about = "another player"

    with pytest.raises(RlabError, match="'weak' is another player now, and games of weak are in tournament 'same'"):
        whole(plan, "same", players={"random": RandomPlayer(), "weak": Other()})
    (tmp_path / "same" / "definition.json").write_text("{}")
    with pytest.raises(RlabError, match=r"definition\.json is damaged"):
        whole(plan, "same")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(RlabError, match="run is there already and is no tournament"):
        whole(plan, "run")
    with pytest.raises(RlabError, match="'a/b' cannot be a tournament's name"):
        whole(plan, "a/b")


def test_two_at_once(tmp_path: Path) -> None:
    folder = Folder(COMMON, ("a", "b"), "held", print)
    with pytest.raises(RlabError, match="'held' is held by process"):
        Folder(COMMON, ("a", "b"), "held", print)
    folder.close()
    Folder(COMMON, ("a", "b"), "held", print).close()


def test_a_failing_program_is_told(tmp_path: Path) -> None:
    label = dummy(tmp_path, "crash")
    players = {"random": RandomPlayer(), label: find_player(label)}
    try:
        result, _ = whole(TournamentPlan(tuple(players), games=4), "fails", players=players)
    finally:
        players[label].close()
    assert result["reasons"] == {"crash": 4}
    assert [failure["loser"] for failure in result["failures"]] == [label] * 4
    text = page(result)
    assert "it hurts" in text
    assert "4 games were lost by a failure" in text


def test_players_that_leave_nothing_to_chance_are_told() -> None:
    class First(RandomPlayer):
        def choose(self, boards: Boards, rows, keys):
            return super().choose(boards, rows, keys * 0)

    players = {"a": First(), "b": First()}
    result, _ = whole(TournamentPlan(("a", "b"), games=12), common=Common(COMMON.setting, openings=2), players=players)
    assert result["repeated"] == 8
    assert "8 games are move by move the same" in notes(result)[0]


def test_names() -> None:
    assert distinct(["random", "gnugo:1", "random", "random"]) == ["random", "gnugo:1", "random#2", "random#3"]
    with pytest.raises(RlabError, match="would both be called 'random#2'"):
        distinct(["random", "random#2", "random"])
    assert TournamentPlan(("c", "a", "b"), "gauntlet").pairs == [("a", "c"), ("b", "c")]
    assert TournamentPlan(("c", "a", "b")).pairs == [("a", "b"), ("a", "c"), ("b", "c")]


def test_curves_of_checkpoints_by_their_names() -> None:
    names = ("az:2000", "az:1000", "gnugo:1", "gnugo:10", "lone:5", "random", "a:b:7", "a:b:30")
    rows = [{"player": name, "elo": 1.0, "low": 0.0, "high": 2.0} for name in names]
    found = training_curves(rows)
    assert {name: [row["step"] for row in curve] for name, curve in found.items()} == {
        "az": [1000, 2000], "a:b": [7, 30]}  # fmt: skip
    players: Callable[[str], Any] = lambda label: Weak() if label == "az:1000" else RandomPlayer()  # noqa: E731
    labels = ("random", "az:1000", "az:2000")
    result, _ = whole(TournamentPlan(labels, games=10), players={label: players(label) for label in labels})
    assert "Elo over training" in page(result)
    assert "Elo over training" not in page(
        result | {"ratings": [r for r in result["ratings"] if r["player"] != labels[2]]}
    )


def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole(TournamentPlan(("random", "weak"), games=2), "full")
    before = Folder._opened

    def limited(self: Folder) -> sqlite3.Connection:
        base = before(self)
        pages = base.execute("PRAGMA page_count").fetchone()[0]
        base.execute(f"PRAGMA max_page_count = {pages}")
        return base

    monkeypatch.setattr(Folder, "_opened", limited)
    with pytest.raises(RlabError, match=r"cannot write .*games\.sqlite: database or disk is full"):
        whole(TournamentPlan(("random", "weak"), games=400), "full")
    monkeypatch.undo()
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    assert whole(TournamentPlan(("random", "weak"), games=4), "full")[0]["finished"]
    shutil.rmtree(tmp_path / "full")
