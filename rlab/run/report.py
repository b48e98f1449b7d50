"""``report.html``: one page that tells a run and needs no other file. Everything in it is escaped."""

from __future__ import annotations

import base64
import io
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from rlab.errors import RlabError
from rlab.run.config import flat
from rlab.run.files import JSON_BYTES, disk_error, make_folder, read_json, read_plain, replace_durably
from rlab.run.folder import RunFolder
from rlab.run.formatting import RULES, number, printable_lines, score_text
from rlab.run.health import warnings_in
from rlab.run.metrics import read_metrics, read_score
from rlab.run.status import checkpoint_paths, newest_checkpoint, status_of, subject_of

VIDEO_BYTES = 8_000_000
"""A larger video is linked, not embedded."""

GREY = "#808080"
"""Readable on white and on black: the pictures have no background."""

BLUE, ORANGE = "#3b82f6", "#f59e0b"

CURVES = (
    ("loss", "loss", lambda row: row.get("loss")),
    ("mean Q of a batch", "Q", lambda row: row.get("q_mean")),
    ("action gap", "Q", lambda row: row.get("action_gap")),
    ("exploration", "ε", lambda row: row.get("epsilon")),
    ("entropy of the policy", "nats", lambda row: row.get("entropy")),
    ("gradient norm before clipping", "L2", lambda row: row.get("grad_norm")),
    ("dead units", "share", lambda row: row.get("dead_units")),
    ("accuracy on training batches", "share", lambda row: row.get("accuracy")),
    ("learning rate", "of the first group", lambda row: row.get("learning_rate")),
    ("speed", "per second", lambda row: row.get("clock", {}).get("steps_per_s")),
)
"""(title, y label, row -> value) of the small pictures."""

DRAWN = {"kind", "step", "clock", "return_mean", "loss", "q_mean", "action_gap", "epsilon", "entropy", "grad_norm"} | {
    "dead_units",
    "accuracy",
    "learning_rate",
}
"""Columns of metrics.jsonl that are drawn or are no curve; what else a run has logged is drawn under its own name."""

MOST_CURVES = 24
"""Other columns that are drawn."""

STYLE = """
:root { color-scheme: light dark; --fg: #1f2328; --bg: #ffffff; --soft: #f3f4f6; --line: #d8dce1;
  --dim: #6b7280; }
@media (prefers-color-scheme: dark) {
  :root { --fg: #e6e8eb; --bg: #14171a; --soft: #1e2226; --line: #353b41; --dim: #9aa2ab; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--fg); background: var(--bg);
  max-width: 68rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; }
p.dim, .dim { color: var(--dim); }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.card { background: var(--soft); border-radius: .5rem; padding: .6rem 1rem; min-width: 8rem; }
.card b { display: block; font-size: 1.35rem; font-weight: 600; }
.card span { color: var(--dim); font-size: .85rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: .5rem; }
img, video { max-width: 100%; height: auto; } video { image-rendering: pixelated; border-radius: .4rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; } .wide { overflow-x: auto; }
td, th { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0;
  border-bottom: 1px solid var(--line); }
td { overflow-wrap: anywhere; } th { font-weight: 500; color: var(--dim); white-space: nowrap; }
td.bar { width: 30%; } td.bar div { background: #3b82f6; height: .7rem; border-radius: .2rem; min-width: 1px; }
tr.own th { color: var(--fg); }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
code { background: var(--soft); padding: .1rem .35rem; border-radius: .25rem; }
pre { margin: 0; white-space: pre-wrap; font-size: .85rem; }
"""


def write_report(folder: RunFolder, defaults: Mapping[str, Any] | None = None) -> Path:
    """Write the page for a run as it stands now; replaces an older one in one step.

    Args:
        folder: the run.
        defaults: the plain configuration that its recipe starts from, so that other settings are marked.

    Raises:
        RlabError: a file of the run is damaged, or the disk refused.
    """
    page = report_html(folder, defaults or {})
    try:
        make_folder(folder.report.parent)
        replace_durably(folder.report, page.encode())
    except OSError as e:
        raise disk_error(e, folder.path) from None
    return folder.report


