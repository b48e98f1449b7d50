"""``rlab play go9``: Go in the terminal against a player, with its win rate and the moves it thinks of."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rlab.cli.common import TrustFlag, parse, refuse_below
from rlab.cli.flags import Arg
from rlab.errors import RlabError, nearest, printable, printable_lines
from rlab.run.files import replace_durably
from rlab.trust import Untrusted

if TYPE_CHECKING:
    from rich.console import Console

    from rlab.agents.go.analysis import Analysis
    from rlab.agents.go.engine import Engine

COMMANDS = {
    "D4": "play there (letter and number)",
    "pass": "make no move; two passes end the game",
    "undo": "take back your last move and the answer",
    "hint": "what your opponent would play in your place",
    "score": "count the board, dead stones taken off",
    "save FILE": "write the game as SGF",
    "resign": "give the game up",
    "quit": "leave",
}
"""What can be typed, and what it does."""
SHOWN = 5
"""Candidate moves."""


@dataclass(frozen=True)
class Flags:
    """Play Go in the terminal: type D4, pass, undo, hint, score, save FILE, resign or quit."""

    game: Annotated[str, Arg("GAME", positional=True)] = "go9"
    """go5, go7, go9, ...: the board, and the trained player of that name if no other is named; or a player."""
    with_: Annotated[str | None, Arg(name="with", metavar="RUN")] = None
    """Your opponent: a run, RUN:PROGRESS, random, rollout:400, gnugo:10 or gtp:COMMAND."""
    size: int | None = None
    """Rows and columns, where GAME does not say it."""
    colour: str = "black"
    """Yours: black or white."""
    komi: float | None = None
    """Points that White has from the start; by default 24.5 on 5x5, 9 on 7x7 and 7 on larger boards."""
    visits: int = 0
    """Of your opponent's search for a move; 0: its own number."""
    resign: float = 0.0
    """Your opponent resigns below this win rate; 0: never."""
    seed: int = 0
    """Of your opponent's chance."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    flags = parse(Flags, "play", argv)
    refuse_below(flags, visits=0, seed=0)
    if flags.colour not in ("black", "white"):
        raise RlabError(f"--colour is '{flags.colour}'; valid: black, white")
    if not 0 <= flags.resign < 1:
        raise RlabError(f"--resign is {flags.resign}; it must be at least 0 and below 1")
    match = re.fullmatch(r"go(\d{1,4})", flags.game, re.IGNORECASE)
    if match and flags.size is not None and flags.size != int(match[1]):
        raise RlabError(f"{flags.game} is a board of {match[1]}, and --size is {flags.size}; give one of them")
    if not match and flags.with_ is not None:
        raise RlabError(f"'{flags.game}' is no board; rlab play go9 --with {flags.with_}")
    from rlab.agents.go.engine import Engine
    from rlab.agents.go.players import find_player
    from rlab.envs.go.boards import Setting
    from rlab.envs.go.ids import default_komi
    from rlab.envs.go.players import home_size

    size = int(match[1]) if match else flags.size

    def agree(size: int) -> Setting:
        return Setting(size, default_komi(size) if flags.komi is None else flags.komi)

    agree(9 if size is None else size)  # what is wrong is said before the player is loaded
    try:
        player = find_player(flags.with_ or (flags.game.lower() if match else flags.game), flags.device, flags.seed)
    except RlabError as e:
        if flags.with_ is not None or not match or isinstance(e, Untrusted):
            raise
        raise RlabError(
            f"there is no trained player {flags.game} here; say who plays: --with random, rollout:400, gnugo:10 or RUN"
        ) from None
    stdin: Any = sys.stdin
    if hasattr(stdin, "reconfigure"):
        stdin.reconfigure(errors="replace")  # bytes that are no UTF-8
    with contextlib.closing(player):
        setting = agree(home_size(player) if size is None else size)
        engine = Engine(player, setting, seed=flags.seed, visits=flags.visits, resign=flags.resign)
        return Table(engine, ("black", "white").index(flags.colour) + 1).sit()


class Table:
    """A game in the terminal.

    Args:
        engine: the game and the opponent.
        you: your colour, 1 black, 2 white.
        read: gives the next line, without its end; None: there is none.
        console: where it is shown; None: stdout.
    """

    def __init__(
        self, engine: Engine, you: int, read: Callable[[], str | None] | None = None, console: Console | None = None
    ):
        from rich.console import Console

        self.engine, self.you = engine, you
        self.console = console or Console(highlight=False)
        self.read = read or read_line
        self.name = printable(engine.player.name)
        self.thought: Analysis | None = None
        """What the opponent thought before its last move."""
        self.result = ""
        self.saved: set[Path] = set()
        self.marks: dict[int, str] = {}
        """Letters on the board, of a hint."""

    def sit(self) -> int:
        """Play until the end of the input or `quit`."""
        self.console.print(f"You are {self._colour(self.you)}, {self.name} is {self._colour(3 - self.you)}; "
                           "type help for what can be typed.")  # fmt: skip
        if self.engine.turn != self.you:
            self._reply()
        self._show()
        while True:
            self.console.print("[dim]over[/]> " if self.result else f"{self._colour(self.you)}> ", end="")
            line = self.read()
            if line is None:
                self.console.print()
                return 0
            words = line.split()
            if not words:
                continue
            if words[0].lower() in ("quit", "exit", "q"):
                return 0
            try:
                self._do(words)
            except RlabError as e:
                self.console.print(printable_lines(e), markup=False, soft_wrap=True)

    # ---- What can be typed.

    def _do(self, words: list[str]) -> None:
        from rlab.envs.go.boards import point_of
        from rlab.envs.go.sgf import short

        word, rest = words[0].lower(), words[1:]
        plain: dict[str, Callable[[], None]] = {
            "help": self._help, "undo": self._undo, "hint": self._hint, "score": self._score, "resign": self._resign,
        }  # fmt: skip
        if word == "save":
            if not rest:
                raise RlabError("save what? save game.sgf")
            return self._save(" ".join(rest))
        if rest:
            raise RlabError(f"'{short(' '.join(words))}' is more than one word; type help for what can be typed")
        if word in plain:
            return plain[word]()
        if not re.fullmatch(r"pass|[a-z]\d{1,3}", word):
            known = [name.split()[0] for name in COMMANDS] + ["help"]
            raise RlabError(f"'{short(words[0])}' is no move and no command; {nearest(word[:40], known)}")
        point = point_of(word, self.engine.size)
        if self.result:
            raise RlabError(f"the game is over: {self.result}; undo takes it back, quit leaves")
        self.engine.play(self.you, point)
        self.marks.clear()
        self._after()
        if not self.result:
            self._reply()
        self._show()

    def _help(self) -> None:
        width = max(map(len, COMMANDS))
        for name, text in COMMANDS.items():
            self.console.print(f"  {name:<{width}}  {text}")

    def _undo(self) -> None:
        engine = self.engine
        if self.result != f"{'WB'[self.you - 1]}+R":  # taking back that you resigned is all
            # Back to your own move, which the opponent's answer may follow.
            mine = [k for k, (colour, _) in enumerate(engine.moves) if colour == self.you]
            if not mine:
                raise RlabError("you have made no move yet")
            engine.undo(len(engine.moves) - mine[-1])
        self.result, self.thought = "", None
        self.marks.clear()
        self._show()

    def _hint(self) -> None:
        if self.result:
            raise RlabError(f"the game is over: {self.result}")
        from rlab.envs.go.boards import name_of
        from rlab.envs.go.players import RESIGN

        engine = self.engine
        if engine.analyst is None:
            point = engine.choose(self.you)
            choice = "it would resign" if point == RESIGN else name_of(point, engine.size)
            self.console.print(f"{self.name} would play {choice}; it says nothing of win rates")
            return
        from rlab.agents.go.analysis import last_of

        analysis = last_of(engine.analyse(self.you, engine.thinking))
        self.marks = {c.point: "abcdefgh"[k] for k, c in enumerate(analysis.candidates[:SHOWN])}
        self._show()
        self.console.print("in your place:")
        self._candidates(analysis, self.you)

    def _score(self) -> None:
        from rlab.agents.go.engine import score_text

        engine = self.engine
        dead = engine.dead()
        how = "" if engine.knows_owners else f"; dead by random games, for {self.name} does not judge"
        fallen = f", {sum(map(len, dead))} dead stones taken off" if dead else ""
        self.console.print(f"{score_text(engine.score(dead))} by area{fallen}{how}")

    def _resign(self) -> None:
        if self.result:
            raise RlabError(f"the game is over: {self.result}")
        self.result = f"{'WB'[self.you - 1]}+R"
        self._show()

    def _save(self, name: str) -> None:
        from rlab.envs.go.sgf import short, write_sgf

        path = Path(name)
        names = ("you", self.name) if self.you == 1 else (self.name, "you")
        text = write_sgf(self.engine.record(black=names[0], white=names[1], result=self.result))
        try:
            if path.exists() and path.resolve() not in self.saved:
                raise RlabError(f"'{short(name)}' exists already; take another name")
            replace_durably(path.resolve(), text.encode())
        except (OSError, ValueError) as e:
            raise RlabError(f"'{short(name)}' cannot be written: {getattr(e, 'strerror', None) or e}") from None
        self.saved.add(path.resolve())
        self.console.print(f"wrote {printable(name)}", markup=False)

    # ---- The game.

    def _reply(self) -> None:
        """The opponent's move."""
        from rlab.envs.go.players import RESIGN

        engine, other = self.engine, 3 - self.you
        self.thought = None

        def remember(analysis: Analysis) -> None:
            self.thought = analysis

        with self.console.status(f"{self.name} thinks"):
            point = engine.choose(other, on_analysis=remember if engine.analyst is not None else None)
        if point == RESIGN:
            self.result = f"{'BW'[self.you - 1]}+R"
            return
        engine.play(other, point)
        self._after()

    def _after(self) -> None:
        from rlab.agents.go.engine import score_text

        if self.engine.over:
            self.result = score_text(self.engine.score(self.engine.dead()))

    # ---- What is seen.

    def _colour(self, colour: int) -> str:
        return ("", "black", "white")[colour]

    def _show(self) -> None:
        from rich.text import Text

        if self.console.is_terminal and sys.stdin.isatty():
            self.console.clear()
        board, beside = self._board().split("\n"), self._beside().split("\n")
        width = 2 * self.engine.size + 10
        if self.console.width < width + 44:  # too narrow: one below the other
            board, beside = [*board, "", *beside], []
        for left, right in zip_longest(board, beside, fillvalue=""):
            line = Text.from_markup(left)
            if right:
                line.pad_right(width - line.cell_len)
                line.append_text(Text.from_markup(right))
            self.console.print(line, soft_wrap=True)

    def _board(self) -> str:
        """The board as markup: the last move reversed, a hint's letters in colour."""
        from rlab.envs.go.boards import LETTERS

        engine = self.engine
        size, stones = engine.size, engine.boards.stones()[0].ravel()
        last = engine.moves[-1][1] if engine.moves else -1
        stars = star_points(size)
        letters = "    " + " ".join(LETTERS[:size])
        lines = [f"[dim]{letters}[/]"]
        for y in range(size):
            row = []
            for x in range(size):
                point = y * size + x
                mark = "[bold]●[/]" if stones[point] == 1 else "○" if stones[point] == 2 else ""
                if mark and point == last:
                    mark = f"[reverse]{mark}[/]"
                if not mark:
                    hint = self.marks.get(point)
                    mark = f"[bold green]{hint}[/]" if hint else "[dim]+[/]" if point in stars else "[dim]·[/]"
                row.append(mark)
            # Beside the last stone brackets, for terminals without colours.
            between = [" "] * (size + 1)
            if 0 <= last < size * size and last // size == y:
                between[last % size], between[last % size + 1] = "(", ")"
            cells = "".join(f"{b}{m}" for b, m in zip(between, row, strict=False)) + between[-1]
            lines.append(f"[dim]{size - y:3d}[/]{cells}[dim]{size - y}[/]")
        return "\n".join([*lines, f"[dim]{letters}[/]"])

    def _beside(self) -> str:
        """What stands beside the board, as markup."""
        from rich.markup import escape

        from rlab.envs.go.boards import name_of

        engine, other = self.engine, 3 - self.you
        lines = [f"● black  {escape('you' if self.you == 1 else self.name)}",
                 f"○ white  {escape('you' if self.you == 2 else self.name)}",
                 f"komi {engine.setting.komi:g}, move {len(engine.moves)}", ""]  # fmt: skip
        if engine.moves:
            colour, point = engine.moves[-1]
            lines.append(f"last   {self._colour(colour)} {name_of(point, engine.size)}")
        if self.result:
            won = {"B": "black wins", "W": "white wins"}.get(self.result[0], "a draw")
            lines += ["", f"[bold]{self.result}: {won}[/]"]
        if self.thought is not None:
            black = self.thought.winrate if other == 1 else 1 - self.thought.winrate
            lines += ["", f"win rate  black {black:.1%}, white {1 - black:.1%}", bar(black), "",
                      f"{escape(self.name)} thought of", *self._lines(self.thought)]  # fmt: skip
        return "\n".join(lines)

    def _lines(self, analysis: Analysis) -> list[str]:
        from rlab.envs.go.boards import name_of

        size = self.engine.size
        return [
            f"  {name_of(c.point, size):<4} {c.winrate:6.1%}  {c.visits:>6} visits"
            + ("" if c.score is None else f"  {c.score:+.1f}")
            + (f"  {' '.join(name_of(p, size) for p in c.variation[1:6])}" if len(c.variation) > 1 else "")
            for c in analysis.candidates[:SHOWN]
        ]

    def _candidates(self, analysis: Analysis, colour: int) -> None:
        for line, letter in zip(self._lines(analysis), self.marks.values(), strict=True):
            self.console.print(f"{letter} {line}")
        black = analysis.winrate if colour == 1 else 1 - analysis.winrate
        self.console.print(f"win rate  black {black:.1%}, white {1 - black:.1%}")


def bar(share: float, width: int = 24) -> str:
    """A share of 0 to 1 as a bar, black's part first."""
    full = round(max(0.0, min(1.0, share)) * width)
    return "█" * full + "░" * (width - full)


def star_points(size: int) -> set[int]:
    """The points that boards mark: corners' star points, and the centre of odd boards."""
    if size < 5:
        return set()
    edge = 2 if size < 13 else 3
    if size < 7:
        return {size // 2 * size + size // 2} if size % 2 else set()
    rows = {edge, size - 1 - edge} | ({size // 2} if size % 2 and size >= 13 else set())
    points = {y * size + x for y in rows for x in rows}
    return points | ({size // 2 * size + size // 2} if size % 2 else set())


def read_line() -> str | None:
    """A line of stdin without its end; None at its end."""
    line = sys.stdin.readline(10_000)
    if line and not sys.stdin.isatty():
        print(line.rstrip("\n"))  # what a terminal would show
    return line.rstrip("\n") if line else None
