"""A player of Go beside what is known of small boards: the best first move, and by how much Black wins with it.

5x5: the centre, and all 25 points (van der Werf et al. 2003). 7x7: the centre, and 9 points by area (Li Zhe 2015; found
by hand, not proved). The smaller ones: `rlab.envs.go.solve`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from rlab.agents.go.arena import Finished, Pairing, play_games
from rlab.agents.go.players import find_player
from rlab.envs.go.boards import Boards, Setting, name_of
from rlab.envs.go.players import Player, home_size
from rlab.errors import RlabError
from rlab.run.contract import Stop, Stopped
from rlab.run.provenance import git_state, processor, versions
from rlab.stats import wilson

KNOWN = {3: 9, 5: 25, 7: 9}
"""Size -> points that Black wins by from the centre."""


def measure(
    name: str, size: int | None, opponent: str, games: int, seed: int, stop: Stop, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Ask a player for its first move, and let it play Black: against an opponent, and against itself.

    A game is good if Black has at least the known result; a White that gives up has lost it all. Against itself each
    legal answer of White to the player's first move is the opening of as many games as make `games` in all; both sides
    search alike.

    Args:
        name: of the player; see `find_player`.
        size: of the board; None: what the player has learned, 5 if that is nothing known or any size.
        opponent: who has White; empty: only against itself.
        games: of each of the two matches, at the least.
        seed: of chance.
        stop: polled at every move.
        progress: told what is measured.

    Returns:
        JSON: ``first`` and ``centre`` (whether it is that, in all of `games` tries), ``itself`` and ``opponent``:
        ``games``, ``good``, ``share``, ``low``, ``high`` (Wilson's 95 % interval), ``scores`` of each, ``ends`` (how
        many ended how; see `rlab.agents.go.arena.Finished`), and of itself ``replies``, answer -> games that were good,
        of how many; and the machine and versions.

    Raises:
        RlabError: nothing is known of the board, or there is no such player.
        Stopped: a stop was requested.
    """
    if size is not None and size not in KNOWN:
        raise RlabError(f"of {size}x{size} no result is known here; valid: {', '.join(map(str, KNOWN))}")
    with closing(find_player(name)) as player, closing(Boards(games, known_board(player, size))) as boards:
        progress("the first move")
        setting = boards.setting
        size = setting.size
        keys = np.random.default_rng(seed).integers(0, 2**63, games).astype(np.uint64)
        first = player.choose(boards, np.arange(games), keys)
        moves, counts = np.unique(first, return_counts=True)
        usual = int(moves[counts.argmax()])
        result: dict[str, Any] = {
            "player": name,
            "size": size,
            "known": KNOWN[size],
            "komi": setting.komi,
            "seed": seed,
            "first": {name_of(int(move), size): int(n) for move, n in zip(moves, counts, strict=True)},
            "centre": float((first == size * size // 2).mean()),
        }
        progress(f"against itself after {name_of(usual, size)} and each answer")
        boards.play(np.full(games, usual))
        replies = np.flatnonzero(boards.legal()[0])
        each = -(-games // len(replies))
        # An even number: the pairing's first has Black.
        openings = [(usual, int(reply)) for reply in replies for _ in range(each)]
        result["itself"] = _match({"it": player, "itself": player}, ("it", "itself"), openings, setting, seed, stop)
        goods: dict[str, list[int]] = {}
        for (_, reply), good in zip(openings, result["itself"].pop("each"), strict=True):
            goods.setdefault(name_of(reply, size), []).append(good)
        result["itself"]["replies"] = {reply: [sum(some), len(some)] for reply, some in goods.items()}
        if opponent:
            progress(f"against {opponent}")
            with closing(find_player(opponent)) as other:
                players: dict[str, Player] = {"it": player, "other": other}
                met = _match(players, ("it", "other"), [()] * games, setting, seed, stop)
                met.pop("each")
                result["opponent"] = {"name": opponent, **met}
    return result | {"machine": processor(), "git": git_state(), "versions": versions()}


def known_board(player: Player, size: int | None) -> Setting:
    """The board of a size, or of what a player has learned, else of 5; komi is Black's known result less a half."""
    if size is None:
        size = home_size(player) if home_size(player) in KNOWN else 5
    return Setting(size, KNOWN[size] - 0.5, cap=4 * size * size)


def _match(
    players: dict[str, Player],
    who: tuple[str, str],
    openings: Sequence[tuple[int, ...]],
    setting: Setting,
    seed: int,
    stop: Stop,
) -> dict[str, Any]:
    began = time.perf_counter()
    over: list[Finished] = []

    def done(some: Any) -> bool:
        over.extend(some)
        return False

    pairings = [Pairing(*who, 2 * k, opening) for k, opening in enumerate(openings)]
    play_games(players, pairings, setting, seed=seed, stop=stop, done=done)
    if len(over) < len(pairings):
        raise Stopped
    over.sort(key=lambda game: game.pairing.number)
    good = [int(game.winner == 1) for game in over]
    low, high = wilson(sum(good), len(good))
    return {
        "games": len(good),
        "good": sum(good),
        "share": sum(good) / len(good),
        "low": low,
        "high": high,
        "scores": [None if game.score is None else game.score + setting.komi for game in over],
        "ends": dict(Counter(game.reason for game in over)),
        "moves": float(np.mean([len(game.moves) for game in over])),
        "seconds": round(time.perf_counter() - began, 1),
        "each": good,
    }
