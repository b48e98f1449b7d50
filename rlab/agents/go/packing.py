"""What playing needs of a run of Go, as a small run of its own that can be given away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rlab.agents.go.alphago.rollout_policy import is_rollout, packed_rollout
from rlab.agents.go.weights import read_network, weights_of
from rlab.errors import RlabError
from rlab.run.checkpoint import Checkpoints
from rlab.run.files import disk_error, read_plain, replace_durably, to_json
from rlab.run.folder import CONFIG_BYTES, RunFolder
from rlab.run.journal import Journal
from rlab.run.lifecycle import find_checkpoint
from rlab.run.metrics import read_metrics, read_score


def pack(folder: RunFolder, to: Path) -> int:
    """Write what playing needs of a run as a run of its own, a network's weights in half precision; return its bytes.

    Its evaluations come along without the list of their games, so that `rlab report` has a curve to show.

    Raises:
        RlabError: the run has no network of Go and is no rollout policy, or something is at `to` already.
    """
    rollout = is_rollout(folder)
    if not rollout:
        read_network(folder)
    if to.exists():
        raise RlabError(f"{to} exists already; nearest: {to}-2")
    saved = find_checkpoint(folder, None)
    state = packed_rollout(saved.state) if rollout else _packed(saved.state)
    packed = RunFolder(to)
    try:
        to.mkdir(parents=True)
        for file in (folder.path / "config.json", folder.path / "env.json"):
            if file.is_file():
                replace_durably(to / file.name, read_plain(file, CONFIG_BYTES))
        if folder.evaluation.is_file():
            replace_durably(to / folder.evaluation.name, to_json(_brief(read_score(folder.evaluation))))
        rows = [json.dumps(_brief(row)) + "\n" for row in read_metrics(folder.metrics) if row["kind"] == "eval"]
        replace_durably(packed.metrics, "".join(rows).encode())
    except OSError as e:
        raise disk_error(e, to) from None
    Checkpoints(packed.checkpoints, Journal(packed.journal)).save(state, saved.loop, saved.done)
    return sum(p.stat().st_size for p in to.rglob("*") if p.is_file())


def _packed(state: dict[str, Any]) -> dict[str, Any]:
    """Of a checkpoint what `read_network` reads, and how far the run was."""
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights_of(state).items()}
    rest: dict[str, Any] = {name: state[name] for name in ("counters", "updates") if name in state}
    return rest | ({"network": half} if "network" in state else {"model": half, "best": None})


def _brief(score: dict[str, Any]) -> dict[str, Any]:
    """An evaluation without what each game came to."""
    return {name: value for name, value in score.items() if name != "returns"}
