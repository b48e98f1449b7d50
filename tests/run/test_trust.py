"""What text out of a run's folder may set going."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rlab import trust
from rlab.envs.go.players import make_player
from rlab.registry import import_plugin
from rlab.run.files import read_json
from rlab.trust import INHERITED, Untrusted, allow, begin, given


@pytest.fixture(autouse=True)
def _forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A user who has named nothing yet, in a folder of their own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv(INHERITED, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    begin("eval", [])
    yield
    begin("eval", [])
    sys.modules.pop("stranger", None)


def put(folder: Path) -> Path:
    """A module whose import leaves a trace beside it."""
    (folder / "stranger.py").write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()\n")
    return folder / "ran"


def read(*texts: str) -> None:
    """Have texts come out of a file."""
    Path("read.json").write_text(json.dumps({"config": [{"some": text} for text in texts]}))
    read_json(Path("read.json"))


def use(name: str) -> None:
    """Look something up in a module, as every registry does."""
    sys.modules.pop("stranger", None)
    import_plugin(name.rpartition("+")[2].partition(":")[0])


@pytest.mark.parametrize("text", ["stranger:thing", "lenet+stranger:thing"])
def test_module_from_a_file_is_refused(text: str, tmp_path: Path) -> None:
    ran = put(Path.cwd())
    read(text)
    with pytest.raises(Untrusted, match=r"the module 'stranger', which you have not.*--trust stranger"):
        use("stranger:thing")
    assert not ran.exists()
    assert str(Path.cwd()) not in sys.path
    allow(["stranger"])
    use("stranger:thing")
    assert ran.exists()


@pytest.mark.parametrize(
    ("verb", "words", "named"),
    [
        ("train", ["dqn", "--env", "stranger:thing"], True),
        ("train", ["dqn", "--env=stranger:thing"], True),
        ("sweep", ["--agents", "dqn,stranger:thing"], True),
        ("sweep", ["--set", "encoder=stranger:thing"], True),
        ("train", ["dqn", "--encoder", "lenet+stranger:thing"], True),
        ("train", ["dqn", "--encoder", "stranger:5000"], False),  # a run's checkpoint
        ("train", ["dqn", "--encoder", "stranger"], False),
        ("train", ["dqn", "--env", "a_stranger:thing"], False),
        ("eval", ["stranger:thing"], False),  # no module can be named there
        ("play", ["go9", "--with", "stranger:5000"], False),
    ],
)
def test_command_line_names_modules(verb: str, words: list[str], named: bool) -> None:
    put(Path.cwd())
    begin(verb, words)
    read("stranger:thing")
    if named:
        use("stranger:thing")
    else:
        with pytest.raises(Untrusted):
            use("stranger:thing")


def test_what_was_named_is_remembered_where_it_lay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(Path.cwd())
    begin("train", ["dqn", "--env", "stranger:thing"])
    use("stranger:thing")
    begin("resume", ["a-run"])
    read("stranger:thing")
    use("stranger:thing")
    (tmp_path / "other").mkdir()
    ran = put(tmp_path / "other")
    monkeypatch.chdir(tmp_path / "other")
    sys.path[:] = [path for path in sys.path if path != str(tmp_path / "here")]
    with pytest.raises(Untrusted):
        use("stranger:thing")
    assert not ran.exists()


def test_module_that_the_program_imported_is_no_news() -> None:
    read("json:tool", "antigravity:fly")
    trust.check_module("json")
    with pytest.raises(Untrusted):
        trust.check_module("antigravity")  # importing it opens a browser


@pytest.mark.parametrize("line", ["touch ran", "sh -c 'touch ran'", "run:touch ran"])
def test_program_from_a_file_is_refused(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(f"gtp:{line}")
    with pytest.raises(Untrusted, match=r"the program `.*--trust 'gtp:"):
        make_player(f"gtp:{line}")
    begin("tournament", ["random", f"gtp:{line}"])
    read(f"gtp:{line}")
    trust.check_program(line)
    begin("eval", ["a-run"])
    read(f"gtp:{line}")
    trust.check_program(line)  # remembered in this folder, whose files it may name
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(Untrusted):
        trust.check_program(line)


def test_part_of_what_was_named_is_not_it() -> None:
    begin("play", ["go9", "--with", "gtp:touch harmless"])
    read("gtp:touch", "gtp:touch harm")
    for line in ("touch", "touch harm"):
        with pytest.raises(Untrusted):
            trust.check_program(line)


def test_command_line_out_of_a_folder_names_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    put(Path.cwd())
    monkeypatch.setenv(INHERITED, json.dumps(["gtp:known"]))
    begin("train", ["stranger:thing", "--opponent", "gtp:rm x", "--trust", "stranger"])
    allow(["stranger", "gtp:rm x"])
    given({"env": "stranger:thing"})
    with pytest.raises(Untrusted):
        use("stranger:thing")
    with pytest.raises(Untrusted):
        trust.check_program("rm x")
    trust.check_program("known")


@pytest.mark.parametrize(("answer", "runs"), [("y\n", True), ("\n", False), ("", False)])
def test_terminal_is_asked_and_shown_all(
    answer: str, runs: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = io.StringIO(answer)
    typed.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", typed)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    line = "rm -r x\r\x1b[2K\u202eharmless"
    read(f"gtp:{line}")
    allow([], ask=True)
    check: Callable[[], None] = lambda: trust.check_program(line)  # noqa: E731
    if runs:
        check()
    else:
        with pytest.raises(Untrusted):
            check()
    asked = capsys.readouterr().err
    assert "`rm -r x\\r\\x1b[2K\\u202eharmless`" in asked
    assert asked.isprintable()


def test_memory_that_cannot_be_used_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("{damaged\n")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    begin("play", ["--with=gtp:x"])
    trust.check_program("x")
    begin("play", [])
    read("gtp:x")
    with pytest.raises(Untrusted):
        trust.check_program("x")
