"""Answers by the dialogue so far, by the last turn, or by nothing; and how much alike they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Hierarchical encoders and decoders that answer in dialogues."""

    data: str = "sgd_dialogues"
    """A data set of dialogues."""
    width: int = 256
    """Units of each GRU."""
    updates: int = 4_000
    """Of 16 dialogues each."""
    rate: float = 1e-3
    """Of Adam."""
    dialogues: int = 400
    """That are scored."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Log perplexity of a word of the answers; of written and of true answers, different pairs of words and length."""
    import torch

    from rlab.data.datasets import load
    from rlab.nn.layers import drawing_from
    from rlab.nn.optim import make_optimiser
    from rlab.run.contract import Stop
    from rlab.seeding import derive
    from rlab.studies.images import built
    from rlab.tasks.sequence.dialogue import Conversation, DialogueModel, distinct
    from rlab.tasks.sequence.dialogue_config import DialogueModelConfig, LatentConfig

    data = load(settings.data, derive(seed, "split"), validation=0)
    how = DialogueModelConfig(context=variant, width=settings.width, dropout=0.0)
    model = built(lambda: DialogueModel(len(data.tokenizer), how), seed)
    optimiser = make_optimiser("adam", model.parameters(), lr=settings.rate)
    generator = torch.Generator().manual_seed(derive(seed, "batches"))
    items = data.splits["train"]
    model.train()
    with drawing_from(torch.Generator().manual_seed(derive(seed, "draws"))):
        for _ in range(settings.updates):
            batch = data.collate(items[torch.randint(len(items), (16,), generator=generator)])
            optimiser.zero_grad()
            model(batch["tokens"], batch["mask"]).losses.mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
    model.eval()
    held = data.splits["test"][: settings.dialogues]
    with torch.no_grad():
        losses = [model(**data.collate(some)).losses for some in held.split(32)]
    task = Conversation(data, model, optimiser, settings=how, latent=LatentConfig(), epochs=1, batch_size=16, seed=seed)
    written, true = task.written("test", settings.dialogues, Stop())
    return {
        "surprise": float(torch.cat(losses).mean()),
        "distinct": 100 * distinct(written, 2),
        "distinct_true": 100 * distinct(true, 2),
        "length": sum(map(len, written)) / len(written),
        "length_true": sum(map(len, true)) / len(true),
    }


def draw(figure: Any, results: Results) -> None:
    """Surprise, and how different answers are beside true ones."""
    left, right = figure.subplots(1, 2)
    dots(left, columns(results, "surprise"), "nats a word")
    shown = columns(results, "distinct") | {"true": columns(results, "distinct_true")["all"]}
    dots(right, shown, "different pairs of words, %")
    left.set_xlabel("what an answer is from", fontsize=9)


STUDIES.register("dialogue-context")(
    Study(
        claim="Answers by the dialogue so far are less surprised by the true ones than answers by the last turn or by "
        "nothing; the likeliest answers are shorter than the true ones and more alike.",
        claim_ja="それまでの対話を使う応答モデルは、直前の発話だけを使うモデルや何も使わないモデルより、"
        "正しい応答をよく予測する。最も確率の高い応答は、正しい応答より短く、似通っている。",
        source="items 238, 240; Serban et al. 2016, section 5; Li et al. 2016",
        settings=Settings(),
        smoke={"data": "rule-dialogues", "width": 8, "updates": 1, "dialogues": 8},
        small={"data": "rule-dialogues", "width": 48, "updates": 100, "rate": 1e-2, "dialogues": 90},
        small_seeds=5,
        variants={"all": "all", "last": "last", "none": "none"},
        measure=measure,
        contrasts=(
            Contrast("less surprise than by the last turn", {"last/surprise": 1, "all/surprise": -1}),
            Contrast(
                "and than by nothing, by a fifth of perplexity", {"none/surprise": 1, "all/surprise": -1}, above=0.22
            ),
            Contrast("the likeliest answers are more alike", {"all/distinct_true": 1, "all/distinct": -1}),
            Contrast("and shorter", {"all/length_true": 1, "all/length": -1}),
        ),
        draw=draw,
        seeds=6,
    )
)
