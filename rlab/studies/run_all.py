"""All studies, in child processes, as many at once as there are cores."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any

from rlab.compare.processes import Process, begin
from rlab.run.contract import Stop

POLL_SECONDS = 0.2


def run_every(
    names: Sequence[str], words: Sequence[str], jobs: int, stop: Stop, say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Run studies by ``rlab study run NAME``, each on one thread.

    Args:
        names: of studies.
        words: that follow the name, such as ``--budget small``.
        jobs: at once.
        stop: polled; studies that run then are ended (finished seeds are kept), and the others not begun.
        say: told of each that is done.

    Returns:
        Name -> what its ``result.json`` holds, or {"error": its last words}; those that a stop left out are missing.
    """
    children: list[Process] = []
    results: dict[str, dict[str, Any]] = {}

    def run(name: str) -> tuple[str, dict[str, Any] | None]:
        if stop.requested:
            return name, None
        env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        process = begin("rlab", ["study", "run", name, *words, "--json"], subprocess.PIPE, subprocess.PIPE, env)
        children.append(process)
        out, err = process.communicate()
        return name, None if stop.requested else _result_of(process.returncode, out, err)

    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(run, name) for name in names}
        while waiting:
            done, waiting = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
            if stop.requested:
                for process in children:
                    process.terminate()
            for name, result in (future.result() for future in done):
                if result is not None:
                    results[name] = result
                    outcome = result.get("verdict") or f"failed: {result['error']}"
                    say(f"{len(results)} of {len(names)}: {name}: {outcome}")
    return results


def _result_of(status: int, out: bytes, err: bytes) -> dict[str, Any]:
    """What a process that has ended left behind."""
    if status == 0:
        result: dict[str, Any] = json.loads(out)
        return result
    lines = [line for line in err.decode(errors="replace").splitlines() if line.strip()]
    return {"error": lines[-1].removeprefix("rlab: ") if lines else f"it ended with status {status}"}
