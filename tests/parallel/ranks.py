"""Groups of real processes for tests: the test's own is rank 0, the others run a module of `tests.parallel`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.distributed import PrefixStore, TCPStore

from rlab.parallel.group import Group, environment, meet


def in_ranks(module: str, work: Callable[[Group, Any], Any], world: int, request: Any) -> list[Any]:
    """What `work(group, request)` returns in each of `world` processes; the module calls `as_rank(work)`."""
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    command = [sys.executable, "-m", module, json.dumps(request)]
    agent = {"TORCHELASTIC_USE_AGENT_STORE": "True", "OMP_NUM_THREADS": "1"}  # the store is here
    others = [
        subprocess.Popen(command, env=os.environ | agent | environment(rank, world, server.port), stdout=-1, text=True)
        for rank in range(1, world)
    ]
    group = Group(0, world, PrefixStore("rlab/0", server), torch.device("cpu"), dict(enumerate(others, 1)))
    try:
        found = [work(group, request)]
        return found + [json.loads(other.communicate()[0].splitlines()[-1]) for other in others]
    finally:
        group.close()
        for other in others:
            other.kill()
            other.wait()


def as_rank(work: Callable[[Group, Any], Any]) -> None:
    """Be one of the others."""
    torch.set_num_threads(1)
    group = Group(*meet(), torch.device("cpu"))
    print(json.dumps(work(group, json.loads(sys.argv[1]))))
    group.close()
