"""Finite Markov decision processes as arrays, and environments whose `P` is known.

`model_of` turns Gymnasium's toy-text environments, the ones below, and any environment of a user's that exposes
`P[s][a]` (or `P[s, a]`) into an `MDP`: arrays of outcomes that exact methods solve and `rlab.envs.batched_mdp` samples
from.

Those below are ``rlab/GridWorld-v0`` and ``rlab/CampaignMail-v0``; ``rlab/FrozenLakeSure-v0`` is FrozenLake that is not
slippery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete, Tuple
from numpy.typing import NDArray

from rlab.errors import RlabError, nearest

Outcome = tuple[float, int, float, bool]
"""(probability, next state, reward, terminated), as in Gymnasium's `P`."""

TOLERANCE = 1e-6
"""How far the probabilities of a state and action may be from adding up to 1."""

Grid = tuple[str, ...]


@dataclass(frozen=True)
class Panel:
    """One map of a picture.

    Attributes:
        states: int64[R, C], -1 where there is none.
        rows, columns: what the two directions are called; empty where they are plain places.
        first: (label of row 0, label of column 0).
        rows_fall: the labels of the rows count down.
        letters: str[R, C] drawn into the cells, or None.
    """

    title: str
    states: NDArray[np.int64]
    rows: str = ""
    columns: str = ""
    first: tuple[int, int] = (0, 0)
    rows_fall: bool = False
    letters: NDArray[np.str_] | None = None


@dataclass(frozen=True)
class GridLayout:
    """How values and a policy are drawn.

    Attributes:
        panels: the maps.
        marks: for each action a direction (rows down, columns right) to point an arrow, or a short text.
        legend: what short texts mean.
        across: panels side by side.
    """

    panels: tuple[Panel, ...]
    marks: tuple[tuple[int, int] | str, ...]
    legend: str = ""
    across: int = 4


@dataclass(frozen=True)
class MDP:
    """A finite MDP: S states, A actions, at most K outcomes of each pair; unused outcomes have probability 0.

    Attributes:
        name: for messages.
        probability: float64[S, A, K], adds up to 1 over K.
        next_state: int64[S, A, K].
        reward: float64[S, A, K].
        terminated: bool[S, A, K]; the next state of such an outcome has no value.
        start: float64[S], distribution of the first state.
        limit: steps after which an episode is truncated; 0: never.
        features: int64[S, F], for each state the indices of its features that are 1 (the first is the constant).
        layout: how to draw it, or None.
        encode: (observations [N, *], first bool[N]) -> states int64[N].
    """

    name: str
    probability: NDArray[np.float64]
    next_state: NDArray[np.int64]
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    start: NDArray[np.float64]
    limit: int
    features: NDArray[np.int64]
    layout: GridLayout | None
    encode: Callable[[NDArray[Any], NDArray[np.bool_]], NDArray[np.int64]]

    @property
    def states(self) -> int:
        """S."""
        return self.probability.shape[0]

    @property
    def actions(self) -> int:
        """A."""
        return self.probability.shape[1]

    def reachable(self) -> NDArray[np.bool_]:
        """bool[S]: the states in which an action can ever be taken, from the start, whatever one does."""
        leads = (self.probability > 0) & ~self.terminated
        seen = self.start > 0
        front = np.flatnonzero(seen)
        while front.size:
            after = np.unique(self.next_state[front][leads[front]])
            front = after[~seen[after]]
            seen[front] = True
        return seen


class Transitions(Mapping[Any, Any]):
    """A table of outcomes that is read as `P[s, a]` or, like Gymnasium's, as `P[s][a]`."""

    def __init__(self, table: list[list[list[Outcome]]]):
        self._table = table

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple):
            return self._table[key[0]][key[1]]
        return dict(enumerate(self._table[key]))

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self._table)))

    def __len__(self) -> int:
        return len(self._table)


