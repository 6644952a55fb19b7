"""Rules of tables of text at their edges: quotes, delimiters, cells that are left over, sizes."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.batch.csv_reader import read_csv
from rlm_ray.batch.raw_rows import RefusedError

UNCLOSED = 'opens a quote that is not closed: close it, write "" for a quote in a quoted cell, or remove it'


def read(text, max_row_bytes=10_000, delimiter=","):
    """Return each row as its cells, or why it cannot be read."""
    data = text if isinstance(text, bytes) else text.encode()
    return [
        raw.why or list(raw.values.values()) for raw in read_csv(io.BytesIO(data), max_row_bytes, delimiter)
    ]


def names(text, delimiter=","):
    (row,) = read_csv(io.BytesIO(text.encode()), 10_000, delimiter)
    return list(row.values)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (
            'a,b\n1,"x\n2,y"\n3,z\n',
            [["1", "x\n2,y"], ["3", "z"]],
        ),  # one line that looks like a row may be text
        ('a,b\n1,"x\n2,y\n3,z"\n', [["1", "x\n2,y\n3,z"]]),
        ('a,b\n1,"x\n2,y\n3,z\n4,u"\n', [f"line 2 {UNCLOSED}", ["2", "y"], ["3", "z"], ["4", 'u"']]),
        ('a,b,c\n1,u,"x\n2,y,z"\n', [["1", "u", "x\n2,y,z"]]),
        ('a,b,c\n1,u,"x\n2,y,z\n3,v,w"\n', [f"line 2 {UNCLOSED}", ["2", "y", "z"], ["3", "v", 'w"']]),
        (
            'a,b,c\n1,u,"x\n2,y,z\n3,v"\n',
            [["1", "u", "x\n2,y,z\n3,v"]],
        ),  # the last line has not as many cells
        ('a\n"x\ny\nz\nu"\n', [["x\ny\nz\nu"]]),  # of one column nothing looks like a row
        ('a,b\n1,"x\n\n\ny"\n2,z\n', [["1", "x\n\n\ny"], ["2", "z"]]),
        (
            'a,b\n1,"x\ny",too\n2,z\n',
            [f"line 2 {UNCLOSED}", ['y"', "too"], ["2", "z"]],
        ),
    ],
)
def test_lines_in_a_quoted_cell_are_text_unless_they_look_like_rows(text, rows):
    assert read(text) == rows


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ('"x"', "x"), ('"x" ', "x"), ('"x"   ', "x"), (' "x"', "x"), ('   "x"  ', "x"), ('""', ""), ('""""', '"'), ('"a""b"', 'a"b'),
        ('"a,b"', "a,b"), ("x ", "x "), (" x", " x"), ('a"b', 'a"b'), ('a ""', 'a ""'), (' "so" he', ' "so" he'), (' "a""b" ', 'a"b'),
        ('5" pipe', '5" pipe'),
    ],
)  # fmt: skip
def test_quotes_around_a_cell_are_no_part_of_it(cell, value):
    assert read(f"a,b\n{cell},y\n") == [[value, "y"]]
    assert read(f"a,b\ny,{cell}\n") == [["y", value]]
    assert read(f"a,b\ny,{cell}") == [["y", value]]


@pytest.mark.parametrize("cell", ['"x"y', '"x" y', '"he said "no" twice"', '"a"b"'])
def test_quote_within_a_quoted_cell_is_refused_with_the_line(cell):
    why = 'has a quote inside a quoted cell that is not doubled; write "" for it'
    assert read(f"a,b\n1,2\n{cell},y\n3,4\n") == [["1", "2"], f"line 3 {why}", ["3", "4"]]


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        ("1,2,", ["1", "2"]), ("1,2,,,", ["1", "2"]), ("1,2,  , ", ["1", "2"]), (",", ["", ""]), ("1,", ["1", ""]), (",,", ["", ""]),
        ("1,2,3", "line 2 has 3 cells where the header has 2; quote cells with a delimiter in them"),
        ("1,2,,3", "line 2 has 4 cells where the header has 2; quote cells with a delimiter in them"),
        ("1", "line 2 has 1 cells where the header has 2; quote cells with a delimiter in them"),
    ],
)  # fmt: skip
def test_empty_cells_behind_the_last_column_are_left_out(row, cells):
    assert read(f"a,b\n{row}\n") == [cells]


