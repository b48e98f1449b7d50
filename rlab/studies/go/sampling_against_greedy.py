"""A policy that wins games with drawn moves: has it learned to play, or to be sure?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from rlab.studies.go_matches import draw_leads, lead, meet, policy
from rlab.studies.study import STUDIES, Numbers, Study


@dataclass(frozen=True)
class Settings:
    """A policy from records, and the same improved by self-play."""

    board: int = 9
    """Its size."""
    start: str = "go9"
    """The run of the policy from records, which is the opponent."""
    reinforced: str = "go9-rl"
    """The run that improved it."""
    games: int = 60
    """Of a match, half of them with each colour."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """How far the variant is ahead of the start, without search."""
    s = settings
    run, greedy, temperature = variant["run"], variant["greedy"], variant["temperature"]
    it = policy(s.start if run == "start" else s.reinforced, temperature, greedy)
    return {"ahead": meet(s.board, s.games, seed, it, policy(s.start, greedy=greedy))}


def _variant(run: str, greedy: bool = False, temperature: float = 1.0) -> dict[str, Any]:
    return {"run": run, "greedy": greedy, "temperature": temperature}


STUDIES.register("sampling-against-greedy")(
    Study(
        claim="A policy that wins four of five games with drawn moves need not play better: its start does so, too, "
        "once it is surer of the very same moves, and with most probable moves little of the lead is left.",
        source="item 276; Silver et al. 2016, which tells 80 % for drawn moves",
        settings=Settings(),
        smoke={"board": 5, "start": "go5", "reinforced": "go5", "games": 4},
        variants={
            "improved, drawn": _variant("reinforced"),
            "improved, greedy": _variant("reinforced", greedy=True),
            "start at 0.5": _variant("start", temperature=0.5),
            "start at 0.3": _variant("start", temperature=0.3),
        },
        measure=measure,
        contrasts=(
            lead("the start at temperature 0.3 wins four of five", {"start at 0.3/ahead": 1}, above=0.6),
            lead(
                "most of the improved policy's lead goes when moves are not drawn",
                {"improved, drawn/ahead": 0.5, "improved, greedy/ahead": -1},
            ),
        ),
        draw=partial(draw_leads, number="ahead", label="lead over the start"),
        seeds=10,
        small={"games": 20},
        small_seeds=3,
        claim_ja="方策から手をサンプリングする対局で 5 局に 4 局勝つ方策が、より強いとは限らない。元の方策も、"
        "同じ手の確率を高めてエントロピーを下げれば、同じだけ勝つ。最有力の手どうしの対局では、"
        "差がほとんど残らない。",
    )
)
