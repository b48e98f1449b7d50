"""ReLU and its smooth successors in a small Transformer and in a plain net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.images import built
from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """A Transformer that reads a digit line by line, each of 8 pixels a token."""

    width: int = 48
    """Numbers of a token."""
    layers: int = 2
    """Encoder layers; the function under test is that of their feed-forward parts."""
    steps: int = 2_000
    """Updates of 64 examples, by Adam."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test accuracy, and the training loss's logarithm."""
    import torch
    from torch import Tensor, nn

    from rlab.nn.layers.activations import ACTIVATIONS
    from rlab.nn.optim import make_optimiser
    from rlab.studies.supervised import accuracy, examples, fit

    class Reader(nn.Module):
        """Digits float[B, 1, 8, 8] -> logits[B, 10]."""

        def __init__(self) -> None:
            super().__init__()
            width, function = settings.width, ACTIVATIONS.get(variant["activation"])()
            self.lines = nn.Linear(8, width)
            self.places = nn.Parameter(0.1 * torch.randn(8, width))
            layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, function, batch_first=True, norm_first=True)
            self.encoder = nn.TransformerEncoder(layer, settings.layers, enable_nested_tensor=False)
            self.last = nn.Linear(width, 10)

        def forward(self, x: Tensor) -> Tensor:
            """Mean over the tokens."""
            return self.last(self.encoder(self.lines(x[:, 0]) + self.places).mean(1))

    data = examples("digits", seed, preprocess="standard")
    model = built(Reader, seed)
    optimiser = make_optimiser("adam", model.parameters(), lr=2e-3, foreach=True)
    fit(model, data.x, data.y, optimiser, steps=settings.steps, batch_size=64, seed=seed)
    with torch.no_grad():
        loss = float(nn.functional.cross_entropy(model(data.x), data.y))
    return {"accuracy": 100 * accuracy(model, data.x_test, data.y_test), "log_loss": float(np.log10(loss))}


def draw(figure: Any, results: Results) -> None:
    """Accuracies and losses."""
    left, right = figure.subplots(1, 2)
    dots(left, columns(results, "accuracy"), "test accuracy (%)")
    dots(right, columns(results, "log_loss"), "training loss, power of ten")


STUDIES.register("smooth-activations")(
    Study(
        claim="In a Transformer GELU and SiLU do no worse than ReLU by a percentage point, and sigmoids learn "
        "more slowly than GELU.",
        claim_ja="Transformer に GELU や SiLU を使っても、ReLU に 1 ポイント以上劣ることはない。"
        "シグモイド関数を使うと、GELU より学習が遅い。",
        correction="A slide calls ReLU the function in general use today. That is dated: since 2018 many "
        "Transformers have had GELU, SiLU or gated forms of them; ReLU lives on in convolutional and small nets.",
        correction_ja="教材のスライドは、ReLU を現在一般に使われる関数とする。これは古い。"
        "2018 年以降の Transformer の多くは、GELU や SiLU、またはそれらにゲートを付けたものを使う。ReLU は、"
        "CNN や小さなネットワークで今も使われている。",
        source="items 061; Hendrycks & Gimpel 2016; Devlin et al. 2018; Shazeer 2020",
        settings=Settings(),
        smoke={"width": 8, "layers": 1, "steps": 3},
        small={"steps": 120, "layers": 1, "width": 32},
        small_seeds=6,
        variants={
            "ReLU": {"activation": "relu"},
            "GELU": {"activation": "gelu"},
            "SiLU": {"activation": "silu"},
            "sigmoid": {"activation": "sigmoid"},
        },
        measure=measure,
        contrasts=(
            Contrast("GELU is not worse by a point", {"GELU/accuracy": 1, "ReLU/accuracy": -1}, above=-1.0),
            Contrast("SiLU is not worse by a point", {"SiLU/accuracy": 1, "ReLU/accuracy": -1}, above=-1.0),
            Contrast(
                "a sigmoid's training loss is above GELU's (powers of ten)",
                {"sigmoid/log_loss": 1, "GELU/log_loss": -1},
            ),
        ),
        draw=draw,
        seeds=10,
    )
)
