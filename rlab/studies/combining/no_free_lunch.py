"""Learners in the mean over all Boolean functions, and over those that are simple."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

INPUTS = np.array([[(k >> bit & 1) * 2 - 1 for bit in range(4)] for k in range(16)], float)
"""All inputs of four bits, as -1 and 1: [16, 4]."""


@dataclass(frozen=True)
class Settings:
    """All 65,536 functions of four bits; half of the 16 inputs are for training, the others for the test."""

    steps: int = 1_000
    """Gradient steps of the networks."""
    hidden: int = 16
    """Units of their hidden layer."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Accuracy off the training inputs in percent: the mean over all functions, and over linearly separable ones.

    What a learner says depends on the 8 training labels alone: so it is asked for all 256 of them, once.
    """
    from rlab.seeding import derive

    order = np.random.default_rng(derive(seed, "inputs")).permutation(16)
    known, unseen = order[:8], order[8:]
    labels = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(float)  # [256, 8]
    predicted = LEARNERS[variant["learner"]](settings, INPUTS[known], labels, INPUTS[unseen], seed)  # [256, 8], 0 or 1
    functions = (np.arange(2**16)[:, None] >> np.arange(16) & 1).astype(np.int8)  # [65536, 16]
    asked = functions[:, known] @ (1 << np.arange(8))
    right = 100 * (predicted[asked] == functions[:, unseen]).mean(axis=1)
    counts = np.bincount((right * 8 / 100).round().astype(int), minlength=9)
    return {
        "all": float(right.mean()),
        "off": abs(float(right.mean()) - 50),
        "simple": float(right[separable()].mean()),
        "counts": counts,
    }


def separable() -> Any:
    """Which of the 65,536 functions a threshold of a weighted sum computes: 1,882 of them (Muroga 1971)."""
    weights = np.stack(np.meshgrid(*[np.arange(-5, 6)] * 5, indexing="ij"), axis=-1).reshape(-1, 5)
    sums = weights[:, :4] @ INPUTS.T + weights[:, 4:]
    codes = ((sums > 0) @ (1 << np.arange(16)))[(sums != 0).all(axis=1)]
    return np.unique(codes)


def majority(settings: Settings, x: Any, labels: Any, at: Any, seed: int) -> Any:
    """The label that is more frequent in training."""
    return np.repeat(labels.mean(axis=1, keepdims=True) > 0.5, len(at), axis=1)


def minority(settings: Settings, x: Any, labels: Any, at: Any, seed: int) -> Any:
    """The other one: as unreasonable as can be."""
    return ~majority(settings, x, labels, at, seed)


def neighbours(settings: Settings, x: Any, labels: Any, at: Any, seed: int) -> Any:
    """The label of the nearest training inputs, nearer ones counting more."""
    closeness = 10.0 ** (at @ x.T / 2)  # [8, 8]: by Hamming distance
    return (2 * labels - 1) @ closeness.T > 0


def networks(stop_early: bool) -> Callable[..., Any]:
    """One network for each labelling, trained side by side: to the end on all 8, or on 6 of them and stopped early.

    Stopping early adopts the parameters with the least loss on the other two.
    """

    def learn(settings: Settings, x: Any, labels: Any, at: Any, seed: int) -> Any:
        import torch

        from rlab.nn.layers import drawing_from
        from rlab.nn.optim import make_optimiser
        from rlab.seeding import derive

        with drawing_from(torch.Generator().manual_seed(derive(seed, "network"))):
            first, second = torch.randn(256, 5, settings.hidden) / 5**0.5, torch.randn(256, settings.hidden, 1)
        second /= settings.hidden**0.5
        parameters = [first.requires_grad_(), second.requires_grad_()]
        optimiser = make_optimiser("adam", parameters, lr=0.01)

        def output(inputs: Any) -> Any:
            given = torch.tensor(np.c_[inputs, np.ones(len(inputs))]).float()
            return ((given @ first).tanh() @ second)[..., 0]  # [256, N]

        targets, used = torch.tensor(labels).float(), 6 if stop_early else 8
        least, best = torch.full((256,), torch.inf), torch.zeros(256, len(at))
        for _ in range(settings.steps):
            losses = torch.nn.functional.binary_cross_entropy_with_logits(output(x), targets, reduction="none")
            if stop_early:
                with torch.no_grad():
                    held_out = losses[:, used:].mean(dim=1)
                    best = torch.where((held_out < least)[:, None], output(at), best)
                    least = torch.minimum(held_out, least)
            optimiser.zero_grad()
            losses[:, :used].mean(dim=1).sum().backward()
            optimiser.step()
        with torch.no_grad():
            return ((best if stop_early else output(at)) > 0).numpy()

    return learn


LEARNERS: dict[str, Callable[..., Any]] = {
    "majority": majority,
    "minority": minority,
    "neighbours": neighbours,
    "network": networks(stop_early=False),
    "early stopping": networks(stop_early=True),
}


def draw(figure: Any, results: Results) -> None:
    """Accuracy off the training inputs, over all functions and over simple ones."""
    axes = figure.subplots()
    for place, (name, label) in enumerate((("all", "all 65,536 functions"), ("simple", "1,882 linearly separable"))):
        heights = [np.mean(column(seeds, name)) for seeds in results.values()]
        bars = axes.bar(np.arange(len(heights)) + 0.4 * place, heights, width=0.4, label=label)
        axes.bar_label(bars, fmt="%.1f", fontsize=7)
    axes.axhline(50, color="black", lw=1, ls=":")
    axes.set_xticks(np.arange(len(results)) + 0.2, list(results), fontsize=8)
    axes.set_ylabel("right off the training inputs, in percent", fontsize=9)
    axes.set_ylim(0, 100)
    axes.legend(fontsize=8)


STUDIES.register("no-free-lunch")(
    Study(
        claim="Over all Boolean functions every learner, early stopping and the most foolish one included, is right on "
        "half of the inputs that it has not seen; learners differ only where problems are of a kind.",
        source="item 142; Wolpert 1996; Schaffer 1994",
        settings=Settings(),
        smoke={"steps": 5},
        small={"steps": 200},
        small_seeds=8,
        variants={name: {"learner": name} for name in LEARNERS},
        measure=measure,
        contrasts=(
            *(
                Contrast(f"{name}: 50 % in the mean over all", {f"{name}/off": -1}, above=-1e-9, exact=True)
                for name in LEARNERS
            ),
            Contrast(
                "simple functions: early stopping beats minority by 20 points",
                {"early stopping/simple": 1, "minority/simple": -1},
                above=20,
            ),
            Contrast("simple functions: neighbours are right over 60 %", {"neighbours/simple": 1}, above=60),
        ),
        draw=draw,
        claim_ja="すべてのブール関数について平均すると、早期終了を含むどの学習法も、最も愚かな学習法も、"
        "見ていない入力の半分で正解する。学習法に差が出るのは、問題に偏りがあるときだけである。",
        correction="The page sets Hinton's 'beautiful free lunch' (early stopping costs nothing) against the no-free-"
        "lunch theorem as if they spoke of one thing: the phrase is a pun on the theorem, which is about the mean over "
        "all problems, where early stopping gains nothing, either.",
        correction_ja="教材は、ヒントンの「美しいフリーランチ」（早期終了にはコストがかからない）"
        "とノーフリーランチ定理を、同じ話のように並べている。この言い回しは、定理の名をもじったものである。"
        "定理はすべての問題についての平均を述べたもので、その平均では早期終了にも利得はない。",
    )
)
