"""docs/curriculum.md: every item of the texts, and what settles it."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from rlab.studies import load_studies

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"\| (\d{3}) \| ([CDFKMX]) \| (.+) \| (.+) \|")
KINDS = {"M": 120, "C": 118, "D": 26, "F": 18, "X": 11, "K": 9}
# fmt: off
CORRECTED = {
    7, 8, 11, 18, 23, 26, 27, 28, 32, 39, 40, 43, 46, 49, 51, 57, 61, 62, 64, 74, 81, 82, 86, 92, 93, 101, 102, 108,
    118, 126, 127, 130, 131, 133, 135, 139, 140, 141, 142, 144, 145, 147, 150, 162, 168, 170, 173, 174, 176, 177, 178,
    183, 188, 193, 194, 195, 199, 202, 203, 205, 208, 213, 217, 221, 222, 223, 225, 230, 231, 235, 243, 245, 249,
    257, 258, 267, 270, 277, 279, 282, 284, 285, 286, 287, 290, 291, 294, 296, 301,
}
# fmt: on
"""Items in which a text is wrong or too simple."""


@cache
def rows() -> dict[int, tuple[str, str, str]]:
    """Number -> (kind, what it says, what settles it)."""
    text = (ROOT / "docs" / "curriculum.md").read_text()
    found = [match.groups() for line in text.splitlines() if (match := ROW.fullmatch(line))]
    assert len({number for number, *_ in found}) == len(found), "an item has two rows"
    return {int(number): (kind, says, where) for number, kind, says, where in found}


@cache
def mentioned(path: Path) -> frozenset[int]:
    """Items that a test function names: "item 026", "Items 169-172, 174". A module's own docstring tests nothing."""
    text, items = path.read_text(), set[int]()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            body = ast.get_source_segment(text, node) or ""
            for named in re.findall(r"[Ii]tems? ((?:\d{3}(?:-\d{3})?(?:, | and )?)+)", body):
                for first, last in re.findall(r"(\d{3})(?:-(\d{3}))?", named):
                    items.update(range(int(first), int(last or first) + 1))
    return frozenset(items)


def test_every_item_is_there() -> None:
    assert list(rows()) == list(range(1, 303))
    assert Counter(kind for kind, _, _ in rows().values()) == KINDS


def test_every_correction_is_told() -> None:
    assert {number for number, (_, says, _) in rows().items() if re.search(r"\. ⚠ .{15,}\.$", says)} == CORRECTED
    assert {number for number, (_, says, _) in rows().items() if "⚠" in says} == CORRECTED


@pytest.mark.parametrize("number", range(1, 303))
def test_what_settles_an_item_exists(number: int) -> None:
    kind, says, where = rows()[number]
    assert 15 < len(says) < 200
    if where == "note":
        assert kind in "CDK", "a method, formula or worked number is put to a test"
        return
    named = re.findall(r"`([^`]+)`", where)
    assert where == ", ".join(f"`{name}`" for name in named)
    for name in named:
        if name in load_studies():
            assert number in load_studies().get(name).items
        else:
            assert (ROOT / name).is_file(), f"{name} is neither a study nor a file"
            if name.startswith("tests/"):
                assert number in mentioned(ROOT / name), f"{name} does not say that it is of item {number:03}"
    if kind in "MFXC":
        assert any(name in load_studies() or name.startswith("tests/") for name in named), "code alone settles nothing"


def test_every_study_is_at_all_its_items() -> None:
    settled = {number: where for number, (_, _, where) in rows().items()}
    for name in load_studies():
        for number in load_studies().get(name).items:
            assert f"`{name}`" in settled[number], f"item {number:03} does not name {name}"
