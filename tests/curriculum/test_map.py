"""docs/curriculum.md: every item of the texts, and what settles it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rlab.studies import load_studies

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"\| (\d{3}) \| ([CDFKMX]) \| (.+) \| (.+) \|")
PLANNED = "planned: "
LATER = {
    "autoencoders",
    "sequences",
    "language",
    "generative models",
    "detection",
    "lightweighting",
    "distribution",
    "Go",
}
"""What other parts of the lab will bring."""


def rows() -> dict[int, tuple[str, str, str]]:
    """Number -> (kind, what it says, what settles it)."""
    text = (ROOT / "docs" / "curriculum.md").read_text()
    found = [match.groups() for line in text.splitlines() if (match := ROW.fullmatch(line))]
    assert len({number for number, *_ in found}) == len(found), "an item has two rows"
    return {int(number): (kind, says, where) for number, kind, says, where in found}


def mentioned(path: Path) -> set[int]:
    """Items that a test names: "item 026", "items 169-172, 174"."""
    items: set[int] = set()
    for named in re.findall(r"items? ((?:\d{3}(?:-\d{3})?(?:, | and )?)+)", path.read_text()):
        for first, last in re.findall(r"(\d{3})(?:-(\d{3}))?", named):
            items.update(range(int(first), int(last or first) + 1))
    return items


def test_every_item_is_there() -> None:
    assert sorted(rows()) == list(range(1, 303))


@pytest.mark.parametrize("number", range(1, 303))
def test_what_settles_an_item_exists(number: int) -> None:
    _, says, where = rows()[number]
    assert len(says) > 15
    if where.startswith(PLANNED):
        assert where.removeprefix(PLANNED) in LATER
        return
    named = re.findall(r"`([^`]+)`", where)
    assert named or where == "note"
    for name in named:
        if name in load_studies():
            assert number in load_studies().get(name).items
        else:
            assert (ROOT / name).is_file(), f"{name} is neither a study nor a file"
            if name.startswith("tests/"):
                assert number in mentioned(ROOT / name), f"{name} does not say that it is of item {number:03}"


def test_every_study_is_at_all_its_items() -> None:
    settled = {number: where for number, (_, _, where) in rows().items()}
    for name in load_studies():
        for number in load_studies().get(name).items:
            assert f"`{name}`" in settled[number], f"item {number:03} does not name {name}"
