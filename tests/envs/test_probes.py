"""The probes' published values are the values of the probes, found here by rolling them out."""

import gymnasium as gym
import numpy as np
import pytest

from rlab.envs import make_vec
from rlab.envs.probes import PROBES

GAMMA = 0.9
BY_HAND = {
    "rlab/Probe1-v0": {0: [1]},
    "rlab/Probe2-v0": {-1: [-1], 1: [1]},
    "rlab/Probe3-v0": {0: [GAMMA], 1: [1]},
    "rlab/Probe4-v0": {0: [-1, 1]},
    "rlab/Probe5-v0": {-1: [1, -1], 1: [-1, 1]},
    "rlab/ProbeTruncation-v0": {0: [10]},
    "rlab/ProbeMask-v0": {0: [1 + GAMMA, np.nan], 1: [1, np.nan]},
}


@pytest.mark.parametrize("name", PROBES)
def test_solutions_by_hand(name):
    solution = {int(obs[0]): q for obs, q in PROBES[name].solution(GAMMA)}
    assert solution.keys() == BY_HAND[name].keys()
    for obs, q in solution.items():
        np.testing.assert_allclose(q, BY_HAND[name][obs])


@pytest.mark.parametrize("name", PROBES)
def test_solutions_satisfy_the_bellman_equation_of_the_environment(name):
    table = {float(obs[0]): q for obs, q in PROBES[name].solution(GAMMA)}
    env = make_vec(name, 4, 0)
    obs, info = env.reset()
    legal = info.get("action_mask", np.ones((4, env.single_action_space.n), bool))
    rng = np.random.default_rng(0)
    visited = set()
    for _ in range(40):
        actions = np.array([rng.choice(np.flatnonzero(row)) for row in legal])
        after, reward, terminated, _, info = env.step(actions)
        for i in range(4):
            best_next = np.nanmax(table[float(info["final_obs"][i, 0])])
            target = reward[i] + GAMMA * best_next * (not terminated[i])
            assert table[float(obs[i, 0])][actions[i]] == pytest.approx(target)
            visited.add((float(obs[i, 0]), int(actions[i])))
        obs = after
    assert visited == {(x, a) for x, q in table.items() for a in np.flatnonzero(~np.isnan(q))}
    env.close()


def test_the_truncation_probe_is_cut_and_never_over():
    env = make_vec("rlab/ProbeTruncation-v0", 1, 0)
    env.reset()
    cuts = []
    for t in range(30):
        _, _, terminated, truncated, _ = env.step(np.array([0]))
        assert not terminated[0]
        cuts += [t] * bool(truncated[0])
    assert cuts == [9, 19, 29]
    env.close()


def test_the_mask_probe_refuses_its_illegal_action():
    env = gym.make("rlab/ProbeMask-v0")
    _, info = env.reset()
    assert info["action_mask"].tolist() == [1, 0]
    with pytest.raises(ValueError, match="illegal"):
        env.step(1)
