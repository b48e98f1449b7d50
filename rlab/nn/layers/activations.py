"""Activation functions by name; all are torch's own."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from rlab.registry import Registry

ACTIVATIONS: Registry[Callable[[], nn.Module]] = Registry("activation")
"""name -> factory of a module that keeps the shape of what it is given.

Two are more than a function: ``prelu`` learns one slope of the negative half (He et al. 2015, eq. 1), and ``rrelu``
draws a slope from U(1/8, 1/3) for every negative number in training and takes the mean slope, 11/48, in evaluation
(torch's reading of Xu et al. 2015, who draw the slope's inverse from U(3, 8)). ``leaky-relu`` has the slope 0.01.
ReLU's derivative at 0 is 0.
"""

for _name, _module in {
    "identity": nn.Identity,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "hardtanh": nn.Hardtanh,
    "softsign": nn.Softsign,
    "softplus": nn.Softplus,
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "rrelu": nn.RReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
}.items():
    ACTIVATIONS.register(_name)(_module)

BENDS = (nn.ReLU6, *(type(ACTIVATIONS.get(_name)()) for _name in ACTIVATIONS if _name != "identity"))
"""The modules that are activations."""
