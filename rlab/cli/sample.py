"""``rlab sample RUN``: let a model write text, or make images."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
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
from rlab.errors import RlabError, printable_lines
from rlab.run.contract import Interpolates, Samples, Sounds, Writes, ability


@dataclass(frozen=True)
class Flags:
    """Let a model make something new. A language model writes what follows a prompt, shown as it is drawn; without
    --prompt every line of standard input is one, and without any the text begins anywhere. A model of images draws them
    in one picture, a model of sound writes WAV files."""

    run: RunName
    """A run's name, a path, or `latest`; RUN:best is its best checkpoint."""
    prompt: Annotated[str | None, Arg("TEXT")] = None
    """Where the text begins."""
    count: Annotated[int | None, Arg("N", short="n", default="(default: 1, of images 64)")] = None
    """How many texts for each prompt, images or sounds."""
    length: int = 300
    """Tokens of a text at the most, the prompt not counted."""
    temperature: Annotated[float | None, Arg(default="(default: 0.8, of sounds 1)")] = None
    """Below 1 the probable tokens come more often, above 1 less; 0 takes the most probable one each time."""
    top_k: int = 0
    """Draw among so many tokens, the most probable ones; 0: among all."""
    top_p: float = 1.0
    """Draw among the most probable tokens that have this share of the probability together (Holtzman et al. 2020)."""
    out: Annotated[Path | None, Arg("FILE.png")] = None
    """Of images: the picture; by default pictures/samples.png in the run's folder."""
    interpolate: Annotated[Path | None, Arg("FILE.gif")] = None
    """Of images: an animation that goes from some to others, by way of their codes."""
    label: Annotated[str, Arg("CLASS")] = ""
    """Of images of a run with --conditional, and of sounds: their class; without it all in turn."""
    play_to: Annotated[Path | None, Arg("FILE.wav")] = None
    """Of sounds: the file, by default RUN.wav; several are FILE-1.wav and so on."""
    digit: Annotated[str, Arg("CLASS")] = ""
    """The same as --label, where classes are digits."""
    speaker: Annotated[str, Arg("NAME")] = ""
    """Of sounds: who speaks; without it all in turn."""
    seconds: float = 0.0
    """Of sounds: how long they are; 0: what is usual for the class and the speaker."""
    seed: int = 0
    """Of the draws; the same seed makes the same."""
    device: DeviceName = None
    """Where the network runs; by default a GPU where there is one."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    flags = parse(Flags, "sample", argv)
    refuse_below(flags, length=1, top_k=0, seed=0)
    if flags.count is not None and flags.count < 1:
        raise RlabError(f"-n is {flags.count}; it must be at least 1")
    if flags.temperature is not None and not 0 <= flags.temperature < math.inf:
        raise RlabError(f"--temperature is {flags.temperature}; it must be a number of at least 0")
    if not 0 < flags.top_p <= 1:
        raise RlabError(f"--top-p is {flags.top_p}; it must lie above 0, and be 1 at the most")
    if flags.label and flags.digit and flags.label != flags.digit:
        raise RlabError(f"--label is {flags.label} and --digit {flags.digit}, which are the same flag; nearest: one of "
                        "them")  # fmt: skip
    label = flags.label or flags.digit
    with results(flags.json) as put:
        from rlab.api import load

        with load(flags.run, flags.device or "auto") as loaded:
            name = loaded.folder.name
            if ability(loaded.learner, Sounds) is not None:
                from rlab.cli.sample_sounds import main_sounds

                _refuse(flags, f"run '{name}' makes sounds", *OF_TEXT, *OF_IMAGES)
                temperature = 1.0 if flags.temperature is None else flags.temperature
                main_sounds(
                    loaded, flags.count or 1, flags.seed, flags.play_to, put, label=label,
                    speaker=flags.speaker, seconds=flags.seconds, temperature=temperature,
                )  # fmt: skip
                return 0
            images = ability(loaded.learner, Samples) is not None or ability(loaded.learner, Interpolates) is not None
            if not images:
                writer = loaded.ability(Writes)
                _refuse(flags, f"run '{name}' writes text", *OF_IMAGES, *OF_SOUNDS, *OF_CLASSES)
                _text(flags, writer, name, put)
                return 0
            from rlab.cli.sample_images import main_images

            _refuse(flags, f"run '{name}' makes images", *OF_TEXT, "temperature", *OF_SOUNDS)
            main_images(loaded, flags.count or IMAGES, flags.seed, flags.out, flags.interpolate, put, label or None)
    return 0


OF_TEXT = ("prompt", "length", "top_k", "top_p")
OF_IMAGES = ("out", "interpolate")
OF_SOUNDS = ("play_to", "speaker", "seconds")
OF_CLASSES = ("label", "digit")
"""Flags that runs of one kind alone take."""

IMAGES = 64
"""In a picture, unless another number is asked for."""


def _refuse(flags: Flags, why: str, *names: str) -> None:
    """Refuse flags that would do nothing."""
    for f in fields(Flags):
        if f.name in names and getattr(flags, f.name) != f.default:
            raise RlabError(f"--{f.name.replace('_', '-')} is {getattr(flags, f.name)}, which does nothing: {why}")


def _text(flags: Flags, writer: Writes, run: str, put: Callable[[str, Any], None]) -> None:
    """Write texts as they are drawn, or all in one JSON object."""
    samples = []
    for number, prompt in enumerate(_prompts(flags)):
        note_unknown(writer.unknown(prompt))
        for i in range(flags.count or 1):
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
