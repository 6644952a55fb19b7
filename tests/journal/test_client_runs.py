"""The recorders of a process, one for each run it has to do with."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from memory_journal import FULL, REF, MemoryJournal

from rlm_ray.config import Settings
from rlm_ray.errors import JournalError
from rlm_ray.events.records import CellEnded, MapEnded
from rlm_ray.journal.recorder import MAX_IDLE_RECORDERS, JournalClient, JournalRecorder

SETTINGS = Settings()
FACT = MapEnded(1.0, (), 0, 1, 0)


def refs(count):
    return [replace(REF, run_id=f"run-{number}") for number in range(count)]


async def test_all_sessions_of_a_run_share_a_recorder_and_other_runs_have_their_own():
    client = JournalClient("process", MemoryJournal())
    one, two = refs(2)
    async with (
        client.recorder(one, SETTINGS) as first,
        client.recorder(one, SETTINGS) as again,
        client.recorder(two, SETTINGS) as other,
    ):
        assert first is again
        assert first is not other


async def test_a_run_without_a_record_has_a_silent_recorder():
    journal = MemoryJournal()
    async with JournalClient("process", journal).recorder(None, SETTINGS) as silent:
        silent.append(FACT)
        await silent.flush()
        assert not isinstance(silent, JournalRecorder)
    assert journal.times == []


async def test_the_ids_of_records_name_the_process_and_never_come_twice():
    journal = MemoryJournal()
    client = JournalClient("process", journal)
    for _ in range(3):
        async with client.recorder(REF, SETTINGS) as recorder:
            recorder.append(FACT)
            await recorder.flush()
    assert [record.id for record in journal.records] == ["process.1:1", "process.1:2", "process.1:3"]


async def test_a_run_that_was_forgotten_meanwhile_gets_no_id_twice():
    journal = MemoryJournal()
    client = JournalClient("process", journal)
    for ref in (REF, *refs(MAX_IDLE_RECORDERS + 1), REF):
        async with client.recorder(ref, SETTINGS) as recorder:
            recorder.append(FACT)
            await recorder.flush()
    assert len({record.id for record in journal.records}) == MAX_IDLE_RECORDERS + 3


async def test_keys_of_the_settings_and_of_the_environment_are_never_written(monkeypatch):
    monkeypatch.setenv("SOME_PROVIDER_API_KEY", "from-the-environment")
    monkeypatch.setenv("A_HARMLESS_NAME", "harmless-value")
    journal = MemoryJournal()
    settings = replace(SETTINGS, params={"api_key": "from-the-settings"})
    async with JournalClient("process", journal).recorder(REF, settings) as recorder:
        recorder.append(
            CellEnded(1, (), 1, 0, output="from-the-environment from-the-settings harmless-value")
        )
        await recorder.flush()
    assert journal.records[0].output == "*** *** harmless-value"


async def test_settings_say_whether_content_is_kept_and_what_a_full_disk_means():
    journal = MemoryJournal()
    client = JournalClient("process", journal)
    quiet = replace(SETTINGS, record_content=False, on_journal_error="continue")
    async with client.recorder(REF, quiet) as recorder:
        recorder.append(CellEnded(1, (), 1, 0, output="printed"))
        await recorder.flush()
        assert journal.records[0].output == ""
        journal.error = FULL
        recorder.append(FACT)
        await recorder.flush()
    strict = replace(REF, run_id="strict")
    async with client.recorder(strict, SETTINGS) as recorder:
        recorder.append(FACT)
        with pytest.raises(JournalError):
            await recorder.flush()


async def test_each_run_is_seen_by_an_observer_of_its_own():
    made = []

    def observer():
        made.append([])
        return made[-1].append

    client = JournalClient("process", MemoryJournal(), observer=observer)
    for ref in (*refs(2), *refs(2)):
        async with client.recorder(ref, SETTINGS) as recorder:
            recorder.append(FACT)
            await recorder.flush()
    assert made == [[FACT, FACT], [FACT, FACT]]


async def test_what_was_read_for_the_latest_runs_is_kept_and_older_ones_are_forgotten():
    client = JournalClient("process", MemoryJournal())
    runs, recorders = refs(MAX_IDLE_RECORDERS + 3), {}
    for ref in (
        *runs[:MAX_IDLE_RECORDERS],
        runs[0],
        *runs[MAX_IDLE_RECORDERS:],
    ):  # the first one is used again
        async with client.recorder(ref, SETTINGS) as recorders[ref]:
            pass
    kept = set()
    for ref in runs:
        if client._recorders.get(ref) is recorders[ref]:
            kept.add(ref)
    assert kept == {runs[0], *runs[4:]}
    assert set(client._users) == kept


async def test_a_run_that_something_works_on_is_never_forgotten():
    client = JournalClient("process", MemoryJournal())
    async with AsyncExitStack() as stack:
        busy = await stack.enter_async_context(client.recorder(REF, SETTINGS))
        for ref in refs(3 * MAX_IDLE_RECORDERS):
            async with client.recorder(ref, SETTINGS):
                pass
        async with client.recorder(REF, SETTINGS) as again:
            assert again is busy


async def test_a_run_whose_records_are_under_way_is_not_forgotten():
    journal = MemoryJournal()
    client = JournalClient("process", journal)
    journal.gate.clear()
    async with client.recorder(REF, SETTINGS) as writing:
        writing.append(FACT)
    for ref in refs(3 * MAX_IDLE_RECORDERS):
        async with client.recorder(ref, SETTINGS):
            pass
    assert client._recorders[REF] is writing
    journal.gate.set()
    await writing.flush()
