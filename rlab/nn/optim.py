"""Optimisers and learning-rate schedules by name; the optimisers are torch's own."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn, optim

from rlab.errors import RlabError, nearest
from rlab.nn.penalties import weights_of
from rlab.registry import Registry

OPTIMISERS: Registry[Callable[..., optim.Optimizer]] = Registry("optimiser")
"""name -> factory(parameters or groups, **options); every one knows a learning rate `lr` by itself.

`weight_decay` is an L2 penalty inside the gradient, which for plain SGD alone is the same as decay of the weights;
adamw decays them beside the step (Loshchilov & Hutter 2019). lbfgs is stepped with a closure.
"""

_FACTORIES: dict[str, Callable[..., optim.Optimizer]] = {
    "sgd": partial(optim.SGD, lr=0.01),
    "momentum": partial(optim.SGD, lr=0.01, momentum=0.9),
    "nesterov": partial(optim.SGD, lr=0.01, momentum=0.9, nesterov=True),
    "adagrad": partial(optim.Adagrad, lr=0.01),
    "adadelta": partial(optim.Adadelta, lr=1.0),
    "rmsprop": partial(optim.RMSprop, lr=0.001, alpha=0.9),  # 0.9 as in Hinton's lecture 6e, where torch has 0.99
    "adam": partial(optim.Adam, lr=0.001),
    "adamw": partial(optim.AdamW, lr=0.001, weight_decay=0.01),
    "adamax": partial(optim.Adamax, lr=0.002),
    "nadam": partial(optim.NAdam, lr=0.002),
    "radam": partial(optim.RAdam, lr=0.001),
    "lbfgs": partial(optim.LBFGS, lr=1.0, line_search_fn="strong_wolfe"),
}
for _name, _factory in _FACTORIES.items():
    OPTIMISERS.register(_name)(_factory)

Schedule = Callable[..., float]

SCHEDULES: Registry[Schedule] = Registry("schedule")
"""name -> function(progress, **options) -> factor of the learning rate.

Progress goes from 0 to 1 (beyond, the factor stays), so a schedule has no state and a run resumes by itself.
"""


def make_optimiser(name: str, parameters: Iterable[Any], **options: Any) -> optim.Optimizer:
    """Build an optimiser.

    Parameters are made dense, see `make_dense`.

    Args:
        name: a registered name.
        parameters: or groups of them, such as `decayed` gives.
        options: as `lr`, in place of the default ones.

    Raises:
        RlabError: the name or an option is unknown, a value is refused, or elements of a parameter share memory.
    """
    factory = OPTIMISERS.get(name)
    _check(f"optimiser '{name}'", list(inspect.signature(factory).parameters)[1:], options)
    for option, value in options.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise RlabError(f"optimiser '{name}': {option} is {value}; it must be a finite number")
    try:
        optimiser = factory(parameters, **options)
    except (TypeError, ValueError) as e:
        raise RlabError(f"optimiser '{name}': {e}") from e
    make_dense(_parameters_of(optimiser))
    if isinstance(optimiser, optim.LBFGS):
        for parameter in _parameters_of(optimiser):
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(_make_gradient_contiguous)
    return optimiser


def _parameters_of(optimiser: optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def make_dense(parameters: Iterable[Tensor]) -> None:
    """Give a parameter that lies in memory with gaps, as a slice of another tensor does, dense memory of its own.

    Fused optimisers pair a parameter, its gradient and its moments by their places in memory, and know of no gaps. Any
    order of the dimensions is left as it is.

    Raises:
        RlabError: elements of a parameter share memory.
    """
    for number, parameter in enumerate(parameters):
        last = 0  # the last element's place, by the dimensions so far
        for stride, size in sorted(zip(parameter.stride(), parameter.shape, strict=True)):
            if size > 1 and stride <= last:
                raise RlabError(
                    f"parameter {number} has shape {list(parameter.shape)} and elements that share memory, as after "
                    "expand, so it cannot be trained; nearest: nn.Parameter(tensor.contiguous())"
                )
            last += (size - 1) * stride
        if parameter.numel() and last + 1 != parameter.numel():
            parameter.data = parameter.data.contiguous()


def _make_gradient_contiguous(parameter: Tensor) -> None:
    """Let torch's L-BFGS see a gradient as one row, which it refuses to of images that lie channels last."""
    if parameter.grad is not None:
        parameter.grad = parameter.grad.contiguous()


