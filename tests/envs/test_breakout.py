"""Breakout as its objects: what the memory says is what the pixels show, and the game is the same one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rlab
from rlab.cli import main
from rlab.envs import make_vec
from rlab.envs.breakout import CLASSES, HEIGHT, WIDTH, objects_of, vector_of, wall_of
from rlab.errors import RlabError
from rlab.run.checkpoint import digest
from rlab.run.contract import Detects
from rlab.run.journal import Journal
from rlab.tasks.detection.breakout import finder, frames
from tests.agents.helpers import learner
from tests.agents.test_interaction import save_and_restore


def painted(boxes: np.ndarray) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for left, top, right, bottom in boxes.astype(int):
        mask[top:bottom, left:right] = True
    return mask


def test_memory_tells_what_pixels_show() -> None:
    """All boxes cover exactly the pixels that are not black, and so does each: the ball's, what the others leave."""
    seen = set[str]()
    for picture, ram in frames(5, 150):
        pixels, (boxes, labels) = picture.any(0), objects_of(ram)
        np.testing.assert_array_equal(painted(boxes), pixels)
        seen |= {CLASSES[kind] for kind in labels}
        if labels[0] == 0:
            ball, others = painted(boxes[:1]), painted(boxes[1:])
            np.testing.assert_array_equal(ball & ~others, pixels & ~others)
            assert 0 < ball.sum() <= 10
            seen |= {"ball in the wall"} if boxes[0, 1] < 60 else set()
    assert seen == {*CLASSES, "ball in the wall"}


def test_vector_says_where_and_whither() -> None:
    _, ram = frames(0, 3)[-1]
    boxes, labels = objects_of(ram)
    at = np.array([[70, 100, 74, 104], [36, 156, 52, 160]], np.float32)
    first = vector_of((at, np.array([0, 1])), None)
    assert first[:7].tolist() == pytest.approx([1, 1, 8 * 44 / 144 - 4, 0, 8 * 102 / 160 - 4, 0, 0])
    assert vector_of((at[:1] + 8, np.array([0])), first)[:7].tolist() == pytest.approx(
        [1, 0, 0, 8 * 80 / 144 - 4, 8 * 110 / 160 - 4, 20 * 8 / 144, 20 * 8 / 160]
    )
    assert not vector_of((at[:0], np.array([], int)), first).any()
    wall = vector_of((boxes, labels), None)[7:].reshape(wall_of(ram).shape)
    np.testing.assert_array_equal(wall, wall_of(ram))


@pytest.fixture
def envs() -> Iterator[list[Any]]:
    made: list[Any] = []
    yield made
    for env in made:
        env.close()


def test_objects_are_of_the_same_game(envs: list[Any]) -> None:
    """No no-ops and no sticky actions: the pixels' environment pays and ends in the same steps."""
    rules: dict[str, Any] = {"protocol": "v5", "sticky": 0.0, "max_frames": 600}
    envs += [make_vec("Breakout", 2, 3, **rules), make_vec("Breakout", 2, 3, **rules, observe="ram")]
    rng, ends = np.random.default_rng(0), 0
    for env in envs:
        env.reset(seed=4)
    for _ in range(200):
        actions = rng.integers(0, 4, 2)
        (_, *pixels, seen), (obs, *objects, told) = (env.step(actions) for env in envs)
        for a, b in zip(pixels, objects, strict=True):
            np.testing.assert_array_equal(a, b)
        for name in ("raw_reward", "life_lost", "action"):
            np.testing.assert_array_equal(seen[name], told[name])
        ended = objects[1] | objects[2]
        ends += ended.sum() + told["life_lost"].sum()
        assert obs in envs[1].observation_space
        np.testing.assert_array_equal((obs != told["final_obs"]).any(1), ended)
    assert ends >= 8  # two games are cut off; the others end by the lives


def test_objects_fire_and_repeat_by_the_seed(envs: list[Any]) -> None:
    envs += [make_vec("Breakout", 2, 3, observe="ram", sticky=0.1, training=training) for training in (True, False)]
    assert [(env.protocol, env.life_loss_ends, env.frame_stack) for env in envs] == [
        ("classic", True, 1),
        ("classic", False, 1),
    ]
    runs, forced = [], 0
    for env in [envs[0], *envs]:
        rows, lost = [env.reset(seed=9)[0]], np.zeros(2, bool)
        for _ in range(60):
            obs, reward, *_, info = env.step(np.full(2, 2))
            np.testing.assert_array_equal(info["action"], np.where(lost, 1, 2))
            np.testing.assert_array_equal(reward, np.sign(info["raw_reward"]) if env is envs[0] else info["raw_reward"])
            lost = info["life_lost"]
            forced += int(lost.sum())
            rows.append(obs)
        runs.append(np.stack(rows))
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[0], runs[2])
    assert forced >= 6, forced
    assert (runs[0][:, 0] != runs[0][:, 1]).any()


SMALL = ["--examples", "8", "--epochs", "1", "--validation", "0", "--width", "8", "--evaluate-steps", "0"]
EYES = ["--data", "breakout-objects", "--stride", "4", "--levels", "1", "--cells", "1", *SMALL, "--threads", "1"]


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a detector that has learned a little of Breakout's objects."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLAB_RUNS", str(folder))
        assert main(["train", "ssd", *EYES, "--name", "eyes"]) == 0
    return folder / "eyes"


