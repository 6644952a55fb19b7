"""Rows of files as documents, rows of a program, and how much of them has been read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlm_ray.batch.source import IterableSource, open_corpus, open_files, read_documents
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
