"""What a user has in Python for an environment or a wrapper, as a name and options that config.json can keep."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from rlab.envs.make import GYMNASIUM, family_of
from rlab.envs.maker import GIVEN, GivenEnv, creator, find, load_entry, shortly
from rlab.envs.registry import is_json
from rlab.errors import RlabError

if TYPE_CHECKING:
    import gymnasium as gym

OWN_IDS = ("gymnasium.", "rlab.envs.")
"""Entry points of ids that are there in every process."""


def environment(env: Any) -> tuple[str, dict[str, Any]]:
    """(name, options) of what a user may give for an environment.

    Args:
        env: a name; a class or function that makes one; or a `gymnasium.Env` of ``gymnasium.make``, of which other
            copies are made by its ``spec``, while the object itself is left alone.

    Raises:
        RlabError: no copies can be made of it; the message says what to give instead.
    """
    if isinstance(env, str):
        return env, {}
    import gymnasium as gym

    vector = gym.vector.VectorEnv
    if isinstance(env, vector) or (isinstance(env, type) and issubclass(env, vector)):
        raise RlabError(
            "env is a vector environment, and the lab makes the copies itself; give the id, class or function of one "
            "copy, and num_envs=N"
        )
    if isinstance(env, gym.Env):
        return _of_object(env)
    if callable(env):
        return _of_callable(env), {}
    raise RlabError(
        f"env is {shortly(env)}, a {type(env).__name__}; it must be an id such as 'CartPole-v1', a gymnasium.Env, or a "
        "class or function that makes one"
    )


def given_again(run: str, name: str, env: Any) -> str:
    """The environment of a run of that name, made by what a user gives for it now.

    Raises:
        RlabError: the run learned in an environment that can be imported, and this is another one.
    """
    given, options = environment(env)
    if name.startswith(GIVEN):
        import gymnasium as gym

        make, limit = creator(given), options.get("max_steps")
        make = partial(make, **options.get("env_args", {}))
        return GivenEnv(name, make if limit is None else lambda **how: gym.wrappers.TimeLimit(make(**how), limit))
    if given != name:
        raise RlabError(f"run '{run}' learned in '{name}', and env is '{given}'; it goes on in its own")
    return name


def wrapper_name(wrapper: Any) -> str:
    """``package.module:Name`` of a wrapper, given so or as the class or function itself.

    Raises:
        RlabError: it cannot be imported by a name, or is no class or function.
    """
    if isinstance(wrapper, str):
        return wrapper
    name = _importable(wrapper) if callable(wrapper) else None
    if name is None:
        raise RlabError(
            f"the wrapper {shortly(wrapper)} cannot be imported by a name; put it into a module of yours, or give "
            "env=a function that makes the wrapped environment"
        )
    return name


def _of_object(env: gym.Env[Any, Any]) -> tuple[str, dict[str, Any]]:
    import gymnasium as gym

    spec, kind = env.spec, type(env.unwrapped).__name__
    if spec is None:
        raise RlabError(
            f"env is one object of {kind}, and evaluations need copies of their own; give what makes one: "
            f"env={kind}, or env=lambda: {kind}(...)"
        )
    family = family_of(spec.id)
    if family is not GYMNASIUM:
        raise RlabError(
            f"env is an object of '{spec.id}', and the lab makes {family.name} itself, many copies at once; give the "
            f"name: env={family.canonical(spec.id)!r}"
        )
    lost = [wrapper.name for wrapper in spec.additional_wrappers if wrapper.kwargs is None]
    if lost:
        raise RlabError(
            f"env has the wrapper {lost[0]}, which keeps no record of its arguments, so that no copy can be made; give "
            "env=a function that makes the wrapped environment, or wrappers=[...]"
        )
    args = {name: value for name, value in spec.kwargs.items() if name != "render_mode"}
    options: dict[str, Any] = {}
    known = gym.registry.get(spec.id)
    if known is not None and str(known.entry_point).startswith(OWN_IDS):
        name, usual, limit = spec.id, known.kwargs, known.max_episode_steps
        wrapped = spec.additional_wrappers != known.additional_wrappers
    else:  # only the program that registered the id has it
        entry = load_entry(spec.entry_point)
        name, usual, limit, wrapped = _of_callable(entry), {}, None, bool(spec.additional_wrappers)
    args = {key: value for key, value in args.items() if key not in usual or usual[key] != value}
    again = copy.copy(spec)
    again.kwargs = {key: value for key, value in spec.kwargs.items() if key != "render_mode"}
    cut = spec.max_episode_steps if spec.max_episode_steps != limit else None
    unlimited = limit is not None and spec.max_episode_steps is None
    if wrapped or unlimited or isinstance(name, GivenEnv) or not is_json(args):
        return GivenEnv(GIVEN + _label(spec.id), partial(gym.make, again)), {}
    options |= {"env_args": args} if args else {}
    return name, options | ({"max_steps": cut} if cut is not None else {})


def _of_callable(make: Callable[..., Any]) -> str:
    name = _importable(make)
    return name if name is not None else GivenEnv(GIVEN + _label(_title(make)), make)


def _importable(thing: Any) -> str | None:
    """``package.module:Name`` of a class or function that any process can import by it, else None."""
    module, path = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
    if not isinstance(module, str) or module == "__main__" or not path or find(module, path) is not thing:
        return None
    try:
        return f"{module}:{path}" if importlib.util.find_spec(module) is not None else None
    except (ImportError, ValueError):  # it was not imported from a file
        return None


def _title(thing: Any) -> str:
    """What a class, function or other callable is called."""
    inner = getattr(thing, "func", thing)  # of a functools.partial
    return str(getattr(inner, "__name__", type(inner).__name__))


def _label(text: str) -> str:
    return "".join(c if c.isalnum() or c in "._-/" else "" for c in text) or "environment"
