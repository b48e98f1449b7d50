"""What observations become before an encoder: which are scaled, and where an image's channels are."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from torch import nn

from rlab.nn.encoders import image_shape, make_encoder
from rlab.nn.inputs import ObservationEncoder, is_image
from rlab.nn.modes import depends_on_mode, encode


@pytest.mark.parametrize(
    ("space", "image"),
    [
        (Box(0, 255, (4, 84, 84), np.uint8), True),
        (Box(0, 255, (84, 84, 3), np.uint8), True),
        (Box(0, 255, (4, 84, 84, 3), np.uint8), True),
        (Box(0, 1, (3, 10, 10), np.uint8), False),
        (Box(0, 1, (4,), np.uint8), False),
        (Box(0, 255, (128,), np.uint8), False),
        (Box(0, 255, (3, 10, 10), np.float32), False),
        (MultiBinary((3, 10, 10)), False),
        (MultiDiscrete([3, 255]), False),
        (Discrete(256), False),
    ],
)
def test_only_bytes_of_images_are_scaled(space: gym.Space[Any], image: bool) -> None:
    assert is_image(space) == image
    if not isinstance(space, Discrete):
        encoder = ObservationEncoder(space, "flat")
        obs = torch.ones(2, *space.shape).to(torch.from_numpy(np.empty(0, space.dtype)).dtype)  # type: ignore[misc]
        assert encoder(obs).unique().tolist() == [pytest.approx(1 / 255 if image else 1)]


@pytest.mark.parametrize(
    ("shape", "seen"),
    [
        ((84, 84, 3), (3, 84, 84)),
        ((210, 160, 3), (3, 210, 160)),
        ((84, 84, 1), (1, 84, 84)),
        ((84, 84, 12), (12, 84, 84)),
        ((84, 96, 12), (12, 84, 96)),
        ((9, 9, 17), (17, 9, 9)),
        ((6, 7, 2), (2, 6, 7)),
        ((3, 84, 84), (3, 84, 84)),
        ((17, 9, 9), (17, 9, 9)),
        ((10, 10, 10), (10, 10, 10)),
        ((3, 210, 160), (3, 210, 160)),
        ((16, 20, 10), (16, 20, 10)),
        ((6, 3, 2), (6, 3, 2)),
        ((4, 84, 84, 3), (12, 84, 84)),
        ((4, 3, 84, 84), (12, 84, 84)),
        ((12,), (12,)),
        ((5, 5), (5, 5)),
    ],
)
def test_where_channels_are(shape: tuple[int, ...], seen: tuple[int, ...]) -> None:
    assert image_shape(shape) == seen
    assert image_shape(seen) == seen


@pytest.mark.parametrize("name", ["auto", "minatar-norm", "lenet5", "impala", "auto+silu", "lstm"])
def test_an_encoder_sees_either_order_alike(name: str) -> None:
    recurrent = name == "lstm"

    def made(shape: tuple[int, ...]) -> nn.Module:
        torch.manual_seed(0)
        return make_encoder(name, shape, recurrent).eval()

    first, last = made((3, 40, 44)), made((40, 44, 3))
    x = torch.rand(2, 3, 40, 44)
    if not recurrent:
        torch.testing.assert_close(last(x.movedim(1, -1).contiguous()), first(x))
        stack = made((2, 40, 44, 3))(torch.rand(2, 2, 40, 44, 3))
        assert stack.shape == (2, first.out_dim)
        return
    state, starts = torch.zeros(2, first.state_dim), torch.ones(1, 2, dtype=torch.bool)  # type: ignore[arg-type]
    torch.testing.assert_close(last(x.movedim(1, -1)[None], state, starts), first(x[None], state, starts))


class Own(nn.Module):
    """A layer of somebody's own, which draws in training only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x[B, D] -> [B, D]."""
        return x + torch.randn_like(x) if self.training else x


class Counts(nn.Module):
    """Counts in training, to no end."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x[B, D] -> [B, D]."""
        if self.training:
            self.count = self.count + 1
        return x


@pytest.mark.parametrize(
    ("layer", "modes"),
    [
        (nn.Linear(3, 3), False),
        (nn.LayerNorm(3), False),
        (nn.Dropout(0.5), True),
        (nn.BatchNorm1d(3), True),
        (Own(), True),
        (Counts(), True),
    ],
)
def test_which_layers_have_modes(layer: nn.Module, modes: bool) -> None:
    before = torch.get_rng_state()
    assert depends_on_mode(layer, (3,)) == modes
    assert torch.equal(before, torch.get_rng_state())
    assert all(buffer.sum() in (0, 3) for buffer in layer.buffers()), "it was tried out on a copy"


def test_training_mode_is_where_gradients_are_wanted() -> None:
    layers = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).eval()
    x = torch.rand(8, 4)
    with torch.no_grad():
        assert torch.equal(encode(layers, True, x), encode(layers, True, x))
    assert not torch.equal(encode(layers, True, x), encode(layers, True, x))
    assert not layers.training
    layers.requires_grad_(False)
    assert torch.equal(encode(layers, True, x), encode(layers, True, x)), "what is frozen is not in training"
