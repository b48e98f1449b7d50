"""The contract between a run and what it drives: `Learner`, and the values that pass between the two."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from rlab.errors import NonFinite as NonFinite

if TYPE_CHECKING:
    from torch import Tensor

Metrics = Mapping[str, float]
"""Numbers of one step. Plain names are averaged over a log window; see `rlab.run.metrics`."""

Score = Mapping[str, Any]
"""An evaluation's result, JSON values only: mean, low and high (its 95 % interval); of games also median and episodes,
of a data set's examples measure (what "mean" is, in words), split and examples."""

Rows = dict[str, np.ndarray]
"""Equally long columns of a log: name -> array[rows, ...]."""

State = dict[str, Any]
"""A tree of dicts and lists whose leaves are tensors, arrays, JSON scalars or a `Log`; keys are strings."""


@dataclass(frozen=True)
class Log:
    """Rows ``start`` to ``end`` (exclusive) of an append-only part of a state, kept in the run's journal.

    Attributes:
        read: yields the rows in order, in chunks; bound by whoever holds the data, absent in JSON.
    """

    name: str
    start: int
    end: int
    read: Callable[[], Iterator[Rows]] | None = field(default=None, compare=False, repr=False)

    def rows(self) -> Iterator[Rows]:
        """Iterate over the log's chunks of rows."""
        if self.read is None:
            raise RuntimeError(f"log '{self.name}' is not bound to a journal")
        return self.read()


@dataclass(frozen=True)
class Progress:
    """How far a run is: `done` of `total`, counted in `unit`; `left` seconds, where that was estimated."""

    done: int
    total: int
    unit: str
    left: float | None = None

    @property
    def finished(self) -> bool:
        """Whether the budget is spent."""
        return self.done >= self.total


@dataclass(frozen=True)
class Footprint:
    """An estimate of the memory, disk and time that a run will need.

    Attributes:
        memory: bytes of main memory at the most, beyond the libraries themselves.
        device_memory: bytes on the accelerator at the most; 0 on a CPU.
        checkpoint: bytes of a checkpoint at the most.
        seconds: wall time to the end, from a short measurement; None if not measured.
        trainable: parameters that are learned; None if not counted.
        frozen: parameters that stay as they are.
        journal: bytes of everything else in the run folder at the end, of the journal above all.
        checkpoints: how many there are at a time, at the most; filled in by the run.
        notes: what a user should know before the run begins, a sentence each.
        one_thread: whether the network is one of vectors, too small to be shared by several CPU threads.
    """

    memory: int
    device_memory: int
    checkpoint: int
    seconds: float | None = None
    trainable: int | None = None
    frozen: int = 0
    journal: int = 0
    checkpoints: int = 1
    notes: tuple[str, ...] = ()
    one_thread: bool = False

    @property
    def disk(self) -> int:
        """The largest size of the run folder in bytes."""
        return self.journal + self.checkpoints * self.checkpoint


@dataclass
class Stop:
    """Set once by a signal (or a test); everything that takes long polls `requested`."""

    requested: bool = False
    reason: str = ""
    undo: Callable[[], object] | None = None
    """Set while there is nothing to save yet: removes what has been written. Foreign code polls nothing while it is at
    work, such as the making of a hundred simulators; a process may then undo and end."""

    def request(self, reason: str) -> None:
        """Ask for a stop; the first reason is the one that is told."""
        if not self.requested:
            self.reason = reason
        self.requested = True

    def tell(self, done: int, total: int) -> None:
        """Say how far the work is that polls this, as in "game 3 of 10" (0: nobody knows of how many).

        Whoever shows an evaluation listens.
        """


class Stopped(Exception):
    """Raised by a part that was asked to stop before it had a result."""


class Learner(Protocol):
    """Anything that learns. The loop drives it and knows no algorithm."""

    def step(self) -> Metrics:
        """Do one unit of work, at most about half a second; raise `NonFinite` at the first NaN or Inf."""

    def evaluate(self, stop: Stop) -> Score:
        """Score what has been learned, on environments and random numbers of its own; polls `stop`.

        Raises:
            Stopped: a stop was requested before there was a result.
        """

    def progress(self) -> Progress:
        """Tell how far the run is."""

    def footprint(self, stop: Stop) -> Footprint:
        """Tell what the run will need, before it starts; allocates nothing large, alters nothing and polls `stop`.

        Called several times, with other numbers of threads; a stop may be of one call alone, so that it alters nothing
        either.

        Raises:
            Stopped: a stop was requested before there was a result.
        """

    def state(self) -> State:
        """Return everything that decides the rest of the run; calling it alters nothing."""

    def restore(self, state: State, stop: Stop) -> None:
        """Become what `state` describes; polls `stop` (raises `Stopped`)."""

    def close(self) -> None:
        """Free environments, threads and files. Safe to call twice."""


