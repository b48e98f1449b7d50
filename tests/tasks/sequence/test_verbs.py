"""The verbs of text on small runs: train, sample, translate, report, warm starts, and input that nobody wished for."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import rlab as lab
from rlab.cli import common as cli_common
from rlab.cli import main
from rlab.errors import RlabError
from rlab.run.folder import find_run
from rlab.run.lifecycle import read_newest

TEXT = ["--width", "16", "--layers", "1", "--window", "16", "--sample-length", "20", "--epochs", "1", "--threads", "1"]
PAIRS = ["--data", "pairs:PAIRS", "--width", "16", "--epochs", "1", "--threads", "1", "--tokens", "words"]
LINE = "<b>the cat</b> sat on the mat and saw the dog run\n"
RUNS = {
    "letters": ["transformer-lm", "--data", "text:TEXT", "--encoder", "gru", *TEXT],
    "pairs": ["attention", *PAIRS],
    "vector": ["seq2seq", *PAIRS],
    "series": ["rnn", "--data", "delayed-recall", "--examples", "64", "--epochs", "1", "--threads", "1"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A runs folder with a small run of each kind."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text").write_text(LINE * 40)
    (folder / "pairs.tsv").write_text("".join(f"猫 {n} です\t<b> {n} is here\n" for n in "一二三四五六七八九十" * 4))
    names = {"text:TEXT": f"text:{folder / 'text'}", "pairs:PAIRS": f"pairs:{folder / 'pairs.tsv'}"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLAB_RUNS", str(folder / "runs"))
        for name, words in RUNS.items():
            assert main(["train", *(names.get(word, word) for word in words), "--name", name]) == 0
        yield folder


@pytest.fixture
def call(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a command with bytes on its standard input; None: nothing there."""

    def run(*words: str, given: bytes | None = None) -> SimpleNamespace:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given or b"")))
        capsys.readouterr()
        status = main(list(words))
        said = capsys.readouterr()
        return SimpleNamespace(status=status, out=said.out, err=said.err)

    return run


def test_same_seed_writes_the_same_text(call: Callable[..., Any]) -> None:
    how = ("--length", "30", "--temperature", "1")
    first, again, other = (call("sample", "letters", "--prompt", "the ", *how, "--seed", s) for s in "001")
    assert first.status == 0
    assert first.out == again.out != other.out
    assert first.out.startswith("the ")
    assert len(first.out) == 4 + 30 + 1
    two = json.loads(call("sample", "letters", "--prompt", "the ", *how, "-n", "2", "--json").out)
    texts = [sample["text"] for sample in two["samples"]]
    assert [f"the {text}\n" for text in texts] == [first.out, other.out]
    assert lab.sample("letters", "the ", 2, length=30, temperature=1.0) == texts
    greedy = [
        lab.sample("letters", "the ", seed=s, length=9, temperature=t, top_k=k) for s, t, k in ((0, 0, 0), (5, 1, 1))
    ]
    assert greedy[0] == greedy[1]


def test_every_line_of_the_input_is_a_prompt(call: Callable[..., Any]) -> None:
    done = call("sample", "letters", "--length", "5", "--json", given="the\r\n\ndog漢\0".encode())
    assert [sample["prompt"] for sample in json.loads(done.out)["samples"]] == ["the", "", "dog漢\0"]
    assert done.err == "note    unknown to this model: '漢', '\\x00'\n"
    assert len(json.loads(call("sample", "letters", "--length", "5", "--json").out)["samples"]) == 1
    shown = call("sample", "letters", "--length", "5", given=b"a\nb\n").out
    assert shown.startswith("a")
    assert "\n---\nb" in shown


def test_translations_stand_in_the_lines_of_the_input(call: Callable[..., Any]) -> None:
    done = call("translate", "pairs", given="猫 一 です\n\n猫 二 です\r\n".encode())
    assert done.out.split("\n")[1::2] == ["", ""]
    assert lab.translate("pairs", ["猫 一 です", "猫 二 です"]) == done.out.split("\n")[::2]
    assert call("translate", "pairs", "猫 一 です", "猫 二 です").out == done.out.replace("\n\n", "\n")
    assert call("translate", "pairs", "犬 一").err == "note    unknown to this model: '犬'\n"
    value = json.loads(call("translate", "pairs", "猫 一 です", "--json", "--beam", "1").out)
    assert value["translations"][0]["read"] == ["猫", "一", "です", "<end>"]


