"""On what an agent trains and how it is scored, as typed configuration. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from rlab.errors import RlabError
from rlab.run.config import at_least


@dataclass(frozen=True)
class EnvConfig:
    """On what an agent trains, and how it is scored."""

    env: str = "Breakout"
    """An Atari game (Breakout), ALE/Breakout-v5, MinAtar/Breakout, Go (Go9), a Gymnasium id (CartPole-v1) or
    package.module:Id."""
    steps: int = 1_000_000
    """Environment steps to train for, all environments together (on Atari 4 frames each)."""
    protocol: Literal["classic", "v5"] = "classic"
    """Atari only. classic: no sticky actions, up to 30 no-ops, a lost life ends a training episode, FIRE after it
    (Mnih et al. 2015). v5: sticky actions 0.25, no life-loss signal (Machado et al. 2018)."""
    sticky: float | None = None
    """Atari and MinAtar only: probability of repeating the action before; None: the protocol's, and MinAtar's 0.1."""
    ramping: bool = True
    """MinAtar only: its games get harder with time; off: they stay as they begin. No other environment can turn it
    off."""
    opponent: str | None = None
    """Go only: whom the agent plays: random, gnugo:10 or another player's name; None: random."""
    colour: Literal["black", "white", "alternate", "random"] | None = None
    """Go only: the agent's colour; None: alternate."""
    komi: float | None = None
    """Go only: points that White has from the start; None: what is fair on a board of that size."""
    reset_steps: int = 100_000
    """Environments restart from a derived seed each time this many steps are done, so that a resumed run can
    re-execute the way to its present state. Part of the run's definition."""
    evaluate_episodes: int = 10
    """Whole games of each evaluation while training."""
    final_episodes: int = 30
    """Whole games of the evaluation at the end."""

    def __post_init__(self) -> None:
        at_least(self, steps=1, reset_steps=1, evaluate_episodes=1, final_episodes=1)
        if self.sticky is not None and not 0 <= self.sticky < 1:
            raise RlabError(f"--sticky is {self.sticky}; it must be a probability below 1")

    def rules(self) -> dict[str, Any]:
        """What `rlab.envs.make_vec` is told of the game, for training, evaluations and watching alike."""
        go = {"opponent": self.opponent, "colour": self.colour, "komi": self.komi}
        return {"protocol": self.protocol, "sticky": self.sticky, "ramping": None if self.ramping else False} | go


class AgentSettings:
    """The base of every agent's settings: what a run asks of them besides their fields."""

    num_envs: int

    @property
    def ticks(self) -> int:
        """Vector steps that make one unit of work."""
        return 1

    @property
    def warm_up(self) -> int:
        """Environment steps before the first update."""
        return 0

    @property
    def learns_in_background(self) -> bool:
        """Whether learning takes half of the CPU threads while environments step in the other half."""
        return False

    def for_profile(self) -> Self:
        """The same settings for a short measurement: they learn as soon as they can and compile nothing."""
        return self
