"""`rlm-ray resume` goes on with a batch and a map-reduce, too, from the folder of the run alone."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import pytest
from test_batch import EchoJob

from rlm_ray.core.repl_types import SubCallAnswer
from rlm_ray.errors import LimitReached
from rlm_ray.journal.run_store import RunStore, list_runs
from rlm_ray.runs.run_history import COMMAND_FILE


class Job(EchoJob):
    """Rows, and pieces whose status it reads."""

    async def llm_calls(self, calls):
        texts = [context.slice(part).text() for *_, part, context in calls]
        return [SubCallAnswer(json.dumps({"status": text.rpartition(": ")[2]})) for text in texts]


@pytest.fixture
def jobs(monkeypatch, begin_record, tmp_path):
    """All jobs that were opened; the first stops at its second row."""
    monkeypatch.setenv("RLM_RAY_RUN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("HOME", str(tmp_path))
    opened = []

    def too_dear(row, query, text):
        if row:
            raise LimitReached("cost_usd", "the budget is spent")
        return f"{query}|{text}"

    @asynccontextmanager
    async def open_job(settings, query, *, run_id, observers):
        job = Job()
        if not opened:
            job.reply = too_dear
        job.settings, job.query, job.run_id = settings, query, run_id
        opened.append(job)
        begin_record(settings, query, run_id, observers)
        yield job

    for module in ("rlm_ray.cli.batch", "rlm_ray.mapreduce.execute"):
        monkeypatch.setattr(f"{module}.open_batch_run", open_job)
    for module in ("rlm_ray.cli.batch", "rlm_ray.cli.map_reduce"):
        monkeypatch.setattr(f"{module}.check_models", lambda *_: None)
    return opened


@pytest.fixture
def here(invoke, tmp_path):
    rows = [{"id": f"p{n}", "text": f"Status: {n}"} for n in range(3)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "elsewhere").mkdir()
    return tmp_path


BATCH = (
    "batch",
    "What?",
    "rows.jsonl",
    "--out",
    "out.jsonl",
    "--set",
    "model=openai/nobody",
    "--api-key",
    "sk-123456",
)
COUNT = (
    "map-reduce",
    "Which?",
    "rows.jsonl",
    "--reduce",
    "count:status",
    "--no-pack",
    "--model",
    "openai/nobody",
)


def test_a_batch_that_a_limit_stopped_goes_on_by_the_command_it_prints(invoke, jobs, here, monkeypatch):
    stopped = invoke(*BATCH)
    run = jobs[0].run_id
    assert stopped.exit_code == 4
    assert (
        f"rlm-ray resume {run} --trust-record (give params.api_key again, a higher limits.cost_usd)"
        in stopped.stderr
    )
    monkeypatch.chdir(here / "elsewhere")
    done = invoke("resume", run, "--trust-record", "--api-key", "sk-123456", "--cost-usd", "9")
    assert (done.exit_code, done.stdout) == (0, "out.jsonl\n"), done.stderr
    assert (jobs[1].run_id, jobs[1].asked) == (run, [1, 2])
    assert (jobs[1].settings.limits.cost_usd, jobs[1].settings.params) == (9.0, {"api_key": "sk-123456"})
    assert len((here / "out.jsonl").read_text().splitlines()) == 3


def test_a_map_reduce_goes_on_as_the_same_run_from_anywhere(invoke, jobs, here, monkeypatch):
    invoke(*COUNT)
    monkeypatch.chdir(here / "elsewhere")
    done = invoke("resume", "last", "--trust-record", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["value"] == {"status": {"0": 1, "1": 1, "2": 1}}
    assert jobs[1].run_id == jobs[0].run_id


def test_a_map_reduce_over_a_pipe_wants_its_input_again(invoke, jobs, here):
    invoke(*COUNT[:2], "-", *COUNT[3:], stdin=b"Status: 7")
    refused = invoke("resume", "last", "--trust-record")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "read its input from a pipe; give it again" in refused.stderr
    done = invoke("resume", "last", "-", "--trust-record", stdin=b"Status: 7")
    assert json.loads(done.stdout) == {"status": {"7": 1}}


@pytest.mark.parametrize("command", [BATCH, COUNT], ids=["batch", "map-reduce"])
def test_files_of_a_record_are_not_touched_without_trust(invoke, jobs, here, command):
    invoke(*command)
    before = (here / "out.jsonl.parts").exists()
    done = invoke("resume", "last", "--api-key", "sk-123456")
    assert (done.exit_code, done.stdout, len(jobs)) == (2, "", 1)
    assert "--trust-record" in done.stderr
    assert (here / "out.jsonl.parts").exists() == before


def test_what_cannot_go_on_is_one_sentence(invoke, jobs, here):
    invoke(*BATCH)
    run = jobs[0].run_id
    folder = RunStore(str(here / "runs"), run)
    trust = ("resume", run, "--trust-record", "--api-key", "sk-123456")
    assert "rows have their places" in invoke(*trust, "rows.jsonl").stderr
    noted = json.loads(folder.load(COMMAND_FILE))
    for broken, why in (
        (b"{", "cannot be read"),
        (b"[]", "cannot be read"),
        (json.dumps(noted | {"arguments": {"no": 1}}).encode(), "is not of this version"),
        (
            json.dumps(noted | {"folder": "/no/such"}).encode(),
            "was begun in /no/such, which cannot be entered",
        ),
    ):
        folder.save(COMMAND_FILE, broken)
        done = invoke(*trust)
        assert done.exit_code in (1, 2)
        (line,) = done.stderr.splitlines()
        assert why in line


def test_an_output_that_belongs_to_another_run_is_left_alone(invoke, jobs, here):
    invoke(*BATCH)
    invoke(*BATCH, "--restart")
    done = invoke("resume", jobs[0].run_id, "--trust-record", "--api-key", "sk-123456")
    assert (done.exit_code, len(jobs)) == (2, 2)
    assert f"belongs to the run {jobs[1].run_id} now" in done.stderr


def test_what_keeps_no_content_notes_no_command(invoke, jobs, here):
    invoke(*COUNT, "--set", "record_content=false")
    assert [run.load(COMMAND_FILE) for run in list_runs(str(here / "runs"))] == [None]


@pytest.mark.parametrize("command", ["batch", "map-reduce"])
def test_patterns_and_encoding_are_those_of_before(invoke, jobs, here, command):
    (here / "docs").mkdir()
    for name in ("a.txt", "b.txt", "c.txt", "d.md"):
        (here / "docs" / name).write_bytes(f"größe {name} Status: {name}".encode("latin-1"))
    how = (
        "docs",
        "--include",
        "*.txt",
        "--exclude",
        "c.*",
        "--encoding",
        "latin-1",
        "--model",
        "openai/nobody",
    )
    further = ("--out", "out.jsonl") if command == "batch" else ("--reduce", "count:status", "--no-pack")
    stopped = invoke(command, "What?", *how, *further)
    assert "passed over: 1 excluded, 1 not included" in stopped.stderr
    done = invoke("resume", "last", "--trust-record")
    assert done.exit_code == 0, done.stderr
    if command == "batch":
        rows = [json.loads(line) for line in (here / "out.jsonl").read_text().splitlines()]
        assert [row["id"] for row in rows] == ["a.txt", "b.txt"]
        assert rows[1]["answer"].startswith("What?|größe b.txt")
    else:
        assert json.loads(done.stdout) == {"status": {"a.txt": 1, "b.txt": 1}}