@runtime_checkable
class Acts(Protocol):
    """A learner with a policy that acts on observations."""

    def policy(self, seed: int) -> Any:
        """Return ``act(obs, first, mask) -> actions`` for evaluations and films, with random numbers of its own."""


@runtime_checkable
class ShowsValues(Protocol):
    """A policy that shows what it expected of each action when it last acted."""

    q_values: np.ndarray | None
    """[N, A], in the unit of rewards; None before the first action."""


@runtime_checkable
class Plays(Acts, Protocol):
    """A learner that can play whole games in an environment and be scored by them."""

    def evaluate_games(self, episodes: int, seed: int, stop: Stop) -> dict[str, Any]:
        """Play whole games and score them; polls `stop` (raises `Stopped`)."""


@runtime_checkable
class Tells(Protocol):
    """A learner that notices things which its user should know while it learns."""

    def take_notes(self) -> list[str]:
        """Return what was noticed since the last call, a sentence each."""


@runtime_checkable
class SkipsEvaluations(Protocol):
    """A learner that may have nothing to be scored by before its end."""

    @property
    def skips_evaluations(self) -> bool:
        """Whether the final evaluation is the only one."""


@runtime_checkable
class Restores(Protocol):
    """A learner that can restore from a checkpoint only what it needs to act, predict or sample."""

    def restore_policy(self, state: State) -> None:
        """Restore the policy or model alone, without what only learning needs."""


@runtime_checkable
class StartsFromRun(Protocol):
    """A learner that can begin with what another run of its kind has learned."""

    def start_from(self, part: str, parameters: Mapping[str, Tensor]) -> None:
        """Copy the parameters of a part of the other learner's state into the own network, at progress 0.

        Raises:
            RlabError: they do not fit.
        """


@runtime_checkable
class ScoresData(Protocol):
    """A learner that is scored on the splits of a data set."""

    def evaluate_split(self, split: str, stop: Stop) -> Score:
        """Score a split with the restored parameters; polls `stop` (raises `Stopped`)."""


@runtime_checkable
class Predicts(Protocol):
    """A learner or task that predicts outputs from inputs: classes, numbers, a class for each pixel."""

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predict one row of outputs for each input: x[B, *shape] as in the data set.

        Raises:
            RlabError: inputs of another shape.
        """


@runtime_checkable
class Labels(Predicts, Protocol):
    """A learner or task that predicts the labels of examples; an autoencoder predicts, but has no labels.

    Attributes:
        classes: names of the classes; None where labels are numbers.
    """

    classes: tuple[str, ...] | None

    def outputs(self, split: str, stop: Stop) -> tuple[Any, Any]:
        """Return the outputs for a split, and its true labels; polls `stop` (raises `Stopped`)."""


@runtime_checkable
class Samples(Protocol):
    """A learner or task that samples new data: images, text, sound."""

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Sample n new items as the data set has them, by the seed alone."""


@runtime_checkable
class Interpolates(Protocol):
    """A learner or task that goes from one item to another by way of its codes."""

    def interpolate(self, rows: int, steps: int, seed: int) -> np.ndarray:
        """Make the way between `rows` pairs of items, float[rows, steps, *shape], images in 0..1; by the seed alone."""


@runtime_checkable
class SamplesOfClasses(Samples, Interpolates, Protocol):
    """A learner or task that samples images, of a class if it was trained with classes."""

    @property
    def turns(self) -> int:
        """How many classes samples go through in turn; 0: it was trained without classes."""

    def sample(self, n: int, seed: int, label: int | str | None = None) -> np.ndarray:
        """Do the same, of the class `label`, a name or a number; None: of all in turn."""

    def interpolate(self, rows: int, steps: int, seed: int, label: int | str | None = None) -> np.ndarray:
        """Do the same, of the class `label`; None: each row of the next class."""


