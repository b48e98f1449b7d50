"""Experience replay."""

from agents.replay.ring import Replay

__all__ = ["Replay"]
