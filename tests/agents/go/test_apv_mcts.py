"""A search made of other runs: what it mixes, what it asks, and a match that stops and goes on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlab.agents.go.alphago.apv_mcts import MixedEvaluator, take_parts
from rlab.agents.go.alphago.config import ApvConfig, RolloutExperiment
from rlab.agents.go.alphago.rollout_policy import Playouts, RolloutPolicy
from rlab.agents.go.config import default_alphazero
from rlab.agents.go.evaluator import Evaluator
from rlab.agents.go.match import play_match
from rlab.agents.go.network import GoNetwork
from rlab.agents.go.players import find_player
from rlab.agents.go.search_player import SearchPlayer
from rlab.agents.go.tree_game import GoGame
from rlab.agents.search import Puct, search
from rlab.cli import main
from rlab.envs.go.boards import Boards, Setting
from rlab.envs.go.players import RandomPlayer
from rlab.errors import RlabError
from rlab.recipes import load_recipes
from rlab.run.checkpoint import Checkpoints, digest
from rlab.run.config import changed, to_plain
from rlab.run.contract import Stop
from rlab.run.folder import create_run, find_run
from rlab.run.journal import Journal
from rlab.run.lifecycle import BuildContext, resume_run, start_run
from rlab.run.metrics import read_metrics
from rlab.studies.rl import Forgetful
from rlab.trust import given
from tests.agents.go.test_rollout_policy import POLICY
from tests.run.fake import QuietView

FIVE = Setting(5, 2.5, cap=50)


def network_run(name: str, seed: int, env: str = "Go5") -> GoNetwork:
    """A run of AlphaZero that has learned nothing, with one checkpoint."""
    default = default_alphazero(env)
    experiment = replace(default, net=replace(default.net, encoder="go-resnet-2x32"))
    torch.manual_seed(seed)
    network = GoNetwork(experiment.net, int(env[2:])).eval()
    folder = create_run("alphazero", {"env": env}, to_plain(experiment), name)
    state = {"network": network.state_dict(), "counters": [0, 0, 0, 0]}
    Checkpoints(folder.checkpoints, Journal(folder.journal)).save(state, {}, 1)
    return network


def rollout_run(name: str, policy: RolloutPolicy = POLICY) -> None:
    folder = create_run("go-rollout", {"env": "go9x9"}, to_plain(RolloutExperiment()), name)
    state = {"policy": policy.arrays(), "best": None, "counters": [0, 0, 0, 1]}
    Checkpoints(folder.checkpoints, Journal(folder.journal)).save(state, {}, 1)


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path / "runs"))
    load_recipes()


def experiment(**settings: Any) -> Any:
    small = {"games": 6, "visits": 12, "leaves": 2, "at_once": 4, "threads": 1, "checkpoint_minutes": 0.0, "komi": 2.5}
    return changed(load_recipes().get("go-search").default("Go5"), small | settings)


def start(name: str, stop: Stop | None = None, **settings: Any) -> Any:
    return start_run("go-search", experiment(**settings), name, stop or Stop(), QuietView(), lambda c, f, d: c)


class Asked:
    """Counts questions; says nothing of moves, and one value of all positions."""

    def __init__(self, value: float = 0.25):
        self.value, self.times = np.float32(value), 0

    def __call__(self, positions: Any, rows: Any, chance: Any) -> Any:
        self.times += 1
        points = positions.planes.shape[2]
        return np.tile(np.arange(points + 1, dtype=np.float32), (len(rows), 1)), np.full(len(rows), self.value)


def seen(number: int = 5) -> Any:
    boards = Boards(number, FIVE, threads=1)
    for k in range(number):
        for key in range(2 * k):
            move = RandomPlayer().choose(boards, np.array([k]), np.array([key * 7**20], np.uint64))
            boards.play(np.where(np.arange(number) == k, move, -1))
    game = GoGame(FIVE, number)
    rows = np.arange(number)
    return game.step(boards, rows, np.zeros((number, 1), np.int32), np.zeros(number, np.int32)).positions


def test_a_leaf_is_worth_a_mean_of_value_and_outcome() -> None:
    """Item 276, part 5: a search by all of them."""
    positions, rows, chance = seen(), np.arange(5), np.arange(5, dtype=np.uint64) * np.uint64(99)
    playouts, value, policy = Playouts(POLICY), Asked(0.5), Asked()
    won = MixedEvaluator(None, None, playouts, 1.0, 1.0)(positions, rows, chance)[1]
    assert set(won.tolist()) <= {-1.0, 1.0}
    logits, mixed = MixedEvaluator(policy, value, playouts, 0.25, 0.5)(positions, rows, chance)
    np.testing.assert_allclose(mixed, 0.75 * 0.5 + 0.25 * won, atol=1e-7)
    assert logits[0].tolist() == [2.0 * a for a in range(26)]
    assert (policy.times, value.times) == (1, 1)
    both = Asked(0.5)
    MixedEvaluator(both, both, None, 0.0, 1.0)(positions, rows, chance)
    assert both.times == 1
    # Nobody is asked for values where only outcomes count, and nobody plays where only values do.
    value = Asked()
    MixedEvaluator(policy, value, playouts, 1.0, 1.0)(positions, rows, chance)
    assert value.times == 0
    playouts.outcomes = lambda *of: pytest.fail("a rollout was played")  # type: ignore[assignment]
    MixedEvaluator(policy, value, playouts, 0.0, 1.0)(positions, rows, chance)
    uniform = MixedEvaluator(None, Asked(), None, 0.0, 0.67)(positions, rows, chance)[0]
    assert uniform.shape == (5, 26)
    assert not uniform.any()


def test_a_search_with_rollouts_does_not_depend_on_what_is_searched_beside_it() -> None:
    torch.manual_seed(0)
    network = GoNetwork(replace(default_alphazero("Go5").net, encoder="go-resnet-2x32"), 5).eval()
    boards = Boards(4, FIVE, threads=1)
    for k in range(4):
        boards.play(np.where(np.arange(4) == k, 6 + k, -1))
    keys = np.array([3, 1, 4, 1], np.uint64)

    def found(rows: list[int]) -> Any:
        evaluator = Evaluator(network)
        here = Boards(len(rows), FIVE, threads=1)
        here.copy(range(len(rows)), boards, rows)
        mixed = MixedEvaluator(evaluator, evaluator, Playouts(POLICY), 0.5, 0.67)
        return search(GoGame(FIVE, 8), here, mixed, np.full(len(rows), 30), keys[rows], Puct(), leaves=2)

    together = found([0, 1, 2, 3])
    for rows in ([2], [3, 0]):
        some = found(rows)
        assert (some.visits == together.visits[rows]).all()
        assert (some.q == together.q[rows]).all()
        assert (some.value == together.value[rows]).all()


@pytest.mark.parametrize("symmetry", ["random", "all"])
def test_without_rollouts_it_is_the_plain_search_to_the_bit(symmetry: Any) -> None:
    network = network_run("net", 1)
    start("plain", policy="net", mix=0.0, prior_temperature=1.0, games=2, visits=2, symmetry=symmetry)
    shutil.rmtree(find_run("net").path)  # it has a copy
    player = find_player("plain@40")
    assert player.name == "plain@40"
    twin = SearchPlayer("twin", Evaluator(network, symmetry=symmetry), 40, Puct(), 2)
    boards = Boards(3, FIVE, threads=1)
    boards.play([3, 12, 7])
    keys = np.array([1, 2, 3], np.uint64)
    assert (player.choose(boards, np.arange(3), keys) == twin.choose(boards, np.arange(3), keys)).all()  # type: ignore[attr-defined]
    one, other = ([*p.analyse(boards, 1, 40, lambda: False)][-1] for p in (player, twin))  # type: ignore[attr-defined]
    assert one == other
    assert find_player("plain").visits == 2  # type: ignore[attr-defined]
    sharp = MixedEvaluator(Evaluator(network), None, None, 0.0, 0.5)
    assert not (sharp(seen(), np.arange(2), np.zeros(2, np.uint64))[0] == 0).all()


def test_which_move_a_search_decides_for() -> None:
    class Odd:
        """The prior is for the pass; whoever has point 12 is well off."""

        def __call__(self, positions: Any, rows: Any, chance: Any) -> Any:
            logits = np.zeros((len(rows), 26), np.float32)
            logits[:, 25] = 2.0
            owner = positions.boards.stones()[rows].reshape(-1, 25)[:, 12].astype(int)
            turn = positions.boards.turn[rows]
            return logits, np.where(owner == 0, 0, np.where(owner == turn, 0.9, -0.9)).astype(np.float32)

    boards, rows, keys = Boards(1, FIVE, threads=1), np.zeros(1, np.int64), np.zeros(1, np.uint64)
    moves = {
        decide: int(SearchPlayer("it", Odd(), 150, Puct(), decide=decide).choose(boards, rows, keys)[0])  # type: ignore[arg-type]
        for decide in ("visits", "policy", "value")
    }
    assert moves == {"visits": 12, "policy": 25, "value": 12}


def test_the_most_visited_move_is_not_always_that_worth_most() -> None:
    """One visit may be lucky: a leaf of little prior that is worth more than all others is not visited most."""

    class Lucky:
        def __call__(self, positions: Any, rows: Any, chance: Any) -> Any:
            logits = np.zeros((len(rows), 26), np.float32)
            logits[:, 7] = 4.0
            stones = positions.boards.stones()[rows].reshape(-1, 25)
            made = positions.boards.made[rows]
            lucky = (stones[:, 3] == 1) & (made == 1)
            return logits, np.where(lucky, -0.5, np.where(made % 2 == 1, -0.4, 0.4)).astype(np.float32)

    boards, rows, keys = Boards(1, FIVE, threads=1), np.zeros(1, np.int64), np.zeros(1, np.uint64)
    found = {
        decide: int(SearchPlayer("it", Lucky(), 60, Puct(fpu=0.0), decide=decide).choose(boards, rows, keys)[0])  # type: ignore[arg-type]
        for decide in ("visits", "value")
    }
    assert found == {"visits": 7, "value": 3}


def test_a_match_is_that_of_an_evaluation_and_goes_on_to_the_bit(tmp_path: Path) -> None:
    network_run("net", 2)
    rollout_run("fast")
    settings: dict[str, Any] = {"policy": "net", "rollout": "fast", "mix": 0.5, "checkpoint_steps": 1}
    folder, outcome = start("whole", **settings)
    assert outcome.finished
    assert outcome.done == 6
    score = outcome.score
    assert score["episodes"] == 6
    assert score["opponent"] == "random"
    assert score["low"] <= score["mean"] <= score["high"]
    rows = [row for row in read_metrics(folder.metrics) if row["kind"] == "train"]
    assert [row["points"] for row in rows] == score["returns"]  # every game has its line

    class AtGame(QuietView):
        def __init__(self, stop: Stop):
            super().__init__()
            self.stop = stop

        def show(self, progress: Any, metrics: Any) -> None:
            if progress.done >= 2 and "clock_play" in metrics:  # in the middle of others
                self.stop.request("test")

    stop = Stop()
    config = experiment(**settings)
    part, cut = start_run("go-search", config, "part", stop, AtGame(stop), lambda c, f, d: c)
    assert not cut.finished
    assert 2 <= cut.done < 6
    for name in ("net", "fast"):
        shutil.rmtree(find_run(name).path)
    assert resume_run(part, None, Stop(), QuietView()).score == score
    again = [row for row in read_metrics(part.metrics) if row["kind"] == "train"]
    assert [row["points"] for row in again] == score["returns"]

    run = load_recipes().get("go-search").build(config, BuildContext("cpu", Forgetful()))
    saved = Checkpoints(folder.checkpoints, Journal(folder.journal)).load_newest(print)
    assert saved is not None
    run.restore(saved.state, Stop())
    assert digest(run.state()) == digest(saved.state)
    shares, lengths = play_match(run.go_player("it"), RandomPlayer(), run.setting, 6, run.seed, Stop())
    assert shares.tolist() == score["returns"]
    assert lengths.mean() == score["mean_length"]


def test_a_search_without_a_network() -> None:
    rollout_run("fast")
    start("alone", rollout="fast", mix=1.0, games=2)
    player = find_player("alone")
    boards = Boards(1, FIVE, threads=1)
    assert 0 <= player.choose(boards, np.zeros(1, np.int64), np.zeros(1, np.uint64))[0] <= 25
    from rlab.api import load

    with load("alone") as loaded:
        assert loaded.score(2, 0, Stop())["episodes"] == 2
        with pytest.raises(RlabError, match="plays on boards only"):
            loaded.act(np.zeros((1, 18, 5, 5), np.float32))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"policy": "net"}, "--mix 0.5 needs rollouts: --rollout RUN"),
        ({"policy": "net", "rollout": "fast", "mix": 0.0}, "--mix 0 makes no use of --rollout fast"),
        ({"rollout": "fast"}, "--mix 0.5 needs values: --value RUN or --policy RUN"),
        ({"rollout": "fast", "mix": 1.0, "value": "net"}, "--mix 1 makes no use of --value net"),
        ({"policy": "fast", "mix": 0.0}, "run 'fast' is one of go-rollout, which has no network of Go"),
        ({"policy": "net", "rollout": "net"}, "run 'net' is one of alphazero, which has no rollout policy"),
        ({"policy": "nett", "mix": 0.0}, "no run 'nett'.*nearest: net"),
        ({"policy": "large", "mix": 0.0}, "run 'large' plays on 7x7, and this one on Go5; nearest: --env Go7"),
        ({"policy": "net", "mix": 0.0, "opponent": "gnu"}, "there is no player or run 'gnu'"),
        ({"policy": "net", "mix": 0.0, "opponent": "gtp:false"}, "gtp:false ended with status 1"),
        ({"policy": "net", "mix": 1.5}, "--mix is 1.5"),
        ({"policy": "net", "prior_temperature": 0.0}, "--prior-temperature is 0"),
        ({"policy": "net", "games": 1}, "--games is 1"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(settings: dict[str, Any], said: str) -> None:
    network_run("net", 1)
    network_run("large", 1, "Go7")
    rollout_run("fast")
    given([settings])  # as the command line does
    with pytest.raises(RlabError, match=said) as told:
        start("it", **settings)
    assert len(str(told.value)) < 250
    with pytest.raises(RlabError):
        find_run("it")  # nothing is left


def test_the_same_run_for_both_is_taken_once() -> None:
    network_run("net", 1)
    assert list(take_parts(ApvConfig(policy="net", value="net", mix=0.0), "Go5")) == ["policy"]


def test_its_budget_is_games(capsys: pytest.CaptureFixture[str]) -> None:
    network_run("net", 1)
    words = ["train", "go-search", "--env", "Go5", "--policy", "net", "--mix", "0", "--visits", "2", "--games", "2"]
    assert main([*words, "--minutes", "1"]) == 1
    assert "--minutes and --games exclude each other" in capsys.readouterr().err
    assert main([*words[:-2], "--minutes", "1"]) == 1
    assert "needs a measured speed, which 'go-search' does not give; use --games" in capsys.readouterr().err
    assert main([*words, "--name", "it"]) == 0
    assert main(["eval", "it", "--episodes", "2"]) == 0
    assert "played  2 episodes after 2 games" in capsys.readouterr().out
