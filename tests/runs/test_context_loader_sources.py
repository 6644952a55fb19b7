"""What a user calls a context, and what is refused with a sentence."""

from __future__ import annotations

import gzip
import io
import logging
import os
from pathlib import Path

import pyarrow as pa
import pytest

from rlm_ray.documents.files import Files
from rlm_ray.errors import InputError
from rlm_ray.runs import context_loader
from rlm_ray.runs.context_loader import contexts_of, read_context


class Located(os.PathLike):
    def __init__(self, path):
        self._path = path

    def __fspath__(self):
        return str(self._path)


@pytest.fixture
def note(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("ein Wört")
    return path


@pytest.mark.parametrize(
    "open_it",
    [
        lambda path: path.open(encoding="utf-8"),
        lambda path: path.open("rb"),
        lambda path: io.StringIO(path.read_text()),
        lambda path: io.BytesIO(path.read_bytes()),
        lambda path: gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(path.read_bytes()))),
        Path,
        Located,
        Files,
    ],
)
def test_open_files_and_paths_are_read(open_it, note):
    source = open_it(note)
    try:
        assert read_context(source).text() == "ein Wört"
    finally:
        if hasattr(source, "close"):
            source.close()


def test_open_file_is_read_from_where_it_stands():
    file = io.StringIO("head\nrest")
    file.readline()
    assert read_context(file).text() == "rest"


def test_several_open_files_are_documents_by_their_names(note):
    with note.open() as one:
        assert read_context([one, io.StringIO("other")]).documents() == [
            {"id": str(note), "text": "ein Wört"},
            {"id": "1", "text": "other"},
        ]


class ReadsNumbers:
    def read(self):
        return 7


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (io.BytesIO(b"%PDF-1.7 \xff\xfe"), "BytesIO is not UTF-8; give its path as pathlib.Path"),
        (ReadsNumbers(), "ReadsNumbers gives no text when it is read, but int"),
        (pa.table({"text": ["a"]}), "is a table \\(Table\\); RLM.batch asks about each of its rows"),
        (7, "not int"),
    ],
)
def test_what_is_no_context_is_refused(source, why):
    with pytest.raises(InputError, match=why):
        read_context(source)


def test_closed_file_and_one_opened_for_writing_are_refused(note):
    closed = note.open()
    closed.close()
    with pytest.raises(InputError, match="cannot be read: I/O operation on closed file"):
        read_context(closed)
    with note.open("a") as writing, pytest.raises(InputError, match="cannot be read: not readable"):
        read_context(writing)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("a text", "is one context \\(str\\).* give a list of them, or ask run"),
        (b"a text", "is one context \\(bytes\\)"),
        (Path("folder"), "is one context \\(PosixPath\\)"),
        (Files("folder"), "is one context \\(Files\\)"),
        (io.StringIO("a text"), "is one context \\(StringIO\\)"),
        ({"id": "a", "text": "b"}, "must be a list of contexts; got dict"),
        (None, "must be a list of contexts; got NoneType"),
        (7, "must be a list of contexts; got int"),
        (pa.table({"text": ["a"]}), "is a table \\(Table\\); RLM.batch"),
    ],
)
def test_map_refuses_what_is_no_list(source, why):
    with pytest.raises(InputError, match=why):
        contexts_of(source)


@pytest.mark.parametrize("source", [["a", "b"], ("a", "b"), iter(["a", "b"]), {"a": 1, "b": 2}.keys()])
def test_map_takes_every_series_of_contexts(source):
    assert contexts_of(source) == ["a", "b"]


@pytest.mark.parametrize("text", ["note.txt", "."])
def test_name_of_a_file_given_as_a_text_is_warned_about(text, note, monkeypatch, caplog):
    monkeypatch.chdir(note.parent)
    with caplog.at_level(logging.WARNING):
        read_context(text)
    assert (
        f"the context is the text {text!r}; to read what is there, give pathlib.Path({text!r})" in caplog.text
    )


@pytest.mark.parametrize(
    "text", ["", " ", "no file", "note.txt\nand more", "x" * 5_000, "\0", "a\0b", "~nobody/x"]
)
def test_other_texts_are_not_warned_about(text, note, monkeypatch, caplog):
    monkeypatch.chdir(note.parent)
    with caplog.at_level(logging.WARNING):
        read_context(text)
    assert caplog.text == ""


def test_the_characters_of_a_text_are_not_looked_at_one_by_one(monkeypatch):
    seen = []
    looked_at = context_loader._is_open_file
    monkeypatch.setattr(context_loader, "_is_open_file", lambda value: seen.append(value) or looked_at(value))
    text = "a text of many characters " * 1_000
    assert context_loader.read_context(text).text() == text
    assert context_loader.read_context([text, text]).info.documents == 2
    assert len(seen) <= 4
