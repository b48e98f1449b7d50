"""Answers in dialogues: data, what an answer may know, latent variables, and runs from training to a chat."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlab.cli import main
from rlab.data.batches import Batch
from rlab.data.datasets import load
from rlab.data.text.dialogues import Dialogues, joined, spaced
from rlab.data.text.tokens import BOS, EOS
from rlab.errors import RlabError
from rlab.recipes import load_recipes
from rlab.run.checkpoint import digest
from rlab.run.config import changed
from rlab.run.contract import Stop
from rlab.run.folder import find_run
from rlab.run.lifecycle import read_newest, resume_run, start_run
from rlab.tasks.sequence.dialogue import Conversation, DialogueModel, Gaussian, distinct
from rlab.tasks.sequence.dialogue_config import DialogueExperiment, DialogueModelConfig, LatentConfig
from tests.agents.test_transfer import Quiet
from tests.tasks.test_contract import Until

TALK = [["hello there .", "good day !", "how are you ?", "fine , thanks ."], ["hello", "day"], ["fine ?"] * 7]
SMALL = DialogueModelConfig(width=8, dropout=0.0, answers=5)


def dialogues(texts: list[list[str]] = TALK, **settings: Any) -> Dialogues:
    every = np.arange(len(texts))
    return Dialogues.of("talk", texts, {"train": every, "validation": every, "test": every}, **settings)


def model_of(data: Dialogues, settings: DialogueModelConfig = SMALL) -> DialogueModel:
    torch.manual_seed(3)
    return DialogueModel(len(data.tokenizer), settings).double()


def task_of(data: Dialogues, settings: DialogueModelConfig = SMALL, **latent: Any) -> Conversation:
    model = model_of(data, settings)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    limits = LatentConfig(**latent)
    return Conversation(data, model, optimizer, settings=settings, latent=limits, epochs=2, batch_size=3)


@pytest.mark.parametrize(
    ("text", "words", "written"),
    [
        ("Is it 11:30, in San Jose?", "is it 11 : 30 , in san jose ?", "Is it 11:30, in san jose?"),
        ("I don't  know\n(yet)!", "i don't know ( yet ) !", "I don't know (yet)!"),
        ("猫です。", "猫です 。", "猫です 。"),
        (" ", "", ""),
    ],
)
def test_turns_become_words_and_back(text: str, words: str, written: str) -> None:
    assert spaced(text) == words
    assert joined(words) == written


def test_batch_has_turns_of_dialogues() -> None:
    data = dialogues(longest=3)
    batch = data.collate(torch.tensor([1, 0]))
    tokens, mask = batch["tokens"], batch["mask"]
    assert tokens.shape == (2, 4, 5)
    assert mask.sum(2).tolist() == [[3, 3, 0, 0], [5, 5, 5, 5]]  # three words at the most, begin and end
    assert (tokens[mask] != 0).sum() + 0 == mask.sum()
    assert (tokens[~mask] == 0).all()
    assert (tokens[:, :2, 0] == BOS).all()
    assert tokens[0, 1, 2] == EOS
    assert data.tokenizer.decode(tokens[0, 1].tolist()) in ("day", "<unk>")
    with pytest.raises(RlabError, match="dialogue 1 of data set 'talk' has fewer than two turns"):
        dialogues([["a", "b"], ["a"]])


def test_rule_dialogues_confirm_what_was_said() -> None:
    data = load("rule-dialogues", seed=1)
    assert {split: len(items) for split, items in data.splits.items()} == {"train": 420, "validation": 90, "test": 90}
    assert data.texts == load("rule-dialogues", seed=2).texts
    for turns in data.texts:
        place = next(turn for turn in turns if turn.startswith("in ")).split()[1]
        assert place in turns[-3]


@pytest.mark.data
def test_sgd_is_divided_by_dialogue() -> None:
    data = load("sgd_dialogues", seed=1, validation=0.1)
    sizes = {split: len(items) for split, items in data.splits.items()}
    assert sizes == {"train": 4_599, "validation": 511, "test": 1_024, "dev": 964}
    assert len(torch.cat(list(data.splits.values())).unique()) == len(data) == 7_098
    assert len(data.tokenizer) == 4_004
    assert data.unknown("train") < data.unknown("test") < 0.05


@pytest.mark.parametrize(
    ("context", "changes"),
    [("all", [False, True, True, True]), ("last", [False, True, True, False]), ("none", [False, True, False, False])],
)
def test_answer_knows_what_came_before(context: str, changes: list[bool]) -> None:
    """Item 238: the second turn is changed, and what is said of later ones changes as the context allows."""
    data = dialogues()
    model = model_of(data, DialogueModelConfig(width=8, dropout=0.0, context=context)).eval()  # type: ignore[arg-type]
    batch = data.collate(torch.tensor([0, 2]))
    other = batch["tokens"].clone()
    other[0, 1, 1] = other[0, 0, 1]

    def by_turn(tokens: Tensor) -> Tensor:
        outputs = model(tokens, batch["mask"])
        return torch.zeros(len(outputs.dialogue)).double().index_add_(0, outputs.turn, outputs.losses.detach())

    differ = (by_turn(batch["tokens"]) != by_turn(other)).tolist()
    assert [False, *differ[:3]] == changes
    assert not any(differ[3:])  # of the other dialogue


@pytest.mark.parametrize("context", ["all", "last"])
def test_batch_is_its_dialogues_one_by_one(context: str) -> None:
    data = dialogues()
    model = model_of(data, DialogueModelConfig(width=8, dropout=0.0, context=context)).eval()  # type: ignore[arg-type]
    whole = model(**data.collate(torch.arange(3)))
    single = [model(**data.collate(torch.tensor([n]))) for n in range(3)]
    assert torch.allclose(whole.losses, torch.cat([one.losses for one in single]), rtol=1e-10)
    assert whole.dialogue.bincount().tolist() == [3, 1, 6]


@torch.no_grad()
def test_perplexity_is_of_all_words() -> None:
    """A uniform model has the vocabulary's size, and words count alike however long their dialogue is."""
    data = dialogues()
    task = task_of(data)
    torch.nn.init.zeros_(task.model.head.weight)
    torch.nn.init.zeros_(task.model.head.bias)
    score = task.evaluate("test", Stop())
    assert score["mean"] == pytest.approx(len(data.tokenizer))
    assert score["words"] == sum(len(turn.split()) + 1 for turns in data.texts for turn in turns[1:])
    assert score["answers"] == 10
    task.model.head.bias.data[EOS] = 2.0
    losses = np.concatenate([task.model(**data.collate(torch.tensor([n]))).losses for n in range(3)])
    assert task.evaluate("test", Stop())["mean"] == pytest.approx(math.exp(losses.mean()))


