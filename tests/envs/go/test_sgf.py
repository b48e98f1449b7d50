"""Records in and out: what the format says, by hand; what is no record, in a sentence."""

from __future__ import annotations

import contextlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab.data.files import reader
from rlab.envs.go.boards import Boards, Setting, point_of
from rlab.envs.go.sgf import (
    MOST_BYTES,
    Record,
    alternate,
    follow,
    parse_sgf,
    read_sgf,
    replay,
    with_comments,
    write_sgf,
)
from rlab.errors import RlabError

GAME = (
    "(;GM[1]FF[4]CA[UTF-8]SZ[9]KM[6.5]RU[Chinese]PB[Kuro]PW[Shiro]RE[B+2.5]DT[2020-02-02]C[before]"
    ";B[ee]C[centre \\] é]BL[3](;W[cd];B[])(;W[dd];B[aa]))"
)


def points(size: int, *names: str) -> list[int]:
    return [point_of(name, size) for name in names]


def test_a_record_says_what_stands_in_the_file() -> None:
    record = parse_sgf(GAME)
    e5, c6 = points(9, "E5", "C6")
    assert record.moves == ((1, e5), (2, c6), (1, 81))
    assert (record.size, record.komi, record.black, record.white) == (9, 6.5, "Kuro", "Shiro")
    assert (record.result, record.date, record.rules, record.turn) == ("B+2.5", "2020-02-02", "Chinese", 1)
    assert record.comments == {0: "before", 1: "centre ] é"}
    assert record.setting() == Setting(9, 6.5, "simple")


def test_it_is_written_as_it_was_read() -> None:
    record = parse_sgf(GAME)
    assert parse_sgf(write_sgf(record)) == record


def test_an_empty_value_and_tt_are_passes_up_to_19() -> None:
    assert parse_sgf("(;SZ[19];B[tt];W[])").moves == ((1, 361), (2, 361))
    assert parse_sgf("(;SZ[9];B[tt])").moves == ((1, 81),)
    assert parse_sgf("(;B[ss])").size == 19  # what the format says without SZ


def test_stones_before_the_game_and_who_is_to_move() -> None:
    record = parse_sgf("(;SZ[5]HA[2]AB[aa][ee]AW[bb:cc]AE[cc];W[da])")
    wanted = np.zeros((5, 5), int)
    wanted[0, 0] = wanted[4, 4] = 1
    wanted[1, 1] = wanted[1, 2] = wanted[2, 1] = 2
    assert np.array(record.stones).reshape(5, 5).tolist() == wanted.tolist()
    assert (record.handicap, record.turn) == (2, 2)
    wanted[0, 3] = 2
    assert replay(record).stones()[0].tolist() == wanted.tolist()
    assert parse_sgf("(;SZ[5]AB[aa][ee])").turn == 2  # a handicap: white begins
    assert parse_sgf("(;SZ[5]AB[aa]AW[ee])").turn == 1
    assert parse_sgf("(;SZ[5]AB[aa]AW[ee]PL[W])").turn == 2


def test_rules_by_name_decide_ko_and_suicide() -> None:
    def rules(name: str) -> tuple[str, bool]:
        setting = Record(9, rules=name).setting()
        return setting.ko, setting.suicide

    assert rules("Tromp-Taylor") == ("positional", True)
    assert rules("AGA") == ("situational", False)
    assert rules("New Zealand") == rules("NZ") == ("situational", True)
    assert rules("Japanese") == ("simple", False)
    assert rules("") == rules("of my own") == ("positional", False)


def test_a_colour_that_moves_twice_has_the_other_pass_between() -> None:
    a1, b2 = points(3, "A1", "B2")
    assert [p for _, p in alternate([(1, a1), (1, b2)], 1, 9)] == [a1, 9, b2]
    assert [p for _, p in alternate([(2, a1)], 1, 9)] == [9, a1]


def test_a_game_goes_on_after_two_passes() -> None:
    a1, b2 = points(3, "A1", "B2")
    # The passes go, since with them the game would be over; whose turn it is stays as the moves say.
    assert [p for _, p in alternate([(1, a1), (2, 9), (1, 9), (2, b2)], 1, 9)] == [a1, b2]
    assert [p for _, p in alternate([(1, 9), (2, 9), (1, 9)], 1, 9)] == [9, 9]
    boards = replay(parse_sgf("(;SZ[3];B[aa];W[];B[];W[cc])"))
    assert boards.stones()[0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 2]]
    assert not boards.over[0]


