"""Make a smaller run of a trained one: `compress` writes a new run that every verb takes like the first.

What only learning needs (optimisers, replay, logs) stays behind, and the weights of the network are stored in few bits,
or without those that are 0. Whoever opens the run computes with the float weights that they stand for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from rlab.compress.prune import magnitude_masks
from rlab.compress.quantise import BITS, quantise
from rlab.errors import RlabError
from rlab.registry import RECIPES
from rlab.run.checkpoint import Checkpoints
from rlab.run.contract import Learner, Log, State, Stop, Stopped
from rlab.run.files import write_document
from rlab.run.folder import RunFolder, create_run
from rlab.run.journal import Journal
from rlab.run.lifecycle import BuildContext, begin_process, configuration_of, find_checkpoint, resolve_device
from rlab.run.packing import Packed, pack
from rlab.tasks.trainer import Trainer, of_several_modules

PLACES = (("modules",), ("agent", "online"), ("agent", "network"), ("agent", "policy"), ("network",))
"""Where a state may hold the parameters of what acts or predicts: models, agents, players of Go."""

SMALL = 4_096
"""Bytes of an array up to which it is taken along: counters and the like."""

NOTE = "compressed"
"""In config.json: how the run was made of which other one."""


@dataclass(frozen=True)
class Compression:
    """How a run is made smaller.

    Attributes:
        method: quantise: weights in `bits` bits. prune: the smallest weights become 0. qat: quantise, after training in
            which the forward pass already computes with quantised weights (Jacob et al. 2018).
        bits: 2 to 8 (whole numbers), 16 (half precision), 32.
        per_channel: a scale for each output channel; else one for each tensor.
        share: of the weights that become 0.
        layerwise: that share of each layer; else the smallest of the whole network.
        rounds: prune in so many steps, with training after each (Han et al. 2015).
        epochs: passes over the training data, after each round; 0: none.
        learning_rate: as a factor of the rate that the run was trained with.
    """

    method: Literal["quantise", "prune", "qat"] = "quantise"
    bits: int = 8
    per_channel: bool = True
    share: float = 0.8
    layerwise: bool = False
    rounds: int = 1
    epochs: int = 0
    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        if self.bits not in (*BITS, 16, 32):
            raise RlabError(f"--bits is {self.bits}; valid: {', '.join(map(str, BITS))}, 16, 32")
        if not 0 <= self.share < 1:
            raise RlabError(f"--share is {self.share:g}; it must be at least 0 and below 1, such as 0.8")
        if self.rounds < 1 or self.epochs < 0 or self.learning_rate <= 0:
            raise RlabError("--rounds must be at least 1, --epochs at least 0, and --learning-rate above 0")
        if self.epochs and self.method == "quantise":
            raise RlabError("--epochs does nothing with --method quantise; nearest: --method qat, or --epochs 0")
        if self.rounds > 1 and (self.method != "prune" or not self.epochs):
            raise RlabError("--rounds above 1 are for --method prune with --epochs 1 or more")
        if self.method == "qat" and (self.epochs < 1 or self.bits not in BITS):
            raise RlabError("--method qat trains with quantised weights: it needs --epochs 1 or more and --bits 2 to 8")


@dataclass(frozen=True)
class Compressed:
    """What `compress` made.

    Attributes:
        folder: the new run.
        before: bytes of the network's parameters as float32.
        after: bytes that they take in the new run's checkpoint.
        zeros: share of the weights that are 0.
    """

    folder: RunFolder
    before: int
    after: int
    zeros: float


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
    saved = find_checkpoint(folder, None)
    state = policy_state(saved.state)
    place, weights = network_in(state, folder.name)
    rates = {name: w for name, w in weights.items() if _is_weight(w)}
    if how.method == "prune":
        for round_ in range(1, how.rounds + 1):
            share = 1 - (1 - how.share) ** (round_ / how.rounds)
            masks = magnitude_masks(rates, share, how.layerwise)
            weights = weights | {name: w * masks[name] for name, w in rates.items()}
            if how.epochs:
                weights = _trained(folder, weights, how, _masked(masks), device, stop or Stop())
                report(f"round {round_} of {how.rounds}: {100 * share:.1f} % of the weights are 0, trained")
            rates = {name: weights[name] for name in rates}
    elif how.method == "qat":
        weights = _trained(folder, weights, how, _quantised(tuple(rates), how), device, stop or Stop())
        report(f"trained {how.epochs} epochs with weights of {how.bits} bits")
    packed = {name: _packed(w, how) for name, w in weights.items()}
    inner: Any = state
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = packed
    sizes = [node.nbytes for node in packed.values()]
    zeros = [w for name, w in weights.items() if name in rates]
    made = _write(folder, state, saved.loop, saved.done, how, name)
    return Compressed(
        made,
        sum(4 * w.numel() for w in weights.values()),
        sum(sizes),
        1 - sum(int(w.count_nonzero()) for w in zeros) / max(sum(w.numel() for w in zeros), 1),
    )


def policy_state(state: State) -> State:
    """Keep of a checkpoint's state what acting or predicting needs: the network, numbers and small arrays.

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
        if here in PLACES:
            kept[name] = dict(value)
        elif isinstance(value, dict):
            if any(known[: len(here)] == here for known in PLACES):
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


