"""Our Gumbel search beside mctx's, with the same priors and values; what it said of some boards is in `mctx.json`.

The noise is off, as the two draw by other generators. ``python -m tests.oracles.test_mctx`` writes the file anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlab.agents.search import Gumbel, search
from tests.agents.search.noughts import LINES, THREES, Noughts, by_table, some_boards, tables

GOLDEN = Path(__file__).with_name("mctx.json")
CASES = [(budget, considered) for budget in (1, 7, 16, 50, 150) for considered in (2, 4, 16)]


def theirs(boards: Any, budget: int, considered: int) -> tuple[Any, Any, Any]:
    """Visits, improved policy and action of mctx."""
    import jax
    import jax.numpy as jnp
    import mctx

    logits, values = (jnp.asarray(table) for table in tables())
    lines, threes = jnp.asarray(LINES), jnp.asarray(THREES)

    def look(board: Any) -> tuple[Any, Any, Any]:
        at = board @ threes
        filled = board[:, lines]
        won = ((filled == filled[:, :, :1]) & (filled > 0)).all(2).any(1)
        ended = won | (board > 0).all(1)
        return jnp.where((board == 0), logits[at], jnp.finfo(jnp.float32).min), values[at], (won, ended)

    def recur(params: Any, key: Any, action: Any, board: Any) -> Any:
        ended_before = look(board)[2][1]
        mark = 1 + (board > 0).sum(1) % 2
        after = jnp.where(
            ended_before[:, None], board, board.at[jnp.arange(len(board)), action].set(mark.astype(board.dtype))
        )
        prior, value, (won, ended) = look(after)
        reward = jnp.where(won & ~ended_before, 1.0, 0.0)
        discount = jnp.where(ended, 0.0, -1.0)
        out = mctx.RecurrentFnOutput(
            reward=reward, discount=discount, prior_logits=prior, value=jnp.where(ended, 0, value)
        )
        return out, after

    start = jnp.asarray(boards)
    prior, value, _ = look(start)
    policy = mctx.gumbel_muzero_policy(
        (), jax.random.PRNGKey(0), mctx.RootFnOutput(prior_logits=prior, value=value, embedding=start), recur,
        num_simulations=budget, invalid_actions=start > 0, max_num_considered_actions=considered, gumbel_scale=0.0,
    )  # fmt: skip
    visits = policy.search_tree.summary().visit_counts
    return np.asarray(visits), np.asarray(policy.action_weights), np.asarray(policy.action)


def ours(boards: Any, budget: int, considered: int) -> tuple[Any, Any, Any]:
    """The same of ours."""
    n = len(boards)
    found = search(
        Noughts(), boards, by_table, np.full(n, budget), np.zeros(n, np.uint64), Gumbel(considered, scale=0.0)
    )
    return found.visits, found.policy, found.action


@pytest.mark.oracle
@pytest.mark.parametrize(("budget", "considered"), CASES)
def test_three_hundred_boards_of_mctx(budget: int, considered: int) -> None:
    boards = some_boards(300, budget)
    for mine, other in zip(ours(boards, budget, considered), theirs(boards, budget, considered), strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-5)


def test_boards_that_mctx_has_searched() -> None:
    kept = json.loads(GOLDEN.read_text())
    assert {(case["budget"], case["considered"]) for case in kept} == set(CASES)
    for case in kept:
        visits, policy, action = ours(np.array(case["boards"]), case["budget"], case["considered"])
        assert visits.tolist() == case["visits"]
        np.testing.assert_allclose(policy, case["policy"], atol=2e-5)
        assert action.tolist() == case["action"]


def main() -> None:
    """Write what mctx says."""
    kept = []
    for budget, considered in CASES:
        boards = some_boards(6, 1_000 + budget)
        visits, policy, action = theirs(boards, budget, considered)
        kept.append(
            {
                "budget": budget,
                "considered": considered,
                "boards": boards.tolist(),
                "visits": visits.tolist(),
                "policy": np.round(policy.astype(float), 6).tolist(),
                "action": action.tolist(),
            }
        )
    GOLDEN.write_text(json.dumps(kept, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
