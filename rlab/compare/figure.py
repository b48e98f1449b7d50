"""A comparison as one picture: learning curves with bands, IQM with intervals, P(improvement), performance profiles."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable
from typing import Any

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d00", "#000000")
"""Of agents, in their order; colour-blind safe (Okabe & Ito 2008)."""

COLUMNS = 3
"""Panels beside each other."""

PAIRS = 12
"""The most pairs that are drawn; the page and the JSON have all."""

MOST_CURVES = 12
"""The most environments whose curves are drawn."""


def panels(result: dict[str, Any]) -> list[Callable[[Any], None]]:
    """What there is to draw of `rlab.compare.compare_runs`'s result: functions that paint axes, in their order."""
    colours = {agent: COLOURS[n % len(COLOURS)] for n, agent in enumerate(result["agents"])}
    with_curves = [e for e in result["environments"] if e["curves"]["agents"]][:MOST_CURVES]
    overall = result["aggregate"]
    chosen: list[tuple[Any, Any]] = [(_curves, e) for e in with_curves]
    if overall is not None:
        chosen += [(_intervals, overall)]
        chosen += [(_improvement, overall)] if overall["pairs"] else []
        chosen += [(_profile, overall)]
    else:
        chosen += [(_intervals, e) for e in result["environments"][:MOST_CURVES]]

    def paint(one: Any, what: Any) -> Callable[[Any], None]:
        def on(axes: Any) -> None:
            one(axes, what, colours)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
            axes.grid(alpha=0.25, lw=0.6)
            axes.tick_params(labelsize=8)

        return on

    return [paint(one, what) for one, what in chosen]


def draw(result: dict[str, Any]) -> bytes:
    """All panels as one picture, PNG."""
    from matplotlib.figure import Figure

    painted = panels(result)
    columns = min(COLUMNS, len(painted))
    rows = -(-len(painted) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * rows + 0.6), dpi=110, layout="constrained", facecolor="white")
    for n, paint in enumerate(painted):
        paint(figure.add_subplot(rows, columns, n + 1))
    _legend(figure, result)
    return _saved(figure, "png")


def draw_svg(result: dict[str, Any]) -> list[bytes]:
    """Each panel as an SVG of its own, small enough for a phone; the first has the legend."""
    from matplotlib.figure import Figure

    drawn = []
    for n, paint in enumerate(panels(result)):
        figure = Figure(figsize=(4.6, 3.6 if n == 0 else 3.2), layout="constrained", facecolor="white")
        paint(figure.add_subplot())
        if n == 0:
            _legend(figure, result, columns=2)
        drawn.append(_saved(figure, "svg"))
    return drawn


def _legend(figure: Any, result: dict[str, Any], columns: int = 4) -> None:
    handles = [_handle(agent, COLOURS[n % len(COLOURS)]) for n, agent in enumerate(result["agents"])]
    ncols = min(columns, len(handles))
    figure.legend(handles=handles, loc="outside upper center", ncols=ncols, frameon=False, fontsize=9)


def _saved(figure: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind)
    return buffer.getvalue()


def _handle(agent: str, colour: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, lw=3, label=_short(agent, 44))


def _curves(axes: Any, environment: dict[str, Any], colours: dict[str, str]) -> None:
    from matplotlib.ticker import EngFormatter

    for agent, drawn in environment["curves"]["agents"].items():
        colour = colours[agent]
        if drawn["low"] is None:  # too few for a band: each run by itself
            for run in drawn["runs"]:
                axes.plot(drawn["steps"], run, color=colour, lw=1, alpha=0.7)
            continue
        axes.plot(drawn["steps"], drawn["middle"], color=colour, lw=1.6)
        axes.fill_between(drawn["steps"], drawn["low"], drawn["high"], color=colour, alpha=0.18, lw=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_title(environment["env"], fontsize=10, loc="left")
    axes.set_xlabel("environment steps", fontsize=8)
    banded = any(drawn["low"] is not None for drawn in environment["curves"]["agents"].values())
    axes.set_ylabel(f"{environment['curves']['source']}\n{'IQM and 95 % band' if banded else 'each run'}", fontsize=8)


def _intervals(axes: Any, part: dict[str, Any], colours: dict[str, str]) -> None:
    agents = part["agents"]
    for y, row in enumerate(reversed(agents)):
        if row["low"] is not None:
            axes.barh(y, row["high"] - row["low"], left=row["low"], height=0.5, color=colours[row["agent"]], alpha=0.45)
        axes.plot([row["iqm"]], [y], "|", ms=18, mew=2, color=colours[row["agent"]])
    axes.use_sticky_edges = False  # a bar would begin at the frame
    axes.set_yticks(range(len(agents)), [f"{_short(row['agent'])} ({row['runs']})" for row in reversed(agents)])
    axes.set_ylim(-0.6, len(agents) - 0.4)
    enough = all(row["low"] is not None for row in agents)
    axes.set_title(f"IQM and 95 % interval{'' if enough else ': not enough seeds'}", fontsize=10, loc="left")
    axes.set_xlabel(_scale(part), fontsize=8)


def _improvement(axes: Any, part: dict[str, Any], colours: dict[str, str]) -> None:
    pairs = part["pairs"][:PAIRS]
    for y, pair in enumerate(reversed(pairs)):
        colour = colours[pair["x"]]
        if pair["low"] is not None:
            axes.barh(y, pair["high"] - pair["low"], left=pair["low"], height=0.5, color=colour, alpha=0.45)
        axes.plot([pair["value"]], [y], "|", ms=18, mew=2, color=colour)
    axes.axvline(0.5, color="#444444", lw=1, ls="--")
    labels = [f"{_short(p['x'])}\n> {_short(p['y'])}" for p in reversed(pairs)]
    axes.set_yticks(range(len(pairs)), labels, fontsize=8)
    axes.set_ylim(-0.6, len(pairs) - 0.4)
    axes.set_xlim(-0.03, 1.03)
    hidden = len(part["pairs"]) - len(pairs)
    axes.set_title("P(X > Y)" + (f", {hidden} more pairs in the page" if hidden else ""), fontsize=10, loc="left")
    axes.set_xlabel("probability of improvement, 95 % interval", fontsize=8)


def _profile(axes: Any, part: dict[str, Any], colours: dict[str, str]) -> None:
    thresholds = part["profile"]["thresholds"]
    for agent, drawn in part["profile"]["agents"].items():
        axes.step(thresholds, drawn["fractions"], where="post", color=colours[agent], lw=1.6)
        if drawn["low"] is not None:
            axes.fill_between(
                thresholds, drawn["low"], drawn["high"], step="post", color=colours[agent], alpha=0.15, lw=0
            )
    axes.set_ylim(-0.02, 1.02)
    axes.set_title("performance profile", fontsize=10, loc="left")
    axes.set_ylabel("fraction of runs above", fontsize=8)
    axes.set_xlabel(_scale(part), fontsize=8)


def _scale(part: dict[str, Any]) -> str:
    return textwrap.fill(part.get("scale", f"raw score on {part.get('env')}").split(" (")[0], 44)


def _short(text: str, most: int = 24) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
