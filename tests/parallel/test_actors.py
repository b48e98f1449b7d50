"""Fleets of actors: nothing accepted is lost or counted twice, whoever dies."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import rlab
from rlab.agents.go.position_buffer import LOG
from rlab.cli import main
from rlab.errors import RlabError
from rlab.parallel.actors import ChunkLearning, GameLearning, arguments_of, make_collector, make_self_play
from rlab.parallel.data_parallel import leading
from rlab.parallel.fleet import Ledger, Piece
from rlab.recipes import load_recipes
from rlab.run.config import changed, to_plain
from rlab.run.folder import find_run
from rlab.run.journal import Journal
from rlab.run.lifecycle import BuildContext
from tests.parallel.fleets import Local, first, processes

SMALL: dict[str, Any] = {"num_envs": 4, "learning_starts": 100, "memory_size": 5_000, "hidden": 16, "threads": 1,
                         "batch_size": 16, "final_episodes": 1, "evaluate_steps": 0, "actors": 2}  # fmt: skip
GO: dict[str, Any] = {
    "encoder": "go-resnet-2x32", "num_envs": 4, "visits": 4, "cap": 12, "learning_starts": 20, "batch_size": 16,
    "window": 1_500, "reuse": 2.0, "evaluate_episodes": 2, "final_episodes": 2, "evaluate_visits": 2, "threads": 1,
    "evaluate_steps": 0, "actors": 2,
}  # fmt: skip


WINDOWLESS = {"window": 1, "learning_starts": 1}


def learner(recipe: str, folder: Path, **settings: Any) -> Any:
    """A learner on CartPole or Go, and its settings."""
    entry = load_recipes().get(recipe)
    env, small = ("Go5", GO) if recipe == "alphazero" else ("CartPole-v1", SMALL)
    config = changed(entry.default(env), {"env": env, "steps": 100_000} | small | settings)
    return entry.build(config, BuildContext("cpu", Journal(folder))), config


def test_fifty_lost_actors_cost_nothing_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each accepted step is in the replay once, in its order; the stream of a dead actor ends where it was accepted."""
    monkeypatch.setattr("rlab.parallel.actors.CHUNK", 8)
    run, config = learner("dqn", tmp_path)

    def make(actor: int, started: int) -> Any:
        return make_collector(arguments_of("dqn", config, 0, actor, started, {}), lambda: False)

    fleet = Local(make, lambda asked: asked % 3 == 0)
    learning = ChunkLearning(run, fleet, 2)
    while fleet.lost < 50:
        metrics = learning.step()
    learning.settle()
    accepted = list(fleet.returned)
    assert learning.ledger.accepted == len(accepted) > 90
    assert len({chunk.id for chunk in accepted}) == len(accepted)
    assert run.agent.steps + learning.cut == sum(len(chunk.content["steps"]) * 2 for chunk in accepted)
    assert metrics["actors_lost_last"] == 50
    ring = run.agent.memory
    for column in range(4):
        flags = ring._flags[column, : ring.written[column]]
        played_here = [step for chunk in accepted if chunk.id[0] == column // 2 for step in chunk.content["steps"]]
        rows = np.nonzero(flags & 4 == 0)[0]
        stored = ring._frames.reshape(4, ring.length, -1)[column, rows].numpy()
        assert np.array_equal(stored, np.stack([step["obs"][column % 2] for step in played_here]))
        assert flags[-1] == 4, "the last one is the end of a stream"
        starts, ends = np.nonzero(flags & 1)[0], np.nonzero(flags == 4)[0]
        assert np.array_equal(starts[1:], ends[:-1] + 1), "an episode begins where another ended"
    run.close()


def test_a_budget_ends_within_a_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was played beyond it is not learned from, and the next step of its stream is the end of it in the replay."""
    monkeypatch.setattr("rlab.parallel.actors.CHUNK", 8)
    run, config = learner("dqn", tmp_path, steps=132)  # 132 = 8 chunks of 16 steps, and 4 steps

    def make(actor: int, started: int) -> Any:
        return make_collector(arguments_of("dqn", config, 0, actor, started, {}), lambda: False)

    learning = ChunkLearning(run, Local(make, lambda asked: False), 2)
    while not run.progress().finished:
        learning.step()
    assert run.agent.steps == 132
    learning.settle()
    for column in range(4):
        flags = run.agent.memory._flags[column, : run.agent.memory.written[column]]
        assert list(np.nonzero(flags == 4)[0])[-1] == len(flags) - 1
    run.close()


def test_games_of_lost_actors_count_never_or_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AlphaZero learns from whole games, each once; what goes on after a loss is another game."""
    monkeypatch.setattr("rlab.parallel.fleet.PUSH", 5)
    run, config = learner("alphazero", tmp_path)

    def make(actor: int, started: int) -> Any:
        return make_self_play(arguments_of("alphazero", config, 0, actor, started, WINDOWLESS), lambda: False)

    fleet = Local(make, lambda asked: asked % 4 == 0)
    learning = GameLearning(run, fleet, 2)
    lags = []
    while fleet.lost < 6 or run.updates < 30:
        metrics = learning.step()
        lags += [metrics["largest_lag_max"]] if "largest_lag_max" in metrics else []
    games = fleet.returned
    rows = {name: np.concatenate([part[name] for part in run.journal.log(LOG, 0).rows()]) for name in run.window.rows}
    assert learning.ledger.accepted == run.finished == len({game.id for game in games}) == len(games) > 20
    assert run.done == run.window.end == sum(len(game.content["move"]) for game in games)
    for name, column in rows.items():
        assert np.array_equal(column, np.concatenate([game.content[name] for game in games]))
    assert len({bytes(game.content["move"].tobytes()) for game in games}) > 0.9 * len(games), (
        "others, not the same again"
    )
    assert {game.version for game in games} > {0}
    assert 0 < max(lags) < 30
    owed = run.window.end * 2.0 / 16
    assert owed - run.updates - run.owed == pytest.approx(20 * 2.0 / 16, abs=3), "all but the first are learned from"
    run.close()


def test_pieces_are_accepted_once_and_fresh() -> None:
    ledger = Ledger(oldest=10)
    assert ledger.accept(Piece((0, 0, 1), 0, {}), 10)
    assert not ledger.accept(Piece((0, 0, 1), 0, {}), 10), "repeated"
    assert not ledger.accept(Piece((0, 0, 2), 0, {}), 11), "too old"
    assert ledger.accept(Piece((0, 1, 1), 9, {}), 11)
    assert not ledger.accept(Piece((0, 0, 3), 11, {}), 11), "of an actor that was given up"
    assert ledger.accept(Piece((1, 0, 1), 11, {}), 11)
    assert (ledger.accepted, ledger.refused, ledger.repeated) == (3, 1, 2)


def test_actors_of_another_session_play_otherwise(tmp_path: Path) -> None:
    """A resumed run, and an actor that starts again, do not see the same again."""
    run, config = learner("alphazero", tmp_path)
    seeds = [arguments_of("alphazero", config, *which, {})["config"]["run"]["seed"]
             for which in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (500, 0, 0))]  # fmt: skip
    assert len(set(seeds)) == 4
    run.close()


