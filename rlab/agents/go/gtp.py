"""The Go Text Protocol, version 2, as its server (https://www.lysator.liu.se/~gunnar/gtp/gtp2-spec-draft2/).

Every line that is not empty is answered, by ``=`` or ``?``, whatever stands in it. An analysis streams until the next
line comes. Beside the specification's commands there are the analysis commands of Leela Zero and KataGo, which programs
with a picture speak (https://github.com/lightvector/KataGo/blob/master/docs/GTP_Extensions.md), and what GoGui needs to
draw an analysis on its board (its manual, "Analyze commands").
"""

from __future__ import annotations

import contextlib
import json
import math
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlab.agents.go.analysis import Analysis, Avoided, last_of, never
from rlab.agents.go.engine import Engine, chains, score_text
from rlab.envs.go.boards import LETTERS, Boards, name_of, point_of
from rlab.envs.go.players import RESIGN
from rlab.envs.go.rules import BLACK, WHITE
from rlab.envs.go.sgf import RULES, begin, read_sgf, short, write_sgf
from rlab.errors import RlabError, nearest

MOST_LINE = 1 << 16
"""Bytes of a line; a longer one is refused."""
MOST_VISITS = 1_000_000
"""Of an analysis that streams."""
TIMED_VISITS = 100_000
"""Of a move under a clock, if no number of visits is set."""
FIRST_VISITS = 16
"""Of an analysis before a clock runs for the first time: what is compiled at its first use is compiled then."""
LAG_SECONDS = 0.25
"""Of a clock, kept back for the last look at it, for pipes and for whoever counts the time."""
MOST_SECONDS = 1e9
"""Of a move: for ever."""
KGS_TIMES = {
    "none": "",
    "absolute": "MAIN",
    "byoyomi": "MAIN PERIOD PERIODS",
    "canadian": "MAIN PERIOD STONES",
}
"""Kinds of clocks and their numbers (http://www.weddslist.com/kgs/how/kgsGtp.html)."""
KATA_TIMES = {**KGS_TIMES, "fischer": "MAIN INCREMENT", "fischer-capped": "MAIN INCREMENT MOST_MAIN MOST_OF_A_MOVE"}
KGS_RULES = {"chinese": "chinese-superko", "aga": "aga", "new_zealand": "new-zealand"}
"""What KGS calls rules -> ours."""
_COLOURS = {"b": BLACK, "black": BLACK, "w": WHITE, "white": WHITE}
_CONTROL = dict.fromkeys(k for k in (*range(32), 127) if k not in (9, 10)) | {9: " "}
_NUMBER = re.compile(r"[+-]?(\d{1,12}(\.\d{0,12})?|\.\d{1,12})", re.ASCII)


class SyntaxProblem(RlabError):
    """Arguments that a command does not take."""


# ---- Time.


@dataclass
class GtpClock:
    """What a player may still use, in seconds; see `time_settings` of the specification.

    Attributes:
        main: seconds of main time.
        period: seconds of a byo-yomi period, 0: none.
        stones: moves that a period must hold (Canadian); 0 with `periods`.
        periods: byo-yomi periods, each of which lasts as long as moves stay within it; 0: there are none of this kind.
        increment: seconds that a move adds to main time (Fischer).
        most_main: of main time after an increment.
        most_move: of any move.
        left: (seconds, stones or periods left, 0 in main time) of each colour, as told last or counted here.
    """

    main: float = 0.0
    period: float = 0.0
    stones: int = 0
    periods: int = 0
    increment: float = 0.0
    most_main: float = math.inf
    most_move: float = math.inf
    left: dict[int, tuple[float, int]] = field(default_factory=dict)

    @property
    def limited(self) -> bool:
        """Whether there is a clock at all."""
        return self.overtime > 0 or self.increment > 0 or (self.period == 0 and self.main > 0)

    @property
    def overtime(self) -> int:
        """Stones or periods with which overtime begins; 0: there is none."""
        return self.stones or self.periods

    def _left(self, colour: int) -> tuple[float, int]:
        seconds, count = self.left.get(colour, (self.main, 0))
        return (self.period, self.overtime) if count == 0 and seconds <= 0 and self.overtime else (seconds, count)

    def allowance(self, colour: int, moves: int, points: int) -> float | None:
        """Seconds for the next move; None: as many as it likes.

        Of a Canadian period its share, of byo-yomi a period; of main time that of the moves which are still to come, at
        least a quarter of the board's points, and what overtime or an increment would give. A tenth is kept back, and
        of what the move may take at the most `LAG_SECONDS`.
        """
        if not self.limited:
            return None
        left, count = self._left(colour)
        left = max(0.0, left)
        if count:
            share, most = left / (count if self.stones else 1), left
        else:
            ahead = max(points / 4, (points - moves) / 2, 5.0)
            share = left / ahead + self.increment + (self.period / (self.stones or 1) if self.overtime else 0.0)
            most = left + (self.period if self.overtime else 0.0)
        return min(self.most_move, 0.9 * share, max(most - LAG_SECONDS, most / 4))

    def spend(self, colour: int, seconds: float) -> None:
        """Count the time of a move, for whoever does not tell it."""
        if not self.limited:
            return
        left, count = self._left(colour)
        left -= seconds
        if count == 0 and (left > 0 or not self.overtime):
            self.left[colour] = (min(left + self.increment, max(left, self.most_main)), 0)
        elif self.periods:
            begun = math.ceil(max(0.0, -left) / self.period)  # periods that it has gone into, or the one after its own
            gone = begun if count else begun - 1
            self.left[colour] = (self.period, max(1, (count or self.periods) - max(0, gone)))
        else:
            self.left[colour] = (self.period, self.stones) if count <= 1 else (left, count - 1)


