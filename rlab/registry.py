"""Names to factories: how recipes, encoders, data sets and environments are found and plugged in."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from rlab.errors import RlabError, nearest
from rlab.trust import check_module, spec_of

T = TypeVar("T")


class Registry(Generic[T]):
    """A table of named things of one kind; ``package.module:name`` imports the module first.

    Args:
        kind: what the entries are called in messages, such as "encoder".
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files the decorated thing under `name`; a taken name is refused."""

        def add(entry: T) -> T:
            if name in self._entries:
                raise RlabError(f"{self.kind} '{name}' is registered twice")
            self._entries[name] = entry
            return entry

        return add

    def get(self, name: str) -> T:
        """Look a name up.

        Raises:
            RlabError: the name is unknown; the message gives the nearest valid ones.
        """
        if ":" in name:
            module, name = name.split(":", 1)
            import_plugin(module)
        if name not in self._entries:
            raise RlabError(f"unknown {self.kind} '{name}'; {nearest(name, self._entries)}")
        return self._entries[name]

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))


def import_plugin(module: str) -> None:
    """Import a user's module by name, from the current directory too (it registers what it brings).

    Raises:
        RlabError: there is no such module.
        Untrusted: only a run's folder has named it (`rlab.trust`).
    """
    if not all(part.isidentifier() for part in module.split(".")):
        raise RlabError(f"'{module}' cannot be a module's name; write package.module:name")
    check_module(module)
    spec = spec_of(module)
    if spec is not None and importlib.util.find_spec(spec.name) is None:
        sys.path.append(os.getcwd())  # a console script, unlike python -m, does not look here by itself
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as e:
        if e.name is None or not (module == e.name or module.startswith(e.name + ".")):
            raise  # the plugin exists, and one of its own imports is what is missing
        raise RlabError(f"no module named '{module}'; it must be importable (PYTHONPATH or installed)") from None


@dataclass(frozen=True)
class Taken:
    """What a new run starts from that another run has learned.

    Attributes:
        note: goes into config.json, beside the configuration.
        files: name -> content, for the run's folder.
    """

    note: dict[str, Any]
    files: dict[str, bytes]


@dataclass(frozen=True)
class Recipe:
    """What the first word after ``rlab train`` names: an agent or a supervised job.

    Attributes:
        summary: one line for the help text.
        default: environment or data name -> the typed configuration a run starts from. Imports no torch.
        build: (configuration, Workshop) -> Learner. Imports what it needs when called.
        resume: what a resumed run does not keep; empty where it is the same run to the bit.
        fetch: configuration -> (configuration, what the run takes from others), called once before a run starts.
        on: the flag, and the part of the configuration and its field, that say on what it learns.
        draws: whether there are pictures of what it does with test examples; see `rlab.api.draw`.
    """

    summary: str
    default: Callable[[str], Any]
    build: Callable[[Any, Any], Any]
    resume: str = ""
    fetch: Callable[[Any], tuple[Any, Taken | None]] | None = None
    on: Literal["env", "data"] = "env"
    draws: bool = False


RECIPES: Registry[Recipe] = Registry("agent")
