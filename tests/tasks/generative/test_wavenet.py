"""Training of a WaveNet: its score by hand, exact resume, and sounds as files."""

from __future__ import annotations

import io
import json
import math
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rlab
from rlab.cli import main
from rlab.data.catalog import DATASETS, DataSource
from rlab.data.datasets import load
from rlab.data.readers import Arrays, log_mel
from rlab.data.sound import Recordings, from_mu_law
from rlab.data.waves import WaveDataset, make
from rlab.errors import RlabError
from rlab.nn.wavenet import WaveNet
from rlab.run.checkpoint import digest
from rlab.run.contract import Sounds, Stop
from rlab.tasks.generative.wavenet import PRIOR, WaveModelling, bigram_bits
from rlab.tasks.generative.wavenet_config import WaveNetConfig, WaveNetExperiment
from tests.checkpoints import from_file
from tests.tasks.test_trainer import of_recipe

SMALL: dict[str, Any] = {"width": 4, "skip": 6, "layers": 4, "places": 4, "condition": 3}


def recorded(lengths: list[int], level: float = 1.0) -> WaveDataset:
    rng, n = np.random.default_rng(1), len(lengths)
    sounds = [(level * rng.uniform(-1, 1, length)).astype(np.float32) for length in lengths]
    return make("noise", Recordings(sounds, np.zeros(n, np.int64), ("a",), np.zeros(n, np.int64), ("x",)))


def task_of(data: WaveDataset, window: int = 100, batch_size: int = 3) -> WaveModelling:
    torch.manual_seed(4)
    model = WaveNet((1, 2, 4), 4, 6, places=4, condition=3).double()
    return WaveModelling(data, model, torch.optim.SGD(model.parameters(), 0.1), window=window, batch_size=batch_size)


def test_every_sample_counts_alike() -> None:
    """Bits are over all samples, not the mean over recordings; windows with their context score as whole ones do."""
    data = recorded([3, 40, 7, 90, 55, 12, 28, 64, 9, 33])
    task = task_of(data)
    task.model.eval()
    bits, samples = 0.0, 0
    for item in data.splits["train"].tolist():
        batch = data.collate(torch.tensor([item]))
        logits = task.model(batch["codes"], batch["label"], batch["speaker"], batch["position"])
        shares = logits.detach().log_softmax(2).gather(2, batch["codes"][:, :, None])
        bits, samples = bits - float(shares.sum()) / math.log(2), samples + len(shares[0])
    for window in (100, 11):
        score = task_of(data, window).evaluate("train", Stop())
        assert score["mean"] == pytest.approx(bits / samples, rel=1e-6)
        assert (score["examples"], score["uniform"], score["measure"]) == (samples, 8.0, "bits per sample")
        assert score["low"] < score["mean"] < score["high"]
        assert not score["higher_is_better"]
    batch = task.data.at(0, 0)
    nats = task.loss(task.forward(batch), batch)["loss"].item()
    alone = [task.data.dataset.collate(item[None]) for item in batch.items]  # type: ignore[attr-defined]
    parts = [(one["mask"].sum().item(), one) for one in alone]
    model = task.model
    means = [
        torch.nn.functional.cross_entropy(
            model(one["codes"], one["label"], one["speaker"], one["position"])[0], one["codes"][0]
        ).item()
        for _, one in parts
    ]
    assert nats == pytest.approx(np.average(means, weights=[n for n, _ in parts]), rel=1e-5)


def test_bigram_table_by_hand() -> None:
    """All recordings are 128, 255, 255: three kinds of pairs, certain but for the prior of each row."""
    sounds = [np.array([0, 1, 1], np.float32)] * 10
    zeros = np.zeros(10, np.int64)
    data = make("same", Recordings(sounds, zeros, ("a",), zeros, ("x",)), validation=0.0)
    n = len(data.splits["train"])
    usual = {128: (n + 1) / (3 * n + 256), 255: (2 * n + 1) / (3 * n + 256)}
    chances = [(n + PRIOR * usual[code]) / (n + PRIOR) for code in (128, 255, 255)]
    assert bigram_bits(data, "test") == pytest.approx(-np.mean(np.log2(chances)))


def test_resumed_run_is_the_same(tmp_path: Path) -> None:
    settings = SMALL | {"epochs": 2, "examples": 20, "window": 300}
    whole, half, other = (of_recipe("wavenet", "tones", **settings) for _ in range(3))
    for fit in (whole, half):
        for _ in range(3):
            fit.step()
        fit.evaluate(Stop())
    torch.rand(5)  # whatever else draws
    other.restore(from_file(half.state(), tmp_path), Stop())
    for fit in (whole, other):
        while not fit.progress().finished:
            fit.step()
    assert whole.evaluate(Stop()) == other.evaluate(Stop())
    assert digest(whole.state()) == digest(other.state())


