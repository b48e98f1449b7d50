"""Random forests and AdaBoost as runs: scikit-learn grows the trees, a few with each step.

A state holds seed, number of members and settings, and nothing that would have to be unpickled: restoring grows the
same members again.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import AdaBoostClassifier, AdaBoostRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from torch import Tensor

from rlab.data.datasets import TensorDataset, model_inputs
from rlab.errors import RlabError
from rlab.run.budget import Budget
from rlab.run.contract import Footprint, Metrics, Progress, Score, State, Stop, Stopped
from rlab.tasks.classification import classification_metrics, regression_metrics
from rlab.tasks.config import TreesConfig
from rlab.tasks.targets import refuse_constant

CHUNK = 4096
"""Examples that are looked at together."""

NODE = 64
"""Bytes of a tree's node, beside 8 for each class."""


def forest(config: TreesConfig, seed: int, classes: bool) -> Any:
    """Make a random forest (Breiman 2001) without members."""
    kind = RandomForestClassifier if classes else RandomForestRegressor
    return kind(max_depth=config.depth or None, random_state=seed, warm_start=True)


def adaboost(config: TreesConfig, seed: int, classes: bool) -> Any:
    """Make an AdaBoost ensemble (SAMME of Zhu et al. 2009; R2 of Drucker 1997) without members."""
    if classes:
        return AdaBoostClassifier(DecisionTreeClassifier(max_depth=config.depth or 1), random_state=seed)
    return AdaBoostRegressor(DecisionTreeRegressor(max_depth=config.depth or 3), random_state=seed)


METHODS = {"forest": forest, "adaboost": adaboost}


