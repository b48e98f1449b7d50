"""What each process of `tests/parallel/test_processes.py` does; run as a module it is one."""

from __future__ import annotations

from typing import Any

from rlab.parallel.group import Group
from tests.parallel import shards, stages
from tests.parallel.ranks import as_rank


def work(group: Group, request: dict[str, Any]) -> dict[str, Any]:
    return {"divided": shards.measured(group), "stages": stages.measured(group, request)}


if __name__ == "__main__":
    as_rank(work)
