"""Answers in dialogues: the hierarchical recurrent encoder-decoder and its form with a latent variable.

HRED (Serban et al. 2016, https://arxiv.org/abs/1507.04808): one GRU reads each turn, one goes from turn to turn, one
writes the next turn from what the second one knows. VHRED (Serban et al. 2017, https://arxiv.org/abs/1605.06069) draws
a Gaussian variable for each turn, on which the writer depends, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from rlab.data.batches import Batch, Batches
from rlab.data.text.dialogues import Dialogues, joined, spaced
from rlab.data.text.tokens import BOS, EOS, PAD, UNK, target_ids
from rlab.nn.sequence.generate import next_probabilities
from rlab.nn.sequence.recurrent import RecurrentLayer
from rlab.run.contract import Score, Stop
from rlab.seeding import bounded
from rlab.stats import bootstrap_mean
from rlab.tasks.sequence.dialogue_config import DialogueModelConfig, LatentConfig
from rlab.tasks.task import Losses, Metric, SingleLossTask, until

TOGETHER = 32
"""Dialogues that are scored at a time."""


class Gaussian(NamedTuple):
    """A normal distribution with independent components."""

    mean: Tensor
    log_variance: Tensor

    def sample(self) -> Tensor:
        """Draw from it, with a gradient to its parameters."""
        return self.mean + torch.randn_like(self.mean) * (0.5 * self.log_variance).exp()

    def divergence(self, other: Gaussian) -> Tensor:
        """KL(self, other) in nats, summed over the last axis."""
        ratio = (self.log_variance - other.log_variance).exp()
        apart = (self.mean - other.mean).square() / other.log_variance.exp()
        return 0.5 * (ratio + apart - 1 - self.log_variance + other.log_variance).sum(-1)


class GaussianLayer(nn.Module):
    """Two layers from features to a normal distribution."""

    def __init__(self, in_dim: int, width: int, latent: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_dim, width), nn.Tanh(), nn.Linear(width, 2 * latent))

    def forward(self, x: Tensor) -> Gaussian:
        """features[B, D] -> a distribution over [B, Z]; variances lie between e^-8 and e^8."""
        mean, spread = self.layers(x).chunk(2, dim=-1)
        return Gaussian(mean, 8 * torch.tanh(spread / 8))


class Outputs(NamedTuple):
    """What a model says of the A answers in a batch, which are all turns but each dialogue's first.

    Attributes:
        losses: of each word that was to be said, in nats, float[W].
        turn: the answer that each word is of, int64[W].
        dialogue: the dialogue that each answer is of, int64[A].
        divergence: of the latent variable of each answer, in nats, float[A]; zeros without one.
    """

    losses: Tensor
    turn: Tensor
    dialogue: Tensor
    divergence: Tensor


class DialogueModel(nn.Module):
    """Turns of dialogues to the next turn.

    Args:
        vocabulary: K, ids.
        settings: sizes, and what an answer is predicted from.
    """

    def __init__(self, vocabulary: int, settings: DialogueModelConfig):
        super().__init__()
        self.context_kind = settings.context
        self.latent = settings.latent
        width, given = settings.width, settings.width + settings.latent
        # Of deviation 1, as torch has it: with small vectors all turns are read alike, and contexts learn late.
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PAD)
        self.reader = RecurrentLayer("gru", width, width)
        self.dialogue = RecurrentLayer("gru", width, width)
        self.writer = RecurrentLayer("gru", width + given, width)
        self.begin = nn.Linear(given, width)
        self.head = nn.Linear(width, vocabulary)
        self.dropout = nn.Dropout(settings.dropout)
        if settings.latent:
            self.prior = GaussianLayer(width, width, settings.latent)
            self.posterior = GaussianLayer(2 * width, width, settings.latent)

    def read(self, turns: Tensor, mask: Tensor) -> Tensor:
        """Encode turns int64[N, T] from `BOS` to `EOS`, padded where mask bool[N, T] is False: [N, H]."""
        words = self.dropout(self.embedding(turns[:, 1:]))
        start = words.new_zeros(len(words), self.reader.width)
        encoded: Tensor = self.reader(words, (start,), mask[:, 1:].sum(1))[1][0]
        return encoded

    def contexts(self, encoded: Tensor, there: Tensor) -> Tensor:
        """What is known after each turn: encoded[N, H] of the turns of there bool[B, U] -> [B, U, H]."""
        turns = encoded.new_zeros(*there.shape, encoded.shape[1])
        if self.context_kind == "none":
            return turns
        turns[there] = encoded
        if self.context_kind == "last":  # each turn as if it were the first one
            start = encoded.new_zeros(turns.shape[0] * turns.shape[1], self.dialogue.width)
            after: Tensor = self.dialogue(turns.flatten(0, 1)[:, None], (start,))[0]
            return after.view(*turns.shape[:2], -1)
        start = encoded.new_zeros(len(turns), self.dialogue.width)
        known: Tensor = self.dialogue(turns, (start,), there.sum(1))[0]
        return known

    def write(self, words: Tensor, given: Tensor, lengths: Tensor) -> Tensor:
        """Features after each of words int64[A, T] of answers that depend on given[A, G]: [A, T, H]."""
        x = self.dropout(self.embedding(words))
        x = torch.cat([x, given[:, None].expand(-1, words.shape[1], -1)], dim=2)
        out: Tensor = self.writer(x, (torch.tanh(self.begin(given)),), lengths)[0]
        return out

    def forward(self, tokens: Tensor, mask: Tensor, word_drop: float = 0.0) -> Outputs:
        """Predict all turns but the first of tokens int64[B, U, T], mask bool[B, U, T]; words dropped become `UNK`."""
        there = mask.any(2)
        turns, turn_mask = tokens[there], mask[there]
        encoded = self.read(turns, turn_mask)
        known = self.contexts(encoded, there)
        answers = there.clone()
        answers[:, 0] = False
        before = known.roll(1, dims=1)[answers]
        chosen = answers[there]
        turns, turn_mask, encoded = turns[chosen], turn_mask[chosen], encoded[chosen]
        divergence = encoded.new_zeros(len(encoded))
        given = before
        if self.latent:
            posterior = self.posterior(torch.cat([before, encoded], 1))
            divergence = posterior.divergence(self.prior(before))
            given = torch.cat([before, posterior.sample()], 1)
        words, wanted, said = turns[:, :-1], turns[:, 1:], turn_mask[:, 1:]
        if word_drop:
            hidden = (torch.rand(words.shape, device=words.device) < word_drop) & (words > EOS)
            words = words.masked_fill(hidden, UNK)
        features = self.dropout(self.write(words, given, said.sum(1))[said])
        losses = F.cross_entropy(self.head(features), wanted[said], reduction="none")
        return Outputs(losses, said.nonzero()[:, 0], answers.nonzero()[:, 0], divergence)

    @torch.no_grad()
    def answers(
        self, given: Tensor, longest: int, temperature: float = 0.0, generator: torch.Generator | None = None
    ) -> list[list[int]]:
        """Write answers that depend on given[A, G], word by word, of at most so many words each."""
        ids = given.new_full((len(given),), BOS, dtype=torch.long)
        state = (torch.tanh(self.begin(given)),)
        found: list[Tensor] = []
        ended = torch.zeros_like(ids, dtype=torch.bool)
        for _ in range(longest):
            x = torch.cat([self.embedding(ids), given], 1)[:, None]
            out, state = self.writer(x, state)
            logits = self.head(out[:, 0])
            logits[:, [PAD, UNK, BOS]] = -torch.inf
            if temperature:
                p = next_probabilities(logits, temperature).cpu()
                ids = torch.multinomial(p, 1, generator=generator)[:, 0].to(given.device)
            else:
                ids = logits.argmax(1)
            found.append(ids)
            ended |= ids == EOS
            if ended.all():
                break
        rows = torch.stack(found, 1).tolist()
        return [row[: row.index(EOS)] if EOS in row else row for row in rows]

    def given_of(self, context: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What answers depend on after contexts[A, H]: with a latent variable, a draw of its prior beside them."""
        if not self.latent:
            return context
        prior = self.prior(context)
        noise = torch.randn(prior.mean.shape, generator=generator).to(context.device)
        return torch.cat([context, prior.mean + noise * (0.5 * prior.log_variance).exp()], 1)


