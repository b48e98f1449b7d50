"""Preprocessing: by hand, against scikit-learn, and by what defines each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch import Tensor

from rlab.data.datasets import load
from rlab.data.preprocess import PREPROCESSING, Transform, fit
from rlab.errors import RlabError


def correlated(n: int = 500, d: int = 6, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy((rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)).astype(np.float32))


def covariance(x: Tensor) -> Tensor:
    return torch.from_numpy(np.cov(x.numpy(), rowvar=False))


def test_minmax_by_hand() -> None:
    """Item 081."""
    x = torch.tensor([[1.0, 5.0, 7.0], [3.0, 5.0, -1.0], [2.0, 5.0, 3.0]])
    scale = fit("minmax", x)
    assert scale(x).tolist() == [[0, 0, 1], [1, 0, 0], [0.5, 0, 0.5]]  # a constant is only shifted
    assert scale(torch.tensor([[5.0, 6.0, 7.0]])).tolist() == [[2, 1, 1]]  # what was not seen may lie outside


def test_standard_by_hand() -> None:
    """Item 082."""
    x = torch.tensor([[1.0, 4.0], [3.0, 4.0]])
    assert fit("standard", x)(x).tolist() == [[-1, 0], [1, 0]]


def test_scalings_are_scikit_learns() -> None:
    x, new = correlated(), correlated(seed=1)
    for name, peer in (("minmax", MinMaxScaler()), ("standard", StandardScaler())):
        expected = peer.fit(x.double().numpy()).transform(new.double().numpy())
        np.testing.assert_allclose(fit(name, x)(new).numpy(), expected, atol=2e-5)


def test_images_and_series_are_scaled_by_channel() -> None:
    images = torch.rand(40, 3, 5, 4) * torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1) + 1
    done = fit("standard", images)(images)
    torch.testing.assert_close(done.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(done.std((0, 2, 3), correction=0), torch.ones(3), rtol=0, atol=1e-5)
    assert (done[:, 0] * images[:, 0].std(correction=0) + images[:, 0].mean() - images[:, 0]).abs().max() < 1e-5
    series = torch.rand(40, 7, 3) * torch.tensor([1.0, 2.0, 3.0])
    done = fit("minmax", series)(series)
    assert done.amin((0, 1)).tolist() == [0, 0, 0]
    torch.testing.assert_close(done.amax((0, 1)), torch.ones(3))


@pytest.mark.parametrize("name", ["pca", "zca"])
def test_whitened_data_have_the_identity_as_covariance(name: str) -> None:
    """Item 083."""
    x = correlated()
    torch.testing.assert_close(covariance(fit(name, x)(x)), torch.eye(6).double(), rtol=0, atol=1e-4)
    # With eps each variance v becomes v / (v + eps).
    eps = 0.5
    values = torch.linalg.eigvalsh(covariance(x))
    found = torch.linalg.eigvalsh(covariance(fit(name, x, eps=eps)(x)))
    torch.testing.assert_close(found, (values / (values + eps)).sort().values, rtol=0, atol=1e-4)


@pytest.mark.parametrize("components", [None, 1, 4])
def test_pca_is_scikit_learns_up_to_sign(components: int | None) -> None:
    x, new = correlated(), correlated(seed=1)
    peer = PCA(n_components=components, whiten=True).fit(x.double().numpy())
    expected = peer.transform(new.double().numpy())
    found = fit("pca", x, components=components)(new).numpy()
    assert found.shape == expected.shape
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found * signs, expected, atol=1e-3)
    # What comes back from fewer components is scikit-learn's too.
    back = fit("pca", x, components=components).inverse(torch.from_numpy(found)).numpy()
    np.testing.assert_allclose(back, peer.inverse_transform(expected), atol=1e-3)


@pytest.mark.parametrize("name", ["wine", "breast_cancer", "digits"])
def test_built_in_sets_are_whitened(name: str) -> None:
    """Their variances differ by up to 12 orders of magnitude, and three pixels of digits are constant."""
    x = load(name).inputs("train")
    flat = x.flatten(1).double().numpy()
    rank = np.linalg.matrix_rank(flat - flat.mean(0))
    expected = PCA(n_components=rank, whiten=True).fit_transform(flat)
    found = fit("pca", x)(x)
    assert found.shape == x.shape
    kept, rest = found.flatten(1)[:, :rank].numpy(), found.flatten(1)[:, rank:]
    np.testing.assert_allclose(kept * np.sign((kept * expected).sum(0)), expected, atol=1e-4)
    assert not rest.any()
    white = fit("zca", x)(x)
    assert white.shape == x.shape
    values = torch.linalg.eigvalsh(covariance(white.flatten(1)))
    torch.testing.assert_close(values, torch.arange(len(values)).ge(len(values) - rank).double(), rtol=0, atol=1e-3)
    halved = torch.linalg.eigvalsh(covariance(fit("zca:1e9", x)(x).flatten(1)))
    assert halved.max() < 1e-3


@pytest.mark.parametrize("name", ["pca", "zca"])
@pytest.mark.parametrize(
    ("x", "rank"),
    [
        (torch.ones(4, 3), 0),
        (torch.full((50, 3), 0.1), 0),
        (correlated(50, 3)[:, [0, 0, 1]], 2),
        (torch.cat([correlated(50, 2), correlated(50, 2).sum(1, keepdim=True)], 1), 2),  # a sum, as float32 rounds it
        (1e4 + torch.cat([correlated(50, 2), torch.zeros(50, 1)], 1), 2),
        (correlated(3, 6), 2),
    ],
)
def test_directions_without_variance_become_zero(name: str, x: Tensor, rank: int) -> None:
    done = fit(name, x)
    white = done(x)
    values = torch.linalg.eigvalsh(covariance(white))
    torch.testing.assert_close(values, torch.arange(len(values)).ge(len(values) - rank).double(), rtol=0, atol=1e-2)
    torch.testing.assert_close(done.inverse(white), x, rtol=1e-5, atol=1e-3)


def test_of_all_whitenings_zca_is_the_closest_to_the_data() -> None:
    x = correlated()
    white = fit("zca", x)(x)
    centred = x - x.mean(0)
    distance = (white - centred).square().sum(1).mean()
    rng = np.random.default_rng(3)
    others = [fit("pca", x)(x)]
    for _ in range(30):
        turn = torch.from_numpy(np.linalg.qr(rng.normal(size=(6, 6)))[0].astype(np.float32))
        others.append(white @ turn)
    small = torch.eye(6)
    small[:2, :2] = torch.tensor([[0.995, -0.0998], [0.0998, 0.995]])  # a turn by a tenth
    for other in (*others, white @ small):
        torch.testing.assert_close(covariance(other), torch.eye(6).double(), rtol=0, atol=2e-3)
        assert (other - centred).square().sum(1).mean() > distance
    matrix = fit("zca", x).forward
    torch.testing.assert_close(matrix, matrix.T)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(sorted(PREPROCESSING)),
    st.sampled_from([(5,), (2, 3, 3), (4, 2), (1, 2, 2)]),
    st.integers(0, 1000),
    st.sampled_from([0.0, 0.01]),
)
def test_all_can_be_undone(name: str, shape: tuple[int, ...], seed: int, eps: float) -> None:
    x = torch.from_numpy(np.random.default_rng(seed).normal(1, 2, (60, *shape)).astype(np.float32))
    more = {"eps": eps} if name in ("pca", "zca") else {}
    done = fit(name, x[:50], **more)
    y = done(x)
    assert y.shape == x.shape
    torch.testing.assert_close(done.inverse(y), x, rtol=0, atol=1e-3)


def test_only_what_it_was_fitted_to_counts() -> None:
    x = correlated()
    done = fit("zca", x)
    assert torch.equal(done(x[:3]), done(torch.cat((x[:3], 1e3 * x[3:])))[:3])
    twice = fit("zca", x)
    assert all(torch.equal(a, b) for a, b in zip(vars_of(done), vars_of(twice), strict=True))


def vars_of(done: Transform) -> tuple[Tensor, Tensor, Tensor]:
    return done.shift, done.forward, done.backward


@pytest.mark.parametrize(
    ("name", "x", "more", "said"),
    [
        ("zka", torch.ones(2, 2), {}, "unknown preprocessing 'zka'; nearest: zca"),
        ("zca:much", correlated(), {}, "preprocessing 'zca:much': 'much' is no number; nearest: zca:0.01"),
        ("minmax:1", correlated(), {}, "preprocessing 'minmax:1': minmax takes no number; nearest: minmax"),
        ("pca", correlated(), {"components": 7}, "to keep 7 components; there are 1 to 6"),
        ("zca", correlated(), {"eps": -1.0}, "eps of zca is -1; it must be at least 0"),
        ("zca", correlated()[:1], {}, "needs at least two items"),
        ("standard", torch.tensor([[1.0, float("nan")]]), {}, "NaN or Inf"),
        ("standard", torch.ones(3, 2, dtype=torch.uint8), {}, "not torch.uint8; scale bytes"),
        ("standard", torch.ones(0, 2), {}, "not to [0, 2]"),
    ],
)
def test_what_cannot_be_fitted(name: str, x: Tensor, more: dict[str, float], said: str) -> None:
    with pytest.raises(RlabError) as error:
        fit(name, x, **more)
    assert said in str(error.value)


def test_items_of_another_shape() -> None:
    with pytest.raises(RlabError, match=r"fitted to items of shape \[6\], these have \[5\]"):
        fit("zca", correlated())(correlated(d=5))
