"""Losses by hand and by their relations; torch's own against the definitions of the texts."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from rlab.errors import RlabError
from rlab.nn.losses import distillation, smooth_targets, squared_error

numbers = st.floats(-30, 30)


def test_squared_error_by_hand() -> None:
    """(1 + 4) / 2 and (9 + 0) / 2, mean 3.5."""
    outputs, targets = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([[0.0, 0.0], [0.0, 5.0]])
    assert squared_error(outputs, targets).item() == 3.5
    assert squared_error(outputs[:, 0], targets[:, 0]).item() == 2.5
    with pytest.raises(RlabError, match=r"outputs \[2, 1\] and targets \[2\]"):
        squared_error(outputs[:, :1], targets[:, 0])


def test_smooth_targets_by_hand() -> None:
    """Item 127."""
    labels = torch.tensor([2, 0])
    others = smooth_targets(labels, 4, 0.3, "others")
    torch.testing.assert_close(others, torch.tensor([[0.1, 0.1, 0.7, 0.1], [0.7, 0.1, 0.1, 0.1]]))
    everyone = smooth_targets(labels, 4, 0.2)
    torch.testing.assert_close(everyone, torch.tensor([[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]]))
    assert smooth_targets(labels, 4, 0).equal(F.one_hot(labels, 4).float())


def test_smooth_target_loss_by_hand() -> None:
    """Probabilities 1/2, 1/4, 1/4 and targets .8, .1, .1: .8 ln 2 + .2 ln 4 = 1.2 ln 2."""
    logits = torch.tensor([[math.log(2), 0.0, 0.0]])
    targets = smooth_targets(torch.tensor([0]), 3, 0.2, "others")
    assert F.cross_entropy(logits, targets).item() == pytest.approx(1.2 * math.log(2))


@given(classes=st.integers(2, 12), epsilon=st.floats(0, 0.99), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_smoothing_conventions_match_torch(classes: int, epsilon: float, seed: int) -> None:
    """Item 127."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (5,), generator=generator)
    logits = torch.randn(5, classes, generator=generator, dtype=torch.float64)
    everyone = smooth_targets(labels, classes, epsilon, dtype=torch.float64)
    others = smooth_targets(labels, classes, epsilon * (classes - 1) / classes, "others", torch.float64)
    torch.testing.assert_close(everyone, others)
    torch.testing.assert_close(everyone.sum(1), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(
        F.cross_entropy(logits, everyone), F.cross_entropy(logits, labels, label_smoothing=epsilon)
    )


def test_targets_of_pixels() -> None:
    labels = torch.tensor([[[0, 1], [2, 1]]])
    targets = smooth_targets(labels, 3, 0.3, "others")
    assert targets.shape == (1, 3, 2, 2)
    assert targets[0, :, 1, 0].tolist() == pytest.approx([0.15, 0.15, 0.7])


@pytest.mark.parametrize(
    ("label", "classes", "epsilon", "over", "says"),
    [
        (4, 4, 0.1, "all", "label 4 is none of 4 classes; valid: 0 to 3"),
        (-1, 4, 0.1, "others", "label -1 is none"),
        (0, 4, 0.75, "others", r"takes epsilon in \[0, 0.75\), not 0.75"),
        (0, 4, -0.1, "all", "not -0.1"),
        (0, 4, math.nan, "all", "not nan"),
        (0, 1, 0.1, "others", "of 1 classes"),
        (0, 4, 0.1, "other", "over 'other'; valid: all, others"),
    ],
)
def test_smoothing_that_cannot_be(label: int, classes: int, epsilon: float, over: str, says: str) -> None:
    with pytest.raises(RlabError, match=says):
        smooth_targets(torch.tensor([label]), classes, epsilon, over)  # type: ignore[arg-type]


def test_labels_are_integers() -> None:
    with pytest.raises(RlabError, match=r"integers 0 to 2, not torch.float32"):
        smooth_targets(torch.tensor([0.5]), 3, 0.1)


def test_distillation_by_hand() -> None:
    """T = 2, teacher's softmax of (0, ln 3): 1/4, 3/4; student's 1/2, 1/2: 4 (1/4 ln 1/2 + 3/4 ln 3/2)."""
    teacher, student = torch.tensor([[0.0, 2 * math.log(3)]]), torch.zeros(1, 2)
    expected = 4 * (0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert distillation(student, teacher, 2).item() == pytest.approx(expected, rel=1e-6)
    assert distillation(teacher + 7, teacher, 2).item() == pytest.approx(0, abs=1e-6)


def gradient(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    student = student.clone().requires_grad_()
    (found,) = torch.autograd.grad(distillation(student, teacher, temperature), student)
    return found


def test_distillation_gradient_keeps_its_size() -> None:
    """T (softmax(z / T) - softmax(v / T)), and in the limit (z - v) / K for logits of mean 0 (equations 2 and 4)."""
    generator = torch.Generator().manual_seed(0)
    z, v = torch.randn(2, 1, 5, generator=generator, dtype=torch.float64).sub(0).unbind()
    z, v = z - z.mean(), v - v.mean()
    for temperature in (1.0, 3.0, 20.0):
        expected = temperature * ((z / temperature).softmax(1) - (v / temperature).softmax(1))
        torch.testing.assert_close(gradient(z, v, temperature), expected)
    torch.testing.assert_close(gradient(z, v, 1e5), (z - v) / 5, rtol=1e-4, atol=1e-6)


def test_distillation_without_gradient_for_teacher() -> None:
    teacher, student = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    distillation(student, teacher, 4).backward()
    assert teacher.grad is None
    assert student.grad is not None
    with pytest.raises(RlabError, match=r"logits \[2, 3\] to \[2, 4\]"):
        distillation(torch.zeros(2, 4), teacher, 1)
    with pytest.raises(RlabError, match="temperature above 0, not 0"):
        distillation(student, teacher, 0)
