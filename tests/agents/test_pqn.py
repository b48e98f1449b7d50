from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rlab as lab
from rlab.agents.interaction import Interaction
from rlab.agents.types import Step
from rlab.agents.value.config import PQNConfig
from rlab.agents.value.pqn import PQN, _rows, rectification
from rlab.agents.value.returns import lambda_returns
from rlab.errors import RlabError
from rlab.registry import RECIPES
from rlab.run import lifecycle as life
from rlab.run.config import changed
from rlab.run.contract import Footprint, NonFinite, Stop
from rlab.run.folder import find_run
from rlab.run.loop import Outcome
from tests.agents.helpers import agent_context
from tests.checkpoints import from_file
from tests.run.fake import QuietView, digest_of, rows_of


def agent(**settings: object) -> PQN:
    config = PQNConfig(**({"num_envs": 2, "rollout": 3, "batch_size": 4, "precision": "fp32"} | settings))
    return PQN(config, agent_context())


def step(rng: np.random.Generator, obs: np.ndarray, n: int = 2, last: bool = False, **fields: object) -> Step:
    whole = Step(
        obs=obs,
        action=rng.integers(0, 4, n),
        reward=rng.standard_normal(n).astype(np.float32),
        discount=np.ones(n, np.float32),
        last=np.full(n, last),
        next_obs=rng.uniform(-1, 1, (n, 3)).astype(np.float32),
        mask=None,
        next_mask=None,
    )
    return whole._replace(**fields)  # type: ignore[arg-type]


@pytest.fixture
def threads_of_torch() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def test_lambda_returns_by_hand() -> None:
    """gamma .5, lambda .5, V = 2, 4, 6: G2 = 3 + .5*6 = 6, G1 = 2 + .5(.5*4 + .5*6) = 4.5, G0 = 1 + .5(1 + 2.25)."""
    reward, value = column(1, 2, 3), column(2, 4, 6)
    g = lambda_returns(reward, column(0.5, 0.5, 0.5), np.zeros((3, 1), bool), value, 0.5)
    np.testing.assert_allclose(g[:, 0], [2.625, 4.5, 6.0])
    # The game ends with step 1: nothing counts after it. The value of nowhere may be anything, even NaN.
    value[1] = np.nan
    g = lambda_returns(reward, column(0.5, 0, 0.5), np.array([[False], [True], [False]]), value, 0.5)
    np.testing.assert_allclose(g[:, 0], [1 + 0.5 * (1 + 1), 2, 6])
    # The stream is cut after step 1, the game goes on elsewhere: V of its true successor stands alone.
    value[1] = 4
    g = lambda_returns(reward, column(0.5, 0.5, 0.5), np.array([[False], [True], [False]]), value, 0.5)
    np.testing.assert_allclose(g[:, 0], [1 + 0.5 * (1 + 2), 4, 6])


@given(seed=st.integers(0, 999), lam=st.floats(0, 1), t=st.integers(1, 6))
def test_lambda_returns_are_the_mixture_of_n_step_returns(seed: int, lam: float, t: int) -> None:
    """Sutton & Barto 2018, eq. 12.3: (1 - lam) sum lam^(n-1) G^(n), the longest one with the weight that is left."""
    rng = np.random.default_rng(seed)
    reward, value = rng.standard_normal((2, t, 1)).astype(np.float32)
    alive = rng.random((t, 1)) < 0.8
    last = ~alive | (rng.random((t, 1)) < 0.2)
    discount = (0.9 * alive).astype(np.float32)
    found = lambda_returns(reward, discount, last, value, lam)

    for start in range(t):
        returns, total, product = [], 0.0, 1.0
        for i in range(start, t):
            total += product * float(reward[i, 0])
            product *= float(discount[i, 0])
            returns.append(total + product * float(value[i, 0]))
            if last[i, 0]:
                break
        weights = [(1 - lam) * lam**n for n in range(len(returns))]
        weights[-1] = lam ** (len(returns) - 1)
        assert found[start, 0] == pytest.approx(np.dot(weights, returns), abs=1e-4)


def test_a_rollout_is_learned_from_when_it_is_full_with_the_values_acted_on() -> None:
    a = agent(lam=0.0, gamma=0.5)
    rng = np.random.default_rng(0)
    obs = rng.uniform(-1, 1, (5, 2, 3)).astype(np.float32)
    first = np.zeros(2, bool)
    a.act(obs[0], first, None)
    steps = []
    for t in range(3):
        a.act(obs[t + 1], first, None)
        steps.append(step(rng, obs[t], last=t == 1))
        if t == 2:
            values = (
                a.online.predict(obs[1:4].reshape(6, 3)).max(1).reshape(3, 2),
                a.online.predict(steps[1].next_obs).max(1),
            )
        learned = a.learn(steps[t])
        assert (learned is None) == (t < 2)
    assert learned is not None
    assert set(learned) == {"loss", "grad_norm", "q_mean", "terminals"}
    assert (a.steps, a.updates, a.filled) == (6, 2 * 2, 0)  # two epochs over 6 steps in batches of 4
    expected = values[0]
    expected[1] = values[1]  # cut, so the true successor's value
    np.testing.assert_allclose(a.rollout["next_value"], expected, atol=1e-6)


