from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from rlab.envs.go.boards import Boards, Setting, name_of, point_of
from rlab.envs.go.gtp_client import GivenUp, Program, ProgramError, SomeFailed, find_gnugo
from rlab.envs.go.players import RESIGN, make_player
from rlab.errors import RlabError
from tests.envs.go.programs import dummy, needs_gnugo
from tests.processes import LONGEST, Spawn

KEYS = np.arange(1, 9, dtype=np.uint64) << np.uint64(40)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[[str], Program]]:
    made = []

    def make(kind: str) -> Program:
        player = make_player(dummy(tmp_path, kind))
        assert isinstance(player, Program)
        player.processes = 1
        made.append(player)
        return player

    yield make
    for player in made:
        player.close()
        player.close()
    assert not [child for child in psutil.Process().children(True) if "dummy.py" in " ".join(child.cmdline())]


def moves(boards: Boards, *names: str) -> None:
    for name in names:
        boards.play([point_of(name, boards.size)] * boards.number)


def choose(player: Program, boards: Boards, *rows: int) -> list[int]:
    return player.choose(boards, np.array(rows), KEYS[list(rows)]).tolist()


def failure(player: Program, boards: Boards, *rows: int) -> dict[int, ProgramError]:
    with pytest.raises(SomeFailed) as caught:
        choose(player, boards, *rows)
    return caught.value.failed


def test_only_what_is_new_is_sent(program, tmp_path: Path) -> None:
    player, boards = program("good"), Boards(2, Setting(5, 2.5))
    log = tmp_path / "good.log"
    moves(boards, "C3")
    assert choose(player, boards, 0) == [point_of("A1", 5)]
    assert log.read_text().split("\n")[:-1] == [
        "boardsize 5", "clear_board", "komi 2.5", "clear_board", "play b C3", "genmove w"]  # fmt: skip
    log.write_text("")
    moves(boards, "A1", "D3")
    assert choose(player, boards, 0) == [point_of("C1", 5)]
    assert log.read_text().split("\n")[:-1] == ["play b D3", "genmove w"]
    log.write_text("")
    assert choose(player, boards, 1) == [point_of("C1", 5)]  # another game with the same process
    assert log.read_text().split("\n")[:-1] == ["clear_board", "play b C3", "play w A1", "play b D3", "genmove w"]
    log.write_text("")
    boards.undo(1, 2)  # it stands beyond this game
    assert choose(player, boards, 1) == [point_of("A1", 5)]
    assert log.read_text().split("\n")[:-1] == ["clear_board", "play b C3", "genmove w"]


def test_a_game_that_begins_with_stones(program, tmp_path: Path) -> None:
    player, boards = program("good"), Boards(1, Setting(3, 0.0))
    boards.arrange(0, [[0, 1, 0], [0, 0, 2], [0, 0, 0]], 2)
    moves(boards, "pass")
    assert choose(player, boards, 0) == [point_of("A1", 3)]
    assert "play b B3\nplay w C2\nplay w pass\ngenmove b\n" in (tmp_path / "good.log").read_text()


@pytest.mark.parametrize(
    ("kind", "reason", "said"),
    [
        ("crash", "crash", "ended with status 3 at `genmove b`: it hurts"),
        ("hang", "time", "did not answer `genmove b` within 0.3 s"),
        ("nonsense", "answer", "answered `genmove b` with 'Q99'"),
        ("rude", "answer", "answered `genmove b` with 'hello', which is no GTP"),
        ("refuse", "answer", "refused `genmove b`: I will not"),
        ("illegal", "illegal", "there is a stone on C3"),
    ],
)
def test_a_failure_names_program_command_and_what_it_said(program, kind: str, reason: str, said: str) -> None:
    player, boards = program(kind), Boards(2, Setting(5))
    player.seconds = 0.3
    boards.play([point_of("C3", 5), 25])
    boards.play([25, 25 - 1])
    boards.undo(1, 2)
    for _ in range(2):  # a new process fails in the same way
        failed = failure(player, boards, 0, 1)
        assert list(failed) == [0]
        assert failed[0].reason == reason
        assert said in str(failed[0])
        assert kind in str(failed[0])
    with pytest.raises(SomeFailed) as caught:
        choose(player, boards, 0, 1)
    assert caught.value.moves[1] == point_of("A1", 5)  # the other game goes on


def test_one_crash_is_told_and_tried_again(program, tmp_path: Path) -> None:
    player, boards, said = program("falter"), Boards(1, Setting(5)), list[str]()
    player.report = said.append
    moves(boards, "C3", "D4")
    assert choose(player, boards, 0) == [point_of("A1", 5)]
    assert len(said) == 1
    assert "ended with status 3 at `genmove b`; it is started again (1 of 3)" in said[0]
    player = program("crash")
    player.report = said.append
    assert failure(player, boards, 0)[0].reason == "crash"
    assert (tmp_path / "crash.log").read_text().count("genmove") == 4
    assert len(said) == 1 + 3


def test_resigning_passing_and_carriage_returns(program) -> None:
    boards = Boards(1, Setting(5))
    assert choose(program("windows"), boards, 0) == [point_of("A1", 5)]
    assert choose(program("pass"), boards, 0) == [25]
    moves(boards, "C3", "D4")
    assert choose(program("resign"), boards, 0) == [RESIGN]


