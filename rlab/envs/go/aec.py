"""Go for PettingZoo: two agents, ``black_0`` and ``white_0``, that move in turn.

    from rlab.envs.go.aec import env
    game = env(size=9, komi=7)

An observation is a dict as PettingZoo's board games have it: ``observation``, float32 [C, n, n], the planes of
`rlab.envs.go.planes.PLANES` from that agent's side, and ``action_mask``, int8 [n * n + 1], all 0 where it is not its
turn. Actions are those of `rlab.envs.go.env`; one that is not legal raises `RlabError` and alters nothing. At the end
both get +1, -1 or 0 (jigo).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete

from rlab.envs.go.boards import Boards
from rlab.envs.go.env import FPS
from rlab.envs.go.match import make_setting, observations, refuse_illegal, seen_by
from rlab.envs.go.picture import BoardWindow, picture, text
from rlab.errors import RlabError, nearest

try:
    from pettingzoo import AECEnv
    from pettingzoo.utils.wrappers import OrderEnforcingWrapper
except ModuleNotFoundError:
    raise RlabError(
        "rlab.envs.go.aec needs the package pettingzoo, which is missing: pip install 'rlab-rl[pettingzoo]'"
    ) from None

AGENTS = ("black_0", "white_0")


def env(**options: Any) -> Any:
    """A game with PettingZoo's check on the order of calls; options as `GoAEC` takes them."""
    return OrderEnforcingWrapper(GoAEC(**options))


class GoAEC(AECEnv):
    """One game after another.

    Args:
        size: rows and columns, 2 to 19.
        komi: None: as `rlab.envs.go.ids` has it for the size.
        ko, suicide, cap: see `rlab.envs.go.boards.Setting`.
        render_mode: "ansi", "rgb_array", "human" (a window that follows by itself) or None.

    Raises:
        RlabError: one of them is not possible.
    """

    metadata = {  # noqa: RUF012 - PettingZoo's own name for it
        "name": "rlab_go_v0",
        "render_modes": ["ansi", "rgb_array", "human"],
        "render_fps": FPS,
        "is_parallelizable": False,
    }

    def __init__(
        self,
        size: int = 9,
        komi: float | None = None,
        ko: str = "positional",
        suicide: bool = False,
        cap: int = 0,
        render_mode: str | None = None,
    ):
        super().__init__()
        modes: Any = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise RlabError(f"unknown render mode '{render_mode}'; {nearest(render_mode, modes)}")
        self.boards = Boards(1, make_setting(size, komi, ko, suicide, cap), threads=1)
        self.render_mode = render_mode
        self.possible_agents = list(AGENTS)
        self.agents: list[str] = []
        mask = Box(0, 1, (size * size + 1,), np.int8)
        seen = {agent: Dict({"observation": observations(size), "action_mask": mask}) for agent in AGENTS}
        self.observation_spaces: dict[str, Any] = dict(seen)
        self.action_spaces: dict[str, Any] = {agent: Discrete(size * size + 1) for agent in AGENTS}
        self._window: BoardWindow | None = None

    def observation_space(self, agent: str) -> Any:
        """Of both agents the same."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        """Of both agents the same."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Begin a game. There is no chance in it, so a seed changes nothing; options, as PettingZoo asks, neither."""
        self.boards.clear()
        self.agents = list(AGENTS)
        self.rewards = dict.fromkeys(AGENTS, 0.0)
        self._cumulative_rewards = dict.fromkeys(AGENTS, 0.0)
        self.terminations = dict.fromkeys(AGENTS, False)
        self.truncations = dict.fromkeys(AGENTS, False)
        self.infos: dict[str, Any] = {agent: {} for agent in AGENTS}
        self.agent_selection = AGENTS[0]
        self._skip_agent_selection = None
        self._show()

    def observe(self, agent: str) -> dict[str, Any]:
        """What an agent sees at any time."""
        planes = seen_by(self.boards, np.array([0]), np.array([AGENTS.index(agent) + 1]))[0]
        turn = not self.boards.over[0] and AGENTS[self.boards.turn[0] - 1] == agent
        mask = self.boards.legal()[0] if turn else np.zeros(self.boards.points + 1, bool)
        return {"observation": planes, "action_mask": mask.astype(np.int8)}

    def step(self, action: Any) -> None:
        """Move for the agent whose turn it is; None once the game is over, as PettingZoo asks.

        Raises:
            RlabError: the action is not legal; nothing has changed then.
        """
        agent = self.agent_selection
        if self.terminations[agent]:
            self._was_dead_step(action)
            return
        if isinstance(action, bool) or not isinstance(action, int | np.integer):
            raise RlabError(f"an action is a whole number from 0 to {self.boards.pass_}, not {action!r}")
        refuse_illegal(self.boards, 0, int(action))
        self.boards.play([int(action)])
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        self.agent_selection = AGENTS[1 - AGENTS.index(agent)]
        if self.boards.over[0]:
            black = float(np.sign(self.boards.score()[0]))
            self.rewards = dict(zip(AGENTS, (black, 0.0 - black), strict=True))
            self.terminations = dict.fromkeys(AGENTS, True)
        self._accumulate_rewards()
        self._show()

    def render(self) -> Any:
        """As `rlab.envs.go.env.Go.render`."""
        if self.render_mode is None:
            raise RlabError("no picture without env(..., render_mode='rgb_array'), or 'ansi', or 'human'")
        if self.render_mode == "human":
            self._show()
            return None
        return (text if self.render_mode == "ansi" else picture)(self.boards)

    def close(self) -> None:
        """Close the window."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def _show(self) -> None:
        if self.render_mode == "human":
            if self._window is None:
                self._window = BoardWindow("Go", FPS)
            self._window.show(picture(self.boards))
