"""A journal of segments: two writers who do not know of each other, lost replies, storages that can do less."""

from __future__ import annotations

import errno
import logging
from dataclasses import replace

import fsspec
import pytest
from journal_samples import JOURNAL, LINES, RECORDS, RUN

from rlm_ray.errors import JournalError
from rlm_ray.journal.run_store import RunStore, find_run, list_runs
from rlm_ray.journal.storage import base, object_store
from rlm_ray.journal.storage.base import WriterIdentity

pytestmark = pytest.mark.slow


@pytest.fixture(params=["memory", "s3"])
def folder(request):
    return RunStore(request.getfixturevalue(f"{request.param}_url"), RUN)


def leave_claim(folder, **changes):
    """As if another writer had opened the journal and never closed it."""
    claim = replace(WriterIdentity.of_this_process("the other"), **changes)
    folder.save("lock", claim.to_bytes())
    return claim


def test_a_writer_taken_for_dead_is_shut_out_by_the_next_one(folder):
    old = folder.writer("run")
    old.append(LINES[0])
    leave_claim(folder, owner="run", host="elsewhere")
    new = folder.writer("run")
    with pytest.raises(JournalError, match=r"run \(process .* writes this journal; this writer was shut out"):
        old.append(LINES[2])
    new.append(LINES[1] + LINES[2])
    old.close()
    assert folder.current_writer() is not None
    new.close()
    assert folder.records() == RECORDS


def test_of_two_that_open_at_once_one_is_refused(folder, monkeypatch):
    first = folder.writer("first")
    late = folder._store.segments()[:-1]
    monkeypatch.setattr(object_store.ObjectStore, "holder", lambda self: None)
    monkeypatch.setattr(object_store.ObjectStore, "segments", lambda self: late)
    with pytest.raises(JournalError, match=r"first .*shut out"):
        folder.writer("second")
    monkeypatch.undo()
    assert first.append(JOURNAL) == len(JOURNAL)
    first.close()


def test_a_silent_writer_on_another_host_is_waited_for_a_minute(folder, monkeypatch):
    folder.writer("other").close()
    claim = leave_claim(folder, host="elsewhere")
    with pytest.raises(JournalError, match=r"the other .* on elsewhere.*silent for 60 s"):
        folder.writer("me")
    monkeypatch.setattr(object_store.time, "time", lambda: claim.since + 61)
    assert folder.current_writer() is None
    folder.writer("me").close()


@pytest.mark.parametrize("changes", [{"pid": 1}, {"born": "1"}, {"pid": 2**22 + 1}])
def test_the_claim_of_a_dead_process_of_this_host_counts_nothing(folder, changes):
    leave_claim(folder, **changes)
    writer = folder.writer("me")
    assert writer.append(JOURNAL) == len(JOURNAL)
    writer.close()


def test_a_claim_nobody_can_read_counts_nothing(folder):
    folder.save("lock", b"\xff{")
    writer = folder.writer("me")
    assert writer.append(JOURNAL) == len(JOURNAL)
    writer.close()


@pytest.mark.parametrize("again", [LINES[1], LINES[1] + LINES[2]])
def test_a_segment_whose_reply_was_lost_is_found_to_be_our_own(folder, monkeypatch, again):
    writer = folder.writer("me")
    writer.append(LINES[0])
    create = object_store.ObjectStore.create

    def loses_reply(self, path, data, **how):
        create(self, path, data, **how)
        raise OSError(errno.ECONNRESET, "Connection reset by peer")

    with monkeypatch.context() as broken:
        broken.setattr(object_store.ObjectStore, "create", loses_reply)
        with pytest.raises(JournalError, match="Connection reset"):
            writer.append(LINES[1])
    assert writer.append(again) == writer.size == folder.size()
    writer.append(LINES[2])
    writer.close()
    assert folder.records() == RECORDS


