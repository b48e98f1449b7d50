"""Models agree with the environments they are of; copies of a model are the model, and repeat themselves."""

from __future__ import annotations

from collections import Counter
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Discrete

from rlab.envs import make_vec
from rlab.envs.batched_mdp import begin, compile_model, step_all
from rlab.envs.make import load_model
from rlab.envs.tabular import MAIL_COST, NAMES, NATURAL, PROFILES, CampaignMail, GridWorld, dealer_ends, model_of
from rlab.errors import RlabError


class Loop(gym.Env):
    """Two states; a table to be spoiled by the tests."""

    observation_space = Discrete(2)
    action_space = Discrete(1)

    def __init__(self, table: Any = None):
        self.P = table or {0: {0: [(1.0, 1, 1.0, False)]}, 1: {0: [(1.0, 0, 0.0, False)]}}


@pytest.mark.parametrize("name", NAMES)
def test_what_happens_is_in_the_model(name: str) -> None:
    """Random play of the real environment: every step is an outcome of the model, and each end is where it says."""
    mdp = load_model(name)
    envs = make_vec(name, 8, 0, max_steps=None if mdp.limit else 200)
    rng = np.random.default_rng(0)
    obs, _ = envs.reset()
    first = np.ones(8, bool)
    assert (mdp.start[mdp.encode(obs, first)] > 0).all()
    for _ in range(250):
        s, a = mdp.encode(obs, first), rng.integers(0, mdp.actions, 8)
        obs, reward, terminated, truncated, info = envs.step(a)
        after = mdp.encode(info["final_obs"], np.zeros(8, bool))
        for i in range(8):
            possible = (mdp.probability[s[i], a[i]] > 0) & np.isclose(mdp.reward[s[i], a[i]], reward[i])
            possible &= mdp.terminated[s[i], a[i]] == terminated[i]
            if not terminated[i]:
                possible &= mdp.next_state[s[i], a[i]] == after[i]
            assert possible.any(), (s[i], a[i], reward[i], after[i])
        first = terminated | truncated
        assert mdp.reachable()[mdp.encode(obs, first)].all()
    envs.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_one(name: str) -> None:
    mdp = load_model(name)
    np.testing.assert_allclose(mdp.probability.sum(axis=-1), 1)
    assert mdp.start.sum() == pytest.approx(1)
    spec = gym.spec(name)
    assert mdp.limit == (spec.max_episode_steps or 0)
    assert mdp.features.shape[0] == mdp.states
    assert len(np.unique(mdp.features[: NATURAL if "Blackjack" in name else None], axis=0)) == min(mdp.states, NATURAL)


def test_reachable_states() -> None:
    counts = {name: int(load_model(name).reachable().sum()) for name in NAMES}
    assert counts["FrozenLake-v1"] == 11  # 16 less 4 holes and the goal
    assert counts["CliffWalking-v1"] == 37  # 48 less 10 of the cliff and the goal
    assert counts["Taxi-v4"] == 400  # 25 places, the passenger at 4 or inside, 4 destinations, less delivered ones
    assert counts["rlab/GridWorld-v0"] == 9


@pytest.mark.parametrize(("sab", "natural"), [(True, False), (False, False), (False, True)])
def test_blackjack_pays_what_the_model_says(sab: bool, natural: bool) -> None:
    """Sticking at once, by kind of first hand: means of 30,000 games against the exact ones."""
    env = gym.make("Blackjack-v1", sab=sab, natural=natural)
    mdp = model_of(env)
    expected = (mdp.probability * mdp.reward).sum(axis=-1)[:, 0]
    paid: dict[int, list[float]] = {0: [], 1: []}
    exact: dict[int, list[float]] = {0: [], 1: []}
    obs, _ = env.reset(seed=0)
    for _ in range(30_000):
        s = int(mdp.encode(np.array([obs]), np.ones(1, bool))[0])
        _, reward, over, _, _ = env.step(0)
        assert over
        paid[s >= NATURAL].append(float(reward))
        exact[s >= NATURAL].append(expected[s])
        obs, _ = env.reset()
    for kind in (0, 1):
        error = np.std(paid[kind]) / np.sqrt(len(paid[kind]))
        assert abs(np.mean(paid[kind]) - np.mean(exact[kind])) < 4 * error
    assert len(paid[1]) / 30_000 == pytest.approx(mdp.start[NATURAL:].sum(), abs=0.005)
    best = mdp.reward[NATURAL + 5, 0].max()
    assert best == (1.5 if natural else 1.0)
    assert mdp.start[NATURAL:].sum() == pytest.approx(2 * 4 / 13**2)
    env.close()


