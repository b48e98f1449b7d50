"""LSTM and GRU as encoder and decoder of a translator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Sentences that are translated with attention."""

    data: str = "small_parallel_enja"
    """Pairs of sentences."""
    width: int = 256
    """Units of encoder and decoder."""
    updates: int = 8_000
    """Of 64 pairs each."""
    rate: float = 1e-3
    """Of Adam."""
    test: int = 1_000
    """Pairs that are scored."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Nats a word of the test's translations, and percent of the words that the decoder writes right by itself."""
    import torch

    from rlab.data.datasets import load
    from rlab.nn.sequence.seq2seq import Seq2Seq
    from rlab.seeding import derive
    from rlab.studies.images import built
    from rlab.studies.pairs import learn_pairs, pairs_of, told, written

    data = load(settings.data, derive(seed, "split"), validation=0)
    sizes = len(data.source_tokenizer), len(data.target_tokenizer)
    cell, width = variant["cell"], round(variant["part"] * settings.width)
    model = built(lambda: Seq2Seq(*sizes, f"bi{cell}", attention="scaled", width=width), seed)
    generator = torch.Generator().manual_seed(derive(seed, "batches"))
    items = data.splits["train"]
    drawn = torch.randint(len(items), (settings.updates, 64), generator=generator)
    learn_pairs(model, (pairs_of(data, items[some]) for some in drawn), settings.rate, seed)
    held = pairs_of(data, data.splits["test"][: settings.test])
    return {
        "nats": -float(told(model, held)[0].double().mean()),
        "right": 100 * float(written(model, held).double().mean()),
    }


def draw(figure: Any, results: Results) -> None:
    """Surprise at a translation's words."""
    left, right = figure.subplots(1, 2)
    dots(left, columns(results, "nats"), "nats a word")
    dots(right, columns(results, "right"), "words at their place, %")


STUDIES.register("translating-cells")(
    Study(
        claim="In translation the LSTM is ahead of the GRU, at equal width and where the GRU is wider, so that it has "
        "as many weights in its cells.",
        claim_ja="翻訳では、LSTM が GRU より優れている。同じ幅でも、"
        "GRU の幅を広げてセルの重みの数をそろえてもそうである。",
        source="item 228; Britz et al. 2017, section 4.2",
        settings=Settings(),
        smoke={"data": "rule-pairs", "width": 8, "updates": 1, "test": 8},
        small={"data": "rule-pairs", "width": 32, "updates": 80, "rate": 1e-2, "test": 200},
        small_seeds=5,
        variants={
            "lstm": {"cell": "lstm", "part": 1.0},
            "gru": {"cell": "gru", "part": 1.0},
            "wider gru": {"cell": "gru", "part": 1.155},
        },
        measure=measure,
        contrasts=(
            Contrast("at equal width its surprise is lower", {"gru/nats": 1, "lstm/nats": -1}),
            Contrast("with as many weights, too", {"wider gru/nats": 1, "lstm/nats": -1}),
        ),
        draw=draw,
        seeds=6,
    )
)
