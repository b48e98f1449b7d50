"""Settings of agents that learn from another agent. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Literal

from rlab.agents.config import AgentSettings, EnvConfig, short_of_rollout
from rlab.agents.policy.config import POLICY_VECTOR_PRESETS, PolicyConfig
from rlab.errors import RlabError
from rlab.run.config import RunConfig, at_least


@dataclass(frozen=True)
class DistillationConfig(AgentSettings):
    """Policy distillation: a small network learns what a trained agent would do (Rusu et al. 2016)."""

    teacher: str = ""
    """A run of a value-based agent or a policy gradient of the lab; RUN:best is its best checkpoint."""
    temperature: float = 0.01
    """What the teacher's Q-values, or the logits of its policy, are divided by before they become probabilities. The
    paper's 0.01 sharpens Q-values, which lie close together; 1 keeps a policy as it is."""
    acts: Literal["student", "teacher"] = "student"
    """Who visits the states that are learned from; actions are drawn from the one's or the other's probabilities."""
    num_envs: int = 32
    """Environments that step side by side."""
    encoder: str = "mlp-32"
    """Network of the student under its head; `rlab doctor` lists them. Or a run (name, path, latest), whose encoder
    this one starts from; of a name that both have, the registered encoder is meant."""
    freeze: bool = False
    """Keep the encoder of the other run as it is; only what sits on it learns."""
    rollout: int = 16
    """Steps of every environment from one time of learning to the next."""
    epochs: int = 4
    """How often each observation of a rollout is learned from."""
    batch_size: int = 128
    """Observations of an update."""
    learning_rate: float = 1e-3
    """Adam's step size; it falls to 0 linearly."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm."""
    evaluate: Literal["greedy", "sample"] = "greedy"
    """Actions of the student in evaluations: the most probable one, or drawn. The teacher plays as its run does."""

    def __post_init__(self) -> None:
        at_least(self, num_envs=1, rollout=1, epochs=1, batch_size=1, learning_rate=0, max_grad_norm=0)
        if self.temperature <= 0:
            raise RlabError(f"--temperature is {self.temperature:g}; it must be above 0; nearest: 0.01")

    def nothing_learned(self, steps: int) -> str:
        """See `AgentSettings.nothing_learned`."""
        return short_of_rollout("--rollout", self.rollout, self.num_envs, steps - 1)

    @property
    def ticks(self) -> int:
        """Vector steps to the next update, if that is not too far."""
        return min(self.rollout, 16)

    @property
    def policy(self) -> PolicyConfig:
        """The student as a policy gradient's settings: what both have in common."""
        shared = {f.name for f in fields(PolicyConfig)} & {f.name for f in fields(self)}
        return PolicyConfig(final_learning_rate=0.0, **{name: getattr(self, name) for name in shared})


@dataclass(frozen=True)
class DistillationExperiment:
    """All settings of a run of policy distillation."""

    run: RunConfig = field(default_factory=RunConfig)
    env: EnvConfig = field(default_factory=EnvConfig)
    agent: DistillationConfig = field(default_factory=DistillationConfig)


@dataclass(frozen=True)
class GailConfig(PolicyConfig):
    """GAIL: a policy gradient whose reward is how much its actions look like an expert's (Ho & Ermon 2016)."""

    trajectories: str = ""
    """A run of which `rlab data from-run RUN` has kept the trajectories, or their folder."""
    expert_episodes: int = 10
    """The expert: so many of the trajectories' episodes, those of the highest return."""
    reward: Literal["expert", "policy", "balanced"] = "expert"
    """What a step is paid, with D the probability that the expert took it. expert: -log(1 - D), the paper's, always
    above 0, which pays for going on: where the score is an episode's length, a discriminator that has learned nothing
    does as well. policy: log D, always below 0, which pays for an end. balanced: 2 D - 1."""
    discriminator: str = "mlp-64-64"
    """Network of the discriminator on observations and actions."""
    discriminator_rate: float = 1e-3
    """Adam's step size for the discriminator."""
    discriminator_updates: int = 1
    """Updates of the discriminator for each of the policy, on as many steps of either side. 0: it stays as it began,
    a control that has seen no expert."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, expert_episodes=1, discriminator_rate=0, discriminator_updates=0)


@dataclass(frozen=True)
class GailExperiment:
    """All settings of a run of GAIL."""

    run: RunConfig = field(default_factory=RunConfig)
    env: EnvConfig = field(default_factory=EnvConfig)
    agent: GailConfig = field(default_factory=GailConfig)


def _run_and_env(env: str) -> tuple[RunConfig, EnvConfig]:
    """How long imitation takes on an environment, and how often it is scored on the way."""
    from rlab.envs import is_minatar

    if not env:
        return RunConfig(), EnvConfig()
    steps = 1_000_000 if is_minatar(env) else 200_000
    run = RunConfig(evaluate_steps=steps // 10, checkpoint_steps=steps // 10)
    return run, EnvConfig(env=env, steps=steps)


def default_distillation(env: str) -> DistillationExperiment:
    """The settings that policy-distillation starts from on an environment."""
    return DistillationExperiment(*_run_and_env(env))


def default_gail(env: str) -> GailExperiment:
    """The settings that gail starts from on an environment: those of a2c, with scaled advantages."""
    a2c = POLICY_VECTOR_PRESETS["a2c"]
    base = {f.name: getattr(a2c, f.name) for f in fields(PolicyConfig)}
    # The reward changes with the discriminator, so that only advantages on one scale let a step size hold throughout.
    agent = GailConfig(**base | {"normalise_advantages": True})
    return replace(GailExperiment(*_run_and_env(env)), agent=agent)