def model_of(env: gym.Env[Any, Any], name: str = "") -> MDP:
    """The MDP of an environment.

    Raises:
        RlabError: it exposes no `P`, or a table that is not one (the message names state, action and what is wrong).
    """
    name = name or (env.spec.id if env.spec else type(env.unwrapped).__name__)
    inner: Any = env.unwrapped
    limit = (env.spec.max_episode_steps if env.spec else None) or 0
    if type(inner).__name__ == "BlackjackEnv":
        return _blackjack(name, bool(inner.sab), bool(inner.natural), limit)
    if not hasattr(inner, "P"):
        raise RlabError(
            f"'{name}' has no table of transitions `P`, which tabular agents need; {nearest(name, NAMES)}"
            " (for others: rlab train dqn)"
        )
    if not isinstance(inner.action_space, Discrete):
        raise RlabError(f"'{name}' has actions of {inner.action_space}, but tabular agents need Discrete ones")
    sizes = _sizes(name, inner.observation_space)
    states, actions = int(np.prod(sizes)), int(inner.action_space.n)
    table = [[_outcomes(name, inner.P, s, a) for a in range(actions)] for s in range(states)]
    start = np.asarray(getattr(inner, "initial_state_distrib", np.eye(1, states)[0]), np.float64)
    if start.shape != (states,) or abs(start.sum() - 1) > TOLERANCE or (start < 0).any():
        raise RlabError(f"'{name}': initial_state_distrib must be {states} probabilities that add up to 1")
    zero = 0 if not isinstance(inner.observation_space, Discrete) else int(inner.observation_space.start)
    if zero:
        raise RlabError(f"'{name}' numbers its states from {zero}; tabular agents need them from 0")
    return _pack(name, table, start, limit, one_hot(sizes), _layout(inner, sizes), _raveller(sizes))


def one_hot(sizes: tuple[int, ...]) -> NDArray[np.int64]:
    """Features of the states of a MultiDiscrete: a constant, and for each component one indicator per value.

    Returns:
        int64[S, 1 + len(sizes)]: the indices that are 1.
    """
    parts = np.stack(np.unravel_index(np.arange(int(np.prod(sizes))), sizes), axis=1)
    offsets = 1 + np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return np.concatenate([np.zeros((len(parts), 1), np.int64), parts + offsets], axis=1).astype(np.int64)


def _sizes(name: str, space: Any) -> tuple[int, ...]:
    if isinstance(space, Discrete):
        return (int(space.n),)
    if isinstance(space, MultiDiscrete):
        return tuple(int(n) for n in space.nvec.reshape(-1))
    if isinstance(space, Tuple) and all(isinstance(part, Discrete) for part in space.spaces):
        return tuple(int(part.n) for part in space.spaces)  # type: ignore[attr-defined]
    raise RlabError(f"'{name}' has observations of {space}, but tabular agents need Discrete or MultiDiscrete ones")


def _raveller(sizes: tuple[int, ...]) -> Callable[[NDArray[Any], NDArray[np.bool_]], NDArray[np.int64]]:
    def encode(obs: NDArray[Any], first: NDArray[np.bool_]) -> NDArray[np.int64]:
        """[N] or [N, parts] -> [N]."""
        parts = np.asarray(obs).reshape(len(obs), -1).T.astype(np.int64)
        return np.asarray(np.ravel_multi_index(tuple(parts), sizes), np.int64)

    return encode


def _outcomes(name: str, table: Any, state: int, action: int) -> list[Outcome]:
    """One checked entry of a user's `P`."""
    try:
        rows = table[state][action] if not isinstance(table, Transitions) else table[state, action]
    except (KeyError, IndexError, TypeError):
        try:
            rows = table[state, action]  # a dict by pairs
        except (KeyError, IndexError, TypeError):
            raise RlabError(f"'{name}': P has no entry for state {state}, action {action}") from None
    return [(float(p), int(s), float(r), bool(over)) for p, s, r, over in rows]


def _pack(
    name: str,
    table: list[list[list[Outcome]]],
    start: NDArray[np.float64],
    limit: int,
    features: NDArray[np.int64],
    layout: GridLayout | None,
    encode: Callable[[NDArray[Any], NDArray[np.bool_]], NDArray[np.int64]],
) -> MDP:
    """Lists of outcomes as arrays [S, A, K], checked."""
    states, actions = len(table), len(table[0])
    most = max(len(outcomes) for row in table for outcomes in row)
    probability = np.zeros((states, actions, max(1, most)))
    next_state = np.zeros(probability.shape, np.int64)
    reward = np.zeros(probability.shape)
    terminated = np.zeros(probability.shape, bool)
    for s, row in enumerate(table):
        for a, outcomes in enumerate(row):
            where = f"'{name}': state {s}, action {a}"
            total = sum(o[0] for o in outcomes)
            if any(not o[0] >= 0 for o in outcomes) or not abs(total - 1) <= TOLERANCE:
                raise RlabError(
                    f"{where}: probabilities must not be negative and add up to 1, but their sum is {total}"
                )
            for k, (p, after, r, over) in enumerate(outcomes):
                if not 0 <= after < states:
                    raise RlabError(f"{where} leads to state {after}; states are 0..{states - 1}")
                if not np.isfinite(r):
                    raise RlabError(f"{where} has the reward {r}; it must be finite")
                probability[s, a, k] = p / total
                next_state[s, a, k], reward[s, a, k], terminated[s, a, k] = after, r, over
    return MDP(name, probability, next_state, reward, terminated, start, limit, features, layout, encode)


