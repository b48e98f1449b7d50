"""Returns and advantages by hand and against stable-baselines3; distributions; probes; continuous actions; resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlab.agents.interaction import Interaction
from rlab.agents.policy.config import POLICY_PRESETS, POLICY_VECTOR_PRESETS, PolicyConfig
from rlab.agents.policy.policy_gradient import PolicyGradient, Rollout
from rlab.agents.value.returns import discounted_returns, gae
from rlab.envs import make_vec
from rlab.errors import RlabError
from rlab.nn.heads.policy import Categorical, CategoricalHead, Gaussian, GaussianHead
from rlab.registry import RECIPES
from rlab.run.checkpoint import Checkpoints, digest
from rlab.run.contract import NonFinite, Stop
from rlab.run.journal import Journal
from tests.agents.helpers import agent_context, learner

NO = torch.tensor([[False], [False], [False]])


def column(*numbers: float) -> torch.Tensor:
    """[T, 1]."""
    return torch.tensor(numbers, dtype=torch.float32).unsqueeze(1)


def test_returns_by_hand() -> None:
    reward, discount = column(1, 2, 3), column(0.5, 0.5, 0.5)
    # 3; 2 + 1.5; 1 + 1.75
    assert discounted_returns(reward, discount, NO).flatten().tolist() == [2.75, 3.5, 3]
    # a rollout that ends in mid-episode takes the value 10: 3 + 5; 2 + 4; 1 + 3
    assert discounted_returns(reward, discount, NO, column(0, 0, 10)).flatten().tolist() == [4, 6, 8]
    # the stream breaks after the second step, truncated there: 2 + 0.5 * 8 = 6; 1 + 3
    last = torch.tensor([[False], [True], [False]])
    assert discounted_returns(reward, discount, last, column(0, 8, 10)).flatten().tolist() == [4, 6, 8]
    # a lost life: the discount is 0, the stream goes on; what follows is not counted
    assert discounted_returns(reward, column(0.5, 0, 0.5), NO, column(9, 9, 10)).flatten().tolist() == [2, 2, 8]


def test_gae_by_hand() -> None:
    reward, value, following = column(1, 2, 3), column(4, 5, 6), column(5, 6, 10)
    discount = column(0.5, 0.5, 0.5)
    # errors: 1 + 2.5 - 4 = -0.5;  2 + 3 - 5 = 0;  3 + 5 - 6 = 2
    assert gae(reward, discount, NO, value, following, 0.0).flatten().tolist() == [-0.5, 0, 2]
    # lambda 0.5, so each step counts 0.25 of the next: 2; 0 + 0.5; -0.5 + 0.125
    assert gae(reward, discount, NO, value, following, 0.5).flatten().tolist() == [-0.375, 0.5, 2]
    # lambda 1 is the return less the value
    returns = discounted_returns(reward, discount, NO, following)
    torch.testing.assert_close(gae(reward, discount, NO, value, following, 1.0), returns - value)
    # terminated after the second step: error 2 - 5 = -3, whatever stands behind
    last, over = torch.tensor([[False], [True], [False]]), column(0.5, 0, 0.5)
    assert gae(reward, over, last, value, column(5, 99, 10), 0.5).flatten().tolist() == [-1.25, -3, 2]
    # truncated there: the final observation's value 8 counts, the next episode does not: 2 + 4 - 5 = 1
    assert gae(reward, discount, last, value, column(5, 8, 10), 0.5).flatten().tolist() == [-0.25, 1, 2]


def test_gae_equals_stable_baselines3() -> None:
    """Terminations, and truncations, which the library turns into a reward of gamma V(final)."""
    from stable_baselines3.common.buffers import RolloutBuffer

    rng = np.random.default_rng(0)
    t, n, gamma, trace = 40, 3, 0.9, 0.8
    reward, value = rng.normal(size=(2, t, n)).astype(np.float32)
    final, after = rng.normal(size=(2, t, n)).astype(np.float32)
    last = rng.random((t, n)) < 0.2
    over = last & (rng.random((t, n)) < 0.5)
    box = gym.spaces.Box(-1, 1, (1,), np.float32)
    peer = RolloutBuffer(t, box, box, "cpu", trace, gamma, n)
    started = np.ones(n)
    for i in range(t):
        paid = reward[i] + gamma * final[i] * (last[i] & ~over[i])
        zeros = np.zeros((n, 1), np.float32)
        peer.add(zeros, zeros, paid, started, torch.from_numpy(value[i]), torch.zeros(n))
        started = last[i]
    peer.compute_returns_and_advantage(torch.from_numpy(after[-1]), last[-1])
    next_value = np.concatenate([value[1:], after[-1:]])
    next_value[last] = final[last]
    discount = (gamma * ~over).astype(np.float32)
    ours = gae(*(torch.from_numpy(x) for x in (reward, discount, last, value, next_value)), trace)
    np.testing.assert_allclose(ours.numpy(), peer.advantages, atol=1e-5)


def test_distributions_equal_torchs() -> None:
    g = torch.Generator().manual_seed(0)
    logits, action = torch.randn(6, 4, generator=g), torch.tensor([0, 1, 2, 3, 0, 1])
    ours = Categorical(torch.log_softmax(logits, 1))
    theirs = torch.distributions.Categorical(logits=logits)
    torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    mean, log_std, real = torch.randn(6, 2, generator=g), torch.tensor([0.3, -1.0]), torch.randn(6, 2, generator=g)
    normal = torch.distributions.Normal(mean, log_std.exp())
    torch.testing.assert_close(Gaussian(mean, log_std).log_prob(real), normal.log_prob(real).sum(1))
    torch.testing.assert_close(Gaussian(mean, log_std).entropy(), normal.entropy().sum(1))
    assert torch.equal(Gaussian(mean, log_std).sample(torch.zeros(6, 2)), mean)


def test_samples_have_the_right_frequencies_and_masks_are_never_broken() -> None:
    """Item 267: a policy is a probability of each action."""
    p = torch.tensor([0.5, 0.3, 0.2])
    drawn = Categorical(p.log().expand(20_000, 3)).sample(torch.rand(20_000, 3, generator=torch.manual_seed(0)))
    # 5 standard deviations of a proportion
    assert torch.all((torch.bincount(drawn, minlength=3) / 20_000 - p).abs() < 5 * (p * (1 - p) / 20_000).sqrt())
    head = CategoricalHead(2, 3)
    mask = torch.tensor([[True, False, True]]).expand(1_000, 3)
    policy = head(torch.randn(1_000, 2), mask)
    assert 1 not in policy.sample(torch.rand(1_000, 3))
    assert torch.isfinite(policy.entropy()).all()
    policy.entropy().sum().backward()
    assert all(torch.isfinite(q.grad).all() for q in head.parameters())
    # uniform numbers at the edges of [0, 1) are no trouble
    assert policy.sample(torch.zeros(1_000, 3)).max() <= 2


def agent(actions: gym.Space[Any] | None = None, **settings: Any) -> PolicyGradient:
    config = PolicyConfig(**({"num_envs": 2, "rollout": 3} | settings))
    return PolicyGradient(config, agent_context(actions=actions or 4))


def rollout(rng: np.random.Generator, t: int = 3, n: int = 2) -> Rollout:
    last = np.zeros((t, n), bool)
    last[0, 0] = True
    return Rollout(
        obs=rng.random((t, n, 3), np.float32),
        action=rng.integers(0, 4, (t, n)),
        reward=rng.random((t, n), np.float32),
        discount=np.ones((t, n), np.float32),
        last=last,
        final_obs=rng.random((1 + n, 3), np.float32),
        mask=None,
    )


def test_the_gradient_is_that_of_the_published_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Item 267: the expected return's gradient, against a naive loop over steps; in chunks of any size the same."""
    r = rollout(np.random.default_rng(0))
    gradients = []
    for chunk in (4, 1_024):
        monkeypatch.setattr("rlab.agents.policy.policy_gradient.CHUNK", chunk)
        a = agent(gae_lambda=0.5, entropy_coef=0.1, max_grad_norm=1e9, learning_rate=0.0)
        a.update(r)
        gradients.append([p.grad.clone() for p in a.network.parameters()])
    advantage, target = a.advantages(r)
    a.optimizer.zero_grad()
    total = torch.zeros(())
    for t in range(3):
        for i in range(2):
            policy, value = a.network(torch.from_numpy(r.obs[t, i])[None], None)
            assert value is not None
            log_p = policy.log_p[0]
            entropy = -(log_p.exp() * log_p).sum()
            total = total - log_p[r.action[t, i]] * advantage[t, i] - 0.1 * entropy + 0.5 * (value - target[t, i]) ** 2
    (total.sum() / 6).backward()
    for p, first, second in zip(a.network.parameters(), *gradients, strict=True):
        torch.testing.assert_close(first, p.grad, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(second, p.grad, atol=1e-6, rtol=1e-4)


def test_a_truncation_takes_the_final_observations_value_and_never_the_next_episodes() -> None:
    a = agent(gae_lambda=0.0, gamma=0.9)
    r = rollout(np.random.default_rng(1))
    advantage, _ = a.advantages(r)
    with torch.no_grad():
        v, final = (
            a.network.value(torch.from_numpy(r.obs.reshape(6, 3))),
            a.network.value(torch.from_numpy(r.final_obs)),
        )
    assert advantage[0, 0].item() == pytest.approx(r.reward[0, 0] + 0.9 * final[0].item() - v[0].item(), abs=1e-6)
    assert advantage[0, 1].item() == pytest.approx(r.reward[0, 1] + 0.9 * v[3].item() - v[1].item(), abs=1e-6)
    assert advantage[2, 1].item() == pytest.approx(r.reward[2, 1] + 0.9 * final[2].item() - v[5].item(), abs=1e-6)


@pytest.mark.parametrize("preset", sorted(POLICY_PRESETS))
def test_presets_are_values_of_one_agent(preset: str) -> None:
    for config in (POLICY_PRESETS[preset], POLICY_VECTOR_PRESETS[preset]):
        assert (config.value_coef == 0) == (preset == "reinforce")
        assert (config.rollout_unit == "episodes") == preset.startswith("reinforce")
        assert (config.gae_lambda == 0) == (preset == "actor-critic")
    a = agent(**vars(replace(POLICY_VECTOR_PRESETS[preset])))
    assert (a.network.value_head is None) == (preset == "reinforce")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"value_coef": 0.0}, "--rollout-unit is 'steps'"),
        ({"value_coef": 0.0, "gae_lambda": 0.9}, "--gae-lambda is 0.9"),
        ({"value_coef": 0.0, "num_envs": 1, "rollout_unit": "episodes", "share_encoder": False}, "--no-share-encoder"),
        ({"rollout_unit": "episodes"}, "--num-envs is 16"),
        ({"gamma": 1.5}, "--gamma is 1.5"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RlabError, match=words):
        PolicyConfig(**settings)


