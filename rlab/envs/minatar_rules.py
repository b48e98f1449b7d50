# mypy: allow-untyped-defs
"""The rules of the five games of MinAtar in numba, on tables of integers; `rlab.envs.minatar` makes environments of
them.

The rules are those of the authors' package `minatar` 1.0.15 (Young & Tian 2019, https://arxiv.org/abs/1903.03176),
written anew for arrays; ``tests/envs/test_minatar.py`` lets both play with the same dice and compares every step.

A copy of a game is a row of integers and one word of random state. Every game has four functions: ``_GAME_begin``,
``_GAME_step``, ``_GAME_draw``, and ``_GAME_run``, the loop over rows lo .. hi-1, which is all that is called from
Python while playing; it holds no GIL. Rows know nothing of each other, so neither the number of copies nor the way in
which threads share them changes what happens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rlab.envs.splitmix import uniform

SIZE = 10
"""Rows and columns of the board."""
ON = 255
"""A set cell of an observation."""
NOOP, LEFT, UP, RIGHT, DOWN, FIRE = range(6)
STEP, BEGIN, LOOK = range(3)
"""What a run does: step, begin new games, or only draw."""

jit = njit(cache=True, nogil=True)


@jit
def below(dice, i, n):
    """Draw from 0 .. n-1 and advance dice[i]; n is at most 10 here, so the bias of 2^-53 does not matter."""
    return int(uniform(dice, i) * n)


# ---- What the loops share. Arrays are named here once; a game's functions take `s`, the table of all rows, and a row.


class Copies(NamedTuple):
    """All that N copies are: whoever puts these arrays back has the games back."""

    rows: NDArray[np.int32]
    """[N, columns of the game]."""
    dice: NDArray[np.uint64]
    """[N]."""
    before: NDArray[np.int64]
    """[N]: the action executed before, 0 .. 5; like the package's it outlives a game."""
    steps: NDArray[np.int64]
    """[N]: steps of the present game."""


class Seen(NamedTuple):
    """Where a step is written to."""

    obs: NDArray[np.uint8]
    """[N, C, 10, 10]: after an autoreset, the new game's first observation."""
    final: NDArray[np.uint8]
    """[N, C, 10, 10]: the observation that ended a game; written only where one ended."""
    reward: NDArray[np.float32]
    """[N]."""
    terminated: NDArray[np.bool_]
    """[N]."""
    truncated: NDArray[np.bool_]
    """[N]."""


class Rules(NamedTuple):
    """What holds for all copies."""

    actions: NDArray[np.int64]
    """[A]: the game's action for each action of the environment."""
    sticky: float
    ramping: bool
    max_steps: int


@jit
def _choose(i, actions, rules, copies):
    action = rules.actions[actions[i]]
    if uniform(copies.dice, i) < rules.sticky:
        action = copies.before[i]
    copies.before[i] = action
    return action


@jit
def _note(i, reward, over, rules, copies, seen):
    """Write down what a step gave and say whether the game has ended."""
    copies.steps[i] += 1
    late = not over and copies.steps[i] >= rules.max_steps
    seen.reward[i] = reward
    seen.terminated[i] = over
    seen.truncated[i] = late
    if over or late:
        copies.steps[i] = 0
        return True
    return False


@jit
def _clear(image, i):
    for c in range(image.shape[1]):
        for y in range(SIZE):
            for x in range(SIZE):
                image[i, c, y, x] = 0


# ---- Breakout: a paddle, a ball on diagonals, three rows of bricks in rows 1 to 3 (as bits). It never gets harder.

(B_PADDLE, B_X, B_Y, B_OLD_X, B_OLD_Y, B_DX, B_DY, B_INSIDE, B_BRICKS) = range(9)
_WALL = (1 << SIZE) - 1


@jit
def _breakout_begin(s, i, dice):
    right = below(dice, i, 2) == 1
    s[i, B_PADDLE] = 4
    s[i, B_X] = s[i, B_OLD_X] = 9 if right else 0
    s[i, B_Y] = s[i, B_OLD_Y] = 3
    s[i, B_DX] = -1 if right else 1
    s[i, B_DY] = 1
    s[i, B_INSIDE] = 0
    s[i, B_BRICKS : B_BRICKS + 3] = _WALL


