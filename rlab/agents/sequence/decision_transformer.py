"""Decision Transformer (Chen et al. 2021): the action that came before a return, learned as a sequence model.

Of each step there are three tokens, in this order: the return from there on, the observation, the action. A causal
Transformer predicts the action at the observation's token. In a game the return is what one asks for, less what was
paid so far. Without the first token it is behaviour cloning with a context.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Discrete
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.agents.evaluation import play, refuse_no_games, score
from rlab.agents.interaction import COPIES
from rlab.agents.sequence.config import GamesConfig, SequencePolicyConfig, SequencePolicyExperiment
from rlab.agents.sequence.trajectories import Trajectories, Windows, load_trajectories
from rlab.data.batches import Batch, Batches
from rlab.envs import make_vec
from rlab.envs.make import canonical_name
from rlab.errors import RlabError
from rlab.nn.heads.policy import FORBIDDEN
from rlab.nn.inputs import ObservationEncoder, is_image
from rlab.nn.optim import decayed, make_optimiser
from rlab.nn.precision import use_bf16
from rlab.nn.sequence import make_sequence_encoder
from rlab.run.config import to_plain
from rlab.run.contract import Score, Stop
from rlab.seeding import derive
from rlab.tasks.task import Losses, Metric, SingleLossTask
from rlab.tasks.trainer import Trainer

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Quantiles of the data's returns that are asked for in the evaluation at the end."""


class DecisionTransformer(nn.Module):
    """Pieces of trajectories -> logits of the action at each step.

    Args:
        space: of one observation.
        actions: A.
        config: the network; of `method` only whether a return is asked for.
        scale: returns are divided by it.
        longest: steps of the longest episode; later ones are taken for its last.
    """

    def __init__(self, space: gym.Space[Any], actions: int, config: SequencePolicyConfig, scale: float, longest: int):
        super().__init__()
        width = config.width
        self.asks = config.method == "dt"
        self.context, self.scale, self.longest = config.context, scale, longest
        self.encoder = ObservationEncoder(space, config.encoder)
        self.obs = nn.Linear(self.encoder.out_dim, width)
        self.action = nn.Embedding(actions, width)
        self.to_go = nn.Linear(1, width) if self.asks else None
        self.time = nn.Embedding(longest, width)
        self.norm = nn.LayerNorm(width)
        tokens = self.tokens_a_step * config.context
        options: dict[str, Any] = {"heads": config.heads, "context": tokens, "positions": "none"}
        self.body = make_sequence_encoder("transformer", width, width, config.layers, config.dropout, **options)
        self.head = nn.Linear(width, actions)

    @property
    def tokens_a_step(self) -> int:
        """Return, observation and action; without a return two."""
        return 3 if self.asks else 2

    def tokens(self, obs: Tensor, action: Tensor, to_go: Tensor, time: Tensor) -> Tensor:
        """obs[B, K, *shape], action, to_go, time [B, K] -> [B, P K, W]: return, observation, action of each step."""
        when = self.time(time.clamp(max=self.longest - 1))
        parts = [self.obs(self.encoder(obs.flatten(0, 1)).unflatten(0, action.shape)), self.action(action)]
        if self.to_go is not None:
            parts.insert(0, self.to_go(to_go.float().unsqueeze(2) / self.scale))
        return torch.stack([part + when for part in parts], dim=2).flatten(1, 2)

    def forward(self, obs: Tensor, action: Tensor, to_go: Tensor, time: Tensor, mask: Tensor) -> Tensor:
        """The same and mask bool[B, K] (False: after the end) -> logits float32[B, K, A], seen no later action."""
        tokens = self.norm(self.tokens(obs, action, to_go, time))
        features = self.body(tokens, mask.repeat_interleave(self.tokens_a_step, dim=1))
        at_observations = features[:, self.tokens_a_step - 2 :: self.tokens_a_step]
        logits: Tensor = self.head(at_observations.float())
        return logits


