"""From which source to which target fine-tuning pays: images as they are, mirrored, with their pixels in disorder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

VIEWS = ("upright", "mirrored", "disordered")


@dataclass(frozen=True)
class Settings:
    """Handwritten digits: a source is 0 to 4 in one view, a target 5 to 9 in one view."""

    data: str = "mnist"
    """`digits` needs no files."""
    source: int = 5_000
    """Examples of 0 to 9, of which 0 to 4 are learned from first."""
    few: int = 30
    """Examples of the target."""
    test: int = 4_000
    """Examples; 0: all others."""
    hidden: int = 128
    """Units of each of two hidden layers, which travel."""
    source_updates: int = 2_000
    updates: int = 500
    """On the target, of all layers."""


def view(x: Any, kind: str) -> Any:
    """Images [N, 1, H, W] as a world sees them; the disorder of pixels is always the same."""
    import torch

    if kind != "disordered":
        return x.flip(3) if kind == "mirrored" else x
    flat = x.flatten(1)
    return flat[:, torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(0))].view_as(x)


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test errors in % on each target, from a source or from scratch."""
    import torch

    from rlab.seeding import derive
    from rlab.studies.fitting import accuracy, fit, network, parts

    def train(model: Any, x: Any, y: Any, updates: int) -> None:
        optimiser = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        fit(model, x, y, optimiser, steps=updates, batch_size=25, seed=seed)

    (x, y), (x_new, y_new) = parts(settings.data, seed, settings.source, 0)
    layers = [x[0].numel(), settings.hidden, settings.hidden, 5]
    known = network(layers, seed=derive(seed, "source"))
    if variant in VIEWS:
        train(known, view(x[y < 5], variant), y[y < 5], settings.source_updates)
    x_new, y_new = x_new[y_new >= 5], y_new[y_new >= 5] - 5
    n = settings.few
    end = n + settings.test if settings.test else len(y_new)
    errors = {}
    for target in VIEWS:
        seen = view(x_new[:end], target)
        model = network(layers, seed=seed)
        if variant in VIEWS:
            model[:-1].load_state_dict(known[:-1].state_dict())
        train(model, seen[:n], y_new[:n], settings.updates)
        errors[target] = 100 * (1 - accuracy(model, seen[n:], y_new[n:end]))
    return errors


def draw(figure: Any, results: Results) -> None:
    """The matrix of mean errors."""
    axes = figure.subplots()
    matrix = np.array([[np.mean(column(seeds, target)) for target in VIEWS] for seeds in results.values()])
    axes.imshow(matrix, cmap="YlOrRd", aspect="auto", alpha=0.6)
    for i, j in np.ndindex(matrix.shape):
        axes.text(j, i, f"{matrix[i, j]:.1f} %", ha="center", va="center", fontsize=9)
    axes.set_xticks(range(len(VIEWS)), [f"5 to 9,\n{name}" for name in VIEWS], fontsize=8)
    axes.set_yticks(range(len(matrix)), [n if n == "scratch" else f"0 to 4,\n{n}" for n in results], fontsize=8)
    axes.set_xlabel("target", fontsize=9)
    axes.set_ylabel("source", fontsize=9)
    axes.set_title("test error", fontsize=9)


def share(sources: dict[str, float]) -> dict[str, float]:
    """Weights of the three targets: those of `same`, `scratch` and `other` (half for each other view)."""
    weights: dict[str, float] = {}
    for target in VIEWS:
        weights[f"{target}/{target}"] = sources.get("same", 0.0) / 3
        weights[f"scratch/{target}"] = sources.get("scratch", 0.0) / 3
        for source in VIEWS:
            if source != target:
                weights[f"{source}/{target}"] = sources.get("other", 0.0) / 6
    return {key: weight for key, weight in weights.items() if weight}


STUDIES.register("transfer-matrix")(
    Study(
        claim="Fine-tuning saves errors where source and target look alike; from a source that sees images mirrored or "
        "with pixels in disorder it saves less than half as many.",
        claim_ja="転移学習(ファインチューニング)が誤りを減らすのは元と先の見た目が似ているときである。左右反転や画素を"
        "並べ替えた元からでは、減る誤りは半分にも満たない。",
        correction="The text has fine-tuning alone give considerable accuracy; how much depends on how alike source "
        "and target are.",
        correction_ja="テキストはファインチューニングだけでかなりの精度が出るというが、どれだけ出るかは元と先がどれほど"
        "似ているかによる。",
        source="item 151; Yosinski et al. 2014; Zamir et al. 2018",
        settings=Settings(),
        smoke={"data": "digits", "source": 300, "test": 0, "source_updates": 20, "updates": 8},
        small={"data": "digits", "source": 900, "test": 0, "source_updates": 400, "updates": 200},
        small_seeds=5,
        variants={**{name: name for name in VIEWS}, "scratch": "scratch"},
        measure=measure,
        contrasts=(
            Contrast("a source of the same view saves errors (points)", share({"scratch": 1, "same": -1})),
            Contrast("more than sources of other views (points)", share({"other": 1, "same": -1})),
            Contrast("more than twice as many (points)", share({"scratch": -0.5, "same": -0.5, "other": 1})),
        ),
        draw=draw,
        seeds=6,
    )
)
