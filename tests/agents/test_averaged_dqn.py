"""Averaged-DQN: its target by hand, the order of its networks, and what a checkpoint keeps of them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlab.agents.value.averaged_dqn import AveragedDQN
from rlab.agents.value.config import AveragedDQNConfig
from rlab.errors import RlabError
from rlab.run.checkpoint import digest
from rlab.run.journal import Journal
from tests.agents.helpers import agent_context, learner
from tests.agents.test_dqn import batch
from tests.agents.test_interaction import save_and_restore


def agent(journal: Journal, **settings: Any) -> AveragedDQN:
    config = AveragedDQNConfig(**({"num_envs": 2, "memory_size": 100, "averaged": 3} | settings))
    return AveragedDQN(config, agent_context(journal))


def fix(network: Any, *q: float) -> None:
    """Let a network give these action values for every observation."""
    with torch.no_grad():
        network.head.values.weight.zero_()
        network.head.values.bias.copy_(torch.tensor(q))


@pytest.mark.parametrize(("double", "value"), [(False, 5 / 3), (True, 1 / 3)])
def test_target_is_that_of_the_mean(journal: Journal, double: bool, value: float) -> None:
    """Means [1/3, 5/3, 0, 0]: their maximum is 5/3, the mean of the maxima would be 2; double takes action 0's."""
    a = agent(journal, double=double)
    for network, q in zip(a.target.networks, ((1, 0, 0, 0), (0, 3, 0, 0), (0, 2, 0, 0)), strict=True):
        fix(network, *q)
    fix(a.online, 9, 0, 0, 0)
    b = batch()._replace(reward=torch.full((16,), 2.0), discount=torch.full((16,), 0.5))
    np.testing.assert_allclose(a.target_of(b, None), 2 + 0.5 * value, rtol=1e-6)
    _, _, error = a.loss(b._replace(action=torch.zeros(16, dtype=torch.int64)))
    np.testing.assert_allclose(error, 9 - (2 + 0.5 * value), rtol=1e-6)


def test_oldest_network_is_dropped(journal: Journal) -> None:
    a = agent(journal)
    for value in (1.0, 2.0, 3.0, 4.0):
        fix(a.online, value, 0, 0, 0)
        a.update_target()
    assert [network.head.values.bias[0].item() for network in a.target.networks] == [4, 3, 2]
    assert not any(p.requires_grad for p in a.target.parameters())


def test_one_network_is_dqn(tmp_path: Path) -> None:
    states = []
    for recipe, settings in (("dqn", {}), ("averaged-dqn", {"averaged": 1})):
        run = learner(Journal(tmp_path / recipe), recipe, num_envs=2, steps=600, **settings)
        while not run.progress().finished:
            run.step()
        assert run.agent.updates > 100
        states.append(run.agent.online.state_dict())
        run.close()
    assert digest(states[0]) == digest(states[1])


def test_resumed_run_keeps_every_network(tmp_path: Path) -> None:
    def build(journal: Journal) -> Any:
        return learner(journal, "averaged-dqn", num_envs=2, steps=600, averaged=4, learning_starts=30)

    whole, run = build(Journal(tmp_path / "whole")), build(journal := Journal(tmp_path / "journal"))
    for _ in range(150):  # 300 steps, a target every 64
        run.step()
    weights = [network.head.values.weight for network in run.agent.target.networks]
    assert not any(torch.equal(one, other) for one, other in pairwise(weights))
    again, other = save_and_restore(run, journal, tmp_path, build)
    for each in (again, whole):
        while not each.progress().finished:
            each.step()
    assert digest(again.state()) == digest(whole.state())
    for each in (run, again, other, whole):
        each.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"value": "c51"}, "--value c51"),
        ({"memory": "lstm"}, "--memory lstm exclude"),
        ({"averaged": 0}, "--averaged is 0"),
    ],
)
def test_unfit_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RlabError, match=message):
        AveragedDQNConfig(**settings)
