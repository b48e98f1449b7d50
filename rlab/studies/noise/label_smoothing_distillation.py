"""Teachers of smoothed targets: as good themselves, but what do their students learn?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import column, columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """A student with few units learns from few examples, each with the teacher's opinion on all classes."""

    data: str = "mnist"
    train: int = 10_000
    """Of the teacher."""
    test: int = 5_000
    taught: int = 300
    """Of the teacher's examples, those that the student sees."""
    hidden: int = 256
    units: int = 16
    """Hidden ones of the student."""
    steps: int = 4_000
    """Updates of 50 examples, of either."""
    temperature: float = 4.0


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Accuracies (%) of teacher and student; how far the teacher's logits vary within a class."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.optim import Adam

    from rlab.nn.losses import distillation, smooth_targets
    from rlab.seeding import derive
    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples(settings.data, seed, settings.train, settings.test)
    inputs = data.x[0].numel()
    teacher = network((inputs, settings.hidden, 10), seed=seed)
    student = network((inputs, settings.units, 10), seed=derive(seed, "student"))
    fit(
        teacher,
        data.x,
        data.y,
        Adam(teacher.parameters(), 2e-3),
        steps=settings.steps,
        batch_size=50,
        seed=seed,
        loss=lambda out, y: cross_entropy(out, smooth_targets(y, 10, variant)),
    )
    with torch.no_grad():
        opinions = teacher(data.x)
        opinions -= opinions.mean(1, keepdim=True)  # which changes no probability
        spread = torch.stack([opinions[data.y == k].var(0).sum() for k in range(10)]).mean().sqrt()
        middles = torch.stack([opinions[data.y == k].mean(0) for k in range(10)])
        apart = torch.pdist(middles).mean()
    fit(
        student,
        data.x[: settings.taught],
        opinions[: settings.taught],
        Adam(student.parameters(), 5e-3),
        steps=settings.steps,
        batch_size=50,
        seed=derive(seed, "student"),
        loss=lambda out, targets: distillation(out, targets, settings.temperature),
    )
    return {
        "teacher": 100 * accuracy(teacher, data.x_test, data.y_test),
        "student": 100 * accuracy(student, data.x_test, data.y_test),
        "spread": float(spread / apart),
    }


def draw(figure: Any, results: Results) -> None:
    """Teachers, students, and the spread that students could learn from."""
    axes = figure.subplots(1, 2)
    dots(
        axes[0],
        {f"{who}:\n{name}": column(seeds, who) for who in ("teacher", "student") for name, seeds in results.items()},
        "test accuracy (%)",
    )
    axes[0].tick_params(axis="x", labelsize=7)
    spreads = columns(results, "spread")
    dots(axes[1], spreads, "spread of a class's logits / way between classes")


STUDIES.register("label-smoothing-distillation")(
    Study(
        claim="A teacher trained with smoothed targets is as good as one with hard targets, but its students are "
        "worse: smoothing wipes out what tells the examples of a class apart.",
        claim_ja="ラベル平滑化で学習した教師モデルの精度は、通常の教師モデルと同じくらいだが、"
        "それを蒸留した生徒モデルの精度は低い。平滑化は、同じクラスのデータどうしの違いを消してしまうからである。",
        correction="The text names only the merits of smoothing.",
        correction_ja="教材は、ラベル平滑化の利点だけを挙げている。",
        source="item 128; Müller et al. 2019, section 4",
        settings=Settings(),
        smoke={"data": "digits", "train": 200, "taught": 60, "hidden": 16, "units": 4, "steps": 20},
        small={"data": "digits", "train": 1_000, "taught": 80, "hidden": 64, "units": 8, "steps": 500},
        small_seeds=8,
        variants={"hard": 0.0, "smoothed": 0.2},
        measure=measure,
        contrasts=(
            Contrast("a smoothed teacher is at most a point worse", {"smoothed/teacher": 1, "hard/teacher": -1}, -1.0),
            Contrast("its students are worse (points)", {"hard/student": 1, "smoothed/student": -1}),
            Contrast("its logits vary less within a class", {"hard/spread": 1, "smoothed/spread": -1}),
        ),
        draw=draw,
        seeds=6,
    )
)
