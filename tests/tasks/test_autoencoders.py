"""Autoencoders and VAEs as runs: what they learn, how they are scored, where their encoders go, and what is refused."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import rlab
from rlab.cli import main
from rlab.cli.sample_images import main_images
from rlab.data.catalog import DATASETS, DataSource
from rlab.data.readers import Arrays
from rlab.errors import RlabError
from rlab.run.contract import Interpolates, Predicts, Samples, Stop, Stopped, ability
from rlab.run.folder import find_run
from rlab.run.lifecycle import read_newest
from rlab.tasks.generative.autoencoder import Autoencoding, corrupt
from rlab.tasks.generative.pictures import sheet
from rlab.tasks.generative.vae import VariationalAutoencoding
from rlab.tasks.trainer import Trainer
from tests.tasks.test_resume import assert_it_goes_on_to_the_bit
from tests.tasks.test_trainer import of_recipe

QUICK: dict[str, Any] = {"epochs": 2, "examples": 200, "batch_size": 50}


def images(x: np.ndarray, name: str) -> str:
    """Register images [N, C, H, W] of two classes as a data set; return its name."""
    if name not in DATASETS:
        labels = np.arange(len(x)) % 2
        source = DataSource("images", "made for a test", "ours", "", lambda read: Arrays(x, labels, ("a", "b")))
        DATASETS.register(name)(source)
    return name


RNG = np.random.default_rng(0)
BOARDS = images((RNG.random((60, 4, 10, 10)) < 0.2).astype(np.float32), "test-boards")
OBLONG = images(RNG.integers(0, 256, (40, 1, 7, 12), dtype=np.uint8), "test-oblong")
ALIKE = images(np.full((40, 1, 6, 6), 77, np.uint8), "test-alike")
COLOURED = images(RNG.integers(0, 256, (40, 3, 9, 5), dtype=np.uint8), "test-coloured")


def learned(fit: Trainer) -> dict[str, Any]:
    """Train to the end; the score."""
    while not fit.progress().finished:
        fit.step()
    score = dict(fit.evaluate(Stop()))
    fit.close()
    return score


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A runs folder with small finished runs of both recipes."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLAB_RUNS", str(folder))
        small = ["--epochs", "2", "--examples", "100", "--threads", "1", "--batch-size", "20"]
        vae = [*small, "--nll-samples", "20", "--conditional", "--encoder", "mlp-40", "--code", "4"]
        commands = {
            "ae": ["autoencoder", "--data", "digits", *small, "--noise", "gaussian"],
            "of-lenet": ["autoencoder", "--data", "digits", *small, "--encoder", "lenet5", "--shape", "1x16x16"],
            "of-nature": ["autoencoder", "--data", "digits", *small, "--encoder", "nature", "--shape", "1x36x36"],
            "boards": ["autoencoder", "--data", BOARDS, "--epochs", "1", "--threads", "1", "--encoder", "minatar"],
            "vae": ["vae", "--data", "digits", *vae],
        }
        for name, words in commands.items():
            assert main(["train", *words, "--name", name]) == 0
        yield folder


@pytest.fixture(autouse=True)
def _runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = request.getfixturevalue("runs") if "runs" in request.fixturenames else tmp_path
    monkeypatch.setenv("RLAB_RUNS", str(folder))


def test_linear_autoencoder_finds_the_principal_subspace() -> None:
    """Item 153: the angles between both subspaces are about 0, and no linear code of 4 numbers explains more."""
    whole = {"optimiser": "lbfgs", "learning_rate": 1.0, "batch_size": 2_000, "epochs": 12}
    fit = of_recipe("autoencoder", "digits", encoder="flat", schedule="constant", code=4, **whole)
    score = learned(fit)
    x = fit.task.dataset.inputs("train").flatten(1).double()
    directions = torch.linalg.svd(x - x.mean(0), full_matrices=False)[2][:4]
    decoder = fit.task.modules["model"].decoder.layers[0].weight.detach().double()
    cosines = torch.linalg.svdvals(torch.linalg.qr(decoder)[0].T @ directions.T)
    assert math.degrees(math.acos(min(1.0, cosines.min().item()))) < 0.5  # degrees
    test = fit.task.dataset.inputs("test").flatten(1).double() - x.mean(0)
    left = (test - test @ directions.T @ directions).square().mean().item()
    assert score["mean"] == pytest.approx(left, rel=1e-3)
    assert score["low"] < score["mean"] < score["high"]


def test_greedy_training_goes_layer_by_layer() -> None:
    """Items 155 and 156: each layer learns while all others stay; then all of them learn."""
    settings = {"encoder": "mlp-30-20+sigmoid", "code": 8, "greedy": True, "greedy_epochs": 1, "epochs": 4}
    fit = of_recipe("autoencoder", "digits", **settings, examples=100, batch_size=50)
    layers = [*fit.task.modules["model"].pairs()]
    moved, stages = [], []
    for _ in range(4):
        before = [[p.detach().clone() for p in torch.nn.Sequential(*pair).parameters()] for pair in layers]
        metrics: dict[str, float] = {}
        for _ in range(2):
            metrics = dict(fit.step())
        stages.append(metrics["layer_last"])
        after = [list(torch.nn.Sequential(*pair).parameters()) for pair in layers]
        moved.append(
            [all(not torch.equal(a, b) for a, b in zip(*pair, strict=True)) for pair in zip(before, after, strict=True)]
        )
    assert moved == [[True, False, False], [False, True, False], [False, False, True], [True, True, True]]
    assert stages == [0, 1, 2, 3]


def test_penalties_make_codes_sparse() -> None:
    """Item 159: a code larger than the input, of which few numbers are in use."""
    common = {"encoder": "mlp-128+sigmoid", "code": 0, "epochs": 8, "examples": 400, "learning_rate": 0.01}
    plain = learned(of_recipe("autoencoder", "digits", **common, sparse="l1", sparse_weight=0.0))
    kl = learned(of_recipe("autoencoder", "digits", **common, sparse="kl", sparse_weight=0.1))
    assert kl["active"] < 0.7 * plain["active"]
    fit = of_recipe("autoencoder", "digits", **QUICK, encoder="flat", code=100, sparse="largest", active=7)
    learned(fit)
    codes = fit.task.encode(fit.task.dataset.x[:9].numpy())
    assert codes.shape == (9, 100)
    assert ((codes != 0).sum(1) <= 7).all()


@pytest.mark.parametrize("kind", ["gaussian", "masking", "salt-and-pepper"])
def test_noise_is_taken_out(kind: Any) -> None:
    """Item 165: corrupted inputs come back cleaner than they went in."""
    settings = {"noise": kind, "noise_level": 0.4, "epochs": 10, "examples": 1_000, "learning_rate": 3e-3}
    score = learned(of_recipe("autoencoder", "digits", **settings))
    assert score["noisy"] < 0.8 * score["noise"]


def test_kinds_of_noise_by_hand() -> None:
    x, dice = torch.rand(400, 50), torch.Generator().manual_seed(0)
    assert torch.equal(corrupt(x, "none", 0.3), x)
    added = corrupt(x, "gaussian", 0.3, dice) - x
    assert (added.mean().item(), added.std().item()) == (pytest.approx(0, abs=0.01), pytest.approx(0.3, abs=0.01))
    masked = corrupt(x, "masking", 0.3, dice)
    assert (masked == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert (masked[masked != 0] == x[masked != 0]).all()
    peppered = corrupt(x, "salt-and-pepper", 0.3, dice)
    for end in (x.min(), x.max()):
        assert (peppered == end).float().mean().item() == pytest.approx(0.15, abs=0.02)


@pytest.mark.parametrize("rate", [0.95, 0.0])
def test_codebook_is_used(rate: float) -> None:
    settings = {"codebook": 16, "slots": 4, "codebook_rate": rate, "epochs": 30, "learning_rate": 3e-3}
    score = learned(of_recipe("autoencoder", "digits", encoder="mlp-64", code=16, **settings))
    assert 4 <= score["perplexity"] <= score["codes_used"] <= 16
    assert score["explained"] > 0.3


def test_vae_beats_independent_pixels() -> None:
    """Item 254: codes are in use, and worth it; what is estimated lies above the bound."""
    fit = of_recipe("vae", "digits", encoder="mlp-64", code=6, epochs=25, warm_up=5, nll_samples=50, beta=1.0)
    score = learned(fit)
    x = fit.task.dataset.inputs("test")
    mean = fit.task.dataset.inputs("train").mean(0).clamp(1e-3, 1 - 1e-3)
    alone = -(x * mean.log() + (1 - x) * (1 - mean).log()).flatten(1).sum(1).mean().item()
    assert score["mean"] < alone - 1
    assert score["mean"] < score["bound"] == pytest.approx(score["kl"] + score["reconstruction"])
    assert 1 <= score["effective_least"] <= score["effective_samples"] <= score["samples"] == 50
    assert score["active_units"] > 0
    assert (score["examples"], score["measure"]) == (len(x), "negative log-likelihood in nats")


def test_objectives_of_a_vae() -> None:
    """More codes never loosen the bound (Burda et al. 2016, theorem 1), and the drawn divergence is the exact one."""
    fits = {
        "exact": of_recipe("vae", "digits", **QUICK, warm_up=0),
        "drawn": of_recipe("vae", "digits", **QUICK, warm_up=0, kl="monte-carlo"),
        "iwae": of_recipe("vae", "digits", **QUICK, warm_up=0, importance=50),
        "free": of_recipe("vae", "digits", **QUICK, warm_up=0, beta=0.0),
    }
    lost = {}
    for name, fit in fits.items():
        torch.manual_seed(0)
        batch = fit.task.data.at(0, 0)
        lost[name] = {
            part: np.mean([fit.task.losses(batch)[part].item() for _ in range(10)]) for part in ("loss", "kl")
        }
        fit.close()
    assert lost["drawn"]["kl"] == pytest.approx(lost["exact"]["kl"], abs=0.5)
    assert lost["iwae"]["loss"] < lost["exact"]["loss"]
    assert lost["free"]["loss"] < lost["exact"]["loss"]


def test_test_images_are_binarised_alike() -> None:
    tasks = [of_recipe("vae", "digits", **QUICK, seed=seed, split_seed=0).task for seed in (0, 1)]
    (first, _), (second, _) = (next(task._fixed("test", 20)) for task in tasks)
    assert torch.equal(first, second)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    batch = tasks[0].data.at(0, 0)
    assert not torch.equal(tasks[0]._pixels(batch.x), tasks[0]._pixels(batch.x))


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        ("autoencoder", {"encoder": "mlp-20", "code": 4, "greedy": True, "greedy_epochs": 1, "tied": True}),
        ("autoencoder", {"codebook": 8, "noise": "masking", "encoder": "minatar"}),
        ("vae", {"conditional": True, "encoder": "mlp-30", "code": 3, "warm_up": 1, "nll_samples": 10}),
    ],
    ids=["greedy and tied", "codebook and convolutions", "vae"],
)
def test_runs_resume_to_the_bit(recipe: str, settings: dict[str, Any], tmp_path: Path) -> None:
    assert_it_goes_on_to_the_bit(recipe, "digits", tmp_path, **settings, batch_size=150)


@pytest.mark.parametrize(
    ("source", "recipe", "data"), [("of-lenet", "lenet", "1x16x16"), ("of-nature", "nature-classifier", "1x36x36")]
)
def test_encoder_goes_under_a_classifier(source: str, recipe: str, data: str, runs: Path) -> None:
    """Items 160 and 164: learned without a label, and used with them."""
    quick = {"epochs": 1, "examples": 40, "threads": 1, "batch_size": 20}
    run = rlab.train(recipe, data="digits", encoder=source, freeze=True, shape=data, **quick)
    assert run.config()["warm_start"]["encoder"]["run"] == source
    ours, theirs = read_newest(run), read_newest(find_run(source))
    assert ours is not None
    assert theirs is not None
    best = theirs.state["best"]["modules"]
    weights = {name: t for name, t in ours.state["modules"].items() if name.startswith("model.encoder.")}
    assert weights
    assert all(torch.equal(t, best[name]) for name, t in weights.items())


@pytest.mark.parametrize(
    ("kind", "recipe", "freeze"), [("autoencoder", "dqn", True), ("autoencoder", "pqn", False), ("vae", "pqn", True)]
)
def test_encoder_goes_under_an_agent(kind: str, recipe: str, freeze: bool, runs: Path) -> None:
    source, small = "boards", {"epochs": 1, "threads": 1, "encoder": "minatar", "code": 3, "nll_samples": 5}
    if kind == "vae":
        source = rlab.train("vae", data=BOARDS, **small).name
    quick = {"steps": 200, "threads": 1, "final_episodes": 1}
    quick |= {"num_envs": 1, "learning_starts": 50} if recipe == "dqn" else {"num_envs": 4, "rollout": 8}
    run = rlab.train(recipe, env="MinAtar/Breakout-v1", encoder=source, freeze=freeze, **quick)
    assert run.config()["warm_start"]["encoder"]["run"] == source
    ours, theirs = read_newest(run), read_newest(find_run(source))
    assert ours is not None
    assert theirs is not None
    online = {name: t for name, t in ours.state["agent"]["online"].items() if name.startswith("encoder.")}
    assert online
    kept = [torch.equal(t, theirs.state["best"]["modules"][f"model.{name}"]) for name, t in online.items()]
    assert all(kept) if freeze else not any(kept)


def test_verbs_take_these_runs(runs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["eval", "vae", "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert score["samples"] == 20
    for name, pictures in (
        ("ae", {"reconstructions", "filters", "codes"}),
        ("vae", {"samples", "reconstructions", "walk", "codes"}),
    ):
        assert main(["report", name]) == 0
        assert {path.stem for path in (runs / name / "pictures").glob("*.png")} == pictures
    with rlab.load("vae") as loaded:
        first = loaded.sample(12, 3)
        assert (first.shape, first.dtype) == ((12, 1, 8, 8), loaded.learner.task.dataset.x.numpy().dtype)
        assert np.array_equal(first, loaded.sample(12, 3))
        assert not np.array_equal(first, loaded.sample(12, 4))
        assert np.array_equal(first, rlab.sample("vae", n=12, seed=3))
        assert main(["sample", "vae", "-n", "12", "--seed", "3", "--out", str(tmp_path / "c.png")]) == 0
        assert main(["sample", "vae", "--prompt", "a"]) == 1
        assert "--prompt is a, which does nothing: run 'vae' makes images" in capsys.readouterr().err
        files: list[Any] = []
        main_images(loaded, 12, 3, tmp_path / "a.png", tmp_path / "a.gif", lambda text, data: files.append(data))
        assert files == [{"run": "vae", "seed": 3, "files": [str(tmp_path / "a.png"), str(tmp_path / "a.gif")]}]
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "c.png").read_bytes()
        with Image.open(tmp_path / "a.gif") as film:
            assert film.n_frames > 20
        with pytest.raises(RlabError, match=r"--out is '.*a.jpg'; it must end in .png; nearest: .*a.png"):
            main_images(loaded, 1, 0, tmp_path / "a.jpg", None, print)
        with pytest.raises(RlabError, match="there is no folder"):
            main_images(loaded, 1, 0, tmp_path / "no" / "a.png", None, print)
        with pytest.raises(RlabError, match=r"--interpolate is '.*', a folder; nearest: .*FILE.gif"):
            main_images(loaded, 1, 0, None, tmp_path, print)
    with rlab.load("ae") as loaded:
        x = loaded.learner.task.dataset.x[:3].numpy()
        assert loaded.ability(Predicts).predict(x).shape == x.shape
        main_images(loaded, 1, 0, None, tmp_path / "b.gif", print)
        with pytest.raises(RlabError, match="cannot make new data"):
            main_images(loaded, 1, 0, None, None, print)


@pytest.mark.parametrize("data", [OBLONG, ALIKE, COLOURED])
@pytest.mark.parametrize("recipe", ["autoencoder", "vae"])
def test_images_of_any_kind(recipe: str, data: str) -> None:
    """Oblong, all alike, in colour, and by convolutions: trained, scored and drawn."""
    more = {} if recipe == "autoencoder" else {"nll_samples": 5}
    fit = of_recipe(recipe, data, encoder="minatar", code=3, epochs=1, batch_size=16, **more)
    score = learned(fit)
    assert math.isfinite(score["mean"])
    assert all(png.startswith(b"\x89PNG") for png in fit.task.draw(Stop()).values())
    shape = fit.task.dataset.shape
    assert ability(fit, Interpolates).interpolate(2, 3, 0).shape == (2, 3, *shape)  # type: ignore[union-attr]
    made = ability(fit, Samples)
    assert (made is None) == (recipe == "autoencoder")
    if made is not None:
        with Image.open(io.BytesIO(fit.task.draw(Stop())["samples"])) as picture:
            assert picture.size[0] >= 8 * shape[2]


@pytest.mark.parametrize("recipe", ["autoencoder", "vae"])
def test_one_example_is_learned_by_heart(recipe: str) -> None:
    more = {} if recipe == "autoencoder" else {"nll_samples": 5}
    score = learned(of_recipe(recipe, "digits", examples=1, epochs=1, batch_size=1, **more))
    assert math.isfinite(score["mean"])


def test_images_of_a_vae_depend_on_seed_and_place_alone() -> None:
    """torch's own draws of 3 codes of 3 numbers are not those that 12 begin with."""
    fit = of_recipe("vae", "digits", encoder="mlp-20", code=3)
    assert np.allclose(fit.task.sample(3, 0), fit.task.sample(12, 0)[:3], atol=1e-6)


