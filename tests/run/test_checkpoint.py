from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.errors import RlabError
from rlab.run import checkpoint as module
from rlab.run import journal as journal_module
from rlab.run.checkpoint import Checkpoints, digest
from rlab.run.files import to_json
from rlab.run.journal import Journal
from tests.run.test_journal import file_size_limit


class Rig:
    """A folder with checkpoints of a state that changes from save to save and whose log moves on."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.journal = Journal(folder / "journal")
        self.checkpoints = Checkpoints(folder / "checkpoints", self.journal)
        self.reports: list[str] = []
        self.count = 0
        self.rng = np.random.default_rng(0)

    def work(self, rows: int = 20) -> None:
        self.count += 1
        self.journal.append("rows", {"x": self.rng.integers(0, 256, (rows, 9), np.uint8)})

    def state(self, keep: int = 30) -> dict[str, Any]:
        end = self.journal.end("rows")
        return {
            "count": self.count,
            "rng": self.rng.bit_generator.state,
            "net": {"w.0": torch.full((3, 2), float(self.count)), "w.1": torch.arange(4)},
            "log": self.journal.log("rows", max(0, end - keep)),
        }

    def save(self, keep: int = 30) -> str:
        """Save, and return the digest of what was saved."""
        state = self.state(keep)
        self.checkpoints.save(state, {"note": self.count}, self.count)
        return digest(state)

    def load(self) -> str | None:
        """Load as a new process would, and return the digest."""
        self.reports = []
        journal = Journal(self.folder / "journal")
        saved = Checkpoints(self.folder / "checkpoints", journal).load_newest(self.reports.append)
        return None if saved is None else digest(saved.state)

    def segments_on_disk(self) -> set[str]:
        return {p.name for p in (self.folder / "journal").iterdir()}

    def segments_needed(self) -> dict[str, set[str]]:
        """Checkpoint -> names of the segments that its manifest points to."""
        needed = {}
        for path in self.checkpoints.paths():
            manifest = json.loads((path / "manifest.json").read_text())
            needed[path.name] = {f"{s['log']}-{s['start']:012d}-{s['end']:012d}.npz" for s in manifest["segments"]}
        return needed


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    with closing(rig.journal):
        yield rig


def same(a: Any, b: Any) -> None:
    assert type(a) is type(b) or (isinstance(a, tuple) and isinstance(b, list))
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, torch.Tensor):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert torch.equal(a, b) or bool(((a == b) | (a != a)).all())
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()
    else:
        assert a == b


LEAVES: dict[str, Any] = {
    "float": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
    "bf16": torch.tensor([1.5, float("inf"), -0.0], dtype=torch.bfloat16),
    "half": torch.tensor([1.5, float("nan")], dtype=torch.float16),
    "double": torch.tensor([[1e300]], dtype=torch.float64),
    "zero-dim": torch.tensor(7),
    "empty": torch.empty(0, 5),
    "bool": torch.tensor([True, False]),
    "bytes": torch.arange(256, dtype=torch.uint8),
    "transposed": torch.arange(12).reshape(3, 4).T,
    "strided": torch.arange(12.0)[1::3],
    "expanded": torch.tensor([1.0]).expand(4, 4),
    "grad": torch.ones(2, requires_grad=True),
    "array": np.arange(6, dtype=np.int64).reshape(2, 3),
    "array zero-dim": np.array(5),
    "array empty": np.zeros((0, 3), np.float32),
    "array bool": np.array([[True], [False]]),
    "array reversed": np.arange(5)[::-1],
    "array fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "array read-only": np.broadcast_to(np.float32(3), (2, 2)),
    "array unsigned": np.array([2**64 - 1], np.uint64),
    "array 16": np.array([65535], np.uint16),
    "numpy generator": np.random.default_rng(3).bit_generator.state,
    "int": -(2**127) - 1,
    "floats": [0.1, 1e-320, -0.0, 1.0, 5e300],
    "text": "ε \n \udc80",
    "nothing": None,
    "true": True,
    "nested": [[1, [2, {"a": [torch.tensor([3])]}]], [], {}],
    "tuple": (1, (2, np.array([3]))),
}


@pytest.mark.parametrize("leaf", LEAVES)
def test_every_leaf_comes_back_as_it_was(rig: Rig, leaf: str) -> None:
    state = {"leaf": LEAVES[leaf], "beside": {"leaf": 1}}
    before = digest(state)
    saved = rig.checkpoints.load(rig.checkpoints.save(state, {"a": [1, None]}, 7))
    same(state, saved.state)
    assert digest(saved.state) == before
    assert (saved.loop, saved.done) == ({"a": [1, None]}, 7)


def test_tensors_begin_where_torchs_own_begin(rig: Rig) -> None:
    """At a multiple of 64 bytes: what a product rounds to may depend on it."""
    path = rig.checkpoints.save({str(k): torch.ones(2 * k + 1) for k in range(9)} | {"array": np.ones(3)}, {}, 0)
    state = rig.checkpoints.load(path).state
    assert state.pop("array").ctypes.data % 64 == 0
    assert {tensor.data_ptr() % 64 for tensor in state.values()} == {0}


def test_tensors_that_share_memory_are_saved_each_for_itself(rig: Rig) -> None:
    base = torch.arange(10.0)
    state = {"all": base, "again": base, "head": base[:3], "tail": base[4:], "array": base.numpy()}
    saved = rig.checkpoints.load(rig.checkpoints.save(state, {}, 0))
    same(state, saved.state)


def test_keys_that_look_like_marks_come_back(rig: Rig) -> None:
    state = {"score": {"$5": 1.0, "$$5": 2.0, "$tensor": "x", "$log": {"$array": torch.ones(2)}, "5$": None}}
    same(state, rig.checkpoints.load(rig.checkpoints.save(state, {}, 0)).state)


@pytest.mark.parametrize(
    "state",
    [
        {"x": {1: 2}},
        {"x": {1, 2}},
        {"x": object()},
        {"x": np.array([print], dtype=object)},
        {"x": np.int64(3)},
        {"a.b": torch.ones(1), "a": {"b": torch.zeros(1)}},
    ],
    ids=lambda s: str(type(s)),
)
def test_what_would_not_come_back_is_refused_at_once(rig: Rig, state: dict[str, Any]) -> None:
    rig.work()
    before = rig.save()
    with pytest.raises((TypeError, ValueError)):
        rig.checkpoints.save(state, {}, 1)
    assert rig.load() == before
    assert [p.name for p in rig.checkpoints.folder.iterdir()] == ["000001"]


def test_a_log_can_stand_in_a_state_once_only(rig: Rig) -> None:
    rig.work()
    with pytest.raises(ValueError, match="twice"):
        rig.checkpoints.save({"a": rig.journal.log("rows", 0), "b": rig.journal.log("rows", 10)}, {}, 1)


def test_the_digest_does_not_know_how_rows_were_cut_into_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = set()
    for number, size in enumerate((1, 50, 1000, 1 << 20)):
        monkeypatch.setattr(journal_module, "SEGMENT_BYTES", size)
        rig = Rig(tmp_path / str(number))
        for n in (1, 30, 7):
            rig.work(n)
            if number % 2:
                rig.journal.flush()
        digests.add(rig.save())
        assert rig.load() in digests
        rig.journal.close()
    assert len(digests) == 1


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_digest_sees_every_bit(data: st.DataObject) -> None:
    def leaves() -> dict[str, np.ndarray]:
        return {
            "tensor": np.arange(6, dtype=np.float32),
            "array": np.arange(6, dtype=np.int16),
            "row": np.arange(12, dtype=np.uint8).reshape(4, 3),
            "int": np.array([5], np.int64),
        }

    def of(parts: dict[str, np.ndarray]) -> str:
        with tempfile.TemporaryDirectory() as tmp, closing(Journal(Path(tmp))) as journal:
            journal.append("log", {"x": parts["row"]})
            return digest(
                {
                    "tensor": torch.from_numpy(parts["tensor"]),
                    "array": parts["array"],
                    "int": int(parts["int"][0]),
                    "log": journal.log("log", 0),
                }
            )

    changed = leaves()
    name = data.draw(st.sampled_from(sorted(changed)))
    flat = changed[name].view(np.uint8).reshape(-1)
    flat[data.draw(st.integers(0, flat.size - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert of(leaves()) != of(changed)


def test_the_digest_tells_shapes_types_and_names_apart() -> None:
    states: list[dict[str, Any]] = [
        {"a": torch.zeros(4)},
        {"b": torch.zeros(4)},
        {"a": torch.zeros(2, 2)},
        {"a": torch.zeros(4, dtype=torch.int32)},
        {"a": np.zeros(4, np.float32)},
        {"a": [0.0, 0.0, 0.0, 0.0]},
        {"a": [0, 0, 0, 0]},
        {"a": {"a": torch.zeros(4)}},
        {"a": -torch.zeros(4)},
    ]
    assert len({digest(s) for s in states}) == len(states)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_three_are_kept_and_segments_go_when_nobody_points_to_them(rig: Rig) -> None:
    digests, start = [], 0
    for n in range(12):
        rig.work(int(rig.rng.integers(0, 25)))
        start = int(rig.rng.integers(start, rig.journal.end("rows") + 1))
        digests.append(rig.save(keep=rig.journal.end("rows") - start))
        needed = rig.segments_needed()
        assert list(needed) == [f"{i:06d}" for i in range(max(1, n - 1), n + 2)]
        assert rig.segments_on_disk() == set().union(*needed.values())
        for path, expected in zip(reversed(rig.checkpoints.paths()), reversed(digests), strict=False):
            assert digest(Checkpoints(rig.checkpoints.folder, Journal(rig.journal.folder)).load(path).state) == expected


def test_a_checkpoint_costs_what_is_new(rig: Rig) -> None:
    rig.work(1000)
    rig.save(keep=10**9)
    before = {p: p.stat().st_mtime_ns for p in rig.journal.folder.iterdir()}
    rig.work(10)
    rig.save(keep=10**9)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(rig.segments_on_disk()) == len(before) + 1


def test_a_save_is_seen_only_when_all_of_it_is_on_disk(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    at_rename: list[set[str]] = []
    fsync, rename = os.fsync, os.rename

    def record_fsync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    def record_rename(a: Path, b: Path) -> None:
        at_rename.append(set(synced))
        rename(a, b)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "rename", record_rename)
    rig.work()
    rig.checkpoints.save(rig.state(), {}, 1)
    part = rig.checkpoints.folder / ".000001.tmp"
    (seen,) = at_rename
    names = {str(part / n) for n in ("tensors.safetensors", "state.json", "manifest.json")}
    assert names | {str(part), str(rig.journal.folder), str(rig.journal.folder / ".rows.npz.tmp")} <= seen
    assert synced[-1] == str(rig.checkpoints.folder)


# Damage --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rig, list[str]]:
    """Three checkpoints of which the newest needs a segment that the others do not."""
    rig = Rig(tmp_path_factory.mktemp("damaged"))
    digests = []
    for _ in range(3):
        rig.work()
        digests.append(rig.save())
    rig.journal.close()
    return rig, digests


def check_damage(rig: Rig, digests: list[str], file: Path) -> None:
    """Each checkpoint that needs `file` is reported by the file's name, and the newest other one is used."""
    needed = rig.segments_needed() if file.parent.name == "journal" else {}
    hit = [
        name for name in ("000001", "000002", "000003") if file.parent.name == name or file.name in needed.get(name, ())
    ]
    whole = [i for i in range(3) if f"{i + 1:06d}" not in hit]
    if whole and hit:
        assert rig.load() == digests[whole[-1]]
    elif hit:
        with pytest.raises(RlabError, match="nothing was changed"):
            rig.load()
    reported = [name for name in hit if not whole or name > f"{whole[-1] + 1:06d}"]
    assert len(rig.reports) == len(reported)
    for report in rig.reports:
        assert str(file) in report
        assert "\n" not in report


