"""Networks for images: a classifier or a segmenter on a registered encoder, and the sizes that papers published."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from rlab.errors import RlabError
from rlab.nn.encoders import make_encoder
from rlab.nn.encoders.modifiers import split_name
from rlab.nn.heads.classify import ClassifyHead, DenseHead, RbfHead, Top

T = TypeVar("T")


class Published(NamedTuple):
    """What was published of a network: its size, and what it is for.

    Attributes:
        parameters: that are trained, with the head.
        shape: of the images [C, H, W].
        classes: of the data that it was made for.
        source: the paper, and whose count it is.
        dropout: of the features in front of the head.
        last: what torchvision calls the last layer; empty: it does not have this network.
    """

    parameters: int
    shape: tuple[int, int, int]
    classes: int
    source: str
    dropout: float = 0.0
    last: str = ""


DIGIT, PHOTO, SMALL = (1, 28, 28), (3, 224, 224), (3, 32, 32)
LECUN = "LeCun et al. 1998"
VGG, DENSE_LAST = "Simonyan & Zisserman 2015, table 2", "classifier.6."
HE, HE_SMALL = "He et al. 2016, table 1", "He et al. 2016, section 4.2"

PUBLISHED = {
    "lenet5": Published(61_706, DIGIT, 10, LECUN + ", with all connections"),
    "lenet5-1998": Published(60_000, (1, 32, 32), 10, LECUN + ", section II.B"),
    "alexnet": Published(61_100_840, PHOTO, 1000, "Krizhevsky 2014; torchvision", last=DENSE_LAST),
    "vgg11": Published(132_863_336, PHOTO, 1000, VGG, last=DENSE_LAST),
    "vgg13": Published(133_047_848, PHOTO, 1000, VGG, last=DENSE_LAST),
    "vgg16": Published(138_357_544, PHOTO, 1000, VGG, last=DENSE_LAST),
    "vgg19": Published(143_667_240, PHOTO, 1000, VGG, last=DENSE_LAST),
    "vgg11-bn": Published(132_868_840, PHOTO, 1000, VGG + "; torchvision", last=DENSE_LAST),
    "vgg13-bn": Published(133_053_736, PHOTO, 1000, VGG + "; torchvision", last=DENSE_LAST),
    "vgg16-bn": Published(138_365_992, PHOTO, 1000, VGG + "; torchvision", last=DENSE_LAST),
    "vgg19-bn": Published(143_678_248, PHOTO, 1000, VGG + "; torchvision", last=DENSE_LAST),
    "googlenet": Published(6_624_904, PHOTO, 1000, "Szegedy et al. 2015; torchvision", 0.2, "fc."),
    "resnet18": Published(11_689_512, PHOTO, 1000, HE, last="fc."),
    "resnet34": Published(21_797_672, PHOTO, 1000, HE, last="fc."),
    "resnet50": Published(25_557_032, PHOTO, 1000, HE, last="fc."),
    "resnet101": Published(44_549_160, PHOTO, 1000, HE, last="fc."),
    "resnet20": Published(269_722, SMALL, 10, HE_SMALL),
    "resnet32": Published(464_154, SMALL, 10, HE_SMALL),
    "resnet56": Published(853_018, SMALL, 10, HE_SMALL),
    "resnet110": Published(1_727_962, SMALL, 10, HE_SMALL),
    "plain20": Published(269_722, SMALL, 10, HE_SMALL),
    "plain56": Published(853_018, SMALL, 10, HE_SMALL),
    "mobilenet-v1": Published(4_231_976, PHOTO, 1000, "Howard et al. 2017; Keras"),
    "mobilenet-v2": Published(3_504_872, PHOTO, 1000, "Sandler et al. 2018; torchvision", 0.2, "classifier.1."),
    "densenet121": Published(7_978_856, PHOTO, 1000, "Huang et al. 2017; torchvision", last="classifier."),
}
"""Name of an encoder -> what was published of the classifier on it."""

AUXILIARY = "googlenet"
"""The network that has auxiliary classifiers."""


class Classifier(nn.Module):
    """An encoder and a head: images[B, C, H, W] -> logits[B, K]."""

    def __init__(self, encoder: nn.Module, head: nn.Module):
        super().__init__()
        self.encoder, self.head = encoder, head
        self.uses_maps = getattr(head, "top", "features") != "features"

    def forward(self, images: Tensor) -> Tensor:
        """images[B, C, H, W] in 0..1, or as the weights want them -> logits[B, K]."""
        encode = self.encoder.feature_maps if self.uses_maps else self.encoder
        logits: Tensor = self.head(encode(images))  # type: ignore[operator]
        return logits

    def with_auxiliary(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """images[B, C, H, W] -> logits[B, K] of the head and of both auxiliary classifiers of GoogLeNet."""
        features, first, second = self.encoder.with_auxiliary(images)  # type: ignore[operator]
        return self.head(features), first, second


def classifier(
    name: str,
    shape: tuple[int, ...],
    classes: int,
    top: Top = "features",
    auxiliary: bool = False,
    dropout: float | None = None,
    batch: Tensor | None = None,
) -> Classifier:
    """Build a classifier on a registered encoder; at the published shape and classes it has the published size.

    Args:
        name: of the encoder, and its parts (`rlab.nn.encoders.modifiers`).
        shape: of the images [C, H, W].
        classes: K.
        top: what the head sees; with "mean" or "places" the encoder loses its own dense layers.
        auxiliary: GoogLeNet with its auxiliary classifiers.
        dropout: of what the head sees; None: as published.
        batch: real inputs[B, *shape], for the initialisation lsuv.

    Raises:
        RlabError: an unknown name, a shape that the encoder does not take, or a top for which it has no maps.
    """
    base = split_name(name)[0]
    if auxiliary and name != AUXILIARY:
        raise RlabError(f"encoder '{name}' has no auxiliary classifiers; nearest: {AUXILIARY}")
    if auxiliary:
        from rlab.nn.encoders.googlenet import GoogLeNet

        encoder: nn.Module = GoogLeNet(shape, classes)
    else:
        encoder = make_encoder(name, shape, batch=batch)
    if dropout is None:
        dropout = PUBLISHED[base].dropout if base in PUBLISHED else 0.0
    if top != "features":
        return Classifier(encoder, _maps_head(name, encoder, shape, classes, top, dropout))
    features: int = encoder.out_dim  # type: ignore[assignment]
    if base == "lenet5-1998":
        return Classifier(encoder, RbfHead(features, classes))
    return Classifier(encoder, ClassifyHead(features, classes, dropout=dropout))


class Segmenter(nn.Module):
    """An encoder and a head on its maps: images[B, C, H, W] -> logits[B, K, H, W]."""

    def __init__(self, encoder: nn.Module, head: DenseHead):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, images: Tensor) -> Tensor:
        """images[B, C, H, W] in 0..1 -> logits[B, K, H, W]."""
        height, width = images.shape[2:]
        logits: Tensor = self.head(self.encoder.feature_maps(images), (height, width))  # type: ignore[operator]
        return logits


def segmenter(name: str, shape: tuple[int, ...], classes: int, batch: Tensor | None = None) -> Segmenter:
    """Build a segmenter on the maps of a registered encoder, whose own dense layers are dropped.

    Args:
        name: of the encoder, and its parts.
        shape: of the images [C, H, W].
        classes: K.
        batch: real inputs[B, *shape], for the initialisation lsuv.

    Raises:
        RlabError: an unknown name, a shape that the encoder does not take, or it has no maps.
    """
    return segmenter_on(name, make_encoder(name, shape, batch=batch), shape, classes)


def segmenter_on(name: str, encoder: nn.Module, shape: tuple[int, ...], classes: int) -> Segmenter:
    """Build a segmenter on an encoder that there is; see `segmenter`."""
    return Segmenter(encoder, DenseHead(keep_maps(name, encoder, shape, "a class for every pixel").shape[1], classes))


def _maps_head(
    name: str, encoder: nn.Module, shape: tuple[int, ...], classes: int, top: Top, dropout: float
) -> ClassifyHead:
    """A head on an encoder's maps."""
    maps = keep_maps(name, encoder, shape, f"a head with top '{top}'")
    return ClassifyHead(maps.shape[1] if top == "mean" else maps[0].numel(), classes, top, dropout)


