"""Heads turn a feature vector into what a task needs: classes, action values, policies."""

from rlab.nn.heads.classify import ClassifyHead, DenseHead, RbfHead
from rlab.nn.heads.policy import CategoricalHead, GaussianHead, ValueHead
from rlab.nn.heads.policy_value import PolicyValue, PolicyValueHead
from rlab.nn.heads.q import ImplicitQHead, QHead

__all__ = [
    "CategoricalHead",
    "ClassifyHead",
    "DenseHead",
    "GaussianHead",
    "ImplicitQHead",
    "PolicyValue",
    "PolicyValueHead",
    "QHead",
    "RbfHead",
    "ValueHead",
]
