"""What runs say together: they are gathered by agent and environment, judged comparable or not, and compared.

The score of a run is the mean of its last evaluation, whole games with raw scores, played when its budget was spent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from rlab.compare.sweep import FILE, find_sweep, read_sweep
from rlab.envs import canonical_name
from rlab.errors import RlabError
from rlab.registry import RECIPES
from rlab.run.config import migrated, to_plain
from rlab.run.folder import RunFolder, find_run, place_of
from rlab.run.metrics import read_metrics
from rlab.run.status import part, status_of
from rlab.stats import ENOUGH, Estimate, Scores, curve, enough, holm, improvement, iqm, least_p, p_value, profile

SCHEMA = 1
"""Version of the result."""

SIGNIFICANT = 0.05
"""A corrected p-value from here on shows no difference."""

FEW = 10
"""Seeds below which the bootstrap's intervals are told to be too narrow."""

CURVE_POINTS = 60
"""Points of a learning curve of training returns."""

THRESHOLDS = 101
"""Points of a performance profile."""

NO_VARIANT = {"env", "steps", "options", "env_args", "reset_steps", "evaluate_episodes", "final_episodes"}
"""Fields of the environment's part that do not make another variant of an agent."""


@dataclass(frozen=True)
class RunScore:
    """A finished run, as far as it is compared.

    Attributes:
        settings: where it differs from its agent's own settings, {field: value}.
        rules: options of its environment that differ from the defaults.
        score: mean of the final evaluation.
        how: what that evaluation was: protocol, epsilon, episodes.
        evaluations: (steps, means) on the way and at the end.
        returns: (steps, mean training return).
        session: the newest entry of its env.json, {} if there is none.
        note: a sentence if its agent's own settings are not known here.
    """

    folder: RunFolder
    recipe: str
    env: str
    seed: int
    steps: int
    settings: dict[str, Any]
    rules: dict[str, Any]
    score: float
    how: dict[str, Any]
    evaluations: tuple[list[float], list[float]]
    returns: tuple[list[float], list[float]]
    session: dict[str, Any]
    note: str = ""


Grid = dict[str, dict[str, list[RunScore]]]
"""Environment -> agent's label -> its runs, by seed."""


def compare_runs(names: Iterable[str]) -> dict[str, Any]:
    """Compare finished runs over their seeds.

    Args:
        names: runs and sweeps, by name or path; a sweep stands for all its runs.

    Returns:
        JSON: ``environments`` (scores, IQM with interval, pairs and curves of each), ``aggregate`` (the same over all
        environments that every agent has, on one scale, with ``profile``), ``verdicts``, ``enough_seeds``,
        ``left_out`` (unfinished runs) and ``warnings`` (what makes the runs less alike than they should be).

    Raises:
        RlabError: there is no such run, none is finished, or they cannot be compared: other budgets or protocols on
            one environment, or one seed twice.
    """
    import_module("rlab.recipes").load_recipes()
    runs, left_out = _gathered(names)
    if not runs:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise RlabError(f"there is no finished run to compare ({reasons})")
    grid = _grid(runs)
    _refuse_unlike(grid)
    labels = sorted({label for agents in grid.values() for label in agents})
    environments = [_environment(env, agents) for env, agents in grid.items()]
    warnings = _warnings(grid, labels)
    aggregate = _aggregate(grid, labels, warnings)
    return {
        "schema": SCHEMA,
        "runs": [_run_facts(run, label) for agents in grid.values() for label, its in agents.items() for run in its],
        "left_out": [{"run": name, "reason": why} for name, why in left_out.items()],
        "agents": labels,
        "environments": environments,
        "aggregate": aggregate,
        "enough_seeds": all(len(its) >= ENOUGH for agents in grid.values() for its in agents.values()),
        "verdicts": _verdicts(environments, aggregate),
        "warnings": warnings,
    }


