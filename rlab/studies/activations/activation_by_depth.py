"""Sigmoid, tanh and ReLU in shallow and in deep nets, each with the rate that suits it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

DEPTHS = (1, 4, 10)
"""Hidden layers."""

INIT = {"sigmoid": "xavier-normal", "tanh": "xavier-normal", "relu": "he-normal"}
"""As the texts have it."""


@dataclass(frozen=True)
class Settings:
    """The same budget for all."""

    data: str = "fashion_mnist"
    """Data set."""
    train: int = 10_000
    """Training examples; 0: all."""
    test: int = 5_000
    """Test examples; 0: all."""
    width: int = 128
    """Units of each hidden layer."""
    steps: int = 1_200
    """Updates of 64 examples, by SGD with momentum."""
    rates: tuple[float, ...] = (0.1, 0.03, 0.01, 0.003)
    """Learning rates; the one with the best training accuracy counts."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test accuracy by depth, at the rate with the best training accuracy."""
    from rlab.studies.supervised import accuracy_by_depth, examples

    activation = variant["activation"]
    data = examples(settings.data, seed, settings.train, settings.test, preprocess="standard")
    accuracies = accuracy_by_depth(
        data, settings.width, DEPTHS, activation, INIT[activation], settings.rates, settings.steps, seed
    )
    return {"curve": accuracies, "shallow": accuracies[0], "middle": accuracies[1], "deep": accuracies[2]}


def draw(figure: Any, results: Results) -> None:
    """Accuracy over depth."""
    ways = columns(results, "curve", 100)
    curves(figure.subplots(), DEPTHS, ways, ("hidden layers", "test accuracy, best rate (%)"))


STUDIES.register("activation-by-depth")(
    Study(
        claim="In deep nets tanh and ReLU in place of sigmoids raise accuracy dramatically; in nets of one hidden "
        "layer they do not, and between the two of them little is left.",
        claim_ja="深いネットワークでは、シグモイド関数を tanh や ReLU に替えると、正解率が劇的に上がる。"
        "隠れ層が一つのネットワークでは上がらず、tanh と ReLU の間にも大きな差はない。",
        correction="The text says that ReLU improved dramatically on the functions before it. It does on sigmoids in "
        "deep nets. Against tanh with Xavier's weights and a rate of its own the step is small at ten layers.",
        correction_ja="教材は、ReLU がそれまでの関数より精度を劇的に高めたとする。"
        "深いネットワークのシグモイド関数に対しては、そのとおりである。しかし、"
        "Xavier の初期値と適切な学習率を使った tanh に対しては、10 層でも差は小さい。",
        source="items 048, 050, 052, 054; Glorot et al. 2011; Krizhevsky et al. 2012, section 3.1",
        settings=Settings(),
        smoke={"data": "digits", "train": 100, "test": 50, "width": 8, "steps": 3, "rates": (0.03,)},
        small={"data": "digits", "train": 0, "test": 0, "width": 32, "steps": 200, "rates": (0.1, 0.02)},
        small_seeds=5,
        variants={name: {"activation": name} for name in INIT},
        measure=measure,
        contrasts=(
            Contrast("10 layers: tanh beats sigmoid by 30 points", {"tanh/deep": 1, "sigmoid/deep": -1}, above=0.3),
            Contrast("10 layers: ReLU is right in 3 of 4", {"relu/deep": 1}, above=0.75),
            Contrast("10 layers: ReLU is not 3 points above tanh", {"tanh/deep": 1, "relu/deep": -1}, above=-0.03),
            Contrast(
                "1 layer: ReLU is not 5 points above sigmoid", {"sigmoid/shallow": 1, "relu/shallow": -1}, above=-0.05
            ),
        ),
        draw=draw,
        seeds=5,
    )
)
