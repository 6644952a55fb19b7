"""What every storage must do alike: a folder, an object store in memory, S3."""

from __future__ import annotations

from dataclasses import replace

import pytest
from journal_samples import ENDED, JOURNAL, LINES, OPENED, RECORDS, RUN, SESSION, another_process, many

from rlm_ray.errors import InputError, JournalError
from rlm_ray.events.records import RunFinished, RunStarted, to_line
from rlm_ray.journal.run_store import RunStore, find_run, list_runs

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(run_dir):
    return RunStore(run_dir, RUN)


def write(folder, *batches):
    writer = folder.writer("test")
    for batch in batches:
        writer.append(batch)
    writer.close()


def test_nothing_is_there_before_somebody_writes(folder):
    assert not folder.exists()
    assert (folder.size(), folder.read(), folder.records(), folder.first_record(), folder.last_end()) == (
        0,
        b"",
        [],
        None,
        None,
    )
    assert folder.current_writer() is None
    assert folder.load("context.bin") is None


def test_what_was_appended_is_read_at_once(folder):
    writer = folder.writer("test")
    sizes = [writer.append(line) for line in LINES]
    assert sizes == [len(LINES[0]), len(LINES[0] + LINES[1]), len(JOURNAL)]
    assert folder.read() == JOURNAL
    assert folder.size() == writer.size == len(JOURNAL)
    writer.close()


def test_records_come_back_as_they_were_each_once(folder):
    write(folder, LINES[0] + LINES[1], LINES[1] + LINES[2])
    assert folder.records() == RECORDS
    assert folder.warnings == []


def test_a_reader_goes_on_where_it_was(folder):
    write(folder, LINES[0], LINES[1] + LINES[2])
    first = folder.read(0, len(LINES[0]) + 5)
    assert first == LINES[0]
    assert folder.read(len(first)) == LINES[1] + LINES[2]
    assert folder.read(len(JOURNAL)) == b""


def test_a_line_longer_than_asked_for_comes_whole(folder):
    write(folder, JOURNAL)
    assert folder.read(0, 1) == LINES[0]


def test_head_and_tail_tell_how_it_began_and_ended(folder):
    long = replace(ENDED, answer="x" * 200_000)
    write(folder, to_line(replace(OPENED, query="q" * 200_000)), many(2000), to_line(long), LINES[1])
    assert folder.first_record().query == "q" * 200_000
    assert folder.last_end() == long


def test_a_run_that_was_taken_up_again_has_no_end_yet(folder):
    write(folder, JOURNAL, to_line(replace(OPENED, life=2, id="d")))
    assert isinstance(folder.first_record(), RunStarted)
    assert folder.last_end() is None


def test_an_end_follows_the_end_of_an_earlier_attempt(folder):
    write(folder, JOURNAL, to_line(replace(OPENED, life=2, id="d")), to_line(replace(ENDED, turns=7, id="e")))
    assert isinstance(folder.last_end(), RunFinished)
    assert folder.last_end().turns == 7


def test_a_run_killed_after_one_long_line_has_no_end(folder):
    write(folder, to_line(replace(SESSION, query="x" * 100_000)))
    assert folder.last_end() is None
    assert folder.first_record() is None


def test_writers_after_one_another_add_to_the_same_journal(folder):
    write(folder, LINES[0])
    write(folder, LINES[1])
    write(folder, LINES[2])
    assert folder.read() == JOURNAL


def test_a_second_writer_is_told_who_writes(folder):
    writer = folder.writer("the first")
    with pytest.raises(JournalError, match=r"the first \(process \d+ on .*, since .* UTC\).*stop it first"):
        folder.writer("the second")
    assert folder.current_writer().owner == "the first"
    assert writer.append(JOURNAL) == len(JOURNAL)
    writer.close()
    assert folder.current_writer() is None
    folder.writer("the second").close()


def test_a_journal_takes_whole_lines_only(folder):
    writer = folder.writer("test")
    with pytest.raises(ValueError, match="whole lines"):
        writer.append(LINES[0][:-1])
    writer.close()
    assert folder.read() == b""


