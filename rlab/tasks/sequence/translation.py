"""Train a translator on pairs of sentences, score it by BLEU, translate by beam search, draw what it looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rlab.data.batches import Batch, Batches
from rlab.data.text.datasets import PairDataset, padded
from rlab.data.text.tokens import BOS, EOS, PAD, UNK, Tokenizer, source_ids
from rlab.errors import RlabError
from rlab.nn.graph import Function, Graph
from rlab.nn.sequence.generate import beam_search
from rlab.run.contract import Stop, Translation
from rlab.tasks.sequence.bleu import bleu
from rlab.tasks.sequence.config import DecodingConfig
from rlab.tasks.sequence.language_model import cross_entropy, unknown_pieces
from rlab.tasks.task import Losses, Metric, SingleLossTask, until

CHUNK = 64
"""Sentences of an evaluation that are translated together."""

SHOWN = 4
"""Translations that a report shows."""

BLEU = Metric("BLEU")


class TranslationTask(SingleLossTask):
    """Translation of sentences, or of any sequence into another.

    Args:
        dataset: pairs.
        model: (source, its mask, the target's tokens but the last) -> logits of the target's tokens but the first.
        optimizer: over its parameters.
        batch_size: B.
        label_smoothing: share of a target that all tokens have together.
        scheduled_sampling: share of the target's tokens in whose place the decoder gets its own prediction in the end.
        epochs: over which that share grows.
        longest: tokens of a translation at the most.
        decoding: how it writes.
        bf16: whether the model computes in bfloat16.
        max_grad_norm: gradients with a larger norm are scaled down to it; 0: never.
        seed: of the order of pairs.
        device: torch device.
    """

    primary = BLEU

    def __init__(
        self,
        dataset: PairDataset,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        batch_size: int,
        label_smoothing: float = 0.0,
        scheduled_sampling: float = 0.0,
        epochs: int = 1,
        longest: int = 128,
        decoding: DecodingConfig | None = None,
        bf16: bool = False,
        max_grad_norm: float = 0.0,
        seed: int = 0,
        device: str = "cpu",
    ):
        batches = Batches(dataset, batch_size, seed, device)
        super().__init__(model, batches, optimizer, device=device, bf16=bf16, max_grad_norm=max_grad_norm)
        self.dataset, self.longest = dataset, longest
        self.label_smoothing = label_smoothing
        self.scheduled_sampling, self.updates = scheduled_sampling, max(epochs * len(batches), 1)
        self.decoding = decoding or DecodingConfig()

    def own_share(self, place: tuple[int, int]) -> float:
        """The share of the target's tokens that the decoder predicts itself at an update, which grows over the run."""
        return self.scheduled_sampling * min((place[0] * len(self.data) + place[1]) / self.updates, 1.0)

    def forward(self, batch: Batch) -> Tensor:
        """Compute logits[B, T - 1, K] of all tokens of the targets but the first, `BOS`."""
        inputs = batch["source"], batch["source_mask"], batch["target"][:, :-1]
        own = self.own_share(batch.place) if self.scheduled_sampling and self.model.training else 0.0
        with self.autocast():
            logits: Tensor = self.model(*inputs, own=own) if own else self.model(*inputs)
        return logits

    def graph(self) -> Graph:
        """Return the network as it is trained, the target being known; see `rlab.run.contract.Exports`."""
        languages = {"source": self.source_tokenizer, "target": self.dataset.target_tokenizer}
        return Graph(
            Function(self.model, lambda model, source, target: model(source, source != PAD, target)),
            {name: torch.randint(EOS, len(tokenizer), (2, 5)) for name, tokenizer in languages.items()},
            {"logits": f"logits of what follows each token of the target, which begins with {BOS} and ends with {EOS}"},
            lengths=dict.fromkeys(languages, self.longest + 1),
            tokenizers={name: tokenizer.state() for name, tokenizer in languages.items()},
        )

    def loss(self, outputs: Tensor, batch: Batch) -> Losses:
        """Average the cross-entropy over all tokens of the targets that are no padding, however long each is."""
        nats, mask = self._nats(outputs, batch, self.label_smoothing)
        return {"loss": nats.sum() / mask.sum().clamp(min=1)}

    def denominator(self, batch: Batch) -> float:
        """Count the tokens of the targets that are predicted."""
        return float(batch["target_mask"][:, 1:].sum())

    def _nats(self, logits: Tensor, batch: Batch, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """(nats of each token of the targets, 0 of padding, and which are none), [B, T - 1] each."""
        mask = batch["target_mask"][:, 1:]
        return cross_entropy(logits, batch["target"][:, 1:], label_smoothing) * mask, mask

    @torch.no_grad()
    def evaluate(self, split: str, stop: Stop) -> dict[str, Any]:
        """Score a split by BLEU: by beam search, in validations by the most probable token each time.

        Returns:
            BLEU with its interval over sentences and sacrebleu's signature; ``exact``, percent of the translations that
            are the reference; ``loss``, nats per token of the references; a ``sample`` of translations; and, where
            training has some of the references, ``unseen``: the BLEU of the others.

        Raises:
            Stopped: a stop was requested.
        """
        beam = 1 if split == "validation" else self.decoding.beam
        nats = tokens = 0.0
        written: dict[int, str] = {}
        for batch in until(stop, self.data.ordered(split, CHUNK)):
            losses, mask = self._nats(self.forward(batch), batch)
            nats, tokens = nats + float(losses.double().sum()), tokens + float(mask.sum())
            ids = self._search(batch["source"], batch["source_mask"], beam)
            written |= dict(zip(batch.items.tolist(), map(self.dataset.target_tokenizer.decode, ids), strict=True))
        items = self.dataset.splits[split].tolist()
        score = BLEU.score(
            **self._bleu(written, items),
            split=split,
            examples=len(items),
            items="pairs",
            beam=beam,
            exact=100 * sum(written[i] == self._reference(i) for i in items) / len(items),
            loss=nats / max(tokens, 1.0),
            sample="\n\n".join(
                f"{self.dataset.sources[i]}\n→ {written[i]}\n   ({self._reference(i)})" for i in items[:SHOWN]
            ),
        )
        unseen = [
            i for i in self.dataset.splits.get(f"{split}_unseen", torch.tensor([])).long().tolist() if i in written
        ]
        return score | ({"unseen": self._bleu(written, unseen) | {"examples": len(unseen)}} if unseen else {})

    def _reference(self, item: int) -> str:
        """A pair's target as a translation is written: in the target's tokens, cut as those are."""
        return " ".join(self.dataset.targets[item].split()) if self._words else self.dataset.targets[item]

    @property
    def _words(self) -> bool:
        return self.dataset.target_tokenizer.name == "words"

    def _bleu(self, written: dict[int, str], items: Sequence[int]) -> dict[str, Any]:
        references = [self._reference(i) for i in items]
        return bleu([written[i] for i in items], references, self._bleu_tokens)

    @property
    def _bleu_tokens(self) -> str:
        usual = {"words": "none", "sentencepiece": "13a"}.get(self.dataset.target_tokenizer.name, "char")
        return usual if self.decoding.bleu_tokens == "auto" else self.decoding.bleu_tokens

    def _search(self, source: Tensor, mask: Tensor, beam: int) -> list[list[int]]:
        """Write the best translation of each source, as ids without `BOS` and `EOS`."""
        with self.autocast():
            state = self.model.begin(source, mask)
            found = beam_search(
                self._step, state, BOS, EOS, beam, self.decoding.length_penalty, self._most(source.shape[1])
            )
        return [rows[0].ids if rows else [] for rows in found]

    def _most(self, source: int) -> int:
        """Tokens of a translation at the most, of a source of so many."""
        return min(self.longest + 1, 3 * source + 20)

    def _step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        """A step of the model that never writes padding, a beginning or an unknown token."""
        logits, state = self.model.step(ids, state)
        never = torch.tensor([PAD, UNK, BOS], device=logits.device)
        return logits.float().index_fill(1, never, -torch.inf), state

    @torch.inference_mode()
    def translate(self, texts: Sequence[str], beam: int = 0) -> list[Translation]:
        """Translate texts, each by itself; see `rlab.run.contract.Translates`."""
        self.model.eval()
        done = []
        for text in texts:
            if not text.strip():
                raise RlabError("there is nothing to translate in an empty text")
            ids = source_ids(self.source_tokenizer, text)
            if len(ids) > self.longest + 1:
                raise RlabError(
                    f"a text of {len(ids) - 1:,} tokens is longer than the {self.longest:,} of this run's data; "
                    "nearest: translate it sentence by sentence"
                )
            source, mask = (t.to(self.device) for t in padded([ids]))
            written = self._search(source, mask, beam or self.decoding.beam)[0]
            done.append(self._translation(source, mask, written))
        return done

    @property
    def source_tokenizer(self) -> Tokenizer:
        """What makes tokens of a source."""
        return self.dataset.source_tokenizer

    def unknown(self, text: str) -> list[str]:
        """Return the pieces of a text that the model has no token for."""
        return unknown_pieces(self.source_tokenizer, text)

    @torch.inference_mode()
    def _translation(self, source: Tensor, mask: Tensor, written: list[int]) -> Translation:
        """What was written of a source int64[1, S], with what it looked at."""
        tokenizer = self.dataset.target_tokenizer
        attention = None
        if self.attends:
            with self.autocast():
                attention = self.model.alignments(source, mask, torch.tensor([[BOS, *written]], device=self.device))
            attention = attention[0].float().cpu().numpy()
        read = [*_tokens(self.source_tokenizer, source[0].tolist()[:-1]), END]
        return Translation(tokenizer.decode(written), read, [*_tokens(tokenizer, written), END], attention)

    @property
    def attends(self) -> bool:
        """Whether the model has an attention to be looked at."""
        return getattr(self.model, "attention", True) is not None

    @torch.no_grad()
    def draw(self, stop: Stop) -> dict[str, bytes]:
        """Draw what translations of the first test sentences looked at, as PNG; nothing without attention.

        Raises:
            Stopped: a stop was requested.
        """
        from rlab.tasks.sequence.pictures import alignments

        if not self.attends:
            return {}
        shown = [self.dataset.sources[i] for i in self.dataset.splits["test"].tolist()[:SHOWN]]
        return {"alignments": alignments([self.translate([text])[0] for text in until(stop, shown)])}

    def memory(self, batch_size: int) -> int:
        """Estimate the bytes of the pairs, and of a batch's activations."""
        longest = int(self.dataset.target.lengths.max()) + int(self.dataset.source.lengths.max())
        width = self.model.target.embedding_dim
        kept = self.dataset.source.flat.nbytes + self.dataset.target.flat.nbytes
        return kept + 4 * batch_size * longest * (2 * len(self.dataset.target_tokenizer) + 60 * width)


END = "<end>"
"""How the end of a sentence is shown."""


def _tokens(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    """Each id as text by itself; white space can be seen."""
    return [tokenizer.decode([n]).replace(" ", "␣") or "␣" for n in ids]
