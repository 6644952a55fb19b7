"""Rows from every kind of source; what cannot be read is a row that says why."""

from __future__ import annotations

import csv
import gzip
import io
import json
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter

from rlm_ray.batch.raw_rows import MAX_ROW_BYTES
from rlm_ray.batch.source import open_corpus, read_documents
from rlm_ray.documents.files import Files
from rlm_ray.errors import InputError

DOCUMENTS = [
    {"id": "a", "text": "one", "title": "first"},
    {"id": "b", "text": "zwei ü", "title": "second, with a comma"},
    {"id": "c", "text": "three\nlines 😀\n", "title": 'a "quote"'},
]


def jsonl(documents=DOCUMENTS):
    return "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in documents).encode()


def as_csv(delimiter=","):
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, ["id", "text", "title"], delimiter=delimiter, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(DOCUMENTS)
    return file.getvalue().encode()


def as_parquet():
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(DOCUMENTS), file, row_group_size=2)
    return file.getvalue()


def zst(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


WHOLE = {
    "rows.jsonl": jsonl(),
    "rows.ndjson": b"\xef\xbb\xbf" + jsonl().replace(b"\n", b"\r\n"),
    "no_end.jsonl": jsonl().rstrip(b"\n"),
    "blank.jsonl": jsonl().replace(b"\n", b"\n\n  \n"),
    "rows.jsonl.gz": gzip.compress(jsonl()),
    "two.jsonl.gz": gzip.compress(jsonl(DOCUMENTS[:1])) + gzip.compress(jsonl(DOCUMENTS[1:])),
    "rows.jsonl.zst": zst(jsonl()),
    "rows.csv": as_csv(),
    "rows.tsv": as_csv("\t"),
    "rows.csv.gz": gzip.compress(as_csv()),
    "rows.parquet": as_parquet(),
}


@pytest.mark.parametrize("name", WHOLE)
def test_every_format_gives_the_same_rows(tmp_path, name):
    (tmp_path / name).write_bytes(WHOLE[name])
    corpus = open_corpus(tmp_path / name)
    rows = list(corpus)
    assert [(row.number, row.id, row.text) for row in rows] == [
        (number, document["id"], document["text"]) for number, document in enumerate(DOCUMENTS)
    ]
    assert [row.values["title"] for row in rows] == [document["title"] for document in DOCUMENTS]
    assert not any(row.error for row in rows)
    assert corpus.columns == ("id", "text", "title")
    assert list(corpus) == rows
    assert corpus.share() == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.xlsx"])
def test_of_a_file_that_is_read_at_once_nobody_says_which_share_its_first_rows_are(tmp_path, name):
    texts = [f"text {number}" for number in range(300)]
    if name == "rows.xlsx":
        workbook = xlsxwriter.Workbook(tmp_path / name)
        workbook.add_worksheet().write_column(0, 0, ["text", *texts])
        workbook.close()
    else:
        data = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    corpus = open_corpus(tmp_path / name)
    assert {corpus.share() for _ in islice(corpus, 200)} == {None}


def test_of_a_large_file_the_share_that_was_read_is_told(tmp_path):
    line = json.dumps({"text": "x" * 1_000}) + "\n"
    (tmp_path / "rows.jsonl").write_text(line * 12_000)
    corpus = open_corpus(tmp_path / "rows.jsonl")
    told = [
        (number, share) for number, share in enumerate(corpus.share() for _ in corpus) if share is not None
    ]
    assert len(told) > 6_000
    assert all(abs(number / share - 12_000) < 4_000 for number, share in told)


def test_any_iterable_of_mappings_or_texts_is_a_corpus():
    assert [row.text for row in open_corpus(["one", "two"])] == ["one", "two"]
    assert [row.id for row in open_corpus(iter(DOCUMENTS))] == ["a", "b", "c"]
    assert open_corpus([]).columns == ()
    assert list(open_corpus([])) == []


def test_an_iterator_is_read_once_and_says_so():
    corpus = open_corpus(iter(DOCUMENTS))
    assert len(list(corpus)) == 3
    with pytest.raises(InputError, match="was read already"):
        list(corpus)


def test_a_folder_of_texts_is_a_row_for_each_file(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.md").write_text("# B")
    (tmp_path / "sub" / "a.txt").write_text("A")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\0\0")
    (tmp_path / ".hidden").write_text("no")
    rows = list(open_corpus(tmp_path))
    assert [(row.number, row.id, row.text) for row in rows] == [(0, "b.md", "# B"), (1, "sub/a.txt", "A")]


def test_a_folder_of_rows_is_read_as_that_of_a_question(tmp_path):
    """Not what git ignores, caches, lock files, links out of it; and what is left out is counted."""
    (tmp_path / "repo").mkdir()
    repo = tmp_path / "repo"
    for name in ("src/a.py", "src/made.log", "keep.log", "node_modules/x/i.js", "poetry.lock", "sub/.gitignore", "sub/b.md", "sub/c.md"):  # fmt: skip
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).write_text("text")
    (repo / "sub" / ".gitignore").write_text("c.md\n")
    (repo / ".gitignore").write_text("*.log\n!keep.log\n")
    (tmp_path / "secret").write_text("no")
    (repo / "link").symlink_to(tmp_path / "secret")
    for source in (repo, f"file://{repo}"):
        corpus = open_corpus(source)
        assert [row.id for row in corpus] == ["keep.log", "src/a.py", "sub/b.md"]
        assert corpus.passed_over_line == (
            "passed over: 1 caches, 2 hidden, 2 ignored by .gitignore, 1 links out of the folder, 1 lock files and generated ones"
        )
    (repo / "only").mkdir()
    (repo / "only" / "x.lock").write_text("x")
    with pytest.raises(InputError, match=r"holds no file to read \(passed over: 1 lock files"):
        open_corpus(repo / "only")


@pytest.mark.parametrize(
    ("how", "ids"),
    [
        ({}, ["a.md", "b.txt", "sub/c.md"]),
        ({"include": ["*.md"]}, ["a.md", "sub/c.md"]),
        ({"exclude": ["sub/"]}, ["a.md", "b.txt"]),
        ({"include": ["*.md"], "exclude": ["a.*"]}, ["sub/c.md"]),
    ],
)
def test_patterns_say_what_of_a_folder_is_a_row(tmp_path, how, ids):
    (tmp_path / "sub").mkdir()
    for name in ("a.md", "b.txt", "sub/c.md"):
        (tmp_path / name).write_text("text")
    assert [row.id for row in open_corpus(Files(tmp_path, **how))] == ids
    context, _ = read_documents(Files(tmp_path, **how))
    assert [document["id"] for document in context.documents()] == ids


def test_an_encoding_that_is_said_is_no_guess(tmp_path):
    (tmp_path / "a.txt").write_bytes("Größe".encode("cp1252"))
    (tmp_path / "b.txt").write_text("Größe")
    unsaid = [row.error for row in open_corpus(tmp_path)]
    assert unsaid == ["is not UTF-8, it looks like cp1252; say so (--encoding), or save it as UTF-8", ""]
    assert [row.text for row in open_corpus(Files(tmp_path, encoding="latin-1"))] == ["Größe", "Größe"]


@pytest.mark.parametrize(
    ("source", "out", "is_read"),
    [
        (".", "answers", True),
        (".", "answers.jsonl", True),
        ("sub", "answers.jsonl", False),
        ("sub", "sub/answers", True),
        ("a.txt", "answers", False),
        ("a.txt", "a.txt", True),
        ("*.jsonl", "old.jsonl", True),
        ("*.jsonl", "new.jsonl", True),
        ("*.jsonl", "sub/new.jsonl", False),
        ("*.jsonl", "answers", False),
        (".", ".answers", False),
        (".", "ignored/answers", False),
        (".", "sub/.hidden/answers", False),
        (".", "../answers", False),
        (".", "memory://answers", False),
    ],
)
def test_an_output_among_the_files_that_are_read_is_refused(tmp_path, monkeypatch, source, out, is_read):
    here = tmp_path / "here"
    (here / "sub").mkdir(parents=True)
    for name in ("a.txt", "sub/b.txt", "old.jsonl"):
        (here / name).write_text('{"text": "x"}\n')
    (here / ".gitignore").write_text("ignored/\n")
    monkeypatch.chdir(here)
    corpus = open_corpus(source)
    if not is_read:
        corpus.check_output(out)
        return
    with pytest.raises(InputError, match=r"lies among the files that are read .* write it elsewhere"):
        corpus.check_output(out)


def test_a_glob_and_several_paths_are_read_in_order(tmp_path):
    for name in ("2.jsonl", "1.jsonl"):
        (tmp_path / name).write_text(f'{{"text": "{name}"}}\n')
    assert [row.id for row in open_corpus(str(tmp_path / "*.jsonl"))] == ["1.jsonl:1", "2.jsonl:1"]
    both = open_corpus([tmp_path / "2.jsonl", tmp_path / "1.jsonl"])
    assert [(row.number, row.text) for row in both] == [(0, "2.jsonl"), (1, "1.jsonl")]


def test_any_fsspec_url_is_read():
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://rows/one.jsonl", "wb") as file:
        file.write(jsonl())
    assert [row.id for row in open_corpus("memory://rows/one.jsonl")] == ["a", "b", "c"]
    assert [row.id for row in open_corpus("memory://rows")] == ["a", "b", "c"]


def test_ids_come_from_the_position_where_there_is_no_column(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a"}\nnot json\n{"text": "c"}\n')
    ids = [row.id for row in open_corpus(file)]
    assert ids == ["rows.jsonl:1", "rows.jsonl:2", "rows.jsonl:3"]
    assert [row.id for row in open_corpus(file)] == ids


def test_an_id_column_of_numbers_is_taken_as_text():
    assert [row.id for row in open_corpus([{"n": 7, "text": "a"}], id="n")] == ["7"]
    assert open_corpus([{"n": None, "text": "a"}, {"n": 1, "text": "b"}], id="n").__iter__().__next__().error


LARGE = 300
BAD_LINES = {
    b'{"text": "\xff\xfe"}': "is not UTF-8 (byte 0xff at offset 10)",
    b'{"text": "cut off': "is not JSON: Unterminated string",
    b"[1, 2]": "is neither a mapping of columns nor a text, but list",
    b'{"title": "no text"}': "the column 'text' is missing",
    b'{"text": 5}': "the column 'text' is no text but int",
    b'{"text": "' + b"x" * LARGE + b'"}': "is 0.0 MB, above the 0.0 MB of max_row_bytes",
    b"[" * 100_000: "",
}


@pytest.mark.parametrize("line", BAD_LINES, ids=range(len(BAD_LINES)))
def test_a_bad_line_is_a_row_that_says_why_between_good_ones(tmp_path, line):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"text": "before"}\n' + line + b'\n{"text": "after"}\n')
    most = LARGE if line.startswith(b'{"text": "xxx') else MAX_ROW_BYTES
    before, bad, after = open_corpus(file, max_row_bytes=most)
    assert (before.text, after.text, after.number) == ("before", "after", 2)
    assert BAD_LINES[line] in bad.error
    assert bad.error


def test_a_row_of_50_mb_is_passed_over_without_being_held(tmp_path):
    file = tmp_path / "rows.jsonl"
    with file.open("wb") as stream:
        stream.write(b'{"text": "before"}\n{"text": "')
        for _ in range(50):
            stream.write(b"x" * 1_000_000)
        stream.write(b'"}\n{"text": "after"}\n')
    _, bad, after = open_corpus(file)
    assert bad.error == "is 50.0 MB, above the 32.0 MB of max_row_bytes"
    assert after.text == "after"


def test_bad_rows_of_a_csv_are_told_apart(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_bytes(b"id,text\n1,good\n2,\xff\n3,too,many\n4\n5," + b"x" * 500 + b"\n6,good\n")
    rows = list(open_corpus(file, max_row_bytes=400))
    assert [row.error for row in rows] == [
        "",
        "line 3 is not UTF-8 (byte 0xff in a cell)",
        "line 4 has 3 cells where the header has 2; quote cells with a delimiter in them",
        "line 5 has 1 cells where the header has 2; quote cells with a delimiter in them",
        "is 0.0 MB, above the 0.0 MB of max_row_bytes",
        "",
    ]
    assert rows[5].id == "6"


def test_a_parquet_cell_that_is_not_utf8_fails_alone(tmp_path):
    cells = pa.array([b"good", b"\xff\xfe", b"fine"], pa.binary())
    strings = pa.StringArray.from_buffers(3, cells.buffers()[1], cells.buffers()[2])
    pq.write_table(pa.table({"text": strings}), tmp_path / "s.parquet")
    pq.write_table(pa.table({"text": cells}), tmp_path / "b.parquet")
    for name in ("s.parquet", "b.parquet"):
        good, bad, fine = open_corpus(tmp_path / name)
        assert (good.text, fine.text) == ("good", "fine")
        assert bad.error.startswith("is not UTF-8 (byte 0xff")


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.jsonl.zst", "rows.parquet"])
def test_a_file_that_is_cut_off_fails_where_it_breaks_and_the_next_is_read(tmp_path, name):
    (tmp_path / name).write_bytes(WHOLE[name][:-20])
    (tmp_path / "z.jsonl").write_text('{"text": "after"}\n')
    rows = list(open_corpus(tmp_path, text="text"))
    assert rows[-2].error.startswith("cannot be read, nor can what follows in ")
    assert rows[-1].text == "after"


def test_a_text_file_that_is_not_utf8_or_too_large_is_a_bad_row(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff")
    (tmp_path / "b.txt").write_bytes(b"x" * 100)
    (tmp_path / "c.txt").write_bytes(b"fine")
    first, second, third = open_corpus(tmp_path, max_row_bytes=50)
    assert first.error.startswith("is not UTF-8 (byte 0xff at offset 0), and no encoding fits")
    assert second.error.startswith("is 0.0 MB, above")
    assert third.text == "fine"


def test_the_text_is_the_only_column_with_texts_or_the_one_that_is_named():
    assert open_corpus([{"n": 1, "body": "b"}]).text_column == "body"
    assert open_corpus([{"id": "x", "body": "b"}]).text_column == "body"
    assert open_corpus([{"a": "1", "b": "2"}]).text_column is None
    assert [row.text for row in open_corpus([{"a": "1", "b": "2"}], text="b")] == ["2"]


@pytest.mark.parametrize(
    ("source", "columns", "said"),
    [
        (DOCUMENTS, {"text": "body"}, "has no column 'body'; it has id, text, title"),
        (DOCUMENTS, {"id": "key"}, "has no column 'key'; it has id, text, title"),
        (Path("/nowhere/at/all"), {}, "does not exist"),
        ("/nowhere/*.jsonl", {}, "matches no file"),
        (7, {}, "is files, a Ray dataset, or mappings or texts"),
        ("what://rows", {}, "is no storage fsspec knows"),
    ],
)
def test_what_cannot_be_read_at_all_is_said_at_once(source, columns, said):
    with pytest.raises(InputError, match=said):
        open_corpus(source, **columns)


def test_only_the_head_is_read_before_the_rows_are_wanted():
    read = []

    def source():
        for number in range(10**9):
            read.append(number)
            yield {"text": "t"}

    corpus = open_corpus(source())
    assert len(read) == 100
    assert [row.number for row in islice(corpus, 3)] == [0, 1, 2]
    assert len(read) == 100