def test_a_closed_writer_writes_no_more(folder):
    writer = folder.writer("test")
    writer.close()
    writer.close()
    with pytest.raises(JournalError, match="closed"):
        writer.append(JOURNAL)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_blobs_come_back_and_are_replaced(folder, kind):
    folder.save("context.bin", b"old")
    folder.save("context.bin", kind(b"\x00new\xff"))
    assert folder.load("context.bin") == b"\x00new\xff"
    assert not folder.exists()


@pytest.mark.parametrize(
    "line",
    [
        b'{"kind": "no such"}\n',
        b'{"kind": "map_end", "at": "1", "path": [], "first": 0, "answered": 1, "failed": 0}\n',
    ],
)
def test_a_broken_line_is_named_with_what_to_do(folder, line):
    write(folder, LINES[0], line, LINES[2])
    with pytest.raises(JournalError, match=r"line 2 .*remove that line, or start the run again"):
        folder.records()


def test_a_broken_end_of_a_run_is_an_error_and_not_no_end(folder):
    write(folder, LINES[0], b'{"kind": "run_end", oops}\n', LINES[1])
    with pytest.raises(JournalError, match=r"the last line that begins or ends it .*broken"):
        folder.last_end()


def test_a_discarded_blob_is_gone_and_discarding_none_is_no_error(folder):
    folder.save("context.bin", b"abc")
    for _ in range(2):
        folder.discard("context.bin")
        assert folder.load("context.bin") is None


def test_a_deleted_run_is_gone(folder, run_dir):
    write(folder, JOURNAL)
    folder.save("context.bin", b"abc")
    folder.delete()
    assert not folder.exists()
    assert folder.load("context.bin") is None
    assert list_runs(run_dir) == []


def test_a_run_that_goes_on_is_not_deleted(folder):
    writer = folder.writer("the run")
    writer.append(JOURNAL)
    with pytest.raises(JournalError, match=r"the run .*stop it first"):
        folder.delete()
    writer.close()
    assert folder.read() == JOURNAL


def test_runs_are_listed_the_newest_first_and_found_by_what_is_known_of_them(run_dir):
    ids = ["20260101-000000-aaaaaa", "20260102-000000-bbbbbb", "20260102-000000-bbcccc"]
    for run_id in ids:
        write(RunStore(run_dir, run_id), LINES[0])
    assert [run.run_id for run in list_runs(run_dir)] == ids[::-1]
    for known, run_id in {"last": ids[2], "20260101": ids[0], ids[1][:-3]: ids[1], ids[2]: ids[2]}.items():
        assert find_run(known, run_dir).run_id == run_id
    address = RunStore(run_dir, ids[0]).address
    for place in (address, f"{address}/"):
        assert find_run(place, "").address == address
    with pytest.raises(InputError, match=r"3 begin with '2026': 20260102-000000-bbcccc, .*give more"):
        find_run("2026", run_dir)
    with pytest.raises(
        InputError, match=r"none in .* begins with '1999'; the latest is 20260102-000000-bbcccc"
    ):
        find_run("1999", run_dir)


def test_looking_for_a_run_where_none_ever_was_is_an_input_error(run_dir):
    for asked, place in (("last", run_dir), ("2026", run_dir), ("last", ""), (f"{run_dir}/{RUN}", "")):
        with pytest.raises(InputError, match=r"no run has left|no journal at"):
            find_run(asked, place)


@pytest.mark.parametrize("place", ["local", "s3"])
def test_a_writer_in_another_process_is_respected_while_it_lives(place, tmp_path, request):
    run_dir = str(tmp_path) if place == "local" else request.getfixturevalue("s3_url")
    folder = RunStore(run_dir, RUN)
    code = "w = folder.writer('the other'); w.append(sys.argv[3].encode() + b'\\n'); print('up', flush=True); input()"
    with another_process(code, run_dir, RUN, LINES[0].decode().strip()) as other:
        with pytest.raises(JournalError, match=rf"the other \(process {other.pid} "):
            folder.writer("mine")
        other.kill()
        other.wait()
        writer = folder.writer("mine")
    writer.append(LINES[1] + LINES[2])
    writer.close()
    assert folder.records() == RECORDS
