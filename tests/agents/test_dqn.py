"""Targets and losses by hand and against stable-baselines3; exploration; halting at NaN."""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rlab.agents.types import Step, Transitions
from rlab.agents.value.config import QConfig
from rlab.agents.value.dqn import DQN
from rlab.agents.value.exploration import epsilon_greedy, linear
from rlab.agents.value.replay import Replay
from rlab.agents.value.returns import bootstrap, double_next_value, next_value
from rlab.errors import RlabError
from rlab.run.contract import NonFinite
from rlab.run.journal import Journal
from tests.agents.helpers import agent_context, learner


def agent(journal: Journal, **settings: object) -> DQN:
    defaults = {"num_envs": 2, "memory_size": 100, "learning_starts": 0, "batch_size": 8, "precision": "fp32"}
    config = QConfig(**(defaults | settings))
    return DQN(config, agent_context(journal))


def batch(seed: int = 0, size: int = 16, mask: bool = False) -> Transitions:
    g = torch.Generator().manual_seed(seed)
    return Transitions(
        obs=torch.rand(size, 3, generator=g) * 2 - 1,
        action=torch.randint(0, 4, (size,), generator=g),
        reward=torch.randn(size, generator=g) * 3,
        discount=0.9 * (torch.rand(size, generator=g) < 0.7).float(),
        next_obs=torch.rand(size, 3, generator=g) * 2 - 1,
        next_mask=torch.rand(size, 4, generator=g) < 0.6 if mask else None,
        weight=None,
        index=np.arange(size),
    )


def test_targets_by_hand() -> None:
    """Items 270, 271: the maximum of the target network, and its value of the online network's choice."""
    target = torch.tensor([[1.0, 5.0, 2.0], [4.0, 0.0, -1.0], [7.0, 8.0, 9.0]])
    online = torch.tensor([[9.0, 0.0, 0.0], [0.0, 1.0, 3.0], [0.0, 0.0, 1.0]])
    mask = torch.tensor([[True, False, True], [False, True, True], [True, True, True]])
    assert next_value(target, None).tolist() == [5, 4, 9]
    assert next_value(target, mask).tolist() == [2, 0, 9]
    assert double_next_value(target, online, None).tolist() == [1, -1, 9]
    assert double_next_value(target, online, mask).tolist() == [1, -1, 9]
    reward, discount = torch.tensor([1.0, -1.0, 2.0]), torch.tensor([0.5, 0.0, 0.81])
    assert bootstrap(reward, discount, next_value(target, mask)).tolist() == pytest.approx([2.0, -1.0, 9.29])


def test_a_zero_discount_shuts_out_even_a_forbidden_or_infinite_value() -> None:
    reward, discount = torch.tensor([1.0, 1.0]), torch.tensor([0.0, 0.0])
    assert bootstrap(reward, discount, torch.tensor([torch.inf, torch.nan])).tolist() == [1, 1]


def test_loss_and_gradient_by_hand(journal: Journal) -> None:
    """One linear unit: Q(s, a) = w_a s, target Q'(s', a) = v_a s'; Huber is quadratic below 1, linear above."""
    a = agent(journal)
    b = batch(size=2)._replace(
        action=torch.tensor([0, 1]),
        reward=torch.tensor([1.0, 10.0]),
        discount=torch.tensor([0.5, 0.0]),
    )
    with torch.no_grad():
        for p in a.online.parameters():
            p.zero_()
        for p in a.target.parameters():
            p.zero_()
        a.online.head.values.bias.copy_(torch.tensor([0.2, 0.0, 0.0, 0.0]))
        a.target.head.values.bias.copy_(torch.tensor([1.0, 2.0, 0.0, 0.0]))
    loss, q_mean, _ = a.loss(b)
    # errors: 1 + 0.5 * 2 - 0.2 = 1.8 -> 1.3;  10 - 0 = 10 -> 9.5
    assert loss.item() == pytest.approx((1.3 + 9.5) / 2)
    assert float(q_mean) == pytest.approx(0.1)
    loss.backward()
    # the derivative of the linear part is -1 for each, halved by the mean
    assert a.online.head.values.bias.grad.tolist() == pytest.approx([-0.5, -0.5, 0, 0])


