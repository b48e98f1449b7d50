"""`rlab runs`: listed, filtered, sorted, removed; and what a new run takes over from another one or from a file."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlab.cli.runs import short
from rlab.run.folder import RunFolder
from rlab.run.warm_start import notes_of

Rlab = Callable[..., SimpleNamespace]
RlabJson = Callable[..., dict[str, Any]]
QUICK = ["--steps", "64", "--threads", "1", "--evaluate-episodes", "1", "--final-episodes", "1"]


@pytest.fixture
def mine(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs folder of one's own with the finished runs `cart` and `ball`."""
    shutil.copytree(runs, tmp_path / "runs")
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("--sort name", ["ball", "cart"]),
        ("--sort score", ["cart", "ball"]),
        ("breakout", ["ball"]),
        ("--agent dqn --env cartpole-v1 --status finished", ["cart"]),
        ("--status running", []),
        ("list dqn", ["cart", "ball"]),
    ],
)
def test_list_is_filtered_and_sorted(words: str, names: list[str], rlab: Rlab, rlab_json: RlabJson, runs: Path) -> None:
    assert [row["name"] for row in rlab_json("runs", *words.split())["runs"]] == names
    assert rlab("runs", *words.split()).status == 0


def test_list_fits_a_narrow_terminal(mine: Path, rlab: Rlab, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(mine / "cart", mine / ("a" * 100))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    lines = rlab("runs").out.splitlines()
    assert max(map(len, lines[:4])) <= 80
    assert any(line.startswith("cart (dqn on CartPole-v1)") for line in lines)
    assert [short(n) for n in (0, 800, 12_000, 1_500_000, 10**9)] == ["0", "800", "12k", "1.5M", "1G"]


def test_sweep_is_one_line(mine: Path, rlab: Rlab, rlab_json: RlabJson) -> None:
    from rlab.compare.sweep import define, jobs_of, open_or_create

    definition = define(["dqn"], ["CartPole-v1"], [0, 1], 3_000)
    sweep = open_or_create("sweep", definition, jobs_of(definition), "pair")
    shutil.copytree(mine / "cart", sweep.path / sweep.jobs[0].name)
    assert rlab_json("runs")["sweeps"][0]["states"] == {"finished": 1, "waiting": 1}
    assert "sweep   pair: 2 runs, 1 finished, 1 waiting; dqn on CartPole-v1" in rlab("runs").out
    assert rlab("runs", "rm", "pair", "--yes").status == 0
    assert not sweep.path.exists()


def test_removal_asks_and_keeps_to_the_folder(mine: Path, rlab: Rlab, tmp_path: Path) -> None:
    asked = rlab("runs", "rm", "ball", "cart")
    assert asked.status == 1
    assert "nothing was removed" in asked.err
    shutil.copytree(mine / "cart", tmp_path / "elsewhere")
    (mine / "link").symlink_to(mine / "cart")
    lock = RunFolder(mine / "ball").lock()
    for name, said in ((str(tmp_path / "elsewhere"), "does not lie"), ("link", "does not lie"), ("go9", "does not lie"),
                       ("ball", "'ball' is at work"), ("crat", "nearest: cart"), ("..", "no run")):  # fmt: skip
        refused = rlab("runs", "rm", "cart", name, "--yes")
        assert (refused.status, said in refused.err) == (1, True), refused.err
        assert (mine / "cart").is_dir()
    lock.release()
    (mine / "link").unlink()
    assert rlab("runs", "rm", "ball", "cart", "--yes").status == 0
    assert not any(mine.iterdir())


def test_escape_sequences_do_not_reach_the_terminal(mine: Path, rlab: Rlab) -> None:
    bad = mine / "x\x1b[2Jy"
    shutil.copytree(mine / "cart", bad)
    document = json.loads((bad / "config.json").read_text())
    document["config"]["env"]["env"] = document["subject"]["env"] = "CartPole-v1\x1b]0;owned\x07"
    (bad / "config.json").write_text(json.dumps(document))
    for words in (["runs"], ["runs", "show", bad.name], ["runs", "show", bad.name, "--toml"], ["eval", bad.name],
                  ["runs", "show", "x\x1b[2J"], ["resume", bad.name], ["runs", "rm", bad.name]):  # fmt: skip
        said = rlab(*words)
        assert "\x1b" not in said.out + said.err, words
        assert re.search(r"\\(x|u00)1b", said.out + said.err), words


def test_settings_of_a_run_and_of_a_file(mine: Path, rlab: Rlab, rlab_json: RlabJson, tmp_path: Path) -> None:
    (file := tmp_path / "s.toml").write_text(rlab("runs", "show", "cart", "--toml").out)
    for given in (["--like", "cart"], ["dqn", "--config", str(file)]):
        run = rlab_json("train", *given, *QUICK, "--learning-rate", "2e-3")["run"]
        was, now = (RunFolder(mine / name).config()["config"] for name in ("cart", run))
        changed = {k for part in was for k in was[part] if was[part][k] != now[part][k]}
        assert changed == {"steps", "final_episodes", "evaluate_episodes", "learning_rate"} - (
            {"evaluate_episodes"} if was["env"]["evaluate_episodes"] == 1 else set()
        )


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("lerning_rate = 1", [], "s.toml: unknown setting 'lerning_rate'; nearest: learning_rate"),
        ("[agent]\nlearning_rate = 'x'", [], "s.toml: settings: agent: learning_rate must be float, not 'x'"),
        ("recipe = 'pqn'", [], "has settings of pqn, not of dqn"),
        ("= 3", [], "is no TOML file of settings"),
        ("", ["--like", "cart"], "--like and --config exclude each other"),
        ("[env]\nenv = 'stranger:Env-v0'", [], "add --trust stranger"),
    ],
)
def test_file_of_settings_is_read_strictly(
    text: str, words: list[str], said: str, runs: Path, rlab: Rlab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file := tmp_path / "s.toml").write_text(text)
    (tmp_path / "stranger.py").write_text("raise AssertionError('imported')")
    monkeypatch.chdir(tmp_path)
    env = [] if "env" in text else ["--env", "CartPole-v1"]
    done = rlab("train", "dqn", *env, "--config", str(file), *words)
    assert done.status == 1
    assert said in done.err.splitlines()[-1]