def report_html(folder: RunFolder, defaults: Mapping[str, Any]) -> str:
    """The page as text; see `write_report`."""
    document = folder.config()
    status = status_of(folder)
    rows = list(read_metrics(folder.metrics))
    train = [r for r in rows if r["kind"] == "train"]
    evals = [r for r in rows if r["kind"] == "eval"]
    evaluation = read_score(folder.evaluation) if folder.evaluation.exists() else None
    sessions = folder.environment()["sessions"] if (folder.path / "env.json").exists() else []
    subject, unit = subject_of(document) or "", document["unit"]
    total = "" if status.total is None else f" of {status.total:,}"
    facts = (
        f"{document['recipe']} on {subject}",
        status.text(),
        f"{status.done:,}{total} {unit}",
        f"started {_when(document['created'])}",
        f"report of {_when(time.time())}",
    )
    body = [
        f"<h1>{escape(folder.name)}</h1>",
        f'<p class="dim">{escape(" · ".join(facts))}</p>',
        _score(evaluation, evals),
        "<h2>Learning</h2>",
        _learning(train, evals, unit),
        _section("Training health", _health(warnings_in(rows))),
        _section("Written in evaluations", _written(evals)),
        _section("Pictures", _pictures(folder)),
        "" if "data" in document["subject"] else _section("Video", _video(folder)),
        _section("Network", _network(folder)),
        _section("Evaluations", _evaluations(evals)),
        _section("Configuration", _configuration(document["config"], defaults)),
        _section("Where it ran", "".join(_session(n, s) for n, s in enumerate(sessions, 1))),
        _section("Checkpoints", "".join(f"<code>{escape(p.name)}</code> " for p in checkpoint_paths(folder))),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Whatever a run folder says: the page runs no script and loads nothing.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "media-src data:; style-src 'unsafe-inline'\">"
        f"<title>{escape(folder.name)}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body></html>\n"
    )


def summary_html(folder: RunFolder) -> str:
    """A run as a small table and its curve, for a notebook; everything in it is escaped."""
    try:
        document, status = folder.config(), status_of(folder)
        rows = list(read_metrics(folder.metrics))
    except RlabError as e:
        return f"<p>{escape(str(e))}</p>"
    evals = [r for r in rows if r["kind"] == "eval" and all(r.get(k) is not None for k in ("mean", "low", "high"))]
    total = "" if status.total is None else f" of {status.total:,}"
    fields = {
        "run": folder.name,
        "learns": f"{document['recipe']} on {subject_of(document) or 'nothing'}",
        "state": f"{status.text()}, {status.done:,}{total} {document['unit']}",
        "score": score_text(evals[-1]) if evals else "no evaluation yet",
        "path": folder.path,
    }
    returns = _points([r for r in rows if r["kind"] == "train"], lambda row: row.get("return_mean"))
    curve = _returns_svg(returns, evals, document["unit"]) if returns[0] or evals else ""
    return f"<div>{_table(fields)}{curve}</div>"


def _score(evaluation: dict[str, Any] | None, evals: list[dict[str, Any]]) -> str:
    score = evaluation or (evals[-1] if evals else None)
    if score is None:
        return '<p class="dim">No evaluation yet.</p>'
    if "measure" in score:
        return _model_score(score)
    cards = [
        (_number(score.get("mean")), "mean score"),
        (f"{_number(score.get('low'))} – {_number(score.get('high'))}", "95% interval of the mean"),
        (_number(score.get("median")), "median"),
        (_number(score.get("human_normalised")), "human-normalised (0 random, 1 human)"),
        (str(score.get("episodes")), "whole games"),
        (f"{score['step']:,}" if "step" in score else "-", "steps of training"),
    ]
    how = ", ".join(f"{name} {score[name]}" for name in (*RULES, "epsilon", "seed") if score.get(name) is not None)
    return f'{_cards(cards)}<p class="dim">Raw scores of whole games; {escape(how)}.</p>'


def _model_score(score: dict[str, Any]) -> str:
    cards = [
        (_number(score.get("mean")), score["measure"]),
        (f"{_number(score.get('low'))} – {_number(score.get('high'))}", "95% interval"),
        (f"{score['examples']:,}", f"{score['split']} {score.get('items', 'examples')}"),
        (_number(score.get("loss")), "cross-entropy, nats"),
        (_number(score.get("calibration_error")), "calibration error, percent"),
        (_number(score.get("rmse")), "root mean squared error"),
        (_number(score.get("nats_per_character")), "nats per character"),
    ]
    shown = _cards(cards)
    classes = score.get("per_class") or {}
    table = _table({name: f"{share:.2f} %" for name, share in classes.items()})
    return shown + (f"<h2>Accuracy by class</h2>{table}" if classes else "")


