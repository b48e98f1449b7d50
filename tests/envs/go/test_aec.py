"""Go for PettingZoo: its own tests of an environment, and what they do not ask."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from rlab.envs.go.aec import AGENTS, GoAEC, env
from rlab.envs.go.planes import PLANES
from rlab.errors import RlabError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # they import a game of PettingZoo's in its old way
    from pettingzoo.test import api_test, seed_test
    from pettingzoo.test.bombardment_test import bombardment_test
    from pettingzoo.test.render_test import render_test
    from pettingzoo.utils.wrappers import BaseWrapper

DICTS = (
    "Observation is not a NumPy array",
    "Observation space for each agent probably should be gymnasium.spaces.box or gymnasium.spaces.discrete",
    "Action mask numpy array is all zeros",  # of a game that is over
)
"""What its test says of every environment with masks whose name it does not know, those of PettingZoo itself."""


@pytest.fixture
def headless(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr("rlab.envs.go.aec.FPS", 1_000)
    with warnings.catch_warnings():
        for words in DICTS:
            warnings.filterwarnings("ignore", words, UserWarning)
        yield


class Bare(BaseWrapper):
    """Planes alone, sampled moves made legal, and `step` returns what is seen next.

    In PettingZoo 1.27 the bombardment test fails on every environment with masks, its own too: it compares dicts as
    arrays, and takes what `step` returns for an observation.
    """

    def observation_space(self, agent: str) -> Any:
        return self.env.observation_space(agent)["observation"]

    def observe(self, agent: str) -> Any:
        return self.env.observe(agent)["observation"]

    def step(self, action: Any) -> Any:
        mask = self.env.observe(self.env.agent_selection)["action_mask"]
        super().step(action if action is None or mask[action] else int(mask.argmax()))
        return self.observe(self.env.agent_selection)


@pytest.mark.parametrize("size", [5, 9])
def test_pettingzoos_own_tests(size: int, headless: None) -> None:
    np.random.seed(0)  # noqa: NPY002 - they draw from these
    random.seed(0)
    api_test(env(size=size), num_cycles=300)
    api_test(GoAEC(size=size, cap=30), num_cycles=100)
    seed_test(lambda: env(size=size), num_cycles=100)
    bombardment_test(Bare(env(size=size)), cycles=30)


def test_pettingzoos_test_of_pictures(headless: None) -> None:
    render_test(lambda **options: env(size=5, **options))


def play(game: Any, *actions: int | None) -> None:
    for action in actions:
        game.step(action)


def test_both_are_paid_at_the_end() -> None:
    for komi, rewards in [(24.5, (1.0, -1.0)), (25.0, (0.0, 0.0)), (25.5, (-1.0, 1.0))]:
        game = env(size=5, komi=komi)
        game.reset()
        play(game, 12, 25)
        assert game.unwrapped._cumulative_rewards == dict.fromkeys(AGENTS, 0.0)
        play(game, 25)
        assert tuple(game.unwrapped.rewards.values()) == rewards
        for _ in AGENTS:
            agent = game.agent_selection
            obs, reward, over, cut, _ = game.last()
            assert (reward, over, cut) == (rewards[AGENTS.index(agent)], True, False)
            assert not obs["action_mask"].any()
            game.step(None)
        assert game.agents == []


def test_each_sees_its_own_side_and_masks_are_the_movers() -> None:
    game = env(size=5, komi=3.0)
    game.reset()
    play(game, 0)
    black, white = (game.observe(agent) for agent in AGENTS)
    assert black["observation"].shape == (len(PLANES), 5, 5)
    assert (black["observation"][0, 0, 0], black["observation"][1, 0, 0]) == (1, 0)
    assert (white["observation"][0, 0, 0], white["observation"][1, 0, 0]) == (0, 1)
    assert (black["observation"][-1, 0, 0], white["observation"][-1, 0, 0]) == pytest.approx((-0.2, 0.2))
    assert (int(black["action_mask"].sum()), int(white["action_mask"].sum())) == (0, 25)
    for agent in AGENTS:
        assert game.observe(agent) in game.observation_space(agent)
    assert game.agent_selection == "white_0"


def test_what_is_not_legal_is_told_and_alters_nothing() -> None:
    game = env(size=5)
    game.reset(seed=3)
    play(game, 12)
    before = {name: array.copy() for name, array in game.unwrapped.boards.games._asdict().items()}
    for action, words in [
        (12, "there is a stone on C3"),
        (26, "26 is no point of a 5x5 board"),
        (-1, "-1 is no point"),
        (None, "a whole number from 0 to 25, not None"),
        (1.0, "not 1.0"),
        (True, "not True"),
    ]:
        with pytest.raises(RlabError, match=words):
            game.step(action)
        assert game.agent_selection == "white_0"
    for name, array in game.unwrapped.boards.games._asdict().items():
        np.testing.assert_array_equal(array, before[name])
    play(game, np.int64(13))
    assert game.agent_selection == "black_0"


def test_superko_and_a_second_game() -> None:
    game = env(size=5)
    game.reset()
    # Black B5 A4 B3 around B4; White C5 D4 C3 around C4; White B4 is taken by Black C4.
    moves = [1, 2, 5, 8, 11, 12, 24, 6, 7]
    play(game, *moves)
    assert game.observe("white_0")["action_mask"][6] == 0
    with pytest.raises(RlabError, match="superko"):
        game.step(6)
    game.reset()
    assert game.observe("black_0")["action_mask"].all()
    play(game, *moves[:8])
    assert game.unwrapped.boards.stones()[0, 1, 1] == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 1}, "2 to 19 wide"),
        ({"komi": 0.25}, "komi is 0.25"),
        ({"cap": 1}, "cap is 1"),
        ({"render_mode": "ascii"}, "unknown render mode 'ascii'"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RlabError, match=words):
        env(**options)


def test_options_change_nothing_and_pictures_need_a_mode() -> None:
    game = env(size=5)
    game.reset(options={"komi": 1})
    assert game.unwrapped.boards.setting.komi == 24.5
    with pytest.raises(RlabError, match="no picture without"):
        game.unwrapped.render()


def test_without_the_package_one_sentence_says_so() -> None:
    code = """
        import sys
        sys.modules["pettingzoo"] = None
        try:
            import rlab.envs.go.aec
        except Exception as e:
            print(type(e).__name__, e)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("RlabError rlab.envs.go.aec needs the package pettingzoo")
