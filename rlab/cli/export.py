"""``rlab export RUN``: write what a run has learned as one file that needs no rlab."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlab.cli.common import JsonFlag, RunName, TrustFlag, parse, results
from rlab.errors import RlabError
from rlab.run.files import disk_error, replace_durably


@dataclass(frozen=True)
class Flags:
    """Write a network as ONNX or in torch's own format, and check that the file gives the same outputs."""

    run: RunName
    """A run's name, a path, or `latest`."""
    format: Literal["onnx", "torch"] = "onnx"
    """onnx: for ONNX Runtime and the like; of an agent in a Gymnasium environment with a script that plays it. torch:
    for torch.export.load."""
    out: str | None = None
    """The file; none: the run's name with the format's ending, in the current directory."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    flags = parse(Flags, "export", argv)
    with results(flags.json) as put:
        from rlab.api import load
        from rlab.compress.export import export, graph_of, player_script

        with load(flags.run, "cpu") as run:
            graph = graph_of(run.learner, run.folder.name)
            file = Path(flags.out or f"{run.folder.name}.{'onnx' if flags.format == 'onnx' else 'pt2'}").expanduser()
            if file.is_dir() or not file.absolute().parent.is_dir():
                raise RlabError(f"--out is '{file}', which is no file in a folder that exists")
            try:
                difference = export(graph, file, flags.format)
                env = str(run.folder.config()["subject"].get("env", ""))
                script = None
                if flags.format == "onnx" and env and ":" not in env and _of_gymnasium(env):
                    script = file.with_suffix(".py")
                    replace_durably(script, player_script(env, file.name, graph).encode())
            except OSError as e:
                raise disk_error(e, file) from None
        name, words = graph.outputs
        shape = "x".join(map(str, graph.shape)) or "one number"
        put(
            f"wrote   {file} ({file.stat().st_size:,} bytes)\n"
            f"takes   {graph.inputs}: {shape}, {str(graph.example.dtype).removeprefix('torch.')}, in batches\n"
            f"gives   {name}: {words}\n"
            f"checked outputs differ by {difference:.1e} of the largest one at the most"
            + (f"\nwrote   {script}\nnext    python {script}" if script else ""),
            {
                "file": str(file),
                "bytes": file.stat().st_size,
                "input": {"name": graph.inputs, "shape": list(graph.shape), "dtype": str(graph.example.dtype)},
                "output": {"name": name, "meaning": words, "classes": graph.classes},
                "difference": difference,
                "script": str(script) if script else None,
            },
        )
    return 0


def _of_gymnasium(env: str) -> bool:
    import gymnasium

    spec = gymnasium.registry.get(env)
    return spec is not None and str(spec.entry_point).startswith("gymnasium.envs")
