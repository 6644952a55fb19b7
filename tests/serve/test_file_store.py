"""Uploaded files: kept for their key until they expire."""

from __future__ import annotations

import io
import time

import pytest

from rlm_ray.serve.file_store import DAY_S, FileStore, PayloadTooLargeError


@pytest.fixture
def files(tmp_path):
    return FileStore(str(tmp_path / "runs"), max_bytes=1000, days=2)


def save(files, data=b"text", key="ann", now=100.0):
    return files.save(key, "a.txt", "user_data", io.BytesIO(data), now)


def test_a_file_is_kept_for_its_key_until_it_expires(files):
    stored = save(files)
    assert files.find("ann", stored.id, 101.0) == stored
    assert files.find("bob", stored.id, 101.0) is None
    assert files.read("ann", stored.id) == b"".join(files.chunks("ann", stored.id)) == b"text"
    assert files.find("ann", stored.id, 100.0 + 2 * DAY_S) is None
    assert files.list_files("ann", 101.0) == []


def test_files_are_listed_newest_first_and_swept_when_they_expire(files, tmp_path):
    first, second = save(files), save(files, now=200.0)
    assert files.list_files("ann", 201.0) == [second, first]
    files.delete_expired(150.0 + 2 * DAY_S)
    assert files.list_files("ann", 201.0) == [second]
    assert len(list((tmp_path / "runs" / "serve" / "files" / "ann").iterdir())) == 2


@pytest.mark.parametrize("torn", [None, b"", b"{", b"{}", b"[]", b"\xff"])
def test_a_file_whose_process_died_is_none_and_swept_when_it_would_have_expired(files, tmp_path, torn):
    whole, lost = save(files), save(files)
    about = tmp_path / "runs" / "serve" / "files" / "ann" / f"{lost.id}.json"
    about.unlink() if torn is None else about.write_bytes(torn)
    assert files.find("ann", lost.id, 101.0) is None
    assert files.list_files("ann", 101.0) == [whole]
    files.delete_expired(101.0)
    assert about.with_suffix("").exists()
    files.delete_expired(time.time() + 2 * DAY_S)
    assert not list(about.parent.iterdir())


def test_a_file_that_is_too_large_leaves_nothing_behind(files, tmp_path):
    with pytest.raises(PayloadTooLargeError, match="1,000 bytes"):
        save(files, b"x" * 1001)
    assert list((tmp_path / "runs" / "serve" / "files" / "ann").iterdir()) == []


@pytest.mark.parametrize("file_id", ["", "../x", "file-1", "file-" + "0" * 24 + "/..", "file-" + "0" * 24])
def test_what_is_no_file_is_not_found(files, file_id):
    assert files.find("ann", file_id, 0.0) is None


def test_a_sweep_goes_on_after_a_file_that_cannot_be_looked_at(files, tmp_path, caplog):
    bad, old = save(files), save(files)
    other = save(files, key="bob")
    folder = tmp_path / "runs" / "serve" / "files" / "ann"
    (folder / f"{bad.id}.json").unlink()
    (folder / f"{bad.id}.json").mkdir()
    files.delete_expired(101.0 + 2 * DAY_S)
    assert not (folder / f"{old.id}.json").exists()
    assert files.list_files("bob", 101.0) == []
    assert other.id not in caplog.text
    assert bad.id in caplog.text