@jit
def _breakout_step(s, i, dice, action, ramping):
    paddle = s[i, B_PADDLE]
    if action == LEFT and paddle > 0:
        paddle -= 1
    elif action == RIGHT and paddle < 9:
        paddle += 1
    s[i, B_PADDLE] = paddle
    x, y, dx, dy = s[i, B_X], s[i, B_Y], s[i, B_DX], s[i, B_DY]
    new_x, new_y = x + dx, y + dy
    reward, over, inside = 0, False, False
    if new_x < 0 or new_x > 9:
        new_x, dx = x, -dx
    if new_y < 0:
        new_y, dy = 0, -dy
    elif 1 <= new_y <= 3 and (s[i, B_BRICKS + new_y - 1] >> new_x) & 1:
        inside = True
        if not s[i, B_INSIDE]:  # coming out of a brick just broken, the ball passes through the next one
            reward = 1
            s[i, B_BRICKS + new_y - 1] ^= 1 << new_x
            new_y, dy = y, -dy
    elif new_y == 9:
        if s[i, B_BRICKS] | s[i, B_BRICKS + 1] | s[i, B_BRICKS + 2] == 0:
            s[i, B_BRICKS : B_BRICKS + 3] = _WALL
        if x == paddle:
            new_y, dy = y, -dy
        elif new_x == paddle:
            new_y, dx, dy = y, -dx, -dy
        else:
            over = True
    s[i, B_OLD_X], s[i, B_OLD_Y] = x, y
    s[i, B_X], s[i, B_Y], s[i, B_DX], s[i, B_DY] = new_x, new_y, dx, dy
    s[i, B_INSIDE] = inside
    return reward, over


@jit
def _breakout_draw(s, i, image):
    _clear(image, i)
    image[i, 0, 9, s[i, B_PADDLE]] = ON
    image[i, 1, s[i, B_Y], s[i, B_X]] = ON
    image[i, 2, s[i, B_OLD_Y], s[i, B_OLD_X]] = ON
    for row in range(3):
        for x in range(SIZE):
            image[i, 3, 1 + row, x] = ON * ((s[i, B_BRICKS + row] >> x) & 1)


@jit
def _breakout_run(lo, hi, mode, actions, rules, copies, seen):
    s, dice = copies.rows, copies.dice
    for i in range(lo, hi):
        ended = mode == BEGIN
        if mode == STEP:
            reward, over = _breakout_step(s, i, dice, _choose(i, actions, rules, copies), rules.ramping)
            ended = _note(i, reward, over, rules, copies, seen)
            if ended:
                _breakout_draw(s, i, seen.final)
        if ended:
            _breakout_begin(s, i, dice)
        _breakout_draw(s, i, seen.obs)


# ---- Freeway: a chicken crosses eight lanes (rows 1 to 8); every crossing draws new speeds. Over after 2,501 steps.

F_Y, F_WAIT, F_CLOCK, F_X, F_TIMER, F_SPEED = 0, 1, 2, 3, 11, 19
LANES = 8


@jit
def _freeway_speeds(s, i, dice):
    # A car moves every |speed| + 1 steps, to the right where speed > 0.
    for lane in range(LANES):
        s[i, F_TIMER + lane] = 1 + below(dice, i, 5)
    for lane in range(LANES):
        speed = s[i, F_TIMER + lane]
        s[i, F_SPEED + lane] = speed if uniform(dice, i) > 0.5 else -speed


@jit
def _freeway_begin(s, i, dice):
    _freeway_speeds(s, i, dice)
    s[i, F_X : F_X + LANES] = 0
    s[i, F_Y] = 9
    s[i, F_WAIT] = 3
    s[i, F_CLOCK] = 2500


@jit
def _freeway_step(s, i, dice, action, ramping):
    y, reward = s[i, F_Y], 0
    if s[i, F_WAIT] == 0 and action in (UP, DOWN):
        s[i, F_WAIT] = 3
        y = max(0, y - 1) if action == UP else min(9, y + 1)
    if y == 0:
        reward = 1
        _freeway_speeds(s, i, dice)
        y = 9
    for lane in range(LANES):
        x = s[i, F_X + lane]
        if y == lane + 1 and x == 4:
            y = 9
        if s[i, F_TIMER + lane] == 0:
            speed = s[i, F_SPEED + lane]
            s[i, F_TIMER + lane] = abs(speed)
            x += 1 if speed > 0 else -1
            x = 9 if x < 0 else 0 if x > 9 else x
            s[i, F_X + lane] = x
            if y == lane + 1 and x == 4:
                y = 9
        else:
            s[i, F_TIMER + lane] -= 1
    s[i, F_Y] = y
    if s[i, F_WAIT] > 0:
        s[i, F_WAIT] -= 1
    s[i, F_CLOCK] -= 1
    return reward, s[i, F_CLOCK] < 0


