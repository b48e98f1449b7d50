from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rlab.agents.recipes  # noqa: F401 - registers the recipes
from rlab.agents.config import EnvConfig
from rlab.agents.value.config import QConfig, QExperiment
from rlab.errors import RlabError, nearest
from rlab.registry import RECIPES
from rlab.run.config import RunConfig, changed, from_plain, settings_of, to_plain


@dataclass(frozen=True)
class Uniform:
    pass


@dataclass(frozen=True)
class Prioritised:
    alpha: float = 0.5


@dataclass(frozen=True)
class Part:
    needed: int
    memory: Uniform | Prioritised = Uniform()
    sizes: tuple[int, ...] = ()
    kind: Literal["a", "b"] = "a"
    maybe: int | None = None
    name: str = "x"
    on: bool = False
    nested: Prioritised = field(default_factory=Prioritised)
    names: list[str] = field(default_factory=list)
    place: Path = Path("here")
    shares: dict[str, float] = field(default_factory=dict)


def values_of(cls: type) -> st.SearchStrategy[Any]:
    """Objects of a config class with any values that its own check lets through."""

    def values(hint: Any) -> st.SearchStrategy[Any]:
        if get_origin(hint) is Literal:
            return st.sampled_from(get_args(hint))
        if get_origin(hint) is dict:  # options, of the default environment
            return st.sampled_from([{}, {"protocol": "v5"}, {"sticky": 0.5, "max_frames": 8}])
        simple: dict[Any, st.SearchStrategy[Any]] = {
            int: st.integers(0, 10**9),
            float: st.one_of(st.floats(0, 1), st.integers(0, 1)),
            str: st.text(max_size=8),
            bool: st.booleans(),
            NoneType: st.none(),
        }
        if get_origin(hint) in (UnionType, Union):
            return st.one_of(*(values(member) for member in get_args(hint)))
        return simple[hint]

    hints = get_type_hints(cls)
    some = st.fixed_dictionaries({}, optional={f.name: values(hints[f.name]) for f in fields(cls)})

    def build(given: dict[str, Any]) -> Any:
        try:
            return cls(**given)
        except RlabError:
            return None

    return some.map(build).filter(lambda config: config is not None)


@given(run=values_of(RunConfig), env=values_of(EnvConfig), agent=values_of(QConfig))
def test_every_field_of_an_experiment_goes_through_json(run: RunConfig, env: EnvConfig, agent: QConfig) -> None:
    experiment = QExperiment(run, env, agent)
    plain = json.loads(json.dumps(to_plain(experiment)))
    assert from_plain(QExperiment, plain) == experiment


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_presets_go_through_json(recipe: str) -> None:
    experiment = RECIPES.get(recipe).default("")
    assert from_plain(type(experiment), json.loads(json.dumps(to_plain(experiment)))) == experiment


def test_a_setting_is_found_by_its_name_alone() -> None:
    """`changed` looks a field up wherever it stands; two of one name would hide each other."""
    names = [f.name for part in (RunConfig, EnvConfig, QConfig) for f in fields(part)]
    assert len(names) == len(set(names))
    config = changed(QExperiment(), {"steps": 5, "batch_size": 7, "seed": 3})
    assert (config.env.steps, config.agent.batch_size, config.run.seed) == (5, 7, 3)
    with pytest.raises(RlabError, match="unknown setting 'batchsize'; nearest: batch_size"):
        changed(QExperiment(), {"batchsize": 7})
    with pytest.raises(RlabError, match="batch_size must be int"):
        changed(QExperiment(), {"batch_size": "7"})


def test_options_are_set_by_their_names_alone() -> None:
    go = RECIPES.get("dqn").default("Go9")
    config = changed(go, {"komi": 5, "colour": "black", "batch_size": 7})
    assert (config.env.options, config.agent.batch_size) == ({"komi": 5.0, "colour": "black"}, 7)
    assert changed(config, {"colour": "alternate"}).env.options == {"komi": 5.0}  # a default is nothing to tell
    assert changed(go, {"env": "MinAtar/Breakout", "ramping": False}).env.rules() == {"ramping": False}
    with pytest.raises(RlabError, match="colour belongs to Go, and 'Breakout' is not Go"):
        changed(config, {"env": "Breakout"})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"comi": 5}, "unknown setting 'comi'; nearest: komi"),
        ({"komi": "5"}, "komi is '5'; it must be a number or None"),
        ({"komi": [5]}, r"komi is \[5\]; it must be a number or None"),
        (
            {"ramping": False},
            "ramping belongs to MinAtar, and 'Go9' is not MinAtar; its options: opponent, colour, komi",
        ),
    ],
)
def test_wrong_options_are_refused_by_name(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RlabError, match=sentence):
        changed(RECIPES.get("pqn").default("Go9"), change)


OLD_ENV = {"protocol": "classic", "sticky": None, "ramping": True, "opponent": None, "colour": None, "komi": None}