def files_of(rig: Rig) -> list[Path]:
    newest = rig.checkpoints.paths()[-1]
    return [
        *sorted(newest.iterdir()),
        *(rig.journal.folder / n for n in sorted(rig.segments_needed()[newest.name])),
    ]


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_a_flipped_byte_anywhere_is_found_and_named(damaged: tuple[Rig, list[str]], data: st.DataObject) -> None:
    rig, digests = damaged
    file = data.draw(st.sampled_from(files_of(rig)))
    content = file.read_bytes()
    position = data.draw(st.integers(0, len(content) - 1))
    flip = data.draw(st.integers(1, 255))
    needed = rig.segments_needed()  # before the manifest itself is damaged
    try:
        file.write_bytes(content[:position] + bytes([content[position] ^ flip]) + content[position + 1 :])
        if file.parent.name == "journal":
            check_damage(rig, digests, file)
        else:
            assert rig.load() == digests[1]
            (report,) = rig.reports
            assert str(file) in report
    finally:
        file.write_bytes(content)
    assert rig.segments_needed() == needed
    assert rig.load() == digests[2]


def test_every_truncation_is_found_and_named(damaged: tuple[Rig, list[str]]) -> None:
    rig, digests = damaged
    for file in files_of(rig):
        content = file.read_bytes()
        for size in {0, 1, len(content) // 2, len(content) - 1}:
            try:
                file.write_bytes(content[:size])
                if file.parent.name == "journal":
                    check_damage(rig, digests, file)
                else:
                    assert rig.load() == digests[1]
                    assert str(file) in rig.reports[0]
            finally:
                file.write_bytes(content)


def test_a_missing_or_unreadable_file_is_found_and_named(damaged: tuple[Rig, list[str]]) -> None:
    rig, digests = damaged
    for file in files_of(rig):
        content = file.read_bytes()
        file.unlink()
        try:
            for stand_in in (False, True):  # nothing there, then a folder of that name
                if stand_in:
                    file.mkdir()
                if file.parent.name == "journal":
                    check_damage(rig, digests, file)
                else:
                    assert rig.load() == digests[1]
                    assert str(file) in rig.reports[0]
        finally:
            file.rmdir()
            file.write_bytes(content)


def test_after_damage_the_run_goes_on_from_the_one_before(rig: Rig) -> None:
    digests = []
    for _ in range(4):
        rig.work()
        digests.append(rig.save())
    rig.journal.close()
    (rig.checkpoints.paths()[-1] / "state.json").write_bytes(b"{}")
    journal = Journal(rig.journal.folder)
    again = Checkpoints(rig.checkpoints.folder, journal)
    saved = again.load_newest(rig.reports.append)
    assert saved is not None
    assert saved.path.name == "000003"
    again.discard_after(saved)
    assert sorted(p.name for p in again.folder.iterdir()) == ["000002", "000003", "bad-000004"]
    assert digest(saved.state) == digests[2]
    assert rig.segments_on_disk() == set().union(*rig.segments_needed().values())
    with closing(journal):
        journal.append("rows", {"x": np.zeros((5, 9), np.uint8)})
        again.save(saved.state | {"log": journal.log("rows", 30)}, {}, 9)
        assert sorted(p.name for p in again.folder.iterdir()) == ["000002", "000003", "000004", "bad-000004"]
        for _ in range(3):
            again.save(saved.state | {"log": journal.log("rows", 30)}, {}, 9)
    assert sorted(p.name for p in again.folder.iterdir()) == ["000005", "000006", "000007"]  # the bad one went as well
    assert rig.load() is not None
    assert rig.reports == []


@pytest.mark.parametrize("schema", [0, 1, 3, "2", None])
def test_another_schema_is_refused_by_name(rig: Rig, schema: Any) -> None:
    rig.work()
    rig.save()
    file = rig.checkpoints.paths()[0] / "manifest.json"
    file.write_bytes(to_json(json.loads(file.read_bytes()) | {"schema": schema}))
    with pytest.raises(RlabError, match=f"schema {schema}; this rlab reads 2"):
        rig.checkpoints.load(rig.checkpoints.paths()[0])
    for nonsense in (b"[]", b"null", b"{}", b"\xff", b""):
        file.write_bytes(nonsense)
        with pytest.raises(RlabError, match=r"manifest\.json"):
            rig.checkpoints.load(rig.checkpoints.paths()[0])


# A crash at any point ------------------------------------------------------------------------------------------


class Crash(BaseException):
    """Like KeyboardInterrupt: nobody catches it on the way."""


POINTS: list[tuple[Any, str]] = [
    (os, "fsync"),
    (os, "rename"),
    (os, "replace"),
    (os, "unlink"),
    (os, "mkdir"),
    (module, "save_file"),
    (module, "write_durably"),
    (journal_module, "save_segment"),
    (shutil, "rmtree"),  # the last: by itself it swallows a disk's errors
]
"""Every call by which a save changes the disk."""


class Tripwire:
    """Counts the calls of all POINTS, and lets the k-th do `action` before or after its work."""

    def __init__(self, patch: pytest.MonkeyPatch, k: int, action: Callable[[], None], after: bool, hard: bool):
        self.calls = 0
        for owner, name in POINTS if hard else POINTS[:-1]:
            patch.setattr(owner, name, self.wrap(getattr(owner, name), k, action, after))

    def wrap(self, call: Any, k: int, action: Callable[[], None], after: bool) -> Any:
        def wrapped(*arguments: Any, **more: Any) -> Any:
            self.calls += 1
            mine = self.calls == k
            if mine and not after:
                action()
            result = call(*arguments, **more)
            if mine:
                action()
            return result

        return wrapped


def old_run(folder: Path) -> tuple[Rig, str]:
    """Four saves, so that the next one also lets go of a checkpoint and of segments."""
    rig = Rig(folder)
    for _ in range(4):
        rig.work()
        before = rig.save()
    rig.work()
    return rig, before


def go_on(rig: Rig, allowed: set[str]) -> None:
    """The folder loads without a word, and a run can go on in it."""
    assert rig.load() in allowed
    assert rig.reports == []
    with closing(Journal(rig.journal.folder)) as journal:
        checkpoints = Checkpoints(rig.checkpoints.folder, journal)
        saved = checkpoints.load_newest(rig.reports.append)
        checkpoints.discard_after(saved)
        assert saved is not None
        journal.append("rows", {"x": np.zeros((20, 9), np.uint8)})
        state = saved.state | {"log": journal.log("rows", journal.end("rows") - 30)}
        checkpoints.save(state, {}, 99)
        after = digest(state)
    assert rig.load() == after
    assert len(checkpoints.paths()) == 3
    assert [p.name for p in checkpoints.folder.iterdir() if not p.name.isdigit()] == []
    assert rig.segments_on_disk() == set().union(*rig.segments_needed().values())


def no_space() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def crash() -> None:
    raise Crash


def expected_after(folder: Path) -> str:
    """What a save that comes through leaves."""
    rig, _ = old_run(folder)
    with closing(rig.journal):
        return digest(rig.state())


@pytest.mark.parametrize("action", [no_space, crash])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_error_at_any_point_of_a_save_leaves_a_folder_that_loads(
    tmp_path: Path, action: Callable[[], None], after: bool
) -> None:
    new = expected_after(tmp_path / "0")
    for k in range(1, 100):
        rig, old = old_run(tmp_path / str(k))
        allowed, raised = {new}, None
        with pytest.MonkeyPatch.context() as patch:
            wire = Tripwire(patch, k, action, after, hard=action is crash)
            try:
                rig.checkpoints.save(rig.state(), {}, 5)
            except (RlabError, Crash) as e:
                allowed, raised = {old, new}, e
        if isinstance(raised, RlabError):
            assert "No space left on device" in str(raised)
            assert "\n" not in str(raised)
        rig.journal.close()
        go_on(rig, allowed)
        shutil.rmtree(rig.folder)
        if wire.calls < k:  # the save came to its end
            break
    assert k > 12


@pytest.mark.parametrize("torn", [False, True], ids=["between", "torn"])
def test_a_kill_at_any_point_of_a_save_leaves_a_folder_that_loads(tmp_path: Path, torn: bool) -> None:
    """A forked child dies as by SIGKILL at its k-th call, for every k; torn: with half of the file written."""
    new = expected_after(tmp_path / "0")
    base, old = old_run(tmp_path / "base")
    base.journal.close()
    for k in range(1, 100):
        folder = tmp_path / str(k)
        pid = os.fork()
        if pid == 0:
            try:
                rig, _ = old_run(folder)
                with pytest.MonkeyPatch.context() as patch:
                    if torn:
                        tear(patch, k)
                    else:
                        Tripwire(patch, k, lambda: os._exit(9), after=False, hard=True)
                    rig.checkpoints.save(rig.state(), {}, 5)
            finally:
                os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        rig = Rig(folder)
        go_on(rig, {old, new} if status == 9 else {new})
        shutil.rmtree(folder)
        if status != 9:
            break
    assert k > (3 if torn else 10)


def tear(patch: pytest.MonkeyPatch, k: int) -> None:
    """Exit in the middle of the k-th file's content."""
    calls = [0]

    def half(path: Path) -> None:
        calls[0] += 1
        if calls[0] == k:
            os.truncate(path, path.stat().st_size // 2)
            os._exit(9)

    def wrap(call: Any, at: int) -> Any:
        def wrapped(*arguments: Any) -> None:
            call(*arguments)
            half(Path(arguments[at]))

        return wrapped

    patch.setattr(module, "save_file", wrap(module.save_file, 1))
    patch.setattr(module, "write_durably", wrap(module.write_durably, 0))
    patch.setattr(journal_module, "save_segment", wrap(journal_module.save_segment, 0))


@pytest.mark.parametrize("limit", [0, 200, 700, 3_000])
def test_a_full_disk_leaves_the_older_checkpoints_as_they_were(rig: Rig, limit: int) -> None:
    for _ in range(3):
        rig.work()
        before = rig.save()
    content = {p: p.read_bytes() for p in rig.folder.rglob("*") if p.is_file()}
    rig.work(1000)
    with file_size_limit(limit), pytest.raises(RlabError) as error:
        rig.checkpoints.save(rig.state(1000), {}, 1)
    assert "\n" not in str(error.value)
    assert str(rig.folder) in str(error.value)
    assert {p: p.read_bytes() for p in rig.folder.rglob("*") if p.is_file()} == content
    assert rig.load() == before


@pytest.mark.parametrize("limit", [50, 200])
def test_a_full_disk_under_the_tensors_is_told_too(rig: Rig, limit: int) -> None:
    rig.checkpoints.save({"a": 1}, {}, 1)
    with file_size_limit(limit), pytest.raises(RlabError, match="cannot write under") as error:
        rig.checkpoints.save({"x": torch.zeros(100)}, {}, 2)
    assert "\n" not in str(error.value)
    assert [p.name for p in rig.checkpoints.folder.iterdir()] == ["000001"]
