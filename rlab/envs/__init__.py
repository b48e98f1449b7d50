"""Environments: always vectorised, always SAME_STEP, and honest about where an episode ends.

Importing this package registers the lab's Gymnasium ids: ``gymnasium.make("rlab.envs:rlab/Go9-v0")`` does both, and
after ``import rlab.envs`` the id alone will do. ALE and compiled code come in when an environment of theirs is made.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import rlab.envs.ids  # noqa: F401  (registers)

if TYPE_CHECKING:
    from rlab.envs.make import canonical_name, family_of, is_atari, is_minatar, make_vec
    from rlab.envs.vector import VecEnv

__all__ = ["VecEnv", "canonical_name", "family_of", "is_atari", "is_minatar", "make_vec"]

_HOME = {"VecEnv": "rlab.envs.vector"} | dict.fromkeys(
    ("canonical_name", "family_of", "is_atari", "is_minatar", "make_vec"), "rlab.envs.make"
)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rlab.envs' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)
