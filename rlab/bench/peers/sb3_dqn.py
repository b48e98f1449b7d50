"""stable-baselines3's DQN on Breakout: at its defaults, and with what its user can add to make it faster."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack


@dataclass(frozen=True)
class Setting:
    """How it is run.

    Attributes:
        num_envs, batch_size, train_every: as of ours; its defaults are 1, 32 and 4.
        vector: environments step in C++ threads, else in Python behind its own wrappers.
        bf16: learning and acting under autocast, images channels last.
        compile: the networks are compiled.
    """

    num_envs: int = 1
    batch_size: int = 32
    train_every: int = 4
    vector: bool = False
    bf16: bool = False
    compile: bool = False


class AleVecEnv(VecEnv):
    """ALE's vector environment for stable-baselines3, by the rules of its wrappers (a life is a game)."""

    def __init__(self, game: str, num_envs: int):
        from ale_py.vector_env import AtariVectorEnv

        self.ale: Any = AtariVectorEnv(
            game.lower(), num_envs, autoreset_mode="SameStep", repeat_action_probability=0.0, noop_max=30,
            use_fire_reset=True, reward_clipping=False,
        )  # fmt: skip
        super().__init__(num_envs, self.ale.single_observation_space, self.ale.single_action_space)
        self.lives, self.fire = np.zeros(num_envs, int), np.zeros(num_envs, bool)

    def reset(self) -> Any:
        """Begin all games."""
        obs, info = self.ale.reset(seed=0)
        self.lives = info["lives"]
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        """Send actions to the threads; after a lost life the next ball is served."""
        self.ale.send(np.where(self.fire, 1, actions))

    def step_wait(self) -> Any:
        """Receive what came of them."""
        obs, score, terminated, truncated, info = self.ale.recv()
        over = terminated | truncated
        self.fire = (info["lives"] < self.lives) & ~over
        self.lives = info["lives"]
        done = over | self.fire
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.nonzero(done)[0]:
            last = info["final_obs"][i] if over[i] else obs[i]
            infos[i] = {"terminal_observation": last, "TimeLimit.truncated": bool(truncated[i] & ~terminated[i])}
        return obs, np.sign(score).astype(np.float32), done, infos

    def close(self) -> None:
        """End the threads."""
        del self.ale

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """One attribute for all."""
        return [None if attr_name == "render_mode" else getattr(self.ale, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Nothing can be set."""
        raise NotImplementedError

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Nothing can be called."""
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No wrappers."""
        return [False] * self.num_envs


class AutocastDQN(DQN):
    """DQN whose learning and acting are in bfloat16 where torch's autocast has it so."""

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Learn."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            super().train(gradient_steps, batch_size)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Act."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            return super().predict(*args, **kwargs)


def steps_per_second(game: str, setting: Setting, steps: int, warm_up: float, memory: int, device: str) -> float:
    """Train for so many environment steps; the pace without the part `warm_up` at the start, where nothing is learned
    in the first half."""
    if setting.vector:
        env: VecEnv = AleVecEnv(game, setting.num_envs)
    else:
        import ale_py

        gymnasium.register_envs(ale_py)
        env = VecFrameStack(make_atari_env(f"{game}NoFrameskip-v4", n_envs=setting.num_envs, seed=0), 4)
    model = (AutocastDQN if setting.bf16 else DQN)(
        "CnnPolicy",
        env,
        buffer_size=memory,
        learning_rate=1e-4,
        batch_size=setting.batch_size,
        learning_starts=int(steps * warm_up / 2),
        target_update_interval=1_000,
        train_freq=max(1, setting.train_every // setting.num_envs),  # counted in steps of the whole vector
        gradient_steps=max(1, setting.num_envs // setting.train_every),
        exploration_fraction=0.1,
        exploration_final_eps=0.01,
        device=device,
    )
    if setting.bf16:
        model.policy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if setting.compile:
        model.q_net.compile()
        model.q_net_target.compile()
    clock = Clock(steps * warm_up)
    model.learn(steps, callback=clock)
    return (model.num_timesteps - clock.before) / (time.perf_counter() - clock.started)


class Clock(BaseCallback):
    """When the time began to count, and at which step."""

    def __init__(self, start: float):
        super().__init__()
        self.start = start
        self.started, self.before = 0.0, 0

    def _on_step(self) -> bool:
        if not self.started and self.num_timesteps >= self.start:
            self.started, self.before = time.perf_counter(), self.num_timesteps
        return True
