"""A comparison as files: ``comparison.json``, ``comparison.png`` and a page that needs no other file."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from rlab.compare.figure import draw, draw_svg
from rlab.run.files import disk_error, make_folder, replace_durably, to_json
from rlab.run.report import STYLE

METHOD = (
    "A run's score is the mean of its last evaluation: whole games, raw scores. IQM: mean of the middle half of the "
    "runs; intervals: 95 % stratified bootstrap over seeds, percentiles of 10,000 resamples; P(X > Y): how often a run "
    "of X scores above one of Y, a tie counting half; profile: the fraction of runs above a score (Agarwal et al. "
    "2021). A verdict needs both an interval that excludes a half and a permutation test with p below 0.05 after "
    "Holm's correction for the number of pairs. Bands of curves are pointwise."
)
"""What the numbers are."""


def write_comparison(result: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Write the three files; older ones are replaced, each in one step.

    Returns:
        {"json", "png", "html"}: their paths.

    Raises:
        RlabError: the disk refused.
    """
    content = {"json": to_json(result), "png": draw(result), "html": page(result).encode()}
    try:
        make_folder(folder)
        for kind, data in content.items():
            replace_durably(folder / f"comparison.{kind}", data)
    except OSError as e:
        raise disk_error(e, folder) from None
    return {kind: folder / f"comparison.{kind}" for kind in content}


def page(result: dict[str, Any]) -> str:
    """The page as text. Everything in it is escaped; it runs no script and loads nothing."""
    pictures = "".join(
        f'<img style="width: 100%; background: white; border-radius: .4rem" alt="part {n} of the comparison" '
        f'src="data:image/svg+xml;base64,{base64.b64encode(svg).decode()}">'
        for n, svg in enumerate(draw_svg(result), 1)
    )
    overall = result["aggregate"]
    several = len(result["environments"]) > 1
    body = [
        f"<h1>{escape(' · '.join(result['agents']))}</h1>",
        f'<p class="dim">{len(result["runs"])} runs on {escape(", ".join(e["env"] for e in result["environments"]))}; '
        f"{time.strftime('%Y-%m-%d %H:%M')}</p>",
        _list("What it shows", result["verdicts"]),
        _list("Caution", result["warnings"]),
        _list("Left out", [f"{entry['run']}: {entry['reason']}" for entry in result["left_out"]]),
        f'<div class="grid">{pictures}</div>',
    ]
    if overall is not None and several:
        body += [
            f"<h2>Over {len(overall['environments'])} environments</h2>",
            f'<p class="dim">Scale: {escape(overall["scale"])}.</p>',
            _agents(overall["agents"]),
            _pairs(overall["pairs"]),
        ]
    for environment in result["environments"]:
        protocol = f", protocol {environment['protocol']}" if environment["protocol"] else ""
        about = f"{environment['steps']:,} steps{protocol}; raw scores"
        body += [
            f"<h2>{escape(environment['env'])}</h2>",
            f'<p class="dim">{escape(about)}.</p>',
            _agents(environment["agents"]),
            _pairs(environment["pairs"]),
        ]
    body += ["<h2>Runs</h2>", _runs(result["runs"]), f'<p class="dim">{escape(METHOD)}</p>']
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>comparison: {escape(', '.join(result['agents']))}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body></html>\n"
    )


def interval(row: dict[str, Any], digits: int = 2) -> str:
    """``low to high``, or what stands where there is none."""
    if row["low"] is None:
        return "not enough seeds"
    return f"{row['low']:,.{digits}f} to {row['high']:,.{digits}f}"


def _agents(rows: Sequence[dict[str, Any]]) -> str:
    raw = "scores" in rows[0]
    head = ["agent", "runs", "IQM", "95 % interval", *(["mean", "median", "score of each seed"] if raw else [])]
    cells = []
    for row in rows:
        line = [row["agent"], str(row["runs"]), f"{row['iqm']:,.2f}", interval(row)]
        if raw:
            each = ", ".join(f"{score:,.2f}" for score in row["scores"])
            line += [f"{row['mean']:,.2f}", f"{row['median']:,.2f}", each]
        cells.append(line)
    return _table(head, cells)


def _pairs(pairs: Sequence[dict[str, Any]]) -> str:
    if not pairs:
        return ""
    cells = [
        [
            f"{pair['x']} > {pair['y']}",
            f"{pair['value']:.2f}",
            interval(pair),
            "-" if pair["p_corrected"] is None else f"{pair['p_corrected']:.3f}",
            pair["verdict"],
        ]
        for pair in pairs
    ]
    return _table(["X > Y", "P(X > Y)", "95 % interval", "p, corrected", "verdict on X"], cells)


def _runs(runs: Sequence[dict[str, Any]]) -> str:
    cells = []
    for run in runs:
        commit = "-" if run["commit"] is None else run["commit"][:8] + (" changed" if run["dirty"] else "")
        settings = ", ".join(f"{k}={v}" for k, v in run["settings"].items()) or "its own"
        line = [run["run"], run["agent"], run["env"], str(run["seed"]), f"{run['steps']:,}", f"{run['score']:,.2f}"]
        cells.append([*line, settings, commit])
    return _table(["run", "agent", "environment", "seed", "steps", "score", "settings", "commit"], cells)


def _table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in cells)
    return f'<div class="wide" style="margin-bottom: 1rem"><table><tr>{names}</tr>{rows}</table></div>'


def _list(title: str, sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<h2>{title}</h2><ul>{items}</ul>" if items else ""
