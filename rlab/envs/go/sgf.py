"""Game records: SGF FF[4] in and out (https://www.red-bean.com/sgf/), read and written by sgfmill.

Of variations the main line is read, and `with_comments` keeps them all. What a file may be is looked at before the
library parses it, so that no file takes long: its size, its marks outside of values, how deep its variations are
nested. A record is made UTF-8 before that, since a byte of a letter of Shift_JIS, Big5 or GBK can look like a bracket
or a backslash. What other programs write beside the format is read: a bad byte costs a letter; what cannot be read in
komi, handicap or PL costs no move; a property that comes twice counts once; a semicolon may be missing behind "(".
"""

from __future__ import annotations

import codecs
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sgfmill import sgf, sgf_grammar

from rlab.envs.go.boards import LETTERS, Boards, Setting, name_of
from rlab.envs.go.rules import BLACK, COUNT, EMPTY, KO, WHITE
from rlab.errors import RlabError, nearest

MOST_BYTES = 1 << 20
MOST_MARKS = 90_000
"""Characters outside of values."""
MOST_NESTING = 2_000
"""Some programs open a variation at every move."""
MOST_NODES = 4_000
"""The longest real games have some 500 moves."""
MOST_ESCAPES = 10_000
"""Backslashes, that is."""
MOST_LETTERS = 100
"""Of komi, to be looked at for a number."""

ENCODINGS = {"utf-8", "ascii", "gb2312", "gbk", "gb18030", "big5", "big5hkscs", "cp950", "cp949", "cp932", "shift_jis",
             "euc_jp", "euc_kr", "iso2022_jp", "koi8-r", *(f"iso8859-{k}" for k in range(1, 17)),
             *(f"cp125{k}" for k in range(9))}  # fmt: skip
"""Of text, by Python's names; other codecs are no text, or take long."""
_WIDER = {"shift_jis": "cp932", "gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs", "euc_kr": "cp949"}
"""What else is meant where these are named: the letters of vendors, as in https://encoding.spec.whatwg.org."""
_LOOKS_LIKE_MARKS = ("gbk", "gb18030", "shift_jis", "cp932", "big5", "big5hkscs", "cp950", "iso2022_jp")
"""Encodings in which the second byte of a letter can be a bracket or a backslash."""

RULES: dict[str, dict[str, Any]] = {
    "tromp-taylor": {"ko": "positional", "suicide": True},
    "chinese-superko": {"ko": "positional", "suicide": False},
    "chinese": {"ko": "simple", "suicide": False},
    "aga": {"ko": "situational", "suicide": False},
    "new-zealand": {"ko": "situational", "suicide": True},
}
"""What rules by name say of ko and suicide; all count by area."""
_LIKE = {
    "japanese": "chinese",
    "korean": "chinese",
    "ing": "new-zealand",
    "goe": "new-zealand",
    "nz": "new-zealand",
    "tt": "tromp-taylor",
    "cn": "chinese",
    "jp": "chinese",
}
"""Of a record: rules whose ko and suicide are these, or nearest to these."""

_VALUE = re.compile(rb"\[[^\\\]]*+(?:\\.[^\\\]]*+)*+(?:\]|(?P<open>\\?\Z))", re.DOTALL)
_DEEPER = {ord("("): 1, ord(")"): -1}
_START = re.compile(rb"\(\s*+(?:;|(?=[A-Z]{1,2}\s*+\[))")
"""Where a game begins, its first semicolon or not."""
_NO_SEMICOLON = re.compile(rb"(\[[^\\\]]*+(?:\\.[^\\\]]*+)*+\])|\((?=\s*+[A-Za-z])", re.DOTALL)
_CHARACTER_SET = re.compile(rb"(?:\A|[;\]\s])CA\s*\[([^\]]*)\]")
_COLOURS = {b"b": BLACK, b"1": BLACK, b"w": WHITE, b"2": WHITE}
"""Who is to move, by the first letter of PL; old programs wrote numbers."""
_NUMERALS = str.maketrans("〇一二三四五六七八九−⁄", "0123456789-/")


