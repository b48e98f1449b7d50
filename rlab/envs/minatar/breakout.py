# mypy: allow-untyped-defs
"""Breakout: a paddle, a ball on diagonals, three rows of bricks in rows 1 to 3 (as bits). It never gets harder."""

from __future__ import annotations

from rlab.envs.minatar.common import (
    LEFT,
    NOOP,
    ON,
    RESET,
    RIGHT,
    SIZE,
    STEP,
    MinAtarGame,
    below,
    choose_action,
    clear,
    jit,
    record,
)

PADDLE, X, Y, OLD_X, OLD_Y, DX, DY, INSIDE, BRICKS = range(9)
_WALL = (1 << SIZE) - 1


@jit
def reset(rows, i, rng_keys):
    """Begin a new game in row i."""
    right = below(rng_keys, i, 2) == 1
    rows[i, PADDLE] = 4
    rows[i, X] = rows[i, OLD_X] = 9 if right else 0
    rows[i, Y] = rows[i, OLD_Y] = 3
    rows[i, DX] = -1 if right else 1
    rows[i, DY] = 1
    rows[i, INSIDE] = 0
    rows[i, BRICKS : BRICKS + 3] = _WALL


@jit
def step(rows, i, rng_keys, action, ramping):
    """Play one step of row i with an action 0 .. 5: (reward, over)."""
    paddle = rows[i, PADDLE]
    if action == LEFT and paddle > 0:
        paddle -= 1
    elif action == RIGHT and paddle < 9:
        paddle += 1
    rows[i, PADDLE] = paddle
    x, y, dx, dy = rows[i, X], rows[i, Y], rows[i, DX], rows[i, DY]
    new_x, new_y = x + dx, y + dy
    reward, over, inside = 0, False, False
    if new_x < 0 or new_x > 9:
        new_x, dx = x, -dx
    if new_y < 0:
        new_y, dy = 0, -dy
    elif 1 <= new_y <= 3 and (rows[i, BRICKS + new_y - 1] >> new_x) & 1:
        inside = True
        if not rows[i, INSIDE]:  # coming out of a brick just broken, the ball passes through the next one
            reward = 1
            rows[i, BRICKS + new_y - 1] ^= 1 << new_x
            new_y, dy = y, -dy
    elif new_y == 9:
        if rows[i, BRICKS] | rows[i, BRICKS + 1] | rows[i, BRICKS + 2] == 0:
            rows[i, BRICKS : BRICKS + 3] = _WALL
        if x == paddle:
            new_y, dy = y, -dy
        elif new_x == paddle:
            new_y, dx, dy = y, -dx, -dy
        else:
            over = True
    rows[i, OLD_X], rows[i, OLD_Y] = x, y
    rows[i, X], rows[i, Y], rows[i, DX], rows[i, DY] = new_x, new_y, dx, dy
    rows[i, INSIDE] = inside
    return reward, over


@jit
def draw(rows, i, image):
    """Draw the game of row i into image [N, C, 10, 10]."""
    clear(image, i)
    image[i, 0, 9, rows[i, PADDLE]] = ON
    image[i, 1, rows[i, Y], rows[i, X]] = ON
    image[i, 2, rows[i, OLD_Y], rows[i, OLD_X]] = ON
    for row in range(3):
        for x in range(SIZE):
            image[i, 3, 1 + row, x] = ON * ((rows[i, BRICKS + row] >> x) & 1)


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
    channels=("paddle", "ball", "trail", "brick"),
    actions=(NOOP, LEFT, RIGHT),
    columns=BRICKS + 3,
    run=run,
    step=step,
    draw=draw,
)
