"""``rlab train AGENT --env ENV`` and ``rlab train MODEL --data SET``: start a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Generic, TypeVar, cast

import tyro

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
from rlab.registry import RECIPES
from rlab.run.config import to_plain
from rlab.run.folder import RunFolder
from rlab.run.health import Collapsed
from rlab.run.learner import NonFinite, Stop, Stopped
from rlab.run.status import newest_checkpoint, subject_of
from rlab.run.words import how_text, score_text, unit_of
from rlab.trust import allow

C = TypeVar("C")

PROTOCOLS = {
    "classic": "classic (no sticky actions, up to 30 no-ops, a lost life ends a training episode)",
    "v5": "v5 (sticky actions 0.25, no life-loss signal)",
}
"""An Atari protocol in words."""


@dataclass(frozen=True)
class Flags(Generic[C]):
    """What `rlab train` takes: the agent's own settings, and these."""

    config: C
    name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """The run's name; without it one is made from what learns, on what, and the time."""
    minutes: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """Train for about this long: sets --steps (of models --epochs) from a short measurement on this machine."""
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
    default = recipe.default(value_of(rest, f"--{recipe.on}") or "")
    flags: Flags[Any] = tyro.cli(
        cast(Any, Flags[type(default)]),  # type: ignore[misc]
        default=Flags(default),
        prog=f"rlab train {agent}",
        description=recipe.summary,
        args=rest,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    allow(flags.trust, ask=True)
    if flags.minutes is not None:
        budget = _budget(default)
        if value_of(rest, f"--{budget}") is not None:
            raise RlabError(f"--minutes and --{budget} exclude each other: --minutes chooses the number of {budget}")
        if not 0 < flags.minutes < 1e6:
            raise RlabError(f"--minutes is {flags.minutes:g}; it must be more than 0")
    with results(flags.json) as put:
        made: list[RunFolder] = []
        try:
            if stop.requested:
                raise Stopped
            from rlab.run.life import start_run
            from rlab.run.view import LiveView

            def prepare(config: Any, footprint: Any, folder: RunFolder) -> Any:
                if stop.requested:
                    raise Stopped
                made.append(folder)
                return _announce(agent, config, footprint, folder, flags.minutes)

            if stop.requested:
                raise Stopped
            subject = subject_of({"config": to_plain(flags.config)}) or ""
            with LiveView(f"{agent} on {subject}") as view:
                folder, outcome = start_run(agent, flags.config, subject, flags.name, stop, view, prepare)
        except Stopped:
            say("stopped before the run began; nothing was written")
            nothing = {"run": None, "path": None, "finished": False, "step": 0, "score": None, "seconds": 0.0}
            if flags.json:
                put("", nothing)
            return stopped_status(stop)
        except (NonFinite, Collapsed) as e:
            raise halted(e, made[0] if made else None) from None
        return finish(folder, outcome, stop, put)


USAGE = "rlab train AGENT --env ENV, or rlab train MODEL --data SET"


def _listing() -> str:
    """Every recipe with its line, agents first."""
    width = max(map(len, RECIPES))
    lines = {kind: [f"  {n:<{width}} {RECIPES.get(n).summary}" for n in RECIPES if RECIPES.get(n).on == kind]
             for kind in ("env", "data")}  # fmt: skip
    return "\n".join(["agents:", *lines["env"], "models:", *lines["data"]])


def finish(folder: RunFolder, outcome: Any, stop: Stop, put: Any) -> int:
    """Tell how a run ended and what comes next; return the exit status."""
    name, unit = reference(folder), unit_of(folder.config())
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
    if folder is not None and isinstance(error, Collapsed):
        text += (
            f"; to go on all the same, set stop_on_collapse to false in {folder.path / 'config.json'}, then: "
            f"rlab resume {reference(folder)}"
        )
    return RlabError(text)


def _announce(agent: str, config: Any, footprint: Any, folder: RunFolder, minutes: float | None) -> Any:
    """Print what the run is and needs; return the configuration, with its budget chosen if minutes were given."""
    from rlab.run.life import gigabytes, resolve_device

    seconds = footprint.seconds
    if minutes is not None:
        if not seconds:
            raise RlabError(f"--minutes needs a measured speed, which '{agent}' does not give; use --{_budget(config)}")
        config, factor = _lasting(config, minutes * 60 / seconds)
        seconds *= factor
    device = resolve_device(config.run.device)
    on_device = f" and {gigabytes(footprint.device_memory)} on {device}" if footprint.device_memory else ""
    lines = {
        "run": str(folder.path),
        "agent" if hasattr(config, "env") else "model": agent,
        **_subject_lines(config),
        "device": f"{device}, {config.run.threads} threads, seed {config.run.seed}",
        "network": _network_text(footprint, folder),
        "teacher": _teacher_text(folder),
        "memory": f"{gigabytes(footprint.memory)}{on_device}; disk {gigabytes(footprint.disk)} at the most",
        "time": f"about {duration(seconds)} without evaluations" if seconds else "",
        "resume": RECIPES.get(agent).resume,
    }
    say("\n".join(f"{name:<9}{text}" for name, text in lines.items() if text))
    starts = getattr(getattr(config, "agent", None), "learning_starts", 0)
    if hasattr(config, "env") and config.env.steps <= starts:
        say(f"note: --learning-starts is {starts:,}, so nothing will be learned in {config.env.steps:,} steps")
    return config


def _budget(config: Any) -> str:
    """The flag that says how long a run is."""
    if hasattr(config, "trees"):
        return "members"
    if not hasattr(config, "env"):
        return "epochs"
    return "steps" if any(field.name == "steps" for field in fields(config.env)) else "games"


def _lasting(config: Any, factor: float) -> tuple[Any, float]:
    """The configuration with about `factor` times the budget, rounded, and the factor that it came to."""
    if hasattr(config, "trees"):
        members = max(1, round(config.trees.members * factor))
        return replace(config, trees=replace(config.trees, members=members)), members / config.trees.members
    if hasattr(config, "env"):
        steps = max(1_000, round(config.env.steps * factor / 1_000) * 1_000)
        return replace(config, env=replace(config.env, steps=steps)), steps / config.env.steps
    epochs = max(1, round(config.fit.epochs * factor))
    return replace(config, fit=replace(config.fit, epochs=epochs)), epochs / config.fit.epochs


def _subject_lines(config: Any) -> dict[str, str]:
    """On what the run learns, and for how long."""
    if not hasattr(config, "env"):
        held_out = f"{100 * config.data.validation:g} % held out" if config.data.validation else "nothing held out"
        if hasattr(config, "trees"):
            return {"data": f"{config.data.data}, {held_out}", "members": f"{config.trees.members:,}"}
        labelled = getattr(config.data, "labelled", 0)
        labels = f", {labelled:,} labels" if labelled else ""
        said = f"{config.data.data}, {config.fit.epochs} epochs, {held_out}{labels}"
        return {"data": said, "augment": getattr(config.data, "augment", "")}
    from rlab.envs import is_atari

    env = config.env
    rules = env.rules() if hasattr(env, "rules") else {}
    changed = [f"{name} {value}" for name, value in rules.items() if name != "protocol" and value is not None]
    return {
        "env": f"{env.env}, {env.steps:,} {'games' if hasattr(env, 'games') else 'steps'}",
        "protocol": PROTOCOLS[env.protocol] if is_atari(env.env) else "",
        "rules": ", ".join(changed),
    }


def _teacher_text(folder: RunFolder) -> str:
    """Whose probabilities are learned, too."""
    taken = folder.config().get("teacher")
    return f"run {taken['run']} at {taken['step']:,} examples" if taken else ""


def _network_text(footprint: Any, folder: RunFolder) -> str:
    """How many parameters learn, how many do not, and where the encoder comes from."""
    if footprint.trainable is None:
        return ""
    frozen = f", {footprint.frozen:,} frozen" if footprint.frozen else ""
    taken = folder.config().get("encoder")
    origin = f"; encoder of run {taken['run']} at {taken['step']:,} steps" if taken else ""
    return f"{footprint.trainable:,} trainable parameters{frozen}{origin}"