@dataclass(frozen=True)
class Record:
    """A game as a file has it.

    Attributes:
        size: rows and columns.
        komi: points that White has from the start.
        moves: (colour, point), colour 1 black, 2 white; n * n is a pass. The same colour may move twice in a row.
        stones: [n * n] of 0, 1, 2: what stood on the board before the first move; empty if nothing.
        turn: who is to move first.
        rules: as written; see `Record.setting`.
        handicap: stones that Black was given, as written.
        black: the player's name.
        white: the player's name.
        result: as written, such as B+3.5 or W+R.
        date: as written.
        comments: number of moves made -> what is said of that position.
    """

    size: int = 19
    komi: float = 0.0
    moves: tuple[tuple[int, int], ...] = ()
    stones: tuple[int, ...] = ()
    turn: int = BLACK
    rules: str = ""
    handicap: int = 0
    black: str = ""
    white: str = ""
    result: str = ""
    date: str = ""
    comments: Mapping[int, str] = field(default_factory=dict)

    def setting(self) -> Setting:
        """The rules of ours that come nearest: those of `RULES` by name, else positional superko without suicide.

        A game that repeats a position was played by simple ko, whatever it says.

        Raises:
            RlabError: the komi is no half or whole number.
        """
        name = re.sub(r"[\s_]+", "-", self.rules.strip().lower())
        rules = RULES.get(_LIKE.get(name, name), RULES["chinese-superko"])
        usual = 3 * self.size**2
        cap = 0 if 2 * len(self.moves) < usual else min(30_000, 2 * len(self.moves) + usual)
        setting = Setting(self.size, self.komi, cap=cap, **rules)
        simple = replace(setting, ko="simple")
        return setting if setting.ko == "simple" or self._goes_by(setting) or not self._goes_by(simple) else simple

    def _goes_by(self, setting: Setting) -> bool:
        """Whether all moves are legal by these rules."""
        try:
            _replayed(self, setting, self.moves)
        except RlabError:
            return False
        return True


# ---- A record's moves on a board.


def alternate(moves: Sequence[tuple[int, int]], turn: int, pass_: int) -> Iterator[tuple[int, int]]:
    """(index of a move, point) such that colours alternate from turn on, as on `Boards`.

    If a colour moves twice, the other passes between. Passes before a stone are at most the one that makes it its
    turn, so that a game goes on after two of them (see `follow`); at the end at most two of them are kept.
    """
    waiting: list[tuple[int, int]] = []
    for k, (colour, point) in enumerate(moves):
        if point == pass_:
            waiting.append((k, colour))
            continue
        if colour != turn:
            yield k, pass_
            turn = 3 - turn
        yield k, point
        turn = 3 - turn
        waiting.clear()
    made = 0
    for k, colour in waiting:
        if made < 2 and colour == turn:
            yield k, pass_
            made, turn = made + 1, 3 - turn


def begin(boards: Boards, row: int, stones: Sequence[int] | NDArray[np.uint8], turn: int) -> None:
    """Begin a game with stones [n * n] of 0, 1, 2 (none: the empty board) and who is to move.

    Raises:
        RlabError: a chain has no liberty.
    """
    full = np.zeros(boards.points, np.uint8) if len(stones) == 0 else np.asarray(stones, np.uint8)
    try:
        boards.arrange(row, full.reshape(boards.size, boards.size), turn)
    except RlabError:
        raise RlabError("the position has a chain without a liberty") from None


