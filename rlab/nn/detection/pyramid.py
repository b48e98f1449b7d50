"""Maps of several sizes from any image encoder: the encoder's own, and a feature pyramid on them (Lin et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.nn.models import keep_maps, with_shapes_alone


class Level(NamedTuple):
    """One size of an encoder's maps.

    Attributes:
        module: the name of the module whose output they are.
        channels: C.
        height, width: of the maps.
    """

    module: str
    channels: int
    height: int
    width: int


class Stages(nn.Module):
    """The last maps of every size that an encoder computes on its way, the largest ones first.

    Any encoder has them that has feature maps: of all its modules, those are found that are the last to give maps of
    a size. Maps as large as the image itself are left out.

    Args:
        name: of the encoder, for messages.
        encoder: whose maps they are; its dense layers go.
        shape: of an image [C, H, W].
        use: what the maps are for, for the message of an encoder that has none.

    Raises:
        RlabError: it has no feature maps.
    """

    def __init__(self, name: str, encoder: nn.Module, shape: tuple[int, ...], use: str):
        super().__init__()
        keep_maps(name, encoder, shape, use)
        self.levels = with_shapes_alone(encoder, shape, lambda network, image: _levels(network, image))

    def forward(self, encoder: Any, images: Tensor) -> list[Tensor]:
        """images[B, C, H, W] -> maps[B, C_l, h_l, w_l] of each level."""
        kept: dict[str, Tensor] = {}
        modules = dict(encoder.named_modules())

        def keep(name: str) -> Any:
            return lambda module, given, result: kept.__setitem__(name, result)

        hooks = [modules[level.module].register_forward_hook(keep(level.module)) for level in self.levels[:-1]]
        try:
            last = encoder.feature_maps(images)
        finally:
            for hook in hooks:
                hook.remove()
        return [*(kept[level.module] for level in self.levels[:-1]), last]


def _levels(encoder: Any, image: Tensor) -> tuple[Level, ...]:
    """The levels of an encoder, found by what its modules give for one image."""
    found: dict[tuple[int, int], Level] = {}
    hooks = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, given: Any, result: Any) -> None:
            if isinstance(result, Tensor) and result.dim() == 4:
                size = (result.shape[2], result.shape[3])
                found.pop(size, None)  # the order is that of the last ones
                found[size] = Level(name, result.shape[1], *size)

        return hook

    for name, module in encoder.named_modules():
        if name:
            hooks.append(module.register_forward_hook(note(name)))
    try:
        maps = encoder.feature_maps(image)
    finally:
        for hook in hooks:
            hook.remove()
    last = Level("", maps.shape[1], maps.shape[2], maps.shape[3])
    larger = [
        level
        for (height, width), level in found.items()
        if last.height < height < image.shape[2] and last.width < width < image.shape[3]
    ]
    return (*sorted(larger, key=lambda level: -level.height), last)


class FeaturePyramid(nn.Module):
    """Maps of equal width on an encoder's stages, and smaller ones made of the last (Lin et al. 2017; Liu et al. 2016).

    Args:
        stages: (channels, height, width) of the maps that come in, the largest first.
        image: (height, width) of the images.
        stride: pixels of a cell of the finest level: stages that are finer are left out.
        count: levels that come out: of the stages, and further ones by strides of 2, as long as there are more than one
            cell.
        width: channels of what comes out.
        top_down: add each level, enlarged, to the next larger one, so that fine maps know what coarse ones have seen.
    """

    def __init__(
        self,
        stages: Sequence[tuple[int, int, int]],
        image: tuple[int, int],
        stride: int,
        count: int,
        width: int,
        top_down: bool,
    ):
        super().__init__()
        self.top_down = top_down
        fine = sum(image[0] / height < 0.75 * stride for _, height, _ in stages)
        self.first = min(fine, len(stages) - 1)
        chosen = list(stages)[self.first :][:count]
        self.taken = len(chosen)
        self.lateral = nn.ModuleList([nn.Conv2d(channels, width, 1) for channels, _, _ in chosen])
        self.smooth = nn.ModuleList([_block(width, width, 1) for _ in chosen])
        self.sizes = [(height, width_) for _, height, width_ in chosen]
        self.extra = nn.ModuleList()
        while len(self.sizes) < count and min(self.sizes[-1]) > 1:
            self.extra.append(_block(width, width, 2))
            self.sizes.append((-(-self.sizes[-1][0] // 2), -(-self.sizes[-1][1] // 2)))

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """maps[B, C_l, h_l, w_l] of all stages -> maps[B, width, h, w] of each level, the largest first."""
        maps = [layer(part) for layer, part in zip(self.lateral, stages[self.first :][: self.taken], strict=True)]
        if self.top_down:
            for i in range(len(maps) - 2, -1, -1):
                maps[i] = maps[i] + F.interpolate(maps[i + 1], maps[i].shape[2:], mode="nearest")
        maps = [layer(part) for layer, part in zip(self.smooth, maps, strict=True)]
        for layer in self.extra:
            maps.append(layer(maps[-1]))
        return maps


def _block(n_in: int, n_out: int, stride: int) -> nn.Module:
    """Convolution 3x3, norm in groups (no image depends on others of its batch), ReLU."""
    groups = next(g for g in (8, 4, 2, 1) if n_out % g == 0)
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, stride, padding=1), GroupNorm(groups, n_out), nn.ReLU())


class GroupNorm(nn.GroupNorm):
    """torch's, also for a group of one number, which torch refuses: one channel of one cell in an image by itself.

    It becomes 0 before scale and shift.
    """

    def forward(self, input: Tensor) -> Tensor:
        """See the class."""
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class SkipDecoder(nn.Module):
    """The right half of a U-Net (Ronneberger et al. 2015): enlarge maps, join the encoder's of that size, convolve.

    Args:
        stages: (channels, height, width) of the encoder's maps, the largest first.
        channels: of the images, which are joined at their own size.
        classes: K.
        width: channels of the largest maps; smaller ones have up to four times as many.
        skips: False leaves the encoder's larger maps out, so that only the last ones count.
    """

    def __init__(
        self, stages: Sequence[tuple[int, int, int]], channels: int, classes: int, width: int, skips: bool = True
    ):
        super().__init__()
        self.skips = skips
        inputs = [channels, *(part[0] for part in stages[:-1])]  # joined on the way up, the largest first
        before, blocks = stages[-1][0], []
        for depth in range(len(inputs) - 1, -1, -1):
            after = width * min(2**depth, 4)
            blocks.append(_block(before + (inputs[depth] if skips else 0), after, 1))
            before = after
        self.blocks = nn.ModuleList(blocks)
        self.logits = nn.Conv2d(before, classes, 1)

    def forward(self, images: Tensor, stages: Sequence[Tensor]) -> Tensor:
        """images[B, C, H, W] and the encoder's maps -> logits[B, K, H, W]."""
        maps, joined = stages[-1], [images, *stages[:-1]]
        for block, other in zip(self.blocks, reversed(joined), strict=True):
            maps = F.interpolate(maps, other.shape[2:], mode="bilinear", align_corners=False)
            maps = block(torch.cat([maps, other], 1) if self.skips else maps)
        logits: Tensor = self.logits(maps)
        return logits