@jit
def _freeway_draw(s, i, image):
    _clear(image, i)
    image[i, 0, s[i, F_Y], 4] = ON
    for lane in range(LANES):
        x, speed = s[i, F_X + lane], s[i, F_SPEED + lane]
        behind = x - 1 if speed > 0 else x + 1
        behind = 9 if behind < 0 else 0 if behind > 9 else behind
        image[i, 1, 1 + lane, x] = ON
        image[i, 1 + abs(speed), 1 + lane, behind] = ON


@jit
def _freeway_run(lo, hi, mode, actions, rules, copies, seen):
    s, dice = copies.rows, copies.dice
    for i in range(lo, hi):
        ended = mode == BEGIN
        if mode == STEP:
            reward, over = _freeway_step(s, i, dice, _choose(i, actions, rules, copies), rules.ramping)
            ended = _note(i, reward, over, rules, copies, seen)
            if ended:
                _freeway_draw(s, i, seen.final)
        if ended:
            _freeway_begin(s, i, dice)
        _freeway_draw(s, i, seen.obs)


# ---- Asterix: gold and enemies cross rows 1 to 8, one in each at the most; they come and move faster with time.

A_X, A_Y, A_SPAWN_EVERY, A_SPAWN, A_MOVE_EVERY, A_MOVE, A_RAMP_TIMER, A_RAMP, A_KIND, A_COL, A_DIR = *range(9), 16, 24
_ENEMY, _GOLD = 1, 2
"""A_KIND of a row; 0: nothing there."""


@jit
def _asterix_begin(s, i, dice):
    s[i, A_X] = s[i, A_Y] = 5
    s[i, A_SPAWN_EVERY] = s[i, A_SPAWN] = 10
    s[i, A_MOVE_EVERY] = s[i, A_MOVE] = 5
    s[i, A_RAMP_TIMER] = 100
    s[i, A_RAMP] = 0
    s[i, A_KIND : A_KIND + 24] = 0


@jit
def _asterix_spawn(s, i, dice):
    right = uniform(dice, i) < 1 / 2
    gold = uniform(dice, i) < 1 / 3
    free = 0
    for row in range(8):
        free += s[i, A_KIND + row] == 0
    if free == 0:
        return
    skip = below(dice, i, free)
    for row in range(8):
        if s[i, A_KIND + row] == 0:
            if skip == 0:
                s[i, A_KIND + row] = _GOLD if gold else _ENEMY
                s[i, A_COL + row] = 0 if right else 9
                s[i, A_DIR + row] = 1 if right else -1
                return
            skip -= 1


@jit
def _asterix_touch(s, i, row):
    """What the player's place means for what crosses a row: (reward, over)."""
    kind = s[i, A_KIND + row]
    if kind == 0 or s[i, A_Y] != row + 1 or s[i, A_X] != s[i, A_COL + row]:
        return 0, False
    if kind == _ENEMY:
        return 0, True
    s[i, A_KIND + row] = 0
    return 1, False


