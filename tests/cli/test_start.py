"""What happens before any verb does something: help, misspellings, plain errors."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlab.cli import VERBS
from rlab.run.contract import Stopped


def cpu_seconds(*command: str) -> float:
    """The least CPU time of three runs."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


@pytest.mark.parametrize("words", [["--help"], ["runs"]])
def test_help_and_the_list_of_runs_are_quick(words: list[str], runs: Path) -> None:
    bare = cpu_seconds(sys.executable, "-c", "pass")
    limit = 0.3 if words == ["--help"] else 1.0
    assert cpu_seconds(sys.executable, "-m", "rlab", *words) - bare < limit


@pytest.mark.parametrize("words", [[], ["--help"], ["runs"], ["train", "dqn", "--help"]])
def test_no_torch_is_imported_before_it_is_needed(words: list[str], runs: Path) -> None:
    code = (
        "import sys; from rlab.cli import main; main(sys.argv[1:]);"
        "print([m for m in ('torch', 'matplotlib') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_help_names_every_verb_and_three_examples(rlab) -> None:
    said = rlab("--help")
    assert said.status == 0
    assert said.out == rlab().out
    for verb in VERBS:
        assert f"\n  {verb}" in said.out
    assert said.out.split("examples:")[1].count("rlab ") == 3


def test_version(rlab) -> None:
    assert rlab("--version").out.startswith("rlab 0.")


def test_unknown_verb(rlab) -> None:
    said = rlab("trian")
    assert said.status == 2
    assert "there is no verb 'trian'" in said.err
    assert "train" in said.err.split("nearest:")[1]


BASIC = ("--learning-rate", "Adam's step size", "--minutes", "Environment steps to train", "the environment:")


@pytest.mark.parametrize(("flag", "more"), [("--help", False), ("--help-all", True)])
def test_help_of_train_has_two_levels(flag: str, more: bool, rlab) -> None:
    said = rlab("train", "dqn", "--env", "CartPole-v1", flag)
    assert said.status == 0
    assert all(text in said.out for text in BASIC)
    assert ("--double" in said.out, "more flags: rlab train dqn --help-all" in said.out) == (more, not more)
    assert len(re.findall(r"^  --", said.out, re.MULTILINE)) <= (30 if not more else 100)


@pytest.mark.parametrize("agent", ["--help", "dqn", "ppo", "q-learning", "alphazero", "go-search", "lenet", "forest"])
def test_help_of_train_fits_a_terminal(agent: str, rlab) -> None:
    out = rlab("train", agent, "--help-all").out
    assert out.startswith("usage: rlab train")
    assert max(map(len, out.splitlines())) <= 80
    assert not re.search(r"config\.|[╭│]", out)


VERBS_ALONE = ["resume", "eval", "watch", "runs", "report", "doctor", "list", "compress", "export", "sample", "predict"]


@pytest.mark.parametrize("verb", [*VERBS_ALONE, "bench", "data", "data show", "study", "study report", "bench speed"])
def test_help_of_a_verb_fits_a_terminal(verb: str, rlab) -> None:
    said = rlab(*verb.split(), "--help")
    assert said.status == 0
    assert f"usage: rlab {verb}" in said.out
    assert max(map(len, said.out.splitlines())) <= 80
    assert ("--json" in said.out) == (verb not in ("bench", "study"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--env Breakout", "which agent or model? rlab train dqn --env CartPole-v1"),
        ("dqn", "in which environment? rlab train dqn --env CartPole-v1, or --env Breakout"),
        ("sac --steps 1e5", "in which environment? rlab train sac --env Pendulum-v1"),
        ("q-learning", "in which environment? rlab train q-learning --env Taxi-v4"),
        ("dqn CartPole-v1", "rlab train dqn --env CartPole-v1"),
        ("lenet digits", "rlab train lenet --data digits"),
        ("dqn --env CartPole-v1 --lr 3", "no flag --lr; nearest: --learning-rate"),
        ("--env CartPole-v1 dqn --lr 3", "no flag --lr; nearest: --learning-rate"),
        ("--json ppo --env CartPole-v1 --total-timesteps 3", "nearest: --steps"),
        ("lenet --optimizer sgd", "nearest: --optimiser"),
        ("alphazero --visit 3", "no flag --visit; nearest: --visits"),
        ("q-learning --env Taxi-v4 --gama 1", "no flag --gama; nearest: --gamma"),
        ("go-search --polcy x", "no flag --polcy; nearest: --policy"),
        ("dqn --env CartPole-v1 --steps many", "--steps is 'many'; it must be a whole number"),
        ("dqn --env CartPole-v1 --steps 1.5", "--steps is '1.5'; it must be a whole number"),
        ("dqn --env CartPole-v1 --steps", "--steps needs a value"),
        ("dqn --env CartPole-v1 --value c5", "--value is 'c5'; it must be one of expected, c51"),
    ],
)
def test_misspelt_training_is_one_sentence(words: str, said: str, rlab) -> None:
    done = rlab("train", *words.split())
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert said in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("eval cart --episods 3", "'rlab eval' has no flag --episods; nearest: --episodes"),
        ("eval", "'rlab eval' needs RUN; see rlab eval --help"),
        ("report cart ball", "'ball' is one word too many"),
        ("study run dying-relu --stps 3", "no flag --stps; nearest: --steps"),
        ("completion csh", "nearest"),
    ],
)
def test_misspelt_verb_is_one_sentence(words: str, said: str, rlab, runs: Path) -> None:
    done = rlab(*words.split())
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert said in done.err


