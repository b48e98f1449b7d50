"""Algorithms of stable-baselines3 as Learners: they collect and learn by their own code, in slices, in our run.

Theirs are the algorithm, its buffers and its optimisers. Ours are the environments (their restarts, logged actions
and hashes, as in `agents.interaction`), the encoders, evaluations with whole games and raw scores, metrics,
checkpoints without pickle, and the random numbers, which stable-baselines3 takes from the global generators: they are
put there for each slice and taken back after it.
"""

from __future__ import annotations

import io
import random
import warnings
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import VectorEnv
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecEnv as PeerVecEnv
from torch import Tensor, nn

from agents.exploration import epsilon_greedy
from agents.interaction import Interaction
from agents.sb3_config import DDPGConfig, DQNConfig, OffPolicyConfig, OnPolicyConfig, PPOConfig, Sb3Config, TD3Config
from agents.transfer import counts
from agents.types import Needs
from rlab.errors import RlabError
from rlab.nn import make_encoder
from rlab.run.journal import Journal
from rlab.run.learner import Metrics, NonFinite, State, Stop, Stopped
from rlab.seeding import derive

ALGORITHMS: dict[str, Any] = {"ppo": PPO, "sb3-a2c": A2C, "sb3-dqn": DQN, "sac": SAC, "td3": TD3, "ddpg": DDPG}
"""Recipe -> the algorithm's class."""

SLICE = 16
"""Vector steps collected in one unit of work of an on-policy algorithm, and updates in one of the others, at most."""

ZIP_BYTES = 4 << 30
"""The largest weights that are read out of a .zip."""

REPLAY = "replay"


class Features(BaseFeaturesExtractor):
    """One of the lab's encoders under a policy of stable-baselines3.

    Args:
        observation_space: of one observation.
        encoder: a registered name, or auto.
    """

    def __init__(self, observation_space: gym.Space[Any], encoder: str):
        flat = not isinstance(observation_space, Box)  # the library makes classes one-hot before this
        shape = (get_flattened_obs_dim(observation_space),) if flat else observation_space.shape
        assert shape is not None
        network = make_encoder(encoder, shape)
        super().__init__(observation_space, int(network.out_dim))  # type: ignore[arg-type]
        self.encoder = network
        # Scaled here and only here: the policies are made with normalize_images=False.
        self.scale = 1 / 255 if observation_space.dtype == np.uint8 and not flat else 1.0

    def forward(self, obs: Tensor) -> Tensor:
        """obs float32[B, *shape] -> [B, D]."""
        return self.encoder(obs if self.scale == 1.0 else obs * self.scale)


class SlicedRollout(RolloutBuffer):
    """A rollout that is filled over several collections and read over several trainings.

    Attributes:
        batches: minibatches that one training reads, at most to the end of an epoch.
        epochs: whole passes that have been read.
    """

    batches = 1
    epochs = 0
    _at = 0
    _order = np.empty(0, np.int64)

    def reset(self) -> None:
        """Start a new rollout, unless this one is not full yet."""
        if self.full or not self.pos:
            super().reset()
            self.epochs = self._at = 0

    def compute_returns_and_advantage(self, last_values: Tensor, dones: np.ndarray) -> None:
        """As the library's, once the rollout is full."""
        if self.full:
            super().compute_returns_and_advantage(last_values, dones)

    def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:
        """Yield the next minibatches of this epoch, in a random order as the library's."""
        rows = self.buffer_size * self.n_envs
        if not self.generator_ready:
            for name in ("observations", "actions", "values", "log_probs", "advantages", "returns"):
                setattr(self, name, self.swap_and_flatten(getattr(self, name)))
            self.generator_ready = True
        if self._at == 0:
            self._order = np.random.permutation(rows)  # noqa: NPY002 - as the library's own
        size = batch_size or rows
        for _ in range(self.batches):
            yield self._get_samples(self._order[self._at : self._at + size])
            self._at += size
            if self._at >= rows:
                self._at = 0
                self.epochs += 1
                return

    def state(self) -> dict[str, Any]:
        """What has been collected so far, and how far it has been read."""
        numbers = {name: getattr(self, name) for name in ("pos", "full", "generator_ready", "epochs", "_at")}
        filled = slice(None) if self.full else slice(self.pos)
        arrays = {name: getattr(self, name)[filled].copy() for name in self._arrays()}
        return {"numbers": numbers, "arrays": arrays, "order": self._order}

    def restore(self, state: dict[str, Any]) -> None:
        """Undo `state`."""
        self.full = True
        self.reset()
        for name, value in state["arrays"].items():
            if state["numbers"]["full"]:
                setattr(self, name, value)
            else:
                getattr(self, name)[: len(value)] = value
        for name, value in state["numbers"].items():
            setattr(self, name, value)
        self._order = state["order"]

    def _arrays(self) -> list[str]:
        names = ["observations", "actions", "rewards", "returns", "episode_starts", "values", "log_probs", "advantages"]
        return [name for name in names if self.full or name not in ("returns", "advantages")]