@jit
def _asterix_step(s, i, dice, action, ramping):
    reward, over = 0, False
    if s[i, A_SPAWN] == 0:
        _asterix_spawn(s, i, dice)
        s[i, A_SPAWN] = s[i, A_SPAWN_EVERY]
    if action == LEFT:
        s[i, A_X] = max(0, s[i, A_X] - 1)
    elif action == RIGHT:
        s[i, A_X] = min(9, s[i, A_X] + 1)
    elif action == UP:
        s[i, A_Y] = max(1, s[i, A_Y] - 1)
    elif action == DOWN:
        s[i, A_Y] = min(8, s[i, A_Y] + 1)
    got, hit = _asterix_touch(s, i, s[i, A_Y] - 1)
    reward += got
    over |= hit
    if s[i, A_MOVE] == 0:
        s[i, A_MOVE] = s[i, A_MOVE_EVERY]
        for row in range(8):
            s[i, A_COL + row] += s[i, A_DIR + row]
            if s[i, A_COL + row] < 0 or s[i, A_COL + row] > 9:
                s[i, A_KIND + row] = s[i, A_COL + row] = s[i, A_DIR + row] = 0
        got, hit = _asterix_touch(s, i, s[i, A_Y] - 1)
        reward += got
        over |= hit
    s[i, A_SPAWN] -= 1
    s[i, A_MOVE] -= 1
    if ramping and (s[i, A_SPAWN_EVERY] > 1 or s[i, A_MOVE_EVERY] > 1):
        if s[i, A_RAMP_TIMER] >= 0:
            s[i, A_RAMP_TIMER] -= 1
        else:
            if s[i, A_MOVE_EVERY] > 1 and s[i, A_RAMP] % 2 == 1:
                s[i, A_MOVE_EVERY] -= 1
            if s[i, A_SPAWN_EVERY] > 1:
                s[i, A_SPAWN_EVERY] -= 1
            s[i, A_RAMP] += 1
            s[i, A_RAMP_TIMER] = 100
    return reward, over


@jit
def _asterix_draw(s, i, image):
    _clear(image, i)
    image[i, 0, s[i, A_Y], s[i, A_X]] = ON
    for row in range(8):
        if s[i, A_KIND + row]:
            x = s[i, A_COL + row]
            behind = x - s[i, A_DIR + row]
            image[i, 3 if s[i, A_KIND + row] == _GOLD else 1, 1 + row, x] = ON
            if 0 <= behind <= 9:
                image[i, 2, 1 + row, behind] = ON


@jit
def _asterix_run(lo, hi, mode, actions, rules, copies, seen):
    s, dice = copies.rows, copies.dice
    for i in range(lo, hi):
        ended = mode == BEGIN
        if mode == STEP:
            reward, over = _asterix_step(s, i, dice, _choose(i, actions, rules, copies), rules.ramping)
            ended = _note(i, reward, over, rules, copies, seen)
            if ended:
                _asterix_draw(s, i, seen.final)
        if ended:
            _asterix_begin(s, i, dice)
        _asterix_draw(s, i, seen.obs)


# ---- Space Invaders: aliens, our bullets and theirs are rows of bits, bit x for column x.

I_X, I_DIR, I_MOVE_EVERY, I_MOVE, I_SHOT, I_COOL, I_RAMP, I_ALIENS, I_OURS, I_THEIRS = *range(8), 17, 27
_WAVE = 0b0011111100


@jit
def _bits(row):
    n = 0
    while row:
        row &= row - 1
        n += 1
    return n


@jit
def _invaders_begin(s, i, dice):
    s[i, I_X] = 5
    s[i, I_DIR] = -1
    s[i, I_MOVE_EVERY] = s[i, I_MOVE] = 12
    s[i, I_SHOT] = 10
    s[i, I_COOL] = s[i, I_RAMP] = 0
    s[i, I_ALIENS : I_ALIENS + 30] = 0
    s[i, I_ALIENS : I_ALIENS + 4] = _WAVE


@jit
def _invaders_advance(s, i):
    """Move the aliens sideways, or down where one stands at the edge; say whether one went below the ground."""
    count, columns = 0, 0
    for y in range(SIZE):
        count += _bits(s[i, I_ALIENS + y])
        columns |= s[i, I_ALIENS + y]
    s[i, I_MOVE] = min(count, s[i, I_MOVE_EVERY])
    if columns & (1 if s[i, I_DIR] < 0 else 1 << 9):
        s[i, I_DIR] = -s[i, I_DIR]
        last = s[i, I_ALIENS + 9]
        for y in range(9, 0, -1):
            s[i, I_ALIENS + y] = s[i, I_ALIENS + y - 1]
        s[i, I_ALIENS] = last  # seen at the top, in the game's last observation
        return last != 0
    for y in range(SIZE):
        row = s[i, I_ALIENS + y]
        s[i, I_ALIENS + y] = row >> 1 if s[i, I_DIR] < 0 else row << 1
    return False


@jit
def _invaders_shoot(s, i):
    """The lowest alien of the column nearest to the cannon shoots; of two columns the left one."""
    for away in range(SIZE):
        for x in (s[i, I_X] - away, s[i, I_X] + away):
            if 0 <= x <= 9:
                for y in range(9, -1, -1):
                    if (s[i, I_ALIENS + y] >> x) & 1:
                        s[i, I_THEIRS + y] |= 1 << x
                        return


