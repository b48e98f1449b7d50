"""Typed settings of the algorithms of stable-baselines3: one dataclass each, so that none shows what it does not read.

Names are the lab's where the lab has one (``memory_size`` is the library's ``buffer_size``); otherwise the library's.
Presets follow rl-baselines3-zoo where it has tuned ones. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from rlab.agents.config import AgentSettings, EnvConfig, short_of_rollout, shortest_rollout
from rlab.errors import RlabError
from rlab.run.config import RunConfig, at_least, within


@dataclass(frozen=True)
class Sb3Config(AgentSettings):
    """What all of them have."""

    num_envs: int = 1
    """Environments that step side by side."""
    encoder: str = "auto"
    """Network under the heads: one of the lab's (auto: nature for images, mlp for vectors), or sb3: the library's own
    networks, which weights from elsewhere were trained with. Or a run (name, path, latest), whose encoder this one
    starts from; of a name that both have, the registered encoder is meant."""
    hidden: tuple[int, ...] = ()
    """Widths of the layers between encoder and heads; with encoder sb3, none means the library's own choice."""
    weights: str = ""
    """A .zip that stable-baselines3 saved: start from its weights. Nothing else in it is read, nothing unpickled."""
    gamma: float = 0.99
    """Discount per step."""
    learning_rate: float = 3e-4
    """Step size of the optimiser."""
    final_learning_rate: float = 3e-4
    """Step size at the end of the run; it moves there linearly."""

    def __post_init__(self) -> None:
        at_least(self, num_envs=1, learning_rate=0, final_learning_rate=0)
        within(self, 0, 1, "gamma")
        if any(width < 1 for width in self.hidden):
            raise RlabError(f"--hidden is {self.hidden}; widths must be at least 1")


@dataclass(frozen=True)
class OnPolicyConfig(Sb3Config):
    """What learns from its own newest rollout."""

    n_steps: int = 5
    """Steps of each environment in a rollout."""
    share_encoder: bool = True
    """One encoder under policy and value instead of one for each."""
    gae_lambda: float = 1.0
    """Of generalised advantage estimation (Schulman et al. 2016)."""
    normalise_advantages: bool = False
    """Shift and scale the advantages of a batch to mean 0 and standard deviation 1."""
    entropy_coef: float = 0.0
    """Weight of the policy's entropy."""
    value_coef: float = 0.5
    """Weight of the value function's squared error."""
    max_grad_norm: float = 0.5
    """Gradients are scaled down to this L2 norm."""
    evaluate: Literal["greedy", "sample"] = "greedy"
    """Actions in evaluations: the most probable one (the mean of continuous ones), or drawn as in training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, n_steps=1, entropy_coef=0, value_coef=0, max_grad_norm=0)
        within(self, 0, 1, "gae_lambda")
        if self.num_envs * self.n_steps < 2:
            raise RlabError(f"--n-steps is {self.n_steps} with {self.num_envs} environment; a rollout needs 2 steps")

    def nothing_learned(self, steps: int) -> str:
        """See `AgentSettings.nothing_learned`."""
        return short_of_rollout("--n-steps", self.n_steps, self.num_envs, steps)


@dataclass(frozen=True)
class PPOConfig(OnPolicyConfig):
    """Proximal policy optimisation (Schulman et al. 2017)."""

    num_envs: int = 8
    n_steps: int = 128
    gae_lambda: float = 0.95
    normalise_advantages: bool = True
    batch_size: int = 256
    """Steps of one gradient step; a rollout must be a whole number of them."""
    n_epochs: int = 4
    """Passes over each rollout."""
    clip_range: float = 0.2
    """How far the probability ratio may move."""
    final_clip_range: float = 0.2
    """Clip range at the end of the run; it moves there linearly."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, batch_size=2, n_epochs=1)
        within(self, 0, 1, "clip_range", "final_clip_range")
        rollout = self.num_envs * self.n_steps
        if rollout % self.batch_size:
            valid = [b for b in range(2, rollout + 1) if rollout % b == 0]
            near = min(valid, key=lambda b: abs(b - self.batch_size))
            raise RlabError(
                f"--batch-size is {self.batch_size}; it must divide a rollout of {rollout} steps "
                f"(--num-envs x --n-steps); nearest: {near}"
            )

    def for_profile(self) -> Self:
        """The same, learning from rollouts as short as they can be."""
        return replace(self, n_steps=shortest_rollout(self.batch_size, self.num_envs))


