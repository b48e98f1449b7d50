"""``rlab neighbours RUN WORD ...``: words near a word by the vectors of a run, and analogies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rlab.cli.common import JsonFlag, RunName, TrustFlag, parse, refuse_below, results
from rlab.cli.flags import Arg
from rlab.errors import Misspelt


@dataclass(frozen=True)
class Flags:
    """Print the words whose vectors are nearest to that of a word, by the cosine of the angle between them."""

    run: RunName
    """A run's name, a path, or `latest`."""
    words: Annotated[tuple[str, ...], Arg("WORD ...", positional=True)] = ()
    """One or more words."""
    analogy: bool = False
    """Take three words A B C, and print what is to C as B is to A."""
    number: int = 10
    """How many words are printed."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    flags = parse(Flags, "neighbours", argv)
    refuse_below(flags, number=1)
    if flags.analogy and len(flags.words) != 3:
        raise Misspelt(f"--analogy takes three words, and there are {len(flags.words)}: rlab neighbours RUN "
                       "--analogy man king woman")  # fmt: skip
    if not flags.words:
        raise Misspelt("name a word: rlab neighbours RUN WORD")
    with results(flags.json) as put:
        from rlab.api import load
        from rlab.run.contract import Embeds
        from rlab.tasks.sequence.word_vectors import neighbours

        with load(flags.run, "cpu") as loaded:
            words, vectors = loaded.ability(Embeds).embeddings()
        if flags.analogy:
            a, b, c = flags.words
            found = {f"{a} : {b} = {c} : ?": neighbours(words, vectors, (b, c), (a,), flags.number)}
        else:
            found = {word: neighbours(words, vectors, (word,), (), flags.number) for word in flags.words}
        lines = []
        for query, rows in found.items():
            lines.append(query)
            lines += [f"  {cosine:5.2f}  {word}" for word, cosine in rows]
        value = {query: [{"word": word, "cosine": cosine} for word, cosine in rows] for query, rows in found.items()}
        put("\n".join(lines), {"run": loaded.folder.name, "vocabulary": len(words), "neighbours": value})
        return 0
