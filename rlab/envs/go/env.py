"""Go for Gymnasium: ``gym.make("rlab.envs:rlab/Go9-v0")``, one agent against an opponent.

* Action: a point, numbered row by row from the upper left corner (`rlab.envs.go.boards.point_of` gives that of a name),
  or n * n, a pass. ``info["action_mask"]``, int8 [n * n + 1], says which are legal; superko is in it. An action that is
  not raises `RlabError`, which says why, and alters nothing. (So does one that Gymnasium's checker samples without the
  mask, where the opponent has moved first.)
* Observation: float32 [C, n, n], the planes of `rlab.envs.go.planes.PLANES` from the agent's side.
* Reward: +1, -1 or 0 (jigo) at the end, from the agent's side; 0 before. Games end as `rlab.envs.go.match` says, the
  cap on moves is a rule, so they are terminated and never truncated.
* Info: ``colour`` of the agent; at the end ``score``, its points less the opponent's with komi, and ``resigned``,
  whether the opponent gave up.
"""

from __future__ import annotations

import operator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Discrete
from numpy.typing import NDArray

from rlab.envs.go.match import NAMES, Choose, Matches, make_setting, observations, refuse_illegal
from rlab.envs.go.picture import BoardWindow, picture, text
from rlab.envs.go.players import Player
from rlab.envs.go.rules import BLACK
from rlab.errors import RlabError, nearest

FPS = 2
"""Positions a second in a window."""


class Go(gym.Env[NDArray[np.float32], Any]):
    """One game after another; what it does is that of row 0 of `rlab.envs.go.vector.GoVec` with the same seed.

    Args:
        size: rows and columns, 2 to 19.
        opponent: a name that `rlab.envs.go.players.make_player` knows (random), a player, or a function (boards, rows,
            keys) -> moves.
        colour: of the agent: black, white, alternate (black in the first game after a seed, then in turn) or random
            (anew for every game).
        komi: None: as `rlab.envs.go.ids` has it for the size.
        ko, suicide, cap: see `rlab.envs.go.boards.Setting`.
        render_mode: "ansi", "rgb_array", "human" (a window that follows by itself) or None.

    Raises:
        RlabError: one of them is not possible.
    """

    metadata = {"render_modes": ["ansi", "rgb_array", "human"], "render_fps": FPS}  # noqa: RUF012 - Gymnasium's own

    def __init__(
        self,
        size: int = 9,
        opponent: str | Player | Choose = "random",
        colour: str = "black",
        komi: float | None = None,
        ko: str = "positional",
        suicide: bool = False,
        cap: int = 0,
        render_mode: str | None = None,
    ):
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise RlabError(
                f"unknown render mode '{render_mode}'; {nearest(render_mode, self.metadata['render_modes'])}"
            )
        self.matches = Matches(1, make_setting(size, komi, ko, suicide, cap), opponent, colour, threads=1)
        self.observation_space = observations(size)  # type: ignore[assignment]
        self.action_space = Discrete(size * size + 1)
        self.render_mode = render_mode
        self._window: BoardWindow | None = None
        self._seeded = False
        self._legal = np.zeros(size * size + 1, np.bool_)
        self._on = False
        self._needs = "call reset() first"

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin a game; a seed begins chance, and the turn of colours, anew."""
        if options:
            raise RlabError(f"reset() takes no options here, but got {sorted(options)}")
        super().reset(seed=seed)
        fresh = seed is not None or not self._seeded
        self._on = False  # an opponent may fail to begin
        self.matches.begin(np.array([word_of(self.np_random)], np.uint64) if fresh else None)
        self._seeded = self._on = True
        self._show()
        return self.matches.observe()[0], self._info()

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Move, and let the opponent move.

        Raises:
            RlabError: the action is not legal (nothing has changed then), the game is over, or the opponent's move was
                not legal (then a new game must begin).
        """
        if not self._on:
            raise RlabError(f"step() out of turn: {self._needs}")
        boards, point = self.matches.boards, self._point(action)
        if not (0 <= point <= boards.pass_ and self._legal[point]):
            refuse_illegal(boards, 0, point)
        self._on, self._needs = False, "the opponent failed, so call reset()"
        reward, ended = self.matches.advance(np.array([point]))
        over = bool(ended[0])
        self._on, self._needs = not over, "the game is over, so call reset()"
        info = self._info()
        if over:
            black = float(boards.score()[0])
            info["action_mask"][:] = 0
            info["score"] = black if self.matches.side[0] == BLACK else -black
            info["resigned"] = not bool(boards.over[0])
        self._show()
        return self.matches.observe()[0], float(reward[0]), over, False, info

    def render(self) -> Any:
        """The board: a text (ansi), uint8 [480, 480, 3] (rgb_array); the window follows by itself.

        Raises:
            RlabError: there was no render_mode, or no game yet.
        """
        if self.render_mode is None:
            raise RlabError("no picture without gym.make(..., render_mode='rgb_array'), or 'ansi', or 'human'")
        if not self._seeded:
            raise RlabError("render() out of turn: call reset() first")
        if self.render_mode == "human":
            self._show()
            return None
        return (text if self.render_mode == "ansi" else picture)(self.matches.boards)

    def close(self) -> None:
        """Close the window and let the opponent go."""
        self._on, self._needs = False, "the environment is closed"
        self.matches.close()
        if self._window is not None:
            self._window.close()
            self._window = None

    def _point(self, action: Any) -> int:
        try:
            return operator.index(action.item() if isinstance(action, np.ndarray) and action.size == 1 else action)
        except TypeError:
            last = self.matches.boards.pass_
            raise RlabError(
                f"an action is a whole number from 0 to {last}, which is the pass, not {action!r}"
            ) from None

    def _info(self) -> dict[str, Any]:
        self._legal = self.matches.boards.legal()[0]
        return {"action_mask": self._legal.astype(np.int8), "colour": NAMES[self.matches.side[0]]}

    def _show(self) -> None:
        if self.render_mode == "human":
            if self._window is None:
                self._window = BoardWindow(f"Go against {self.matches.opponent.name}", FPS)
            self._window.show(picture(self.matches.boards))


def word_of(rng: np.random.Generator) -> int:
    """Where a game's stream of chance begins."""
    return int(rng.integers(0, 2**64, dtype=np.uint64))
