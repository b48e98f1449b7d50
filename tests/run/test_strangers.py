"""Folders that lead out of themselves, and files that are larger than they look."""

from __future__ import annotations

import json
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlab.errors import RlabError
from rlab.run import files, journal
from rlab.run.files import read_json, replace_durably
from rlab.run.folder import RunFolder, find_run, holder_of
from rlab.run.journal import Segment, load_segment
from rlab.run.lifecycle import read_newest
from rlab.run.manifest import sealed
from rlab.run.metrics import LINE_BYTES, read_metrics
from rlab.run.status import last_row
from tests.run.fake import experiment, resume, start


@pytest.fixture
def run() -> RunFolder:
    folder, outcome = start("honest", experiment(total=24, checkpoint_steps=6), stop_after=5)
    assert not outcome.finished
    return folder


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder outside of any run, with files that a run's would be called."""
    outside = tmp_path / "victim"
    outside.mkdir()
    for name in ("file", "set.npz", "000001"):
        (outside / name).write_text("keep")
    return outside


def kept(victim: Path) -> bool:
    return {p.name: p.read_text() for p in victim.iterdir()} == dict.fromkeys(("file", "set.npz", "000001"), "keep")


@pytest.mark.parametrize(
    "place",
    [
        *("lock", "metrics.jsonl", "config.json", "env.json", "evaluation.json", "checkpoints/000009"),
        *("checkpoints/000001/state.json", ".config.json.tmp", ".report.html.tmp", "journal/.rows.npz.tmp"),
    ],
)
def test_link_to_a_file_is_refused(place: str, run: RunFolder, victim: Path) -> None:
    path = run.path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(victim / "file")
    with pytest.raises(RlabError, match=f"{path.name} is a link"):
        resume(run)
    assert kept(victim)


@pytest.mark.parametrize("place", ["journal", "checkpoints", "videos", "pictures", "tensorboard", "checkpoints/000009"])
def test_link_to_a_folder_is_refused(place: str, run: RunFolder, victim: Path) -> None:
    path = run.path / place
    if path.is_dir():
        path.rename(run.path.parent / "away")
    path.symlink_to(victim)
    for call in (lambda: resume(run), run.config):
        with pytest.raises(RlabError, match=f"{path.name} is a link"):
            call()
    assert kept(victim)


@pytest.mark.parametrize("name", ["lock", "config.json", "metrics.jsonl", "evaluation.json"])
def test_pipe_is_refused_at_once(name: str, run: RunFolder) -> None:
    (run.path / name).unlink(missing_ok=True)
    os.mkfifo(run.path / name)
    assert holder_of(run) is None
    assert last_row(run.path / name) is None
    with pytest.raises(RlabError, match=f"{name} is no plain file"):
        resume(run)
    with pytest.raises(RlabError, match=f"{name} is no plain file"):
        read_json(run.path / name)


@pytest.mark.parametrize("name", ["lock", "metrics.jsonl"])
def test_hard_link_is_not_written_to(name: str, run: RunFolder, victim: Path) -> None:
    content = (run.path / name).read_bytes()
    (run.path / name).unlink()
    (victim / "file").write_bytes(content)
    os.link(victim / "file", run.path / name)
    with pytest.raises(RlabError, match=f"{name} is the same file as another"):
        resume(run)
    assert (victim / "file").read_bytes() == content


def test_run_is_reached_through_a_link(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(run.path)
    assert resume(find_run(str(tmp_path / "linked"))).finished
    assert resume(RunFolder(tmp_path / "linked")).finished


def test_replacing_does_not_follow_a_planted_link(tmp_path: Path, victim: Path) -> None:
    for name in (".new.json.tmp", "new.json"):
        (tmp_path / name).symlink_to(victim / "file")
    replace_durably(tmp_path / "new.json", b"new")
    assert (tmp_path / "new.json").read_bytes() == b"new"
    assert not (tmp_path / "new.json").is_symlink()
    assert kept(victim)


def sparse(path: Path, size: int = 1 << 40) -> None:
    """A file that takes no room and says that it is a terabyte."""
    with open(path, "wb") as file:
        file.truncate(size)


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "checkpoints/000002/state.json"])
def test_file_that_is_too_large_is_not_read(name: str, run: RunFolder) -> None:
    sparse(run.path / name)
    if name == "metrics.jsonl":
        assert last_row(run.metrics) is None
        with pytest.raises(RlabError, match="at most"):
            list(read_metrics(run.metrics))
    else:
        with pytest.raises(RlabError, match=r"1099\.5 GB, and at most 0\.0"):
            read_json(run.path / name, 1 << 20)
    if name == "config.json":
        with pytest.raises(RlabError, match="at most"):
            run.config()


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 100_000 + "1" + "}" * 100_000])
def test_deep_nesting_is_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text(text)
    with pytest.raises(RlabError, match="not valid JSON"):
        read_json(tmp_path / "deep.json")
    (tmp_path / "deep.jsonl").write_text(text + "\n")
    assert last_row(tmp_path / "deep.jsonl") is None
    with pytest.raises(RlabError, match="line 1, is not valid JSON"):
        list(read_metrics(tmp_path / "deep.jsonl"))


