"""DQN with a memory: its losses step by step, what it carries, what it stores, and what only it can solve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlab.agents.types import Step, Transitions
from rlab.agents.value.config import QConfig
from rlab.agents.value.distributions import categorical_loss, quantile_huber_loss
from rlab.agents.value.dqn import DQN
from rlab.agents.value.q_network import NetworkOutputs
from rlab.agents.value.replay import Sequences
from rlab.envs.pomdp import TMaze
from rlab.errors import RlabError
from rlab.registry import RECIPES
from rlab.run.checkpoint import digest
from rlab.run.contract import Stop
from rlab.run.journal import Journal
from tests.agents.helpers import agent_context, learner
from tests.agents.test_interaction import save_and_restore


def agent(journal: Journal, **settings: Any) -> DQN:
    small = {"num_envs": 2, "memory_size": 200, "learning_starts": 10_000, "batch_size": 18, "precision": "fp32"}
    config = QConfig(**(small | {"memory": "lstm", "burn_in": 4, "sequence": 6, "n_step": 2} | settings))
    return DQN(config, agent_context(journal, actions=3, has_masks=True))


def lived(a: DQN, count: int = 60, seed: int = 0) -> list[np.ndarray]:
    """Let an agent act and learn in noise that ends now and then, in the order of an interaction; its states, too."""
    rng = np.random.default_rng(seed)
    obs, first, pending = rng.normal(size=(2, 3)).astype(np.float32), np.ones(2, bool), None
    mask, states = np.ones((2, 3), bool), []
    for _ in range(count):
        action = a.act(obs, first, mask)
        states.append(a._before[-1])
        if pending is not None:
            a.learn(pending)
        after, last = rng.normal(size=(2, 3)).astype(np.float32), rng.random(2) < 0.15
        next_mask = rng.random((2, 3)) < 0.7
        next_mask[:, 0] = True
        over = last & (rng.random(2) < 0.5)
        reward = rng.normal(size=2).astype(np.float32)
        pending = Step(obs, action, reward, (~over).astype(np.float32), last, after, mask, next_mask)
        reset = rng.normal(size=(2, 3)).astype(np.float32)
        obs = np.where(last[:, None], reset, after)
        mask, first = np.where(last[:, None], np.ones((2, 3), bool), next_mask), last
    return states


def spread(a: DQN) -> None:
    """Networks that differ, with values large enough to see."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for network in (a.online, a.target):
            for p in network.parameters():
                p.add_(0.1 * torch.randn(p.shape, generator=g))


def slowly(network: Any, batch: Transitions, gradient: bool) -> torch.Tensor:
    """Features of every entry after the burn-in, [E - burn_in, W, D]: one observation after the other."""
    w = batch.windows
    assert w is not None
    rows = []
    state = w.state
    for t in range(len(batch.obs)):
        with torch.set_grad_enabled(gradient and t >= w.burn_in):
            state = torch.where(w.first[t][:, None], torch.zeros_like(state), state)
            features, state = network.unroll(batch.obs[t][None], state, torch.zeros_like(w.first[t][None]))
            rows.append(features[0])
    return torch.stack(rows[w.burn_in :])


VARIANTS: list[dict[str, Any]] = [
    {},
    {"double": True, "dueling": True},
    {"value": "c51", "double": True, "atoms": 7},
    {"value": "qr", "quantiles": 5},
    {"value": "iqn", "taus": 3, "act_taus": 4, "replay": "prioritised"},
    {"munchausen": True, "explore": "noisy", "hidden": 16},
    {"burn_in": 0, "n_step": 1},
]


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_the_loss_is_that_of_a_feed_forward_one_on_features_made_step_by_step(
    journal: Journal, settings: dict[str, Any]
) -> None:
    """Every variant of the head and the targets: the same batch, with the features given as observations."""
    a = agent(journal, **settings)
    lived(a)
    spread(a)
    batch = a.memory.sample(np.random.default_rng(0), 18, a.config.n_step, 0.9)
    w = batch.windows
    assert w is not None
    taus = a.draw_taus(len(batch.action))
    loss, q_mean, priority = a.loss(batch, taus)
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in a.online.named_parameters() if p.grad is not None}
    a.optimizer.zero_grad()

    def seen(network: Any, places: torch.Tensor, gradient: bool = False) -> torch.Tensor:
        return slowly(network, batch, gradient).flatten(0, 1)[places]

    with torch.no_grad():
        target = a.target_of(batch._replace(windows=None), None if taus is None else taus[1], _outputs(a, seen, w))
    output = a.online.head_outputs(seen(a.online, w.now, True), None if taus is None else taus[0])
    rows = torch.arange(len(batch.action))
    if a.config.value == "expected":
        errors = output[rows, batch.action] - target
        losses = torch.where(errors.abs() < 1, 0.5 * errors**2, errors.abs() - 0.5)
        torch.testing.assert_close(priority, errors.abs().detach(), atol=1e-5, rtol=1e-5)
    else:
        losses = _distances(a, output[rows, batch.action], target, taus)
    naive = (losses if batch.weight is None else losses * batch.weight).mean()
    assert loss.item() == pytest.approx(naive.item(), abs=1e-5)
    q = a.online.q_values(output)[rows, batch.action]
    assert q_mean.item() == pytest.approx(q.mean().item(), abs=1e-5)
    naive.backward()
    for name, p in a.online.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(gradients[name], p.grad, atol=2e-5, rtol=1e-3)


