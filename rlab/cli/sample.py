"""``rlab sample RUN --prompt TEXT``: let a model write."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
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
    parse,
    refuse_below,
    results,
)
from rlab.cli.flags import Arg
from rlab.cli.sample_images import main_images
from rlab.cli.sample_sounds import main_sounds
from rlab.errors import RlabError, printable_lines
from rlab.run.contract import Interpolates, Samples, Sounds, Writes, ability


@dataclass(frozen=True)
class Flags:
    """Let a language model write: what follows a prompt, shown as it is drawn. Without a prompt, every line of standard
    input is one; without any, the text begins anywhere."""

    run: RunName
    """A run's name, a path, or `latest`; RUN:best is its best checkpoint."""
    prompt: Annotated[str | None, Arg("TEXT")] = None
    """Where the text begins."""
    count: Annotated[int, Arg("N", short="n")] = 1
    """How many texts, for each prompt."""
    length: int = 300
    """Tokens of a text at the most, the prompt not counted."""
    temperature: float | None = None
    """Below 1 the probable tokens come more often, above 1 less; 0 takes the most probable one each time. By default
    0.8 for text and 1 for sound."""
    top_k: int = 0
    """Draw among so many tokens, the most probable ones; 0: among all."""
    top_p: float = 1.0
    """Draw among the most probable tokens that have this share of the probability together (Holtzman et al. 2020)."""
    seed: int = 0
    """Of the draws; the same seed writes the same text."""
    out: Annotated[Path | None, Arg("FILE")] = None
    """Of a run that makes images: the PNG with a grid of them, `-n` in all; else in the folder of its pictures."""
    interpolate: Annotated[Path | None, Arg("FILE")] = None
    """Of a run that makes images or learned codes of them: a GIF that goes from some images to others."""
    play_to: Annotated[Path | None, Arg("FILE")] = None
    """Of a run that makes sounds: the WAV file that one is written to, by default RUN.wav; with `-n 4` FILE-1.wav to
    FILE-4.wav."""
    digit: Annotated[str, Arg("CLASS")] = ""
    """Of a run that makes sounds: their class, such as the digit that is spoken; without it all in turn."""
    speaker: Annotated[str, Arg("NAME")] = ""
    """Of a run that makes sounds: who speaks; without it all in turn."""
    seconds: float = 0.0
    """Of a run that makes sounds: how long they are; 0: what is usual for the class and the speaker."""
    device: DeviceName = None
    """Where the network runs; by default a GPU where there is one."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    flags = parse(Flags, "sample", argv)
    refuse_below(flags, count=1, length=1, top_k=0, seed=0)
    if flags.temperature is not None and not 0 <= flags.temperature < math.inf:
        raise RlabError(f"--temperature is {flags.temperature}; it must be a number of at least 0")
    if not 0 < flags.top_p <= 1:
        raise RlabError(f"--top-p is {flags.top_p}; it must lie above 0, and be 1 at the most")
    with results(flags.json) as put:
        from rlab.api import load

        with load(flags.run, flags.device or "auto") as loaded:
            _refuse_others(flags, loaded.learner, loaded.folder.name)
            if ability(loaded.learner, Sounds) is not None:
                main_sounds(
                    loaded, flags.count, flags.seed, flags.play_to, put, label=flags.digit, speaker=flags.speaker,
                    seconds=flags.seconds, temperature=1.0 if flags.temperature is None else flags.temperature,
                )  # fmt: skip
                return 0
            if ability(loaded.learner, Writes) is None and _makes_images(loaded.learner):
                main_images(loaded, flags.count, flags.seed, flags.out, flags.interpolate, put)
            else:
                _text(flags, loaded.ability(Writes), loaded.folder.name, put)
    return 0


FLAGS_OF = {
    "write text": ("prompt", "length", "top_k", "top_p"),
    "make images": ("out", "interpolate"),
    "make sounds": ("play_to", "digit", "speaker", "seconds"),
}
"""What a run can do -> the flags that only such a run takes."""


def _refuse_others(flags: Flags, learner: Any, run: str) -> None:
    """Refuse what only another kind of run takes.

    Raises:
        RlabError: something of it is given.
    """
    does = "write text"
    if ability(learner, Sounds) is not None:
        does = "make sounds"
    elif ability(learner, Writes) is None:
        if not _makes_images(learner):
            return  # it can do nothing of all this, which is told by who asks for it
        does = "make images"
    for kind, names in FLAGS_OF.items():
        for name in names if kind != does else ():
            if getattr(flags, name) != getattr(Flags, name):
                flag, verb = name.replace("_", "-"), does.replace(" ", "s ", 1)
                raise RlabError(f"--{flag} is of runs that {kind}, and '{run}' {verb}")


def _makes_images(learner: Any) -> bool:
    """Whether a run makes new data, or goes from one item to another."""
    return any(ability(learner, kind) is not None for kind in (Samples, Interpolates))


def _text(flags: Flags, writer: Writes, run: str, put: Callable[[str, Any], None]) -> None:
    """Write texts as they are drawn, or all in one JSON object."""
    samples = []
    for number, prompt in enumerate(_prompts(flags)):
        note_unknown(writer.unknown(prompt))
        for i in range(flags.count):
            pieces = writer.write(
                prompt,
                flags.seed + i,
                length=flags.length,
                temperature=0.8 if flags.temperature is None else flags.temperature,
                top_k=flags.top_k,
                top_p=flags.top_p,
            )
            if flags.json:
                samples.append({"prompt": prompt, "text": "".join(pieces)})
                continue
            if number or i:
                print(SEPARATOR)
            for piece in itertools.chain([prompt], pieces):
                print(printable_lines(piece), end="", flush=True)
            print(flush=True)
    if flags.json:
        put("", {"run": run, "samples": samples})


SEPARATOR = "---"
"""A line between two texts."""


def _prompts(flags: Flags) -> Iterator[str]:
    """The prompt, or every line of standard input, or an empty one."""
    if flags.prompt is not None:
        yield flags.prompt
        return
    none = True
    for line in input_lines() if sys.stdin and not sys.stdin.isatty() else ():
        none = False
        yield line
    if none:
        yield ""
