"""Language models and translators: writing step by step equals reading all at once."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlab.errors import RlabError
from rlab.nn.sequence.generate import beam_search
from rlab.nn.sequence.language import LanguageModel, detached, next_token_loss
from rlab.nn.sequence.seq2seq import Seq2Seq, TransformerTranslator

K = 11


def language_model(encoder: str, **options: Any) -> LanguageModel:
    torch.manual_seed(0)
    model = LanguageModel(K, encoder, 16, 2, **options).eval()
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    return model


LEARNED = {"context": 8, "positions": "learned", "bias": False}


@pytest.mark.parametrize(
    ("encoder", "options"),
    [
        ("lstm", {}),
        ("mingru", {}),
        ("gtrxl", {"context": 8}),
        ("transformer", {"context": 8}),
        ("transformer", LEARNED),
    ],
    ids=lambda v: v if isinstance(v, str) else "-".join(v),
)
def test_steps_equal_the_whole(encoder: str, options: dict[str, Any]) -> None:
    """Up to the context; also in two parts, and with sequences of the batch exchanged on the way."""
    model, tokens = language_model(encoder, **options), torch.randint(K, (3, 8))
    whole, state, out = model(tokens), model.begin(3), []
    for ids in tokens.unbind(1):
        logits, state = model.step(ids, state)
        out.append(logits)
    torch.testing.assert_close(torch.stack(out, dim=1), whole, atol=1e-5, rtol=0)
    left, state = model.unroll(tokens[:, :5], model.begin(3))
    right, _ = model.unroll(tokens[:, 5:], detached(state))
    torch.testing.assert_close(torch.cat([left, right], dim=1), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_beyond_the_context_it_equals_the_recomputed_window(positions: str) -> None:
    """Context 8: at the 9th token it goes on from the last 4, at the 13th again."""
    model, tokens = language_model("transformer", context=8, positions=positions), torch.randint(K, (2, 14))
    state = model.begin(2)
    for t in range(14):
        logits, state = model.step(tokens[:, t], state)
        start = 0 if t < 8 else 4 if t < 12 else 8
        torch.testing.assert_close(logits, model(tokens[:, start : t + 1])[:, -1], atol=1e-5, rtol=0)
    with pytest.raises(RlabError, match="9 tokens at once are more than the model's context of 8"):
        model.unroll(tokens[:, :9], model.begin(2))


def test_a_tied_weight_is_stepped_once() -> None:
    """SGD with rate 0.1: it moves by 0.1 times the sum of both uses' gradients; and it is one parameter."""
    model = language_model("gru")
    weight = model.embedding.weight
    assert sum(p is weight for p in model.parameters()) == 1
    tokens, before = torch.randint(K, (2, 5)), weight.detach().clone()
    model(tokens).sum().backward()
    assert weight.grad is not None
    torch.optim.SGD(model.parameters(), 0.1).step()
    torch.testing.assert_close(weight.detach(), before - 0.1 * weight.grad)
    assert model.head.weight is model.embedding.weight
    untied = language_model("gru", tied=False)
    assert untied.head.weight is not untied.embedding.weight


def test_losses_are_means_over_tokens() -> None:
    """Uniform over 10 classes, lengths 4, 2 and 0: ln 10 for each token, and no share of the padding's."""
    mask = torch.arange(4) < torch.tensor([4, 2, 0])[:, None]
    targets = torch.zeros(3, 4, dtype=torch.int64)
    assert next_token_loss(torch.zeros(3, 4, 10), targets, mask).item() == pytest.approx(math.log(10))
    assert next_token_loss(torch.zeros(1, 4, 10), targets[:1]).item() == pytest.approx(math.log(10))
    assert next_token_loss(torch.zeros(3, 4, 10), targets, mask & False).item() == 0


def test_a_language_model_may_not_look_ahead() -> None:
    with pytest.raises(RlabError, match="encoder 'bilstm' looks ahead; nearest: gru"):
        LanguageModel(K, "bilstm")


