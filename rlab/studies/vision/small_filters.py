"""What depth costs, and how small filters and narrow places save it."""

from __future__ import annotations

from typing import Any

from rlab.studies.images import SMALL, SMOKE, Images, built, pictures, trained
from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

CHANNELS = 16
PHOTO = (3, 224, 224)


def measure(settings: Images, variant: Any, seed: int) -> Numbers:
    """Of filters: accuracy and millions of multiply-adds of that layer; of published networks thousands of millions."""
    from torch import nn

    from rlab.nn.encoders.mobilenet import unit
    from rlab.nn.models import multiply_adds
    from rlab.studies.supervised import accuracy

    if isinstance(variant, str):
        return vgg() if variant == "vgg" else inception()
    data = pictures(settings, seed)
    shape = (CHANNELS, *(side // 2 for side in data.x.shape[2:]))

    def stack() -> nn.Sequential:
        return nn.Sequential(*(unit(CHANNELS, CHANNELS, kernel, 1, 1, nn.ReLU) for kernel in variant))

    def whole() -> nn.Sequential:
        before = [unit(1, CHANNELS, 3, 1, 1, nn.ReLU), nn.MaxPool2d(2)]
        return nn.Sequential(*before, stack(), nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], 10))

    network = trained(built(whole, seed), data.x, data.y, settings, seed)
    products = multiply_adds(network[2], shape) / 1e6
    return {"accuracy": accuracy(network, data.x_test, data.y_test), "products": products}


def vgg() -> dict[str, float]:
    """VGG with 11 and with 19 layers."""
    import torch

    from rlab.nn.models import classifier, multiply_adds

    with torch.device("meta"):
        return {n: multiply_adds(classifier(n, PHOTO, 1000), PHOTO) / 1e9 for n in ("vgg11", "vgg19")}


def inception() -> dict[str, float]:
    """GoogLeNet's nine modules as they are and without their 1x1 in front of 3x3, and their slowest branches alone.

    Counted for one place of the maps of each, times the places.
    """
    from rlab.nn.encoders.googlenet import INCEPTIONS

    side = {"3": 28, "4": 14, "5": 7}
    narrow = wide = slowest = 0
    for key, w in INCEPTIONS.items():
        pooled = w.inside * w.pooled
        reduced = [w.inside * a + 9 * a * b for a, b in ((w.reduce3, w.wide3), (w.reduce5, w.wide5))]
        branches = [w.inside * w.single, *reduced, pooled]
        places = side[key[0]] ** 2
        narrow += places * sum(branches)
        slowest += places * max(branches)
        wide += places * (w.inside * w.single + 9 * w.inside * (w.wide3 + w.wide5) + pooled)
    return {"narrow": narrow / 1e9, "wide": wide / 1e9, "at once": narrow / slowest}


def draw(figure: Any, results: Results) -> None:
    """Accuracy and cost of the filters; cost of the published networks."""
    left, right = figure.subplots(1, 2)
    groups = {}
    for name in ("5x5", "3x3, 3x3", "7x7", "3x3, 3x3, 3x3"):
        seeds = results[name]
        groups[f"{name}\n{seeds[0]['products']:.2g}".replace(", ", "\n")] = column(seeds, "accuracy")
    dots(left, groups, "accuracy")
    left.set_xlabel("millions of multiply-adds", fontsize=8)
    first = {**results["vgg"][0], **results["inception"][0]}
    names = {"VGG-11": "vgg11", "VGG-19": "vgg19", "inception\nas it is": "narrow", "without\n1x1": "wide"}
    right.bar(list(names), [first[key] for key in names.values()], color="0.6")
    right.set_ylabel("thousands of millions of multiply-adds", fontsize=8)
    right.tick_params(labelsize=7)


STUDIES.register("small-filters")(
    Study(
        claim="Depth costs computation in proportion, and small filters save it: two 3x3 in place of one 5x5 are as "
        "good and cheaper, and 1x1 in front more than halves an inception module; its branches at once save little.",
        claim_ja="深くすると計算量は比例して増えるが、小さなフィルタで抑えられる。3x3 を 2 枚重ねたものは、"
        "5x5 の 1 枚と同じくらいの精度で、計算量は少ない。手前に置いた 1x1 は、"
        "Inception モジュールの計算量を半分未満にする。枝を同時に計算しても、速さはあまり変わらない。",
        correction="The text adds that the inception module makes parallel computing easy. Its branches are "
        "independent, but one of them makes most of the work, so all at once are hardly 1.5 times as fast.",
        correction_ja="教材は、Inception モジュールによって並列計算が容易になるとも述べる。枝どうしは独立だが、"
        "計算の大半は 1 本の枝にあるので、すべてを同時に計算しても 1.5 倍ほどにしかならない。",
        source="items 198, 199, 200; Simonyan & Zisserman 2015; Szegedy et al. 2015",
        settings=Images(),
        smoke=SMOKE,
        small=SMALL,
        small_seeds=4,
        variants={
            "5x5": [5],
            "3x3, 3x3": [3, 3],
            "7x7": [7],
            "3x3, 3x3, 3x3": [3, 3, 3],
            "vgg": "vgg",
            "inception": "inception",
        },
        measure=measure,
        contrasts=(
            Contrast(
                "two 3x3 cost less than three quarters of 5x5",
                {"5x5/products": 0.75, "3x3, 3x3/products": -1},
                exact=True,
            ),
            Contrast("and are less than 3 points below", {"3x3, 3x3/accuracy": 1, "5x5/accuracy": -1}, -0.03),
            Contrast(
                "three 3x3 are less than 3 points below 7x7", {"3x3, 3x3, 3x3/accuracy": 1, "7x7/accuracy": -1}, -0.03
            ),
            Contrast("VGG-19 costs more than twice VGG-11", {"vgg/vgg19": 1, "vgg/vgg11": -2}, exact=True),
            Contrast(
                "inception without 1x1 more than twice as much",
                {"inception/wide": 1, "inception/narrow": -2},
                exact=True,
            ),
            Contrast("its branches at once: less than 1.7 times as fast", {"inception/at once": -1}, -1.7, exact=True),
        ),
        draw=draw,
        seeds=6,
    )
)
