"""``rlab compress RUN``: make a smaller run of a trained one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rlab.cli.common import (
    JsonFlag,
    RunName,
    TrustFlag,
    parse,
    reference,
    results,
    say,
    stopped_status,
    until_stopped,
)
from rlab.run.contract import Stop, Stopped
from rlab.run.folder import find_run
from rlab.run.formatting import number


@dataclass(frozen=True)
class Flags:
    """Make a new run with a smaller network of a trained one, and score both; every verb takes it like any other."""

    run: RunName
    """A run's name, a path, or `latest`: a model, an agent or a player of Go."""
    method: Literal["quantise", "prune", "qat"] = "quantise"
    """quantise: weights in fewer bits. prune: the smallest weights become 0. qat: quantise after training with
    quantised weights."""
    bits: int = 8
    """Of a weight: 2 to 8, or 16 (quantise, qat)."""
    per_channel: bool = True
    """A scale for each output channel; else one for each tensor (quantise, qat)."""
    share: float = 0.8
    """Of the weights that become 0 (prune)."""
    layerwise: bool = False
    """Prune that share of every layer; else the smallest weights of the whole network."""
    rounds: int = 1
    """Prune in so many rounds, each followed by --epochs of training."""
    epochs: int = 0
    """Train so long, after each round of pruning or with quantised weights; models on data sets only."""
    learning_rate: float = 0.1
    """Of that training, as a factor of the run's own."""
    name: str | None = None
    """Of the new run; none: the old one's, with the method."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    episodes: int = 30
    """Games that both are scored by, if they play; 0: no score."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    return until_stopped(lambda stop: _compress(argv, stop))


def _compress(argv: Sequence[str], stop: Stop) -> int:
    flags = parse(Flags, "compress", argv)
    with results(flags.json) as put:
        folder = find_run(flags.run)
        from rlab.api import evaluate
        from rlab.compress.compress import Compression, compress
        from rlab.recipes import load_recipes

        load_recipes()
        how = Compression(
            flags.method,
            flags.bits,
            flags.per_channel,
            flags.share,
            flags.layerwise,
            flags.rounds,
            flags.epochs,
            flags.learning_rate,
        )
        try:
            made = compress(folder, how, flags.name, flags.device, stop, say)
            scores: dict[str, Any] = {}
            for role, run in (("before", folder), ("after", made.folder)):
                if flags.episodes:
                    scores[role] = evaluate(run, flags.episodes, 0, flags.device, stop=stop)
        except Stopped:
            say("stopped")
            return stopped_status(stop)
        lines = [
            f"network {made.before:,} bytes in float32, {made.after:,} now: "
            f"{made.before / made.after:.1f} times smaller, {100 * made.zeros:.1f} % of the weights are 0"
        ]
        for role, score in scores.items():
            measure = score.get("measure", "mean of a game")
            lines.append(
                f"{role:<8}{number(score['mean'])} [{number(score['low'])}, {number(score['high'])}] {measure}"
            )
        name = reference(made.folder)
        put(
            "\n".join([*lines, f"wrote   {made.folder.path}", f"next    rlab eval {name}"]),
            {
                "run": made.folder.name,
                "of": folder.name,
                "bytes_before": made.before,
                "bytes_after": made.after,
                "zeros": made.zeros,
            }
            | {role: {key: score[key] for key in ("mean", "low", "high")} for role, score in scores.items()},
        )
        return 0
