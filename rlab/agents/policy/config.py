"""Typed configuration of policy-gradient agents, and the presets: values, not classes. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from rlab.agents.config import NO_MEMORY, AgentSettings, EnvConfig, short_of_rollout
from rlab.errors import RlabError
from rlab.run.config import RunConfig, at_least, within


@dataclass(frozen=True)
class PolicyConfig(AgentSettings):
    """A policy gradient with or without a value function. Every variant is a field, read in one place."""

    num_envs: int = 16
    """Environments that step side by side."""
    encoder: str = "auto"
    """Network under the heads; auto: nature for images, mlp for vectors. `rlab doctor` lists them. Or a run (name,
    path, latest), whose encoder this one starts from; of a name that both have, the registered encoder is meant."""
    freeze: bool = False
    """Keep the encoder of the other run as it is; only what sits on it learns."""
    memory: str = NO_MEMORY
    """What remembers, between encoder and heads: none, or a sequence encoder with a state, which goes on from step to
    step: lstm, gru, mingru, gtrxl ... with options as in gtrxl+layers=2+width=64. Its gradient goes back as far as the
    rollout. Or a run whose sequence encoder this one starts from, such as one of rnn-lm."""
    share_encoder: bool = True
    """One encoder under policy and value (Mnih et al. 2016) instead of one for each."""
    rollout: int = 5
    """Length of what each update learns from, in rollout_unit; of every environment."""
    rollout_unit: Literal["steps", "episodes"] = "steps"
    """steps: a value function stands for what comes after the rollout. episodes: whole ones (Williams 1992), which
    need num_envs 1: otherwise some would begin under one policy and end under another."""
    value_coef: float = 0.5
    """Weight of the value function's squared error in the loss; 0: no value function, so no baseline."""
    gae_lambda: float = 1.0
    """Advantages (Schulman et al. 2016, eq. 16): 0 is the one-step TD error, 1 the return less the baseline."""
    gamma: float = 0.99
    """Discount per step."""
    entropy_coef: float = 0.01
    """Weight of the policy's entropy, which is added to what is maximised (Mnih et al. 2016)."""
    normalise_advantages: bool = False
    """Shift and scale the advantages of an update to mean 0 and standard deviation 1."""
    learning_rate: float = 7e-4
    """Adam's step size."""
    final_learning_rate: float = 0.0
    """Step size at the end of the run; it moves there linearly."""
    adam_epsilon: float = 1e-5
    """Adam's epsilon."""
    max_grad_norm: float = 0.5
    """Gradients are scaled down to this L2 norm."""
    initial_log_std: float = 0.0
    """Continuous actions: the logarithm of the first standard deviation, learned from there."""
    evaluate: Literal["greedy", "sample"] = "greedy"
    """Actions in evaluations: the most probable one (the mean of continuous ones), or drawn as in training."""

    def __post_init__(self) -> None:
        at_least(self, num_envs=1, rollout=1, value_coef=0, entropy_coef=0)
        at_least(self, learning_rate=0, final_learning_rate=0, adam_epsilon=0, max_grad_norm=0)
        within(self, 0, 1, "gamma", "gae_lambda")
        within(self, -10, 10, "initial_log_std")
        if self.rollout_unit == "episodes" and self.num_envs != 1:
            raise RlabError(f"--num-envs is {self.num_envs}; --rollout-unit episodes needs 1")
        if self.value_coef == 0:
            without = "without a value function (--value-coef 0)"
            if self.gae_lambda != 1:
                raise RlabError(
                    f"--gae-lambda is {self.gae_lambda}; it must be 1 {without}: nothing can stand for a rest"
                )
            if self.rollout_unit != "episodes":
                raise RlabError(f"--rollout-unit is '{self.rollout_unit}'; it must be episodes {without}")
            if not self.share_encoder:
                raise RlabError(f"--no-share-encoder means nothing {without}; leave it away")

    def nothing_learned(self, steps: int) -> str:
        """See `AgentSettings.nothing_learned`."""
        if self.rollout_unit == "episodes":  # nobody knows how long they are
            return ""
        return short_of_rollout("--rollout", self.rollout, self.num_envs, steps - 1)

    @property
    def recurrent(self) -> bool:
        """Whether it remembers."""
        return self.memory != NO_MEMORY

    @property
    def ticks(self) -> int:
        """Vector steps to the next update, if that is not too far."""
        return 16 if self.rollout_unit == "episodes" else min(self.rollout, 16)


@dataclass(frozen=True)
class PolicyExperiment:
    """All settings of a run of a policy-gradient agent."""

    run: RunConfig = field(default_factory=RunConfig)
    env: EnvConfig = field(default_factory=EnvConfig)
    agent: PolicyConfig = field(default_factory=PolicyConfig)


_A2C = PolicyConfig(evaluate="sample")

_REINFORCE = PolicyConfig(
    num_envs=1,
    rollout=8,  # all returns positive, an update of one episode makes its actions likelier, whatever they were
    rollout_unit="episodes",
    value_coef=0.0,
    entropy_coef=0.0,
    learning_rate=1e-3,
    final_learning_rate=1e-3,
)

_VECTOR_A2C = PolicyConfig(
    num_envs=8,
    rollout=16,
    share_encoder=False,
    gae_lambda=0.95,
    entropy_coef=0.01,
    learning_rate=2e-3,
)

POLICY_PRESETS = {
    "reinforce": replace(_REINFORCE, evaluate="sample"),
    "reinforce-baseline": replace(_REINFORCE, rollout=1, value_coef=0.5, evaluate="sample"),
    "actor-critic": replace(_A2C, rollout=1, gae_lambda=0.0),
    "a2c": _A2C,
}
"""Name -> settings for images; a2c is Mnih et al. 2016 in step (their 16 actors, 5 steps), with Adam."""

POLICY_VECTOR_PRESETS = {
    "reinforce": _REINFORCE,
    "reinforce-baseline": replace(_REINFORCE, rollout=1, value_coef=0.5, share_encoder=False),
    "actor-critic": replace(
        _VECTOR_A2C,
        num_envs=64,
        rollout=1,
        gae_lambda=0.0,
        entropy_coef=0.01,
        normalise_advantages=True,
        learning_rate=1e-3,
    ),
    "a2c": _VECTOR_A2C,
}
"""Name -> settings for everything else; a2c normalises advantages where actions are numbers (Box), as rewards of
Pendulum's size need it, and not where they are classes: on CartPole it froze three of eight runs."""
