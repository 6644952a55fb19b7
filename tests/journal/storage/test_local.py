"""A journal in a folder: crashes in the middle of a write, full disks, other processes."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal_samples import JOURNAL, LINES, RECORDS, RUN, another_process

from rlm_ray.errors import JournalError
from rlm_ray.events.records import RunFinished, to_line
from rlm_ray.journal.run_store import RunStore, find_run
from rlm_ray.journal.storage import local

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path):
    return RunStore(str(tmp_path), RUN)


@pytest.fixture
def journal(folder, tmp_path):
    """The file itself."""
    (tmp_path / RUN).mkdir()
    return tmp_path / RUN / "journal.jsonl"


def append(folder, data):
    writer = folder.writer("test")
    size = writer.append(data)
    writer.close()
    return size, writer.warnings


@pytest.mark.parametrize("kept", range(1, len(LINES[2])))
def test_a_last_line_torn_at_any_byte_is_left_out_and_cut_off(folder, journal, kept):
    journal.write_bytes(LINES[0] + LINES[1] + LINES[2][:kept])
    assert folder.read() == LINES[0] + LINES[1]
    assert folder.last_end() is None
    assert folder.records() == RECORDS[:2]
    assert folder.warnings == [f"the last line was never finished; {kept} bytes are left out"]
    assert append(folder, LINES[2]) == (
        len(JOURNAL),
        [f"{kept} bytes of a line that was never finished were cut off"],
    )
    assert folder.records() == RECORDS
    assert folder.warnings == []


@pytest.mark.parametrize("torn", [1, local._BLOCK - 1, local._BLOCK, 3 * local._BLOCK + 1])
@pytest.mark.parametrize("before", [b"", LINES[0]])
def test_a_torn_line_of_any_length_is_cut_off(folder, journal, before, torn):
    journal.write_bytes(before + b"x" * torn)
    assert append(folder, LINES[1])[0] == len(before + LINES[1])
    assert folder.read() == before + LINES[1]


@given(garbage=st.binary(min_size=1).filter(lambda data: b"\n" not in data), line=st.integers(0, 3))
def test_garbage_in_the_middle_is_named_by_its_line(tmp_path_factory, garbage, line):
    run_dir = tmp_path_factory.mktemp("runs")
    (run_dir / RUN).mkdir()
    lines = [*LINES[:line], garbage + b"\n", *LINES[line:]]
    (run_dir / RUN / "journal.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match=rf"line {line + 1} of the journal is broken"):
        RunStore(str(run_dir), RUN).records()


@given(cuts=st.lists(st.integers(0, len(JOURNAL)), max_size=8), most=st.integers(1, len(JOURNAL)))
def test_a_reader_beside_the_writer_sees_every_line_once(tmp_path_factory, cuts, most):
    run_dir = tmp_path_factory.mktemp("runs")
    folder = RunStore(str(run_dir), RUN)
    (run_dir / RUN).mkdir()
    seen = b""
    for cut in [*sorted(cuts), len(JOURNAL)]:
        (run_dir / RUN / "journal.jsonl").write_bytes(JOURNAL[:cut])
        while data := folder.read(len(seen), most):
            assert data.endswith(b"\n")
            seen += data
    assert seen == JOURNAL


def test_a_write_the_kernel_does_in_pieces_is_finished(folder, monkeypatch):
    whole = os.write
    monkeypatch.setattr(local.os, "write", lambda fd, data: whole(fd, bytes(data[:7])))
    assert append(folder, JOURNAL)[0] == len(JOURNAL)
    assert folder.read() == JOURNAL


@pytest.mark.parametrize(("number", "sentence"), [(errno.ENOSPC, "disk is full"), (errno.EDQUOT, "quota")])
def test_a_disk_that_fills_up_leaves_no_half_line_and_a_later_append_goes_on(
    folder, monkeypatch, number, sentence
):
    """The failure is injected: a disk that is really full is not to be had here without privileges."""
    writer = folder.writer("test")
    writer.append(LINES[0])
    whole, calls = os.write, []

    def fills_up(fd, data):
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(number, os.strerror(number))
        return whole(fd, bytes(data[:9]))

    monkeypatch.setattr(local.os, "write", fills_up)
    with pytest.raises(JournalError, match=sentence):
        writer.append(LINES[1])
    monkeypatch.undo()
    assert folder.read() == LINES[0]
    assert folder.size() == len(LINES[0])
    assert writer.append(LINES[1] + LINES[2]) == len(JOURNAL)
    writer.close()
    assert folder.records() == RECORDS


def test_half_a_line_that_could_not_be_taken_back_at_once_is_taken_back_later(folder, monkeypatch):
    writer = folder.writer("test")
    writer.append(LINES[0])
    whole = os.write

    def fails(fd, data):
        if isinstance(data, bytes):
            whole(fd, data[:9])
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(local.os, "write", fails)
        broken.setattr(local.os, "ftruncate", fails)
        with pytest.raises(JournalError, match="Input/output error"):
            writer.append(LINES[1])
    assert writer.append(LINES[1]) == len(LINES[0] + LINES[1])
    writer.close()
    assert folder.read() == LINES[0] + LINES[1]


LIMITED = """
import resource, signal
from rlm_ray.errors import JournalError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = folder.writer("limited")
line, limit = sys.argv[3].encode() + b"\\n", int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    while True:
        writer.append(line)
