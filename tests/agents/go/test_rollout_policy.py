"""The rollout policy: features by hand and against a slow reference, symmetries, likelihood, learning, playing."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.agents.go.alphago import patterns, rollout_policy
from rlab.agents.go.alphago import supervised_policy as records
from rlab.agents.go.alphago.patterns import ABSENT, ACROSS, BESIDE, FIRST, OFFSETS, PLACES, RESPONSE, SAVES
from rlab.agents.go.alphago.rollout_policy import Moves, Playouts, RolloutPlayer, RolloutPolicy, find_patterns
from rlab.agents.go.players import find_player
from rlab.envs.go.boards import Boards, Setting, point_of
from rlab.envs.go.players import RandomPlayer, own_eyes
from rlab.envs.go.sgf import Record
from rlab.envs.go.symmetry import symmetries
from rlab.errors import RlabError
from rlab.recipes import load_recipes
from rlab.run.checkpoint import Checkpoints, digest
from rlab.run.config import changed, to_plain
from rlab.run.contract import Stop
from rlab.run.folder import RunFolder, create_run
from rlab.run.journal import Journal
from rlab.run.lifecycle import BuildContext
from rlab.studies.rl import Forgetful

FIVE = Setting(5, 2.5, cap=60)
NINE = Setting(9, ko="simple", cap=324)


def random_moves(seed: int, number: int, setting: Setting = FIVE) -> list[int]:
    boards = Boards(1, setting, threads=1)
    keys = np.random.default_rng(seed).integers(0, 2**63, number).astype(np.uint64)
    for key in keys:
        if not boards.over[0]:
            boards.play(RandomPlayer().choose(boards, np.zeros(1, np.int64), key[None]))
    return boards.moves(0)


def after(moves: list[int], setting: Setting = FIVE) -> Boards:
    boards = Boards(1, setting, threads=1)
    for move in moves:
        boards.play([move])
    return boards


def some_policy(setting: Setting = FIVE) -> RolloutPolicy:
    """All patterns of some random games, with weights by chance."""
    games = [random_moves(seed, 40, setting) for seed in range(30)]
    ends = np.cumsum([0, *map(len, games)])
    policy = find_patterns(
        Moves("random", setting, np.concatenate(games), {"train": np.array(list(pairwise(ends)))}), 1
    )
    policy.weights[1:] = np.random.default_rng(1).normal(0, 1, len(policy.weights) - 1)
    return policy


POLICY = some_policy()


# ---- A slow reference.


def liberties(stones: np.ndarray, y: int, x: int) -> int:
    colour, chain, free = stones[y, x], {(y, x)}, set()
    todo = [(y, x)]
    while todo:
        a, b = todo.pop()
        for c, d in ((a - 1, b), (a + 1, b), (a, b - 1), (a, b + 1)):
            if 0 <= c < len(stones) and 0 <= d < len(stones):
                if stones[c, d] == 0:
                    free.add((c, d))
                elif stones[c, d] == colour and (c, d) not in chain:
                    chain.add((c, d))
                    todo.append((c, d))
    return len(free)


def state_at(stones: np.ndarray, y: int, x: int, me: int) -> int:
    if not (0 <= y < len(stones) and 0 <= x < len(stones)):
        return 4
    if stones[y, x] == 0:
        return 0
    return min(3, liberties(stones, y, x)) + (0 if stones[y, x] == me else 4)


def code_at(stones: np.ndarray, y: int, x: int, me: int, number: int) -> int:
    return sum(state_at(stones, y + a, x + b, me) << 3 * j for j, (a, b) in enumerate(OFFSETS[:number]))


def views(code: int, number: int, point: int = 0) -> list[tuple[int, int]]:
    found = []
    for where in PLACES:
        low = sum((code >> 3 * j & 7) << 3 * int(where[j]) for j in range(number))
        found.append(((code >> 3 * number << 3 * number) | low, int(where[point])))
    return found


def reference(policy: RolloutPolicy, boards: Boards) -> dict[int, list[int]]:
    """Rows of every move's features, found the slow way."""
    n, me, stones = boards.size, int(boards.turn[0]), boards.stones()[0]
    moves = boards.moves(0)
    before = after(moves[:-1], boards.setting) if moves else boards
    taken = [p for p in range(n * n) if before.stones()[0].flat[p] == me and stones.flat[p] == 0]
    squares, responses, shapes = (words.tolist() for words in (policy.squares, policy.responses, policy.shapes))
    weak = {(y, x) for y in range(n) for x in range(n) if stones[y, x] == me and liberties(stones, y, x) == 1}
    found = {}
    for p in np.flatnonzero(boards.legal()[0, :-1] & ~own_eyes(boards)[0]):
        y, x = divmod(int(p), n)
        code = min(views(code_at(stones, y, x, me, 8), 8))[0]
        rows = [FIRST + squares.index(code) if code in squares else ABSENT]
        if moves and moves[-1] < n * n:
            a, b = divmod(moves[-1], n)
            if (y - a, x - b) in OFFSETS:
                j = OFFSETS.index((y - a, x - b))
                if j < 8:
                    rows.append(BESIDE if j < 4 else ACROSS)
                around = code_at(stones, a, b, me, 12) | state_at(stones, a, b, me) << 36
                word = min(c << 4 | k for c, k in views(around, 12, j))
                if word in responses:
                    rows += [RESPONSE, FIRST + len(squares) + responses.index(word)]
        later = after([*moves, int(p)], boards.setting).stones()[0]
        if any(later[c] == me and liberties(later, *c) >= 2 for c in weak):
            rows.append(SAVES)
        if p in taken and 3 <= len(taken) <= 6:
            word = shape_word([divmod(t, n) for t in taken], (y, x))
            if word in shapes:
                rows.append(FIRST + len(squares) + len(responses) + shapes.index(word))
        found[int(p)] = rows
    return found


