"""Where depth saves units and where it does not: parity by gates and by thresholds, and a saw of many teeth."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

BITS = (2, 4, 8)
LEARNED = (6, 8, 10, 14, 20)


@dataclass(frozen=True)
class Settings:
    """What is constructed is checked on all inputs; what is learned is learned by Adam."""

    teeth: int = 6
    """The saw is 2^(this - 1) times up and down."""
    steps: int = 3_000
    width: int = 128
    """Of the two layers that learn parity."""
    examples: int = 768
    """It is learned from; three quarters of all inputs if these are fewer."""


def by_thresholds(x: Any) -> Any:
    """One layer of n units [sum >= k] with weights 1, and an output with weights 1, -1, 1, ...: x[m, n] -> [m]."""
    k = np.arange(1, x.shape[1] + 1)
    hidden = (x.sum(1, keepdims=True) >= k).astype(int)
    return hidden @ np.where(k % 2, 1, -1)


def by_tree(x: Any) -> tuple[Any, int]:
    """Pairs, pairs of pairs, ...: (a or b) and not (a and b), three gates each; the outputs and how many gates."""
    gates = 0
    while x.shape[1] > 1:
        a, b = x[:, ::2], x[:, 1::2]
        x = (a | b) & ~(a & b) & 1
        gates += 3 * a.shape[1]
    return x[:, 0], gates


def constructed(settings: Settings) -> Numbers:
    """Errors on all inputs, units of each kind, and neighbours among the inputs of parity 1: none can share a term."""
    wrong, units = 0, []
    for n in BITS:
        x = np.array(list(product((0, 1), repeat=n)))
        y = x.sum(1) % 2
        tree, gates = by_tree(x)
        wrong += int((by_thresholds(x) != y).sum() + (tree != y).sum())
        odd = x[y == 1]
        shared = int((abs(odd[:, None] - odd[None]).sum(2) == 1).sum())
        units.append([n, gates, len(odd) - shared])
    return {"wrong": wrong, "units": units, "thresholds": units[-1][0], "gates": units[-1][1], "terms": units[-1][2]}


def saw(settings: Settings, seed: int) -> Numbers:
    """Share of the variance that is missed: by two ReLUs a layer, constructed, and by one layer, fitted."""
    import torch

    x = torch.linspace(0, 1, 2**settings.teeth * 8 + 1).unsqueeze(1)
    y, deep = 1 - 2 * (x * 2 ** (settings.teeth - 1) % 1 - 0.5).abs(), x
    for _ in range(settings.teeth):
        deep = 2 * torch.relu(deep) - 4 * torch.relu(deep - 0.5)
    slopes = torch.sign(deep[1:] - deep[:-1]).flatten()
    numbers: dict[str, Any] = {"pieces": 1 + int((slopes[1:] != slopes[:-1]).sum()), "units": 2 * settings.teeth}
    numbers |= {"missed, deep": float(((deep - y) ** 2).mean() / y.var())}
    rng = np.random.default_rng(derive(seed, "saw"))
    line, target = x.numpy().astype(float), y.numpy()[:, 0]
    for times in (1, 4):
        best = 1.0
        for _ in range(20):  # draws of kinks; what is linear in the units is solved
            kinks = np.maximum(0, line - rng.uniform(-0.1, 1, 2 * times * settings.teeth))
            inputs = np.column_stack([kinks, np.ones(len(line))])
            rest = target - inputs @ np.linalg.lstsq(inputs, target)[0]
            best = min(best, float(rest.var() / target.var()))
        numbers[f"missed, shallow x {times}"] = best
    return numbers


def learned(settings: Settings, seed: int) -> Numbers:
    """Accuracy on the inputs that were seen and on the others, by number of bits."""
    import torch

    from rlab.studies.supervised import accuracy, fit, network

    train, new = [], []
    for n in LEARNED:
        rng = np.random.default_rng(derive(seed, "inputs", n))
        cut = min(settings.examples, 2**n * 3 // 4)
        numbers = rng.choice(2**n, min(2**n, cut + 1_000), replace=False)
        bits = numbers[:, None] >> np.arange(n) & 1
        x, y = torch.tensor(2.0 * bits - 1, dtype=torch.float32), torch.tensor(bits.sum(1) % 2)
        model = network([n, settings.width, settings.width, 2], seed=seed)
        adam = torch.optim.Adam(model.parameters(), 3e-3)
        fit(model, x[:cut], y[:cut], adam, steps=settings.steps, batch_size=min(64, cut), seed=seed)
        train.append(accuracy(model, x[:cut], y[:cut]))
        new.append(accuracy(model, x[cut:], y[cut:]))
    return {"seen": train, "new": new, "seen most": train[-1], "new most": new[-1]}


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """See the three functions."""
    if variant == "constructed":
        return constructed(settings)
    return (saw if variant == "saw" else learned)(settings, seed)


def draw(figure: Any, results: Results) -> None:
    """Units by bits; accuracy by bits."""
    axes = figure.subplots(1, 2)
    units = np.array(results["parity, constructed"][0]["units"])
    for k, label in enumerate(("thresholds, 1 layer", "gates, log2 n steps", "terms of and, 1 layer")):
        axes[0].plot(BITS, units[:, k], "o-", label=label)
    axes[0].set(xscale="log", yscale="log", xlabel="bits", ylabel="units that parity takes")
    axes[0].set_xticks(BITS, BITS)
    axes[0].minorticks_off()
    axes[0].legend(fontsize=8)
    axes[0].grid(alpha=0.3)
    ways = {
        f"inputs {name}": column(results["parity, learned"], key)
        for name, key in (("seen", "seen"), ("not seen", "new"))
    }
    curves(axes[1], LEARNED, ways, ("bits", "accuracy of a network that learned parity"))


STUDIES.register("parity-depth")(
    Study(
        claim="Some functions take exponentially fewer units in a deep network than in one with a single layer; "
        "parity is such a function for gates, not for thresholds, and existing is not being found by learning.",
        claim_ja="深いネットワークなら、1 層よりも指数的に少ないユニットで表せる関数がある。パリティ関数は、"
        "論理ゲートではその例だが、しきい値素子では例にならない。また、表現できることと、"
        "学習で見つかることとは別である。",
        source="item 043; Hastad 1986; Telgarsky 2016 (Benefits of depth); Shalev-Shwartz et al. 2017",
        settings=Settings(),
        smoke={"teeth": 3, "steps": 5, "width": 8, "examples": 60},
        small={"teeth": 5, "steps": 500, "width": 64},
        small_seeds=4,
        variants={"parity, constructed": "constructed", "saw": "saw", "parity, learned": "learned"},
        measure=measure,
        contrasts=(
            Contrast(
                "all constructions are right on every input", {"parity, constructed/wrong": -1}, above=-0.5, exact=True
            ),
            Contrast(
                "parity of 8 bits: one layer of gates takes 5 times as many as a tree",
                {"parity, constructed/terms": 1, "parity, constructed/gates": -5},
                exact=True,
            ),
            Contrast(
                "but one layer of thresholds takes fewer than the tree (the text's example fails)",
                {"parity, constructed/gates": 1, "parity, constructed/thresholds": -1},
                exact=True,
            ),
            Contrast(
                "the saw: two ReLUs a layer make it exactly (share missed)", {"saw/missed, deep": -1}, -1e-6, exact=True
            ),
            Contrast("as many in one layer miss half of it or more", {"saw/missed, shallow x 1": 1}, above=0.5),
            Contrast(
                "parity of 20 bits, learned: right on inputs seen, 95 %",
                {"parity, learned/seen most": 1},
                above=0.95,
                trials="examples",
            ),
            Contrast("but on others wrong in 40 % of the cases or more", {"parity, learned/new most": -1}, above=-0.6),
        ),
        draw=draw,
        seeds=5,
        correction="The text says that parity takes 2^n units without depth. That is so for and/or/not: with "
        "thresholds or ReLUs n units in one layer do, so that parity separates no neural networks; the saw does.",
        correction_ja="教材は、浅いとパリティ関数に 2^n 個のユニットが要るとしている。それは AND、OR、"
        "NOT の場合である。しきい値素子や ReLU なら、1 層に n 個で足りるので、"
        "パリティ関数はニューラルネットワークの深さの例にならない。のこぎり波なら例になる。",
    )
)
