"""Export: what a run has learned as one file that runs without rlab, ONNX or torch's own format.

The exported network is checked: on random inputs it must give what the run's own network gives.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from rlab.agents.go.network import GoNetwork
from rlab.agents.interaction import Interaction
from rlab.agents.policy.policy_gradient import ActorCritic
from rlab.agents.value.q_network import QNetwork
from rlab.envs.go.planes import PLANES
from rlab.errors import RlabError
from rlab.nn.onnx import session_of
from rlab.run.contract import Learner
from rlab.tasks.classification import Classification
from rlab.tasks.trainer import Trainer

TOLERANCE = 1e-4
"""Largest difference between the run's outputs and those of the exported file, relative to the largest output."""


POLICY_VALUE = "policy_value"
"""What the output of a network of Go is called."""


@dataclass(frozen=True)
class Graph:
    """A network to be exported.

    Attributes:
        module: inputs[B, ...] -> outputs[B, K].
        example: two inputs, in the type that it takes.
        inputs: the input's name.
        outputs: the output's name, and what it is in words.
        classes: names of the K outputs, where they have some.
        shape: of one input.
    """

    module: nn.Module
    example: Tensor
    inputs: str
    outputs: tuple[str, str]
    classes: tuple[str, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(self.example.shape[1:])


class _Function(nn.Module):
    """A network with what is done before and after it."""

    def __init__(self, network: nn.Module, call: Callable[[Any, Tensor], Tensor]):
        super().__init__()
        self.network = network
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.network, x)


def graph_of(learner: Learner, run: str) -> Graph:
    """Return what a learner acts or predicts by.

    Raises:
        RlabError: it is none of those that can be exported.
    """
    if isinstance(learner, Trainer) and isinstance(learner.task, Classification):
        return _of_model(learner.task)
    if isinstance(learner, Interaction):
        agent: Any = learner.agent
        network = getattr(agent, "online", None) or getattr(agent, "network", None)
        space = learner.envs.single_observation_space
        example = torch.from_numpy(np.stack([space.sample() for _ in range(2)]))
        if isinstance(network, QNetwork) and not network.recurrent:
            network.bf16 = False
            q = _Function(network, lambda net, obs: net.q_values(net(obs)))
            return Graph(q, example, "observation", ("q_values", "the value of each action; the largest one is played"))
        if isinstance(network, ActorCritic) and isinstance(learner.envs.single_action_space.sample(), np.integer):
            policy = _Function(network, lambda net, obs: net.policy(obs, None).log_p)
            return Graph(policy, example, "observation", ("logits", "of each action's probability"))
    go = go_network(learner)
    if go is not None:
        planes = (torch.rand(2, len(PLANES), go.size, go.size) < 0.3).float()
        words = f"logits of the {go.size**2} points and the pass, then the value from -1 to 1"
        return Graph(_Function(go, _policy_value), planes, "planes", (POLICY_VALUE, words))
    raise RlabError(
        f"run '{run}' cannot be exported; our classifiers, networks of Go, value-based agents and policies of discrete "
        "actions can, if they carry no state from step to step"
    )


def go_network(learner: Learner) -> GoNetwork | None:
    """The network of a run that learned Go; None: it is none."""
    held = (getattr(learner, "network", None), getattr(getattr(learner, "task", None), "model", None))
    return next((network for network in held if isinstance(network, GoNetwork)), None)


def _policy_value(network: GoNetwork, planes: Tensor) -> Tensor:
    """planes[B, C, n, n] -> [B, n * n + 2]."""
    outputs = network(planes)
    return torch.cat([outputs.policy, outputs.value.softmax(1).diff(dim=1)], 1)


def _of_model(task: Classification) -> Graph:
    transform, head = task.transform, task.heads[0]

    def call(model: Any, x: Tensor) -> Tensor:
        return head.decode(model(x if transform is None else transform(x))).float()

    example = (
        torch.rand(2, *task.dataset.shape) if task.dataset.kind == "images" else torch.randn(2, *task.dataset.shape)
    )
    words = "logits of the classes" if task.classes else "the predicted numbers"
    return Graph(
        _Function(task.predictor, call), example, "x", ("logits" if task.classes else "y", words), task.classes
    )


def export(graph: Graph, file: Path, form: Literal["onnx", "torch"]) -> float:
    """Write a network to a file, load it again and compare its outputs; return the largest relative difference.

    Args:
        graph: see `graph_of`.
        file: where to.
        form: onnx, for ONNX Runtime and the like; torch, for ``torch.export.load(file).module()``. Both take batches of
            any size.

    Raises:
        RlabError: a library is missing, the network has an operation that the format has not, or outputs differ.
    """
    module, x = graph.module.cpu().eval(), graph.example
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of every library that it could use
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            if form == "torch":
                torch.export.save(torch.export.export(module, (x,), dynamic_shapes=shapes), file)
                loaded = torch.export.load(file).module()
                return _difference(module, lambda inputs: loaded(inputs).numpy(), x)
            torch.onnx.export(
                module,
                (x,),
                str(file),
                input_names=[graph.inputs],
                output_names=[graph.outputs[0]],
                dynamic_shapes=shapes,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
            session = session_of(file)
            return _difference(module, lambda inputs: session.run(None, {graph.inputs: inputs.numpy()})[0], x)
    except ImportError as e:
        raise RlabError(f"ONNX needs the extra: pip install 'rlab-rl[export]' ({e.name} is missing)") from None
    except (torch.onnx.OnnxExporterError, torch._dynamo.exc.TorchDynamoException) as e:
        lines = str(e).strip().splitlines()
        raise RlabError(f"this network cannot be written as {form}: {lines[0] if lines else type(e).__name__}") from e


def _difference(module: nn.Module, run: Callable[[Tensor], np.ndarray], x: Tensor) -> float:
    worst = 0.0
    for inputs in (x, torch.cat([x, x.flip(0), x[:1]])):
        ours, theirs = module(inputs).numpy(), run(inputs)
        worst = max(worst, float(np.abs(ours - theirs).max() / max(np.abs(ours).max(), 1e-6)))
    if not worst <= TOLERANCE:
        raise RlabError(f"the exported network differs from the run's by {worst:.2g} of its largest output")
    return worst


def player_script(env: str, file: str, graph: Graph) -> str:
    """Write a script of twenty lines that plays a Gymnasium environment with an exported agent, without rlab."""
    return f'''"""Plays {env} with {file}: pip install gymnasium onnxruntime numpy."""

import gymnasium
import numpy as np
import onnxruntime

env = gymnasium.make("{env}")
session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
returns = []
for episode in range(10):
    obs, _ = env.reset(seed=episode)
    total, done = 0.0, False
    while not done:
        outputs = session.run(None, {{"{graph.inputs}": np.asarray(obs)[None]}})[0]
        obs, reward, terminated, truncated, _ = env.step(int(outputs[0].argmax()))
        total, done = total + float(reward), terminated or truncated
    returns.append(total)
print("mean of 10 games:", np.mean(returns))
'''
