"""The arbiter: many games between players, all in one `Boards`, judged by our own rules."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rlab.envs.go.boards import Boards, Setting, name_of
from rlab.envs.go.gtp_client import SEATS, GivenUp, Program, SomeFailed
from rlab.envs.go.players import RESIGN, Player
from rlab.envs.splitmix import split
from rlab.run.contract import Stop


@dataclass(frozen=True)
class Pairing:
    """One game that is to be played.

    Attributes:
        first, second: labels of the players, in a fixed order: whoever they are, first comes before second.
        number: of this pair's games. Even: first has Black; the next one is the same with White.
        opening: moves with which it begins.
    """

    first: str
    second: str
    number: int
    opening: tuple[int, ...] = ()

    @property
    def black(self) -> str:
        """Who has Black."""
        return self.second if self.number % 2 else self.first

    @property
    def white(self) -> str:
        """Who has White."""
        return self.first if self.number % 2 else self.second


@dataclass(frozen=True)
class Finished:
    """One game that was played.

    Attributes:
        moves: from the empty board; those of the opening are among them.
        winner: 1 Black, 2 White, 0 nobody.
        reason: why it is over: "score" (two passes), "length" (as many moves as there may be), "resign", or what a
            loser did: "crash", "time", "answer", "illegal".
        score: Black's points less White's and komi by area; None unless it was counted.
        detail: what a program said that failed.
    """

    pairing: Pairing
    moves: tuple[int, ...]
    winner: int
    reason: str
    score: float | None = None
    detail: str = ""

    @property
    def result(self) -> str:
        """As game records have it: B+3.5, W+R, 0, W+F (forfeit), W+T (time)."""
        if not self.winner:
            return "0"
        how = {"resign": "R", "time": "T"}.get(self.reason, "F")
        return f"{' BW'[self.winner]}+{how if self.score is None else f'{abs(self.score):g}'}"

    @property
    def share(self) -> float:
        """What the pairing's first has of the point: 1, a half or 0."""
        if not self.winner:
            return 0.5
        return float((self.pairing.black, self.pairing.white)[self.winner - 1] == self.pairing.first)


@dataclass
class ThinkingTime:
    """Time that players took: label -> seconds, and moves in them. Games go on side by side, so this is throughput."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    moves: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def key_of(seed: int, pairing: Pairing) -> int:
    """A game's RNG key, 64 bits: of the tournament's seed, the two players and the game's number alone."""
    text = f"{seed}\n{pairing.first}\n{pairing.second}\n{pairing.number}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def play_games(
    players: Mapping[str, Player],
    pairings: Iterable[Pairing],
    setting: Setting,
    *,
    seed: int = 0,
    at_once: int | None = None,
    stop: Stop | None = None,
    done: Callable[[Sequence[Finished]], bool] = lambda games: False,
    clock: ThinkingTime | None = None,
) -> None:
    """Play games side by side; each player chooses for all games in which it is its turn in one call.

    A program that crashes, does not answer in time or answers nonsense, and any player whose move is not legal, loses
    that game, and the others go on. Every move has an RNG key of its own, from the game's and its number, so a
    game is the same whatever is played beside it, as far as its players depend on game and key alone.

    Args:
        players: by label.
        pairings: in this order; a game begins as soon as a board is free.
        setting: of all games.
        seed: of chance.
        at_once: games side by side at the most; None: 64, or as many as a program has processes for.
        stop: set it, and games that are not over are given up.
        done: told of the games that are over, as they end; true gives up those that are not.
        clock: counts time.

    Raises:
        RlabError: a player cannot play here at all (the wrong size of board, a program that cannot be started).
    """
    stop, clock = stop or Stop(), clock or ThinkingTime()
    if at_once is None:
        at_once = min([64, *(SEATS * player.processes for player in players.values() if isinstance(player, Program))])
    waiting = iter(pairings)
    boards = Boards(at_once, setting)
    games: list[Pairing | None] = [None] * at_once
    keys = np.zeros(at_once, np.uint64)
    for player in players.values():
        if isinstance(player, Program):
            player.stopped = lambda: stop.requested
    try:
        while not stop.requested:
            for row in range(at_once):
                if games[row] is None and (pairing := next(waiting, None)) is not None:
                    games[row] = pairing
                    keys[row] = key_of(seed, pairing)
                    boards.clear([row])
                    for move in pairing.opening:
                        _play_one(boards, row, move)
            if all(game is None for game in games):
                return
            over = one_move(players, boards, games, keys, clock)
            for row in over:
                games[row] = None
            if over and done(list(over.values())):
                return
    except GivenUp:
        return
    finally:
        boards.close()


def one_move(
    players: Mapping[str, Player],
    boards: Boards,
    games: Sequence[Pairing | None],
    keys: NDArray[np.uint64],
    clock: ThinkingTime,
) -> dict[int, Finished]:
    """One move in every game; returns row -> game of those that are over.

    Args:
        players: by label.
        boards: the games.
        games: which each row has; None: none.
        keys: [rows], see `key_of`.
        clock: counts time.
    """
    turn, made = boards.turn, boards.made
    whose: dict[str, list[int]] = defaultdict(list)
    for row, game in enumerate(games):
        if game is not None and not boards.over[row]:
            whose[game.black if turn[row] == 1 else game.white].append(row)
    moves = np.full(boards.number, -1, np.int64)
    lost: dict[int, tuple[str, str]] = {}
    legal = boards.legal()
    for label in sorted(whose):
        rows = np.array(whose[label], np.int64)
        move_keys = split(keys[rows], made[rows])
        began = time.perf_counter()
        try:
            chosen = np.asarray(players[label].choose(boards, rows, move_keys), np.int64)
        except SomeFailed as e:
            chosen = e.moves
            lost |= {int(rows[place]): (error.reason, str(error)) for place, error in e.failed.items()}
        clock.seconds[label] += time.perf_counter() - began
        clock.moves[label] += len(rows)
        for row, move in zip(rows.tolist(), chosen.tolist(), strict=True):
            if row in lost:
                continue
            if move == RESIGN:
                lost[row] = "resign", ""
            elif not (0 <= move <= boards.points and legal[row, move]):
                said = name_of(move, boards.size) if 0 <= move <= boards.points else str(move)
                lost[row] = "illegal", f"{label} played {said}: {boards.why_not(row, move)}"
            else:
                moves[row] = move
    boards.play(moves)
    ended = boards.over
    if not lost and not any(game is not None and ended[row] for row, game in enumerate(games)):
        return {}
    scores = boards.score()
    over = {}
    for row, game in enumerate(games):
        if game is None:
            continue
        record = tuple(boards.moves(row))
        if row in lost:
            reason, detail = lost[row]
            over[row] = Finished(game, record, 3 - int(turn[row]), reason, None, detail)
        elif ended[row]:
            score = float(scores[row])
            passed = record[-2:] == (boards.pass_, boards.pass_)
            winner = 1 if score > 0 else 2 if score < 0 else 0
            over[row] = Finished(game, record, winner, "score" if passed else "length", score)
    return over


def _play_one(boards: Boards, row: int, move: int) -> None:
    moves = np.full(boards.number, -1, np.int64)
    moves[row] = move
    boards.play(moves)
