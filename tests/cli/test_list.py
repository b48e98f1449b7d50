"""`rlab list`, and what `rlab completion` lets a shell complete."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlab.cli.completion import SHELLS, SUB_VERBS, candidates
from rlab.cli.listing import FITTING, KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_lists_fit_a_terminal_and_can_be_searched(kind: str, rlab, rlab_json) -> None:
    rows = rlab_json("list", kind)[kind]
    said = rlab("list", kind)
    assert max(map(len, said.out.splitlines())) <= 80
    assert all(row["name"] in said.out for row in rows)
    word = rows[-1]["name"]
    assert word in [row["name"] for row in rlab_json("list", kind, word.upper())[kind]]
    nothing = rlab("list", kind, "qwertz")
    assert (nothing.status, nothing.err.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    ("env", "fit", "not_fit"),
    [
        ("CartPole-v1", {"dqn", "a2c", "ppo"}, {"sac", "q-learning", "alphazero", "lenet"}),
        ("Pendulum-v1", {"sac", "a2c"}, {"dqn", "sb3-dqn"}),
        ("FrozenLake-v1", {"q-learning", "value-iteration", "dqn"}, {"sac"}),
        ("Blackjack-v1", {"monte-carlo"}, {"dqn", "ppo"}),
        ("Go5", {"alphazero", "dqn"}, {"td3", "sarsa"}),
        ("Breakout", {"rainbow"}, {"ddpg", "alphazero"}),
    ],
)
def test_agents_that_fit_an_environment(env: str, fit: set[str], not_fit: set[str], rlab_json) -> None:
    names = {row["name"] for row in rlab_json("list", "--for", env)["agents"]}
    assert fit <= names
    assert not (not_fit & names)


def test_models_and_data_that_fit_each_other(rlab_json) -> None:
    def names(*words: str) -> tuple[str, set[str]]:
        ((kind, rows),) = rlab_json("list", *words).items()
        return kind, {row["name"] for row in rows if not row["name"].startswith("test-")}  # of other tests

    kind, models = names("--for", "digits")
    assert kind == "models"
    assert {"lenet", "mlp", "vae", "forest"} <= models
    assert not models & {"ssd", "rnn", "transformer-lm", "dqn"}
    kind, sets = names("--for", "translate")
    assert kind == "data"
    assert {"rule-pairs", "dates"} <= sets
    assert not sets & {"digits", "tones", "tinyshakespeare"}
    assert names("models", "--for", "digits")[1] == models
    assert "nature-classifier" not in models
    assert names("data", "--for", "nature-classifier")[1] == {"dsb2018"}
    assert names("data", "--for", "unet")[1] == {"dsb2018", "dsb2018_instances", "digit-scenes", "breakout-objects"}
    assert "bccd" in names("data", "--for", "ssd")[1]
    assert not names("models", "--for", "bccd")[1] & {"fcn", "unet"}


@pytest.mark.parametrize(
    ("data", "fit", "not_fit"),
    [
        ("digits", {"lenet5", "resnet20", "impala-btr", "mlp"}, {"nature", "lstm"}),
        ("digit-scenes", {"nature", "resnet20", "mobilenet-v2"}, {"mlp", "flat", "lstm"}),
        ("iris", {"mlp", "mlp-norm", "flat"}, {"lenet5", "minatar"}),
    ],
)
def test_encoders_that_fit_data(data: str, fit: set[str], not_fit: set[str], rlab_json) -> None:
    """By the shape of an input; detectors need maps, too."""
    rows = [row for row in KINDS["encoders"]() if row["name"] in fit | not_fit]
    assert {row["name"] for row in FITTING["encoders"](rows, data)} == fit
    if data == "iris":
        assert {row["name"] for row in rlab_json("list", "encoders", "--for", data)["encoders"]} == fit


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["agnts"], 2, "there is no list of 'agnts'; nearest: agents"),
        (["models", "--for", "Pong"], 2, "rlab list agents --for Pong"),
        (["envs", "--for", "digits"], 2, "not for envs: rlab list --for digits"),
        (["encoders", "--for", "dyck1"], 1, "sequences are read by bigru, bilstm"),
        (["encoders", "--for", "dgits"], 2, "'dgits' is no data set; nearest: digits"),
        (["--for", "Brekout"], 1, "unknown environment 'Brekout'; nearest: Breakout"),
    ],
)
def test_wrong_list_is_one_sentence(words: list[str], status: int, said: str, rlab) -> None:
    done = rlab("list", *words)
    assert (done.status, done.err.count("\n")) == (status, 1)
    assert said in done.err


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["tr"], {"train", "translate"}),
        (["train", "dq"], {"dqn"}),
        (["train", "dqn", "--env", "CartP"], {"CartPole-v1"}),
        (["train", "dqn", "--env", "Breakout", "--stic"], {"--sticky"}),
        (["train", "dqn", "--env", "CartPole-v1", "--stic"], set()),
        (["train", "dqn", "--value", "q"], {"qr"}),
        (["train", "lenet", "--data", "dig"], {"digits", "digit-scenes"}),
        (["eval", "ca"], {"cart"}),
        (["eval", "cart", "--epi"], {"--episodes"}),
        (["runs", "s"], {"show"}),
        (["runs", "show", "b"], {"ball"}),
        (["study", "run", "dying"], {"dying-relu"}),
        (["list", "en"], {"encoders", "envs"}),
        (["trian", "x"], set()),
    ],
)
def test_completion_offers_what_may_come_next(words: list[str], offered: set[str], runs: Path) -> None:
    assert set(candidates(words)) == offered


def test_completion_imports_no_torch_and_its_script_is_taken(runs: Path) -> None:
    code = "import sys; from rlab.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    words = ["completion", "words", "--", "train", "dqn", "--en"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["--encoder", "--env"]
    subprocess.run(["bash", "-n"], input=SHELLS["bash"], text=True, check=True)


def test_bash_completes_by_the_script(rlab: Any, tmp_path: Path) -> None:
    fake = f'rlab() {{ {sys.executable} -m rlab "$@"; }}\n'
    ask = "COMP_WORDS=(rlab train dqn --env CartP); COMP_CWORD=4; _rlab rlab CartP; echo ${COMPREPLY[@]}"
    text = fake + rlab("completion", "bash").out + ask
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout == "CartPole-v1\n"


@pytest.mark.parametrize("verb", SUB_VERBS)
def test_every_verb_below_a_verb_is_offered_and_has_flags(verb: str, runs: Path) -> None:
    for word in SUB_VERBS[verb]:
        assert word in candidates([verb, word[:-1]])
        assert "--json" in candidates([verb, word, "--j"])


@pytest.mark.parametrize("shell", ["fish", "zsh"])
def test_other_shells_can_read_their_script(shell: str) -> None:
    if (found := shutil.which(shell)) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([found, "-n"], input=SHELLS[shell], text=True, check=True)