# ---- Lines in.


class GtpInput:
    """Lines of a stream, which a thread reads, so that an analysis can see that one is waiting.

    Args:
        read: gives the next bytes, none at the end, such as ``lambda: os.read(0, 65536)``. (A buffered file would not
            do: a thread that waits in one holds its lock when the process wants to end.)
    """

    def __init__(self, read: Callable[[], bytes]):
        self._more = read
        self._lines: queue.Queue[bytes | None] = queue.Queue(256)
        threading.Thread(target=self._read, name="gtp", daemon=True).start()

    def _read(self) -> None:
        line = b""
        with contextlib.suppress(OSError):  # closed under us: as at its end
            while piece := self._more():
                first, *others = piece.split(b"\n")
                line = line[: MOST_LINE + 1] + first  # of a line that is too long its beginning is enough
                for following in others:
                    self._lines.put(line)
                    line = following
        if line:
            self._lines.put(line)
        self._lines.put(None)

    def __iter__(self) -> Iterator[bytes]:
        while (line := self._lines.get()) is not None:
            yield line

    def waiting(self) -> bool:
        """Whether a line, or the stream's end, is there to be taken."""
        return not self._lines.empty()


# ---- The server.


class Server:
    """Answers lines.

    Args:
        engine: the game and its player.
        name: what the command `name` says.
        version: what the command `version` says.
        write: is given text as soon as there is some; a whole answer, or pieces of one that streams.
        waiting: whether the next line has come, which ends an analysis.
    """

    def __init__(
        self,
        engine: Engine,
        name: str = "rlab",
        version: str = "",
        *,
        write: Callable[[str], None],
        waiting: Callable[[], bool] = lambda: True,
    ):
        self.engine, self.name, self.version = engine, name, version
        self.write, self.waiting = write, waiting
        self.clock = GtpClock()
        self.most_seconds = math.inf
        """Of a move, whatever the clock says."""
        self._warm = False
        self.done = False
        self._head, self._open = "", False
        self._commands: dict[str, Callable[[list[str]], str | None]] = {
            "protocol_version": lambda words: self._none(words, "2"),
            "name": lambda words: self._none(words, self.name),
            "version": lambda words: self._none(words, self.version),
            "known_command": self._known_command,
            "list_commands": lambda words: self._none(words, "\n".join(sorted(self._commands))),
            "quit": self._quit,
            "boardsize": self._boardsize,
            "clear_board": self._clear_board,
            "clear_cache": lambda words: self._none(words, ""),  # no tree outlives its move
            "cputime": lambda words: self._none(words, f"{time.process_time():.2f}"),
            "set_position": self._set_position,
            "komi": self._komi,
            "get_komi": lambda words: self._none(words, f"{self.engine.setting.komi:g}"),
            "play": self._play,
            "genmove": self._genmove,
            "reg_genmove": self._reg_genmove,
            "undo": self._undo,
            "fixed_handicap": self._fixed_handicap,
            "place_free_handicap": self._place_free_handicap,
            "set_free_handicap": self._set_free_handicap,
            "time_settings": self._time_settings,
            "time_left": self._time_left,
            "kgs-time_settings": lambda words: self._time_by_kind(words, KGS_TIMES),
            "kata-time_settings": lambda words: self._time_by_kind(words, KATA_TIMES),
            "kata-list_time_settings": lambda words: self._none(words, " ".join(KATA_TIMES)),
            "final_score": self._final_score,
            "final_status_list": self._final_status_list,
            "loadsgf": self._loadsgf,
            "printsgf": self._printsgf,
            "showboard": self._showboard,
            "kata-get-rules": self._get_rules,
            "kata-set-rules": self._set_rules,
            "kgs-rules": self._kgs_rules,
            "kata-list-params": lambda words: self._none(words, " ".join(self._params())),
            "kata-get-params": lambda words: self._none(words, json.dumps(self._params())),
            "kata-get-param": self._get_param,
            "kata-set-param": self._set_param,
            "genmove_analyze": lambda words: self._genmove_analyze(words, _leela),
            "lz-genmove_analyze": lambda words: self._genmove_analyze(words, _leela),
            "kata-genmove_analyze": lambda words: self._genmove_analyze(words, _kata),
        }
        if engine.analyst is not None:
            self._commands |= {
                "analyze": lambda words: self._analyze(words, _leela),
                "lz-analyze": lambda words: self._analyze(words, _leela),
                "kata-analyze": lambda words: self._analyze(words, _kata),
                "gogui-analyze_commands": self._gogui_commands,
                "rlab-moves": self._gogui_moves,
                "rlab-ownership": self._gogui_ownership,
            }

    def serve(self, lines: Iterator[bytes]) -> None:
        """Answer lines until `quit` or their end."""
        for line in lines:
            self.answer(line)
            if self.done:
                return

    def answer(self, line: bytes) -> None:
        """Answer one line."""
        too_long = len(line) > MOST_LINE
        # Bytes that are no UTF-8 come back as they went in, such as those of a file's name.
        text = line[: 200 if too_long else None].decode("utf-8", "surrogateescape").translate(_CONTROL)
        words = text.partition("#")[0].split()
        if not words:
            return
        number = words.pop(0) if words[0].isascii() and words[0].isdigit() else ""
        self._head, self._open = number if len(number) <= 20 else number[:20], False
        try:
            if too_long:
                raise RlabError(f"a line has at most {MOST_LINE} bytes")
            if not words:
                raise RlabError("unknown command: there is none")
            if words[0] not in self._commands:
                raise RlabError(f"unknown command: '{short(words[0])}'; {nearest(words[0][:40], self._commands)}")
            answer = self._commands[words[0]](words[1:])
        except SyntaxProblem as e:
            self._refuse(f"syntax error: {e}" if str(e) else "syntax error")
        except RlabError as e:
            self._refuse(str(e))
        except Exception as e:  # whatever is wrong here, the one who asked gets an answer
            self._refuse(f"internal error: {type(e).__name__}: {e}")
        else:
            if self._open:
                self._say(f"{answer}\n\n" if answer else "\n")
            else:
                self._say(f"={self._head} {answer}".rstrip() + "\n\n")

    def _say(self, text: str) -> None:
        self.write(text.encode("utf-8", "replace").decode())

    def _refuse(self, why: str) -> None:
        line = " ".join(short(why, 400).split())
        self._say(f"{line}\n\n" if self._open else f"?{self._head} {line}\n\n")

    def _stream(self, text: str) -> None:
        """A line of an answer before its end."""
        if not self._open:
            self._say(f"={self._head}\n")
            self._open = True
        self._say(text + "\n")

    # ---- What words mean.

    def _none(self, words: list[str], answer: str) -> str:
        self._take(words, 0)
        return answer

    def _take(self, words: list[str], least: int, most: int | None = None) -> None:
        most = least if most is None else most
        if not least <= len(words) <= most:
            many = str(least) if least == most else f"{least} to {most}"
            raise SyntaxProblem(f"it takes {many} arguments, not {len(words)}")

    def _colour(self, word: str) -> int:
        if word.lower() not in _COLOURS:
            raise SyntaxProblem(f"'{short(word)}' is no colour; black or white")
        return _COLOURS[word.lower()]

    def _point(self, word: str) -> int:
        try:
            return point_of(word[:10], self.engine.size)
        except RlabError as e:
            raise SyntaxProblem(str(e)) from None

    def _integer(self, word: str, what: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,9}", word, re.ASCII):
            raise SyntaxProblem(f"{what} is '{short(word)}', and should be a whole number")
        return int(word)

    def _real(self, word: str, what: str) -> float:
        if not _NUMBER.fullmatch(word):
            raise SyntaxProblem(f"{what} is '{short(word)}', and should be a number")
        return float(word)

    def _vertices(self, points: Sequence[int]) -> str:
        return " ".join(name_of(p, self.engine.size) for p in points)

    # ---- Commands: the program.

    def _known_command(self, words: list[str]) -> str:
        self._take(words, 1)
        return str(words[0] in self._commands).lower()

    def _quit(self, words: list[str]) -> str:
        self._take(words, 0)
        self.done = True
        return ""

    # ---- Commands: the game.

    def _boardsize(self, words: list[str]) -> str:
        self._take(words, 1)
        size = self._integer(words[0], "the size")
        try:
            self.engine.set_up(replace(self.engine.setting, size=size, cap=0))
        except RlabError as e:
            raise RlabError(f"unacceptable size: {e}") from None
        return ""

    def _clear_board(self, words: list[str]) -> str:
        self._take(words, 0)
        self.engine.clear()
        self.clock.left.clear()
        return ""

    def _set_position(self, words: list[str]) -> str:
        """Colours and points in turn; Black is to move, and nothing was before."""
        if len(words) % 2:
            raise SyntaxProblem("a position is COLOUR VERTEX COLOUR VERTEX ...")
        stones = np.zeros(self.engine.boards.points, np.uint8)
        for colour, vertex in zip(words[::2], words[1::2], strict=True):
            point = self._point(vertex)
            if point == self.engine.boards.pass_:
                raise SyntaxProblem("a pass is no stone of a position")
            if stones[point]:
                raise RlabError(f"illegal position: there are two stones on {name_of(point, self.engine.size)}")
            stones[point] = self._colour(colour)
        try:
            begin(Boards(1, self.engine.setting, threads=1), 0, stones, BLACK)  # or the game is as before
        except RlabError as e:
            raise RlabError(f"illegal position: {e}") from None
        self.engine.arrange(stones, BLACK)
        self.clock.left.clear()
        return ""

    def _komi(self, words: list[str]) -> str:
        self._take(words, 1)
        self.engine.change(replace(self.engine.setting, komi=self._real(words[0], "the komi")))
        return ""

    def _play(self, words: list[str]) -> str:
        self._take(words, 2)
        colour, point = self._colour(words[0]), self._point(words[1])
        try:
            self.engine.play(colour, point)
        except RlabError as e:
            raise RlabError(f"illegal move: {e}") from None
        return ""

    def _genmove(self, words: list[str]) -> str:
        self._take(words, 1)
        return self._move(self._colour(words[0]))

    def _reg_genmove(self, words: list[str]) -> str:
        self._take(words, 1)
        return self._vertex(self.engine.choose(self._colour(words[0])))

    def _vertex(self, point: int) -> str:
        return "resign" if point == RESIGN else name_of(point, self.engine.size)

    def _move(
        self,
        colour: int,
        on_analysis: Callable[[Analysis], None] | None = None,
        avoided: Sequence[Avoided] = (),
    ) -> str:
        """Choose and play, within the clock."""
        engine = self.engine
        began = time.monotonic()
        seconds = self.clock.allowance(colour, len(engine.moves), engine.boards.points)
        seconds = min(math.inf if seconds is None else seconds, self.most_seconds)
        visits = engine.visits
        if seconds == math.inf:
            stop = never
        else:
            stop = _at(began + seconds)
            visits = visits or TIMED_VISITS
        point = engine.choose(colour, visits=visits, stop=stop, on_analysis=on_analysis, avoided=avoided)
        if point != RESIGN:
            engine.play(colour, point)
        self.clock.spend(colour, time.monotonic() - began)
        return self._vertex(point)

    def _undo(self, words: list[str]) -> str:
        self._take(words, 0)
        if not self.engine.moves:
            raise RlabError("cannot undo: no move was made")
        self.engine.undo()
        return ""

    # ---- Commands: handicap.

    def _handicap(self, points: Sequence[int]) -> None:
        stones = np.zeros(self.engine.boards.points, np.uint8)
        stones[list(points)] = BLACK
        self.engine.arrange(stones, WHITE, len(points))

    def _empty_board(self) -> None:
        if self.engine.moves or self.engine.boards.stones().any():
            raise RlabError("board not empty")

    def _fixed_handicap(self, words: list[str]) -> str:
        self._take(words, 1)
        number = self._integer(words[0], "the number of stones")
        self._empty_board()
        places = handicap_points(self.engine.size)
        if number not in places:
            most = f"2 to {max(places)}" if places else "none"
            size = self.engine.size
            raise RlabError(f"invalid number of stones: {number}; a {size}x{size} board has places for {most}")
        self._handicap(places[number])
        return self._vertices(places[number])

    def _place_free_handicap(self, words: list[str]) -> str:
        self._take(words, 1)
        number = self._integer(words[0], "the number of stones")
        self._empty_board()
        if not 2 <= number < self.engine.boards.points:
            raise RlabError(f"invalid number of stones: {number}; 2 to {self.engine.boards.points - 1}")
        places = handicap_points(self.engine.size)
        if not places:
            raise RlabError(f"invalid number of stones: a board of {self.engine.size} has no places for them")
        # Fewer than were asked for may be placed, as the specification says.
        chosen = places[min(number, max(places))]
        self._handicap(chosen)
        return self._vertices(chosen)

    def _set_free_handicap(self, words: list[str]) -> str:
        self._empty_board()
        points = [self._point(word) for word in words]
        most = self.engine.boards.points - 1
        if not 2 <= len(points) <= most or len(set(points)) < len(points) or self.engine.boards.pass_ in points:
            raise RlabError(f"bad vertex list: it must be 2 to {most} different points of the board")
        self._handicap(points)
        return ""

    # ---- Commands: time.

    def _time_settings(self, words: list[str]) -> str:
        self._take(words, 3)
        main, period = (self._real(word, "a time") for word in words[:2])
        stones = self._integer(words[2], "the number of stones")
        if min(main, period, stones) < 0:
            raise SyntaxProblem("times and stones are not below 0")
        # A period that need hold no stone is no limit.
        self._set_clock(GtpClock(main, period, stones if period > 0 else 0) if stones or not period else GtpClock())
        return ""

    def _set_clock(self, clock: GtpClock) -> None:
        self.clock = clock
        if clock.limited and not self._warm and self.engine.analyst is not None:
            last_of(self.engine.analyse(self.engine.turn, FIRST_VISITS))
            self._warm = True

    def _time_by_kind(self, words: list[str], kinds: Mapping[str, str]) -> str:
        """A kind of clock and its numbers, as KGS and KataGo name them."""
        self._take(words, 1, 5)
        kind = words[0].lower()
        least = -1.0 if kind == "fischer-capped" else 0.0
        if kind not in kinds or len(words) - 1 != len(kinds[kind].split()):
            raise SyntaxProblem(", ".join(f"{kind} {names}".strip() for kind, names in kinds.items()))
        numbers = [self._real(word, "a time") for word in words[1:]]
        if min(numbers, default=0.0) < least or min(numbers[:2], default=0.0) < 0:
            raise SyntaxProblem("times, periods and stones are not below 0")
        if kind in ("byoyomi", "canadian"):
            main, period, count = numbers
            if period == 0:
                self._set_clock(GtpClock(main))
            elif kind == "canadian":
                self._set_clock(GtpClock(main, period, stones=max(1, int(count))))
            else:
                self._set_clock(GtpClock(main, period, periods=max(1, int(count))))
        elif kind == "none":
            self._set_clock(GtpClock())
        else:
            main, increment, most_main, most_move = [*numbers, *(0.0, -1.0, -1.0)[len(numbers) - 1 :]]
            clock = GtpClock(
                main,
                increment=increment,
                most_main=most_main if most_main >= 0 else math.inf,
                most_move=most_move if most_move >= 0 else math.inf,
            )
            self._set_clock(clock)
        return ""

    def _time_left(self, words: list[str]) -> str:
        self._take(words, 3)
        colour = self._colour(words[0])
        self.clock.left[colour] = (self._real(words[1], "time"), max(0, self._integer(words[2], "stones")))
        return ""

    # ---- Commands: the end.

    def _final_score(self, words: list[str]) -> str:
        self._take(words, 0)
        return score_text(self.engine.score(self.engine.dead()))

    def _final_status_list(self, words: list[str]) -> str:
        self._take(words, 1)
        kind = words[0].lower()
        if kind not in ("alive", "dead", "seki"):
            raise SyntaxProblem(f"'{short(words[0])}' is no status; alive, dead or seki")
        if kind == "seki":
            return ""  # not told apart: by area its stones count like any that live
        dead = self.engine.dead()
        if kind == "dead":
            return "\n".join(map(self._vertices, dead))
        return "\n".join(self._vertices(c) for c in chains(self.engine.boards.stones()[0]) if c not in dead)

    # ---- Commands: files, pictures, rules.

    def _loadsgf(self, words: list[str]) -> str:
        self._take(words, 1, 2)
        upto = None if len(words) == 1 else self._integer(words[1], "the move number") - 1
        if upto is not None and upto < 0:
            raise SyntaxProblem("the move number counts from 1")
        try:
            self.engine.load(read_sgf(words[0]), upto)
        except RlabError as e:
            raise RlabError(f"cannot load file: {e}") from None
        return ""

    def _printsgf(self, words: list[str]) -> str:
        self._take(words, 0, 1)
        text = write_sgf(self.engine.record())
        if not words or words[0] == "-":
            return re.sub(r"\n(?=\n)", "\n ", text.strip())  # an empty line would end the answer
        try:
            Path(words[0]).write_text(text, "utf-8")
        except (OSError, ValueError) as e:
            raise RlabError(f"cannot write '{short(words[0])}': {getattr(e, 'strerror', None) or e}") from None
        return ""

    def _showboard(self, words: list[str]) -> str:
        self._take(words, 0)
        return "\n" + board_text(self.engine)

    def _get_rules(self, words: list[str]) -> str:
        self._take(words, 0)
        setting = self.engine.setting
        return json.dumps(
            {"ko": setting.ko.upper(), "scoring": "AREA", "tax": "NONE", "suicide": setting.suicide,
             "hasButton": False, "whiteHandicapBonus": "0", "friendlyPassOk": False}
        )  # fmt: skip

    def _set_rules(self, words: list[str]) -> str:
        self.engine.change(replace(self.engine.setting, **_rules(" ".join(words))))
        return ""

    def _kgs_rules(self, words: list[str]) -> str:
        self._take(words, 1)
        name = words[0].lower()
        if name not in KGS_RULES:
            raise RlabError(f"there are no rules '{short(words[0])}' here, only such that count by area; "
                            f"{nearest(name[:40], KGS_RULES)}")  # fmt: skip
        self.engine.change(replace(self.engine.setting, **RULES[KGS_RULES[name]]))
        return ""

    # ---- Commands: parameters, by KataGo's names.

    def _params(self) -> dict[str, float]:
        most = self.most_seconds if self.most_seconds < math.inf else MOST_SECONDS
        return {
            "maxVisits": self.engine.visits,  # 0: the player's own way of choosing a move
            "maxTime": most,  # of a move
            "resignThreshold": 2 * self.engine.resign - 1,  # as KataGo's utility: -1 never, 0 below 50 %
        }

    def _param(self, name: str) -> str:
        if name not in self._params():
            raise RlabError(f"there is no parameter '{short(name)}'; {nearest(name[:40], self._params())}")
        return name

    def _get_param(self, words: list[str]) -> str:
        self._take(words, 1)
        return f"{self._params()[self._param(words[0])]:g}"

    def _set_param(self, words: list[str]) -> str:
        self._take(words, 2)
        name = self._param(words[0])
        value = self._integer(words[1], name) if name == "maxVisits" else self._real(words[1], name)
        low, high = {"maxVisits": (0, MOST_VISITS), "maxTime": (0, MOST_SECONDS), "resignThreshold": (-1, 0.99)}[name]
        if not low <= value <= high:
            raise RlabError(f"{name} is {value:g}; it is {low:g} to {high:g}")
        if name == "maxVisits":
            self.engine.visits = int(value)
        elif name == "maxTime":
            self.most_seconds = value if value < MOST_SECONDS else math.inf
        else:
            self.engine.resign = (1 + value) / 2
        return ""

    # ---- Commands: analysis.

    def _analyze(self, words: list[str], form: Form) -> str:
        options = self._options(words)
        colour = options.colour or self.engine.turn
        analyses = self.engine.analyse(colour, MOST_VISITS, self.waiting, options.avoided)
        return self._follow(analyses, form, options)

    def _follow(self, analyses: Iterator[Analysis], form: Form, options: Options) -> str:
        """Stream an analysis, at most one line an interval, until the next line comes."""
        last, analysis, shown = 0.0, None, None
        for analysis in analyses:
            now = time.monotonic()
            if now - last >= options.interval:
                self._stream(form(analysis, self.engine.size, options))
                last, shown = now, analysis
        if analysis is not None and analysis is not shown:
            self._stream(form(analysis, self.engine.size, options))
        while not self.waiting():  # all visits were made
            time.sleep(0.02)
        return ""

    def _genmove_analyze(self, words: list[str], form: Form) -> str:
        options = self._options(words)
        last = 0.0
        latest: list[Analysis] = []

        def stream(analysis: Analysis) -> None:
            nonlocal last
            latest[:] = [analysis]
            now = time.monotonic()
            if now - last >= options.interval:
                self._stream(form(analysis, self.engine.size, options))
                last = now
                latest.clear()

        vertex = self._move(options.colour or self.engine.turn, stream, options.avoided)
        if latest:
            self._stream(form(latest[0], self.engine.size, options))
        return f"play {vertex}"

    def _gogui_commands(self, words: list[str]) -> str:
        """What GoGui may ask for: the kind of the answer, its name in the menu, the command. It waits for this."""
        return self._none(words, "gfx/Moves by Search/rlab-moves %m\ngfx/Ownership/rlab-ownership")

    def _gogui_moves(self, words: list[str]) -> str:
        """Drawing commands: per cent of all visits on each move, the best one in colour, what is expected as text."""
        self._take(words, 0, 1)
        colour = self._colour(words[0]) if words else self.engine.turn
        analysis = last_of(self.engine.analyse(colour, self.engine.thinking))
        size, best = self.engine.size, analysis.candidates[0]
        total = sum(c.visits for c in analysis.candidates) or 1
        shares = {c.point: round(100 * c.visits / total) for c in analysis.candidates if c.point < size**2}
        labels = "".join(f" {name_of(point, size)} {share}" for point, share in shares.items() if share)
        lines = [f"LABEL{labels}"] if labels else []
        if best.point in shares:
            lines.append(f"COLOR green {name_of(best.point, size)}")
        who = "Black" if colour == BLACK else "White"
        lead = "" if analysis.score is None else f", {analysis.score:+.1f} points"
        text = f"{who} wins {100 * analysis.winrate:.0f}%{lead}, {analysis.visits} visits"
        return "\n".join([*lines, f"TEXT {text}: {self._vertices(best.variation)}"])

    def _gogui_ownership(self, words: list[str]) -> str:
        """Drawing commands: how surely each point will be Black's (1) or White's (-1)."""
        self._take(words, 0)
        owners = enumerate(self.engine.owners().ravel())
        how = "" if self.engine.knows_owners else " by random games"
        values = "".join(f" {name_of(point, self.engine.size)} {owner:.2f}" for point, owner in owners)
        return f"INFLUENCE{values}\nTEXT Whose each point will be{how}"

    def _options(self, words: list[str]) -> Options:
        """Colour, interval in hundredths of a second and pairs, in the order in which programs send them."""
        left = list(words)
        options = Options()
        while left:
            word = left.pop(0).lower()
            if word in _COLOURS:
                options.colour = _COLOURS[word]
            elif _NUMBER.fullmatch(word):
                options.interval = max(0.0, float(word) / 100)
            elif word in ("avoid", "allow"):
                if len(left) < 3:
                    raise SyntaxProblem(f"{word} COLOUR VERTEX,VERTEX,... DEPTH")
                colour, vertices, depth = left[:3]
                points = frozenset(self._point(vertex) for vertex in vertices.split(","))
                if word == "allow":
                    points = frozenset(range(self.engine.boards.points + 1)) - points
                options.avoided.append(Avoided(self._colour(colour), points, self._integer(depth, "the depth")))
                del left[:3]
            elif word in _PAIRS and left:
                value = left.pop(0)
                if word == "interval":
                    options.interval = max(0.0, self._real(value, word) / 100)
                elif word == "maxmoves":
                    options.most = max(1, self._integer(value, word))
                elif word == "ownership":
                    options.ownership = value.lower() == "true"
                elif word == "rootinfo":
                    options.root = value.lower() == "true"
            else:
                raise SyntaxProblem(f"'{short(word)}' is no option; {nearest(word[:40], (*_PAIRS, 'avoid', 'allow'))}")
        return options


