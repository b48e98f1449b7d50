"""Static int8 of an exported network: weights and activations in 8 bits, whose ranges real inputs have shown.

ONNX Runtime's quantiser puts QuantizeLinear and DequantizeLinear around convolutions and dense layers, from which its
engine makes int8 arithmetic (Jacob et al. 2018). What dense layers give stays float, for close values of actions and
classes need more than 8 bits.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlab.agents.evaluation import play
from rlab.agents.interaction import Interaction
from rlab.compress.export import Graph, session_of
from rlab.envs import make_vec
from rlab.errors import RlabError
from rlab.run.contract import Learner, Stop, Stopped
from rlab.run.files import scratch_folder
from rlab.tasks.classification import Classification
from rlab.tasks.trainer import Trainer

CALIBRATION, CHECKED = 512, 2_000
"""Inputs that show the ranges of activations, and others that both graphs are compared on, at the most."""

GAMES = 8
"""Side by side, to get observations from."""

CHUNK = 256


@dataclass(frozen=True)
class Agreement:
    """How an int8 graph compares with the one in fp32.

    Attributes:
        calibrated: inputs that showed the ranges.
        inputs: others, that both were run on.
        same: share of those for which the largest output is the same one; None of predicted numbers.
        error: root mean square of the outputs' difference, relative to that of the outputs.
        accuracy: shares of right classes, of fp32 and of int8; None where there are no labels.
    """

    calibrated: int
    inputs: int
    same: float | None
    error: float
    accuracy: tuple[float, float] | None

    def text(self) -> str:
        """Say it in a line."""
        if self.accuracy is not None:
            fp32, int8 = (100 * share for share in self.accuracy)
            return (
                f"accuracy {int8:.2f} % in int8, {fp32:.2f} % in fp32, on {self.inputs:,} test examples, "
                f"{100 * (self.same or 0.0):.2f} % of which get the same class"
            )
        if self.same is not None:
            return f"the same action in {100 * self.same:.2f} % of {self.inputs:,} observations of its games"
        return f"outputs differ by {100 * self.error:.2g} % of their size on {self.inputs:,} test examples"

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        accuracy = None if self.accuracy is None else dict(zip(("fp32", "int8"), self.accuracy, strict=True))
        return {
            "calibrated": self.calibrated,
            "inputs": self.inputs,
            "same": self.same,
            "error": self.error,
            "accuracy": accuracy,
        }


def to_int8(learner: Learner, graph: Graph, fp32: Path, int8: Path, stop: Stop) -> Agreement:
    """Write an exported network with weights and activations in 8 bits, and compare the two.

    A model is calibrated on training inputs and compared on the test split; an agent plays for its observations. There
    is a scale for each output channel, and weights use 7 of the 8 bits: else sums overflow on processors without VNNI.

    Args:
        learner: with restored parameters.
        graph: its network.
        fp32: the ONNX file of it.
        int8: where to.
        stop: polled while games are played.

    Raises:
        RlabError: the quantiser refuses the graph.
        Stopped: a stop was requested.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    inputs = _inputs(learner, "train", CALIBRATION, 0, stop)[0]
    others, targets = _inputs(learner, "test", CHECKED, 1, stop)
    with scratch_folder() as scratch, _quiet():
        try:
            quant_pre_process(str(fp32), str(scratch / "prepared.onnx"), skip_symbolic_shape=True)
            quantize_static(
                str(scratch / "prepared.onnx"),
                str(int8),
                _Reader(graph.inputs, inputs),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
            )
        except Exception as e:  # whatever it raises, it is about this graph
            raise RlabError(
                f"ONNX Runtime cannot quantise this network ({type(e).__name__}: {e}); nearest: without --int8"
            ) from e
    ours, theirs = (_run(session_of(file), graph.inputs, others) for file in (fp32, int8))
    error = float(np.sqrt(np.square(theirs - ours).mean() / max(float(np.square(ours).mean()), 1e-12)))
    same = accuracy = None
    if graph.outputs[0] != "y":
        same = float((ours.argmax(1) == theirs.argmax(1)).mean())
        if targets is not None:
            accuracy = (float((ours.argmax(1) == targets).mean()), float((theirs.argmax(1) == targets).mean()))
    return Agreement(len(inputs), len(others), same, error, accuracy)


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
        return _observations(learner, most, seed, stop), None
    assert isinstance(learner, Trainer)
    assert isinstance(learner.task, Classification)
    task = learner.task
    items = task.dataset.items(split)
    items = items[
        torch.linspace(0, len(items) - 1, min(most, len(items))).long()
    ]  # of all classes, if they are in order
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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser warns of every choice that it makes."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
