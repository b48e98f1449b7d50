"""Generators and discriminators of GANs: fully connected ones, and convolutional ones (Radford et al. 2016, DCGAN)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.errors import RlabError
from rlab.nn.layers import NORMS

FIRST = 8
"""Height and width, about, from which maps are doubled up to the image's: 28x28 starts from 7x7."""

DEVIATION = 0.02
"""Of a convolution's first weights (Radford et al. 2016, section 4)."""


class Generator(nn.Module):
    """latent[B, Z] -> data[B, *shape]; of a class, if there are `classes`.

    Args:
        latent: Z.
        shape: of an item.
        classes: how many, their label being given beside the latent code; 0: none.
    """

    def __init__(self, latent: int, shape: tuple[int, ...], classes: int):
        super().__init__()
        self.latent, self.shape, self.classes = latent, shape, classes
        self.inputs = latent + classes

    def codes(self, z: Tensor, y: Tensor | None) -> Tensor:
        """Latent codes with the class, if there is one, as further inputs: [B, Z + K]."""
        if not self.classes:
            return z
        assert y is not None
        return torch.cat([z, F.one_hot(y, self.classes).to(z)], dim=1)


class Discriminator(nn.Module):
    """data[B, *shape] -> logits[B]: above 0 for real; of a class by projection (Miyato & Koyama 2018, eq. 3).

    Args:
        features: layers from data to features[B, D].
        dim: D.
        classes: 0: none.
        spectral: whether the last layer is spectrally normalised, as the others then are.
    """

    def __init__(self, features: nn.Module, dim: int, classes: int, spectral: bool):
        super().__init__()
        self.features = features
        self.head = NORMS.get("spectral" if spectral else "none")(nn.Linear(dim, 1))
        self.classes = nn.Embedding(classes, dim) if classes else None
        if self.classes is not None:  # as they come, they would outweigh all that is seen of the data
            nn.init.normal_(self.classes.weight, 0.0, DEVIATION)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x[B, *shape], classes int64[B] -> logits[B]."""
        features = self.features(x).float()
        logits: Tensor = self.head(features)[:, 0]
        return logits if self.classes is None else logits + (self.classes(y) * features).sum(1)


class DenseGenerator(Generator):
    """Fully connected layers; images end in tanh, so that they lie in -1..1.

    Args:
        latent, shape, classes: see `Generator`.
        width, depth: units of a hidden layer, and how many of them.
        norm: a registered norm of the hidden layers.
    """

    def __init__(self, latent: int, shape: tuple[int, ...], classes: int, width: int, depth: int, norm: str):
        super().__init__(latent, shape, classes)
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise([self.inputs] + [width] * depth):
            layers += [NORMS.get(norm)(nn.Linear(n_in, n_out)), nn.ReLU()]
        layers.append(nn.Linear(width, math.prod(shape)))
        self.layers = nn.Sequential(*layers, *([nn.Tanh()] if len(shape) == 3 else []))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z[B, Z], classes int64[B] -> [B, *shape]."""
        x: Tensor = self.layers(self.codes(z, y))
        return x.view(-1, *self.shape)


class Waves(nn.Module):
    """Numbers beside their sines and cosines, whose frequencies double: steep functions are learned fast of them.

    Fourier features (Tancik et al. 2020, section 6.1): data[B, *shape] -> [B, D (1 + 2 octaves)].
    """

    def __init__(self, octaves: int):
        super().__init__()
        self.octaves = octaves

    def forward(self, x: Tensor) -> Tensor:
        """x[B, *shape] -> [B, D (1 + 2 octaves)]."""
        x = x.flatten(1)
        angles = (x[:, :, None] * 2.0 ** torch.arange(self.octaves, device=x.device)).flatten(1)
        return torch.cat([x, angles.sin(), angles.cos()], dim=1)


def dense_discriminator(
    shape: tuple[int, ...], classes: int, width: int, depth: int, norm: str, leak: float, octaves: int = 0
) -> Discriminator:
    """Build fully connected layers with leaky ReLU below a discriminator's head, on `Waves` if there are octaves."""
    layers: list[nn.Module] = [Waves(octaves) if octaves else nn.Flatten()]
    for n_in, n_out in pairwise([math.prod(shape) * (1 + 2 * octaves)] + [width] * depth):
        layers += [NORMS.get(norm)(nn.Linear(n_in, n_out)), nn.LeakyReLU(leak)]
    return Discriminator(nn.Sequential(*layers), width, classes, norm == "spectral")


