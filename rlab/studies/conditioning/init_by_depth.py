"""What 0.01 N, Xavier's and He's weights come to after training, by depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

DEPTHS = (1, 5, 10, 20)
"""Hidden layers."""


@dataclass(frozen=True)
class Settings:
    """ReLU nets, one budget."""

    data: str = "fashion_mnist"
    """Data set."""
    train: int = 10_000
    """Training examples; 0: all."""
    test: int = 5_000
    """Test examples; 0: all."""
    width: int = 128
    """Units of each hidden layer."""
    steps: int = 800
    """Updates of 64 examples, by SGD with momentum."""
    rates: tuple[float, ...] = (0.1, 0.03, 0.01, 0.003)
    """Learning rates; the one with the best training accuracy counts."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test accuracy by depth, at the rate with the best training accuracy."""
    from rlab.studies.supervised import accuracy_by_depth, examples

    data = examples(settings.data, seed, settings.train, settings.test, preprocess="standard")
    accuracies = accuracy_by_depth(
        data, settings.width, DEPTHS, "relu", variant["init"], settings.rates, settings.steps, seed
    )
    return {"curve": accuracies} | {f"depth_{depth}": value for depth, value in zip(DEPTHS, accuracies, strict=True)}


def draw(figure: Any, results: Results) -> None:
    """Accuracy over depth."""
    ways = columns(results, "curve", 100)
    curves(figure.subplots(), DEPTHS, ways, ("hidden layers", "test accuracy, best rate (%)"))


STUDIES.register("init-by-depth")(
    Study(
        claim="Weights of 0.01 N train a net of one hidden layer as well as He's do; ten layers of them do not train "
        "at all, and at twenty Xavier's fall behind He's in a ReLU net.",
        claim_ja="標準偏差 0.01 の重みは、隠れ層が一つなら He の初期値と同じくらいよく学習できる。"
        "10 層ではまったく学習できず、20 層の ReLU のネットワークでは、Xavier の初期値も He の初期値に後れを取る。",
        source="items 040, 085, 086; Glorot & Bengio 2010; He et al. 2015, section 2.2",
        settings=Settings(),
        smoke={"data": "digits", "width": 8, "steps": 2, "rates": (0.03,)},
        small={"data": "digits", "train": 0, "test": 0, "width": 32, "steps": 150, "rates": (0.03,)},
        small_seeds=7,
        variants={
            "0.01 N": {"init": "normal"},
            "Xavier": {"init": "xavier-normal"},
            "He": {"init": "he-normal"},
        },
        measure=measure,
        contrasts=(
            Contrast("1 layer: 0.01 N is not 3 points below He", {"0.01 N/depth_1": 1, "He/depth_1": -1}, above=-0.03),
            Contrast("10 layers: 0.01 N is near chance", {"0.01 N/depth_10": -1}, above=-0.2, trials=270),
            Contrast("10 layers: He is right in 3 of 4", {"He/depth_10": 1}, above=0.75),
            Contrast(
                "20 layers: Xavier is below He by 5 points", {"He/depth_20": 1, "Xavier/depth_20": -1}, above=0.05
            ),
        ),
        draw=draw,
        seeds=5,
    )
)
