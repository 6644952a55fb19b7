"""One row: what it is asked, what becomes of its answer or its failure, and what ends the whole job."""

from __future__ import annotations

import pytest
from batch_fakes import FakeJob, used

from rlm_ray.batch.row_processor import BUDGET_STOP_REASONS, RowProcessor, make_task
from rlm_ray.batch.source import Row
from rlm_ray.batch.template import Template
from rlm_ray.core.repl_types import Failed
from rlm_ray.errors import (
    ActorLostError,
    AuthenticationError,
    ClusterError,
    ConfigError,
    ContextLostError,
    JournalError,
    LimitReached,
    ModelError,
    QuotaError,
    SubCallError,
)
from rlm_ray.session.result import SessionResult
from rlm_ray.structured.schema import AnswerSchema

SCHEMA = AnswerSchema.of(
    {"type": "object", "properties": {"n": {"type": "integer"}, "row": {"type": "string"}}, "required": ["n"]}
)
TASK = make_task(Row(7, "seven", "text"), Template.parse("Q?"))


def raising(error):
    def reply(row, query, context):
        raise error

    return FakeJob(reply)


def ending(answer, stop_reason="answered", why="", usage=None):
    """Return a job whose sessions end like this."""
    return FakeJob(lambda *_: SessionResult(answer, stop_reason, why, turns=3, usage=usage or used(2)))


async def result_of(job, schema=None, tasks=1):
    """Return the result of the last of so many rows."""
    processor = RowProcessor(job, schema, lambda: 0.0)
    for _ in range(tasks):
        result = await processor.process(TASK)
    return result


@pytest.mark.parametrize(
    ("answer", "stop_reason", "why", "error"),
    [
        ("x", "answered", "", None), ("x", "max_iterations", "20 turns", None), ("", "answered", "", None), ("x", "max_tokens", "cut off at 5", "cut off at 5"),
        (None, "no_code", "it wrote no code", "it wrote no code"), (None, "answered", "", "the model gave no answer"),
        ("x", "max_tokens", "", "the model gave no answer"),
    ],
)  # fmt: skip
async def test_row_is_answered_where_its_session_gave_a_whole_answer(answer, stop_reason, why, error):
    result = await result_of(ending(answer, stop_reason, why))
    assert (result.answer, result.error, result.stop_reason) == (answer, error, stop_reason)


async def test_result_of_a_row_names_it_and_what_its_session_used():
    job = ending("x")
    job.run_id = "run"
    result = await result_of(job)
    assert (result.row, result.id, result.key, result.run_id, result.trace_id) == (7, "seven", TASK.key, "run", "trace")  # fmt: skip
    assert (result.calls, result.input_tokens, result.output_tokens, result.cost_usd) == (2, 100, 10, 0.01)
    assert (result.turns, result.values) == (3, {})
    usage = used(2)
    unpriced = type(usage)({key: tally + type(tally)(unpriced=1) for key, tally in usage.rows.items()})
    assert (await result_of(ending("x", usage=unpriced))).cost_usd is None


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ModelError("m", "is odd", 400), "ModelError: m: is odd"), (SubCallError("ReplyError", "is empty"), "ReplyError: is empty"),
        (ActorLostError("is lost"), "ActorLostError: is lost"), (ContextLostError("is lost"), "ContextLostError: is lost"),
    ],
)  # fmt: skip
async def test_failure_of_one_row_is_its_result(error, why):
    result = await result_of(raising(error))
    assert (result.answer, result.error, result.stop_reason, result.key) == (None, why, "error", TASK.key)


@pytest.mark.parametrize(
    "error",
    [
        LimitReached("calls", "spent"), QuotaError("m", "is empty"), JournalError("run", "is full"), ClusterError("is gone"),
        AuthenticationError("m", "no key"), ConfigError("model", "is none"),
    ],
)  # fmt: skip
async def test_what_the_next_row_would_meet_too_is_raised(error):
    with pytest.raises(type(error)):
        await result_of(raising(error))


@pytest.mark.parametrize("error", [AuthenticationError("m", "no key"), ConfigError("model", "is none")])
async def test_refusal_is_that_of_its_row_while_others_are_answered(error):
    left = ["x", error, "x", *[error] * 8]

    def reply(row, query, context):
        if isinstance(said := left.pop(0), str):
            return said
        raise said

    job = FakeJob(reply)
    processor = RowProcessor(job, None, lambda: 0.0)
    results = [await processor.process(TASK) for _ in range(10)]
    assert [result.error is None for result in results] == [True, False, True, *[False] * 7]
    with pytest.raises(type(error)):
        await processor.process(TASK)