def test_the_dealers_hand_by_hand() -> None:
    for shown in range(1, 11):
        assert sum(dealer_ends(shown).values()) == pytest.approx(1)
    assert dealer_ends(1)[21, True] == pytest.approx(4 / 13)
    assert dealer_ends(10)[21, True] == pytest.approx(1 / 13)
    assert dealer_ends(10)[20, False] > dealer_ends(10)[20 - 1, False]
    assert (21, True) not in dealer_ends(5)


def test_gridworld_exposes_its_table_both_ways() -> None:
    env = GridWorld()
    assert env.P[8, 3] == env.P[8][3]  # up from S: 0.8 up, 0.1 against the wall of the grid, 0.1 right
    assert sorted(env.P[8, 3]) == [(0.1, 8, -0.04, False), (0.1, 9, -0.04, False), (0.8, 4, -0.04, False)]
    assert (0.8, 3, pytest.approx(0.96), True) in env.P[2, 2]
    assert len(env.P) == 12
    assert env.render().shape == (96, 128, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"desc": ["S.", "G"]}, "one length"),
        ({"desc": ["..", ".G"]}, "at least one S"),
        ({"desc": ["SQ"]}, "may hold"),
        ({"slip": 0.7}, "slip is 0.7"),
    ],
)
def test_a_wrong_grid_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(RlabError, match=words):
        GridWorld(**arguments)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ([(0.5, 1, 0.0, False)], "state 0, action 0.*sum is 0.5"),
        ([(1.0, 2, 0.0, False)], "leads to state 2; states are 0..1"),
        ([(1.0, -1, 0.0, False)], "leads to state -1"),
        ([(1.0, 1, float("nan"), False)], "reward nan"),
        ([(2.0, 1, 0.0, False), (-1.0, 0, 0.0, False)], "must not be negative"),
    ],
)
def test_a_wrong_table_is_refused(entry: Any, words: str) -> None:
    with pytest.raises(RlabError, match=words):
        model_of(Loop({0: {0: entry}, 1: {0: [(1.0, 0, 0.0, False)]}}))


def test_a_missing_table_or_entry_is_refused() -> None:
    with pytest.raises(RlabError, match="'CartPole-v1' has no table of transitions"):
        load_model("CartPole-v1")
    with pytest.raises(RlabError, match="'Breakout' is an Atari game"):
        load_model("Breakout")
    with pytest.raises(RlabError, match="no entry for state 1, action 0"):
        model_of(Loop({0: {0: [(1.0, 0, 0.0, False)]}}))
    by_pairs = {(0, 0): [(1.0, 1, 1.0, False)], (1, 0): [(1.0, 0, 0.0, True)]}
    assert model_of(Loop(by_pairs)).terminated.tolist() == [[[False]], [[True]]]


def test_campaign_mail_by_hand() -> None:
    """Item 264: a mail costs, a customer buys or not, tires of mails and may leave."""
    env = CampaignMail()
    obs, _ = env.reset(seed=3)
    assert env.observation_space.contains(obs)
    profile = PROFILES[obs[0]]
    for _ in range(4):
        before = obs
        obs, reward, over, _, _ = env.step(1)
        assert reward in (-MAIL_COST, profile.amount - MAIL_COST)
        if over:
            break
        assert obs[3] == min(before[3] + 1, 4)
        assert (obs[1] == 0) == (reward > 0)
    tired, fresh = np.ravel_multi_index((1, 2, 0, 4), env.sizes), np.ravel_multi_index((1, 2, 0, 0), env.sizes)
    assert env.P[tired, 1][0][0] > 10 * env.P[fresh, 1][0][0]  # leaves
    assert env.P[tired, 1][1][0] < env.P[fresh, 1][1][0]  # buys
    assert env.P[tired, 0][1][0] == pytest.approx(env.P[fresh, 0][1][0])  # fatigue is of mails only
    assert env.render().shape == (160, 240, 3)