@jit
def _invaders_step(s, i, dice, action, ramping):
    if action == FIRE and s[i, I_COOL] == 0:
        s[i, I_OURS + 9] |= 1 << s[i, I_X]
        s[i, I_COOL] = 5
    elif action == LEFT:
        s[i, I_X] = max(0, s[i, I_X] - 1)
    elif action == RIGHT:
        s[i, I_X] = min(9, s[i, I_X] + 1)
    for y in range(9):
        s[i, I_OURS + y] = s[i, I_OURS + y + 1]
        s[i, I_THEIRS + 9 - y] = s[i, I_THEIRS + 8 - y]
    s[i, I_OURS + 9] = s[i, I_THEIRS] = 0
    here = 1 << s[i, I_X]
    over = (s[i, I_THEIRS + 9] | s[i, I_ALIENS + 9]) & here != 0
    if s[i, I_MOVE] == 0:
        over |= _invaders_advance(s, i)
        over |= s[i, I_ALIENS + 9] & here != 0
    if s[i, I_SHOT] == 0:
        s[i, I_SHOT] = 10
        _invaders_shoot(s, i)
    reward, left = 0, 0
    for y in range(SIZE):
        hit = s[i, I_ALIENS + y] & s[i, I_OURS + y]
        if hit:
            reward += _bits(hit)
            s[i, I_ALIENS + y] ^= hit
            s[i, I_OURS + y] ^= hit
        left |= s[i, I_ALIENS + y]
    if s[i, I_COOL] > 0:
        s[i, I_COOL] -= 1
    s[i, I_MOVE] -= 1
    s[i, I_SHOT] -= 1
    if left == 0:
        if ramping and s[i, I_MOVE_EVERY] > 6:
            s[i, I_MOVE_EVERY] -= 1
            s[i, I_RAMP] += 1
        s[i, I_ALIENS : I_ALIENS + 4] = _WAVE
    return reward, over


@jit
def _invaders_draw(s, i, image):
    _clear(image, i)
    image[i, 0, 9, s[i, I_X]] = ON
    heading = 2 if s[i, I_DIR] < 0 else 3
    for y in range(SIZE):
        aliens, ours, theirs = s[i, I_ALIENS + y], s[i, I_OURS + y], s[i, I_THEIRS + y]
        if aliens | ours | theirs:
            for x in range(SIZE):
                image[i, 1, y, x] = image[i, heading, y, x] = ON * ((aliens >> x) & 1)
                image[i, 4, y, x] = ON * ((ours >> x) & 1)
                image[i, 5, y, x] = ON * ((theirs >> x) & 1)


@jit
def _invaders_run(lo, hi, mode, actions, rules, copies, seen):
    s, dice = copies.rows, copies.dice
    for i in range(lo, hi):
        ended = mode == BEGIN
        if mode == STEP:
            reward, over = _invaders_step(s, i, dice, _choose(i, actions, rules, copies), rules.ramping)
            ended = _note(i, reward, over, rules, copies, seen)
            if ended:
                _invaders_draw(s, i, seen.final)
        if ended:
            _invaders_begin(s, i, dice)
        _invaders_draw(s, i, seen.obs)


# ---- Seaquest: five lists of moving things. A list is its length and then its members in the order of their coming;
# a member is one integer: x in bits 0-3, y in bits 4-7, going right in bit 8, its timers above.

Q_OXYGEN, Q_DIVERS, Q_X, Q_Y, Q_RIGHT, Q_SPAWN_EVERY, Q_SPAWN, Q_DIVER, Q_MOVE_EVERY = range(9)
Q_RAMP, Q_COOL, Q_SURFACED = 9, 10, 11
# Room: a bullet of ours every 5 steps lives 10; a diver every 30 steps lives 61. An enemy every step lives 31 at the
# fastest, 61 with rarer spawning before; each submarine has one bullet in the water (every 11 steps, living 10).
Q_OURS, Q_DIVING, Q_FISH, Q_SUBS, Q_THEIRS, Q_END = 12, 17, 22, 87, 152, 217
_PLACE, _GOES_RIGHT, _TICK, _SHOT_TICK = 0xFF, 1 << 8, 1 << 9, 1 << 12
_OXYGEN = 200