@pytest.mark.parametrize(
    ("env", "old", "options"),
    [
        ("Breakout", {"protocol": "v5", "sticky": 0.1}, {"protocol": "v5", "sticky": 0.1}),
        ("MinAtar/Breakout", {"protocol": "v5", "sticky": 0.1, "ramping": False}, {"ramping": False}),
        ("Go9", {"komi": 6, "opponent": "gnugo:1"}, {"komi": 6.0, "opponent": "gnugo:1"}),
        ("CartPole-v1", {"protocol": "v5"}, {}),  # it had none, and nobody said so
        ("CartPole-v1", {}, {}),
    ],
)
def test_fields_of_old_runs_become_options(env: str, old: dict[str, Any], options: dict[str, Any]) -> None:
    config = from_plain(QExperiment, {"run": {}, "env": {"env": env, **OLD_ENV, **old}, "agent": {}})
    assert config.env == EnvConfig(env=env, options=options)
    assert from_plain(QExperiment, to_plain(config)) == config


@pytest.mark.parametrize("env", ["Breakout", "MinAtar/Breakout", "Go9", "Crawler", "CartPole-v1"])
def test_settings_and_options_share_no_name(env: str) -> None:
    for recipe in RECIPES:
        config = RECIPES.get(recipe).default("")
        if isinstance(getattr(config, "env", None), EnvConfig):
            names = [full.partition(".")[2] for full in settings_of(replace(config, env=EnvConfig(env=env)))]
            assert len(names) == len(set(names)), recipe


@pytest.mark.parametrize(
    "part",
    [
        Part(1),
        Part(2, Prioritised(0.25), (1, 2), "b", 5, "y", True, Prioritised(1.0)),
        Part(-3, maybe=None, memory=Uniform()),
        Part(0, names=["a", ""], place=Path("/b/c"), shares={"x": 0.5, "y": 1.0}),
    ],
)
def test_unions_tuples_and_options_come_back(part: Part) -> None:
    assert from_plain(Part, json.loads(json.dumps(to_plain(part)))) == part


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nedeed": 1}, "unknown field 'nedeed'; nearest: nested, needed"),
        ({"needed": True}, "needed must be int, not True"),
        ({"needed": 1.0}, "needed must be int"),
        ({"needed": "1"}, "needed must be int"),
        ({"needed": None}, "needed must be int"),
        ({"memory": {"kind": "Prioritized"}}, "unknown kind 'Prioritized'; nearest: Prioritised"),
        ({"memory": {"alpha": 0.5}}, "unknown kind None"),
        ({"memory": {"kind": ["Uniform"]}}, "unknown kind"),
        ({"memory": {"kind": "Uniform", "alpha": 1.0}}, "unknown field 'alpha'"),
        ({"memory": 3}, "memory"),
        ({"sizes": 3}, "sizes must be a list"),
        ({"sizes": [1, "2"]}, "sizes must be int"),
        ({"sizes": "12"}, "sizes must be a list"),
        ({"names": ["a", 1]}, "names must be str"),
        ({"place": 1}, "place must be str"),
        ({"shares": [1.0]}, "shares must be an object"),
        ({"shares": {"x": "y"}}, "shares: x must be float"),
        ({"kind": "c"}, "kind is 'c'"),
        ({"kind": ["a"]}, "kind is"),
        ({"maybe": "x"}, "maybe must be"),
        ({"name": 1}, "name must be str"),
        ({"on": 1}, "on must be bool"),
        ({"nested": []}, "nested must be an object"),
        ({"nested": {"alpha": True}}, "alpha must be float"),
    ],
)
def test_wrong_values_are_refused_by_field(change: dict[str, Any], message: str) -> None:
    plain = to_plain(Part(1)) | change
    with pytest.raises(RlabError, match=r"config\.json") as error:
        from_plain(Part, plain)
    assert message in str(error.value)


@pytest.mark.parametrize("plain", [None, [], 3, "x", True])
def test_what_is_no_object_is_refused(plain: Any) -> None:
    with pytest.raises(RlabError, match="must be an object"):
        from_plain(Part, plain)


def test_a_missing_field_takes_its_default_and_one_without_is_named() -> None:
    assert from_plain(Part, {"needed": 2}) == Part(2)
    with pytest.raises(RlabError, match="lacks the field 'needed'"):
        from_plain(Part, {})


@pytest.mark.parametrize(
    "wrong",
    [
        {"log_steps": 0},
        {"checkpoint_minutes": -1.0},
        {"checkpoint_minutes": float("nan")},
        {"checkpoint_minutes": float("inf")},
        {"gamma": 1.5},
        {"gamma": float("nan")},
        {"learning_rate": float("inf")},
        {"steps": 0},
        {"memory_size": 3},
    ],
)
def test_numbers_out_of_range_are_refused_by_flag(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(RlabError, match=f"--{name.replace('_', '-')} is"):
        changed(QExperiment(), wrong)


def test_a_path_is_stored_as_text() -> None:
    assert to_plain([Path("/a"), (1, 2)]) == ["/a", [1, 2]]


def test_nearest_names() -> None:
    games = ["Breakout", "Pong", "Qbert"]
    assert nearest("breakuot", games) == "nearest: Breakout"
    assert nearest("PONG", games) == "nearest: Pong"
    assert nearest("zzz", games) == "valid: Breakout, Pong, Qbert"
    many = [f"name{i:02d}x" for i in range(50)]
    assert nearest("", many) == "there are 50, among them name00x, name01x, name02x"
    assert len(nearest("name", many).split(", ")) == 3


def test_replace_keeps_the_checks() -> None:
    with pytest.raises(RlabError, match="--seed is -1"):
        replace(RunConfig(), seed=-1)
