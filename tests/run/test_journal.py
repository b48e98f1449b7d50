from __future__ import annotations

import errno
import os
import resource
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.errors import RlabError
from rlab.run import journal as module
from rlab.run.journal import Journal, load_segment


def make(start: int, n: int) -> dict[str, np.ndarray]:
    """Rows whose content says which they are."""
    number = np.arange(start, start + n, dtype=np.int64)
    pixels = (number[:, None] * 31 + np.arange(6)).astype(np.uint8).reshape(n, 2, 3)
    return {"number": number, "pixels": pixels, "flag": number % 3 == 0}


def check(journal: Journal, log: str, start: int, end: int) -> None:
    chunks = list(journal.read(log, start, end))
    expected = make(start, end - start)
    if start == end:
        assert sum(len(c["number"]) for c in chunks) == 0
        return
    for column, values in expected.items():
        got = np.concatenate([c[column] for c in chunks])
        assert got.dtype == values.dtype
        assert np.array_equal(got, values)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes: a write fails as on a full disk (EFBIG)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


Operation = st.one_of(
    st.tuples(st.just("append"), st.sampled_from("ab"), st.integers(0, 40)),
    st.tuples(st.just("flush")),
    st.tuples(st.just("read"), st.sampled_from("ab"), st.floats(0, 1), st.floats(0, 1)),
    st.tuples(st.just("drop"), st.sampled_from("ab"), st.floats(0, 1)),
    st.tuples(st.just("reopen")),
)


@settings(max_examples=60, deadline=None)
@given(operations=st.lists(Operation, max_size=14), segment_bytes=st.integers(1, 400))
def test_rows_come_back_as_they_were_appended(operations: list[Any], segment_bytes: int) -> None:
    """Against a plain model: each log is a range of numbers, of which a front part may have been let go."""
    ends, starts = {"a": 0, "b": 0}, {"a": 0, "b": 0}
    with tempfile.TemporaryDirectory() as tmp, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SEGMENT_BYTES", segment_bytes)
        journal = Journal(Path(tmp) / "journal")
        for operation, *arguments in operations:
            if operation == "append":
                log, n = arguments
                assert journal.append(log, make(ends[log], n)) == ends[log]
                ends[log] += n
                assert journal.end(log) == ends[log]
            elif operation == "flush":
                journal.flush()
            elif operation == "read":
                log, x, y = arguments
                a, b = sorted(starts[log] + int(f * (ends[log] - starts[log])) for f in (x, y))
                check(journal, log, a, b)
            elif operation == "drop":
                log, x = arguments
                journal.flush()
                starts[log] += int(x * (ends[log] - starts[log]))
                logs = [journal.log(name, starts[name]) for name in "ab"]
                keep = {s.name for held in logs for s in journal.covering(held)}
                journal.delete_all_but(keep)
                assert {p.name for p in journal.folder.glob("*")} == keep
            else:
                journal.flush()
                segments = [s for name in "ab" for s in journal.covering(journal.log(name, starts[name]))]
                journal.close()
                journal = Journal(journal.folder)
                journal.adopt(segments, ends)
        for log in "ab":
            check(journal, log, starts[log], ends[log])
        journal.close()


def test_appended_arrays_are_copied(tmp_path: Path) -> None:
    with closing(Journal(tmp_path)) as journal:
        rows = make(0, 5)
        journal.append("a", rows)
        rows["number"][:] = -1
        check(journal, "a", 0, 5)


def test_an_unflushed_tail_is_lost_and_everything_before_is_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append("a", make(0, 10))
    journal.flush()
    segments = list(journal.segments["a"])
    journal.append("a", make(10, 5))
    journal.close()
    again = Journal(tmp_path)
    again.adopt(segments, {"a": 10})
    assert again.append("a", make(10, 3)) == 10
    check(again, "a", 0, 13)
    again.close()


def test_an_empty_first_append_does_not_reserve_memory_for_rows_of_unknown_size(tmp_path: Path) -> None:
    with closing(Journal(tmp_path)) as journal:
        journal.append("a", {"x": np.zeros((0, 1 << 20), np.uint8)})
        reserved = sum(v.nbytes for v in journal._open["a"].columns.values())
        assert reserved <= module.SEGMENT_BYTES


