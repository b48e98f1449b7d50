"""A return of two values: what a distribution shows and an expectation hides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

ENV = "rlab/Coin-v0"
SURE, COIN = 0, 1
"""Actions of the first state."""


@dataclass(frozen=True)
class Settings:
    """The first action leads to a sure 0, the second to +1 or -1 by a coin, both one step later."""

    steps: int = 8_000
    """Environment steps, all at random: both actions are seen equally often."""
    gamma: float = 0.9
    """Discount per step, so that the coin's returns are +-gamma."""
    near: float = 0.15
    """How far from a true value probability counts as lying there."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Wasserstein distances of the learned returns of the first state; DQN's count as single points."""
    import torch
    from scipy.stats import wasserstein_distance

    from rlab.studies.rl import learner, run

    changes = {"n_step": 1, "gamma": settings.gamma, "steps": settings.steps, "learning_starts": 200}
    changes |= {"epsilon_start": 1.0, "epsilon_end": 1.0, "train_every": 8, "batch_size": 128, "target_every": 256}
    support = {"v_min": -1.5, "v_max": 1.5, "atoms": 31} if variant["recipe"] == "c51" else {}
    with learner(variant["recipe"], ENV, seed, **changes, **support) as built:
        run(built)
        network = built.agent.online
        with torch.no_grad():
            output = network(torch.zeros(1, dtype=torch.int64))[0]
        if variant["recipe"] == "c51":
            values, chances = network.support.double().numpy(), output.double().softmax(dim=-1).numpy()
        else:  # what is known is one number an action: all probability there
            values, chances = output.double().numpy(), np.eye(2)
    truth, half = np.array([-settings.gamma, settings.gamma]), np.array([0.5, 0.5])
    near = [chances[COIN][np.abs(values - end) <= settings.near].sum() for end in truth]
    return {
        "distance": wasserstein_distance(values, truth, chances[COIN], half),
        "apart": wasserstein_distance(values, values, chances[SURE], chances[COIN]),
        "smaller_peak": float(min(near)),
        "values": np.round(values, 4),
        "chances": np.round(chances, 5),
    }


def draw(figure: Any, results: Results) -> None:
    """The learned returns of both actions: C51's probabilities, DQN's single values."""
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    for axes, action, title in zip(panels, (SURE, COIN), ("a sure 0", "+1 or -1 by a coin"), strict=True):
        for seed in results["c51"]:
            axes.plot(seed["values"], seed["chances"][action], color="C0", alpha=0.5, lw=1)
        for seed in results["dqn"]:
            axes.axvline(seed["values"][action], color="C1", alpha=0.5, lw=1)
        axes.set_title(title, fontsize=9)
        axes.set_ylabel("probability", fontsize=9)
    axes.plot([], [], color="C0", label="c51, a line a seed")
    axes.plot([], [], color="C1", label="dqn's value")
    axes.legend(fontsize=8)
    axes.set_xlabel("return", fontsize=9)


STUDIES.register("c51-bimodal")(
    Study(
        claim="Categorical DQN learns that a return is one of two values, which an expected value cannot tell from a "
        "sure return of the same mean.",
        source="item 273; Bellemare et al. 2017, section 4",
        settings=Settings(),
        smoke={"steps": 400},
        variants={"dqn": {"recipe": "dqn"}, "c51": {"recipe": "c51"}},
        measure=measure,
        contrasts=(
            Contrast("C51 is nearer to the true returns than DQN", {"dqn/distance": 1, "c51/distance": -1}),
            Contrast("C51 is within 0.1 of them", {"c51/distance": -1}, above=-0.1),
            Contrast("C51's smaller peak holds more than 0.4", {"c51/smaller_peak": 1}, above=0.4),
            Contrast("C51 tells coin from sure by 0.5 more", {"c51/apart": 1, "dqn/apart": -1}, above=0.5),
        ),
        draw=draw,
        seeds=8,
        small={"steps": 3_000},
        small_seeds=4,
        claim_ja="Categorical DQN は、収益が二つの値のどちらかであることを学習する。期待値だけでは、"
        "平均が同じ確実な収益と区別できない。",
    )
)
