"""Heads by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rlab.nn import QHead


def fixed(head: QHead, values: list[float], state_value: list[float]) -> torch.Tensor:
    """The output of a head whose streams give these numbers, whatever the features are."""
    with torch.no_grad():
        for p in head.parameters():
            p.zero_()
        head.values.bias.copy_(torch.tensor(values))
        head.state_value.bias.copy_(torch.tensor(state_value))
    return head(torch.rand(2, 3))


def test_dueling_by_hand() -> None:
    """Item 272: V = 10, advantages 1, 2, 6 with mean 3: Q = 8, 9, 13."""
    q = fixed(QHead(3, 3, dueling=True), [1, 2, 6], [10])
    assert q.tolist() == [[8, 9, 13]] * 2


def test_dueling_subtracts_the_mean_over_actions_atom_by_atom() -> None:
    """Two actions of two atoms, (1, 2) and (3, 8): means 2 and 5."""
    out = fixed(QHead(3, 2, atoms=2, dueling=True), [1, 2, 3, 8], [10, 20])
    assert out.shape == (2, 2, 2)
    assert out[0].tolist() == [[9, 17], [11, 23]]


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("atoms", [1, 5])
@pytest.mark.parametrize("hidden", [0, 7])
def test_shapes(dueling: bool, atoms: int, hidden: int) -> None:
    head = QHead(3, 4, atoms, dueling, hidden)
    out = head(torch.rand(2, 6, 3))
    assert out.shape == ((2, 6, 4, 5) if atoms > 1 else (2, 6, 4))
    assert sum(isinstance(m, nn.Linear) for m in head.modules()) == (1 + dueling) * (1 + (hidden > 0))
