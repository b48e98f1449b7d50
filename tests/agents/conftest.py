from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rlab.run.journal import Journal


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # tests run side by side


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal")
    yield journal
    journal.close()
