"""Attention: masks and their alignment, rows that are masked whole, scores by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from rlab.errors import RlabError
from rlab.nn.sequence.attention import (
    AlignmentAttention,
    attend,
    attention_mask,
    causal_mask,
    masked_softmax,
    scaled_dot_product,
)
from rlab.nn.sequence.transformer import Transformer


def test_the_last_query_belongs_to_the_last_key() -> None:
    """q = k = 0 and v = 0 to 4: the last two queries see 0..3 and 0..4, whose means are 1.5 and 2."""
    zeros, values = torch.zeros(1, 1, 5, 1), torch.arange(5.0).view(1, 1, 5, 1)
    assert attend(zeros[:, :, :2], zeros, values, causal=True).flatten().tolist() == [1.5, 2.0]
    assert attend(zeros, zeros, values, causal=True).flatten().tolist() == [0, 0.5, 1, 1.5, 2]
    assert causal_mask(2, 5, window=2).int().tolist() == [[0, 0, 1, 1, 0], [0, 0, 0, 1, 1]]


def test_padding_is_masked_among_the_keys() -> None:
    """Tokens 5, 7 and two of padding: rows of the causal mask see the two real ones, also those of padding."""
    mask = attention_mask(torch.tensor([[5, 7, 0, 0]]) != 0, causal=True)
    assert mask[0, 0].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]
    assert attention_mask(torch.tensor([[True, False]])).shape == (1, 1, 1, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_the_fused_kernel_equals_the_equation(dtype: torch.dtype, causal: bool, masked: bool) -> None:
    """Also in bfloat16, which goes another way on a CPU; a row that sees nothing gives 0 and finite gradients."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, 2, 5, 4).to(dtype).requires_grad_() for _ in range(3))
    mask = torch.arange(5) < torch.tensor([5, 3, 0])[:, None, None, None] if masked else None
    out = attend(q, k, v, mask, causal)
    seen = causal_mask(5, 5) if causal else torch.ones(5, 5, dtype=torch.bool)
    expected, weights = scaled_dot_product(q, k, v, seen if mask is None else seen & mask)
    torch.testing.assert_close(out, expected, atol=1e-6 if dtype == torch.float32 else 0.03, rtol=0)
    grads = torch.autograd.grad(out.float().square().sum(), (q, k, v))
    assert all(torch.isfinite(g).all() for g in grads)
    if masked:
        assert not out[2].any()
        assert not weights[2].any()
        assert not grads[0][2].any()


def test_masked_softmax_sums_to_one_or_zero() -> None:
    """A whole row without anything: 0 and finite gradients; the polarity is True for what counts."""
    scores = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], requires_grad=True)
    weights = masked_softmax(scores, torch.tensor([[True, True, False], [False, False, False]]))
    e = math.e
    assert weights.tolist() == [pytest.approx([1 / (1 + e), e / (1 + e), 0]), [0, 0, 0]]
    weights.square().sum().backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize("score", ["additive", "dot", "scaled"])
@pytest.mark.parametrize("memory_dim", [4, 6])
def test_alignment_scores_are_their_equations(score: str, memory_dim: int) -> None:
    """Items 233, 242, 243: weights over the source's steps for each of the target's."""
    torch.manual_seed(0)
    layer = AlignmentAttention(4, memory_dim, score)
    query, memory = torch.randn(2, 3, 4), torch.randn(2, 5, memory_dim)
    mask = torch.arange(5) < torch.tensor([[5], [2]])
    attended, weights = layer(query, memory, mask)
    for b in range(2):
        for t in range(3):
            q, scores = query[b, t], []
            for m in memory[b, : mask[b].sum()]:
                k = layer.key(m)
                if score == "additive":
                    scores.append(layer.direction @ torch.tanh(layer.query(q) + k))
                else:
                    scores.append(q @ k / (2.0 if score == "scaled" else 1.0))
            p = torch.stack(scores).softmax(0)
            torch.testing.assert_close(weights[b, t, : len(p)], p)
            torch.testing.assert_close(attended[b, t], p @ memory[b, : len(p)])
    assert not weights[1, :, 2:].any()


def test_an_unknown_score_is_refused() -> None:
    with pytest.raises(RlabError, match="no attention has the score 'addditive'; nearest: additive"):
        AlignmentAttention(4, 4, "addditive")


def test_layer_norm_divides_by_the_biased_deviation() -> None:
    """[1, 0, 0, 0] -> 0.75 / sqrt(0.1875) = 1.7320, and -0.5773: what the Transformer's norms do."""
    model = Transformer(4, 4, 1, heads=1)
    block: Any = model.blocks[0]
    for norm in (*block.norms, model.norm):
        assert norm(torch.tensor([1.0, 0, 0, 0])).tolist() == pytest.approx([1.7320, *[-0.5773] * 3], abs=1e-4)
