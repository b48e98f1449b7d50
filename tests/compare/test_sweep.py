"""Sweeps: what they are, what stops them, and that nothing done is done again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rlab.cli import main
from rlab.compare import define, jobs_of, open_or_create
from rlab.compare.processes import Job, Pool, Row
from rlab.compare.settings import as_flags, parse_setting, resolve
from rlab.compare.sweep import all_sweeps, at_once, read_sweep
from rlab.errors import RlabError
from rlab.run.contract import Stop
from rlab.run.folder import RunFolder, holder_of
from rlab.run.status import newest_checkpoint, status_of
from tests.processes import LONGEST, Spawn, until

RLAB = (sys.executable, "-m", "rlab")
TINY = ["--steps", "20_000", "--set", "final_episodes=5", "run.evaluate_steps=0"]
CARTPOLE = ["sweep", "--agents", "dqn", "--envs", "CartPole-v1", "--seeds", "0-1", "--steps", "3_000", "--name", "s"]
CARTPOLE += ["--set", "final_episodes=2", "evaluate_steps=0", "checkpoint_steps=150", "memory_size=3000", "--jobs", "2"]

Run = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    return tmp_path


@pytest.fixture
def sweep(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `rlab sweep ... --json`: its object, with ``status`` and ``said``."""

    def call(*words: str) -> dict[str, Any]:
        capsys.readouterr()
        status = main(["sweep", *words, "--json"])
        said = capsys.readouterr()
        value = json.loads(said.out) if said.out else {}
        return value | {"status": status, "said": said.err}

    return call


def test_agents_times_environments_times_seeds_and_nothing_twice(sweep: Run, runs: Path) -> None:
    flags = ["--agents", "q-learning,sarsa", "--envs", "FrozenLake-v1", "--seeds", "0,3", *TINY]
    found = sweep(*flags, "--set", "sarsa:gamma=0.9")
    assert found["status"] == 0, found["said"]
    assert found["finished"]
    assert [r["name"] for r in found["runs"]] == [
        f"{agent}-FrozenLake-v1-s{seed}" for seed in (0, 3) for agent in ("q-learning", "sarsa")
    ]
    folder = Path(found["path"])
    assert folder.parent == runs
    for row in found["runs"]:
        config = json.loads((folder / row["name"] / "config.json").read_text())["config"]
        assert (config["env"]["steps"], config["env"]["final_episodes"], config["run"]["threads"]) == (20_000, 5, 1)
        assert config["run"]["seed"] == row["seed"]
        assert config["agent"]["gamma"] == (0.9 if row["agent"] == "sarsa" else 0.99)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != "lock"}
    again = sweep(*flags, "--set", "sarsa:gamma=0.9")  # the same command is the same sweep
    assert again["path"] == found["path"]
    assert again["runs"] == found["runs"]
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != "lock"} == before
    settings = [parse_setting(text) for text in ("final_episodes=5", "run.evaluate_steps=0", "sarsa:gamma=0.9")]
    same = define(["q-learning", "sarsa"], ["FrozenLake-v1"], [0, 3], 20_000, settings)
    assert open_or_create("sweep", same, jobs_of(same), None).path == folder
    other = define(["sarsa"], ["FrozenLake-v1"], [0], 20_000, settings)
    assert open_or_create("sweep", other, jobs_of(other), None).path != folder  # another one is another


def test_a_failing_run_is_named_and_stops_no_other(sweep: Run) -> None:
    found = sweep("--agents", "q-learning", "--envs", "CartPole-v1,FrozenLake-v1", "--seeds", "0", *TINY, "--jobs", "2")
    assert found["status"] == 1
    states = {row["env"]: (row["state"], row["error"]) for row in found["runs"]}
    assert states["FrozenLake-v1"] == ("finished", None)
    assert states["CartPole-v1"][0] == "failed"
    assert "CartPole-v1" in states["CartPole-v1"][1]
    assert "failed: q-learning-CartPole-v1-s0" in found["said"]


def progress(runs: Path, seed: int) -> int:
    newest = newest_checkpoint(RunFolder(runs / "s" / f"dqn-CartPole-v1-s{seed}"))
    return newest[1] if newest else 0


