"""Settings of policies from recorded trajectories. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from rlab.run.config import RunConfig, at_least, within
from rlab.tasks.config import FitConfig


@dataclass(frozen=True)
class GamesConfig:
    """In what a policy is scored; it learns nothing there."""

    env: str = "CartPole-v1"
    """The environment that the trajectories are of."""
    evaluate_episodes: int = 10
    """Whole games of each evaluation while training."""
    final_episodes: int = 30
    """Whole games of the evaluation at the end, at each return that is asked for."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the environment's family (`rlab.envs.registry`) that differ from its defaults."""

    def __post_init__(self) -> None:
        at_least(self, evaluate_episodes=1, final_episodes=1)
        if self.options:
            from rlab.envs.make import read_options

            family, options = read_options(self.env, self.options)
            object.__setattr__(self, "options", family.differing(options))

    def rules(self) -> dict[str, Any]:
        """What `rlab.envs.make_vec` is told of the game."""
        return dict(self.options)

    def typed_options(self) -> Any:
        """All options of this environment, as its family's dataclass; see `rlab.run.config.HasOptions`."""
        from rlab.envs.make import read_options

        return read_options(self.env, self.options)[1]

    def check_option(self, name: str) -> None:
        """Refuse an option that this environment does not have and others do; see `rlab.run.config.HasOptions`."""
        from rlab.envs.make import check_option

        check_option(self.env, name)


@dataclass(frozen=True)
class TrajectoriesConfig:
    """From what is learned."""

    trajectories: str = ""
    """A run of which `rlab data from-run RUN` has kept the trajectories, or their folder."""
    digest: str = ""
    """SHA-256 of the trajectories, which a run notes when it starts; a resume refuses others."""


@dataclass(frozen=True)
class SequencePolicyConfig:
    """What is learned of them, and by which network."""

    method: Literal["dt", "bc", "filtered-bc"] = "dt"
    """dt: the action, given the return that came after (Decision Transformer, Chen et al. 2021). bc: the action
    (behaviour cloning). filtered-bc: the same, of the best episodes alone."""
    keep: float = 0.1
    """Share of the steps, in the best episodes, that is learned from (filtered-bc)."""
    asked: float | None = None
    """Return that is asked for in games; none: the best one of the trajectories (dt)."""
    context: int = 20
    """Steps that a decision sees, the present one among them."""
    encoder: str = "auto"
    """Network on each observation; auto: minatar for small images, mlp for vectors. `rlab doctor` lists them."""
    width: int = 64
    """Features of a token."""
    layers: int = 3
    """Of the Transformer."""
    heads: int = 1
    """Of its attention."""
    dropout: float = 0.1
    """In the Transformer."""
    evaluate: Literal["greedy", "sample"] = "greedy"
    """Actions in games: the most probable one, or drawn."""

    def __post_init__(self) -> None:
        at_least(self, context=1, width=1, layers=1, heads=1)
        within(self, 0.001, 1, "keep")
        within(self, 0, 0.9, "dropout")


@dataclass(frozen=True)
class SequencePolicyExperiment:
    """All settings of a run of a policy from trajectories."""

    run: RunConfig = field(default_factory=RunConfig)
    env: GamesConfig = field(default_factory=GamesConfig)
    data: TrajectoriesConfig = field(default_factory=TrajectoriesConfig)
    model: SequencePolicyConfig = field(default_factory=SequencePolicyConfig)
    fit: FitConfig = field(default_factory=FitConfig)


def default_sequence_policy(env: str) -> SequencePolicyExperiment:
    """The settings that decision-transformer starts from on an environment."""
    run = RunConfig(evaluate_steps=100_000, checkpoint_steps=100_000, log_steps=5_000)
    fit = FitConfig(epochs=3, batch_size=64, learning_rate=1e-3, weight_decay=1e-4, max_grad_norm=0.25)
    return SequencePolicyExperiment(run, GamesConfig(env=env or GamesConfig.env), fit=fit)
