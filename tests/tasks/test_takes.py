"""Models take the data that they say, and refuse all others in one sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlab.cli.listing import fits, models
from rlab.data.annotations import AnnotatedImages
from rlab.data.catalog import DATASETS, DataSource
from rlab.data.datasets import load
from rlab.errors import RlabError
from tests.tasks.test_trainer import of_recipe

BOXES, MASKS = "boxes-alone", "boxes-and-masks"
"""Images of 32x32 with an object each."""

SETS = ("digits", "iris", BOXES, MASKS, "delayed-recall", "anbn", "rule-pairs", "shakespeare-small",
        "rule-dialogues", "tones")  # fmt: skip
"""One of every kind that the package brings, but such images."""

LARGE = ("resnet", "vgg", "plain", "googlenet", "densenet", "alexnet", "mobilenet")
"""Networks of many layers, which are built as lenet is."""

MODELS = {row["name"]: row for row in models() if row["takes"] and not row["name"].startswith(LARGE)}


@pytest.fixture(autouse=True)
def _objects(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, labels = [np.array([[2, 2, 12, 12]], np.float32)] * 40, [np.zeros(1, np.int64)] * 40
    scenes = AnnotatedImages(np.zeros((40, 3, 32, 32), np.uint8), boxes, labels, ("a",))
    masks = np.zeros((40, 32, 32), np.int16)
    masks[:, 2:12, 2:12] = 1
    for name, made, masked in ((BOXES, scenes, False), (MASKS, replace(scenes, masks=masks), True)):
        source = DataSource("detection", name, "ours", "https://none", lambda read, made=made: made,
                            shape=(3, 32, 32), masks=masked)  # fmt: skip
        monkeypatch.setitem(DATASETS._entries, name, source)


@pytest.mark.parametrize("recipe", MODELS)
def test_takes_what_it_says(recipe: str) -> None:
    for name in SETS:
        if fits(MODELS[recipe], DATASETS.get(name)):
            of_recipe(recipe, name).close()
        else:
            with pytest.raises(RlabError) as refused:
                of_recipe(recipe, name)
            assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["digits", "digit-scenes", "breakout-objects"])
def test_shapes_are_those_of_what_is_read(name: str) -> None:
    source, data = DATASETS.get(name), load(name)
    assert source.shape == data.shape
    assert source.masks == (getattr(data, "masks", None) is not None)


def test_every_set_of_images_tells_their_shape() -> None:
    for source in (DATASETS.get(name) for name in DATASETS if not name.startswith("test-")):
        assert bool(source.shape) == (source.kind in ("images", "segmentation", "detection")), source.summary


@pytest.mark.data
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "dsb2018", "dsb2018_instances", "bccd"])
def test_shapes_of_real_data(name: str) -> None:
    test_shapes_are_those_of_what_is_read(name)
