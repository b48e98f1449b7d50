"""The window: positions made again from moves are those that were seen, with what came of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.agents.go.position_buffer import PositionWindow, empty_rows
from rlab.envs.go.boards import Boards, Setting
from rlab.envs.go.planes import planes_of
from rlab.envs.go.symmetry import inverses, move_planes, symmetries

SETTING = Setting(4, 0.5, cap=20)


def games(number: int, seed: int) -> list[tuple[dict[str, np.ndarray], list[np.ndarray]]]:
    """(rows, planes of every position) of games by chance."""
    chance = np.random.default_rng(seed)
    found = []
    for _ in range(number):
        boards, seen, moves = Boards(1, SETTING), [], []
        while not boards.over[0]:
            seen.append(planes_of(boards)[0])
            moves.append(int(chance.choice(np.flatnonzero(boards.legal()[0]))))
            boards.play([moves[-1]])
        rows = empty_rows(len(moves), 4)
        owners, scores = boards.owners()
        rows["move"][:], rows["ply"][:] = moves, np.arange(len(moves))
        rows["policy"][:] = chance.dirichlet(np.ones(17), len(moves))
        rows["full"][:] = chance.random(len(moves)) < 0.5
        rows["score"][:], rows["owner"][:] = scores[0], owners[0].ravel()
        found.append((rows, seen))
    return found


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1_000), capacity=st.integers(25, 120), number=st.integers(1, 12))
def test_what_is_taken_is_what_was_seen(seed: int, capacity: int, number: int) -> None:
    window, every = PositionWindow(SETTING, capacity), []
    for rows, seen in games(number, seed):
        window.add(rows)
        every += [(rows, ply, seen) for ply in range(len(seen))]
    assert window.end == len(every)
    first = window.usable()
    assert every[first][1] == 0 if first < window.end else len(every[-1][2]) > len(window)
    if first == window.end:
        return
    assert first - window.start < SETTING.most
    rows_ = np.random.default_rng(seed).integers(first, window.end, 20)
    kinds = np.random.default_rng(seed).integers(0, 8, 20)
    sample = window.take(rows_, kinds)
    for j, (row, kind) in enumerate(zip(rows_, kinds, strict=True)):
        rows, ply, seen = every[row]
        turn, back = symmetries(4)[kind], inverses(4)[kind]
        expected = move_planes(seen[ply][None], np.array([kind]))[0]
        assert (sample.planes[j].T.reshape(expected.shape) == expected).all()
        assert sample.move[j] == turn[rows["move"][ply]]
        assert sample.policy[j].tolist() == rows["policy"][ply][back].astype(np.float32).tolist()
        follows = rows["policy"][ply + 1][back].astype(np.float32) if ply + 1 < len(seen) else np.zeros(17)
        assert sample.reply[j].tolist() == follows.tolist()
        assert sample.full[j] == rows["full"][ply]
        black = ply % 2 == 0
        assert sample.score[j] == (1 if black else -1) * rows["score"][0]
        assert sample.outcome[j] == np.sign(sample.score[j])
        owner = rows["owner"][0][back[:-1]]
        assert sample.owner[j].tolist() == [0.5 if o == 0 else float((o == 1) == black) for o in owner]


def test_a_draw_comes_from_whole_games_only_and_repeats() -> None:
    window = PositionWindow(SETTING, 50)
    for rows, _ in games(9, 4):
        window.add(rows)
    one, again = (window.sample(np.random.default_rng(3), 64, True) for _ in range(2))
    for a, b in zip(one, again, strict=True):
        assert (a == b).all()
    assert (window.sample(np.random.default_rng(4), 64, True).planes != one.planes).any()
