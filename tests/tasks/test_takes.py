"""Models take the kinds of data that they say, and refuse all others in one sentence."""

from __future__ import annotations

import pytest

from rlab.data.catalog import DATASETS
from rlab.errors import RlabError
from rlab.recipes import load_recipes
from tests.tasks.test_trainer import of_recipe

SETS = ("digits", "iris", "digit-scenes", "delayed-recall", "anbn", "rule-pairs", "shakespeare-small", "rule-dialogues",
        "tones")  # fmt: skip
"""One of every kind that the package brings."""

LARGE = ("net", "vgg", "plain", "googlenet", "densenet", "mobilenet", "nature")
"""Networks of many layers, which are built as lenet is."""

RECIPES = [
    name
    for name in load_recipes()
    if load_recipes().get(name).takes and (name.startswith("lenet") or not any(part in name for part in LARGE))
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_takes_the_kinds_that_it_says(recipe: str) -> None:
    takes = load_recipes().get(recipe).takes
    for name in SETS:
        if DATASETS.get(name).kind in takes:
            of_recipe(recipe, name).close()
        else:
            with pytest.raises(RlabError) as refused:
                of_recipe(recipe, name)
            assert "\n" not in str(refused.value)
