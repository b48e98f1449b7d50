"""States as a resumed run gets them: out of a checkpoint's files."""

from __future__ import annotations

from pathlib import Path

from rlab.run.checkpoint import Checkpoints
from rlab.run.contract import State
from rlab.run.journal import Journal


def from_file(state: State, folder: Path) -> State:
    """Through a checkpoint in a folder and back; for states that keep no logs."""
    journal = Journal(folder / "journal")
    checkpoints = Checkpoints(folder / "checkpoints", journal)
    saved = checkpoints.load(checkpoints.save(state, {}, 0))
    journal.close()
    return saved.state
