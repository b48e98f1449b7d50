"""A tournament: who plays whom, its games on disk as they end, and what they say together.

A folder among the runs: ``definition.json`` (what all its games have in common) · ``games.sqlite`` (the games, each
durable once it is over, with a checksum) · ``games/*.sgf`` · ``tournament.json`` and ``tournament.html`` (the results)
· ``lock``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from rlab.agents.go.arena import Finished, Pairing, ThinkingTime, play_games
from rlab.agents.go.openings import make_openings
from rlab.agents.go.ratings import RESAMPLES, Sprt, Walk, elo_of, rate
from rlab.envs.go.boards import Setting, name_of, point_of
from rlab.envs.go.players import Player
from rlab.envs.go.sgf import short
from rlab.errors import RlabError
from rlab.run.contract import Stop
from rlab.run.files import (
    disk_error,
    fsync_dir,
    make_folder,
    open_plain,
    read_json,
    refuse_links,
    replace_durably,
    to_json,
)
from rlab.run.folder import Lock, runs_dir
from rlab.run.provenance import git_state, processor, versions
from rlab.stats import wilson

SCHEMA = 1
TABLES_VERSION = 1
"""Of `TABLES`: 0 had no checksums."""
MOST_NAMED = 10
"""Damaged games that are named; of more their number is told."""
MOST_TEXT = 1 << 20
"""Bytes of the longest text in a tournament's games."""
SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")
"""What a journal of SQLite ends with that names another file."""
MOST_BOARDS = 100
"""Games that the page shows move by move; every game is an SGF file."""
KINDS = ("round-robin", "gauntlet", "sprt")

TABLES = """
CREATE TABLE IF NOT EXISTS games (
    first TEXT, second TEXT, number INTEGER, opening INTEGER, moves TEXT, winner INTEGER, reason TEXT, score REAL,
    detail TEXT, sha256 TEXT, PRIMARY KEY (first, second, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS players (label TEXT PRIMARY KEY, about TEXT, seconds REAL, moves INTEGER, sha256 TEXT)
    WITHOUT ROWID;
"""
COLUMNS = {"games": 9, "players": 4}
"""Table -> columns before the checksum, which is of these."""


@dataclass(frozen=True)
class Common:
    """What all games of a tournament have in common; another value of any of it makes another tournament.

    Attributes:
        setting: board, komi and rules.
        seed: of openings and of every game's chance.
        openings: so many different ones, in turn; 0: as many as there are pairs of games.
        moves_random: of each opening.
        seconds: that a program may think about a move.
    """

    setting: Setting
    seed: int = 0
    openings: int = 0
    moves_random: int = 2
    seconds: float = 60.0


@dataclass(frozen=True)
class TournamentPlan:
    """Who plays whom, and how often. It may grow from one call to the next: games that are there are kept.

    Attributes:
        labels: of the players.
        kind: "round-robin" (everybody against everybody), "gauntlet" (the first against each other one) or "sprt" (two
            players, until it is clear who is stronger).
        games: of each pair; even.
        sprt: of kind "sprt": the test, on the first label against the second.
    """

    labels: tuple[str, ...]
    kind: str = "round-robin"
    games: int = 100
    sprt: Sprt | None = None

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """In an order of their own, so that (A, B) and (B, A) are the same pair with the same games."""
        chosen = combinations(self.labels, 2)
        return sorted((min(pair), max(pair)) for pair in chosen if self.kind != "gauntlet" or pair[0] == self.labels[0])


def distinct(names: Sequence[str]) -> list[str]:
    """Labels: a name that comes again is numbered, ``random#2``, so that a player can meet itself."""
    counts: Counter[str] = Counter()
    labels = []
    for name in names:
        counts[name] += 1
        labels.append(name if counts[name] == 1 else f"{name}#{counts[name]}")
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise RlabError(f"two players would both be called '{twice}'")
    return labels


