"""Tournaments, sweeps and parameter servers on fleets: what is lost is done again, and comes to the same."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlab.agents.go.arena import Pairing
from rlab.agents.go.players import find_player
from rlab.agents.go.ratings import Sprt
from rlab.agents.go.tournament import Common, Tournament, TournamentPlan
from rlab.cli import main
from rlab.envs.go.boards import Setting
from rlab.parallel.games import make_arbiter, play_on
from rlab.parallel.gradient_fleet import make_worker, train_on
from rlab.parallel.jobs import Runner
from rlab.parallel.parameter_server import Server, simulate_asynchronous
from rlab.run.contract import Stop
from tests.parallel.fleets import Local

SETTING = Setting(5, 2.5)
NAMES = {"random": "random", "rollout:4": "rollout:4", "random#2": "random"}


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("sprt", [None, Sprt(0, 100, 0.1, 0.1)], ids=["round-robin", "sprt"])
def test_tournaments_on_fleets_that_lose_actors(sprt: Sprt | None) -> None:
    """Every game once, and all are the same as on one machine; a test comes to the same verdict."""
    given = {"players": NAMES, "setting": vars(SETTING), "seed": 3, "seconds": 1.0, "processes": 1}
    asked: Counter[tuple[Any, ...]] = Counter()
    told: list[Pairing] = []

    def spread(players: Any, pairings: Any, setting: Any, *, at_once: int, done: Any, seed: int, **rest: Any) -> None:
        fleet = Local(lambda actor, started: make_arbiter(given, lambda: False), lambda asked: asked % 3 == 0)
        ask = fleet.ask

        def counted(actor: int, words: Any) -> None:
            asked.update((game["first"], game["second"], game["number"]) for game in words["pairings"])
            ask(actor, words)

        def once(games: Any) -> bool:
            told.extend(game.pairing for game in games)
            return done(games)

        fleet.ask = counted  # type: ignore[method-assign]
        play_on(fleet, 2, pairings, 4, rest["stop"], once, rest["clock"])

    labels = tuple(NAMES)[: 2 if sprt else 3]
    results = []
    for name, how in (("one", {}), ("fleet", {"play": spread})):
        plan = TournamentPlan(labels, "sprt" if sprt else "round-robin", 200 if sprt else 12, sprt)
        players = {label: find_player(label.partition("#")[0]) for label in labels}
        played = Tournament(Common(SETTING, seed=3), plan, players, name, at_once=8)
        try:
            played.play(Stop(), **how)
            result = played.result()
            games = {game.pairing: game for game in played.games}
        finally:
            played.close()
        results.append((result["ratings"], result["pairs"], result["sprt"], games))
    games, found = (games for *_, games in results)
    assert max(asked.values()) > 1, "some games were played again"
    assert len(told) == len(set(told)) == len(found)
    same = games.keys() & found.keys()
    assert len(same) >= 12
    assert {pairing: games[pairing] for pairing in same} == {pairing: found[pairing] for pairing in same}
    without = [[{k: v for k, v in row.items() if k != "ms_per_move"} for row in ratings] for ratings, *_ in results]
    assert without[0] == without[1]
    assert results[0][1:3] == results[1][1:3]
    assert not sprt or results[1][2]["verdict"]


class Threads:
    """A fleet of one runner in a thread; its machine is lost once its first process has saved something."""

    def __init__(self, *args: Any, **options: Any):
        self.actors, self.asked = 1, 0
        self.came: list[tuple[int, Any]] = []

    def ask(self, actor: int, words: Any) -> None:
        self.asked += 1
        run = Path(words["variables"]["RLAB_RUNS"]) / "dqn-CartPole-v1-s0"
        lost = [lambda: any(run.glob("checkpoints/*/manifest.json")), lambda: False][self.asked > 1]

        def work() -> None:
            played = Runner(lost).play(0, {}, words)
            self.came.append((actor, None if self.asked == 1 else played))

        threading.Thread(target=work, daemon=True).start()

    def next(self, wait: float) -> Any:
        return self.came.pop(0) if self.came else None

    def close(self) -> None:
        """Nothing is held."""


def test_runs_of_a_lost_machine_go_on(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sweep on a cluster resumes what a lost machine had begun, from its checkpoint."""
    monkeypatch.setattr("rlab.parallel.jobs.Fleet", Threads)
    words = ["sweep", "--agents", "dqn", "--envs", "CartPole-v1", "--seeds", "0", "--steps", "3_000", "--name", "s"]
    settings = ["--set", "final_episodes=2", "evaluate_steps=0", "checkpoint_steps=300", "memory_size=3000"]
    assert main([*words, *settings, "--cluster", "local", "--json"]) == 0
    said = capsys.readouterr()
    (row,) = json.loads(said.out)["runs"]
    assert (row["state"], row["step"]) == ("finished", 3_000)
    assert "dqn-CartPole-v1-s0: the machine that it was on is gone; it goes on elsewhere" in said.err
    log = (runs / "s" / "logs" / "dqn-CartPole-v1-s0.log").read_text()
    assert [line.split()[2] for line in log.splitlines() if line.startswith("$ rlab")] == ["train", "resume"]


def quadratic(scale: float) -> Callable[..., Any]:
    """A gradient that differs for each worker and number."""
    return lambda parameters, worker, number: scale * parameters + 0.01 * (worker + 1) * np.cos(number + worker)


@pytest.mark.parametrize("bound", [None, 1])
def test_gradients_of_fleets_are_those_of_one_process(bound: int | None) -> None:
    """In the same order they come to the same bits; a lost worker's gradient is computed again."""
    start = np.array([1.0, -2.0])
    trace = simulate_asynchronous(quadratic(0.5), start, 0.1, 3, lambda worker, number: 1.0, 13.0, bound)

    def make(worker: int, started: int) -> Any:
        where = {"gradient": f"{__name__}:quadratic", "arguments": {"scale": 0.5}, "worker": worker, "started": started}
        return make_worker(where, bool)

    server = Server(start, 0.1, bound)
    train_on(Local(make, lambda asked: False, 3), server, 3, len(trace.seconds))
    assert np.array_equal(server.parameters, trace.parameters)
    assert server.staleness == trace.staleness
    assert (server.refused > 0) == (bound is not None)
    fleet, lossy, again = (
        Local(make, lambda asked: asked % 5 == 0, 3),
        Server(start, 0.1, bound),
        Server(start, 0.1, bound),
    )
    train_on(fleet, lossy, 3, 40)
    for piece in fleet.returned:
        again.push(piece.version, piece.content["gradient"])
    assert fleet.lost > 5
    assert lossy.version == 40
    assert np.array_equal(lossy.parameters, again.parameters)
