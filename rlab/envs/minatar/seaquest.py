# mypy: allow-untyped-defs
"""Seaquest: divers, fish, submarines and bullets are five lists of moving things.

A list is its length and then its members in the order of their coming; a member is one integer: x in bits 0-3, y in
bits 4-7, going right in bit 8, its timers above.
"""

from __future__ import annotations

from rlab.envs.minatar.common import (
    DOWN,
    FIRE,
    LEFT,
    NOOP,
    ON,
    RESET,
    RIGHT,
    STEP,
    UP,
    MinAtarGame,
    below,
    choose_action,
    clear,
    jit,
    record,
)
from rlab.envs.splitmix import uniform

OXYGEN, DIVERS, X, Y, FACES_RIGHT, SPAWN_EVERY, SPAWN, DIVER, MOVE_EVERY = range(9)
RAMP, COOL, SURFACED = 9, 10, 11
# Room: a bullet of ours every 5 steps lives 10; a diver every 30 steps lives 61. An enemy every step lives 31 at the
# fastest, 61 with rarer spawning before; each submarine has one bullet in the water (every 11 steps, living 10).
OURS, DIVING, FISH, SUBS, THEIRS, END = 12, 17, 22, 87, 152, 217
_PLACE, _GOES_RIGHT, _TICK, _SHOT_TICK = 0xFF, 1 << 8, 1 << 9, 1 << 12
_OXYGEN = 200


@jit
def _add(rows, i, things, thing):
    rows[i, things] += 1
    rows[i, things + rows[i, things]] = thing


@jit
def _drop(rows, i, things, k):
    """Remove member k, 1 .. length; the order of the others stays."""
    for j in range(k, rows[i, things]):
        rows[i, things + j] = rows[i, things + j + 1]
    rows[i, things] -= 1


@jit
def _find(rows, i, things, place):
    """The first member at a place, 0 if there is none."""
    for k in range(1, rows[i, things] + 1):
        if rows[i, things + k] & _PLACE == place:
            return k
    return 0


@jit
def _leaves(thing):
    return (thing & 15) == (9 if thing & _GOES_RIGHT else 0)


@jit
def _ahead(thing):
    return thing + 1 if thing & _GOES_RIGHT else thing - 1


@jit
def _timer(thing):
    return (thing >> 9) & 7


@jit
def _shot_timer(thing):
    return thing >> 12


@jit
def _newcomer(right, y, timer):
    return (0 if right else 9) | (y << 4) | (_GOES_RIGHT if right else 0) | (timer * _TICK)


@jit
def reset(rows, i, rng_keys):
    """Begin a new game in row i."""
    rows[i, OXYGEN] = _OXYGEN
    rows[i, DIVERS] = 0
    rows[i, X], rows[i, Y], rows[i, FACES_RIGHT] = 5, 0, 0
    rows[i, SPAWN_EVERY] = rows[i, SPAWN] = 20
    rows[i, DIVER] = 30
    rows[i, MOVE_EVERY] = 5
    rows[i, RAMP] = rows[i, COOL] = 0
    rows[i, SURFACED] = 1
    rows[i, OURS] = rows[i, DIVING] = rows[i, FISH] = rows[i, SUBS] = rows[i, THEIRS] = 0


@jit
def _spawn(rows, i, rng_keys):
    right = uniform(rng_keys, i) < 1 / 2
    submarine = uniform(rng_keys, i) < 1 / 3
    y = 1 + below(rng_keys, i, 8)
    new = _newcomer(right, y, rows[i, MOVE_EVERY])
    for things in (FISH, SUBS):
        for k in range(1, rows[i, things] + 1):
            other = rows[i, things + k]
            if (other >> 4) & 15 == y and (other ^ new) & _GOES_RIGHT:
                return  # it would meet what comes the other way
    if submarine:
        _add(rows, i, SUBS, new + 10 * _SHOT_TICK)
    else:
        _add(rows, i, FISH, new)


