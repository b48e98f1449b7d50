"""Detectors and segmenters through the whole lab: trained, resumed to the bit, scored, drawn, and asked of pictures."""

from __future__ import annotations

import io
import json
import struct
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

import rlab
from rlab.cli import main
from rlab.data.media import open_video
from rlab.errors import RlabError
from rlab.run.checkpoint import digest
from rlab.run.contract import Detects, Stop, ability
from rlab.run.lifecycle import read_newest
from rlab.run.video import VideoFile
from rlab.tasks.detection.any_picture import Picture, tell_mask
from tests.checkpoints import from_file
from tests.data.test_detection import MANY, SQUARE, coco, voc
from tests.tasks.test_trainer import of_recipe

SMALL: dict[str, Any] = {"examples": 12, "epochs": 2, "batch_size": 4}
REGIONS = {"proposals": 8, "regions": 8}
RECIPES: dict[str, dict[str, Any]] = {
    "ssd": {"mining": "random", "width": 16},
    "faster-rcnn": {"width": 16, **REGIONS},
    "fast-rcnn": {"width": 16, **REGIONS},
    "rcnn": REGIONS,
    "unet": {"width": 4, "edges": True},
    "fcn": {},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_resumes_to_the_bit(recipe: str, tmp_path: Path) -> None:
    settings = (
        SMALL | RECIPES[recipe] | {"augment": "hflip,shift:4", "shape": "1x32x32", "examples": 12, "batch_size": 4}
    )
    data = "digit-scenes" if recipe in ("unet", "fcn") else voc(tmp_path / "own", MANY)
    whole, half, other = (of_recipe(recipe, data, **settings) for _ in range(3))
    for _ in range(2):
        whole.step()
        half.step()
    other.restore(from_file(half.state(), tmp_path), Stop())
    for _ in range(2):
        assert {k: v for k, v in whole.step().items() if "clock" not in k} == {
            k: v for k, v in other.step().items() if "clock" not in k
        }
    assert digest(whole.state()) == digest(other.state())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A runs folder with a detector that has learned something, a segmenter and a classifier."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLAB_RUNS", str(folder))
        how = ["--threads", "1", "--validation", "0", "--evaluate-steps", "0"]
        words = ["--examples", "96", "--epochs", "4", "--batch-size", "8", "--width", "16"]
        assert main(["train", "ssd", "--name", "boxes", *words, *how]) == 0
        assert main(["train", "unet", "--name", "masks", "--edges", "--examples", "24", "--epochs", "1", *how]) == 0
        assert main(["train", "logistic", "--data", "digits", "--name", "digits", "--epochs", "1", *how]) == 0
        yield folder


def test_ssd_tells_boxes_and_classes_in_one_pass(runs: Path) -> None:
    """Items 291, 292: one pass gives boxes and classes, here of a run that was trained, evaluated and reported."""
    score = rlab.evaluate("boxes")
    assert score["mean"] > 0.1
    assert score["low"] <= score["mean"] <= score["high"]
    assert main(["report", "boxes"]) == 0
    assert sorted(path.name for path in (runs / "boxes/pictures").glob("*.png")) == ["hits.png", "precision.png"]
    assert main(["watch", "masks"]) == 0
    assert sorted(path.name for path in (runs / "masks/pictures").glob("*.png")) == ["instances.png", "masks.png"]
    with rlab.load("boxes") as loaded:
        finder = loaded.ability(Detects)
        found = finder.detect(np.zeros((2, 1, 64, 64), np.uint8))
        assert [set(one) for one in found] == [{"boxes", "classes", "scores"}] * 2
        with pytest.raises(RlabError, match=r"takes inputs of shape \[1, 64, 64\]"):
            finder.detect(np.zeros((2, 3, 64, 64), np.uint8))


def test_segmentation_tells_a_class_for_each_pixel(runs: Path) -> None:
    """Item 294: H x W x classes outputs, and instances of them."""
    score = rlab.evaluate("masks")
    assert set(score["watershed_gain"]) == {"mean", "low", "high"}
    assert 0 <= score["components"] <= 100
    with rlab.load("masks") as loaded:
        assert loaded.predict(np.zeros((2, 1, 64, 64), np.uint8)).shape == (2, 11, 64, 64)


