"""One small run through all verbs."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

import rlab as lab
from rlab.run.files import replace_durably, to_json
from tests.processes import LONGEST, Spawn, until


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    found = [p for p in folder.rglob("*") if p.is_file()]
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in found}


def test_the_list_of_runs(runs: Path, rlab, rlab_json) -> None:
    listed = {row["name"]: row for row in rlab_json("runs")["runs"]}
    assert listed["cart"]["status"] == "finished"
    assert listed["cart"]["step"] == listed["cart"]["total"] == 3000
    assert listed["cart"]["env"] == "CartPole-v1"
    assert listed["cart"]["mean"] > 0
    assert re.search(r"^cart +dqn +CartPole-v1 +3k +", rlab("runs").out, re.MULTILINE)


def test_a_damaged_run_is_listed_as_such(tmp_path: Path, monkeypatch, rlab, rlab_json) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    assert "no run under" in rlab("runs").out
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text("{")
    assert rlab_json("runs")["unreadable"][0]["name"] == "odd"
    assert "unreadable: odd" in rlab("runs").out


def test_show_tells_everything_and_changes_nothing(runs: Path, rlab, rlab_json) -> None:
    before = contents(runs / "cart")
    shown = rlab_json("runs", "show", "cart")
    assert {"name", "path", "recipe", "config", "environment", "status", "step", "total"} <= shown.keys()
    assert shown["recipe"] == "dqn"
    assert shown["config"]["env"]["steps"] == 3000
    assert [row["step"] for row in shown["evaluations"]] == [1000, 2000, 3000]
    assert shown["last"]["step"] == 3000
    assert len(shown["checkpoints"]) == 3
    assert len(shown["digest"]) == 64
    assert shown["size_bytes"] > 0
    assert shown["digest"] in rlab("runs", "show", "cart").out
    assert contents(runs / "cart") == before


@pytest.mark.parametrize("error", [KeyError("acting"), RuntimeError("Error(s) in loading state_dict for QNetwork:")])
def test_a_run_of_another_version_is_told_in_a_sentence(runs: Path, rlab, monkeypatch, error: Exception) -> None:
    def restore(*_: Any) -> None:
        raise error

    monkeypatch.setattr("rlab.agents.value.dqn.DQN.restore_policy", restore)
    before = contents(runs / "cart")
    done = rlab("eval", "cart")
    said = done.err
    assert done.status == 1
    assert "run 'cart' was written by another version" in said
    assert "train anew" in said
    assert "Traceback" not in said
    assert contents(runs / "cart") == before


def test_eval_writes_its_score(runs: Path, rlab, rlab_json) -> None:
    score = rlab_json("eval", "cart", "--episodes", "3", "--seed", "5")
    assert {"mean", "median", "low", "high", "human_normalised", "episodes"} <= score.keys()
    assert score["episodes"] == 3
    assert score["low"] <= score["mean"] <= score["high"]
    written = json.loads((runs / "cart" / "evaluation.json").read_text())
    assert written["mean"] == score["mean"]
    assert written["step"] == 3000
    assert "torch" in written["session"]["packages"]
    assert lab.evaluate("cart", 3, 5)["returns"] == score["returns"]
    said = rlab("eval", "cart", "--episodes", "0")
    assert said.status == 1
    assert "--episodes is 0" in said.err


def test_watch_writes_a_video_and_a_gif(runs: Path, rlab_json) -> None:
    import imageio_ffmpeg

    shown = rlab_json("watch", "ball", "--max-steps", "40", "--no-window")
    assert shown["steps"] == 40
    assert shown["unfinished_score"] is not None
    for kind, size in (("mp4", (160 * 3 + 200, 630)), ("gif", None)):
        reader = imageio_ffmpeg.read_frames(shown[kind])
        meta = next(reader)
        picture = np.frombuffer(next(reader), np.uint8)
        reader.close()
        assert size is None or tuple(meta["size"]) == size
        assert len(np.unique(picture)) > 5  # the bricks have six colours
    assert abs(meta["duration"] - 40 / 15) < 0.5
    assert Path(shown["gif"]).stat().st_size < 2_000_000
    assert not list((runs / "ball" / "videos").glob(".part*"))


def test_watch_of_a_whole_game_on_vectors(runs: Path, rlab) -> None:
    said = rlab("watch", "cart")
    assert said.status == 0
    assert "(1 whole games)" in said.out
    assert said.out.count("wrote ") == 2
    assert "next    rlab report cart" in said.out
    assert "no display here" in said.err


def test_watch_shows_a_window_until_it_is_closed(runs: Path, rlab_json, monkeypatch) -> None:
    import rlab.run.video as video

    class Window:
        closed = False
        seen = 0

        def show(self, frame: np.ndarray) -> None:
            assert frame.dtype == np.uint8
            self.seen += 1
            self.closed = self.seen == 5

        def close(self) -> None:
            self.gone = True

    window = Window()
    monkeypatch.setattr(video, "open_window", lambda *args: window)
    shown = rlab_json("watch", "cart")
    assert shown["steps"] == 5
    assert Path(shown["mp4"]).exists()
    assert Path(shown["gif"]).exists()
    assert window.gone


def test_report_is_one_page_with_everything_in_it(runs: Path, rlab_json) -> None:
    rlab_json("watch", "ball", "--max-steps", "10")
    page = Path(rlab_json("report", "ball")["report"]).read_text()
    assert "data:video/mp4;base64," in page
    assert page.count("data:image/svg+xml;base64,") >= 4
    for text in ("Breakout", "learning_rate", "human-normalised", "classic", "torch"):
        assert text in page
    steps = json.loads((runs / "ball" / "config.json").read_text())["config"]["env"]["steps"]
    assert re.search(rf'<tr class="own"><th>steps</th><td><b>{steps}</b> <span class="dim">default [0-9]+<', page)
    assert re.search(r"agent online: [0-9,]+ parameters, likewise agent target", page)
    assert "weight 32 x 4 x 8 x 8, bias 32" in page
    assert "http://" not in page
    assert "https://" not in page


def test_report_escapes_what_the_run_says(tmp_path: Path, monkeypatch, rlab) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    run = tmp_path / "new"
    run.mkdir()
    bad = "<script>alert(1)</script>"
    config = {"env": {"env": bad, "steps": 10}, bad: {bad: [bad]}}
    replace_durably(run / "config.json", to_json({"schema": 1, "recipe": bad, "created": 0.0, "config": config}))
    replace_durably(run / "env.json", to_json({"schema": 1, "sessions": [{"started": 0.0, bad: {bad: bad}}]}))
    lines = [json.dumps({"kind": "train", "step": n, "my_surprise": n / 2}) + "\n" for n in (1, 2)]
    (run / "metrics.jsonl").write_text("".join(lines))
    assert rlab("report", "new").status == 0
    page = (run / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "No evaluation yet" in page
    assert "my surprise over environment steps" in page  # a column of the user's own agent
    for verb in ("eval", "watch"):
        said = rlab(verb, "new")
        assert said.status == 1
        assert "has no checkpoint yet" in said.err


def test_a_finished_run_says_so(runs: Path, rlab, rlab_json) -> None:
    assert "is finished (3,000 steps)" in rlab("resume", "cart").out
    result = rlab_json("resume", "cart")
    assert result["finished"] is True
    assert result["score"]["episodes"] == 3


def test_a_run_of_before_a_setting_was_there(runs: Path, tmp_path: Path, monkeypatch, rlab_json) -> None:
    wanted = rlab_json("eval", "cart", "--episodes", "2")["returns"]
    shutil.copytree(runs / "cart", tmp_path / "old")
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    document = json.loads((tmp_path / "old" / "config.json").read_text())
    assert document["config"]["env"].pop("options") == {}
    (tmp_path / "old" / "config.json").write_text(json.dumps(document))
    assert rlab_json("eval", "old", "--episodes", "2")["returns"] == wanted
    assert rlab_json("resume", "old")["finished"] is True


def test_eval_of_a_read_only_run_prints_its_score(runs: Path, monkeypatch, rlab, rlab_json) -> None:
    wanted = rlab_json("eval", "cart", "--episodes", "2")["returns"]
    before = contents(runs / "cart")

    def read_only(*args: Any, **more: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("rlab.run.files.write_durably", read_only)
    said = rlab("eval", "cart", "--episodes", "2")
    assert said.status == 0
    assert "mean " in said.out
    assert "wrote" not in said.out
    assert "the score is not kept: cannot write under" in said.err
    assert "Read-only file system" in said.err
    found = rlab_json("eval", "cart", "--episodes", "2")
    assert found["returns"] == wanted
    assert "Read-only" in found["not_written"]
    assert contents(runs / "cart") == before


def test_options_are_the_rules_of_a_run(tmp_path: Path, monkeypatch, rlab) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    given = {"sticky": 0.0, "ramping": False, "max_frames": 50}
    small = {"steps": 200, "num_envs": 2, "threads": 1, "final_episodes": 1, "learning_starts": 900}
    flags = [word for name, value in small.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    words = ("--env", "MinAtar/Freeway", "--name", "one", "--sticky", "0", "--no-ramping", "--max-frames", "50")
    said = rlab("train", "dqn", *words, *flags)
    assert "rules    sticky 0.0, ramping False, max_frames 50" in said.err
    assert "(sticky 0.0, ramping False, max_frames 50, epsilon" in said.out
    lab.train("dqn", "MinAtar/Freeway", "two", **small, **given)
    for name in ("one", "two"):
        document = json.loads((tmp_path / name / "config.json").read_text())
        assert document["config"]["env"]["options"] == given
        assert lab.evaluate(name, 1)["mean_length"] == 50
    assert lab.load("one").config.env == lab.load("two").config.env


def test_a_taken_name(runs: Path, rlab) -> None:
    said = rlab("train", "dqn", "--env", "CartPole-v1", "--name", "cart")
    assert said.status == 1
    assert "exists already" in said.err


def test_minutes_say_how_long_a_run_goes(tmp_path: Path, monkeypatch, rlab_json) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    started = time.monotonic()
    words = ("--env", "CartPole-v1", "--minutes", "0.03", "--threads", "1", "--final-episodes", "1")
    result = rlab_json("train", "dqn", *words)
    assert result["finished"]
    assert result["seconds"] > 1.5
    assert (tmp_path / result["run"] / "clock.jsonl").is_file()
    assert set(result) == {"run", "path", "finished", "step", "score", "seconds"}
    assert time.monotonic() - started < 60


def test_the_same_from_python(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    run = lab.train("dqn", env="CartPole-v1", steps=1_000, threads=1, final_episodes=1)
    with lab.load(run) as player:
        assert player.step == 1000
        action = player.act(np.zeros((2, 4), np.float32))
    assert action.shape == (2,)
    assert lab.evaluate(run, 2)["episodes"] == 2
    with pytest.raises(lab_error(), match="unknown setting 'stepz'; nearest: steps"):
        lab.train("dqn", env="CartPole-v1", stepz=5)


def lab_error() -> type[Exception]:
    from rlab.errors import RlabError

    return RlabError


def test_a_bad_number_halts_and_names_the_checkpoint_that_was_kept(tmp_path: Path, monkeypatch, rlab) -> None:
    from rlab.agents.interaction import Interaction
    from rlab.run.contract import NonFinite

    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    step = Interaction.step

    def bad(self: Any) -> Any:
        if self.total_steps < 10**9 and self.done >= 1500:  # not in the dry run
            raise NonFinite("loss", float("nan"), "step 1,500")
        return step(self)

    monkeypatch.setattr(Interaction, "step", bad)
    words = ("--env", "CartPole-v1", "--steps", "3000", "--threads", "1", "--checkpoint-steps", "1000")
    said = rlab("train", "dqn", *words, "--name", "nan")
    assert said.status == 1
    assert "loss became nan at step 1,500" in said.err
    assert f"kept: {tmp_path / 'nan' / 'checkpoints' / '000001'} (1,000 steps)" in said.err
    assert "Traceback" not in said.err


RLAB = (sys.executable, "-m", "rlab")
LONG = ("--env", "CartPole-v1", "--steps", "10_000_000", "--threads", "1", "--log-steps", "50", "--name", "long")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_training_saves_and_the_run_goes_on(
    number: int, status: int, tmp_path: Path, monkeypatch, rlab_json, spawn: Spawn
) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    metrics = tmp_path / "long" / "metrics.jsonl"
    process = spawn(*RLAB, "train", "dqn", *LONG, "--json")
    until(lambda: metrics.exists() and '"train"' in metrics.read_text(), process)
    running = rlab_json("runs")["runs"][0]
    assert running["status"] == "running"
    assert running["pid"] == process.pid
    signalled = sum(psutil.Process(process.pid).cpu_times()[:2])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process.send_signal(number)
    time.sleep(0.1)
    process.send_signal(number)  # the impatient press it twice
    out, err = process.communicate(timeout=LONGEST)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime  # of this process: other load is none
    assert used - signalled < 5
    assert process.returncode == status
    assert "Traceback" not in err
    assert "steps, saved; go on with: rlab resume long" in err.splitlines()[-1]
    result = json.loads(out)
    assert result["finished"] is False
    listed = rlab_json("runs")["runs"][0]
    assert (listed["status"], listed["step"]) == ("stopped", result["step"])
    if number == signal.SIGINT:
        there = metrics.stat().st_size
        again = spawn(*RLAB, "resume", "long")
        until(lambda: metrics.stat().st_size > there, again)
        again.send_signal(number)
        assert again.wait(LONGEST) == 130
        assert rlab_json("runs")["runs"][0]["step"] >= result["step"]


def test_an_interrupt_that_the_import_system_swallows_is_not_lost(tmp_path: Path, rlab, monkeypatch) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))

    def interrupted(name: str) -> SimpleNamespace:
        verb = import_module(name)
        with suppress(KeyboardInterrupt):  # as in a callback of the import system
            signal.raise_signal(signal.SIGINT)
        return SimpleNamespace(main=verb.main)

    monkeypatch.setattr("rlab.cli.import_module", interrupted)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        said = rlab("train", "dqn", *LONG)
    finally:  # a verb that was stopped ignores further signals
        for number, handler in before.items():
            signal.signal(number, handler)
    assert said.status == 130
    assert "nothing was written" in said.err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_an_interrupt_inside_an_exec_ends_with_the_status_of_one(tmp_path: Path) -> None:
    (tmp_path / "early.py").write_text(
        "import sys, rlab.cli\n"
        "rlab.cli._dispatch = lambda words: exec('raise KeyboardInterrupt')\n"
        "sys.exit(rlab.cli.main(['train']))\n"
    )
    done = subprocess.run([sys.executable, "-m", "early"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert "nothing was written" in done.stderr


BEGUN = """
import sys, rlab.cli
dispatch = rlab.cli._dispatch
rlab.cli._dispatch = lambda words: print("begun", flush=True) or dispatch(words)
sys.exit(rlab.cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("after", [0.0, 0.6, 1.4])
def test_a_signal_in_the_start_leaves_nothing(after: float, tmp_path: Path, monkeypatch, spawn: Spawn) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    process = spawn(sys.executable, "-c", BEGUN, "train", "dqn", *LONG)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(after)  # any instant will do
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LONGEST)
    assert process.returncode == 130
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    if "nothing was written" in last:
        assert not (tmp_path / "long").exists()
    else:
        assert "go on with: rlab resume long" in last
