"""``rlab predict RUN IMAGE...``: what a model says of any pictures: classes, masks, or boxes drawn on them."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rlab.cli.common import (
    DeviceName,
    JsonFlag,
    RunName,
    TrustFlag,
    parse,
    reference,
    results,
    say,
    stopped_status,
    until_stopped,
)
from rlab.cli.flags import Arg
from rlab.errors import RlabError, printable
from rlab.run.contract import Detects, Labels, Stop, Stopped, ability
from rlab.run.folder import run_at

if TYPE_CHECKING:
    from rlab.tasks.detection.any_picture import Told


@dataclass(frozen=True)
class Flags:
    """Tell what a model sees in pictures: classes with their probabilities, a mask of classes, or boxes. Pictures are
    PNG or JPEG of any size and kind; they are resized to what the model has learned from, and boxes and masks back. A
    video (MP4, MOV, WebM, Matroska, GIF) is told frame by frame, and becomes an mp4 with boxes or masks."""

    run: RunName
    """A run's name, a path, or `latest`; RUN:best is its best checkpoint."""
    images: Annotated[tuple[str, ...], Arg("IMAGE [IMAGE ...]", positional=True)] = ()
    """Pictures, folders of pictures, or videos."""
    out: Annotated[Path | None, Arg("DIR")] = None
    """Where pictures with boxes, masks and predictions.json are written; without it nothing is."""
    score: float = 0.5
    """Boxes of a lower probability are not told."""
    device: DeviceName = None
    """Where the network runs; by default a GPU where there is one."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    return until_stopped(lambda stop: _predict(argv, stop))


TOP = 3
"""Classes that are told of a picture."""


def _predict(argv: Sequence[str], stop: Stop) -> int:
    flags = parse(Flags, "predict", argv)
    _refuse_sequences(flags.run)
    if not flags.images:
        raise RlabError("there is no picture to predict from; nearest: rlab predict RUN IMAGE.png")
    if not 0 <= flags.score <= 1:
        raise RlabError(f"--score is {flags.score}; it must lie between 0 and 1")
    paths = list(_pictures(flags.images))
    if flags.out is not None and flags.out.exists() and not flags.out.is_dir():
        raise RlabError(f"--out is {flags.out}, which is no folder")
    with results(flags.json) as put:
        from rlab.api import load
        from rlab.data.media import VIDEOS
        from rlab.run.files import to_json
        from rlab.tasks.detection.any_picture import read_picture

        told, problems = [], []
        with load(flags.run, flags.device or "auto") as loaded:
            tell = _teller(loaded, flags.score)
            taken: set[str] = set()
            for number, path in enumerate(paths):
                if stop.requested:
                    return stopped_status(stop)
                stop.tell(number, len(paths))
                drawn: tuple[str, Any] | None = None
                try:
                    if path.suffix.lower() in VIDEOS:
                        found = _film(path, tell, flags.out, taken, stop)
                    else:
                        found, drawn = tell(read_picture(path))
                except Stopped:
                    return stopped_status(stop)
                except RlabError as e:  # one bad picture of many costs nothing but itself
                    problems.append(e)
                    if len(paths) > 1:
                        say(f"skipped {e}")
                    continue
                if flags.out is not None and drawn is not None:
                    ending, image = drawn
                    file, png = flags.out / _free(f"{path.stem}_{ending}", taken), io.BytesIO()
                    image.save(png, "PNG")
                    _write(file, png.getvalue())
                    found["file"] = str(file)
                told.append({"picture": str(path)} | found)
            name = loaded.folder.name
        if problems and not told:
            raise problems[0]
        lines = [_line(one) for one in told]
        document = {"run": name, "predictions": told, "skipped": [str(e) for e in problems]}
        if flags.out is not None:
            _write(flags.out / "predictions.json", to_json({"schema": 1} | document))
            lines.append(f"wrote   {flags.out / 'predictions.json'}")
        put("\n".join(lines), document)
        return int(bool(problems))


CLASSIFIED = ("labelled text", "labelled steps", "series")
SEQUENCES = ("text", "pairs", "dialogues", "waves", *CLASSIFIED)
"""Kinds of data sets whose items are no pictures; of some the items have classes."""


def _refuse_sequences(name: str) -> None:
    """Refuse a run on sequences before any file is looked for, since its words are no names of pictures.

    Raises:
        RlabError: there is no such run, or it was trained on sequences.
    """
    from rlab.data.catalog import DATASETS
    from rlab.data.own import OWN
    from rlab.recipes import verb_of

    folder, _ = run_at(name)
    document = folder.config()
    data = str(document["subject"].get("data", ""))
    own = OWN.get(data.partition(":")[0])  # the files may be gone
    kind = own.kind if own is not None else DATASETS.get(data).kind if data in DATASETS else ""
    if kind in SEQUENCES:
        run = reference(folder)
        way = f"rlab.load('{run}').predict in Python" if kind in CLASSIFIED else f"rlab {verb_of(document)} {run}"
        raise RlabError(
            f"run '{folder.name}' was trained on '{data}', {kind}, and predict reads pictures; nearest: {way}"
        )


def _write(file: Path, data: bytes) -> None:
    """Write a file into a folder that is made where there is none.

    Raises:
        RlabError: the disk refused.
    """
    from rlab.run.files import disk_error, make_folder, replace_durably

    try:
        make_folder(file.parent)
    except OSError as e:
        raise disk_error(e, file.parent) from None
    replace_durably(file, data)


def _pictures(words: Sequence[str]) -> Iterator[Path]:
    """The pictures that are named, and those in folders, by name.

    Raises:
        RlabError: there is no such file, or a folder without pictures.
    """
    from rlab.data.own import PICTURES, at, listed

    for word in words:
        path = at(word)
        if os.path.isdir(path):
            found = [one for one in listed(path) if one.suffix.lower() in PICTURES and not one.is_dir()]
            if not found:
                raise RlabError(f"{path} holds no pictures ({', '.join(PICTURES)})")
            yield from found
        elif os.path.exists(path):  # Path.exists fails of a name that is too long
            yield path
        else:
            raise RlabError(f"there is no picture {path}")


LONGEST_STEM = 200
"""Bytes of a written file's name, without its ending: names have 255 at the most."""


