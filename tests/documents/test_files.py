"""Files, folders and other things a user calls a context."""

from __future__ import annotations

import pytest

from rlm_ray.errors import InputError
from rlm_ray.runs.context_loader import read_context


def test_one_file_is_one_text(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeffhello", encoding="utf-8")
    assert read_context(tmp_path / "a.txt").text() == "hello"


def test_a_folder_is_documents_named_by_their_paths(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.md").write_text("B")
    (tmp_path / "sub" / "a.txt").write_text("A")
    (tmp_path / ".hidden").write_text("no")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\0\0")
    assert read_context(tmp_path).documents() == [
        {"id": "b.md", "text": "B"},
        {"id": "sub/a.txt", "text": "A"},
    ]


def test_several_files_are_documents(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(name)
    context = read_context([tmp_path / "a", tmp_path / "b"])
    assert [document["text"] for document in context.documents()] == ["a", "b"]


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: does not exist"):
        read_context(tmp_path / "nowhere")


def test_a_folder_without_text_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no text file"):
        read_context(tmp_path)


def test_a_file_that_is_not_utf8_is_read_by_a_guess_that_is_reported(tmp_path, caplog):
    (tmp_path / "latin1.txt").write_bytes("näheres".encode("latin1"))
    context = read_context(tmp_path / "latin1.txt")
    assert context.text() == "näheres"
    assert context.origin.endswith("latin1.txt (read as cp1252, which is a guess)")
    assert "a guess" in caplog.text


def test_an_unreadable_thing_is_named(tmp_path):
    with pytest.raises(InputError, match="a context is a str"):
        read_context(3.5)
