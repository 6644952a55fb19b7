"""The command that is printed where a run ends without its answer goes on with that run as it stands."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from rlm_ray.cli import resume as resume_command
from rlm_ray.config import DEFAULT_RUN_DIR, Cluster, Settings, settings_to_dict
from rlm_ray.core.context import InputSummary, make_context
from rlm_ray.events.records import RunFinished, RunStarted, to_line, without_content
from rlm_ray.journal.run_store import RunStore
from rlm_ray.runs import context_loader
from rlm_ray.runs.context_loader import files_of, read_context
from rlm_ray.runs.run import Result

RUN = "20260102-030405-abcdef"
BASE = {"api_base": "http://127.0.0.1:9/v1"}
KEY = {"api_key": "sk-0123456789"}


@pytest.fixture
def stopped(invoke, fake_run, tmp_path, monkeypatch):
    """What `ask` prints of a run with this record that was stopped."""

    monkeypatch.setenv("HOME", str(tmp_path))

    def run(settings, paths=(), run_dir=DEFAULT_RUN_DIR, reason="time_s", hide=lambda record: record):
        run_dir = str(run_dir)
        folder = RunStore(run_dir, RUN)
        writer = folder.writer("test")
        opened = RunStarted(1, RUN, "Who?", settings_to_dict(settings), InputSummary(), "0.1")
        for number, record in enumerate([opened, RunFinished(2, reason)]):
            writer.append(to_line(hide(record), f"t:{number}"))
        writer.close()
        context = read_context(list(paths)) if paths else make_context("the input")
        context_loader.save_context(folder, context, files_of(list(paths)))
        fake_run.outcome = Result("half", reason, "it had to end", RUN, 3, 1.0, run_dir=run_dir)
        return invoke("ask", "Who?", stdin=b"text").stderr

    return run


@pytest.fixture
def gone_on(invoke, monkeypatch):
    """The settings that a command line goes on with; it starts nothing."""
    taken = []

    async def go_on(run):
        taken.append(run)
        return Result("the answer", "answered", "", RUN, 3, 1.0)

    monkeypatch.setattr(resume_command, "_go_on", go_on)

    def run(command):
        done = invoke(*shlex.split(command)[1:])
        assert (done.exit_code, done.stdout) == (0, "the answer\n"), done.stderr
        return taken[-1]

    return run


def printed(stderr):
    return stderr.partition("go on with: ")[2].strip()


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({}, ""),
        ({"params": {"temperature": 0.5}}, ""),
        ({"params": BASE}, " --trust-record"),
        ({"params": {"base_url": "http://127.0.0.1:9/v1"}}, " --trust-record"),
        ({"params": {"ssl_verify": False}}, " --trust-record"),
        ({"cluster": Cluster(address="127.0.0.1:9")}, " --trust-record"),
        ({"model": "huggingface/http://127.0.0.1:9/v1"}, " --trust-record"),
        ({"cache": "/tmp/answers"}, " --trust-record"),
    ],
    ids=str,
)
def test_a_record_that_says_where_questions_go_is_trusted_in_the_printed_command(
    stopped, gone_on, changes, flag
):
    settings = replace(Settings(), **changes)
    command = printed(stopped(settings))
    assert command == f"rlm-ray resume {RUN}{flag}"
    assert settings_to_dict(gone_on(command).settings) == settings_to_dict(settings)


def test_so_is_one_that_names_the_files_of_its_input(stopped, gone_on, tmp_path):
    (tmp_path / "input.txt").write_text("of a file")
    command = printed(stopped(Settings(), paths=[tmp_path / "input.txt"]))
    assert command == f"rlm-ray resume {RUN} --trust-record"
    assert gone_on(command)._context.text() == "of a file"


def test_a_run_that_lies_elsewhere_is_named_by_its_folder(stopped, gone_on, tmp_path):
    command = printed(stopped(Settings(), run_dir=tmp_path / "my runs"))
    assert command == f"rlm-ray resume '{tmp_path}/my runs/{RUN}'"
    assert gone_on(command).run_id == RUN


def test_keys_that_stand_in_no_settings_are_asked_for_and_never_printed(stopped):
    said = printed(stopped(Settings(params=BASE | KEY | {"extra_headers": {"X-Auth": "secret-0123456789"}})))
    assert said == (
        f"rlm-ray resume {RUN} --trust-record (give params.api_key again, params.extra_headers again)"
    )


def test_keys_of_ones_own_settings_go_with_an_address_of_the_record(stopped, gone_on, monkeypatch, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('[params]\napi_key = "sk-0123456789"\napi_base = "http://127.0.0.1:8/v1"\n')
    monkeypatch.setenv("RLM_RAY_CONFIG", str(own))
    command = printed(stopped(Settings(params=BASE | KEY)))
    assert command == f"rlm-ray resume {RUN} --trust-record"
    assert gone_on(command).settings.params == BASE | KEY


@pytest.mark.parametrize(
    ("reason", "wanted"),
    [
        ("cost_usd", " (give a higher limits.cost_usd)"),
        ("tokens", " (give a higher limits.tokens)"),
        ("calls", " (give a higher limits.calls)"),
        ("sessions", " (give a higher limits.sessions)"),
        ("max_iterations", " (give a higher max_iterations)"),
        ("time_s", ""),
        ("interrupted", ""),
    ],
)
def test_a_limit_that_holds_for_the_next_attempt_too_is_named(stopped, reason, wanted):
    assert printed(stopped(Settings(), reason=reason)) == f"rlm-ray resume {RUN}{wanted}"


def test_a_run_without_its_question_on_record_gets_no_command(stopped):
    assert "go on with" not in stopped(Settings(), hide=without_content)
