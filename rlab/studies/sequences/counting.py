"""Strings a^n b^n longer than those of training: which cells count on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Networks that predict what follows in a^n b^n, where it is certain: from the first b on."""

    most: int = 50
    """The largest n of training."""
    longest: int = 500
    """The largest n of the test."""
    width: int = 10
    """Units."""
    strings: int = 1_000
    """That are learned from."""
    updates: int = 4_000
    """Of 32 strings each."""
    rate: float = 1e-2
    """Of Adam."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Whether each longer string is predicted without an error, the share, and how far the cells' sizes grow."""
    import torch

    from rlab.data.text.rules import anbn
    from rlab.studies.series import NONE, classifier, learn, right

    made = anbn(most=settings.most, n=settings.strings, longest=settings.longest)
    x, mask = torch.from_numpy(made.x), torch.from_numpy(made.mask)
    y = torch.from_numpy(made.y).masked_fill(~mask, NONE)
    longer = torch.from_numpy(np.asarray(made.longer))
    model: Any = classifier(variant, x.shape[2], len(made.classes), settings.width, seed, "steps")
    known = 2 * settings.most + 1
    learn(
        model, x[: settings.strings, :known], y[: settings.strings, :known], settings.updates, seed,
        rate=settings.rate, batch_size=32,
    )  # fmt: skip
    with torch.no_grad():
        wrong = (model(x[longer]).argmax(2) != y[longer]) & mask[longer]
        states = x.new_zeros(1, int(model.encoder.state_dim))
        count = torch.zeros(1, settings.longest, x.shape[2])
        count[:, :, 1] = 1  # only letters a
        _, states = model.encoder.unroll(count, states)
    whole = (~wrong.any(1)).double()
    return {
        "curve": np.round(torch.nn.functional.avg_pool1d(whole[None], 10, 10, ceil_mode=True)[0].numpy(), 3),
        "known": right(model, x[: settings.strings, :known], y[: settings.strings, :known]),
        "next": float(whole[: settings.most // 2].mean()),
        "longer": float(whole.mean()),
        "reach": float(whole.cumprod(0).sum() + settings.most) / settings.most,
        "largest": float(states.abs().max()),
        "most": settings.most,
    }


def draw(figure: Any, results: Results) -> None:
    """Shares of whole strings by n."""
    curve = columns(results, "curve")
    first = results["lstm"][0]["most"]
    x = first + 5 + 10 * np.arange(len(curve["lstm"][0]))
    curves(figure.subplots(), x, curve, ("n; in training it was smaller", "share of strings without an error"))


STUDIES.register("counting")(
    Study(
        claim="An LSTM counts, in a cell that grows without bound, so it goes on with longer strings than it has seen; "
        "a GRU, whose state is bounded, does not.",
        claim_ja="LSTM は、際限なく大きくなるセルで数えるので、学習時より長い文字列にも対応できる。"
        "状態が有界の GRU にはできない。",
        source="item 227; Weiss et al. 2018, sections 3 and 5; Gers & Schmidhuber 2001",
        settings=Settings(),
        smoke={"most": 3, "longest": 14, "strings": 20, "updates": 3, "width": 4},
        small={"most": 10, "longest": 60, "strings": 200, "updates": 600},
        small_seeds=6,
        variants={"lstm": "lstm", "gru": "gru"},
        measure=measure,
        contrasts=(
            Contrast("both learn the strings of training: the GRU", {"gru/known": 1}, above=0.98, trials="strings"),
            Contrast("and the LSTM", {"lstm/known": 1}, above=0.98, trials="strings"),
            Contrast("the LSTM gets farther beyond them", {"lstm/reach": 1, "gru/reach": -1}),
            Contrast("its state grows past 3", {"lstm/largest": 1}, above=3),
            Contrast("a GRU's state stays within 1", {"gru/largest": -1}, above=-1.01),
        ),
        draw=draw,
        seeds=10,
    )
)
