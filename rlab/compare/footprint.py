"""What a run will need, asked of its learner: ``python -m rlab.compare.footprint REQUEST`` prints it as JSON.

In a process of its own, since building a learner starts threads and fills memory.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

import psutil

from rlab.errors import RlabError
from rlab.registry import RECIPES
from rlab.run.config import changed
from rlab.run.files import scratch_folder
from rlab.trust import foreign

CONTEXT = 600_000_000
"""Bytes that a process takes on a GPU before it holds anything."""


def needs(agent: str, env: str, steps: int, settings: dict[str, Any]) -> dict[str, int]:
    """Bytes of main memory (libraries included) and on the device that a run takes at the most, and what is free there.

    Raises:
        RlabError: the run cannot be built; the message is its own.
    """
    import torch

    from rlab.recipes import load_recipes

    load_recipes()
    from rlab.run.contract import Stop
    from rlab.run.journal import Journal
    from rlab.run.lifecycle import BuildContext, resolve_device

    recipe = RECIPES.get(agent)
    config = changed(recipe.default(env), settings | ({"steps": steps} if steps else {}))
    if recipe.warm_start is not None:  # an encoder may be another run's: its kind counts here, not its weights
        config, _ = recipe.warm_start(config)
    device = resolve_device(config.run.device)
    free = torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else 0
    with scratch_folder() as scratch:
        journal = Journal(scratch)
        with (
            contextlib.closing(journal),
            contextlib.closing(recipe.build(config, BuildContext(device, journal))) as built,
        ):
            footprint = built.footprint(Stop())
    libraries = psutil.Process().memory_info().rss
    on_device = footprint.device_memory + CONTEXT if free else 0
    return {"memory": footprint.memory + libraries, "device_memory": on_device, "device_free": free}


if __name__ == "__main__":
    foreign(sys.argv[1:])
    try:
        print(json.dumps(needs(*json.loads(sys.argv[1]))))
    except RlabError as error:
        sys.exit(f"rlab: {error}")
