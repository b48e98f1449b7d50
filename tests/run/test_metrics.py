from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlab.errors import RlabError
from rlab.run.metrics import MetricsFile, Window, finite, read_metrics
from tests.run.test_journal import file_size_limit


def row(step: int) -> dict[str, Any]:
    return {"kind": "train", "step": step}


def lines(path: Path) -> list[int]:
    return [row["step"] for row in read_metrics(path)]


def test_a_resumed_file_continues_at_exactly_the_noted_length(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    noted = []
    with closing(MetricsFile(path)) as file:
        for step in range(6):
            noted.append(file.sync())
            file.write(row(step))
    content = path.read_bytes()
    for step, mark in enumerate(noted):
        path.write_bytes(content + b'{"step": 6')
        with closing(MetricsFile(path, mark)) as file:
            assert lines(path) == list(range(step))
            file.write(row(step))
            assert file.sync() == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        assert path.read_bytes() == content[: path.stat().st_size]
    assert not path.with_name("metrics-bad.jsonl").exists()


def test_of_a_file_that_is_not_what_was_noted_the_whole_rows_are_kept_and_the_rest_set_aside(tmp_path: Path) -> None:
    path, aside = tmp_path / "metrics.jsonl", tmp_path / "metrics-bad.jsonl"
    with closing(MetricsFile(path)) as file:
        for step in range(4):
            file.write(row(step))
        mark = file.sync()
        file.write(row(4))
    content = path.read_bytes()
    line = len(json.dumps(row(0))) + 1
    for damaged, left in (
        (content[: 2 * line + 3], [0, 1]),  # shortened
        (content[:line] + b"#" + content[line + 1 :], [0, 2, 3]),  # a byte of row 1
        (content[line:], [1, 2, 3]),  # a row taken out, so that row 4 lies within the noted length
        (b"7\n[]\n" + content, [0, 1, 2, 3]),  # rows that are no objects
        (b"", []),
    ):
        path.write_bytes(damaged)
        told: list[str] = []
        with closing(MetricsFile(path, mark, lambda row: row["step"] < 4, told.append)) as file:
            file.write(row(9))
        assert lines(path) == [*left, 9]
        assert aside.read_bytes() == damaged
        assert len(told) == 1
        assert "metrics.jsonl is not what its checkpoint says; kept as metrics-bad.jsonl" in told[0]


@pytest.mark.parametrize("name", ["step", "kind_last", "clock_sum"])
def test_a_metric_cannot_take_the_place_of_a_rows_own_key(name: str) -> None:
    window = Window()
    window.add({name: 1.0})
    with pytest.raises(ValueError, match=f"cannot be called '{name}'"):
        window.close()


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert lines(path) == []
    whole = b"".join(json.dumps(r).encode() + b"\n" for r in (row(0), row(1) | {"clock": {"x": 2}}))
    first = len(json.dumps(row(0))) + 1
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        assert lines(path) == [n for n, end in enumerate((first - 1, len(whole) - 1)) if cut >= end]
    path.write_bytes(whole[:first] + b'{"st\n' + whole[first:])
    with pytest.raises(RlabError, match="line 2"):
        lines(path)


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    rows = ({"step": step} for step in range(50))
    with file_size_limit(100):
        with pytest.raises(RlabError, match="cannot write under") as error:
            deque(map(file.write, rows), maxlen=0)
        file.close()  # what the disk refused must not be told a second time, as another kind of error
    assert "\n" not in str(error.value)


number = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(rows=st.lists(st.dictionaries(st.sampled_from(["a", "b_sum", "c_last"]), number)), cut=st.integers(0, 20))
def test_a_window_goes_through_a_checkpoint_unchanged(rows: list[dict[str, float]], cut: int) -> None:
    whole, first = Window(), Window()
    for row in rows:
        whole.add(row)
    for row in rows[:cut]:
        first.add(row)
    second = Window(json.loads(json.dumps(first.sums)))
    for row in rows[cut:]:
        second.add(row)
    line = second.close()
    assert list(line.items()) == list(whole.close().items())
    assert second.close() == {}
    values = {k: [row[k] for row in rows if k in row] for k in ("a", "b_sum", "c_last")}
    if values["a"]:
        assert line["a"] == pytest.approx(sum(values["a"]) / len(values["a"]))
    if values["b_sum"]:
        assert line["b"] == pytest.approx(sum(values["b_sum"]))
    if values["c_last"]:
        assert line["c"] == values["c_last"][-1]


def test_rows_are_valid_json() -> None:
    assert finite({"a": math.nan, "b": math.inf, "c": 1.0, "d": "x"}) == {
        "a": None,
        "b": None,
        "c": 1.0,
        "d": "x",
    }
