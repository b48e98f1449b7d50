"""What the curriculum defines or works out on dropout, early stopping, ensembles and transfer: items 129-151, 011."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import AdaBoostClassifier
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from rlab.errors import RlabError
from rlab.studies.combining.adaboost_bound import boost
from rlab.studies.combining.bagging_variance import friedman, members_of, out_of_bag
from rlab.studies.combining.dropout_masks import held_mask
from rlab.studies.combining.early_stopping import stop
from rlab.studies.combining.early_stopping_l2 import ridge
from rlab.studies.combining.no_free_lunch import INPUTS, LEARNERS, Settings, separable
from rlab.studies.supervised import network, parts


def test_the_lab_puts_dropout_behind_every_hidden_layer_and_nowhere_else() -> None:
    """item 129"""
    kinds = [type(layer).__name__ for layer in network([4, 3, 3, 2], seed=0, dropout=0.5)]
    assert kinds == ["Flatten", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    with_and_without = [network([4, 3, 2], seed=0, dropout=p).state_dict().values() for p in (0.5, 0.0)]
    assert all(a.equal(b) for a, b in zip(*with_and_without, strict=True)), "the same weights with and without"


def test_a_held_mask_changes_when_it_should() -> None:
    """item 130: what an epoch's mask would be, for the study that refutes it."""
    torch.manual_seed(0)
    layer, x = held_mask(0.5, 3), torch.ones(4, 50)
    first, *others = [layer(x) for _ in range(4)]
    assert all(row.equal(first[0]) for row in first)
    assert [one.equal(first) for one in others] == [True, True, False]
    assert layer.eval()(x).equal(x)


def test_evaluation_needs_the_keep_probability() -> None:
    """item 135: dropping 20 %, the mean over all masks is 0.8 of the weighted sum; 0.2 of it is wrong.

    All 16 masks of four inputs with their probabilities, so nothing is left to chance.
    """
    terms = np.array([1.0, -2.0, 0.5, 4.0])
    mean = 0.0
    for mask in itertools.product((0, 1), repeat=4):
        mean += 0.8 ** sum(mask) * 0.2 ** (4 - sum(mask)) * float(np.dot(mask, terms))
    assert mean / terms.sum() == pytest.approx(0.8)
    kept = nn.Dropout(0.2)(torch.ones(1000)).max()
    assert float(kept) == pytest.approx(1 / 0.8), "in training: 1 / (1 - p), not 1 / p = 5"


CURVE = [5.0, 4.0, 3.0, 3.5, 2.0, 2.5, 2.6, 2.7, 1.0]


@pytest.mark.parametrize(
    ("period", "patience", "stopped", "best"),
    [(1, 1, 3, 2), (1, 2, 6, 4), (1, 3, 7, 4), (1, 4, 8, 8), (2, 1, 6, 4), (2, 2, 8, 8), (3, 1, 3, 0), (3, 2, 8, 6)],
)
def test_early_stopping_on_a_made_curve(period: int, patience: int, stopped: int, best: int) -> None:
    """item 139: period, patience, and the parameters of the turn, by hand."""
    curve = [5.0, 4.0, 3.0, 6.0, 2.0, 2.5, 2.6, 2.7, 1.0] if period == 3 else CURVE
    assert stop(curve, period, patience) == (stopped, best)


def test_a_training_error_that_only_falls_never_stops_anything() -> None:
    """item 140: one slide looks at the training error."""
    falling = [1 / (1 + t) for t in range(50)]
    rising_behind = [abs(t - 20) for t in range(50)]
    assert stop(falling, 1, 1) == (49, 49)
    assert stop(rising_behind, 1, 1) == (21, 20)


def test_stopped_descent_shrinks_like_ridge_along_each_eigenvector() -> None:
    """item 143: 1 - (1 - r v)^t = v / (v + a) has one a for each eigenvalue v, near 1 / (r t) for small ones."""
    rate, t = 0.1, 7
    for value in (0.01, 0.5, 3.0):
        w = 0.0
        for _ in range(t):
            w -= rate * value * (w - 1)  # the solution is 1
        shrunk = 1 - (1 - rate * value) ** t
        assert w == pytest.approx(shrunk)
        strength = value * (1 - shrunk) / shrunk
        assert ridge(np.array([[value]]), np.array([value]), strength)[0] == pytest.approx(w)
        if value == 0.01:
            assert strength == pytest.approx(1 / (rate * t), rel=0.01)
        if value == 3.0:
            assert strength < 0.3 / (rate * t), "so one penalty for all is an approximation"


