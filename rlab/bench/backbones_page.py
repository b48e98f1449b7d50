"""The shared-backbone benchmark as text, as a heat map, and as a page that needs no other file."""

from __future__ import annotations

import base64
import io
import math
from html import escape
from pathlib import Path
from typing import Any

from rlab.run.files import disk_error, replace_durably
from rlab.run.report import STYLE


def table(result: dict[str, Any]) -> str:
    """Scores, costs and trips as lines."""
    plan = result["plan"]
    worlds, cells, spent = plan["worlds"], _by(result["cells"]), _by(result["costs"])
    width = max(len(encoder) for encoder in plan["encoders"]) + 2
    lines = [f"{'encoder':<{width}}" + "".join(f"{world:>24}" for world in worlds)]
    for encoder in plan["encoders"]:
        lines.append(f"{encoder:<{width}}" + "".join(f"{cell_text(cells[encoder, world]):>24}" for world in worlds))
    lines += ["", f"{'encoder':<{width}}" + "".join(f"{head:>13}" for head in COSTS) + "   world"]
    for encoder in plan["encoders"]:
        for world in worlds:
            cost = spent[encoder, world]
            lines.append(
                f"{encoder:<{width}}" + "".join(f"{cost[key]:>13,.0f}" for key in COSTS.values()) + f"   {world}"
            )
    if result["trips"]:
        lines += ["", f"{'from':<10}{'to':<10}{'how':<14}score of {result['trips'][0]['encoder']}"]
        lines += [f"{trip['from']:<10}{trip['to']:<10}{trip['how']:<14}{cell_text(trip)}" for trip in result["trips"]]
    return "\n".join(lines)


COSTS = {
    "parameters": "parameters",
    "mult-adds": "multiply_adds",
    "forward /s": "forward_per_s",
    "training /s": "train_per_s",
    "bytes/image": "memory",
}
"""Heading -> what is told of an encoder in a world."""


def cell_text(cell: dict[str, Any]) -> str:
    """Mean and interval of a cell."""
    if cell["mean"] is None:
        return "-"
    return f"{cell['mean']:.2f}" + ("" if cell["low"] is None else f" [{cell['low']:.2f}, {cell['high']:.2f}]")


def _by(cells: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(cell["encoder"], cell["world"]): cell for cell in cells}


def heat_map(result: dict[str, Any]) -> bytes:
    """Encoders x worlds as PNG: numbers are scores, colours how they lie between a world's worst and its best."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    plan = result["plan"]
    encoders, worlds, cells = plan["encoders"], plan["worlds"], _by(result["cells"])
    values = [[_number(cells[encoder, world]["mean"]) for world in worlds] for encoder in encoders]
    columns = [[value for value in column if math.isfinite(value)] for column in zip(*values, strict=True)]
    figure = Figure(figsize=(2.6 + 1.5 * len(worlds), 1.2 + 0.42 * len(encoders)), dpi=100, layout="constrained")
    axes = figure.subplots()
    places = [[_between(value, column) for value, column in zip(row, columns, strict=True)] for row in values]
    axes.imshow(places, cmap="YlGn", vmin=-0.15, vmax=1.3, aspect="auto")
    for i, encoder in enumerate(encoders):
        for j, world in enumerate(worlds):
            cell = cells[encoder, world]
            spread = "" if cell["low"] is None else f"\n±{(cell['high'] - cell['low']) / 2:.2g}"
            text = "-" if cell["mean"] is None else f"{cell['mean']:.4g}{spread}"
            axes.text(j, i, text, ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(worlds)), [f"{world}\n{_measure(result, world)}" for world in worlds], fontsize=8)
    axes.set_yticks(range(len(encoders)), encoders, fontsize=8)
    axes.set_title(f"the same encoder, {plan['minutes']:g} min a world, {plan['seeds']} seeds, ± 95 %", fontsize=9)
    data = io.BytesIO()
    FigureCanvasAgg(figure).print_png(data)
    return data.getvalue()


def _measure(result: dict[str, Any], world: str) -> str:
    return next(str(cell["measure"]) for cell in result["cells"] if cell["world"] == world)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _between(value: float, column: list[float]) -> float:
    low, high = min(column, default=0.0), max(column, default=0.0)
    return (value - low) / (high - low) if high > low else 0.5


def write(result: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Write ``backbones.png`` and ``backbones.html`` beside the numbers.

    Raises:
        RlabError: the disk refused.
    """
    picture = heat_map(result)
    data = base64.b64encode(picture).decode()
    plan = result["plan"]
    title = f"The same encoders in {len(plan['worlds'])} worlds: {plan['minutes']:g} min a run, {plan['seeds']} seeds"
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Shared backbones</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f'<p class="dim">{escape(str(result["machine"]["processor"]))}, one thread a run</p>'
        f'<img alt="scores" src="data:image/png;base64,{data}"><pre>{escape(table(result))}</pre></body></html>\n'
    )
    files = {"png": picture, "html": page.encode()}
    try:
        for kind, content in files.items():
            replace_durably(folder / f"backbones.{kind}", content)
    except OSError as e:
        raise disk_error(e, folder) from None
    return {kind: folder / f"backbones.{kind}" for kind in files}
