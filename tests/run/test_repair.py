"""What damage, an editor or a kill leaves of a run: told in a sentence, put right by a repair, and nothing is lost."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlab.compare.sweep import define, find_sweep, jobs_of, open_or_create
from rlab.errors import RlabError
from rlab.run import files
from rlab.run import folder as folders
from rlab.run import lifecycle as life
from rlab.run.files import read_json, scratch_folder, to_json
from rlab.run.folder import RunFolder, all_runs, create_run, find_run, runs_dir
from rlab.run.metrics import read_metrics
from rlab.run.provenance import differences
from rlab.run.repair import repair
from rlab.run.report import report_html
from rlab.run.status import overview
from tests.run.fake import digest_of, experiment, resume, rows_of, start
from tests.run.test_checkpoint import Tripwire

End = tuple[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> End:
    """What the run comes to that nothing happens to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLAB_RUNS", str(tmp_path_factory.mktemp("whole")))
        folder, _ = start("whole", experiment(checkpoint_steps=6))
        return digest_of(folder), rows_of(folder)


@pytest.fixture
def run() -> RunFolder:
    return start("run", experiment(checkpoint_steps=6), stop_after=9)[0]


def put(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        (run / name).write_bytes(change((run / name).read_bytes() if (run / name).exists() else b""))

    return damage


DAMAGE = {
    "config.json is gone": lambda run: (run / "config.json").unlink(),
    "config.json is empty": put("config.json", lambda old: b""),
    "config.json is cut off": put("config.json", lambda old: old[:90]),
    "config.json names a recipe that is none": put("config.json", lambda old: old.replace(b'"fake",', b'"fakf",')),
    "config.json is edited": put("config.json", lambda old: old.replace(b'"stride": 2', b'"stride": 4')),
    "metrics.jsonl goes on": put("metrics.jsonl", lambda old: old + b'{"kind": "train", "step": 99}\n'),
    "metrics.jsonl has a bad line": put("metrics.jsonl", lambda old: old + b"\x00\x00\n"),
    "env.json is damaged": put("env.json", lambda old: b'{"sessions": [{"started": 1e300}]}'),
    "evaluation.json is damaged": put("evaluation.json", lambda old: b'{"schema": 1, "step": "x"}'),
    "config.json was never finished": put(".config.json.tmp", lambda old: b"{"),
    "a checkpoint was never finished": lambda run: (run / "checkpoints" / ".000009.tmp").mkdir(),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_repaired_run_goes_on_as_if_nothing_was(what: str, run: RunFolder, whole: End) -> None:
    DAMAGE[what](run.path)
    before = {p.read_bytes() for p in run.path.rglob("*") if p.is_file()} - {str(os.getpid()).encode()}
    said: list[str] = []
    assert repair(find_run("run"), said.append) > 0
    assert any(what.split()[0].removesuffix("a") in text or "never finished" in text for text in said)
    assert before <= {p.read_bytes() for p in run.path.rglob("*") if p.is_file()}
    assert repair(run, said.append) == 0
    assert resume(run).finished
    assert (digest_of(run), rows_of(run)) == whole


def test_finished_run_gets_its_evaluation_again(whole: End) -> None:
    run, _ = start("run", experiment(checkpoint_steps=6))
    wanted = run.evaluation.read_bytes()
    run.evaluation.write_bytes(wanted[:30])
    assert repair(run, lambda text: None) == 2
    assert run.evaluation.read_bytes() == wanted


def test_repair_without_a_whole_checkpoint_changes_nothing(run: RunFolder) -> None:
    for path in run.checkpoints.glob("*/state.json"):
        path.write_bytes(b"")
    (run.path / "config.json").write_bytes(b"{")
    said: list[str] = []
    with pytest.raises(RlabError, match="no whole checkpoint holds another"):
        repair(run, said.append)
    assert all("is bad" in text for text in said)
    assert (run.path / "config.json").read_bytes() == b"{"


def test_repair_leaves_a_run_that_is_held(run: RunFolder) -> None:
    lock = run.lock()
    with pytest.raises(RlabError, match=f"held by process {os.getpid()}"):
        repair(run, print)
    lock.release()


# Damage is told, never a traceback -----------------------------------------------------------------------------------

VALUES: list[Any] = [None, [], {}, "x", -1, 0.5, True, 10**200, [[1]], {"a": {"b": 1}}]
TEXTS = [
    *(b"", b"{", b"[]", b"null", b"\xff\xfe", b"NaN", b'{"schema": 1e999}', b'{"schema": 1, "schema": 1}'),
    *(b'{"schema": 1' + b"0" * 400 + b"}", b'{"a": "\\ud800"}', b"[" * 100_000),
]


def whoever_reads(run: RunFolder, *more: Callable[[RunFolder], Any]) -> None:
    """What the verbs do with a run before they know that it is whole."""
    for look in (overview, lambda run: report_html(run, {}), lambda run: list(read_metrics(run.metrics)), *more):
        said = ""
        with contextlib.suppress(RlabError):
            try:
                look(run)
            except RlabError as e:
                said = str(e)
                raise
        assert "\n" not in said
        assert len(said) < 1000
    all_runs()


@pytest.mark.parametrize("name", ["config.json", "env.json", "evaluation.json", "metrics.jsonl"])
def test_damaged_json_is_one_sentence(name: str, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for drawing in ("_returns_svg", "_curve_svg"):
        monkeypatch.setattr(f"rlab.run.report.{drawing}", lambda *args: "")
    monkeypatch.setattr(life, "describe_session", lambda *args: {})
    score = {"measure": "accuracy", "split": "test", "examples": 9, "per_class": {"a": 1.0}, "mean": 1.0}
    run.evaluation.write_bytes(to_json({"schema": 1, "step": 1, "low": 0.0, "high": 2.0} | score))
    path, kept = run.path / name, (run.path / name).read_bytes()
    document = json.loads(kept.splitlines()[-1] if name == "metrics.jsonl" else kept)
    for text in TEXTS:
        path.write_bytes(text + b"\n")
        whoever_reads(run, *([resume] if name == "config.json" else []))
    for key in document:
        for value in [*VALUES, "gone"]:
            wrong = {k: v for k, v in document.items() if k != key} | ({} if value == "gone" else {key: value})
            damaged = json.dumps(wrong).encode()
            path.write_bytes(kept + damaged + b"\n" + kept if name == "metrics.jsonl" else damaged)
            whoever_reads(run)
    with contextlib.suppress(RlabError):
        resume(run)


@pytest.mark.parametrize("place", ["manifest.json", "state.json", "tensors.safetensors"])
def test_older_whole_checkpoint_is_told_and_taken(place: str, run: RunFolder, whole: End) -> None:
    newest = sorted(run.checkpoints.glob("0*"))[-1]
    (newest / place).write_bytes((newest / place).read_bytes()[:-20].replace(b'"done": ', b'"done": 9'))
    if place != "tensors.safetensors":
        assert overview(run)["status"] == "stopped"
    assert resume(run).finished
    assert (digest_of(run), rows_of(run)) == whole


# Neighbours ----------------------------------------------------------------------------------------------------------


def unreadable(path: Path, patch: pytest.MonkeyPatch) -> None:
    """A folder that may not be looked into, for root as well."""
    path.mkdir()
    lstat = os.lstat

    def refuse(at: Any, *args: Any, **more: Any) -> os.stat_result:
        if Path(at).parent == path:
            raise PermissionError(13, "Permission denied", str(at))
        return lstat(at, *args, **more)

    patch.setattr(os, "lstat", refuse)


NEIGHBOURS: dict[str, Callable[[Path, pytest.MonkeyPatch], Any]] = {
    "unreadable": unreadable,
    "nested": lambda path, patch: (path.mkdir(), (path / "config.json").write_bytes(b"[" * 100_000)),
    "a pipe": lambda path, patch: (path.mkdir(), os.mkfifo(path / "config.json")),
    "endless": lambda path, patch: (path.mkdir(), (path / "config.json").symlink_to("/dev/zero")),
    "a folder": lambda path, patch: (path / "config.json").mkdir(parents=True),
    "of the year 10^300": lambda path, patch: (
        path.mkdir(),
        (path / "config.json").write_bytes(
            b'{"schema": 1, "recipe": "fake", "config": {}, "subject": {}, "unit": "units", "created": 1e300}'
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", NEIGHBOURS)
def test_bad_neighbour_is_named_and_breaks_nothing(what: str, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    NEIGHBOURS[what](runs_dir() / "bad", monkeypatch)
    assert [folder.name for folder in all_runs()] == ["bad", "run"]
    assert find_run("latest").name == find_run("run").name == "run"
    with pytest.raises(RlabError, match="nearest: bad"):
        find_run("bat")
    with pytest.raises(RlabError, match="bad"):
        overview(find_run("bad"))
    assert resume(run).finished


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "a/" * 3000, "\ud800"])
@pytest.mark.parametrize("find", [find_run, find_sweep])
def test_name_that_no_folder_can_have(name: str, find: Callable[[str], Any]) -> None:
    with pytest.raises(RlabError, match=r"no (run|sweep) '") as error:
        find(name)
    assert len(str(error.value)) < 400


# Kills and errors of a disk ------------------------------------------------------------------------------------------


def make_sweep() -> None:
    definition = define(["q-learning"], ["FrozenLake-v1"], [0], 1000)
    open_or_create("sweep", definition, jobs_of(definition), "named")


@pytest.mark.parametrize("make", [lambda: create_run("fake", {}, {}, "named"), make_sweep], ids=["run", "sweep"])
def test_kill_while_a_name_is_taken_leaves_it_free(make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SCRATCH_SECONDS", -1)
    make_sweep()
    (runs_dir() / "named" / "sweep.json").unlink()
    (runs_dir() / "named").rmdir()
    for k in range(1, 50):
        pid = os.fork()
        if pid == 0:
            with pytest.MonkeyPatch.context() as patch:
                Tripwire(patch, k, lambda: os._exit(9), after=False, hard=True)
                make()
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status == 0:
            break
        if not any((runs_dir() / "named").glob("*.json")):
            make()
        with scratch_folder(runs_dir()):
            pass  # what the kill has left is swept
        assert [p.name for p in runs_dir().iterdir()] == ["named"]
        assert [p.suffix for p in (runs_dir() / "named").iterdir()] == [".json"]
        for path in (runs_dir() / "named").iterdir():
            path.unlink()
        (runs_dir() / "named").rmdir()
    assert 3 < k < 49


def test_folder_of_somebody_else_is_not_taken() -> None:
    place = runs_dir() / "mine"
    place.mkdir(parents=True)
    (place / "weights.safetensors").write_text("years of work")
    with pytest.raises(RlabError, match="'mine' exists already"):
        create_run("fake", {}, {}, "mine")
    assert [p.name for p in runs_dir().iterdir()] == ["mine"]


def test_scratch_of_dead_processes_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SCRATCH_SECONDS", -1)
    pid = os.fork()
    if pid == 0:
        with scratch_folder(tmp_path) as left:
            (left / "file").write_text("")
            os._exit(0)
    os.waitpid(pid, 0)
    assert len(list(tmp_path.iterdir())) == 1
    with scratch_folder(tmp_path) as one, scratch_folder(tmp_path) as other:
        assert sorted(tmp_path.iterdir()) == sorted([one, other])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("calls", "times"), [(("open", "fsync", "write", "replace", "rename"), 1), (("fsync",), 3), (("open",), 4)]
)
def test_input_output_error_is_tried_again(
    calls: tuple[str, ...],
    times: int,
    run: RunFolder,
    whole: End,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(files, "RETRY_SECONDS", (0, 0, 0))
    fails = dict.fromkeys(calls, times)

    def failing(name: str) -> Callable[..., Any]:
        call = getattr(os, name)

        def fail(*args: Any, **more: Any) -> Any:
            if fails[name]:
                fails[name] -= 1
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return call(*args, **more)

        return fail

    for name in calls:
        monkeypatch.setattr(os, name, failing(name))
    if times > 3:
        with pytest.raises(RlabError, match="Input/output error"):
            resume(run)
        return
    assert resume(run).finished
    assert sum(fails.values()) == 0
    assert capsys.readouterr().err.count("Input/output error; trying again") == times * len(fails)
    assert (digest_of(run), rows_of(run)) == whole


# What a resume tells -------------------------------------------------------------------------------------------------


def test_what_differs_from_the_start_is_told_line_by_line(run: RunFolder) -> None:
    sessions = run.environment()["sessions"]
    now = sessions[0] | {"git": {"commit": "f" * 40, "dirty": True}, "python": "3.99", "threads": 7}
    now["packages"] = sessions[0]["packages"] | {"torch": "9.9"}
    lines = differences(sessions, now)
    assert [line.partition(" was ")[0].rpartition(": ")[2] for line in lines] == [
        "commit",
        "Python",
        "torch",
        "threads",
    ]
    assert lines[2].endswith("at the start, is 9.9")
    assert "is ffffffffffff with changes" in lines[0]
    assert [line[-30:] for line in differences([*sessions, now], sessions[0])][-1].endswith("in the last session, is 1")
    assert differences([], now) == differences(sessions, sessions[0]) == []


def test_edited_settings_are_told_to_readers(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    document = read_json(run.path / "config.json")
    document["config"]["fake"]["keep"] = 41
    (run.path / "config.json").write_bytes(to_json(document))
    with life.open_run(run) as opened:
        assert opened.saved is not None
    assert "says keep 41, its checkpoint 40; `rlab runs repair run` puts the old value back" in capsys.readouterr().err
    with pytest.raises(RlabError, match=r"its checkpoint 40, and does not fit it \(IndexError: "), life.open_run(run):
        [][0]  # as restoring what has other shapes
    (run.path / "config.json").write_bytes(b"")
    with pytest.raises(RlabError, match="; `rlab runs repair run` writes it anew from a checkpoint"):
        folders.find_run("run").config()
