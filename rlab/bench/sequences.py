"""Transformers: a training step beside plain PyTorch of the same shape, and writing with and without a cache.

Both sides of a comparison run in turn, each in a process of its own. In training they begin with the same weights and
learn from the same batches in the same order, so that their losses can be compared; the peer gets its batches ready
made. Ours is what `rlab train` runs, batches, metrics and all. What is timed begins after `WARM_UP` updates. Ratios are
also given by processor time, for a machine that others use, too. Run as a module with a JSON request it makes one
measurement.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from rlab.bench.apart import measured_apart

WARM_UP = 8
"""Updates that are not timed."""

ENDLESS = 10**6
"""Epochs, so that no schedule and no budget ends a measurement."""

WRITTEN = 256
"""Tokens that are written."""

WRITER: dict[str, Any] = {"vocabulary": 65, "width": 256, "layers": 6, "heads": 8, "context": WRITTEN + 1}
"""The language model that writes: as `rlab train transformer-lm` has it on a large text."""

TASKS: dict[str, dict[str, Any]] = {
    "language model": {
        "recipe": "transformer-lm",
        "data": "shakespeare-small",
        "settings": {"window": 64, "batch_size": 12, "width": 128, "layers": 4, "heads": 4, "positions": "learned",
                     "learning_rate": 1e-3, "weight_decay": 0.1},
        "peer": "a plain GPT in torch",
    },
    "translator": {
        "recipe": "transformer",
        "data": "rule-pairs",
        "settings": {"batch_size": 64, "width": 128, "layers": 3, "heads": 4, "learning_rate": 1e-4,
                     "weight_decay": 0.01},
        "peer": "torch.nn.Transformer",
    },
}  # fmt: skip
"""What learns -> recipe, data and settings of ours, and whom it is measured beside."""

ALIKE: dict[str, Any] = {
    "dropout": 0.0,
    "label_smoothing": 0.0,
    "max_grad_norm": 1.0,
    "schedule": "constant",
    "optimiser": "adamw",
}
"""Settings of all that learns here."""

Progress = Callable[[str], None]


def measure(rounds: int, steps: int, threads: int, progress: Progress) -> dict[str, Any]:
    """Time training and writing, and compare losses.

    Args:
        rounds: how often each side is measured, in turn; medians count.
        steps: timed updates of one measurement.
        threads: of torch, of both; 0: one for every core.
        progress: told what is being measured.

    Returns:
        JSON: ``training``, a row for each task and precision of ours with ``ours_tokens_per_s``,
        ``peer_tokens_per_s``, ``ratio`` (median of ``ratios``), ``cpu_ratio`` (by processor time), ``ours_loss`` and
        ``peer_loss`` (nats a token over the last updates of ``updates``) and ``apart`` (the largest difference of the
        two curves); ``writing`` with ``cached_tokens_per_s``, ``uncached_tokens_per_s``, both ratios, ``same`` (tokens
        that both wrote alike) and ``tokens``; and the ``load`` before each round.

    Raises:
        RlabError: a measurement failed.
    """
    from rlab.nn.precision import bf16_pays
    from rlab.run.provenance import git_state, processor, versions

    precisions = ["fp32", *(["bf16"] if bf16_pays() else [])]
    loads: list[float] = []

    def in_turn(what: str, sides: list[str], request: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        for number in range(1, rounds + 1):
            loads.append(round(os.getloadavg()[0], 2))
            for side in sides:
                progress(f"{what}, {side}: round {number} of {rounds}")
                found[side].append(_one(request | {"side": side, "threads": threads}))
        return found

    rows = []
    for task, settings in TASKS.items():
        found = in_turn(task, [*precisions, "peer"], {"task": task, "steps": steps})
        rows += [_row(task, settings["peer"], side, found[side], found["peer"]) for side in precisions]
    writing = in_turn("writing", ["cached", "uncached"], {"tokens": WRITTEN})
    return {
        "training": rows,
        "writing": _written(**writing),
        "steps": steps,
        "rounds": rounds,
        "threads": threads,
        "load": loads,
        "machine": {"processor": processor(), "versions": versions(), "git": git_state()},
    }


def _row(
    task: str, peer: str, precision: str, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]
) -> dict[str, Any]:
    curves = [dict(side[0]["losses"]) for side in (ours, theirs)]
    last = max(curves[0])
    return {
        "task": task,
        "precision": precision,
        "peer": peer,
        "ours_tokens_per_s": _median(ours),
        "peer_tokens_per_s": _median(theirs),
        **_ratios(ours, theirs),
        "updates": last,
        "ours_loss": round(curves[0][last], 4),
        "peer_loss": round(curves[1][last], 4),
        "apart": round(max(abs(loss - curves[1][place]) for place, loss in curves[0].items()), 4),
    }


def _written(cached: list[dict[str, Any]], uncached: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "cached_tokens_per_s": _median(cached),
        "uncached_tokens_per_s": _median(uncached),
        **_ratios(cached, uncached),
        "same": sum(a == b for a, b in zip(cached[0]["ids"], uncached[0]["ids"], strict=True)),
        "tokens": len(cached[0]["ids"]),
        "model": WRITER,
    }


def _median(rounds: list[dict[str, Any]]) -> float:
    return round(statistics.median(one["tokens_per_s"] for one in rounds), 1)


def _ratios(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of speeds by the wall clock, each round's and their median; and the median of those by processor time."""
    ratios = {
        name: [a[name] / b[name] for a, b in zip(ours, theirs, strict=True)]
        for name in ("tokens_per_s", "tokens_per_cpu_s")
    }
    return {
        "ratio": round(statistics.median(ratios["tokens_per_s"]), 2),
        "ratios": [round(ratio, 2) for ratio in ratios["tokens_per_s"]],
        "cpu_ratio": round(statistics.median(ratios["tokens_per_cpu_s"]), 2),
    }


