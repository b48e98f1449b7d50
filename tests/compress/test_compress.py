"""`rlab compress` and `rlab export`: smaller runs that every verb takes, files that need no rlab."""

from __future__ import annotations

import errno
import importlib
import json
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import rlab
from rlab.agents.go.evaluator import Evaluator
from rlab.agents.go.onnx_player import OnnxEvaluator
from rlab.agents.go.players import find_player
from rlab.agents.go.tree_game import PositionBatch
from rlab.agents.go.weights import read_network
from rlab.cli import main
from rlab.compress.compress import Compression, compress
from rlab.compress.export import export, graph_of, player_script
from rlab.compress.latency import latencies
from rlab.compress.memory import memory
from rlab.envs.go.boards import Boards, Setting
from rlab.envs.go.planes import planes_of
from rlab.errors import RlabError
from rlab.nn.graph import Graph
from rlab.recipes import load_recipes
from rlab.registry import RECIPES
from rlab.run.checkpoint import Checkpoints
from rlab.run.contract import Speaks, Stop, Stopped
from rlab.run.folder import all_runs, find_run
from rlab.run.journal import Journal
from rlab.run.lifecycle import BuildContext, find_checkpoint
from rlab.tasks.trainer import Trainer

LENET = ["lenet", "--data", "digits", "--epochs", "1", "--examples", "200", "--threads", "1", "--keep-steps", "128"]
CARTPOLE = ["dqn", "--env", "CartPole-v1", "--steps", "400", "--learning-starts", "100", "--threads", "1"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLAB_RUNS", str(folder))
        assert main(["train", *LENET, "--name", "lenet"]) == 0
        assert main(["train", *LENET, "--validation", "0", "--name", "whole"]) == 0
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


def kept_weights(run: str) -> dict[str, torch.Tensor]:
    """Of the newest checkpoint: those that were best in validation, without which those after the last update."""
    state = find_checkpoint(find_run(run), None).state
    modules: dict[str, torch.Tensor] = (state["best"] or state)["modules"]
    return modules


def test_kill_while_writing_leaves_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a plain resume would train it from 0."""
    runs = [run.name for run in all_runs()]

    def killed(*args: object) -> None:
        assert [run.name for run in all_runs()] == runs
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            compress(find_run("lenet"), Compression(), "killed")
    assert [run.name for run in all_runs()] == runs
    compress(find_run("lenet"), Compression(), "killed")
    with pytest.raises(RlabError, match="'killed' exists already; take another --name"):
        compress(find_run("lenet"), Compression(method="prune"), "killed")
    assert [compress(find_run("lenet"), Compression()).folder.name for _ in range(2)] == [
        "lenet-quantise-8bit",
        "lenet-quantise-8bit-2",
    ]


@pytest.mark.parametrize(("run", "place"), [("whole", 0), ("whole", 128), ("lenet", 0)])
def test_rewound_run_learns_the_same(run: str, place: int) -> None:
    """Nothing pruned, and back at the start or at an early checkpoint: the same updates to the same bits.

    And with a validation split the same weights are the best.
    """
    how = Compression("prune", share=0.0, rewind=True, rewind_to=place)
    again = compress(find_run(run), how, f"again-{run}-{place}")
    first, second = kept_weights(run), kept_weights(again.folder.name)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert again.control is not None
    assert not torch.equal(
        kept_weights(again.control.name)["model.head.logits.weight"], first["model.head.logits.weight"]
    )


def test_lottery_ticket_beside_random_weights(capsys: pytest.CaptureFixture[str]) -> None:
    """Frankle & Carbin 2019: what is left starts where it had started; the control has the same mask."""
    words = ["--method", "prune", "--rewind", "--share", "0.75", "--rounds", "2", "--name", "ticket", "--no-latency"]
    assert main(["compress", "lenet", *words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["zeros"] == pytest.approx(0.75, abs=1e-3)
    assert {"before", "after", "control"} <= result.keys()
    ticket, control = weights_of("ticket"), weights_of(result["control_run"])
    for name, weight in ticket.items():
        if weight.dim() > 1:
            assert torch.equal(weight == 0, control[name] == 0)
    assert not torch.equal(ticket["model.head.logits.weight"], control["model.head.logits.weight"])
    with pytest.raises(RlabError, match="no start to go back to; nearest: the run that it was made of, 'lenet'"):
        compress(find_run("ticket"), Compression("prune", rewind=True))


@pytest.mark.parametrize("run", ["lenet", "cart"])
def test_structured_run_computes_what_is_left(run: str) -> None:
    """With the neurons and channels at 0 that are taken out, the old network gives what the new one gives."""
    made = compress(find_run(run), Compression("structured", share=0.5), f"thin-{run}")
    assert made.parameters[1] < 0.5 * made.parameters[0]
    assert made.after == 4 * made.parameters[1] < made.before
    with rlab.load(run, "cpu") as whole, rlab.load(f"thin-{run}", "cpu") as thin:
        graphs = [graph_of(loaded.learner, loaded.folder.name) for loaded in (whole, thin)]
        encoder: Any = graphs[0].module.network.encoder  # type: ignore[union-attr]
        with torch.no_grad():
            for layer in [m for m in encoder.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))]:
                norms = layer.weight.abs().flatten(1).sum(1)
                smallest = norms.argsort()[: len(norms) - round(0.5 * len(norms))]
                layer.weight[smallest] = 0
                layer.bias[smallest] = 0
            outputs = [graph.module(*graphs[0].inputs.values()) for graph in graphs]
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)


def test_encoder_that_is_narrowed_in_part_is_refused() -> None:
    """GroupNorm keeps the convolutions as they are, and LeNet's name tells the widths of all layers."""
    words = ["--encoder", "lenet5+group", "--name", "grouped"]
    assert main(["train", *LENET, *words]) == 0
    with pytest.raises(
        RlabError, match=r"of encoder 'lenet5\+group' only some layers can be made narrower.*: --method prune"
    ):
        compress(find_run("grouped"), Compression("structured"))


def test_structured_run_serves_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    """Its network is really smaller; verbs take it, and it can be made smaller again."""
    words = ["--method", "structured", "--rounds", "2", "--epochs", "1", "--name", "thin"]
    assert main(["compress", "lenet", *words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["numbers_after"] < 0.4 * result["numbers_before"]
    assert [row["name"] for row in result["latency"]][::2] == ["before fp32, torch", "after fp32, torch"]
    assert all(row["ms"]["1"] > 0 and row["ms"]["256"] > row["ms"]["1"] for row in result["latency"])
    before, after = result["memory"]
    assert before["weights"] == 4 * result["numbers_before"] > 2.5 * after["weights"]
    assert before["activations"]["256"] == 256 * before["activations"]["1"] > 256 * after["activations"]["1"]
    assert main(["eval", "thin"]) == 0
    assert main(["report", "thin"]) == 0
    assert find_run("thin").config()["config"]["model"]["encoder"] == "lenet5+width=3.8.60.42"
    small = compress(find_run("thin"), Compression(bits=4), "thin-4")
    assert small.before > 6 * small.after
    train = ["train", "lenet", "--data", "digits", "--encoder", "thin", "--examples", "100", "--epochs", "1"]
    assert main([*train, "--threads", "1", "--name", "from-thin"]) == 0
    assert find_run("from-thin").config()["config"]["model"]["encoder"] == "lenet5+width=3.8.60.42"


def test_quantised_model_is_smaller_and_evaluates(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--bits", "8", "--name", "small", "--no-latency", "--pareto", "front.png"]
    assert main(["compress", "lenet", *words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    drawn = {point["run"]: point["bytes"] for point in result["pareto"]}
    assert (drawn["small"], drawn["lenet"]) == (result["bytes_after"], result["bytes_before"])
    assert Path("front.png").read_bytes().startswith(b"\x89PNG")
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


@pytest.mark.parametrize("how", [{"method": "prune", "share": 0.5}, {"method": "qat", "bits": 3}])
def test_best_validated_weights_are_taken(how: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """As by the run itself, not the last ones; with quantised weights, as they are written."""
    scored: list[dict[str, torch.Tensor]] = []

    def evaluate_split(trainer: Trainer, split: str, stop: object) -> dict[str, float]:
        assert split == "validation"
        scored.append({name: w.detach().clone() for name, w in trainer.task.modules.state_dict().items()})
        return {"mean": 90.0 if len(scored) == 2 else 50.0}

    monkeypatch.setattr(Trainer, "evaluate_split", evaluate_split)
    said: list[str] = []
    name = f"best-{how['method']}"
    made = compress(find_run("lenet"), Compression(epochs=3, **how), name, report=said.append)
    assert said[-1].endswith("best by validation taken (90, after 200 of 600 examples)")
    taken = find_run(name).config()["compressed"][-1]["taken"]
    assert taken == {"examples": 200, "of": 600, "validation": 90}
    assert made.taken is not None
    assert len(scored) > 3
    for key, weight in weights_of(name).items():
        torch.testing.assert_close(weight, scored[1][key])


def test_last_weights_without_validation_split() -> None:
    said: list[str] = []
    compress(find_run("whole"), Compression("structured", epochs=1), "half", report=said.append)
    assert said[-1].endswith("the last weights taken, for no validation split chooses among them")


def test_zeros_are_those_that_are_written() -> None:
    made = compress(find_run("lenet"), Compression(bits=2), "coarse")
    weights = [w for w in weights_of("coarse").values() if w.dim() > 1]
    zeros = sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    assert made.zeros == pytest.approx(zeros)
    assert zeros > 0.2


def test_pruning_keeps_few_bits() -> None:
    """In either order; and what is on a coarse grid already is not written on a finer one."""
    four = compress(find_run("lenet"), Compression(bits=4), "four")
    pruned = compress(four.folder, Compression("prune", share=0.5), "four-pruned")
    assert pruned.after < four.after
    before, after = weights_of("four"), weights_of("four-pruned")
    for name, w in after.items():
        torch.testing.assert_close(w, torch.where(w == 0, w, before[name]))
    assert compress(pruned.folder, Compression(bits=8), "four-8").after == pruned.after
    trained = compress(four.folder, Compression("prune", share=0.5, epochs=1), "four-trained")
    assert trained.after > 4 * pruned.after  # floats again
    half = compress(find_run("lenet"), Compression(bits=16), "half-precision")
    assert compress(half.folder, Compression("prune", share=0.5), "half-pruned").after < 0.7 * half.after


def test_pruned_before_stays_zero_in_training() -> None:
    compress(find_run("lenet"), Compression("prune", share=0.9), "bare")
    zero = {name: w == 0 for name, w in weights_of("bare").items() if w.dim() > 1}
    compress(find_run("bare"), Compression("qat", bits=6, epochs=1), "bare-qat")
    trained = weights_of("bare-qat")
    assert all((trained[name][there] == 0).all() for name, there in zero.items())
    assert not torch.equal(trained["model.head.logits.weight"], weights_of("bare")["model.head.logits.weight"])
    with pytest.raises(
        RlabError, match=r"--share is 0.5, and 90.0 % of the weights of run 'bare' are 0 already; nearest"
    ):
        compress(find_run("bare"), Compression("prune", share=0.5))


def test_rewound_run_is_as_long_as_the_run() -> None:
    """Which stopped early: nothing was learned, so that the first validation stayed the best one."""
    words = [
        "--epochs",
        "40",
        "--patience",
        "1",
        "--learning-rate",
        "1e-12",
        "--evaluate-steps",
        "200",
        "--name",
        "short",
    ]
    assert main(["train", *LENET[:3], "--examples", "200", "--threads", "1", *words]) == 0
    done = find_checkpoint(find_run("short"), None).done
    made = compress(find_run("short"), Compression("prune", share=0.5, rewind=True), "short-again")
    assert made.taken is not None
    assert made.taken.of == done < 40 * 200


def test_training_that_diverges_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [run.name for run in all_runs()]
    with pytest.raises(RlabError, match=r"nan|inf|not finite"):
        compress(find_run("whole"), Compression("prune", epochs=1, learning_rate=1e30), "wild")
    with pytest.raises(RlabError, match="cudb"):
        compress(find_run("whole"), Compression(), "wild", "cudb")
    saved = find_checkpoint(find_run("whole"), None)
    saved.state["modules"]["model.head.logits.weight"][0, 0] = torch.nan
    monkeypatch.setattr("rlab.compress.compress.find_checkpoint", lambda folder, progress: saved)
    with pytest.raises(RlabError, match="run 'whole' has weights that are not finite"):
        compress(find_run("whole"), Compression(bits=16), "wild")
    saved.state["modules"]["model.head.logits.weight"][0, 0] = 1e5
    with pytest.raises(RlabError, match="a weight is 100000, and 16 bits hold 65504 at the most; nearest: --bits 8"):
        compress(find_run("whole"), Compression(bits=16), "wild")
    assert [run.name for run in all_runs()] == runs


def test_student_is_trained_with_its_teacher() -> None:
    """Whom a compressed run has left behind."""
    assert main(["train", *LENET, "--teacher", "lenet", "--name", "pupil"]) == 0
    made = compress(find_run("pupil"), Compression("prune", share=0.5, epochs=1), "pupil-half")
    with pytest.raises(RlabError, match=r"run 'pupil-half' learned from a teacher, who stayed behind .*, 'pupil'"):
        compress(made.folder, Compression("qat", epochs=1))


def test_pictures_of_a_generator_stay_as_they_are() -> None:
    """They lie beside the networks in a checkpoint, and are no weights."""
    words = ["gan", "--data", "gaussians-8", "--epochs", "1", "--examples", "200", "--threads", "1", "--name", "ring"]
    assert main(["train", *words]) == 0
    compress(find_run("ring"), Compression("prune", share=0.5), "ring-half")
    before, after = (find_checkpoint(find_run(name), None).state["modules"] for name in ("ring", "ring-half"))
    assert torch.equal(before["history.frames"], after["history.frames"])
    weights = [w for name, w in after.items() if w.dim() > 1 and not name.startswith("history.")]
    assert sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights) == pytest.approx(0.5, abs=1e-3)


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


def test_compressed_imitators_are_scored_beside_whom_they_imitate() -> None:
    """The teacher, or the expert's score, stays in the checkpoint, without which no evaluation could compare."""
    short = ["--env", "CartPole-v1", "--steps", "300", "--threads", "1", "--final-episodes", "1"]
    assert main(["train", "policy-distillation", *short, "--teacher", "cart", "--name", "student"]) == 0
    assert main(["data", "from-run", "cart"]) == 0
    assert main(["train", "gail", *short, "--trajectories", "cart", "--name", "imitator"]) == 0
    for run, part in (("student", "teacher"), ("imitator", "expert")):
        compress(find_run(run), Compression(bits=8), f"{run}-8")
        assert rlab.evaluate(f"{run}-8", 1)[part] == rlab.evaluate(run, 1)[part]


@pytest.mark.parametrize(
    ("run", "how", "says"),
    [
        ("cart", {"method": "prune", "epochs": 1}, "trains models on data sets; nearest: --epochs 0"),
        *[("lenet", {"bits": bits}, f"--bits is {bits}; valid: 2, 3") for bits in (-1, 0, 1, 9, 32, 33)],
        ("lenet", {"method": "prune", "share": 1.0}, "--share is 1; it must be at least 0 and below 1"),
        ("lenet", {"method": "structured", "share": 1.5}, "--share is 1.5; it must be at least 0 and below 1"),
        ("lenet", {"method": "prune", "share": 0.0}, "--share is 0, with which --method prune changes nothing"),
        ("lenet", {"method": "prune", "epochs": -1}, "--epochs is -1; it must be at least 0"),
        ("lenet", {"method": "qat", "epochs": 1, "learning_rate": float("nan")}, "--learning-rate is nan; it must be"),
        ("lenet", {"epochs": 2}, "does nothing with --method quantise"),
        ("lenet", {"method": "prune", "rounds": 2}, "are for --method prune with --epochs"),
        ("lenet", {"method": "qat"}, "needs --epochs 1 or more"),
        ("lenet", {"share": 0.8}, "--share is 0.8, which does nothing with --method quantise; it is for prune and"),
        ("lenet", {"layerwise": True}, "--layerwise is True, which does nothing with --method quantise"),
        ("lenet", {"method": "prune", "bits": 4}, "--bits is 4, which does nothing with --method prune; it is for"),
        ("lenet", {"method": "structured", "rewind": True}, "does nothing with --method structured"),
        ("lenet", {"method": "prune", "rewind_to": 128}, "does nothing without --rewind"),
        ("lenet", {"method": "prune", "rewind": True, "rewind_to": 7}, "no whole checkpoint at 7; there is 128"),
        ("cart", {"method": "prune", "rewind": True}, "and --rewind trains models on data sets; nearest"),
        ("go5", {"method": "structured"}, "encoders of our classifiers, value-based agents and policies; nearest"),
    ],
)
def test_bad_compression_is_one_sentence(run: str, how: dict[str, object], says: str) -> None:
    with pytest.raises(RlabError, match=says):
        compress(find_run(run), Compression(**how))  # type: ignore[arg-type]


def test_int8_export_agrees_with_fp32(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a model on its test split; of an agent in observations of its games."""
    assert main(["export", "lenet", "--int8", "--json", "--examples", "0"]) == 0
    result = json.loads(capsys.readouterr().out)
    int8 = result["int8"]
    assert int8["inputs"] == 270  # all
    assert int8["lost"]["mean"] == pytest.approx(int8["accuracy"]["fp32"] - int8["accuracy"]["int8"])
    assert int8["lost"]["low"] <= int8["lost"]["mean"] <= int8["lost"]["high"]
    assert int8["same"] > 0.9
    assert int8["error"] < 0.05
    assert abs(int8["accuracy"]["int8"] - int8["accuracy"]["fp32"]) < 0.02
    assert result["bytes"] < 80_000  # of 44,426 numbers
    assert main(["export", "lenet", "--int8", "--dynamic", "--json", "--no-latency", "--out", "dense.onnx"]) == 0
    dynamic = json.loads(capsys.readouterr().out)
    assert dynamic["int8"]["calibrated"] == 0 < int8["calibrated"]
    assert 0 < dynamic["int8"]["error"] < 0.05
    import onnx

    operations = {node.op_type for node in onnx.load("dense.onnx").graph.node}
    assert {"MatMulInteger", "DynamicQuantizeLinear", "Conv"} <= operations
    assert [row["name"].split(",")[0] for row in result["latency"]] == ["fp32", "bf16", "fp32", "int8"]
    assert main(["export", "cart", "--int8", "--out", "cart8.onnx", "--no-latency", "--examples", "99"]) == 0
    told = capsys.readouterr().out
    assert "the same action in" in told
    assert "of 99 observations" in told
    assert "wrote   cart8.py" in told
    assert main(["export", "cart", "--int8", "--format", "torch"]) != 0
    assert main(["export", "cart", "--dynamic"]) != 0
    assert main(["export", "cart", "--examples", "9"]) != 0
    error = capsys.readouterr().err
    assert "--int8 is for --format onnx" in error
    assert "--dynamic is a kind of --int8" in error
    assert "--examples is 9; it is for --int8, and 0 or more" in error


def test_memory_is_what_lives_at_once() -> None:
    """By hand: inputs, and the outputs of one layer beside those of the next; views and what is gone count nothing."""
    layers = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3), torch.nn.Flatten())
    found = memory(Graph(layers, {"x": torch.zeros(2, 5)}, {"y": "numbers"}), "small", (1, 7))
    assert found.weights == 4 * (5 * 8 + 8 + 8 * 3 + 3)
    assert found.activations == {1: 4 * (5 + 8 + 8), 7: 7 * 4 * (5 + 8 + 8)}


def test_exported_regression_has_its_own_unit() -> None:
    words = ["mlp", "--data", "diabetes", "--epochs", "1", "--threads", "1", "--name", "sugar"]
    assert main(["train", *words]) == 0
    assert main(["export", "sugar", "--format", "torch", "--no-latency"]) == 0
    x = np.random.default_rng(0).standard_normal((4, 10)).astype(np.float32)
    with rlab.load("sugar", "cpu") as run:
        expected = run.predict(x)
    exported = torch.export.load("sugar.pt2").module()(torch.from_numpy(x))
    np.testing.assert_allclose(exported.detach().numpy()[:, 0], expected, rtol=1e-4)


def built_agent(recipe: str, env: str, journal: Journal) -> Any:
    entry = RECIPES.get(recipe)
    return entry.build(entry.default(env), BuildContext("cpu", journal))


@pytest.mark.parametrize(
    ("recipe", "env"),
    [
        ("iqn", "CartPole-v1"),
        ("c51", "FrozenLake-v1"),
        ("noisy-dqn", "CartPole-v1"),
        ("a2c", "Pendulum-v1"),
        ("ppo", "CartPole-v1"),
        ("ppo", "Pendulum-v1"),
        ("sac", "Pendulum-v1"),
        ("td3", "Pendulum-v1"),
        ("sb3-dqn", "FrozenLake-v1"),
    ],
)
def test_exported_agent_acts_as_it_does_itself(recipe: str, env: str, tmp_path: Path) -> None:
    """Also those of stable-baselines3; numbers are the action itself, in any batch."""
    import onnx
    import onnxruntime

    load_recipes()
    with closing(Journal(tmp_path)) as journal, closing(built_agent(recipe, env, journal)) as learner:
        if recipe == "noisy-dqn":
            learner.agent.online.resample(torch.Generator().manual_seed(0))
        graph, file = graph_of(learner, recipe), tmp_path / "agent.onnx"
        export(graph, file, "onnx")
        model = onnx.load(file)
        assert {node.domain for node in model.graph.node} == {""}  # no operation that an engine may lack
        assert not model.functions
        space = learner.envs.single_observation_space
        space.seed(0)
        obs = np.stack([space.sample() for _ in range(50)])
        outputs = onnxruntime.InferenceSession(str(file)).run(None, {"observation": obs})[0]
        agent = learner.agent
        if hasattr(agent, "online"):
            actions = agent.online.predict(obs).argmax(1)
        elif hasattr(agent, "model"):
            actions = agent.model.policy.predict(obs, deterministic=True)[0]
        else:
            actions = agent.executed(agent.choose(obs, None, None))
    if env == "Pendulum-v1":
        assert list(graph.outputs) == ["action"]
        np.testing.assert_allclose(outputs, actions, atol=1e-5)
    else:
        assert (outputs.argmax(1) == actions).mean() > 0.95  # of values that are nearly equal


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda x: x / 0, "gives outputs that are not finite"),
        (lambda x: x + torch.zeros(2, 1), "this network cannot be written as onnx [(]"),
    ],
)
def test_broken_network_is_one_sentence(broken: Any, says: str, tmp_path: Path) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = broken(x)
            return result

    with pytest.raises(RlabError, match=says) as refused:
        export(Graph(Broken(), {"x": torch.ones(2, 3)}, {"y": "numbers"}), tmp_path / "broken.onnx", "onnx")
    assert "\n" not in str(refused.value)


def test_latency_leaves_the_precision() -> None:
    layer = torch.nn.Linear(3, 2)
    layer.bf16 = True  # type: ignore[assignment]
    rows = latencies(Graph(layer, {"x": torch.ones(2, 3)}, {"y": "numbers"}), {}, Stop())
    assert [row.name for row in rows] == ["fp32, torch", "bf16, torch"]
    assert layer.bf16 is True


def test_run_without_layers_is_refused() -> None:
    words = ["q-learning", "--env", "FrozenLake-v1", "--steps", "20", "--final-episodes", "1", "--name", "table"]
    assert main(["train", *words]) == 0
    with pytest.raises(RlabError, match="run 'table' is one of q-learning, which has no network of layers to be made"):
        compress(find_run("table"), Compression())


def test_player_replaces_no_file_of_the_user(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text("mine")
    for out in ("mine.onnx", "net.py"):
        assert main(["export", "cart", "--out", out, "--no-latency"]) == 1
        assert "where the agent's player goes, is a file of yours; take another --out" in capsys.readouterr().err
    assert [file.name for file in Path().iterdir()] == ["mine.py"]
    assert Path("mine.py").read_text() == "mine"


def test_other_run_keeps_its_evaluation(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A stop while both are scored names the new run, which is whole."""
    evaluation = find_run("cart").evaluation.read_bytes()
    words = ["compress", "cart", "--no-latency", "--name"]
    assert main([*words, "scored", "--episodes", "1"]) == 0
    assert find_run("cart").evaluation.read_bytes() == evaluation
    assert find_run("scored").evaluation.is_file()
    runs = [run.name for run in all_runs()]
    assert main([*words, "bad", "--episodes", "-1"]) == 1
    assert [run.name for run in all_runs()] == runs

    def stopped(*args: object) -> None:
        raise Stopped

    monkeypatch.setattr("rlab.cli.compress._score", stopped)
    assert main([*words, "unscored"]) == 130
    assert "stopped; run 'unscored' was written, and not scored" in capsys.readouterr().err
    assert find_run("unscored").name == "unscored"


def test_full_disk_is_not_taken_for_a_fault_of_the_network(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch.export, "save", full)
    assert main(["export", "cart", "--format", "torch", "--no-latency", "--out", "full.pt2"]) == 1
    assert "cannot write under full.pt2: No space left on device" in capsys.readouterr().err
    assert not Path("full.pt2").exists()


def test_full_disk_leaves_the_file_that_stood(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data[:9])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    Path("mine.pt2").write_bytes(b"what stood")
    monkeypatch.setattr("rlab.run.files.write_durably", full)
    assert main(["export", "lenet", "--format", "torch", "--out", "mine.pt2", "--no-latency"]) == 1
    assert "No space left" in capsys.readouterr().err
    assert [file.name for file in Path().glob("*mine*")] == ["mine.pt2"]
    assert Path("mine.pt2").read_bytes() == b"what stood"


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


def test_exported_go_network_plays_in_a_search(capsys: pytest.CaptureFixture[str]) -> None:
    """In fp32 it says what the run's own network says, turned and mirrored alike; in int8 it plays as `onnx:FILE`."""
    assert main(["export", "go5", "--int8", "--no-latency", "--examples", "50", "--json"]) == 0
    int8 = json.loads(capsys.readouterr().out)["int8"]
    assert int8["same"] > 0.7
    assert int8["value"] < 0.2
    trained = read_network(find_run("go5"))
    with rlab.load("go5", "cpu") as run:
        export(graph_of(run.learner, "go5"), Path("go5.onnx"), "onnx")
    ours, theirs = Evaluator(trained.network, precision="fp32"), OnnxEvaluator(Path("go5.onnx"))
    boards = Boards(8, Setting(5))
    for point in (12, 7, 11):
        boards.play(np.full(8, point))
    keys = np.arange(8, dtype=np.uint64) * np.uint64(2**61 - 1)
    positions = PositionBatch(planes_of(boards).reshape(8, -1, 25), boards)
    answers = [evaluator(positions, np.arange(8), keys) for evaluator in (ours, theirs)]
    for one, other in zip(*answers, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)
    with closing(find_player("onnx:go5-int8.onnx@8")) as player:
        assert player.name == "go5-int8@8"
        moves = player.choose(boards, np.arange(8), keys)
    assert boards.legal()[np.arange(8), moves].all()
    for name, says in (
        ("onnx:", "names no file"),
        ("onnx:none.onnx@4", "there is no file 'none.onnx'; `rlab export RUN` writes one"),
        ("onnx:note.onnx", "is no network that ONNX Runtime opens"),
    ):
        Path("note.onnx").write_text("no network")
        with pytest.raises(RlabError, match=says):
            find_player(name)


def test_player_script_makes_the_environment_of_the_run(tmp_path: Path) -> None:
    load_recipes()
    wrapper = "gymnasium.wrappers:RecordEpisodeStatistics"
    rules = {"env_args": {"is_slippery": False}, "max_steps": 3, "wrappers": (wrapper,)}
    graph = Graph(torch.nn.Identity(), {"observation": torch.zeros(2)}, {"q_values": "values"}, rules=rules)
    script = player_script("FrozenLake-v1", "it's.onnx", graph)
    made = next(line for line in script.splitlines() if line.startswith("env = "))
    scope: dict[str, Any] = {"gymnasium": gymnasium, "importlib": importlib}
    exec(made, scope)
    assert type(scope["env"]) is gymnasium.wrappers.RecordEpisodeStatistics
    assert scope["env"].spec.max_episode_steps == 3
    assert scope["env"].spec.kwargs["is_slippery"] is False
    compile(script, "script", "exec")
    assert "import importlib" in script
    with closing(Journal(tmp_path)) as journal:
        entry = RECIPES.get("dqn")
        config = entry.default("FrozenLake-v1")
        config = replace(config, env=replace(config.env, options={"env_args": {"is_slippery": False}}))
        with closing(entry.build(config, BuildContext("cpu", journal))) as learner:
            assert graph_of(learner, "it").rules["env_args"] == {"is_slippery": False}


def test_exported_agent_plays_without_rlab() -> None:
    assert main(["export", "cart", "--out", "cart.onnx", "--no-latency"]) == 0
    with pytest.raises(RlabError, match=r"'cart.onnx' takes \['batch', 4\] and gives .* is no network of Go; nearest"):
        find_player("onnx:cart.onnx")
    code = "import sys; sys.modules['rlab'] = None; exec(open('cart.py').read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert "mean of 10 games:" in done.stdout
