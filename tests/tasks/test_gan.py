"""GANs, flow matching and diffusion: their equations by hand, and their runs (items 256, 257, 258, 259 and 262)."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import rlab
from rlab.cli import main, sample_images
from rlab.data.catalog import DATASETS, DataSource
from rlab.data.datasets import load
from rlab.data.readers import Arrays
from rlab.data.synthetic import MIXTURES
from rlab.errors import RlabError
from rlab.nn.decoders.dcgan import DcganGenerator, dcgan_discriminator, stages
from rlab.nn.unet import UNet
from rlab.recipes import load_recipes
from rlab.run.checkpoint import digest
from rlab.run.config import changed
from rlab.run.contract import NonFinite, Samples, Stop
from rlab.run.health import RULES, Health
from rlab.tasks.generative.diffusion import Diffusion, Flow, cosine_schedule
from rlab.tasks.generative.gan import (
    discriminator_loss,
    generator_loss,
    gradient_norms,
    gradient_penalty,
    penalty_factor,
)
from rlab.tasks.generative.gan_recipes import DIFFUSIONS, GANS
from rlab.tasks.generative.samples import FRAMES, History
from rlab.tasks.trainer import Trainer
from tests.checkpoints import from_file
from tests.tasks.test_trainer import of_recipe

SMALL: dict[str, dict[str, Any]] = {
    "gan": {"width": 16, "depth": 1, "latent": 4},
    "dcgan": {"width": 4, "latent": 4},
    "wgan-gp": {"width": 4, "latent": 4, "discriminator_steps": 2},
    "flow": {"width": 8, "steps": 2},
    "ddpm": {"width": 8, "steps": 2},
}
"""Recipe -> settings of a tiny run on images."""

by_recipe = pytest.mark.parametrize("recipe", SMALL)


def tiny(recipe: str, data: str = "digits", **settings: Any) -> Trainer:
    usual = {"batch_size": 64, "epochs": 2, "samples": 64, "examples": 150}
    return of_recipe(recipe, data, **usual | SMALL[recipe] | settings)


def planted(name: str, x: np.ndarray, kind: str = "images") -> str:
    """Register a data set of inputs, half of them of either class."""
    arrays = Arrays(x, np.arange(len(x)) % 2, ("a", "b"))
    if name not in DATASETS:
        DATASETS.register(name)(DataSource(kind, "planted", "ours", "https://none", lambda read: arrays))
    return name


# Equations --------------------------------------------------------------------------------------------------------


def test_penalty_is_of_each_samples_whole_gradient() -> None:
    """D = sum of x on 1x28x28 has a gradient of norm 28 everywhere: (28 - 1)^2 = 729."""
    x, fake = torch.rand(3, 1, 28, 28), torch.rand(3, 1, 28, 28)
    penalty = gradient_penalty(lambda x: x.flatten(1).sum(1), x, fake, torch.rand(3))
    assert penalty.item() == pytest.approx(729, rel=1e-5)
    assert gradient_norms(lambda x: x.flatten(1).sum(1), x.requires_grad_()).tolist() == pytest.approx([28] * 3)


def test_each_pair_is_mixed_by_its_own_share() -> None:
    seen = []

    def critic(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.flatten(1).sum(1)

    gradient_penalty(critic, torch.ones(2, 1, 2, 3), torch.zeros(2, 1, 2, 3), torch.tensor([0.25, 0.75]))
    assert seen[0].flatten(1).tolist() == [[0.25] * 6, [0.75] * 6]


def test_losses_by_hand() -> None:
    """Items 256 and 257: real is what comes from the data. Where D is sure of a fake, minimax gives no gradient."""
    real, fake = torch.tensor([2.0]), torch.tensor([-1.0])
    right = -math.log(1 / (1 + math.exp(-2))) - math.log(1 - 1 / (1 + math.exp(1)))
    for kind in ("minimax", "non-saturating"):
        assert discriminator_loss(kind, real, fake).item() == pytest.approx(right)
    assert discriminator_loss("non-saturating", real, fake, 0.1).item() == pytest.approx(right + 0.1 * 2)
    assert discriminator_loss("hinge", real, fake).item() == 0
    assert discriminator_loss("wgan-gp", real, fake).item() == -3
    assert generator_loss("minimax", fake).item() == pytest.approx(math.log(1 - 1 / (1 + math.e)))
    assert generator_loss("non-saturating", fake).item() == pytest.approx(math.log(1 + math.e))
    assert generator_loss("hinge", fake).item() == generator_loss("wgan-gp", fake).item() == 1
    slopes = {}
    for kind in ("minimax", "non-saturating"):
        sure = torch.tensor([-10.0], requires_grad=True)
        generator_loss(kind, sure).backward()
        slopes[kind] = abs(sure.grad.item())  # type: ignore[union-attr]
    assert slopes == {"minimax": pytest.approx(4.54e-5, rel=1e-2), "non-saturating": pytest.approx(1, rel=1e-3)}


def test_discriminator_that_cannot_tell_has_loss_of_two_logs_of_2() -> None:
    """Item 258: at the optimum D is 1/2 for all."""
    nothing = torch.zeros(5)
    assert discriminator_loss("minimax", nothing, nothing).item() == pytest.approx(2 * math.log(2))


def test_relativistic_loss_compares_pairs_by_hand() -> None:
    """Only differences within a pair count: here they are 3 and -1, whatever is added to both logits of a pair."""
    real, fake = torch.tensor([2.0, 5.0]), torch.tensor([-1.0, 6.0])
    told = (math.log(1 + math.exp(-3)) + math.log(1 + math.e)) / 2
    assert discriminator_loss("relativistic", real, fake).item() == pytest.approx(told)
    assert discriminator_loss("relativistic", real, fake, 0.1).item() == pytest.approx(told + 0.1 * (3 - 1) / 2)
    fooled = (math.log(1 + math.exp(3)) + math.log(1 + 1 / math.e)) / 2
    assert generator_loss("relativistic", fake, real).item() == pytest.approx(fooled)
    both = torch.tensor([7.0, -4.0])
    assert discriminator_loss("relativistic", real + both, fake + both).item() == pytest.approx(told)


@pytest.mark.parametrize("conditional", [False, True])
def test_relativistic_penalty_is_of_data_and_samples(conditional: bool) -> None:
    """D = a x^2 / 2 has the squared gradient (a x)^2: at data of 1 and samples of 3 (1 + 9) / 2; a is 2 in class 1."""
    task: Any = tiny("gan", "gaussians-8", loss="relativistic", penalty=1.0, conditional=conditional).task

    class Squares(torch.nn.Module):
        def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
            squares: Tensor = x.square().sum(1) / 2
            return squares if y is None else (1 + y) * squares

    task.modules["discriminator"] = Squares()
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([1]) if conditional else None
    real, fake, penalty = task._both_with_penalty(x, 3 * x, y)
    a = 2 if conditional else 1
    assert (real.item(), fake.item(), penalty.item()) == (a / 2, a * 9 / 2, a**2 * 5)


def test_penalty_falls_with_the_rate() -> None:
    assert penalty_factor(0.1, None, 0.3) == 0.1
    assert [penalty_factor(0.1, 1e-5, share) for share in (1, 0.5, 0)] == pytest.approx([1e-1, 1e-3, 1e-5])
    settings = {"loss": "relativistic", "penalty": 1.0, "penalty_end": 1e-4, "schedule": "cosine", "epochs": 40}
    falls, stays = (tiny("gan", "gaussians-8", **settings | more) for more in ({}, {"penalty_end": None}))
    seen: list[list[float]] = []
    for fit in (falls, stays):
        norms = []
        while not fit.progress().finished:
            metrics = fit.step()
            norms += [metrics["penalty"]] if "penalty" in metrics else []
        seen.append(norms)
    assert seen[0][0] == pytest.approx(seen[1][0], rel=0.1)
    assert seen[0][-1] > 2 * seen[1][-1], "gradients grow where less is asked of them"


def test_noise_begins_small_and_sampling_at_the_last_step() -> None:
    kept = cosine_schedule(1_000)
    assert 1 - kept[0].item() == pytest.approx(4.13e-5, rel=1e-3)
    assert (kept.diff() < 0).all()
    assert 0 < kept[-1] < 1e-8
    for steps in (1, 2, 50, 1_000):
        times = Diffusion(1_000, steps).times
        assert (times[0], len(set(times))) == (999, steps)
        assert steps == 1 or times[-1] == 0


@pytest.mark.parametrize("random", [False, True])
def test_diffusion_gives_back_data_that_the_network_knows(random: bool) -> None:
    """With the true v of one image, any number of steps ends at it; no number is NaN at the first and last step."""
    data, process = torch.tensor([[0.5, -0.25]]), Diffusion(1_000, 20, random)

    def network(x: Tensor, times: Tensor) -> Tensor:
        kept = process.kept[(times * 999).round().long()].float()[:, None]
        noise = (x - kept.sqrt() * data) / (1 - kept).sqrt()
        return kept.sqrt() * noise - (1 - kept).sqrt() * data

    made = process.sample(network, torch.randn(1, 2, generator=torch.Generator().manual_seed(0)), torch.randn_like)
    assert made[0].tolist() == pytest.approx(data[0].tolist(), abs=2e-2)
    noise = torch.randn(4, 2)
    mixed, _, said = process.noised(data.expand(4, 2), noise, torch.tensor([0.0, 0.3, 0.9, 0.9999]))
    assert torch.isfinite(mixed).all()
    assert torch.isfinite(said).all()
    assert mixed[-1].tolist() == pytest.approx(noise[-1].tolist(), abs=1e-3)


@pytest.mark.parametrize(("heun", "calls"), [(False, 8), (True, 8)])
def test_flow_goes_straight_from_noise_to_data(heun: bool, calls: int) -> None:
    seen: list[float] = []
    data, noise = torch.tensor([[1.0, 3.0]]), torch.tensor([[-1.0, 0.0]])

    def network(x: Tensor, times: Tensor) -> Tensor:
        seen.append(times.item())
        return data - noise

    assert torch.allclose(Flow(8, heun).sample(network, noise, torch.randn_like), data)
    assert (len(seen), seen[0], max(seen)) == (calls, 0, 1 if heun else 7 / 8)
    mixed, _, said = Flow(8).noised(data, noise, torch.tensor([0.25]))
    assert (mixed.tolist(), said.tolist()) == ([[-0.5, 0.75]], [[2.0, 3.0]])


def test_heun_is_exact_where_velocity_is_linear_in_time() -> None:
    for heun, end in ((True, 1.0), (False, 0.75)):  # the integral of 2 t over 0..1, and its left sum of 4 (of 2) steps
        made = Flow(8 if heun else 4, heun).sample(lambda x, t: 2 * t[:, None], torch.zeros(1, 1), torch.randn_like)
        assert made.item() == pytest.approx(end)


# Networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (1, 9, 21), (2, 33, 5)])
def test_networks_make_images_of_any_size(shape: tuple[int, int, int]) -> None:
    """Item 259: both networks are convolutions, and so is the U-Net; no side needs to be a power of 2."""
    z, y = torch.randn(2, 6), torch.tensor([0, 2])
    made = DcganGenerator(6, shape, 3, 4, "batch", strided=shape[0] != 3)(z, y)
    assert made.shape == (2, *shape)
    assert made.abs().max() <= 1
    assert dcgan_discriminator(shape, 3, 4, "spectral", 0.2, strided=shape[0] != 3)(made, y).shape == (2,)
    for patch in (1, 2):
        assert UNet(shape, 3, 8, patch)(made, torch.rand(2), y).shape == made.shape


def test_a_flow_takes_images_of_one_row() -> None:
    """They have no smaller patch than a pixel, which is no reason to refuse them."""
    images = np.random.default_rng(0).integers(0, 255, (60, 1, 1, 12), np.uint8)
    task = of_recipe("flow", planted("planted-one-row", images))
    assert task is not None
    with pytest.raises(RlabError, match=r"--patch is 2, and images are 1x12; valid: 1$"):
        of_recipe("flow", planted("planted-one-row", images), patch=2)


def test_size_of_the_networks() -> None:
    assert [stages((1, side, side)) for side in (4, 8, 16, 28, 32, 64)] == [1, 1, 1, 2, 2, 3]
    assert DcganGenerator(100, (1, 28, 28), 0, 64, "batch").first == (128, 7, 7)
    assert 5e5 < sum(p.numel() for p in UNet((1, 28, 28), 10).parameters()) <= 1.5e6
    with pytest.raises(RlabError, match=r"at least 4x4 pixels, not data of shape \[13\]; nearest: --net mlp"):
        of_recipe("dcgan", "wine")


# Runs -------------------------------------------------------------------------------------------------------------


def test_fakes_are_detached_from_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the discriminator's backward pass every gradient of the generator is None; after its own, none is."""
    task: Any = tiny("dcgan").task
    seen = []
    for name, optimizer in task.optimizers().items():
        step = optimizer.step

        def looked(*args: Any, name: str = name, step: Any = step, **more: Any) -> None:
            seen.append((name, {p.grad is None for p in task.generator.parameters()}))
            step(*args, **more)

        monkeypatch.setattr(optimizer, "step", looked)
    for number in range(2):  # at the second, gradients of the first update must have gone
        task.update(task.data.at(0, number), task.optimizers())
    assert seen == 2 * [("discriminator", {True}), ("generator", {False})]