def stages(shape: tuple[int, ...]) -> int:
    """How often maps are doubled on the way to an image [C, H, W], of any height and width of at least 4.

    Raises:
        RlabError: it is no image, or smaller.
    """
    if len(shape) != 3 or min(shape[1:]) < 4:
        raise RlabError(
            f"dcgan makes images of at least 4x4 pixels, not data of shape {list(shape)}; nearest: --net mlp"
        )
    return max(1, round(math.log2(min(shape[1:]) / FIRST)))


class DcganGenerator(Generator):
    """DCGAN's generator: no pooling, a norm in every layer but the last, ReLU, and tanh at the end.

    Args:
        latent, shape, classes: see `Generator`.
        width: channels of the largest hidden maps; those of half the size have twice as many.
        norm: a registered norm.
        strided: whether maps are doubled by strided transposed convolutions, as in DCGAN; else by repeating pixels.
    """

    def __init__(self, latent: int, shape: tuple[int, ...], classes: int, width: int, norm: str, strided: bool = True):
        super().__init__(latent, shape, classes)
        doublings = stages(shape)
        channels = [width * 2**i for i in reversed(range(doublings))]
        self.first = (channels[0], -(-shape[1] // 2**doublings), -(-shape[2] // 2**doublings))
        make = NORMS.get(norm)
        maps = make(nn.ConvTranspose2d(self.inputs, self.first[0], self.first[1:]))
        layers: list[nn.Module] = [nn.Unflatten(1, (self.inputs, 1, 1)), maps, nn.ReLU()]
        for place, (n_in, n_out) in enumerate(pairwise([*channels, shape[0]])):
            last = place == doublings - 1
            if strided:
                grow: list[nn.Module] = []
                convolution: nn.Module = nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1)
            else:
                grow, convolution = [nn.Upsample(scale_factor=2)], nn.Conv2d(n_in, n_out, 3, padding=1)
            layers += [*grow, convolution, nn.Tanh()] if last else [*grow, make(convolution), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        _initialise(self)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z[B, Z], classes int64[B] -> images[B, C, H, W] in -1..1."""
        images: Tensor = self.layers(self.codes(z, y))
        return images[:, :, : self.shape[1], : self.shape[2]]


def dcgan_discriminator(
    shape: tuple[int, ...], classes: int, width: int, norm: str, leak: float, strided: bool = True
) -> Discriminator:
    """Build DCGAN's discriminator: strided convolutions, a norm in all but the first, leaky ReLU.

    Args:
        shape: of an image.
        classes: 0: none.
        width: channels of the first maps; every halving doubles them.
        norm: a registered norm.
        leak: slope of the leaky ReLU below 0; 0 is ReLU.
        strided: whether strides halve maps, as in DCGAN; else max-pooling.
    """
    layers: list[nn.Module] = []
    channels = [shape[0], *(width * 2**i for i in range(stages(shape)))]
    for place, (n_in, n_out) in enumerate(pairwise(channels)):
        convolution = nn.Conv2d(n_in, n_out, 4, 2, 1) if strided else nn.Conv2d(n_in, n_out, 3, 1, 1)
        named = norm if place or norm == "spectral" else "none"
        layers += [NORMS.get(named)(convolution), nn.LeakyReLU(leak), *([] if strided else [nn.MaxPool2d(2)])]
    layers.append(nn.Flatten())
    features = nn.Sequential(*layers)
    with torch.no_grad():
        dim = features.eval()(torch.zeros(1, *shape)).shape[1]
    discriminator = Discriminator(features.train(), dim, classes, norm == "spectral")
    if norm != "spectral":  # whose estimate of the largest singular value is of the weights as they are
        _initialise(discriminator)
    return discriminator


def _initialise(network: nn.Module) -> None:
    """Draw the weights as DCGAN does."""
    for part in network.modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(part.weight, 0.0, DEVIATION)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, DEVIATION)
