"""MinAtar: the authors' package step by step, and what the engine promises beyond it."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.envs import is_minatar, make_vec
from rlab.envs.minatar import CELL, GAMES, MAX_STEPS, STICKY, MinAtar, MinAtarEngine, asterix, seaquest, space_invaders
from rlab.envs.minatar.common import LEFT, NOOP, RIGHT, below
from rlab.envs.splitmix import uniform
from rlab.errors import RlabError
from tests.processes import LONGEST

STEPS = 20_000
PACKAGE = {game: game.lower() if game != "SpaceInvaders" else "space_invaders" for game in GAMES}

each_game = pytest.mark.parametrize("game", sorted(GAMES))


# ---- Parity with the package `minatar`. It plays with our dice: what it draws comes from the engine's own stream, so
# both must draw the same things in the same order, and a single draw more or less would show at once.


class Dice:
    """Stands in for numpy's RandomState in the package; the words are the engine's way of holding a stream."""

    def __init__(self, word: np.uint64):
        self.word = np.array([word], np.uint64)

    def _many(self, size: int | None, draw: Callable[[], Any]) -> Any:
        return draw() if size is None else np.array([draw() for _ in range(size)])

    def rand(self, size: int | None = None) -> Any:
        return self._many(size, lambda: uniform(self.word, 0))

    def randint(self, low: int, high: int | None = None, size: int | None = None) -> Any:
        low, high = (0, low) if high is None else (low, high)
        return self._many(size, lambda: low + below(self.word, 0, high - low))


def original(game: str, sticky: float, ramping: bool, word: np.uint64) -> Any:
    """The package's game, just begun with our dice."""
    package = pytest.importorskip("minatar", reason="the authors' package is installed by `make test`")
    env = package.Environment(PACKAGE[game], sticky_action_prob=sticky, difficulty_ramping=ramping)
    env.random = env.env.random = Dice(word)
    env.reset()
    return env


def image(env: Any) -> np.ndarray:
    """The package's observation in our form: bool [10, 10, C] -> uint8 [C, 10, 10]."""
    return np.where(env.state().transpose(2, 0, 1), 255, 0).astype(np.uint8)


def choices(game: str, seed: int) -> Callable[[np.ndarray], int]:
    """Random play; in Breakout, where that ends at once, the paddle mostly goes where the ball is."""
    rng = np.random.default_rng(seed)

    def choose(obs: np.ndarray) -> int:
        if game == "Breakout" and rng.random() < 0.9:
            ball, paddle = obs[1].any(axis=0).argmax(), obs[0, 9].argmax()
            return RIGHT if ball > paddle else LEFT if ball < paddle else NOOP
        return int(rng.integers(6))

    return choose


@each_game
@pytest.mark.parametrize("ramping", [True, False], ids=["ramping", "steady"])
def test_every_step_is_that_of_the_package(game: str, ramping: bool) -> None:
    with closing(MinAtar(game, 1, 5, ramping=ramping, minimal=False, max_steps=0)) as envs:
        envs.reset()
        word = np.uint64(123)
        envs.restore({**envs.state(), "rng_keys": np.array([word])})
        obs, _ = envs.reset()  # goes on with the stream, from `word`
        theirs = original(game, 0.1, ramping, word)
        choose = choices(game, 0)
        games = 0
        for _ in range(STEPS):
            assert np.array_equal(obs[0], image(theirs))  # np.testing takes longer than both games
            action = choose(obs[0])
            reward, over = theirs.act(action)
            last = image(theirs)
            if over:
                theirs.reset()
                games += 1
            obs, ours, terminated, truncated, info = envs.step(np.array([action]))
            assert np.array_equal(info["final_obs"][0], last)
            assert (ours[0], terminated[0], truncated[0]) == (reward, over, False)
        assert envs.state()["rng_keys"] == theirs.random.word[0]
        assert games >= (7 if game == "Freeway" else 20)


