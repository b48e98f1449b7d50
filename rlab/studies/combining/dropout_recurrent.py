"""Dropout in a recurrent state: a new mask at every step, or one for the whole sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.images import built
from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """The first number of a sequence of random ones is asked for at its end."""

    length: int = 12
    """Numbers of a sequence, evenly drawn from -1..1."""
    hidden: int = 64
    """Units of the state."""
    p: float = 0.3
    """Probability to drop a unit of the state."""
    updates: int = 1_500
    """Each of 64 new sequences."""


def recurrent(settings: Settings, masks: str, seed: int) -> Any:
    """A network h' = tanh(W x + U (mask h)), whose last state is read out."""
    import torch
    from torch import Tensor, nn

    from rlab.nn.layers import dropout_mask

    class Recurrent(nn.Module):
        """Its state is dropped by a mask in training."""

        extra = 0
        """Numbers drawn and multiplications by a mask, forward and backward."""

        def __init__(self) -> None:
            super().__init__()
            self.inputs = nn.Linear(2, settings.hidden)
            self.state = nn.Linear(settings.hidden, settings.hidden, bias=False)
            self.out = nn.Linear(settings.hidden, 1)
            nn.init.orthogonal_(self.state.weight)

        def forward(self, x: Tensor) -> Tensor:
            """x[B, T] -> [B]."""
            first = torch.zeros_like(x)
            first[:, 0] = 1
            inputs = self.inputs(torch.stack([x, first], 2))
            h = inputs.new_zeros(len(x), settings.hidden)
            mask = None
            for t in range(x.shape[1]):
                if self.training and masks != "none":
                    if mask is None or masks == "step":
                        mask = dropout_mask(h, settings.p)
                        self.extra += h.numel()
                    h = h * mask
                    self.extra += 2 * h.numel()
                h = torch.tanh(inputs[:, t] + self.state(h))
            return self.out(h)[:, 0]

    return built(Recurrent, seed)


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Squared errors on new sequences in % of the variance, and what masks add to the arithmetic of an update, in %."""
    import torch
    from torch.nn.functional import mse_loss
    from torch.utils.flop_counter import FlopCounterMode

    from rlab.seeding import derive
    from rlab.studies.supervised import fit

    generator = torch.Generator().manual_seed(derive(seed, "sequences"))
    shape = (64 * settings.updates + 2_000, settings.length)
    x = 2 * torch.rand(shape, generator=generator) - 1
    model = recurrent(settings, variant, seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    plan: dict[str, Any] = {"steps": settings.updates, "batch_size": 64, "seed": seed}
    fit(model, x[:-2_000], x[:-2_000, 0], optimiser, loss=mse_loss, **plan)
    with torch.no_grad():
        error = 100 * float((model(x[-2_000:]) - x[-2_000:, 0]).square().mean() / x[:, 0].var())
    model.train().extra = 0
    with FlopCounterMode(display=False) as counter:
        model(x[:64]).sum().backward()
    return {"error": error, "extra": 100 * model.extra / counter.get_total_flops()}


def draw(figure: Any, results: Results) -> None:
    """Errors and arithmetic."""
    left, right = figure.subplots(1, 2)
    dots(left, columns(results, "error"), "squared error in % of variance")
    dots(right, columns(results, "extra"), "added arithmetic in %")
    for axes in (left, right):
        axes.set_xlabel("a new mask for every ...", fontsize=9)


STUDIES.register("dropout-recurrent")(
    Study(
        claim="Dropout adds next to nothing to the arithmetic of a network, a recurrent one included, if a sequence "
        "keeps its mask: a new one at every step costs memory.",
        claim_ja="ドロップアウトによる計算量の増加は、ごくわずかである。系列の間マスクを固定すれば、"
        "RNN でもそうである。時刻ごとにサンプリングし直すと、記憶が損なわれる。",
        correction="The text has it fit nearly every model as it is; a recurrent state's masks must be held over time.",
        correction_ja="教材は、ほぼすべてのモデルにそのまま使えるとする。RNN の状態に使うマスクは、"
        "時間方向に固定する必要がある。",
        source="item 136; Gal & Ghahramani 2016, section 4",
        settings=Settings(),
        smoke={"updates": 10},
        small={"updates": 250},
        small_seeds=7,
        variants={"none": "none", "sequence": "sequence", "step": "step"},
        measure=measure,
        contrasts=(
            Contrast("masks add less than 2 % of arithmetic", {"sequence/extra": -1}, above=-2, exact=True),
            Contrast("a new mask every step errs more than one", {"step/error": 1, "sequence/error": -1}),
        ),
        draw=draw,
        seeds=8,
    )
)
