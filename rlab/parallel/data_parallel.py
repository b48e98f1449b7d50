"""Data parallel training: several processes learn as one, each from its part of every batch.

Rank 0 leads: it has the run's folder, evaluates and saves. The others build the same learner and make the same steps.
Before each step of the optimiser gradients are added up over all, weighted by what each loss is a mean over (items,
tokens), and BatchNorm takes its moments over the whole batch, so that N processes learn what one would from the same
batches.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]
from torch.nn.modules.batchnorm import _BatchNorm

from rlab.data.batches import Batch, DataModule
from rlab.errors import RlabError
from rlab.machine import cores
from rlab.nn.layers.joint import Joint
from rlab.parallel.group import JOINING, Group, LostRank, environment, meet
from rlab.registry import RECIPES
from rlab.run.budget import Budget
from rlab.run.config import from_plain
from rlab.run.contract import Learner, Metrics, Score, State, Stop
from rlab.run.folder import RunFolder
from rlab.run.journal import Journal
from rlab.run.lifecycle import BuildContext, begin_process
from rlab.run.loop import View
from rlab.seeding import derive
from rlab.tasks.task import Losses, of_one_loss
from rlab.tasks.trainer import Stateful, Trainer
from rlab.trust import environment as trusted
from rlab.trust import foreign

if TYPE_CHECKING:
    from rlab.parallel.sharding import Sharding  # its imports take seconds

RESTARTS = 3
"""How often a run goes on from its last checkpoint by itself after it has lost a process."""

FOLLOWER = (sys.executable, "-m", "rlab", "train")
"""The command that follows a leader, found by the variables that torchrun sets."""

LEAVING = 20.0
"""Seconds that processes have to end after the leader has."""


class Shard:
    """The part of a `DataModule`'s batches that one of several processes learns from.

    A rank for which a small last batch has no item gets the first one, which counts nothing (``items`` is empty): it
    takes part in everything that the others wait for.
    """

    def __init__(self, data: DataModule, rank: int, world: int):
        self._data, self._rank, self._world = data, rank, world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def __len__(self) -> int:
        return len(self._data)

    def at(self, epoch: int, number: int, rank: int = 0, world: int = 1) -> Batch:
        """Make the part of this process of a batch."""
        batch = self._data.at(epoch, number, self._rank, self._world)
        if len(batch):
            return batch
        other = self._data.at(epoch, number, 0, self._world)
        return Batch(other.tensors, other.items[:0], other.place)


@runtime_checkable
class Divided(Stateful, Protocol):
    """A part of a run's state with rows for the items of a batch, of which each process has those of its own items."""

    def divide(self, rank: int, world: int) -> None:
        """Keep the rows of a process."""

    def joined(self, rank: int, world: int, total: Callable[[Tensor], Tensor]) -> State:
        """Return the state with the rows of all; every process calls it at the same time."""


