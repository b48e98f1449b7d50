"""Whatever order an encoder's parameters lie in, an agent that learns from images goes on to the bit from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlab.nn.encoders import ENCODERS
from rlab.run.checkpoint import digest
from rlab.run.journal import Journal
from tests.agents.helpers import learner
from tests.agents.test_interaction import save_and_restore


class Strewn(nn.Module):
    """A convolution whose weights lie channels last, a transposed matrix, and scales with gaps between them.

    Before them all, one that nothing uses, which no optimiser remembers anything of.
    """

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.out_dim = 16
        self.unused = nn.Parameter(torch.zeros(2))
        first: nn.Module = nn.Linear(shape[0], 8)
        if len(shape) == 3:
            first = nn.Conv2d(shape[0], 8, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.first = nn.Sequential(first, nn.ReLU(), nn.Flatten())
        wide = self.first(torch.zeros(1, *shape)).shape[1]
        self.matrix = nn.Parameter((torch.randn(16, wide) / wide**0.5).t())
        self.scales = nn.Parameter(torch.ones(16, 3)[:, 0])

    def forward(self, obs: Tensor) -> Tensor:
        return torch.tanh(self.first(obs) @ self.matrix) * self.scales


IMAGES = "MinAtar/Breakout"
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dqn": ("dqn", IMAGES, {"num_envs": 4}),
    "rainbow": ("rainbow", IMAGES, {"num_envs": 4}),
    "drqn": ("drqn", IMAGES, {"num_envs": 2, "batch_size": 4}),
    "pqn": ("pqn", IMAGES, {"overlap": False, "num_envs": 4, "rollout": 8}),
    "pqn, overlapping": ("pqn", IMAGES, {"overlap": True, "num_envs": 4, "rollout": 8}),
    "reinforce": ("reinforce", IMAGES, {"rollout": 1}),
    "a2c": ("a2c", IMAGES, {}),
    "ppo": ("ppo", IMAGES, {"n_steps": 32, "num_envs": 2}),
    "sb3-a2c": ("sb3-a2c", IMAGES, {}),
    "sb3-dqn": ("sb3-dqn", IMAGES, {}),
    "sac": ("sac", "Pendulum-v1", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_any_layout_resumes_to_the_bit(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS._entries, "strewn", Strewn)
    recipe, env, settings = CASES[case]

    def build(journal: Journal) -> Any:
        return learner(journal, recipe, env, encoder="strewn", steps=400, **settings)

    def to(run: Any, steps: int) -> None:
        while run.progress().done < steps:
            run.step()

    journals = [Journal(tmp_path / name) for name in ("whole", "saved")]
    whole, run = (build(journal) for journal in journals)
    to(run, 120)
    again, newer = save_and_restore(run, journals[1], tmp_path, build)
    begun = digest(again.state())
    for each in (whole, again):
        to(each, 200)
    assert digest(again.state()) == digest(whole.state()) != begun
    for one in (whole, run, again, *journals, newer):
        one.close()