# ---------------------------------------------------------------------------------------------------- gridworld

LEFT, DOWN, RIGHT, UP = range(4)
MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))
"""(rows down, columns right) of the actions left, down, right, up: FrozenLake's order."""

RUSSELL_NORVIG: Grid = ("...G", ".#.X", "S...")
"""The 4x3 world of Russell & Norvig, Artificial Intelligence: A Modern Approach, section 17.1."""

COLOURS = {"S": (205, 225, 245), "G": (90, 180, 90), "X": (200, 80, 80), "#": (90, 90, 90), ".": (240, 240, 240)}


class GridWorld(gym.Env[np.int64, np.int64]):
    """A grid in which a move goes astray: S start, G goal, X pit, # wall, . floor. It exposes `P[s, a]`.

    Args:
        desc: rows of equal length, each a string of those letters, with at least one S.
        slip: probability of going to the left of the intended direction, and of going to the right of it.
        step_reward: paid for every step.
        goal_reward: paid on top for entering G, which ends the episode.
        pit_reward: paid on top for entering X, which ends the episode.
        render_mode: "rgb_array" or None.

    Raises:
        RlabError: a map or a probability that is none.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 - Gymnasium's own name for it

    def __init__(
        self,
        desc: Grid | list[str] = RUSSELL_NORVIG,
        slip: float = 0.1,
        step_reward: float = -0.04,
        goal_reward: float = 1.0,
        pit_reward: float = -1.0,
        render_mode: str | None = None,
    ):
        rows = [str(row) for row in desc]
        if not rows or not rows[0] or any(len(row) != len(rows[0]) for row in rows):
            raise RlabError(f"desc must be rows of one length, but got {rows}")
        unknown = sorted(set("".join(rows)) - set(COLOURS))
        if unknown or "S" not in "".join(rows):
            raise RlabError(f"desc may hold {' '.join(COLOURS)}, with at least one S, but got {rows}")
        if not 0 <= slip <= 0.5:
            raise RlabError(f"slip is {slip}; it must lie between 0 and 0.5, since it counts for each side")
        self.desc = np.array([list(row) for row in rows])
        self.render_mode = render_mode
        enters = {"G": step_reward + goal_reward, "X": step_reward + pit_reward}
        height, width = self.desc.shape

        def outcome(p: float, row: int, column: int, move: int) -> Outcome:
            r, c = row + MOVES[move][0], column + MOVES[move][1]
            if not (0 <= r < height and 0 <= c < width) or self.desc[r, c] == "#":
                r, c = row, column
            letter = str(self.desc[r, c])
            return p, r * width + c, enters.get(letter, step_reward), letter in enters

        table: list[list[list[Outcome]]] = []
        for s in range(height * width):
            row, column = divmod(s, width)
            if self.desc[row, column] in "GX#":  # no action is ever taken here
                table.append([[(1.0, s, 0.0, True)]] * 4)
                continue
            ways = ((1 - 2 * slip, 0), (slip, -1), (slip, 1))
            table.append([[outcome(p, row, column, (a + turn) % 4) for p, turn in ways if p > 0] for a in range(4)])
        self.P = Transitions(table)
        self.initial_state_distrib = (self.desc == "S").reshape(-1) / (self.desc == "S").sum()
        self.observation_space = Discrete(height * width)
        self.action_space = Discrete(4)
        self.s = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Start on one of the S."""
        super().reset(seed=seed)
        self.s = int(self.np_random.choice(len(self.P), p=self.initial_state_distrib))
        return np.int64(self.s), {}

    def step(self, action: Any) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Move, perhaps astray."""
        outcomes = self.P[self.s, int(action)]
        chosen = int(self.np_random.choice(len(outcomes), p=[o[0] for o in outcomes]))
        _, self.s, reward, terminated = outcomes[chosen]
        return np.int64(self.s), reward, terminated, False, {}

    def render(self) -> Any:
        """uint8[32 H, 32 W, 3]."""
        cells = np.array([[COLOURS[str(letter)] for letter in row] for row in self.desc], np.uint8)
        picture = cells.repeat(32, axis=0).repeat(32, axis=1)
        picture[::32], picture[:, ::32] = 160, 160
        row, column = divmod(self.s, self.desc.shape[1])
        picture[32 * row + 9 : 32 * row + 24, 32 * column + 9 : 32 * column + 24] = (40, 70, 160)
        return picture


# ------------------------------------------------------------------------------------------------- CampaignMail


@dataclass(frozen=True)
class Profile:
    """A kind of customer. `urge` and `lift` are log-odds of buying in a month, without mail and added by one."""

    name: str
    share: float
    urge: float
    lift: float
    amount: float


PROFILES = (
    Profile("student", 0.35, -2.6, 1.0, 20.0),
    Profile("family", 0.30, -1.9, 1.3, 45.0),
    Profile("senior", 0.20, -2.3, 0.7, 35.0),
    Profile("business", 0.15, -1.5, 0.5, 70.0),
)

MAIL_COST = 1.5
"""Printing, postage and work of one mail, in the currency of the sales."""

MAIL_LEAVES = (0.003, 0.012, 0.04, 0.10, 0.20)
"""Probability that a mail makes the customer leave for good, by fatigue."""

QUIET_LEAVES = 0.003
"""Probability of leaving without a mail."""

RECENCIES, FREQUENCIES, FATIGUES = 6, 3, len(MAIL_LEAVES)


class CampaignMail(gym.Env[NDArray[np.int64], np.int64]):
    """A sales promotion department decides each month, customer by customer, whether to send a mail.

    An episode is one customer, seen as [profile, months since the last purchase (5: five or more), frequency of
    purchases (0..2), fatigue (0..4)]. Action 1 sends a mail, 0 does not. The reward is sales less the cost of the
    mail. A mail raises the odds of a purchase now, the less the more tired the customer is of mails; each mail adds
    to the fatigue, each month without one takes from it, and a tired customer may leave for good, which ends the
    episode. So whoever only looks at this month's profit mails too much. `P` holds the exact model.

    Args:
        render_mode: "rgb_array" or None.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode
        self.sizes = (len(PROFILES), RECENCIES, FREQUENCIES, FATIGUES)
        self.observation_space = MultiDiscrete(np.array(self.sizes))
        self.action_space = Discrete(2)
        self.P = _campaign()
        # A new customer of a known profile: bought a month ago, seldom, has had no mail.
        start = np.zeros(self.sizes)
        start[:, 1, 0, 0] = [profile.share for profile in PROFILES]
        self.initial_state_distrib = start.reshape(-1)
        self.s = 0
        self._profit = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.int64], dict[str, Any]]:
        """Take the next customer."""
        super().reset(seed=seed)
        self.s = int(self.np_random.choice(len(self.P), p=self.initial_state_distrib))
        self._profit = 0.0
        return self._obs(), {}

    def step(self, action: Any) -> tuple[NDArray[np.int64], float, bool, bool, dict[str, Any]]:
        """Let a month pass."""
        outcomes = self.P[self.s, int(action)]
        chosen = int(self.np_random.choice(len(outcomes), p=[o[0] for o in outcomes]))
        _, self.s, reward, terminated = outcomes[chosen]
        self._profit += reward
        return self._obs(), reward, terminated, False, {}

    def render(self) -> Any:
        """uint8[160, 240, 3]: a bar each for profile, recency, frequency, fatigue and the profit so far."""
        picture = np.full((160, 240, 3), 245, np.uint8)
        parts = [(value + 1) / size for value, size in zip(self._obs(), self.sizes, strict=True)]
        bars = [*parts, min(1.0, max(0.0, self._profit / 500))]
        for i, (part, colour) in enumerate(zip(bars, BARS, strict=True)):
            picture[16 + 28 * i : 32 + 28 * i, 16:224] = 220
            picture[16 + 28 * i : 32 + 28 * i, 16 : 16 + round(208 * part)] = colour
        return picture

    def _obs(self) -> NDArray[np.int64]:
        return np.array(np.unravel_index(self.s, self.sizes), np.int64)