@pytest.mark.timeout(1800)  # seven processes that import torch, on a machine that may be busy
def test_stopped_killed_and_resumed(runs: Path, spawn: Spawn) -> None:
    """Ctrl-C stops every run at a checkpoint; runs end with a sweep that is killed; one that is held is waited for."""
    folders = [RunFolder(runs / "s" / f"dqn-CartPole-v1-s{seed}") for seed in (0, 1)]
    process = spawn(*RLAB, *CARTPOLE)
    until(lambda: min(progress(runs, 0), progress(runs, 1)) >= 150, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LONGEST)
    assert process.returncode == 130, err
    assert "rlab sweep s" in out
    assert [status_of(folder).state for folder in folders] == ["stopped", "stopped"]
    stopped_at = [progress(runs, seed) for seed in (0, 1)]

    process = spawn(*RLAB, *CARTPOLE)
    until(lambda: all(progress(runs, seed) > stopped_at[seed] for seed in (0, 1)), process)
    process.kill()
    process.communicate()
    until(lambda: not any(holder_of(folder) for folder in folders))
    assert [status_of(folder).state for folder in folders] == ["stopped", "stopped"]
    assert "stopped" in (runs / "s" / "logs" / f"{folders[0].name}.log").read_text().splitlines()[-1]

    lock = folders[1].lock()
    process = spawn(*RLAB, "sweep", "s", "--json")
    until(lambda: status_of(folders[0]).state == "finished", process)
    assert status_of(folders[1]).done < 3000
    lock.release()
    out, err = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, err
    assert f"{folders[1].name} is held by another process; waiting for it" in err
    assert [row["state"] for row in json.loads(out)["runs"]] == ["finished", "finished"]
    assert not [folder for folder in folders if holder_of(folder)]
    assert [len(folder.environment()["sessions"]) for folder in folders] == [3, 3]
    for folder in folders:
        rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
        assert [row["step"] for row in rows if row["kind"] == "train"] == [1000, 2000, 3000]


