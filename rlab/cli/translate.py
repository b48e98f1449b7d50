"""``rlab translate RUN TEXT``: translate text with a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rlab.cli.common import (
    DeviceName,
    JsonFlag,
    RunName,
    TrustFlag,
    input_lines,
    note_unknown,
    output_file,
    parse,
    refuse_below,
    results,
    say,
)
from rlab.cli.flags import Arg
from rlab.errors import RlabError, printable
from rlab.run.contract import Translates, Translation
from rlab.run.files import disk_error, replace_durably
from rlab.tasks.sequence.config import WIDEST_BEAM


@dataclass(frozen=True)
class Flags:
    """Translate texts with a trained model, one line each; without a text, every line of standard input."""

    run: RunName
    """A run's name, a path, or `latest`; RUN:best is its best checkpoint."""
    texts: Annotated[tuple[str, ...], Arg("[TEXT ...]", positional=True)] = ()
    """What is translated."""
    beam: int = 0
    """Translations that are followed at a time; 1 takes the most probable token each time, 0 as many as the run's
    evaluations do."""
    show_attention: Annotated[Path | None, Arg("FILE.png")] = None
    """Draw what each written token looked at, of one text."""
    device: DeviceName = None
    """Where the network runs; by default a GPU where there is one."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    flags = parse(Flags, "translate", argv)
    refuse_below(flags, beam=0)
    if flags.beam > WIDEST_BEAM:
        raise RlabError(f"--beam is {flags.beam:,}; it may be {WIDEST_BEAM:,} at the most")
    picture = flags.show_attention and output_file("--show-attention", flags.show_attention, ".png")
    if picture is not None and len(flags.texts) != 1:
        raise RlabError(f"--show-attention draws one text, not {len(flags.texts)}; nearest: rlab translate RUN TEXT")
    if any(not text.strip() for text in flags.texts):
        raise RlabError("there is nothing to translate in an empty text")
    with results(flags.json) as put:
        from rlab.api import load

        done = []
        with load(flags.run, flags.device or "auto") as loaded:
            translator, name = loaded.ability(Translates), loaded.folder.name
            for text in flags.texts or input_lines():
                if not text.strip():  # an empty line stays one, so that lines go on standing beside each other
                    done.append((text, Translation("", [], [], None)))
                else:
                    note_unknown(translator.unknown(text))
                    done.append((text, translator.translate([text], flags.beam)[0]))
                if not flags.json:
                    print(printable(done[-1][1].text), flush=True)
        if picture is not None:
            _draw(done[0][1], picture, name)
        if flags.json:
            put("", {"run": name, "translations": [_plain(text, one) for text, one in done]})
    return 0


def _plain(text: str, done: Translation) -> dict[str, Any]:
    attention = None if done.attention is None else [[round(float(x), 4) for x in row] for row in done.attention]
    return {"source": text, "text": done.text, "read": done.source, "written": done.target, "attention": attention}


def _draw(done: Translation, file: Path, run: str) -> None:
    """Write the picture of one translation's attention."""
    if done.attention is None:
        raise RlabError(f"run '{run}' has no attention to draw: one vector holds the whole text; nearest: rlab train "
                        "attention")  # fmt: skip
    from rlab.tasks.sequence.pictures import alignments

    try:
        replace_durably(file, alignments([done]))
    except OSError as e:
        raise disk_error(e, file) from None
    say(f"wrote   {file}")