@dataclass
class Options:
    """What an analysis command asks for.

    Attributes:
        colour: of the player to move; 0: as it stands.
        interval: seconds between lines.
        most: candidates in a line.
        ownership: whether it is told.
        root: whether the position's own numbers are told.
        avoided: moves that are left out.
    """

    colour: int = 0
    interval: float = 1.0
    most: int = 1_000
    ownership: bool = False
    root: bool = False
    avoided: list[Avoided] = field(default_factory=list)


_PAIRS = ("interval", "minmoves", "maxmoves", "ownership", "ownershipstdev", "movesownership", "movesownershipstdev",
          "pvvisits", "pvedgevisits", "rootinfo", "norestrict")  # fmt: skip
"""Options of two words; those that are not read change nothing but the amount of what is told."""
Form = Callable[[Analysis, int, Options], str]


def _at(when: float) -> Callable[[], bool]:
    """A stop at a time, or before it if another wait like the last one between two looks would pass it."""
    last = time.monotonic()

    def stop() -> bool:
        nonlocal last
        now = time.monotonic()
        wait, last = now - last, now
        return now + wait >= when

    return stop


def _leela(analysis: Analysis, size: int, options: Options) -> str:
    """One line as Leela Zero writes it: rates in ten-thousandths."""
    return " ".join(
        f"info move {name_of(c.point, size)} visits {c.visits} winrate {round(c.winrate * 10_000)} "
        f"prior {round(c.prior * 10_000)} lcb {round(c.winrate * 10_000)} order {order} "
        f"pv {' '.join(name_of(p, size) for p in c.variation)}"
        for order, c in enumerate(analysis.candidates[: options.most])
    )