@pytest.mark.parametrize("game", ["Asterix", "Seaquest", "SpaceInvaders"])
def test_late_in_a_game_too(game: str) -> None:
    """Random play dies early. Here nobody dies: both games go on as if nothing had happened, up to full difficulty."""
    rules = GAMES[game]
    theirs = original(game, 0.0, True, np.uint64(9))
    engine = MinAtarEngine(game, 1)
    seen = engine.buffers()
    engine.reset(None, seen)
    rows, dice = engine.states.rows, theirs.random.word.copy()
    drawn = np.zeros_like(seen.obs)
    rng = np.random.default_rng(1)
    room = {
        seaquest.OURS: seaquest.DIVING,
        seaquest.DIVING: seaquest.FISH,
        seaquest.FISH: seaquest.SUBS,
        seaquest.SUBS: seaquest.THEIRS,
        seaquest.THEIRS: seaquest.END,
    }
    points = []
    for step in range(12_000):
        # Phases of forty steps in one mood: a diver is brought up only by someone who dives and rises.
        mood = step // 40 % 2
        action = int(rng.choice(6, p=[0.1, 0.2, 0.2, 0.2, 0.2, 0.1] if mood else [0.1, 0.1, 0.1, 0.2, 0.3, 0.2]))
        got = rules.step(rows, 0, dice, action, True)
        assert got == theirs.env.act(action)
        theirs.env.terminal = False
        rules.draw(rows, 0, drawn)
        assert np.array_equal(drawn[0], image(theirs))
        points.append(got[0])
        if game == "Seaquest":
            assert all(rows[0, things] < after - things for things, after in room.items())
    assert dice[0] == theirs.random.word[0]
    if game == "Asterix":
        assert rows[0, asterix.SPAWN_EVERY] == 1
    elif game == "Seaquest":
        assert rows[0, seaquest.RAMP] >= 19
        assert max(points) > 1  # six divers were brought up
    else:
        assert rows[0, space_invaders.RAMP] >= 1


# ---- What the engine promises of itself.


def rollout(engine: MinAtarEngine, steps: int, seed: int = 3) -> list[np.ndarray]:
    """Everything that is seen of N copies of random play."""
    rng = np.random.default_rng(0)
    seen = engine.buffers()
    engine.reset(np.arange(engine.num_envs) + seed, seen)
    shown = [seen.obs.copy()]
    for _ in range(steps):
        # One row of choices for all N, so that a copy's do not depend on N.
        seen = engine.buffers()
        engine.step(np.resize(rng.integers(len(engine.rules.actions), size=64), engine.num_envs), seen)
        shown += [seen.obs, seen.reward, seen.terminated, seen.truncated]
    engine.close()
    return shown