@pytest.fixture
def runs(eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs folder with a copy of that run; what it is not sure of counts, too, for it is sure of nothing."""
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    monkeypatch.setattr("rlab.tasks.detection.breakout.finder", partial(finder, score=0.0))
    shutil.copytree(eyes, tmp_path / "eyes")
    return tmp_path


def resumed_to_the_bit(observe: str, folder: Path) -> bool:
    """Go on from the middle of two games with sticky actions, with another number of torch's threads than before."""
    quick: dict[str, Any] = {"num_envs": 2, "learning_starts": 8, "batch_size": 4, "train_every": 4}
    rules: dict[str, Any] = {"steps": 400, "protocol": "v5", "max_frames": 60}

    def build(journal: Journal) -> Any:
        return learner(journal, "dqn", "Breakout", observe=observe, **quick, **rules)

    def to(run: Any, steps: int) -> None:
        while run.progress().done < steps:
            run.step()

    journals = [Journal(folder / name) for name in ("whole", "saved")]
    whole, run = (build(journal) for journal in journals)
    to(run, 36)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        again, newer = save_and_restore(run, journals[1], folder, build)
    finally:
        torch.set_num_threads(threads)
    begun = digest(again.state())
    for each in (whole, again):
        to(each, 48)
    seen, ends = again.stream.obs.any(axis=1).all(), [digest(each.state()) for each in (whole, again)]
    for one in (whole, run, again, *journals, newer):
        one.close()
    return bool(seen) and ends[0] == ends[1] != begun


def test_play_by_memory_resumes_to_the_bit(tmp_path: Path) -> None:
    assert resumed_to_the_bit("ram", tmp_path)


def test_play_by_a_detector_resumes_to_the_bit(runs: Path) -> None:
    assert resumed_to_the_bit("eyes", runs)


def test_detector_leaves_the_threads_alone(runs: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)  # the detector's run has one
    try:
        find = finder("eyes")
        assert torch.get_num_threads() == 3
        find(np.stack([picture for picture, _ in frames(0, 1)]))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


def test_resume_without_its_detector_is_one_sentence(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Moved, gone or damaged since: nothing of the agent's run changes, and it goes on once that is mended."""
    dqn = ["--env", "Breakout", "--observe", "eyes", "--steps", "20", "--num-envs", "1", "--learning-starts", "10"]
    more = ["--batch-size", "4", "--final-episodes", "1", "--max-frames", "40", "--threads", "1", "--name", "agent"]
    assert main(["train", "dqn", *dqn, *more]) == 0
    assert "it observes by run 'eyes', which must stay where and as it is" in capsys.readouterr().err

    def files() -> dict[Path, bytes]:
        """But for env.json, which notes every session."""
        there = [path for path in (runs / "agent").rglob("*") if path.is_file() and path.name != "env.json"]
        return {path: path.read_bytes() for path in there}

    kept = files()

    def refused(said: str) -> None:
        capsys.readouterr()
        assert main(["resume", "agent", "--steps", "40"]) == 1
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert said in error
        assert files() == kept

    (runs / "eyes").rename(runs / "elsewhere")
    refused("observe is 'eyes', and the objects cannot be found by it: no run 'eyes' under")
    shutil.copytree(runs / "agent", runs / "eyes")  # which observes by a run of its own name
    refused("observe is 'eyes', and the objects cannot be found by it: run 'eyes' has not learned Breakout's objects")
    shutil.rmtree(runs / "eyes")
    shutil.copytree(runs / "elsewhere", runs / "eyes")
    (runs / "eyes/config.json").write_text("{")
    refused("observe is 'eyes', and the objects cannot be found by it: ")
    shutil.rmtree(runs / "eyes")
    (runs / "elsewhere").rename(runs / "eyes")
    assert main(["resume", "agent", "--steps", "40"]) == 0


def test_detector_of_other_pictures_is_refused(runs: Path) -> None:
    """Breakout's objects learned in pictures of another size."""
    assert main(["train", "ssd", *EYES, "--shape", "3x80x72", "--name", "small"]) == 0
    with pytest.raises(RlabError, match="run 'small' has not learned Breakout's objects; nearest: rlab train ssd"):
        finder("small")


def test_detectors_run_plays_in_place_of_memory(runs: Path, envs: list[Any]) -> None:
    dqn = ["--env", "Breakout", "--observe", "ram", "--steps", "40", "--num-envs", "2", "--learning-starts", "20"]
    more = ["--batch-size", "8", "--final-episodes", "1", "--max-frames", "40", "--threads", "1", "--name", "agent"]
    assert main(["train", "dqn", *dqn, *more]) == 0
    pictures = np.stack([picture for picture, _ in frames(0, 2)])
    with rlab.load("eyes") as loaded:
        told = loaded.ability(Detects).detect(pictures)
    for one, (boxes, labels) in zip(told, finder("eyes", 0.0)(pictures), strict=True):
        np.testing.assert_array_equal(one["boxes"], boxes)
        np.testing.assert_array_equal(one["classes"], labels)
        assert len(labels)
    envs.append(make_vec("Breakout", 2, 0, observe="eyes"))
    assert envs[0].reset()[0] in envs[0].observation_space
    for game, observe, why in (
        ("Breakout", "agent", "run 'agent' has not learned Breakout's objects; nearest: rlab train ssd"),
        ("Breakout", "rams", "rams"),
        ("Pong", "ram", "observe is 'ram', but of 'pong' no objects are known; nearest: pixels, or Breakout"),
    ):
        with pytest.raises(RlabError, match=why):
            make_vec(game, 1, 0, observe=observe)
