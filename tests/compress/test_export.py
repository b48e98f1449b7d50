"""What `rlab export` writes of models and of agents with a memory is what they compute themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from rlab.cli import main
from rlab.compress.export import export, graph_of, player_script
from rlab.errors import RlabError
from rlab.recipes import load_recipes
from rlab.registry import RECIPES
from rlab.run.config import changed
from rlab.run.contract import Stop
from rlab.run.journal import Journal
from rlab.run.lifecycle import BuildContext

load_recipes()


@contextmanager
def built(recipe: str, subject: str, folder: Path, **settings: Any) -> Iterator[Any]:
    """A learner before its first update."""
    entry = RECIPES.get(recipe)
    config = changed(entry.default(subject), settings)
    with closing(Journal(folder)) as journal, closing(entry.build(config, BuildContext("cpu", journal))) as learner:
        yield learner


@pytest.mark.parametrize(
    ("recipe", "env", "settings"),
    [
        ("a2c", "Pendulum-v1", {"memory": "gru+width=8", "share_encoder": False, "evaluate": "greedy"}),
        ("world-model", "CartPole-v1", {"width": 8, "evaluate": "greedy"}),
    ],
)
def test_exported_memory_is_carried(recipe: str, env: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """Six steps of a file with its state are six steps of the agent, which begins an episode at the third."""
    with built(recipe, env, tmp_path, **settings) as learner, torch.no_grad():
        graph, file = graph_of(learner, "it"), tmp_path / "agent.pt2"
        export(graph, file, "torch")
        space = learner.envs.single_observation_space
        policy, loaded = learner.policy(0), torch.export.load(file).module()
        state = torch.zeros(2, graph.inputs["state"].shape[1])
        for step in range(6):
            obs, first = np.stack([space.sample() for _ in range(2)]), np.full(2, step in (0, 3))
            state = torch.zeros_like(state) if step == 3 else state
            outputs, state = loaded(torch.from_numpy(obs), state)
            actions = policy.act(obs, first, None)
            if next(iter(graph.outputs)) == "action":
                np.testing.assert_allclose(outputs.numpy(), actions, atol=1e-5)
            else:
                assert (outputs.argmax(1).numpy() == actions).all()


def test_script_of_an_agent_with_a_memory_plays_as_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with built("drqn", "CartPole-v1", tmp_path) as learner:
        graph = graph_of(learner, "it")
        export(graph, Path("it.onnx"), "onnx")
        exec(player_script("CartPole-v1", "it.onnx", graph), {})
        policy = learner.policy(0)
        policy.epsilon = 0.0
        env, returns = gymnasium.make("CartPole-v1"), []
        for episode in range(10):
            obs, _ = env.reset(seed=episode)
            first, over = True, False
            returns.append(0.0)
            while not over:
                action = int(policy.act(obs[None], np.array([first]), None)[0])
                obs, reward, terminated, truncated, _ = env.step(action)
                first, over = False, terminated or truncated
                returns[-1] += float(reward)
    assert capsys.readouterr().out == f"mean of 10 games: {np.mean(returns)}\n"


TEXT = {"width": 16, "layers": 1, "window": 16}


@pytest.mark.parametrize(
    ("recipe", "data", "settings", "form"),
    [
        ("rnn-lm", "shakespeare-small", TEXT | {"encoder": "lstm"}, "onnx"),
        ("transformer-lm", "shakespeare-small", TEXT, "torch"),
        ("transformer", "dates", {"width": 8, "layers": 1, "heads": 2}, "torch"),
        ("rnn", "anbn", {"width": 8, "encoder": "bilstm"}, "torch"),
        ("ssd", "digit-scenes", {"width": 16}, "torch"),
        ("gan", "digits", {"conditional": True}, "torch"),
        ("vae", "digits", {"conditional": True}, "torch"),
        ("flow", "gaussians-8", {}, "torch"),
        ("autoencoder", "digits", {}, "torch"),
    ],
)
def test_exported_model_computes_the_same_at_any_size(
    recipe: str, data: str, settings: dict[str, Any], form: Any, tmp_path: Path
) -> None:
    """`export` itself compares batches of 2 and 5, and sequences of two lengths, to 1e-4."""
    with built(recipe, data, tmp_path, **settings) as learner:
        assert export(graph_of(learner, "it"), tmp_path / "model", form) <= 1e-4


def test_graphs_give_what_the_verbs_show(tmp_path: Path) -> None:
    with built("unet", "digit-scenes", tmp_path / "unet", width=8) as learner, torch.no_grad():
        graph, images = graph_of(learner, "it"), learner.task.dataset.x[:3]
        shares = graph.module(images / 255).softmax(1).numpy()
        np.testing.assert_allclose(shares, learner.task.predict(images.numpy()), atol=2e-2)  # bf16 on some processors
        assert graph.classes == learner.task.classes
    with built("ssd", "digit-scenes", tmp_path / "ssd", width=16, score=0.0) as learner, torch.no_grad():
        graph, images = graph_of(learner, "it"), learner.task.dataset.x[:1]
        found = learner.task.detect(images.numpy())[0]
        boxes, scores = graph.module(images / 255)
        assert scores.max() == pytest.approx(float(found["scores"][0]), abs=2e-2)
        assert boxes.shape[:2] == scores.shape[:2]
    with built("gan", "digits", tmp_path / "gan") as learner, torch.no_grad():
        codes = torch.randn(4, *learner.task.code_shape)
        samples = graph_of(learner, "it").module(codes)
        made = learner.task._made(codes, torch.zeros(4), torch.arange(4), 0, Stop())
        np.testing.assert_allclose(
            samples.numpy(), made.float().numpy() / (255 if made.dtype == torch.uint8 else 1), atol=2e-2
        )


def test_vocabulary_lies_beside_a_language_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    small = TEXT | {"epochs": 1, "examples": 8, "batch-size": 4, "sample-length": 0, "threads": 1}
    words = [word for name, value in small.items() for word in (f"--{name}", str(value))]
    assert main(["train", "rnn-lm", *words, "--name", "text"]) == 0
    command = ["export", "text", "--format", "torch", "--no-latency", "--json"]
    capsys.readouterr()
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["inputs"] == [{"name": "tokens", "shape": ["length"], "dtype": "int64"}]
    vocabulary = json.loads(Path(result["vocabulary"]).read_text())["tokenizers"]["tokens"]
    logits = torch.export.load("text.pt2").module()(torch.zeros(1, 3, dtype=torch.int64))
    assert logits.shape == (1, 3, 4 + len(vocabulary["pieces"]))
    assert main(command) == 0  # its own file is replaced
    Path("text.json").write_text("mine")
    assert main(command) == 1
    assert "'text.json', where the vocabulary goes, is a file of yours" in capsys.readouterr().err
    assert main(["export", "text", "--int8"]) == 1
    assert "--int8 is for classifiers, regressions, networks of Go and agents" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recipe", "subject", "says"),
    [
        ("q-learning", "FrozenLake-v1", "run 'it' cannot be exported; classifiers, regressions, language models"),
        ("forest", "digits", "run 'it' cannot be exported; classifiers"),
        ("faster-rcnn", "digit-scenes", "run 'it': a detector by regions cannot be exported, for suppression"),
    ],
)
def test_what_has_no_graph_is_refused(recipe: str, subject: str, says: str, tmp_path: Path) -> None:
    with built(recipe, subject, tmp_path) as learner, pytest.raises(RlabError, match=says):
        graph_of(learner, "it")
