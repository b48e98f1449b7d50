"""WaveNet: what it sees, what it is conditioned on, and that generation from kept inputs is the network's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlab.nn.wavenet import CachedWaveNet, WaveNet, generate_naively, receptive_field

DOUBLING = [2**layer for layer in range(10)]


def network(dilations: list[int], **settings: Any) -> WaveNet:
    torch.manual_seed(5)
    sizes = {"width": 4, "skip": 6, "labels": 3, "speakers": 2, "places": 5, "condition": 3, "codes": 9}
    return WaveNet(dilations, **sizes | settings)


def scored(model: WaveNet, codes: Tensor, label: int = 1, speaker: int = 0, places: Tensor | None = None) -> Tensor:
    position = torch.arange(codes.shape[1]) / codes.shape[1] if places is None else places
    return model(codes, torch.tensor([label]), torch.tensor([speaker]), position[None])[0]


@pytest.mark.parametrize(
    ("dilations", "field"), [(DOUBLING, 1_024), ([1, 2, 4, 1, 2, 4], 15), ([1, 1, 1], 4), ([3], 4), ([1], 2)]
)
def test_receptive_field_by_formula_and_gradient(dilations: list[int], field: int) -> None:
    """Item 206: L layers of doubled dilation see 2^L samples, the one that is predicted not among them."""
    model = network(dilations).double()
    assert model.field == receptive_field(dilations) == field
    kept: list[Tensor] = []
    model.embedding.register_forward_hook(lambda module, args, output: (output.retain_grad(), kept.append(output))[1])
    codes = torch.randint(9, (1, field + 6))
    t = field + 2
    scored(model, codes)[t + 1].sum().backward()  # of what follows x[t]
    matters = kept[0].grad[0].abs().sum(1)  # type: ignore[index]
    assert matters[t - field + 1] > 0
    assert matters[t] > 0
    assert not matters[: t - field + 1].any()
    assert not matters[t + 1 :].any()


def test_sample_just_beyond_field_changes_nothing() -> None:
    model, codes, t = network(DOUBLING).double().eval(), torch.randint(9, (1, 1_100)), 1_050
    before = scored(model, codes)[t + 1]
    for back, changes in ((1_023, True), (1_024, False), (0, True), (-1, False)):
        other = codes.clone()
        other[0, t - back] = (other[0, t - back] + 1) % 9
        assert torch.equal(scored(model, other)[t + 1], before) != changes


@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
def test_kept_inputs_make_the_same_sound(temperature: float) -> None:
    """In float64 the compiled loop and a whole pass for every sample make the same codes, beyond the field, too."""
    model = network([1, 2, 4, 1, 3]).double().eval()
    draws = [np.random.default_rng(seed).random(40) for seed in range(3)]
    made = CachedWaveNet(model).generate([0, 2, 1], [1, 0, 1], draws, temperature)
    for codes, label, speaker, uniform in zip(made, (0, 2, 1), (1, 0, 1), draws, strict=True):
        assert codes.tolist() == generate_naively(model, label, speaker, uniform, temperature).tolist()
        alone = CachedWaveNet(model).generate([label], [speaker], [uniform], temperature)[0]
        assert codes.tolist() == alone.tolist()
    assert temperature == 0 or len({tuple(codes) for codes in made}) == 3


def test_logits_in_float32_are_close() -> None:
    model = network([2**layer for layer in range(8)], width=16, skip=24, codes=256).eval()
    codes = torch.randint(256, (1, 600))
    with torch.no_grad():
        theirs = scored(model, codes, 2, 1).numpy()
    assert np.abs(CachedWaveNet(model).score(codes[0].numpy(), 2, 1) - theirs).max() <= 1e-4


def test_drawn_codes_have_the_probabilities() -> None:
    """Of 4,000 first codes each comes as often as the network says, to five standard deviations."""
    model = network([1]).double().eval()
    uniform = [np.array([u]) for u in np.random.default_rng(0).random(4_000)]
    counts = np.bincount(np.concatenate(CachedWaveNet(model).generate([1] * 4_000, [0] * 4_000, uniform)), minlength=9)
    expected = scored(model, torch.zeros(1, 1, dtype=torch.int64))[0].softmax(0).detach().numpy()
    assert (np.abs(counts / 4_000 - expected) < 5 * np.sqrt(expected / 4_000)).all()


def test_class_speaker_and_place_matter() -> None:
    model, codes = network([1, 2]).eval(), torch.randint(9, (1, 10))
    usual = scored(model, codes)
    for other in (
        scored(model, codes, label=2),
        scored(model, codes, speaker=1),
        scored(model, codes, places=torch.full((10,), 0.9)),
    ):
        assert not torch.allclose(other[0], usual[0])
    flat = network([1, 2], labels=1, speakers=1, places=1)
    assert torch.equal(scored(flat, codes, 0), scored(flat, codes, 0, places=torch.zeros(10)))
