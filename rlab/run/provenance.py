"""Where a run's numbers come from: versions, source, machine, device, seed and command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy", "gymnasium", "ale-py", "stable-baselines3", "numba", "safetensors")


def describe_session(device: str, threads: int | str, seed: int) -> dict[str, Any]:
    """Describe what this process runs on, as it goes into ``env.json``."""
    return {
        "started": time.time(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "device": device,
        "device_name": _device_name(device),
        "threads": threads,
        "seed": seed,
        "python": platform.python_version(),
        "packages": versions(),
        "git": git_state(),
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.platform()},
        "hash_seed": os.environ.get("PYTHONHASHSEED"),
    }


def versions() -> dict[str, str]:
    """Installed versions of the packages that results depend on."""
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = "absent"
    return installed


def git_state() -> dict[str, Any]:
    """Return the commit of the checkout that rlab runs from, and whether it was changed; nulls outside a checkout.

    New files count as a change; ignored ones do not. A repository that only happens to enclose an installed rlab
    is not its source.
    """
    here = Path(__file__).resolve().parent

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(here), *args], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    own = git("ls-files", "--error-unmatch", Path(__file__).name) is not None
    commit = git("rev-parse", "HEAD") if own else None
    changes = git("status", "--porcelain") if commit else None
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def processor() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return processor()