def network_in(state: State, run: str) -> tuple[tuple[str, ...], dict[str, Tensor]]:
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
        f"run '{run}' has no network that could be made smaller; models, deep agents and players of Go have"
    )


def _is_weight(tensor: Tensor) -> bool:
    return tensor.dim() > 1 and tensor.is_floating_point()


def _packed(tensor: Tensor, how: Compression) -> Tensor | Packed:
    """A tensor as the new run's checkpoint has it: weights packed, without zeros where that is smaller."""
    if not _is_weight(tensor):
        return tensor
    if how.method == "prune" or how.bits >= 16:
        bits = 32 if how.method == "prune" else how.bits
        choices = [pack(tensor.float(), bits, sparse=sparse) for sparse in (False, True)]
    else:
        found = quantise(tensor, how.bits, how.per_channel)
        choices = [pack(found.codes, how.bits, found.scale, sparse) for sparse in (False, True)]
    return min(choices, key=lambda packed: packed.nbytes)


def _write(
    folder: RunFolder, state: State, notes: Mapping[str, Any], done: int, how: Compression, name: str | None
) -> RunFolder:
    document = folder.config()
    detail = f"{how.share:g}" if how.method == "prune" else f"{how.bits}bit"
    new_name = name or f"{folder.name}-{how.method}-{detail}"
    made = create_run(document["recipe"], document["subject"], document["config"], new_name, document["unit"])
    note = {"of": folder.name, "step": done, **asdict(how)}
    write_document(made.path / "config.json", document | {NOTE: [*document.get(NOTE, []), note]})
    for file in ("env.json", "threads.json"):
        if (folder.path / file).is_file():
            (made.path / file).write_bytes((folder.path / file).read_bytes())
    Checkpoints(made.checkpoints, Journal(made.journal)).save(state, dict(notes), done)
    return made


Hook = Callable[[nn.Module], contextlib.AbstractContextManager[None]]
"""Modules -> what surrounds each step of their training."""


def _masked(masks: Mapping[str, Tensor]) -> Hook:
    """Weights that were pruned stay 0: set back after each step."""

    @contextlib.contextmanager
    def around(modules: nn.Module) -> Iterator[None]:
        yield
        named = dict(modules.named_parameters())
        with torch.no_grad():
            for name, mask in masks.items():
                if name in named:
                    named[name].mul_(mask.to(named[name].device))

    return around


def _quantised(names: tuple[str, ...], how: Compression) -> Hook:
    """A step is computed with quantised weights, and what it changes is added to the real ones (straight-through)."""

    @contextlib.contextmanager
    def around(modules: nn.Module) -> Iterator[None]:
        named = dict(modules.named_parameters())
        with torch.no_grad():
            real = {name: named[name].clone() for name in names if name in named}
            rounded = {name: quantise(w, how.bits, how.per_channel).dequantise() for name, w in real.items()}
            for name, w in rounded.items():
                named[name].copy_(w)
        yield
        with torch.no_grad():
            for name, w in real.items():
                named[name].copy_(w + (named[name] - rounded[name].to(w.device)))

    return around


def _trained(
    folder: RunFolder, weights: dict[str, Tensor], how: Compression, around: Hook, device: str, stop: Stop
) -> dict[str, Tensor]:
    """The parameters after some more epochs of the run's own training, each step within `around`."""
    recipe, config = configuration_of(folder)
    if not hasattr(config, "fit"):
        raise RlabError(
            f"run '{folder.name}' is one of {recipe}, and --epochs trains models on data sets; nearest: --epochs 0"
        )
    fit = replace(config.fit, epochs=how.epochs, learning_rate=how.learning_rate * config.fit.learning_rate, patience=0)
    config = replace(config, fit=fit)
    begin_process(config.run.threads)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(_scratch()))
        journal = Journal(scratch)
        stack.callback(journal.close)
        learner = cast(Learner, RECIPES.get(recipe).build(config, BuildContext(resolve_device(device), journal)))
        stack.callback(learner.close)
        if not isinstance(learner, Trainer):
            raise RlabError(f"run '{folder.name}' is one of {recipe}, which has no epochs to train for")
        modules = learner.task.modules
        modules.load_state_dict(weights)
        while learner.updates < learner.total:
            if stop.requested:
                raise Stopped
            with around(modules):
                learner.step()
        return {name: tensor.detach().cpu().clone() for name, tensor in modules.state_dict().items()}


def _scratch() -> contextlib.AbstractContextManager[str]:
    import tempfile

    return tempfile.TemporaryDirectory(prefix="rlab-")
