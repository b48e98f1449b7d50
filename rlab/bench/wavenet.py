"""WaveNet's generation: the compiled loop beside a whole pass for every sample, and whether both sound the same."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

FIELD = 2_048
"""Samples of the receptive field of the network that is measured where no run is named."""

SPEED_BAR, BATCH_BAR, RATIO_BAR = 1_000.0, 8_000.0, 50.0
"""Samples a second of one sound, of 16 together, and how many times the slow loop's that is."""

LOGITS_BAR = 1e-4

TOGETHER = 16
"""Sounds of a batch."""

CHECKED = 8
"""Samples that the slow loop makes in each round, and in float64 at the beginning and beyond the field."""


def measure(run: str, samples: int, rounds: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Time generation by both ways in turn, and compare what they make.

    Seconds are those of one core: time that other programs have the core does not count.

    Args:
        run: whose network; empty: one of `FIELD` samples with random weights.
        samples: of a sound.
        rounds: how often each is timed; the median counts.
        progress: told what is being measured.

    Returns:
        JSON: samples a second of one sound (``single_per_s``), of `TOGETHER` (``batch_per_s``) and of the slow loop
        (``naive_per_s``), medians; ``ratio`` of the first to the last; ``same_codes``, of how many samples both loops
        made the same ones in float64, of ``checked``; ``logits_apart``, the largest difference of float32 logits from
        the network's own; ``field`` and ``met``.
    """
    import copy

    import torch

    from rlab.kernels import THREADS
    from rlab.nn.wavenet import CachedWaveNet, generate_naively

    model = _model(run)
    rng = np.random.default_rng(0)
    labels, speakers = [n % model.label.num_embeddings for n in range(TOGETHER)], [0] * TOGETHER
    draws = [rng.random(samples) for _ in range(TOGETHER)]
    cached = CachedWaveNet(model)
    cached.generate([0], [0], [draws[0][:8]])  # compile
    torch.set_num_threads(1)
    THREADS.use(1)
    speeds: dict[str, list[float]] = {"single": [], "batch": [], "naive": []}
    start = torch.from_numpy(cached.generate([0], [0], [draws[0]])[0])
    for number in range(1, rounds + 1):
        progress(f"round {number} of {rounds}")
        began = time.process_time()
        cached.generate([0], [0], draws[:1])
        speeds["single"].append(samples / (time.process_time() - began))
        began = time.process_time()
        cached.generate(labels, speakers, draws)
        speeds["batch"].append(TOGETHER * samples / (time.process_time() - began))
        # Beyond the field every sample costs the slow loop the same, a whole field.
        long = np.concatenate([draws[0], rng.random(model.field)])
        began = time.process_time()
        generate_naively(model, 0, 0, long, start=_grown(start, model.field), most=CHECKED)
        speeds["naive"].append(CHECKED / (time.process_time() - began))
    progress("comparing what both make")
    exact = copy.deepcopy(model).double()
    short = rng.random(CHECKED)
    ours = CachedWaveNet(exact).generate([0], [0], [short])[0]
    same = int((ours == generate_naively(exact, 0, 0, short)).sum())
    grown = rng.random(model.field + CHECKED)
    ours = CachedWaveNet(exact).generate([0], [0], [grown])[0]
    before = torch.from_numpy(ours[: model.field])
    same += int((ours[model.field :] == generate_naively(exact, 0, 0, grown, start=before)).sum())
    position = (torch.arange(samples) / samples)[None]
    with torch.no_grad():
        theirs = model(start[None], torch.tensor([0]), torch.tensor([0]), position)[0].numpy()
    apart = float(np.abs(theirs - cached.score(start.numpy(), 0, 0)).max())
    single, batch, naive = (statistics.median(values) for values in speeds.values())
    return {
        "single_per_s": single,
        "batch_per_s": batch,
        "naive_per_s": naive,
        "ratio": single / naive,
        "same_codes": same,
        "checked": 2 * CHECKED,
        "logits_apart": apart,
        "field": model.field,
        "width": model.embedding.embedding_dim,
        "samples": samples,
        "together": TOGETHER,
        "speeds": speeds,
        "met": {
            "single": single >= SPEED_BAR,
            "batch": batch >= BATCH_BAR,
            "ratio": single / naive >= RATIO_BAR,
            "same": same == 2 * CHECKED,
            "logits": apart <= LOGITS_BAR,
        },
    }


def _grown(codes: Any, length: int) -> Any:
    """The codes again and again, until there are so many."""
    import torch

    return codes.repeat(-(-length // len(codes)))[:length].to(torch.int64)


def _model(run: str) -> Any:
    """The network of a run, or one with random weights, float32 on the CPU.

    Raises:
        RlabError: the run is no WaveNet.
    """
    import torch

    from rlab.nn.wavenet import WaveNet

    if run:
        from rlab.api import load
        from rlab.errors import RlabError
        from rlab.run.contract import Sounds

        with load(run, "cpu") as loaded:
            model: Any = getattr(loaded.ability(Sounds), "model", None)
        if not isinstance(model, WaveNet):
            raise RlabError(f"run '{run}' is no WaveNet")
        return model.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = FIELD.bit_length() - 1
        return WaveNet([2**layer for layer in range(layers)], labels=10, speakers=6).eval()


def spoken_accuracy(run: str, classifier: str, each: int, seed: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Let a run speak words of every class and speaker, and count how many a classifier of spectrograms understands.

    Args:
        run: a WaveNet of recordings with classes, such as ``fsdd_wave``.
        classifier: a run that tells the same classes by log-mel spectrograms, such as of ``fsdd_mel``.
        each: words of each class by each speaker.
        seed: of the draws.
        progress: told what is being done.

    Returns:
        JSON: ``accuracy`` in percent with ``low`` and ``high`` (Wilson), ``words``, and ``real``, the accuracy on test
        recordings of as many words at the most, which no generated word should be expected to beat.

    Raises:
        RlabError: the runs do not fit together.
    """
    from rlab.api import load
    from rlab.data.readers import log_mel
    from rlab.data.sound import from_mu_law
    from rlab.errors import RlabError
    from rlab.run.contract import Labels, Sounds
    from rlab.stats import wilson

    with load(run, "cpu") as loaded:
        maker: Any = loaded.ability(Sounds)
        data = maker.dataset
        words, truth = [], []
        for label, name in enumerate(data.classes):
            progress(f"speaking '{name}'")
            for speaker in data.speakers:
                words += maker.sounds(each, seed, label=name, speaker=speaker, seconds=0.0, temperature=1.0)
                truth += [label] * each
    items = data.part("test")[: len(words)].tolist()
    recorded = [from_mu_law(data.recording(n).numpy()) for n in items]
    with load(classifier, "cpu") as loaded:
        judge: Any = loaded.ability(Labels)
        known = getattr(getattr(judge, "dataset", None), "classes", None)
        if known is None or tuple(known) != tuple(data.classes):
            raise RlabError(
                f"run '{classifier}' does not tell the classes of '{data.name}'; nearest: a run on fsdd_mel"
            )

        def right(sounds: list[np.ndarray], labels: list[int]) -> int:
            # One by one, so that none is padded: the length of a word is no hint then.
            return sum(
                int(judge.predict(log_mel(sound)[None])[0].argmax()) == label
                for sound, label in zip(sounds, labels, strict=True)
            )

        progress("listening")
        hits, real = right(words, truth), right(recorded, data.labels[items].tolist())
    low, high = wilson(hits, len(words))
    return {
        "accuracy": 100 * hits / len(words),
        "low": 100 * low,
        "high": 100 * high,
        "words": len(words),
        "real": 100 * real / len(items),
        "classifier": classifier,
    }
