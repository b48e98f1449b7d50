"""Recordings: mu-law, windows, spoken digits, and a user's WAV files."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from rlab.data.datasets import load
from rlab.data.sound import PITCHES, TONES, Recordings, from_mu_law, mu_law, read_mono, wav_bytes
from rlab.data.waves import WaveDataset, make
from rlab.errors import RlabError


def recorded(lengths: list[int]) -> WaveDataset:
    rng, n = np.random.default_rng(1), len(lengths)
    sounds = [rng.uniform(-1, 1, length).astype(np.float32) for length in lengths]
    return make("noise", Recordings(sounds, np.arange(n) % 2, ("a", "b"), np.arange(n) % 3, ("x", "y", "z")))


def wav(sound: np.ndarray, rate: int = 8_000, channels: int = 1) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((32_767 * sound).astype("<i2").tobytes())
    return out.getvalue()


def test_mu_law_by_hand() -> None:
    """Item 206: 256 codes; silence is the middle one, and neither sign is favoured."""
    assert mu_law(np.array([-1.0, 0.0, 1.0, -3.0, 3.0])).tolist() == [0, 128, 255, 0, 255]
    every = np.arange(256)
    assert mu_law(from_mu_law(every)).tolist() == every.tolist()
    x = np.random.default_rng(0).uniform(-1, 1, 1_000)
    assert (mu_law(x).astype(int) + mu_law(-x) == 255).all()
    assert (np.diff(from_mu_law(every)) > 0).all()
    assert np.abs(from_mu_law(mu_law(x)) - x).max() < 0.022  # half the widest step, 2 / 255 * ln 256 at the ends
    assert mu_law(np.array([1 / 255]))[0] == 143  # 127.5 (1 + log 2 / log 256) = 143.4, and to the nearest


def test_windows_hold_every_code_once() -> None:
    data = recorded([5, 12, 1, 20, 9, 3, 7, 16, 4, 8])
    cut = data.in_windows(6, 4)
    seen: dict[int, list[int]] = {}
    for item in torch.cat(list(cut.splits.values())).tolist():
        batch = cut.collate(torch.tensor([item]))
        owner, start = cut.windows[item].tolist()
        assert batch["codes"].shape[1] - int(batch["mask"].sum()) == min(start, 4)
        assert (batch["label"].item(), batch["speaker"].item()) == (owner % 2, owner % 3)
        places = (batch["position"][0] * len(data.recording(owner))).round().long()
        assert batch["codes"][0].tolist() == data.recording(owner)[places].tolist()
        seen.setdefault(owner, []).extend(batch["codes"][batch["mask"]].tolist())
    assert {owner: sorted(codes) for owner, codes in seen.items()} == {
        n: sorted(data.recording(n).tolist()) for n in range(10)
    }
    for split in data.splits:
        assert cut.part(split).tolist() == data.splits[split].tolist()
    both = cut.collate(torch.tensor([0, 1]))
    assert both["codes"].shape == both["mask"].shape == both["position"].shape == (2, 6)
    assert (both["codes"][0, 5].item(), both["mask"][0].tolist()) == (128, [True] * 5 + [False])


def test_tones_are_the_same_every_time() -> None:
    data, other = load("tones", seed=1), load("tones", seed=2)
    assert torch.equal(data.codes, other.codes)
    assert (data.classes, data.speakers) == (TONES, tuple(PITCHES))
    assert {split: len(items) for split, items in data.splits.items()} == {"train": 168, "validation": 36, "test": 36}
    assert not torch.equal(data.splits["test"], other.splits["test"])
    with pytest.raises(RlabError, match="of data set 'noise' is empty: there are 2 recordings in all"):
        recorded([4, 4])


@pytest.mark.data
def test_spoken_digits_are_split_by_take() -> None:
    data, series = load("fsdd_wave", seed=3), load("fsdd", seed=3)
    assert {split: items.tolist() for split, items in data.splits.items()} == {
        split: items.tolist() for split, items in series.splits.items()
    }
    assert data.labels.tolist() == series.y.tolist()
    assert len(data.speakers) == 6
    assert data.lengths.clamp(max=8_192).tolist() == series.lengths.tolist()


def test_own_recordings_are_mixed_and_resampled(tmp_path: Path) -> None:
    seconds, tone = np.arange(16_000) / 16_000, np.zeros((16_000, 2))
    tone[:, 0] = 0.8 * np.sin(2 * np.pi * 440 * seconds)
    mono = read_mono(wav(tone, 16_000, 2), "a.wav")
    assert len(mono) == 8_000
    np.testing.assert_allclose(mono[500:-500], 0.4 * np.sin(2 * np.pi * 440 * np.arange(500, 7_500) / 8_000), atol=3e-3)
    np.testing.assert_allclose(read_mono(wav_bytes(mono), "b.wav"), mono, atol=1e-4)
    for number in range(12):
        (tmp_path / "up").mkdir(exist_ok=True)
        (tmp_path / "down").mkdir(exist_ok=True)
        (tmp_path / ("up", "down")[number % 2] / f"{number}.wav").write_bytes(
            wav(tone[:400], (8_000, 44_100)[number % 2], 2)
        )
    data = load(f"wav:{tmp_path}", 0)
    assert (data.kind, data.classes, data.speakers, len(data)) == ("waves", ("down", "up"), ("unknown",), 12)
    assert data.lengths.tolist() == [73] * 6 + [400] * 6  # 400 * 80 / 441 samples, rounded up
    flat = load(f"wav:{tmp_path / 'up'}", 0)
    assert (flat.classes, len(flat)) == (("up",), 6)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "holds no WAV files"),
        ({"a.wav": b"RIFF1234"}, r"a\.wav is no WAV file of whole numbers"),
        ({"a.wav": wav(np.zeros(9))[:-5]}, r"a\.wav is empty or cut off"),
        ({"a.wav": wav(np.zeros(0))}, r"a\.wav is empty or cut off"),
        ({"a.wav": wav(np.zeros(9), 20)}, r"a\.wav has 20 samples a second; it must be 100 to 1,000,000"),
        ({"a.mp3": b"", "b.wav": b""}, r"a\.mp3 is no WAV file"),
        ({"c/a.wav": wav(np.zeros(9)), "b.wav": b""}, r"b\.wav lies in no class's folder"),
        ({"c/a.wav": wav(np.zeros(9)), "d/.x": b""}, r"d holds no WAV files; fill or remove it"),
        ({"a.wav": wav(np.zeros(9))}, "the split 'validation' .* is empty: there are 1 recordings"),
    ],
)  # fmt: skip
def test_wrong_recordings_are_refused(files: dict[str, bytes], said: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RlabError, match=said):
        load(f"wav:{tmp_path}")
