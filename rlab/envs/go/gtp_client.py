"""Other programs as players of Go, through the Go Text Protocol: GNU Go by its level, any other by its command line.

Protocol: G. Farneback, "Specification of the Go Text Protocol, version 2" (2002).
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from rlab.envs.go.boards import LETTERS, Boards, Setting, name_of, point_of
from rlab.envs.go.players import PLAYERS, RESIGN
from rlab.errors import RlabError, printable
from rlab.trust import check_program

MOVE_SECONDS = 60.0
"""That a program may think about one move, if nothing else is said."""

OTHER_SECONDS = 120.0
"""For everything else: a program may load a large network before its first answer."""

POLL_SECONDS = 0.2
"""How often a wait looks whether it is to be given up."""

MOST_ANSWER = 1 << 20
"""Bytes of one answer; more is no answer to anything that is asked here."""

AT_ONCE = 64
"""Commands that are sent before their answers are read: few enough for a pipe, so neither side can block the other."""

CRASHES = 3
"""Of a program at one move, after which it is started again; with the next one the move is lost."""

SEATS = 4
"""Processes of a program that plays each game in a fresh one, for every one that thinks."""

GNUGO_LEVELS = 20
NEVER_RESIGN = ",never-resign"

HOW_TO_GET_GNUGO = "on Debian and Ubuntu: apt-get install gnugo"


class ProgramError(RlabError):
    """A program failed in a game.

    Args:
        reason: "crash" (it ended), "time" (no answer in time), "answer" (what it said means nothing) or "illegal" (a
            move that the rules do not allow).
        sentence: names the program, the command and what it said.
    """

    def __init__(self, reason: str, sentence: str):
        super().__init__(sentence)
        self.reason = reason


class SomeFailed(RlabError):
    """In some of the games that were asked for there is no move; in the others there is.

    Args:
        moves: [K] as `Player.choose` returns them; undefined where there is none.
        failed: place 0 .. K - 1 -> why not.
    """

    def __init__(self, moves: NDArray[np.int64], failed: dict[int, ProgramError]):
        super().__init__(str(next(iter(failed.values()))))
        self.moves, self.failed = moves, failed


class GivenUp(RlabError):
    """The wait for a program was given up because it was asked for."""


class Process:
    """One program that runs: commands in, answers out.

    It has a session of its own, so that a Ctrl-C in the terminal does not reach it, and its end takes along whatever
    it has started. If this process is killed, the program reads the end of its input and ends.

    Args:
        name: for messages.
        words: of the command line.
        stopped: polled during waits; true gives the wait up.

    Raises:
        RlabError: it cannot be started.
    """

    def __init__(self, name: str, words: Sequence[str], stopped: Callable[[], bool] = lambda: False):
        self.name, self.stopped = name, stopped
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - what it writes to stderr; closed in `close`
        try:
            self._child = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as e:
            self._stderr.close()
            raise RlabError(f"{name} cannot be started: `{words[0]}`: {e.strerror or e}") from None
        self._end = weakref.finalize(self, _end, self._child, self._stderr)
        self._read = bytearray()

    def ask(self, commands: Sequence[str], seconds: float = OTHER_SECONDS) -> list[str]:
        """Send commands and return what follows the ``=`` of each answer.

        Raises:
            ProgramError: one was answered with ``?`` or nonsense, too late, or not at all. The process is of no
                further use then.
        """
        answers: list[str] = []
        for at in range(0, len(commands), AT_ONCE):
            some = commands[at : at + AT_ONCE]
            try:
                assert self._child.stdin is not None
                self._child.stdin.write("".join(f"{command}\n" for command in some).encode())
            except OSError:
                raise self._ended(some[0]) from None
            answers += [self._answer(command, seconds) for command in some]
        return answers

    def close(self) -> None:
        """End the program. Safe to call twice."""
        self._end()

    def _answer(self, command: str, seconds: float) -> str:
        text = self._block(command, seconds)
        if text[:1] == "?":
            raise ProgramError("answer", f"{self.name} refused `{command}`: {_short(text[1:])}")
        if text[:1] != "=":
            raise ProgramError("answer", f"{self.name} answered `{command}` with {_short(text)!r}, which is no GTP")
        return text[1:].strip()

    def _block(self, command: str, seconds: float) -> str:
        """The next answer, up to its empty line."""
        assert self._child.stdout is not None
        out = self._child.stdout.fileno()
        poll = select.poll()
        poll.register(out, select.POLLIN)
        deadline = time.monotonic() + seconds
        while True:
            # Empty lines may precede an answer; a carriage return means nothing (GTP 2, section 3.1).
            text = self._read.replace(b"\r", b"").lstrip(b"\n")
            block, end, rest = text.partition(b"\n\n")
            if end:
                self._read = bytearray(rest)
                return block.decode("utf-8", "replace")
            first, ended, _ = text.partition(b"\n")
            if ended and first[:1] not in b"=?":  # or one would wait in vain for its end
                return first.decode("utf-8", "replace")
            if len(text) > MOST_ANSWER:
                raise ProgramError("answer", f"{self.name} answered `{command}` with more than {MOST_ANSWER} bytes")
            left = deadline - time.monotonic()
            if left <= 0:
                raise ProgramError("time", f"{self.name} did not answer `{command}` within {seconds:g} s")
            if self.stopped():
                raise GivenUp(f"the wait for {self.name} was given up")
            if poll.poll(1000 * min(left, POLL_SECONDS)):
                some = os.read(out, 1 << 16)
                if not some:
                    raise self._ended(command)
                self._read += some

    def _ended(self, command: str) -> ProgramError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(1.0)
        code = self._child.poll()
        how = "closed its output" if code is None else f"was ended by {signal.Signals(-code).name}" if code < 0 else (
            f"ended with status {code}")  # fmt: skip
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - 2000))
        lines = self._stderr.read().decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ProgramError("crash", f"{self.name} {how} at `{command}`" + (f": {_short(last)}" if last else ""))


def _end(child: subprocess.Popen[bytes], stderr: IO[bytes]) -> None:
    """End a program and all that it has started, and wait for it: no zombie stays."""
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(0.2)  # the end of its input is the polite way
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)  # also what it has left behind
    child.wait()
    stderr.close()


def _short(text: str, most: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


class Program:
    """A program as a player: some processes of it, each with a game or several.

    A process is brought to a game by comparing move lists: if it stands in that game, only what is new is sent; else
    the board is cleared and all moves are sent. A process that fails is ended; the next move gets a new one, and so
    does this one if it has crashed.

    Args:
        name: see `Player`.
        command: a game's setting -> the words of the command line.
        before: key of a move -> commands that are sent ahead of it. Without any the program draws as it likes.
        fresh: a process stays with one game, and a new one begins with each: what a program remembers of one game must
            not alter another.
        sizes: of boards that it can play, least and most; None: whatever the program accepts.

    Attributes:
        seconds: that it may think about a move.
        processes: that think at once; one a core by default.
        stopped: polled while it thinks; true ends `choose` with `GivenUp`.
        report: told that it has crashed and is started again; by default on stderr.
        about: name and version as the program says them; it is started for that.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[Setting], Sequence[str]],
        before: Callable[[int], Sequence[str]] = lambda key: (),
        fresh: bool = False,
        sizes: tuple[int, int] | None = None,
    ):
        self.name, self.seconds = name, MOVE_SECONDS
        self.processes = len(os.sched_getaffinity(0))
        self.stopped: Callable[[], bool] = lambda: False
        self.report: Callable[[str], None] = lambda text: print(printable(text), file=sys.stderr)
        self._command, self._before, self._fresh, self._sizes = command, before, fresh, sizes
        self._seats: list[_Seat] = []
        self._worked = False

    @property
    def about(self) -> str:
        """See the class.

        Raises:
            GivenUp: `stopped` said so.
            RlabError: it cannot be started, or does not speak GTP.
        """
        process = Process(self.name, self._command(Setting()), lambda: self.stopped())
        try:
            answers = process.ask(["protocol_version", "name", "version"])
        finally:
            process.close()
        return _short(" ".join(answers[1:])) or self.name

    def choose(self, boards: Boards, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """See `Player`.

        Raises:
            SomeFailed: there is no legal move in some of the games.
            GivenUp: `stopped` said so.
            RlabError: it cannot be started, or it does not play such boards: nothing that another try would mend.
        """
        if self._sizes and not self._sizes[0] <= boards.size <= self._sizes[1]:
            raise RlabError(f"{self.name} plays boards of {self._sizes[0]} to {self._sizes[1]}, not {boards.size}")
        moves = np.full(len(rows), RESIGN, np.int64)
        games = [_Game(boards, int(row)) for row in rows]
        failed: dict[int, ProgramError] = {}
        fatal: list[BaseException] = []
        todo, lock = list(range(len(rows))), threading.Lock()
        # Who stands in one of these games already, so that no other game takes that process away.
        standing = {place: seat for place, game in enumerate(games) for seat in self._seats if seat.has(game)}

        def work() -> None:
            while True:
                with lock:
                    if not todo or fatal:
                        return
                    place = todo.pop(0)
                    seat = standing.pop(place, None) or self._free(list(standing.values()))
                    seat.busy = True
                    for other in [p for p, taken in standing.items() if taken is seat]:
                        del standing[other]  # it is taken away from that game
                try:
                    moves[place] = self._move_or_again(seat, games[place], int(keys[place]))
                except ProgramError as e:
                    seat.leave()
                    failed[place] = e
                except BaseException as e:
                    seat.leave()
                    fatal.append(e)
                with lock:
                    seat.busy = False
                    self._seats.sort(key=lambda other: other is seat)  # the longest unused comes first

        # Daemons: a process that hangs must not hold up the end of this one.
        number = min(self.processes, len(rows)) - 1
        threads = [threading.Thread(target=work, daemon=True) for _ in range(number)]
        for thread in threads:
            thread.start()
        work()
        for thread in threads:
            thread.join()
        if fatal:
            raise fatal[0]
        legal = boards.legal()[rows]
        for place, move in enumerate(moves):
            if place not in failed and move != RESIGN and not legal[place, move]:
                why = boards.why_not(int(rows[place]), int(move))
                name = name_of(int(move), boards.size)
                failed[place] = ProgramError(
                    "illegal", f"{self.name} answered `{games[place].genmove}` with {name}: {why}"
                )
        if failed:
            raise SomeFailed(moves, dict(sorted(failed.items())))
        return moves

    def close(self) -> None:
        """End all processes."""
        for seat in self._seats:
            seat.leave()

    def _free(self, wanted: Sequence[_Seat]) -> _Seat:
        """A seat for a game in which no process stands: a new one while there may be more, else the longest unused."""
        if len(self._seats) < self.processes * (SEATS if self._fresh else 1):
            self._seats.append(_Seat())
            return self._seats[-1]
        free = [seat for seat in self._seats if not seat.busy]
        return next((seat for seat in free if seat not in wanted), free[0])

    def _move_or_again(self, seat: _Seat, game: _Game, key: int) -> int:
        """A move, for which a program that crashes is started again up to `CRASHES` times."""
        for crash in range(1, CRASHES + 1):
            try:
                return self._move(seat, game, key)
            except ProgramError as e:
                if e.reason != "crash" or self.stopped():
                    raise
                seat.leave()
                self.report(f"{e}; it is started again ({crash} of {CRASHES})")
        return self._move(seat, game, key)

    def _move(self, seat: _Seat, game: _Game, key: int) -> int:
        there = seat.has(game)
        if seat.process is None or seat.setting != game.setting or (self._fresh and not there):
            seat.leave()
            seat.process = self._start(game.setting)
            seat.setting = game.setting
        process = seat.process
        if there:
            new = game.moves[len(seat.moves) :]
            commands = game.plays(len(seat.moves), new)
        else:
            commands = ["clear_board", *game.stones(), *game.plays(0, game.moves)]
        process.ask([*commands, *self._before(key)])
        answer = process.ask([game.genmove], self.seconds)[0]
        self._worked = True
        if answer.lower() == "resign":
            seat.row = -1
            return RESIGN
        try:
            move = point_of(answer, game.setting.size)
        except RlabError as e:
            raise ProgramError(
                "answer", f"{self.name} answered `{game.genmove}` with '{_short(answer)}': {e}"
            ) from None
        seat.row, seat.start, seat.moves = game.row, game.start, [*game.moves, move]
        return move

    def _start(self, setting: Setting) -> Process:
        process = Process(self.name, self._command(setting), lambda: self.stopped())
        try:
            process.ask([f"boardsize {setting.size}", "clear_board", f"komi {setting.komi:g}"])
        except ProgramError as e:
            process.close()
            if self._worked:  # so the program is right, and this is one more crash
                raise
            raise RlabError(str(e)) from None
        except BaseException:
            process.close()
            raise
        return process


class _Game:
    """What a program must be told of a game."""

    def __init__(self, boards: Boards, row: int):
        self.setting, self.row = boards.setting, row
        self.start = boards.starts[row].copy()
        self.moves = boards.moves(row)
        self.genmove = f"genmove {self.colour(len(self.moves))}"

    def colour(self, nth: int) -> str:
        """Of the nth move: a Boards' game is played in turn."""
        return "bw"[(int(self.start[-1]) - 1 + nth) % 2]

    def stones(self) -> list[str]:
        """Of the position with which it begins. They capture nothing, in whatever order they come."""
        size = self.setting.size
        return [f"play {'bw'[c - 1]} {name_of(p, size)}" for p, c in enumerate(self.start[:-1].tolist()) if c]

    def plays(self, first: int, moves: Sequence[int]) -> list[str]:
        size = self.setting.size
        return [f"play {self.colour(first + n)} {name_of(move, size)}" for n, move in enumerate(moves)]


class _Seat:
    """One process and the game in which it stands."""

    def __init__(self) -> None:
        self.process: Process | None = None
        self.setting: Setting | None = None
        self.busy = False
        self.row = -1  # none
        self.start = np.zeros(0, np.uint8)
        self.moves: list[int] = []

    def has(self, game: _Game) -> bool:
        """Whether the process stands in this game, at its end or before."""
        return (
            self.row == game.row
            and self.setting == game.setting
            and self.moves == game.moves[: len(self.moves)]
            and np.array_equal(self.start, game.start)
        )

    def leave(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.close()
        self.process, self.row = None, -1


def find_gnugo() -> str | None:
    """GNU Go's executable; Debian has it where the path of a daemon does not look."""
    path = shutil.which("gnugo")
    usual = Path("/usr/games/gnugo")
    return path or (str(usual) if os.access(usual, os.X_OK) else None)


def gnugo(rest: str) -> Program:
    """GNU Go at a level, 10 if none is said; with ``,never-resign`` behind it, it plays lost games to their end.

    Chinese rules and our ko rule; it plays on until what it thinks dead is captured (``--capture-all-dead``), so that
    our count of the board is nearly always its own. A seed comes ahead of each move, and with it what it has cached is
    forgotten; even so a move may depend on other games that the process played (2 of 1,900 did), so each game has a
    process of its own.

    Raises:
        RlabError: there is no such level, or no GNU Go.
    """
    level, never, _ = rest.partition(NEVER_RESIGN)
    if never and rest != level + never:
        raise RlabError(f"behind GNU Go's level stands only {NEVER_RESIGN}, not '{rest[len(level) :]}'")
    text = level or "10"
    if not (text.isascii() and text.isdigit()) or int(text) > GNUGO_LEVELS:
        raise RlabError(f"GNU Go's levels are 0 to {GNUGO_LEVELS}, not '{rest}'; write gnugo:10")
    path = find_gnugo()
    if path is None:
        raise RlabError(f"there is no `gnugo` here; {HOW_TO_GET_GNUGO}")
    kos = {"positional": "--positional-superko", "situational": "--situational-superko", "simple": "--simple-ko"}

    def command(setting: Setting) -> list[str]:
        suicide = "--allow-all-suicide" if setting.suicide else "--forbid-suicide"
        words = ["--mode", "gtp", "--level", str(int(text)), "--chinese-rules", "--capture-all-dead"]
        return [path, *words, kos[setting.ko], suicide, *(["--never-resign"] if never else [])]

    def before(key: int) -> list[str]:
        return [f"set_random_seed {key >> 33}", "clear_cache"]

    return Program(f"gnugo:{int(text)}{never}", command, before, True, (5, len(LETTERS)))


def program(rest: str) -> Program:
    """Any program, by its command line.

    Raises:
        RlabError: the command line is empty or cannot be read, or there is no such program.
        Untrusted: only a run's folder has named it (`rlab.trust`).
    """
    check_program(rest)
    try:
        words = shlex.split(rest)
    except ValueError as e:
        raise RlabError(f"the command line of 'gtp:{rest}' cannot be read: {e}") from None
    if not words:
        raise RlabError('a program is named by its command line: "gtp:gnugo --mode gtp"')
    if shutil.which(words[0]) is None:
        raise RlabError(f"there is no program `{words[0]}` here, which 'gtp:{rest}' asks for")
    return Program(f"gtp:{rest}", lambda setting: words)


PLAYERS.register("gnugo")(gnugo)
PLAYERS.register("gtp")(program)
