"""A class for every pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlab.data.datasets import TensorDataset
from rlab.errors import RlabError
from rlab.nn.models import segmenter
from rlab.nn.optim import make_optimiser
from rlab.run.contract import Stop, Stopped
from rlab.tasks.config import FitConfig
from rlab.tasks.segmentation import Segmentation, iou_metrics
from rlab.tasks.trainer import Trainer

CLASSES = ("ground", "square")


def squares(n: int = 80, side: int = 24) -> TensorDataset:
    """A dark square anywhere on bright noise, and its mask."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(128, 256, (n, 1, side, side), generator=generator, dtype=torch.uint8)
    y = torch.zeros(n, side, side, dtype=torch.uint8)
    for i in range(n):
        top, left = torch.randint(0, side - 10, (2,), generator=generator).tolist()
        x[i, :, top : top + 10, left : left + 10] //= 4
        y[i, top : top + 10, left : left + 10] = 1
    places = torch.arange(n)
    splits = {"train": places[: n // 2], "validation": places[n // 2 : -20], "test": places[-20:]}
    return TensorDataset("squares", "segmentation", x, y, CLASSES, splits)


def task(encoder: str = "resnet20+group", **how: object) -> Segmentation:
    torch.manual_seed(0)
    data = squares()
    model = segmenter(encoder, data.shape, 2)
    optimizer = make_optimiser("adamw", model.parameters(), lr=3e-3)
    return Segmentation(data, model, optimizer, batch_size=10, **how)  # type: ignore[arg-type]


def test_overlap_by_hand() -> None:
    true = torch.tensor([[[0, 0], [1, 1]]])
    said = torch.tensor([[[0, 1], [1, 1]]])
    found = iou_metrics(said, true, CLASSES)
    assert found["per_class"] == pytest.approx({"ground": 50, "square": 200 / 3})
    assert found["mean"] == pytest.approx((50 + 200 / 3) / 2)
    assert found["accuracy"] == 75
    assert found["low"] == found["high"] == pytest.approx(found["mean"])  # one image, drawn again and again
    absent = iou_metrics(torch.zeros(2, 3, 3), torch.zeros(2, 3, 3), CLASSES)
    assert (absent["mean"], absent["per_class"]) == (100, {"ground": 100})


def test_it_learns_where_the_square_is() -> None:
    """Item 294: a class for each pixel, H x W x classes outputs."""
    one = task(augment="hflip,shift:1")
    settings = FitConfig(epochs=12, batch_size=10)
    fit = Trainer(one, settings, 0, "cpu")
    before = fit.evaluate_split("test", Stop())["mean"]
    while not fit.progress().finished:
        told = fit.step()
    assert told["accuracy"] > 0.8
    score = fit.evaluate(Stop())
    assert score["mean"] > max(75, before)
    assert score["low"] < score["mean"] < score["high"]
    said = one.predict(one.dataset.x[:2].numpy())
    assert said.shape == (2, 2, 24, 24)
    assert said.sum(1) == pytest.approx(np.ones((2, 24, 24)), abs=1e-5)


def test_the_picture_is_drawn() -> None:
    drawn = task().draw(Stop())
    assert list(drawn) == ["masks"]
    assert drawn["masks"].startswith(b"\x89PNG")
    assert len(drawn["masks"]) < 200_000


def test_bf16_says_nearly_the_same() -> None:
    x = squares().inputs("test")
    exact, rounded = (task(bf16=bf16).logits(x).detach() for bf16 in (False, True))
    assert exact.dtype == rounded.dtype == torch.float32
    assert (rounded - exact).abs().max() < 0.1 * exact.std()
    assert not torch.equal(rounded, exact)


def test_what_cannot_be() -> None:
    with pytest.raises(RlabError, match="encoder 'mlp' has no feature maps for a class for every pixel"):
        segmenter("mlp", (1, 24, 24), 2)
    with pytest.raises(RlabError, match="takes inputs of shape"):
        task().predict(np.zeros((1, 1, 8, 8)))
    stop = Stop()
    stop.request("test")
    with pytest.raises(Stopped):
        task().evaluate("test", stop)


def test_resized() -> None:
    data = squares()
    large = data.resized((3, 48, 48))
    assert (large.shape, tuple(large.y.shape), large.x.dtype) == ((3, 48, 48), (80, 48, 48), torch.uint8)
    assert torch.equal(large.x[:, 0], large.x[:, 2])
    assert torch.equal(large.y[:, ::2, ::2], data.y)
    back = large.resized((1, 24, 24))
    assert (back.x.float() - data.x.float()).abs().mean() < 25
    assert data.resized((1, 24, 24)) is data
    half = data.resized((1, 12, 12)).x.float()  # antialiased: noise is averaged
    assert half.std() < data.x.float().std()
    few = data.subsample(5, 0).resized((3, 48, 48))
    for split in data.splits:
        assert torch.equal(few.inputs(split), large.inputs(split)[torch.isin(data.items(split), few.items(split))])
    unused = torch.ones(len(data), dtype=torch.bool)
    unused[torch.cat(list(few.splits.values()))] = False
    assert unused.sum() == len(data.items("train")) - 5
    assert few.x[unused].max() == 0
    with pytest.raises(RlabError, match=r"cannot be of shape \[0, 4, 4\]"):
        data.resized((0, 4, 4))
