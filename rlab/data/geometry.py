"""Affine maps and displacements of whole batches of images, each image with its own.

Points are in pixels from the image's centre, u to the right and v down; pixel (row i, column j) of an image [H, W] lies
at u = j - (W - 1) / 2, v = i - (H - 1) / 2. A map takes a point of the result to the point of the image that is seen
there, so that maps of two steps multiply: first @ second. What comes from outside of the image is 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Size(NamedTuple):
    """The size of a batch of images: B of [H, W]."""

    batch: int
    height: int
    width: int


@dataclass(frozen=True)
class Geometry:
    """Maps that are gathered and carried out at once, so that many steps cost one interpolation.

    Attributes:
        maps: float32[B, 3, 3].
        exact: they only flip and move by whole pixels, so pixels are copied, not interpolated.
        displacement: float32[2, B, H, W], in pixels (u, v), added to points before the map; None for none.
        bicubic: how to interpolate; else bilinear.
    """

    maps: Tensor
    exact: bool
    displacement: Tensor | None = None
    bicubic: bool = False

    def then(self, maps: Tensor, exact: bool) -> Geometry:
        """Add another map after this one; only where there is no displacement."""
        return Geometry(self.maps @ maps, self.exact and exact)

    def displaced(self, displacement: Tensor, bicubic: bool) -> Geometry:
        """Add a displacement after this map; only where there is none yet."""
        return Geometry(self.maps, False, displacement, bicubic)

    def images(self, images: Tensor) -> Tensor:
        """Apply the maps to images float[B, C, H, W] in 0..1."""
        if self.exact:
            return _copied(images, self.maps)
        grid = self._grid(images.shape[-2:])
        mode = "bicubic" if self.bicubic else "bilinear"
        return F.grid_sample(images, grid, mode, "zeros", align_corners=False).clamp_(0, 1)

    def masks(self, masks: Tensor) -> Tensor:
        """Apply the maps to masks of whole numbers [B, H, W]: the nearest pixel counts."""
        if self.exact:
            return _copied(masks[:, None], self.maps)[:, 0]
        grid = self._grid(masks.shape[-2:])
        sampled = F.grid_sample(masks[:, None].float(), grid, "nearest", "zeros", align_corners=False)
        return sampled[:, 0].to(masks.dtype)

    def boxes(self, boxes: Tensor, size: Size) -> Tensor:
        """Move boxes float32[B, M, 4] (left, top, right, bottom in pixels) as the maps move the images, and clip them.

        A turned box becomes the upright one around it. What lies outside of the image becomes four zeros, as padding
        is; so does what had no area.
        """
        if self.displacement is not None:
            return self._boxes_by_pixels(boxes, size)
        half = boxes.new_tensor([size.width / 2, size.height / 2])
        left, top, right, bottom = boxes.unbind(-1)
        corners = torch.stack([left, top, right, top, left, bottom, right, bottom], -1).view(*boxes.shape[:2], 4, 2)
        inverse = torch.linalg.inv(self.maps)[:, None, None]  # [B, 1, 1, 3, 3]
        moved = (inverse[..., :2, :2] @ (corners - half)[..., None])[..., 0] + inverse[..., :2, 2] + half
        return _clipped(torch.cat([moved.amin(2), moved.amax(2)], -1), boxes, size)

    def _boxes_by_pixels(self, boxes: Tensor, size: Size) -> Tensor:
        """Displacements have no inverse in closed form: a box is around the pixels that come from inside of it."""
        height, width = size.height, size.width
        grid = self._grid(torch.Size((height, width)))
        x, y = (grid[..., 0] + 1) * (width / 2), (grid[..., 1] + 1) * (height / 2)  # where each pixel comes from
        left, top, right, bottom = (edge[..., None, None] for edge in boxes.unbind(-1))
        x, y = x[:, None], y[:, None]
        inside = (x > left) & (x < right) & (y > top) & (y < bottom)  # [B, M, H, W]
        edges = []
        for along, n in ((inside.any(2), width), (inside.any(3), height)):
            at = torch.arange(n, device=boxes.device)
            edges.append((torch.where(along, at, n).amin(2), torch.where(along, at + 1, 0).amax(2)))
        around = torch.stack([edges[0][0], edges[1][0], edges[0][1], edges[1][1]], -1).to(boxes.dtype)
        return _clipped(around, boxes, size)

    def _grid(self, size: torch.Size) -> Tensor:
        """[B, H, W, 2] in `grid_sample`'s units: -1 and 1 are the outer edges of the outermost pixels."""
        u, v = _axes(size, self.maps)
        units = self.maps[:, :2] * self.maps.new_tensor((2 / size[1], 2 / size[0]))[:, None]  # [B, 2, 3]
        by_u, by_v, offset = (units[:, :, k, None, None] for k in range(3))  # [B, 2, 1, 1]
        grid = units.new_empty((len(units), *size, 2))
        for axis in range(2):
            out = grid[..., axis]
            torch.add(by_u[:, axis] * u + offset[:, axis], by_v[:, axis] * v[:, None], out=out)  # [B, H, W]
            if self.displacement is not None:
                out.addcmul_(by_u[:, axis], self.displacement[0]).addcmul_(by_v[:, axis], self.displacement[1])
        return grid


