"""How much a command says: -q, -v, --log-file, before and behind the name of every command."""

from __future__ import annotations

import json
import logging
import stat

import pytest

from rlm_ray.events.records import CallEnded, CellEnded, RunFinished, RunStarted, SessionOpened
from rlm_ray.progress import RunLog
from rlm_ray.runs.run import Result
from rlm_ray.testing.sample_run import example_run


class TellingRun:
    """A run that tells its observers the records of an example."""

    records = tuple(example_run(3))

    async def result(self):
        for record in self.records:
            for observer in self.observers:
                observer.add(record)
        return await super().result()

    def __init__(self, *arguments, observers=(), **more):
        super().__init__(*arguments, **more)
        self.observers = observers


@pytest.fixture
def telling(fake_run, monkeypatch):
    made = type("Telling", (TellingRun, fake_run), {})
    monkeypatch.setattr("rlm_ray.rlm.Run", made)
    return made


@pytest.fixture
def text(tmp_path):
    (tmp_path / "a.txt").write_text("alpha")


def test_without_options_what_was_read_is_said_and_calls_are_not(invoke, telling, text):
    done = invoke("ask", "what?", "a.txt")
    assert (done.stdout, done.stderr) == ("the answer\n", "read 1 file (text), 5 characters\n")


def test_quiet_leaves_the_answer_alone(invoke, telling, text):
    done = invoke("ask", "what?", "a.txt", "-q")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "the answer\n", "")


def test_quiet_still_says_errors_and_why_there_is_no_answer(invoke, telling, text):
    assert invoke("ask", "-q", "what?", "missing.txt").stderr.startswith("error: missing.txt: ")
    telling.outcome = Result(None, "time_s", "it had to end", "run-1", 0, 1.0)
    assert "it had to end" in invoke("ask", "--quiet", "what?", "a.txt").stderr


def test_verbose_says_each_call_and_twice_so_each_cell(invoke, telling, text):
    once, twice = (invoke("ask", "what?", "a.txt", flag).stderr for flag in ("-v", "-vv"))
    calls = [record for record in telling.records if isinstance(record, CallEnded)]
    assert once.count(" answered, ") + once.count(" failed:") == len(calls)
    assert "the run ended after" in once
    assert "code of turn" not in once
    assert "code of turn 1 of the root" in twice
    assert "INFO" in once


def test_a_log_file_is_private_and_has_what_was_said_and_done_in_all_commands(
    invoke, telling, text, tmp_path
):
    log = tmp_path / "run.log"
    assert invoke("ask", "what?", "a.txt", "-q", "--log-file", log).stderr == ""
    assert invoke("ask", "what?", "missing.txt", "--log-file", log).exit_code == 2
    written = log.read_text().splitlines()
    assert any("read 1 file (text), 5 characters" in line for line in written)
    assert any(" answered, " in line for line in written)
    assert "error: missing.txt: " in written[-1]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_log_lines_are_json_where_a_setting_says_so(invoke, telling, text, tmp_path, monkeypatch):
    log = tmp_path / "run.log"
    done = invoke("ask", "what?", "a.txt", "-v", "--log-file", log, "--set", "log_format=json")
    shown = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert any(" answered, " in line["message"] for line in shown)
    written = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["level"] for line in written} == {"INFO", "DEBUG"}
    monkeypatch.setenv("RLM_RAY_LOG_FORMAT", "json")
    assert invoke("ask", "what?", "missing.txt", "--log-file", log).exit_code == 2
    assert "missing.txt: " in log.read_text().splitlines()[-1]
    monkeypatch.setenv("RLM_RAY_LOG_FORMAT", "yaml")
    assert "log_format" in invoke("ask", "what?", "a.txt").stderr


@pytest.mark.parametrize("where", ["no/such/folder/x.log", "."])
def test_a_log_file_that_cannot_be_written_is_one_sentence(invoke, telling, text, where):
    done = invoke("ask", "what?", "a.txt", "--log-file", where)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --log-file: ")
    assert done.stderr.endswith("; name another file\n")


def test_quiet_and_verbose_together_are_refused(invoke, telling, text):
    done = invoke("ask", "what?", "a.txt", "-q", "-v")
    assert (done.exit_code, done.stderr) == (
        2,
        "error: --quiet: says the opposite of --verbose; give one of them\n",
    )


@pytest.mark.parametrize(
    "command",
    [
        ["ask"], ["batch"], ["map-reduce"], ["resume"], ["view"], ["runs"], ["runs", "prune"], ["runs", "delete"],
        ["config"], ["models"], ["doctor"], ["serve"], ["shutdown"], ["cache", "prune"],
    ],
)  # fmt: skip
def test_every_command_has_them(invoke, command):
    shown = invoke(*command, "--help").stdout
    assert all(option in shown for option in ("-q, --quiet", "-v, --verbose", "--log-file FILE"))


def test_nothing_of_them_stays_behind(invoke, telling, text, tmp_path):
    invoke("ask", "what?", "a.txt", "-vv", "--log-file", tmp_path / "run.log")
    logger = logging.getLogger("rlm_ray")
    assert (logger.handlers, logger.level) == ([], logging.NOTSET)
    said = logging.getLogger("rlm_ray.cli.said").handlers
    assert not any(getattr(handler, "baseFilename", "").endswith("run.log") for handler in said)


def test_lines_of_the_log_are_single_and_without_what_a_terminal_obeys(caplog):
    hostile = "a\nb\x1b[2J"
    seen = RunLog()
    with caplog.at_level(logging.DEBUG, "rlm_ray.progress.targets"):
        for record in (
            RunStarted(0.0, "id", hostile, {}, None, "0.1"),
            SessionOpened(0.0, (), hostile, None, "m", "a"),
            CallEnded(1.0, (), 1, "turn", "m", "k", 0.0, error_kind="X", why=hostile),
            CellEnded(1.0, (), 1, 0.5, error=hostile),
            RunFinished(2.0, "error", hostile),
        ):
            seen.add(record)
    assert len(caplog.messages) == 5
    assert all(message.isprintable() for message in caplog.messages)