@each_game
def test_neither_threads_nor_other_copies_change_anything(game: str) -> None:
    one = rollout(MinAtarEngine(game, 1024, threads=1), 60)
    assert sum(a.sum() for a in one[3::4]) > 0 or game == "Freeway"  # some games ended
    for threads in (2, 3, 4):
        engine = MinAtarEngine(game, 1024, threads=threads)
        assert len(engine._chunks) == threads
        for a, b in zip(one, rollout(engine, 60), strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(one, rollout(MinAtarEngine(game, 5), 60), strict=True):
        np.testing.assert_array_equal(a[:5], b)


def test_copies_do_not_play_alike() -> None:
    engine = MinAtarEngine("Freeway", 512)
    seen = engine.buffers()
    engine.reset(np.zeros(512, np.int64), seen)  # even if their seeds are the same
    assert len(np.unique(seen.obs.reshape(512, -1), axis=0)) > 500


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.sampled_from(sorted(GAMES)),
    st.integers(1, 4),
    st.integers(0, 2**31 - 1),
    st.integers(0, 80),
    st.integers(2, 60),
)
def test_what_was_saved_goes_on_as_it_would_have(game: str, n: int, seed: int, before: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    with closing(MinAtar(game, n, seed, max_steps=limit)) as a, closing(MinAtar(game, n, 0, max_steps=limit)) as b:
        obs, _ = a.reset()
        actions = rng.integers(a.single_action_space.n, size=(before + 40, n))
        for action in actions[:before]:
            obs = a.step(action)[0]
        saved = a.state()
        np.testing.assert_array_equal(b.restore(saved)[0], obs)
        since = saved["steps"].copy()
        for action in actions[before:]:
            (obs, reward, over, late, info), other = a.step(action), b.step(action)
            for x, y in zip((obs, reward, over, late, *info.values()), (*other[:4], *other[4].values()), strict=True):
                np.testing.assert_array_equal(x, y)
            since += 1
            np.testing.assert_array_equal(late, (since == limit) & ~over)
            since[over | late] = 0
            assert set(np.unique(info["final_obs"])) == {0, 255}
            ended = over | late
            np.testing.assert_array_equal((info["final_obs"] != obs).any(axis=(1, 2, 3)) <= ended, True)
        np.testing.assert_array_equal(b.restore(saved)[0], b.restore(saved)[0])
        for name, array in saved.items():
            np.testing.assert_array_equal(b.state()[name], array)


def test_states_that_do_not_fit_and_calls_out_of_turn() -> None:
    with closing(MinAtar("Breakout", 2, 0)) as envs, closing(MinAtar("Freeway", 2, 0)) as other:
        with pytest.raises(RlabError, match=r"call reset\(\) first"):
            envs.state()
        envs.reset()
        other.reset()
        before = envs.state()
        for wrong in (
            {},
            other.state(),
            {**before, "rng_keys": before["rng_keys"][:1]},
            {**before, "steps": np.zeros(2)},
        ):
            with pytest.raises(RlabError, match="this is no state of 2 x MinAtar/Breakout"):
                envs.restore(wrong)
        envs.send(np.zeros(2, np.int64))
        for call in (envs.state, lambda: envs.restore(before)):
            with pytest.raises(RlabError, match="have not been received"):
                call()
        envs.recv()
        envs.restore(before)
        for name, array in envs.state().items():
            np.testing.assert_array_equal(array, before[name])


@each_game
def test_a_limit_truncates_and_shows_the_true_last_observation(game: str) -> None:
    with closing(MinAtar(game, 3, 1, max_steps=4)) as envs:
        first, _ = envs.reset()
        for step in range(1, 9):
            obs, _, terminated, truncated, info = envs.step(np.zeros(3, np.int64))
            assert not terminated.any()  # nothing comes near so early
            assert truncated.all() == truncated.any() == (step % 4 == 0)
            assert (info["final_obs"] is obs) == (step % 4 != 0)
            if step % 4 == 0:
                moved = (info["final_obs"] != obs).any(axis=(1, 2, 3))
                if game in ("Breakout", "Freeway"):
                    assert moved.all()
                else:  # the others wait a while, and always begin alike
                    assert not moved.any()
                    np.testing.assert_array_equal(obs, first)


def test_freeway_is_over_by_its_own_rules() -> None:
    with closing(make_vec("MinAtar/Freeway", 1, 0)) as envs:
        envs.reset()
        lengths = [envs.step(np.zeros(1, np.int64))[2][0] for _ in range(2501)]
        assert lengths.index(True) == 2500
    with closing(make_vec("MinAtar/Freeway", 1, 0, max_frames=2501)) as envs:  # over goes before too late
        envs.reset()
        for _ in range(2501):
            _, _, terminated, truncated, _ = envs.step(np.zeros(1, np.int64))
        assert (terminated[0], truncated[0]) == (True, False)
    assert MAX_STEPS == 5_000


@pytest.mark.parametrize("sticky", [0.0, STICKY, 0.5])
def test_actions_stick_as_often_as_they_should(sticky: float) -> None:
    with closing(MinAtar("SpaceInvaders", 200, 2, sticky=sticky, minimal=False)) as envs:
        envs.reset()
        rng = np.random.default_rng(0)
        stuck = total = 0
        for _ in range(200):
            before = envs.state()["last_action"]
            actions = (before + rng.integers(1, 6, 200)) % 6  # never the one before
            envs.step(actions)
            now = envs.state()["last_action"]
            assert ((now == before) | (now == actions)).all()
            stuck += int((now == before).sum())
            total += 200
    assert abs(stuck / total - sticky) <= 4.5 * np.sqrt(sticky * (1 - sticky) / total)


def test_action_sets() -> None:
    counts = {game: len(rules.actions) for game, rules in GAMES.items()}
    assert counts == {"Asterix": 5, "Breakout": 3, "Freeway": 3, "Seaquest": 6, "SpaceInvaders": 4}
    for game in GAMES:
        theirs = original(game, 0.0, True, np.uint64(0))
        assert list(GAMES[game].actions) == theirs.minimal_action_set()
        assert len(GAMES[game].channels) == theirs.state_shape()[2]


@pytest.mark.parametrize(
    ("name", "actions", "channels"),
    [
        ("MinAtar/Breakout", 3, 4),
        ("MinAtar/Breakout-v1", 3, 4),
        ("MinAtar/Breakout-v0", 6, 4),
        ("minatar/breakout", 3, 4),
        ("MinAtar/SpaceInvaders", 4, 6),
        ("MinAtar/space_invaders", 4, 6),
        ("MinAtar/Seaquest", 6, 10),
        ("MinAtar/Asterix", 5, 4),
        ("MinAtar/Freeway", 3, 7),
    ],
)
def test_names(name: str, actions: int, channels: int) -> None:
    assert is_minatar(name)
    with closing(make_vec(name, 2, 0)) as envs:
        assert envs.single_action_space.n == actions
        assert envs.single_observation_space.shape == (channels, 10, 10)
        assert envs.reset()[0].dtype == np.uint8


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("MinAtar/Braekout", "unknown environment 'MinAtar/Braekout'; nearest: MinAtar/Breakout"),
        ("MinAtar/", "unknown environment 'MinAtar/'; valid|nearest"),
        ("MinAtar/Pong", "unknown environment 'MinAtar/Pong'.*MinAtar/"),
        ("MinAtar/Breakout-v5", "valid: MinAtar/Breakout, MinAtar/Breakout-v0, MinAtar/Breakout-v1"),
        ("MinAtr/Breakout", "unknown environment 'MinAtr/Breakout'; nearest: MinAtar/Breakout"),
    ],
)
def test_an_unknown_name_is_told_the_nearest(name: str, words: str) -> None:
    with pytest.raises(RlabError, match=words):
        make_vec(name, 1, 0)


