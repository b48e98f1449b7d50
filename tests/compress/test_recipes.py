"""Every kind of run can be made smaller and opened again, or is refused in one sentence."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

import rlab
from rlab.compress.compress import Compression, compress, is_weight, network_in, policy_state
from rlab.data.catalog import DATASETS
from rlab.errors import RlabError
from rlab.recipes import load_recipes
from rlab.registry import RECIPES, Recipe
from rlab.run.checkpoint import Checkpoints
from rlab.run.config import changed, to_plain
from rlab.run.folder import RunFolder, all_runs, create_run
from rlab.run.journal import Journal
from rlab.run.lifecycle import BuildContext, find_checkpoint
from tests.agents.helpers import SELF_PLAY, known

load_recipes()

TINY = {"examples": 64, "width": 16, "layers": 1, "members": 3, "memory_size": 600, "threads": 1}

ENVIRONMENTS = {"discrete": "CartPole-v1", "continuous": "Pendulum-v1", "table": "FrozenLake-v1", "go": "Go5"}

WITHOUT_LAYERS = {"ensembles of trees", "tables and planning", "word2vec"}
"""Families, and recipes of others, that have no network of layers."""


LEFT_OUT = ("fast-rcnn", "rcnn", "fcn", "go-search")
"""Those that look for regions in all images before they begin, a second segmenter, and a search made of other runs."""


def subject_of(entry: Recipe[Any]) -> str | None:
    """What a recipe can learn from without any file; None: nothing."""
    if "env" in entry.subject:
        return ENVIRONMENTS[entry.plays[0]]
    sets = ((name, DATASETS.get(name)) for name in DATASETS if ":" not in name)
    return next((name for kind in entry.takes for name, of in sets if of.kind == kind and of.embedded), None)


def cases() -> list[str]:
    """One recipe of each way to build a learner, but for those that learn from another run."""
    found: dict[tuple[str, str], str] = {}
    for name in sorted(RECIPES, key=lambda name: (name not in ("lenet", "dqn"), name)):
        entry = RECIPES.get(name)
        if (
            name not in LEFT_OUT
            and entry.family not in ("others", "imitation", "policies from trajectories")
            and subject_of(entry) is not None
        ):
            build: Any = entry.build
            found.setdefault((entry.family, str((getattr(build, "func", build), getattr(build, "args", ())))), name)
    return sorted(found.values())


def fresh_run(recipe: str) -> RunFolder:
    """A run before its first update."""
    entry = RECIPES.get(recipe)
    config = entry.default(subject_of(entry) or "")
    config = changed(config, known(config, TINY | (SELF_PLAY if "go" in entry.plays else {})))

    def fill(folder: RunFolder) -> None:
        with (
            closing(Journal(folder.journal)) as journal,
            closing(entry.build(config, BuildContext("cpu", journal))) as learner,
        ):
            Checkpoints(folder.checkpoints, journal).save(learner.state(), {}, 0)

    return create_run(recipe, entry.subjects(config), to_plain(config), recipe, entry.unit, fill)


@pytest.mark.parametrize("recipe", cases())
def test_every_recipe_is_made_smaller_or_refused(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    run = fresh_run(recipe)
    if {recipe, RECIPES.get(recipe).family} & WITHOUT_LAYERS:
        for how in (Compression(bits=8), Compression("prune", share=0.5)):
            with pytest.raises(RlabError, match="which has no network of layers to be made smaller"):
                compress(run, how)
        assert all_runs() == [run]
        return
    before = network_in(policy_state(find_checkpoint(run, None).state), run)[1]
    for how in (Compression(bits=8), Compression("prune", share=0.5)):
        made = compress(run, how)
        with rlab.load(made.folder, "cpu") as loaded:
            after = network_in(policy_state(loaded.learner.state()), run)[1]
        for name, weight in before.items():
            if not is_weight(name, weight):
                assert torch.equal(after[name], weight)
            elif how.method == "prune":
                assert ((after[name] == weight) | (after[name] == 0)).all()
            else:
                assert (after[name] - weight).abs().max() <= weight.abs().max() / 127
        if how.method == "prune":
            assert made.zeros >= 0.5 - 1e-6
