"""Claims of the literature, each put to an experiment: one short file a study, found by being in a chapter below.

A study's file says the claim and its source, measures numbers (one call a variant and seed), names the contrasts of
these numbers that the claim comes to, and draws a figure. Everything else, the verdict first of all, is the
framework's: `rlab.studies.study` judges, `rlab.studies.runner` keeps the numbers on disk. Chapters are folders, in
the order of the texts; what several studies need lies beside them (`supervised`, `images`, `descent`, `rl`, `plots`).
"""

from __future__ import annotations

import importlib
import pkgutil

from rlab.registry import Registry
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

__all__ = ["STUDIES", "Contrast", "Numbers", "Results", "Study", "load_studies"]


def load_studies() -> Registry[Study]:
    """Import every file of every chapter, so that its studies are registered; none of them imports torch by itself."""
    for chapter in pkgutil.iter_modules(__path__, f"{__name__}."):
        if chapter.ispkg:
            for file in pkgutil.iter_modules(importlib.import_module(chapter.name).__path__, f"{chapter.name}."):
                importlib.import_module(file.name)
    return STUDIES
