"""Completion for bash, zsh and fish."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from rlm_ray.cli.completion import complete_model, complete_profile, complete_run
from rlm_ray.events.records import to_line
from rlm_ray.journal.storage.local import JOURNAL
from rlm_ray.testing.sample_run import example_run


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("RLM_RAY_RUN_DIR", str(tmp_path))
    for day in (1, 2):
        name = f"2026010{day}-101010-aaaa"
        (tmp_path / name).mkdir()
        (tmp_path / name / JOURNAL).write_bytes(b"".join(map(to_line, example_run(3, run_id=name))))


def test_runs_are_offered_newest_first_with_their_questions(runs):
    assert [name for name, _ in complete_run("")] == ["last", "20260102-101010-aaaa", "20260101-101010-aaaa"]
    assert [name for name, _ in complete_run("20260101")] == ["20260101-101010-aaaa"]
    assert all(question.isprintable() and question for _, question in complete_run(""))
    assert complete_run("x") == []


@pytest.mark.parametrize(
    "hostile",
    ["$(touch x)", "`touch x`", "\\$(touch x)", "a'; touch x; '", '"; touch x; "', "\x1b[2J\n", "((a:b))"],
)
def test_a_shell_that_evaluates_what_it_is_offered_gets_nothing_to_obey(runs, tmp_path, hostile):
    for name in ("20260103-101010-bbbb", f"20260104-101010-{hostile.replace('/', '')}"):
        folder = tmp_path / name
        folder.mkdir()
        first, *_ = example_run(3, run_id="20260103-101010-bbbb")
        (folder / JOURNAL).write_bytes(to_line(replace(first, query=f"what? {hostile}")))
    offered = complete_run("")
    assert [name for name, _ in offered][1:] == [
        "20260103-101010-bbbb",
        "20260102-101010-aaaa",
        "20260101-101010-aaaa",
    ]
    assert all(re.fullmatch(r"[\w ,.?!-]*", text) for each in offered for text in each)


def test_models_and_profiles_are_offered_by_their_beginning():
    assert "openai/gpt-4o" in complete_model("openai/gpt-4")
    assert complete_model("off") == ["offline/extractive"]
    assert complete_profile("s") == ["short", "small-window"]


def test_settings_that_cannot_be_read_complete_nothing(monkeypatch):
    monkeypatch.setenv("RLM_RAY_NO_SUCH", "1")
    assert complete_run("") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "given"),
    [
        ("bash", {"COMP_WORDS": "rlm-ray map", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "rlm-ray map"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "rlm-ray map", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_each_shell_completes_the_name_of_a_command(rlm_ray, shell, given):
    done = rlm_ray(_RLM_RAY_COMPLETE=f"complete_{shell}", **given)
    assert "map-reduce" in done.stdout, done.stderr
