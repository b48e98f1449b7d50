"""A symbol that is asked for later: which networks still know it, by the lag."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Series of noise; at every step the largest number is asked for, at the last one the first step's symbol."""

    lags: tuple[int, ...] = (2, 10, 20, 50, 100)
    """Steps between the symbol and the question, a network each."""
    width: int = 32
    """Units."""
    examples: int = 2_000
    """Series that are learned from."""
    test: int = 500
    """Series that are scored."""
    updates: int = 3_000
    """Of 32 series each."""
    rate: float = 1e-2
    """Of Adam."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Share of the test series whose first symbol is told at the end, by the lag."""
    import torch

    from rlab.data.text.rules import delayed_recall
    from rlab.studies.images import built
    from rlab.studies.series import NONE, classifier, learn, right, shuffled

    scores = []
    for lag in settings.lags:
        made = delayed_recall(lag=lag, n=settings.examples + settings.test)
        order = shuffled(len(made.x), seed)
        x, first = torch.from_numpy(np.asarray(made.x))[order], torch.from_numpy(np.asarray(made.y))[order]
        y = x.argmax(2)
        y[:, 0], y[:, -1] = NONE, first
        asked = torch.zeros_like(x[:, :, :1])
        asked[:, -1] = 1
        x = torch.cat([x, asked], 2)
        options = variant.get("options", {})
        model: Any = classifier(variant["encoder"], x.shape[2], 4, settings.width, seed, "steps", **options)
        if variant.get("plain"):
            built(model.encoder.layers[0].core.reset_parameters, seed)
        cut = settings.examples
        learn(model, x[:cut], y[:cut], settings.updates, seed, rate=settings.rate)
        y[:, :-1] = NONE
        scores.append(right(model, x[cut:], y[cut:]))
    return {"curve": np.round(scores, 4), "short": scores[0], "long": scores[-1], "lags": settings.lags}


def draw(figure: Any, results: Results) -> None:
    """Shares by the lag."""
    lags = results["lstm"][0]["lags"]
    curves(figure.subplots(), lags, columns(results, "curve"), ("lag", "share told right; a guess: 0.25"))


STUDIES.register("recall-over-lag")(
    Study(
        claim="A plain recurrent network with small random weights loses what was said long ago, an LSTM keeps it; so "
        "does attention, to which no lag is long.",
        claim_ja="小さな乱数の重みから始めた単純な RNN は、ずっと前の入力を忘れるが、LSTM は保持する。"
        "Attention も保持し、時間差の長さに影響されない。",
        correction="The text calls the LSTM the standard for series. It was; for most of them it is the Transformer "
        "now. A plain network whose recurrent weights begin orthogonal forgets far less.",
        correction_ja="教材は、LSTM を時系列の標準とする。かつてはそうだったが、今はたいてい Transformer である。"
        "また、再帰の重みを直交行列で初期化すれば、単純な RNN もはるかに忘れにくくなる。",
        source="items 215, 217, 222; Hochreiter & Schmidhuber 1997, section 5; Vaswani et al. 2017, section 4",
        settings=Settings(),
        smoke={"lags": (2, 4), "examples": 32, "test": 10, "updates": 3},
        small={"lags": (2, 20), "examples": 1_000, "test": 200, "updates": 700},
        small_seeds=5,
        variants={
            "rnn": {"encoder": "rnn", "plain": True},  # weights as torch has them, of a spectral radius below 1
            "orthogonal rnn": {"encoder": "rnn"},
            "lstm": {"encoder": "lstm"},
            "transformer": {"encoder": "transformer", "options": {"heads": 1, "layers": 1, "positions": "sinusoidal"}},
        },
        measure=measure,
        contrasts=(
            Contrast("at the shortest lag the plain network tells 9 of 10", {"rnn/short": 1}, above=0.9, trials="test"),
            Contrast("at the longest the LSTM tells more", {"lstm/long": 1, "rnn/long": -1}, above=0.2, trials="test"),
            Contrast("the LSTM tells 9 of 10 there", {"lstm/long": 1}, above=0.9, trials="test"),
            Contrast("attention tells 9 of 10 there", {"transformer/long": 1}, above=0.9, trials="test"),
        ),
        draw=draw,
        seeds=8,
    )
)
