"""Where files come from: mirror, cache, net; and what happens when something is wrong on the way."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import http.client
import socket
from pathlib import Path

import numpy as np
import pytest

from rlab.data import files
from rlab.data.catalog import DATASETS, DataSource, File
from rlab.data.readers import Arrays
from rlab.errors import RlabError
from tests.data.conftest import Server

BODY = np.random.default_rng(0).bytes(300_000)
SHA = hashlib.sha256(BODY).hexdigest()


def register(monkeypatch: pytest.MonkeyPatch, *ours: File, name: str = "toy") -> None:
    def load(read) -> Arrays:
        x = np.stack([np.frombuffer(read(f.name), np.uint8)[:4] for f in ours] * 10)
        return Arrays(x.astype(np.float32), np.zeros(len(x), np.int64), ("one",))

    monkeypatch.setitem(
        DATASETS._entries, name, DataSource("table", "for tests", "none", "http://toy.example", load, ours)
    )


@pytest.fixture
def toy(server: Server, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set of one file that the server has; returns where it will be."""
    server.files["/a.bin"] = BODY
    register(monkeypatch, File("a.bin", len(BODY), SHA, f"{server.address}/a.bin"))
    return folders[1] / "toy" / "a.bin"


def left(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir()) if path.parent.exists() else []


def test_a_download_is_checked_and_kept(toy: Path, server: Server) -> None:
    told: list[str] = []
    assert files.reader("toy", told.append)("a.bin") == BODY
    assert left(toy) == ["a.bin"]
    assert len(told) == 1
    assert "a.bin" in told[0]
    assert files.reader("toy")("a.bin") == BODY
    assert server.asked == [("/a.bin", None)]


def test_the_mirror_comes_before_the_cache_and_the_net(toy: Path, server: Server, folders) -> None:
    for root, body in ((folders[0], BODY), (folders[1], b"never looked at")):
        (root / "toy").mkdir(parents=True)
        (root / "toy" / "a.bin").write_bytes(body)
    assert files.reader("toy")("a.bin") == BODY
    assert files.place("toy") == "mirror"
    assert server.asked == []


def test_several_mirrors_are_asked_in_turn(toy: Path, tmp_path: Path, monkeypatch, server: Server) -> None:
    second = tmp_path / "second"
    (second / "toy").mkdir(parents=True)
    (second / "toy" / "a.bin").write_bytes(BODY)
    monkeypatch.setenv("RLAB_DATA", f"{tmp_path / 'absent'}:{second}")
    assert files.reader("toy")("a.bin") == BODY
    assert server.asked == []


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on_where_it_stopped(toy: Path, server: Server, ranges: bool) -> None:
    server.cut = 100_000
    with pytest.raises(RlabError, match=r"broke after 100,000 bytes; the same command goes on from there"):
        files.provide("toy")
    assert left(toy) == ["a.bin.part"]
    server.ranges = ranges  # a server that knows no parts sends everything again
    files.provide("toy")
    assert toy.read_bytes() == BODY
    assert left(toy) == ["a.bin"]
    assert server.asked[1] == ("/a.bin", "bytes=100000-")


def test_ctrl_c_leaves_a_part_to_go_on_from(toy: Path, server: Server, monkeypatch) -> None:
    real, calls = http.client.HTTPResponse.read1, []

    def read1(self: http.client.HTTPResponse, n: int = -1) -> bytes:
        calls.append(n)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, n)

    monkeypatch.setattr(http.client.HTTPResponse, "read1", read1)
    with pytest.raises(KeyboardInterrupt):
        files.provide("toy")
    part = toy.with_name("a.bin.part")
    size = part.stat().st_size
    assert 0 < size < len(BODY)
    assert not toy.exists()
    files.provide("toy")
    assert toy.read_bytes() == BODY
    assert server.asked[1][1] == f"bytes={size}-"


def test_what_is_not_the_file_is_refused_and_gone(toy: Path, server: Server) -> None:
    server.files["/a.bin"] = b"<html>please log in</html>"
    found = hashlib.sha256(server.files["/a.bin"]).hexdigest()
    with pytest.raises(RlabError) as said:
        files.provide("toy")
    assert found[:12] in str(said.value)
    assert SHA[:12] in str(said.value)
    assert "is not the file" in str(said.value)
    assert str(toy.parent) in str(said.value)  # where to put it by hand
    assert left(toy) == []


