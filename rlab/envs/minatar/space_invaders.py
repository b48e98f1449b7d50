# mypy: allow-untyped-defs
"""Space Invaders: aliens, our bullets and theirs are rows of bits, bit x for column x."""

from __future__ import annotations

from rlab.envs.minatar.common import (
    FIRE,
    LEFT,
    NOOP,
    ON,
    RESET,
    RIGHT,
    SIZE,
    STEP,
    MinAtarGame,
    choose_action,
    clear,
    jit,
    record,
)

X, DIR, MOVE_EVERY, MOVE, SHOT, COOL, RAMP, ALIENS, OURS, THEIRS = *range(8), 17, 27
_WAVE = 0b0011111100


@jit
def _bits(row):
    n = 0
    while row:
        row &= row - 1
        n += 1
    return n


@jit
def reset(rows, i, rng_keys):
    """Begin a new game in row i."""
    rows[i, X] = 5
    rows[i, DIR] = -1
    rows[i, MOVE_EVERY] = rows[i, MOVE] = 12
    rows[i, SHOT] = 10
    rows[i, COOL] = rows[i, RAMP] = 0
    rows[i, ALIENS : ALIENS + 30] = 0
    rows[i, ALIENS : ALIENS + 4] = _WAVE


@jit
def _advance(rows, i):
    """Move the aliens sideways, or down where one stands at the edge; say whether one went below the ground."""
    count, columns = 0, 0
    for y in range(SIZE):
        count += _bits(rows[i, ALIENS + y])
        columns |= rows[i, ALIENS + y]
    rows[i, MOVE] = min(count, rows[i, MOVE_EVERY])
    if columns & (1 if rows[i, DIR] < 0 else 1 << 9):
        rows[i, DIR] = -rows[i, DIR]
        last = rows[i, ALIENS + 9]
        for y in range(9, 0, -1):
            rows[i, ALIENS + y] = rows[i, ALIENS + y - 1]
        rows[i, ALIENS] = last  # seen at the top, in the game's last observation
        return last != 0
    for y in range(SIZE):
        row = rows[i, ALIENS + y]
        rows[i, ALIENS + y] = row >> 1 if rows[i, DIR] < 0 else row << 1
    return False


@jit
def _shoot(rows, i):
    """The lowest alien of the column nearest to the cannon shoots; of two columns the left one."""
    for away in range(SIZE):
        for x in (rows[i, X] - away, rows[i, X] + away):
            if 0 <= x <= 9:
                for y in range(9, -1, -1):
                    if (rows[i, ALIENS + y] >> x) & 1:
                        rows[i, THEIRS + y] |= 1 << x
                        return


@jit
def step(rows, i, rng_keys, action, ramping):
    """Play one step of row i with an action 0 .. 5: (reward, over)."""
    if action == FIRE and rows[i, COOL] == 0:
        rows[i, OURS + 9] |= 1 << rows[i, X]
        rows[i, COOL] = 5
    elif action == LEFT:
        rows[i, X] = max(0, rows[i, X] - 1)
    elif action == RIGHT:
        rows[i, X] = min(9, rows[i, X] + 1)
    for y in range(9):
        rows[i, OURS + y] = rows[i, OURS + y + 1]
        rows[i, THEIRS + 9 - y] = rows[i, THEIRS + 8 - y]
    rows[i, OURS + 9] = rows[i, THEIRS] = 0
    here = 1 << rows[i, X]
    over = (rows[i, THEIRS + 9] | rows[i, ALIENS + 9]) & here != 0
    if rows[i, MOVE] == 0:
        over |= _advance(rows, i)
        over |= rows[i, ALIENS + 9] & here != 0
    if rows[i, SHOT] == 0:
        rows[i, SHOT] = 10
        _shoot(rows, i)
    reward, left = 0, 0
    for y in range(SIZE):
        hit = rows[i, ALIENS + y] & rows[i, OURS + y]
        if hit:
            reward += _bits(hit)
            rows[i, ALIENS + y] ^= hit
            rows[i, OURS + y] ^= hit
        left |= rows[i, ALIENS + y]
    if rows[i, COOL] > 0:
        rows[i, COOL] -= 1
    rows[i, MOVE] -= 1
    rows[i, SHOT] -= 1
    if left == 0:
        if ramping and rows[i, MOVE_EVERY] > 6:
            rows[i, MOVE_EVERY] -= 1
            rows[i, RAMP] += 1
        rows[i, ALIENS : ALIENS + 4] = _WAVE
    return reward, over


@jit
def draw(rows, i, image):
    """Draw the game of row i into image [N, C, 10, 10]."""
    clear(image, i)
    image[i, 0, 9, rows[i, X]] = ON
    heading = 2 if rows[i, DIR] < 0 else 3
    for y in range(SIZE):
        aliens, ours, theirs = rows[i, ALIENS + y], rows[i, OURS + y], rows[i, THEIRS + y]
        if aliens | ours | theirs:
            for x in range(SIZE):
                image[i, 1, y, x] = image[i, heading, y, x] = ON * ((aliens >> x) & 1)
                image[i, 4, y, x] = ON * ((ours >> x) & 1)
                image[i, 5, y, x] = ON * ((theirs >> x) & 1)


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
    channels=("cannon", "alien", "aliens go left", "aliens go right", "our bullet", "enemy bullet"),
    actions=(NOOP, LEFT, RIGHT, FIRE),
    columns=THEIRS + SIZE,
    run=run,
    step=step,
    draw=draw,
)