class SkipHead(nn.Module):
    """What a `SkipSegmenter` has above its encoder: the stages to be joined, and the decoder."""

    def __init__(self, stages: Stages, decoder: SkipDecoder):
        super().__init__()
        self.stages, self.decoder = stages, decoder


class SkipSegmenter(nn.Module):
    """A U-Net on any image encoder: images[B, C, H, W] -> logits[B, K, H, W].

    Args:
        name: of the encoder, for messages.
        encoder: the left half.
        shape: of an image [C, H, W].
        classes: K.
        width: channels of the decoder's largest maps.
        skips: join the encoder's maps on the way up.

    Raises:
        RlabError: the encoder has no feature maps.
    """

    def __init__(
        self, name: str, encoder: nn.Module, shape: tuple[int, ...], classes: int, width: int, skips: bool = True
    ):
        super().__init__()
        self.encoder = encoder
        stages = Stages(name, encoder, shape, "a class for every pixel")
        decoder = SkipDecoder([level[1:] for level in stages.levels], shape[0], classes, width, skips)
        self.head = SkipHead(stages, decoder)

    def forward(self, images: Tensor) -> Tensor:
        """images[B, C, H, W] in 0..1 -> logits[B, K, H, W]."""
        logits: Tensor = self.head.decoder(images, self.head.stages(self.encoder, images))
        return logits
