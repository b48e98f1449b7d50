"""Every training that the documents name is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from rlab.cli import main
from rlab.run.contract import Stopped

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("README*.md"), *(ROOT / "docs").glob("*.md")]
PLACEHOLDERS = {"S": "0", "KOMI": "7"}
OWN = (
    "houses.csv",
    "faults.csv",
    "pets/cat/0.png",
    "pets/dog/0.png",
    "novel.txt",
    "birds/robin/0.wav",
    "cells/JPEGImages/0.png",
)
"""Files of a user's that are named."""


def trainings(page: Path) -> list[str]:
    """Commands in backticks, which may go over lines, and lines of code blocks, which end before two spaces."""
    text = page.read_text("utf-8")
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`(rlab train [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    ended = [re.split(r"\s{2,}|\s#", line.strip().removeprefix("$ "))[0] for line in lines]
    found = [" ".join(command.split()) for command in [*ended, *inline]]
    return [
        c
        for c in found
        if c.startswith("rlab train ") and not re.search(r"\.\.\.|…|\b(AGENT|MODEL|SET|NAME)\b|\||--help", c)
    ]


COMMANDS = sorted({command for page in PAGES for command in trainings(page)})


def test_there_are_some() -> None:
    assert len(COMMANDS) > 40


@pytest.mark.parametrize("command", COMMANDS)
def test_it_is_taken(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    begun = []

    def begin(recipe: str, *_: Any) -> None:
        begun.append(recipe)
        raise Stopped

    monkeypatch.setattr("rlab.run.lifecycle.start_run", begin)
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    for name in OWN:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(command)[1:]]
    main(words)
    assert begun == [words[1]], capsys.readouterr().err
