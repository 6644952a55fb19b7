"""Rules of JSON as rows at their edges: how values are laid out, where reading goes on, sizes, places in messages."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.batch import json_reader
from rlm_ray.batch.json_reader import from_object, read_json

A, B, C = {"a": 1}, {"b": 2}, {"c": 3}


def read(text, max_row_bytes=10_000):
    """Return each row as its values, or why it cannot be read."""
    data = text if isinstance(text, bytes) else text.encode()
    return [raw.why or dict(raw.values) for raw in read_json(io.BytesIO(data), max_row_bytes)]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", []),
        (" \n\n", []),
        ('{"a": 1}', [A]),
        ('{"a": 1}{"b": 2}\n{"c": 3}', [A, B, C]),
        ('{"a": 1} \t {"b": 2}\n\n \n{"c": 3}\n', [A, B, C]),
        ('[{"a": 1}, {"b": 2}]', [A, B]),
        ('[{"a": 1}, {"b": 2}]\n[{"c": 3}]', [A, B, C]),
        ('[\n{"a": 1},\n{"b": 2}\n]\n', [A, B]),
        ('[{"a": 1},\n{"b": 2}]', [A, B]),
        ('{"a":\n1}\n{"b": 2}', [A, B]),
        ('{\n"a": 1\n}\n{\n"b": 2\n}', [A, B]),
        ('{"a": 1}\n{"b":\n2}', [A, "is not JSON: Expecting value: line 1 column 6 (char 5)", "is neither a mapping of columns nor a text, but int", "is not JSON: Expecting value"]),
        ('"one"\n"two"', [{"text": "one"}, {"text": "two"}]),
        ('["one", {"a": 1}]', [{"text": "one"}, A]),
        ("[]", []),
        ('[{"a": 1},\n{"b": 2},\n{"c": 3}]\n', [A, B, C]),
        ('[{"a": 1},\n  {"b": 2}\n, {"c": 3}\n]', [A, B, C]),
        ('[[1]]\n{"a": 1}', ["is neither a mapping of columns nor a text, but list", A]),
        ("[\n]", []),
        ("[\n[1],\n{}\n]", ["is neither a mapping of columns nor a text, but list", {}]),
        ('[\n1,\n2.5, null\n, "x"]', [f"is neither a mapping of columns nor a text, but {kind}" for kind in ("int", "float", "NoneType")] + [{"text": "x"}]),
        ('\n\n[\n{"a": 1}]\n[{"b": 2}]', [A, B]),
    ],
)  # fmt: skip
def test_values_are_rows_however_they_are_laid_out(text, rows):
    found = read(text)
    assert len(found) == len(rows)
    for row, expected in zip(found, rows, strict=True):
        assert row == expected or (isinstance(expected, str) and row.startswith(expected)), text


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["a", "b", "ü"]), st.text(max_size=5) | st.integers() | st.lists(st.none(), max_size=2), max_size=3),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([None, 0, 1, 4]),
    st.booleans(),
)  # fmt: skip
def test_array_is_its_objects_at_any_indent_and_in_any_chunks(rows, indent, small_chunks):
    data = json.dumps(rows, indent=indent, ensure_ascii=False)
    with pytest.MonkeyPatch.context() as patch:
        if small_chunks:
            patch.setattr(json_reader, "CHUNK", 7)
            patch.setattr(json_reader, "_HEAD_BYTES", 16)
        assert read(data) == rows


@pytest.mark.parametrize(
    ("text", "why", "others"),
    [
        ('[\n{"a": 1},\n{"x" 5},\n{"b": 2}\n]', "line 3 is not JSON: Expecting ':' delimiter", [A, B]),
        ('[\n  {"a": 1},\n\n  {"x": },\n  {"b": 2}\n]', "line 4 is not JSON: Expecting value", [A, B]),
        ('[\n {"a": 1},\n {"x": {\n   "y" 1\n  }\n },\n {"b": 2}\n]', "line 3 is not JSON", [A, B]),
        ('[\n{"a": 1},\n{"x": 1, "x": 2},\n{"b": 2}\n]', "line 3 has the key 'x' twice, with two values; keep one", [A, B]),
        ('[\n{"a": 1},\n\t{"x": },\n\t{"b": 2}\n]', "line 3 is not JSON", [A, B]),
    ],
)  # fmt: skip
def test_value_that_is_wrong_costs_itself_and_says_its_line(text, why, others):
    found = read(text)
    assert [row for row in found if isinstance(row, dict)] == others
    (wrong,) = [row for row in found if isinstance(row, str)]
    assert wrong.startswith(why)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ('[\n{"a": 1},\n{"x": },{"b": 2}\n]', False),  # it costs its line
        ('[\n{"a": 1},\n {"x": },\n{"b": 2}\n]', True),  # what follows begins less deep
        ('[\n{"a": 1},\n {"x": },\n  {"b": 2}\n, {"c": 3}\n]', True),
        ('[\n{"a": 1}, {"x": }\n]', True),
        ('[\n{"a": 1},\n{"x": ', True),
        ('[\n{"a": 1},\nx', True),
        ('[\n  {"a": 1},\n  {"x": }\n]', False),  # it is the last one
        ('[\n  {"a": 1},\n  {\n    "x": 1 2\n  }\n]', False),
    ],
)
def test_rest_of_a_file_that_cannot_be_read_is_told_once(text, rest):
    found = read(text)
    assert found[0] == A
    told = [
        row
        for row in found
        if isinstance(row, str) and row.startswith("cannot be read, nor can what follows")
    ]
    line = 1 + text[: text.index("x")].count("\n")
    assert told in (
        [f"cannot be read, nor can what follows in this file: the JSON is broken in line {line}"],
        [],
    )
    assert bool(told) is rest


def test_bytes_that_are_not_utf8_are_named_with_their_place():
    assert read(b'{"a": 1}\n{"x": "\xff"}\n{"b": 2}') == [A, "is not UTF-8 (byte 0xff at offset 7)", B]
    found = read(b'[\n{"a": 1},\n{"x": "\xe9"},\n{"b": 2}\n]')
    assert found == [A, "line 3: the value is not UTF-8 (byte 0xe9)", B]
    assert read(b'[\n{"a": 1},\n"\xc3\xa9\xff"\n]') == [A, "line 3: the value is not UTF-8 (byte 0xff)"]


@pytest.mark.parametrize("size", [20, 21])
def test_value_of_just_the_largest_size_is_read_and_a_longer_one_is_not(size):
    too_large = "is 0.0 MB, above the 0.0 MB of max_row_bytes"
    text = '{"a": "' + "x" * (size - 9) + '"}'
    assert len(text) == size
    whole = {"a": "x" * (size - 9)} if size == 20 else too_large
    assert read(f'{{"b": 2}}\n{text}\n{{"c": 3}}', 20) == [B, whole, C]


def test_long_value_of_an_array_is_refused_when_it_is_above_the_limit(monkeypatch):
    monkeypatch.setattr(json_reader, "CHUNK", 50)
    found = read('[\n{"a": 1},\n{"x": "' + "y" * 400 + '"},\n{"b": 2}\n]', 100)
    assert found[0] == A
    assert found[1].startswith("line 3: is 0.0 MB, above the 0.0 MB of max_row_bytes")
    assert found[2:] == [B]


def test_numbers_and_names_at_the_end_of_a_chunk_are_whole(monkeypatch):
    for chunk in range(1, 30):
        monkeypatch.setattr(json_reader, "CHUNK", chunk)
        found = read("[\n12345,\ntrue,\n-1.5e10,\n{}\n]")
        assert found == [
            f"is neither a mapping of columns nor a text, but {kind}" for kind in ("int", "bool", "float")
        ] + [{}]


@pytest.mark.parametrize(
    ("value", "row"),
    [("x", {"text": "x"}), ("", {"text": ""}), ({1: 2, "a": None}, {"1": 2, "a": None}), ({}, {})],
)
def test_text_or_mapping_is_a_row(value, row):
    raw = from_object(value)
    assert (raw.values, raw.why, raw.id) == (row, "", "")


@pytest.mark.parametrize(
    ("value", "kind"), [(5, "int"), (None, "NoneType"), ([], "list"), (b"x", "bytes"), (True, "bool")]
)
def test_anything_else_is_no_row_and_says_what_it_is(value, kind):
    assert from_object(value).why == f"is neither a mapping of columns nor a text, but {kind}"


FRAGMENTS = [
    '{"a": 1}', '{"a": "xyz"}', '{"a": [1, {"b": 2}]}', '"text"', "12345", "-1.5e+10", "true", "null", "[1]", "{}", '{"x" 5}', '{"x": }', '{"x": 1, "x": 2}',
    '{\n   "a": "ü😀"\n  }', '{"x": 1 2}', "nul", '{"a": "\\u00e9"}',
]  # fmt: skip


@given(
    st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=6),
    st.sampled_from(["", " ", "\t", "    "]),
    st.sampled_from([",\n", "\n,", " ,\n"]),
    st.sampled_from(["\n]", "]", "", "\n]\n\n"]),
    st.integers(1, 40),
)
def test_an_array_has_the_same_rows_however_small_the_chunks_it_is_read_in(
    elements, indent, between, end, chunk
):
    data = "[\n" + between.join(f"{indent}{element}" for element in elements) + end
    found = []
    for size, head_bytes in ((1 << 20, 65_536), (chunk, 64)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_reader, "CHUNK", size)
            patch.setattr(json_reader, "_HEAD_BYTES", head_bytes)
            # what Python says of the place counts from what is held, which is another
            found.append(
                [
                    row.partition(": line")[0] if isinstance(row, str) else row
                    for row in values_of(data, 10_000)
                ]
            )
    assert found[0] == found[1]


def values_of(text, max_row_bytes):
    """Return the rows of a text that is known to be read value by value."""
    reader = json_reader._Values(io.BytesIO(text.encode()), max_row_bytes)
    return [raw.why or dict(raw.values) for raw in reader.rows()]


def test_of_a_long_array_only_a_stretch_is_held(monkeypatch):
    monkeypatch.setattr(json_reader, "CHUNK", 100)
    monkeypatch.setattr(json_reader, "_HEAD_BYTES", 200)
    for between in (", ", ",\n"):
        data = "[" + between.join(['{"a": 1}'] * 2_000) + "]"
        reader = json_reader._Values(io.BytesIO(data.encode()), 10_000)
        held = []
        for number, row in enumerate(reader.rows()):
            assert row.values == {"a": 1}
            held.append(len(reader._text))
            assert reader._place() >= 10 * number
        assert (number, max(held) < 500) == (1_999, True)


@pytest.mark.parametrize(
    ("head", "is_over_lines"),
    [
        ("", False), ("\n \n", False), ('{"a": 1}', False), ('{"a":', False), ("[1", True), ('[{"a": 1}]', True), ('[{"a": 1}]\n[2]', False), ("[\n1", True),
        ('{\n"a": 1}', True), ('{"a":\n1}', True), ('{"a": 1\n{"b": 2}', False), ('[{"a": 1},\n{"b": 2}]', True), ('{"a" 1}\n{"b": 2}', False), ('{"a" 1\nx', False),
        ("5\n[", False), ('"a"\n"b"', False), ('  {"a": 1,\n"b": 2}', True), ("\n\n[\n", True), ('{"a": 1}\n[', False), ('{\r"a": 1}', True), ("[" * 60_000 + "\n1", False),
        ('[{"a": 1}\n{"b": 2}', True), ('{"n": 1' + "0" * 5_000 + "}\nx", False),
    ],
)  # fmt: skip
def test_a_file_is_read_value_by_value_where_its_first_value_goes_over_lines(head, is_over_lines):
    assert json_reader._is_over_lines(head.encode()) is is_over_lines


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        (b'  {"a": 1}  ', [A]), (b'{"a": 1} {"b": 2}', [A, B]), (b'{"a": 1},{"b": 2}', [A, "is not JSON: Expecting value"]), (b"[[1], 2]", ["is neither"]),
        (b'[1, {"a": 1}]', ["is neither a mapping of columns nor a text, but int", A]), (b'["x", 1]', [{"text": "x"}, "is neither a mapping of columns nor a text, but int"]),
        (b"\xc3\xa9", ["is not JSON"]), (b'{"a": 1} x', [A, "is not JSON"]), (b'"\xff"', ["is not UTF-8 (byte 0xff at offset 1)"]),
    ],
)  # fmt: skip
def test_a_line_holds_values_one_after_the_other_or_an_array_of_them(line, rows):
    found = [raw.why or dict(raw.values) for raw in json_reader._rows_of_line(line)]
    assert len(found) == len(rows)
    for row, expected in zip(found, rows, strict=True):
        assert row == expected or (isinstance(expected, str) and row.startswith(expected))
