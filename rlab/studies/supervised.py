"""Small networks trained in a few lines, for studies: on the CPU, by seed, without a run folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rlab.data.augment import augment, parse
from rlab.data.datasets import as_float, load
from rlab.data.preprocess import fit as fit_transform
from rlab.errors import RlabError
from rlab.nn.init import initialise
from rlab.nn.layers import drawing_from
from rlab.nn.layers.activations import ACTIVATIONS
from rlab.nn.layers.norm import NORMS
from rlab.nn.optim import make_optimiser
from rlab.seeding import derive


class Examples(NamedTuple):
    """What is learned from, and what it is held against: x[N, ...], y[N]."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor


def examples(name: str, seed: int, train: int = 0, test: int = 0, preprocess: str = "") -> Examples:
    """A part of a data set, as floats.

    Args:
        name: as after `--data`; `digits` needs no files.
        seed: of the draw; the same for all variants.
        train, test: how many, of every class its share; 0: all.
        preprocess: fitted to the training inputs, applied to both.

    Raises:
        RlabError: the set is unknown or not there.
    """
    data = load(name, derive(seed, "examples"), validation=0)
    for split, count in (("train", train), ("test", test)):
        if 0 < count < len(data.splits[split]):
            data = data.subsample(count, seed, split)
    x, x_test = data.inputs("train"), data.inputs("test")
    if preprocess:
        transform = fit_transform(preprocess, x)
        x, x_test = transform(x), transform(x_test)
    return Examples(x, data.targets("train"), x_test, data.targets("test"))


def parts(name: str, seed: int, *sizes: int) -> list[tuple[Tensor, Tensor]]:
    """Disjoint parts of a data set (all its splits together), as floats: (x, y) each, drawn by the seed.

    Args:
        name: as after `--data`; `digits` needs no files.
        seed: of the draw; the same for all variants.
        sizes: how many of each part; 0: all the rest, which only the last can have.

    Raises:
        RlabError: the set is unknown or not there, or has not so many.
    """
    data = load(name, 0)
    rest = len(data) - sum(sizes)
    if rest < 0:
        raise RlabError(f"data set '{name}' has {len(data):,} items, not {sum(sizes):,}")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(derive(seed, "parts")))
    wanted = [size or rest for size in sizes]
    drawn = order[: sum(wanted)].split(wanted)
    return [(as_float(data.x[items]), data.y[items]) for items in drawn]


def mislabelled(y: Tensor, share: float, seed: int, classes: int = 10) -> Tensor:
    """Labels, of which a share was drawn anew (and so a `classes`-th part of them again as it was)."""
    generator = torch.Generator().manual_seed(derive(seed, "labels"))
    drawn = torch.rand(len(y), generator=generator) < share
    return torch.where(drawn, torch.randint(classes, y.shape, generator=generator), y)


