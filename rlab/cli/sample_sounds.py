"""What ``rlab sample RUN`` does with a run that makes sounds: WAV files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlab.cli.common import output_file
from rlab.errors import RlabError
from rlab.run.contract import Sounds
from rlab.run.files import replace_durably

if TYPE_CHECKING:
    from rlab.api import Player, Predictor

MOST = 1_000
"""Sounds at a time."""


def main_sounds(
    loaded: Predictor | Player,
    n: int,
    seed: int,
    file: Path | None,
    put: Callable[[str, Any], None],
    *,
    label: str,
    speaker: str,
    seconds: float,
    temperature: float,
) -> None:
    """Write n new sounds as WAV files: FILE.wav, or FILE-1.wav and so on.

    Args:
        loaded: what was learned.
        n: how many.
        seed: of the draws; the same seed makes the same files.
        file: where the sound is written; of several, their number is added to its name. None: RUN.wav.
        put: prints the result, given text and JSON.
        label, speaker, seconds, temperature: see `rlab.run.contract.Sounds`.

    Raises:
        RlabError: there is no such class or speaker, or a file cannot be written.
    """
    from rlab.data.sound import wav_bytes

    file = output_file("--play-to", file or Path(f"{loaded.folder.name}.wav"), ".wav")
    if n > MOST:
        raise RlabError(f"-n is {n}; it must be 1 to {MOST:,} sounds")
    maker = loaded.ability(Sounds)
    made = maker.sounds(n, seed, label=label, speaker=speaker, seconds=seconds, temperature=temperature)
    files = [file] if n == 1 else [file.with_stem(f"{file.stem}-{number}") for number in range(1, n + 1)]
    for path, sound in zip(files, made, strict=True):
        replace_durably(path, wav_bytes(sound, maker.rate))
    lengths = [len(sound) / maker.rate for sound in made]
    lines = "\n".join(f"wrote   {path}   {length:.2f} s" for path, length in zip(files, lengths, strict=True))
    put(lines, {"run": loaded.folder.name, "seed": seed, "files": [str(path) for path in files], "seconds": lengths})
