"""Format scores and numbers as text, for the live view, the verbs and the report alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlab.errors import printable as printable
from rlab.errors import printable_lines as printable_lines

SMALL = 0.1
"""Size below which a number is shown by its first three figures: errors are often as small."""


def number(value: Any, digits: int = 2) -> str:
    """Format a number, or a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.{digits + 1}g}" if 0 < abs(value) < SMALL else f"{value:,.{digits}f}"


def score_text(score: Mapping[str, Any]) -> str:
    """Format an evaluation as one line: of games played, or of examples of a data set."""
    interval = f"(95% interval {number(score.get('low'))} to {number(score.get('high'))})"
    if "measure" in score:
        others = {name: one for name, one in score.get("tasks", {}).items() if one != {k: score.get(k) for k in one}}
        rest = [f"; {name} {one['measure']} {number(one['mean'])}" for name, one in others.items()]
        return f"{score['measure']} {number(score.get('mean'))} {interval}, {over_text(score)}{''.join(rest)}"
    text = f"mean {number(score.get('mean'))} {interval}, median {number(score.get('median'))}, {over_text(score)}"
    if score.get("human_normalised") is not None:
        text += f", human-normalised {number(score['human_normalised'])}"
    return text


def over_text(score: Mapping[str, Any]) -> str:
    """Say what an evaluation is over: how many games, or examples of which split."""
    if "measure" in score:
        return f"{score['examples']:,} {score['split']} {score.get('items', 'examples')}"
    return f"{score.get('episodes')} episodes"


RULES = (
    "protocol",
    "sticky",
    "ramping",
    "max_frames",
    "max_steps",
    "env_args",
    "wrappers",
    "opponent",
    "colour",
    "komi",
)
"""Options of environments that an evaluation names."""


def how_text(score: Mapping[str, Any]) -> str:
    """Say how an evaluation was made, as far as its score says so."""
    names = (*RULES, "epsilon", "seed", "drawn", "mse_train", "mse_held", "sign")
    parts = [f"{name} {score[name]}" for name in names if score.get(name) is not None]
    if "effective_samples" in score:
        parts.append(f"{score['samples']:,} codes drawn, as good as {number(score['effective_samples'])} equal ones "
                     f"({number(score['effective_least'])} at the least)")  # fmt: skip
    if "nats_per_character" in score:
        parts.append(f"{number(score['nats_per_character'], 4)} nats per character")
    if "whole" in score:
        parts.append(f"of all {score['whole']['examples']:,} examples {number(score['whole']['exact'])} percent")
    if "unseen" in score:
        unseen = score["unseen"]
        parts.append(f"{number(unseen['mean'])} on {unseen['examples']:,} whose reference is not in training")
    if "signature" in score:
        parts.append(f"signature {score['signature']}, beam {score['beam']}")
    if "share" in score:
        other = "teacher" if "teacher" in score else "expert"
        parts.append(f"{number(100 * score['share'])} % of the {other}'s {number(score[other])}")
    if "parameters_share" in score:
        parts.append(
            f"{score['parameters']:,} parameters, {number(100 * score['parameters_share'])} % of the teacher's"
        )
    if score.get("cut"):
        parts.append(f"{score['cut']} episodes cut, for nothing ended them")
    if "validation" in score:
        parts.append(f"with the parameters of {score['best_at']:,} examples, the best in validation: "
                    f"{number(score['validation'])}")  # fmt: skip
    return ", ".join(parts)
