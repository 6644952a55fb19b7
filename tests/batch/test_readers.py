"""Tables as people have them: read right, or refused with one sentence; no row is lost and none is asked without a text."""

from __future__ import annotations

import bz2
import codecs
import csv
import datetime as dt
import decimal
import gzip
import io
import json
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray.batch.csv_reader import read_csv
from rlm_ray.batch.source import open_corpus, open_files
from rlm_ray.batch.template import Template
from rlm_ray.errors import InputError

TWO = "id,text\n1,hello\n2,bye\n"


def rows_of(tmp_path, name, data, **options):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return [(row.id.rpartition("/")[2], row.text or row.error) for row in open_files([str(path)], **options)]


GOOD = {
    "plain": TWO,
    "CRLF": TWO.replace("\n", "\r\n"),
    "CR": TWO.replace("\n", "\r"),
    "UTF-8 mark": codecs.BOM_UTF8 + TWO.encode(),
    "UTF-16 little": codecs.BOM_UTF16_LE + TWO.encode("utf-16-le"),
    "UTF-16 big": codecs.BOM_UTF16_BE + TWO.encode("utf-16-be"),
    "UTF-16 without a mark": TWO.encode("utf-16-le"),
    "UTF-32": TWO.encode("utf-32"),
    "UTF-16 with CRLF": TWO.replace("\n", "\r\n").encode("utf-16"),
    "sep=;": "sep=;\n" + TWO.replace(",", ";"),
    "quoted sep": '"sep=|"\r\n' + TWO.replace(",", "|"),
    "semicolons": TWO.replace(",", ";"),
    "semicolons with decimal commas": "id;price;text\n1;1,5;hello\n2;2,5;bye\n",
    "tabs": TWO.replace(",", "\t"),
    "pipes": TWO.replace(",", "|"),
    "spaces in the header": "id , text\n1,hello\n2,bye\n",
    "capitals": "ID,TEXT\n1,hello\n2,bye\n",
    "a title": "Id,Text,x\n1,hello,\n2,bye,\n",
    "empty cells behind": "id,text\n1,hello,,\n2,bye,\n",
    "an empty name": ",id,text\n0,1,hello\n1,2,bye\n",
    "blank lines": "\n\nid,text\n\n1,hello\n\n2,bye\n\n",
    "quoted": '"id","text"\n"1","hello"\n"2","bye"\n',
    "quoted behind spaces": 'id, text\n1, "hello"\n2, "bye"\n',
    "no line end": TWO.rstrip("\n"),
}


@pytest.mark.parametrize("kind", GOOD)
def test_what_programs_write_is_read_right(tmp_path, kind):
    found = rows_of(tmp_path, "t.csv", GOOD[kind])
    assert [(ident, text.strip()) for ident, text in found] == [("1", "hello"), ("2", "bye")]


@pytest.mark.parametrize("suffix", [".CSV", ".tsv", ".TAB", ".csv.gz", ".CSV.GZ", ".csv.bz2", ".csv.xz"])
def test_any_suffix_of_a_table_is_one(tmp_path, suffix):
    data = TWO.replace(",", "\t" if suffix.lower() in (".tsv", ".tab") else ",").encode()
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    data = pack.get(suffix.lower().rpartition(".")[2], bytes)(data)
    assert rows_of(tmp_path, f"t{suffix}", data) == [("1", "hello"), ("2", "bye")]


def many(open_at, quote_at):
    lines = (
        f'{n},"it broke' if n == open_at else f'{n},"quoted"' if n == quote_at else f"{n},fine"
        for n in range(450)
    )
    return "id,text\n" + "\n".join(lines) + "\n"