def shape_word(cells: list[tuple[int, int]], at: tuple[int, int]) -> int:
    words = []
    for k in range(8):
        turned = []
        for y, x in [*cells, at]:
            x = -x if k >= 4 else x
            for _ in range(k % 4):
                y, x = -x, y
            turned.append((y, x))
        top, left = min(y for y, _ in turned), min(x for _, x in turned)
        *shape, place = [6 * (y - top) + x - left for y, x in turned]
        if max(y for y, _ in turned) - top > 5 or max(x for _, x in turned) - left > 5:
            return -1
        words.append(sum(1 << bit for bit in shape) << 6 | place)
    return min(words)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 45))
def test_features_are_those_of_a_slow_reference(seed: int, number: int) -> None:
    boards = after(random_moves(seed, number))
    if boards.over[0]:
        return
    found = POLICY.features(boards, 0)[0]
    assert {p: sorted(rows) for p, rows in found.items()} == {
        p: sorted(rows) for p, rows in reference(POLICY, boards).items()
    }


def test_features_by_hand() -> None:
    # White's stone on C3 has one liberty, C2; there it gets more, or C5 takes the black stone on C4.
    stones = {"B3": 1, "D3": 1, "C4": 1, "C3": 2, "B4": 2, "D4": 2}
    board = np.zeros(25, np.uint8)
    for name, colour in stones.items():
        board[point_of(name, 5)] = colour
    boards = Boards(1, FIVE, threads=1)
    boards.arrange(0, board.reshape(5, 5), 2)
    found = POLICY.features(boards, 0)[0]
    assert {p for p, rows in found.items() if SAVES in rows} == {point_of("C2", 5), point_of("C5", 5)}
    # Black moves beside the corner; White answers beside it, across or elsewhere.
    boards = after([point_of("B2", 5)])
    found = POLICY.features(boards, 0)[0]
    assert sorted(p for p, rows in found.items() if BESIDE in rows) == sorted(
        point_of(name, 5) for name in ("B1", "B3", "A2", "C2")
    )
    assert sorted(p for p, rows in found.items() if ACROSS in rows) == sorted(
        point_of(name, 5) for name in ("A1", "A3", "C1", "C3")
    )
    assert not any(SAVES in rows for rows in found.values())


@pytest.mark.parametrize(("more", "saves"), [({}, ["A3", "B1"]), ({"C2": 2}, ["A3"])])
def test_stones_are_saved_by_taking_what_holds_them_or_by_joining(more: dict[str, int], saves: list[str]) -> None:
    # Black's A1 has the liberty B1, where it joins B2; White's A2, which holds it, has the liberty A3. With White on C2
    # the stones that are joined have B3 alone.
    board = np.zeros(25, np.uint8)
    for name, colour in ({"A1": 1, "B2": 1, "A2": 2, "C1": 2} | more).items():
        board[point_of(name, 5)] = colour
    boards = Boards(1, FIVE, threads=1)
    boards.arrange(0, board.reshape(5, 5), 1)
    found = POLICY.features(boards, 0)[0]
    assert {p for p, rows in found.items() if SAVES in rows} == {point_of(name, 5) for name in saves}