def translators() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "fixed": Seq2Seq(7, K, "lstm", attention="none", width=16, layers=2),
        "additive": Seq2Seq(7, K, "bigru", attention="additive", width=16),
        "dot": Seq2Seq(7, K, "gru", attention="dot", width=16),
        "scaled": Seq2Seq(7, K, "bilstm", "gru", attention="scaled", width=16, layers=2),
        "transformer": TransformerTranslator(7, K, width=16, layers=2, heads=2),
        "rotary": TransformerTranslator(
            K, K, width=16, layers=2, heads=2, positions="rotary", shared=True, norm="post"
        ),
    }


def batch() -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    source, target = torch.randint(3, 7, (3, 6), generator=g), torch.randint(3, K, (3, 5), generator=g)
    return source, torch.arange(6) < torch.tensor([6, 4, 2])[:, None], target


@pytest.mark.parametrize("name", translators())
def test_translators_keep_their_contract(name: str) -> None:
    """Items 232, 234, 246: steps equal the whole, padding changes nothing, no future is seen, beams are by row."""
    model: Any = translators()[name].eval()
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    source, mask, target = batch()
    whole, state, out = model(source, mask, target), model.begin(source, mask), []
    assert whole.shape == (3, 5, K)
    for ids in target.unbind(1):
        logits, state = model.step(ids, state)
        out.append(logits)
    torch.testing.assert_close(torch.stack(out, dim=1), whole, atol=1e-5, rtol=0)
    padded = source.masked_fill(~mask, 0)
    torch.testing.assert_close(model(padded, mask, target), whole, atol=1e-6, rtol=0)
    for row, length in enumerate((6, 4, 2)):
        alone = model(source[row : row + 1, :length], None, target[row : row + 1])
        torch.testing.assert_close(alone[0], whole[row], atol=1e-5, rtol=0)
    changed = target.clone()
    changed[:, 3] = 0
    assert torch.equal(model(source, mask, changed)[:, :3], whole[:, :3])
    assert not torch.equal(model(source, mask, changed)[:, 3:], whole[:, 3:])
    if name == "fixed":
        with pytest.raises(RlabError, match="has no attention"):
            model.alignments(source, mask, target)
    else:
        weights = model.alignments(source, mask, target)
        torch.testing.assert_close(weights.sum(2), torch.ones(3, 5))
        assert not (weights * ~mask.unsqueeze(1)).any()
    found = beam_search(model.step, model.begin(source, mask), 2, 3, 3, 1.0, 8)
    for row in range(3):
        alone = beam_search(model.step, model.begin(source[row : row + 1], mask[row : row + 1]), 2, 3, 3, 1.0, 8)[0]
        assert [h.ids for h in alone] == [h.ids for h in found[row]]


def test_own_predictions_are_fed_with_their_share() -> None:
    """Item 236: share 1 is greedy writing from BOS; share 0 is the target; between, each token by a draw of its own."""
    model, (source, mask, target) = translators()["additive"], batch()
    fed: list[Tensor] = []
    model.target.register_forward_hook(lambda module, given, out: fed.append(given[0]))
    logits = model(source, mask, target, own=1.0)
    own = torch.cat(fed, dim=1)
    assert torch.equal(own[:, 0], target[:, 0])
    assert torch.equal(own[:, 1:], logits.argmax(2)[:, :-1])
    fed.clear()
    halves = [model(source, mask, target, own=0.5, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    taken = torch.cat(fed[:5], dim=1) == target
    assert torch.equal(halves[0], halves[1])
    assert taken.any()
    assert not taken.all()
    torch.testing.assert_close(model(source, mask, target, own=1e-9), model(source, mask, target), atol=1e-6, rtol=0)


def test_translators_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RlabError, match="takes recurrent encoders, not 'transformer'"):
        Seq2Seq(7, K, "transformer", "gru")
    with pytest.raises(RlabError, match="'bigru' looks ahead; nearest: gru"):
        Seq2Seq(7, K, "gru", "bigru")
    with pytest.raises(RlabError, match="cannot be shared by vocabularies of 7 and 11"):
        TransformerTranslator(7, K, shared=True)