def test_masks_reach_acting_and_values() -> None:
    a = agent(epsilon_start=0.5, epsilon_end=0.5)
    rng = np.random.default_rng(0)
    mask = np.array([[True, False, False, True]] * 2)
    obs = rng.uniform(-1, 1, (2, 3)).astype(np.float32)
    chosen = {int(i) for _ in range(200) for i in a.act(obs, np.zeros(2, bool), mask)}
    assert chosen == {0, 3}
    np.testing.assert_allclose(a._value, a.online.predict(obs)[:, [0, 3]].max(1))
    cut = step(rng, obs, last=True, mask=mask, next_mask=mask)
    a.learn(cut)
    np.testing.assert_allclose(a.rollout["next_value"][0], a.online.predict(cut.next_obs)[:, [0, 3]].max(1))


def run(a: PQN, rng: np.random.Generator, n: int) -> list[dict[str, float] | None]:
    """Act and learn n times; what each step gave."""
    learned = []
    for _ in range(n):
        obs = rng.uniform(-1, 1, (2, 3)).astype(np.float32)
        a.act(obs, np.zeros(2, bool), None)
        learned.append(a.learn(step(rng, obs)))
    return learned


def weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_vital_signs_leave_out_what_is_not_allowed() -> None:
    a, rng = agent(gamma=0.5, rollout=3, epochs=256), np.random.default_rng(0)
    with torch.no_grad():  # an action that is never allowed has a huge value
        a.online.head.values.bias[2] = 1e6  # type: ignore[index,operator,union-attr]
    mask = np.array([[True, True, False, True]] * 2)
    for _ in range(3):
        obs = rng.uniform(-1, 1, (2, 3)).astype(np.float32)
        assert 2 not in a.act(obs, np.zeros(2, bool), mask)
        learned = a.learn(step(rng, obs, mask=mask, next_mask=mask, action=np.array([0, 1])))
    assert learned is not None
    assert learned["value_rate"] < 1e3
    assert learned["action_gap"] < 1e3


def test_learning_beside_acting_acts_by_what_was_known_one_rollout_before() -> None:
    a, rng = agent(overlap=True, batch_size=1), np.random.default_rng(3)  # the first 5 updates change nothing
    start = weights(a.online)
    assert run(a, rng, 3) == [None, None, None]  # learning has begun: nothing to tell yet
    assert torch.equal(weights(a.acting), start)
    run(a, rng, 2)
    a.state()  # waits
    after_one = weights(a.online)
    assert not torch.equal(after_one, start)
    assert torch.equal(weights(a.acting), start)
    (learned,) = run(a, rng, 1)
    assert learned is not None
    assert set(learned) == {"loss", "grad_norm", "q_mean", "terminals"}
    assert torch.equal(weights(a.acting), after_one)
    assert a.policy(0).values(np.zeros((2, 3), np.float32)).shape == (2, 4)
    assert not torch.equal(weights(a.online), after_one)  # evaluations play all that was learned


def test_nothing_depends_on_whether_learning_is_beside_or_at_once(threads_of_torch: Callable[[int], None]) -> None:
    def learn(threads: int) -> tuple[torch.Tensor, list[dict[str, float] | None]]:
        threads_of_torch(threads)
        a = agent(overlap=True, encoder="mlp-norm")
        metrics = run(a, np.random.default_rng(1), 30)
        assert (a.background._pool is None) == (threads == 1)
        a.state()
        return weights(a.online), metrics

    (at_once, told), (beside, told_too) = learn(1), learn(2)
    torch.testing.assert_close(beside, at_once)
    assert told[5] is not None
    assert told_too[5] == pytest.approx(told[5])


def test_threads_are_shared_and_given_back(threads_of_torch: Callable[[int], None]) -> None:
    threads_of_torch(4)
    seen: list[int] = []
    a = agent(overlap=True)
    a.acting.head.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    a.online.head.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    run(a, np.random.default_rng(0), 8)
    a.state()
    assert set(seen) == {2}
    assert torch.get_num_threads() == 4


