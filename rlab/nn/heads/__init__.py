"""Heads: feature vector to what a task needs."""

from rlab.nn.heads.q import QHead

__all__ = ["QHead"]