def test_changed_columns_are_refused(tmp_path: Path) -> None:
    """A silent cast or a dropped column would be found only at the next resume."""
    with closing(Journal(tmp_path)) as journal:
        journal.append("a", {"x": np.zeros((2, 3), np.uint8)})
        for wrong in (
            {"x": np.zeros((2, 3), np.int64)},
            {"x": np.zeros((2, 1), np.uint8)},
            {"x": np.zeros((2, 3), np.uint8), "y": np.zeros(2)},
            {"y": np.zeros((2, 3), np.uint8)},
        ):
            with pytest.raises(ValueError, match="log 'a'"):
                journal.append("a", wrong)
        with pytest.raises(ValueError, match="log 'b'"):
            journal.append("b", {"x": np.zeros(2), "y": np.zeros(3)})
        journal.append("a", {"x": np.ones((1, 3), np.uint8)})
        assert journal.end("a") == 3


def test_missing_and_truncated_segments_are_named(tmp_path: Path) -> None:
    with closing(Journal(tmp_path)) as journal:
        journal.append("a", make(0, 50))
        journal.flush()
        (segment,) = tmp_path.glob("*.npz")
        data = segment.read_bytes()
        for size in range(0, len(data), 7):
            segment.write_bytes(data[:size])
            with pytest.raises(RlabError, match=segment.name):
                list(journal.read("a", 0, 50))
        segment.unlink()
        with pytest.raises(RlabError, match=f"{segment.name} is missing"):
            list(journal.read("a", 0, 50))
        segment.write_bytes(data)
        with pytest.raises(RlabError, match="rows 50 to 60 of log 'a' are missing"):
            list(journal.read("a", 40, 60))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_flipped_byte_in_a_segment_never_changes_its_rows(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as tmp:
        path = Path(tmp) / "segment.npz"
        module.save_segment(path, make(0, 64))
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        rows, told = {}, ""
        try:
            rows = load_segment(path)
        except RlabError as e:
            told = str(e)
        assert rows or str(path) in told
        for name, values in rows.items():  # the byte carries nothing, such as one of a member's date
            assert np.array_equal(values, make(0, 64)[name])


def no_hang(call: Any, *arguments: Any) -> BaseException | None:
    """Run in a thread; fail if it does not come back; return what it raised."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            call(*arguments)
        except BaseException as e:
            raised.append(e)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), f"{call} hangs"
    return raised[0] if raised else None


def fill(journal: Journal) -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        journal.append("a", {"x": rng.integers(0, 256, (10, 100), np.uint8)})
    journal.flush()


def test_a_full_disk_is_one_sentence_and_nothing_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 5_000)
    journal = Journal(tmp_path)
    with file_size_limit(2_000):
        error = no_hang(fill, journal)
        assert isinstance(error, RlabError)
        assert str(tmp_path) in str(error)
        assert "\n" not in str(error)
        assert isinstance(no_hang(journal.flush), RlabError)
        assert isinstance(no_hang(fill, journal), RlabError)
        assert isinstance(no_hang(list, journal.read("a", 0, 1)), RlabError)
        assert no_hang(journal.close) is None
        assert no_hang(journal.close) is None
    assert [p.name for p in tmp_path.iterdir()] == []


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_failing_call_in_the_writer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    journal = Journal(tmp_path)
    monkeypatch.setattr(os, function, fail)
    error = no_hang(fill, journal)
    assert isinstance(error, RlabError)
    assert "No space left on device" in str(error)
    assert no_hang(journal.close) is None


def test_an_unforeseen_error_in_the_writer_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer thread that died would leave `flush` and `close` waiting for ever."""
    monkeypatch.setattr(module, "SEGMENT_BYTES", 1_000)

    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr(module, "save_segment", fail)
    journal = Journal(tmp_path)
    assert isinstance(no_hang(fill, journal), ZeroDivisionError)
    assert isinstance(no_hang(journal.flush), ZeroDivisionError)
    assert no_hang(journal.close) is None


def test_objects_are_not_pickled(tmp_path: Path) -> None:
    with closing(Journal(tmp_path)) as journal:
        journal.append("a", {"x": np.array([{}, []], dtype=object)})
        assert isinstance(no_hang(journal.flush), ValueError)
    np.savez(tmp_path / "evil.npz", x=np.array([print], dtype=object))
    with pytest.raises(RlabError, match=r"evil\.npz"):
        load_segment(tmp_path / "evil.npz")


def test_a_segment_is_named_only_when_it_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(fd: int) -> None:
        order.append("sync " + Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        fsync(fd)

    def record_replace(a: Path, b: Path) -> None:
        order.append(f"name {a.name}")
        replace(a, b)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    with closing(Journal(tmp_path / "journal")) as journal:
        fill(journal)
    assert order == [f"sync {tmp_path.name}", "sync .a.npz.tmp", "name .a.npz.tmp", "sync journal"]