@jit
def _player(rows, i, action):
    if action == FIRE and rows[i, COOL] == 0:
        _add(rows, i, OURS, rows[i, X] | (rows[i, Y] << 4) | (_GOES_RIGHT if rows[i, FACES_RIGHT] else 0))
        rows[i, COOL] = 5
    elif action == LEFT:
        rows[i, X] = max(0, rows[i, X] - 1)
        rows[i, FACES_RIGHT] = 0
    elif action == RIGHT:
        rows[i, X] = min(9, rows[i, X] + 1)
        rows[i, FACES_RIGHT] = 1
    elif action == UP:
        rows[i, Y] = max(0, rows[i, Y] - 1)
    elif action == DOWN:
        rows[i, Y] = min(8, rows[i, Y] + 1)


@jit
def _bullets(rows, i):
    """Move our bullets, newest first: the reward."""
    reward = 0
    for k in range(rows[i, OURS], 0, -1):
        bullet = rows[i, OURS + k]
        if _leaves(bullet):
            _drop(rows, i, OURS, k)
            continue
        rows[i, OURS + k] = bullet = _ahead(bullet)
        for things in (FISH, SUBS):
            hit = _find(rows, i, things, bullet & _PLACE)
            if hit:
                _drop(rows, i, things, hit)
                _drop(rows, i, OURS, k)
                reward += 1
                break
    return reward


@jit
def _divers(rows, i, here):
    for k in range(rows[i, DIVING], 0, -1):
        diver = rows[i, DIVING + k]
        if diver & _PLACE == here and rows[i, DIVERS] < 6:
            _drop(rows, i, DIVING, k)
            rows[i, DIVERS] += 1
        elif _timer(diver) > 0:
            rows[i, DIVING + k] = diver - _TICK
        elif _leaves(diver):
            _drop(rows, i, DIVING, k)
        else:
            rows[i, DIVING + k] = diver = _ahead(diver) + 5 * _TICK
            if diver & _PLACE == here and rows[i, DIVERS] < 6:
                _drop(rows, i, DIVING, k)
                rows[i, DIVERS] += 1


@jit
def _enemies(rows, i, things, here):
    """Move fish or submarines, newest first: (reward, over)."""
    reward, over = 0, False
    for k in range(rows[i, things], 0, -1):
        enemy = rows[i, things + k]
        over |= enemy & _PLACE == here
        stays, inside = True, True
        if _timer(enemy) > 0:
            enemy -= _TICK
        elif _leaves(enemy):
            stays = inside = False
        else:
            enemy = _ahead(enemy) + rows[i, MOVE_EVERY] * _TICK
            if enemy & _PLACE == here:
                over = True
            else:
                bullet = _find(rows, i, OURS, enemy & _PLACE)
                if bullet:
                    stays = False
                    _drop(rows, i, OURS, bullet)
                    reward += 1
        if things == SUBS:  # even one that was hit in this step may shoot; one that left shoots out of sight
            if _shot_timer(enemy) > 0:
                enemy -= _SHOT_TICK
            else:
                if inside:
                    _add(rows, i, THEIRS, enemy & (_PLACE | _GOES_RIGHT))
                enemy += 10 * _SHOT_TICK
        if stays:
            rows[i, things + k] = enemy
        else:
            _drop(rows, i, things, k)
    return reward, over


@jit
def _their_bullets(rows, i, here):
    over = False
    for k in range(rows[i, THEIRS], 0, -1):
        bullet = rows[i, THEIRS + k]
        over |= bullet & _PLACE == here
        if _leaves(bullet):
            _drop(rows, i, THEIRS, k)
        else:
            rows[i, THEIRS + k] = bullet = _ahead(bullet)
            over |= bullet & _PLACE == here
    return over


@jit
def _surface(rows, i, ramping):
    """Take in air for a diver, or all six for points: the reward."""
    rows[i, SURFACED] = 1
    reward = 0
    if rows[i, DIVERS] == 6:
        rows[i, DIVERS] = 0  # and one less below: the package then counts from -1, and so do we
        reward = rows[i, OXYGEN] * 10 // _OXYGEN
    rows[i, OXYGEN] = _OXYGEN
    rows[i, DIVERS] -= 1
    if ramping and (rows[i, SPAWN_EVERY] > 1 or rows[i, MOVE_EVERY] > 2):
        if rows[i, MOVE_EVERY] > 2 and rows[i, RAMP] % 2 == 1:
            rows[i, MOVE_EVERY] -= 1
        if rows[i, SPAWN_EVERY] > 1:
            rows[i, SPAWN_EVERY] -= 1
        rows[i, RAMP] += 1
    return reward


