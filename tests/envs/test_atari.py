"""Atari: where episodes end, what is executed and paid, and that a stream can be replayed."""

from contextlib import closing

import numpy as np
import pytest

from rlab.envs import atari, make_vec
from rlab.envs.vector import Interrupted

FIRE = 1  # in Breakout


def play(env, steps, actions=None, seed=None):
    """Yield (obs before, obs, reward, terminated, truncated, info) of random actions or a constant one."""
    rng = np.random.default_rng(0)
    before, _ = env.reset(seed=seed)
    for _ in range(steps):
        chosen = rng.integers(0, env.single_action_space.n, env.num_envs) if actions is None else actions
        obs, *rest = env.step(np.broadcast_to(chosen, env.num_envs))
        yield before, obs, *rest
        before = obs


def is_fresh(stacks):
    """bool[N]: stacks [N, 4, 84, 84] as a reset leaves them, the three older frames black."""
    return ~stacks[:, :3].any(axis=(1, 2, 3))


@pytest.mark.parametrize("protocol", ["classic", "v5"])
def test_episodes_end_only_at_game_over_and_final_obs_is_never_a_reset(protocol):
    env = make_vec("Breakout", 4, 0, protocol=protocol)
    lost = np.zeros(4, int)
    games = 0
    for before, obs, _, terminated, truncated, info in play(env, 330):
        assert not truncated.any()
        lost += info["life_lost"]
        assert not (info["life_lost"] & terminated).any()
        np.testing.assert_array_equal(is_fresh(obs), terminated)
        final = info["final_obs"]
        np.testing.assert_array_equal(final[:, :3], before[:, 1:])  # what the action led to, shifted by one
        if terminated.any():
            assert not is_fresh(final[terminated]).any()
            np.testing.assert_array_equal(lost[terminated], 4)  # the fifth life is the end
            lost[terminated] = 0
            games += terminated.sum()
        else:
            assert final is obs
    assert games >= 4
    env.close()


def test_life_loss_ends_says_what_the_learner_should_do():
    for protocol, training, ends in [
        ("classic", True, True),
        ("classic", False, False),
        ("v5", True, False),
        ("v5", False, False),
    ]:
        env = make_vec("Breakout", 1, 0, protocol=protocol, training=training)
        assert (env.life_loss_ends, env.protocol, env.frame_stack) == (ends, protocol, 4)
        env.close()


@pytest.mark.parametrize("training", [True, False])
def test_classic_fires_after_a_lost_life_and_reports_it(training):
    env = make_vec("Breakout", 2, 0, training=training)
    must_fire = np.zeros(2, bool)
    forced = 0
    for *_, info in play(env, 150, actions=2):
        np.testing.assert_array_equal(info["action"], np.where(must_fire, FIRE, 2))
        forced += must_fire.sum()
        must_fire = info["life_lost"]
    assert forced >= 8
    env.close()


def test_v5_executes_what_was_asked_and_fires_for_nobody():
    env = make_vec("Breakout", 2, 0, protocol="v5")
    for *_, terminated, _, info in play(env, 60, actions=2):
        assert (info["action"] == 2).all()
        assert not info["life_lost"].any()  # without FIRE no ball is ever in play
        assert not terminated.any()
    env.close()


def test_a_game_without_fire_is_left_alone():
    env = make_vec("MsPacman", 2, 0)
    lost = 0
    for *_, info in play(env, 250, actions=2):
        assert (info["action"] == 2).all()
        lost += info["life_lost"].sum()
    assert lost
    env.close()


@pytest.mark.parametrize("training", [True, False])
def test_rewards_are_clipped_in_training_only_and_raw_ones_always_told(training):
    env = make_vec("MsPacman", 2, 0, training=training)
    raw = []
    for _, _, reward, *_, info in play(env, 120):
        raw.append(info["raw_reward"])
        np.testing.assert_array_equal(reward, np.sign(raw[-1]) if training else raw[-1])
    assert np.max(raw) >= 10
    env.close()


def test_the_frame_cap_truncates_with_a_true_final_observation():
    env = make_vec("Pong", 2, 0, max_frames=40)
    ends = []
    for t, (before, obs, _, terminated, truncated, info) in enumerate(play(env, 35)):
        assert not terminated.any()
        ends += [t] * bool(truncated.all())
        np.testing.assert_array_equal(is_fresh(obs), truncated)
        np.testing.assert_array_equal(info["final_obs"][:, :3], before[:, 1:])
    assert ends == [9, 19, 29]  # every ten steps of four frames
    env.close()


