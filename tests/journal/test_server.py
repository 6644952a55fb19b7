"""The keeper of the journals, over real folders."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace

import pytest
from journal_samples import JOURNAL, LINES, OPENED, RUN, many
from memory_journal import turns
from virtual_time import in_virtual_time

from rlm_ray.errors import JournalError
from rlm_ray.events.records import MapEnded, SessionOpened, from_line, to_line
from rlm_ray.journal import server
from rlm_ray.journal.run_store import RunStore
from rlm_ray.journal.server import (
    LATE_WRITE_S,
    MAX_READ_BYTES,
    ORPHAN_TIMEOUT_S,
    TAIL_BUFFER_BYTES,
    JournalRef,
    JournalServer,
)
from rlm_ray.journal.storage import local


@pytest.fixture
def ref(tmp_path):
    return JournalRef(str(tmp_path / "runs"), RUN, "first", "home")


@pytest.fixture
def far(memory_url):
    """In an object store."""
    return JournalRef(memory_url, RUN, "first", "home")


def other(ref):
    return replace(ref, attempt_id="second")


def folder(ref):
    return RunStore(ref.run_dir, ref.run_id)


def die(keeper):
    """What the kernel does with the locks of a process that was killed."""
    for log in keeper._journals.values():
        log._writer.close()


async def all_of(keeper, ref, *, at_most=None):
    """The whole journal, in as many answers as it takes."""
    data = b""
    while answer := await keeper.read(ref, len(data), 0.0):
        assert answer.endswith(b"\n")
        assert at_most is None or len(answer) <= at_most
        data += answer
    return data


async def test_what_is_appended_is_in_the_folder(ref):
    keeper = JournalServer()
    assert await keeper.open(ref) == 0
    sizes = [await keeper.append(ref, line) for line in LINES]
    assert sizes[-1] == len(JOURNAL)
    assert folder(ref).read() == JOURNAL
    assert await all_of(keeper, ref) == JOURNAL


async def test_a_second_owner_is_refused_while_the_run_is_held(ref):
    keeper = JournalServer()
    await keeper.open(ref)
    holding = asyncio.create_task(keeper.hold(ref))
    await turns()
    with pytest.raises(JournalError, match="is running already"):
        await keeper.open(other(ref))
    assert await keeper.append(ref, LINES[0]) == len(LINES[0])
    await keeper.close(ref)
    assert await holding is None


async def test_a_run_nobody_holds_is_taken_over_and_its_owner_is_refused_from_then_on(ref):
    keeper = JournalServer()
    await keeper.open(ref)
    holding = asyncio.create_task(keeper.hold(ref))
    await keeper.append(ref, LINES[0])
    holding.cancel()
    await asyncio.wait([holding])
    assert await keeper.open(other(ref)) == len(LINES[0])

    for call in (
        keeper.append(ref, LINES[1]),
        keeper.read(ref, 0, 0.0),
        keeper.open(ref),
        keeper.hold(ref),
    ):
        with pytest.raises(JournalError, match="taken up by another process"):
            await call
    await keeper.close(ref)  # not its own any more
    assert await keeper.append(other(ref), LINES[2]) == len(LINES[0] + LINES[2])
    await keeper.close(other(ref))
    with pytest.raises(JournalError):
        await keeper.append(ref, LINES[1])
    assert folder(ref).read() == LINES[0] + LINES[2]


async def test_another_writer_of_the_folder_is_named(ref):
    writer = folder(ref).writer("somebody else")
    with pytest.raises(JournalError, match="somebody else"):
        await JournalServer().open(ref)
    writer.close()
    assert await JournalServer().open(ref) == 0


@pytest.mark.parametrize("place", ["ref", "far"])
async def test_after_a_restart_the_next_message_opens_the_run_again(place, request):
    ref = request.getfixturevalue(place)
    keeper = JournalServer()
    await keeper.open(ref)
    await keeper.append(ref, LINES[0])
    die(keeper)
    keeper = JournalServer()
    assert await keeper.append(ref, LINES[1]) == len(LINES[0] + LINES[1])
    assert await keeper.read(ref, len(LINES[0]), 0.0) == LINES[1]
    assert await all_of(keeper, ref) == LINES[0] + LINES[1]
    assert folder(ref).read() == LINES[0] + LINES[1]


async def test_who_waits_for_news_gets_them_at_once(ref):
    keeper = JournalServer()
    await keeper.append(ref, LINES[0])
    waiting = [asyncio.create_task(keeper.read(ref, len(LINES[0]), 60.0)) for _ in range(3)]
    await turns()
    assert not any(task.done() for task in waiting)
    await keeper.append(ref, LINES[1])
    assert await asyncio.gather(*waiting) == [LINES[1]] * 3


def test_without_news_a_wait_ends_empty_in_time(ref):
    async def work():
        keeper = JournalServer()
        assert await keeper.read(ref, 0, 7.0) == b""
        assert asyncio.get_running_loop().time() == 7.0

    in_virtual_time(work())


async def test_the_end_of_a_run_wakes_who_waits_for_news(ref):
    keeper = JournalServer()
    await keeper.open(ref)
    waiting = asyncio.create_task(keeper.read(ref, 0, 60.0))
    await turns()
    await keeper.close(ref)
    assert await waiting == b""


async def test_many_megabytes_come_in_whole_lines_from_memory_and_from_the_folder(ref):
    keeper = JournalServer()
    line = to_line(replace(OPENED, query="é" * 100_000))
    data = line * (3 * TAIL_BUFFER_BYTES // len(line))
    for start in range(0, len(data), 7 * len(line)):
        await keeper.append(ref, data[start : start + 7 * len(line)])
    assert await all_of(keeper, ref, at_most=MAX_READ_BYTES) == data
    die(keeper)
    assert await all_of(JournalServer(), ref, at_most=MAX_READ_BYTES) == data


@pytest.mark.parametrize("kept_bytes", [900, 9_000])
@pytest.mark.parametrize("place", ["ref", "far"])
async def test_a_line_longer_than_an_answer_comes_whole(place, kept_bytes, request, monkeypatch):
    ref = request.getfixturevalue(place)
    monkeypatch.setattr(server, "MAX_READ_BYTES", 500)
    monkeypatch.setattr(server, "TAIL_BUFFER_BYTES", kept_bytes)
    long = to_line(SessionOpened(1, (), "x" * 2_000, OPENED.input, "m", "a"))
    lines = [*LINES, long, *LINES, long + long, *LINES]
    keeper = JournalServer()
    for line in lines:
        await keeper.append(ref, line)
    assert await all_of(keeper, ref) == b"".join(lines)
    die(keeper)
    assert await all_of(JournalServer(), ref) == b"".join(lines)


def test_a_run_without_its_driver_and_without_news_is_closed_after_a_while(ref):
    async def work():
        keeper = JournalServer()
        await keeper.open(ref)
        await asyncio.sleep(ORPHAN_TIMEOUT_S - 1)
        await keeper.append(ref, LINES[0])
        await asyncio.sleep(ORPHAN_TIMEOUT_S - 1)
        assert folder(ref).current_writer() is not None
        await asyncio.sleep(2)
        assert folder(ref).current_writer() is None
        assert keeper._journals == {}

    in_virtual_time(work())


def test_a_driver_that_died_before_its_first_record_does_not_keep_its_run(ref):
    async def work():
        await JournalServer().open(ref)
        await asyncio.sleep(ORPHAN_TIMEOUT_S + 1)
        assert folder(ref).current_writer() is None

    in_virtual_time(work())


def test_a_run_is_kept_open_for_as_long_as_its_driver_holds_it(ref):
    async def work():
        keeper = JournalServer()
        await keeper.open(ref)
        holding = asyncio.create_task(keeper.hold(ref))
        await asyncio.sleep(100 * ORPHAN_TIMEOUT_S)
        assert folder(ref).current_writer() is not None
        holding.cancel()
        await asyncio.sleep(ORPHAN_TIMEOUT_S + 1)
        assert folder(ref).current_writer() is None

    in_virtual_time(work())


async def hold(keeper, ref):
    """Hold a run as its driver's connection does."""
    holding = asyncio.create_task(keeper.hold(ref))
    await turns()
    return holding


