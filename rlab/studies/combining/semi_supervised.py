"""Few labels and many images without: self-training and consistency, and what images of other classes do to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Handwritten digits 0 to 4; images without a label are of the same classes, or of 5 to 9."""

    data: str = "mnist"
    """`digits` needs no files."""
    a_class: int = 4
    """Labelled examples of each class."""
    unlabelled: int = 4_000
    """Examples of 0 to 9, of which one half of the classes is taken."""
    test: int = 6_000
    """Examples of 0 to 9, of which 0 to 4 are; 0: all others."""
    hidden: int = 128
    """Units of each of two hidden layers."""
    updates: int = 2_000
    """In all, for every method."""
    sure: float = 0.9
    """Probability from which self-training believes a label of its own."""
    weight: float = 3.0
    """Of the consistency loss, after it has risen over the first quarter."""
    noise: float = 0.2
    """Standard deviation of the noise that an image should look the same under; pixels are 0..1."""


def self_train(settings: Settings, model: Any, x: Any, y: Any, others: Any, train: Any) -> None:
    """Four rounds: learn, then believe what one is sure of (Lee 2013)."""
    import torch

    inputs, targets = x, y
    for _ in range(4):
        train(inputs, targets, settings.updates // 4)
        with torch.no_grad():
            sure, label = model(others).softmax(1).max(1)
        chosen = sure > settings.sure
        times = max(1, int(chosen.sum()) // len(x))  # as many labelled examples as others
        inputs = torch.cat([x.repeat(times, 1, 1, 1), others[chosen]])
        targets = torch.cat([y.repeat(times), label[chosen]])


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The test error in %."""
    import torch
    from torch import Tensor

    from rlab.seeding import derive
    from rlab.studies.supervised import accuracy, fit, network, parts

    (x, y), (x_rest, y_rest) = parts(settings.data, seed, settings.unlabelled, 0)
    first = torch.cat([(y_rest == k).nonzero()[: settings.a_class, 0] for k in range(5)])
    x_few, y_few = x_rest[first], y_rest[first]
    tested = (y_rest < 5).index_fill(0, first, False).nonzero()[:, 0][: settings.test // 2 or None]
    others = x[y >= 5] if variant["others"] == "other classes" else x[y < 5]
    model = network([x[0].numel(), settings.hidden, settings.hidden, 5], seed=seed)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    generator = torch.Generator().manual_seed(derive(seed, "others"))
    made = 0

    def noisy(x: Tensor) -> Tensor:
        return x + settings.noise * torch.randn(x.shape, generator=generator)

    def consistency() -> Tensor:
        nonlocal made
        made += 1
        part = others[torch.randint(len(others), (50,), generator=generator)]
        with torch.no_grad():
            probabilities = model(noisy(part)).softmax(1)
        apart = (model(noisy(part)).softmax(1) - probabilities).square().sum(1).mean()
        return settings.weight * min(1.0, 4 * made / settings.updates) * apart

    def train(x: Tensor, y: Tensor, updates: int) -> None:
        joint = variant["method"] == "consistency"
        batch = min(25, len(x))
        changes: Any = {"change": lambda x, y: (noisy(x), y)} | ({"penalty": consistency} if joint else {})
        fit(model, x, y, optimiser, steps=updates, batch_size=batch, seed=seed, **changes)

    if variant["method"] == "self-training":
        self_train(settings, model, x_few, y_few, others, train)
    else:
        train(x_few, y_few, settings.updates)
    return {"error": 100 * (1 - accuracy(model, x_rest[tested], y_rest[tested]))}


def draw(figure: Any, results: Results) -> None:
    """Test errors."""
    axes = figure.subplots()
    shown = {name.replace(", ", ",\n"): column(seeds, "error") for name, seeds in results.items()}
    dots(axes, shown, "test error in %")
    axes.tick_params(axis="x", labelsize=7)


METHODS = ("self-training", "consistency")

STUDIES.register("semi-supervised")(
    Study(
        claim="Images without labels lower the error of a network with few labels, by self-training and by consistency "
        "learned jointly, if they are of the same classes; of other classes they help less or harm.",
        claim_ja="ラベルが少ないとき、同じクラスのラベルなし画像は、自己学習でも、同時に学習する一貫性正則化でも、"
        "ネットワークの誤りを減らす。別のクラスの画像では、効果が小さいか、逆効果になる。",
        correction="The text learns from labels first and then from the rest; that is self-training alone. "
        "Consistency, entropy minimisation, mean teachers and generative models learn from both at once.",
        correction_ja="教材は、まずラベルありデータから、次に残りのデータから学習するとする。"
        "それは自己学習だけの手順である。一貫性正則化、エントロピー最小化、Mean Teacher、生成モデルは、"
        "両方から同時に学習する。",
        source="item 011; Lee 2013; Laine & Aila 2017; Oliver et al. 2018 (other classes)",
        settings=Settings(),
        smoke={"data": "digits", "unlabelled": 400, "test": 0, "updates": 12},
        small={"data": "digits", "unlabelled": 1_000, "test": 0, "updates": 400},
        small_seeds=8,
        variants={
            "labels only": {"method": "labels", "others": "none"},
            **{f"{m}, same classes": {"method": m, "others": "same classes"} for m in METHODS},
            **{f"{m}, other classes": {"method": m, "others": "other classes"} for m in METHODS},
        },
        measure=measure,
        contrasts=tuple(
            contrast
            for m in METHODS
            for contrast in (
                Contrast(f"{m} errs less (points)", {"labels only/error": 1, f"{m}, same classes/error": -1}),
                Contrast(
                    f"{m}: more by images of other classes",
                    {f"{m}, other classes/error": 1, f"{m}, same classes/error": -1},
                ),
            )
        ),
        draw=draw,
        seeds=8,
    )
)
