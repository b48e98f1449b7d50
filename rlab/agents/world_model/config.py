"""Settings of an agent that learns in dreams. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rlab.agents.config import AgentSettings, EnvConfig
from rlab.errors import RlabError
from rlab.run.config import RunConfig, at_least, within


@dataclass(frozen=True)
class WorldModelConfig(AgentSettings):
    """A recurrent model of what the environment does next, and a policy that learns in what the model dreams."""

    num_envs: int = 16
    """Environments that step side by side."""
    random_steps: int = 5_000
    """Environment steps by random actions, before the policy acts."""
    memory_size: int = 20_000
    """Environment steps that the model learns from: the newest ones."""
    rollout: int = 32
    """Steps of every environment from one time of learning to the next."""
    width: int = 128
    """Units of the GRU that remembers."""
    hidden: int = 256
    """Units of the layer that predicts, on what is seen, what is done and what is remembered."""
    mixtures: int = 5
    """Gaussians in the mixture for each number of the next observation; none for images, whose cells are on or off."""
    untrained_memory: bool = False
    """Leave the GRU as it was initialised: the control that shows what training it is worth."""
    model_updates: int = 32
    """Updates of the model each time."""
    model_rate: float = 2e-3
    """Adam's step size for the model."""
    sequence: int = 16
    """Steps of a sequence that the model learns from."""
    batch_size: int = 32
    """Such sequences in an update."""
    dream_updates: int = 8
    """Updates of the policy each time, each on dreams of its own."""
    dreams: int = 64
    """Dreams side by side in an update; each begins where a recorded sequence ends."""
    horizon: int = 16
    """Steps of a dream at the most."""
    dream_temperature: float = 1.0
    """Of what is drawn in dreams: above 1 makes them less certain, so that the policy exploits the model less."""
    units: int = 64
    """Units of the policy's hidden layer, on what is seen and remembered."""
    gamma: float = 0.99
    """Discount per step."""
    gae_lambda: float = 0.95
    """Of the advantages in dreams (Schulman et al. 2016)."""
    entropy_coef: float = 0.01
    """Weight of the policy's entropy, which is added to what is maximised."""
    learning_rate: float = 1e-3
    """Adam's step size for the policy."""
    max_grad_norm: float = 10.0
    """Gradients are scaled down to this L2 norm."""
    evaluate: Literal["greedy", "sample"] = "sample"
    """Actions in evaluations: the most probable one, or drawn as in training."""

    def __post_init__(self) -> None:
        at_least(self, num_envs=1, random_steps=0, memory_size=1, rollout=1, width=1, hidden=1, mixtures=1)
        at_least(self, model_updates=1, model_rate=0, sequence=2, batch_size=1, dream_updates=0, dreams=1, horizon=1)
        at_least(self, units=1, entropy_coef=0, learning_rate=0, max_grad_norm=0)
        within(self, 0, 1, "gamma", "gae_lambda")
        within(self, 0.1, 10, "dream_temperature")
        if self.memory_size < (least := self.num_envs * max(self.sequence, self.rollout)):
            raise RlabError(
                f"--memory-size is {self.memory_size:,}; {self.num_envs} environments (--num-envs) with sequences of "
                f"{self.sequence} (--sequence) and rollouts of {self.rollout} need {least:,}"
            )

    def nothing_learned(self, steps: int) -> str:
        """See `AgentSettings.nothing_learned`."""
        first = max(self.random_steps, self.num_envs * max(self.rollout, self.sequence))
        return f"learning begins after {first:,} steps (--random-steps, --rollout)" if steps <= first else ""

    @property
    def ticks(self) -> int:
        """Vector steps to the next update, if that is not too far."""
        return min(self.rollout, 16)


@dataclass(frozen=True)
class WorldModelExperiment:
    """All settings of a run of a world model."""

    run: RunConfig = field(default_factory=RunConfig)
    env: EnvConfig = field(default_factory=EnvConfig)
    agent: WorldModelConfig = field(default_factory=WorldModelConfig)


def default_world_model(env: str) -> WorldModelExperiment:
    """The settings that world-model starts from on an environment."""
    from rlab.envs import is_minatar

    if not env:
        return WorldModelExperiment()
    steps = 200_000 if is_minatar(env) else 50_000
    run = RunConfig(evaluate_steps=steps // 10, checkpoint_steps=steps // 5)
    return WorldModelExperiment(run, EnvConfig(env=env, steps=steps))
