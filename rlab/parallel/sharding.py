"""A model divided among processes: each holds a part of the parameters, of their gradients and of the moments.

torch's FSDP (`fully_shard`; Rajbhandari et al. 2020, stage 3 of ZeRO) gathers the parameters of a part of the network
just before it computes, and gives them up after it. Optimisers here work number by number, so each steps its own part
alone. What a checkpoint keeps is whole: all processes gather it, one tensor at a time, and rank 0 keeps it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn, optim
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from rlab.data.batches import Batch
from rlab.errors import RlabError
from rlab.nn.ema import EMA
from rlab.run.contract import State
from rlab.tasks.task import Losses, SingleLossTask

LARGEST = 1 / 8
"""Share of all parameters that is gathered at a time, where the network has parts as small as that."""


class _Root(nn.Module):
    """What FSDP takes for the network: all that happens between a batch and its losses."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, losses: Callable[[Batch], Losses], batch: Batch) -> Losses:
        return losses(batch)


class Sharding:
    """The part of one process of a task's model and of its optimiser's state; the torch process group must be there.

    Args:
        task: what learns; its model and optimiser are changed in place. Every process has the same one.
        batch: to see by which parts of the network each parameter is used.
        rank: of this process.
        world: how many there are.

    Raises:
        RlabError: the model or its optimiser cannot be divided.
    """

    def __init__(self, task: SingleLossTask, batch: Batch, rank: int, world: int):
        refuse(task)
        self.task = task
        model: nn.Module = task.model
        whole = dict(model.named_parameters())
        meta = {id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in whole.values()}
        self._template = copy.deepcopy(task.modules, meta)
        for parameter in whole.values():
            parameter.data = parameter.data.contiguous()  # FSDP knows no other order of the axes
        self.root = _Root(model)
        mesh = DeviceMesh(task.device.type, torch.arange(world))
        for part in _parts(model, _used_inside(task, batch), LARGEST * sum(p.numel() for p in whole.values())):
            fully_shard(part, mesh=mesh, reshard_after_forward=True)
        fully_shard(self.root, mesh=mesh, reshard_after_forward=True)
        for part in self.root.modules():
            if isinstance(part, FSDPModule):
                part.set_gradient_divide_factor(1.0)
                part.set_force_sum_reduction_for_comms(True)  # gloo has no other
        self.own: dict[str, tuple[Any, nn.Parameter]] = {}
        """Name -> the divided parameter, and this process's part in the same memory, which the optimiser steps."""
        for name, divided in model.named_parameters():
            mine: Tensor = cast(Any, divided).to_local()
            local = nn.Parameter(mine.detach(), requires_grad=divided.requires_grad)
            self.own[name] = divided, local
        places = {id(p): self.own[name][1] for name, p in whole.items()}
        memories = dict(task.optimizer.state)
        task.optimizer.state.clear()
        for group in task.optimizer.param_groups:
            group["params"] = [places[id(p)] for p in group["params"]]
        for old, memory in memories.items():
            task.optimizer.state[places[id(old)]] = {
                key: _piece(value, old, rank, world) for key, value in memory.items()
            }

    def zero_grad(self) -> None:
        """Forget the gradients of before; an optimiser forgets only what it steps."""
        for divided, _ in self.own.values():
            divided.grad = None

    def finish(self, whole: Tensor) -> None:
        """Divide this process's gradients by what the losses of all are divided by, and show them to the optimiser."""
        for divided, local in self.own.values():
            if divided.grad is not None:
                divided.grad /= whole
                local.grad = divided.grad.to_local()

    def modules(self) -> dict[str, Tensor]:
        """The state of the whole modules; all processes call it at the same time."""
        return {
            name: value.full_tensor() if isinstance(value, DTensor) else value
            for name, value in self.task.modules.state_dict().items()
        }

    def joined(self, state: State) -> State:
        """A trainer's state as of one process, from that of this one; all call it at the same time."""
        modules = self.modules()
        if not any(isinstance(tensor, DTensor) for tensor in state["modules"].values()):
            modules = state["modules"]  # the last ones, in place of which the best were taken
        return state | {"modules": modules, "optimizers": {"model": self._optimizer(state["optimizers"]["model"])}}

    def _optimizer(self, state: State) -> State:
        steps = [p for group in self.task.optimizer.param_groups for p in group["params"]]
        divided = {id(local): whole for whole, local in self.own.values()}
        numbers = [number for group in state["groups"] for number in group["params"]]
        found = dict(state["state"])
        for number, local in zip(numbers, steps, strict=True):
            if memory := found.get(str(number)):
                like = divided[id(local)]
                found[str(number)] = {key: _gathered(value, local, like) for key, value in memory.items()}
        return {"state": found, "groups": state["groups"]}

    @contextmanager
    def gathered(self, modules: Mapping[str, Tensor]) -> Iterator[None]:
        """Within, the task's modules are whole ones with this state; they compute in this process alone."""
        divided, self.task.modules = self.task.modules, copy.deepcopy(self._template)
        try:
            self.task.modules.load_state_dict(modules, assign=True)
            yield
        finally:
            self.task.modules = divided