NOT_CLOSED = "opens a quote that is not closed"
BROKEN = {
    "at the end": ('id,text\n1,fine\n2,"it broke\n', 1, {"line 3 " + NOT_CLOSED}),
    "five lines": ('id,text\n1,fine\n2,"it broke\n3,fine\n4,fine\n', 3, {"line 3 " + NOT_CLOSED}),
    "in the middle": (many(300, 400), 449, {"line 302 " + NOT_CLOSED}),
    "without another": (many(300, None), 449, {"line 302 " + NOT_CLOSED}),
    "closed by one below": ('id,text\n1,"a\n2,b\n3,c"\n4,d\n', None, None),
    "closed far below": ('id,text\n1,"a\n2,b\n3,c\n4,d\n5,e"\n6,f\n', 5, {"line 2 " + NOT_CLOSED}),
    "closed by inches": ('id,text,x\n1,"a,y\n2,b,y\n3,5",y\n4,d,y\n', 3, {"line 2 " + NOT_CLOSED}),
    "each line": ('id,text\n1,"a\n2,"b\n3,"c\n', 0, {"line 2 ", "line 3 ", "line 4 "}),
    "inches": ('id,text\n1,a 20" pipe\n2,fine\n', 2, set()),
    "a quote in a quoted cell": ('id,text\n1,"he said "no" twice"\n2,fine\n', 1, {"line 2 has a quote inside"}),
    "too few cells": ("id,text\n1\n2,b\n", 1, {"line 2 has 1 cells where the header has 2"}),
    "too many cells": ("id,text\n1,a,b\n2,b\n", 1, {"line 2 has 3 cells where the header has 2"}),
    "not UTF-8": (b"id,text\n1,f\xfcr\n2,b\n", 1, {"line 2 is not UTF-8 (byte 0xfc"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_line_costs_its_own_row_and_is_named(tmp_path, kind):
    data, good, why = BROKEN[kind]
    path = tmp_path / "t.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    rows = list(open_files([str(path)]))
    if good is not None:
        assert sum(not row.error for row in rows) == good
        errors = [row.error for row in rows if row.error]
        assert len(errors) == len(why)
        assert all(error.startswith(start) for error, start in zip(errors, sorted(why), strict=True))
    else:  # two readings are possible: one text of three lines
        assert [row.id for row in rows] == ["1", "4"]


CELLS = st.text(alphabet='ab ,;"\n|\t0é', max_size=12)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=8), st.sampled_from(",;\t|"))
def test_what_the_csv_module_writes_is_read_back(table, delimiter):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
        [["a", "b", "c"], *table]
    )
    found = list(read_csv(io.BytesIO(file.getvalue().encode()), 10_000, delimiter))
    looks_like_rows = ["".join(row).count("\n") >= 2 for row in table]
    if not any(looks_like_rows):
        assert [list(raw.values.values()) for raw in found] == table


@settings(deadline=None, max_examples=150)
@given(st.text(alphabet='ab,"\n', max_size=60))
def test_no_line_is_ever_lost(text):
    whole = "id,text\n" + text
    found = list(read_csv(io.BytesIO(whole.encode()), 10_000))
    seen = sum(1 + sum(value.count("\n") for value in raw.values.values()) for raw in found)
    written = [line for line in text.split("\n") if line.strip()]
    assert seen >= len(written)