def follow(boards: Boards, row: int, moves: Sequence[tuple[int, int]]) -> None:
    """Bring a game, from the start that it has, to where these moves lead; what it has of them already stays.

    After passes that `alternate` leaves out a stone may be taken back at once.

    Raises:
        RlabError: a move is not legal: which, where and why. The moves before it have been made.
    """
    target = list(alternate(moves, int(boards.starts[row, -1]), boards.pass_))
    made = boards.moves(row)
    same = 0
    while same < min(len(target), len(made)) and target[same][1] == made[same]:
        same += 1
    if len(made) > same:
        boards.undo(row, len(made) - same)
    points = np.full(boards.number, -1, np.int64)
    before = target[same - 1][0] if same else -1
    for k, point in target[same:]:
        if k > before + 1:
            boards.games.cells[row, COUNT, KO] = 0
        before = k
        why = "" if 0 <= point <= boards.points else "that is no point of the board"
        points[row] = point
        try:
            if not why:
                boards.play(points)
        except RlabError:
            why = boards.why_not(row, point)
        if why:
            raise RlabError(f"move {k + 1} at {name_of(point, boards.size)} is not legal: {why}")


def replay(record: Record, moves: int | None = None) -> Boards:
    """One game of a record's setting after so many of its moves (None: all).

    Raises:
        RlabError: a move is not legal, or the setting or start cannot be.
    """
    return _replayed(record, record.setting(), record.moves[:moves])


def _replayed(record: Record, setting: Setting, moves: Sequence[tuple[int, int]]) -> Boards:
    boards = Boards(1, setting, threads=1)
    begin(boards, 0, record.stones, record.turn)
    follow(boards, 0, moves)
    return boards


# ---- Text to record.


def read_sgf(path: Path | str) -> Record:
    """Read a file.

    Raises:
        RlabError: there is none, it cannot be read, or `parse_sgf` refuses what stands in it.
    """
    content = read_bytes(path)
    try:
        return parse_sgf(content)
    except RlabError as e:
        raise RlabError(f"{_named(path)}: {e}") from None


def read_bytes(path: Path | str) -> bytes:
    """A file's content, up to what `parse_sgf` refuses as too long.

    Raises:
        RlabError: there is no such file, or it cannot be read.
    """
    file = Path(path)
    try:
        if not file.is_file():  # a device would never end
            raise RlabError(f"there is no file '{_named(path)}'")
        with file.open("rb") as stream:
            return stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as e:
        raise RlabError(f"'{_named(path)}' cannot be read: {getattr(e, 'strerror', None) or e}") from None


def parse_sgf(content: bytes | str) -> Record:
    """The main line of the first game of an SGF text. A move on a stone is found when it is replayed, not here.

    Bytes without CA are UTF-8 if they can be, else Latin-1 as the format says, unless that breaks what another encoding
    holds together.

    Raises:
        RlabError: one sentence says what is wrong.
    """
    _, tree = _parsed(content)
    nodes = list(sgf_grammar.main_sequence_iter(tree))
    if len(nodes) > MOST_NODES:
        raise RlabError(f"the record has {len(nodes)} nodes; at most {MOST_NODES} are read")
    root = nodes[0]
    game_kind = root.get("GM", [b"1"])[0].strip()
    if game_kind != b"1":
        raise RlabError(f"the record is of game GM[{_shown(game_kind)}], and Go is GM[1]")
    size = _size(root)
    game = sgf.Sgf_game(size, "UTF-8")
    return _record(game, nodes, size)


def with_comments(content: bytes | str, comments: Mapping[int, str]) -> str:
    """An SGF text with more comments in the main line of its first game. All else of it stays: variations, facts and
    properties that nobody here knows, and other games behind it. It is UTF-8, and says so.

    Args:
        content: what `parse_sgf` reads.
        comments: number of moves made -> text, which comes behind what is said there.

    Raises:
        RlabError: as `parse_sgf`.
    """
    data, tree = _parsed(content)
    nodes, made = list(sgf_grammar.main_sequence_iter(tree)), 0
    for node in nodes:
        moved = "B" in node or "W" in node
        made += moved
        if (moved or node is nodes[0]) and (text := comments.get(made)):
            node["C"] = [b"\n".join([*filter(None, node.get("C", [])), sgf_grammar.escape_text(_clean(text).encode())])]
    nodes[0]["CA"] = [b"UTF-8"]
    _, end = sgf_grammar.tokenise(data)
    return str((sgf_grammar.serialise_game_tree(tree) + data[end:].lstrip()).decode("utf-8", "replace"))


