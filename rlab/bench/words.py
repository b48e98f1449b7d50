"""Word vectors beside gensim on the same text, both in turn: words a second, held-out loss, and agreement with people.

Both learn from the same words with the same settings, gensim through its fastest way in (`corpus_file`). What is timed
is the training alone, and also all from the file to the vectors. The lab's loop shares noise words among the neighbours
in a window, gensim draws them for each; the held-out loss says what that costs.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rlab.data.own import OwnSettings
from rlab.data.text.settings import TextSettings
from rlab.kernels import THREADS
from rlab.machine import cores
from rlab.run.contract import Stop
from rlab.tasks.sequence.word_config import WordDataConfig, WordsConfig

REPLICATES = 2_000
"""Of the bootstrap over pairs of words."""


def measure(
    data: str, method: str, epochs: int, rounds: int, workers: int, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Train word vectors with both, in turn, each round with a seed of its own.

    Args:
        data: a data set of text, or ``text:FILE``.
        method: skip-gram or cbow.
        epochs: passes over the text.
        rounds: how often each trains.
        workers: threads of each; 0: one for every core.
        progress: told what is being measured.

    Returns:
        JSON: ``rows`` of each round, and ``ours_words_per_s``, ``peer_words_per_s``, ``ratio`` (medians; of training
        alone), ``whole_ratio`` (from the file to the vectors), ``loss_ratio`` (of mean held-out losses), ``wordsim``
        (rank correlation of both, the difference and its 95 % interval), and what both learned from. What needs gensim
        is None without it.
    """
    from rlab.data.datasets import load
    from rlab.tasks.sequence.word_vectors import Words

    peer = importlib.util.find_spec("gensim") is not None
    workers = workers or cores()
    part = WordDataConfig(data=data)
    source = load(data, 0, part.validation, own=OwnSettings(), text=TextSettings(tokens="words", window=1))
    words = Words.of(source, part)
    size = len(words.splits["train"][0])
    settings = WordsConfig(method=method, epochs=epochs, learning_rate=0.025, cbow_error="whole")  # type: ignore[arg-type]
    rows: list[dict[str, Any]] = []
    similar: dict[str, list[np.ndarray]] = {"ours": [], "peer": []}
    people = _wordsim(words.vocabulary) if peer else None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "words.txt"
        file.write_text("\n".join(_lines(words)) + "\n", "utf-8")
        for number in range(1, rounds + 1):
            row: dict[str, Any] = {"seed": number}
            for side, run in (("ours", _ours), ("peer", _gensim)) if peer else (("ours", _ours),):
                progress(f"round {number} of {rounds}: {side}")
                seconds, whole, vectors = run(file, words, settings, workers, number)
                row |= {f"{side}_words_per_s": size * epochs / seconds,
                        f"{side}_whole_words_per_s": size * epochs / whole,
                        f"{side}_loss": _loss(vectors)}  # fmt: skip
                if people is not None:
                    similar[side].append(_cosines(vectors.embeddings()[1], people[0]))
            rows.append(row)

    def median(name: str) -> float | None:
        return statistics.median(row[name] for row in rows) if name in rows[0] else None

    def ratio(ours: float | None, theirs: float | None) -> float | None:
        return ours / theirs if ours and theirs else None

    losses = [statistics.fmean(row[f"{side}_loss"] for row in rows) if peer else None for side in ("ours", "peer")]
    return {
        "ours_words_per_s": median("ours_words_per_s"),
        "peer_words_per_s": median("peer_words_per_s"),
        "ratio": ratio(median("ours_words_per_s"), median("peer_words_per_s")),
        "whole_ratio": ratio(median("ours_whole_words_per_s"), median("peer_whole_words_per_s")),
        "loss_ratio": ratio(*losses),
        "wordsim": _agreement(people[1], similar) if people is not None else None,
        "rows": rows,
        "data": data,
        "words": size,
        "vocabulary": len(words),
        "method": method,
        "epochs": epochs,
        "workers": workers,
    }


def _lines(words: Any) -> Iterator[str]:
    """The training text, one paragraph a line, with the words of the vocabulary alone."""
    tokens, begins = words.splits["train"]
    for part in np.split(tokens, np.flatnonzero(begins)[1:]):
        yield " ".join(words.vocabulary[n] for n in part)


