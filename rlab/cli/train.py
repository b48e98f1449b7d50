"""``rlab train AGENT --env ENV`` and ``rlab train MODEL --data SET``: start a run."""

from __future__ import annotations

import os
import time
import tomllib
import typing
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from rlab.cli.arguments import parse_arguments
from rlab.cli.common import (
    JsonFlag,
    TrustFlag,
    asks_for_help,
    duration,
    reference,
    results,
    say,
    shown_by,
    stopped_status,
    until_stopped,
    value_of,
)
from rlab.cli.flags import Arg, Flag, filled, flags_of, help_text, read_words
from rlab.errors import Misspelt, RlabError
from rlab.registry import RECIPES, Recipe
from rlab.run.config import HasOptions, changed, flat, from_plain, settings_of, to_plain, with_curve
from rlab.run.contract import NonFinite, Stop, Stopped
from rlab.run.files import read_plain
from rlab.run.folder import CONFIG_BYTES, RunFolder, find_run, runs_dir
from rlab.run.formatting import how_text, score_text
from rlab.run.health import Collapsed
from rlab.run.status import newest_checkpoint
from rlab.trust import Untrusted, allow, foreign


@dataclass(frozen=True)
class Flags:
    """What `rlab train` takes beside the settings of an agent or a model."""

    name: str | None = None
    """The run's name; without it one is made from what learns, on what, and the time."""
    start: Annotated[str, Arg("RUN")] = ""
    """Begin with all parameters of the agent of this run, copied at the start."""
    like: Annotated[str, Arg("RUN")] = ""
    """Take the settings of this run; flags beside it win."""
    config: Annotated[Path | None, Arg("FILE.toml")] = None
    """Take the settings of a file, such as `rlab runs show RUN --toml` writes; flags beside it win."""
    trust: TrustFlag = ()
    """A module or program that a run taken from names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    if follows(argv):
        return follow()
    began = time.monotonic()  # torch takes seconds to import: they are part of --minutes
    # Signals first, so that a Ctrl-C in these seconds ends in one line, too.
    return until_stopped(lambda stop: _train(list(argv), stop, began))


def follows(argv: Sequence[str]) -> bool:
    """Whether this process learns with a leader, as torchrun or the leader has started it."""
    return os.environ.get("RANK", "0") != "0" and not {"-h", "--help", "--help-all"} & set(argv)


def follow() -> int:
    """Learn with a leader until it ends; see `rlab.parallel.data_parallel`."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else it warns at each second that the leader evaluates
    from rlab.parallel.data_parallel import follow

    return follow()