@jit
def _add(s, i, things, thing):
    s[i, things] += 1
    s[i, things + s[i, things]] = thing


@jit
def _drop(s, i, things, k):
    """Remove member k, 1 .. length; the order of the others stays."""
    for j in range(k, s[i, things]):
        s[i, things + j] = s[i, things + j + 1]
    s[i, things] -= 1


@jit
def _find(s, i, things, place):
    """The first member at a place, 0 if there is none."""
    for k in range(1, s[i, things] + 1):
        if s[i, things + k] & _PLACE == place:
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
def _seaquest_begin(s, i, dice):
    s[i, Q_OXYGEN] = _OXYGEN
    s[i, Q_DIVERS] = 0
    s[i, Q_X], s[i, Q_Y], s[i, Q_RIGHT] = 5, 0, 0
    s[i, Q_SPAWN_EVERY] = s[i, Q_SPAWN] = 20
    s[i, Q_DIVER] = 30
    s[i, Q_MOVE_EVERY] = 5
    s[i, Q_RAMP] = s[i, Q_COOL] = 0
    s[i, Q_SURFACED] = 1
    s[i, Q_OURS] = s[i, Q_DIVING] = s[i, Q_FISH] = s[i, Q_SUBS] = s[i, Q_THEIRS] = 0


@jit
def _seaquest_spawn(s, i, dice):
    right = uniform(dice, i) < 1 / 2
    submarine = uniform(dice, i) < 1 / 3
    y = 1 + below(dice, i, 8)
    new = _newcomer(right, y, s[i, Q_MOVE_EVERY])
    for things in (Q_FISH, Q_SUBS):
        for k in range(1, s[i, things] + 1):
            other = s[i, things + k]
            if (other >> 4) & 15 == y and (other ^ new) & _GOES_RIGHT:
                return  # it would meet what comes the other way
    if submarine:
        _add(s, i, Q_SUBS, new + 10 * _SHOT_TICK)
    else:
        _add(s, i, Q_FISH, new)


@jit
def _seaquest_player(s, i, action):
    if action == FIRE and s[i, Q_COOL] == 0:
        _add(s, i, Q_OURS, s[i, Q_X] | (s[i, Q_Y] << 4) | (_GOES_RIGHT if s[i, Q_RIGHT] else 0))
        s[i, Q_COOL] = 5
    elif action == LEFT:
        s[i, Q_X] = max(0, s[i, Q_X] - 1)
        s[i, Q_RIGHT] = 0
    elif action == RIGHT:
        s[i, Q_X] = min(9, s[i, Q_X] + 1)
        s[i, Q_RIGHT] = 1
    elif action == UP:
        s[i, Q_Y] = max(0, s[i, Q_Y] - 1)
    elif action == DOWN:
        s[i, Q_Y] = min(8, s[i, Q_Y] + 1)


@jit
def _seaquest_bullets(s, i):
    """Move our bullets, newest first: the reward."""
    reward = 0
    for k in range(s[i, Q_OURS], 0, -1):
        bullet = s[i, Q_OURS + k]
        if _leaves(bullet):
            _drop(s, i, Q_OURS, k)
            continue
        s[i, Q_OURS + k] = bullet = _ahead(bullet)
        for things in (Q_FISH, Q_SUBS):
            hit = _find(s, i, things, bullet & _PLACE)
            if hit:
                _drop(s, i, things, hit)
                _drop(s, i, Q_OURS, k)
                reward += 1
                break
    return reward


@jit
def _seaquest_divers(s, i, here):
    for k in range(s[i, Q_DIVING], 0, -1):
        diver = s[i, Q_DIVING + k]
        if diver & _PLACE == here and s[i, Q_DIVERS] < 6:
            _drop(s, i, Q_DIVING, k)
            s[i, Q_DIVERS] += 1
        elif _timer(diver) > 0:
            s[i, Q_DIVING + k] = diver - _TICK
        elif _leaves(diver):
            _drop(s, i, Q_DIVING, k)
        else:
            s[i, Q_DIVING + k] = diver = _ahead(diver) + 5 * _TICK
            if diver & _PLACE == here and s[i, Q_DIVERS] < 6:
                _drop(s, i, Q_DIVING, k)
                s[i, Q_DIVERS] += 1


