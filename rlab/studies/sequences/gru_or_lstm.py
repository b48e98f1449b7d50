"""GRU against LSTM at equal width and at equal numbers of weights, on running text and on few examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Characters of a text, and sums of binary numbers of which few are shown."""

    data: str = "tinyshakespeare"
    """A text."""
    width: int = 128
    """Units of the LSTM; a wider GRU has as many weights in its cell."""
    window: int = 64
    """Characters of an example."""
    updates: int = 3_000
    """Of 32 windows each."""
    test: int = 400
    """Windows that are scored."""
    sums: int = 100
    """Sums that are learned from, of numbers of 8 bits."""
    sum_updates: int = 1_500
    """Of 32 sums each."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Nats a character, the share of bits of new sums that are right, and blocks of weights in the cell."""
    import torch

    from rlab.data.datasets import load
    from rlab.data.text.rules import binary_addition
    from rlab.data.text.settings import TextSettings
    from rlab.nn.sequence import make_sequence_encoder
    from rlab.seeding import derive
    from rlab.studies.images import size
    from rlab.studies.series import classifier, learn, right, shuffled, surprise, token_model

    cell, part = variant
    width = round(settings.width * part)
    data = load(settings.data, text=TextSettings(window=settings.window))
    generator = torch.Generator().manual_seed(derive(seed, "windows"))
    stream = {split: data.part(split).long() for split in ("train", "test")}
    starts = torch.randint(len(stream["train"]) - settings.window, (32 * settings.updates,), generator=generator)
    steps = torch.arange(settings.window + 1)
    windows = stream["train"][starts[:, None] + steps]
    places = torch.linspace(0, len(stream["test"]) - settings.window - 1, settings.test).long()
    held = stream["test"][places[:, None] + steps]
    model = token_model(len(data.tokenizer), cell, width, seed)
    learn(model, windows[:, :-1], windows[:, 1:], settings.updates, seed, rate=3e-3)
    with torch.no_grad():
        nats = float(surprise(model(held[:, :-1]), held[:, 1:]))

    made = binary_addition(longer=0)
    order = shuffled(len(made.x), seed)
    x, y = torch.from_numpy(made.x)[order], torch.from_numpy(made.y)[order].long()
    adder = classifier(cell, 2, 2, max(4, width // 4), seed, "steps")
    learn(adder, x[: settings.sums], y[: settings.sums], settings.sum_updates, seed, rate=1e-2)
    return {
        "nats": nats,
        "bits": right(adder, x[settings.sums :][:2_000], y[settings.sums :][:2_000]),
        "weights": size(make_sequence_encoder(cell, width, width)) / (2 * width * (width + 1)),
    }


def draw(figure: Any, results: Results) -> None:
    """Both scores, by cell."""
    labels = {"nats": "nats a character", "bits": "bits of new sums that are right"}
    for axes, (name, label) in zip(figure.subplots(2, 1), labels.items(), strict=True):
        dots(axes, columns(results, name), label)


STUDIES.register("gru-or-lstm")(
    Study(
        claim="An LSTM has four blocks of weights, a GRU, without output gate, three, and is as good on a text, at "
        "equal width and at equal numbers of weights, and better where examples are few.",
        claim_ja="LSTM は四つの、出力ゲートのない GRU は三つの重みのブロックを持つ。文章では、同じ幅でも、"
        "同じ重みの数でも、GRU は LSTM と同じくらいの性能で、データが少ないときはそれより優れている。",
        correction="The text says that a GRU has far fewer weights. It has a quarter fewer, and which of the two is "
        "better depends on the task.",
        correction_ja="教材は、GRU の重みは大幅に少ないとする。少ないのは 4 分の 1 で、"
        "どちらが優れているかはタスクによる。",
        source="items 223, 225, 226; Cho et al. 2014; Chung et al. 2014, section 5; Greff et al. 2017",
        settings=Settings(),
        smoke={
            "data": "shakespeare-small",
            "width": 8,
            "window": 8,
            "updates": 2,
            "test": 4,
            "sums": 20,
            "sum_updates": 2,
        },
        small={"data": "shakespeare-small", "width": 48, "window": 32, "updates": 200, "test": 200, "sum_updates": 250},
        small_seeds=5,
        variants={"lstm": ("lstm", 1.0), "gru": ("gru", 1.0), "wider gru": ("gru", 1.155), "rnn": ("rnn", 1.0)},
        measure=measure,
        contrasts=(
            Contrast(
                "a GRU has three quarters of an LSTM's weights",
                {"lstm/weights": 3 / 4, "gru/weights": -1},
                above=-1e-9,
                exact=True,
            ),
            Contrast(
                "an LSTM four times those of a plain network",
                {"lstm/weights": 1, "rnn/weights": -4},
                above=-1e-9,
                exact=True,
            ),
            Contrast(
                "at equal width a GRU is as good on a text (0.03 nats)", {"lstm/nats": 1, "gru/nats": -1}, above=-0.03
            ),
            Contrast("with as many weights, too", {"lstm/nats": 1, "wider gru/nats": -1}, above=-0.03),
            Contrast("of few sums it learns more", {"gru/bits": 1, "lstm/bits": -1}),
        ),
        draw=draw,
        seeds=8,
    )
)
