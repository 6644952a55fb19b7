"""What `RLM` and its methods take, and what they refuse before anything is started."""

from __future__ import annotations

import dataclasses
from typing import get_type_hints

import pytest

from rlm_ray import RLM, ConfigError, InputError, Limits, RLMOptions, Settings
from rlm_ray.config.deprecated_names import RENAMED_SETTINGS
from rlm_ray.config.models import KNOWN_PARAMS
from rlm_ray.rlm import MAX_QUERY_CHARS, _question_and_context


def test_first_argument_is_the_model_or_settings():
    assert RLM("openai/m").settings == RLM(model="openai/m").settings
    assert RLM(Settings(max_depth=3), model="openai/m").settings == Settings(max_depth=3, model="openai/m")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: RLM("openai/m", model="openai/n"), "model: is given twice: 'openai/m' and 'openai/n'"),
        (lambda: RLM({"model": "m"}), "settings: must be the name of a model, or Settings; got dict"),
        (lambda: RLM(7), "settings: must be the name of a model, or Settings; got int"),
        (lambda: RLM(max_iteration=3), "max_iteration: is no setting; did you mean 'max_iterations'"),
        (lambda: RLM(recursiv_model="m"), "did you mean 'recursive_model'"),
        (lambda: RLM(cost_usd=1), "did you mean limits=Limits\\(cost_usd=...\\)"),
        (lambda: RLM().completion("q", "c", temprature=1), "did you mean 'temperature'"),
        (lambda: RLM().run("q", "c", max_dept=1), "did you mean 'max_depth'"),
        (lambda: next(RLM().stream("q", "c", max_dept=1)), "did you mean 'max_depth'"),
        (lambda: RLM().run("q", contxt="c"), "contxt: is no keyword of a question; did you mean 'context'"),
        (lambda: RLM().completion("q", "c", shema=int), "did you mean 'schema'"),
        (lambda: RLM().run("q", "c", progres=True), "did you mean 'progress'"),
        (lambda: RLM().completion(qery="q"), "did you mean 'query'"),
        (lambda: RLM.resume("last", max_dept=1), "did you mean 'max_depth'"),
    ],
)
def test_slips_are_refused_with_what_may_be_meant(make, why):
    with pytest.raises(ConfigError, match=why):
        make()


@pytest.mark.parametrize("value", [None, "", "openai/cheap"])
def test_recursive_model_may_be_none(value):
    assert RLM("openai/m", recursive_model=value).settings.recursive_model == (value or "")


def test_keywords_of_one_question_leave_the_rest_as_it_was():
    rlm = RLM("openai/m", temperature=0.5, limits={"calls": 10}, max_depth=2)
    changed = rlm._changed({"temperature": 0.9, "limits": {"time_s": 5}, "max_depth": 1, "timeout": 7})
    assert (changed.max_depth, changed.call_timeout_s, changed.params) == (1, 7, {"temperature": 0.9})
    assert (changed.limits, rlm.settings.limits) == (Limits(time_s=5), Limits(calls=10))
    assert (rlm.settings.max_depth, rlm.settings.params) == (2, {"temperature": 0.5})


def test_stats_are_zero_before_the_first_run():
    assert RLM().stats == {"llm_calls": 0, "iterations": 0, "depth": 0}


@pytest.mark.parametrize(
    ("query", "context", "asked"),
    [
        ("q", "c", ("q", "c")),
        ("q", "", ("q", "")),
        ("q", None, ("q", "")),
        ("q", ["a"], ("q", ["a"])),
        ("x" * (MAX_QUERY_CHARS + 1), "c", ("x" * (MAX_QUERY_CHARS + 1), "c")),
        ("x" * MAX_QUERY_CHARS, "", ("x" * MAX_QUERY_CHARS, "")),
    ],
)
def test_question_and_context_are_what_was_given(query, context, asked):
    assert _question_and_context(query, context) == asked


@pytest.mark.parametrize(
    ("query", "context"), [(None, "Translate: Hund"), (None, ["a", "b"]), ("x" * (MAX_QUERY_CHARS + 1), "")]
)
def test_task_may_stand_in_the_context(query, context):
    asked, text = _question_and_context(query, context)
    assert asked.startswith("The task stands in the context itself")
    assert text == (context or query)


@pytest.mark.parametrize("context", ["", None])
def test_neither_question_nor_context_is_refused(context):
    with pytest.raises(
        InputError, match="query: is missing; ask a question, or give a context that holds one"
    ):
        RLM().completion(context=context)


@pytest.mark.parametrize("ask", [RLM().completion, RLM().run, lambda query: RLM().map(query, ["c"])])
@pytest.mark.parametrize(
    ("query", "why"), [("", "is empty"), ("  ", "is empty"), (7, "must be a str|not iterable")]
)
def test_empty_question_is_refused(ask, query, why):
    with pytest.raises((InputError, TypeError), match=why):
        ask(query)


def test_options_name_every_setting_and_only_what_is_taken():
    named = set(get_type_hints(RLMOptions))
    settings = {item.name for item in dataclasses.fields(Settings)}
    assert settings - named == set()
    assert named - settings - KNOWN_PARAMS - set(RENAMED_SETTINGS) == set()
