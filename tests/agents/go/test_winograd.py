"""Blocks by Winograd's filtering: what plain convolutions say, to the bit independent of batch and threads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from agents.go.winograd import Blocks, Floats, fits, transform
from rlab.kernels import THREADS

Layer = tuple[torch.Tensor, torch.Tensor]


def layer(channels: int, seed: int) -> Layer:
    chance = torch.Generator().manual_seed(seed)
    weight = torch.randn(channels, channels, 3, 3, generator=chance) / (3 * channels**0.5)
    return weight, torch.randn(channels, generator=chance) / 10


def by_winograd(layers: list[Layer], maps: Floats, bias: Floats | None, blocks: Blocks | None = None) -> Floats:
    blocks = blocks or Blocks(maps.shape[1], maps.shape[3])
    out = np.full_like(maps, np.nan)
    blocks.put(maps)
    for first, second in zip(layers[::2], layers[1::2], strict=True):
        filters = [transform(weight.numpy(), bias.numpy()) for weight, bias in (first, second)]
        blocks.go_on(filters[0], filters[1], bias, len(maps))
    blocks.get(out)
    return out


def plainly(layers: list[Layer], maps: Floats, bias: Floats | None) -> np.ndarray:
    """In float64."""
    y = torch.from_numpy(maps).double().permute(0, 3, 1, 2)
    for (w1, b1), (w2, b2) in zip(layers[::2], layers[1::2], strict=True):
        t = F.conv2d(y, w1.double(), b1.double(), padding=1)
        t = t if bias is None else t + torch.from_numpy(bias).double()[:, :, None, None]
        y = F.relu(F.conv2d(F.relu(t), w2.double(), b2.double(), padding=1) + y)
    return y.permute(0, 2, 3, 1).numpy()


def some_maps(number: int, size: int, channels: int) -> Floats:
    chance = np.random.default_rng(number)
    return np.maximum(chance.standard_normal((number, size, size, channels)), 0).astype(np.float32)


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize(
    ("size", "channels", "number"),
    [(5, 32, 70), (5, 128, 3), (9, 64, 5), (9, 32, 1), (10, 16, 9), (13, 64, 2), (19, 128, 1)],
)
def test_blocks_are_those_of_plain_convolutions(size: int, channels: int, number: int, more: bool) -> None:
    assert fits(size, channels)
    layers = [layer(channels, seed) for seed in range(4)]
    maps = some_maps(number, size, channels)
    bias = np.random.default_rng(1).standard_normal((number, channels)).astype(np.float32) if more else None
    np.testing.assert_allclose(by_winograd(layers, maps, bias), plainly(layers, maps, bias), atol=2e-4)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([(5, 128), (5, 32), (9, 64)]), st.integers(1, 70), st.integers(1, 3), st.randoms())
def test_a_position_does_not_know_of_others_nor_of_threads(
    shape: tuple[int, int], number: int, threads: int, order: object
) -> None:
    """To the bit, and with arrays that larger batches have been in."""
    size, channels = shape
    layers, maps = [layer(channels, seed) for seed in range(2)], some_maps(70, size, channels)
    blocks = Blocks(size, channels)
    whole = by_winograd(layers, maps, None, blocks)
    rows = list(range(70))
    order.shuffle(rows)  # type: ignore[attr-defined]
    some, before = rows[:number], THREADS.number
    THREADS.use(threads)
    try:
        found = by_winograd(layers, np.ascontiguousarray(maps[some]), None, blocks)
    finally:
        THREADS.use(before)
    assert (found == whole[some]).all()


def test_a_filter_of_one_moves_the_board() -> None:
    """By hand: only the weight above the middle is 1, so each row gets the one above it, and the first one nothing."""
    weight = torch.zeros(32, 32, 3, 3)
    weight[torch.arange(32), torch.arange(32), 0, 1] = 1
    maps = some_maps(3, 9, 32)
    none = torch.zeros(32)
    found = by_winograd([(weight, none), (torch.zeros_like(weight), none)], maps, None)
    np.testing.assert_allclose(found, maps, atol=1e-5)  # nothing is added
    found = by_winograd([(weight, none), (weight, none)], maps, None)
    moved = maps.copy()
    moved[:, 2:] += maps[:, :-2]
    np.testing.assert_allclose(found, moved, atol=1e-4)


@pytest.mark.parametrize(("size", "channels", "does"), [(5, 32, True), (9, 64, True), (19, 64, True), (7, 64, False),
                                                        (6, 32, False), (9, 48, False), (9, 96, False)])  # fmt: skip
def test_where_it_is_of_use(size: int, channels: int, does: bool) -> None:
    assert fits(size, channels) == does
