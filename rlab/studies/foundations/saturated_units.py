"""How large weights may be at the start: a network with one hidden layer, its weights drawn small to large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.seeding import derive
from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

SCALES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Standard deviation of the first layer's weights; the inputs are standardised."""


@dataclass(frozen=True)
class Settings:
    """One hidden layer, gradient descent with momentum; only the first layer's scale and the activation differ."""

    data: str = "mnist"
    examples: int = 5_000
    test: int = 5_000
    width: int = 64
    steps: int = 400
    """Updates with 100 examples each."""
    rate: float = 0.1


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """By scale: mean slope of the hidden units at the start, and test accuracy at the end."""
    import torch

    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples(settings.data, seed, train=settings.examples, test=settings.test, preprocess="standard")
    slopes, scores = [], []
    for scale in SCALES:
        model = network([data.x[0].numel(), settings.width, 10], variant, seed=seed, init="xavier-normal")
        first: Any = model[1]
        activation = model[2]
        with torch.no_grad():
            generator = torch.Generator().manual_seed(derive(seed, "weights"))
            first.weight.copy_(scale * torch.randn(first.weight.shape, generator=generator))
        z = first(data.x.flatten(1)).detach().requires_grad_()
        activation(z).sum().backward()
        slopes.append(float(z.grad.mean()))
        optimiser = torch.optim.SGD(model.parameters(), settings.rate, momentum=0.9)
        fit(model, data.x, data.y, optimiser, steps=settings.steps, batch_size=100, seed=seed)
        scores.append(accuracy(model, data.x_test, data.y_test))
    ends = {"small": 0, "middle": 2, "large": -1}
    numbers = {f"slope {name}": slopes[k] for name, k in ends.items()} | {name: scores[k] for name, k in ends.items()}
    return numbers | {"slopes": slopes, "scores": scores}


def draw(figure: Any, results: Results) -> None:
    """Slopes and accuracies by scale."""
    axes = figure.subplots(1, 2)
    for panel, key, label in zip(
        axes, ("slopes", "scores"), ("mean slope of the hidden units at the start", "test accuracy"), strict=True
    ):
        ways = columns(results, key)
        curves(panel, SCALES, ways, ("standard deviation of the first weights", label))
        panel.set(xscale="log")


STUDIES.register("saturated-units")(
    Study(
        claim="Large first weights saturate sigmoid and tanh, whose slopes then vanish, and cost accuracy; but ReLU, "
        "which does not saturate, loses as well; 0.01 N is good for one hidden layer.",
        claim_ja="重みの初期値が大きいと、シグモイド関数と tanh は飽和して勾配が消え、精度が下がる。ただし、"
        "飽和しない ReLU でも精度は下がる。隠れ層が一つなら、標準偏差 0.01 の正規乱数でよい。",
        source="items 034, 036, 040; LeCun et al. 1998 (Efficient BackProp); Glorot & Bengio 2010",
        settings=Settings(),
        smoke={"data": "digits", "examples": 60, "test": 60, "width": 8, "steps": 3},
        small={"data": "digits", "examples": 600, "test": 0, "steps": 60},
        small_seeds=8,
        variants={"sigmoid": "sigmoid", "tanh": "tanh", "ReLU": "relu"},
        measure=measure,
        contrasts=(
            Contrast(
                "tanh: with large weights the mean slope is a fifth of that with small ones or less",
                {"tanh/slope small": 0.2, "tanh/slope large": -1},
            ),
            Contrast("sigmoid: the same", {"sigmoid/slope small": 0.2, "sigmoid/slope large": -1}),
            Contrast(
                "ReLU: the mean slope falls by a tenth at the most", {"ReLU/slope large": 1, "ReLU/slope small": -0.9}
            ),
            Contrast(
                "tanh: large weights cost 2 points of accuracy or more", {"tanh/small": 1, "tanh/large": -1}, 0.02
            ),
            Contrast(
                "ReLU: so they do, and saturation is not the only reason", {"ReLU/small": 1, "ReLU/large": -1}, 0.02
            ),
            Contrast(
                "0.01 N costs tanh 2 points against 0.1 N at the most", {"tanh/small": 1, "tanh/middle": -1}, -0.02
            ),
        ),
        draw=draw,
        seeds=5,
        correction="Saturation is the reason that the text gives, yet without it large weights do harm, too: the "
        "network starts far from any good one. And 0.01 N is for shallow networks: every further layer of n inputs "
        "multiplies the signal by 0.01 sqrt(n).",
        correction_ja="教材は飽和を理由に挙げるが、飽和しなくても大きな初期値は害になる。"
        "よい重みから遠い所で学習が始まるからである。標準偏差 0.01 でよいのは浅いネットワークだけで、"
        "n 入力の層を重ねるごとに、信号は 0.01√n 倍になる。",
    )
)