def _cards(cards: list[tuple[str, str]]) -> str:
    shown = "".join(f'<div class="card"><b>{escape(v)}</b><span>{escape(k)}</span></div>' for v, k in cards if v != "-")
    return f'<div class="cards">{shown}</div>'


WRITTEN = 8
"""Evaluations whose text is shown: the first, the last, and some between."""


def _written(evals: list[dict[str, Any]]) -> str:
    """What a model of text wrote as it learned: evaluations' ``sample``, a text."""
    rows = [row for row in evals if isinstance(row.get("sample"), str)]
    chosen = sorted({round(i * (len(rows) - 1) / max(WRITTEN - 1, 1)) for i in range(WRITTEN)}) if rows else []
    lines = ""
    for row in (rows[i] for i in chosen):
        score = f"{escape(str(row.get('measure', '')))} {_number(row.get('mean'))}"
        text = escape(printable_lines(row["sample"]))
        lines += (
            f'<tr><td class="n">{row["step"]:,}<br><span class="dim">{score}</span></td><td><pre>{text}</pre></td></tr>'
        )
    return f'<div class="wide"><table>{lines}</table></div>' if lines else ""


MOST_PICTURES = 20
"""That a report shows."""


def _pictures(folder: RunFolder) -> str:
    """What ``rlab report`` or ``rlab watch`` drew of what was learned."""
    titles = {
        "confusion": "which classes it confuses",
        "wrong": "what it gets wrong, being most sure",
        "looked": "where it looks",
        "alignments": "which words each written one looks at",
        "precision": "precision over recall",
        "hits": "hits, false boxes and missed objects",
        "samples": "samples",
        "samples_over_training": "samples of the same latent codes over training",
        "values": "values and greedy policy",
        "reconstructions": "test examples and what comes back",
        "walk": "a walk along the numbers of the code that say the most, a row each",
        "filters": "the weights of the first layer",
        "codes": "a map of the codes",
    }
    files = sorted(folder.pictures.glob("*.png"), key=lambda path: (path.stem not in titles, path.stem))
    shown = ""
    for path in files[:MOST_PICTURES]:
        title, data = escape(titles.get(path.stem, path.stem)), _data("image/png", read_plain(path, JSON_BYTES))
        shown += f'<p class="dim">{title}</p><img alt="{title}" src="{data}">'
    return shown


def _learning(train: list[dict[str, Any]], evals: list[dict[str, Any]], unit: str) -> str:
    pictures = []
    returns = _points(train, lambda row: row.get("return_mean"))
    tested = [r for r in evals if all(r.get(k) is not None for k in ("mean", "low", "high"))]
    if returns[0] or tested:
        pictures.append(f'<div style="grid-column: 1 / -1">{_returns_svg(returns, tested, unit)}</div>')
    for title, label, value in CURVES:
        points = _points(train, value)
        if points[0]:
            pictures.append(f"<div>{_curve_svg(title, label, points, unit)}</div>")
    for name in list(dict.fromkeys(key for row in train for key in row if key not in DRAWN))[:MOST_CURVES]:
        points = _points(train, lambda row, name=name: row.get(name))  # type: ignore[misc]
        if len(set(points[1])) > 1:
            pictures.append(f"<div>{_curve_svg(name.replace('_', ' '), '', points, unit)}</div>")
    if not pictures:
        return '<p class="dim">No numbers yet: the first line of metrics has not been written.</p>'
    return f'<div class="grid">{"".join(pictures)}</div>'


Points = tuple[list[float], list[float]]


