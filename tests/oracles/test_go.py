"""Our rules of Go beside OpenSpiel's, move by move; what it said of a few games is kept in `openspiel.json`.

OpenSpiel knows simple ko, no suicide, and area scoring; it calls a game a draw that repeats a position.
``python -m tests.oracles.test_go`` writes the file anew.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlab.envs.go.boards import Boards, Setting

GOLDEN = Path(__file__).with_name("openspiel.json")
SIZES = (5, 7, 9, 13, 19)
KOMI = 7.0


def setting(size: int) -> Setting:
    return Setting(size, KOMI, "simple", cap=2 * size * size)


def played(size: int, seed: int) -> dict[str, Any]:
    """A random game of OpenSpiel: its moves, how many it had to choose from, and the score."""
    import pyspiel

    game = pyspiel.load_game("go", {"board_size": size, "komi": KOMI, "max_game_length": 2 * size * size})
    state, chance = game.new_initial_state(), random.Random(seed)
    moves: list[int] = []
    legal: list[list[int]] = []
    while not state.is_terminal():
        legal.append(state.legal_actions())
        moves.append(chance.choice(legal[-1]))
        state.apply_action(moves[-1])
    return {"size": size, "moves": moves, "legal": legal, "won": state.returns()[0]}


@pytest.mark.oracle
@pytest.mark.parametrize("size", SIZES)
def test_ten_thousand_games_of_openspiel(size: int) -> None:
    boards = Boards(1, setting(size))
    for seed in range(2_000):
        game = played(size, seed)
        boards.clear()
        positions = [boards.words[0].tolist()]
        for move, legal in zip(game["moves"], game["legal"], strict=True):
            assert np.flatnonzero(boards.legal()[0]).tolist() == sorted(legal)
            boards.play([move])
            positions += [boards.words[0].tolist()] if move < size * size else []
        if boards.over[0] and positions[-1] not in positions[:-1]:
            assert np.sign(boards.score()[0]) == game["won"]
        else:
            assert positions[-1] in positions[:-1]
            assert game["won"] == 0


@pytest.mark.oracle
def test_masks_of_envpool_have_superko() -> None:
    """EnvPool's Chinese rules forbid a position twice: its masks are ours of positional superko, not of simple ko.

    It returns the rows in the order in which its threads were done.
    """
    envpool = pytest.importorskip("envpool")
    number, games, apart = 256, 0, 0
    envs = envpool.make("ChineseGo9x9-v1", env_type="gymnasium", num_envs=number, seed=1)
    superko, simple = (Boards(number, Setting(9, 7.5, ko, cap=30_000)) for ko in ("positional", "simple"))
    chance = np.random.default_rng(0)
    while games < 10_000:
        _, info = envs.reset()
        superko.clear()
        simple.clear()
        going = np.ones(number, bool)
        while going.any():
            masks = info["legal_action_mask"][np.argsort(info["env_id"])].astype(bool)
            assert (superko.legal() == masks)[going].all()
            apart += int((simple.legal() != masks)[going].any(1).sum())
            moves = np.where(masks, chance.random(masks.shape), -1).argmax(1)
            for boards in (superko, simple):
                boards.play(np.where(going, moves, -1))
            *_, terminated, truncated, info = envs.step(moves.astype(np.int32))
            ended = np.asarray(terminated | truncated).reshape(number, -1).any(1)[np.argsort(info["env_id"])]
            games += int((ended & going).sum())
            going &= ~ended & ~superko.over
    assert apart > 0


def test_games_that_openspiel_has_played() -> None:
    games = json.loads(GOLDEN.read_text())
    assert {game["size"] for game in games} == set(SIZES)
    for game in games:
        boards = Boards(1, setting(game["size"]))
        choices = []
        for move in game["moves"]:
            choices.append(int(boards.legal().sum()))
            boards.play([move])
        assert choices == game["choices"]
        assert boards.over[0]
        assert np.sign(boards.score()[0]) == game["won"]


def main() -> None:
    """Write what OpenSpiel says."""
    games = [played(size, 10_000 + seed) for size in SIZES for seed in range(3)]
    kept = [
        {"size": game["size"], "moves": game["moves"], "choices": [len(k) for k in game["legal"]], "won": game["won"]}
        for game in games
    ]
    GOLDEN.write_text("[\n" + ",\n".join(json.dumps(game) for game in kept) + "\n]\n")


if __name__ == "__main__":
    main()
