"""One process's writer of a run's records."""

from __future__ import annotations

import asyncio

import pytest
from memory_journal import FULL, REF, MemoryJournal, turns
from virtual_time import in_virtual_time

from rlm_ray.core.context import InputSummary
from rlm_ray.errors import JournalError
from rlm_ray.events.records import CallEnded, CallSent, CellEnded, MapEnded, SessionOpened, to_line
from rlm_ray.journal.recorder import COALESCE_S, LINGER_S, JournalRecorder, NullRecorder


def recorder(journal, **options):
    return JournalRecorder(REF, journal, "process", **options)


def fact(number):
    return MapEnded(float(number), (), number, 1, 0)


def firsts(journal):
    return [record.first for record in journal.records]


async def test_written_returns_only_when_what_was_put_is_there():
    journal = MemoryJournal()
    journal.gate.clear()
    writer = recorder(journal)
    writer.append(fact(1))
    waiting = asyncio.create_task(writer.flush())
    await turns(10)
    assert not waiting.done()
    journal.gate.set()
    await waiting
    assert firsts(journal) == [1]


async def test_written_waits_for_all_that_was_put_before_and_for_nothing_after():
    journal = MemoryJournal()
    journal.gate.clear()
    writer = recorder(journal)
    writer.append(fact(1))
    first = asyncio.create_task(writer.flush())
    await turns()
    writer.append(fact(2))
    second = asyncio.create_task(writer.flush())
    await turns()
    journal.gate.set()
    await first
    assert firsts(journal) == [1]
    assert not second.done()
    await second
    assert firsts(journal) == [1, 2]


async def test_with_nothing_put_there_is_nothing_to_wait_for():
    journal = MemoryJournal()
    journal.gate.clear()
    await recorder(journal).flush()
    assert journal.times == []


def test_records_of_a_few_milliseconds_travel_together():
    async def work():
        journal = MemoryJournal()
        writer = recorder(journal)
        for number in range(100):
            writer.append(fact(number))
            await asyncio.sleep(0.0002)
        await writer.flush()
        assert firsts(journal) == list(range(100))
        assert journal.times[0] == pytest.approx(LINGER_S)
        gaps = [after - before for before, after in zip(journal.times, journal.times[1:], strict=False)]
        assert min(gaps) >= COALESCE_S * 0.999
        assert len(journal.times) <= 0.02 / COALESCE_S + 2

    assert in_virtual_time(work()) < 0.03


def test_after_a_pause_a_record_that_somebody_waits_for_goes_at_once():
    async def work():
        journal = MemoryJournal()
        writer = recorder(journal)
        for at in (0.0, 1.0, 2.0):
            await asyncio.sleep(at - asyncio.get_running_loop().time())
            writer.append(fact(1))
            await writer.flush()
        assert journal.times == [0.0, 1.0, 2.0]

    in_virtual_time(work())


@pytest.mark.parametrize(
    ("record", "sent_at"),
    [(CallSent(1, (), 1, "turn", "m", "key"), 0.0), (MapEnded(1.0, (), 0, 1, 0), LINGER_S)],
)
def test_a_request_is_told_at_once_and_other_records_wait_for_more(record, sent_at):
    async def work():
        journal = MemoryJournal()
        writer = recorder(journal)
        writer.append(record)
        assert not writer.idle
        await asyncio.sleep(1.0)
        assert (journal.times, writer.idle) == ([pytest.approx(sent_at)], True)

    in_virtual_time(work())


async def test_a_thousand_at_once_are_one_message_in_order():
    journal = MemoryJournal()
    writer = recorder(journal)
    for number in range(1000):
        writer.append(fact(number))
    await writer.flush()
    assert len(journal.appends) == 1
    assert firsts(journal) == list(range(1000))
    assert len({record.id for record in journal.records}) == 1000


def test_a_hundred_who_wait_are_all_told():
    async def work():
        journal = MemoryJournal()
        writer = recorder(journal)

        async def one(number):
            await asyncio.sleep(number * 0.0003)
            writer.append(fact(number))
            await writer.flush()
            assert number in firsts(journal)

        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(one(number))
        assert firsts(journal) == list(range(100))

    in_virtual_time(work())


async def test_one_who_no_longer_waits_harms_nobody():
    journal = MemoryJournal()
    journal.gate.clear()
    writer = recorder(journal)
    tasks = []
    for number in range(5):
        writer.append(fact(number))
        tasks.append(asyncio.create_task(writer.flush()))
        await turns()
    for gone in (tasks[0], tasks[2]):
        gone.cancel()
    await turns()
    journal.gate.set()
    await asyncio.gather(tasks[1], tasks[3], tasks[4])
    assert firsts(journal) == [0, 1, 2, 3, 4]
    assert tasks[0].cancelled()
    assert tasks[2].cancelled()


