"""A character that is missing in the middle of a text, told from what is before it alone, or from both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Windows of a text."""

    data: str = "tinyshakespeare"
    """A text."""
    window: int = 31
    """Characters of a window; the one in the middle is missing."""
    width: int = 96
    """Units of the network with one direction; that with two has narrower ones, and no more weights."""
    updates: int = 4_000
    """Of 64 windows each."""
    test: int = 4_000
    """Windows that are scored."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Percent of the missing characters that are told right, nats of each, and the cells' weights."""
    import torch
    from torch.nn.functional import cross_entropy

    from rlab.data.datasets import load
    from rlab.data.text.settings import TextSettings
    from rlab.data.text.tokens import UNK
    from rlab.nn.sequence import make_sequence_encoder
    from rlab.seeding import derive
    from rlab.studies.images import built, size
    from rlab.studies.series import NONE, learn, right, token_model

    data = load(settings.data, text=TextSettings(window=settings.window))
    generator = torch.Generator().manual_seed(derive(seed, "windows"))
    middle = settings.window // 2

    def windows(split: str, n: int) -> tuple[Any, Any]:
        stream = data.part(split).long()
        starts = torch.randint(len(stream) - settings.window, (n,), generator=generator)
        x = stream[starts[:, None] + torch.arange(settings.window)]
        y = torch.full_like(x, NONE)
        y[:, middle] = x[:, middle]
        x[:, middle] = UNK
        return x, y

    width = round(settings.width * variant["part"])
    x, y = windows("train", 64 * settings.updates)
    # The embedding is as wide as a cell, so what is said of weights is said of all but it.
    model = token_model(len(data.tokenizer), variant["encoder"], width, seed)
    learn(model, x, y, settings.updates, seed, rate=3e-3, batch_size=64)
    x, y = windows("test", settings.test)
    with torch.no_grad():
        nats = float(cross_entropy(model(x)[:, middle], y[:, middle]))
    weights = size(built(lambda: make_sequence_encoder(variant["encoder"], width, width), seed))
    return {"right": 100 * right(model, x, y), "nats": nats, "weights": weights / 1_000}


def draw(figure: Any, results: Results) -> None:
    """Both scores."""
    left, right = figure.subplots(1, 2)
    dots(left, columns(results, "right"), "missing characters told right, %")
    dots(right, columns(results, "nats"), "nats a character")


STUDIES.register("filling-gaps")(
    Study(
        claim="A network that reads in both directions fills a gap in a text better than one that reads forward, with "
        "no more weights.",
        claim_ja="双方向に読むネットワークは、重みを増やさなくても、前向きだけに読むネットワークより、"
        "文章の欠けた箇所をうまく補う。",
        correction="The text does not say that such a network needs what comes later, so it cannot predict online.",
        correction_ja="教材は触れていないが、このネットワークは後の入力を必要とするので、オンラインの予測はできない。",
        source="item 230; Schuster & Paliwal 1997, section III",
        settings=Settings(),
        smoke={"data": "shakespeare-small", "window": 7, "width": 8, "updates": 2, "test": 20},
        small={"data": "shakespeare-small", "window": 15, "width": 48, "updates": 300, "test": 1_000},
        small_seeds=5,
        variants={"forward": {"encoder": "gru", "part": 1.0}, "both": {"encoder": "bigru", "part": 0.69}},
        measure=measure,
        contrasts=(
            Contrast("it tells 5 % of all characters more", {"both/right": 1, "forward/right": -1}, above=5),
            Contrast("its surprise is lower", {"forward/nats": 1, "both/nats": -1}),
            Contrast("it has no more weights", {"forward/weights": 1, "both/weights": -1}, exact=True),
        ),
        draw=draw,
        seeds=6,
    )
)
