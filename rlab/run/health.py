"""Training health: rules that read a run's log and warn of what goes wrong, with a likely cause and what to try.

It knows no algorithm: a rule applies wherever a learner reports the metrics that it needs. What it says of a line
depends on that line and those before it only, so a resumed run is warned as the unbroken one is. Speed is the
exception: clocks differ from run to run, so a drop is shown, but neither stored nor remembered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rlab.errors import RlabError

CALM = 5
"""Lines in a row without the sign after which a warning is taken back."""

MEMORY = 50
"""Lines that `Seen.usual` looks back, about."""

WARNING = "warning"
"""The kind of a row of metrics.jsonl that holds a warning, or takes one back."""

Row = Mapping[str, Any]
"""A line of the log: metric -> value."""


@dataclass
class History:
    """The history of a metric in a few numbers, the present line included.

    Attributes:
        lines: that had it.
        low, high: its lowest and highest value.
        usual: geometric mean of its size, over about the last `MEMORY` lines (0 counts as 1e-30).
    """

    lines: int = 0
    low: float = math.inf
    high: float = -math.inf
    usual: float = 0.0

    def add(self, value: float) -> None:
        """Take in one more value."""
        size = math.log(max(abs(value), 1e-30))
        old = math.log(self.usual) if self.lines else size
        self.lines += 1
        self.low, self.high = min(self.low, value), max(self.high, value)
        self.usual = math.exp(old + (size - old) / min(self.lines, MEMORY))


Past = Mapping[str, History]
"""Metric -> what it has been; it has every metric that the rule needs, and others that were reported."""


@dataclass(frozen=True)
class Rule:
    """A rule that recognises a sign of bad training.

    Attributes:
        name: what users and rows call it.
        needs: metrics without which a line says nothing about it.
        bad: whether a line shows the sign; pure.
        lines: how many lines in a row must show it: one may be chance.
        saw: the line's numbers in words.
        cause: what is probably wrong.
        advice: what to try.
        collapse: whether nothing more is to be expected of the run (`--stop-on-collapse` ends it).
    """

    name: str
    needs: tuple[str, ...]
    bad: Callable[[Row, Past], bool]
    lines: int
    saw: Callable[[Row, Past], str]
    cause: str
    advice: str
    collapse: bool


@dataclass(frozen=True)
class Warned:
    """A warning that was raised at a line of the log, or taken back there (`raised` False)."""

    rule: str
    step: int
    raised: bool
    saw: str = ""
    cause: str = ""
    advice: str = ""
    collapse: bool = False

    def row(self) -> dict[str, Any]:
        """The row of metrics.jsonl."""
        fields = asdict(self) if self.raised else {"rule": self.rule, "step": self.step, "raised": False}
        return {"kind": WARNING, **fields}

    def text(self) -> str:
        """One line for the live view."""
        if not self.raised:
            return f"warning taken back at {self.step:,}: {self.rule}"
        return f"warning at {self.step:,}: {self.rule}: {explained(self.row())}"


def explained(warning: Row) -> str:
    """Explain a warning in words from its row: what was seen, why, and what to try."""
    return f"{warning['saw']}; likely cause: {warning['cause']}; try: {warning['advice']}"


class Collapsed(RlabError):
    """A warning of collapse under ``--stop-on-collapse``: the run halts, and the last good checkpoint stays.

    Attributes:
        warning: what was seen.
    """

    def __init__(self, warning: Warned, unit: str):
        self.warning = warning
        super().__init__(f"training collapsed at {warning.step:,} {unit} ({warning.rule}): {explained(warning.row())}")


class Health:
    """Watch the lines of a log by rules. Each warning is raised once, and again only after it was taken back.

    Args:
        rules: what to watch for.
        saved: `state` of a health whose lines these go on from.
    """

    def __init__(self, rules: Iterable[Rule], saved: Mapping[str, Any] | None = None):
        self.rules = tuple(rules)
        saved = saved or {"seen": {}, "rules": {}}
        self._watched = {name for rule in self.rules for name in rule.needs}
        self._seen = {name: History(**values) for name, values in saved["seen"].items()}
        # rule -> [bad lines in a row, good lines in a row, whether its warning is raised]
        self._marks: dict[str, list[int]] = {name: list(marks) for name, marks in saved["rules"].items()}

    @property
    def suspicious(self) -> bool:
        """Whether the last lines showed a collapse that has not been confirmed yet."""
        marks = ((rule, self._marks.get(rule.name)) for rule in self.rules)
        return any(rule.collapse and m is not None and m[0] > 0 and not m[2] for rule, m in marks)

    def update(self, row: Row) -> list[Warned]:
        """Take in a line with its "step"; return what it raises and what it takes back."""
        for name in self._watched:
            if name in row:
                self._seen.setdefault(name, History()).add(row[name])
        changes = []
        for rule in self.rules:
            if all(name in row for name in rule.needs):
                marks = self._marks.setdefault(rule.name, [0, 0, 0])
                bad = rule.bad(row, self._seen)
                marks[0], marks[1] = (marks[0] + 1, 0) if bad else (0, marks[1] + 1)
                if not marks[2] and marks[0] >= rule.lines:
                    marks[2] = 1
                    saw = rule.saw(row, self._seen)
                    changes.append(Warned(rule.name, row["step"], True, saw, rule.cause, rule.advice, rule.collapse))
                elif marks[2] and marks[1] >= CALM:
                    marks[2] = 0
                    changes.append(Warned(rule.name, row["step"], False))
        return changes

    def state(self) -> dict[str, Any]:
        """All that later warnings depend on, as JSON."""
        marks = {name: list(marks) for name, marks in self._marks.items()}
        return {"seen": {name: asdict(history) for name, history in self._seen.items()}, "rules": marks}


class Pace:
    """Watch the speed of this process by a rule on "steps_per_s"; nothing of it is kept.

    Args:
        rule: given a line each `seconds` of work.
        seconds: shorter times say little: an evaluation or a save may fall into one.
    """

    def __init__(self, rule: Rule, seconds: float = 10.0):
        self._health = Health((rule,))
        self._seconds = seconds
        self._done, self._spent = 0, 0.0

    def update(self, at: int, done: int, seconds: float) -> list[Warned]:
        """Take in that `done` was done in `seconds`, up to progress `at`; return warnings, if it is time to look."""
        self._done += done
        self._spent += seconds
        if self._spent < self._seconds:
            return []
        row = {"step": at, "steps_per_s": self._done / self._spent}
        self._done, self._spent = 0, 0.0
        return [warned for warned in self._health.update(row) if warned.raised]


def warnings_in(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The warnings among a run's rows, oldest first: the rows that raised them, each with `until`.

    `until` is the step at which the warning was taken back, None while it stands.
    """
    warnings: list[dict[str, Any]] = []
    for row in rows:
        if row["kind"] == WARNING and row["raised"]:
            warnings.append({**row, "until": None})
        elif row["kind"] == WARNING:
            for warning in warnings:
                if warning["rule"] == row["rule"] and warning["until"] is None:
                    warning["until"] = row["step"]
    return warnings


