"""Generative adversarial imitation learning (Ho & Ermon 2016): a policy that cannot be told from an expert.

The discriminator learns which of two steps (s, a) is the expert's. Its probability D of that makes the reward of the
lab's own policy gradient; what the environment pays is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.agents.evaluation import Policy
from rlab.agents.imitation.config import GailConfig, GailExperiment
from rlab.agents.policy.policy_gradient import PolicyGradient, Rollout
from rlab.agents.sequence.trajectories import load_trajectories
from rlab.agents.types import AgentContext
from rlab.envs.make import canonical_name
from rlab.errors import RlabError
from rlab.nn.inputs import ObservationEncoder
from rlab.nn.optim import make_optimiser, restore, state_of
from rlab.run.contract import NonFinite, Stop
from rlab.run.warm_start import Source, WarmStart, load_source, source_of
from rlab.seeding import derive
from rlab.tasks.transfer import warm_start_encoder

ROLE = "expert"


def warm_start_expert(experiment: GailExperiment) -> tuple[GailExperiment, WarmStart]:
    """Take the expert's episodes, and the encoder that `--encoder` names, if that is a run.

    Raises:
        RlabError: there are no trajectories, not so many episodes, or they are of another environment.
    """
    c, env = experiment.agent, experiment.env
    if not c.trajectories:
        raise RlabError(
            "--trajectories is empty; it names what is imitated: a run of dqn, after rlab data from-run RUN"
        )
    if c.recurrent:
        raise RlabError(f"--memory is {c.memory}; gail decides by what it sees at the moment; nearest: --memory none")
    found = load_trajectories(c.trajectories)
    if canonical_name(env.env) != canonical_name(found.note["env"]):
        raise RlabError(f"--env is {env.env}, and the trajectories of '{c.trajectories}' are of {found.note['env']}; "
                        f"nearest: --env {found.note['env']}")  # fmt: skip
    if c.expert_episodes > len(found.start):
        raise RlabError(f"--expert-episodes is {c.expert_episodes}, and the trajectories of '{c.trajectories}' are "
                        f"{len(found.start)} episodes; nearest: {len(found.start)}")  # fmt: skip
    best = np.argsort(-found.returns, kind="stable")[: c.expert_episodes]
    steps = np.isin(found.episode, best)
    tensors = {"obs": torch.from_numpy(found.obs[steps]), "action": torch.from_numpy(found.action[steps])}
    mean = float(found.returns[best].mean())
    source = source_of(found.note["run"], found.note["step"], tensors, mean=mean, episodes=c.expert_episodes)
    experiment, start = warm_start_encoder("agent", experiment)
    return experiment, WarmStart({**start.sources, ROLE: source})


class Discriminator(nn.Module):
    """Steps -> log D - log(1 - D), D the probability that they are the expert's; it has an output for each action."""

    def __init__(self, context: AgentContext, encoder: str):
        super().__init__()
        self.encoder = ObservationEncoder(context.observation_space, encoder)
        self.head = nn.Linear(self.encoder.out_dim, context.num_actions)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """obs[B, *shape], action int64[B] -> logits [B]."""
        logits: Tensor = self.head(self.encoder(obs)).gather(1, action.unsqueeze(1)).squeeze(1)
        return logits


class Gail(PolicyGradient):
    """The agent: a policy gradient whose rewards are a discriminator's.

    Args:
        config: hyperparameters.
        context: what it is built for; actions are Discrete.
        expert: whose steps are imitated; None: they come with `restore`.
    """

    def __init__(self, config: GailConfig, context: AgentContext, expert: Source | None):
        self.num_actions = context.num_actions  # refuses others
        super().__init__(config, context)
        self.gail = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.seed, "discriminator"))
            self.discriminator = Discriminator(context, config.discriminator).to(self.device)
        self.discriminator_optimizer = make_optimiser(
            "adam", list(self.discriminator.parameters()), lr=config.discriminator_rate
        )
        self.expert: dict[str, Any] = {} if expert is None else _expert(expert)

    def update(self, rollout: Rollout) -> dict[str, float]:
        """Let the discriminator learn from a rollout, then the policy from its rewards.

        Raises:
            NonFinite: a loss or a gradient is NaN or Inf.
        """
        rows = rollout.reward.size
        obs = self._tensor(rollout.obs.reshape(rows, *rollout.obs.shape[2:]))
        action = self._tensor(rollout.action.reshape(rows))
        metrics: dict[str, float] = {}
        for _ in range(self.gail.discriminator_updates):
            metrics = self._tell_apart(obs, action)
        with torch.no_grad():
            reward = self._reward(self.discriminator(obs, action)).cpu().numpy().reshape(rollout.reward.shape)
        return super().update(rollout._replace(reward=reward)) | metrics | {"imitation_reward": float(reward.mean())}

    def _reward(self, logits: Tensor) -> Tensor:
        if self.gail.reward == "expert":
            return F.softplus(logits)
        return F.logsigmoid(logits) if self.gail.reward == "policy" else (logits / 2).tanh()

    def _tell_apart(self, obs: Tensor, action: Tensor) -> dict[str, float]:
        """One gradient step of the discriminator, on as many steps of the expert."""
        chosen = self.rng.integers(len(self.expert["action"]), size=len(action))
        theirs = self.discriminator(*(self._tensor(self.expert[name][chosen]) for name in ("obs", "action")))
        ours = self.discriminator(obs, action)
        loss = F.softplus(-theirs).mean() + F.softplus(ours).mean()
        if not bool(loss.isfinite()):
            raise NonFinite("discriminator loss", loss.item(), f"step {self.steps:,}")
        self.discriminator_optimizer.zero_grad()
        loss.backward()
        self.discriminator_optimizer.step()
        right = 0.5 * ((theirs > 0).float().mean() + (ours < 0).float().mean())
        return {"discriminator_loss": loss.item(), "discriminator_accuracy": right.item()}

    def compared(self, mean: float, play: Callable[[Policy], float]) -> dict[str, Any]:
        """See `rlab.agents.interaction.Imitates`; the expert is what was recorded."""
        expert = float(self.expert["note"]["mean"])
        return {"expert": expert} | ({"share": mean / expert} if expert > 0 else {})

    def state(self) -> dict[str, Any]:
        """Everything that decides what the agent does next, the expert's steps included."""
        return super().state() | {
            "discriminator": self.discriminator.state_dict(),
            "discriminator_optimizer": state_of(self.discriminator_optimizer),
            "expert": self.expert,
        }

    def restore(self, state: dict[str, Any], stop: Stop) -> None:
        """Become the agent that `state` describes."""
        super().restore(state, stop)
        self.discriminator.load_state_dict(state["discriminator"])
        restore(self.discriminator_optimizer, state["discriminator_optimizer"])

    def restore_policy(self, state: dict[str, Any]) -> None:
        """Take over what playing needs, and the expert, who is compared with."""
        super().restore_policy(state)
        self.expert = state.get("expert", self.expert)


def _expert(source: Source) -> dict[str, Any]:
    return {"note": source.note, **{name: tensor.numpy() for name, tensor in source.tensors.items()}}


def build_gail(experiment: GailExperiment, context: Any) -> Any:
    """Build the Learner; a new run's expert lies in its folder."""
    from rlab.agents.recipes import build

    expert = None if context.start is None else load_source(context.start, ROLE)
    return build(lambda config, given: Gail(config, given, expert), experiment, context)
