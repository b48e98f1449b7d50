"""Dropout as an ensemble: one sub-network, the mean of many, and the one pass that stands for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Digits of 8x8 pixels, few of them, and a network of two hidden layers."""

    train: int = 500
    """Training examples; all others are tested on."""
    hidden: int = 256
    """Units of each of two hidden layers."""
    p: float = 0.5
    """Probability to drop a unit."""
    updates: int = 2_000
    members: int = 50
    """Sub-networks that are looked at."""
    bags: int = 10
    """Networks of their own that the explicit ensemble has, each of a bootstrap sample."""


def train(settings: Settings, x: Any, y: Any, p: float, seed: int) -> Any:
    """A network trained with dropout."""
    import torch

    from rlab.studies.supervised import fit, network

    model = network([64, settings.hidden, settings.hidden, 10], seed=seed, dropout=p)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    fit(model, x, y, optimiser, steps=settings.updates, batch_size=25, seed=seed)
    return model


def subnetworks(settings: Settings, model: Any, x: Any, seed: int) -> Any:
    """Probabilities [members, N, K] of sub-networks: each drops the same units for all examples."""
    import torch

    from rlab.nn.layers import drawing_from, dropout_mask
    from rlab.seeding import derive

    layers = [layer for layer in model if isinstance(layer, torch.nn.Linear)]
    outputs = []
    with torch.no_grad(), drawing_from(torch.Generator().manual_seed(derive(seed, "members"))):
        for _ in range(settings.members):
            h = x.flatten(1)
            for layer in layers[:-1]:
                h = layer(h).relu()
                h = h * dropout_mask(h[:1], settings.p)
            outputs.append(layers[-1](h).softmax(1))
    return torch.stack(outputs)


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Errors in %: of one member in the mean, of the members' mean, of one pass with all units."""
    import torch

    from rlab.seeding import derive
    from rlab.studies.supervised import parts

    (x, y), (x_test, y_test) = parts("digits", seed, settings.train, 0)

    def error(probabilities: Any) -> float:
        return 100 * float((probabilities.argmax(-1) != y_test).float().mean())

    if variant == "bagging":
        generator = torch.Generator().manual_seed(derive(seed, "bags"))
        members = []
        for bag in range(settings.bags):
            drawn = torch.randint(len(x), (len(x),), generator=generator)
            model = train(settings, x[drawn], y[drawn], 0.0, derive(seed, bag))
            members.append(model(x_test).detach().softmax(1))
        every = torch.stack(members)
        return {"member": float(np.mean([error(one) for one in every])), "mean": error(every.mean(0))}
    model = train(settings, x, y, settings.p if variant == "dropout" else 0.0, seed)
    every = subnetworks(settings, model, x_test, seed)
    one_pass, mean = error(model(x_test).detach()), error(every.mean(0))
    member = float(np.mean([error(one) for one in every]))
    return {"member": member, "mean": mean, "pass": one_pass, "gap": abs(one_pass - mean)}


def draw(figure: Any, results: Results) -> None:
    """Test errors."""
    shown = {"sub-network": ("dropout", "member"), "their mean": ("dropout", "mean"), "one pass": ("dropout", "pass")}
    shown |= {"one bag": ("bagging", "member"), "bags' mean": ("bagging", "mean")}
    shown |= {"masked plain": ("plain", "member")}
    axes = figure.subplots()
    dots(axes, {name: column(results[where], number) for name, (where, number) in shown.items()}, "test error in %")
    axes.tick_params(axis="x", rotation=15)


STUDIES.register("dropout-ensemble")(
    Study(
        claim="Dropout trains an ensemble of sub-networks that share weights: their mean errs less than one of them, "
        "and one pass with all units stands for that mean.",
        claim_ja="ドロップアウトは、重みを共有する部分ネットワークのアンサンブルを学習する。"
        "部分ネットワークの平均は、個々の部分ネットワークより誤りが少ない。全ユニットを使う 1 回の順伝播が、"
        "その平均の代わりになる。",
        correction="The texts liken it to a random forest; but the members share all weights, and hardly any of them "
        "was ever trained itself, where those of bagging are trained apart.",
        correction_ja="教材は、ランダムフォレストにたとえる。しかし、部分ネットワークはすべての重みを共有し、"
        "そのほとんどは一度も学習されていない。バギングでは、学習器を別々に学習する。",
        source="item 131; Srivastava et al. 2014, section 7.5; Gal & Ghahramani 2016",
        settings=Settings(),
        smoke={"updates": 30, "members": 5, "bags": 2, "hidden": 64},
        small={"updates": 1_000, "hidden": 128, "members": 30, "bags": 2},
        small_seeds=6,
        variants={"dropout": "dropout", "plain": "plain", "bagging": "bagging"},
        measure=measure,
        contrasts=(
            Contrast("the mean of sub-networks errs less than one", {"dropout/member": 1, "dropout/mean": -1}),
            Contrast("one pass errs as their mean, within half a point", {"dropout/gap": -1}, above=-0.5),
            Contrast(
                "untrained sub-networks work, as they share weights: they err less than those of a plain network",
                {"plain/member": 1, "dropout/member": -1},
            ),
        ),
        draw=draw,
        seeds=8,
    )
)
