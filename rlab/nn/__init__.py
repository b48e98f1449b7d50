"""The common nn module: encoders and heads that every learner shares. Imports torch."""

from rlab.nn.encoders import ENCODERS, Encoder, make_encoder
from rlab.nn.heads import QHead

__all__ = ["ENCODERS", "Encoder", "QHead", "make_encoder"]
