"""``rlab export RUN``: write what a run has learned as one file that needs no rlab."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rlab.cli.common import (
    JsonFlag,
    RunName,
    TrustFlag,
    output_file,
    parse,
    results,
    say,
    stopped_status,
    until_stopped,
)
from rlab.cli.flags import Arg
from rlab.errors import RlabError
from rlab.run.contract import Stop, Stopped
from rlab.run.files import disk_error, replace_durably, scratch_folder

if TYPE_CHECKING:
    from rlab.compress.int8 import Agreement
    from rlab.nn.graph import Graph


@dataclass(frozen=True)
class Flags:
    """Write a network as ONNX or in torch's own format, and check that the file gives the same outputs."""

    run: RunName
    """A run's name, a path, or `latest`."""
    format: Literal["onnx", "torch"] = "onnx"
    """onnx: for ONNX Runtime and the like; of an agent in a Gymnasium environment with a script that plays it. torch:
    for torch.export.load. Of tokens the vocabulary is written, too."""
    int8: bool = False
    """Of ONNX: compute with weights and activations in 8 bits, whose ranges training inputs show, or games that the
    agent plays."""
    dynamic: bool = False
    """With --int8: of dense layers alone, whose inputs' ranges are found anew for every batch, so that nothing has to
    show them beforehand."""
    examples: Annotated[int | None, Arg(default="(default: 2000)")] = None
    """With --int8: compare both graphs on so many test examples or observations at the most; 0: on the whole test
    split."""
    out: str | None = None
    """The file; none: the run's name with the format's ending, in the current directory."""
    latency: bool = True
    """Measure how long it takes for 1 input and for 256, beside torch in fp32 and bf16."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    return until_stopped(lambda stop: _export(argv, stop))


def _export(argv: Sequence[str], stop: Stop) -> int:
    flags = parse(Flags, "export", argv)
    if flags.int8 and flags.format != "onnx":
        raise RlabError("--int8 is for --format onnx, whose engine computes in int8; nearest: without --int8")
    if flags.dynamic and not flags.int8:
        raise RlabError("--dynamic is a kind of --int8; nearest: --int8 --dynamic")
    if flags.examples is not None and (flags.examples < 0 or not flags.int8):
        raise RlabError(f"--examples is {flags.examples}; it is for --int8, and 0 or more")
    with results(flags.json) as put:
        from rlab.api import load
        from rlab.compress.export import export, graph_of, player_script
        from rlab.compress.int8 import CHECKED, refuse_uncalibrated, to_int8
        from rlab.compress.latency import latencies, table

        with load(flags.run, "cpu") as run, scratch_folder() as scratch:
            graph = graph_of(run.learner, run.folder.name)
            ending = "pt2" if flags.format == "torch" else "onnx"
            stem = f"{run.folder.name}{'-int8' if flags.int8 else ''}"
            file = output_file("--out", Path(flags.out or f"{stem}.{ending}"), "")
            env = str(run.folder.config()["subject"].get("env", ""))
            plays = flags.format == "onnx" and bool(env) and ":" not in env and _of_gymnasium(env)
            script, vocabulary = file.with_suffix(".py"), file.with_suffix(".json")
            beside = {script: player_script(env, file.name, graph)} if plays else {}
            if graph.tokenizers:
                beside[vocabulary] = json.dumps({"tokenizers": graph.tokenizers}, ensure_ascii=False)
            for path in beside:
                if not _may_be_replaced(path, file):
                    goes = "the agent's player" if path == script else "the vocabulary"
                    raise RlabError(f"'{path}', where {goes} goes, is a file of yours; take another --out")
            if flags.int8:
                refuse_uncalibrated(run.learner, graph)
            fp32 = made = scratch / f"fp32.{ending}"  # a file that stands is replaced by one that is whole and checked
            agreement: Agreement | None = None
            try:
                difference = export(graph, fp32, flags.format)
                if flags.int8:
                    examples = CHECKED if flags.examples is None else flags.examples
                    made = scratch / "int8.onnx"
                    agreement = to_int8(run.learner, graph, fp32, made, stop, examples, flags.dynamic)
                replace_durably(file, made.read_bytes())
                engines = {"fp32": fp32} if flags.format == "onnx" else {}
                engines |= {"int8": file} if flags.int8 else {}
                times = latencies(graph, engines, stop) if flags.latency else []
                for path, text in beside.items():
                    replace_durably(path, text.encode())
            except OSError as e:
                raise disk_error(e, file) from None
            except Stopped:
                say("stopped")
                return stopped_status(stop)
        checked = "checked outputs in fp32" if agreement else "checked outputs"
        lines = [
            f"wrote   {file} ({file.stat().st_size:,} bytes)",
            *(f"takes   {_in_words(graph, name)}" for name in graph.inputs),
            *(f"gives   {name}: {words}" for name, words in graph.outputs.items()),
            f"{checked} differ by {difference:.1e} of the largest one at the most",
            *([f"int8    {agreement.text()}"] if agreement else []),
            *table(times),
            *(f"wrote   {path}" for path in beside),
            *([f"next    python {script}"] if plays else []),
        ]
        put(
            "\n".join(lines),
            {
                "file": str(file),
                "bytes": file.stat().st_size,
                "inputs": [
                    {"name": name, "shape": list(graph.shape(name)), "dtype": str(x.dtype).removeprefix("torch.")}
                    for name, x in graph.inputs.items()
                ],
                "outputs": [{"name": name, "meaning": words} for name, words in graph.outputs.items()],
                "classes": graph.classes,
                "difference": difference,
                "int8": agreement.plain() if agreement else None,
                "latency": [row.plain() for row in times],
                "script": str(script) if plays else None,
                "vocabulary": str(vocabulary) if graph.tokenizers else None,
            },
        )
    return 0


def _in_words(graph: Graph, name: str) -> str:
    """An input with its shape and type."""
    shape, most = "x".join(map(str, graph.shape(name))) or "one number", graph.lengths.get(name)
    limit = f" (up to {most:,})" if most else ""
    return f"{name}: {shape}{limit}, {str(graph.inputs[name].dtype).removeprefix('torch.')}, in batches"


def _may_be_replaced(path: Path, file: Path) -> bool:
    """Whether there is no such file yet, or one that an earlier export wrote."""
    return path != file and (not path.exists() or path.read_bytes().startswith((b'"""Plays ', b'{"tokenizers": ')))


def _of_gymnasium(env: str) -> bool:
    import gymnasium

    spec = gymnasium.registry.get(env)
    return spec is not None and str(spec.entry_point).startswith("gymnasium.envs")
