"""A policy from game records: whole games are held out, batches are known by their number, and it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlab.agents.go.alphago import supervised_policy as records
from rlab.agents.go.alphago.config import RecordsConfig
from rlab.agents.go.evaluator import Evaluator
from rlab.agents.go.search_player import SearchPlayer
from rlab.agents.go.weights import weights_of
from rlab.data.datasets import as_float, load
from rlab.envs.go.boards import Boards, Setting, name_of
from rlab.envs.go.planes import planes_of
from rlab.envs.go.sgf import Record
from rlab.errors import RlabError
from rlab.recipes import load_recipes
from rlab.run.checkpoint import digest
from rlab.run.config import changed
from rlab.run.contract import Draws, Stop, ability
from rlab.run.lifecycle import BuildContext
from rlab.studies.rl import Forgetful
from tests.checkpoints import from_file


def game(seed: int, result: str = "B+1") -> Record:
    """Ten moves: Black plays along the third line from the left, White along the seventh."""
    chance = np.random.default_rng(seed)
    down = chance.permutation(5)
    points = [int(2 * 9 + 2 + row * 9) if k % 2 == 0 else int(2 * 9 + 6 + row * 9) for row in down for k in (0, 1)]
    return Record(9, 7.0, tuple((1 + k % 2, point) for k, point in enumerate(points)), result=result)


@pytest.fixture(autouse=True)
def _some_games(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlab.data.datasets.reader", lambda name, tell: name)
    others = [Record(13, 7.0, ((1, 5),)), Record(9, 7.0, ())]  # another board, and nothing
    for name in ("_records", "_parsed"):
        monkeypatch.setattr(records, name, lambda _: [*(game(k, "BW"[k % 2] + "+2") for k in range(40)), *others])


def fit(**settings: Any) -> Any:
    recipe = load_recipes().get("go-policy")
    small = {"encoder": "go-resnet-2x32", "batch_size": 32, "epochs": 1, "learning_rate": 5e-3}
    return recipe.build(changed(recipe.default("go9x9"), small | settings), BuildContext("cpu", Forgetful()))


def test_a_game_is_in_one_split_as_a_whole_and_splits_do_not_move() -> None:
    games = records.read_games(RecordsConfig())
    assert games.refused == 2
    assert {name: len(rows) for name, rows in games.splits.items()} == {"test": 40, "validation": 20, "train": 340}
    every = np.concatenate(list(games.splits.values()))
    assert sorted(every.tolist()) == list(range(400))
    for rows in games.splits.values():
        assert all(len(set(np.flatnonzero(rows // 10 == g))) in (0, 10) for g in range(40))
    again = records.read_games(RecordsConfig(games=5))
    assert again.splits["test"].tolist() == games.splits["test"].tolist()
    assert len(again.splits["train"]) == 50


def test_a_batch_shows_the_positions_and_the_moves_that_followed() -> None:
    games = records.read_games(RecordsConfig())
    rows = np.array([3, 25, 399])
    batch = records.batch_of(games.window, rows, np.zeros(3, np.int64), torch.device("cpu"))
    for k, row in enumerate(rows):
        boards = Boards(1, games.window.setting)
        moves = game(row // 10).moves
        for _, point in moves[: row % 10]:
            boards.play([point])
        assert (batch.x[k].numpy() == planes_of(boards)[0]).all()
        assert batch.y[k] == moves[row % 10][1]


def test_next_moves_are_a_data_set_whose_tests_are_other_games() -> None:
    found, games = load("go_moves"), records.read_games(RecordsConfig())
    assert (found.kind, found.shape, len(found), len(found.classes or ())) == ("images", (16, 9, 9), 50, 82)
    for k in range(50):
        row = 8 * k
        boards = Boards(1, games.window.setting)
        moves = game(row // 10).moves
        for _, point in moves[: row % 10]:
            boards.play([point])
        assert (as_float(found.x[k]).numpy() == planes_of(boards)[0, :16]).all()
        assert found.y[k] == moves[row % 10][1]
        assert (k in found.splits["test"]) == (row in games.splits["test"])
    assert (found.classes or ())[moves[row % 10][1]] == name_of(moves[row % 10][1], 9)


def test_batches_repeat_and_a_pass_has_every_position_once() -> None:
    batches = fit(symmetries=False).task.data
    seen = torch.cat([batches.at(0, k).items for k in range(len(batches))])
    assert sorted(seen.tolist()) == sorted(batches.splits["train"].tolist())
    turned = fit().task.data
    one, again, other = turned.at(1, 2), turned.at(1, 2), turned.at(0, 2)
    assert (one.x == again.x).all()
    assert one.items.tolist() != other.items.tolist()


def test_it_learns_goes_on_to_the_bit_and_plays(tmp_path: Path) -> None:
    """Item 276, part 1: a policy by records of games."""
    run = fit(epochs=12, symmetries=False)
    while not run.progress().finished:
        run.step()
        if run.updates == 40:
            twin = fit(epochs=12, symmetries=False)
            twin.restore(from_file(run.state(), tmp_path), Stop())
            assert digest(twin.state()) == digest(run.state())
    while not twin.progress().finished:
        twin.step()
    assert digest(twin.state()) == digest(run.state())
    score = run.evaluate(Stop())
    assert score["measure"] == "top-1 %"
    assert score["low"] < score["mean"] < score["high"]
    assert score["mean"] > 20  # one of five points that are left, or better
    assert score["top5"] > 80
    assert ability(run, Draws) is None  # what `rlab report` asks for
    best = weights_of(run.state())  # what `rlab play` reads of it
    assert all(torch.equal(tensor, best[name]) for name, tensor in run.task.model.state_dict().items())
    player = SearchPlayer("policy", Evaluator(run.task.model, symmetry="all"), 0)
    boards = Boards(2, Setting(9))
    moves = player.choose(boards, np.arange(2), np.zeros(2, np.uint64))
    assert moves[0] == moves[1]
    assert moves[0] % 9 == 2  # Black's line
    assert run.policy(0).act(planes_of(boards), np.ones(2, bool), boards.legal())[0] % 9 == 2


def test_the_outcome_is_that_of_the_player_to_move() -> None:
    run = fit()
    rows = np.array([0, 1, 10, 11])  # Black has won the first game, White the second
    assert run.task._outcomes(rows).tolist() == [1, -1, -1, 1]


def test_what_records_cannot_teach_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for settings, said in [
        ({"ownership": True}, "--ownership cannot be learned from records"),
        ({"precision": "bf16"}, "--precision bf16 is not for records"),
        ({"test": 0.0}, "--test is 0"),
        ({"test": 0.6}, "--test is 0.6"),
    ]:
        with pytest.raises(RlabError, match=said):
            fit(**settings)
    monkeypatch.setattr(records, "_records", lambda name: [game(0)])
    with pytest.raises(RlabError, match="data set 'go9x9' has 1 games on 9x9, too few"):
        fit()