def test_a_sweep_has_one_process_at_a_time(runs: Path, sweep: Run, capsys: pytest.CaptureFixture[str]) -> None:
    definition = define(["q-learning"], ["FrozenLake-v1"], [0], 1000)
    made = open_or_create("sweep", definition, jobs_of(definition), "mine")
    from rlab.run.folder import Lock

    lock = Lock(made.path / "lock")
    assert main(["sweep", "mine"]) == 1
    assert f"held by process {os.getpid()}" in capsys.readouterr().err
    lock.release()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--agents", "q-learnin", "--envs", "FrozenLake-v1"], "unknown agent 'q-learnin'; nearest: q-learning"),
        (["--agents", "logistic", "--envs", "iris"], "'logistic' is a model, and a sweep is of agents in environments"),
        (["--agents", "dqn"], "which? rlab sweep --agents A,B --envs E,F"),
        (["--agents", "dqn,dqn", "--envs", "CartPole-v1"], "agent dqn is named twice"),
        (["--agents", "dqn", "--envs", "CartPole-v1", "--seeds", "4-0"], "--seeds is '4-0'; write 0-4 or 0,2,7"),
        (["--agents", "dqn", "--envs", "CartPole-v1", "--seeds", "0-2,1"], "seed 1 is named twice"),
        (["--agents", "dqn", "--envs", "CartPole-v1", "--steps", "0"], "--steps is 0; it must be at least 1"),
        (["--agents", "dqn", "--envs", "CartPole-v1", "--threads", "0"], "--threads is 0; it must be at least 1"),
        (["--agents", "dqn,a2c", "--envs", "CartPole-v1"], "dqn 80,000, a2c 200,000 steps); say --steps"),
        (["--agents", "dqn", "--envs", "CartPole-v1", "--set", "gama=1"], "unknown setting 'gama'; nearest: gamma"),
        (["--agents", "dqn", "--envs", "CartPole-v1", "--set", "gamma=2"], "--gamma is 2.0; it must lie between"),
        (["--agents", "dqn", "--envs", "CartPole-v1", "--set", "n_step=x"], "n_step must be int, not 'x'"),
        (["--agents", "dqn", "--envs", "CartPole-v1", "--set", "run.seed=1"], "say it with --seeds"),
        (["--agents", "dqn", "--envs", "CartPole-v1", "--set", "pqn:gamma=1"], "a setting is for agent 'pqn'"),
        (["--agents", "dqn", "--envs", "CartPole-v1", "--name", "a/b"], "'a/b' cannot be a sweep's name"),
        (["--agents", "dqn", "--envs", "CartPole-v1", "--trials", "3"], "--trials belongs to --tune"),
        (["--agents", "dqn", "--envs", "CartPole-v1", "--set"], "--set needs at least one field=value"),
        (["--agents", "dqn", "--envs", "CartPole-v1", "--set", "gamma"], "--set is 'gamma'; write field=value"),
        (["nothing"], "no sweep 'nothing'; there is none under"),
        (["nothing", "--agents", "dqn"], "--agents can only be said of a new one"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(words: list[str], sentence: str, sweep: Run, runs: Path) -> None:
    found = sweep(*words)
    assert found["status"] == 1
    assert sentence in found["said"]
    assert found["said"].count("\n") == 1
    assert not list(runs.iterdir())


def test_another_definition_under_an_old_name_is_refused_by_field(runs: Path) -> None:
    def open_with(**changes: Any) -> None:
        given: dict[str, Any] = {"agents": ["dqn"], "envs": ["CartPole-v1"], "seeds": [0, 1], "steps": 1000}
        definition = define(**(given | changes))
        open_or_create("sweep", definition, jobs_of(definition), "mine")

    open_with(envs=["CartPole-v0"])
    open_with()  # nothing was begun, so nothing is lost
    (runs / "mine" / "dqn-CartPole-v1-s0").mkdir()
    (runs / "mine" / "dqn-CartPole-v1-s0" / "config.json").write_text("{}")
    open_with()
    before = (runs / "mine" / "sweep.json").read_bytes()
    for changes, sentence in (
        ({"seeds": [0, 1, 2]}, r"has seeds \[0, 1\], and now it is \[0, 1, 2\]"),
        ({"steps": 2000}, "has steps of CartPole-v1 1000, and now it is 2000"),
        ({"settings": [parse_setting("gamma=0.9")]}, r"has settings of dqn on CartPole-v1 \{\}, and now .*0.9"),
    ):
        with pytest.raises(RlabError, match=sentence):
            open_with(**changes)
    assert (runs / "mine" / "sweep.json").read_bytes() == before


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"schema": 2}', '{"schema": 1, "kind": "sweep"}'])
def test_a_damaged_sweep_is_named(damage: str, runs: Path, sweep: Run) -> None:
    (runs / "mine").mkdir()
    (runs / "mine" / "sweep.json").write_text(damage)
    found = sweep("mine")
    assert found["status"] == 1
    assert "sweep.json" in found["said"]
    assert "Traceback" not in found["said"]


def test_damage_anywhere_in_a_sweep_is_one_sentence(runs: Path) -> None:
    definition = define(["q-learning"], ["FrozenLake-v1"], [0], 1000)
    path = open_or_create("sweep", definition, jobs_of(definition), "mine").path / "sweep.json"
    whole = json.loads(path.read_text())
    for owner, part in (("", whole), ("definition", whole["definition"])):
        for key in part:
            for value in (None, [], {}, "x", 0, 0.5, [[1]], {"a": 1}, [{}], "gone"):
                wrong = {k: v for k, v in part.items() if k != key} | ({} if value == "gone" else {key: value})
                path.write_text(json.dumps(whole | {owner: wrong} if owner else wrong))
                with suppress(RlabError):
                    sweep = read_sweep(path.parent)
                    at_once(sweep.definition["threads"], None)
                    assert [type(job.steps) for job in sweep.jobs] in ([int], [])
    assert all_sweeps() == ["mine"]


def test_another_folder_is_not_taken_for_a_sweep(runs: Path, sweep: Run) -> None:
    (runs / "mine").mkdir()
    (runs / "mine" / "thesis.txt").write_text("years of work")
    found = sweep("--agents", "q-learning", "--envs", "FrozenLake-v1", "--name", "mine")
    assert "is there already and is no sweep" in found["said"]
    assert [p.name for p in (runs / "mine").iterdir()] == ["thesis.txt"]


