"""Arguments of environments as words of a command line, ``KEY=VALUE``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rlab.errors import RlabError

PYTHON = {"True": True, "False": False, "None": None}
"""How Python writes what JSON writes otherwise."""


def parse_arguments(words: Iterable[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` words: a value is JSON (5, 0.1, true, null, [1, 2]), True, False or None, or else a text.

    Raises:
        RlabError: a word has no key.
    """
    arguments: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.isidentifier():
            raise RlabError(f"--env-arg is '{word}'; write KEY=VALUE, such as map_name=8x8")
        arguments[key] = _value(text)
    return arguments


def format_arguments(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """The words that `parse_arguments` reads as these."""
    return tuple(f"{key}={json.dumps(value)}" for key, value in arguments.items())


def _value(text: str) -> Any:
    if text in PYTHON:
        return PYTHON[text]
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)
    except ValueError:
        return text
    return value