def test_line_of_tabs_is_a_row_of_empty_cells_where_there_are_several_columns():
    assert read("a\tb\n\t\n \n1\t2\n", delimiter="\t") == [["", ""], ["1", "2"]]
    assert read("a\n\t\n1\n") == [["1"]]
    assert read("a;b\n\t\n1;2\n") == [["1", "2"]]


@pytest.mark.parametrize(
    ("text", "expected", "columns"),
    [
        ("a,b\n1,2\n", ",", 2),
        ("a;b\n1;2\n", ",", 2),
        ("a,b\n1,2\n", ";", 2),
        ("a|b|c\n1|2|3\n", "\t", 3),
        ("a,b;c\n1,2;3\n", ",", 2),
        ("a,b;c;d\n1,2;3;4\n", "\t", 3),  # neither is expected: the one with most cells
        ("a,b,d;c\n1;2\n", ",", 2),  # only one agrees
        ("a,b,c,e;d\n1;2;3\n", ",", 4),  # none agrees
        ("a;b;c,d\n1\n", "\t", 3),
        ("abc\nx;y\n", ",", 1),
        ("a,b;c\n1;2\n1,2\n", ",", 2),  # what comes later does not count
    ],
)
def test_delimiter_is_the_one_that_header_and_first_row_agree_on(text, expected, columns):
    row, *_ = read_csv(io.BytesIO(text.encode()), 10_000, expected)
    assert f"where the header has {columns}" in row.why or len(row.values) == columns


@pytest.mark.parametrize(("expected", "columns"), [(",", ["a", "b;c"]), (";", ["a,b", "c"])])
def test_of_two_delimiters_that_fit_the_expected_one_holds(expected, columns):
    assert names("a,b;c\n1,2;3\n", expected) == columns


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        ("sep=;", "a;b\n1;2\n"), ("SEP=|", "a|b\n1|2\n"), ('"sep=;"', "a;b\n1;2\n"), ("sep=;;", "a;b\n1;2\n"), (" sep=; ", "a;b\n1;2\n"),
        ("sep=x", "axb\n1x2\n"), ('"sep= "', 'a b\n"1" "2"\n'), ('"SEP=|"', "a|b\n1|2"), ("sep=;,,", "a;b\n1;2\n"), ("\n\nsep=;", "\na;b\n1;2\n"),
    ],
)  # fmt: skip
def test_first_line_may_name_the_delimiter(first, rest):
    assert read(f"{first}\n{rest}") == [["1", "2"]]


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("a,b", ["a", "b"]), (" a , b ", ["a", "b"]), (",b", ["column 1", "b"]), ("a,  ", ["a", "column 2"]), ('"a b",c', ["a b", "c"]),
        (",", ["column 1", "column 2"]),
    ],
)  # fmt: skip
def test_names_of_columns_lose_their_spaces_and_empty_ones_are_numbered(header, columns):
    assert names(f"{header}\n1,2\n") == columns


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (
            b"a,b,a\n1,2,3\n",
            r"line 1 names 'a' more than once \(columns 1, 3\); give each column its own name",
        ),
        (b"\n\na,b, b\n1,2,3\n", r"line 3 names 'b' more than once \(columns 2, 3\)"),
        (b"a,\xff\n1,2\n", "line 1 is not UTF-8; save the file as UTF-8"),
        (b"a,\x80\n1,2\n", "line 1 is not UTF-8"),
        (b'a,"b\n1,2\n', "the names of the columns cannot be read: line 1 opens a quote that is not closed"),
        (b'a,"b"c\n1,2\n', "cannot be read: line 1 has a quote inside a quoted cell that is not doubled"),
        (b"x" * 101 + b"\n1\n", "line 1 is to name the columns, but has 101 bytes"),
        (b"\n" + b"x" * 2_000 + b"\n1\n", "line 2 is to name the columns, but has 2,000 bytes"),
    ],
)
def test_header_that_cannot_be_used_is_refused_with_its_line(data, why):
    with pytest.raises(RefusedError, match=why):
        read(data, max_row_bytes=100)


