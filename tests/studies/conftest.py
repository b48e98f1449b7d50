from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rlab.studies import STUDIES, Contrast, Study


@dataclass(frozen=True)
class Settings:
    shift: float = 0.0
    """Added to a."""


class Fake:
    """A study of a number 1 + seed / 100 against a number seed / 100; notes what was measured."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.interrupt_at: tuple[str, int] | None = None
        self.study = Study(
            claim="One is more than nothing.",
            source="items 000, 002-004; Nobody 2000",
            settings=Settings(),
            smoke={"shift": 10.0},
            small={"shift": 1.0},
            small_seeds=3,
            variants={"a": {"name": "a"}, "b": {"name": "b"}},
            measure=self.measure,
            contrasts=(Contrast("a is above b", {"a/x": 1, "b/x": -1}, above=0.5, exact=True),),
            seeds=4,
        )

    def measure(self, settings: Any, variant: Any, seed: int) -> dict[str, Any]:
        if self.interrupt_at == (variant["name"], seed):
            raise KeyboardInterrupt
        self.calls.append((variant["name"], seed))
        return {"x": seed / 100 + (1.0 + settings.shift if variant["name"] == "a" else 0.0), "way": [[1, 2], [3, seed]]}


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))


@pytest.fixture
def fake() -> Iterator[Fake]:
    fake = Fake()
    STUDIES.register("fake")(fake.study)
    yield fake
    del STUDIES._entries["fake"]
