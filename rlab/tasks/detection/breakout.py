"""Frames of Breakout labelled by the game's own memory, and detectors that tell an agent what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from rlab.data.annotations import AnnotatedImages
from rlab.data.readers import READERS, Read
from rlab.envs.breakout import (
    BALL_X,
    BALL_Y,
    CLASSES,
    HEIGHT,
    PADDLE_X,
    WIDTH,
    Finder,
    Found,
    objects_of,
    picture_of,
    start,
)
from rlab.errors import RlabError
from rlab.registry import RECIPES

TRAIN, TEST = 400, 100
"""Frames, of games with seeds of their own."""

APART = 16
"""Frames of the game from one picture to the next."""

FOLLOWS = 0.9
"""Share of the actions by which the paddle follows the ball; the others are random."""

SURE = 0.1
"""Boxes of a lower probability are not told to an agent: a ball is often less sure than a brick, and above .1 rarely
wrong."""


@READERS.register("breakout-objects")
def breakout_objects(read: Read) -> AnnotatedImages:
    """Play the games and label their frames, once in a process; `read` is not used."""
    return _played()


@cache
def _played() -> AnnotatedImages:
    """The data set. Where the ball is in front of something, a pixel's mask is the ball's."""
    pictures, found = list[np.ndarray](), list[Found]()
    for seed, number in enumerate((TRAIN, TEST)):
        for picture, ram in frames(seed, number):
            pictures.append(picture)
            found.append(objects_of(ram))
    masks = np.zeros((len(found), *pictures[0].shape[1:]), np.int16)
    for mask, (boxes, _) in zip(masks, found, strict=True):
        for number in range(len(boxes), 0, -1):
            left, top, right, bottom = boxes[number - 1].astype(int)
            mask[top:bottom, left:right] = number
    return AnnotatedImages(
        np.stack(pictures),
        [boxes for boxes, _ in found],
        [labels for _, labels in found],
        CLASSES,
        test=np.arange(TRAIN, TRAIN + TEST),
        masks=masks,
    )


def frames(seed: int, number: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Play with a paddle that mostly follows the ball: (picture uint8[3, H, W], memory uint8[128]) of each frame."""
    rng, ale, result = np.random.default_rng(seed), start(seed), list[tuple[np.ndarray, np.ndarray]]()
    still, fire, right, left = ale.getMinimalActionSet()
    ale.reset_game()
    while len(result) < number:
        for _ in range(APART):
            ram = ale.getRAM()
            away = int(ram[BALL_X]) - int(ram[PADDLE_X]) - 8  # of the ball from the middle of the paddle
            action = right if away > 2 else left if away < -2 else still
            if rng.random() > FOLLOWS or not ram[BALL_Y]:
                action = (still, fire, right, left)[rng.integers(4)]
            ale.act(action)
            if ale.game_over():
                ale.reset_game()
        result.append((picture_of(ale).copy(), ale.getRAM()))
    return result


def finder(run: str, score: float = SURE) -> Finder:
    """Open a detector's run on `breakout-objects` for an agent in Breakout.

    It computes with one thread, so that what it finds does not depend on how many the agent's run has.

    Args:
        run: RUN, or RUN:PROGRESS of a checkpoint.
        score: boxes of a lower probability are left out.

    Raises:
        RlabError: there is no such run, it is damaged, or it has learned something else.
    """
    import torch

    try:
        with _threads(torch.get_num_threads()):  # opening a run takes that run's number
            task = _detector(run)
    except RlabError as e:
        raise RlabError(f"observe is '{run}', and the objects cannot be found by it: {e}") from None

    def find(pictures: np.ndarray) -> list[Found]:
        with _threads(1):
            found = task.detect(pictures)
        told = []
        for one in found:
            sure = one["scores"] >= score
            told.append((one["boxes"][sure].astype(np.float32), one["classes"][sure].astype(np.int64)))
        return told

    return find


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Give torch so many threads while it lasts, and then those that it had."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _detector(run: str) -> Any:
    """The task of a detector's run, with what it has learned.

    Raises:
        RlabError: there is no such run, it is damaged, or it has learned something else.
    """
    import rlab.tasks.detection.recipes  # noqa: F401  (registers what such a run is of)
    from rlab.run.contract import Detects, ability
    from rlab.run.folder import run_at
    from rlab.run.lifecycle import find_checkpoint, of_this_version, open_run, restore_policy

    folder, progress = run_at(run)
    other = RlabError(
        f"run '{folder.name}' has not learned Breakout's objects; nearest: rlab train ssd --data breakout-objects"
    )
    document = folder.config()
    # an agent's run would open the run that it observes by, which may be itself
    if document["recipe"] not in RECIPES or document["subject"].keys() != {"data"}:
        raise other
    with open_run(folder, "cpu", progress=progress) as opened:
        task = ability(opened.learner, Detects)
        data: Any = getattr(task, "dataset", None)
        if data is None or data.classes != CLASSES or data.shape != (3, HEIGHT, WIDTH):
            raise other
        with of_this_version(folder):
            restore_policy(opened.learner, find_checkpoint(folder, progress).state)
    return task
