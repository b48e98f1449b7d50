"""The common nn module: encoders, heads and layers that every learner shares. Imports torch."""

from rlab.nn.encoders import ENCODERS, Encoder, make_encoder
from rlab.nn.heads import ImplicitQHead, QHead
from rlab.nn.layers import NoisyLinear

__all__ = ["ENCODERS", "Encoder", "ImplicitQHead", "NoisyLinear", "QHead", "make_encoder"]
