"""Heads that tell classes from features, or from feature maps."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.errors import RlabError, nearest

Top = Literal["features", "mean", "places"]
"""What a classifier sees: an encoder's features; the mean over its maps (Lin et al. 2014, "global average pooling");
or every place of its maps."""


class ClassifyHead(nn.Module):
    """One linear layer: features[B, D], or maps[B, C, h, w], -> logits[B, K].

    Args:
        in_dim: D; C for "mean", C h w for "places".
        classes: K.
        top: what is done to what comes in: nothing, the mean over places, or nothing but making it flat.
        dropout: share of the features that are left out in training.

    Raises:
        RlabError: no classes, or an unknown top.
    """

    def __init__(self, in_dim: int, classes: int, top: Top = "features", dropout: float = 0.0):
        super().__init__()
        if classes < 1:
            raise RlabError(f"a classifier needs at least 1 class, not {classes}")
        if top not in get_args(Top):
            raise RlabError(f"unknown top '{top}' of a classifier; {nearest(top, get_args(Top))}")
        self.top = top
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(in_dim, classes)

    def forward(self, features: Tensor) -> Tensor:
        """features[B, D] or maps[B, C, h, w] -> logits[B, K]."""
        flat = features.mean((2, 3)) if self.top == "mean" else features.flatten(1)
        logits: Tensor = self.logits(self.dropout(flat))
        return logits


class DenseHead(nn.Module):
    """A class for every pixel: a convolution 1x1 on feature maps, enlarged bilinearly (Long et al. 2015, FCN-32s).

    Args:
        in_dim: channels C of the maps.
        classes: K.

    Raises:
        RlabError: no classes.
    """

    def __init__(self, in_dim: int, classes: int):
        super().__init__()
        if classes < 1:
            raise RlabError(f"a segmentation needs at least 1 class, not {classes}")
        self.logits = nn.Conv2d(in_dim, classes, 1)

    def forward(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """maps[B, C, h, w], (H, W) -> logits[B, K, H, W]."""
        return F.interpolate(self.logits(maps).float(), size, mode="bilinear", align_corners=False)


DIGITS = """
.#####. ...#... .#####. .#####. #....#. ####### ..####. ####### .#####. .#####.
#.....# ..##... #.....# #.....# #....#. #...... .#..... ......# #.....# #.....#
#.....# .#.#... ......# ......# #....#. #...... #...... .....#. #.....# #.....#
#.....# ...#... ......# ......# #....#. #...... #...... .....#. #.....# #.....#
#.....# ...#... .....#. ......# #....#. ######. #...... ....#.. #.....# #.....#
#.....# ...#... ....#.. ..####. ####### ......# ######. ....#.. .#####. .######
#.....# ...#... ...#... ......# .....#. ......# #.....# ...#... #.....# ......#
#.....# ...#... ..#.... ......# .....#. ......# #.....# ...#... #.....# ......#
#.....# ...#... .#..... ......# .....#. ......# #.....# ..#.... #.....# ......#
#.....# ...#... #...... #.....# .....#. #.....# #.....# ..#.... #.....# .....#.
.#####. .#####. ####### .#####. .....#. .#####. .#####. .#..... .#####. .####..
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
"""
"""The ten digits on 7x12, drawn here: # is +1, . is -1."""


def digit_bitmaps() -> Tensor:
    """The ten digits as float[10, 84] of +1 and -1, row by row."""
    rows = [row.split() for row in DIGITS.split("\n") if row]
    return torch.tensor([[1.0 if c == "#" else -1.0 for row in rows for c in row[digit]] for digit in range(10)])


class RbfHead(nn.Module):
    """LeNet-5's output layer: features[B, 84] -> minus the squared distance to each digit's fixed bitmap, [B, 10].

    LeCun et al. 1998, section II.B; 840 numbers that are not trained. The larger, the nearer, so that they serve as
    logits: the paper's criterion (eq. 9) is then the cross-entropy with one more class.

    Raises:
        RlabError: other than 84 features or 10 classes: the bitmaps are of digits.
    """

    def __init__(self, in_dim: int = 84, classes: int = 10):
        super().__init__()
        if (in_dim, classes) != (84, 10):
            raise RlabError(
                f"the RBF output of LeNet-5 has bitmaps of 10 digits for 84 features, not {classes} classes for "
                f"{in_dim}; nearest: ClassifyHead"
            )
        self.bitmaps: Tensor  # [10, 84]
        self.register_buffer("bitmaps", digit_bitmaps())

    def forward(self, features: Tensor) -> Tensor:
        """features[B, 84] -> [B, 10], 0 at the most."""
        return -(features.unsqueeze(1) - self.bitmaps).square().sum(2)