class Folder:
    """A tournament on disk, held by this process until `close`.

    Args:
        common: see `Common`.
        labels: that name the folder, with the rest, if nothing else does.
        name: of the folder.
        report: told what is noteworthy.

    Raises:
        RlabError: the folder is something else's, another tournament's or another process's, or the disk refuses.
    """

    def __init__(self, common: Common, labels: Sequence[str], name: str | None, report: Callable[[str], None]):
        document = {"schema": SCHEMA, "common": asdict(common)}
        digest = hashlib.sha256(to_json([document, sorted(labels)])).hexdigest()[:8]
        name = name or f"tournament-{digest}"
        if not re.fullmatch(r"[\w.+-]+", name) or name in {".", "..", "latest", "reference", "studies"}:
            raise RlabError(f"'{name}' cannot be a tournament's name; use letters, digits, '.', '_', '+' and '-'")
        self.path, self.common, self._report = runs_dir() / name, common, report
        file = self.path / "definition.json"
        if not file.is_file() and self.path.exists() and any(p.name != "lock" for p in self.path.iterdir()):
            raise RlabError(f"{self.path} is there already and is no tournament; take another --name")
        refuse_links(self.path)
        try:
            make_folder(self.path)
            make_folder(self.path / "games")
        except OSError as e:
            raise disk_error(e, self.path) from None
        self._lock = Lock(self.path / "lock")
        try:
            if file.is_file():
                self._refuse_if_changed(read_json(file), document)
            else:
                replace_durably(file, to_json(document))
            self._base = self._opened()
        except BaseException:
            self._lock.release()
            raise

    @property
    def name(self) -> str:
        """The tournament's name."""
        return self.path.name

    def close(self) -> None:
        """Let another process take it. Safe to call twice."""
        self._base.close()
        self._lock.release()

    def games(self, pairs: Sequence[tuple[str, str]], most: int) -> list[Finished]:
        """The games of these pairs that are over, of numbers below `most`; by pair and number."""
        query = "SELECT * FROM games WHERE first = ? AND second = ? AND number < ? ORDER BY number"
        rows = [row for pair in pairs for row in self._base.execute(query, (*pair, most))]
        return [self._game(row) for row in rows]

    def add(self, games: Sequence[Finished], clock: ThinkingTime) -> None:
        """Keep games for good, and what time the players took; then write their records.

        Raises:
            RlabError: the disk refused; nothing of them is kept.
        """
        size = self.common.setting.size
        rows = [
            (g.pairing.first, g.pairing.second, g.pairing.number, len(g.pairing.opening),
             _names(g, size), g.winner, g.reason, g.score, g.detail)
            for g in games
        ]  # fmt: skip
        known = self.players()
        times = []
        for label in clock.seconds.keys() & known.keys():
            about, seconds, moves = known[label]
            times.append((label, about, seconds + clock.seconds[label], moves + clock.moves[label]))
        try:
            with self._base:
                self._write("games", rows)
                self._write("players", times)
        except sqlite3.Error as e:
            raise RlabError(f"cannot write {self.path / 'games.sqlite'}: {e}") from None
        clock.seconds.clear()
        clock.moves.clear()
        for game in games:
            self.write_record(game)

    def write_record(self, game: Finished) -> None:
        """Write a game as SGF, if it is not there."""
        path = self.record(game.pairing)
        if not path.is_file():
            _replace(path, sgf_of(game, self.common.setting, self.name))

    def record(self, pairing: Pairing) -> Path:
        """Where a game's SGF lies."""
        return self.path / "games" / f"{_slug(pairing.first)}-{_slug(pairing.second)}-{pairing.number:05d}.sgf"

    def introduce(self, label: str, about: str) -> None:
        """Note who a player is.

        Raises:
            RlabError: games of another one are here under that label.
        """
        row = self._base.execute("SELECT about FROM players WHERE label = ?", (label,)).fetchone()
        if row is not None and row[0] != about:
            raise RlabError(
                f"'{label}' is {about} now, and games of {row[0]} are in tournament '{self.name}'; take another --name"
            )
        if row is None:
            with self._base:
                self._write("players", [(label, about, 0.0, 0)])

    def players(self) -> dict[str, tuple[str, float, int]]:
        """Label -> who it is, seconds that it took, and moves in them."""
        return {row[0]: (row[1], row[2], row[3]) for row in self._base.execute("SELECT * FROM players")}

    def _write(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        """Insert or replace rows, each with its checksum."""
        marks = ",".join("?" * (COLUMNS[table] + 1))
        content = [(*row, checksum(row)) for row in rows]
        self._base.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", content)

    def _game(self, row: Sequence[Any]) -> Finished:
        first, second, number, opening, moves, winner, reason, score, detail = row[: COLUMNS["games"]]
        size = self.common.setting.size
        points = tuple(point_of(move, size) for move in moves.split())
        return Finished(Pairing(first, second, number, points[:opening]), points, winner, reason, score, detail)

    def _opened(self) -> sqlite3.Connection:
        """The games. A damaged file is set aside and told; what its checksums vouch for comes into a new one."""
        file = self.path / "games.sqlite"
        sound: dict[str, list[Sequence[Any]]] = {}
        for _ in range(2):
            _refuse_super_journal(file.with_name(f"{file.name}-journal"))
            self._base = base = sqlite3.connect(file)
            base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_TEXT)
            base.text_factory = lambda text: text.decode("utf-8", "replace")
            problem = ""
            try:
                self._prepare(base)
                for table, rows in sound.items():
                    self._write(table, rows)
                base.commit()
            except (sqlite3.DatabaseError, RlabError, ValueError, AttributeError) as e:
                if isinstance(e, sqlite3.OperationalError) and "malformed" not in str(e):
                    base.close()
                    raise RlabError(f"{file} cannot be opened: {e}") from None
                problem = str(e)
            sound, damaged = self._sound_rows(base)
            if not problem and not damaged:
                return base
            base.close()
            kept = len(sound["games"])
            aside = next(p for n in range(1, 1000) if not (p := file.with_name(f"damaged-{n}.sqlite")).exists())
            file.rename(aside)
            for rest in self.path.glob("games.sqlite-*"):  # a journal would be applied to the new file
                rest.rename(aside.with_name(aside.name + rest.name.removeprefix("games.sqlite")))
            fsync_dir(self.path)
            which = ", ".join(damaged[:MOST_NAMED]) + (f" and {len(damaged) - MOST_NAMED} more"
                                                       if len(damaged) > MOST_NAMED else "")  # fmt: skip
            self._report(
                f"{file} is damaged ({'; '.join(filter(None, (problem, which)))}); it is kept as {aside.name}, "
                f"{kept:,} of its games whose checksums hold count, and all others are played again"
            )
        raise RlabError(f"{file} cannot be made anew")

    def _prepare(self, base: sqlite3.Connection) -> None:
        """Make what is not there yet; rows of an older rlab get checksums, which is told."""
        base.execute("PRAGMA trusted_schema = OFF")
        if base.execute("SELECT 1 FROM sqlite_master WHERE type IN ('view', 'trigger')").fetchone():
            raise sqlite3.DatabaseError("it holds more than tables")
        version = base.execute("PRAGMA user_version").fetchone()[0]
        old = {
            table: base.execute(f"SELECT * FROM {table}").fetchall()
            for table, number in COLUMNS.items()
            if version == 0 and len(base.execute(f"PRAGMA table_info({table})").fetchall()) == number
        }
        if old:
            base.execute("BEGIN")
            for table, rows in old.items():
                base.execute(f"ALTER TABLE {table} ADD COLUMN sha256 TEXT")
                self._write(table, rows)
            base.execute(f"PRAGMA user_version = {TABLES_VERSION}")
            base.commit()
        new = f"PRAGMA user_version = {TABLES_VERSION};" if version == 0 and not old else ""
        base.executescript("PRAGMA synchronous = FULL;" + TABLES + new)
        if base.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("its check fails")
        if games := len(old.get("games", ())):
            self._report(
                f"{self.path / 'games.sqlite'} holds {games:,} games without checksums, of an older rlab; they count "
                "as they are, and have checksums from now on"
            )

    def _sound_rows(self, base: sqlite3.Connection) -> tuple[dict[str, list[Sequence[Any]]], list[str]]:
        """Table -> rows without their checksums, which hold, as far as they can be read; and the names of others."""
        sound: dict[str, list[Sequence[Any]]] = {table: [] for table in COLUMNS}
        damaged = []
        for table, number in COLUMNS.items():
            with contextlib.suppress(sqlite3.Error):
                for row in base.execute(f"SELECT * FROM {table}"):
                    try:
                        good = row[number] == checksum(row[:number])
                        if good and table == "games":
                            self._game(row)
                    except (RlabError, ValueError, AttributeError, TypeError, IndexError):
                        good = False
                    if good:
                        sound[table].append(row[:number])
                    else:
                        names = f"{row[0]} - {row[1]} {row[2]}" if table == "games" else row[0]
                        damaged.append(f"{'game' if table == 'games' else 'player'} {short(str(names))}")
        return sound, damaged

    def _refuse_if_changed(self, was: Any, now: dict[str, Any]) -> None:
        file = self.path / "definition.json"
        if not isinstance(was, dict) or was.get("schema") != SCHEMA or not isinstance(was.get("common"), dict):
            raise RlabError(f"{file} is damaged, or of another version; take another --name")
        old, new = _flat(was["common"]), _flat(now["common"])
        for field in new:
            if old.get(field) != new[field]:
                raise RlabError(
                    f"tournament '{self.name}' has {field} {old.get(field)}, and now it is {new[field]}; "
                    "take another --name"
                )


