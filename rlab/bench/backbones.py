"""The same encoder in several worlds, for the same minutes: what each is worth, what it costs, and whether it travels.

Every cell is an ordinary run (`rlab train ... --minutes 1`) in the benchmark's folder, so that it can be looked at,
resumed and continued; the table is read off their evaluations.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rlab.compare.processes import Job, Pool, Row, View
from rlab.errors import RlabError, nearest
from rlab.machine import cores
from rlab.run.contract import Stop
from rlab.run.files import disk_error, make_folder, read_json, refuse_links, replace_durably, to_json
from rlab.run.folder import Lock, RunFolder, runs_dir
from rlab.stats import student

SCHEMA = 1

BATCH = 64
"""Images of a batch whose time is measured."""

ROUNDS = 5
"""Measurements of a time, of which the median counts."""


@dataclass(frozen=True)
class World:
    """Something to be learned from images.

    Attributes:
        recipe, on, name: as after `rlab train RECIPE --ON NAME`.
        shape: of an image.
        outputs: classes or actions.
        measure: what a score is.
        settings: of its runs.
    """

    recipe: str
    on: str
    name: str
    shape: tuple[int, int, int]
    outputs: int
    measure: str
    settings: dict[str, Any] = field(default_factory=dict)


PART = {"examples": 20_000}
"""So many training images that one minute is several epochs for most."""

WORLDS = {
    "mnist": World("lenet", "data", "mnist", (1, 28, 28), 10, "accuracy in percent", PART),
    "fashion": World("lenet", "data", "fashion_mnist", (1, 28, 28), 10, "accuracy in percent", PART),
    "nuclei": World("lenet", "data", "dsb2018", (3, 96, 96), 2, "mean IoU in percent"),
    "go": World("lenet", "data", "go_moves", (16, 9, 9), 82, "next moves in percent", PART),
    "minatar": World("pqn", "env", "MinAtar/Breakout", (4, 10, 10), 3, "mean return"),
    "atari": World("pqn", "env", "Breakout", (4, 84, 84), 4, "mean return"),
}

SMALL_WORLDS = ("mnist", "fashion", "nuclei", "go", "minatar")

SMALL = ("lenet5", "lenet5+group", "resnet20+group", "plain20+group", "impala", "resnet")
"""At most a million parameters each in every world of the small benchmark."""

FULL = (*SMALL, "resnet56+group", "resnet18-gn", "mobilenet-v1+group", "mobilenet-v2+group", "densenet121+group",
        "googlenet+group", "vgg11-bn", "alexnet")  # fmt: skip

TRIPS = (("fashion", "minatar"), ("minatar", "fashion"), ("fashion", "mnist"))
"""From where, to where. Images are given the shape of the game's observations."""

MODES: dict[str, dict[str, Any]] = {
    "from scratch": {},
    "fine-tuned": {"encoder": "RUN"},
    "frozen": {"encoder": "RUN", "freeze": True},
}
COMMON = "4x10x10"
"""The shape in which all worlds of a trip are seen."""


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    encoders: tuple[str, ...] = SMALL
    worlds: tuple[str, ...] = SMALL_WORLDS
    seeds: int = 3
    minutes: float = 1.0
    transfer: bool = True
    traveller: str = "impala"
    """The encoder that is carried between worlds."""

    def __post_init__(self) -> None:
        from rlab.nn.encoders import ENCODERS, load_all
        from rlab.nn.encoders.modifiers import split_name

        load_all()
        for world in self.worlds:
            if world not in WORLDS:
                raise RlabError(f"there is no world '{world}'; {nearest(world, WORLDS)}")
        for encoder in (*self.encoders, self.traveller):
            ENCODERS.get(split_name(encoder)[0])
        for what, names in (("encoder", self.encoders), ("world", self.worlds)):
            if not names:
                raise RlabError(f"name at least one {what}")
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise RlabError(f"{what} '{twice[0]}' is named twice")
        if self.seeds < 1 or not 0 < self.minutes < 1e6:
            raise RlabError(f"--seeds is {self.seeds} and --minutes {self.minutes:g}; both must be more than 0")