def _kata(analysis: Analysis, size: int, options: Options) -> str:
    """One line as KataGo writes it: rates from 0 to 1, of the player to move."""
    parts = []
    for order, c in enumerate(analysis.candidates[: options.most]):
        score = "" if c.score is None else f"scoreMean {c.score:.3f} scoreLead {c.score:.3f} "
        parts.append(
            f"info move {name_of(c.point, size)} visits {c.visits} winrate {c.winrate:.6f} {score}"
            f"prior {c.prior:.6f} lcb {c.winrate:.6f} order {order} "
            f"pv {' '.join(name_of(p, size) for p in c.variation)}"
        )
    if options.root:
        score = "" if analysis.score is None else f" scoreLead {analysis.score:.3f}"
        parts.append(f"rootInfo visits {analysis.visits} winrate {analysis.winrate:.6f}{score}")
    if options.ownership and analysis.ownership is not None:
        parts.append("ownership " + " ".join(f"{o:.3f}" for o in analysis.ownership.ravel()))
    return " ".join(parts)


def _rules(text: str) -> dict[str, Any]:
    """Rules by name, or as KataGo's JSON.

    Raises:
        RlabError: there are none such here.
    """
    if not text.lstrip().startswith("{"):
        name = text.strip().lower().replace("_", "-")
        if name not in RULES:
            raise RlabError(
                f"there are no rules '{short(text)}', only such that count by area; {nearest(name[:40], RULES)}"
            )
        return dict(RULES[name])
    try:
        given = json.loads(text[:2_000])
    except (ValueError, RecursionError):
        raise SyntaxProblem("the rules are no JSON") from None
    known = {"ko", "scoring", "suicide", "tax", "hasButton", "whiteHandicapBonus", "friendlyPassOk"}
    unknown = sorted(set(given) - known)
    if unknown:
        raise SyntaxProblem(f"'{short(unknown[0])}' is no part of rules; {nearest(unknown[0][:40], known)}")
    usual = {"scoring": "AREA", "tax": "NONE", "hasButton": False, "whiteHandicapBonus": "0"}
    for part, only in usual.items():
        if given.get(part, only) != only:
            raise RlabError(f"{part} can only be {only} here, not {short(str(given[part]))}")
    rules: dict[str, Any] = {}
    if "ko" in given:
        ko = str(given["ko"]).lower()
        if ko not in ("positional", "situational", "simple"):
            raise RlabError(f"there is no ko rule '{short(str(given['ko']))}'; POSITIONAL, SITUATIONAL or SIMPLE")
        rules["ko"] = ko
    if "suicide" in given:
        if not isinstance(given["suicide"], bool):
            raise SyntaxProblem("suicide is true or false")
        rules["suicide"] = given["suicide"]
    return rules


