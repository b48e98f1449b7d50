"""Settings of flow matching and diffusion. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from rlab.errors import RlabError
from rlab.run.config import RunConfig, at_least
from rlab.tasks.config import ExamplesConfig, FitConfig


@dataclass(frozen=True)
class DiffusionConfig:
    """Settings of the network, of what it learns about noise, and of how it samples."""

    sampler: Literal["euler", "heun", "ddim", "ddpm"] = "euler"
    """flow: euler, or heun (two evaluations a step). ddpm: ddim, which draws only at the start (Song et al. 2021), or
    ddpm, which draws at every step."""
    steps: int = 30
    """Evaluations of the network for a sample, of each of which heun's steps take two."""
    width: int = 32
    """Channels of the U-Net's largest maps, a multiple of 8; of tables a quarter of a hidden layer's units."""
    patch: int = 1
    """Of images: so many pixels across and down are one place of the U-Net's largest maps."""
    conditional: bool = False
    """Give the network the class, so that samples of a class can be drawn."""
    guidance: float = 1.0
    """Of classes: how far samples go in the direction in which the class moves them (Ho & Salimans 2021); 1: as
    learned. More takes two evaluations a step."""
    dropped: float = 0.1
    """Of classes: share of the training examples whose class is hidden, which guidance needs."""
    timesteps: int = 1_000
    """ddpm: steps from data to noise."""
    ema: float = 0.999
    """Rate of the moving average of the network, which samples are drawn by; 0: the network itself."""
    ema_part: float = 0.1
    """Share of the updates so far that the moving average is over at the most: early weights leave no trace in it."""
    samples: int = 500
    """How many an evaluation draws."""

    @staticmethod
    def migrate(plain: dict[str, Any]) -> dict[str, Any]:
        """Runs of 0.2 have no `ema_part`: their average was over all updates."""
        return {"ema_part": 1.0} | plain

    def __post_init__(self) -> None:
        at_least(self, steps=1, width=8, patch=1, guidance=0, dropped=0, timesteps=2, samples=2)
        if self.width % 8:
            raise RlabError(f"--width is {self.width}; it must be a multiple of 8: {max(8, 8 * round(self.width / 8))}")
        for name in ("ema", "dropped"):
            if not 0 <= getattr(self, name) < 1:
                raise RlabError(f"--{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if not 0 < self.ema_part <= 1:
            raise RlabError(f"--ema-part is {self.ema_part}; it must be above 0 and at most 1")
        if self.guidance != 1 and not (self.conditional and self.dropped):
            raise RlabError(
                f"--guidance {self.guidance:g} goes by the class, and learns from examples whose class is hidden; "
                "nearest: --conditional --dropped 0.1"
            )
        if self.sampler == "heun" and self.steps % 2:
            raise RlabError(
                f"--steps is {self.steps}, and heun takes two evaluations a step; nearest: {self.steps + 1}"
            )
        if self.sampler in ("ddim", "ddpm") and self.steps > self.timesteps:
            raise RlabError(
                f"--steps is {self.steps}; there are {self.timesteps} --timesteps, so nearest: {self.timesteps}"
            )


@dataclass(frozen=True)
class DiffusionExperiment:
    """Settings of a run that learns to make data of noise."""

    run: RunConfig = field(default_factory=RunConfig)
    data: ExamplesConfig = field(default_factory=ExamplesConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        if self.fit.optimiser == "lbfgs":
            raise RlabError(
                "lbfgs computes a loss several times, which noise makes another one each time; nearest: adamw"
            )
        if self.fit.label_smoothing:
            raise RlabError(
                f"--label-smoothing is {self.fit.label_smoothing}, and what is learned here are no classes; nearest: 0"
            )
