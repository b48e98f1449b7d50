"""Where a run's numbers come from: versions, source, machine, device, seed and command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy", "gymnasium", "ale-py", "stable-baselines3", "numba", "safetensors")


def describe_session(device: str, threads: int | str, seed: int) -> dict[str, Any]:
    """Describe what this process runs on, as it goes into ``env.json``."""
    return {
        "started": time.time(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]).encode(errors="replace").decode(),
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


def differences(sessions: Sequence[Mapping[str, Any]], now: Mapping[str, Any]) -> list[str]:
    """Say what is not as it was in a run's first session, or in its last one: a line for each.

    Args:
        sessions: of ``env.json``, oldest first.
        now: this one.
    """
    lines = []
    for name, value in _facts(now).items():
        for when, session in (("at the start", sessions[:1]), ("in the last session", sessions[-1:])):
            was = _facts(session[0]).get(name, "not noted") if session else value
            if was != value:
                exact = "perhaps not bit-exact" if name in ("commit", "Python") else "not bit-exact"
                lines.append(f"{exact} from here: {name} was {was} {when}, is {value}")
                break
    return lines


def _facts(session: Mapping[str, Any]) -> dict[str, str]:
    """What results depend on beside the configuration, in words."""
    git = session.get("git") or {}
    commit = str(git.get("commit"))[:12] + (" with changes" if git.get("dirty") else "")
    facts = {"commit": commit, "Python": session.get("python")}
    facts |= session.get("packages") or {}
    facts |= {name: session.get(name) for name in ("device", "threads")} | (session.get("machine") or {})
    return {name: str(value)[:100] for name, value in facts.items()}


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