def pictures(folder: Path) -> Path:
    """A picture of every kind, one that is cut off, and one that is none."""
    folder.mkdir()
    scene = np.random.default_rng(0).integers(0, 255, (50, 90), np.uint8)
    grey = Image.fromarray(scene)
    for name, image in {
        "grey": grey,
        "colour": grey.convert("RGB"),
        "palette": grey.convert("P"),
        "alpha": grey.convert("RGBA"),
        "deep": Image.fromarray(scene.astype(np.uint16) * 257),
    }.items():
        image.save(folder / f"{name}.png")
    grey.save(folder / "photo.jpg")
    (folder / "broken.png").write_bytes((folder / "grey.png").read_bytes()[:200])
    head = b"IHDR" + struct.pack(">IIBBBBB", 10_001, 10_000, 8, 0, 0, 0, 0)
    parts = (struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (head, b"IDAT"))
    (folder / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_predictions_of_any_pictures(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = pictures(tmp_path / "in"), tmp_path / "out"
    assert main(["predict", "boxes", str(folder), "--out", str(out), "--score", "0.05", "--json"]) == 1
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert len(document["predictions"]) == 6
    assert "broken.png is damaged or cut off" in told.err
    assert "huge.png has 10,001 x 10,000 pixels; at most 100,000,000 are read" in told.err
    assert json.loads((out / "predictions.json").read_text())["predictions"] == document["predictions"]
    assert len(list(out.glob("*_boxes.png"))) == 6
    same = [one["boxes"] for one in document["predictions"] if Path(one["picture"]).suffix == ".png"]
    assert all(boxes == same[0] for boxes in same), "the same scene, however its pixels are stored"
    for one in document["predictions"]:
        assert one["size"] == [90, 50]
        for box in one["boxes"]:
            assert 0 <= box["box"][0] < box["box"][2] <= 90
            assert 0 <= box["box"][1] < box["box"][3] <= 50
    assert main(["predict", "masks", str(folder / "deep.png"), "--out", str(out)]) == 0
    with Image.open(out / "deep_mask.png") as mask:
        assert (mask.mode, mask.size) == ("P", (90, 50))
    assert main(["predict", "digits", str(folder / "colour.png"), "--json"]) == 0
    (classes,) = json.loads(capsys.readouterr().out.splitlines()[-1])["predictions"]
    assert sum(one["probability"] for one in classes["classes"]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("classes", [2, 17, 256])
def test_masks_keep_the_numbers_of_all_classes(classes: int) -> None:
    """A palette of fewer colours than classes would make Pillow write fewer bits a pixel."""
    true = (np.arange(24).reshape(4, 6) * (classes // 25 or 1) % classes).astype(np.uint8)
    names = tuple(map(str, range(classes)))
    task = SimpleNamespace(classes=names, predict=lambda x: (true[None] == np.arange(classes)[:, None, None])[None])
    told, drawn = tell_mask(task, Picture(Image.new("L", (6, 4)), np.zeros((1, 1, 4, 6))))
    assert drawn is not None
    out = io.BytesIO()
    drawn[1].save(out, "PNG")
    with Image.open(out) as image:
        np.testing.assert_array_equal(np.asarray(image), true)
    assert sum(told["shares"].values()) == pytest.approx(1)


def test_more_classes_than_a_byte_are_refused(tmp_path: Path) -> None:
    many = {"categories": [{"id": number, "name": f"c{number}"} for number in range(256)]}
    with pytest.raises(RlabError, match="has 256 classes, and the bytes of masks hold 255 beside the background"):
        of_recipe("unet", coco(tmp_path, many, ([SQUARE],)))


@pytest.mark.parametrize(("score", "found"), [("0", True), ("1", False)])
def test_any_score_is_told(
    score: str, found: bool, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also below what the run itself leaves out, .05; a list without a box is one, too."""
    Image.new("L", (20, 30)).save(tmp_path / "blank.png")
    capsys.readouterr()
    words = ["predict", "boxes", str(tmp_path / "blank.png"), "--score", score, "--out", str(tmp_path / "out")]
    assert main([*words, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["predictions"]
    assert bool(told["boxes"]) == found
    assert not found or min(box["probability"] for box in told["boxes"]) < 0.05
    assert main(words) == 0
    assert ("nothing found" in capsys.readouterr().out) != found


def test_names_of_any_length_and_letters_are_written(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("n" * 250, "\u732b" * 80, "a\x1b[31m\nb"):
        Image.new("L", (20, 30)).save(tmp_path / "in" / f"{name}.png")
    capsys.readouterr()
    assert main(["predict", "boxes", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert len(told.splitlines()) == 4
    assert "\x1b" not in told
    assert len(list((tmp_path / "out").glob("*boxes.png"))) == 3


def film(folder: Path, frames: int = 6) -> Path:
    """A video, the same as GIF, and both of them cut off, empty, and none at all."""
    folder.mkdir()
    scenes = np.random.default_rng(0).integers(0, 255, (frames, 50, 90, 3), np.uint8)
    with VideoFile(folder / "clip.mp4", 5) as video:
        for scene in scenes:
            video.add(scene)
    first, *more = map(Image.fromarray, scenes)
    first.save(folder / "clip.gif", save_all=True, append_images=more, duration=200)
    for ending in ("mp4", "gif"):
        whole = (folder / f"clip.{ending}").read_bytes()
        (folder / f"cut.{ending}").write_bytes(whole[: len(whole) // 2])
        (folder / f"head.{ending}").write_bytes(whole[:40])
        (folder / f"empty.{ending}").touch()
        (folder / f"list.{ending}").write_text(f"#EXTM3U\n{folder / 'clip.mp4'}\n")
    damaged = bytearray((folder / "clip.mp4").read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 200] = b"\xff" * 200
    (folder / "scratched.mp4").write_bytes(damaged)
    return folder


def test_videos_are_told_frame_by_frame(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = film(tmp_path / "in"), tmp_path / "out"
    clips = [str(folder / name) for name in ("clip.mp4", "clip.gif")]
    for run, key in (("boxes", "boxes"), ("masks", "shares"), ("digits", "classes")):
        capsys.readouterr()
        assert main(["predict", run, *clips, "--out", str(out), "--score", "0.05", "--json"]) == 0
        for one in json.loads(capsys.readouterr().out)["predictions"]:
            assert (one["size"], one["frames_per_s"], len(one["frames"])) == ([90, 50], 5, 6)
            assert all(set(frame) == {key} for frame in one["frames"])
    assert main(["predict", "digits", clips[0]]) == 0
    assert "clip.mp4, 6 frames: " in capsys.readouterr().out
    films = sorted(path.name for path in out.glob("*.mp4"))
    assert films == ["clip_boxes-2.mp4", "clip_boxes.mp4", "clip_mask-2.mp4", "clip_mask.mp4"]
    for name in films:
        with open_video(out / name) as (rate, images):
            assert (rate, [image.size for image in images]) == (5, [(90, 50)] * 6)


def test_bad_videos_are_named(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = film(tmp_path / "in"), tmp_path / "out"
    said = {"cut": "is damaged or cut off", "head": "is damaged or cut off", "empty": "is empty", "list": "is no video"}
    names = [f"{name}.{ending}" for name in said for ending in ("mp4", "gif")] + ["scratched.mp4"]
    capsys.readouterr()
    assert main(["predict", "boxes", *(str(folder / name) for name in names), "--out", str(out)]) == 1
    assert main(["predict", "boxes", *(str(folder / name) for name in (*names, "clip.gif")), "--out", str(out)]) == 1
    lines = capsys.readouterr().err.splitlines()
    for name in names:
        told = said.get(name.partition(".")[0], "is damaged or cut off")
        assert sum(f"{name} {told}" in line for line in lines) >= 2, name
    assert sorted(path.name for path in out.iterdir()) == ["clip_boxes.mp4", "predictions.json"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["boxes", "{in}/broken.png"], "broken.png is damaged or cut off"),
        (["boxes", "{in}/huge.png"], "huge.png has 10,001 x 10,000 pixels"),
        (["boxes", "{in}/notes.txt"], "notes.txt is no PNG or JPEG"),
        (["boxes", "{in}/nothing.png"], "there is no picture"),
        (["boxes", "{in}/empty"], "holds no pictures"),
        (["boxes"], "there is no picture to predict from"),
        (["boxes", "{in}/grey.png", "--score", "2"], "--score is 2.0"),
        (["boxes", "{in}/grey.png", "--score", "nan"], "--score is nan"),
        (["boxes", "{in}/grey.png", "--out", "{in}/notes.txt"], "which is no folder"),
        (["boxes", "{in}/grey.png", "--out", "{in}/notes.txt/more"], "cannot write under"),
        (["digits", "{in}/grey.png", "--out", "{in}/notes.txt/more"], "cannot write under"),
        (["boxes", "~nobody9/grey.png"], "there is no picture ~nobody9/grey.png"),
        (["boxes", "n" * 5_000], "there is no picture nnn"),
    ],
)
def test_bad_pictures_are_one_sentence(
    words: list[str], said: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures(tmp_path / "in")
    (folder / "empty").mkdir()
    capsys.readouterr()
    assert main(["predict", *(word.replace("{in}", str(folder)) for word in words)]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.rglob("*boxes*"))
    assert not list(tmp_path.rglob("predictions.json"))


class Scenes(gym.Env[Any, Any]):
    """Noise of the scenes' shape; nothing is to be won."""

    observation_space = gym.spaces.Box(0, 255, (64, 64, 1), np.uint8)
    action_space = gym.spaces.Discrete(2)  # type: ignore[assignment]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.np_random.integers(0, 255, (64, 64, 1), np.uint8), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.np_random.integers(0, 255, (64, 64, 1), np.uint8), 0.0, True, False, {}


def encoder_of(run: Any, *parts: str) -> dict[str, Any]:
    """The weights of an encoder's convolutions in a run's newest checkpoint."""
    saved = read_newest(run)
    assert saved is not None
    held = saved.state
    for part in parts[:-1]:
        held = held[part]
    prefix = f"{parts[-1]}.convolutions."
    found = {name.removeprefix(prefix): t for name, t in held.items() if name.startswith(prefix)}
    assert len(found) > 10
    return found


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)


def test_encoder_of_a_detector_goes_under_others(runs: Path) -> None:
    """A segmenter keeps it frozen, DQN learns on from it, with dense layers of its own; and a detector takes DQN's."""
    how: dict[str, Any] = {"examples": 24, "epochs": 1, "threads": 1, "evaluate_steps": 0, "validation": 0.0}
    theirs = encoder_of(rlab.load("boxes").folder, "modules", "model.encoder")
    run = rlab.train("fcn", data="digit-scenes", encoder="boxes", freeze=True, **how)
    assert same(encoder_of(run, "modules", "model.encoder"), theirs)
    quick: dict[str, Any] = {"steps": 16, "num_envs": 1, "learning_starts": 1_000, "final_episodes": 1, "threads": 1}
    agent = rlab.train("dqn", Scenes, "agent", encoder="boxes", **quick)
    for network in ("online", "target"):
        assert same(encoder_of(agent, "agent", network, "encoder"), theirs), "nothing was learned yet"
    with pytest.raises(RlabError, match="run 'boxes' has learned maps alone, so that --freeze would keep the dense"):
        rlab.train("dqn", Scenes, encoder="boxes", freeze=True, **quick)
    with pytest.raises(RlabError, match=r"the encoder of run 'boxes' does not fit these observations: .* has shape"):
        rlab.train("dqn", "MinAtar/Breakout", encoder="boxes", **quick)
    again = rlab.train("ssd", data="digit-scenes", encoder="agent", freeze=True, width=8, **how)
    assert same(encoder_of(again, "modules", "model.encoder"), theirs)


@pytest.mark.parametrize(
    ("recipe", "data", "settings", "said"),
    [
        ("ssd", "digits", {}, "is of kind images, and this recipe learns from images with boxes or masks"),
        ("lenet", "digit-scenes", {}, "is no labelled images, tables or series"),
        ("ssd", "digit-scenes", {"encoder": "mlp"}, "encoder 'mlp' has no feature maps for detection"),
        ("unet", "digit-scenes", {"encoder": "mlp"}, "encoder 'mlp' has no feature maps"),
        ("ssd", "digit-scenes", {"encoder": "resnet+lsuv"}, "starts by looking at whole images"),
        ("ssd", "digit-scenes", {"optimiser": "lbfgs"}, "lbfgs asks for the loss of a batch several times"),
        ("ssd", "digit-scenes", {"label_smoothing": 0.1}, "--label-smoothing is 0.1"),
        ("ssd", "digit-scenes", {"mining": "none", "negatives": 5}, "--negatives is 5, which does nothing without"),
        ("ssd", "digit-scenes", {"examples": 9_999}, "has 432 train images"),
    ],
)
def test_what_does_not_go_together(recipe: str, data: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RlabError, match=said):
        of_recipe(recipe, data, **settings)


def test_classes_without_masks_are_refused(tmp_path: Path) -> None:
    name = voc(tmp_path, MANY)
    with pytest.raises(RlabError, match="has boxes, but no masks"):
        of_recipe("unet", name)
    fit = of_recipe("ssd", name, epochs=1, batch_size=4, width=8)
    fit.step()
    assert fit.task.dataset.shape == (1, 30, 40)
    assert ability(fit, Detects) is fit.task


def test_segmenters_learn_outlines_of_coco(tmp_path: Path) -> None:
    few: dict[str, Any] = {"epochs": 1, "batch_size": 4, "width": 4}
    fit = of_recipe("unet", coco(tmp_path / "a", {}, ([SQUARE],)), **few)
    fit.step()
    assert fit.task.source.masks.max() == 1
    assert fit.task.dataset.classes == ("background", "cat", "dog")
    with pytest.raises(RlabError, match=r"annotation 10 of 10.png has no segmentation, .* nearest: the recipe ssd"):
        of_recipe("unet", coco(tmp_path / "b", {}), **few)


def test_bench_beside_torchvision_needs_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert main(["bench", "detection", "--torchvision", "--images", "2", "--rounds", "1"]) == 1
    assert "torchvision is not installed" in capsys.readouterr().err
