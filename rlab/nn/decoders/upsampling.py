"""A decoder of images of any height and width: small maps, doubled until they are as large as the image."""

from __future__ import annotations

from torch import Tensor, nn

from rlab.errors import RlabError
from rlab.nn.decoders import DECODERS

START = 7
"""Height or width from which on an image is made from one of half the size, rounded up."""

WIDEST, THINNEST = 128, 16
"""Channels of the smallest maps of large images, and of the largest maps."""


def sizes_up_to(height: int, width: int) -> list[tuple[int, int]]:
    """Sizes of the maps from the smallest to the image: each side is half of the next one's, rounded up."""
    sizes = [(height, width)]
    while max(sizes[0]) > START:
        sizes.insert(0, tuple(-(-side // 2) for side in sizes[0]))  # type: ignore[arg-type]
    return sizes


class Upsampling(nn.Module):
    """A layer to small maps, then copies of pixels and 3x3 convolutions by turns, which leaves no checkerboard
    (Odena et al. 2016): codes[B, D] -> images[B, C, H, W].

    Args:
        shape: [C, H, W], each side at least 1: 28x28 comes from 7x7 by way of 14x14, 210x160 from 7x5.
        code_dim: D.

    Raises:
        RlabError: the shape is none of images.
    """

    def __init__(self, shape: tuple[int, ...], code_dim: int, widths: tuple[int, ...] = ()):
        super().__init__()
        if len(shape) != 3:
            raise RlabError(f"decoder 'upsampling' makes images [C, H, W], not {list(shape)}; nearest: mlp")
        sizes = sizes_up_to(*shape[1:])
        channels = [min(WIDEST, THINNEST * 2**i) for i in range(len(sizes))][::-1]
        first = (channels[0], *sizes[0])
        layers: list[nn.Module] = [nn.Linear(code_dim, channels[0] * sizes[0][0] * sizes[0][1]), nn.Unflatten(1, first)]
        for size, n_in, n_out in zip(sizes[1:], channels, channels[1:], strict=False):
            layers += [nn.ReLU(), nn.Upsample(size), nn.Conv2d(n_in, n_out, 3, padding=1)]
        self.layers = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(channels[-1], shape[0], 3, padding=1))

    def forward(self, code: Tensor) -> Tensor:
        """code[B, D] -> [B, C, H, W]."""
        images: Tensor = self.layers(code)
        return images


DECODERS.register("upsampling")(Upsampling)
