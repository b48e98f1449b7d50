"""Names: what they resolve to, and what a wrong one is told."""

import json
import subprocess
import sys
import textwrap
from dataclasses import asdict
from typing import Any, get_args

import gymnasium
import numpy as np
import pytest

from rlab.envs import canonical_name, family_of, is_atari, is_minatar, make_vec
from rlab.envs.make import FAMILIES, read_options
from rlab.envs.probes import Probe4
from rlab.envs.registry import Family
from rlab.errors import RlabError
from rlab.registry import import_plugin

GYMNASIUM_OPTIONS = {"max_steps", "env_args", "wrappers", "env_timeout"}


def test_importing_the_package_is_light_and_nothing_in_it_needs_torch():
    code = """
        import sys, rlab.envs
        heavy = {"ale_py", "numba", "torch"} & set(sys.modules)
        assert not heavy, heavy
        for name in ("Breakout", "CartPole-v1", "rlab/Probe1-v0"):
            rlab.envs.make_vec(name, 1, 0).close()
        assert "torch" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


@pytest.mark.parametrize(
    "name",
    [
        "Breakout",
        "breakout",
        "BREAKOUT",
        "ALE/Breakout-v5",
        "ALE/Breakout",
        "Breakout-v4",
        "BreakoutNoFrameskip-v4",
        "BreakoutDeterministic-v0",
        "ale_py:ALE/Breakout-v5",
    ],
)
def test_every_id_of_a_game_is_that_game(name):
    assert is_atari(name)
    assert canonical_name(name) == "Breakout"
    env = make_vec(name, 1, 0)
    assert env.protocol == "classic"
    assert env.single_action_space.n == 4
    assert env.single_observation_space.shape == (4, 84, 84)
    env.close()


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("ms_pacman", "MsPacman"),
        ("Crawler", "rlab/Crawler-v0"),
        ("rlab/Crawler-v0", "rlab/Crawler-v0"),
        ("Go9", "rlab/Go9-v0"),
        ("rlab/Go19-v0", "rlab/Go19-v0"),
        ("Go8", "Go8"),  # there is none
        ("CartPole-v1", "CartPole-v1"),
        ("minatar/space_invaders", "MinAtar/SpaceInvaders"),
        ("MinAtar/Breakout-v1", "MinAtar/Breakout"),
        ("MinAtar/Breakout-v0", "MinAtar/Breakout-v0"),  # with all six actions
        ("MinAtar/Pong", "MinAtar/Pong"),  # there is none
        ("nowhere:Nothing-v0", "nowhere:Nothing-v0"),  # not imported
        ("Nothing-v0", "Nothing-v0"),
    ],
)
def test_an_environment_has_one_name(name: str, canonical: str):
    assert canonical_name(name) == canonical


@pytest.mark.parametrize("name", ["MsPacman", "ms_pacman", "TicTacToe3D", "Qbert", "qbert", "Blackjack"])
def test_camel_case_and_snake_case(name):
    assert is_atari(name)


@pytest.mark.parametrize(
    "name",
    [
        "CartPole-v1",
        "Blackjack-v1",
        "rlab/Probe1-v0",
        "Go9",
        "mine:Pong-v0",
        "Combat",
        "Nothing",
        "",
        "ALE/",
        "MinAtar/Pong",
    ],
)
def test_other_names_are_not_atari(name):
    assert not is_atari(name)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Braekout", "Breakout"),
        ("CartPole", "CartPole-v1"),
        ("ALE/Pnog-v5", "Pong"),
        ("rlab/Probe9-v0", "rlab/Probe5-v0"),
        ("Go8", "Go9"),
        ("go9", "Go9"),
        ("Go9-v0", "rlab/Go9-v0"),
    ],
)
def test_an_unknown_name_is_told_the_nearest(name, hint):
    with pytest.raises(RlabError, match=f"unknown environment '{name}'.*{hint}"):
        make_vec(name, 1, 0)


def test_an_unknown_module():
    with pytest.raises(RlabError, match="no_such_module_here"):
        make_vec("no_such_module_here:Thing-v0", 1, 0)


def test_a_module_in_the_current_directory(tmp_path, monkeypatch):
    (tmp_path / "my_own_envs.py").write_text(
        "import gymnasium\ngymnasium.register('MyOwn-v0', entry_point='rlab.envs.probes:Probe4')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    env = make_vec("my_own_envs:MyOwn-v0", 2, 0)
    assert env.single_action_space.n == 2
    env.close()
    with pytest.raises(RlabError, match="unknown environment 'my_own_envs:MyOwn-v1'; nearest: MyOwn-v0"):
        make_vec("my_own_envs:MyOwn-v1", 2, 0)


def test_current_directory_comes_before_installed(tmp_path, monkeypatch):
    for place, text in (("installed", "raise RuntimeError"), ("here", "")):
        (tmp_path / place / "of_both").mkdir(parents=True)
        (tmp_path / place / "of_both/__init__.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "installed")
    monkeypatch.chdir(tmp_path / "here")
    before = list(sys.path)
    import_plugin("of_both")
    assert sys.path == [*before, str(tmp_path / "here")]  # what rlab itself imports later is still the installed


@pytest.mark.parametrize(
    "name", ["Breakout-v4", "ALE/Breakout-v5", "MinAtar/Breakout-v1", "Go9", "Crawler", "rlab/Crawler-v0"]
)
def test_an_environment_that_somebody_registered_wins(name, monkeypatch):
    spec = gymnasium.envs.registration.EnvSpec(name, entry_point=Probe4)
    monkeypatch.setitem(gymnasium.registry, name, spec)
    assert not is_atari(name)
    assert not is_minatar(name)
    assert canonical_name(name) == name
    env = make_vec(name, 2, 0, max_steps=3)
    assert env.single_observation_space == Probe4().observation_space
    env.close()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("Pong", {"num_envs": 0}, "num_envs"),
        ("Pong", {"seed": -1}, "seed"),
        ("Pong", {"threads": -1}, "threads"),
        ("Pong", {"protocol": "v4"}, "unknown protocol 'v4'"),
        ("Pong", {"sticky": 1.5}, "sticky"),
        ("Pong", {"max_frames": 0}, "max_frames"),
        ("CartPole-v1", {"sticky": 0.25}, "sticky belongs to Atari and MinAtar"),
        ("CartPole-v1", {"max_frames": 100}, "max_frames belongs to Atari and MinAtar"),
        ("CartPole-v1", {"max_steps": 0}, "max_steps"),
        ("Pong", {"max_steps": 10}, "'Pong' is not of these; its options: protocol, sticky, max_frames, observe$"),
        ("Go5", {"max_steps": 10}, "max_steps belongs to the crawler and other Gymnasium environments, and 'Go5' is"),
        ("Go5", {"sticky": 0.1}, "sticky belongs to Atari and MinAtar"),
        ("Go5", {"opponent": "gnu"}, "there is no player or run 'gnu'"),
        ("Go5", {"colour": "blak"}, "unknown colour 'blak'; nearest: black"),
        ("Go5", {"komi": 7.2}, "komi is 7.2"),
        ("Pong", {"opponent": "random"}, "opponent belongs to Go, and 'Pong' is not Go; its options: protocol"),
        ("CartPole-v1", {"colour": "black"}, "colour belongs to Go"),
        ("MinAtar/Breakout", {"komi": 7.0}, "komi belongs to Go"),
        ("MinAtar/Breakout", {"protocol": "v5"}, "protocol belongs to Atari, and 'MinAtar/Breakout' is not Atari"),
        (
            "CartPole-v1",
            {"stickey": 0.1},
            "has no option 'stickey', only max_steps, env_args, wrappers, env_timeout; nearest: sticky, of Atari",
        ),
        ("Braekout", {"sticky": 0.1}, "unknown environment 'Braekout'; nearest: Breakout"),
        ("Pong", {"sticky": "0.1"}, "sticky is '0.1'; it must be a number or None"),
        ("Pong", {"sticky": True}, "sticky is True; it must be a number or None"),
        ("Pong", {"max_frames": 9.5}, "max_frames is 9.5; it must be a whole number"),
        ("Pong", {"protocol": 4}, "protocol is 4; it must be classic or v5"),
        ("MinAtar/Breakout", {"ramping": 0}, "ramping is 0; it must be True or False"),
        ("MinAtar/Breakout", {"sticky": float("nan")}, "sticky is nan; it must be a probability below 1"),
        ("Go5", {"opponent": None}, "opponent is None; it must be a name"),
        ("Go5", {"opponent": 3}, "opponent is 3; it must be a name"),
        ("Crawler", {"max_steps": 0}, "max_steps is 0; it must be at least 1"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_sentence(name, options, words):
    with pytest.raises(RlabError, match=words):
        make_vec(name, **{"num_envs": 1, "seed": 0, **options})


@pytest.mark.parametrize(
    ("name", "family", "options"),
    [
        ("ALE/Breakout-v5", "Atari", {"protocol", "sticky", "max_frames", "observe"}),
        ("MinAtar/Breakout", "MinAtar", {"sticky", "ramping", "max_frames", "flicker"}),
        ("Go9", "Go", {"opponent", "colour", "komi"}),
        ("CrawlerDiscrete", "the crawler", {"max_steps"}),
        ("rlab.envs:rlab/Crawler-v0", "the crawler", {"max_steps"}),
        ("CartPole-v1", "other Gymnasium environments", GYMNASIUM_OPTIONS),
        (
            "nowhere:rlab/Crawler-v0",
            "other Gymnasium environments",
            {"max_steps", "env_args", "wrappers", "env_timeout"},
        ),
    ],
)
def test_every_environment_has_its_familys_options(name: str, family: str, options: set[str]) -> None:
    assert (family_of(name).name, set(family_of(name).types())) == (family, options)


def test_defaults_are_those_of_the_environments() -> None:
    """They stand where nothing heavy is imported."""
    from rlab.envs import atari, make, minatar
    from rlab.envs.go.match import COLOURS

    assert make.AtariOptions().max_frames == atari.MAX_FRAMES
    assert (make.MinAtarOptions().sticky, make.MinAtarOptions().max_frames) == (minatar.STICKY, minatar.MAX_STEPS)
    assert get_args(make.GO.types()["colour"]) == COLOURS
    assert get_args(make.ATARI.types()["protocol"]) == tuple(atari.STICKY)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_options_are_plain_and_have_defaults(family: Family[Any]) -> None:
    options = family.options()
    assert family.differing(options) == {}
    assert family.read(json.loads(json.dumps(asdict(options)))) == options


def test_numbers_of_numpy_are_numbers() -> None:
    options = make_options("Pong", sticky=np.float32(0.5), max_frames=np.int64(7))
    assert options == {"sticky": 0.5, "max_frames": 7}
    assert [type(value) for value in options.values()] == [float, int]


def make_options(name: str, **given: Any) -> dict[str, Any]:
    family, options = read_options(name, given)
    return family.differing(options)
