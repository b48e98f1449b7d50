"""Settings of autoencoders and VAEs as typed dataclasses. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rlab.errors import RlabError
from rlab.run.config import RunConfig, at_least, within
from rlab.tasks.config import ExamplesConfig, FitConfig, only_with

Noise = Literal["none", "gaussian", "masking", "salt-and-pepper"]


@dataclass(frozen=True)
class AutoencoderConfig:
    """Settings of an autoencoder: encoder, code, decoder, and what keeps it from copying."""

    encoder: str = "mlp"
    """A registered encoder (`mlp-500-250` has layers of these widths), or a run whose encoder this one starts from."""
    freeze: bool = False
    """Keep the encoder of the other run as it is; only code and decoder learn."""
    code: int = 32
    """Numbers of a code, made by a linear layer on the encoder's features. 0: the features themselves are the code."""
    decoder: str = ""
    """mlp, linear or upsampling; empty: the counterpart of the encoder."""
    tied: bool = False
    """Let each layer of the decoder use the weights of its counterpart, transposed; for dense layers."""
    loss: Literal["squared", "cross-entropy"] = "squared"
    """Of a reconstruction, summed over an example's numbers; cross-entropy is of pixels in 0..1."""
    noise: Noise = "none"
    """What is done to inputs in training, while the clean ones are to be given back (Vincent et al. 2010)."""
    noise_level: float = 0.3
    """Standard deviation of Gaussian noise; share of the numbers that become 0, or one of 0 and 1."""
    sparse: Literal["none", "l1", "kl", "largest"] = "none"
    """l1: a penalty on the size of the code's numbers. kl: their mean over a batch, as sigmoids, is to be
    --mean-activation (Ng 2011). largest: only the --active largest of an example stay (Makhzani & Frey 2014)."""
    sparse_weight: float = 0.1
    """Factor of the penalty l1 or kl."""
    mean_activation: float = 0.05
    """Of kl: what the mean is to be."""
    active: int = 25
    """Of largest: how many numbers of a code stay."""
    codebook: int = 0
    """Entries of a codebook by which codes are replaced (VQ-VAE, van den Oord et al. 2017); 0: codes are numbers."""
    slots: int = 8
    """Of a codebook: equal parts of a code, each replaced by an entry."""
    codebook_rate: float = 0.99
    """Of a codebook: rate of the moving average that it follows codes by; 0: it learns by gradients."""
    commitment: float = 0.25
    """Of a codebook: factor of the loss that keeps codes near their entries."""
    greedy: bool = False
    """Train layer by layer, each to give back the one below, and then all together; for dense layers."""
    greedy_epochs: int = 3
    """Of --greedy: epochs for each layer; those that are left of --epochs are for all together."""

    def __post_init__(self) -> None:
        at_least(self, code=0, noise_level=0, sparse_weight=0, active=1, codebook=0, slots=1, commitment=0,
                 greedy_epochs=1)  # fmt: skip
        within(self, 0, 1, "mean_activation")
        if self.noise == "none":
            only_with(self, "--noise KIND", "noise_level")
        elif self.noise != "gaussian":
            within(self, 0, 1, "noise_level")
        if self.sparse not in ("l1", "kl"):
            only_with(self, "--sparse l1 or kl", "sparse_weight")
        if self.sparse != "kl":
            only_with(self, "--sparse kl", "mean_activation")
        if self.sparse != "largest":
            only_with(self, "--sparse largest", "active")
        if not self.codebook:
            only_with(self, "--codebook N", "slots", "codebook_rate", "commitment")
        if not self.greedy:
            only_with(self, "--greedy", "greedy_epochs")
        if self.greedy and (self.codebook or self.freeze):
            raise RlabError("--greedy trains layers one by one, before there is a code; nearest: without "
                            + ("--codebook" if self.codebook else "--freeze"))  # fmt: skip


@dataclass(frozen=True)
class AutoencoderExperiment:
    """Settings of a run that learns to give back its inputs."""

    run: RunConfig = field(default_factory=RunConfig)
    data: ExamplesConfig = field(default_factory=ExamplesConfig)
    model: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        refuse_smoothing(self.fit)
        if self.model.greedy and self.fit.optimiser == "lbfgs":
            raise RlabError("lbfgs keeps a history of all parameters, which --greedy trains in turn; nearest: adamw")


@dataclass(frozen=True)
class VAEConfig:
    """Settings of a variational autoencoder: encoder, code, decoder, objective, and how it is scored."""

    encoder: str = "mlp"
    """A registered encoder (`mlp-500-250` has layers of these widths), or a run whose encoder this one starts from."""
    freeze: bool = False
    """Keep the encoder of the other run as it is; the rest learns."""
    code: int = 32
    """Numbers of a code."""
    decoder: str = ""
    """mlp, linear or upsampling; empty: the counterpart of the encoder."""
    conditional: bool = False
    """Tell encoder and decoder the class, so that samples of a class can be drawn (Kingma et al. 2014)."""
    kl: Literal["auto", "analytic", "monte-carlo"] = "auto"
    """How the divergence of the code's distribution from the prior is computed: exactly, or from the codes drawn; auto:
    exactly, unless --importance draws several."""
    beta: float = 1.0
    """Factor of the divergence (Higgins et al. 2017); 1 makes the loss a bound of the likelihood."""
    warm_up: int = 0
    """Epochs over which that factor grows from 0 (Sonderby et al. 2016)."""
    importance: int = 1
    """Codes drawn for each example; more than 1 is the tighter bound of IWAE (Burda et al. 2016, eq. 8)."""
    binarise: bool = True
    """Draw black and white pixels, anew for every update, and once and for all for validation and test; grey values
    are their probabilities (Salakhutdinov & Murray 2008). Off: grey values are fitted as they are."""
    nll_samples: int = 1_000
    """Codes drawn for each test example, by which its likelihood is estimated. Validation draws 16."""
    nll_examples: int = 1_000
    """Test examples that are scored; 0: all."""

    def __post_init__(self) -> None:
        at_least(self, code=1, beta=0, warm_up=0, importance=1, nll_samples=1, nll_examples=0)
        if self.importance > 1 and self.kl == "analytic":
            raise RlabError("--importance above 1 weighs codes by the divergence that they have, so --kl analytic is "
                            "of no use; nearest: --kl monte-carlo")  # fmt: skip
        if self.importance > 1 and (self.beta != 1 or self.warm_up):
            raise RlabError("--importance above 1 is a bound of the likelihood, in which the divergence has no factor; "
                            "nearest: --beta 1 --warm-up 0")  # fmt: skip


@dataclass(frozen=True)
class VAEExperiment:
    """Settings of a run that learns a distribution of images."""

    run: RunConfig = field(default_factory=RunConfig)
    data: ExamplesConfig = field(default_factory=ExamplesConfig)
    model: VAEConfig = field(default_factory=VAEConfig)
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        refuse_smoothing(self.fit)


def refuse_smoothing(fit: FitConfig) -> None:
    """Refuse the setting of a fit that is of classes only.

    Raises:
        RlabError: it was set.
    """
    if fit.label_smoothing:
        raise RlabError(f"--label-smoothing is {fit.label_smoothing}, and nothing here is told as a class; nearest: 0")
