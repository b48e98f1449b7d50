"""A program that speaks GTP and misbehaves as it is told, for tests; and whether GNU Go is here."""

from __future__ import annotations

import os
import sys

import pytest

from rlab.envs.go.gtp_client import HOW_TO_GET_GNUGO, find_gnugo

needs_gnugo = pytest.mark.skipif(
    find_gnugo() is None and not os.environ.get("CI"), reason=f"there is no GNU Go here ({HOW_TO_GET_GNUGO})"
)
"""CI must have it: there these tests fail without it."""

SOURCE = """
import os, sys, time
kind, log = sys.argv[1], open(sys.argv[2], "a", buffering=1)
taken, made, games = set(), 0, 0
COLUMNS = "ABCDEFGHJKLMNOPQRST"
for line in sys.stdin:
    words = line.split()
    print(line.strip(), file=log)
    said = ""
    if words[0] == "name": said = "Dummy"
    if words[0] == "version": said = "7"
    if words[0] == "boardsize":
        size = int(words[1])
        if kind == "small" and size > 5:
            print("? unacceptable size\\n", flush=True)
            continue
    if words[0] == "clear_board": taken, made, games = set(), 0, games + 1
    if words[0] == "play": taken.add(words[2].upper()); made += 1
    if words[0] == "genmove":
        # Rows from the bottom, every second point: nothing is ever captured, and it ends.
        free = [c + str(r + 1) for r in range(size) for c in COLUMNS[r % 2:size:2]]
        said = next((p for p in free if p not in taken), "PASS")
        if kind == "crash" and made >= 2: print("it hurts", file=sys.stderr); sys.exit(3)
        if kind == "falter" and made >= 2 and not os.path.exists(log.name + ".fell"):
            open(log.name + ".fell", "w").close()
            sys.exit(3)
        if kind == "hang" and made >= 2: time.sleep(1000)
        if kind == "nonsense" and made >= 2: said = "Q99"
        if kind == "rude" and made >= 2: print("hello\\n", flush=True); continue
        if kind == "refuse" and made >= 2: print("? I will not\\n", flush=True); continue
        if kind == "resign" and made >= 2: said = "Resign"
        if kind == "illegal" and made >= 2: said = sorted(taken)[0]
        if kind == "slow": time.sleep(0.01)
        if kind == "held":
            while games > 4 and os.path.exists(log.name + ".hold"): time.sleep(0.01)
        if kind == "pass": said = "pass"
        taken.add(said); made += 1
    if kind == "windows": print("\\r\\n= " + said + "\\r\\n\\r", flush=True)
    else: print("= " + said + "\\n", flush=True)
    if words[0] == "quit": break
"""


def dummy(tmp_path: os.PathLike[str], kind: str = "good") -> str:
    """A player's name: a program that writes what it is told to ``kind.log``."""
    source = os.path.join(tmp_path, "dummy.py")
    with open(source, "w") as file:
        file.write(SOURCE)
    return f"gtp:{sys.executable} -SE {source} {kind} {os.path.join(tmp_path, kind + '.log')}"