# The rules --------------------------------------------------------------------------------------------------------

REACH = 5.0
"""Times the largest reward that a value may stand for, as a reward at every step. Exactly 1 is possible; the maximum
over noisy estimates goes somewhat beyond it in healthy runs (van Hasselt et al. 2016)."""

DEAD = 0.75
"""Share of units that are silent on a whole batch; up to about a half is usual (Sokar et al. 2023, figure 2)."""

APART = 1e-5
"""Action gap over mean value below which actions differ in the last digits of float32 only (epsilon 1.2e-7)."""

STEEP = 100.0
"""Gradient norms up to here are harmless whatever they were before: clipping takes care of them."""

EPISODES = 20
"""Ended episodes after which a terminal, and a reward where returns are not 0, must have been seen."""

SILENT = 0.1
"""Nats below which the code of an example says next to nothing: one fair coin has 0.69."""

PATIENCE = 300
"""Ended episodes without any reward that are too many even for a sparse one (an outcome of 1 in 100: 5 % luck)."""


NARROW = 0.05
"""Deviation of samples over that of the data below which they are one mode; two far apart have most of it."""

WIDE = 0.2
"""Deviation of samples that a generator has once it has begun to learn; its first samples may all be alike."""

SLOW = 20
"""Lines after which a generator whose samples were always alike has not begun late, but never will."""

