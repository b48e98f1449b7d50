"""The floors of the house, by what its files import and call: nothing here runs the code it judges."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from rlab.errors import RlabError
from rlab.run import folder as folders

ROOT = Path(__file__).parents[1]
PACKAGES = ("rlab",)
FILES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))

BASE = tuple(f"rlab.{m}" for m in ("errors", "kernels", "machine", "registry", "seeding", "stats", "trust"))
"""What every floor may stand on."""

FLOORS: list[tuple[str, ...]] = [
    BASE,
    ("rlab.nn", "rlab.data", "rlab.run", "rlab.envs"),
    ("rlab.agents", "rlab.tasks"),
    ("rlab.compress", "rlab.parallel", "rlab.compare", "rlab.bench", "rlab.studies", "rlab.api", "rlab"),
    ("rlab.cli", "rlab.__main__"),
]
"""From the ground to the roof. A module imports from its own floor (of some rooms only, see below) and down."""

NEIGHBOURS = {
    "rlab.nn": ("rlab.data",),
    "rlab.data": (),
    "rlab.run": (),
    "rlab.envs": (),
    "rlab.agents": ("rlab.tasks",),
    "rlab.tasks": (),
}
"""Rooms of the lower floors -> rooms of their own floor that they may use; the others stand apart."""

UNSAFE_CALLS = ("eval", "exec", "compile", "__import__")
UNSAFE_MODULES = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml")
UNSAFE_ATTRIBUTES = ("yaml.load", "torch.package", "pandas.read_pickle", "torch.jit.load")
TELLING = ("load", "package", "read_pickle", "read_array", "write_array", "save")
"""Last parts of what is looked for; only these are written out in full, which takes long."""


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> tuple[int, str] | None:
    """(floor, room) of a module of ours; the longest matching name decides."""
    best: tuple[int, str] | None = None
    for floor, rooms in enumerate(FLOORS):
        for room in rooms:
            if (module == room or module.startswith(room + ".")) and (best is None or len(room) > len(best[1])):
                best = (floor, room)
    return best


def walk(tree: ast.AST, into_functions: bool, into_typing: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not into_functions and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if not into_typing and isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                yield from (other, *walk(other, into_functions, into_typing))
            continue
        yield node
        yield from walk(node, into_functions, into_typing)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports_of(path: Path, into_functions: bool = True, into_typing: bool = True) -> frozenset[str]:
    """Full names of the modules that a file imports, ``from package import module`` resolved."""
    found = set()
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in walk(tree_of(path), into_functions, into_typing):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found.add(base)
            for alias in node.names:
                name = f"{base}.{alias.name}"
                file = ROOT / Path(*name.split("."))
                if file.is_dir() or file.with_suffix(".py").is_file():
                    found.add(name)
    return frozenset(found)


def ours(names: frozenset[str]) -> set[str]:
    return {n for n in names if n.partition(".")[0] in PACKAGES}


by_file = pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))


def test_there_is_a_house() -> None:
    assert len(FILES) > 30


@by_file
def test_imports_point_down(path: Path) -> None:
    module = module_of(path)
    here = room_of(module)
    assert here is not None, f"{module} belongs to no floor; give it one in this test"
    floor, room = here
    for name in ours(imports_of(path)):
        if room == "rlab.cli" and name == "rlab":
            continue
        there = room_of(name)
        assert there is not None, f"{module} imports {name}, which belongs to no floor"
        assert there[0] <= floor, f"{module} imports {name}, which lies above it"
        if there[0] == floor and there[1] != room and room in NEIGHBOURS:
            assert there[1] in NEIGHBOURS[room], f"{module} imports {name}, another room of its floor"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions count. Only a package whose `__init__.py` gathers its own modules may stand in one."""
    modules = {module_of(p): p for p in FILES if p.name != "__init__.py"}
    imported = {name: imports_of(path, into_typing=False) & set(modules) for name, path in modules.items()}
    TopologicalSorter(imported).prepare()  # raises CycleError, which names the circle


def test_nobody_imports_the_roof() -> None:
    for path in FILES:
        if not module_of(path).startswith(("rlab.cli", "rlab.__main__")):
            assert not [n for n in imports_of(path) if n.startswith("rlab.cli")], path


@pytest.mark.parametrize("path", [p for p in FILES if module_of(p).startswith("rlab.envs")], ids=lambda p: p.stem)
def test_environments_know_no_torch(path: Path) -> None:
    assert not [n for n in imports_of(path) if n.partition(".")[0] in ("torch", "stable_baselines3")]


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if p.stem in ("config", "recipes") or module_of(p) in ("rlab", *BASE, "rlab.cli", "rlab.agents")],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_configuration_imports_no_torch_by_itself(path: Path) -> None:
    names = imports_of(path, into_functions=False, into_typing=False)
    assert not [n for n in names if n.partition(".")[0] in ("torch", "safetensors", "gymnasium", "ale_py")]


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import rlab.agents.recipes", ("torch", "gymnasium", "ale_py", "safetensors")),
        ("import rlab.agents.config, rlab.run.config", ("torch", "gymnasium")),
        ("import rlab", ("torch", "numpy", "gymnasium")),
        ("import rlab.cli", ("torch", "numpy", "gymnasium")),
        ("import rlab.run.folder, rlab.run.metrics, rlab.run.signals", ("torch", "gymnasium")),
        ("import rlab.envs.make", ("torch", "numba")),
        ("import rlab.envs; rlab.envs.make_vec('CartPole-v1', 1, 0).close()", ("torch", "stable_baselines3", "numba")),
    ],
)
def test_importing_stays_cheap(code: str, absent: tuple[str, ...]) -> None:
    show = f"{code}\nimport sys\nprint([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == ""
    assert done.stdout == "[]\n"