RELATIVISTIC = {"loss": "relativistic", "penalty": 0.1, "penalty_end": 1e-3, "schedule": "cosine"}


@pytest.mark.parametrize(("recipe", "more"), [
    *((recipe, {"discriminator_norm": "spectral"} if recipe == "gan" else {}) for recipe in SMALL),
    ("gan", RELATIVISTIC),
])  # fmt: skip
def test_resumes_to_the_bit(recipe: str, more: dict[str, Any], tmp_path: Path) -> None:
    settings: dict[str, Any] = {"conditional": recipe in ("dcgan", "flow"), "precision": "fp32"} | more
    whole, half, other = (tiny(recipe, **settings) for _ in range(3))
    for fit in (whole, half):
        for _ in range(3):
            fit.step()
        fit.evaluate(Stop())
    torch.rand(5)  # whatever else draws
    other.restore(from_file(half.state(), tmp_path), Stop())
    for fit in (whole, other):
        while not fit.progress().finished:
            fit.step()
    assert whole.evaluate(Stop()) == other.evaluate(Stop())
    assert digest(whole.state()) == digest(other.state())
    assert len(whole.task.history) == 2  # type: ignore[attr-defined]


@by_recipe
def test_samples_depend_on_seed_and_class_alone(recipe: str) -> None:
    """In evaluation no sample depends on the others of its batch, batch norm or not."""
    fit = tiny(recipe, conditional=True, precision="fp32")
    for _ in range(3):
        fit.step()
    task: Any = fit.task
    images = task.sample(12, 3)
    assert (images.shape, images.dtype) == ((12, 1, 8, 8), np.float32)
    assert images.min() >= 0
    assert images.max() <= 1
    assert np.array_equal(images, task.sample(12, 3))
    assert not np.array_equal(images, task.sample(12, 4))
    assert np.allclose(images[0], task.sample(1, 3)[0], atol=1e-5)
    assert np.allclose(task.sample(2, 3, label=0)[0], images[0], atol=1e-5)
    assert not np.allclose(task.sample(2, 3, label="7")[0], images[0], atol=1e-7)
    way = task.interpolate(3, 9, 0)
    assert way.shape == (3, 9, 1, 8, 8)
    assert way.min() >= 0
    assert way.max() <= 1
    assert np.allclose(way[:2], task.interpolate(3, 9, 0)[:2])
    assert (
        np.abs(np.diff(way, axis=1)).sum((1, 2, 3, 4)) >= np.abs(way[:, 0] - way[:, -1]).sum((1, 2, 3)) - 1e-4
    ).all()
    assert (np.abs(way[:, 0] - way[:, 1]).mean((1, 2, 3)) < np.abs(way[:, 0] - way[:, -1]).mean((1, 2, 3))).all()
    for wrong, said in (({"label": 10}, "no class '10'"), ({"label": "x"}, "no class 'x'"), ({"n": 0}, "at least 1")):
        with pytest.raises(RlabError, match=said):
            task.sample(**{"n": 1, "seed": 0} | wrong)
    with pytest.raises(RlabError, match="samples without classes"):
        tiny(recipe).task.sample(1, 0, label=1)  # type: ignore[attr-defined]


