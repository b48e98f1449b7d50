"""What an environment gives is copied and looked at where it enters: reused arrays, changed actions, NaN."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from rlab.envs import make_vec
from rlab.errors import NonFinite, RlabError

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
