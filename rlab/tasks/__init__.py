"""A task is what a trainer trains on data; this package has the contract and the tasks that the lab brings.

    from rlab.tasks import Batches, FitConfig, Metric, SingleLossTask, Trainer

All that a task of one's own is made of can be imported from here; importing this package loads nothing that is heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlab.data.batches import Batch, Batches, DataModule, Dataset
    from rlab.data.catalog import DATASETS, DataSource
    from rlab.data.datasets import TensorDataset, load
    from rlab.data.readers import Arrays
    from rlab.data.splits import split_items
    from rlab.tasks.config import ExamplesConfig, FitConfig
    from rlab.tasks.pictures import png
    from rlab.tasks.task import Losses, Metric, SingleLossTask, Task, until
    from rlab.tasks.trainer import Trainer

_HOME = {
    "rlab.data.batches": ("Batch", "Batches", "DataModule", "Dataset"),
    "rlab.data.datasets": ("TensorDataset", "load"),
    "rlab.data.splits": ("split_items",),
    "rlab.data.readers": ("Arrays",),
    "rlab.data.catalog": ("DATASETS", "DataSource"),
    "rlab.tasks.config": ("ExamplesConfig", "FitConfig"),
    "rlab.tasks.pictures": ("png",),
    "rlab.tasks.task": ("Losses", "Metric", "SingleLossTask", "Task", "until"),
    "rlab.tasks.trainer": ("Trainer",),
}

__all__ = [
    "DATASETS",
    "Arrays",
    "Batch",
    "Batches",
    "DataModule",
    "DataSource",
    "Dataset",
    "ExamplesConfig",
    "FitConfig",
    "Losses",
    "Metric",
    "SingleLossTask",
    "Task",
    "TensorDataset",
    "Trainer",
    "load",
    "png",
    "split_items",
    "until",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'rlab.tasks' has no attribute '{name}'")
