"""Typed configuration: dataclasses to JSON and back, without evaluating anything; and the fields every run has."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from rlab.errors import RlabError, nearest, shortened

C = TypeVar("C")


@dataclass(frozen=True)
class RunConfig:
    """Settings that every run has, whatever it learns."""

    seed: int = 0
    """Every random number of the run derives from it."""
    minutes: float = 0.0
    """Train for this long by the clock, evaluations on the way included and the final one not, whatever else the
    machine does; schedules follow the share of time. 0: the number of steps (of models epochs) says how long."""
    schedule_end: float = 0.0
    """Where schedules reach their end, in steps (of models epochs, by the clock minutes), to stay there; 0: at the end
    of the run."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; auto takes a GPU where there is one."""
    threads: Literal["auto"] | int = "auto"
    """CPU threads of torch; 0: one per core; auto: one for vectors, else what is fastest, measured at the start and
    again when the pace falls. A run is bit-exact only with the same number; what auto chooses, a resume repeats."""
    checkpoint_steps: int = 50_000
    """Save a checkpoint each time this many steps (models: examples) are done; 0: never by progress."""
    checkpoint_minutes: float = 5.0
    """Save a checkpoint each time this many minutes have passed; 0: never by the clock."""
    keep_steps: int = 0
    """Keep a copy of the checkpoint without its replay data each time this many steps (models: examples) are done,
    while of checkpoints only the newest three stay; 0: never."""
    log_steps: int = 1_000
    """Write a line of metrics each time this many steps (models: examples) are done."""
    evaluate_steps: int = 50_000
    """Evaluate each time this many steps (models: examples) are done; 0: only at the end."""
    evaluations: int = 0
    """Evaluate about this many times over a run, so that its chart is a curve, if --evaluate-steps would do so less
    often; at most 20 times as often as that. 0: as --evaluate-steps says."""
    stop_on_collapse: bool = False
    """Halt when training health warns of a collapse (docs/health.md), with the last checkpoint from before it kept."""
    tensorboard: bool = False
    """Write TensorBoard events beside metrics.jsonl (needs the extra `tensorboard`)."""

    def __post_init__(self) -> None:
        at_least(
            self,
            seed=0,
            minutes=0,
            schedule_end=0,
            evaluations=0,
            **({} if self.threads == "auto" else {"threads": 0}),
            checkpoint_steps=0,
            checkpoint_minutes=0,
            keep_steps=0,
            log_steps=1,
            evaluate_steps=0,
        )


CURVE = 8
"""Evaluations of a run, at the least, where nobody said how often it is to be evaluated."""


def with_curve(config: C) -> C:
    """A configuration of a run whose evaluations make a curve, however short it is."""
    run: RunConfig = config.run  # type: ignore[attr-defined]
    return dataclasses.replace(config, run=dataclasses.replace(run, evaluations=CURVE))  # type: ignore[type-var]


def at_least(config: Any, **bounds: float) -> None:
    """Refuse a configuration whose fields lie below a bound, naming field and value."""
    for name, bound in bounds.items():
        value = getattr(config, name)
        if not bound <= value < math.inf:
            raise RlabError(f"--{name.replace('_', '-')} is {value}; it must be a number of at least {bound}")


def within(config: Any, low: float, high: float, *names: str) -> None:
    """Refuse a configuration whose fields lie outside [low, high]."""
    for name in names:
        value = getattr(config, name)
        if not low <= value <= high:
            raise RlabError(f"--{name.replace('_', '-')} is {value}; it must lie between {low} and {high}")


