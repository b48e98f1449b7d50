"""What a network over time has to do one after the other, what that costs, and what tells a Transformer the order."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, count_ticks, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Untrained networks; an update's time is measured."""

    lengths: tuple[int, ...] = (16, 64, 256, 1024)
    """Steps of a sequence."""
    width: int = 256
    """Units of a layer."""
    batch: int = 1
    """Sequences of an update."""
    repeats: int = 9
    """Updates of each length that are timed, by the processor's clock; the fastest counts."""


def chain(output: Any) -> int:
    """The most operations of the graph behind a tensor that have to be done one after the other."""
    depth: dict[Any, int] = {}
    waiting = [output.grad_fn]
    while waiting:
        node = waiting[-1]
        missing = [before for before, _ in node.next_functions if before is not None and before not in depth]
        if missing:
            waiting += missing
        else:
            depth[node] = 1 + max((depth[before] for before, _ in node.next_functions if before is not None), default=0)
            waiting.pop()
    return depth[output.grad_fn]


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """By length, operations one after the other, and microseconds a step; what another order of inputs changes."""
    import torch

    from rlab.nn.sequence import make_sequence_encoder
    from rlab.nn.sequence.recurrent import RecurrentLayer
    from rlab.seeding import derive
    from rlab.studies.images import built

    size = settings.width
    options = {} if variant == "lstm" else {"layers": 1, "heads": 2, "causal": False, "positions": variant}
    name = "lstm" if variant == "lstm" else "transformer"
    model: Any = built(lambda: make_sequence_encoder(name, size, size, **options), seed)
    generator = torch.Generator().manual_seed(derive(seed, "inputs"))
    operations, times = [], []
    for length in settings.lengths:
        x = torch.randn(settings.batch, length, size, generator=generator)
        if variant == "lstm":  # its equation, since a fused kernel is one operation of the graph
            layer = next(part for part in model.modules() if isinstance(part, RecurrentLayer))
            zeros = x.new_zeros(len(x), size)
            operations.append(chain(layer.loop(x, (zeros, zeros))[0]))
        else:
            operations.append(chain(model(x)))
        took = []
        for _ in range(settings.repeats + 1):
            began = time.process_time()
            model(x).square().mean().backward()
            took.append(time.process_time() - began)
        times.append(1e6 * min(took[1:]) / (settings.batch * length))
    n = settings.lengths[0]
    x = torch.randn(1, n, size, generator=generator).double()
    order = torch.cat([torch.arange(3, n - 1), torch.arange(3), torch.tensor([n - 1])])  # the last step stays
    model = model.double()
    with torch.no_grad():
        changed = float((model(x)[:, -1] - model(x[:, order])[:, -1]).norm() / model(x)[:, -1].norm())
    return {
        "operations": operations,
        "clock_step": np.round(times, 3),
        "clock_long": times[-1],
        "longest": float(operations[-1]),
        "grows": operations[-1] / operations[0] / (settings.lengths[-1] / settings.lengths[0]),
        "changed": changed,
        "lengths": settings.lengths,
    }


def draw(figure: Any, results: Results) -> None:
    """Operations and times by length."""
    lengths = results["lstm"][0]["lengths"]
    labels = {"operations": "operations in a row", "clock_step": "microseconds a step, training"}
    shown = {name: results[name] for name in ("lstm", "sinusoidal")}
    for axes, (name, label) in zip(figure.subplots(2, 1), labels.items(), strict=True):
        curves(axes, lengths, columns(shown, name), ("steps of a sequence", label))
        count_ticks(axes, lengths)
        axes.set(yscale="log")


STUDIES.register("attention-in-parallel")(
    Study(
        claim="What a recurrent network does one after the other grows with the sequence, what a Transformer does so "
        "does not, so that a step of its training takes less time; in return it does not know the order of its inputs "
        "unless positions are added.",
        claim_ja="RNN が順に行う計算は系列の長さとともに増えるが、Transformer では増えないので、"
        "学習の 1 ステップにかかる時間が短い。その代わり、位置の情報を加えなければ、入力の順序が分からない。",
        correction="The text says that it is of attention only. It also has dense layers, skips, norms and positions; "
        "its work grows with the square of the length, and writing goes word by word.",
        correction_ja="教材は、Transformer は Attention だけからなるとする。実際には、全結合層、スキップ接続、"
        "正規化、位置エンコーディングもある。計算量は長さの 2 乗に比例し、生成は 1 語ずつ進む。",
        source="item 245; Vaswani et al. 2017, section 4",
        settings=Settings(),
        smoke={"lengths": (4, 8), "width": 8, "batch": 1, "repeats": 1},
        small={"lengths": (16, 64, 256), "repeats": 5},
        small_seeds=8,
        variants={"lstm": "lstm", "sinusoidal": "sinusoidal", "none": "none"},
        measure=measure,
        contrasts=(
            Contrast("the LSTM's chain of operations grows with the length", {"lstm/grows": 1}, above=0.8, exact=True),
            Contrast(
                "at the longest it is ten times the Transformer's",
                {"lstm/longest": 1, "sinusoidal/longest": -10},
                exact=True,
            ),
            Contrast("a step of its training takes longer there", {"lstm/clock_long": 1, "sinusoidal/clock_long": -1}),
            Contrast("without positions another order changes nothing", {"none/changed": -1}, above=-1e-9),
            Contrast("with them it does", {"sinusoidal/changed": 1}, above=1e-4),
            Contrast("as in an LSTM", {"lstm/changed": 1}, above=1e-4),
        ),
        draw=draw,
        seeds=10,
    )
)
