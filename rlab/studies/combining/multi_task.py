"""One trunk for two tasks: a related one with many examples, and one that has nothing to teach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Which of ten digits of 8x8 pixels it is, from few examples; another task has others, and many of them.

    The labels of related tasks, whether the digit is even and whether it is 5 or more, do not give the digit away.
    """

    few: int = 100
    """Examples of the task that is judged."""
    many: int = 600
    """Examples of the other task. All that is left is tested on."""
    hidden: int = 64
    """Units of each of two shared layers."""
    updates: int = 2_000
    """Of the first task's loss, plus the other's."""
    batch_size: int = 25
    """Examples of each task in an update, about."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The first task's test error in %."""
    import torch
    from torch import Tensor
    from torch.nn.functional import cross_entropy

    from rlab.seeding import derive
    from rlab.studies.supervised import fit, network, parts

    (x, y), (x_many, y_many), (x_test, y_test) = parts("digits", seed, settings.few, settings.many, 0)
    generator = torch.Generator().manual_seed(derive(seed, "labels"))
    even, half = y_many % 2, (y_many >= 5).long()
    drawn = torch.randint(4, y_many.shape, generator=generator)
    other = {"even": even, "even, half": 2 * even + half, "random": drawn}.get(variant)
    times = settings.many // settings.few
    pooled, targets = x.repeat(times, 1, 1, 1), torch.stack([y, torch.full_like(y, -1)], 1).repeat(times, 1)
    if other is not None:
        pooled = torch.cat([pooled, x_many])
        targets = torch.cat([targets, torch.stack([torch.full_like(other, -1), other], 1)])

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        first, second = (targets[:, task] >= 0 for task in (0, 1))
        total = cross_entropy(outputs[first, :10], targets[first, 0])
        return total + cross_entropy(outputs[second, 10:], targets[second, 1]) if second.any() else total

    model = network([64, settings.hidden, settings.hidden, 10 + 4], seed=seed)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    size = settings.batch_size * (1 if other is None else 2)
    fit(model, pooled, targets, optimiser, loss=loss, steps=settings.updates, batch_size=size, seed=seed)
    with torch.no_grad():
        right = (model(x_test)[:, :10].argmax(1) == y_test).float().mean()
    return {"error": 100 * (1 - float(right))}


def draw(figure: Any, results: Results) -> None:
    """Test errors."""
    axes = figure.subplots()
    dots(axes, columns(results, "error"), "which digit: test error in %")
    axes.set_xlabel("the task that shares the trunk", fontsize=9)


STUDIES.register("multi-task")(
    Study(
        claim="A task with few examples errs less if it shares a trunk with a related task that has many, and less "
        "still with two; a task of random labels, from the same images, does not do as much.",
        claim_ja="データの少ないタスクは、データの多い関連タスクと共有層を持つと誤りが減り、"
        "関連タスクが二つならさらに減る。同じ画像でも、ラベルがランダムなタスクでは、それほどの効果はない。",
        source="item 149; Caruana 1997",
        settings=Settings(),
        smoke={"updates": 15},
        small={"updates": 400},
        small_seeds=8,
        variants={name: name for name in ("alone", "even", "even, half", "random")},
        measure=measure,
        contrasts=(
            Contrast("with even or odd it errs less than alone", {"alone/error": 1, "even/error": -1}),
            Contrast("and less than with random labels", {"random/error": 1, "even/error": -1}),
            Contrast("with 5 or more, too, less still", {"even/error": 1, "even, half/error": -1}),
        ),
        draw=draw,
        seeds=12,
    )
)
