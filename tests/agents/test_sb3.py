"""stable-baselines3 in our runs: the same algorithm, its weights and nothing else from a .zip, honest ends, resume."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from rlab.agents.sb3.bridge import BridgeEnv, Features
from rlab.agents.sb3.config import EXPERIMENTS, SB3_PRESETS, OffPolicyConfig, PPOConfig
from rlab.agents.sb3.learner import Sb3Learner
from rlab.agents.sb3.zip_file import import_zip
from rlab.errors import RlabError
from rlab.registry import RECIPES
from rlab.run.checkpoint import Checkpoints, digest
from rlab.run.contract import NonFinite, Stop
from rlab.run.journal import Journal
from tests.agents.helpers import learner

HOME = {recipe: "Pendulum-v1" if recipe in ("sac", "td3", "ddpg") else "CartPole-v1" for recipe in EXPERIMENTS}


def make(journal: Journal, recipe: str, env: str = "", **settings: Any) -> Sb3Learner:
    known = vars(RECIPES.get(recipe).default(env or HOME[recipe]).agent)
    small = {"hidden": (16,), "n_steps": 32, "learning_starts": 64, "memory_size": 256, "gradient_steps": 2}
    small = {k: v for k, v in small.items() if k in known}
    run = learner(journal, recipe, env or HOME[recipe], **({"steps": 600, "num_envs": 2} | small | settings))
    assert isinstance(run, Sb3Learner)
    return run


def run_out(run: Sb3Learner) -> dict[str, float]:
    metrics: dict[str, float] = {}
    while not run.progress().finished:
        metrics |= run.step()
    return metrics


@pytest.mark.parametrize("recipe", sorted(EXPERIMENTS))
def test_each_trains_evaluates_and_tells_its_metrics(recipe: str, journal: Journal) -> None:
    run = make(journal, recipe)
    before = [p.detach().clone() for p in run.sb3.model.policy.parameters()]
    metrics = run_out(run)
    assert run.done == 600
    assert "loss" in metrics
    assert all(np.isfinite(v) for v in metrics.values())
    assert any(not torch.equal(p, q) for p, q in zip(before, run.sb3.model.policy.parameters(), strict=True))
    state = digest(run.state())
    first, second = run.evaluate(Stop()), run.evaluate(Stop())
    assert first == second
    assert digest(run.state()) == state
    run.close()


@pytest.mark.parametrize("recipe", sorted(EXPERIMENTS))
def test_resume_is_exact(recipe: str, tmp_path: Path) -> None:
    """Rollout or replay, optimisers, random numbers and environments, through the disk; the ring has wrapped.

    Early and late in one run.
    """

    def build(folder: str) -> Sb3Learner:
        return make(Journal(tmp_path / folder), recipe, reset_steps=100, steps=800)

    whole, run = build("whole"), build("killed")
    for steps in (2, 7):
        for _ in range(steps):
            run.step()
        path = Checkpoints(tmp_path / f"after-{steps}", run.journal).save(run.state(), {}, run.done)
        before = digest(run.state())
        run.close()
        run.journal.close()
        run = build("killed")
        saved = Checkpoints(tmp_path / f"after-{steps}", run.journal).load(path)
        run.restore(saved.state, Stop())
        assert digest(run.state()) == before
    run_out(whole)
    run_out(run)
    assert digest(run.state()) == digest(whole.state())
    for each in (whole, run):
        each.close()
        each.journal.close()


def test_the_outer_random_numbers_are_left_alone(journal: Journal) -> None:
    outer = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    run = make(journal, "ppo")
    run_out(run)
    run.evaluate(Stop())
    assert np.array_equal(outer[0], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(outer[1], torch.get_rng_state())
    run.close()


def test_slices_learn_what_the_library_learns_at_once(journal: Journal) -> None:
    """Same start, same steps, same order of minibatches: the sliced PPO ends in the same weights."""
    run = make(journal, "ppo", n_steps=48, batch_size=32, n_epochs=3, steps=96)
    run._begin()
    model = run.sb3.model
    weights = {k: v.clone() for k, v in model.policy.state_dict().items()}
    rollout = run.sb3.rollout
    assert rollout is not None
    with run.sb3.own.in_place():
        for _ in range(3):
            model.collect_rollouts(model.env, run._callback, rollout, n_rollout_steps=16)
    assert rollout.full
    arrays = {name: getattr(rollout, name).copy() for name in rollout._arrays()}
    results = []
    for sliced in (False, True):
        model.policy.load_state_dict(weights)
        model.policy.optimizer.state.clear()
        for name, value in arrays.items():
            setattr(rollout, name, value.copy())
        rollout.generator_ready, rollout.epochs, rollout._at = False, 0, 0
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        if sliced:
            rollout.batches, model.n_epochs = 1, 1
            while rollout.epochs < 3:
                model.train()
        else:
            rollout.batches, model.n_epochs = 1 << 30, 3
            model.train()
        results.append([p.detach().clone() for p in model.policy.parameters()])
    assert all(torch.equal(p, q) for p, q in zip(*results, strict=True))
    run.close()


@pytest.mark.parametrize(("env", "truncates"), [("rlab/ProbeTruncation-v0", True), ("rlab/Probe3-v0", False)])
def test_ends_reach_the_library_as_what_they_are(env: str, truncates: bool, journal: Journal) -> None:
    run = make(journal, "ppo", env, reset_steps=10_000, steps=10_000)
    run._begin()
    bridge = run.sb3.model.env
    assert isinstance(bridge, BridgeEnv)
    seen = 0
    for _ in range(25):
        obs, _, done, infos = bridge.step(np.zeros(2, np.int64))
        for i in np.nonzero(done)[0]:
            assert infos[i]["TimeLimit.truncated"] == truncates
            assert infos[i]["terminal_observation"].shape == obs[i].shape
            seen += 1
        assert all(not infos[i] for i in np.nonzero(~done)[0])
    assert seen >= 4
    run.close()


def test_a_lost_life_is_an_end_and_a_planned_restart_a_truncation(journal: Journal) -> None:
    run = make(journal, "sb3-dqn", "Breakout", num_envs=4, reset_steps=2_000, steps=10_000, hidden=(), memory_size=64)
    run._begin()
    bridge, lives, cuts = run.sb3.model.env, 0, 0
    for t in range(1, 501):
        _, _, done, infos = bridge.step(np.full(4, t % 3 + 1))
        truncated = [bool(info.get("TimeLimit.truncated")) for info in infos]
        cuts += sum(truncated)
        lives += int(done.sum()) - sum(truncated)
        assert done.all() == all(truncated) == (t == 500) or t < 500
    assert cuts == 4
    assert lives > 8
    run.close()


def test_images_are_scaled_once_and_our_encoder_is_under_the_heads(journal: Journal) -> None:
    run = make(journal, "ppo", "Breakout", hidden=(), batch_size=64)
    policy = run.sb3.model.policy
    extractor = policy.features_extractor
    assert isinstance(extractor, Features)
    assert type(extractor.encoder).__name__ == "Nature"
    seen: list[torch.Tensor] = []
    extractor.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    white = np.full((2, 4, 84, 84), 255, np.uint8)
    policy.predict(white)
    assert seen[0].min() == seen[0].max() == pytest.approx(1.0)
    run.step()  # and it trains on what our Atari shows
    assert float(seen[-1].max()) <= 1.0
    run.close()


@pytest.mark.parametrize(
    ("recipe", "env", "words"),
    [
        ("sac", "CartPole-v1", "sac takes Box actions, but 'CartPole-v1' has Discrete"),
        ("sb3-dqn", "Pendulum-v1", "takes Discrete actions"),
        ("ppo", "rlab/ProbeMask-v0", "knows no action masks"),
    ],
)
def test_what_does_not_fit_is_refused(recipe: str, env: str, words: str, journal: Journal) -> None:
    with pytest.raises(RlabError, match=words):
        make(journal, recipe, env)


def test_settings_are_the_algorithms_own_and_checked() -> None:
    assert not hasattr(SB3_PRESETS["ppo"]["vectors"], "tau")
    assert not hasattr(SB3_PRESETS["ddpg"]["vectors"], "policy_delay")
    with pytest.raises(RlabError, match=r"--batch-size is 100; .* nearest: 128"):
        PPOConfig(batch_size=100)
    with pytest.raises(RlabError, match="--train-every is 3; it must be a multiple of --num-envs"):
        OffPolicyConfig(num_envs=2, train_every=3)


# Weights from elsewhere.


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PPO]:
    """A .zip as anybody's stable-baselines3 writes it."""
    model = PPO("MlpPolicy", gym.make("CartPole-v1"), n_steps=8, batch_size=8, seed=3, device="cpu")
    path = tmp_path_factory.mktemp("zip") / "ppo.zip"
    model.save(path)
    return path, model