def to_plain(config: Any) -> Any:
    """A dataclass as plain JSON values; a nested one is an object, tagged by its type's name in a union."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        hints = typing.get_type_hints(type(config))
        plain = {}
        for f in dataclasses.fields(config):
            value = to_plain(getattr(config, f.name))
            if len(_dataclasses_in(hints[f.name])) > 1:
                value = {"kind": type(getattr(config, f.name)).__name__, **value}
            plain[f.name] = value
        return plain
    if isinstance(config, (list, tuple)):
        return [to_plain(v) for v in config]
    if isinstance(config, dict):
        return {name: to_plain(v) for name, v in config.items()}
    if isinstance(config, Path):
        return str(config)
    return config


def from_plain(cls: type[C], plain: Any, where: str = "config.json") -> C:
    """Build a dataclass from plain JSON values, strictly.

    Raises:
        RlabError: a field is unknown or of the wrong type, or one without a default is missing; the message
            names it. A missing field that has a default takes it, as in a run of before the field was there. Or a
            number is not finite, which no file of a run can hold.
    """
    made = _read(cls, migrated(cls, plain), where)
    _refuse_infinite(plain)
    return made


def _refuse_infinite(plain: Any, name: str = "") -> None:
    """Refuse NaN and infinity among plain values, naming the flag."""
    if isinstance(plain, (dict, list, tuple)):
        for key, value in plain.items() if isinstance(plain, dict) else ((name, value) for value in plain):
            _refuse_infinite(value, str(key))
    elif isinstance(plain, float) and not math.isfinite(plain):
        raise RlabError(f"--{name.replace('_', '-')} is {plain}; it must be a finite number")


def migrated(cls: type, plain: Any) -> Any:
    """Plain JSON values of an earlier version as this one writes them, unchecked.

    A dataclass whose fields have changed says how in a static method ``migrate(plain) -> plain``.
    """
    if not (dataclasses.is_dataclass(cls) and isinstance(plain, dict)):
        return plain
    hints = typing.get_type_hints(cls)
    plain = {name: migrated(hints[name], value) if name in hints else value for name, value in plain.items()}
    migrate = getattr(cls, "migrate", None)
    return plain if migrate is None else migrate(plain)


def from_text(hint: Any, text: str) -> Any:
    """Read a value out of a command as the type of a field. Whole numbers may be written ``100_000`` and ``1e5``.

    Raises:
        ValueError: the text cannot be such a value; the message says what can, as in "a whole number".
    """
    wanted = []
    for member in typing.get_args(hint) if _is_union(hint) else (hint,):
        try:
            return _of_text(member, text)
        except ValueError as e:
            wanted.append(str(e))
    raise ValueError(" or ".join(wanted))


def _of_text(kind: Any, text: str) -> Any:
    """The same of a type that is no union."""
    choices: dict[Any, dict[str, Any]] = {bool: {"true": True, "false": False}, types.NoneType: {"none": None}}
    if kind in choices:
        if text.lower() in choices[kind]:
            return choices[kind][text.lower()]
        raise ValueError(" or ".join(choices[kind]))
    if typing.get_origin(kind) is typing.Literal:
        if text in typing.get_args(kind):
            return text
        raise ValueError(f"one of {', '.join(typing.get_args(kind))}")
    if typing.get_origin(kind) is tuple:
        return tuple(_of_text(typing.get_args(kind)[0], word) for word in text.split(",") if word)
    if kind not in (int, float):
        return Path(text) if kind is Path else text
    with contextlib.suppress(ValueError):
        return kind(text)
    with contextlib.suppress(ValueError):
        if float(text).is_integer():
            return kind(float(text))
    raise ValueError("a whole number" if kind is int else "a number")


@runtime_checkable
class HasOptions(Protocol):
    """A part of a configuration whose field `options` holds values that are set like fields, by name."""

    options: dict[str, Any]

    def typed_options(self) -> Any:
        """All options, as the dataclass that describes them."""

    def check_option(self, name: str) -> None:
        """Raise an `RlabError` that explains why a name is an option elsewhere but not here, if it is."""


def settings_of(config: Any) -> dict[str, Any]:
    """Every setting of a nested configuration, ``part.name`` -> its type: fields, and options in place of `options`."""
    types: dict[str, Any] = {}
    for f in dataclasses.fields(config):
        part = getattr(config, f.name)
        own = typing.get_type_hints(type(part))
        if isinstance(part, HasOptions):
            del own["options"]
            own |= typing.get_type_hints(type(part.typed_options()))
        types |= {f"{f.name}.{name}": hint for name, hint in own.items()}
    return types


def flat(part: dict[str, Any]) -> dict[str, Any]:
    """A part of a configuration in plain values with its options beside its fields."""
    options = part.get("options")
    return {k: v for k, v in part.items() if k != "options"} | options if isinstance(options, dict) else part


def unknown_setting(config: Any, name: str) -> RlabError:
    """Why a nested configuration has no setting of this name, in a sentence."""
    for f in dataclasses.fields(config):
        part = getattr(config, f.name)
        if isinstance(part, HasOptions):
            try:
                part.check_option(name.rpartition(".")[2])
            except RlabError as e:
                return e
    known = settings_of(config)
    short = {full.partition(".")[2] for full in known}
    return RlabError(f"unknown setting '{name}'; {nearest(name, {*known, *short} if '.' in name else short)}")


def changed(config: C, changes: dict[str, Any]) -> C:
    """A copy of a nested configuration with fields changed by name, wherever they stand in it.

    Raises:
        RlabError: no part has such a field, or the value's type is wrong.
    """
    plain = to_plain(config)
    homes = {name: part for part in plain for name in plain[part]}
    for name in changes.keys() & homes.keys():
        plain[homes[name]][name] = to_plain(changes[name])
    options = {name: value for name, value in changes.items() if name not in homes}
    if options:
        config = from_plain(type(config), plain, "settings")  # which options there are depends on the fields
        parts = {name: full.partition(".")[0] for full in settings_of(config) for name in [full.partition(".")[2]]}
        for name, value in options.items():
            if name not in parts:
                raise unknown_setting(config, name)
            plain[parts[name]]["options"][name] = to_plain(value)
    return from_plain(type(config), plain, "settings")


def _dataclasses_in(hint: Any) -> list[type]:
    members = typing.get_args(hint) if _is_union(hint) else (hint,)
    return [m for m in members if dataclasses.is_dataclass(m) and isinstance(m, type)]


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _read(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise RlabError(f"{where} must be an object, not {shortened(repr(value))}")
        hints = typing.get_type_hints(hint)
        names = [f.name for f in dataclasses.fields(hint)]
        for name in value:
            if name not in names:
                raise RlabError(f"{where} has an unknown field '{shortened(name)}'; {nearest(name, names)}")
        for f in dataclasses.fields(hint):
            required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
            if required and f.name not in value:
                raise RlabError(f"{where} lacks the field '{f.name}'")
        return hint(**{n: _read(hints[n], v, f"{where}: {n}") for n, v in value.items()})
    if _is_union(hint):
        choices = _dataclasses_in(hint)
        if isinstance(value, dict) and len(choices) > 1:
            kinds = {c.__name__: c for c in choices}
            kind = value.get("kind")
            if not isinstance(kind, str) or kind not in kinds:
                raise RlabError(f"{where} has the unknown kind {shortened(repr(kind))}; {nearest(str(kind), kinds)}")
            return _read(kinds[kind], {k: v for k, v in value.items() if k != "kind"}, where)
        for member in typing.get_args(hint):
            try:
                return _read(member, value, where)
            except RlabError as e:
                error = e
        raise error
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        if value not in typing.get_args(hint):
            raise RlabError(
                f"{where} is {shortened(repr(value))}; {nearest(str(value), map(str, typing.get_args(hint)))}"
            )
        return value
    if origin in (tuple, list):
        if not isinstance(value, (list, tuple)):
            raise RlabError(f"{where} must be a list, not {shortened(repr(value))}")
        return origin(_read(typing.get_args(hint)[0], v, where) for v in value)
    if hint is type(None):
        if value is not None:
            raise RlabError(f"{where} must be null, not {shortened(repr(value))}")
        return None
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is dict:
        if not isinstance(value, dict):
            raise RlabError(f"{where} must be an object, not {shortened(repr(value))}")
        return {name: _read(typing.get_args(hint)[1], v, f"{where}: {name}") for name, v in value.items()}
    if hint is Path:
        return Path(_read(str, value, where))
    if hint in (int, float, str, bool):
        # A name may be a `str` that carries more, such as `rlab.envs.maker.GivenEnv`.
        if type(value) is not hint and not (hint is str and isinstance(value, str)):
            raise RlabError(f"{where} must be {hint.__name__}, not {shortened(repr(value))}")
        return value
    if hint is Any:
        return _json(value, where)
    raise TypeError(f"{where}: fields of type {hint} cannot be stored")


def _json(value: Any, where: str) -> Any:
    """A value of any kind that JSON can hold."""
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {name: _json(v, f"{where}: {name}") for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(v, where) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise RlabError(f"{where} is {value!r}; it must be a value that JSON can hold")
