"""The replay against a plain list of steps that is searched by brute force."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rlab.agents.types import Step, Transitions
from rlab.agents.value.replay import Replay
from rlab.run.checkpoint import digest
from rlab.run.contract import Stop
from rlab.run.journal import Journal

ACTIONS = 3
PIXELS = (2, 2)


class Stream:
    """Environments whose every frame is unique, so that a wrong gather cannot go unseen."""

    def __init__(self, num_envs: int, stack: int):
        self.num_envs, self.stack = num_envs, stack
        self.counter = 0
        self.obs = np.stack([self.fresh() for _ in range(num_envs)])
        self.steps: list[Step] = []

    def frame(self) -> np.ndarray:
        self.counter += 1
        return np.full(PIXELS, self.counter, np.int32)

    def fresh(self) -> np.ndarray:
        older = np.zeros((self.stack - 1, *PIXELS), np.int32)
        return np.concatenate([older, self.frame()[None]])

    def advance(self, ends: list[str], rng: np.random.Generator) -> Step:
        n = self.num_envs
        next_obs = np.stack([np.concatenate([o[1:], self.frame()[None]]) for o in self.obs])
        terminated = np.array([e in ("terminated", "life") for e in ends])
        last = np.array([e in ("terminated", "truncated") for e in ends])
        step = Step(
            obs=self.obs.copy(),
            action=rng.integers(0, ACTIONS, n),
            reward=rng.normal(size=n).astype(np.float32),
            discount=(~terminated).astype(np.float32),
            last=last,
            next_obs=next_obs,
            mask=rng.random((n, ACTIONS)) < 0.7,
            next_mask=rng.random((n, ACTIONS)) < 0.7,
        )
        self.obs = np.where(last[:, None, None, None], np.stack([self.fresh() for _ in ends]), next_obs)
        self.steps.append(step)
        return step


def brute_force(steps: list[Step], length: int, stack: int, n_step: int, gamma: float) -> dict[int, tuple]:
    """Every transition that must be drawable, by the number in the newest frame of its observation."""
    expected = {}
    for env in range(len(steps[0].action)):
        # What the ring of this environment has been given: one entry a step and one for each episode's end.
        entries = [(t, kind) for t, s in enumerate(steps) for kind in (("step", "end") if s.last[env] else ("step",))]
        held = entries[-length:]
        for place, (t, kind) in enumerate(held):
            if kind == "end" or (len(entries) > length and place < stack - 1):
                continue
            reward, discount = 0.0, 1.0
            for k in range(n_step):
                if t + k >= len(steps):
                    break
                s = steps[t + k]
                reward += discount * float(s.reward[env])
                discount *= gamma * float(s.discount[env])
                over = bool(s.last[env]) or s.discount[env] == 0
                seen = t + k + 1 < len(steps) or bool(s.last[env])  # the successor's frame is in the ring
                if over or k == n_step - 1:
                    if seen:
                        s0 = steps[t]
                        mask = s.next_mask[env] if s.last[env] else steps[t + k + 1].mask[env]
                        expected[int(s0.obs[env, -1, 0, 0])] = (
                            s0.obs[env],
                            int(s0.action[env]),
                            reward,
                            discount,
                            s.next_obs[env],
                            mask,
                        )
                    break
    return expected


def check(batch: Transitions, expected: dict[int, tuple]) -> list[int]:
    keys = []
    for i in range(len(batch.action)):
        key = int(batch.obs[i, -1, 0, 0])
        obs, action, reward, discount, next_obs, mask = expected[key]
        np.testing.assert_array_equal(batch.obs[i].numpy(), obs)
        np.testing.assert_array_equal(batch.next_obs[i].numpy(), next_obs)
        assert int(batch.action[i]) == action
        assert float(batch.reward[i]) == pytest.approx(reward, abs=1e-5)
        assert float(batch.discount[i]) == pytest.approx(discount, abs=1e-6)
        np.testing.assert_array_equal(batch.next_mask[i].numpy(), mask)
        keys.append(key)
    return keys


def consistent_masks(stream: Stream) -> None:
    """The mask of a step's observation is the one that its predecessor announced, as in a real environment."""
    if len(stream.steps) > 1:
        before, now = stream.steps[-2:]
        stream.steps[-1] = now._replace(mask=np.where(before.last[:, None], now.mask, before.next_mask))


