"""rlab, a deep reinforcement learning lab: the verbs of the command line, in Python.

    run = rlab.train("dqn", env="CartPole-v1", steps=20_000)
    with run.load() as player:
        action = player.predict(observation)
    rlab.evaluate(run, episodes=30)["mean"]
    run = rlab.resume(run, steps=40_000)
    with rlab.load(rlab.train("lenet", data="mnist")) as model:
        probabilities = model.predict(images)

Importing this package loads neither torch nor anything else that is heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

PACKAGES = ("agents", "compare", "data", "envs", "nn", "stats", "studies", "tasks")
"""Parts that are imported when first asked for, so that ``rlab.compare.compare_runs`` needs `import rlab` alone."""

if TYPE_CHECKING:
    from rlab.api import (
        Player,
        Predictor,
        Run,
        draw,
        evaluate,
        evaluate_together,
        load,
        resume,
        sample,
        train,
        translate,
    )
    from rlab.run.callbacks import StopTraining

    __version__: str

__all__ = [
    "Player",
    "Predictor",
    "Run",
    "StopTraining",
    "__version__",
    "draw",
    "evaluate",
    "evaluate_together",
    "load",
    "resume",
    "sample",
    "train",
    "translate",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("rlab-rl")
    if name in PACKAGES:
        return import_module(f"rlab.{name}")
    if name == "StopTraining":
        from rlab.run.callbacks import StopTraining

        return StopTraining
    if name in __all__:
        from rlab import api

        return getattr(api, name)
    raise AttributeError(f"module 'rlab' has no attribute '{name}'")
