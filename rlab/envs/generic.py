"""Any registered Gymnasium environment, N times, in the lab's own shape; the one place where foreign code enters."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import DependencyNotInstalled
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from numpy.typing import NDArray

from rlab.envs.vector import StepResult, VecEnv
from rlab.errors import ForeignError, NonFinite, RlabError, one_line, printable

NORMALISING = ("NormalizeObservation", "NormalizeReward")
"""Wrappers whose running statistics are in no checkpoint."""

WIDER = dict.fromkeys(("uint16", "uint32", "uint64"), np.dtype(np.int64))
"""Numbers that torch can do little with -> those that they are kept as."""

TRIAL = 3
"""Steps after each of the two resets that `Generic.examine` compares."""


class Generic(VecEnv):
    """Any Gymnasium environment, N times, stepped one after the other: observations [N, *] as it gives them.

    This is where foreign code enters. So whatever an environment gives or is given is copied at once: it may reuse its
    arrays, and change the action that it gets. Gymnasium's own ``SyncVectorEnv`` resets before it has copied. An
    observation or a reward that is NaN or Inf is refused before anybody can learn from it, and so is a whole number
    outside its space; what the environment raises becomes a `ForeignError`, one sentence.

    Discrete and MultiDiscrete observations and actions count from 0, whatever their space starts at. A Tuple of
    Discrete observations (Blackjack's) becomes a MultiDiscrete one, of several axes one of a single axis, single
    numbers (a Box of shape ()) become vectors of one, and uint16 to uint64 become int64. An environment that reports
    ``info["action_mask"]`` (integers or booleans [A]) must do so on every reset and step, and allow an action wherever
    the game goes on. Nothing else in an info is read.

    Args:
        env_id: a registered Gymnasium id.
        num_envs: N.
        seed: of the first reset.
        render: make the environments with ``render_mode="rgb_array"`` for ``frame()``.
        max_steps: truncate episodes after so many steps, in place of the environment's own limit.
        make: makes a copy in place of ``gymnasium.make(env_id, ...)``; see `rlab.envs.maker`.
        env_timeout: seconds that one reset or step of one environment may take; None: any time.

    Raises:
        RlabError: a space that the lab cannot use, a missing package, no rgb_array mode though asked for, or a time
            limit outside the main thread, where none can be kept.
        ForeignError: the environment cannot be made.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        seed: int,
        *,
        render: bool = False,
        max_steps: int | None = None,
        env_timeout: float | None = None,
        make: Callable[..., gym.Env[Any, Any]] | None = None,
    ):
        if env_timeout is not None and threading.current_thread() is not threading.main_thread():
            raise RlabError(
                f"env_timeout is {env_timeout:g}, but a time limit can only be kept in the main thread; nearest: None"
            )
        self._id = env_id
        self._timeout = env_timeout
        make = partial(make_env, env_id, make)
        if render:
            _require_pictures(env_id, make)
        options: dict[str, Any] = {"render_mode": "rgb_array"} if render else {}  # not every environment takes a None
        if max_steps is not None:
            options["max_episode_steps"] = max_steps
        self._envs: list[gym.Env[Any, Any]] = []
        try:
            for _ in range(num_envs):
                self._envs.append(make(**options))
            spaces = [getattr(self._envs[0], name, None) for name in ("observation_space", "action_space")]
            obs_space, self._obs_start = _observations(env_id, spaces[0])
            actions, self._action_start = _actions(env_id, spaces[1])
        except RlabError:
            self._close()
            raise
        super().__init__(num_envs, obs_space, actions, seed, render)
        shape, dtype = obs_space.shape, obs_space.dtype
        assert shape is not None
        assert dtype is not None
        self._shape, self._dtype = shape, dtype
        self.observation_start, self.action_start = self._obs_start, self._action_start
        self._real = np.issubdtype(dtype, np.inexact)  # whole numbers are never NaN
        self._bounds = _bounds(obs_space)
        theirs = self._envs[0].observation_space.shape
        self._given_shape = self._shape if theirs is None else theirs  # a Tuple's is None
        self._action_shape = self._envs[0].action_space.shape
        self._steps = 0  # since all were reset
        self._notes: list[str] = []
        self._left_space = False
        self._picture: tuple[int, ...] | None = None
        spec = self._envs[0].spec
        self.endless = spec is not None and spec.max_episode_steps is None
        fps = (self._envs[0].metadata or {}).get("render_fps")
        if isinstance(fps, (int, float)) and 0 < fps < 1000:
            self.metadata["render_fps"] = fps

    def examine(self) -> list[str]:
        """See `VecEnv.examine`: names wrappers with a memory, and compares what two resets with one seed lead to."""
        notes, env = [], self._envs[0]
        while isinstance(env, gym.Wrapper):
            for kind in type(env).__mro__:
                if kind.__name__ in NORMALISING:
                    notes.append(
                        f"'{self._id}' is wrapped in {kind.__name__}, whose running mean and variance are in no "
                        "checkpoint: each copy has its own, evaluations begin with none, and a resume cannot be exact; "
                        "nearest: constants, with TransformObservation or TransformReward"
                    )
            env = env.env
        first, second = self._trial(), self._trial()
        if not notes and not all(np.array_equal(a, b) for a, b in zip(first, second, strict=True)):
            notes.append(
                f"'{self._id}' is not deterministic given its seed: two resets with one seed led to different steps "
                "(it draws from a generator that reset(seed=...) does not seed), so that the same seed will not give "
                "the same run, and a resume cannot be exact; nearest: draw from self.np_random"
            )
        return notes

    def _trial(self) -> list[NDArray[Any]]:
        """What a reset and the first steps give."""
        obs, info = self.reset(seed=0)
        seen = [obs]
        space = self.single_action_space
        for _ in range(TRIAL):
            if isinstance(space, Box):
                middle = np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)
                action = np.broadcast_to(middle, (self.num_envs, *space.shape))
            else:
                mask = info.get("action_mask")
                action = np.zeros(self.num_envs, np.int64) if mask is None else mask.argmax(1)
            obs, reward, terminated, truncated, info = self.step(action)
            seen += [obs, reward, terminated, truncated]
        return seen

    def take_notes(self) -> list[str]:
        """See `VecEnv.take_notes`."""
        notes, self._notes = self._notes, []
        return notes

    def _reset(self, seeds: NDArray[np.int64] | None) -> tuple[NDArray[Any], dict[str, Any]]:
        self._steps = 0
        self._masked = False
        obs = np.empty((self.num_envs, *self._shape), self._dtype)
        mask: NDArray[np.bool_] | None = None
        for i in range(self.num_envs):
            given, info = self._start(i, None if seeds is None else int(seeds[i]))
            self._put(obs, i, given)
            if i == 0 and "action_mask" in info:
                self._masked = True
                mask = np.empty((self.num_envs, self.num_actions), bool)
            if mask is not None:
                mask[i] = self._mask(i, info, over=False)
        self._check("observation", obs)
        return obs, {} if mask is None else {"action_mask": mask}

    def _send(self, actions: NDArray[Any]) -> None:
        self._actions = actions

    def _recv(self) -> StepResult:
        n = self.num_envs
        # What an environment does to its action must not reach what is logged.
        actions = self._actions + self._action_start if self._action_start else self._actions.copy()
        of_box = isinstance(self.single_action_space, Box)
        shape = self._action_shape
        final_obs, rewards = np.empty((n, *self._shape), self._dtype), np.empty(n)
        terminated, truncated = np.empty(n, bool), np.empty(n, bool)
        final_mask = np.empty((n, self.num_actions), bool) if self._masked else None
        for i, env in enumerate(self._envs):
            step = self._call("step()", i, env.step, actions[i].reshape(shape) if of_box else actions[i])
            if not (isinstance(step, tuple) and len(step) == 5 and isinstance(step[4], Mapping)):
                raise self._broke(i, f"gave {_kinds(step)} from step(), where Gymnasium's environments give "
                                     "(observation, reward, terminated, truncated, info)")  # fmt: skip
            given, reward, ended, cut, info = step
            self._put(final_obs, i, given)
            rewards[i] = reward if type(reward) is float else self._single("reward", i, reward)
            terminated[i] = ended if type(ended) is bool else self._single("terminated", i, ended)
            truncated[i] = cut if type(cut) is bool else self._single("truncated", i, cut)
            if final_mask is not None:
                final_mask[i] = self._mask(i, info, over=bool(terminated[i] or truncated[i]))
        self._steps += 1
        with np.errstate(over="ignore"):  # what float32 cannot hold is Inf, and refused as such
            reward = rewards.astype(np.float32)
        self._check("observation", final_obs)
        self._check("reward", reward)
        obs, mask = final_obs, final_mask
        ended = np.flatnonzero(terminated | truncated)
        if len(ended):
            obs = final_obs.copy()
            mask = None if final_mask is None else final_mask.copy()
            for i in ended.tolist():
                given, info = self._start(i, None)
                self._put(obs, i, given)
                if mask is not None:
                    mask[i] = self._mask(i, info, over=False)
            self._check("observation", obs)
        own: dict[str, Any] = {
            "final_obs": final_obs,
            "raw_reward": reward,
            "action": self._actions,
            "life_lost": np.zeros(n, bool),
        }
        if mask is not None:
            own |= {"action_mask": mask, "final_mask": final_mask}
        return obs, reward, terminated, truncated, own

    def _start(self, i: int, seed: int | None) -> tuple[Any, Mapping[str, Any]]:
        """(observation, info) of a reset of copy i."""
        given = self._call("reset()", i, self._envs[i].reset, seed=seed)
        if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Mapping)):
            raise self._broke(
                i, f"gave {_kinds(given)} from reset(), where Gymnasium's environments give (observation, info)"
            )
        return given[0], given[1]

    def _call(self, what: str, i: int, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a method of copy i; what it raises becomes one sentence."""
        try:
            if self._timeout is None:
                return method(*args, **kwargs)
            with _time_limit(self._timeout):
                return method(*args, **kwargs)
        except RlabError:  # an environment of the lab's own
            raise
        except DependencyNotInstalled as e:
            raise RlabError(f"{what} of '{self._id}' needs a package that is missing: {e}") from e
        except _OutOfTime as e:
            raise ForeignError(
                f"{what} of copy {i} of '{self._id}' took longer than --env-timeout allows ({self._timeout:g} s)"
            ) from e
        except (Exception, SystemExit) as e:
            raise ForeignError(f"{what} of copy {i} of '{self._id}' failed: {one_line(e)}") from e

    def _broke(self, i: int, text: str) -> ForeignError:
        return ForeignError(f"copy {i} of '{self._id}' {text}")

    def _single(self, what: str, i: int, given: Any) -> float:
        """A reward, or whether an episode ended, as one number."""
        value = np.asarray(given) if not isinstance(given, (list, dict)) else np.empty(0)
        if value.size != 1 or value.dtype.kind not in "biuf":
            raise self._broke(i, f"gave {_kinds(given)} as {what}, which must be one number")
        return float(value.reshape(()))

    def _put(self, rows: NDArray[Any], i: int, given: Any) -> None:
        """Copy what copy i observes to its row, counted from 0."""
        usual = type(given) is np.ndarray and given.dtype == self._dtype and given.shape == self._shape
        if usual and self._obs_start is None:
            rows[i] = given
            return
        try:
            # A Tuple space's observation is a tuple.
            shape = np.shape(given)
            if self._obs_start is not None and shape == self._given_shape:
                given = given - self._obs_start
        except (TypeError, ValueError):
            raise self._broke(i, f"gave {_kinds(given)} as an observation, but its space says {self._dtype}") from None
        if shape != self._given_shape:
            raise ForeignError(
                f"'{self._id}' gave an observation of shape {shape}, but its space says {self._given_shape}"
            )
        if shape != self._shape:
            given = np.reshape(given, self._shape)
        kind = np.asarray(given).dtype
        if np.can_cast(kind, self._dtype, "same_kind" if self._real else "safe"):
            with np.errstate(over="ignore"):
                rows[i, ...] = given
            return
        held = kind.kind in "biuf" and np.asarray(given).astype(
            self._dtype
        )  # numbers of another type that fit are fine
        if held is False or not np.array_equal(held, given):
            raise ForeignError(
                f"'{self._id}' gave an observation of {kind}, but its space says {self._dtype}, which cannot hold that"
            )
        rows[i, ...] = held

    def _check(self, quantity: str, values: NDArray[Any]) -> None:
        """Refuse NaN and Inf in values[N, *], and whole numbers outside the space; note other numbers outside."""
        if (self._real or quantity == "reward") and not np.isfinite(values).all():
            at = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
            raise NonFinite(_place(quantity, at), float(values[at]), self._where(at[0]))
        if quantity == "reward" or self._bounds is None or self._left_space:
            return
        low, high = self._bounds
        if (values >= low).all() and (values <= high).all():
            return
        at = tuple(int(i) for i in np.argwhere((values < low) | (values > high))[0])
        within = [np.broadcast_to(bound, self._shape)[at[1:]] for bound in (low, high)]
        value = f"{_place(quantity, at)} is {values[at]} at {self._where(at[0])}"
        text = f"{value}, but its space goes from {within[0]} to {within[1]}"
        if not self._real:
            raise ForeignError(text)
        self._left_space = True  # a little beyond is common, and networks take any number
        self._notes.append(f"{text}; it is used as it is (told once)")

    def _where(self, i: int) -> str:
        return f"step {self._steps:,} of copy {i} of '{self._id}'"

    def _mask(self, i: int, info: Mapping[str, Any], over: bool) -> NDArray[np.bool_]:
        """Legal actions bool[A] of copy i; where an episode is `over` there may be none, and then all are named."""
        mask = np.asarray(info.get("action_mask"))
        if mask.shape != (self.num_actions,) or mask.dtype.kind not in "biuf":
            raise ForeignError(
                f"'{self._id}' must report info['action_mask'] as an array [{self.num_actions}] on every step"
            )
        if mask.any():
            return mask.astype(bool)
        if not over:
            raise ForeignError(
                f"info['action_mask'] allows no action at {self._where(i)}, where the episode goes on; an episode "
                "without a legal action must end (terminated or truncated)"
            )
        return np.ones(self.num_actions, bool)  # nobody acts here, and a mean or maximum over nothing is no number

    def _frame(self) -> NDArray[np.uint8]:
        given = self._call("render()", 0, self._envs[0].render)
        picture: NDArray[Any] = np.asarray(given) if not isinstance(given, (dict, type(None))) else np.empty(0)
        whole = picture.dtype.kind in "iu" and picture.size > 0 and picture.min() >= 0 and picture.max() <= 255
        channels = picture.shape[2] if picture.ndim == 3 else 1
        if not whole or picture.ndim not in (2, 3) or channels not in (1, 3, 4) or min(picture.shape[:2]) < 2:
            found = f"{picture.dtype} of shape {picture.shape}" if picture.size else _kinds(given)
            raise ForeignError(
                f"'{self._id}' gave {found} from render(), but a picture is uint8 [height, width, 3] (or 4, or grey)"
            )
        if self._picture not in (None, picture.shape[:2]):
            raise ForeignError(
                f"'{self._id}' changed the size of its pictures from {self._picture} to {picture.shape[:2]}, which a "
                "film cannot"
            )
        self._picture = picture.shape[:2]
        if channels == 1:
            picture = picture.reshape(*picture.shape[:2], 1).repeat(3, axis=2)
        return np.array(picture[..., :3], np.uint8)  # a fourth channel says how opaque it is

    def _close(self) -> None:
        for i, env in enumerate(self._envs):
            try:
                self._call("close()", i, env.close)
            except RlabError as e:  # what was learned is not lost by it, and the others must be closed, too
                print(f"rlab: {printable(e)}", file=sys.stderr)


def make_env(env_id: str, make: Callable[..., gym.Env[Any, Any]] | None = None, **options: Any) -> gym.Env[Any, Any]:
    """One environment of a registered id, or made by `make`; what its constructor raises becomes one sentence.

    Raises:
        RlabError: a package is missing.
        ForeignError: it cannot be made.
    """
    try:
        # Gymnasium's checker warns and goes on; what matters is refused here.
        return gym.make(env_id, disable_env_checker=True, **options) if make is None else make(**options)
    except RlabError:
        raise
    except DependencyNotInstalled as e:
        raise RlabError(f"'{env_id}' needs a package that is missing: {e}") from e
    except (Exception, SystemExit) as e:
        raise ForeignError(f"'{env_id}' cannot be made: {one_line(e)}") from e


class _OutOfTime(BaseException):
    """Raised in foreign code that takes too long. No `Exception`, which it may catch."""


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Interrupt what runs in the main thread after so many seconds, and again each time it goes on all the same."""

    def interrupt(number: int, frame: object) -> None:
        raise _OutOfTime

    handler = signal.signal(signal.SIGALRM, interrupt)
    before = signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)
        signal.signal(signal.SIGALRM, handler)


