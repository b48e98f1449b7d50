"""``rlab tournament A B C ...``: players of Go against each other, rated; the same command twice goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from rlab.cli.common import (
    JsonFlag,
    TrustFlag,
    duration,
    parse,
    refuse_below,
    results,
    say,
    stopped_status,
    until_stopped,
)
from rlab.cli.flags import Arg
from rlab.errors import RlabError, nearest, printable
from rlab.run.contract import Stop

SAY_SECONDS = 10.0
"""Between two lines that tell how far it is."""

AT_ONCE = 128
"""Games side by side: a network is fastest with many positions in one batch."""

AT_ONCE_PROGRAMS = 4
"""The same with a program among the players, for each of its processes that think: more would not be faster, but be
lost by a kill."""


@dataclass(frozen=True)
class Flags:
    """Let players of Go meet, and rate them. The same command twice goes on; every finished game is kept.

    A player is `random`, `gnugo:10`, a run, or a program's command line: "gtp:katago gtp -model net.bin.gz".
    """

    players: Annotated[tuple[str, ...], Arg("PLAYER ...", positional=True)] = ()
    """Who takes part. In a gauntlet and a test the first is the one in question."""
    board: Annotated[int, Arg("2..19")] = 9
    """Size of the board."""
    games: int = 100
    """Games of each pair, half of them with Black; of a test the most."""
    kind: Literal["round-robin", "gauntlet", "sprt"] = "round-robin"
    """Everybody against everybody, the first against each other, or two players until it is clear who is stronger."""
    komi: float = 7.0
    """Points that White has from the start."""
    ko: str = "positional"
    """Rule against repetition: positional, situational or simple."""
    openings: int | None = None
    """Different openings, in turn; by default one for every two games of a pair."""
    moves_random: int = 2
    """Moves by chance in each opening."""
    seconds: float = 60.0
    """That a program may think about a move; after that it has lost the game."""
    elo0: float = 0.0
    """Of a test: it is rejected if the first is only this much stronger."""
    elo1: float = 30.0
    """Of a test: it is accepted if the first is this much stronger."""
    alpha: float = 0.05
    """Of a test: how often it may be accepted wrongly."""
    beta: float = 0.05
    """Of a test: how often it may be rejected wrongly."""
    checkpoints: Annotated[str | None, Arg("RUN")] = None
    """Past selves that this run keeps (--keep-steps, and its newest checkpoints) take part too, as RUN:STEP; the page
    draws Elo over training."""
    anchor: Annotated[str | None, Arg("PLAYER")] = None
    """Whose rating is 0; by default the random player's, or else the mean."""
    jobs: int | None = None
    """Processes of each program; by default one a core."""
    at_once: int | None = None
    """Games side by side; by default 128, or 4 for each process where a program plays."""
    cluster: Annotated[str | None, Arg("WHERE")] = None
    """Play on a cluster of Ray, where runs and programs are found as here: local, this machine; an address, such as
    host:6379; auto: what RAY_ADDRESS names, else this machine. Games of a lost machine are played again."""
    actors: int | None = None
    """Processes that play on the cluster, which share --at-once; by default one a core."""
    name: Annotated[str | None, Arg("NAME")] = None
    """The tournament's name; by default made from players and rules. A named one may get more players and games."""
    seed: int = 0
    """Of openings and of every game's chance."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    return until_stopped(lambda stop: _tournament(argv, stop))


def _tournament(argv: Sequence[str], stop: Stop) -> int:
    flags = parse(Flags, "tournament", argv)
    with results(flags.json) as put:
        names = _names(flags)
        _refuse_nonsense(flags, names)
        from rlab.agents.go.arena import play_games
        from rlab.agents.go.players import find_player
        from rlab.agents.go.ratings import Sprt
        from rlab.agents.go.tournament import Common, Tournament, TournamentPlan, distinct
        from rlab.agents.go.tournament_page import write_result
        from rlab.envs.go.boards import Setting
        from rlab.envs.go.gtp_client import GivenUp, Program
        from rlab.machine import cores

        setting = Setting(flags.board, flags.komi, flags.ko)
        common = Common(setting, flags.seed, flags.openings or 0, flags.moves_random, flags.seconds)
        sprt = Sprt(flags.elo0, flags.elo1, flags.alpha, flags.beta) if flags.kind == "sprt" else None
        labels = distinct(names)
        plan = TournamentPlan(tuple(labels), flags.kind, flags.games, sprt)
        anchor = flags.anchor or ("random" if "random" in labels else None)
        if anchor is not None and anchor not in labels:
            raise RlabError(f"--anchor is '{anchor}', which does not take part; {nearest(anchor, labels)}")
        jobs = flags.jobs or cores()
        players: dict[str, Any] = {}
        played = None
        started = time.monotonic()
        try:
            for label, name in zip(labels, names, strict=True):
                players[label] = player = find_player(name)
                if isinstance(player, Program):
                    player.seconds, player.processes = flags.seconds, jobs
                    player.stopped = lambda: stop.requested
                    player.report = say
            programs = any(isinstance(player, Program) for player in players.values())
            at_once = flags.at_once or (AT_ONCE_PROGRAMS * jobs if programs else AT_ONCE)
            played = Tournament(common, plan, players, flags.name, at_once, say)
            play = play_games
            if flags.cluster:
                from rlab.parallel.games import on_cluster

                named = dict(zip(labels, names, strict=True))
                play = on_cluster(named, flags.cluster, flags.actors, flags.jobs or 1, say, flags.seconds)
            path, before = played.folder.path, len(played.games)
            say(f"tournament {path}\ngames      {before:,} of {played.total:,} are there")
            try:
                played.play(stop, _Teller(before), play)
            finally:  # also when a player turns out to be no good: what was played is told
                result = played.result(anchor)
                files = write_result(result, path)
        except GivenUp:
            say("stopped before the first game")
            return stopped_status(stop)
        finally:
            for player in players.values():
                player.close()
            if played is not None:
                played.close()
        seconds = time.monotonic() - started
        if not flags.json:
            _print(result)
        lines = [f"wrote   {path}" for path in files.values()]
        lines += [f"records {path / 'games'}", f"time    {duration(seconds)}"]
        if not result["finished"]:
            lines += ["next    the same command goes on"]
        put(
            "\n".join(lines),
            {**result, "files": {kind: str(path) for kind, path in files.items()}, "seconds": round(seconds, 3)},
        )
        return stopped_status(stop) if stop.requested and not result["finished"] else 0


class _Teller:
    """Says now and then how far it is."""

    def __init__(self, before: int):
        self._before, self._began, self._due = before, time.monotonic(), time.monotonic() + SAY_SECONDS

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now < self._due and done < total:
            return
        self._due = now + SAY_SECONDS
        each = (now - self._began) / max(1, done - self._before)
        say(f"games      {done:,} of {total:,}, {duration(each * (total - done))} left")


def _names(flags: Flags) -> list[str]:
    """The players as they were named, and a run's checkpoints."""
    if flags.checkpoints is None:
        return list(flags.players)
    from rlab.run.folder import find_run
    from rlab.run.status import past_selves

    steps = past_selves(find_run(flags.checkpoints))
    if not steps:
        raise RlabError(f"run '{flags.checkpoints}' keeps no checkpoint that could play")
    return [*flags.players, *(f"{flags.checkpoints}:{step}" for step in steps)]


