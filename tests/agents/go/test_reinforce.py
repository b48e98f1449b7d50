"""AlphaGo's policy gradient: games end as they should, the gradient is REINFORCE's, and it goes on to the bit."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlab.agents.go.alphago.policy_play import best, choices, draw, draw_openings, uniform
from rlab.agents.go.alphago.reinforce import advantages
from rlab.agents.go.config import NetConfig, default_alphazero
from rlab.agents.go.evaluator import Evaluator
from rlab.agents.go.network import GoNetwork
from rlab.agents.go.weights import read_network
from rlab.envs.go.boards import Boards, Setting
from rlab.envs.go.planes import planes_of
from rlab.errors import RlabError
from rlab.recipes import load_recipes
from rlab.run.checkpoint import Checkpoints, digest
from rlab.run.config import changed, to_plain
from rlab.run.contract import Stop
from rlab.run.folder import RunFolder, create_run
from rlab.run.journal import Journal
from rlab.run.lifecycle import BuildContext, resume_run, start_run
from tests.agents.go.helpers import CANNOT_PLAY

SMALL: dict[str, Any] = {
    "encoder": "go-resnet-2x32", "num_envs": 4, "cap": 30, "komi": 3.5, "evaluate_episodes": 4, "final_episodes": 4,
    "pool_every": 1, "pool_size": 2, "learning_rate": 1e-3,
}  # fmt: skip


def learner(env: str = "Go5", **settings: Any) -> Any:
    entry = load_recipes().get("go-reinforce")
    return entry.build(changed(entry.default(env), SMALL | settings), BuildContext("cpu", Journal(Path("nowhere"))))


def board(rows: str, turn: int, komi: float = 0.5) -> Boards:
    """One game that begins with stones X (black) and O (white)."""
    stones = np.array([[".XO".index(c) for c in row] for row in rows.split()])
    boards = Boards(1, Setting(len(stones), komi=komi))
    boards.arrange(0, stones, turn)
    return boards


def points(boards: Boards) -> list[int]:
    return np.flatnonzero(choices(boards)[0]).tolist()


def test_whoever_is_behind_by_the_count_may_not_pass() -> None:
    rows = ".X. XX. ..."  # all is Black's, but White's first move is still open
    assert points(board(rows, 1)) == [2, 5, 6, 7, 8, 9]  # ahead: a pass is among them; 0 is an own eye
    assert points(board(rows, 2)) == [2, 5, 6, 7, 8]
    assert points(board(rows, 2, komi=9.5)) == [2, 5, 6, 7, 8, 9]
    assert points(board(rows, 1, komi=9)) == [2, 5, 6, 7, 8]  # a draw is no win


def test_who_has_no_other_choice_passes() -> None:
    rows = ".X. XXX .X."
    assert points(board(rows, 2)) == [9]  # every point is suicide
    assert points(board(rows, 1, komi=20)) == [9]  # behind, but all that is left are own eyes


def test_moves_are_drawn_by_the_softmax_of_what_may_be_played() -> None:
    number = 20_000
    logits = np.tile(np.log([4.0, 100.0, 3.0, 2.0, 1.0]).astype(np.float32), (number, 1))
    may = np.tile([True, False, True, True, False], (number, 1))
    words = np.random.default_rng(0).integers(0, 2**64, number, dtype=np.uint64)
    moves = draw(logits, may, words)
    shares = np.bincount(moves, minlength=5) / number
    assert shares == pytest.approx([4 / 9, 0, 3 / 9, 2 / 9, 0], abs=0.012)
    assert (draw(logits[:7], may[:7], words[:7]) == moves[:7]).all()
    assert (best(logits, may) == 0).all()
    assert 0 <= uniform(words).min() < uniform(words).max() < 1


def test_a_draw_near_one_is_still_a_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlab.agents.go.alphago.policy_play.uniform", lambda words: np.full(len(words), 1 - 2.0**-53))
    logits, may = np.zeros((1, 6), np.float32), np.array([[True, True, True, False, True, False]])
    assert draw(logits, may, np.zeros(1, np.uint64)) == [4]


def test_a_game_does_not_depend_on_those_beside_it() -> None:
    few, many = learner(num_envs=4), learner(num_envs=10)
    for run in (few, many):
        while run._rows is None:
            run.step()
    for k in range(4):
        assert few.boards.moves(k) == many.boards.moves(k)
    assert len({tuple(many.boards.moves(k)) for k in range(10)}) == 10


@pytest.mark.parametrize(("temperature", "opening"), [(1.0, 0), (0.4, 8)])
def test_the_gradient_is_that_of_the_log_probability_times_outcome_less_baseline(
    temperature: float, opening: int
) -> None:
    run = learner(baseline="colour", value_weight=0.0, symmetries=False, num_envs=6, temperature=temperature)
    while run._rows is None:
        run.step()
    scores = run.boards.score()
    for at in (0, 1):  # the policy has Black in every other game
        z = np.sign(scores[at::2]) * (1 - 2 * at)
        assert run._baselines()[at] == pytest.approx(z.mean())
    total, moves = torch.zeros(()), 0
    for k in range(6):
        black = k % 2 == 0
        z = np.sign(scores[k]) * (1 if black else -1)
        again = Boards(1, run.setting)
        for point in run.boards.moves(k):
            if (again.turn[0] == 1) == black and again.made[0] >= opening:
                logits = run.network(torch.from_numpy(planes_of(again))).policy[0] / temperature
                may = torch.from_numpy(choices(again)[0])
                log_p = logits[point] - torch.logsumexp(logits[may], 0)
                total = total - float(z - run._baselines()[k % 2]) * log_p
                moves += 1
            again.play([point])
    expected = torch.autograd.grad(total / moves, run.network.encoder.stem[0].weight)[0]
    seen: dict[str, torch.Tensor] = {}
    run._update = lambda: seen.update(grad=run.network.encoder.stem[0].weight.grad.clone()) or {}
    while not seen:
        run.step()
    assert torch.allclose(seen["grad"], expected, rtol=1e-3, atol=1e-6 * float(expected.abs().max()) + 1e-6)
    assert expected.abs().max() > 1e-3


def test_a_low_temperature_leaves_the_opening_to_chance_and_then_plays_what_is_best() -> None:
    run = learner(temperature=0.01, symmetries=False, num_envs=12)
    run.network.head.policy.point.weight.data *= 10_000  # who knows nothing thinks all moves alike
    while run._rows is None:
        run.step()
    alike = drawn = 0
    for k in range(12):
        again = Boards(1, run.setting)
        for ply, point in enumerate(run.boards.moves(k)):
            with torch.no_grad():
                logits = run.network(torch.from_numpy(planes_of(again))).policy.numpy()
            own = ply >= 8 and (again.turn[0] == 1) == (k % 2 == 0)
            alike += own and point == best(logits, choices(again))[0]
            drawn += own
            again.play([point])
    assert alike > 0.9 * drawn > 0
    assert len({tuple(run.boards.moves(k)[:8]) for k in range(12)}) == 12


def test_games_that_end_in_their_opening_teach_nothing() -> None:
    run = learner(temperature=0.5, cap=6)
    before = digest(run.network.state_dict())
    while run.batches < 2:
        run.step()
    assert digest(run.network.state_dict()) == before
    assert run.done == 2 * 4 * 6


def test_positions_are_learned_as_they_were_seen() -> None:
    """Turned at random: probabilities in learning are those of playing, so the mean of log p is the entropy's."""
    run = learner(num_envs=64, value_weight=0.0, cap=8)
    while run._rows is None:
        run.step()
    told = run.step()
    games, plies = run._rows
    kept = run._may[games, plies]
    moves = run.boards.games.moves[games, plies]
    assert kept[np.arange(len(games)), moves].all()
    assert told["entropy"] == pytest.approx(np.log(kept.sum(1)).mean(), abs=0.6)  # it knows nothing yet
    assert np.isfinite(told["policy_loss"])