def test_what_it_is_called(program) -> None:
    assert program("good").about == "Dummy 7"
    assert make_player("random").name == "random"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gtp:", "named by its command line"),
        ("gtp: no-such-program --x", "there is no program `no-such-program`"),
        ('gtp:echo "open', "cannot be read: No closing quotation"),
        ("gnugo:strong", "levels are 0 to 20, not 'strong'"),
        ("gnugo:21", "not '21'"),
        ("gnugo:3,never", "levels are 0 to 20, not '3,never'"),
        ("gnugo:3,never-resign,now", "stands only ,never-resign, not ',never-resign,now'"),
        ("gnogo:3", "there is no player or run 'gnogo:3'; nearest: gnugo"),
    ],
)
def test_names_that_are_none(name: str, said: str) -> None:
    with pytest.raises(RlabError, match=f".*{said}"):
        make_player(name)


@pytest.mark.parametrize(("words", "said"), [("true", "ended with status 0"), ("cat", "which is no GTP")])
def test_programs_that_speak_no_gtp(words: str, said: str) -> None:
    player = make_player(f"gtp:{words}")
    assert isinstance(player, Program)
    with pytest.raises(RlabError, match=said):
        _ = player.about
    with pytest.raises(RlabError, match=said) as caught:  # no matter of one game
        choose(player, Boards(1, Setting(5)), 0)
    assert not isinstance(caught.value, SomeFailed)


def test_a_board_that_a_program_does_not_play(program) -> None:
    with pytest.raises(RlabError, match="refused `boardsize 9`: unacceptable size") as caught:
        choose(program("small"), Boards(1, Setting(9)), 0)
    assert not isinstance(caught.value, SomeFailed)


def test_a_wait_can_be_given_up(program) -> None:
    player, boards = program("hang"), Boards(1, Setting(5))
    moves(boards, "C3", "D4")
    asked = threading.Event()
    player.stopped = asked.is_set
    threading.Timer(0.3, asked.set).start()
    with pytest.raises(GivenUp):
        choose(player, boards, 0)


def test_many_rows_with_several_processes(program, tmp_path: Path) -> None:
    player, boards = program("good"), Boards(8, Setting(5))
    player.processes = 3
    boards.play(np.arange(8))
    expected = [point_of("A1", 5)] * 8
    assert choose(player, boards, *range(8)) == expected
    assert (tmp_path / "good.log").read_text().count("boardsize 5") <= 3


def test_a_process_that_is_taken_from_its_game_is_not_asked_by_two(program) -> None:
    """Rows that stand nowhere come first, and take the processes of those which come after them."""
    player, boards = program("slow"), Boards(6, Setting(5))
    player.processes = 3
    boards.play([*range(20, 25), 10])
    order = [name + str(row + 1) for row in range(5) for name in "ABCDE"[row % 2 : 5 : 2]]
    for turn in range(8):
        rows = [3, 4, 5, 0, 1, 2] if turn % 2 else [0, 1, 2, 3, 4, 5]
        played = [{name_of(move, 5) for move in boards.moves(row)} for row in rows]
        expected = [point_of(next(name for name in order if name not in taken), 5) for taken in played]
        found = choose(player, boards, *rows)
        assert found == expected
        boards.play(np.array(found)[np.argsort(rows)])


def test_a_program_ends_with_a_parent_that_is_killed(tmp_path: Path, spawn: Spawn) -> None:
    code = (
        "import sys, time, numpy as np\n"
        "import rlab.envs.go.gtp_client\nfrom rlab.envs.go.boards import Boards, Setting\n"
        "from rlab.envs.go.players import make_player\nplayer = make_player(sys.argv[1])\n"
        "player.choose(Boards(1, Setting(5)), np.array([0]), np.zeros(1, np.uint64))\n"
        "print('ready', flush=True); time.sleep(1000)"
    )
    parent = spawn(sys.executable, "-c", code, dummy(tmp_path))
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    children = psutil.Process(parent.pid).children(True)
    assert children
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs(children, LONGEST)
    assert not alive


@needs_gnugo
def test_gnu_go_depends_on_game_and_key_alone() -> None:
    boards = Boards(3, Setting(5, 0.0))
    boards.play([12, 6, 0])
    one, other = make_player("gnugo:1"), make_player("gnugo:1")
    rows, keys = np.arange(3), KEYS[:3]
    try:
        assert one.name == "gnugo:1"
        together = one.choose(boards, rows, keys)
        alone = [int(other.choose(boards, rows[k : k + 1], keys[k : k + 1])[0]) for k in (2, 1, 0)]
        assert together.tolist() == alone[::-1]
        assert boards.legal()[rows, together].all()
        with pytest.raises(RlabError, match="gnugo:1 plays boards of 5 to 19, not 4"):
            one.choose(Boards(1, Setting(4)), rows[:1], keys[:1])
    finally:
        one.close()
        other.close()


@needs_gnugo
def test_gnu_go_captures_what_is_dead_before_it_passes() -> None:
    """White's stone in Black's area would count as living by the board as it stands."""
    boards = Boards(1, Setting(5, 0.0))
    stones = np.zeros((5, 5), np.uint8)
    stones[1], stones[3, 2] = 1, 2
    stones[2] = [1, 1, 1, 1, 1]
    boards.arrange(0, stones, 2)
    player = make_player("gnugo:5")
    try:
        boards.play([25])
        for _ in range(12):
            move = int(player.choose(boards, np.array([0]), KEYS[:1])[0])
            boards.play([move])
            if boards.over[0]:
                break
            boards.play([25])
        assert boards.over[0]
        assert boards.score()[0] == 25
    finally:
        player.close()


def test_gnu_go_is_found_or_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlab.envs.go.gtp_client.find_gnugo", lambda: None)
    with pytest.raises(RlabError, match="there is no `gnugo` here; on Debian and Ubuntu: apt-get install gnugo"):
        make_player("gnugo:1")
    assert find_gnugo() is None or os.access(find_gnugo() or "", os.X_OK)
