"""Score several models as one ensemble: the mean of their outputs for the same examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlab.errors import RlabError
from rlab.tasks.classification import classification_metrics, regression_metrics


@dataclass(frozen=True)
class Member:
    """One model of an ensemble: its outputs for its run's test examples.

    Attributes:
        run: its name.
        data: the data set's.
        classes: their names; None for numbers.
        items: the test examples, int64[n].
        outputs: logits[n, K], or numbers[n, M].
        targets: int64[n], or numbers[n, M].
    """

    run: str
    data: str
    classes: tuple[str, ...] | None
    items: Tensor
    outputs: Tensor
    targets: Tensor


def ensemble_score(members: Sequence[Member]) -> dict[str, Any]:
    """Score the mean of all members' probabilities (or numbers), and each member by itself.

    Returns:
        The metrics of the mean, and split, examples, members (run -> "mean" of its score)
        and members_mean.

    Raises:
        RlabError: two are of different data, classes or test examples; both are named.
    """
    first = members[0]
    for other in members[1:]:
        _refuse_different(first, other)
    score = {"split": "test", "examples": len(first.items)}
    if first.classes is None:
        own = {m.run: regression_metrics(m.outputs, m.targets)["mean"] for m in members}
        score |= regression_metrics(torch.stack([m.outputs for m in members]).mean(0), first.targets)
    else:
        own = {m.run: classification_metrics(m.outputs, m.targets, first.classes)["mean"] for m in members}
        mean = torch.stack([m.outputs.softmax(1) for m in members]).mean(0)
        score |= classification_metrics(mean.log(), first.targets, first.classes)
    return score | {"members": own, "members_mean": sum(own.values()) / len(own)}


def _refuse_different(one: Member, other: Member) -> None:
    both = f"runs '{one.run}' and '{other.run}' cannot be taken together: "
    if one.data != other.data:
        raise RlabError(f"{both}the first is of data set '{one.data}', the second of '{other.data}'")
    if one.classes != other.classes or one.outputs.shape[1:] != other.outputs.shape[1:]:
        raise RlabError(f"{both}the first tells {_output_text(one)}, the second {_output_text(other)}")
    if not torch.equal(one.items, other.items):
        raise RlabError(f"{both}'{one.data}' has no published test examples, and their seeds drew different ones; "
                        "nearest: train both with the same --split-seed")  # fmt: skip
    if not torch.equal(one.targets, other.targets):
        raise RlabError(f"{both}the first of their --tasks are different ones")


def _output_text(member: Member) -> str:
    if member.classes is None:
        return f"{member.outputs.shape[1]} numbers"
    return f"{len(member.classes)} classes ({', '.join(member.classes[:3])}, ...)"