def _clipped(moved: Tensor, before: Tensor, size: Size) -> Tensor:
    """Boxes [B, M, 4] clipped to an image; zeros where nothing is left, or was."""
    most = moved.new_tensor([size.width, size.height, size.width, size.height])
    result = torch.minimum(moved.clamp(min=0), most)
    there = (result[..., 2:] > result[..., :2]).all(-1) & (before[..., 2:] > before[..., :2]).all(-1)
    return torch.where(there[..., None], result, 0.0)


def identity(size: Size, device: torch.device) -> Geometry:
    """Make the geometry that leaves everything where it is."""
    return Geometry(torch.eye(3, device=device).expand(size.batch, 3, 3), True)


def maps_of(a: Tensor, b: Tensor, c: Tensor, d: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Maps (x, y) -> (a x + b y + u, c x + d y + v), each number given for every image: [B] -> [B, 3, 3]."""
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    return torch.stack((a, b, u, c, d, v, zero, zero, one), -1).view(-1, 3, 3)


def smooth(fields: Tensor, sigma: float) -> Tensor:
    """Fields [..., W, H] convolved with a Gaussian of standard deviation `sigma` in pixels -> [..., H, W].

    Beyond the border is 0. Each axis is one matrix product, for which the field is turned once.
    """
    width, height = fields.shape[-2:]
    turned = (fields @ _gaussian(height, sigma, fields)).transpose(-1, -2).contiguous()
    return turned @ _gaussian(width, sigma, fields)


def _gaussian(n: int, sigma: float, like: Tensor) -> Tensor:
    """The convolution along an axis as a symmetric matrix [n, n]."""
    at = torch.arange(n, dtype=like.dtype, device=like.device)
    distance = at[:, None] - at
    return torch.exp(-0.5 * (distance / sigma) ** 2) / _mass(sigma)


def _mass(sigma: float) -> float:
    """The sum of the Gaussian over all whole numbers, so that a constant field stays as it is far from the border."""
    reach = math.ceil(8 * sigma) + 1
    return sum(math.exp(-0.5 * (k / sigma) ** 2) for k in range(-reach, reach + 1))


def _axes(size: torch.Size, like: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates from the centre: u[W], v[H]."""
    v, u = (torch.arange(n, dtype=like.dtype, device=like.device) - (n - 1) / 2 for n in size)
    return u, v


def _copied(images: Tensor, maps: Tensor) -> Tensor:
    """Images [B, C, H, W] flipped and moved by whole pixels: rows and columns are chosen apart."""
    batch, channels, height, width = images.shape
    u, v = _axes(images.shape[-2:], maps)
    rows = _places(maps[:, 1, 1:2] * v + maps[:, 1, 2:], height)  # [B, H]
    columns = _places(maps[:, 0, :1] * u + maps[:, 0, 2:], width)  # [B, W]
    framed = F.pad(images, (0, 1, 0, 1)).view(-1, width + 1)  # [B*C*(H+1), W+1]
    first = torch.arange(batch * channels, device=images.device).view(batch, channels, 1) * (height + 1)
    chosen = framed.index_select(0, (first + rows[:, None]).flatten()).view(batch, channels, height, width + 1)
    return chosen.gather(3, columns[:, None, None].expand(images.shape))


def _places(points: Tensor, n: int) -> Tensor:
    """Points from the centre -> numbers of pixels 0 .. n - 1; n, the frame of zeros, for all that lie outside."""
    at = (points + (n - 1) / 2).round().long()
    return at.masked_fill((at < 0) | (at >= n), n)