def test_draws_on_the_way_depend_on_seed_and_place_alone() -> None:
    """DDPM draws at each step, too: however many samples there are, and the same at each place of a way."""
    task: Any = tiny("ddpm", sampler="ddpm", steps=4, precision="fp32").task
    assert np.allclose(task.sample(12, 3)[:2], task.sample(2, 3), atol=1e-5)
    way = task.interpolate(1, 40, 0)[0]
    apart = np.abs(np.diff(way, axis=0)).mean()
    assert apart < 0.2 * np.abs(way[0] - way[-1]).mean(), "new noise at each place would flicker"


def test_label_is_of_verb_and_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    small = ["--data", "digits", "--examples", "60", "--epochs", "1", "--samples", "20", "--threads", "1"]
    for name, more in (("of", ["--conditional"]), ("plain", [])):
        assert main(["train", "gan", *small, "--width", "8", "--name", name, *more]) == 0
    out = [str(tmp_path / f"{n}.png") for n in range(3)]
    for path, flag in zip(out, (["--label", "7"], ["--digit", "7"], ["--label", "8"]), strict=True):
        assert main(["sample", "of", "-n", "4", "--out", path, *flag]) == 0
    first, same, other = (Path(path).read_bytes() for path in out)
    assert first == same != other
    with rlab.load("of") as run:
        assert isinstance(run, rlab.Predictor)
        assert np.array_equal(run.sample(4, label="7"), run.sample(4, label=7))
        assert run.ability(Samples).turns == 10  # type: ignore[attr-defined]
        monkeypatch.setattr(sample_images, "PIXELS", 640)
        with pytest.raises(RlabError, match=r"-n is 12, of 8x8 pixels each, .* nearest: 10"):
            sample_images.main_images(run, 12, 0, None, None, print)
    capsys.readouterr()
    for words, said in (
        (["of", "--label", "7", "--digit", "8"], "--label is 7 and --digit 8"),
        (["of", "--label", "x"], "has no class 'x'"),
        (["plain", "--label", "7"], "--conditional in training"),
    ):
        assert main(["sample", *words]) == 1
        assert said in capsys.readouterr().err


