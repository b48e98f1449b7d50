"""Measurements in processes of their own: a module of `rlab.bench` is run with a JSON request and prints JSON."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from rlab.compare.processes import python_command
from rlab.errors import RlabError


def measured_apart(module: str, request: dict[str, Any]) -> Any:
    """Run a module with a request, which names a ``side``; return the JSON of the last line that it prints.

    Raises:
        RlabError: the measurement failed.
    """
    done = subprocess.run([*python_command(), "-m", module, json.dumps(request)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RlabError(f"the measurement of {request['side']} failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.splitlines()[-1])