async def let_go(holding):
    holding.cancel()
    await asyncio.wait([holding])


async def test_a_run_that_lost_its_driver_is_closed_at_once_and_goes_on_when_the_driver_is_back(ref):
    keeper = JournalServer()
    await keeper.append(ref, LINES[0])
    await let_go(await hold(keeper, ref))
    assert folder(ref).current_writer() is None
    for call in (keeper.append(ref, LINES[1]), keeper.read(ref, 0, 0.0), keeper.open(ref)):
        with pytest.raises(JournalError, match=r"lost its driver.*rlm-ray resume"):
            await call
    holding = await hold(keeper, ref)  # it was its connection only
    assert await keeper.append(ref, LINES[1]) == len(LINES[0] + LINES[1])
    await keeper.close(ref)
    assert await holding is None


async def test_a_run_is_held_until_the_last_connection_of_its_driver_ends(ref):
    keeper = JournalServer()
    first, second = await hold(keeper, ref), await hold(keeper, ref)
    await let_go(first)
    assert await keeper.append(ref, LINES[0]) == len(LINES[0])
    with pytest.raises(JournalError, match="is running already"):
        await keeper.open(other(ref))
    await let_go(second)
    assert await keeper.open(other(ref)) == len(LINES[0])


async def test_stats_count_the_runs_and_what_is_remembered_of_those_that_are_over(ref):
    keeper = JournalServer()
    lost, taken = replace(ref, run_id="lost", attempt_id="l"), replace(ref, run_id="taken", attempt_id="t")
    for each in (taken, replace(taken, attempt_id="new")):
        await keeper.open(each)
    await let_go(await hold(keeper, lost))
    holding = [await hold(keeper, ref), await hold(keeper, ref)]
    expected = {"runs": 1, "journals": 2, "orphaned": 1, "closed": 0, "taken over": 1}
    assert await keeper.stats() == expected
    await keeper.close(ref)
    await asyncio.gather(*holding)
    assert await keeper.stats() == expected | {"runs": 0, "journals": 1, "closed": 1}


