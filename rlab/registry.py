"""Names to factories: how recipes, encoders, data sets and environments are found and plugged in."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar, cast

from rlab.errors import ForeignError, RlabError, nearest, one_line
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
        RlabError: there is no such module, or it cannot be imported.
        Untrusted: only a run's folder has named it (`rlab.trust`).
    """
    if not all(part.isidentifier() for part in module.split(".")):
        raise RlabError(f"'{module}' cannot be a module's name; write package.module:name")
    check_module(module)
    here, spec = os.getcwd(), spec_of(module)
    lies_here = spec is not None and importlib.util.find_spec(spec.name) != spec
    if lies_here:  # a console script, unlike python -m, does not look here by itself
        sys.path.append(here)
        sys.path.insert(0, here)  # for this import alone: the user's own envs/ comes before an installed package's
    try:
        importlib.import_module(module)
    except RlabError:
        raise
    except Exception as e:
        missing = e.name if isinstance(e, ModuleNotFoundError) else None
        if missing is not None and (module == missing or module.startswith(missing + ".")):
            raise RlabError(f"no module named '{module}'; it must be importable (PYTHONPATH or installed)") from None
        raise ForeignError(f"module '{module}' cannot be imported: {one_line(e)}") from e
    finally:
        if lies_here:
            sys.path.remove(here)


C = TypeVar("C")

Subject = Literal["env", "data"]
"""What something can learn from. The part of a configuration, and its field that names it, are called the same."""


@dataclass(frozen=True)
class Recipe(Generic[C]):
    """What the first word after ``rlab train`` names: an agent, or a model on data.

    Attributes:
        summary: one line for the help text.
        default: name of the first subject (or "") -> the typed configuration that a run starts from. Imports no torch.
        build: (configuration, BuildContext) -> Learner. Imports what it needs when called.
        subject: what it learns from: an environment, a data set, both or neither. Each is a part of the configuration
            with a field of the same name, ``config.env.env``.
        unit: what its progress counts.
        budget: part and field of the configuration that say how long a run is.
        budget_step: budgets that are chosen by the clock are multiples of it.
        describe: configuration -> what `rlab train` tells of it before it starts, label -> text.
        shown_by: the verb that shows what a run has learned.
        draws: whether a run on data can have pictures; False spares opening it, for which its data must be there.
        memory_hint: what to do if it does not fit into the memory.
        resume: what a resumed run does not keep; empty where it is the same run to the bit.
        family: the heading that `rlab list` shows it under.
        plays: kinds of environments that an agent takes: "discrete" or "continuous" actions, a "table" of transitions,
            "go". Empty for models.
        takes: kinds of data sets that a model takes, as `DataSource.kinds` names them. Empty for agents.
        smallest: height and width that images must have at least, for a model.
        examples: environments to begin with; empty where there is a usual one.
        warm_start: configuration -> (configuration, what the run takes from other runs), called once before it starts.
    """

    summary: str
    default: Callable[[str], C]
    build: Callable[[C, Any], Any]
    subject: tuple[Subject, ...] = ("env",)
    unit: str = "steps"
    budget: str = "env.steps"
    budget_step: int = 1
    describe: Callable[[C], dict[str, str]] = lambda config: {}
    shown_by: str = "watch"
    draws: bool = True
    memory_hint: str = ""
    resume: str = ""
    family: str = "others"
    plays: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    smallest: int = 0
    examples: tuple[str, ...] = ()
    warm_start: Callable[[C], tuple[C, Any]] | None = None

    def subjects(self, config: C) -> dict[str, str]:
        """Subject -> its name, as a configuration has it."""
        return {part: str(getattr(getattr(config, part), part)) for part in self.subject}

    @property
    def budget_name(self) -> str:
        """The field, and the flag, that says how long a run is."""
        return self.budget.rpartition(".")[2]

    def budget_of(self, config: C) -> int:
        """How long a run with this configuration is."""
        part, _, name = self.budget.partition(".")
        return int(getattr(getattr(config, part), name))

    def with_budget(self, config: C, budget: float, exact: bool = False) -> C:
        """The configuration with another budget, unless `exact` about this one: a multiple of `budget_step`."""
        part, _, name = self.budget.partition(".")
        step = 1 if exact else self.budget_step
        rounded = max(1, round(budget / step)) * step
        changed: C = replace(cast(Any, config), **{part: replace(getattr(config, part), **{name: rounded})})
        return changed


RECIPES: Registry[Recipe[Any]] = Registry("agent")