def test_divergence_has_its_known_values() -> None:
    standard, other = Gaussian(torch.zeros(20), torch.zeros(20)), Gaussian(torch.ones(20), torch.zeros(20))
    assert other.divergence(standard) == 10
    assert standard.divergence(standard) == 0
    wide = Gaussian(torch.zeros(1), torch.full((1,), math.log(4.0)))
    assert wide.divergence(Gaussian(torch.zeros(1), torch.zeros(1))) == pytest.approx((4 - 1 - math.log(4)) / 2)


@torch.no_grad()
def test_free_bits_and_annealing_weigh_the_divergence() -> None:
    """Item 239."""
    data = dialogues()
    settings = DialogueModelConfig(width=8, dropout=0.0, latent=4)
    place = (0, 0)
    tensors = data.collate(torch.arange(3))

    def parts(**latent: Any) -> dict[str, float]:
        task = task_of(data, settings, **latent)
        task.model.train()
        torch.manual_seed(0)
        batch = Batch(tensors, torch.arange(3), place)
        return {name: float(value) for name, value in task.losses(batch).items()}

    plain = parts()
    words = sum(len(turn.split()) + 1 for turns in data.texts for turn in turns[1:])
    assert plain["loss"] == pytest.approx(plain["surprise"] + plain["divergence"] * 10 / words)
    free = parts(free_bits=3.0)
    assert 0 < free["divergence"] < 3
    assert free["loss"] == pytest.approx(free["surprise"] + 3 * 10 / words)
    assert parts(anneal=0.5)["loss"] == pytest.approx(plain["surprise"])
    place = (0, 1)
    assert parts(anneal=1.0)["divergence_weight"] == pytest.approx(0.5)  # half of two epochs of one batch
    place = (1, 0)
    assert parts(anneal=0.5)["divergence_weight"] == 1
    assert parts(word_drop=1.0)["surprise"] != pytest.approx(plain["surprise"])