def _refuse_nonsense(flags: Flags, names: Sequence[str]) -> None:
    refuse_below(flags, games=2, moves_random=0)
    if flags.actors is not None and not flags.cluster:
        raise RlabError("--actors are processes on a cluster; nearest: --cluster local")
    if flags.cluster:
        from rlab.parallel.fleet import refuse_cluster

        refuse_cluster(flags.cluster)
    for flag in ("openings", "jobs", "at_once", "actors"):
        if getattr(flags, flag) is not None:
            refuse_below(flags, **{flag: 1})
    if flags.games % 2:
        raise RlabError(f"--games is {flags.games}; it is even, for every opening is played with both colours: "
                        f"{flags.games - 1} or {flags.games + 1}")  # fmt: skip
    if len(names) < 2:
        raise RlabError(
            f"{len(names)} player{'s' * (len(names) != 1)}; name at least two: rlab tournament random gnugo:1"
        )
    if flags.kind == "sprt" and len(names) != 2:
        raise RlabError(f"a test is between two players, not {len(names)}")
    if not 0 < flags.seconds <= 86_400:
        raise RlabError(f"--seconds is {flags.seconds:g}; a program may think from above 0 to 86400 seconds")
    if not -2000 <= flags.elo0 < flags.elo1 <= 2000:
        raise RlabError(f"--elo0 is {flags.elo0:g} and --elo1 {flags.elo1:g}; elo0 is the smaller, both within 2000")
    for flag in ("alpha", "beta"):
        if not 0 < getattr(flags, flag) < 0.5:
            raise RlabError(f"--{flag} is {getattr(flags, flag):g}; it lies between 0 and 0.5")


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from rlab.agents.go.tournament_page import interval, notes, share, shortened, test_sentence

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("player", "Elo", "95 % interval", "games", "won", "drawn", "lost", "ms a move"):
        table.add_column(column, justify="left" if column == "player" else "right", no_wrap=True)
    for row in result["ratings"]:
        table.add_row(
            escape(shortened(row["player"], 40)),
            "-" if row["elo"] is None else f"{row['elo']:+.0f}", interval(row),
            *(f"{row[key]:,}" for key in ("games", "wins", "draws", "losses")),
            "-" if row["ms_per_move"] is None else f"{row['ms_per_move']:,.1f}",
        )  # fmt: skip
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 240  # nothing is cut off in a file
    console.print(table)
    if len(result["pairs"]) == 1 and result["pairs"][0]["games"]:
        pair = result["pairs"][0]
        console.print(f"\npoints  {escape(printable(pair['first']))} has {share(pair)} of {pair['games']:,} games")
    if result["sprt"]:
        console.print(f"\ntest    {escape(printable(test_sentence(result['sprt'])))}")
    for sentence in notes(result):
        console.print(f"note    {escape(printable(sentence))}")