def _outputs(a: DQN, seen: Any, w: Any) -> NetworkOutputs:
    c = a.config
    return NetworkOutputs(
        online=torch.empty(0),
        target_next=seen(a.target, w.following),
        online_next=seen(a.online, w.following) if c.double else None,
        target=seen(a.target, w.now) if c.munchausen else None,
    )


def _distances(a: DQN, chosen: torch.Tensor, target: torch.Tensor, taus: torch.Tensor | None) -> torch.Tensor:
    if a.config.value == "c51":
        return categorical_loss(chosen, target)
    return quantile_huber_loss(chosen, a.fractions if taus is None else taus[0], target)


def test_nothing_of_the_burn_in_enters_the_loss_but_its_observations_do(journal: Journal) -> None:
    """Sequences of one window: rewards, actions and ends of the first steps are changed, then an observation."""
    a = agent(journal)
    lived(a)
    spread(a)
    memory, ring = a.memory, a.ring
    assert isinstance(memory, Sequences)
    env, pos = np.array([1]), np.array([12])

    def loss() -> float:
        return a.loss(memory._gather(env, pos, 0.9, 1.0))[0].item()

    before = loss()
    ring._reward[1, 12:16] += 100
    ring._action[1, 12:16] = 2
    ring._discount[1, 12:16] = 0
    assert loss() == before
    assert a.memory.ring.masks(np.array([1]), np.array([12])) is not None
    ring._mask[1, 12:16] = False
    assert loss() == before
    ring._reward[1, 16] += 100  # the first that is learned from
    assert loss() > before + 1
    ring._reward[1, 16] -= 100
    assert loss() == pytest.approx(before, rel=1e-5)
    assert ring._frames is not None
    # What the burn-in shows counts, as far as the episode goes on: it makes the state.
    starts = [t for t in range(12, 22) if ring._flags[1, t] & 1]
    shown = max([t for t in starts if t <= 15], default=12)
    ring._frames[ring.length + shown] += 1
    assert loss() != before


def test_no_gradient_flows_into_the_burn_in(journal: Journal) -> None:
    for burn_in, flows in ((4, False), (0, True)):
        a = agent(journal, burn_in=burn_in)
        lived(a)
        batch = a.memory.sample(np.random.default_rng(0), 18, 2, 0.9)
        assert batch.windows is not None
        batch.windows.state.requires_grad_()
        a.loss(batch)[0].backward()
        assert (batch.windows.state.grad is not None) == flows


def test_stored_states_are_those_of_acting_and_replay_sees_what_acting_saw(journal: Journal) -> None:
    a = agent(journal, burn_in=0)
    states = lived(a, 50)
    memory = a.memory
    assert isinstance(memory, Sequences)
    assert memory.states is not None
    stored = {tuple(s) for s in memory.states.reshape(-1, memory.state_dim) if s.any()}
    acted = {tuple(s) for step in states for s in step}
    assert len(stored) > 10
    assert stored <= acted
    batch = memory.sample(np.random.default_rng(0), 100, 2, 0.9)
    assert batch.windows is not None
    _, after = a.online.unroll(batch.obs[:6], batch.windows.state, batch.windows.first[:6])
    rows = memory.states.reshape(-1, memory.state_dim)
    place = {tuple(row.tolist()): i for i, row in enumerate(rows) if row.any()}
    compared = 0
    for start, end in zip(batch.windows.state, after, strict=True):
        if start.any():  # the next sequence starts where this one's steps end
            np.testing.assert_allclose(end.detach(), rows[place[tuple(start.tolist())] + 1], atol=1e-6)
            compared += 1
    assert compared > 10


