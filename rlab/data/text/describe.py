"""What is in a data set of text: its splits, vocabulary, lengths, unknown share, and examples with their tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlab.data.text.datasets import LabelledSteps, LabelledText, PairDataset, TextDataset
from rlab.data.text.dialogues import Dialogues
from rlab.data.text.tokens import UNK, Tokenizer
from rlab.seeding import derive

OfText = TextDataset | PairDataset | LabelledText | LabelledSteps | Dialogues
"""A data set that can be described here."""


def describe(data: OfText, count: int, seed: int = 0) -> dict[str, Any]:
    """Describe a data set, with some examples of its training split.

    Args:
        data: the data set.
        count: examples at the most.
        seed: of their choice.

    Returns:
        As JSON: ``name``, ``kind``; ``splits``, name -> number of items; ``vocabularies``, of each tokenizer
        its ``tokens`` and ``size``; ``lengths``, of each side the ``shortest``, ``median`` and ``longest`` in
        tokens, of a dialogue in turns, of a stream none; ``unknown``, split -> the share of unknown tokens;
        ``classes``; ``examples``, each of which has sides, with their ``text``, ``pieces``, ``length`` and the
        places of ``unknown`` pieces.
    """
    generator = torch.Generator().manual_seed(derive(seed, "examples"))
    items = data.splits["train"]
    chosen = items[torch.randperm(len(items), generator=generator)[:count]].sort().values
    facts: dict[str, Any] = {
        "name": data.name,
        "kind": data.kind,
        "splits": {split: len(of_split) for split, of_split in data.splits.items()},
        "classes": list(data.classes) if isinstance(data, LabelledText | LabelledSteps) else None,
    }
    if isinstance(data, LabelledSteps):
        return facts | {
            "vocabularies": {},
            "inputs": list(data.inputs),
            "lengths": {"steps": _lengths(data.lengths[items])},
            "unknown": {},
            "examples": [_steps(data, item) for item in chosen.tolist()],
        }
    facts["vocabularies"] = {
        side: {"tokens": tokenizer.name, "size": len(tokenizer)} for side, tokenizer in data.tokenizers.items()
    }
    facts["unknown"] = {split: data.unknown(split) for split in data.splits}
    if isinstance(data, Dialogues):
        many = data.first.diff()[items]
        facts["lengths"] = {"dialogue": _lengths(many), "turn": _lengths(data.ids.lengths - 2)}
        examples = [
            {f"turn {turn}": _sentence(data.tokenizer, text) for turn, text in enumerate(data.texts[n], 1)}
            for n in chosen.tolist()
        ]
        return facts | {"examples": examples}
    if isinstance(data, TextDataset):
        facts |= {"lengths": {}, "tokens": {split: len(data.part(split)) for split in data.ends}}
        windows = data.collate(chosen)["tokens"].tolist()
        return facts | {"window": data.window, "examples": [{"text": _window(data.tokenizer, ids)} for ids in windows]}
    if isinstance(data, PairDataset):
        facts["lengths"] = {side: _lengths(getattr(data, side).lengths[items]) for side in ("source", "target")}
        sides = (("source", data.sources, data.source_tokenizer), ("target", data.targets, data.target_tokenizer))
        examples = [{side: _sentence(by, texts[n]) for side, texts, by in sides} for n in chosen.tolist()]
        return facts | {"examples": examples}
    facts["lengths"] = {"text": _lengths(data.ids.lengths[items])}
    return facts | {
        "examples": [
            {"text": _sentence(data.tokenizer, data.texts[n]), "class": data.classes[int(data.y[n])]}
            for n in chosen.tolist()
        ]
    }


def _lengths(lengths: Tensor) -> dict[str, int]:
    return {
        "shortest": int(lengths.min()),
        "median": int(lengths.median()),
        "longest": int(lengths.max()),
    }


def _sentence(tokenizer: Tokenizer, text: str) -> dict[str, Any]:
    ids = tokenizer.encode(text)
    unknown = [place for place, n in enumerate(ids) if n == UNK]
    return {"text": text, "pieces": tokenizer.pieces(text), "length": len(ids), "unknown": unknown}


def _window(tokenizer: Tokenizer, ids: list[int]) -> dict[str, Any]:
    """Of a window, whose text is not kept: what its ids stand for."""
    pieces = [tokenizer.decode([n]) for n in ids]
    unknown = [place for place, n in enumerate(ids) if n == UNK]
    return {"text": tokenizer.decode(ids), "pieces": pieces, "length": len(ids), "unknown": unknown}


def _steps(data: LabelledSteps, item: int) -> dict[str, Any]:
    length = int(data.lengths[item])
    said = ["+".join(data.inputs[n] for n in step.nonzero().flatten()) or "-" for step in data.x[item, :length]]
    asked = zip(data.y[item, :length].tolist(), data.mask[item, :length].tolist(), strict=True)
    labels = [data.classes[label] if scored else "·" for label, scored in asked]
    return {
        "inputs": {"pieces": said, "length": length, "unknown": []},
        "labels": {"pieces": labels, "length": length, "unknown": []},
    }