def checksum(row: Sequence[Any]) -> str:
    """SHA-256 of a row's values, in hexadecimal."""
    values = [repr(value + 0.0 if isinstance(value, float) else value) for value in row]  # SQLite knows no -0.0
    return hashlib.sha256(to_json(values)).hexdigest()


def _refuse_super_journal(path: Path) -> None:
    """SQLite's journal of a transaction that was cut off may name another file, which SQLite would delete."""
    with contextlib.suppress(FileNotFoundError), open_plain(path) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(SUPER_JOURNAL)))
        if file.read() == SUPER_JOURNAL:
            raise RlabError(f"{path} names another file, which rlab's journals never do; nothing was done")


def _flat(common: Mapping[str, Any]) -> dict[str, Any]:
    setting = common.get("setting")
    return {**(setting if isinstance(setting, dict) else {}), **{k: v for k, v in common.items() if k != "setting"}}


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, but do not wait for the disk: what it says lies elsewhere already.

    Raises:
        RlabError: the disk refused.
    """
    part = path.with_name(f".{path.name}.tmp")
    try:
        part.unlink(missing_ok=True)
        with open_plain(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
            file.write(data)
        part.replace(path)
    except OSError as e:
        raise disk_error(e, path.parent) from None


def _slug(label: str) -> str:
    """A label as part of a file's name; what is lost is made up for, so that two stay two."""
    name = label.replace(":", "=")  # which stands in no name of a run
    plain = re.sub(r"[^\w.+=#-]+", "_", name)[:40]
    return plain if plain == name else f"{plain}.{zlib.crc32(label.encode()):08x}"


