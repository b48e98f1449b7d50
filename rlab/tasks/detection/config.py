"""Settings of detectors and of segmentation as typed dataclasses. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rlab.errors import RlabError
from rlab.run.config import RunConfig, at_least, within
from rlab.tasks.config import ExamplesConfig, FitConfig, only_with


@dataclass(frozen=True)
class AnnotatedConfig(ExamplesConfig):
    """Settings of the images that are learned from, and of what is held out."""

    augment: str = ""
    """What is done to training images, batch by batch, and with them to their boxes and masks: `hflip,crop:8,scale:0.2`
    (`rlab data show --augment` draws it)."""


@dataclass(frozen=True)
class EncoderConfig:
    """Settings of the encoder below the heads."""

    encoder: str = "resnet"
    """A registered encoder with feature maps, or a run whose encoder this one starts from."""
    freeze: bool = False
    """Keep the encoder of the other run as it is; only what is above it learns."""
    encoder_rate: float = 1.0
    """Factor of the encoder's learning rate: below 1 keeps more of what another run has learned."""
    rate_decay: float = 1.0
    """Factor of the learning rate from each stage of the encoder to the one below it. 1: all alike."""

    def __post_init__(self) -> None:
        at_least(self, encoder_rate=0, rate_decay=0)


@dataclass(frozen=True)
class DetectorConfig(EncoderConfig):
    """Settings of a detector: the encoder, and which boxes are told."""

    score: float = 0.05
    """Boxes of a lower probability are not told."""
    overlap: float = 0.45
    """Of two boxes of a class that overlap by more (IoU), the more probable one stays."""
    most: int = 100
    """Boxes of an image that are told, at the most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, most=1)
        within(self, 0, 1, "score", "overlap")


@dataclass(frozen=True)
class MapsConfig(DetectorConfig):
    """Settings of the maps that a detector looks at."""

    stride: int = 0
    """Pixels of a cell of the finest map; 0: 4 on images below 256 pixels, else 8."""
    levels: int = 3
    """Maps, each half as fine as the one before, for objects of as many sizes."""
    width: int = 64
    """Channels of the maps."""
    top_down: bool = False
    """Tell fine maps what coarser ones see (feature pyramid, Lin et al. 2017)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, stride=0, levels=1, width=1)


@dataclass(frozen=True)
class SsdConfig(MapsConfig):
    """Settings of SSD."""

    mining: Literal["hard", "random", "none"] = "hard"
    """Which background is learned: what is told most wrongly, what chance draws, or all."""
    negatives: int = 3
    """Background anchors for each anchor with an object."""
    cells: float = 3.0
    """Cells of its map that an anchor is wide and high: about as large as the objects are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, negatives=1, cells=0.1)
        if self.mining == "none":
            only_with(self, "--mining hard or random", "negatives")


@dataclass(frozen=True)
class RegionsConfig(MapsConfig):
    """Settings of Fast and Faster R-CNN."""

    levels: int = 2
    """Maps, each half as fine as the one before, for objects of as many sizes."""
    top_down: bool = True
    """Tell fine maps what coarser ones see (feature pyramid, Lin et al. 2017)."""
    proposals: int = 64
    """Regions of an image that are judged."""
    regions: int = 32
    """Regions of an image that are learned from."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, proposals=1, regions=1)


@dataclass(frozen=True)
class RcnnConfig(DetectorConfig):
    """Settings of R-CNN."""

    proposals: int = 64
    """Regions of an image that are judged, each by a pass of the encoder."""
    regions: int = 16
    """Regions of an image that are learned from."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, proposals=1, regions=1)


@dataclass(frozen=True)
class MasksConfig(EncoderConfig):
    """Settings of a network that tells a class for every pixel."""

    edges: bool = False
    """On data with instances: also learn where two objects touch, and split them there."""


@dataclass(frozen=True)
class FcnConfig(MasksConfig):
    """Settings of a fully convolutional network: a class for every pixel from the encoder's last maps."""


@dataclass(frozen=True)
class UNetConfig(MasksConfig):
    """Settings of a U-Net."""

    width: int = 16
    """Channels of the largest maps on the way up; smaller maps have up to four times as many."""
    skips: bool = True
    """Join the encoder's maps of each size on the way up."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, width=1)


@dataclass(frozen=True)
class DetectExperiment:
    """Settings of a run that learns to detect objects, or to segment images."""

    run: RunConfig = field(default_factory=RunConfig)
    data: AnnotatedConfig = field(default_factory=lambda: AnnotatedConfig("digit-scenes"))
    model: EncoderConfig = field(default_factory=EncoderConfig)
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        if self.fit.label_smoothing:
            raise RlabError(f"--label-smoothing is {self.fit.label_smoothing}, which is for a class of a whole image; "
                            "nearest: 0")  # fmt: skip
        if self.fit.optimiser == "lbfgs":
            raise RlabError("lbfgs asks for the loss of a batch several times, and what is drawn of it would change; "
                            "nearest: adamw")  # fmt: skip


@dataclass(frozen=True)
class SsdExperiment(DetectExperiment):
    """Settings of a run of SSD."""

    model: SsdConfig = field(default_factory=SsdConfig)


@dataclass(frozen=True)
class RegionsExperiment(DetectExperiment):
    """Settings of a run of Fast or Faster R-CNN."""

    model: RegionsConfig = field(default_factory=RegionsConfig)


@dataclass(frozen=True)
class RcnnExperiment(DetectExperiment):
    """Settings of a run of R-CNN."""

    model: RcnnConfig = field(default_factory=RcnnConfig)


@dataclass(frozen=True)
class FcnExperiment(DetectExperiment):
    """Settings of a run of a fully convolutional network."""

    model: FcnConfig = field(default_factory=FcnConfig)


@dataclass(frozen=True)
class UNetExperiment(DetectExperiment):
    """Settings of a run of a U-Net."""

    model: UNetConfig = field(default_factory=UNetConfig)
