"""A fleet's own end of the line, with a stand-in for the process that Ray lives in."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rlab.errors import RlabError
from rlab.parallel.fleet import Fleet

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
say("ready", 2)
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
        if answers == 3 and way == "dies":
            os._exit(1)
        if answers == 3 and way == "stops":
            os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A fleet of two, whose brokers go these ways, one after the other."""
    monkeypatch.setattr("rlab.parallel.fleet.SILENT", 1.0)
    monkeypatch.setattr("rlab.parallel.fleet.AGAIN", 0.05)
    said: list[str] = []

    def make(*ways: str) -> tuple[Fleet, list[str]]:
        script = tmp_path / "broker.py"
        script.write_text(BROKER.replace("WAYS", repr(ways)))
        monkeypatch.setattr("rlab.parallel.fleet.python_command", lambda: [sys.executable, str(script)])
        return Fleet("nowhere:nothing", lambda actor, started: {}, 2, "somewhere:1", said.append), said

    return make


@pytest.mark.parametrize("way", ["dies", "stops"])
def test_fleets_stand_again_without_a_broker(way: str, start: Any) -> None:
    """Whatever becomes of Ray, the learner waits in short pieces, and every actor is there again, told once."""
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
    why = "the connection to Ray is gone" if way == "dies" else "Ray has been silent for 2 s"
    assert said == [
        "actors play on somewhere:1",
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
    with pytest.raises(RlabError, match="no cluster of Ray answers at 'somewhere:1' \\(nobody is there\\)"):
        start("failed")
    fleet, _ = start("error")
    fleet.ask(1, {})
    with pytest.raises(RlabError, match="actor 1: no such game"):
        fleet.next(5)
    fleet.close()