def test_images_are_gathered_as_they_lie() -> None:
    rows = torch.arange(5 * 6 * 7 * 3).view(5, 6, 7, 3).permute(0, 3, 1, 2)
    chosen = torch.tensor([4, 0, 4, 2])
    assert torch.equal(_rows(rows, chosen), rows[chosen])
    assert _rows(rows, chosen).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(_rows(rows[:, 0, 0], chosen), rows[chosen, 0, 0])


@pytest.mark.parametrize("overlap", [False, True])
def test_it_goes_on_in_the_middle_of_a_rollout(overlap: bool, tmp_path: Path) -> None:
    whole, rng = agent(overlap=overlap), np.random.default_rng(1)
    run(whole, rng, 11)
    state = from_file(whole.state(), tmp_path)
    saved = {k: v.clone() for k, v in state["online"].items()}
    other = agent(overlap=overlap)
    other.restore(state, Stop())
    assert other.filled == 2
    again = np.random.default_rng(1)
    again.bit_generator.state = rng.bit_generator.state
    told = run(whole, rng, 10)
    assert run(other, again, 10) == told
    whole.state(), other.state()
    assert all(torch.equal(v, other.online.state_dict()[k]) for k, v in whole.online.state_dict().items())
    assert not all(torch.equal(v, saved[k]) for k, v in whole.online.state_dict().items())


class StopAt(Stop):
    """A stop that is requested when it is polled for the k-th time."""

    def __init__(self, k: int):
        self.left = k

    @property
    def requested(self) -> bool:  # type: ignore[override]
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize(("overlap", "threads"), [(False, 1), (True, 1), (True, 2)])
def test_a_stop_puts_a_round_down(
    overlap: bool,
    threads: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    threads_of_torch: Callable[[int], None],
) -> None:
    """Of 16 updates a rollout; some of the stops come between them. Nothing of the run may tell that there were any."""
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    settings = {
        "num_envs": 4,
        "rollout": 8,
        "batch_size": 4,
        "overlap": overlap,
        "threads": threads,
        "steps": 128 if threads == 1 else 96,
    }
    settings |= {"evaluate_steps": 64 * (threads == 1), "evaluate_episodes": 1, "final_episodes": 1, "log_steps": 8}
    config = changed(RECIPES.get("pqn").default("CartPole-v1"), settings)
    monkeypatch.setattr(Interaction, "footprint", lambda self, stop: Footprint(10, 0, 10, seconds=1.0))

    def go(stop: Stop) -> Outcome:
        return life.resume_run(find_run("run"), None, stop, QuietView())

    life.start_run("pqn", config, "whole", Stop(), QuietView(), lambda c, *_: c)
    outcome = life.start_run("pqn", config, "run", StopAt(9), QuietView(), lambda c, *_: c)[1]
    put_down, polls = 0, iter((13, 17, 30, 11, 40, 90, 500))
    while not outcome.finished:
        saved = life.read_newest(find_run("run"))
        assert saved is not None
        if "round" in saved.state["agent"]:
            put_down += 1
            with lab.load("run") as loaded:
                assert loaded.step == saved.done
        outcome = go(StopAt(next(polls)))
    assert put_down >= 2
    assert digest_of(find_run("run")) == digest_of(find_run("whole"))
    assert rows_of(find_run("run")) == rows_of(find_run("whole"))


@pytest.mark.parametrize("overlap", [False, True])
def test_nan_halts_and_is_named(overlap: bool) -> None:
    a, rng = agent(rollout=1, overlap=overlap), np.random.default_rng(0)
    obs = rng.uniform(-1, 1, (2, 3)).astype(np.float32)
    nan = step(rng, obs, reward=np.array([np.nan, 0], np.float32))

    def learn() -> None:
        a.act(obs, np.zeros(2, bool), None)
        a.learn(nan)
        a.state()  # waits

    with pytest.raises(NonFinite, match="loss"):
        learn()


def test_rectification_is_radams() -> None:
    """Against torch's RAdam on one parameter with a constant gradient, where Adam's own step is the step size."""
    p = torch.zeros(1, requires_grad=True)
    radam = torch.optim.RAdam([p], lr=1e-3, eps=0.0)
    for update in range(1, 200):
        before = p.item()
        p.grad = torch.ones(1)
        radam.step()
        if rectification(update, 0.999):
            assert before - p.item() == pytest.approx(1e-3 * rectification(update, 0.999), rel=1e-3)
        else:
            assert update <= 5
    assert rectification(100_000, 0.999) == pytest.approx(1, abs=1e-3)
    assert not math.isnan(rectification(10**7, 0.999))


@pytest.mark.parametrize("wrong", [{"rollout": 0}, {"lam": 1.5}, {"epochs": 0}, {"num_envs": 0}])
def test_wrong_settings_are_named(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(RlabError, match=f"--{name.replace('_', '-')} is"):
        PQNConfig(**wrong)  # type: ignore[arg-type]