@pytest.mark.parametrize("double", [False, True])
def test_weights_and_masks_enter_the_loss(journal: Journal, double: bool) -> None:
    a, b = agent(journal, double=double), batch(mask=True)
    with torch.no_grad():
        q, q_next, q_choice = a.online(b.obs), a.target(b.next_obs), a.online(b.next_obs)
        weight = torch.rand(16)
        total = 0.0
        for i in range(16):  # a naive loop
            allowed = [j for j in range(4) if b.next_mask[i, j]] or list(range(4))
            chooser = q_choice if double else q_next
            best = max(allowed, key=lambda j: float(chooser[i, j]))
            value = float(q_next[i, best]) if b.next_mask[i].any() else float(torch.finfo(torch.float32).min)
            target = float(b.reward[i]) + (float(b.discount[i]) * value if b.discount[i] != 0 else 0.0)
            error = abs(float(q[i, b.action[i]]) - target)
            total += float(weight[i]) * (0.5 * error**2 if error < 1 else error - 0.5)
        rows = b.next_mask.any(dim=1) | (b.discount == 0)
        assert rows.all(), "choose a batch in which every successor has an action"
    loss, _, _ = a.loss(b._replace(weight=weight))
    assert loss.item() == pytest.approx(total / 16, rel=1e-5)


def test_update_equals_stable_baselines3(journal: Journal) -> None:
    """Item 270: same weights, same batch: loss, gradient and the weights after a step agree to 1e-6."""
    from stable_baselines3 import DQN as Peer
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.type_aliases import ReplayBufferSamples

    class Env(gym.Env):  # only spaces: the peer never steps it
        observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
        action_space = gym.spaces.Discrete(4)

    peer = Peer(
        "MlpPolicy", Env(), policy_kwargs={"net_arch": [256, 256]}, learning_rate=1e-3, gamma=0.9, batch_size=16,
        max_grad_norm=0.5, device="cpu",
    )  # fmt: skip
    a = agent(journal, gamma=0.9, learning_rate=1e-3, final_learning_rate=1e-3, adam_epsilon=1e-8, max_grad_norm=0.5)
    peer.set_logger(Logger(None, []))
    with torch.no_grad():
        for ours, theirs in ((a.online, peer.q_net), (a.target, peer.q_net_target)):
            for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
                p.copy_(q + 0.01 * (ours is a.target))
                q.copy_(p)
    b = batch()
    done = (b.discount == 0).float().unsqueeze(1)
    samples = ReplayBufferSamples(b.obs, b.action.unsqueeze(1), b.next_obs, done, b.reward.unsqueeze(1))
    peer.replay_buffer.sample = lambda *args, **kwargs: samples  # type: ignore[method-assign]
    peer._n_updates = 0
    peer.train(gradient_steps=1, batch_size=16)
    with torch.no_grad():
        q_next = peer.q_net_target(b.next_obs).max(dim=1).values
    q_before = a.online(b.obs).gather(1, b.action.unsqueeze(1)).squeeze(1)
    expected_loss = F.smooth_l1_loss(q_before, b.reward + (1 - done.squeeze(1)) * 0.9 * q_next)
    metrics = a.update(b)
    assert metrics["loss"] == pytest.approx(expected_loss.item(), abs=1e-6)
    assert metrics["loss"] == pytest.approx(peer.logger.name_to_value["train/loss"], abs=1e-6)
    for p, q in zip(a.online.parameters(), peer.q_net.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-6, rtol=0)


def test_epsilon_coins_are_independent_and_respect_masks() -> None:
    rng = np.random.default_rng(0)
    greedy = np.zeros(20_000, np.int64)
    actions = epsilon_greedy(greedy, 0.4, None, 4, rng)
    # 0.4 * 3/4 of them differ from the greedy one; 5 standard deviations
    assert abs((actions != 0).mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 20_000)
    mask = np.tile([True, False, True, False], (20_000, 1))
    actions = epsilon_greedy(greedy, 1.0, mask, 4, rng)
    assert set(actions) == {0, 2}
    assert abs((actions == 2).mean() - 0.5) < 5 * 0.5 / np.sqrt(20_000)
    assert (epsilon_greedy(greedy, 0.0, None, 4, rng) == 0).all()


def test_schedules_read_steps() -> None:
    assert [linear(1.0, 0.1, d, 90) for d in (0, 45, 90, 1000)] == pytest.approx([1, 0.55, 0.1, 0.1])
    assert linear(1.0, 0.1, 0, 0) == 0.1


def step(n: int = 2, reward: float = 0.0) -> Step:
    obs = np.random.default_rng(0).random((n, 3), np.float32)
    return Step(
        obs, np.zeros(n, np.int64), np.full(n, reward, np.float32), np.ones(n, np.float32), np.zeros(n, bool), obs,
        None, None,
    )  # fmt: skip


def test_epsilon_of_an_agent(journal: Journal) -> None:
    a = agent(journal, learning_starts=100, epsilon_fraction=0.1, epsilon_end=0.2, train_every=1000)
    seen = []
    for _ in range(110):
        seen.append((a.steps, a.epsilon))
        a.learn(step())
    by_steps = dict(seen)
    assert by_steps[0] == by_steps[98] == by_steps[100] == 1.0
    assert by_steps[150] == pytest.approx(0.6)
    assert by_steps[200] == pytest.approx(0.2)


