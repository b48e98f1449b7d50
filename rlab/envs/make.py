"""From a name to a vector environment, or to its table of transitions."""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rlab.envs.go.ids import NAMES, go_size
from rlab.envs.vector import VecEnv
from rlab.errors import RlabError, nearest
from rlab.registry import import_plugin

if TYPE_CHECKING:
    from rlab.envs.atari import Protocol
    from rlab.envs.go.players import Player
    from rlab.envs.tabular import MDP


def make_vec(
    name: str,
    num_envs: int,
    seed: int,
    *,
    protocol: Protocol = "classic",
    training: bool = True,
    threads: int = 0,
    render: bool = False,
    sticky: float | None = None,
    max_frames: int | None = None,
    ramping: bool | None = None,
    max_steps: int | None = None,
    opponent: str | Player | None = None,
    colour: str | None = None,
    komi: float | None = None,
) -> VecEnv:
    """Make N copies of an environment, to be stepped together.

    Args:
        name: an Atari game (``Breakout``, ``ms_pacman``, ``ALE/Breakout-v5``, ``BreakoutNoFrameskip-v4``: all
            ids of a game mean the same here, the protocol decides the rest), a game of MinAtar
            (``MinAtar/Breakout``; ``MinAtar/Breakout-v0`` has all six actions), a Gymnasium id
            (``CartPole-v1``; one that you registered wins over the lab's names for games; of the lab's own,
            ``Crawler`` is short for ``rlab/Crawler-v0``), Go on a board of 5, 7, 9, 13 or 19 (``Go9``,
            ``rlab/Go9-v0``), or ``package.module:Id``, which imports the module first, in the current directory before
            anywhere else.
        num_envs: N, 1 or more.
        seed: of the first reset, 0 or more.
        protocol: of Atari, "classic" or "v5" (see `rlab.envs.atari`); nothing else has one.
        training: in Atari, clip rewards and, in classic, let a lost life end the return.
        threads: of Atari, MinAtar and Go; 0 for as many as cores.
        render: prepare for ``frame()``.
        sticky: Atari and MinAtar only: the probability of repeating the action before, in place of the
            protocol's and of MinAtar's 0.1.
        max_frames: Atari and MinAtar only: frames after which a game is truncated, in place of 108,000 and 5,000.
        ramping: MinAtar only: False for games that do not get harder with time.
        max_steps: of any other environment: steps after which an episode is truncated, in place of its own limit.
        opponent: Go only: whom the agent plays, a player or the name of one (``random``, ``gnugo:10``); None: random.
        colour: Go only: the agent's, "black", "white", "alternate" or "random"; None: alternate.
        komi: Go only: points that White has from the start; None: what is fair on a board of that size.

    Raises:
        RlabError: an unknown name or protocol, a bad number, an option that the environment does not have, or
            spaces the lab cannot use.
    """
    if num_envs < 1:
        raise RlabError(f"num_envs must be 1 or more, but got {num_envs}")
    if seed < 0:
        raise RlabError(f"a seed must be 0 or more, but got {seed}")
    if threads < 0:
        raise RlabError(f"threads must be 0 or more, but got {threads}")
    if protocol not in ("classic", "v5"):
        raise RlabError(f"unknown protocol '{protocol}'; valid: classic, v5")
    if sticky is not None and not 0 <= sticky < 1:
        raise RlabError(f"sticky is a probability below 1, but got {sticky}")
    if max_frames is not None and max_frames < 1:
        raise RlabError(f"max_frames must be 1 or more, but got {max_frames}")
    if max_steps is not None and max_steps < 1:
        raise RlabError(f"max_steps must be 1 or more, but got {max_steps}")
    size = go_size(name)
    if size is None:
        for option, given in (("opponent", opponent), ("colour", colour), ("komi", komi)):
            if given is not None:
                raise RlabError(f"{option} belongs to Go, and '{name}' is not it; valid: {', '.join(NAMES)}")
    elif max_steps is not None:
        raise RlabError(f"'{name}' is Go, whose rules end every game, so it takes no max_steps")
    if is_minatar(name):
        if max_steps is not None:
            raise RlabError(f"'{name}' is a game of MinAtar, which max_frames limits, not max_steps")
        return _minatar(name, num_envs, seed, threads, render, sticky, max_frames, ramping)
    if ramping is not None:
        raise RlabError(f"ramping belongs to MinAtar, and '{name}' is not one of its games")
    rom = atari_rom(name)
    if rom is not None:
        if max_steps is not None:
            raise RlabError(f"'{name}' is an Atari game, which max_frames limits, not max_steps")
        from rlab.envs.atari import MAX_FRAMES, Atari

        return Atari(
            rom,
            num_envs,
            seed,
            protocol=protocol,
            training=training,
            threads=threads,
            render=render,
            sticky=sticky,
            max_frames=MAX_FRAMES if max_frames is None else max_frames,
        )
    for option, value in (("sticky", sticky), ("max_frames", max_frames)):
        if value is not None:
            raise RlabError(f"{option} belongs to Atari and MinAtar, and '{name}' is not one of their games")
    if size is not None:
        return _go(size, num_envs, seed, threads, render, opponent, colour, komi)
    return _gymnasium(_registered(name), num_envs, seed, render, max_steps)


