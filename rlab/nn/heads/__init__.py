"""Heads: feature vector to what a task needs."""

from rlab.nn.heads.q import ImplicitQHead, QHead

__all__ = ["ImplicitQHead", "QHead"]
