"""All Boolean functions of four inputs, learned from half of their rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

ROWS = np.array([[(row >> bit) & 1 for bit in range(4)] for row in range(16)]) * 2.0 - 1
"""Inputs +-1, [16, 4]."""

LABELS = np.array([[(number >> bit) & 1 for bit in range(8)] for number in range(256)]) * 2.0 - 1
"""All labels of 8 rows, [256, 8]."""


@dataclass(frozen=True)
class Settings:
    """Half of the 16 rows are given, drawn by the seed; the others are asked for."""

    updates: int = 300
    """Of gradient descent."""
    structured: int = 300
    """Functions of the structured world: signs of a random weighted sum."""


def logistic(x: np.ndarray, labels: np.ndarray, updates: int, held: int) -> np.ndarray:
    """Weights [F, 5] of logistic regressions, one for each row of labels [F, n], by gradient descent.

    Args:
        x: [n, 4].
        labels: of F functions.
        updates: how many.
        held: rows that are not trained on, but say where to stop; 0: the end.
    """
    x = np.column_stack([x, np.ones(len(x))])
    weights = np.zeros((len(labels), 5))
    best, lowest = weights.copy(), np.full(len(labels), np.inf)
    n = len(x) - held
    for _ in range(updates):
        margins = labels[:, :n] * (weights @ x[:n].T)
        weights = weights + 0.3 * (labels[:, :n] / (1 + np.exp(margins))) @ x[:n] / n
        if held:
            loss = np.logaddexp(0, -labels[:, n:] * (weights @ x[n:].T)).mean(1)
            better = loss < lowest
            best[better], lowest[better] = weights[better], loss[better]
    return best if held else weights


def predict(kind: str, x: np.ndarray, labels: np.ndarray, asked: np.ndarray, updates: int) -> np.ndarray:
    """Labels +-1 [F, m] of the rows asked for, [m, 4], learned from labels [F, n] of x [n, 4]."""
    if kind == "majority":
        votes = np.repeat(labels.sum(1, keepdims=True), len(asked), 1)
    elif kind == "neighbour":
        votes = labels[:, (asked @ x.T).argmax(1)]
    else:
        weights = logistic(x, labels, updates, 2 if kind == "stopped early" else 0)
        votes = weights @ np.column_stack([asked, np.ones(len(asked))]).T
    return np.where(votes >= 0, 1.0, -1.0)


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Right answers on rows not seen, in %: over all 65,536 functions, and over those of a structured world."""
    from rlab.seeding import derive

    generator = np.random.default_rng(derive(seed, "rows"))
    order = generator.permutation(16)
    given, asked = order[:8], order[8:]
    said = predict(variant, ROWS[given], LABELS, ROWS[asked], settings.updates)
    every = 100 * (said[:, None] == LABELS[None]).mean()  # each labelling of the given rows with each of the others
    functions = np.sign(generator.normal(size=(settings.structured, 5)) @ np.column_stack([ROWS, np.ones(16)]).T)
    said = predict(variant, ROWS[given], functions[:, given], ROWS[asked], settings.updates)
    structured = 100 * (said == functions[:, asked]).mean()
    return {"all": every, "off": abs(every - 50), "structured": structured}


def draw(figure: Any, results: Results) -> None:
    """Right answers in both worlds."""
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, number, title in ((left, "all", "all 65,536 functions"), (right, "structured", "threshold functions")):
        dots(axes, {name: column(seeds, number) for name, seeds in results.items()}, "right on unseen rows in %")
        axes.axhline(50, color="black", lw=1, ls=":")
        axes.set_title(title, fontsize=9)
        axes.tick_params(axis="x", labelsize=7)


KINDS = ("majority", "neighbour", "logistic", "stopped early")

STUDIES.register("no-free-lunch")(
    Study(
        claim="Over all Boolean functions of four inputs every learner, stopped early or not, is right on half of the "
        "rows that it has not seen; what it gains, it gains where functions have structure.",
        claim_ja="4入力のブール関数すべてで平均すると、どの学習器も、早期終了の有無によらず、未知の行の正答率はちょうど"
        "5割である。利得があるのは関数に構造がある世界に限られる。",
        correction="The text sets early stopping, a 'beautiful free lunch', against the no-free-lunch theorem; the "
        "quote is a pun on it, and the theorem is about the mean over all problems.",
        correction_ja="テキストは早期終了を「美しいフリーランチ」と呼んだ言葉とノーフリーランチ定理を混同している。前者"
        "は定理にかけた洒落で、定理は全問題にわたる平均についてのものである。",
        source="item 142; Wolpert 1996; Hinton 2015 (the quote, from a talk)",
        settings=Settings(),
        smoke={"updates": 20, "structured": 50},
        variants={kind: kind for kind in KINDS},
        measure=measure,
        contrasts=(
            *(
                Contrast(f"{kind}: half right over all functions (to 0.001 points)", {f"{kind}/off": -1}, above=-0.001)
                for kind in KINDS
            ),
            Contrast(
                "threshold functions: logistic regression above half (points)", {"logistic/structured": 1}, above=50
            ),
        ),
        draw=draw,
        seeds=10,
    )
)