def _parsed(content: bytes | str) -> tuple[bytes, Any]:
    """The text in UTF-8 from its first game on, and that game as the library's tree of raw values.

    Raises:
        RlabError: one sentence says what is wrong.
    """
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    if len(data) > MOST_BYTES:
        raise RlabError(f"the record has more than {MOST_BYTES >> 20} MB; one game has a few kB")
    data = _look(_as_utf8(data, "utf-8" if isinstance(content, str) else ""))
    try:
        return data, sgf_grammar.parse_sgf_game(data)
    except ValueError as e:
        raise RlabError(f"this is no SGF: {e}") from None


def _look(data: bytes) -> bytes:
    """The text from its first game on, with all semicolons; refused if it would take long to parse."""
    if not data.strip():
        raise RlabError("the record is empty")
    start = _START.search(data)
    if start is None:
        raise RlabError("this is no SGF: it holds no '(;'")
    data = data[start.start() :]
    escapes = data.count(b"\\")
    if escapes > MOST_ESCAPES:
        raise RlabError(f"the record has {escapes} backslashes; at most {MOST_ESCAPES} are read")
    marks = _marks(data)
    if b"]" in marks:
        raise RlabError("this is no SGF: a value is not closed, or closed twice")
    if len(marks) > MOST_MARKS:
        raise RlabError(f"the record has {len(marks)} marks outside of values; at most {MOST_MARKS} are read")
    deepest = max(accumulate(_DEEPER.get(mark, 0) for mark in marks))
    if deepest > MOST_NESTING:
        raise RlabError(f"variations are nested {deepest} deep; at most {MOST_NESTING} are read")
    return _NO_SEMICOLON.sub(lambda found: found[1] or b"(;", data)


def _marks(data: bytes) -> bytes:
    """What stands outside of values, and a "]" for each value that is not closed."""
    return _VALUE.sub(_mark_of, data).translate(None, b" \t\r\n\v\f")


def _mark_of(value: re.Match[bytes]) -> bytes:
    return b"" if value["open"] is None else b"]"


def _as_utf8(data: bytes, encoding: str) -> bytes:
    """The record in UTF-8, bytes that are no text of the encoding becoming U+FFFD.

    Args:
        data: as in the file.
        encoding: of the data; empty: as they say, or look like.
    """
    for mark, name in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"), (codecs.BOM_UTF8, "utf-8")):
        if data.startswith(mark):
            data, encoding = data.decode(name, "replace").encode(), "utf-8"
    declared = _CHARACTER_SET.search(data)
    named = _named_encoding(declared[1]) if declared else ""
    encoding = encoding or named
    if not encoding:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            return max(_readings(data, "iso8859-1", *_LOOKS_LIKE_MARKS), key=_whole)
        return data
    if encoding == "utf-8":
        return data.decode(encoding, "replace").encode()
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        encoding = _WIDER.get(encoding, encoding)
    return max(_readings(data, encoding), key=_whole)


def _readings(data: bytes, *encodings: str) -> Iterator[bytes]:
    """The data in UTF-8, read as text of each encoding; where brackets can be meant, also as bytes that were escaped
    before anybody asked of which letters they are parts."""
    for encoding in encodings:
        yield data.decode(encoding, "replace").encode()
    if encodings[-1] in _LOOKS_LIKE_MARKS and len(encodings) == 1 and data.count(b"\\") <= MOST_ESCAPES:

        def of_value(value: re.Match[bytes]) -> bytes:
            text = sgf_grammar.text_value(value[0][1:-1]).decode(encodings[0], "replace")
            return value[0] if value["open"] is not None else b"[" + sgf_grammar.escape_text(text.encode()) + b"]"

        yield _VALUE.sub(of_value, data)


def _whole(data: bytes) -> int:
    """How much stands outside of values: a wrong reading takes brackets for letters, and so loses some of it."""
    marks = _marks(data)
    return -1 if b"]" in marks else len(marks)