@pytest.mark.parametrize(("text", "steps"), [("1e5", 100_000), ("100_000", 100_000), ("1.5e3", 1_500), ("7", 7)])
def test_whole_numbers_are_read_as_people_write_them(text: str, steps: int, rlab, monkeypatch) -> None:
    begun: list[int] = []

    def begin(recipe: str, config: Any, *_: Any) -> None:
        begun.append(config.env.steps)
        raise Stopped

    monkeypatch.setattr("rlab.run.lifecycle.start_run", begin)
    rlab("train", "--env", "CartPole-v1", "dqn", "--steps", text)
    assert begun == [steps]


@pytest.mark.parametrize(
    ("words", "told"),
    [("", (5.0, 8)), ("--steps 64", (0.0, 8)), ("--evaluate-steps 9", (5.0, 0)), ("--minutes 2", (2.0, 8))],
)
def test_flags_win_over_a_file(words: str, told: tuple[float, int], rlab, tmp_path: Path, monkeypatch) -> None:
    (file := tmp_path / "s.toml").write_text("minutes = 5.0\nevaluations = 8")
    begun = []

    def begin(recipe: str, config: Any, *_: Any) -> None:
        begun.append((config.run.minutes, config.run.evaluations))
        raise Stopped

    monkeypatch.setattr("rlab.run.lifecycle.start_run", begin)
    rlab("train", "dqn", "--env", "CartPole-v1", "--config", str(file), *words.split())
    assert begun == [told]


def test_misspelt_latest_is_recognised(rlab, runs: Path) -> None:
    assert "nearest: latest" in rlab("eval", "latset").err


def test_first_words_come_before_torch(rlab, monkeypatch) -> None:
    code = (
        "import sys, rlab.cli.train as t; say = t.say\n"
        "def stop(text): say(text); print('torch' in sys.modules); sys.exit()\n"
        "t.say = stop; t.main(['dqn', '--env', 'CartPole-v1'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "dqn on CartPole-v1: measuring what it takes ...\n")


def test_unknown_agent_env_and_flag_name_the_nearest(rlab, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path / "none"))
    agent = rlab("train", "dqm", "--env", "Breakout")
    assert agent.status == 1
    assert agent.err == "rlab: unknown agent 'dqm'; nearest: dqn, drqn, ddpm\n"
    env = rlab("train", "dqn", "--env", "Brekout", "--json")
    assert env.status == 1
    assert "unknown environment 'Brekout'; nearest: Breakout" in env.err
    assert env.out == ""
    flag = rlab("train", "dqn", "--learning-rat", "1")
    assert flag.status == 2
    assert "--learning-rate" in flag.err
    value = rlab("train", "dqn", "--env", "CartPole-v1", "--steps", "-5")
    assert value.status == 1
    assert value.err.startswith("rlab: --steps is -5; it must be")
    assert value.err.count("\n") == 1
    assert not list(tmp_path.glob("none/*"))