@dataclass(frozen=True)
class A2CConfig(OnPolicyConfig):
    """Advantage actor-critic (Mnih et al. 2016), with the library's RMSprop."""

    num_envs: int = 16
    learning_rate: float = 7e-4
    final_learning_rate: float = 0.0


@dataclass(frozen=True)
class OffPolicyConfig(Sb3Config):
    """What learns from a replay."""

    batch_size: int = 256
    """Transitions of one gradient step."""
    train_every: int = 1
    """Environment steps between updates (the library's train_freq, times the environments)."""
    gradient_steps: int = 1
    """Gradient steps of an update."""
    learning_starts: int = 100
    """Steps taken at random before the first update."""
    memory_size: int = 100_000
    """Transitions that the replay holds (the library's buffer_size)."""
    tau: float = 0.005
    """Part of the way that target networks move to the learned ones at a time; 1: a copy."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, batch_size=1, train_every=1, gradient_steps=1, learning_starts=0, memory_size=self.num_envs)
        within(self, 0, 1, "tau")
        if self.train_every % self.num_envs:
            raise RlabError(
                f"--train-every is {self.train_every}; it must be a multiple of --num-envs ({self.num_envs})"
            )

    def nothing_learned(self, steps: int) -> str:
        """See `AgentSettings.nothing_learned`."""
        return f"--learning-starts is {self.learning_starts:,}" if steps <= self.learning_starts else ""

    def for_profile(self) -> Self:
        """The same, learning at once."""
        return replace(self, learning_starts=4 * self.num_envs)


@dataclass(frozen=True)
class DQNConfig(OffPolicyConfig):
    """Deep Q-network (Mnih et al. 2015) of stable-baselines3. Its environments share one coin of epsilon."""

    batch_size: int = 32
    train_every: int = 4
    learning_starts: int = 100_000
    learning_rate: float = 1e-4
    final_learning_rate: float = 1e-4
    tau: float = 1.0
    target_every: int = 1_000
    """Environment steps between moves of the target network."""
    epsilon_start: float = 1.0
    """Probability of a random action at the start."""
    epsilon_end: float = 0.01
    """Probability of a random action once it has been lowered linearly."""
    epsilon_fraction: float = 0.1
    """Part of the run over which epsilon is lowered."""
    evaluate_epsilon: float = 0.01
    """Probability of a random action in evaluations."""
    max_grad_norm: float = 10.0
    """Gradients are scaled down to this L2 norm."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, target_every=self.num_envs, max_grad_norm=0)
        within(self, 0, 1, "epsilon_start", "epsilon_end", "epsilon_fraction", "evaluate_epsilon")


@dataclass(frozen=True)
class SACConfig(OffPolicyConfig):
    """Soft actor-critic with a learned temperature (Haarnoja et al. 2018)."""

    hidden: tuple[int, ...] = (256,)
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-3


@dataclass(frozen=True)
class DDPGConfig(OffPolicyConfig):
    """Deep deterministic policy gradient (Lillicrap et al. 2016)."""

    hidden: tuple[int, ...] = (256,)
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-3
    gamma: float = 0.98
    learning_starts: int = 1_000
    noise: float = 0.1
    """Standard deviation of the normal noise on actions while training, where bounds are -1 and 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, noise=0)


@dataclass(frozen=True)
class TD3Config(DDPGConfig):
    """Twin delayed DDPG (Fujimoto et al. 2018)."""

    policy_delay: int = 2
    """Updates of the critics for each of the actor."""
    target_noise: float = 0.2
    """Standard deviation of the noise that smooths the target policy."""
    target_noise_clip: float = 0.5
    """Its largest size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, policy_delay=1, target_noise=0, target_noise_clip=0)


@dataclass(frozen=True)
class Sb3Experiment:
    """All settings of a run; each algorithm's own `agent` part is below."""

    run: RunConfig = field(default_factory=RunConfig)
    env: EnvConfig = field(default_factory=EnvConfig)