class Conversation(SingleLossTask):
    """The task of answering: the mean over all words of answers of the surprise at them, and the divergence.

    Args:
        dialogues: the data.
        model: a `DialogueModel`.
        optimizer: over its parameters.
        settings: of the model.
        latent: what is done against a latent variable's collapse.
        epochs: of the run, over which annealing is stretched.
        batch_size: dialogues of an update.
        max_grad_norm: see `SingleLossTask`.
        seed: of the order of dialogues.
        device: torch device.
    """

    primary = Metric("perplexity", higher_is_better=False)

    def __init__(
        self,
        dialogues: Dialogues,
        model: DialogueModel,
        optimizer: Optimizer,
        *,
        settings: DialogueModelConfig,
        latent: LatentConfig,
        epochs: int,
        batch_size: int,
        max_grad_norm: float = 0.0,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ):
        data = Batches(dialogues, batch_size, seed, device)
        super().__init__(model, data, optimizer, device=device, max_grad_norm=max_grad_norm)
        self.dialogues = dialogues
        self.settings = settings
        self.latent = latent
        self.epochs = epochs

    def forward(self, batch: Batch) -> Outputs:
        """Compute the losses of all answers in a batch."""
        drop = self.latent.word_drop if self.model.training else 0.0
        outputs: Outputs = self.model(batch["tokens"], batch["mask"], drop)
        return outputs

    def divergence_weight(self, batch: Batch) -> float:
        """The weight of the divergence in the loss of a batch: it grows over the first part of the run."""
        epoch, number = batch.place
        share = (epoch + number / len(self.data)) / self.epochs
        return min(1.0, share / self.latent.anneal) if self.latent.anneal else 1.0

    def loss(self, outputs: Outputs, batch: Batch) -> Losses:
        """Compute the loss a word, of which the divergence is a part, and its parts."""
        words = len(outputs.losses)
        surprise = outputs.losses.sum() / words
        if not self.model.latent:
            return {"loss": surprise}
        weight = self.divergence_weight(batch)
        counted = outputs.divergence.clamp(min=self.latent.free_bits).sum() / words
        return {
            "loss": surprise + weight * counted,
            "surprise": surprise,
            "divergence": outputs.divergence.mean(),
            "divergence_weight": torch.tensor(weight),
        }

    def denominator(self, batch: Batch) -> float:
        """Count the words of answers: of all turns but the first, behind the word that begins them."""
        return float(batch["mask"][:, 1:, 1:].sum())

    def evaluate(self, split: str, stop: Stop) -> Score:
        """Score the answers of a split.

        ``mean`` is the perplexity of a word, with a latent variable the bound on it, exp((surprise + divergence) /
        words); its interval is over dialogues. ``reconstruction`` is exp(surprise / words) alone, ``divergence`` in
        nats a turn, ``distinct_1`` and ``distinct_2`` of answers that are written, ``distinct_2_true`` of the true
        ones at the same places.

        Raises:
            Stopped: a stop was requested.
        """
        rows = []
        for batch in until(stop, self.data.ordered(split, TOGETHER)):
            outputs = self.forward(batch)
            surprise = torch.zeros(len(batch), dtype=torch.double, device=self.device)
            divergence, words, answers = (torch.zeros_like(surprise) for _ in range(3))
            of_word = outputs.dialogue[outputs.turn]
            surprise.index_add_(0, of_word, outputs.losses.double())
            words.index_add_(0, of_word, torch.ones_like(outputs.losses).double())
            divergence.index_add_(0, outputs.dialogue, outputs.divergence.double())
            answers.index_add_(0, outputs.dialogue, torch.ones_like(outputs.divergence).double())
            rows.append(torch.stack([surprise, divergence, words, answers], 1).cpu())
        surprise, divergence, words, answers = torch.cat(rows).T.numpy()
        bound = surprise + divergence
        low, high = bootstrap_mean(bound - words * bound.sum() / words.sum())  # of the ratio, to the first order
        mean = bound.sum() / words.sum()
        values = (math.exp(mean), *(math.exp(mean + part / words.mean()) for part in (low, high)))
        more = {} if not self.model.latent else {
            "reconstruction": math.exp(surprise.sum() / words.sum()),
            "divergence": float(divergence.sum() / answers.sum()),
        }  # fmt: skip
        n = self.settings.answers if split == "test" else max(self.settings.answers // 10, 1)
        written, true = self.written(split, n, stop)
        return self.primary.score(
            *values, split=split, examples=len(words), answers=int(answers.sum()), words=int(words.sum()), **more,
            distinct_1=distinct(written, 1), distinct_2=distinct(written, 2), distinct_2_true=distinct(true, 2),
            length=float(np.mean([len(row) for row in written])),
        )  # fmt: skip

    @torch.no_grad()
    def written(self, split: str, n: int, stop: Stop) -> tuple[list[list[int]], list[list[int]]]:
        """Answer n turns spread over a split, one a dialogue, with the likeliest words; and the true answers.

        Raises:
            Stopped: a stop was requested.
        """
        items = self.data.splits[split]
        items = items[torch.linspace(0, len(items) - 1, min(n, len(items))).long()]
        written, true = [], []
        generator = torch.Generator().manual_seed(0)
        for number, some in enumerate(until(stop, items.split(TOGETHER))):
            batch = self.dialogues.to(self.device).collate(some)
            tokens, mask = batch["tokens"], batch["mask"]
            turns = mask.any(2).sum(1)
            asked = (torch.arange(len(some), device=self.device) + number * TOGETHER) % (turns - 1)
            rows = torch.arange(len(some), device=self.device)
            there = mask.any(2)
            known = self.model.contexts(self.model.read(tokens[there], mask[there]), there)[rows, asked]
            written += self.model.answers(self.model.given_of(known, generator), self.dialogues.longest)
            true += [tokens[row, turn + 1][mask[row, turn + 1]][1:-1].tolist()
                     for row, turn in zip(rows.tolist(), asked.tolist(), strict=True)]  # fmt: skip
        return written, true

    @torch.no_grad()
    def answer(self, turns: Sequence[str], temperature: float = 0.0, seed: int = 0) -> str:
        """Answer the last of some turns, the oldest first; see `rlab.run.contract.Converses`."""
        self.model.eval()
        tokenizer = self.dialogues.tokenizer
        rows = [target_ids(tokenizer, " ".join(spaced(turn).split()[: self.dialogues.longest])) for turn in turns]
        tokens = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=PAD)
        mask = torch.arange(tokens.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
        tokens, mask = tokens.to(self.device), mask.to(self.device)
        there = torch.ones(1, len(rows), dtype=torch.bool, device=self.device)
        known = self.model.contexts(self.model.read(tokens, mask), there)[:, -1]
        generator = torch.Generator().manual_seed(bounded(seed))
        given = self.model.given_of(known, generator)
        ids = self.model.answers(given, self.dialogues.longest, temperature, generator)[0]
        return joined(tokenizer.decode(ids))

    def memory(self, batch_size: int) -> int:
        """Estimate the bytes of the data and of a batch's activations, above all of its scores of all words."""
        words = len(self.dialogues.ids.flat) / len(self.dialogues) * batch_size
        return int(self.dialogues.ids.flat.nbytes + words * 4 * (3 * self.model.head.out_features + 40 * 256))


def distinct(rows: Sequence[Sequence[int]], n: int) -> float:
    """Different n-grams in rows of words, as a share of all (Li et al. 2016); 0 where there are none."""
    grams = [tuple(row[at : at + n]) for row in rows for at in range(len(row) - n + 1)]
    return len(set(grams)) / max(len(grams), 1)
