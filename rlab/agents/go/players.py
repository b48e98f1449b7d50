"""Players of Go by name: what needs no learning, other programs, and runs at any of their checkpoints."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlab.envs.go.boards import Boards
from rlab.envs.go.ids import go_size
from rlab.envs.go.planes import planes_of
from rlab.envs.go.players import PLAYERS, Player, kinds, make_player
from rlab.envs.go.sgf import short
from rlab.errors import RlabError, nearest

_RECIPES = ("rlab.agents.recipes", "rlab.tasks.recipes")


def find_player(text: str, device: str = "auto", seed: int = 0) -> Player:
    """A player: ``random``, ``rollout:400``, ``gnugo:10``, ``gtp:COMMAND``, else a run (name, path or ``latest``), and
    with ``RUN:PROGRESS`` one of its checkpoints, with ``RUN@VISITS`` so many simulations a move (0: none). A run of a
    kind's name is reached as ``run:NAME``.

    Args:
        text: the name.
        device: where a run's network is: auto, cpu, cuda or cuda:N.
        seed: of a run's own chance, as far as it does not come from the keys of `Player.choose`.

    Raises:
        RlabError: there is none of this name, or it plays no Go.
    """
    kind = text.partition(":")[0]
    if kind != "run" and kind in kinds():
        return make_player(text)
    return _player_of_run(text.removeprefix("run:"), device, seed)


def _player_of_run(text: str, device: str, seed: int) -> Player:
    from rlab.run.folder import all_runs, run_at, shipped_runs

    if not text.strip():
        raise RlabError("a player's name is empty; random, rollout:400, gnugo:10, gtp:COMMAND or a run")
    if os.path.isfile(text):  # false, too, of what cannot be a path
        raise RlabError(f"'{short(text)}' is a file; a run is a folder, and other programs play as gtp:COMMAND")
    plain, visits = text, None
    if found := re.fullmatch(r"(.+)@([0-9_]{1,9})", text, re.DOTALL):
        plain, visits = found[1], int(found[2].replace("_", "") or 0)
    try:
        folder, progress = run_at(plain)
    except RlabError:
        known = [*kinds(), *(run.name for run in [*all_runs(), *shipped_runs()])]
        raise RlabError(f"there is no player or run '{short(text)}'; {nearest(text[:60], known)}") from None
    return _open(folder, progress, visits, text, device, seed)


def _open(folder: Any, progress: int | None, visits: int | None, name: str, device: str, seed: int) -> Player:
    for module in _RECIPES:
        import_module(module)
    from rlab.agents.go.weights import has_network, network_player

    label = folder.name + ("" if progress is None else f":{progress}") + ("" if visits is None else f"@{visits}")
    if has_network(folder):
        return network_player(folder, label, progress, visits, device)
    document = folder.config()
    env = str(document["config"].get("env", {}).get("env", ""))
    go = go_size(env)
    if env and go is None:
        raise RlabError(f"run '{folder.name}' plays {env}, and no Go")
    from rlab.run.contract import Acts, Speaks, ability
    from rlab.run.lifecycle import find_checkpoint, of_this_version, open_run, restore_policy

    with contextlib.ExitStack() as stack:
        run = stack.enter_context(open_run(folder, device))
        saved = run.saved if progress is None and run.saved is not None else find_checkpoint(folder, progress)
        speaks, acts = ability(run.learner, Speaks), ability(run.learner, Acts)
        if speaks is None and (go is None or acts is None):
            raise RlabError(f"run '{folder.name}' is one of {document['recipe']}, which plays no Go")
        if visits is not None and speaks is None:
            raise RlabError(
                f"run '{folder.name}' is one of {document['recipe']}, which does not search; "
                f"nearest: {name.rpartition('@')[0]}"
            )
        with of_this_version(folder):
            restore_policy(run.learner, saved.state)
        player: Player
        if speaks is not None:
            player = speaks.go_player(label, visits)
        else:
            assert go is not None
            assert acts is not None
            player = AgentPlayer(label, go, acts.policy, seed)
        return ClosingPlayer(player, stack.pop_all().close)


class AgentPlayer:
    """An agent that has learned in the lab's Go environment, as its evaluations play.

    Each game's move is asked for by itself, with the key as the seed, so that it depends on nothing else. An agent
    with a memory sees every position as the first one of a game.

    Args:
        name: as it stands in tables.
        size: the only board that it knows.
        policy: seed -> what has ``act(obs[N, C, n, n], first[N], mask[N, n * n + 1]) -> action[N]``.
        seed: mixed into the keys.
    """

    def __init__(self, name: str, size: int, policy: Callable[[int], Any], seed: int = 0):
        self.name, self.sizes = name, (size,)
        self._policy, self._seed = policy, seed

    def choose(self, boards: Boards, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """See `Player`.

        Raises:
            RlabError: the boards are of another size.
        """
        if boards.size not in self.sizes:
            raise RlabError(f"{self.name} plays on boards of {self.sizes[0]}, not of {boards.size}")
        obs, mask, first = planes_of(boards, rows), boards.legal()[rows], np.ones(1, bool)
        found = np.empty(len(rows), np.int64)
        for k, key in enumerate(keys):
            policy = self._policy((int(key) + self._seed) % 2**63)
            found[k] = policy.act(obs[k : k + 1], first, mask[k : k + 1])[0]
        return found

    def close(self) -> None:
        """Nothing is held."""


class ClosingPlayer:
    """A player that comes with something which must be closed after it; all else is the player's."""

    def __init__(self, player: Player, close: Callable[[], None]):
        self._player, self._close = player, close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._player, name)

    def close(self) -> None:
        """Close both. Safe to call twice."""
        self._player.close()
        self._close()


PLAYERS.register("run")(lambda rest: _player_of_run(rest, "auto", 0))