class SequencePlayer:
    """Plays a sequence model, with the steps of every game so far; leaves the model untouched.

    Args:
        model: on its device.
        asked: return that is asked for at the start of each game.
        seed: of actions that are drawn; None: the most probable ones.
    """

    def __init__(self, model: DecisionTransformer, asked: float, seed: int | None):
        self.model, self.asked = model, asked
        self._rng = None if seed is None else np.random.default_rng(seed)
        self._steps: dict[str, np.ndarray] = {}  # obs, action, to_go, time [N, K, ...] of the last K steps
        self._count = np.zeros(0, np.int64)  # steps of each game that are among them
        self._left = np.zeros(0, np.float32)  # of the return that was asked for, in each game

    def act(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """obs[N, *shape], first bool[N], mask bool[N, A] or None -> int64[N]."""
        n, context = len(obs), self.model.context
        if len(self._count) != n:
            if len(self._count) and not first.all():
                raise RlabError(
                    f"this policy follows {len(self._count)} games, but {n} observations came; say with `first` that "
                    "all of them start"
                )
            self._count, self._left = np.zeros(n, np.int64), np.zeros(n, np.float32)
            self._steps = {
                "obs": np.zeros((n, context, *obs.shape[1:]), obs.dtype),
                "action": np.zeros((n, context), np.int64),
                "to_go": np.zeros((n, context), np.float32),
                "time": np.zeros((n, context), np.int64),
            }
        self._count[first] = 0
        rows, s = np.arange(n), self._steps
        started = self._count == 0
        self._left[started] = self.asked
        time = np.where(started, 0, s["time"][rows, self._count - 1] + 1)
        full = self._count == context
        for column in s.values():
            column[full, :-1] = column[full, 1:]
        at = self._count - full
        now = {"obs": obs, "to_go": self._left, "time": time, "action": 0}
        for name, value in now.items():
            s[name][rows, at] = value
        self._count = at + 1
        logits = self._logits(at)
        if mask is not None:
            logits = np.where(mask, logits, FORBIDDEN)
        if self._rng is not None:
            logits = logits - np.log(-np.log(self._rng.random(logits.shape, np.float32).clip(1e-30, 1 - 1e-7)))
        s["action"][rows, at] = logits.argmax(axis=1)
        return s["action"][rows, at]

    def hear(self, reward: np.ndarray) -> None:
        """Take what the last actions paid, float[N], off the returns that are asked for."""
        self._left -= reward

    def _logits(self, at: np.ndarray) -> np.ndarray:
        seen = int(self._count.max())
        device = next(self.model.parameters()).device
        given = {name: torch.from_numpy(column[:, :seen].copy()).to(device) for name, column in self._steps.items()}
        mask = torch.from_numpy(np.arange(seen) < self._count[:, None]).to(device)
        with torch.inference_mode():
            logits = self.model(**given, mask=mask)
        return logits[torch.arange(len(at)), torch.from_numpy(at).to(device)].cpu().numpy()


class ActionTask(SingleLossTask):
    """The task of a sequence model of trajectories: the action of every step of a piece."""

    primary = Metric("return of a game", of_examples=False)

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B, K, A] of a batch."""
        with self.autocast():
            logits: Tensor = self.model(**batch.tensors)
        return logits

    def loss(self, outputs: Tensor, batch: Batch) -> Losses:
        """Mean cross-entropy over the steps that are there, and how often the most probable action is the one."""
        mask, right = batch["mask"], batch["action"]
        logits, right = outputs[mask], right[mask]
        return {
            "loss": F.cross_entropy(logits, right),
            "accuracy": (logits.argmax(1) == right).float().mean(),
        }

    def denominator(self, batch: Batch) -> float:
        """Count the steps that are there."""
        return float(batch["mask"].sum())

    def memory(self, batch_size: int) -> int:
        """Bytes of the trajectories, and of the activations of a batch."""
        windows: Any = self.data.dataset  # type: ignore[attr-defined]
        model: DecisionTransformer = self.model
        tokens = batch_size * model.context * model.tokens_a_step
        width = model.head.in_features
        held = windows.trajectories.obs.nbytes + 32 * len(windows.trajectories.reward)
        return int(held + 4 * tokens * width * 20 * len(model.body.blocks))  # type: ignore[arg-type]


class SequencePolicyTrainer(Trainer):
    """The trainer of a policy from trajectories; it is scored by playing.

    Args:
        task: the policy's.
        experiment: settings.
        trajectories: what is learned from.
        device: torch device.
    """

    def __init__(self, task: ActionTask, experiment: SequencePolicyExperiment, trajectories: Trajectories, device: str):
        super().__init__(task, experiment.fit, experiment.run.seed, device)
        self.settings = experiment.model
        self.games: GamesConfig = experiment.env
        self.env = experiment.env.env
        returns = trajectories.returns
        self.asked = float(returns.max()) if self.settings.asked is None else self.settings.asked
        self.levels = sorted({float(np.quantile(returns, level)) for level in LEVELS})

    def policy(self, seed: int) -> SequencePlayer:
        """The policy, asked for the return that the settings name."""
        return self._player(self.asked, seed)

    def _player(self, asked: float, seed: int) -> SequencePlayer:
        self.task.modules.eval()
        model: Any = self.task.modules["model"]
        return SequencePlayer(model, asked, seed if self.settings.evaluate == "sample" else None)

    def evaluate(self, stop: Stop) -> Score:
        """Play whole games; at the end also with other returns asked for.

        Raises:
            Stopped: a stop was requested.
        """
        seed = derive(self.seed, "evaluation", self.done)
        if self.progress().finished:
            return self.evaluate_games(self.games.final_episodes, seed, stop)
        returns, lengths = self._play(self.asked, self.games.evaluate_episodes, seed, stop)
        return score(returns, lengths, self.env) | self._how(seed)

    def evaluate_games(self, episodes: int, seed: int, stop: Stop) -> dict[str, Any]:
        """Play `episodes` whole games and score them.

        Of a Decision Transformer as many with each of five returns asked for, from the worst to the best of the data:
        ``asked_returns`` and ``achieved_returns`` are those and the means of what was got, ``correlation`` is that of
        the two over all those games.

        Raises:
            RlabError: no episodes, or a negative seed.
            Stopped: a stop was requested.
        """
        refuse_no_games(episodes, seed)
        returns, lengths = self._play(self.asked, episodes, seed, stop)
        result = score(returns, lengths, self.env) | self._how(seed)
        if self.settings.method != "dt":
            return result
        achieved = [
            self._play(level, episodes, derive(seed, "asked", n), stop)[0] for n, level in enumerate(self.levels)
        ]
        result |= {"asked_returns": self.levels, "achieved_returns": [float(a.mean()) for a in achieved]}
        return result | {"correlation": _correlation(np.repeat(self.levels, episodes), np.concatenate(achieved))}

    def _how(self, seed: int) -> dict[str, Any]:
        asked = {"asked": self.asked} if self.settings.method == "dt" else {}
        own = to_plain({k: v for k, v in self.games.rules().items() if v is not None})
        return own | {"protocol": None, "epsilon": None, "seed": seed} | asked

    def _play(self, asked: float, episodes: int, seed: int, stop: Stop) -> tuple[np.ndarray, np.ndarray]:
        copies = min(episodes, COPIES)
        with closing(make_vec(self.env, copies, seed, **self.games.rules(), training=False)) as envs:
            return play(self._player(asked, derive(seed, "policy")), envs, episodes, seed, stop)


def _correlation(asked: np.ndarray, achieved: np.ndarray) -> float | None:
    """Pearson's correlation; None where one of the two never changes."""
    if asked.std() == 0 or achieved.std() == 0:
        return None
    return float(np.corrcoef(asked, achieved)[0, 1])