def test_replay_stops_where_it_is_told() -> None:
    record = parse_sgf(GAME)
    assert replay(record, 1).made[0] == 1
    assert replay(record, 0).made[0] == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the record is empty"),
        ("hello", "holds no"),
        ("(;SZ[9];B[aa]", "this is no SGF"),
        ("(;SZ[9];B[aa", "not closed"),
        ("(;GM[2]SZ[9])", r"game GM\[2\]"),
        ("(;SZ[1])", r"SZ\[1\].*2 to 19"),
        ("(;SZ[20])", r"SZ\[20\]"),
        ("(;SZ[9:13])", r"SZ\[9:13\]"),
        ("(;SZ[9]KM[nan])", r"KM\[nan\]"),
        ("(;SZ[9];B[zz])", r"node 2 has B\[zz\]"),
        ("(;SZ[9];B[aa]W[bb])", "node 2 has a move of Black and one of White"),
        ("(;SZ[9];B[aa];AB[bb])", "node 3 puts stones on the board after move 1"),
        ("(;CA[nonsense]SZ[9])", "character set is 'nonsense'"),
        ("(;CA[idna]SZ[9])", "character set is 'idna'"),
        ("(;SZ[9]" + "(;" * 3_000 + ")" * 3_001, "nested 3001 deep; at most 2000"),
        ("(;" + ";B[aa]" * 5_000 + ")", "5001 nodes; at most 4000"),
        ("(;" + "a" * 10**5, "marks outside of values"),
        ("(;C[" + "\\" * 10**5 + "])", "100000 backslashes"),
        ("(;SZ[19]" + "AB[aa:ss]" * 1_500 + ")", "more than 1444 values"),
        ("x" * (MOST_BYTES + 1), "more than 1 MB"),
    ],
)
def test_what_is_no_record_is_said_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(RlabError, match=says) as told:
        parse_sgf(text)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 200


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("(;SZ[9];B[ee];W[ee])", "move 2 at E5 is not legal: there is a stone on E5"),
        ("(;SZ[3];B[ba];W[];B[ab];W[aa])", "move 4 at A3 is not legal.*suicide"),
        ("(;SZ[9]KM[3.6];B[ee])", "komi is 3.6"),
        ("(;SZ[2]AB[aa:bb])", "a chain without a liberty"),
    ],
)
def test_what_cannot_be_played_is_said_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(RlabError, match=says):
        replay(parse_sgf(text))


@pytest.mark.parametrize(
    "text",
    [
        "(;SZ[9]C[a]C[b]PB[x]PB[y];B[ee];W[gc])",
        "(;SZ[9]SZ[13]KM[6.5]KM[7];B[ee]B[aa];W[gc])",
        "(;SZ[9]PL[1];B[ee];W[gc])",
        "(;SZ[9]PL[Black];B[ee];W[gc])",
        "(;SZ[9]PL[?];B[ee];W[gc])",
        "(\r\nSZ[9]\r\nPB[x]\r\n;B[ee];W[gc])",
        "Dear all,\n(GM[1]SZ[9];B[ee](W[gc])(W[cc]))",
        "(;GaMe[1]SiZe[9];Black[ee];White[gc])",
        "(;SZ[9]C[(a [b\\] (c](;B[ee](;W[gc]" + "(;B[](;W[]" * 200 + ")" * 403,
    ],
)  # fmt: skip
def test_other_programs_records_keep_their_moves(text: str) -> None:
    record = parse_sgf(text)
    assert (record.size, record.turn) == (9, 1)
    assert record.moves[:2] == ((1, 40), (2, 24))
    assert replay(record).stones()[0].sum() == 3


def test_what_is_said_twice_is_kept() -> None:
    assert parse_sgf("(;SZ[9]C[one]C[two];B[ee]C[a\\]]C[b])").comments == {0: "one\ntwo", 1: "a]\nb"}
    assert parse_sgf("(;SZ[9]AB[aa]AW[cc]PL[2])").turn == 2
    assert parse_sgf("(;SZ[])").size == 19


KO = "(;SZ[5]RU[Chinese];B[cb];W[db];B[bc];W[ec];B[cd];W[dd];B[aa];W[cc];B[dc]{};W[cc])"


def test_a_ko_is_taken_back_after_two_passes() -> None:
    with pytest.raises(RlabError, match=r"move 10 at C3 is not legal.*ko"):
        replay(parse_sgf(KO.format("")))
    record = parse_sgf(KO.format(";W[];B[]"))
    boards = replay(record)
    assert boards.stones()[0, 2, 2:4].tolist() == [2, 0]
    follow(boards, 0, record.moves[:-3])  # back to where it may not
    assert not boards.legal()[0, 12]
    follow(boards, 0, record.moves)
    assert boards.stones()[0, 2, 2:4].tolist() == [2, 0]