def test_attention_is_drawn(call: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "looked.png"
    assert call("translate", "pairs", "猫 一 です", "--show-attention", str(file)).status == 0
    assert file.read_bytes().startswith(b"\x89PNG")
    for words, why in (
        (("vector", "猫"), "run 'vector' has no attention to draw: .* nearest: rlab train attention"),
        (("pairs", "猫", "犬"), "--show-attention draws one text, not 2"),
    ):
        done = call("translate", *words, "--show-attention", str(file))
        assert done.status == 1
        assert re.search(why, done.err), done.err
    assert "must end in .png" in call("translate", "pairs", "猫", "--show-attention", "a.jpg").err
    assert call("translate", "pairs", "猫", "--show-attention", str(tmp_path / "none" / "a.png")).status == 1


@pytest.mark.parametrize(
    ("words", "given", "why"),
    [
        (("sample", "letters", "--temperature", "-1"), b"", "--temperature is -1.0; it must be"),
        (("sample", "letters", "--top-p", "0"), b"", "--top-p is 0.0; it must lie above 0"),
        (("sample", "letters", "--top-k", "-1"), b"", "--top-k is -1; it must be at least 0"),
        (("sample", "letters"), b"the\n\xff\xfe\n", "line 2 of the input is no UTF-8 (byte 1)"),
        (("sample", "letters"), b"x" * 2_000, "line 1 of the input has more than 1,000 bytes"),
        (("sample", "letters", "-n", "0"), b"", "-n is 0; it must be at least 1"),
        (("sample", "letters", "--out", "a.png"), b"", "--out is a.png, which does nothing: run 'letters' writes text"),
        (("sample", "pairs"), b"", "cannot write text; it can translate, can be drawn"),
        (("translate", "letters", "x"), b"", "cannot translate; it can write text"),
        (("translate", "pairs", " "), b"", "there is nothing to translate in an empty text"),
        (("translate", "pairs"), "猫 ".encode() * 140, "a text of 140 tokens is longer than the 128"),
        (("translate", "pairs", "猫", "--beam", "-1"), b"", "--beam is -1; it must be at least 0"),
        (("translate", "pairs", "猫", "--beam", "1001"), b"", "--beam is 1,001; it may be 1,000 at the most"),
        (("predict", "letters", "the cat"), b"", "text, and predict reads pictures; nearest: rlab sample letters"),
        (("predict", "series", "x.png"), b"", "predict reads pictures; nearest: rlab.load('series').predict"),
        (("data", "show", "text:"), b"", "'text:' names no file; nearest: text:PATH"),
    ],
)
def test_wrong_input_is_one_sentence(
    words: tuple[str, ...], given: bytes, why: str, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_common, "LONGEST_LINE", 1_000)
    done = call(*words, given=given)
    assert done.status == 1
    assert why in done.err
    assert done.err.count("\n") == 1


def test_what_another_run_has_not_is_refused(call: Callable[..., Any], folder: Path) -> None:
    done = call("train", "drqn", "--env", "CartPole-v1", "--memory", "series")
    assert "run 'series' (rnn) has the encoder 'bigru', which reads both ways" in done.err
    done = call("train", "translate", "--data", f"text:{folder / 'text'}")
    assert re.search(r"this model learns from pairs: .*, pairs:FILE$", done.err, re.MULTILINE), done.err
    assert {path.name for path in (folder / "runs").iterdir()} <= {*RUNS, "after"}


def test_model_too_large_for_the_memory_is_refused(
    call: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*sizes: Any, **options: Any) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("rlab.nn.sequence.language.LanguageModel", refuses)
    before = sorted((folder / "runs").iterdir())
    done = call("train", "transformer-lm", "--data", "shakespeare-small", "--threads", "1")
    assert done.status == 1
    assert re.search(r"needs more memory than the .* that are free; take a smaller --batch-size, --window", done.err)
    assert sorted((folder / "runs").iterdir()) == before


def test_a_seed_may_be_of_any_size(call: Callable[..., Any]) -> None:
    seeds = (str(2**63 - 1), str(2**63), str(10**30))
    texts = [call("sample", "letters", "--seed", seed, "--length", "20").out for seed in (*seeds, seeds[-1])]
    assert len(set(texts)) == 3
    assert texts[2] == texts[3]


def test_eval_names_what_else_a_score_has(call: Callable[..., Any]) -> None:
    done = call("eval", "letters")
    assert "; see also loss, nats_per_character with --json" in done.out


def test_report_shows_what_was_written(call: Callable[..., Any], folder: Path) -> None:
    page = Path(json.loads(call("report", "pairs", "--json").out)["report"]).read_text("utf-8")
    assert "<h2>Written in evaluations</h2>" in page
    assert "(&lt;b&gt; " in page
    assert "<b> " not in page, "text of data is a stranger's"
    assert (folder / "runs" / "pairs" / "pictures" / "alignments.png").exists()
    assert "rlab sample letters" in call("eval", "letters").out


def test_encoder_of_another_run_is_taken(call: Callable[..., Any]) -> None:
    words = ("--threads", "1", "--epochs", "1", "--examples", "64", "--data")
    text = find_run("letters").config()["config"]["data"]["data"]
    more = ("--encoder", "letters", "--freeze", "--batch-size", "2", "--window", "9", "--name", "after")
    done = call("train", "rnn-lm", *words, text, *more)
    assert done.status == 0, done.err
    config, theirs, ours = find_run("after").config(), read_newest(find_run("letters")), read_newest(find_run("after"))
    assert {"encoder": "gru", "width": 16, "layers": 1}.items() <= config["config"]["model"].items()
    assert config["warm_start"]["encoder"]["run"] == "letters"
    assert theirs is not None
    assert ours is not None
    for name, tensor in ours.state["modules"].items():
        if name.startswith("model.encoder."):
            assert torch.equal(tensor, theirs.state["best"]["modules"][name])
    for encoder, why in (("gruu", "unknown encoder 'gruu'"), ("pairs", "has no encoder")):
        refused = call("train", "rnn", "--data", "delayed-recall", "--encoder", encoder)
        assert refused.status == 1
        assert why in refused.err


def test_series_are_predicted(folder: Path) -> None:
    with lab.load("series") as model:
        assert isinstance(model, lab.Predictor)
        x = np.zeros((2, 5, model.learner.task.dataset.x.shape[2]), np.float32)
        assert model.predict(x).shape == (2, 4)
        assert np.allclose(model.predict(x).sum(1), 1, atol=1e-5)
        for wrong in (x[..., :1], x[0], np.array(["text"])):
            with pytest.raises(RlabError, match="takes series of shape"):
                model.predict(wrong)
