"""Tensor and pipeline parallelism, micro-batches, and the parameter server: equal to what one machine computes."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rlab.data.batches import Batch
from rlab.errors import RlabError
from rlab.parallel.parameter_server import (
    Server,
    simulate_asynchronous,
    simulate_delay,
    simulate_synchronous,
    train_in_threads,
)
from rlab.parallel.pipeline import Pipeline, accumulated, bubble, ticks
from rlab.parallel.tensor_parallel import SplitPair
from tests.parallel.sums import Sums


def examples(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 6, generator=generator), torch.randint(0, 3, (count,), generator=generator)


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(6, 10), nn.GELU(), nn.LayerNorm(10), nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 3)
        )


def slopes(model: nn.Module) -> list[Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize(("parts", "size"), [(4, 32), (4, 30)])
def test_accumulated_gradients_are_of_the_batch(parts: int, size: int) -> None:
    """4 micro-batches of 8 are one batch of 32, also where they are uneven."""
    x, y = examples(size)
    one, other = network(), network()
    cross_entropy(one(x), y).backward()
    batch = Batch({"x": x, "y": y}, torch.arange(size))
    losses = accumulated(parts)(lambda part: {"loss": cross_entropy(other(part.x), part.y)}, len, [batch])
    assert float(losses["loss"]) == pytest.approx(float(cross_entropy(one(x), y).detach()), abs=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(slopes(one), slopes(other), strict=True))


@pytest.mark.parametrize(("stages", "micro"), [(1, 1), (2, 4), (3, 3), (3, 8)])
def test_pipelines_equal_the_serial_network(stages: int, micro: int) -> None:
    """Item 282: stages exchange activations and gradients at every step, and wait (p-1)/(m+p-1) of the time."""
    x, y = examples(29)
    whole, model = network(), network()
    cross_entropy(whole(x), y).backward()
    cuts = [0, *[2, 4][: stages - 1], len(model)]
    pipeline = Pipeline([model[a:b] for a, b in itertools.pairwise(cuts)], micro)
    loss = pipeline.step(x, y, cross_entropy)
    assert float(loss) == pytest.approx(float(cross_entropy(whole(x), y).detach()), abs=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(slopes(whole), slopes(model), strict=True))
    assert bubble(pipeline.plan, stages) == pytest.approx((stages - 1) / (micro + stages - 1))
    assert pipeline.sent == 2 * 29 * sum((10, 8)[: stages - 1])


def test_pipelines_refuse_what_they_cannot_do() -> None:
    with pytest.raises(RlabError, match="2 micro-batches cannot keep 3 stages of a pipeline busy; nearest: 3"):
        ticks(3, 2)
    with pytest.raises(RlabError, match="BatchNorm over micro-batches is not that of the batch"):
        Pipeline([nn.BatchNorm1d(6), nn.Linear(6, 3)], 2)
    with pytest.raises(RlabError, match="3 examples do not make 4 micro-batches"):
        Pipeline([nn.Linear(6, 3)], 4).step(*examples(3), cross_entropy)


@pytest.mark.parametrize("world", [2, 3])
def test_split_layers_equal_whole_ones(world: int) -> None:
    """Item 282: units of a layer over processes; outputs and all gradients are those of the whole layer."""
    x, y = examples(16)
    first, second = nn.Linear(6, 10), nn.Linear(10, 3)
    inputs = x.clone().requires_grad_()
    outputs = second(nn.functional.relu(first(inputs)))
    cross_entropy(outputs, y).backward()
    sums = Sums(world)
    parts = [SplitPair(first, nn.ReLU(), second, rank, world, sums.of(rank)) for rank in range(world)]

    def run(part: SplitPair) -> tuple[Tensor, Tensor | None]:
        mine = x.clone().requires_grad_()
        out = part(mine)
        cross_entropy(out, y).backward()
        return out, mine.grad

    with ThreadPoolExecutor(world) as threads:
        for out, slope in threads.map(run, parts):
            assert torch.allclose(out, outputs, atol=1e-6)
            assert torch.allclose(slope, inputs.grad, atol=1e-6)
    for whole, pieces in (
        (first.weight.grad, torch.cat([part.first.weight.grad for part in parts])),
        (second.weight.grad, torch.cat([part.second.weight.grad for part in parts], dim=1)),
        (second.bias.grad, parts[-1].bias.grad),
    ):
        assert torch.allclose(whole, pieces, atol=1e-6)
    with pytest.raises(RlabError, match="10 units cannot be split over 11 processes"):
        SplitPair(first, nn.ReLU(), second, 0, 11, sums.of(0))


def quadratic(parameters: np.ndarray, worker: int, number: int) -> np.ndarray:
    return np.array([1.0, 0.25]) * parameters


def test_servers_bound_the_staleness() -> None:
    """Items 280 and 281: with a straggler synchronous updates wait; asynchronous ones do not, and are stale."""
    server = Server(np.ones(2), 0.1, bound=1)
    assert [server.push(0, np.ones(2)) for _ in range(3)] == [True, True, False]
    assert server.refused == 1
    assert server.parameters.tolist() == pytest.approx([0.8, 0.8])
    with pytest.raises(RlabError, match="of version 5, and the newest is 2"):
        server.push(5, np.ones(2))

    def seconds(worker: int, number: int) -> float:
        return 10.0 if worker == 3 else 1.0

    waiting = simulate_synchronous(quadratic, np.ones(2), 0.1, 4, seconds, 40)
    free = simulate_asynchronous(quadratic, np.ones(2), 0.1, 4, seconds, 40)
    bounded = simulate_asynchronous(quadratic, np.ones(2), 0.1, 4, seconds, 40, bound=8)
    assert len(waiting.seconds) == 4
    assert len(free.seconds) == 3 * 40 + 4
    assert max(free.staleness) == 30
    assert max(bounded.staleness) <= 8
    assert bounded.refused == 4, "all of the straggler"
    again = simulate_asynchronous(quadratic, np.ones(2), 0.1, 4, seconds, 40)
    assert again.seconds == free.seconds
    assert np.array_equal(again.parameters, free.parameters)
    assert train_in_threads(quadratic, np.ones(2), 0.1, 3, 60).version in range(60, 63)


def test_stale_gradients_diverge_beyond_a_bound() -> None:
    """Of x -> x - rate * slope of d updates before, the largest stable rate * slope is 2 sin(pi / (4 d + 2))."""
    for delay in (0, 1, 4):
        largest = 2 * np.sin(np.pi / (4 * delay + 2))
        for factor, stable in ((0.95, True), (1.05, False)):
            norms = simulate_delay(lambda p, w, n: p, np.ones(1), factor * largest, delay, 2_000)
            assert (norms[-1] < 1e-2) == stable