PROBE = {"gamma": 0.8, "learning_rate": 3e-3, "final_learning_rate": 1e-4, "max_grad_norm": 100.0, "entropy_coef": 0.0}


def trained(journal: Journal, probe: str, **settings: Any) -> Interaction:
    run = learner(journal, "a2c", probe, **({"steps": 6_000, "num_envs": 4, "rollout": 8} | PROBE | settings))
    while not run.progress().finished:
        run.step()
    return run


def value_of(run: Interaction, obs: float) -> float:
    with torch.inference_mode():
        return float(run.agent.network.value(torch.tensor([[obs]]))[0])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("probe", "values"),
    [
        ("rlab/Probe2-v0", {-1.0: -1.0, 1.0: 1.0}),
        ("rlab/Probe3-v0", {0.0: 0.8, 1.0: 1.0}),
        ("rlab/ProbeTruncation-v0", {0.0: 5.0}),
        ("rlab/ProbeMask-v0", {0.0: 1.8, 1.0: 1.0}),
    ],
)
def test_values_are_right(journal: Journal, probe: str, values: dict[float, float]) -> None:
    run = trained(journal, probe)
    for obs, value in values.items():
        assert value_of(run, obs) == pytest.approx(value, abs=0.1)
    run.close()


@pytest.mark.parametrize("recipe", ["reinforce", "actor-critic"])
def test_the_policy_sees_what_pays(journal: Journal, recipe: str) -> None:
    """Probe 5: action 1 for +1, action 0 for -1."""
    steps = 2_000 if recipe == "reinforce" else 6_000
    run = learner(journal, recipe, "rlab/Probe5-v0", steps=steps, learning_rate=3e-3, final_learning_rate=3e-3)
    while not run.progress().finished:
        run.step()
    with torch.inference_mode():
        log_p = run.agent.network.policy(torch.tensor([[-1.0], [1.0]]), None).log_p  # type: ignore[attr-defined]
    assert log_p.exp()[0, 0] > 0.9
    assert log_p.exp()[1, 1] > 0.9
    run.close()