def test_acting_carries_the_state_and_forgets_where_an_episode_starts(journal: Journal) -> None:
    a = agent(journal)
    spread(a)
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(5, 2, 3)).astype(np.float32)
    first = np.zeros((5, 2), bool)
    first[0] = first[3, 1] = True
    policy = a.policy(0)
    q = [policy.values(o, f) for o, f in zip(obs, first, strict=True)]
    features, _ = a.online.unroll(torch.from_numpy(obs), a.online.initial_state(2), torch.from_numpy(first))
    np.testing.assert_allclose(q, a.online.head_outputs(features).detach().numpy(), atol=1e-6)
    alone = a.policy(0).values(obs[3], np.array([True, True]))
    assert np.allclose(alone[1], q[3][1], atol=1e-6)
    assert not np.allclose(alone[0], q[3][0], atol=1e-3)
    with pytest.raises(RlabError, match="follows 2 games, but 1 observations came"):
        policy.act(obs[0, :1], np.zeros(1, bool), None)
    policy.act(obs[0, :1], np.ones(1, bool), None)  # new games may be of another number


def test_evaluating_leaves_the_agents_own_memory_alone(journal: Journal) -> None:
    run = learner(journal, "drqn", "rlab/TMaze-v0", num_envs=2, steps=2_000)
    for _ in range(30):
        run.step()
    before = digest(run.state())
    assert run.evaluate(Stop()) == run.evaluate(Stop())
    assert digest(run.state()) == before
    run.close()


@pytest.mark.parametrize(
    ("places", "settings"), [((1, 28, 46), {}), ((10, 19, 37, 55), {"replay": "prioritised", "explore": "noisy"})]
)
def test_saving_at_any_step_is_exact(places: tuple[int, ...], settings: dict[str, Any], tmp_path: Path) -> None:
    """Around resets, episodes' ends, and steps that were acted but not learned from; several times in one run."""

    def build(journal: Journal) -> Any:
        small = {"num_envs": 3, "train_every": 3, "reset_steps": 60, "steps": 300, "learning_starts": 30}
        return learner(journal, "drqn", "CartPole-v1", **small, memory_size=200, **settings)

    whole_journal, journal = Journal(tmp_path / "whole"), Journal(tmp_path / "journal")
    whole, run = build(whole_journal), build(journal)
    number = 0
    while not whole.progress().finished:
        if number in places:
            again, other = save_and_restore(run, journal, tmp_path / str(number), build)
            run.close()
            journal.close()
            run, journal = again, other
        run.step()
        whole.step()
        number += 1
        if number - 10 in places:
            assert digest(run.state()) == digest(whole.state()), number
    assert digest(run.state()) == digest(whole.state())
    assert run.agent.updates > 50
    for each in (run, whole, journal, whole_journal):
        each.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compile": "on"}, "--memory lstm and --compile on .* nearest: --memory lstm --compile off"),
        ({"sequence": 1}, "--sequence is 1"),
        ({"burn_in": -1}, "--burn-in is -1"),
        ({"memory_size": 4_000}, "--memory-size is 4000; it must be a number of at least 4640"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RlabError, match=message):
        QConfig(memory="lstm", **settings)


def test_an_lstm_is_not_slipped_under_an_agent_that_forgets(journal: Journal) -> None:
    with pytest.raises(RlabError, match="nearest: the agent drqn, or --memory"):
        learner(journal, "dqn", "CartPole-v1", encoder="lstm")
    named = learner(journal, "drqn", "CartPole-v1", encoder="lstm")  # what drqn has anyway
    assert type(named.agent.online.encoder.below).__name__ == "MLP"
    named.close()


def test_the_smallest_memory_that_is_accepted_works(journal: Journal) -> None:
    least = 2 * (3 + 3 * 4 + 1 + 4)
    settings = {"burn_in": 3, "sequence": 4, "n_step": 1, "num_envs": 2, "memory_size": least, "steps": 600}
    run = learner(journal, "drqn", "CartPole-v1", **settings)
    while not run.progress().finished:
        run.step()
    assert run.agent.updates > 50
    run.close()


def solved(journal: Journal, recipe: str, seed: int) -> float:
    """The mean return of an agent on the T-maze, by its own settings."""
    default = vars(_default(recipe))
    run = learner(journal, recipe, "rlab/TMaze-v0", **default, seed=seed, steps=20_000, final_episodes=100)
    while not run.progress().finished:
        run.step()
    score = float(run.evaluate(Stop())["mean"])
    run.close()
    return score


def _default(recipe: str) -> QConfig:
    config: QConfig = RECIPES.get(recipe).default("rlab/TMaze-v0").agent
    return config


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
def test_the_t_maze_is_learned_with_a_memory_and_not_without(seed: int, tmp_path: Path) -> None:
    scores = {}
    for recipe in ("drqn", "dqn"):
        journal = Journal(tmp_path / recipe)
        scores[recipe] = solved(journal, recipe, seed)
        journal.close()
    assert scores["drqn"] > 3.5
    assert scores["dqn"] < TMaze.chance + 0.8  # four standard deviations of a hundred coins
