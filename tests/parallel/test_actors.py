"""Fleets of actors: nothing accepted is lost or counted twice, whoever dies."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import rlab
from rlab.errors import RlabError
from rlab.parallel.actors import Chunk, Collector, FleetLearning, Ledger, epsilon_of, played
from rlab.recipes import load_recipes
from rlab.run.config import changed
from rlab.run.folder import find_run
from rlab.run.journal import Journal
from rlab.run.lifecycle import BuildContext

SMALL: dict[str, Any] = {"num_envs": 4, "learning_starts": 100, "memory_size": 5_000, "hidden": 16, "threads": 1,
                         "batch_size": 16, "final_episodes": 1, "evaluate_steps": 0, "actors": 2}  # fmt: skip


def learner(folder: Path, **settings: Any) -> Any:
    """A DQN on CartPole, and its settings."""
    recipe = load_recipes().get("dqn")
    config = changed(recipe.default("CartPole-v1"), {"env": "CartPole-v1", "steps": 100_000} | SMALL | settings)
    return recipe.build(config, BuildContext("cpu", Journal(folder))), config


class Local:
    """A fleet in this process, whose actors die now and then, some of them after they have played."""

    def __init__(self, make: Callable[[int, int], Collector], dies: Callable[[int], bool]):
        self.make, self.dies = make, dies
        self.lost = self.asked = 0
        self.started = [0, 0]
        self.queue: list[tuple[int, Chunk | None]] = []
        self.returned: list[Chunk] = []

    def send(self, version: int, weights: dict[str, Any]) -> None:
        self.weights = version, {name: tensor.clone() for name, tensor in weights.items()}

    def start(self) -> None:
        self.actors = [self.make(0, 0), self.make(1, 0)]
        for actor in range(2):
            self.ask(actor)

    def ask(self, actor: int, restart: bool = False) -> None:
        self.asked += 1
        chunk = self.actors[actor].collect(*self.weights, 8, restart)
        self.queue.append((actor, None if self.dies(self.asked) else chunk))

    def next(self) -> tuple[int, Chunk | None]:
        actor, chunk = self.queue.pop(0)
        if chunk is None:
            self.lost += 1
            self.started[actor] += 1
            self.actors[actor] = self.make(actor, self.started[actor])
            self.ask(actor)
        else:
            self.returned.append(chunk)
        return actor, chunk


def test_fifty_lost_actors_cost_nothing_accepted(tmp_path: Path) -> None:
    """Each accepted step is in the replay once, in its order; the stream of a dead actor ends where it was accepted."""
    run, _config = learner(tmp_path)

    def make(actor: int, started: int) -> Collector:
        network = run.agent.make_network()
        return Collector(actor, started, "CartPole-v1", 2, 0, run.rules, network, 2, epsilon_of(actor, 2))

    fleet = Local(make, lambda asked: asked % 3 == 0)
    fleeting = FleetLearning(run, fleet, 2)
    while fleet.lost < 50:
        metrics = fleeting.step()
    fleeting.cut_all()
    accepted = list(fleet.returned)
    assert fleeting.ledger.accepted == len(accepted) > 90
    assert len({chunk.id for chunk in accepted}) == len(accepted)
    assert run.agent.steps + fleeting.cut == sum(len(chunk.steps) * 2 for chunk in accepted)
    assert metrics["actors_lost_last"] == 50
    ring = run.agent.memory
    for column in range(4):
        flags = ring._flags[column, : ring.written[column]]
        played_here = [step for chunk in accepted if chunk.id[0] == column // 2 for step in chunk.steps]
        rows = np.nonzero(flags & 4 == 0)[0]
        stored = ring._frames.reshape(4, ring.length, -1)[column, rows].numpy()
        assert np.array_equal(stored, np.stack([step.obs[column % 2] for step in played_here]))
        assert flags[-1] == 4, "the last one is the end of a stream"
        starts, ends = np.nonzero(flags & 1)[0], np.nonzero(flags == 4)[0]
        assert np.array_equal(starts[1:], ends[:-1] + 1), "an episode begins where another ended"
    run.close()


def test_chunks_are_accepted_once_and_fresh() -> None:
    ledger = Ledger(oldest=10)
    assert ledger.accept(Chunk((0, 0, 1), 0, [], []), 10)
    assert not ledger.accept(Chunk((0, 0, 1), 0, [], []), 10), "repeated"
    assert not ledger.accept(Chunk((0, 0, 2), 0, [], []), 11), "too old"
    assert ledger.accept(Chunk((0, 1, 1), 9, [], []), 11)
    assert not ledger.accept(Chunk((0, 0, 3), 11, [], []), 11), "of an actor that was given up"
    assert ledger.accept(Chunk((1, 0, 1), 11, [], []), 11)
    assert (ledger.accepted, ledger.refused, ledger.repeated) == (3, 1, 2)


def test_fleets_refuse_what_they_cannot_play(tmp_path: Path) -> None:
    run, config = learner(tmp_path, actors=3)
    says = "--num-envs 4 cannot be divided among --actors 3; nearest: --num-envs 3"
    with pytest.raises(RlabError, match=says), played(run, config, print):
        pass
    run.close()


@pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra cluster")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_learning_survives_a_killed_actor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On Ray: the learner goes on, names the loss, and saves what can be evaluated."""
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    killed = []

    def hit(progress: Any, metrics: Any) -> None:
        if not killed and progress.done > 300:
            actors = [p for p in psutil.Process().children(recursive=True) if "ray::Collector" in " ".join(p.cmdline())]
            if actors:
                actors[0].kill()
                killed.append(actors[0].pid)

    rlab.train("dqn", "CartPole-v1", name="fleet", steps=2_000, on_step=hit, log_steps=100, **SMALL)
    rows = [json.loads(line) for line in find_run("fleet").metrics.read_text().splitlines()]
    assert killed
    assert rows[-1]["kind"] == "eval"
    assert "is gone (ActorDiedError); it starts again" in capsys.readouterr().err
    assert len([row for row in rows if row["kind"] == "eval"]) == 1
    assert all(0 <= row["lag"] <= row["largest_lag"] <= 2_000 for row in rows if "lag" in row)
    assert any("lag" in row for row in rows)
