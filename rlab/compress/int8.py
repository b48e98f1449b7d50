"""int8 of an exported network: weights and activations in 8 bits.

Static: real inputs have shown the ranges of activations. ONNX Runtime's quantiser puts QuantizeLinear and
DequantizeLinear around convolutions and dense layers, from which its engine makes int8 arithmetic (Jacob et al. 2018).
What dense layers give stays float, for close values of actions and classes need more than 8 bits. Dynamic: dense layers
alone, whose inputs' ranges are found anew for every batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlab.agents.evaluation import play
from rlab.agents.go.evaluator import Evaluator
from rlab.agents.go.network import POLICY_VALUE, GoNetwork
from rlab.agents.go.search_player import SearchPlayer
from rlab.agents.graph import ACTION
from rlab.agents.interaction import Interaction
from rlab.compress.export import go_network, quiet
from rlab.envs import make_vec
from rlab.envs.go.boards import Boards, Setting
from rlab.envs.go.planes import planes_of
from rlab.errors import RlabError
from rlab.nn.graph import Graph
from rlab.nn.onnx import session_of
from rlab.run.contract import Learner, Stop, Stopped
from rlab.run.files import scratch_folder
from rlab.seeding import derive
from rlab.stats import student
from rlab.tasks.classification import Classification

CALIBRATION, CHECKED = 512, 2_000
"""Inputs that show the ranges of activations, and others that both graphs are compared on, if nobody says how many."""

GAMES = 8
"""Side by side, to get observations from."""

GO_GAMES, SEEN = 32, 0.25
"""Of Go, and the share of their positions that is looked at: neighbours are alike."""

CHUNK = 256

DENSE = ["MatMul", "Gemm"]
"""What is quantised dynamically."""

GO = ["Conv", "Add", "Relu"]
"""What is quantised of a network of Go; what it pools over the board and sums to logits and the value is not."""


@dataclass(frozen=True)
class Agreement:
    """How an int8 graph compares with the one in fp32.

    Attributes:
        calibrated: inputs that showed the ranges.
        inputs: others, that both were run on.
        same: share of those for which the largest output is the same one; None of numbers, predicted or played.
        error: root mean square of the outputs' difference, relative to that of the outputs.
        accuracy: shares of right classes, of fp32 and of int8; None where there are no labels.
        lost: what int8 loses of it, with the 95 % interval of the examples' differences.
        value: of networks of Go, how far values from -1 to 1 are apart (root mean square).
    """

    calibrated: int
    inputs: int
    same: float | None
    error: float
    accuracy: tuple[float, float] | None
    lost: tuple[float, float, float] | None = None
    value: float | None = None

    def text(self) -> str:
        """Say it in a line."""
        if self.accuracy is not None:
            fp32, int8 = (100 * share for share in self.accuracy)
            lost, low, high = (100 * share for share in self.lost or (0.0, 0.0, 0.0))
            return (
                f"accuracy {int8:.2f} % in int8, {fp32:.2f} % in fp32, {lost:.2f} points lost [{low:.2f}, {high:.2f}], "
                f"on {self.inputs:,} test examples, {100 * (self.same or 0.0):.2f} % of which get the same class"
            )
        if self.value is not None:
            return (
                f"the same move first in {100 * (self.same or 0.0):.2f} % of {self.inputs:,} positions of its games, "
                f"values {self.value:.2g} apart (root mean square, of -1 to 1)"
            )
        if self.same is not None:
            return f"the same action in {100 * self.same:.2f} % of {self.inputs:,} observations of its games"
        return f"outputs differ by {100 * self.error:.2g} % of their size on {self.inputs:,} other inputs"

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        accuracy = None if self.accuracy is None else dict(zip(("fp32", "int8"), self.accuracy, strict=True))
        return {
            "calibrated": self.calibrated,
            "inputs": self.inputs,
            "same": self.same,
            "error": self.error,
            "value": self.value,
            "accuracy": accuracy,
            "lost": None if self.lost is None else dict(zip(("mean", "low", "high"), self.lost, strict=True)),
        }


def refuse_uncalibrated(learner: Learner, graph: Graph) -> None:
    """Refuse what there are no inputs for that could show ranges, or compare the two graphs.

    Raises:
        RlabError: it is no classifier, no network of Go and no agent without a memory.
    """
    known = isinstance(learner, Interaction) or isinstance(getattr(learner, "task", None), Classification)
    if len(graph.inputs) > 1 or not (known or go_network(learner)):
        raise RlabError(
            "--int8 is for classifiers, regressions, networks of Go and agents without a memory; nearest: without it"
        )


def to_int8(
    learner: Learner,
    graph: Graph,
    fp32: Path,
    int8: Path,
    stop: Stop,
    examples: int = CHECKED,
    dynamic: bool = False,
) -> Agreement:
    """Write an exported network with weights and activations in 8 bits, and compare the two.

    A model is calibrated on training inputs and compared on the test split; an agent plays for its observations. There
    is a scale for each output channel, and weights use 7 of the 8 bits: else sums overflow on processors without VNNI.

    Args:
        learner: with restored parameters.
        graph: its network.
        fp32: the ONNX file of it.
        int8: where to.
        stop: polled while games are played.
        examples: that the two are compared on, at the most; 0: all of the test split.
        dynamic: quantise dense layers alone, without calibration.

    Raises:
        RlabError: the quantiser refuses the graph, or nothing in it can be quantised so.
        Stopped: a stop was requested.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    (taken,) = graph.inputs
    inputs = None if dynamic else _inputs(learner, "train", CALIBRATION, 0, stop)[0]
    others, targets = _inputs(learner, "test", examples, 1, stop)
    with scratch_folder() as scratch, quiet():
        try:
            quant_pre_process(str(fp32), str(scratch / "prepared.onnx"), skip_symbolic_shape=True)
            how: dict[str, Any] = {"per_channel": True, "reduce_range": True, "weight_type": QuantType.QInt8}
            if inputs is None:
                quantize_dynamic(str(scratch / "prepared.onnx"), str(int8), op_types_to_quantize=DENSE, **how)
            else:
                quantize_static(
                    str(scratch / "prepared.onnx"),
                    str(int8),
                    _Reader(taken, inputs),
                    quant_format=QuantFormat.QDQ,
                    activation_type=QuantType.QUInt8,
                    op_types_to_quantize=GO if graph.output == POLICY_VALUE else None,
                    extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
                    **how,
                )
        except Exception as e:  # whatever it raises, it is about this graph
            raise RlabError(
                f"ONNX Runtime cannot quantise this network ({type(e).__name__}: {e}); nearest: without --int8"
            ) from e
    if dynamic and fp32.stat().st_size <= int8.stat().st_size:
        raise RlabError(
            "this network has no dense layer of weight, and --dynamic quantises those alone; nearest: --int8"
        )
    ours, theirs = (_run(session_of(file), taken, others) for file in (fp32, int8))
    error = float(np.sqrt(np.square(theirs - ours).mean() / max(float(np.square(ours).mean()), 1e-12)))
    same = accuracy = lost = value = None
    if graph.output == POLICY_VALUE:
        value = float(np.sqrt(np.square(theirs[:, -1] - ours[:, -1]).mean()))
        ours, theirs = ours[:, :-1], theirs[:, :-1]
    if graph.output not in ("y", ACTION):
        same = float((ours.argmax(1) == theirs.argmax(1)).mean())
        if targets is not None:
            right = [(outputs.argmax(1) == targets).astype(np.float64) for outputs in (ours, theirs)]
            accuracy = (float(right[0].mean()), float(right[1].mean()))
            lost = (accuracy[0] - accuracy[1], *student(right[0] - right[1])) if len(others) > 1 else None
    return Agreement(0 if inputs is None else len(inputs), len(others), same, error, accuracy, lost, value)


