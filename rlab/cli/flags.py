"""Flags of a command line from typed dataclasses: parsing with argparse, refusals of one sentence, plain help.

A field is a flag of its name; the docstring below it is its help. `Arg` in its annotation says what else there is to
say of it. Numbers may be written ``100_000`` and ``1e5``.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from rlab.errors import Misspelt, nearest
from rlab.run.config import from_text

WIDTH = 80
"""Columns of help."""

COLUMN = 26
"""Where the texts of flags begin."""


@dataclass(frozen=True)
class Arg:
    """What a flag's field and type do not say.

    Attributes:
        metavar: what stands for its value in help.
        positional: it is a word without a flag.
        name: the flag's name without dashes, where a field cannot be called so.
        repeat: of a tuple: each occurrence gives one word. Otherwise a flag takes all words up to the next flag.
        default: what help says of the default; empty: the field's.
        short: another name, of one letter, as in ``-n``.
    """

    metavar: str = ""
    positional: bool = False
    name: str = ""
    repeat: bool = False
    default: str = ""
    short: str = ""


@dataclass(frozen=True)
class Flag:
    """One flag, or one word without a flag.

    Attributes:
        field: of the dataclass that it sets.
        hint: the field's type.
        default: the field's, or `dataclasses.MISSING`.
        text: the field's docstring on one line.
        group: the heading that it stands under.
        arg: what its annotation says.
    """

    field: str
    hint: Any
    default: Any
    text: str = ""
    group: str = ""
    arg: Arg = Arg()

    @property
    def name(self) -> str:
        """The flag as it is written, with its dashes; of a positional word what stands for it."""
        if self.arg.positional:
            return self.arg.metavar or self.field.upper()
        return f"--{self.arg.name or self.field.replace('_', '-')}"

    @property
    def spellings(self) -> tuple[str, ...]:
        """All that it may be called; a switch can be turned on and off."""
        if self.arg.positional:
            return ()
        if self.hint is bool:
            return (self.name, f"--no-{self.name[2:]}")
        return (f"-{self.arg.short}", self.name) if self.arg.short else (self.name,)

    @property
    def metavar(self) -> str:
        """What stands for its value in help."""
        return self.arg.metavar or _metavar(self.hint)


def docs_of(kind: type) -> dict[str, str]:
    """Field -> the docstring below it, on one line; of a dataclass and its bases."""
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError):  # one that was made by a call
            continue
        for node, below in pairwise(getattr(tree.body[0], "body", [])):
            if isinstance(node, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(node.target, ast.Name):
                docs[node.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return docs


def flags_of(kind: type, default: Any = None, group: str = "") -> list[Flag]:
    """The flags of a dataclass.

    Args:
        kind: the dataclass.
        default: an instance whose values are the defaults; None: the fields' own.
        group: the heading that they stand under.
    """
    hints, docs = typing.get_type_hints(kind, include_extras=True), docs_of(kind)
    flags = []
    for f in dataclasses.fields(kind):
        hint, args = hints[f.name], [Arg()]
        while typing.get_origin(hint) is Annotated:
            hint, *notes = typing.get_args(hint)
            args += [note for note in notes if isinstance(note, Arg)]
        made = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        value = made if default is None else getattr(default, f.name)
        flags.append(Flag(f.name, hint, value, docs.get(f.name, ""), group, args[-1]))
    return flags


def read_words(
    flags: Sequence[Flag], words: Sequence[str], verb: str, hint: Callable[[str], str] | None = None
) -> dict[str, Any]:
    """Field -> value, of what stands on a command line.

    Args:
        flags: what may stand there.
        words: what stands there.
        verb: the words before those, for messages.
        hint: what to say of a word that belongs to no flag.

    Raises:
        Misspelt: a flag is unknown or has no such value, or a word is missing or too many.
    """
    known = [spelling for flag in flags for spelling in flag.spellings]
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("-") and len(name) > 1 and not _is_number(word) and name not in known:
            raise Misspelt(unknown_flag(name, known, verb))
    parser = _Parser(prog=f"rlab {verb}", add_help=False, allow_abbrev=False)
    for flag in flags:
        _add(parser, flag)
    given, rest = parser.parse_known_intermixed_args(_joined(words))
    if rest:
        raise Misspelt(f"'{rest[0]}' is one word too many; {hint(rest[0]) if hint else _help_of(verb)}")
    return vars(given)


OTHER_NAMES = {
    "lr": "learning-rate",
    "bs": "batch-size",
    "environment": "env",
    "dataset": "data",
    "timesteps": "steps",
    "total-timesteps": "steps",
    "n-timesteps": "steps",
    "epoch": "epochs",
    "seeds": "seed",
    "n-envs": "num-envs",
    "buffer-size": "memory-size",
    "replay-size": "memory-size",
    "discount": "gamma",
    "eval-freq": "evaluate-steps",
    "n-eval-episodes": "evaluate-episodes",
    "optimizer": "optimiser",
    "run-name": "name",
    "cuda": "device",
    "gpu": "device",
    "network": "encoder",
    "policy": "encoder",
    "jobs": "threads",
}
"""What flags are called elsewhere -> here."""


def unknown_flag(name: str, known: Iterable[str], verb: str) -> str:
    """Say that there is no such flag, and which one may be meant."""
    known = list(known)
    meant = f"--{OTHER_NAMES.get(name.lstrip('-'), '')}"
    hint = f"nearest: {meant}" if meant in known else nearest(name, known)
    return f"'rlab {verb}' has no flag {name}; {hint if 'nearest' in hint else _help_of(verb)}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> typing.NoReturn:
        match = re.fullmatch(r"argument (\S+?)(?:/\S+)?: (.*)", message, re.DOTALL)
        missing = re.fullmatch(r"the following arguments are required: (.*)", message)
        if match and match[2].startswith("expected"):
            message = f"{match[1]} needs a value"
        elif match:
            message = match[2]
        elif missing:
            message = f"'{self.prog}' needs {missing[1]}"
        raise Misspelt(f"{message}; {_help_of(self.prog.removeprefix('rlab '))}")


def _help_of(verb: str) -> str:
    return f"see rlab {verb} --help"


def _add(parser: argparse.ArgumentParser, flag: Flag) -> None:
    """Let a parser know a flag; what is not given stays out of its result."""
    given: dict[str, Any] = {"default": argparse.SUPPRESS, "metavar": flag.metavar}
    many = typing.get_origin(flag.hint) is tuple
    inner = typing.get_args(flag.hint)[0] if many else flag.hint
    given["type"] = partial(_value, inner, flag.name)
    if flag.arg.positional:
        needed = flag.default is dataclasses.MISSING
        nargs = ("+" if needed else "*") if many else None if needed else "?"
        parser.add_argument(flag.field, **given, nargs=nargs)
    elif flag.hint is bool:
        for spelling, value in zip(flag.spellings, (True, False), strict=True):
            parser.add_argument(spelling, dest=flag.field, action="store_const", const=value, default=argparse.SUPPRESS)
    elif many:
        how: dict[str, Any] = {"action": "append"} if flag.arg.repeat else {"action": "extend", "nargs": "*"}
        parser.add_argument(flag.name, dest=flag.field, **given, **how)
    else:
        parser.add_argument(*flag.spellings, dest=flag.field, **given)


def _value(hint: Any, name: str, text: str) -> Any:
    try:
        return from_text(hint, text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"{name} is '{text}'; it must be {e}") from None


def _joined(words: Sequence[str]) -> list[str]:
    """The same words with each negative number joined to its flag, for argparse takes ``-1e-3`` for a flag."""
    joined: list[str] = []
    for word in words:
        if joined and word.startswith("-") and _is_number(word) and joined[-1].startswith("--"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _metavar(hint: Any) -> str:
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    names = {int: "N", float: "X", str: "NAME", Path: "FILE", bool: ""}
    texts = []
    for member in members:
        if typing.get_origin(member) is typing.Literal:
            texts += list(typing.get_args(member))
        elif typing.get_origin(member) is tuple:
            texts.append(f"{_metavar(typing.get_args(member)[0])}...")
        elif member is not type(None):
            texts.append(names.get(member, "VALUE"))
    return "|".join(dict.fromkeys(texts))


def help_text(usage: str, text: str, flags: Sequence[Flag], after: str = "", short: bool = False) -> str:
    """The help of a verb in at most 80 columns.

    Args:
        usage: how the command is written.
        text: what it does.
        flags: under their groups' headings, in this order.
        after: what stands at the end.
        short: of each flag's text only the first sentence.
    """
    blocks = [filled(f"usage: {usage}", 7)[7:], filled(" ".join(text.split()))]
    groups = dict.fromkeys(flag.group for flag in flags)
    for group in groups:
        lines = [_flag_text(flag, short) for flag in flags if flag.group == group]
        blocks.append("\n".join([f"{group or 'flags'}:", *lines]))
    return "\n\n".join([*blocks, *([after] if after else [])]) + "\n"


def first_sentence(text: str) -> str:
    """A text up to the end of its first sentence."""
    return re.split(r"(?<=[.)])\s+(?=[A-Z`])(?<!al\. )(?<!e\.g\. )", text, maxsplit=1)[0]


def _flag_text(flag: Flag, short: bool) -> str:
    on = flag.hint is bool and flag.default is True
    head = f"  {', '.join(flag.spellings) if on or flag.arg.short else flag.name}"
    if not flag.arg.positional and flag.metavar:
        head += f" {flag.metavar}"
    text = first_sentence(flag.text) if short else flag.text
    default = flag.arg.default or ("(default: on)" if on else _default(flag))
    body = filled(f"{text} {default}".strip(), COLUMN)
    if len(head) > COLUMN - 2:
        return f"{head}\n{body}"
    return head.ljust(COLUMN) + body[COLUMN:]


def _default(flag: Flag) -> str:
    value = flag.default
    if value is dataclasses.MISSING or value is None or value is False or value is True or value in ("", ()):
        return ""
    if isinstance(value, int) and value >= 10_000:
        return f"(default: {value:_})"
    if isinstance(value, tuple):
        value = " ".join(map(str, value))
    return f"(default: {value:g})" if isinstance(value, float) else f"(default: {value})"


def filled(text: str, indent: int = 0) -> str:
    """A text in lines of at most 80 columns, indented; words stay whole."""
    space = " " * indent
    text = re.sub(r"\(default: (\S+)\)$", "(default:\u00a0\\1)", text)  # stays on one line
    return textwrap.fill(
        text, WIDTH, initial_indent=space, subsequent_indent=space, break_on_hyphens=False, break_long_words=False
    ).replace("\u00a0", " ")
