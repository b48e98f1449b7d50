"""Formulas and worked numbers of the texts on sequences."""

from __future__ import annotations

import torch
from torch import nn


def test_quiz_formulas_of_an_rnn() -> None:
    """Item 214: dz/dx of z = t^2, t = x + y is 2 (x + y); s1 = g(V x1 + W s0 + b), y1 = U s1 + c, unrolled."""
    x, y = torch.tensor(3.0, requires_grad=True), torch.tensor(4.0)
    (x + y).square().backward()
    assert x.grad is not None
    assert x.grad.item() == 2 * (3 + 4)

    rnn, head = nn.RNN(2, 3, batch_first=True, dtype=torch.float64), nn.Linear(3, 1, dtype=torch.float64)
    inputs, state = torch.randn(2, 2, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    weight = rnn.weight_hh_l0.detach().clone().requires_grad_()
    outputs = []
    for step in inputs:
        state = torch.tanh(rnn.weight_ih_l0 @ step + weight @ state + rnn.bias_ih_l0 + rnn.bias_hh_l0)
        outputs.append(head(state))
    theirs = head(rnn(inputs[None])[0][0])
    torch.testing.assert_close(torch.stack(outputs), theirs)
    # Back-propagation through time sums over the steps what each use of the shared weight contributes.
    outputs[-1].sum().backward()
    theirs[-1].sum().backward()
    torch.testing.assert_close(weight.grad, rnn.weight_hh_l0.grad)
