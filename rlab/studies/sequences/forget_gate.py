"""What the forget gate is for: a count that starts again and again, in streams longer than those of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

PARTS = 8


@dataclass(frozen=True)
class Settings:
    """Streams of bits; the output at each step is how many ones came since the last reset."""

    steps: int = 40
    """Of a stream in training."""
    longer: int = 400
    """Of a stream that is scored."""
    reset: float = 0.25
    """Probability of a reset."""
    width: int = 8
    """Units."""
    updates: int = 4_000
    """Each of 32 new streams."""
    rate: float = 1e-2
    """Of Adam."""
    test: int = 200
    """Streams that are scored."""


def streams(settings: Settings, n: int, steps: int, seed: int) -> tuple[Any, Any]:
    """x[N, T, 2], bit and reset, and counts y[N, T, 1] in tenths."""
    import torch

    from rlab.seeding import derive

    generator = torch.Generator().manual_seed(derive(seed, "streams", steps))
    bit = (torch.rand(n, steps, generator=generator) < 0.5).float()
    reset = torch.rand(n, steps, generator=generator) < settings.reset
    total = bit.cumsum(1)
    before = torch.where(reset, total - bit, 0.0).cummax(1).values
    return torch.stack([bit, reset.float()], 2), (total - before)[:, :, None] / 10


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Squared error of the count, in % of its variance: over the stream, as long as in training, and at the end."""
    import torch
    from torch.nn.functional import mse_loss

    from rlab.studies.gates import hold_open
    from rlab.studies.series import classifier, learn

    x, y = streams(settings, 32 * settings.updates, settings.steps, seed)
    model = classifier("lstm", 2, 1, settings.width, seed, "steps")
    hold_open(model, variant)
    learn(model, x, y, settings.updates, seed, rate=settings.rate, loss=mse_loss)
    x, y = streams(settings, settings.test, settings.longer, seed)
    with torch.no_grad():
        errors = 100 * (model(x) - y).square().mean((0, 2)) / y[:, settings.longer // PARTS :].var()
    way = [float(part.mean()) for part in errors.tensor_split(PARTS)]
    return {
        "curve": np.round(way, 4),
        "within": float(errors[: settings.steps].mean()),
        "end": way[-1],
        "log_within": float(errors[: settings.steps].mean().log10()),
        "log_end": float(np.log10(way[-1])),
    }


def draw(figure: Any, results: Results) -> None:
    """Errors over the stream."""
    axes = figure.subplots()
    part = (np.arange(PARTS) + 1) / PARTS
    curves(axes, part, columns(results, "curve"), ("part of a long stream", "squared error, % of variance"))
    axes.set(yscale="log")


STUDIES.register("forget-gate")(
    Study(
        claim="A forget gate drops what is no longer needed: without it an LSTM does not start a count anew, and the "
        "longer a stream is, the more it errs.",
        claim_ja="忘却ゲートは、不要になった情報を捨てる。これがないと、LSTM は数え直すことができず、"
        "系列が長いほど誤りが増える。",
        source="item 220; Gers et al. 2000, sections 2 and 3",
        settings=Settings(),
        smoke={"steps": 6, "longer": 16, "updates": 2, "test": 4, "width": 4},
        small={"steps": 20, "longer": 160, "updates": 400, "test": 100},
        small_seeds=6,
        variants={"lstm": [], "no forget gate": ["forget"]},
        measure=measure,
        contrasts=(
            Contrast(
                "without it twice the error, at lengths of training (log10)",
                {"no forget gate/log_within": 1, "lstm/log_within": -1},
                above=0.3,
            ),
            Contrast(
                "without it the error grows threefold on a long stream (log10)",
                {"no forget gate/log_end": 1, "no forget gate/log_within": -1},
                above=0.48,
            ),
            Contrast(
                "there it is three times that with it (log10)",
                {"no forget gate/log_end": 1, "lstm/log_end": -1},
                above=0.48,
            ),
        ),
        draw=draw,
        seeds=8,
    )
)