@pytest.mark.parametrize("reason", sorted(BUDGET_STOP_REASONS))
async def test_session_that_ended_for_want_of_budget_ends_the_job_with_its_answer_so_far(reason):
    with pytest.raises(LimitReached) as reached:
        await result_of(ending("so far", reason, "is used up"), SCHEMA)
    limit = reached.value
    assert (limit.reason, limit.why, limit.partial) == (reason, "is used up", "so far")


def test_reasons_that_say_the_budget_is_used_up():
    assert {"cost_usd", "tokens", "calls", "sessions", "time_s"} == BUDGET_STOP_REASONS


@pytest.mark.parametrize(
    ("answer", "stop_reason", "values", "error"),
    [
        ('{"n": 1}', "answered", {"n": 1, "row": None}, None), ('{"n": 1, "row": "x"} and', "max_tokens", {"n": 1, "row": "x"}, None),
        ('{"n": 1}', "max_iterations", {"n": 1, "row": None}, None), ('{"n": 1', "max_tokens", {}, "cut off at 5"), (None, "no_code", {}, "cut off at 5"),
    ],
)  # fmt: skip
async def test_answer_fills_the_columns_of_the_schema_where_it_is_whole(answer, stop_reason, values, error):
    job = ending(answer, stop_reason, "" if stop_reason == "answered" else "cut off at 5")
    result = await result_of(job, SCHEMA)
    assert (dict(result.values), result.error, result.answer) == (values, error, answer)
    assert not job.repairs


async def test_answer_that_no_column_can_hold_is_the_error_of_its_row_only():
    schema = AnswerSchema.of(
        {"type": "object", "properties": {"n": {"properties": {"a": {"type": "string"}}}}}
    )
    result = await result_of(ending('{"n": 5}'), schema)
    assert (dict(result.values), result.answer) == ({}, '{"n": 5}')
    assert result.error.startswith("n: cannot be held in a column of the type struct<a: string>: 5")


async def test_question_asks_for_the_schema_and_a_repair_is_the_first_call_of_its_row():
    asked = []
    job = FakeJob(lambda row, query, context: asked.append((row, query, context.text())) or "prose")
    job.repaired = '{"n": 5}'
    result = await result_of(job, SCHEMA)
    assert asked == [(7, SCHEMA.ask("Q?"), "text")]
    ((row, number, question),) = job.repairs
    assert (row, number) == (7, 1)
    assert question == SCHEMA.repair("prose", SCHEMA.check("prose").why)
    assert (result.values["n"], result.answer, result.error) == (5, '{"n": 5}', None)


@pytest.mark.parametrize(
    ("failed", "raises", "why"),
    [
        (Failed("ModelError", "is down"), None, "ModelError: is down"),
        (Failed("L", "spent", LimitReached("calls", "spent")), LimitReached, ""),
        (Failed("M", "odd", ModelError("m", "is odd")), None, "ModelError: m: is odd"),
    ],
)
async def test_repair_that_fails_ends_what_its_failure_is_about(failed, raises, why):
    job = ending("prose")
    job.repaired = failed
    if raises:
        with pytest.raises(raises):
            await result_of(job, SCHEMA)
    else:
        assert (await result_of(job, SCHEMA)).error == why


@pytest.mark.parametrize(
    ("text", "values", "query", "fits"),
    [
        ("x", {}, "Q", True), (" ", {}, "Q", False), ("", {"a": "v"}, "Q{a}", True), ("", {"a": "v"}, "Q", False), ("", {"a": None}, "Q{a}", False),
        ("", {"a": ""}, "Q{a}", False), ("", {"a": 0}, "Q{a}", True), ("", {"a": False}, "Q{a}", True), ("", {"a": None, "b": 1}, "Q{a}{b}", True),
    ],
)  # fmt: skip
def test_row_is_asked_where_it_has_a_text_or_a_value_for_the_question(text, values, query, fits):
    task = make_task(Row(0, "a", text, values), Template.parse(query))
    assert task.error == ("" if fits else "has no text to ask about: it is empty")
    assert bool(task.key) is bool(task.query) is fits