class LoggedReplay(ReplayBuffer):
    """A replay whose rows also stream into the run's journal, so that a checkpoint only points at them.

    A row's place in the ring is its number modulo the capacity. The observation that followed is the next row's,
    but where an episode ended; only there is it logged.
    """

    journal: Journal | None = None

    def add(self, *args: Any, **kwargs: Any) -> None:
        """As the library's, and into the journal."""
        at = self.pos
        super().add(*args, **kwargs)
        if self.journal is not None:
            row = {name: getattr(self, name)[at][None] for name in self._columns()}
            row["final"] = np.where(self._over(at), self.next_observations[at], 0)[None].astype(self.observations.dtype)
            self.journal.append(REPLAY, row)

    def state(self) -> Any:
        """A pointer at the newest rows."""
        assert self.journal is not None
        return self.journal.log(REPLAY, max(0, self.journal.end(REPLAY) - self.buffer_size))

    def restore(self, log: Any, obs: np.ndarray, stop: Stop) -> None:
        """Put every row back where it was.

        Args:
            log: what `state` returned.
            obs: [N, *shape], what the environments show now.
            stop: polled.

        Raises:
            Stopped: a stop was requested.
        """
        number = log.start
        for rows in log.rows():
            for i in range(len(rows["rewards"])):
                at = number % self.buffer_size
                for name in self._columns():
                    getattr(self, name)[at] = rows[name][i]
                self.next_observations[at] = rows["final"][i]
                number += 1
            if stop.requested:
                raise Stopped
        self.pos, self.full = log.end % self.buffer_size, log.end >= self.buffer_size
        for number in range(log.start, log.end):
            at, then = number % self.buffer_size, (number + 1) % self.buffer_size
            shown = self.observations[then] if number + 1 < log.end else obs.reshape(self.observations[at].shape)
            self.next_observations[at] = np.where(self._over(at), self.next_observations[at], shown)

    def _columns(self) -> tuple[str, ...]:
        return ("observations", "actions", "rewards", "dones", "timeouts")

    def _over(self, at: int) -> np.ndarray:
        """bool[N, 1...], where the episode ended with this row."""
        return (self.dones[at] > 0).reshape(self.n_envs, *(1,) * (self.observations.ndim - 2))