def test_run_like_a_strangers_imports_nothing(mine: Path, rlab: Rlab, tmp_path: Path, monkeypatch: Any) -> None:
    file = mine / "cart" / "config.json"
    document = json.loads(file.read_text())
    document["config"]["agent"]["encoder"] = "stranger:net"
    file.write_text(json.dumps(document))
    (tmp_path / "stranger.py").write_text("raise AssertionError('imported')")
    monkeypatch.chdir(tmp_path)
    done = rlab("train", "--like", "cart", *QUICK)
    assert (done.status, "add --trust stranger" in done.err) == (1, True)


@pytest.mark.parametrize(("agent", "part"), [("dqn", "online"), ("ppo", "policy")])
def test_agent_starts_with_all_parameters_of_another(
    agent: str, part: str, mine: Path, rlab: Rlab, rlab_json: RlabJson
) -> None:
    import torch

    from rlab.run.lifecycle import read_newest

    base = ["train", agent, "--env", "CartPole-v1", *QUICK]
    learned = "cart"
    if agent != "dqn":
        learned = rlab_json(*base, "--seed", "1")["run"]
    source = read_newest(RunFolder(mine / learned))
    run = rlab_json(*base, "--start", learned, "--learning-rate", "0")["run"]
    folder = RunFolder(mine / run)
    assert notes_of(folder)["agent"]["run"] == learned
    now = read_newest(folder)
    assert source is not None
    assert now is not None
    for name, tensor in source.state["agent"][part].items():
        if "running" not in name:
            torch.testing.assert_close(now.state["agent"][part][name], tensor, rtol=0, atol=0)
    shutil.rmtree(mine / learned)
    assert rlab("eval", run, "--episodes", "1").status == 0  # the other run is not needed any more


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("dqn --hidden 16 --start cart", "--start: the agent of run 'cart' does not fit: 'head."),
        ("a2c --start cart", "its network is of another kind of agent"),
        ("dqn --start crat", "nearest: cart"),
    ],
)
def test_agent_that_does_not_fit_is_refused(words: str, said: str, runs: Path, rlab: Rlab) -> None:
    before = sorted(runs.iterdir())
    done = rlab("train", *words.split(), "--env", "CartPole-v1", *QUICK)
    assert (done.status, said in done.err) == (1, True), done.err
    assert sorted(runs.iterdir()) == before
