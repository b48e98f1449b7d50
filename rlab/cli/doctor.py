"""``rlab doctor``: what will work on this machine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from rlab.cli.common import JsonFlag, parse, results
from rlab.run.folder import runs_dir

LITTLE_MEMORY = 4e9
"""Bytes: the default replay of Breakout takes 1.5 GB, and torch with all else about one."""

LITTLE_DISK = 2e9
"""Bytes: three checkpoints and the journal of a run."""


@dataclass(frozen=True)
class Flags:
    """Say what works on this machine. Status 0 if everything that is needed does."""

    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Check:
    """One line of the doctor's finding."""

    name: str
    ok: bool
    detail: str
    needed: bool = True
    hint: str = ""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    flags = parse(Flags, "doctor", argv)
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    with results(flags.json) as put:
        checks = [_checked(name, check) for name, check in CHECKS.items()]
        well = all(c.ok for c in checks if c.needed)
        verdict = "everything needed works" if well else "something needed is missing"
        lines = [f"{_mark(c):<8} {c.name:<12} {c.detail}{_hint(c)}" for c in checks]
        following = "next     rlab train dqn --env Breakout --minutes 10" if well else ""
        put(
            "\n".join([*lines, "", verdict, following]).rstrip(),
            {"ok": well, "checks": [asdict(c) for c in checks]},
        )
        return 0 if well else 1


def _mark(check: Check) -> str:
    return "ok" if check.ok else "MISSING" if check.needed else "without"


def _hint(check: Check) -> str:
    return f"  -> {check.hint}" if check.hint and not check.ok else ""


def _checked(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as e:  # a doctor reports every kind of illness
        hint = "reinstall: pip install -e ."
        return Check(name, False, f"{type(e).__name__}: {e}", name not in OPTIONAL, hint)


def _python() -> Check:
    ok = sys.version_info >= (3, 11)
    return Check("python", ok, f"{platform.python_version()} at {sys.executable}", hint="3.11 or newer")


def _torch() -> Check:
    import torch

    from rlab.run.lifecycle import prepare_process, resolve_device

    device = resolve_device("auto")
    threads = prepare_process(0)
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    x = torch.ones(2, 2, device=device)
    assert float((x @ x).sum()) == 8.0
    return Check(
        "torch",
        True,
        f"{torch.__version__} on {device}, {threads} threads, GPUs: {', '.join(names) or 'none'}",
    )


def _bf16() -> Check:
    import torch

    from rlab.nn.precision import use_bf16

    able = use_bf16("auto", torch.device("cuda" if torch.cuda.is_available() else "cpu"), images=True)
    detail = "images are learned from in it" if able else "it would be slower here; images are learned from in fp32"
    return Check("bf16", able, detail, needed=False, hint="nothing to do: other processors are faster with it")


def _atari() -> Check:
    import numpy as np

    from rlab.envs import make_vec

    envs = make_vec("Breakout", 1, 0)
    try:
        obs, _ = envs.reset()
        envs.step(np.zeros(1, np.int64))
    finally:
        envs.close()
    return Check("atari", True, f"ale-py {version('ale-py')}, Breakout loads and steps {obs.shape[1:]}")


def _ffmpeg() -> Check:
    import imageio_ffmpeg

    exe = imageio_ffmpeg.get_ffmpeg_exe()
    done = subprocess.run([exe, "-hide_banner", "-encoders"], capture_output=True, text=True, timeout=30)
    ok = done.returncode == 0 and "libx264" in done.stdout
    return Check("ffmpeg", ok, f"{imageio_ffmpeg.get_ffmpeg_version()} at {exe}", hint="it has no libx264 encoder")


def _pygame() -> Check:
    import pygame

    return Check("pygame", True, str(pygame.version.ver), needed=False)


def _display() -> Check:
    from rlab.run.video import has_display

    available = has_display()
    detail = "rlab watch opens a window" if available else "none; rlab watch writes its video all the same"
    return Check("display", available, detail, needed=False)


def _memory() -> Check:
    from rlab.machine import available_memory, gigabytes

    free = available_memory()
    return Check("memory", free >= LITTLE_MEMORY, f"{gigabytes(free)} free", False, "take a smaller --memory-size")


def _disk() -> Check:
    from rlab.machine import gigabytes

    place = runs_dir().absolute()
    near = next(p for p in (place, *place.parents) if p.exists())
    free = shutil.disk_usage(near).free
    writable = os.access(near, os.W_OK)
    detail = f"{gigabytes(free)} free at {place}" + ("" if writable else ", which cannot be written")
    return Check("disk", writable and free >= LITTLE_DISK, detail, hint="set RLAB_RUNS to another place")


def _cores() -> Check:
    from rlab.machine import cores
    from rlab.run.provenance import processor

    return Check("cores", True, f"{cores()} usable of {os.cpu_count()}, {processor()}")


def _extra(package: str, module: str, extra: str, use: str) -> Check:
    try:
        detail = f"{version(package)}, for {use}" if find_spec(module) else "absent"
    except PackageNotFoundError:
        detail = f"there, for {use}" if find_spec(module) else f"absent, for {use}"
    return Check(package, find_spec(module) is not None, detail, False, f"pip install 'rlab-rl[{extra}]'")


def _gnugo() -> Check:
    from rlab.envs.go.gtp_client import HOW_TO_GET_GNUGO, find_gnugo, gnugo

    path = find_gnugo()
    detail = f"absent, for rlab tournament ... gnugo:10, {HOW_TO_GET_GNUGO}" if path is None else (
        f"{gnugo('').about} at {path}")  # fmt: skip
    return Check("gnugo", path is not None, detail, False)


def _agents() -> Check:
    from rlab.recipes import load_recipes

    load_recipes()
    from rlab.registry import RECIPES

    return Check("agents", True, ", ".join(RECIPES))


def _encoders() -> Check:
    from rlab.nn import ENCODERS, make_encoder

    make_encoder("auto", (4,))  # brings in those of the lab
    from rlab.nn.init import INITS
    from rlab.nn.layers import ACTIVATIONS, NORMS

    parts = "; ".join(", ".join(f"+{name}" for name in names) for names in (ACTIVATIONS, NORMS, INITS))
    return Check("encoders", True, f"{', '.join(ENCODERS)}; with {parts}")


CHECKS: dict[str, Callable[[], Check]] = {
    "python": _python,
    "torch": _torch,
    "bf16": _bf16,
    "atari": _atari,
    "ffmpeg": _ffmpeg,
    "pygame": _pygame,
    "display": _display,
    "memory": _memory,
    "disk": _disk,
    "cores": _cores,
    "tensorboard": lambda: _extra("tensorboard", "tensorboard", "tensorboard", "rlab train --tensorboard"),
    "opencv": lambda: _extra("opencv-python-headless", "cv2", "bench", "rlab bench speed"),
    "gnugo": _gnugo,
    "agents": _agents,
    "encoders": _encoders,
}
"""Name -> check, in the order in which they are told."""

OPTIONAL = {"bf16", "pygame", "display", "memory", "tensorboard", "opencv", "gnugo"}
"""What nothing fails without."""