def test_line_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"kind": "train", "step": 1}\n{"a": "' + b"x" * 3 * LINE_BYTES)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert next(rows) == {"kind": "train", "step": 1}
    with pytest.raises(RlabError, match="line 2"):
        next(rows)


def test_newest_row_is_found_far_from_the_end(tmp_path: Path) -> None:
    rows = [{"kind": "eval", "step": 1}, *({"kind": "train", "step": n, "x" * 900: 1} for n in range(300))]
    (tmp_path / "m").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"kind": "eval"')
    assert last_row(tmp_path / "m", "eval") == rows[0]
    assert last_row(tmp_path / "m") == rows[-1]


def member(shape: tuple[int, ...], data: bytes, dtype: Any = np.uint8) -> bytes:
    """An .npy file that says it has a shape."""
    head = repr({"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + data


@pytest.mark.parametrize(
    ("content", "count", "how"),
    [
        (member((2, 1 << 25), bytes(1 << 26)), 2, zipfile.ZIP_DEFLATED),  # 64 MB of zeros in 64 kB
        (member((2, 1 << 40), bytes(8)), 2, zipfile.ZIP_DEFLATED),  # says a terabyte
        (member((1 << 40,), bytes(8)), 1 << 40, zipfile.ZIP_DEFLATED),
        (member((4,), bytes(4)), 3, zipfile.ZIP_DEFLATED),  # other rows than the manifest says
        (member((2,), bytes(2)), 2, zipfile.ZIP_LZMA),
    ],
)
def test_segment_is_not_unpacked_beyond_its_rows(content: bytes, count: int, how: int, tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    with zipfile.ZipFile(path, "w", how) as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(RlabError, match=r"rows\.npz is damaged"):
        load_segment(path, count)


@pytest.mark.parametrize(
    ("shape", "held", "says", "sentence"),
    [((2, 1 << 15), 64 << 20, 1 << 16, "damaged"), ((1, 1 << 29), 8, 1 << 29, "takes at most")],
)
def test_segment_of_another_size_than_it_says(
    shape: tuple[int, ...], held: int, says: int, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", member(shape, bytes(held)))
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (len(member(shape, b"")) + says).to_bytes(4, "little")
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(RlabError, match=sentence):
        load_segment(path, shape[0])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 << 20


def test_segment_keeps_its_rows(tmp_path: Path) -> None:
    rows = {"a": np.arange(12, dtype=">i2").reshape(4, 3), "b": np.zeros((4, 0), np.float32), "c": np.ones(4, bool)}
    journal.save_segment(tmp_path / "s.npz", rows)
    found = load_segment(tmp_path / "s.npz", 4)
    assert all(np.array_equal(found[name], rows[name]) and found[name].dtype == rows[name].dtype for name in rows)
    found["a"][0] = 1  # as every array that is read


@pytest.mark.parametrize(("log", "start", "end"), [("../x", 0, 1), ("/etc/x", 0, 1), ("a", 2, 1), ("a", -1, 1)])
def test_segment_has_a_name_of_its_own(log: str, start: int, end: int) -> None:
    with pytest.raises(ValueError, match="no segment"):
        Segment(log, start, end, "")


def seal(change: Callable[[dict[str, Any]], None], path: Path) -> None:
    """Alter a manifest and give it its hash again, as a stranger can."""
    manifest = json.loads(path.read_bytes())
    manifest.pop("sha256")
    change(manifest)
    path.write_bytes(files.to_json(sealed(manifest)))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["files"].update({"state.json": "0"}),
        lambda m: m.update(files={"/dev/zero": "0"}),
        lambda m: m.update(segments=[{"log": "../../x", "start": 0, "end": 1, "sha256": "0"}]),
        lambda m: m.update(segments=7),
        lambda m: m.pop("ends"),
    ],
)
def test_manifest_of_a_stranger_is_one_sentence(change: Any, run: RunFolder, capsys: Any) -> None:
    for path in run.checkpoints.glob("*/manifest.json"):
        seal(change, path)
    with pytest.raises(RlabError, match="is whole; nothing was changed"):
        read_newest(run)
    assert "is bad" in capsys.readouterr().err


def test_tensors_that_memory_cannot_hold_are_refused(run: RunFolder, capsys: Any) -> None:
    from rlab.run import checkpoint

    path = run.checkpoints / "big.safetensors"
    sparse(path)
    with pytest.raises(RlabError, match="of memory are free"):
        checkpoint._tensors(path)
