"""Nine optimisers on five problems, each at its best rate: are the later ones better than momentum?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import column
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """The rate is chosen on one start (and one order of batches), the score comes from another."""

    steps: int = 400
    """Updates on every problem; rates fall to 0 in a straight line."""
    rates: int = 7
    """How many every optimiser tries, from 2 to 2e-3 of its own unit, evenly in their logarithms."""
    data: str = "mnist"
    """Pictures that the networks learn."""
    examples: int = 1_000
    """Of them."""


PROBLEMS = ("turned", "scaled", "rosenbrock", "shallow", "deep")
"""Valleys 1,000 times steeper in one direction than in another, turned at random or along the axes; Rosenbrock's
curved one; networks of one hidden layer (ReLU) and of five (tanh) on digits."""

STARTS = 5
"""In each valley; the mean over them counts."""

UNITS = {"sgd": 1.0, "momentum": 0.3, "nesterov": 0.3, "adadelta": 100.0}
"""Times this, as their rates are of another kind; 0.1 for the others, whose steps are about as long as the rate."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """By problem: powers of 10 by which the loss falls, and the best rate's; how much one rate for all loses."""
    from rlab.studies.supervised import examples

    numbers: dict[str, Any] = {}
    falls = []
    rates = UNITS.get(variant, 0.1) * np.geomspace(2, 2e-3, settings.rates)
    data = examples(settings.data, 0, settings.examples, preprocess="standard")
    for problem in PROBLEMS:
        run = _network(settings, problem, data) if problem in ("shallow", "deep") else _valley(settings, problem)
        tried = [run(variant, rate, derive(seed, "tune")) for rate in rates]
        best = int(np.argmax(tried))
        numbers[problem] = run(variant, rates[best], derive(seed, "score"))
        falls.append(tried)
    numbers["one_rate"] = float(np.mean(np.max(falls, axis=1)) - np.max(np.mean(falls, axis=0)))
    return {**numbers, "mean": float(np.mean([numbers[problem] for problem in PROBLEMS]))}


Run = Callable[[str, float, int], float]
"""(optimiser, rate, seed) -> powers of 10 by which the loss falls; 0 where it does not, 12 at most."""


def _fall(first: float, last: float) -> float:
    return float(np.clip(np.log10(first / max(last, 1e-300)), 0, 12)) if np.isfinite(last) else 0.0


def _valley(settings: Settings, problem: str) -> Run:
    import torch

    from rlab.studies.descent import spectrum, walk

    def run(name: str, rate: float, seed: int) -> float:
        rng = np.random.default_rng(seed)
        turn = torch.tensor(np.linalg.qr(rng.normal(size=(20, 20)))[0] if problem == "turned" else np.eye(20))
        curvatures = torch.tensor(spectrum(1_000, 20))

        def valley(x: torch.Tensor) -> torch.Tensor:
            if problem == "rosenbrock":
                return ((1 - x[:, 0]).square() + 100 * (x[:, 1] - x[:, 0].square()).square()) / 100
            return ((x @ turn).square() * curvatures / 2).sum(1)

        start = (
            rng.uniform([-1.5, 0.5], [-0.5, 1.5], (STARTS, 2))
            if problem == "rosenbrock"
            else rng.normal(size=(STARTS, 20))
        )
        path = torch.tensor(walk(valley, start, name, settings.steps, schedule=lambda part: 1 - part, lr=rate))
        falls = [_fall(*ends) for ends in zip(valley(path[0]).tolist(), valley(path[-1]).tolist(), strict=True)]
        return float(np.mean(falls))

    return run


