"""Supervised training: whether data ever keep a model waiting, and how fast an epoch is beside PyTorch's tutorial.

The tutorial loop is the one that PyTorch's documentation teaches: a data set that hands out one image at a time as a
picture made into a tensor, a `DataLoader` around it, float32, and the five lines of an update. Both train LeNet-5 with
the same batch size, in turn, in this process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from rlab.errors import RlabError

AUGMENTATIONS = ("", "crop:2", "hflip,crop:2", "rotate:15", "elastic")
"""Of images whose cost beside the model is measured."""

WARM_UP = 5
"""Updates that are not timed."""

WORKERS = (0, 2)
"""Of the tutorial's `DataLoader`: its own default, and processes."""


def measure(
    data: str, batch_size: int, updates: int, rounds: int, threads: int, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Time training.

    Args:
        data: images with classes.
        batch_size: of both.
        updates: of one measurement.
        rounds: measurements of each, in turn; medians count.
        threads: of torch, of both.
        progress: told what is being measured.

    Returns:
        JSON: ``shares`` (augmentation, and the share of the time that is spent in the model), ``rows`` (one for each
        way of the tutorial: ours_epochs_per_s, peer_epochs_per_s, ratio), and the first row's numbers on top.

    Raises:
        RlabError: the data set is not there, or has no images with classes.
    """
    from rlab.data.datasets import load
    from rlab.run.lifecycle import prepare_process
    from rlab.run.provenance import git_state, processor, versions

    prepare_process(threads)
    dataset = load(data, 0, 0.0)
    if dataset.kind != "images":
        raise RlabError(f"data set '{data}' is of kind {dataset.kind}; this benchmark is of images: mnist, digits")
    images = len(dataset.items("train"))
    shares = []
    for augment in AUGMENTATIONS:
        progress(f"share of the data: {augment or 'no augmentation'}")
        timings = [_ours(data, batch_size, updates, augment) for _ in range(rounds)]
        share = statistics.median(learn / (learn + waited) for waited, learn, _ in timings)
        shares.append({"augment": augment, "model_share": round(share, 4)})
    rows = []
    for pictures, workers in ((True, WORKERS[0]), (True, WORKERS[1]), (False, WORKERS[0])):
        name = f"{'pictures' if pictures else 'tensors'}, {workers} workers"
        progress(f"beside the tutorial: {name}")
        pairs = []
        for _ in range(rounds):
            peer = _tutorial(dataset, batch_size, updates, workers, pictures)
            pairs.append((_ours(data, batch_size, updates, "")[2], peer))
        per_epoch = -(-images // batch_size)
        rows.append(
            {
                "tutorial": name,
                "ours_epochs_per_s": round(statistics.median(o for o, _ in pairs) / per_epoch, 4),
                "peer_epochs_per_s": round(statistics.median(p for _, p in pairs) / per_epoch, 4),
                "ratio": round(statistics.median(o / p for o, p in pairs), 2),
                "ratios": [round(o / p, 2) for o, p in pairs],
            }
        )
    where = {"processor": processor(), "threads": _threads(), "versions": versions(), "git": git_state()}
    plan = {"data": data, "batch_size": batch_size, "updates": updates, "rounds": rounds, "machine": where}
    return {key: rows[0][key] for key in ("ours_epochs_per_s", "peer_epochs_per_s", "ratio")} | {
        "rows": rows,
        "shares": shares,
        **plan,
    }


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _ours(data: str, batch_size: int, updates: int, augment: str) -> tuple[float, float, float]:
    """(seconds for data, seconds for learning, updates a second) of `rlab train lenet`, its precision and all."""
    from rlab.studies.rl import learner

    epochs = 10**6 // batch_size + 1
    how = {"batch_size": batch_size, "validation": 0.0, "epochs": epochs, "augment": augment}
    with learner("lenet", data, 0, **how) as fit:
        for _ in range(WARM_UP):
            fit.step()
        metrics = []
        started = time.perf_counter()
        for _ in range(updates):
            metrics.append(fit.step())
        took = time.perf_counter() - started
    return sum(t["clock_data"] for t in metrics), sum(t["clock_learn"] for t in metrics), updates / took


def _tutorial(data: Any, batch_size: int, updates: int, workers: int, pictures: bool) -> float:
    """Updates a second of the plain loop."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader

    model = plain_lenet(data.shape, len(data.classes))
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    items = OneByOne(data, pictures)
    loader: DataLoader[Any] = DataLoader(items, batch_size=batch_size, shuffle=True, num_workers=workers)  # type: ignore[arg-type]

    def forever() -> Iterator[Any]:
        while True:
            yield from loader

    batches = forever()
    model.train()
    started = 0.0
    for number in range(WARM_UP + updates):
        if number == WARM_UP:
            started = time.perf_counter()
        x, y = next(batches)
        loss = loss_function(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    took = time.perf_counter() - started
    batches.close()  # type: ignore[attr-defined]
    return updates / took


class OneByOne:
    """A data set as PyTorch's tutorial has it: an image, made into a tensor of floats, and its class, one at a time.

    Args:
        data: the images.
        pictures: as torchvision does it, by way of a PIL picture; else from a tensor of bytes.
    """

    def __init__(self, data: Any, pictures: bool):
        items = data.items("train")
        self.images, self.labels, self.pictures = data.x[items], data.y[items], pictures

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        import numpy as np
        import torch
        from PIL import Image

        image, label = self.images[i], int(self.labels[i])
        if not self.pictures or image.is_floating_point():
            return image.float() / (1 if image.is_floating_point() else 255), label
        one = Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy())
        array = np.array(one, copy=True)
        tensor = torch.from_numpy(array).view(one.size[1], one.size[0], -1).permute(2, 0, 1).contiguous()
        return tensor.float().div(255), label


def plain_lenet(shape: tuple[int, ...], classes: int) -> Any:
    """LeNet-5 as one writes it down, with the layers of ours."""
    from torch import nn

    from rlab.nn.models import classifier

    ours: Any = classifier("lenet5", shape, classes)
    first, pool1, relu1, second, pool2, relu2 = ours.encoder.convolutions
    pools = [nn.MaxPool2d(2) if isinstance(pool, nn.MaxPool2d) else pool for pool in (pool1, pool2)]
    maps = [first, relu1, pools[0], second, relu2, pools[1]]  # rectified before the pooling, as it is taught
    return nn.Sequential(*maps, *ours.encoder.dense, nn.Linear(ours.encoder.out_dim, classes))
