"""Settings of runs that learn to answer in dialogues. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rlab.errors import RlabError
from rlab.run.config import RunConfig, at_least, within
from rlab.tasks.config import FitConfig


@dataclass(frozen=True)
class DialogueDataConfig:
    """Settings of the dialogues that are learned from."""

    data: str = "rule-dialogues"
    """A data set of dialogues (`rlab data list`)."""
    validation: float = 0.1
    """Share of the training dialogues that is held out: it decides which parameters are the best. 0: nothing is held
    out, no evaluation is made before the final one, and the last parameters are taken."""
    vocabulary: int = 4_000
    """Different words at the most, the most frequent ones; the others are one unknown word."""
    longest: int = 40
    """Words of a turn at the most; what is longer is cut."""

    def __post_init__(self) -> None:
        at_least(self, validation=0, vocabulary=8, longest=1)
        if self.validation >= 1:
            raise RlabError(f"--validation is {self.validation}; it must be a share below 1")


@dataclass(frozen=True)
class DialogueModelConfig:
    """Settings of the hierarchical encoder-decoder (HRED, Serban et al. 2016; VHRED, Serban et al. 2017)."""

    context: Literal["all", "last", "none"] = "all"
    """What an answer is predicted from: all turns before it, the last one, or nothing."""
    width: int = 256
    """Units of each of the three GRUs, and numbers of a word."""
    latent: int = 0
    """Numbers of the random variable of a turn (VHRED); 0: there is none (HRED)."""
    dropout: float = 0.2
    """Share of the numbers of words and of the decoder's outputs that are dropped in training."""
    answers: int = 200
    """Turns that are answered, always with the most probable word, to count different words in a test; a tenth of them
    in validations."""

    def __post_init__(self) -> None:
        at_least(self, width=2, latent=0, answers=1)
        if self.width % 2:
            raise RlabError(f"--width is {self.width}; it must be even; nearest: {self.width + 1}")
        if not 0 <= self.dropout < 1:
            raise RlabError(f"--dropout is {self.dropout}; it must be a share below 1")


@dataclass(frozen=True)
class LatentConfig:
    """Settings against the collapse of a latent variable, with which a model begins to do without it."""

    anneal: float = 0.0
    """Share of the run over which the weight of its divergence grows from 0 to 1 (Bowman et al. 2016)."""
    free_bits: float = 0.0
    """Divergence of a turn, in nats, below which it costs nothing (Kingma et al. 2016)."""
    word_drop: float = 0.0
    """Share of the words before it that the decoder is not shown in training, so that it needs the variable."""

    def __post_init__(self) -> None:
        at_least(self, free_bits=0)
        within(self, 0, 1, "anneal", "word_drop")


@dataclass(frozen=True)
class DialogueExperiment:
    """Settings of a run that learns to answer."""

    run: RunConfig = field(default_factory=RunConfig)
    data: DialogueDataConfig = field(default_factory=DialogueDataConfig)
    model: DialogueModelConfig = field(default_factory=DialogueModelConfig)
    latent: LatentConfig = field(default_factory=LatentConfig)
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        used = self.latent != LatentConfig()
        if used and not self.model.latent:
            raise RlabError("--anneal, --free-bits and --word-drop are of a latent variable, and --latent is 0; "
                            "nearest: --latent 16, or rlab train vhred")  # fmt: skip
