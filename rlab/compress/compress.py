"""Make a smaller run of a trained one: `compress` writes a new run that every verb takes like the first.

What only learning needs (optimisers, replay, logs) stays behind, and the weights of the network are stored in few bits,
or without those that are 0. Whoever opens the run computes with the float weights that they stand for.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rlab.compress.prune import magnitude_masks, sparsity
from rlab.compress.quantise import BITS, quantise
from rlab.compress.structured import narrower
from rlab.compress.training import (
    Hook,
    Trained,
    all_finite,
    initial_weights,
    masked,
    quantised,
    refuse_untrainable,
    trained,
)
from rlab.errors import RlabError, nearest
from rlab.run.checkpoint import Checkpoints, Saved
from rlab.run.config import to_plain
from rlab.run.contract import Log, State, Stop
from rlab.run.files import write_document
from rlab.run.folder import LONGEST_NAME, RunFolder, check_name, create_run, holds, runs_dir
from rlab.run.journal import Journal
from rlab.run.lifecycle import configuration_of, find_checkpoint, resolve_device
from rlab.run.packing import Packed, pack
from rlab.tasks.trainer import of_several_modules

PLACES = (("modules",), ("agent", "online"), ("agent", "network"), ("agent", "policy"), ("network",))
"""Where a state may hold the parameters of what acts or predicts: models, agents, players of Go."""

BESIDE = (("agent", "teacher"), ("agent", "expert", "note"))
"""Where it may hold what evaluations compare with: a teacher that is played beside, an expert's score."""

SMALL = 4_096
"""Bytes of an array up to which it is taken along: counters and the like."""

BUFFERS = ("bitmaps", "frames", "scale", "shift", "sums")
"""Last names of tensors that are no weights: pictures, samples that a generator drew on the way, moments of data."""

NOTE = "compressed"
"""In config.json: how the run was made of which other one."""


Method = Literal["quantise", "prune", "structured", "qat"]

USUAL: dict[str, dict[str, Any]] = {
    "quantise": {"bits": 8, "per_channel": True},
    "prune": {
        "share": 0.8,
        "layerwise": False,
        "rounds": 1,
        "epochs": 0,
        "learning_rate": 0.1,
        "rewind": False,
        "rewind_to": 0,
    },
    "structured": {"share": 0.5, "rounds": 1, "epochs": 0, "learning_rate": 0.1},
    "qat": {"bits": 8, "per_channel": True, "epochs": 0, "learning_rate": 0.1},
}
"""Method -> the settings that it looks at, and what they are if nobody says anything else."""


@dataclass(init=False)
class Compression:
    """How a run is made smaller.

    Args:
        method: quantise: weights in `bits` bits. prune: the smallest weights become 0. structured: whole neurons and
            channels go. qat: quantise, after training in which the forward pass already computes with quantised
            weights (Jacob et al. 2018).
        given: settings of that method; the others are as usual.

    Attributes:
        bits: 2 to 8 (whole numbers) or 16 (half precision); 32 for methods that have no bits.
        per_channel: a scale for each output channel; else one for each tensor.
        share: of the weights that become 0; structured: of each layer's neurons or channels that go.
        layerwise: that share of each layer; else the smallest of the whole network.
        rounds: prune in so many steps, with training after each (Han et al. 2015).
        epochs: passes over the training data, after each round; 0: none, with `rewind` as many updates as the run had.
        learning_rate: as a factor of the rate that the run was trained with.
        rewind: before each training the weights that are left go back to where the run started (Frankle & Carbin 2019).
        rewind_to: the progress of a kept checkpoint to which they go back instead (Frankle et al. 2020).

    Raises:
        RlabError: a value is out of range, or a setting would do nothing.
    """

    method: Method
    bits: int = 32
    per_channel: bool = True
    share: float = 0.0
    layerwise: bool = False
    rounds: int = 1
    epochs: int = 0
    learning_rate: float = 1.0
    rewind: bool = False
    rewind_to: int = 0

    def __init__(self, method: Method = "quantise", **given: Any):
        if method not in USUAL:
            raise RlabError(f"--method is '{method}'; {nearest(method, USUAL)}")
        self.method = method
        for name, value in given.items():
            users = [other for other, usual in USUAL.items() if name in usual]
            if name not in USUAL[method]:
                flag = f"--{name.replace('_', '-')}"
                raise RlabError(
                    f"{flag} is {value}, which does nothing with --method {method}; it is for {' and '.join(users)}"
                )
        usual = dict(USUAL[method])
        if given.get("rewind"):
            usual["learning_rate"] = 1.0
        for name, value in (usual | given).items():
            setattr(self, name, value)
        if "bits" in given and self.bits not in (*BITS, 16):
            raise RlabError(f"--bits is {self.bits}; valid: {', '.join(map(str, BITS))}, 16")
        if not 0 <= self.share < 1:
            raise RlabError(f"--share is {self.share:g}; it must be at least 0 and below 1, such as 0.8")
        if "share" in given and not self.share and not self.trains:
            raise RlabError(f"--share is 0, with which --method {method} changes nothing; nearest: --share 0.1")
        for name, lowest in (("rounds", 1), ("epochs", 0), ("rewind_to", 0)):
            if getattr(self, name) < lowest:
                flag = f"--{name.replace('_', '-')}"
                raise RlabError(f"{flag} is {getattr(self, name)}; it must be at least {lowest}")
        if not 0 < self.learning_rate < math.inf:
            raise RlabError(f"--learning-rate is {self.learning_rate:g}; it must be a number above 0, such as 0.1")
        if self.rounds > 1 and not self.trains:
            raise RlabError(f"--rounds above 1 are for --method {method} with --epochs 1 or more")
        if "learning_rate" in given and not self.trains:
            raise RlabError("--learning-rate does nothing without training; nearest: --epochs 1")
        if self.rewind_to and not self.rewind:
            raise RlabError(f"--rewind-to is {self.rewind_to}, which does nothing without --rewind")
        if self.rewind_to and self.epochs:
            raise RlabError("--rewind-to goes on from there to the run's own end, so that --epochs says nothing to it")
        if method == "qat" and (self.epochs < 1 or self.bits not in BITS):
            raise RlabError("--method qat trains with quantised weights: it needs --epochs 1 or more and --bits 2 to 8")

    @property
    def trains(self) -> bool:
        """Whether there is any training."""
        return self.epochs > 0 or self.rewind

    def note(self) -> dict[str, Any]:
        """Return the method and the settings that it looks at."""
        return {"method": self.method} | {name: getattr(self, name) for name in USUAL[self.method]}


