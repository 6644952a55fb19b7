"""Documents of each kind become texts; what cannot be read costs itself only, and no file is taken apart where keys are."""

from __future__ import annotations

import os

import pytest
import sample_documents
from sample_documents import FACTS, UNREADABLE

from rlm_ray.documents import converter as converter_module
from rlm_ray.documents.converter import ConversionLimits, DocumentConverter, DocumentReader
from rlm_ray.errors import InputError

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", FACTS)
def test_document_becomes_text_in_a_process_that_has_read_nothing_before(samples, name):
    with DocumentReader() as reader:
        assert FACTS[name] in reader.read((samples / "good" / name).read_bytes(), name).text


@pytest.mark.parametrize("name", [name for name in FACTS if name.rpartition(".")[2] in {"pdf", "docx", "pptx", "xlsx", "epub", "odt", "rtf", "html"}])  # fmt: skip
@pytest.mark.parametrize("called", ["", "upload", "wrong.txt"])
def test_content_tells_format_where_name_does_not(samples, reader, name, called):
    assert FACTS[name] in reader.read((samples / "good" / name).read_bytes(), called).text


@pytest.mark.parametrize(("name", "why"), UNREADABLE.items())
def test_unreadable_document_is_one_sentence_and_next_one_is_read(samples, reader, name, why):
    with pytest.raises(InputError) as caught:
        reader.read((samples / "bad" / name).read_bytes(), name)
    assert why in caught.value.why
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert "nine" in reader.read((samples / "good" / "shop.html").read_bytes(), "shop.html").text


def test_pdf_of_300_pages_is_read_with_all_its_numbers(samples, reader):
    many = sample_documents.pdf([f"Fact {number} is written here." for number in range(1, 301)])
    text = reader.read(many, "many.pdf").text
    assert text.count("[page ") == 300
    assert "[page 217]\nFact 217 is written here." in text


def test_pdf_that_only_its_owner_may_change_is_read(samples, reader):
    data = sample_documents.pdf(["open to read"], owner_password="o")
    assert "open to read" in reader.read(data, "a.pdf").text


def test_pages_without_text_are_named(samples, reader):
    read = reader.read(sample_documents.pdf(["words", "", "more words"]), "a.pdf")
    assert read.notes == ("page 2 of 3 without text",)
    assert "[page 2]\n[no text on this page: an image or a scan]" in read.text


def test_tables_are_lines_with_cells(samples, reader):
    read = {name: reader.read((samples / "good" / name).read_bytes(), name).text for name in FACTS}
    assert "| Ilse | 310 |" in read["harbour.docx"]
    assert "| Day | Hour |\n| Mon | 9 |" in read["shop.html"]
    assert "[sheet Stock]\n| id | text | price |" in read["stock.xlsx"]


def test_what_a_reader_does_not_see_is_no_text(samples, reader):
    assert "secret" not in reader.read((samples / "good" / "shop.html").read_bytes(), "shop.html").text


def test_document_over_its_time_costs_only_itself(samples):
    limits = ConversionLimits(timeout_s=0.0005)
    data = (samples / "good" / "prices.pdf").read_bytes()
    with (
        DocumentConverter(limits) as converter,
        pytest.raises(InputError, match=r"takes more than the 0.0005 s"),
    ):
        converter.convert(data, "pdf", "prices.pdf")


def test_document_with_more_text_than_allowed_is_refused(samples):
    with DocumentConverter(ConversionLimits(max_text_bytes=1000)) as converter:
        with pytest.raises(InputError, match="holds more than 0 MB of text"):
            converter.convert(sample_documents.pdf(["words " * 1000]), "pdf", "a.pdf")
        assert converter.convert(b"<p>few", "html", "a.html").text == "few"


HOSTILE = """
import os, socket, sys
def parse(data):
    tried = {
        "read": lambda: open("/etc/passwd").read(),
        "write": lambda: open("/tmp/written", "w"),
        "connect": lambda: socket.create_connection(("127.0.0.1", 9)),
        "socket": lambda: socket.socket(),
        "start": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "fork": os.fork,
        "list": lambda: os.listdir("/"),
        "kill": lambda: os.kill(os.getppid(), 9),
    }
    done = []
    for name, attempt in tried.items():
        try:
            attempt()
            done.append(name)
        except OSError:
            pass
    from rlm_ray.documents.parsers import ParsedDocument
    return ParsedDocument(repr((done, sorted(os.environ))), "hostile")
"""


def test_parser_that_is_taken_over_can_open_start_and_reach_nothing(monkeypatch, tmp_path):
    """The parser of a format is replaced in the worker by one that does what it likes."""
    (tmp_path / "hostile_parser.py").write_text(HOSTILE)
    monkeypatch.setenv("SECRET_API_KEY", "sk-secret")
    start = (
        "import sys; sys.path += sys.argv[2:]; from rlm_ray.documents import worker; import hostile_parser; "
        "sys.modules['rlm_ray.documents.parsers.hostile'] = hostile_parser; "
        "worker._PARSERS['html'] = ('hostile', 'parse', ()); worker.main(int(sys.argv[1]))"
    )
    monkeypatch.setattr(converter_module, "_BOOTSTRAP", start)
    monkeypatch.setattr(converter_module, "_search_path", lambda: [str(tmp_path), *SEARCH_PATH], raising=True)
    with DocumentConverter() as converter:
        done, environment = eval(converter.convert(b"x", "html", "x").text)
    assert done == []
    assert "SECRET_API_KEY" not in environment
    assert "HOME" not in environment


SEARCH_PATH = converter_module._search_path()


def test_worker_that_dies_costs_one_document(monkeypatch):
    with DocumentConverter() as converter:
        assert converter.convert(b"<p>one", "html", "a").text == "one"
        os.kill(converter._process.pid, 9)
        with pytest.raises(InputError, match="b: ended the process that reads documents"):
            converter.convert(b"<p>two", "html", "b")
        assert converter.convert(b"<p>three", "html", "c").text == "three"


def test_parser_that_is_not_installed_is_named_with_how_to_install_it(monkeypatch):
    monkeypatch.setattr(converter_module, "_search_path", lambda: SEARCH_PATH[:1])
    with DocumentReader() as reader:
        with pytest.raises(InputError, match=r"a.pdf: needs .*: pip install 'rlm_ray\[documents\]'"):
            reader.read(b"%PDF-1.4", "a.pdf")
        assert reader.read(b'{"cells": []}', "a.ipynb").text == ""


def test_worker_ends_with_its_reader(samples):
    with DocumentConverter() as converter:
        converter.convert(b"<p>one", "html", "a")
        process = converter._process
    assert process.returncode == 0


def test_nothing_is_taken_apart_without_a_jail(monkeypatch):
    missing = {"seccomp": "no table of system calls for riscv64", "Landlock": ""}
    monkeypatch.setattr(converter_module, "_kernel_features", lambda: missing)
    with (
        DocumentConverter() as converter,
        pytest.raises(InputError, match=r"without seccomp .*riscv64.*save it as text"),
    ):
        converter.convert(b"<p>one", "html", "a.html")
    assert converter._process is None


def test_documents_are_read_without_landlock(monkeypatch):
    monkeypatch.setattr(converter_module, "_kernel_features", lambda: {"seccomp": "", "Landlock": "old"})
    with DocumentConverter() as converter:
        assert converter.convert(b"<p>one", "html", "a.html").text == "one"
