"""What the tasks of sequences learn from and are scored by: every token once, padding never, states carried exactly."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlab.data.batches import Batch
from rlab.errors import RlabError
from rlab.nn.sequence import make_sequence_encoder
from rlab.nn.sequence.classifier import SequenceClassifier
from rlab.run.checkpoint import digest
from rlab.run.contract import Stop, Stopped
from rlab.tasks.sequence.classification import printed_sigmoid
from rlab.tasks.sequence.language_model import score_stream
from rlab.tasks.trainer import Trainer
from tests.checkpoints import from_file
from tests.tasks.test_trainer import of_recipe

LM: dict[str, Any] = {"width": 16, "layers": 1, "window": 12, "batch_size": 8, "examples": 40, "sample_length": 8}
PAIRS: dict[str, Any] = {"width": 16, "layers": 1, "batch_size": 8, "examples": 48, "beam": 2}
STEPS: dict[str, Any] = {"examples": 40, "batch_size": 8}
TASKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "transformer": ("transformer-lm", "shakespeare-small", {**LM, "dropout": 0.1}),
    "carried state": ("rnn-lm", "shakespeare-small", {**LM, "batch_size": 5, "dropout": 0.1}),
    "bf16 beside an LSTM": (
        "rnn-lm",
        "shakespeare-small",
        {**LM, "batch_size": 5, "precision": "bf16", "accumulate": 2},
    ),
    "scheduled sampling": ("attention", "rule-pairs", {**PAIRS, "scheduled_sampling": 0.5}),
    "translator": ("transformer", "dates", {**PAIRS, "heads": 2}),
    "adder": ("rnn", "binary-addition", STEPS),
    "series": ("rnn", "delayed-recall", {**STEPS, "encoder": "transformer", "width": 16, "dropout": 0.1}),
}
"""What a state holds -> recipe, data, settings."""


@pytest.fixture(autouse=True)
def _short_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Splits that are scored have 30 items: what is looked at does not depend on how many."""
    from rlab.tasks.sequence import recipes

    whole = recipes.sequences_of

    def short(*args: Any) -> Any:
        data = whole(*args)
        if data.kind == "text":
            return data
        return replace(data, splits={n: i if n == "train" else i[:30] for n, i in data.splits.items()})

    monkeypatch.setattr(recipes, "sequences_of", short)


def task_of(recipe: str, data: str, **settings: Any) -> Any:
    return of_recipe(recipe, data, **settings).task


