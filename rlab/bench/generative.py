"""Generative models by one measure: each trained for the same minutes, its samples held against real test data.

Every run is an ordinary one (`rlab train ... --minutes M`) in the benchmark's folder, so that it can be looked at,
resumed and continued. What is measured of a run's samples is kept beside it: a stopped benchmark goes on where it was.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlab.compare.processes import Job, Pool, Row, View
from rlab.data.catalog import DATASETS
from rlab.errors import RlabError, nearest
from rlab.machine import cores
from rlab.run.contract import Samples, SamplesOfClasses, Stop, Stopped, ability
from rlab.run.files import disk_error, make_folder, read_json, refuse_links, replace_durably, to_json
from rlab.run.folder import Lock, RunFolder, runs_dir
from rlab.stats import student

SCHEMA = 1

MODELS: dict[str, dict[str, Any]] = {
    "autoencoder": {},
    "vae": {"conditional": True},
    "gan": {"conditional": True},
    "dcgan": {"conditional": True},
    "wgan-gp": {"conditional": True},
    "flow": {"conditional": True},
    "ddpm": {"conditional": True},
}
"""Recipe -> settings of its runs. Samples of a class are wanted, so that a classifier can learn from them."""

DATA = ("mnist", "fashion_mnist")

CHUNK = 500
"""Samples that are drawn between two looks at whether to stop."""

COMPARED = 3_000
"""Samples, and test examples, of which precision and recall are computed: that takes their number squared."""

EPOCHS = 8
"""Of the classifier that learns from samples."""

MEASURES = {
    "fid": "FID",
    "kid": "KID x 1000",
    "precision": "precision",
    "recall": "recall",
    "classifier": "classifier %",
}
"""Name of a number of a run -> its title."""


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    models: tuple[str, ...] = tuple(MODELS)
    data: tuple[str, ...] = DATA
    seeds: int = 3
    minutes: float = 10.0
    samples: int = 10_000

    def __post_init__(self) -> None:
        from rlab.recipes import load_recipes

        recipes = load_recipes()
        for model in self.models:
            if model not in MODELS:
                raise RlabError(f"there is no generative model '{model}' to measure; {nearest(model, MODELS)}")
            recipes.get(model)
        for what, names in (("model", self.models), ("data set", self.data)):
            if not names:
                raise RlabError(f"name at least one {what}")
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise RlabError(f"{what} '{twice[0]}' is named twice")
        for name in self.data:
            if (kind := DATASETS.get(name).kind) != "images":
                raise RlabError(f"data set '{name}' is of kind {kind}, and generative models are compared on images; "
                                "nearest: --data digits")  # fmt: skip
        if self.seeds < 1 or not 0 < self.minutes < 1e6 or self.samples < 100:
            raise RlabError(
                f"--seeds is {self.seeds}, --minutes {self.minutes:g} and --samples {self.samples}; they must be at "
                "least 1, more than 0 and at least 100"
            )


def measure(plan: Plan, name: str, at_once: int | None, stop: Stop, view: View, say: Callable[[str], None]) -> Any:
    """Do what is not done yet, and put the numbers together.

    Args:
        plan: what is measured.
        name: of the folder under the runs folder; one of the same plan goes on.
        at_once: runs at a time, of one thread each; None: as many as there are cores.
        stop: polled.
        view: shows the runs.
        say: told whose samples are measured.

    Returns:
        JSON: ``rows`` (model, data, and of each measure the values over seeds with mean, low, high), ``floors`` (of
        each data set those of training examples in place of samples), the plan and the machine; also in
        ``generative.json``.

    Raises:
        RlabError: the folder holds another plan, or is being worked on, or a run failed.
    """
    folder = runs_dir() / name
    definition = {"schema": SCHEMA, "plan": asdict(plan)}
    stored = folder / "plan.json"
    refuse_links(folder)
    if stored.is_file() and read_json(stored) != json.loads(to_json(definition)):
        raise RlabError(f"{folder} holds another plan than this one; take another --name")
    try:
        make_folder(folder)
        replace_durably(stored, to_json(definition))
        lock = Lock(folder / "lock")
        try:
            return _measure(plan, folder, at_once, stop, view, say)
        finally:
            lock.release()
    except OSError as e:
        raise disk_error(e, folder) from None


def _measure(
    plan: Plan, folder: Path, at_once: int | None, stop: Stop, view: View, say: Callable[[str], None]
) -> dict[str, Any]:
    jobs = [
        Job(_name(model, data, seed), model, data, seed, 0, MODELS[model], "data", plan.minutes)
        for seed in range(plan.seeds)
        for data in plan.data
        for model in plan.models
    ]
    rows = Pool(folder, 1, at_once or cores(), stop, view).run(jobs)
    failed = [f"{row.job.name}: {row.error}" for row in rows if row.state == "failed"]
    if failed:
        raise RlabError(f"{len(failed)} of {len(rows)} runs failed, the first {failed[0]}")
    finished = all(row.state == "finished" for row in rows)
    numbers: dict[str, dict[str, Any]] = {}
    if finished:
        try:
            numbers = {row.job.name: _once(row, folder, plan, stop, say) for row in rows}
            numbers |= {data: _floor(data, folder, plan, stop, say) for data in plan.data}
        except Stopped:
            finished = False
    result = _result(plan, numbers) | {"folder": str(folder), "finished": finished}
    if finished:
        replace_durably(folder / "generative.json", to_json(result))
    return result


def _name(model: str, data: str, seed: int) -> str:
    return f"{data}-{model}-s{seed}"


def _once(row: Row, folder: Path, plan: Plan, stop: Stop, say: Callable[[str], None]) -> dict[str, Any]:
    """The numbers of a finished run, measured if they are not there yet."""
    file = folder / f"{row.job.name}.json"
    if file.is_file():
        numbers: dict[str, Any] = read_json(file)
        return numbers
    say(f"samples of {row.job.name}")
    numbers = run_numbers(RunFolder(folder / row.job.name), plan.samples, row.job.seed, stop)
    replace_durably(file, to_json(numbers))
    return numbers


def _floor(data: str, folder: Path, plan: Plan, stop: Stop, say: Callable[[str], None]) -> dict[str, Any]:
    """The numbers of training examples in place of samples: what a model that knows the data by heart would reach."""
    file = folder / f"{data}-floor.json"
    if file.is_file():
        numbers: dict[str, Any] = read_json(file)
        return numbers
    say(f"training examples of {data}")
    from rlab.data.datasets import load

    dataset = load(data, 0, 0.0)
    items = dataset.items("train")[: plan.samples]
    numbers = sample_numbers(dataset.x[items], dataset.y[items], dataset, 0, stop)
    replace_durably(file, to_json(numbers))
    return numbers


def run_numbers(folder: RunFolder, samples: int, seed: int, stop: Stop) -> dict[str, Any]:
    """Measure the samples of a run, on test data; all numbers are None of one that has learned nothing to sample from.

    Args:
        folder: the run.
        samples: how many are drawn, of a conditional run of every class as many.
        seed: of the draws.
        stop: polled.

    Raises:
        Stopped: a stop was requested.
    """
    import numpy as np
    import torch

    from rlab import api

    with api.load(folder, "cpu") as loaded:
        task: Any = ability(loaded.learner, Samples)
        if task is None:
            return dict.fromkeys(MEASURES)
        dataset = task.dataset
        classes = task.turns if isinstance(task, SamplesOfClasses) else 0
        drawn: list[np.ndarray] = []
        labels: list[int] = []
        for number, (count, label) in enumerate(_portions(samples, classes)):
            if stop.requested:
                raise Stopped
            stop.tell(len(labels), samples)
            more = {} if label is None else {"label": label}
            drawn.append(task.sample(count, 1_000 * seed + number, **more))
            labels += [-1 if label is None else label] * count
        x = torch.from_numpy(np.concatenate(drawn))
    return sample_numbers(x, torch.tensor(labels) if classes else None, dataset, seed, stop)


def _portions(samples: int, classes: int) -> list[tuple[int, int | None]]:
    """(how many, of which class) at a time."""
    parts: list[tuple[int, int | None]] = []
    labels: Sequence[int | None] = range(classes) if classes else [None]
    for label in labels:
        left = samples // max(classes, 1)
        while left > 0:
            parts.append((min(CHUNK, left), label))
            left -= CHUNK
    return parts


def sample_numbers(x: Any, y: Any, dataset: Any, seed: int, stop: Stop) -> dict[str, Any]:
    """Measure samples x[n, *shape] as the data set has them, with classes y int64[n] or None.

    Returns:
        fid, kid (both on the lab's features, which are not Inception's), precision, recall (0..1), and classifier: the
        accuracy in percent on real test data of a LeNet-5 that has learned from the samples alone (Ravuri & Vinyals
        2019); None without classes.

    Raises:
        Stopped: a stop was requested.
    """
    import torch

    from rlab.data.datasets import as_float
    from rlab.tasks.generative.scores import Scorer, frechet, kernel_distance, moments, precision_recall

    scorer = Scorer(dataset, torch.device("cpu"))
    real = scorer.real("test", stop)
    fake = scorer.embed(as_float(x), stop)
    generator = torch.Generator().manual_seed(0)
    few, some = (rows[torch.randperm(len(rows), generator=generator)[:COMPARED]] for rows in (fake, real.features))
    precision, recall = precision_recall(few, some)
    return {
        "fid": frechet(moments(fake), real.moments),
        "kid": 1_000 * kernel_distance(fake, real.features)[0],
        "precision": precision,
        "recall": recall,
        "classifier": None if y is None else classifier_accuracy(x, y, dataset, seed, stop),
        "features": scorer.features,
        "samples": len(x),
    }


def classifier_accuracy(x: Any, y: Any, dataset: Any, seed: int, stop: Stop) -> float:
    """Train LeNet-5 on samples x[n, *shape] with classes y[n]; its accuracy in percent on the set's test examples.

    Raises:
        Stopped: a stop was requested.
    """
    import torch

    from rlab.data.datasets import TensorDataset
    from rlab.nn.models import classifier
    from rlab.nn.optim import make_optimiser
    from rlab.seeding import derive
    from rlab.tasks.classification import Classification
    from rlab.tasks.config import FitConfig
    from rlab.tasks.trainer import Trainer

    test = dataset.items("test")
    together = TensorDataset(
        f"samples of {dataset.name}",
        "images",
        torch.cat([x, dataset.x[test]]),
        torch.cat([y, dataset.y[test]]),
        dataset.classes,
        {"train": torch.arange(len(x)), "test": torch.arange(len(x), len(x) + len(test))},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "classifier"))
        model = classifier("lenet5", dataset.shape, len(dataset.classes))
    fit = FitConfig(epochs=EPOCHS, precision="fp32")
    optimiser = make_optimiser(fit.optimiser, model.parameters(), lr=fit.learning_rate, weight_decay=fit.weight_decay)
    task = Classification(together, model, optimiser, batch_size=fit.batch_size, seed=derive(seed, "batches"))
    trainer = Trainer(task, fit, seed, "cpu")
    try:
        while not trainer.progress().finished:
            if stop.requested:
                raise Stopped
            trainer.step()
        return float(trainer.evaluate(stop)["mean"])
    finally:
        trainer.close()


def _result(plan: Plan, numbers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    from rlab.run.provenance import git_state, processor, versions

    rows = [
        {"model": model, "data": data}
        | {
            measure: _spread([numbers.get(_name(model, data, seed), {}).get(measure) for seed in range(plan.seeds)])
            for measure in MEASURES
        }
        for data in plan.data
        for model in plan.models
    ]
    return {
        "schema": SCHEMA,
        "plan": asdict(plan),
        "rows": rows,
        "floors": {data: numbers.get(data) for data in plan.data},
        "machine": {"processor": processor(), "versions": versions(), "git": git_state()},
        "written": time.time(),
    }


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Values over seeds with their mean and Student's interval; None where there are too few."""
    known = [value for value in values if value is not None]
    low, high = student(known) if len(known) >= 3 else (None, None)
    return {"values": known, "mean": statistics.mean(known) if known else None, "low": low, "high": high}