except JournalError as error:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(writer.size, writer.append(line), error, flush=True)
"""


def test_a_real_limit_on_the_size_of_files_is_a_clear_error_and_the_journal_stays_whole(folder, tmp_path):
    line = LINES[1].decode().strip()
    with another_process(LIMITED, str(tmp_path), RUN, line, str(3 * len(LINES[1]) + 20)) as process:
        size, after, why = process.said.split(" ", 2)
    assert (int(size), int(after)) == (3 * len(LINES[1]), 4 * len(LINES[1]))
    assert "a file may not grow so large here" in why
    assert folder.read() == LINES[1] * 4


ENDLESS = """
line = b'{"kind": "map_end", "at": 1.0, "path": [], "first": 0, "answered": 0, "failed": 0, "id": "%d"}\\n'
writer, n = folder.writer("endless"), 0
while True:
    print(writer.append(b"".join(line % (n + k) for k in range(200))), flush=True)
    n += 200
"""


@pytest.mark.parametrize("told", [1, 7, 50])
def test_a_writer_killed_while_it_writes_loses_nothing_it_was_told_is_written(folder, tmp_path, told):
    with another_process(ENDLESS, str(tmp_path), RUN) as process:
        acknowledged = [int(process.said), *(int(process.stdout.readline()) for _ in range(told))]
        os.kill(process.pid, signal.SIGKILL)
        acknowledged += [int(size) for size in process.stdout]
    end = RunFinished(2.0, "answered", id="end")
    size, _ = append(folder, to_line(end))
    numbers = [int(record.id) for record in folder.records()[:-1]]
    assert numbers == list(range(len(numbers)))
    assert size == folder.size() >= acknowledged[-1] + len(to_line(end))
    assert folder.last_end() == end


def test_asking_who_writes_never_turns_a_writer_away(folder, monkeypatch):
    append(folder, LINES[0])
    asking = os.open(folder.address + "/lock", os.O_RDONLY)
    local.fcntl.flock(asking, local.fcntl.LOCK_SH)
    monkeypatch.setattr(local.time, "sleep", lambda _: os.close(asking))
    assert append(folder, LINES[1])[0] == len(LINES[0] + LINES[1])


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="a file stands where a folder is needed"):
        RunStore(str(tmp_path / "file"), RUN).writer("test")


def test_a_full_device_is_reported_as_a_full_disk(folder, journal):
    journal.symlink_to("/dev/full")
    with pytest.raises(JournalError, match="the disk is full"):
        append(folder, LINES[0])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_a_clear_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(JournalError, match="permission is refused"):
        RunStore(str(tmp_path), RUN).writer("test")


def test_a_blob_that_could_not_be_written_leaves_the_old_one_and_nothing_else(folder, monkeypatch):
    folder.save("context.bin", b"old")

    def fails(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(local.os, "fsync", fails)
    with pytest.raises(JournalError, match="disk is full"):
        folder.save("context.bin", b"new")
    assert folder.load("context.bin") == b"old"
    assert [path.name for path in Path(folder.address).iterdir()] == ["context.bin"]


def test_a_journal_is_found_by_its_path_whatever_its_name(folder, tmp_path, monkeypatch):
    append(folder, JOURNAL)
    (tmp_path / "bug.jsonl").write_bytes(JOURNAL)
    monkeypatch.chdir(tmp_path)
    places = [
        f"{tmp_path}/{RUN}",
        f"./{RUN}",
        f"{RUN}/journal.jsonl",
        f"file://{tmp_path}/{RUN}",
        "bug.jsonl",
    ]
    for place in places:
        assert find_run(place, "").records() == RECORDS


def test_a_run_brought_here_from_an_object_store_is_read(tmp_path):
    segments = tmp_path / RUN / "journal"
    segments.mkdir(parents=True)
    (segments / "00000001.jsonl").write_bytes(LINES[0])
    (segments / "00000002.jsonl").write_bytes(LINES[1] + LINES[2])
    assert find_run("last", str(tmp_path)).records() == RECORDS
    assert find_run(f"{segments}/00000001.jsonl", "").records() == RECORDS
