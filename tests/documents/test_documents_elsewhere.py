"""Documents in the rows of `batch`, in the files of the service, on stdin, and in a run that is resumed."""

from __future__ import annotations

import datetime as dt
import io
import time

import pytest
import sample_documents
from sample_documents import FACTS

from rlm_ray import Files
from rlm_ray.batch.source import open_corpus
from rlm_ray.errors import InputError
from rlm_ray.journal.run_store import RunStore
from rlm_ray.runs import context_loader
from rlm_ray.runs.context_loader import read_context
from rlm_ray.serve.context_loader import ContextLoader
from rlm_ray.serve.file_store import FileStore
from rlm_ray.serve.prompt import FileData, FileRef, NamedContext, Text

pytestmark = pytest.mark.slow

STOCK = {"Stock": [["id", "text", "price"], ["x1", "An anvil of iron", 12], ["x2", "A rocket of tin", 99.5]]}


def write(path, data):
    path.write_bytes(data)
    return path


def test_rows_of_a_workbook_are_rows(samples, tmp_path):
    rows = list(open_corpus(write(tmp_path / "a.xlsx", sample_documents.xlsx(**STOCK))))
    assert [(row.id, row.text, row.values["price"]) for row in rows] == [("x1", "An anvil of iron", 12), ("x2", "A rocket of tin", 99.5)]  # fmt: skip


@pytest.mark.parametrize(
    ("sheet", "expected"),
    [
        ([["text"], ["a"], [""], [None], ["b"]], [{"text": "a"}, {"text": "b"}]),
        ([["text", "text"], ["a", "b"]], [{"text": "a", "text_2": "b"}]),
        ([["text", ""], ["a", "b"]], [{"text": "a", "column_2": "b"}]),
        (
            [["text", "flag"], ["a", True], ["b", False]],
            [{"text": "a", "flag": True}, {"text": "b", "flag": False}],
        ),
        ([["text", "n"], ["a", 1e20], ["b", -0.5]], [{"text": "a", "n": 1e20}, {"text": "b", "n": -0.5}]),
        ([["text", "on"], ["a", dt.date(2024, 2, 29)]], [{"text": "a", "on": "2024-02-29"}]),
        ([["text", "n"], ["größe\nzwei", None]], [{"text": "größe\nzwei", "n": None}]),
        ([["text", 2024], ["a", "b"]], [{"text": "a", "2024": "b"}]),
        ([["text"]], []),
    ],
)
def test_cells_of_a_workbook_keep_their_values(samples, tmp_path, sheet, expected):
    rows = open_corpus(write(tmp_path / "a.xlsx", sample_documents.xlsx(One=sheet)))
    assert [dict(row.values) for row in rows] == expected


def test_rows_of_several_sheets_name_their_sheet(samples, tmp_path):
    two = sample_documents.xlsx(A=[["text"], ["one"]], Empty=[], B=[["text", "n"], ["two", 2]])
    rows = open_corpus(write(tmp_path / "a.xlsx", two))
    assert [dict(row.values) for row in rows] == [
        {"sheet": "A", "text": "one"},
        {"sheet": "B", "text": "two", "n": 2},
    ]


@pytest.mark.parametrize(
    "data", [b"no workbook", b"PK\x03\x04 cut", sample_documents.old_office("EncryptedPackage")]
)
def test_a_workbook_that_cannot_be_read_is_refused_alone_and_a_row_among_others(samples, tmp_path, data):
    write(tmp_path / "a.xlsx", data)
    with pytest.raises(InputError, match=r"a\.xlsx"):
        list(open_corpus(tmp_path / "a.xlsx"))
    write(tmp_path / "b.xlsx", sample_documents.xlsx(**STOCK))
    rows = list(open_corpus(tmp_path))
    assert [bool(row.error) for row in rows] == [True, False, False]


def test_documents_are_rows_of_a_corpus(samples):
    rows = {row.id: row for row in open_corpus(samples / "good")}
    for name in FACTS.keys() - {"stock.xlsx"}:
        assert FACTS[name] in rows[name].text
    assert not any(row.error for row in rows.values())
    assert all(row.error for row in open_corpus(samples / "bad"))


@pytest.fixture
def files(tmp_path):
    return FileStore(str(tmp_path / "runs"), 10_000_000, 1.0)


def test_uploaded_documents_are_named_after_their_files(samples, files):
    loader = ContextLoader(files, (), 10_000_000)
    pieces = [NamedContext("question", Text("plain"))]
    for name in FACTS:
        data = (samples / "good" / name).read_bytes()
        stored = files.save("ann", name, "user_data", io.BytesIO(data), time.time())
        pieces.append(NamedContext(stored.id, FileRef(stored.id)))
    context = loader.load("ann", pieces)
    assert context.ids == ("question", *FACTS)
    for document in context.documents()[1:]:
        assert FACTS[document["id"]] in document["text"]
    assert context.origin.startswith("read 13 files (")


def test_one_uploaded_document_is_a_text(samples, files):
    data = (samples / "good" / "prices.pdf").read_bytes()
    context = ContextLoader(files, (), 10_000_000).load(
        "ann", [NamedContext("a", FileData("prices.pdf", data))]
    )
    assert context.text().startswith("[page 1]\nFirst page")


def test_uploaded_document_that_cannot_be_read_says_so_in_its_place(samples, files):
    loader = ContextLoader(files, (), 10_000_000)
    bad = NamedContext("locked.pdf", FileData("locked.pdf", (samples / "bad" / "locked.pdf").read_bytes()))
    context = loader.load("ann", [bad, NamedContext("b", FileData("b.txt", b"text"))])
    assert context.documents() == [
        {
            "id": "locked.pdf",
            "text": "[this file was not read: it is protected by a password; save a copy without one]",
        },
        {"id": "b", "text": "text"},
    ]
    assert "not read: locked.pdf" in context.origin
    for pieces in ([bad], [bad, bad]):
        with pytest.raises(InputError, match=r"locked\.pdf.*password"):
            loader.load("ann", pieces)


def test_a_resumed_run_reads_its_files_as_before(samples, tmp_path):
    source = Files(samples / "good", exclude=["*.pdf"], include=["*.md", "*.pdf", "*.docx"])
    folder = RunStore(str(tmp_path), "r-1")
    context = read_context(source)
    assert context.ids == ("harbour.docx", "notes.md")
    context_loader.save_context(folder, context, source)
    again, fingerprint = context_loader.load_context(folder)
    assert (again.ids, again.fingerprint()) == (context.ids, fingerprint)
