from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from typing import Any

from rlab.run import provenance


def test_the_source_is_named_only_if_it_is_the_source(tmp_path: Path) -> None:
    """Of a repository that merely encloses an installed copy nothing is said; a new file is a change."""

    def git(*args: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", *identity, "-C", str(tmp_path), *args], check=True, capture_output=True, text=True
        ).stdout.strip()

    copy = tmp_path / "site" / "provenance.py"
    copy.parent.mkdir()
    shutil.copy(provenance.__file__, copy)
    spec = importlib.util.spec_from_file_location("copied_provenance", copy)
    assert spec is not None
    assert spec.loader is not None
    copied: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copied)

    assert copied.git_state() == {"commit": None, "dirty": None}
    git("init", "-q")
    (tmp_path / "other").write_text("1")
    git("add", "other")
    git("commit", "-qm", "enclosing")
    assert copied.git_state() == {"commit": None, "dirty": None}
    git("add", ".")
    git("commit", "-qm", "the source")
    assert copied.git_state() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "new").write_text("1")
    assert copied.git_state()["dirty"] is True
