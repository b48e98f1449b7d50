"""What tasks share that sample new data: scaling, labels, samples of the same codes over a run, pictures, the score."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlab.data.datasets import TensorDataset, as_float
from rlab.data.synthetic import MIXTURES
from rlab.errors import RlabError, nearest, shortened
from rlab.run.contract import Stop
from rlab.seeding import derive
from rlab.tasks.generative.pictures import columns_of, grid
from rlab.tasks.generative.scores import Scorer, deviations
from rlab.tasks.pictures import png
from rlab.tasks.task import until

CHUNK = 250
"""Samples that are computed together."""

FRAMES = 24
"""Moments of a run at which samples are kept; when there would be more, every second is dropped."""

FOLLOWED = {"images": 40, "table": 512}
"""Kind -> samples that are kept at each moment."""

SHOWN = {"images": 80, "table": 2_000}
"""Kind -> samples of a picture."""

FRAME_MS = 350


class Scaling(nn.Module):
    """Convert data to what networks learn, and back: images to -1..1, columns of tables to mean 0 and deviation 1.

    Args:
        dataset: images or a table.

    Raises:
        RlabError: it is neither, or all its training examples are the same.
    """

    def __init__(self, dataset: TensorDataset):
        super().__init__()
        if dataset.kind not in ("images", "table"):
            raise RlabError(
                f"data set '{dataset.name}' is of kind {dataset.kind}; this recipe makes images and rows of tables, "
                "such as mnist, digits or gaussians-8"
            )
        refuse_constant(dataset)
        self.images, self.bytes = dataset.kind == "images", dataset.x.dtype == torch.uint8
        self.shift: Tensor
        self.scale: Tensor
        if self.images:
            shift, scale = torch.full((1, 1, 1), 0.5), torch.full((1, 1, 1), 0.5)
        else:
            x = dataset.inputs("train")
            shift, scale = x.mean(0), deviations(x)
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """x[B, *shape] as batches have it -> scaled."""
        return (x - self.shift) / self.scale

    def unscale(self, x: Tensor) -> Tensor:
        """Scaled [B, *shape] -> floats in 0..1 of images, numbers of tables."""
        x = x.float() * self.scale + self.shift
        return x.clamp(0, 1) if self.images else x

    def invert(self, x: Tensor) -> Tensor:
        """Scaled [B, *shape] -> as the data set has it: bytes, floats in 0..1, numbers."""
        x = self.unscale(x)
        return (255 * x).round().to(torch.uint8) if self.images and self.bytes else x


def refuse_constant(dataset: TensorDataset) -> None:
    """Refuse a data set without two training examples that differ.

    Raises:
        RlabError: all are the same.
    """
    items = dataset.items("train")
    first = dataset.x[items[:1]]
    if all(bool((dataset.x[part] == first).all()) for part in items.split(10_000)):
        many = "there is 1 training example" if len(items) == 1 else f"all {len(items):,} training examples are equal"
        raise RlabError(f"data set '{dataset.name}' has nothing to vary: {many}; a generator takes two that differ")


def class_of(label: int | str | None, dataset: TensorDataset, conditional: bool) -> int | None:
    """Return the number of a class by its name or number; None of None.

    Raises:
        RlabError: there is no such class, or the run was trained without classes.
    """
    if label is None:
        return None
    names = dataset.classes or ()
    if not conditional:
        raise RlabError(
            f"label {label}: this run samples without classes; --conditional in training makes one that does"
        )
    if str(label) in names:
        return names.index(str(label))
    if isinstance(label, int) and 0 <= label < len(names):
        return label
    raise RlabError(f"data set '{dataset.name}' has no class '{label}'; {nearest(str(label), names)}")


def _refuse_lone(dataset: TensorDataset) -> None:
    """Refuse a data set with a split of one example, whose features have no covariance.

    Raises:
        RlabError: there is such a split.
    """
    for split, items in dataset.splits.items():
        if len(items) < 2 and dataset.name not in MIXTURES:
            wanted = "--validation 0" if split == "validation" else "more examples"
            raise RlabError(
                f"data set '{dataset.name}' has {len(items)} example in its split '{split}', and samples are compared "
                f"with at least 2; nearest: {wanted}"
            )


class History(nn.Module):
    """Samples of the same latent codes at some moments of a run; its buffers are saved with the networks.

    Args:
        like: samples [n, *shape], of which as many are kept at each moment.

    Attributes:
        frames, updates: the samples of each moment, and after how many updates it was; `kept` of them.
        done: how many updates there were so far; who trains sets it.
    """

    def __init__(self, like: Tensor):
        super().__init__()
        self.frames: Tensor
        self.updates: Tensor
        self.kept: Tensor
        self.register_buffer("frames", like.new_zeros(FRAMES, *like.shape))
        self.register_buffer("updates", torch.zeros(FRAMES, dtype=torch.int64))
        self.done: Tensor
        for name in ("kept", "done"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    def add(self, samples: Tensor) -> None:
        """Keep samples[n, *shape] of the network as it is after `done` updates; once, however often it is evaluated."""
        kept, updates = int(self.kept), int(self.done)
        if kept and int(self.updates[kept - 1]) == updates:
            kept -= 1
        if kept == FRAMES:
            half = FRAMES // 2
            self.frames[:half], self.updates[:half] = self.frames[::2].clone(), self.updates[::2].clone()
            kept = half
        self.frames[kept], self.updates[kept] = samples, updates
        self.kept.fill_(kept + 1)

    def __len__(self) -> int:
        return int(self.kept)


class Draws:
    """Normal numbers for samples, of each a row of its own: they depend on seed and row, not on the other samples.

    Args:
        seed: of all rows.
        rows: int64[B], which row each sample draws from.
    """

    def __init__(self, seed: int, rows: Tensor):
        self._seed, self._rows = seed, rows.tolist()
        self._dice: list[np.random.Generator] = []

    def __call__(self, like: Tensor) -> Tensor:
        """Draw the next numbers, as many as `like`[B, *shape] has."""
        if not self._dice:  # most samplers draw nothing
            self._dice = [np.random.default_rng(derive(self._seed, "steps", row)) for row in self._rows]
        drawn = [dice.standard_normal(like.shape[1:], dtype=np.float32) for dice in self._dice]
        return torch.from_numpy(np.stack(drawn)).to(like.device)


class Sampler:
    """A part of a task that samples: `Samples`, `Draws`, and the evaluation by samples.

    A task calls `start` when its networks are there, writes `generate` and sets `history.done` in each update.

    Attributes:
        conditional: whether a sample is of a class.
    """

    modules: nn.ModuleDict
    dataset: TensorDataset
    device: torch.device
    conditional: bool
    samples: int

    def start(self, conditional: bool, samples: int) -> None:
        """Prepare sampling; the networks must be on the device.

        Args:
            conditional: whether samples are of the data set's classes.
            samples: how many an evaluation draws.

        Raises:
            RlabError: a split has too few examples for a score.
        """
        self.conditional, self.samples = conditional, samples
        _refuse_lone(self.dataset)
        self.scorer = Scorer(self.dataset, self.device)
        self.primary = self.scorer.primary
        shown = FOLLOWED[self.dataset.kind]
        self.history = History(self.dataset.x[:1].expand(shown, *self.dataset.shape).clone()).to(self.device)
        self.modules["history"] = self.history

    @property
    def scaling(self) -> Any:
        """The scaling of the data."""
        return self.modules["scaling"]

    @property
    def code_shape(self) -> tuple[int, ...]:
        """The shape of the latent code of one sample."""
        raise NotImplementedError

    @property
    def classes_in(self) -> dict[str, Tensor]:
        """The input of a graph that says of which class a sample is to be, if that can be said."""
        return {"classes": torch.arange(2) % len(self.dataset.classes or "1")} if self.conditional else {}

    def generate(self, codes: Tensor, classes: Tensor | None, draws: Draws) -> Tensor:
        """Make samples, scaled, of codes[B, *code_shape] and classes int64[B]; what is drawn on the way is `draws`'."""
        raise NotImplementedError

    def sample(self, n: int, seed: int, label: int | str | None = None) -> np.ndarray:
        """Sample n new items as the data set has them, by the seed alone.

        Args:
            n: how many.
            seed: of the latent codes.
            label: the class of all, its name or number; None: of a conditional run the classes in turn.

        Raises:
            RlabError: n or seed is out of range, the run is not conditional, or there is no such class.
        """
        if n < 1 or seed < 0:
            raise RlabError(f"{n} samples with seed {seed} cannot be drawn; it takes at least 1, and a seed from 0 on")
        return self.sampled(n, seed, class_of(label, self.dataset, self.conditional)).cpu().numpy()

    def sampled(self, n: int, seed: int, label: int | None = None, stop: Stop | None = None) -> Tensor:
        """Do the same for a class's number, as a tensor; polls `stop` (raises `Stopped`)."""
        # numpy's normal numbers, unlike torch's, do not depend on how many follow.
        drawn = np.random.default_rng(derive(seed, "codes")).standard_normal((n, *self.code_shape), dtype=np.float32)
        classes = self._classes_in_turn(n) if label is None else torch.full((n,), label)
        return self._made(torch.from_numpy(drawn), classes, torch.arange(n), seed, stop or Stop())

    def interpolate(self, rows: int, steps: int, seed: int, label: int | str | None = None) -> np.ndarray:
        """Make samples of codes on the way between pairs of random ones: [rows, steps, *shape], images in 0..1; of one
        class a row, or all of the class `label`.

        Raises:
            RlabError: see `sample`.
        """
        chosen = class_of(label, self.dataset, self.conditional)
        dice = np.random.default_rng(derive(seed, "interpolation"))
        first, last = torch.from_numpy(dice.standard_normal((2, rows, 1, *self.code_shape), dtype=np.float32))
        angle = torch.linspace(0, torch.pi / 2, steps).view(1, steps, *[1] * len(self.code_shape))
        way = first * angle.cos() + last * angle.sin()  # all of them as likely as the ends
        row = torch.arange(rows).repeat_interleave(steps)  # whose draws are the same all the way, or it would flicker
        classes = self._classes_in_turn(rows)[row] if chosen is None else torch.full_like(row, chosen)
        made = as_float(self._made(way.flatten(0, 1), classes, row, seed, Stop()))
        return made.view(rows, steps, *self.dataset.shape).cpu().numpy()

    def _classes_in_turn(self, n: int) -> Tensor:
        return torch.arange(n) % len(self.dataset.classes or "1")

    @torch.no_grad()
    def _made(self, codes: Tensor, classes: Tensor, rows: Tensor, seed: int, stop: Stop) -> Tensor:
        """Samples, as the data set has them, of codes and of classes, which only a conditional run heeds; `rows` are
        those of `Draws`."""
        was = self.modules.training
        self.modules.eval()  # batch norm must not mix the samples of a batch
        parts = []
        for part in until(stop, torch.arange(len(codes)).split(CHUNK)):
            of = classes[part].to(self.device) if self.conditional else None
            samples = self.generate(codes[part].to(self.device), of, Draws(seed, rows[part]))
            parts.append(self.scaling.invert(samples))
        self.modules.train(was)
        return torch.cat(parts)

    @property
    def turns(self) -> int:
        """See `rlab.run.contract.SamplesOfClasses`."""
        return len(self.dataset.classes or ()) if self.conditional else 0

    def evaluate(self, split: str, stop: Stop) -> dict[str, Any]:
        """Score samples against a split, and keep some of the same codes for the report.

        Raises:
            Stopped: a stop was requested.
        """
        score = self.scorer.score(as_float(self.sampled(self.samples, 0, stop=stop)).cpu(), split, stop)
        self.history.add(self.sampled(self.history.frames.shape[1], 1, stop=stop))
        return score

    def draw(self, stop: Stop) -> dict[str, bytes]:
        """Draw samples, and how those of the same codes have become, as an animated PNG.

        Raises:
            Stopped: a stop was requested.
        """
        drawn = self.sampled(SHOWN[self.dataset.kind], 0, stop=stop).cpu()
        pictures = {"samples": self._picture(drawn)}
        if len(self.history) > 1:
            frames = [self._picture(frame.cpu()) for frame in until(stop, self.history.frames[: len(self.history)])]
            pictures["samples_over_training"] = animated(frames)
        return pictures

    def _picture(self, samples: Tensor) -> bytes:
        if self.dataset.kind == "images":
            return grid(samples.numpy(), columns_of(self.turns) or 10)
        real = self.scorer.examples("train", len(samples)).numpy()
        return scatter(real, samples[: len(real)].numpy(), self.dataset.columns)  # more would hide few examples