def note_trajectories(experiment: SequencePolicyExperiment) -> tuple[SequencePolicyExperiment, None]:
    """Note the digest of the trajectories that a new run learns from."""
    found = load_trajectories(experiment.data.trajectories)
    return replace(experiment, data=replace(experiment.data, digest=found.note["digest"])), None


def build_sequence_policy(experiment: SequencePolicyExperiment, context: Any) -> SequencePolicyTrainer:
    """Build the Learner of a policy from trajectories.

    Raises:
        RlabError: there are none, they are not those that the run began with, or of another environment.
    """
    found = load_trajectories(experiment.data.trajectories)
    note, env, how, name = found.note, experiment.env, experiment.model, experiment.data.trajectories
    if experiment.data.digest not in ("", note["digest"]):
        raise RlabError(
            f"the trajectories of '{name}' are not those that this run began with (their digest differs); put the old "
            "ones back, or start a new run"
        )
    if canonical_name(env.env) != canonical_name(note["env"]) or env.options != note["options"]:
        raise RlabError(
            f"--env is {_env_text(env.env, env.options)}, and the trajectories of '{name}' are of "
            f"{_env_text(note['env'], note['options'])}; nearest: --env {note['env']}"
        )
    with closing(make_vec(env.env, 1, 0, **env.rules(), training=False)) as envs:
        space, actions = envs.single_observation_space, envs.single_action_space
    assert isinstance(actions, Discrete)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(experiment.run.seed, "network"))
        scale = max(1.0, float(np.abs(found.returns).max()))
        model = DecisionTransformer(space, int(actions.n), how, scale, int(found.length.max()))
    fit = experiment.fit
    items = found.best(how.keep) if how.method == "filtered-bc" else None
    updates = -(-len(found.reward) // fit.batch_size)  # of an epoch, however many of the steps are learned from
    windows, seed = Windows(found, how.context, items), derive(experiment.run.seed, "data")
    batches = Batches(windows, fit.batch_size, seed, context.device, per_epoch=updates)
    groups = [group | {"lr": fit.learning_rate} for group in decayed(model, fit.weight_decay)]
    optimizer = make_optimiser(fit.optimiser, groups, lr=fit.learning_rate)
    bf16 = use_bf16(fit.precision, torch.device(context.device), is_image(space))
    task = ActionTask(model, batches, optimizer, device=context.device, bf16=bf16, max_grad_norm=fit.max_grad_norm)
    return SequencePolicyTrainer(task, experiment, found, context.device)


def _env_text(env: str, options: dict[str, Any]) -> str:
    return " ".join([env, *(f"--{name.replace('_', '-')} {value}" for name, value in options.items())])