class Aim(gym.Env[Any, Any]):
    """One number as the action, one step: pays -(a - 0.5 obs)^2, so the best mean is 0.5 obs."""

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
        self.action_space = gym.spaces.Box(-2, 2, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.now = self.np_random.choice([-1.0, 1.0])
        return np.array([self.now], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action in self.action_space
        return np.array([self.now], np.float32), -float((action[0] - 0.5 * self.now) ** 2), True, False, {}


@pytest.fixture
def _aim() -> Any:
    gym.register("TestAim-v0", entry_point=Aim)
    yield
    del gym.registry["TestAim-v0"]


@pytest.mark.usefixtures("_aim")
def test_continuous_means_go_where_it_pays(journal: Journal) -> None:
    run = trained(journal, "TestAim-v0", steps=30_000, num_envs=8)
    with torch.inference_mode():
        policy = run.agent.network.policy(torch.tensor([[-1.0], [1.0]]), None)  # type: ignore[attr-defined]
    assert policy.mean.flatten().tolist() == pytest.approx([-0.5, 0.5], abs=0.1)
    assert policy.log_std.item() < -0.5  # and certainty grows
    run.close()


def test_what_is_executed_is_clipped_and_what_is_learned_from_is_not() -> None:
    box = gym.spaces.Box(-0.5, 0.5, (2, 3), np.float64)
    a = agent(box, initial_log_std=2.0)
    done = a.act(np.zeros((2, 3), np.float32), np.ones(2, bool), None)
    assert done.shape == (2, 2, 3)
    assert done.dtype == np.float64
    assert np.abs(done).max() == 0.5
    assert a._chosen.shape == (2, 6)
    assert np.abs(a._chosen).max() > 0.5
    assert isinstance(a.network.head, GaussianHead)


def test_continuous_actions_are_checked() -> None:
    envs = make_vec("Pendulum-v1", 2, 0)
    envs.reset()
    for bad, words in [
        (np.zeros((2, 2), np.float32), "shape"),
        (np.zeros((2, 1), np.int64), "int64"),
        (np.full((2, 1), 2.5, np.float32), "within"),
        (np.full((2, 1), np.nan, np.float32), "within"),
    ]:
        with pytest.raises(RlabError, match=words):
            envs.send(bad)
    _, _, _, _, info = envs.step(np.full((2, 1), -2.0))
    assert info["action"].dtype == np.float32
    with pytest.raises(RlabError, match="takes Discrete actions"):
        _ = envs.num_actions
    envs.close()


@pytest.mark.parametrize("quantity", ["loss", "gradient"])
def test_nan_halts_and_is_named(quantity: str) -> None:
    a, r = agent(), rollout(np.random.default_rng(0))
    if quantity == "loss":
        r.reward[1, 1] = np.nan
    else:
        next(a.network.parameters()).register_hook(lambda g: g * torch.inf)
    before = [p.detach().clone() for p in a.network.parameters()]
    with pytest.raises(NonFinite) as caught:
        a.update(r)
    assert caught.value.quantity == quantity
    assert all(torch.equal(p, q) for p, q in zip(before, a.network.parameters(), strict=True))
    assert a.updates == 0


@pytest.mark.parametrize(
    ("recipe", "env", "settings"),
    [
        ("a2c", "CartPole-v1", {"num_envs": 3, "rollout": 7, "reset_steps": 30}),
        ("a2c", "Pendulum-v1", {"num_envs": 2, "rollout": 9, "reset_steps": 40}),
        ("a2c", "Crawler", {"num_envs": 2, "rollout": 9, "reset_steps": 1_300}),
        ("reinforce", "CartPole-v1", {"reset_steps": 50, "rollout": 2}),
    ],
)
def test_resume_is_exact_in_the_middle_of_a_rollout(
    recipe: str, env: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    """After 1, 5 and 12 steps of one run."""

    def build(folder: str) -> Any:
        return learner(Journal(tmp_path / folder), recipe, env, steps=500, **settings)

    whole, run = build("whole"), build("killed")
    for steps in (1, 4, 7):
        for _ in range(steps):
            run.step()
            whole.step()
        path = Checkpoints(tmp_path / f"after-{steps}", run.journal).save(run.state(), {}, run.done)
        run.close()
        run.journal.close()
        run = build("killed")
        run.restore(Checkpoints(tmp_path / f"after-{steps}", run.journal).load(path).state, Stop())
        assert digest(run.state()) == digest(whole.state())
    for each in (whole, run):
        while not each.progress().finished:
            each.step()
    assert digest(run.state()) == digest(whole.state())
    for each in (whole, run):
        each.close()
        each.journal.close()


@pytest.mark.parametrize(
    ("env", "normalised"),
    [("Pendulum-v1", True), ("Crawler", True), ("CartPole-v1", False), ("Breakout", False), ("nowhere:None-v0", False)],
)
def test_a2c_normalises_advantages_where_actions_are_numbers(env: str, normalised: bool) -> None:
    assert RECIPES.get("a2c").default(env).agent.normalise_advantages is normalised


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(5))
def test_cartpole_is_solved(seed: int, journal: Journal) -> None:
    run = learner(journal, "a2c", "CartPole-v1", small=False, seed=seed, final_episodes=20)
    while not run.progress().finished:
        run.step()
    assert run.evaluate(Stop())["mean"] >= 475
    run.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_pendulum_improves_clearly(seed: int, journal: Journal) -> None:
    """A policy that does nothing scores about -1,200."""
    run = learner(journal, "a2c", "Pendulum-v1", small=False, seed=seed, final_episodes=20)
    while not run.progress().finished:
        run.step()
    assert run.evaluate(Stop())["mean"] >= -850
    run.close()
