"""Definitions, formulas and worked numbers of the items 001-045."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.special import logit
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.data.datasets import load
from rlab.nn.encoders.mlp import MLP
from rlab.nn.heads.classify import ClassifyHead
from rlab.nn.layers import ACTIVATIONS
from rlab.nn.losses import squared_error
from rlab.nn.optim import make_optimiser
from rlab.studies.foundations.convex_cost import cost
from rlab.studies.foundations.vectorised_loop import by_array, by_index, by_items, epoch_by_arrays, epoch_by_loops

X = np.array([[4.0, 3.0], [-3.0, 2.0], [4.0, -1.0]])
"""The three vectors of items 027-029, one a row."""


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_tables_and_images_are_loaded_alike() -> None:
    """Item 005: structured data are numbers in columns, unstructured ones here pixels."""
    table, images = load("breast_cancer"), load("digits")
    assert (table.kind, table.inputs("train").dim()) == ("table", 2)
    assert (images.kind, images.inputs("train").dim()) == ("images", 4)


def test_logistic_regression_finds_the_log_odds() -> None:
    """Item 015: with one input of 0 and 1 the optimum is known: 3 of 10 and 8 of 10 are of class 1."""
    x = np.column_stack([np.repeat([0.0, 1.0], 10), np.ones(20)])
    y = np.concatenate([np.arange(10) < 3, np.arange(10) < 8]).astype(float)
    exact = [logit(0.8) - logit(0.3), logit(0.3)]
    newton = np.zeros((1, 2))
    for _ in range(20):  # iteratively reweighted least squares
        _, slope, hessian = cost(newton, x, y, squared=False)
        newton = newton - np.linalg.solve(hessian[0], slope[0])
    np.testing.assert_allclose(newton[0], exact, atol=1e-12)
    w, inputs, targets = torch.zeros(2, dtype=torch.float64, requires_grad=True), torch.tensor(x), torch.tensor(y)
    lbfgs = make_optimiser("lbfgs", [w], max_iter=100, tolerance_grad=1e-12, tolerance_change=1e-16)

    def again() -> float:
        lbfgs.zero_grad()
        loss = F.binary_cross_entropy_with_logits(inputs @ w, targets)
        loss.backward()
        return float(loss.detach())

    lbfgs.step(again)
    np.testing.assert_allclose(w.detach().numpy(), exact, atol=1e-8)


def test_the_two_losses_of_one_answer() -> None:
    """Item 017: y = 1 and 0.8 answered: (0.2)^2 / 2 and -ln 0.8; y = 0: 0.8^2 / 2 and -ln 0.2."""
    answer = torch.tensor([[0.8]])
    for y, square, entropy in ((1.0, 0.02, -math.log(0.8)), (0.0, 0.32, -math.log(0.2))):
        target = torch.tensor([[y]])
        assert squared_error(answer, target).item() == pytest.approx(square)
        assert F.binary_cross_entropy(answer, target).item() == pytest.approx(entropy)


@settings(deadline=None, max_examples=25)
@given(m=st.integers(1, 5), k=st.integers(2, 6), seed=st.integers(0, 99))
def test_cross_entropy_of_classes(m: int, k: int, seed: int) -> None:
    """Item 019: (1/m) sum_i sum_k -t log y; of two classes (y, 1 - y) it is the binary one."""
    z, t = normal(m, k, seed=seed), normal(m, k, seed=seed + 1).softmax(1)
    by_hand = -(t * z.softmax(1).log()).sum() / m
    torch.testing.assert_close(F.cross_entropy(z, t), by_hand)
    p, y = torch.sigmoid(z[:, 0]), t[:, 0]
    two = -(torch.stack([y, 1 - y]) * torch.stack([p, 1 - p]).log()).sum(0).mean()
    torch.testing.assert_close(two, F.binary_cross_entropy(p, y))


def test_the_gradient_of_logistic_regression() -> None:
    """Item 020: dZ = A - Y, dw = X dZ' / m, db = sum dZ / m, examples in columns; within 1e-7 of differences."""
    x, y = normal(4, 30), (normal(1, 30, seed=1) > 0).double()
    w, b = normal(4, 1, seed=2), normal(1, seed=3)

    def loss(w: Tensor, b: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(w.T @ x + b, y)

    dz = torch.sigmoid(w.T @ x + b) - y
    dw, db = x @ dz.T / 30, dz.sum() / 30
    step = 1e-5
    for i in range(4):
        e = torch.zeros(4, 1, dtype=torch.float64)
        e[i] = step
        assert float((loss(w + e, b) - loss(w - e, b)) / (2 * step)) == pytest.approx(float(dw[i]), abs=1e-7)
    assert float((loss(w, b + step) - loss(w, b - step)) / (2 * step)) == pytest.approx(float(db), abs=1e-7)
    assert float(loss(w - 0.1 * dw, b - 0.1 * db)) < float(loss(w, b))


def test_two_ways_to_add_differ_in_the_last_digits() -> None:
    """Item 022: 6281.56 ms / 7.845 ms is 800.7; the text's two sums differ as additions do not associate."""
    assert round(6281.56 / 7.845, 1) == 800.7
    assert (0.1 + 0.2) + 0.3 != 0.1 + (0.2 + 0.3)
    x, y = np.random.default_rng(0).random((2, 20_000))
    one, other = by_array(x, y), by_index(x, y)
    assert other == by_items(x.tolist(), y.tolist())
    assert one == pytest.approx(other, rel=1e-12)


def test_loops_and_arrays_give_one_gradient() -> None:
    """Item 024."""
    x, w = normal(30, 5).numpy(), normal(5, seed=1).numpy()
    y = (normal(30, seed=2).numpy() > 0).astype(float)
    np.testing.assert_allclose(epoch_by_loops(w, x, y), epoch_by_arrays(w, x, y), rtol=1e-12)
    _, slope, _ = cost(w[None], x, y, squared=False)
    np.testing.assert_allclose(slope[0], epoch_by_arrays(w, x, y), rtol=1e-12)


@pytest.mark.parametrize("shape", [(1, 3), (4, 1), (1, 1), (3,), ()])
def test_the_gradient_of_what_was_broadcast_is_a_sum(shape: tuple[int, ...]) -> None:
    """Item 025: (m, n) with (1, n) or (m, 1) is (m, n); backwards the expanded axes are added up."""
    a, upstream = normal(4, 3), normal(4, 3, seed=1)
    b = normal(*shape, seed=2).requires_grad_()
    assert (a * b).shape == (4, 3)
    (gradient,) = torch.autograd.grad(a * b, b, upstream)
    torch.testing.assert_close(gradient, (upstream * a).sum_to_size(shape))
    expanded = b.detach().expand(4, 3).clone().requires_grad_()
    (whole,) = torch.autograd.grad(a * expanded, expanded, upstream)
    torch.testing.assert_close(gradient, whole.sum_to_size(shape))


def test_l1_and_l2_losses() -> None:
    """Item 026: sums over i = 1..m (the text's formula begins at 0, one too many): 1.1 and 0.43."""
    answers, y = torch.tensor([0.9, 0.2, 0.1, 0.4, 0.9]), torch.tensor([1.0, 0, 0, 1, 1])
    assert F.l1_loss(answers, y, reduction="sum").item() == pytest.approx(1.1)
    assert F.mse_loss(answers, y, reduction="sum").item() == pytest.approx(0.43)


def test_which_of_them_are_norms() -> None:
    """Item 027: L0 does not grow with its vector, p < 1 breaks the triangle inequality; L-infinity is a limit."""
    lengths = np.linalg.norm(X, ord=np.inf, axis=1)
    np.testing.assert_allclose((abs(X) ** 200).sum(1) ** (1 / 200), lengths, rtol=1e-3)
    assert np.linalg.norm(2 * X[0], ord=0) == np.linalg.norm(X[0], ord=0)
    a, b = np.eye(2)
    half = [float((abs(v) ** 0.5).sum() ** 2) for v in (a, b, a + b)]
    assert half[2] > half[0] + half[1]


def test_rows_of_length_one() -> None:
    """Item 028: each row by its L2 norm, which is normalisation (正規化), not regularisation (正則化)."""
    expected = [[0.8, 0.6], [-0.83205029, 0.5547002], [0.9701425, -0.24253563]]
    np.testing.assert_allclose(X / np.linalg.norm(X, axis=1, keepdims=True), expected, atol=5e-9)
    np.testing.assert_allclose(F.normalize(torch.tensor(X)).numpy(), expected, atol=5e-9)


def test_the_three_vectors_as_arrows() -> None:
    """Item 029: from the origin on a grid of [-5, 5]^2; sqrt(sum(abs(X^2))) is the L2 norm."""
    axes = Figure().subplots()
    arrows = axes.quiver([0] * 3, [0] * 3, X[:, 0], X[:, 1], angles="xy", scale_units="xy", scale=1)
    axes.set(xlim=(-5, 5), ylim=(-5, 5))
    assert np.column_stack([arrows.U, arrows.V]).tolist() == X.tolist()
    np.testing.assert_allclose(np.sqrt(np.sum(abs(X**2), axis=1)), np.linalg.norm(X, axis=1), rtol=1e-15)


def forward(weights: list[Tensor], biases: list[Tensor], x: Tensor) -> list[Tensor]:
    """Item 041: a loop over layers. x[n0, m], W[l][n_l, n_(l-1)], b[l][n_l, 1] -> a[0..L], examples in columns."""
    passed = [x]
    for place, (w, b) in enumerate(zip(weights, biases, strict=True)):
        z = w @ passed[-1] + b
        passed.append(torch.sigmoid(z) if place == len(weights) - 1 else torch.tanh(z))
    return passed


def backward(weights: list[Tensor], passed: list[Tensor], y: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Items 038, 044: dz = a - y, dW = dz a' / m, db = sum dz / m, dz[l-1] = W' dz * (1 - a^2): columns stay apart."""
    m, dz, found = y.shape[1], passed[-1] - y, []
    for place in reversed(range(len(weights))):
        a = passed[place]
        assert dz.shape == passed[place + 1].shape
        found.append((dz @ a.T / m, dz.sum(1, keepdim=True) / m))
        dz = (weights[place].T @ dz) * (1 - a**2)
    return found[::-1]


def network(sizes: list[int]) -> tuple[list[Tensor], list[Tensor]]:
    weights = [normal(n, before, seed=n).requires_grad_() for before, n in pairwise(sizes)]
    return weights, [normal(n, 1, seed=n + 50).requires_grad_() for n in sizes[1:]]


def test_shapes_of_one_hidden_layer() -> None:
    """Item 030: X[3, m], W1[4, 3], Z1 and A1[4, m], W2[1, 4], Z2 and A2[1, m]; torch has examples in rows."""
    (w1, w2), (b1, b2) = network([3, 4, 1])
    x = normal(3, 10)
    _, a1, a2 = forward([w1, w2], [b1, b2], x)
    assert [tuple(t.shape) for t in (w1, b1, a1, w2, b2, a2)] == [(4, 3), (4, 1), (4, 10), (1, 4), (1, 1), (1, 10)]
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1), nn.Sigmoid()).double()
    model.load_state_dict({"0.weight": w1, "0.bias": b1[:, 0], "2.weight": w2, "2.bias": b2[:, 0]})
    torch.testing.assert_close(model(x.T), a2.T)
    for i in range(10):  # stacked columns are the examples one by one
        torch.testing.assert_close(forward([w1, w2], [b1, b2], x[:, i : i + 1])[2], a2[:, i : i + 1])


def test_activations_may_differ_by_layer() -> None:
    """Item 031: ReLU in hidden layers, softmax at the output."""
    encoder, head = MLP((5,), width=8, depth=2), ClassifyHead(8, 3)
    hidden = encoder(normal(7, 5).float())
    probabilities = head(hidden).softmax(1)
    assert float(hidden.detach().min()) == 0 < float(hidden.detach().max())
    torch.testing.assert_close(probabilities.sum(1), torch.ones(7))


@pytest.mark.parametrize(
    ("name", "slope"),
    [
        ("sigmoid", lambda z, a: a * (1 - a)),
        ("tanh", lambda z, a: 1 - a**2),
        ("relu", lambda z, a: (z > 0).double()),
        ("leaky-relu", lambda z, a: torch.where(z > 0, 1.0, 0.01).double()),
    ],
)
def test_slopes_follow_from_outputs(name: str, slope: object) -> None:
    """Item 035: s (1 - s), 1 - t^2, 0 or 1, 0.01 or 1."""
    z = normal(200).mul(3).requires_grad_()
    a = ACTIVATIONS.get(name)()(z)
    (gradient,) = torch.autograd.grad(a.sum(), z)
    torch.testing.assert_close(gradient, slope(z.detach(), a.detach()))  # type: ignore[operator]


@pytest.mark.parametrize("sizes", [[3, 4, 1], [3, 5, 4, 6, 2]])
@pytest.mark.parametrize("m", [1, 7])
def test_gradients_of_shallow_and_deep_networks(sizes: list[int], m: int) -> None:
    """Items 038, 041, 044: the equations against autograd, for one example (a[0] = x) and for m."""
    weights, biases = network(sizes)
    x, y = normal(sizes[0], m), (normal(sizes[-1], m, seed=1) > 0).double()
    passed = forward(weights, biases, x)
    loss = F.binary_cross_entropy(passed[-1], y, reduction="sum") / m
    exact = torch.autograd.grad(loss, [*weights, *biases])
    found = backward(weights, [a.detach() for a in passed], y)
    for place, (dw, db) in enumerate(found):
        assert (dw.shape, db.shape) == (weights[place].shape, biases[place].shape)
        torch.testing.assert_close(dw, exact[place], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(db, exact[len(weights) + place], rtol=1e-9, atol=1e-12)


def test_a_filter_is_a_perceptron_at_every_place() -> None:
    """Item 045: a convolution is one unit applied to a cell and its neighbours; 1x1 ones make it multi-layer (NiN)."""
    x, conv = normal(2, 3, 6, 6).float(), nn.Conv2d(3, 4, 3, padding=1)
    neighbours = F.unfold(x, 3, padding=1).transpose(1, 2)  # [B, places, 3 * 3 * 3]
    unit = F.linear(neighbours, conv.weight.flatten(1), conv.bias)
    torch.testing.assert_close(conv(x), unit.transpose(1, 2).view(2, 4, 6, 6), rtol=1e-4, atol=1e-5)
    inner = nn.Conv2d(4, 5, 1)
    deeper = F.linear(unit.relu(), inner.weight.flatten(1), inner.bias)  # a perceptron of two layers at each place
    torch.testing.assert_close(inner(conv(x).relu()), deeper.transpose(1, 2).view(2, 5, 6, 6), rtol=1e-4, atol=1e-5)