def _named_encoding(value: bytes) -> str:
    name = _shown(value).strip()
    try:
        encoding = codecs.lookup(name.lower().removeprefix("x-")).name if name.isascii() else ""
    except (LookupError, ValueError):
        encoding = ""
    if encoding not in ENCODINGS:
        raise RlabError(f"the record's character set is '{name}'; {nearest(name, ENCODINGS)}")
    return encoding


def _size(root: Mapping[str, list[bytes]]) -> int:
    text = _shown(root.get("SZ", [b""])[0]).strip() or "19"
    square = re.fullmatch(r"([0-9]{1,3})(?:\s*[:x]\s*\1)?", text, re.ASCII)
    if square is None or not 2 <= int(square[1]) <= len(LETTERS):
        raise RlabError(f"the record's board is SZ[{text}]; square boards of 2 to {len(LETTERS)} are read")
    return int(square[1])


def komi_of(text: str) -> float:
    """Points of komi, as programs and servers write them; 0 where there is no number.

    A plain number of 100 and more is in hundredths (650 is 6.5). A number in quarters is in stones of two points each,
    as Chinese counting has it: 3.75 and 375 are 7.5. Words may follow or stand between: 6.5 points, 6 1/2, 6½, 6目半,
    3又3/4子.

    Raises:
        ValueError: it is a number, but not finite.
    """
    halves = "".join(f" {unicodedata.normalize('NFKC', c)}" if unicodedata.category(c) == "No" else c for c in text)
    line = unicodedata.normalize("NFKC", halves).translate(_NUMERALS).strip().lower()
    try:
        komi = float(line.replace(",", "."))
    except ValueError:
        return _komi_in_words(line)
    if not math.isfinite(komi):
        raise ValueError(text)
    if abs(komi) >= 100 and komi % 25 == 0:
        komi /= 100
    return 2 * komi if komi % 0.5 == 0.25 else komi


def _komi_in_words(line: str) -> float:
    whole = re.search(r"(?<![\d/])\d{1,4}(?:[.,]\d{1,4})?(?!\d*\s*/)", line, re.ASCII)
    part = re.search(r"(\d{1,4})\s*/\s*([1-9]\d{0,3})", line, re.ASCII)
    komi = float(whole[0].replace(",", ".")) if whole else 0.0
    komi += int(part[1]) / int(part[2]) if part else 0.0
    komi += 0.5 if re.search("半|반|half", line) else 0.0
    in_stones = komi % 0.5 == 0.25 or re.search("子|stone|zi", line)
    return (-1 if line.startswith("-") else 1) * (2 if in_stones else 1) * komi


