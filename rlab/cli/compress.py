"""``rlab compress RUN``: make a smaller run of a trained one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rlab.cli.common import (
    JsonFlag,
    RunName,
    TrustFlag,
    output_file,
    parse,
    reference,
    refuse_below,
    results,
    say,
    stopped_status,
    until_stopped,
)
from rlab.cli.flags import Arg
from rlab.errors import RlabError
from rlab.run.contract import Stop, Stopped
from rlab.run.files import disk_error, replace_durably
from rlab.run.folder import RunFolder, find_run
from rlab.run.formatting import number

if TYPE_CHECKING:
    from rlab.compress.latency import Latency
    from rlab.compress.memory import Memory
    from rlab.compress.pareto import Point


@dataclass(frozen=True)
class Flags:
    """Make a new run with a smaller network of a trained one, and score both; every verb takes it like any other."""

    run: RunName
    """A run's name, a path, or `latest`: a model, an agent or a player of Go."""
    method: Literal["quantise", "prune", "structured", "qat"] = "quantise"
    """quantise: weights in fewer bits. prune: the smallest weights become 0. structured: whole neurons and channels go,
    so that the arithmetic shrinks, too. qat: quantise after training with quantised weights."""
    bits: Annotated[int | None, Arg(default="(default: 8)")] = None
    """Of a weight: 2 to 8, or 16 (quantise, qat)."""
    per_channel: bool = True
    """A scale for each output channel; else one for each tensor (quantise, qat)."""
    share: Annotated[float | None, Arg(default="(default: 0.8, structured 0.5)")] = None
    """Of the weights that become 0 (prune), or of each layer's neurons or channels that go (structured)."""
    layerwise: bool = False
    """Prune that share of every layer; else the smallest weights of the whole network."""
    rounds: int | None = None
    """Prune in so many rounds, each followed by --epochs of training."""
    epochs: int | None = None
    """Train so long, after each round of pruning or with quantised weights; models on data sets only."""
    learning_rate: Annotated[float | None, Arg(default="(default: 0.1, with --rewind 1)")] = None
    """Of that training, as a factor of the run's own."""
    rewind: bool = False
    """Prune: train what is left from the run's start again, as long as the run itself (the lottery ticket), and beside
    it a control with the same weights at 0 and the others at random."""
    rewind_to: int | None = None
    """Go back to the kept checkpoint of this progress, not to the start."""
    name: str | None = None
    """Of the new run; none: the old one's, with the method."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    episodes: int = 30
    """Games that both are scored by, if they play; 0: no score."""
    latency: bool = True
    """Measure how long both take for 1 input and for 256, and the memory of their weights and of a forward pass."""
    pareto: Annotated[Path | None, Arg("FILE.png")] = None
    """Draw score over bytes of the run and of all that was made smaller of it, this one included, as last evaluated."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    return until_stopped(lambda stop: _compress(argv, stop))


def _compress(argv: Sequence[str], stop: Stop) -> int:
    flags = parse(Flags, "compress", argv)
    refuse_below(flags, episodes=0)
    given = {name: getattr(flags, name) for name in GIVEN if getattr(flags, name) is not None}
    given |= {name: True for name in ("layerwise", "rewind") if getattr(flags, name)}
    given |= {} if flags.per_channel else {"per_channel": False}
    pareto = flags.pareto and output_file("--pareto", flags.pareto, ".png")
    with results(flags.json) as put:
        folder = find_run(flags.run)
        from rlab.compress.compress import Compression, compress
        from rlab.compress.latency import table
        from rlab.compress.memory import memory_table
        from rlab.compress.pareto import family, picture
        from rlab.recipes import load_recipes

        load_recipes()
        how, new = Compression(flags.method, **given), ""
        try:
            made = compress(folder, how, flags.name, flags.device, stop, say)
            new = reference(made.folder)
            runs = {"before": folder, "after": made.folder} | ({"control": made.control} if made.control else {})
            scores: dict[str, Any] = {}
            for role, run in runs.items():
                if flags.episodes:
                    scores[role] = _score(run, role, flags, stop)
            costs = {role: _costs(runs[role], role, stop) for role in ("before", "after") if flags.latency}
        except Stopped:
            say(f"stopped; run '{new}' was written, and not scored" if new else "stopped; nothing was written")
            return stopped_status(stop)
        lines = [
            f"network {made.before:,} bytes in float32, {made.after:,} now: "
            f"{made.before / made.after:.1f} times smaller, {100 * made.zeros:.1f} % of the weights are 0"
        ]
        if made.parameters[0] != made.parameters[1]:
            lines.append(f"        {made.parameters[0]:,} numbers before, {made.parameters[1]:,} now")
        for role, score in scores.items():
            measure = score.get("measure", "mean of a game")
            lines.append(
                f"{role:<8}{number(score['mean'])} [{number(score['low'])}, {number(score['high'])}] {measure}"
            )
        rows = [replace(row, name=f"{role} {row.name}") for role, found in costs.items() for row in found[0]]
        memories = [row for _, found in costs.values() for row in found]
        lines += [*table(rows), *memory_table(memories)]
        wrote = [f"wrote   {run.path}" for run in (made.folder, made.control) if run]
        points: list[Point] = []
        if pareto is not None:
            points, measure = family(folder)
            try:
                replace_durably(pareto, picture(points, measure))
            except OSError as e:
                raise disk_error(e, pareto) from None
            lines += [f"{'*' if p.worth else ' '} {p.run}: {p.bytes:,} bytes, {number(p.mean)}" for p in points]
            wrote.append(f"wrote   {pareto}")
        put(
            "\n".join([*lines, *wrote, f"next    rlab eval {new}"]),
            {
                "run": made.folder.name,
                "control_run": made.control.name if made.control else None,
                "of": folder.name,
                "bytes_before": made.before,
                "bytes_after": made.after,
                "numbers_before": made.parameters[0],
                "numbers_after": made.parameters[1],
                "zeros": made.zeros,
                "taken": made.taken.note() if made.taken else None,
                "latency": [row.plain() for row in rows],
                "memory": [row.plain() for row in memories],
                "pareto": [point.plain() for point in points],
            }
            | {role: {key: score[key] for key in ("mean", "low", "high")} for role, score in scores.items()},
        )
        return 0


GIVEN = ("bits", "share", "rounds", "epochs", "learning_rate", "rewind_to")
"""Settings of a method that have a usual value of their own there."""


def _score(folder: RunFolder, role: str, flags: Flags, stop: Stop) -> dict[str, Any]:
    """Score a run; the evaluation that the run before it has stays as it is."""
    from rlab.api import load

    with load(folder, flags.device) as run:
        if role == "before" and folder.evaluation.is_file():
            return run.score(flags.episodes, 0, stop)
        return run.evaluate(flags.episodes, 0, stop=stop)


def _costs(folder: RunFolder, role: str, stop: Stop) -> tuple[list[Latency], list[Memory]]:
    """How long a run's network takes, and how much memory; nothing of one that cannot be exported."""
    from rlab.api import load
    from rlab.compress.export import graph_of
    from rlab.compress.latency import latencies
    from rlab.compress.memory import memory

    with load(folder, "cpu") as run:
        try:
            graph = graph_of(run.learner, folder.name)
        except RlabError:
            return [], []
        times = latencies(graph, {}, stop)
        return times, [memory(graph, role, [batch for batch, t in times[0].seconds.items() if t is not None])]
