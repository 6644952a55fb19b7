"""The cells of a session: written down, and told from the record."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest
from memory_journal import FULL, REF, MemoryJournal, turns

from rlm_ray.core.context import make_context
from rlm_ray.core.llm import ModelReply
from rlm_ray.core.repl_types import CellResult, Citation, Failed, SubCallAnswer, ToolRequest, Variable
from rlm_ray.core.state_machine import Task, Trajectory
from rlm_ray.errors import JournalError
from rlm_ray.events.records import (
    SUMMARY_CALLS,
    CallEnded,
    CellEnded,
    MapEnded,
    MapOpened,
    ToolEnded,
    to_line,
)
from rlm_ray.journal.cell_replay import CellReplay
from rlm_ray.journal.recorder import JournalRecorder

PATH = (4,)
TASK = Task("q", make_context("x").info)


def reply(turn):
    return CallEnded(10.0 * turn, PATH, turn, "turn", "m", f"k{turn}", 0, text="code", status=f"Turn {turn}.")


def cell(turn, **rest):
    return CellEnded(10.0 * turn + 5, PATH, turn, 0, output=f"out {turn}", **rest)


def map_(turn, first, number):
    return MapOpened(10.0 * turn + 1, PATH, turn, first, number, 0)


def after(*recorded):
    """The trajectory of a session whose replies came from the record, or did not."""
    trajectory = Trajectory(TASK)
    for is_recorded in recorded:
        trajectory = trajectory.with_reply(ModelReply("```python\nx\n```", recorded=is_recorded), "")
    return trajectory


async def history(*records, **options):
    journal = MemoryJournal(b"".join(to_line(record, f"e:{n}") for n, record in enumerate(records)))
    recorder = JournalRecorder(REF, journal, "process", **options)
    await recorder.load_history()
    seconds = count(100.0)
    return CellReplay(recorder, PATH, clock=lambda: next(seconds)), recorder, journal


TWO_TURNS = [reply(1), map_(1, 0, 3), map_(1, 3, 1), cell(1), reply(2), map_(2, 4, 2), cell(2), reply(3)]


async def test_results_come_from_the_record_and_the_first_new_cell_runs_after_theirs():
    past, _, _ = await history(*TWO_TURNS)
    assert past.result(after(True)).output == "out 1"
    assert past.result(after(True, True)).output == "out 2"
    assert past.result(after(True, True, True)) is None
    assert past.turns_to_rerun() == [1, 2]
    assert past.turns_to_rerun() == []
    firsts = [past.start(turn, ["x"], again=turn < 3).first for turn in (1, 2, 3)]
    assert firsts == [0, 4, 6]


async def test_after_the_first_reply_that_is_new_nothing_is_taken_from_the_record():
    past, _, _ = await history(*TWO_TURNS)
    assert past.result(after(True)) is not None
    assert past.result(after(True, False)) is None
    assert past.result(after(True, False, True)) is None
    assert past.status(3) is None


async def test_a_turn_is_asked_under_its_recorded_status_as_long_as_all_is_as_recorded():
    past, _, _ = await history(*TWO_TURNS)
    assert [past.status(turn) for turn in (1, 2, 3, 4)] == ["Turn 1.", "Turn 2.", "Turn 3.", None]


async def test_a_cell_that_killed_its_repl_and_those_before_it_are_not_run_again():
    past, _, _ = await history(reply(1), cell(1), reply(2), cell(2, killed="too slow"), reply(3), cell(3))
    for turn in (1, 2, 3):
        assert past.result(after(*[True] * turn)) is not None
    assert past.turns_to_rerun() == [3]


async def test_what_a_cell_did_is_on_record_with_its_sub_calls():
    past, recorder, journal = await history()
    work = past.start(1, ["a = 1", "b = 2"], again=False)
    slots = [SubCallAnswer("yes"), Failed("QuotaError", "no"), None]
    with past.record_map(work, ("who?", "what?", "when?"), 2, slots) as first:
        assert first == 0
    with past.record_map(work, ("again?",), 0, [SubCallAnswer("yes")]) as first:
        assert first == 3
    cited = (Citation("words"),)
    work.result = CellResult(
        "out", 3, "error", "final", True, None, (Variable("a", "int", None),), ("note",), citations=cited
    )
    past.record(work)
    await recorder.flush()
    assert journal.records == [
        MapOpened(101.0, PATH, 1, 0, 3, 2, "who?", id="process:1"),
        MapEnded(102.0, PATH, 0, 1, 2, id="process:2"),
        MapOpened(103.0, PATH, 1, 3, 1, 0, "again?", id="process:3"),
        MapEnded(104.0, PATH, 3, 1, 0, id="process:4"),
        CellEnded(
            105.0, PATH, 1, 100.0, 2.0, code="a = 1\nb = 2", output="out", output_chars=3, error="error",
            final="final", looked=True, variables=(Variable("a", "int", None),), notes=("note",), id="process:5", citations=cited,
        ),
    ]  # fmt: skip


async def test_sub_calls_that_are_given_up_are_over_too():
    past, recorder, journal = await history()
    work = past.start(1, ["x"], again=False)
    with pytest.raises(KeyboardInterrupt), past.record_map(work, ("q", "q"), 0, [SubCallAnswer("yes"), None]):
        raise KeyboardInterrupt
    await recorder.flush()
    assert journal.records[-1] == MapEnded(102.0, PATH, 0, 1, 1, id="process:2")


async def test_a_cell_that_is_run_again_writes_nothing_and_has_its_ordinals():
    past, recorder, journal = await history(*TWO_TURNS)
    size = len(journal.data)
    past.result(after(True))
    past.result(after(True, True))
    past.result(after(True, True, False))
    again = past.start(2, ["x"], again=True)
    with past.record_map(again, ("q", "q"), 0, [None, None]) as first:
        assert first == 4
    fresh = past.start(3, ["x"], again=False)
    with past.record_map(fresh, (), 0, []) as first:
        assert first == 6
    await recorder.flush()
    assert [type(record) for record in journal.records[len(TWO_TURNS) :]] == [MapOpened, MapEnded]
    assert len(journal.data) > size


async def test_when_a_repl_is_lost_all_code_that_made_its_variables_is_run_again():
    past, recorder, journal = await history(reply(1), cell(1))
    past.result(after(True))
    past.result(after(True, False))
    assert past.turns_to_rerun() == [1]
    past.record(past.start(2, ["x"], again=False))
    killed = past.start(3, ["x"], again=False)
    assert past.turns_to_rerun() == []
    assert await past.on_repl_lost(killed)
    assert past.turns_to_rerun() == [1, 2]
    assert recorder.replay.cell(PATH, 1).output == "out 1"
    await recorder.flush()
    assert [(record.turn, record.again) for record in journal.records[2:]] == [(2, False), (3, True)]


async def test_a_repl_is_not_made_anew_where_nothing_on_record_can_be_used():
    past, recorder, journal = await history(content=False)
    past.record(past.start(1, ["x"], again=False))
    assert not await past.on_repl_lost(past.start(2, ["y"], again=False))
    await recorder.flush()
    assert past.turns_to_rerun() == []
    assert [record.turn for record in journal.records] == [1]


async def test_code_that_killed_its_repl_is_not_run_again_for_the_code_after_it():
    past, _, _ = await history()
    for turn, killed in ((1, None), (2, "too slow"), (3, None), (4, None)):
        cell = past.start(turn, ["x"], again=False)
        cell.result = CellResult("", 0, None, None, kill_reason=killed)
        past.record(cell)
    assert await past.on_repl_lost(past.start(5, ["x"], again=False))
    assert past.turns_to_rerun() == [3, 4]


async def test_ordinals_go_on_behind_all_that_were_given_out():
    past, _, _ = await history()
    wide = past.start(1, ["x"], again=False)
    for _ in range(2):
        with past.record_map(wide, ("q",) * 3, 0, [None] * 3):
            pass
    again = past.start(1, ["x"], again=True)
    with past.record_map(again, ("q",), 0, [None]) as first:
        assert first == 0
    assert (again.first, past.start(2, ["x"], again=False).first) == (1, 6)


async def test_summaries_and_refusals_come_from_the_record_as_long_as_all_is_as_recorded():
    summary = CallEnded(16.0, PATH, SUMMARY_CALLS + 1, "summary", "m", "s", 0, text="so far")
    refusing = CallEnded(20.0, PATH, 2, "turn", "m", "k2", 0, text="code", refused="it is no JSON")
    past, _, _ = await history(reply(1), cell(1), summary, refusing)
    assert past.result(after(True)) is not None
    assert (past.summary(1).text, past.summary(2)) == ("so far", None)
    assert (past.refusal(1), past.refusal(2)) == ("it is no JSON", "")
    assert past.result(after(True, False)) is None
    assert (past.summary(1), past.refusal(1)) == (None, "")


CALLS = [
    (SubCallAnswer("[1]"), {"result": "[1]"}),
    (Failed("ValueError", "no"), {"error_kind": "ValueError", "why": "no"}),
]
ADD = ToolRequest("add", "[[1, 2], {}]")


@pytest.mark.parametrize(("outcome", "fields"), CALLS)
async def test_a_tool_is_called_once_for_each_call_of_a_cell_and_never_again(outcome, fields):
    past, recorder, journal = await history(reply(1))
    asked = []

    async def call(request):
        asked.append(request)
        return outcome

    work = past.start(1, ["x"], again=False)
    assert [await past.call_tool(work, ADD, call) for _ in range(2)] == [outcome] * 2
    assert (len(asked), work.tool_calls, work.waited_s) == (2, 2, 2.0)
    common = {"arguments": ADD.arguments, **fields}
    assert journal.records[1:] == [
        ToolEnded(102.0, PATH, 1, 0, "add", ADD.key, 101.0, **common, id="process:1"),
        ToolEnded(104.0, PATH, 1, 1, "add", ADD.key, 103.0, **common, id="process:2"),
    ]

    await recorder.load_history()
    again = past.start(1, ["x"], again=True)
    assert [await past.call_tool(again, ADD, call) for _ in range(2)] == [outcome] * 2
    assert (len(asked), len(journal.records)) == (2, 3)
    await past.call_tool(again, ToolRequest("add", "[[3, 4], {}]"), call)
    await past.call_tool(past.start(2, ["x"], again=False), ADD, call)
    assert len(asked) == 4


async def test_a_tool_s_outcome_is_used_only_when_it_is_on_record():
    past, _, journal = await history()

    async def call(_):
        return SubCallAnswer("[1]")

    journal.gate.clear()
    called = asyncio.create_task(past.call_tool(past.start(1, ["x"], again=False), ADD, call))
    await turns(10)
    assert not called.done()
    journal.gate.set()
    assert await called == SubCallAnswer("[1]")
    journal.error = FULL
    with pytest.raises(JournalError):
        await past.call_tool(past.start(2, ["x"], again=False), ADD, call)
