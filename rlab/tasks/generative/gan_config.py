"""Settings of generative adversarial networks. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from rlab.errors import RlabError
from rlab.run.config import RunConfig, at_least, within
from rlab.tasks.config import ExamplesConfig, FitConfig

Norm = Literal["none", "batch", "layer", "instance", "group", "spectral"]


@dataclass(frozen=True)
class GanConfig:
    """Settings of generator, discriminator and the game between them."""

    net: Literal["auto", "mlp", "dcgan"] = "auto"
    """mlp: fully connected layers, for tables and small images. dcgan: convolutions (Radford et al. 2016). auto: dcgan
    for images."""
    loss: Literal["non-saturating", "minimax", "hinge", "wgan-gp", "relativistic"] = "non-saturating"
    """minimax: the generator lowers log(1 - D(G(z))), whose gradient vanishes where D is sure; non-saturating: it
    raises log D(G(z)) (Goodfellow et al. 2014, section 3). hinge: Lim & Ye 2017. wgan-gp: Wasserstein distance
    (Gulrajani et al. 2017). relativistic: each sample is compared with an example of the data, which leaves no minimum
    where modes are missing (Jolicoeur-Martineau 2019; Sun et al. 2020)."""
    latent: int = 64
    """Dimensions of the latent code, a standard normal vector."""
    width: int = 64
    """mlp: units of a hidden layer. dcgan: channels of the largest maps."""
    depth: int = 3
    """mlp: hidden layers."""
    generator_norm: Norm = "batch"
    """Norm in the generator's hidden layers."""
    discriminator_norm: Norm = "batch"
    """Norm in the discriminator's; spectral: of its weights (Miyato et al. 2018)."""
    strided: bool = True
    """dcgan: strides change the size of maps; --no-strided: pooling and repeated pixels do."""
    leak: float = 0.2
    """Slope of the discriminator's leaky ReLU below 0; 0: ReLU."""
    conditional: bool = False
    """Give both networks the class, so that samples of a class can be drawn."""
    discriminator_steps: int = 1
    """Updates of the discriminator for each of the generator, every one on a batch of its own."""
    penalty: float = 0.0
    """Factor of the gradient penalty. wgan-gp: of (norm - 1)^2 between data and samples. The others: of the squared
    norm at data, halved (R1, Mescheder et al. 2018); relativistic: of that at samples, too (R2, Huang et al. 2024)."""
    penalty_end: float | None = None
    """What that factor falls to, geometrically, as the learning rate falls to 0: a large penalty keeps modes, a small
    one allows sharp ones. None: it stays."""
    noise: float = 0.0
    """Deviation of the noise that scaled data and samples get before they are judged (instance noise, Sonderby et al.
    2017): it falls with the square of the learning rate, so a schedule that ends at 0, such as cosine, ends without
    noise."""
    octaves: int = 0
    """mlp: give the discriminator sines and cosines of the data, too, of so many doubling frequencies."""
    beta1: float = 0.5
    """Adam's memory of gradients, of both networks."""
    beta2: float = 0.999
    """Adam's memory of squared gradients."""
    discriminator_rate: float = 1.0
    """Factor of the discriminator's learning rate (two time scales, Heusel et al. 2017)."""
    ema: float = 0.999
    """Rate of the moving average of the generator, from which samples are drawn; 0: the generator itself."""
    ema_part: float = 0.1
    """Share of the updates so far that the moving average is over at the most: early weights leave no trace in it."""
    samples: int = 2_000
    """How many an evaluation draws."""

    @staticmethod
    def migrate(plain: dict[str, Any]) -> dict[str, Any]:
        """Runs of 0.2 have no `ema_part`: their average was over all updates."""
        return {"ema_part": 1.0} | plain

    def __post_init__(self) -> None:
        at_least(
            self,
            latent=1,
            width=1,
            depth=1,
            discriminator_steps=1,
            penalty=0,
            noise=0,
            octaves=0,
            samples=2,
            discriminator_rate=0,
        )
        within(self, 0, 1, "leak")
        for name in ("beta1", "beta2", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise RlabError(f"--{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if not 0 < self.ema_part <= 1:
            raise RlabError(f"--ema-part is {self.ema_part}; it must be above 0 and at most 1")
        if self.penalty_end is not None and not self.penalty:
            raise RlabError(f"--penalty-end is {self.penalty_end}, and --penalty is 0; nearest: --penalty 0.1")
        if self.penalty_end is not None and not 0 < self.penalty_end <= self.penalty:
            raise RlabError(
                f"--penalty-end is {self.penalty_end}; it must be above 0 and at most --penalty, {self.penalty}"
            )
        if self.loss == "relativistic" and self.penalty and self.discriminator_norm == "batch":
            raise RlabError(
                "--discriminator-norm batch mixes the samples whose gradients --penalty bounds one by one, so it does "
                "not go with --loss relativistic; nearest: --discriminator-norm layer"
            )
        if self.loss == "wgan-gp" and self.discriminator_norm in ("batch", "spectral"):
            why = "mixes the samples whose gradients are penalised one by one" if (
                self.discriminator_norm == "batch"
            ) else "bounds the gradient already"  # fmt: skip
            raise RlabError(
                f"--discriminator-norm {self.discriminator_norm} {why}, so it does not go with --loss wgan-gp; "
                "nearest: --discriminator-norm layer"
            )


@dataclass(frozen=True)
class GanExperiment:
    """Settings of a run that trains a GAN."""

    run: RunConfig = field(default_factory=RunConfig)
    data: ExamplesConfig = field(default_factory=ExamplesConfig)
    gan: GanConfig = field(default_factory=GanConfig)
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        if self.fit.optimiser not in ADAMS:
            raise RlabError(
                f"--optimiser is {self.fit.optimiser}; both players of a GAN are trained by one of {', '.join(ADAMS)}"
            )
        if self.gan.penalty_end is not None and self.fit.schedule == "constant":
            raise RlabError(
                f"--penalty-end {self.gan.penalty_end} is reached as the learning rate falls, and --schedule constant "
                "keeps it; nearest: --schedule cosine"
            )
        if self.fit.label_smoothing and self.gan.loss in ("hinge", "wgan-gp"):
            raise RlabError(
                f"--label-smoothing {self.fit.label_smoothing} is of the discriminator's label for data, which --loss "
                f"{self.gan.loss} has not; nearest: --label-smoothing 0"
            )


ADAMS = ("adam", "adamw", "nadam", "radam", "adamax")
"""Optimisers that take both betas."""
