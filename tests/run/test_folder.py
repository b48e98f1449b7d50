from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rlab.errors import RlabError
from rlab.registry import Registry
from rlab.run import files
from rlab.run.folder import RunFolder, all_runs, create_run, find_run, holder_of, runs_dir
from tests.run.test_journal import file_size_limit

HOLD = """
import sys, time
from pathlib import Path
from rlab.run.folder import RunFolder
lock = RunFolder(Path(sys.argv[1])).lock()
print("held", flush=True)
time.sleep(1000)
"""


def make(name: str | None = None) -> RunFolder:
    return create_run("dqn", {"env": "ALE/Breakout-v5"}, {}, name)


def test_a_second_process_is_refused_and_told_the_holder(tmp_path: Path) -> None:
    folder = make("a")
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder.path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        before = sorted(folder.path.iterdir())
        with pytest.raises(RlabError, match=f"run 'a' is held by process {holder.pid}; nothing was changed"):
            folder.lock()
        assert holder_of(folder) == holder.pid
        assert sorted(folder.path.iterdir()) == before
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert holder_of(folder) is None
        lock = folder.lock()
        assert holder_of(folder) == os.getpid()
        lock.release()
        lock.release()
        assert holder_of(folder) is None
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()


def test_one_process_does_not_take_a_run_twice() -> None:
    folder = make("a")
    lock = folder.lock()
    with pytest.raises(RlabError, match=f"held by process {os.getpid()}"):
        folder.lock()
    lock.release()
    folder.lock().release()


def test_a_child_does_not_inherit_the_lock() -> None:
    folder = make("a")
    lock = folder.lock()
    child = subprocess.Popen(["sleep", "1000"], close_fds=False)
    try:
        lock.release()
        folder.lock().release()
    finally:
        child.kill()
        child.wait()


def test_a_forked_worker_that_outlives_its_run_does_not_hold_it() -> None:
    folder = make("a")
    script = (
        "import os, sys, time; from pathlib import Path; from rlab.run.folder import RunFolder\n"
        "lock = RunFolder(Path(sys.argv[1])).lock()\n"
        "if os.fork() == 0: print(os.getpid(), flush=True); time.sleep(1000)\n"
        "else: time.sleep(1000)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(folder.path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        assert holder_of(folder) == parent.pid
        parent.kill()
        parent.wait()
        os.kill(child, 0)  # it lives
        assert holder_of(folder) is None
        folder.lock().release()
    finally:
        os.kill(child, signal.SIGKILL)
        parent.stdout.close()


def test_a_lock_of_a_run_that_is_not_there() -> None:
    with pytest.raises(RlabError, match="No such file"):
        RunFolder(Path("nowhere")).lock()
    assert holder_of(RunFolder(Path("nowhere"))) is None


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a b", "a\n", "latest", "reference", "a\0", "/tmp/x"])
def test_names_that_a_folder_cannot_have(name: str) -> None:
    with pytest.raises(RlabError, match="cannot be a run's name"):
        make(name)
    assert not runs_dir().exists() or list(runs_dir().iterdir()) == []


@pytest.mark.parametrize("name", ["a", "A-1_b.c+d", "ブロック崩し"])
def test_names_that_it_can(name: str) -> None:
    folder = make(name)
    assert folder.name == name
    assert find_run(name).path == folder.path.resolve()
    with pytest.raises(RlabError, match=f"'{re.escape(name)}' exists already"):
        make(name)


def test_runs_without_a_name_never_collide() -> None:
    names = {make().name for _ in range(4)}
    assert len(names) == 4
    assert all(n.startswith("dqn-ALE-Breakout-v5-") for n in names)


def test_runs_are_found_by_name_by_path_and_as_latest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RlabError, match="no run under"):
        find_run("latest")
    with pytest.raises(RlabError, match="no run 'x'; there is none"):
        find_run("x")
    assert all_runs() == []
    first, second = make("breakout-one"), make("pong")
    os.utime(second.path / "config.json", ns=(1, 1))  # as after copying: what a run says of itself counts
    damaged = make("damaged")
    (damaged.path / "config.json").write_bytes(b"{")
    os.utime(damaged.path / "config.json", ns=(1, 1))
    reference = runs_dir() / "reference" / "old"
    reference.mkdir(parents=True)
    (reference / "config.json").write_text("{}")
    (runs_dir() / "not a run").mkdir()
    assert [r.name for r in all_runs()] == ["damaged", "breakout-one", "pong"]
    assert find_run("latest").path == second.path
    assert find_run(str(first.path)).path == first.path.resolve()
    assert find_run("reference/old").name == "old"
    monkeypatch.chdir(first.path.parent)
    assert find_run("breakout-one").path == first.path.resolve()
    with pytest.raises(RlabError, match=r"no run 'breakout-won' under .*; nearest: breakout-one"):
        find_run("breakout-won")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"schema": 2}',
        b'{"schema": "1"}',
        b'{"schema": 1}',
        b'{"schema": 1, "recipe": 3}',
        b"\xff",
    ],
)
def test_a_damaged_configuration_is_named(content: bytes) -> None:
    folder = make("a")
    (folder.path / "config.json").write_bytes(content)
    with pytest.raises(RlabError) as error:
        folder.config()
    assert str(folder.path) in str(error.value)


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with file_size_limit(10), pytest.raises(RlabError, match="cannot write under") as error:
        make("a")
    assert "\n" not in str(error.value)
    path = tmp_path / "x.json"
    files.replace_durably(path, b"old")
    with file_size_limit(10), pytest.raises(RlabError, match="cannot write under"):
        files.replace_durably(path, b"n" * 100)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_a_place_that_is_no_folder_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path / "file"))
    with pytest.raises(RlabError, match="cannot write under"):
        make("a")
    with pytest.raises(RlabError, match=r"x\.json is missing"):
        files.read_json(tmp_path / "x.json")
    with pytest.raises(RlabError, match="cannot be read"):
        files.read_json(tmp_path)


def test_json_is_strict() -> None:
    for value in (float("nan"), float("inf"), object(), {1, 2}):
        with pytest.raises((ValueError, TypeError)):
            files.to_json(value)
    assert json.loads(files.to_json({"a": [1, None, "ε"]})) == {"a": [1, None, "ε"]}


def test_a_registry_names_what_is_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry: Registry[int] = Registry("thing")
    registry.register("alpha")(1)
    with pytest.raises(RlabError, match="thing 'alpha' is registered twice"):
        registry.register("alpha")(2)
    assert registry.get("alpha") == 1
    assert list(registry) == ["alpha"]
    assert "alpha" in registry
    with pytest.raises(RlabError, match="unknown thing 'alpah'; nearest: alpha"):
        registry.get("alpah")
    for bad in (":alpha", "..x:alpha", "a b:alpha", "a..b:alpha"):
        with pytest.raises(RlabError, match="cannot be a module's name"):
            registry.get(bad)
    with pytest.raises(RlabError, match=r"no module named 'no_such_module_x\.y'"):
        registry.get("no_such_module_x.y:alpha")
    (tmp_path / "plugin_of_a_test.py").write_text("import no_such_module_x\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RlabError, match="cannot be imported: ModuleNotFoundError: No module named 'no_such_module_x'"):
        registry.get("plugin_of_a_test:alpha")