def _gathered(names: Iterable[str]) -> tuple[list[RunScore], dict[str, str]]:
    """(finished runs, {name: why it is left out}); a run that is named twice counts once."""
    folders: dict[Path, RunFolder] = {}
    runs: list[RunScore] = []
    left_out: dict[str, str] = {}
    for name in names:
        for folder in _folders(name):
            folders.setdefault(folder.path.resolve(), folder)
    if not folders:
        raise RlabError("name the runs or the sweep to compare: rlab compare RUN... | SWEEP")
    for folder in folders.values():
        if not (folder.path / "config.json").is_file():
            left_out[folder.name] = "not started"
            continue
        status = status_of(folder)
        if status.state != "finished":
            left_out[folder.name] = f"{status.text()} at {status.done:,} of {status.total or 0:,} steps"
            continue
        runs.append(_read(folder))
    return runs, left_out


def _folders(name: str) -> list[RunFolder]:
    if path := place_of(name, FILE):
        sweep = read_sweep(path)
        if sweep.kind != "sweep":
            raise RlabError(
                f"'{name}' is a search, whose trials are many settings of one agent; sweep the best one on fresh "
                f"seeds (rlab sweep {name} tells how) and compare that"
            )
        return [RunFolder(sweep.path / job.name) for job in sweep.jobs]
    try:
        return [find_run(name)]
    except RlabError as e:
        try:
            find_sweep(name)
        except RlabError as other:
            raise RlabError(f"{e}; and {other}" if "nearest" in str(other) else str(e)) from None
        raise


def _read(folder: RunFolder) -> RunScore:
    document = folder.config()
    config = document["config"]
    rows = list(read_metrics(folder.metrics))
    evals = [r for r in rows if r["kind"] == "eval" and r.get("mean") is not None]
    env, run = part(document, "env"), part(document, "run")
    if not evals or "env" not in env:
        raise RlabError(f"run '{folder.name}' has no evaluation in an environment; there is nothing to compare")
    returns = [(r["step"], r["return_mean"]) for r in rows if r["kind"] == "train" and r.get("return_mean") is not None]
    sessions = folder.environment()["sessions"] if (folder.path / "env.json").exists() else []
    final = evals[-1]
    settings, rules, note = _differences(document["recipe"], env["env"], config)
    return RunScore(
        folder=folder,
        recipe=document["recipe"],
        env=canonical_name(env["env"]),
        seed=run["seed"],
        steps=env["steps"],
        settings=settings,
        rules=rules,
        score=float(final["mean"]),
        how={k: final.get(k) for k in ("protocol", "epsilon", "episodes")},
        evaluations=([r["step"] for r in evals], [r["mean"] for r in evals]),
        returns=([s for s, _ in returns], [v for _, v in returns]),
        session=sessions[-1] if sessions else {},
        note=note,
    )