class TreesTask:
    """Trees on a data set, with images flattened: growing, predicting and scoring.

    Args:
        data: the examples.
        config: which method, and how.
        seed: of the members.
    """

    def __init__(self, data: TensorDataset, config: TreesConfig, seed: int):
        if data.kind not in ("images", "table") or data.y.dim() != 1:
            raise RlabError(
                f"trees take images or tables with one label each, and '{data.name}' is of kind {data.kind}"
            )
        for split in data.splits if data.classes is None else ():
            if split != "train":
                refuse_constant(data.targets(split), f"'{data.name}': the split '{split}'")
        self.dataset = data
        self.classes = data.classes
        self.config = config
        self.seed = seed
        self.x = data.inputs("train").flatten(1).numpy()
        self.y = data.targets("train").numpy()
        self.model: Any = None

    def grow(self, members: int, model: Any = None) -> Any:
        """Grow an ensemble to that many members, or to where it ends by itself; a forest goes on from `model`.

        Raises:
            RlabError: the very first member of AdaBoost is no better than chance.
        """
        if model is None or not getattr(model, "warm_start", False):
            model = METHODS[self.config.method](self.config, self.seed, self.classes is not None)
        model.set_params(n_estimators=members)
        try:
            return model.fit(self.x, self.y)
        except ValueError as e:
            raise RlabError(
                f"{self.config.method} cannot learn '{self.dataset.name}': {e}; nearest: --depth 3"
            ) from None

    def outputs_for(self, x: np.ndarray) -> Tensor:
        """Compute the outputs for x float32[B, D]: log probabilities[B, K], or numbers[B, 1]."""
        if self.classes is None:
            return torch.from_numpy(self.model.predict(x)).float()[:, None]
        p = torch.zeros(len(x), len(self.classes))  # a class that no example has is in no member
        p[:, self.model.classes_] = torch.from_numpy(self.model.predict_proba(x)).float()
        return p.clamp(min=torch.finfo(p.dtype).eps).log()

    def outputs(self, split: str, stop: Stop) -> tuple[Tensor, Tensor]:
        """Compute outputs and targets of a split: log probabilities[n, K] and int64[n], or numbers[n, 1].

        Raises:
            Stopped: a stop was requested.
        """
        parts = []
        for x in self.dataset.inputs(split).flatten(1).split(CHUNK):
            if stop.requested:
                raise Stopped
            parts.append(self.outputs_for(x.numpy()))
        labels = self.dataset.targets(split)
        return torch.cat(parts), labels if self.classes is not None else labels[:, None]

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predict from x[B, *shape] as in the data set (`model_inputs`): probabilities[B, K], or numbers [B].

        Raises:
            RlabError: inputs of another shape, type or range.
        """
        outputs = self.outputs_for(model_inputs(x, self.dataset).flatten(1).numpy())
        return outputs[:, 0].numpy() if self.classes is None else outputs.softmax(1).numpy()

    def evaluate(self, split: str, stop: Stop) -> dict[str, Any]:
        """Score a split as `Classification` does.

        Raises:
            Stopped: a stop was requested.
        """
        outputs, true = self.outputs(split, stop)
        if self.classes is None:
            metrics = regression_metrics(outputs, true)
        else:
            metrics = classification_metrics(outputs, true, self.classes)
        return {"split": split, "examples": len(true), **metrics}

    def draw(self, stop: Stop) -> dict[str, bytes]:
        """Draw confusions and, of images, misclassified test examples, as PNG by name; nothing for numbers.

        Raises:
            Stopped: a stop was requested.
        """
        from rlab.tasks.pictures import confusion, misclassified

        if self.classes is None:
            return {}
        logits, labels = self.outputs("test", stop)
        pictures = {"confusion": confusion(logits, labels, self.classes)}
        if len(self.dataset.shape) == 3:
            pictures["wrong"] = misclassified(self.dataset.inputs("test"), logits, labels, self.classes)
        return pictures


class TreesLearner:
    """The Learner that grows an ensemble of trees; progress counts members.

    A forest gets a few more with each step. AdaBoost cannot go on with what it has in scikit-learn, so that each step
    grows it anew with twice as many members; whole, it has cost about twice what growing it once does.

    Args:
        task: what the trees say, and of what.
        at_once: members of a forest's step.
    """

    def __init__(self, task: TreesTask, at_once: int = 1):
        self.task = task
        self.at_once = at_once
        self.count = 0
        self.budget = Budget()
        self.held_out = "validation" in task.dataset.splits

    @property
    def ended(self) -> bool:
        """Whether no member can be added: AdaBoost stops when one is perfect, or no better than chance."""
        return self.count > 0 and len(self.task.model.estimators_) < self.count

    def step(self) -> Metrics:
        """Grow more members; the metrics describe the new ones."""
        started = time.perf_counter()
        before, wanted = self.count, self.budget.end(self.task.config.members)
        more = self.at_once if self.task.config.method == "forest" else max(1, self.count)
        self._grow(min(before + more, wanted))
        new = self.task.model.estimators_[before:] or self.task.model.estimators_[-1:]
        metrics = {
            "depth": float(np.mean([tree.get_depth() for tree in new])),
            "leaves": float(np.mean([tree.get_n_leaves() for tree in new])),
        }
        return metrics | {"clock_learn": time.perf_counter() - started}

    def _grow(self, members: int) -> None:
        if members != self.count:
            more = members > self.count
            self.task.model = self.task.grow(members, self.task.model if more else None) if members else None
            self.count = members

    def evaluate(self, stop: Stop) -> Score:
        """Score on the validation split (without one, the training split), at the end on the test split.

        Raises:
            Stopped: a stop was requested.
        """
        on_the_way = "validation" if self.held_out else "train"
        return self.task.evaluate("test" if self.progress().finished else on_the_way, stop)

    def evaluate_split(self, split: str, stop: Stop) -> Score:
        """Score a split with the members that there are.

        Raises:
            Stopped: a stop was requested.
        """
        return self.task.evaluate(split, stop)

    def progress(self) -> Progress:
        """Return the members grown and wanted."""
        if self.ended:
            return Progress(len(self.task.model.estimators_), len(self.task.model.estimators_), "members")
        return Progress(self.count, self.budget.end(self.task.config.members), "members")

    def footprint(self, stop: Stop) -> Footprint:
        """Estimate memory and time from one member that is thrown away."""
        started = time.perf_counter()
        one = self.task.grow(1).estimators_[0].tree_
        seconds = time.perf_counter() - started
        nodes = 2 * one.node_count * self.task.config.members
        memory = self.task.x.nbytes * 3 + nodes * (NODE + 8 * len(self.task.classes or "1"))
        anew = 1 if self.task.config.method == "forest" else 2
        return Footprint(memory, 0, 20_000, seconds * self.task.config.members * anew)

    def state(self) -> State:
        """Return the settings from which the same members grow again."""
        return {"seed": self.task.seed, "members": self.count, "method": self.task.config.method,
                "depth": self.task.config.depth}  # fmt: skip

    def restore(self, state: State, stop: Stop) -> None:
        """Grow the members of `state` again.

        Raises:
            RlabError: it is of other settings.
        """
        if stop.requested:
            raise Stopped
        now = self.state()
        for name in ("seed", "method", "depth"):
            if state[name] != now[name]:
                raise RlabError(f"a state of {name} {state[name]} cannot be restored with {name} {now[name]}")
        self._grow(state["members"])

    def restore_policy(self, state: State) -> None:
        """The same: there is nothing that only learning needs."""
        self.restore(state, Stop())

    def close(self) -> None:
        """Nothing is held open."""