def test_each_pair_has_a_share_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The penalty of a run, too, is at another place between data and samples for every pair."""
    task: Any = tiny("wgan-gp").task
    shares: list[Tensor] = []

    def penalty(critic: Any, real: Tensor, fake: Tensor, alpha: Tensor) -> Tensor:
        shares.append(alpha)
        return gradient_penalty(critic, real, fake, alpha)

    monkeypatch.setattr("rlab.tasks.generative.gan.gradient_penalty", penalty)
    task.update(task.data.at(0, 0), task.optimizers())
    assert len(shares[0].unique()) == len(task.data.at(0, 0)) > 1


@pytest.mark.parametrize(("recipe", "settings"), [
    ("gan", {"batch_size": 1, "examples": 8, "noise": 0.5, "octaves": 2}),
    ("gan", {"loss": "minimax", "penalty": 1.0, "label_smoothing": 0.1}),
    ("gan", RELATIVISTIC | {"precision": "bf16", "conditional": True, "batch_size": 1, "examples": 8}),
    ("dcgan", {"loss": "relativistic", "label_smoothing": 0.1}),
    ("dcgan", {"loss": "hinge", "discriminator_norm": "spectral", "no": 0}),
    ("wgan-gp", {"precision": "bf16", "discriminator_norm": "layer", "conditional": True}),
    ("flow", {"sampler": "heun", "conditional": True, "guidance": 2.0, "precision": "bf16"}),
    ("ddpm", {"sampler": "ddpm", "timesteps": 10}),
])  # fmt: skip
def test_every_way_of_training_runs(recipe: str, settings: dict[str, Any]) -> None:
    settings = {key: value for key, value in settings.items() if key != "no"}
    fit = tiny(recipe, epochs=1, **settings)
    metrics: dict[str, float] = {}
    while not fit.progress().finished:
        metrics |= fit.step()
    assert math.isfinite(metrics["loss_generator" if recipe in GANS else "loss"])
    assert ("discriminator_accuracy" in metrics) == (recipe in ("gan", "dcgan"))
    assert fit.evaluate(Stop())["measure"] == "FID"


@pytest.mark.parametrize("kind", ["colour", "wide", "rows"])
def test_every_shape_of_data_is_learned(kind: str) -> None:
    rng = np.random.default_rng(0)
    shape = {"colour": (3, 8, 8), "wide": (1, 5, 14), "rows": (3,)}[kind]
    x = rng.normal(size=(60, *shape)) if kind == "rows" else rng.integers(0, 256, (60, *shape), np.uint8)
    name = planted(f"planted-{kind}", x, "table" if kind == "rows" else "images")
    for recipe in ("wgan-gp", "flow"):
        fit = tiny(recipe, name, examples=0, batch_size=20, epochs=1)
        while not fit.progress().finished:
            fit.step()
        task: Any = fit.task
        assert task.sample(2, 0).dtype == (np.float32 if kind == "rows" else np.uint8)
        fit.evaluate(Stop())
        fit.task.history.done += 1  # type: ignore[attr-defined]
        fit.evaluate(Stop())
        assert set(task.draw(Stop())) == {"samples", "samples_over_training"}


@pytest.mark.parametrize(("recipe", "data", "settings", "said"), [
    ("dcgan", "one", {}, "'planted-one' has nothing to vary: there is 1 training example; "),
    ("flow", "same", {}, "'planted-same' has nothing to vary: all 51 training examples are equal"),
    ("gan", "fsdd-like", {}, "is of kind series; this recipe makes images and rows of tables"),
    ("gan", "diabetes", {"conditional": True}, "has no classes, so samples cannot be of one"),
    ("dcgan", "digits", {"batch_size": 1}, "BatchNorm has no variance; nearest: 3"),
    ("wgan-gp", "digits", {"discriminator_norm": "batch"}, "mixes the samples .*nearest: --discriminator-norm layer"),
    ("dcgan", "digits", RELATIVISTIC, "does not go with --loss relativistic; nearest: --discriminator-norm layer"),
    ("gan", "digits", RELATIVISTIC | {"penalty_end": 0.2}, "--penalty-end is 0.2; .* at most --penalty, 0.1"),
    ("gan", "digits", RELATIVISTIC | {"penalty": 0.0}, "--penalty-end is 0.001, and --penalty is 0; nearest"),
    ("gan", "digits", RELATIVISTIC | {"schedule": "constant"}, "--penalty-end 0.001 .*nearest: --schedule cosine"),
    ("gan", "digits", {"optimiser": "lbfgs"}, "both players of a GAN are trained by one of adam, adamw"),
    ("wgan-gp", "digits", {"label_smoothing": 0.1}, "--loss wgan-gp has not; nearest: --label-smoothing 0"),
    ("dcgan", "digits", {"octaves": 2}, "--octaves 2 does nothing with --net dcgan; nearest: --octaves 0"),
    ("gan", "digits", {"strided": False}, "--no-strided does nothing with --net mlp; nearest: --strided"),
    ("gan", "digits", {"ema_part": 0.0}, "--ema-part is 0.0; it must be above 0 and at most 1"),
    ("flow", "digits", {"ema_part": 2.0}, "--ema-part is 2.0; it must be above 0 and at most 1"),
    ("gan", "digits", {"ema": 1.0}, "--ema is 1.0; it must be at least 0 and below 1"),
    ("flow", "digits", {"sampler": "ddim"}, "--sampler ddim does not go with flow; valid: euler, heun"),
    ("flow", "digits", {"sampler": "heun", "steps": 5}, "two evaluations a step; nearest: 6"),
    ("flow", "digits", {"guidance": 2.0}, "nearest: --conditional --dropped 0.1"),
    ("flow", "digits", {"patch": 5}, "--patch is 5, and images are 8x8; valid: 1 to 4"),
    ("flow", "wine", {"patch": 2}, "--patch is 2, and 'wine' has no images; valid: 1"),
    ("ddpm", "digits", {"steps": 2000}, "there are 1000 --timesteps, so nearest: 1000"),
    ("ddpm", "digits", {"width": 12}, "--width is 12; it must be a multiple of 8"),
    ("flow", "digits", {"optimiser": "lbfgs"}, "nearest: adamw"),
    ("flow", "digits", {"label_smoothing": 0.1}, "what is learned here are no classes; nearest: 0"),
])  # fmt: skip
def test_what_cannot_be_learned_is_one_sentence(recipe: str, data: str, settings: dict[str, Any], said: str) -> None:
    if data == "fsdd-like":
        data = planted("planted-series", np.random.default_rng(0).normal(size=(20, 6, 1)), "series")
    elif data in ("one", "same"):
        images = np.random.default_rng(0).integers(0, 255, (60, 1, 8, 8), np.uint8)
        data = planted(f"planted-{data}", images if data == "one" else np.full_like(images, 7))
        settings = {"examples": 1} if data == "planted-one" else {}
    with pytest.raises(RlabError, match=said):
        of_recipe(recipe, data, **settings)


@pytest.mark.parametrize(("recipe", "settings", "said"), [
    ("gan", {"loss": "wgan-gp"}, "--penalty is 0; nearest: --penalty 10"),
    ("flow", {"timesteps": 10}, "--timesteps is 10, which does nothing without the recipe ddpm"),
    ("ddpm", {"dropped": 0.5}, "--dropped is 0.5, which does nothing without --conditional"),
])  # fmt: skip
def test_new_runs_have_no_idle_settings(recipe: str, settings: dict[str, Any], said: str) -> None:
    """Older runs may have them, and still load."""
    entry = load_recipes().get(recipe)
    assert entry.warm_start is not None
    with pytest.raises(RlabError, match=said):
        entry.warm_start(changed(entry.default("digits"), settings))


def test_split_of_one_example_is_refused_before_training() -> None:
    x = np.random.default_rng(0).integers(0, 255, (4, 1, 8, 8), np.uint8)
    with pytest.raises(RlabError, match=r"1 example in its split 'test', .* at least 2; nearest: more examples"):
        tiny("gan", planted("planted-four", x), examples=0)


def test_column_that_does_not_vary_costs_no_distance() -> None:
    rows = np.random.default_rng(0).normal(size=(80, 3)) * [1, 0, 1e-9] + [0, 5e4, 0]
    task: Any = tiny("flow", planted("planted-column", rows, "table"), examples=0).task
    x = task.dataset.inputs("train")
    assert task.scaling(x).std(0).tolist() == pytest.approx([1, 0, 1], abs=1e-3)
    assert task.scorer.score(x + torch.tensor([0, 1e-2, 0]), "test", Stop())["mean"] < 5


def test_scores_of_what_is_no_number_end_the_run() -> None:
    """Black pictures and class 0 would have a score."""
    for fit, said in ((tiny("gan"), "feature of an example"), (of_recipe("lenet", "digits", examples=40), "output")):
        [parameter.data.fill_(math.nan) for parameter in fit.task.modules.parameters()]
        with pytest.raises(NonFinite, match=f"{said} became nan at the evaluation after update 0"):
            fit.evaluate(Stop())


def test_batch_of_more_than_all_needs_no_memory() -> None:
    huge, all_ = (tiny("gan", examples=40, batch_size=size).footprint(Stop()).memory for size in (10**6, 40))
    assert huge == all_


def test_divergence_is_one_sentence() -> None:
    fit = tiny("gan", "gaussians-8", examples=2_000, learning_rate=1e30, epochs=5)
    with pytest.raises(NonFinite, match=r"loss .* at update \d+ \(epoch \d\)"):
        [fit.step() for _ in range(40)]


def test_health_warns_of_a_lost_game() -> None:
    """A generator of one point has no spread; a discriminator that is always right has won. (Rules: test_health.py.)"""
    fit = tiny("gan", "gaussians-8", examples=640, epochs=1, learning_rate=0.0)
    task: Any = fit.task
    torch.nn.init.zeros_(task.generator.layers[-1].weight)
    metrics: dict[str, float] = {}
    while not fit.progress().finished:
        metrics |= fit.step()
    health = Health(RULES)
    raised = [w.rule for step in range(25) for w in health.update({"step": step, **metrics})]
    assert raised == ["mode-collapse"]


def test_gaussians_are_learned_by_a_flow() -> None:
    fit = of_recipe("flow", "gaussians-8", epochs=6, samples=1_000, steps=20)
    while not fit.progress().finished:
        fit.step()
    score = fit.evaluate(Stop())
    assert score["measure"] == "modes covered"
    task: Any = fit.task
    points, centres = task.sample(1_000, 0), MIXTURES["gaussians-8"].centres
    nearest = np.linalg.norm(points[:, None] - centres, axis=2)
    assert len(set(nearest.argmin(1))) == 8
    assert np.median(nearest.min(1)) < 0.55, "half of the distance between neighbours is 0.77"
    assert load("gaussians-25", 0, 0.0).counts("train") == [680] * 25


def test_frames_are_thinned_and_keep_the_last() -> None:
    history = History(torch.zeros(1, 2))
    for number in range(40):
        history.done.fill_(number)
        for _ in range(2):
            history.add(torch.full((1, 2), float(number)))
    kept = [int(n) for n in history.updates[: len(history)]]
    assert len(kept) <= FRAMES
    assert (kept[0], kept[-1]) == (0, 39)
    assert kept == sorted(set(kept))
    assert [int(frame[0, 0]) for frame in history.frames[: len(history)]] == kept


def test_verbs_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Item 262: a GAN is a way of training; its run is trained, scored, reported and sampled as every other one."""
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    words = [
        "--data",
        "digits",
        "--examples",
        "100",
        "--epochs",
        "3",
        "--samples",
        "32",
        "--threads",
        "1",
        "--log-steps",
        "90",
    ]
    assert main(["train", "dcgan", *words, "--width", "4", "--conditional", "--name", "net"]) == 0
    assert rlab.evaluate("net")["features"] == "random convolutions"
    capsys.readouterr()
    assert main(["report", "net", "--json"]) == 0
    page = Path(json.loads(capsys.readouterr().out)["report"]).read_text("utf-8")
    for said in ("loss discriminator", "loss generator", "same latent codes over training", "sample spread"):
        assert said in page
    moving = Image.open(io.BytesIO((tmp_path / "net/pictures/samples_over_training.png").read_bytes()))
    assert moving.n_frames >= 3
    assert (tmp_path / "net/pictures/samples_over_training.png").stat().st_size < 500_000
    with rlab.load("net") as run:
        assert run.sample(3, seed=1).shape == (3, 1, 8, 8)


def test_recipes_are_what_the_page_lists() -> None:
    assert {*GANS, *DIFFUSIONS} == set(SMALL)
