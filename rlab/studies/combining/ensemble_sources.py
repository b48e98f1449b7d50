"""What makes networks of one kind differ, and what their mean gains by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Digits of 8x8 pixels, some with a wrong label, and networks of one hidden layer, alike but for one thing."""

    train: int = 300
    """Training examples; all others are tested on, with right labels."""
    wrong: float = 0.2
    """Share of the training labels that are drawn anew."""
    hidden: int = 64
    members: int = 10
    updates: int = 1_000


def member(settings: Settings, what: str, x: Any, y: Any, seed: int, number: int) -> Any:
    """One of the networks, trained; only `what` is its own."""
    import torch

    from rlab.seeding import derive
    from rlab.studies.supervised import fit, network

    own = derive(seed, number)
    generator = torch.Generator().manual_seed(own)
    hidden, rate, batch = settings.hidden, 0.05, 25
    if what == "settings":
        hidden, rate, batch = hidden + 16 * (number % 3), rate * (1.0, 0.5, 2.0)[number % 3], batch + 5 * number
    model = network([64, hidden, 10], seed=own if what == "weights" else seed)
    if what == "rounding":
        with torch.no_grad():
            for weights in model.parameters():
                weights.mul_(1 + 1e-7 * torch.randn(weights.shape, generator=generator))
    if what == "bootstrap":
        drawn = torch.randint(len(x), (len(x),), generator=generator)
        x, y = x[drawn], y[drawn]
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    order = own if what == "order" else seed
    fit(model, x, y, optimiser, steps=settings.updates, batch_size=batch, seed=order)
    return model


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Errors in % of a member in the mean, and of the mean of probabilities; the correlation of errors."""
    import torch

    from rlab.studies.supervised import mislabelled, parts

    (x, y), (x_test, y_test) = parts("digits", seed, settings.train, 0)
    y = mislabelled(y, settings.wrong, seed)
    outputs = []
    for number in range(settings.members):
        with torch.no_grad():
            outputs.append(member(settings, variant, x, y, seed, number)(x_test).softmax(1))
    every, truth = torch.stack(outputs).double(), torch.nn.functional.one_hot(y_test, 10)
    wrong = 100 * float((every.argmax(2) != y_test).double().mean())
    together = 100 * float((every.mean(0).argmax(1) != y_test).double().mean())
    alike = np.corrcoef((every - truth).flatten(1).numpy())
    rho = alike[np.triu_indices(len(alike), 1)].mean()
    return {"member": wrong, "together": together, "gain": wrong - together, "rho": rho}


def draw(figure: Any, results: Results) -> None:
    """Gains, and against the correlation of errors."""
    left, right = figure.subplots(1, 2)
    dots(left, columns(results, "gain"), "errors saved, points")
    left.tick_params(axis="x", labelsize=7, rotation=20)
    for name, seeds in results.items():
        right.plot(column(seeds, "rho"), column(seeds, "gain"), "o", ms=4, label=name)
    right.set_xlabel("correlation of two members' errors", fontsize=9)
    right.set_ylabel("errors saved, points", fontsize=9)
    right.tick_params(labelsize=8)
    right.legend(fontsize=8)


SOURCES = ("weights", "order", "settings")

STUDIES.register("ensemble-sources")(
    Study(
        claim="Networks trained on the same examples err differently by their first weights, the order of batches, or "
        "settings, so their mean errs less than one of them; rounding alone makes far less of a difference.",
        claim_ja="同じデータで学習しても、重みの初期値、ミニバッチの順序、ハイパーパラメータが違えば、"
        "ネットワークの誤り方は異なる。そのため、平均すると一つのネットワークより誤りが減る。"
        "丸め誤差だけによる違いは、はるかに小さい。",
        correction="The text counts what is not deterministic in a program among the sources. What rounding changes "
        "has to grow over many updates first: in a small network that is trained for a short time it does not.",
        correction_ja="教材は、プログラムの非決定性も要因に数える。しかし、丸め誤差による違いは、"
        "多くの更新を経て初めて大きくなる。小さなネットワークを短時間学習するだけでは、大きくならない。",
        source="item 148; Goodfellow et al. 2016, section 7.11; Lakshminarayanan et al. 2017",
        settings=Settings(),
        smoke={"members": 2, "updates": 10},
        small={"members": 3, "updates": 500},
        small_seeds=5,
        variants={name: name for name in (*SOURCES, "rounding", "bootstrap")},
        measure=measure,
        contrasts=(
            *(Contrast(f"{name}: the mean saves over 0.1 points", {f"{name}/gain": 1}, above=0.1) for name in SOURCES),
            *(
                Contrast(
                    f"errors are less alike by {name} than by rounding (correlation)",
                    {"rounding/rho": 1, f"{name}/rho": -1},
                )
                for name in SOURCES
            ),
        ),
        draw=draw,
        seeds=8,
    )
)
