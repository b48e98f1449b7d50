"""Every verb on a stranger's run: nothing runs that the command line does not name."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlab.errors import RlabError
from rlab.recipes import load_recipes
from rlab.run.config import changed, to_plain
from rlab.trust import begin

Rlab = Callable[..., SimpleNamespace]


@pytest.fixture
def place(tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs where the user is, too, with a module in it whose import leaves `ran` beside it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "runs"
    shutil.copytree(runs / "cart", folder / "cart")
    (folder / "wicked.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('ran').touch()\nimport gymnasium\n"
        "gymnasium.registry.pop('Wicked-v0', None)\n"
        "gymnasium.register('Wicked-v0', 'gymnasium.envs.classic_control:CartPoleEnv', max_episode_steps=9)\n"
    )
    monkeypatch.setenv("RLAB_RUNS", str(folder))
    monkeypatch.chdir(folder)
    sys.modules.pop("wicked", None)
    begin("eval", [])  # what other tests have named is not named here
    return folder


def alter(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


MODULES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "recipe": lambda d: d.update(recipe="wicked:x"),
    "environment": lambda d: d["config"]["env"].update(env="wicked:Wicked-v0"),
    "encoder": lambda d: d["config"]["agent"].update(encoder="wicked:x"),
}


@pytest.mark.parametrize("what", MODULES)
@pytest.mark.parametrize("verb", ["eval", "watch", "resume"])
def test_module_of_a_run_is_not_imported(verb: str, what: str, place: Path, rlab: Rlab) -> None:
    alter(place / "cart" / "config.json", MODULES[what])
    if verb == "resume":
        shutil.rmtree(place / "cart" / "checkpoints")
    done = rlab(verb, "cart")
    assert done.status == 1
    assert "the module 'wicked'" in done.err
    assert "--trust wicked" in done.err
    assert not (place / "ran").exists()


@pytest.mark.parametrize("words", ["runs", "runs show cart", "report cart", "compare cart"])
def test_strangers_run_is_still_shown(words: str, place: Path, rlab: Rlab) -> None:
    alter(place / "cart" / "config.json", MODULES["recipe"])
    done = rlab(*words.split())
    assert done.status == 0, done.err
    assert "wicked:x" in done.out or words.startswith("report")
    assert ("--trust wicked" in " ".join(done.out.split())) == words.startswith("compare")
    assert not (place / "ran").exists()


def test_own_run_needs_no_flag(place: Path, rlab: Rlab, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "train dqn --env wicked:Wicked-v0 --steps 60 --learning-starts 20 --threads 1 --final-episodes 1 --name own"
    assert rlab(*words.split()).status == 0
    monkeypatch.delitem(sys.modules, "wicked")  # as in another process
    alter(place / "cart" / "config.json", MODULES["environment"])
    assert "wicked" not in rlab("eval", "own", "--episodes", "1").err
    copied = place.parent / "elsewhere"
    shutil.copytree(place, copied)
    monkeypatch.delitem(sys.modules, "wicked", raising=False)
    monkeypatch.setenv("RLAB_RUNS", str(copied))
    monkeypatch.chdir(copied)  # the same words, but another module of that name
    sys.path[:] = [path for path in sys.path if path != str(place)]
    assert "--trust wicked" in rlab("eval", "own", "--episodes", "1").err


def test_flag_trusts_a_module(place: Path, rlab: Rlab) -> None:
    alter(place / "cart" / "config.json", MODULES["environment"])
    assert rlab("eval", "cart", "--episodes", "1", "--trust", "other", "--trust", "wicked").status == 0
    assert (place / "ran").exists()


@pytest.mark.parametrize(
    "words", ["resume go", "play go5 --with go", "gtp go", "analyze go game.sgf", "tournament random go --board 5"]
)
def test_program_of_a_run_is_not_started(words: str, place: Path, rlab: Rlab) -> None:
    config = changed(load_recipes().get("pqn").default("Go5"), {"opponent": "gtp:touch ran", "num_envs": 8})
    (place / "go").mkdir()
    document = {"schema": 1, "recipe": "pqn", "created": 0.0, "config": to_plain(config)}
    (place / "go" / "config.json").write_text(json.dumps(document))
    (place / "game.sgf").write_text("(;SZ[5];B[aa];W[bb])")
    done = rlab(*words.split())
    assert done.status == 1
    assert "the program `touch ran`" in done.err
    assert not (place / "ran").exists()


def test_python_trusts_what_it_names(place: Path) -> None:
    import rlab
    from rlab.trust import Untrusted

    alter(place / "cart" / "config.json", MODULES["environment"])
    with pytest.raises(Untrusted):
        rlab.load("cart")
    assert not (place / "ran").exists()
    with rlab.load("cart", trust=["wicked"]) as player:
        assert player.step == 3_000


def sweep(place: Path, **changes: Any) -> None:
    agent, env, seed = (changes.get(k, v) for k, v in (("agent", "dqn"), ("env", "CartPole-v1"), ("seed", 0)))
    settings = {f"{agent} on {env}": changes.get("settings", {})}
    definition = {"agents": [agent], "envs": [env], "seeds": [seed], "steps": {env: 100}, "settings": settings}
    name = f"{agent}-{env}".replace(":", "-") + f"-s{seed}"
    document = {"schema": 1, "kind": "sweep", "definition": definition | {"threads": 1}, "runs": [{"name": name}]}
    (place / "some").mkdir()
    (place / "some" / "sweep.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    "changes",
    [{"agent": "wicked:x"}, {"settings": {"trust": "wicked", "encoder": "wicked:x"}}, {"env": "wicked:Wicked-v0"}],
)
def test_command_of_a_sweeps_folder_names_nothing(changes: dict[str, Any], place: Path, rlab: Rlab) -> None:
    sweep(place, **changes)
    done = rlab("sweep", "some", "--jobs", "1")
    assert done.status == 1
    assert "--trust wicked" in done.out
    assert not (place / "ran").exists()


def test_run_of_a_sweep_lies_in_its_folder(place: Path, rlab: Rlab) -> None:
    sweep(place, seed="/../../cart")
    done = rlab("sweep", "some")
    assert done.status == 1
    assert "sweep.json is damaged" in done.err
    assert (place / "cart" / "config.json").exists()


def test_journal_of_a_tournament_deletes_no_other_file(place: Path, rlab: Rlab) -> None:
    """SQLite would: a journal may end with the name of another one, which goes when the transaction is rolled back."""
    words = ("tournament", "random", "random", "--board", "5", "--games", "2", "--name", "cup")
    assert rlab(*words).status == 0
    named = os.fsencode(place / "wicked.py")
    end = len(named).to_bytes(4, "big") + (sum(named) & 0xFFFFFFFF).to_bytes(4, "big")
    (place / "cup" / "games.sqlite-journal").write_bytes(b"\0" * 600 + named + end + bytes.fromhex("d9d505f920a163d7"))
    done = rlab(*words)
    assert done.status == 1
    assert "names another file" in done.err
    assert (place / "wicked.py").exists()
    (place / "cup" / "games.sqlite-journal").unlink()
    (place / "cup" / "games").rename(place / "away")
    (place / "cup" / "games").symlink_to(place)
    assert "games is a link" in rlab(*words).err


def test_weights_take_no_more_than_their_file_holds(tmp_path: Path) -> None:
    import io
    import zipfile

    import torch

    from rlab.agents.sb3.zip_file import import_zip

    def saved(weights: Any, how: int = zipfile.ZIP_DEFLATED, **more: Any) -> Path:
        buffer = io.BytesIO()
        torch.save(weights, buffer, **more)
        with zipfile.ZipFile(tmp_path / "w.zip", "w", how) as archive:
            archive.writestr("policy.pth", buffer.getvalue())
        return tmp_path / "w.zip"

    whole = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}
    found = import_zip(saved(whole))
    assert all(torch.equal(found[name], whole[name]) for name in whole)
    for path in (
        lambda: saved({"a": torch.zeros(1).expand(1 << 31, 2)}),  # 16 GB in four bytes
        lambda: saved(whole, _use_new_zipfile_serialization=False),  # room is made for what its header says
        lambda: saved(whole, zipfile.ZIP_LZMA),
    ):
        with pytest.raises(RlabError, match=r"w\.zip"):
            import_zip(path())
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(250)}, buffer)
    large = buffer.getvalue().replace(b"K\xfa", b"J\xff\xff\xff\x7f")  # says two thousand million in place of 250
    assert large != buffer.getvalue()
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive, zipfile.ZipFile(io.BytesIO(buffer.getvalue())) as inner:
        rebuilt = io.BytesIO()
        with zipfile.ZipFile(rebuilt, "w") as outer:
            for item in inner.infolist():
                content = inner.read(item).replace(b"K\xfa", b"J\xff\xff\xff\x7f")
                outer.writestr(item.filename, content)
        archive.writestr("policy.pth", rebuilt.getvalue())
    with pytest.raises(RlabError, match=r"w\.zip"):
        import_zip(tmp_path / "w.zip")
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "/dev/zero"):
        with pytest.raises(RlabError, match="is no file"):
            import_zip(tmp_path / name)
