"""Encoders travel: between agents, frozen or not, and the new run needs the old one no more."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import rlab
import rlab.agents.recipes
from rlab.cli import main
from rlab.errors import RlabError
from rlab.nn import make_encoder
from rlab.registry import RECIPES
from rlab.run.checkpoint import digest
from rlab.run.config import changed
from rlab.run.contract import Stop
from rlab.run.folder import RunFolder, find_run
from rlab.run.lifecycle import read_newest, resume_run, start_run
from rlab.tasks.transfer import start_from
from tests.agents.helpers import SMALL, known


class Quiet:
    def show(self, *_: Any) -> None: ...
    def event(self, *_: Any) -> None: ...


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("rlab.run.lifecycle.prepare_process", lambda threads: 1)
    return tmp_path / "runs"


Taught = Callable[[str, Path], RunFolder]

QUICK = {"steps": 160, "num_envs": 2, "evaluate_steps": 0, "checkpoint_steps": 0, "learning_starts": 40}


def trained(recipe: str, name: str, env: str = "CartPole-v1", at_once: bool = False, **settings: Any) -> RunFolder:
    stop = Stop()

    def prepare(config: Any, *_: Any) -> Any:
        if at_once:
            stop.request("test")
        return config

    default = RECIPES.get(recipe).default(env)
    small = known(default, SMALL | QUICK | {"rollout": 8, "n_steps": 8, "batch_size": 16})
    if recipe.startswith("reinforce"):
        small |= {"rollout": 1, "num_envs": 1}
    config = changed(default, small | settings)
    folder, _ = start_run(recipe, config, name, stop, Quiet(), prepare)
    return folder


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Taught:
    """A finished run `source` of a recipe in a runs folder, trained once and copied."""
    kept = tmp_path_factory.mktemp("kept")

    def copy(recipe: str, runs: Path) -> RunFolder:
        if not (kept / recipe).exists():
            shutil.copytree(trained(recipe, "source").path, kept / recipe)
        else:
            shutil.copytree(kept / recipe, runs / "source")
        return find_run("source")

    return copy


def at_start(recipe: str, name: str, env: str = "CartPole-v1", **settings: Any) -> RunFolder:
    """A run that is stopped before its first step, and saved."""
    return trained(recipe, name, env, True, **settings)


def encoder(folder: RunFolder) -> dict[str, torch.Tensor]:
    """The weights in the newest checkpoint, read here by hand: whatever ends like an encoder's of the lab."""
    saved = read_newest(folder)
    assert saved is not None
    agent = saved.state["agent"]
    part, prefix = next(
        (agent[p], q)
        for p, q in (("online", "encoder."), ("network", "encoder.encoder."), ("policy", "features_extractor.encoder."))
        if p in agent
    )
    if part is agent.get("policy") and not any(k.startswith(prefix) for k in part):
        prefix = "q_net." + prefix if any(k.startswith("q_net.") for k in part) else "actor." + prefix
    return {k.removeprefix(prefix): v for k, v in part.items() if k.startswith(prefix)}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def head(folder: RunFolder) -> dict[str, torch.Tensor]:
    saved = read_newest(folder)
    assert saved is not None
    network = saved.state["agent"].get("online") or saved.state["agent"]["network"]
    return {k: v for k, v in network.items() if "head." in k}


@pytest.mark.parametrize("source", ["dqn", "pqn", "a2c", "reinforce", "ppo", "sb3-dqn"])
def test_whatever_learned_it_a_dqn_starts_from_it(source: str, taught: Taught, runs: Path) -> None:
    there = encoder(taught(source, runs))
    assert there
    new = at_start("dqn", "new", encoder="source")
    assert same(encoder(new), there)
    saved = read_newest(new)
    assert saved is not None
    target = saved.state["agent"]["target"]
    assert same({k.removeprefix("encoder."): v for k, v in target.items() if k.startswith("encoder.")}, there)
    document = new.config()
    assert document["warm_start"]["encoder"] == {"run": "source", "step": QUICK["steps"], "digest": digest(there)}
    assert document["config"]["agent"]["encoder"] == find_run("source").config()["config"]["agent"]["encoder"]


def test_parts_of_an_encoder_travel_but_not_its_start() -> None:
    trained("dqn", "source", encoder="auto+silu+orthogonal")
    document = at_start("a2c", "new", encoder="source").config()
    assert document["config"]["agent"]["encoder"] == "auto+silu"


