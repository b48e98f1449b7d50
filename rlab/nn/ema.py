"""A network and the moving average of its weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from rlab.errors import RlabError


class EMA(nn.Module):
    """A network, used in training, and the exponential moving average of its weights, used in evaluation.

    After update t the average is a_t = r a_(t-1) + (1 - r) w_t with r = min(rate, 1 - 1/(part t)), at least 0. With
    part = 1 it is the plain mean of all weights in the beginning, so that those of t = 0 leave no trace (Tarvainen &
    Valpola 2017, eq. 1, whose rate grows, too); with part = 0.1 a mean over about the newest tenth, so that those of
    early in training leave none either (Karras et al. 2024, section 3.1). Running means of norms are averaged alike;
    whole numbers are copied.

    Args:
        student: the network that learns.
        rate: of the average, at least 0 and below 1.
        part: of the updates so far that the average is over at the most, above 0 and at most 1.

    Raises:
        RlabError: a rate or part out of range.
    """

    def __init__(self, student: nn.Module, rate: float, part: float = 1.0):
        super().__init__()
        if not 0 <= rate < 1:
            raise RlabError(f"a moving average takes a rate of at least 0 and below 1, not {rate}; nearest: 0.99")
        if not 0 < part <= 1:
            raise RlabError(f"a moving average is over a part above 0 and at most 1, not {part}; nearest: 0.1")
        self.student = student
        self.teacher = copy.deepcopy(student).requires_grad_(False).eval()
        self.rate, self.part = rate, part
        self.followed: Tensor
        self.register_buffer("followed", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Compute with the network in training, with the average in evaluation."""
        outputs: Tensor = (self.student if self.training else self.teacher)(x)
        return outputs

    @torch.no_grad()
    def update(self) -> None:
        """Update the average by the network's weights; to be called after a step."""
        self.followed += 1
        new = (1 / (self.part * self.followed)).clamp(1 - self.rate, 1)  # 1 - r
        ours, theirs = self.teacher.state_dict(), self.student.state_dict()
        for name, mine in ours.items():
            if mine.is_floating_point():
                mine.lerp_(theirs[name], new.to(mine))
            else:
                mine.copy_(theirs[name])
