"""Settings of AlphaGo's parts. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from agents.go.config import NetConfig, size_of
from envs.go.boards import Setting
from envs.go.ids import default_komi
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


@dataclass(frozen=True)
class MatchConfig:
    """On what a search plays, and against whom."""

    env: str = "Go9"
    """The board: Go5, Go7, Go9, Go13 or Go19."""
    games: int = 200
    """Games of the match; half of them with each colour."""
    komi: float | None = None
    """Points that White has from the start; None: 24.5 on 5x5, 9 on 7x7, else 7."""
    ko: Literal["positional", "situational", "simple"] = "positional"
    """positional or situational superko, or simple ko."""
    cap: int = 0
    """Moves after which a game is counted as it stands; 0: twice the points of the board."""
    opponent: str = "random"
    """Whom it plays against: random, gnugo:10, rollout:400, a run, or any other player."""
    at_once: int = 16
    """Games that go on side by side; no game depends on it."""

    def __post_init__(self) -> None:
        at_least(self, games=2, at_once=1)
        self.setting()

    @property
    def steps(self) -> int:
        """The budget, by the name that it has in other runs."""
        return self.games

    def setting(self) -> Setting:
        """What holds for all games."""
        size = size_of(self.env)
        komi = default_komi(size) if self.komi is None else self.komi
        return Setting(size, komi, self.ko, cap=self.cap or 2 * size * size)


@dataclass(frozen=True)
class ApvConfig:
    """A search that is made of other runs: what each says, and how it is mixed."""

    policy: str = ""
    """A run with a network of Go, whose policy is the prior of moves; empty: all are as probable."""
    value: str = ""
    """A run with a network of Go, which says who wins; empty: that of --policy."""
    rollout: str = ""
    """A run of go-rollout, by which games are played to their ends from the leaves."""
    mix: float = 0.5
    """A leaf is worth (1 - mix) of its value and mix of the outcome of one rollout; 0: no rollouts, 1: no values."""
    visits: int = 100
    """Simulations of a move."""
    leaves: int = 4
    """Of one game that are evaluated together, each with a visit that is taken for lost until then; 1: none waits."""
    prior_temperature: float = 0.67
    """The prior is the softmax of the policy's logits divided by this."""
    explore: float = 1.25
    """c_init of PUCT: how much the prior counts against the values."""
    decide: Literal["visits", "policy", "value"] = "visits"
    """The move: the most visited one (AlphaGo), the most probable one before the search, or the one worth most."""
    search_precision: Literal["auto", "fp32", "bf16"] = "auto"
    """In which networks are asked; auto: bf16 where there is hardware that multiplies matrices in it."""

    def __post_init__(self) -> None:
        at_least(self, visits=1, leaves=1, explore=0)
        within(self, 0, 1, "mix")
        within(self, 0.01, 100, "prior_temperature")

    def refuse_unfit(self) -> None:
        """See that every run that is needed is named, and no other.

        Raises:
            RlabError: a sentence that names what is missing, or what would not be used.
        """
        if self.mix and not self.rollout:
            raise RlabError(f"--mix {self.mix:g} needs rollouts: --rollout RUN, a run of go-rollout; nearest: --mix 0")
        if not self.mix and self.rollout:
            raise RlabError(f"--mix 0 makes no use of --rollout {self.rollout}; nearest: --mix 0.5")
        if self.mix < 1 and not (self.value or self.policy):
            raise RlabError(f"--mix {self.mix:g} needs values: --value RUN or --policy RUN; nearest: --mix 1")
        if self.mix == 1 and self.value:
            raise RlabError(f"--mix 1 makes no use of --value {self.value}; nearest: --mix 0.5")


@dataclass(frozen=True)
class ApvExperiment:
    """Settings of a search that is made of other runs."""

    run: RunConfig = field(default_factory=RunConfig)
    env: MatchConfig = field(default_factory=MatchConfig)
    search: ApvConfig = field(default_factory=ApvConfig)