def _differences(recipe: str, env: str, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Settings that are not the agent's own on this environment; its rules; a sentence if its own are unknown."""
    note = ""
    try:
        default = RECIPES.get(recipe).default(env)
        own, config = to_plain(default), migrated(type(default), config)
    except RlabError as e:
        own = {}  # an agent from outside that is not at hand: all its settings are told
        note = f"all settings of {recipe} are told, for its own are not known here: {e}"
    settings = {
        key: value
        for name, fields in config.items()
        if isinstance(fields, dict) and name != "run"
        for key, value in fields.items()
        if (name != "env" or key not in NO_VARIANT) and own.get(name, {}).get(key, _ABSENT) != value
    }
    options = config["env"].get("options", {})
    rules = options.items() if isinstance(options, dict) else ()
    args = config["env"].get("env_args")  # tabular agents have them beside
    game = {name: value for name, value in rules if name != "env_timeout"}  # no rule of the game
    return settings, game | ({"env_args": args} if args else {}), note


_ABSENT = object()


def _grid(runs: list[RunScore]) -> Grid:
    """Sort runs by environment and agent; settings that tell an agent's runs apart are part of its name."""
    grid: Grid = {}
    for run in sorted(runs, key=lambda r: (r.env, r.recipe, r.seed, r.folder.name)):
        same = [r.settings for r in runs if r.recipe == run.recipe]
        apart = {k: v for k, v in run.settings.items() if any(s.get(k, _ABSENT) != v for s in same)}
        label = " ".join([run.recipe, *(f"{k}={v}" for k, v in sorted(apart.items()))])
        grid.setdefault(run.env, {}).setdefault(label, []).append(run)
    return grid


def _refuse_unlike(grid: Grid) -> None:
    for env, agents in grid.items():
        first = next(iter(agents.values()))[0]
        for label, its in agents.items():
            for run in its:
                for what, ours, theirs in (
                    ("budget in steps", run.steps, first.steps),
                    ("protocol", run.how["protocol"], first.how["protocol"]),
                    *((rule, run.rules.get(rule), first.rules.get(rule)) for rule in {**run.rules, **first.rules}),
                ):
                    if ours != theirs:
                        raise RlabError(
                            f"on {env} '{run.folder.name}' has {what} {ours} and '{first.folder.name}' {theirs}; "
                            "scores of one environment can only be compared with the same one: leave some out"
                        )
            for one, two in combinations(its, 2):
                if one.seed == two.seed:
                    raise RlabError(
                        f"'{one.folder.name}' and '{two.folder.name}' are both {label} on {env} with seed {one.seed}; "
                        "two runs of one seed are not two seeds: leave one out"
                    )


def _warnings(grid: Grid, labels: list[str]) -> list[str]:
    """Sentences on what makes the runs less alike, or the numbers weaker, than a reader would think."""
    runs = [run for agents in grid.values() for its in agents.values() for run in its]
    warnings = sorted({run.note for run in runs} - {""})
    for what, of in _PROVENANCE.items():
        values = sorted({of(run.session) for run in runs} - {"None"})
        if len(values) > 1:
            warnings.append(f"the runs come from {len(values)} {what}: {', '.join(values)}")
    dirty = [run.folder.name for run in runs if (run.session.get("git") or {}).get("dirty")]
    if dirty:
        warnings.append(f"{len(dirty)} of {len(runs)} runs were made from a changed checkout, first {dirty[0]}")
    for env, agents in grid.items():
        for what in ("epsilon", "episodes"):
            used = {label: sorted({str(run.how[what]) for run in its}) for label, its in agents.items()}
            if len({value for values in used.values() for value in values}) > 1:
                listed = ", ".join(f"{label} {' and '.join(values)}" for label, values in used.items())
                warnings.append(f"evaluations on {env} were played with different {what}: {listed}")
    counts = [len(its) for agents in grid.values() for its in agents.values()]
    few = [f"{label} on {env} ({len(its)})" for env, a in grid.items() for label, its in a.items() if len(its) < ENOUGH]
    if few:
        warnings.append(
            f"not enough seeds, {ENOUGH} are the least: {', '.join(few)}; values only, no interval, no verdict"
        )
    elif undecidable := _undecidable(grid, labels):
        warnings.append(undecidable)
    if not few and min(counts) < FEW:
        warnings.append(
            f"with {min(counts)} seeds intervals are narrower than 95 %: the bootstrap knows no spread that the seeds "
            "did not show; verdicts rest on a permutation test"
        )
    if len(set(counts)) > 1 and len(grid) > 1:
        warnings.append("environments have different numbers of seeds: those with more weigh more in the aggregate")
    missing = [f"{label} on {env}" for env, agents in grid.items() for label in labels if label not in agents]
    if missing:
        warnings.append(f"there is no run of {', '.join(missing)}")
    return warnings


def _undecidable(grid: Grid, labels: Sequence[str]) -> str:
    """Why no pair of agents can be told apart, whatever they score; empty where one can."""
    shared = [agents for agents in grid.values() if all(label in agents for label in labels)]
    pairs = len(labels) * (len(labels) - 1) // 2
    if not shared or not pairs:
        return ""
    sizes = [[len(agents[label]) for label in labels] for agents in shared]
    least = pairs * min(least_p([(n[i], n[j]) for n in sizes]) for i, j in combinations(range(len(labels)), 2))
    if least < SIGNIFICANT:
        return ""
    seeds = max(max(n) for n in sizes)
    wanted = next(n for n in range(seeds, 100) if pairs * least_p([(n, n)] * len(shared)) < SIGNIFICANT)
    return (
        f"{seeds} seeds cannot decide: if all runs of one agent beat all runs of another, p would still be "
        f"{min(1.0, least):.2f}; it takes at least {wanted} seeds"
    )


_PROVENANCE: dict[str, Callable[[dict[str, Any]], str]] = {
    "commits": lambda s: str((s.get("git") or {}).get("commit"))[:8],
    "devices": lambda s: str(s.get("device_name")),
    "versions of torch": lambda s: str((s.get("packages") or {}).get("torch")),
}
"""What is told if it differs -> how it is found in a session."""


def _environment(env: str, agents: dict[str, list[RunScore]]) -> dict[str, Any]:
    scores = {label: [np.array([run.score for run in its])] for label, its in agents.items()}
    first = next(iter(agents.values()))[0]
    source, curves = _curves(agents)
    return {
        "env": env,
        "steps": first.steps,
        "protocol": first.how["protocol"],
        "agents": [
            _of_agent(label, scores[label])
            | {
                "seeds": [run.seed for run in its],
                "scores": [run.score for run in its],
                "mean": float(np.mean(scores[label])),
                "median": float(np.median(scores[label])),
            }
            for label, its in agents.items()
        ],
        "pairs": _pairs(scores),
        "curves": {"source": source, "agents": curves},
    }


def _of_agent(label: str, scores: Scores) -> dict[str, Any]:
    estimate = iqm(scores)
    return {
        "agent": label,
        "runs": sum(map(len, scores)),
        "iqm": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
    }


def _pairs(scores: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """P(X > Y) of each two agents, X the one with the larger IQM; verdicts by corrected permutation tests."""
    pairs = []
    for one, two in combinations(scores, 2):
        x, y = (one, two) if iqm(scores[one]).value >= iqm(scores[two]).value else (two, one)
        estimate: Estimate = improvement(scores[x], scores[y])
        testable = enough(scores[x]) and enough(scores[y])
        p = p_value(scores[x], scores[y]) if testable else None
        pairs.append({"x": x, "y": y, **asdict(estimate), "p": p})
    tested = [pair for pair in pairs if pair["p"] is not None]
    for pair, corrected in zip(tested, holm([pair["p"] for pair in tested]), strict=True):
        pair["p_corrected"] = corrected
    for pair in pairs:
        pair.setdefault("p_corrected", None)
        pair["verdict"] = _verdict(pair)
    return pairs


def _verdict(pair: dict[str, Any]) -> str:
    if pair["low"] is None:
        return "not enough seeds"
    if pair["p_corrected"] < SIGNIFICANT and not pair["low"] <= 0.5 <= pair["high"]:
        return "higher" if pair["value"] > 0.5 else "lower"
    return "no difference shown"


def _verdicts(environments: list[dict[str, Any]], aggregate: dict[str, Any] | None) -> list[str]:
    """One sentence for each two agents, over all environments where there are several."""
    whole = aggregate or (environments[0] if len(environments) == 1 else None)
    if whole is None:
        return []
    envs = whole.get("environments", [whole.get("env")])
    where = envs[0] if len(envs) == 1 else f"{len(envs)} environments"
    sentences = []
    for pair in whole["pairs"]:
        x, y, p = pair["x"], pair["y"], pair["value"]
        if pair["low"] is None:
            sentences.append(f"{x} against {y} on {where}: not enough seeds")
            continue
        verdict = {"higher": f"{x} scores higher than {y}", "lower": f"{x} scores lower than {y}"}.get(
            pair["verdict"], f"no difference shown between {x} and {y}"
        )
        sentences.append(
            f"on {where} {verdict}: P({x} > {y}) = {p:.2f} ({pair['low']:.2f} to {pair['high']:.2f}), "
            f"p = {pair['p_corrected']:.3f} corrected for {len(whole['pairs'])} pair{'s' * (len(whole['pairs']) > 1)}"
        )
    return sentences


def _aggregate(grid: Grid, labels: list[str], warnings: list[str]) -> dict[str, Any] | None:
    """The comparison over the environments that all agents have, on one scale; None if there is none such."""
    envs = [env for env, agents in grid.items() if all(label in agents for label in labels)]
    if not envs:
        if len(grid) > 1:
            warnings.append("no environment has runs of all agents, so that nothing can be said over environments")
        return None
    raw = {label: [np.array([run.score for run in grid[env][label]]) for env in envs] for label in labels}
    how, scores = _normalised(envs, raw)
    pooled = np.concatenate([s for its in scores.values() for s in its])
    low, high = float(pooled.min()), float(pooled.max())
    thresholds = np.linspace(low - 0.02 * (high - low), high, THRESHOLDS)
    profiles = {}
    for label in labels:
        fractions, band = profile(scores[label], thresholds)
        ends = [None, None] if band is None else [band[0].tolist(), band[1].tolist()]
        profiles[label] = {"fractions": fractions.tolist(), "low": ends[0], "high": ends[1]}
    return {
        "environments": envs,
        "scale": how,
        "agents": [_of_agent(label, scores[label]) for label in labels],
        "pairs": _pairs(scores),
        "profile": {"thresholds": thresholds.tolist(), "agents": profiles},
    }


def _normalised(envs: Sequence[str], raw: Mapping[str, Scores]) -> tuple[str, Mapping[str, Scores]]:
    """(which scale, scores on it): raw for one environment, human-normalised where all have that, else min-max."""
    from rlab.envs.scores import human_normalised

    if len(envs) == 1:
        return f"raw score on {envs[0]}", raw
    ends = []
    if all(human_normalised(env, 0.0) is not None for env in envs):
        how = "human-normalised (0 random play, 1 a human tester)"
        for env in envs:
            zero, one = (human_normalised(env, score) or 0.0 for score in (0.0, 1.0))
            ends.append((-zero / (one - zero), 1 / (one - zero)))  # the score of random play, and the way to a human's
    else:
        how = (
            "min-max on each environment (0 the lowest and 1 the highest run compared here: it says nothing beyond "
            "these runs, and changes with them)"
        )
        for i in range(len(envs)):
            pooled = np.concatenate([its[i] for its in raw.values()])
            ends.append((pooled.min(), pooled.max() - pooled.min() or 1.0))
    scores = {
        label: [(s - zero) / width for s, (zero, width) in zip(its, ends, strict=True)] for label, its in raw.items()
    }
    return how, scores


def _curves(agents: dict[str, list[RunScore]]) -> tuple[str, dict[str, Any]]:
    """(what is drawn, {agent: steps, middle, low, high}): evaluations if every run has three at the same steps."""
    runs = [run for its in agents.values() for run in its]
    tested = all(
        len(run.evaluations[0]) >= 3 and run.evaluations[0] == its[0].evaluations[0]
        for its in agents.values()
        for run in its
    )
    if not tested and not all(run.returns[0] for run in runs):
        return "none", {}
    curves = {}
    for label, its in agents.items():
        if tested:
            steps = np.array(its[0].evaluations[0], float)
            values = np.array([run.evaluations[1] for run in its])
        else:
            start, end = max(run.returns[0][0] for run in its), min(run.returns[0][-1] for run in its)
            steps = np.linspace(start, end, CURVE_POINTS)
            values = np.array([np.interp(steps, *run.returns) for run in its])
        middle, band = curve(values)
        curves[label] = {
            "steps": steps.tolist(),
            "middle": middle.tolist(),
            "low": None if band is None else band[0].tolist(),
            "high": None if band is None else band[1].tolist(),
            "runs": values.tolist(),
        }
    return "evaluations, whole games" if tested else "training returns, with exploration", curves


def _run_facts(run: RunScore, label: str) -> dict[str, Any]:
    git = run.session.get("git") or {}
    return {
        "run": run.folder.name,
        "path": str(run.folder.path),
        "agent": label,
        "recipe": run.recipe,
        "settings": run.settings,
        "env": run.env,
        "seed": run.seed,
        "steps": run.steps,
        "score": run.score,
        **run.how,
        "commit": git.get("commit"),
        "dirty": git.get("dirty"),
    }
