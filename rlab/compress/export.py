"""Export: what a run has learned as one file that runs without rlab, ONNX or torch's own format.

The exported network is checked: on random inputs it must give what the run's own network gives.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rlab.agents.go.network import GoNetwork
from rlab.agents.graph import ACTION, OBSERVATION, STATE
from rlab.errors import RlabError
from rlab.nn.graph import Function, Graph
from rlab.nn.onnx import session_of
from rlab.run.contract import Exports, Learner, ability

TOLERANCE = 1e-4
"""Largest difference between the run's outputs and those of the exported file, relative to the largest output."""


def graph_of(learner: Learner, run: str) -> Graph:
    """Return what a learner acts or predicts by.

    Raises:
        RlabError: it has nothing that can be exported.
    """
    found = ability(learner, Exports) or go_network(learner)
    if found is None:
        raise RlabError(
            f"run '{run}' cannot be exported; classifiers, regressions, language models, translators, segmenters, SSD, "
            "generators of images, autoencoders, networks of Go, value-based agents and policies can"
        )
    try:
        graph: Graph = found.graph()
    except RlabError as e:
        raise RlabError(f"run '{run}': {e}") from None
    return graph


def go_network(learner: Learner) -> GoNetwork | None:
    """The network of a run that learned Go; None: it is none."""
    held = (getattr(learner, "network", None), getattr(getattr(learner, "task", None), "model", None))
    return next((network for network in held if isinstance(network, GoNetwork)), None)


def export(graph: Graph, file: Path, form: Literal["onnx", "torch"]) -> float:
    """Write a network to a file, load it again and compare its outputs; return the largest relative difference.

    Args:
        graph: see `graph_of`.
        file: where to.
        form: onnx, for ONNX Runtime and the like; torch, for ``torch.export.load(file).module()``. Both take batches of
            any size, and sequences of any length that the network takes.

    Raises:
        RlabError: a library is missing, the network has an operation that the format has not, or outputs differ.
    """
    module, examples = Function(graph.module).cpu().eval().requires_grad_(False), tuple(graph.inputs.values())
    batch = torch.export.Dim("batch", min=1)
    axes = [{0: batch} | _length(graph, name) for name in graph.inputs]
    try:
        with quiet(), torch.no_grad():
            if form == "torch":
                torch.export.save(torch.export.export(module, examples, dynamic_shapes=(tuple(axes),)), file)
                loaded = torch.export.load(file).module()
                return _difference(graph, module, lambda inputs: _listed(loaded(*inputs)))
            torch.onnx.export(
                module,
                examples,
                str(file),
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=(tuple(axes),),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
            session = session_of(file)
            return _difference(graph, module, lambda inputs: run_session(session, graph, inputs))
    except ImportError as e:
        raise RlabError(f"ONNX needs the extra: pip install 'rlab-rl[export]' ({e.name} is missing)") from None
    except (RlabError, OSError):  # a full disk says nothing of the network
        raise
    except Exception as e:  # exporters and engines raise what they like, and it is about this network
        cause: BaseException = e
        while cause.__cause__ is not None:
            cause = cause.__cause__
        lines = str(cause).strip().splitlines() or [""]
        raise RlabError(f"this network cannot be written as {form} ({type(cause).__name__}: {lines[0]})") from e


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within, no library tells of the choices that it makes."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def run_session(session: Any, graph: Graph, inputs: Sequence[Tensor]) -> list[np.ndarray]:
    """Run an exported graph in ONNX Runtime: all of its outputs."""
    named = {name: x.numpy() for name, x in zip(graph.inputs, inputs, strict=True)}
    return list(session.run(None, named))


def _length(graph: Graph, name: str) -> dict[int, Any]:
    """The axis of an input that may be of any length, if it has one."""
    return {1: torch.export.Dim(f"{name}_length", min=1, max=graph.lengths[name])} if name in graph.lengths else {}


def _listed(outputs: Any) -> list[np.ndarray]:
    return [output.numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]


def _larger(graph: Graph, name: str) -> Tensor:
    """Five examples of an input, twice as long where it has no fixed length."""
    x = graph.inputs[name]
    x = torch.cat([x, x.flip(0), x[:1]])
    return torch.cat([x, x], 1)[:, : graph.lengths[name]] if name in graph.lengths else x


def _difference(graph: Graph, module: Function, run: Callable[[Sequence[Tensor]], list[np.ndarray]]) -> float:
    worst = 0.0
    for inputs in (list(graph.inputs.values()), [_larger(graph, name) for name in graph.inputs]):
        for ours, theirs in zip(_listed(module(*inputs)), run(inputs), strict=True):
            if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
                raise RlabError(
                    "the network gives outputs that are not finite, so that it cannot be compared; train it anew"
                )
            worst = max(worst, float(np.abs(ours - theirs).max() / max(np.abs(ours).max(), 1e-6)))
    if worst > TOLERANCE:
        raise RlabError(f"the exported network differs from the run's by {worst:.2g} of its largest output")
    return worst


def player_script(env: str, file: str, graph: Graph) -> str:
    """Write a script of twenty lines that plays a Gymnasium environment with an exported agent, without rlab."""
    steps = {"max_episode_steps": graph.rules["max_steps"]} if graph.rules.get("max_steps") else {}
    given = {**graph.rules.get("env_args", {}), **steps}
    make = f"gymnasium.make({env!r}{f', **{given!r}' if given else ''})"
    for module, _, name in (wrapper.partition(":") for wrapper in graph.rules.get("wrappers", ())):
        make = f"importlib.import_module({module!r}).{name}({make})"
    played = "outputs[0]" if graph.output == ACTION else "int(outputs[0].argmax())"
    imports = "import importlib\n\n" if "importlib" in make else ""
    inputs, zeros, after = f'"{OBSERVATION}": np.asarray(obs)[None]', "", ", *_"
    if STATE in graph.inputs:
        inputs += f', "{STATE}": state'
        zeros = f"\n    state = np.zeros((1, {graph.inputs[STATE].shape[1]}), np.float32)"
        after = ", state"
    return f'''"""Plays {env} with an exported network: pip install gymnasium onnxruntime numpy."""

{imports}import gymnasium
import numpy as np
import onnxruntime

env = {make}
session = onnxruntime.InferenceSession({file!r}, providers=["CPUExecutionProvider"])
returns = []
for episode in range(10):
    obs, _ = env.reset(seed=episode)
    total, done = 0.0, False{zeros}
    while not done:
        outputs{after} = session.run(None, {{{inputs}}})
        obs, reward, terminated, truncated, _ = env.step({played})
        total, done = total + float(reward), terminated or truncated
    returns.append(total)
print("mean of 10 games:", np.mean(returns))
'''
