"""Train a WaveNet to predict each sample of a recording, score it in bits a sample, and let it sound."""

from __future__ import annotations

import math
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from rlab.data.batches import Batch, Batches
from rlab.data.picture import draw_sounds
from rlab.data.sound import CODES, from_mu_law
from rlab.data.waves import WaveDataset
from rlab.errors import RlabError, nearest
from rlab.nn.wavenet import CachedWaveNet, WaveNet
from rlab.run.contract import Stop
from rlab.seeding import derive
from rlab.stats import bootstrap_mean
from rlab.tasks.task import Losses, Metric, SingleLossTask, until

LONGEST = 60.0
"""Seconds of a sound at the most."""

SHOWN = 10
"""Classes of which the report shows a sound."""

PRIOR = 16.0
"""Codes that a row of the bigram table counts before it has seen any, by how frequent they are in all rows."""


class WaveModelling(SingleLossTask):
    """Prediction of each code of a recording from those before it, its class, its speaker and the place in it.

    Args:
        dataset: the recordings, whole.
        model: codes and conditions -> logits.
        optimizer: over its parameters.
        window: codes of an example at the most; longer recordings are cut.
        batch_size: B.
        label_smoothing: share of a target that all codes have together.
        bf16: whether the model computes in bfloat16.
        max_grad_norm: gradients with a larger norm are scaled down to it; 0: never.
        seed: of the order of examples.
        device: torch device.
    """

    primary = Metric("bits per sample", higher_is_better=False)

    def __init__(
        self,
        dataset: WaveDataset,
        model: WaveNet,
        optimizer: Optimizer,
        *,
        window: int,
        batch_size: int,
        label_smoothing: float = 0.0,
        bf16: bool = False,
        max_grad_norm: float = 0.0,
        seed: int = 0,
        device: str = "cpu",
    ):
        self.dataset = dataset
        self.windows = dataset.in_windows(window, model.field)
        batches = Batches(self.windows, batch_size, seed, device)
        super().__init__(model, batches, optimizer, device=device, bf16=bf16, max_grad_norm=max_grad_norm)
        self.batch_size, self.label_smoothing = batch_size, label_smoothing
        self.rate = dataset.rate
        self._bigram = cache(partial(bigram_bits, dataset))

    def forward(self, batch: Batch) -> Tensor:
        """Compute logits[B, T, K] of each code of a batch."""
        with self.autocast():
            logits: Tensor = self.model(batch["codes"], batch["label"], batch["speaker"], batch["position"])
        return logits

    def loss(self, outputs: Tensor, batch: Batch) -> Losses:
        """Average the cross-entropy over all codes to be predicted, however they lie in recordings."""
        mask = batch["mask"]
        nats = F.cross_entropy(outputs[mask].float(), batch["codes"][mask], label_smoothing=self.label_smoothing)
        return {"loss": nats, "bits": nats.detach() / math.log(2)}

    def denominator(self, batch: Batch) -> float:
        """Count the codes that are predicted."""
        return float(batch["mask"].sum())

    @torch.no_grad()
    def evaluate(self, split: str, stop: Stop) -> dict[str, Any]:
        """Score every sample of a split once.

        Returns:
            Bits per sample, over all samples alike, with an interval over examples; ``bigram``, those of a table that
            knows the one sample before; ``uniform``, those of all codes alike; ``loss``, nats per sample.

        Raises:
            Stopped: a stop was requested.
        """
        items = self.windows.splits[split]
        sizes = self.windows.sizes(items)
        ordered = Batches(
            self.windows, self.batch_size, 0, self.device, split=split, shuffle=False,
            items=items[sizes.argsort(descending=True, stable=True)],
        )  # fmt: skip
        sums, numbers = [], []
        for batch in until(stop, ordered.epoch(0)):
            logits, codes, mask = self.forward(batch), batch["codes"], batch["mask"]
            nats = F.cross_entropy(logits.flatten(0, 1).float(), codes.flatten(), reduction="none").view(codes.shape)
            sums.append((nats * mask).sum(1, dtype=torch.double).cpu())
            numbers.append(mask.sum(1).cpu())
        bits, count = torch.cat(sums).numpy() / math.log(2), torch.cat(numbers).numpy()
        mean = float(bits.sum() / count.sum())
        low, high = (mean + part / count.mean() for part in bootstrap_mean(bits - mean * count))  # to the first order
        return self.primary.score(
            mean,
            low,
            high,
            split=split,
            examples=int(count.sum()),
            items="samples",
            loss=mean * math.log(2),
            bigram=self._bigram(split),
            uniform=math.log2(CODES),
        )

    def sounds(
        self,
        n: int,
        seed: int,
        *,
        label: str = "",
        speaker: str = "",
        seconds: float = 0.0,
        temperature: float = 1.0,
    ) -> list[np.ndarray]:
        """Make n new sounds; see `rlab.run.contract.Sounds`."""
        labels = self._chosen("class", label, self.dataset.classes, n)
        speakers = self._chosen("speaker", speaker, self.dataset.speakers, n)
        if seconds and not 1 / self.rate <= seconds <= LONGEST:
            raise RlabError(
                f"{seconds:g} seconds are no length of a sound; it must be {1 / self.rate:g} to {LONGEST:g}"
            )
        draws = []
        for number, (of, by) in enumerate(zip(labels, speakers, strict=True)):
            length = round(seconds * self.rate) if seconds else self._usual_length(of, by)
            draws.append(np.random.default_rng(derive(seed, "sound", number)).random(length))
        codes = CachedWaveNet(self.model).generate(labels, speakers, draws, temperature)
        return [from_mu_law(one) for one in codes]

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Sample n sounds float32[n, T], the classes and speakers in turn; shorter ones end in zeros."""
        made = self.sounds(n, seed)
        padded = np.zeros((n, max(map(len, made), default=0)), np.float32)
        for row, sound in zip(padded, made, strict=True):
            row[: len(sound)] = sound
        return padded

    def _chosen(self, what: str, name: str, names: tuple[str, ...], n: int) -> list[int]:
        """The number of a class or a speaker for each of n sounds; without a name all in turn.

        Raises:
            RlabError: there is none of this name.
        """
        if not name:
            every = len(self.dataset.classes) if what == "speaker" else 1
            return [number // every % len(names) for number in range(n)]
        if name not in names:
            raise RlabError(f"data set '{self.dataset.name}' has no {what} '{name}'; {nearest(name, names)}")
        return [names.index(name)] * n

    def _usual_length(self, label: int, speaker: int) -> int:
        """The mean length in samples of training recordings of a class by a speaker, or of all."""
        items = self.dataset.part("train")
        fitting = items[(self.dataset.labels[items] == label) & (self.dataset.by[items] == speaker)]
        return int(self.dataset.lengths[fitting if len(fitting) else items].double().mean())

    def draw(self, stop: Stop) -> dict[str, bytes]:
        """Draw recordings of the test split, and sounds that are made, a row for each class.

        Raises:
            Stopped: a stop was requested.
        """
        names, items = self.dataset.classes[:SHOWN], self.dataset.part("test")
        real, made = [], []
        for number in until(stop, range(len(names))):
            fitting = items[self.dataset.labels[items] == number]
            if len(fitting):
                real.append((names[number], from_mu_law(self.dataset.recording(int(fitting[0])).numpy())))
            made.append((names[number], self.sounds(1, number, label=names[number])[0]))
        return {
            "sounds": draw_sounds(made, self.rate, "sounds of the model"),
            "recordings": draw_sounds(real, self.rate, "recordings of the test split"),
        }

    def memory(self, batch_size: int) -> int:
        """Estimate the bytes of the recordings, and of a batch's activations: those of each layer and logits."""
        longest = int(self.windows.sizes(self.windows.splits["train"]).max())
        layer = self.model.layers[0]
        return self.dataset.codes.nbytes + 4 * batch_size * longest * (
            len(self.model.layers) * (10 * layer.width + layer.skip) + 4 * self.model.classes
        )


def bigram_bits(dataset: WaveDataset, split: str) -> float:
    """Compute the bits per sample of a split by a table of pairs of codes, counted in the training split.

    Each row, also that of the beginning of a recording, counts `PRIOR` codes by how frequent they are in all rows.
    """
    counts = _pairs(dataset, "train")
    usual = (counts.sum(0) + 1) / (counts.sum() + CODES)
    table = (counts + PRIOR * usual) / (counts.sum(1, keepdims=True) + PRIOR)
    seen = _pairs(dataset, split)
    return float(-(seen * np.log2(table)).sum() / seen.sum())


def _pairs(dataset: WaveDataset, split: str) -> np.ndarray:
    """How often a code follows another in a split, int64[K + 1, K]; the last row is of first codes."""
    counts = np.zeros((CODES + 1) * CODES, np.int64)
    for number in dataset.part(split).tolist():
        codes = dataset.recording(number).cpu().numpy().astype(np.int64)
        pairs = np.concatenate([[CODES], codes[:-1]]) * CODES + codes
        counts += np.bincount(pairs, minlength=len(counts))
    return counts.reshape(CODES + 1, CODES)