class _Reader:
    """What the quantiser reads its inputs from."""

    def __init__(self, name: str, inputs: np.ndarray):
        self.chunks: Iterator[dict[str, np.ndarray]] = iter(
            [{name: inputs[at : at + CHUNK]} for at in range(0, len(inputs), CHUNK)]
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next inputs, or None."""
        return next(self.chunks, None)


def _run(session: Any, name: str, inputs: np.ndarray) -> np.ndarray:
    chunks = [inputs[at : at + CHUNK] for at in range(0, len(inputs), CHUNK)]
    return np.concatenate([session.run(None, {name: chunk})[0] for chunk in chunks])


def _inputs(learner: Learner, split: str, most: int, seed: int, stop: Stop) -> tuple[np.ndarray, np.ndarray | None]:
    """Inputs as the network takes them, and the classes that are right for them where there are some."""
    if isinstance(learner, Interaction):
        return _observations(learner, most or CHECKED, seed, stop), None
    go = go_network(learner)
    if go is not None:
        return _positions(go, most or CHECKED, seed, stop), None
    task: Classification = learner.task  # type: ignore[attr-defined]
    items = task.dataset.items(split)
    if 0 < most < len(items):
        items = items[torch.linspace(0, len(items) - 1, most).long()]  # of all classes, if they are in order
    batch, head = task.dataset.collate(items), task.heads[0]
    right: Tensor = head.target.of(batch["x"], batch["y"])
    return batch["x"].numpy(), None if head.classes is None or right.is_floating_point() else right.numpy()


def _observations(learner: Interaction, most: int, seed: int, stop: Stop) -> np.ndarray:
    """What an agent sees while it plays as in evaluations."""

    class Recorder:
        """Plays, keeps what it sees, and asks for a stop when it has enough."""

        def __init__(self) -> None:
            self.policy, self.stop = learner.policy(seed), Stop()
            self.seen: list[np.ndarray] = []

        def act(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
            """See `rlab.agents.evaluation.Policy`."""
            self.seen.append(obs.copy())
            self.stop.requested = stop.requested or sum(map(len, self.seen)) >= most
            actions: np.ndarray = self.policy.act(obs, first, mask)
            return actions

    recorder = Recorder()
    copies = min(GAMES, learner.envs.num_envs)
    envs = make_vec(learner.env, copies, seed, **learner.rules, training=False)
    with contextlib.closing(envs), contextlib.suppress(Stopped):
        while not recorder.stop.requested:
            play(recorder, envs, copies, seed, recorder.stop)
            seed += GAMES
    if stop.requested:
        raise Stopped
    return np.concatenate(recorder.seen)[:most]


def _positions(network: GoNetwork, most: int, seed: int, stop: Stop) -> np.ndarray:
    """Positions of games that a network of Go plays against itself, each move drawn by its probability."""
    rng = np.random.default_rng(derive(seed, "positions"))
    boards = Boards(GO_GAMES, Setting(network.size), seed=seed)
    player = SearchPlayer("self", Evaluator(network, "cpu", "none"), 0, temperature=1.0, opening=boards.setting.most)
    found: list[np.ndarray] = []
    with contextlib.closing(boards):
        while sum(map(len, found)) < most:
            if stop.requested:
                raise Stopped
            rows = np.flatnonzero(~boards.over)
            if not len(rows):
                boards.clear()
                continue
            found.append(planes_of(boards, rows[rng.random(len(rows)) < SEEN]))
            moves = np.full(GO_GAMES, -1)
            moves[rows] = player.choose(boards, rows, rng.integers(2**63, size=len(rows), dtype=np.uint64))
            boards.play(moves)
    return np.concatenate(found)[:most]
