"""MinAtar: five Atari games on a 10 x 10 board, a module for each, and the environment that steps N copies of one."""

from rlab.envs.minatar.env import CELL, GAMES, MAX_STEPS, STICKY, MinAtar, MinAtarEngine, find_game, names

__all__ = ["CELL", "GAMES", "MAX_STEPS", "STICKY", "MinAtar", "MinAtarEngine", "find_game", "names"]