@pytest.mark.parametrize("recipe", ["dqn", "pqn", "a2c", "actor-critic", "reinforce-baseline", "rainbow", "drqn"])
@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_weights_stay_to_the_bit_and_others_move(recipe: str, frozen: bool, taught: Taught, runs: Path) -> None:
    there = encoder(taught("pqn", runs))  # with LayerNorm
    start = at_start(recipe, "start", encoder="source", freeze=frozen)
    end = trained(recipe, "end", encoder="source", freeze=frozen)
    below = "below." if recipe == "drqn" else ""
    ours = {k.removeprefix(below): v for k, v in encoder(end).items() if k.startswith(below)}
    assert same({k.removeprefix(below): v for k, v in encoder(start).items() if k.startswith(below)}, there)
    assert same(ours, there) == frozen
    if not frozen:
        assert all(not torch.equal(ours[k], there[k]) for k in there)
    assert not same(head(end), head(start))
    if recipe == "drqn":
        assert not torch.equal(encoder(start)["core.weight_hh"], encoder(end)["core.weight_hh"])
    saved = read_newest(end)
    assert saved is not None
    state = saved.state["agent"]
    network = state.get("online") or state["network"]
    values = [k for k in network if k.startswith("value_encoder.encoder.")]
    if values:  # policy and value have an encoder each, and both start from the other run's
        assert same({k.removeprefix("value_encoder.encoder."): network[k] for k in values}, there) == frozen
    copies = (1 + bool(values)) * len(there) * frozen
    assert len(state["optimizer"]["state"]) == len(network) - copies  # an optimiser knows nothing of what is frozen


def test_spectral_norm_of_a_frozen_encoder_does_not_move() -> None:
    small = {"steps": 24, "learning_starts": 8, "memory_size": 200, "batch_size": 2, "train_every": 8}
    quick = small | {"final_episodes": 1, "evaluate_episodes": 1, "encoder": "impala-btr", "hidden": 8}
    there = encoder(at_start("dqn", "source", "MinAtar/Breakout", **quick))
    assert any(k.endswith(".u") for k in there)
    end = trained("dqn", "end", "MinAtar/Breakout", **(quick | {"encoder": "source", "freeze": True}))
    assert same(encoder(end), there)


def test_memory_travels_too_and_leaves_its_lstm_where_there_is_no_place_for_it() -> None:
    there = encoder(trained("drqn", "source"))
    assert same(encoder(at_start("drqn", "whole", encoder="source")), there)
    below = {k.removeprefix("below."): v for k, v in there.items() if k.startswith("below.")}
    assert same(encoder(at_start("dqn", "part", encoder="source")), below)


def test_an_algorithm_of_stable_baselines3_starts_from_it_as_well(taught: Taught, runs: Path) -> None:
    there = encoder(taught("dqn", runs))
    for recipe in ("ppo", "sb3-dqn"):
        new = at_start(recipe, f"new-{recipe}", encoder="source")
        saved = read_newest(new)
        assert saved is not None
        policy = saved.state["agent"]["policy"]
        copies = {k.partition("features_extractor.")[0] for k in policy if "features_extractor.encoder." in k}
        assert len(copies) >= (2 if recipe == "sb3-dqn" else 1)
        for prefix in copies:
            start = f"{prefix}features_extractor.encoder."
            assert same({k.removeprefix(start): v for k, v in policy.items() if k.startswith(start)}, there)


@pytest.mark.parametrize("recipe", ["dqn", "a2c"])
@pytest.mark.parametrize("saved_at", [0, 80])
def test_it_resumes_exactly_without_the_source(recipe: str, saved_at: int, taught: Taught, runs: Path) -> None:
    """Stopped half-way, or killed before the first checkpoint: the old run is gone, and the result is the same."""
    source = taught("dqn", runs)
    whole = trained(recipe, "whole", encoder="source", freeze=True)

    class Until(Quiet):
        def show(self, progress: Any, metrics: Any) -> None:
            if progress.done >= saved_at:
                stop.request("test")

    stop = Stop()
    default = RECIPES.get(recipe).default("CartPole-v1")
    small = known(default, SMALL | QUICK | {"rollout": 8, "batch_size": 16, "encoder": "source", "freeze": True})
    broken, outcome = start_run(recipe, changed(default, small), "broken", stop, Until(), lambda config, *_: config)
    assert not outcome.finished
    if saved_at == 0:
        shutil.rmtree(broken.checkpoints)
        shutil.rmtree(broken.journal, ignore_errors=True)
        broken.metrics.unlink()
    shutil.rmtree(source.path)
    resume_run(broken, None, Stop(), Quiet())
    one, other = (read_newest(f) for f in (broken, whole))
    assert one is not None
    assert other is not None
    assert digest(one.state) == digest(other.state)
    with rlab.load(broken) as player:  # to play, too, it needs nobody
        assert player.step == QUICK["steps"]


