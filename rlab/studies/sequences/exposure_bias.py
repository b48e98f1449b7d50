"""A decoder that has only seen right words, and one that was shown its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Strings to be written backwards from one vector, which is too small for them, so that errors are made."""

    length: int = 16
    """Letters of a string."""
    kinds: int = 10
    """Letters of the alphabet."""
    width: int = 48
    """Units of encoder and decoder."""
    updates: int = 6_000
    """Of 32 strings each."""
    rate: float = 3e-3
    """Of Adam."""
    test: int = 500
    """Strings that are scored."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Percent of letters that are right after the right ones, and after the model's own; the difference."""
    import torch

    from rlab.nn.sequence.seq2seq import Seq2Seq
    from rlab.seeding import derive
    from rlab.studies.images import built
    from rlab.studies.pairs import learn_pairs, reversals, told, written

    vocabulary = settings.kinds + 4
    model = built(lambda: Seq2Seq(vocabulary, vocabulary, "gru", attention="none", width=settings.width), seed)
    generator = torch.Generator().manual_seed(derive(seed, "strings"))
    batches = (reversals(32, settings.length, settings.kinds, generator) for _ in range(settings.updates))
    learn_pairs(model, batches, settings.rate, seed, own=variant)
    held = reversals(settings.test, settings.length, settings.kinds, generator)
    helped = 100 * float(told(model, held)[1].double().mean())
    alone = 100 * float(written(model, held).double().mean())
    return {"helped": helped, "alone": alone, "gap": helped - alone}


def draw(figure: Any, results: Results) -> None:
    """What is right, helped and alone."""
    labels = {"helped": "right after right ones, %", "alone": "right by itself, %"}
    for axes, (name, label) in zip(figure.subplots(2, 1), labels.items(), strict=True):
        dots(axes, columns(results, name), label)
        axes.set_xlabel("share of own words in training, in the end", fontsize=9)


STUDIES.register("exposure-bias")(
    Study(
        claim="A decoder trained after right words alone does worse after its own, as it has never seen its mistakes; "
        "where it is shown its own half of the time, that gap is smaller, and it writes better by itself.",
        claim_ja="正解の単語に続けることだけを学習したデコーダは、自分の誤りを見たことがないので、"
        "自分の出力に続けるときは性能が落ちる。半分の割合で自分の出力を見せて学習すると、その差は縮まり、"
        "自力で生成する性能も上がる。",
        source="item 236; Bengio et al. 2015, sections 2 and 4; Ranzato et al. 2016",
        settings=Settings(),
        smoke={"length": 3, "kinds": 3, "width": 8, "updates": 3, "test": 4},
        small={"length": 8, "kinds": 6, "width": 24, "updates": 400, "rate": 1e-2, "test": 200},
        small_seeds=5,
        variants={"0": 0.0, "0.5": 0.5},
        measure=measure,
        contrasts=(
            Contrast("after its own words it is right less often", {"0/gap": 1}, above=1),
            Contrast("shown its own, the gap is smaller", {"0/gap": 1, "0.5/gap": -1}),
            Contrast("and it writes better by itself", {"0.5/alone": 1, "0/alone": -1}),
        ),
        draw=draw,
        seeds=8,
    )
)
