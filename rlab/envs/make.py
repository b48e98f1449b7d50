"""From a name to a vector environment, or to its table of transitions; and the families that environments are of."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from rlab.envs.go.ids import NAMES, go_size
from rlab.envs.ids import CRAWLER_STEPS, CRAWLERS
from rlab.envs.maker import GIVEN, is_attribute, maker, registered_id
from rlab.envs.registry import Family
from rlab.envs.vector import VecEnv
from rlab.errors import RlabError, nearest

if TYPE_CHECKING:
    from rlab.envs.maker import Make
    from rlab.envs.tabular import MDP


def make_vec(
    name: str,
    num_envs: int,
    seed: int,
    *,
    training: bool = True,
    threads: int = 0,
    render: bool = False,
    **options: Any,
) -> VecEnv:
    """Make N copies of an environment, to be stepped together.

    Args:
        name: an Atari game (``Breakout``, ``ms_pacman``, ``ALE/Breakout-v5``, ``BreakoutNoFrameskip-v4``: all
            ids of a game mean the same here, the protocol decides the rest), a game of MinAtar
            (``MinAtar/Breakout``; ``MinAtar/Breakout-v0`` has all six actions), a Gymnasium id
            (``CartPole-v1``; one that you registered wins over the lab's names for games; of the lab's own,
            ``Crawler`` is short for ``rlab/Crawler-v0``), Go on a board of 5, 7, 9, 13 or 19 (``Go9``,
            ``rlab/Go9-v0``), ``package.module:Id``, which imports the module first, in the current directory before
            anywhere else, or ``package.module:Name`` of a class or function there that makes one copy.
        num_envs: N, 1 or more.
        seed: of the first reset, 0 or more.
        training: in Atari, clip rewards and, in classic, let a lost life end the return.
        threads: of Atari, MinAtar and Go; 0 for as many as cores.
        render: prepare for ``frame()``.
        options: of the environment's family: `AtariOptions`, `MinAtarOptions`, `GoOptions`, `CrawlerOptions`, or
            `GymnasiumOptions` of any other.

    Raises:
        RlabError: an unknown name, a bad number, an option that the environment does not have, or spaces the lab
            cannot use.
    """
    if num_envs < 1:
        raise RlabError(f"num_envs must be 1 or more, but got {num_envs}")
    if seed < 0:
        raise RlabError(f"a seed must be 0 or more, but got {seed}")
    if threads < 0:
        raise RlabError(f"threads must be 0 or more, but got {threads}")
    family, read = read_options(name, options)
    return family.make(name, num_envs, seed, read, training=training, threads=threads, render=render)


def family_of(name: str) -> Family[Any]:
    """The family of an environment's name, whether there is such an environment or not; imports no user's module."""
    return next(family for family in FAMILIES if family.matches(name))


def read_options(name: str, given: Mapping[str, Any]) -> tuple[Family[Any], Any]:
    """(family, its options) of an environment's name.

    Raises:
        RlabError: the environment has no such option, or the option no such value.
    """
    family = family_of(name)
    for option in given:
        check_option(name, option)
        if option not in family.types():
            _refuse_unknown(name)
            known = sorted({known for family in FAMILIES for known in family.types()})
            close = "".join(f"; nearest: {at}, of {_owners(at)}" for at in get_close_matches(option, known, 1, 0.5))
            raise RlabError(f"'{name}' has no option '{option}', only {', '.join(family.types())}{close}")
    return family, family.read(given)


def check_option(name: str, option: str) -> None:
    """Refuse an option that an environment does not have and others do.

    Raises:
        RlabError: a sentence that says which have it, and which options this one has.
    """
    own, owners = family_of(name).types(), _owners(option)
    if owners and option not in own:
        _refuse_unknown(name)
        it = "of these" if " and " in owners or owners == GYMNASIUM.name else owners
        raise RlabError(f"{option} belongs to {owners}, and '{name}' is not {it}; its options: {', '.join(own)}")


def _owners(option: str) -> str:
    """The families that have an option, in words; "" if none has."""
    return " and ".join(family.name for family in FAMILIES if option in family.types())


def load_model(name: str, env_args: Mapping[str, Any] | None = None) -> MDP:
    """The table of transitions of an environment's name and arguments, as `make_vec` takes them.

    Raises:
        RlabError: the name is unknown, or the environment has no such table.
    """
    # A name that Python gave may stand for another environment the next time.
    load = _load_model.__wrapped__ if name.startswith(GIVEN) else _load_model
    return load(name, json.dumps(dict(env_args or {}), sort_keys=True))


@lru_cache(maxsize=8)
def _load_model(name: str, env_args: str) -> MDP:
    from rlab.envs.generic import make_env
    from rlab.envs.tabular import NAMES, model_of

    if is_atari(name):
        raise RlabError(f"'{name}' is an Atari game, too large for a table; tabular agents need {', '.join(NAMES)}")
    env = make_env(name, _maker(name, json.loads(env_args)))
    try:
        return model_of(env, name)
    finally:
        env.close()


def canonical_name(name: str) -> str:
    """The one name of an environment that has several: ``Breakout`` for ``ALE/Breakout-v5``, a Gymnasium id for its
    short form; an unknown name stays as it is. Imports no user's module."""
    return family_of(name).canonical(name)


