"""The picture of a table of values: a map of what each state is worth and what to do there."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlab.agents.tabular.exact import Values, greedy_policy
from rlab.envs.tabular import MDP, Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL = 0.55
"""Inches of a cell."""


def draw_table(mdp: MDP, q: Values, title: str) -> bytes:
    """Draw `table_figure` as a PNG.

    Args:
        mdp: gives the layout.
        q: action values, [S, A].
        title: above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(table_figure(mdp, q, title)).print_png(buffer)
    return buffer.getvalue()


def table_figure(mdp: MDP, q: Values, title: str) -> Figure:
    """The value max_a q of each reachable state as a map, and its best actions as arrows or letters.

    Where nothing is known of how the states lie, it is the table q itself.

    Args:
        mdp: gives the layout.
        q: action values, [S, A].
        title: above the picture.
    """
    from matplotlib.figure import Figure

    reachable = mdp.reachable()
    layout = mdp.layout
    if layout is None:
        figure = Figure(figsize=(2.0 + 0.4 * mdp.actions, 6.0), layout="constrained")
        axes = figure.add_subplot()
        shown = axes.imshow(np.where(reachable[:, None], q, np.nan), aspect="auto", interpolation="nearest")
        axes.set(xlabel="action", ylabel="state", title=title, xticks=range(mdp.actions))
    else:
        columns = min(len(layout.panels), layout.across)
        rows = -(-len(layout.panels) // columns)
        height, width = (max(panel.states.shape[k] for panel in layout.panels) for k in (0, 1))
        size = (max(4.0, columns * (width * CELL + 0.7)) + 1.0, max(2.5, rows * (height * CELL + 0.8)) + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(title + (f"\n{layout.legend}" if layout.legend else ""))
        grid = figure.subplots(rows, columns, squeeze=False)
        values = np.where(reachable, q.max(axis=1), np.nan)
        best = (greedy_policy(q) > 0) & reachable[:, None]
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        for axes in grid.flat[len(layout.panels) :]:
            axes.axis("off")
        for axes, panel in zip(grid.flat, layout.panels, strict=False):
            shown = _draw_panel(axes, panel, values, best, layout.marks, low, max(high, low + 1e-9))
    figure.colorbar(shown, ax=figure.axes, label="value", shrink=0.8)
    return figure


def _draw_panel(
    axes: Any, panel: Panel, values: Values, best: NDArray[np.bool_], marks: tuple[Any, ...], low: float, high: float
) -> Any:
    """One map; returns what a colour bar needs."""
    states = panel.states
    cells = np.where(states >= 0, values[states], np.nan)
    axes.set_facecolor("0.75")
    shown = axes.imshow(cells, vmin=low, vmax=high, cmap="viridis")
    axes.set(title=panel.title, xlabel=panel.columns, ylabel=panel.rows)
    height, width = states.shape
    named = bool(panel.rows)
    axes.set_xticks(range(width), [panel.first[1] + c for c in range(width)] if named else [""] * width)
    down = -1 if panel.rows_fall else 1
    axes.set_yticks(range(height), [panel.first[0] + down * r for r in range(height)] if named else [""] * height)
    axes.tick_params(length=0)
    for r, c in np.ndindex(states.shape):
        known = not np.isnan(cells[r, c])
        ink = "white" if known and cells[r, c] < low + 0.6 * (high - low) else "black"
        letter = "" if panel.letters is None else str(panel.letters[r, c])
        if letter not in ("", ".", "F"):
            axes.text(c - 0.45, r - 0.45, letter, ha="left", va="top", fontsize=7, color=ink)
        if known:
            chosen = [mark for mark, good in zip(marks, best[states[r, c]], strict=True) if good]
            _draw_cell(axes, r, c, chosen, "" if named else f"{cells[r, c]:.3g}", ink)
    return shown


def _draw_cell(axes: Any, r: int, c: int, marks: list[Any], number: str, ink: str) -> None:
    """Best actions and, if there is one, the number: it has the foot of the cell, and all else stays above it."""
    words = "".join(mark for mark in marks if isinstance(mark, str))
    if number:
        axes.text(c, r + 0.46, number, ha="center", va="bottom", fontsize=6, color=ink)
        axes.text(c + 0.45, r - 0.45, words, ha="right", va="top", fontsize=7, color=ink)
    else:
        axes.text(c, r - 0.05, words, ha="center", va="center", fontsize=8, color=ink)
    middle = r - 0.12 if number else r
    for down, right in (mark for mark in marks if not isinstance(mark, str)):
        tail, head = (c + 0.04 * right, middle + 0.04 * down), (c + 0.3 * right, middle + 0.3 * down)
        axes.annotate("", head, tail, arrowprops={"arrowstyle": "->", "color": ink, "shrinkA": 0, "shrinkB": 0})
