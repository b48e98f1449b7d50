"""Recipes of GANs, flow matching and diffusion; torch is imported when one is built."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from rlab.data.catalog import DATASETS
from rlab.data.synthetic import MIXTURES
from rlab.errors import RlabError
from rlab.registry import RECIPES, Recipe
from rlab.run.config import RunConfig
from rlab.tasks.config import ExamplesConfig, FitConfig, only_with
from rlab.tasks.generative.diffusion_config import DiffusionConfig, DiffusionExperiment
from rlab.tasks.generative.gan_config import GanConfig, GanExperiment
from rlab.tasks.recipes import describe_data, examples_of, note_files

GANS: dict[str, tuple[str, GanConfig]] = {
    "gan": (
        "generator against discriminator, fully connected (Goodfellow et al. 2014)",
        GanConfig(net="mlp", width=256, generator_norm="none", discriminator_norm="none"),
    ),
    "dcgan": ("GAN of convolutions with BatchNorm (Radford et al. 2016)", GanConfig(net="dcgan", latent=100)),
    "wgan-gp": (
        "Wasserstein GAN with gradient penalty (Gulrajani et al. 2017)",
        GanConfig(loss="wgan-gp", penalty=10.0, discriminator_steps=5, discriminator_norm="none", beta1=0.0, beta2=0.9),
    ),
}
"""Recipe -> (summary, what it starts from on images)."""

DIFFUSIONS = {
    "flow": ("flow matching with a small U-Net (Lipman et al. 2023)", DiffusionConfig()),
    "ddpm": (
        "denoising diffusion with a small U-Net (Ho et al. 2020), sampled by DDIM",
        DiffusionConfig(sampler="ddim"),
    ),
}

SAMPLERS = {"flow": ("euler", "heun"), "ddpm": ("ddim", "ddpm")}


@dataclass(frozen=True)
class Pace:
    """How a kind of data is gone through: epochs, examples of an update, learning rate."""

    epochs: int
    batch_size: int
    rate: float


def _start(name: str, images: Pace, small: Pace, table: Pace) -> tuple[RunConfig, ExamplesConfig, Pace, bool]:
    """(run, data, pace, whether it is images) that a run on a data set starts from."""
    source = DATASETS.get(name)
    is_image = source.kind not in ("table", "series")
    pace = table if not is_image else images if source.examples > 10_000 else small
    examples = max(source.examples or 10_000, 2_000)
    run = RunConfig(evaluate_steps=2 * examples, checkpoint_steps=10 * examples, log_steps=max(1, examples // 4))
    return run, ExamplesConfig(data=name, validation=0.0), pace, is_image


def default_gan(recipe: str, data: str) -> GanExperiment:
    """The settings that a GAN starts from on a data set."""
    name = data or "digits"
    run, part, pace, images = _start(name, Pace(20, 64, 2e-4), Pace(100, 64, 2e-4), Pace(120, 256, 1e-3))
    gan = GANS[recipe][1]
    if not images:
        gan = replace(gan, latent=8, width=128, generator_norm="none", discriminator_norm="none")
    if name in MIXTURES and gan.net == "mlp":
        gan = replace(gan, noise=0.5, octaves=5, beta2=0.9)  # else few modes are found, or none of them sharply
    schedule = "cosine" if name in MIXTURES else "constant"
    fit = FitConfig(
        pace.epochs, pace.batch_size, "adam", pace.rate, schedule=schedule, weight_decay=0.0, precision="fp32"
    )
    return GanExperiment(run, part, gan, fit)


def default_diffusion(recipe: str, data: str) -> DiffusionExperiment:
    """The settings that flow matching or diffusion starts from on a data set."""
    name = data or "digits"
    run, part, pace, _ = _start(name, Pace(10, 128, 1e-3), Pace(60, 64, 1e-3), Pace(60, 256, 2e-3))
    fit = FitConfig(pace.epochs, pace.batch_size, "adamw", pace.rate, weight_decay=0.0, max_grad_norm=1.0)
    return DiffusionExperiment(run, part, DIFFUSIONS[recipe][1], fit)


def _loaded(part: ExamplesConfig, seed: int, conditional: bool) -> Any:
    """The data set, with classes where they are wanted.

    Raises:
        RlabError: it has none.
    """
    data = examples_of(part, seed)
    if conditional and not getattr(data, "classes", None):
        raise RlabError(
            f"data set '{part.data}' has no classes, so samples cannot be of one; nearest: --no-conditional"
        )
    return data


def build_gan(experiment: GanExperiment, context: Any) -> Any:
    """Build the Learner: data, both networks, both optimisers.

    Raises:
        RlabError: the data set is unknown, or the networks do not take it.
    """
    import torch

    from rlab.nn.decoders.dcgan import DcganGenerator, DenseGenerator, dcgan_discriminator, dense_discriminator
    from rlab.nn.optim import make_optimiser
    from rlab.nn.precision import use_bf16
    from rlab.seeding import derive
    from rlab.tasks.generative.gan import Gan
    from rlab.tasks.generative.samples import refuse_constant
    from rlab.tasks.recipes import check_last_batch, fused
    from rlab.tasks.trainer import Trainer

    run, settings, fit = experiment.run, experiment.gan, experiment.fit
    data = _loaded(experiment.data, run.seed, settings.conditional)
    shape, classes = data.shape, len(data.classes) if settings.conditional else 0
    net = settings.net if settings.net != "auto" else "dcgan" if data.kind == "images" else "mlp"
    for field in ("depth", "octaves") if net == "dcgan" else ("strided",):
        value, usual = getattr(settings, field), getattr(GanConfig(), field)
        if value != usual:
            flags = [f"--{'' if one else 'no-'}{field}" if isinstance(one, bool) else f"--{field} {one}"
                     for one in (value, usual)]  # fmt: skip
            raise RlabError(f"{flags[0]} does nothing with --net {net}; nearest: {flags[1]}")
    first, second = settings.generator_norm, settings.discriminator_norm
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(run.seed, "network"))
        generator: Any
        if net == "dcgan":
            generator = DcganGenerator(settings.latent, shape, classes, settings.width, first, settings.strided)
            discriminator = dcgan_discriminator(shape, classes, settings.width, second, settings.leak, settings.strided)
        else:
            generator = DenseGenerator(settings.latent, shape, classes, settings.width, settings.depth, first)
            discriminator = dense_discriminator(
                shape, classes, settings.width, settings.depth, second, settings.leak, settings.octaves
            )
    refuse_constant(data)
    for player in (generator, discriminator):
        check_last_batch(player, len(data.items("train")), fit.batch_size)
    rates = {"generator": fit.learning_rate, "discriminator": settings.discriminator_rate * fit.learning_rate}
    task = Gan(
        data,
        generator,
        discriminator,
        lambda name, parameters: make_optimiser(
            fit.optimiser,
            parameters,
            lr=rates[name],
            betas=(settings.beta1, settings.beta2),
            weight_decay=fit.weight_decay,
            **fused(fit.optimiser),
        ),
        batch_size=fit.batch_size,
        loss=settings.loss,
        smoothing=fit.label_smoothing,
        penalty=settings.penalty,
        penalty_end=settings.penalty_end,
        noise=settings.noise,
        discriminator_steps=settings.discriminator_steps,
        ema=settings.ema,
        ema_part=settings.ema_part,
        conditional=settings.conditional,
        samples=settings.samples,
        bf16=use_bf16(fit.precision, torch.device(context.device), data.kind == "images"),
        max_grad_norm=fit.max_grad_norm,
        seed=derive(run.seed, "batches"),
        device=context.device,
    )
    return Trainer(task, fit, run.seed, context.device)


def build_diffusion(recipe: str, experiment: DiffusionExperiment, context: Any) -> Any:
    """Build the Learner: data, network, process.

    Raises:
        RlabError: the data set is unknown, or the sampler is of the other recipe.
    """
    import torch

    from rlab.nn.optim import decayed, make_optimiser
    from rlab.nn.precision import use_bf16
    from rlab.nn.unet import PointNet, UNet
    from rlab.seeding import derive
    from rlab.tasks.generative.diffusion import Denoising, Diffusion, Flow
    from rlab.tasks.trainer import Trainer

    run, settings, fit = experiment.run, experiment.diffusion, experiment.fit
    if settings.sampler not in SAMPLERS[recipe]:
        raise RlabError(f"--sampler {settings.sampler} does not go with {recipe}; valid: {', '.join(SAMPLERS[recipe])}")
    data = _loaded(experiment.data, run.seed, settings.conditional)
    images, classes = data.kind == "images", len(data.classes) if settings.conditional else 0
    if settings.patch > (largest := max(1, min(data.shape[1:]) // 2) if images else 1):
        what = f"images are {data.shape[1]}x{data.shape[2]}" if images else f"'{data.name}' has no images"
        raise RlabError(f"--patch is {settings.patch}, and {what}; valid: 1{f' to {largest}' if largest > 1 else ''}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(run.seed, "network"))
        network: Any = (
            UNet(data.shape, classes, settings.width, settings.patch)
            if images
            else PointNet(data.shape, classes, 4 * settings.width)
        )
    process: Any = (
        Flow(settings.steps, settings.sampler == "heun")
        if recipe == "flow"
        else Diffusion(settings.timesteps, settings.steps, settings.sampler == "ddpm", 1.0 if images else 0.0)
    )
    task = Denoising(
        data,
        network,
        process,
        make_optimiser(fit.optimiser, decayed(network, fit.weight_decay), lr=fit.learning_rate),
        batch_size=fit.batch_size,
        ema=settings.ema,
        ema_part=settings.ema_part,
        conditional=settings.conditional,
        guidance=settings.guidance,
        dropped=settings.dropped,
        samples=settings.samples,
        bf16=use_bf16(fit.precision, torch.device(context.device), images),
        max_grad_norm=fit.max_grad_norm,
        seed=derive(run.seed, "batches"),
        device=context.device,
    )
    return Trainer(task, fit, run.seed, context.device)


def _begin_gan(experiment: GanExperiment) -> tuple[GanExperiment, None]:
    """Note a user's files; refuse what makes no sense in a new run, though older runs have it.

    Raises:
        RlabError: a Wasserstein GAN without the penalty that makes it one.
    """
    if experiment.gan.loss == "wgan-gp" and not experiment.gan.penalty:
        raise RlabError("--loss wgan-gp bounds its critic by a gradient penalty, and --penalty is 0; nearest: "
                        "--penalty 10")  # fmt: skip
    return note_files(experiment), None


def _begin_diffusion(recipe: str, experiment: DiffusionExperiment) -> tuple[DiffusionExperiment, None]:
    """Do the same for flow matching and diffusion.

    Raises:
        RlabError: a setting would do nothing.
    """
    if not experiment.diffusion.conditional:
        only_with(experiment.diffusion, "--conditional", "dropped")
    if recipe == "flow":
        only_with(experiment.diffusion, "the recipe ddpm", "timesteps")
    return note_files(experiment), None


def _register(name: str, summary: str, default: Any, build: Any, begin: Any) -> None:
    RECIPES.register(name)(
        Recipe(
            summary,
            default,
            build,
            subject=("data",),
            unit="examples",
            budget="fit.epochs",
            describe=describe_data,
            family="autoencoders and generative models",
            takes=("images",) if name == "dcgan" else ("images", "table"),
            memory_hint="take a smaller --batch-size or --width",
            warm_start=begin,
        )
    )


for _name in GANS:
    _register(_name, GANS[_name][0], partial(default_gan, _name), build_gan, _begin_gan)
for _name in DIFFUSIONS:
    _register(
        _name, DIFFUSIONS[_name][0], partial(default_diffusion, _name), partial(build_diffusion, _name),
        partial(_begin_diffusion, _name),
    )  # fmt: skip
