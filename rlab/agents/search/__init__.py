"""Tree search of many games in lockstep, a network's batch for every simulation."""

from rlab.agents.search.mcts import (
    Evaluate,
    Game,
    Gumbel,
    LeafBatch,
    Puct,
    Result,
    advance_root,
    best_line,
    considered_visits,
    search,
)

__all__ = [
    "Evaluate",
    "Game",
    "Gumbel",
    "LeafBatch",
    "Puct",
    "Result",
    "advance_root",
    "best_line",
    "considered_visits",
    "search",
]
