"""Readers that turn the checked files of data sets into arrays."""

from __future__ import annotations

import functools
import io
import lzma
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rlab.data.media import open_mask, open_picture, read_sound
from rlab.errors import RlabError
from rlab.registry import Registry

if TYPE_CHECKING:
    from rlab.data.annotations import AnnotatedImages

Read = Callable[[str], bytes]
"""A file's name -> its checked content, unpacked if it is a gzip file."""


@dataclass(frozen=True)
class Arrays:
    """A data set as arrays, as a reader returns it.

    Attributes:
        x: images uint8[N, C, H, W] (or float in 0..1), tables float[N, D], series float[N, T, C]; in any byte order.
        y: classes int64[N], numbers float[N] or [N, K], or masks of classes uint8[N, H, W].
        classes: their names; None for regression.
        test: items of the published test split int64[n]; None if there is none.
        lengths: of series, int64[N]; what follows in x is zero.
        strata: groups int64[N] that every split has its share of; None takes the classes.
        columns: names of the D columns of a table, if they have any.
        missing: whether NaN in a table stands for a missing number, which becomes the mean of the training examples.
    """

    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...] | None
    test: np.ndarray | None = None
    lengths: np.ndarray | None = None
    strata: np.ndarray | None = None
    columns: tuple[str, ...] | None = None
    missing: bool = False


def idx(read: Read, names: tuple[tuple[str, str], tuple[str, str]], classes: tuple[str, ...]) -> Arrays:
    """Read images and labels of training and test in the IDX format of MNIST.

    Args:
        read: reader of files.
        names: (images, labels) of training and of test.
        classes: names of the labels.

    Raises:
        RlabError: a file is of another form, or there are not as many labels as images.
    """
    images = [parse_idx(read(images), 3, images) for images, _ in names]
    labels = [parse_idx(read(labels), 1, labels) for _, labels in names]
    n = [len(part) for part in images]
    for pair, some, of_them in zip(names, images, labels, strict=True):
        if len(some) != len(of_them):
            raise RlabError(f"{pair[0]} holds {len(some):,} images, but {pair[1]} {len(of_them):,} labels")
    if len({part.shape[1:] for part in images}) > 1:
        raise RlabError(f"{names[0][0]} and {names[1][0]} hold images of different sizes")
    return Arrays(
        x=np.concatenate(images)[:, None],
        y=np.concatenate(labels).astype(np.int64),
        classes=classes,
        test=np.arange(n[0], n[0] + n[1]),
    )


READERS: Registry[Callable[[Read], Arrays | AnnotatedImages]] = Registry("reader")
"""Readers that packages above this one bring, by name."""

_MODULES = {
    "go-next-moves": "rlab.agents.go.alphago.supervised_policy",
    "breakout-objects": "rlab.tasks.detection.breakout",
}
"""Reader -> what registers it, which is known by name only."""


def registered(read: Read, name: str) -> Arrays | AnnotatedImages:
    """Read a data set by a registered reader.

    Args:
        read: reader of files.
        name: of the reader in `READERS`.
    """
    if name not in READERS and name in _MODULES:
        import_module(_MODULES[name])
    return READERS.get(name)(read)


def parse_idx(data: bytes, dims: int, name: str) -> np.ndarray:
    """Parse an IDX file of unsigned bytes: magic 0, 0, 8, dims; the sizes as big-endian int32; the bytes.

    Raises:
        RlabError: it is something else.
    """
    head = 4 + 4 * dims
    if len(data) < head or data[:4] != bytes((0, 0, 8, dims)):
        raise RlabError(f"{name} is no IDX file of bytes with {dims} dimensions")
    shape = tuple(int(n) for n in np.frombuffer(data, ">i4", dims, 4))
    if min(shape) < 0 or np.prod(shape, dtype=object) != len(data) - head:
        raise RlabError(f"{name} says that its shape is {shape}, but holds {len(data) - head:,} bytes")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


