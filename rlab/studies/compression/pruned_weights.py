"""Pruning in one step and in several, and units that can go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """A network of two hidden layers that is trained, pruned by magnitude, and trained on, as long in every variant."""

    data: str = "mnist"
    """`digits` needs no files."""
    train: int = 20_000
    """Training examples; 0: all."""
    test: int = 10_000
    """Test examples; 0: all."""
    hidden: int = 256
    updates: int = 2_000
    """Before pruning, and again after it, shared by all rounds."""
    shares: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95, 0.98)
    """Of the weights that go."""
    rounds: int = 5


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test accuracy in %: dense, trained as long; and by the share that was pruned, at once or in rounds."""
    import copy

    import torch

    from rlab.compress.prune import apply_masks, magnitude_masks, prunable
    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples(settings.data, seed, settings.train, settings.test)
    start = network((data.x[0].numel(), settings.hidden, settings.hidden, 10), seed=seed)

    def train(model: torch.nn.Module, steps: int, masks: dict[str, torch.Tensor]) -> None:
        optimiser = torch.optim.Adam(model.parameters(), 1e-3)
        keep = lambda step: apply_masks(model, masks)  # noqa: E731
        fit(model, data.x, data.y, optimiser, steps=steps, batch_size=64, seed=seed, after=keep)

    def score(model: torch.nn.Module) -> float:
        return 100 * accuracy(model, data.x_test, data.y_test)

    train(start, settings.updates, {})
    dense = copy.deepcopy(start)
    train(dense, settings.updates, {})
    by_share = []
    for share in settings.shares:
        model = copy.deepcopy(start)
        rounds = settings.rounds if variant == "rounds" else 1
        for number in range(1, rounds + 1):
            masks = magnitude_masks(prunable(model), 1 - (1 - share) ** (number / rounds))
            apply_masks(model, masks)
            if variant != "untrained":
                train(model, settings.updates // rounds, masks)
        by_share.append(score(model))
    return {
        "dense": score(dense),
        "least": by_share[0],
        "most": by_share[-1],
        "accuracies": by_share,
        "shares": [100 * share for share in settings.shares],
    }


def draw(figure: Any, results: Results) -> None:
    """Accuracy by the share of weights that are 0."""
    axes = figure.subplots()
    shares = results["once"][0]["shares"]
    named = {"untrained": "not trained again", "once": "in one step, trained on", "rounds": "in rounds, trained on"}
    shown = {named[name]: column(seeds, "accuracies") for name, seeds in results.items()}
    curves(axes, shares, shown, ("weights that are 0, in %", "test accuracy in %"))


STUDIES.register("pruned-weights")(
    Study(
        claim="Half of the weights can be set to 0 without loss if training goes on, and of very many more is kept in "
        "rounds of pruning and training than by one step.",
        claim_ja="学習を続ければ、重みの半分を 0 にしても精度は下がらない。ごく多くの重みを枝刈りするときは、"
        "一度に行うよりも、枝刈りと学習を繰り返すほうが精度を保てる。",
        source="items 288, 289; Han et al. 2015, section 4",
        settings=Settings(),
        smoke={
            "data": "digits",
            "train": 150,
            "test": 100,
            "hidden": 32,
            "updates": 10,
            "shares": (0.5, 0.9),
            "rounds": 2,
        },
        small={"data": "digits", "train": 0, "test": 0, "hidden": 128, "updates": 600},
        small_seeds=5,
        variants={"untrained": "untrained", "once": "once", "rounds": "rounds"},
        measure=measure,
        contrasts=(
            Contrast(
                "without half of the weights it loses less than half a point",
                {"once/least": 1, "once/dense": -1},
                above=-0.5,
            ),
            Contrast(
                "with most weights gone training on saves more than a point",
                {"once/most": 1, "untrained/most": -1},
                above=1.0,
            ),
            Contrast("rounds keep more than one step", {"rounds/most": 1, "once/most": -1}),
        ),
        draw=draw,
        seeds=5,
    )
)