def test_updates_and_target_copies_fall_where_the_schedule_says(journal: Journal) -> None:
    a = agent(journal, learning_starts=20, train_every=8, target_every=32, num_envs=2)
    updates, copies = [], []
    for _ in range(60):
        before = [p.clone() for p in a.target.parameters()]
        count = a.updates
        a.learn(step())
        if a.updates != count:
            updates.append(a.steps)
        if any(not torch.equal(p, q) for p, q in zip(before, a.target.parameters(), strict=True)):
            copies.append(a.steps)
    assert updates == list(range(24, 121, 8))
    assert copies == [32, 64, 96]


def test_more_environments_than_steps_between_updates_keep_the_ratio(journal: Journal) -> None:
    a = agent(journal, num_envs=16, train_every=4, learning_starts=0, memory_size=1000)
    for _ in range(10):
        a.learn(step(16))
    assert a.updates == pytest.approx(10 * 16 / 4, abs=3 * 4)  # but for the first steps, when nothing is complete


@pytest.mark.parametrize(("quantity", "poison"), [("loss", "reward"), ("gradient", "gradient")])
def test_nan_halts_and_is_named(journal: Journal, quantity: str, poison: str) -> None:
    a = agent(journal)
    b = batch()
    if poison == "reward":
        b = b._replace(reward=b.reward.clone().fill_(torch.nan))
    else:
        next(a.online.parameters()).register_hook(lambda g: g * torch.inf)
    with pytest.raises(NonFinite) as caught:
        a.update(b)
    assert caught.value.quantity == quantity


def test_the_memory_must_hold_a_window() -> None:
    with pytest.raises(RlabError, match="memory-size"):
        QConfig(memory_size=10)


def test_bf16_encoder_keeps_values_in_fp32_and_learns_like_fp32(journal: Journal) -> None:
    space = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    obs = np.random.default_rng(0).integers(0, 255, (8, 4, 84, 84)).astype(np.uint8)
    q = {}
    for precision in ("fp32", "bf16"):
        a = DQN(QConfig(precision=precision, memory_size=200, num_envs=2), agent_context(journal, space, frame_stack=4))
        q[precision] = a.online.predict(obs)
    assert q["bf16"].dtype == np.float32
    np.testing.assert_allclose(q["bf16"], q["fp32"], atol=0.02 * np.abs(q["fp32"]).max() + 0.005)
    assert not np.array_equal(q["bf16"], q["fp32"])


def test_discrete_observations_are_one_hot(journal: Journal) -> None:
    a = DQN(QConfig(memory_size=200, num_envs=2), agent_context(journal, gym.spaces.Discrete(5), 3))
    q = a.online.predict(np.array([0, 3, 3]))
    assert q.shape == (3, 3)
    assert np.array_equal(q[1], q[2])
    assert not np.array_equal(q[0], q[1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own compiler still uses it
def test_the_compiled_loss_is_the_same_loss(journal: Journal) -> None:
    """What a GPU captures, compiled for the CPU here (needs a C++ compiler)."""
    a = agent(journal, compile="on")
    b = batch()
    eager, _, _ = a.loss(b)
    compiled, _, _ = a._loss(b)
    assert compiled.item() == pytest.approx(eager.item(), rel=1e-5)
    compiled.backward()
    gradients = [p.grad.clone() for p in a.online.parameters()]
    a.optimizer.zero_grad()
    eager.backward()
    for p, g in zip(a.online.parameters(), gradients, strict=True):
        torch.testing.assert_close(p.grad, g, atol=1e-6, rtol=1e-4)


def test_greedy_action_takes_five_calls(journal: Journal) -> None:
    """Functions of rlab from `act` to the network's `forward`: each of them costs every step of every evaluation."""
    policy, obs, first = agent(journal).policy(0), np.zeros((2, 3), np.float32), np.zeros(2, bool)
    calls: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and f"{os.sep}rlab{os.sep}" in frame.f_code.co_filename:
            calls.append(frame.f_code.co_qualname)

    sys.setprofile(note)
    try:
        policy.act(obs, first, None)
    finally:
        sys.setprofile(None)
    assert calls[0] == "QPolicy.act"
    assert calls.index("QNetwork.forward") < 5, calls


@pytest.mark.parametrize("recipe", ["dqn", "prioritized-dqn", "drqn"])
def test_windows_are_computed_once_a_sample(recipe: str, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    run = learner(journal, recipe, num_envs=2, learning_starts=1_000, batch_size=8)
    while run.done < 80:
        run.step()
    valid, windows = [], Replay.windows

    def note(*given: Any) -> Any:
        found = windows(*given)
        valid.append(int(found[0].sum()))
        return found

    monkeypatch.setattr(Replay, "windows", note)
    c = run.agent.config
    batch = run.agent.memory.sample(np.random.default_rng(0), 8, c.n_step, c.gamma)
    assert sum(valid) == len(batch.action)
    run.close()