def from_sklearn(read: Read, name: str) -> Arrays:
    """Load one of the sets that scikit-learn brings; `read` is not used."""
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    x = np.asarray(bunch.data, np.float32)
    if name == "diabetes":
        return Arrays(x, np.asarray(bunch.target, np.float32), None)
    if name == "digits":
        x = x.reshape(-1, 1, 8, 8) / np.float32(16)
    return Arrays(x, np.asarray(bunch.target, np.int64), tuple(str(c) for c in bunch.target_names))


def ts_series(read: Read, names: tuple[str, str]) -> Arrays:
    """Read classified series of unequal length from training and test files in the .ts format.

    A line is one series: its channels divided by ``:``, the steps of each by ``,``, and the class last.

    Raises:
        RlabError: a line does not have that form.
    """
    series: list[np.ndarray] = []
    labels: list[str] = []
    counts = []
    for name in names:
        body = read(name).decode().partition("@data")[2]
        for number, line in enumerate(body.strip().splitlines(), 1):
            *channels, label = line.strip().split(":")
            try:
                series.append(np.array([c.split(",") for c in channels], np.float32).T)
            except ValueError:
                raise RlabError(f"{name}: series {number} is no table of numbers") from None
            labels.append(label)
        counts.append(len(series))
    if len({s.shape[-1] for s in series}) != 1:
        raise RlabError(f"{names[0]}: the series differ in their number of channels")
    classes = tuple(sorted(set(labels)))
    lengths = np.array([len(s) for s in series], np.int64)
    x = np.zeros((len(series), int(lengths.max()), series[0].shape[1]), np.float32)
    for row, one in zip(x, series, strict=True):
        row[: len(one)] = one
    y = np.array([classes.index(label) for label in labels], np.int64)
    return Arrays(x, y, classes, np.arange(counts[0], counts[1]), lengths)


def spoken_digits(read: Read, archive: str, samples: int) -> Arrays:
    """Read recordings ``DIGIT_SPEAKER_TAKE.wav`` as series of one channel in -1..1; takes 0 to 4 are the test split.

    Args:
        read: reader of files.
        archive: the file that holds the recordings.
        samples: T; what is longer (17 of 3,000 recordings, at 8,192 samples or 1.02 s) is cut off.
    """
    found = recordings(read, archive, samples)
    return _digits(found, [one.sound[:, None] for one in found], [one.take < 5 for one in found], samples)


def spoken_digits_mel(read: Read, archive: str, samples: int, speaker: str = "") -> Arrays:
    """Read recordings as `spoken_digits` does, as series of log-mel spectra: 40 bands every 10 ms.

    Args:
        read: reader of files.
        archive: the file that holds the recordings.
        samples: what is longer is cut off.
        speaker: whose recordings are the test split; empty: takes 0 to 4 of all are.
    """
    found = recordings(read, archive, samples)
    test = [one.speaker == speaker if speaker else one.take < 5 for one in found]
    series = [log_mel(one.sound) for one in found]
    return _digits(found, series, test, max(map(len, series)))


