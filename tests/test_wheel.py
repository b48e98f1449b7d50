"""The package as others get it: a wheel in an environment where `agents`, `envs` and `runs` are somebody else's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OTHERS = ("agents", "envs", "runs")
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "fixtures", "runs")

OWN_ENVIRONMENT = """
import gymnasium

gymnasium.register("Mine-v0", "rlab.envs.probes:Probe4")
"""

OWN_SCRIPT = """
import numpy as np

import rlab
from rlab.envs import VecEnv, make_vec

run = rlab.train("logistic", data="iris", epochs=2, name="from-python")
with rlab.load(run) as model:
    print(model.step, run.path, rlab.__version__)
print(rlab.evaluate(run)["mean"])
envs: VecEnv = make_vec("envs.mine:Mine-v0", num_envs=2, seed=0)
obs, info = envs.reset(seed=0)
obs, reward, terminated, truncated, info = envs.step(np.zeros(2, np.int64))
envs.close()
print(rlab.__file__)
"""


def run(*words: str | Path, folder: Path, given: str = "") -> str:
    """What a command prints, without what this process has of Python's settings and rlab's."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "RLAB", "VIRTUAL_ENV"))}
    command = list(map(str, words))
    done = subprocess.run(command, cwd=folder, env=env, input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("built")
    source, to = folder / "source", folder / "dist"
    shutil.copytree(ROOT, source, symlinks=True, ignore=LEFT_OUT)
    run(
        sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", to, source, folder=folder
    )
    make = f"from setuptools.build_meta import build_sdist; build_sdist({str(to)!r})"
    run(sys.executable, "-c", make, folder=source)
    return to


def test_wheel_holds_one_package(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"rlab", f"{wheel.name.split('-py3')[0]}.dist-info"}
    files = {
        str(p.relative_to(ROOT)) for p in (ROOT / "rlab").rglob("*") if p.is_file() and "__pycache__" not in p.parts
    }
    assert {name for name in names if name.startswith("rlab/")} == files
    assert "rlab/py.typed" in files
    assert "rlab/assets/go5/config.json" in files


def test_sdist_holds_no_link_twice(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as tar:
        inside = [Path(name).parts[1:] for name in tar.getnames()]
    assert ("rlab", "envs", "make.py") in inside
    assert not [parts for parts in inside if parts[:1] in {(name,) for name in OTHERS}]


@dataclass(frozen=True)
class Installed:
    """An environment of its own with the wheel, and a project of somebody's.

    Attributes:
        bin: where its programs lie.
        packages: its site-packages.
        project: a folder with a package `envs`, to be in.
    """

    bin: Path
    packages: Path
    project: Path


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """It sees the dependencies of this environment, but not its editable rlab: that needs a .pth file to be read."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", folder=folder)
    python = folder / "venv/bin/python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "-q", "--no-deps", "--no-index", *built.glob("*.whl"), folder=folder)
    where = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    packages = Path(run(python, "-c", where, folder=folder).strip())
    paths = sysconfig.get_paths()
    (packages / "dependencies.pth").write_text(f"{paths['purelib']}\n{paths['platlib']}\n")
    for name in OTHERS:
        (packages / name).mkdir()
        (packages / name / "__init__.py").write_text(f"raise RuntimeError('rlab took the {name} of somebody else')\n")
    project = folder / "project"
    (project / "envs").mkdir(parents=True)
    (project / "envs/__init__.py").touch()
    (project / "envs/mine.py").write_text(OWN_ENVIRONMENT)
    (project / "script.py").write_text(OWN_SCRIPT)
    return Installed(python.parent, packages, project)


def test_verbs_work_beside_other_packages(installed: Installed) -> None:
    assets = installed.packages / "rlab/assets"
    before = {p: p.stat().st_mtime_ns for p in assets.rglob("*")}

    def rlab(*words: str, given: str = "") -> str:
        return run(installed.bin / "rlab", *words, folder=installed.project, given=given)

    assert "everything needed works" in rlab("doctor")
    short = ("--steps", "300", "--learning-starts", "100", "--threads", "1", "--final-episodes", "2", "--name", "own")
    rlab("train", "dqn", "--env", "envs.mine:Mine-v0", *short)
    assert rlab("gtp", "go5", given="genmove b\nquit\n").startswith("= ")
    assert "verdict" in rlab("study", "run", "convex-cost", "--budget", "smoke")
    assert "own" in run(installed.bin / "python", "-m", "rlab", "runs", folder=installed.project)
    last = run(installed.bin / "python", "script.py", folder=installed.project).splitlines()[-1]
    assert Path(last) == installed.packages / "rlab/__init__.py"
    assert {p.name for p in (installed.project / "runs").iterdir()} == {"own", "studies", "from-python"}
    assert {p: p.stat().st_mtime_ns for p in assets.rglob("*")} == before


@pytest.mark.slow  # half a minute for mypy, which knows nothing yet
def test_script_is_typed_strictly(installed: Installed, tmp_path: Path) -> None:
    words = ("--strict", "--cache-dir", tmp_path, "--python-executable", installed.bin / "python", "script.py")
    assert "Success" in run(sys.executable, "-m", "mypy", *words, folder=installed.project)
