"""The benchmark runs and reports; what it measures is not asserted."""

from __future__ import annotations

import pytest
import torch

from rlab.bench.training import OneByOne, measure, plain_lenet
from rlab.data.datasets import load
from rlab.errors import RlabError
from rlab.nn.models import classifier


def test_everything_is_measured() -> None:
    told: list[str] = []
    found = measure("digits", 32, 4, 1, 1, told.append)
    assert [row["tutorial"] for row in found["rows"]] == [
        "pictures, 0 workers",
        "pictures, 2 workers",
        "tensors, 0 workers",
    ]
    assert all(row["ratio"] == pytest.approx(row["ratios"][0]) for row in found["rows"])
    assert found["ratio"] == found["rows"][0]["ratio"] > 0
    assert all(0 < share["model_share"] < 1 for share in found["shares"])
    assert len(told) == len(found["rows"]) + len(found["shares"])


def test_the_tutorials_network_is_ours_and_its_images_too() -> None:
    torch.manual_seed(0)
    ours = classifier("lenet5", (1, 28, 28), 10)
    torch.manual_seed(0)
    plain = plain_lenet((1, 28, 28), 10)
    plain[-1].load_state_dict(ours.head.logits.state_dict())
    x = torch.rand(4, 1, 28, 28)
    assert torch.allclose(plain(x), ours(x), atol=1e-6)
    data = load("digits")
    by_picture, by_tensor = OneByOne(data, True)[3], OneByOne(data, False)[3]
    assert torch.equal(by_picture[0], by_tensor[0])
    assert by_picture[1] == by_tensor[1]


def test_what_has_no_images_is_refused() -> None:
    with pytest.raises(RlabError, match="data set 'iris' is of kind table"):
        measure("iris", 8, 1, 1, 1, print)
