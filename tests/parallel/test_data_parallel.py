"""Data parallel training: several processes learn what one would."""

from __future__ import annotations

import copy
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import rlab
from rlab.cli import main
from rlab.data.batches import Batch, Batches
from rlab.data.datasets import load
from rlab.nn.layers.quantiser import VectorQuantiser
from rlab.parallel import data_parallel
from rlab.parallel.data_parallel import JointLearning, Shard
from rlab.parallel.group import TIMEOUT, LostRank
from rlab.run.folder import find_run
from rlab.tasks.sequence.language_model import Carried
from rlab.tasks.task import SingleLossTask
from tests.parallel.sums import Sums
from tests.tasks.test_trainer import of_recipe


class Doubled(nn.Module):
    """A network with BatchNorm that is used twice in a forward pass, as a siamese one."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        self.last = nn.BatchNorm1d(10, momentum=None)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x.double()) + self.body(1 - x.double()))


class Pictures(SingleLossTask):
    def loss(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"loss": nn.functional.cross_entropy(outputs, batch.y)}


def learned(data: Any, size: int, world: int) -> tuple[dict[str, Tensor], list[float], list[int]]:
    """(model, losses, items that counted) after an epoch of so many ranks, which must agree."""
    sums = Sums(world)

    def task_of(rank: int) -> Pictures:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = Doubled().double()  # BatchNorm of two items makes much of float32's rounding
        task = Pictures(model, Batches(data, size, seed=3), torch.optim.SGD(model.parameters(), 0.1, momentum=0.9))
        if world > 1:
            task.data, task.learn = Shard(task.data, rank, world), JointLearning(model, sums.of(rank))
        return task

    def run(task: Pictures) -> tuple[list[float], list[int]]:
        batches = [task.data.at(0, number) for number in range(len(task.data))]
        losses = [float(task.update(batch, task.optimizers())["loss"]) for batch in batches]
        return losses, [item for batch in batches for item in batch.items.tolist()]

    tasks = [task_of(rank) for rank in range(world)]
    with ThreadPoolExecutor(world) as threads:
        done = list(threads.map(run, tasks))
    states = [task.model.state_dict() for task in tasks]
    for state in states[1:]:
        assert all(torch.equal(tensor, state[name]) for name, tensor in states[0].items())
    return states[0], done[0][0], [item for _, items in done for item in items]


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_learn_as_one(world: int) -> None:
    """Item 279: gradients are merged, and BatchNorm's moments, in two forwards of one backward pass.

    101 items in batches of 33 leave two at the end: they count once, and the third rank has none and hinders nobody.
    """
    data = load("digits", 0, 0.0).subsample(101, 0)
    one, losses, items = learned(data, 33, 1)
    joint, joint_losses, joint_items = learned(data, 33, world)
    assert sorted(joint_items) == sorted(items)
    assert len(set(items)) == 101
    assert joint_losses == pytest.approx(losses, abs=1e-9)
    for name, tensor in one.items():
        assert torch.allclose(joint[name].double(), tensor.double(), rtol=0, atol=1e-9), name


SMALL: dict[str, Any] = {"data": "digits", "epochs": 2, "batch_size": 64, "examples": 300, "evaluate_steps": 0,
                         "optimiser": "momentum", "checkpoint_steps": 64, "threads": 1}  # fmt: skip

STREAMS: dict[str, Any] = {"data": "shakespeare-small", "epochs": 1, "batch_size": 5, "window": 12, "width": 8,
                           "examples": 100, "sample_length": 0, "evaluate_steps": 0, "checkpoint_steps": 15,
                           "threads": 1}  # fmt: skip

DIVIDED = SMALL | {"shard": True, "optimiser": "adamw", "encoder": "resnet20", "evaluate_steps": 100, "examples": 200}
DIVIDED_TEXT = {name: value for name, value in STREAMS.items() if name != "batch_size"} | {"shard": True, "layers": 2}


def final(name: str) -> dict[str, Tensor]:
    """The parameters of a run's newest checkpoint."""
    newest = max(find_run(name).checkpoints.iterdir())
    return load_file(next(newest.glob("*.safetensors")))


