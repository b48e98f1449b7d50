"""The exceptions that a user is meant to read."""

from __future__ import annotations

import difflib
import sysconfig
import traceback
from collections.abc import Iterable


class RlabError(Exception):
    """A mistake or a limit that one clear sentence explains; the command line prints it without a traceback."""


class Misspelt(RlabError):
    """A command line that cannot be read; the process ends with status 2."""


class NonFinite(RlabError):
    """NaN or Inf where a number should be: the run halts, and the last good checkpoint stays.

    Attributes:
        quantity: "loss", "gradient", "reward" or "observation".
        value: what it became.
        where: such as "step 3,000".
    """

    def __init__(self, quantity: str, value: float, where: str):
        self.quantity, self.value, self.where = quantity, value, where
        super().__init__(f"{quantity} became {value} at {where}")


class ForeignError(RlabError):
    """Code that is not the lab's, such as an environment, failed or broke its promise; `__cause__` is what it raised.

    A run that meets it halts, and its last checkpoint stays.
    """


def one_line(error: BaseException) -> str:
    """Say in one line what foreign code raised, and where in it: ``ValueError: no such map (my_env.py, line 14)``."""
    text = "".join(c for c in " ".join(str(error).split()) if c.isprintable())
    frames = traceback.extract_tb(error.__traceback__)
    libraries = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    own = __file__.rpartition("errors.py")[0]
    theirs = [f for f in frames if not f.filename.startswith((*libraries, own, "<"))]
    place = f" ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else ""
    return f"{type(error).__name__}{': ' if text else ''}{text[:400]}{place}"


def shortened(text: str, most: int = 80) -> str:
    """Text of which a sentence quotes no more than `most` characters."""
    return text if len(text) <= most else f"{text[:most]}..."


def nearest(name: str, valid: Iterable[str], most: int = 3) -> str:
    """Say which valid names lie nearest to a wrong one.

    Args:
        name: what was asked for.
        valid: every name that would have been accepted.
        most: how many suggestions at the most.

    Returns:
        A clause such as ``nearest: Breakout, Pong``; all names where there are few of them.
    """
    names = sorted(set(valid))
    by_lower = {n.lower(): n for n in names}
    close = [by_lower[m] for m in difflib.get_close_matches(name[:100].lower(), by_lower, n=most, cutoff=0.5)]
    if close:
        return "nearest: " + ", ".join(close)
    if len(names) <= 12:
        return "valid: " + ", ".join(names)
    return f"there are {len(names)}, among them " + ", ".join(names[:most])


def printable(text: object) -> str:
    """Write text from a file, a name or a foreign program so that a terminal only shows it, whatever it holds.

    Control characters, escape sequences and marks that turn the direction of writing become ``\\x1b`` and the like, so
    a line stays one line.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text))


def printable_lines(text: object) -> str:
    """Write text of several lines as `printable` does; they stay lines."""
    return "\n".join(printable(line) for line in str(text).split("\n"))
