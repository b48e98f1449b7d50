"""Into which valley gradient descent goes, by where it starts and how long its steps are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import column
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Two valleys, (x^2 - 1)^2 + tilt x: the left one is the deeper one, by 0.2 to 0.8 of a barrier of about 1."""

    starts: int = 400
    """Evenly from -1.7 to 1.7."""
    steps: int = 2_000
    """Updates."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Shares of the starts that end in their own valley and in the higher one; steepness there; borders on the way."""
    import torch

    from rlab.studies.descent import walk

    tilt = np.random.default_rng(derive(seed, "tilt")).uniform(0.1, 0.4)
    _, barrier, _ = sorted(np.roots([4, 0, -4, tilt]).real)
    starts = np.linspace(-1.7, 1.7, settings.starts)[:, None]
    path = walk(
        lambda x: ((x.square() - 1).square() + tilt * x).sum(1), starts, "sgd", settings.steps, lr=variant["rate"]
    )
    ends = torch.tensor(path[-1, :, 0]).nan_to_num(99.0)
    right = (ends > barrier).numpy()
    slope = (4 * ends**3 - 4 * ends + tilt).abs()[right].max() if right.any() else torch.tensor(0.0)
    return {
        "own": float(np.mean(right == (starts[:, 0] > barrier))),
        "higher": float(right.mean()),
        "borders": int(np.count_nonzero(np.diff(right))),
        "slope": float(slope.clamp(max=1e3)),
        "ends": np.round(np.clip(path[-1, :: max(1, len(starts) // 100), 0], -2, 2), 3),
    }


def draw(figure: Any, results: Results) -> None:
    """Where each start of the first seed ends."""
    axes = figure.subplots(1, len(results), sharey=True)
    for panel, (name, numbers) in zip(axes, results.items(), strict=True):
        ends = column(numbers, "ends")[0]
        panel.plot(np.linspace(-1.7, 1.7, len(ends)), ends, ".", ms=4, color="C0")
        panel.set_title(f"{name}: rate {VARIANTS[name]['rate']}", fontsize=9)
        panel.set_xlabel("start", fontsize=9)
        panel.grid(alpha=0.3)
    axes[0].set_ylabel("end (below 0: the deeper valley)", fontsize=9)


VARIANTS = {"short-steps": {"rate": 0.01}, "long-steps": {"rate": 0.15}}

STUDIES.register("nearest-valley")(
    Study(
        claim="Gradient descent in short steps ends in the valley it starts in, deep or not, where nothing in its "
        "gradient tells that another is deeper; in long steps neighbouring starts end in different valleys.",
        claim_ja="学習率の小さい勾配降下法は、深さによらず、出発した谷の底に着く。その勾配からは、"
        "ほかにもっと深い谷があることは分からない。学習率が大きいと、隣り合う出発点からでも別の谷に着く。",
        source="item 068; Goodfellow, Bengio & Courville 2016, section 4.3",
        settings=Settings(),
        smoke={"starts": 40, "steps": 100},
        small={"steps": 600},
        small_seeds=5,
        variants=VARIANTS,
        measure=measure,
        contrasts=(
            Contrast("short steps: all end in the valley they start in", {"short-steps/own": 1}, 0.99, trials="starts"),
            Contrast("a third and more of them in the higher one", {"short-steps/higher": 1}, 1 / 3),
            Contrast("where the gradient is below 1e-6, too", {"short-steps/slope": -1}, -1e-6),
            Contrast(
                "long steps: more borders between starts that end in different valleys",
                {"long-steps/borders": 1, "short-steps/borders": -1},
                0.5,
                trials=1,
                span=(1, 3),
            ),
        ),
        draw=draw,
    )
)
