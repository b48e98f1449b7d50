from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlab.run.config import changed, to_plain
from rlab.run.files import sha256_of, to_json
from rlab.run.manifest import sealed


def plant(
    base: Path,
    name: str,
    recipe: str,
    env: str,
    seed: int,
    scores: Sequence[float],
    *,
    done: float = 1.0,
    session: dict[str, Any] | None = None,
    protocol: str | None = None,
    **settings: Any,
) -> Path:
    """Lay out a run folder as a run leaves it: evaluations at even steps with these means, saved at `done` of it."""
    import rlab.agents.recipes  # noqa: F401 - they register themselves
    from rlab.registry import RECIPES

    config = changed(RECIPES.get(recipe).default(env), {"steps": 1000, "seed": seed, **settings})
    steps = config.env.steps
    folder = base / name
    saved = folder / "checkpoints" / "000001"
    saved.mkdir(parents=True)
    document = {"schema": 1, "recipe": recipe, "created": 0.0, "config": to_plain(config)}
    (folder / "config.json").write_text(json.dumps(document))
    described = {"git": {"commit": "0123456789", "dirty": False}, "device_name": "a processor", "packages": {}}
    (folder / "env.json").write_text(json.dumps({"schema": 1, "sessions": [described | (session or {})]}))
    rows: list[dict[str, Any]] = []
    for n, mean in enumerate(scores, 1):
        step = steps * n // len(scores)
        rows.append({"kind": "train", "step": step, "return_mean": mean - 1, "clock": {}})
        rows.append({"kind": "eval", "step": step, "mean": mean, "episodes": 10, "epsilon": 0.0, "protocol": protocol})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    reached = int(steps * done)
    (saved / "state.json").write_text(json.dumps({"loop": {"evaluated": reached if done == 1 else -1}}))
    files = {"tensors.safetensors": "", "state.json": sha256_of(saved / "state.json")}
    (saved / "manifest.json").write_bytes(to_json(sealed({"schema": 2, "done": reached, "files": files})))
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Plant a run under the runs folder: run(name, recipe, env, seed, scores, ...)."""
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    return lambda *args, **more: plant(tmp_path, *args, **more)