def is_atari(name: str) -> bool:
    """Say whether `make_vec` takes this name for an Atari game; imports no user's module."""
    return atari_rom(name) is not None


def is_minatar(name: str) -> bool:
    """Say whether `make_vec` takes this name for a game of MinAtar, known or not."""
    return name.lower().startswith("minatar/") and not _is_users(name)


def is_continuous(name: str) -> bool:
    """Say whether actions of an environment are numbers (Box); no if there is no such environment, or it cannot start.

    It is made for that, so a user's module is imported.
    """
    from gymnasium.spaces import Box

    from rlab.envs.generic import make_env

    if is_atari(name) or is_minatar(name) or go_size(name):
        return False
    here = os.getcwd()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # making it in earnest will tell
            env = make_env(name, _maker(name))
        continuous = isinstance(env.action_space, Box)
        env.close()
    except Exception:
        return False
    finally:
        os.chdir(here)  # it may have gone elsewhere, and the run's folder is not made yet
    return continuous


def kinds_of(name: str) -> set[str]:
    """What an environment is for agents: "discrete" or "continuous" by its actions, "go", "table" with transitions `P`.

    Empty where observations or actions are none that an agent takes. The environment is made for that.

    Raises:
        RlabError: the name is unknown.
    """
    from gymnasium.spaces import Box, Discrete

    if go_size(name):
        return {"discrete", "go"}
    if is_atari(name) or is_minatar(name):
        return {"discrete"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = _maker(name)()
    try:
        table = hasattr(env.unwrapped, "P") or type(env.unwrapped).__name__ == "BlackjackEnv"
        kinds = {"table"} if table else set()
        if isinstance(env.observation_space, (Box, Discrete)):
            kinds |= {"continuous"} if isinstance(env.action_space, Box) else set()
            kinds |= {"discrete"} if isinstance(env.action_space, Discrete) else set()
        return kinds
    finally:
        env.close()


SOURCES = {
    "rlab.envs": "of the lab",
    "gymnasium.envs.classic_control": "classic control",
    "gymnasium.envs.toy_text": "toy text",
    "gymnasium.envs.box2d": "Box2D",
    "gymnasium.envs.mujoco": "MuJoCo",
    "gymnasium.envs.phys2d": "JAX",
    "gymnasium.envs.tabular": "JAX",
}
"""What the module of a Gymnasium environment begins with -> what its kind is called."""


def names_by_family() -> dict[str, list[str]]:
    """Every name of an environment under its kind; of several versions the newest. What cannot be made is left out."""
    import gymnasium

    named = {family.name: list(family.names()) for family in FAMILIES if family is not GYMNASIUM}
    found: dict[str, list[str]] = {"Atari": [], "MinAtar": [], "Go": [], "of the lab": []}
    found |= {shown: named.get(shown, []) for shown in found if shown in named}
    newest: dict[str, tuple[int, str]] = {}
    for env_id in gymnasium.registry:
        if family_of(env_id) in (GYMNASIUM, CRAWLER):
            stem, _, version = env_id.rpartition("-v")
            newest[stem] = max(newest.get(stem, (-1, "")), (int(version) if version.isdigit() else 0, env_id))
    for _, env_id in newest.values():
        entry = "rlab.envs" if env_id.startswith("rlab/") else str(gymnasium.registry[env_id].entry_point)
        source = next((shown for start, shown in SOURCES.items() if entry.startswith(start)), "registered by others")
        if not entry.startswith(("<function _raise", "ale_py")):
            found.setdefault(source, []).append(env_id)
    return {family: names for family, names in found.items() if names}


def is_foreign(name: str) -> bool:
    """Say whether an environment is a user's: it may be slow to start, or a simulator that allows one copy."""
    import gymnasium

    if family_of(name) is not GYMNASIUM:
        return False
    spec = None if name.startswith(GIVEN) else gymnasium.registry.get(name.rpartition(":")[2])
    own = ("ale_py.", "minatar.", "rlab.envs.", "gymnasium.envs.")
    return spec is None or not str(spec.entry_point).startswith(own)


@lru_cache(maxsize=1)
def _games() -> dict[str, tuple[str, str]]:
    """Return lower-case name without underscores -> (name to show, ROM), for each one-player game."""
    import gymnasium

    before = dict(gymnasium.registry)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it takes a name that somebody has registered
        import ale_py  # noqa: F401  (registers the ALE/...-v5 ids)
    gymnasium.registry.update(before)  # what was there before stays theirs
    games = {}
    for env_id, spec in gymnasium.registry.items():
        if env_id.startswith("ALE/"):
            rom = spec.kwargs["game"]
            games[rom.replace("_", "")] = (spec.name, rom)
    return games


def atari_rom(name: str) -> str | None:
    """ALE's ROM of an environment's name, None if it is not an Atari game."""
    if _is_users(name):
        return None
    module, _, name = name.rpartition(":")
    match = re.fullmatch(r"(ALE/)?(\w+?)((NoFrameskip|Deterministic)?-v[045])?", name)
    if match is None or (module and not match[1]):  # a user's own module may well register a Pong of its own
        return None
    game = _games().get(match[2].lower().replace("_", ""))
    return None if game is None else game[1]


def _is_users(name: str) -> bool:
    """Whether somebody registered this very id in Gymnasium: what they made wins over the lab's names for games."""
    import gymnasium

    spec = gymnasium.registry.get(name)
    return spec is not None and not str(spec.entry_point).startswith(("ale_py.", "minatar.", "rlab.envs."))


def _maker(name: str, env_args: Mapping[str, Any] | None = None, wrappers: Sequence[str] = ()) -> Make:
    """`rlab.envs.maker.maker`, with the nearest names where there is no such environment."""
    _refuse_unregistered(name)
    return maker(name, env_args, wrappers)


def _refuse_unregistered(name: str) -> None:
    """Import what the name asks for and refuse what is no Gymnasium id, class or function."""
    if name.startswith(GIVEN) or registered_id(name) is not None or (":" in name and is_attribute(name)):
        return
    env_id = name.rpartition(":")[2]
    valid = [known for family in FAMILIES for known in family.names()]
    meant = re.sub(r"^ALE/(.*?)(-v\d+)?$", r"\1", env_id)
    raise RlabError(f"unknown environment '{name}'; {nearest(meant, valid)}")


def _refuse_unknown(name: str) -> None:
    """Refuse a name that no environment has, as far as that is known without importing a user's module."""
    if family_of(name) is GYMNASIUM and ":" not in name:
        _refuse_unregistered(name)


def _at_least(options: Any, **bounds: int) -> None:
    for name, bound in bounds.items():
        value = getattr(options, name)
        if value is not None and value < bound:
            raise RlabError(f"{name} is {value}; it must be at least {bound}")


def _probability_below_one(options: Any, name: str) -> None:
    value = getattr(options, name)
    if value is not None and not 0 <= value < 1:
        raise RlabError(f"{name} is {value}; it must be a probability below 1")


# Atari.


@dataclass(frozen=True)
class AtariOptions:
    """Rules of an Atari game."""

    protocol: Literal["classic", "v5"] = "classic"
    """classic: no sticky actions, up to 30 no-ops, a lost life ends a training episode, FIRE after it (Mnih et al.
    2015). v5: sticky actions 0.25, no life-loss signal (Machado et al. 2018)."""
    sticky: float | None = None
    """Probability of repeating the action before; None: the protocol's."""
    max_frames: int = 108_000
    """Frames after which a game is truncated: 30 minutes at 60 Hz."""
    observe: str = "pixels"
    """pixels; or Breakout's objects as numbers: ram, out of the game's memory, or the run of a detector that finds them
    in the picture."""

    def __post_init__(self) -> None:
        _probability_below_one(self, "sticky")
        _at_least(self, max_frames=1)


def _make_atari(
    name: str, num_envs: int, seed: int, options: AtariOptions, *, training: bool, threads: int, render: bool
) -> VecEnv:
    from rlab.envs.atari import Atari

    rom = atari_rom(name)
    assert rom is not None
    how: dict[str, Any] = {"training": training, "render": render, **asdict(options)}
    if (observe := how.pop("observe")) != "pixels":
        from rlab.envs.breakout import make_objects

        return make_objects(rom, observe, num_envs, seed, **how)
    return Atari(rom, num_envs, seed, threads=threads, **how)


def _canonical_atari(name: str) -> str:
    rom = atari_rom(name)
    assert rom is not None
    return _games()[rom.replace("_", "")][0]


ATARI = Family(
    "Atari",
    AtariOptions,
    matches=is_atari,
    names=lambda: [shown for shown, _ in _games().values()],
    canonical=_canonical_atari,
    make=_make_atari,
)


# MinAtar.


@dataclass(frozen=True)
class MinAtarOptions:
    """Rules of a game of MinAtar."""

    sticky: float = 0.1
    """Probability of repeating the action before."""
    ramping: bool = True
    """The games get harder with time; off: they stay as they begin."""
    max_frames: int = 5_000
    """Frames, which are steps here, after which a game is truncated."""
    flicker: float = 0.0
    """Probability that an observation is missing, each by itself: zeros in its place (Hausknecht & Stone 2015)."""

    def __post_init__(self) -> None:
        _probability_below_one(self, "sticky")
        _probability_below_one(self, "flicker")
        _at_least(self, max_frames=1)


def _make_minatar(
    name: str, num_envs: int, seed: int, options: MinAtarOptions, *, training: bool, threads: int, render: bool
) -> VecEnv:
    from rlab.envs.minatar import MinAtar, find_game

    game, minimal = find_game(name)
    return MinAtar(
        game,
        num_envs,
        seed,
        threads=threads,
        render=render,
        sticky=options.sticky,
        ramping=options.ramping,
        minimal=minimal,
        max_steps=options.max_frames,
        flicker=options.flicker,
    )


def _canonical_minatar(name: str) -> str:
    from rlab.envs.minatar import find_game

    try:
        game, minimal = find_game(name)
    except RlabError:
        return name
    return f"MinAtar/{game}" + ("" if minimal else "-v0")


def _minatar_names() -> list[str]:
    from rlab.envs.minatar import names

    return names()


MINATAR = Family(
    "MinAtar",
    MinAtarOptions,
    matches=is_minatar,
    names=_minatar_names,
    canonical=_canonical_minatar,
    make=_make_minatar,
)


# Go.


@dataclass(frozen=True)
class GoOptions:
    """Rules of Go, and who plays it with the agent."""

    opponent: str = "random"
    """Whom the agent plays: random, gnugo:10, a run or another player's name (from Python also a player)."""
    colour: Literal["black", "white", "alternate", "random"] = "alternate"
    """The agent's colour."""
    komi: float | None = None
    """Points that White has from the start; None: what is fair on a board of that size."""


def _make_go(
    name: str, num_envs: int, seed: int, options: GoOptions, *, training: bool, threads: int, render: bool
) -> VecEnv:
    from rlab.envs.go.vector import GoVec

    size = go_size(name)
    assert size is not None
    rules: dict[str, Any] = {"opponent": options.opponent, "colour": options.colour, "komi": options.komi}
    return GoVec(size, num_envs, seed, threads=threads, render=render, **rules)


GO = Family(
    "Go",
    GoOptions,
    matches=lambda name: go_size(name) is not None,
    names=lambda: NAMES,
    canonical=lambda name: f"rlab/Go{go_size(name)}-v0",
    make=_make_go,
    objects=("opponent",),
)


# The crawler.


@dataclass(frozen=True)
class CrawlerOptions:
    """How long the crawler may walk."""

    max_steps: int = CRAWLER_STEPS
    """Steps after which an episode is truncated."""

    def __post_init__(self) -> None:
        _at_least(self, max_steps=1)


def _crawler_id(name: str) -> str:
    """The crawler's id that a name stands for, "" if it is another environment."""
    import gymnasium

    for env_id in CRAWLERS:
        short = name == _short(env_id) and name not in gymnasium.registry
        if (short or name in (env_id, f"rlab.envs:{env_id}")) and not _is_users(env_id):
            return env_id
    return ""


def _short(env_id: str) -> str:
    return env_id.removeprefix("rlab/").removesuffix("-v0")


def _make_crawler(
    name: str, num_envs: int, seed: int, options: CrawlerOptions, *, training: bool, threads: int, render: bool
) -> VecEnv:
    from rlab.envs.crawler.env import Crawlers

    discrete = CRAWLERS[_crawler_id(name)]
    return Crawlers(num_envs, seed, discrete=discrete, render=render, max_steps=options.max_steps)


CRAWLER = Family(
    "the crawler",
    CrawlerOptions,
    matches=lambda name: _crawler_id(name) != "",
    names=lambda: [*CRAWLERS, *map(_short, CRAWLERS)],
    canonical=_crawler_id,
    make=_make_crawler,
)


# Everything else.


@dataclass(frozen=True)
class GymnasiumOptions:
    """How an environment is made, and how long an episode, and a step of it, may be."""

    max_steps: int | None = None
    """Steps after which an episode is truncated; None: the environment's own limit."""
    env_args: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment, KEY=VALUE, such as map_name=8x8: JSON (5, 0.1, true, null), else a text. Can be
    given several times."""
    wrappers: tuple[str, ...] = ()
    """package.module:Name of a wrapper that is put around the environment. Can be given several times, the innermost
    first."""
    env_timeout: float | None = None
    """Seconds that one reset or step of one environment may take before the run halts; None: any time."""

    def __post_init__(self) -> None:
        _at_least(self, max_steps=1)
        if self.env_timeout is not None and not 0 < self.env_timeout < 1e6:
            raise RlabError(f"env_timeout is {self.env_timeout:g}; it must be more than 0")


def _make_gymnasium(
    name: str, num_envs: int, seed: int, options: GymnasiumOptions, *, training: bool, threads: int, render: bool
) -> VecEnv:
    from rlab.envs.generic import Generic

    make = _maker(name, options.env_args, options.wrappers)
    shown = name if name.startswith(GIVEN) else registered_id(name) or name
    own = {"max_steps": options.max_steps, "env_timeout": options.env_timeout, "make": make}
    return Generic(shown, num_envs, seed, render=render, **own)  # type: ignore[arg-type]


def _canonical_gymnasium(name: str) -> str:
    return name if ":" in name else registered_id(name) or name


def _gymnasium_names() -> list[str]:
    import gymnasium

    return [env_id for env_id in gymnasium.registry if not env_id.startswith("ALE/")]


GYMNASIUM = Family(
    "other Gymnasium environments",
    GymnasiumOptions,
    matches=lambda name: True,
    names=_gymnasium_names,
    canonical=_canonical_gymnasium,
    make=_make_gymnasium,
)

FAMILIES: tuple[Family[Any], ...] = (ATARI, MINATAR, GO, CRAWLER, GYMNASIUM)
"""Every environment is of the first that its name matches. What a user registered in Gymnasium is of the last."""