def measure(plan: Plan, name: str, at_once: int | None, stop: Stop, view: View) -> dict[str, Any]:
    """Do what is not done yet, and put the numbers together.

    Args:
        plan: what is measured.
        name: of the folder under the runs folder; one of the same plan goes on.
        at_once: runs at a time, of one thread each; None: as many as there are cores.
        stop: polled.
        view: shows the runs.

    Returns:
        JSON: ``cells`` (encoder, world, scores over seeds, mean, low, high), ``costs`` (of each encoder in each
        world), ``trips`` (from, to, how, scores), the plan and the machine; also written to ``backbones.json``.

    Raises:
        RlabError: the folder holds another plan, or is being worked on, or a run failed.
    """
    folder = runs_dir() / name
    definition = {"schema": SCHEMA, "plan": asdict(plan)}
    stored = folder / "plan.json"
    refuse_links(folder)
    if stored.is_file() and read_json(stored) != _plain(definition):
        raise RlabError(f"{folder} holds another plan than this one; take another --name")
    try:
        make_folder(folder)
        replace_durably(stored, to_json(definition))
    except OSError as e:
        raise disk_error(e, folder) from None
    lock = Lock(folder / "lock")
    try:
        pool = Pool(folder, 1, at_once or cores(), stop, view)
        rows = pool.run(_cells(plan))
        trips = _trips(plan, folder, pool, stop) if plan.transfer and not stop.requested else []
        failed = [f"{row.job.name}: {row.error}" for row in [*rows, *trips] if row.state == "failed"]
        if failed:
            raise RlabError(f"{len(failed)} of {len(rows) + len(trips)} runs failed, the first {failed[0]}")
        result = _result(plan, rows, trips)
        replace_durably(folder / "backbones.json", to_json(result))
    except OSError as e:
        raise disk_error(e, folder) from None
    finally:
        lock.release()
    return result | {"folder": str(folder), "finished": all(row.state == "finished" for row in [*rows, *trips])}


def _plain(definition: dict[str, Any]) -> Any:
    """As JSON gives it back."""
    import json

    return json.loads(to_json(definition))


def _cells(plan: Plan) -> list[Job]:
    return [_job(encoder, WORLDS[world], world, seed, plan.minutes)
            for seed in range(plan.seeds) for world in plan.worlds for encoder in plan.encoders]  # fmt: skip


def _job(
    encoder: str, world: World, label: str, seed: int, minutes: float = 0.0, more: dict[str, Any] | None = None
) -> Job:
    """A run of an encoder in a world; `more` stands in for any of its settings, the encoder (by a run) too."""
    settings = world.settings | {"encoder": encoder} | (more or {})
    return Job(f"{label}-{encoder}-s{seed}", world.recipe, world.name, seed, 0, settings, world.on, minutes)


def _trips(plan: Plan, folder: Path, pool: Pool, stop: Stop) -> list[Row]:
    """First what is learned at home and from scratch, for the same minutes; then, in as many updates, with that."""
    first = [
        job
        for seed in range(plan.seeds)
        for world in sorted({place for trip in TRIPS for place in trip})
        for job in [
            _job(plan.traveller, WORLDS[world], f"trip-{world}", seed, plan.minutes, _shape_settings(WORLDS[world]))
        ]
    ]
    rows = pool.run(first)
    if stop.requested or any(row.state != "finished" for row in rows):
        return rows
    second = []
    for seed in range(plan.seeds):
        for home, away in TRIPS:
            for mode, how in MODES.items():
                if how:
                    world = WORLDS[away]
                    done = RunFolder(folder / f"trip-{away}-{plan.traveller}-s{seed}").config()["config"]
                    part, budget = ("env", "steps") if world.on == "env" else ("fit", "epochs")
                    start = str(folder.resolve() / f"trip-{home}-{plan.traveller}-s{seed}")
                    settings = _shape_settings(world) | how | {"encoder": start, budget: done[part][budget]}
                    label = f"trip-{home}-{away}-{mode}"
                    second.append(_job(plan.traveller, world, label, seed, more=settings))
    return rows + pool.run(second)