REFUSED = {
    "two columns of one name": ("id,text,text\n1,a,b\n", r"names 'text' more than once \(columns 2, 3\)"),
    "Excel": (b"PK\x03\x04" + bytes(50), "it is a ZIP or Office file; save or export the table as CSV"),
    "Parquet as CSV": (b"PAR1" + bytes(50), "it is a Parquet file"),
    "a quote in the header": ('id,"text\n', "names of the columns cannot be read: line 1 opens a quote"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, kind):
    data, why = REFUSED[kind]
    with pytest.raises(InputError, match=why):
        rows_of(tmp_path, "t.csv", data)
    (tmp_path / "z.csv").write_text(TWO)
    both = list(open_files([str(tmp_path)]))  # of several files one must not take the others along
    assert [row.text for row in both[1:]] == ["hello", "bye"]
    assert "cannot be read" in both[0].error


@pytest.mark.parametrize("data", ["", "\n\n", "id,text\n", "sep=;\n"])
def test_a_table_without_rows_has_none(tmp_path, data):
    assert rows_of(tmp_path, "t.csv", data) == []


def test_a_nul_and_a_huge_cell_are_reported(tmp_path):
    assert rows_of(tmp_path, "n.csv", b"id,text\n1,a\0b\n") == [("1", "a\0b")]
    data = 'id,text\n1,"' + "x" * 300 + "\n" + "y" * 300 + '"\n2,fine\n'
    found = rows_of(tmp_path, "h.csv", data, max_row_bytes=400)
    assert found[0][1].startswith("line 2 opens a quote that is not closed within 0.0 MB of max_row_bytes")
    assert found[-1] == ("2", "fine")


# Never asked without a text


@pytest.mark.parametrize(
    ("header", "question", "fits"),
    [
        ("id,body,title", "Good?", False),
        ("id,body,title", "Is {title} good?", True),
        ("id,body", "Good?", True),
        ("id,TEXT,body", "Good?", True),
        ("id,TEXT,Text", "Good?", False),
        ("a,b", 'Return {"a": 1}', False),
    ],
)
def test_a_question_without_a_text_is_refused(tmp_path, header, question, fits):
    cells = ",".join("x" for _ in header.split(","))
    (tmp_path / "t.csv").write_text(f"{header}\n{cells}\n")
    corpus = open_corpus(tmp_path / "t.csv")
    if fits:
        corpus.check(Template.parse(question))
    else:
        with pytest.raises(InputError, match="name one with --text"):
            corpus.check(Template.parse(question))


def test_a_wrong_text_column_is_refused_with_the_one_meant(tmp_path):
    with pytest.raises(InputError, match=r"has no column 'bdy' \(did you mean 'body'\?\)"):
        rows_of(tmp_path, "t.csv", "id,body,title\n1,a,b\n", text="bdy")


# JSON

A, B = {"id": "1", "text": "hello"}, {"id": "2", "text": "bye"}
JSON = {
    "lines": f"{json.dumps(A)}\n{json.dumps(B)}\n",
    "an array": json.dumps([A, B]),
    "an array with indents": json.dumps([A, B], indent=2),
    "an array, an object a line": f"[\n{json.dumps(A)},\n{json.dumps(B)}\n]\n",
    "arrays on lines": f"[{json.dumps(A)}]\n[{json.dumps(B)}]\n",
    "two objects in a line": json.dumps(A) + json.dumps(B),
    "objects with indents": json.dumps(A, indent=4) + "\n" + json.dumps(B, indent=4),
    "UTF-8 mark": codecs.BOM_UTF8 + f"{json.dumps(A)}\n{json.dumps(B)}".encode(),
    "UTF-8 mark before an array": codecs.BOM_UTF8 + json.dumps([A, B], indent=1).encode(),
    "UTF-16": json.dumps([A, B], indent=1).encode("utf-16"),
    "CR": f"{json.dumps(A)}\r{json.dumps(B)}\r",
    "NaN": '{"id": "1", "text": "hello", "x": NaN}\n{"id": "2", "text": "bye", "x": Infinity}',
    "equal keys twice": '{"id": "1", "id": "1", "text": "hello"}\n' + json.dumps(B),
}


@pytest.mark.parametrize("kind", JSON)
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".ndjson", ".JSONL"])
def test_json_is_read_however_it_is_laid_out(tmp_path, kind, suffix):
    assert rows_of(tmp_path, f"t{suffix}", JSON[kind]) == [("1", "hello"), ("2", "bye")]


@pytest.mark.parametrize(
    "data", [json.dumps(A), json.dumps(A, indent=1), json.dumps([A]), json.dumps([A], indent=1)]
)
def test_one_object_is_one_row(tmp_path, data):
    assert rows_of(tmp_path, "t.json", data) == [("1", "hello")]


def test_a_long_array_is_read_bit_by_bit(tmp_path):
    rows = [{"id": str(n), "text": "ä" * (n % 3_000)} for n in range(1, 3_000)]
    for indent in (None, 1):
        data = json.dumps(rows, ensure_ascii=False, indent=indent)
        found = rows_of(tmp_path, "t.json", data, max_row_bytes=20_000)
        assert [ident for ident, _ in found] == [row["id"] for row in rows]
        assert all(len(text) == int(ident) % 3_000 for ident, text in found if int(ident) % 3_000)


