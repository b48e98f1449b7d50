"""Models on the larger real data sets; needs the folder that RLAB_DATA names."""

from __future__ import annotations

import pytest

from rlab.run.contract import Stop
from tests.tasks.test_trainer import of_recipe


@pytest.mark.data
@pytest.mark.parametrize(("data", "bar"), [("mnist", 94.0), ("fashion_mnist", 75.0)])
def test_lenet_learns_few_images(data: str, bar: float) -> None:
    """Far below what it reaches on all of them; on MNIST above what a linear model of so few images does, about 90."""
    fit = of_recipe("lenet", data, examples=6_000, epochs=6)
    while not fit.progress().finished:
        fit.step()
    score = fit.evaluate(Stop())
    assert score["examples"] == 10_000
    assert score["mean"] > bar