@pytest.mark.parametrize("late", ["append", "read", "open"])
def test_what_comes_after_the_end_of_a_run_keeps_it_open_for_a_moment_only(ref, late):
    calls = {"append": (LINES[1],), "read": (len(LINES[0]), 0.0), "open": ()}

    async def work():
        keeper = JournalServer()
        await keeper.append(ref, LINES[0])
        await keeper.close(ref)
        for _ in range(3):
            await getattr(keeper, late)(ref, *calls[late])
            await asyncio.sleep(0.75 * LATE_WRITE_S)
            assert folder(ref).current_writer() is not None
        await asyncio.sleep(0.5 * LATE_WRITE_S)
        assert folder(ref).current_writer() is None
        assert LATE_WRITE_S < 0.1 * ORPHAN_TIMEOUT_S

    in_virtual_time(work())


@pytest.mark.parametrize("is_early", [True, False])
def test_a_run_that_was_closed_and_opened_again_is_not_closed_by_its_first_timer(ref, is_early):
    async def work():
        keeper = JournalServer()
        await keeper.open(ref)
        await asyncio.sleep(ORPHAN_TIMEOUT_S - 1)
        if is_early:
            await keeper.open(other(ref))
        else:
            await keeper.close(ref)
            holding = await hold(keeper, other(ref))
        await asyncio.sleep(2)
        assert folder(ref).current_writer() is not None
        if not is_early:
            await asyncio.sleep(2 * ORPHAN_TIMEOUT_S)
            await keeper.close(other(ref))
            await holding

    in_virtual_time(work())


async def test_no_more_of_a_journal_is_in_memory_than_twice_what_followers_need(ref, monkeypatch):
    monkeypatch.setattr(server, "TAIL_BUFFER_BYTES", 1_000)
    keeper, sizes = JournalServer(), set()
    for number in range(100):
        await keeper.append(ref, line(number))
        sizes.add(len(keeper._journals[ref.run_dir, ref.run_id]._tail_buffer))
    assert 1_000 < max(sizes) <= 2_000
    assert await all_of(keeper, ref) == folder(ref).read()


async def test_closing_gives_the_folder_back_at_once_and_a_later_news_opens_it_again(ref):
    keeper = JournalServer()
    await keeper.append(ref, LINES[0])
    await keeper.close(ref)
    await keeper.close(ref)
    assert folder(ref).current_writer() is None
    assert await keeper.append(ref, LINES[1]) == len(LINES[0] + LINES[1])


