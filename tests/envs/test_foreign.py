"""What an environment gives is copied and judged where it enters, and what it raises becomes one sentence."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from rlab.envs import make_vec
from rlab.errors import ForeignError, NonFinite, RlabError

SHARED = np.zeros(3, np.float32)


class Planted(gym.Env[Any, Any]):
    """Shows how many steps were taken, three times, in one array that all copies of it share; 4 steps an episode."""

    observation_space = Box(-100, 100, (3,), np.float32)
    action_space = Box(-1, 1, (2,), np.float32)  # type: ignore[assignment]
    spoil: Callable[[Planted, Any], Any] = lambda self, given: given
    """What becomes of (obs, reward, terminated, truncated, info) of a step."""

    def __init__(self, render_mode: str | None = None):
        self.steps = -1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        SHARED[:] = 0
        return SHARED, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        self.steps += 1
        SHARED[:] = self.t
        action *= 0.5
        given: tuple[Any, float, bool, bool, dict[str, Any]] = type(self).spoil(
            self, (SHARED, 1.0, self.t == 4, False, {})
        )
        return given


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Planted, "spoil", lambda self, given: given)
    gym.register("Planted-v0", entry_point=Planted, disable_env_checker=True)
    yield
    del gym.registry["Planted-v0"]


def test_arrays_that_an_environment_reuses() -> None:
    env = make_vec("Planted-v0", 2, 0)
    first = env.reset()[0]
    seen = [env.step(np.zeros((2, 2), np.float32)) for _ in range(5)]
    assert first.tolist() == [[0] * 3] * 2
    assert [int(obs[0, 0]) for obs, *_ in seen] == [1, 2, 3, 0, 1]
    assert [int(info["final_obs"][1, 2]) for *_, info in seen] == [1, 2, 3, 4, 1]
    env.close()


def test_actions_that_an_environment_changes() -> None:
    env = make_vec("Planted-v0", 2, 0)
    env.reset()
    sent = np.full((2, 2), 0.75, np.float32)
    _, _, _, _, info = env.step(sent)
    assert (info["action"] == 0.75).all()
    assert (sent == 0.75).all()
    env.close()


def test_info_is_free() -> None:
    values = iter([None, 1, "two", np.zeros(3), np.zeros((2, 2)), {}] * 4)
    Planted.spoil = lambda self, given: (*given[:4], {"of any kind": next(values)})  # type: ignore[method-assign]
    env = make_vec("Planted-v0", 2, 0)
    env.reset()
    for _ in range(10):
        env.step(np.zeros((2, 2), np.float32))
    env.close()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("quantity", "at"), [("observation[1]", 1), ("observation[1]", 3), ("reward", 2)])
def test_what_is_no_number_is_named(quantity: str, at: int, value: float) -> None:
    """Among them what an episode's last action led to (at 3), which no policy ever sees."""
    made: list[Planted] = []

    def spoil(self: Planted, given: Any) -> Any:
        if self not in made:
            made.append(self)
        obs, reward, *rest = given
        if self is made[-1] and len(made) == 2 and self.steps == at:
            obs, reward = ([0, value, 0], reward) if quantity != "reward" else (obs, value)
        return obs, reward, *rest

    Planted.spoil = spoil  # type: ignore[method-assign]
    env = make_vec("Planted-v0", 2, 0)
    env.reset()
    action = np.zeros((2, 2), np.float32)
    for _ in range(at):
        env.step(action)
    with pytest.raises(NonFinite) as caught:
        env.step(action)
    assert str(caught.value) == f"{quantity} became {value} at step {at + 1} of copy 1 of 'Planted-v0'"
    env.close()


def test_a_first_observation_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Planted, "reset", lambda self, seed=None, options=None: (np.full(3, np.nan), {}))
    env = make_vec("Planted-v0", 1, 0)
    with pytest.raises(NonFinite, match=r"observation\[0\] became nan at step 0 of copy 0"):
        env.reset()
    env.close()


