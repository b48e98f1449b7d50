"""The shared-backbone benchmark: ordinary runs, goes on where it stood, refuses another plan."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rlab.bench.backbones import FULL, MODES, SMALL, SMALL_WORLDS, WORLDS, Plan, World, costs, measure, network_of
from rlab.bench.backbones_page import heat_map, table, write
from rlab.compare.processes import Lines
from rlab.errors import RlabError
from rlab.run.contract import Stop

MILLION = 1_000_000


@pytest.mark.timeout(300)
def test_cells_are_runs_and_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    monkeypatch.setitem(WORLDS, "minatar", replace(WORLDS["minatar"], settings={"final_episodes": 2}))
    plan = Plan(("minatar", "minatar+silu"), ("minatar",), seeds=1, minutes=0.01, transfer=False)
    found = measure(plan, "bb", 1, Stop(), Lines())
    assert found["finished"]
    cells = {(cell["encoder"], cell["world"]): cell for cell in found["cells"]}
    assert cells.keys() == {("minatar", "minatar"), ("minatar+silu", "minatar")}
    for cell in cells.values():
        assert cell["scores"] == [cell["mean"]]
        assert cell["low"] is None  # one seed has no spread
    folder = tmp_path / "bb"
    run = json.loads((folder / "minatar-minatar+silu-s0" / "config.json").read_text())
    assert run["config"]["agent"]["encoder"] == "minatar+silu"
    before = {path: path.stat().st_mtime for path in folder.glob("*/metrics.jsonl")}
    assert measure(plan, "bb", 1, Stop(), Lines())["cells"] == found["cells"]
    assert {path: path.stat().st_mtime for path in folder.glob("*/metrics.jsonl")} == before
    with pytest.raises(RlabError, match="holds another plan"):
        measure(Plan(("minatar",), ("minatar",), seeds=1, transfer=False), "bb", 1, Stop(), Lines())
    assert "minatar+silu" in table(found)
    assert heat_map(found).startswith(b"\x89PNG")
    page = write(found, folder)["html"].read_text()
    assert "minatar+silu" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("home", "away", "part", "budget"),
    [
        ("digits", "minatar", "env", "steps"),
        pytest.param("minatar", "digits", "fit", "epochs", marks=pytest.mark.slow),
    ],
)
def test_an_encoder_travels(
    home: str, away: str, part: str, budget: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    digits = World("lenet", "data", "digits", (1, 8, 8), 10, "accuracy in percent", {"examples": 200})
    monkeypatch.setitem(WORLDS, "digits", digits)
    monkeypatch.setitem(WORLDS, "minatar", replace(WORLDS["minatar"], settings={"final_episodes": 2}))
    monkeypatch.setattr("rlab.bench.backbones.TRIPS", ((home, away),))
    plan = Plan(("minatar",), ("minatar",), seeds=1, minutes=0.005, traveller="minatar")
    found = measure(plan, "trips", 2, Stop(), Lines())
    assert found["finished"]
    assert [(trip["from"], trip["to"], trip["how"]) for trip in found["trips"]] == [(home, away, how) for how in MODES]
    assert all(len(trip["scores"]) == 1 for trip in found["trips"])
    scratch = json.loads((tmp_path / "trips" / f"trip-{away}-minatar-s0" / "config.json").read_text())
    for how in ("fine-tuned", "frozen"):
        run = json.loads((tmp_path / "trips" / f"trip-{home}-{away}-{how}-minatar-s0" / "config.json").read_text())
        assert run["warm_start"]["encoder"]["run"] == f"trip-{home}-minatar-s0"
        assert run["config"][part][budget] == scratch["config"][part][budget]
        assert (run["config"].get("agent") or run["config"]["model"])["freeze"] == (how == "frozen")


@pytest.mark.parametrize("world", SMALL_WORLDS)
@pytest.mark.parametrize("encoder", SMALL)
def test_the_small_benchmark_is_of_small_encoders(encoder: str, world: str) -> None:
    assert 0 < sum(p.numel() for p in network_of(encoder, world).parameters()) <= MILLION


def test_costs() -> None:
    found = costs("lenet5", "mnist")
    assert found["parameters"] == 61_706
    assert found["multiply_adds"] == 416_520
    places = 6 * 28 * 28 + 6 * 14 * 14 + 16 * 10 * 10 + 16 * 5 * 5 + 120 + 84
    assert 4 * places < found["memory"] < 16 * places  # what is kept of an image: every layer's numbers, some twice
    assert min(found["forward_per_s"], found["train_per_s"]) > 0


def test_what_cannot_be_planned() -> None:
    with pytest.raises(RlabError, match="there is no world 'mnits'; nearest: mnist"):
        Plan(worlds=("mnits",))
    with pytest.raises(RlabError, match="unknown encoder 'lenet'; nearest: lenet5"):
        Plan(encoders=("lenet+silu",))
    with pytest.raises(RlabError, match="unknown encoder 'impalla'; nearest: impala"):
        Plan(traveller="impalla")
    with pytest.raises(RlabError, match="world 'mnist' is named twice"):
        Plan(worlds=("mnist", "mnist"))
    with pytest.raises(RlabError, match="--seeds is 0"):
        Plan(seeds=0)
    assert Plan(FULL, tuple(WORLDS)).encoders == FULL
