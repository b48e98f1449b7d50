"""Settings of AlphaGo's parts. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from agents.go.config import NetConfig
from rlab.errors import RlabError
from rlab.run.config import RunConfig, at_least, within
from rlab.tasks.config import FitConfig


@dataclass(frozen=True)
class RecordsConfig:
    """From which games a policy learns."""

    data: str = "go9x9"
    """A data set of game records (`rlab data list`)."""
    validation: float = 0.05
    """Share of the games that is held out and decides which parameters are the best."""
    test: float = 0.1
    """Share of the games that is looked at in the evaluation at the end, and never before."""
    split_seed: int = 0
    """Seed of which games those are, so that all runs have the same ones."""
    games: int = 0
    """Learn from this many games; 0: from all."""
    symmetries: bool = True
    """Turn and mirror positions at random."""
    value_weight: float = 0.1
    """Factor of the value's loss beside the policy's; 0: no value is learned."""

    def __post_init__(self) -> None:
        at_least(self, games=0, value_weight=0, split_seed=0)
        within(self, 0, 0.5, "validation", "test")
        if not self.test:
            raise RlabError("--test is 0; some games must be left to judge by")


@dataclass(frozen=True)
class RecordsExperiment:
    """Settings of a policy from records."""

    run: RunConfig = field(default_factory=RunConfig)
    data: RecordsConfig = field(default_factory=RecordsConfig)
    net: NetConfig = field(default_factory=lambda: NetConfig(ownership=False, score=False))
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        for name in ("ownership", "score", "reply"):
            if getattr(self.net, name):
                raise RlabError(f"--{name} cannot be learned from records, which do not say it; nearest: --no-{name}")
        if self.fit.precision == "bf16":
            raise RlabError("--precision bf16 is not for records; valid: auto, fp32")


@dataclass(frozen=True)
class RolloutDataConfig:
    """From which games a rollout policy learns; they are split as those of `RecordsConfig`."""

    data: str = "go9x9"
    """A data set of game records (`rlab data list`)."""
    validation: float = 0.05
    """Share of the games that is held out and decides which weights are the best."""
    test: float = 0.1
    """Share of the games that is looked at in the evaluation at the end, and never before."""
    split_seed: int = 0
    """Seed of which games those are, so that all runs have the same ones."""
    games: int = 0
    """Learn from this many games; 0: from all."""

    def __post_init__(self) -> None:
        self.records()
        at_least(self, games=0, split_seed=0)

    def records(self) -> RecordsConfig:
        """The same for `read_games`."""
        return RecordsConfig(self.data, self.validation, self.test, self.split_seed, self.games)


@dataclass(frozen=True)
class RolloutFitConfig:
    """How a rollout policy learns, and which patterns it knows."""

    epochs: int = 10
    """Passes over the games."""
    learning_rate: float = 0.3
    """Of AdaGrad; it falls to 0 over the run (linear)."""
    least: int = 5
    """Patterns are known that were around so many legal moves of the games."""

    def __post_init__(self) -> None:
        at_least(self, epochs=1, learning_rate=0, least=1)


@dataclass(frozen=True)
class RolloutPlayConfig:
    """How a rollout policy plays against others."""

    greedy: bool = True
    """Play the most probable move, not one that is drawn."""


@dataclass(frozen=True)
class RolloutExperiment:
    """Settings of a rollout policy."""

    run: RunConfig = field(default_factory=RunConfig)
    data: RolloutDataConfig = field(default_factory=RolloutDataConfig)
    fit: RolloutFitConfig = field(default_factory=RolloutFitConfig)
    play: RolloutPlayConfig = field(default_factory=RolloutPlayConfig)