def _points(rows: Iterable[dict[str, Any]], value: Callable[[dict[str, Any]], Any]) -> Points:
    pairs = [(row["step"], value(row)) for row in rows]
    pairs = [(x, y) for x, y in pairs if isinstance(y, (int, float))]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _returns_svg(returns: Points, tested: list[dict[str, Any]], unit: str) -> str:
    measure = next((r["measure"] for r in tested if "measure" in r), None)
    figure, axes = _axes((9.6, 3.6), measure or "return", measure or "return of a game", unit)
    if returns[0]:
        axes.plot(*returns, color=BLUE, lw=1.4, label="training, last 100 episodes")
    if tested:
        mean = [r["mean"] for r in tested]
        below = [max(0.0, r["mean"] - r["low"]) for r in tested]
        above = [max(0.0, r["high"] - r["mean"]) for r in tested]
        axes.errorbar(
            [r["step"] for r in tested],
            mean,
            yerr=[below, above],
            fmt="o-",
            color=ORANGE,
            ms=4,
            lw=1,
            elinewidth=1,
            capsize=3,
            label="evaluation, mean and 95% interval",
        )
    axes.legend(frameon=False, labelcolor=GREY, fontsize=9, loc="upper left")
    return _image(figure, f"training and evaluations over {_over(unit)}")


def _curve_svg(title: str, label: str, points: Points, unit: str) -> str:
    figure, axes = _axes((4.8, 2.6), title, label, unit)
    axes.plot(*points, color=BLUE, lw=1.2, marker="o" if len(points[0]) == 1 else None, ms=4)
    if title == "speed":
        axes.set_ylim(bottom=0)
    return _image(figure, f"{title} over {_over(unit)}")


def _axes(size: tuple[float, float], title: str, label: str, unit: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, color=GREY, fontsize=10, loc="left")
    axes.set_xlabel(_over(unit), color=GREY, fontsize=9)
    axes.set_ylabel(label, color=GREY, fontsize=9)
    axes.tick_params(colors=GREY, labelsize=8)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    axes.grid(color=GREY, alpha=0.2, lw=0.6)
    axes.set_facecolor("none")
    return figure, axes


def _over(unit: str) -> str:
    return {"steps": "environment steps", "games": "games"}.get(unit, f"training {unit}")


def _image(figure: Any, description: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True)
    return f'<img alt="{escape(description)}" src="{_data("image/svg+xml", buffer.getvalue())}">'


def _video(folder: RunFolder) -> str:
    """The newest video, embedded if it is small enough, else the newest GIF; always with its name."""
    for kind in ("mp4", "gif"):
        files = sorted(folder.videos.glob(f"[!.]*.{kind}"), key=lambda p: p.stat().st_mtime_ns)
        if files and files[-1].stat().st_size <= VIDEO_BYTES:
            newest = files[-1]
            name = f'<p class="dim">{escape(str(newest.relative_to(folder.path)))}</p>'
            data = read_plain(newest, VIDEO_BYTES)
            if kind == "mp4":
                return f'<video controls loop muted src="{_data("video/mp4", data)}"></video>{name}'
            return f'<img alt="the policy at play" src="{_data("image/gif", data)}">{name}'
    return f'<p class="dim">None yet: <code>rlab watch {escape(folder.name)}</code> writes one.</p>'


def _evaluations(evals: list[dict[str, Any]]) -> str:
    if not evals:
        return ""
    rows = []
    for row in evals:
        interval = f"{_number(row.get('low'))} – {_number(row.get('high'))}"
        values = (
            f"{row['step']:,}",
            _number(row.get("mean")),
            interval,
            _number(row.get("median")),
            str(row.get("episodes", "-")),
        )
        rows.append("<tr>" + "".join(f'<td class="n">{escape(v)}</td>' for v in values) + "</tr>")
    names = ("steps", "mean", "95% interval", "median", "games")
    head = "".join(f'<th style="text-align: right">{name}</th>' for name in names)
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _health(warnings: list[dict[str, Any]]) -> str:
    if not warnings:
        return ""
    names = ("steps", "warning", "seen", "likely cause", "try")
    rows = "<tr>" + "".join(f"<th>{name}</th>" for name in names) + "</tr>"
    for warning in warnings:
        until = "" if warning["until"] is None else f" to {warning['until']:,}"
        values = (f"{warning['step']:,}{until}", *(str(warning[k]) for k in ("rule", "saw", "cause", "advice")))
        rows += "<tr>" + "".join(f"<td>{escape(v)}</td>" for v in values) + "</tr>"
    return f'<div class="wide"><table>{rows}</table></div>'


OWN = ' class="own"'
"""Of a setting that is not the default."""


