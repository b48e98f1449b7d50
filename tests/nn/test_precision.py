"""In how many bits networks compute on which processors, and how images lie."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlab.nn.precision import channels_last, use_bf16

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("able", "faster"),
    [
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True}, True),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True}, False),  # half the products of fp32
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False}, False),
        ({}, False),
    ],
)
def test_auto_takes_bf16_where_it_is_faster(
    able: dict[str, Any], faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert use_bf16("auto", CPU, images=True) is faster
    assert not use_bf16("auto", CPU, images=False)
    assert use_bf16("bf16", CPU, images=False)
    assert not use_bf16("fp32", CPU, images=True)


def test_which_images_lie_channels_last() -> None:
    assert channels_last((4, 84, 84), bf16=False, norm=False)
    assert not channels_last((4, 84, 84), bf16=True, norm=False)
    assert not channels_last((4, 10, 10), bf16=False, norm=False)
    assert channels_last((4, 10, 10), bf16=True, norm=True)
    assert not channels_last((8,), bf16=False, norm=True)