@pytest.mark.parametrize("rules", ["", "RU[tromp-taylor]", "RU[of my own]"])
def test_a_position_that_comes_again_is_simple_ko(rules: str) -> None:
    record = parse_sgf(f"(;SZ[4]{rules};B[dc];W[cc];B[ca];W[dd];B[cb];W[da];B[bb];W[db];B[dc];W[da])")
    assert record.setting().ko == "simple"
    assert replay(record).made[0] == 10
    assert replace(record, moves=record.moves[:-1]).setting().ko == "positional"


def test_comments_are_added_and_all_else_stays() -> None:
    text = (
        "(;GM[1]FF[4]CA[GBK]SZ[9]EV[杯]BR[3d]XX[?]C[old\\]](;B[ee]LB[aa:1];W[gc]C[a](;B[cg])(;B[cc]N[x]))(;B[aa]))\n"
        "(;GM[1]SZ[5];B[bb])"
    )
    out = with_comments(text.encode("gbk"), {0: "new]\\", 2: "b", 3: "c", 9: "none"})
    again = parse_sgf(out)
    assert again.comments == {0: "old]\nnew]\\", 2: "a\nb", 3: "c"}
    assert again.moves == parse_sgf(text).moves
    for kept in ("EV[杯]", "BR[3d]", "XX[?]", "LB[aa:1]", ";B[cc]N[x]", ";B[aa]", "(;GM[1]SZ[5];B[bb])", "CA[UTF-8]"):
        assert kept in out.replace("\n", "")
    assert with_comments(out, {}) == out


def test_text_that_is_no_utf8() -> None:
    assert parse_sgf(b"(;CA[UTF-8]SZ[9];B[aa]C[x\xff];W[bb])").comments == {1: "x\ufffd"}  # it costs no move
    assert parse_sgf(b"(;SZ[9]PB[\xe9])").black == "é"  # no CA: Latin-1, as the format says
    assert parse_sgf("(;SZ[9]PB[é])".encode()).black == "é"  # or UTF-8, if it is that
    assert parse_sgf("(;CA[GBK]SZ[9]PB[围棋])".encode("gbk")).black == "围棋"


@pytest.mark.parametrize(
    "name", ["Shift_JIS", "Big5", "GBK", "GB18030", "EUC-JP", "EUC-KR", "cp932", "ISO-2022-JP", "x-sjis"]
)
@pytest.mark.parametrize("at", ["before", "after"])
def test_a_name_costs_no_move_in_any_encoding(name: str, at: str) -> None:
    """Letters of which a byte looks like a mark, at the end of a value."""
    encoding = name.removeprefix("x-")
    letters = [chr(c) for c in range(0x3041, 0xD7A4)]
    bytes_of = {c: b for c in letters if (b := c.encode(encoding, "ignore"))}
    hard = [c for c, b in bytes_of.items() if b[-1:] in b"[\\]();:" or b"]" in b or b"\\" in b][::25]
    for text in [*hard, "".join(list(bytes_of)[:50])]:
        facts = [f"CA[{name}]", f"PB[{text}]C[{text}]"]
        game = f"(;SZ[9]{''.join(facts if at == 'before' else facts[::-1])};B[ee]C[a\\]{text}];W[gc])"
        record = parse_sgf(game.encode(encoding))
        assert (len(record.moves), record.black) == (2, text)
        assert record.comments == {0: text, 1: "a]" + text}


def test_letters_that_were_escaped_as_bytes() -> None:
    """The format lets a program escape before it asks of which letters the bytes are parts."""
    name = "表ソ本".encode("shift_jis").replace(b"\\", b"\\\\")
    record = parse_sgf(b"(;SZ[9]CA[Shift_JIS]PB[" + name + b"]PW[" + name[:6] + b"];B[ee];W[gc])")
    assert (record.black, record.white, len(record.moves)) == ("表ソ本", "表ソ", 2)


@pytest.mark.parametrize(("text", "encoding"), [("表", "shift_jis"), ("功", "big5"), ("乗", "gbk")])
def test_no_encoding_is_named(text: str, encoding: str) -> None:
    record = parse_sgf(f"(;SZ[9]PB[{text}];B[ee];W[gc];B[cg])".encode(encoding))
    assert len(record.moves) == 3


