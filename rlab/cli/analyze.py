"""``rlab analyze RUN game.sgf``: what every move of a game won or lost, by a player's own judgement."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rlab.cli.common import JsonFlag, TrustFlag, parse, refuse_below, results, say, stopped_status, until_stopped
from rlab.cli.flags import Arg
from rlab.errors import RlabError, printable
from rlab.run.contract import Stop

if TYPE_CHECKING:
    from rlab.agents.go.engine import Judged
    from rlab.envs.go.sgf import Record

COLOURS = ("#0072b2", "#d55e00")
"""The curve, and blunders (Okabe & Ito 2008)."""


@dataclass(frozen=True)
class Flags:
    """Judge the moves of a Go game: win rate before and after each, blunders, an SGF with comments, a page to click
    through and a curve."""

    run: Annotated[str, Arg("RUN", positional=True)]
    """Who judges: a run, RUN:PROGRESS, rollout:2000, or whatever else gives an analysis."""
    file: Annotated[Path, Arg("GAME.sgf", positional=True)]
    """The record; its main line is judged, under its rules and komi."""
    visits: int = 0
    """Of the search in every position; 0: the player's own number."""
    threshold: float = 0.1
    """A move that loses at least this much win rate is a blunder."""
    out: Path | None = None
    """Folder for GAME-analyzed.sgf, .html and .png; by default where the record lies."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    return until_stopped(lambda stop: _analyze(argv, stop))


def _analyze(argv: Sequence[str], stop: Stop) -> int:
    flags = parse(Flags, "analyze", argv)
    refuse_below(flags, visits=0)
    if not 0 < flags.threshold <= 1:
        raise RlabError(f"--threshold is {flags.threshold}; it must be above 0 and at most 1")
    from rlab.envs.go.sgf import read_bytes, read_sgf, replay, with_comments

    with results(flags.json) as put:
        record, content = read_sgf(flags.file), read_bytes(flags.file)
        replay(record)  # before a player is loaded
        if not record.moves:
            raise RlabError(f"{flags.file} holds no move")
        from rlab.agents.go.engine import Engine, judge
        from rlab.agents.go.players import find_player
        from rlab.envs.go.boards import name_of

        player = find_player(flags.run, flags.device)
        try:
            engine = Engine(player, replace(record.setting(), cap=0))
            if engine.analyst is None:
                raise RlabError(f"{player.name} gives moves, but no analysis; a run that searches or rollout:2000 does")
            engine.load(record)
            visits = flags.visits or engine.thinking
            moves = []
            for move in judge(engine, visits, lambda: stop.requested):
                if stop.requested:
                    break
                moves.append(move)
                if sys.stderr.isatty():
                    print(f"\rmove {move.number} of {len(record.moves)}", end="", file=sys.stderr, flush=True)
            if sys.stderr.isatty():
                print("\r\033[K", end="", file=sys.stderr, flush=True)
        finally:
            player.close()
        if stop.requested:
            say("stopped; nothing was written")
            return stopped_status(stop)
        blunders = [m for m in moves if m.loss >= flags.threshold]
        folder = flags.out or flags.file.parent
        files = {kind: folder / f"{flags.file.stem}-analyzed.{kind}" for kind in ("sgf", "html", "png")}
        title = printable(f"{record.black or 'Black'} - {record.white or 'White'}, judged by {player.name}")
        comments = comments_on(moves, record.size, flags.threshold, player.name)
        _write(
            files,
            with_comments(content, comments).encode(),
            page(record, moves, comments, flags.threshold, title).encode(),
            curve(moves, flags.threshold, title),
        )
        if not flags.json:
            _table(moves, flags.threshold, record.size)
        put(
            f"{summary(moves, flags.threshold)}\n"
            f"judged by {player.name}, {visits} visits a position\n"
            + "\n".join(f"wrote   {file}" for file in files.values()),
            {
                "player": player.name,
                "visits": visits,
                "threshold": flags.threshold,
                "size": record.size,
                "komi": record.komi,
                "moves": [
                    {
                        "number": m.number,
                        "colour": ("black", "white")[m.colour - 1],
                        "move": name_of(m.point, record.size),
                        "before": m.before,
                        "after": m.after,
                        "loss": m.loss,
                        "score_before": m.score_before,
                        "score_after": m.score_after,
                        "best": name_of(m.best, record.size),
                        "variation": [name_of(p, record.size) for p in m.variation],
                    }
                    for m in moves
                ],
                "blunders": [m.number for m in blunders],
                "sgf": str(files["sgf"]),
                "html": str(files["html"]),
                "png": str(files["png"]),
            },
        )
        return 0


def _write(files: dict[str, Path], *contents: bytes) -> None:
    from rlab.run.files import disk_error, replace_durably

    for file, content in zip(files.values(), contents, strict=True):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_durably(file, content)
        except OSError as e:
            raise disk_error(e, file.parent) from None


def summary(moves: Sequence[Judged], threshold: float) -> str:
    """A line for each colour: its blunders and what a move lost on average."""
    lines = []
    for colour, name in ((1, "black"), (2, "white")):
        mine = [m for m in moves if m.colour == colour]
        if mine:
            worst = sum(m.loss >= threshold for m in mine)
            lost = sum(m.loss for m in mine) / len(mine)
            lines.append(f"{name}   {len(mine)} moves, {worst} blunders, {lost:.1%} lost by a move on average")
    return "\n".join(lines)


def _table(moves: Sequence[Judged], threshold: float, size: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from rlab.envs.go.boards import name_of

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("move", "", "before", "after", "lost", "better", ""):
        table.add_column(name, justify="right" if name in ("move", "before", "after", "lost") else "left")
    for m in moves:
        bad = m.loss >= threshold
        table.add_row(
            str(m.number), f"{'●○'[m.colour - 1]} {name_of(m.point, size)}", f"{m.before:.1%}", f"{m.after:.1%}",
            f"{m.loss:.1%}" if m.loss else "", name_of(m.best, size) if m.best != m.point else "",
            "blunder" if bad else "", style="bold red" if bad else None,
        )  # fmt: skip
    Console(highlight=False).print(table)


def comments_on(moves: Sequence[Judged], size: int, threshold: float, judge: str) -> dict[int, str]:
    """Number of a move -> what is said of it."""
    from rlab.envs.go.boards import name_of

    comments = {}
    for m in moves:
        who = ("Black", "White")[m.colour - 1]
        comment = f"{who} {name_of(m.point, size)}: win rate {m.before:.1%} -> {m.after:.1%}"
        if m.score_before is not None and m.score_after is not None:
            comment += f", lead {m.score_before:+.1f} -> {m.score_after:+.1f}"
        if m.loss >= threshold:
            line = " ".join(name_of(p, size) for p in m.variation)
            comment = f"BLUNDER (loses {m.loss:.1%}). {comment}. Better: {line}"
        comments[m.number] = f"[{judge}] {comment}"
    return comments


def page(record: Record, moves: Sequence[Judged], comments: Mapping[int, str], threshold: float, title: str) -> str:
    """The game as a page: a board to click through, and the win rate beside it."""
    from html import escape

    from rlab.agents.go.board_viewer import Shown, board_viewer, document

    texts = {n: "\n".join(filter(None, (record.comments.get(n), comments.get(n)))) for n in range(len(moves) + 1)}
    shown = Shown(
        title=f"{record.black or 'Black'} - {record.white or 'White'}" + f", {record.result}" * bool(record.result),
        moves=record.moves,
        stones=record.stones,
        turn=record.turn,
        notes={n: text for n, text in texts.items() if text},
        better={m.number - 1: m.best for m in moves},
        rates=black_rates(moves),
        marked=[m.number for m in moves if m.loss >= threshold],
    )
    facts = [record.date, f"komi {record.komi:g}", record.rules]
    return document(
        title,
        [
            f"<h1>{escape(title)}</h1>",
            f'<p class="dim">{escape(", ".join(filter(None, facts)))}. Dashed: what would have been played instead. '
            f"Marked on the curve: moves that lose {threshold:.0%} or more. Arrow keys, a click on the board or on the "
            "curve go through the game.</p>",
            board_viewer(record.setting(), [shown]),
        ],
    )


def black_rates(moves: Sequence[Judged]) -> list[float]:
    """Black's win rate before the first move and after every one."""

    def black(rate: float, colour: int) -> float:
        return rate if colour == 1 else 1 - rate

    return [black(moves[0].before, moves[0].colour), *(black(m.after, m.colour) for m in moves)]


def curve(moves: Sequence[Judged], threshold: float, title: str) -> bytes:
    """Black's win rate after every move, as PNG; blunders are points in the colour of who made them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), dpi=110, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    numbers = [0, *(m.number for m in moves)]
    rates = [100 * rate for rate in black_rates(moves)]
    axes.axhline(50, color="#888888", lw=0.8)
    axes.plot(numbers, rates, color=COLOURS[0], lw=1.6)
    axes.fill_between(numbers, rates, 50, color=COLOURS[0], alpha=0.12, lw=0)
    for colour, name in ((1, "black"), (2, "white")):
        bad = [m for m in moves if m.colour == colour and m.loss >= threshold]
        if bad:
            axes.scatter(
                [m.number for m in bad], [rates[m.number] for m in bad], s=44, zorder=3, lw=1.6,
                color="black" if colour == 1 else "white", edgecolors=COLOURS[1], label=f"blunder of {name}",
            )  # fmt: skip
    axes.set(xlabel="move", ylabel="black's win rate, %", ylim=(-3, 103), xlim=(0, max(1, numbers[-1])))
    axes.set_title(title.replace("$", r"\$"), fontsize=10, loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(alpha=0.25, lw=0.6)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, loc="best")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