@pytest.mark.parametrize(
    ("space", "obs", "words"),
    [
        (Box(-1, 1, (3,), np.float32), np.zeros(2, np.float32), r"shape \(2,\), but its space says \(3,\)"),
        (Box(-1, 1, (3,), np.float32), 0.0, r"shape \(\), but its space says \(3,\)"),
        (Box(0, 255, (3,), np.uint8), np.full(3, 0.5), "float64, but its space says uint8"),
        (Discrete(3), 0.5, "float64, but its space says int64"),
    ],
)
def test_an_observation_of_another_kind(space: Any, obs: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Planted, "observation_space", space)
    monkeypatch.setattr(Planted, "reset", lambda self, seed=None, options=None: (obs, {}))
    env = make_vec("Planted-v0", 1, 0)
    with pytest.raises(RlabError, match=f"'Planted-v0' gave an observation of {words}"):
        env.reset()
    env.close()


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(self: Planted, *given: Any, **named: Any) -> Any:
        raise error

    return fail


def gives(*given: Any) -> Callable[..., Any]:
    return lambda self, seen: given


FIVE = np.zeros(3), 1.0, False, False, {}


@pytest.mark.parametrize(
    ("method", "does", "words"),
    [
        (
            "spoil",
            gives(*FIVE[:2], False, {}),
            r"gave 4 values \(ndarray, float, bool, dict\) from step\(\), where Gym",
        ),
        ("spoil", gives(*FIVE[:4], None), r"gave 5 values .*NoneType\) from step"),
        ("spoil", lambda self, seen: np.zeros(3), r"gave an array of float64 of shape \(3,\) from step"),
        (
            "spoil",
            failing(ZeroDivisionError("no\nroom")),
            r"step\(\) of copy 0 of 'Planted-v0' failed: Zero.*: no room",
        ),
        ("spoil", failing(SystemExit(3)), r"step\(\) of copy 0 of 'Planted-v0' failed: SystemExit: 3 \(.*foreign.py"),
        ("spoil", gives(FIVE[0], np.ones(2), *FIVE[2:]), r"gave an array of .* as reward, which must be one number"),
        ("spoil", gives(FIVE[0], None, *FIVE[2:]), "gave None as reward"),
        ("spoil", gives(FIVE[0], "1", *FIVE[2:]), "gave a str as reward"),
        ("spoil", gives(*FIVE[:2], None, False, {}), "gave None as terminated"),
        ("spoil", gives({}, *FIVE[1:]), r"shape \(\), but its space says \(3,\)"),
        ("spoil", gives([[1], [1, 2]], *FIVE[1:]), "gave a list as an observation"),
        ("reset", lambda self, **given: np.zeros(3), r"gave an array .* from reset\(\), where Gymnasium's .*, info\)$"),
        (
            "reset",
            lambda self: (np.zeros(3), {}),
            r"reset\(\) of copy 0 .*TypeError: .*unexpected keyword argument 'seed'",
        ),
        ("__init__", lambda self, render_mode: None, "'Planted-v0' cannot be made: TypeError: .*render_mode"),
        ("__init__", failing(OSError("port taken")), "'Planted-v0' cannot be made: OSError: port taken"),
    ],
)
def test_broken_environments_are_named(method: str, does: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Planted, method, does)

    def run() -> None:
        with contextlib.closing(make_vec("Planted-v0", 1, 0)) as env:
            env.reset()
            env.step(np.zeros((1, 2), np.float32))

    with pytest.raises(ForeignError, match=words) as caught:
        run()
    assert "\n" not in str(caught.value)


def test_numbers_in_arrays_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    given = np.ones(3), np.array([2]), np.array([True]), np.False_, {}
    monkeypatch.setattr(Planted, "spoil", gives(*given))
    with contextlib.closing(make_vec("Planted-v0", 1, 0)) as env:
        env.reset()
        _, reward, terminated, truncated, _ = env.step(np.zeros((1, 2), np.float32))
    assert (reward.tolist(), terminated.tolist(), truncated.tolist()) == ([2], [True], [False])


