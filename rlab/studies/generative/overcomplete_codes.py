"""What an autoencoder lets through, by the size of its code and by what keeps a large code from copying."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

NOISE = 0.3
"""Standard deviation of the noise in test, and of that in training where there is some."""

LABELS = 300
"""By which a linear classifier of codes is fitted."""


@dataclass(frozen=True)
class Settings:
    """Autoencoders with one hidden layer, which is the code."""

    data: str = "mnist"
    """The pictures."""
    train: int = 10_000
    """Training examples."""
    test: int = 5_000
    """Test examples."""
    small: int = 64
    """Units of a code that is smaller than the picture."""
    same: int = 784
    """Units of one that is as large."""
    large: int = 1_568
    """Units of one that is larger."""
    active: int = 40
    """Units that stay active in the sparse one that keeps the largest."""
    steps: int = 8_000
    """Updates, of 64 examples."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Variance explained, the share of noise in inputs that is left in outputs, and percent right by codes."""
    import torch

    from rlab.nn.penalties import activation_kl
    from rlab.seeding import derive
    from rlab.studies.autoencoders import autoencoder, explained, probe, train
    from rlab.studies.supervised import examples

    data = examples(settings.data, seed, settings.train, settings.test)
    size = getattr(settings, variant["size"])
    kind = variant.get("keep", "")
    name, code = ("flat", size) if kind == "largest" else (f"mlp-{size}" + "+sigmoid" * (kind == "kl"), 0)
    active = settings.active if kind == "largest" else 0
    model: Any = autoencoder(name, data.x.shape[1:], code, seed, active=active)
    hidden: dict[str, Any] = {}
    model.code.register_forward_hook(lambda layer, given, output: hidden.update(h=output))
    train(
        model, data.x, settings.steps, seed, rate=2e-3, noise=NOISE if kind == "noise" else 0.0,
        penalty=lambda: activation_kl(hidden["h"], 0.05) if kind == "kl" else 0.0,
    )  # fmt: skip
    dice = torch.Generator().manual_seed(derive(seed, "test noise"))
    added = NOISE * torch.randn(data.x_test.shape, generator=dice)
    with torch.no_grad():
        left = (model(data.x_test + added) - data.x_test).square().sum() / added.square().sum()
        codes = [model.encode(x) for x in (data.x[:LABELS], data.x_test)]
    return {
        "explained": explained(model, data.x_test),
        "noise": float(left),
        "right": 100 * probe(codes[0], data.y[:LABELS], codes[1], data.y_test),
    }


def draw(figure: Any, results: Results) -> None:
    """What comes through, and what codes tell."""
    above, middle, below = figure.subplots(3, 1)
    dots(above, columns(results, "explained"), "variance explained")
    dots(middle, columns(results, "noise"), "share of noise left")
    dots(below, columns(results, "right"), "percent right, by codes")
    for axes in (above, middle, below):
        axes.tick_params(axis="x", labelsize=6)


STUDIES.register("overcomplete-codes")(
    Study(
        claim="An autoencoder whose code is as large as the picture copies, noise included; one with a smaller code, "
        "or with a larger one that is sparse or trained on noisy inputs, lets less noise through.",
        claim_ja="符号が入力と同じ大きさの自己符号化器は、入力をノイズごとそのまま写す。符号が小さいもの、"
        "符号が大きくてもスパースなもの、ノイズを加えた入力で学習したものは、ノイズをあまり通さない。",
        source="items 158, 159; Olshausen & Field 1997; Makhzani & Frey 2014; Vincent et al. 2010",
        settings=Settings(),
        smoke={
            "data": "digits",
            "train": 100,
            "test": 50,
            "small": 6,
            "same": 16,
            "large": 24,
            "active": 4,
            "steps": 8,
        },
        small={
            "data": "digits",
            "train": 0,
            "test": 0,
            "small": 12,
            "same": 64,
            "large": 128,
            "active": 10,
            "steps": 2_000,
        },
        small_seeds=5,
        variants={
            "smaller": {"size": "small"},
            "as large": {"size": "same"},
            "larger": {"size": "large"},
            "larger, KL": {"size": "large", "keep": "kl"},
            "larger, largest stay": {"size": "large", "keep": "largest"},
            "larger, noise": {"size": "large", "keep": "noise"},
        },
        measure=measure,
        contrasts=(
            Contrast("as large: over 0.95 is explained", {"as large/explained": 1}, above=0.95),
            Contrast("and over half of the noise comes through", {"as large/noise": 1}, above=0.5),
            Contrast("smaller: 0.1 less of it", {"as large/noise": 1, "smaller/noise": -1}, above=0.1),
            Contrast("larger, plain: no less than as large", {"larger/noise": 1, "as large/noise": -1}, above=-0.1),
            Contrast("largest stay: 0.1 less", {"as large/noise": 1, "larger, largest stay/noise": -1}, above=0.1),
            Contrast("sparse by KL: 0.1 less", {"as large/noise": 1, "larger, KL/noise": -1}, above=0.1),
            Contrast("trained on noise: 0.3 less", {"as large/noise": 1, "larger, noise/noise": -1}, above=0.3),
        ),
        draw=draw,
        seeds=5,
    )
)
