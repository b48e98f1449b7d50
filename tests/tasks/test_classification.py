"""What a classifier's scores and heat maps are, by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, r2_score
from torch import Tensor, nn

from rlab.data.catalog import DATASETS, DataSource
from rlab.data.readers import Arrays
from rlab.errors import RlabError
from rlab.nn.heads.classify import ClassifyHead
from rlab.nn.models import Classifier
from rlab.run.contract import Stop, Stopped
from rlab.stats import wilson
from rlab.tasks.classification import classification_metrics, regression_metrics
from rlab.tasks.pictures import class_activation
from rlab.tasks.targets import balanced_weights, weighted_cross_entropy
from tests.tasks.test_trainer import of_recipe

NAMES = ("a", "b", "c")


def drawn(fit: Any) -> dict[str, bytes]:
    fit.task.modules.eval()
    pictures: dict[str, bytes] = fit.task.draw(Stop())
    return pictures


def test_wilson_by_hand() -> None:
    """n = 10, 8 hits, z = 1.96: (0.8 + 0.19208) / 1.38416 +- 1.96 sqrt(0.016 + 0.009604) / 1.38416."""
    low, high = wilson(8, 10, 1.96)
    middle, half = (0.8 + 3.8416 / 20) / 1.38416, 1.96 * math.sqrt(0.016 + 3.8416 / 400) / 1.38416
    assert (low, high) == pytest.approx((middle - half, middle + half))
    assert wilson(0, 5)[0] == pytest.approx(0, abs=1e-12)
    assert wilson(5, 5)[1] == pytest.approx(1, abs=1e-12)


def test_scores_of_classes_by_hand() -> None:
    p = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.3, 0.6, 0.1], [0.05, 0.05, 0.9]])
    score = classification_metrics(p.log(), torch.tensor([0, 1, 0, 2]), NAMES)
    assert score["mean"] == 75
    assert score["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert score["per_class"] == {"a": 50, "b": 100, "c": 100}
    assert score["loss"] == pytest.approx(-math.log(0.7 * 0.6 * 0.3 * 0.9) / 4)
    # bins of confidence: 0.7 (right), 0.6 twice (one right), 0.9 (right)
    assert score["calibration_error"] == pytest.approx(100 * (0.3 + abs(1.2 - 1) + 0.1) / 4)


def test_the_confusion_matrix_is_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(200, 3, generator=generator), torch.randint(3, (200,), generator=generator)
    expected = confusion_matrix(labels.numpy(), logits.argmax(1).numpy())
    assert classification_metrics(logits, labels, NAMES)["confusion"] == expected.tolist()


def test_explained_is_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randn(50, generator=generator)
    said = labels + 0.5 * torch.randn(50, generator=generator)
    score = regression_metrics(said, labels)
    assert score["mean"] == pytest.approx(r2_score(labels.numpy(), said.numpy()), abs=1e-6)
    assert score["low"] < score["mean"] < score["high"]


def own_task(x: np.ndarray, kind: str) -> Any:
    y = np.arange(len(x)) % 2
    DATASETS.register("own")(DataSource(kind, "own", "none", "none", lambda read: Arrays(x, y, ("a", "b"))))
    try:
        return of_recipe("logistic", "own", epochs=1).task
    finally:
        del DATASETS._entries["own"]


BYTES = np.random.default_rng(0).integers(0, 256, (30, 1, 3, 3), np.uint8)


def test_prediction_takes_what_training_took() -> None:
    task: Any = of_recipe("lenet", "digits", epochs=1).task
    task.model.eval()
    x = task.dataset.x[:5].numpy()
    p = task.predict(x)
    assert p.shape == (5, 10)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(task.predict(x.astype(np.float64)), p)
    bytes_, table = own_task(BYTES, "images"), own_task(BYTES.reshape(30, 9).astype(np.float32), "table")
    np.testing.assert_array_equal(bytes_.predict(BYTES.astype(np.int64)), bytes_.predict(BYTES))
    np.testing.assert_array_equal(table.predict(BYTES.reshape(30, 9)), table.predict(BYTES.reshape(30, 9) * 1.0))


@pytest.mark.parametrize(
    ("kind", "trained", "given", "said"),
    [
        ("images", BYTES, BYTES[:, 0], r"takes inputs of shape \[1, 3, 3\], not \[3, 3\]"),
        ("images", BYTES, np.float32(0.5), r"takes inputs of shape \[1, 3, 3\]"),
        ("images", BYTES, BYTES / 255, r"trained on bytes, .* float64 from 0 to 1; nearest: \(255 \* x\)"),
        ("images", BYTES, BYTES * 1.0, "trained on bytes, .* float64 from "),
        ("images", BYTES, BYTES.astype(int) * 2, "trained on bytes, .* int64 from .* to 510"),
        ("images", BYTES / 255, BYTES, "trained on images of floats in 0..1; these are uint8 from .* to 255"),
        ("images", BYTES / 255, BYTES / 127.5 - 1, "trained on images of floats in 0..1; these are float64 from -"),
        ("images", BYTES / 255, BYTES * np.nan, "takes finite numbers"),
        ("table", np.eye(30), np.full((1, 30), np.inf), "takes finite numbers"),
        ("table", np.eye(30), np.full((1, 30), "a"), "takes numbers, not <U1"),
        ("table", np.eye(30), np.zeros((1, 30), complex), "takes numbers, not complex128"),
    ],
)
def test_prediction_of_other_inputs_is_refused(kind: str, trained: np.ndarray, given: Any, said: str) -> None:
    with pytest.raises(RlabError, match=said):
        own_task(trained, kind).predict(np.asarray(given))


def test_balanced_class_weights_by_hand() -> None:
    """8 labels of 3 classes that occur: 5, 2 and 1 of them weigh 8/15, 8/6 and 8/3."""
    weights = balanced_weights(torch.tensor([0, 0, 0, 0, 0, 2, 2, 3]), 4)
    assert weights.tolist() == pytest.approx([8 / 15, 0, 8 / 6, 8 / 3])
    logits = torch.tensor([[1.0, 0, 0, 0], [0, 0, 2.0, 0]])
    first, second = -math.log(math.e / (math.e + 3)), -math.log(1 / (math.e**2 + 3))
    loss = weighted_cross_entropy(logits, torch.tensor([0, 3]), weights)
    assert loss.item() == pytest.approx((8 / 15 * first + 8 / 3 * second) / 2)
    shares = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1.0]])  # as mixup makes them
    torch.testing.assert_close(weighted_cross_entropy(logits, shares, weights), loss)


def test_rare_class_gains_by_class_weights() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(600) < 0.1).astype(np.int64)
    x = (rng.normal(size=(600, 1)) + 1.2 * y[:, None]).astype(np.float32)
    DATASETS.register("rare")(DataSource("table", "own", "none", "none", lambda read: Arrays(x, y, ("often", "rare"))))
    found = {}
    try:
        for class_weights in ("none", "balanced"):
            fit = of_recipe("logistic", "rare", epochs=5, class_weights=class_weights, validation=0.0)
            while not fit.progress().finished:
                fit.step()
            found[class_weights] = fit.evaluate(Stop())["per_class"]["rare"]
    finally:
        del DATASETS._entries["rare"]
    assert found["balanced"] > found["none"] + 30
    with pytest.raises(RlabError, match="--class-weights is balanced, and what is learned of 'diabetes' is numbers"):
        of_recipe("logistic", "diabetes", class_weights="balanced")


def test_numbers_keep_their_scale() -> None:
    fit = of_recipe("logistic", "diabetes", epochs=60)
    for _ in range(60 * fit.per_epoch):
        fit.step()
    with torch.no_grad():
        fit.task.model.eval()
        score = fit.task.evaluate("test", Stop())
    said: Any = fit.task
    labels = said.dataset.targets("test").numpy()
    assert 0.2 < score["mean"] < 0.7, "what linear regression reaches on this set"
    assert abs(said.predict(said.dataset.x[said.dataset.items("test")].numpy()).mean() - labels.mean()) < 30


def test_an_evaluation_can_be_stopped() -> None:
    stop = Stop()
    stop.request("test")
    with pytest.raises(Stopped):
        of_recipe("logistic", "iris").task.evaluate("test", stop)


class Maps(nn.Module):
    """Two maps: where the image is bright, and where it is dark."""

    def __init__(self) -> None:
        super().__init__()
        self.out_dim = 2

    def feature_maps(self, x: Tensor) -> Tensor:
        return torch.cat([x, 1 - x], 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.feature_maps(x).mean((2, 3))


def test_heat_map_equals_cam() -> None:
    """Zhou et al. 2016: sum over maps of the class's weight times the map, here in 0..1 and nothing below 0."""
    model = Classifier(Maps(), ClassifyHead(2, 2))
    with torch.no_grad():
        model.head.logits.weight.copy_(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))  # type: ignore[union-attr,operator]
    image = torch.tensor([[[[1.0, 0.2], [0.4, 0.9]]]]).repeat(2, 1, 1, 1)
    heat = class_activation(model, image, torch.tensor([0, 1]))
    bright = (2 * image[0, 0] - 1).clamp(min=0)
    dark = (1 - 2 * image[0, 0]).clamp(min=0)
    torch.testing.assert_close(heat, torch.stack([bright / bright.max(), dark / dark.max()]))


def test_pictures_by_kind_of_data() -> None:
    images = drawn(of_recipe("lenet", "digits"))
    assert set(images) == {"confusion", "wrong", "looked"}
    assert all(content.startswith(b"\x89PNG") for content in images.values())
    assert set(drawn(of_recipe("mlp", "iris"))) == {"confusion"}
    assert drawn(of_recipe("mlp", "diabetes")) == {}


@pytest.mark.parametrize("recipe", ["lenet", "resnet20", "mlp", "logistic"])
def test_models_learn_digits(recipe: str) -> None:
    """Item 003: inputs and right answers make a model that answers new inputs rightly."""
    fit = of_recipe(recipe, "digits", epochs=2 if recipe == "resnet20" else 6, validation=0.0)
    while not fit.progress().finished:
        fit.step()
    assert fit.evaluate(Stop())["mean"] > 80
