"""The guide for users who bring their own parts does what it says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

GUIDE = Path(__file__).parent.parent / "docs" / "my_lab.py"
QUICK = ["--steps", "5000", "--learning-starts", "200", "--threads", "1", "--json"]


def test_the_guide_brings_an_environment_an_encoder_and_an_agent(tmp_path: Path) -> None:
    shutil.copy(GUIDE, tmp_path)
    optimal = {}
    for recipe, gamma in (("dqn", 0.99), ("my_lab:short-sighted", 0.5)):
        command = ["train", recipe, "--env", "my_lab:Corridor-v0", "--encoder", "my_lab:tanh", *QUICK]
        done = subprocess.run(
            [Path(sys.executable).parent / "rlab", *command],
            cwd=tmp_path,
            env=os.environ | {"RLAB_RUNS": "runs"},
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        optimal[gamma] = result["score"]["mean"]
        config = json.loads((tmp_path / "runs" / result["run"] / "config.json").read_text())
        assert config["recipe"] == recipe
        assert config["config"]["agent"]["gamma"] == gamma
    assert optimal == {0.99: 1.0, 0.5: 1.0}
