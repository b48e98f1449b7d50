"""Real games beside sgfmill's board, stone by stone."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
from sgfmill import sgf
from sgfmill.boards import Board

from rlab.data.files import reader
from rlab.envs.go.boards import Boards, Setting

COLOURS = {None: 0, "b": 1, "w": 2}


@pytest.mark.data
@pytest.mark.timeout(600)
def test_nine_thousand_games_stand_as_on_another_board() -> None:
    """That board knows no ko and no suicide; where a game broke these rules, ours would refuse the move."""
    boards = Boards(1, Setting(9, ko="simple"))
    games = moves = 0
    with tarfile.open(fileobj=io.BytesIO(reader("go9x9")("games.tar.xz"))) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is None:
                continue
            game = sgf.Sgf_game.from_bytes(file.read())
            boards.clear()
            other = Board(9)
            for node in game.get_main_sequence()[1:]:
                colour, where = node.get_move()
                if colour is None or boards.over[0]:
                    continue
                if COLOURS[colour] != boards.turn[0]:
                    boards.play([boards.pass_])
                if where is None:
                    boards.play([boards.pass_])
                    continue
                other.play(*where, colour)
                boards.play([(8 - where[0]) * 9 + where[1]])
                theirs = [[COLOURS[other.get(row, column)] for column in range(9)] for row in range(8, -1, -1)]
                assert boards.stones()[0].tolist() == theirs
                moves += 1
            assert np.float64(boards.score()[0] + 7) == other.area_score()
            games += 1
    assert games == 9_068
    assert moves > 300_000
