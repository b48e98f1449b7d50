"""Sampling and beam search, against values by hand and exhaustive search."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from rlab.errors import RlabError
from rlab.nn.sequence.generate import beam_search, next_probabilities, sample_tokens, stream_tokens

BOS, EOS, A, B = range(4)


def table(rows: dict[int, list[float]]) -> Any:
    """A model whose next token depends on the last one alone: id -> probabilities of all ids."""
    logits = torch.tensor([rows.get(i, [0.0, 1.0, 0, 0]) for i in range(4)]).log()

    def step(ids: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return logits[ids], state + 1

    return step


def random_model(seed: int, classes: int = 5) -> Any:
    """Logits by the state's row and by all tokens so far."""
    weights = torch.randn(classes, classes, generator=torch.Generator().manual_seed(seed)).double() * 2

    def step(ids: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        sums = state["sum"] * 0.9 + weights[ids]
        return sums.sin() * 3, {"sum": sums}

    return step


def starts(rows: int, classes: int = 5) -> dict[str, Tensor]:
    return {"sum": torch.randn(rows, classes, generator=torch.Generator().manual_seed(7)).double()}


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_longer_sequence_wins_if_it_is_likelier(penalty: float) -> None:
    """p(a, b, EOS) = .5, .4, .1; EOS follows a with .3 and b with .9: the best is "b" with .36."""
    step = table({BOS: [0, 0.1, 0.5, 0.4], A: [0, 0.3, 0.7, 0], B: [0, 0.9, 0, 0.1]})
    found = beam_search(step, torch.zeros(1), BOS, EOS, beam=3, length_penalty=penalty, max_length=10)[0]
    assert found[0].ids == [B]
    assert found[0].log_probability == pytest.approx(-1.0217, abs=1e-4)
    assert found[0].score == pytest.approx(-1.0217 / 2**penalty, abs=1e-4)
    assert {tuple(h.ids) for h in found} == {(B,), (A,), ()}


def test_length_normalisation_favours_the_longer_one() -> None:
    """ "" with .4 against "aa" with .6 * .7 * .9 = .378: by log-probability the first, by its mean the second."""
    step = table({BOS: [0, 0.4, 0.6, 0], A: [0, 0.3, 0, 0.7], B: [0, 0.9, 0.1, 0]})
    best = [beam_search(step, torch.zeros(1), BOS, EOS, 3, p, 10)[0][0].ids for p in (0.0, 1.0)]
    assert best == [[], [A, B]]


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_searches_as_each_row_alone(seed: int) -> None:
    step, state = random_model(seed), starts(4)
    batch = beam_search(step, state, 0, 1, 3, 1.0, 8)
    for row in range(4):
        alone = beam_search(step, {"sum": state["sum"][row : row + 1]}, 0, 1, 3, 1.0, 8)[0]
        assert [h.ids for h in batch[row]] == [h.ids for h in alone]
        assert [h.score for h in batch[row]] == pytest.approx([h.score for h in alone])


@pytest.mark.parametrize("length", [3, 12])
def test_a_beam_of_one_is_greedy(length: int) -> None:
    """With length normalisation and where the length cuts it off, too."""
    step, state = random_model(1), starts(4)
    searched = beam_search(step, state, 0, 1, 1, 1.0, length)
    greedy = sample_tokens(step, state, torch.zeros(4, 1, dtype=torch.int64), length, temperature=0)
    for row, ids in zip(searched, greedy.tolist(), strict=True):
        assert row[0].ids == list(itertools.takewhile(lambda i: i != 1, ids))


def test_a_wide_beam_finds_the_best_of_all() -> None:
    """Against every sequence of at most 3 tokens and EOS."""
    step, state = random_model(2), starts(1)
    best: tuple[float, tuple[int, ...]] = (-float("inf"), ())
    for n in range(4):
        for ids in itertools.product([0, 2, 3, 4], repeat=n):
            total, s, last = 0.0, state, 0
            for i in (*ids, 1):
                logits, s = step(torch.tensor([last]), s)
                total, last = total + logits.log_softmax(1)[0, i].item(), i
            best = max(best, (total, ids))
    found = beam_search(step, state, 0, 1, 200, 0.0, 4)[0]
    ended = [h for h in found if len(h.ids) < 4]
    assert tuple(ended[0].ids) == best[1]
    assert ended[0].log_probability == pytest.approx(best[0])


def test_temperature_top_k_and_top_p_by_hand() -> None:
    p = torch.tensor([[0.5, 0.25, 0.15, 0.1]])
    logits = p.log()
    cases: list[tuple[dict[str, Any], list[float]]] = [
        ({}, [0.5, 0.25, 0.15, 0.1]),
        ({"temperature": 0}, [1, 0, 0, 0]),
        ({"temperature": 0.5}, [0.25, 0.0625, 0.0225, 0.01]),
        ({"temperature": 1e-320}, [1, 0, 0, 0]),
        ({"temperature": 1e300}, [1, 1, 1, 1]),
        ({"top_k": 2}, [2, 1, 0, 0]),
        ({"top_k": 9}, [0.5, 0.25, 0.15, 0.1]),
        ({"top_p": 0.5}, [1, 0, 0, 0]),
        ({"top_p": 0.6}, [2, 1, 0, 0]),
        ({"top_p": 1e-9}, [1, 0, 0, 0]),
        ({"top_k": 3, "top_p": 0.7}, [2, 1, 0, 0]),
    ]
    for options, weights in cases:
        expected = torch.tensor(weights) / sum(weights)
        torch.testing.assert_close(next_probabilities(logits, **options)[0], expected, msg=str(options))
    assert sorted(next_probabilities(torch.zeros(1, 4), top_k=2)[0].tolist()) == [0, 0, 0.5, 0.5]  # never more than k


def test_samples_follow_their_generator() -> None:
    """The same seed gives the same tokens, streamed or not, and torch's own generator stays as it was."""
    step, state, prompt = random_model(0), starts(2), torch.tensor([[0, 2], [0, 3]])
    before = torch.get_rng_state()
    one, two = (sample_tokens(step, state, prompt, 30, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    stream = stream_tokens(step, state, prompt, generator=torch.Generator().manual_seed(5))
    assert torch.equal(one, two)
    assert torch.equal(torch.stack([next(stream) for _ in range(30)], dim=1), one)
    assert torch.equal(torch.get_rng_state(), before)
    assert sample_tokens(step, state, prompt, 0).shape == (2, 0)


def test_impossible_settings_are_refused() -> None:
    step = random_model(0)
    with pytest.raises(RlabError, match=r"top_p in \(0, 1\], not 1.0, 0 and 0"):
        sample_tokens(step, starts(1), torch.zeros(1, 1, dtype=torch.int64), 1, top_p=0)
    with pytest.raises(RlabError, match="at least one token, and this one is empty"):
        sample_tokens(step, starts(1), torch.zeros(1, 0, dtype=torch.int64), 1)
    with pytest.raises(RlabError, match="a beam and a max_length of 1 or more, not 0 and 5"):
        beam_search(step, starts(1), 0, 1, 0, max_length=5)
    with pytest.raises(RlabError, match="a state with a tensor in it"):
        beam_search(step, (), 0, 1)