def test_a_failing_close_is_told_and_the_others_are_closed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Planted, "close", failing(OSError("gone")))
    make_vec("Planted-v0", 2, 0).close()
    assert capsys.readouterr().err.count("rlab: close() of copy") == 2


@pytest.mark.parametrize(
    ("space", "given", "words"),
    [
        (Discrete(3), 3, "observation is 3 at step 0 of copy 0 of 'Planted-v0', but its space goes from 0 to 2"),
        (Discrete(3, start=5), 4, "observation is -1"),
        (MultiDiscrete([2, 3]), np.array([1, 3]), r"observation\[1\] is 3 .* from 0 to 2"),
        (MultiBinary(2), np.array([0, 2], np.int8), r"observation\[1\] is 2"),
        (Box(0, 100, (2,), np.uint8), np.array([0, 101]), r"observation\[1\] is 101"),
        (Box(0, 255, (2,), np.uint8), np.array([0, 256]), "int64, but its space says uint8, which cannot hold that"),
        (Box(0, 255, (2,), np.uint8), np.array([0, -1]), "int64, but its space says uint8, which cannot hold that"),
        (Box(0, 2**64 - 1, (1,), np.uint64), np.array([2**63], np.uint64), "uint64, but its space says int64"),
        (Box(-1, 1, (1,), np.float32), np.array([1e300]), "observation.* became inf"),
    ],
)
def test_observations_outside_their_space(space: Any, given: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Planted, "observation_space", space)
    monkeypatch.setattr(Planted, "reset", lambda self, seed=None, options=None: (given, {}))
    with contextlib.closing(make_vec("Planted-v0", 1, 0)) as env, pytest.raises(RlabError, match=words):
        env.reset()


def test_real_numbers_beyond_their_bounds_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Planted, "observation_space", Box(-1, 2.5, (3,), np.float32))
    with contextlib.closing(make_vec("Planted-v0", 1, 0)) as env:
        env.reset()
        for _ in range(4):
            env.step(np.zeros((1, 2), np.float32))
        (note,) = env.take_notes()
        assert "observation[0] is 3.0 at step 3 of copy 0 of 'Planted-v0', but its space goes from -1.0 to 2.5" in note
        assert env.take_notes() == []


