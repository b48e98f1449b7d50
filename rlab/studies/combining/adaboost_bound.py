"""AdaBoost of stumps in fifteen lines, its bound, and bags of the same stumps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Whether a digit of 8x8 pixels is even."""

    train: int = 600
    """Training examples; all others are tested on."""
    rounds: int = 200
    """Learners in sequence; as many in a bag."""


class Boosted(NamedTuple):
    """What AdaBoost comes to.

    Attributes:
        stumps: the T learners.
        importances: alpha [T].
        errors: epsilon [T], of each learner by the weights of its round.
        after: the same by the weights of the next round.
    """

    stumps: list[Any]
    importances: np.ndarray
    errors: np.ndarray
    after: np.ndarray


def boost(x: np.ndarray, y: np.ndarray, rounds: int) -> Boosted:
    """AdaBoost (Freund & Schapire 1997) of decision stumps, x[N, D], y[N] of +-1.

    It ends early with a learner that has no errors, or is no better than chance.
    """
    from sklearn.tree import DecisionTreeClassifier

    weights = np.full(len(y), 1 / len(y))
    stumps, importances, errors, after = [], [], [], []
    for _ in range(rounds):
        stump = DecisionTreeClassifier(max_depth=1, random_state=0).fit(x, y, weights)
        wrong = stump.predict(x) != y
        error = weights[wrong].sum()
        if not 0 < error < 0.5:
            break
        importance = np.log((1 - error) / error) / 2
        weights = weights * np.exp(np.where(wrong, importance, -importance))
        weights /= weights.sum()
        stumps.append(stump)
        importances.append(importance)
        errors.append(error)
        after.append(weights[wrong].sum())
    return Boosted(stumps, np.array(importances), np.array(errors), np.array(after))


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test errors in % of one stump and of all; of AdaBoost the training error against its bound, too."""
    from rlab.seeding import derive
    from rlab.studies.supervised import parts

    sets = parts("digits", seed, settings.train, 0)
    (x, y), (x_test, y_test) = ((x.flatten(1).numpy(), np.where(y % 2 == 0, 1, -1)) for x, y in sets)
    if variant == "gradient":
        from sklearn.ensemble import GradientBoostingClassifier

        plan = {"n_estimators": settings.rounds, "max_depth": 1, "learning_rate": 0.5, "random_state": 0}
        model = GradientBoostingClassifier(**plan)
        way = [100 * (predicted != y_test).mean() for predicted in model.fit(x, y).staged_predict(x_test)]
        return {"error": way[-1], "test": np.round(way, 3)}
    if variant == "bag":
        from sklearn.tree import DecisionTreeClassifier

        generator = np.random.default_rng(derive(seed, "bag"))
        samples = generator.integers(len(y), size=(settings.rounds, len(y)))
        votes = np.array(
            [DecisionTreeClassifier(max_depth=1, random_state=0).fit(x[s], y[s]).predict(x_test) for s in samples]
        )
        way = 100 * (np.where(votes.cumsum(0) >= 0, 1, -1) != y_test).mean(1)
        return {"error": way[-1], "test": np.round(way, 3)}
    ensemble = boost(x, y, settings.rounds)
    votes, votes_test = (
        (ensemble.importances[:, None] * [stump.predict(part) for stump in ensemble.stumps]).cumsum(0)
        for part in (x, x_test)
    )
    training = 100 * (votes * y <= 0).mean(1)
    bound = 100 * np.cumprod(2 * np.sqrt(ensemble.errors * (1 - ensemble.errors)))
    test = 100 * (votes_test * y_test <= 0).mean(1)
    return {
        "slack": (bound - training).min(),
        "half_off": 100 * abs(ensemble.after - 0.5).max(),
        "first": test[0],
        "error": test[-1],
        "test": np.round(test, 3),
        "training": np.round(training, 3),
        "bound": np.round(bound, 3),
    }


def draw(figure: Any, results: Results) -> None:
    """Errors over the rounds."""
    left, right = figure.subplots(1, 2, sharey=True)
    seeds = results["adaboost"]
    rounds = min(len(numbers["test"]) for numbers in seeds)
    x = np.arange(1, rounds + 1)
    shown = {name: [way[:rounds] for way in column(seeds, name)] for name in ("bound", "training")}
    curves(left, x, shown, ("round", "error in %"))
    ways = {name: [way[:rounds] for way in column(s, "test")] for name, s in results.items()}
    curves(right, x, ways, ("round", "test error in %"))
    left.set(xscale="log", ylim=(0, 100))
    right.set(xscale="log")


STUDIES.register("adaboost-bound")(
    Study(
        claim="AdaBoost makes a strong learner of weak ones: its training error stays below the product of "
        "2 sqrt(e (1 - e)) over its rounds, and it errs far less on new examples than a bag of such learners.",
        claim_ja="AdaBoost は、弱学習器から強い学習器を作る。訓練誤差は、各ラウンドの 2√(ε(1 − ε)) の積より小さい。"
        "未知のデータでの誤りも、同じ弱学習器のバギングよりはるかに少ない。",
        correction="The text lets each learner use the earlier ones' data again. Every round has all of the data: what "
        "changes are their weights, which rise where the last learner was wrong.",
        correction_ja="教材は、前の学習器のデータを再利用するとする。どのラウンドでも、すべてのデータを使う。"
        "変わるのはデータの重みで、直前の学習器が誤ったデータほど大きくなる。",
        source="item 147; Freund & Schapire 1997, theorem 6; Friedman 2001 (gradient boosting)",
        settings=Settings(),
        smoke={"train": 100, "rounds": 8},
        small={"train": 400, "rounds": 80},
        small_seeds=5,
        variants={"adaboost": "adaboost", "bag": "bag", "gradient": "gradient"},
        measure=measure,
        contrasts=(
            Contrast("the bound holds in every round (points)", {"adaboost/slack": 1}, above=-1e-6),
            Contrast(
                "by its new weights the last learner is no better than chance (points)",
                {"adaboost/half_off": -1},
                above=-1e-6,
            ),
            Contrast("all err less than the first stump (points)", {"adaboost/first": 1, "adaboost/error": -1}),
            Contrast("less than a bag of stumps (points)", {"bag/error": 1, "adaboost/error": -1}),
            Contrast("gradient boosting, too (points)", {"bag/error": 1, "gradient/error": -1}),
        ),
        draw=draw,
        seeds=10,
    )
)