def refuse(task: SingleLossTask) -> None:
    """Refuse a task that cannot be divided.

    Raises:
        RlabError: it cannot; the message says why.
    """
    if isinstance(task.optimizer, optim.LBFGS):
        raise RlabError(
            "--shard divides what steps each number by itself, and lbfgs does not; nearest: --optimiser adamw"
        )
    if isinstance(task.model, EMA):
        raise RlabError("--shard divides one model, and this keeps a moving average of its own beside it; leave it out")
    own = {id(p) for p in task.model.parameters()}
    if any(id(p) not in own for group in task.optimizer.param_groups for p in group["params"]):
        raise RlabError("--shard divides one model, and --teacher-features learns a map beside it; leave one out")
    for name, parameter in task.model.named_parameters():
        if parameter.dim() == 0:
            raise RlabError(f"--shard divides parameters by rows, and '{name}' is a single number; leave it out")


def _piece(value: Any, parameter: Tensor, rank: int, world: int) -> Any:
    """This process's part of a parameter's memory, as FSDP divides parameters."""
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    pieces = value.contiguous().chunk(world)
    return (pieces[rank] if rank < len(pieces) else value[:0]).clone()


def _gathered(value: Any, local: Tensor, like: DTensor) -> Any:
    if not isinstance(value, Tensor) or value.shape != local.shape or not value.dim():
        return value
    part = DTensor.from_local(
        value, like.device_mesh, [Shard(0)], run_check=False, shape=like.shape, stride=like.stride()
    )
    return part.full_tensor()


def _parts(module: nn.Module, inside: Callable[[nn.Module], bool], largest: float) -> Iterator[nn.Module]:
    """Parts of a network that need their own parameters alone, each with `largest` at most, if any is so small."""
    for child in module.children():
        size = sum(p.numel() for p in child.parameters())
        smaller = any(p.numel() for grandchild in child.children() for p in grandchild.parameters())
        if size and inside(child) and (size <= largest or not smaller):
            yield child
        elif size:
            yield from _parts(child, inside, largest)


def _used_inside(task: SingleLossTask, batch: Batch) -> Callable[[nn.Module], bool]:
    """Say of a part of the model whether a batch's losses use its parameters within its own calls only.

    The others, such as those of a layer whose weights another one borrows, are gathered for the whole pass.
    """
    running: list[nn.Module] = []
    used: dict[int, set[int]] = {}
    outside: set[int] = set()

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            for value in tree_leaves((args, kwargs)):
                if isinstance(value, nn.Parameter):
                    now = {id(part) for part in running}
                    used[id(value)] = used.get(id(value), now) & now
            return func(*args, **(kwargs or {}))

    def enter(module: nn.Module, args: Any) -> None:
        running.append(module)

    def leave(module: nn.Module, args: Any, outputs: Any) -> None:
        running.pop()
        seen = (isinstance(v, (int, float)) or v is None or (isinstance(v, Tensor) and v._base is None)
                for v in tree_leaves(outputs))  # fmt: skip
        if not all(seen):  # FSDP does not find tensors in anything else, and loses its hooks on views
            outside.add(id(module))

    before = [buffer.detach().clone() for buffer in task.model.buffers()]
    hooks = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave)]
    try:
        with torch.random.fork_rng(), Watch():
            task.losses(batch)
    finally:
        for hook in hooks:
            hook.remove()
    with torch.no_grad():
        for buffer, old in zip(task.model.buffers(), before, strict=True):
            buffer.copy_(old)

    def inside(module: nn.Module) -> bool:
        return id(module) not in outside and all(
            id(module) in used.get(id(p), {id(module)}) for p in module.parameters()
        )

    return inside
