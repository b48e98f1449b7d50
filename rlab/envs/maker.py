"""What makes one copy of an environment: a Gymnasium id, a class or function by its name, or what Python gave.

An environment is known by a name, so that config.json can keep it: an id (``CartPole-v1``), ``package.module:Id``, or
``package.module:Name`` of a class or function. What cannot be imported by a name, such as a lambda or a class of a
notebook, is called ``python:LABEL`` and must be given again when its run is opened.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from rlab.errors import ForeignError, RlabError, nearest, one_line
from rlab.registry import import_plugin
from rlab.trust import PROGRAM, check_callable, check_module, check_program

if TYPE_CHECKING:
    import gymnasium as gym

    Make = Callable[..., gym.Env[Any, Any]]

QUIET: dict[str, Any] = {"disable_env_checker": True}
"""Gymnasium's checker warns and goes on; what matters is refused by `rlab.envs.generic`."""

GIVEN = "python:"
"""What the name of an environment begins with that only Python code has."""


class GivenEnv(str):
    """The name of an environment that Python code gave, with what makes copies of it; a file keeps the name alone."""

    make: Make | None

    def __new__(cls, name: str, make: Make | None = None) -> Self:
        """The name with a function that makes a copy."""
        env = super().__new__(cls, name)
        env.make = make
        return env


def maker(name: str, env_args: Mapping[str, Any] | None = None, wrappers: Sequence[str] = ()) -> Make:
    """A function ``make(render_mode=None, max_episode_steps=None)`` of the environment of a name.

    Args:
        name: a Gymnasium id, ``package.module:Id``, ``package.module:Name`` of a class or function, or a `GivenEnv`.
        env_args: arguments for ``gymnasium.make``, the class or the function.
        wrappers: ``package.module:Name`` of what is put around each copy, the innermost first.

    Raises:
        RlabError: there is no such environment or wrapper, or it takes no such argument.
        Untrusted: only a run's folder names a module, function or program among these.
    """
    given = dict(env_args or {})
    _check_arguments(name, given)
    create = _creator(name, given)
    wraps = [(wrapper, _wrapper(wrapper)) for wrapper in wrappers]

    def make(**how: Any) -> Any:
        env = create(**how)
        for wrapper, wrap in wraps:
            env = _called(f"the wrapper '{wrapper}'", wrap, env)
            _check_made(f"the wrapper '{wrapper}'", env)
        return env

    return make


def creator(name: str) -> Callable[..., Any]:
    """What the name of an environment stands for: a class, a function, or ``gymnasium.make`` of an id.

    Raises:
        RlabError: there is no such environment.
        Untrusted: only a run's folder names its module or function.
    """
    import gymnasium as gym

    if isinstance(name, GivenEnv) and name.make is not None:
        return name.make
    if name.startswith(GIVEN):
        raise RlabError(
            f"this run learned in an environment that only Python code has ('{name}'); give it again: "
            "rlab.load(RUN, env=...) or rlab.resume(RUN, env=...)"
        )
    env_id = registered_id(name)
    return (
        partial(gym.make, env_id, disable_env_checker=True)
        if env_id is not None
        else _attribute(name, gym.Env, "an environment")
    )


def _creator(name: str, env_args: dict[str, Any]) -> Make:
    import gymnasium as gym

    env_id = None if name.startswith(GIVEN) else registered_id(name)
    if env_id is None:
        return partial(_make, name, creator(name), env_args)
    if not env_args:
        return partial(gym.make, env_id, **QUIET)
    spec = gym.spec(env_id)
    entry = _called(f"'{name}'", load_entry, spec.entry_point)
    _check_names(name, entry, {**spec.kwargs, **env_args}, tuple(env_args))
    return lambda **how: _called(
        f"'{name}'", gym.make, env_id, disable_env_checker=True, **copy.deepcopy(env_args), **how
    )


def registered_id(name: str) -> str | None:
    """Import what a name asks for and return the Gymnasium id that it stands for; None if it stands for a class or
    function, or for nothing.

    Raises:
        RlabError: there is no such module.
    """
    import gymnasium as gym

    module, _, env_id = name.rpartition(":")
    if module:
        import_plugin(module)
    elif f"rlab/{env_id}-v0" in gym.registry and env_id not in gym.registry:
        return f"rlab/{env_id}-v0"
    return env_id if env_id in gym.registry else None


def is_attribute(name: str) -> bool:
    """Whether ``package.module:Name`` names something that its module, which is imported, holds."""
    module, _, path = name.rpartition(":")
    return find(module, path) is not None


def find(module: str, path: str) -> Any:
    """The class or function that an imported module holds under a dotted path; None if there is none."""
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found if callable(found) else None


