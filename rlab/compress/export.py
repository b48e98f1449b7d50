"""Export: what a run has learned as one file that runs without rlab, ONNX or torch's own format.

The exported network is checked: on random inputs it must give what the run's own network gives.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gymnasium.spaces import Box
from stable_baselines3.sac.policies import SACPolicy
from torch import Tensor, nn

from rlab.agents.go.network import GoNetwork
from rlab.agents.interaction import Interaction
from rlab.agents.policy.policy_gradient import ActorCritic
from rlab.agents.sb3.learner import Sb3Agent
from rlab.agents.value.q_network import QNetwork
from rlab.envs.go.planes import PLANES
from rlab.errors import RlabError
from rlab.nn.heads.policy import Categorical, Gaussian
from rlab.nn.onnx import session_of
from rlab.run.contract import Learner
from rlab.tasks.classification import Classification
from rlab.tasks.trainer import Trainer

TOLERANCE = 1e-4
"""Largest difference between the run's outputs and those of the exported file, relative to the largest output."""


POLICY_VALUE, ACTION = "policy_value", "action"
"""What the outputs of a network of Go, and of a policy of continuous actions, are called."""


@dataclass(frozen=True)
class Graph:
    """A network to be exported.

    Attributes:
        module: inputs[B, ...] -> outputs[B, K].
        example: two inputs, in the type that it takes.
        inputs: the input's name.
        outputs: the output's name, and what it is in words.
        classes: names of the K outputs, where they have some.
        rules: of an agent: what its environment is made with, beside its name.
        shape: of one input.
    """

    module: nn.Module
    example: Tensor
    inputs: str
    outputs: tuple[str, str]
    classes: tuple[str, ...] | None = None
    rules: Mapping[str, Any] = field(default_factory=dict)

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
        return _of_agent(learner, run)
    go = go_network(learner)
    if go is not None:
        planes = (torch.rand(2, len(PLANES), go.size, go.size) < 0.3).float()
        words = f"logits of the {go.size**2} points and the pass, then the value from -1 to 1"
        return Graph(_Function(go, _policy_value), planes, "planes", (POLICY_VALUE, words))
    raise _refused(run)


def _refused(run: str) -> RlabError:
    return RlabError(
        f"run '{run}' cannot be exported; classifiers, regressions, networks of Go, value-based agents and policies "
        "can, if they carry no state from step to step"
    )


def _of_agent(learner: Interaction, run: str) -> Graph:
    """Values of actions, logits of their probabilities, or numbers that are the action itself.

    Raises:
        RlabError: it remembers, or it is no agent with a network.
    """
    agent: Any = learner.agent
    observations, actions = learner.envs.single_observation_space, learner.envs.single_action_space
    example = torch.from_numpy(np.stack([observations.sample() for _ in range(2)]))
    network = getattr(agent, "online", None) or getattr(agent, "network", None)
    call: Callable[[Any, Tensor], Tensor]
    if isinstance(network, QNetwork) and not network.recurrent:
        network.bf16 = False
        for layer in network.noisy_layers:
            layer.noise = False
        values, call = True, lambda net, obs: net.q_values(net(obs, net.act_taus.expand(obs.shape[0], -1)))
    elif isinstance(network, ActorCritic) and not agent.config.recurrent:
        values, call = False, lambda net, obs: _parameters(net.policy(obs, None))
    elif isinstance(agent, Sb3Agent) and agent.model.observation_space == observations:
        network = agent.model.policy
        values, call = hasattr(network, "q_net"), _of_sb3
    else:
        raise _refused(run)
    words = ("q_values", "the value of each action; the largest one is played")
    if isinstance(actions, Box):
        words, call = (ACTION, "the action that is played"), partial(_action, call, actions)
    elif not values:
        words = ("logits", "of each action's probability")
    return Graph(_Function(network, call), example, "observation", words, rules=learner.rules)


def _action(call: Callable[[Any, Tensor], Tensor], space: Box, network: Any, obs: Tensor) -> Tensor:
    """obs[B, *shape] -> the mean of a policy within the bounds of its actions, [B, *shape]."""
    low, high = torch.from_numpy(space.low), torch.from_numpy(space.high)
    mean = call(network, obs).reshape(-1, *low.shape)
    if getattr(network, "squash_output", False):  # stable-baselines3, off-policy: from -1 to 1
        mean = low + 0.5 * (mean + 1) * (high - low)
    return mean.clamp(low, high)


def _parameters(policy: Categorical | Gaussian) -> Tensor:
    """Of a policy: the logits of its actions, or its mean."""
    return policy.log_p if isinstance(policy, Categorical) else policy.mean


def _of_sb3(policy: Any, obs: Tensor) -> Tensor:
    """The same of policies of stable-baselines3, and the values of its DQN; its distributions cannot be exported."""
    if hasattr(policy, "q_net"):
        return policy.q_net(obs)
    if isinstance(policy, SACPolicy):
        return policy.actor.get_action_dist_params(obs)[0].tanh()
    if hasattr(policy, "actor"):
        return policy.actor(obs)
    features = policy.extract_features(obs)
    latent = policy.mlp_extractor.forward_actor(features if policy.share_features_extractor else features[0])
    return policy.action_net(latent)


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
    try:
        with quiet(), torch.no_grad():
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


def _difference(module: nn.Module, run: Callable[[Tensor], np.ndarray], x: Tensor) -> float:
    worst = 0.0
    for inputs in (x, torch.cat([x, x.flip(0), x[:1]])):
        ours, theirs = module(inputs).numpy(), run(inputs)
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
    played = "outputs[0]" if graph.outputs[0] == ACTION else "int(outputs[0].argmax())"
    imports = "import importlib\n\n" if "importlib" in make else ""
    return f'''"""Plays {env} with an exported network: pip install gymnasium onnxruntime numpy."""

{imports}import gymnasium
import numpy as np
import onnxruntime

env = {make}
session = onnxruntime.InferenceSession({file!r}, providers=["CPUExecutionProvider"])
returns = []
for episode in range(10):
    obs, _ = env.reset(seed=episode)
    total, done = 0.0, False
    while not done:
        outputs = session.run(None, {{"{graph.inputs}": np.asarray(obs)[None]}})[0]
        obs, reward, terminated, truncated, _ = env.step({played})
        total, done = total + float(reward), terminated or truncated
    returns.append(total)
print("mean of 10 games:", np.mean(returns))
'''