def keep_maps(name: str, encoder: nn.Module, shape: tuple[int, ...], use: str) -> Tensor:
    """The encoder's maps of one image [1, C, h, w], without values; its dense layers go, which nothing would use."""
    if not hasattr(encoder, "feature_maps"):
        raise RlabError(f"encoder '{name}' has no feature maps for {use}; nearest: resnet20")
    maps = with_shapes_alone(encoder, shape, lambda network, image: network.feature_maps(image))
    if hasattr(encoder, "dense"):
        encoder.dense = nn.Flatten()
        encoder.out_dim = with_shapes_alone(encoder, shape, lambda network, image: network(image).shape[1])
    return maps


def with_shapes_alone(module: nn.Module, shape: tuple[int, ...], call: Callable[[Any, Tensor], T]) -> T:
    """What a function of the module and one image [1, C, H, W] says, when only shapes are computed.

    It gets a copy in evaluation; the module stays as it is.
    """
    mode = FakeTensorMode()
    replacements: dict[int, Any] = {}  # for deepcopy: a tensor's id -> what stands in its place
    tensors = [*module.parameters(), *module.buffers()]
    for tensor in tensors:
        empty = mode.from_tensor(tensor.detach())
        replacements[id(tensor)] = nn.Parameter(empty, False) if isinstance(tensor, nn.Parameter) else empty
    with torch.no_grad(), mode:
        image = torch.empty(1, *shape, device=tensors[0].device if tensors else None)
        return call(copy.deepcopy(module, replacements).eval(), image)


def multiply_adds(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Count multiply-adds of convolutions and linear layers in the forward pass of one image [C, H, W].

    Papers often call these FLOPs. Partial connections count as if they were whole.
    """

    def count(network: nn.Module, image: Tensor) -> int:
        with FlopCounterMode(display=False) as counter:
            network(image)
        return int(counter.get_total_flops()) // 2

    return with_shapes_alone(module, shape, count)
