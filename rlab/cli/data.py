"""``rlab data``: list the data sets, fetch and verify their files, show what is in one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rlab.cli.common import JsonFlag, RunName, output_file, parse, reference, refuse_below, results, say
from rlab.cli.flags import Arg
from rlab.errors import RlabError, nearest, printable, shortened
from rlab.run.formatting import number

if TYPE_CHECKING:
    from rlab.data.datasets import TensorDataset

MOST_DRAWN = 40
"""Items beside each other in a picture."""

MOST_TOKENS = 40
"""Tokens of an example that are printed."""

Names = Annotated[tuple[str, ...], Arg("NAME", positional=True)]


@dataclass(frozen=True)
class List:
    """List the data sets. Looks for their files, but not into them."""

    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Get:
    """Download data sets that are neither in a folder of RLAB_DATA nor in the cache, and check all their files."""

    names: Names = ()
    """Data sets."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Verify:
    """Hold files against their SHA-256. Changes nothing; status 1 if one is damaged, or missing of a set by name."""

    names: Names = ()
    """Data sets; none: all whose files are here."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Show:
    """Say what is in a data set, and draw some of it, or print examples of text with their tokens; of sets without
    tensors, what stands first in their files."""

    set: Annotated[str, Arg("SET", positional=True)]
    """A data set, images:DIR, csv:FILE, text:FILE, pairs:FILE or wav:DIR."""
    target: str = ""
    """Of csv: the column that is predicted; by default the last one."""
    missing: Literal["refuse", "mean"] = "refuse"
    """Of csv: refuse missing numbers, or take the mean of the column's training examples."""
    test_file: str = ""
    """Of images and csv: a file that names the test examples, one a line."""
    shape: str = ""
    """Resize images to channels x height x width, such as 3x64x64."""
    augment: str = ""
    """What to do to images, such as flip,crop:4,rotate:15; `rlab data augmentations` lists all."""
    tokens: Literal["", "characters", "words", "sentencepiece", "japanese"] = ""
    """What text is cut into; by default what is usual for the set."""
    vocabulary: int = 0
    """Of text: pieces at the most; 0: what is usual."""
    out: Path | None = None
    """The picture (.png); by default SET.png in the current directory."""
    count: int = 10
    """How many items are drawn or printed."""
    seed: int = 0
    """Of the splits, of the choice and of the augmentation."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class FromRun:
    """Keep the whole episodes of a run's replay as a data set in its folder, for `rlab train decision-transformer` and
    `gail`."""

    run: RunName
    """A run's name, a path, or `latest`; one of dqn or its variants."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Augmentations:
    """List the augmentations with their parameters and defaults."""

    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


USAGE = """usage: rlab data list
       rlab data show SET [FLAG ...]
       rlab data get NAME...
       rlab data verify [NAME...]
       rlab data augmentations
       rlab data from-run RUN

SET is a name of `rlab data list`, or files of your own: images:DIR, csv:FILE,
voc:DIR, coco:DIR, text:FILE or pairs:FILE.tsv.
rlab data show --help lists the flags; --json is one of each.
"""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    verbs = {"list": _list, "get": _get, "verify": _verify, "show": _show, "augmentations": _augmentations}
    verbs["from-run"] = _from_run
    if argv and argv[0] in verbs:
        return verbs[argv[0]](argv[1:])
    if argv and argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if argv and not argv[0].startswith("-"):
        say(f"rlab: `rlab data` cannot {argv[0]}; {nearest(argv[0], verbs)}")
        return 2
    return _list(argv)


def _list(argv: Sequence[str]) -> int:
    flags = parse(List, "data list", argv)
    with results(flags.json) as put:
        from rlab.data.catalog import DATASETS
        from rlab.data.files import cache, place

        rows: list[dict[str, Any]] = []
        for name in DATASETS:
            source = DATASETS.get(name)
            row: dict[str, Any] = {"name": name, "kind": source.kind, "size_bytes": sum(f.size for f in source.files)}
            row |= {"from": place(name), "loadable": source.loadable, "summary": source.summary}
            rows.append(row | {"licence": source.licence, "source": source.source})
        table = [
            (
                r["name"],
                r["kind"],
                _megabytes(r["size_bytes"]),
                r["from"],
                "yes" if r["loadable"] else "-",
                r["summary"],
            )
            for r in rows
        ]
        head = ("name", "kind", "MB", "from", "loads", "what")
        put(f"{_columns(head, table)}\n\ncache   {cache()}\nnext    rlab data show digits", {"sets": rows})
        return 0