class BridgeEnv(PeerVecEnv):
    """Our vector environment as stable-baselines3 sees one. Its steps are accounted for by the learner.

    A lost life that ends a return (Atari, classic) is a `done` after which the game goes on, as behind the library's
    own wrapper.
    """

    def __init__(self, learner: Sb3Learner):
        envs = learner.envs
        self._learner = learner
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> np.ndarray:
        """New episodes in all environments: obs[N, *shape]."""
        self._learner._restart()
        return self._learner._obs

    def step_async(self, actions: np.ndarray) -> None:
        """Hand over actions [N] or [N, *shape]; rounding may have left the bounds."""
        space = self.action_space
        if isinstance(space, Box):
            actions = np.clip(actions.astype(space.dtype), space.low, space.high)
        self._learner.envs.send(actions)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """(obs, reward, done, infos) as the library wants them; infos hold what ended episodes led to."""
        learner = self._learner
        step = learner._receive()
        learner._log(step.action)
        learner.done_ticks += 1
        over = step.last | (step.discount == 0)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.nonzero(over)[0]:
            truncated = bool(step.discount[i] != 0)
            infos[i] = {"terminal_observation": step.next_obs[i], "TimeLimit.truncated": truncated}
        if learner._since_reset == learner.period:
            learner._restart()
        return learner._obs, step.reward.copy(), over, infos  # a copy: the library adds to rewards

    def close(self) -> None:
        """The learner closes the environments."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The same for every environment; only render_mode is asked for."""
        if attr_name != "render_mode":
            raise AttributeError(attr_name)
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not supported."""
        raise NotImplementedError

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Not supported."""
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Not at all."""
        return [False] * self.num_envs


class Quiet(BaseCallback):
    """The callback that the library insists on."""

    def _on_step(self) -> bool:
        return True


class OwnRandomness:
    """Generator states that stand in the global generators only inside ``with own.in_place():``."""

    def __init__(self, seed: int, device: torch.device):
        self._device = device
        with _outer_kept(device):
            np.random.seed(seed)  # noqa: NPY002 - the library draws from this generator
            torch.manual_seed(seed)
            self._take()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the states into the global generators, and take them back at the end."""
        with _outer_kept(self._device):
            np.random.set_state(self._numpy)  # noqa: NPY002
            torch.set_rng_state(self._torch)
            if self._device.type == "cuda":
                torch.cuda.set_rng_state(self._cuda, self._device)
            try:
                yield
            finally:
                self._take()

    def _take(self) -> None:
        self._numpy: Any = np.random.get_state()  # noqa: NPY002
        self._torch = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else torch.empty(0)

    def state(self) -> dict[str, Any]:
        """As JSON and tensors."""
        _, key, pos, has_gauss, cached = self._numpy
        numpy = {"key": key.astype(np.int64), "pos": pos, "has_gauss": has_gauss, "cached": cached}
        return {"numpy": numpy, "torch": self._torch, "cuda": self._cuda}

    def restore(self, state: dict[str, Any]) -> None:
        """Undo `state`."""
        n = state["numpy"]
        self._numpy = ("MT19937", n["key"].astype(np.uint32), n["pos"], n["has_gauss"], n["cached"])
        self._torch = state["torch"]
        if len(state["cuda"]) and len(self._cuda):  # on another device the old stream means nothing
            self._cuda = state["cuda"]


@contextmanager
def _outer_kept(device: torch.device) -> Iterator[None]:
    outer, python = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        np.random.set_state(outer)  # noqa: NPY002
        random.setstate(python)


