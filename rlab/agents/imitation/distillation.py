"""Policy distillation (Rusu et al. 2016): a small network learns the policy of a trained agent.

The loss is KL(softmax(q / temperature) || student), where q are the teacher's Q-values, or the logits of its policy, at
states that the student (or the teacher) visits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.agents.evaluation import Policy
from rlab.agents.imitation.config import DistillationConfig, DistillationExperiment
from rlab.agents.policy.config import PolicyConfig
from rlab.agents.policy.policy_gradient import ActorCritic, PolicyGradient, Rollout
from rlab.agents.types import AgentContext
from rlab.agents.value.config import PQNConfig, QConfig
from rlab.agents.value.exploration import linear
from rlab.agents.value.q_network import QNetwork, QPolicy
from rlab.envs.make import canonical_name
from rlab.errors import RlabError
from rlab.nn.heads.policy import FORBIDDEN, Categorical
from rlab.nn.modes import drawing_for
from rlab.registry import RECIPES
from rlab.run.config import from_plain, to_plain
from rlab.run.contract import NonFinite
from rlab.run.folder import run_at
from rlab.run.lifecycle import configuration_of, find_checkpoint, read_newest
from rlab.run.warm_start import Source, WarmStart, load_source, source_of
from rlab.tasks.transfer import warm_start_encoder

ROLE = "teacher"

TEACHERS = "a run of dqn, pqn or a2c"


def warm_start_teacher(experiment: DistillationExperiment) -> tuple[DistillationExperiment, WarmStart]:
    """Take the network of the run that `--teacher` names, and the encoder that `--encoder` names, if that is a run.

    Raises:
        RlabError: no teacher is named, there is no such run, it holds no network that can teach, or it plays another
            game.
    """
    name, env = experiment.agent.teacher, experiment.env.env
    if not name:
        raise RlabError(f"--teacher is empty; it names what is learned from: {TEACHERS} on {env}")
    folder, progress = run_at(name)
    recipe, config = configuration_of(folder)
    agent = getattr(config, "agent", None)
    lab = isinstance(agent, (QConfig, PQNConfig, PolicyConfig))
    if not lab or getattr(agent, "recurrent", False):
        why = "remembers, and its student would not" if lab else "holds no network of the lab's own agents"
        raise RlabError(f"--teacher: run '{folder.name}' ({recipe}) {why}; nearest: {TEACHERS}")
    if canonical_name(config.env.env) != canonical_name(env):
        raise RlabError(f"--teacher: run '{folder.name}' plays {config.env.env}, and this one {env}; nearest: "
                        f"--env {config.env.env}")  # fmt: skip
    saved = read_newest(folder) if progress is None else find_checkpoint(folder, progress)
    if saved is None:
        raise RlabError(f"--teacher: run '{folder.name}' has no checkpoint yet; nearest: {TEACHERS} that has learned")
    tensors = saved.state["agent"]["network" if isinstance(agent, PolicyConfig) else "online"]
    source = source_of(folder.name, saved.done, tensors, recipe=recipe, agent=to_plain(agent))
    experiment, start = warm_start_encoder("agent", experiment)
    return experiment, WarmStart({**start.sources, ROLE: source})


class Teacher:
    """A trained agent's network, which does not change.

    Args:
        context: of the student, who sees the same observations.
        note, tensors: of the `Source` that was copied.
    """

    def __init__(self, context: AgentContext, note: Mapping[str, Any], tensors: Mapping[str, Tensor]):
        self.note, self.device = note, torch.device(context.device)
        kind = type(RECIPES.get(note["recipe"]).default("").agent)
        self.config = c = from_plain(kind, note["agent"])
        space = context.observation_space
        self.network: QNetwork | ActorCritic
        with torch.random.fork_rng(devices=[]):  # what it is initialised with is replaced at once
            if isinstance(c, PolicyConfig):
                self.network = ActorCritic(space, context.action_space, replace(c, freeze=False))
            else:
                self.network = QNetwork(
                    space, context.num_actions, c.encoder, False, c if isinstance(c, QConfig) else None
                )
        own = self.network.state_dict()
        for name in sorted({*own, *tensors}):
            there, here = (str(list(w[name].shape)) if name in w else "none" for w in (tensors, own))
            if there != here:
                raise RlabError(
                    f"--teacher: run '{note['run']}' sees other observations or actions: '{name}' has shape {there} "
                    f"there and {here} here; nearest: the options of its environment"
                )
        self.network.load_state_dict(dict(tensors))
        self.network.to(self.device).requires_grad_(False)

    @property
    def parameters(self) -> int:
        """How many it plays with; a policy gradient's value function is not among them."""
        parts = self.network
        if isinstance(parts, ActorCritic):
            return sum(p.numel() for part in (parts.encoder, parts.head) for p in part.parameters())
        return sum(p.numel() for p in parts.parameters())

    def probabilities(self, obs: Tensor, mask: Tensor | None, temperature: float) -> Categorical:
        """obs[B, *shape], mask bool[B, A] or None -> the policy over [B, A] that is to be learned."""
        with torch.no_grad():
            if isinstance(self.network, ActorCritic):
                policy = self.network.policy(obs, None)
                assert isinstance(policy, Categorical)
                values = policy.log_p
            else:
                values = self.network.q_values(self.network(obs))
            logits = values / temperature
            return Categorical((logits if mask is None else logits.where(mask, FORBIDDEN)).log_softmax(1))

    def player(self, seed: int) -> Policy:
        """What its own run plays in evaluations."""
        if isinstance(self.network, QNetwork):
            return QPolicy(self.network, seed, self.config.evaluate_epsilon)
        return TeacherPlayer(self, seed if self.config.evaluate == "sample" else None)


