"""Search: it finds what is there, whatever the rule, and nothing depends on what is searched beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.agents.search import Gumbel, Puct, advance_root, best_line, considered_visits, search
from rlab.errors import RlabError
from tests.agents.search.noughts import EMPTY, Noughts, by_table, ignorant, solved, some_boards

RULES = [Puct(), Puct(noise=0.25), Puct(forced=2.0), Gumbel(), Gumbel(scale=0.0), Gumbel(considered=2)]


def ask(boards: Any, budget: Any, rule: Any, evaluate: Any = by_table, **more: Any) -> Any:
    n = len(boards)
    keys = more.pop("keys", np.arange(n, dtype=np.uint64))
    return search(Noughts(), boards, evaluate, np.broadcast_to(budget, n), keys, rule, **more)


@pytest.mark.parametrize("leaves", [1, 4])
@pytest.mark.parametrize("rule", [Puct(), Puct(noise=0.25), Gumbel(), Gumbel(scale=0.0)], ids=str)
def test_noughts_and_crosses_is_solved_without_knowing_anything(rule: Any, leaves: int) -> None:
    boards = some_boards(40, 0)
    boards = boards[(boards > 0).sum(1) >= 3]  # with fewer stones it takes thousands of simulations
    found = ask(boards, 400, rule, ignorant, leaves=leaves)
    for board, action in zip(boards, found.action, strict=True):
        after = board.copy()
        after[action] = 1 + (board > 0).sum() % 2
        assert -solved(after) == solved(board)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_what_is_found_of_a_game_does_not_depend_on_the_others(rule: Any) -> None:
    boards = some_boards(9, 1)
    budget = np.array([40, 0, 7, 64, 1, 33, 40, 12, 64])
    together = ask(boards, budget, rule)
    for row in range(9):
        alone = search(
            Noughts(), boards[row : row + 1], by_table, budget[row : row + 1], np.array([row], np.uint64), rule
        )
        assert alone.visits[0].tolist() == together.visits[row].tolist()
        assert alone.policy[0].tolist() == together.policy[row].tolist()
        assert alone.value[0] == together.value[row]
        assert alone.action[0] == together.action[row]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    budget=st.integers(0, 90),
    rule=st.sampled_from(RULES),
    leaves=st.integers(1, 5),
)
def test_sums_of_every_tree(seed: int, budget: int, rule: Any, leaves: int) -> None:
    """Visits add up from level to level, totals are the values below with the other sign, illegal ones have none."""
    boards = some_boards(3, seed)
    found = ask(boards, budget, rule, leaves=leaves)
    tree = found.tree
    for g, board in enumerate(boards):
        assert found.visits[g].sum() == budget
        assert not found.visits[g][board > 0].any()
        assert found.policy[g].sum() == pytest.approx(1, abs=1e-5)
        assert not found.policy[g][board > 0].any()
        for node in range(tree.size[g]):
            if tree.ended[g, node]:
                continue
            assert tree.node_visits[g, node] == tree.visits[g, node].sum()
            for a in range(9):
                below, n = tree.children[g, node, a], tree.visits[g, node, a]
                assert (below >= 0) == (n > 0)
                if below < 0:
                    continue
                if tree.ended[g, below]:
                    worth = n * tree.raw_value[g, below]
                else:
                    assert n == 1 + tree.node_visits[g, below] or leaves > 1
                    again = n - tree.node_visits[g, below]  # visits that several leaves of a round had in common
                    worth = again * tree.raw_value[g, below] + tree.value_sum[g, below].sum()
                assert tree.value_sum[g, node, a] == pytest.approx(-worth, abs=1e-4)


def test_a_game_that_is_over_has_no_move() -> None:
    over = np.array([[1, 1, 1, 2, 2, 0, 0, 0, 0], EMPTY])
    for rule in RULES:
        found = ask(over, 20, rule)
        assert found.action[0] == -1
        assert found.value[0] == -1
        assert not found.visits[0].any()
        assert found.visits[1].sum() == 20


def test_the_key_decides_what_chance_does() -> None:
    boards = np.repeat(EMPTY[None], 64, 0)
    for rule in (Gumbel(considered=4), Puct(noise=0.5)):
        first, again = (ask(boards, 12, rule, keys=np.arange(64, dtype=np.uint64)) for _ in range(2))
        assert first.visits.tolist() == again.visits.tolist()
        assert len({tuple(row) for row in first.visits.tolist()}) > 16


def test_without_simulations_gumbel_draws_from_the_policy() -> None:
    """Argmax of Gumbel + log p is a draw from p (Gumbel 1954)."""
    number = 20_000
    boards = np.repeat(EMPTY[None], number, 0)
    found = ask(boards, 0, Gumbel())
    drawn = np.bincount(found.action, minlength=9) / number
    np.testing.assert_allclose(drawn, found.prior[0], atol=4 * np.sqrt(0.25 / number))


def test_sequential_halving_by_hand() -> None:
    # 16 actions, 32 simulations: ceil(log2 16) = 4 phases. 32 // (4 * 16) = 0, at least 1: one visit each; then 8 with
    # 32 // (4 * 8) = 1, then 4 with 2: 16 + 8 + 8 = 32.
    assert considered_visits(16, 32) == (0,) * 16 + (1,) * 8 + (2,) * 4 + (3,) * 4
    assert considered_visits(1, 3) == (0, 1, 2)
    assert considered_visits(2, 5) == (0, 0, 1, 1, 2)
    assert considered_visits(5, 0) == ()


def test_puct_by_hand() -> None:
    """Three simulations from a root of which only two moves are left."""
    board = np.array([[2, 1, 2, 1, 2, 1, 1, 0, 0]])  # 2 is to move, and wins with the last point
    rule = Puct(c_init=1.0, c_base=1e9, fpu=0.0)

    def told(positions: Any, rows: Any, chance: Any) -> Any:
        logits = np.tile(np.log(np.array([1e-9] * 7 + [0.75, 0.25], np.float32)), (len(rows), 1))
        return logits, np.full(len(rows), 0.2, np.float32)

    found = ask(board, 3, rule, told)
    # 1: unvisited edges are worth the root's 0.2; u = p sqrt(1): 0.95 against 0.45, so point 7, whose leaf says -0.2.
    # 2: q(7) = -0.2 + 0.75 / 2 = 0.175; of 8 (0.2 - 0.2) / 2 + 0.25 = 0.25, so point 8, which wins: 1.
    # 3: q(8) = 1 + 0.25 sqrt(2) / 2 is the most.
    assert found.visits[0, 7:].tolist() == [1, 2]
    np.testing.assert_allclose(found.q[0, 7:], [-0.2, 1.0], atol=1e-6)
    assert found.value[0] == pytest.approx((0.2 - 0.2 + 2.0) / 4)
    assert found.action[0] == 8


def test_forced_playouts_are_made_and_taken_off_again() -> None:
    boards = np.repeat(EMPTY[None], 4, 0)
    plain, forced = (ask(boards, 200, Puct(forced=k)) for k in (0.0, 2.0))
    visited = forced.visits > 0
    assert (forced.visits >= np.floor(np.sqrt(2.0 * forced.prior * 200)) - 1)[visited].all()
    best = forced.visits.argmax(1)
    rows = np.arange(4)
    assert (forced.policy[rows, best] >= forced.visits[rows, best] / 200).all()  # what was taken off went to it
    assert forced.visits.max(1).mean() < plain.visits.max(1).mean()


def test_a_tree_goes_on_with_the_game() -> None:
    boards = some_boards(6, 3)
    found = ask(boards, 120, Puct())
    below = found.tree.children[np.arange(6), 0, found.action]
    kept = [int(found.tree.node_visits[g, node]) if node >= 0 else -1 for g, node in enumerate(below)]
    after = boards.copy()
    for board, action in zip(after, found.action, strict=True):
        board[action] = 1 + (board > 0).sum() % 2
    line = best_line(found.tree, 0, int(found.action[0]))
    assert line[0] == found.action[0]
    tree = advance_root(found.tree, found.action)
    again = ask(after, 30, Puct(), tree=tree)
    for g in range(6):
        if again.action[g] >= 0 and kept[g] >= 0:
            assert again.visits[g].sum() == kept[g] + 30
    fresh = ask(after, 30, Puct())
    np.testing.assert_array_equal(fresh.raw, again.raw)
    assert advance_root(again.tree, np.full(6, -1)).size.tolist() == [0] * 6


def test_what_makes_no_sense_is_refused() -> None:
    boards = some_boards(2, 0)
    with pytest.raises(RlabError, match="at least one leaf"):
        ask(boards, 4, Puct(), leaves=0)
    with pytest.raises(RlabError, match="budgets of 0 or more"):
        ask(boards, -1, Puct())
    tree = ask(boards, 4, Puct()).tree
    with pytest.raises(RlabError, match="starts from an empty tree; nearest: Puct"):
        ask(boards, 4, Gumbel(), tree=tree)
    with pytest.raises(RlabError, match="a tree of 2 games was given for 3"):
        ask(some_boards(3, 0), 4, Puct(), tree=tree)
