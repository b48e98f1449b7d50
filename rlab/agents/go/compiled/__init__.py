"""The network of Go read by one compiled loop, for searches on a CPU.

`rlab.agents.go.evaluator` takes it in place of torch's layers where `suits` says so: on a CPU, in fp32, for a Go-ResNet
of 32, 64 or 128 channels on a board of 5, 9, 10, 13 to 15 or 17 to 19, whose tiles of 5x5 waste little. Everything
else (a GPU, bf16, other encoders, widths and sizes) is read by the layers, which say the same up to rounding. There is
no setting: a search asks for some hundred small positions at a time, and then it is faster wherever it can be used.
"""

from rlab.agents.go.compiled.conditions import suits
from rlab.agents.go.compiled.network import Compiled

__all__ = ["Compiled", "suits"]
