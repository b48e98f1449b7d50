"""Deep networks with and without shortcuts: what they reach on their own training images, and what gradients say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.images import SMALL, SMOKE, Images, built, pictures, trained
from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings(Images):
    """He et al.'s networks for CIFAR with 6 n + 2 layers, narrower, on smaller images."""

    width: int = 8
    """Channels of the first of three stages; theirs is 16."""
    pool: int = 2
    """Images are averaged over so many pixels both ways."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Loss and error on the training images, and by which power of ten the gradient in the first block's weights is
    larger than in the last one's, before training and after it.
    """
    import torch
    from torch import nn
    from torch.nn.functional import avg_pool2d, cross_entropy

    from rlab.nn.encoders.residual import CIFAR, Basic, Cut, Layout, Padded, ResidualNet
    from rlab.studies.supervised import accuracy

    data = pictures(settings, seed)
    x = avg_pool2d(data.x, settings.pool)
    layout = Layout(Basic, (variant["blocks"],) * 3, settings.width, CIFAR, Padded if variant["shortcuts"] else Cut)

    def whole() -> nn.Sequential:
        encoder = ResidualNet(tuple(x.shape[1:]), layout)
        return nn.Sequential(encoder, nn.Linear(encoder.out_dim, 10))

    network = built(whole, seed)
    encoder: Any = network[0]
    ends = [encoder.layer1[0].conv1.weight, encoder.layer3[-1].conv2.weight]

    def powers() -> float:
        first, last = torch.autograd.grad(cross_entropy(network.train()(x[:64]), data.y[:64]), ends)
        return float((first.square().mean() / last.square().mean()).sqrt().log10())

    before = powers()
    trained(network, x, data.y, settings, seed)
    with torch.no_grad():
        loss = float(cross_entropy(network(x), data.y))
    error = 1 - accuracy(network, x, data.y)
    return {"loss": loss, "error": error, "gradient": before, "gradient after": powers()}


def draw(figure: Any, results: Results) -> None:
    """Training losses and gradients."""
    left, right = figure.subplots(1, 2)
    for panel, number, label in (
        (left, "loss", "loss on training images"),
        (right, "gradient", "gradient before training, first over last block (power of ten)"),
    ):
        dots(panel, {name.replace("-", "\n"): column(seeds, number) for name, seeds in results.items()}, label)
        panel.axhline(0, color="black", lw=1, ls=":")


STUDIES.register("plain-degrades")(
    Study(
        claim="Without shortcuts a network of 56 layers fits even its training images worse than one of 20, though its "
        "gradients do not vanish towards the front: with batch norm they explode there. Shortcuts ease both.",
        claim_ja="ショートカットのない 56 層のネットワークは、20 層のものより、訓練画像にさえうまく適合しない。"
        "しかし、入力側で勾配は消失せず、バッチ正規化のもとではむしろ爆発する。ショートカットは、どちらも和らげる。",
        correction="The text says that in deep networks the error does not reach the front. With batch normalisation "
        "it does, and before training it grows on its way, by a constant factor a layer (Yang et al.). He et al. found "
        "degradation nevertheless, and called it a difficulty of optimisation.",
        correction_ja="教材は、深いネットワークでは誤差が入力側まで届かないとする。バッチ正規化があれば届き、"
        "学習前には層ごとに一定の倍率で大きくなる（Yang ら）。He らは、それでも劣化が起こることを示し、"
        "最適化の難しさと呼んだ。",
        source="item 202; He et al. 2016, sections 4.1 and 4.2; Yang et al. 2019",
        settings=Settings(steps=300),
        smoke={**SMOKE, "steps": 1, "train": 32, "width": 4, "pool": 1},
        small={**SMALL, "steps": 200, "batch_size": 32, "width": 4, "pool": 1},
        small_seeds=3,
        variants={
            f"{kind}-{6 * n + 2}": {"blocks": n, "shortcuts": kind == "residual"}
            for kind in ("plain", "residual")
            for n in (3, 9)
        },
        measure=measure,
        contrasts=(
            Contrast("plain: 20 layers have learned by then, over two thirds", {"plain-20/error": -1}, -1 / 3),
            Contrast("plain: 56 layers fit worse than 20", {"plain-56/loss": 1, "plain-20/loss": -1}),
            Contrast(
                "with shortcuts depth costs less",
                {"plain-56/loss": 1, "plain-20/loss": -1, "residual-56/loss": -1, "residual-20/loss": 1},
            ),
            Contrast("plain-56, untrained: the first gradient is over 100 times the last", {"plain-56/gradient": 1}, 2),
            Contrast(
                "over ten times as far apart as with shortcuts",
                {"plain-56/gradient": 1, "residual-56/gradient": -1},
                1,
            ),
            Contrast("trained: it is still over a tenth of the last", {"plain-56/gradient after": 1}, -1),
        ),
        draw=draw,
        seeds=5,
    )
)
