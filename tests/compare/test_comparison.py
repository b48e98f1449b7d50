"""What `rlab compare` says of runs, laid out here as runs leave them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlab.cli import main
from rlab.compare import compare_runs
from rlab.errors import RlabError

Run = Callable[..., Path]
LAKE = "FrozenLake-v1"


def plant_seeds(run: Run, recipe: str, env: str, scores: list[float], tag: str = "", **more: Any) -> list[str]:
    """One run a score, seeds from 0; each curve rises to its score."""
    return [
        run(f"{recipe}{tag}-{re.sub('[^a-z]', '', env.lower())}-{s}", recipe, env, s, [x / 4, x / 2, x], **more).name
        for s, x in enumerate(scores)
    ]


def test_one_environment_by_hand(run: Run) -> None:
    names = plant_seeds(run, "q-learning", LAKE, [5.0, 6, 7, 8]) + plant_seeds(run, "sarsa", LAKE, [1.0, 2, 3, 4])
    found = compare_runs(names)
    (where,) = found["environments"]
    q, sarsa = where["agents"]
    assert (q["agent"], q["scores"], q["seeds"], q["iqm"]) == ("q-learning", [5, 6, 7, 8], [0, 1, 2, 3], 6.5)
    assert 5 <= q["low"] < 6.5 < q["high"] <= 8
    (pair,) = where["pairs"]
    assert (pair["x"], pair["y"], pair["value"]) == ("q-learning", "sarsa", 1.0)
    # 2 of the 70 ways to deal eight runs are as far apart.
    assert pair["p"] == pytest.approx(2 / 70, abs=0.01)
    assert pair["verdict"] == "higher"
    assert "q-learning scores higher than sarsa" in found["verdicts"][0]
    assert found["aggregate"]["agents"][0]["iqm"] == 6.5
    curve = where["curves"]["agents"]["sarsa"]
    assert where["curves"]["source"].startswith("evaluations")
    assert curve["middle"] == pytest.approx([2.5 / 4, 2.5 / 2, 2.5])
    profile = found["aggregate"]["profile"]
    assert profile["agents"]["q-learning"]["fractions"][0] == 1
    assert profile["agents"]["q-learning"]["fractions"][-1] == 0
    assert sarsa["agent"] == "sarsa"


def test_three_seeds_all_apart_are_no_verdict(run: Run) -> None:
    """Chance alone puts three above three in one of ten comparisons."""
    names = plant_seeds(run, "q-learning", LAKE, [7.0, 8, 9]) + plant_seeds(run, "sarsa", LAKE, [1.0, 2, 3])
    found = compare_runs(names)
    assert found["environments"][0]["pairs"][0]["low"] == 1.0
    assert found["environments"][0]["pairs"][0]["verdict"] == "no difference shown"
    assert any("narrower" in w for w in found["warnings"])
    assert any("3 seeds cannot decide" in w and "0.10" in w and "at least 4 seeds" in w for w in found["warnings"])


def test_names_of_one_environment_are_one(run: Run) -> None:
    names = plant_seeds(run, "a2c", "Crawler", [7.0, 8, 9]) + plant_seeds(run, "ppo", "rlab/Crawler-v0", [1.0, 2, 3])
    (where,) = compare_runs(names)["environments"]
    assert (where["env"], [a["agent"] for a in where["agents"]]) == ("rlab/Crawler-v0", ["a2c", "ppo"])


def test_two_seeds_are_not_enough(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    names = plant_seeds(run, "q-learning", LAKE, [7.0, 8]) + plant_seeds(run, "sarsa", LAKE, [1.0, 2, 3])
    assert main(["compare", *names, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "not enough seeds" in said
    assert "7.50" in said
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert not found["enough_seeds"]
    assert [row["low"] is None for row in found["environments"][0]["agents"]] == [True, False]
    assert found["environments"][0]["pairs"][0]["verdict"] == "not enough seeds"
    assert "q-learning on FrozenLake-v1 (2)" in " ".join(found["warnings"])


def test_several_environments_on_one_scale(run: Run) -> None:
    names = plant_seeds(run, "dqn", "MinAtar/Breakout", [10.0, 20, 30])
    names += plant_seeds(run, "pqn", "MinAtar/Breakout", [0.0] * 3)
    names += plant_seeds(run, "dqn", "CartPole-v1", [100.0] * 3) + plant_seeds(run, "pqn", "CartPole-v1", [500.0] * 3)
    found = compare_runs(names)["aggregate"]
    assert "min-max" in found["scale"]
    by_agent = {row["agent"]: row for row in found["agents"]}
    # dqn: 0 0 0 on CartPole, 1/3 2/3 1 on Breakout; of six the lowest and the highest go.
    assert by_agent["dqn"]["iqm"] == pytest.approx((0 + 0 + 1 / 3 + 2 / 3) / 4)
    assert by_agent["pqn"]["iqm"] == pytest.approx(0.5)
    assert found["pairs"][0]["value"] == 0.5


def test_atari_is_measured_in_humans(run: Run) -> None:
    names = plant_seeds(run, "dqn", "Breakout", [1.7] * 3, protocol="classic")
    names += plant_seeds(run, "dqn", "Pong", [14.6] * 3, protocol="classic")
    found = compare_runs(names)["aggregate"]
    assert "human" in found["scale"]
    assert found["agents"][0]["iqm"] == pytest.approx(0.5)  # random play there, a human's score here


def test_settings_that_differ_make_another_agent(run: Run) -> None:
    names = plant_seeds(run, "q-learning", LAKE, [1.0] * 3, tag="a", gamma=0.9, initial_value=1.0)
    names += plant_seeds(run, "q-learning", LAKE, [2.0] * 3, tag="b", initial_value=1.0)
    found = compare_runs(names)
    assert found["agents"] == ["q-learning", "q-learning gamma=0.9"]  # what all of them have is no difference


def test_what_is_not_alike_is_told(run: Run) -> None:
    names = plant_seeds(run, "q-learning", LAKE, [1.0] * 3)
    names += plant_seeds(run, "sarsa", LAKE, [2.0] * 3, session={"git": {"commit": "abcdef0123", "dirty": True}})
    told = " ".join(compare_runs(names)["warnings"])
    assert "2 commits: 01234567, abcdef01" in told
    assert "3 of 6 runs were made from a changed checkout" in told


def test_unfinished_runs_are_named_and_left_out(run: Run) -> None:
    names = plant_seeds(run, "q-learning", LAKE, [1.0, 2.0, 3.0])
    run("half", "q-learning", LAKE, 7, [9.0, 9.0], done=0.5)
    found = compare_runs([*names, "half", names[0]])  # a run that is named twice counts once
    assert found["left_out"] == [{"run": "half", "reason": "stopped at 500 of 1,000 steps"}]
    assert found["environments"][0]["agents"][0]["scores"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"seed": 9, "steps": 2000}, "budget in steps"),
        ({"seed": 0}, "both q-learning on FrozenLake-v1 with seed 0"),
        ({"seed": 9, "protocol": "v5"}, "has protocol"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(run: Run, other: dict[str, Any], sentence: str) -> None:
    names = plant_seeds(run, "q-learning", LAKE, [1.0, 2.0, 3.0])
    seed = other.pop("seed")
    run("other", "q-learning", LAKE, seed, [1.0], **other)
    with pytest.raises(RlabError, match=sentence) as refused:
        compare_runs([*names, "other"])
    assert "'other'" in str(refused.value)


@pytest.mark.parametrize("rule", [{"sticky": 0.0}, {"ramping": False}])
def test_scores_under_other_rules_are_not_compared(run: Run, rule: dict[str, Any]) -> None:
    names = plant_seeds(run, "pqn", "MinAtar/Asterix", [1.0, 2.0, 3.0])
    run("other", "pqn", "MinAtar/Asterix", 9, [1.0], **rule)
    with pytest.raises(RlabError, match=f"'other' has {next(iter(rule))}|{next(iter(rule))} None and 'other'"):
        compare_runs([*names, "other"])
    same = plant_seeds(run, "dqn", "MinAtar/Asterix", [1.0, 2.0, 3.0], tag="x", **rule)
    assert compare_runs([*same, "other"])["agents"] == ["dqn", "pqn"]  # the rules are the environment's


def test_old_runs_are_compared_with_new(run: Run) -> None:
    """In 0.1 and 0.2 every environment had the options of all."""
    names = plant_seeds(run, "dqn", "Go5", [1.0, 2.0, 3.0], komi=5.5)
    for seed, komi in enumerate((5.5, 5.5, None), 10):
        path = run(f"old{seed}", "dqn", "Go5", seed, [1.0]) / "config.json"
        document = json.loads(path.read_text())
        del document["config"]["env"]["options"]
        document["config"]["env"] |= {"protocol": "classic", "sticky": None, "ramping": True, "opponent": None}
        document["config"]["env"] |= {"colour": None, "komi": komi}
        path.write_text(json.dumps(document))
    assert compare_runs([*names, "old10", "old11"])["agents"] == ["dqn"]
    with pytest.raises(RlabError, match="'old12' has komi None"):
        compare_runs([*names, "old12"])


def test_nothing_to_compare(run: Run) -> None:
    run("half", "q-learning", LAKE, 0, [9.0, 9.0], done=0.5)
    with pytest.raises(RlabError, match="stopped at 500 of 1,000 steps"):
        compare_runs(["half"])
    with pytest.raises(RlabError, match="nearest: half"):
        compare_runs(["halv"])
    with pytest.raises(RlabError, match="name the runs"):
        compare_runs([])


def test_curves_of_training_where_evaluations_are_few(run: Run) -> None:
    for seed in range(3):
        folder = run(f"r{seed}", "q-learning", LAKE, seed, [1.0, 2.0])
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        kept = [r for r in rows if r["kind"] == "train" or r["step"] == 1000]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in kept))
    curves = compare_runs(["r0", "r1", "r2"])["environments"][0]["curves"]
    assert curves["source"].startswith("training returns")
    assert curves["agents"]["q-learning"]["middle"][0] == 0.0
    assert curves["agents"]["q-learning"]["middle"][-1] == 1.0


def test_the_files_stand_alone_and_escape(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    names = plant_seeds(run, "q-learning", LAKE, [1.0, 2.0, 3.0])
    run("<b>evil", "q-learning", LAKE, 3, [1.0], done=0.5)
    assert main(["compare", *names, "<b>evil", "--out", str(tmp_path / "out"), "--json"]) == 0
    said = capsys.readouterr()
    assert said.out.count("\n") == 1
    files = json.loads(said.out)["files"]
    assert Path(files["png"]).read_bytes().startswith(b"\x89PNG\r\n")
    page = Path(files["html"]).read_text()
    assert "<b>evil" not in page
    assert "&lt;b&gt;evil" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "<script" not in page
