"""One filter for all places against a filter of its own for each, and an autoencoder with one matrix for both ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, count_ticks, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Filters of 5x5 pixels over digits of 8x8 pixels that lie in the middle of 12x12, or anywhere there."""

    sizes: tuple[int, ...] = (100, 300, 1_000)
    """Numbers of training examples."""
    channels: int = 16
    """Filters at each place."""
    code: int = 16
    """Hidden units of the autoencoder."""
    steps: int = 1_500
    """Updates, of 50 examples each."""


def placed(x: Any, anywhere: bool, seed: int) -> Any:
    """Pictures[N, 1, 8, 8] -> [N, 1, 12, 12] with zeros around."""
    import torch

    out, rng = torch.zeros(len(x), 1, 12, 12), np.random.default_rng(seed)
    for k, (row, col) in enumerate(rng.integers(5, size=(len(x), 2)) if anywhere else [(2, 2)] * len(x)):
        out[k, :, row : row + 8, col : col + 8] = x[k]
    return out


def classifier(shared: bool, channels: int, seed: int) -> Any:
    """Pictures[B, 1, 12, 12] -> logits[B, 10]: filters, ReLU, the largest of 4x4 places, a linear layer."""
    import torch
    from torch import nn

    from rlab.nn.layers import drawing_from
    from rlab.seeding import derive

    class Free(nn.Module):
        """As a convolution, but with filters and biases of its own at each of the 8x8 places."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(64, channels, 25).uniform_(-0.2, 0.2))  # as a convolution begins
            self.bias = nn.Parameter(torch.empty(64, channels).uniform_(-0.2, 0.2))

        def forward(self, x: Any) -> Any:
            """x[B, 1, 12, 12] -> [B, C, 8, 8]."""
            patches = nn.functional.unfold(x, 5)  # [B, 25, 64]
            return (torch.einsum("pck,bkp->bcp", self.weight, patches) + self.bias.T).unflatten(2, (8, 8))

    with drawing_from(torch.Generator().manual_seed(derive(seed, "filters"))):
        first = nn.Conv2d(1, channels, 5) if shared else Free()
        return nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(4 * channels, 10))


def autoencoder(tied: bool, inputs: int, code: int, seed: int) -> Any:
    """Inputs[B, D] -> [B, D] by way of [B, code]; tied: the decoder is the encoder's matrix transposed."""
    import torch
    from torch import nn

    from rlab.nn.layers import drawing_from
    from rlab.seeding import derive

    class Autoencoder(nn.Module):
        """Linear, ReLU, linear."""

        def __init__(self) -> None:
            super().__init__()
            self.encode = nn.Linear(inputs, code)
            self.back = None if tied else nn.Parameter(self.encode.weight.detach().clone())
            self.bias = nn.Parameter(torch.zeros(inputs))

        def forward(self, x: Any) -> Any:
            """x[B, D] -> [B, D]."""
            return self.encode(x).relu() @ (self.encode.weight if self.back is None else self.back) + self.bias

    with drawing_from(torch.Generator().manual_seed(derive(seed, "autoencoder"))):
        return Autoencoder()


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Accuracy in percent over the number of examples, and parameters; of autoencoders the share of variance lost."""
    from rlab.nn.losses import squared_error
    from rlab.nn.optim import make_optimiser
    from rlab.seeding import derive
    from rlab.studies.supervised import accuracy, examples, fit

    if "tied" in variant:
        data = examples("digits", seed, preprocess="standard")
        x, x_test = data.x.flatten(1), data.x_test.flatten(1)
        auto = autoencoder(variant["tied"], x.shape[1], settings.code, seed)
        optimiser = make_optimiser("adam", auto.parameters(), lr=3e-3)
        fit(auto, x, x, optimiser, steps=settings.steps, batch_size=50, seed=seed, loss=squared_error)
        lost = float((auto(x_test) - x_test).square().mean().detach() / x_test.square().mean())
        return {"parameters": sum(p.numel() for p in auto.parameters()), "lost": lost}
    way = []
    for size in settings.sizes:
        data = examples("digits", seed, size)
        x, x_test = (placed(data[k], variant["anywhere"], derive(seed, "places", k)) for k in (0, 2))
        model = classifier(variant["shared"], settings.channels, seed)
        optimiser = make_optimiser("adam", model.parameters(), lr=3e-3)
        fit(model, x, data.y, optimiser, steps=settings.steps, batch_size=50, seed=seed)
        way.append(100 * accuracy(model, x_test, data.y_test))
    parameters = sum(p.numel() for p in model[0].parameters())
    curve = {"sizes": list(settings.sizes), "curve": np.round(way, 2)}
    return curve | {"few": way[0], "many": way[-1], "parameters": parameters}


def draw(figure: Any, results: Results) -> None:
    """Accuracy over the number of examples, where digits lie in the middle and where they lie anywhere."""
    for axes, where in zip(figure.subplots(1, 2, sharey=True), ("in the middle", "anywhere"), strict=True):
        ways = {
            f"{kind}: {results[f'{kind}, {where}'][0]['parameters']:,} parameters": column(
                results[f"{kind}, {where}"], "curve"
            )
            for kind in ("shared", "free")
        }
        sizes = results[f"shared, {where}"][0]["sizes"]
        curves(axes, sizes, ways, ("training examples", "test accuracy in percent"))
        axes.set(title=f"digits {where}")
        count_ticks(axes, sizes)
        axes.title.set_fontsize(9)


STUDIES.register("parameter-sharing")(
    Study(
        claim="Sharing filters over all places takes a 64th of their parameters; few examples then teach more where a "
        "digit may lie anywhere, and tying an autoencoder's two matrices saves half at little loss.",
        source="item 104; LeCun 1989; Vincent et al. 2010; Goodfellow et al. 2016, section 7.9",
        settings=Settings(),
        smoke={"sizes": (20, 40), "steps": 5, "channels": 4},
        small={"sizes": (100, 500), "steps": 200},
        small_seeds=4,
        variants={
            f"{kind}, {where}": {"shared": kind == "shared", "anywhere": where == "anywhere"}
            for where in ("in the middle", "anywhere")
            for kind in ("shared", "free")
        }
        | {"tied autoencoder": {"tied": True}, "free autoencoder": {"tied": False}},
        measure=measure,
        contrasts=(
            Contrast(
                "free filters have 64 times the parameters of shared ones",
                {"free, anywhere/parameters": 1, "shared, anywhere/parameters": -63.5},
                exact=True,
            ),
            Contrast(
                "digits anywhere, fewest examples: shared over 5 points better",
                {"shared, anywhere/few": 1, "free, anywhere/few": -1},
                above=5,
            ),
            Contrast(
                "that gain is larger than with the most examples",
                {
                    "shared, anywhere/few": 1,
                    "free, anywhere/few": -1,
                    "shared, anywhere/many": -1,
                    "free, anywhere/many": 1,
                },
            ),
            Contrast(
                "and larger than where digits lie in the middle",
                {
                    "shared, anywhere/few": 1,
                    "free, anywhere/few": -1,
                    "shared, in the middle/few": -1,
                    "free, in the middle/few": 1,
                },
            ),
            Contrast(
                "a tied autoencoder has under 0.6 of the parameters",
                {"free autoencoder/parameters": 0.6, "tied autoencoder/parameters": -1},
                exact=True,
            ),
            Contrast(
                "and loses no more than 0.05 of the variance more",
                {"free autoencoder/lost": 1, "tied autoencoder/lost": -1},
                above=-0.05,
            ),
        ),
        draw=draw,
        claim_ja="フィルタを全位置で共有すると、パラメータは 64 分の 1 で済む。"
        "数字がどこに現れるか分からないときは、少ない訓練データからより多くを学べる。また、"
        "自己符号化器の二つの行列を共有すると、わずかな損失で半分を節約できる。",
    )
)
