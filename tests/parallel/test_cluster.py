"""Fleets on a cluster of Ray in processes of its own: what plays there, and what becomes of it when nodes are lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import rlab
from rlab.cli import main
from rlab.parallel.gradient_fleet import train_on_cluster
from rlab.parallel.parameter_server import train_in_threads
from rlab.run.folder import find_run
from tests.parallel.test_actors import GO, SMALL
from tests.parallel.test_games import quadratic

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra cluster")]
RAY = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats",
       "--object-store-memory=100000000")  # fmt: skip
CUT = 30.0
"""Seconds."""


def tree(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """A process and all below it."""
    top = psutil.Process(process.pid)
    return [*top.children(recursive=True), top]


class Machines:
    """Nodes of a cluster on this machine, of so many CPUs each: the first is the head."""

    def __init__(self, folder: Path, cpus: int):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.folder, self.cpus, self.nodes = folder, cpus, list[subprocess.Popen[bytes]]()

    def start(self) -> None:
        """Add a node."""
        port = self.address.partition(":")[2]
        head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self.folder}"]
        node = head if not self.nodes else [f"--address={self.address}"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.nodes.append(subprocess.Popen([*RAY, f"--num-cpus={self.cpus}", *node], start_new_session=True, **quiet))  # type: ignore[call-overload]

    def signal(self, node: int, number: signal.Signals) -> None:
        """Send a signal to all processes of a node."""
        for process in tree(self.nodes[node]):
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    def end(self, node: int) -> None:
        """Kill a node."""
        self.signal(node, signal.SIGKILL)
        self.nodes.pop(node).wait()


@pytest.fixture
def machines(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("RAY_AUTH_TOKEN", os.urandom(32).hex())
    for patience in ("STARTING", "JOIN"):
        monkeypatch.setattr(f"rlab.parallel.fleet.{patience}", 300.0)
    short = Path("/tmp") / f"rlab-{os.getpid()}-{time.time_ns() % 10**6}"  # Ray's sockets lie there: 107 bytes a path
    made = Machines(short, getattr(request, "param", 2))
    made.start()
    yield made
    while made.nodes:
        made.end(0)


def reached(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address, once the head answers."""
    host, _, port = machines.address.partition(":")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                time.sleep(10)
                return machines.address
        time.sleep(0.5)
    raise TimeoutError(machines.address)


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in find_run(name).metrics.read_text().splitlines()]


def test_all_that_plays_on_a_cluster(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """AlphaZero learns, a tournament and a sweep come to what they come to here, and gradients to the same bits."""
    address = reached(machines, monkeypatch)
    rlab.train("alphazero", "Go5", name="zero", steps=400, cluster=address, log_steps=50, **GO)
    rows = rows_of("zero")
    assert rows[-1]["kind"] == "eval"
    assert any(0 <= row.get("lag", -1) <= 2_000 for row in rows)
    words = ["tournament", "random", "rollout:4", "zero@2", "--board", "5", "--komi", "2.5", "--games", "8", "--json"]
    found = []
    for name, more in (("here", []), ("there", ["--cluster", address, "--actors", "2"])):
        capsys.readouterr()
        assert main([*words, "--name", name, *more]) == 0
        found.append(json.loads(capsys.readouterr().out))
    here, there = ([{k: v for k, v in row.items() if k != "ms_per_move"} for row in one["ratings"]] for one in found)
    assert here == there
    assert found[0]["records"] == found[1]["records"]
    sweep = [
        "sweep",
        "--agents",
        "q-learning",
        "--envs",
        "FrozenLake-v1",
        "--steps",
        "5_000",
        "--json",
        "--seeds",
        "0-1",
    ]
    scores = []
    for name, more in (("near", []), ("far", ["--cluster", address])):
        assert main([*sweep, "--seeds", "0-1", "--name", name, "--set", "final_episodes=5", *more]) == 0
        scores.append([run["score"] for run in json.loads(capsys.readouterr().out)["runs"]])
    assert scores[0] == scores[1]
    start = np.array([1.0, -2.0])
    served = train_on_cluster("tests.parallel.test_games:quadratic", {"scale": 0.5}, start, 0.1, 1, 20, cluster=address)
    assert np.array_equal(served.parameters, train_in_threads(quadratic(0.5), start, 0.1, 1, 20).parameters)


def trained(name: str, steps: int, hit: Callable[[Any, Any], None], cluster: str) -> list[dict[str, Any]]:
    rlab.train("dqn", "CartPole-v1", name=name, steps=steps, on_step=hit, cluster=cluster, **SMALL)
    rows = rows_of(name)
    assert rows[-1]["kind"] == "eval"
    assert rows[-1]["step"] == steps
    return rows


def test_fifty_kills_of_actors(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The learner goes on through all of them."""
    address, killed = reached(machines, monkeypatch), [0, 0.0]

    def hit(progress: Any, metrics: Any) -> None:
        killed[1] = max(killed[1], metrics.get("actors_lost_last", 0.0))
        if killed[0] < 50 and killed[1] >= killed[0] and "lag" in metrics:
            actors = [p for p in tree(machines.nodes[0]) if p.name().startswith("ray::Host")]
            if actors:
                actors[killed[0] % len(actors)].kill()
                killed[0] += 1

    trained("kills", 60_000, hit, address)
    assert killed[0] == 50
    assert killed[1] >= 50


@pytest.mark.parametrize(("machines", "what"), [(1, "cut link"), (2, "restarted head")], indirect=["machines"])
def test_machines_that_are_gone_for_a_while(
    what: str, machines: Machines, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The learner is the same process all the while, and has actors again afterwards."""
    address = reached(machines, monkeypatch)
    if what == "cut link":
        machines.start()
        time.sleep(20)  # it has joined: each of the two has one of the two actors
    monkeypatch.setattr("rlab.parallel.fleet.SILENT", 5.0)
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")
    state = {"first": 0.0, "at": 0.0, "after": 0}

    def hit(progress: Any, metrics: Any) -> None:
        now = time.monotonic()
        state["first"] = state["first"] or now
        if not state["at"] and (now - state["first"] < 20 or progress.done <= 500):
            time.sleep(0.5)  # until both actors have played: only then is 5 s of silence a loss
        elif not state["at"]:
            state["at"] = now
            if what == "cut link":
                machines.signal(1, signal.SIGSTOP)
            else:
                machines.end(0)
        elif state["at"] > 0 and now - state["at"] > CUT:
            state["at"], state["after"] = -1.0, progress.done
            if what == "cut link":
                machines.signal(1, signal.SIGCONT)
            else:
                machines.start()
        elif state["at"] > 0:
            time.sleep(0.5)  # do not end before that

    trained("gone", 40_000, hit, address)
    said = capsys.readouterr().err
    assert 500 < state["after"] < 40_000
    assert ("starts again" if what == "cut link" else "the fleet stands again") in said