def _now() -> tuple[float, float]:
    """Wall and processor time."""
    return time.perf_counter(), time.process_time()


def _speeds(tokens: int, began: tuple[float, float], ended: tuple[float, float]) -> dict[str, float]:
    wall, cpu = (after - before for before, after in zip(began, ended, strict=True))
    return {"tokens_per_s": tokens / wall, "tokens_per_cpu_s": tokens / cpu}


def _one(request: dict[str, Any]) -> Any:
    return measured_apart("rlab.bench.sequences", request)


def _learner(request: dict[str, Any]) -> AbstractContextManager[Any]:
    """Our Learner of a task, in the precision that the side names; the peer's is fp32."""
    from rlab.studies.rl import learner

    task, side = TASKS[request["task"]], request["side"]
    precision = "fp32" if side == "peer" else side
    return learner(task["recipe"], task["data"], 0, epochs=ENDLESS, precision=precision, **ALIKE | task["settings"])


def run_ours(request: dict[str, Any]) -> dict[str, Any]:
    """Train ours: ``tokens_per_s``, ``tokens_per_cpu_s``, and ``losses``, [updates, mean since the one before]."""
    with _learner(request) as fit:
        losses, began, updates = [], _now(), WARM_UP + request["steps"]
        for number in range(updates):
            if number == WARM_UP:
                began = _now()
            metrics = fit.step()
            if "loss" in metrics:
                losses.append([fit.updates, metrics["loss"]])
        ended = _now()
        batches = (fit.task.data.at(*divmod(number, fit.per_epoch)) for number in range(WARM_UP, updates))
        return _speeds(sum(map(_tokens, batches)), began, ended) | {"losses": losses}


def run_peer(request: dict[str, Any]) -> dict[str, Any]:
    """Train the peer on the batches of ours, from the weights of ours; the result is as of `run_ours`."""
    from rlab.bench.peers import gpt, translator
    from rlab.tasks.trainer import REPORTED

    settings, updates = TASKS[request["task"]]["settings"], WARM_UP + request["steps"]
    shape = {name: settings[name] for name in ("width", "layers", "heads")}
    with _learner(request) as fit:
        batches = [fit.task.data.at(*divmod(number, fit.per_epoch)) for number in range(updates)]
        model: gpt.GPT | translator.Translator
        if request["task"] == "language model":
            model = gpt.GPT(gpt.Args(len(fit.task.tokenizer), settings["window"], **shape))
            given = [(batch["tokens"][:, :-1], batch["tokens"][:, 1:]) for batch in batches]
        else:
            sides = fit.task.dataset.source_tokenizer, fit.task.dataset.target_tokenizer
            model = translator.Translator(translator.Args(*map(len, sides), **shape))
            given = [(batch["source"], batch["target"]) for batch in batches]
        model.take(fit.task.model.state_dict())
        per_epoch = fit.per_epoch
    how = {name: settings[name] for name in ("learning_rate", "weight_decay")}
    step = gpt.train(model, given, max_grad_norm=ALIKE["max_grad_norm"], **how)
    found = [next(step) for _ in range(WARM_UP)]
    began = _now()
    found += step
    ended = _now()
    losses, since = [], 0
    for number in range(1, updates + 1):  # where a `Trainer` reports its means
        if number - since == REPORTED or number % per_epoch == 0:
            losses.append([number, statistics.fmean(found[since:number])])
            since = number
    return _speeds(sum(map(_tokens, batches[WARM_UP:])), began, ended) | {"losses": losses}


def _tokens(batch: Any) -> int:
    """Tokens of a batch that are predicted."""
    if "target" in batch.tensors:
        return int(batch["target_mask"][:, 1:].sum())
    tokens: int = batch["tokens"][:, 1:].numel()
    return tokens


def run_writing(request: dict[str, Any]) -> dict[str, Any]:
    """Write with the cache, or by a pass over all that stands there for every token: both speeds, and ``ids``."""
    import torch

    from rlab.nn.sequence.generate import sample_tokens
    from rlab.nn.sequence.language import LanguageModel

    torch.manual_seed(0)
    model = LanguageModel(**WRITER).eval()
    first = torch.zeros(1, 1, dtype=torch.int64)

    def again(ids: Any, before: Any) -> Any:
        tokens = torch.cat([before, ids[:, None]], 1)
        return model(tokens)[:, -1], tokens

    step, begin = (model.step, model.begin(1)) if request["side"] == "cached" else (again, first[:, :0])

    def write(n: int) -> Any:
        return sample_tokens(step, begin, first, n, generator=torch.Generator().manual_seed(0))

    write(WARM_UP)
    began = _now()
    ids = write(request["tokens"])
    return _speeds(request["tokens"], began, _now()) | {"ids": ids[0].tolist()}


RUNS = {"peer": run_peer, "cached": run_writing, "uncached": run_writing, "fp32": run_ours, "bf16": run_ours}
"""Side -> what measures it."""

if __name__ == "__main__":
    from rlab.run.lifecycle import prepare_process

    _request = json.loads(sys.argv[1])
    prepare_process(_request["threads"])
    print(json.dumps(RUNS[_request["side"]](_request)))
