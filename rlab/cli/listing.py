"""``rlab list``: what there is to train, and on what: agents, models, environments, encoders, data sets, studies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from rlab.cli.common import parse, results
from rlab.cli.flags import Arg, filled, first_sentence
from rlab.errors import Misspelt, RlabError, nearest

if TYPE_CHECKING:
    from rlab.data.catalog import DataSource


@dataclass(frozen=True)
class Flags:
    """List what there is: agents, models, envs, encoders, data or studies; with a word, those that it stands in."""

    kind: Annotated[str, Arg("agents|models|envs|encoders|data|studies", positional=True)] = ""
    """What is listed; without it, how many there are of each kind."""
    words: Annotated[tuple[str, ...], Arg("[WORD ...]", positional=True)] = ()
    """Only entries that have all these words in their name, family or description."""
    for_: Annotated[str | None, Arg("ENV|DATA|MODEL", name="for")] = None
    """Only what fits: agents for an environment's actions and observations, models and encoders for a data set's kind
    and shape, data sets for a model."""
    json: bool = False
    """Print one JSON object; everything else goes to stderr."""


Row = dict[str, Any]
"""Of an entry: name, family, summary, and what else there is of its kind."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    flags = parse(Flags, "list", argv)
    with results(flags.json) as put:
        if flags.for_ and flags.kind not in ("", *FITTING):
            raise Misspelt(f"--for is for {', '.join(FITTING)}, not for {flags.kind}: rlab list --for {flags.for_}")
        kind = flags.kind or (_kind_for(flags.for_) if flags.for_ else "")
        if not kind:
            put(_counts(), {name: len(rows()) for name, rows in KINDS.items()})
            return 0
        if kind not in KINDS:
            raise Misspelt(f"there is no list of '{kind}'; {nearest(kind, KINDS)}")
        rows = [row for row in KINDS[kind]() if _has(row, flags.words)]
        if flags.for_:
            rows = FITTING[kind](rows, flags.for_)
        if not rows:
            what = " ".join(flags.words) or flags.for_ or ""
            raise RlabError(f"none of the {kind} fits '{what}'; rlab list {kind} has all")
        following = f"rlab list models --for {flags.for_}" if kind == "encoders" and flags.for_ else NEXT[kind]
        put(f"{text_of(rows)}\n\nnext    {following.format(**rows[0])}", {kind: rows})
        return 0


FAMILIES = (
    "deep Q-networks",
    "policies from trajectories",
    "policy gradients",
    "algorithms of stable-baselines3",
    "tables and planning",
    "Go",
    "networks",
    "sequences",
    "ensembles of trees",
)
"""Families of agents and models in the order in which they are listed; others follow."""


def agents() -> list[Row]:
    """Every agent: what learns by acting in an environment, and the parts of Go players."""
    return [row for row in _recipes() if "env" in row["subject"] or row["plays"]]


def models() -> list[Row]:
    """Every model on data."""
    return [row for row in _recipes() if not ("env" in row["subject"] or row["plays"])]


def _recipes() -> list[Row]:
    from rlab.recipes import load_recipes

    registry = load_recipes()
    recipes = {name: registry.get(name) for name in registry}
    rows = [
        {"name": name, "family": entry.family, "summary": entry.summary}
        | {"subject": list(entry.subject), "plays": list(entry.plays), "takes": list(entry.takes)}
        | {"smallest": entry.smallest}
        for name, entry in recipes.items()
    ]
    return sorted(rows, key=lambda row: FAMILIES.index(row["family"]) if row["family"] in FAMILIES else len(FAMILIES))


def envs() -> list[Row]:
    """Every environment that has a name here, of several versions the newest."""
    from importlib.util import find_spec

    from rlab.envs.make import names_by_family

    needs = {"MuJoCo": "mujoco", "Box2D": "Box2D", "JAX": "jax", "MinAtar": "minatar"}
    missing = {family: f"needs the package {name}" for family, name in needs.items() if find_spec(name) is None}
    return [
        {"name": name, "family": family, "summary": missing.get(family, "")}
        for family, names in names_by_family().items()
        for name in names
    ]


def encoders() -> list[Row]:
    """Every encoder. Imports torch."""
    from rlab.nn.encoders import ENCODERS, load_all

    load_all()
    rows = []
    for name in ENCODERS:
        factory = ENCODERS.get(name)
        factory = getattr(factory, "func", factory)  # of a partial
        lines = " ".join((factory.__doc__ or "").split())
        family = factory.__module__.rpartition(".")[2].replace("_", " ")
        rows.append({"name": name, "family": family, "summary": first_sentence(lines)})
    return sorted(rows, key=lambda row: row["family"])


def data() -> list[Row]:
    """Every data set."""
    from rlab.data.catalog import DATASETS

    sets = {name: DATASETS.get(name) for name in DATASETS}
    rows = [{"name": name, "family": one.kind, "summary": one.summary} for name, one in sets.items()]
    return sorted(rows, key=lambda row: row["family"])


def studies() -> list[Row]:
    """Every study, by its chapter."""
    from rlab.studies import load_studies

    entries = load_studies()
    rows = []
    for name in entries:
        study = entries.get(name)
        chapter = study.measure.__module__.split(".")[-2].replace("_", " ")
        rows.append({"name": name, "family": chapter, "summary": study.claim, "source": study.source})
    return sorted(rows, key=lambda row: row["family"])