BARS = ((120, 120, 120), (70, 110, 180), (90, 160, 90), (200, 90, 70), (210, 170, 60))


@lru_cache(maxsize=1)
def _campaign() -> Transitions:
    """The exact model: each month the customer leaves, or stays and buys, or stays and does not."""
    sizes = (len(PROFILES), RECENCIES, FREQUENCIES, FATIGUES)
    table: list[list[list[Outcome]]] = []
    for s in range(int(np.prod(sizes))):
        who, recency, frequency, fatigue = (int(i) for i in np.unravel_index(s, sizes))
        profile, row = PROFILES[who], []
        for mail in (0, 1):
            odds = profile.urge - 0.25 * recency + 0.7 * frequency + mail * (profile.lift - 0.35 * fatigue)
            buys = 1 / (1 + np.exp(-odds))
            leaves = MAIL_LEAVES[fatigue] if mail else QUIET_LEAVES
            tired = min(fatigue + 1, FATIGUES - 1) if mail else max(fatigue - 1, 0)
            idle = min(recency + 1, RECENCIES - 1)
            # A habit grows with each purchase and is lost in three idle months.
            bought = np.ravel_multi_index((who, 0, min(frequency + 1, FREQUENCIES - 1), tired), sizes)
            waited = np.ravel_multi_index((who, idle, max(frequency - (idle >= 3), 0), tired), sizes)
            cost = -MAIL_COST * mail
            row.append(
                [
                    (float(leaves), s, cost, True),
                    (float((1 - leaves) * buys), int(bought), cost + profile.amount, False),
                    (float((1 - leaves) * (1 - buys)), int(waited), cost, False),
                ]
            )
        table.append(row)
    return Transitions(table)