def table(result: dict[str, Any]) -> str:
    """The numbers as text: a line a model and data set, and the floor that training examples reach."""
    lines = [f"{'data':<15}{'model':<13}" + "".join(f"{title:>22}" for title in MEASURES.values())]
    for data in result["plan"]["data"]:
        for row in result["rows"]:
            if row["data"] == data:
                cells = [_cell(row[measure]) for measure in MEASURES]
                lines.append(f"{data:<15}{row['model']:<13}" + "".join(f"{cell:>22}" for cell in cells))
        floor = result["floors"].get(data) or {}
        cells = [_cell({"mean": floor.get(measure), "low": None}) for measure in MEASURES]
        lines.append(f"{data:<15}{'training data':<13}" + "".join(f"{cell:>22}" for cell in cells))
    plan = result["plan"]
    lines.append(
        f"{plan['minutes']:g} minutes each on one thread, {plan['samples']:,} samples, seeds: {plan['seeds']}; "
        "distances are on rlab's own features, and not comparable to those on Inception's"
    )
    return "\n".join(lines)


def _cell(spread: dict[str, Any]) -> str:
    if spread["mean"] is None:
        return "-"
    interval = "" if spread["low"] is None else f" [{spread['low']:.3g}, {spread['high']:.3g}]"
    return f"{spread['mean']:.3g}{interval}"