def _ours(file: Path, words: Any, settings: WordsConfig, workers: int, seed: int) -> tuple[float, float, Any]:
    """Train ours: seconds of training, seconds from the file on, and the vectors."""
    from rlab.data.text.corpora import Stream
    from rlab.data.text.datasets import TextDataset, make
    from rlab.tasks.sequence.word_vectors import Words, WordsLearner, WordVectors

    WordVectors(words, settings, seed).learn(0, 10_000, (0.0, 0.0))  # compile
    started = time.perf_counter()
    text = file.read_text("utf-8")
    again = make(str(file), Stream(text, words.vocabulary[0]), TextSettings(tokens="words", window=1), validation=0.0)
    assert isinstance(again, TextDataset)
    Words.of(again, WordDataConfig(fold=False, windows_end="line", min_count=1))
    ready = time.perf_counter()
    THREADS.use(workers)
    learner = WordsLearner(WordVectors(words, settings, seed))
    while not learner.progress().finished:
        learner.step()
    return time.perf_counter() - ready, time.perf_counter() - started, learner.task


def _gensim(file: Path, words: Any, settings: WordsConfig, workers: int, seed: int) -> tuple[float, float, Any]:
    """Train gensim's: seconds of training, seconds from the file on, and the vectors in ours."""
    from gensim.models import Word2Vec

    from rlab.tasks.sequence.word_vectors import LAST_RATE, WordVectors

    started = time.perf_counter()
    model = Word2Vec(
        vector_size=settings.width, window=settings.window, min_count=1, sg=int(settings.method == "skip-gram"),
        negative=settings.negative, ns_exponent=settings.power, sample=settings.sample, cbow_mean=1,
        alpha=settings.learning_rate, min_alpha=LAST_RATE * settings.learning_rate, workers=workers, seed=seed,
    )  # fmt: skip
    model.build_vocab(corpus_file=str(file))
    ready = time.perf_counter()
    model.train(
        corpus_file=str(file), total_words=model.corpus_total_words, total_examples=model.corpus_count,
        epochs=settings.epochs,
    )  # fmt: skip
    ended = time.perf_counter()
    ours = WordVectors(words, settings, seed)
    order = [model.wv.key_to_index[word] for word in words.vocabulary]
    ours.vectors.input[:, : settings.width] = model.wv.vectors[order]
    ours.vectors.output[:, : settings.width] = model.syn1neg[order]
    return ended - ready, ended - started, ours


def _loss(vectors: Any) -> float:
    """The held-out loss, with the same windows and noise words for both."""
    vectors.seed = 0
    sums, numbers = vectors.losses("test", Stop())
    return float(sums.sum() / numbers.sum())


def _wordsim(vocabulary: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray] | None:
    """Pairs of WordSim-353 (Finkelstein et al. 2002) that are in a vocabulary, int64[P, 2], and how people judge them;
    None if gensim has not brought the file, or there are fewer than ten."""
    from gensim.test.utils import datapath

    path = Path(datapath("wordsim353.tsv"))
    if not path.is_file():
        return None
    place = {word: number for number, word in enumerate(vocabulary)}
    pairs, scores = [], []
    for line in path.read_text("utf-8").splitlines():
        first, second, *rest = line.lower().split("\t") if not line.startswith("#") else ("", "")
        if first in place and second in place:
            pairs.append((place[first], place[second]))
            scores.append(float(rest[0]))
    return (np.array(pairs), np.array(scores)) if len(pairs) >= 10 else None


def _cosines(vectors: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    from rlab.tasks.sequence.word_vectors import unit_rows

    unit = unit_rows(vectors)
    cosines: np.ndarray = (unit[pairs[:, 0]] * unit[pairs[:, 1]]).sum(1)
    return cosines


def _agreement(people: np.ndarray, cosines: dict[str, list[np.ndarray]]) -> dict[str, Any]:
    """Spearman's correlation with people, mean over seeds, and the difference with a bootstrap over pairs."""
    from scipy.stats import rankdata

    def rho(some: np.ndarray, side: str) -> float:
        ranks = rankdata(people[some])
        return statistics.fmean(float(np.corrcoef(ranks, rankdata(one[some]))[0, 1]) for one in cosines[side])

    whole = np.arange(len(people))
    generator = np.random.default_rng(0)
    draws = [generator.integers(len(people), size=len(people)) for _ in range(REPLICATES)]
    differences = [rho(some, "ours") - rho(some, "peer") for some in draws]
    low, high = np.percentile(differences, (2.5, 97.5))
    ours, theirs = rho(whole, "ours"), rho(whole, "peer")
    return {"pairs": len(people), "ours": ours, "peer": theirs, "difference": ours - theirs, "low": float(low),
            "high": float(high)}  # fmt: skip