@dataclass(frozen=True)
class Compressed:
    """What `compress` made.

    Attributes:
        folder: the new run.
        before: bytes of the network's parameters as float32.
        after: bytes that they take in the new run's checkpoint.
        zeros: share of the weights that are 0.
        parameters: how many numbers the network has before and after, its buffers included.
        control: with `rewind`, another run with the same weights at 0 whose others started at random.
        taken: where the weights of the last training were taken, if there was one.
    """

    folder: RunFolder
    before: int
    after: int
    zeros: float
    parameters: tuple[int, int]
    control: RunFolder | None = None
    taken: Trained | None = None


def compress(
    folder: RunFolder,
    how: Compression,
    name: str | None = None,
    device: str = "auto",
    stop: Stop | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Compressed:
    """Make a smaller run of a run; the other stays as it is.

    Args:
        folder: a run with a network: a model, an agent, a player of Go.
        how: the method.
        name: of the new run; None: the old one's, with the method.
        device: where it is trained, if it is.
        stop: polled while it is trained.
        report: takes a line for each round of training.

    Raises:
        RlabError: the run has no network, or training was asked for and it has no data set.
        Stopped: a stop was requested; nothing was written.
    """
    resolve_device(device)
    name = _free_name(folder, how, name)
    control = f"{name}-random" if how.rewind else None
    if control is not None:
        _refuse_taken(control)
    saved = find_checkpoint(folder, None)
    state = policy_state(saved.state)
    place, weights = network_in(state, folder)
    if not all_finite(weights):
        raise RlabError(f"run '{folder.name}' has weights that are not finite, so that nothing is made of it")
    made = _Made(configuration_of(folder)[1], weights)
    train = partial(_trained, folder, how, device=device, stop=stop or Stop(), updates=state.get("updates"))
    before_it = [note["method"] for note in folder.config().get(NOTE, [])]
    masks: dict[str, Tensor] = {}

    def zeros_of(part: _Made) -> dict[str, Tensor]:
        """What was pruned before stays 0 in training, too."""
        return {name: w != 0 for name, w in part.rates.items()} if "prune" in before_it else {}

    if how.method == "prune":
        zeros = sparsity(made.rates.values())
        if "prune" in before_it and how.share <= zeros:
            raise RlabError(
                f"--share is {how.share:g}, and {100 * zeros:.1f} % of the weights of run '{folder.name}' are 0 "
                f"already; nearest: --share {1 - 0.5 * (1 - zeros):.2g}"
            )
        start = _start(folder, made.config, how, saved.done) if how.rewind else None
        for round_ in range(1, how.rounds + 1):
            share = 1 - (1 - how.share) ** (round_ / how.rounds)
            masks = magnitude_masks(made.rates, share, how.layerwise)
            made = _Made(made.config, _at_zero(start["modules"] if start else made.weights, masks))
            if how.trains:
                made = train(made, masked(masks), begin=start if how.rewind_to else None)
                report(
                    f"round {round_} of {how.rounds}: {100 * share:.1f} % of the weights are 0, trained; {made.chosen}"
                )
    elif how.method == "structured":
        for round_ in range(1, how.rounds + 1):
            share = 1 - (1 - how.share) ** (1 / how.rounds)
            made = _Made(*narrower(folder, made.config, place, made.weights, share))
            if how.trains:
                made = train(made, masked(zeros_of(made)))
                report(f"round {round_} of {how.rounds}: {made.size:,} numbers are left, trained; {made.chosen}")
    elif how.method == "qat":
        made = train(made, quantised(tuple(made.rates), how.bits, how.per_channel, zeros_of(made)))
        report(f"trained {how.epochs} epochs with weights of {how.bits} bits; {made.chosen}")
    other = None
    if control is not None:
        drawn = replace(made.config, run=replace(made.config.run, seed=made.config.run.seed + OTHER_SEED))
        random = _at_zero(initial_weights(folder, drawn, start=False), masks)
        other = train(_Made(made.config, random), masked(masks))
        report(f"control: the same weights are 0, the others started at random, trained; {other.chosen}")
    before = sum(4 * w.numel() for w in weights.values())
    note = {"of": folder.name, "step": saved.done, **how.note(), "bytes_before": before}
    write = partial(_write, folder, state, place, saved, how)
    new, after, zeros = write(made, name, note)
    beside = None if other is None or control is None else write(other, control, note | {"control": True})[0]
    numbers = before // 4, made.size
    return Compressed(new, before, after, zeros, numbers, beside, made.by)


@dataclass(frozen=True)
class _Made:
    """Settings of a run, the weights of its network, and what they came of if they were trained."""

    config: Any
    weights: dict[str, Tensor]
    by: Trained | None = None

    @property
    def rates(self) -> dict[str, Tensor]:
        """The weights that are pruned or quantised."""
        return {name: w for name, w in self.weights.items() if is_weight(name, w)}

    @property
    def chosen(self) -> str:
        """Which weights of the training they are, in words."""
        return self.by.text() if self.by else ""

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return sum(w.numel() for w in self.weights.values())


OTHER_SEED = 1_000_003
"""Added to a run's seed for weights that it never had."""


def _at_zero(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: w * masks[name] if name in masks else w for name, w in weights.items()}


def _start(folder: RunFolder, config: Any, how: Compression, done: int) -> State:
    """What weights go back to: the state of a kept checkpoint, or the weights before the first update alone."""
    refuse_untrainable(folder, config, "--rewind", "--method prune without it")
    if not how.rewind_to:
        return {"modules": initial_weights(folder, config)}
    saved = find_checkpoint(folder, how.rewind_to)
    if saved.done >= done:
        raise RlabError(f"--rewind-to is {how.rewind_to}, where run '{folder.name}' ends; take an earlier checkpoint")
    return of_several_modules(saved.state)


def _trained(
    folder: RunFolder,
    how: Compression,
    made: _Made,
    around: Hook,
    device: str,
    stop: Stop,
    updates: int | None,
    begin: State | None = None,
) -> _Made:
    """The same after some more epochs of the run's own training, or after as many updates as the run had."""
    refuse_untrainable(folder, made.config)
    fit = made.config.fit
    fit = replace(fit, epochs=how.epochs or fit.epochs, learning_rate=how.learning_rate * fit.learning_rate)
    config = replace(made.config, fit=fit)
    came = trained(folder, config, made.weights, around, device, stop, begin, None if how.epochs else updates)
    return _Made(made.config, came.weights, came)


def _free_name(folder: RunFolder, how: Compression, name: str | None) -> str:
    """The new run's name; refused before hours of training, not after them."""
    if name is not None:
        _refuse_taken(name)
        return name
    detail = f"{how.share:g}" if "share" in USUAL[how.method] else f"{how.bits}bit"
    ending = f"-{how.method}{'-rewound' if how.rewind else ''}-{detail}"
    stem = folder.name.encode()[: LONGEST_NAME - len(ending) - 12].decode(errors="ignore") + ending
    names = (stem, *(f"{stem}-{n}" for n in range(2, 1000)))
    return next((free for free in names if not holds(runs_dir(), free)), stem)


def _refuse_taken(name: str) -> None:
    check_name(name)
    if holds(runs_dir(), name):
        raise RlabError(f"a run named '{name}' exists already; take another --name")


def policy_state(state: State) -> State:
    """Keep of a checkpoint's state what acting, predicting and scoring need: networks, numbers and small arrays.

    The best parameters of a model become its parameters.
    """
    if "modules" in state or "model" in state:
        state = of_several_modules(state)
        modules = (state.get("best") or state)["modules"]
        return {"modules": dict(modules), "best": None, "updates": state["updates"]}
    return _kept(state, ())


def _kept(node: State, place: tuple[str, ...]) -> State:
    kept: State = {}
    for name, value in node.items():
        here = (*place, name)
        if here in (*PLACES, *BESIDE):
            kept[name] = dict(value)
        elif isinstance(value, dict):
            if any(known[: len(here)] == here for known in (*PLACES, *BESIDE)):
                kept[name] = _kept(value, here)
        elif isinstance(value, (np.ndarray, Tensor)):
            if value.nbytes <= SMALL:
                kept[name] = value
        elif not isinstance(value, Log) and (not isinstance(value, (list, tuple)) or _plain(value)):
            kept[name] = value
    return kept


def _plain(values: list[Any] | tuple[Any, ...]) -> bool:
    """Whether a list is one of a few numbers."""
    return len(values) <= SMALL // 8 and all(isinstance(value, (bool, int, float)) for value in values)


def network_in(state: State, run: RunFolder) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Find the network's parameters in a state: (the place, name -> tensor).

    Raises:
        RlabError: there are none.
    """
    for place in PLACES:
        node: Any = state
        for part in place:
            node = node.get(part) if isinstance(node, dict) else None
        if isinstance(node, dict) and any(isinstance(value, Tensor) for value in node.values()):
            return place, node
    raise RlabError(
        f"run '{run.name}' is one of {run.config()['recipe']}, which has no network of layers to be made smaller; "
        "other models, deep agents and players of Go have one"
    )


def is_weight(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is made smaller: no bias, no scale of a norm, nothing that is only kept beside weights."""
    return tensor.dim() > 1 and tensor.is_floating_point() and name.rpartition(".")[2] not in BUFFERS


def _packed(tensor: Tensor, how: Compression, grid: tuple[int, bool] | None) -> Packed:
    """Weights as the new run's checkpoint has them: in the way that takes the fewest bytes.

    Args:
        tensor: the weights.
        how: the method.
        grid: bits and `per_channel` that they had before; while they lie on that grid, it is exact and kept, as half
            precision is.
    """
    codings = [(how.bits, how.per_channel)] if how.bits in BITS else []
    if how.bits == 16 and tensor.abs().amax() > torch.finfo(torch.float16).max:
        raise RlabError(f"a weight is {tensor.abs().amax():g}, and 16 bits hold 65504 at the most; nearest: --bits 8")
    width = 16 if torch.equal(tensor.half().float(), tensor.float()) else how.bits
    choices = [] if codings else [pack(tensor.float(), width, sparse=sparse) for sparse in (False, True)]
    for bits, per_channel in [*codings, *([grid] if grid else [])]:
        found = quantise(tensor, bits, per_channel)
        if (bits, per_channel) in codings or torch.allclose(found.dequantise(), tensor.float(), rtol=1e-5, atol=0):
            choices += [pack(found.codes, bits, found.scale, sparse) for sparse in (False, True)]
    return min(choices, key=lambda packed: packed.nbytes)


def _grid(document: Mapping[str, Any]) -> tuple[int, bool] | None:
    """The fewest bits that a run's weights were given so far, and whether each channel has a scale; None: floats."""
    grids = [(note["bits"], note["per_channel"]) for note in document.get(NOTE, []) if note.get("bits") in BITS]
    return min(grids, default=None)


def _write(
    folder: RunFolder,
    state: State,
    place: tuple[str, ...],
    saved: Saved,
    how: Compression,
    made: _Made,
    name: str,
    note: dict[str, Any],
) -> tuple[RunFolder, int, float]:
    """Write a new run, whole before it has its name; return it, the bytes of its network, and its share of zeros."""
    document, config = folder.config(), to_plain(made.config)
    packed = {key: _packed(w, how, _grid(document)) for key, w in made.rates.items()}
    stored = made.weights | packed
    state = _replaced(state, place, stored)
    notes = saved.loop | ({"config": config} if saved.loop.get("config") is not None else {})
    size = sum(part.nbytes for part in stored.values())
    note = note | {"bytes": size} | ({"taken": made.by.note()} if made.by else {})

    def fill(new: RunFolder) -> None:
        write_document(new.path / "config.json", document | new.config() | {NOTE: [*document.get(NOTE, []), note]})
        for file in ("env.json", "threads.json"):
            if (folder.path / file).is_file():
                (new.path / file).write_bytes((folder.path / file).read_bytes())
        with contextlib.closing(Journal(new.journal)) as journal:
            Checkpoints(new.checkpoints, journal).save(state, notes, saved.done)

    new = create_run(document["recipe"], document["subject"], config, name, document["unit"], fill)
    return new, size, sparsity([part.unpack() for part in packed.values()])


def _replaced(state: State, place: tuple[str, ...], value: Mapping[str, Any]) -> State:
    """A copy of a state with another value at a place."""
    first, *rest = place
    return state | {first: _replaced(state[first], tuple(rest), value) if rest else value}
