"""Data sets made by rule, which need no file: pairs of strings, and sequences whose rule a recurrent network can learn.

Each function draws by a generator of its own, so that a set is the same everywhere; studies give other sizes and
lengths. The first argument of those that are registered reads files and is not used. Imports no torch.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from rlab.data.readers import Arrays, Read
from rlab.data.text.corpora import Pairs, Steps
from rlab.seeding import derive

LETTERS = "abcdefghijklmnopqrstuvwxyz"

MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip


def dates(read: Read | None = None, n: int = 2_000) -> Pairs:
    """Dates of 1900 to 2099 in eight ways of writing, and as ISO 8601: "7 may 1984" -> "1984-05-07"."""
    rng = _generator("dates")
    ways: tuple[Callable[[datetime.date], str], ...] = (
        lambda d: f"{d.day} {MONTHS[d.month - 1]} {d.year}",
        lambda d: f"{MONTHS[d.month - 1]} {d.day}, {d.year}",
        lambda d: f"{d.day} {MONTHS[d.month - 1][:3]} {d.year}",
        lambda d: f"{MONTHS[d.month - 1][:3]} {d.day} {d.year}",
        lambda d: f"{d.day:02}.{d.month:02}.{d.year}",
        lambda d: f"{d.month}/{d.day}/{d.year}",
        lambda d: f"{d.year}年{d.month}月{d.day}日",
        lambda d: f"the {d.day}{_ordinal(d.day)} of {MONTHS[d.month - 1]} {d.year}",
    )
    first, last = datetime.date(1900, 1, 1).toordinal(), datetime.date(2099, 12, 31).toordinal()
    days = rng.choice(last - first + 1, n, replace=False) + first  # no date comes twice
    given = [datetime.date.fromordinal(int(day)) for day in days]
    which = rng.integers(len(ways), size=n)
    return Pairs([ways[w](day) for w, day in zip(which, given, strict=True)], [day.isoformat() for day in given])


def reversal(read: Read | None = None, n: int = 2_000, shortest: int = 4, longest: int = 12) -> Pairs:
    """Strings of letters, and the same backwards; no string comes twice."""
    rng = _generator("reversal")
    strings: dict[str, None] = {}
    while len(strings) < n:
        strings["".join(rng.choice(list(LETTERS), int(rng.integers(shortest, longest + 1))))] = None
    return Pairs(list(strings), [string[::-1] for string in strings])


_PEOPLE = (("私", "i"), ("彼", "he"), ("彼女", "she"), ("先生", "the teacher"), ("学生", "the student"),
           ("母", "my mother"), ("友達", "my friend"), ("子供", "the child"))  # fmt: skip

_ACTS = (  # object particle and verb; English verb after "i", and after the others; objects
    ("を 食べ ま", "eat", "eats", (("りんご", "an apple"), ("パン", "bread"), ("魚", "fish"))),
    ("を 読み ま", "read", "reads", (("本", "a book"), ("新聞", "the newspaper"), ("手紙", "a letter"))),
    ("を 買い ま", "buy", "buys", (("りんご", "an apple"), ("本", "a book"), ("車", "a car"), ("花", "flowers"))),
    ("を 見 ま", "see", "sees", (("犬", "a dog"), ("猫", "a cat"), ("車", "a car"), ("花", "flowers"))),
    ("が 好き で", "like", "likes", (("犬", "dogs"), ("猫", "cats"), ("音楽", "music"), ("花", "flowers"))),
)

_TIMES = (("", ""), ("毎日", "every day"), ("朝", "in the morning"), ("夜", "at night"), ("時々", "sometimes"),
          ("日曜日 に", "on sunday"), ("夏 に", "in summer"))  # fmt: skip

_PLACES = (("", ""), ("家 で", "at home"), ("町 で", "in the town"), ("学校 で", "at school"))


def rule_pairs(read: Read | None = None, n: int = 2_000) -> Pairs:
    """Japanese sentences, cut into words, with their English translation, by a small grammar; none comes twice.

    Words change places between the languages, verbs follow their subject, and some words stand for nothing: what
    attention has to find.
    """
    pairs: list[tuple[str, str]] = []
    for time, who, place, act, negated in product(_TIMES, _PEOPLE, _PLACES, _ACTS, (False, True)):
        ja_verb, first, third, objects = act
        if negated:
            end, verb = "せ ん" if ja_verb.endswith("ま") else "は あり ま せ ん", f"not {first}"
            verb = f"do {verb}" if who[1] == "i" else f"does {verb}"
        else:
            end, verb = "す", first if who[1] == "i" else third
        for ja_what, en_what in objects:
            ja = f"{time[0]} {who[0]} は {place[0]} {ja_what} {ja_verb} {end} 。"
            en = f"{who[1]} {verb} {en_what} {place[1]} {time[1]} ."
            pairs.append((" ".join(ja.split()), " ".join(en.split())))
    order = _generator("rule-pairs").permutation(len(pairs))[:n]
    return Pairs([pairs[k][0] for k in order], [pairs[k][1] for k in order])


def binary_addition(read: Read | None = None, bits: int = 8, longer_bits: int = 16, longer: int = 1_000) -> Steps:
    """All sums of two numbers of `bits` - 1 bits, step by step from the lowest bit: two bits come in, one goes out.

    Args:
        read: not used.
        bits: T, of which the last one can only come from a carry.
        longer_bits: T of the split ``longer``.
        longer: number of its sums, drawn.
    """
    a, b = (grid.ravel() for grid in np.meshgrid(*[np.arange(1 << (bits - 1))] * 2, indexing="ij"))
    more = _generator("binary-addition").integers(1 << (longer_bits - 1), size=(2, longer))
    a, b = np.concatenate([a, more[0]]), np.concatenate([b, more[1]])
    lengths = np.full(len(a), bits, np.int64)
    lengths[len(a) - longer :] = longer_bits
    shifts = np.arange(max(bits, longer_bits))
    x = np.stack([(a[:, None] >> shifts) & 1, (b[:, None] >> shifts) & 1], -1).astype(np.float32)
    y = ((a + b)[:, None] >> shifts) & 1
    mask = shifts < lengths[:, None]
    return Steps(x, y, mask, lengths, ("0", "1"), ("a", "b"), np.arange(len(a) - longer, len(a)) if longer else None)


def anbn(read: Read | None = None, most: int = 50, n: int = 2_000, longest: int = 100) -> Steps:
    """Strings a^n b^n: what follows each symbol, learned and scored where it is certain (Gers & Schmidhuber 2001)."""
    return _counting("ab", most, n, longest)


def anbncn(read: Read | None = None, most: int = 50, n: int = 2_000, longest: int = 100) -> Steps:
    """Strings a^n b^n c^n: what follows each symbol, learned and scored where it is certain."""
    return _counting("abc", most, n, longest)


def _counting(letters: str, most: int, n: int, longest: int) -> Steps:
    """A start, then every letter k times, k drawn in 1..most; ``longer`` has k of most + 1 to `longest`, once each."""
    drawn = _generator("counting", letters).integers(1, most + 1, n)
    counts = np.concatenate([drawn, np.arange(most + 1, longest + 1)])
    alphabet = (*letters, "end")
    rows = [[0, *np.repeat(np.arange(1, len(letters) + 1), k)] for k in counts]  # 0: the start
    x, lengths = _one_hot(rows, len(letters) + 1)
    y, mask = (np.zeros(x.shape[:2], kind) for kind in (np.int64, bool))
    for k, row, following, certain in zip(counts, rows, y, mask, strict=True):
        following[: len(row)] = [*(symbol - 1 for symbol in row[1:]), len(letters)]
        certain[k + 1 : len(row)] = True  # from the first b on
    return Steps(x, y, mask, lengths, alphabet, ("start", *letters), _behind(n, len(counts)))


def dyck1(read: Read | None = None, pairs: int = 25, n: int = 2_000, longest: int = 50, longer: int = 500) -> Steps:
    """Balanced brackets: after each symbol, whether a bracket is open, so that ")" may follow (Suzgun et al. 2019).

    Args:
        read: not used.
        pairs: of brackets at the most.
        n: number of strings.
        longest: pairs of brackets at the most in the split ``longer``, which has more than `pairs`.
        longer: number of its strings.
    """
    rng = _generator("dyck1")
    sizes = [*rng.integers(1, pairs + 1, n), *rng.integers(pairs + 1, longest + 1, longer)]
    rows = [_brackets(int(size), rng) for size in sizes]
    x, lengths = _one_hot(rows, 2)
    depth = np.cumsum(x[:, :, 0] - x[:, :, 1], 1)
    mask = np.arange(x.shape[1]) < lengths[:, None]
    return Steps(x, ((depth > 0) & mask).astype(np.int64), mask, lengths, ("none open", "open"), ("(", ")"),
                 _behind(n, len(rows)))  # fmt: skip


def copy(
    read: Read | None = None,
    symbols: int = 10,
    kinds: int = 8,
    delay: int = 20,
    longer_delay: int = 60,
    n: int = 5_000,
    longer: int = 500,
) -> Steps:
    """Symbols that have to be said again after a delay (Hochreiter & Schmidhuber 1997; Arjovsky et al. 2016).

    They come first, then blanks, then a sign to begin and blanks, at which they are said; only these are scored.
    """
    rng = _generator("copy")
    content = rng.integers(kinds, size=(n + longer, symbols))
    delays = np.repeat([delay, longer_delay], [n, longer])
    rows = [
        [*said, *[kinds] * (wait - 1), kinds + 1, *[kinds] * symbols]
        for said, wait in zip(content, delays, strict=True)
    ]
    x, lengths = _one_hot(rows, kinds + 2)
    y, mask = (np.zeros(x.shape[:2], kind) for kind in (np.int64, bool))
    for said, length, answer, scored in zip(content, lengths, y, mask, strict=True):
        answer[length - symbols : length] = said
        scored[length - symbols : length] = True
    names = tuple(map(str, range(kinds)))
    return Steps(x, y, mask, lengths, names, (*names, "blank", "go"), _behind(n, len(rows)))


def delayed_recall(read: Read | None = None, lag: int = 20, kinds: int = 4, n: int = 3_000) -> Arrays:
    """Series of lag + 1 steps whose class stands at the first step, one of `kinds` symbols, and nowhere again.

    After it every channel is noise of standard deviation 0.2.
    """
    rng = _generator("delayed-recall")
    y = rng.integers(kinds, size=n)
    x = rng.normal(0, 0.2, (n, lag + 1, kinds)).astype(np.float32)
    x[:, 0] = np.eye(kinds, dtype=np.float32)[y]
    return Arrays(x, y, tuple(LETTERS[:kinds]), lengths=np.full(n, lag + 1))


def _generator(*path: str) -> np.random.Generator:
    return np.random.default_rng(derive(0, "rules", *path))


def _behind(n: int, count: int) -> np.ndarray | None:
    """Items from n on, if there are any."""
    return np.arange(n, count) if count > n else None


def _one_hot(rows: Sequence[Sequence[int]], channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of symbols as x float32[N, T, C], and their lengths int64[N]."""
    lengths = np.array([len(row) for row in rows], np.int64)
    x = np.zeros((len(rows), int(lengths.max()), channels), np.float32)
    for one, row in zip(x, rows, strict=True):
        one[np.arange(len(row)), list(row)] = 1
    return x, lengths


def _brackets(pairs: int, rng: np.random.Generator) -> list[int]:
    """A balanced string, 0 opens and 1 closes: at each step one of both with equal chance, where both may follow."""
    row: list[int] = []
    opened = depth = 0
    while len(row) < 2 * pairs:
        closes = opened == pairs or (depth > 0 and rng.random() < 0.5)
        row.append(int(closes))
        depth += -1 if closes else 1
        opened += not closes
    return row


def _ordinal(day: int) -> str:
    return "th" if 10 < day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