def test_a_copy_that_is_gone_or_damaged_is_not_passed_over(taught: Taught, runs: Path) -> None:
    taught("dqn", runs)
    new = at_start("dqn", "new", encoder="source")
    shutil.rmtree(new.checkpoints)
    copy = new.path / "encoder.safetensors"
    copy.write_bytes(copy.read_bytes()[:-1] + b"x")
    with pytest.raises(RlabError, match=r"encoder\.safetensors.*digest differs"):
        resume_run(new, None, Stop(), Quiet())
    copy.unlink()
    with pytest.raises(RlabError, match=r"encoder\.safetensors, which this run starts from, cannot be read"):
        resume_run(new, None, Stop(), Quiet())


def test_shapes_that_do_not_fit_are_named_and_nothing_is_left(taught: Taught, runs: Path) -> None:
    taught("dqn", runs)
    with pytest.raises(RlabError, match=r"'source' does not fit.*'layers\.1\.weight' has shape \[256, 4\] there and "):
        trained("dqn", "other", "rlab/TMaze-v0", encoder="source")
    at_start("pqn", "norm")
    fits = at_start("dqn", "fits", encoder="norm")
    with pytest.raises(RlabError, match=r"of run 'norm' .*'layers\.2\.bias' has shape \[256\] there and none here"):
        start_from([make_encoder("mlp", (4,))], fits.path)
    assert sorted(p.parent.name for p in runs.glob("*/config.json")) == ["fits", "norm", "source"]


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("dqn", {"encoder": "natur"}, "unknown encoder 'natur', and there is no such run; nearest: nature"),
        ("pqn", {"encoder": "sourse"}, "unknown encoder 'sourse'.* nearest: .*source"),
        ("dqn", {"encoder": "mlp", "freeze": True}, "--freeze .* 'mlp' is a registered encoder.*--encoder RUN"),
        ("dqn", {"encoder": "fresh"}, "run 'fresh' has no checkpoint yet"),
        ("dqn", {"encoder": "table"}, r"run 'table' \(q-learning\) has no encoder"),
        ("dqn", {"encoder": "theirs"}, r"run 'theirs' \(ppo\) has stable-baselines3's own networks"),
    ],
    ids=str,
)
def test_what_cannot_be_taken_is_refused(recipe: str, settings: dict[str, Any], message: str, runs: Path) -> None:
    for name, kind, agent in (
        ("source", "dqn", {"encoder": "auto"}),
        ("fresh", "dqn", {"encoder": "auto"}),
        ("table", "q-learning", {}),
        ("theirs", "ppo", {"encoder": "sb3"}),
    ):
        (runs / name).mkdir(parents=True)
        document = {"schema": 1, "recipe": kind, "created": 1.0, "config": {"agent": agent}}
        (runs / name / "config.json").write_text(json.dumps(document))
    with pytest.raises(RlabError, match=message):
        trained(recipe, "new", **settings)
    assert not (runs / "new").exists()


def test_a_registered_encoder_wins_over_a_run_of_its_name(runs: Path) -> None:
    trained("dqn", "mlp")
    assert "warm_start" not in at_start("dqn", "plain", encoder="mlp").config()
    taken = at_start("dqn", "by-path", encoder=str(runs / "mlp"))
    assert taken.config()["warm_start"]["encoder"]["run"] == "mlp"
    assert same(encoder(taken), encoder(find_run("mlp")))


def test_the_command_line_says_what_is_trainable_and_where_it_comes_from(
    capsys: pytest.CaptureFixture[str], runs: Path
) -> None:
    quick = ["--steps", "200", "--final-episodes", "1", "--threads", "1", "--learning-starts", "50"]
    assert main(["train", "dqn", "--env", "CartPole-v1", "--name", "source", *quick]) == 0
    said = capsys.readouterr().err
    body, top = 256 * (4 + 1) + 256 * 257, 2 * 257
    assert f"network  {body + top:,} trainable parameters\n" in said
    again = ["--encoder", "latest", "--freeze", "--name", "new"]
    assert main(["train", "dqn", "--env", "CartPole-v1", *quick, *again]) == 0
    said = capsys.readouterr().err
    network = f"network {top:,} trainable parameters, {body:,} frozen; encoder of run source at 200 steps"
    assert network in " ".join(said.split())
