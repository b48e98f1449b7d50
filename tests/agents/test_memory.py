"""One memory interface: one flag names what remembers, under DQN and policy gradients; it may be another run's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlab import tasks
from rlab.agents.policy.config import PolicyConfig
from rlab.agents.policy.recurrent import RecurrentPolicyGradient
from rlab.agents.types import Step
from rlab.agents.value.config import QConfig
from rlab.errors import RlabError
from rlab.nn import make_encoder
from rlab.nn.encoders.recurrent import read_memory
from rlab.nn.sequence.language import LanguageModel, next_token_loss
from rlab.registry import RECIPES, Recipe
from rlab.run.checkpoint import digest
from rlab.run.config import RunConfig, from_plain, to_plain
from rlab.run.contract import Stop
from rlab.run.folder import find_run
from rlab.run.journal import Journal
from rlab.run.lifecycle import read_newest
from tests.agents.helpers import agent_context, learner
from tests.agents.test_interaction import save_and_restore
from tests.agents.test_transfer import at_start, runs, trained

assert runs  # a fixture: where runs lie

MEMORIES = ["lstm", "gru+width=8", "mingru+width=8", "gtrxl+width=8+heads=2+context=6"]

by_memory = pytest.mark.parametrize("memory", MEMORIES)


@pytest.mark.parametrize(
    "memory", [*MEMORIES, "lstm+layers=2+width=8", "gru+in_dim=5", "transformer+width=8+context=9"]
)
def test_any_memory_forgets_where_episodes_start(memory: str) -> None:
    """A stream of two episodes equals each by itself, and step by step equals all at once."""
    torch.manual_seed(0)
    encoder = make_encoder("mlp", (3,), recurrent=True, memory=memory)
    with torch.no_grad():  # what came before counts little at first
        for p in encoder.core.parameters():
            p.add_(0.2 * torch.randn_like(p))
    x, state = torch.randn(7, 2, 3), torch.randn(2, encoder.state_dim).abs()
    state[:, 0] = 0  # of a Transformer the steps so far
    first = torch.zeros(7, 2, dtype=torch.bool)
    first[0], first[3, 0] = True, True
    out, end = encoder(x, state, first)
    zero, never = torch.zeros(2, encoder.state_dim), torch.zeros_like(first)
    tail, other = encoder(x[3:], zero, never[3:])
    torch.testing.assert_close(out[3:, 0], tail[:, 0], atol=1e-5, rtol=0)
    whole, after = encoder(x, zero, never)
    torch.testing.assert_close(out[:, 1], whole[:, 1], atol=1e-5, rtol=0)
    assert not torch.allclose(out[3:, 0], whole[3:, 0], atol=1e-4)
    carried = state
    for t in range(7):
        step, carried = encoder(x[t : t + 1], carried, first[t : t + 1])
        torch.testing.assert_close(step[0], out[t], atol=1e-5, rtol=0)
    torch.testing.assert_close(carried, end, atol=1e-5, rtol=0)
    # A Transformer keeps what lies before a start, and does not look at it.
    following = [encoder(x, before, never)[0] for before in (end, torch.stack([other[0], after[1]]))]
    torch.testing.assert_close(*following, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        ("bigru", "--memory is 'bigru', which carries no state from step to step; nearest: gru"),
        ("gru+widht=8", "has no option 'widht'"),
        ("gru+8", "'8' is no option; write name"),
        ("guru", "unknown sequence encoder 'guru'; nearest: gru"),
        ("transformer+positions=learned+context=9", "end with its context of 9 steps, .* nearest: positions=rotary"),
    ],
)
def test_memory_that_cannot_be_is_refused(memory: str, message: str) -> None:
    with pytest.raises(RlabError, match=message):
        make_encoder("mlp", (3,), recurrent=True, memory=memory)


def test_memory_is_written_as_it_is_read() -> None:
    text = "gtrxl+layers=2+dropout=0.5+norm=post+bias=false"
    read = read_memory(text)
    assert read.options == {"layers": 2, "dropout": 0.5, "norm": "post", "bias": False}
    assert read_memory(str(read)) == read


def test_old_settings_are_read_and_old_words_explained() -> None:
    old = {"memory": "prioritised", "recurrent": True}
    assert from_plain(QConfig, old) == QConfig(replay="prioritised", memory="lstm")
    assert from_plain(QConfig, {"memory": "uniform", "recurrent": False}) == from_plain(QConfig, {"memory": "uniform"})
    for config in (QConfig(), QConfig(memory="gru", replay="prioritised")):
        assert from_plain(QConfig, to_plain(config)) == config
    with pytest.raises(RlabError, match=r"--memory is prioritised.* nearest: --replay prioritised"):
        QConfig(memory="prioritised")


def remembering(**settings: Any) -> RecurrentPolicyGradient:
    small = {"num_envs": 2, "rollout": 6, "memory": "gru+width=8", "gae_lambda": 0.9}
    return RecurrentPolicyGradient(PolicyConfig(**small | settings), agent_context(actions=3))


@pytest.mark.parametrize("share", [True, False])
def test_policy_gradient_learns_from_what_acting_saw(share: bool) -> None:
    """Values and log-probabilities of a rollout, cut ones too, against steps one by one with the state of acting."""
    a = remembering(share_encoder=share)
    rng = np.random.default_rng(0)
    last = np.zeros((9, 2), bool)
    last[1, 0] = last[4, 1] = last[5, 1] = last[7, 0] = True
    obs, first = rng.normal(size=(2, 3)).astype(np.float32), np.ones(2, bool)
    known: list[dict[str, Any]] = []
    for t in range(9):
        if t == 6:
            a.update = lambda rollout: {}  # type: ignore[method-assign]
            a._gathered, a._episodes = [], 0  # the rollout of six ended
        state = a.recurrent_state.before(2, first)
        action = a.act(obs, first, None)
        reached = rng.normal(size=(2, 3)).astype(np.float32)
        known.append({"state": state, "first": first, "obs": obs, "reached": reached})
        a._gathered.append(Step(obs, action, np.ones(2), np.ones(2), last[t], reached, None, None))
        obs = np.where(last[t][:, None], rng.normal(size=(2, 3)).astype(np.float32), reached)
        first = last[t]
    rollout = a.rollout()
    assert len(rollout.obs) == 3
    with torch.no_grad():
        value, final = a.values(rollout)
        ((_, policy, learned),) = list(a.outputs(rollout))
    assert learned is not None
    torch.testing.assert_close(learned.reshape(3, 2), value)
    head = a.network.value_head
    assert head is not None
    finals = []
    for t, step in enumerate(known[6:]):
        given = [torch.from_numpy(step[name])[None] for name in ("obs", "first", "reached")]
        with torch.no_grad():
            features, others, after = a.network.unroll(given[0], torch.from_numpy(step["state"]), given[1])
            _, beyond, _ = a.network.unroll(given[2], after, torch.zeros_like(given[1]))
        torch.testing.assert_close(value[t], head(others[0]), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(policy.log_p.reshape(3, 2, -1)[t], a.network.head(features[0]).log_p)
        finals += [head(beyond[0])[n] for n in range(2) if rollout.cut[t, n]]
    torch.testing.assert_close(final, torch.stack(finals), atol=1e-6, rtol=1e-5)


@by_memory
@pytest.mark.parametrize("recipe", ["drqn", "a2c"])
def test_resume_is_exact_with_any_memory(recipe: str, memory: str, tmp_path: Path) -> None:
    def build(journal: Journal) -> Any:
        own = {"rollout": 6} if recipe == "a2c" else {"learning_starts": 30, "memory_size": 200}
        short = own | {"num_envs": 2, "reset_steps": 60, "steps": 200, "memory": memory, "encoder": "mlp"}
        return learner(journal, recipe, "CartPole-v1", **short)

    whole_journal, journal = Journal(tmp_path / "whole"), Journal(tmp_path / "journal")
    whole, run = build(whole_journal), build(journal)
    for _ in range(17 if recipe == "drqn" else 5):
        run.step()
    again, other = save_and_restore(run, journal, tmp_path, build)
    for each in (again, whole):
        while not each.progress().finished:
            each.step()
    assert digest(again.state()) == digest(whole.state())
    assert again.agent.updates > 10
    before = digest(again.state())
    assert again.evaluate(Stop()) == again.evaluate(Stop())
    assert digest(again.state()) == before
    for each in (run, again, whole, other, journal, whole_journal):
        each.close()


# A language model, as runs of rnn-lm have one.

LETTERS = 5


@dataclass(frozen=True)
class TinyModel:
    """The parts of a configuration that `--memory RUN` reads."""

    encoder: str = "gru"
    width: int = 8
    layers: int = 2
    heads: int = 0
    positions: str = "rotary"


@dataclass(frozen=True)
class TinyData:
    data: str = "letters"
    window: int = 6


@dataclass(frozen=True)
class TinyExperiment:
    run: RunConfig = field(default_factory=RunConfig)
    data: TinyData = field(default_factory=TinyData)
    model: TinyModel = field(default_factory=TinyModel)
    fit: tasks.FitConfig = field(default_factory=lambda: tasks.FitConfig(epochs=1, batch_size=4))


class Letters:
    name = "letters"

    def __init__(self) -> None:
        self.splits: Mapping[str, torch.Tensor] = {"train": torch.arange(16), "test": torch.arange(4)}

    def collate(self, items: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return {"tokens": (items[:, None] + torch.arange(7)) % LETTERS}

    def to(self, device: torch.device) -> Letters:
        return self


class Modelling(tasks.SingleLossTask):
    def forward(self, batch: tasks.Batch) -> torch.Tensor:
        return self.model(batch["tokens"][:, :-1])  # type: ignore[no-any-return]

    def loss(self, outputs: torch.Tensor, batch: tasks.Batch) -> tasks.Losses:
        return {"loss": next_token_loss(outputs, batch["tokens"][:, 1:])}

    def evaluate(self, split: str, stop: Stop) -> dict[str, Any]:
        return self.primary.score(0.0, 0.0, 0.0, split=split, examples=4)


def language_model(model: TinyModel) -> LanguageModel:
    attends: dict[str, Any] = {"heads": 2, "context": 6, "positions": model.positions}
    options = attends if model.encoder in ("transformer", "gtrxl") else {}
    return LanguageModel(LETTERS, model.encoder, model.width, model.layers, **options)


def build_tiny(experiment: TinyExperiment, context: Any) -> tasks.Trainer:
    model = language_model(experiment.model)
    batches = tasks.Batches(Letters(), 4, 0, context.device)
    task = Modelling(model, batches, torch.optim.Adam(model.parameters(), 0.01), device=context.device)
    return tasks.Trainer(task, experiment.fit, 0, context.device)


@pytest.fixture(scope="module", autouse=True)
def tiny_lm() -> Any:
    tiny = Recipe("tests", lambda data: TinyExperiment(), build_tiny, subject=("data",), unit="examples")
    RECIPES.register("tiny-lm")(Recipe(**vars(tiny) | {"budget": "fit.epochs"}))
    yield
    del RECIPES._entries["tiny-lm"]


@pytest.mark.parametrize(("kind", "heads"), [("gru", 0), ("lstm", 0), ("gtrxl", 2), ("transformer", 2)])
def test_encoder_of_a_language_model_remembers_for_agents(kind: str, heads: int) -> None:
    """Weights trained on text, unchanged, in a second language model, in a DQN and in a policy gradient."""
    source = trained("tiny-lm", "text", "", encoder=kind, heads=heads)
    saved = read_newest(source)
    assert saved is not None
    start = "model.encoder."
    there = {k.removeprefix(start): v for k, v in saved.state["modules"].items() if k.startswith(start)}
    again = language_model(TinyModel(kind))
    again.encoder.load_state_dict(there)
    new, other = (at_start(recipe, recipe, memory="text") for recipe in ("drqn", "a2c"))
    for run, part, prefix in ((new, "online", "encoder.core."), (other, "network", "encoder.encoder.core.")):
        at = read_newest(run)
        assert at is not None
        weights = {k.removeprefix(prefix): v for k, v in at.state["agent"][part].items() if k.startswith(prefix)}
        assert weights.keys() == there.keys()
        assert all(torch.equal(weights[k], there[k]) for k in there)
        assert any("project" in k and "core" not in k for k in at.state["agent"][part])  # of the agent's own
        note = run.config()["warm_start"]["memory"]
        assert (note["run"], note["digest"]) == ("text", digest(there))
        assert run.config()["config"]["agent"]["memory"].startswith(f"{kind}+in_dim=8+width=8+layers=2")
    encoder = make_encoder("mlp", (4,), recurrent=True, memory=new.config()["config"]["agent"]["memory"])
    encoder.core.load_state_dict(there)
    x = torch.randn(3, 5, 8)
    model_out, _ = again.encoder.unroll(x, torch.zeros(3, again.encoder.state_dim))
    agent_out, _ = encoder.core.unroll(x, torch.zeros(3, encoder.state_dim), torch.zeros(3, 5, dtype=torch.bool))
    torch.testing.assert_close(model_out, agent_out)


def test_memory_of_no_use_is_refused_and_another_kind_stays_behind() -> None:
    trained("drqn", "lstm-run", memory="lstm")
    trained("tiny-lm", "learned-lm", "", encoder="transformer", heads=2, positions="learned")
    for name, message in (("lstm-run", "has no sequence encoder .* nearest: --encoder lstm-run"),
                          ("learned-lm", "has learned its positions, which end with its window of 6 tokens"),
                          ("grv", "unknown memory 'grv', and there is no such run; nearest: gru")):  # fmt: skip
        with pytest.raises(RlabError, match=message):
            at_start("drqn", "new", memory=name)
    learned = find_run("learned-lm")
    document = learned.config()
    del document["config"]["data"]["window"]  # as of a classifier, which reads whole texts
    (learned.path / "config.json").write_text(json.dumps(document))
    with pytest.raises(RlabError, match=r"has a Transformer that reads both ways.* nearest: a run of transformer-lm"):
        at_start("drqn", "new", memory="learned-lm")
    new = at_start("drqn", "other", memory="gru+width=8", encoder="lstm-run")
    states = [read_newest(find_run(name)) for name in ("lstm-run", "other")]
    there, here = (state.state["agent"]["online"] for state in states if state is not None)
    below = [k for k in there if k.startswith("encoder.below.")]
    assert below
    assert all(torch.equal(there[k], here[k]) for k in below)
    assert new.config()["config"]["agent"]["memory"] == "gru+width=8"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_long_corridor_is_remembered_by_attention(journal: Journal) -> None:
    """Bakker's T-maze over 20 steps: every turn is right, of which one without a memory gets half."""
    learned = {"batch_size": 64 * 21, "sequence": 21, "burn_in": 0, "n_step": 1, "train_every": 32, "num_envs": 16}
    paced = {"learning_starts": 1_800, "memory_size": 13_440, "target_every": 512, "steps": 24_000, "epsilon_end": 0.1}
    rates = {"learning_rate": 2e-3, "final_learning_rate": 5e-4, "env_args": {"length": 20, "passive": True}}
    own = {"memory": "gtrxl+width=32+heads=2", "encoder": "mlp", "final_episodes": 100}
    run = learner(journal, "drqn", "rlab/TMaze-v0", small=False, **learned, **paced, **rates, **own)
    while not run.progress().finished:
        run.step()
    assert min(run.evaluate(Stop())["returns"]) > 3.5
    run.close()
