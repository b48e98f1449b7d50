"""Tournaments, sweeps and parameter servers on fleets: what is lost is done again, and comes to the same."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlab.agents.go.arena import Pairing, ThinkingTime, play_games
from rlab.agents.go.players import find_player
from rlab.agents.go.ratings import Sprt
from rlab.agents.go.tournament import Common, Tournament, TournamentPlan
from rlab.cli import main
from rlab.compare.processes import LOST
from rlab.envs.go.boards import Setting
from rlab.errors import RlabError
from rlab.parallel.games import make_arbiter, play_on
from rlab.parallel.gradient_fleet import make_worker, train_on, train_on_cluster
from rlab.parallel.jobs import Cluster, Runner
from rlab.parallel.parameter_server import Server, simulate_asynchronous
from rlab.run.checkpoint import from_bytes, to_bytes
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


def test_games_that_are_over_survive_a_stop() -> None:
    """An arbiter that is asked to stop returns them, and they are told; nothing new is begun."""
    given = {"players": NAMES, "setting": vars(SETTING), "seed": 3, "seconds": 1.0, "processes": 1}
    pairings = [Pairing("random", "rollout:4", number) for number in range(12)]
    whole, some, stop, polls = list[Any](), list[Any](), Stop(), 0
    players = {label: find_player(label) for label in ("random", "rollout:4")}
    play_games(players, pairings[6:], SETTING, seed=3, done=lambda games: bool(whole.extend(games)))

    def stopped() -> bool:
        nonlocal polls
        polls += 1
        return polls > sorted(len(game.moves) for game in whole)[2]  # it polls once a move

    class Stopping(Local):
        """Its actors play until they are stopped; one is lost then."""

        stops = 0

        def ask(self, actor: int, words: Any) -> None:
            self.asked += 1
            self.words = words
            stop.request("SIGINT")

        def stop(self, actor: int) -> None:
            self.stops += 1
            played = self.players[actor].play(0, {}, self.words) if actor == 0 else None
            self.queue.append((actor, from_bytes(to_bytes(played)) if played else None))

    def told(games: Any) -> bool:
        some.extend(games)
        return False

    fleet = Stopping(lambda actor, started: make_arbiter(given, stopped), bool)
    play_on(fleet, 2, iter(pairings), 6, stop, told, ThinkingTime())
    assert 3 <= len(some) < len(whole) == 6
    assert all(game in whole for game in some)
    assert (fleet.asked, fleet.stops, fleet.lost) == (2, 2, 1)


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


class Scripted:
    """A fleet of two runners that gives what a test says."""

    def __init__(self, *args: Any):
        self.actors, self.came, self.closed = 2, list[tuple[int, Any]](), False
        self.asked: list[int] = []

    def ask(self, actor: int, words: Any) -> None:
        self.asked.append(actor)

    def stop(self, actor: int) -> None:
        """Nothing."""

    def next(self, wait: float) -> Any:
        return self.came.pop(0) if self.came else None

    def close(self) -> None:
        self.closed = True


def test_processes_are_lost_with_their_own_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with one that was gone while it had nothing to do; one that was asked to leave has left."""
    monkeypatch.setattr("rlab.parallel.jobs.Fleet", Scripted)
    cluster = Cluster("local", None, 1, print)
    fleet: Any = cluster.fleet
    fleet.came = [(1, None), (0, None)]
    first, second = (cluster.begin([], Path(), {}) for _ in range(2))
    assert (first.poll(), second.poll()) == (None, None)
    assert sorted(fleet.asked) == [0, 1]
    second.terminate()
    fleet.came = [(0, None), (1, None)]
    assert {first.poll(), second.poll()} == {LOST, -signal.SIGTERM}
    fleet.came = [(cluster.begin([], Path(), {}).actor, {"status": 0, "error": ""})]
    cluster.hear(0)
    third = cluster.begin([], Path(), {})
    third.kill()
    assert fleet.closed
    assert third.wait() == -signal.SIGKILL


def test_machines_without_the_folder_end_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlab.parallel.jobs.Fleet", Scripted)
    played = Runner(bool).play(0, {}, {"log": str(tmp_path / "far" / "a.log"), "words": [], "variables": {}})
    cluster = Cluster("local", None, 1, print)
    process = cluster.begin([], Path(), {})
    fleet: Any = cluster.fleet
    fleet.came = [(process.actor, played)]
    with pytest.raises(RlabError, match=r"cannot write .*a.log .No such file.*; all machines of a cluster must share"):
        process.poll()
    assert process.poll() == 1, "nobody waits for it"


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


def test_gradients_need_workers() -> None:
    with pytest.raises(RlabError, match="workers is 0; it must be at least 1"):
        train_on_cluster(f"{__name__}:quadratic", {}, np.zeros(2), 0.1, 0, 5)


@pytest.mark.parametrize("words", ["tournament random rollout:4", "sweep --agents dqn --envs CartPole-v1"])
def test_clusters_are_refused_before_anything_is_written(
    words: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words.split(), "--cluster", "here"]) == 1
    assert "--cluster is 'here'; valid: local, auto, HOST:PORT" in " ".join(capsys.readouterr().err.split())
    assert not any(runs.iterdir())
