"""The documentation is a site without warnings, and its notebooks run, on small budgets."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from zmq import ZMQError

DOCS = Path(__file__).parent.parent / "docs"
SMALL = {
    "first_agent": "steps = 1_200\nseeds = 1",
    "shared_encoder": "epochs = 1\nsteps = 2_000\nseeds = 1",
}
"""Notebook -> what stands in its cell of parameters here."""


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_tables_and_commands_are_marked_as_such(page: Path) -> None:
    lines, code = ["", *page.read_text("utf-8").splitlines(), ""], False
    for before, line, after in zip(lines, lines[1:], lines[2:], strict=False):
        code ^= line.startswith("```")
        if code:
            continue
        if line.startswith("|") and not before.startswith("|"):
            assert re.fullmatch(r"\|[ :|-]+", after), f"the table '{line}' has no line under its head"
        assert not re.match("rlab .*   ", line), f"'{line}' is a command outside a block of code"
        assert not line.startswith("#") or not before, f"the heading '{line}' follows without an empty line"
    assert not code


def test_every_notebook_is_run() -> None:
    assert {path.stem for path in (DOCS / "tutorials").glob("*.ipynb")} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.filterwarnings("default")  # of Jupyter's own parts
def test_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    try:
        run_notebook(name, tmp_path / "first", monkeypatch)
    except ZMQError:  # a port that was free when the kernel chose it may be another's a moment later
        run_notebook(name, tmp_path / "second", monkeypatch)


def run_notebook(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    monkeypatch.setenv("RLAB_RUNS", str(folder))
    notebook = nbformat.read(DOCS / "tutorials" / f"{name}.ipynb", as_version=4)
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source = SMALL[name]
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
    client.execute()  # raises at the first cell that fails
    assert len(list(folder.glob("*/config.json"))) == 3


def test_site_has_no_warnings(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", DOCS, tmp_path / "html"]
    done = subprocess.run([*command, "-d", tmp_path / "doctrees"], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    for page in ("index", "start", "results", "reference/commands", "tutorials/first_agent"):
        assert (tmp_path / "html" / f"{page}.html").exists()