def test_an_append_that_failed_may_be_tried_again(folder, monkeypatch):
    writer = folder.writer("me")

    def fails(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(object_store.ObjectStore, "create", fails)
        for _ in range(3):
            with pytest.raises(JournalError, match="disk is full"):
                writer.append(LINES[0])
    assert writer.append(JOURNAL) == len(JOURNAL) == folder.size()
    writer.close()


@pytest.mark.parametrize("answer", ["ignores", "refuses"])
def test_a_storage_without_conditions_is_asked_before_each_segment(memory_url, monkeypatch, caplog, answer):
    whole = fsspec.filesystem("memory").pipe_file

    def pipe_file(self, path, data, mode="overwrite"):
        if mode == "create" and answer == "refuses":
            raise OSError(errno.ENOSYS, "Not implemented")
        whole(path, data)

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.pipe_file", pipe_file)
    folder = RunStore(memory_url, RUN)
    with caplog.at_level(logging.WARNING):
        old = folder.writer("run")
    assert "cannot hold two writers apart" in caplog.text
    old.append(LINES[0])
    leave_claim(folder, owner="run", host="elsewhere")
    new = folder.writer("run")
    with pytest.raises(JournalError, match="shut out"):
        old.append(LINES[2])
    new.append(LINES[1] + LINES[2])
    new.close()
    assert folder.records() == RECORDS


def test_old_segments_are_not_fetched_again(folder, monkeypatch):
    writer = folder.writer("me")
    for line in LINES:
        writer.append(line)
    writer.close()
    fetched = []
    cat = folder._store.fs.cat
    monkeypatch.setattr(folder._store.fs, "cat", lambda paths: fetched.extend(paths) or cat(paths))
    assert folder.read(len(LINES[0] + LINES[1])) == LINES[2]
    assert [path[-14:] for path in fetched] == ["00000004.jsonl"]


def test_a_missing_segment_is_named(folder):
    writer = folder.writer("me")
    for line in LINES:
        writer.append(line)
    writer.close()
    folder._store.fs.rm_file(folder._store.segment_path(3))
    with pytest.raises(JournalError, match=r"segment 00000003\.jsonl is missing"):
        folder.records()


def test_a_segment_leads_to_its_run(folder):
    writer = folder.writer("me")
    writer.append(JOURNAL)
    writer.close()
    assert find_run(f"{folder.address}/journal/00000002.jsonl", "").records() == RECORDS


def test_a_bucket_that_is_not_there_is_a_clear_error(s3_bucket):
    with pytest.raises(JournalError, match="no such folder or bucket"):
        RunStore("s3://no-such-bucket/runs", RUN).writer("me")
    assert list_runs("s3://no-such-bucket/runs") == []


def test_a_storage_without_its_driver_says_what_to_install(monkeypatch):
    def missing(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(JournalError, match=r"s3:// needs a driver; pip install s3fs"):
        RunStore("s3://bucket/runs", RUN)
    with pytest.raises(JournalError, match=r"box:// needs a driver; pip install .*Install s3fs"):
        list_runs("box://runs")


def test_an_unknown_storage_is_a_clear_error():
    with pytest.raises(JournalError, match="nonsense:// is no storage fsspec knows"):
        RunStore("nonsense://runs", RUN)


class NoCredentialsError(Exception):
    """As botocore's."""


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (PermissionError("Forbidden"), r"permission is refused \(Forbidden\); allow it"),
        (NoCredentialsError("Unable to locate credentials"), "locate credentials; set those of s3://"),
        (OSError(errno.EROFS, "Read-only"), "read-only; choose another"),
        (RuntimeError("a\nb"), "the storage failed: a b"),
        (RuntimeError(), "the storage failed: RuntimeError"),
    ],
)
def test_failures_of_a_storage_become_one_sentence(error, sentence):
    with pytest.raises(JournalError, match=sentence) as caught, base.map_storage_errors("s3://bucket/runs/1"):
        raise error
    assert "\n" not in str(caught.value)
    assert caught.value.what == "s3://bucket/runs/1"