def test_distinct_counts_n_grams() -> None:
    assert distinct([[1, 2, 1, 2], [1]], 1) == 2 / 5
    assert distinct([[1, 2, 1, 2], [1]], 2) == 2 / 3
    assert distinct([[], [1]], 2) == 0


def test_settings_that_do_nothing_are_refused() -> None:
    with pytest.raises(RlabError, match="are of a latent variable, and --latent is 0"):
        DialogueExperiment(latent=LatentConfig(anneal=0.5))


TINY = {"threads": 1, "epochs": 1, "width": 8, "log_steps": 100, "evaluate_steps": 200, "answers": 10}


@pytest.mark.parametrize("recipe", ["hred", "vhred"])
def test_run_resumes_exactly_and_chats(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    more = {"latent": 4} if recipe == "vhred" else {}
    config = changed(load_recipes().get(recipe).default(""), TINY | more)
    assert start_run(recipe, config, "whole", Stop(), Quiet(), lambda config, *_: config)[1].finished
    stop = Stop()
    cut, outcome = start_run(recipe, config, "cut", stop, Until(stop, 250), lambda config, *_: config)
    assert not outcome.finished
    assert resume_run(cut, None, Stop(), Quiet()).finished
    states = [read_newest(find_run(name)) for name in ("whole", "cut")]
    assert digest(states[0].state) == digest(states[1].state)  # type: ignore[union-attr]

    assert main(["eval", "whole", "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert score["measure"] == "perplexity"
    assert score["mean"] < 70  # there are 62 words
    assert ("divergence" in score) == (recipe == "vhred")
    assert main(["report", "whole"]) == 0
    capsys.readouterr()
    extreme = ["chat", "whole", "--temperature", "1e-320", "--seed", str(10**30)]
    for words in (["chat", "whole"], ["chat", "whole", "--temperature", "1", "--seed", "3"], extreme):
        said = []
        for _ in range(2):
            monkeypatch.setattr("sys.stdin", io.StringIO("Hello!\n\n\nA room, please.\nqwertz \x00 猫\n"))
            assert main(words) == 0
            said.append(capsys.readouterr().out)
        assert said[0] == said[1]
        assert said[0].count("\n") == 3
    assert main(["chat", "whole", "--temperature", "-1"]) == 1
    assert main(["neighbours", "whole", "room"]) == 1
    assert "has no vectors of words; it can converse" in capsys.readouterr().err
    assert main(["watch", "whole"]) == 0
    assert "next    rlab chat whole" in capsys.readouterr().out


def test_examples_of_dialogues_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", "rule-dialogues", "--count", "2", "--vocabulary", "20", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["lengths"]["dialogue"] == {"shortest": 12, "median": 12, "longest": 12}
    assert facts["vocabularies"]["text"] == {"tokens": "words", "size": 24}
    first = facts["examples"][0]
    assert list(first) == [f"turn {n}" for n in range(1, 13)]
    assert first["turn 12"]["pieces"] == ["good", "bye", "."]
    assert facts["unknown"]["train"] > 0
    assert main(["data", "show", "rule-dialogues", "--tokens", "characters"]) == 1
    assert "'rule-dialogues' is cut into words; nearest: --tokens words" in capsys.readouterr().err