def _get(argv: Sequence[str]) -> int:
    flags = parse(Get, "data get", argv)
    with results(flags.json) as put:
        from rlab.data.catalog import DATASETS, folder_of
        from rlab.data.files import cache, check, fetch, find, provide

        if not flags.names:
            raise RlabError(f"name data sets to get; valid: {', '.join(DATASETS)}")
        for name in flags.names:
            DATASETS.get(name)  # a misspelt one stops before anything is downloaded
        done: list[dict[str, Any]] = []
        for name in flags.names:
            fetched = provide(name, say)
            for file in DATASETS.get(name).files:
                path = find(name, file)
                assert path is not None
                try:
                    check(path, file)
                except RlabError as e:
                    if path.parent != cache() / folder_of(name) or file.address is None:
                        raise RlabError(f"{e}; replace it (source: {DATASETS.get(name).source})") from None
                    say(str(e))
                    path = fetch(name, file, say)
                    fetched.append(file.name)
                done.append({"set": name, "file": str(path), "downloaded": file.name in fetched})
            if DATASETS.get(name).embedded:
                done.append({"set": name, "file": None, "downloaded": False})
        lines = [
            f"{row['set']}: " + ("embedded, needs no file" if row["file"] is None else f"good  {row['file']}")
            for row in done
        ]
        put("\n".join(lines), {"files": done})
        return 0


def _verify(argv: Sequence[str]) -> int:
    flags = parse(Verify, "data verify", argv)
    with results(flags.json) as put:
        from rlab.data.catalog import DATASETS
        from rlab.data.files import state

        rows: list[dict[str, Any]] = []
        bad = False
        for name in flags.names or DATASETS:
            for file in DATASETS.get(name).files:
                condition, path = state(name, file)
                if condition == "missing" and not flags.names:
                    continue
                bad |= condition != "good"
                rows.append(
                    {"set": name, "file": file.name, "state": condition, "path": None if path is None else str(path)}
                )
        table = [(r["set"], r["file"], r["path"] or "-", r["state"]) for r in rows]
        embedded = [name for name in flags.names if DATASETS.get(name).embedded]
        text = _columns(("set", "file", "place", "state"), table) if table else "no files to verify"
        put("\n".join([text, *(f"{name}: embedded, needs no file" for name in embedded)]), {"files": rows})
        return int(bad)


def _show(argv: Sequence[str]) -> int:
    flags = parse(Show, "data show", argv)
    refuse_below(flags, count=1, seed=0, vocabulary=0)
    if flags.count > MOST_DRAWN:
        raise RlabError(f"--count is {flags.count}; it must be at most {MOST_DRAWN}")
    from rlab.data.own import OwnSettings, Table, files_of
    from rlab.tasks.config import ExamplesConfig, shape_of

    files = files_of(flags.set)
    ExamplesConfig(
        flags.set, flags.target, flags.missing, flags.test_file, shape=flags.shape
    )  # refuses as `train` does
    out = flags.out or Path(f"{files.name if files else flags.set.rpartition(':')[2]}.png")
    out = output_file("--out", out, ".png")
    with results(flags.json) as put:
        from rlab.data.catalog import DATASETS

        source = DATASETS.get(flags.set)
        if source.corpus is not None or source.kind == "dialogues" or (files is not None and files.tokens):
            return _show_text(flags, put)
        if flags.tokens or flags.vocabulary:
            raise RlabError(f"--tokens and --vocabulary are for text, and '{flags.set}' is of kind {source.kind}")
        if source.kind == "waves":
            return _show_waves(flags, out, put)
        if flags.set in DATASETS and source.load is None:
            return _show_files(flags, put)
        from rlab.data.augment import parse as parse_changes
        from rlab.data.datasets import load
        from rlab.data.picture import draw
        from rlab.run.files import replace_durably

        changes = parse_changes(flags.augment)
        shape = shape_of(flags.shape) if flags.shape else None
        target = flags.target or (files.columns()[-1] if isinstance(files, Table) else "")
        own = OwnSettings(target, flags.missing, shape, flags.test_file)
        data = load(flags.set, flags.seed, report=say, own=own)
        data = data.resized(shape) if shape else data
        picture = draw(data, changes, flags.count, flags.seed)
        replace_durably(out, picture)
        facts = _facts(data) | ({"target": target} if target else {}) | {"picture": str(out)}
        for note in getattr(data, "notes", ()):
            say(f"note    {note}")
        put(_text(facts), facts)
        return 0


