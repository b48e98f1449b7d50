"""`rlab study` as a stranger uses it."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from PIL import Image

from rlab.cli import main
from rlab.run.contract import Stop
from rlab.studies import STUDIES, Contrast
from rlab.studies.run_all import run_every
from tests.processes import LONGEST, Spawn, until

from .conftest import Fake

Call = Callable[..., SimpleNamespace]


@pytest.fixture
def study(capsys: pytest.CaptureFixture[str]) -> Call:
    def call(*words: str) -> SimpleNamespace:
        capsys.readouterr()
        status = main(["study", *words])
        said = capsys.readouterr()
        return SimpleNamespace(status=status, out=said.out, err=said.err)

    return call


def test_the_list_names_claims_and_verdicts_and_needs_no_torch(tmp_path: Path) -> None:
    code = "import sys; from rlab.cli import main; main(['study', 'list']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert "double-overestimation  (not run here)" in done.stdout


def test_list_as_json(study: Call, fake: Fake) -> None:
    study("run", "fake", "--budget", "full")
    rows = {row["study"]: row for row in json.loads(study("list", "--json").out)["studies"]}
    assert rows.keys() == set(STUDIES)
    assert rows["fake"]["verdict"] == "holds"
    assert rows["c51-bimodal"]["verdict"] is None
    assert rows["fake"]["claim"] == fake.study.claim


def test_run_prints_the_verdict_with_its_numbers(study: Call, fake: Fake) -> None:
    said = study("run", "fake", "--budget", "full")
    assert said.status == 0
    assert "verdict holds, from 4 seeds" in said.out
    assert "a is above b" in said.out
    assert said.err.count("seed ") == 4
    assert "was measured before" in study("run", "fake", "--budget", "full").err


def test_run_as_json_is_one_object(study: Call, fake: Fake, tmp_path: Path) -> None:
    found = json.loads(study("run", "fake", "--seeds", "3", "--shift", "-9", "--json").out)
    assert found["verdict"] == "not seen at this size"
    assert found["settings"] == {"shift": -9.0}
    assert (Path(found["folder"]) / "figure.png").is_file()


@pytest.mark.parametrize(("budget", "shift", "seeds"), [("smoke", 10.0, 2), ("small", 1.0, 3), ("full", 0.0, 4)])
def test_a_budget_takes_its_own_settings_and_seeds(
    study: Call, fake: Fake, budget: str, shift: float, seeds: int
) -> None:
    found = json.loads(study("run", "fake", "--budget", budget, "--json").out)
    assert (found["settings"], len(found["seeds"]), found["budget"]) == ({"shift": shift}, seeds, budget)
    assert found["verdict"] == ("undecided" if budget == "smoke" else "holds")
    own = json.loads(study("run", "fake", "--budget", budget, "--shift", "3", "--seeds", "1", "--json").out)
    assert own["settings"] == {"shift": 3.0}


def test_an_interruption_is_told_in_one_line(study: Call, fake: Fake) -> None:
    fake.interrupt_at = ("b", 2)
    said = study("run", "fake")
    assert said.status == 130
    assert said.err.splitlines()[-1].startswith("stopped; what was finished is kept")


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["run", "c51-bimodel"], 1, "unknown study 'c51-bimodel'; nearest: c51-bimodal"),
        (["run", "fake", "--seeds", "0"], 1, "--seeds is 0; it must be at least 1"),
        (["run", "fake", "--threads", "-1"], 1, "--threads is -1"),
        (["run", "fake", "--jobs", "0"], 1, "--jobs is 0; it must be at least 1"),
        (["run", "nosuchmodule:thing"], 1, "no module named 'nosuchmodule'"),
        (["run"], 2, "which study?"),
        (["run", "--budget"], 2, "which study?"),
        (["run", "fake", "--budget", "smal"], 1, "--budget is 'smal'; nearest: small"),
        (["lst"], 2, "nearest: list"),
        ([], 2, "list, run, report, judge or counts?"),
        (["run", "fake", "fakke"], 1, "unknown study 'fakke'; nearest: fake"),
        (["judge"], 1, "there is no result of a study below"),
        (["counts", "--results", "nowhere"], 1, "there is no folder nowhere"),
        (["counts", "--language", "de"], 2, "--language"),
        (["run", "fake", "--shfit", "3"], 2, "--shift"),
        (["run", "fake", "--shift", "much"], 2, "--shift"),
    ],
)
def test_mistakes_are_told_in_a_sentence(study: Call, fake: Fake, words: list[str], status: int, told: str) -> None:
    said = study(*words)
    assert said.status == status
    assert told in said.err
    assert "Traceback" not in said.err
    assert fake.calls == []


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["list", "--help"], ["run", "fake", "--help"]])
def test_help(study: Call, fake: Fake, words: list[str]) -> None:
    said = study(*words)
    assert said.status == 0
    assert "usage" in said.out.lower()
    if "fake" in words:
        assert "--shift" in said.out
        assert "One is more than nothing." in said.out


MY_STUDY = """
import os, signal, time
from dataclasses import dataclass
from pathlib import Path
from rlab.studies import STUDIES, Contrast, Study