@lru_cache(maxsize=8)
def load_model(name: str) -> MDP:
    """The table of transitions of an environment's name, as `make_vec` takes it.

    Raises:
        RlabError: the name is unknown, or the environment has no such table.
    """
    import gymnasium

    from rlab.envs.tabular import NAMES, model_of

    if is_atari(name):
        raise RlabError(f"'{name}' is an Atari game, too large for a table; tabular agents need {', '.join(NAMES)}")
    env = gymnasium.make(_registered(name))
    try:
        return model_of(env, name)
    finally:
        env.close()


def canonical_name(name: str) -> str:
    """The one name of an environment that has several: ``Breakout`` for ``ALE/Breakout-v5``, a Gymnasium id for its
    short form; an unknown name stays as it is. Imports no user's module."""
    from rlab.envs.minatar import find_game

    if is_minatar(name):
        try:
            game, minimal = find_game(name)
        except RlabError:
            return name
        return f"MinAtar/{game}" + ("" if minimal else "-v0")
    rom = atari_rom(name)
    if rom is not None:
        return _games()[rom.replace("_", "")][0]
    if ":" in name:
        return name
    try:
        return _registered(name)
    except RlabError:
        return name


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
    import gymnasium

    if is_atari(name) or is_minatar(name) or go_size(name):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # making it in earnest will tell
            env = gymnasium.make(_registered(name), disable_env_checker=True)
        continuous = isinstance(env.action_space, gymnasium.spaces.Box)
        env.close()
    except Exception:
        return False
    return continuous


def _minatar(
    name: str,
    num_envs: int,
    seed: int,
    threads: int,
    render: bool,
    sticky: float | None,
    max_frames: int | None,
    ramping: bool | None,
) -> VecEnv:
    from rlab.envs.minatar import MAX_STEPS, STICKY, MinAtar, find_game

    game, minimal = find_game(name)
    return MinAtar(
        game,
        num_envs,
        seed,
        threads=threads,
        render=render,
        sticky=STICKY if sticky is None else sticky,
        ramping=ramping is not False,
        minimal=minimal,
        max_steps=MAX_STEPS if max_frames is None else max_frames,
    )


def _go(
    size: int,
    num_envs: int,
    seed: int,
    threads: int,
    render: bool,
    opponent: str | Player | None,
    colour: str | None,
    komi: float | None,
) -> VecEnv:
    from rlab.envs.go.vector import GoVec

    given = {"opponent": opponent, "colour": colour, "komi": komi}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return GoVec(size, num_envs, seed, threads=threads, render=render, **options)


def _gymnasium(env_id: str, num_envs: int, seed: int, render: bool, max_steps: int | None) -> VecEnv:
    from rlab.envs.ids import CRAWLER_STEPS, CRAWLERS

    if env_id in CRAWLERS:
        from rlab.envs.crawler.env import Crawlers

        limit = CRAWLER_STEPS if max_steps is None else max_steps
        return Crawlers(num_envs, seed, discrete=CRAWLERS[env_id], render=render, max_steps=limit)
    from rlab.envs.generic import Generic

    return Generic(env_id, num_envs, seed, render=render, max_steps=max_steps)


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


def _registered(name: str) -> str:
    """Import what the name asks for and return the Gymnasium id."""
    import gymnasium

    module, _, env_id = name.rpartition(":")
    if module:
        import_plugin(module)
    elif f"rlab/{env_id}-v0" in gymnasium.registry and env_id not in gymnasium.registry:
        return f"rlab/{env_id}-v0"
    if env_id not in gymnasium.registry:
        ids = [i for i in gymnasium.registry if not i.startswith("ALE/")]
        from rlab.envs.minatar import names

        valid = ids + [shown for shown, _ in _games().values()] + names() + list(NAMES)
        meant = re.sub(r"^ALE/(.*?)(-v\d+)?$", r"\1", env_id)
        raise RlabError(f"unknown environment '{name}'; {nearest(meant, valid)}")
    return env_id
