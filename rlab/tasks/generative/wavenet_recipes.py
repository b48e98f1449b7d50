"""The recipe of WaveNet; torch is imported when it is built."""

from __future__ import annotations

from typing import Any

from rlab.data.catalog import DATASETS
from rlab.registry import RECIPES, Recipe
from rlab.run.config import RunConfig
from rlab.tasks.config import FitConfig
from rlab.tasks.generative.wavenet_config import WaveDataConfig, WaveNetConfig, WaveNetExperiment
from rlab.tasks.sequence.recipes import note_files, sequences_of

SMALL = "tones"
"""The data set of short recordings, for which a small network is enough."""


def default_wavenet(data: str) -> WaveNetExperiment:
    """The settings that a WaveNet starts from on a data set."""
    name = data or SMALL
    examples = DATASETS.get(name).examples
    pace = max(examples, 500)
    run = RunConfig(evaluate_steps=pace, checkpoint_steps=pace, log_steps=max(1, pace // 20))
    small = name == SMALL
    model = WaveNetConfig(width=16, skip=32, layers=8, condition=16, places=16) if small else WaveNetConfig()
    fit = FitConfig(
        epochs=40 if small else 20,
        batch_size=8 if small else 4,
        learning_rate=5e-3 if small else 3e-3,
        weight_decay=0.0,
        max_grad_norm=1.0,
        precision="fp32",
    )
    return WaveNetExperiment(run, WaveDataConfig(data=name), model, fit)


def describe(experiment: WaveNetExperiment) -> dict[str, str]:
    """Describe a run, as `rlab train` prints it before it starts: label -> text."""
    part, model = experiment.data, experiment.model
    held_out = f"{100 * part.validation:g} % held out" if part.validation else "nothing held out"
    return {
        "data": f"{part.data}, {experiment.fit.epochs} epochs, {held_out}",
        "field": f"{model.field:,} samples, {len(model.dilations)} layers of {model.width}",
    }


def build_wavenet(experiment: WaveNetExperiment, context: Any) -> Any:
    """Build the Learner of a WaveNet.

    Raises:
        RlabError: the data are no recordings.
    """
    import torch

    from rlab.nn.optim import decayed, make_optimiser
    from rlab.nn.precision import use_bf16
    from rlab.nn.wavenet import WaveNet
    from rlab.seeding import derive
    from rlab.tasks.generative.wavenet import WaveModelling
    from rlab.tasks.recipes import fused
    from rlab.tasks.trainer import Trainer

    run, settings, fit = experiment.run, experiment.model, experiment.fit
    data = sequences_of(experiment.data, run.seed, ("waves",), {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(run.seed, "network"))
        model = WaveNet(
            settings.dilations,
            settings.width,
            settings.skip,
            len(data.classes),
            len(data.speakers),
            settings.places,
            settings.condition,
        )
    task = WaveModelling(
        data,
        model,
        make_optimiser(fit.optimiser, decayed(model, fit.weight_decay), lr=fit.learning_rate, **fused(fit.optimiser)),
        window=experiment.data.window,
        batch_size=fit.batch_size,
        label_smoothing=fit.label_smoothing,
        bf16=use_bf16(fit.precision, torch.device(context.device), False),
        max_grad_norm=fit.max_grad_norm,
        seed=derive(run.seed, "batches"),
        device=context.device,
    )
    return Trainer(task, fit, run.seed, context.device)


RECIPES.register("wavenet")(
    Recipe(
        "sound, sample by sample, of a class and a speaker (van den Oord et al. 2016)",
        default_wavenet,
        build_wavenet,
        subject=("data",),
        unit="examples",
        budget="fit.epochs",
        describe=describe,
        family="autoencoders and generative models",
        takes=("waves",),
        shown_by="sample",
        memory_hint="take a smaller --batch-size, --window or --width",
        warm_start=lambda experiment: (note_files(experiment), None),
    )
)
