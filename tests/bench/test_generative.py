"""The generative benchmark: it goes on where it was, and its numbers mean what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import rlab
from rlab.bench import generative
from rlab.bench.generative import MEASURES, Plan, run_numbers, sample_numbers, table
from rlab.cli import main
from rlab.data.datasets import load
from rlab.errors import RlabError
from rlab.run.contract import Stop, Stopped
from rlab.run.folder import RunFolder


def test_real_data_are_the_floor_and_noise_is_far_above() -> None:
    data = load("digits", 0, 0.0)
    items = data.items("train")[:400]
    real = sample_numbers(data.x[items], data.y[items], data, 0, Stop())
    noise = sample_numbers(torch.rand(400, 1, 8, 8), None, data, 0, Stop())
    assert real["fid"] < noise["fid"] / 5
    assert real["kid"] < noise["kid"] / 5
    assert min(real["precision"], real["recall"]) > 0.7
    assert noise["precision"] < 0.1
    assert real["classifier"] > 30
    assert noise["classifier"] is None


def test_stopped_benchmark_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    words = ["bench", "generative", "--models", "gan", "--data", "digits", "--seeds", "1", "--minutes", "0.01"]
    words += ["--samples", "100", "--name", "it"]
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    (row,) = result["rows"]
    assert {name: len(row[name]["values"]) for name in MEASURES} == dict.fromkeys(MEASURES, 1)
    assert result["floors"]["digits"]["fid"] < row["fid"]["mean"]
    assert (tmp_path / "it/generative.png").stat().st_size > 3_000
    before = (tmp_path / "it/digits-gan-s0/metrics.jsonl").read_bytes()
    (tmp_path / "it/digits-gan-s0.json").unlink()  # as if it had been stopped before
    assert main(words) == 0
    said = capsys.readouterr().out
    assert (tmp_path / "it/digits-gan-s0/metrics.jsonl").read_bytes() == before
    assert f"{row['fid']['mean']:.3g}" in said
    assert "not comparable to those on Inception's" in said
    stop = Stop()
    stop.request("test")
    with pytest.raises(Stopped):
        run_numbers(RunFolder(tmp_path / "it/digits-gan-s0"), 100, 0, stop)
    assert main([*words[:-1], "it", "--minutes", "0.02"]) == 1
    assert "holds another plan" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "small"), [("vae", {"nll_samples": 5, "nll_examples": 20}), ("gan", {"samples": 50})]
)
def test_samples_of_classes_teach_a_classifier(
    model: str, small: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every conditional model of the plan, whatever makes it conditional."""
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    rlab.train(model, data="digits", epochs=1, evaluate_steps=0, name="it", **generative.MODELS[model], **small)
    numbers = run_numbers(RunFolder(tmp_path / "it"), 100, 0, Stop())
    assert 0 <= numbers["classifier"] <= 100


def test_a_model_that_does_not_sample_has_no_numbers() -> None:
    nothing = {"mean": None, "low": None}
    plan = {"data": ["digits"], "minutes": 1.0, "samples": 100, "seeds": 1}
    rows = [{"model": "autoencoder", "data": "digits", **dict.fromkeys(MEASURES, nothing)}]
    assert "autoencoder" + " " * 23 + "-" in table({"plan": plan, "rows": rows, "floors": {}})


@pytest.mark.parametrize(("settings", "said"), [
    ({"models": ("gam",)}, "no generative model 'gam' to measure; nearest: gan"),
    ({"models": ("gan", "gan")}, "model 'gan' is named twice"),
    ({"models": ("gan",), "data": ()}, "name at least one data set"),
    ({"models": ("gan",), "data": ("nosuch",)}, "unknown data set 'nosuch'"),
    ({"models": ("gan",), "data": ("iris",)}, "'iris' is of kind table, .* nearest: --data digits"),
    ({"models": ("gan",), "samples": 10}, "--samples 10; they must be at least 1, more than 0 and at least 100"),
])  # fmt: skip
def test_wrong_plan_is_one_sentence(settings: dict[str, object], said: str) -> None:
    with pytest.raises(RlabError, match=said):
        Plan(**settings)  # type: ignore[arg-type]


def test_portions_are_of_every_class_as_many() -> None:
    assert generative._portions(2_000, 2) == [(500, 0), (500, 0), (500, 1), (500, 1)]
    assert generative._portions(700, 0) == [(500, None), (200, None)]
