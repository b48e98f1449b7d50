"""How deep a convolutional network must be."""

from __future__ import annotations

from typing import Any

from rlab.studies.images import SMALL, SMOKE, Images, built, pictures, size, trained
from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

DEPTHS = {"linear": 0, "1 convolution": 1, "2 convolutions": 2, "4 convolutions": 4}


def make(depth: int, pixels: int) -> Any:
    """Convolutions with a halving after the first, and one linear layer."""
    from torch import nn

    from rlab.nn.encoders.mobilenet import unit

    units = []
    for k in range(depth):
        units += [unit(16 if k else 1, 16, 3, 1, 1, nn.ReLU)] + [nn.MaxPool2d(2)] * (k == 0)
    return nn.Sequential(*units, nn.Flatten(), nn.Linear(4 * pixels if depth else pixels, 10))


def measure(settings: Images, variant: Any, seed: int) -> Numbers:
    """Accuracy and weights."""
    from rlab.studies.supervised import accuracy

    data = pictures(settings, seed)
    network = built(lambda: make(variant, data.x[0].numel()), seed)
    trained(network, data.x, data.y, settings, seed)
    return {"accuracy": accuracy(network, data.x_test, data.y_test), "weights": size(network)}


def draw(figure: Any, results: Results) -> None:
    """Accuracies, with the number of weights."""
    groups = {f"{name}\n{seeds[0]['weights']:,} weights": column(seeds, "accuracy") for name, seeds in results.items()}
    dots(figure.subplots(), groups, "accuracy")


STUDIES.register("one-convolution")(
    Study(
        claim="A convolutional network need not be deep: one layer of convolution with pooling already recognises "
        "better than a linear classifier, and on small images three more layers add less than it does.",
        claim_ja="CNN は、深くなくてもよい。畳み込みとプーリングの 1 層だけで、線形分類器よりよく認識できる。"
        "小さな画像では、さらに 3 層を加えても、この 1 層ほどの改善はない。",
        source="item 190; Fukushima 1980; LeCun et al. 1998",
        settings=Images(),
        smoke=SMOKE,
        small=SMALL,
        small_seeds=5,
        variants=DEPTHS,
        measure=measure,
        contrasts=(
            Contrast("one convolution beats none", {"1 convolution/accuracy": 1, "linear/accuracy": -1}),
            Contrast(
                "three more add less than the first",
                {"1 convolution/accuracy": 2, "linear/accuracy": -1, "4 convolutions/accuracy": -1},
            ),
        ),
        draw=draw,
        seeds=8,
    )
)