def test_the_middle_of_three_that_were_taken() -> None:
    names = ["A1", "A2", "B1", "B2", "C1", "C2", "E5", "D1"]  # Black's three are taken by D1
    moves = [point_of(name, 5) for name in names]
    boards = after(moves)
    assert boards.stones()[0][4].tolist() == [0, 0, 0, 2, 0]
    three = [(4, 0), (4, 1), (4, 2)]
    words = np.array(sorted({shape_word(three, at) for at in three}), np.int64)
    assert len(words) == 2  # the middle, and either end
    policy = RolloutPolicy(np.zeros(0, np.int64), np.zeros(0, np.int64), words)
    found = policy.features(boards, 0)[0]
    rows = {p: [row for row in found[p] if row >= FIRST] for p in (20, 21, 22)}
    assert rows[20] == rows[22] != rows[21]
    assert all(len(one) == 1 for one in rows.values())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(0, 7), st.booleans())
def test_a_position_turned_or_with_colours_swapped_is_the_same(seed: int, number: int, kind: int, swap: bool) -> None:
    moves = random_moves(seed, number)
    if after(moves).over[0]:
        return
    to = symmetries(5)[kind]
    turned = after([*([25] if swap else []), *(int(to[move]) for move in moves)])
    if turned.over[0]:
        return
    (one, p), (other, q) = POLICY.features(after(moves), 0), POLICY.features(turned, 0)
    assert {int(to[point]): sorted(rows) for point, rows in one.items()} == {
        point: sorted(rows) for point, rows in other.items()
    }
    np.testing.assert_allclose(q[to[:-1]], p, atol=1e-12)


def test_probabilities_are_a_softmax_over_what_is_legal_and_no_own_eye() -> None:
    boards = after(random_moves(3, 24))
    rows, probabilities = POLICY.features(boards, 0)
    scores = {p: sum(POLICY.weights[row] for row in found) for p, found in rows.items()}
    total = sum(np.exp(score) for score in scores.values())
    for p in range(25):
        assert probabilities[p] == pytest.approx(np.exp(scores[p]) / total if p in scores else 0)


def test_moves_are_drawn_as_often_as_they_are_probable() -> None:
    boards = after(random_moves(5, 15))
    probabilities = POLICY.features(boards, 0)[1]
    player = RolloutPlayer("it", POLICY, greedy=False)
    keys = np.random.default_rng(0).integers(0, 2**63, 6_000).astype(np.uint64)
    drawn = np.bincount(player.choose(boards, np.zeros(6_000, np.int64), keys), minlength=26)[:25] / 6_000
    assert np.abs(drawn - probabilities).max() < 4 * np.sqrt(0.25 / 6_000)
    best = RolloutPlayer("it", POLICY).choose(boards, np.zeros(2, np.int64), keys[:2])
    assert best.tolist() == [probabilities.argmax()] * 2


def test_what_follows_a_game_sees_what_a_fresh_look_sees() -> None:
    """A playout's weights, kept up to date move by move, against those of the whole board."""
    tables = patterns.worth(POLICY.tables, POLICY.rows, POLICY.weights)
    for seed in range(6):
        boards, twin = Boards(1, FIVE, seed=seed, threads=1), Boards(1, FIVE, threads=1)
        kept, fresh = patterns.make_view(5), patterns.make_view(5)
        moves = np.array(random_moves(seed, 60), np.int64)
        patterns.begin(boards.games.cells, 0, boards.rules.numbers, kept, tables)
        for move in moves:
            patterns.follow(*boards.games, *boards.rules, 0, kept, tables, move)
            twin.play([move])
            patterns.begin(twin.games.cells, 0, twin.rules.numbers, fresh, tables)
            assert (kept.values == fresh.values).all()
            assert (kept.sums == fresh.sums).all()
            assert (kept.sums == kept.values.reshape(2, 5, 5).sum(2)).all()


def test_an_outcome_depends_on_its_game_and_key_alone() -> None:
    boards = Boards(3, FIVE, threads=1)
    for k in range(3):
        for move in random_moves(k, 4 * k):
            boards.play([move if row == k else -1 for row in range(3)])
    rows, keys = np.array([0, 1, 2] * 40), np.arange(120, dtype=np.uint64)
    before = boards.stones().copy()
    found = Playouts(POLICY).outcomes(boards, rows, keys)
    assert (boards.stones() == before).all()
    order = np.random.default_rng(0).permutation(120)
    assert (Playouts(POLICY).outcomes(boards, rows[order], keys[order]) == found[order]).all()
    assert {float(z) for z in found} == {-1.0, 1.0}  # komi is no whole number
    lone = Playouts(POLICY)
    assert [float(lone.outcomes(boards, rows[k : k + 1], keys[k : k + 1])[0]) for k in range(5)] == found[:5].tolist()