# ---------------------------------------------------------------------------------------------------- Blackjack

CARDS = tuple((card, (4 if card == 10 else 1) / 13) for card in range(1, 11))
"""(value, probability) of a card from an infinite deck; 1 is the ace."""

SUMS, SHOWN = 32, 11
NATURAL = SUMS * SHOWN * 2
"""State NATURAL + d: the player's first two cards are an ace and a ten, the dealer shows d."""


def _hit(total: int, ace: bool, card: int) -> tuple[int, bool]:
    """(sum, usable ace) after one more card."""
    hard = total - 10 * ace + card
    usable = (ace or card == 1) and hard + 10 <= 21
    return hard + 10 * usable, usable


@lru_cache(maxsize=16)
def dealer_ends(shown: int) -> dict[tuple[int, bool], float]:
    """Probability of each (final sum, 0 for bust; whether it is an ace and a ten) of a dealer that stands on 17."""
    ends: dict[tuple[int, bool], float] = {}

    def draw(total: int, ace: bool, cards: int, p: float) -> None:
        if cards >= 2 and total >= 17:
            end = (0 if total > 21 else total, cards == 2 and total == 21)
            ends[end] = ends.get(end, 0.0) + p
            return
        for card, chance in CARDS:
            draw(*_hit(total, ace, card), cards + 1, p * chance)

    draw(*_hit(0, False, shown), 1, 1.0)
    return ends


def _stick(total: int, natural: bool, shown: int, s: int, sab: bool, pays: bool) -> list[Outcome]:
    """What sticking leads to, by the rules of gymnasium's Blackjack-v1 (`sab`, and `natural`, here `pays`)."""
    chances: dict[float, float] = {}
    for (dealer, dealers_natural), p in dealer_ends(shown).items():
        reward = float(total > dealer) - float(total < dealer)
        if sab and natural and not dealers_natural:
            reward = 1.0
        elif not sab and pays and natural and reward == 1.0:
            reward = 1.5
        chances[reward] = chances.get(reward, 0.0) + p
    return [(p, s, reward, True) for reward, p in sorted(chances.items())]


