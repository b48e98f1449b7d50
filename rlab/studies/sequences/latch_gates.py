"""What input and output gates are for: a value to be kept while others that look like it pass by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """At each step a number; the output is 0, or where it is asked for, the number that was flagged last."""

    steps: int = 40
    """Of a sequence."""
    store: float = 0.1
    """Probability that a number is flagged: it has to be kept in place of the last one that was."""
    ask: float = 0.2
    """Probability that the kept number is asked for."""
    width: int = 8
    """Units."""
    updates: int = 4_000
    """Each of 32 new sequences."""
    rate: float = 1e-2
    """Of Adam."""
    test: int = 1_000
    """Sequences that are scored."""


def sequences(settings: Settings, n: int, seed: int) -> tuple[Any, Any]:
    """x[N, T, 3], a number of -1..1 and both flags, and outputs y[N, T, 1]."""
    import torch

    from rlab.seeding import derive

    generator = torch.Generator().manual_seed(derive(seed, "latch"))
    number = 2 * torch.rand(n, settings.steps, generator=generator) - 1
    stored = torch.rand(n, settings.steps, generator=generator) < settings.store
    stored[:, 0] = True
    asked = torch.rand(n, settings.steps, generator=generator) < settings.ask
    place = torch.where(stored, torch.arange(settings.steps), 0).cummax(1).values
    y = number.gather(1, place) * asked
    return torch.stack([number, stored.float(), asked.float()], 2), y[:, :, None]


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Squared error on new sequences in % of the outputs' variance, its log10, and gates over a sequence."""
    import torch
    from torch.nn.functional import mse_loss

    from rlab.studies.gates import hold_open
    from rlab.studies.series import classifier, learn

    x, y = sequences(settings, 32 * settings.updates + settings.test, seed)
    model = classifier(variant["encoder"], x.shape[2], 1, settings.width, seed, "steps")
    hold_open(model, variant["open"])
    n = settings.test
    learn(model, x[:-n], y[:-n], settings.updates, seed, rate=settings.rate, loss=mse_loss)
    with torch.no_grad():
        error = 100 * (model(x[-n:]) - y[-n:]).square().mean() / y[-n:].var()
        found = {"error": float(error), "log_error": float(error.log10())}
        return found | ({"gates": gates(model, x[-1:])} if variant["encoder"] == "lstm" else {})


def gates(model: Any, x: Any) -> Any:
    """Both flags of a sequence x[1, T, 3], and input and output gate of the cell that stores most clearly: [4, T]."""
    import torch

    w, u, bias_ih, bias_hh = model.encoder.layers[0].weights()
    before = torch.nn.functional.pad(model.encoder(x)[0, :-1], (0, 0, 1, 0))
    i, _, _, o = (x[0] @ w.T + bias_ih + before @ u.T + bias_hh).sigmoid().chunk(4, dim=1)
    stored, asked = x[0, :, 1], x[0, :, 2]
    lead = (i * stored[:, None]).sum(0) / stored.sum() - (i * (1 - stored)[:, None]).sum(0) / (1 - stored).sum()
    cell = int(lead.argmax())
    return np.round(torch.stack([stored, asked, i[:, cell], o[:, cell]]).numpy(), 3)


def draw(figure: Any, results: Results) -> None:
    """Errors, and the gates of a cell over a sequence."""
    above, below = figure.subplots(2, 1)
    dots(above, columns(results, "error"), "squared error, % of variance")
    above.set(yscale="log")
    stored, asked, opened, shown = np.array(results["lstm"][0]["gates"])
    steps = np.arange(len(stored))
    for flags, label, marker in ((stored, "keep!", "v"), (asked, "asked", "^")):
        below.plot(steps[flags > 0], np.full(int(flags.sum()), 1.1), marker, label=label, ms=5)
    below.step(steps, opened, where="mid", label="input gate")
    below.step(steps, shown, where="mid", label="output gate")
    below.set(ylim=(0, 1.2))
    below.set_xlabel("step of a sequence; the cell that stores most clearly", fontsize=9)
    below.legend(fontsize=7, ncols=4, loc="lower center")


STUDIES.register("latch-gates")(
    Study(
        claim="One weight cannot let an input in at one time and keep it out at another; an LSTM's input and output "
        "gates settle that conflict, and each of them is missed where it is held open.",
        claim_ja="一つの重みでは、ある時刻に入力を取り込み、別の時刻に遮断することはできない（入力重み衝突）。"
        "LSTM の入力ゲートと出力ゲートがこの衝突を解消し、どちらを開いたままにしても誤りが増える。",
        source="items 216, 219; Hochreiter & Schmidhuber 1997, sections 3 and 4",
        settings=Settings(),
        smoke={"steps": 6, "updates": 2, "test": 8, "width": 4},
        small={"steps": 16, "updates": 600, "test": 200},
        small_seeds=6,
        variants={
            "lstm": {"encoder": "lstm", "open": []},
            "no input gate": {"encoder": "lstm", "open": ["input"]},
            "no output gate": {"encoder": "lstm", "open": ["output"]},
            "rnn": {"encoder": "rnn", "open": []},
        },
        measure=measure,
        contrasts=(
            Contrast("a plain network errs more (log10)", {"rnn/log_error": 1, "lstm/log_error": -1}, above=0.1),
            Contrast(
                "so does an LSTM without input gate", {"no input gate/log_error": 1, "lstm/log_error": -1}, above=0.1
            ),
            Contrast("and one without output gate", {"no output gate/log_error": 1, "lstm/log_error": -1}, above=0.1),
        ),
        draw=draw,
        seeds=8,
    )
)
