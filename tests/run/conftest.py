from __future__ import annotations

from pathlib import Path

import pytest

from tests.run.fake import Fake


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a runs folder of its own."""
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path / "runs"))
    Fake.evaluated = ()