def test_bytes_and_text_of_other_forms() -> None:
    text = "(;CA[GBK]SZ[9:9]PB[围棋];B[ee])"
    assert parse_sgf(text).black == "围棋"  # text is what it is, whatever it says of its bytes
    for encoding in ("utf-16", "utf-8-sig"):
        assert parse_sgf(text.encode(encoding)).black == "围棋"
    assert parse_sgf("(;CA[Shift_JIS]PB[①髙];B[ee])".encode("cp932")).black == "①髙"  # letters of a vendor


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("", 0), ("0", 0), ("6.5", 6.5), ("7", 7), ("-5.5", -5.5), ("6,5", 6.5), (" 7.50 ", 7.5), ("6.500000", 6.5),
        ("375", 7.5), ("325", 6.5), ("275", 5.5), ("650", 6.5), ("550", 5.5), ("750", 7.5), ("800", 8), ("-650", -6.5),
        ("3.75", 7.5), ("2.75", 5.5), ("6.5 points", 6.5), ("6.5pt", 6.5), ("6 1/2", 6.5), ("5-1/2 points", 5.5),
        ("6½", 6.5), ("½", 0.5), ("1/2", 0.5), ("7 and a half", 7.5), ("6目半", 6.5), ("６目半", 6.5), ("五目半", 5.5),
        ("コミ7目半", 7.5), ("6집반", 6.5), ("덤 6집반", 6.5), ("3又3/4子", 7.5), ("3 3/4子", 7.5), ("3.75子", 7.5),
        ("黑贴3又3/4子", 7.5), ("2 3/4", 5.5), ("3¾", 7.5), ("none", 0), ("no komi", 0), ("?", 0), ("1/0", 0),
        ("−5.5", -5.5), ("-6½", -6.5),
    ],
)  # fmt: skip
def test_komi_as_servers_and_people_write_it(text: str, points: float) -> None:
    record = parse_sgf(f"(;SZ[9]KM[{text}];B[ee];W[gc];B[cg])")
    assert record.komi == points
    assert len(replay(record).moves(0)) == 3


@pytest.mark.parametrize(
    ("text", "stones"), [("2", 2), ("3 stones", 3), ("none", 0), ("-1", 0), ("", 0), ("置き碁2子", 2)]
)
def test_words_in_a_handicap_cost_no_move(text: str, stones: int) -> None:
    record = parse_sgf(f"(;SZ[9]HA[{text}];B[ee])")
    assert (record.handicap, len(record.moves)) == (stones, 1)


def test_files(tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 20)  # a message names the end of a long path too
    folder.mkdir()
    file = folder / "game.sgf"
    file.write_text(GAME, "utf-8")
    assert read_sgf(file) == parse_sgf(GAME)
    file.write_text("(;SZ[99])")
    with pytest.raises(RlabError, match=r"game.sgf: .*SZ\[99\]"):
        read_sgf(file)
    for name in (tmp_path, tmp_path / "none.sgf", "/dev/zero", "a\0b", "x" * 5_000):
        with pytest.raises(RlabError, match=r"there is no file|cannot be read"):
            read_sgf(name)


COLOURED = st.tuples(st.integers(1, 2), st.integers(0, 25))


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30)


@settings(deadline=None)
@given(st.lists(COLOURED, max_size=30), TEXT, st.integers(-40, 40), st.sampled_from([1, 2]))
def test_any_record_comes_back(moves: list[tuple[int, int]], text: str, komi: int, turn: int) -> None:
    record = Record(5, komi / 2, tuple(moves), turn=turn, comments={len(moves): text})
    assert parse_sgf(write_sgf(record)) == record


PIECES = st.sampled_from(
    [*"()[];:\\BW", "AB", "SZ", "SZ[5]", "[aa]", "[]", "[19]", "CA", "KM", "PL", "AE", "[aa:cc]", "HA"]
)


@settings(deadline=None)
@given(st.lists(st.one_of(PIECES.map(str.encode), st.binary(max_size=3)), max_size=60).map(b"".join))
def test_any_bytes_are_a_record_or_a_sentence(body: bytes) -> None:
    for data in (body, b"(;SZ[5]" + body + b")"):
        with contextlib.suppress(RlabError):
            replay(parse_sgf(data))


@pytest.mark.data
def test_nine_thousand_real_games() -> None:
    games = 0
    with tarfile.open(fileobj=io.BytesIO(reader("go9x9")("games.tar.xz"))) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None:
                record = parse_sgf(file.read())
                assert parse_sgf(write_sgf(record)) == record
                assert isinstance(replay(record), Boards)
                games += 1
    assert games == 9_068
