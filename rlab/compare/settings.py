"""Settings given as text, ``learning_rate=1e-3``: found in an agent's configuration, typed by it, and as flags."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rlab.errors import RlabError, nearest
from rlab.registry import RECIPES
from rlab.run.config import changed, from_plain, from_text, settings_of, unknown_setting

SET_BY_FLAGS = {"seed": "--seeds", "env": "--envs", "steps": "--steps", "threads": "--threads"}
"""Fields that a sweep sets itself -> the flag that says how."""


@dataclass(frozen=True)
class Setting:
    """One setting as the user gave it: ``[agent:][part.]field=text``.

    Attributes:
        agent: the only agent that it is for; "" is every one.
        field: the field's name, after its part if that was given: ``learning_rate``, ``agent.learning_rate``.
        text: what stood behind the ``=``.
    """

    agent: str
    field: str
    text: str


def parse_setting(given: str, flag: str = "--set") -> Setting:
    """Take ``[agent:][part.]field=value`` apart.

    Raises:
        RlabError: there is no ``=``, or nothing before or behind it.
    """
    name, equals, text = given.partition("=")
    agent, _, field = name.strip().rpartition(":")
    if not equals or not field or not text:
        raise RlabError(f"{flag} is '{given}'; write field=value, such as agent.learning_rate=1e-3")
    return Setting(agent, field.replace("-", "_"), text.strip())


def field_of(config: Any, name: str) -> tuple[str, Any]:
    """(plain name, type) of a field of a nested configuration, given with its part or without.

    Raises:
        RlabError: there is no such field (the message gives the nearest), or a sweep sets it by a flag of its own.
    """
    types = settings_of(config)
    known = {full: full.partition(".")[2] for full in types} | {full.partition(".")[2]: full for full in types}
    if name not in known:
        raise unknown_setting(config, name)
    full = name if name in types else known[name]
    field = full.partition(".")[2]
    if field in SET_BY_FLAGS:
        raise RlabError(f"'{name}' belongs to the sweep, not to --set; say it with {SET_BY_FLAGS[field]}")
    return field, types[full]


def value_of(hint: Any, field: str, text: str) -> Any:
    """Read a value as the type that a field has; whether it makes sense there, its configuration judges.

    Raises:
        RlabError: the text cannot be such a value.
    """
    with contextlib.suppress(ValueError):
        value = from_text(hint, text)
        # Names of runs and flags are made of it: "7" stays that, also as a float.
        return int(text) if isinstance(value, float) and text.isdigit() else value
    from_plain(dataclasses.make_dataclass("One", [(field, hint)]), {field: text}, "the setting")  # says what is wrong
    raise AssertionError


def resolve(agent: str, env: str, settings: Iterable[Setting]) -> dict[str, Any]:
    """The settings that are for this agent, typed: {field: value}. Later ones win.

    Raises:
        RlabError: it is a model, not an agent, or it has no such field or the field no such value, alone or together
            with the others.
    """
    recipe = RECIPES.get(agent)
    if recipe.subject != ("env",):
        agents = [name for name in RECIPES if RECIPES.get(name).subject == ("env",)]
        raise RlabError(f"'{agent}' is a model, and a sweep is of agents in environments; {nearest(agent, agents)}")
    config = recipe.default(env)
    values: dict[str, Any] = {}
    try:
        for setting in settings:
            if setting.agent in ("", agent):
                field, hint = field_of(config, setting.field)
                values[field] = value_of(hint, field, setting.text)
        changed(config, values)
    except RlabError as e:
        raise RlabError(f"{agent} on {env}: {e}") from None
    return values


def as_flags(values: dict[str, Any]) -> list[str]:
    """The words that give `rlab train` these settings."""
    words: list[str] = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, (list, tuple)):
            words += [f"--{flag}", *map(str, value)]
        else:
            words += [f"--{flag}", str(value)]
    return words