def test_an_outcome_is_that_of_the_player_to_move() -> None:
    board = np.ones((5, 5), np.uint8)  # all is Black's but two eyes
    board[0, 0] = board[2, 2] = 0
    boards = Boards(2, FIVE, threads=1)
    boards.arrange(0, board, 1)
    boards.arrange(1, board, 2)
    assert Playouts(POLICY).outcomes(boards, np.arange(2), np.zeros(2, np.uint64)).tolist() == [1, -1]


# ---- Learning.


def game(seed: int, result: str = "B+1") -> Record:
    """Black plays on the second line from the left, White answers to the right."""
    chance = np.random.default_rng(seed)
    rows = chance.permutation(9)[:5]
    points = [int(9 * row + 1 + k) for row in rows for k in (0, 1)]
    return Record(9, 7.0, tuple((1 + k % 2, point) for k, point in enumerate(points)), result=result)


@pytest.fixture
def _some_games(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(records, "_records", lambda name: [game(k) for k in range(60)])
    rollout_policy.gather.cache_clear()
    yield
    rollout_policy.gather.cache_clear()


def learner(**settings: Any) -> Any:
    recipe = load_recipes().get("go-rollout")
    return recipe.build(changed(recipe.default("go9x9"), settings), BuildContext("cpu", Forgetful()))


@pytest.mark.usefixtures("_some_games")
def test_a_step_is_the_gradient_of_the_likelihood() -> None:
    run = learner(least=1)
    policy, moves = run.policy, run.moves
    policy.weights[1:] = np.random.default_rng(2).normal(0, 0.5, len(policy.weights) - 1)
    start = int(moves.splits["train"][0, 0])
    before = policy.weights.copy()

    def learned(end: int) -> np.ndarray:
        """What the first positions change. With so large a sum of squares AdaGrad's step is the gradient itself."""
        policy.weights[:] = before
        run._squares[:] = 1e16
        assert run._learn(np.array([[start, end]]), 1e8)[0] == end - start
        return policy.weights - before

    five, six = learned(start + 5), learned(start + 6)
    policy.weights[:] = before + five
    boards, move = after(moves.moves[start : start + 5].tolist(), NINE), int(moves.moves[start + 5])
    rows, probabilities = policy.features(boards, 0)
    expected = np.zeros(len(policy.weights))
    for p, found in rows.items():
        for row in found:
            expected[row] += (p == move) - probabilities[p]
    np.testing.assert_allclose(six - five, expected, atol=1e-6)
    assert np.abs(expected).max() > 0.1


@pytest.mark.usefixtures("_some_games")
def test_it_learns_goes_on_to_the_bit_and_plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Item 276, part 4: a fast policy for rollouts."""
    run = learner(epochs=6, least=1)
    assert run.progress().total == 6 * 510
    before = run.evaluate_split("test", Stop())
    while not run.progress().finished:
        run.step()
        if run.chunks == 2:
            run.evaluate(Stop())
            state = run.state()
            twin = learner(epochs=6, least=1)
            twin.restore(state, Stop())
            assert digest(twin.state()) == digest(state)
    while not twin.progress().finished:
        twin.step()
    run.evaluate(Stop())
    twin.evaluate(Stop())
    assert digest(twin.state()) == digest(run.state())
    score = run.evaluate(Stop())
    assert score["measure"] == "top-1 %"
    assert score["examples"] == 60
    assert score["low"] < score["mean"] < score["high"]
    assert score["mean"] > 45 > before["mean"] + 20  # White's answers are half of the moves
    assert score["tasks"]["speed"]["mean"] > 0

    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    folder = create_run("go-rollout", {"env": "go9x9"}, to_plain(run.experiment), "quick")
    Checkpoints(folder.checkpoints, Journal(folder.journal)).save(run.state(), {}, run.done)
    monkeypatch.setattr(records, "_records", lambda name: pytest.fail("a player reads no games"))
    rollout_policy.gather.cache_clear()
    player = find_player("quick")
    boards = after([point_of("B5", 9)], Setting(9))
    assert player.choose(boards, np.zeros(1, np.int64), np.zeros(1, np.uint64)) == [point_of("C5", 9)]
    player.close()
    with pytest.raises(RlabError, match="a rollout policy does not search; nearest: quick"):
        find_player("quick@100")
    assert rollout_policy.read_rollout(RunFolder(folder.path)).weights.shape == run.policy.weights.shape


def test_what_makes_no_sense_is_refused() -> None:
    for settings_, said in [
        ({"least": 0}, "--least is 0"),
        ({"test": 0.0}, "--test is 0"),
        ({"validation": 0.7}, "--validation is 0.7"),
        ({"epochs": 0}, "--epochs is 0"),
        ({"games": -1}, "--games is -1"),
    ]:
        with pytest.raises(RlabError, match=said):
            learner(**settings_)
