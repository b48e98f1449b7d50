"""What the studies of Go share: matches between players that are made of runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlab.studies.plots import columns, dots
from rlab.studies.study import Contrast, Results


def meet(board: int, games: int, seed: int, first: Any, second: Any) -> float:
    """How far the first player is ahead of the second: its points less the other's, as a part of the games, -1 to 1.

    Openings of two moves by chance, each once with either colour; a draw counts a half.

    Args:
        board: its size.
        games: of the match.
        seed: of openings and of both players' chance.
        first, second: see `rlab.envs.go.players.Player`.
    """
    from rlab.agents.go.alphago.config import MatchConfig
    from rlab.agents.go.match import play_match
    from rlab.run.contract import Stop

    shares, _ = play_match(first, second, MatchConfig(env=f"Go{board}").setting(), games, seed, Stop())
    return float(2 * shares.mean() - 1)


def lead(says: str, weights: Mapping[str, float], above: float = 0.0) -> Contrast:
    """A contrast of what `meet` returns, in a study whose settings name the `games` of a match."""
    return Contrast(says, weights, above, trials="games", span=(-1.0, 1.0))


def searcher(board: int, fields: Mapping[str, Any]) -> Any:
    """A search on a board; fields are those of `rlab.agents.go.alphago.config.ApvConfig`."""
    from rlab.agents.go.alphago.apv_mcts import ApvSearch, take_parts
    from rlab.agents.go.alphago.config import ApvConfig, ApvExperiment, MatchConfig
    from rlab.recipes import load_recipes

    load_recipes()
    match, config = MatchConfig(env=f"Go{board}"), ApvConfig(**fields)
    parts = take_parts(config, match.env)
    return ApvSearch(ApvExperiment(env=match, search=config), "cpu", parts).go_player("it")


def policy(run: str, temperature: float = 1.0, greedy: bool = False) -> Any:
    """The policy of a run, without search: its logits are divided by the temperature, and its moves drawn or greedy."""
    from rlab.agents.go.alphago.apv_mcts import MixedEvaluator
    from rlab.agents.go.alphago.policy_play import GoPolicyPlayer
    from rlab.agents.go.evaluator import Evaluator
    from rlab.agents.go.weights import read_network
    from rlab.recipes import load_recipes
    from rlab.run.folder import find_run

    load_recipes()
    network = Evaluator(read_network(find_run(run)).network, "cpu", "none")
    return GoPolicyPlayer(run, MixedEvaluator(network, network, None, 0.0, temperature), greedy)


def draw_leads(figure: Any, results: Results, number: str, label: str) -> None:
    """A lead of each variant, seed by seed, beside none."""
    axes = figure.subplots()
    dots(axes, columns(results, number), label)
    axes.axhline(0, color="black", lw=1, ls=":")