def _attribute(name: str, kind: type[Any], what: str) -> Callable[..., Any]:
    """The class or function ``package.module:Name``.

    Raises:
        RlabError: the module has no such class or function.
        Untrusted: only a run's folder names it. A subclass of `kind` may be named by anyone who may name its module;
            any other callable could do anything, so that its whole name must be given.
    """
    module, _, path = name.rpartition(":")
    if not module:
        raise RlabError(f"'{name}' does not say where {what} lies; write package.module:Name")
    import_plugin(module)
    found = find(module, path)
    if found is None:
        there = [
            n for n, value in vars(sys.modules[module]).items() if isinstance(value, type) and issubclass(value, kind)
        ]
        close = f"; {nearest(path, there)}" if there else ""
        raise RlabError(f"the module '{module}' has no class or function '{path}' that would be {what}{close}")
    if not (isinstance(found, type) and issubclass(found, kind)):
        check_callable(name)
    thing: Callable[..., Any] = found
    return thing


def _wrapper(name: str) -> Callable[..., Any]:
    import gymnasium as gym

    return _attribute(name, gym.Wrapper, "a wrapper")


def _make(
    name: str,
    create: Callable[..., Any],
    env_args: dict[str, Any],
    /,
    render_mode: str | None = None,
    max_episode_steps: int | None = None,
) -> Any:
    """Call a class or function; it is told the render mode if it takes one."""
    import gymnasium as gym

    args, taken = copy.deepcopy(env_args), _parameters(create)
    mode = None if taken is None else taken.get("render_mode")
    if (render_mode is not None and (taken is None or mode)) or (mode and mode.default is mode.empty):
        args["render_mode"] = render_mode
    _check_names(name, create, args, tuple(env_args))
    env = _called(f"'{name}'", create, **args)
    _check_made(f"'{name}'", env)
    if render_mode is not None and env.render_mode != render_mode:
        env.close()
        raise RlabError(
            f"'{name}' was made with render_mode {env.render_mode!r}, so there is no picture of it; it must take "
            "render_mode='rgb_array' and pass it on"
        )
    return env if max_episode_steps is None else gym.wrappers.TimeLimit(env, max_episode_steps)


def _called(what: str, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """The result of foreign code; what it raises becomes one sentence."""
    from gymnasium.error import DependencyNotInstalled

    try:
        return call(*args, **kwargs)
    except (RlabError, DependencyNotInstalled):
        raise
    except (Exception, SystemExit) as e:
        raise ForeignError(f"{what} cannot be made: {one_line(e)}") from e


def _check_made(what: str, env: Any) -> None:
    import gymnasium as gym

    if not isinstance(env, gym.Env):
        raise RlabError(f"{what} made {shortly(env)}, a {type(env).__name__}, which is no gymnasium.Env")


def _parameters(create: Callable[..., Any]) -> dict[str, inspect.Parameter] | None:
    """The parameters that can be given by name; None if any can, or if that is not known."""
    try:
        signature = inspect.signature(create)
    except (TypeError, ValueError):
        return None
    parameters = signature.parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _check_names(name: str, create: Callable[..., Any], args: Mapping[str, Any], asked: Sequence[str]) -> None:
    """Refuse arguments that the environment does not take, and say which it needs."""
    taken = _parameters(create)
    if taken is None:
        return
    valid = [key for key in taken if key != "render_mode"]
    for key in asked:
        if key not in taken:
            raise RlabError(f"'{name}' takes no argument '{key}'; {nearest(key, valid) if valid else 'it takes none'}")
    for key, parameter in taken.items():
        if parameter.default is parameter.empty and key not in (*args, "render_mode"):
            raise RlabError(
                f"'{name}' needs the argument '{key}': --env-arg {key}=..., in Python env_args={{'{key}': ...}}"
            )


def _check_arguments(name: str, env_args: Mapping[str, Any]) -> None:
    """Refuse arguments that the lab gives itself, and names of modules and programs that nobody has named."""
    for key, instead in {"render_mode": "`rlab watch` sets it", "max_episode_steps": "write max_steps"}.items():
        if key in env_args:
            raise RlabError(f"{key} is no argument that '{name}' could be given; {instead}")
    for text in _texts(env_args):
        module, colon, _ = text.partition(":")
        if text.startswith(PROGRAM):
            check_program(text.removeprefix(PROGRAM))
        elif colon and all(part.isidentifier() for part in module.split(".")):
            check_module(module)  # Gymnasium has environments that import what an argument names


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)


def load_entry(entry_point: Any) -> Callable[..., Any]:
    """The class or function of an entry point of Gymnasium."""
    from gymnasium.envs.registration import load_env_creator

    entry: Callable[..., Any] = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    return entry


def shortly(value: Any) -> str:
    """A value in a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
