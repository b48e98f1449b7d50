"""Small worlds: their exact values by hand, and that playing them is what their tables say."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from rlab.agents.tabular.exact import action_values, policy_evaluation, value_iteration
from rlab.envs import make_vec
from rlab.envs.chains import blind_cliffwalk, chain, coin, corridor, noisy_choice
from rlab.envs.ids import CHAINS
from rlab.envs.tabular import model_of
from rlab.errors import RlabError

NAMES = ["rlab/NoisyChoice-v0", "rlab/Coin-v0", *[f"rlab/Chain{n}-v0" for n in CHAINS]]


def test_noisy_choice_by_hand() -> None:
    q = value_iteration(model_of(noisy_choice(4, mean=-0.1, noise=2.0)), 1.0)
    np.testing.assert_allclose(q, [[0, -0.1, 0, -0.1], [-0.1] * 4], atol=1e-12)


def test_coin_by_hand() -> None:
    mdp = model_of(coin())
    np.testing.assert_allclose(value_iteration(mdp, 0.9), np.zeros((3, 2)), atol=1e-12)
    assert sorted(mdp.reward[2, 0][mdp.probability[2, 0] > 0]) == [-1, 1]
    assert set(mdp.reward[1, 0][mdp.probability[1, 0] > 0]) == {0}


@pytest.mark.parametrize("length", [3, 10])
def test_the_chain_is_worth_walking_and_its_near_end_a_trap(length: int) -> None:
    mdp = model_of(chain(length))
    q = value_iteration(mdp, 0.9)
    best = q.argmax(axis=1)
    forward = [int(mdp.next_state[s, best[s], 0]) for s in range(length)]
    assert forward == [*range(1, length), length - 1]
    assert q[length - 1].max() == pytest.approx(10)
    assert q[1].max() == pytest.approx(10 * 0.9 ** (length - 2))
    staying = np.eye(2)[1 - best]
    assert action_values(mdp, policy_evaluation(mdp, staying, 0.9), 0.9)[0, 1 - best[0]] == pytest.approx(0.01)


@pytest.mark.parametrize("length", [1, 2, 7])
def test_the_cliffwalk_pays_at_its_end_only(length: int) -> None:
    q = value_iteration(model_of(blind_cliffwalk(length)), 0.5)
    np.testing.assert_allclose(q.max(axis=1), 0.5 ** np.arange(length - 1, -1, -1.0))
    np.testing.assert_array_equal(q.min(axis=1), np.zeros(length))
    np.testing.assert_array_equal(q.argmax(axis=1), np.arange(length) % 2)


@pytest.mark.parametrize("actions", [5, 10])
def test_the_corridor_has_one_way_and_actions_that_do_nothing(actions: int) -> None:
    mdp = model_of(corridor(actions, height=3, width=5))
    assert (mdp.states, mdp.actions) == (3 + 3 + 3, actions)
    q = value_iteration(mdp, 0.9)
    np.testing.assert_allclose(q.max(axis=1), [*0.9 ** np.arange(7, -1, -1.0), 0])
    assert q.argmax(axis=1)[:-1].tolist() == [1, 1, 3, 3, 3, 3, 0, 0]
    np.testing.assert_array_equal(mdp.next_state[:, 4:, 0], np.repeat(np.arange(9)[:, None], actions - 4, axis=1))
    assert mdp.reachable().tolist() == [True] * 8 + [False]


@pytest.mark.parametrize("name", NAMES)
def test_playing_is_what_the_table_says(name: str) -> None:
    mdp = model_of(gym.make(name))
    envs = make_vec(name, 5, 3)
    obs, _ = envs.reset()
    rng = np.random.default_rng(0)
    steps = np.zeros(5, int)
    for _ in range(60):
        action = rng.integers(mdp.actions, size=5)
        before = obs
        obs, reward, terminated, truncated, info = envs.step(action)
        steps += 1
        for i in range(5):
            k = np.flatnonzero(
                (mdp.probability[before[i], action[i]] > 0)
                & np.isclose(mdp.reward[before[i], action[i]], reward[i])
                & (mdp.next_state[before[i], action[i]] == info["final_obs"][i])
            )
            assert len(k) == 1
            assert mdp.terminated[before[i], action[i], k[0]] == terminated[i]
        np.testing.assert_array_equal(truncated, (steps == mdp.limit) & ~terminated)
        steps[terminated | truncated] = 0
    envs.close()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: noisy_choice(1), "actions is 1; it must be at least 2"),
        (lambda: chain(2), "length is 2; it must be at least 3"),
        (lambda: blind_cliffwalk(0), "length is 0; it must be at least 1"),
        (lambda: corridor(3), "actions is 3; it must be at least 4"),
        (lambda: corridor(5, height=1), "height is 1; it must be at least 2"),
        (lambda: corridor(5, width=1), "width is 1; it must be at least 2"),
    ],
)
def test_sizes_that_are_none(make, told: str) -> None:
    with pytest.raises(RlabError, match=told):
        make()