@runtime_checkable
class Writes(Protocol):
    """A learner or task that writes text: it goes on from a prompt."""

    def write(
        self, prompt: str, seed: int, *, length: int, temperature: float, top_k: int, top_p: float
    ) -> Iterator[str]:
        """Yield what follows `prompt` piece by piece as it is drawn, by the seed alone; `length` tokens at the most.

        Args:
            prompt: where the text begins; empty: anywhere.
            seed: of the draws.
            length: of the text, in tokens.
            temperature: of the probabilities; 0 takes the most probable token each time.
            top_k: draw among so many tokens, the most probable ones; 0: among all.
            top_p: draw among the most probable tokens that have this share of the probability together.
        """

    def unknown(self, text: str) -> list[str]:
        """Return the pieces of a text that the model has no token for."""


@runtime_checkable
class Sounds(Protocol):
    """A learner or task that makes sounds.

    Attributes:
        rate: samples a second.
    """

    rate: int

    def sounds(
        self, n: int, seed: int, *, label: str, speaker: str, seconds: float, temperature: float
    ) -> list[np.ndarray]:
        """Make n new sounds, float32[T] each in -1..1, by the seed alone.

        Args:
            n: how many.
            seed: of the draws; a sound does not depend on how many others there are.
            label: the name of their class; empty: all in turn.
            speaker: the name of their speaker; empty: all in turn.
            seconds: how long they are; 0: what is usual.
            temperature: of the probabilities; 0 takes the most probable sample each time.

        Raises:
            RlabError: there is no such class or speaker, or the length is out of range.
        """


@dataclass(frozen=True)
class Translation:
    """One text translated.

    Attributes:
        text: the translation.
        source: the tokens that were read.
        target: the tokens that were written.
        attention: of each written token over those that were read, float[T, S]; None of models without.
    """

    text: str
    source: list[str]
    target: list[str]
    attention: np.ndarray | None


@runtime_checkable
class Translates(Protocol):
    """A learner or task that turns one text into another."""

    def translate(self, texts: Sequence[str], beam: int = 0) -> list[Translation]:
        """Translate texts by beam search; a beam of 0 is that of the run's evaluations.

        Raises:
            RlabError: a text is empty, or too long for the model.
        """

    def unknown(self, text: str) -> list[str]:
        """Return the pieces of a text that the model has no token for."""


@runtime_checkable
class Detects(Protocol):
    """A learner or task that detects objects in images."""

    def detect(self, images: np.ndarray) -> list[dict[str, np.ndarray]]:
        """Detect in each of images[B, C, H, W] ``boxes`` [K, 4] (left, top, right, bottom), ``classes``, ``scores``."""


@runtime_checkable
class Draws(Protocol):
    """A learner or task that draws pictures of what was learned."""

    def draw(self, stop: Stop) -> dict[str, bytes]:
        """Draw pictures, as PNG by name; polls `stop` (raises `Stopped`)."""


@runtime_checkable
class Exports(Protocol):
    """A learner or task whose network can be written to a file that runs without rlab."""

    def graph(self) -> Any:
        """Return a `rlab.nn.graph.Graph`: the network with its inputs and outputs by name.

        Raises:
            RlabError: this one cannot be exported, and why.
        """


@runtime_checkable
class Embeds(Protocol):
    """A learner or task that has a vector for each word of a vocabulary."""

    def embeddings(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Return the words [V] and their vectors, float32[V, D]."""


@runtime_checkable
class Converses(Protocol):
    """A learner or task that answers in a dialogue."""

    def answer(self, turns: list[str], temperature: float = 0.0, seed: int = 0) -> str:
        """Answer the last of some turns, the oldest first; temperature 0 takes the most probable word each time."""


@runtime_checkable
class Speaks(Protocol):
    """A learner that plays Go with a search: against other programs (GTP), in tournaments, as an analyst."""

    def go_player(self, name: str, visits: int | None = None) -> Any:
        """Return a `rlab.envs.go.players.Player`, with a number of simulations a move."""


Ability = TypeVar("Ability")


def ability(learner: Learner, kind: type[Ability]) -> Ability | None:
    """Return the learner, or the task that it trains, if it has an ability (`Plays`, `Predicts`, ...); else None."""
    for candidate in (learner, getattr(learner, "task", None)):
        if isinstance(candidate, kind):
            return candidate
    return None


def seconds_of(call: Callable[[], object], times: int, stop: Stop) -> float:
    """Time the fastest of some calls in seconds; a first one does not count, for it may compile.

    Raises:
        Stopped: a stop was requested.
    """
    seconds = []
    for _ in range(times + 1):
        if stop.requested:
            raise Stopped
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
