"""Quantisation, pruning and packing of weights as pure functions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlab.compress.pareto import Point, marked
from rlab.compress.prune import magnitude_masks
from rlab.compress.quantise import fixed_point, quantise
from rlab.errors import RlabError
from rlab.run.packing import pack


def test_fixed_point_cut_off_and_rounded() -> None:
    """Item 286: 0.12492940522023 in 16 bits is 0.12109375 cut off, and 0.125 rounded, 54 times nearer."""
    x = torch.tensor([0.12492940522023], dtype=torch.float64)
    cut, near = fixed_point(x, rounding="truncate"), fixed_point(x)
    assert (cut.item(), near.item()) == (0.12109375, 0.125)
    assert ((x - cut).abs() / (x - near).abs()).item() == pytest.approx(54.3, abs=0.1)
    assert fixed_point(torch.tensor([1e9, -1e9])).tolist() == [127.99609375, -128.0]


@pytest.mark.parametrize("per_channel", [False, True])
def test_quantised_weights_are_near(per_channel: bool) -> None:
    weight = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 1, 6)[:, None, None]
    errors = []
    for bits in (2, 3, 4, 6, 8):
        found = quantise(weight, bits, per_channel)
        assert found.codes.abs().amax() <= 2 ** (bits - 1) - 1
        errors.append(((found.dequantise() - weight).square().mean() / weight.square().mean()).sqrt().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01
    if per_channel:
        assert quantise(weight, 8, False).dequantise()[0].count_nonzero() < weight[0].numel()  # one scale loses these


def test_grid_weights_stay_exact() -> None:
    weight = torch.tensor([[-3.0, 0.0, 1.0], [0.5, 1.5, -1.0]])
    assert torch.equal(quantise(weight, 3).dequantise(), weight)
    assert torch.equal(quantise(torch.zeros(2, 2), 4).dequantise(), torch.zeros(2, 2))
    with pytest.raises(RlabError, match="9 bits; valid: 2, 3"):
        quantise(weight, 9)


def test_pruned_are_exactly_the_smallest() -> None:
    weights = {"a": torch.tensor([[1.0, -5.0], [0.1, 2.0]]), "b": torch.tensor([[-0.2, 7.0]])}
    masks = magnitude_masks(weights, 0.5)
    assert masks["a"].tolist() == [[False, True], [False, True]]
    assert masks["b"].tolist() == [[False, True]]
    assert magnitude_masks(weights, 0.5, layerwise=True)["a"].tolist() == [[False, True], [False, True]]
    assert sum(int(m.sum()) for m in magnitude_masks({"a": torch.ones(10)}, 0.35).values()) == 7
    with pytest.raises(RlabError, match="must be at least 0 and below 1"):
        magnitude_masks(weights, 1.0)


@given(
    shape=st.lists(st.integers(0, 4), min_size=0, max_size=3),
    bits=st.sampled_from([2, 3, 4, 5, 8, 16, 32]),
    sparse=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_packed_tensors_come_back(shape: list[int], bits: int, sparse: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    if bits > 8:
        values = torch.randn(shape, generator=generator).half().float()
        values[torch.rand(shape, generator=generator) < 0.5] = 0
        found = pack(values, bits, sparse=sparse)
        assert torch.equal(found.unpack(), values)
        return
    top = 2 ** (bits - 1) - 1
    codes = torch.randint(-top, top + 1, shape, generator=generator)
    found = pack(codes, bits, torch.tensor(0.5), sparse)
    assert torch.equal(found.unpack(), codes * 0.5)
    kept = int(codes.count_nonzero()) if sparse else codes.numel()
    assert found.values.nbytes == -(-kept * bits // 8)


@pytest.mark.parametrize("lower_is_better", [False, True])
def test_pareto_front_drops_what_is_beaten(lower_is_better: bool) -> None:
    sign = -1 if lower_is_better else 1
    scores = {
        "large": (100, 90.0),
        "as-good": (60, 90.0),
        "small": (10, 50.0),
        "worse": (20, 40.0),
        "middle": (30, 80.0),
    }
    points = [Point(name, size, sign * mean, 0.0, 0.0) for name, (size, mean) in scores.items()]
    front = [point.run for point in marked(points, lower_is_better) if point.worth]
    assert front == ["small", "middle", "as-good"]
