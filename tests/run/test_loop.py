from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlab.errors import RlabError
from rlab.run import checkpoint, journal, loop
from rlab.run import lifecycle as life
from rlab.run.checkpoint import Checkpoints
from rlab.run.contract import NonFinite, Stop, Stopped
from rlab.run.folder import RunFolder, runs_dir
from rlab.run.signals import stop_on_signals
from rlab.run.status import newest_checkpoint
from tests.processes import LONGEST, Spawn, until
from tests.run.fake import Fake, QuietView, digest_of, experiment, polling, resume, rows_of, start
from tests.run.test_journal import file_size_limit

STEPS = 12  # of the default experiment
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """Digest and metrics of the run that nothing interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLAB_RUNS", str(tmp_path_factory.mktemp("whole")))
        folder, outcome = start("whole", experiment())
        assert outcome.finished
        return digest_of(folder), rows_of(folder)


def end_of(folder: RunFolder) -> tuple[str, list[dict[str, Any]]]:
    return digest_of(folder), rows_of(folder)


def content_of(folder: RunFolder) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.path.rglob("*") if p.is_file()}


def test_the_whole_run_is_what_the_other_tests_take_it_for(whole: tuple[str, list[dict[str, Any]]]) -> None:
    rows = whole[1]
    assert [r["step"] for r in rows if r["kind"] == "train"] == [6, 10, 16, 20, 24]
    assert [r["step"] for r in rows if r["kind"] == "eval"] == [8, 16, 24]
    assert any("rare" in r for r in rows)
    assert any("rare" not in r for r in rows if r["kind"] == "train")
    assert not any("work" in r for r in rows)


@pytest.mark.parametrize("k", range(STEPS + 1))
def test_stopped_at_any_step_and_resumed_is_the_same_run(k: int, whole: tuple[str, list[dict[str, Any]]]) -> None:
    folder, first = start("run", experiment(), stop_after=k)
    assert first.done == 2 * k
    assert not first.finished  # after the last step there is an evaluation yet to come
    outcome = resume(folder)
    assert outcome.finished
    assert end_of(folder) == whole


def test_stopped_after_every_single_step_is_the_same_run(whole: tuple[str, list[dict[str, Any]]]) -> None:
    folder, outcome = start("run", experiment(), stop_after=1)
    sessions = 1
    while not outcome.finished:
        outcome = resume(folder, stop_after=1)
        sessions += 1
    assert sessions == STEPS + 1  # the last one evaluates
    assert end_of(folder) == whole


def test_saving_never_alters_a_run(whole: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, settings in {
        "always": {"checkpoint_steps": 1},
        "now and then": {"checkpoint_steps": 5},
        "clock": {"checkpoint_minutes": 1e-9},
    }.items():
        monkeypatch.setattr(journal, "SEGMENT_BYTES", 50 if name == "always" else 16 << 20)
        folder, _ = start(name.replace(" ", "-"), experiment(**settings))
        assert end_of(folder) == whole


def kept(folder: RunFolder) -> dict[str, bytes]:
    """What a run keeps for good: file -> bytes."""
    files = [p for p in folder.checkpoints.glob("kept-*/*") if p.is_file()]
    return {str(p.relative_to(folder.checkpoints)): p.read_bytes() for p in files}


def test_past_selves_are_kept_and_alter_nothing(whole: tuple[str, list[dict[str, Any]]]) -> None:
    folder, _ = start("keeps", experiment(keep_steps=5, checkpoint_steps=1))
    assert end_of(folder) == whole
    assert len(list(folder.checkpoints.glob("0*"))) == checkpoint.KEEP
    paths = sorted(folder.checkpoints.glob("kept-*"))
    assert [int(p.name.removeprefix("kept-")) for p in paths] == [6, 10, 16, 20]
    for path in paths:  # in a new process; the log's rows are gone
        saved = Checkpoints(folder.checkpoints, journal.Journal(folder.journal)).load(path)
        assert (saved.done, saved.state["done"]) == 2 * (int(path.name.removeprefix("kept-")),)
        assert saved.state["weight"].shape == (3, 2)
        assert not saved.segments
    bits, outcome = start("bits", experiment(keep_steps=5, checkpoint_steps=1), stop_after=1)
    while not outcome.finished:
        outcome = resume(bits, stop_after=1)
    assert kept(bits) == kept(folder)


def test_the_disk_that_a_run_needs_counts_its_past_selves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "footprint", lambda self, stop: life.Footprint(0, 0, 100, journal=7))
    monkeypatch.setattr(life.shutil, "disk_usage", lambda path: SimpleNamespace(free=7 + 4 * 100))
    start("none", experiment(total=20))  # three, and one that is being written
    start("too-far-apart", experiment(total=20, keep_steps=21))
    with pytest.raises(RlabError, match=r"and 0\.00 GB are free; .* a larger --keep-steps"):
        start("one", experiment(total=20, keep_steps=20))
    monkeypatch.setattr(life.shutil, "disk_usage", lambda path: SimpleNamespace(free=7 + 9 * 100))
    start("five", experiment(total=20, keep_steps=4))


def test_keeping_may_begin_in_the_middle_of_a_run(whole: tuple[str, list[dict[str, Any]]]) -> None:
    folder, _ = start("late", experiment(), stop_after=7)
    document = json.loads((folder.path / "config.json").read_text())
    document["config"]["run"]["keep_steps"] = 4
    (folder.path / "config.json").write_text(json.dumps(document))
    assert resume(folder).finished
    assert end_of(folder) == whole
    assert sorted(p.name for p in folder.checkpoints.glob("kept-*")) == [f"kept-{n:012d}" for n in (16, 20, 24)]


def test_a_past_self_that_cannot_be_replaced_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = start("again", experiment(keep_steps=5))
    before = kept(folder)
    found = Checkpoints(folder.checkpoints, journal.Journal(folder.journal))
    monkeypatch.setattr(checkpoint, "save_file", lambda *args: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(RlabError, match="No space left"):
        found.keep({"done": 6}, 6)
    assert kept(folder) == before


def test_a_disk_that_refuses_a_past_self_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "save_file", lambda *args: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(RlabError, match="No space left"):
        start("full", experiment(keep_steps=5))
    assert not list(Path(runs_dir() / "full" / "checkpoints").iterdir())


def test_what_is_observed_between_steps_alters_nothing(whole: tuple[str, list[dict[str, Any]]]) -> None:
    class Nosy(QuietView):
        learner: Any = None

        def show(self, progress: Any, metrics: Any) -> None:
            checkpoint.digest(self.learner.state())

    view = Nosy()
    build = Fake.__init__

    def remember(self: Fake, *arguments: Any) -> None:
        build(self, *arguments)
        view.learner = self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fake, "__init__", remember)
        folder, _ = life.start_run("fake", experiment(), "run", Stop(), view, lambda config, footprint, folder: config)
    assert end_of(folder) == whole


def test_another_seed_is_another_run(whole: tuple[str, list[dict[str, Any]]]) -> None:
    folder, _ = start("run", experiment(seed=1))
    digest, rows = end_of(folder)
    assert digest != whole[0]
    assert rows != whole[1]


def test_an_interrupted_evaluation_is_repeated_exactly_once(whole: tuple[str, list[dict[str, Any]]]) -> None:
    for poll in range(1, 10):  # three evaluations look three times each
        stop, seen = Stop(), [0]

        def ask(poll: int = poll, stop: Stop = stop, seen: list[int] = seen) -> None:
            seen[0] += 1
            if seen[0] == poll:
                stop.request("test")

        Fake.evaluated = ()
        with polling(ask):
            folder, outcome = life.start_run(
                "fake",
                experiment(),
                f"run{poll}",
                stop,
                QuietView(),
                lambda config, footprint, folder: config,
            )
        assert not outcome.finished
        assert len(Fake.evaluated) == (poll - 1) // 3
        assert resume(folder).finished
        assert Fake.evaluated == (8, 16, 24)
        assert end_of(folder) == whole


def test_an_evaluation_that_ends_just_before_the_stop_is_not_made_again() -> None:
    folder, _ = start("run", experiment(), stop_after=4)  # saved with the evaluation at 8 yet to come
    Fake.evaluated = ()
    stop = Stop()

    def finish_then_stop(*arguments: Any) -> None:
        stop.request("test")

    view = QuietView()
    view.event = finish_then_stop  # type: ignore[method-assign] - told of the evaluation's result
    outcome = life.resume_run(folder, None, stop, view)
    assert (outcome.finished, outcome.done, Fake.evaluated) == (False, 8, (8,))
    assert resume(folder).finished
    assert Fake.evaluated == (8, 16, 24)


def test_a_stop_while_restoring_is_an_outcome_and_changes_nothing() -> None:
    folder, _ = start("run", experiment(), stop_after=5)
    before = {p: c for p, c in content_of(folder).items() if p.name not in ("env.json", "lock")}
    stop = Stop()
    with polling(lambda: stop.request("test")):
        outcome = life.resume_run(folder, None, stop, QuietView())
    assert (outcome.finished, outcome.done) == (False, 10)
    assert {p: c for p, c in content_of(folder).items() if p.name not in ("env.json", "lock")} == before
    assert resume(folder).finished


def test_resuming_a_finished_run_changes_nothing() -> None:
    folder, first = start("run", experiment(checkpoint_steps=4))
    before = {p: c for p, c in content_of(folder).items() if p.name not in ("env.json", "lock")}
    again = resume(folder)
    assert (again.finished, again.done, again.checkpoint) == (True, first.done, first.checkpoint)
    assert again.score == first.score
    assert {p: c for p, c in content_of(folder).items() if p.name not in ("env.json", "lock")} == before
    assert Fake.evaluated == (8, 16, 24)


def test_a_run_without_a_checkpoint_starts_at_nothing(whole: tuple[str, list[dict[str, Any]]]) -> None:
    folder, _ = start("run", experiment(), stop_after=9)
    shutil.rmtree(folder.checkpoints)
    assert resume(folder).finished
    assert end_of(folder) == whole


def test_a_damaged_newest_checkpoint_is_named_and_the_run_ends_the_same(
    whole: tuple[str, list[dict[str, Any]]],
) -> None:
    folder, _ = start("run", experiment(checkpoint_steps=4), stop_after=9)
    newest = sorted(folder.checkpoints.iterdir())[-1]
    (newest / "tensors.safetensors").write_bytes(b"")
    view = QuietView()
    assert resume(folder, view=view).finished
    assert any(newest.name in e and "tensors.safetensors" in e for e in view.events)
    assert (folder.checkpoints / f"bad-{newest.name}").is_dir()
    assert end_of(folder) == whole


def test_if_no_checkpoint_is_whole_nothing_is_changed() -> None:
    folder, _ = start("run", experiment(checkpoint_steps=4), stop_after=9)
    for file in folder.checkpoints.glob("*/state.json"):
        file.write_bytes(b"")
    before = {p: c for p, c in content_of(folder).items() if p.name not in ("env.json", "lock")}
    with pytest.raises(RlabError, match="is whole; nothing was changed"):
        resume(folder)
    assert {p: c for p, c in content_of(folder).items() if p.name not in ("env.json", "lock")} == before


def test_an_edited_configuration_is_refused_by_field() -> None:
    folder, _ = start("run", experiment(checkpoint_steps=4), stop_after=9)
    path = folder.path / "config.json"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"total": 24', b'"total": 30'))
    before = {p: c for p, c in content_of(folder).items() if p.name not in ("env.json", "lock")}
    with pytest.raises(RlabError, match=r"config\.json says total 30, its checkpoint 24; put the old value back"):
        resume(folder)
    assert {p: c for p, c in content_of(folder).items() if p.name not in ("env.json", "lock")} == before
    path.write_bytes(whole)
    assert resume(folder).finished


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"sessions": 3}', b'{"sessions": [{}]}', b"\xff"])
def test_a_damaged_env_json_is_set_aside_and_stops_nobody(
    damage: bytes, whole: tuple[str, list[dict[str, Any]]]
) -> None:
    folder, _ = start("run", experiment(checkpoint_steps=4), stop_after=9)
    (folder.path / "env.json").write_bytes(damage)
    view = QuietView()
    assert resume(folder, view=view).finished
    assert end_of(folder) == whole
    assert any("env.json" in e or "not bit-exact" in e for e in view.events)
    assert folder.environment()["sessions"][-1]["threads"] == 1
    if damage != b'{"sessions": [{}]}':
        assert (folder.path / "env-bad.json").read_bytes() == damage


def test_a_damaged_log_is_set_aside_and_the_run_ends_in_the_same_state(whole: tuple[str, list[dict[str, Any]]]) -> None:
    folder, _ = start("run", experiment(checkpoint_steps=4), stop_after=9)
    damaged = folder.metrics.read_bytes().replace(b'"step": 10', b'"step"; 10')
    folder.metrics.write_bytes(damaged)
    view = QuietView()
    assert resume(folder, view=view).finished
    assert digest_of(folder) == whole[0]
    assert rows_of(folder) == [r for r in whole[1] if r["step"] != 10]
    assert (folder.path / "metrics-bad.jsonl").read_bytes() == damaged
    assert sum("metrics.jsonl" in e for e in view.events) == 1


def test_a_number_that_is_none_keeps_the_last_good_checkpoint() -> None:
    good, _ = start("good", experiment(), stop_after=6)
    kept = digest_of(good)
    with pytest.raises(NonFinite, match="loss became nan at 14 units") as error:
        start("run", experiment(nan_at=13, checkpoint_steps=4))
    assert error.value.quantity == "loss"
    folder = RunFolder(runs_dir() / "run")
    assert digest_of(folder) == kept
    assert max(r["step"] for r in rows_of(folder)) <= 12
    with pytest.raises(NonFinite, match="at 14 units"):
        resume(folder)
    assert digest_of(folder) == kept


def test_saves_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now[0]

    class Ticking(QuietView):
        def show(self, progress: Any, metrics: Any) -> None:
            now[0] += 31

    monkeypatch.setattr(loop, "time", Clock)
    view = Ticking()
    life.start_run("fake", experiment(checkpoint_minutes=1.0), "run", Stop(), view, lambda c, f, d: c)
    saved = [e for e in view.events if e.startswith("checkpoint")]
    assert saved == [f"checkpoint at {n} units" for n in (4, 8, 12, 16, 20)]


def test_seconds_add_up_over_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    class Clock:
        @staticmethod
        def monotonic() -> float:
            now[0] += 0.5
            return now[0]

    monkeypatch.setattr(loop, "time", Clock)
    folder, first = start("run", experiment(), stop_after=5)
    began = now[0]
    second = resume(folder)
    assert first.seconds > 0
    assert first.seconds < second.seconds <= first.seconds + now[0] - began


@pytest.mark.parametrize("limit", [300, 900])
def test_a_disk_that_fills_up_is_one_sentence(limit: int, whole: tuple[str, list[dict[str, Any]]]) -> None:
    folder, _ = start("run", experiment(), stop_after=6)
    before = digest_of(folder)
    with file_size_limit(limit), pytest.raises(RlabError, match="cannot write under") as error:
        resume(folder)
    assert "\n" not in str(error.value)
    assert digest_of(folder) == before
    assert resume(folder).finished
    assert end_of(folder) == whole


def test_a_run_that_cannot_start_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    for prepare in (lambda c, f, d: 1 / 0, lambda c, f, d: (_ for _ in ()).throw(Stopped())):
        with pytest.raises((ZeroDivisionError, Stopped)):
            life.start_run("fake", experiment(), "run", Stop(), QuietView(), prepare)
        assert list(runs_dir().iterdir()) == []
    monkeypatch.setattr(Fake, "footprint", lambda self, stop: life.Footprint(10**18, 0, 0))
    with pytest.raises(RlabError, match=r"needs 1000000000\.0 GB of memory"):
        start("run", experiment())
    monkeypatch.setattr(Fake, "footprint", lambda self, stop: life.Footprint(0, 0, 10**18))
    with pytest.raises(RlabError, match="RLAB_RUNS"):
        start("run", experiment())
    assert list(runs_dir().iterdir()) == []


def test_opening_a_run_changes_nothing_in_it() -> None:
    folder, _ = start("run", experiment(checkpoint_steps=4), stop_after=9)
    (folder.journal / "rows-000000009999-000000010000.npz").write_bytes(b"left by a kill")
    before = content_of(folder)
    with life.open_run(folder) as run:
        assert run.saved is not None
        run.learner.restore(run.saved.state, Stop())
        checkpoint.digest(run.learner.state())
    assert content_of(folder) == before


def test_a_run_that_is_held_is_not_resumed() -> None:
    folder, _ = start("run", experiment(), stop_after=3)
    lock = folder.lock()
    before = content_of(folder)
    with pytest.raises(RlabError, match=f"held by process {os.getpid()}"):
        resume(folder)
    assert content_of(folder) == before
    lock.release()
    assert resume(folder).finished


def test_no_thread_is_left_behind() -> None:
    before = set(threading.enumerate())
    start("run", experiment(checkpoint_steps=4))
    with pytest.raises(NonFinite):
        start("bad", experiment(nan_at=13, checkpoint_steps=4))
    assert [thread.name for thread in threading.enumerate() if thread not in before] == []


# Signals -------------------------------------------------------------------------------------------------------


def test_signals_only_ask_and_handlers_are_put_back() -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    with stop_on_signals(Stop()) as stop:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert (stop.requested, stop.reason) == (True, "SIGTERM")
    assert {n: signal.getsignal(n) for n in before} == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_while_saving_do_not_spoil_the_save(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, whole: tuple[str, list[dict[str, Any]]]
) -> None:
    """At every call by which a save changes the disk, twice."""
    hit: Counter[str] = Counter()

    def wrap(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **more: Any) -> Any:
            hit[name] += 1
            os.kill(os.getpid(), number)
            result = call(*arguments, **more)
            os.kill(os.getpid(), number)
            return result

        return wrapped

    with pytest.MonkeyPatch.context() as patch, stop_on_signals(Stop()) as stop:
        save = Checkpoints.save

        def armed(self: Checkpoints, *arguments: Any) -> Path:
            with pytest.MonkeyPatch.context() as inner:
                for owner, name in ((os, "fsync"), (os, "rename"), (checkpoint, "save_file")):
                    inner.setattr(owner, name, wrap(name, getattr(owner, name)))
                return save(self, *arguments)

        patch.setattr(Checkpoints, "save", armed)
        folder, outcome = life.start_run(
            "fake", experiment(checkpoint_steps=6), "run", stop, QuietView(), lambda c, f, d: c
        )
    assert set(hit) == {"fsync", "rename", "save_file"}
    assert (outcome.finished, outcome.done, stop.reason) == (False, 6, number.name)
    assert resume(folder).finished
    assert end_of(folder) == whole


# Killed, in a process of its own -------------------------------------------------------------------------------

KILLED = {"total": 240, "checkpoint_steps": 6, "evaluate_steps": 80, "sleep": 0.004}


def fake_process(spawn: Spawn, **settings: Any) -> subprocess.Popen[str]:
    """One that has begun to work."""
    process = spawn(
        *(sys.executable, "-W", "error", "-m", "tests.run.fake", "killed", json.dumps(KILLED | settings)),
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    return process


def test_killed_at_random_times_and_resumed_is_the_same_run(spawn: Spawn) -> None:
    straight, _ = start("straight", experiment(**(KILLED | {"sleep": 0.0})))
    rng, kills, at = random.Random(int.from_bytes(os.urandom(4))), 0, []
    while True:
        process = fake_process(spawn)
        pause = rng.uniform(0, 0.45)
        if kills < 4:
            time.sleep(pause)
            process.kill()
        out, err = process.communicate(timeout=LONGEST)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, err
        kills += 1
        at.append(pause)
    told = json.loads(out)
    assert told["finished"]
    assert not [e for e in told["events"] if "bad" in e], at
    folder = RunFolder(runs_dir() / "killed")
    assert end_of(folder) == end_of(straight), at
    assert kills > 0


def test_signals_in_a_process_save_and_leave_without_a_traceback(spawn: Spawn) -> None:
    folder = RunFolder(runs_dir() / "killed")
    process = fake_process(spawn, total=1_000_000)
    until(lambda: folder.path.is_dir() and newest_checkpoint(folder) is not None, process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=LONGEST)  # it would go on for an hour
    assert (process.returncode, err) == (0, "")
    told = json.loads(out)
    saved = life.read_newest(folder)
    assert saved is not None
    assert (told["finished"], saved.done) == (False, told["done"])


@pytest.mark.parametrize("begun", [False, True])
def test_foreign_code_is_left_while_nothing_is_begun(begun: bool) -> None:
    """No handler of Python runs while another library computes; a thread hears of the signal."""
    code = """
import hashlib, os, signal, sys, threading
from rlab.run import signals
from rlab.run.contract import Stop

signals.GRACE = 0.1
stop, begun = Stop(), sys.argv[1] == "True"
stop.undo = None if begun else lambda: print("undone", flush=True)
with signals.stop_on_signals(stop, lambda number: os._exit(100 + number)):
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    hashlib.pbkdf2_hmac("sha512", b"", b"", 1_000_000 if begun else 1_000_000_000)
print(stop.reason)
"""
    done = subprocess.run([sys.executable, "-c", code, str(begun)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == ((0, "SIGINT\n") if begun else (102, "undone\n")), done.stderr
