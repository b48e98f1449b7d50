"""Experience replay."""

from rlab.agents.replay.ring import Replay
from rlab.agents.replay.sequences import Sequences

__all__ = ["Replay", "Sequences"]