def sgf_of(game: Finished, setting: Setting, event: str) -> bytes:
    """A game's record, FF[4]."""
    from sgfmill import sgf

    record = sgf.Sgf_game(setting.size)
    root = record.get_root()
    rules = (
        "Chinese" if setting.ko == "simple" else "Tromp-Taylor, no suicide" if not setting.suicide else "Tromp-Taylor"
    )
    about = {"PB": game.pairing.black, "PW": game.pairing.white, "KM": setting.komi, "RE": game.result, "RU": rules,
             "EV": event, "RO": str(game.pairing.number), "AP": ("rlab", "1")}  # fmt: skip
    for name, value in about.items():
        root.set(name, value)
    course = f"{len(game.pairing.opening)} moves of opening; ended by {game.reason}"
    root.set("GC", course + (f": {game.detail}" if game.detail else ""))
    for n, move in enumerate(game.moves):
        y, x = divmod(move, setting.size)
        point = None if move == setting.size**2 else (setting.size - 1 - y, x)
        record.extend_main_sequence().set_move("bw"[n % 2], point)
    data: bytes = record.serialise()
    return data


class Tournament:
    """Plays what a plan asks for and is not there yet, and says how it stands.

    Args:
        common: what all games have in common.
        plan: who plays whom.
        players: by label.
        name: of the folder; None: made from players and rules, so that the same command finds the same folder.
        at_once: games side by side at the most.
        report: told what is noteworthy.

    Raises:
        RlabError: a program does not start, there are no such openings (nothing is written then), or see `Folder`.
    """

    def __init__(
        self,
        common: Common,
        plan: TournamentPlan,
        players: Mapping[str, Player],
        name: str | None = None,
        at_once: int = 64,
        report: Callable[[str], None] = lambda text: None,
    ):
        self.plan, self.players, self.at_once = plan, players, min(at_once, len(plan.pairs) * plan.games)
        wanted = common.openings or plan.games // 2
        self.openings = make_openings(common.setting, wanted, common.moves_random, common.seed)
        if len(self.openings) < wanted:
            report(f"only {len(self.openings)} openings of {common.moves_random} moves differ; they are used in turn")
        about = {label: str(getattr(player, "about", player.name)) for label, player in players.items()}
        self.folder = folder = Folder(common, plan.labels, name, report)
        try:
            for label, who in about.items():
                folder.introduce(label, who)
            self._begin()
        except BaseException:
            folder.close()
            raise

    def close(self) -> None:
        """Let another process take the folder. Safe to call twice."""
        self.folder.close()

    def _begin(self) -> None:
        """Take up what is there."""
        folder, plan = self.folder, self.plan
        self.games = folder.games(plan.pairs, plan.games)
        for game in self.games:
            folder.write_record(game)  # a kill may have come between a game and its record
        self._walk = Walk(plan.sprt) if plan.sprt else None
        self._ahead: dict[int, list[float]] = defaultdict(list)  # pair of games -> what is there of it
        self._test(self.games)

    @property
    def total(self) -> int:
        """Games that the plan asks for at the most."""
        return len(self.plan.pairs) * self.plan.games

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to play."""
        return len(self.games) == self.total or bool(self._walk and self._walk.verdict)

    def play(
        self,
        stop: Stop,
        progress: Callable[[int, int], None] = lambda done, total: None,
        play: Callable[..., None] = play_games,
    ) -> None:
        """Play what is missing, until there is nothing left or `stop` is set; every game that ends is kept at once.

        Args:
            stop: see above.
            progress: told how many games are there, of how many.
            play: plays games as `play_games` does, here or elsewhere.

        Raises:
            RlabError: a player cannot play here, or the disk refused; the games so far are kept.
        """
        if self.finished:
            return
        clock = ThinkingTime()

        def done(games: Sequence[Finished]) -> bool:
            self.folder.add(games, clock)
            self.games += games
            self._test(games)
            progress(len(self.games), self.total)
            return bool(self._walk and self._walk.verdict)

        play(self.players, self._missing(), self.folder.common.setting, seed=self.folder.common.seed,
             at_once=self.at_once, stop=stop, done=done, clock=clock)  # fmt: skip
        order = {pair: n for n, pair in enumerate(self.plan.pairs)}
        self.games.sort(key=lambda g: (order[g.pairing.first, g.pairing.second], g.pairing.number))

    def result(self, anchor: str | None = None) -> dict[str, Any]:
        """Everything that the games say, as plain JSON.

        Args:
            anchor: the player whose rating is 0; None: the mean is.
        """
        plan, common = self.plan, self.folder.common
        counted = self.games
        if self._walk and self._walk.verdict:  # what was played on beside the decision is left out
            counted = [g for g in self.games if g.pairing.number < 2 * self._walk.pairs]
        place = {label: n for n, label in enumerate(plan.labels)}
        met: dict[tuple[str, str], dict[int, list[Finished]]] = defaultdict(lambda: defaultdict(list))
        for game in counted:
            met[game.pairing.first, game.pairing.second][game.pairing.number // 2].append(game)
        units = {
            (place[first], place[second]): [(sum(g.share for g in games), len(games)) for games in by_opening.values()]
            for (first, second), by_opening in met.items()
        }
        ratings = rate(len(plan.labels), units, None if anchor is None else place[anchor], seed=common.seed)
        known = self.folder.players()
        rows = [
            {"player": label, **asdict(ratings[n]), **_tally(label, counted), "about": known[label][0],
             "ms_per_move": round(1000 * known[label][1] / known[label][2], 3) if known[label][2] else None}
            for label, n in place.items()
        ]  # fmt: skip
        rows.sort(key=lambda row: (row["elo"] is None, -(row["elo"] or 0.0), row["player"]))
        records = Counter((g.pairing.first, g.pairing.second, g.pairing.black, g.moves) for g in counted)
        return {
            "tournament": self.folder.name,
            "finished": self.finished,
            "kind": plan.kind,
            "common": asdict(common),
            "games": len(counted),
            "planned": self.total,
            "openings": len(self.openings),
            "anchor": anchor,
            "resamples": RESAMPLES,
            "ratings": rows,
            "pairs": [_pair(first, second, [g for games in met[first, second].values() for g in games])
                      for first, second in plan.pairs],
            "sprt": self._test_result(),
            "records": [_sample(g, common.setting.size, self.folder.record(g.pairing).name)
                        for g in spread(counted, MOST_BOARDS)],
            "reasons": dict(sorted(Counter(g.reason for g in counted).items())),
            "repeated": len(counted) - len(records),
            "failures": [
                {"game": self.folder.record(g.pairing).stem, "loser": (g.pairing.black, g.pairing.white)[2 - g.winner],
                 "reason": g.reason, "detail": g.detail}
                for g in counted if g.detail
            ],
            "machine": {"processor": processor(), "cores": os.cpu_count(), "versions": versions(), "git": git_state()},
        }  # fmt: skip

    def _missing(self) -> Iterator[Pairing]:
        """Games that are not there, all pairs in turn, so that an early stop leaves them about even."""
        there = {(g.pairing.first, g.pairing.second, g.pairing.number) for g in self.games}
        for number in range(0, self.plan.games, 2):
            opening = tuple(self.openings[number // 2 % len(self.openings)])
            for first, second in self.plan.pairs:
                for one in (number, number + 1):
                    if (first, second, one) not in there:
                        yield Pairing(first, second, one, opening)

    def _test(self, games: Sequence[Finished]) -> None:
        """Take games into the sequential test, as far as they follow each other without a gap."""
        if self._walk is None:
            return
        for game in games:
            share = game.share if game.pairing.first == self.plan.labels[0] else 1 - game.share
            self._ahead[game.pairing.number // 2].append(share)
        while len(self._ahead[self._walk.pairs]) == 2 and not self._walk.verdict:
            self._walk.add(sum(self._ahead[self._walk.pairs]))

    def _test_result(self) -> dict[str, Any] | None:
        if self._walk is None:
            return None
        low, high = self._walk.sprt.bounds
        return {**asdict(self._walk.sprt), "first": self.plan.labels[0], "second": self.plan.labels[1], "low": low,
                "high": high, "ratio": self._walk.ratio, "pairs": self._walk.pairs, "counts": self._walk.counts,
                "verdict": self._walk.verdict or None}  # fmt: skip


def spread(games: Sequence[Finished], most: int) -> list[Finished]:
    """At most so many games, the same number of each pair as far as there are, the first ones of each."""
    nth: Counter[tuple[str, str]] = Counter()
    order = []
    for game in games:
        pair = game.pairing.first, game.pairing.second
        order.append(nth[pair])
        nth[pair] += 1
    chosen = sorted(range(len(games)), key=lambda k: (order[k], k))[:most]
    return [games[k] for k in sorted(chosen)]


def _sample(game: Finished, size: int, file: str) -> dict[str, Any]:
    return {"black": game.pairing.black, "white": game.pairing.white, "result": game.result, "file": file,
            "opening": len(game.pairing.opening), "moves": _names(game, size)}  # fmt: skip


def _names(game: Finished, size: int) -> str:
    return " ".join(name_of(move, size) for move in game.moves)


def _tally(label: str, games: Sequence[Finished]) -> dict[str, Any]:
    mine = [g for g in games if label in (g.pairing.first, g.pairing.second)]
    got = [g.share if g.pairing.first == label else 1 - g.share for g in mine]
    return {"games": len(mine), "wins": got.count(1.0), "draws": got.count(0.5), "losses": got.count(0.0)}


def _pair(first: str, second: str, games: Sequence[Finished]) -> dict[str, Any]:
    got = [g.share for g in games]
    black = [g.winner == 1 for g in games]
    points = sum(got)
    share = points / len(got) if got else None
    low, high = wilson(points, len(got)) if got else (None, None)
    return {
        "first": first, "second": second, "games": len(got), "wins": got.count(1.0), "draws": got.count(0.5),
        "losses": got.count(0.0), "points": points, "share": share, "low": low, "high": high,
        "elo": elo_of(share) if share is not None and 0 < share < 1 else None,
        "black_wins": sum(black), "mean_moves": sum(len(g.moves) for g in games) / len(games) if games else None,
    }  # fmt: skip
