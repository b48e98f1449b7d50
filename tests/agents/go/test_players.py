"""Players by name: kinds, runs, their checkpoints, and what plays no Go."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from rlab.agents.go.engine import Engine
from rlab.agents.go.players import AgentPlayer, find_player
from rlab.cli.tournament import main as tournament
from rlab.envs.go.boards import Boards, Setting, point_of
from rlab.envs.go.planes import planes_of
from rlab.errors import RlabError
from rlab.registry import RECIPES, Recipe
from rlab.run.config import RunConfig
from rlab.run.contract import Footprint, Progress, Stop
from rlab.run.folder import RunFolder, create_run
from rlab.run.lifecycle import BuildContext, start_run
from tests.agents.go.helpers import Planned
from tests.run.fake import QuietView


class Argmax:
    """An agent whose values are its checkpoint's number for one point, and 0 elsewhere."""

    seeds: ClassVar[list[int]] = []

    def __init__(self, point: int):
        self.point = point

    def policy(self, seed: int) -> Argmax:
        type(self).seeds.append(seed)
        return self

    def act(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray) -> np.ndarray:
        assert first.all()
        assert obs.shape[2:] == (5, 5)
        values = np.zeros(mask.shape)
        values[:, self.point] = 1
        return np.where(mask, values, -1).argmax(1)


@dataclass(frozen=True)
class EnvPart:
    env: str = "Go5"


@dataclass(frozen=True)
class Experiment:
    run: RunConfig = field(
        default_factory=lambda: RunConfig(
            threads=1, checkpoint_steps=2, checkpoint_minutes=0, log_steps=5, evaluate_steps=100
        )
    )
    env: EnvPart = field(default_factory=EnvPart)


class Learning:
    """Counts to 6; what it has learned is how far it is."""

    def __init__(self) -> None:
        self.done = 0
        self.agent = Argmax(0)
        self.closed = False

    def step(self) -> dict[str, float]:
        self.done += 2
        return {"loss": 0.0}

    def evaluate(self, stop: Stop) -> dict[str, Any]:
        return {"mean": 0.0, "median": 0.0, "low": 0.0, "high": 0.0, "episodes": 1}

    def progress(self) -> Progress:
        return Progress(self.done, 6, "units")

    def footprint(self, stop: Stop) -> Footprint:
        return Footprint(1000, 0, 1000)

    def state(self) -> dict[str, Any]:
        return {"done": self.done}

    def restore(self, state: dict[str, Any], stop: Stop) -> None:
        self.restore_policy(state)

    def restore_policy(self, state: dict[str, Any]) -> None:
        self.done = state["done"]
        self.agent.point = state["done"]

    def policy(self, seed: int) -> Any:
        return self.agent.policy(seed)

    def close(self) -> None:
        self.closed = True


class Searching(Learning):
    """Knows by itself what plays Go in it."""

    def go_player(self, name: str, visits: int | None = None) -> Planned:
        player = Planned([self.done])
        player.name = name
        return player


def build(experiment: Experiment, context: BuildContext) -> Learning:
    return Learning() if experiment.env.env != "Go7" else Searching()


RECIPES.register("fake-go")(Recipe("a fake", lambda env: replace(Experiment(), env=EnvPart(env)), build))


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path / "runs"))


def trained(name: str, env: str = "Go5", **run: int) -> RunFolder:
    config = replace(Experiment(replace(Experiment().run, **run)), env=EnvPart(env))
    return start_run("fake-go", config, name, Stop(), QuietView(), lambda c, f, d: c)[0]


def test_kinds_that_need_no_run() -> None:
    for name, called in (("random", "random"), ("rollout:30", "rollout:30"), ("rollout", "rollout:400")):
        player = find_player(name)
        assert player.name == called
        player.close()


def test_an_agent_of_the_go_environment_plays() -> None:
    trained("mine")
    player = find_player("mine")
    assert player.name == "mine"
    boards = Boards(3, Setting(5), threads=1)
    boards.play([0, 6, 25])
    moves = player.choose(boards, np.array([0, 1, 2]), np.array([5, 6, 7], np.uint64))
    assert moves.tolist() == [6, 0, 6]  # what was learned last is 6; on a stone it is not legal
    assert Argmax.seeds[-3:] == [5, 6, 7]
    with pytest.raises(RlabError, match="mine plays on boards of 5, not of 9"):
        player.choose(Boards(1, Setting(9)), np.array([0]), np.array([5], np.uint64))
    engine = Engine(player)
    assert engine.size == 5
    assert engine.choose(1) == 6
    assert engine.analyst is None
    player.close()
    player.close()