class JointLearning:
    """What computes gradients in place of `rlab.tasks.task.backpropagate`: those of the whole batch, in each process.

    Args:
        model: whose gradients they are; its BatchNorm layers take joint moments from now on, and other parts that
            count over a batch (`Joint`) those of all, too.
        total: adds up a tensor over all processes, in place, and returns it.
        leads: whether this is rank 0.
        parameters: those that learn; None: the model's.
        sharding: this process's part of the model, if that is divided.
    """

    def __init__(
        self,
        model: nn.Module,
        total: Callable[[Tensor], Tensor],
        leads: bool = True,
        parameters: Sequence[nn.Parameter] | None = None,
        sharding: Sharding | None = None,
    ):
        self.model, self.total, self.sharding = model, total, sharding
        self.parameters = list(model.parameters()) if parameters is None else list(parameters)
        self.counted = True
        """Whether the items at hand count."""
        for part in model.modules():
            if isinstance(part, _BatchNorm):
                part.forward = partial(self._normalise, part)  # type: ignore[method-assign]
            if isinstance(part, Joint):
                part.total, part.leads = (lambda tensor: total(tensor * self.counted)), leads

    def __call__(
        self, losses: Callable[[Batch], Losses], denominator: Callable[[Batch], float], batches: Sequence[Batch]
    ) -> Losses:
        """Compute the gradients of the mean loss over the batches of all processes; the losses are that mean, too."""
        totals: dict[str, Tensor] = {}
        whole, sharding = 0.0, self.sharding
        if sharding is not None:
            sharding.zero_grad()
        for batch in batches:
            self.counted = len(batch) > 0
            count = float(denominator(batch)) if self.counted else 0.0
            computed = losses(batch) if sharding is None else sharding.root(losses, batch)
            (count * computed["loss"]).backward()
            for name, value in computed.items():
                part = count * _wide(value.detach())
                totals[name] = totals[name] + part if name in totals else part
            whole += count
        gradients = [p.grad for p in self.parameters if p.grad is not None] if sharding is None else []
        numbers = torch.stack([*totals.values()])
        parts = [_wide(g).flatten() for g in gradients] + [numbers, numbers.new_tensor([whole])]
        joint = self.total(torch.cat(parts))
        if sharding is not None:
            sharding.finish(joint[-1].clamp(min=1))
        joint /= joint[-1].clamp(min=1)
        for gradient, part in zip(gradients, joint.split([p.numel() for p in parts]), strict=False):
            gradient.copy_(part.view_as(gradient))
        return dict(zip(totals, joint[-1 - len(numbers) : -1].unbind(), strict=True))

    def _normalise(self, norm: _BatchNorm, x: Tensor) -> Tensor:
        """BatchNorm over the items of all processes (torch's own is for GPUs only).

        Args:
            norm: the layer.
            x: [B, C, ...].
        """
        if not norm.training:
            return type(norm).forward(norm, x)
        y, mean, var, whole = _JointNorm.apply(x, norm.weight, norm.bias, norm.eps, self.counted, self.total)
        if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
            with torch.no_grad():
                assert norm.num_batches_tracked is not None
                norm.num_batches_tracked += 1
                rate = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
                norm.running_mean.lerp_(mean, rate)
                norm.running_var.lerp_(var * (whole / max(whole - 1, 1)), rate)
        return y

    def release(self) -> None:
        """Give the layers back as they were."""
        for part in self.model.modules():
            if isinstance(part, _BatchNorm) and "forward" in vars(part):
                del part.forward
            if isinstance(part, Joint):
                part.total, part.leads = None, True


