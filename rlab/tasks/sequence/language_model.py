"""Train a language model to predict the next token, score every token of a split once, and let it write."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from rlab.data.batches import Batch, Batches
from rlab.data.text.datasets import TextDataset
from rlab.data.text.tokens import SPECIAL, UNK, Tokenizer
from rlab.errors import RlabError
from rlab.nn.graph import Graph
from rlab.nn.sequence.generate import stream_tokens
from rlab.nn.sequence.language import LanguageModel, detached
from rlab.run.contract import State, Stop
from rlab.seeding import bounded
from rlab.stats import bootstrap_mean
from rlab.tasks.sequence.config import WritingConfig
from rlab.tasks.task import Losses, Metric, SingleLossTask, until

SCORED = 2**23
"""Logits of an evaluation that are computed together, at the most."""

PERPLEXITY = Metric("perplexity", higher_is_better=False)


class Carried:
    """The state of a recurrent encoder that goes from one batch of streams to the next; part of a run's state.

    Args:
        streams: rows of the state, of which a process that learns with others has those of its own streams (`divide`).
    """

    def __init__(self, streams: int = 0) -> None:
        self.streams = streams
        self.place = (-1, -1)
        self.before: Tensor | None = None
        self.after: Tensor | None = None

    def enter(self, place: tuple[int, int]) -> Tensor | None:
        """Return the state before a batch: None at the start of an epoch. It stays if the batch is seen again."""
        if place != self.place:
            self.place, self.before = place, self.after if place[1] else None
        return self.before

    def state(self) -> State:
        """Return everything that `restore` needs."""
        states = {name: t for name, t in (("before", self.before), ("after", self.after)) if t is not None}
        return {"place": list(self.place), "states": states}

    def restore(self, state: State) -> None:
        """Become what `state` describes."""
        self.place = (state["place"][0], state["place"][1])
        self.before, self.after = (state["states"].get(name) for name in ("before", "after"))

    def divide(self, rank: int, world: int) -> None:
        """Keep the rows of the streams that this process learns from; where it has none, those of rank 0."""
        start = rank if rank < self.streams else 0
        self.before, self.after = (t if t is None else t[start::world].clone() for t in (self.before, self.after))

    def joined(self, rank: int, world: int, total: Callable[[Tensor], Tensor]) -> State:
        """The state with the rows of all processes; `total` adds up a tensor over them, in place."""

        def whole(mine: Tensor) -> Tensor:
            rows = mine.new_zeros(self.streams, *mine.shape[1:])
            if rank < self.streams:
                rows[rank::world] = mine
            total(rows.view(torch.uint8))  # bits, of which one process has each
            return rows

        state = self.state()
        return state | {"states": {name: whole(mine) for name, mine in state["states"].items()}}


class LanguageModelling(SingleLossTask):
    """Prediction of the next token of a text.

    Args:
        dataset: the text; with streams, a recurrent encoder's state is carried from batch to batch.
        model: tokens -> logits of what follows each.
        optimizer: over its parameters.
        batch_size: B.
        label_smoothing: share of a target that all tokens have together.
        writing: what it writes in evaluations.
        bf16: whether the model computes in bfloat16.
        max_grad_norm: gradients with a larger norm are scaled down to it; 0: never.
        seed: of the order of windows, and of what is written.
        device: torch device.

    Raises:
        RlabError: a state is to be carried, and the encoder has none.
    """

    primary = PERPLEXITY

    def __init__(
        self,
        dataset: TextDataset,
        model: LanguageModel,
        optimizer: Optimizer,
        *,
        batch_size: int,
        label_smoothing: float = 0.0,
        writing: WritingConfig | None = None,
        bf16: bool = False,
        max_grad_norm: float = 0.0,
        seed: int = 0,
        device: str = "cpu",
    ):
        batches = Batches(dataset, batch_size, seed, device)
        super().__init__(model, batches, optimizer, device=device, bf16=bf16, max_grad_norm=max_grad_norm)
        self.dataset, self.seed = dataset, seed
        self.label_smoothing = label_smoothing
        self.writing = writing or WritingConfig()
        self.carried = Carried(dataset.streams)
        if dataset.streams and not isinstance(model.begin(1), Tensor):
            raise RlabError("--carry carries the state of a recurrent encoder, and a Transformer has none; nearest: "
                            "--encoder gru")  # fmt: skip

    @property
    def tokenizer(self) -> Tokenizer:
        """What makes tokens of text."""
        return self.dataset.tokenizer

    def forward(self, batch: Batch) -> Tensor:
        """Compute logits[B, L, K] of what follows each token of a batch but the last."""
        inputs = batch["tokens"][:, :-1]
        with self.autocast():
            if not self.dataset.streams:
                logits: Tensor = self.model(inputs)  # padding stands last, where a causal encoder does not see it
                return logits
            before = self.carried.enter(batch.place)
            state = self.model.begin(len(inputs)) if before is None else before
            logits, after = self.model.unroll(inputs, state)
        self.carried.after = detached(after)
        return logits

    def graph(self) -> Graph:
        """Return the network; see `rlab.run.contract.Exports`."""
        most = getattr(self.model.encoder, "context", None)
        tokens = torch.randint(len(self.tokenizer), (2, min(5, most or 5)))
        outputs = {"logits": "logits of what follows each token"}
        return Graph(
            self.model,
            {"tokens": tokens},
            outputs,
            lengths={"tokens": most},
            tokenizers={"tokens": self.tokenizer.state()},
        )

    def loss(self, outputs: Tensor, batch: Batch) -> Losses:
        """Average the cross-entropy over all tokens that are no padding, however they lie in windows."""
        nats = cross_entropy(outputs, batch["tokens"][:, 1:], self.label_smoothing)
        mask = batch.tensors.get("mask")
        return {"loss": nats.mean() if mask is None else (nats * mask[:, 1:]).sum() / mask[:, 1:].sum().clamp(min=1)}

    def denominator(self, batch: Batch) -> float:
        """Count the tokens that are predicted."""
        mask = batch.tensors.get("mask")
        return float(batch["tokens"][:, 1:].numel() if mask is None else mask[:, 1:].sum())

    @torch.no_grad()
    def evaluate(self, split: str, stop: Stop) -> dict[str, Any]:
        """Score every token of a split once, each with at least half a window before it where the text has so much.

        Returns:
            The perplexity with its interval over windows, ``loss`` (nats per token), ``nats_per_character``, and a
            ``sample`` of what the model writes.

        Raises:
            Stopped: a stop was requested.
        """
        part = self.dataset.part(split)
        end = self.dataset.ends[split]
        start = end - len(part)
        context = min(start, self.dataset.window)
        ids = self.dataset.tokens[start - context : end].long()
        first = max(context, 1)
        nats = score_stream(self._nats, ids, first, self.dataset.window, len(self.tokenizer), stop).double()
        pieces = nats.tensor_split(max(len(nats) // self.dataset.window, 1))  # of nearly the same length
        sums = torch.stack([piece.sum() for piece in pieces]).numpy()
        per_window = len(nats) / len(sums)
        low, high = bootstrap_mean(sums)
        mean = nats.mean().item()
        characters = len(self.tokenizer.decode(ids[first:].tolist()))
        score = PERPLEXITY.score(
            _exp(mean),
            _exp(low / per_window),
            _exp(high / per_window),
            split=split,
            examples=len(nats),
            items="tokens",
            loss=mean,
            nats_per_character=nats.sum().item() / max(characters, 1),
        )
        if self.writing.sample_length:
            how = self.writing
            text = self.write("", self.seed, length=how.sample_length, temperature=how.sample_temperature)
            score["sample"] = "".join(text)
        return score

    def _nats(self, windows: Tensor) -> Tensor:
        """Windows int64[B, L + 1] -> nats of each next token, float32[B, L]."""
        windows = windows.to(self.device)
        with self.autocast():
            logits = self.model(windows[:, :-1])
        return cross_entropy(logits, windows[:, 1:]).cpu()

    def write(
        self, prompt: str, seed: int, *, length: int, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
    ) -> Iterator[str]:
        """Yield what follows a prompt; see `rlab.run.contract.Writes`."""
        ids = self.tokenizer.encode(prompt) or self._beginning()
        generator = torch.Generator().manual_seed(bounded(seed))
        was = self.model.training
        self.model.eval()
        try:
            before, last = torch.tensor([ids], device=self.device).tensor_split([len(ids) - 1], 1)
            state = self._read(before)
            drawn = stream_tokens(self._step_of_text, state, last, temperature, top_k, top_p, generator)
            shown = pieces_of(self.tokenizer, ids, (int(next(drawn)) for _ in range(length)))
            yield from shown if prompt else _without_first_line_end(shown)
        finally:
            self.model.train(was)

    @torch.inference_mode()
    def _read(self, ids: Tensor) -> Any:
        """The state after ids int64[1, n], which are read a window at a time."""
        with self.autocast():
            state = self.model.begin(1)
            for window in ids.split(self.dataset.window, 1) if ids.numel() else ():
                _, state = self.model.unroll(window, state)
        return state

    def _beginning(self) -> list[int]:
        """What an empty prompt stands for: a line's end, or how the text begins."""
        line = self.tokenizer.encode("\n")
        return line if line and UNK not in line else self.dataset.tokens[:1].tolist()

    def _step_of_text(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        """A step of the model that gives what is no text no chance."""
        with self.autocast():
            logits, state = self.model.step(ids, state)
        return text_only(logits), state

    def unknown(self, text: str) -> list[str]:
        """Return the pieces of a text that the model has no token for."""
        return unknown_pieces(self.tokenizer, text)

    def memory(self, batch_size: int) -> int:
        """Estimate the bytes of the text, and of a batch's activations: features of each layer and logits."""
        tokens = batch_size * self.dataset.window
        layers, width = len(list(self.model.modules())), self.model.embedding.embedding_dim
        return self.dataset.tokens.nbytes + 4 * tokens * (2 * len(self.tokenizer) + layers * width)


def cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Compute the cross-entropy of each token in float32: logits[B, T, K], targets int64[B, T] -> nats[B, T]."""
    nats = F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), reduction="none", label_smoothing=label_smoothing
    )
    return nats.view(targets.shape)


def score_stream(
    nats_of: Callable[[Tensor], Tensor],
    ids: Tensor,
    first: int,
    window: int,
    vocabulary: int,
    stop: Stop,
) -> Tensor:
    """Score a text's tokens from number `first` on, each once, in windows that overlap by half.

    A window reads up to `window` tokens and counts those that no window before it has scored, so that each has at least
    half a window of context wherever the text has so much before it.

    Args:
        nats_of: windows int64[B, L + 1] -> nats of each next token, float[B, L].
        ids: int64[n].
        first: at least 1, for a token is told from the one before it.
        window: tokens that the model reads at a time, at the most.
        vocabulary: K, by which the number of windows at a time is chosen.
        stop: polled between batches.

    Returns:
        Nats of the tokens `first` to the last, float[n - first].

    Raises:
        Stopped: a stop was requested.
    """
    n = len(ids)
    reach = min(window, n - 1)  # tokens that a window reads, and scores the next of each
    if n <= first or reach < 1:
        raise RlabError(f"a text of {n:,} token{'s' * (n != 1)} has none that could be told from the one before it")
    stride = max(reach // 2, 1)
    starts, scored = [max(min(first - 1 - (reach - stride), n - 1 - reach), 0)], [first]
    while (end := starts[-1] + reach) < n - 1:
        starts.append(min(starts[-1] + stride, n - 1 - reach))
        scored.append(end + 1)
    batch = max(1, SCORED // (reach * vocabulary))
    places = torch.arange(reach + 1)
    found = []
    for chunk in until(
        stop, list(zip(torch.tensor(starts).split(batch), torch.tensor(scored).split(batch), strict=True))
    ):
        windows = ids[(chunk[0][:, None] + places).to(ids.device)]
        nats = nats_of(windows)
        found += [
            row[s - start - 1 :] for row, start, s in zip(nats, chunk[0].tolist(), chunk[1].tolist(), strict=True)
        ]
    return torch.cat(found)


def text_only(logits: Tensor) -> Tensor:
    """Give ids that stand for no piece of text no chance: logits[B, K]."""
    return logits.index_fill(1, torch.arange(SPECIAL, device=logits.device), -torch.inf)


CONTEXT = 16
"""Ids before a piece by which its spaces are told."""


def pieces_of(tokenizer: Tokenizer, before: list[int], ids: Iterator[int]) -> Iterator[str]:
    """Make text of ids as they come, each piece as it looks behind the ids before it."""
    known = before[-CONTEXT:]
    text = shown = tokenizer.decode(known)
    for new in ids:
        known = [*known, new]
        text = tokenizer.decode(known)
        if text.endswith("\ufffd"):  # half a character
            continue
        if len(text) > len(shown):
            yield text[len(shown) :]
        known = known[-CONTEXT:]
        text = shown = tokenizer.decode(known)
    if len(text) > len(shown):
        yield text[len(shown) :]


def _without_first_line_end(pieces: Iterator[str]) -> Iterator[str]:
    """The pieces, of which the first do not begin new lines."""
    begun = False
    for piece in pieces:
        shown = piece if begun else piece.lstrip("\n")
        begun = begun or bool(shown)
        if shown:
            yield shown


def unknown_pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    """Return the pieces of a text that a vocabulary has not, in their order."""
    pieces = tokenizer.pieces(text)
    ids = tokenizer.encode(text)
    if len(pieces) != len(ids):  # sentencepiece joins what is unknown
        return [piece for piece in pieces if UNK in tokenizer.encode(piece)]
    return [piece for piece, n in zip(pieces, ids, strict=True) if n == UNK]


class Vocabulary:
    """The tokenizers of a run as part of its state, so that a run never goes on with another vocabulary.

    Args:
        tokenizers: by what they are for.
        data: the data set's name.
    """

    def __init__(self, tokenizers: Mapping[str, Tokenizer], data: str):
        self.tokenizers, self.data = tokenizers, data

    def state(self) -> State:
        """Return the tokenizers' states."""
        return {name: tokenizer.state() for name, tokenizer in self.tokenizers.items()}

    def restore(self, state: State) -> None:
        """Check that the vocabulary is that of the run.

        Raises:
            RlabError: it is another one: the data have changed.
        """
        if state != self.state():
            raise RlabError(
                f"the vocabulary of '{self.data}' is not the one that the run began with, so its data or its tokenizer "
                "have changed; put the old ones back, or start a new run"
            )


def _exp(nats: float) -> float:
    """A perplexity; of a model that is far off a number that JSON can hold."""
    return math.exp(min(nats, 700.0))