WON = 0.995
"""Accuracy of a discriminator that is nearly never wrong; on small images healthy ones reach 0.95."""


def _no_reward(row: Row, past: Past) -> bool:
    if past["reward_size"].high > 0:
        return False
    returned = past.get("return_mean")
    clipped = returned is not None and (returned.low, returned.high) != (0, 0)
    return row["episodes"] >= (EPISODES if clipped else PATIENCE)


def _no_terminals(row: Row, past: Past) -> bool:
    # A limit of time cuts episodes at one and the same length, without a terminal, and rightly so.
    lengths = past["episode_length"]
    return past["terminals"].high == 0 and row["episodes"] >= EPISODES and lengths.low < lengths.high


def _settled(row: Row, past: Past) -> bool:
    # A solved task may well be played without chance, so returns must lie low among what they have been.
    low, high = past["return_mean"].low, past["return_mean"].high
    moved = high - low > 0.1 * max(abs(low), abs(high))
    return row["policy_spread"] < 1e-3 and moved and row["return_mean"] < low + 0.25 * (high - low)


def _narrow(row: Row, past: Past) -> bool:
    spread = past["sample_spread"]
    return row["sample_spread"] < NARROW and (spread.high >= WIDE or spread.lines > SLOW)


def _steep(row: Row, past: Past) -> bool:
    norm, usual = row["grad_norm"], past["grad_norm"]
    return norm > 1e6 or (usual.lines >= 10 and norm > STEEP and norm > 1000 * usual.usual)