@pytest.mark.parametrize(("words", "says"), [
    ("dqn --num-envs 4 --actors 3", "--num-envs 4 cannot be divided among --actors 3; nearest: --num-envs 3"),
    ("drqn --num-envs 4 --actors 2", "--actors is for AlphaZero, and for DQN and its variants without --memory"),
    ("dqn --num-envs 4 --actors 2 --cluster here", "--cluster is 'here'; valid: local, auto, HOST:PORT"),
])  # fmt: skip
def test_fleets_refuse_first_what_they_cannot_play(
    words: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is measured or written."""
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    monkeypatch.setattr("rlab.run.lifecycle.start_run", None)
    assert main(["train", *words.split(), "--env", "CartPole-v1"]) == 1
    assert says in " ".join(capsys.readouterr().err.split())
    assert not any(tmp_path.iterdir())


def test_runs_with_actors_have_no_workers(tmp_path: Path) -> None:
    run, config = learner("dqn", tmp_path)
    folder: Any = SimpleNamespace(config=lambda: {"recipe": "dqn", "config": to_plain(config)})
    with pytest.raises(RlabError, match="--workers 2 is for models on data"), leading(2, folder, run, None):  # type: ignore[arg-type]
        pass
    run.close()


@pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra cluster")
def test_learning_survives_killed_and_silent_processes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On Ray: an actor dies, one falls silent, and the head is killed; the learner goes on and names each loss."""
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "2")  # a minute, by default
    monkeypatch.setattr("rlab.parallel.fleet.SILENT", 2.0)
    monkeypatch.setattr("rlab.parallel.fleet.AGAIN", 0.1)
    monkeypatch.setitem(SMALL, "actors", 1)
    hits: list[Callable[[], Any]] = [
        lambda: first("ray::Host").kill(),
        lambda: first("ray::Host").suspend(),
        lambda: [p.kill() for name in ("gcs_server", "raylet") for p in processes(name)],
    ]
    lost = [0.0]

    def hit(progress: Any, metrics: Any) -> None:
        lost.append(max(lost[-1], metrics.get("actors_lost_last", 0.0)))
        stands = "lag" in metrics  # an actor that has not played yet may be silent for longer
        if progress.done > 500 and hits and stands and lost[-1] >= 3 - len(hits):
            hits.pop(0)()

    rlab.train("dqn", "CartPole-v1", name="fleet", steps=6_000, on_step=hit, log_steps=100, **SMALL)
    rows = [json.loads(line) for line in find_run("fleet").metrics.read_text().splitlines()]
    said = capsys.readouterr().err
    assert not hits
    for sentence in (
        "is gone (ActorDiedError); it starts again",
        "has been silent for 2 s; it starts again",
        "the connection to Ray is gone; the learner waits, and the fleet starts anew as soon as it can",
        "the fleet stands again",
    ):
        assert sentence in said
    assert [row["kind"] for row in rows].count("eval") == 1
    assert rows[-1]["kind"] == "eval"
    assert all(0 <= row["lag"] <= row["largest_lag"] <= 2_000 for row in rows if "lag" in row)
    assert any("lag" in row for row in rows)
    assert not processes("gcs_server"), "nothing stays behind"
