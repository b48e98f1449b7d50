"""How far back an error reaches in a recurrent network, by the spectral radius of its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Untrained networks that read noise, and the gradient of their last state."""

    lag: int = 100
    """Steps between a state and the last one."""
    width: int = 64
    """Units of the state."""
    batch: int = 8
    """Sequences."""
    noise: float = 0.05
    """Standard deviation of the inputs."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """By lag, log10 of the norm of the gradient of the last state, in a random direction, by what an input gave."""
    import torch

    from rlab.nn.layers import drawing_from
    from rlab.nn.sequence.cells import CELLS
    from rlab.nn.sequence.recurrent import RecurrentLayer
    from rlab.seeding import derive

    generator = torch.Generator().manual_seed(derive(seed, "noise"))
    kind = variant["cell"]
    with drawing_from(torch.Generator().manual_seed(derive(seed, "network"))):
        layer = RecurrentLayer(kind, settings.width, settings.width).double()
        if "radius" in variant:
            weights = torch.randn(settings.width, settings.width, dtype=torch.float64)
            radius = torch.linalg.eigvals(weights).abs().max()
            with torch.no_grad():
                layer.weights()[1].copy_(weights * variant["radius"] / radius)
        elif kind == "lstm":
            with torch.no_grad():  # a forget gate that is nearly open, as it is where something is kept
                layer.weights()[2][settings.width : 2 * settings.width] = 5.0
    x = settings.noise * torch.randn(
        settings.batch, settings.lag + 1, settings.width, generator=generator, dtype=torch.float64
    )
    w, u, bias_ih, bias_hh = layer.weights()
    given = (x @ w.T + bias_ih).detach().requires_grad_()
    state = (x.new_zeros(settings.batch, settings.width),) * CELLS[kind].states
    outputs = []
    for t in range(settings.lag + 1):
        state = CELLS[kind].step(given[:, t], state, u, bias_hh, None)
        outputs.append(state[0])
    direction = torch.randn(outputs[0].shape, generator=generator, dtype=torch.float64)
    (last,) = torch.autograd.grad((outputs[-1] * direction).sum(), given, retain_graph=True)
    (middle,) = torch.autograd.grad((outputs[settings.lag // 2] * direction).sum(), given)
    norms = last.square().sum(2).mean(0).sqrt().flip(0)
    later = float(middle[:, settings.lag // 2 + 1 :].abs().max())
    curve = torch.log10(norms + 1e-300)
    far = float(curve[-1] - curve[0])
    return {
        "curve": np.round(curve.numpy(), 3),
        "far": far,
        "reached": float((last.abs().amax((0, 2)) > 0).double().mean()),
        "later": later,
    }


def draw(figure: Any, results: Results) -> None:
    """Norms over the lag."""
    ways = columns(results, "curve")
    lags = np.arange(len(next(iter(ways.values()))[0]))
    curves(figure.subplots(), lags, ways, ("lag", "gradient's norm, log10"))


STUDIES.register("gradient-over-lag")(
    Study(
        claim="An input acts on the outputs after it and on none before, and its gradient vanishes with the lag where "
        "the recurrent weights' spectral radius is below 1, and grows where it is well above; a cell that is kept "
        "open passes it on.",
        claim_ja="入力は、以後の出力すべてに影響し、以前の出力には影響しない。その勾配は、"
        "再帰の重みのスペクトル半径が 1 より小さければ時間差とともに消失し、1 より十分大きければ増大する。"
        "ゲートを開いたままのセルは、勾配を伝える。",
        correction="The text has gradients vanish; by the weights, they may explode as well.",
        correction_ja="教材は、勾配が消失するとする。重みによっては、爆発もする。",
        source="items 210, 215; Bengio et al. 1994; Pascanu et al. 2013, section 2",
        settings=Settings(),
        smoke={"lag": 12, "width": 8, "batch": 2},
        small={"lag": 60, "width": 48, "batch": 4},
        variants={
            **{f"radius {radius}": {"cell": "rnn", "radius": radius} for radius in (0.5, 0.9, 1.0, 1.5)},
            "lstm": {"cell": "lstm"},
        },
        measure=measure,
        contrasts=(
            Contrast("an input acts on all outputs after it", {"radius 0.9/reached": 1}, above=0.999, exact=True),
            Contrast("and on none before it", {"radius 0.9/later": -1}, above=-1e-12, exact=True),
            Contrast("at radius 0.5 its gradient falls below a millionth", {"radius 0.5/far": -1}, above=6),
            Contrast("at 0.9 to less than a tenth", {"radius 0.9/far": -1}, above=1),
            Contrast("at 1.5 it grows tenfold", {"radius 1.5/far": 1}, above=1),
            Contrast("an open LSTM keeps a tenth or more", {"lstm/far": 1}, above=-1),
        ),
        draw=draw,
        seeds=10,
    )
)