RULES = (
    Rule(
        name="q-drift",
        needs=("value_rate", "reward_size"),
        bad=lambda row, past: row["value_rate"] > REACH * past["reward_size"].high > 0,
        lines=2,
        saw=lambda row, past: (
            f"the largest value stands for a reward of {row['value_rate']:.3g} at every step, while the largest reward "
            f"so far was {past['reward_size'].high:.3g}: values diverge"
        ),
        cause="a learning rate that is too large, or targets that follow the values too fast",
        advice="--learning-rate ten times smaller; then a larger --target-every or --double (dqn), a smaller --gamma",
        collapse=True,
    ),
    Rule(
        name="gradient-explosion",
        needs=("grad_norm",),
        bad=_steep,
        lines=3,
        saw=lambda row, past: (
            f"the gradient's norm is {row['grad_norm']:.3g} before clipping, usual were {past['grad_norm'].usual:.3g}"
        ),
        cause="a learning rate that is too large, or rewards of a very large size",
        advice="--learning-rate ten times smaller, a smaller --max-grad-norm, or rewards scaled to about 1",
        collapse=True,
    ),
    Rule(
        name="dead-units",
        needs=("dead_units",),
        bad=lambda row, past: row["dead_units"] > DEAD,
        lines=2,
        saw=lambda row, past: f"{row['dead_units']:.0%} of the network's units are silent whatever they are shown",
        cause="a learning rate that is too large has pushed them below 0 for good, or observations are constant",
        advice="--learning-rate ten times smaller, --encoder auto-norm (LayerNorm), scaled observations",
        collapse=True,
    ),
    Rule(
        name="no-reward",
        needs=("reward_size", "episodes"),
        bad=_no_reward,
        lines=3,
        saw=lambda row, past: (
            f"no reward reaches the learner: all of them were 0 in {row['episodes']:,.0f} episodes"
            + (f", whose raw returns are {row['return_mean']:.3g}" if row.get("return_mean") else "")
        ),
        cause="rewards are clipped, scaled or wrapped away, or too rare to be found by chance",
        advice="print the rewards of a random player; take a wrapper off; for rare rewards explore longer "
        "(--epsilon-fraction, noisy-dqn) or shape them",
        collapse=True,
    ),
    Rule(
        name="no-terminals",
        needs=("terminals", "episodes", "episode_length"),
        bad=_no_terminals,
        lines=3,
        saw=lambda row, past: (
            f"the share of terminals in what is learned from is 0, although {row['episodes']:,.0f} episodes ended, "
            f"after {past['episode_length'].low:.4g} to {past['episode_length'].high:.4g} steps"
        ),
        cause="a wrong done flag: ends are reported as truncated, or not at all, so values bootstrap beyond them",
        advice="have the environment's step() return terminated=True where the task is over, truncated=True only at "
        "a limit of time",
        collapse=True,
    ),
    Rule(
        name="too-many-terminals",
        needs=("terminals", "episode_length"),
        bad=lambda row, past: row["terminals"] > 0.5 and row["episode_length"] > 20,
        lines=3,
        saw=lambda row, past: (
            f"{row['terminals']:.0%} of the steps learned from are terminals, although episodes last "
            f"{row['episode_length']:.4g} steps"
        ),
        cause="a wrong done flag: it is inverted, or stays set after an end, so nothing is learned from what follows",
        advice="have the environment's step() return terminated=True at the last step only",
        collapse=True,
    ),
    Rule(
        name="action-gap",
        needs=("action_gap", "q_mean"),
        bad=lambda row, past: row["action_gap"] < APART * abs(row["q_mean"]),
        lines=3,
        saw=lambda row, past: (
            f"the best action's value is only {row['action_gap']:.3g} above the next one's, of values of "
            f"{row['q_mean']:.3g}: which is best is a matter of rounding"
        ),
        cause="actions have no effect (a wrapper drops them), or values are far larger than their differences",
        advice="step the environment by hand with different actions; a smaller --gamma; --dueling (dqn)",
        collapse=False,
    ),
    Rule(
        name="entropy-collapse",
        needs=("policy_spread", "return_mean"),
        bad=_settled,
        lines=3,
        saw=lambda row, past: (
            f"the policy always does the same (entropy {row.get('entropy', 0):.2g}), and its return of "
            f"{row['return_mean']:.4g} is poor, after up to {past['return_mean'].high:.4g}"
        ),
        cause="a learning rate that is too large, or too little weight on entropy: it stopped exploring too early",
        advice="--learning-rate ten times smaller, a larger --entropy-coef, --normalise-advantages",
        collapse=True,
    ),
    Rule(
        name="kl-collapse",
        needs=("kl", "active_units"),
        bad=lambda row, past: row["kl"] < SILENT,
        lines=10,
        saw=lambda row, past: (
            f"codes cost {row['kl']:.2g} nats, and {row['active_units']:.3g} of their numbers differ from example to "
            "example: the decoder does not use them, and all samples are draws of one mean image"
        ),
        cause="a divergence that weighs more than what a code can explain, or data that are all alike",
        advice="--warm-up 10, a smaller --beta, a smaller --learning-rate",
        collapse=False,
    ),
    Rule(
        name="mode-collapse",
        needs=("sample_spread",),
        bad=_narrow,
        lines=3,
        saw=lambda row, past: (
            f"samples are all but the same: their deviation is {row['sample_spread']:.2g} of that of the data"
        ),
        cause="the generator has found one output that the discriminator takes for real, and makes nothing else",
        advice="the recipe wgan-gp, --loss hinge, --penalty 1, --discriminator-norm spectral, a small --learning-rate",
        collapse=True,
    ),
    Rule(
        name="discriminator-won",
        needs=("discriminator_accuracy", "loss_generator"),
        bad=lambda row, past: row["discriminator_accuracy"] > WON,
        lines=10,
        saw=lambda row, past: (
            f"the discriminator tells {row['discriminator_accuracy']:.1%} of data and samples apart, so that the "
            "generator learns little from it"
        ),
        cause="a discriminator that learns faster than the generator, or a loss that saturates (minimax)",
        advice="--discriminator-rate 0.25, --penalty 1, --label-smoothing 0.1, --loss non-saturating",
        collapse=False,
    ),
)
"""What is watched in every run; docs/health.md lists them."""

THROUGHPUT = Rule(
    name="throughput",
    needs=("steps_per_s",),
    bad=lambda row, past: past["steps_per_s"].lines > 5 and row["steps_per_s"] < 0.5 * past["steps_per_s"].usual,
    lines=3,
    saw=lambda row, past: (
        f"{row['steps_per_s']:,.0f} steps/s, less than half of the usual {past['steps_per_s'].usual:,.0f}"
    ),
    cause="another process takes the cores, the machine is hot or swapping, or the disk is slow",
    advice="look at the machine's load and free memory; a smaller --memory-size if it swaps",
    collapse=False,
)
"""Of the clock: shown, never stored."""
