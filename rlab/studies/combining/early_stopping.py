"""Where to stop: training and validation losses of a network that over-fits, and rules that look at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

PERIODS = (1, 2, 5, 10)
PATIENCES = (1, 2, 5, 10)


@dataclass(frozen=True)
class Settings:
    """Digits of 8x8 pixels, some with a wrong label, and a network that can learn them by heart."""

    train: int = 300
    validation: int = 300
    """Examples; all others are tested on, with right labels."""
    wrong: float = 0.2
    """Share of the labels of training and validation that are drawn anew."""
    hidden: int = 256
    updates: int = 2_000
    batch_size: int = 25
    look_every: int = 10
    """Updates from one look to the next: the shortest period."""
    learning_rate: float = 0.01
    """Of SGD with a momentum of 0.9."""


def stop(errors: Sequence[float], period: int, patience: int) -> tuple[int, int]:
    """Early stopping (Goodfellow et al. 2016, algorithm 7.1): where it stops, and where the best parameters are.

    Args:
        errors: by look, from the first.
        period: looks from one check to the next.
        patience: checks in a row without a new best that end training.
    """
    best = waited = 0
    for at in range(0, len(errors), period):
        best, waited = (at, 0) if at == 0 or errors[at] < errors[best] else (best, waited + 1)
        if waited == patience:
            return at, best
    return len(errors) - 1, best


def curves_of(settings: Settings, seed: int) -> np.ndarray:
    """Training loss, validation loss and test error in % at every look, [3, looks]."""
    import torch
    from torch.nn.functional import cross_entropy

    from rlab.studies.supervised import accuracy, fit, mislabelled, network, parts

    train, validation, test = parts("digits", seed, settings.train, settings.validation, 0)
    (x, y), (x_held, y_held) = train, validation
    train, validation = (x, mislabelled(y, settings.wrong, seed)), (x_held, mislabelled(y_held, settings.wrong, seed))
    model = network([64, settings.hidden, settings.hidden, 10], seed=seed)
    optimiser = torch.optim.SGD(model.parameters(), lr=settings.learning_rate, momentum=0.9)

    def look() -> list[float]:
        losses = [float(cross_entropy(model(x), y)) for x, y in (train, validation)]
        return [*losses, 100 * (1 - accuracy(model, *test))]

    points = settings.updates // settings.look_every
    plan: dict[str, Any] = {
        "steps": settings.updates,
        "batch_size": settings.batch_size,
        "seed": seed,
        "points": points,
    }
    return np.array(fit(model, *train, optimiser, look=look, **plan)).T


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Losses at the turn and at the end, and test errors in % of what each rule leads to."""
    training, validation, test = curves_of(settings, seed)
    turn = int(validation.argmin())
    stops = [[stop(validation, period, patience) for patience in PATIENCES] for period in PERIODS]
    at, kept = stop(validation, 1, 10)
    return {
        "training_falls": training[turn] - training[-1],
        "validation_rises": validation[-1] - validation[turn],
        "kept": test[kept],
        "stopped": test[at],
        "hasty": test[stop(validation, 1, 1)[1]],
        "by_training": test[stop(training, 1, 10)[0]],
        "curves": [np.round(training, 4), np.round(validation, 4)],
        "errors": [[test[best] for _, best in row] for row in stops],
        "costs": [[(at + 1) * settings.look_every for at, _ in row] for row in stops],
    }


def draw(figure: Any, results: Results) -> None:
    """The losses, and what period and patience come to."""
    seeds = results["network"]
    left, right = figure.subplots(1, 2)
    both = np.array(column(seeds, "curves"))
    x = np.arange(1, both.shape[2] + 1) / both.shape[2]
    curves(left, x, {"training": both[:, 0], "validation": both[:, 1]}, ("part of the run", "loss in nats"))
    errors, costs = (np.mean(column(seeds, name), axis=0) for name in ("errors", "costs"))
    right.imshow(errors, cmap="YlOrRd", aspect="auto", alpha=0.6)
    for i, j in np.ndindex(errors.shape):
        right.text(j, i, f"{errors[i, j]:.1f} %\n{costs[i, j]:.0f}", ha="center", va="center", fontsize=7)
    right.set_xticks(range(len(PATIENCES)), [str(p) for p in PATIENCES], fontsize=8)
    right.set_yticks(range(len(PERIODS)), [str(p) for p in PERIODS], fontsize=8)
    right.set_xlabel("patience (checks)", fontsize=9)
    right.set_ylabel("period (looks)", fontsize=9)
    right.set_title("test error, updates", fontsize=9)


STUDIES.register("early-stopping")(
    Study(
        claim="While the training loss of a big network falls on, its validation loss turns and rises: stopping some "
        "checks after the turn, with the parameters of the turn, lowers the test error.",
        claim_ja="大きなネットワークでは、訓練損失が下がり続ける間に、検証損失は上昇に転じる。"
        "転じてから数回の評価の後に止め、転じた時点のパラメータを使うと、テスト誤差が下がる。",
        correction="One slide stops when the training error begins to rise. It is the validation error that is meant: "
        "the training error of a network that over-fits need not rise. And what is adopted are the "
        "parameters of the turn, which are no hyper-parameters.",
        correction_ja="教材のスライドは、訓練誤差が上がり始めたら止めるとする。見るべきは検証誤差で、"
        "過学習するネットワークでも訓練誤差が上がるとは限らない。また、採用するのは転じた時点のパラメータで、"
        "ハイパーパラメータではない。",
        source="items 138, 139, 140; Prechelt 1998; Goodfellow et al. 2016, section 7.8",
        settings=Settings(),
        smoke={"updates": 40, "hidden": 64},
        small={"updates": 1_000, "hidden": 128},
        small_seeds=10,
        variants={"network": "network"},
        measure=measure,
        contrasts=(
            Contrast("the training loss falls on after the turn (nats)", {"network/training_falls": 1}),
            Contrast("the validation loss rises after it (nats)", {"network/validation_rises": 1}),
            Contrast(
                "the turn errs less than where the training loss stops to fall (points)",
                {"network/by_training": 1, "network/kept": -1},
            ),
            Contrast("and less than where training stops", {"network/stopped": 1, "network/kept": -1}),
            Contrast("a patience of 1 errs more than of 10", {"network/hasty": 1, "network/kept": -1}),
        ),
        draw=draw,
        seeds=20,
    )
)