# ---------------------------------------------------------------------------------------------------------- copies


def run(name: str, n: int, seed: int, steps: int, **options: Any) -> list[tuple[np.ndarray, ...]]:
    model = compile_model(load_model(name), **options)
    now = begin(model, n, seed)
    rng = np.random.default_rng(5)
    actions = rng.integers(0, model.chances.shape[1], (steps, 8))[:, :n]
    return [(now.state.copy(),)] + [step_all(model, now, np.ascontiguousarray(row)) for row in actions]


def test_a_seed_decides_everything_and_copies_do_not_disturb_each_other() -> None:
    eight, again, three = (run("FrozenLake-v1", n, 1, 200) for n in (8, 8, 3))
    assert all(np.array_equal(x, y) for a, b in zip(eight, again, strict=True) for x, y in zip(a, b, strict=True))
    assert all(np.array_equal(x[:3], y) for a, b in zip(eight, three, strict=True) for x, y in zip(a, b, strict=True))
    other = run("FrozenLake-v1", 8, 2, 200)
    assert any(not np.array_equal(a[0], b[0]) for a, b in zip(eight, other, strict=True))
    assert len({tuple(np.stack([s[0][i] for s in eight])) for i in range(8)}) == 8


def test_frequencies_are_the_probabilities() -> None:
    mdp = load_model("FrozenLake-v1")
    model = compile_model(mdp, exploring_starts=True)
    now = begin(model, 1000, 0)
    starts, counts = Counter(now.state.tolist()), Counter[tuple[int, int]]()
    rng = np.random.default_rng(0)
    for _ in range(200):
        s, a = now.state.copy(), rng.integers(0, 4, 1000)
        *_, final = step_all(model, now, a)
        counts.update(zip((s * 4 + a).tolist(), final.tolist(), strict=True))
    assert set(starts) == set(np.flatnonzero(mdp.reachable()).tolist())
    pairs = Counter[int]()
    for (pair, _), count in counts.items():
        pairs[pair] += count
    for (pair, after), count in counts.items():
        s, a = divmod(pair, 4)
        p = mdp.probability[s, a][mdp.next_state[s, a] == after].sum()
        assert abs(count - pairs[pair] * p) <= 5 * np.sqrt(pairs[pair] * p * (1 - p)) + 1e-9


def test_truncation_is_not_termination_and_final_is_never_a_restart() -> None:
    seen = run("CliffWalking-v1", 4, 0, 60, limit=7)
    for t, (_, _, terminated, truncated, final) in enumerate(seen[1:], 1):
        assert (truncated == (t % 7 == 0)).all()
        assert not terminated.any()
        state = seen[t][0]
        assert (state == (36 if t % 7 == 0 else final)).all()
    ends = run("FrozenLake-v1", 8, 0, 300)[1:]
    holes_and_goal = {5, 7, 11, 12, 15}
    for state, reward, terminated, _, final in ends:
        assert (terminated == np.isin(final, list(holes_and_goal))).all()
        assert ((reward == 1) == (final == 15)).all()
        assert (state[terminated] == 0).all()


def test_blackjack_is_an_ordinary_vector_environment_too() -> None:
    envs = make_vec("Blackjack-v1", 3, 0)
    obs, _ = envs.reset()
    assert obs.shape == (3, 3)
    assert obs in envs.observation_space
    for _ in range(20):
        obs, _, _, _, info = envs.step(np.ones(3, np.int64))
        assert obs.shape == info["final_obs"].shape == (3, 3)
    envs.close()