def _wide(tensor: Tensor) -> Tensor:
    """In float32 or what is wider."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class _JointNorm(torch.autograd.Function):
    """BatchNorm over processes: one sum over them on the way forward, one on the way back.

    Moments of each are joined in float64, in which those of the whole follow from sums without a second exchange.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        counted: bool,
        total: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        rows, axes = _wide(x), [0, *range(2, x.dim())]
        number = x.numel() // x.shape[1] * counted
        mean = rows.mean(axes)
        squares = (rows - _by_channel(mean, x)).square().sum(axes).double()
        sums = torch.cat([number * mean.double(), squares + number * mean.double().square()]) * counted
        joint = total(torch.cat([sums, sums.new_tensor([number])]))
        whole = float(joint[-1])
        first, second = (joint[:-1] / whole).chunk(2)
        mean, var = first.to(rows.dtype), (second - first.square()).clamp(min=0).to(rows.dtype)
        y = torch.batch_norm(rows, weight, bias, mean, var, False, 0.0, eps, False).to(x.dtype)
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps, ctx.counted, ctx.total, ctx.whole = eps, counted, total, whole
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var, whole

    @staticmethod
    def backward(ctx: Any, slope: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        rows, slope = _wide(x), _wide(slope)
        scale = torch.ones_like(mean) if weight is None else weight
        _, by_scale, by_shift = torch.ops.aten.native_batch_norm_backward(
            slope, rows, scale, mean, var, None, None, False, ctx.eps, [False, True, True]
        )
        factor = scale * (var + ctx.eps).rsqrt()
        joint_scale, joint_shift = (ctx.total(torch.cat([by_scale, by_shift])) / ctx.whole).chunk(2)
        shared = torch.batch_norm(
            rows, -factor * joint_scale, -factor * joint_shift, mean, var, False, 0.0, ctx.eps, False
        )
        gradient = torch.addcmul(shared, slope, _by_channel(factor, x)) * ctx.counted
        own = (None, None) if weight is None else (by_scale, by_shift)
        return gradient.to(x.dtype), *own, None, None, None


def _by_channel(numbers: Tensor, x: Tensor) -> Tensor:
    """[C] -> [1, C, 1, ...], as many dimensions as x[B, C, ...] has."""
    return numbers.view([1, -1] + [1] * (x.dim() - 2))


class _Led(Budget):
    """Where the leader's schedules stand."""

    at = 0.0

    def share(self, done: int) -> float | None:
        """What the leader has said."""
        return self.at


def ranks(config: Any) -> int:
    """How many processes learn together: as torchrun says, or else the configuration."""
    return int(os.environ.get("WORLD_SIZE", 0)) or int(getattr(getattr(config, "fit", None), "workers", 1))


def settled(config: Any) -> Any:
    """A configuration for data parallel training: with the number of processes, and the cores divided among them.

    Raises:
        RlabError: torchrun started several processes, and this recipe learns in one; or no fleet can play for it.
    """
    from dataclasses import replace

    if getattr(getattr(config, "agent", None), "actors", 0):
        from rlab.parallel.actors import refuse

        refuse(config.agent)
    world = ranks(config)
    if world == 1:
        if getattr(getattr(config, "fit", None), "shard", False):
            raise RlabError("--shard divides a model among processes, and there is one; nearest: --workers 2")
        return config
    if not hasattr(getattr(config, "fit", None), "workers"):
        raise RlabError(f"torchrun started {world} processes, and this learns in one; models on data learn in several")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    threads = max(1, cores() // here) if config.run.threads == "auto" else config.run.threads
    return replace(config, run=replace(config.run, threads=threads), fit=replace(config.fit, workers=world))


@contextmanager
def leading(
    workers: int | None, folder: RunFolder, learner: Learner, view: View, stop: Stop | None = None
) -> Iterator[None]:
    """Let other processes learn with this one, within; starts them unless torchrun did.

    Args:
        workers: how many there are with this one; None: as the run's settings say.
        folder: the run.
        learner: its learner, as it is to go on.
        view: told of what is not as it was.
        stop: polled while a fleet of actors is waited for.

    Raises:
        RlabError: what learns cannot be shared.
        Stopped: a stop was requested before there was a fleet.
        LostRank: a process is gone.
    """
    document = folder.config()
    if document["config"].get("agent", {}).get("actors"):
        from rlab.parallel.actors import played

        if workers is not None:
            raise RlabError(f"--workers {workers} is for models on data; the actors of this run play, and one learns")
        config = from_plain(type(RECIPES.get(document["recipe"]).default("")), document["config"], "settings")
        with played(document["recipe"], learner, config, view.event, stop):
            yield
        return
    before = int(document["config"].get("fit", {}).get("workers", 1))
    world = int(os.environ.get("WORLD_SIZE", 0)) or workers or before
    if world != before:
        view.event(f"not bit-exact from here: {before} processes learned together before, and {world} do now; "
                   "batches are the same")  # fmt: skip
    if world == 1:
        yield
        return
    trainer = _shareable(learner, document["recipe"])
    if trainer.config.shard:
        from rlab.parallel.sharding import refuse

        refuse(trainer.task)  # type: ignore[arg-type]  # before others start
    with contextlib.ExitStack() as stack:
        started: dict[int, subprocess.Popen[bytes]] = {}
        if "WORLD_SIZE" in os.environ:
            _, _, store = meet()
        else:
            server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            store = PrefixStore("rlab/0", server)
            stack.callback(_end, started)
            for rank in range(1, world):
                variables = os.environ | trusted() | environment(rank, world, server.port)
                started[rank] = subprocess.Popen(FOLLOWER, env=variables, stdin=subprocess.DEVNULL, stdout=2)
        store.set("run", json.dumps(document))
        group = Group(0, world, store, _device_of(trainer), started)
        stack.callback(group.close)
        stack.callback(group.say, "end")
        group.share(trainer.state())
        step, state, evaluate = trainer.step, trainer.state, trainer.evaluate

        def led() -> Metrics:
            group.say(f"{trainer.updates} {trainer.schedule_place!r}")
            with group.exchanging():
                return step()

        def led_state() -> State:
            group.say("state")
            with group.exchanging():
                return _whole(state(), trainer, group, joint.sharding)

        def led_evaluate(stop: Stop) -> Score:
            if joint.sharding is None:
                return evaluate(stop)
            group.say("modules")
            with group.exchanging():
                modules = joint.sharding.modules()
            with joint.sharding.gathered(modules):
                return evaluate(stop)

        joint = _join(trainer, group)
        trainer.step, trainer.state, trainer.evaluate = led, led_state, led_evaluate  # type: ignore[method-assign]
        stack.callback(joint.release)
        yield


def following() -> bool:
    """Whether this process is one that follows a leader."""
    return os.environ.get("RANK", "0") != "0" and int(os.environ.get("WORLD_SIZE", "1")) > 1


def follow() -> int:
    """Learn with a leader until it ends; return the exit status."""
    from rlab.recipes import load_recipes

    for number in (signal.SIGINT, signal.SIGTERM):  # the leader hears them, too, saves, and says that it is over
        signal.signal(number, signal.SIG_IGN)
    rank, world, store = meet()
    store.wait(["run"], timedelta(seconds=JOINING))
    document = json.loads(store.get("run"))
    foreign(document)
    recipe = load_recipes().get(document["recipe"])
    config = from_plain(type(recipe.default("")), document["config"], "the leader's settings")
    begin_process(config.run.threads)
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if config.run.device.startswith("cuda") else "cpu"
    with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as stack:
        journal = Journal(Path(made))
        stack.callback(journal.close)
        trainer = _shareable(recipe.build(config, BuildContext(device, journal)), document["recipe"])
        stack.callback(trainer.close)
        group = Group(rank, world, store, _device_of(trainer))
        stack.callback(group.close)
        trainer.restore(group.share(None), Stop())
        trainer.seed = derive(trainer.seed, "rank", rank)  # dropout of each draws for itself
        trainer.budget = budget = _Led()
        joint = _join(trainer, group)
        while (said := group.hear()) != "end":
            with group.exchanging():
                if said == "state":
                    _whole(trainer.state(), trainer, group, joint.sharding)
                elif said == "modules":
                    assert joint.sharding is not None
                    joint.sharding.modules()
                else:
                    update, place = said.split()
                    assert trainer.updates == int(update), (trainer.updates, update)
                    budget.at = float(place)
                    trainer.step()
    return 0


def restarted() -> bool:
    """Whether torchrun has started this process again after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def persistently(failure: LostRank, go_on: Callable[[], Any], say: Callable[[str], None]) -> Any:
    """Go on with a run that has lost a process, from its last checkpoint, `RESTARTS` times at the most.

    Under torchrun the failure is raised again: it starts all processes anew.

    Raises:
        LostRank: it lost one each time.
    """
    if "WORLD_SIZE" in os.environ:
        raise failure
    for number in range(1, RESTARTS + 1):
        say(f"{failure}; going on from the last checkpoint ({number} of {RESTARTS})")
        try:
            return go_on()
        except LostRank as e:
            failure = e
    raise LostRank(f"{failure}; after {RESTARTS} new starts the run ends here, with its last checkpoint kept")


def _device_of(trainer: Trainer) -> torch.device:
    return trainer.device


def _shareable(learner: Learner, recipe: str) -> Trainer:
    """A learner that several processes can share.

    Raises:
        RlabError: it is none.
    """
    if not isinstance(learner, Trainer) or not of_one_loss(learner.task):
        raise RlabError(f"'{recipe}' learns in one process; models of one loss on data learn in several: --workers 1")
    return learner


def _join(trainer: Trainer, group: Group) -> JointLearning:
    """Let a trainer learn from its part of each batch, and from the gradients of all."""
    task = trainer.task
    assert of_one_loss(task)
    task.data = Shard(task.data, group.rank, group.world)
    divided = {name: part for name, part in trainer.beside.items() if isinstance(part, Divided)}
    for part in divided.values():
        part.divide(group.rank, group.world)
    sharding = None
    if trainer.config.shard:
        from rlab.parallel.sharding import Sharding

        before = {name: part.state() for name, part in divided.items()}
        sharding = Sharding(task, task.data.at(0, 0), group.rank, group.world)
        for name, part in divided.items():  # a batch was looked at
            part.restore(before[name])
    learned = [p for part in task.optimizer.param_groups for p in part["params"]]
    joint = JointLearning(task.model, group.sum, group.rank == 0, learned, sharding)
    task.learn = joint
    return joint


def _whole(state: State, trainer: Trainer, group: Group, sharding: Sharding | None) -> State:
    """A trainer's state as of one process; all call it at the same time."""
    parts = {name: part for name, part in trainer.beside.items() if isinstance(part, Divided)}
    state = state | {name: part.joined(group.rank, group.world, group.sum) for name, part in parts.items()}
    return state if sharding is None else sharding.joined(state)


def _end(started: Mapping[int, subprocess.Popen[bytes]]) -> None:
    """Wait for processes that were told to end, and kill those that do not."""
    for process in started.values():
        try:
            process.wait(LEAVING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
