"""Leaving a saddle, its ridge, and a shallow valley, by optimiser; the animation shows the way of each."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

NOISE = 0.01
"""Standard deviation of what `noise` adds to each partial derivative; slopes are about 1."""


FLAT = 0.03
"""The saddle's curvature where it falls; where it rises, which bounds the rates, it is 1."""

DENTED = 0.3
"""Rates above this are too large for gradient descent to stay in the dent, whose curvature is 6: it need not be
carried."""


@dataclass(frozen=True)
class Settings:
    """Two surfaces: a saddle, flat where it falls, and a slope with a dent in it, above a deeper valley."""

    rates: int = 10
    """Learning rates from 1.5 to 0.0015 that each optimiser tries; the best is scored from other starts."""
    steps: int = 1_000
    """Updates; who has not left by then counts as leaving then."""
    starts: int = 10
    """Walks on each surface."""


def saddle(x: Any) -> Any:
    """x^2/2 + FLAT (y^4/4 - y^2/2): a saddle in the middle, the lowest points at y = -1 and y = 1."""
    return x[:, 0] ** 2 / 2 + FLAT * (x[:, 1] ** 4 / 4 - x[:, 1] ** 2 / 2)


def dent(x: Any) -> Any:
    """A slope down to x = 2 with a dent at x = 0, deep enough to hold what comes slowly."""
    hole = -0.5 * (-(x[:, 0] ** 2 + x[:, 1] ** 2) / 0.18).exp()
    return 0.15 * (x[:, 0] - 2) ** 2 + 0.5 * x[:, 1] ** 2 + hole


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """At the best rate: steps until the saddle is left for good, and shares that leave its ridge and the dent."""
    from rlab.studies.descent import tuned

    rates = np.geomspace(1.5, 1.5e-3, settings.rates).tolist()

    def from_saddle(rate: float, part: str) -> tuple[float, float]:
        """Mean steps from beside the ridge; share that leaves from on it."""
        rng = np.random.default_rng(derive(seed, "saddle", part))
        x, side = rng.uniform(0.5, 1.5, settings.starts), rng.choice([-1, 1], settings.starts)
        beside = side * 10 ** rng.uniform(-7, -5, settings.starts)
        starts = np.concatenate([np.stack([x, beside], 1), np.stack([x, 0 * x], 1)])
        path = _walk(settings, variant, saddle, starts, seed, rate)
        there = (np.abs(path[..., 1]) > 0.5) & (np.abs(path[..., 0]) < 0.5)
        for_good = np.minimum.accumulate(there[::-1]).sum(0)
        steps = np.minimum(len(there) - for_good, settings.steps)
        return float(steps[: settings.starts].mean()), float(there[-1, settings.starts :].mean())

    def stays_in_dent(rate: float, part: str) -> float:
        """Share that does not end in the deeper valley."""
        rng = np.random.default_rng(derive(seed, "dent", part))
        starts = np.stack([rng.uniform(-1.8, -1.2, settings.starts), rng.uniform(-0.3, 0.3, settings.starts)], 1)
        return 1 - float((np.abs(_walk(settings, variant, dent, starts, seed, rate)[-1, :, 0] - 2) < 1).mean())

    _, rate = tuned(rates, lambda rate: from_saddle(rate, "tune")[0], settings.steps)
    _, slow = tuned([rate for rate in rates if rate < DENTED], lambda rate: stays_in_dent(rate, "tune"), 1.0)
    steps, ridge = from_saddle(rate, "score")
    return {"saddle": steps, "ridge": ridge, "rate": rate, "dent": 1 - stays_in_dent(slow, "score"), "dent_rate": slow}


def _walk(settings: Settings, variant: Any, surface: Any, starts: Any, seed: int, rate: float) -> Any:
    from rlab.studies.descent import walk

    optimiser, noise = variant["optimiser"], variant["noise"]
    return walk(surface, starts, optimiser, settings.steps, seed=seed, noise=noise, lr=rate)


def draw(figure: Any, results: Results) -> None:
    """Steps to leave the saddle, and who passes the dent."""
    axes = figure.subplots(2, 1)
    dots(axes[0], columns(results, "saddle"), "steps to leave the saddle")
    axes[0].set_title("started about a millionth beside the ridge, each at its best rate", fontsize=9)
    axes[0].set_yscale("log")
    dots(axes[1], columns(results, "dent"), "share that passes the dent")


