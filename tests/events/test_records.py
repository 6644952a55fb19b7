"""The facts of a run as lines of a journal."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import Usage
from rlm_ray.core.repl_types import Citation, Variable
from rlm_ray.errors import InputError
from rlm_ray.events import records
from rlm_ray.events.records import (
    KINDS,
    CallEnded,
    CallSent,
    FailedAttempt,
    MapEnded,
    Role,
    SessionEnded,
    SessionOpened,
    check_types,
    from_line,
    to_line,
    without_content,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TIME = st.floats(0, 4e9, allow_nan=False)
COUNT = st.integers(0, 10**12)
PATH = st.lists(st.integers(0, 10**6), max_size=4).map(tuple)
PLAIN = st.dictionaries(TEXT, st.one_of(TEXT, COUNT, st.none(), st.lists(TEXT, max_size=2)), max_size=3)
BY_NAME = {
    "path": PATH,
    "role": st.sampled_from(get_args(Role)),
    "settings": PLAIN,
    "input": st.builds(InputSummary, TEXT, COUNT, COUNT, st.none() | COUNT, st.none() | COUNT, TEXT),
    "tries": st.lists(st.builds(FailedAttempt, TIME, TEXT, TEXT), max_size=3).map(tuple),
    "variables": st.lists(st.builds(Variable, TEXT, TEXT, st.none() | COUNT), max_size=3).map(tuple),
    "notes": st.lists(TEXT, max_size=3).map(tuple),
    "follow_ups": st.lists(TEXT, max_size=3).map(tuple),
}
BY_TYPE = {
    "str": TEXT,
    "str | None": st.none() | TEXT,
    "int": COUNT,
    "float": TIME,
    "float | None": st.none() | TIME,
    "bool": st.booleans(),
    "Usage": st.builds(Usage, COUNT, COUNT, COUNT, COUNT),
    "Mapping[str, Any]": PLAIN,
}


def records_of(cls):
    by_name = {item.name: BY_NAME[item.name] for item in fields(cls) if item.name in BY_NAME}
    return st.builds(
        cls, **{item.name: BY_TYPE[item.type] for item in fields(cls) if item.type in BY_TYPE} | by_name
    )


RECORDS = st.one_of(*(records_of(cls) for cls in KINDS.values()))


@settings(deadline=None, max_examples=60)
@given(RECORDS)
def test_a_record_comes_back_from_its_line(record):
    line = to_line(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert from_line(line) == record
    check_types(from_line(line))


@settings(deadline=None, max_examples=60)
@given(RECORDS, st.text("abc:0123", min_size=1))
def test_an_ident_becomes_the_id_of_the_line(record, ident):
    assert from_line(to_line(record, ident)) == replace(record, id=ident)


def test_what_has_its_default_is_left_out():
    line = json.loads(to_line(CallEnded(1.5, (), 1, "turn", "m", "k", 1.0)))
    assert line == {
        "kind": "call", "at": 1.5, "path": [], "call": 1, "role": "turn", "model": "m", "key": "k", "started": 1.0,
    }  # fmt: skip


def test_a_lone_surrogate_does_not_stop_the_journal():
    assert from_line(to_line(SessionOpened(1, (), "a\ud800b", InputSummary(), "m", "a"))).query == "a?b"


def test_fields_of_a_later_version_are_passed_over():
    line = json.loads(to_line(MapEnded(1, (), 0, 1, 0)))
    assert from_line(json.dumps({**line, "weather": "fine"})) == MapEnded(1, (), 0, 1, 0)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"{}",
        b'{"kind": "unheard of"}',
        b'{"kind": ["run"]}',
        b'{"kind": "map_end", "at": 1}',
        b'{"kind": "session", "at": 1, "path": 3, "query": "", "input": [], "model": "", "actor": ""}',
        b'{"kind": "call", "tries": [1]}',
        b"\xff\xfe",
        "é{",
        "[" * 100_000,
    ],
)
def test_a_line_that_is_no_record_is_refused_with_what_it_was(line):
    with pytest.raises(InputError, match="no record of this version"):
        from_line(line)


CANARY = "canary"
FACTS = {
    "fallback_from", "id", "run_id", "version", "traceparent", "actor", "model", "provider", "role", "key", "kind", "finish_reason",
    "stop_reason", "error_kind", "killed", "notes", "settings", "usage", "name", "response_model", "response_id",
}  # fmt: skip
"""Names, and words of ours; all other texts are somebody's."""