class TeacherPlayer:
    """Plays a teacher's policy; draws with random numbers of its own, or takes the most probable action (no seed)."""

    def __init__(self, teacher: Teacher, seed: int | None):
        self._teacher = teacher
        self._rng = None if seed is None else np.random.default_rng(seed)

    def act(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """obs[N, *shape], first bool[N], mask bool[N, A] or None -> int64[N]."""
        device = self._teacher.device
        allowed = None if mask is None else torch.from_numpy(mask).to(device)
        policy = self._teacher.probabilities(torch.from_numpy(obs).to(device), allowed, 1.0)
        if self._rng is None:
            return policy.mode().cpu().numpy()
        uniform = self._rng.random(policy.log_p.shape, np.float32)
        return policy.sample(torch.from_numpy(uniform).to(device)).cpu().numpy()


class Distillation(PolicyGradient):
    """The student: gathers a rollout, learns what the teacher would do there, forgets it.

    Args:
        config: hyperparameters.
        context: what it is built for; actions are Discrete.
        source: the teacher of a new run; None: it comes with `restore`.
    """

    def __init__(self, config: DistillationConfig, context: AgentContext, source: Source | None):
        self.num_actions = context.num_actions  # refuses others
        super().__init__(config.policy, context)
        self.distillation = config
        self.teacher = None if source is None else Teacher(context, source.note, source.tensors)

    def make_network(self) -> ActorCritic:
        """The student's policy, without a value function."""
        network = super().make_network()
        network.value_head = None
        return network

    def act(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """obs[N, *shape], first bool[N], mask bool[N, A] or None -> int64[N]."""
        if self.distillation.acts == "student":
            return super().act(obs, first, mask)
        allowed = None if mask is None else self._tensor(mask)
        policy = self._known().probabilities(self._tensor(obs), allowed, self.distillation.temperature)
        self._chosen = self.draw(policy, self.rng)
        return self._chosen

    def _known(self) -> Teacher:
        assert self.teacher is not None, "a resumed run has its teacher in its checkpoint"
        return self.teacher

    def update(self, rollout: Rollout) -> dict[str, float]:
        """Go over a rollout in minibatches, `epochs` times.

        Raises:
            NonFinite: the loss or the gradient is NaN or Inf.
        """
        c, rows = self.distillation, rollout.reward.size
        rate = linear(c.learning_rate, 0.0, self.context.place(self.steps), self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        obs = self._tensor(rollout.obs.reshape(rows, *rollout.obs.shape[2:]))
        mask = None if rollout.mask is None else self._tensor(rollout.mask.reshape(rows, -1))
        wanted = self._known().probabilities(obs, mask, c.temperature)
        sums, batches = torch.zeros(4, device=self.device), 0
        for _ in range(c.epochs):
            for part in torch.from_numpy(self.rng.permutation(rows)).to(self.device).split(c.batch_size):
                with drawing_for(self.network.encoder.modes, self.device, self.seed, "update", self.updates, batches):
                    policy = self.network.policy(obs[part], None if mask is None else mask[part])
                assert isinstance(policy, Categorical)
                loss = F.kl_div(policy.log_p, wanted.log_p[part].exp(), reduction="batchmean")
                self.optimizer.zero_grad()
                loss.backward()
                norm = nn.utils.clip_grad_norm_(self.network.parameters(), c.max_grad_norm)
                if not bool(norm.isfinite() & loss.isfinite()):
                    raise NonFinite("loss", loss.item(), f"step {self.steps:,} (update {self.updates + 1:,})")
                self.optimizer.step()
                same = (policy.mode() == wanted.mode()[part]).float().mean()
                sums += torch.stack([loss.detach(), norm, same, policy.entropy().mean().detach()])
                batches += 1
        self.updates += 1
        return dict(zip(("loss", "grad_norm", "agreement", "entropy"), (sums / batches).tolist(), strict=True))

    def compared(self, mean: float, play: Callable[[Policy], float]) -> dict[str, Any]:
        """See `rlab.agents.interaction.Imitates`; of parameters, too, there is the share of the teacher's."""
        teacher = self._known()
        theirs = play(teacher.player(0))
        own = sum(p.numel() for p in self.network.parameters())
        share = {"share": mean / theirs} if theirs > 0 else {}
        return {"teacher": theirs, **share, "parameters": own, "parameters_share": own / teacher.parameters}

    def state(self) -> dict[str, Any]:
        """Everything that decides what the agent does next, its teacher included."""
        teacher = self._known()
        return super().state() | {"teacher": {"note": dict(teacher.note), "tensors": teacher.network.state_dict()}}

    def restore_policy(self, state: dict[str, Any]) -> None:
        """Take over what playing needs, and the teacher, which is played beside."""
        super().restore_policy(state)
        if "teacher" in state:
            self.teacher = Teacher(self.context, state["teacher"]["note"], state["teacher"]["tensors"])


def build_distillation(experiment: DistillationExperiment, context: Any) -> Any:
    """Build the Learner of a student; a new run's teacher lies in its folder."""
    from rlab.agents.recipes import build

    source = None if context.start is None else load_source(context.start, ROLE)
    return build(lambda config, given: Distillation(config, given, source), experiment, context)
