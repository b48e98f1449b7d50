"""`rlab compress` and `rlab export`: smaller runs that every verb takes, files that need no rlab."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import rlab
from rlab.cli import main
from rlab.compress.compress import Compression, compress
from rlab.errors import RlabError
from rlab.run.contract import Speaks
from rlab.run.folder import find_run

LENET = ["lenet", "--data", "digits", "--epochs", "1", "--examples", "200", "--threads", "1"]
CARTPOLE = ["dqn", "--env", "CartPole-v1", "--steps", "400", "--learning-starts", "100", "--threads", "1"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLAB_RUNS", str(folder))
        assert main(["train", *LENET, "--name", "lenet"]) == 0
        assert main(["train", *CARTPOLE, "--name", "cart", "--final-episodes", "1"]) == 0
    return folder


@pytest.fixture(autouse=True)
def _here(runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(runs))
    monkeypatch.chdir(tmp_path)


def weights_of(run: str) -> dict[str, torch.Tensor]:
    with rlab.load(run, "cpu") as loaded:
        modules = loaded.learner.task.modules  # type: ignore[attr-defined]
        return {name: p.detach().clone() for name, p in modules.named_parameters()}


def size_of(run: str) -> int:
    return (find_run(run).path / "checkpoints" / "000001" / "tensors.safetensors").stat().st_size


def test_quantised_model_is_smaller_and_evaluates(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compress", "lenet", "--bits", "8", "--name", "small", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["bytes_before"] > 3.8 * result["bytes_after"] > 3.8 * 40_000
    assert result["bytes_after"] < size_of("small") < result["bytes_after"] + 4_000
    assert abs(result["after"]["mean"] - result["before"]["mean"]) < 2
    for weight in weights_of("small").values():
        if weight.dim() > 1:
            assert len(weight[0].unique()) <= 255
    assert main(["report", "small"]) == 0
    assert main(["resume", "small"]) == 0  # finished: nothing to do
    assert main(["resume", "small", "--epochs", "3"]) != 0
    assert "made by `rlab compress`" in capsys.readouterr().err


def test_pruned_and_trained_weights_stay_zero() -> None:
    """Item 288: in rounds of pruning and training."""
    made = compress(find_run("lenet"), Compression("prune", share=0.9, rounds=2, epochs=1), "pruned")
    assert made.zeros == pytest.approx(0.9, abs=1e-3)
    both = compress(made.folder, Compression("quantise", bits=4), "pruned-4")
    assert both.zeros >= made.zeros - 1e-9
    assert both.before > 12 * both.after
    zero = {name: w == 0 for name, w in weights_of("pruned").items() if w.dim() > 1}
    assert all((weights_of("pruned-4")[name][there] == 0).all() for name, there in zero.items())
    assert [note["of"] for note in find_run("pruned-4").config()["compressed"]] == ["lenet", "pruned"]


def test_training_with_quantised_weights_moves_them() -> None:
    compress(find_run("lenet"), Compression("qat", bits=2, epochs=1), "qat")
    compress(find_run("lenet"), Compression("quantise", bits=2), "two-bits")
    trained, plain = weights_of("qat"), weights_of("two-bits")
    name = max(trained, key=lambda n: trained[n].numel())
    assert len(trained[name][0].unique()) <= 3
    assert not torch.equal(trained[name].sign(), plain[name].sign())


def test_compressed_player_of_go_plays() -> None:
    made = compress(find_run("go5"), Compression("quantise", bits=6), "go5-6")
    assert made.before > 4.9 * made.after
    with rlab.load("go5-6", "cpu") as run:
        player = run.ability(Speaks).go_player("small", 2)
        assert player is not None
        weights = run.learner.network.state_dict()  # type: ignore[attr-defined]
    assert all(len(w[0].unique()) <= 63 for w in weights.values() if w.dim() > 1)


def test_compressed_agent_plays() -> None:
    compress(find_run("cart"), Compression("quantise", bits=6), "cart-6")
    assert len(rlab.evaluate("cart-6", 2)["returns"]) == 2
    with rlab.load("cart", "cpu") as one, rlab.load("cart-6", "cpu") as other:
        for run in (one, other):
            assert run.predict(np.zeros(4, np.float32)) in (0, 1)


@pytest.mark.parametrize(
    ("run", "how", "says"),
    [
        ("cart", {"method": "prune", "epochs": 1}, "trains models on data sets; nearest: --epochs 0"),
        ("lenet", {"bits": 9}, "--bits is 9; valid: 2, 3"),
        ("lenet", {"method": "prune", "share": 1.0}, "--share is 1; it must be at least 0 and below 1"),
        ("lenet", {"epochs": 2}, "does nothing with --method quantise"),
        ("lenet", {"method": "prune", "rounds": 2}, "are for --method prune with --epochs"),
        ("lenet", {"method": "qat"}, "needs --epochs 1 or more"),
    ],
)
def test_bad_compression_is_one_sentence(run: str, how: dict[str, object], says: str) -> None:
    with pytest.raises(RlabError, match=says):
        compress(find_run(run), Compression(**how))  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_exported_model_gives_the_same(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = Path(f"model.{form}")
    assert main(["export", "lenet", "--format", form, "--out", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["difference"] < 1e-4
    x = np.random.default_rng(0).random((5, 1, 8, 8), np.float32)
    if form == "onnx":
        import onnxruntime

        logits = onnxruntime.InferenceSession(str(file)).run(None, {"x": x})[0]
    else:
        logits = torch.export.load(file).module()(torch.from_numpy(x)).detach().numpy()
    with rlab.load("lenet", "cpu") as run:
        expected = run.predict(x)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(
        shares / shares.sum(1, keepdims=True), expected, atol=1e-2
    )  # rlab's is bf16 on some CPUs
    assert (logits.argmax(1) == expected.argmax(1)).all()


def test_exported_agent_plays_without_rlab() -> None:
    assert main(["export", "cart", "--out", "cart.onnx"]) == 0
    code = "import sys; sys.modules['rlab'] = None; exec(open('cart.py').read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert "mean of 10 games:" in done.stdout
