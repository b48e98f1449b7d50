"""Decision Transformer: trajectories of a run, the order of tokens, games that go for a return, the run's life."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import rlab
from rlab.agents.evaluation import HearsRewards
from rlab.agents.sequence.config import SequencePolicyConfig
from rlab.agents.sequence.decision_transformer import DecisionTransformer, SequencePlayer
from rlab.agents.sequence.trajectories import Trajectories, Windows, _episodes, load_trajectories, save_trajectories
from rlab.agents.value.replay.ring import FINAL, FIRST, LAST
from rlab.cli import main
from rlab.errors import RlabError
from rlab.run.checkpoint import digest
from rlab.run.contract import Stop
from rlab.run.folder import RunFolder, find_run
from rlab.run.lifecycle import read_newest, resume_run
from tests.agents.test_transfer import Quiet, at_start, runs, trained

assert runs  # a fixture: where runs lie

BOX = gym.spaces.Box(-1, 1, (3,), np.float32)
TINY = {"context": 3, "width": 8, "layers": 1, "encoder": "mlp", "dropout": 0.0}
SHORT = {"width": 8, "layers": 1, "context": 4, "batch_size": 64, "epochs": 1, "encoder": "mlp"}


def two_episodes() -> Trajectories:
    """Returns 6 and 9; obs[i] is i three times."""
    obs = np.repeat(np.arange(5, dtype=np.float32), 3).reshape(5, 3)
    reward = np.array([1, 2, 3, 4, 5], np.float32)
    return Trajectories(obs, np.array([0, 1, 0, 1, 1]), reward, np.array([0, 3]), {"run": "by hand"})


def network(**settings: Any) -> DecisionTransformer:
    torch.manual_seed(0)
    model = DecisionTransformer(BOX, 2, SequencePolicyConfig(**TINY | settings), 10.0, 50).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model


def test_replay_becomes_whole_episodes_in_the_order_of_time() -> None:
    """Two environments in turn; one began before the oldest row, and of each the newest episode is not over."""
    rows = [  # env, number, flags
        (0, 1, 0), (1, 10, FIRST), (0, 2, LAST), (0, 99, FINAL), (1, 11, 0), (0, 3, FIRST), (1, 12, LAST),
        (1, 98, FINAL), (0, 4, LAST), (0, 97, FINAL), (1, 13, FIRST), (0, 5, FIRST | LAST), (0, 96, FINAL),
        (1, 14, 0), (0, 6, FIRST),
    ]  # fmt: skip
    env, number, flags = (np.array(column) for column in zip(*rows, strict=True))
    columns = {"env": env, "flags": flags.astype(np.uint8), "action": number, "reward": number.astype(np.float32)}
    got = _episodes(columns | {"frame": number[:, None].astype(np.float32)})
    assert got["reward"].tolist() == [3, 4, 5, 10, 11, 12]
    assert got["start"].tolist() == [0, 2, 3]
    made = Trajectories(**got, note={})
    assert made.returns.tolist() == [7, 5, 33]
    assert made.to_go.tolist() == [7, 4, 5, 33, 23, 12]
    assert made.best(0.5).tolist() == [3, 4, 5]
    assert made.best(0.6).tolist() == [0, 1, 3, 4, 5]


def test_pieces_end_with_their_episode() -> None:
    batch = Windows(two_episodes(), 3).collate(torch.tensor([0, 1, 4]), torch.Generator())
    assert batch["mask"].tolist() == [[True] * 3, [True, True, False], [True, False, False]]
    assert batch["to_go"][batch["mask"]].tolist() == [6, 5, 3, 5, 3, 5]
    assert batch["time"][batch["mask"]].tolist() == [0, 1, 2, 1, 2, 1]
    assert batch["obs"][:, :, 0][batch["mask"]].tolist() == [0, 1, 2, 1, 2, 4]


@pytest.mark.parametrize(("method", "parts"), [("dt", 3), ("bc", 2)])
def test_tokens_are_return_observation_action_of_each_step(method: str, parts: int) -> None:
    """Not all returns, then all observations; and an action is told neither itself nor anything later."""
    model = network(method=method)
    batch = Windows(two_episodes(), 3).collate(torch.tensor([0]), torch.Generator())
    given = {name: batch[name] for name in ("obs", "action", "to_go", "time")}
    tokens = model.tokens(**given)
    assert tokens.shape == (1, 3 * parts, 8)
    for t in range(3):
        when = model.time(torch.tensor([t]))
        expected = [model.obs(model.encoder(batch["obs"][:, t])) + when, model.action(batch["action"][:, t]) + when]
        if model.to_go is not None:
            expected.insert(0, model.to_go(batch["to_go"][:, t, None] / 10) + when)
        torch.testing.assert_close(tokens[0, parts * t : parts * (t + 1)], torch.cat(expected))
    logits = model(**batch)
    for name, change in {"obs": 1.0, "action": 1, "to_go": 5.0}.items():
        column = batch[name].clone()
        column[:, 1] = 1 - column[:, 1] if name == "action" else column[:, 1] + change
        differs = (model(**batch | {name: column}) != logits).any(2)[0].tolist()
        asks = method == "dt"
        sees = {"obs": [False, True, True], "action": [False, False, True], "to_go": [False, asks, asks]}
        assert differs == sees[name], name


def test_player_asks_for_what_is_left_and_sees_what_training_saw() -> None:
    """Step by step in two games that end at different times, against one whole forward pass."""
    model, rng = network(), np.random.default_rng(0)
    player = SequencePlayer(model, asked=8.0, seed=None)
    assert isinstance(player, HearsRewards)
    game: list[list[dict[str, Any]]] = [[], []]
    first = np.ones(2, bool)
    for t in range(6):
        obs = rng.normal(size=(2, 3)).astype(np.float32)
        action = player.act(obs, first, None)
        for n in range(2):
            if first[n]:
                game[n] = []
            left = 8.0 - sum(step["paid"] for step in game[n])
            game[n].append({"obs": obs[n], "action": action[n], "to_go": left, "time": len(game[n]), "paid": t + n})
            seen = game[n][-3:]
            batch = {k: torch.tensor(np.array([[s[k] for s in seen]])) for k in ("obs", "action", "to_go", "time")}
            batch["action"][0, -1] = 1 - batch["action"][0, -1]  # of its own action nothing is seen
            logits = model(**batch, mask=torch.ones(1, len(seen), dtype=torch.bool))
            assert logits[0, -1].argmax() == action[n]
            assert player._steps["to_go"][n, : len(seen)].tolist() == [s["to_go"] for s in seen]
        player.hear(np.array([t, t + 1], np.float32))
        first = np.array([t == 2, False])
    assert player.act(obs, np.ones(2, bool), np.array([[True, False], [False, True]])).tolist() == [0, 1]
    with pytest.raises(RlabError, match="follows 2 games, but 1 observations came"):
        player.act(obs[:1], np.zeros(1, bool), None)


@pytest.fixture
def source(runs: Path) -> RunFolder:
    folder = trained("dqn", "source", steps=900, memory_size=2_000, encoder="mlp")
    save_trajectories(folder)
    return folder


def test_trajectories_are_what_the_run_played(source: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "from-run", "source"]) == 0
    assert "rlab train decision-transformer --env CartPole-v1 --trajectories source" in capsys.readouterr().out
    made = load_trajectories("source")
    assert made.note["episodes"] == len(made.start) > 5
    assert 700 < len(made.reward) <= 900
    assert (made.returns == made.length).all()  # CartPole pays 1 a step
    assert (np.abs(made.obs[made.start]) < 0.05).all()  # as its episodes begin
    path = source.path / "trajectories.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(RlabError, match=r"is damaged .* rlab data from-run source"):
        load_trajectories("source")


def test_run_of_a_policy_from_trajectories_lives(source: RunFolder, runs: Path) -> None:
    """Trained, killed half-way and resumed to the bit, scored at asked returns, and loaded to play."""
    small = SHORT | {"final_episodes": 2, "checkpoint_steps": 200, "threads": 1}
    whole = trained("decision-transformer", "whole", trajectories="source", **small)
    half = at_start("decision-transformer", "half", trajectories="source", **small)
    resume_run(half, None, Stop(), Quiet())
    one, other = (read_newest(folder) for folder in (whole, half))
    assert one is not None
    assert other is not None
    assert digest(one.state) == digest(other.state)
    score = rlab.evaluate("whole", episodes=2)
    assert score["asked"] == score["asked_returns"][-1] == load_trajectories("source").returns.max()
    assert len(score["achieved_returns"]) == len(score["asked_returns"]) >= 3
    assert -1 <= score["correlation"] <= 1
    with rlab.load("whole") as player:
        assert player.film(1, max_steps=3, values=False).steps == 3
        assert player._policy._steps["to_go"][0, :3].tolist() == [score["asked"] - t for t in range(3)]
        assert player.predict(np.zeros(4, np.float32), first=True) in (0, 1)
    for method in ("bc", "filtered-bc"):
        cloned = trained("decision-transformer", method, method=method, trajectories="source", **small)
        assert "asked_returns" not in rlab.evaluate(cloned, episodes=2)
    shutil.copytree(source.path, runs / "moved")
    save_trajectories(trained("dqn", "else", steps=400, memory_size=2_000, encoder="mlp"))
    for name in ("trajectories.npz", "trajectories.json"):
        shutil.copy(find_run("else").path / name, source.path / name)
    with pytest.raises(RlabError, match="are not those that this run began with"):
        rlab.load("whole")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trajectories": "sorce"}, "is 'sorce', no run or folder that has any; nearest: source"),
        ({"trajectories": "fresh"}, "run 'fresh' has no trajectories yet; make them: rlab data from-run fresh"),
        (
            {"env": "Acrobot-v1", "trajectories": "source"},
            "--env is Acrobot-v1, and the trajectories .* nearest: --env CartPole",
        ),
    ],
    ids=str,
)
def test_trajectories_that_do_not_fit_are_refused(settings: dict[str, Any], message: str, source: RunFolder) -> None:
    at_start("a2c", "fresh")
    with pytest.raises(RlabError, match=message):
        trained("decision-transformer", "new", **SHORT | settings)
    with pytest.raises(RlabError, match=r"'fresh' \(a2c\) keeps no replay"):
        save_trajectories(find_run("fresh"))