OPTIONS = {
    "Breakout": {"protocol", "sticky", "max-frames"},
    "MinAtar/Breakout": {"sticky", "ramping", "max-frames"},
    "Go9": {"opponent", "colour", "komi"},
    "Crawler": {"max-steps"},
    "CartPole-v1": {"max-steps", "env-arg", "wrapper"},
}
"""Environments, one of each family -> their flags."""


@pytest.mark.parametrize("env", OPTIONS)
def test_help_shows_the_flags_that_apply(env: str, rlab) -> None:
    text = rlab("train", "ppo", "--env", env, "--help").out
    every = set().union(*OPTIONS.values())
    assert {flag for flag in every if re.search(rf"--{flag}\b", text)} == OPTIONS[env]
    assert "--options" not in text
    assert "(default:" in text


@pytest.mark.parametrize(
    ("env", "flag", "sentence"),
    [
        ("CartPole-v1", ["--komi", "7"], "komi belongs to Go, and 'CartPole-v1' is not Go; its options: max_steps"),
        (
            "Go9",
            ["--no-ramping"],
            "ramping belongs to MinAtar, and 'Go9' is not MinAtar; its options: opponent, colour",
        ),
        ("Breakout", ["--max-steps=9"], "max_steps belongs to the crawler and other Gymnasium environments"),
        ("Braekout", ["--sticky", "0.1"], "unknown environment 'Braekout'; nearest: Breakout"),
        ("Breakout", ["--sticky", "1"], "sticky is 1.0; it must be a probability below 1"),
    ],
)
def test_wrong_option_is_one_sentence(env: str, flag: list[str], sentence: str, rlab) -> None:
    said = rlab("train", "dqn", "--env", env, *flag)
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert said.err.startswith(f"rlab: {sentence}")


def test_minutes_and_steps_exclude_each_other(rlab) -> None:
    said = rlab("train", "dqn", "--env", "CartPole-v1", "--steps=5", "--minutes", "1")
    assert said.status == 1
    assert "exclude each other" in said.err
    assert rlab("train", "dqn", "--env", "CartPole-v1", "--minutes", "-1").status == 1


@pytest.mark.parametrize("verb", ["resume", "eval", "watch", "report"])
def test_unknown_run(verb: str, rlab, runs: Path) -> None:
    said = rlab(verb, "crat")
    assert said.status == 1
    assert said.err == f"rlab: no run 'crat' under {runs}; nearest: cart\n"
    assert said.out == ""


def test_a_reader_that_goes_away_is_no_error(runs: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "rlab", "--help"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 141


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_closed_streams_are_empty_ones(closed: str) -> None:
    code = "import sys; from rlab.cli import main; sys.argv[1:] = ['-V']; assert not main(); print(sys.stdin.read())"
    command = ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_doctor(rlab) -> None:
    said = rlab("doctor", "--json")
    found = json.loads(said.out)
    checks = {c["name"]: c for c in found["checks"]}
    assert found["ok"] is (said.status == 0)
    for name in ("python", "torch", "atari", "ffmpeg", "memory", "disk", "cores", "agents", "encoders"):
        assert checks[name]["ok"], checks[name]
    assert "dqn" in checks["agents"]["detail"]


def test_doctor_tells_what_is_missing(rlab, monkeypatch) -> None:
    import imageio_ffmpeg

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: "/nowhere/ffmpeg")
    said = rlab("doctor")
    assert said.status == 1
    assert "MISSING  ffmpeg" in said.out
    assert "something needed is missing" in said.out


def test_bench_speed_prints_what_was_measured(rlab, rlab_json, monkeypatch) -> None:
    row = {"name": "own settings", "agent": "dqn", "peer": "sb3", "ratio": 3.5}
    row |= {"ours_steps_per_s": 350.0, "peer_steps_per_s": 100.0}
    monkeypatch.setattr("rlab.bench.speed.measure", lambda agent, rounds, steps, progress: row | {"rows": [row]})
    assert rlab_json("bench", "speed")["ratio"] == 3.5
    assert "3.50x" in rlab("bench", "speed", "--rounds", "1").out
    assert rlab("bench", "sped").status == 2
    said = rlab("bench", "speed", "--ladder", "--beside", "1")
    assert (said.status, "--ladder and --beside exclude each other" in said.err) == (1, True)
