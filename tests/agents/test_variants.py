"""The parts of a DQN together: what noise, fractions and Munchausen do to its targets, and what cannot be combined."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rlab.agents.value.config import PARTS, PRESETS, VECTOR_PRESETS, QConfig
from rlab.agents.value.distributions import quantile_huber_loss
from rlab.agents.value.returns import log_policy, munchausen_reward, soft_value
from rlab.errors import RlabError
from rlab.run.checkpoint import digest
from rlab.run.contract import Stop
from rlab.run.journal import Journal
from tests.agents.test_dqn import agent, batch, step


def test_munchausen_by_hand() -> None:
    """Q = 0 and ln 3 at temperature 1: pi = 1/4, 3/4. Soft value: ln(1 + 3), as tau logsumexp(q / tau) says."""
    q = torch.tensor([[0.0, np.log(3.0)]])
    log_pi = log_policy(q, 1.0, None)
    assert log_pi.exp().tolist()[0] == pytest.approx([0.25, 0.75])
    assert soft_value(q, log_pi, 1.0, None).item() == pytest.approx(np.log(4))
    rewards = [munchausen_reward(log_pi, torch.tensor([a]), 0.9, 1.0, -1.0).item() for a in (0, 1)]
    assert rewards == pytest.approx([0.9 * -1.0, 0.9 * np.log(0.75)])  # ln .25 = -1.39 is clipped
    quantiles = torch.stack([q, q + 1], dim=2)
    assert soft_value(quantiles, log_pi, 1.0, None).tolist()[0] == pytest.approx([np.log(4), np.log(4) + 1])


def test_masks_enter_the_soft_policy() -> None:
    q = torch.tensor([[0.0, np.log(3.0), 99.0], [1.0, 2.0, 3.0], [5.0, 6.0, 7.0]])
    mask = torch.tensor([[True, True, False], [False, True, False], [False, False, False]])
    log_pi = log_policy(q, 1.0, mask)
    value = soft_value(q, log_pi, 1.0, mask)
    assert value.tolist() == pytest.approx([np.log(4), 2.0, 0.0])  # the last row has no action: a finite number
    assert munchausen_reward(log_pi, torch.tensor([1, 1, 0]), 1.0, 1.0, -1.0)[1].item() == 0


def test_the_soft_value_of_a_cold_policy_is_the_maximum() -> None:
    q = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(soft_value(q, log_policy(q, 1e-4, None), 1e-4, None), q.amax(1), atol=2e-4, rtol=0)


@pytest.mark.parametrize("value", ["expected", "qr", "iqn"])
def test_the_munchausen_target_is_put_together_right(journal: Journal, value: str) -> None:
    a, b = agent(journal, munchausen=True, value=value, quantiles=5, taus=3, act_taus=6), batch(mask=True)
    b = b._replace(mask=torch.ones(16, 4, dtype=torch.bool))
    taus = a.draw_taus(16)
    with torch.no_grad():
        target = a.target_of(b, None if taus is None else taus[1])
        now = a.target.q_values(a.target(b.obs))
        then = a.target.q_values(a.target(b.next_obs))
        for i in range(16):
            bonus = 0.9 * max(-1.0, float(0.03 * (now[i] / 0.03).log_softmax(0)[b.action[i]]))
            allowed = [j for j in range(4) if b.next_mask[i, j]]
            z = a.target(b.next_obs[i : i + 1], None if taus is None else taus[1, i : i + 1])[0]  # [A] or [A, K]
            pi = (then[i, allowed] / 0.03).softmax(0)
            soft = sum(p * (z[j] - 0.03 * p.log()) for p, j in zip(pi, allowed, strict=True) if p > 0)
            following = b.discount[i] * soft if b.discount[i] > 0 else torch.zeros_like(target[i])
            expected = b.reward[i] + bonus + following
            torch.testing.assert_close(target[i], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("double", [False, True])
def test_the_iqn_loss_is_put_together_right(journal: Journal, double: bool) -> None:
    a, b = agent(journal, value="iqn", taus=3, act_taus=6, double=double), batch(mask=True)
    taus = a.draw_taus(16)
    assert taus is not None
    assert taus.shape == (2, 16, 3)
    with torch.no_grad():
        for p in a.target.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
        chooser = (a.online if double else a.target).q_values((a.online if double else a.target)(b.next_obs))
        chosen = torch.where(b.next_mask, chooser, -torch.inf).argmax(1)
        z = a.target(b.next_obs, taus[1])[torch.arange(16), chosen]
        now = a.online(b.obs, taus[0])[torch.arange(16), b.action]
        expected = quantile_huber_loss(now, taus[0], b.reward[:, None] + b.discount[:, None] * z)
    loss, _, priority = a.loss(b, taus)
    torch.testing.assert_close(priority, expected)
    assert loss.item() == pytest.approx(expected.mean().item(), rel=1e-5)


def test_noise_is_new_at_every_act_and_update_and_absent_in_evaluations(journal: Journal) -> None:
    a = agent(journal, explore="noisy", epsilon_start=0.0, epsilon_end=0.0, hidden=8)
    obs = np.random.default_rng(0).random((2, 3), np.float32)
    values = []
    for _ in range(2):
        a.act(obs, np.zeros(2, bool), None)
        values.append(a.online.predict(obs, noise=True))
    assert not np.array_equal(*values)
    plain = a.policy(0).values(obs)
    a.act(obs, np.zeros(2, bool), None)
    np.testing.assert_array_equal(a.policy(1).values(obs), plain)
    a.update(batch())
    first, other = a.online.noisy_layers[0], a.target.noisy_layers[0]
    assert not first.e_in.equal(other.e_in)
    assert first.weight_sigma.grad is not None
    assert first.weight_sigma.grad.abs().sum() > 0


@pytest.mark.parametrize("settings", [{"explore": "noisy", "epsilon_start": 0.0}, {"value": "iqn"}], ids=str)
def test_noise_and_fractions_are_part_of_the_state(journal: Journal, settings: dict[str, Any]) -> None:
    a = agent(journal, batch_size=4, train_every=2, **settings)
    for _ in range(5):
        a.learn(step())
    before = a.state()
    again = agent(journal, batch_size=4, train_every=2, **settings)
    again.restore(before, Stop())
    assert digest(again.state()) == digest(before)
    one, other = (x.update(batch()) for x in (a, again))
    assert one == other
    assert digest(again.state()) == digest(a.state())
    assert not a.generator.get_state().equal(torch.Generator().manual_seed(0).get_state())


def test_a_plain_dqn_draws_no_noise_and_saves_none(journal: Journal) -> None:
    a = agent(journal)
    before = a.generator.get_state()
    a.act(np.zeros((2, 3), np.float32), np.zeros(2, bool), None)
    a.update(batch())
    assert a.generator.get_state().equal(before)
    assert set(a.state()) == {"online", "target", "optimizer", "rng", "steps", "updates", "memory"}
    assert set(a.state()["memory"]) == {"written", "starting", "rows"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"munchausen": True, "double": True}, "--munchausen and --double .* nearest: --munchausen --no-double"),
        ({"munchausen": True, "value": "c51"}, "--munchausen and --value c51 .* nearest: --munchausen --value iqn"),
        ({"munchausen": True, "munchausen_temperature": 0.0}, "--munchausen-temperature is 0"),
        ({"munchausen": True, "munchausen_clip": 1.0}, "--munchausen-clip"),
        ({"priority_alpha": 1.5}, "--priority-alpha is 1.5"),
        ({"atoms": 1}, "--atoms is 1"),
    ],
    ids=str,
)
def test_what_cannot_be_combined_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RlabError, match=message):
        QConfig(**settings)


@pytest.mark.parametrize("name", sorted(PARTS))
def test_every_part_of_a_preset_can_be_switched_by_itself(name: str) -> None:
    """Item 274: nothing but Munchausen's two refusals stands in the way of an ablation."""
    switches: list[dict[str, Any]] = [
        {"double": True}, {"double": False}, {"dueling": False}, {"n_step": 2}, {"replay": "uniform"},
        {"replay": "prioritised"}, {"explore": "epsilon"}, {"explore": "noisy"}, {"munchausen": False},
        *({"value": v} for v in ("expected", "c51", "qr", "iqn")),
    ]  # fmt: skip
    for preset in (PRESETS[name], VECTOR_PRESETS[name]):
        for switch in switches:
            if preset.munchausen and (switch.get("double") or switch.get("value") == "c51"):
                continue
            replace(preset, **switch)
