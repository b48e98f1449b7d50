"""Dead stones by random games, beside the counted scores that real games have in their records."""

from __future__ import annotations

import io
import re
import tarfile

import pytest

from rlab.agents.go.engine import Engine
from rlab.data.files import reader
from rlab.envs.go.players import RandomPlayer
from rlab.envs.go.sgf import parse_sgf
from rlab.errors import RlabError

GAMES = 200
WON = re.compile(rb"RE\[([BW])\+(\d+(?:\.\d+)?)\]")


@pytest.mark.data
@pytest.mark.timeout(600)
def test_random_games_find_the_dead_stones_of_real_games() -> None:
    engine = Engine(RandomPlayer())
    games = judged = standing = 0
    with tarfile.open(fileobj=io.BytesIO(reader("go9x9")("games.tar.xz"))) as archive:
        for member in archive:
            file = archive.extractfile(member)
            content = b"" if file is None else file.read()
            counted = WON.search(content)
            if counted is None or games == GAMES:
                continue
            try:
                engine.load(parse_sgf(content), None)
            except RlabError:
                continue  # a move against our rules
            if [point for _, point in engine.moves[-2:]] != 2 * [engine.boards.pass_]:
                continue
            score = float(counted[2]) * (1 if counted[1] == b"B" else -1)
            games += 1  # by territory a score may be one point off
            judged += abs(engine.score(engine.dead()) - score) <= 1
            standing += abs(engine.score() - score) <= 1
    print(f"{games} games: {judged} scores by random games, {standing} as the boards stand")
    assert games == GAMES
    assert judged >= 0.9 * games > 1.5 * standing