class ReplayMachine(RuleBasedStateMachine):
    @initialize(num_envs=st.integers(1, 3), stack=st.integers(2, 4), n_step=st.integers(1, 4), seed=st.integers(0, 99))
    def start(self, num_envs: int, stack: int, n_step: int, seed: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.length = stack + n_step + 6
        self.n_step, self.stack, self.num_envs = n_step, stack, num_envs
        self.rng = np.random.default_rng(seed)
        self.stream = Stream(num_envs, stack)
        self.journal = Journal(self.folder)
        self.replay = self.empty(self.journal)

    def empty(self, journal: Journal) -> Replay:
        shape = (self.stack, *PIXELS)
        return Replay(
            self.length * self.num_envs,
            self.num_envs,
            shape,
            np.dtype(np.int32),
            self.stack,
            ACTIONS,
            "cpu",
            journal,
        )

    @rule(data=st.data(), count=st.integers(1, 12))
    def add(self, data: st.DataObject, count: int) -> None:
        kinds = st.sampled_from(["", "", "", "terminated", "truncated", "life"])
        for _ in range(count):
            self.stream.advance([data.draw(kinds) for _ in range(self.num_envs)], self.rng)
            consistent_masks(self.stream)
            self.replay.add(self.stream.steps[-1])

    @rule()
    def save_and_restore(self) -> None:
        """A replay rebuilt from its state and journal is the same replay."""
        state = self.replay.state()
        again = self.empty(self.journal)
        again.restore(state, Stop())
        assert digest(again.state()) == digest(state)
        self.replay = again

    @invariant()
    def every_transition_is_right(self) -> None:
        if not getattr(self, "stream", None) or not self.stream.steps:
            return
        expected = brute_force(self.stream.steps, self.length, self.stack, self.n_step, 0.9)
        keys = [k for batch in self.replay.transitions(self.n_step, 0.9) for k in check(batch, expected)]
        assert Counter(keys) == Counter(expected.keys())

    @rule(seed=st.integers(0, 9))
    def sample(self, seed: int) -> None:
        if self.replay.ready(self.n_step):
            expected = brute_force(self.stream.steps, self.length, self.stack, self.n_step, 0.9)
            check(self.replay.sample(np.random.default_rng(seed), 16, self.n_step, 0.9), expected)

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()
            shutil.rmtree(self.folder)


TestReplay = ReplayMachine.TestCase
TestReplay.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)


@settings(max_examples=10, deadline=None)
@given(stack=st.sampled_from([1, 4]), n_step=st.integers(1, 3))
def test_sampling_is_uniform_over_transitions(stack: int, n_step: int) -> None:
    """Chi-square against equal frequencies; the last steps of an episode are drawn as often as its first."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        replay = Replay(60, 2, (stack, *PIXELS), np.dtype(np.int32), stack, None, "cpu", journal)
        stream = Stream(2, stack)
        for t in range(40):
            replay.add(stream.advance(["terminated" if t % 7 == 6 else "", "truncated" if t % 11 == 10 else ""], rng))
        n = sum(1 for _ in replay.transitions(n_step, 0.99))
        draws = 200 * n
        index = replay.sample(rng, draws, n_step, 0.99).index
        counts = np.array(list(Counter(index.tolist()).values()))
        assert len(counts) == n
        # chi-square has mean n - 1 and variance 2 (n - 1)
        chi = ((counts - 200) ** 2 / 200).sum()
        assert abs(chi - (n - 1)) < 5 * np.sqrt(2 * (n - 1))
        journal.close()


def test_one_million_frames_take_at_most_7_3_gb() -> None:
    replay = Replay(1_000_000, 8, (4, 84, 84), np.dtype(np.uint8), 4, None, "cpu", Journal(Path("unused")))
    memory, device = replay.bytes_needed()
    assert memory <= 7.3e9
    assert device == 0
