"""What holds for every vector environment, Atari or not."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

from rlab.envs import make_vec
from rlab.errors import RlabError

NAMES = [
    "Breakout",
    "MinAtar/Seaquest",
    "MinAtar/Breakout",
    "CartPole-v1",
    "Taxi",
    "rlab/Probe5-v0",
    "rlab/ProbeTruncation-v0",
    "CrawlerDiscrete",
    "Go5",
]


def full(name):
    if name == "Taxi":  # its version differs between releases of Gymnasium
        import gymnasium

        return max(i for i in gymnasium.registry if i.startswith("Taxi-v"))
    return name


@pytest.fixture(params=NAMES)
def env(request):
    env = make_vec(full(request.param), 3, 7)
    yield env
    env.close()


def allowed(actions, info):
    """The actions, but where one is forbidden the first that is not."""
    mask = info.get("action_mask")
    return actions if mask is None else np.where(mask[np.arange(len(actions)), actions], actions, mask.argmax(1))


def play(env, steps, seed=None):
    """Everything a run of random actions shows, as a list of arrays."""
    rng = np.random.default_rng(0)
    obs, info = env.reset(seed=seed)
    seen = [obs, *info.values()]
    for _ in range(steps):
        actions = allowed(rng.integers(0, env.single_action_space.n, env.num_envs), info)
        obs, reward, terminated, truncated, info = env.step(actions)
        seen += [obs, reward, terminated, truncated, *info.values()]
    return seen


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_shapes_and_types(env):
    assert isinstance(env, VectorEnv)
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    obs, info = env.reset()
    masked = "action_mask" in info
    assert obs in env.observation_space
    for _ in range(15):
        actions = allowed(np.zeros(3, np.int64), info)
        obs, reward, terminated, truncated, info = env.step(actions)
        assert obs in env.observation_space
        assert info["final_obs"] in env.observation_space
        for array, kind in [
            (reward, np.float32),
            (terminated, np.bool_),
            (truncated, np.bool_),
            (info["raw_reward"], np.float32),
            (info["action"], np.int64),
            (info["life_lost"], np.bool_),
        ]:
            assert array.shape == (3,)
            assert array.dtype == kind
        goes_on = ~(terminated | truncated)
        np.testing.assert_array_equal(info["final_obs"][goes_on], obs[goes_on])
        assert ("action_mask" in info) == ("final_mask" in info) == masked


def test_seeds_decide_everything(env, request):
    first = play(env, 30)
    assert same(first, play(env, 30, seed=7))  # the seed of construction is that of the first reset
    no_chance = request.node.callspec.params["env"] == "rlab/ProbeTruncation-v0"
    assert same(first, play(env, 30, seed=8)) == no_chance
    assert same(first, play(env, 30, seed=7))


def test_later_resets_without_a_seed_go_on(env):
    env.reset()
    a = env.reset()[0]
    env.reset(seed=7)
    np.testing.assert_array_equal(a, env.reset()[0])


def test_no_step_writes_into_an_earlier_one(env):
    actions = allowed(np.zeros(3, np.int64), env.reset()[1])
    first = env.step(actions)
    arrays = [*first[:4], *first[4].values()]
    copies = [a.copy() for a in arrays]
    actions[:] = env.single_action_space.n - 1  # in Go, whose others are forbidden sooner or later, a pass
    for _ in range(12):
        env.step(actions)
    assert same(arrays, copies)


def test_calls_out_of_turn_are_refused(env):
    with pytest.raises(RlabError, match=r"call reset\(\) first"):
        env.step(np.zeros(3, np.int64))
    with pytest.raises(RlabError, match=r"call reset\(\) first"):
        env.recv()
    action = allowed(np.zeros(3, np.int64), env.reset()[1])
    with pytest.raises(RlabError, match="send actions first"):
        env.recv()
    env.send(action)
    with pytest.raises(RlabError, match="have not been received"):
        env.send(action)
    with pytest.raises(RlabError, match="have not been received"):
        env.reset()
    info = env.recv()[-1]
    with pytest.raises(RlabError, match="send actions first"):
        env.recv()
    env.step(allowed(action, info))
    with pytest.raises(RlabError, match="options"):
        env.reset(options={"reset_mask": np.ones(3, bool)})
    with pytest.raises(RlabError, match="seed"):
        env.reset(seed=-3)
    with pytest.raises(RlabError, match="render=True"):
        env.frame()


def test_bad_actions_are_refused_and_do_no_harm(env):
    info = env.reset()[1]
    too_high = np.array([0, 0, env.single_action_space.n])
    for bad, words in [
        (too_high, "must lie in"),
        (np.array([0, -1, 0]), "must lie in"),
        (np.zeros(2, np.int64), "shape"),
        (np.zeros((3, 1), np.int64), "shape"),
        (np.zeros(3), "float64"),
        (np.zeros(3, bool), "bool"),
        (None, "object"),
    ]:
        with pytest.raises(RlabError, match=words):
            env.send(bad)
    for kind in (np.int64, np.int32, np.uint8, list):
        actions = allowed(np.zeros(3, np.int64), info)
        info = env.step(actions.tolist() if kind is list else actions.astype(kind))[-1]


def test_send_then_recv_is_step(env):
    stepped = play(env, 12)
    env.step = lambda actions: (env.send(actions), env.recv())[1]
    assert same(stepped, play(env, 12, seed=7))


def test_close_is_safe_at_any_time(env):
    env.send(allowed(np.zeros(3, np.int64), env.reset()[1]))  # even in the middle of a step
    env.close()
    env.close()
    with pytest.raises(RlabError, match="closed"):
        env.step(np.zeros(3, np.int64))
    with pytest.raises(RlabError, match="closed"):
        env.recv()
    with pytest.raises(RlabError, match="closed"):
        env.reset()
