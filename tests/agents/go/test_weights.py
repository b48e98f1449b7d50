"""A run's network without the rest of the run: as a player, packed, shipped, and as an opponent."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from rlab.agents.go.alphago import supervised_policy as records
from rlab.agents.go.alphago.rollout_policy import is_rollout
from rlab.agents.go.packing import pack
from rlab.agents.go.players import find_player
from rlab.agents.go.weights import read_network
from rlab.api import load
from rlab.bench.go_solved import KNOWN, known_board
from rlab.cli import main
from rlab.envs import make_vec
from rlab.envs.go.boards import Boards, Setting
from rlab.envs.go.players import home_size
from rlab.errors import RlabError
from rlab.recipes import load_recipes
from rlab.run import folder as folders
from rlab.run.config import changed, to_plain
from rlab.run.contract import Stop
from rlab.run.folder import RunFolder, find_run
from rlab.run.lifecycle import start_run
from tests.agents.go.test_alphazero import SMALL
from tests.agents.go.test_supervised_policy import game
from tests.run.fake import QuietView


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with one short run of AlphaZero, "tiny"."""
    path = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLAB_RUNS", str(path))
        entry = load_recipes().get("alphazero")
        config = changed(entry.default("Go5"), SMALL | {"steps": 200, "threads": 1})
        start_run("alphazero", config, "tiny", Stop(), QuietView(), lambda c, f, d: c)
    return path


@pytest.fixture(autouse=True)
def _apart(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(runs))


def moves(name: str, number: int = 4) -> list[int]:
    boards = Boards(number, Setting(5, 24.5), threads=1)
    boards.play(np.arange(number))
    player = find_player(name)
    found = player.choose(boards, np.arange(number), np.arange(number).astype(np.uint64))
    player.close()
    return found.tolist()


def test_visits_are_named_behind_the_run() -> None:
    assert find_player("tiny").visits == SMALL["evaluate_visits"]  # type: ignore[attr-defined]
    player = find_player("tiny:200@7")
    assert (player.name, player.visits) == ("tiny:200@7", 7)  # type: ignore[attr-defined]
    assert find_player("run:tiny@1_000").visits == 1000  # type: ignore[attr-defined]
    assert moves("tiny") == moves("tiny@4")
    policy = find_player("tiny@0")
    boards = Boards(8, Setting(5, 24.5), threads=1)
    assert len(set(policy.choose(boards, np.arange(8), np.arange(8).astype(np.uint64)))) == 1  # all eight views, always
    for name, said in (("tinny@4", "nearest: tiny"), ("tiny@x", "there is no player or run"), ("tiny@", "nearest")):
        with pytest.raises(RlabError, match=said):
            find_player(name)


def test_a_packed_run_plays_as_the_run_does(runs: Path, tmp_path: Path) -> None:
    to = tmp_path / "small"
    size = pack(find_run("tiny"), to)
    assert size < 150_000
    assert size < sum(p.stat().st_size for p in find_run("tiny").checkpoints.rglob("*") if p.is_file()) / 3
    whole, packed = read_network(find_run("tiny")), read_network(RunFolder(to))
    for name, tensor in whole.network.state_dict().items():
        assert abs(tensor - packed.network.state_dict()[name]).max() <= 1e-3 * abs(tensor).max()
    assert (packed.size, packed.recipe, packed.experiment) == (5, "alphazero", whole.experiment)
    assert moves(str(to)) == moves("tiny")
    with pytest.raises(RlabError, match="small exists already"):
        pack(find_run("tiny"), to)


def test_what_comes_with_rlab_is_found_by_name_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(folders, "SHIPPED", tmp_path / "shipped")
    assert main(["runs", "pack", "tiny", str(tmp_path / "shipped" / "go5"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] < 150_000
    before = {p: p.read_bytes() for p in (tmp_path / "shipped").rglob("*") if p.is_file()}
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path / "runs"))
    assert moves("go5@2") == moves("go5@2")
    assert find_run("go5").shipped
    with pytest.raises(RlabError, match=r"there is none under .*, and with rlab come go5"):
        find_run("go6")
    for verb in ("eval", "report"):
        assert main([verb, "go5", *(["--episodes", "2"] if verb == "eval" else [])]) == 0
    assert {p.name for p in (tmp_path / "runs" / "go5").iterdir()} == {"evaluation.json", "report.html"}
    assert main(["runs", "show", "go5"]) == 0
    assert main(["resume", "go5"]) == 1
    assert "'go5' comes with rlab and holds only what playing needs" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in (tmp_path / "shipped").rglob("*") if p.is_file()} == before