@dataclass(frozen=True)
class Settings:
    scale: float = 1.0
    '''Of everything.'''
    die: bool = False
    '''Whether a seed is killed.'''
    wait: float = 0.0
    '''Seconds.'''

def measure(settings, variant, seed):
    Path(f"{seed}-{variant}-{os.getpid()}").touch()
    if settings.die and seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(settings.wait)
    return {"x": variant * settings.scale + seed / 100}

more = Contrast("more", {"two/x": 1, "one/x": -1}, exact=True)
source, variants = "item 0; Me 2026", {"one": 1, "two": 2}
STUDIES.register("mine")(Study("Two is more than one.", source, Settings(), {}, variants, measure, (more,), seeds=3))
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, in which there is a study of one's own."""
    (tmp_path / "my_study.py").write_text(MY_STUDY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    STUDIES._entries.pop("mine", None)
    sys.modules.pop("my_study", None)


def measured(folder: Path) -> dict[str, int]:
    """SEED-VARIANT -> the process that measured it."""
    names = [path.name.rpartition("-") for path in folder.glob("?-?-*")]
    assert len({name for name, *_ in names}) == len(names), "nothing is measured twice"
    return {name: int(process) for name, _, process in names}


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_study_of_ones_own(study: Call, mine: Path, jobs: int) -> None:
    said = study("run", "my_study:mine", "--jobs", str(jobs), "--json")
    assert said.status == 0, said.err
    found = json.loads(said.out)
    assert found["verdict"] == "holds"
    assert found["numbers"]["two"] == [{"x": 2.0}, {"x": 2.01}, {"x": 2.02}]
    processes = measured(mine)
    assert len(processes) == 6
    assert (set(processes.values()) == {os.getpid()}) == (jobs == 1)
    assert all(f"mine: seed {seed} of 3: 0." in said.err for seed in (1, 2, 3))
    assert "seed 2 of 3: was measured before" in study("run", "my_study:mine", "--jobs", "2").err
    assert len(measured(mine)) == 6


def test_a_seed_that_fails_in_its_process(study: Call, mine: Path) -> None:
    said = study("run", "my_study:mine", "--jobs", "2", "--die")
    assert said.status == 1
    assert "study 'mine': a seed's process ended without a word" in said.err
    assert "Traceback" not in said.err
    said = study("run", "my_study:mine", "--jobs", "2", "--scale", "inf")
    assert said.status == 1
    assert "study 'mine', variant 'one', seed" in said.err
    assert "x became inf" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(("kill", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_no_seed_goes_on_without_the_study(mine: Path, kill: signal.Signals, status: int, spawn: Spawn) -> None:
    command = [sys.executable, "-m", "rlab", "study", "run", "my_study:mine", "--jobs", "2", "--wait", "600"]
    process = spawn(*command, start_new_session=True)
    until(lambda: len(measured(mine)) == 2, process)
    process.send_signal(kill)
    assert process.wait(LONGEST) == status
    until(lambda: not any(lives(child) for child in measured(mine).values()))
    assert "Traceback" not in process.communicate()[1]


def lives(process: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    return False


def test_the_report_shows_what_was_found(study: Call, fake: Fake, tmp_path: Path) -> None:
    fake.study = replace(fake.study, draw=lambda figure, results: figure.subplots().plot([0, 1]))
    STUDIES._entries["fake"] = fake.study
    study("run", "fake", "--budget", "smoke")
    study("run", "fake")
    own = str(tmp_path / "studies")
    found = json.loads(study("report", "--results", own, "--docs", str(tmp_path / "docs"), "--json").out)
    assert found["verdicts"]["fake"] == "holds"
    assert found["verdicts"]["c51-bimodal"] is None
    page, english, japanese = (Path(file).read_text() for file in found["files"])
    for text in (page, english):
        assert "One is more than nothing." in text
        assert ("2 &gt; 0.5" if text is page else "2 > 0.5") in text
        assert "rlab study run fake --budget small" in text
    (picture,) = re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    drawn = Image.open(io.BytesIO(base64.b64decode(picture)))
    whole = Image.open(io.BytesIO((tmp_path / "studies" / "fake" / "small" / "figure.png").read_bytes()))
    assert (drawn.width, drawn.height) == (round(0.6 * whole.width), whole.height - 22), "its contrasts are text"
    assert "](../studies/fake/small/figure.png)" in english
    assert "### fake: 成り立つ" in japanese
    study("run", "fake", "--budget", "full", "--shift", "-9")
    assert json.loads(study("report", "--json").out)["verdicts"]["fake"] == "fails", "full comes before small"
    (tmp_path / "studies" / "fake" / "full" / "figure.png").write_bytes(b"no picture")
    assert "figure.png is no picture" in study("report", "--results", own).err


def test_the_page_of_committed_results(study: Call, tmp_path: Path) -> None:
    """Nothing was run here: the report is of what comes with the repository, on a page of at most 2 MB."""
    found = json.loads(study("report", "--json").out)
    judged = sum(verdict is not None for verdict in found["verdicts"].values())
    assert judged > 0.8 * len(found["verdicts"])
    page = Path(found["files"][0]).read_text()
    assert len(page.encode()) < 2_000_000
    assert not re.search(r'(?:src|href)="(?!data:|#)', page), "nothing is loaded"
    anchors = set(re.findall(r' id="([^"]+)"', page))
    links = re.findall(r'href="#([^"]+)"', page)
    assert set(links) == anchors, "the contents lead everywhere"
    assert anchors > set(found["verdicts"])
    cells = [int(cell or 0) for cell in re.findall(r'<td class="n">(\d*)</td>', page)]
    assert sum(cells) == 2 * judged, "chapters, and all"
    sentence = json.loads(study("counts", "--json").out)["counts"]
    assert f"<p>{sentence}</p>" in page


def test_results_are_judged_anew(study: Call, fake: Fake, tmp_path: Path) -> None:
    study("run", "fake", "--budget", "full")
    own = ("--results", str(tmp_path / "studies"))
    assert "judged  1 results, 0 otherwise" in study("judge").out
    assert study("counts", *own).out.endswith("1 was run at the full budget (1 holds).\n")
    STUDIES._entries["fake"] = replace(fake.study, contrasts=(Contrast("more", {"b/x": 1}, 0.5),))
    assert "holds -> fails: " in study("judge").out
    assert study("counts", *own).out.endswith("1 was run at the full budget (1 fails).\n")
    assert study("counts", *own, "--language", "ja").out.endswith("full の規模で 1（成り立たない 1）です。\n")
    STUDIES._entries["fake"] = replace(fake.study, variants={"a": {}})
    said = study("judge")
    assert (said.status, "Traceback" in said.err) == (1, False)
    assert "other variants than study 'fake' has now" in said.err


def test_a_report_of_nothing_is_told(study: Call, tmp_path: Path) -> None:
    said = study("report", "--results", str(tmp_path / "nowhere"))
    assert said.status == 1
    assert "there is no folder" in said.err


def test_all_studies_run_in_processes_and_one_that_fails_is_told(
    study: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    names = ["no-free-lunch", "no-such-study"]
    found = run_every(names, ["--budget", "smoke"], 2, Stop(), said.append)
    assert found["no-free-lunch"]["verdict"] == "undecided"
    assert "unknown study 'no-such-study'; there are" in found["no-such-study"]["error"]
    assert (tmp_path / "studies" / "no-free-lunch" / "smoke" / "result.json").is_file()
    assert sorted(line.split(": ")[1] for line in said) == sorted(names)
    monkeypatch.setattr(
        "rlab.studies.run_all.run_every", lambda names, *rest: {"no-free-lunch": found["no-free-lunch"]}
    )
    told = study("run", "all", "--budget", "smoke")
    assert (told.status, told.out.splitlines()[0]) == (0, "undecided             no-free-lunch")
    monkeypatch.setattr("rlab.studies.run_all.run_every", lambda names, *rest: {"x": {"error": "it broke"}})
    assert study("run", "all").status == 1
    calls: list[Any] = []
    monkeypatch.setattr("rlab.studies.run_all.run_every", lambda *given: calls.append(given[:3]) or {})
    monkeypatch.setattr("os.nice", calls.append)
    several = ["early-stopping", "dropout-rate"]
    assert study("run", *several, "--budget", "full", "--jobs", "1", "--nice").status == 0
    assert calls == [10, (several, ["--budget", "full"], 1)], "in this order, one after the other, with low priority"


def test_a_stop_leaves_nothing_running() -> None:
    stop = Stop()
    stop.request("test")
    assert run_every(["no-free-lunch"], ["--budget", "smoke"], 1, stop, print) == {}
