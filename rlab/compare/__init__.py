"""Many runs at once, and what they say together: sweeps, hyperparameter search, statistics over seeds.

    from rlab.compare import compare_runs, define, jobs_of, open_or_create, run_sweep

    definition = define(["q-learning", "sarsa"], ["FrozenLake-v1"], seeds=range(5), steps=100_000)
    sweep = open_or_create("sweep", definition, jobs_of(definition), "lake")
    run_sweep(sweep)
    compare_runs(["lake"])["aggregate"]["agents"]

Importing this package loads nothing that is heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlab.compare.comparison import compare_runs
    from rlab.compare.sweep import define, find_sweep, jobs_of, open_or_create, run_sweep
    from rlab.compare.tuning import define_search, tune

_HOME = {
    "compare_runs": "comparison",
    "define": "sweep",
    "define_search": "tuning",
    "find_sweep": "sweep",
    "jobs_of": "sweep",
    "open_or_create": "sweep",
    "run_sweep": "sweep",
    "tune": "tuning",
}

__all__ = [
    "compare_runs",
    "define",
    "define_search",
    "find_sweep",
    "jobs_of",
    "open_or_create",
    "run_sweep",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rlab.compare' has no attribute '{name}'")
    return getattr(import_module(f"rlab.compare.{_HOME[name]}"), name)
