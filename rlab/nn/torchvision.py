"""Load torchvision's published weights into the lab's networks, under the lab's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlab.errors import RlabError, nearest
from rlab.nn.models import AUXILIARY, DENSE_LAST, PUBLISHED, classifier

HEAD, DENSE = "head.logits.", "encoder.dense."
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
"""torchvision's published DenseNet weights are older than its names."""


def torchvision_keys(name: str, auxiliary: bool = False, classes: int | None = None) -> dict[str, tuple[int, ...]]:
    """List the keys of torchvision's `state_dict` of a network, with their shapes.

    They are our own, except that the last layer has torchvision's name and the dense layers in front of it are called
    classifier.

    Args:
        name: of the encoder.
        auxiliary: with GoogLeNet's auxiliary classifiers.
        classes: other than the published number.

    Raises:
        RlabError: torchvision does not have this network.
    """
    last = _last_layer(name)
    with torch.device("meta"):
        network = classifier(name, PUBLISHED[name].shape, classes or PUBLISHED[name].classes, auxiliary=auxiliary)
    shapes = {}
    for key, value in network.state_dict().items():
        key = key.replace(HEAD, last).replace(DENSE, "classifier.").removeprefix("encoder.")
        shapes[key] = tuple(value.shape)
    return shapes


def from_torchvision(name: str, state_dict: Mapping[str, Any], auxiliary: bool = False) -> dict[str, Tensor]:
    """Rename torchvision's weights, so that `classifier(name, published shape, classes)` loads them strictly.

    The number of classes is that of the weights. GoogLeNet's auxiliary classifiers are left out unless asked for, and
    counters of batches that old files lack are 0.

    Args:
        name: of the encoder, such as "resnet18".
        state_dict: torchvision's, as its files have it.
        auxiliary: with GoogLeNet's auxiliary classifiers.

    Raises:
        RlabError: torchvision does not have this network, or these are not its weights: a key too many, one too few,
            or another shape.
    """
    last = _last_layer(name)
    weights = {OLD_DENSENET.sub(r"\1\2", str(key)): value for key, value in state_dict.items()}
    if name == AUXILIARY and not auxiliary:
        weights = {key: value for key, value in weights.items() if not key.startswith(("aux1.", "aux2."))}
    bias = weights.get(f"{last}bias")
    expected = torchvision_keys(name, auxiliary, len(bias) if isinstance(bias, Tensor) and bias.ndim == 1 else None)
    where = f"these are not torchvision's weights of '{name}': "
    if extra := [key for key in weights if key not in expected]:
        raise RlabError(f"{where}it has no '{extra[0]}'; {nearest(extra[0], expected)}")
    converted = {}
    for key, shape in expected.items():
        value = weights.get(key, torch.tensor(0) if key.endswith("num_batches_tracked") else None)
        if not isinstance(value, Tensor):
            raise RlabError(f"{where}'{key}' is missing")
        if tuple(value.shape) != shape:
            raise RlabError(f"{where}'{key}' is {list(value.shape)}, not {list(shape)}")
        own = key.replace("classifier.", "dense.") if last == DENSE_LAST else key
        converted[f"{HEAD}{key.removeprefix(last)}" if key.startswith(last) else f"encoder.{own}"] = value
    return converted


def _last_layer(name: str) -> str:
    valid = [known for known, facts in PUBLISHED.items() if facts.last]
    if name not in valid:
        raise RlabError(f"torchvision has no weights for '{name}'; {nearest(name, valid)}")
    return PUBLISHED[name].last
