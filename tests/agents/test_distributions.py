"""Distributions of returns by hand, by naive loops, and against sb3-contrib."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.agents.value.config import QConfig
from rlab.agents.value.distributions import categorical_loss, greedy, midpoints, project, quantile_huber_loss, take
from rlab.errors import RlabError
from rlab.run.journal import Journal
from tests.agents.test_dqn import agent, batch


def test_projection_by_hand() -> None:
    """Item 273: r .5 + .5 Z moves Z = 0, 1, 2 to .5, 1, 1.5; a zero discount leaves r; the ends catch the rest."""
    support = torch.tensor([0.0, 1.0, 2.0])
    p = torch.tensor([[0.2, 0.3, 0.5]] * 4)
    m = project(p, torch.tensor([0.5, 1.25, 9.0, -9.0]), torch.tensor([0.5, 0.0, 1.0, 1.0]), support)
    expected = [[0.1, 0.1 + 0.3 + 0.25, 0.25], [0, 0.75, 0.25], [0, 0, 1], [1, 0, 0]]
    np.testing.assert_allclose(m.numpy(), expected, atol=1e-6)


def naive_projection(p: np.ndarray, r: float, d: float, low: float, high: float) -> np.ndarray:
    """Bellemare et al. 2017, algorithm 1, in its own words (with both neighbours where an atom is met exactly)."""
    k = len(p)
    gap = (high - low) / (k - 1)
    m = np.zeros(k)
    for j in range(k):
        b = (min(high, max(low, r + d * (low + j * gap))) - low) / gap
        lower, upper = min(k - 1, math.floor(b)), min(k - 1, math.ceil(b))
        if lower == upper:
            m[lower] += p[j]
        else:
            m[lower] += p[j] * (upper - b)
            m[upper] += p[j] * (b - lower)
    return m


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), k=st.integers(2, 60))
def test_projection_equals_a_naive_loop(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    low = rng.uniform(-20, 0)
    high = low + rng.uniform(0.5, 30)
    p = rng.dirichlet(np.ones(k), 5)
    r, d = rng.normal(0, 5, 5), rng.choice([0, 0.9, 0.99**3, 1.0], 5)
    m = project(*(torch.from_numpy(x) for x in (p, r, d, np.linspace(low, high, k)))).numpy()
    naive = [naive_projection(p[i], r[i], d[i], low, high) for i in range(5)]
    np.testing.assert_allclose(m, naive, atol=1e-6)
    np.testing.assert_allclose(m.sum(axis=1), 1)


def test_categorical_loss_by_hand() -> None:
    """Item 273: the cross-entropy of a projected target, weighted and not."""
    logits = torch.tensor([[0.0, math.log(3.0)]], requires_grad=True)  # probabilities 1/4, 3/4
    loss = categorical_loss(logits, torch.tensor([[0.5, 0.5]]))
    assert loss.item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad.tolist()[0] == pytest.approx([-0.25, 0.25])  # softmax - target
    assert categorical_loss(logits, torch.tensor([[0.25, 0.75]])).item() == pytest.approx(0, abs=1e-6)
    assert categorical_loss(logits, torch.tensor([[0.0, 1.0]])).item() == pytest.approx(math.log(4 / 3))


def test_quantile_huber_loss_by_hand() -> None:
    """Quantiles 0 and 2 at .25 and .75, targets 0.5 and 3.

    Errors .5, 3 and -1.5, 1: Huber .125, 2.5 and 1, .5, times .25, .25 and .25, .75.
    """
    loss = quantile_huber_loss(torch.tensor([[0.0, 2.0]]), midpoints(2), torch.tensor([[0.5, 3.0]]))
    assert loss.item() == pytest.approx((0.25 * 0.125 + 0.25 * 2.5) / 2 + (0.25 * 1 + 0.75 * 0.5) / 2)
    drawn = quantile_huber_loss(torch.tensor([[0.0, 2.0]] * 2), midpoints(2).expand(2, 2), torch.tensor([[0.5, 3]] * 2))
    assert drawn.tolist() == pytest.approx([loss.item()] * 2)


def test_greedy_and_take() -> None:
    q = torch.tensor([[1.0, 5.0, 2.0], [4.0, 0.0, -1.0]])
    mask = torch.tensor([[True, False, True], [False, True, True]])
    assert greedy(q, None).tolist() == [1, 0]
    assert greedy(q, mask).tolist() == [2, 1]
    z = torch.arange(12).view(2, 3, 2)
    assert take(z, torch.tensor([2, 0])).tolist() == [[4, 5], [6, 7]]


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("value", ["c51", "qr"])
def test_weights_masks_and_double_enter_distributional_losses(journal: Journal, value: str, double: bool) -> None:
    a = agent(journal, value=value, double=double, atoms=7, quantiles=5)
    with torch.no_grad():
        for p in a.target.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    b = batch(mask=True)
    weight = torch.rand(16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        here, there = a.online(b.obs), a.target(b.next_obs)
        chooser = a.online.q_values(a.online(b.next_obs)) if double else a.target.q_values(there)
        total = 0.0
        for i in range(16):
            allowed = [j for j in range(4) if b.next_mask[i, j]] or [0]
            best = max(allowed, key=lambda j: float(chooser[i, j]))
            r, d, z, now = b.reward[i], b.discount[i], there[i, best], here[i, b.action[i]]
            if value == "c51":
                m = torch.from_numpy(naive_projection(z.softmax(0).double().numpy(), float(r), float(d), -10, 10))
                loss = torch.special.xlogy(m, m).sum() - (m * now.log_softmax(0)).sum()
            else:
                loss = torch.zeros(())
                for k in range(5):
                    for target in r + d * z:
                        u = target - now[k]
                        huber = 0.5 * u**2 if u.abs() <= 1 else u.abs() - 0.5
                        loss += abs((2 * k + 1) / 10 - float(u < 0)) * huber / 5
            total += float(weight[i] * loss)
    loss, _, priority = a.loss(b._replace(weight=weight))
    assert loss.item() == pytest.approx(total / 16, rel=1e-4)
    assert float((priority * weight).mean()) == pytest.approx(total / 16, rel=1e-4)  # priorities are not weighted


def test_qr_update_equals_sb3_contrib(journal: Journal) -> None:
    """Same weights, same batch: loss and the weights after a step agree to 1e-6."""
    contrib = pytest.importorskip("sb3_contrib")
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.type_aliases import ReplayBufferSamples

    class Env(gym.Env):  # only spaces: the peer never steps it
        observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
        action_space = gym.spaces.Discrete(4)

    peer = contrib.QRDQN(
        "MlpPolicy", Env(), policy_kwargs={"net_arch": [256, 256], "n_quantiles": 9}, learning_rate=1e-3, gamma=0.9,
        batch_size=16, max_grad_norm=0.5, device="cpu",
    )  # fmt: skip
    peer.set_logger(Logger(None, []))
    a = agent(
        journal, value="qr", quantiles=9, gamma=0.9, learning_rate=1e-3, final_learning_rate=1e-3, max_grad_norm=0.5
    )
    for group in peer.policy.optimizer.param_groups:
        group["eps"] = 1e-8
    # sb3-contrib lays its last layer out by quantile, then action; this lab by action, then quantile.
    order = torch.arange(36).view(9, 4).T.reshape(-1)
    pairs = []
    for ours, theirs in ((a.online, peer.quantile_net), (a.target, peer.quantile_net_target)):
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            with torch.no_grad():
                q.add_(0.01 * (ours is a.target))
                last = q.shape[0] == 36
                p.copy_(q[order] if last else q)
            if ours is a.online:
                pairs.append((p, q, last))
    b = batch()
    done = (b.discount == 0).float().unsqueeze(1)
    samples = ReplayBufferSamples(b.obs, b.action.unsqueeze(1), b.next_obs, done, b.reward.unsqueeze(1))
    peer.replay_buffer.sample = lambda *args, **kwargs: samples
    peer._n_updates = 0
    peer.train(gradient_steps=1, batch_size=16)
    metrics = a.update(b)
    assert metrics["loss"] == pytest.approx(peer.logger.name_to_value["train/loss"], rel=1e-6)  # two steps of a float32
    for p, q, last in pairs:
        torch.testing.assert_close(p, q[order] if last else q, atol=1e-6, rtol=0)


def test_a_support_must_be_an_interval() -> None:
    with pytest.raises(RlabError, match="--v-min is 10"):
        QConfig(value="c51", v_min=10.0, v_max=10.0)
