"""A session taken up again from its record: the same end, paying for nothing twice, running no code for nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from run_lives import PROGRAMS, Life

from rlm_ray.core.limits import Limits
from rlm_ray.events.records import CallEnded, CallSent, CellEnded, MapOpened, ToolEnded, from_line
from rlm_ray.events.tree import RunTree

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_waiting_for_company(monkeypatch):
    """Records go out one by one: hundreds of lives would wait milliseconds each time."""
    for name in ("COALESCE_S", "LINGER_S"):
        monkeypatch.setattr(f"rlm_ray.journal.recorder.{name}", 0.0)


async def lived(*args, **options):
    life = Life(*args, **options)
    return life, await life.run()


async def first_life(**options):
    life, completion = await lived(**options)
    assert completion.stop_reason == "answered"
    return life, completion.answer


def lines(life):
    return life.data[len(life.earlier) :].splitlines(keepends=True)


def cut(life, *, after):
    """The record as far as the first fact that `after` is true of."""
    all_lines = life.data.splitlines(keepends=True)
    last = next(number for number, record in enumerate(life.records) if after(record))
    return b"".join(all_lines[: last + 1])


def cell_of(turn, path=()):
    return lambda record: isinstance(record, CellEnded) and (record.path, record.turn) == (path, turn)


def facts(records):
    """What a run's record says, but for its times, names and lives."""
    tree = RunTree(records)
    return {
        path: (
            {number: (call.role, call.text) for number, call in node.calls.items()},
            {turn: (cell.code, cell.output, cell.final) for turn, cell in node.cells.items()},
            {first: (sent.turn, sent.count, sent.sessions) for first, sent in node.maps.items()},
            node.answer,
        )
        for path, node in tree.nodes.items()
    }


def cells_needed(whole, prefix):
    """The code that each session has to run: none where all of it, or its own end, is on record; else all."""
    before = RunTree(prefix)
    needed = {}
    for path, node in RunTree(whole.records).nodes.items():
        known = before.nodes.get(path)
        is_over = known is not None and (known.session_ends or known.cells.keys() == node.cells.keys())
        needed[path] = [] if is_over else [code for code, _ in whole.ran[path]]
    return needed


async def test_a_finished_session_runs_no_code_and_asks_nobody():
    whole, answer = await first_life()
    again, completion = await lived(whole.data, "life-2")
    assert completion.answer == answer
    assert (again.calls_made, dict(again.ran), again.data) == (0, {(): []}, whole.data)
    assert completion.trajectory.turns[-1].result.final_answer == answer


async def test_wherever_a_run_is_cut_off_it_comes_to_the_same_end():
    whole, answer = await first_life()
    assert answer == "looked m:a m:b m:x looked m:c m:x m:d m:e"
    all_lines = lines(whole)
    for count in range(len(all_lines) + 1):
        data = b"".join(all_lines[:count])
        before = [from_line(line) for line in all_lines[:count]]
        life, completion = await lived(data, "life-2")

        assert (completion.answer, completion.stop_reason) == (answer, "answered"), count
        assert facts(life.records) == facts(whole.records), count
        replied = [record for record in before if isinstance(record, CallEnded)]
        assert life.calls_made == whole.calls_made - len(replied), count
        under_way = sum(isinstance(record, CallSent) for record in before) - len(replied)
        repaid = [
            record for record in life.records[count:] if isinstance(record, CallEnded) and record.repaid
        ]
        assert len(repaid) == life.usage.repaid_calls == under_way, count
        needed = cells_needed(whole, before)
        assert {path: [code for code, _ in life.ran[path]] for path in needed} == needed, count


async def test_code_that_runs_again_sees_the_clock_of_its_first_time():
    whole, _ = await first_life()
    life, _ = await lived(cut(whole, after=cell_of(3)), "life-2")
    assert life.ran[()][:3] == whole.ran[()][:3]
    assert all(now is not None for _, now in life.ran[()])


async def test_three_attempts_are_one_run():
    whole, answer = await first_life()
    second, _ = await lived(cut(whole, after=cell_of(2)), "life-2")
    third, completion = await lived(cut(second, after=cell_of(4)), "life-3")
    assert completion.answer == answer
    assert third.calls_made == 1
    assert facts(third.records) == facts(whole.records)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "other"},
        {
            "programs": {**PROGRAMS, "ROOT": ["look", "leaves f", "leaves a b; children C2", "final"]},
            "model": "other",
        },
    ],
)
async def test_with_another_model_no_reply_is_used_again_wherever_that_attempt_is_cut_off(changes):
    whole, _ = await first_life()
    fresh, answer = await first_life(**changes)
    changed, completion = await lived(whole.data, "life-2", **changes)
    assert completion.answer == answer
    assert changed.calls_made == fresh.calls_made
    new_lines = lines(changed)
    for count in range(len(new_lines) + 1):
        data = whole.data + b"".join(new_lines[:count])
        replied = sum(isinstance(from_line(line), CallEnded) for line in new_lines[:count])
        life, completion = await lived(data, "life-3", **changes)
        assert completion.answer == answer, count
        assert life.calls_made == fresh.calls_made - replied, count


