"""Pictures of what models of sequences do: which words of the source a translator looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlab.data.picture import NAME
from rlab.errors import RlabError, printable, shortened
from rlab.run.contract import Translation
from rlab.tasks.pictures import fonts, png

MOST = 60
"""Tokens of a side that are named."""


def alignments(translations: Sequence[Translation]) -> bytes:
    """Draw, as PNG, which tokens of the source (columns) each written token (rows) looked at.

    Raises:
        RlabError: one of them has no attention.
    """
    if any(one.attention is None for one in translations):
        raise RlabError("a translation without attention has nothing to draw")
    sides = [(max(len(one.source), 3), max(len(one.target), 3)) for one in translations]
    width = sum(1.2 + 0.26 * min(s, MOST) for s, _ in sides)
    height = 1.4 + 0.26 * max(min(t, MOST) for _, t in sides)

    def draw(figure: Any) -> None:
        family = fonts()
        ratios = [1.2 + 0.26 * min(s, MOST) for s, _ in sides]
        row = figure.subplots(1, len(translations), squeeze=False, width_ratios=ratios)[0]
        for axes, one in zip(row, translations, strict=True):
            axes.imshow(one.attention, cmap="Greys", vmin=0, vmax=1, aspect="auto")
            for axis, tokens in ((axes.xaxis, one.source), (axes.yaxis, one.target)):
                if len(tokens) <= MOST:
                    names = [shortened(printable(token), NAME) for token in tokens]
                    axis.set_ticks(range(len(tokens)), names, fontsize=7, family=family)
            axes.tick_params(axis="x", rotation=90)
            axes.xaxis.tick_top()
            axes.set(xlabel="read", ylabel="written")

    return png(draw, (width, height))
