"""`rlm-ray batch`, with a job that answers in this process."""

from __future__ import annotations

import json
import os
import signal
from contextlib import asynccontextmanager

import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from rlm_ray.cli import batch
from rlm_ray.errors import AuthenticationError, LimitReached, ModelError
from rlm_ray.events.usage import CallStats, RunUsage
from rlm_ray.session.result import SessionResult

app = typer.Typer()
app.command()(batch.batch)


class EchoJob:
    """Answers with question and text, or what `reply` says."""

    concurrency = 2
    trace_id = ""
    run_id = ""

    def __init__(self):
        self.asked = []
        self.settings = None
        self.reply = lambda row, query, text: f"{query}|{text}"

    async def ask(self, row, query, context):
        self.asked.append(row)
        answer = self.reply(row, query, context.text())
        usage = RunUsage({("m", 0): CallStats(calls=1, input_tokens=10, output_tokens=1, cost_usd=0.5)})
        return SessionResult(answer, "answered", turns=1, usage=usage)

    def end_as(self, reason, why, answer=None):
        self.ended = reason, why

    async def usage(self):
        return RunUsage({("m", 0): CallStats(calls=len(self.asked), cost_usd=0.5 * len(self.asked))})


@pytest.fixture
def job(monkeypatch):
    echo = EchoJob()

    @asynccontextmanager
    async def opened(settings, query, *, run_id, observers):
        echo.run_id, echo.settings = run_id, settings
        yield echo

    monkeypatch.setattr(batch, "open_batch_run", opened)
    monkeypatch.setattr(batch, "check_models", lambda *_: None)  # no model is asked
    return echo


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """Three rows in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"id": name, "who": name.upper(), "text": f"text {name}"}) for name in "abc"]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_rows_are_asked_and_the_path_of_the_answers_is_printed(job, rows):
    done = run("Who is {who}?", "rows.jsonl", "--out", "answers.jsonl", "--model", "openai/m")
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == "answers.jsonl"
    assert "3 rows: 3 answered, 0 failed (0 of them before); 3 calls, $1.50" in done.stderr
    answers = [json.loads(line) for line in (rows / "answers.jsonl").read_text().splitlines()]
    assert [row["answer"] for row in answers] == [f"Who is {name.upper()}?|text {name}" for name in "abc"]
    assert job.settings.model == "openai/m"


def test_the_summary_is_json_for_machines(job, rows, as_documented):
    done = run("Q", "rows.jsonl", "--out", "out", "--json")
    summary = as_documented("batch", done.stdout)
    assert summary["stop_reason"] == "done"
    assert (summary["rows"], summary["answered"], summary["failed"]) == (3, 3, 0)
    assert (summary["calls"], summary["cost_usd"], summary["run_id"], summary["out"]) == (
        3,
        1.5,
        job.run_id,
        "out",
    )


def test_a_question_for_each_row_comes_from_a_column(job, rows):
    done = run("rows.jsonl", "--query-column", "who", "--text", "text", "--out", "out.jsonl")
    assert done.exit_code == 0, done.output
    first = json.loads((rows / "out.jsonl").read_text().splitlines()[0])
    assert first["answer"] == "A|text a"


def test_parquet_opens_with_the_types_of_the_schema(job, rows):
    job.reply = lambda row, query, text: json.dumps({"pages": row, "tags": ["x"]})
    schema = {
        "type": "object",
        "properties": {"pages": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "string"}}},
        "required": ["pages"],
    }
    (rows / "schema.json").write_text(json.dumps(schema))
    done = run("Q", "rows.jsonl", "--schema", "schema.json", "--out", "out.parquet", "--limit", 2)
    assert done.exit_code == 0, done.output
    table = pq.read_table(rows / "out.parquet")
    types = {field.name: str(field.type) for field in table.schema}
    assert (types["pages"], types["cost_usd"], types["row"]) == ("int64", "double", "int64")
    assert "list" in types["tags"]
    assert table["pages"].to_pylist() == [0, 1]


def fail_at(row, error):
    def reply(number, query, text):
        if number == row:
            raise error
        return "fine"

    return reply


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ModelError("m", "is poisoned"), 3, "ask them again with --retry-failed"),
        (LimitReached("calls", "2 calls are made"), 4, "go on with the same command and a higher limit"),
        (AuthenticationError("m", "the key is refused"), 5, "the same command goes on from there"),
    ],
)
def test_how_it_ended_is_said_in_words_and_in_the_exit_code(job, rows, error, code, said):
    job.reply = fail_at(0, error)
    done = run("Q", "rows.jsonl", "--out", "out")
    assert done.exit_code == code, done.output
    assert said in done.stderr
    if code != 5:  # an error ends the block, and the driver writes it down
        assert job.ended[0] == {3: "answered", 4: "calls"}[code]


def test_the_same_command_goes_on_and_retries_only_what_it_is_told_to(job, rows):
    job.reply = fail_at(1, ModelError("m", "not now"))
    assert run("Q", "rows.jsonl", "--out", "out").exit_code == 3
    job.asked.clear()
    assert run("Q", "rows.jsonl", "--out", "out").exit_code == 3
    assert job.asked == []
    job.reply = lambda row, query, text: "fine"
    assert run("Q", "rows.jsonl", "--out", "out", "--retry-failed").exit_code == 0
    assert job.asked == [1]


def test_at_a_limit_the_rest_may_be_written_down(job, rows):
    job.reply = fail_at(1, LimitReached("calls", "no more"))
    job.concurrency = 1
    done = run("Q", "rows.jsonl", "--out", "out.jsonl", "--on-limit", "stop")
    assert done.exit_code == 4
    answers = [json.loads(line) for line in (rows / "out.jsonl").read_text().splitlines()]
    assert [(row["error"], row["stop_reason"]) for row in answers] == [
        (None, "answered"), ("no more", "calls"), ("no more", "calls"),
    ]  # fmt: skip


def test_ctrl_c_saves_what_is_done_and_says_how_to_go_on(job, rows):
    def reply(row, query, text):
        if row == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return "fine"

    job.reply = reply
    job.concurrency = 1
    (rows / "many.jsonl").write_text('{"text": "x"}\n' * 50)
    done = run("Q", "many.jsonl", "--out", "out")
    assert done.exit_code == 130, done.output
    assert "the same command goes on from here" in done.stderr
    saved = [line for part in rows.glob("out/part-*") for line in part.read_text().splitlines()]
    assert 0 < len(saved) < 50
    job.reply = lambda row, query, text: "fine"
    assert run("Q", "many.jsonl", "--out", "out").exit_code == 0


def test_another_question_for_the_same_output_is_refused_until_restarted(job, rows):
    run("Q", "rows.jsonl", "--out", "out")
    done = run("Other", "rows.jsonl", "--out", "out")
    assert done.exit_code == 2
    assert "query was 'Q', now 'Other'" in done.stderr
    assert run("Other", "rows.jsonl", "--out", "out", "--restart").exit_code == 0


def test_a_dry_run_tells_rows_tokens_and_cost_and_asks_nobody(job, rows):
    done = run("Who is {who}?", "rows.jsonl", "--dry-run", "--model", "openai/gpt-4o-mini", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["rows"], told["bad_rows"], told["chars"], told["output_tokens"]) == (3, 0, 18, 900)
    assert told["input_tokens"] == (18 + 3 * len("Who is A?")) // 3
    assert told["cost_usd"] == pytest.approx((told["input_tokens"] * 0.15 + 900 * 0.6) / 1e6)
    assert not job.asked
    assert not (rows / "out").exists()


def test_a_dry_run_in_words_knows_what_it_does_not_know(job, rows):
    done = run("Q", "rows.jsonl", "--dry-run", "--model", "openai/nobody-knows", "--limit", 2)
    assert "2 rows, 12 characters" in done.stdout
    assert "cost: unknown" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "question: is missing"),
        (["Q"], "source: is missing"),
        (["Q", "rows.jsonl"], "--out: is missing"),
        (["Q", "nothing.jsonl", "--out", "out"], "does not exist"),
        (["{nobody}?", "rows.jsonl", "--out", "out"], "{nobody} is no column"),
        (["{titel}?", "rows.jsonl", "--out", "out"], "write {{ for a brace"),
        (["Q", "rows.jsonl", "--out", "out", "--format", "xml"], "must be jsonl or parquet"),
        (["Q", "rows.jsonl", "--out", "out", "--text", "body"], "has no column 'body'"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is(job, rows, arguments, said):
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert not job.asked
    assert not (rows / "out").exists()
