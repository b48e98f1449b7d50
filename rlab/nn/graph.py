"""What is exported of a network: its inputs and outputs by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Graph:
    """A network to be exported.

    Attributes:
        module: the inputs in their order, [B, ...] each -> an output, or a tuple of them.
        inputs: name -> two examples, in the type that it takes.
        outputs: name -> what it is in words.
        classes: names of the first output's K numbers, where they have some.
        lengths: input -> the most that its axis 1 may be long (None: any length), where that is not fixed.
        rules: of an agent: what its environment is made with, beside its name.
        tokenizers: what text its tokens stand for, as JSON, by the name of their input; beside the file.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, str]
    classes: tuple[str, ...] | None = None
    lengths: Mapping[str, int | None] = field(default_factory=dict)
    rules: Mapping[str, Any] = field(default_factory=dict)
    tokenizers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> str:
        """The name of the first output."""
        return next(iter(self.outputs))

    def shape(self, name: str) -> tuple[int | str, ...]:
        """The shape of one of an input's items; "length" where that is not fixed."""
        shape = tuple(self.inputs[name].shape[1:])
        return ("length", *shape[1:]) if name in self.lengths else shape


class Function(nn.Module):
    """A network with what is done before and after it.

    Args:
        network: what has the weights.
        call: (network, *inputs) -> an output, or a tuple of them; None: as the network itself.
    """

    def __init__(self, network: nn.Module, call: Callable[..., Any] | None = None):
        super().__init__()
        self.network, self.call = network, call

    def forward(self, *inputs: Tensor) -> Any:
        """Compute the outputs."""
        return self.network(*inputs) if self.call is None else self.call(self.network, *inputs)