def test_a_run_at_one_of_its_checkpoints() -> None:
    folder = trained("mine")
    boards = Boards(1, Setting(5), threads=1)
    for name, move in (("mine:4", 4), ("mine:2", 2), ("mine:6", 6), (f"{folder.path}:4", 4), ("latest", 6)):
        player = find_player(name)
        assert player.choose(boards, np.array([0]), np.array([1], np.uint64)).tolist() == [move]
        player.close()
    assert find_player("mine:4").name == "mine:4"
    with pytest.raises(RlabError, match="run 'mine' has no whole checkpoint at 5; there is 2, 4, 6"):
        find_player("mine:5")


def test_past_selves_that_a_run_keeps_play_and_meet_in_a_tournament(capsys: pytest.CaptureFixture[str]) -> None:
    trained("mine", checkpoint_steps=0, keep_steps=2)
    boards = Boards(1, Setting(5), threads=1)
    for step in (2, 4, 6):
        with closing(find_player(f"mine:{step}")) as player:
            assert player.choose(boards, np.array([0]), np.array([1], np.uint64)).tolist() == [step]
    with pytest.raises(RlabError, match="run 'mine' has no whole checkpoint at 5; there is 2, 4, 6"):
        find_player("mine:5")
    assert tournament(["random", "--checkpoints", "mine", "--board", "5", "--games", "2", "--jobs", "1", "--json"]) == 0
    ratings = json.loads(capsys.readouterr().out)["ratings"]
    assert {row["player"] for row in ratings} == {"random", "mine:2", "mine:4", "mine:6"}


def test_a_learner_that_knows_its_player_is_asked() -> None:
    trained("deep", "Go7")
    player = find_player("deep:4")
    assert player.name == "deep:4"
    engine = Engine(player, Setting(9))  # it says nothing of sizes
    assert engine.analyst is not None
    assert engine.choose(1) == 4
    assert engine.thinking == 3
    player.close()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "a player's name is empty"),
        ("randem", "there is no player or run 'randem'; nearest: random"),
        ("mina", "nearest: mine"),
        ("mine:x", "there is no player or run 'mine:x'"),
        ("mine:", "there is no player or run 'mine:'"),
        ("none:3", "there is no player or run 'none:3'"),
        ("x" * 9_999, "there is no player or run 'xxx"),
        ("rollout:0", "1 to 1000000 random games"),
        (__file__, "is a file; a run is a folder"),
        ("cart", "run 'cart' plays CartPole-v1, and no Go"),
        ("fresh", "run 'fresh' has no checkpoint yet"),
        ("elsewhere", "run 'elsewhere' plays Breakout, and no Go"),
    ],
)
def test_what_plays_no_go_is_said_in_a_sentence(name: str, says: str) -> None:
    create_run("dqn", {"env": "CartPole-v1"}, {"env": {"env": "CartPole-v1"}}, "cart")
    create_run("fake-go", {"env": "Go5"}, {"run": {}, "env": {"env": "Go5"}}, "fresh")
    create_run("fake-go", {"env": "Breakout"}, {"run": {}, "env": {"env": "Breakout"}}, "elsewhere")
    create_run("fake-go", {"env": "Go5"}, {"run": {}, "env": {"env": "Go5"}}, "mine")
    with pytest.raises(RlabError, match=says) as told:
        find_player(name)
    assert len(str(told.value)) < 250


def test_a_run_of_something_else_is_refused() -> None:
    from tests.run.fake import experiment, start

    start("other", experiment(total=4, stride=2))
    with pytest.raises(RlabError, match="run 'other' is one of fake, which plays no Go"):
        find_player("other")


def test_an_agent_sees_the_planes_of_its_environment() -> None:
    seen = []

    class Looking(Argmax):
        def act(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray) -> np.ndarray:
            seen.append(obs)
            return super().act(obs, first, mask)

    boards = Boards(1, Setting(5), threads=1)
    boards.play([point_of("C3", 5)])
    AgentPlayer("a", 5, Looking(3).policy).choose(boards, np.array([0]), np.array([1], np.uint64))
    assert (seen[0] == planes_of(boards)).all()
