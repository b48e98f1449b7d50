"""Atari on ALE's own C++ vector environment, under two protocols.

``classic`` is DQN's: no sticky actions, up to 30 no-ops and a FIRE at the start, FIRE again after a lost life
(Mnih et al. 2015, https://doi.org/10.1038/nature14236). ``v5`` is Machado et al. 2018
(https://arxiv.org/abs/1709.06009): sticky actions, no help at the start, lives unseen by the learner.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from rlab.envs.vector import Interrupted, StepResult, VecEnv

Protocol = Literal["classic", "v5"]
STICKY: dict[Protocol, float] = {"classic": 0.0, "v5": 0.25}  # probability of repeating the action before
MAX_FRAMES = 108_000  # of a game: 30 minutes at 60 Hz
FRAME_STACK = 4


AT_ONCE = 8
"""Environments that are seeded before somebody may interrupt: most of a second's work."""


class Atari(VecEnv):
    """One game N times; observations are uint8 [N, 4, 84, 84], one step is 4 frames of the game.

    After a reset the three older frames are zeros. Rewards are clipped to their sign in training.

    Args:
        rom: ALE's name of the game, such as "ms_pacman".
        num_envs: N.
        seed: of the first reset.
        protocol: "classic" or "v5".
        training: clip rewards and, in classic, let a lost life end the return.
        threads: C++ threads; 0 for as many as cores (at most N). Results do not depend on it.
        render: run a twin of environment 0 in colour for ``frame()``.
        sticky: the probability of repeating the action before, in place of the protocol's.
        max_frames: of a game, in frames; beyond it the game is truncated.
    """

    lends = True  # ALE loads the cartridge anew for each seed: a tenth of a second for each environment

    masks = False

    def __init__(
        self,
        rom: str,
        num_envs: int,
        seed: int,
        *,
        protocol: Protocol = "classic",
        training: bool = True,
        threads: int = 0,
        render: bool = False,
        sticky: float | None = None,
        max_frames: int = MAX_FRAMES,
    ):
        classic = protocol == "classic"
        # Lives are followed here, not by ALE: its episodic_life restarts the whole game at each lost life,
        # and its life_loss_info hides a truncation that falls together with one.
        common: dict[str, Any] = {
            "autoreset_mode": AutoresetMode.SAME_STEP,
            "max_num_frames_per_episode": max_frames,
            "repeat_action_probability": STICKY[protocol] if sticky is None else sticky,
            "noop_max": 30 if classic else 0,
            "use_fire_reset": classic,
            "reward_clipping": False,
        }
        self._ale = AtariVectorEnv(rom, num_envs, num_threads=threads, stack_num=FRAME_STACK, **common)
        # The same seed and actions give the same game, so the twin shows what environment 0 plays.
        self._twin = (
            AtariVectorEnv(rom, 1, grayscale=False, img_height=210, img_width=160, stack_num=1, **common)
            if render
            else None
        )
        meanings = [a.name for a in self._ale.ale.get_action_set()]
        super().__init__(num_envs, self._ale.single_observation_space, len(meanings), seed, render)
        self.frame_stack = FRAME_STACK
        self.protocol = protocol
        self.life_loss_ends = classic and training
        self._clip = training
        self._fire = meanings.index("FIRE") if classic and "FIRE" in meanings else None

    def _reset(self, seeds: NDArray[np.int64] | None) -> tuple[NDArray[Any], dict[str, Any]]:
        obs, info = self._ale.reset() if seeds is None else self._seeded(seeds)
        self._lives = info["lives"]
        self._must_fire = np.zeros(self.num_envs, bool)
        if self._twin is not None:
            picture, _ = self._twin.reset(seed=None if seeds is None else seeds[:1])
            self._picture = picture[0, 0]
        return obs, {}

    def _seeded(self, seeds: NDArray[np.int64]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Reset with seeds, a few environments at a time."""
        if self.num_envs <= AT_ONCE:
            return self._ale.reset(seed=seeds)
        self._ale.reset()  # of all, which ALE demands before one of some; without seeds it is quick
        for first in range(0, self.num_envs, AT_ONCE):
            if self.interrupted():
                raise Interrupted
            some = np.zeros(self.num_envs, bool)
            some[first : first + AT_ONCE] = True
            obs, info = self._ale.reset(seed=seeds[some], options={"reset_mask": some})
        return obs, info

    def _send(self, actions: NDArray[np.int64]) -> None:
        if self._fire is not None:
            actions[self._must_fire] = self._fire
        self._executed = actions
        self._ale.send(actions)
        if self._twin is not None:
            self._twin.send(actions[:1])

    def _recv(self) -> StepResult:
        obs, score, terminated, truncated, info = self._ale.recv()
        if self._twin is not None:
            self._picture = self._twin.recv()[0][0, 0]
        ended = terminated | truncated
        final_obs = obs
        if ended.any():
            final_obs = obs.copy()
            final_obs[ended] = info["final_obs"][ended]  # ALE fills the other rows with anything
        life_lost = (info["lives"] < self._lives) & ~ended
        self._lives, self._must_fire = info["lives"], life_lost
        raw = score.astype(np.float32)
        reward = np.sign(raw) if self._clip else raw
        own = {"final_obs": final_obs, "raw_reward": raw, "action": self._executed, "life_lost": life_lost}
        return obs, reward, terminated, truncated, own

    def _frame(self) -> NDArray[np.uint8]:
        return self._picture

    def _close(self) -> None:
        # ALE joins its threads when the object goes, even in the middle of a step.
        del self._ale, self._twin