def test_runs_and_rollouts_are_opponents_in_the_environments() -> None:
    for opponent in ("tiny@2", "rollout:8"):
        env = gym.make("rlab/Go5-v0", opponent=opponent)
        _, info = env.reset(seed=1)
        ended = False
        for _ in range(60):
            action = int(np.flatnonzero(info["action_mask"])[0])
            _, reward, ended, _, info = env.step(action)
            if ended:
                break
        assert ended
        assert float(reward) in (-1, 0, 1)
        env.close()
        envs = make_vec("Go5", 3, 0, opponent=opponent)
        _, info = envs.reset()
        envs.step(info["action_mask"].argmax(1))
        envs.close()
    with pytest.raises(RlabError, match="there is no player or run 'tinny'; nearest: tiny"):
        gym.make("rlab/Go5-v0", opponent="tinny")


def test_a_run_of_something_else_has_no_network(tmp_path: Path) -> None:
    entry = load_recipes().get("q-learning")
    config = changed(entry.default("FrozenLake-v1"), {})
    made = folders.create_run("q-learning", {"env": "FrozenLake-v1"}, to_plain(config), "table")
    with pytest.raises(RlabError, match="run 'table' is one of q-learning, which has no network of Go"):
        read_network(made)


@pytest.mark.parametrize("folder", folders.shipped_runs(), ids=lambda folder: folder.name)
def test_what_comes_with_rlab_is_small_and_plays(folder: RunFolder) -> None:
    assert sum(p.stat().st_size for p in folder.path.rglob("*") if p.is_file()) < 1e6
    size = 9 if is_rollout(folder) else read_network(folder).size
    setting = Setting(size, KNOWN.get(size, 7.5) - 0.5)
    player = find_player(folder.name if is_rollout(folder) else f"{folder.name}@8")
    boards = Boards(2, setting, threads=1)
    boards.play([setting.size**2 // 2, -1])
    moves = player.choose(boards, np.arange(2), np.arange(2).astype(np.uint64))
    assert boards.legal()[[0, 1], moves].all()
    if size in KNOWN:
        assert moves[1] == setting.size**2 // 2  # the first move is the centre
    player.close()


def test_the_names_that_the_guide_promises_come_with_rlab() -> None:
    names = {folder.name for folder in folders.shipped_runs()}
    assert {"go5", "go7", "go9", "go9-rl", "go9-rollout", "go9-value", "go9-zero"} <= names


@pytest.mark.parametrize("folder", folders.shipped_runs(), ids=lambda folder: folder.name)
def test_what_comes_with_rlab_is_reported_without_its_data(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RLAB_DATA", raising=False)
    for name in ("RLAB_RUNS", "RLAB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    assert main(["report", folder.name]) == 0
    assert f"rlab play {folder.name}\n" in capsys.readouterr().out  # by its name, not by where it lies


@pytest.mark.parametrize("name", ["go5", "go7", "go9-rl", "go9-value", "go9-zero"])
def test_what_plays_and_comes_with_rlab_is_watched(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    assert main(["watch", name, "--episodes", "1", "--max-steps", "3"]) == 0
    assert list((tmp_path / name / "videos").iterdir())


def test_a_packed_run_is_not_judged_by_a_start_that_it_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    assert main(["eval", "go9-rl", "--episodes", "2"]) == 1
    assert "a packed run has no copy of its start" in capsys.readouterr().err
    assert main(["eval", "go9-value"]) == 1
    assert "a packed run has none of the games by which it was judged" in capsys.readouterr().err


def test_policies_from_records_are_no_models_of_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    monkeypatch.setattr(records, "_records", lambda name: [game(k) for k in range(20)])
    assert main(["eval", "go9", "go9-rollout"]) == 1
    assert "run 'go9' (go-policy) cannot tell labels; it can act" in capsys.readouterr().err
    with load("go9") as loaded, pytest.raises(RlabError, match="cannot predict"):
        loaded.predict(np.zeros((1, 3, 9, 9)))  # type: ignore[union-attr]


def test_go5_comes_with_rlab_and_wins_as_it_should(capsys: pytest.CaptureFixture[str]) -> None:
    """Item 275: networks and tree search play Go."""
    assert main(["bench", "go-solved", "go5@8", "--games", "1", "--opponent", "random", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["first"] == {"C3": 1}
    assert found["centre"] == 1
    assert (
        found["itself"]["games"] == 25 == len(found["itself"]["replies"]) == len(found["itself"]["scores"])
    )  # a pass, too
    assert found["itself"]["good"] == sum(good for good, _ in found["itself"]["replies"].values())
    assert found["itself"]["good"] == sum(score >= 25 for score in found["itself"]["scores"]) >= 20
    assert found["opponent"]["good"] == 1
    with closing(find_player("go7")) as player:
        assert (home_size(player), known_board(player, None).size, known_board(player, 3).size) == (7, 7, 3)
    with closing(find_player("go9")) as player:
        assert (home_size(player), known_board(player, None).size) == (9, 5)
    assert main(["bench", "go-solved", "go5", "--size", "9"]) == 1
    assert "of 9x9 no result is known here; valid: 3, 5, 7" in capsys.readouterr().err
