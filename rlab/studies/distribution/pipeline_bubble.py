"""How long stages of a pipeline wait for each other, and that they compute what the whole network would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """A network of eight layers on pictures of digits, cut into stages."""

    examples: int = 256
    """Of the batch."""
    width: int = 64
    """Units of a layer."""
    stages: tuple[int, ...] = (2, 4, 8)
    """Into how many the network is cut."""
    factors: tuple[int, ...] = (1, 2, 4, 8)
    """Micro-batches of a stage."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The share of waiting, counted in the plan that is run, and how far gradients are from those of the network."""
    import torch
    from torch.nn.functional import cross_entropy

    from rlab.parallel.pipeline import Pipeline, bubble
    from rlab.studies.supervised import examples, network

    data = examples("digits", seed, settings.examples, preprocess="standard")
    x, y = data.x.flatten(1).double(), data.y
    model: Any = network((x.shape[1], *[settings.width] * 7, 10), seed=seed).double()
    layers = list(model)
    cross_entropy(model(x), y).backward()
    whole = torch.cat([p.grad.flatten() for p in model.parameters()])
    cuts = [len(layers) * stage // variant for stage in range(variant + 1)]
    waits, expected, errors, sent = [], [], [], 0.0
    for factor in settings.factors:
        model.zero_grad()
        pipeline = Pipeline(
            [torch.nn.Sequential(*layers[cuts[s] : cuts[s + 1]]) for s in range(variant)], factor * variant
        )
        pipeline.step(x, y, cross_entropy)
        got = torch.cat([p.grad.flatten() for p in model.parameters()])
        waits.append(bubble(pipeline.plan, variant))
        expected.append((variant - 1) / (factor * variant + variant - 1))
        errors.append(float((got - whole).abs().max()))
        sent = pipeline.sent / len(x)
    return {
        "waits": waits,
        "first": waits[0],
        "last": waits[-1],
        "off": float(np.abs(np.subtract(waits, expected)).max()),
        "error": max(errors),
        "sent": sent,
    }


def draw(figure: Any, results: Results) -> None:
    """The share of waiting over micro-batches."""
    axes = figure.subplots()
    for name in results:
        waits = column(results[name], "waits")
        factors = [2**number for number in range(len(waits[0]))]
        curves(axes, factors, {name: waits}, ("micro-batches of a stage", "share of the time that stages wait"))
    axes.set(xscale="log")


STUDIES.register("pipeline-bubble")(
    Study(
        claim="Stages of a pipeline wait (p-1)/(m+p-1) of the time, with p stages and m micro-batches: nearly half "
        "with m = p = 8, about a tenth with m = 64; gradients are those of the whole network.",
        claim_ja="パイプラインの各ステージは、ステージ数を p、マイクロバッチ数を m として、"
        "時間の (p − 1)/(m + p − 1) だけ待つ。m = p = 8 ならほぼ半分、m = 64 なら約 10 分の 1 である。勾配は、"
        "ネットワーク全体の勾配と一致する。",
        source="item 282; Huang et al. 2019, section 2",
        settings=Settings(),
        smoke={"examples": 64, "width": 8, "factors": (1, 2)},
        small={"examples": 128, "width": 32},
        small_seeds=3,
        seeds=5,
        variants={"2 stages": 2, "4 stages": 4, "8 stages": 8},
        measure=measure,
        contrasts=(
            Contrast("gradients differ by less than 1e-9", {"8 stages/error": -1, "4 stages/error": -1}, -1e-9),
            Contrast("waiting is as the formula says", {f"{n} stages/off": -1 for n in (2, 4, 8)}, -1e-9, exact=True),
            Contrast("8 stages and 8 micro-batches wait over 45 %", {"8 stages/first": 1}, 0.45, exact=True),
            Contrast("with 64 it is below 12 %", {"8 stages/last": -1}, -0.12, exact=True),
            Contrast("all stages exchange numbers at every step", {"2 stages/sent": 1}, 1, exact=True),
        ),
        draw=draw,
        correction="The parts of a split network exchange activations and gradients at every step; they are not "
        "trained apart and put together at the end.",
        correction_ja="分割したネットワークの各部分は、ステップごとに活性値と勾配をやり取りする。別々に学習して、"
        "最後に合わせるのではない。",
    )
)
