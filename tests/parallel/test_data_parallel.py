"""Data parallel training: several processes learn what one would."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlab.data.batches import Batch, Batches
from rlab.data.datasets import load
from rlab.parallel.data_parallel import JointLearning, Shard
from rlab.tasks.task import SingleLossTask


class Sums:
    """What `Group.sum` does, between threads."""

    def __init__(self, world: int):
        self.world, self.parts, self.barrier = world, {}, threading.Barrier(world)

    def of(self, rank: int) -> Callable[[Tensor], Tensor]:
        def total(tensor: Tensor) -> Tensor:
            self.parts[rank] = tensor.clone()
            self.barrier.wait(60)
            tensor.copy_(sum(self.parts[r] for r in range(self.world)))
            self.barrier.wait(60)
            return tensor

        return total


class Doubled(nn.Module):
    """A network with BatchNorm that is used twice in a forward pass, as a siamese one."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        self.last = nn.BatchNorm1d(10, momentum=None)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x.double()) + self.body(1 - x.double()))


class Pictures(SingleLossTask):
    def loss(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"loss": nn.functional.cross_entropy(outputs, batch.y)}


def learned(data: Any, size: int, world: int) -> tuple[dict[str, Tensor], list[float], list[int]]:
    """(model, losses, items that counted) after an epoch of so many ranks, which must agree."""
    sums = Sums(world)

    def task_of(rank: int) -> Pictures:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = Doubled().double()  # BatchNorm of two items makes much of float32's rounding
        task = Pictures(model, Batches(data, size, seed=3), torch.optim.SGD(model.parameters(), 0.1, momentum=0.9))
        if world > 1:
            task.data, task.learn = Shard(task.data, rank, world), JointLearning(model, sums.of(rank))
        return task

    def run(task: Pictures) -> tuple[list[float], list[int]]:
        batches = [task.data.at(0, number) for number in range(len(task.data))]
        losses = [float(task.update(batch, task.optimizers())["loss"]) for batch in batches]
        return losses, [item for batch in batches for item in batch.items.tolist()]

    tasks = [task_of(rank) for rank in range(world)]
    with ThreadPoolExecutor(world) as threads:
        done = list(threads.map(run, tasks))
    states = [task.model.state_dict() for task in tasks]
    for state in states[1:]:
        assert all(torch.equal(tensor, state[name]) for name, tensor in states[0].items())
    return states[0], done[0][0], [item for _, items in done for item in items]


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_learn_as_one(world: int) -> None:
    """Item 279: gradients are merged, and BatchNorm's moments, in two forwards of one backward pass.

    101 items in batches of 33 leave two at the end: they count once, and the third rank has none and hinders nobody.
    """
    data = load("digits", 0, 0.0).subsample(101, 0)
    one, losses, items = learned(data, 33, 1)
    joint, joint_losses, joint_items = learned(data, 33, world)
    assert sorted(joint_items) == sorted(items)
    assert len(set(items)) == 101
    assert joint_losses == pytest.approx(losses, abs=1e-9)
    for name, tensor in one.items():
        assert torch.allclose(joint[name].double(), tensor.double(), rtol=0, atol=1e-9), name