def _kinds(given: Any) -> str:
    """What something is, in words, for messages."""
    if isinstance(given, tuple):
        return f"{len(given)} values ({', '.join(type(value).__name__ for value in given)})"
    if isinstance(given, np.ndarray):
        return f"an array of {given.dtype} of shape {given.shape}"
    return "None" if given is None else f"a {type(given).__name__}"


def _place(quantity: str, at: tuple[int, ...]) -> str:
    return f"{quantity}[{', '.join(map(str, at[1:]))}]" if at[1:] else quantity


def _require_pictures(env_id: str, make: Callable[..., gym.Env[Any, Any]]) -> None:
    # Asked of a plain copy first: Gymnasium only warns when a render mode is unknown.
    env = make()
    modes = (env.metadata or {}).get("render_modes") or []
    with suppress(Exception):
        env.close()
    if "rgb_array" not in modes:
        raise RlabError(f"'{env_id}' has no rgb_array render mode, so there is no picture of it")


def _bounds(space: Space[Any]) -> tuple[Any, Any] | None:
    """(low, high) that numbers of a space lie between; None where nothing can lie outside."""
    if isinstance(space, Box):
        low, high = space.low, space.high
        if np.issubdtype(space.dtype, np.integer):
            info = np.iinfo(space.dtype)
            if (low == info.min).all() and (high == info.max).all():
                return None
        elif not (np.isfinite(low).any() or np.isfinite(high).any()):
            return None
        # One number is compared faster than an array.
        return tuple(b.flat[0] if (b == b.flat[0]).all() else b for b in (low, high))  # type: ignore[return-value]
    if isinstance(space, Discrete):
        return 0, int(space.n) - 1
    return 0, space.nvec - 1 if isinstance(space, MultiDiscrete) else 1