@jit
def _seaquest_enemies(s, i, things, here):
    """Move fish or submarines, newest first: (reward, over)."""
    reward, over = 0, False
    for k in range(s[i, things], 0, -1):
        enemy = s[i, things + k]
        over |= enemy & _PLACE == here
        stays, inside = True, True
        if _timer(enemy) > 0:
            enemy -= _TICK
        elif _leaves(enemy):
            stays = inside = False
        else:
            enemy = _ahead(enemy) + s[i, Q_MOVE_EVERY] * _TICK
            if enemy & _PLACE == here:
                over = True
            else:
                bullet = _find(s, i, Q_OURS, enemy & _PLACE)
                if bullet:
                    stays = False
                    _drop(s, i, Q_OURS, bullet)
                    reward += 1
        if things == Q_SUBS:  # even one that was hit in this step may shoot; one that left shoots out of sight
            if _shot_timer(enemy) > 0:
                enemy -= _SHOT_TICK
            else:
                if inside:
                    _add(s, i, Q_THEIRS, enemy & (_PLACE | _GOES_RIGHT))
                enemy += 10 * _SHOT_TICK
        if stays:
            s[i, things + k] = enemy
        else:
            _drop(s, i, things, k)
    return reward, over


@jit
def _seaquest_their_bullets(s, i, here):
    over = False
    for k in range(s[i, Q_THEIRS], 0, -1):
        bullet = s[i, Q_THEIRS + k]
        over |= bullet & _PLACE == here
        if _leaves(bullet):
            _drop(s, i, Q_THEIRS, k)
        else:
            s[i, Q_THEIRS + k] = bullet = _ahead(bullet)
            over |= bullet & _PLACE == here
    return over


@jit
def _seaquest_surface(s, i, ramping):
    """Take in air for a diver, or all six for points: the reward."""
    s[i, Q_SURFACED] = 1
    reward = 0
    if s[i, Q_DIVERS] == 6:
        s[i, Q_DIVERS] = 0  # and one less below: the package then counts from -1, and so do we
        reward = s[i, Q_OXYGEN] * 10 // _OXYGEN
    s[i, Q_OXYGEN] = _OXYGEN
    s[i, Q_DIVERS] -= 1
    if ramping and (s[i, Q_SPAWN_EVERY] > 1 or s[i, Q_MOVE_EVERY] > 2):
        if s[i, Q_MOVE_EVERY] > 2 and s[i, Q_RAMP] % 2 == 1:
            s[i, Q_MOVE_EVERY] -= 1
        if s[i, Q_SPAWN_EVERY] > 1:
            s[i, Q_SPAWN_EVERY] -= 1
        s[i, Q_RAMP] += 1
    return reward


@jit
def _seaquest_step(s, i, dice, action, ramping):
    if s[i, Q_SPAWN] == 0:
        _seaquest_spawn(s, i, dice)
        s[i, Q_SPAWN] = s[i, Q_SPAWN_EVERY]
    if s[i, Q_DIVER] == 0:
        right = uniform(dice, i) < 1 / 2
        _add(s, i, Q_DIVING, _newcomer(right, 1 + below(dice, i, 8), 5))
        s[i, Q_DIVER] = 30
    _seaquest_player(s, i, action)
    here = s[i, Q_X] | (s[i, Q_Y] << 4)
    reward = _seaquest_bullets(s, i)
    _seaquest_divers(s, i, here)
    got, over = _seaquest_enemies(s, i, Q_SUBS, here)
    over |= _seaquest_their_bullets(s, i, here)
    got_too, hit = _seaquest_enemies(s, i, Q_FISH, here)
    reward += got + got_too
    over |= hit
    for timer in (Q_SPAWN, Q_DIVER, Q_COOL):
        if s[i, timer] > 0:
            s[i, timer] -= 1
    over |= s[i, Q_OXYGEN] <= 0
    if s[i, Q_Y] > 0:
        s[i, Q_OXYGEN] -= 1
        s[i, Q_SURFACED] = 0
    elif not s[i, Q_SURFACED]:
        if s[i, Q_DIVERS] == 0:
            over = True
        else:
            reward += _seaquest_surface(s, i, ramping)
    return reward, over


