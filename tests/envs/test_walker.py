"""The crawler obeys mechanics: energy only from its motors, rest without them, mirrors, and distance that adds up."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rlab.envs import make_vec
from rlab.envs.crawler.env import ENERGY_COST, PER_METRE, SPEEDS, Crawler
from rlab.envs.crawler.physics import (
    DT,
    FRICTION,
    GRAVITY,
    HIGH,
    HIP,
    INERTIA,
    LOW,
    MASS,
    NEUTRAL,
    POINTS,
    SHIN,
    SLIP,
    SPEED,
    SPIN,
    STIFFNESS,
    SUBSTEPS,
    THIGH,
    TURN,
    VX,
    VZ,
    CrawlerStates,
    CrawlerStep,
    X,
    Z,
    new_copies,
    new_seen,
    place_points,
    restart_all,
    step_all,
)
from rlab.envs.ids import CRAWLER_STEPS, CRAWLERS
from rlab.envs.vector import spread_seed

MIRROR = np.array([-1, 1, -1, -1, 1, -1])  # of x z t v_x v_z w
GAIT_PERIOD = 10  # steps
OTHER = [2, 3, 0, 1]  # the hind leg's joints in place of the front leg's


def standing(n: int = 1, noise: float = 0.0, seed: int = 0) -> tuple[CrawlerStates, CrawlerStep]:
    copies, seen = new_copies(n), new_seen(n)
    copies.random[:] = np.arange(n) + seed * n
    restart_all(copies, noise, seen.obs)
    return copies, seen


def go(copies: CrawlerStates, seen: CrawlerStep, actions: Any) -> None:
    step_all(copies, np.asarray(actions, np.float64).reshape(-1, 4), 0, 0.0, seen)


def gait(steps: int) -> NDArray[np.float64]:
    """A gait made by hand, to compare with: speeds [steps, 4], a sine of 0.4 s for each joint.

    Knees move with their hips, and the hind leg a quarter of a period after the front leg; the period was tried.
    """
    phase = 2 * np.pi * (np.arange(steps)[:, None] / GAIT_PERIOD - np.array([0, 0, 0.25, 0.25]))
    return np.sin(phase)


def energy(copies: CrawlerStates) -> NDArray[np.float64]:
    """Joules [N]: of motion, of height, and in the springs of the ground."""
    body, points, stored = copies.body, np.empty((POINTS, 2)), np.zeros(len(copies.body))
    for i, (x, joints) in enumerate(zip(body, copies.joints, strict=True)):
        place_points(joints, points)
        z = x[Z] + np.sin(x[TURN]) * points[:, 0] + np.cos(x[TURN]) * points[:, 1]
        stored[i] = STIFFNESS / 2 * (np.minimum(z, 0) ** 2).sum()
    moving = MASS / 2 * (body[:, VX] ** 2 + body[:, VZ] ** 2) + INERTIA / 2 * body[:, SPIN] ** 2
    return moving + MASS * GRAVITY * body[:, Z] + stored


def drawn(rng: np.random.Generator, n: int, kind: str) -> NDArray[np.float64]:
    uniform = rng.uniform(-1, 1, (n, 4))
    return np.sign(uniform) if kind == "full" else uniform


@pytest.mark.parametrize("name", CRAWLERS)
def test_gymnasium_has_nothing_to_say_against_it(name: str) -> None:
    env = gym.make(name, render_mode="rgb_array").unwrapped
    check_env(env)  # warnings are errors here
    env.close()


def test_the_legs_are_where_their_angles_say() -> None:
    points = np.empty((POINTS, 2))
    place_points(np.array([np.pi / 2, -np.pi / 2, 0.0, 0.0]), points)
    # front: thigh level outward, shin straight down; hind: both straight down
    np.testing.assert_allclose(points[:4], [
        [HIP + THIGH, -SHIN], [HIP + THIGH, 0], [-HIP, -THIGH - SHIN], [-HIP, -THIGH]
    ], atol=1e-12)  # fmt: skip


def test_it_falls_as_galileo_says() -> None:
    copies, seen = standing()
    copies.body[0, Z] = 5.0
    go(copies, seen, np.zeros(4))
    t = DT * SUBSTEPS
    assert copies.body[0, VZ] == pytest.approx(-GRAVITY * t)
    assert copies.body[0, Z] == pytest.approx(5.0 - GRAVITY * t * t / 2, abs=GRAVITY * t * DT)  # Euler's error


def test_friction_brakes_a_slide_by_its_coefficient() -> None:
    """Both feet slip: M dv/dt = -FRICTION M g, whatever the load of each foot."""
    copies, seen = standing()
    for _ in range(25):
        go(copies, seen, np.zeros(4))
    copies.body[0, VX] = 2.0
    before = copies.body[0].copy()
    go(copies, seen, np.zeros(4))
    lost = before[VX] - copies.body[0, VX]
    assert lost == pytest.approx(FRICTION * GRAVITY * DT * SUBSTEPS, rel=0.15)  # it bounces a little meanwhile
    assert copies.body[0, VX] > SLIP


def test_without_action_it_comes_to_rest_and_never_drifts() -> None:
    copies, seen = standing(64, noise=0.1)
    copies.body[:, Z] += 0.05
    copies.body[:, VX] = np.linspace(-1, 1, 64)
    for _ in range(100):
        go(copies, seen, np.zeros((64, 4)))
    rest = copies.body.copy()
    assert np.abs(rest[:, VX:]).max() < 1e-4
    for _ in range(100):
        go(copies, seen, np.zeros((64, 4)))
        assert not seen.work.any()
    np.testing.assert_allclose(copies.body[:, : TURN + 1], rest[:, : TURN + 1], atol=1e-5)
    assert not seen.over.any()


def test_at_rest_the_ground_carries_the_weight() -> None:
    copies, seen = standing()
    for _ in range(100):
        go(copies, seen, np.zeros(4))
    points = np.empty((POINTS, 2))
    place_points(copies.joints[0], points)
    depth = -(copies.body[0, Z] + points[:, 1])
    assert STIFFNESS * depth[depth > 0].sum() == pytest.approx(MASS * GRAVITY, rel=1e-3)
    assert copies.body[0, X] == pytest.approx(0, abs=1e-9)  # it is its own mirror image


@pytest.mark.parametrize("kind", ["full", "any"])
def test_energy_comes_from_the_motors_only(kind: str) -> None:
    """Over 10 s of random play no crawler ever has more energy than it began with and its motors gave."""
    rng = np.random.default_rng(0)
    copies, seen = standing(128, noise=0.1)
    began, given, worst = energy(copies), np.zeros(128), -np.inf
    for t in range(250):
        go(copies, seen, drawn(rng, 128, kind))
        given += seen.work
        if t % 10 == 0:
            worst = max(worst, float((energy(copies) - began - given).max()))
        assert (seen.effort >= seen.work - 1e-12).all()
    assert worst <= 1e-9
    assert (energy(copies) - began - given).mean() < -1  # and friction takes its part: the test can fail


def test_in_the_air_nothing_but_the_joints_moves() -> None:
    """Massless legs: waving them turns nothing, and the trunk's energy is kept."""
    copies, seen = standing()
    copies.body[0, Z], copies.body[0, SPIN] = 50.0, 1.0
    before = energy(copies)
    go(copies, seen, [1, -1, 0.5, 1])
    assert copies.body[0, SPIN] == 1.0
    assert seen.work[0] == 0
    assert energy(copies) == pytest.approx(before, abs=MASS * GRAVITY * GRAVITY * DT * DT * SUBSTEPS)
    np.testing.assert_allclose(copies.joints[0] - NEUTRAL, SPEED * DT * SUBSTEPS * np.array([1, -1, 0.5, 1]))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40))
