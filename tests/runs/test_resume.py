"""Taking a run up again: what is refused, what is answered at once, and what the next life starts from."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from rlm_ray.config import Cluster, Settings, settings_from, settings_to_dict
from rlm_ray.config.trust import value_at
from rlm_ray.core.context import InputSummary, make_context
from rlm_ray.core.llm import Usage
from rlm_ray.errors import ConfigError, InputError, JournalError
from rlm_ray.events.records import CallEnded, CallSent, RunFinished, RunStarted, to_line, without_content
from rlm_ray.journal.run_store import RunStore
from rlm_ray.runs import context_loader
from rlm_ray.runs.context_loader import files_of, read_context
from rlm_ray.runs.resume import prepare_resume
from rlm_ray.runs.run import Result, Run

RUN = "20260102-030405-abcdef"
SETTINGS = Settings(model="m", max_iterations=7, params={"api_key": "sk-0123456789", "temperature": 0.5})
OPENED = RunStarted(1, RUN, "Who?", settings_to_dict(SETTINGS), InputSummary(), "0.1")
CALLS = [
    CallSent(1.5, (), 1, "turn", "m", "k"),
    CallEnded(2, (), 1, "turn", "m", "k", 1, usage=Usage(10, 5), cost_usd=0.5, text="FINAL(1)"),
]
ANSWERED = RunFinished(3, "answered", answer="Nobody", turns=4, seconds=1.5)


@pytest.fixture
def run_dir(tmp_path):
    return str(tmp_path / "runs")


def recorded(run_dir, *records, context="the input", paths=()):
    folder = RunStore(run_dir, RUN)
    writer = folder.writer("test")
    for number, record in enumerate(records):
        writer.append(to_line(record, f"t:{number}"))
    writer.close()
    if context is not None:
        context_loader.save_context(
            folder, read_context(list(paths)) if paths else make_context(context), files_of(list(paths))
        )
    return folder


def changed(**changes):
    return lambda settings: settings_from(changes, base=settings)


SAME = changed()


def test_a_run_that_has_its_answer_gives_it_and_starts_nothing(run_dir):
    folder = recorded(run_dir, OPENED, *CALLS, ANSWERED, context=None)
    result = prepare_resume(folder, None, changed(limits={"cost_usd": 9.0}, api_key="sk-another-key"))
    assert isinstance(result, Result)
    assert (result.answer, result.stop_reason, result.run_id, result.turns, result.seconds) == (
        "Nobody", "answered", RUN, 4, 1.5,
    )  # fmt: skip
    assert (result.usage.total.calls, result.usage.total.cost_usd, result.run_dir) == (1, 0.5, run_dir)
    assert result.tree.root.calls[1].text == "FINAL(1)"


@pytest.mark.parametrize("changes", [{"model": "other"}, {"max_iterations": 9}, {"temperature": 0.9}])
def test_with_what_shapes_the_answer_changed_it_is_asked_again(run_dir, changes):
    run = prepare_resume(recorded(run_dir, OPENED, *CALLS, ANSWERED), None, changed(**changes))
    assert isinstance(run, Run)
    assert run.run_id == RUN


def test_with_another_context_it_is_asked_again_about_that(run_dir):
    run = prepare_resume(recorded(run_dir, OPENED, *CALLS, ANSWERED), "another input", SAME)
    assert run._context.text() == "another input"
    assert run._history.changed_context_key(run._context) == make_context("another input").fingerprint()


def test_a_killed_run_goes_on_with_its_question_its_settings_and_its_context(run_dir):
    run = prepare_resume(
        recorded(run_dir, OPENED, *CALLS), None, changed(api_key="sk-given-again", limits={"calls": 9})
    )
    assert (run._query, run._context.text(), run._context.root_offset) == ("Who?", "the input", 0)
    assert run.settings == replace(
        SETTINGS,
        run_dir=run_dir,
        limits=run.settings.limits,
        params={"temperature": 0.5, "api_key": "sk-given-again"},
    )
    assert run.settings.limits.calls == 9
    earlier = run._history
    assert (earlier.previous_attempts, earlier.usage.total.calls, earlier.usage.total.cost_usd) == (1, 1, 0.5)
    assert earlier.changed_context_key(run._context) == ""


def test_a_key_is_never_taken_from_the_record(run_dir):
    run = prepare_resume(recorded(run_dir, OPENED, *CALLS), None, SAME)
    assert run.settings.params == {"temperature": 0.5}


def test_files_are_read_again_and_a_changed_one_is_another_context(run_dir, tmp_path):
    file = tmp_path / "input.txt"
    file.write_text("before")
    folder = recorded(run_dir, OPENED, paths=[file])
    assert (run := prepare_resume(folder, None, SAME, trust_record=True))._history.changed_context_key(
        run._context
    ) == ""
    file.write_text("after")
    run = prepare_resume(folder, None, SAME, trust_record=True)
    assert run._context.text() == "after"
    assert run._history.changed_context_key(run._context) == run._context.fingerprint()


def test_the_attempts_of_a_run_are_counted(run_dir):
    folder = recorded(run_dir, OPENED, replace(OPENED, life=2, query="Who now?"))
    run = prepare_resume(folder, None, SAME)
    assert (run._history.previous_attempts, run._query) == (2, "Who now?")


def test_a_run_without_its_context_asks_for_it(run_dir):
    folder = recorded(run_dir, OPENED, context=None)
    with pytest.raises(InputError, match="give the context again"):
        prepare_resume(folder, None, SAME)
    assert prepare_resume(folder, "the input", SAME)._context.text() == "the input"


def test_a_run_recorded_without_content_is_refused_with_what_to_do(run_dir):
    folder = recorded(run_dir, *map(without_content, (OPENED, *CALLS)))
    with pytest.raises(JournalError, match=r"recorded without content.*ask the question again"):
        prepare_resume(folder, None, SAME)


def test_a_run_that_is_being_written_is_refused_with_its_writer(run_dir, monkeypatch):
    monkeypatch.setattr("rlm_ray.runs.resume.RELEASE_TIMEOUT_S", 0.0)
    folder = recorded(run_dir, OPENED)
    writer = folder.writer("the driver of today")
    with pytest.raises(JournalError, match=r"is running: the driver of today.*wait for its end"):
        prepare_resume(folder, None, SAME)
    writer.close()
    assert isinstance(prepare_resume(folder, None, SAME), Run)


def test_a_folder_without_a_journal_is_refused(run_dir):
    with pytest.raises(JournalError, match="has no beginning on record"):
        prepare_resume(RunStore(run_dir, RUN), None, SAME)


def test_a_run_in_an_object_store_goes_on_there(run_dir):
    url = f"memory://resume{abs(hash(run_dir))}"
    run = prepare_resume(recorded(url, OPENED, *CALLS), None, SAME)
    assert (run.settings.run_dir, run._context.text()) == (url, "the input")


ADDRESSED = [
    ({"params": {"api_base": "http://evil/v1"}}, "params.api_base", {"api_base": "http://mine/v1"}),
    ({"params": {"base_url": "http://evil/v1"}}, "params.base_url", {"base_url": "http://mine/v1"}),
    ({"params": {"api_base": "https://evil/v1?code=0123456789"}}, "params.api_base", {"api_base": "http://mine/v1"}),
    ({"params": {"aws_bedrock_runtime_endpoint": "http://evil"}}, "aws_bedrock_runtime_endpoint", {"aws_bedrock_runtime_endpoint": "x"}),
    ({"params": {"client_certificate_file": "/etc/passwd"}}, "client_certificate_file", {"params": {"client_certificate_file": "/mine"}}),
    ({"params": {"ssl_verify": False}}, "params.ssl_verify", {"ssl_verify": True}),
    ({"cluster": Cluster(address="evil:6379")}, "cluster.address", {"cluster": Cluster(address="mine:6379")}),
    ({"cache": "/home/me/evil"}, "cache", {"cache": "/home/me/mine"}),
    ({"model": "huggingface/https://evil/v1"}, "model", {"model": "openai/gpt"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("recorded_settings", "name", "given"), ADDRESSED, ids=[name for _, name, _ in ADDRESSED]
)
def test_where_things_go_is_the_callers_word_and_not_the_records(run_dir, recorded_settings, name, given):
    table = settings_to_dict(replace(SETTINGS, **recorded_settings))
    folder = recorded(run_dir, replace(OPENED, settings=table), *CALLS)
    with pytest.raises(
        ConfigError, match=rf"{name}: was .* in the record, .*give it again, or trust the record"
    ):
        prepare_resume(folder, None, SAME)
    assert "evil" not in repr(prepare_resume(folder, None, changed(**given)).settings)
    trusted = prepare_resume(folder, None, SAME, trust_record=True).settings
    assert "***" in repr(table) or value_at(settings_to_dict(trusted), name) == value_at(table, name)


def test_the_paths_of_a_record_are_not_read_without_a_word(run_dir, tmp_path):
    (tmp_path / "secret.txt").write_text("of mine")
    folder = recorded(run_dir, OPENED, paths=[tmp_path / "secret.txt"])
    with pytest.raises(InputError, match=r"read .*secret.txt, says its record.*name the input again"):
        prepare_resume(folder, None, SAME)
    assert prepare_resume(folder, "another", SAME)._context.text() == "another"


def test_a_folder_of_another_user_is_refused(run_dir, monkeypatch):
    folder = recorded(run_dir, OPENED, *CALLS, ANSWERED)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(JournalError, match=r"belongs to another user .*copy it to a folder of your own"):
        prepare_resume(folder, None, SAME, trust_record=True)