@jit
def _seaquest_draw_swimmers(s, i, things, channel, image):
    for k in range(1, s[i, things] + 1):
        thing = s[i, things + k]
        x, y = thing & 15, (thing >> 4) & 15
        behind = x - 1 if thing & _GOES_RIGHT else x + 1
        image[i, channel, y, x] = ON
        if 0 <= behind <= 9:
            image[i, 3, y, behind] = ON


@jit
def _seaquest_draw(s, i, image):
    _clear(image, i)
    x, y = s[i, Q_X], s[i, Q_Y]
    image[i, 0, y, x] = ON
    image[i, 1, y, x - 1 if s[i, Q_RIGHT] else x + 1] = ON
    for k in range(1, s[i, Q_OURS] + 1):
        image[i, 2, (s[i, Q_OURS + k] >> 4) & 15, s[i, Q_OURS + k] & 15] = ON
    for k in range(1, s[i, Q_THEIRS] + 1):
        image[i, 4, (s[i, Q_THEIRS + k] >> 4) & 15, s[i, Q_THEIRS + k] & 15] = ON
    _seaquest_draw_swimmers(s, i, Q_FISH, 5, image)
    _seaquest_draw_swimmers(s, i, Q_SUBS, 6, image)
    _seaquest_draw_swimmers(s, i, Q_DIVING, 9, image)
    for column in range(max(0, s[i, Q_OXYGEN]) * 10 // _OXYGEN):
        image[i, 7, 9, column] = ON
    for column in range(9 - max(0, s[i, Q_DIVERS]), 9):
        image[i, 8, 9, column] = ON


@jit
def _seaquest_run(lo, hi, mode, actions, rules, copies, seen):
    s, dice = copies.rows, copies.dice
    for i in range(lo, hi):
        ended = mode == BEGIN
        if mode == STEP:
            reward, over = _seaquest_step(s, i, dice, _choose(i, actions, rules, copies), rules.ramping)
            ended = _note(i, reward, over, rules, copies, seen)
            if ended:
                _seaquest_draw(s, i, seen.final)
        if ended:
            _seaquest_begin(s, i, dice)
        _seaquest_draw(s, i, seen.obs)


# ---- The games by name.


class Game(NamedTuple):
    """What the engine has to know of a game."""

    channels: tuple[str, ...]
    """Names of the C channels, in the package's order."""
    actions: tuple[int, ...]
    """The actions that do something: the package's minimal set."""
    columns: int
    """Integers of a copy."""
    run: Callable[..., None]
    """(lo, hi, mode, actions [N], Rules, Copies, Seen): step, begin or only draw the rows lo .. hi-1."""
    step: Callable[..., tuple[int, bool]]
    """(rows, i, dice, action 0 .. 5, ramping) -> (reward, over): one step of one copy, without a reset."""
    draw: Callable[..., None]
    """(rows, i, images [N, C, 10, 10])."""


_SPEEDS = tuple(f"speed {n}" for n in range(1, 6))
_SEA = ("front", "back", "our bullet", "trail", "enemy bullet", "fish", "submarine", "oxygen", "divers aboard", "diver")
_SKY = ("cannon", "alien", "aliens go left", "aliens go right", "our bullet", "enemy bullet")

GAMES: dict[str, Game] = {
    "Asterix": Game(
        ("player", "enemy", "trail", "gold"),
        (NOOP, LEFT, UP, RIGHT, DOWN),
        A_DIR + 8,
        _asterix_run,
        _asterix_step,
        _asterix_draw,
    ),
    "Breakout": Game(
        ("paddle", "ball", "trail", "brick"),
        (NOOP, LEFT, RIGHT),
        B_BRICKS + 3,
        _breakout_run,
        _breakout_step,
        _breakout_draw,
    ),
    "Freeway": Game(
        ("chicken", "car", *_SPEEDS),
        (NOOP, UP, DOWN),
        F_SPEED + LANES,
        _freeway_run,
        _freeway_step,
        _freeway_draw,
    ),
    "Seaquest": Game(
        _SEA,
        (NOOP, LEFT, UP, RIGHT, DOWN, FIRE),
        Q_END,
        _seaquest_run,
        _seaquest_step,
        _seaquest_draw,
    ),
    "SpaceInvaders": Game(
        _SKY,
        (NOOP, LEFT, RIGHT, FIRE),
        I_THEIRS + SIZE,
        _invaders_run,
        _invaders_step,
        _invaders_draw,
    ),
}
