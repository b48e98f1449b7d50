"""The sum tree against a naive one, and prioritised replay: what is drawn, how often, with which weight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.agents.value.config import QConfig
from rlab.agents.value.dqn import DQN
from rlab.agents.value.replay import Replay
from rlab.agents.value.replay.priorities import SMALLEST, Priorities, assign, find
from rlab.agents.value.replay.ring import FINAL
from rlab.run.checkpoint import digest
from rlab.run.contract import Stop
from rlab.run.journal import Journal
from tests.agents.helpers import agent_context
from tests.agents.test_replay import PIXELS, Stream


@settings(max_examples=60, deadline=None)
@given(data=st.data(), places=st.integers(1, 40))
def test_the_sum_tree_equals_a_naive_one(data: st.DataObject, places: int) -> None:
    """Whole numbers, so that sums are exact and each boundary between shares can be tested."""
    p = Priorities(places, 1.0)
    naive = np.zeros(places)
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.lists(st.integers(0, places - 1), min_size=1, max_size=20))
        values = data.draw(st.lists(st.integers(0, 9), min_size=len(at), max_size=len(at)))
        assign(p.tree, np.array(at), np.array(values, np.float64))
        for a, v in zip(at, values, strict=True):
            naive[a] = v
        np.testing.assert_array_equal(p.leaves, naive)
        assert p.tree[1] == naive.sum()
        masses = np.arange(0, naive.sum(), 0.5)
        np.testing.assert_array_equal(find(p.tree, masses), np.searchsorted(naive.cumsum(), masses, side="right"))


@given(seed=st.integers(0, 999), places=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_nothing_of_priority_0_is_drawn_and_order_does_not_matter(seed: int, places: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(places) < 0.5, 0, 10.0 ** rng.uniform(-20, 20, places))
    values[rng.integers(places)] = 1.0
    p, q = Priorities(places, 1.0), Priorities(places, 1.0)
    assign(p.tree, np.arange(places), values)
    for i in rng.permutation(places):
        assign(q.tree, np.array([i]), rng.random(1))
        assign(q.tree, np.array([i]), values[[i]])
    np.testing.assert_array_equal(p.tree, q.tree)
    edges = np.nextafter(p.tree[1], 0)
    assert (values[find(p.tree, np.array([0.0, p.tree[1], edges, *(rng.random(20) * p.tree[1])]))] > 0).all()


def test_weights_by_hand() -> None:
    """P = .1, .4, .5 with n = 3 and beta 1: (n P)^-1 = 10/3, 5/6, 2/3; over the largest: 1, 1/4, 1/5."""
    p = Priorities(3, 1.0)
    assign(p.tree, np.arange(3), np.array([1.0, 4.0, 5.0]))
    assert p.weights(np.arange(3), 1.0).tolist() == pytest.approx([1, 0.25, 0.2])
    assert p.weights(np.arange(3), 0.5).tolist() == pytest.approx([1, 0.5, 0.2**0.5])
    assert p.weights(np.array([1, 2]), 0.0).tolist() == [1, 1]
    assert p.weights(np.array([1, 2]), 1.0).tolist() == pytest.approx([1, 0.8])


def test_new_entries_take_the_largest_priority_and_late_updates_do_no_harm() -> None:
    p = Priorities(4, 0.5)
    p.enter(np.array([0, 1]), np.array([True, False]))
    assert p.leaves.tolist() == [1, 0, 0, 0]
    p.update(np.array([0, 1, 2]), np.array([-9.0, 50.0, 50.0]))  # 1 and 2 hold nothing that can be drawn
    assert p.leaves.tolist() == pytest.approx([(9 + SMALLEST) ** 0.5, 0, 0, 0])
    p.enter(np.array([2]), np.array([True]))
    assert p.leaves[2] == p.leaves[0] == p.largest
    p.update(np.array([0]), np.array([0.0]))
    assert 0 < p.leaves[0] < 0.01


def filled(journal: Journal, steps: int = 40, stack: int = 4) -> Replay:
    rng = np.random.default_rng(0)
    replay = Replay(60, 2, (stack, *PIXELS), np.dtype(np.int32), stack, None, "cpu", journal, alpha=1.0)
    stream = Stream(2, stack)
    for t in range(steps):
        replay.add(stream.advance(["terminated" if t % 7 == 6 else "", "truncated" if t % 11 == 10 else ""], rng))
    return replay


@pytest.mark.parametrize("n_step", [1, 3])
def test_complete_windows_are_drawn_in_proportion_to_their_priority(n_step: int, journal: Journal) -> None:
    replay = filled(journal)
    priorities = replay.priorities
    assert priorities is not None
    assert (priorities.leaves[(replay._flags & FINAL > 0).ravel()] == 0).all()
    rng = np.random.default_rng(1)
    priorities.update(np.arange(60), rng.uniform(0.5, 5, 60))
    whole = np.array([int(b.index[0]) for b in replay.transitions(n_step, 0.9)])
    share = priorities.leaves[whole] / priorities.leaves[whole].sum()
    draws = 40_000
    batch = replay.sample(rng, draws, n_step, 0.9, beta=1.0)
    assert set(batch.index) == set(whole)
    counts = np.bincount(batch.index, minlength=60)[whole]
    # Stratified draws vary less than independent ones, so that five of those' standard deviations hold.
    assert (np.abs(counts - draws * share) < 5 * np.sqrt(draws * share)).all()
    assert batch.weight is not None
    weight = batch.weight.numpy()
    p = priorities.leaves[batch.index]
    np.testing.assert_allclose(weight, p.min() / p, rtol=1e-6)


def test_priorities_are_part_of_the_state(journal: Journal) -> None:
    replay = filled(journal)
    assert replay.priorities is not None
    before = digest(replay.state())
    replay.priorities.update(np.array([5]), np.array([3.0]))
    assert digest(replay.state()) != before
    again = Replay(60, 2, (4, *PIXELS), np.dtype(np.int32), 4, None, "cpu", journal, alpha=1.0)
    again.restore(replay.state(), Stop())
    assert digest(again.state()) == digest(replay.state())
    one, other = (r.sample(np.random.default_rng(2), 50, 2, 0.9, 0.6) for r in (replay, again))
    np.testing.assert_array_equal(one.index, other.index)
    assert one.weight is not None
    assert other.weight is not None
    assert one.weight.equal(other.weight)


def test_an_update_sets_the_priorities_of_its_batch(journal: Journal) -> None:
    config = QConfig(
        num_envs=2, memory_size=100, batch_size=8, replay="prioritised", priority_alpha=1.0, precision="fp32"
    )
    a = DQN(config, agent_context(journal))
    from tests.agents.test_dqn import step

    for _ in range(10):
        a.learn(step(reward=2.0))
    batch = a.memory.sample(a.rng, 8, 1, 0.9)
    _, _, error = a.loss(batch)
    a.update(batch)
    assert a.memory.priorities is not None
    np.testing.assert_allclose(a.memory.priorities.leaves[batch.index], error.numpy() + SMALLEST, rtol=1e-5)