@jit
def step(rows, i, rng_keys, action, ramping):
    """Play one step of row i with an action 0 .. 5: (reward, over)."""
    if rows[i, SPAWN] == 0:
        _spawn(rows, i, rng_keys)
        rows[i, SPAWN] = rows[i, SPAWN_EVERY]
    if rows[i, DIVER] == 0:
        right = uniform(rng_keys, i) < 1 / 2
        _add(rows, i, DIVING, _newcomer(right, 1 + below(rng_keys, i, 8), 5))
        rows[i, DIVER] = 30
    _player(rows, i, action)
    here = rows[i, X] | (rows[i, Y] << 4)
    reward = _bullets(rows, i)
    _divers(rows, i, here)
    got, over = _enemies(rows, i, SUBS, here)
    over |= _their_bullets(rows, i, here)
    got_too, hit = _enemies(rows, i, FISH, here)
    reward += got + got_too
    over |= hit
    for timer in (SPAWN, DIVER, COOL):
        if rows[i, timer] > 0:
            rows[i, timer] -= 1
    over |= rows[i, OXYGEN] <= 0
    if rows[i, Y] > 0:
        rows[i, OXYGEN] -= 1
        rows[i, SURFACED] = 0
    elif not rows[i, SURFACED]:
        if rows[i, DIVERS] == 0:
            over = True
        else:
            reward += _surface(rows, i, ramping)
    return reward, over


@jit
def _draw_swimmers(rows, i, things, channel, image):
    for k in range(1, rows[i, things] + 1):
        thing = rows[i, things + k]
        x, y = thing & 15, (thing >> 4) & 15
        behind = x - 1 if thing & _GOES_RIGHT else x + 1
        image[i, channel, y, x] = ON
        if 0 <= behind <= 9:
            image[i, 3, y, behind] = ON


@jit
def draw(rows, i, image):
    """Draw the game of row i into image [N, C, 10, 10]."""
    clear(image, i)
    x, y = rows[i, X], rows[i, Y]
    image[i, 0, y, x] = ON
    image[i, 1, y, x - 1 if rows[i, FACES_RIGHT] else x + 1] = ON
    for k in range(1, rows[i, OURS] + 1):
        image[i, 2, (rows[i, OURS + k] >> 4) & 15, rows[i, OURS + k] & 15] = ON
    for k in range(1, rows[i, THEIRS] + 1):
        image[i, 4, (rows[i, THEIRS + k] >> 4) & 15, rows[i, THEIRS + k] & 15] = ON
    _draw_swimmers(rows, i, FISH, 5, image)
    _draw_swimmers(rows, i, SUBS, 6, image)
    _draw_swimmers(rows, i, DIVING, 9, image)
    for column in range(max(0, rows[i, OXYGEN]) * 10 // _OXYGEN):
        image[i, 7, 9, column] = ON
    for column in range(9 - max(0, rows[i, DIVERS]), 9):
        image[i, 8, 9, column] = ON


@jit
def run(lo, hi, mode, actions, rules, states, buffers):
    """Step, reset or only draw rows lo .. hi-1, and begin anew where a game has ended."""
    rows, rng_keys = states.rows, states.rng_keys
    for i in range(lo, hi):
        ended = mode == RESET
        if mode == STEP:
            reward, over = step(rows, i, rng_keys, choose_action(i, actions, rules, states), rules.ramping)
            ended = record(i, reward, over, rules, states, buffers)
            if ended:
                draw(rows, i, buffers.final)
        if ended:
            reset(rows, i, rng_keys)
        draw(rows, i, buffers.obs)


GAME = MinAtarGame(
    channels=(
        "front",
        "back",
        "our bullet",
        "trail",
        "enemy bullet",
        "fish",
        "submarine",
        "oxygen",
        "divers aboard",
        "diver",
    ),
    actions=(NOOP, LEFT, UP, RIGHT, DOWN, FIRE),
    columns=END,
    run=run,
    step=step,
    draw=draw,
)