def test_the_start_stays_in_the_pool_and_the_oldest_of_the_others_leaves() -> None:
    run = learner(pool_size=3)
    start = digest(run.pool[0])
    opponents = set()
    while run.batches < 5:
        run.step()
        opponents.add(run.opponent)
    assert run.joined == [0, 4, 5]
    assert digest(run.pool[0]) == start
    assert digest(run.pool[2]) == digest(run.network.state_dict()) != start
    assert opponents == {0, 1, 2}
    only = learner(pool_size=1)
    while only.batches < 2:
        only.step()
    assert only.joined == [0]


@pytest.mark.parametrize(("at", "several"), [(3, False), (27, False), (32, False), (80, False), (33, True), (37, True)])
def test_it_goes_on_to_the_bit(at: int, several: bool, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"num_envs": 20} if at > 30 else {"optimiser": "sgd"}
    if several:
        settings |= {"batch_size": 60, "epochs": 2}
    run, whole = learner(**settings), learner(**settings)
    for _ in range(at):
        run.step()
        whole.step()
    before = digest(run.state())
    if at < 30:
        run.evaluate(Stop())
    assert digest(run.state()) == before
    journal = Journal(tmp_path / "journal")
    saved = Checkpoints(tmp_path, journal).load(Checkpoints(tmp_path, journal).save(run.state(), {}, 0))
    again = learner(**settings)
    again.restore(saved.state, Stop())
    assert digest(again.state()) == before
    for _ in range(40):
        assert {k: v for k, v in whole.step().items() if "clock" not in k} == {
            k: v for k, v in again.step().items() if "clock" not in k
        }
    assert digest(whole.state()) == digest(again.state())
    assert whole.batches > 0


