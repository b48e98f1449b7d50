"""Algorithms of stable-baselines3 as Learners: they collect and learn by their own code, in slices, in our run.

Theirs are the algorithm, its buffers and its optimisers. Ours are the environments (their restarts, logged actions
and hashes, as in `rlab.agents.interaction`), the encoders, evaluations with whole games and raw scores, metrics,
checkpoints without pickle, and the random numbers, which stable-baselines3 takes from the global generators: they are
put there for each slice and taken back after it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecEnv, VecTransposeImage
from stable_baselines3.sac.policies import SACPolicy
from torch import Tensor, nn

from rlab.agents.graph import LOGITS, Q_VALUES, policy_graph
from rlab.agents.interaction import EnvStream, Interaction
from rlab.agents.sb3.bridge import BridgeEnv, Features, OwnRandomness
from rlab.agents.sb3.buffers import LoggedReplay, SlicedRollout
from rlab.agents.sb3.config import (
    DDPGConfig,
    DQNConfig,
    OffPolicyConfig,
    OnPolicyConfig,
    PPOConfig,
    Sb3Config,
    TD3Config,
)
from rlab.agents.sb3.zip_file import import_zip, load_weights
from rlab.agents.types import Needs
from rlab.agents.value.exploration import epsilon_greedy
from rlab.errors import RlabError
from rlab.nn.encoders import image_shape
from rlab.nn.graph import Graph
from rlab.nn.optim import memories_alone, restore, state_of
from rlab.run.contract import Metrics, NonFinite, State, Stop
from rlab.seeding import derive
from rlab.tasks.transfer import counts

ALGORITHMS: dict[str, Any] = {"ppo": PPO, "sb3-a2c": A2C, "sb3-dqn": DQN, "sac": SAC, "td3": TD3, "ddpg": DDPG}
"""Recipe -> the algorithm's class."""

SLICE = 16
"""Vector steps collected in one unit of work of an on-policy algorithm, and updates in one of the others, at most."""


VARIABLES = ("log_ent_coef", "ent_coef_tensor")
"""SAC's weight of entropy, learned or fixed: what is no module and no optimiser."""