def test_mirrored_actions_give_mirrored_motion(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    (one, seen), (two, seen_two) = standing(), standing()
    joints = rng.uniform(LOW, HIGH)
    for copies, legs in ((one, joints), (two, joints[OTHER])):
        copies.joints[0], copies.body[0, Z] = legs, 0.4
    for _ in range(steps):
        action = rng.uniform(-1, 1, 4)
        go(one, seen, action)
        go(two, seen_two, action[OTHER])
    np.testing.assert_allclose(two.body[0], one.body[0] * MIRROR, atol=1e-6)
    np.testing.assert_allclose(two.joints[0], one.joints[0][OTHER], atol=1e-12)
    assert seen_two.moved[0] == pytest.approx(-seen.moved[0], abs=1e-6)


def test_joints_stop_where_they_must() -> None:
    copies, seen = standing(2)
    for _ in range(60):
        go(copies, seen, [[1] * 4, [-1] * 4])
    np.testing.assert_allclose(copies.joints, [HIGH, LOW])


def test_the_reward_is_the_distance_less_the_energy() -> None:
    """Item 265: the farther it walks, the more it is paid."""
    env = Crawler()
    env.reset(seed=3)
    total = effort = 0.0
    for action in gait(200):
        _, reward, terminated, truncated, info = env.step(action.astype(np.float32))
        total, effort = total + reward, effort + info["effort"]
        assert not terminated
        assert not truncated
    assert info["distance"] > 0.5
    assert effort > 1
    assert total == pytest.approx(PER_METRE * info["distance"] - ENERGY_COST * effort)
    assert ENERGY_COST * effort < 0.5 * PER_METRE * info["distance"]  # a small part


def test_a_fall_is_the_end_and_time_only_a_cut() -> None:
    env = Crawler()
    env.reset(seed=0)
    env.copies.body[0, TURN], env.copies.body[0, Z] = 3.0, 0.5
    assert env.step(np.zeros(4, np.float32))[2:4] == (True, False)
    vec = make_vec("Crawler", 2, 0, max_steps=7)
    start, _ = vec.reset()
    for t in range(1, 8):
        obs, _, terminated, truncated, info = vec.step(np.ones((2, 4), np.float32))
        assert not terminated.any()
        assert truncated.tolist() == [t == 7] * 2
    assert not np.array_equal(obs, info["final_obs"])
    np.testing.assert_allclose(obs[:, 3:6], 0)  # standing again
    assert not np.array_equal(obs, start)  # but otherwise than at first
    vec.close()


@pytest.mark.parametrize("name", CRAWLERS)
def test_the_vector_form_is_the_single_one_many_times(name: str) -> None:
    """Also across restarts; copies do not depend on how many there are."""
    vec = make_vec(name, 3, 5, max_steps=20)
    singles = [gym.make(name, max_episode_steps=20) for _ in range(3)]
    obs, _ = vec.reset()
    rng = np.random.default_rng(0)
    alone = [s.reset(seed=int(k))[0] for s, k in zip(singles, spread_seed(5, 3), strict=True)]
    np.testing.assert_array_equal(obs, alone)
    for _ in range(50):
        discrete = CRAWLERS[name]
        actions: Any = rng.integers(0, 81, 3) if discrete else rng.uniform(-1, 1, (3, 4)).astype(np.float32)
        obs, reward, terminated, truncated, info = vec.step(actions)
        for i, single in enumerate(singles):
            o, r, end, cut, _ = single.step(actions[i])
            assert np.array_equal(o, info["final_obs"][i])
            assert (np.float32(r), end, cut) == (reward[i], terminated[i], truncated[i])
            if end or cut:
                o, _ = single.reset()
            assert np.array_equal(o, obs[i])
    vec.close()


def test_discrete_actions_are_each_joint_back_still_or_on() -> None:
    assert len({tuple(s) for s in SPEEDS}) == 81
    assert not SPEEDS[40].any()
    assert SPEEDS[80].tolist() == [1, 1, 1, 1]
    one, two = Crawler(), Crawler(discrete=True)
    one.reset(seed=1)
    two.reset(seed=1)
    for action in (0, 80, 13):
        assert np.array_equal(one.step(SPEEDS[action].astype(np.float32))[0], two.step(action)[0])


def test_short_names_mean_the_registered_ones() -> None:
    for short, space in (("Crawler", "Box"), ("CrawlerDiscrete", "Discrete"), ("rlab/Crawler-v0", "Box")):
        env = make_vec(short, 1, 0)
        assert type(env.single_action_space).__name__ == space
        env.close()
    env = make_vec("GridWorld", 1, 0)  # holds for all of ours
    env.close()


def test_it_stands_random_play_and_a_gait_walks() -> None:
    """20 s each: by chance it gets nowhere and rarely falls, by the gait it walks metres forward."""
    rng = np.random.default_rng(1)
    distance = {}
    for kind in ("random", "gait"):
        copies, seen = standing(64, noise=0.1)
        fallen, plan = np.zeros(64, bool), gait(CRAWLER_STEPS)
        for t in range(CRAWLER_STEPS):
            go(copies, seen, drawn(rng, 64, "any") if kind == "random" else np.tile(plan[t], (64, 1)))
            fallen |= seen.over
        distance[kind] = copies.body[:, X]
        assert fallen.mean() < 0.2
    assert abs(distance["random"].mean()) < 1
    assert distance["gait"].mean() > 5


def test_the_picture_shows_trunk_legs_and_marks_that_move() -> None:
    env = make_vec("Crawler", 2, 0, render=True)
    env.reset()
    pictures = [env.frame()]
    for action in gait(30):
        env.step(np.tile(action, (2, 1)).astype(np.float32))
    pictures.append(env.frame())
    for picture in pictures:
        assert picture.shape == (240, 480, 3)
        colours = {tuple(c) for c in picture.reshape(-1, 3).tolist()}
        assert {(70, 110, 170), (220, 60, 60), (190, 110, 50), (60, 50, 40)} <= colours
    assert not np.array_equal(*pictures)
    assert env.metadata["render_fps"] == 25
    env.close()


def test_bad_numbers_are_harmless() -> None:
    env = Crawler()
    with pytest.raises(ValueError, match="4 numbers"):
        env.step(np.full(4, np.nan, np.float32))
    with pytest.raises(ValueError, match="4 numbers"):
        env.step(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=r"0\.\.80"):
        Crawler(discrete=True).step(-1)
