"""What parts of a network have that count over a whole batch, of which other processes may have the rest."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Joint:
    """A part of a network that adds up something over all processes that learn together; see `rlab.parallel`."""

    total: Callable[[Tensor], Tensor] | None = None
    """Adds up a tensor over the processes, without those whose examples do not count; None: this one learns alone."""
    leads = True
    """Whether what is drawn for all is drawn in this process."""

    def divisor(self, count: Tensor | int, examples: int) -> Tensor:
        """What the loss of a batch is divided by if it is a mean over `count` things, which may be 0.

        Of several processes, whose losses count by their examples, the joint loss is then the mean over all things.
        """
        count = torch.as_tensor(count)
        if self.total is None:
            return count.clamp(min=1)
        joint = self.total(torch.stack([count, torch.full_like(count, examples)]).double())
        return joint[0].clamp(min=1) * examples / joint[1]
