"""Targets of 0 and 1 against smoothed ones: how weights and logits grow, and whether confidence is deserved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

POINTS = 10


@dataclass(frozen=True)
class Settings:
    """A network that can fit its few examples exactly, trained on long after it does."""

    data: str = "mnist"
    train: int = 500
    test: int = 5_000
    hidden: int = 256
    steps: int = 6_000
    """Updates of 50 examples."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Accuracy and calibration error (%) at the end; sizes of weights and logits over the training."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.optim import Adam

    from rlab.nn.losses import smooth_targets
    from rlab.nn.penalties import l2, weights_of
    from rlab.studies.supervised import examples, fit, network

    data = examples(settings.data, seed, settings.train, settings.test)
    model = network((data.x[0].numel(), settings.hidden, 10), seed=seed)

    def look() -> list[float]:
        """Norm of all weights, and by how much the largest logit lies above the mean of the ten."""
        logits = model(data.x)
        return [float((2 * l2(weights_of(model))).sqrt()), float((logits.amax(1) - logits.mean(1)).mean())]

    way = fit(
        model,
        data.x,
        data.y,
        Adam(model.parameters(), 2e-3),
        steps=settings.steps,
        batch_size=50,
        seed=seed,
        loss=lambda out, y: cross_entropy(out, smooth_targets(y, 10, variant["epsilon"], variant["over"])),
        look=look,
        points=POINTS,
    )
    norms, tops = (list(numbers) for numbers in zip(*way, strict=True))
    with torch.no_grad():
        confidence, predicted = model(data.x_test).softmax(1).max(1)
    right = (predicted == data.y_test).float()
    return {
        "accuracy": 100 * float(right.mean()),
        "confidence": 100 * float(confidence.mean()),
        "calibration": calibration(confidence.numpy(), right.numpy()),
        "norms": np.round(norms, 3),
        "tops": np.round(tops, 3),
        "norm": norms[-1],
        "norm_growth": norms[-1] - norms[POINTS // 2 - 1],
        "top_growth": tops[-1] - tops[POINTS // 2 - 1],
    }


def calibration(confidence: Any, right: Any, bins: int = 10) -> float:
    """Expected calibration error in percent: |accuracy - confidence| in each of equal bins, by their shares."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs((right - confidence)[place == k].sum()) for k in range(bins)]
    return float(100 * sum(gaps) / len(right))


def draw(figure: Any, results: Results) -> None:
    """Logits and weights over the training."""
    axes = figure.subplots(1, 2)
    parts = (np.arange(POINTS) + 1) / POINTS
    for panel, name, label in (
        (axes[0], "tops", "largest logit less the mean"),
        (axes[1], "norms", "norm of all weights"),
    ):
        ways = columns(results, name)
        curves(panel, parts, ways, ("part of the training", label))


def less(number: str, second: str = "smoothed") -> dict[str, float]:
    """Weights of: by how much it is smaller with smoothed targets."""
    return {f"hard/{number}": 1, f"{second}/{number}": -1}


STUDIES.register("label-smoothing-calibration")(
    Study(
        claim="With targets of 0 and 1 logits and weights keep growing after everything is fitted; smoothed targets "
        "bound the logits and keep the weights smaller, at no cost in accuracy; confidence ends below accuracy.",
        claim_ja="目標値が 0 と 1 だと、すべてのデータに適合した後も、ロジットと重みは大きくなり続ける。"
        "ラベル平滑化は、ロジットの増大を止め、重みを小さく保ち、精度は下げない。ただし、"
        "確信度は正解率より低くなる。",
        correction="The text speaks of values of the objective function: what is smoothed are the targets. Its 1 - e "
        "and e / (K - 1) are the usual 1 - e + e / K and e / K with another e. It promises that growth is prevented: "
        "that of the logits is, weights are only kept smaller. Less extreme is not better calibrated: smoothing helps "
        "where a network is overconfident, and makes too timid one that is not.",
        correction_ja="教材は目的関数の値と述べるが、平滑化されるのは目標値である。教材の 1 − ε と ε/(K − 1) は、"
        "ε を取り直せば、一般的な 1 − ε + ε/K と ε/K に一致する。教材は増大を防ぐとするが、"
        "ロジットの増大は止まっても、重みは小さく保たれるだけである。極端でない予測が、"
        "よくキャリブレーションされているとは限らない。平滑化は、過信するネットワークには有効だが、"
        "そうでないネットワークの確信度を低くしすぎる。",
        source="items 127-128; Szegedy et al. 2016, section 7; Guo et al. 2017",
        settings=Settings(),
        smoke={"data": "digits", "train": 60, "hidden": 16, "steps": 20},
        small={"data": "digits", "train": 100, "hidden": 64, "steps": 1_000},
        small_seeds=6,
        variants={
            "hard": {"epsilon": 0.0, "over": "all"},
            "smoothed": {"epsilon": 0.1, "over": "all"},
            "smoothed, as the text": {"epsilon": 0.1, "over": "others"},
        },
        measure=measure,
        contrasts=(
            Contrast("with hard targets logits still grow in the second half", {"hard/top_growth": 1}),
            Contrast(
                "and with smoothed ones less than a tenth as far", {"hard/top_growth": 0.1, "smoothed/top_growth": -1}
            ),
            Contrast("weights end smaller", less("norm")),
            Contrast("yet they grow on, too", {"smoothed/norm_growth": 1}),
            Contrast("accuracy falls by less than a point", {"smoothed/accuracy": 1, "hard/accuracy": -1}, -1.0),
            Contrast("predictions are less extreme: confidence is lower (points)", less("confidence")),
            Contrast("lower than accuracy (points)", {"smoothed/accuracy": 1, "smoothed/confidence": -1}),
        ),
        draw=draw,
        seeds=6,
    )
)
