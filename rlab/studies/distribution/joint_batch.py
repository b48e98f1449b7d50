"""What data parallel workers merge: gradients at every step, or parameters when all is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """A network with 32 hidden units on pictures of digits."""

    data: str = "digits"
    """The data set."""
    examples: int = 1_200
    """To learn from."""
    batch: int = 120
    """Of all workers together."""
    steps: int = 200
    """Updates."""
    rate: float = 0.3
    """The learning rate."""
    workers: int = 8
    """That the batch is divided among."""
    exchange: float = 0.02
    """Time of exchanging the gradients, in that of computing them for the whole batch on one worker."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Accuracy, how far parameters are from those of one worker, and the time of a step by a count of its work."""
    import torch
    from torch.nn.functional import cross_entropy

    from rlab.studies.supervised import accuracy, examples, network

    data = examples(settings.data, seed, settings.examples, preprocess="standard")
    workers = settings.workers
    order = torch.randperm(len(data.x), generator=torch.Generator().manual_seed(seed))

    def model() -> Any:
        return network((data.x[0].numel(), 32, 10), seed=seed).double()

    def slopes(net: Any, items: Any) -> Any:
        loss = cross_entropy(net(data.x[items].double()), data.y[items])
        return torch.autograd.grad(loss, list(net.parameters()))

    def step(net: Any, gradients: Any) -> None:
        with torch.no_grad():
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                parameter -= settings.rate * gradient

    def batch(number: int) -> Any:
        places = torch.arange(number * settings.batch, (number + 1) * settings.batch) % len(order)
        return order[places]

    def alone() -> Any:
        net = model()
        for number in range(settings.steps):
            step(net, slopes(net, batch(number)))
        return net

    def shared() -> Any:
        net = model()
        for number in range(settings.steps):
            whole = batch(number)
            parts = [
                (len(part), slopes(net, part)) for part in (whole[w::workers] for w in range(workers)) if len(part)
            ]
            step(net, [sum(n * g[i] for n, g in parts) / len(whole) for i in range(len(parts[0][1]))])
        return net

    def apart() -> Any:
        nets = [model() for _ in range(workers)]
        for worker, net in enumerate(nets):
            own = order[worker::workers]  # its part of the data, all along
            for number in range(settings.steps):
                part = torch.arange(number * settings.batch, (number + 1) * settings.batch) // workers % len(own)
                step(net, slopes(net, own[part.unique()]))
        mean = model()
        with torch.no_grad():
            for parameter, *each in zip(mean.parameters(), *(net.parameters() for net in nets), strict=True):
                parameter.copy_(torch.stack(each).mean(0))
        return mean

    one = alone()
    net = {"one": alone, "gradients": shared, "parameters": apart}[variant]()
    pairs = zip(one.parameters(), net.parameters(), strict=True)
    distance = max(float((a - b).detach().abs().max()) for a, b in pairs)
    took = 1.0 if variant == "one" else 1 / workers + (settings.exchange if variant == "gradients" else 0.0)
    test = accuracy(net, data.x_test.double(), data.y_test)
    return {"accuracy": test, "distance": distance, "time": took, "log_distance": float(np.log10(distance + 1e-16))}


def draw(figure: Any, results: Results) -> None:
    """Accuracy, and the distance from one worker's parameters."""
    left, right = figure.subplots(1, 2)
    dots(left, {name: column(results[name], "accuracy") for name in results}, "accuracy")
    dots(right, {name: column(results[name], "log_distance") for name in results}, "log10 of the distance from one")


STUDIES.register("joint-batch")(
    Study(
        claim="Workers that average their gradients by items at every step learn what one learns from the joint "
        "batch, to rounding, and eight of them need a fifth of its time; parameters averaged at the end differ.",
        claim_ja="各ステップで、ワーカーの勾配をデータ数で重み付けして平均すると、"
        "1 台が全体のバッチで学習した結果と、丸め誤差を除いて一致する。8 台なら、5 分の 1 の時間で済む。"
        "最後にパラメータを平均した結果は異なる。",
        source="items 278-279; Goyal et al. 2017; Dean et al. 2012",
        settings=Settings(),
        smoke={"examples": 100, "steps": 4, "batch": 22},
        small={"examples": 600, "steps": 80},
        small_seeds=5,
        seeds=10,
        variants={name: name for name in ("one", "gradients", "parameters")},
        measure=measure,
        contrasts=(
            Contrast("averaged gradients: parameters differ by less than 1e-9", {"gradients/distance": -1}, -1e-9),
            Contrast("averaged parameters differ by more than 0.01", {"parameters/distance": 1}, 0.01),
            Contrast("a step takes a fifth of the time or less", {"one/time": 0.2, "gradients/time": -1}, exact=True),
        ),
        draw=draw,
        correction="It is gradients, or parameters, that are merged, not data.",
        correction_ja="まとめるのはデータではなく、勾配またはパラメータである。",
    )
)