def _check(whose: str, known: list[str], options: dict[str, Any]) -> None:
    for option in options:
        if option not in known:
            raise RlabError(f"{whose} has no option '{option}'; {nearest(option, known)}")


def decayed(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups of a module's parameters: weights with that `weight_decay`, and biases, scales and the rest with 0.

    Raises:
        RlabError: the decay is negative, or the module has no weights.
    """
    if not 0 <= weight_decay < math.inf:
        raise RlabError(f"a weight decay is 0 or more, not {weight_decay}; nearest: 0")
    weights = weights_of(module)
    chosen = set(weights)
    rest = [p for p in module.parameters() if p not in chosen]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def staged(module: nn.Module, groups: list[dict[str, Any]], decay: float) -> list[dict[str, Any]]:
    """Groups of a module's parameters, each split by stage, with the last stage's rate `lr` as it is.

    Every stage below has the rate of the one above times `decay` (discriminative rates, Howard & Ruder 2018). Stages
    are the module's children in their order, without those that have no parameters; where there is but one such child,
    its children. Parameters beside all children are of the first stage.

    Raises:
        RlabError: the decay is negative, or there are fewer than two stages.
    """
    if not 0 <= decay < math.inf:
        raise RlabError(f"rates of stages decay by a factor of 0 or more, not {decay}; nearest: 1")
    stages = _stages(module)
    if len(stages) < 2:
        raise RlabError(
            f"{type(module).__name__} has fewer than two stages, so no rate can decay; nearest: --rate-decay 1"
        )
    place = {p: i for i, stage in reversed([*enumerate(stages)]) for p in stage.parameters()}
    last = len(stages) - 1
    return [
        group | {"params": chosen, "lr": group["lr"] * decay ** (last - i)}
        for i in range(last + 1)
        for group in groups
        if (chosen := [p for p in group["params"] if place.get(p, 0) == i])
    ]


def _stages(module: nn.Module) -> list[nn.Module]:
    children = [child for child in module.children() if any(True for _ in child.parameters())]
    return _stages(children[0]) if len(children) == 1 else children


def scale_rates(optimiser: optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to `factor` times the one it began with.

    That one is kept in the group, as torch's schedulers do, and so in the optimiser's state.

    Raises:
        RlabError: the factor is negative or not finite.
    """
    if not 0 <= factor < math.inf:
        raise RlabError(f"learning rates are scaled by a factor of 0 or more, not {factor}; nearest: 0")
    for group in optimiser.param_groups:
        rate = factor * float(group.setdefault("initial_lr", float(group["lr"])))
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)  # what a compiled step reads stays the same tensor
        else:
            group["lr"] = rate


def state_of(optimiser: optim.Optimizer) -> dict[str, Any]:
    """Return an optimiser's memory as a checkpoint takes it: dicts with string keys, lists, tensors, scalars.

    The tensors are its own, not copies.
    """
    whole = optimiser.state_dict()
    return {"state": {str(i): memory for i, memory in whole["state"].items()}, "groups": whole["param_groups"]}