@pytest.mark.parametrize(
    ("byte", "shown"), [(b"\xff", "0xff"), (b"\x80", "0x80"), (b"ab\xc3", "0xc3"), (b"\xe9t\xe9", "0xe9")]
)
def test_row_that_is_not_utf8_is_refused_with_the_byte(byte, shown):
    found = read(b"a,b\n1,\xc3\xa9\n2," + byte + b"\n3,x\n")
    assert found == [["1", "é"], f"line 3 is not UTF-8 (byte {shown} in a cell)", ["3", "x"]]


def test_row_of_just_the_largest_size_is_read_and_a_longer_one_is_not():
    assert read("a,b\n" + "1," + "x" * 98 + "\n2,y\n", 100) == [["1", "x" * 98], ["2", "y"]]
    why = "is 0.0 MB, above the 0.0 MB of max_row_bytes"
    assert read("a,b\n" + "1," + "x" * 99 + "\n2,y\n", 100) == [why, ["2", "y"]]
    whole = '1,"' + "x" * 48 + "\n" + "y" * 48 + '"'  # the end of a line within the cell counts for nothing
    assert read(f"a,b\n{whole}\n2,z\n", 100) == [["1", "x" * 48 + "\n" + "y" * 48], ["2", "z"]]
    found = read(f"a,b\n{whole}\n2,z\n", 99)
    assert found[0].startswith(
        "line 2 opens a quote that is not closed within 0.0 MB of max_row_bytes: close it"
    )
    assert found[-1] == ["2", "z"]
    assert len(found) == 3


def test_lines_are_numbered_with_blank_ones_and_those_of_long_cells():
    found = read('\na,b\n\n1,"x\ny"\n\n2\n3,z\n4\n')
    assert found[0] == ["1", "x\ny"]
    assert [row.partition(" has")[0] for row in found if isinstance(row, str)] == ["line 7", "line 9"]


@pytest.mark.parametrize(
    ("line", "cells"),
    [
        (',"x"', ["", "x"]), (',,"x"', ["", "", "x"]), ('"x",', ["x", ""]), ('"x",,', ["x", "", ""]), ('a, "x",b', ["a", "x", "b"]), ('a, "x" ,b', ["a", "x", "b"]),
        ('a, "x"y,b', ["a", ' "x"y', "b"]), ('a, "x,b', ["a", ' "x', "b"]), ('"", "",""', ["", "", ""]), ('"a,b",c,"d"', ["a,b", "c", "d"]), ('a b"c,"x"', ['a b"c', "x"]),
    ],
)  # fmt: skip
def test_cells_of_a_line_with_quotes(line, cells):
    header = ",".join("abc"[: len(cells)])
    assert read(f"{header}\n{line}\n") == [cells]


CELLS = st.text(alphabet='ab "0é', max_size=6)


@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=6), st.sampled_from(",;\t|"), st.integers(1, 30))  # fmt: skip
def test_a_table_that_is_quoted_where_it_has_to_be_is_read_back_in_any_chunks(table, delimiter, chunk):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows([["a", "b"], *table])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlm_ray.batch.raw_rows.CHUNK", chunk)
        assert read(file.getvalue(), delimiter=delimiter) == table


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('a,b\n1,"x\n' + "y" * 200 + "\n2,z\n", [2, "is 0.0 MB", ["2", "z"]]),  # the long line is a row of its own
        ('a,b\n1,"x\n2,' + "y" * 60 + "\n3,z\n4," + "u" * 60 + "\n", [2, ["2", "y" * 60], ["3", "z"], ["4", "u" * 60]]),
        ('a,b\n1,"x\n2,y\n', [2, ["2", "y"]]),
    ],
)  # fmt: skip
def test_rows_behind_a_quote_that_is_not_closed_are_read_however_long_they_are(text, rows):
    found = read(text, 100)
    assert len(found) == len(rows)
    for row, expected in zip(found, rows, strict=True):
        if isinstance(expected, int):
            within = " within 0.0 MB of max_row_bytes" if len(text) > 100 else ""
            assert row.startswith(f"line {expected} opens a quote that is not closed{within}: close it")
        else:
            assert row[: len(expected)] == expected
