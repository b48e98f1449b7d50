"""One trunk for two tasks: a related one with many examples, and one that has nothing to teach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Whether a digit of 8x8 pixels is even, from few examples; another task has others, and many of them."""

    few: int = 60
    """Examples of the task that is judged."""
    many: int = 600
    """Examples of the other task. All that is left is tested on."""
    hidden: int = 64
    """Units of each of two shared layers."""
    updates: int = 2_000
    """Each of a batch with about as many examples of either task."""
    batch_size: int = 50


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The first task's test error in %."""
    import torch
    from torch import Tensor
    from torch.nn.functional import cross_entropy

    from rlab.seeding import derive
    from rlab.studies.supervised import fit, network, parts

    (x, y), (x_many, y_many), (x_test, y_test) = parts("digits", seed, settings.few, settings.many, 0)
    generator = torch.Generator().manual_seed(derive(seed, "labels"))
    drawn = torch.randint(10, y_many.shape, generator=generator)
    other = {"digit": y_many, "half": (y_many >= 5).long(), "random": drawn}.get(variant)
    times = settings.many // settings.few
    pooled, none = x.repeat(times, 1, 1, 1), torch.full((times * len(y),), -1)
    targets = torch.stack([(y % 2).repeat(times), none], 1)
    if other is not None:
        pooled = torch.cat([pooled, x_many])
        targets = torch.cat([targets, torch.stack([torch.full_like(other, -1), other], 1)])

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        first, second = (targets[:, task] >= 0 for task in (0, 1))
        total = cross_entropy(outputs[first, :2], targets[first, 0])
        return total + cross_entropy(outputs[second, 2:], targets[second, 1]) if second.any() else total

    model = network([64, settings.hidden, settings.hidden, 2 + 10], seed=seed)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    plan: dict[str, Any] = {"steps": settings.updates, "batch_size": settings.batch_size, "seed": seed}
    fit(model, pooled, targets, optimiser, loss=loss, **plan)
    with torch.no_grad():
        right = (model(x_test)[:, :2].argmax(1) == y_test % 2).float().mean()
    return {"error": 100 * (1 - float(right))}


def draw(figure: Any, results: Results) -> None:
    """Test errors."""
    axes = figure.subplots()
    dots(axes, columns(results, "error"), "even or odd: test error in %")
    axes.set_xlabel("the task that shares the trunk", fontsize=9)


STUDIES.register("multi-task")(
    Study(
        claim="A task with few examples errs less if it shares a trunk with a related task that has many; sharing it "
        "with random labels makes it err more.",
        claim_ja="例の少ない課題は、例の多い関連課題と幹を共有すると誤りが減る。無関係な(ランダムなラベルの)課題と共有"
        "すると、逆に誤りが増える。",
        source="item 149; Caruana 1997",
        settings=Settings(),
        smoke={"updates": 15},
        small={"updates": 400},
        small_seeds=8,
        variants={"alone": "alone", "digit": "digit", "half": "half", "random": "random"},
        measure=measure,
        contrasts=(
            Contrast("with the digit's class it errs less than alone", {"alone/error": 1, "digit/error": -1}),
            Contrast("the class teaches more than 5 or more", {"half/error": 1, "digit/error": -1}),
            Contrast("with random labels it errs more than alone", {"random/error": 1, "alone/error": -1}),
        ),
        draw=draw,
        seeds=12,
    )
)
