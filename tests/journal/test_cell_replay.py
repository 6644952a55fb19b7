"""The cells of a session: written down, and told from the record."""

from __future__ import annotations

from itertools import count

import pytest
from memory_journal import REF, MemoryJournal

from rlm_ray.core.context import make_context
from rlm_ray.core.llm import ModelReply
from rlm_ray.core.repl_types import CellResult, Failed, SubCallAnswer, Variable
from rlm_ray.core.state_machine import Task, Trajectory
from rlm_ray.events.records import CallEnded, CellEnded, MapEnded, MapOpened, to_line
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


async def history(*records):
    journal = MemoryJournal(b"".join(to_line(record, f"e:{n}") for n, record in enumerate(records)))
    recorder = JournalRecorder(REF, journal, "process")
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
    work.result = CellResult("out", 3, "error", "final", True, None, (Variable("a", "int", None),), ("note",))
    past.record(work)
    await recorder.flush()
    assert journal.records == [
        MapOpened(101.0, PATH, 1, 0, 3, 2, "who?", id="process:1"),
        MapEnded(102.0, PATH, 0, 1, 2, id="process:2"),
        MapOpened(103.0, PATH, 1, 3, 1, 0, "again?", id="process:3"),
        MapEnded(104.0, PATH, 3, 1, 0, id="process:4"),
        CellEnded(
            105.0, PATH, 1, 100.0, 2.0, code="a = 1\nb = 2", output="out", output_chars=3, error="error",
            final="final", looked=True, variables=(Variable("a", "int", None),), notes=("note",), id="process:5",
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
    past, recorder, _ = await history(reply(1), cell(1))
    past.result(after(True))
    past.result(after(True, False))
    assert past.turns_to_rerun() == [1]
    past.record(past.start(2, ["x"], again=False))
    killed = past.start(3, ["x"], again=False)
    assert past.turns_to_rerun() == []
    assert await past.on_repl_lost(killed)
    assert past.turns_to_rerun() == [1, 2]
    assert recorder.replay.cell(PATH, 1).output == "out 1"