def log_mel(sound: np.ndarray, rate: int = 8_000, bands: int = 40) -> np.ndarray:
    """Log-mel spectrum of a sound: the energy of each band in decibels, less that of the loudest one, over 80.

    Args:
        sound: float32[n], in -1..1.
        rate: samples a second.
        bands: M, triangles of equal width on the mel scale between 0 and half the rate (O'Shaughnessy's formula).

    Returns:
        float32[T, M] in -1..0: a Hann window of 32 ms every 10 ms.
    """
    from scipy.fft import rfft

    window, triangles = _mel_bands(rate, bands)
    around = np.pad(sound, len(window) // 2)
    frames = np.lib.stride_tricks.sliding_window_view(around, len(window))[:: rate // 100]
    power = np.abs(rfft(frames * window)) ** 2
    decibels = 10 * np.log10(np.maximum(power @ triangles, 1e-10))
    return (np.maximum(decibels - decibels.max(), -80) / 80).astype(np.float32)


@functools.cache
def _mel_bands(rate: int, bands: int) -> tuple[np.ndarray, np.ndarray]:
    """A Hann window of 32 ms, and the weight of each of its F frequencies in each of M bands, float32[F, M]."""
    from scipy.fft import rfftfreq
    from scipy.signal.windows import hann

    width = rate * 32 // 1000
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 1400), bands + 2) / 2595) - 1)
    low, centre, high, f = edges[:-2], edges[1:-1], edges[2:], rfftfreq(width, 1 / rate)[:, None]
    triangles = np.minimum((f - low) / (centre - low), (high - f) / (high - centre)).clip(0)
    return hann(width, sym=False).astype(np.float32), triangles.astype(np.float32)


class Recording(NamedTuple):
    """One spoken digit: by whom, which take, and the sound, float32[T] in -1..1."""

    digit: int
    speaker: str
    take: int
    sound: np.ndarray


def recordings(read: Read, archive: str, samples: int) -> list[Recording]:
    """The recordings of an archive, of several channels their mean.

    Raises:
        RlabError: there is none.
    """
    found = []
    for name, data in members(read(archive), archive):
        if match := re.search(r"(\d)_(\w+?)_(\d+)\.wav$", name):
            sound = read_sound(data, f"{archive}: {name}", samples).mean(1)
            found.append(Recording(int(match[1]), match[2], int(match[3]), sound))
    if not found:
        raise RlabError(f"{archive} holds no recordings DIGIT_SPEAKER_TAKE.wav")
    return found


def _digits(found: list[Recording], series: list[np.ndarray], test: list[bool], longest: int) -> Arrays:
    """Series [t, C] of recordings, padded to `longest` steps with zeros."""
    x = np.zeros((len(series), longest, series[0].shape[1]), np.float32)
    for row, one in zip(x, series, strict=True):
        row[: len(one)] = one
    return Arrays(
        x,
        np.array([one.digit for one in found], np.int64),
        tuple("0123456789"),
        np.flatnonzero(test),
        np.array([len(one) for one in series], np.int64),
    )


def nuclei(read: Read, archive: str, side: int) -> Arrays:
    """Read images ``image/ID.png`` and instance masks ``label/ID.png``, resized to a square: nucleus or background.

    The aspect is not kept (images are 256x256 to 360x360). Splits have their share of grey and of coloured images.

    Args:
        read: reader of files.
        archive: the file that holds the pictures.
        side: H and W after resizing: pixels are averaged, masks take the nearest.
    """
    from PIL import Image

    x, y, coloured = [], [], []
    parts = dict(members(read(archive), archive))
    for name in sorted(n for n in parts if n.startswith("image/")):
        label = name.replace("image/", "label/", 1)
        if label not in parts:
            raise RlabError(f"{archive} has {name} but not {label}")
        image = open_picture(parts[name], f"{archive}: {name}")
        mask = open_mask(parts[label], f"{archive}: {label}")
        if image.size != mask.size:
            raise RlabError(f"{archive}: {name} is of size {image.size}, its mask {label} of {mask.size}")
        coloured.append(image.mode != "L")
        small = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        x.append(np.asarray(small).transpose(2, 0, 1))
        y.append(np.asarray(mask.resize((side, side), Image.Resampling.NEAREST)) > 0)
    if not x:
        raise RlabError(f"{archive} holds no images image/ID.png")
    return Arrays(
        np.stack(x), np.stack(y).astype(np.uint8), ("background", "nucleus"), strata=np.array(coloured, np.int64)
    )


def members(data: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    """(path, content) of the files in a .tar or .tar.xz; nothing is written to disk."""
    if name.endswith(".xz"):
        data = lzma.decompress(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None:
                yield member.name.removeprefix("./"), file.read()
