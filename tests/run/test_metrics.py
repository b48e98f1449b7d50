from __future__ import annotations

import json
import math
from collections import deque
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlab.errors import RlabError
from rlab.run.metrics import MetricsFile, Window, finite, read_metrics
from tests.run.test_journal import file_size_limit


def lines(path: Path) -> list[int]:
    return [row["step"] for row in read_metrics(path)]


def test_a_resumed_file_continues_at_exactly_the_noted_length(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    noted = []
    with closing(MetricsFile(path)) as file:
        for step in range(6):
            noted.append(file.sync())
            file.write({"step": step})
    content = path.read_bytes()
    for step, length in enumerate(noted):
        path.write_bytes(content + b'{"step": 6')
        with closing(MetricsFile(path, length)) as file:
            assert lines(path) == list(range(step))
            file.write({"step": step})
            assert file.sync() == path.stat().st_size
        assert path.read_bytes() == content[: path.stat().st_size]


def test_a_file_that_is_shorter_than_noted_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 0}\n')
    with pytest.raises(RlabError, match=r"metrics\.jsonl is shorter"):
        MetricsFile(path, 100)
    assert path.read_bytes() == b'{"step": 0}\n'
    with pytest.raises(RlabError, match=r"metrics\.jsonl is shorter"):
        MetricsFile(tmp_path / "none" / "metrics.jsonl", 100)


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert lines(path) == []
    whole = b'{"step": 0}\n{"step": 1, "clock": {"x": 2}}\n'
    first = len(b'{"step": 0}\n')
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        assert lines(path) == [n for n, end in enumerate((first - 1, len(whole) - 1)) if cut >= end]
    path.write_bytes(b'{"step": 0}\n{"st\n{"step": 2}\n')
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
