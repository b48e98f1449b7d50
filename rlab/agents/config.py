"""On what an agent trains and how it is scored, as typed configuration. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Self

from rlab.run.config import at_least


@dataclass(frozen=True)
class EnvConfig:
    """On what an agent trains, and how it is scored."""

    env: str = "Breakout"
    """An Atari game (Breakout), ALE/Breakout-v5, MinAtar/Breakout, Go (Go9), a Gymnasium id (CartPole-v1),
    package.module:Id, or package.module:Name of a class or function. Each kind has flags of its own, which --help shows
    after --env."""
    steps: int = 1_000_000
    """Environment steps to train for, all environments together (on Atari 4 frames each)."""
    reset_steps: int = 100_000
    """Environments restart from a derived seed each time this many steps are done, so that a resumed run can
    re-execute the way to its present state. Part of the run's definition."""
    evaluate_episodes: int = 10
    """Whole games of each evaluation while training."""
    final_episodes: int = 30
    """Whole games of the evaluation at the end."""

    options: dict[str, Any] = field(default_factory=dict)
    """Options of the environment's family (`rlab.envs.registry`) that differ from its defaults. Each is set like a
    field, by its own name."""

    def __post_init__(self) -> None:
        at_least(self, steps=1, reset_steps=1, evaluate_episodes=1, final_episodes=1)
        if self.options:
            from rlab.envs.make import read_options

            family, options = read_options(self.env, self.options)
            object.__setattr__(self, "options", family.differing(options))

    def rules(self) -> dict[str, Any]:
        """What `rlab.envs.make_vec` is told of the game, for training, evaluations and watching alike."""
        return dict(self.options)

    def typed_options(self) -> Any:
        """All options of this environment, as its family's dataclass; see `rlab.run.config.HasOptions`."""
        from rlab.envs.make import read_options

        return read_options(self.env, self.options)[1]

    def check_option(self, name: str) -> None:
        """Refuse an option that this environment does not have and others do; see `rlab.run.config.HasOptions`."""
        from rlab.envs.make import check_option

        check_option(self.env, name)

    @staticmethod
    def migrate(plain: dict[str, Any]) -> dict[str, Any]:
        """Options of runs of 0.1 and 0.2, where every environment had the fields of all, move to `options`."""
        old = {name: plain[name] for name in OLD_OPTIONS if name in plain}
        if not old or not isinstance(plain.get("options", {}), dict):
            return plain
        given = {name: value for name, value in old.items() if value != OLD_OPTIONS[name]}
        if "protocol" in given:
            from rlab.envs import is_atari

            if not is_atari(str(plain.get("env", EnvConfig.env))):
                del given["protocol"]  # nothing else has one, and nothing else looked at it
        rest = {name: value for name, value in plain.items() if name not in old}
        return rest | {"options": given | rest.get("options", {})}


OLD_OPTIONS = {"protocol": "classic", "sticky": None, "ramping": True, "opponent": None, "colour": None, "komi": None}
"""Fields that `EnvConfig` had in 0.1 and 0.2 -> their defaults."""


NO_MEMORY = "none"
"""The memory of an agent that decides by what it sees at the moment."""


class AgentSettings:
    """The base of every agent's settings: what a run asks of them besides their fields."""

    num_envs: int

    @property
    def ticks(self) -> int:
        """Vector steps that make one unit of work."""
        return 1

    def nothing_learned(self, steps: int) -> str:
        """Why nothing will be learned in so many environment steps, as a clause; "" if something will."""
        return ""

    @property
    def learns_in_background(self) -> bool:
        """Whether learning takes half of the CPU threads while environments step in the other half."""
        return False

    def for_profile(self) -> Self:
        """The same settings for a short measurement: they learn as soon as they can and compile nothing."""
        return self


def shortest_rollout(batch_size: int, num_envs: int) -> int:
    """Steps of every environment that make whole batches: a measurement that learns that often takes the same time per
    step as a long rollout with all its updates at its end, which it would hardly see."""
    return batch_size // math.gcd(batch_size, num_envs)


def short_of_rollout(flag: str, length: int, num_envs: int, steps: int) -> str:
    """Say that so many environment steps are less than a rollout; "" if they are not."""
    whole = length * num_envs
    return f"a rollout is {flag} {length} of --num-envs {num_envs}, {whole:,} steps" if steps < whole else ""
