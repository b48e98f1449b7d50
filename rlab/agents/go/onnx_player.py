"""A network of Go that was exported (`rlab export RUN --int8`), in a search: the player ``onnx:FILE@VISITS``."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlab.agents.go.evaluator import SymmetricEvaluator, Symmetry
from rlab.agents.go.search_player import SearchPlayer
from rlab.agents.go.tree_game import PositionBatch
from rlab.envs.go.planes import PLANES
from rlab.envs.go.players import PLAYERS
from rlab.envs.go.symmetry import add_moved_back, gather_planes, inverses, symmetries
from rlab.errors import RlabError
from rlab.kernels import THREADS
from rlab.nn.onnx import session_of

VISITS = 64
"""Simulations of a move, if nobody says how many."""


class OnnxEvaluator(SymmetricEvaluator):
    """Asks an exported network about the positions of a search, in ONNX Runtime; see `rlab.agents.search.Evaluate`.

    Args:
        file: takes planes[B, C, n, n] and gives the logits of all moves and the value side by side, [B, n * n + 2].
        symmetry: none; random, one of the eight by the RNG key; all, the mean of all eight.

    Attributes:
        size: n.

    Raises:
        RlabError: the file is not such a network.
    """

    def __init__(self, file: Path, symmetry: Symmetry = "random"):
        super().__init__(symmetry)
        self.session = session_of(file, THREADS.number)
        (taken, *more), (given, *_) = self.session.get_inputs(), self.session.get_outputs()
        shape = [taken.shape[1:], given.shape[1:]]
        size = shape[0][-1] if len(shape[0]) == 3 else 0
        if more or shape != [[len(PLANES), size, size], [size * size + 2]]:
            raise RlabError(
                f"'{file}' takes {taken.shape} and gives {given.shape}, which is no network of Go; nearest: what "
                "`rlab export RUN` writes of a run that learned Go"
            )
        self.name, self.size = taken.name, int(size)

    def _ask(
        self, positions: PositionBatch, rows: NDArray[np.int64], kinds: NDArray[np.int64], size: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if size != self.size:
            raise RlabError(f"the network plays on boards of {self.size}, not of {size}")
        planes, sources = np.empty((len(rows), size * size, len(PLANES)), np.float32), inverses(size)
        THREADS.share(lambda lo, hi: gather_planes(positions.planes, rows, kinds, sources, planes, lo, hi), len(rows))
        x = np.ascontiguousarray(planes.transpose(0, 2, 1)).reshape(len(rows), len(PLANES), size, size)
        found = self.session.run(None, {self.name: x})[0]
        logits = np.zeros((len(rows), size * size + 1), np.float32)
        add_moved_back(np.ascontiguousarray(found[:, :-1]), kinds, symmetries(size), logits, 0, len(rows))
        return logits, np.ascontiguousarray(found[:, -1])


@PLAYERS.register("onnx")
def onnx_player(text: str) -> SearchPlayer:
    """Make a player of ``FILE`` or ``FILE@VISITS`` (0: the most probable move, by all eight symmetries).

    Raises:
        RlabError: there is no such file, or it is no network of Go.
    """
    found = re.fullmatch(r"(.+?)(?:@([0-9]{1,9}))?", text, re.DOTALL)
    if found is None:
        raise RlabError("player 'onnx:' names no file; nearest: onnx:FILE@64")
    file, visits = Path(found[1]).expanduser(), VISITS if found[2] is None else int(found[2])
    if not file.is_file():
        raise RlabError(f"player 'onnx:{text}': there is no file '{file}'; `rlab export RUN` writes one")
    evaluator = OnnxEvaluator(file, "random" if visits else "all")
    player = SearchPlayer(f"{file.stem}@{visits}", evaluator, visits)
    player.home = evaluator.size
    return player
