"""What a penalty trades: bias, variance and their sum, over hundreds of data sets of one known function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

GRIDS: dict[str, list[float]] = {
    "penalty": [10.0**k for k in np.arange(-4.0, 2.5, 0.5).tolist()],
    "degree": [12, 10, 8, 7, 6, 5, 4, 3, 2, 1, 0],
    "neighbours": [1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 25],
}
"""Knob -> its settings, from the freest model to the most restricted one."""


@dataclass(frozen=True)
class Settings:
    """Data sets of sin(2 pi x) with noise at 25 evenly spaced places (Bishop 2006, figure 3.5).

    The places are fixed: drawn ones leave holes in a few data sets, whose errors are so large that no mean settles.
    """

    datasets: int = 5_000
    """Data sets that bias and variance are taken over; as many others are for the error."""
    points: int = 25
    """Of each."""
    noise: float = 0.3
    """Standard deviation of the targets' noise."""


def truth(x: Any) -> Any:
    """The function that is learned."""
    return np.sin(2 * np.pi * x)


def predictions(knob: str, level: float, x: Any, y: Any, at: Any) -> Any:
    """Fitted to each data set x, y[D, N], at[T] -> [D, T]."""
    if knob == "neighbours":
        nearest = np.argsort(np.abs(at[None, :, None] - x[:, None, :]), axis=2)[..., : int(level)]
        return np.take_along_axis(y[:, None, :], nearest, axis=2).mean(axis=2)
    if knob == "degree":
        feature = lambda place: np.polynomial.legendre.legvander(2 * place - 1, int(level))  # noqa: E731
        alpha = 1e-9
    else:  # the mean and 24 bumps; the mean's weight, the bias, is not penalised
        bumps = np.linspace(0, 1, 24)
        feature = lambda place: np.exp(-((place[..., None] - bumps) ** 2) / (2 * 0.1**2))  # noqa: E731
        alpha = level
    phi, phi_at = feature(x), feature(at)
    centre, mean = phi.mean(axis=1, keepdims=True), y.mean(axis=1, keepdims=True)
    inner = (phi - centre).swapaxes(1, 2) @ (phi - centre) + alpha * np.eye(phi.shape[2])
    weights = np.linalg.solve(inner, (phi - centre).swapaxes(1, 2) @ (y - mean)[..., None])
    return mean + ((phi_at - centre) @ weights)[..., 0]


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Bias^2, variance and mean squared error over a knob's settings, in means over x."""
    from rlab.seeding import derive

    rng = np.random.default_rng(derive(seed, "data"))
    at = np.linspace(0.02, 0.98, 49)
    even = (np.arange(settings.points) + 0.5) / settings.points
    x = np.broadcast_to(even, (2 * settings.datasets, settings.points))
    y = truth(x) + settings.noise * rng.standard_normal(x.shape)
    again = truth(at) + settings.noise * rng.standard_normal((settings.datasets, len(at)))
    rows = []
    for level in GRIDS[variant["knob"]]:
        predicted = predictions(variant["knob"], level, x, y, at)
        mine, others = predicted[: settings.datasets], predicted[settings.datasets :]
        bias2, variance = (mine.mean(axis=0) - truth(at)) ** 2, mine.var(axis=0)
        errors = (others - truth(at)) ** 2, (others - again) ** 2
        rows.append([float(part.mean()) for part in (bias2, variance, *errors)])
    bias2, variance, error, noisy = np.array(rows).T
    middle = len(error) // 2
    return {
        "bias2": bias2,
        "variance": variance,
        "error": error,
        "gap": (np.abs(error - bias2 - variance) / error).mean(),
        "missing": (noisy - bias2 - variance).mean() / settings.noise**2,
        "variance_falls": np.log10(variance[0] / variance[-1]),
        "bias_rises": np.log10(bias2[-1] / bias2[0]),
        "dip": min(error[0], error[-1]) / error[middle],
    }


def draw(figure: Any, results: Results) -> None:
    """Bias^2, variance and error, knob by knob; the last panel has the legend."""
    panels = figure.subplots(2, 2, sharey=True).ravel()
    for axes, (knob, grid) in zip(panels, GRIDS.items(), strict=False):
        for name, label in (("bias2", "bias²"), ("variance", "variance"), ("error", "mean squared error")):
            mean = np.mean(column(results[knob], name), axis=0)
            axes.semilogy(range(len(grid)), mean, "o-", ms=3, label=label)
        ticks = range(0, len(grid), 4 if knob == "penalty" else 2)
        axes.set_xticks(ticks, [f"{grid[k]:g}" for k in ticks], fontsize=7)
        axes.set_xlabel(f"{knob}: restricted more →", fontsize=8)
        axes.set_ylabel("mean over x", fontsize=8)
        axes.tick_params(axis="y", labelsize=7)
        axes.grid(alpha=0.3)
    panels[3].axis("off")
    panels[3].legend(*panels[0].get_legend_handles_labels(), fontsize=9, loc="center")


STUDIES.register("bias-variance")(
    Study(
        claim="Expected squared error is bias squared plus variance, and with noisy targets plus their noise; a "
        "penalty lowers the variance and pays for it in bias, so that the error is least in between.",
        source="items 093, 094, 100; Geman et al. 1992; Bishop 2006, section 3.2",
        settings=Settings(),
        smoke={"datasets": 300},
        small={"datasets": 1_000},
        small_seeds=5,
        variants={knob: {"knob": knob} for knob in GRIDS},
        measure=measure,
        contrasts=(
            Contrast("bias² + variance is the error on other data sets, to 5 %", {"penalty/gap": -1}, above=-0.05),
            Contrast(
                "against noisy targets more than 0.9 of the noise's variance is missing",
                {"penalty/missing": 1},
                above=0.9,
            ),
            Contrast("a larger penalty: variance falls (powers of ten)", {"penalty/variance_falls": 1}),
            Contrast("a larger penalty: bias² rises (powers of ten)", {"penalty/bias_rises": 1}),
            Contrast("both ends err more than the middle (times)", {"penalty/dip": 1}, above=1),
            Contrast("fewer powers of x: variance falls", {"degree/variance_falls": 1}),
            Contrast("means over more neighbours: variance falls", {"neighbours/variance_falls": 1}),
        ),
        draw=draw,
        claim_ja="二乗誤差の期待値は、バイアスの 2 乗とバリアンスの和で、目標値にノイズがあればその分散が加わる。"
        "正則化はバリアンスを減らし、その代わりにバイアスを増やすので、誤差はその中間で最小になる。",
        correction="The slide calls the second term 'variation'; it is the variance (over data sets). Both terms are "
        "the whole error only against noise-free targets; measured against noisy ones, the noise's variance is added.",
        correction_ja="教材のスライドは第二項を「バリエーション」とするが、正しくは（データセットにわたる）"
        "バリアンスである。また、二つの項が誤差のすべてになるのは、目標値にノイズがない場合だけで、"
        "ノイズがあればその分散が加わる。",
    )
)
