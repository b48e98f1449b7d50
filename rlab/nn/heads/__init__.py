"""Heads: feature vector to what a task needs."""

from rlab.nn.heads.policy import CategoricalHead, GaussianHead, ValueHead
from rlab.nn.heads.q import QHead

__all__ = ["CategoricalHead", "GaussianHead", "QHead", "ValueHead"]