def network(
    sizes: Sequence[int],
    activation: str = "relu",
    *,
    seed: int,
    init: str = "",
    norm: str = "none",
    dropout: float = 0.0,
) -> nn.Sequential:
    """Fully connected layers: inputs are flattened, `norm` and `activation` follow every layer but the last.

    Args:
        sizes: features of the input, of each hidden layer, of the output.
        activation, norm: registered names.
        seed: of the weights; two networks with the same seed and sizes begin alike.
        init: a registered initialisation; "": torch's own.
        dropout: probability to drop a hidden unit; 0: no such layers.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    with drawing_from(torch.Generator().manual_seed(derive(seed, "network"))):
        for place, (n_in, n_out) in enumerate(pairwise(sizes)):
            layer = nn.Linear(n_in, n_out)
            if place < len(sizes) - 2:
                layers += [NORMS.get(norm)(layer), ACTIVATIONS.get(activation)()]
                layers += [nn.Dropout(dropout)] if dropout else []
            else:
                layers.append(layer)
        model = nn.Sequential(*layers)
        if init:
            initialise(model, init)
    return model


def normed_convolutions(norm: str, width: int, seed: int) -> nn.Sequential:
    """Two convolutions 3x3 with a registered norm and ReLU, and a linear layer: images[B, 1, 8, 8] -> logits[B, 10].

    Norms do not change what is drawn, so networks with the same seed and width begin alike.
    """
    make = NORMS.get(norm)
    with drawing_from(torch.Generator().manual_seed(derive(seed, "network"))):
        layers = [make(nn.Conv2d(1, width, 3)), nn.ReLU(), make(nn.Conv2d(width, width, 3)), nn.ReLU()]
        model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * width, 10))
        initialise(model, "he-normal")
    return model


def fit(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    optimiser: torch.optim.Optimizer,
    *,
    steps: int,
    batch_size: int = 0,
    seed: int = 0,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    penalty: Callable[[], Tensor | float] = lambda: 0.0,
    change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda x, y: (x, y),
    augmented: str = "",
    after: Callable[[int], None] = lambda step: None,
    look: Callable[[], Any] = lambda: None,
    points: int = 1,
) -> list[Any]:
    """Train, and look at it.

    Args:
        model: left in evaluation mode.
        x, y: the training examples.
        optimiser: over the model's parameters.
        steps: updates.
        batch_size: examples of an update, in a new order every epoch; 0: all of them.
        seed: of the order of batches, and of what the model draws.
        loss: (outputs, targets) -> scalar.
        penalty: added to the loss.
        change: what is done to every batch.
        augmented: what is done to it after that, as after `--augment`; x are images and y classes then.
        after: called after each update with its number, from 1; changes rates or weights.
        look: called (in evaluation, without gradients) each time another of `points` equal parts is done.
        points: how many.

    Returns:
        What `look` returned.
    """
    generator = torch.Generator().manual_seed(derive(seed, "batches"))
    todo, dice = parse(augmented), torch.Generator().manual_seed(derive(seed, "augmented"))
    classes = int(y.max()) + 1 if todo else None
    order = torch.arange(len(x))
    size, at = batch_size or len(x), len(x)
    results: list[Any] = []
    with drawing_from(torch.Generator().manual_seed(derive(seed, "draws"))):
        for step in range(1, steps + 1):
            model.train()
            if batch_size and at + size > len(x):
                order, at = torch.randperm(len(x), generator=generator), 0
            part = order[at : at + size] if batch_size else order
            at += size
            inputs, targets = change(x[part], y[part])
            if todo:
                done = augment(inputs, todo, dice, targets, classes=classes)
                inputs, targets = done.images, cast(Tensor, done.targets)

            def again(inputs: Tensor = inputs, targets: Tensor = targets) -> float:
                optimiser.zero_grad()
                value = loss(model(inputs), targets) + penalty()
                value.backward()
                return float(value.detach())

            optimiser.step(again)
            after(step)
            if step * points // steps > len(results):
                model.eval()
                with torch.no_grad():
                    results.append(look())
    model.eval()
    return results


def accuracy_by_depth(
    data: Examples, width: int, depths: Sequence[int], activation: str, init: str, rates: Sequence[float], steps: int,
    seed: int,
) -> list[float]:  # fmt: skip
    """Test accuracy of networks of several depths, each at the rate with the best training accuracy.

    Args:
        data: examples of ten classes.
        width: units of each hidden layer.
        depths: hidden layers of each network.
        activation, init: registered names.
        rates: learning rates of SGD with momentum.
        steps: updates of 64 examples.
        seed: of weights and batches.
    """
    best = []
    for depth in depths:
        tried = []
        for rate in rates:
            model = network((data.x[0].numel(), *[width] * depth, 10), activation, seed=seed, init=init)
            optimiser = make_optimiser("momentum", model.parameters(), lr=rate, foreach=True)
            fit(model, data.x, data.y, optimiser, steps=steps, batch_size=64, seed=seed)
            tried.append((accuracy(model, data.x, data.y), accuracy(model, data.x_test, data.y_test)))
        best.append(max(tried)[1])
    return best


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of the examples whose class has the largest output, in evaluation."""
    was, right = model.training, 0
    model.eval()
    for inputs, targets in zip(x.split(2_000), y.split(2_000), strict=True):
        right += int((model(inputs).argmax(1) == targets).sum())
    model.train(was)
    return right / len(y)
