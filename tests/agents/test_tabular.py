"""Exact methods against published and hand-made values, each update by hand, and what is learned against the exact."""

from __future__ import annotations

import io
import json
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Discrete
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.agents.tabular.bandits import LinUCB, least_squares_update
from rlab.agents.tabular.config import (
    TABULAR_PRESETS,
    LinUCBConfig,
    TabularConfig,
    TabularEnvConfig,
    TabularExperiment,
    default_tabular,
)
from rlab.agents.tabular.exact import (
    action_values,
    epsilon_greedy_policy,
    policy_evaluation,
    policy_iteration,
    value_iteration,
)
from rlab.agents.tabular.learner import Tabular
from rlab.agents.tabular.picture import table_figure
from rlab.agents.tabular.table_agent import (
    EXPECTED,
    GREEDY,
    METHODS,
    SARSA,
    Rule,
    TableAgent,
    next_value,
    returns_of,
    step_size_of,
)
from rlab.api import load
from rlab.cli import main
from rlab.envs.make import load_model
from rlab.envs.tabular import MDP, NAMES, NATURAL, model_of
from rlab.errors import RlabError
from rlab.run.config import from_plain, to_plain
from rlab.run.contract import NonFinite, Stop, Stopped
from tests.agents.helpers import Corridor
from tests.processes import Spawn
from tests.test_kill import here, kill_and_resume, result

LEARNING = [name for name in TABULAR_PRESETS if name != "epsilon-greedy"]
OFF_POLICY = [name for name in LEARNING if TABULAR_PRESETS[name].method == "q-learning"]
ON_POLICY = [name for name in LEARNING if name not in OFF_POLICY]


class Forever(gym.Env):
    """One state and one action that pays 1: q = 1 / (1 - gamma), although episodes are cut."""

    observation_space = Discrete(1)
    action_space = Discrete(1)
    P = {0: {0: [(1.0, 0, 1.0, False)]}}  # noqa: RUF012


def tabular(mdp: MDP | str, preset: str = "q-learning", seed: int = 0, **changes: Any) -> Tabular:
    """A learner of a preset with fields changed, wherever they stand."""
    model = load_model(mdp) if isinstance(mdp, str) else mdp
    env = TabularEnvConfig(env=model.name)
    env = replace(env, **{k: v for k, v in changes.items() if hasattr(env, k)})
    preset_of_env = default_tabular(preset, model.name).agent
    assert isinstance(preset_of_env, TabularConfig)
    agent = replace(preset_of_env, **{k: v for k, v in changes.items() if not hasattr(env, k)})
    return Tabular(TableAgent(agent, env, model, seed), env, seed)


def trained(mdp: MDP | str, preset: str = "q-learning", seed: int = 0, **changes: Any) -> Tabular:
    run = tabular(mdp, preset, seed, **changes)
    while not run.progress().finished:
        run.step()
    return run


# ----------------------------------------------------------------------------------------------------------- exact


@pytest.mark.parametrize(
    ("name", "value"),
    [("FrozenLake-v1", 0.542026), ("rlab/FrozenLakeSure-v0", 0.950990), ("CliffWalking-v1", -12.247898)],
)
def test_exact_values_of_the_start(name: str, value: float) -> None:
    """Item 266: Q and V of the best policy, and V of that policy."""
    mdp = load_model(name)
    assert mdp.start @ value_iteration(mdp, 0.99).max(axis=1) == pytest.approx(value, abs=1e-6)
    q, policy = policy_iteration(mdp, 0.99)
    assert mdp.start @ q.max(axis=1) == pytest.approx(value, abs=1e-6)
    v = policy_evaluation(mdp, np.eye(mdp.actions)[policy], 0.99)
    assert mdp.start @ v == pytest.approx(value, abs=1e-6)


def test_the_gridworld_has_the_published_utilities() -> None:
    """Russell & Norvig, AIMA, figure 17.3: gamma 1, reward -0.04."""
    v = value_iteration(load_model("rlab/GridWorld-v0"), 1.0).max(axis=1).reshape(3, 4)
    published = [[0.812, 0.868, 0.918], [0.762, 0.660], [0.705, 0.655, 0.611, 0.388]]
    assert v[0, :3].tolist() == pytest.approx(published[0], abs=6e-4)
    assert v[1, [0, 2]].tolist() == pytest.approx(published[1], abs=6e-4)
    assert v[2].tolist() == pytest.approx(published[2], abs=6e-4)