def _configuration(config: dict[str, Any], defaults: Mapping[str, Any]) -> str:
    """Every setting, a table a part; what is not the default is marked, with the default beside it."""
    tables = []
    for name, part in config.items():
        fields = flat(part) if isinstance(part, dict) else {name: part}
        usual = flat(defaults[name]) if isinstance(defaults.get(name), dict) else defaults
        rows = ""
        for key, value in fields.items():
            other = key in usual and usual[key] != value
            cell = escape(str(value))
            if other:
                cell = f'<b>{cell}</b> <span class="dim">default {escape(str(usual[key]))}</span>'
            rows += f"<tr{OWN if other else ''}><th>{escape(str(key))}</th><td>{cell}</td></tr>"
        tables.append(f"<div><h3>{escape(str(name))}</h3><table>{rows}</table></div>")
    return f'<div class="grid">{"".join(tables)}</div>'


Shapes = dict[str, list[int]]


def _network(folder: RunFolder) -> str:
    """The layers of every network in the newest checkpoint, with shapes and parameters; one copy of equal ones."""
    newest = newest_checkpoint(folder)
    if newest is None:
        return ""
    try:
        state = read_json(newest[0] / "state.json")["state"]
        with safe_open(newest[0] / "tensors.safetensors", framework="np") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        networks = dict(_networks(state, (), shapes))
    except (RlabError, SafetensorError, OSError, LookupError, TypeError, ValueError, RecursionError):
        return '<p class="dim">The newest checkpoint cannot be read.</p>'
    tables = []
    for name, layers in networks.items():
        copies = [other for other in networks if other != name and networks[other] == layers]
        if any(list(networks).index(other) < list(networks).index(name) for other in copies):
            continue
        total = sum(math.prod(shape) for shape in layers.values())
        also = f", likewise {', '.join(copies)}" if copies else ""
        tables.append(f"<h3>{escape(name)}: {total:,} parameters{escape(also)}</h3>{_layers(layers)}")
    return "".join(tables)


def _networks(node: Any, path: tuple[str, ...], shapes: Shapes) -> Iterator[tuple[str, Shapes]]:
    """(name, parameter -> shape) of every state dict in a state: dicts of tensors, some of them weights."""
    if not isinstance(node, dict):
        return
    tensors = {key: value["$tensor"] for key, value in node.items() if isinstance(value, dict) and "$tensor" in value}
    if any(key.endswith("weight") for key in tensors):
        yield " ".join(path), {key: shapes[name] for key, name in tensors.items() if shapes[name]}
        return
    for key, value in node.items():
        yield from _networks(value, (*path, str(key)), shapes)


def _layers(layers: Shapes) -> str:
    """A line for each layer: its name, the shapes of its parameters, how many, and a bar of their share."""
    grouped: dict[str, Shapes] = {}
    for name, shape in layers.items():
        layer, _, parameter = name.rpartition(".")
        grouped.setdefault(layer, {})[parameter] = shape
    sizes = {layer: sum(math.prod(shape) for shape in parts.values()) for layer, parts in grouped.items()}
    most = max(sizes.values(), default=0) or 1
    rows = ""
    for layer, parts in grouped.items():
        shown = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in parts.items())
        bar = f'<div style="width: {100 * sizes[layer] / most:.1f}%"></div>'
        rows += f"<tr><td>{escape(layer)}</td><td>{escape(shown)}</td>"
        rows += f'<td class="n">{sizes[layer]:,}</td><td class="bar">{bar}</td></tr>'
    head = '<tr><th>layer</th><th>shapes</th><th style="text-align: right">parameters</th><th></th></tr>'
    return f'<div class="wide"><table>{head}{rows}</table></div>'


def _session(count: int, session: Mapping[str, Any]) -> str:
    started = session.get("started")
    flat: dict[str, Any] = {"started": _when(started) if isinstance(started, (int, float)) else "-"}
    for name, value in session.items():
        if name == "started":
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        flat[name] = value
    return f"<h3>Session {count}</h3>{_table(flat)}"


def _table(fields: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(str(v))}</td></tr>" for k, v in fields.items())
    return f"<table>{rows}</table>"


def _section(title: str, content: str) -> str:
    return f"<h2>{title}</h2>{content}" if content else ""


def _number(value: Any) -> str:
    return number(value) if isinstance(value, (int, float)) else "-"


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