def _show_files(flags: Show, put: Callable[[str, Any], None]) -> int:
    """Of a set that no tensors are made of: what its files hold."""
    from rlab.data.catalog import DATASETS
    from rlab.data.contents import contents
    from rlab.data.files import reader

    source = DATASETS.get(flags.set)
    if flags.augment:
        raise RlabError(f"an augmentation changes images, and '{flags.set}' is of kind {source.kind}")
    files = contents(flags.set, reader(flags.set, say))
    lines = [f"{flags.set + ' ':<16}{source.kind}: {source.summary}", f"{'licence':<16}{source.licence}"]
    for file in files:
        lines += ["", f"{file['file']}: {file['bytes'] / 1e6:,.1f} MB, {file['number']:,} {file['unit']}"]
        lines += [f"  {line if len(line) <= 76 else line[:75] + '…'}" for line in map(printable, file["first"])]
    facts = {"name": flags.set, "kind": source.kind, "summary": source.summary, "licence": source.licence}
    put("\n".join(lines), facts | {"source": source.source, "files": files, "picture": None})
    return 0


def _show_waves(flags: Show, out: Path, put: Callable[[str, Any], None]) -> int:
    """Of recordings: how many and how long they are, and a picture of some."""
    from rlab.data.datasets import load
    from rlab.data.picture import draw_sounds
    from rlab.data.sound import from_mu_law
    from rlab.data.waves import chosen
    from rlab.run.files import replace_durably

    if flags.augment or flags.shape:
        raise RlabError(f"--augment and --shape are for images, and '{flags.set}' is of kind waves")
    data = load(flags.set, flags.seed, report=say)
    shown = chosen(data, flags.count, flags.seed)
    sounds = [(data.classes[int(data.labels[n])], from_mu_law(data.recording(n).numpy())) for n in shown]
    replace_durably(out, draw_sounds(sounds, data.rate, data.name))
    seconds = data.lengths.double() / data.rate
    facts = {
        "name": data.name,
        "kind": data.kind,
        "classes": list(data.classes),
        "speakers": list(data.speakers),
        "splits": {split: len(items) for split, items in data.splits.items()},
        "rate": data.rate,
        "seconds": {"shortest": float(seconds.min()), "mean": float(seconds.mean()), "longest": float(seconds.max())},
        "picture": str(out),
    }
    lines = [
        f"{printable(data.name) + ' ':<16}{data.kind}, {data.rate:,} samples a second as 256 mu-law codes",
        f"{'items':<16}" + ", ".join(f"{split} {len(items):,}" for split, items in data.splits.items()),
        f"{'seconds':<16}{seconds.min():.2f} to {seconds.max():.2f}, mean {seconds.mean():.2f}",
        f"{'classes':<16}{', '.join(data.classes)}",
        f"{'speakers':<16}{', '.join(data.speakers)}",
        f"wrote           {out}",
    ]
    put("\n".join(lines), facts)
    return 0


def _show_text(flags: Show, put: Callable[[str, Any], None]) -> int:
    """Of text: its tokens instead of a picture."""
    from rlab.data.catalog import DATASETS
    from rlab.data.datasets import load
    from rlab.data.text.describe import describe
    from rlab.data.text.dialogues import Dialogues
    from rlab.data.text.settings import TextSettings

    kind = DATASETS.get(flags.set).kind
    if flags.augment:
        raise RlabError(f"an augmentation changes images, and '{flags.set}' is of kind {kind}")
    for name in ("shape", "out"):
        if getattr(flags, name):
            raise RlabError(f"--{name} is for pictures, and '{flags.set}' is of kind {kind}")
    if kind == "labelled steps" and (flags.tokens or flags.vocabulary):
        raise RlabError(f"--tokens and --vocabulary are for text, and '{flags.set}' is of kind {kind}")
    if kind == "dialogues" and flags.tokens not in ("", "words"):
        raise RlabError(f"--tokens is '{flags.tokens}', and '{flags.set}' is cut into words; nearest: --tokens words")
    data = load(flags.set, flags.seed, report=say, text=TextSettings(flags.tokens, flags.vocabulary))
    if isinstance(data, Dialogues):
        data = data.with_vocabulary(flags.vocabulary or data.vocabulary, data.longest)
    facts = describe(data, flags.count, flags.seed)
    sizes = ", ".join(f"{split} {n:,}" for split, n in facts["splits"].items())
    lines = [f"{printable(facts['name']) + ' ':<16}{facts['kind']}", f"{'items':<16}{sizes}"]
    if kind == "text":
        lines[0] += f", windows of {facts['window']} tokens"
        lines.append(f"{'tokens':<16}" + ", ".join(f"{split} {n:,}" for split, n in facts["tokens"].items()))
    for side, of_side in facts["vocabularies"].items():
        lines.append(f"{side + ' as':<16}{of_side['tokens']}, {of_side['size']:,} ids")
    for side, of_side in facts["lengths"].items():
        lines.append(f"{side + ' length':<16}{of_side['shortest']} to {of_side['longest']}, median {of_side['median']}")
    if facts["unknown"]:
        lines.append(f"{'unknown':<16}" + ", ".join(f"{split} {n:.2%}" for split, n in facts["unknown"].items()))
    if facts["classes"]:
        lines.append(f"{'classes':<16}{', '.join(map(printable, facts['classes']))}")
    for place, example in enumerate(facts["examples"], 1):
        lines.append("")
        label = example.pop("class", None)
        for side, of_side in example.items():
            unknown = f", {len(of_side['unknown'])} unknown" if of_side["unknown"] else ""
            lines.append(f"{place}  {side}, {of_side['length']:,} long{unknown}{f': {label}' if label else ''}")
            lines.append(f"   {_pieces(of_side)}")
    put("\n".join(lines), facts | {"picture": None})
    return 0