KINDS: dict[str, Callable[[], list[Row]]] = {
    "agents": agents,
    "models": models,
    "envs": envs,
    "encoders": encoders,
    "data": data,
    "studies": studies,
}
"""Kind -> its entries."""

NEXT = {
    "agents": "rlab train {name} --help",
    "models": "rlab train {name} --help",
    "envs": "rlab list agents --for {name}",
    "encoders": "rlab train dqn --env Breakout --encoder {name}",
    "data": "rlab data show {name}",
    "studies": "rlab study run {name}",
}
"""Kind -> what to do with an entry."""


def _has(row: Row, words: Sequence[str]) -> bool:
    text = f"{row['name']} {row['family']} {row['summary']}".lower()
    return all(word.lower() in text for word in words)


def _kind_for(name: str) -> str:
    """What is listed for a name alone: models for a data set, data sets for a model, else agents."""
    from rlab.data.catalog import DATASETS
    from rlab.recipes import load_recipes

    recipes = load_recipes()
    if name in recipes and recipes.get(name).takes:
        return "data"
    return "models" if name in DATASETS else "agents"


def _for_env(rows: list[Row], env: str) -> list[Row]:
    from rlab.envs.make import kinds_of

    kinds = kinds_of(env)
    return [row for row in rows if kinds & set(row["plays"])]


def _data_set(name: str) -> DataSource:
    from rlab.data.catalog import DATASETS

    if ":" not in name and name not in DATASETS:  # one with a colon is a user's own
        close = nearest(name, DATASETS)
        raise Misspelt(f"'{name}' is no data set; {close}. Of an environment: rlab list agents --for {name}")
    return DATASETS.get(name)


def _for_data(rows: list[Row], name: str) -> list[Row]:
    source = _data_set(name)
    return [row for row in rows if fits(row, source)]


def _for_model(rows: list[Row], name: str) -> list[Row]:
    from rlab.data.catalog import DATASETS
    from rlab.recipes import load_recipes

    entry = load_recipes().get(name)
    model = {"takes": entry.takes, "smallest": entry.smallest}
    return [row for row in rows if fits(model, DATASETS.get(row["name"]))]


def fits(model: Row, source: DataSource) -> bool:
    """Whether a model fits a data set, as far as that is known without reading it."""
    smallest: int = model["smallest"]
    return bool(source.kinds & set(model["takes"])) and min(source.shape[1:], default=smallest) >= smallest


def _for_inputs(rows: list[Row], name: str) -> list[Row]:
    """Encoders that can be built for what a data set holds, and have maps where a model needs them. Imports torch."""
    import torch

    from rlab.data.datasets import load
    from rlab.nn.encoders import make_encoder
    from rlab.nn.sequence import SEQUENCE_ENCODERS
    from rlab.nn.sequence import load_all as load_sequence_encoders

    source = _data_set(name)
    if source.kind not in ("images", "segmentation", "detection", "table", "series"):
        load_sequence_encoders()
        raise RlabError(
            f"'{name}' is of kind {source.kind}, and these encoders see images, tables and series; sequences are read "
            f"by {', '.join(SEQUENCE_ENCODERS)}"
        )
    shape = source.shape or load(name).shape

    def fits(encoder: str) -> bool:
        try:
            try:
                with torch.device("meta"):  # no time and memory for weights
                    module = make_encoder(encoder, shape)
            except RuntimeError:  # what begins with a computation, such as spectral norms
                module = make_encoder(encoder, shape)
        except RlabError:
            return False
        return hasattr(module, "feature_maps") or source.kind not in ("segmentation", "detection")

    return [row for row in rows if fits(row["name"])]


FITTING: dict[str, Callable[[list[Row], str], list[Row]]] = {
    "agents": _for_env,
    "models": _for_data,
    "data": _for_model,
    "encoders": _for_inputs,
}
"""What is listed -> its entries that fit a name."""


def _counts() -> str:
    lines = [f"{name:<10}{len(rows()):>5}  rlab list {name}" for name, rows in KINDS.items()]
    return "\n".join([*lines, "", "next    rlab list agents --for CartPole-v1", "        rlab list envs pong"])


def text_of(rows: list[Row]) -> str:
    """Entries under the headings of their families; names without a description share lines."""
    width = max(len(row["name"]) for row in rows if row["summary"]) if any(row["summary"] for row in rows) else 0
    blocks = []
    for family in dict.fromkeys(row["family"] for row in rows):
        mine = [row for row in rows if row["family"] == family]
        notes = {row["summary"] for row in mine}
        if len(notes) == 1 and (len(mine) > 1 or not mine[0]["summary"]):
            names = filled(", ".join(row["name"] for row in mine), 2)
            blocks.append(f"{family}:\n{names}" + (f"\n{filled(note, 4)}" if (note := notes.pop()) else ""))
        else:
            blocks.append("\n".join([f"{family}:", *(_line(row, min(width, 24)) for row in mine)]))
    return "\n\n".join(blocks)


def _line(row: Row, width: int) -> str:
    body = filled(row["summary"], width + 4)
    if len(row["name"]) > width:
        return f"  {row['name']}\n{body}"
    return f"  {row['name']:<{width}}  {body.lstrip()}".rstrip()