def _train(argv: list[str], stop: Stop, began: float) -> int:
    from rlab.recipes import load_recipes

    load_recipes()

    every = asks_for_help(argv, "--help-all") and "--help-all" in argv
    help_wanted = every or asks_for_help(argv)
    allow([word for flag, word in pairwise(argv) if flag == "--trust"], ask=True)
    template, named, taken = ("", "", {}) if help_wanted else _template(argv)
    agent, rest = _find_agent(argv)
    if named and agent not in ("", named):
        raise RlabError(f"{template} has settings of {named}, not of {agent}; nearest: rlab train {named}")
    agent = agent or named
    if not agent:
        if not help_wanted:
            raise Misspelt(
                "which agent or model? rlab train dqn --env CartPole-v1, rlab train lenet --data digits; "
                "`rlab list agents` and `rlab list models` have all"
            )
        print(f"usage: {USAGE}\n\n{_listing()}\n\nrlab train dqn --env CartPole-v1 --help shows the flags of one")
        return 0
    recipe = RECIPES.get(agent)
    subject = next((value_of(rest, f"--{part}") or taken.get(part, "") for part in recipe.subject), "")
    for part in recipe.subject:
        if value_of(rest, f"--{part}") is not None:
            taken.pop(part, None)  # it decides which other settings there are
    budget, base = recipe.budget_name, recipe.default(subject)
    if value_of(rest, f"--{budget}") is not None:
        taken.pop("minutes", None)
    if value_of(rest, "--evaluate-steps") is not None:
        taken.pop("evaluations", None)
    elif "evaluate_steps" not in taken:
        base = with_curve(base)
    default = changed_from(template, base, taken)
    if help_wanted:
        print(_help(agent, recipe, default, subject, every), end="")
        return 0
    _refuse_foreign(default, rest)
    given = read_words(flag_table(default, True), rest, f"train {agent}", partial(_too_many, agent, recipe))
    if "env_args" in given:
        given["env_args"] = parse_arguments(given["env_args"])
    own = {f.name: given.pop(f.name) for f in fields(Flags) if f.name in given and f.name not in _names(default)}
    _refuse_nothing_named(agent, recipe, taken | given)
    flags = Flags(**own)
    if "minutes" in given and budget in given:
        raise RlabError(f"--minutes and --{budget} exclude each other: by the clock a run has no number of {budget}")
    config = changed(default, given)
    with results(flags.json) as put:
        made: list[RunFolder] = []
        try:
            if stop.requested:
                raise Stopped
            subject = " and ".join(recipe.subjects(config).values())
            title = f"{agent} on {subject}" if subject else agent
            say(f"{title}: measuring what it takes ...")  # torch, which comes next, takes seconds
            from rlab.parallel.data_parallel import leading, persistently, restarted, settled
            from rlab.parallel.group import LostRank
            from rlab.run.lifecycle import resume_run, start_run
            from rlab.run.progress import LiveView

            config = settled(config)

            def prepare(config: Any, footprint: Any, folder: RunFolder) -> Any:
                if stop.requested:
                    raise Stopped
                made.append(folder)
                _announce(agent, recipe, config, footprint, folder)
                return config

            if stop.requested:
                raise Stopped
            with LiveView(title) as view:
                lead = partial(leading, None, stop=stop)
                try:
                    if restarted() and flags.name and (runs_dir() / flags.name).is_dir():
                        made.append(find_run(flags.name))
                        folder, outcome = made[0], resume_run(made[0], None, stop, view, lead=lead)
                    else:
                        folder, outcome = start_run(
                            agent, config, flags.name, stop, view, prepare, None, flags.start, lead, began
                        )
                except LostRank as e:
                    if not made or not made[0].path.is_dir():
                        raise
                    folder = made[0]
                    outcome = persistently(e, lambda: resume_run(folder, None, stop, view, lead=lead), view.event)
        except Stopped:
            say("stopped before the run began; nothing was written")
            nothing = {"run": None, "path": None, "finished": False, "step": 0, "score": None, "seconds": 0.0}
            if flags.json:
                put("", nothing)
            return stopped_status(stop)
        except (NonFinite, Collapsed) as e:
            raise halted(e, made[0] if made else None) from None
        return finish(folder, outcome, stop, put)


GROUPS = {
    "env": "the environment",
    "data": "the data",
    "run": "the run",
    "agent": "the agent",
    "model": "the model",
    "net": "the network",
    "fit": "training",
    "search": "the search",
    "trees": "the trees",
    "teaching": "learning from another model",
    "unlabelled": "examples without labels",
    "writing": "what is written in evaluations",
    "decoding": "how translations are written",
}
"""Part of a configuration -> the heading of its flags, in this order."""

BASICS = (
    *("env", "data", "steps", "epochs", "games", "members", "minutes", "name", "seed", "device", "threads"),
    *("start", "like", "config", "policy", "rollout", "play", "teacher", "augment", "validation", "examples"),
    *("trajectories", "expert_episodes", "random_steps", "untrained_memory"),
    *("evaluate_steps", "encoder", "freeze", "hidden", "num_envs", "batch_size", "learning_rate", "optimiser"),
    *("tokens", "window", "width", "layers", "attention", "scheduled_sampling", "beam", "loss", "standardise"),
    *("gamma", "lam", "n_step", "learning_starts", "memory_size", "epsilon_end", "visits", "depth", "json"),
)
"""Settings that `--help` shows, beside the options of the environment; `--help-all` shows every one."""


REPEATED = {
    "env_args": Arg("KEY=VALUE", name="env-arg", repeat=True),
    "wrappers": Arg("MODULE:NAME", name="wrapper", repeat=True),
}
"""Settings that are written word by word, each with a flag of its own."""