def _pieces(side: dict[str, Any]) -> str:
    """The first tokens of an example, divided by spaces; unknown ones in brackets."""
    shown = [
        {"\n": "↵", " ": "␣"}.get(piece, printable(shortened(piece, 40))) for piece in side["pieces"][:MOST_TOKENS]
    ]
    marked = [f"[{piece}]" if place in side["unknown"] else piece for place, piece in enumerate(shown)]
    return " ".join([*marked, *(["…"] if len(side["pieces"]) > MOST_TOKENS else [])])


def _facts(data: TensorDataset) -> dict[str, Any]:
    x = data.inputs("train")
    return {
        "name": data.name,
        "kind": data.kind,
        "shape": list(data.shape),
        "dtype": str(data.x.dtype).removeprefix("torch."),
        "classes": None if data.classes is None else list(data.classes),
        "columns": None if data.columns is None else list(data.columns),
        "splits": {split: len(items) for split, items in data.splits.items()},
        "counts": {split: data.counts(split) for split in data.splits} if data.classes else None,
        "mean": x.mean().item(),
        "std": x.std(correction=0).item(),
        "min": x.amin().item(),
        "max": x.amax().item(),
    }


def _text(facts: dict[str, Any]) -> str:
    sizes = ", ".join(f"{split} {n:,}" for split, n in facts["splits"].items())
    lines = [
        f"{facts['name']:<16}{facts['kind']}, each {'x'.join(map(str, facts['shape']))} {facts['dtype']}",
        f"{'items':<16}{sizes}",
        f"{'training x':<16}mean {facts['mean']:.4f}, standard deviation {facts['std']:.4f}, "
        f"from {facts['min']:g} to {facts['max']:g}",
    ]
    if facts.get("target"):
        lines.insert(
            1, f"{'target':<16}{printable(shortened(facts['target']))}, {'classes' if facts['classes'] else 'a number'}"
        )
    if facts["columns"]:
        lines.append(f"{'columns of x':<16}{', '.join(facts['columns'])}")
    if facts["counts"]:
        what = {"segmentation": "class (pixels)", "detection": "class (boxes)"}.get(facts["kind"], "class")
        table = [
            (shortened(name, 40), *(f"{facts['counts'][split][n]:,}" for split in facts["splits"]))
            for n, name in enumerate(facts["classes"])
        ]
        lines += ["", _columns((what, *facts["splits"]), table)]
    return "\n".join([*lines, "", f"wrote   {facts['picture']}"])


def _from_run(argv: Sequence[str]) -> int:
    flags = parse(FromRun, "data from-run", argv)
    with results(flags.json) as put:
        from rlab.agents.sequence.trajectories import FILE, save_trajectories
        from rlab.run.folder import find_run

        folder = find_run(flags.run)
        note = dict(save_trajectories(folder).note)
        low, mean, high = (number(note["returns"][key]) for key in ("min", "mean", "max"))
        put(
            f"episodes {note['episodes']:,} whole ones of {note['env']}, {note['steps']:,} steps\n"
            f"returns  {low} to {high}, {mean} on average\n"
            f"wrote    {folder.path / FILE}\n"
            f"next     rlab train decision-transformer --env {note['env']} --trajectories {reference(folder)}",
            note | {"file": str(folder.path / FILE)},
        )
        return 0


def _augmentations(argv: Sequence[str]) -> int:
    flags = parse(Augmentations, "data augmentations", argv)
    with results(flags.json) as put:
        from rlab.data.augment import AUGMENTATIONS
        from rlab.data.augment import parse as parse_changes

        rows: list[dict[str, Any]] = [
            {"name": name, "default": str(parse_changes(name)[0]), "summary": AUGMENTATIONS.get(name).summary}
            | {"parameters": [p.name for p in AUGMENTATIONS.get(name).parameters]}
            for name in AUGMENTATIONS
        ]
        table = [(r["name"], ":".join(r["parameters"]), r["default"], r["summary"]) for r in rows]
        put(_columns(("name", "parameters", "default", "what"), table), {"augmentations": rows})
        return 0


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under a head, each column as wide as it has to be."""
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    return "\n".join(line.rstrip() for line in lines)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}" if size else "-"
