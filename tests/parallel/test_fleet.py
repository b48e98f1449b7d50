"""A fleet's own end of the line, with a stand-in for the process that Ray lives in."""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import time
from concurrent.futures import Future
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import pytest

from rlab.errors import RlabError
from rlab.parallel.broker import Broker, reach
from rlab.parallel.fleet import Fleet, refuse_cluster
from rlab.run.contract import Stop, Stopped

BROKER = """
import json, os, signal, socket, sys
from multiprocessing.connection import Connection

learner = Connection(socket.socket(fileno=int(sys.argv[-1])).detach())
learner.recv_bytes()
count = os.path.join(os.path.dirname(__file__), "count")
number = os.path.getsize(count) if os.path.exists(count) else 0
open(count, "a").write("x")

def say(*header, body=b""):
    learner.send_bytes(json.dumps(header).encode())
    learner.send_bytes(body)

ways = WAYS
way = ways[min(number, len(ways) - 1)]
if way == "failed":
    say("failed", "nobody is there")
    sys.exit(1)
if way == "hangs":
    learner.recv_bytes()
say("ready", 0 if way == "empty" else 2)
started, answers = {}, 0
while True:
    what, *about = json.loads(learner.recv_bytes())
    body = learner.recv_bytes()
    if what == "make":
        started[about[0]] = about[1]
    elif what == "ask" and way == "error":
        say("error", about[0], "no such game")
    elif what == "ask":
        say("alive")
        say("answer", about[0], started[about[0]] - (way == "late"), body=body)
        answers += 1
        if answers == 3 and way in ("dies", "empty"):
            os._exit(1)
        if answers == 3 and way == "stops":
            os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A fleet of two, whose brokers go these ways, one after the other."""
    monkeypatch.setattr("rlab.parallel.fleet.SILENT", 1.0)
    monkeypatch.setattr("rlab.parallel.fleet.AGAIN", 0.05)
    monkeypatch.setattr("rlab.parallel.fleet.find_spec", bool)  # no Ray is needed for a stand-in
    said: list[str] = []

    def make(*ways: str, **more: Any) -> tuple[Fleet, list[str]]:
        script = tmp_path / "broker.py"
        script.write_text(BROKER.replace("WAYS", repr(ways)))
        monkeypatch.setattr("rlab.parallel.fleet.python_command", lambda: [sys.executable, str(script)])
        how = {"actors": 2, "cluster": "somewhere:1"} | more
        return Fleet("nowhere:nothing", lambda actor, started: {}, say=said.append, **how), said

    return make


@pytest.mark.parametrize("way", ["dies", "stops", "empty"])
def test_fleets_stand_again_without_a_broker(way: str, start: Any) -> None:
    """Whatever becomes of Ray, the learner waits in short pieces, and every actor is there again, told once.

    Also on a cluster that is "empty" at first: its head has no CPUs, and other machines join later.
    """
    fleet, said = start(way, "failed", "failed", "well")
    for actor in range(2):
        fleet.ask(actor, {"n": 0})
    came: list[tuple[int, Any]] = []
    longest, deadline = 0.0, time.monotonic() + 30
    while len(came) < 12 and time.monotonic() < deadline:
        began = time.monotonic()
        one = fleet.next(0.1)
        longest = max(longest, time.monotonic() - began)
        if one is not None:
            came.append(one)
            fleet.ask(one[0], {"n": len(came)})
    fleet.close()
    assert longest < 2
    assert [actor for actor, played in came if played is None] == [0, 1]
    assert fleet.lost == 2
    assert len(came) == 12
    why = "Ray has been silent for 2 s" if way == "stops" else "the connection to Ray is gone"
    assert said == [
        "waiting for Ray on somewhere:1, 60 s at the most",
        "the fleet stands on somewhere:1",
        f"{why}; the learner waits, and the fleet starts anew as soon as it can",
        "the fleet stands again",
    ]


def test_answers_are_heard_without_waiting(start: Any) -> None:
    fleet, _ = start("well")
    fleet.ask(0, {"n": 5})
    deadline = time.monotonic() + 10
    while (came := fleet.next(0)) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    fleet.close()
    assert came == (0, {"n": 5})