def test_blackjack_is_played_as_published() -> None:
    """Sutton & Barto 2018, figure 5.2: where the optimal policy sticks."""
    mdp = load_model("Blackjack-v1")
    q = value_iteration(mdp, 1.0)

    def sticks_from(shown: int, ace: bool) -> int:
        sums = range(12, 22)
        sticks = [bool(np.diff(q[(total * 11 + shown) * 2 + ace])[0] < 0) for total in sums]
        assert sticks == sorted(sticks)  # from some sum on
        return sums[sticks.index(True)]

    assert [sticks_from(d, False) for d in range(1, 11)] == [17, 13, 13, 12, 12, 12, 17, 17, 17, 17]
    assert [sticks_from(d, True) for d in range(1, 11)] == [19, 18, 18, 18, 18, 18, 18, 18, 19, 19]
    assert q[NATURAL + 10, 0] == pytest.approx(12 / 13)  # a draw only against another natural


def test_exact_methods_by_hand() -> None:
    mdp = model_of(Corridor())
    right = np.tile([0.0, 1.0], (3, 1))
    assert policy_evaluation(mdp, right, 0.5).tolist() == pytest.approx([1 + 0.5 * (2 + 0.5 * 4), 4, 4])
    random_play = np.full((3, 2), 0.5)
    last = 2 / (1 - 0.25)  # v = 0.5 * 4 + 0.5 * 0.5 v
    middle = (1 + 0.25 * last) / 0.75
    assert policy_evaluation(mdp, random_play, 0.5).tolist() == pytest.approx(
        [(0.5 + 0.25 * middle) / 0.75, middle, last]
    )
    assert value_iteration(mdp, 0.5).tolist() == [pytest.approx(row) for row in ([1.5, 3], [2, 4], [2, 4])]
    assert action_values(mdp, np.zeros(3), 0.9).tolist() == [[0, 1], [0, 2], [0, 4]]
    q = np.array([[1.0, 1.0, 0.0]])
    assert epsilon_greedy_policy(q, 0.3).tolist() == [pytest.approx([0.45, 0.45, 0.1])]


def test_what_has_no_value_is_said() -> None:
    mdp = model_of(Corridor())
    stays = np.tile([1.0, 0.0], (3, 1))
    assert policy_evaluation(mdp, stays, 0.9).tolist() == [0, 0, 0]
    with pytest.raises(RlabError, match=r"never ends in 'Corridor'.*use 0\.99"):
        policy_evaluation(mdp, stays, 1.0)
    with pytest.raises(RlabError, match=r"gamma is 1\.5"):
        value_iteration(mdp, 1.5)
    with pytest.raises(RlabError, match="add up to 1"):
        policy_evaluation(mdp, np.ones((3, 2)), 0.9)


