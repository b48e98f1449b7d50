"""Kernels of several files: what one takes from another must not go stale in numba's cache; and rows are shared."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rlab.kernels import Threads

RUN = """
import sys
from pathlib import Path
from rlab import kernels
sys.path.insert(0, sys.argv[1])
kernels.stamp = lambda given=kernels.stamp(Path(sys.argv[1])): given
from envs_of_test import above
print(above.asked(), sum(above.asked.stats.cache_hits.values()))
"""


def test_a_change_in_another_file_is_seen(tmp_path: Path) -> None:
    package = tmp_path / "envs_of_test"
    (tmp_path / "rlab" / "envs").mkdir(parents=True)
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "above.py").write_text(
        "from envs_of_test.below import ANSWER\nfrom rlab.kernels import compiled\n\n\n"
        "@compiled()\ndef asked():\n    return ANSWER\n"
    )

    def run(answer: int) -> list[int]:
        text = f"ANSWER = {answer}\n"
        for path in (
            package / "below.py",
            tmp_path / "rlab" / "envs" / "below.py",
        ):  # the stamp looks into packages of ours
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
        done = subprocess.run([sys.executable, "-c", RUN, str(tmp_path)], capture_output=True, text=True, check=True)
        return [int(word) for word in done.stdout.split()]

    assert run(41) == [41, 0]
    assert run(41) == [41, 1]
    assert run(42) == [42, 0]


def test_a_cache_of_a_renamed_class_is_no_error(tmp_path: Path) -> None:
    package = tmp_path / "envs_of_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (tmp_path / "rlab" / "envs").mkdir(parents=True)
    for name in ("Pair", "Couple"):
        (package / "above.py").write_text(
            "from typing import NamedTuple\nfrom rlab.kernels import compiled\n\n\n"
            f"class {name}(NamedTuple):\n    one: int\n    two: int\n\n\n"
            "@compiled()\ndef total(pair):\n    return pair.one + pair.two\n\n\n"
            f"class asked:\n    stats = total.stats\n\n    def __new__(cls):\n        return total({name}(1, 2))\n"
        )
        done = subprocess.run([sys.executable, "-c", RUN, str(tmp_path)], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["3", "0"]


@pytest.mark.parametrize("number", [1, 2, 3, 7])
@pytest.mark.parametrize("rows", [0, 1, 63, 64, 1000])
def test_threads_share_every_row_once(number: int, rows: int) -> None:
    threads, seen = Threads(), np.zeros(rows, np.int64)

    def kernel(lo: int, hi: int) -> None:
        seen[lo:hi] += 1

    for used in (number, 0, number):  # 0: one per core
        threads.use(used)
        threads.share(kernel, rows)
    assert (seen == 3).all()


def test_what_fails_in_a_thread_is_raised() -> None:
    threads = Threads()
    threads.use(4)

    def kernel(lo: int, hi: int) -> None:
        if hi == 1000:
            raise ValueError("the last part")

    with pytest.raises(ValueError, match="the last part"):
        threads.share(kernel, 1000)