class Quiet(BaseCallback):
    """The callback that the library insists on."""

    def _on_step(self) -> bool:
        return True


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

    on_policy = False

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

    def graph(self, observations: gym.Space[Any]) -> Graph:
        """Return its policy for an export, without distributions, which none is made of; see `ExportsPolicy`.

        Raises:
            RlabError: it sees other observations than the environment gives.
        """
        if self.model.observation_space != observations:
            raise RlabError(
                "stable-baselines3 turns these observations before its network sees them, which an export leaves out; "
                "nearest: a run of ours, such as a2c"
            )
        space = self.model.action_space

        def call(policy: Any, obs: Tensor) -> Tensor:
            if hasattr(policy, "q_net"):
                return policy.q_net(obs)
            if hasattr(policy, "actor"):  # off-policy: from -1 to 1
                actor = policy.actor
                squashed = actor.get_action_dist_params(obs)[0].tanh() if isinstance(policy, SACPolicy) else actor(obs)
                low, high = torch.from_numpy(space.low).flatten(), torch.from_numpy(space.high).flatten()
                return low + 0.5 * (squashed + 1) * (high - low)
            features = policy.extract_features(obs)
            latent = policy.mlp_extractor.forward_actor(features if policy.share_features_extractor else features[0])
            return policy.action_net(latent)

        policy = self.model.policy
        return policy_graph(policy, observations, call, Q_VALUES if hasattr(policy, "q_net") else LOGITS)

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
        parts = {name: attrgetter(name)(model) for name in model.get_parameters()}
        optimisers = {name: part for name, part in parts.items() if isinstance(part, torch.optim.Optimizer)}
        variables = [name for name in VARIABLES if getattr(model, name, None) is not None]
        starts = model._last_episode_starts  # of the library's loop, which has no public access to it
        return {
            "policy": model.policy.state_dict(),
            "optimisers": {name: state_of(optimiser) for name, optimiser in optimisers.items()},
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
        for name, saved in state["optimisers"].items():
            optimiser = attrgetter(name)(model)
            restore(optimiser, saved if "groups" in saved else memories_alone(optimiser, [*saved.values()]))
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
        env = self.model.env
        if isinstance(env, VecTransposeImage):
            obs = cast(np.ndarray, env.transpose_observations(obs))
        self.model._last_obs = obs  # where the library's loop goes on from: it has no public access to it
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
        # What decides schedules, delayed updates and target networks; most of them have no public name.
        names = ["num_timesteps", "_n_updates", "_n_calls", "_episode_num", "exploration_rate"]
        names.append("_current_progress_remaining")
        return [name for name in names if hasattr(self.model, name)]


def make_agent(recipe: str, config: Any, stream: EnvStream, device: str) -> Sb3Agent:
    """Build an algorithm for environments.

    Args:
        recipe: the recipe's name.
        config: hyperparameters.
        stream: the environments.
        device: torch device.

    Raises:
        RlabError: the algorithm cannot play this environment.
    """
    _refuse_unfit(recipe, stream.envs, stream.env)
    bridge = BridgeEnv(stream)
    own = OwnRandomness(derive(stream.seed, "sb3"), torch.device(device))
    with own.in_place(), warnings.catch_warnings():
        # Where it runs is the user's choice here; the library would warn of GPUs.
        warnings.filterwarnings("ignore", "You are trying to run", UserWarning)
        arguments = _arguments(config, bridge) | {"device": device}
        try:
            model = ALGORITHMS[recipe](_policy(bridge), _ordered(bridge, config), **arguments)
        except RuntimeError as e:  # convolutions larger than the picture
            if config.encoder != "sb3":
                raise
            shape = bridge.observation_space.shape
            raise RlabError(
                f"--encoder sb3 cannot see {shape} of '{stream.env}' ({e}); nearest: --encoder auto"
            ) from None
        model.action_space.seed(derive(stream.seed, "actions"))
        model.set_logger(Logger(None, []))
    agent = Sb3Agent(config, model, own)
    if agent.replay is not None:
        agent.replay.journal = stream.journal
    if agent.rollout is not None and len(bridge.observation_space.shape or ()) < 3:
        agent.rollout.batches = 1 << 30  # a whole epoch is short; of images it is not
    return agent


class Sb3Learner(Interaction):
    """An algorithm of stable-baselines3 in our environments; its own code collects and learns, one slice a step.

    Args:
        agent: what `make_agent` returns.
        stream: the environments that it was made for.
        others: as `Interaction` takes them.

    Weights that cannot be loaded are refused when the run begins without a checkpoint.
    """

    def __init__(self, agent: Sb3Agent, stream: EnvStream, **others: Any):
        # It acts and learns by itself: `step` never calls the agent's `act` and `learn`.
        super().__init__(cast(Any, agent), stream, **others)
        self.sb3 = agent
        self._unread: RlabError | None = None  # why --weights could not be loaded
        if agent.config.weights:
            try:
                load_weights(agent.model, import_zip(Path(agent.config.weights).expanduser()), agent.config.weights)
            except RlabError as e:  # a checkpoint makes up for it: a run outlives the file that it began with
                self._unread = e
        self._callback = Quiet()
        self._ready = False

    def step(self) -> Metrics:
        """Collect a slice, or learn from what was collected."""
        if not self._ready:
            self._begin()
        # `learn`, which sets this, would not stop between slices.
        horizon = self.budget.horizon(self.total_steps)
        self.sb3.model._update_current_progress_remaining(min(self.budget.place(self.done, horizon), horizon), horizon)
        try:
            with self.sb3.own.in_place():
                if self.sb3.rollout is not None:
                    self._on_policy(self.sb3.rollout)
                else:
                    self._off_policy()
        except (ValueError, RlabError):  # so the library's distributions answer to NaN, and our environments
            if all(bool(p.isfinite().all()) for p in self.sb3.model.policy.parameters()):
                raise
            raise NonFinite("loss", float("nan"), f"step {self.done:,}") from None
        return self.sb3.take_metrics() | self.gauges()

    def restore(self, state: State, stop: Stop) -> None:
        """As `Interaction.restore`, and the rows of the replay."""
        super().restore(state, stop)
        self._unread = None
        if self.done:
            self.sb3.finish(self.stream.obs, stop)
            self._begin()

    def restore_policy(self, state: State) -> None:
        """As `Interaction.restore_policy`."""
        super().restore_policy(state)
        self._unread = None

    def evaluate_games(self, episodes: int, seed: int, stop: Stop) -> dict[str, Any]:
        """As `Interaction.evaluate_games`.

        Raises:
            RlabError: neither the weights that it was to begin with could be loaded, nor a checkpoint.
        """
        if self._unread is not None:
            raise self._unread
        return super().evaluate_games(episodes, seed, stop)

    @property
    def _end(self) -> int:
        """In environment steps."""
        return self.budget.end(self.total_steps)

    def _begin(self) -> None:
        """Tell the algorithm that it is to learn; resets the environments unless they were restored."""
        model = self.sb3.model
        if self._unread is not None:
            raise self._unread
        left = self._end - model.num_timesteps  # the library adds what it has done
        with self.sb3.own.in_place():
            # The first half of `learn`, which would go on to the end of the budget.
            model._setup_learn(left, self._callback, reset_num_timesteps=not self.done)
        self._ready = True

    def _on_policy(self, rollout: SlicedRollout) -> None:
        model = self.sb3.model
        if not rollout.full:
            left = -(-(self._end - self.done) // self.envs.num_envs)
            steps = min(SLICE, rollout.buffer_size - rollout.pos, left)
            model.collect_rollouts(model.env, self._callback, rollout, n_rollout_steps=steps)
            if not (rollout.full and self.done >= self._end):
                return  # the end of the budget must not cut off the last update
        epochs = self.sb3.config.n_epochs if isinstance(self.sb3.config, PPOConfig) else 1
        while rollout.full:
            model.train()
            if rollout.epochs == epochs:
                rollout.reset()
            if self.done < self._end:
                return

    def _off_policy(self) -> None:
        model, c = self.sb3.model, cast(OffPolicyConfig, self.sb3.config)
        every = c.train_every // c.num_envs
        for _ in range(max(1, SLICE // max(c.gradient_steps, every))):
            left = -(-(self._end - self.done) // c.num_envs)
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
            if self.done >= self._end:
                return


def _refuse_unfit(recipe: str, envs: Any, env: str) -> None:
    space = envs.single_action_space
    if ALGORITHMS[recipe] in (SAC, TD3, DDPG):
        if not isinstance(space, Box):
            raise RlabError(f"{recipe} takes Box actions, but '{env}' has {space}; nearest: ppo, sb3-dqn, a2c")
        if (space.low == space.high).any():  # it divides by the width
            raise RlabError(
                f"{recipe} needs actions with room between their bounds, but '{env}' has {space}; nearest: a2c, ppo"
            )
    elif ALGORITHMS[recipe] is DQN:
        _ = envs.num_actions  # refuses with a sentence
    if isinstance(space, Box) and not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise RlabError(f"{recipe} needs finite bounds of actions, but '{env}' has {space}; nearest: a2c")
    if envs.masks:
        raise RlabError(f"{recipe} of stable-baselines3 knows no action masks, which '{env}' needs; nearest: a2c, dqn")


def _policy(bridge: BridgeEnv) -> str:
    return "CnnPolicy" if len(bridge.observation_space.shape or ()) == 3 else "MlpPolicy"


def _ordered(bridge: BridgeEnv, config: Sb3Config) -> VecEnv:
    """The environments with images in the order that the network takes: our encoders see to it themselves.

    The wrapper is there in any case: where it is missing, the library guesses by a rule of its own.
    """
    shape = bridge.observation_space.shape
    if shape is None or not is_image_space(bridge.observation_space):
        return bridge
    return VecTransposeImage(bridge, skip=config.encoder != "sb3" or image_shape(shape) == shape)


def _arguments(config: Sb3Config, bridge: BridgeEnv) -> dict[str, Any]:
    """The constructor's arguments: every field of the configuration is read here or in `Sb3Learner`."""
    c: Any = config
    arguments: dict[str, Any] = {
        "policy_kwargs": _networks(c),
        "gamma": c.gamma,
        "learning_rate": _schedule(c.learning_rate, c.final_learning_rate),
    }
    if isinstance(c, OnPolicyConfig):
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


def _networks(c: Any) -> dict[str, Any]:
    """What the policy's constructor takes: our encoder, or the library's own."""
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
    return networks | ({"share_features_extractor": c.share_encoder} if isinstance(c, OnPolicyConfig) else {})


def _schedule(start: float, end: float) -> Callable[[float], float]:
    """Linear in the part of the run that remains, 1 to 0, as the library's schedules are."""
    return lambda remaining: end + (start - end) * remaining
