"""Settings of runs that train a WaveNet. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlab.errors import RlabError
from rlab.run.config import RunConfig, at_least
from rlab.tasks.config import FitConfig
from rlab.tasks.sequence.config import SequenceDataConfig

LARGEST_FIELD = 2**20
"""Samples of a receptive field at the most."""


@dataclass(frozen=True)
class WaveDataConfig(SequenceDataConfig):
    """Settings of the recordings that a WaveNet is trained on."""

    data: str = "tones"
    """A data set of waves (`rlab data list`), or `wav:DIR`: WAV files, in a folder for each class or all in one."""
    window: int = 8_192
    """Samples of an example at the most; a longer recording is several, each with the receptive field before it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, window=1)


@dataclass(frozen=True)
class WaveNetConfig:
    """Settings of the network (van den Oord et al. 2016)."""

    width: int = 32
    """Channels of the layers; the gates have twice as many."""
    skip: int = 64
    """Channels of the sum of all layers, from which the next sample is predicted."""
    layers: int = 11
    """Layers of a stack. With a growth of 2 the receptive field of one stack is 2^layers samples."""
    stacks: int = 1
    """How often the dilations begin anew at 1."""
    growth: int = 2
    """Each layer's dilation is so many times that of the one below it; 1: no dilation."""
    condition: int = 32
    """Numbers by which all layers are told class, speaker and place in the recording."""
    places: int = 64
    """Parts of a recording that the network tells from each other; 1: none."""

    def __post_init__(self) -> None:
        at_least(self, width=1, skip=1, layers=1, stacks=1, growth=1, condition=1, places=1)
        if self.layers * self.stacks > 1_000 or self.field > LARGEST_FIELD:
            raise RlabError(
                f"--layers {self.layers} --growth {self.growth} --stacks {self.stacks} see more than {LARGEST_FIELD:,} "
                "samples; nearest: --layers 11"
            )

    @property
    def dilations(self) -> tuple[int, ...]:
        """Of all layers, in order."""
        return tuple(self.growth**layer for layer in range(self.layers)) * self.stacks

    @property
    def field(self) -> int:
        """The receptive field in samples."""
        return 1 + sum(self.dilations)


@dataclass(frozen=True)
class WaveNetExperiment:
    """Settings of a run that trains a WaveNet."""

    run: RunConfig = field(default_factory=RunConfig)
    data: WaveDataConfig = field(default_factory=WaveDataConfig)
    model: WaveNetConfig = field(default_factory=WaveNetConfig)
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        if self.fit.optimiser == "lbfgs":
            raise RlabError("lbfgs computes a batch several times in each step, which costs too much here; nearest: "
                            "--optimiser adamw")  # fmt: skip