def test_votes_of_weak_learners() -> None:
    """item 144: of three learners that are right with 0.7, the majority is right with 0.784; of 101 nearly always."""
    right = {n: sum(math.comb(n, k) * 0.7**k * 0.3 ** (n - k) for k in range(n // 2 + 1, n + 1)) for n in (1, 3, 101)}
    assert right[1] == pytest.approx(0.7)
    assert right[3] == pytest.approx(0.784)
    assert right[101] > 0.9999


def test_out_of_bag_errors_by_hand() -> None:
    """item 145: an example is judged by the members whose sample lacks it, and left out if there is none."""
    samples = np.array([[0, 0, 1], [1, 2, 2]])
    said = np.array([[9.0, 9.0, 3.0], [4.0, 9.0, 9.0]])
    # example 0 by the second member: 4 - 1; example 2 by the first: 3 - 5; example 1 is in both samples
    assert out_of_bag(np.array([1.0, 1.0, 5.0]), said, samples) == pytest.approx((9 + 4) / 2)


def test_friedmans_function_is_scikit_learns() -> None:
    """item 145: what the study of bagging draws from."""
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(20, random_state=0)
    np.testing.assert_allclose(friedman(x), y)
    assert members_of(x, y, np.array([np.arange(20)] * 2), None, x).shape == (2, 20)


def cancer() -> tuple[np.ndarray, np.ndarray]:
    data = load_breast_cancer()
    return data.data, np.where(data.target == 1, 1, -1)


def test_adaboost_is_scikit_learns() -> None:
    """item 147: the same sequence of errors, and importances half of SAMME's."""
    x, y = cancer()
    found = boost(x, y, 12)
    peer = AdaBoostClassifier(DecisionTreeClassifier(max_depth=1), n_estimators=12, random_state=0).fit(x, y)
    np.testing.assert_allclose(found.errors[:3], peer.estimator_errors_[:3], rtol=1e-6)
    np.testing.assert_allclose(2 * found.importances[:3], peer.estimator_weights_[:3], rtol=1e-6)
    votes = sum(a * s.predict(x) for a, s in zip(found.importances, found.stumps, strict=True))
    assert (np.sign(votes) == peer.predict(x)).mean() > 0.99


def test_adaboost_weighs_anew_and_keeps_its_bound() -> None:
    """item 147: by the new weights the last learner is a coin, and the training error is below the product."""
    x, y = cancer()
    found = boost(x, y, 20)
    np.testing.assert_allclose(found.after, 0.5, atol=1e-9)
    votes = np.cumsum([a * s.predict(x) for a, s in zip(found.importances, found.stumps, strict=True)], 0)
    assert ((votes * y <= 0).mean(1) <= np.cumprod(2 * np.sqrt(found.errors * (1 - found.errors)))).all()
    assert ((votes[-1] * y) <= 0).mean() < ((votes[0] * y) <= 0).mean()


def test_adaboost_ends_with_a_learner_without_errors() -> None:
    """item 147: nothing is left to weigh; its importance would be infinite."""
    assert boost(np.array([[0.0], [1.0]]), np.array([-1, 1]), 5).stumps == []


@pytest.mark.parametrize("name", LEARNERS)
def test_every_guess_is_right_on_half_of_the_unseen_rows(name: str) -> None:
    """item 142: over all functions of four inputs, given any eight rows; neighbours keep what they were given."""
    given, asked = INPUTS[:8], INPUTS[8:]
    labels = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(float)
    said = LEARNERS[name](Settings(steps=20), given, labels, asked, 0)
    assert (said[:, None] == labels[None]).mean() == 0.5
    if name == "neighbours":
        assert (LEARNERS[name](Settings(), given, labels, given, 0) == labels).all()


def test_threshold_functions_of_four_inputs_are_counted() -> None:
    """item 142: 1,882 (Muroga 1971)."""
    assert len(separable()) == 1_882


def test_parts_are_disjoint_and_drawn_by_the_seed() -> None:
    """item 011 and all others of this chapter learn and test on parts."""
    a, b, rest = parts("digits", 3, 100, 50, 0)
    assert [len(y) for _, y in (a, b, rest)] == [100, 50, 1797 - 150]
    everything = torch.cat([x for x, _ in (a, b, rest)]).flatten(1)
    again = parts("digits", 3, 0)[0][0].flatten(1)
    assert everything.equal(again)
    assert not everything.equal(parts("digits", 4, 0)[0][0].flatten(1))
    with pytest.raises(RlabError, match=r"has 1,797 items, not 1,800"):
        parts("digits", 0, 1_800)