def scatter(real: np.ndarray, samples: np.ndarray, columns: tuple[str, ...] | None) -> bytes:
    """Draw the first two columns of samples [n, D] over those of data [m, D], as a PNG."""
    names = [shortened(name, 20) for name in (columns or ("first column", "second column"))[:2]]

    def show(figure: Any) -> None:
        axes = figure.subplots()
        second = min(1, real.shape[1] - 1)
        axes.scatter(real[:, 0], real[:, second], s=4, color="0.7", label="data")
        axes.scatter(samples[:, 0], samples[:, second], s=4, color="tab:blue", label="samples")
        low, high = real[:, [0, second]].min(0), real[:, [0, second]].max(0)
        room = 0.25 * (high - low) + 1e-6
        axes.set(xlim=(low[0] - room[0], high[0] + room[0]), ylim=(low[1] - room[1], high[1] + room[1]))
        axes.set(xlabel=names[0], ylabel=names[-1])
        axes.legend(loc="upper right", fontsize=7)

    return png(show, (3.6, 3.4))


def animated(frames: list[bytes]) -> bytes:
    """Make one animated PNG of several of the same size; where nothing moves, the last one is shown."""
    from PIL import Image

    pictures = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames]
    data = io.BytesIO()
    still, *moving = [pictures[-1], *pictures]
    still.save(data, format="PNG", save_all=True, append_images=moving, default_image=True, duration=FRAME_MS, loop=0)
    return data.getvalue()
