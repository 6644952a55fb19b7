"""A batch: every row asked once, bad rows apart, and gone on with after any end."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import asynccontextmanager, nullcontext

import pytest
from batch_fakes import FakeJob, rows_of, task_of, used

from rlm_ray.batch.job import job_fingerprint
from rlm_ray.batch.runner import prefetch
from rlm_ray.batch.source import open_corpus
from rlm_ray.batch.template import QueryColumn, Template
from rlm_ray.config import ANSWER_SETTINGS, Settings
from rlm_ray.core.limits import Limits
from rlm_ray.core.repl_types import Failed
from rlm_ray.errors import (
    AuthenticationError,
    ConfigError,
    InputError,
    JournalError,
    LimitReached,
    ModelError,
    QuotaError,
)
from rlm_ray.journal.run_store import RunStore
from rlm_ray.session.result import SessionResult
from rlm_ray.structured.schema import AnswerSchema

DOCUMENTS = [{"id": f"d{n}", "title": f"t{n}", "text": f"text {n}"} for n in range(20)]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


async def test_each_row_is_asked_once_and_written_with_all_its_columns(out):
    job = FakeJob()
    summary = await task_of(DOCUMENTS, out, job, "What of {title}?").run("run-1")
    assert dict(job.asked) == dict.fromkeys(range(20), 1)
    rows = rows_of(out)
    assert [row["id"] for row in rows] == [f"d{n}" for n in range(20)]
    first = rows[0]
    assert first.pop("seconds") >= 0
    assert len(first.pop("key")) == 16
    assert first == {
        "row": 0, "id": "d0", "answer": "What of t0?|text 0", "error": None, "stop_reason": "answered", "calls": 1,
        "input_tokens": 100, "output_tokens": 10, "cost_usd": 0.01, "turns": 2, "run_id": "run-1", "trace_id": "trace",
    }  # fmt: skip
    assert (summary.stop_reason, summary.rows, summary.answered, summary.failed) == ("done", 20, 20, 0)


async def test_no_more_rows_are_under_way_than_the_job_has_room_for(out):
    job = FakeJob(concurrency=3)
    await task_of(DOCUMENTS, out, job).run("run")
    assert job.most_under_way == 3


async def test_rows_are_read_only_as_they_are_needed(out):
    read = 0

    def source():
        nonlocal read
        for number in range(100_000):
            read += 1
            yield {"text": f"t{number}"}

    async def stuck(row, query, context):
        await asyncio.Event().wait()

    task = task_of(source(), out, FakeJob(stuck))
    running = asyncio.create_task(task.run("run"))
    for _ in range(1000):
        await asyncio.sleep(0.001)
        if read > 100 and task.open_job.__self__.under_way == 4:
            break
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert read <= 500


async def test_a_row_whose_model_fails_says_why_and_stops_nobody(out):
    def reply(row, query, context):
        if row == 3:
            raise ModelError("m", "is poisoned", 400)
        return "fine"

    summary = await task_of(DOCUMENTS, out, FakeJob(reply)).run("run")
    bad = rows_of(out)[3]
    assert (bad["answer"], bad["error"], bad["stop_reason"]) == (None, "ModelError: m: is poisoned", "error")
    assert (summary.answered, summary.failed) == (19, 1)


async def test_a_row_without_the_columns_of_the_question_fails_alone(out):
    documents = [*DOCUMENTS[:3], {"id": "x", "text": "no title"}]
    job = FakeJob()
    await task_of(documents, out, job, "{title}?").run("run")
    assert rows_of(out)[3]["error"] == "query: is empty for this row: title has no value"
    assert 3 not in job.asked


async def test_an_unknown_column_is_refused_before_anything_is_asked(out):
    job = FakeJob()
    with pytest.raises(InputError, match=r"\{titel\} is no column \(did you mean 'title'\?\); there are id"):
        await task_of(DOCUMENTS, out, job, "{titel}?").run("run")
    assert not job.opened
    assert not out.exists()


@pytest.mark.parametrize(
    "error", [AuthenticationError("m", "the key is refused", 401), ConfigError("model", "?")]
)
async def test_what_is_refused_again_and_again_ends_the_batch_and_keeps_what_is_done(out, error):
    async def reply(row, query, context):
        if row >= 5:
            raise error
        return "fine"

    with pytest.raises(type(error)):
        await task_of(DOCUMENTS, out, FakeJob(reply, concurrency=1)).run("run")
    assert [row["row"] for row in rows_of(out)] == list(range(12))
    assert [row["row"] for row in rows_of(out) if row["error"]] == list(range(5, 12))


@pytest.mark.parametrize(
    "error", [AuthenticationError("m", "the key is refused", 401), ConfigError("model", "?")]
)
async def test_one_row_s_refusal_does_not_end_a_batch_whose_others_are_answered(out, error):
    async def reply(row, query, context):
        if row in {1, 5, 6, 19}:
            raise error
        return "fine"

    summary = await task_of(DOCUMENTS, out, FakeJob(reply, concurrency=1)).run("run")
    assert (summary.rows, [row["row"] for row in rows_of(out) if row["error"]]) == (20, [1, 5, 6, 19])


async def test_a_key_that_no_row_was_answered_with_ends_the_batch_at_once(out):
    async def reply(row, query, context):
        raise AuthenticationError("m", "the key is refused", 401)

    with pytest.raises(AuthenticationError):
        await task_of(DOCUMENTS, out, FakeJob(reply, concurrency=1)).run("run")
    assert not rows_of(out)


async def test_the_next_batch_goes_on_where_the_last_one_ended(out):
    async def reply(row, query, context):
        if row == 5:
            raise QuotaError("m", "the account is empty", 402)
        return "fine"

    with pytest.raises(QuotaError):
        await task_of(DOCUMENTS, out, FakeJob(reply, concurrency=1)).run("first")
    job = FakeJob()
    summary = await task_of(DOCUMENTS, out, job).run("second")
    assert dict(job.asked) == dict.fromkeys(range(5, 20), 1)
    assert job.opened == ["first"]
    assert (summary.rows, summary.earlier, summary.run_id) == (20, 5, "first")
    assert [row["row"] for row in rows_of(out)] == list(range(20))


async def test_failed_rows_are_asked_again_only_when_that_is_wanted(out):
    fails = {2, 7}

    def reply(row, query, context):
        if row in fails:
            raise ModelError("m", "not today")
        return "fine"

    await task_of(DOCUMENTS, out, FakeJob(reply)).run("run")
    again = FakeJob()
    assert (await task_of(DOCUMENTS, out, again).run("run")).failed == 2
    assert not again.asked
    retried = FakeJob()
    summary = await task_of(DOCUMENTS, out, retried).run("run", retry_failed=True)
    assert set(retried.asked) == fails
    assert (summary.answered, summary.failed) == (20, 0)
    assert [row["row"] for row in rows_of(out)] == list(range(20))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"query": "Another?"}, "query was 'Q', now 'Another\\?'"),
        ({"settings": Settings(model="openai/other")}, "model was 'offline/extractive', now 'openai/other'"),
        ({"settings": Settings(params={"temperature": 1.0})}, "params.temperature was None, now 1.0"),
        ({"text": "title"}, "text column was 'text', now 'title'"),
    ],
)
async def test_another_question_or_model_is_refused_with_what_is_different(out, change, said):
    await task_of(DOCUMENTS, out, FakeJob()).run("run")
    with pytest.raises(InputError, match=said):
        await task_of(DOCUMENTS, out, FakeJob(), **change).run("run")


async def test_a_higher_limit_or_another_key_is_the_same_job(out):
    await task_of(DOCUMENTS, out, FakeJob()).run("run")
    settings = Settings(limits=Limits(calls=9), params={"api_key": "k", "api_base": "http://x"})
    job = FakeJob()
    await task_of(DOCUMENTS, out, job, settings=settings).run("run")
    assert not job.asked


async def test_restart_drops_what_was_there(out):
    await task_of(DOCUMENTS, out, FakeJob()).run("first")
    job = FakeJob()
    await task_of(DOCUMENTS[:2], out, job, "Another?").run("second", restart=True)
    assert job.opened == ["second"]
    assert [row["answer"] for row in rows_of(out)] == ["Another?|text 0", "Another?|text 1"]


async def test_a_row_that_has_changed_since_is_refused(out):
    await task_of(DOCUMENTS, out, FakeJob()).run("run")
    changed = [*DOCUMENTS[:4], DOCUMENTS[4] | {"text": "rewritten"}, *DOCUMENTS[5:]]
    with pytest.raises(InputError, match=r"row 4 \(d4\) is not what it was when it was answered"):
        await task_of(changed, out, FakeJob()).run("run")


async def test_rows_that_were_added_are_asked(out):
    await task_of(DOCUMENTS[:15], out, FakeJob()).run("run")
    job = FakeJob()
    await task_of(DOCUMENTS, out, job).run("run")
    assert set(job.asked) == set(range(15, 20))


async def test_a_limit_on_rows_takes_the_first_and_a_higher_one_goes_on(out):
    job = FakeJob()
    await task_of(DOCUMENTS, out, job, limit=3).run("run")
    await task_of(DOCUMENTS, out, job, limit=5).run("run")
    assert dict(job.asked) == dict.fromkeys(range(5), 1)


def budget_for(rows):
    """Pays for so many rows; the one after that is told the limit is reached, and all others with it."""
    asked = 0

    def reply(row, query, context):
        nonlocal asked
        asked += 1
        if asked > rows:
            raise LimitReached("cost_usd", "the budget of $1 is used up")
        return "paid"

    return reply


async def test_at_a_limit_a_batch_pauses_and_a_raised_one_repays_nothing(out):
    summary = await task_of(DOCUMENTS, out, FakeJob(budget_for(8))).run("run")
    assert (summary.stop_reason, summary.rows, summary.failed) == ("cost_usd", 8, 0)
    job = FakeJob()
    summary = await task_of(DOCUMENTS, out, job).run("run")
    assert sum(job.asked.values()) == 12
    assert (summary.stop_reason, summary.rows) == ("done", 20)


async def test_at_a_limit_a_batch_may_write_the_rest_down_as_failed(out):
    job = FakeJob(budget_for(8))
    summary = await task_of(DOCUMENTS, out, job, on_limit="stop").run("run")
    assert (summary.stop_reason, summary.rows, summary.answered, summary.failed) == ("cost_usd", 20, 8, 12)
    last = rows_of(out)[-1]
    assert (last["answer"], last["error"], last["stop_reason"]) == (
        None,
        "the budget of $1 is used up",
        "cost_usd",
    )
    assert sum(job.asked.values()) < 20


async def test_an_answer_given_for_want_of_budget_is_left_for_later(out):
    def reply(row, query, context):
        return SessionResult("a guess", "tokens", "tokens are used up", usage=used()) if row == 4 else "fine"

    summary = await task_of(DOCUMENTS, out, FakeJob(reply, concurrency=1)).run("run")
    assert summary.stop_reason == "tokens"
    assert [row["row"] for row in rows_of(out)] == [0, 1, 2, 3]


async def test_the_best_answer_of_a_session_that_ran_out_of_turns_is_an_answer(out):
    def reply(row, query, context):
        return SessionResult("nearly", "max_iterations", "20 turns", usage=used())

    await task_of(DOCUMENTS[:1], out, FakeJob(reply)).run("run")
    row = rows_of(out)[0]
    assert (row["answer"], row["error"], row["stop_reason"]) == ("nearly", None, "max_iterations")


async def test_an_unknown_price_is_null_and_not_zero(out):
    def reply(row, query, context):
        usage = used()
        unpriced = {key: tally + type(tally)(unpriced=1) for key, tally in usage.rows.items()}
        return SessionResult("x", "answered", usage=type(usage)(unpriced))

    await task_of(DOCUMENTS[:1], out, FakeJob(reply)).run("run")
    assert rows_of(out)[0]["cost_usd"] is None


async def test_an_interrupted_batch_saves_what_is_done_and_leaves_the_rest(out):
    started = asyncio.Event()

    async def reply(row, query, context):
        if row >= 6:
            started.set()
            await asyncio.Event().wait()
        return "fine"

    batches = []

    def watch(batch):
        batches.append(batch)
        return nullcontext()

    running = asyncio.create_task(task_of(DOCUMENTS, out, FakeJob(reply)).run("run", watch=watch))
    await started.wait()
    batches[0].stop()
    summary = await running
    assert summary.stop_reason == "interrupted"
    assert [row["row"] for row in rows_of(out)] == list(range(6))


SCHEMA = {
    "type": "object",
    "properties": {"status": {"type": "string"}, "pages": {"type": "integer"}, "row": {"type": "number"}},
    "required": ["status"],
}


async def test_answers_are_checked_and_put_in_columns(out):
    job = FakeJob(lambda row, query, context: '{"status": "Final", "pages": 3, "row": 1.5}')
    await task_of(DOCUMENTS[:1], out, job, schema=AnswerSchema.of(SCHEMA)).run("run")
    row = rows_of(out)[0]
    assert (row["status"], row["pages"], row["answer_row"], row["row"]) == ("Final", 3, 1.5, 0)
    assert not job.repairs


async def test_an_answer_that_does_not_fit_is_repaired_once_and_then_is_an_error(out):
    job = FakeJob(lambda row, query, context: "prose")
    job.repaired = '{"status": "Final"}'
    await task_of(DOCUMENTS[:1], out, job, schema=AnswerSchema.of(SCHEMA)).run("run")
    assert rows_of(out)[0]["status"] == "Final"
    assert rows_of(out)[0]["error"] is None
    job.repaired = "prose again"
    await task_of(DOCUMENTS[:1], out, job, schema=AnswerSchema.of(SCHEMA)).run("run", restart=True)
    row = rows_of(out)[0]
    assert row["error"].startswith("the answer does not match the schema")
    assert row["answer"] == "prose again"
    assert len(job.repairs) == 2


@pytest.mark.parametrize(
    ("failed", "why"),
    [
        (Failed("ModelUnavailableError", "is down"), "ModelUnavailableError: is down"),
        (Failed("ReplyError", "is empty"), "ReplyError: is empty"),
    ],
)
async def test_a_repair_that_fails_is_the_error_of_its_row(out, failed, why):
    job = FakeJob(lambda row, query, context: "prose")
    job.repaired = failed
    await task_of(DOCUMENTS[:1], out, job, schema=AnswerSchema.of(SCHEMA)).run("run")
    assert why in rows_of(out)[0]["error"]


async def test_a_repair_that_meets_a_limit_ends_the_job(out):
    job = FakeJob(lambda row, query, context: "prose")
    job.repaired = Failed("LimitReached", "is used up", LimitReached("calls", "is used up"))
    ended = await task_of(DOCUMENTS[:1], out, job, schema=AnswerSchema.of(SCHEMA)).run("run")
    assert rows_of(out) == []
    assert "is used up" in str(ended)


async def test_the_input_order_is_restored_in_one_file(tmp_path):
    async def reply(row, query, context):
        for _ in range((7 * row) % 20):
            await asyncio.sleep(0)
        return str(row)

    out = tmp_path / "answers.jsonl"
    summary = await task_of(DOCUMENTS, out, FakeJob(reply, concurrency=20)).run("run")
    assert summary.out == str(out)
    assert [json.loads(line)["row"] for line in out.read_text().splitlines()] == list(range(20))


async def test_an_output_of_another_format_is_refused(tmp_path):
    await task_of(DOCUMENTS, tmp_path / "out", FakeJob()).run("run")
    with pytest.raises(InputError, match="holds jsonl parts"):
        task_of(DOCUMENTS, tmp_path / "out", FakeJob(), form="parquet")


@pytest.mark.parametrize("name", ["answers.jsonl", "answers.jsonl.parts/part-000000.jsonl"])
async def test_what_no_job_has_noted_is_not_overwritten_unless_that_is_said(tmp_path, name):
    (tmp_path / "answers.jsonl.parts").mkdir()
    (tmp_path / name).write_text("dear to somebody")
    out = tmp_path / "answers.jsonl"
    with pytest.raises(InputError, match="holds something that is no job's output"):
        await task_of(DOCUMENTS, out, FakeJob()).run("run")
    assert (tmp_path / name).read_text() == "dear to somebody"
    await task_of(DOCUMENTS, out, FakeJob()).run("run", restart=True)
    assert len(out.read_text().splitlines()) == 20


async def test_large_texts_are_not_all_held_at_once(out, monkeypatch):
    monkeypatch.setattr("rlm_ray.batch.runner._MOST_CHARS", 3000)
    job = FakeJob(concurrency=50)
    documents = [{"text": "x" * 1000} for _ in range(20)] + [{"text": "x" * 5000}]
    summary = await task_of(documents, out, job).run("run")
    assert summary.answered == 21
    assert job.most_under_way == 3


class HeldJob(FakeJob):
    """A job that cannot be opened: another process holds its journal."""

    @asynccontextmanager
    async def open(self, settings, run_id, query):
        raise JournalError(run_id, "another process writes this journal")
        yield self


@pytest.mark.parametrize("how", [{"restart": True}, {"retry_failed": True}])
async def test_nothing_is_dropped_before_the_lock_is_held(out, how):
    def reply(row, query, context):
        raise ModelError("m", "not today")

    await task_of(DOCUMENTS, out, FakeJob(reply)).run("first")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(JournalError):
        await task_of(DOCUMENTS, out, HeldJob()).run("second", **how)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


async def test_a_restart_drops_nothing_of_a_job_that_is_still_under_way(out, tmp_path):
    settings = Settings(run_dir=str(tmp_path / "runs"))
    await task_of(DOCUMENTS, out, FakeJob(), settings=settings).run("first")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    writer = RunStore(settings.run_dir, "first").writer("another process")
    try:
        with pytest.raises(JournalError, match="another process"):
            await task_of(DOCUMENTS, out, FakeJob(), settings=settings).run("second", restart=True)
    finally:
        writer.close()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    await task_of(DOCUMENTS, out, FakeJob(), settings=settings).run("third", restart=True)
    assert json.loads((out / "job.json").read_text())["run_id"] == "third"


async def test_a_restart_goes_over_broken_notes_of_a_job(out):
    await task_of(DOCUMENTS, out, FakeJob()).run("first")
    (out / "job.json").write_text("{")
    with pytest.raises(InputError, match="--restart"):
        await task_of(DOCUMENTS, out, FakeJob()).run("second")
    assert (await task_of(DOCUMENTS, out, FakeJob()).run("third", restart=True)).answered == len(DOCUMENTS)


# Rows under way


async def within_a_minute(work):
    """Fail, rather than wait for ever, where rows never begin."""
    async with asyncio.timeout(60):
        return await work


async def test_a_row_begins_as_soon_as_another_is_over(out, monkeypatch):
    monkeypatch.setattr("rlm_ray.batch.runner._LOOK_S", 3_600)
    summary = await within_a_minute(task_of(DOCUMENTS, out, FakeJob(concurrency=2)).run("run"))
    assert summary.answered == 20


async def test_a_row_begins_when_the_cluster_has_grown(out, monkeypatch):
    monkeypatch.setattr("rlm_ray.batch.runner._LOOK_S", 0.001)
    another = asyncio.Event()

    async def reply(row, query, context):
        job.concurrency = 2
        if row:
            another.set()
        await another.wait()
        return "fine"

    job = FakeJob(reply, concurrency=1)
    await within_a_minute(task_of(DOCUMENTS[:2], out, job).run("run"))
    assert job.most_under_way == 2


async def test_texts_make_room_for_others_when_their_rows_are_over(out, monkeypatch):
    monkeypatch.setattr("rlm_ray.batch.runner._MOST_CHARS", 3_000)
    three = asyncio.Barrier(3)

    async def reply(row, query, context):
        await three.wait()
        return "fine"

    documents = [{"text": "x" * 1_000} for _ in range(9)]
    job = FakeJob(reply, concurrency=50)
    await within_a_minute(task_of(documents, out, job).run("run"))
    assert job.most_under_way == 3


@pytest.mark.parametrize(("limit", "read"), [(None, 20), (7, 7), (20, 20), (30, 20)])
async def test_progress_counts_the_rows_that_were_read_and_are_under_way(out, limit, read):
    batches, under_way = [], []

    def watch(batch):
        batches.append(batch)
        return nullcontext()

    def reply(row, query, context):
        under_way.append(batches[0].stats.under_way)
        return "fine"

    task = task_of(DOCUMENTS, out, FakeJob(reply, concurrency=1), limit=limit)
    await task.run("run", watch=watch)
    stats = batches[0].stats
    assert (stats.read, stats.read_all, stats.under_way, stats.done) == (read, True, 0, read)
    assert set(under_way) == {1}
    assert stats.tokens == read * 110


async def test_a_cancelled_batch_ends_its_rows_and_saves_what_is_done(out):
    started, batches = asyncio.Event(), []

    async def reply(row, query, context):
        if row >= 3:
            started.set()
            await asyncio.Event().wait()
        return "fine"

    def watch(batch):
        batches.append(batch)
        return nullcontext()

    job = FakeJob(reply)
    running = asyncio.create_task(task_of(DOCUMENTS, out, job).run("run", watch=watch))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (job.under_way, batches[0].stats.under_way) == (0, 0)
    assert [row["row"] for row in rows_of(out)] == [0, 1, 2]
    assert (batches[0].stop_cause.reason, batches[0].stop_cause.why) == ("interrupted", "it was cancelled")


async def test_a_cancelled_batch_waits_until_its_rows_have_ended(out):
    started, ended = asyncio.Event(), []

    async def reply(row, query, context):
        if row == 3:
            started.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(50):
                await asyncio.sleep(0)
            ended.append(row)

    running = asyncio.create_task(task_of(DOCUMENTS, out, FakeJob(reply)).run("run"))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sorted(ended) == [0, 1, 2, 3]


async def test_no_more_rows_begin_while_the_storage_is_behind(out, monkeypatch):
    monkeypatch.setattr("rlm_ray.batch.writer.PART_ROWS", 1)
    task = task_of(DOCUMENTS, out, job := FakeJob(concurrency=2))
    begun, free, loop, write = (
        asyncio.Event(),
        threading.Event(),
        asyncio.get_running_loop(),
        task.output.write,
    )

    def write_slowly(rows):
        loop.call_soon_threadsafe(begun.set)
        free.wait(60)
        write(rows)

    monkeypatch.setattr(task.output, "write", write_slowly)
    running = asyncio.create_task(task.run("run"))
    await within_a_minute(begun.wait())
    for _ in range(500):
        await asyncio.sleep(0)
    assert sum(job.asked.values()) < 12  # a part is on its way, four wait, and a few rows are under way
    free.set()
    assert (await within_a_minute(running)).answered == 20


async def test_a_batch_is_stopped_by_the_first_cause(out):
    def reply(row, query, context):
        batches[0].stop()
        raise QuotaError("m", "the account is empty", 402)

    batches = []

    def watch(batch):
        batches.append(batch)
        return nullcontext()

    summary = await task_of(DOCUMENTS, out, FakeJob(reply)).run("run", watch=watch)
    assert (summary.stop_reason, summary.why, summary.rows) == ("interrupted", "the batch was interrupted", 0)


async def test_reading_ahead_is_left_to_itself_when_nobody_wants_more():
    enough, read = threading.Event(), []

    def items():
        for number in range(4):
            if number == 2:
                enough.wait(10)
            read.append(number)
            yield number

    ahead = prefetch(items(), lambda _: 1, rows=2)
    assert await anext(ahead) == 0
    await ahead.aclose()
    assert read == [0, 1]
    enough.set()


# How a job ends


async def test_at_a_limit_rows_that_cannot_be_asked_say_why_and_the_rest_tells_the_first_limit(out):
    limits = [LimitReached("cost_usd", "first", "half an answer"), LimitReached("calls", "second", None)]

    def reply(row, query, context):
        if row:
            raise limits.pop(0)
        return "paid"

    documents = [{"text": text} for text in ("a", "b", "", "d")]
    job = FakeJob(reply, concurrency=1)
    summary = await task_of(documents, out, job, on_limit="stop").run("run")
    paid, cut, empty, rest = rows_of(out)
    assert (paid["answer"], paid["error"]) == ("paid", None)
    assert (cut["answer"], cut["error"], cut["stop_reason"]) == ("half an answer", "first", "cost_usd")
    assert (empty["error"], empty["stop_reason"]) == ("has no text to ask about: it is empty", "error")
    assert (rest["answer"], rest["error"], rest["stop_reason"]) == (None, "first", "cost_usd")
    assert (summary.stop_reason, summary.why, job.ended) == ("cost_usd", "first", ("cost_usd", "first"))


async def test_an_output_among_the_files_that_are_read_is_refused_before_anything_is_asked(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    job = FakeJob()
    with pytest.raises(InputError, match="lies among the files that are read"):
        await task_of(tmp_path, tmp_path / "out", job).run("run")
    assert not job.opened


@pytest.mark.parametrize(("on_limit", "is_whole"), [("pause", False), ("stop", True)])
async def test_one_file_is_made_when_all_rows_are_there_and_until_then_there_are_parts(
    tmp_path, on_limit, is_whole
):
    out = tmp_path / "answers.jsonl"
    summary = await task_of(DOCUMENTS, out, FakeJob(budget_for(8)), on_limit=on_limit).run("run")
    assert summary.out == (str(out) if is_whole else f"{out}.parts")
    assert out.exists() is is_whole


async def test_a_job_that_is_done_has_answered_and_its_summary_the_usage_of_all_of_it(out):
    class Unpriced(FakeJob):
        async def usage(self):
            usage = used(7)
            return type(usage)({key: tally + type(tally)(unpriced=1) for key, tally in usage.rows.items()})

    for job, cost_usd in ((FakeJob(), 0.01), (Unpriced(), None)):
        summary = await task_of(DOCUMENTS, out, job).run("run", restart=True)
        assert job.ended == ("answered", "")
        assert summary.cost_usd == cost_usd
        assert (summary.input_tokens, summary.output_tokens) == (100, 10)
        assert 0 <= summary.seconds < 60


async def test_another_job_that_began_meanwhile_is_left_alone(out):
    class Late(FakeJob):
        @asynccontextmanager
        async def open(self, settings, run_id, query):
            if not out.exists():
                await task_of(DOCUMENTS[:3], out, FakeJob()).run("another")
            async with super().open(settings, run_id, query) as opened:
                yield opened

    job = Late()
    with pytest.raises(InputError, match="another job has just begun here; give another --out"):
        await task_of(DOCUMENTS[:3], out, job).run("run")
    assert not job.asked
    assert json.loads((out / "job.json").read_text())["run_id"] == "another"


async def test_a_restart_takes_the_output_of_a_job_whose_record_is_gone_and_lets_go_of_one_that_is_there(
    out, tmp_path
):
    settings = Settings(run_dir=str(tmp_path / "runs"))
    await task_of(DOCUMENTS[:2], out, FakeJob(), settings=settings).run("first")
    await task_of(DOCUMENTS[:2], out, FakeJob(), settings=settings).run("second", restart=True)
    assert not (tmp_path / "runs" / "first").exists()
    RunStore(settings.run_dir, "second").writer("its own").close()
    await task_of(DOCUMENTS[:2], out, FakeJob(), settings=settings).run("third", restart=True)
    RunStore(settings.run_dir, "second").writer("whoever is next").close()


async def test_a_batch_that_goes_on_leaves_the_notes_of_its_job_as_they_are(out):
    await task_of(DOCUMENTS, out, FakeJob(), limit=3).run("run")
    before = (out / "job.json").stat().st_mtime_ns
    await task_of(DOCUMENTS, out, FakeJob()).run("run")
    assert (out / "job.json").stat().st_mtime_ns == before
    await task_of(DOCUMENTS, out, FakeJob()).run("run", restart=True)
    assert (out / "job.json").stat().st_mtime_ns != before


@pytest.mark.parametrize(
    ("question", "asked"), [(Template.parse("What of {title}?"), {"query": "What of {title}?"}), (QueryColumn("title"), {"query_column": "title"})]
)  # fmt: skip
def test_a_job_is_known_by_all_that_shapes_its_answers(question, asked):
    params = {"temperature": 0.5, "api_key": "k", "api_base": "http://x", "timeout": 9}
    settings = Settings(model="openai/m", params=params)
    table = job_fingerprint(question, open_corpus(DOCUMENTS), settings, SCHEMA)
    of_job = {"source": "rows of a program", "text column": "text", "id column": "id", "schema": SCHEMA, "params.temperature": 0.5}  # fmt: skip
    assert {name: value for name, value in table.items() if name not in ANSWER_SETTINGS} == asked | of_job
    assert set(table) >= set(ANSWER_SETTINGS) - {"params"}
    assert table["model"] == "openai/m"
    assert "params" not in table