def _shape_settings(world: World) -> dict[str, Any]:
    return {"shape": COMMON} if world.on == "data" else {}


def _result(plan: Plan, rows: Sequence[Row], trips: Sequence[Row]) -> dict[str, Any]:
    from rlab.run.provenance import git_state, processor, versions

    scores = {row.job.name: row.score for row in [*rows, *trips] if row.state == "finished"}
    cells = [
        {"encoder": encoder, "world": world, "measure": WORLDS[world].measure}
        | _spread(scores, (f"{world}-{encoder}-s{seed}" for seed in range(plan.seeds)))
        for encoder in plan.encoders
        for world in plan.worlds
    ]
    travelled = [
        {"from": home, "to": away, "how": mode, "encoder": plan.traveller, "measure": WORLDS[away].measure}
        | _spread(scores, (_trip_name(plan.traveller, home, away, mode, how, seed) for seed in range(plan.seeds)))
        for home, away in (TRIPS if plan.transfer else ())
        for mode, how in MODES.items()
    ]
    return {
        "schema": SCHEMA,
        "plan": asdict(plan),
        "cells": cells,
        "costs": [costs(encoder, world) for encoder in plan.encoders for world in plan.worlds],
        "trips": travelled,
        "machine": {"processor": processor(), "versions": versions(), "git": git_state()},
        "written": time.time(),
    }


def _trip_name(traveller: str, home: str, away: str, mode: str, how: dict[str, Any], seed: int) -> str:
    return f"trip-{home}-{away}-{mode}-{traveller}-s{seed}" if how else f"trip-{away}-{traveller}-s{seed}"


def _spread(scores: dict[str, float | None], names: Iterable[str]) -> dict[str, Any]:
    """Scores over seeds with their mean and Student's interval; None where there are too few."""
    known = [score for name in names if (score := scores.get(name)) is not None]
    low, high = student(known) if len(known) >= 3 else (None, None)
    return {"scores": known, "mean": statistics.mean(known) if known else None, "low": low, "high": high}


def network_of(encoder: str, world: str) -> Any:
    """An encoder with a world's head."""
    from rlab.nn.models import classifier, segmenter

    place = WORLDS[world]
    return (segmenter if world == "nuclei" else classifier)(encoder, place.shape, place.outputs)


def costs(encoder: str, world: str) -> dict[str, Any]:
    """What an encoder with the world's head takes, in float32 on one thread.

    Returns:
        parameters; multiply_adds of an image going forward; forward_per_s and train_per_s, images a second, the median
        of 5 batches of 64; and memory, bytes that an image leaves for the way back.
    """
    import torch

    from rlab.nn.models import multiply_adds

    place = WORLDS[world]
    torch.manual_seed(0)
    network = network_of(encoder, world)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    x, kept = torch.rand(BATCH, *place.shape), []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append((tensor.data_ptr(), tensor.numel() * tensor.element_size()))
        return tensor

    def train() -> None:
        network(x).float().square().mean().backward()

    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            train()
        own = {p.data_ptr() for p in [*network.parameters(), x]}
        saved = {place: size for place, size in kept if place not in own}
        with torch.no_grad():
            forward = _rate(lambda: network(x))
        trained = _rate(train)
    finally:
        torch.set_num_threads(threads)
    return {
        "encoder": encoder,
        "world": world,
        "parameters": sum(p.numel() for p in network.parameters()),
        "multiply_adds": multiply_adds(network, place.shape),
        "forward_per_s": forward,
        "train_per_s": trained,
        "memory": sum(saved.values()) // BATCH,
    }


def _rate(call: Callable[[], Any]) -> float:
    """Images a second."""
    call()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return BATCH / statistics.median(times)
