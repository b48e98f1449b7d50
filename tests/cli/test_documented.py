"""Every command that the documents name is one that the command line takes, and their Python runs."""

from __future__ import annotations

import ast
import re
import shlex
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from rlab.cli import VERBS, main
from rlab.cli.flags import read_words
from rlab.nn.torchvision import torchvision_keys
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


def commands(page: Path) -> tuple[list[str], list[str]]:
    """Lines of code blocks, which end before two spaces, and commands in backticks, which may go over lines."""
    text = page.read_text("utf-8")
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`(rlab [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    ended = [re.split(r"\s{2,}|\s#", line.strip().removeprefix("$ "))[0] for line in lines]
    lines = [" ".join(command.split()) for command in ended]
    return [c for c in lines if c.startswith("rlab ")], [" ".join(command.split()) for command in inline]


def trainings(page: Path) -> list[str]:
    """Those that begin a run, without those that stand for many."""
    return [
        c
        for c in chain(*commands(page))
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


OTHERS = {
    command: command in lines
    for page in PAGES
    for lines, inline in [commands(page)]
    for command in sorted({*lines, *inline})
    if not command.startswith("rlab train")
}
"""Command of another verb -> whether it stands in a code block, as something to type."""


class Read(Exception):
    """The words of a command were read; nothing else of it is done."""


@pytest.fixture
def only_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*given: Any) -> Any:
        read_words(*given)
        raise Read

    for verb in ("common", "study"):
        monkeypatch.setattr(f"rlab.cli.{verb}.read_words", read)


def test_there_are_others_of_nearly_every_verb() -> None:
    assert {command.split()[1] for command in OTHERS} >= VERBS.keys() - {"train", "completion"}


@pytest.mark.parametrize("command", OTHERS)
def test_its_words_are_read(command: str, only_read: None, capsys: pytest.CaptureFixture[str]) -> None:
    words = [{"N": "1", "NAME": "early-stopping", "KOMI": "7"}.get(word, word) for word in shlex.split(command)[1:]]
    if len(words) == 1:  # a verb that is spoken of
        assert main([*words, "--help"]) == 0
        return
    try:
        main(words)
    except Read:
        return
    error = capsys.readouterr().err
    assert not OTHERS[command], error
    assert re.search(r"'rlab .*' needs ", error), error  # as in `rlab eval --json`, where the flag is spoken of


@pytest.mark.parametrize("command", ["rlab eval cart --episode 3", "rlab study run nothing", "rlab bench gone"])
def test_a_wrong_one_is_found(command: str, only_read: None) -> None:
    assert main(shlex.split(command)[1:]) != 0


SNIPPETS = {
    page.name: code
    for page in PAGES
    if not page.name.startswith("README")
    and page.name != "python.md"  # tests/test_python.py runs those
    and (code := "\n".join(re.findall("```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)))
}
"""Page -> its Python."""


WEIGHTS = {key: torch.zeros(shape) for key, shape in torchvision_keys("resnet18").items()}
GIVEN: dict[str, dict[str, Any]] = {"encoders.md": {"weights": WEIGHTS}, "go.md": {}, "sequences.md": {}}
"""Page whose Python is run here -> names that it takes for given."""


def test_python_of_every_page_is_run_or_resolved() -> None:
    assert SNIPPETS.keys() == GIVEN.keys() | {"agents.md", "scaling.md"}  # agents.md: tests/test_guide.py


@pytest.mark.parametrize("page", GIVEN)
def test_python_runs(page: str) -> None:
    torch.manual_seed(0)
    exec(compile(SNIPPETS[page], page, "exec"), dict(GIVEN[page]))


def test_stage_of_a_pipeline_is_made_as_written() -> None:
    """It needs three processes (tests/parallel has them), so names and arguments alone are looked at."""
    calls = {
        node.func.id: (len(node.args), {word.arg for word in node.keywords})
        for node in ast.walk(ast.parse(SNIPPETS["scaling.md"]))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    group, pipeline = import_module("rlab.parallel.group"), import_module("rlab.parallel.pipeline")
    assert calls == {"meet": (0, set()), "Group": (4, set()), "Stage": (3, set())}
    assert all(callable(found) for found in (group.meet, group.Group, pipeline.Stage.step))
