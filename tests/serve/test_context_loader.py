"""Contexts read from uploaded files and from URIs."""

from __future__ import annotations

import io

import pytest

from rlm_ray.errors import InputError
from rlm_ray.serve.context_loader import ContextLoader
from rlm_ray.serve.file_store import FileStore, PayloadTooLargeError
from rlm_ray.serve.prompt import FileData, FileRef, NamedContext, Text, Uri


@pytest.fixture
def files(tmp_path):
    return FileStore(str(tmp_path / "runs"), max_bytes=1000, days=2)


def save(files, data=b"text", key="ann", now=100.0):
    return files.save(key, "a.txt", "user_data", io.BytesIO(data), now)


def test_one_piece_is_a_text_and_several_are_documents_with_names_of_their_own(files):
    loader = ContextLoader(files, (), 1000)
    stored = save(files, "\ufeffé".encode())
    assert loader.load("ann", []).nbytes == 0
    one = loader.load("ann", [NamedContext("a", FileRef(stored.id))])
    assert bytes(one.data).decode() == "é"
    several = loader.load(
        "ann",
        [NamedContext("a", Text("1")), NamedContext("a", FileData("", b"2")), NamedContext("b", Text("3"))],
    )
    assert several.ids == ("a", "a (2)", "b")
    with pytest.raises(InputError, match="UTF-8"):
        loader.load("ann", [NamedContext("a", FileData("", b"\xff"))])


@pytest.mark.parametrize(
    ("uri", "allowed"),
    [
        ("s3://team/a.txt", True),
        ("s3://other/a.txt", False),
        ("s3://team/../other/a.txt", False),
        ("s3://team/%2e%2e/other", False),
        ("s3://team/a::file:///etc/passwd", False),
        ("file:///etc/passwd", False),
        ("S3://team/a", True),
    ],
)
def test_uris_are_read_only_below_what_is_allowed(files, uri, allowed):
    assert ContextLoader(files, ("s3://team/",), 1000).allows(uri) is allowed


def test_a_uri_is_read_up_to_a_size(files, tmp_path):
    (tmp_path / "a.txt").write_text("x" * 20)
    uri = f"file://{tmp_path}/a.txt"
    assert (
        ContextLoader(files, (f"file://{tmp_path}/",), 20).load("ann", [NamedContext("a", Uri(uri))]).nbytes
        == 20
    )
    with pytest.raises(PayloadTooLargeError):
        ContextLoader(files, (f"file://{tmp_path}/",), 19).load("ann", [NamedContext("a", Uri(uri))])
