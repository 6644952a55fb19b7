"""`rlm-ray map-reduce`: the plan first, then the answer, and how it ended."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import pytest
import typer
from typer.testing import CliRunner

from rlm_ray.cli import console
from rlm_ray.cli.map_reduce import map_reduce
from rlm_ray.core.repl_types import Failed, SubCallAnswer
from rlm_ray.errors import LimitReached
from rlm_ray.events.usage import CallStats, RunUsage

app = typer.Typer()
app.command()(map_reduce)

ROWS = [{"id": f"p{n}", "text": f"Status: {'Final' if n < 3 else 'Draft'}"} for n in range(5)]
COUNT = ("--reduce", "count:status", "--no-pack", "--set", "model=openai/nobody")


class FakeJob:
    """Reads the status of each document."""

    asked = 0

    async def llm_calls(self, calls):
        self.asked += len(calls)
        return [self._outcome(context.slice(part).text()) for *_, part, context in calls]

    def _outcome(self, text):
        return SubCallAnswer(json.dumps({"status": text.rpartition(": ")[2]}))

    def end_as(self, reason, why, answer=None):
        self.ended = reason, why, answer

    async def usage(self):
        return RunUsage({("m", 1): CallStats(5, 5, input_tokens=500, output_tokens=50, unpriced=5)})


class Bounded(FakeJob):
    def _outcome(self, text):
        if "p4" in text:
            return Failed("LimitReached", "spent", LimitReached("cost_usd", "the budget is spent"))
        return super()._outcome(text)


class Failing(FakeJob):
    def _outcome(self, text):
        return Failed("ModelError", "is down") if "p4" in text else super()._outcome(text)


@pytest.fixture
def jobs(monkeypatch, begin_record, tmp_path):
    """The jobs that were opened; set `.kind` to have another one."""

    monkeypatch.setenv("RLM_RAY_RUN_DIR", str(tmp_path / "runs"))

    class Jobs(list):
        kind = FakeJob

    monkeypatch.setattr("rlm_ray.cli.map_reduce.check_models", lambda *_: None)  # no model is asked
    opened = Jobs()

    @asynccontextmanager
    async def open_job(settings, query, *, run_id, observers):
        job = opened.kind()
        job.settings, job.query, job.run_id = settings, query, run_id
        opened.append(job)
        begin_record(settings, query, run_id, observers)
        yield job

    monkeypatch.setattr("rlm_ray.mapreduce.execute.open_batch_run", open_job)
    return opened


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def invoke(*arguments, stdin=b""):
        return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)

    return invoke


def test_the_answer_is_all_that_goes_to_stdout(run, jobs):
    done = run("Which status?", "rows.jsonl", *COUNT)
    assert done.exit_code == console.OK
    assert json.loads(done.stdout) == {"status": {"Final": 3, "Draft": 2}}
    assert "5 document(s), 65 characters → 5 piece(s)" in done.stderr
    assert "used" in done.stderr
    assert "status: Final from p0:0-13, p1:0-13, p2:0-13" in done.stderr
    assert (jobs[0].query, jobs[0].settings.model) == ("Which status?", "openai/nobody")


def test_the_plan_alone_asks_nobody(run, jobs):
    done = run("Which status?", "rows.jsonl", *COUNT, "--plan")
    assert (done.exit_code, jobs) == (console.OK, [])
    assert "tokens in" in done.stdout
    plan = json.loads(run("Which status?", "rows.jsonl", *COUNT, "--plan", "--json").stdout)
    assert (plan["pieces"], plan["total"]["calls"], plan["total"]["cost_usd"]) == (5, 5, None)


def test_json_has_everything(run, jobs, as_documented):
    found = as_documented("map-reduce", run("Which status?", "rows.jsonl", *COUNT, "--json").stdout)
    assert found["value"] == {"status": {"Final": 3, "Draft": 2}}
    assert found["origin"]["status"]["Draft"][1] == {"document": "p4", "start": 0, "stop": 13}
    assert found["usage"]["total"]["input_tokens"] == 500


def test_a_limit_prints_what_is_known_and_how_to_go_on(run, jobs):
    jobs.kind = Bounded
    done = run("Which status?", "rows.jsonl", *COUNT)
    assert done.exit_code == console.LIMIT
    assert json.loads(done.stdout) == {"status": {"Final": 3, "Draft": 1}}
    assert (
        "the budget is spent (stop reason: cost_usd); 4 of 5 documents were answered by then" in done.stderr
    )
    command = f"rlm-ray resume {jobs[0].run_id} --trust-record (give a higher limits.cost_usd)"
    assert f"go on with: {command}" in done.stderr
    run("Which status?", "rows.jsonl", *COUNT, "--resume", jobs[0].run_id)
    assert jobs[1].run_id == jobs[0].run_id


def test_a_failed_piece_ends_all_or_is_told_at_the_end(run, jobs):
    jobs.kind = Failing
    done = run("Which status?", "rows.jsonl", *COUNT)
    assert (done.exit_code, done.stdout) == (console.FAILED, "")
    assert "p4:0-13: is down" in done.stderr
    done = run("Which status?", "rows.jsonl", *COUNT, "--on-error", "skip")
    assert done.exit_code == 3
    assert json.loads(done.stdout) == {"status": {"Final": 3, "Draft": 1}}
    assert "failed p4:0-13: is down" in done.stderr


def test_text_on_stdin_is_one_document(run, jobs):
    done = run("Which status?", "-", *COUNT, "--size", "20", stdin=b"Status: Final\n\nAlso status: Draft")
    assert done.exit_code == console.OK
    assert jobs[0].asked == 2


def test_a_schema_file_shapes_the_answers(run, jobs, tmp_path):
    (tmp_path / "s.json").write_text(
        json.dumps({"type": "object", "properties": {"status": {"enum": ["Final"]}}})
    )
    done = run("Which?", "rows.jsonl", *COUNT, "--schema", "s.json", "--on-error", "skip")
    assert "failed p3:0-13: the answer does not match the schema" in done.stderr
    assert done.exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("Which?", "rows.jsonl", "--reduce", "median"), "must be model, collect, count, union, sum"),
        (("Which?", "nothing.jsonl"), "nothing.jsonl"),
        (("Which?", "rows.jsonl", "--text", "body"), "no column 'body'"),
        (("Which?", "bad.jsonl"), "--on-error skip"),
        (("Which?", "two.jsonl"), "--text"),
        (("Which?", "rows.jsonl", "--schema", "none.json"), "none.json"),
        (("Which?", "rows.jsonl", "--size", "5", "--overlap", "5"), "overlap"),
    ],
)
def test_what_cannot_be_used_is_told_before_anything_is_asked(run, jobs, tmp_path, arguments, why):
    (tmp_path / "bad.jsonl").write_text('{"id": "a", "text": "x"}\nno json\n')
    (tmp_path / "two.jsonl").write_text('{"title": "a", "body": "x"}\n')
    done = run(*arguments)
    assert (done.exit_code, done.stdout, jobs) == (console.USAGE, "", [])
    assert why in done.stderr


def test_bad_rows_are_passed_over_when_asked(run, jobs, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"id": "a", "text": "Status: Final"}\nno json\n')
    done = run("Which?", "bad.jsonl", *COUNT, "--on-error", "skip")
    assert done.exit_code == console.OK
    assert "passed over" in done.stderr


@pytest.mark.parametrize(
    ("more", "asked"),
    [((), 1), (("--yes",), 0), (("--set", "model=offline/extractive"), 0)],
    ids=["unknown price", "yes", "free"],
)
def test_people_are_asked_before_what_may_cost_something(run, jobs, monkeypatch, more, asked):
    questions = []
    monkeypatch.setattr("rlm_ray.cli.map_reduce._confirmed", lambda: bool(questions.append(1)))
    done = run("Which status?", "rows.jsonl", *COUNT, *more)
    assert len(questions) == asked
    assert done.exit_code == (console.INTERRUPTED if asked else console.OK)
    assert len(jobs) == (not asked)
