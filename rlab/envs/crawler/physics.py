"""The mechanics of the crawler: one rigid trunk on two massless legs, N copies on arrays, compiled by numba.

The plane has x forward and z up. The trunk, of mass M and inertia J, has its centre at p = (x, z), is turned by t
(counter-clockwise) and moves with velocity v and angular velocity w. A leg (front: s = +1, hind: s = -1) hangs at
(s HIP, 0) of the trunk. With a, b the angles of hip and knee, in the trunk's frame

    knee = (s (HIP + THIGH sin a), -THIGH cos a)
    foot = knee + SHIN (s sin(a + b), -cos(a + b)),

so that the hind leg is the front leg's mirror image. Joints are servos: an action u in [-1, 1] is a joint's speed,
da/dt = SPEED u, until the joint's stop. Legs have no mass, so whatever the ground does to a foot, it does to the trunk.

The ground acts at eight points (feet, knees, corners of the trunk). At q, relative to the centre, a point with velocity
c = v + w x q + (what the joints add) and depth d = -z > 0 feels a spring with a damper, which never pulls, and
Coulomb friction, which is viscous below the speed SLIP (so that nothing creeps at rest, and nothing chatters):

    N = max(0, STIFFNESS d + DAMPING dd/dt),    T = -FRICTION N clip(c_x / SLIP, -1, 1)
    M dv/dt = sum (T, N) - (0, M g),            J dw/dt = sum (q_x N - q_z T)

Integrated by semi-implicit Euler, SUBSTEPS steps of DT an action. A joint's motor gives the power
-(T, N) . dq/da da/dt; energy (kinetic, of height, in the springs) never grows by more than that, as a test shows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlab.envs.splitmix import uniform
from rlab.kernels import compiled

MASS, GRAVITY = 3.0, 9.81  # kg, m/s^2
LENGTH, HEIGHT = 0.7, 0.12  # m, of the trunk
INERTIA = MASS * (LENGTH**2 + HEIGHT**2) / 12
HIP, THIGH, SHIN = 0.3, 0.15, 0.17  # m
SPEED = 2.0  # rad/s, of a joint
STIFFNESS, DAMPING = 5_000.0, 90.0  # N/m, N s/m
FRICTION, SLIP = 0.9, 0.05  # 1, m/s
SUBSTEPS, DT = 40, 0.001  # 25 actions a second

LOW = np.array([-0.4, -1.8, -0.4, -1.8])  # rad; hip and knee of the front leg, then of the hind leg
HIGH = np.array([1.2, 0.0, 1.2, 0.0])
NEUTRAL = np.array([0.5, -0.9, 0.5, -0.9])
START_NOISE = 0.1  # rad, of each joint at the start of an episode

POINTS = 8  # front foot and knee, hind foot and knee, four corners
X, Z, TURN, VX, VZ, SPIN = range(6)  # columns of `body`
SEEN = 12
"""Numbers of an observation: z, sin t, cos t, v, w, four joints, whether front and hind foot touch the ground."""
BOUND = np.array([3.0, 1, 1, 10, 10, 30, 2, 2, 2, 2, 1, 1], np.float32)
"""Observations are cut at plus and minus these."""


class CrawlerStates(NamedTuple):
    """The whole state of N crawlers; changed in place."""

    body: NDArray[np.float64]  # [N, 6], x z t v_x v_z w
    joints: NDArray[np.float64]  # [N, 4], rad: hip and knee of the front leg, of the hind leg
    steps: NDArray[np.int64]  # [N], of the present episode
    random: NDArray[np.uint64]  # [N], words of SplitMix64


class CrawlerStep(NamedTuple):
    """What a step of N crawlers shows."""

    obs: NDArray[np.float32]  # [N, SEEN]
    final: NDArray[np.float32]  # [N, SEEN], what the action led to, never a restart
    moved: NDArray[np.float64]  # [N], metres forward
    work: NDArray[np.float64]  # [N], joules that the motors gave, less what they took
    effort: NDArray[np.float64]  # [N], joules that they gave
    over: NDArray[np.bool_]  # [N], fallen on its back
    cut: NDArray[np.bool_]  # [N], truncated


def new_copies(n: int) -> CrawlerStates:
    """N crawlers without a place yet; `restart` begins."""
    return CrawlerStates(np.zeros((n, 6)), np.zeros((n, 4)), np.zeros(n, np.int64), np.zeros(n, np.uint64))


def new_seen(n: int) -> CrawlerStep:
    """New arrays for the results of a step."""
    obs, final = np.zeros((n, SEEN), np.float32), np.zeros((n, SEEN), np.float32)
    return CrawlerStep(obs, final, np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n, np.bool_), np.zeros(n, np.bool_))


@compiled()
def place_points(joints: Any, points: Any) -> None:
    """Where the ground may touch, in the trunk's frame: joints[4] -> points[POINTS, 2]."""
    for leg in range(2):
        side, hip, knee = 1.0 - 2.0 * leg, joints[2 * leg], joints[2 * leg] + joints[2 * leg + 1]
        x, z = HIP + THIGH * np.sin(hip), -THIGH * np.cos(hip)
        points[2 * leg + 1, 0], points[2 * leg + 1, 1] = side * x, z
        points[2 * leg, 0], points[2 * leg, 1] = side * (x + SHIN * np.sin(knee)), z - SHIN * np.cos(knee)
    for corner in range(4):
        points[4 + corner, 0] = LENGTH / 2 * (1.0 - 2.0 * (corner % 2))
        points[4 + corner, 1] = HEIGHT / 2 * (1.0 - 2.0 * (corner // 2))


@compiled()
def _lever(points: Any, i: int, j: int, cos: float, sin: float) -> Any:
    """The velocity (x, z) in the world of leg point i, 0..3, for one rad/s of joint j of its leg (0 hip, 1 knee)."""
    side = 1.0 - 2.0 * (i // 2)
    if j == 0:
        around_x, around_z = side * HIP, 0.0
    else:
        around_x, around_z = points[i // 2 * 2 + 1, 0], points[i // 2 * 2 + 1, 1]
    x, z = -side * (points[i, 1] - around_z), side * (points[i, 0] - around_x)
    return cos * x - sin * z, sin * x + cos * z


@compiled()
def _substep(body: Any, joints: Any, action: Any, points: Any, speeds: Any, power: Any) -> None:
    """Move one crawler on by DT; points[POINTS, 2], speeds[4] and power[4] (W, of each motor) are filled."""
    for j in range(4):
        wanted = joints[j] + SPEED * action[j] * DT
        speeds[j] = (min(HIGH[j], max(LOW[j], wanted)) - joints[j]) / DT
        power[j] = 0.0
    place_points(joints, points)
    cos, sin = np.cos(body[TURN]), np.sin(body[TURN])
    total_x, total_z, torque = 0.0, 0.0, 0.0
    for i in range(POINTS):
        qx, qz = cos * points[i, 0] - sin * points[i, 1], sin * points[i, 0] + cos * points[i, 1]
        depth = -(body[Z] + qz)
        if depth <= 0.0:
            continue
        cx, cz = body[VX] - body[SPIN] * qz, body[VZ] + body[SPIN] * qx
        leg = 2 * (i // 2)  # its first joint
        moved = 0 if i >= 4 else 2 - i % 2  # joints that move it: a foot 2, a knee 1
        for j in range(moved):
            along_x, along_z = _lever(points, i, j, cos, sin)
            cx, cz = cx + along_x * speeds[leg + j], cz + along_z * speeds[leg + j]
        normal = max(0.0, STIFFNESS * depth - DAMPING * cz)
        friction = -FRICTION * normal * min(1.0, max(-1.0, cx / SLIP))
        for j in range(moved):
            along_x, along_z = _lever(points, i, j, cos, sin)
            power[leg + j] -= (friction * along_x + normal * along_z) * speeds[leg + j]
        total_x, total_z = total_x + friction, total_z + normal
        torque += qx * normal - qz * friction
    body[VX] += DT * total_x / MASS
    body[VZ] += DT * (total_z / MASS - GRAVITY)
    body[SPIN] += DT * torque / INERTIA
    for k in range(3):
        body[k] += DT * body[3 + k]
    for j in range(4):
        joints[j] += DT * speeds[j]


@compiled()
def observe(body: Any, joints: Any, points: Any, obs: Any) -> None:
    """Fill obs[SEEN] of one crawler; points[POINTS, 2] is scratch."""
    obs[0], obs[1], obs[2] = body[Z], np.sin(body[TURN]), np.cos(body[TURN])
    obs[3], obs[4], obs[5] = body[VX], body[VZ], body[SPIN]
    place_points(joints, points)
    for j in range(4):
        obs[6 + j] = joints[j]
    for leg in range(2):
        foot = obs[1] * points[2 * leg, 0] + obs[2] * points[2 * leg, 1]
        obs[10 + leg] = 1.0 if body[Z] + foot < 0.0 else 0.0
    for k in range(SEEN):
        obs[k] = min(BOUND[k], max(-BOUND[k], obs[k]))


@compiled(nogil=True)
def restart(copies: Any, i: int, noise: float, points: Any) -> None:
    """Begin an episode of copy i: neutral joints plus or minus `noise`, standing still, the lowest point at 0."""
    for j in range(4):
        copies.joints[i, j] = NEUTRAL[j] + noise * (2.0 * uniform(copies.random, i) - 1.0)
    copies.body[i] = 0.0
    place_points(copies.joints[i], points)
    copies.body[i, Z] = -points[:, 1].min()
    copies.steps[i] = 0


@compiled(nogil=True)
def restart_all(copies: Any, noise: float, obs: Any) -> None:
    """Begin an episode of every copy and fill obs[N, SEEN]."""
    points = np.empty((POINTS, 2))
    for i in range(len(obs)):
        restart(copies, i, noise, points)
        observe(copies.body[i], copies.joints[i], points, obs[i])


@compiled(nogil=True)
def step_all(copies: Any, actions: Any, limit: int, noise: float, seen: Any) -> None:
    """One action of every copy; those that end restart in the same step (SAME_STEP).

    Args:
        copies: changed in place.
        actions: float[N, 4] in [-1, 1].
        limit: steps of an episode; 0: nothing ends and nothing restarts, not even after a fall.
        noise: of the joints after a restart.
        seen: filled.
    """
    points, speeds, power = np.empty((POINTS, 2)), np.empty(4), np.empty(4)
    for i in range(len(actions)):
        body, joints = copies.body[i], copies.joints[i]
        before, work, effort = body[X], 0.0, 0.0
        for _ in range(SUBSTEPS):
            _substep(body, joints, actions[i], points, speeds, power)
            for j in range(4):
                work += DT * power[j]
                effort += DT * max(0.0, power[j])
        copies.steps[i] += 1
        seen.moved[i], seen.work[i], seen.effort[i] = body[X] - before, work, effort
        observe(body, joints, points, seen.final[i])
        seen.over[i] = np.cos(body[TURN]) < 0.0
        seen.cut[i] = limit > 0 and copies.steps[i] >= limit and not seen.over[i]
        if limit > 0 and (seen.over[i] or seen.cut[i]):
            restart(copies, i, noise, points)
            observe(body, joints, points, seen.obs[i])
        else:
            seen.obs[i] = seen.final[i]
