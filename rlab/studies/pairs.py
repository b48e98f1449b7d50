"""Pairs of strings and recurrent translators for studies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from rlab.data.text.datasets import PairDataset, padded
from rlab.data.text.tokens import BOS, EOS, PAD
from rlab.nn.optim import make_optimiser
from rlab.nn.sequence.seq2seq import Seq2Seq
from rlab.seeding import derive


class Batch(NamedTuple):
    """Pairs, padded: ids and where they are no padding, int64 and bool [B, S] and [B, T]."""

    source: Tensor
    source_mask: Tensor
    target: Tensor
    target_mask: Tensor


def pairs_of(data: PairDataset, items: Tensor) -> Batch:
    """Take items of a data set."""
    batch = data.collate(items)
    return Batch(*(batch[name] for name in Batch._fields))


def reversals(n: int, length: int, kinds: int, generator: torch.Generator) -> Batch:
    """Draw n strings of one length of so many letters, each with the same backwards."""
    letters = torch.randint(EOS + 1, EOS + 1 + kinds, (n, length), generator=generator)
    first = [[BOS, *row[::-1], EOS] for row in letters.tolist()]
    return Batch(letters, torch.ones_like(letters, dtype=torch.bool), *padded(first))


def learn_pairs(model: Seq2Seq, batches: Iterable[Batch], rate: float, seed: int, own: float = 0.0) -> None:
    """Train a translator by Adam on batches, with norms of gradients of 1 at most.

    Args:
        model: left in evaluation mode.
        batches: what is learned, in order.
        rate: learning rate at the beginning; it falls to a tenth in the last quarter.
        seed: of what is drawn.
        own: share of the target's tokens that are the model's own in the end; it grows to it on a line.
    """
    every = list(batches)
    optimiser = make_optimiser("adam", model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(derive(seed, "own"))
    model.train()
    for number, batch in enumerate(every):
        if number == 3 * len(every) // 4:
            for group in optimiser.param_groups:
                group["lr"] = rate / 10
        share = own * number / len(every)
        logits = model(batch.source, batch.source_mask, batch.target[:, :-1], own=share, generator=generator)
        wanted = batch.target[:, 1:]
        loss = cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=PAD)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.eval()


@torch.no_grad()
def told(model: Seq2Seq, batch: Batch) -> tuple[Tensor, Tensor]:
    """Log probabilities of the target's tokens, and whether each is the likeliest, given the right ones before it.

    Both are [n], of all tokens behind `BOS` that are no padding.
    """
    logits = model(batch.source, batch.source_mask, batch.target[:, :-1])
    wanted, there = batch.target[:, 1:], batch.target_mask[:, 1:]
    logs = logits.log_softmax(2).gather(2, wanted[:, :, None])[:, :, 0]
    return logs[there], (logits.argmax(2) == wanted)[there]


@torch.no_grad()
def written(model: Seq2Seq, batch: Batch) -> Tensor:
    """Whether each of the target's tokens is what the model writes there by itself, the likeliest each time, [n]."""
    state = model.begin(batch.source, batch.source_mask)
    ids, out = batch.target[:, 0], []
    for _ in range(batch.target.shape[1] - 1):
        logits, state = model.step(ids, state)
        ids = logits.argmax(1)
        out.append(ids)
    return (torch.stack(out, 1) == batch.target[:, 1:])[batch.target_mask[:, 1:]]
