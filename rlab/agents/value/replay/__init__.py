"""Experience replay."""

from rlab.agents.value.replay.ring import Replay
from rlab.agents.value.replay.sequences import Sequences

__all__ = ["Replay", "Sequences"]