class Sb3Player:
    """Plays a policy with random numbers of its own; leaves the algorithm untouched."""

    def __init__(self, agent: Sb3Agent, seed: int):
        self._agent = agent
        self._rng = np.random.default_rng(seed)
        self._own = OwnRandomness(seed, agent.model.device)
        config = agent.config
        self.epsilon = config.evaluate_epsilon if isinstance(config, DQNConfig) else None
        self._greedy = not (isinstance(config, OnPolicyConfig) and config.evaluate == "sample")

    def act(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """obs[N, *shape], first bool[N], mask None -> int64[N], or floats within the Box."""
        model = self._agent.model
        with self._own.in_place():
            actions, _ = model.policy.predict(obs, deterministic=self._greedy)
        if self.epsilon is not None:
            return epsilon_greedy(actions, self.epsilon, None, int(model.action_space.n), self._rng)
        space = model.action_space
        return np.clip(actions.astype(space.dtype), space.low, space.high) if isinstance(space, Box) else actions


class Sb3Agent:
    """An algorithm of stable-baselines3 and what a checkpoint keeps of it.

    Args:
        config: hyperparameters.
        model: the algorithm.
        own: the random numbers it draws from.
    """

    def __init__(self, config: Sb3Config, model: BaseAlgorithm, own: OwnRandomness):
        self.config = config
        self.model: Any = model
        self.own = own
        self._replay: Any = None  # rows that wait for the environments to be back

    @property
    def epsilon(self) -> float | None:
        """The present probability of a random action, of DQN."""
        return self.model.exploration_rate if isinstance(self.model, DQN) else None

    @property
    def rollout(self) -> SlicedRollout | None:
        """The rollout of an on-policy algorithm."""
        return getattr(self.model, "rollout_buffer", None)

    @property
    def replay(self) -> LoggedReplay | None:
        """The replay of the others."""
        return getattr(self.model, "replay_buffer", None)

    def policy(self, seed: int) -> Sb3Player:
        """What evaluations play: random numbers of its own, the algorithm untouched."""
        return Sb3Player(self, seed)

    def needs(self) -> Needs:
        """Buffers, networks, optimisers, and the activations of a batch (estimated)."""
        weights = sum(p.numel() * p.element_size() for p in self.model.policy.parameters())
        buffer = self.rollout if self.replay is None else self.replay
        assert buffer is not None
        arrays = [v for v in vars(buffer).values() if isinstance(v, np.ndarray)]
        held = sum(a.nbytes for a in arrays)
        obs_bytes = int(np.prod(buffer.observations.shape[2:])) * buffer.observations.itemsize
        batch = getattr(self.config, "batch_size", buffer.buffer_size * buffer.n_envs)
        working = 4 * weights + batch * 40 * max(obs_bytes, 1_000)
        checkpoint = 4 * weights + (held if self.replay is None else 0)
        rows = 0 if self.replay is None else buffer.buffer_size
        if self.model.device.type == "cpu":
            return Needs(held + working, 0, checkpoint, rows, *counts(self.model.policy))
        return Needs(held, working, checkpoint, rows, *counts(self.model.policy))

    @property
    def encoders(self) -> list[nn.Module]:
        """Where the weights of another run's encoder go: under every head, those of target networks included."""
        return [m.encoder for m in self.model.policy.modules() if isinstance(m, Features)]

    def state(self) -> dict[str, Any]:
        """Everything that decides what the algorithm does next."""
        model = self.model
        names, variables = model._get_torch_save_params()
        parts = {name: attrgetter(name)(model) for name in names}
        optimisers = {n: p.state_dict()["state"] for n, p in parts.items() if isinstance(p, torch.optim.Optimizer)}
        starts = model._last_episode_starts
        return {
            "policy": model.policy.state_dict(),
            "optimisers": {n: {str(i): dict(s) for i, s in each.items()} for n, each in optimisers.items()},
            "variables": {name: attrgetter(name)(model).detach().clone() for name in variables},
            "counters": {name: getattr(model, name) for name in self._counters()},
            "random": self.own.state(),
            "actions": model.action_space.np_random.bit_generator.state,
            "starts": None if starts is None else np.asarray(starts),
            "rollout": None if self.rollout is None else self.rollout.state(),
            "replay": None if self.replay is None else self.replay.state(),
        }

    def restore(self, state: dict[str, Any], stop: Stop) -> None:
        """Become the algorithm that `state` describes; `finish` follows once the environments are back."""
        model = self.model
        self.restore_policy(state)
        for name, each in state["optimisers"].items():
            optimiser = attrgetter(name)(model)
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": {int(i): s for i, s in each.items()}, "param_groups": groups})
        for name, value in state["variables"].items():
            attrgetter(name)(model).data.copy_(value)
        for name, value in state["counters"].items():
            setattr(model, name, value)
        self.own.restore(state["random"])
        model.action_space.np_random.bit_generator.state = state["actions"]
        model._last_episode_starts = None if state["starts"] is None else state["starts"].astype(bool)
        if self.rollout is not None:
            self.rollout.restore(state["rollout"])
        self._replay = state["replay"]

    def finish(self, obs: np.ndarray, stop: Stop) -> None:
        """The rest of `restore`: obs[N, *shape] is what the environments show."""
        self.model._last_obs = obs
        if self.replay is not None:
            self.replay.restore(self._replay, obs, stop)
            self._replay = None

    def restore_policy(self, state: dict[str, Any]) -> None:
        """Take over only what playing needs."""
        self.model.policy.load_state_dict(state["policy"])

    def take_metrics(self) -> dict[str, float]:
        """What the library has logged since the last call, by names like the lab's; empties its log."""
        values = self.model.logger.name_to_value
        metrics = {name.removeprefix("train/"): float(v) for name, v in values.items() if name.startswith("train/")}
        values.clear()
        for unneeded in ("n_updates", "learning_rate", "clip_range"):
            metrics.pop(unneeded, None)
        if not np.isfinite(metrics.get("explained_variance", 0.0)):
            del metrics["explained_variance"]  # of constant returns there is none
        if "critic_loss" in metrics:
            metrics["loss"] = metrics.pop("critic_loss")
        elif "policy_loss" in metrics:
            c = cast(OnPolicyConfig, self.config)
            parts = (1.0, "policy_loss"), (c.entropy_coef, "entropy_loss"), (c.value_coef, "value_loss")
            metrics["loss"] = sum(weight * metrics[name] for weight, name in parts)
        return metrics

    def _counters(self) -> list[str]:
        names = ["num_timesteps", "_n_updates", "_n_calls", "_episode_num", "exploration_rate"]
        names.append("_current_progress_remaining")
        return [name for name in names if hasattr(self.model, name)]


class Sb3Learner(Interaction):
    """An algorithm of stable-baselines3 in our environments; its own code collects and learns, one slice a step.

    Args:
        recipe: the recipe's name.
        config: hyperparameters.
        envs: what `envs.make_vec` returns, in training mode; closed by `close`.
        env: the environment's name.
        device: torch device.
        others: as `Interaction` takes them.

    Raises:
        RlabError: the algorithm cannot play this environment, or the weights do not fit.
    """

    def __init__(self, recipe: str, config: Any, envs: VectorEnv, env: str, *, device: str, **others: Any):
        # It acts and learns by itself, so the agent's part in `Interaction._tick` is never called.
        super().__init__(cast(Any, None), envs, env, ticks=1, **others)
        _refuse_unfit(recipe, envs, env)
        bridge = BridgeEnv(self)
        own = OwnRandomness(derive(self.seed, "sb3"), torch.device(device))
        with own.in_place(), warnings.catch_warnings():
            # Where it runs is the user's choice here; the library would warn of GPUs.
            warnings.filterwarnings("ignore", "You are trying to run", UserWarning)
            arguments = _arguments(config, bridge, self.total_steps) | {"device": device}
            model = ALGORITHMS[recipe](_policy(config, bridge), bridge, **arguments)
            model.action_space.seed(derive(self.seed, "actions"))
            model.set_logger(Logger(None, []))
        self.sb3 = Sb3Agent(config, model, own)
        self.agent = cast(Any, self.sb3)
        if self.sb3.replay is not None:
            self.sb3.replay.journal = self.journal
        if self.sb3.rollout is not None and len(envs.single_observation_space.shape or ()) < 3:
            self.sb3.rollout.batches = 1 << 30  # a whole epoch is short; of images it is not
        if config.weights:
            load_weights(model, import_zip(Path(config.weights)), config.weights)
        self._callback = Quiet()
        self._ready = False

    def step(self) -> Metrics:
        """Collect a slice, or learn from what was collected."""
        if not self._ready:
            self._begin()
        self.sb3.model._update_current_progress_remaining(self.done, self.total_steps)
        try:
            with self.sb3.own.in_place():
                if self.sb3.rollout is not None:
                    self._on_policy(self.sb3.rollout)
                else:
                    self._off_policy()
        except ValueError:  # how the library's distributions answer to NaN
            if all(bool(p.isfinite().all()) for p in self.sb3.model.policy.parameters()):
                raise
            raise NonFinite("loss", float("nan"), f"step {self.done:,}") from None
        return self.sb3.take_metrics() | self._gauges()

    def restore(self, state: State, stop: Stop) -> None:
        """As `Interaction.restore`, and the rows of the replay."""
        super().restore(state, stop)
        if self.done_ticks:
            self.sb3.finish(self._obs, stop)
            self._begin()

    def _begin(self) -> None:
        """Tell the algorithm that it is to learn; resets the environments unless they were restored."""
        model = self.sb3.model
        with self.sb3.own.in_place():
            model._setup_learn(self.total_steps, self._callback, reset_num_timesteps=model._last_obs is None)
        model._total_timesteps, model._num_timesteps_at_start = self.total_steps, 0
        self._ready = True

    def _on_policy(self, rollout: SlicedRollout) -> None:
        model = self.sb3.model
        if not rollout.full:
            left = -(-(self.total_steps - self.done) // self.envs.num_envs)
            steps = min(SLICE, rollout.buffer_size - rollout.pos, left)
            model.collect_rollouts(model.env, self._callback, rollout, n_rollout_steps=steps)
            if not (rollout.full and self.done >= self.total_steps):
                return  # the end of the budget must not cut off the last update
        epochs = self.sb3.config.n_epochs if isinstance(self.sb3.config, PPOConfig) else 1
        while rollout.full:
            model.train()
            if rollout.epochs == epochs:
                rollout.reset()
            if self.done < self.total_steps:
                return

    def _off_policy(self) -> None:
        model, c = self.sb3.model, cast(OffPolicyConfig, self.sb3.config)
        every = c.train_every // c.num_envs
        for _ in range(max(1, SLICE // max(c.gradient_steps, every))):
            left = -(-(self.total_steps - self.done) // c.num_envs)
            freq = TrainFreq(min(every, left), TrainFrequencyUnit.STEP)
            model.collect_rollouts(
                model.env,
                self._callback,
                freq,
                model.replay_buffer,
                action_noise=model.action_noise,
                learning_starts=c.learning_starts,
            )
            if model.num_timesteps > c.learning_starts:
                model.train(gradient_steps=c.gradient_steps, batch_size=c.batch_size)
            if self.done >= self.total_steps:
                return


def _refuse_unfit(recipe: str, envs: Any, env: str) -> None:
    space = envs.single_action_space
    if ALGORITHMS[recipe] in (SAC, TD3, DDPG):
        if not isinstance(space, Box):
            raise RlabError(f"{recipe} takes Box actions, but '{env}' has {space}; nearest: ppo, sb3-dqn, a2c")
    elif ALGORITHMS[recipe] is DQN:
        _ = envs.num_actions  # refuses with a sentence
    if isinstance(space, Box) and not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise RlabError(f"{recipe} needs finite bounds of actions, but '{env}' has {space}; nearest: a2c")
    _, info = envs.reset()
    if "action_mask" in info:
        raise RlabError(f"{recipe} of stable-baselines3 knows no action masks, which '{env}' needs; nearest: a2c, dqn")


def _policy(config: Sb3Config, bridge: BridgeEnv) -> str:
    return "CnnPolicy" if len(bridge.observation_space.shape or ()) == 3 else "MlpPolicy"


def _arguments(config: Sb3Config, bridge: BridgeEnv, total: int) -> dict[str, Any]:
    """The constructor's arguments: every field of the configuration is read here or in `Sb3Learner`."""
    c: Any = config
    networks: dict[str, Any] = {}
    if c.encoder != "sb3":
        networks = {
            "features_extractor_class": Features,
            "features_extractor_kwargs": {"encoder": c.encoder},
            "normalize_images": False,
            "net_arch": list(c.hidden),
        }
    elif c.hidden:
        networks = {"net_arch": list(c.hidden)}
    arguments: dict[str, Any] = {
        "policy_kwargs": networks,
        "gamma": c.gamma,
        "learning_rate": _schedule(c.learning_rate, c.final_learning_rate),
    }
    if isinstance(c, OnPolicyConfig):
        networks["share_features_extractor"] = c.share_encoder
        arguments |= {
            "n_steps": c.n_steps,
            "gae_lambda": c.gae_lambda,
            "normalize_advantage": c.normalise_advantages,
            "ent_coef": c.entropy_coef,
            "vf_coef": c.value_coef,
            "max_grad_norm": c.max_grad_norm,
            "rollout_buffer_class": SlicedRollout,
        }
    if isinstance(c, PPOConfig):
        clip = _schedule(c.clip_range, c.final_clip_range)
        # One epoch a training: `Sb3Learner` counts them.
        arguments |= {"batch_size": c.batch_size, "n_epochs": 1, "clip_range": clip}
    if isinstance(c, OffPolicyConfig):
        arguments |= {
            "batch_size": c.batch_size,
            "gradient_steps": c.gradient_steps,
            "train_freq": c.train_every // c.num_envs,
            "learning_starts": c.learning_starts,
            "buffer_size": c.memory_size,
            "tau": c.tau,
            "replay_buffer_class": LoggedReplay,
        }
    if isinstance(c, DQNConfig):
        arguments |= {
            "target_update_interval": c.target_every,
            "exploration_initial_eps": c.epsilon_start,
            "exploration_final_eps": c.epsilon_end,
            "exploration_fraction": c.epsilon_fraction,
            "max_grad_norm": c.max_grad_norm,
        }
    if isinstance(c, DDPGConfig):
        shape = bridge.action_space.shape
        assert shape is not None
        arguments["action_noise"] = NormalActionNoise(np.zeros(shape), np.full(shape, c.noise))
    if isinstance(c, TD3Config):
        arguments |= {
            "policy_delay": c.policy_delay,
            "target_policy_noise": c.target_noise,
            "target_noise_clip": c.target_noise_clip,
        }
    return arguments


def _schedule(start: float, end: float) -> Callable[[float], float]:
    """Linear in the part of the run that remains, 1 to 0, as the library's schedules are."""
    return lambda remaining: end + (start - end) * remaining


def import_zip(path: Path) -> dict[str, Tensor]:
    """Read the policy's weights out of a .zip that stable-baselines3 saved.

    Only the member ``policy.pth`` is opened, as tensors (``torch.load(weights_only=True)``). The rest of such a file
    holds pickled objects, which could run anything; it is not read.

    Raises:
        RlabError: there is no such file, it is no such .zip, or its weights are not plain tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo("policy.pth").file_size
            if size > ZIP_BYTES:
                raise RlabError(f"{path}: policy.pth would take {size:,} bytes; at most {ZIP_BYTES:,} are read")
            content = archive.read("policy.pth")
    except KeyError:
        raise RlabError(f"{path} holds no policy.pth, so stable-baselines3 did not save it") from None
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as e:
        raise RlabError(f"{path} cannot be read as a .zip of stable-baselines3 ({e})") from None
    try:
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as e:  # whatever a hostile file provokes
        reason = str(e).strip().splitlines()[:1]
        raise RlabError(
            f"{path}: policy.pth holds more than weights, or is damaged; nothing was loaded {reason}"
        ) from None
    if not isinstance(weights, dict) or not all(isinstance(t, Tensor) for t in weights.values()):
        raise RlabError(f"{path}: policy.pth is not a table of tensors; nothing was loaded")
    return weights


def load_weights(model: Any, weights: dict[str, Tensor], name: str) -> None:
    """Put weights into a policy.

    Raises:
        RlabError: they belong to another network; the message names the first difference.
    """
    own = model.policy.state_dict()
    for key in sorted(set(own) | set(weights)):
        ours, theirs = own.get(key), weights.get(key)
        if ours is None or theirs is None or ours.shape != theirs.shape:
            shapes = [None if t is None else list(t.shape) for t in (theirs, ours)]
            raise RlabError(
                f"the weights in {name} belong to another network: '{key}' is {shapes[0]} there and {shapes[1]} here; "
                "nearest: --encoder sb3, with --hidden as it was trained"
            )
    model.policy.load_state_dict(weights)
