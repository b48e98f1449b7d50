"""How a search asks the network of Go fast: batch normalisation folded, symmetries, one layout."""

from __future__ import annotations

import copy
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rlab.agents.go.compiled import Compiled, suits
from rlab.agents.go.network import GoNetwork
from rlab.agents.go.tree_game import PositionBatch
from rlab.envs.go.planes import PLANES
from rlab.envs.go.symmetry import NUMBER, add_moved_back, gather_planes, inverses, symmetries
from rlab.errors import RlabError
from rlab.kernels import THREADS
from rlab.nn.encoders.go_resnet import Block, GoResNet

Symmetry = Literal["none", "random", "all"]
_WORTH = 4
"""Positions that are worth a thread: each takes longer to read than a thread to wake."""


def drawn_symmetries(rng_keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Which of the eight symmetries [J] RNG keys [J] say."""
    return ((rng_keys * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(61)).astype(np.int64)


class SymmetricEvaluator:
    """Asks a network about the positions of a search, as they are or turned and mirrored.

    Args:
        symmetry: none; random, one of the eight by the RNG key; all, the mean of all eight.
    """

    def __init__(self, symmetry: Symmetry):
        self.symmetry = symmetry

    def __call__(
        self, positions: PositionBatch, rows: NDArray[np.int64], rng_keys: NDArray[np.uint64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits [J, n * n + 1] and values [J] of positions rows [J]."""
        size = round(positions.planes.shape[2] ** 0.5)
        if self.symmetry == "all":
            logits, values = self._ask(positions, rows, np.zeros(len(rows), np.int64), size)
            for k in range(1, NUMBER):
                more, value = self._ask(positions, rows, np.full(len(rows), k, np.int64), size)
                logits, values = logits + more, values + value
            return logits / np.float32(NUMBER), values / np.float32(NUMBER)
        kinds = np.zeros(len(rows), np.int64)
        if self.symmetry == "random":
            kinds = drawn_symmetries(rng_keys)
        return self._ask(positions, rows, kinds, size)

    def _ask(
        self, positions: PositionBatch, rows: NDArray[np.int64], kinds: NDArray[np.int64], size: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The same of positions that the symmetries `kinds` [J] move; logits are of the points as they were."""
        raise NotImplementedError


class Evaluator(SymmetricEvaluator):
    """Asks a network about the positions of a search; see `rlab.agents.search.Evaluate`.

    It takes a copy of the weights when it is made, with batch normalisation folded into the convolutions; call `renew`
    when they have changed.

    Args:
        network: whose weights.
        device: torch device.
        symmetry: none; random, one of the eight by the RNG key; all, the mean of all eight.
        precision: fp32, bf16, or auto: bf16 where there is hardware that multiplies matrices in it.
    """

    def __init__(self, network: GoNetwork, device: str = "cpu", symmetry: Symmetry = "random", precision: str = "auto"):
        super().__init__(symmetry)
        self.network = network
        self.device = torch.device(device)
        self.dtype = torch.bfloat16 if _bf16(precision, self.device) else torch.float32
        self._planes = torch.zeros(0, 0, len(PLANES))
        self.renew()

    def renew(self) -> None:
        """Take the network's weights as they are now."""
        self._folded = _fold(self.network).to(self.device)
        self._compiled = Compiled(self._folded) if suits(self.network, self.device, self.dtype) else None
        self._layers: _Layers | None = None

    def _room(self, rows: int, size: int) -> Tensor:
        """Planes [rows, n * n, C] to write in, whose memory a GPU can fetch by itself."""
        if self._planes.shape[0] < rows or self._planes.shape[1] != size * size:
            self._planes = torch.zeros(rows, size * size, len(PLANES), pin_memory=self.device.type == "cuda")
        return self._planes[:rows]

    def _ask(
        self, positions: PositionBatch, rows: NDArray[np.int64], kinds: NDArray[np.int64], size: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        logits = np.zeros((len(rows), size * size + 1), np.float32)
        if self._compiled is not None and self._compiled.size == size:
            compiled, values = self._compiled, np.empty(len(rows), np.float32)
            THREADS.share(
                lambda lo, hi: compiled(positions.planes, rows, kinds, logits, values, lo, hi), len(rows), _WORTH
            )
            return logits, values
        if self._layers is None:
            self._layers = _Layers(self._folded, self.device, self.dtype)
        # A single row would be multiplied by other kernels, which round otherwise.
        planes = self._room(max(len(rows), 2), size)
        planes[len(rows) :] = 0
        out, sources = planes.numpy(), inverses(size)
        THREADS.share(lambda lo, hi: gather_planes(positions.planes, rows, kinds, sources, out, lo, hi), len(rows))
        x = planes.view(-1, size, size, len(PLANES)).permute(0, 3, 1, 2)
        with torch.inference_mode():
            policy, value = self._layers(x.to(self.device, non_blocking=True).to(self.dtype))
            moved = policy[: len(rows)].float().cpu().numpy()
            values = value[: len(rows)].float().softmax(1).diff(dim=1).squeeze(1).cpu().numpy()
        add_moved_back(moved, kinds, symmetries(size), logits, 0, len(rows))
        return logits, values


def _fold(network: GoNetwork) -> GoNetwork:
    """A copy with batch normalisation folded into the convolutions, for reading only."""
    was = network.training
    network.eval()
    copied = copy.deepcopy(network).requires_grad_(False)
    network.train(was)
    for module in list(copied.modules()):
        for conv, norm in (("conv", "norm"), ("conv1", "norm1"), ("conv2", "norm2"), ("0", "1")):
            before, after = getattr(module, conv, None), getattr(module, norm, None)
            if isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
                setattr(module, conv, fuse_conv_bn_eval(before, after))
                setattr(module, norm, nn.Identity())
    return copied


class _Layers:
    """The network's forward pass for reading only.

    On a CPU the layers are those operations of oneDNN that do what follows in the same pass, and whose result for a row
    does not depend on how many rows there are (from 2 on).
    """

    def __init__(self, folded: GoNetwork, device: torch.device, dtype: torch.dtype):
        self.network = folded.to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.convolutions: list[tuple[_Conv, _Conv, nn.Module | None]] = []
        self.stem: _Conv | None = None
        if device.type != "cpu" or not torch.backends.mkldnn.is_available():
            return
        for module in list(folded.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(module, name, _Linear(child))
        if isinstance(folded.encoder, GoResNet):
            blocks = [cast(Block, block) for block in folded.encoder.blocks]
            self.stem = _Conv(folded.encoder.stem[0])
            self.convolutions = [(_Conv(block.conv1), _Conv(block.conv2), block.pool) for block in blocks]

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """planes[B, C, n, n] -> policy logits[B, n * n + 1], value logits[B, 2]."""
        if self.stem is None:
            outputs = self.network(x)
            return outputs.policy, outputs.value
        y = self.stem(x)
        for first, second, pool in self.convolutions:
            t = first(y) if pool is None else F.relu(first(y, relu=False) + pool(y))
            y = second(t, add=y)
        outputs = self.network.head(y)
        return outputs.policy, outputs.value


class _Conv:
    """relu(conv(x) + add), 3x3, as one operation of oneDNN."""

    def __init__(self, conv: nn.Module):
        assert isinstance(conv, nn.Conv2d)
        with torch.inference_mode():
            self.weight = torch.ops.mkldnn._reorder_convolution_weight(conv.weight, _ONE, _ONE, _ONE, 1, None)
        self.bias = cast(Tensor, conv.bias)

    def __call__(self, x: Tensor, relu: bool = True, add: Tensor | None = None) -> Tensor:
        """maps[B, C, n, n] -> maps[B, D, n, n]."""
        after = "relu" if relu else "none"
        ops = torch.ops.mkldnn._convolution_pointwise
        if add is None:
            return cast(Tensor, ops(x, self.weight, self.bias, _ONE, _ONE, _ONE, 1, after, [], ""))
        found = ops.binary(x, add, self.weight, self.bias, _ONE, _ONE, _ONE, 1, "add", 1.0, after, [], "")
        return cast(Tensor, found)


_ONE = [1, 1]
"""Padding, stride and dilation."""


class _Linear(nn.Module):
    """x W + b by oneDNN."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """[B, K] -> [B, N]."""
        return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], ""))


def _bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bf16; AVX512's bf16 alone is slower than fp32 here."""
    if precision not in ("auto", "fp32", "bf16"):
        raise RlabError(f"precision is '{precision}'; valid: auto, fp32, bf16")
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))
