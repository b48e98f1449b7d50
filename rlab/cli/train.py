"""``rlab train AGENT --env ENV`` and ``rlab train MODEL --data SET``: start a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from typing import Annotated, Any, Generic, TypeVar, cast

import tyro

from rlab.cli.arguments import format_arguments, parse_arguments
from rlab.cli.common import (
    JsonFlag,
    TrustFlag,
    duration,
    reference,
    results,
    say,
    shown_by,
    stopped_status,
    until_stopped,
    value_of,
)
from rlab.errors import RlabError
from rlab.registry import RECIPES, Recipe
from rlab.run.config import HasOptions, settings_of, with_curve
from rlab.run.contract import NonFinite, Stop, Stopped
from rlab.run.folder import RunFolder
from rlab.run.formatting import how_text, score_text
from rlab.run.health import Collapsed
from rlab.run.status import newest_checkpoint
from rlab.trust import allow

C = TypeVar("C")


@dataclass(frozen=True)
class Flags(Generic[C]):
    """What `rlab train` takes: the agent's own settings, and these."""

    config: C
    name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """The run's name; without it one is made from what learns, on what, and the time."""
    trust: TrustFlag = ()
    """A module or program that a run taken from names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    # Signals first: torch takes seconds to import, and a Ctrl-C in them must end in one line, too.
    return until_stopped(lambda stop: _train(list(argv), stop))


def _train(argv: list[str], stop: Stop) -> int:
    from rlab.recipes import load_recipes

    load_recipes()

    help_wanted = "-h" in argv or "--help" in argv
    if not argv or argv[0].startswith("-"):
        listing = _listing()
        if not help_wanted:
            say(f"rlab: which agent or model? It comes first: {USAGE}\n{listing}")
            return 2
        print(f"usage: {USAGE} ...\n\n{listing}\n\nThe settings of dqn:\n")
        argv = ["dqn", "--help"]
    agent, rest = argv[0], argv[1:]
    recipe = RECIPES.get(agent)
    default = recipe.default(next((value_of(rest, f"--{part}") or "" for part in recipe.subject), ""))
    if value_of(rest, "--evaluate-steps") is None:
        default = with_curve(default)
    _refuse_foreign(default, rest)
    shown = with_options_as_fields(default)
    flags: Flags[Any] = tyro.cli(
        cast(Any, Flags[type(shown)]),  # type: ignore[misc]
        default=Flags(shown),
        prog=f"rlab train {agent}",
        description=recipe.summary,
        args=rest,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    flags = replace(flags, config=with_options(default, flags.config))
    allow(flags.trust, ask=True)
    budget = recipe.budget_name
    if value_of(rest, "--minutes") is not None and value_of(rest, f"--{budget}") is not None:
        raise RlabError(f"--minutes and --{budget} exclude each other: by the clock a run has no number of {budget}")
    with results(flags.json) as put:
        made: list[RunFolder] = []
        try:
            if stop.requested:
                raise Stopped
            from rlab.run.lifecycle import start_run
            from rlab.run.progress import LiveView

            def prepare(config: Any, footprint: Any, folder: RunFolder) -> Any:
                if stop.requested:
                    raise Stopped
                made.append(folder)
                _announce(agent, recipe, config, footprint, folder)
                return config

            if stop.requested:
                raise Stopped
            subject = " and ".join(recipe.subjects(flags.config).values())
            with LiveView(f"{agent} on {subject}" if subject else agent) as view:
                folder, outcome = start_run(agent, flags.config, flags.name, stop, view, prepare)
        except Stopped:
            say("stopped before the run began; nothing was written")
            nothing = {"run": None, "path": None, "finished": False, "step": 0, "score": None, "seconds": 0.0}
            if flags.json:
                put("", nothing)
            return stopped_status(stop)
        except (NonFinite, Collapsed) as e:
            raise halted(e, made[0] if made else None) from None
        return finish(folder, outcome, stop, put)


REPEATED: dict[str, Any] = {
    "env_args": (
        "env-arg",
        "KEY=VALUE",
        "An argument of the environment, such as map_name=8x8; can be given several times. The value is JSON (5, 0.1, "
        "true, null), or else a text.",
    ),
    "wrappers": (
        "wrapper",
        "MODULE:NAME",
        "A wrapper that is put around the environment; can be given several times, the innermost first.",
    ),
}
"""Setting -> (flag, what stands for its value, help), of flags that can be given several times."""


def with_options_as_fields(config: Any) -> Any:
    """A configuration that shows its options (`rlab.run.config.HasOptions`) as fields, for the flag parser.

    Settings of `REPEATED` become tuples of words.
    """
    parts: dict[str, Any] = {}
    hidden: Any = ("options", Annotated[dict[str, Any], tyro.conf.Suppress], field(default_factory=dict))
    for f in fields(config):
        part = getattr(config, f.name)
        options = part.typed_options() if isinstance(part, HasOptions) else None
        bases = (type(part),) if options is None else (type(options), type(part))
        values = {**vars(part), **({} if options is None else vars(options) | {"options": {}})}
        words = [name for name in REPEATED if name in values]
        if options is None and not words:
            continue
        more = [hidden] if options is not None else []
        for name in words:
            flag, metavar, text = REPEATED[name]
            arg = tyro.conf.arg(name=flag, metavar=metavar, help=text)
            more.append((name, Annotated[tuple[str, ...], tyro.conf.UseAppendAction, arg], ()))
        if "env_args" in words:
            values["env_args"] = format_arguments(values["env_args"])
        kind = make_dataclass(
            type(part).__name__, more, bases=bases, frozen=True, namespace={"__doc__": type(part).__doc__}
        )
        parts[f.name] = kind(**values)
    if not parts:
        return config
    shown = [(name, type(part), field(default=part)) for name, part in parts.items()]
    kind = make_dataclass(type(config).__name__, shown, bases=(type(config),), frozen=True)
    return kind(**{**vars(config), **parts})


def with_options(config: Any, parsed: Any) -> Any:
    """What was parsed with the fields of `with_options_as_fields`, as the configuration it was made of."""
    if type(parsed) is type(config):
        return parsed
    parts = {f.name: getattr(parsed, f.name) for f in fields(config)}
    for name, part in parts.items():
        was = getattr(config, name)
        if type(part) is type(was):
            continue
        given = vars(part) | ({"env_args": parse_arguments(part.env_args)} if hasattr(part, "env_args") else {})
        values = {f.name: given[f.name] for f in fields(cast(Any, was))}
        if isinstance(was, HasOptions):
            values["options"] = {f.name: given[f.name] for f in fields(was.typed_options())}
        parts[name] = type(was)(**values)
    return type(config)(**parts)


def _refuse_foreign(config: Any, words: list[str]) -> None:
    """Refuse a flag that is an option of other environments than the one that is named."""
    known = {full.partition(".")[2] for full in settings_of(config)}
    flags = [word[2:].partition("=")[0].replace("-", "_") for word in words if word.startswith("--")]
    flags = [{"env_arg": "env_args", "wrapper": "wrappers"}.get(flag, flag) for flag in flags]
    for name in (name.removeprefix("no_") for name in flags):
        for f in fields(config):
            part = getattr(config, f.name)
            if isinstance(part, HasOptions) and name not in known:
                part.check_option(name)


USAGE = "rlab train AGENT --env ENV, or rlab train MODEL --data SET"


def _listing() -> str:
    """Every recipe with its line, agents first."""
    width = max(map(len, RECIPES))
    lines: dict[bool, list[str]] = {True: [], False: []}
    for name in RECIPES:
        lines["env" in RECIPES.get(name).subject].append(f"  {name:<{width}} {RECIPES.get(name).summary}")
    return "\n".join(["agents:", *lines[True], "models:", *lines[False]])


def finish(folder: RunFolder, outcome: Any, stop: Stop, put: Any) -> int:
    """Tell how a run ended and what comes next; return the exit status."""
    name, unit = reference(folder), folder.config()["unit"]
    result = {
        "run": folder.name,
        "path": str(folder.path),
        "finished": outcome.finished,
        "step": outcome.done,
        "score": outcome.score,
        "seconds": round(outcome.seconds, 3),
    }
    if not outcome.finished:
        say(f"stopped at {outcome.done:,} {unit}, saved; go on with: rlab resume {name}")
        put(f"run     {folder.path}", result)
        return stopped_status(stop)
    score = outcome.score or {}
    how = how_text(score)
    put(
        f"score   {score_text(score)}\n" + (f"        ({how})\n" if how else "") + f"run     {folder.path}\n"
        f"time    {duration(outcome.seconds)} for {outcome.done:,} {unit} with evaluations\n"
        f"next    {shown_by(folder)}\n"
        f"        rlab report {name}\n"
        f"        rlab eval {name}",
        result,
    )
    return 0


def halted(error: NonFinite | Collapsed, folder: RunFolder | None) -> RlabError:
    """The sentence for a run that met NaN or Inf, or collapsed."""
    newest = None if folder is None else newest_checkpoint(folder)
    if newest is None:
        text = f"{error}: the run halted; no checkpoint had been saved yet"
    else:
        text = f"{error}: the run halted; the last good checkpoint was kept: {newest[0]} ({newest[1]:,} steps)"
    if folder is not None and isinstance(error, NonFinite) and error.quantity.startswith(("observation", "reward")):
        text += f"; once the environment is mended: rlab resume {reference(folder)}"
    if folder is not None and isinstance(error, Collapsed):
        text += (
            f"; to go on all the same, set stop_on_collapse to false in {folder.path / 'config.json'}, then: "
            f"rlab resume {reference(folder)}"
        )
    return RlabError(text)


def _announce(agent: str, recipe: Recipe[Any], config: Any, footprint: Any, folder: RunFolder) -> None:
    """Print what the run is and needs."""
    import torch

    from rlab.machine import gigabytes
    from rlab.run.lifecycle import resolve_device

    seconds = footprint.seconds
    minutes = config.run.minutes
    device = resolve_device(config.run.device)
    on_device = f" and {gigabytes(footprint.device_memory)} on {device}" if footprint.device_memory else ""
    described = recipe.describe(config) or recipe.subjects(config)
    note = described.pop("note", "")
    lines = {
        "run": str(folder.path),
        "agent" if "env" in recipe.subject else "model": agent,
        **described,
        "device": f"{device}, {torch.get_num_threads()} threads, seed {config.run.seed}",
        "network": _network_text(footprint, folder),
        "teacher": _teacher_text(folder),
        "memory": f"{gigabytes(footprint.memory)}{on_device}; disk {gigabytes(footprint.disk)} at the most",
        "time": f"{duration(60 * minutes)} with evaluations, and then the final one"
        if minutes
        else f"about {duration(seconds)} without evaluations"
        if seconds
        else "",
        "resume": recipe.resume,
    }
    say("\n".join(f"{name:<9}{text}" for name, text in lines.items() if text))
    if note:
        say(f"note: {note}")


def _teacher_text(folder: RunFolder) -> str:
    """Whose probabilities are learned, too."""
    source = folder.config().get("warm_start", {}).get("teacher")
    return f"run {source['run']} at {source['step']:,} examples" if source else ""


def _network_text(footprint: Any, folder: RunFolder) -> str:
    """How many parameters learn, how many do not, and where the encoder comes from."""
    if footprint.trainable is None:
        return ""
    frozen = f", {footprint.frozen:,} frozen" if footprint.frozen else ""
    source = folder.config().get("warm_start", {}).get("encoder")
    origin = f"; encoder of run {source['run']} at {source['step']:,} steps" if source else ""
    return f"{footprint.trainable:,} trainable parameters{frozen}{origin}"