def flag_table(config: Any, options: bool) -> list[Flag]:
    """The flags of `rlab train` with a configuration as the defaults.

    Args:
        config: the recipe's configuration.
        options: with those of the environment that it names.
    """
    of_part: dict[str, list[Flag]] = {}
    for f in fields(config):
        part, group = getattr(config, f.name), GROUPS.get(f.name, f.name)
        of_part[f.name] = flags_of(type(part), part, group)
        if isinstance(part, HasOptions):
            of_part[f.name] = [flag for flag in of_part[f.name] if flag.field != "options"]
            typed = part.typed_options()
            of_part[f.name] += flags_of(type(typed), typed, group) if options else []
    own = {flag.field: flag for flag in flags_of(Flags, None, GROUPS["run"])}
    taken = {flag.field for part in of_part.values() for flag in part}
    of_part["run"] = [flag for name, flag in own.items() if name not in taken] + of_part["run"]
    order = [*GROUPS, *of_part]
    table = [flag for name in sorted(of_part, key=order.index) for flag in of_part[name]]
    return [
        replace(flag, hint=tuple[str, ...], default=(), arg=REPEATED[flag.field]) if flag.field in REPEATED else flag
        for flag in table
    ]


def _help(agent: str, recipe: Recipe[Any], default: Any, subject: str, every: bool) -> str:
    """The help of an agent or a model."""
    table = flag_table(default, bool(subject))
    basics = set(BASICS) | {
        name
        for f in fields(default)
        if isinstance(part := getattr(default, f.name), HasOptions)
        for name in typing.get_type_hints(type(part.typed_options()))
    }
    shown = table if every else [flag for flag in table if flag.field in basics]
    part = recipe.subject[0] if recipe.subject else ""
    notes = []
    if part and not subject:
        what = {"env": "environment", "data": "data set"}[part]
        notes.append(f"Each {what} has its own defaults: rlab train {agent} --{part} NAME --help")
    if not every:
        notes.append(f"{len(table) - len(shown)} more flags: rlab train {agent} --help-all")
    usage = f"rlab train {agent}{f' --{part} NAME' if part else ''} [FLAG ...]"
    return help_text(usage, recipe.summary[:1].upper() + recipe.summary[1:], shown, "\n".join(notes), not every)


def _find_agent(argv: Sequence[str]) -> tuple[str, list[str]]:
    """(agent, the other words): the first word, or one behind flags that is an agent's name and no flag's value."""
    for n, word in enumerate(argv):
        before = argv[n - 1] if n else ""
        if n == 0 and not word.startswith("-"):
            return word, list(argv[1:])
        if word in RECIPES and (not before.startswith("-") or "=" in before or before == "--json"):
            return word, [*argv[:n], *argv[n + 1 :]]
    return "", list(argv)


def _template(argv: Sequence[str]) -> tuple[str, str, dict[str, Any]]:
    """(what --like or --config names, its recipe or "", its settings by name); all empty without these flags.

    The names of modules and programs in them are a stranger's until the user names them, too (`rlab.trust`).

    Raises:
        RlabError: both are given, there is no such run or file, or it is damaged.
    """
    like, file = value_of(list(argv), "--like"), value_of(list(argv), "--config")
    if like is None and file is None:
        return "", "", {}
    if like is not None and file is not None:
        raise RlabError("--like and --config exclude each other: both say where the settings come from")
    if like is not None:
        document = find_run(like).config()
        where, parts, recipe = f"run '{like}'", document["config"], document["recipe"]
        parts = to_plain(from_plain(type(RECIPES.get(recipe).default("")), parts, where))  # an older one as of today
    else:
        where = str(file)
        parts = _read_toml(Path(file or ""))
        recipe = parts.pop("recipe", "")
        foreign([recipe, parts])
    taken: dict[str, Any] = {}
    for name, value in parts.items():
        taken |= flat(value) if isinstance(value, dict) else {name: value}
    return where, recipe, {name.replace("-", "_"): value for name, value in taken.items()}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_plain(path, CONFIG_BYTES).decode())
    except OSError as e:
        raise RlabError(f"--config is {path}, which cannot be read ({e.strerror})") from None
    except ValueError as e:  # no UTF-8, or no TOML
        raise RlabError(f"{path} is no TOML file of settings ({e})") from None


def changed_from(where: str, config: Any, taken: dict[str, Any]) -> Any:
    """A configuration with the settings of another run or a file.

    Raises:
        RlabError: it has no such setting, or not that value; the message says where it stands.
    """
    try:
        return changed(config, taken)
    except Untrusted:
        raise
    except RlabError as e:
        raise RlabError(f"{where}: {e}") from None