@pytest.mark.parametrize(("streams", "world"), [(5, 2), (2, 3)])
def test_carried_states_are_divided_and_joined(streams: int, world: int) -> None:
    """Each process has the rows of its own streams; a checkpoint has all. One without a stream only takes part."""
    rows = torch.randn(streams, 3)
    rows[0, 0] = -0.0
    whole = {"place": [0, 4], "states": {"before": rows, "after": rows + 1}}
    sums = Sums(world)

    def again(rank: int) -> tuple[int, Any]:
        carried = Carried(streams)
        carried.restore(whole)
        carried.divide(rank, world)
        assert carried.before is not None
        return len(carried.before), carried.joined(rank, world, sums.of(rank))

    with ThreadPoolExecutor(world) as threads:
        found = list(threads.map(again, range(world)))
    assert [number for number, _ in found] == [len(range(r, streams, world)) or 1 for r in range(world)]
    for _, state in found:
        assert state["place"] == [0, 4]
        assert state["states"]["before"].numpy().tobytes() == rows.numpy().tobytes()
        assert torch.equal(state["states"]["after"], rows + 1)


@pytest.mark.parametrize("world", [2, 3])
def test_codebooks_follow_the_codes_of_all(world: int) -> None:
    """Of a codebook by moving averages, too: entries, and those that nothing chooses, are the same in each process."""
    codes = torch.randn(2 * 8, 4)
    one = VectorQuantiser(6, 4, rate=0.5)
    sums = Sums(world)

    def learn(quantiser: VectorQuantiser, codes: Tensor, count: bool, total: Any, leads: bool) -> VectorQuantiser:
        joint = JointLearning(quantiser, total, leads)
        joint.counted = count
        for _ in range(12):
            quantiser(codes)
        joint.release()
        return quantiser

    def rank(number: int) -> VectorQuantiser:
        mine = codes[number::2] if number < 2 else codes[:1]
        return learn(copies[number], mine, number < 2, sums.of(number), number == 0)

    copies = [copy.deepcopy(one) for _ in range(world)]
    learn(one, codes, True, lambda tensor: tensor, True)
    with ThreadPoolExecutor(world) as threads:
        found = list(threads.map(rank, range(world)))
    chosen = one.counts > 2  # the others begin anew with a vector that is drawn
    assert torch.allclose(found[0].counts[chosen], one.counts[chosen], atol=1e-5)
    for other in found[1:]:
        assert torch.equal(other.codebook, found[0].codebook)


@pytest.mark.parametrize(
    ("recipe", "settings"), [("ssd", {"mining": "hard"}), ("fast-rcnn", {"proposals": 4, "regions": 64})]
)
def test_detectors_learn_as_one(recipe: str, settings: dict[str, Any]) -> None:
    """Their losses are means over what each process has matched, which is summed up before it divides."""
    how = settings | {"examples": 5, "batch_size": 5, "width": 8, "optimiser": "sgd", "augment": "", "validation": 0.0,
                      "shape": "1x32x32", "precision": "fp32"}  # fmt: skip
    one, *ranks = (of_recipe(recipe, "digit-scenes", **how).task for _ in range(3))
    sums = Sums(2)

    def step(task: Any, rank: int = -1) -> dict[str, Tensor]:
        if rank >= 0:
            task.data, task.learn = Shard(task.data, rank, 2), JointLearning(task.model, sums.of(rank), rank == 0)
        task.model.train()
        return dict(task.update(task.data.at(0, 0), task.optimizers()))

    alone = step(one)
    with ThreadPoolExecutor(2) as threads:
        joint, _ = threads.map(step, ranks, range(2))
    for name, value in alone.items():
        assert float(joint[name]) == pytest.approx(float(value), rel=1e-5), name
    for name, tensor in one.model.state_dict().items():
        assert torch.allclose(ranks[1].model.state_dict()[name], tensor, rtol=0, atol=1e-6), name


