"""One model over real processes: divided among them (FSDP), and cut into stages (GPipe)."""

from __future__ import annotations

import pytest

from tests.parallel.ranks import in_ranks
from tests.parallel.work import work


def test_models_over_processes_learn_as_one() -> None:
    """Items 279 and 282; two groups would take twice the time to start.

    Divided: each process holds half of parameters, gradients and moments, and what was gathered resumes to the same
    bits. In stages: they wait (p-1)/(m+p-1) of the time where all work alike.
    """
    micro = (2, 8)
    found = in_ranks("tests.parallel.work", work, 2, {"micro": micro, "seconds": 0.03})
    for divided in (rank["divided"] for rank in found):
        assert divided["apart"] < 1e-9
        assert divided["outputs"] < 1e-9
        assert divided["rounded"] < 1e-6
        assert divided["resumed"]
        assert divided["held"] == pytest.approx(0.5, abs=0.01)
        assert divided["units"] == ["first.0", "first.1", "twice"], "not what lends its weights"
    stages = [rank["stages"] for rank in found]
    assert max(stage["error"] for stage in stages) < 1e-9
    few, many = (sum(stage["waits"][number] for stage in stages) / 2 for number in range(2))
    for waits, m in ((few, micro[0]), (many, micro[1])):
        assert -0.05 < waits - 1 / (m + 1) < 0.25
    assert many < few
