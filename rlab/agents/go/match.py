"""A match of one player against another: what evaluations are made of."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from rlab.agents.go.arena import Finished, Pairing, play_games
from rlab.agents.go.openings import make_openings
from rlab.agents.go.players import find_player
from rlab.envs.go.boards import Boards, Setting
from rlab.envs.go.gtp_client import GivenUp, Program
from rlab.envs.go.players import Player
from rlab.run.contract import Stop, Stopped

OPENING_MOVES = 2


def try_out(opponent: str, setting: Setting, stop: Stop) -> None:
    """Have a player make a move on the empty board: one that cannot is refused before a run, not hours into it.

    Raises:
        RlabError: there is none of this name, it does not start, or it does not play on such a board.
        Stopped: a stop was requested while a program was waited for.
    """
    with closing(find_player(opponent, "cpu")) as player:
        if isinstance(player, Program):
            player.stopped = lambda: stop.requested
        try:
            player.choose(Boards(1, setting, threads=1), np.zeros(1, np.int64), np.zeros(1, np.uint64))
        except GivenUp:
            raise Stopped from None


def play_match(
    player: Player, opponent: Player, setting: Setting, games: int, seed: int, stop: Stop
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Play games between two, each opening of two moves once with either colour.

    Returns:
        (what the player has of each game: 1, 0.5 or 0, lengths in moves), in the order of the games.

    Raises:
        Stopped: a stop was requested.
    """
    openings = make_openings(setting, -(-games // 2), min(OPENING_MOVES, setting.most - 1), seed)
    pairings = [Pairing("player", "opponent", k, tuple(openings[k // 2 % len(openings)])) for k in range(games)]
    over: list[Finished] = []

    def done(some: Sequence[Finished]) -> bool:
        over.extend(some)
        stop.tell(len(over), games)
        return False

    play_games({"player": player, "opponent": opponent}, pairings, setting, seed=seed, stop=stop, done=done)
    if len(over) < games:
        raise Stopped
    over.sort(key=lambda game: game.pairing.number)
    return np.array([game.share for game in over]), np.array([len(game.moves) for game in over], np.int64)
