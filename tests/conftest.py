from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.processes import Spawn, end


@pytest.fixture(autouse=True, scope="session")
def _own_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What tests name is not remembered as what the user has named."""
    with pytest.MonkeyPatch.context() as patch:
        state = tmp_path_factory.mktemp("state")
        patch.setenv("XDG_STATE_HOME", str(state))
        yield state


@pytest.fixture(autouse=True, scope="session")
def _short_measurements() -> Iterator[None]:
    """The pace of a run is measured before it begins, as always, but not for a whole second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlab.agents.interaction.MEASURED", 0.03)
        yield


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # tests run side by side


@pytest.fixture(autouse=True)
def _interrupts_are_heard() -> None:
    """A shell starts what runs in its background, and all that this starts, with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start processes that do not outlive the test, whatever comes of it."""
    with ExitStack() as stack:

        def start(*command: str, **options: Any) -> subprocess.Popen[str]:
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            process: subprocess.Popen[str] = subprocess.Popen(command, **(pipes | options))
            stack.callback(end, process)
            return process

        yield start
