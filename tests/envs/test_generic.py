"""Gymnasium environments: true final observations, masks, spaces that do not start at 0, pictures."""

import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Discrete, MultiBinary
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.envs import make_vec
from rlab.envs.vector import spread_seed
from rlab.errors import RlabError


class Offset(gym.Env):
    """Actions 5..7, observations 10..12: each action is shown; action 7 ends the episode."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.action_space = Discrete(3, start=5)
        self.observation_space = Discrete(3, start=10)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.now = 10
        return 10, {}

    def step(self, action):
        assert action in self.action_space
        self.now = int(action) + 5
        return self.now, 0.0, bool(action == 7), False, {}

    def render(self):
        return np.full((4, 6, 3), self.now, np.uint8)


class NoMaskLater(Offset):
    """Reports legal actions on reset and then forgets to."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0], {"action_mask": np.ones(3, np.int8)}


class NeedsPygame(Offset):
    """Draws with a package that is not there."""

    def render(self):
        raise gym.error.DependencyNotInstalled("pygame is not installed, run `pip install pygame`")


class Switches(Offset):
    """Has actions that are neither discrete nor real numbers."""

    def __init__(self, render_mode=None):
        super().__init__()
        self.action_space = MultiBinary(2)


@pytest.fixture(autouse=True)
def registered():
    ids = {f"Test{cls.__name__}-v0": cls for cls in (Offset, NoMaskLater, NeedsPygame, Switches)}
    for env_id, cls in ids.items():
        gym.register(env_id, entry_point=cls)
    yield
    for env_id in ids:
        del gym.registry[env_id]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 3), bias=st.sampled_from([0.1, 0.5, 0.9]))
def test_cartpole_is_the_plain_environment_stepped_alone(seed, n, bias):
    vec = make_vec("CartPole-v1", n, seed)
    plain = [gym.make("CartPole-v1") for _ in range(n)]
    starts = [p.reset(seed=int(s))[0] for p, s in zip(plain, spread_seed(seed, n), strict=True)]
    obs, info = vec.reset()
    np.testing.assert_array_equal(obs, starts)
    assert info == {}
    rng = np.random.default_rng(seed)
    for _ in range(60):
        actions = (rng.random(n) < bias).astype(np.int64)
        obs, reward, terminated, truncated, info = vec.step(actions)
        np.testing.assert_array_equal(info["action"], actions)
        for i, p in enumerate(plain):
            last, r, over, cut, _ = p.step(actions[i])
            np.testing.assert_array_equal(info["final_obs"][i], last)
            assert (reward[i], terminated[i], truncated[i]) == (r, over, cut)
            np.testing.assert_array_equal(obs[i], p.reset()[0] if over or cut else last)
    vec.close()


def test_time_limits_truncate():
    env = make_vec("MountainCar-v0", 2, 0)
    env.reset()
    for t in range(1, 201):
        obs, _, terminated, truncated, info = env.step(np.ones(2, np.int64))
        assert not terminated.any()
        assert truncated.all() == (t == 200)
    assert (info["final_obs"] != obs).any(axis=1).all()
    env.close()


def test_taxi_masks_are_those_of_the_states():
    taxi = max(i for i in gym.registry if i.startswith("Taxi-v"))
    env = make_vec(taxi, 3, 0)
    rules = gym.make(taxi).unwrapped

    def expected(states):
        return np.array([rules.action_mask(int(s)) for s in states], bool)

    rng = np.random.default_rng(0)
    obs, info = env.reset()
    ended = 0
    for _ in range(220):
        mask = info["action_mask"]
        assert mask.dtype == np.bool_
        np.testing.assert_array_equal(mask, expected(obs))
        actions = np.array([rng.choice(np.flatnonzero(row)) for row in mask])
        obs, _, terminated, truncated, info = env.step(actions)
        np.testing.assert_array_equal(info["final_mask"], expected(info["final_obs"]))
        ended += (terminated | truncated).sum()
    assert ended >= 3
    env.close()


def test_a_mask_that_goes_missing_is_named():
    env = make_vec("TestNoMaskLater-v0", 1, 0)
    env.reset()
    with pytest.raises(RlabError, match=r"'TestNoMaskLater-v0' must report info\['action_mask'\]"):
        env.step(np.array([0]))
    env.close()


def test_spaces_count_from_zero_here():
    env = make_vec("TestOffset-v0", 2, 0)
    assert (env.single_action_space, env.single_observation_space) == (Discrete(3), Discrete(3))
    assert env.reset()[0].tolist() == [0, 0]
    obs, _, terminated, _, info = env.step(np.array([1, 2]))
    assert obs.tolist() == [1, 0]
    assert info["final_obs"].tolist() == [1, 2]
    assert info["action"].tolist() == [1, 2]
    assert terminated.tolist() == [False, True]
    env.close()


def test_unsupported_actions_are_refused():
    with pytest.raises(RlabError, match="'TestSwitches-v0' has actions of MultiBinary"):
        make_vec("TestSwitches-v0", 2, 0)


def test_pictures():
    env = make_vec("TestOffset-v0", 2, 0, render=True)
    with pytest.raises(RlabError, match=r"call reset\(\) first"):
        env.frame()
    env.reset()
    env.step(np.array([1, 0]))
    assert env.frame().shape == (4, 6, 3)
    assert (env.frame() == 11).all()
    env.close()


def test_no_picture_without_a_mode_for_it():
    with pytest.raises(RlabError, match="'rlab/Probe1-v0' has no rgb_array"):
        make_vec("rlab/Probe1-v0", 1, 0, render=True)


def test_a_package_missing_for_drawing_is_named():
    env = make_vec("TestNeedsPygame-v0", 1, 0, render=True)
    env.reset()
    with pytest.raises(RlabError, match="pip install pygame"):
        env.frame()
    env.close()


def test_a_package_missing_for_the_environment_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "Box2D", None)
    monkeypatch.delitem(sys.modules, "gymnasium.envs.box2d", raising=False)
    monkeypatch.delitem(sys.modules, "gymnasium.envs.box2d.lunar_lander", raising=False)
    with pytest.raises(RlabError, match=r"'LunarLander-v3' needs a package that is missing.*pip install"):
        make_vec("LunarLander-v3", 1, 0)