def loud(cls):
    """A record with a canary in every text of users, models and their code."""
    values = {
        "path": (0,), "role": "turn", "settings": {}, "usage": Usage() if cls is CallEnded else {},
        "input": InputSummary(sample=CANARY), "tries": (FailedAttempt(1.0, "timeout", CANARY),),
        "variables": (Variable(CANARY, "str", 1),), "notes": (), "follow_ups": (CANARY,), "schemas": (CANARY,),
        "tools": ("add",), "citations": (Citation(CANARY, CANARY, 0, 0, 6, None, CANARY, CANARY),),
    }  # fmt: skip
    plain = {
        "str": CANARY,
        "str | None": CANARY,
        "int": 1,
        "int | None": 1,
        "float": 1.0,
        "float | None": 1.0,
        "bool": True,
    }
    return cls(**{
        item.name: values[item.name] if item.name in values else "" if item.name in FACTS else plain[item.type]
        for item in fields(cls)
    })  # fmt: skip


@pytest.mark.parametrize("cls", KINDS.values())
def test_without_content_nothing_of_anybody_is_left(cls):
    record = loud(cls)
    bare = without_content(record)
    assert CANARY.encode() not in to_line(bare)
    assert all(
        getattr(bare, item.name) == getattr(record, item.name)
        for item in fields(cls)
        if not isinstance(getattr(record, item.name), str | tuple)
        and not is_dataclass(getattr(record, item.name))
    )


def test_the_canary_sings_wherever_there_is_content():
    singing = {cls for cls in KINDS.values() if CANARY.encode() in to_line(loud(cls))}
    silent = {CallSent, MapEnded}
    assert singing == set(KINDS.values()) - silent


@settings(deadline=None, max_examples=60)
@given(RECORDS)
def test_taking_content_away_twice_is_once(record):
    assert without_content(without_content(record)) == without_content(record)


def test_no_answer_stays_no_answer_without_content():
    assert without_content(SessionEnded(1, (), "lost")).answer is None
    assert without_content(SessionEnded(1, (), "answered", answer="x")).answer == ""


DEFAULTS = {
    "CallEnded": {
        "provider": "", "queue_wait_s": 0.0, "rate_wait_s": 0.0, "tries": (), "usage": Usage(0, 0, 0, 0, False), "cost_usd": None,
        "finish_reason": "", "text": "", "tool_call": False, "status": "", "cache_hit": False, "repaid": False, "error_kind": "", "why": "",
        "query": "", "input": None, "id": "", "reasoning": "",
    },
    "CallSent": {"id": "", "max_cost_usd": None},
    "CellEnded": {
        "waited_s": 0.0, "code": "", "output": "", "output_chars": 0, "error": None, "killed": None, "final": None, "looked": False,
        "variables": (), "notes": (), "again": False, "id": "",
    },
    "MapEnded": {"id": ""},
    "MapOpened": {"query": "", "id": ""},
    "RunFinished": {"why": "", "answer": None, "turns": 0, "seconds": 0.0, "usage": {}, "error_kind": "", "id": ""},
    "RunStarted": {"traceparent": "", "life": 1, "format": 1, "follow_ups": (), "id": ""},
    "SessionEnded": {"why": "", "answer": None, "turns": 0, "error_kind": "", "attempt": 1, "key": "", "id": ""},
    "SessionOpened": {"attempt": 1, "id": ""},
}  # fmt: skip
"""Lines leave them out, so they are part of the format: what was written under one must be read under the same."""


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_a_line_leaves_out_has_the_default_of_the_format(name):
    cls = getattr(records, name)
    required = {
        each.name: None for each in fields(cls) if each.default is MISSING and each.default_factory is MISSING
    }
    record = cls(**required)
    assert {each: getattr(record, each) for each in DEFAULTS[name]} == DEFAULTS[name]
    assert len(fields(cls)) >= len(required) + len(DEFAULTS[name])


GOOD = CallEnded(
    1.0, (0, 1), 1, "leaf", "m", "k", 0.5, usage=Usage(1, 2), input=InputSummary("text", 3),
    tries=(FailedAttempt(0.7, "rate", "slow down"),), temperature=0.0,
)  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        {"path": ("0",)},
        {"path": 0},
        {"call": "1"},
        {"at": "1"},
        {"at": None},
        {"at": 1e300},
        {"at": -1e300},
        {"at": float("inf")},
        {"temperature": float("nan")},
        {"key": ["k"]},
        {"model": None},
        {"id": 7},
        {"usage": {"input_tokens": 1}},
        {"usage": Usage("1", 2)},
        {"input": InputSummary("text", None)},
        {"tries": (FailedAttempt(0.7, "rate", 7),)},
        {"tries": (7,)},
    ],
)
def test_a_field_that_holds_what_it_cannot_is_named(fields):
    check_types(GOOD)
    with pytest.raises(InputError, match=r"of a record cannot be"):
        check_types(replace(GOOD, **fields))
