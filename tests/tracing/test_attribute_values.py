"""Totals, quantiles and bounded texts of spans."""

from __future__ import annotations

import json

import pytest

from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import Usage
from rlm_ray.events.records import CallEnded, MapEnded, RunFinished, SessionOpened
from rlm_ray.tracing.attributes import (
    MAX_ATTRIBUTE_BYTES,
    CallTotals,
    SpanAttributes,
    map_end_attributes,
    truncate_utf8,
)


def call(seconds, **facts):
    return CallEnded(100.0 + seconds, (0,), 1, "leaf", "m", "k", 100.0, **facts)


def test_totals_of_calls_are_sums_and_quantiles():
    totals = CallTotals()
    for seconds in range(20):
        totals.add(call(seconds, usage=Usage(10, 2), cost_usd=0.5, error_kind="E" if seconds < 3 else ""))
    totals.add(call(-5.0))
    assert totals.attributes("x") == {
        "x.calls": 21, "x.errors": 3, "x.input_tokens": 200, "x.output_tokens": 40, "x.cost_usd": 10.0,
        "x.call_s_p50": 9.0, "x.call_s_p95": 18.0, "x.call_s_max": 19.0,
    }  # fmt: skip
    assert set(CallTotals().attributes("x").values()) == {0}


def test_early_end_counts_as_no_time():
    totals = CallTotals()
    totals.add(call(-5.0))
    assert totals.attributes("x")["x.call_s_max"] == 0.0


def test_end_of_a_map_has_its_counts_where_they_are_known():
    totals = CallTotals()
    totals.add(call(1.0))
    found = map_end_attributes(MapEnded(9.0, (), 1, 7, 2), totals, 5)
    assert (found["rlm.map.kept"], found["rlm.map.answered"], found["rlm.map.failed"]) == (5, 7, 2)
    assert "rlm.map.answered" not in map_end_attributes(None, totals, 5)


@pytest.mark.parametrize(
    ("length", "is_cut"), [(MAX_ATTRIBUTE_BYTES, False), (MAX_ATTRIBUTE_BYTES + 1, True)]
)
@pytest.mark.parametrize("letter", ["x", "ä"])
def test_attribute_is_cut_above_its_limit_in_bytes(letter, length, is_cut):
    text = letter * (length // len(letter.encode())) + "x" * (length % len(letter.encode()))
    assert len(text.encode()) == length
    assert (truncate_utf8(text) != text) is is_cut


@pytest.mark.parametrize("text", ['"' * 10_000, "\x00" * 5_000, "x" * 4_000, "ä" * 9_000, "short"])
def test_message_of_any_text_is_whole_json_within_the_bound(text):
    found = SpanAttributes("run", content=True).run_end(RunFinished(1.0, "answered", answer=text))
    (written,) = [value for name, value in found.items() if name.endswith("output.messages")]
    assert len(written.encode()) <= MAX_ATTRIBUTE_BYTES
    assert json.loads(written)[0]["role"] == "assistant"
    if text == "short":
        assert "short" in written


def test_content_is_left_out_unless_it_is_asked_for():
    opened = SessionOpened(1.0, (0, 2), "the question", InputSummary("text", 5), "m", "a")
    assert "the question" not in str(SpanAttributes("run").session(opened))
