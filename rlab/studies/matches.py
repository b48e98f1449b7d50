"""What the studies of Go share: a match between two searches that are made of the same runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlab.studies.plots import column, dots
from rlab.studies.study import Results


def lead(board: int, games: int, seed: int, first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    """How far the first is ahead of the second: its points less the other's, as a part of the games, -1 to 1.

    Openings of two moves by chance, each once with either colour; a draw counts a half.

    Args:
        board: its size.
        games: of the match.
        seed: of openings and of both players' chance.
        first, second: fields of `agents.go.alphago.config.ApvConfig`.
    """
    from agents.go.alphago.apv import ApvSearch, take_parts
    from agents.go.alphago.config import ApvConfig, ApvExperiment, MatchConfig
    from agents.go.match import play_match
    from rlab.recipes import load_recipes
    from rlab.run.learner import Stop

    load_recipes()
    match = MatchConfig(env=f"Go{board}")
    players = []
    for fields in (first, second):
        config = ApvConfig(**fields)
        parts = take_parts(config, match.env)
        players.append(ApvSearch(ApvExperiment(env=match, search=config), "cpu", parts).go_player("it"))
    shares, _ = play_match(players[0], players[1], match.setting(), games, seed, Stop())
    return float(2 * shares.mean() - 1)


def draw_leads(figure: Any, results: Results, number: str, label: str) -> None:
    """A lead of each variant, seed by seed, beside none."""
    axes = figure.subplots()
    dots(axes, {name: column(seeds, number) for name, seeds in results.items()}, label)
    axes.axhline(0, color="black", lw=1, ls=":")