def _observations(env_id: str, space: Space[Any] | None) -> tuple[Space[Any], Any]:
    """(what the lab takes for the space of observations, what is subtracted from them or None)."""
    if isinstance(space, Discrete):
        return Discrete(int(space.n)), int(space.start) or None
    if isinstance(space, MultiDiscrete):
        return MultiDiscrete(space.nvec.ravel(), dtype=space.dtype), space.start if space.start.any() else None
    if isinstance(space, Box | MultiBinary) and 0 in (space.shape or ()):
        raise RlabError(f"'{env_id}' has observations of {space}, which hold no number to learn from")
    if isinstance(space, Box):
        shape, dtype = space.shape or (1,), WIDER.get(space.dtype.name, space.dtype)
        if shape == space.shape and dtype == space.dtype:
            return space, None
        low, high = space.low.reshape(shape), space.high.reshape(shape)
        if dtype != space.dtype:
            low, high = (np.minimum(bound.astype(object), np.iinfo(dtype).max).astype(dtype) for bound in (low, high))
        return Box(low, high, shape, dtype), None
    if isinstance(space, MultiBinary):
        return space, None
    if isinstance(space, Tuple) and space.spaces and all(isinstance(part, Discrete) for part in space.spaces):
        parts: Any = space.spaces
        starts = np.array([int(part.start) for part in parts])
        return MultiDiscrete([int(part.n) for part in parts]), starts if starts.any() else None
    raise RlabError(
        f"'{env_id}' has observations of {space}, but the lab needs Box, Discrete or Multi* ones; nearest: "
        "gymnasium.wrappers.FlattenObservation"
    )


def _actions(env_id: str, space: Space[Any] | None) -> tuple[int | Box, int]:
    """(number of actions or Box, what is added to them)."""
    if isinstance(space, Discrete):
        return int(space.n), int(space.start)
    if isinstance(space, Box) and np.issubdtype(space.dtype, np.floating):
        if 0 in space.shape:
            raise RlabError(f"'{env_id}' has actions of {space}, which hold no number to choose")
        if space.shape == ():
            return Box(space.low.reshape(1), space.high.reshape(1), (1,), space.dtype), 0
        return space, 0
    raise RlabError(f"'{env_id}' has actions of {space}, but the lab's agents need Discrete or Box ones of floats")