def test_settings_are_typed_by_their_fields() -> None:
    given = ["agent.learning-rate=1", "double=true", "value=iqn", "pqn:lam=0.5", "device=cpu", "learning_rate=2e-3"]
    found = resolve("dqn", "CartPole-v1", [parse_setting(text) for text in given])
    assert found == {"learning_rate": 0.002, "double": True, "value": "iqn", "device": "cpu"}
    assert as_flags(found) == ["--learning-rate", "0.002", "--double", "--value", "iqn", "--device", "cpu"]
    # Alone, each of them is refused by rainbow; together they are one that it can be.
    together = [parse_setting(text) for text in ("munchausen=true", "value=iqn", "double=false")]
    assert resolve("rainbow", "CartPole-v1", together)["munchausen"] is True


def test_options_of_environments_are_settings() -> None:
    given = [parse_setting(text) for text in ("komi=7", "env.colour=black")]
    found = resolve("dqn", "Go9", given)
    assert as_flags(found) == ["--komi", "7", "--colour", "black"]
    for env, setting, sentence in (
        ("CartPole-v1", "komi=7", "dqn on CartPole-v1: komi belongs to Go, and 'CartPole-v1' is not Go"),
        ("CartPole-v1", "env.komi=7", "dqn on CartPole-v1: komi belongs to Go"),
        ("Go9", "comi=7", "unknown setting 'comi'; nearest: komi"),
        ("Go9", "komi=high", "dqn on Go9: the setting: komi must be"),
        ("Go9", "options=x", "unknown setting 'options'"),
    ):
        with pytest.raises(RlabError, match=sentence):
            resolve("dqn", env, [parse_setting(setting)])


def test_a_sweep_itself_is_light() -> None:
    """It waits beside its runs for hours: their libraries are theirs."""
    names = "('torch', 'numba', 'matplotlib', 'optuna')"
    code = f"import rlab.compare.sweep, rlab.compare.tuning, sys; print([m for m in {names} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


class Silent:
    def __init__(self) -> None:
        self.said: list[str] = []

    def show(self, rows: Any) -> None:
        pass

    def event(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(tmp_path, threads=1, at_once=4, stop=Stop(), view=Silent())


def test_memory_holds_fewer_runs_than_cores(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four runs that take 40 % of the memory each, two go on at once, and all get done."""
    from rlab.compare import processes

    monkeypatch.setattr(pool, "_free", 100)
    monkeypatch.setattr(processes, "available_memory", lambda: 100)
    monkeypatch.setattr(pool, "_need", lambda job: {"memory": 40, "device_memory": 0, "device_free": 0})
    finished: set[str] = set()
    most = 0

    def launch(row: Row, need: dict[str, int]) -> None:
        nonlocal most
        row.state = "running"
        nap = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.3)"])
        pool._children.append(processes.Child(row, nap, time.monotonic(), need["memory"], 0))
        finished.add(row.job.name)
        most = max(most, len(pool._children))

    def look(row: Row) -> Row:
        row.state = "finished" if row.job.name in finished else "waiting"
        return row

    monkeypatch.setattr(pool, "_launch", launch)
    monkeypatch.setattr(pool, "_look", look)
    rows = pool.run([Job(f"r{n}", "dqn", "CartPole-v1", n, 10) for n in range(4)])
    assert most == 2
    assert [row.state for row in rows] == ["finished"] * 4
    assert any("memory holds 2 of 4 runs at once" in said for said in pool.view.said)  # type: ignore[attr-defined]


def test_the_table_shows_those_at_work_where_not_all_fit() -> None:
    from rich.console import Console

    from rlab.cli.sweep import table_of

    rows = [Row(Job(f"run{n}", "dqn", "E", n, 100), "finished", 100, 1.0) for n in range(9)]
    rows.append(Row(Job("busy[x]", "dqn", "E", 9, 100), "running", 50, None))
    console = Console(width=100)
    with console.capture() as shown:
        console.print(table_of(rows, 4))
    assert "busy[x]" in shown.get()
    assert "50 / 100 (50%)" in shown.get()
    assert "9 of 10 finished, 6 not shown" in shown.get()
