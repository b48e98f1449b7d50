"""``rlab completion bash|zsh|fish``: completion of verbs, flags and names in a shell. Imports no torch."""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from types import ModuleType
from typing import Annotated

from rlab.cli import VERBS
from rlab.cli.common import parse, value_of
from rlab.cli.flags import Arg, Flag, flags_of
from rlab.errors import Misspelt, RlabError, nearest

SHELLS = {
    "bash": """_rlab() {
    local IFS=$'\\n'
    COMPREPLY=($(compgen -W "$(rlab completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "$2"))
}
complete -o default -F _rlab rlab
""",
    "zsh": """#compdef rlab
_rlab() {
    local -a words_here
    words_here=(${(f)"$(rlab completion words -- "${(@)words[2,$CURRENT]}" 2>/dev/null)"})
    (( $#words_here )) && compadd -a words_here || _files
}
compdef _rlab rlab
""",
    "fish": """function __rlab_words
    rlab completion words -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null
end
complete -c rlab -a "(__rlab_words)"
""",
}
"""Shell -> the script that asks `rlab completion words` for what may come next."""

HOW = {
    "bash": 'eval "$(rlab completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(rlab completion zsh)"   # in ~/.zshrc, after compinit',
    "fish": "rlab completion fish > ~/.config/fish/completions/rlab.fish",
}


@dataclass(frozen=True)
class Flags:
    """Print the script that lets a shell complete verbs, flags, agents, environments, data sets and names of runs."""

    shell: Annotated[str, Arg("bash|zsh|fish", positional=True)] = ""
    """The shell; without it, how the script is put to use."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    if argv[:2] == ["words", "--"]:  # asked by the scripts
        for word in candidates(list(argv[2:])):
            print(word)
        return 0
    flags = parse(Flags, "completion", argv)
    if not flags.shell:
        print("\n".join(HOW.values()))
        return 0
    if flags.shell not in SHELLS:
        raise Misspelt(f"there is no completion for '{flags.shell}'; {nearest(flags.shell, SHELLS)}")
    print(SHELLS[flags.shell], end="")
    return 0


NAMES_RUN = ("--start", "--like", "--encoder", "--teacher", "--policy", "--value", "--rollout", "--play", "--with")
"""Flags whose value is a run's name."""

SUB_VERBS = {
    "bench": (
        *("backbones", "breakout-gpu", "data", "detection", "envs", "generative", "go", "go-solved", "gpu"),
        *("roofline", "sequences", "speed", "wavenet", "words"),
    ),
    "data": ("list", "get", "verify", "show", "augmentations", "from-run"),
    "runs": ("list", "show", "rm", "pack", "repair"),
    "study": ("list", "run", "report", "judge", "counts"),
}
"""Verbs whose first word is one of these."""


def candidates(words: list[str]) -> list[str]:
    """What may stand in the place of the last word, given those before it (after ``rlab``)."""
    *before, current = words or [""]
    with contextlib.suppress(RlabError):
        found = list(VERBS) if not before else _of_verb(before, current)
        return sorted({word for word in found if word.startswith(current)})
    return []


def _of_verb(before: list[str], current: str) -> list[str]:
    verb, rest = before[0], before[1:]
    if verb not in VERBS:
        return []
    flags = _flags(verb, rest)
    asked = next((flag for flag in flags if rest and rest[-1] in flag.spellings and flag.hint is not bool), None)
    if asked is not None:
        return _values(asked)
    if current.startswith("-"):
        return [spelling for flag in flags for spelling in flag.spellings] + ["--help"]
    if verb in SUB_VERBS and not rest:
        return list(SUB_VERBS[verb])
    if any(flag.arg.positional and flag.name.strip("[").startswith("RUN") for flag in flags):
        return _runs()
    if verb == "data" and rest[0] in ("get", "verify", "show"):
        return _rows("data")
    if verb == "study" and rest[0] == "run":
        return _rows("studies")
    if verb == "train" and not rest:
        return _rows("agents") + _rows("models")
    if verb in ("list", "completion") and not rest:
        from rlab.cli.listing import KINDS

        return list(KINDS if verb == "list" else SHELLS)
    return []


def _flags(verb: str, rest: list[str]) -> list[Flag]:
    """The flags of a verb, or of the verb below it."""
    if verb == "train":
        return _flags_of_train(rest)
    from rlab.cli import module_of

    module = module_of(verb)
    kind = _dataclass(module, rest[0].replace("-", "") if rest else "") or _dataclass(module, "flags")
    return flags_of(kind) if kind else []


def _flags_of_train(rest: list[str]) -> list[Flag]:
    from rlab.cli.train import flag_table
    from rlab.recipes import load_recipes

    recipes = load_recipes()
    if not rest or rest[0] not in recipes:
        return []
    recipe = recipes.get(rest[0])
    subject = next((value_of(rest, f"--{part}") or "" for part in recipe.subject), "")
    return flag_table(recipe.default(subject), bool(subject))


def _dataclass(module: ModuleType, name: str) -> type | None:
    """The flags' type of that name, in upper or lower case."""
    found = (kind for key, kind in vars(module).items() if name and key.lower() == name)
    return next((kind for kind in found if isinstance(kind, type) and is_dataclass(kind)), None)


def _values(flag: Flag) -> list[str]:
    """Values that a flag may have, as far as they are known without torch."""
    if flag.name in ("--env", "--envs", "--for"):
        return _rows("envs")
    if flag.name == "--data":
        return _rows("data")
    if flag.name == "--agents":
        return _rows("agents")
    if typing.get_origin(flag.hint) is typing.Literal:
        return list(typing.get_args(flag.hint))
    return _runs() if flag.name in NAMES_RUN else []


def _rows(kind: str) -> list[str]:
    from rlab.cli.listing import KINDS

    return [row["name"] for row in KINDS[kind]()]


def _runs() -> list[str]:
    from rlab.run.folder import runs_dir

    base = runs_dir()  # by their folders alone: configurations are not read
    mine = [path.name for path in base.iterdir() if (path / "config.json").is_file()] if base.is_dir() else []
    return ["latest", *(name for name in mine if name.isprintable() and not any(c.isspace() for c in name))]