def _blackjack(name: str, sab: bool, pays: bool, limit: int) -> MDP:
    """Blackjack with an infinite deck. A first hand of ace and ten is a state of its own, since it pays otherwise."""

    def index(total: int, shown: int, ace: bool) -> int:
        return (total * SHOWN + shown) * 2 + ace

    count = NATURAL + SHOWN
    never: list[list[Outcome]] = [[(1.0, 0, 0.0, True)]] * 2  # of sums that do not occur
    table = [never] * count
    start = np.zeros(count)

    def hit(s: int, total: int, ace: bool, shown: int) -> list[Outcome]:
        outcomes = []
        for card, p in CARDS:
            after, usable = _hit(total, ace, card)
            bust = after > 21
            outcomes.append((p, s if bust else index(after, shown, usable), -1.0 if bust else 0.0, bust))
        return outcomes

    for shown, p_shown in CARDS:
        for ace in (False, True):
            for total in range(12 if ace else 4, 22):
                s = index(total, shown, ace)
                table[s] = [_stick(total, False, shown, s, sab, pays), hit(s, total, ace, shown)]
        s = NATURAL + shown
        table[s] = [_stick(21, True, shown, s, sab, pays), hit(s, 21, True, shown)]
        for one, p_one in CARDS:
            for two, p_two in CARDS:
                total, ace = _hit(*_hit(0, False, one), two)
                start[s if total == 21 else index(total, shown, ace)] += p_shown * p_one * p_two

    ravel = _raveller((SUMS, SHOWN, 2))

    def encode(obs: NDArray[Any], first: NDArray[np.bool_]) -> NDArray[np.int64]:
        """[N, 3] -> [N]."""
        obs = np.asarray(obs)
        return np.where(np.asarray(first) & (obs[:, 0] == 21), NATURAL + obs[:, 1], ravel(obs, first))

    shown_cards = np.arange(1, SHOWN)
    panels = []
    for title, usable, low in (("no usable ace", 0, 4), ("usable ace", 1, 12)):
        sums = np.arange(21, low - 1, -1)
        states = (sums[:, None] * SHOWN + shown_cards) * 2 + usable
        panels.append(Panel(title, states, "player's sum", "dealer shows", (21, 1), True))
    panels.append(
        Panel("ace and ten dealt", (NATURAL + shown_cards)[None], "player's sum", "dealer shows", (21, 1), True)
    )
    features = one_hot((SUMS, SHOWN, 2))
    features = np.concatenate([features, features[[index(21, d, True) for d in range(SHOWN)]]])
    layout = GridLayout(tuple(panels), ("S", "H"), "S stick, H hit")
    return _pack(name, table, start, limit, features, layout, encode)


# -------------------------------------------------------------------------------------------------------- pictures


def _layout(env: Any, sizes: tuple[int, ...]) -> GridLayout | None:
    """How to draw an environment that is known; None: as a table."""
    kind = type(env).__name__
    states = np.arange(int(np.prod(sizes)))
    if kind in ("FrozenLakeEnv", "GridWorld"):
        letters = np.array(env.desc).astype(str)
        return GridLayout((Panel("", states.reshape(letters.shape), letters=letters),), MOVES)
    if kind == "CliffWalkingEnv":
        letters = np.full(env.shape, ".")
        letters[-1, 1:-1], letters[-1, 0], letters[-1, -1] = "C", "S", "G"
        return GridLayout((Panel("", states.reshape(env.shape), letters=letters),), ((-1, 0), (0, 1), (1, 0), (0, -1)))
    if kind == "TaxiEnv":
        cells = states.reshape(5, 5, 5, 4)  # row, column, passenger's place (4: in the taxi), destination
        places = ("R", "G", "Y", "B")
        letters = np.full((5, 5), "")
        for place, (row, column) in zip(places, env.locs, strict=True):
            letters[row, column] = place
        panels = tuple(
            Panel(f"{(*places, 'taxi')[who]} to {places[to]}", cells[:, :, who, to], letters=letters)
            for to in range(4)
            for who in range(5)
        )
        return GridLayout(panels, ((1, 0), (-1, 0), (0, 1), (0, -1), "P", "D"), "P pick up, D drop off", across=5)
    if kind == "CampaignMail":
        cells = states.reshape(sizes)
        panels = tuple(
            Panel(f"{profile.name}, frequency {often}", cells[who, :, often], "months since purchase", "fatigue")
            for often in range(FREQUENCIES)
            for who, profile in enumerate(PROFILES)
        )
        return GridLayout(panels, ("", "M"), "M send a mail")
    return None


NAMES = (
    "FrozenLake-v1",
    "FrozenLake8x8-v1",
    "CliffWalking-v1",
    "Taxi-v4",
    "Blackjack-v1",
    "rlab/FrozenLakeSure-v0",
    "rlab/GridWorld-v0",
    "rlab/CampaignMail-v0",
)
"""Environments that tabular agents are known to play; others need a `P`."""
