"""One vector for a whole source, or attention to all of it: strings to be written backwards, by their length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Strings of several lengths, all of them in training."""

    lengths: tuple[int, ...] = (4, 8, 16, 32)
    """Of strings."""
    kinds: int = 10
    """Letters."""
    width: int = 64
    """Units of encoder and decoder."""
    updates: int = 8_000
    """Of 32 strings of one length each."""
    rate: float = 3e-3
    """Of Adam."""
    test: int = 200
    """Strings of each length that are scored."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Share of the letters that the decoder writes right by itself, by the length."""
    import torch

    from rlab.nn.sequence.seq2seq import Seq2Seq
    from rlab.seeding import derive
    from rlab.studies.images import built
    from rlab.studies.pairs import learn_pairs, reversals, written

    vocabulary = settings.kinds + 4
    model = built(lambda: Seq2Seq(vocabulary, vocabulary, "bigru", attention=variant, width=settings.width), seed)
    generator = torch.Generator().manual_seed(derive(seed, "strings"))
    lengths = settings.lengths
    batches = (reversals(32, lengths[n % len(lengths)], settings.kinds, generator) for n in range(settings.updates))
    learn_pairs(model, batches, settings.rate, seed)
    held = [reversals(settings.test, length, settings.kinds, generator) for length in lengths]
    curve = [float(written(model, batch).double().mean()) for batch in held]
    found = {"curve": np.round(curve, 4), "short": curve[0], "long": curve[-1], "lengths": lengths}
    if variant == "none":
        return found
    with torch.no_grad():
        one = held[-1]
        weights = model.alignments(one.source[:1], one.source_mask[:1], one.target[:1, :-1])[0]
    return found | {"alignment": np.round(weights.numpy(), 3)}


def draw(figure: Any, results: Results) -> None:
    """Shares by the length, and what each letter of a long string looked at."""
    left, right = figure.subplots(1, 2)
    lengths = results["none"][0]["lengths"]
    curves(left, lengths, columns(results, "curve"), ("letters of a string", "share written right"))
    right.imshow(np.array(results["attention"][0]["alignment"]), cmap="Blues", vmin=0, vmax=1)
    right.set_xlabel("letter read", fontsize=9)
    right.set_ylabel("letter written", fontsize=9)
    right.tick_params(labelsize=8)


STUDIES.register("fixed-vector")(
    Study(
        claim="One vector of fixed size holds a short source and not a long one; with attention the decoder writes "
        "long ones, too, and the longer they are, the larger is its lead.",
        claim_ja="一つの固定長ベクトルには、短い入力は収まるが、長い入力は収まらない。Attention があれば、"
        "デコーダは長い文も生成でき、長いほど差は広がる。",
        source="items 241, 242; Bahdanau et al. 2015, section 5; Cho et al. 2014 (On the properties of neural machine "
        "translation)",
        settings=Settings(),
        smoke={"lengths": (2, 3), "kinds": 3, "width": 8, "updates": 3, "test": 4},
        small={"lengths": (3, 6, 12), "kinds": 6, "width": 48, "updates": 450, "rate": 1e-2, "test": 100},
        small_seeds=5,
        variants={"none": "none", "attention": "scaled"},
        measure=measure,
        contrasts=(
            Contrast("a vector holds a short source", {"none/short": 1}, above=0.9, trials="test"),
            Contrast("of a long one it loses a fifth or more", {"none/short": 1, "none/long": -1}, above=0.2),
            Contrast("attention writes more of a long one", {"attention/long": 1, "none/long": -1}, above=0.1),
            Contrast(
                "its lead grows with the length",
                {"attention/long": 1, "none/long": -1, "attention/short": -1, "none/short": 1},
            ),
        ),
        draw=draw,
        seeds=8,
    )
)