def test_weights_of_a_foreign_zip_play_here(foreign: tuple[Path, PPO], journal: Journal) -> None:
    path, model = foreign
    run = make(journal, "ppo", encoder="sb3", hidden=(), weights=str(path))
    obs = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    ours = run.sb3.policy(0).act(obs, np.ones(50, bool), None)
    assert np.array_equal(ours, model.predict(obs, deterministic=True)[0])
    run.close()
    other = make(journal, "ppo", weights=str(path))
    for begin in (other.step, lambda: other.evaluate(Stop())):
        with pytest.raises(RlabError, match=r"belong to another network: '.*' is .* there and .* here"):
            begin()
    other.close()


@pytest.mark.parametrize("steps", [0, 4])
def test_a_run_outlives_the_zip_that_it_began_with(foreign: tuple[Path, PPO], tmp_path: Path, steps: int) -> None:
    path = tmp_path / "moved.zip"
    path.write_bytes(foreign[0].read_bytes())
    settings: dict[str, Any] = {"encoder": "sb3", "hidden": (), "weights": str(path)}
    run = make(Journal(tmp_path / "journal"), "ppo", **settings)
    for _ in range(steps):
        run.step()
    before, score = digest(run.state()), run.evaluate(Stop())
    saved = Checkpoints(tmp_path / "checkpoints", run.journal).save(run.state(), {}, run.done)
    run.close()
    run.journal.close()
    path.unlink()
    journal = Journal(tmp_path / "journal")
    again = make(journal, "ppo", **settings)
    with pytest.raises(RlabError, match="cannot be read"):
        again.step()
    again.restore(Checkpoints(tmp_path / "checkpoints", journal).load(saved).state, Stop())
    assert digest(again.state()) == before
    assert again.evaluate(Stop()) == score
    again.step()
    again.close()
    journal.close()


