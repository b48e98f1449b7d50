"""Settings of AlphaGo's parts. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rlab.agents.go.config import BoardConfig, GoConfig, NetConfig
from rlab.errors import RlabError
from rlab.run.config import RunConfig, at_least, within
from rlab.tasks.config import FitConfig

START = "start"
"""As an opponent: the network that a run starts from."""


@dataclass(frozen=True)
class GamesConfig:
    """From which games is learned."""

    data: str = "go9x9"
    """A data set of game records (`rlab data list`)."""
    validation: float = 0.05
    """Share of the games that is held out and decides which parameters are the best. 0: none is, and no evaluation is
    made before the final one."""
    test: float = 0.1
    """Share of the games that is looked at in the evaluation at the end, and never before."""
    split_seed: int = 0
    """Seed of which games those are, so that all runs have the same ones."""
    games: int = 0
    """Learn from this many games; 0: from all."""

    def __post_init__(self) -> None:
        at_least(self, games=0, split_seed=0)
        within(self, 0, 0.5, "validation", "test")
        if not self.test:
            raise RlabError("--test is 0; some games must be left to judge by")


@dataclass(frozen=True)
class RecordsConfig(GamesConfig):
    """From which games a policy learns, and what of them."""

    symmetries: bool = True
    """Turn and mirror positions at random."""
    value_weight: float = 0.1
    """Factor of the value's loss beside the policy's; 0: no value is learned."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, value_weight=0)


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


def default_records(data: str) -> RecordsExperiment:
    """The settings that go-policy starts from on a data set."""
    run = RunConfig(evaluate_steps=200_000, checkpoint_steps=100_000, log_steps=20_000)
    net = NetConfig(ownership=False, score=False)
    fit = FitConfig(epochs=8, batch_size=256, learning_rate=2e-3, weight_decay=1e-2, precision="fp32")
    return RecordsExperiment(run, RecordsConfig(data=data or "go9x9"), net, fit)


@dataclass(frozen=True)
class ReinforceConfig:
    """How a policy improves by games against its past selves."""

    start: str = ""
    """The run whose network it starts from, and which is its first opponent: usually one of go-policy."""
    num_envs: int = 128
    """Games of a batch, one half with each colour, all against one member of the pool."""
    pool_every: int = 10
    """Batches of games after which the policy joins the pool (500 in the paper)."""
    pool_size: int = 16
    """Members of the pool; the start stays, and of the others the oldest one leaves."""
    baseline: Literal["value", "colour"] = "value"
    """What is subtracted from an outcome: what the network's value says of the position, or the mean outcome of the
    batch's games with that colour."""
    gae_lambda: float = 1.0
    """A move is credited with the changes of the value after it, each with this factor more than the one before
    (Schulman et al. 2016); 1: with the whole game's outcome (REINFORCE, as in the paper)."""
    value_weight: float = 0.5
    """Factor of the value's loss beside the policy's; 0: the value is not learned."""
    temperature: float = 1.0
    """All players draw their moves with logits divided by it, and so they are learned. Below 1 the first 8 moves of a
    game are drawn as they are and not learned, for games would be alike otherwise; 1: as in the paper."""
    batch_size: int = 0
    """Positions of an update; 0: all of a batch of games, as in the paper."""
    epochs: int = 1
    """How often each position is learned from."""
    clip_range: float = 0.2
    """A move that has become this share more or less probable than when it was played is not pushed on (PPO). It says
    nothing where a batch of games is one update."""
    optimiser: Literal["adamw", "sgd"] = "adamw"
    """AdamW without decay, or plain SGD as in the paper."""
    learning_rate: float = 5e-5
    """It stays as it is. Of SGD take 0.01; small networks bear four times as much."""
    max_grad_norm: float = 1.0
    """Longer gradients are cut to this length; 0: none are."""
    symmetries: bool = True
    """The network is shown each position turned and mirrored at random, when it plays and when it learns."""

    def __post_init__(self) -> None:
        at_least(self, num_envs=2, pool_every=1, pool_size=1, value_weight=0, learning_rate=0, max_grad_norm=0)
        at_least(self, batch_size=0, epochs=1)
        within(self, 0, 1, "gae_lambda", "clip_range")
        within(self, 0.01, 1, "temperature")
        if self.gae_lambda < 1 and self.baseline != "value":
            raise RlabError(f"--gae-lambda {self.gae_lambda:g} credits by values; nearest: --baseline value")

    @property
    def roles(self) -> dict[str, str]:
        """Role -> the run whose network is taken for it."""
        return {"start": self.start}


@dataclass(frozen=True)
class ReinforceExperiment:
    """Settings of a policy from self-play."""

    run: RunConfig = field(default_factory=RunConfig)
    env: GoConfig = field(default_factory=lambda: GoConfig(opponent=START))
    net: NetConfig = field(default_factory=NetConfig)
    agent: ReinforceConfig = field(default_factory=ReinforceConfig)