def restore(optimiser: optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore what `state_of` returned for an optimiser of the same kind and parameters.

    Raises:
        RlabError: it is another kind, or has other groups or numbers of parameters.
    """
    here, there = (
        {k for g in groups for k in g} - {"initial_lr"} for groups in (optimiser.param_groups, state["groups"])
    )
    if here != there:
        raise RlabError(f"an optimiser's state does not fit: it is of one with {sorted(there)}, not {sorted(here)}")
    memories = {int(i): memory for i, memory in state["state"].items()}
    groups = [{k: tuple(v) if k == "betas" else v for k, v in group.items()} for group in state["groups"]]
    try:
        optimiser.load_state_dict({"state": memories, "param_groups": groups})
    except ValueError as e:
        raise RlabError(f"an optimiser's state does not fit: {e}") from e
    numbers = [i for group in groups for i in group["params"]]
    for parameter, i in zip(_parameters_of(optimiser), numbers, strict=True):
        if i in memories:
            optimiser.state[parameter] = _as_begun(memories[i], optimiser.state[parameter], parameter)


def memories_alone(optimiser: optim.Optimizer, memories: list[Any]) -> dict[str, Any]:
    """What agents of rlab 0.1 kept, each parameter's memory in order, as `state_of` gives it; rates are as they are.

    Raises:
        RlabError: there are memories of some parameters only, and nothing says of which.
    """
    parameters = len(_parameters_of(optimiser))
    if len(memories) not in (0, parameters):
        raise RlabError(
            f"an optimiser's state of rlab 0.1 does not fit: it remembers {len(memories)} of {parameters} parameters"
        )
    return state_of(optimiser) | {"state": {str(i): memory for i, memory in enumerate(memories)}}


def settle(optimiser: optim.Optimizer) -> None:
    """Fit an optimiser to parameters that have moved since it was built, to another device or channels last.

    Adagrad remembers from the beginning, and what it remembers would stay as the parameters were.

    Raises:
        RlabError: elements of a parameter share memory.
    """
    make_dense(_parameters_of(optimiser))
    restore(optimiser, state_of(optimiser))


def _as_begun(saved: Any, loaded: Any, parameter: Tensor) -> Any:
    """A memory with the numbers that were saved, and as the optimiser itself would have begun it.

    What torch loads is on the right device. But it lies in memory as the file has it, which fused steps and sums that
    depend on alignment take for something else; and it is rounded to the parameter's precision.
    """
    if isinstance(saved, Tensor):
        like = parameter if saved.shape == parameter.shape else saved
        return torch.empty_like(like, dtype=saved.dtype, device=loaded.device).copy_(saved)
    if isinstance(saved, dict):
        return {name: _as_begun(value, loaded[name], parameter) for name, value in saved.items()}
    if isinstance(saved, (list, tuple)):
        return [_as_begun(value, other, parameter) for value, other in zip(saved, loaded, strict=True)]
    return saved


def _schedule(name: str) -> Callable[[Schedule], Schedule]:
    def add(shape: Schedule) -> Schedule:
        known = list(inspect.signature(shape).parameters)[1:]

        def within(progress: float, **options: Any) -> float:
            _check(f"schedule '{name}'", known, options)
            return shape(min(max(progress, 0.0), 1.0), **options)

        SCHEDULES.register(name)(within)
        return shape

    return add


@_schedule("constant")
def constant(progress: float) -> float:
    """Keep the learning rate: 1 all the time."""
    return 1.0


@_schedule("linear")
def linear(progress: float, last: float = 0.0) -> float:
    """Go from 1 to `last` in a straight line."""
    return 1 + progress * (last - 1)


@_schedule("step")
def step(progress: float, factor: float = 0.1, at: tuple[float, ...] = (0.5, 0.75)) -> float:
    """Multiply by `factor` at each of the milestones (He et al. 2016: a tenth at half and three quarters)."""
    return factor ** sum(progress >= milestone for milestone in at)


@_schedule("cosine")
def cosine(progress: float, last: float = 0.0) -> float:
    """Go from 1 to `last` by half a cosine (Loshchilov & Hutter 2017, eq. 5, without restarts)."""
    return last + (1 - last) * (1 + math.cos(math.pi * progress)) / 2


@_schedule("exponential")
def exponential(progress: float, last: float = 0.01) -> float:
    """Go from 1 to `last` by the same ratio from step to step: last^progress."""
    return last**progress


@_schedule("inverse")
def inverse(progress: float, rate: float = 9.0) -> float:
    """Fall as 1 / (1 + rate * progress), as Robbins & Monro 1951 ask for; from 1 to a tenth by default."""
    return 1 / (1 + rate * progress)


@_schedule("cyclic")
def cyclic(progress: float, cycles: int = 4, low: float = 0.1) -> float:
    """Go in triangles from `low` to 1 and back (Smith 2017)."""
    place = progress * cycles % 1
    return low + (1 - low) * (1 - abs(2 * place - 1))


@_schedule("warm-up")
def warm_up(progress: float, over: float = 0.05, then: Schedule = constant) -> float:
    """Go from 0 to 1 in a straight line over the first part, `then` by another schedule over the rest."""
    return progress / over if progress < over else then((progress - over) / (1 - over) if over < 1 else 0.0)


_schedule("warm-up-cosine")(partial(warm_up, then=cosine))


@_schedule("one-cycle")
def one_cycle(progress: float, peak: float = 0.3, first: float = 1 / 25, last: float = 4e-6) -> float:
    """Go up from `first` to 1 at `peak` and down to `last`, by half a cosine each (Smith & Topin 2018; OneCycleLR)."""
    if progress < peak:
        return first + (1 - first) * (1 - math.cos(math.pi * progress / peak)) / 2
    return cosine((progress - peak) / (1 - peak) if peak < 1 else 0.0, last=last)