def _free(name: str, taken: set[str]) -> str:
    """The name, or one with a number where another picture of this call has it."""
    stem, _, ending = name.rpartition(".")
    stem = os.fsdecode(os.fsencode(stem)[-LONGEST_STEM:]) if len(os.fsencode(stem)) > LONGEST_STEM else stem
    chosen, number = f"{stem}.{ending}", 1
    while chosen in taken:
        number += 1
        chosen = f"{stem}-{number}.{ending}"
    taken.add(chosen)
    return chosen


def _teller(loaded: Any, score: float) -> Callable[[Any], Told]:
    """A picture as a PIL image -> what the run says of it.

    Raises:
        RlabError: it says nothing of images.
    """
    from rlab.nn.detection.select import Telling
    from rlab.tasks.detection.any_picture import as_model_takes, tell_boxes, tell_classes, tell_mask

    task: Any = ability(loaded.learner, Detects)
    predicts = task is None
    task = task or loaded.ability(Labels)
    data: Any = getattr(task, "dataset", None)
    shape = tuple(getattr(data, "shape", ()))
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise RlabError(f"run '{loaded.folder.name}' was trained on '{getattr(data, 'name', 'other data')}', items of "
                        f"shape {list(shape)}, which are no pictures, grey or in colours")  # fmt: skip
    if isinstance(telling := getattr(task, "telling", None), Telling):  # else what the run itself leaves out is missing
        task.telling = telling._replace(score=score)

    def tell(image: Any) -> Told:
        picture = as_model_takes(image, data)
        if not predicts:
            return tell_boxes(task, picture, score)
        return (tell_mask if data.kind == "segmentation" else tell_classes)(task, picture)

    return tell


def _film(path: Path, tell: Callable[[Any], Told], out: Path | None, taken: set[str], stop: Stop) -> dict[str, Any]:
    """Tell every frame of a video, and write an mp4 into the folder `out`, if there is one, of what can be drawn.

    Raises:
        RlabError: the video cannot be read; then no file is left.
        Stopped: a stop was requested; the same.
    """
    from rlab.data.media import open_video
    from rlab.run.video import VideoFile
    from rlab.tasks.detection.any_picture import as_frame

    frames, about = list[dict[str, Any]](), dict[str, Any]()
    with contextlib.ExitStack() as stack:
        rate, images = stack.enter_context(open_video(path))
        film = None
        for image in images:
            if stop.requested:
                raise Stopped
            found, drawn = tell(image)
            frames.append({key: value for key, value in found.items() if key != "size"})
            if out is None or drawn is None:
                continue
            if film is None:
                file = out / _free(f"{path.stem}_{Path(drawn[0]).stem}.mp4", taken)
                film, about = stack.enter_context(VideoFile(file, rate)), {"file": str(file)}
            film.add(as_frame(image, drawn[1]))
    return {"size": list(image.size), "frames_per_s": rate, "frames": frames} | about


def _together(frames: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is told of a video's frames, as of one picture: all boxes, or the mean over frames of anything else."""
    if "boxes" in frames[0]:
        return {"boxes": [box for frame in frames for box in frame["boxes"]]}
    if "numbers" in frames[0]:
        return {"numbers": [sum(column) / len(frames) for column in zip(*(f["numbers"] for f in frames), strict=True)]}
    means: dict[str, float] = {}
    for frame in frames:
        shares = frame.get("shares") or {one["class"]: one["probability"] for one in frame["classes"]}
        for name, share in shares.items():
            means[name] = means.get(name, 0.0) + share / len(frames)
    if "shares" in frames[0]:
        return {"shares": means}
    order = sorted(means, key=lambda name: -means[name])
    return {"classes": [{"class": name, "probability": means[name]} for name in order]}


def _line(told: dict[str, Any]) -> str:
    """A picture, or a video, in one line."""
    path, file = printable(told["picture"]), f"  ({printable(told['file'])})" if "file" in told else ""
    if "frames" in told:
        path += f", {len(told['frames']):,} frames"
        told = _together(told["frames"])
    if "boxes" in told:
        counts: dict[str, int] = {}
        for box in told["boxes"]:
            counts[box["class"]] = counts.get(box["class"], 0) + 1
        said = ", ".join(f"{n} {name}" for name, n in counts.items()) or "nothing found"
    elif "shares" in told:
        said = ", ".join(f"{name} {100 * share:.1f} %" for name, share in told["shares"].items() if share)
    elif "classes" in told:
        said = ", ".join(f"{one['class']} {100 * one['probability']:.1f} %" for one in told["classes"][:TOP])
    else:
        said = ", ".join(f"{value:.4g}" for value in told["numbers"])
    return f"{path}: {said}{file}"