def default_reinforce(env: str) -> ReinforceExperiment:
    """The settings that go-reinforce starts from on a board."""
    run = RunConfig(evaluate_steps=500_000, checkpoint_steps=250_000, log_steps=20_000)
    go = GoConfig(env=env or "Go9", steps=3_000_000, opponent=START, evaluate_episodes=100, final_episodes=400)
    return ReinforceExperiment(run, go)


@dataclass(frozen=True)
class PositionExamplesConfig(BoardConfig):
    """On what is played, and how many positions that gives."""

    steps: int = 677_000
    """Of the whole run: a game for judging, a position that is made, and one that is learned from once, are a step
    each. With 8 passes a ninth of the steps are positions that are made."""

    def __post_init__(self) -> None:
        at_least(self, steps=1)
        super().__post_init__()


@dataclass(frozen=True)
class ValuesConfig:
    """From which games a value is learned, and how."""

    start: str = ""
    """The run whose network it starts from."""
    play: str = ""
    """The run that plays the games from the random move on: usually one of go-reinforce."""
    sl: str = ""
    """The run that plays the moves before it; empty: the one of --start."""
    positions: Literal["one", "all"] = "one"
    """Of a game only the position after its random move, or that and all later ones, of as many fewer games."""
    latest: int = 0
    """The random move is one of the first so many of a game; 0: of as many as the board has points."""
    test_games: int = 2_000
    """Games that are only for judging, one position of each; the same ones whatever --positions is."""
    epochs: int = 8
    """How often each position is learned from."""
    loss: Literal["cross-entropy", "squared"] = "cross-entropy"
    """With the outcome, as a chance to win or as a number from -1 to 1."""
    num_envs: int = 256
    """Games that go on side by side."""
    batch_size: int = 256
    """Positions of an update."""
    learning_rate: float = 1e-3
    """Of AdamW; it falls to 0 (cosine)."""
    weight_decay: float = 1e-2
    """Of weights, not of biases and norms."""
    symmetries: bool = True
    """Turn and mirror positions at random, in playing and in learning."""

    def __post_init__(self) -> None:
        at_least(self, latest=0, test_games=2, epochs=1, num_envs=1, batch_size=2, learning_rate=0, weight_decay=0)

    @property
    def roles(self) -> dict[str, str]:
        """Role -> the run whose network is taken for it."""
        return {"start": self.start, "play": self.play, "sl": self.sl or self.start}


@dataclass(frozen=True)
class ValuesExperiment:
    """Settings of a value from the outcomes of games."""

    run: RunConfig = field(default_factory=RunConfig)
    env: PositionExamplesConfig = field(default_factory=PositionExamplesConfig)
    net: NetConfig = field(default_factory=NetConfig)
    agent: ValuesConfig = field(default_factory=ValuesConfig)

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise RlabError(
                f"--steps is {self.env.steps}, of which --test-games {self.agent.test_games} and {self.agent.epochs} "
                f"passes leave nothing to learn from; nearest: --steps {self.agent.test_games + 1 + self.agent.epochs}"
            )

    @property
    def examples(self) -> int:
        """Positions that are learned from. A step is a test game, a position made, or one learned from once."""
        return (self.env.steps - self.agent.test_games) // (1 + self.agent.epochs)


def default_values(env: str) -> ValuesExperiment:
    """The settings that go-value starts from on a board."""
    run = RunConfig(evaluate_steps=50_000, checkpoint_steps=50_000, log_steps=2_000)
    return ValuesExperiment(run, PositionExamplesConfig(env=env or "Go9"))


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
    data: GamesConfig = field(default_factory=GamesConfig)
    fit: RolloutFitConfig = field(default_factory=RolloutFitConfig)
    play: RolloutPlayConfig = field(default_factory=RolloutPlayConfig)


def default_rollout(data: str) -> RolloutExperiment:
    """The settings that go-rollout starts from on a data set."""
    run = RunConfig(evaluate_steps=500_000, checkpoint_steps=500_000, log_steps=50_000)
    return RolloutExperiment(run, GamesConfig(data=data or "go9x9"))


@dataclass(frozen=True)
class MatchConfig(BoardConfig):
    """On what a search plays, and against whom."""

    games: int = 200
    """Games of the match; half of them with each colour."""
    opponent: str = "random"
    """Whom it plays against: random, gnugo:10, rollout:400, a run, or any other player."""
    at_once: int = 16
    """Games that go on side by side; no game depends on it."""

    def __post_init__(self) -> None:
        at_least(self, games=2, at_once=1)
        super().__post_init__()

    @property
    def steps(self) -> int:
        """The budget, by the name that it has in other runs."""
        return self.games


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
    symmetry: Literal["random", "all"] = "random"
    """How a leaf is shown to the networks: turned and mirrored at random, or in all eight ways, for the mean of what
    they say, which takes eight times as long."""
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


def default_apv(env: str) -> ApvExperiment:
    """The settings that go-search starts from on a board."""
    run = RunConfig(evaluate_steps=0, checkpoint_steps=10, log_steps=1)
    return ApvExperiment(run, MatchConfig(env=env) if env else MatchConfig())