@st.composite
def mdps(draw: st.DrawFn) -> MDP:
    """Small ones, with ends, loops, impossible outcomes and dead ends."""
    states, actions, most = draw(st.integers(1, 6)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = rng.exponential(size=(states, actions, most)) * (rng.random((states, actions, most)) < 0.8)
    weight[..., 0] += 0.01
    return MDP(
        "random",
        weight / weight.sum(axis=-1, keepdims=True),
        rng.integers(0, states, weight.shape),
        rng.normal(size=weight.shape).round(1),
        rng.random(weight.shape) < draw(st.sampled_from([0.0, 0.3])),
        np.full(states, 1 / states),
        0,
        np.arange(states)[:, None],
        None,
        lambda obs, first: obs,
    )


@settings(max_examples=60, deadline=None)
@given(mdp=mdps(), gamma=st.sampled_from([0.0, 0.5, 0.9, 0.99]))
def test_policy_iteration_and_value_iteration_agree(mdp: MDP, gamma: float) -> None:
    q, policy = policy_iteration(mdp, gamma)
    star = value_iteration(mdp, gamma)
    np.testing.assert_allclose(q, star, atol=1e-7)
    v = policy_evaluation(mdp, np.eye(mdp.actions)[policy], gamma)
    np.testing.assert_allclose(v, star.max(axis=1), atol=1e-7)
    if mdp.actions > 1:  # no policy is better
        other = policy_evaluation(mdp, np.full((mdp.states, mdp.actions), 1 / mdp.actions), gamma)
        assert (other <= star.max(axis=1) + 1e-7).all()


@settings(max_examples=60, deadline=None)
@given(mdp=mdps(), gamma=st.sampled_from([0.0, 0.5, 0.9, 0.99]), seed=st.integers(0, 1000))
def test_policy_evaluation_is_the_fixed_point_and_the_dense_solution(mdp: MDP, gamma: float, seed: int) -> None:
    """Item 266: V of any policy."""
    policy = np.random.default_rng(seed).dirichlet(np.ones(mdp.actions), mdp.states)
    v = policy_evaluation(mdp, policy, gamma)
    np.testing.assert_allclose((policy * action_values(mdp, v, gamma)).sum(axis=1), v, atol=1e-8)
    dense, rewards = np.eye(mdp.states), np.zeros(mdp.states)
    for s, a, k in np.ndindex(mdp.probability.shape):
        p = policy[s, a] * mdp.probability[s, a, k]
        rewards[s] += p * mdp.reward[s, a, k]
        dense[s, mdp.next_state[s, a, k]] -= gamma * p * (not mdp.terminated[s, a, k])
    np.testing.assert_allclose(np.linalg.solve(dense, rewards), v, atol=1e-8)


# ---------------------------------------------------------------------------------------------------- update rules

Q = np.array([[[1.0, 3.0, 3.0], [5.0, 2.0, 0.0]], [[10.0, 20.0, 30.0], [50.0, 60.0, 70.0]]])


@pytest.mark.parametrize(
    ("tables", "chooser", "method", "value"),
    [
        (1, 0, SARSA, 3.0),  # of the action taken, 2
        (1, 0, GREEDY, 3.0),
        (1, 0, EXPECTED, 0.3 * 7 / 3 + 0.7 * 3),
        (2, 0, SARSA, 30.0),  # the other table values it
        (2, 0, GREEDY, 20.0),  # the first of table 0's best actions
        (2, 0, EXPECTED, 0.3 * 20 + 0.7 * 25),  # both of them
        (2, 1, GREEDY, 3.0),
        (2, 1, EXPECTED, 0.3 * 7 / 3 + 0.7 * 3),
    ],
)
def test_the_value_of_a_next_state_by_hand(tables: int, chooser: int, method: int, value: float) -> None:
    assert next_value(Q[:tables], chooser, 0, 2, method, 0.3) == pytest.approx(value)


def rule(method: str, **changes: Any) -> Rule:
    plain = Rule(METHODS[method], 1.0, 0.5, 1.0, 1.0, 0.0, False)
    return plain._replace(**changes)


MEAN = 0.3 * 7 / 3 + 0.7 * 5
"""What epsilon-greedy play with epsilon 0.3 expects in state 1 of the first table."""


@pytest.mark.parametrize(
    ("method", "lam", "actions", "wanted"),
    [
        # States 0, 1, 1; rewards 1, 2, 4, then a bootstrap of 8; gamma 0.5. The last return is 4 + 4.
        ("sarsa", 1.0, (0, 0, 0), (1 + 0.5 * 6, 2 + 0.5 * 8, 8)),
        ("sarsa", 0.0, (0, 0, 1), (1 + 0.5 * 5, 2 + 0.5 * 2, 8)),
        ("sarsa", 0.5, (0, 0, 0), (1 + 0.5 * (2.5 + 0.5 * 5.25), 2 + 0.5 * (2.5 + 4), 8)),
        ("expected-sarsa", 0.0, (0, 1, 1), (1 + 0.5 * MEAN, 2 + 0.5 * MEAN, 8)),
        ("expected-sarsa", 1.0, (0, 1, 1), (1 + 0.5 * 6, 2 + 0.5 * 8, 8)),
        ("q-learning", 1.0, (0, 0, 0), (1 + 0.5 * 6, 2 + 0.5 * 8, 8)),
        ("q-learning", 1.0, (0, 1, 0), (1 + 0.5 * 5, 2 + 0.5 * 8, 8)),  # action 1 in state 1 explores: cut there
        ("q-learning", 1.0, (2, 0, 2), (1 + 0.5 * (2 + 0.5 * 5), 2 + 0.5 * 5, 8)),
    ],
)
def test_returns_by_hand(method: str, lam: float, actions: tuple[int, ...], wanted: tuple[float, ...]) -> None:
    out = np.zeros(3)
    steps, rewards = np.array([[0, 1, 1], actions]), np.array([1.0, 2.0, 4.0])
    returns_of(Q[:1], 0, steps, rewards, 3, 8.0, rule(method, lam=lam), 0.3, out)
    assert out.tolist() == pytest.approx(list(wanted))


def test_the_lambda_return_is_what_eligibility_traces_add_up_to() -> None:
    """Sutton & Barto 2018, section 12.2: with the values held fixed, both views change them by the same amount."""
    rng = np.random.default_rng(0)
    lam, gamma, length = 0.7, 0.5, 12
    q = rng.normal(size=(1, 5, 3))
    steps = np.stack([rng.integers(0, 5, length), rng.integers(0, 3, length)])
    rewards = rng.normal(size=length)
    forward = np.zeros(length)
    returns_of(q, 0, steps, rewards, length, 0.0, rule("sarsa", lam=lam), 0.1, forward)
    wanted, trace, backward = np.zeros((5, 3)), np.zeros((5, 3)), np.zeros((5, 3))
    for t, (s, a) in enumerate(steps.T):
        wanted[s, a] += forward[t] - q[0, s, a]
        after = q[0, steps[0, t + 1], steps[1, t + 1]] if t + 1 < length else 0.0
        trace *= gamma * lam
        trace[s, a] += 1
        backward += (rewards[t] + gamma * after - q[0, s, a]) * trace
    np.testing.assert_allclose(backward, wanted, atol=1e-12)


def test_step_sizes_by_hand() -> None:
    mean = rule("sarsa", step_size=1.0, step_half=1.0, step_power=1.0)
    assert [step_size_of(n, mean) for n in range(4)] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    slow = rule("sarsa", step_size=0.5, step_half=10.0, step_power=0.5)
    assert [step_size_of(n, slow) for n in (0, 30)] == pytest.approx([0.5, 0.25])
    assert step_size_of(10**6, rule("sarsa", step_size=0.1)) == 0.1


@pytest.mark.parametrize("preset", LEARNING)
def test_one_episode_by_hand(preset: str) -> None:
    """The corridor, started at 0 with action 1, step size 1: what each method knows after the first episode."""
    mdp = replace(model_of(Corridor()), name="Corridor")
    # All values begin far below, but for action 1: greedy play walks straight on and never explores.
    run = tabular(mdp, preset, num_envs=1, exploring_starts=False, epsilon_start=0.0, epsilon_end=0.0, gamma=0.5,
                  step_power=0.0, n_step=TABULAR_PRESETS[preset].n_step, steps=3)  # fmt: skip
    agent = run.agent
    assert isinstance(agent, TableAgent)
    agent.memory.q[:, :, 0] = -100.0
    agent.memory.action[:] = 1
    run.step()
    config = TABULAR_PRESETS[preset]
    found = agent.memory.q[:, :, 1].sum(axis=0)  # a double update goes into one of the two
    full = [1 + 0.5 * (2 + 0.5 * 4), 2 + 0.5 * 4, 4.0]
    if config.n_step == 1:
        wanted = [1.0, 2.0, 4.0]  # every next value was still 0
    elif config.lam == 1.0:
        wanted = full
    else:
        wanted = [1 + 0.5 * 0.8 * (2 + 0.5 * 0.8 * 4), 2 + 0.5 * 0.8 * 4, 4.0]
    assert found.tolist() == pytest.approx(wanted)
    assert agent.memory.visits.sum(axis=0)[:, 1].tolist() == [1, 1, 1]
    assert agent.finished[0] == 1
    assert agent.finished[1].tolist() == [7.0]
    assert agent.now.state[0] == 0  # and the next episode has begun
    assert agent.memory.length[0] == 0


@pytest.mark.parametrize("preset", LEARNING)
def test_a_truncation_bootstraps(preset: str) -> None:
    """Cut after 5 steps but never over: a method that took the cut for an end would find about 3, not 10."""
    mdp = replace(model_of(Forever()), name="Forever", limit=5)
    run = trained(mdp, preset, gamma=0.9, steps=200_000, step_power=0.6)
    assert float(run.agent.table()[0, 0]) == pytest.approx(10, abs=0.02)


# ------------------------------------------------------------------------------------------- what is learned, exactly

SLOWER = ["double-q", "q-lambda"]
"""Those that need twice the steps for the same accuracy."""
DETERMINISTIC = ["q-learning", "double-q", "n-step-q", "expected-sarsa"]
CASES = [
    *[("FrozenLake-v1", preset, 6_000_000 if preset in SLOWER else 3_000_000, {}) for preset in LEARNING],
    ("rlab/GridWorld-v0", "q-learning", 1_500_000, {}),
    ("rlab/GridWorld-v0", "sarsa", 12_000_000, {}),
    *[("rlab/FrozenLakeSure-v0", preset, 400_000, {}) for preset in DETERMINISTIC],
    *[("CliffWalking-v1", preset, 1_000_000, {}) for preset in DETERMINISTIC],
    *[("Taxi-v4", preset, 3_000_000, {}) for preset in DETERMINISTIC],
    *[
        pytest.param("Blackjack-v1", preset, 60_000_000, {"max_steps": 2}, marks=pytest.mark.slow)
        for preset in ("q-learning", "double-q", "sarsa", "expected-sarsa")
    ],
]


@pytest.mark.parametrize(("env", "preset", "steps", "changes"), CASES, ids=str)
def test_learned_values_are_the_exact_ones(env: str, preset: str, steps: int, changes: dict[str, Any]) -> None:
    """Item 268: off-policy q*, on-policy the values of its own epsilon-greedy policy, in all reachable states."""
    run = trained(env, preset, steps=steps, **changes)
    exact = run.exact()
    assert exact["q_error"] is not None
    assert exact["q_error"] < 0.02


def test_the_comparison_can_fail() -> None:
    """The same check finds a wrong discount, a reference of the other kind and an unfinished run."""
    done = trained("FrozenLake-v1", "expected-sarsa", steps=2_000_000)
    mdp, reachable = done.agent.mdp, done.agent.mdp.reachable()
    assert np.abs(done.agent.table() - value_iteration(mdp, 0.99))[reachable].max() > 0.05
    assert trained("FrozenLake-v1", steps=2_000).exact()["q_error"] > 0.1  # type: ignore[operator]
    other = trained("FrozenLake-v1", steps=2_000_000, gamma=0.95)
    assert np.abs(other.agent.table() - value_iteration(mdp, 0.99))[reachable].max() > 0.05


def test_double_q_learning_is_less_optimistic() -> None:
    """Item 271: Sutton & Barto 2018, example 6.7: left of A ends in B, whose ten actions pay -0.1 on average, sd 1."""
    count = 10
    rng_pay = [-1.1, 0.9]

    class Bias(gym.Env):
        observation_space = Discrete(2)
        action_space = Discrete(count)
        P = {  # noqa: RUF012
            0: {a: [(1.0, 1, 0.0, False)] if a else [(1.0, 0, 0.0, True)] for a in range(count)},
            1: {a: [(0.5, 1, pay, True) for pay in rng_pay] for a in range(count)},
        }

    mdp = replace(model_of(Bias()), name="Bias")
    lure = {}
    for preset in ("q-learning", "double-q"):
        tables = [
            trained(mdp, preset, seed, steps=400, num_envs=1, exploring_starts=False, step_power=0.0, step_size=0.1,
                    epsilon_start=0.1, epsilon_end=0.1, gamma=1.0).agent.table()
            for seed in range(60)
        ]  # fmt: skip
        lure[preset] = float(np.mean([table[0, 1:].max() for table in tables]))
    assert lure["q-learning"] > 0  # the truth is -0.1
    assert lure["double-q"] < lure["q-learning"] - 0.02


# -------------------------------------------------------------------------------------------------- campaign, bandits


def test_linucb_is_ridge_regression() -> None:
    rng = np.random.default_rng(0)
    inverse, theta = np.eye(6) / 2.0, np.zeros(6)
    gram, moment = 2.0 * np.eye(6), np.zeros(6)
    for _ in range(40):
        x = np.sort(rng.choice(6, 3, replace=False))
        reward = float(rng.normal())
        dense = np.zeros(6)
        dense[x] = 1
        assert least_squares_update(inverse, theta, x, reward) == pytest.approx(
            reward - dense @ np.linalg.solve(gram, moment)
        )
        gram += np.outer(dense, dense)
        moment += reward * dense
    np.testing.assert_allclose(inverse, np.linalg.inv(gram), atol=1e-12)
    np.testing.assert_allclose(theta, np.linalg.solve(gram, moment), atol=1e-12)


def test_campaign_mail_whoever_looks_ahead_earns_more() -> None:
    """Item 264: exact values of what was learned: Q-learning near the oracle; bandits, blind to fatigue, far below."""
    mdp = load_model("rlab/CampaignMail-v0")
    oracle = float(mdp.start @ value_iteration(mdp, 0.99).max(axis=1))
    q = trained(mdp, "q-learning", steps=3_000_000).exact()["start_value"]
    greedy = trained(mdp, "epsilon-greedy", steps=1_000_000, exploring_starts=False).exact()["start_value"]
    env = TabularEnvConfig(env=mdp.name, steps=200_000, num_envs=1, exploring_starts=False)
    bandit = Tabular(LinUCB(LinUCBConfig(), env, mdp, 0), env, 0)
    while not bandit.progress().finished:
        bandit.step()
    linear = bandit.exact()["start_value"]
    never = float(mdp.start @ policy_evaluation(mdp, np.tile([1.0, 0.0], (mdp.states, 1)), 0.99))
    assert q is not None
    assert greedy is not None
    assert linear is not None
    assert q > 0.97 * oracle
    assert greedy < 0.8 * oracle
    assert linear < 0.8 * oracle
    assert linear > never
    assert bandit.exact()["q_error"] is None


# --------------------------------------------------------------------------------------------------------- a learner


@pytest.mark.parametrize("preset", [*TABULAR_PRESETS])
def test_presets_go_through_json(preset: str) -> None:
    experiment = TabularExperiment(agent=TABULAR_PRESETS[preset])
    assert from_plain(TabularExperiment, json.loads(json.dumps(to_plain(experiment)))) == experiment


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_step": -1}, "--n-step is -1"),
        ({"lam": 1.5}, "--lam is 1.5"),
        ({"gamma": -0.1}, "--gamma is -0.1"),
        ({"step_power": 2.0}, "--step-power is 2.0"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RlabError, match=words):
        TabularConfig(**changes)


def test_evaluations_alter_nothing_repeat_and_can_be_stopped() -> None:
    run = trained("FrozenLake-v1", steps=100_000, final_episodes=20)
    before = {k: v.copy() for k, v in run.agent.arrays().items()}
    first, second = run.evaluate(Stop()), run.evaluate(Stop())
    assert first == second
    assert first["episodes"] == 20
    assert first["human_normalised"] is None
    assert all(np.array_equal(before[k], v) for k, v in run.agent.arrays().items())
    stop = Stop()
    stop.request("test")
    with pytest.raises(Stopped):
        run.evaluate(stop)


def test_an_evaluation_ends_though_the_policy_goes_round() -> None:
    """An untrained policy in CliffWalking, which has no limit of its own."""
    score = tabular("CliffWalking-v1", evaluate_episodes=2, max_steps=50).evaluate(Stop())
    assert score["mean_length"] == 50


def test_a_number_that_is_none_halts() -> None:
    run = tabular("FrozenLake-v1", steps=100_000)
    assert isinstance(run.agent, TableAgent)
    run.agent.memory.q[0, 14, 0] = np.nan
    with pytest.raises(NonFinite):
        run.step()


def test_the_footprint_alters_nothing() -> None:
    run = tabular("FrozenLake-v1")
    before = {k: v.copy() for k, v in run.agent.arrays().items()}
    footprint = run.footprint(Stop())
    assert footprint.memory > 0
    assert footprint.seconds is not None
    assert all(np.array_equal(before[k], v) for k, v in run.agent.arrays().items())


def test_a_natural_is_told_from_another_21() -> None:
    run = tabular("Blackjack-v1")
    obs = np.array([[21, 4, 1], [21, 4, 1], [13, 4, 0]])
    states = run.agent.mdp.encode(obs, np.array([True, False, True]))
    assert states.tolist() == [NATURAL + 4, (21 * 11 + 4) * 2 + 1, (13 * 11 + 4) * 2]


@pytest.mark.parametrize("name", [*NAMES, "Corridor"])
def test_a_picture_of_every_environment(name: str) -> None:
    import matplotlib.image

    mdp = replace(model_of(Corridor()), name="Corridor") if name == "Corridor" else load_model(name)
    pictures = tabular(mdp).draw(Stop())
    assert matplotlib.image.imread(io.BytesIO(pictures["values"])).shape[2] == 4


@pytest.mark.parametrize("name", ["CliffWalking-v1", "FrozenLake8x8-v1", "Taxi-v4", "rlab/GridWorld-v0"])
def test_in_a_picture_nothing_covers_a_number(name: str) -> None:
    """All actions of a state equally good, so that every cell has every arrow; and numbers as wide as they get."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    mdp = load_model(name)
    assert mdp.layout is not None
    mdp = replace(mdp, layout=replace(mdp.layout, panels=mdp.layout.panels[:2]))  # Taxi has 20
    assert mdp.layout is not None
    figure = table_figure(mdp, np.full((mdp.states, mdp.actions), -0.00123), "")
    FigureCanvasAgg(figure).draw()
    drawn = 0
    for axes in figure.axes[: len(mdp.layout.panels)]:
        numbers = [t.get_window_extent() for t in axes.texts if t.get_text().startswith("-0")]
        others = [t.get_window_extent() for t in axes.texts if t.get_text() and not t.get_text().startswith("-0")]
        arrows = [t.arrow_patch.get_window_extent() for t in axes.texts if getattr(t, "arrow_patch", None) is not None]
        assert len(arrows) == 4 * len(numbers)
        boxes = np.array([box.extents for box in (*arrows, *others)])
        for left, foot, right, top in (box.extents for box in numbers):
            apart = (boxes[:, 0] >= right) | (boxes[:, 2] <= left) | (boxes[:, 1] >= top) | (boxes[:, 3] <= foot)
            assert apart.all()
            drawn += 1
    assert drawn >= 9


def test_a_million_steps_of_q_learning_take_less_than_five_seconds() -> None:
    run = tabular("FrozenLake-v1", steps=1_100_000)
    run.step()  # compiled, or read from the cache
    started, before = time.process_time(), run.done  # of this process: other load does not count
    while run.done < before + 1_000_000:
        run.step()
    assert time.process_time() - started < 5


def test_train_evaluate_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    command = ["--steps", "300_000", "--final-episodes", "10", "--name", "lake"]
    assert main(["train", "q-learning", "--env", "FrozenLake-v1", *command]) == 0
    capsys.readouterr()
    assert main(["eval", "lake", "--episodes", "20", "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert score["best_start_value"] == pytest.approx(0.542026, abs=1e-6)
    assert {"mean", "median", "low", "high", "episodes", "human_normalised", "q_error"} <= score.keys()
    page = tmp_path / "lake" / "report.html"
    assert main(["report", "lake"]) == 0
    assert 'alt="values and greedy policy"' in page.read_text()
    page.unlink()
    shutil.rmtree(tmp_path / "lake" / "pictures")
    with load("lake") as player:
        assert 'alt="values and greedy policy"' in player.report().read_text()
    shutil.rmtree(tmp_path / "lake" / "pictures")
    capsys.readouterr()
    assert main(["watch", "lake"]) == 0
    said = capsys.readouterr().out
    pictures = list((tmp_path / "lake" / "pictures").glob("*.png"))
    assert len(pictures) == 1
    assert f"wrote   {pictures[0]}" in said
    assert ".mp4" in said
    assert main(["train", "q-learning", "--env", "FrozenLake-v1", "--method", "sarsaa"]) == 2
    assert main(["train", "q-learning", "--env", "CartPole-v1"]) == 1
    assert "'CartPole-v1' has no table of transitions" in capsys.readouterr().err


TAXI = ["train", "n-step-sarsa", "--env", "Taxi-v4", "--steps", "4_000_000", "--checkpoint-steps", "100_000"]
TAXI += ["--evaluate-steps", "1_000_000", "--evaluate-episodes", "2", "--final-episodes", "2", "--log-steps", "50_000"]


@pytest.mark.slow
def test_killed_and_resumed_is_the_same_to_the_bit(
    tmp_path: Path, spawn: Spawn, capsys: pytest.CaptureFixture[str]
) -> None:
    here(tmp_path, capsys, *TAXI, "--name", "whole")
    kill_and_resume(tmp_path, TAXI, 4, random.Random(), 4.0, spawn, capsys)
    (whole, whole_rows), (killed, killed_rows) = (result(tmp_path, name, capsys) for name in ("whole", "killed"))
    assert killed["digest"] == whole["digest"]
    assert killed_rows == whole_rows
