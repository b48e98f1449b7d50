"""Convolutions by Winograd's filtering: what plain ones say, to the bit independent of what is beside a position."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

from rlab.agents.go.compiled.winograd import LANES, TILES, Floats, Memory, convolve, fits, make_memory, transform


def by_winograd(
    maps: Floats, weight: torch.Tensor, bias: torch.Tensor, memory: Memory | None = None, more: Floats | None = None
) -> Floats:
    """relu(conv(maps) + bias + more + maps), maps [B, n, n, C] and more [B, C]."""
    number, n, _, channels = maps.shape
    memory = memory or make_memory(n, channels, number)
    per, side = LANES // channels, int(memory.x.shape[1] ** 0.5)
    strips = -(-number // per)
    padded = np.zeros((strips * per, n, n, channels), np.float32)
    padded[:number] = maps
    inside = (slice(0, strips), slice(1, n + 1), slice(1, n + 1))
    whole = padded.reshape(strips, per, n, n, channels).transpose(0, 2, 3, 1, 4).reshape(strips, n, n, LANES)
    memory.x.reshape(-1, side, side, LANES)[inside] = whole
    lanes = np.zeros((strips * per, channels), np.float32)
    lanes[:number] = 0 if more is None else more
    filters = transform(weight.numpy(), bias.numpy(), channels)
    convolve(memory.x, *filters, lanes.reshape(strips, LANES), memory.x, memory.y, memory, TILES, n, strips)
    board = memory.y.reshape(-1, side, side, LANES)
    assert not board[:strips, [0, -1]].any()
    assert not board[:strips, :, n + 1 :].any()  # what is around stays nothing
    found = board[inside].reshape(strips, n, n, per, channels).transpose(0, 3, 1, 2, 4)
    return np.ascontiguousarray(found.reshape(-1, n, n, channels)[:number])


def plainly(maps: Floats, weight: torch.Tensor, bias: torch.Tensor, more: Floats | None = None) -> NDArray[np.float64]:
    """The same in float64."""
    x = torch.from_numpy(maps).double().permute(0, 3, 1, 2)
    y = F.conv2d(x, weight.double(), bias.double(), padding=1) + x
    y = y if more is None else y + torch.from_numpy(more).double()[:, :, None, None]
    found: NDArray[np.float64] = F.relu(y).permute(0, 2, 3, 1).numpy()
    return found


def some(number: int, size: int, channels: int) -> tuple[Floats, torch.Tensor, torch.Tensor]:
    """Maps, weights and biases."""
    chance = torch.Generator().manual_seed(number)
    maps = torch.randn(number, size, size, channels, generator=chance).relu()
    weight = torch.randn(channels, channels, 3, 3, generator=chance) / (3 * channels**0.5)
    return maps.numpy(), weight, torch.randn(channels, generator=chance) / 10


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize(
    ("size", "channels", "number"),
    [(5, 32, 70), (5, 128, 3), (9, 64, 5), (9, 32, 1), (10, 16, 9), (13, 64, 2), (19, 128, 1), (4, 32, 3), (7, 64, 3)],
)
def test_it_is_a_convolution(size: int, channels: int, number: int, added: bool) -> None:
    maps, weight, bias = some(number, size, channels)
    more = np.random.default_rng(1).standard_normal((number, channels)).astype(np.float32) if added else None
    found = by_winograd(maps, weight, bias, more=more)
    np.testing.assert_allclose(found, plainly(maps, weight, bias, more), atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([(5, 128), (5, 32), (9, 64)]), st.integers(1, 40), st.randoms())
def test_a_position_does_not_know_of_others(shape: tuple[int, int], number: int, order: object) -> None:
    """To the bit, and in memory that a larger batch has been in."""
    maps, weight, bias = some(40, *shape)
    memory = make_memory(*shape, 40)
    whole = by_winograd(maps, weight, bias, memory)
    rows = list(range(40))
    order.shuffle(rows)  # type: ignore[attr-defined]
    found = by_winograd(np.ascontiguousarray(maps[rows[:number]]), weight, bias, memory)
    assert (found == whole[rows[:number]]).all()


def test_a_filter_of_one_moves_the_board() -> None:
    """By hand: only the weight above the middle is 1, so each line gets the one above it, and the first one nothing."""
    weight = torch.zeros(32, 32, 3, 3)
    weight[torch.arange(32), torch.arange(32), 0, 1] = 1
    maps, _, _ = some(3, 9, 32)
    moved = maps.copy()
    moved[:, 1:] += maps[:, :-1]
    np.testing.assert_allclose(by_winograd(maps, weight, torch.zeros(32)), moved, atol=1e-4)


def test_fewer_channels_than_there_is_room_for() -> None:
    """The first 17 to the first 8: all others are nothing."""
    maps, weight, bias = some(5, 9, 64)
    maps[..., 17:] = 0
    found = by_winograd(maps, weight[:8, :17], bias[:8])
    whole, lanes = torch.zeros(64, 64, 3, 3), torch.zeros(64)
    whole[:8, :17], lanes[:8] = weight[:8, :17], bias[:8]
    np.testing.assert_allclose(found, plainly(maps, whole, lanes), atol=1e-4)


@pytest.mark.parametrize(
    ("size", "channels", "does"),
    [(5, 32, True), (9, 64, True), (19, 64, True), (7, 64, False), (6, 32, False), (9, 48, False), (9, 96, False)],
)
def test_where_it_is_of_use(size: int, channels: int, does: bool) -> None:
    assert fits(size, channels) == does
