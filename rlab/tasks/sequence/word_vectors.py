"""Word vectors by word2vec (Mikolov et al. 2013, https://arxiv.org/abs/1310.4546): learning, neighbours, analogies.

With negative sampling a compiled loop learns (`rlab.tasks.sequence.word_kernel`). Several threads share the vectors
without locks (Hogwild, Niu et al. 2011), so that a run with more than one is not the same twice; with one thread it
resumes to the bit. The softmax over the whole vocabulary is torch's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rlab.data.text.datasets import TextDataset
from rlab.data.text.tokens import SPECIAL
from rlab.errors import RlabError, nearest, printable
from rlab.kernels import THREADS
from rlab.run.budget import Budget
from rlab.run.contract import Footprint, Metrics, NonFinite, Progress, Score, State, Stop, Stopped
from rlab.seeding import derive
from rlab.stats import bootstrap_mean
from rlab.tasks.pictures import JAPANESE, fonts, png
from rlab.tasks.sequence.word_config import WordDataConfig, WordsConfig
from rlab.tasks.sequence.word_kernel import LANES, Draws, Method, Vectors, learn, windows
from rlab.tasks.task import Metric

CHUNK = {"negative-sampling": 40_000, "softmax": 200}
"""Words of a step."""

LEAST = 4_000
"""Words that are worth a thread."""

LAST_RATE = 1e-3
"""Of the learning rate at the end, as a part of that at the beginning."""

SCORED = 20_000
"""Windows of a split that are scored at the most, spread over it."""

BLOCKS = 100
"""Parts of a split, of neighbouring windows, which its interval is over."""

TOGETHER = 128
"""Predictions of one step of the softmax at the most, and no more than an eighth of the vocabulary: their gradients are
summed, and a word that were in many of them would be moved too far."""

SHOWN = 150
"""Words of a map."""

COMMON = 20
"""The most frequent words, which a map leaves out."""


@dataclass(frozen=True)
class Words:
    """A text as words of a vocabulary.

    Attributes:
        name: of the text.
        vocabulary: the words, the most frequent one first.
        counts: how often each stands in the training text, int64[V].
        splits: name -> the words, int32[N], and whether no window reaches across to the word before, bool[N].
    """

    name: str
    vocabulary: tuple[str, ...]
    counts: NDArray[np.int64]
    splits: dict[str, tuple[NDArray[np.int32], NDArray[np.bool_]]]

    def __len__(self) -> int:
        return len(self.vocabulary)

    @classmethod
    def of(cls, data: TextDataset, settings: WordDataConfig) -> Words:
        """Take the words of a text that occur often enough.

        Raises:
            RlabError: fewer than two do.
        """
        pieces = ["", *getattr(data.tokenizer, "vocabulary", ())]  # the first one is what the tokenizer has not
        spelt = [_folded(piece) if settings.fold else piece.strip() for piece in pieces]
        names = sorted(set(spelt) - {""})
        ids = {name: number for number, name in enumerate(names)}
        table = np.array([ids.get(word, -1) for word in spelt], np.int64)
        line = pieces.index("\n") if "\n" in pieces else -1
        found = {}
        for split in data.splits:
            at = np.maximum(data.part(split).numpy().astype(np.int64) - SPECIAL + 1, 0)
            ends = at == line
            if settings.windows_end == "paragraph":
                ends[1:] = ends[1:] & ends[:-1]
                ends[:1] = False
            found[split] = table[at], np.cumsum(ends)
        train = found["train"][0]
        counts = np.bincount(train[train >= 0], minlength=len(names))
        order = np.lexsort((np.arange(len(names)), -counts))
        order = order[counts[order] >= settings.min_count][: settings.vocabulary or None]
        if len(order) < 2:
            raise RlabError(
                f"the training text of '{data.name}' has {len(order)} words that occur {settings.min_count} times or "
                "more; it takes two at least; nearest: --min-count 1"
            )
        rank = np.full(len(names) + 1, -1)
        rank[order] = np.arange(len(order))
        splits = {}
        for split, (words, paragraphs) in found.items():
            ranked = rank[words]
            known = ranked >= 0
            paragraph = paragraphs[known]
            splits[split] = ranked[known].astype(np.int32), np.diff(paragraph, prepend=-1) != 0
        return cls(data.name, tuple(names[n] for n in order), counts[order], splits)

    def draws(self, sample: float, power: float) -> Draws:
        """What is drawn from: which words are kept, and noise words by frequency to a power.

        Of a word with share f of the text sqrt(s / f) + s / f are kept, for s = `sample`, as word2vec.c does.
        """
        if sample:
            part = sample * self.counts.sum() / self.counts
            keep = np.minimum(np.sqrt(part) + part, 2.0)
        else:
            keep = np.full(len(self), 2.0)
        return Draws(keep.astype(np.float32), *alias_table(self.counts.astype(np.float64) ** power))


def _folded(piece: str) -> str:
    """A word in small letters and without what stands around it that is neither letter nor digit."""
    inner = [n for n, c in enumerate(piece) if c.isalnum()]
    return piece[inner[0] : inner[-1] + 1].lower() if inner else ""


def alias_table(weights: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Make the alias table (Walker 1977, Vose 1991) of weights[V]: accept float32[V] and alias int32[V].

    Draw n of V at even odds; take n with probability accept[n], else alias[n].
    """
    share = weights / weights.sum() * len(weights)
    accept, alias = np.ones(len(share)), np.arange(len(share))
    small, large = list(np.flatnonzero(share < 1)), list(np.flatnonzero(share >= 1))
    while small and large:
        low, high = small.pop(), large[-1]
        accept[low], alias[low] = share[low], high
        share[high] -= 1 - share[low]
        if share[high] < 1:
            small.append(large.pop())
    return accept.astype(np.float32), alias.astype(np.int32)


