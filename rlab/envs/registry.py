"""Families of environments, each with options of its own: what `make_vec` and the flags of `rlab train` stand on."""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from types import UnionType
from typing import Any, Generic, Protocol, TypeVar

from rlab.envs.vector import VecEnv
from rlab.errors import RlabError, nearest

O = TypeVar("O")  # noqa: E741  (options)
O_contra = TypeVar("O_contra", contravariant=True)


class Make(Protocol[O_contra]):
    """How a family's environments are made; arguments as of `rlab.envs.make_vec`."""

    def __call__(
        self, name: str, num_envs: int, seed: int, options: O_contra, *, training: bool, threads: int, render: bool
    ) -> VecEnv:
        """N copies of the environment."""


@dataclass(frozen=True)
class Family(Generic[O]):
    """Environments that are made alike and have the same options.

    Attributes:
        name: what it is called in messages.
        options: a frozen dataclass. Every field has a default, a docstring, which is the help of its flag, and a type
            out of bool, int, float, str, Literal and None, or a tuple of texts, or a dict of JSON values.
        matches: whether a name is of this family. Imports no user's module.
        names: its names, for suggestions.
        canonical: the one name of an environment that has several. Imports no user's module.
        make: see `Make`.
        objects: options that from Python may also be objects, which the environment judges.
    """

    name: str
    options: type[O]
    matches: Callable[[str], bool]
    names: Callable[[], Iterable[str]]
    canonical: Callable[[str], str]
    make: Make[O]
    objects: tuple[str, ...] = ()

    def types(self) -> dict[str, Any]:
        """Option -> its type."""
        return typing.get_type_hints(self.options)

    def read(self, given: Mapping[str, Any]) -> O:
        """The options with some of them given by name, every name one of its own.

        Raises:
            RlabError: a value has the wrong type or lies out of range; the message names the option and the value.
        """
        types = self.types()
        json = (bool, int, float, str, type(None), list, tuple, dict)
        free = {name for name in self.objects if not isinstance(given.get(name), json)}
        return self.options(
            **{name: value if name in free else _typed(name, types[name], value) for name, value in given.items()}
        )

    def differing(self, options: O) -> dict[str, Any]:
        """The options that differ from the defaults, by name."""
        usual = self.options()
        values = {f.name: getattr(options, f.name) for f in fields(typing.cast(Any, options))}
        return {name: value for name, value in values.items() if value != getattr(usual, name)}


def _typed(name: str, hint: Any, value: Any) -> Any:
    """A value as the type that an option has; refused if it cannot be one."""
    members = typing.get_args(hint) if isinstance(hint, UnionType) else (hint,)
    for member in members:
        if typing.get_origin(member) is typing.Literal:
            choices = typing.get_args(member)
            if isinstance(value, str) and value not in choices:
                raise RlabError(f"unknown {name} '{value}'; {nearest(value, choices)}")
            if isinstance(value, str):
                return value
        elif member in (int, float):
            if isinstance(value, Integral if member is int else Real) and not isinstance(value, bool):
                return member(value)
        elif typing.get_origin(member) is tuple:
            if isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value):
                return tuple(value)
        elif typing.get_origin(member) is dict:
            if isinstance(value, Mapping) and is_json(dict(value)):
                return dict(value)
        elif isinstance(value, member):
            return value
    words = {bool: "True or False", int: "a whole number", float: "a number", type(None): "None"}
    words |= {tuple: "a list of names", dict: "a dict of JSON values by name"}
    wanted = " or ".join(
        _choices(member) or words.get(typing.get_origin(member) or member, "a name") for member in members
    )
    raise RlabError(f"{name} is {value!r}; it must be {wanted}")


def is_json(value: Any) -> bool:
    """Whether JSON can hold a value and give it back unchanged."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False


def _choices(member: Any) -> str:
    return " or ".join(typing.get_args(member)) if typing.get_origin(member) is typing.Literal else ""