@pytest.mark.parametrize("recipe", ["td3", "sac", "ppo"])
def test_weights_that_became_nan_halt_and_are_named(recipe: str, journal: Journal) -> None:
    run = make(journal, recipe, "Pendulum-v1")
    while run.done < 200:
        run.step()
    with torch.no_grad():
        for p in run.sb3.model.policy.parameters():
            p.fill_(torch.nan)
    with pytest.raises(NonFinite, match="loss"):
        run_out(run)
    run.close()


def test_pictures_too_small_for_the_library_are_refused(journal: Journal) -> None:
    with pytest.raises(
        RlabError, match=r"--encoder sb3 cannot see \(4, 10, 10\) of 'MinAtar/Breakout'.*--encoder auto"
    ):
        make(journal, "ppo", "MinAtar/Breakout", encoder="sb3", hidden=())


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("where", ["policy.pth", "policy.pth, saved by torch", "data"])
def test_a_malicious_zip_runs_nothing(where: str, foreign: tuple[Path, PPO], tmp_path: Path) -> None:
    mark, path = tmp_path / "it ran", tmp_path / "bad.zip"
    bomb = pickle.dumps(Bomb(mark))
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(1), "more": Bomb(mark)}, buffer)
    with zipfile.ZipFile(foreign[0]) as good, zipfile.ZipFile(path, "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if name == where.split(",")[0]:
                content = buffer.getvalue() if "torch" in where else bomb
            bad.writestr(name, content)
    if where == "data":
        assert import_zip(path)  # never opened
    else:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with pytest.raises(RlabError, match="holds more than weights") as refused:
                import_zip(path)
        assert not told
        assert "weights_only" not in str(refused.value)  # torch's advice is to load it all the same
    assert not mark.exists()
    pickle.loads(bomb)  # the bomb is a real one
    assert mark.exists()


def test_what_is_no_such_zip_is_refused_with_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RlabError, match="cannot be read"):
        import_zip(tmp_path / "missing.zip")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(RlabError, match="cannot be read"):
        import_zip(tmp_path / "text.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(RlabError, match=r"holds no policy\.pth"):
        import_zip(tmp_path / "other.zip")
    bad = [
        [1, 2],
        {"a": 1},
        {1: torch.zeros(1)},
        {"a": torch.zeros(1, device="meta")},
        {"a": torch.tensor([torch.nan])},
        {"a": torch.zeros(1, dtype=torch.complex64)},
        {"a": torch.zeros(1, dtype=torch.float8_e4m3fn)},
    ]
    for content in bad:
        with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
            buffer = io.BytesIO()
            torch.save(content, buffer)
            archive.writestr("policy.pth", buffer.getvalue())
        with pytest.raises(RlabError, match="not a table of names and finite tensors"):
            import_zip(tmp_path / "odd.zip")


def test_a_zip_cut_anywhere_is_said_to_be_damaged(foreign: tuple[Path, PPO], tmp_path: Path) -> None:
    # Its weights are a .zip, too: of the first part of the file zipfile may take that one's table for its own.
    content, said = foreign[0].read_bytes(), set()
    for length in range(0, len(content), len(content) // 40):
        (tmp_path / "cut.zip").write_bytes(content[:length])
        with pytest.raises(RlabError, match=r"cannot be read|is cut short") as refused:
            import_zip(tmp_path / "cut.zip")
        said.add("is cut short" in str(refused.value))
    assert said == {True, False}


def test_a_bomb_of_zeros_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlab.agents.sb3.zip_file.ZIP_BYTES", 1_000_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("policy.pth", bytes(2_000_000))
    assert (tmp_path / "bomb.zip").stat().st_size < 10_000
    with pytest.raises(RlabError, match="would take 2,000,000 bytes; at most 1,000,000"):
        import_zip(tmp_path / "bomb.zip")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_ppo_solves_cartpole(seed: int, journal: Journal) -> None:
    preset = RECIPES.get("ppo").default("CartPole-v1").agent
    own = {name: getattr(preset, name) for name in ("batch_size", "n_epochs")}
    run = learner(journal, "ppo", "CartPole-v1", seed=seed, final_episodes=20, **own)
    while not run.progress().finished:
        run.step()
    assert run.evaluate(Stop())["mean"] >= 475
    run.close()
