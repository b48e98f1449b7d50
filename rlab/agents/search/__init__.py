"""Tree search of many games in lockstep, a network's batch for every simulation."""

from rlab.agents.search.mcts import (
    Evaluate,
    Game,
    Gumbel,
    Leaves,
    Puct,
    Result,
    best_line,
    considered_visits,
    go_on,
    search,
)

__all__ = [
    "Evaluate",
    "Game",
    "Gumbel",
    "Leaves",
    "Puct",
    "Result",
    "best_line",
    "considered_visits",
    "go_on",
    "search",
]
