"""A kernel as a detector: what it answers to, what fools it, and what learning makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

CELL = 6
"""Patterns of 3x3 lie apart, each somewhere in a cell of its own."""

PATTERNS = {
    "X": [[1, 0, 1], [0, 1, 0], [1, 0, 1]],
    "+": [[0, 1, 0], [1, 1, 1], [0, 1, 0]],
    "patch": [[1, 1, 1], [1, 1, 1], [1, 1, 1]],
}


@dataclass(frozen=True)
class Settings:
    """Noisy images with an X, a plus, and in every second one a bright patch."""

    images: int = 2_000
    """To learn from, and as many to be judged by."""
    side: int = 24
    """Height and width, in pixels."""
    noise: float = 0.3
    """Standard deviation of each pixel; patterns are 1."""
    steps: int = 150
    """Updates of a kernel that is learned."""


def scenes(settings: Settings, seed: int) -> tuple[Any, dict[str, Any]]:
    """Images float32[N, 1, side, side], and for each pattern its place as a number of the feature map; every second
    image has no patch.
    """
    rng = np.random.default_rng(seed)
    count, row = settings.images, settings.side // CELL
    cells = rng.permuted(np.tile(np.arange(row * row), (count, 1)), axis=1)
    images = rng.normal(0, settings.noise, (count, settings.side, settings.side)).astype(np.float32)
    places = {}
    for k, (name, pattern) in enumerate(PATTERNS.items()):
        top, left = (CELL * part + rng.integers(0, CELL - 2, count) for part in divmod(cells[:, k], row))
        places[name] = top * (settings.side - 2) + left
        for i in range(0, count, 2 if name == "patch" else 1):
            images[i, top[i] : top[i] + 3, left[i] : left[i] + 3] += np.array(pattern)
    return images[:, None], places


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """How often the largest value of the feature map is where the X is, with and without a bright patch elsewhere."""
    import torch
    from torch import nn

    from rlab.nn.optim import make_optimiser
    from rlab.studies.supervised import fit

    x, places = scenes(settings, derive(seed, "learned"))
    network = nn.Sequential(nn.Conv2d(1, 1, 3, bias=False), nn.Flatten())
    kernel: Any = network[0].weight
    with torch.no_grad():
        kernel[0, 0] = torch.tensor(PATTERNS[variant["kernel"]], dtype=torch.float32)
        if variant["centred"]:
            kernel -= kernel.mean()
    if variant["learned"]:
        nn.init.zeros_(kernel)
        optimiser = make_optimiser("adam", [kernel], lr=0.05)
        target = torch.from_numpy(places[variant["kernel"]])
        fit(network, torch.from_numpy(x), target, optimiser, steps=settings.steps, batch_size=100, seed=seed)
    x, places = scenes(settings, derive(seed, "judged"))
    with torch.no_grad():
        detected = network(torch.from_numpy(x)).argmax(1).numpy() == places["X"]
    return {
        "patch": detected[::2].mean(),
        "alone": detected[1::2].mean(),
        "kernel": kernel[0, 0].detach().numpy().round(3),
    }


def draw(figure: Any, results: Results) -> None:
    """Shares found, and every kernel."""
    above, below = figure.subfigures(2, 1, height_ratios=[3, 2])
    axes = above.subplots(1, 2, sharey=True)
    for panel, number, title in zip(axes, ("alone", "patch"), ("X and +", "X, + and a bright patch"), strict=True):
        dots(panel, {str(k): [s[number] for s in seeds] for k, seeds in enumerate(results.values(), 1)}, "X found")
        panel.set_title(title, fontsize=9)
    for k, (panel, (name, seeds)) in enumerate(zip(below.subplots(1, len(results)), results.items(), strict=True), 1):
        kernel = np.array(seeds[0]["kernel"])
        panel.imshow(kernel, cmap="coolwarm", vmin=-abs(kernel).max(), vmax=abs(kernel).max())
        panel.set(xticks=[], yticks=[])
        panel.set_title(f"{k}: {name}", fontsize=8)


STUDIES.register("matched-filters")(
    Study(
        claim="A kernel answers most where the image is like it, but brightness fools one of zeros and ones; which "
        "values are best depends on what is to be found, and learning finds them.",
        claim_ja="カーネルは、自分に似た模様の所で最も強く応答するが、0 と 1 だけのカーネルは、"
        "単に明るい所にも反応する。どの値が最良かは、何を検出したいかで決まり、学習によって得られる。",
        correction="The slide reads a large value as a match and lists centre, top left, top right and bottom right. "
        "Its own map has 4 in the centre, 3 at top centre, top right, bottom left and bottom right, and only 2 at the "
        "top left. A plain sum of products is also large wherever it is bright.",
        correction_ja="教材のスライドは、大きな値を一致と読み、中央、左上、右上、右下を挙げる。実際のマップの値は、"
        "中央が 4、上中央、右上、左下、右下が 3 で、左上は 2 にすぎない。また、単純な積和は、"
        "明るい所ならどこでも大きくなる。",
        source="items 174, 175; LeCun et al. 1998",
        settings=Settings(),
        smoke={"images": 60, "steps": 5},
        small={"images": 600},
        small_seeds=5,
        variants={
            "X, 0 and 1": {"kernel": "X", "centred": False, "learned": False},
            "X, mean 0": {"kernel": "X", "centred": True, "learned": False},
            "learned for X": {"kernel": "X", "centred": False, "learned": True},
            "learned for +": {"kernel": "+", "centred": False, "learned": True},
        },
        measure=measure,
        contrasts=(
            Contrast("X alone: the kernel of 0 and 1 finds it in most images", {"X, 0 and 1/alone": 1}, 0.5),
            Contrast("a bright patch fools it", {"X, 0 and 1/alone": 1, "X, 0 and 1/patch": -1}, 0.1),
            Contrast("not the one of mean 0", {"X, mean 0/patch": 1, "X, 0 and 1/patch": -1}, 0.1),
            Contrast(
                "the learned kernel finds more than that of 0 and 1",
                {"learned for X/patch": 1, "X, 0 and 1/patch": -1},
                0.1,
            ),
            Contrast(
                "what is learned for + does not find X", {"learned for X/alone": 1, "learned for +/alone": -1}, 0.5
            ),
        ),
        draw=draw,
        seeds=10,
    )
)
