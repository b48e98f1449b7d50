"""Experience replay."""

from agents.replay.ring import Replay
from agents.replay.sequences import Sequences

__all__ = ["Replay", "Sequences"]