@pytest.mark.parametrize(
    ("number", "says", "model", "settings"),
    [
        (signal.SIGSTOP, r"rank 1 \(.*, process \d+\) did not answer within 3 s", "rnn-lm", STREAMS),
        pytest.param(signal.SIGKILL, "rank 1 was ended by signal 9", "lenet", SMALL, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, "rank 1 was ended by signal 9", "lenet", DIVIDED, marks=pytest.mark.slow),
        pytest.param(
            signal.SIGSTOP, "rank 1 .* did not answer", "transformer-lm", DIVIDED_TEXT, marks=pytest.mark.slow
        ),
    ],
)
def test_lost_ranks_are_named_and_made_good(
    number: int, says: str, model: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A paused or killed peer ends the session by name; resumed, the run comes to the same bits, carried states too."""
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    monkeypatch.setenv(TIMEOUT, "3")
    monkeypatch.setattr(data_parallel, "LEAVING", 0.5)
    steps = 0

    def hit(progress: Any, metrics: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 4:
            psutil.Process().children()[-1].send_signal(number)

    rlab.train(model, name="whole", workers=2, **settings)
    with pytest.raises(LostRank, match=says):
        rlab.train(model, name="cut", workers=2, on_step=hit, **settings)
    rlab.resume("cut")
    assert final("cut").keys() == final("whole").keys()
    assert all(torch.equal(tensor, final("cut")[name]) for name, tensor in final("whole").items())
    assert find_run("cut").config()["config"]["fit"]["workers"] == 2


@pytest.mark.slow
def test_torchrun_restarts_from_a_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A killed process ends all; torchrun starts them anew, and the run comes to the same bits."""
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    how = SMALL | {"epochs": 12}
    rlab.train("lenet", name="whole", workers=2, **how)
    flags = [word for name, value in how.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "--max-restarts", "2", "-m", "rlab", "train", "lenet", "--name", "wide", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as agent:
        try:
            checkpoints = tmp_path / "wide" / "checkpoints"
            while agent.poll() is None and not (checkpoints.is_dir() and len([*checkpoints.iterdir()]) > 1):
                time.sleep(0.05)
            ranks = {child.environ().get("RANK"): child for child in psutil.Process(agent.pid).children()}
            ranks["1"].kill()
            said = agent.communicate()[0]
        finally:
            agent.kill()
    assert agent.returncode == 0, said
    assert all(torch.equal(tensor, final("wide")[name]) for name, tensor in final("whole").items())
    assert len(find_run("wide").environment()["sessions"]) == 2, "the second one went on from a checkpoint"


def test_ranks_that_always_die_end_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    assert main(["train", "lenet", "--data", "digits", "--epochs", "1", "--name", "alone", "--threads", "1"]) == 0
    monkeypatch.setattr(data_parallel, "FOLLOWER", (sys.executable, "-c", "raise SystemExit(3)"))
    assert main(["resume", "alone", "--epochs", "2", "--workers", "2"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "rank 1 ended with status 3 before it began to learn; after 3 new starts the run ends here" in said
    assert "not bit-exact from here: 1 processes learned together before, and 2 do now" in said
    for flags, why in (
        (["--workers", "1"], "--shard divides a model among processes, and there is one; nearest: --workers 2"),
        (
            ["--workers", "2", "--optimiser", "lbfgs", "--weight-decay", "0"],
            "and lbfgs does not; nearest: --optimiser adamw",
        ),
    ):
        assert main(["train", "lenet", "--data", "digits", "--epochs", "1", "--name", "whole", "--shard", *flags]) == 1
        assert why in " ".join(capsys.readouterr().err.split())
    assert main(["train", "gan", "--data", "digits", "--epochs", "1", "--name", "gan", "--workers", "2"]) == 1
    assert "'gan' learns in one process" in capsys.readouterr().err
    assert not (tmp_path / "gan").exists()
