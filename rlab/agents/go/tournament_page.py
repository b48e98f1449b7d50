"""A tournament's results as files: JSON, and a page that needs no other file."""

from __future__ import annotations

import base64
import io
import time
from collections import defaultdict
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from rlab.agents.go.board_viewer import Shown, board_viewer, document
from rlab.envs.go.boards import Setting, point_of
from rlab.envs.go.players import PLAYERS
from rlab.errors import printable
from rlab.run.files import replace_durably, to_json

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d00", "#000000")
"""Colour-blind safe (Okabe & Ito 2008)."""

MOST_BARS = 40
"""Players whose ratings are drawn; the table has all."""

MOST_FAILURES = 50
"""Failures of programs that the page tells; the JSON has all."""

METHOD = (
    "Each opening is played twice by a pair, with colours exchanged; games are judged by the lab's own rules and "
    "counted by area as they stand (Tromp-Taylor): stones that were not captured live. A program that is late, plays "
    "an illegal move or crashes four times at one move loses that game. Ratings: Bradley-Terry by maximum likelihood, "
    "a draw being half a win, with one drawn game added between every two who met; intervals: 95 % bootstrap, "
    "percentiles of {resamples:,} resamples of the openings of each pair, the added game among them. An interval is "
    "open to the side on which the results bound nothing, as above a player who lost nothing. Time is throughput: "
    "seconds over moves, games side by side."
)


