"""Score over size of a run and of all that was made smaller of it: which of them are worth having (Pareto)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rlab.errors import RlabError
from rlab.run.files import read_document
from rlab.run.folder import RunFolder, all_runs


@dataclass(frozen=True)
class Point:
    """A run.

    Attributes:
        run: its name.
        bytes: of its network; of the run that the others were made of, as float32.
        mean: of its last evaluation.
        low, high: the 95 % interval of that.
        worth: whether no other run is as small and better, or as good and smaller.
    """

    run: str
    bytes: int
    mean: float
    low: float
    high: float
    worth: bool = True

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def family(folder: RunFolder) -> tuple[list[Point], str]:
    """Find a run, what was made smaller of it, and what that was made of, all by their last evaluations.

    Returns:
        The runs that were evaluated, the smallest first, and what is measured, in words.
    """
    made = folder.config().get("compressed")
    root = made[0]["of"] if made else folder.name
    points: list[Point] = []
    measure, lower_is_better, whole = "", False, 0
    for run in {other.path.resolve(): other for other in [folder, *all_runs()]}.values():
        with contextlib.suppress(RlabError, KeyError, TypeError, IndexError):  # another one, or not evaluated
            notes = run.config().get("compressed") or []
            if (notes[0]["of"] if notes else run.name) != root:
                continue
            whole = notes[0]["bytes_before"] if notes else whole
            score = read_document(run.evaluation, "evaluation", 1)
            point = Point(run.name, notes[-1]["bytes"] if notes else 0, score["mean"], score["low"], score["high"])
            measure = score.get("measure", "mean of a game")
            lower_is_better = score.get("higher_is_better") is False
            points.append(point)
    points = [point if point.bytes else replace(point, bytes=whole) for point in points]
    return marked(points, lower_is_better), measure


def marked(points: Sequence[Point], lower_is_better: bool = False) -> list[Point]:
    """Mark the runs that are worth having, the smallest first."""
    sign = -1 if lower_is_better else 1

    def beats(one: Point, other: Point) -> bool:
        better, smaller = sign * (one.mean - other.mean), other.bytes - one.bytes
        return better >= 0 and smaller >= 0 and (better > 0 or smaller > 0)

    ordered = sorted(points, key=lambda point: point.bytes)
    return [replace(point, worth=not any(beats(other, point) for other in ordered)) for point in ordered]


def picture(points: Sequence[Point], measure: str) -> bytes:
    """Draw scores with their intervals over bytes, on a logarithmic scale; as PNG."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    from rlab.tasks.pictures import png

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for point in points:
            colour = "tab:blue" if point.worth else "0.6"
            axes.plot([point.bytes] * 2, [point.low, point.high], color=colour, lw=1)
            axes.plot(point.bytes, point.mean, "o", color=colour, ms=5)
            axes.annotate(point.run, (point.bytes, point.mean), (4, 4), textcoords="offset points", fontsize=7)
        front = [point for point in points if point.worth]
        axes.step([p.bytes for p in front], [p.mean for p in front], where="post", color="tab:blue", lw=1, alpha=0.5)
        axes.set(xscale="log", xlabel="bytes of the network", ylabel=measure)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(EngFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())

    return png(draw, (7, 4.5))
