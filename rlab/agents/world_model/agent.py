"""The agent of `rlab train world-model`: it records real steps, learns a model of them, and its policy in dreams.

The policy sees the present code and what the model remembers (Ha & Schmidhuber 2018, section 2). No gradient goes from
it into the model, and no reward of the real game reaches it but through the model.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.agents.graph import LOGITS, policy_graph
from rlab.agents.types import AgentContext, Needs, Step
from rlab.agents.value.returns import gae
from rlab.agents.world_model.config import WorldModelConfig
from rlab.agents.world_model.model import WorldModel
from rlab.errors import RlabError
from rlab.nn.graph import Graph
from rlab.nn.heads.policy import Categorical, CategoricalHead, ValueHead
from rlab.nn.optim import make_optimiser, restore, state_of
from rlab.run.contract import NonFinite, Stop
from rlab.seeding import derive
from rlab.tasks.transfer import counts, trainable

COLUMNS = ("obs", "next_obs", "action", "reward", "over", "last")
"""What is recorded of a step; `over` is an end of the game, `last` also a truncation."""


class Controller(nn.Module):
    """Codes and memories -> policy and value."""

    def __init__(self, features: int, units: int, actions: int):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(features, units), nn.ReLU())
        self.head = CategoricalHead(units, actions)
        self.value_head = ValueHead(units)

    def forward(self, code: Tensor, state: Tensor) -> tuple[Categorical, Tensor]:
        """code[B, D], state[B, S] -> policy over [B, A], value [B]."""
        features = self.body(torch.cat([code, state], 1))
        return self.head(features), self.value_head(features)


class WorldModelPlayer:
    """Plays the policy in the real game, with a memory and random numbers of its own."""

    def __init__(self, agent: WorldModelAgent, seed: int | None):
        self._agent, self._rng = agent, None if seed is None else np.random.default_rng(seed)
        self.state = np.zeros((0, 0), np.float32)

    def act(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """obs[N, *shape], first bool[N] -> int64[N]."""
        action, self.state = self._agent.choose(obs, first, self.state, self._rng)
        return action


class WorldModelAgent:
    """Records steps; every `rollout` of them, updates the model on them and the policy in dreams.

    Args:
        config: hyperparameters.
        context: what it is built for; actions are Discrete.

    Raises:
        RlabError: other actions, actions that are sometimes forbidden, or large observations.
    """

    on_policy = True
    epsilon = None

    def __init__(self, config: WorldModelConfig, context: AgentContext):
        self.config, self.context = config, context
        c, self.actions, space = config, context.num_actions, context.observation_space
        shape, dtype = context.observations("world-model")
        if context.has_masks:
            raise RlabError("world-model knows no masks of actions, and this environment has some; nearest: dqn")
        self.seed, self.device = context.seed, torch.device(context.device)
        with torch.random.fork_rng(devices=[]):  # initialised on the CPU, alike on every device
            torch.manual_seed(derive(self.seed, "network"))
            model = WorldModel(space, self.actions, c.width, c.hidden, c.mixtures)
            controller = Controller(model.size + model.state_dim, c.units, self.actions)
        if c.untrained_memory:
            model.memory.requires_grad_(False)
        self.network = nn.ModuleDict({"model": model, "controller": controller}).to(self.device)
        self.model, self.controller = model, controller
        self.model_optimizer = make_optimiser("adam", trainable(model), lr=c.model_rate)
        self.optimizer = make_optimiser("adam", trainable(controller), lr=c.learning_rate)
        self.rng = np.random.default_rng(derive(self.seed, "agent"))
        self.steps = self.updates = 0
        each = c.memory_size // c.num_envs  # of every environment
        self.rows: dict[str, np.ndarray] = {
            "obs": np.zeros((each, c.num_envs, *shape), dtype),
            "next_obs": np.zeros((each, c.num_envs, *shape), dtype),
            "action": np.zeros((each, c.num_envs), np.int64),
            "reward": np.zeros((each, c.num_envs), np.float32),
            "over": np.zeros((each, c.num_envs), np.float32),
            "last": np.zeros((each, c.num_envs), bool),
        }
        self._state = np.zeros((0, 0), np.float32)  # remembered in each environment

    @property
    def encoders(self) -> list[nn.Module]:
        """It takes none of other runs."""
        return []

    @property
    def ticks(self) -> int:
        """Steps of each environment so far."""
        return self.steps // self.config.num_envs

    def choose(
        self, obs: np.ndarray, first: np.ndarray, state: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw actions (take the most probable ones without `rng`) at obs[N, *shape]: int64[N], state[N, S] after."""
        if len(state) != len(obs):
            state = np.zeros((len(obs), self.model.state_dim), np.float32)
        state = np.where(first[:, None], np.float32(0), state)
        with torch.inference_mode():
            code, before = self.model.code(self._tensor(obs)), self._tensor(state)
            policy, _ = self.controller(code, before)
            if rng is None:
                action = policy.mode()
            else:
                action = policy.sample(self._tensor(rng.random(policy.log_p.shape, np.float32)))
            _, after = self.model.step(self.model.joined(code, action), before)
        return action.cpu().numpy(), after.cpu().numpy()

    def graph(self, observations: gym.Space[Any]) -> Graph:
        """Return the policy with what it remembers, of the most probable action; see `ExportsPolicy`."""

        def call(network: Any, obs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            model = network["model"]
            code = model.code(obs)
            policy, _ = network["controller"](code, state)
            return policy.log_p, model.step(model.joined(code, policy.mode()), state)[1]

        return policy_graph(self.network, observations, call, LOGITS, self.model.state_dim)

    def act(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """Explore: obs[N, *shape], first bool[N] -> int64[N]."""
        if self.steps < self.config.random_steps:
            return self.rng.integers(self.actions, size=len(obs))
        action, self._state = self.choose(obs, first, self._state, self.rng)
        return action

    def learn(self, step: Step) -> dict[str, float] | None:
        """Record a step of all environments; learn if it is time."""
        c, at = self.config, self.ticks % len(self.rows["last"])
        row = (step.obs, step.next_obs, step.action, step.reward, 1 - step.discount, step.last)
        for name, value in zip(COLUMNS, row, strict=True):
            self.rows[name][at] = value
        self.steps += c.num_envs
        begun = self.steps >= c.random_steps and self.ticks >= c.sequence
        if not begun or self.ticks % c.rollout:
            return None
        if not self.updates:
            filled = self.rows["obs"][: self.ticks]
            self.model.standardise(filled.reshape(-1, *filled.shape[2:]))
        self.updates += 1
        metrics: dict[str, float] = {}
        for _ in range(c.model_updates):
            metrics = self._learn_model(self._sequences(c.batch_size))
        for number in range(c.dream_updates):
            metrics |= self._learn_policy(number)
        return metrics

    def _sequences(self, n: int) -> dict[str, Tensor]:
        """n recorded sequences [n, T, ...]; with `first`, where an episode (or the sequence) starts."""
        each, t = len(self.rows["last"]), self.config.sequence
        filled = min(self.ticks, each)
        oldest = self.ticks % each if self.ticks > each else 0
        start = self.rng.integers(filled - t + 1, size=n)[:, None] + np.arange(t)
        place, stream = (oldest + start) % each, self.rng.integers(self.config.num_envs, size=n)[:, None]
        taken = {name: self._tensor(column[place, stream]) for name, column in self.rows.items()}
        first = torch.ones_like(taken["last"])
        first[:, 1:] = taken["last"][:, :-1]
        return taken | {"first": first}

    def _learn_model(self, rows: dict[str, Tensor]) -> dict[str, float]:
        """One gradient step of the model: nats of the next code, squared error of the reward, nats of the end."""
        model = self.model
        code, following = model.code(rows["obs"]), model.code(rows["next_obs"])
        given = model.joined(code, rows["action"])
        memory, _ = model.unroll(given, torch.zeros(len(code), model.state_dim, device=self.device), rows["first"])
        reward, over = model.judge(memory, given, following)
        parts = {
            "code_loss": model.surprise(model.predict(memory, given), following, code).mean(),
            "reward_loss": (reward - rows["reward"]).square().mean(),
            "over_loss": F.binary_cross_entropy_with_logits(over, rows["over"]),
        }
        loss = torch.stack(list(parts.values())).sum()
        self._descend(loss, self.model_optimizer, trainable(model), "loss of the model")
        return {"loss": loss.item()} | {name: part.item() for name, part in parts.items()}

    def dream(self, number: int) -> tuple[list[tuple[Categorical, Tensor, Tensor]], list[Tensor], list[Tensor], Tensor]:
        """Dream from the ends of recorded sequences: policy, value and action of each step; reward; end; last value."""
        c, model = self.config, self.model
        draws = torch.Generator().manual_seed(derive(self.seed, "dream", self.updates, number))
        rows = self._sequences(c.dreams)
        with torch.no_grad():
            code = model.code(rows["obs"])
            given = model.joined(code, rows["action"])
            start = torch.zeros(c.dreams, model.state_dim, device=self.device)
            _, state = model.unroll(given[:, :-1], start, rows["first"][:, :-1])
            state, code = state * ~rows["first"][:, -1:], code[:, -1]
        steps, rewards, ends = [], [], []
        for _ in range(c.horizon):
            policy, value = self.controller(code, state)
            with torch.no_grad():
                action = policy.sample(torch.rand(policy.log_p.shape, generator=draws).to(self.device))
                given = model.joined(code, action)
                memory, state = model.step(given, state)
                code = model.draw(model.predict(memory, given), code, c.dream_temperature, draws)
                reward, over = model.judge(memory, given, code)
                end = torch.rand(over.shape, generator=draws).to(self.device) < over.sigmoid()
            steps.append((policy, value, action))
            rewards.append(reward)
            ends.append(end)
        with torch.no_grad():
            _, last = self.controller(code, state)
        return steps, rewards, ends, last

    def _learn_policy(self, number: int) -> dict[str, float]:
        """One gradient step of policy and value on dreams: advantage actor-critic, up to each dream's end."""
        c = self.config
        steps, rewards, ends, final = self.dream(number)
        reward, end = torch.stack(rewards), torch.stack(ends)
        value = torch.stack([v for _, v, _ in steps])
        with torch.no_grad():
            following = torch.cat([value[1:], final[None]])
            advantage = gae(reward, c.gamma * (~end).float(), end, value, following, c.gae_lambda)
            goes_on = torch.cat([torch.ones_like(reward[:1]), (~end[:-1]).float().cumprod(0)])
            share = goes_on / goes_on.sum()
            spread = ((advantage - (share * advantage).sum()).square() * share).sum().sqrt()
            scaled = (advantage - (share * advantage).sum()) / (spread + 1e-3)
        log_p = torch.stack([policy.log_prob(action) for policy, _, action in steps])
        entropy = (share * torch.stack([policy.entropy() for policy, _, _ in steps])).sum()
        error = (share * (value - advantage - value.detach()).square()).sum()
        loss = -(share * log_p * scaled).sum() - c.entropy_coef * entropy + 0.5 * error
        self._descend(loss, self.optimizer, trainable(self.controller), "loss of the policy")
        dreamt = (goes_on * reward).sum(0).mean()
        numbers = {
            "entropy": entropy,
            "value_loss": error,
            "dream_return": dreamt,
            "dream_length": goes_on.sum(0).mean(),
        }
        return {name: tensor.item() for name, tensor in numbers.items()}

    def _descend(self, loss: Tensor, optimizer: torch.optim.Optimizer, weights: list[nn.Parameter], what: str) -> None:
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(weights, self.config.max_grad_norm)
        if not bool(norm.isfinite() & loss.isfinite()):
            raise NonFinite(what, loss.item(), f"step {self.steps:,}")
        optimizer.step()

    def policy(self, seed: int) -> WorldModelPlayer:
        """What evaluations play."""
        return WorldModelPlayer(self, seed if self.config.evaluate == "sample" else None)

    def needs(self) -> Needs:
        """Recorded steps, networks, optimisers, and the activations of a batch (estimated)."""
        c = self.config
        weights = sum(p.numel() * p.element_size() for p in self.network.parameters())
        rows = sum(column.nbytes for column in self.rows.values())
        working = 4 * weights + 40 * c.batch_size * c.sequence * (self.model.size + c.hidden)
        split = (rows + working, 0) if self.device.type == "cpu" else (rows, working)
        return Needs(*split, 3 * weights + rows, 0, *counts(self.network))

    def state(self) -> dict[str, Any]:
        """Everything that decides what the agent does next, the recorded steps included."""
        filled = min(self.ticks, len(self.rows["last"]))
        return {
            "network": self.network.state_dict(),
            "model_optimizer": state_of(self.model_optimizer),
            "optimizer": state_of(self.optimizer),
            "rng": self.rng.bit_generator.state,
            "steps": self.steps,
            "updates": self.updates,
            "remembered": self._state,
            "rows": {name: column[:filled].copy() for name, column in self.rows.items()},
        }

    def restore(self, state: dict[str, Any], stop: Stop) -> None:
        """Become the agent that `state` describes."""
        self.restore_policy(state)
        restore(self.model_optimizer, state["model_optimizer"])
        restore(self.optimizer, state["optimizer"])
        self.rng.bit_generator.state = state["rng"]
        self.steps, self.updates, self._state = state["steps"], state["updates"], state["remembered"]
        for name, column in state["rows"].items():
            self.rows[name][: len(column)] = column

    def restore_policy(self, state: dict[str, Any]) -> None:
        """Take over only what playing needs."""
        self.network.load_state_dict(state["network"])

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
