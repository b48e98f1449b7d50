"""Arguments and wrappers of environments on the command line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rlab.cli.arguments import format_arguments, parse_arguments
from rlab.errors import RlabError
from rlab.run.contract import Stopped


def test_values_are_json_or_text() -> None:
    words = ["a=5", "b=0.1", "c=true", "d=False", "e=None", "f=8x8", "g=", "h=[1, 2]", 'i="5"', "j=x=y", "k=NaN"]
    values = [5, 0.1, True, False, None, "8x8", "", [1, 2], "5", "x=y", "NaN"]
    read = parse_arguments(words)
    assert list(read.values()) == values
    assert list(map(type, read.values())) == list(map(type, values))
    assert parse_arguments(format_arguments(read)) == read
    for wrong in ("map_name", "=5", "two words=5"):
        with pytest.raises(RlabError, match=rf"--env-arg is '{wrong}'; write KEY=VALUE"):
            parse_arguments([wrong])


@pytest.mark.parametrize("agent", ["dqn", "q-learning"])
def test_flags_reach_the_configuration(agent: str, rlab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = SimpleNamespace()

    def begin(recipe: str, config: Any, *_: Any) -> None:
        begun.rules = config.env.rules()
        raise Stopped

    monkeypatch.setattr("rlab.run.lifecycle.start_run", begin)
    flags = ["--env-arg", "map_name=8x8", "--env-arg", "is_slippery=false"]
    rules: dict[str, Any] = {"env_args": {"map_name": "8x8", "is_slippery": False}}
    if agent == "dqn":
        flags += ["--wrapper", "a.b:C", "--wrapper", "d:E", "--max-steps", "9"]
        rules |= {"wrappers": ("a.b:C", "d:E"), "max_steps": 9}
    rlab("train", agent, "--env", "FrozenLake-v1", *flags)
    assert begun.rules == rules


@pytest.mark.parametrize("flag", [["--env-arg", "a=5"], ["--wrapper", "a:B"]])
def test_games_of_the_lab_have_no_such_flags(flag: list[str], rlab: Any) -> None:
    done = rlab("train", "dqn", "--env", "Breakout", *flag)
    assert done.status == 1
    assert "belongs to other Gymnasium environments, and 'Breakout' is not of these" in done.err