def write_picture(result: dict[str, Any]) -> Path:
    """Draw samples of every model beside its FID, a column a data set; return the PNG in the benchmark's folder."""
    from rlab import api
    from rlab.tasks.generative.pictures import sheet
    from rlab.tasks.pictures import png

    folder, plan = Path(result["folder"]), result["plan"]
    models, sets = plan["models"], plan["data"]
    strips = {}
    for data in sets:
        for model in models:
            with api.load(RunFolder(folder / _name(model, data, 0)), "cpu") as loaded:
                task: Any = ability(loaded.learner, Samples)
                strips[data, model] = None if task is None else sheet(task.sample(10, 0), 10)

    def draw(figure: Any) -> None:
        axes = figure.subplots(len(models), len(sets), squeeze=False)
        for row in result["rows"]:
            place = axes[models.index(row["model"]), sets.index(row["data"])]
            picture, fid = strips[row["data"], row["model"]], row["fid"]["mean"]
            place.set(xticks=[], yticks=[])
            if picture is not None:
                place.imshow(picture)
            place.set_ylabel(row["model"], fontsize=8)
            said = "does not sample" if fid is None else f"FID {fid:.3g}"
            place.set_title(f"{row['data']}: {said}", fontsize=8)

    file = folder / "generative.png"
    replace_durably(file, png(draw, (4.6 * len(sets), 0.85 * len(models) + 0.2)))
    return file


def write_features(run: str, file: Path) -> None:
    """Write the encoder of a classifier's run as features for `rlab.tasks.generative.scores`."""
    from safetensors.torch import save_file

    from rlab import api

    with api.load(run, "cpu") as loaded:
        encoder = loaded.learner.task.predictor.encoder
        save_file({name: tensor.contiguous() for name, tensor in encoder.state_dict().items()}, file)
