"""``rlab gtp RUN``: a player in the Go Text Protocol, for boards such as Sabaki and GoGui and for matches."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rlab.cli.common import TrustFlag, parse, refuse_below
from rlab.cli.flags import Arg
from rlab.errors import RlabError

GoPlayer = Annotated[str, Arg("RUN", positional=True)]


@dataclass(frozen=True)
class Flags:
    """Speak GTP 2 on stdin and stdout; `list_commands` lists what is known. RUN is a run's name, a path, `latest`,
    RUN:PROGRESS for one of its checkpoints, or random, rollout:400, gnugo:10, gtp:COMMAND."""

    run: GoPlayer
    """Who plays."""
    size: int | None = None
    """Rows and columns until `boardsize` says otherwise; by default 9, or what the run has learned on."""
    komi: float | None = None
    """Points that White has from the start, until `komi` says otherwise; by default 24.5 on 5x5, 9 on 7x7 and 7 on
    larger boards."""
    ko: str = "positional"
    """positional, situational or simple; `kata-set-rules` changes it."""
    visits: int = 0
    """Of the search for a move; 0: the player's own way of choosing one."""
    resign: float = 0.0
    """Resign below this win rate; 0: never. It needs an analysis, so --visits or a clock."""
    seed: int = 0
    """Of the player's chance."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    flags = parse(Flags, "gtp", argv)
    refuse_below(flags, visits=0, seed=0)
    if not 0 <= flags.resign < 1:
        raise RlabError(f"--resign is {flags.resign}; it must be at least 0 and below 1")
    stdout = sys.stdout
    # The protocol alone may stand on stdout, whatever Python prints.
    with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as stack:
        import torch

        from rlab import __version__
        from rlab.agents.go.engine import Engine
        from rlab.agents.go.gtp import GtpInput, Server
        from rlab.agents.go.players import find_player
        from rlab.envs.go.boards import Setting
        from rlab.envs.go.ids import default_komi
        from rlab.machine import cores

        player = find_player(flags.run, flags.device, flags.seed)
        stack.callback(player.close)
        if os.getloadavg()[0] > cores():
            torch.set_num_threads(1)  # beside other work several wait for each other, and the clock runs
        size = max(getattr(player, "sizes", (9,))) if flags.size is None else flags.size
        setting = Setting(size, default_komi(size) if flags.komi is None else flags.komi, flags.ko)
        engine = Engine(player, setting, seed=flags.seed, visits=flags.visits, resign=flags.resign)
        out = stack.enter_context(os.fdopen(os.dup(stdout.fileno()), "wb"))
        os.dup2(sys.stderr.fileno(), stdout.fileno())  # nor what compiled libraries print

        def write(text: str) -> None:
            out.write(text.encode())
            out.flush()

        source = sys.stdin.fileno()
        lines = GtpInput(lambda: os.read(source, 1 << 16))
        server = Server(engine, f"rlab {player.name}", __version__, write=write, waiting=lines.waiting)
        server.serve(iter(lines))
    return 0
