"""How a DropConnect network should answer: by its mean weights, by Gaussian moments, or by many masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """One layer drops its weights; the average of the answers over many masks is what is to be found."""

    data: str = "mnist"
    train: int = 1_000
    test: int = 1_000
    hidden: int = 256
    steps: int = 2_000
    """Updates of 50 examples."""
    masks: int = 2_000
    """For the average, half of them; the other half shows how well so many do."""
    samples: int = 200
    """Of the Gaussian."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Distance of each way's probabilities from the average (total variation, %), and accuracies (%).

    `variant` is the probability to drop a weight.
    """
    import torch
    from torch import Tensor, nn
    from torch.optim import Adam

    from rlab.nn.layers import DropConnectLinear, drawing_from
    from rlab.seeding import derive
    from rlab.studies.supervised import examples, fit, network

    data = examples(settings.data, seed, settings.train, settings.test)
    below = network((data.x[0].numel(), settings.hidden, settings.hidden), seed=seed)
    with drawing_from(torch.Generator().manual_seed(derive(seed, "layers"))):
        layer = DropConnectLinear(settings.hidden, settings.hidden, variant)
        above = nn.Sequential(nn.ReLU(), nn.Linear(settings.hidden, 10))
    model = nn.Sequential(below, nn.ReLU(), layer, above)
    fit(model, data.x, data.y, Adam(model.parameters(), 1e-3), steps=settings.steps, batch_size=50, seed=seed)

    def averaged(halves: int, draws: int, features: Any) -> list[Tensor]:
        """Probabilities [N, 10] averaged over draws of what goes into the last layers, in each half."""
        sums = [sum(above(features()).softmax(1) for _ in range(draws // halves)) for _ in range(halves)]
        return [one / (draws // halves) for one in sums]

    with torch.no_grad(), drawing_from(torch.Generator().manual_seed(derive(seed, "masks"))):
        x = torch.relu(below(data.x_test))
        mean, variance = layer.moments(x)
        ways = {"mean weights": above(mean).softmax(1)}
        (ways["moments"],) = averaged(1, settings.samples, lambda: mean + variance.sqrt() * torch.randn_like(mean))
        layer.train()
        average, ways["masks"] = averaged(2, settings.masks, lambda: layer(x))
    apart = {name: float(100 * (way - average).abs().sum(1).mean() / 2) for name, way in ways.items()}
    right = {name: float(100 * (way.argmax(1) == data.y_test).float().mean()) for name, way in ways.items()}
    return {
        **{f"apart {name}": value for name, value in apart.items()},
        **{f"accuracy {name}": value for name, value in right.items()},
    }


def draw(figure: Any, results: Results) -> None:
    """Distances from the average, and accuracies, where half of the weights are dropped."""
    axes = figure.subplots(1, 2)
    for panel, kind, label in (
        (axes[0], "apart", "distance from the average (%)"),
        (axes[1], "accuracy", "test accuracy (%)"),
    ):
        names = ("mean weights", "moments", "masks")
        accuracies = {name.replace(" ", "\n"): column(results["half dropped"], f"{kind} {name}") for name in names}
        dots(panel, accuracies, label)
    axes[0].set_ylim(bottom=0)


STUDIES.register("dropconnect-inference")(
    Study(
        claim="Gaussian samples with the moments of DropConnect's sums answer more nearly as the average over masks "
        "does than its mean weights do, but classify no better by a point.",
        claim_ja="DropConnect の推論では、重み付き和の平均と分散に合わせたガウス分布からのサンプルのほうが、"
        "重みの平均を使うよりも、マスクについての平均の確率に近い。ただし、分類の正解率の差は 1 ポイントに満たない。",
        source="item 125; Wan et al. 2013, section 3.2",
        settings=Settings(),
        smoke={"data": "digits", "train": 60, "hidden": 16, "steps": 15, "masks": 8, "samples": 4},
        small={"data": "digits", "train": 300, "hidden": 64, "steps": 300, "masks": 400, "samples": 100},
        small_seeds=6,
        variants={"half dropped": 0.5, "a fifth dropped": 0.2},
        measure=measure,
        contrasts=(
            Contrast(
                "moments are nearer to the average over masks (% of probability)",
                {"half dropped/apart mean weights": 1, "half dropped/apart moments": -1},
            ),
            Contrast(
                "the more so, the more is dropped (% of probability)",
                {
                    "half dropped/apart mean weights": 1,
                    "half dropped/apart moments": -1,
                    "a fifth dropped/apart mean weights": -1,
                    "a fifth dropped/apart moments": 1,
                },
            ),
            Contrast(
                "they classify less than a point better",
                {"half dropped/accuracy mean weights": 1, "half dropped/accuracy moments": -1},
                -1.0,
            ),
        ),
        draw=draw,
        seeds=6,
    )
)