def test_options() -> None:
    with closing(make_vec("MinAtar/Asterix", 2, 0, ramping=False, sticky=0.0, max_frames=7)) as envs:
        assert (envs._engine.rules.ramping, envs._engine.rules.sticky, envs._engine.rules.max_steps) == (False, 0.0, 7)
    with closing(make_vec("MinAtar/Asterix", 2, 0)) as envs:
        assert (envs._engine.rules.ramping, envs._engine.rules.sticky) == (True, STICKY)
    for options in ({"sticky": 1.0}, {"max_steps": -1}):
        with pytest.raises(RlabError, match=next(iter(options))):
            MinAtar("Asterix", 1, 0, **options)  # type: ignore[arg-type]
    with pytest.raises(RlabError, match="ramping belongs to MinAtar"):
        make_vec("Breakout", 1, 0, ramping=False)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_steps_with_threads_of_its_own() -> None:
    engine = MinAtarEngine("Breakout", 1024, threads=2)
    expected = rollout(MinAtarEngine("Breakout", 1024, threads=1), 5)
    rollout(engine, 5)
    seen = engine.buffers()
    engine.step(np.zeros(1024, np.int64), seen)  # threads are there, and stay behind

    def child(results: Any) -> None:
        results.put(all(np.array_equal(a, b) for a, b in zip(expected, rollout(engine, 5), strict=True)))

    context = multiprocessing.get_context("fork")
    results = context.Queue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork beside threads
        process = context.Process(target=child, args=(results,))
        process.start()
    assert results.get(timeout=LONGEST)
    process.join()
    engine.close()


@each_game
def test_pictures(game: str) -> None:
    with closing(make_vec(f"MinAtar/{game}", 2, 0, render=True)) as envs:
        obs, _ = envs.reset()
        frame = envs.frame()
        assert frame.shape == (10 * CELL, 10 * CELL, 3)
        assert frame.dtype == np.uint8
        cells = frame[::CELL, ::CELL]
        np.testing.assert_array_equal((cells != 16).any(axis=-1), obs[0].any(axis=0))
        assert envs.metadata["render_fps"] > 0
