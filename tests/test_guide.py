"""The guide for users who bring their own parts does what it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
GUIDE = DOCS / "my_lab.py"
QUICK = ["--steps", "5000", "--learning-starts", "200", "--threads", "1", "--json"]


def train(recipe: str, *flags: str, folder: Path) -> dict[str, Any]:
    """`rlab train` in a folder, as a user runs it: its result."""
    done = subprocess.run(
        [Path(sys.executable).parent / "rlab", "train", recipe, *flags],
        cwd=folder,
        env=os.environ | {"RLAB_RUNS": "runs"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_the_guide_brings_an_environment_an_encoder_and_an_agent(tmp_path: Path) -> None:
    shutil.copy(GUIDE, tmp_path)
    optimal = {}
    for recipe, gamma in (("dqn", 0.99), ("my_lab:short-sighted", 0.5)):
        result = train(recipe, "--env", "my_lab:Corridor-v0", "--encoder", "my_lab:tanh", *QUICK, folder=tmp_path)
        optimal[gamma] = result["score"]["mean"]
        config = json.loads((tmp_path / "runs" / result["run"] / "config.json").read_text())
        assert config["recipe"] == recipe
        assert config["config"]["agent"]["gamma"] == gamma
    assert optimal == {0.99: 1.0, 0.5: 1.0}


def test_documented_variant_trains(tmp_path: Path) -> None:
    """The subclass of DQN in docs/agents.md, with its own setting."""
    (code,) = re.findall("```python\n(.*?)```", (DOCS / "agents.md").read_text(), re.DOTALL)
    (tmp_path / "my_agents.py").write_text(code)
    flags = "--env CartPole-v1 --tau 0.05 --steps 1000 --learning-starts 200 --final-episodes 1 --threads 1 --json"
    result = train("my_agents:soft-target-dqn", *flags.split(), folder=tmp_path)
    config = json.loads((tmp_path / "runs" / result["run"] / "config.json").read_text())
    assert config["config"]["agent"]["tau"] == 0.05
    assert config["config"]["agent"]["target_every"] == 32