@pytest.mark.parametrize("ends", [False, True])
def test_masks_without_an_action(ends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an episode ends there may be no legal action; elsewhere that is named."""
    monkeypatch.setattr(Planted, "action_space", Discrete(2))
    none, first = {"action_mask": np.zeros(2, np.int8)}, {"action_mask": np.array([1, 0])}
    monkeypatch.setattr(Planted, "reset", lambda self, seed=None, options=None: (np.zeros(3), first))
    monkeypatch.setattr(Planted, "step", lambda self, action: (np.zeros(3), 0.0, False, ends, none))
    with contextlib.closing(make_vec("Planted-v0", 1, 0)) as env:
        env.reset()
        if ends:
            info = env.step(np.zeros(1, np.int64))[4]
            assert (info["action_mask"].tolist(), info["final_mask"].tolist()) == ([[True, False]], [[True, True]])
            return
        with pytest.raises(ForeignError, match=r"\['action_mask'\] allows no action at step 0 of copy 0"):
            env.step(np.zeros(1, np.int64))


RED = np.zeros((4, 6, 3), np.uint8) + np.array([255, 0, 0], np.uint8)


@pytest.mark.parametrize(
    ("pictures", "seen"),
    [
        ([RED], RED),
        ([np.dstack([RED, np.full((4, 6), 9, np.uint8)])], RED),
        ([RED.astype(np.int64)], RED),
        ([RED[..., 0]], np.full((4, 6, 3), 255)),
        ([RED[..., :1]], np.full((4, 6, 3), 255)),
        ([RED / 255], r"gave float64 of shape \(4, 6, 3\) from render\(\), but a picture is uint8"),
        ([RED.astype(np.int64) + 1], "gave int64"),
        ([None], "gave None from render"),
        ([[RED, RED]], r"uint8 of shape \(2, 4, 6, 3\)"),
        ([RED[..., :2]], r"uint8 of shape \(4, 6, 2\)"),
        ([RED[:1]], r"uint8 of shape \(1, 6, 3\)"),
        ([RED, RED[:2]], r"changed the size of its pictures from \(4, 6\) to \(2, 6\)"),
        ([ValueError("no\tdisplay")], r"render\(\) of copy 0 .* failed: ValueError: no display"),
    ],
)
def test_pictures_of_any_kind(pictures: list[Any], seen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def render(self: Planted) -> Any:
        picture = pictures[min(len(shown), len(pictures) - 1)]
        if isinstance(picture, Exception):
            raise picture
        return picture

    shown: list[Any] = []
    monkeypatch.setattr(Planted, "render", render)
    monkeypatch.setattr(Planted, "metadata", {"render_modes": ["rgb_array"]})
    monkeypatch.setattr(Planted, "render_mode", "rgb_array")
    with contextlib.closing(make_vec("Planted-v0", 1, 0, render=True)) as env:
        env.reset()
        if not isinstance(seen, str):
            assert env.frame().dtype == np.uint8
            assert (env.frame() == seen).all()
            return
        for _ in pictures[1:]:
            shown.append(env.frame())
        with pytest.raises(ForeignError, match=seen):
            env.frame()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (lambda self: self.np_random.random(), []),
        (lambda self: np.random.random(), ["not deterministic given its seed"]),  # noqa: NPY002
        (lambda self: id(self) + self.steps, ["not deterministic given its seed"]),
    ],
)
def test_randomness_that_no_seed_decides(source: Any, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Planted, "observation_space", Box(-np.inf, np.inf, (1,), np.float64))
    monkeypatch.setattr(Planted, "spoil", lambda self, given: (np.array([source(self)]), *given[1:]))
    reset = Planted.reset
    monkeypatch.setattr(
        Planted, "reset", lambda self, seed=None, options=None: (np.zeros(1), reset(self, seed=seed)[1])
    )
    with contextlib.closing(make_vec("Planted-v0", 2, 0)) as env:
        notes = env.examine()
    assert len(notes) == len(words)
    assert all(word in note for word, note in zip(words, notes, strict=True))


@pytest.mark.parametrize("wrapper", ["NormalizeObservation", "NormalizeReward"])
def test_normalising_wrappers_are_told(wrapper: str) -> None:
    kind = getattr(gym.wrappers, wrapper)
    gym.register("Normal-v0", entry_point=lambda: kind(gym.make("CartPole-v1")))
    try:
        with contextlib.closing(make_vec("Normal-v0", 1, 0)) as env:
            (note,) = env.examine()
    finally:
        del gym.registry["Normal-v0"]
    assert note.startswith(f"'Normal-v0' is wrapped in {wrapper}, whose running mean")


def test_a_step_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one that catches what it is interrupted by; a step that is quick enough is left alone."""

    def hang(self: Planted, given: Any) -> Any:
        for _ in range(3 if self.t == 2 else 0):
            with contextlib.suppress(Exception):
                time.sleep(5)
        return given

    monkeypatch.setattr(Planted, "spoil", hang)
    started = time.monotonic()
    with contextlib.closing(make_vec("Planted-v0", 1, 0, env_timeout=0.2)) as env:
        env.reset()
        env.step(np.zeros((1, 2), np.float32))
        with pytest.raises(ForeignError, match=r"step\(\) of copy 0 of 'Planted-v0' took longer than .*\(0.2 s\)"):
            env.step(np.zeros((1, 2), np.float32))
    assert time.monotonic() - started < 4
    with ThreadPoolExecutor(1) as pool, pytest.raises(RlabError, match="in the main thread"):
        pool.submit(make_vec, "Planted-v0", 1, 0, env_timeout=1.0).result()
