"""From which source task to which target task fine-tuning pays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

SOURCES = {
    "scratch": "nothing: from scratch",
    "digit": "which digit",
    "low": "which of 0 to 4",
    "random": "random labels",
}

TARGETS = {"parity": "even or odd", "high": "which of 5 to 9"}


@dataclass(frozen=True)
class Settings:
    """Handwritten digits, which several tasks can be made of; a source has other images than a target."""

    data: str = "mnist"
    """`digits` needs no files."""
    source: int = 5_000
    """Examples that a source task is made of."""
    few: int = 40
    """Examples that a target task is made of."""
    test: int = 5_000
    """Examples; 0: all others."""
    hidden: int = 128
    """Units of each of two hidden layers, which travel."""
    source_updates: int = 2_000
    updates: int = 500
    """On the target."""


def task(kind: str, x: Any, y: Any, seed: int) -> tuple[Any, Any]:
    """The images of a task with its labels."""
    import torch

    from rlab.seeding import derive

    if kind in ("low", "high"):
        chosen = (y < 5) == (kind == "low")
        return x[chosen], y[chosen] % 5
    if kind == "random":
        return x, torch.randint(10, y.shape, generator=torch.Generator().manual_seed(derive(seed, "random")))
    return x, y % 2 if kind == "parity" else y


def trained(settings: Any, x: Any, y: Any, updates: int, seed: int, start: Any = None, frozen: bool = False) -> Any:
    """A network of three layers; all but the last begin as those of `start`, and stay so if `frozen`."""
    import torch

    from rlab.studies.supervised import fit, network

    model = network([x[0].numel(), settings.hidden, settings.hidden, 10], seed=seed)
    if start is not None:
        model[:-1].load_state_dict(start[:-1].state_dict())
    model[:-1].requires_grad_(not frozen)
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.02, momentum=0.9)
    fit(model, x, y, optimiser, steps=updates, batch_size=min(25, len(x)), seed=seed)
    return model


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test errors in % on each target."""
    from rlab.seeding import derive
    from rlab.studies.supervised import accuracy, parts

    source, few, test = parts(settings.data, seed, settings.source, settings.few, settings.test)
    start = None
    if variant != "scratch":
        start = trained(settings, *task(variant, *source, seed), settings.source_updates, derive(seed, "source"))
    errors = {}
    for target in TARGETS:
        model = trained(settings, *task(target, *few, seed), settings.updates, seed, start)
        errors[target] = 100 * (1 - accuracy(model, *task(target, *test, seed)))
    return errors


def draw(figure: Any, results: Results) -> None:
    """The matrix of mean errors."""
    axes = figure.subplots()
    matrix = np.array([[np.mean(column(results[source], target)) for target in TARGETS] for source in SOURCES])
    axes.imshow(matrix, cmap="YlOrRd", aspect="auto", alpha=0.6)
    for i, j in np.ndindex(matrix.shape):
        axes.text(j, i, f"{matrix[i, j]:.1f} %", ha="center", va="center", fontsize=10)
    axes.set_xticks(range(len(TARGETS)), list(TARGETS.values()), fontsize=9)
    axes.set_yticks(range(len(SOURCES)), [name.replace(": ", ":\n") for name in SOURCES.values()], fontsize=9)
    axes.set_xlabel("target, from few examples", fontsize=9)
    axes.set_ylabel("source", fontsize=9)
    axes.set_title("test error", fontsize=9)


STUDIES.register("transfer-matrix")(
    Study(
        claim="What fine-tuning saves depends on the source: all ten digits prepare for even or odd and for 5 to 9, "
        "while 0 to 4 prepare less for 5 to 9, and random labels less for either.",
        claim_ja="ファインチューニングの効果は、元のタスクによる。10 種類の数字の分類は、"
        "偶奇の判定にも 5～9 の分類にも役立つ。0～4 の分類は、5～9 の分類にはそれほど役立たず、ランダムなラベルは、"
        "どちらに対してもそれより役立たない。",
        correction="The text has fine-tuning alone give considerable accuracy; that depends on how much of the target "
        "the source has taught.",
        correction_ja="教材は、ファインチューニングだけでかなりの精度が出るとする。それは、元のタスクが、"
        "目標のタスクに必要なことをどれだけ学んでいるかによる。",
        source="item 151; Yosinski et al. 2014; Zamir et al. 2018",
        settings=Settings(),
        smoke={"data": "digits", "source": 300, "test": 0, "source_updates": 15, "updates": 8},
        small={"data": "digits", "source": 900, "test": 0, "source_updates": 400, "updates": 200},
        small_seeds=6,
        variants={name: name for name in SOURCES},
        measure=measure,
        contrasts=(
            Contrast("ten digits save errors on even or odd (points)", {"scratch/parity": 1, "digit/parity": -1}),
            Contrast("ten digits save errors on 5 to 9 (points)", {"scratch/high": 1, "digit/high": -1}),
            Contrast("0 to 4 save fewer there (points)", {"low/high": 1, "digit/high": -1}),
            Contrast("random labels save fewer on even or odd (points)", {"random/parity": 1, "digit/parity": -1}),
            Contrast("random labels save fewer on 5 to 9 (points)", {"random/high": 1, "digit/high": -1}),
        ),
        draw=draw,
        seeds=8,
    )
)
