"""What holds for every registered study, of ours or of anybody."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.optimize import linprog

import rlab.studies
from rlab.run.config import to_plain
from rlab.studies import Study, load_studies
from rlab.studies.report import collect, counts
from rlab.studies.runner import run_study
from rlab.studies.study import judge

STUDIES = load_studies()
REFERENCE = Path(rlab.studies.__file__).parents[2] / "runs" / "reference" / "studies"
every = pytest.mark.parametrize("name", list(STUDIES))


def test_each_file_is_a_study() -> None:
    files = {p.stem for p in Path(rlab.studies.__file__).parent.glob("*/*.py")} - {"__init__"}
    assert files == {name.replace("-", "_") for name in STUDIES}


@every
def test_it_says_what_is_claimed_and_where(name: str) -> None:
    study = STUDIES.get(name)
    assert re.fullmatch(r"[A-Z].{30,250}[^.]\.", study.claim)
    assert re.match(r"items? \d{3}[\d, -]*; .*\b(19|20)\d\d", study.source)
    assert all(contrast.says for contrast in study.contrasts)
    assert study.seeds >= 5
    assert re.search("[ぁ-ん]", study.claim_ja or "ぁ"), "Japanese without hiragana"
    assert bool(study.correction) == bool(study.correction_ja)
    assert json.loads(json.dumps(to_plain(dict(study.variants)))) == to_plain(dict(study.variants))
    assert study.items
    assert study.budget("smoke")[0] != study.settings
    assert type(study.settings).__dataclass_params__.frozen


class Coarse(Figure):
    """A figure of few pixels, whose parts are not moved apart: half of what it takes to draw all studies."""

    def __init__(self, *args: Any, **settings: Any):
        super().__init__(*args, **settings | {"dpi": 45, "layout": None})


@every
def test_a_smoke_run_is_complete_and_repeats(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = STUDIES.get(name)
    if (REFERENCE / name / "figure.png").is_file():  # which has been drawn whole
        monkeypatch.setattr("matplotlib.figure.Figure", Coarse)
    settings, _ = study.budget("smoke")
    found = run_study(name, study, settings, 1, budget="smoke", fresh=False, say=lambda text: None)
    folder = tmp_path / "studies" / name / "smoke"
    stored = json.loads((folder / "result.json").read_text())
    for key in ("claim", "source", "settings", "variants", "seeds", "commits", "machine", "versions"):
        assert stored[key], key
    assert stored["verdict"] == "undecided"
    assert stored["numbers"].keys() == study.variants.keys()
    assert [len(finding["values"]) for finding in stored["findings"]] == [1] * len(study.contrasts)
    assert 3_000 < (folder / "figure.png").stat().st_size < 200_000
    assert (folder / "animation.gif").is_file() == (study.animate is not None)
    assert (folder / "result.json").stat().st_size < 100_000
    variant = next(iter(study.variants))
    again = study.measure(settings, study.variants[variant], 0)
    kept = found["numbers"][variant][0]
    assert again.keys() == kept.keys()
    for number in again:
        assert number.startswith("clock_") or np.asarray(again[number]).tolist() == kept[number], number


@every
def test_the_verdict_follows_the_data(name: str) -> None:
    study = STUDIES.get(name)  # what is planted are no shares of trials
    study = replace(study, contrasts=tuple(replace(contrast, trials=0) for contrast in study.contrasts))
    count = len(study.contrasts)
    assert judge(study.contrasts, planted(study, [1.0] * count)).verdict == "holds"
    assert judge(study.contrasts, planted(study, [1.0] * count, seeds=2)).verdict == "undecided"
    for against in range(count):
        signs: list[float | None] = [None] * count
        signs[against] = 0.0
        assert judge(study.contrasts, planted(study, signs)).findings[against].verdict == "undecided"
        signs[against] = -1.0
        found = judge(study.contrasts, planted(study, signs))
        assert found.findings[against].verdict == "fails"
        assert found.verdict in ("fails", "holds partly")


@pytest.mark.parametrize("folder", sorted(REFERENCE.iterdir()), ids=lambda folder: folder.name)
def test_a_committed_verdict_is_that_of_its_numbers_and_of_the_study_as_it_is(folder: Path) -> None:
    stored, study = json.loads((folder / "result.json").read_text()), STUDIES.get(folder.name)
    settings, seeds = study.budget(stored["budget"])
    assert stored["settings"] == to_plain(settings)
    assert stored["variants"] == to_plain(dict(study.variants))
    assert (stored["claim"], stored["source"]) == (study.claim, study.source)
    assert stored["budget"] in ("small", "full")
    assert len(stored["seeds"]) >= seeds
    found = judge(study.contrasts, stored["numbers"], stored["budget"], stored["settings"])
    assert stored["verdict"] == found.verdict
    for contrast, was, now in zip(study.contrasts, stored["findings"], found.findings, strict=True):
        assert (was["says"], was["above"], was["verdict"]) == (now.says, now.above, now.verdict)
        for number in ("mean", "low", "high", "ceiling"):
            assert was[number] == pytest.approx(getattr(now, number))
        assert now.low is not None or contrast.exact, "seeds agree: say exact, or how many trials"
    assert not [commit for commit in stored["commits"] if "with changes" in commit]
    assert (folder / "figure.png").is_file()


@pytest.mark.parametrize(("readme", "language"), [("README.md", "en"), ("README.ja.md", "ja")])
def test_the_readme_counts_committed_verdicts(readme: str, language: Literal["en", "ja"]) -> None:
    text = (REFERENCE.parents[2] / readme).read_text()
    sentence = counts(collect([REFERENCE]), language)
    assert text.count("<!-- counts -->") == text.count("<!-- /counts -->")
    for said in re.findall(r"<!-- counts -->(.*?)<!-- /counts -->", text, re.DOTALL):
        assert " ".join(said.split()) == sentence, f"rlab study counts --language {language}"


def test_make_studies_runs_studies() -> None:
    makefile = (REFERENCE.parents[2] / "Makefile").read_text().replace("\\\n", " ")
    (names,) = re.findall(r"^STUDIES := (.+)$", makefile, re.MULTILINE)
    assert set(names.split()) <= set(STUDIES)


def planted(study: Study, signs: list[float | None], seeds: int = 6) -> dict[str, Any]:
    """Numbers whose mean lies 1 or more above (sign 1) or below (-1) a contrast's bound, or on it (0); None: anywhere.

    One half of the seeds errs as the other does, with the other sign, so that means are what they should be.
    """
    keys = sorted({key for contrast in study.contrasts for key in contrast.weights})
    chosen = [(c, sign) for c, sign in zip(study.contrasts, signs, strict=True) if sign is not None]
    rows = [[(-sign or 1.0) * c.weights.get(key, 0.0) for key in keys] for c, sign in chosen]
    bounds = [(-sign or 1.0) * c.above - abs(sign) for c, sign in chosen]
    exact = {"A_eq": rows, "b_eq": bounds} if 0.0 in signs else {"A_ub": rows, "b_ub": bounds}
    solved = linprog(np.zeros(len(keys)), bounds=(-1e3, 1e3), **exact)
    assert solved.success, "the contrasts contradict each other"
    noise = np.random.default_rng(0).normal(0, 0.01, (seeds // 2, len(keys)))
    results: dict[str, Any] = {variant: [{} for _ in range(seeds)] for variant in study.variants}
    for seed, wobble in enumerate(np.concatenate([noise, -noise])):
        for key, value, error in zip(keys, solved.x, wobble, strict=True):
            variant, _, number = key.partition("/")
            results[variant][seed][number] = value + error
    return results