def _record(game: sgf.Sgf_game, nodes: list[dict[str, list[bytes]]], size: int) -> Record:
    """What the nodes say, their values read by the library."""
    show = game.get_property_presenter()
    stones = np.zeros((size, size), np.uint8)
    moves: list[tuple[int, int]] = []
    comments: dict[int, str] = {}
    turn, number, given, root = 0, 1, 0, nodes[0]

    def value(node: dict[str, list[bytes]], name: str) -> Any:
        try:
            return show.interpret(name, node[name] if name in ("AB", "AW", "AE") else node[name][:1])
        except (ValueError, LookupError, OverflowError):
            raise RlabError(f"node {number} has {name}[{_shown(node[name][0])}], which cannot be read") from None

    def text(name: str) -> str:
        return str(value(root, name)) if name in root else ""

    for number, node in enumerate(nodes, 1):
        for name, colour in (("AB", BLACK), ("AW", WHITE), ("AE", EMPTY)):
            if name in node:
                if moves:
                    raise RlabError(
                        f"node {number} puts stones on the board after move {len(moves)}; only moves are read"
                    )
                given += len(node[name])
                if given > 4 * size * size:
                    raise RlabError(f"the record has more than {4 * size * size} values of AB, AW and AE")
                for row, column in value(node, name):
                    stones[size - 1 - row, column] = colour
        if "PL" in node and not moves:
            turn = _COLOURS.get(node["PL"][0].strip()[:1].lower(), turn)
        if "B" in node and "W" in node:
            raise RlabError(f"node {number} has a move of Black and one of White")
        for name, colour in (("B", BLACK), ("W", WHITE)):
            if name in node:
                at = value(node, name)
                moves.append((colour, size * size if at is None else (size - 1 - at[0]) * size + at[1]))
        if "C" in node:
            texts = [sgf_grammar.text_value(raw).decode() for raw in node["C"]]
            comments[len(moves)] = "\n".join(filter(None, (comments.get(len(moves)), *texts)))
    number = 1
    try:
        komi = komi_of(root.get("KM", [b""])[0].decode()[:MOST_LETTERS])
    except ValueError:
        raise RlabError(f"node 1 has KM[{_shown(root['KM'][0])}], which cannot be read") from None
    stones_given = re.search(rb"(?<![-\d])\d{1,3}", root.get("HA", [b""])[0])
    if not turn:
        handed = (stones == BLACK).any() and not (stones == WHITE).any()
        turn = moves[0][0] if moves else WHITE if handed else BLACK
    return Record(
        size=size,
        komi=komi,
        moves=tuple(moves),
        stones=tuple(stones.ravel().tolist()) if stones.any() else (),
        turn=turn,
        rules=text("RU"),
        handicap=int(stones_given[0]) if stones_given else 0,
        black=text("PB"),
        white=text("PW"),
        result=text("RE"),
        date=text("DT"),
        comments=comments,
    )


def _shown(value: bytes) -> str:
    return short(value.decode("ascii", "replace").replace("\ufffd", "?"))


def _named(path: Path | str) -> str:
    """A path for a message, whole: its end is what tells files apart."""
    return short(str(path), 4096)


def short(text: str, most: int = 60) -> str:
    """Text from elsewhere for a message: one line of printable characters, cut."""
    line = "".join(c if c.isprintable() else "?" for c in text[: most + 1])
    return line if len(line) <= most else line[:most] + "..."


# ---- Record to text.


def write_sgf(record: Record) -> str:
    """The record as SGF FF[4] in UTF-8.

    Raises:
        RlabError: a point or colour is none of this board.
    """
    size, points = record.size, record.size**2
    game = sgf.Sgf_game(size, "UTF-8")
    root = game.get_root()
    root.set("KM", record.komi)
    texts = {"PB": record.black, "PW": record.white, "RE": record.result, "DT": record.date, "RU": record.rules}
    for name, text in texts.items():
        if text:
            root.set(name, _clean(text))
    root.set("AP", ("rlab", ""))
    if record.handicap:
        root.set_raw("HA", str(record.handicap).encode())

    def place(point: int) -> tuple[int, int]:
        return size - 1 - point // size, point % size

    if record.stones:
        if len(record.stones) != points or not set(record.stones) <= {EMPTY, BLACK, WHITE}:
            raise RlabError(f"the stones of a record are {points} numbers of 0, 1, 2, or none")
        for name, colour in (("AB", BLACK), ("AW", WHITE)):
            there = [place(p) for p, c in enumerate(record.stones) if c == colour]
            if there:
                root.set(name, there)
    if record.stones or record.turn != (record.moves[0][0] if record.moves else BLACK):
        root.set("PL", "b" if record.turn == BLACK else "w")
    node = root
    if 0 in record.comments:
        node.set("C", _clean(record.comments[0]))
    for k, (colour, point) in enumerate(record.moves, 1):
        if colour not in (BLACK, WHITE) or not 0 <= point <= points:
            raise RlabError(f"move {k} of the record is {(colour, point)}; colours are 1 and 2, points 0 to {points}")
        node = node.new_child()
        node.set_move("b" if colour == BLACK else "w", None if point == points else place(point))
        if k in record.comments:
            node.set("C", _clean(record.comments[k]))
    return str(game.serialise().decode())


def _clean(text: str) -> str:
    """What UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode()