def _network(settings: Settings, problem: str, data: Any) -> Run:
    from torch.nn.functional import cross_entropy

    from rlab.nn.optim import make_optimiser, scale_rates
    from rlab.studies.supervised import fit, network

    sizes, activation = ((32,), "relu") if problem == "shallow" else ((32,) * 5, "tanh")

    def run(name: str, rate: float, seed: int) -> float:
        model = network(
            (data.x[0].numel(), *sizes, 10),
            activation,
            seed=seed,
            init="xavier-normal" if problem == "deep" else "he-normal",
        )
        optimiser = make_optimiser(name, model.parameters(), lr=rate)
        first = float(cross_entropy(model(data.x), data.y).detach())
        last = fit(
            model,
            data.x,
            data.y,
            optimiser,
            steps=settings.steps,
            batch_size=32,
            seed=seed,
            after=lambda step: scale_rates(optimiser, 1 - step / settings.steps),
            look=lambda: float(cross_entropy(model(data.x), data.y)),
        )
        return _fall(first, last[-1])

    return run


def draw(figure: Any, results: Results) -> None:
    """Powers of 10 by problem and optimiser, as a table in colours."""
    axes = figure.subplots()
    table = np.array([[np.mean(column(seeds, problem)) for problem in PROBLEMS] for seeds in results.values()])
    axes.imshow(table / table.max(axis=0), cmap="Greens", aspect="auto", vmin=0, vmax=1.3)
    for (row, place), value in np.ndenumerate(table):
        axes.text(place, row, f"{value:.1f}", ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(PROBLEMS)), PROBLEMS, fontsize=8)
    axes.set_yticks(range(len(results)), list(results), fontsize=8)
    axes.set_title("powers of 10 by which the loss falls, each at its best rate", fontsize=9)


OPTIMISERS = ("sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "adamax", "nadam")

LATER = ("adagrad", "adadelta", "rmsprop", "adam")
"""What the text says is better than momentum."""


def on_networks(weights: dict[str, float]) -> dict[str, float]:
    """Weights of optimisers, of their mean over the two networks."""
    return {f"{name}/{net}": weight / 2 for name, weight in weights.items() for net in ("shallow", "deep")}


STUDIES.register("optimisers-tuned")(
    Study(
        claim="With its rate tuned as theirs momentum is not behind Adagrad, Adadelta, RMSprop and Adam on networks: "
        "it beats the first, and is near their mean; which of all is best depends on the problem.",
        claim_ja="学習率を同じように調整すれば、ニューラルネットワークでモーメンタムが AdaGrad、AdaDelta、RMSprop、"
        "Adam に劣るとは言えない。AdaGrad には勝ち、四つの平均にはほぼ並ぶ。どれが最良かは、問題による。",
        source="items 074-080; Choi et al. 2019; Schmidt, Schneider & Hennig 2021",
        correction="The text says that all later methods are more efficient than momentum. That holds of problems "
        "whose difficulty lies along coordinates, not in general.",
        correction_ja="教材は、後から出た手法はすべてモーメンタムより効率がよいとする。それが成り立つのは、"
        "難しさが座標軸に沿っている問題で、一般には成り立たない。",
        settings=Settings(),
        smoke={"data": "digits", "steps": 3, "rates": 2, "examples": 100},
        small={"data": "digits", "steps": 50, "rates": 4, "examples": 400},
        small_seeds=3,
        seeds=5,
        variants={name: name for name in OPTIMISERS},
        measure=measure,
        contrasts=(
            Contrast("networks: momentum beats gradient descent", on_networks({"momentum": 1, "sgd": -1})),
            *(
                contrast
                for net in ("shallow", "deep")
                for contrast in (
                    Contrast(f"a {net} network: momentum beats Adagrad", {f"momentum/{net}": 1, f"adagrad/{net}": -1}),
                    Contrast(
                        f"a {net} network: it is not behind the mean of the four by 0.1",
                        {f"momentum/{net}": 1, **{f"{name}/{net}": -0.25 for name in LATER}},
                        -0.1,
                    ),
                )
            ),
            Contrast("a valley along the axes: Adam beats momentum", {"adam/scaled": 1, "momentum/scaled": -1}),
            Contrast("the same valley turned: momentum beats Adam", {"momentum/turned": 1, "adam/turned": -1}),
        ),
        draw=draw,
    )
)
