"""Settings of agents that learn Go by themselves. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rlab.envs.go.boards import Setting
from rlab.envs.go.ids import NAMES, default_komi, go_size
from rlab.errors import RlabError, nearest
from rlab.run.config import RunConfig, at_least, within


def size_of(env: str) -> int:
    """The board's width of an environment's name.

    Raises:
        RlabError: it is no board of Go.
    """
    size = go_size(env)
    if size is None:
        raise RlabError(f"'{env}' is no board of Go; {nearest(env, NAMES)}")
    return size


@dataclass(frozen=True)
class BoardConfig:
    """On what is played."""

    env: str = "Go9"
    """The board: Go5, Go7, Go9, Go13 or Go19."""
    komi: float | None = None
    """Points that White has from the start; None: 24.5 on 5x5, 9 on 7x7, else 7."""
    ko: Literal["positional", "situational", "simple"] = "positional"
    """positional or situational superko, or simple ko."""
    cap: int = 0
    """Moves after which a game is counted as it stands; 0: twice the points of the board."""

    def __post_init__(self) -> None:
        self.setting()

    def setting(self) -> Setting:
        """What holds for all games."""
        size = size_of(self.env)
        komi = default_komi(size) if self.komi is None else self.komi
        return Setting(size, komi, self.ko, cap=self.cap or 2 * size * size)


@dataclass(frozen=True)
class GoConfig(BoardConfig):
    """On what is played, for how long, and how it is scored."""

    steps: int = 1_000_000
    """Moves of self-play, of all games together."""
    opponent: str = "random"
    """Whom evaluations are played against: random, gnugo:10, rollout:400, a run, or any other player."""
    evaluate_episodes: int = 40
    """Games of each evaluation while training; half of them with each colour."""
    final_episodes: int = 100
    """Games of the evaluation at the end."""

    def __post_init__(self) -> None:
        at_least(self, steps=1, evaluate_episodes=2, final_episodes=2)
        super().__post_init__()


@dataclass(frozen=True)
class NetConfig:
    """What a network of Go is made of."""

    encoder: str = "go-resnet"
    """A registered encoder with feature maps as large as the board: go-resnet-BxC has B blocks of C channels, and
    go-resnet-pool-BxC global pooling in every third one (Wu 2019)."""
    ownership: bool = True
    """Learn, beside policy and value, whose each point will be (Wu 2019)."""
    score: bool = True
    """Learn by how many points it will end (Wu 2019)."""
    reply: bool = False
    """Learn the other player's next move (Wu 2019)."""
    width: int = 16
    """Channels of each head."""
    hidden: int = 64
    """Units of the value's layer."""
    search_precision: Literal["auto", "fp32", "bf16"] = "auto"
    """In which searches ask it; auto: bf16 where there is hardware that multiplies matrices in it."""

    def __post_init__(self) -> None:
        at_least(self, width=1, hidden=1)


@dataclass(frozen=True)
class AlphaZeroConfig:
    """How it plays against itself, and learns from that."""

    search: Literal["gumbel", "puct"] = "gumbel"
    """Gumbel and sequential halving at the root (Danihelka et al. 2022), or AlphaZero's PUCT with Dirichlet noise."""
    visits: int = 32
    """Simulations of a move."""
    fast_visits: int = 0
    """Playout-cap randomisation (Wu 2019): most moves have only so many simulations, no noise, and their policies are
    not learned; 0: all moves have `visits`."""
    full_share: float = 0.25
    """Share of moves with all their visits, where there are fast ones."""
    considered: int = 16
    """Of gumbel: actions that are drawn at the root."""
    noise: float = 0.25
    """Of puct: share of Dirichlet noise at the root."""
    forced: float = 0.0
    """Of puct: forced playouts, sqrt(forced p n) of each action at the root, which are taken off the policy that is
    learned (Wu 2019: 2); 0: none."""
    temperature_moves: int = 10
    """Of puct: first moves of a game that are drawn by their visits."""
    num_envs: int = 128
    """Games that go on side by side."""
    window: int = 100_000
    """Newest positions that are learned from."""
    learning_starts: int = 4_000
    """Positions before the first update."""
    reuse: float = 4.0
    """How often a position is learned from, on average."""
    batch_size: int = 128
    """Positions of an update."""
    learning_rate: float = 1e-3
    """Of AdamW; it falls to a tenth over the run (cosine)."""
    weight_decay: float = 1e-3
    """Of weights, not of biases and norms."""
    root_share: float = 0.0
    """Share of the search's own value in the value that is learned; the outcome has the rest."""
    symmetries: bool = True
    """Turn and mirror positions at random, in learning and when a search asks."""
    evaluate_visits: int = 32
    """Simulations of a move in evaluations."""
    actors: int = 0
    """Processes that play, each with its share of the games, while this one learns; they need Ray. 0: games are played
    here."""
    cluster: str = "auto"
    """Where actors play: local, this machine; an address of Ray, such as host:6379; auto: what RAY_ADDRESS names, else
    this machine."""

    def __post_init__(self) -> None:
        at_least(
            self,
            visits=1,
            fast_visits=0,
            considered=1,
            forced=0,
            temperature_moves=0,
            num_envs=1,
            window=1,
            learning_starts=1,
            reuse=0,
            batch_size=2,
            learning_rate=0,
            weight_decay=0,
            evaluate_visits=1,
            actors=0,
        )
        within(self, 0, 1, "full_share", "noise", "root_share")
        if self.learning_starts > self.window:
            raise RlabError(
                f"--learning-starts is {self.learning_starts}, but only {self.window} positions are kept (--window)"
            )
        if self.search == "gumbel" and self.forced:
            raise RlabError("--forced belongs to --search puct: a Gumbel search gives each action its visits itself")


@dataclass(frozen=True)
class AlphaZeroExperiment:
    """Settings of a run of AlphaZero."""

    run: RunConfig = field(default_factory=RunConfig)
    env: GoConfig = field(default_factory=GoConfig)
    net: NetConfig = field(default_factory=NetConfig)
    agent: AlphaZeroConfig = field(default_factory=AlphaZeroConfig)


def default_alphazero(env: str) -> AlphaZeroExperiment:
    """The settings that AlphaZero starts from on a board: smaller networks for smaller ones."""
    if not env:
        return AlphaZeroExperiment()
    size = size_of(env)
    encoder = "go-resnet-3x32" if size <= 5 else "go-resnet-4x48" if size <= 7 else "go-resnet"
    run = RunConfig(evaluate_steps=100_000, checkpoint_steps=50_000, keep_steps=50_000, log_steps=5_000)
    return AlphaZeroExperiment(run, GoConfig(env=env), NetConfig(encoder=encoder), AlphaZeroConfig())