def handicap_points(size: int) -> dict[int, list[int]]:
    """Number of stones -> their points, as the specification places them; none below 7 x 7, 4 at most on even boards
    and on 7 x 7."""
    if size < 7:
        return {}
    edge = 2 if size <= 12 else 3
    low, high, mid = size - 1 - edge, edge, size // 2  # rows from above: low lies near the player's edge
    left, right = edge, size - 1 - edge

    def at(row: int, column: int) -> int:
        return row * size + column

    corners = [at(low, left), at(high, right), at(high, left), at(low, right)]
    found = {n: corners[:n] for n in (2, 3, 4)}
    if size % 2 and size > 7:
        centre = at(mid, mid)
        sides = [at(mid, left), at(mid, right)]
        ends = [at(low, mid), at(high, mid)]
        found |= {5: [*corners, centre], 6: corners + sides, 7: [*corners, *sides, centre]}
        found |= {8: corners + sides + ends, 9: [*corners, *sides, *ends, centre]}
    return found


def board_text(engine: Engine) -> str:
    """The position in plain text: X black, O white, the last move in brackets."""
    size = engine.size
    stones = engine.boards.stones()[0]
    last = engine.moves[-1][1] if engine.moves else size * size
    letters = "   " + " ".join(LETTERS[:size])
    lines = [letters]
    for y in range(size):
        marks = [".XO"[colour] for colour in stones[y]]
        between = [" "] * (size + 1)
        if last // size == y:
            between[last % size], between[last % size + 1] = "(", ")"
        row = "".join(f"{b}{m}" for b, m in zip(between, marks, strict=False)) + between[-1]
        lines.append(f"{size - y:2d}{row}{size - y}")
    who = "black" if engine.turn == BLACK else "white"
    return "\n".join([*lines, letters, f"{who} to move, {len(engine.moves)} moves, komi {engine.setting.komi:g}"])
