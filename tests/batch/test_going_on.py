"""A batch of a Python program goes on by the id of its run, wherever it was stopped, and says so where it is."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager

import pandas as pd
import pyarrow as pa
import pytest
from batch_fakes import FakeJob
from test_tables import raise_it
from typer.testing import CliRunner

from rlm_ray import RLM, InputError, LimitReached, Settings
from rlm_ray.batch.python_api import BatchOptions, run_batch
from rlm_ray.cli.app import app
from rlm_ray.journal.run_store import find_run

polars = pytest.importorskip("polars")

ROWS = [{"id": f"r{number}", "text": f"text {number}", "count": number} for number in range(5)]
LIMIT = LimitReached("cost_usd", "the cost limit of $1 is reached")
SCHEMA = {"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]}


@pytest.fixture
def settings(tmp_path):
    return Settings(run_dir=str(tmp_path / "runs"))


@pytest.fixture
def batch(settings, begin_record):
    """Carry a batch out with a job that leaves a record; returns the rows as dicts, and the job."""

    async def run(source, query="Q", reply=lambda *_: "second", *, settings=settings, **options):
        job = FakeJob(reply, concurrency=1)

        @asynccontextmanager
        async def open_job(settings, run_id, query, *, observers=()):
            begin_record(settings, query, run_id, observers)
            async with job.open(settings, run_id, query) as opened:
                yield opened

        table, summary = await run_batch(settings, query, source, BatchOptions(**options), open_job)
        return (summary if table is None else table), job

    return run


def stops_at_two(row, *_):
    return "first" if row < 2 else raise_it(LIMIT)


def breaks_at_two(row, *_):
    return "first" if row < 2 else raise_it(LookupError("a fault"))


@pytest.mark.parametrize("reply", [stops_at_two, breaks_at_two])
@pytest.mark.parametrize(
    "table", [list, iter, pd.DataFrame, pa.Table.from_pylist, polars.DataFrame], ids=["list", "iterator", "pandas", "arrow", "polars"]
)  # fmt: skip
async def test_rows_of_a_program_go_on_by_the_id_that_the_warning_names(
    batch, settings, caplog, table, reply
):
    with caplog.at_level(logging.WARNING):
        try:
            await batch(table(ROWS), reply=reply)
        except LookupError:
            assert reply is breaks_at_two
    run = find_run("last", settings.run_dir)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.endswith(f"; the same call with run_id={run.run_id!r} goes on from there")
    answered, job = await batch(table(ROWS), run_id=run.run_id[:15])
    answers = answered["answer"] if hasattr(answered, "columns") else [row["answer"] for row in answered]
    assert pa.array(answers).to_pylist() == ["first", "first", "second", "second", "second"]
    assert (sorted(job.asked), job.opened) == ([2, 3, 4], [run.run_id])
    again, job = await batch(table(ROWS), run_id="last")
    assert type(again) is type(answered)
    assert not job.asked
    assert [record.getMessage() for record in caplog.records] == [warning]


async def test_where_no_content_is_recorded_nothing_is_left(batch, tmp_path):
    settings = Settings(run_dir=str(tmp_path / "runs"), record_content=False)
    await batch(ROWS, settings=settings)
    with pytest.raises(InputError, match="is the run of one question, and of no batch"):
        await batch(ROWS, settings=settings, run_id="last")
    assert [path.name for path in (tmp_path / "runs").rglob("*.*") if "answers" in str(path)] == []


async def test_what_cannot_go_on_says_what_can(batch, settings, begin_record, tmp_path):
    await batch(ROWS, reply=stops_at_two)
    run = find_run("last", settings.run_dir).run_id
    begin_record(settings, "Who?", "20200101-000000-aaaa")
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for source, options, why in (
        (ROWS, {"run_id": "1999"}, "begins with '1999'; the latest is"),
        (ROWS, {"run_id": "20200101"}, "is the run of one question, and of no batch; RLM.resume\\('20200101"),
        (ROWS, {"run_id": run, "restart": True}, "run_id: goes on with a batch, and restart=True drops it"),
        (ROWS, {"run_id": run, "query": "R"}, "belongs to another job \\(query was 'Q', now 'R'\\)"),
        (ROWS, {"run_id": run, "id": "text"}, "belongs to another job \\(id column was 'id', now 'text'\\)"),
        (tmp_path / "in.jsonl", {"run_id": run}, "out: is missing; name a folder"),
        (ROWS, {"run_id": run, "out": tmp_path / "o"}, None),
    ):  # fmt: skip
        if why is None:
            await batch(source, **options)
            continue
        with pytest.raises(InputError, match=why) as caught:
            await batch(source, **options)
        assert "\n" not in str(caught.value)


async def test_a_named_output_is_named_again(batch, settings, tmp_path):
    out = str(tmp_path / "out")
    await batch(ROWS, reply=stops_at_two, out=out)
    first = find_run("last", settings.run_dir).run_id
    with pytest.raises(InputError, match=f"out: is missing; the batch {first} writes its answers to '{out}'"):
        await batch(ROWS, run_id=first)
    _, job = await batch(ROWS, run_id=first, out=out)
    assert sorted(job.asked) == [2, 3, 4]
    await batch(ROWS, restart=True, out=out)
    with pytest.raises(InputError, match=f"belongs to the run 2.*, not to {first}; give the out of that"):
        await batch(ROWS, run_id=first, out=out)


async def test_resume_by_other_ways_says_how_a_batch_of_a_program_goes_on(batch, settings):
    await batch(ROWS, reply=stops_at_two)
    run = find_run("last", settings.run_dir)
    said = f"is a batch over rows of a Python program, which are on no record; it goes on there: rlm.batch(question, rows, run_id='{run.run_id}')"
    with pytest.raises(InputError) as caught:
        await RLM.aresume(run.run_id, run_dir=settings.run_dir)
    assert said in str(caught.value)
    done = CliRunner().invoke(app, ["resume", run.address])
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize("options", [{}, {"schema": SCHEMA, "text": "text", "id": "id", "limit": 4}])
def test_batch_over_files_goes_on_at_the_command_line(batch, settings, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    answer = '{"year": 1}' if options else "first"

    def stops(row, *_):
        return answer if row < 2 else raise_it(LIMIT)

    asyncio.run(batch("in.jsonl", "What of {id}?", stops, out="out", **options))
    run = find_run("last", settings.run_dir)
    with pytest.raises(InputError, match=f"is a batch over files; it goes on by rlm-ray resume {run.run_id}"):
        RLM.resume(run.run_id, run_dir=settings.run_dir)
    job = FakeJob(lambda *_: answer)
    monkeypatch.setattr(
        "rlm_ray.cli.batch.open_batch_run",
        lambda settings, query, *, run_id, **_: job.open(settings, run_id, query),
    )
    monkeypatch.setattr("rlm_ray.cli.batch.check_models", lambda *_: None)
    monkeypatch.chdir("/")
    done = CliRunner().invoke(app, ["resume", run.address, "--trust-record", "--json"])
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert (job.opened, sorted(job.asked)) == ([run.run_id], [2, 3] if options else [2, 3, 4])
    assert (summary["earlier"], summary["failed"], summary["stop_reason"]) == (2, 0, "done")
