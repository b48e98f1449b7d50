"""A small network that learns from a large one's answers, some of them about a class that it never sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """A large network learns from many examples; a small one from few of them, or from all but those of one class."""

    data: str = "mnist"
    """`digits` needs no files."""
    train: int = 20_000
    """Training examples of the teacher; 0: all."""
    test: int = 10_000
    """Test examples; 0: all."""
    taught: int = 200
    """Of the teacher's examples, those that most students see."""
    hidden: int = 512
    """Units of each of the teacher's two hidden layers."""
    units: int = 24
    """Of the student's one."""
    updates: int = 4_000
    """Of the teacher, of 64 examples, and of a student, of 50."""
    omitted: int = 3
    """The class whose examples some students never see."""
    share: float = 0.9
    """Of the teacher in a student's loss; the labels have the rest."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test accuracy of teacher and student in %, and the share of the omitted class that is recognised."""
    import torch
    from torch.nn.functional import cross_entropy, mse_loss

    from rlab.nn.losses import distillation
    from rlab.seeding import derive
    from rlab.studies.supervised import accuracy, examples, fit, network

    how = {"temperature": 0.0, "all": False, "omits": False, "features": 0.0, "share": settings.share} | variant
    data = examples(settings.data, seed, settings.train, settings.test)
    inputs, classes = data.x[0].numel(), 10
    teacher = network((inputs, settings.hidden, settings.hidden, classes), seed=seed)
    student = network((inputs, settings.units, classes), seed=derive(seed, "student"))
    fit(
        teacher,
        data.x,
        data.y,
        torch.optim.Adam(teacher.parameters(), 1e-3),
        steps=settings.updates,
        batch_size=64,
        seed=seed,
    )
    chosen = torch.arange(len(data.y) if how["all"] or how["omits"] else settings.taught)
    chosen = chosen[data.y[chosen] != settings.omitted] if how["omits"] else chosen
    x, y = data.x[chosen], data.y[chosen]
    body, last = student[:-1], student[-1]
    hint = torch.nn.Linear(settings.units, settings.hidden)
    with torch.no_grad():
        hint.weight.normal_(0, settings.units**-0.5, generator=torch.Generator().manual_seed(derive(seed, "hint")))
        hint.bias.zero_()
        opinions, wanted = teacher(x), teacher[:-1](x)
    targets = torch.cat([y[:, None].float(), opinions, wanted], 1)

    def loss(features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits, labels = last(features), targets[:, 0].long()
        total = cross_entropy(logits, labels)
        if how["temperature"]:
            soft = distillation(logits, targets[:, 1 : 1 + classes], how["temperature"])
            total = (1 - how["share"]) * total + how["share"] * soft
        if how["features"]:
            total = total + how["features"] * mse_loss(hint(features), targets[:, 1 + classes :])
        return total

    learned = [*student.parameters(), *hint.parameters()]
    adam = torch.optim.Adam(learned, 5e-3)
    fit(body, x, targets, adam, steps=settings.updates, batch_size=50, seed=derive(seed, "student"), loss=loss)
    of_class = data.y_test == settings.omitted
    return {
        "teacher": 100 * accuracy(teacher, data.x_test, data.y_test),
        "student": 100 * accuracy(student, data.x_test, data.y_test),
        "omitted": 100 * accuracy(student, data.x_test[of_class], data.y_test[of_class]),
    }


def draw(figure: Any, results: Results) -> None:
    """The teacher and its students; and how many images of the class that some never saw are recognised."""
    axes = figure.subplots(1, 2)
    whole = {name: column(seeds, "student") for name, seeds in results.items() if not name.startswith("omitted")}
    dots(axes[0], {"teacher": column(results["labels"], "teacher")} | whole, "test accuracy in %")
    axes[0].tick_params(axis="x", labelsize=6, rotation=45)
    omitting = {name: column(seeds, "omitted") for name, seeds in results.items() if name.startswith("omitted")}
    dots(axes[1], omitting, "of the omitted class recognised, in %")
    axes[1].tick_params(axis="x", labelsize=6, rotation=45)


STUDIES.register("distillation")(
    Study(
        claim="From few examples a small network learns more with a large one's softened probabilities beside the "
        "labels than from the labels alone, and it recognises most images of a class of which it saw no example.",
        claim_ja="データが少ないとき、小さなネットワークは、ラベルに加えて大きなネットワークの温度付きの確率（ソフト"
        "ターゲット）からも学習すると、ラベルだけの場合より多くを学ぶ。一度も見ていないクラスの画像も、"
        "大半を認識する。",
        correction="The text says that a student is worse than its teacher; how much depends on what it learns from.",
        correction_ja="教材は、生徒モデルは教師モデルより精度が低いとする。どれだけ低いかは、何から学習するかによる。",
        source="item 287; Hinton et al. 2015, sections 3 and 6; Romero et al. 2015",
        settings=Settings(),
        smoke={"data": "digits", "train": 150, "test": 100, "taught": 60, "hidden": 32, "units": 8, "updates": 10},
        small={"data": "digits", "train": 0, "test": 0, "taught": 80, "hidden": 128, "units": 16, "updates": 700},
        small_seeds=5,
        variants={
            "labels": {},
            "T = 1": {"temperature": 1.0},
            "T = 4": {"temperature": 4.0},
            "T = 20": {"temperature": 20.0},
            "T = 4, share 0.5": {"temperature": 4.0, "share": 0.5},
            "T = 4, features": {"temperature": 4.0, "features": 0.1},
            "all, labels": {"all": True},
            "all, T = 4": {"all": True, "temperature": 4.0},
            "omitted, labels": {"omits": True},
            "omitted, T = 4": {"omits": True, "temperature": 4.0, "share": 1.0},
        },
        measure=measure,
        contrasts=(
            Contrast("soft targets teach more than labels (points)", {"T = 4/student": 1, "labels/student": -1}, 1.0),
            Contrast("most of the omitted class is recognised (%)", {"omitted, T = 4/omitted": 1}, 50.0),
            Contrast(
                "of which by labels none is (points)",
                {"omitted, T = 4/omitted": 1, "omitted, labels/omitted": -1},
                50.0,
            ),
        ),
        draw=draw,
        seeds=5,
    )
)