def animate(settings: Settings, results: Results) -> bytes:
    """One walk of each optimiser on the saddle and over the dent, as an animated GIF."""
    import torch
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image, ImageDraw

    figure = Figure(figsize=(7.2, 3.4), dpi=80, layout="constrained")
    canvas, panels = FigureCanvasAgg(figure), figure.subplots(1, 2)
    scenes = [(saddle, (1.2, 1e-4), (-1.5, 1.5), "rate"), (dent, (-1.6, 0.15), (-2.0, 3.0), "dent_rate")]
    for panel, (surface, _, (low, high), _) in zip(panels, scenes, strict=True):
        gx, gy = np.meshgrid(np.linspace(low, high, 80), np.linspace(-1.5, 1.5, 80))
        heights = surface(torch.tensor(np.stack([gx.ravel(), gy.ravel()], 1))).numpy().reshape(gx.shape)
        panel.contour(gx, gy, heights, 18, colors="0.75", linewidths=0.8)
        panel.set(xlim=(low, high), ylim=(-1.5, 1.5), xticks=[], yticks=[])
    panels[0].set_title("a saddle, from 0.0001 beside its ridge", fontsize=9)
    panels[1].set_title("a dent on the way to the deeper valley", fontsize=9)
    colours = {name: f"C{i}" for i, name in enumerate(VARIANTS)}
    for name, colour in colours.items():
        panels[0].plot([], [], "o", color=colour, label=name)
    figure.legend(ncols=len(colours), loc="outside lower center", fontsize=8, frameon=False)
    canvas.draw()
    ground = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    ways = [
        (colours[name], panel, _walk(settings, variant, surface, np.array([start]), 0, results[name][0][rate])[:, 0])
        for name, variant in VARIANTS.items()
        for panel, (surface, start, _, rate) in zip(panels, scenes, strict=True)
    ]
    swatches = ground.copy()  # so large that each colour gets a place among the 48
    for place, colour in enumerate(colours.values()):
        swatches.paste(_rgb(colour), (60 * place, 0, 60 * place + 60, 60))
    palette, frames = swatches.quantize(48), []
    for step in range(0, min(settings.steps, 240) + 1, 8):
        frame = ground.copy()
        pen = ImageDraw.Draw(frame)
        for colour, panel, way in ways:
            pixels = panel.transData.transform(way[: step + 1 : 2]) * [1, -1] + [0, ground.height]
            ink = _rgb(colour)
            pen.line([tuple(point) for point in pixels], fill=ink, width=1)
            x, y = pixels[-1]
            pen.ellipse([x - 4, y - 4, x + 4, y + 4], fill=ink, outline="black")
        frames.append(frame.quantize(palette=palette, dither=Image.Dither.NONE))
    data = io.BytesIO()
    frames[0].save(data, "GIF", save_all=True, append_images=frames[1:], duration=150, loop=0)
    return data.getvalue()


def _rgb(colour: str) -> tuple[int, int, int]:
    from matplotlib.colors import to_rgb

    red, green, blue = (round(255 * part) for part in to_rgb(colour))
    return red, green, blue


VARIANTS = {
    "sgd": {"optimiser": "sgd", "noise": 0.0},
    "noise": {"optimiser": "sgd", "noise": NOISE},
    "momentum": {"optimiser": "momentum", "noise": 0.0},
    "rmsprop": {"optimiser": "rmsprop", "noise": 0.0},
    "adam": {"optimiser": "adam", "noise": 0.0},
}

STUDIES.register("saddle-escape")(
    Study(
        claim="Beside a saddle, each at its best rate, momentum leaves sooner than gradient descent and adaptive steps "
        "sooner still; on the very ridge only noise helps; over a dent that holds gradient descent momentum carries.",
        claim_ja="それぞれ最良の学習率で比べると、鞍点の近くから、モーメンタムは勾配降下法より速く、"
        "適応的な手法はさらに速く脱出する。尾根のちょうど上では、ノイズだけが脱出の助けになる。"
        "勾配降下法が止まるくぼみも、モーメンタムなら越えられる。",
        source="items 070, 072; Dauphin et al. 2014; Jin et al. 2017",
        correction="The text says that leaving a plateau takes steps that are lengthened along some directions. They "
        "make it quicker, but noise or momentum leaves as well, and exactly on the ridge adaptive steps do not.",
        correction_ja="教材は、プラトーを抜けるには、いくつかの方向のステップ幅を伸ばす必要があるとする。"
        "それは脱出を速めるが、ノイズやモーメンタムでも脱出できる。尾根のちょうど上では、"
        "適応的な手法でも脱出できない。",
        settings=Settings(),
        smoke={"steps": 30, "starts": 4, "rates": 3},
        small={"steps": 400, "rates": 7},
        small_seeds=4,
        variants=VARIANTS,
        measure=measure,
        contrasts=(
            Contrast("momentum leaves sooner than gradient descent", {"sgd/saddle": 1, "momentum/saddle": -1}),
            Contrast("RMSprop sooner than momentum", {"momentum/saddle": 1, "rmsprop/saddle": -1}),
            Contrast("Adam sooner than momentum", {"momentum/saddle": 1, "adam/saddle": -1}),
            Contrast("noise leaves the very ridge", {"noise/ridge": 1}, 0.8, trials="starts"),
            Contrast("gradient descent and Adam do not", {"sgd/ridge": -1, "adam/ridge": -1}, -0.1, exact=True),
            Contrast(
                "momentum passes a dent where gradient descent stays",
                {"momentum/dent": 1, "sgd/dent": -1},
                0.5,
                trials="starts",
            ),
        ),
        draw=draw,
        animate=animate,
    )
)
