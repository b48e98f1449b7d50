"""The crawler's Gymnasium ids. Importing this registers them and costs nothing: the games import numba when made."""

from __future__ import annotations

import gymnasium as gym

CRAWLERS = {"rlab/Crawler-v0": False, "rlab/CrawlerDiscrete-v0": True}
"""Gymnasium id -> whether its actions are discrete."""
MAX_STEPS = 500
"""Steps of an episode."""

for _id, _discrete in CRAWLERS.items():
    gym.register(_id, "rlab.envs.walker:Crawler", max_episode_steps=MAX_STEPS, kwargs={"discrete": _discrete})
