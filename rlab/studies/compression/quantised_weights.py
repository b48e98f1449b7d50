"""How many bits a weight needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """A network of two hidden layers, trained once a seed; its weights are then quantised, without more training."""

    data: str = "mnist"
    """`digits` needs no files."""
    train: int = 20_000
    """Training examples; 0: all."""
    test: int = 10_000
    """Test examples; 0: all."""
    hidden: int = 256
    updates: int = 2_000
    bits: tuple[int, ...] = (2, 3, 4, 5, 6, 8)


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test accuracy in % in float32 and by bits, with a scale for each unit or for each layer."""
    import torch

    from rlab.compress.quantise import quantise
    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples(settings.data, seed, settings.train, settings.test)
    model = network((data.x[0].numel(), settings.hidden, settings.hidden, 10), seed=seed)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    fit(model, data.x, data.y, optimiser, steps=settings.updates, batch_size=64, seed=seed)
    exact = [(p, p.detach().clone()) for p in model.parameters() if p.dim() > 1]
    whole = 100 * accuracy(model, data.x_test, data.y_test)
    by_bits = []
    with torch.no_grad():
        for bits in settings.bits:
            for p, w in exact:
                p.copy_(quantise(w, bits, per_channel=variant).dequantise())
            by_bits.append(100 * accuracy(model, data.x_test, data.y_test))
    return {
        "float": whole,
        "fewest": by_bits[0],
        "three": by_bits[1],
        "most": by_bits[-1],
        "accuracies": by_bits,
        "bits": settings.bits,
    }


def draw(figure: Any, results: Results) -> None:
    """Accuracy by bits."""
    axes = figure.subplots()
    bits = results["units"][0]["bits"]
    shown = {f"a scale for each {name[:-1]}": column(seeds, "accuracies") for name, seeds in results.items()}
    curves(axes, bits, shown, ("bits of a weight", "test accuracy in %"))
    axes.axhline(float(np.mean([seed["float"] for seed in results["units"]])), color="grey", ls=":", label="float32")
    axes.legend()


STUDIES.register("quantised-weights")(
    Study(
        claim="Weights of 8 bits keep the accuracy of 32; with 2 bits it falls, less so with a scale for each unit.",
        claim_ja="重みを 8 ビットに量子化しても、32 ビットの精度を保つ。2 ビットでは下がるが、"
        "ユニットごとにスケールを持てば、あまり下がらない。",
        source="item 285; Nagel et al. 2021, section 2",
        correction="The texts name 64 to 32 bits; today it is 32 to 16, 8 or 4.",
        correction_ja="教材は、64 ビットから 32 ビットへの量子化を挙げる。現在は、32 ビットから 16、8、"
        "4 ビットへの量子化が一般的である。",
        settings=Settings(),
        smoke={"data": "digits", "train": 200, "test": 100, "hidden": 32, "updates": 20},
        small={"data": "digits", "train": 0, "test": 0, "hidden": 128, "updates": 800},
        small_seeds=5,
        variants={"units": True, "layers": False},
        measure=measure,
        contrasts=(
            Contrast(
                "8 bits lose less than half a point",
                {"units/most": 1, "units/float": -1},
                above=-0.5,
            ),
            Contrast("2 bits lose more than half a point", {"layers/float": 1, "layers/fewest": -1}, above=0.5),
            Contrast("at 2 bits a scale for each unit keeps more", {"units/fewest": 1, "layers/fewest": -1}),
        ),
        draw=draw,
        seeds=5,
    )
)