def test_stop_in_the_last_batch_leaves_no_score() -> None:
    class Late(Stop):
        asked = 0

        @property  # type: ignore[override]
        def requested(self) -> bool:
            self.asked += 1
            return self.asked > 3

        @requested.setter
        def requested(self, value: bool) -> None: ...

    fit = of_recipe("vae", "digits", encoder="mlp-20", nll_samples=40_000, nll_examples=1)
    with pytest.raises(Stopped), torch.no_grad():
        fit.task.evaluate("test", Late())


def test_one_layer_is_trained_greedily_and_tied() -> None:
    settings = {"encoder": "flat", "code": 8, "greedy": True, "greedy_epochs": 1, "tied": True}
    fit = of_recipe("autoencoder", "digits", **settings, epochs=2, examples=60)
    assert len(fit.task.modules["model"].pairs()) == 1
    assert math.isfinite(learned(fit)["mean"])


def test_autoencoder_tells_no_labels(runs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    for words in (["predict", "ae", str(tmp_path / "a.png")], ["eval", "ae", "of-lenet"]):
        assert main(words) == 1
        assert "run 'ae' (autoencoder) cannot tell labels; it can predict" in capsys.readouterr().err


@pytest.mark.parametrize("shape", [(1, 1, 3, 500), (1, 1, 500, 3), (1, 1, 1, 1), (64, 1, 3, 500)])
def test_grids_have_a_size_that_can_be_seen(shape: tuple[int, int, int, int]) -> None:
    picture = sheet(np.zeros(shape, np.uint8))
    assert 256 <= max(picture.shape[:2]) <= 2_048


def test_table_comes_back_in_its_own_units() -> None:
    fit = of_recipe("autoencoder", "iris", encoder="flat", code=4, epochs=60, learning_rate=0.05)
    assert learned(fit)["explained"] > 0.95
    x = fit.task.dataset.x[:5].numpy()
    assert np.abs(fit.task.predict(x) - x).max() < 0.5
    assert set(fit.task.draw(Stop())) == {"codes"}


@pytest.mark.parametrize(
    ("recipe", "data", "settings", "says"),
    [
        ("vae", "iris", {}, "'iris' is of kind table.*nearest: the recipe autoencoder"),
        ("autoencoder", "iris", {"loss": "cross-entropy"}, "cross-entropy is of pixels.*--loss squared"),
        ("autoencoder", "digits", {"noise_level": 0.5}, "does nothing without --noise"),
        ("autoencoder", "digits", {"noise": "masking", "noise_level": 1.5}, "must lie between 0 and 1"),
        ("autoencoder", "digits", {"codebook": 8, "codebook_rate": math.nan}, "--codebook-rate is nan; .* finite"),
        ("autoencoder", "digits", {"tied": True, "encoder": "minatar"}, "nearest: --encoder mlp"),
        ("autoencoder", "digits", {"greedy": True, "epochs": 5}, "3 layers for 3 epochs.*nearest: --epochs 9"),
        ("autoencoder", "digits", {"greedy": True, "codebook": 8}, "without --codebook"),
        ("autoencoder", "digits", {"label_smoothing": 0.1}, "--label-smoothing is 0.1"),
        ("autoencoder", "digits", {"encoder": "resnet20", "examples": 1, "batch_size": 1}, "no variance"),
        ("vae", "digits", {"importance": 5, "kl": "analytic"}, "nearest: --kl monte-carlo"),
        ("vae", "digits", {"importance": 5, "warm_up": 0, "beta": 2.0}, "nearest: --beta 1 --warm-up 0"),
        ("vae", "diabetes", {"conditional": True}, "kind table"),
    ],
)
def test_what_cannot_be_is_refused(recipe: str, data: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(RlabError, match=says):
        of_recipe(recipe, data, **settings)


def test_series_and_labels_are_refused() -> None:
    from rlab.tasks.generative.autoencoder import check_kind

    fit = of_recipe("vae", "digits", **QUICK)
    data = fit.task.dataset
    with pytest.raises(RlabError, match="'digits' is of kind series, whose items differ in length"):
        check_kind(replace(data, kind="series", x=data.x[:, 0].float()))
    for label in ("nine", 3):
        with pytest.raises(RlabError, match="--conditional in training"):
            fit.task.sample(2, 0, label=label)
    told = of_recipe("vae", "digits", **QUICK, conditional=True)
    with pytest.raises(RlabError, match="no class 'nine'"):
        told.task.sample(2, 0, label="nine")
    assert isinstance(told.task, VariationalAutoencoding)
    assert not isinstance(told.task, Autoencoding)
    first = told.task.sample(12, 0)
    assert np.allclose(told.task.sample(3, 0, label="2")[2], first[2], atol=1e-6)
