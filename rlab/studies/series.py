"""Models of sequences for studies: weights that follow from a seed, one way to train them, scores of steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rlab.nn.optim import make_optimiser
from rlab.nn.sequence import make_sequence_encoder
from rlab.nn.sequence.classifier import SequenceClassifier
from rlab.seeding import derive
from rlab.studies.images import built
from rlab.studies.supervised import fit

NONE = -1
"""The class of a step that is neither learned nor scored."""


def classifier(
    encoder: str, in_dim: int, outputs: int, width: int, seed: int, pooling: str = "last", **options: Any
) -> SequenceClassifier:
    """Build a model of features[B, T, D] whose weights follow from the seed; `pooling` "steps" labels every step.

    Args:
        encoder: name of a sequence encoder.
        in_dim: D.
        outputs: classes.
        width: of the encoder.
        seed: of the weights.
        pooling: see `SequenceClassifier`.
        options: of the encoder.
    """
    return built(
        lambda: SequenceClassifier(make_sequence_encoder(encoder, in_dim, width, **options), outputs, pooling=pooling),
        seed,
    )


def token_model(vocabulary: int, encoder: str, width: int, seed: int, **options: Any) -> SequenceClassifier:
    """Build a model of tokens int64[B, T] that gives logits[B, T, vocabulary] at every step."""
    return built(
        lambda: SequenceClassifier(
            make_sequence_encoder(encoder, width, width, **options),
            vocabulary,
            nn.Embedding(vocabulary, width),
            "steps",
        ),
        seed,
    )


def surprise(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of logits[..., K] and classes int64[...], without those that are `NONE`."""
    return cross_entropy(logits.flatten(0, -2), y.flatten(), ignore_index=NONE)


def learn(
    model: nn.Module, x: Tensor, y: Tensor, updates: int, seed: int, *, rate: float, batch_size: int = 32, **more: Any
) -> list[Any]:
    """Train by Adam; what comes back and the other arguments are those of `supervised.fit`."""
    optimiser = make_optimiser("adam", model.parameters(), lr=rate)
    how = {"loss": surprise} | more
    return fit(model, x, y, optimiser, steps=updates, batch_size=min(batch_size, len(x)), seed=seed, **how)


@torch.no_grad()
def right(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of the classes y[...], without those that are `NONE`, that have the largest logit."""
    model.eval()
    scored = y != NONE
    return float((model(x).argmax(-1) == y)[scored].double().mean())


def shuffled(n: int, seed: int) -> Tensor:
    """The numbers below n in an order that is drawn by the seed."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(derive(seed, "order")))
