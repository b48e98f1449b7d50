"""LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition"), then and now."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.nn.encoders import ENCODERS
from rlab.nn.encoders.small_images import IMAGES, Window, scale, sides

PUBLISHED = 32
"""Height and width of the paper's images. Smaller ones get a frame of 2 zeros, as MNIST's 28x28 did."""

MAPS = (6, 16)
WIDTHS = (120, 84)

CONNECTED = (
    *((i, (i + 1) % 6, (i + 2) % 6) for i in range(6)),
    *((i, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6) for i in range(6)),
    *((i, (i + 1) % 6, (i + 3) % 6, (i + 4) % 6) for i in range(3)),
    tuple(range(6)),
)
"""Map of C3 -> the maps of S2 that it sees (table I): three or four in a row, two pairs, and all."""


def windows_of(name: str, shape: tuple[int, ...]) -> list[Window]:
    """C1, S2, C3, S4 by the rule of `small_images.scale`."""
    frame = 0 if len(shape) == IMAGES and min(shape[1:]) >= PUBLISHED else 2
    halving = Window(2, 2, 0, pool=True)
    return scale(name, shape, [Window(5, 1, frame), halving, Window(5, 1, 0), halving])


class LeNet(nn.Module):
    """LeNet-5 as it is used now: ReLU, max-pooling and all connections; layers of 120 and 84.

    Args:
        shape: [C, H, W]; 28x28 or 32x32 give 5x5 maps. Smaller ones by the rule of `small_images.scale`.
    """

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.windows = windows_of("lenet5", shape)
        first, pool1, second, pool2 = self.windows
        self.convolutions = nn.Sequential(
            # ReLU behind the pooling: the same, for both keep the order of numbers, and on a quarter of them.
            *(nn.Conv2d(shape[0], MAPS[0], first.kernel, padding=first.padding), pool1.pooling(), nn.ReLU()),
            *(nn.Conv2d(MAPS[0], MAPS[1], second.kernel), pool2.pooling(), nn.ReLU()),
        )
        places = MAPS[1] * math.prod(sides(shape, self.windows))
        into_first = [nn.Flatten(), nn.Linear(places, WIDTHS[0]), nn.ReLU()]
        self.dense = nn.Sequential(*into_first, nn.Linear(*WIDTHS), nn.ReLU())
        self.out_dim = WIDTHS[-1]

    def feature_maps(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> maps[B, 16, h, w] (5x5 for 28x28), for dense heads."""
        maps: Tensor = self.convolutions(obs)
        return maps

    def forward(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> [B, 84]."""
        features: Tensor = self.dense(self.feature_maps(obs))
        return features


class Squash(nn.Module):
    """1.7159 tanh(2/3 x): +-1 at +-1, where it bends most (appendix A)."""

    def forward(self, x: Tensor) -> Tensor:
        """x[...] -> [...]."""
        return 1.7159 * torch.tanh(x * (2 / 3))


class Subsampling(nn.Module):
    """The sum over each 2x2 places times a coefficient plus a bias, both trained, one of each a map (section II.B)."""

    def __init__(self, maps: int, window: Window):
        super().__init__()
        self.window = window
        self.coefficient = nn.Parameter(torch.empty(maps, 1, 1).uniform_(-2.4 / 4, 2.4 / 4))
        self.bias = nn.Parameter(torch.zeros(maps, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """maps[B, maps, h, w] -> maps[B, maps, h / 2, w / 2]; as high and wide as before where small images need it."""
        kernel, stride = self.window.kernel, self.window.stride
        return self.coefficient * kernel * kernel * F.avg_pool2d(x, kernel, stride) + self.bias


class Partial(nn.Module):
    """C3: a convolution 5x5 whose maps each see only some of the maps below (table I): 60 kernels and 16 biases."""

    def __init__(self) -> None:
        super().__init__()
        pairs = [out * MAPS[0] + below for out, sources in enumerate(CONNECTED) for below in sources]
        self.places: Tensor  # int64[60], of [16 * 6]
        self.register_buffer("places", torch.tensor(pairs), persistent=False)
        bounds = [2.4 / (25 * len(sources)) for sources in CONNECTED for _ in sources]
        self.weight = nn.Parameter(torch.empty(len(pairs), 5, 5).uniform_(-1, 1) * torch.tensor(bounds)[:, None, None])
        self.bias = nn.Parameter(torch.zeros(MAPS[1]))

    def forward(self, x: Tensor) -> Tensor:
        """maps[B, 6, h, w] -> maps[B, 16, h - 4, w - 4]."""
        kernels = self.weight.new_zeros(MAPS[1] * MAPS[0], 5, 5).index_copy(0, self.places, self.weight)
        return F.conv2d(x, kernels.unflatten(0, (MAPS[1], MAPS[0])), self.bias)


class LeNet1998(nn.Module):
    """LeNet-5 as published, to F6: 60,000 parameters for 32x32x1. Its output layer is `heads.RbfHead`.

    Weights start uniformly in +-2.4 / (inputs of the unit) (appendix A).

    Args:
        shape: [C, H, W]; 28x28 or 32x32 give 5x5 maps. Smaller ones by the rule of `small_images.scale`.
    """

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.windows = windows_of("lenet5-1998", shape)
        first, pool1, _, pool2 = self.windows
        self.convolutions = nn.Sequential(
            *(nn.Conv2d(shape[0], MAPS[0], first.kernel, padding=first.padding), Squash()),
            *(Subsampling(MAPS[0], pool1), Squash()),
            *(Partial(), Squash()),
            *(Subsampling(MAPS[1], pool2), Squash()),
        )
        places = MAPS[1] * math.prod(sides(shape, self.windows))
        into_first = [nn.Flatten(), nn.Linear(places, WIDTHS[0]), Squash()]
        self.dense = nn.Sequential(*into_first, nn.Linear(*WIDTHS), Squash())
        self.out_dim = WIDTHS[-1]
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                bound = 2.4 / layer.weight[0].numel()
                nn.init.uniform_(layer.weight, -bound, bound)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def feature_maps(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> maps[B, 16, h, w] (5x5 for 28x28), for dense heads."""
        maps: Tensor = self.convolutions(obs)
        return maps

    def forward(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> [B, 84]."""
        features: Tensor = self.dense(self.feature_maps(obs))
        return features


ENCODERS.register("lenet5")(LeNet)
ENCODERS.register("lenet5-1998")(LeNet1998)
