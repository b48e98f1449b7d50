"""AlphaGo's value: which positions its games give, that no game is lost or preferred, and that it learns from them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlab.agents.go.alphago.value_network import LOG, PlayedGames, _any
from rlab.agents.go.alphago.warm_start import packed
from rlab.agents.go.weights import read_network
from rlab.api import evaluate, load
from rlab.envs.go.boards import Boards
from rlab.envs.go.planes import planes_of
from rlab.errors import RlabError
from rlab.recipes import load_recipes
from rlab.run.checkpoint import Checkpoints, digest
from rlab.run.config import changed
from rlab.run.contract import Stop
from rlab.run.journal import Journal
from rlab.run.lifecycle import BuildContext, resume_run
from rlab.studies.rl import Forgetful
from tests.agents.go.test_reinforce import After, Silent, runs, source, train

__all__ = ["runs"]

SMALL: dict[str, Any] = {
    "encoder": "go-resnet-2x32", "num_envs": 4, "cap": 24, "komi": 3.5, "test_games": 4, "epochs": 2, "steps": 40,
    "batch_size": 5,
}  # fmt: skip


def learner(journal: Journal | None = None, env: str = "Go5", **settings: Any) -> Any:
    entry = load_recipes().get("go-value")
    return entry.build(changed(entry.default(env), SMALL | settings), BuildContext("cpu", journal or Forgetful()))


def make(run: Any) -> PlayedGames:
    while run.playing:
        run.step()
    games: PlayedGames = run.games
    return games


def test_a_position_stands_after_the_move_by_chance_and_has_the_outcome() -> None:
    run = learner(latest=12)
    games = make(run)
    train, test, held = run._places()
    assert (len(train[0]), len(test[0])) == (12, 4)
    assert (held[0].tolist(), held[1].tolist()) == (test[0].tolist(), test[1].tolist())
    assert sorted([*train[0], *test[0]]) == sorted(np.flatnonzero(games.column("length") > games.column("at"))[:16])
    for number, ply in zip(*(np.concatenate(pair) for pair in zip(train, test, strict=True)), strict=True):
        assert 1 <= ply <= 12
        boards = Boards(1, run.setting)
        moves = games.column("moves")[number, : games.column("length")[number]]
        for k, point in enumerate(moves.tolist()):
            if k == ply:
                kinds = np.zeros(1, np.int64)
                found = run._replay.planes(games.column("moves"), np.array([number]), np.array([ply]), kinds)
                assert (found == planes_of(boards)).all()
            boards.play([point])
        assert boards.over[0]
        black = np.sign(boards.score()[0])
        _, z = run._said((np.array([number]), np.array([ply])), np.zeros(1, np.int64))
        assert z.tolist() == [black if ply % 2 == 0 else -black]
    assert len({int(ply) for ply in games.column("at")}) > 3


def test_games_are_those_of_the_lowest_numbers_whatever_goes_on_beside_them() -> None:
    few, many = make(learner(num_envs=2)), make(learner(num_envs=9))
    assert few.number == many.number
    for name in few.rows:
        assert (few.column(name) == many.column(name)).all()
    other = make(learner(num_envs=9, seed=1))
    assert not (other.column("moves")[:4] == many.column("moves")[:4]).all()


def test_each_policy_plays_its_part() -> None:
    def games(**others: int) -> PlayedGames:
        run = learner()
        for role, seed in others.items():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                run._players[role] = packed(type(run.network)(run.network.config, 5))
        return make(run)

    plain, play, sl = games(), games(play=7), games(sl=7)
    for k in range(6):
        at = plain.column("at")[k]
        ours, theirs = plain.column("moves")[k], play.column("moves")[k]
        assert (ours[:at] == theirs[:at]).all()  # the move by chance is the last of these
    assert any((plain.column("moves")[k] != play.column("moves")[k]).any() for k in range(6))
    assert any((plain.column("moves")[k] != sl.column("moves")[k])[: plain.column("at")[k] - 1].any() for k in range(6))


def test_the_move_by_chance_is_any_legal_point() -> None:
    legal = np.tile([False, True, True, False, True, True], (9_000, 1))
    moves = _any(legal, np.random.default_rng(0).integers(0, 2**64, len(legal), dtype=np.uint64))
    assert np.bincount(moves, minlength=6) / len(moves) == pytest.approx([0, 1 / 3, 1 / 3, 0, 1 / 3, 0], abs=0.015)
    assert _any(np.array([[False, False, True]]), np.zeros(1, np.uint64)) == [2]


def test_all_positions_are_as_many_of_fewer_games_and_the_games_for_judging_stay() -> None:
    one, every = learner(steps=154), learner(steps=154, positions="all")
    make(one), make(every)
    assert every.games.number < one.games.number / 3
    (first, test, held), (later, same, more) = one._places(), every._places()
    assert len(first[0]) == len(later[0]) == 50
    assert len(set(first[0].tolist())) == 50
    assert test[0].tolist() == same[0].tolist() == held[0].tolist()
    assert (one.games.column("moves")[:4] == every.games.column("moves")[:4]).all()
    games, plies = more
    for number in test[0]:
        length, at = (int(every.games.column(name)[number]) for name in ("length", "at"))
        assert plies[games == number].tolist() == list(range(at, length))
    assert not set(later[0].tolist()) & set(more[0].tolist())


@pytest.mark.parametrize("at", [20, 50, 110])
def test_it_goes_on_to_the_bit(at: int, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"steps": 80, "positions": "all" if at == 50 else "one", "loss": "squared"}
    whole_journal, journal = Journal(tmp_path / "whole"), Journal(tmp_path / "journal")
    whole, run = learner(whole_journal, **settings), learner(journal, **settings)
    steps = 0
    while not whole.progress().finished:
        if steps == at:
            before = digest(run.state())
            if run.judging:
                run.evaluate(Stop())
            assert digest(run.state()) == before
            path = Checkpoints(tmp_path / "checkpoints", journal).save(run.state(), {}, run.progress().done)
            newer = Journal(journal.folder)
            run = learner(newer, **settings)
            run.restore(Checkpoints(tmp_path / "checkpoints", newer).load(path).state, Stop())
            assert digest(run.state()) == before
        done = whole.progress().done
        told, other = whole.step(), run.step()
        assert {k: v for k, v in told.items() if "clock" not in k} == {
            k: v for k, v in other.items() if "clock" not in k
        }
        assert whole.progress() == run.progress()
        assert whole.progress().done >= done
        steps += 1
    assert steps > at
    assert digest(whole.state()) == digest(run.state())
    assert run.progress().done == run.progress().total == 80
    rows = [np.concatenate([part["moves"] for part in newer.log(LOG, 0).rows()]), run.games.column("moves")]
    assert (rows[0] == rows[1]).all()
    for each in (journal, newer, whole_journal):
        each.close()


def test_it_learns_who_wins_and_the_gap_is_told() -> None:
    """Item 276, part 3: a value by outcomes."""
    run = learner(test_games=30, steps=30 + 60 * 26, epochs=25, batch_size=20, num_envs=45, learning_rate=3e-3)
    make(run)
    before = run.evaluate(Stop())
    while not run.progress().finished:
        told = run.step()
    after = run.evaluate(Stop())
    assert told["epoch_last"] == 25
    assert after["mse_train"] < 0.5 < before["mse_train"]
    assert after["mse_train"] < after["mse_held"] - 0.1  # 60 positions are learned by heart
    assert after["mse_held"] == after["mse"]
    assert after["low"] < after["mean"] < after["high"] < 1
    assert 0.9 - after["mse"] < after["mean"] <= 1.0001 - after["mse"]  # outcomes vary by nearly 1
    assert 0 <= after["sign"] <= 100
    assert after["examples"] == 30


def test_before_there_is_a_game_nothing_can_be_judged() -> None:
    with pytest.raises(RlabError, match="no game was made yet"):
        learner().evaluate(Stop())


def test_a_run_needs_those_it_took_its_networks_from_no_more(runs: Path) -> None:
    for name in ("first", "second", "third"):
        source(name)
    settings = {"start": "first", "play": "second", "sl": "third", "test_games": 5, "epochs": 2, "steps": 65,
                "cap": 12, "num_envs": 4, "batch_size": 5, "evaluate_steps": 0}  # fmt: skip
    whole = train("go-value", "whole", **settings)
    stop = Stop()
    folder = train("go-value", "mine", After(stop, 17), stop, **settings)
    assert {role: note["run"] for role, note in folder.config()["warm_start"].items()} == {
        "start": "first", "play": "second", "sl": "third",
    }  # fmt: skip
    for name in ("first", "second", "third"):
        shutil.rmtree(runs / name)
    outcome = resume_run(folder, None, Stop(), Silent())
    assert outcome.finished
    one, other = (read_network(each).network.state_dict() for each in (folder, whole))
    assert digest(one) == digest(other)
    with load(folder) as loaded:
        assert loaded.learner.evaluate(Stop())["mean"] == outcome.score["mean"]  # type: ignore[index]
    assert evaluate(folder, 3, 5)["mean"] == outcome.score["mean"]  # type: ignore[index]


def test_what_cannot_be_is_refused(runs: Path) -> None:
    source("first")
    entry = load_recipes().get("go-value")
    assert entry.warm_start is not None
    default = entry.default("Go5")
    with pytest.raises(RlabError, match="--play is empty"):
        entry.warm_start(changed(default, {"start": "first"}))
    _, start = entry.warm_start(changed(default, {"start": "first", "play": "first"}))
    assert start.sources["sl"].note["run"] == "first"
    with pytest.raises(RlabError, match="leave nothing to learn from; nearest: --steps 2009"):
        changed(default, {"steps": 2008})
    with pytest.raises(RlabError, match="--test-games is 1"):
        changed(default, {"test_games": 1})


def test_other_boards_work_and_footprints_hold() -> None:
    run = learner(env="Go7", cap=9)
    make(run)
    run.step()
    before = digest(run.state())
    footprint = run.footprint(Stop())
    assert digest(run.state()) == before
    assert footprint.seconds > 0
    assert footprint.trainable == sum(p.numel() for p in run.network.parameters())
