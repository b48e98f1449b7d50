"""The Gymnasium ids of the lab's environments, in one table. Importing `rlab.envs` registers them.

Nothing is imported but Gymnasium: an environment's module, with numba where it has it, comes in when one is made.
"""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.envs.registration import WrapperSpec

from rlab.envs.go.ids import SIZES

CRAWLERS = {"rlab/Crawler-v0": False, "rlab/CrawlerDiscrete-v0": True}
"""The crawler's ids -> whether its actions are discrete."""
CRAWLER_STEPS = 500
"""Steps of a crawler's episode."""
CHAINS = (10, 15, 20, 30)
"""Lengths of chains that have an id."""

IDS: dict[str, dict[str, Any]] = {
    **{f"rlab/Go{size}-v0": {"entry_point": "rlab.envs.go.env:Go", "kwargs": {"size": size}} for size in SIZES},
    **{
        env_id: {
            "entry_point": "rlab.envs.crawler.env:Crawler",
            "max_episode_steps": CRAWLER_STEPS,
            "kwargs": {"discrete": discrete},
        }
        for env_id, discrete in CRAWLERS.items()
    },
    "rlab/GridWorld-v0": {"entry_point": "rlab.envs.tabular:GridWorld", "max_episode_steps": 100},
    "rlab/CampaignMail-v0": {"entry_point": "rlab.envs.tabular:CampaignMail", "max_episode_steps": 60},
    "rlab/FrozenLakeSure-v0": {
        "entry_point": "gymnasium.envs.toy_text.frozen_lake:FrozenLakeEnv",
        "max_episode_steps": 100,
        "kwargs": {"map_name": "4x4", "is_slippery": False},
    },
    "rlab/NoisyChoice-v0": {"entry_point": "rlab.envs.chains:noisy_choice", "max_episode_steps": 10},
    "rlab/Coin-v0": {"entry_point": "rlab.envs.chains:coin", "max_episode_steps": 10},
    **{
        f"rlab/Chain{length}-v0": {
            "entry_point": "rlab.envs.chains:chain",
            "max_episode_steps": length + 9,
            "kwargs": {"length": length},
        }
        for length in CHAINS
    },
    "rlab/TMaze-v0": {"entry_point": "rlab.envs.pomdp:TMaze", "max_episode_steps": 100_000},  # it has its own limit
    "rlab/FlickerCartPole-v0": {
        "entry_point": "gymnasium.envs.classic_control.cartpole:CartPoleEnv",
        "max_episode_steps": 500,
        "additional_wrappers": (WrapperSpec("Flicker", "rlab.envs.pomdp:Flicker", {"p": 0.5}),),
    },
    **{
        f"rlab/{name}-v0": {"entry_point": f"rlab.envs.probes:{name}"}
        for name in ("Probe1", "Probe2", "Probe3", "Probe4", "Probe5", "ProbeTruncation", "ProbeMask")
    },
}
"""Gymnasium id -> what `gymnasium.register` takes beside it."""

for _id, _spec in IDS.items():
    if _id not in gymnasium.registry:  # Gymnasium warns of an id that is registered twice
        gymnasium.register(_id, **_spec)
