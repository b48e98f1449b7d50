"""A model divided among processes, for tests."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from rlab.data.batches import Batch, Batches
from rlab.data.datasets import load
from rlab.nn.optim import make_optimiser, restore, state_of
from rlab.parallel.data_parallel import JointLearning, Shard
from rlab.parallel.group import Group
from rlab.parallel.sharding import Sharding
from rlab.tasks.task import SingleLossTask


class Borrowing(nn.Module):
    """A network with BatchNorm, a layer that is used twice, and one whose weights another place uses, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten())
        self.twice, self.lent = nn.Linear(180, 180), nn.Linear(180, 10)

    def forward(self, x: Tensor) -> Tensor:
        features = self.twice(self.twice(self.first(x.to(self.lent.weight.dtype))).tanh())
        return self.lent(features) + self.lent(features @ self.lent.weight.T @ self.lent.weight)


class Pictures(SingleLossTask):
    def loss(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"loss": nn.functional.cross_entropy(outputs, batch.y)}


def task_of(dtype: torch.dtype = torch.float64) -> Pictures:
    torch.manual_seed(1)
    model = Borrowing().to(dtype)
    optimiser = make_optimiser("adamw", model.parameters(), lr=0.01)
    return Pictures(model, Batches(load("digits", 0, 0.0).subsample(101, 0), 33, seed=3), optimiser, max_grad_norm=0.5)


def learn(task: Pictures, first: int, last: int) -> None:
    task.model.train()
    for number in range(first, last):
        task.update(task.data.at(0, number), task.optimizers())


def divided(task: Pictures, group: Group) -> Sharding:
    task.data = Shard(task.data, group.rank, group.world)
    sharding = Sharding(task, task.data.at(0, 0), group.rank, group.world)
    task.learn = JointLearning(task.model, group.sum, group.rank == 0, sharding=sharding)
    return sharding


def alone_of(task: Pictures) -> dict[str, Any]:
    return {"modules": task.modules.state_dict(), "optimizers": {"model": state_of(task.optimizer)}}


def whole(task: Pictures, sharding: Sharding) -> dict[str, Any]:
    return sharding.joined(alone_of(task))


def moments(state: dict[str, Any]) -> Tensor:
    memories = state["optimizers"]["model"]["state"].values()
    return torch.cat([memory[name].double().flatten() for name in ("exp_avg", "exp_avg_sq") for memory in memories])


def numbers(state: dict[str, Any]) -> Tensor:
    return torch.cat([*(tensor.double().flatten() for tensor in state["modules"].values()), moments(state)])


def measured(group: Group) -> dict[str, Any]:
    """How far a divided model is from a whole one after four updates, also if it stops after two, and what is held.

    ``rounded`` is in float32, which FSDP sums up by another path, after one update.
    """
    one, many, again = task_of(), task_of(), task_of()
    sharding = divided(many, group)
    learn(many, 0, 2)
    half = copy.deepcopy(whole(many, sharding))
    learn(many, 2, 4)
    end = whole(many, sharding)
    again.modules.load_state_dict(half["modules"])
    restore(again.optimizer, half["optimizers"]["model"])
    resumed = divided(again, group)
    learn(again, 2, 4)
    learn(one, 0, 4)
    x = load("digits", 0, 0.0).subsample(8, 0).x / 16
    with torch.no_grad(), sharding.gathered(end["modules"]):
        outputs = many.model.eval()(x) - one.model.eval()(x)
    single = task_of(torch.float32)
    first = task_of(torch.float32)
    learn(first, 0, 1)
    of_single = divided(single, group)
    learn(single, 0, 1)
    rounded = float((moments(whole(single, of_single)) - moments(alone_of(first))).abs().max())
    held = {id(t): t.numel() for t in many.optimizer.state.values() for t in t.values()}
    held |= {id(local): 2 * local.numel() for _, local in sharding.own.values()}  # with its gradient
    return {
        "apart": float((numbers(end) - numbers(alone_of(one))).abs().max()),
        "outputs": float(outputs.abs().max()),
        "rounded": rounded,
        "resumed": torch.equal(numbers(whole(again, resumed)), numbers(end)),
        "held": sum(held.values()) / (4 * sum(p.numel() for p in one.model.parameters())),
        "units": sorted(name for name, part in many.model.named_modules() if type(part).__name__.startswith("FSDP")),
    }
