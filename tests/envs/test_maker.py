"""From what a user has for an environment, by name or in Python, to copies of it."""

from __future__ import annotations

from contextlib import nullcontext

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from rlab.agents.config import EnvConfig
from rlab.envs import make_vec
from rlab.envs.make import load_model
from rlab.envs.maker import GivenEnv
from rlab.envs.objects import environment, wrapper_name
from rlab.errors import RlabError
from rlab.trust import Untrusted, begin, foreign, given

HERE = __name__


class Counting(gym.Env):
    """Shows how many steps are left."""

    observation_space, action_space = Box(0, 99, (1,), np.float32), Discrete(2)

    def __init__(self, length, names=()):
        if length < 1:
            raise ValueError("too short")
        self.length, self.names = length, names

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = self.length
        return np.full(1, self.left, np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.full(1, self.left, np.float32), 1.0, self.left == 0, False, {}


class Negated(gym.RewardWrapper):
    def reward(self, reward):
        return -reward


def five():
    return Counting(5)


def nothing(*_):
    return None


def one_step(**options):
    """What one copy of `Counting` shows, and pays for a step."""
    envs = make_vec(f"{HERE}:Counting", 1, 0, **options)
    obs, _ = envs.reset()
    _, reward, _, truncated, _ = envs.step(np.zeros(1, int))
    envs.close()
    return obs[0, 0], reward[0], bool(truncated[0])


def registered():
    gym.register("Counts-v0", Counting, max_episode_steps=7, kwargs={"length": 4})
    env = gym.make("Counts-v0", names=["a"])
    del gym.registry["Counts-v0"]
    return env


def go():
    env = Counting(3)
    env.spec = gym.spec("rlab/Go5-v0")
    return env


@pytest.mark.parametrize(
    ("make", "name", "options"),
    [
        (lambda: "Breakout", "Breakout", {}),
        (lambda: gym.make("CartPole-v1", render_mode="rgb_array"), "CartPole-v1", {}),
        (
            lambda: gym.make("CartPole-v1", max_episode_steps=9, sutton_barto_reward=True),
            "CartPole-v1",
            {"max_steps": 9, "env_args": {"sutton_barto_reward": True}},
        ),
        (lambda: gym.make("FrozenLake-v1", map_name="8x8"), "FrozenLake-v1", {"env_args": {"map_name": "8x8"}}),
        (lambda: Counting, f"{HERE}:Counting", {}),
        (lambda: five, f"{HERE}:five", {}),
        (registered, f"{HERE}:Counting", {"env_args": {"length": 4, "names": ["a"]}, "max_steps": 7}),
        (lambda: lambda: five(), "python:lambda", {}),
        (lambda: gym.wrappers.TimeAwareObservation(gym.make("CartPole-v1")), "python:CartPole-v1", {}),
        (lambda: gym.make("CartPole-v1", max_episode_steps=-1), "python:CartPole-v1", {}),
    ],
)
def test_environment_has_a_name(make, name, options):
    found, given = environment(make())
    assert (str(found), given) == (name, options)
    assert isinstance(found, GivenEnv) == name.startswith("python:")
    assert str(EnvConfig(env=found, options=given).env) == name


def test_given_environment_is_made_with_its_wrappers():
    name, _ = environment(gym.wrappers.TimeAwareObservation(gym.make("CartPole-v1", max_episode_steps=3)))
    envs = make_vec(name, 2, 0)
    assert envs.single_observation_space.shape == (5,)
    envs.reset()
    ends = [envs.step(np.zeros(2, int))[3].tolist() for _ in range(3)]
    envs.close()
    assert ends == [[False, False], [False, False], [True, True]]


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (lambda: gym.make_vec("CartPole-v1", 2), "is a vector environment.*num_envs=N"),
        (lambda: Counting(3), r"one object of Counting.*env=Counting, or env=lambda: Counting\(...\)"),
        (lambda: 5, "env is 5, a int; it must be an id"),
        (lambda: Negated(gym.make("CartPole-v1")), "wrapper Negated, which keeps no record of its arguments"),
        (go, "the lab makes Go itself.*env='rlab/Go5-v0'"),
    ],
)
def test_objects_without_copies_are_refused(env, words):
    with pytest.raises(RlabError, match=words):
        environment(env())


def test_arguments_wrappers_and_limit_apply():
    assert one_step(env_args={"length": 3}) == (3, 1, False)
    assert one_step(env_args={"length": 3}, wrappers=[f"{HERE}:Negated"], max_steps=1) == (3, -1, True)
    assert load_model("FrozenLake-v1", {"map_name": "8x8"}).probability.shape[0] == 64
    assert load_model("FrozenLake-v1").probability.shape[0] == 16


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs the argument 'length': --env-arg length="),
        ({"env_args": {"lenght": 3}}, "takes no argument 'lenght'; nearest: length"),
        ({"env_args": {"length": 0}}, "cannot be made: ValueError: too short"),
        ({"env_args": {"length": 3, "render_mode": "human"}}, "render_mode is no argument"),
        ({"env_args": {"length": print}}, "env_args is .*; it must be a dict of JSON values by name"),
        ({"env_args": {"length": 3}, "wrappers": "Negated"}, "wrappers is 'Negated'; it must be a list of names"),
        ({"env_args": {"length": 3}, "wrappers": ["Negated"]}, "'Negated' does not say where a wrapper lies"),
        ({"env_args": {"length": 3}, "wrappers": [f"{HERE}:Negatd"]}, "no class or function 'Negatd'.*: Negated"),
        ({"env_args": {"length": 3}, "wrappers": [f"{HERE}:nothing"]}, "made None, a NoneType, which is no gymn"),
    ],
)
def test_wrong_arguments_and_wrappers_are_refused(options, words):
    with pytest.raises(RlabError, match=words):
        one_step(**options)


def test_wrapper_without_a_name_is_refused():
    assert wrapper_name(Negated) == f"{HERE}:Negated"
    with pytest.raises(RlabError, match="cannot be imported by a name; put it into a module"):
        wrapper_name(lambda env: env)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("platform:node", {}),  # any function, of a module that is imported anyway
        ("CartPole-v1", {"wrappers": ["os:fspath"]}),
        (f"{HERE}:Counting", {"env_args": {"length": 3, "names": ["a_stranger:x"]}}),
        (f"{HERE}:Counting", {"env_args": {"length": 3, "names": ["gtp:a program"]}}),
    ],
)
def test_what_a_file_names_is_not_called(name, options, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    begin("eval", [])
    foreign([name, options])
    with pytest.raises(Untrusted, match="a file of the run names"):
        make_vec(name, 1, 0, **options)
    given([name, options])
    wrong = "names" not in str(options)  # what it names makes no environment
    with pytest.raises(RlabError, match=r"made .*, which is no|cannot be made") if wrong else nullcontext():
        make_vec(name, 1, 0, **options).close()
    begin("eval", [])
