"""Where the compiled loop is taken in place of torch's layers."""

from __future__ import annotations

import torch

from rlab.agents.go.compiled import winograd
from rlab.agents.go.network import GoNetwork
from rlab.envs.go.planes import PLANES
from rlab.nn.encoders.go_resnet import GoResNet


def suits(network: GoNetwork, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a network can be read, and faster, in this way."""
    encoder = network.encoder
    return (
        (device.type, dtype) == ("cpu", torch.float32)
        and isinstance(encoder, GoResNet)
        and encoder.channels >= len(PLANES)
        and winograd.fits(network.size, encoder.channels)
    )