def test_a_part_of_something_else_is_thrown_away(toy: Path) -> None:
    toy.parent.mkdir(parents=True)
    toy.with_name("a.bin.part").write_bytes(b"x" * (len(BODY) + 5))  # the server answers 416
    with pytest.raises(RlabError, match="is not the file"):
        files.provide("toy")
    assert left(toy) == []
    files.provide("toy")
    assert toy.read_bytes() == BODY


def test_a_whole_part_only_gets_its_name(toy: Path) -> None:
    toy.parent.mkdir(parents=True)
    toy.with_name("a.bin.part").write_bytes(BODY)
    files.provide("toy")
    assert left(toy) == ["a.bin"]


def test_not_found(toy: Path, server: Server) -> None:
    server.files.clear()
    with pytest.raises(RlabError, match=r"/a\.bin answered 404 Not Found; or put a\.bin into .*toy by hand"):
        files.provide("toy")
    assert left(toy) == []


def test_offline_one_sentence_says_where_to_put_all_files(folders, monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}/"
    register(monkeypatch, File("a.bin", 3, SHA, address + "a.bin"), File("b.bin", 3, SHA, address + "b.bin"))
    with pytest.raises(RlabError) as said:
        files.reader("toy")
    assert "cannot be reached (Connection refused)" in str(said.value)
    assert f"put a.bin, b.bin into {folders[1] / 'toy'} by hand" in str(said.value)
    assert "\n" not in str(said.value)


def test_no_direct_download(folders, monkeypatch, tmp_path: Path) -> None:
    register(monkeypatch, File("a.bin", 3, SHA), File("b.bin", 3, SHA, "http://toy.example/b.bin"))
    monkeypatch.setenv("RLAB_DATA", str(tmp_path / "absent"))
    with pytest.raises(RlabError) as said:
        files.reader("toy")
    assert f"has no direct download: put a.bin into {folders[1] / 'toy'} (source: http://toy.example)" in str(
        said.value
    )
    assert f"RLAB_DATA names {tmp_path / 'absent'}, which is no folder" in str(said.value)


def test_only_the_web_is_downloaded_from(folders, monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(BODY)
    register(monkeypatch, File("a.bin", 3, SHA, f"file://{tmp_path / 'secret'}"))
    with pytest.raises(RlabError, match="no http or https address"):
        files.provide("toy")


def test_two_processes_do_not_write_one_file(toy: Path) -> None:
    toy.parent.mkdir(parents=True)
    with open(toy.with_name("a.bin.part"), "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RlabError, match=r"another process is just downloading a\.bin"):
            files.provide("toy")
    files.provide("toy")
    assert toy.read_bytes() == BODY


def test_a_cache_that_cannot_be_written(toy: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RLAB_CACHE", str(tmp_path / "file"))
    with pytest.raises(RlabError, match="cannot write under"):
        files.provide("toy")


@pytest.mark.parametrize("root", [0, 1])
def test_a_damaged_file_is_named_and_not_used(toy: Path, folders, root: int) -> None:
    path = folders[root] / "toy" / "a.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY[:-1] + bytes([BODY[-1] ^ 1]))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(RlabError) as said:
        files.reader("toy")("a.bin")
    for part in (str(path), found[:12], SHA[:12]):
        assert part in str(said.value)
    remedy = "`rlab data get toy` replaces it" if root else "replace it (source: http://toy.example)"
    assert str(said.value).endswith(remedy)


def test_of_a_gzip_file_the_content_counts(folders, monkeypatch) -> None:
    path = folders[0] / "toy" / "a.gz"
    path.parent.mkdir()
    register(monkeypatch, File("a.gz", 1, SHA, packed=True))
    for level in (1, 9):
        path.write_bytes(gzip.compress(BODY, level))
        assert files.reader("toy")("a.gz") == BODY
    whole = gzip.compress(BODY)
    for damaged in (whole[:-50], b"no gzip", whole[:5000] + bytes(100) + whole[5100:], gzip.compress(BODY[1:])):
        path.write_bytes(damaged)
        with pytest.raises(RlabError, match=r"a\.gz is damaged"):
            files.reader("toy")("a.gz")


def test_unknown_set() -> None:
    with pytest.raises(RlabError, match="unknown data set 'mnits'; nearest: mnist"):
        files.reader("mnits")