async def test_a_folder_that_cannot_be_written_is_an_error_of_the_journal(tmp_path):
    (tmp_path / "file").write_text("no folder")
    keeper = JournalServer()
    for run_dir in (str(tmp_path / "file"), "nonsense://bucket/runs"):
        ref = JournalRef(run_dir, RUN, "owner", "home")
        for call in (
            keeper.open(ref),
            keeper.append(ref, LINES[0]),
            keeper.read(ref, 0, 0.0),
            keeper.hold(ref),
        ):
            with pytest.raises(JournalError):
                await call
        await keeper.close(ref)


async def test_a_full_disk_is_an_error_and_leaves_no_half_line(ref, monkeypatch):
    keeper = JournalServer()
    await keeper.append(ref, LINES[0])

    def full(fd, data):
        local.os.write(fd, data[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(local, "_write", full)
        with pytest.raises(JournalError, match="disk is full"):
            await keeper.append(ref, LINES[1])
    assert await keeper.append(ref, LINES[2]) == len(LINES[0] + LINES[2])
    assert folder(ref).read() == LINES[0] + LINES[2]
    assert await all_of(keeper, ref) == LINES[0] + LINES[2]


async def test_a_storage_that_fails_at_the_close_does_not_keep_the_next_owner_out(ref, monkeypatch):
    keeper = JournalServer()
    await keeper.append(ref, LINES[0])
    writer = keeper._journals[ref.run_dir, ref.run_id]._writer
    close = writer.close

    def failing():
        close()
        raise JournalError("the folder", "the storage failed")

    monkeypatch.setattr(writer, "close", failing)
    assert await keeper.open(other(ref)) == len(LINES[0])


def line(number):
    return to_line(MapEnded(1.0, (), number, 1, 0, id=f"n{number}"))


def numbers(data):
    return [from_line(line).first for line in data.splitlines()]


async def test_lines_that_come_together_are_all_kept_in_an_object_store(far):
    keeper = JournalServer()
    sizes = await asyncio.gather(*(keeper.append(far, line(number)) for number in range(200)))
    assert all(isinstance(size, int) for size in sizes)
    assert numbers(folder(far).read()) == list(range(200))
    assert await all_of(keeper, far) == folder(far).read()
    assert len(folder(far)._store.segments()) < 20


async def test_all_lines_of_a_batch_that_failed_are_refused_and_none_of_them_is_kept(far, monkeypatch):
    keeper = JournalServer()
    await keeper.open(far)
    writer = keeper._journals[far.run_dir, far.run_id]._writer
    append, batches = writer.append, []

    def second_fails(data):
        batches.append(numbers(data))
        if len(batches) == 2:
            raise JournalError("the bucket", "the storage failed")
        return append(data)

    monkeypatch.setattr(writer, "append", second_fails)
    first = asyncio.create_task(keeper.append(far, line(0)))
    await turns()
    others = (keeper.append(far, line(number)) for number in range(1, 9))
    answers = [await first, *await asyncio.gather(*others, return_exceptions=True)]
    later = await keeper.append(far, line(9))
    kept = [number for number, answer in enumerate([*answers, later]) if isinstance(answer, int)]
    assert batches[1]
    assert sorted(kept + batches[1]) == list(range(10))
    assert sorted(numbers(folder(far).read())) == kept
    assert await all_of(keeper, far) == folder(far).read()


async def test_one_who_no_longer_waits_for_an_object_store_takes_nothing_from_the_others(far):
    keeper = JournalServer()
    await keeper.open(far)
    tasks = [asyncio.create_task(keeper.append(far, line(number))) for number in range(10)]
    await turns(1)
    tasks[0].cancel()
    tasks[5].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(answer, int) for answer in answers) == 8
    assert isinstance(await keeper.append(far, line(10)), int)
    data = folder(far).read()
    assert set(numbers(data)) >= set(range(11)) - {0, 5}
    assert await all_of(keeper, far) == data


async def test_runs_do_not_mix(ref):
    keeper = JournalServer()
    second = replace(ref, run_id="20260102-030405-bbbbbb")
    await asyncio.gather(keeper.append(ref, many(3)), keeper.append(second, LINES[0]))
    assert folder(ref).read() == many(3)
    assert folder(second).read() == LINES[0]