def test_answers_of_actors_that_were_given_up_are_dropped(start: Any) -> None:
    fleet, _ = start("late")
    fleet.ask(0, {"n": 5})
    assert fleet.next(0.3) is None
    fleet.close()


def test_fleets_say_what_is_wrong(start: Any) -> None:
    why = r"no cluster of Ray answers at 'somewhere:1' \(nobody is there\); check .*; nearest: --cluster local"
    with pytest.raises(RlabError, match=why):
        start("failed")
    fleet, _ = start("error")
    fleet.ask(1, {})
    with pytest.raises(RlabError, match="actor 1: no such game"):
        fleet.next(5)
    fleet.close()


def test_waiting_for_a_cluster_ends(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself after a while, and at once where it is asked to; no process stays."""
    stop = Stop()
    stop.request("SIGINT")
    with pytest.raises(Stopped):
        start("hangs", stop=stop)
    monkeypatch.setattr("rlab.parallel.fleet.JOIN", 0.1)
    with pytest.raises(RlabError, match=r"at 'somewhere:1' \(no answer within 0\.1 s\); check"):
        start("hangs")
    assert not psutil.Process().children()


def test_fewer_actors_than_asked_are_told(start: Any) -> None:
    fleet, said = start("well", actors=5, num_cpus=1)
    fleet.close()
    assert fleet.actors == 2
    assert said[-1] == "5 were asked for at once; the 2 CPUs of somewhere:1 hold 2"


@pytest.mark.parametrize(
    "cluster", ["", "here", "10.0.0.1", "10.0.0.1:", ":6379", "10.0.0.1:70000", "ray://head:10001"]
)
def test_clusters_are_named_by_address(cluster: str) -> None:
    with pytest.raises(RlabError, match=f"--cluster is '{cluster}'; valid: local, auto, HOST:PORT"):
        refuse_cluster(cluster)


def test_fleets_without_ray_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlab.parallel.fleet.find_spec", lambda name: None)
    with pytest.raises(RlabError, match=r"fleets need Ray, which is not installed: pip install 'rlab-rl\[cluster\]'"):
        refuse_cluster("local")


def test_addresses_without_an_answer_are_given_up() -> None:
    """Ray itself looks for minutes."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConnectionRefusedError):
            reach(address, 0.1)
        server.listen()
        reach(address, 10)


def test_brokers_end_with_their_learner() -> None:
    """Whatever Ray is at."""
    ours, theirs = socket.socketpair()
    script = (
        "import queue, socket, sys, threading; from rlab.parallel import broker;"
        "broker.LEAVING = 0.1; end = broker.Connection(socket.socket(fileno=int(sys.argv[1])).detach());"
        "threading.Thread(target=broker.listen, args=(end, queue.Queue()), daemon=True).start();"
        "threading.Event().wait()"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(theirs.fileno())], pass_fds=(theirs.fileno(),)) as process:
        theirs.close()
        ours.close()
        assert process.wait(60) == 1


@pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra cluster")
def test_actors_that_cannot_be_made_end_the_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would fail again; whatever else becomes of an actor is made good by another one."""
    import ray.exceptions as errors

    monkeypatch.setattr("ray.kill", lambda handle: None)  # it would start a cluster
    ours, theirs = (Connection(end.detach()) for end in socket.socketpair())
    setting = {"silent": 1.0, "starting": 1.0, "num_cpus": 0}
    broker = Broker(theirs, setting, queue.Queue())
    died = errors.ActorDiedError()
    died._actor_init_failed, died.error_msg = True, "in its creation task:\n  ModuleNotFoundError: no rlab"
    for error, told in (
        (errors.ObjectLostError("ab", None, "x"), ["lost", 0, "is gone (ObjectLostError)"]),
        (errors.ActorUnavailableError("away", None), ["lost", 0, "is gone (ActorUnavailableError)"]),
        (died, ["error", 0, "it cannot be made (ModuleNotFoundError: no rlab)"]),
    ):
        broker.handles[0], broker.starts[0] = object(), 0
        done: Future[Any] = Future()
        done.set_exception(error)
        broker._answered(0, 0, done)
        assert json.loads(ours.recv_bytes()) == told
        ours.recv_bytes()
