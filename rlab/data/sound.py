"""Recordings as data sets have them: mu-law codes, spoken digits, tones by rule, and a user's WAV files. No torch."""

from __future__ import annotations

import io
import math
import wave
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlab.data.media import read_sound
from rlab.data.readers import Read, recordings
from rlab.errors import RlabError

RATE = 8_000
"""Samples a second of all recordings; those of another rate are resampled."""

CODES = 256
"""Of mu-law; the scale is mu = 255."""

LONGEST = 2**31 - 1
"""Samples of a file that are read at the most."""


@dataclass(frozen=True)
class Recordings:
    """Recordings of several classes and speakers.

    Attributes:
        sounds: float32[T] each, in -1..1, `RATE` samples a second.
        labels: the class of each, int64[N].
        classes: their names.
        by: the speaker of each, int64[N].
        speakers: their names; one where nobody knows.
        test: items of the published test split; None: it is drawn.
    """

    sounds: Sequence[np.ndarray]
    labels: np.ndarray
    classes: tuple[str, ...]
    by: np.ndarray
    speakers: tuple[str, ...]
    test: np.ndarray | None = None


def mu_law(sound: np.ndarray) -> np.ndarray:
    """Compress samples to 256 codes by mu-law (ITU-T G.711's curve): -1, 0 and 1 become 0, 128 and 255.

    Args:
        sound: float[...]; what lies outside -1..1 is cut off.

    Returns:
        uint8[...].
    """
    x = np.clip(sound, -1, 1).astype(np.float64)
    curve = np.sign(x) * np.log1p((CODES - 1) * np.abs(x)) / np.log(CODES)
    return np.floor((curve + 1) / 2 * (CODES - 1) + 0.5).astype(np.uint8)


def from_mu_law(codes: np.ndarray) -> np.ndarray:
    """Expand codes to samples in -1..1, float32[...]; `mu_law` of them gives the codes again."""
    curve = 2 * np.asarray(codes, np.float64) / (CODES - 1) - 1
    sound = np.sign(curve) * (float(CODES) ** np.abs(curve) - 1) / (CODES - 1)
    return sound.astype(np.float32)


def read_mono(data: bytes, name: str) -> np.ndarray:
    """Decode a WAV file, mix its channels and resample it: float32[T] in -1..1, `RATE` samples a second.

    Raises:
        RlabError: it is no WAV file of whole numbers, empty, cut off, or of an impossible rate.
    """
    sound = read_sound(data, name, LONGEST).mean(1)
    with wave.open(io.BytesIO(data)) as file:
        rate = file.getframerate()
    if not 100 <= rate <= 1_000_000:
        raise RlabError(f"{name} has {rate:,} samples a second; it must be 100 to 1,000,000")
    if rate != RATE:
        from scipy.signal import resample_poly

        common = math.gcd(rate, RATE)
        sound = resample_poly(sound, RATE // common, rate // common).clip(-1, 1)
    return sound.astype(np.float32)


def wav_bytes(sound: np.ndarray, rate: int = RATE) -> bytes:
    """Make a WAV file of 16 bits and one channel of samples float[T] in -1..1; what lies outside is cut off."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(sound, -1, 1) * 32_767).round().astype("<i2").tobytes())
    return out.getvalue()


def spoken_digits(read: Read) -> Recordings:
    """Read the Free Spoken Digit Dataset; takes 0 to 4 are the test split."""
    found = recordings(read, "fsdd.tar.xz", LONGEST)
    speakers = tuple(sorted({one.speaker for one in found}))
    return Recordings(
        [one.sound for one in found],
        np.array([one.digit for one in found]),
        tuple("0123456789"),
        np.array([speakers.index(one.speaker) for one in found]),
        speakers,
        np.flatnonzero([one.take < 5 for one in found]),
    )


TONES = ("tone", "rise", "fall", "beat")
"""Classes of `tones`: a pitch that stays, rises or falls by a half, and one whose loudness goes up and down."""

PITCHES = {"low": (200.0, 320.0), "high": (640.0, 1_000.0)}
"""Speakers of `tones`, and between which frequencies in Hz their pitches lie."""

TONES_EACH, SHORTEST_TONE, LONGEST_TONE = 30, 320, 640
"""Tones of each class and speaker, and their lengths in samples."""


def tones(read: Read) -> Recordings:
    """Make 240 short tones by rule, the same ones every time; no file is read."""
    rng = np.random.default_rng(0)
    sounds, labels, by = [], [], []
    for speaker, (low, high) in enumerate(PITCHES.values()):
        for label, name in enumerate(TONES):
            for _ in range(TONES_EACH):
                n = int(rng.integers(SHORTEST_TONE, LONGEST_TONE + 1))
                place = np.linspace(0, 1, n)
                bend = {"rise": 1.5, "fall": 1 / 1.5}.get(name, 1.0)
                phase = 2 * np.pi * (rng.random() + np.cumsum(rng.uniform(low, high) * bend**place) / RATE)
                loud = 0.5 * np.sin(np.pi * place) ** 0.5
                if name == "beat":
                    loud = loud * (0.55 + 0.45 * np.cos(2 * np.pi * 40 * np.arange(n) / RATE))
                sound = loud * (np.sin(phase) + 0.3 * np.sin(2 * phase)) + 0.003 * rng.standard_normal(n)
                sounds.append(sound.astype(np.float32))
                labels.append(label)
                by.append(speaker)
    return Recordings(sounds, np.array(labels), TONES, np.array(by), tuple(PITCHES))