def _refuse_nothing_named(agent: str, recipe: Recipe[Any], given: dict[str, Any]) -> None:
    """Ask for the environment, which agents of many have no usual one of."""
    if recipe.examples and "env" not in given:
        first, *others = recipe.examples
        more = ", or ".join(f"--env {name}" for name in others)
        raise Misspelt(
            f"in which environment? rlab train {agent} --env {first}{f', or {more}' if more else ''}; "
            "`rlab list envs` has all"
        )


def _refuse_foreign(config: Any, words: list[str]) -> None:
    """Refuse a flag that is an option of other environments than the one that is named."""
    known = _names(config)
    flags = [word[2:].partition("=")[0].replace("-", "_") for word in words if word.startswith("--")]
    flags = [{"env_arg": "env_args", "wrapper": "wrappers"}.get(flag, flag) for flag in flags]
    for name in (name.removeprefix("no_") for name in flags):
        for f in fields(config):
            part = getattr(config, f.name)
            if isinstance(part, HasOptions) and name not in known:
                part.check_option(name)


def _names(config: Any) -> set[str]:
    """The names of all settings of a configuration."""
    return {full.partition(".")[2] for full in settings_of(config)}


def _too_many(agent: str, recipe: Recipe[Any], word: str) -> str:
    """What to say of a word that belongs to no flag."""
    if recipe.subject == ("env",):
        return f"an environment is named with --env: rlab train {agent} --env {word}"
    if recipe.subject == ("data",):
        return f"data are named with --data: rlab train {agent} --data {word}"
    return f"see rlab train {agent} --help"


USAGE = "rlab train AGENT --env ENV, or rlab train MODEL --data SET"


def _listing() -> str:
    """Every recipe with its line, by family."""
    from rlab.cli.listing import agents, models, text_of

    return text_of([*agents(), *models()])


def told(lines: dict[str, str]) -> str:
    """Label -> text, in lines of a terminal; words stay whole, and empty texts are left out."""
    return "\n".join(f"{name:<9}{filled(text, 9)[9:]}" for name, text in lines.items() if text)


def _near(path: Path) -> str:
    """A path as it is seen from here, if it lies below."""
    try:
        here = Path.cwd()
    except OSError:  # the folder was removed while the run went on
        return str(path)
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


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
        put(f"run      {_near(folder.path)}", result)
        return stopped_status(stop)
    score = outcome.score or {}
    how = how_text(score)
    lines = {
        "score": score_text(score),
        "": f"({how})" if how else "",
        "run": _near(folder.path),
        "time": f"{duration(outcome.seconds)} for {outcome.done:,} {unit} with evaluations",
        "next": shown_by(folder),
    }
    put("\n".join([told(lines), *(f"{'':9}rlab {verb} {name}" for verb in ("report", "eval"))]), result)
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
    device, threads, minutes = resolve_device(config.run.device), torch.get_num_threads(), config.run.minutes
    on_device = f" and {gigabytes(footprint.device_memory)} on {device}" if footprint.device_memory else ""
    described = recipe.describe(config) or recipe.subjects(config)
    note = described.pop("note", "")
    lines = {
        "run": _near(folder.path),
        "agent" if "env" in recipe.subject else "model": agent,
        **described,
        "device": f"{device}, {threads} thread{'s' * (threads != 1)}, seed {config.run.seed}",
        "network": _network_text(footprint, folder),
        "teacher": _teacher_text(folder),
        "start": _start_text(folder),
        "memory": f"{gigabytes(footprint.memory)}{on_device}; disk {gigabytes(footprint.disk)} at the most",
        "time": f"{duration(60 * minutes)} with evaluations, and then the final one"
        if minutes
        else f"about {duration(seconds)} without evaluations"
        if seconds
        else "",
        "resume": recipe.resume,
    }
    say(told(lines))
    if note:
        say(f"note: {note}")


def _start_text(folder: RunFolder) -> str:
    """Whose parameters the agent begins with."""
    source = folder.config().get("warm_start", {}).get("agent")
    return f"agent of run {source['run']} at {source['step']:,} steps" if source else ""


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