@by_file
def test_every_file_says_what_it_is_for(path: Path) -> None:
    text = path.read_text()
    if not text.strip() and path.name == "__init__.py":
        pytest.fail("an empty __init__.py: one line can say what the room is for")
    assert ast.get_docstring(tree_of(path))


@by_file
def test_nothing_is_unpickled_or_evaluated(path: Path) -> None:
    tree = tree_of(path)
    names = imports_of(path)
    assert not [n for n in names if n.partition(".")[0] in UNSAFE_MODULES]
    safe: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            # Such a name would hide from what follows.
            hidden = (*UNSAFE_ATTRIBUTES, "numpy.load", "torch.load")
            assert not [a.name for a in node.names if f"{node.module}.{a.name}" in hidden]
        if isinstance(node, ast.Attribute) and node.attr in TELLING:
            assert ast.unparse(node) not in UNSAFE_ATTRIBUTES, f"line {node.lineno}"
            loads = ast.unparse(node) == "torch.load"  # a call is walked before its own name
            assert not loads or node in safe, f"line {node.lineno}: torch.load under another name"
        if not isinstance(node, ast.Call):
            continue
        named = isinstance(node.func, ast.Name) or (isinstance(node.func, ast.Attribute) and node.func.attr in TELLING)
        called = ast.unparse(node.func) if named else ""
        assert called not in UNSAFE_CALLS, f"line {node.lineno}"
        if called == "torch.load":
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert given.get("weights_only") == "True", f"line {node.lineno}"
            safe.add(node.func)
        if called in ("np.load", "numpy.load", "np.lib.format.read_array", "np.lib.format.write_array", "np.save"):
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert given.get("allow_pickle") == "False", f"line {node.lineno}"


@by_file
def test_no_bare_except_and_no_swallowed_everything(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        assert node.type is not None, f"bare except in line {node.lineno}"
        caught = ast.unparse(node.type)
        if "Exception" in caught.split(".")[-1:] or "BaseException" in caught:
            silent = all(isinstance(s, (ast.Pass, ast.Continue)) for s in node.body)
            assert not silent, f"line {node.lineno} swallows everything"


@by_file
def test_no_search_path_is_bent(path: Path) -> None:
    """One exception: a console script looks for a user's own plug-ins in the current directory."""
    if module_of(path) == "rlab.registry":
        return
    if re.search(r"\bsys\b|\bsite\b", path.read_text()):  # to write a tree out takes long
        text = ast.unparse(tree_of(path))
        assert "sys.path" not in text
        assert "site.addsitedir" not in text


LINKS = {"agents": "rlab/agents", "envs": "rlab/envs"}
"""Links at the top level, for readers; nothing imports through them."""


@pytest.mark.parametrize("name", LINKS)
def test_links_show_the_packages(name: str) -> None:
    assert (ROOT / name).is_symlink()
    assert str((ROOT / name).readlink()) == LINKS[name]


def test_nothing_imports_through_links() -> None:
    """Programs in strings and examples in pages count."""
    names = "|".join(LINKS)
    through = re.compile(rf"^\W*(from ({names})(\.[\w.]+)? import|import ([\w.]+, *)*({names})\b(?! *=))", re.MULTILINE)
    assert through.search("    import sys, envs\n")
    pages = [*ROOT.glob("*.md"), *(p for room in ("rlab", "tests", "docs") for p in (ROOT / room).rglob("*.py"))]
    found = {str(p.relative_to(ROOT)): through.search(p.read_text()) for p in [*pages, *(ROOT / "docs").rglob("*.md")]}
    assert not {path: match[0] for path, match in found.items() if match}


def test_tools_walk_no_link() -> None:
    shown = subprocess.run([sys.executable, "-m", "ruff", "check", "--show-files", "."], capture_output=True, cwd=ROOT)
    files = [Path(line).relative_to(ROOT) for line in shown.stdout.decode().splitlines()]
    assert Path("rlab/envs/make.py") in files
    assert not [path for path in files if path.parts[0] in LINKS]


def test_runs_are_no_package() -> None:
    assert not list((ROOT / "runs/reference").rglob("*.py"))
    assert not (ROOT / "runs/__init__.py").exists()


@pytest.mark.parametrize("place", ["", "mine/runs"])
def test_runs_never_land_among_shipped(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(folders.SHIPPED)
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path / "link" / place))
    with pytest.raises(RlabError, match="set RLAB_RUNS to another folder"):
        folders.runs_dir()
    assert folders.RunFolder(tmp_path / "link" / "go5").shipped


def test_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
