# mypy: allow-untyped-defs
"""Freeway: a chicken crosses eight lanes (rows 1 to 8); every crossing draws new speeds. Over after 2,501 steps."""

from __future__ import annotations

from rlab.envs.minatar.common import (
    DOWN,
    NOOP,
    ON,
    RESET,
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

Y, WAIT, CLOCK, X, TIMER, SPEED = 0, 1, 2, 3, 11, 19
LANES = 8


@jit
def _speeds(rows, i, rng_keys):
    # A car moves every |speed| + 1 steps, to the right where speed > 0.
    for lane in range(LANES):
        rows[i, TIMER + lane] = 1 + below(rng_keys, i, 5)
    for lane in range(LANES):
        speed = rows[i, TIMER + lane]
        rows[i, SPEED + lane] = speed if uniform(rng_keys, i) > 0.5 else -speed


@jit
def reset(rows, i, rng_keys):
    """Begin a new game in row i."""
    _speeds(rows, i, rng_keys)
    rows[i, X : X + LANES] = 0
    rows[i, Y] = 9
    rows[i, WAIT] = 3
    rows[i, CLOCK] = 2500


@jit
def step(rows, i, rng_keys, action, ramping):
    """Play one step of row i with an action 0 .. 5: (reward, over)."""
    y, reward = rows[i, Y], 0
    if rows[i, WAIT] == 0 and action in (UP, DOWN):
        rows[i, WAIT] = 3
        y = max(0, y - 1) if action == UP else min(9, y + 1)
    if y == 0:
        reward = 1
        _speeds(rows, i, rng_keys)
        y = 9
    for lane in range(LANES):
        x = rows[i, X + lane]
        if y == lane + 1 and x == 4:
            y = 9
        if rows[i, TIMER + lane] == 0:
            speed = rows[i, SPEED + lane]
            rows[i, TIMER + lane] = abs(speed)
            x += 1 if speed > 0 else -1
            x = 9 if x < 0 else 0 if x > 9 else x
            rows[i, X + lane] = x
            if y == lane + 1 and x == 4:
                y = 9
        else:
            rows[i, TIMER + lane] -= 1
    rows[i, Y] = y
    if rows[i, WAIT] > 0:
        rows[i, WAIT] -= 1
    rows[i, CLOCK] -= 1
    return reward, rows[i, CLOCK] < 0


@jit
def draw(rows, i, image):
    """Draw the game of row i into image [N, C, 10, 10]."""
    clear(image, i)
    image[i, 0, rows[i, Y], 4] = ON
    for lane in range(LANES):
        x, speed = rows[i, X + lane], rows[i, SPEED + lane]
        behind = x - 1 if speed > 0 else x + 1
        behind = 9 if behind < 0 else 0 if behind > 9 else behind
        image[i, 1, 1 + lane, x] = ON
        image[i, 1 + abs(speed), 1 + lane, behind] = ON


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
    channels=("chicken", "car", *(f"speed {n}" for n in range(1, 6))),
    actions=(NOOP, UP, DOWN),
    columns=SPEED + LANES,
    run=run,
    step=step,
    draw=draw,
)
