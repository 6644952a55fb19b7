"""Rows of files as documents, rows of a program, and how much of them has been read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlm_ray.batch.files import FileSource
from rlm_ray.batch.source import IterableSource, open_corpus, open_files, read_documents
from rlm_ray.documents.files import Files
from rlm_ray.errors import InputError


def lines_in(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("rows", "named", "documents", "unread"),
    [
        ([{"id": "a", "text": "one"}, {"id": "b", "text": "two"}], {}, [{"id": "a", "text": "one"}, {"id": "b", "text": "two"}], 0),
        ([{"body": "one", "n": 1}], {}, ["one"], 0), ([{"x": "one", "y": "two"}], {"text": "y"}, ["two"], 0),
        ([{"key": "k", "text": "one"}], {"ident": "key"}, [{"id": "k", "text": "one"}], 0),
    ],
)  # fmt: skip
def test_rows_are_documents_with_their_ids(tmp_path, rows, named, documents, unread):
    context, left_out = read_documents([lines_in(tmp_path / "rows.jsonl", rows)], **named)
    texts = [each if isinstance(each, str) else each["text"] for each in documents]
    assert [document["text"] for document in context.documents()] == texts
    assert len(left_out) == unread
    named_ids = [each["id"] for each in documents if isinstance(each, dict)]
    assert [document["id"] for document in context.documents()][: len(named_ids)] == named_ids


def test_rows_that_cannot_be_read_are_named_beside_the_others(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "one"}\nnot json\n{"text": "two"}\n')
    context, unread = read_documents([str(path)])
    assert (len(context.documents()), len(unread)) == (2, 1)


@pytest.mark.parametrize(
    ("text", "why"), [("", "holds no text"), ('{"a": "1", "b": "2"}\n', "several columns with texts; name one with --text: a, b"), ("not json\n", "holds no text; ")]
)  # fmt: skip
def test_files_without_a_text_are_refused(tmp_path, text, why):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=why):
        read_documents([str(path)])


def test_share_of_an_iterable_is_known_where_its_length_is():
    source = IterableSource(["a", "b", "c", "d"])
    assert source.fraction_read() == 0.0
    rows = source.read()
    next(rows)
    assert source.fraction_read() == 0.25
    assert len(list(rows)) == 3
    assert source.fraction_read() == 1.0
    assert IterableSource(iter("ab")).fraction_read() is None
    assert IterableSource([]).fraction_read() == 0.0


def test_iterator_is_read_once_and_a_list_as_often_as_wanted():
    once, often = IterableSource(iter(["a"])), IterableSource(["a"])
    assert len(list(once.read())) == len(list(often.read())) == len(list(often.read())) == 1
    with pytest.raises(InputError, match="was read already"):
        list(once.read())


@pytest.mark.parametrize("source", [b"bytes", {"a": 1}, 5, None])
def test_what_gives_no_rows_is_refused(source):
    with pytest.raises(InputError, match=f"got {type(source).__name__}"):
        open_corpus(source)


def test_paths_may_be_one_or_several(tmp_path):
    paths = [Path(lines_in(tmp_path / f"{name}.jsonl", [{"text": name}])) for name in "ab"]
    for source, texts in ((paths, ["a", "b"]), (paths[0], ["a"]), (str(paths[1]), ["b"])):
        assert [row.text for row in open_corpus(source)] == texts
    assert [row.text for row in open_files([str(path) for path in paths])] == ["a", "b"]


def test_what_of_folders_is_left_out_is_told(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    told = []
    read_documents([str(tmp_path / "a.txt")], tell=told.append)
    assert told == []
    (tmp_path / ".hidden").write_text("no")
    context, unread = read_documents([str(tmp_path)], tell=told.append)
    assert (told, unread, context.text()) == (["passed over: 1 hidden"], [], "[a.txt]\none")


def test_rows_that_cannot_be_read_are_named_with_their_place_and_why(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "one"}\nnot json\n{"n": 1}\n')
    _, unread = read_documents([str(path)])
    assert [line.partition(": ")[0] for line in unread] == ["rows.jsonl:2", "rows.jsonl:3"]
    assert unread[1] == "rows.jsonl:3: the column 'text' is missing"
    path.write_text("not json\n")
    with pytest.raises(InputError, match=r"holds no text; rows.jsonl:1: is not JSON"):
        read_documents([str(path)])


@pytest.mark.parametrize(
    ("rows", "options", "columns"),
    [
        ([{"a": 1, "b": 2}, {"c": 3, "a": 4}], {}, ("a", "b", "c")), (["x"], {}, ("text",)), ([], {"text": "t", "id": "i"}, ()),
        ([{"b": "x", "a": "y"}], {"text": "a"}, ("b", "a")),
    ],
)  # fmt: skip
def test_columns_are_those_of_the_first_rows_in_their_order(rows, options, columns):
    corpus = open_corpus(rows, **options)
    assert (corpus.columns, corpus.passed_over_line) == (columns, "")
    if not rows:
        assert (corpus.text_column, corpus.ident_column) == ("t", "i")


def test_rows_are_known_by_their_id_or_their_number():
    rows = [{"id": "a", "text": "x"}, {"text": "x"}, {"id": None, "text": "x"}, {"id": 0, "text": "x"}]
    assert [(row.number, row.id, row.error) for row in open_corpus(rows)] == [
        (0, "a", ""), (1, "1", ""), (2, "2", ""), (3, "0", ""),
    ]  # fmt: skip
    named = [(row.id, row.error) for row in open_corpus(rows, id="id")]
    assert named == [
        ("a", ""),
        ("1", "has no 'id' to be its id"),
        ("2", "has no 'id' to be its id"),
        ("0", ""),
    ]


@pytest.mark.parametrize(
    ("rows", "text", "ident"),
    [
        ([{"id": "a", "body": b"x"}], "body", "id"), ([{"id": "a"}], None, "id"), ([{"n": 1}, {"n": "x"}], "n", None), ([{"a": "x"}, {"b": "y"}], None, None),
        ([{"text": 5, "body": "x"}], "text", None),
    ],
)  # fmt: skip
def test_text_is_the_only_column_that_holds_texts_beside_the_id(rows, text, ident):
    corpus = open_corpus(rows)
    assert (corpus.text_column, corpus.ident_column) == (text, ident)


def test_an_iterator_of_which_only_the_head_was_read_cannot_be_read_again():
    corpus = open_corpus(iter(["a", "b"]))
    rows = iter(corpus)
    assert next(rows).text == "a"
    with pytest.raises(
        InputError, match="corpus: was read already, and an iterator gives its rows only once"
    ):
        next(iter(corpus))


# How much of files was read


def shares_of(*names, max_row_bytes=10_000):
    """Return what share was read when each row was there, and in the end."""
    source = FileSource(Files(*names), max_row_bytes)
    assert source.fraction_read() == 0.0
    return [source.fraction_read() for _ in source.read()] + [source.fraction_read()]


def test_share_of_files_that_are_read_as_a_whole_is_told_once_four_of_them_are_read(tmp_path):
    for number in range(8):
        (tmp_path / f"{number}.txt").write_text("x" * 10)
    shares = [None] * 4 + [4 / 8, 5 / 8, 6 / 8, 7 / 8, 1.0]
    assert shares_of(tmp_path) == shares_of(f"{tmp_path}/*.txt") == shares
    (tmp_path / "one byte").write_text("x")
    assert shares_of(tmp_path / "one byte") == [None, 1.0]


def test_share_of_lines_is_told_once_four_chunks_are_read_and_counts_the_files_before(tmp_path, monkeypatch):
    monkeypatch.setattr("rlm_ray.batch.files.CHUNK", 20)
    monkeypatch.setattr("rlm_ray.batch.raw_rows.CHUNK", 20)
    monkeypatch.setattr("rlm_ray.batch.json_reader.CHUNK", 20)
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(f"{json.dumps({'text': 'x' * 7})}\n" * 5)
    assert (tmp_path / "a.jsonl").stat().st_size == 100
    shares = shares_of(tmp_path)
    assert shares[-1] == 1.0
    known = [share for share in shares if share is not None]
    assert known == sorted(known)
    assert 0.4 <= known[0] < 0.6
    assert all(share >= 0.5 for share in shares[5:])
    assert None in shares[:4]


def test_share_of_parquet_is_that_of_its_rows_among_the_bytes_of_all_files(tmp_path):
    for name in ("a.parquet", "b.parquet"):
        pq.write_table(pa.table({"text": ["x"] * 1_100}), tmp_path / name)
    shares = shares_of(tmp_path)
    parts = [0.0, 1_024 / 1_100 / 2, 0.5, 0.5 + 1_024 / 1_100 / 2, 1.0]
    assert [shares[row] for row in (0, 1_024, 1_100, 2_124, 2_200)] == pytest.approx(parts)


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.txt"])
def test_share_of_nothing_is_not_known_and_none_of_it_is_left(tmp_path, name):
    (tmp_path / name).write_text("")
    assert shares_of(tmp_path / name)[-1] == 0.0


# Which files are read


@pytest.mark.parametrize(
    ("pattern", "ids"),
    [
        ("x/*.jsonl", ["1.jsonl:1"]), ("*/1.jsonl", ["x/1.jsonl:1", "z/1.jsonl:1"]), ("x/**/*.jsonl", ["1.jsonl:1", "y/2.jsonl:1"]), ("x/[0-9].jsonl", ["1.jsonl:1"]),
        ("x/?.jsonl", ["1.jsonl:1"]), ("x/*", ["1.jsonl:1"]),
    ],
)  # fmt: skip
def test_rows_of_a_glob_are_called_after_what_its_pattern_leaves_open(tmp_path, pattern, ids):
    for name in ("x/1.jsonl", "x/y/2.jsonl", "z/1.jsonl", "x/.3.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"text": "a"}\n')
    assert [row.id for row in open_corpus(f"{tmp_path}/{pattern}")] == ids


@pytest.mark.parametrize(
    ("name", "why"),
    [("none", "does not exist, or holds no file; check the path"), ("none/*.csv", "matches no file; check the path"), ("empty", "does not exist, or holds no file")],
)  # fmt: skip
def test_where_there_is_no_file_it_is_said(tmp_path, name, why):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as refused:
        open_corpus(str(tmp_path / name))
    assert why in str(refused.value)


def test_a_binary_file_is_a_row_that_says_so_only_where_it_is_named(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (tmp_path / "a.txt").write_text("x")
    assert [row.id for row in open_corpus(tmp_path)] == ["a.txt"]
    assert [row.id for row in open_corpus(f"{tmp_path}/*")] == ["a.txt"]
    (row,) = open_corpus(tmp_path / "photo.png")
    assert (row.id, row.text) == ("photo.png", "")
    assert row.error


@pytest.mark.parametrize(
    ("named", "out", "is_read"),
    [
        ("in", "in/answers", True), ("in/a.jsonl", "in/a.jsonl", True), ("in/a.jsonl", "in/b.jsonl", False), ("in/a.jsonl", "in", True),
        ("answers.jsonl.parts/a.jsonl", "answers.jsonl", True), ("in/*.jsonl", "in/z.jsonl", True), ("in/*.jsonl", "in/z.parquet", False),
        ("in/a.jsonl", "memory://in/a.jsonl", False),
    ],
)  # fmt: skip
def test_output_that_would_be_read_the_next_time_is_refused(tmp_path, named, out, is_read):
    for folder in ("in", "answers.jsonl.parts"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jsonl").write_text('{"text": "a"}\n')
    corpus = open_corpus(str(tmp_path / named))
    place = out if "://" in out else str(tmp_path / out)
    if not is_read:
        corpus.check_output(place)
        return
    with pytest.raises(InputError) as refused:
        corpus.check_output(place)
    assert str(refused.value).startswith(
        f"{place}: lies among the files that are read ({tmp_path / named}), so"
    )


def test_a_single_file_that_breaks_is_refused_where_nothing_of_it_can_be_read_and_else_told_behind_its_rows(
    tmp_path, monkeypatch
):
    for module in ("files", "raw_rows", "json_reader"):
        monkeypatch.setattr(f"rlm_ray.batch.{module}.CHUNK", 20)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 10)[:-4])
    *rows, broken = open_corpus(tmp_path / "a.jsonl.gz")
    assert ([row.text for row in rows], broken.id) == (["a"] * 10, "a.jsonl.gz:11")
    assert broken.error.startswith(f"cannot be read, nor can what follows in {tmp_path}/a.jsonl.gz: ")
    (tmp_path / "b.jsonl.gz").write_bytes(b"\x1f\x8b broken")
    with pytest.raises(InputError, match=r"b\.jsonl\.gz"):
        list(open_corpus(tmp_path / "b.jsonl.gz"))
    rows = list(open_corpus(Files(tmp_path / "b.jsonl.gz", tmp_path / "a.jsonl.gz"), text="text"))
    assert (rows[0].id, rows[0].error[:14], rows[1].id) == ("b.jsonl.gz:1", "cannot be read", "a.jsonl.gz:1")


def test_files_are_called_by_their_paths_and_urls(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    fsspec.filesystem("memory").pipe("/named/b.txt", b"y")
    corpus = open_corpus(Files(f"file://{tmp_path}/a.txt", "memory://named/b.txt"))
    assert corpus.name == f"{tmp_path}/a.txt memory://named/b.txt"
    assert [(row.id, row.values) for row in corpus] == [
        ("a.txt", {"path": "a.txt", "text": "x"}), ("b.txt", {"path": "b.txt", "text": "y"}),
    ]  # fmt: skip