def write_result(result: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Write ``tournament.json`` and ``tournament.html``; older ones are replaced, each in one step.

    Raises:
        RlabError: the disk refused.
    """
    content = {"json": to_json(result), "html": page(result).encode()}
    for kind, data in content.items():
        replace_durably(folder / f"tournament.{kind}", data)
    return {kind: folder / f"tournament.{kind}" for kind in content}


def training_curves(ratings: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Players that are called NAME:NUMBER, name -> their rows by number: a run's checkpoints, with two or more."""
    curves: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in ratings:
        name, colon, step = row["player"].rpartition(":")
        if colon and name and name not in PLAYERS and step.isascii() and step.isdigit() and row["elo"] is not None:
            curves[name].append({**row, "step": int(step)})
    return {name: sorted(rows, key=lambda r: r["step"]) for name, rows in sorted(curves.items()) if len(rows) > 1}


def page(result: dict[str, Any]) -> str:
    """The page as text. Everything in it is escaped; it loads nothing, and runs no script but that of its board."""
    common = result["common"]
    setting = common["setting"]
    ended = ", ".join(f"{reason} {number}" for reason, number in result["reasons"].items()) or "none yet"
    about = (
        f"{setting['size']}x{setting['size']}, komi {setting['komi']:g}, {setting['ko']} superko"
        if setting["ko"] != "simple"
        else f"{setting['size']}x{setting['size']}, komi {setting['komi']:g}, simple ko"
    )
    counts = f"{result['games']:,} of {result['planned']:,} games"
    rated = [row for row in result["ratings"] if row["elo"] is not None]
    curves = training_curves(result["ratings"])
    body = [
        f"<h1>{escape(result['tournament'])}</h1>",
        f'<p class="dim">{escape(result["kind"])}: {counts}; {escape(about)}; {result["openings"]} openings of '
        f"{common['moves_random']} moves by chance, seed {common['seed']}; {time.strftime('%Y-%m-%d %H:%M')}</p>",
        _test(result["sprt"]) if result["sprt"] else "",
        _notes(result),
        "<h2>Ratings</h2>",
        _ratings(result),
        _image(draw_ratings(result), "ratings with intervals") if rated else "",
        "<h2>Who against whom</h2>",
        '<p class="dim">Points of the player on the left against the one above.</p>',
        _cross(result),
        "<h2>Elo over training</h2>" + _image(draw_curves(result, curves), "Elo over training") if curves else "",
        "<h2>Pairs</h2>",
        _pairs(result["pairs"]),
        f'<p class="dim">How games ended: {escape(ended)}. Every game is an SGF file in <code>games/</code>, beside '
        "this page.</p>",
        _boards(result),
        _failures(result["failures"]),
        f'<p class="dim">{escape(METHOD.format(resamples=result["resamples"]))}</p>',
    ]
    return document(f"tournament: {result['tournament']}", body)


def _boards(result: dict[str, Any]) -> str:
    """The games move by move; results of an older rlab have none."""
    setting, games = Setting(**result["common"]["setting"]), result.get("records", [])
    if not games:
        return ""
    shown = [
        Shown(
            f"{n}: {game['black']} - {game['white']}, {game['result']}",
            tuple((1 + k % 2, point_of(move, setting.size)) for k, move in enumerate(game["moves"].split())),
            notes={game["opening"]: "the opening ends here"} if game["opening"] else {},
            link=f"games/{game['file']}",
        )
        for n, game in enumerate(games, 1)
    ]
    hidden = result["games"] - len(games)
    more = f'<p class="dim">{hidden:,} more in <code>games/</code>.</p>' if hidden > 0 else ""
    return "<h2>Games</h2>" + board_viewer(setting, shown) + more


def interval(row: dict[str, Any]) -> str:
    """``-12 to 34``; open where the results bound nothing."""
    if row["elo"] is None or row["low"] == row["high"]:  # no rating, or the one from which all are counted
        return "-"
    low = "open" if row["low"] is None else f"{row['low']:+.0f}"
    high = "open" if row["high"] is None else f"{row['high']:+.0f}"
    return f"{low} to {high}"


def test_sentence(test: dict[str, Any]) -> str:
    """A sequential test in a sentence."""
    ratio = f"log likelihood ratio {test['ratio']:.2f} (bounds {test['low']:.2f}, {test['high']:.2f})"
    claim = f"{test['first']} is {test['elo1']:+g} Elo against {test['second']}, rather than {test['elo0']:+g}"
    verdict = {"elo1": "accepted", "elo0": "rejected", None: "still open"}[test["verdict"]]
    return f"{verdict}: {claim}; {ratio} after {test['pairs']} pairs of games"


def notes(result: dict[str, Any]) -> list[str]:
    """What a reader must know to read the results rightly, a sentence each."""
    sentences = []
    if not result["finished"]:
        sentences.append(f"{result['games']:,} of {result['planned']:,} games are played.")
    if result["repeated"]:
        sentences.append(
            f"{result['repeated']:,} games are move by move the same as another of their pair: the players leave "
            "nothing to chance there, so intervals are too narrow; take more --openings or --moves-random."
        )
    forfeits = sum(result["reasons"].get(reason, 0) for reason in ("crash", "time", "answer", "illegal"))
    if forfeits:
        sentences.append(f"{forfeits:,} games were lost by a failure of a program or an illegal move; see below.")
    unrated = [row["player"] for row in result["ratings"] if row["elo"] is None]
    if unrated:
        sentences.append(f"No games link {', '.join(unrated)} to the others, so there is no rating.")
    if any(row["elo"] is not None and None in (row["low"], row["high"]) for row in result["ratings"]):
        sentences.append(
            "Where an interval is open, nobody weaker got half a point, and the rating is only what the added draws "
            "leave of infinity; another --anchor may bound it."
        )
    return sentences


def shortened(text: str, most: int = 24) -> str:
    """A long name, a program's command line say, by its beginning; in it are no control characters."""
    text = printable(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def draw_ratings(result: dict[str, Any]) -> bytes:
    """Ratings with their intervals, as PNG."""
    from matplotlib.figure import Figure

    rows = [row for row in result["ratings"] if row["elo"] is not None][:MOST_BARS]
    figure = Figure(figsize=(8.2, 0.34 * len(rows) + 1.0), dpi=110, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    spread = [row[key] for row in rows for key in ("elo", "low", "high") if row[key] is not None]
    margin = 0.06 * max(100.0, max(spread) - min(spread))
    for y, row in enumerate(reversed(rows)):
        low = min(spread) - margin if row["low"] is None else row["low"]
        high = max(spread) + margin if row["high"] is None else row["high"]
        axes.barh(y, high - low, left=low, height=0.5, color=COLOURS[0], alpha=0.35)
        for bound, at, mark in (("low", low, "<"), ("high", high, ">")):
            if row[bound] is None:
                axes.plot([at], [y], mark, ms=7, color=COLOURS[0])
        axes.plot([row["elo"]], [y], "|", ms=16, mew=2, color=COLOURS[0])
    axes.use_sticky_edges = False  # a bar would begin at the frame
    axes.set_yticks(range(len(rows)), [shortened(row["player"], 32) for row in reversed(rows)], fontsize=9)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(_scale(result) + ", 95 % interval", fontsize=8)
    return _png(figure, axes)


def draw_curves(result: dict[str, Any], curves: dict[str, list[dict[str, Any]]]) -> bytes:
    """Ratings of checkpoints over their progress, and of everybody else as level lines, as PNG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(8.2, 4.2), dpi=110, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    for n, (name, rows) in enumerate(curves.items()):
        colour = COLOURS[n % len(COLOURS)]
        steps, elo = [row["step"] for row in rows], [row["elo"] for row in rows]
        low = [row["elo"] if row["low"] is None else row["low"] for row in rows]
        high = [row["elo"] if row["high"] is None else row["high"] for row in rows]
        axes.plot(steps, elo, "o-", color=colour, lw=1.6, ms=4, label=shortened(name, 44))
        axes.fill_between(steps, low, high, color=colour, alpha=0.18, lw=0)
    on_curves = {row["player"] for rows in curves.values() for row in rows}
    for row in result["ratings"]:
        if row["player"] not in on_curves and row["elo"] is not None:
            axes.axhline(row["elo"], color="#888888", lw=0.8, ls="--")
            axes.annotate(shortened(row["player"]), (1, row["elo"]), xycoords=("axes fraction", "data"), fontsize=7,
                          ha="right", va="bottom", color="#555555")  # fmt: skip
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("progress of the run", fontsize=8)
    axes.set_ylabel(_scale(result), fontsize=8)
    axes.legend(frameon=False, fontsize=8)
    return _png(figure, axes)


def _scale(result: dict[str, Any]) -> str:
    return f"Elo, {shortened(result['anchor'])} = 0" if result["anchor"] else "Elo, mean = 0"


def _png(figure: Any, axes: Any) -> bytes:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(alpha=0.25, lw=0.6)
    axes.tick_params(labelsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _image(picture: bytes, what: str) -> str:
    data = base64.b64encode(picture).decode()
    style = "background: white; border-radius: .4rem; margin-top: .8rem"
    return f'<img style="{style}" alt="{what}" src="data:image/png;base64,{data}">'


def _test(test: dict[str, Any]) -> str:
    counts = ", ".join(
        f"{points} of 2: {n}" for points, n in zip(("0", "½", "1", "1½", "2"), test["counts"], strict=True)
    )
    return (
        f"<h2>Sequential test</h2><p>{escape(test_sentence(test))}.</p>"
        f'<p class="dim">Points of {escape(test["first"])} in a pair of games - {counts}. alpha {test["alpha"]:g}, '
        f"beta {test['beta']:g}; generalised likelihood ratio of pairs (pentanomial), in order of their numbers.</p>"
    )


def _notes(result: dict[str, Any]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in notes(result))
    return f"<h2>Notes</h2><ul>{items}</ul>" if items else ""


def _ratings(result: dict[str, Any]) -> str:
    head = ["", "player", "Elo", "95 % interval", "games", "won", "drawn", "lost", "points", "ms a move", "is"]
    cells = []
    for n, row in enumerate(result["ratings"], 1):
        points = (row["wins"] + row["draws"] / 2) / row["games"] if row["games"] else None
        cells.append([
            str(n), row["player"], "-" if row["elo"] is None else f"{row['elo']:+.0f}", interval(row),
            *(f"{row[key]:,}" for key in ("games", "wins", "draws", "losses")),
            "-" if points is None else f"{points:.1%}",
            "-" if row["ms_per_move"] is None else f"{row['ms_per_move']:,.1f}",
            "" if row["about"] == row["player"] else row["about"],
        ])  # fmt: skip
    return _table(head, cells)


def _cross(result: dict[str, Any]) -> str:
    labels = [row["player"] for row in result["ratings"]]
    points: dict[tuple[str, str], str] = {}
    for pair in result["pairs"]:
        if pair["games"]:
            got = pair["points"]
            points[pair["first"], pair["second"]] = f"{got:g} / {pair['games']}"
            points[pair["second"], pair["first"]] = f"{pair['games'] - got:g} / {pair['games']}"
    head = ["", *(shortened(label, 18) for label in labels)]
    return _table(head, [[shortened(a, 32), *(points.get((a, b), "") for b in labels)] for a in labels])


def share(pair: dict[str, Any]) -> str:
    """What the first of a pair has of the points, with Wilson's 95 % interval."""
    return f"{pair['share']:.1%} [{100 * pair['low']:.1f}, {100 * pair['high']:.1f}]"


def _pairs(pairs: Sequence[dict[str, Any]]) -> str:
    head = ["pair", "games", "won", "drawn", "lost", "share [95 %]", "Elo between", "won by Black", "moves a game"]
    cells = [
        [
            f"{pair['first']} - {pair['second']}", *(f"{pair[key]:,}" for key in ("games", "wins", "draws", "losses")),
            share(pair), "open" if pair["elo"] is None else f"{pair['elo']:+.0f}",
            f"{pair['black_wins'] / pair['games']:.0%}", f"{pair['mean_moves']:.0f}",
        ]
        for pair in pairs if pair["games"]
    ]  # fmt: skip
    return _table(head, cells)


def _failures(failures: Sequence[dict[str, Any]]) -> str:
    if not failures:
        return ""
    hidden = len(failures) - MOST_FAILURES
    more = f'<p class="dim">{hidden:,} more in the JSON.</p>' if hidden > 0 else ""
    cells = [[f["game"], f["loser"], f["reason"], f["detail"]] for f in failures[:MOST_FAILURES]]
    return "<h2>Games lost by a failure</h2>" + _table(["game", "lost by", "what", "message"], cells) + more


def _table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in cells)
    return f'<div class="wide" style="margin-bottom: 1rem"><table><tr>{names}</tr>{rows}</table></div>'