@dataclass(frozen=True)
class PPOExperiment(Sb3Experiment):
    """All settings of a run of PPO."""

    agent: PPOConfig = field(default_factory=PPOConfig)


@dataclass(frozen=True)
class A2CExperiment(Sb3Experiment):
    """All settings of a run of the library's A2C."""

    agent: A2CConfig = field(default_factory=A2CConfig)


@dataclass(frozen=True)
class DQNExperiment(Sb3Experiment):
    """All settings of a run of the library's DQN."""

    agent: DQNConfig = field(default_factory=DQNConfig)


@dataclass(frozen=True)
class SACExperiment(Sb3Experiment):
    """All settings of a run of SAC."""

    agent: SACConfig = field(default_factory=SACConfig)


@dataclass(frozen=True)
class TD3Experiment(Sb3Experiment):
    """All settings of a run of TD3."""

    agent: TD3Config = field(default_factory=TD3Config)


@dataclass(frozen=True)
class DDPGExperiment(Sb3Experiment):
    """All settings of a run of DDPG."""

    agent: DDPGConfig = field(default_factory=DDPGConfig)


EXPERIMENTS: dict[str, Any] = {
    "ppo": PPOExperiment,
    "sb3-a2c": A2CExperiment,
    "sb3-dqn": DQNExperiment,
    "sac": SACExperiment,
    "td3": TD3Experiment,
    "ddpg": DDPGExperiment,
}
"""Recipe -> its settings."""

_VECTOR_PPO = PPOConfig(n_steps=256, n_epochs=10, batch_size=128, share_encoder=False)
_CARTPOLE_PPO = PPOConfig(
    n_steps=32,
    batch_size=256,
    n_epochs=20,
    gamma=0.98,
    gae_lambda=0.8,
    share_encoder=False,
    learning_rate=1e-3,
    final_learning_rate=0.0,
    final_clip_range=0.0,
)

SB3_PRESETS: dict[str, dict[str, Any]] = {
    "ppo": {
        "images": PPOConfig(
            entropy_coef=0.01,
            learning_rate=2.5e-4,
            final_learning_rate=0.0,
            clip_range=0.1,
            final_clip_range=0.0,
            evaluate="sample",
        ),
        "vectors": _VECTOR_PPO,
        "CartPole-v1": _CARTPOLE_PPO,
        "Pendulum-v1": replace(
            _VECTOR_PPO,
            num_envs=4,
            n_steps=1_024,
            batch_size=64,
            gamma=0.9,
            learning_rate=1e-3,
            final_learning_rate=1e-3,
        ),
    },
    "sb3-a2c": {
        "images": A2CConfig(entropy_coef=0.01, value_coef=0.25, evaluate="sample"),
        "vectors": A2CConfig(num_envs=8, share_encoder=False),
    },
    "sb3-dqn": {
        "images": DQNConfig(),
        "vectors": DQNConfig(
            batch_size=64,
            learning_starts=1_000,
            learning_rate=1e-3,
            final_learning_rate=1e-3,
            target_every=500,
            epsilon_fraction=0.2,
            epsilon_end=0.04,
            evaluate_epsilon=0.0,
        ),
        "CartPole-v1": DQNConfig(
            batch_size=64,
            train_every=256,
            gradient_steps=128,
            learning_starts=1_000,
            learning_rate=2.3e-3,
            final_learning_rate=2.3e-3,
            target_every=10,
            epsilon_fraction=0.16,
            epsilon_end=0.04,
            evaluate_epsilon=0.0,
        ),
    },
    "sac": {"images": SACConfig(), "vectors": SACConfig()},
    "td3": {"images": TD3Config(), "vectors": TD3Config()},
    "ddpg": {"images": DDPGConfig(), "vectors": DDPGConfig()},
}
"""Recipe -> kind of observation, or one environment's id -> settings."""

VECTOR_STEPS = {"ppo": 100_000, "sb3-a2c": 200_000, "sb3-dqn": 50_000, "sac": 20_000, "td3": 20_000, "ddpg": 20_000}
"""Recipe -> environment steps where observations are vectors."""
