"""Games of a tournament on a fleet: each is played by one actor, and by another one again if that is lost.

A game is the same wherever it is played, as far as its players depend on game and key alone (`rlab.agents.go.arena`),
so a tournament comes to what one machine would have come to.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from rlab.agents.go.arena import Finished, Pairing, ThinkingTime, play_games
from rlab.agents.go.players import find_player
from rlab.envs.go.boards import Setting
from rlab.envs.go.gtp_client import Program
from rlab.envs.go.players import Player
from rlab.parallel.fleet import Actors, Fleet
from rlab.run.contract import State, Stop, Stopped

LEAVING = 10.0
"""Seconds for which games that are over are waited for once a stop was asked for."""


class _Asked(Stop):
    """The stop of what an actor plays: asked for by the fleet."""

    def __init__(self, stopped: Callable[[], bool]):
        self._stopped = stopped

    @property
    def requested(self) -> bool:  # type: ignore[override]
        """Whether to stop."""
        return self._stopped()


class Arbiter:
    """Plays games between players of its own; see `rlab.parallel.fleet.Player`.

    Args:
        players: by label.
        setting: of all games.
        seed: of chance.
        stopped: whether to give up the games that are not over.
    """

    def __init__(self, players: Mapping[str, Player], setting: Setting, seed: int, stopped: Callable[[], bool]):
        self.players, self.setting, self.seed, self.stop = players, setting, seed, _Asked(stopped)

    def play(self, version: int, weights: State, words: State) -> State:
        """Play the `pairings` among the words side by side; return those that are over, and the time that they took."""
        pairings = [pairing_of(plain) for plain in words["pairings"]]
        clock, over = ThinkingTime(), list[Finished]()

        def done(games: Sequence[Finished]) -> bool:
            over.extend(games)
            return False

        play_games(self.players, pairings, self.setting, seed=self.seed, at_once=len(pairings), stop=self.stop,
                   done=done, clock=clock)  # fmt: skip
        return {"games": [asdict(game) for game in over], "seconds": dict(clock.seconds), "moves": dict(clock.moves)}


def make_arbiter(arguments: State, stopped: Callable[[], bool]) -> Arbiter:
    """An actor of a tournament; see `rlab.parallel.fleet.Maker`."""
    players = {label: find_player(name) for label, name in arguments["players"].items()}
    for player in players.values():
        if isinstance(player, Program):
            player.seconds, player.processes = arguments["seconds"], arguments["processes"]
    return Arbiter(players, Setting(**arguments["setting"]), arguments["seed"], stopped)


def pairing_of(plain: State) -> Pairing:
    """Undo `asdict`."""
    return Pairing(plain["first"], plain["second"], plain["number"], tuple(plain["opening"]))


def play_on(
    fleet: Actors,
    actors: int,
    pairings: Iterable[Pairing],
    each: int,
    stop: Stop,
    done: Callable[[Sequence[Finished]], bool],
    clock: ThinkingTime,
) -> None:
    """Play games on a fleet of arbiters; a game of a lost actor is played again.

    Args:
        fleet: the actors.
        actors: how many.
        pairings: in this order.
        each: games that an actor plays side by side.
        stop: set it, and games that are not over are given up; those that are come in within `LEAVING` seconds.
        done: told of the games that are over, as they come; true gives up those that are not.
        clock: counts time.
    """
    waiting, under_way, end = iter(pairings), dict[int, list[Pairing]](), math.inf

    def ask(actor: int) -> None:
        if games := under_way.get(actor) or list(islice(waiting, each)):
            under_way[actor] = games
            fleet.ask(actor, {"pairings": [asdict(game) for game in games]})

    for actor in range(actors):
        ask(actor)
    while under_way and time.monotonic() < end:
        if stop.requested and end == math.inf:
            end = time.monotonic() + LEAVING
            for actor in under_way:
                fleet.stop(actor)
        came = fleet.next()
        if came is None:
            continue
        actor, played = came
        if played is not None or end < math.inf:
            under_way.pop(actor, None)
        if played is not None:
            games = [Finished(**{**game, "pairing": pairing_of(game["pairing"]), "moves": tuple(game["moves"])})
                     for game in played["games"]]  # fmt: skip
            for label, seconds in played["seconds"].items():
                clock.seconds[label] += seconds
                clock.moves[label] += played["moves"][label]
            if done(games):
                return
        if end == math.inf:
            ask(actor)


def on_cluster(names: Mapping[str, str], cluster: str, actors: int | None, processes: int,
               say: Callable[[str], None], seconds: float) -> Callable[..., None]:  # fmt: skip
    """A function that plays as `rlab.agents.go.arena.play_games` does, on a cluster.

    Args:
        names: label -> the player's name, for `find_player`.
        cluster: where, see `Fleet`.
        actors: how many; None: one for each CPU.
        processes: of each program, in each actor.
        say: told what happens.
        seconds: that a program may think about a move.
    """

    def play(players: Mapping[str, Player], pairings: Iterable[Pairing], setting: Setting, *, seed: int, at_once: int,
             stop: Stop, done: Callable[[Sequence[Finished]], bool], clock: ThinkingTime) -> None:  # fmt: skip
        given: dict[str, Any] = {"players": dict(names), "setting": asdict(setting), "seed": seed, "seconds": seconds,
                                 "processes": processes}  # fmt: skip
        try:
            fleet = Fleet(f"{__name__}:make_arbiter", lambda actor, started: given, actors, cluster, say, 1, stop)
        except Stopped:
            return
        try:
            play_on(fleet, fleet.actors, pairings, max(2, at_once // fleet.actors), stop, done, clock)
        finally:
            fleet.close()

    return play
