"""AlphaZero: what it writes down of its games is true, it goes on to the bit after a stop, and it learns."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from rlab.agents.go.config import default_alphazero
from rlab.agents.go.learning import losses, policy_loss, targets_of, value_loss
from rlab.agents.go.position_buffer import LOG
from rlab.envs.go.boards import Boards
from rlab.envs.go.players import RandomPlayer
from rlab.errors import RlabError
from rlab.nn.heads import PolicyValue
from rlab.recipes import load_recipes
from rlab.run.checkpoint import Checkpoints, Saved, digest
from rlab.run.config import changed
from rlab.run.contract import Stop, Stopped
from rlab.run.folder import find_run
from rlab.run.journal import Journal
from rlab.run.lifecycle import BuildContext, read_newest
from rlab.run.warm_start import agent_of
from tests.agents.go.helpers import CANNOT_PLAY

SMALL: dict[str, Any] = {
    "env": "Go5", "encoder": "go-resnet-2x32", "num_envs": 4, "visits": 6, "cap": 12, "learning_starts": 20,
    "batch_size": 16, "window": 150, "reuse": 2.0, "evaluate_episodes": 4, "final_episodes": 4, "evaluate_visits": 4,
}  # fmt: skip


def learner(journal: Any, **settings: Any) -> Any:
    entry = load_recipes().get("alphazero")
    return entry.build(changed(entry.default("Go5"), SMALL | settings), BuildContext("cpu", journal))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"search": "puct", "forced": 2.0, "temperature_moves": 3},
        {"fast_visits": 2, "reply": True, "root_share": 0.5},
    ],
    ids=str,
)
def test_it_goes_on_to_the_bit(settings: dict[str, Any], tmp_path: Path) -> None:
    def build(journal: Journal) -> Any:
        return learner(journal, **settings)

    whole_journal, journal = Journal(tmp_path / "whole"), Journal(tmp_path / "journal")
    whole, run = build(whole_journal), build(journal)
    for _ in range(17):
        run.step()
    assert run.updates > 0
    before = digest(run.state())
    assert digest(run.state()) == before
    run.evaluate(Stop())
    assert digest(run.state()) == before
    path = Checkpoints(tmp_path / "checkpoints", journal).save(run.state(), {}, run.progress().done)
    newer = Journal(journal.folder)
    saved = Checkpoints(tmp_path / "checkpoints", newer).load(path)
    again = build(newer)
    again.restore(saved.state, Stop())
    assert digest(again.state()) == before
    for _ in range(17):
        whole.step()
    for _ in range(20):
        told, other = whole.step(), again.step()
        assert {k: v for k, v in told.items() if "clock" not in k} == {
            k: v for k, v in other.items() if "clock" not in k
        }
    assert digest(whole.state()) == digest(again.state())
    for each in (journal, newer, whole_journal):
        each.close()


def test_it_starts_with_the_network_of_another_run() -> None:
    folder = find_run("go5")
    saved = read_newest(folder)
    assert saved is not None
    source = agent_of(folder, saved.state, saved.done)
    part, parameters = source.note["part"], source.tensors
    run = learner(None, encoder="go-resnet-3x32")
    run.start_from(part, parameters)
    assert run.progress().done == 0
    assert run.network.state_dict().keys() == parameters.keys()
    for name, tensor in run.network.state_dict().items():
        torch.testing.assert_close(tensor, parameters[name].to(tensor.dtype), rtol=0, atol=0)  # it comes packed
    with pytest.raises(RlabError, match=r"has shape .* there and .* here; nearest: --like with the same run"):
        learner(None).start_from(part, parameters)
    with pytest.raises(RlabError, match="another kind of agent; nearest: a run of alphazero"):
        run.start_from("online", parameters)
    rollouts = find_run("go9-rollout")
    with pytest.raises(RlabError, match="go-rollout, which holds no network that an agent could start from"):
        agent_of(rollouts, cast(Saved, read_newest(rollouts)).state, 0)


def test_games_that_are_written_down_are_those_that_were_played(journal: Journal) -> None:
    run = learner(journal, fast_visits=2, full_share=0.5)
    while run.finished < 6:
        run.step()
    rows = {name: np.concatenate([part[name] for part in journal.log(LOG, 0).rows()]) for name in run.window.rows}
    assert len(rows["move"]) == run.window.end
    begins = [*np.flatnonzero(rows["ply"] == 0), len(rows["move"])]
    assert len(begins) - 1 == run.finished
    for start, end in pairwise(begins):
        boards = Boards(1, run.setting)
        for k in range(start, end):
            legal = boards.legal()[0]
            assert rows["policy"][k].astype(float).sum() == pytest.approx(1, abs=0.01)
            assert not rows["policy"][k][~legal].any()
            boards.play([rows["move"][k]])
        assert boards.over[0]
        owners, scores = boards.owners()
        assert (rows["score"][start:end] == scores[0]).all()
        assert (rows["owner"][start:end] == owners[0].ravel()).all()
    assert 0 < rows["full"].mean() < 1
    assert run.progress().done == run.window.end + sum(run.boards.made)


def test_a_seed_is_a_run_and_another_seed_another_one() -> None:
    states = []
    for seed in (0, 0, 1):
        run = learner(None, seed=seed)
        run.journal = _Forgetful()
        for _ in range(14):
            run.step()
        states.append(digest(run.state()))
    assert states[0] == states[1] != states[2]


class _Forgetful:
    def append(self, log: str, rows: Any) -> int:
        return 0

    def log(self, log: str, start: int) -> int:
        return start


def test_losses_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]))
    policy = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    assert policy_loss(logits, policy, torch.tensor([1.0, 0.0])).item() == pytest.approx(-np.log(0.3))
    mean = (-np.log(0.3) - np.log(0.1)) / 2
    assert policy_loss(logits, policy, torch.ones(2)).item() == pytest.approx(mean)
    assert policy_loss(logits, policy, torch.zeros(2)).item() == 0
    chances = torch.log(torch.tensor([[0.25, 0.75], [0.4, 0.6]]))
    won_lost = value_loss(chances, torch.tensor([1.0, -1.0])).item()
    assert won_lost == pytest.approx(-(np.log(0.75) + np.log(0.4)) / 2)
    assert value_loss(chances[:1], torch.tensor([0.0])).item() == pytest.approx(-(np.log(0.75) + np.log(0.25)) / 2)


def test_every_head_has_its_term(journal: Journal) -> None:
    run = learner(journal, reply=True)
    while run.finished < 3:
        run.step()
    known = targets_of(run.window.take(np.arange(4), np.zeros(4, np.int64)), 0.0, torch.device("cpu"))
    terms = losses(run.network(known.planes), known)
    assert set(terms) == {"loss", "policy_loss", "value_loss", "ownership_loss", "score_loss", "reply_loss"}
    bare = losses(PolicyValue(*run.network(known.planes)[:2]), known)
    assert set(bare) == {"loss", "policy_loss", "value_loss"}
    assert bare["loss"].item() == pytest.approx(sum(bare[k].item() for k in ("policy_loss", "value_loss")), rel=1e-5)


def test_it_evaluates_and_is_a_player(journal: Journal) -> None:
    run = learner(journal)
    score = run.evaluate(Stop())
    assert score["episodes"] == 4
    assert score["opponent"] == "random"
    assert 0 <= score["mean"] <= 1
    assert run.evaluate(Stop()) == score
    player = run.go_player("it", 8)
    boards = Boards(5, run.setting)
    keys = np.arange(5, dtype=np.uint64)
    moves = player.choose(boards, np.arange(5), keys)
    assert moves[2] == player.choose(boards, np.array([2]), keys[2:3])[0]
    boards.play(RandomPlayer().choose(boards, np.arange(5), keys))
    analyses = list(player.analyse(boards, 3, 100, lambda: False))
    last = analyses[-1]
    assert last.visits == 100 > analyses[0].visits
    assert sum(candidate.visits for candidate in last.candidates) == 100
    assert last.candidates[0].visits == max(candidate.visits for candidate in last.candidates)
    assert all(candidate.variation[0] == candidate.point for candidate in last.candidates)
    stop = Stop()
    stop.request("test")
    with pytest.raises(Stopped):
        run.evaluate(stop)
    with pytest.raises(Stopped):
        run.footprint(stop)


def test_what_is_not_possible_is_refused() -> None:
    with pytest.raises(RlabError, match="'Breakout' is no board of Go; "):
        default_alphazero("Breakout")
    for settings, said in [
        ({"forced": 2.0}, "--forced belongs to --search puct"),
        ({"learning_starts": 200}, "only 150 positions are kept"),
        ({"visits": 0}, "--visits is 0; it must be a number of at least 1"),
        ({"komi": 0.3}, "komi is 0.3"),
    ]:
        with pytest.raises(RlabError, match=said):
            learner(None, **settings)


def test_an_opponent_that_cannot_play_is_refused_before_anything_is_learned() -> None:
    for opponent, said in CANNOT_PLAY.items():
        with pytest.raises(RlabError, match=said):
            learner(None, opponent=opponent).footprint(Stop())


def test_a_stop_is_heard_while_an_opponent_says_nothing() -> None:
    stop = Stop()
    timer = threading.Timer(0.5, stop.request, ["SIGINT"])
    timer.start()
    with pytest.raises(Stopped):  # and not what is said of it a minute later
        learner(None, opponent="gtp:sleep 300").footprint(stop)
    timer.join()


@pytest.mark.slow
def test_it_learns_to_win_against_chance(journal: Journal) -> None:
    """As White, too, and komi is half a point less than the whole board: nothing but everything wins as Black."""
    entry: Callable[..., Any] = load_recipes().get("alphazero").build
    settings = {"steps": 40_000, "num_envs": 64, "visits": 16, "learning_starts": 2_000, "final_episodes": 40}
    run = entry(changed(default_alphazero("Go5"), settings), BuildContext("cpu", journal))
    while not run.progress().finished:
        run.step()
    assert run.evaluate(Stop())["mean"] >= 0.95
