"""What studies of sequences share: gates held open, chains of operations, words with topics, pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlab.nn.sequence.seq2seq import Seq2Seq
from rlab.studies.gates import hold_open
from rlab.studies.pairs import learn_pairs, reversals, told, written
from rlab.studies.sequences.attention_in_parallel import chain
from rlab.studies.series import NONE, classifier, learn, right, surprise
from rlab.studies.topics import found, topical, vectors_of
from rlab.tasks.sequence.word_config import WordsConfig


@pytest.mark.parametrize("gates", [["input"], ["forget", "output"]])
def test_open_gates_stay_open_while_others_learn(gates: list[str]) -> None:
    model = classifier("lstm", 2, 3, 4, seed=0, pooling="steps")
    hold_open(model, gates)
    x = torch.randn(8, 6, 2)
    learn(model, x, torch.randint(3, (8, 6)), 3, 0, rate=0.1)
    w, u, bias_ih, bias_hh = model.encoder.layers[0].weights()
    h = c = torch.zeros(8, 4)
    for t in range(6):
        blocks = (x[:, t] @ w.T + h @ u.T + bias_ih + bias_hh).chunk(4, dim=1)
        i, f, o = (
            torch.ones_like(h) if name in gates else block.sigmoid()
            for name, block in (("input", blocks[0]), ("forget", blocks[1]), ("output", blocks[3]))
        )
        c = f * c + i * blocks[2].tanh()
        h = o * c.tanh()
    torch.testing.assert_close(model.encoder(x)[:, -1], h)
    other = {"input": 0, "forget": 1, "output": 3}.keys() - set(gates)
    assert all(w[{"input": 0, "forget": 4, "output": 12}[name]].any() for name in other)


def test_a_chain_is_the_longest_way() -> None:
    x = torch.ones(2, requires_grad=True)
    deep = x.exp().exp().exp()
    assert chain(deep + x.exp()) == chain(deep) + 1 == chain(x.exp()) + 3


def test_steps_without_a_class_are_not_scored() -> None:
    logits, y = torch.tensor([[[2.0, 0.0], [0.0, 2.0]]]), torch.tensor([[0, NONE]])
    assert surprise(logits, y).item() == pytest.approx(np.log1p(np.exp(-2)), abs=1e-6)
    assert right(torch.nn.Identity(), logits, torch.tensor([[1, NONE]])) == 0


def test_pairs_are_reversed_learned_and_written() -> None:
    generator = torch.Generator().manual_seed(0)
    batch = reversals(32, 2, 2, generator)
    assert torch.equal(batch.target[:, 1:-1], batch.source.flip(1))
    torch.manual_seed(0)
    model = Seq2Seq(6, 6, "gru", attention="none", width=16)
    learn_pairs(model, [batch] * 60, 2e-2, seed=0)
    logs, likeliest = told(model, batch)
    assert len(logs) == 32 * 3
    assert likeliest.all()
    assert written(model, batch).all()


def test_a_word_is_near_those_of_its_topic() -> None:
    text = topical(8_000, 2, 6, seed=1)
    assert (text.words.counts[text.topic < 0].sum() / 8_000) == pytest.approx(0.5, abs=0.03)
    model = vectors_of(text.words, WordsConfig(width=16, epochs=4), seed=1)
    assert found(model, text, 1, 8_000) > 75 > 100 * 5 / 11  # the latter by chance
    again = vectors_of(text.words, WordsConfig(width=16, epochs=4), seed=1)
    np.testing.assert_array_equal(model.vectors.input, again.vectors.input)