def test_several_updates_of_a_batch_of_games_see_each_position_as_often_as_asked() -> None:
    run = learner(num_envs=20, batch_size=60, epochs=3, symmetries=False)
    while run._rows is None:
        run.step()
    positions, updates = len(run._rows[0]), []
    orders = [run._order(n).tolist() for n in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(positions))
    assert orders[0] != orders[1]
    while run.batches == 0:
        passes, at = divmod(run._learned, positions)
        told = run.step()
        updates += ["grad_norm" in told]
        if passes == at == 0:  # nothing has changed since the games were played
            assert told["policy_loss"] == pytest.approx(-run._advantages[orders[0][: run._learned]].mean(), abs=1e-4)
            assert told["clipped"] == 0
    assert sum(updates) == 3 * (positions // 60)


def test_a_move_that_has_become_much_likelier_is_not_pushed_on() -> None:
    run = learner(num_envs=20, batch_size=60, value_weight=0.0, symmetries=False, clip_range=0.1)
    while run._rows is None:
        run.step()
    likely = run._log_p.copy()
    run._log_p -= 1  # as if all moves had been less probable by a factor of e
    run._advantages[:] = 1
    told = run._learn()
    assert told["policy_loss"] == pytest.approx(-1.1)
    assert (told["clipped"], told.get("grad_norm", 0)) == (1, 0)
    run._advantages[:] = -1  # but they can be taken back
    assert run._learn()["policy_loss"] == pytest.approx(np.e, rel=0.2)
    run._log_p = likely
    assert run._learn()["clipped"] < 0.5


def test_resumes_fall_into_an_update_that_is_half_done() -> None:
    run = learner(num_envs=20)
    for _ in range(32):
        run.step()
    assert run._learned > 0
    assert run.state()["gradient"]


def test_openings_are_drawn_from_the_policy_and_have_no_pass() -> None:
    run = learner()
    evaluator = Evaluator(run.network, symmetry="none")
    first = draw_openings(evaluator, Setting(5), 6, 8, 0, Stop())
    assert all(len(moves) == 8 and 25 not in moves for moves in first)
    assert len(set(first)) == 6
    assert first[:3] == draw_openings(evaluator, Setting(5), 3, 8, 0, Stop())
    assert first != draw_openings(evaluator, Setting(5), 6, 8, 1, Stop())


def test_against_itself_it_has_a_half_and_both_have_each_opening() -> None:
    run = learner(komi=3.0)
    score = run.evaluate_games(20, 3, Stop())
    assert score["mean"] == 0.5  # what Black has of an opening, White has not
    assert score["low"] == pytest.approx(0.299, abs=0.001)  # Wilson's
    assert score["openings"] == 10
    assert score["opponent"] == "start"
    assert 0 <= score["drawn_low"] <= score["drawn"] <= score["drawn_high"] <= 1  # chance is another for each colour


def test_it_learns() -> None:
    """Item 276, part 2: a policy by play against its past selves."""
    run = learner(num_envs=24, learning_rate=4e-3, pool_every=3, pool_size=3, cap=24, komi=0.5, value_weight=0.1)
    while run.batches < 7:
        run.step()
    assert run.evaluate_games(60, 0, Stop())["low"] > 0.55


# ---- What it takes from another run.


def source(name: str, env: str = "Go5", **settings: Any) -> GoNetwork:
    """A run of AlphaZero that has just begun, in the runs folder; its network."""
    load_recipes()
    config = changed(default_alphazero(env), {"encoder": "go-resnet-2x32", "komi": 3.5} | settings)
    folder = create_run("alphazero", {"env": env}, to_plain(config), name)
    network = GoNetwork(config.net, config.env.setting().size)
    journal = Journal(folder.journal)
    Checkpoints(folder.checkpoints, journal).save({"network": network.state_dict()}, {}, 12)
    return network.eval()


class Silent:
    def show(self, progress: Any, metrics: Any) -> None: ...

    def event(self, text: str) -> None: ...


class After(Silent):
    """Asks for a stop after some steps."""

    def __init__(self, stop: Stop, steps: int):
        self.stop, self.left = stop, steps

    def show(self, progress: Any, metrics: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self.stop.request("test")


def train(recipe: str, name: str, view: Any = None, stop: Stop | None = None, **settings: Any) -> RunFolder:
    entry = load_recipes().get(recipe)
    config = changed(entry.default("Go5"), {"threads": 1, "log_steps": 1} | settings)
    folder, _ = start_run(recipe, config, name, stop or Stop(), view or Silent(), lambda c, *_: c)
    return folder


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_a_run_needs_the_one_it_started_from_no_more(runs: Path) -> None:
    network = source("first")
    settings = {"start": "first", "steps": 300, "num_envs": 4, "cap": 12, "evaluate_steps": 0, "final_episodes": 2}
    whole = train("go-reinforce", "whole", **settings)
    stop = Stop()
    folder = train("go-reinforce", "mine", After(stop, 20), stop, **settings)
    assert folder.config()["warm_start"]["start"] | {"digest": 0, "net": 0} == {
        "run": "first", "step": 12, "size": 5, "digest": 0, "net": 0,
    }  # fmt: skip
    assert folder.config()["config"]["env"]["komi"] == 3.5  # what the network knows
    shutil.rmtree(runs / "first")
    assert resume_run(folder, None, Stop(), Silent()).finished
    one, other = (read_network(each).network.state_dict() for each in (folder, whole))
    assert digest(one) == digest(other) != digest(network.state_dict())
    rows = [(runs / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "mine")]
    assert [row.partition('"clock"')[0] for row in rows[0]] == [row.partition('"clock"')[0] for row in rows[1]]


def test_it_begins_as_the_network_that_is_named(runs: Path) -> None:
    network = source("first")
    entry = load_recipes().get("go-reinforce")
    assert entry.warm_start is not None
    config, start = entry.warm_start(changed(entry.default("Go5"), {"start": "first"}))
    same = entry.warm_start(changed(entry.default("Go5"), {"start": "first:12"}))[1]
    assert same.sources["start"].note == start.sources["start"].note
    assert config.net == network.config
    folder = create_run("go-reinforce", {"env": "Go5"}, to_plain(config), "mine")
    context = BuildContext("cpu", Journal(folder.journal), folder.path)
    with pytest.raises(RlabError, match="does not say what 'rlab train' took"):
        entry.build(config, context)
    start.save(folder)
    assert digest(entry.build(config, context).network.state_dict()) == digest(network.state_dict())
    damaged = bytearray((folder.path / "start.safetensors").read_bytes())
    damaged[-1] ^= 1
    (folder.path / "start.safetensors").write_bytes(bytes(damaged))
    with pytest.raises(RlabError, match="is damaged"):
        entry.build(config, context)
    (folder.path / "start.safetensors").write_bytes(b"short")
    with pytest.raises(RlabError, match="cannot be read"):
        entry.build(config, context)


def test_what_cannot_be_is_refused(runs: Path) -> None:
    source("first")
    source("large", "Go7")
    entry = load_recipes().get("go-reinforce")
    assert entry.warm_start is not None
    default = entry.default("Go5")
    create_run("dqn", {"env": "Go5"}, to_plain(load_recipes().get("dqn").default("Go5")), "other")
    for settings, said in [
        ({}, "--start is empty; it names a run with a network of Go"),
        ({"start": "frist"}, "no run 'frist' .*nearest: first"),
        ({"start": "large"}, "run 'large' plays on 7x7, and this one on Go5; nearest: --env Go7"),
        ({"start": "other"}, "run 'other' is one of dqn, which has no network of Go"),
        ({"start": "first:5"}, "run 'first' has no whole checkpoint at 5; there is 12"),
        ({"start": "none:5"}, "no run 'none:5'"),
        ({"start": "first", "width": 8}, "--width is 8, but the network is taken from run 'first', where it is 16"),
    ]:
        with pytest.raises(RlabError, match=said):
            entry.warm_start(changed(default, settings))
    for settings, said in [
        ({"num_envs": 1}, "--num-envs is 1"),
        ({"pool_size": 0}, "--pool-size is 0"),
        ({"gae_lambda": 1.5}, "--gae-lambda is 1.5"),
        ({"gae_lambda": 0.9, "baseline": "colour"}, "--gae-lambda 0.9 credits by values; nearest: --baseline value"),
    ]:
        with pytest.raises(RlabError, match=said):
            changed(default, settings)
    config, _ = entry.warm_start(changed(default, {"start": "first", "search_precision": "fp32"}))
    assert config.net == replace(NetConfig(encoder="go-resnet-2x32"), search_precision="fp32")


def test_other_boards_work_and_footprints_hold() -> None:
    run = learner("Go7", cap=6)
    while run.batches < 1:
        run.step()
    before = digest(run.state())
    footprint = run.footprint(Stop())
    assert digest(run.state()) == before
    assert footprint.seconds > 0
    assert footprint.trainable == sum(p.numel() for p in run.network.parameters())


def test_credit_by_hand() -> None:
    """Two games: the first won, of values 0, 0.5, -0.5; the second lost, of one value."""
    values = np.array([0, 0.5, -0.5, 0.25], np.float32)
    games, z = np.array([3, 3, 3, 7]), np.array([1, 1, 1, -1], np.float32)
    assert advantages(values, games, z, 1.0).tolist() == [1, 0.5, 1.5, -1.25]  # outcome less value
    assert advantages(values, games, z, 0.0).tolist() == [0.5, -1, 1.5, -1.25]  # what the next value says
    assert advantages(values, games, z, 0.5).tolist() == [0.375, -0.25, 1.5, -1.25]


def test_values_are_those_of_the_own_positions_and_their_outcomes() -> None:
    run = learner(num_envs=6, value_weight=0.0, gae_lambda=0.5)
    while run._rows is None:
        run.step()
    games, plies = run._rows
    z = np.where(plies % 2 == 0, 1, -1) * np.sign(run.boards.score())[games]
    last = np.append(np.flatnonzero(np.diff(games)), len(games) - 1)
    assert np.allclose(run._advantages[last], z[last] - run._values[games, plies][last])
    assert np.abs(run._values[games, plies]).max() <= 1
    others = np.ones_like(run._values, bool)
    others[games, plies] = False
    assert not run._values[others].any()  # the opponent's positions are not asked about


def test_an_opponent_that_cannot_play_is_refused_before_anything_is_learned() -> None:
    for opponent, said in CANNOT_PLAY.items():
        with pytest.raises(RlabError, match=said):
            learner(opponent=opponent).footprint(Stop())