@pytest.mark.parametrize("what", TASKS)
def test_run_resumes_to_the_bit(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, data, settings = TASKS[what]
    whole, half, other = (of_recipe(recipe, data, epochs=2, **settings) for _ in range(3))
    text = getattr(whole.task.dataset, "part", None)
    for fit in (whole, half, other):
        if text is not None:  # a text of 100,000 letters would be scored
            monkeypatch.setattr(fit.task, "evaluate", lambda split, stop: {"mean": 1.0})
    for _ in range(3):
        whole.step()
        half.step()
    assert whole.evaluate(Stop()) == half.evaluate(Stop())
    torch.rand(5)  # whatever else draws
    other.restore(from_file(half.state(), tmp_path), Stop())
    assert digest(other.state()) == digest(whole.state())
    for _ in range(whole.per_epoch):  # into the next epoch
        ours, theirs = whole.step(), other.step()
        assert all(ours[k] == theirs[k] for k in ours if "clock" not in k)
    assert whole.evaluate(Stop()) == other.evaluate(Stop())
    assert digest(whole.state()) == digest(other.state())


@pytest.mark.parametrize("window", [1, 4, 7, 40, 300])
@pytest.mark.parametrize("first", [1, 5])
def test_every_token_is_scored_once(window: int, first: int) -> None:
    ids, context = torch.arange(110), []

    def nats_of(windows: Tensor) -> Tensor:
        context.append(torch.arange(1, windows.shape[1]).expand(len(windows), -1))
        return windows[:, 1:].float()  # the token itself in place of its nats

    assert score_stream(nats_of, ids, first, window, 2**23 // window // 3, Stop()).tolist() == list(range(first, 110))
    seen = score_stream(lambda w: context[0][:1].expand(len(w), -1).float(), ids, first, window, 8, Stop())
    for place, tokens in enumerate(seen.tolist(), first):  # what it is told from
        assert tokens >= min(place, max(window // 2, 1))


def test_losses_are_means_of_tokens() -> None:
    """Ten tokens at one nat and a hundred at two are 1.9091 a token; a mean of two windows' means is 1.5."""
    nats = torch.cat([torch.full((10,), 1.0), torch.full((100,), 2.0)])
    for window in (10, 64):
        scored = score_stream(lambda w: nats[w[:, 1:] - 1], torch.arange(111), 1, window, 8, Stop())
        assert scored.mean().item() == pytest.approx(1.9091, abs=1e-4)
    with pytest.raises(Stopped):
        score_stream(lambda w: w[:, 1:].float(), torch.arange(9), 1, 4, 8, Stop(requested=True))
    with pytest.raises(RlabError, match="a text of 1 token has none that could be told"):
        score_stream(lambda w: w[:, 1:].float(), torch.arange(1), 1, 4, 8, Stop())


@pytest.mark.parametrize("lengths", [(4, 2, 0), (0, 0, 0)])
def test_padding_is_no_part_of_the_loss(lengths: tuple[int, ...]) -> None:
    """Uniform logits over ten tokens cost ln 10 each, however long sequences are; item 235 divides by their padding."""
    mask = torch.arange(4) < torch.tensor(lengths)[:, None]
    right = math.log(10) if any(lengths) else 0.0
    first = torch.ones(3, 1, dtype=torch.bool)
    tokens = torch.where(torch.cat([first, mask], 1), 5, 0)
    logits = torch.zeros(3, 4, 10, requires_grad=True)
    batches: dict[str, tuple[str, str, dict[str, Any]]] = {
        "transformer-lm": ("shakespeare-small", "tokens", {"tokens": tokens, "mask": torch.cat([first, mask], 1)}),
        "attention": ("rule-pairs", "target", {"target": tokens, "target_mask": torch.cat([first, mask], 1)}),
        "rnn": ("anbn", "x", {"y": tokens[:, 1:], "mask": mask}),
    }
    for recipe, (data, _, tensors) in batches.items():
        task = task_of(recipe, data, width=8, layers=1, label_smoothing=0.0)
        loss = task.loss(logits, Batch(tensors, torch.arange(3)))["loss"]
        assert loss.item() == pytest.approx(right, abs=1e-6), recipe
        loss.backward()
        # The longer sequence counts more: a mean of their means would be another number.
        steep = torch.zeros(3, 4, 10)
        steep[1, :, 1] = 50.0
        mean = (lengths[0] * math.log(10) + lengths[1] * 50) / max(sum(lengths), 1)
        assert task.loss(steep, Batch(tensors, torch.arange(3)))["loss"].item() == pytest.approx(mean, abs=1e-4), recipe
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[~mask] == 0).all()


def test_state_is_carried_within_an_epoch() -> None:
    fit = of_recipe("rnn-lm", "shakespeare-small", **{**LM, "batch_size": 5, "dropout": 0.0})
    task: Any = fit.task
    task.model.eval()
    first, second = (task.data.at(0, n) for n in (0, 1))
    assert (first["tokens"][:, -1] == second["tokens"][:, 0]).all()  # the second goes on where the first ends
    whole = task.model(torch.cat([first["tokens"][:, :-1], second["tokens"][:, :-1]], 1))
    parts = torch.cat([task.forward(first), task.forward(second), task.forward(second)], 1)
    assert torch.allclose(parts[:, :24], whole, atol=1e-5)
    assert torch.equal(parts[:, 12:24], parts[:, 24:])  # a batch that is looked at again is the same batch
    assert not task.carried.after.requires_grad
    fresh = task.forward(task.data.at(1, 0))
    assert torch.allclose(fresh, task.model(task.data.at(1, 0)["tokens"][:, :-1]), atol=1e-5)
    with pytest.raises(RlabError, match="a Transformer has none; nearest: --encoder gru"):
        of_recipe("transformer-lm", "shakespeare-small", carry=True, **LM)


def test_text_that_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of("transformer-lm", "shakespeare-small", **LM)
    how: dict[str, Any] = {"length": 30, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    texts = ["".join(task.write(prompt, seed, **how)) for prompt, seed in (("ab", 1), ("ab", 1), ("ab", 2), ("", 1))]
    assert texts[0] == texts[1] != texts[2]
    assert all(20 < len(text) <= 30 for text in texts)
    assert task.model.training, "it is left as it was"
    greedy = [("".join(task.write("the " * 50, seed, **how | {"temperature": 0.0}))) for seed in (1, 2)]
    assert greedy[0] == greedy[1]  # longer than the window: what is last counts
    assert task.unknown("Ä\0b漢Ä") == ["Ä", "\0", "漢", "Ä"]
    assert len("".join(task.write("Ä\0漢", 1, **how))) == 30


def test_score_of_a_text() -> None:
    fit = of_recipe("transformer-lm", "shakespeare-small", **{**LM, "window": 256})
    score = fit.evaluate_split("test", Stop())
    data: Any = fit.task.dataset  # type: ignore[attr-defined]
    assert score["examples"] == len(data.part("test")), "also the first one, told from the split before"
    assert score["mean"] == pytest.approx(math.exp(score["loss"]))
    assert score["nats_per_character"] == pytest.approx(score["loss"], rel=1e-3)  # tokens are characters
    assert score["low"] < score["mean"] < score["high"]
    assert 50 < score["mean"] < 80  # of 65 characters, before it has learned
    assert len(score["sample"]) == 8


def test_own_predictions_grow_over_the_run() -> None:
    task = task_of("attention", "rule-pairs", epochs=4, scheduled_sampling=0.5, **PAIRS)
    shares = [task.own_share((epoch, 0)) for epoch in range(6)]
    assert shares == pytest.approx([0, 0.125, 0.25, 0.375, 0.5, 0.5])
    batch = Batch(task.data.at(0, 0).tensors, torch.arange(8), (3, 0))
    task.model.eval()
    teacher = task.forward(batch)
    assert torch.equal(teacher, task.forward(batch))  # an evaluation is told the right words
    task.model.train()
    torch.manual_seed(0)
    assert not torch.allclose(teacher, task.forward(batch))
    with pytest.raises(RlabError, match=r"--scheduled-sampling is 0.5, .* --body recurrent"):
        of_recipe("transformer", "rule-pairs", scheduled_sampling=0.5)


def test_translation_and_its_attention() -> None:
    task = task_of("attention", "dates", **PAIRS)
    (done,) = task.translate([task.dataset.sources[0]])
    assert done.attention.shape == (len(done.target), len(done.source))
    assert np.allclose(done.attention.sum(1), 1, atol=1e-5)
    assert done.target[-1] == done.source[-1] == "<end>"
    assert set(task.draw(Stop())) == {"alignments"}
    for text, why in (("", "nothing to translate"), ("1" * 200, "a text of 200 tokens is longer than the 128")):
        with pytest.raises(RlabError, match=why):
            task.translate([text])
    without = task_of("seq2seq", "dates", **PAIRS)
    assert without.translate(["\0é"])[0].attention is None
    assert without.unknown("\0é") == ["\0", "é"]
    assert without.draw(Stop()) == {}


def test_unseen_references_are_scored_apart() -> None:
    task = task_of("seq2seq", "rule-pairs", **PAIRS)
    splits = task.dataset.splits
    task.dataset = replace(task.dataset, splits=splits | {"test_unseen": splits["test"][:7]})
    score = task.evaluate("test", Stop())
    assert score["unseen"]["examples"] == 7
    assert score["beam"] == 2
    assert task.evaluate("validation", Stop())["beam"] == 1
    assert "tok:none" in score["signature"]
    assert "tok:char" in task_of("seq2seq", "dates", **PAIRS).evaluate("validation", Stop())["signature"]
    assert score["sample"].count("→") == 4


def test_gradient_as_printed_is_wrong() -> None:
    """Item 213: at y = .5, .9, .99 the listing's slope is .94, 2.28, 19.95 times the right one (finite differences)."""
    y = torch.tensor([0.5, 0.9, 0.99], dtype=torch.float64)
    u = torch.logit(y).requires_grad_()
    right = (torch.sigmoid(u + 1e-6) - torch.sigmoid(u - 1e-6)) / 2e-6
    (printed,) = torch.autograd.grad(printed_sigmoid(u).sum(), u)
    assert torch.allclose(printed_sigmoid(u), y)
    assert (printed / right).tolist() == pytest.approx([0.94, 2.28, 19.95], abs=5e-3)
    for loss, close in (("squared", True), ("squared-as-printed", False)):
        task = task_of("rnn", "binary-addition", loss=loss, **STEPS)
        batch, weight = task.data.at(0, 0), task.model.head.weight
        task.losses(batch)["loss"].backward()
        gradient, change = weight.grad[0, 3].item(), torch.zeros_like(weight)
        change[0, 3] = 1e-2
        losses = []
        for sign in (1, -1):
            weight.data += sign * change
            losses.append(task.losses(batch)["loss"].item())
            weight.data -= sign * change
        assert (abs((losses[0] - losses[1]) / 2e-2 - gradient) < 1e-3) == close, loss


def test_all_pairs_of_the_adder_are_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the splits as they are
    fit = of_recipe("rnn", "binary-addition", encoder="gru", width=16, batch_size=256, epochs=1, examples=256)
    score = fit.evaluate_split("test", Stop())
    assert score["whole"]["examples"] == 128 * 128
    assert score["whole"]["exact"] < 1
    assert set(score) >= {"steps", "longer"}
    drawn: list[tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]] = []
    monkeypatch.setattr("rlab.tasks.pictures.confusion", lambda *given: drawn.append(given) or b"")
    assert set(fit.task.draw(Stop())) == {"confusion"}
    logits, labels, classes = drawn[0]
    assert (len(logits), classes) == (8 * len(fit.task.dataset.splits["test"]), ("0", "1"))
    assert 100 * (logits.argmax(1) == labels).double().mean().item() == pytest.approx(score["steps"])


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["squared", "squared-as-printed"])
def test_adder_learns_all_pairs(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items 212 and 213: ten thousand pairs, one at a time, teach all 128 x 128, with the wrong gradient, too."""
    monkeypatch.undo()
    fit = of_recipe("rnn", "binary-addition", loss=loss, validation=0.0)
    while not fit.progress().finished:
        fit.step()
    assert fit.evaluate(Stop())["whole"]["exact"] == 100


@pytest.mark.parametrize("encoder", ["bigru", "lstm", "transformer"])
@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_sequences_are_told_one_by_one_as_in_a_batch(encoder: str, pooling: str) -> None:
    torch.manual_seed(0)
    options = {"causal": False} if encoder == "transformer" else {}
    scale = torch.stack([torch.ones(3), torch.full((3,), 2.0)])
    model = SequenceClassifier(make_sequence_encoder(encoder, 3, 8, **options), 4, None, pooling, scale=scale).eval()
    x, lengths = torch.randn(4, 6, 3), torch.tensor([6, 5, 3, 0])
    mask = torch.arange(6) < lengths[:, None]
    together = model(x, mask)
    for i, n in enumerate(lengths.tolist()[:3]):
        assert torch.allclose(together[i], model(x[i : i + 1, :n])[0], atol=1e-6)
    other = model(torch.where(mask[:, :, None], x, 99.0), mask)
    assert torch.equal(together, other)
    assert torch.isfinite(together).all()


def test_data_of_another_kind_are_refused() -> None:
    for recipe, data in (
        ("transformer-lm", "dates"),
        ("translate", "anbn"),
        ("rnn", "digits"),
        ("classify-text", "iris"),
    ):
        with pytest.raises(RlabError, match=f"'{data}' is of kind .*, and this model learns from "):
            of_recipe(recipe, data)
    for settings, why in (
        ({"heads": 2, "encoder": "gru"}, "--heads is 2, which encoder 'gru' has not"),
        ({"encoder": "bigru"}, "looks ahead"),
        ({"encoder": "grü"}, "unknown sequence encoder 'grü'"),
        ({"optimiser": "lbfgs"}, "nearest: adamw"),
        ({"examples": 10**6}, "has .* training examples, so 1,000,000 cannot be taken"),
    ):
        with pytest.raises(RlabError, match=why):
            of_recipe("transformer-lm", "shakespeare-small", **settings)
    with pytest.raises(RlabError, match="--loss squared is of two classes, and 'delayed-recall' has 4"):
        of_recipe("rnn", "delayed-recall", loss="squared")
    with pytest.raises(RlabError, match="--heads is 2, which does nothing with --body recurrent"):
        of_recipe("attention", "dates", heads=2)


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    fits: list[Trainer] = []
    for name, text in (("a", "abcd efgh\n" * 40), ("b", "abcd efgi\n" * 40)):
        (tmp_path / name).write_text(text)
        fits.append(of_recipe("transformer-lm", f"text:{tmp_path / name}", **{**LM, "examples": 8}))
    with pytest.raises(RlabError, match="is not the one that the run began with"):
        fits[1].restore(from_file(fits[0].state(), tmp_path / "saved"), Stop())