async def test_a_cell_that_was_killed_is_not_run_again_nor_what_came_before_it():
    programs = {**PROGRAMS, "ROOT": ["look", "die", "leaves a", "leaves b", "final"]}
    whole, answer = await first_life(programs=programs)
    assert answer == "m:a m:b"
    life, completion = await lived(cut(whole, after=cell_of(3)), "life-2", programs=programs)
    assert completion.answer == answer
    assert [code for code, _ in life.ran[()]] == ["leaves a", "leaves b", "final"]


async def test_a_failure_the_model_has_seen_stays_one():
    whole, answer = await first_life(broken=("b",))
    assert answer == "looked m:a <ContextWindowError: m: b is too long> m:x looked m:c m:x m:d m:e"
    life, completion = await lived(cut(whole, after=cell_of(3)), "life-2")
    assert completion.answer == answer
    assert life.ran[()][1][0] == "leaves a b"
    assert "LEAF b" not in asked(life)


async def test_a_failure_nobody_has_seen_is_tried_again():
    whole, _ = await first_life(broken=("b",))
    failed = cut(whole, after=lambda record: isinstance(record, CallEnded) and record.error_kind)
    life, completion = await lived(failed, "life-2")
    assert completion.answer == "looked m:a m:b m:x looked m:c m:x m:d m:e"
    assert "LEAF b" in asked(life)


async def test_turns_are_asked_again_under_their_recorded_words_though_the_budget_is_another():
    whole, answer = await first_life(limits=Limits(calls=60))
    statuses = [
        record.status for record in whole.records if isinstance(record, CallEnded) and not record.path
    ]
    assert any("model calls" in status for status in statuses)
    life, completion = await lived(cut(whole, after=cell_of(4)), "life-2", limits=Limits(calls=30))
    assert completion.answer == answer
    assert life.calls_made == 1
    last = completion.trajectory.turns
    assert [turn.status for turn in last[:4]] == statuses[:4]
    assert last[4].status != statuses[4]


async def test_sub_calls_of_a_cell_that_is_run_again_are_not_written_down_again():
    whole, _ = await first_life()
    life, _ = await lived(cut(whole, after=cell_of(4)), "life-2")
    assert not any(isinstance(from_line(line), MapOpened) for line in lines(life))
    assert life.ran[()][-2][0] == "leaves c; children C1; leaves d e"


@pytest.mark.parametrize("lost_at", [1, 2, 3, 4])
async def test_a_repl_that_was_lost_is_made_again_from_the_record_of_this_very_attempt(lost_at):
    whole, answer = await first_life()
    life, completion = await lived(lost_at=lost_at)
    assert completion.answer == answer
    assert life.calls_made == whole.calls_made
    assert facts(life.records) == facts(whole.records)
    program = PROGRAMS["ROOT"]
    assert [code for code, _ in life.ran[()]] == program[:lost_at] + program
    assert life.usage.repaid_calls == 0


def asked(life):
    return [request.messages[0].content for request in life.provider.requests]


async def test_what_an_attempt_cannot_read_it_pays_for_again_under_the_same_names():
    whole, answer = await first_life()
    again, completion = await lived(b"", "life-2")
    assert completion.answer == answer
    assert facts(again.records) == facts(whole.records)
    waits = {"queue_wait_s": 0.0, "rate_wait_s": 0.0}
    assert replace(again.usage, **waits) == replace(whole.usage, **waits)


TOOL_PROGRAMS = {"ROOT": ["tools a bad", "look; tools a c", "leaves x; tools d", "final"]}
"""A tool is called twice with the same argument, and fails once."""


async def test_wherever_a_run_is_cut_off_no_tool_on_record_is_called_again():
    whole, answer = await first_life(programs=TOOL_PROGRAMS)
    assert whole.tools.called == ["a", "bad", "a", "c", "d"]
    assert answer == "a 1 <ValueError: bad> looked a 3 c 4 m:x d 5"
    for number, line in enumerate(whole.data.splitlines(keepends=True)):
        prefix = b"".join(whole.data.splitlines(keepends=True)[: number + 1])
        recorded = [record for record in map(from_line, prefix.splitlines()) if isinstance(record, ToolEnded)]
        again, completion = await lived(prefix, "life-2", programs=TOOL_PROGRAMS)
        assert again.tools.called == whole.tools.called[len(recorded) :], line
        assert completion.answer.split()[0] == "a"


async def test_a_repl_that_was_lost_runs_its_code_again_without_its_tools():
    whole, _ = await lived(programs=TOOL_PROGRAMS, lost_at=2)
    assert whole.tools.called == ["a", "bad", "a", "c", "d"]
