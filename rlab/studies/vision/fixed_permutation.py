"""The same pixels in another order, the same for all images: who minds?"""

from __future__ import annotations

from typing import Any

from rlab.seeding import derive
from rlab.studies.images import SMALL, SMOKE, Images, built, pictures, trained
from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


def measure(settings: Images, variant: Any, seed: int) -> Numbers:
    """Accuracy on test images, whose pixels are in the order of the training images."""
    import torch
    from torch import Tensor, nn

    from rlab.studies.supervised import accuracy

    data = pictures(settings, seed)
    pixels = data.x[0].numel()
    order = torch.randperm(pixels, generator=torch.Generator().manual_seed(derive(seed, "order")))

    def shown(x: Tensor) -> Tensor:
        return x.flatten(1)[:, order].view_as(x) if variant["permuted"] else x

    def dense() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 128), nn.ReLU(), nn.Linear(128, 10))

    def convolutional() -> nn.Module:
        maps = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()]
        return nn.Sequential(*maps, nn.Flatten(), nn.Linear(8 * pixels, 10))

    network = built(dense if variant["network"] == "mlp" else convolutional, seed)
    trained(network, shown(data.x), data.y, settings, seed)
    return {"accuracy": accuracy(network, shown(data.x_test), data.y_test), "seen": shown(data.x[:1])[0, 0]}


def draw(figure: Any, results: Results) -> None:
    """Accuracies, and the first image as each sees it."""
    left, right = figure.subplots(1, 2, width_ratios=[3, 1])
    dots(left, {name.replace(" ", "\n"): column(seeds, "accuracy") for name, seeds in results.items()}, "accuracy")
    import numpy as np

    images = [results[name][0]["seen"] for name in ("cnn", "cnn permuted")]
    right.imshow(np.concatenate(images), cmap="gray_r")
    right.axhline(len(images[0]) - 0.5, color="tab:red")
    right.set(xticks=[], yticks=[])
    right.set_title("one image,\nand permuted", fontsize=8)


STUDIES.register("fixed-permutation")(
    Study(
        claim="A picture that is flattened loses nothing but what is next to what: a dense network learns as well "
        "from pixels in a fixed random order, and a convolutional one falls to its level.",
        claim_ja="画像を 1 次元に並べ替えても、失われるのは画素の隣接関係だけである。全結合ネットワークは、"
        "画素を一定の順序でシャッフルしても同じくらいよく学習し、CNN の精度はその水準まで下がる。",
        correction="The text says that flattening loses much information. Flattening can be undone, so none is lost; "
        "what is given up is the knowledge which pixels are neighbours.",
        correction_ja="教材は、1 次元に並べると多くの情報が失われるとする。並べ替えは元に戻せるので、"
        "情報は失われない。失われるのは、どの画素が隣り合うかという事前知識である。",
        source="item 176; LeCun et al. 1998",
        settings=Images(),
        smoke=SMOKE,
        small=SMALL,
        small_seeds=8,
        variants={
            f"{network}{' permuted' * permuted}": {"network": network, "permuted": permuted}
            for network in ("mlp", "cnn")
            for permuted in (False, True)
        },
        measure=measure,
        contrasts=(
            Contrast(
                "the dense network loses less than 2 points", {"mlp permuted/accuracy": 1, "mlp/accuracy": -1}, -0.02
            ),
            Contrast("the convolutional one loses", {"cnn/accuracy": 1, "cnn permuted/accuracy": -1}),
            Contrast(
                "it is then at most 1 point above the dense one",
                {"mlp permuted/accuracy": 1, "cnn permuted/accuracy": -1},
                -0.01,
            ),
        ),
        draw=draw,
        seeds=8,
    )
)
