"""Go for the lab's agents: thousands of boards that are stepped as one, with the opponent's replies inside.

Actions, observations and rewards are those of `rlab.envs.go.env`; ``info`` reports masks. An action that is not legal
is refused before any game has changed. Games are terminated, never truncated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlab.envs.go.env import FPS, word_of
from rlab.envs.go.match import Choose, Matches, make_setting, observations, refuse_illegal
from rlab.envs.go.picture import picture
from rlab.envs.go.players import Player
from rlab.envs.vector import StepResult, VecEnv
from rlab.errors import RlabError


class GoVec(VecEnv):
    """N games of Go against one opponent.

    Args:
        size: rows and columns, 2 to 19.
        num_envs: N.
        seed: of the first reset.
        opponent, komi, ko, suicide, cap: see `rlab.envs.go.env.Go`.
        colour: of the agent: black, white, alternate (even rows begin with black, odd ones with white, then in turn)
            or random (anew for every game).
        threads: that share the boards; 0: one per core. Results do not depend on it.
        render: prepare for ``frame()``.

    Raises:
        RlabError: one of them is not possible.
    """

    def __init__(
        self,
        size: int,
        num_envs: int,
        seed: int,
        *,
        opponent: str | Player | Choose = "random",
        colour: str = "alternate",
        komi: float | None = None,
        ko: str = "positional",
        suicide: bool = False,
        cap: int = 0,
        threads: int = 0,
        render: bool = False,
    ):
        self._matches = Matches(num_envs, make_setting(size, komi, ko, suicide, cap), opponent, colour, threads)
        self._mask = np.zeros((num_envs, size * size + 1), bool)
        super().__init__(num_envs, observations(size), size * size + 1, seed, render)
        self.metadata["render_fps"] = FPS

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that decides what happens next, as arrays of N rows, copied.

        Raises:
            RlabError: not reset yet, a step is under way, or closed.
        """
        if self._turn != "send":
            raise RlabError(f"state() out of turn: {self._needs[self._turn]}")
        return {name: array.copy() for name, array in self._matches.state().items()}

    def restore(self, state: dict[str, NDArray[Any]]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Go back to what `state` gave, here or in another object with the same size, N and options.

        Returns:
            The observations [N, C, n, n] and info at that moment, as ``reset`` does.

        Raises:
            RlabError: a step is under way, closed, or the state is of other boards or another N.
        """
        if self._turn in ("recv", "closed"):
            raise RlabError(f"restore() out of turn: {self._needs[self._turn]}")
        mine = self._matches.state()
        for name, array in mine.items():
            given = state.get(name)
            if given is None or given.shape != array.shape or given.dtype != array.dtype:
                size = self._matches.boards.size
                raise RlabError(f"this is no state of {self.num_envs} games on {size}x{size}: '{name}' does not fit")
        for name, array in mine.items():
            array[:] = state[name]
        self._first_seed = None
        self._turn = "send"
        return self._look()

    def _look(self) -> tuple[NDArray[np.float32], dict[str, Any]]:
        self._mask = self._matches.boards.legal()
        return self._matches.observe(), {"action_mask": self._mask}

    def _reset(self, seeds: NDArray[np.int64] | None) -> tuple[NDArray[Any], dict[str, Any]]:
        words = None if seeds is None else [word_of(np.random.default_rng(int(seed))) for seed in seeds]
        self._turn = "reset"  # an opponent may fail to begin
        self._matches.begin(None if words is None else np.array(words, np.uint64))
        return self._look()

    def _send(self, actions: NDArray[np.int64]) -> None:
        for row in np.flatnonzero(~self._mask[np.arange(self.num_envs), actions])[:1]:
            refuse_illegal(self._matches.boards, int(row), int(actions[row]))
        self._actions = actions

    def _recv(self) -> StepResult:
        matches = self._matches
        self._turn = "reset"  # until the opponent has made its moves
        reward, over = matches.advance(self._actions)
        (ended,) = np.nonzero(over)
        last = matches.observe(ended)
        matches.restart(ended)
        self._turn = "send"
        obs, info = self._look()
        final_obs, final_mask = obs, self._mask
        if len(ended):
            final_obs, final_mask = obs.copy(), self._mask.copy()
            final_obs[ended], final_mask[ended] = last, False
        own = {
            "final_obs": final_obs,
            "final_mask": final_mask,
            "raw_reward": reward,
            "action": self._actions,
            "life_lost": np.zeros(self.num_envs, bool),
        }
        return obs, reward, over, np.zeros(self.num_envs, bool), info | own

    def _frame(self) -> NDArray[np.uint8]:
        return picture(self._matches.boards)

    def _close(self) -> None:
        self._matches.close()