class WordVectors:
    """Vectors of words: learning, scoring, and what is near what.

    Args:
        words: the text.
        settings: how they are learned.
        seed: of the first vectors and of all that is drawn.
    """

    primary = Metric("loss of a held-out neighbour", "nats", higher_is_better=False)

    def __init__(self, words: Words, settings: WordsConfig, seed: int):
        self.words = words
        self.settings = settings
        self.seed = seed
        width = -(-settings.width // LANES) * LANES
        self.vectors = Vectors(np.zeros((len(words), width), np.float32), np.zeros((len(words), width), np.float32))
        first = np.random.default_rng(derive(seed, "vectors")).random((len(words), settings.width), np.float32)
        self.vectors.input[:, : settings.width] = (first - 0.5) / settings.width
        self.draws = words.draws(settings.sample, settings.power)
        self.method = Method(
            settings.method == "skip-gram", settings.window, settings.negative, settings.cbow_error == "whole"
        )

    def learn(self, start: int, stop: int, rates: tuple[float, float], *of: int) -> None:
        """Learn the training words from `start` to `stop`.

        Args:
            start, stop: places in the training text.
            rates: learning rate at the first and behind the last.
            of: numbers that what is drawn depends on, beside the seed and the place.
        """
        tokens, begins = (column[start:stop] for column in self.words.splits["train"])

        def part(low: int, high: int) -> None:
            line = [rates[0] + (rates[1] - rates[0]) * at / len(tokens) for at in (low, high)]
            key = self._key("words", *of, start, low)
            learn(tokens[low:high], begins[low:high], self.vectors, self.draws, self.method, np.array(line), key)

        if self.settings.objective == "softmax":
            self._learn_softmax(tokens, begins, rates, self._key("words", *of, start, 0))
        else:
            THREADS.share(part, len(tokens), LEAST)

    def _key(self, *of: str | int) -> NDArray[np.uint64]:
        return np.array([derive(self.seed, *of)], np.uint64)

    def _windows(self, tokens: Any, begins: Any, keep: Any, fixed: bool, key: Any) -> tuple[Tensor, Tensor]:
        """Centres int64[N] and their neighbours int64[N, 2 * window], -1 where there is none."""
        centres = np.empty(len(tokens), np.int64)
        around = np.empty((len(tokens), 2 * self.settings.window), np.int64)
        n = windows(tokens, begins, keep, self.settings.window, fixed, key, centres, around)
        return torch.from_numpy(centres[:n]), torch.from_numpy(around[:n])

    def _hidden(self, vectors: Tensor, centres: Tensor, around: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What words are predicted from, [P, D], which words int64[P], and the windows they are of, int64[P]."""
        there = around >= 0
        if self.method.skip_gram:
            window, place = there.nonzero(as_tuple=True)
            return vectors[around[window, place]], centres[window], window
        mean = (vectors[around.clamp(min=0)] * there[:, :, None]).sum(1) / there.sum(1, keepdim=True)
        return mean, centres, torch.arange(len(centres))

    def _learn_softmax(self, tokens: Any, begins: Any, rates: tuple[float, float], key: Any) -> None:
        """Learn by the softmax over the whole vocabulary, some predictions at a time."""
        centres, around = self._windows(tokens, begins, self.draws.keep, False, key)
        vectors = [torch.from_numpy(part).requires_grad_() for part in self.vectors]
        of_window = 1 if not self.method.skip_gram else self.settings.window + 1
        together = max(1, min(TOGETHER, len(self.words) // 8) // of_window)
        parts = list(zip(*(part.split(together) for part in (centres, around)), strict=True))
        for number, (some, beside) in enumerate(parts):
            hidden, wanted, _ = self._hidden(vectors[0], some, beside)
            loss = F.cross_entropy(hidden @ vectors[1].T, wanted, reduction="sum")
            rate = rates[0] + (rates[1] - rates[0]) * number / len(parts)
            with torch.no_grad():
                for one, slope in zip(vectors, torch.autograd.grad(loss, vectors), strict=True):
                    one.sub_(slope, alpha=rate)

    @torch.no_grad()
    def losses(self, split: str, stop: Stop) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Score windows of a split at their whole reach: the sum of losses, and how many, of each of `BLOCKS` parts.

        Negative sampling's loss is -log s(h.w) - sum of log s(-h.n) over noise words n, drawn alike for any vectors;
        the softmax's is -log p(w).

        Raises:
            RlabError: the split has no window.
            Stopped: a stop was requested.
        """
        if split not in self.words.splits:
            raise RlabError(f"'{self.words.name}' has no split '{split}'; {nearest(split, self.words.splits)}")
        all_kept = np.full(len(self.words), 2, np.float32)
        centres, around = self._windows(*self.words.splits[split], all_kept, True, self._key("score", split))
        if not len(centres):
            raise RlabError(f"the split '{split}' of '{self.words.name}' has no two words of the vocabulary together")
        some = torch.linspace(0, len(centres) - 1, min(SCORED, len(centres))).long()
        centres, around = centres[some], around[some]
        vectors, output = (torch.from_numpy(part) for part in self.vectors)
        noise = self._noise(len(centres))
        sums, numbers = [], []
        for block in torch.arange(len(centres)).tensor_split(min(BLOCKS, len(centres))):
            if stop.requested:
                raise Stopped
            hidden, wanted, window = self._hidden(vectors, centres[block], around[block])
            if self.settings.objective == "softmax":
                loss = F.cross_entropy(hidden @ output.T, wanted, reduction="none")
            else:
                against = torch.einsum("pd,pnd->pn", hidden, output[noise[block][window]])
                loss = -F.logsigmoid((hidden * output[wanted]).sum(1)) - F.logsigmoid(-against).sum(1)
            sums.append(loss.double().sum().item())
            numbers.append(len(loss))
        return np.array(sums), np.array(numbers)

    def _noise(self, n: int) -> Tensor:
        """Noise words of n windows that are scored, int64[n, negative]; the same for any vectors."""
        generator = np.random.default_rng(derive(self.seed, "noise"))
        share = self.words.counts.astype(np.float64) ** self.settings.power
        drawn = generator.choice(len(self.words), (n, self.settings.negative), p=share / share.sum())
        return torch.from_numpy(drawn)

    def evaluate(self, split: str, stop: Stop) -> Score:
        """Score a split: the mean loss of a prediction.

        Raises:
            RlabError: the split has no window.
            Stopped: a stop was requested.
        """
        sums, numbers = self.losses(split, stop)
        low, high = bootstrap_mean(sums / numbers)
        return self.primary.score(
            float(sums.sum() / numbers.sum()), low, high, split=split, examples=int(numbers.sum()),
            objective=self.settings.objective, vocabulary=len(self.words),
        )  # fmt: skip

    def embeddings(self) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        """The words, and their vectors float32[V, D]; see `rlab.run.contract.Embeds`."""
        return self.words.vocabulary, self.vectors.input[:, : self.settings.width]

    def draw(self, stop: Stop) -> dict[str, bytes]:
        """Draw a map of frequent words."""
        if stop.requested:
            raise Stopped
        names, vectors = self.embeddings()
        some = slice(COMMON, COMMON + SHOWN) if len(names) > 3 * COMMON else slice(SHOWN)
        return {"words": word_map(names[some], vectors[some])}


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to length 1; rows of zeros stay."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), np.float32)


def place_of(word: str, words: Sequence[str]) -> int:
    """The number of a word, which may be written in capitals.

    Raises:
        RlabError: the vocabulary has it not; the message names near ones.
    """
    known = {name: number for number, name in reversed(list(enumerate(words)))}
    for spelling in (word, word.lower(), _folded(word)):
        if spelling in known:
            return known[spelling]
    raise RlabError(
        f"the vocabulary of {len(words):,} words has no '{printable(word)}'; {nearest(word.lower(), known)}"
    )


def neighbours(
    words: Sequence[str], vectors: NDArray[np.float32], plus: Sequence[str], minus: Sequence[str] = (), n: int = 10
) -> list[tuple[str, float]]:
    """Find the words nearest to a sum of words by the cosine, those of the sum left out.

    Args:
        words: the vocabulary, [V].
        vectors: float32[V, D].
        plus, minus: the words that are added and subtracted, each as a vector of length 1: an analogy "a is to b as c
            is to ..." is plus b, c and minus a.
        n: how many.

    Returns:
        (word, cosine), the nearest first.

    Raises:
        RlabError: the vocabulary has not one of the words.
    """
    unit = unit_rows(vectors)
    given = {place_of(word, words): sign for sign, part in ((1.0, plus), (-1.0, minus)) for word in part}
    total = sum(sign * unit[place] for place, sign in given.items())
    cosine = unit @ unit_rows(np.asarray(total, np.float32)[None])[0]
    cosine[list(given)] = -np.inf
    order = np.argsort(-cosine, kind="stable")[: min(n, len(words) - len(given))]
    return [(words[place], float(cosine[place])) for place in order]


def word_map(words: Sequence[str], vectors: NDArray[np.float32]) -> bytes:
    """Draw words in the plane of the two principal components of their vectors at length 1, as PNG."""
    unit = unit_rows(vectors)
    centred = unit - unit.mean(0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes * np.where(axes[:, [0]] < 0, -1, 1)  # a direction's sign is any; one is chosen, so that maps are alike
    places = centred @ axes[:2].T
    shares = sizes**2 / np.sum(sizes**2)
    family = fonts()
    plain = any(ord(letter) > 0x2E7F for word in words for letter in word) and not set(family) & set(JAPANESE)

    def put(figure: Any) -> None:
        axis = figure.subplots()
        axis.scatter(*places.T, s=4, color="#bbbbbb")
        for word, place in zip(words, places, strict=True):
            text = word.encode("ascii", "backslashreplace").decode() if plain else word
            axis.annotate(text.replace("$", r"\$"), place, fontsize=7, ha="center", fontfamily=family)
        axis.set_title(f"{len(words)} frequent words: {shares[:2].sum():.0%} of their spread lies in this plane")
        axis.set_xticks([])
        axis.set_yticks([])

    return png(put, (9, 7))


class WordsLearner:
    """The Learner of word vectors; progress counts words of the training text.

    Args:
        task: the vectors, and their text.
    """

    def __init__(self, task: WordVectors):
        self.task = task
        self.budget = Budget()
        self.done = 0
        self.size = len(task.words.splits["train"][0])
        self.held_out = "validation" if "validation" in task.words.splits else "train"

    def step(self) -> Metrics:
        """Learn some thousand words, with softmax some hundred."""
        started = time.perf_counter()
        epoch, start = divmod(self.done, self.size)
        stop = min(start + CHUNK[self.task.settings.objective], self.size)
        rates = self._rate(self.done), self._rate(self.done + stop - start)
        self.task.learn(start, stop, rates, epoch)
        self.done += stop - start
        with np.errstate(over="ignore", invalid="ignore"):
            length = float(np.sqrt(np.square(self.task.vectors.input).sum(1, dtype=np.float64)).mean())
        if not np.isfinite(length) or not np.isfinite(self.task.vectors.output).all():
            raise NonFinite("word vectors", length, f"word {self.done:,}; take a smaller --learning-rate")
        return {
            "length": length,
            "learning_rate_last": rates[1],
            "epoch_last": float(epoch + 1),
            "clock_learn": time.perf_counter() - started,
        }

    def _rate(self, done: int) -> float:
        share = self.budget.share(done)
        if share is None:
            share = done / (self.size * self.budget.horizon(self.task.settings.epochs))
        return self.task.settings.learning_rate * max(1 - share, LAST_RATE)

    @property
    def skips_evaluations(self) -> bool:
        """Whether only the final evaluation is made: nothing is held out."""
        return self.held_out == "train"

    def evaluate(self, stop: Stop) -> Score:
        """Score the validation split (without one, the training split), at the end the test split.

        Raises:
            Stopped: a stop was requested.
        """
        return self.task.evaluate("test" if self.progress().finished else self.held_out, stop)

    def evaluate_split(self, split: str, stop: Stop) -> Score:
        """Score a split with the vectors that there are.

        Raises:
            Stopped: a stop was requested.
        """
        return self.task.evaluate(split, stop)

    def progress(self) -> Progress:
        """Return the words learned from and planned."""
        return Progress(self.done, self.budget.end(self.task.settings.epochs * self.size), "words")

    def footprint(self, stop: Stop) -> Footprint:
        """Estimate memory from the vectors, and time from some words that are forgotten again."""
        vectors, kept = self.task.vectors, [part.copy() for part in self.task.vectors]
        some = min(self.size, CHUNK[self.task.settings.objective])
        seconds = []
        for number in range(3):  # the first one may compile
            if stop.requested:
                break
            started = time.perf_counter()
            self.task.learn(0, some, (0.0, 0.0), number)
            seconds.append(time.perf_counter() - started)
        for part, old in zip(vectors, kept, strict=True):
            part[:] = old
        if stop.requested:
            raise Stopped
        held = vectors.input.nbytes + vectors.output.nbytes
        text = sum(tokens.nbytes + begins.nbytes for tokens, begins in self.task.words.splits.values())
        total = self.task.settings.epochs * self.size
        return Footprint(
            4 * held + 4 * text,
            0,
            held + 40 * len(self.task.words) + 20_000,
            min(seconds) * total / some,
            2 * len(self.task.words) * self.task.settings.width,
        )

    def state(self) -> State:
        """Return the vectors, the words that they are of, and how far the run is."""
        return {
            "input": torch.from_numpy(self.task.vectors.input.copy()),
            "output": torch.from_numpy(self.task.vectors.output.copy()),
            "words": list(self.task.words.vocabulary),
            "done": self.done,
        }

    def restore(self, state: State, stop: Stop) -> None:
        """Become what `state` describes.

        Raises:
            RlabError: it is of other words.
        """
        if stop.requested:
            raise Stopped
        if tuple(state["words"]) != self.task.words.vocabulary:
            raise RlabError(f"the words of '{self.task.words.name}' are not those that the vectors were learned of")
        for name, part in self.task.vectors._asdict().items():
            part[:] = torch.as_tensor(state[name]).numpy()
        self.done = state["done"]

    def restore_policy(self, state: State) -> None:
        """The same: there is nothing that only learning needs."""
        self.restore(state, Stop())

    def close(self) -> None:
        """Nothing is held open."""
