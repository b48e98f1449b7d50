"""The recurrent encoder: the same as torch's LSTM on every episode by itself."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from rlab.errors import RlabError
from rlab.nn import ENCODERS, make_encoder


@pytest.mark.parametrize("below", ["auto", "lstm", "mlp-norm"])
def test_resets_equal_running_every_episode_separately(below: str) -> None:
    """Against torch.nn.LSTM with the same weights, which starts anew for each episode."""
    torch.manual_seed(0)
    encoder = make_encoder(below, (3,), recurrent=True)
    peer = nn.LSTM(256, 256)
    for name, weights in encoder.core.named_parameters():
        getattr(peer, f"{name}_l0").data.copy_(weights)
    steps, streams = 23, 4
    x, state = torch.randn(steps, streams, 3), torch.randn(streams, encoder.state_dim)
    first = torch.rand(steps, streams) < 0.2
    first[0] = torch.tensor([True, False, True, False])
    out, after = encoder(x, state, first)
    features = encoder.below(x.flatten(0, 1)).unflatten(0, (steps, streams))
    for b in range(streams):
        h, c = (part[b][None] for part in state.chunk(2, dim=1))
        edges = [0, *[t for t in range(1, steps) if first[t, b]], steps]
        for start, end in pairwise(edges):
            if first[start, b]:
                h, c = torch.zeros_like(h), torch.zeros_like(c)
            y, (h, c) = peer(features[start:end, b], (h, c))
            torch.testing.assert_close(out[start:end, b], y, atol=1e-6, rtol=0)
        torch.testing.assert_close(after[b], torch.cat([h[0], c[0]]), atol=1e-6, rtol=0)


def test_one_step_after_the_other_equals_all_at_once() -> None:
    encoder = make_encoder("auto", (2, 10, 10), recurrent=True)
    x, first = torch.rand(6, 2, 2, 10, 10), torch.zeros(6, 2, dtype=torch.bool)
    first[3, 1] = True
    state = start = torch.randn(2, encoder.state_dim)
    whole, end = encoder(x, start, first)
    for t in range(6):
        y, state = encoder(x[t : t + 1], state, first[t : t + 1])
        torch.testing.assert_close(y[0], whole[t], atol=1e-6, rtol=0)
    torch.testing.assert_close(state, end, atol=1e-6, rtol=0)


def test_it_is_never_wider_than_512() -> None:
    assert make_encoder("nature-conv", (4, 84, 84), recurrent=True).out_dim == 512
    assert make_encoder("minatar", (4, 10, 10), recurrent=True).out_dim == 128


def test_an_agent_without_a_state_does_not_get_one() -> None:
    with pytest.raises(RlabError, match=r"encoder 'lstm' is recurrent.*nearest: the agent drqn"):
        make_encoder("lstm", (3,))
    with pytest.raises(RlabError, match="unknown encoder 'ltsm'; nearest: lstm"):
        make_encoder("ltsm", (3,), recurrent=True)


def test_a_recurrent_encoder_of_ones_own_is_taken_as_it_is() -> None:
    class Mine(nn.Module):
        recurrent, out_dim = True, 5

        def __init__(self, shape: tuple[int, ...]):
            super().__init__()

    ENCODERS.register("test-mine")(Mine)
    try:
        with pytest.raises(RlabError, match="'test-mine' is recurrent, but has no integer attribute state_dim"):
            make_encoder("test-mine", (3,), recurrent=True)
        Mine.state_dim = 7
        assert make_encoder("test-mine", (3,), recurrent=True).state_dim == 7
    finally:
        del ENCODERS._entries["test-mine"]
