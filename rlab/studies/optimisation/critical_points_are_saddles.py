"""What kind of points those are at which a gradient is zero, by the number of dimensions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

Local = Callable[[Any], tuple[Any, Any, Any]]
"""x[N, D] -> heights [N], gradients [N, D], Hessians [N, D, D]."""

DIMENSIONS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Settings:
    """Random smooth landscapes, and the error of a linear network with 24 weights."""

    starts: int = 200
    """From which points of zero gradient are sought."""
    waves: int = 300
    """Of random direction, length and phase, which a landscape is the sum of."""
    steps: int = 100
    """Of the search, of at most length 0.5."""


def landscape(dimensions: int, waves: int, seed: int) -> Local:
    """A sum of random cosines: nearly a Gaussian field whose correlation falls with distance."""
    rng = np.random.default_rng(derive(seed, "landscape"))
    w = rng.normal(size=(waves, dimensions))
    phase = rng.uniform(0, 2 * np.pi, waves)

    def local(x: Any) -> tuple[Any, Any, Any]:
        angle = x @ w.T + phase
        scale = np.sqrt(2 / waves)
        hessian = -scale * np.matmul(np.cos(angle)[:, None, :] * w.T, w)
        return scale * np.cos(angle).sum(1), -scale * np.sin(angle) @ w, hessian

    return local


def network(seed: int) -> tuple[Local, Any]:
    """The error of a linear network 6-2-6 that gives its inputs back, and its 15 points of zero gradient.

    Each pair of the data's principal axes, kept in the middle, is one (Baldi & Hornik 1989); one pair is the best.
    """
    import torch

    rng = np.random.default_rng(derive(seed, "network"))
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    spread = torch.tensor(basis * rng.uniform(0.2, 2, 6) @ basis.T)

    def error(w: torch.Tensor) -> torch.Tensor:
        rest = torch.eye(6, dtype=w.dtype) - w[:12].view(6, 2) @ w[12:].view(2, 6)
        return (rest @ spread @ rest.T).trace() / 2

    slope = torch.func.vmap(torch.func.grad_and_value(error))
    curvature = torch.func.vmap(torch.func.jacrev(torch.func.grad(error)))

    def local(w: Any) -> tuple[Any, Any, Any]:
        gradient, value = slope(torch.tensor(w))
        return value.numpy(), gradient.numpy(), curvature(torch.tensor(w)).numpy()

    pairs = [basis[:, list(pair)] for pair in combinations(range(6), 2)]
    return local, np.array([np.concatenate([pair.ravel(), pair.T.ravel()]) for pair in pairs])


def search(local: Local, x: Any, steps: int) -> Any:
    """Newton's method for a gradient of zero, [N, D] -> [N, D]; it minds not which kind of point that is."""
    for _ in range(steps):
        _, gradient, hessian = local(x)
        size, axes = np.linalg.eigh(hessian)
        along = np.matmul(gradient[:, None, :], axes)[:, 0] / np.where(np.abs(size) < 1e-6, 1e-6, size)
        step = np.matmul(axes, along[..., None])[..., 0]
        x = x - step * np.minimum(1, 0.5 / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-12))
    return x


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Shares of minima and saddles where the gradient is zero, and how the index goes with the height."""
    if variant == "network":
        local, x = network(seed)
    else:
        local = landscape(variant, settings.waves, seed)
        starts = np.random.default_rng(derive(seed, "starts")).normal(0, 10, (settings.starts, variant))
        x = search(local, starts, settings.steps)
    height, gradient, hessian = local(x)
    converged = np.linalg.norm(gradient, axis=1) < 1e-8
    index = (np.linalg.eigvalsh(hessian[converged]) < -1e-9).mean(1)
    return {
        "found": float(converged.mean()),
        "minima": float((index == 0).sum() / max(1, len(index))),
        "saddles": float(((index > 0) & (index < 1)).sum() / max(1, len(index))),
        "order": _correlation(height[converged], index),
        "heights": np.round(height[converged][:100], 3),
        "indices": np.round(index[:100], 3),
    }


def _correlation(a: Any, b: Any) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 2 and np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0


def draw(figure: Any, results: Results) -> None:
    """Shares by dimension; index and height of the points found in 16 dimensions and in the network."""
    left, right = figure.subplots(1, 2)
    shares = {kind: np.array([column(results[f"{d}-d"], kind) for d in DIMENSIONS]).T for kind in ("minima", "saddles")}
    curves(left, DIMENSIONS, shares, ("dimensions", "share of the points of zero gradient"))
    left.set_xscale("log", base=2)
    for name in ("16-d", "network"):
        heights, indices = (np.concatenate(column(results[name], key)) for key in ("heights", "indices"))
        right.plot(
            heights, indices, ".", ms=4, alpha=0.5, label="16 dimensions" if name == "16-d" else "linear network"
        )
    right.set_xlabel("height (error)", fontsize=9)
    right.set_ylabel("share of directions that lead down", fontsize=9)
    right.legend(fontsize=8)
    right.grid(alpha=0.3)


STUDIES.register("critical-points-are-saddles")(
    Study(
        claim="A gradient of zero does not make a minimum: in many dimensions nearly all such points are saddles, the "
        "more of whose directions lead down the higher they lie, in random landscapes and a linear network's error.",
        claim_ja="勾配が 0 でも極小とは限らない。次元が高いと、そのような点のほとんどは鞍点で、"
        "高い位置にあるものほど下りの方向が多い。ランダムな関数でも、"
        "線形ニューラルネットワークの誤差でもそうである。",
        source="items 064, 071; Baldi & Hornik 1989; Bray & Dean 2007; Dauphin et al. 2014",
        correction="The text says to find the weights where the derivative is zero. That is necessary for a minimum, "
        "not sufficient: maxima and saddles have it, too; the Hessian's eigenvalues tell which it is.",
        correction_ja="教材は「微分が 0 になる重みを見つける」とするが、それは極小の必要条件で、十分条件ではない。"
        "極大や鞍点でも微分は 0 である。どれであるかは、ヘッセ行列の固有値から分かる。",
        settings=Settings(),
        smoke={"starts": 12, "waves": 50, "steps": 10},
        small={"starts": 60, "waves": 150, "steps": 50},
        small_seeds=4,
        variants={**{f"{d}-d": d for d in DIMENSIONS}, "network": "network"},
        measure=measure,
        contrasts=(
            Contrast("2 dimensions: less than half of the points are minima", {"2-d/minima": -1}, -0.5),
            Contrast("2 dimensions: some are saddles", {"2-d/saddles": 1}, 0.25),
            Contrast("16 dimensions: more than nine in ten are saddles", {"16-d/saddles": 1}, 0.9, trials=30),
            Contrast("the higher, the more directions lead down: correlation in 16-d", {"16-d/order": 1}, 0.5),
            Contrast("a network's error: more than nine in ten are saddles", {"network/saddles": 1}, 0.9, exact=True),
            Contrast("and the same order by height", {"network/order": 1}, 0.5),
        ),
        draw=draw,
    )
)