def test_a_life_lost_at_the_cap_does_not_hide_the_truncation():
    probe = make_vec("Breakout", 1, 0)
    step = next(t for t, (*_, info) in enumerate(play(probe, 100, actions=2)) if info["life_lost"][0])
    probe.close()
    env = make_vec("Breakout", 1, 0, max_frames=4 * (step + 1))
    *_, last = play(env, step + 1, actions=2)
    _, _, _, terminated, truncated, _ = last
    assert truncated[0]
    assert not terminated[0]
    env.close()


@pytest.mark.parametrize("sticky", [0.0, 0.25])
def test_a_stream_is_replayed_exactly_on_any_number_of_threads(sticky):
    def stream(env, seed=None):
        return [
            (obs[:, -1].tobytes(), *(np.asarray(x).tobytes() for x in rest), info["action"].tobytes())
            for _, obs, *rest, info in play(env, 200, seed=seed)
        ]

    one = make_vec("Breakout", 3, 5, sticky=sticky, threads=1)
    two = make_vec("Breakout", 3, 5, sticky=sticky, threads=2)
    first = stream(one)
    assert first == stream(two)
    assert first == stream(two, seed=5)  # again, after many steps and games
    one.close()
    two.close()


def test_sticky_actions_change_the_game():
    seen = {}
    for sticky in (0.0, 0.9):
        env = make_vec("Breakout", 1, 5, sticky=sticky, threads=1)
        seen[sticky] = [obs.tobytes() for _, obs, *_ in play(env, 20)]
        env.close()
    assert seen[0.0] != seen[0.9]


def test_environments_and_neighbouring_seeds_differ():
    a, b = make_vec("Breakout", 8, 0), make_vec("Breakout", 8, 1)
    starts = {frame.tobytes() for env in (a, b) for frame in env.reset()[0][:, -1]}
    assert len(starts) > 8
    a.close()
    b.close()


def test_a_seeded_reset_can_be_interrupted(monkeypatch):
    monkeypatch.setattr(atari, "AT_ONCE", 2)
    with closing(make_vec("Breakout", 5, 0)) as env, closing(make_vec("Breakout", 5, 0)) as other:
        asked = iter([False, True])
        env.reset(seed=1)
        env.interrupted = lambda: next(asked)
        with pytest.raises(Interrupted):
            env.reset(seed=7)
        env.interrupted = lambda: False
        monkeypatch.setattr(atari, "AT_ONCE", 5)
        for (_, obs, *_), (_, same, *_) in zip(play(env, 20, seed=7), play(other, 20, seed=7), strict=True):
            np.testing.assert_array_equal(obs, same)
        monkeypatch.setattr(atari, "AT_ONCE", 2)
        for (_, obs, *_), (_, same, *_) in zip(play(env, 20, seed=7), play(other, 20, seed=7), strict=True):
            np.testing.assert_array_equal(obs, same)


@pytest.mark.parametrize("protocol", ["classic", "v5"])
def test_only_classic_begins_a_game_with_a_random_number_of_no_ops(protocol):
    env = make_vec("Freeway", 6, 0, protocol=protocol)
    starts = {frame.tobytes() for frame in env.reset()[0][:, -1]}
    assert (len(starts) == 1) == (protocol == "v5")
    env.close()


def test_no_thread_outlives_close():
    def threads():
        with open("/proc/self/status") as f:
            return int(next(line for line in f if line.startswith("Threads:")).split()[1])

    before = threads()
    for _ in range(3):
        env = make_vec("Pong", 2, 0, threads=2, render=True)
        env.reset()
        assert threads() > before
        env.close()
    assert threads() <= before


@pytest.mark.parametrize("protocol", ["classic", "v5"])
def test_the_picture_keeps_step_with_the_game(protocol):
    env = make_vec("Breakout", 1, 3, protocol=protocol, render=True)
    games = 0
    for t, (_, obs, _, terminated, *_) in enumerate(play(env, 250)):
        picture = env.frame()
        assert picture.shape == (210, 160, 3)
        assert picture.dtype == np.uint8
        games += terminated[0]
        if t % 5 == 0 or terminated[0]:
            # The game's own preprocessing: luminance, then the mean over each pixel's area in 84 x 84.
            grey = picture @ np.array([0.299, 0.587, 0.114])
            rows, columns = area(210, 84), area(160, 84)
            np.testing.assert_allclose(rows @ grey @ columns.T, obs[0, -1], atol=2)
    assert games or protocol == "v5"  # which presses no FIRE of its own accord
    env.close()


def area(source, target):
    """Weights [target, source] of a mean over areas."""
    edges = np.arange(target + 1) * source / target
    covered = np.clip(
        np.minimum(edges[1:, None], np.arange(1, source + 1)) - np.maximum(edges[:-1, None], np.arange(source)),
        0,
        None,
    )
    return covered * target / source


def test_it_is_quiet(capfd):
    env = make_vec("Breakout", 2, 0, render=True)
    env.reset()
    env.close()
    assert capfd.readouterr() == ("", "")
