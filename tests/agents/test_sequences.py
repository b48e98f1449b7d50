"""The replay of sequences against a plain list of steps that is searched by brute force."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.agents.types import Transitions
from rlab.agents.value.replay import Replay, Sequences
from rlab.errors import RlabError
from rlab.run.checkpoint import Checkpoints, digest
from rlab.run.contract import Stop
from rlab.run.journal import Journal
from tests.agents.test_replay import ACTIONS, PIXELS, Stream, brute_force, check, consistent_masks

GAMMA = 0.9
ENDS = ["", "", "", "terminated", "truncated", "life"]


class Shape(NamedTuple):
    """Of a replay of sequences."""

    length: int
    num_envs: int
    stack: int
    burn_in: int
    sequence: int
    n_step: int

    def make(self, journal: Journal, alpha: float | None) -> Sequences:
        ring = Replay(
            self.length * self.num_envs, self.num_envs, (self.stack, *PIXELS) if self.stack > 1 else PIXELS,
            np.dtype(np.int32), self.stack, ACTIONS, "cpu", journal,
        )  # fmt: skip
        return Sequences(ring, self.burn_in, self.sequence, self.n_step, 1, alpha)


class Plain(Stream):
    """A stream whose recurrent state is the number of the frame that it comes before."""

    def __init__(self, num_envs: int, stack: int):
        super().__init__(num_envs, stack)
        self.flat = stack == 1

    def put(self, memory: Sequences, ends: list[str], rng: np.random.Generator) -> None:
        self.advance(ends, rng)
        consistent_masks(self)
        step = self.steps[-1]
        before, after = (x[:, -1, 0, 0].astype(np.float32)[:, None] for x in (step.obs, step.next_obs))
        shown = step._replace(obs=step.obs[:, 0], next_obs=step.next_obs[:, 0]) if self.flat else step
        memory.add(shown, before, after)


def whole_sequences(stream: Plain, shape: Shape) -> dict[int, tuple[list[int], list[bool], list[int]]]:
    """Every sequence that must be drawable, by its first frame: its frames, where episodes start, what is learned."""
    found = {}
    for env in range(shape.num_envs):
        frames, starts, steps, start = [], [], [], True
        for s in stream.steps:
            frames.append(int(s.obs[env, -1, 0, 0]))
            starts.append(start)
            steps.append(True)
            start = bool(s.last[env])
            if start:
                frames.append(int(s.next_obs[env, -1, 0, 0]))
                starts.append(False)
                steps.append(False)
        span = shape.burn_in + shape.sequence + shape.n_step
        for number in range(0, len(frames) - span + 1, shape.sequence):
            if number - (shape.stack - 1) >= len(frames) - shape.length:  # nothing of it was written over
                learned = range(number + shape.burn_in, number + shape.burn_in + shape.sequence)
                piece = slice(number, number + span)
                found[frames[number]] = frames[piece], starts[piece], [frames[i] for i in learned if steps[i]]
    return found


def compare(batch: Transitions, stream: Plain, shape: Shape, expected: dict[int, tuple]) -> set[int]:
    """Check a batch, and tell which sequences it holds."""
    w = batch.windows
    assert w is not None
    obs = batch.obs if shape.stack > 1 else batch.obs.unsqueeze(2)
    newest = obs[:, :, -1, 0, 0].numpy()  # [E, W]
    taken = []
    for i, start in enumerate(newest[0]):
        frames, starts, learned = expected[int(start)]
        assert newest[:, i].tolist() == frames
        assert w.first[:, i].tolist() == starts
        assert w.state[i].tolist() == [start]
        taken += learned
    flat = obs[shape.burn_in :].flatten(0, 1)
    transitions = brute_force(stream.steps, 10**9, shape.stack, shape.n_step, GAMMA)
    keys = check(batch._replace(obs=flat[w.now], next_obs=flat[w.following]), transitions)
    assert sorted(keys) == sorted(taken)  # each once, nothing of the burn-in, no last frame
    for i, key in enumerate(keys):
        assert batch.mask is not None
        t, env = next(
            (t, e) for t, s in enumerate(stream.steps) for e in range(shape.num_envs) if s.obs[e, -1, 0, 0] == key
        )
        mask = stream.steps[t].mask
        assert mask is not None
        np.testing.assert_array_equal(batch.mask[i].numpy(), mask[env])
    return {int(s) for s in newest[0]}


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    stack, burn_in = draw(st.sampled_from([1, 3])), draw(st.integers(0, 4))
    sequence, n_step = draw(st.integers(2, 5)), draw(st.integers(1, 3))
    least = burn_in + 2 * sequence + n_step + stack
    length = sequence * draw(st.integers(-(-least // sequence), -(-least // sequence) + 4))
    return Shape(length, draw(st.integers(1, 3)), stack, burn_in, sequence, n_step)


@settings(max_examples=40, deadline=None)
@given(shape=shapes(), count=st.integers(1, 90), seed=st.integers(0, 999), prioritised=st.booleans())
def test_sequences_are_those_of_a_plain_list(shape: Shape, count: int, seed: int, prioritised: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal")
        memory = shape.make(journal, 0.7 if prioritised else None)
        stream, rng = Plain(shape.num_envs, shape.stack), np.random.default_rng(seed)
        for _ in range(count):
            stream.put(memory, [str(e) for e in rng.choice(ENDS, shape.num_envs)], rng)
        expected = whole_sequences(stream, shape)
        assert len(memory) == len(expected)
        if memory.priorities is not None:
            assert (memory.priorities.leaves > 0).sum() == len(expected)
        if not expected:
            with pytest.raises(RlabError, match="no whole sequence"):
                memory.sample(rng, 8, shape.n_step, GAMMA)
            assert not memory.ready(shape.n_step)
        else:
            seen: set[int] = set()
            for _ in range(30):
                seen |= compare(memory.sample(rng, 8 * shape.sequence, shape.n_step, GAMMA), stream, shape, expected)
            assert len(expected) > 12 or seen == set(expected)
        journal.close()


def test_a_batch_has_as_many_sequences_as_fit(tmp_path: Path) -> None:
    shape = Shape(40, 2, 1, 2, 5, 1)
    memory, stream, rng = shape.make(Journal(tmp_path), None), Plain(2, 1), np.random.default_rng(0)
    for _ in range(40):
        stream.put(memory, ["", ""], rng)
    for size, windows in ((3, 1), (5, 1), (14, 2), (50, 10)):
        batch = memory.sample(rng, size, 1, GAMMA)
        assert batch.windows is not None
        assert batch.obs.shape[:2] == (8, windows)
        assert len(batch.action) == len(batch.index) == 5 * windows


def test_priorities_of_sequences_by_hand(tmp_path: Path) -> None:
    """0.9 max + 0.1 mean; weights are (P_i / P_min)^-beta, the same for all transitions of a sequence."""
    shape = Shape(40, 1, 1, 0, 5, 1)
    memory, stream, rng = shape.make(Journal(tmp_path), 1.0), Plain(1, 1), np.random.default_rng(0)
    for _ in range(40):
        stream.put(memory, [""], rng)
    memory.prioritise(np.array([2, 2, 0, 2, 0]), np.array([1.0, -3.0, 0.5, 2.0, 0.5], np.float32))
    assert memory.priorities is not None
    assert memory.priorities.leaves[[0, 2]].tolist() == pytest.approx([0.5, 0.9 * 3 + 0.1 * 2], abs=2e-6)
    assert memory.priorities.leaves[[1, 3]].tolist() == [1, 1]  # not yet replayed: the largest so far
    batch = memory.sample(rng, 500, 1, GAMMA, beta=0.5)
    share = {place: float((batch.index == place).mean()) for place in (0, 1, 2)}
    assert share[2] / share[0] == pytest.approx(2.9 / 0.5, rel=0.2)
    assert share[1] / share[0] == pytest.approx(1.0 / 0.5, rel=0.2)
    assert batch.weight is not None
    for place, p in ((0, 0.5), (1, 1.0), (2, 2.9)):
        found = batch.weight.numpy()[batch.index == place].tolist()
        assert found == pytest.approx([(p / 0.5) ** -0.5] * len(found), rel=1e-5)


@pytest.mark.parametrize("alpha", [None, 0.6])
@pytest.mark.parametrize("count", [0, 3, 30, 90])
def test_restored_from_the_journal_it_is_the_same(count: int, alpha: float | None, tmp_path: Path) -> None:
    shape = Shape(24, 2, 3, 3, 4, 2)
    journal = Journal(tmp_path / "journal")
    memory, stream, rng = shape.make(journal, alpha), Plain(2, 3), np.random.default_rng(1)
    for i in range(count):
        stream.put(memory, [str(e) for e in rng.choice(ENDS, 2)], rng)
        if alpha is not None and memory.ready(2) and i % 3 == 0:
            batch = memory.sample(rng, 8, 2, GAMMA)
            memory.prioritise(batch.index, rng.random(len(batch.index)))
    path = Checkpoints(tmp_path / "checkpoints", journal).save(memory.state(), {}, count)
    other = Journal(journal.folder)
    saved = Checkpoints(tmp_path / "checkpoints", other).load(path)
    again = shape.make(other, alpha)
    again.restore(saved.state, Stop())
    assert digest(again.state()) == digest(memory.state())
    if memory.ready(2):
        one, two = (m.sample(np.random.default_rng(5), 20, 2, GAMMA) for m in (memory, again))
        assert one.windows is not None
        assert two.windows is not None
        assert (one.index == two.index).all()
        for a, b in zip((one.obs, one.reward, *one.windows), (two.obs, two.reward, *two.windows), strict=True):
            assert a == b if isinstance(a, int) else a.equal(b)
    for each in (journal, other):
        each.close()