def spectrograms(read: Any) -> Arrays:
    """The tones as series of log-mel spectra."""
    data = load("tones")
    series = [log_mel(from_mu_law(data.recording(n).numpy())) for n in range(len(data))]
    x = np.zeros((len(series), max(map(len, series)), 40), np.float32)
    for row, one in zip(x, series, strict=True):
        row[: len(one)] = one
    return Arrays(x, data.labels.numpy(), data.classes, lengths=np.array([len(one) for one in series]))


def hear(capsys: pytest.CaptureFixture[str]) -> None:
    """A classifier of spectrograms listens to the sounds of run "t"."""
    if "tones_heard" not in DATASETS:
        DATASETS.register("tones_heard")(DataSource("series", "planted", "ours", "https://none", spectrograms))
    flags = ["--name", "ear", "--threads", "1", "--epochs", "6", "--width", "16", "--evaluate-steps", "10_000"]
    assert main(["train", "rnn", "--data", "tones_heard", *flags]) == 0
    capsys.readouterr()
    ask = ["bench", "wavenet", "--run", "t", "--each", "1", "--json", "--classifier"]
    assert main([*ask, "ear"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["words"] == 8
    assert 0 <= found["low"] <= found["accuracy"] <= found["high"] <= 100
    assert found["real"] > 40  # of four classes
    assert main([*ask, "t"]) == 1
    assert "cannot tell labels" in capsys.readouterr().err


def test_run_sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    flags = [f"--{name}={value}" for name, value in (SMALL | {"epochs": 8, "learning-rate": 0.02}).items()]
    flags += ["--evaluate-steps", "10_000", "--validation", "0"]
    assert main(["train", "wavenet", "--data", "tones", "--name", "t", "--threads", "1", *flags]) == 0
    capsys.readouterr()
    assert main(["eval", "t", "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert score["mean"] < score["bigram"] < 8  # a longer memory than one sample pays
    assert main(["report", "t"]) == 0
    assert {path.name for path in (tmp_path / "runs/t/pictures").iterdir()} == {"sounds.png", "recordings.png"}
    capsys.readouterr()

    ask = ["sample", "t", "--digit", "rise", "--speaker", "low", "--seconds", "0.05", "-n", "2", "--play-to", "s.wav"]
    assert main([*ask, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == ["s-1.wav", "s-2.wav"]
    first = Path("s-1.wav").read_bytes()
    with wave.open(io.BytesIO(first)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth(), file.getnframes()) == (8_000, 1, 2, 400)
    assert main([*ask[:-4], "--play-to", "one.wav"]) == 0
    assert Path("one.wav").read_bytes() == first != Path("s-2.wav").read_bytes()
    assert main(["sample", "t"]) == 0
    assert Path("t.wav").is_file()
    capsys.readouterr()
    for flags, said in (
        (["--digit", "ris"], "has no class 'ris'; nearest: rise"),
        (["--speaker", "lo"], "has no speaker 'lo'; nearest: low"),
        (["--seconds", "100"], "100 seconds are no length of a sound"),
        (["--play-to", "a.mp3"], "must end in .wav; nearest: a.wav"),
        (["--play-to", "no/a.wav"], "there is no folder 'no'"),
        (["--top-k", "3"], "--top-k is 3, which does nothing: run 't' makes sounds"),
        (["--out", "a.png"], "--out is a.png, which does nothing: run 't' makes sounds"),
    ):
        assert main(["sample", "t", *flags]) == 1
        assert said in capsys.readouterr().err
    hear(capsys)
    with rlab.load("t") as loaded:
        made = loaded.ability(Sounds).sounds(9, 0, label="", speaker="", seconds=0.01, temperature=1.0)
        assert [sound.shape for sound in made] == [(80,)] * 9
        padded = loaded.sample(2, 0)
        assert padded.shape[0] == 2
        assert np.abs(padded).max() <= 1
        with pytest.raises(RlabError, match=r"cannot write text; it can .*make sounds"):
            loaded.ability(rlab.run.contract.Writes)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"layers": 40}, "--layers 40 --growth 2 --stacks 1 see more than"), ({"growth": 0}, "--growth is 0")],
)
def test_impossible_networks_are_refused(settings: dict[str, int], said: str) -> None:
    with pytest.raises(RlabError, match=said):
        WaveNetConfig(**settings)


def test_other_data_and_optimisers_are_refused() -> None:
    with pytest.raises(RlabError, match=r"'digits' is of kind images, and this model learns from waves: .*tones"):
        of_recipe("wavenet", "digits")
    fit = WaveNetExperiment().fit
    with pytest.raises(RlabError, match="nearest: --optimiser adamw"):
        WaveNetExperiment(fit=type(fit)(optimiser="lbfgs"))
    assert WaveNetConfig(layers=10, growth=2).field == 1_024
