"""The two places where a convolutional network learns, each with the other left as it was at random."""

from __future__ import annotations

from typing import Any

from rlab.studies.images import SMALL, SMOKE, Images, built, pictures, trained
from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


def measure(settings: Images, variant: Any, seed: int) -> Numbers:
    """Accuracy where only the named parts learn; of the first seed also the kernels of the first layer."""
    from torch import nn

    from rlab.studies.supervised import accuracy

    data = pictures(settings, seed)
    pixels = data.x[0].numel()

    def whole() -> nn.ModuleDict:
        maps = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()]
        return nn.ModuleDict({"maps": nn.Sequential(*maps), "classes": nn.Linear(8 * pixels, 10)})

    parts = built(whole, seed)
    for name, part in parts.items():
        part.requires_grad_(name in variant)
    network = nn.Sequential(parts["maps"], nn.Flatten(), parts["classes"])
    if variant == ["pixels"]:
        network = built(lambda: nn.Sequential(nn.Flatten(), nn.Linear(pixels, 10)), seed)
    trained(network, data.x, data.y, settings, seed)
    numbers: dict[str, Any] = {"accuracy": accuracy(network, data.x_test, data.y_test)}
    if seed == 0:
        maps: Any = parts["maps"]
        numbers["kernels"] = maps[0].weight.detach()[:, 0].numpy().round(2)
    return numbers


def draw(figure: Any, results: Results) -> None:
    """Accuracies, and the kernels of the first layer at random and learned."""
    left, *right = figure.subplots(1, 3, width_ratios=[3, 1, 1])
    dots(left, {name.replace(" ", "\n"): column(seeds, "accuracy") for name, seeds in results.items()}, "accuracy")
    import numpy as np

    for panel, name, title in zip(right, ("classes alone", "both"), ("at random", "learned"), strict=True):
        kernels = np.pad(np.array(results[name][0]["kernels"]), ((0, 0), (0, 1), (0, 1)), constant_values=np.nan)
        panel.imshow(np.vstack([np.hstack(list(kernels[k : k + 2])) for k in range(0, 16, 2)]), cmap="coolwarm")
        panel.set(xticks=[], yticks=[])
        panel.set_title(f"kernels\n{title}", fontsize=8)


STUDIES.register("random-convolutions")(
    Study(
        claim="A convolutional network learns in two places: training both its kernels and the layer on top is "
        "better than either alone, and kernels at random are already worth more than bare pixels.",
        claim_ja="CNN は、カーネルと最後の層の二か所で学習する。両方を学習すれば、どちらか一方だけよりよい。"
        "ランダムなカーネルでも、画素をそのまま使うより役に立つ。",
        source="items 187, 189; Jarrett et al. 2009, section 3; Saxe et al. 2011",
        settings=Images(),
        smoke=SMOKE,
        small=SMALL,
        small_seeds=8,
        variants={
            "pixels": ["pixels"],
            "classes alone": ["classes"],
            "kernels alone": ["maps"],
            "both": ["maps", "classes"],
        },
        measure=measure,
        contrasts=(
            Contrast("both beat the layer on top alone", {"both/accuracy": 1, "classes alone/accuracy": -1}),
            Contrast("both beat the kernels alone", {"both/accuracy": 1, "kernels alone/accuracy": -1}),
            Contrast("kernels at random beat pixels", {"classes alone/accuracy": 1, "pixels/accuracy": -1}),
        ),
        draw=draw,
        seeds=8,
    )
)
