"""How `make docs` makes a site of this folder: Sphinx with MyST (Markdown and notebooks) and the furo theme."""

from __future__ import annotations

import contextlib
import io
import os
import re
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

project = "rlab"
author = "the authors of rlab"
copyright = "the authors of rlab, Apache-2.0"
release = version = version_of("rlab-rl")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"rlab {release}"

myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are committed with their outputs; the tests execute them

default_role = "code"
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_use_rtype = False
napoleon_use_ivar = True
suppress_warnings = ["myst.xref_missing"]  # links to files of the repository outside this folder


def write_commands(_: Any) -> None:
    """Write reference/commands.md: the help of every verb, as the command line prints it."""
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1"}
    from rlab.cli import VERBS, main

    page = ["# Commands\n", "`rlab VERB --help` prints what stands here.\n"]
    for verb in VERBS:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            main([verb, "--help"])
        page.append(f"## rlab {verb}\n\n```text\n{out.getvalue().strip()}\n```\n")
    (HERE / "reference" / "commands.md").write_text("\n".join(page), "utf-8")


def plain(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with code in backticks: keep stars from being taken for markup."""
    lines[:] = [
        "".join(part if i % 2 else part.replace("*", r"\*") for i, part in enumerate(re.split(r"(``?[^`]*``?)", line)))
        for line in lines
    ]


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", write_commands)
    app.connect("autodoc-process-docstring", plain)