BAD_JSON = {
    "a bad line": (f'{json.dumps(A)}\n{{"id": \n{json.dumps(B)}\n', "is not JSON"),
    "a key twice": (f'{json.dumps(A)}\n{{"id": "x", "id": "y"}}\n{json.dumps(B)}\n', "has the key 'id' twice"),
    "a number": (f"{json.dumps(A)}\n5\n{json.dumps(B)}\n", "but int"),
    "an array of numbers": (f"{json.dumps(A)}\n[1, 2]\n{json.dumps(B)}\n", "but list"),
    "a huge number": (f'{json.dumps(A)}\n{{"n": 1{"0" * 5_000}}}\n{json.dumps(B)}\n', "is not JSON: Exceeds"),
    "not UTF-8": (f"{json.dumps(A)}\n".encode() + b'{"text": "\xff"}\n' + json.dumps(B).encode(), "is not UTF-8"),
    "in an array": (f'[\n{json.dumps(A)},\n{{"id" 5}},\n{json.dumps(B)}\n]', "line 3 is not JSON"),
    "in an indented array": (
        json.dumps([A, {"id": "x"}, B], indent=2).replace('"x"', "x"), "line 6 is not JSON"),
    "not UTF-8 in an array": (
        b"[\n" + json.dumps(A).encode() + b',\n{"text": "\xff"},\n' + json.dumps(B).encode() + b"\n]", "is not UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_JSON)
def test_a_bad_value_costs_its_own_row(tmp_path, kind):
    data, why = BAD_JSON[kind]
    first, bad, last = rows_of(tmp_path, "t.jsonl", data)
    assert (first, last) == (("1", "hello"), ("2", "bye"))
    assert why in bad[1]


def test_a_value_that_is_no_row_leaves_the_others_of_its_array(tmp_path):
    for indent in (None, 1):
        first, bad, last = rows_of(tmp_path, "t.json", json.dumps([A, 5, B], indent=indent))
        assert (first, last) == (("1", "hello"), ("2", "bye"))
        assert "but int" in bad[1]


def test_an_array_that_is_cut_off_says_where(tmp_path):
    found = rows_of(tmp_path, "t.json", json.dumps([A, B], indent=1)[:-20])
    assert found[0] == ("1", "hello")
    assert "line " in found[1][1]
    assert "is not JSON" in found[1][1]


# Parquet

BASE = {"id": pa.array(["a", "b", "c"]), "text": pa.array(["hello", "bye", "so"])}
MICROSECONDS = 569_000_000_000 * 1_000_000
ODD = {
    "timestamp year 20000": pa.array([0, MICROSECONDS, None], pa.int64()).cast(pa.timestamp("us")),
    "timestamp in no known zone": pa.array([0, 1, None], pa.int64()).view(pa.timestamp("us", tz="Foo/Bar")),
    "year 20000 in a zone": pa.array([0, MICROSECONDS, None], pa.int64()).view(pa.timestamp("us", tz="UTC")),
    "odd nanoseconds": pa.array([1, 3, None], pa.int64()).cast(pa.timestamp("ns")),
    "date beyond 9999": pa.array([0, 10_000_000, None], pa.int32()).cast(pa.date32()),
    "decimal256": pa.array([decimal.Decimal("1.5"), None, decimal.Decimal(10) ** 60], pa.decimal256(70, 2)),
    "map": pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int32())),
    "dictionary": pa.array(["x", None, "y"]).dictionary_encode(),
    "binary": pa.array([b"\xff\xfe", b"ok", None], pa.binary()),
    "duration": pa.array([1, 2**60, None], pa.int64()).cast(pa.duration("s")),
    "nested": pa.array([{"a": [{"t": dt.datetime(2020, 1, 1)}]}, None, {"a": []}]),  # noqa: DTZ001
    "time": pa.array([1, 2, None], pa.int64()).cast(pa.time64("us")),
    "nulls": pa.nulls(3),
    "not UTF-8": pa.StringArray.from_buffers(3, *pa.array([b"ok", b"\xff", b""], pa.binary()).buffers()[1:]),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_column_that_nobody_asks_for_costs_nothing(tmp_path, kind):
    pq.write_table(pa.table({**BASE, "seen": ODD[kind]}), tmp_path / "t.parquet")
    corpus = open_files([str(tmp_path / "t.parquet")], further=())
    assert [(row.id, row.text, row.error) for row in corpus] == [
        ("a", "hello", ""),
        ("b", "bye", ""),
        ("c", "so", ""),
    ]
    assert corpus.columns == ("id", "text", "seen")


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_value_that_is_asked_for_costs_at_most_its_row(tmp_path, kind):
    pq.write_table(pa.table({**BASE, "seen": ODD[kind]}), tmp_path / "t.parquet")
    question = Template.parse("Is {seen} good?")
    rows = list(open_files([str(tmp_path / "t.parquet")], further=question.columns))
    assert len(rows) == 3
    assert sum(bool(row.error) for row in rows) <= 1
    assert all(question.render(row.values) for row in rows if not row.error)


def test_times_beyond_python_are_shown_as_arrow_shows_them(tmp_path):
    pq.write_table(pa.table({**BASE, "seen": ODD["timestamp year 20000"]}), tmp_path / "t.parquet")
    rows = list(open_files([str(tmp_path / "t.parquet")], further=("seen",)))
    assert str(rows[1].values["seen"]).startswith("20000-")
    pq.write_table(pa.table({**BASE, "seen": ODD["timestamp in no known zone"]}), tmp_path / "z.parquet")
    rows = list(open_files([str(tmp_path / "z.parquet")], further=("seen",)))
    assert rows[1].values["seen"] == "1970-01-01 00:00:00.000001Z"


def test_only_the_needed_columns_are_read(tmp_path):
    pq.write_table(
        pa.table({**BASE, "title": ["x", "y", "z"], "big": ["b" * 10_000] * 3}), tmp_path / "t.parquet"
    )
    corpus = open_files([str(tmp_path / "t.parquet")], further=("title",))
    assert [sorted(row.values) for row in corpus] == [["id", "text", "title"]] * 3
    pq.write_table(pa.table({"n": [1, 2], "body": ["x", "y"]}), tmp_path / "u.parquet")
    assert [row.text for row in open_files([str(tmp_path / "u.parquet")], further=())] == ["x", "y"]


def test_a_file_that_unpacks_to_far_more_than_it_holds_is_refused(tmp_path):
    table = pa.table({"text": pa.array(["x" * 100_000] * 300)})
    pq.write_table(table, tmp_path / "b.parquet", compression="zstd", use_dictionary=False)
    assert (tmp_path / "b.parquet").stat().st_size < 50_000
    with pytest.raises(InputError, match=r"unpacks from 0\.\d\d MB to 0\.0 GB by its metadata"):
        list(open_files([str(tmp_path / "b.parquet")], max_row_bytes=200_000, further=()))
    assert len(list(open_files([str(tmp_path / "b.parquet")], further=()))) == 300
    pq.write_table(
        pa.table({"text": ["fine"], "big": ["x" * 30_000_000]}), tmp_path / "c.parquet", compression="zstd"
    )
    assert len(list(open_files([str(tmp_path / "c.parquet")], max_row_bytes=200_000, further=()))) == 1


@pytest.mark.parametrize("cut", [4, 8, 20, 200])
def test_a_broken_footer_is_refused(tmp_path, cut):
    pq.write_table(pa.table(BASE), tmp_path / "t.parquet")
    data = bytearray((tmp_path / "t.parquet").read_bytes())
    (tmp_path / "cut.parquet").write_bytes(data[:-cut])
    data[-cut - 8 : -8] = b"\xff" * cut
    (tmp_path / "wrong.parquet").write_bytes(data)
    for name in ("cut.parquet", "wrong.parquet"):
        with pytest.raises(InputError, match=name):
            list(open_files([str(tmp_path / name)]))


# Packed


@pytest.mark.parametrize("name", ["b.txt.gz", "b.jsonl.gz", "b.csv.bz2", "b.json.xz", "b.jsonl.bz2"])
def test_what_unpacks_to_too_much_is_one_row_that_says_so(tmp_path, name):
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[name.rpartition(".")[2]]
    inner = b'id,text\n1,"' if "csv" in name else b"" if "txt" in name else b'{"text": "'
    (found,) = rows_of(tmp_path, name, pack(inner + b"x" * 5_000_000), max_row_bytes=100_000)
    assert "max_row_bytes" in found[1]


def test_a_packed_text_is_unpacked(tmp_path):
    assert rows_of(tmp_path, "a.log.gz", gzip.compress(b"hello")) == [("a.log.gz", "hello")]


def test_half_of_a_surrogate_pair_in_a_file_costs_no_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "\\ud800", "text": "hello \\udfff"}\n{"id": 2, "text": "b"}\n')
    rows = list(open_files([str(path)], ident="id"))
    assert [(row.id, row.text, row.error) for row in rows] == [("?", "hello ?", ""), ("2", "b", "")]
