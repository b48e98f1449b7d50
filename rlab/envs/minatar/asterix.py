# mypy: allow-untyped-defs
"""Asterix: gold and enemies cross rows 1 to 8, one in each at the most; they come and move faster with time."""

from __future__ import annotations

from rlab.envs.minatar.common import (
    DOWN,
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

X, Y, SPAWN_EVERY, SPAWN, MOVE_EVERY, MOVE, RAMP_TIMER, RAMP, KIND, COL, DIR = *range(9), 16, 24
_ENEMY, _GOLD = 1, 2
"""KIND of a row; 0: nothing there."""


@jit
def reset(rows, i, rng_keys):
    """Begin a new game in row i."""
    rows[i, X] = rows[i, Y] = 5
    rows[i, SPAWN_EVERY] = rows[i, SPAWN] = 10
    rows[i, MOVE_EVERY] = rows[i, MOVE] = 5
    rows[i, RAMP_TIMER] = 100
    rows[i, RAMP] = 0
    rows[i, KIND : KIND + 24] = 0


@jit
def _spawn(rows, i, rng_keys):
    right = uniform(rng_keys, i) < 1 / 2
    gold = uniform(rng_keys, i) < 1 / 3
    free = 0
    for row in range(8):
        free += rows[i, KIND + row] == 0
    if free == 0:
        return
    skip = below(rng_keys, i, free)
    for row in range(8):
        if rows[i, KIND + row] == 0:
            if skip == 0:
                rows[i, KIND + row] = _GOLD if gold else _ENEMY
                rows[i, COL + row] = 0 if right else 9
                rows[i, DIR + row] = 1 if right else -1
                return
            skip -= 1


@jit
def _touch(rows, i, row):
    """What the player's place means for what crosses a row: (reward, over)."""
    kind = rows[i, KIND + row]
    if kind == 0 or rows[i, Y] != row + 1 or rows[i, X] != rows[i, COL + row]:
        return 0, False
    if kind == _ENEMY:
        return 0, True
    rows[i, KIND + row] = 0
    return 1, False


@jit
def step(rows, i, rng_keys, action, ramping):
    """Play one step of row i with an action 0 .. 5: (reward, over)."""
    reward, over = 0, False
    if rows[i, SPAWN] == 0:
        _spawn(rows, i, rng_keys)
        rows[i, SPAWN] = rows[i, SPAWN_EVERY]
    if action == LEFT:
        rows[i, X] = max(0, rows[i, X] - 1)
    elif action == RIGHT:
        rows[i, X] = min(9, rows[i, X] + 1)
    elif action == UP:
        rows[i, Y] = max(1, rows[i, Y] - 1)
    elif action == DOWN:
        rows[i, Y] = min(8, rows[i, Y] + 1)
    got, hit = _touch(rows, i, rows[i, Y] - 1)
    reward += got
    over |= hit
    if rows[i, MOVE] == 0:
        rows[i, MOVE] = rows[i, MOVE_EVERY]
        for row in range(8):
            rows[i, COL + row] += rows[i, DIR + row]
            if rows[i, COL + row] < 0 or rows[i, COL + row] > 9:
                rows[i, KIND + row] = rows[i, COL + row] = rows[i, DIR + row] = 0
        got, hit = _touch(rows, i, rows[i, Y] - 1)
        reward += got
        over |= hit
    rows[i, SPAWN] -= 1
    rows[i, MOVE] -= 1
    if ramping and (rows[i, SPAWN_EVERY] > 1 or rows[i, MOVE_EVERY] > 1):
        if rows[i, RAMP_TIMER] >= 0:
            rows[i, RAMP_TIMER] -= 1
        else:
            if rows[i, MOVE_EVERY] > 1 and rows[i, RAMP] % 2 == 1:
                rows[i, MOVE_EVERY] -= 1
            if rows[i, SPAWN_EVERY] > 1:
                rows[i, SPAWN_EVERY] -= 1
            rows[i, RAMP] += 1
            rows[i, RAMP_TIMER] = 100
    return reward, over


@jit
def draw(rows, i, image):
    """Draw the game of row i into image [N, C, 10, 10]."""
    clear(image, i)
    image[i, 0, rows[i, Y], rows[i, X]] = ON
    for row in range(8):
        if rows[i, KIND + row]:
            x = rows[i, COL + row]
            behind = x - rows[i, DIR + row]
            image[i, 3 if rows[i, KIND + row] == _GOLD else 1, 1 + row, x] = ON
            if 0 <= behind <= 9:
                image[i, 2, 1 + row, behind] = ON


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
    channels=("player", "enemy", "trail", "gold"),
    actions=(NOOP, LEFT, UP, RIGHT, DOWN),
    columns=DIR + 8,
    run=run,
    step=step,
    draw=draw,
)