async def test_a_record_that_cannot_be_kept_stops_whoever_waits_now_and_later(caplog):
    journal = MemoryJournal()
    journal.error = FULL
    writer = recorder(journal)
    writer.append(fact(1))
    waiting = [asyncio.create_task(writer.flush()) for _ in range(3)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert results == [FULL] * 3
    journal.error = None
    writer.append(fact(2))
    with pytest.raises(JournalError, match="disk is full"):
        await writer.flush()
    assert journal.data == b""
    assert caplog.text.count("the disk is full") == 1


class FailsOnce(MemoryJournal):
    """Fails at its first message only."""

    async def append(self, ref, data):
        self.error = None if self.times else FULL
        return await super().append(ref, data)


@pytest.mark.parametrize("go_on", [False, True])
async def test_after_a_record_that_could_not_be_kept_no_other_one_is_written(go_on):
    journal = FailsOnce()
    journal.gate.clear()
    writer = recorder(journal, go_on=go_on)
    writer.append(CallSent(1, (), 1, "turn", "m", "key"))
    await turns()
    writer.append(fact(2))
    waiting = asyncio.create_task(writer.flush())
    await turns()
    journal.gate.set()
    (result,) = await asyncio.gather(waiting, return_exceptions=True)
    assert result == (None if go_on else FULL)
    writer.append(fact(3))
    assert (journal.data, len(journal.times), writer.idle) == (b"", 1, True)


async def test_a_journal_that_cannot_be_read_is_an_error_of_whoever_reads():
    journal = MemoryJournal(to_line(fact(1), "other:1"))
    journal.error = FULL
    with pytest.raises(JournalError):
        await recorder(journal).load_history()


async def test_a_run_that_goes_on_without_its_record_goes_on():
    journal = MemoryJournal()
    writer = recorder(journal, go_on=True)
    writer.append(fact(1))
    await writer.flush()
    journal.error = FULL
    writer.append(fact(2))
    await writer.flush()
    journal.error = None
    writer.append(fact(3))
    await writer.flush()
    assert not await writer.load_history()
    assert firsts(journal) == [1]
    assert writer.idle


async def test_whatever_goes_wrong_nobody_waits_for_ever():
    journal = MemoryJournal()
    journal.error = RuntimeError("a broken line")
    writer = recorder(journal)
    writer.append(fact(1))
    with pytest.raises(JournalError, match=r"cannot be recorded.*a broken line"):
        await writer.flush()


async def test_secrets_are_scrubbed_and_observers_see_each_record_as_it_was_put():
    journal, seen = MemoryJournal(), []
    writer = recorder(journal, secrets={"sk-0123456789"}, observe=seen.append)
    record = CellEnded(1, (), 1, 0, code="print('sk-0123456789')")
    writer.append(record)
    await writer.flush()
    assert journal.records[0].code == "print('***')"
    assert seen == [record]
    journal.error = FULL
    writer.append(record)
    with pytest.raises(JournalError):
        await writer.flush()
    writer.append(record)
    assert seen == [record] * 3


async def test_content_that_shall_not_be_kept_is_not_sent():
    journal = MemoryJournal()
    writer = recorder(journal, content=False)
    writer.append(SessionOpened(1, (), "a question", InputSummary(sample="head"), "m", "a"))
    await writer.flush()
    assert (journal.records[0].query, journal.records[0].input.sample) == ("", "")


async def test_recall_has_all_that_was_put_and_what_others_wrote_and_reads_it_once():
    journal = MemoryJournal(b"".join(to_line(fact(number), f"other:{number}") for number in range(50)))
    journal.most = 200  # bytes in one message
    writer = recorder(journal)
    writer.append(fact(50))
    assert await writer.load_history()
    assert sorted(writer.replay.tree.root.map_ends) == list(range(51))
    assert writer.replay.offset == len(journal.data)
    assert journal.reads > 10

    journal.reads = 0
    journal.data += to_line(fact(51), "other:51")
    await asyncio.gather(*(writer.load_history() for _ in range(20)))
    assert sorted(writer.replay.tree.root.map_ends) == list(range(52))
    assert journal.reads == 21


CALL = CallEnded(2, (), 1, "turn", "m", "key", 1, text="an answer")


async def test_without_content_nothing_is_used_again_but_what_was_under_way_is_known():
    journal = MemoryJournal()
    writer = recorder(journal, content=False)
    writer.append(CallSent(1, (), 1, "turn", "m", "key"))
    writer.append(CALL)
    writer.append(SessionOpened(3, (0,), "q", InputSummary(), "m", "a"))
    assert not await writer.load_history()
    assert writer.replay.call((), 1, "key") is None
    assert writer.replay.was_in_flight((), 1, "key")
    assert writer.replay.attempts((0,)) == 1


async def test_one_that_keeps_no_record_wants_nothing():
    silent = NullRecorder()
    silent.append(CALL)
    silent.raise_if_failed()
    await silent.flush()
    assert await silent.load_history() is False
    assert silent.replay.call((), 1, "key") is None
