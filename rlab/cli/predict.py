"""``rlab predict RUN IMAGE...``: what a model says of any pictures: classes, masks, or boxes drawn on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rlab.cli.common import DeviceName, JsonFlag, RunName, TrustFlag, parse, results, say, stopped_status, until_stopped
from rlab.cli.flags import Arg
from rlab.errors import RlabError, printable
from rlab.run.contract import Detects, Predicts, Stop, ability


@dataclass(frozen=True)
class Flags:
    """Tell what a model sees in pictures: classes with their probabilities, a mask of classes, or boxes. Pictures are
    PNG or JPEG of any size and kind; they are resized to what the model has learned from, and boxes and masks back."""

    run: RunName
    """A run's name, a path, or `latest`; RUN:best is its best checkpoint."""
    images: Annotated[tuple[str, ...], Arg("IMAGE [IMAGE ...]", positional=True)] = ()
    """Pictures, or folders of pictures."""
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
    if not flags.images:
        raise RlabError("there is no picture to predict from; nearest: rlab predict RUN IMAGE.png")
    if not 0 <= flags.score <= 1:
        raise RlabError(f"--score is {flags.score}; it must lie between 0 and 1")
    paths = list(_pictures(flags.images))
    if flags.out is not None and flags.out.exists() and not flags.out.is_dir():
        raise RlabError(f"--out is {flags.out}, which is no folder")
    with results(flags.json) as put:
        from rlab.api import load
        from rlab.run.files import disk_error, make_folder, replace_durably, to_json

        told, problems = [], []
        with load(flags.run, flags.device or "auto") as loaded:
            tell = _teller(loaded, flags.score)
            taken: set[str] = set()
            for number, path in enumerate(paths):
                if stop.requested:
                    return stopped_status(stop)
                stop.tell(number, len(paths))
                try:
                    found, picture = tell(path)
                except RlabError as e:  # one bad picture of many costs nothing but itself
                    problems.append(e)
                    if len(paths) > 1:
                        say(f"skipped {e}")
                    continue
                if flags.out is not None and picture is not None:
                    ending, data = picture
                    file = flags.out / _free(f"{path.stem}_{ending}", taken)
                    try:
                        make_folder(flags.out)
                        replace_durably(file, data)
                    except OSError as e:
                        raise disk_error(e, flags.out) from None
                    found["file"] = str(file)
                told.append({"picture": str(path)} | found)
            name = loaded.folder.name
        if problems and not told:
            raise problems[0]
        lines = [_line(one) for one in told]
        document = {"run": name, "predictions": told, "skipped": [str(e) for e in problems]}
        if flags.out is not None:
            make_folder(flags.out)
            replace_durably(flags.out / "predictions.json", to_json({"schema": 1} | document))
            lines.append(f"wrote   {flags.out / 'predictions.json'}")
        put("\n".join(lines), document)
        return int(bool(problems))


def _pictures(words: Sequence[str]) -> Iterator[Path]:
    """The pictures that are named, and those in folders, by name.

    Raises:
        RlabError: there is no such file, or a folder without pictures.
    """
    from rlab.data.own import PICTURES, listed

    for word in words:
        path = Path(word).expanduser()
        if path.is_dir():
            found = [one for one in listed(path) if one.suffix.lower() in PICTURES and not one.is_dir()]
            if not found:
                raise RlabError(f"{path} holds no pictures ({', '.join(PICTURES)})")
            yield from found
        elif path.exists():
            yield path
        else:
            raise RlabError(f"there is no picture {path}")


def _free(name: str, taken: set[str]) -> str:
    """The name, or one with a number where another picture of this call has it."""
    stem, _, ending = name.rpartition(".")
    chosen, number = name, 1
    while chosen in taken:
        number += 1
        chosen = f"{stem}-{number}.{ending}"
    taken.add(chosen)
    return chosen


Told = tuple[dict[str, Any], tuple[str, bytes] | None]
"""What is told of a picture, and (end of the name, content) of a file that shows it."""


def _teller(loaded: Any, score: float) -> Callable[[Path], Told]:
    """Path of a picture -> what the run says of it.

    Raises:
        RlabError: it says nothing of images.
    """
    from rlab.tasks.detection.any_picture import read_picture, tell_boxes, tell_classes, tell_mask

    task = ability(loaded.learner, Detects)
    predicts = task is None
    task = task or loaded.ability(Predicts)
    data: Any = getattr(task, "dataset", None)
    shape = tuple(getattr(data, "shape", ()))
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise RlabError(f"run '{loaded.folder.name}' was trained on '{getattr(data, 'name', 'other data')}', items of "
                        f"shape {list(shape)}, which are no pictures, grey or in colours")  # fmt: skip

    def tell(path: Path) -> Told:
        picture = read_picture(path, data)
        if not predicts:
            return tell_boxes(task, picture, score)
        return (tell_mask if data.kind == "segmentation" else tell_classes)(task, picture)

    return tell


def _line(told: dict[str, Any]) -> str:
    """A picture in one line."""
    path = printable(told["picture"])
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
    return f"{path}: {said}" + (f"  ({told['file']})" if "file" in told else "")
