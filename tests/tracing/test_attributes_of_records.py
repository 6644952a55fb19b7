"""What each record says on its span, whole."""

from __future__ import annotations

import json

import pytest

from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import Usage
from rlm_ray.events.records import (
    CallEnded,
    CellEnded,
    FailedAttempt,
    MapOpened,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionOpened,
    ToolEnded,
)
from rlm_ray.tracing.attributes import MAX_ATTRIBUTE_BYTES, CallTotals, Failure, SpanAttributes, truncate_utf8

INPUT = InputSummary("documents", 500)
RUN = {
    "gen_ai.operation.name": "invoke_workflow",
    "gen_ai.workflow.name": "rlm",
    "gen_ai.conversation.id": "r",
}
INPUT_SAYS = {"rlm.context.chars": 500, "rlm.context.kind": "documents"}
SESSION = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "rlm", "gen_ai.conversation.id": "r", "rlm.attempt": 2,
           "rlm.path": "1/2", "rlm.depth": 2, **INPUT_SAYS}  # fmt: skip
MODEL = {"gen_ai.request.model": "gpt-5", "gen_ai.provider.name": "openai"}
CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.conversation.id": "r",
    **MODEL,
    "rlm.role": "leaf",
    "rlm.call": 3,
    "rlm.path": "4",
    "rlm.depth": 1,
}
CALLED = {**CALL, "rlm.queue_wait_s": 0.5, "rlm.rate_wait_s": 0.25, "rlm.retries": 0, "rlm.cache_hit": True}
TOOL = {
    "gen_ai.operation.name": "execute_tool",
    "gen_ai.tool.type": "function",
    "gen_ai.conversation.id": "r",
    "rlm.turn": 7,
    "rlm.path": "",
    "rlm.depth": 0,
}
CELL = {**TOOL, "gen_ai.tool.name": "python", "rlm.cell.waited_s": 0.5, "rlm.cell.output_chars": 9}
MAP = {
    "gen_ai.conversation.id": "r",
    "rlm.turn": 1,
    "rlm.map.first": 2,
    "rlm.map.count": 3,
    "rlm.map.sessions": 1,
    "rlm.path": "",
    "rlm.depth": 0,
}


def said(role, text, **more):
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}], **more}])


def cost(usd):
    return dict.fromkeys(("rlm.cost", "gen_ai.usage.cost", "llm.cost.total"), usd)


def call(**facts):
    return CallEnded(
        9.0, (4,), 3, "leaf", "openai/gpt-5", "k", 8.0, "openai", 0.5, 0.25, cache_hit=True, **facts
    )


PLAIN, CONTENT = SpanAttributes("r"), SpanAttributes("r", content=True)
OPENED = SessionOpened(1.0, (1, 2), "q", INPUT, "openai/gpt-5", "a1", 2)
CASES = [
    (PLAIN.run(None), RUN),
    (PLAIN.run(RunStarted(1.0, "r", "q", {}, INPUT, "1.2", life=3)), RUN | INPUT_SAYS | {"gen_ai.agent.version": "1.2", "rlm.life": 3}),
    (CONTENT.run(RunStarted(1.0, "r", "q", {}, INPUT, "1.2")), RUN | INPUT_SAYS | {"gen_ai.agent.version": "1.2", "rlm.life": 1, "gen_ai.input.messages": said("user", "q")}),
    (PLAIN.run_end(RunFinished(1.0, "answered", answer="x", turns=4)), {"rlm.stop_reason": "answered", "rlm.turns": 4}),
    (CONTENT.run_end(RunFinished(1.0, "answered", answer="x")), {"rlm.stop_reason": "answered", "rlm.turns": 0, "gen_ai.output.messages": said("assistant", "x")}),
    (CONTENT.run_end(RunFinished(1.0, "answered", answer="", usage={"total": {"calls": 2, "tokens": 9}, "sessions": 3, "cache_hits": 0})),
     {"rlm.stop_reason": "answered", "rlm.turns": 0, "rlm.total.calls": 2, "rlm.total.sessions": 3, "rlm.total.cache_hits": 0}),
    (PLAIN.session(OPENED), SESSION | MODEL | {"rlm.actor": "a1"}),
    (PLAIN.session(OPENED, incomplete=True), SESSION | MODEL | {"rlm.actor": "a1", "rlm.incomplete": True}),
    (CONTENT.session(SessionOpened(1.0, (1, 2), "q", INPUT, "", "a1", 2)), SESSION | {"gen_ai.input.messages": said("user", "q")}),
    (PLAIN.session_end(SessionEnded(1.0, (), "answered", answer="x", turns=5)), {"rlm.stop_reason": "answered", "rlm.turns": 5}),
    (CONTENT.session_end(SessionEnded(1.0, (), "error", answer=None)), {"rlm.stop_reason": "error", "rlm.turns": 0}),
    (PLAIN.call(call()), CALLED),
    (PLAIN.call(call(usage=Usage(5, 0), cost_usd=0.0)), CALLED | {"gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 0} | cost(0.0)),
    (PLAIN.call(call(response_model="gpt-5-2026-08-07", response_id="resp_1", max_tokens=99, temperature=0, cost_usd=1.5)),
     CALLED | cost(1.5) | {"gen_ai.response.model": "gpt-5-2026-08-07", "gen_ai.response.id": "resp_1",
                           "gen_ai.request.max_tokens": 99, "gen_ai.request.temperature": 0.0}),
    (PLAIN.call(call(response_id="x" * 9000)), CALLED | {"gen_ai.response.id": "x" * 4093 + "…"}),
    (PLAIN.call(call(tries=(FailedAttempt(1.0, "down", ""),) * 2, tool_call=True, fallback_from="m0", finish_reason="stop", input=INPUT, query="q")),
     CALLED | INPUT_SAYS | {"rlm.retries": 2, "rlm.tool_call": True, "rlm.fallback_from": "m0", "gen_ai.response.finish_reasons": ("stop",)}),
    (CONTENT.call(call(query="q", status="s", text="t")), CALLED | {"gen_ai.input.messages": said("user", "q"), "gen_ai.output.messages": said("assistant", "t", finish_reason="")}),
    (CONTENT.call(call(status="s")), CALLED | {"gen_ai.input.messages": said("user", "s")}),
    (PLAIN.attempt(FailedAttempt(1.0, "down", "why")), {"error.type": "down"}),
    (CONTENT.attempt(FailedAttempt(1.0, "down", "why")), {"error.type": "down", "error.message": "why"}),
    (PLAIN.cell(CellEnded(1.0, (), 7, 0.5, 0.5, "code", "out", 9)), CELL), (PLAIN.cell(CellEnded(1.0, (), 7, 0.5, 0.5, "code", "out", 9, killed="")), CELL | {"rlm.cell.killed": True}),
    (CONTENT.cell(CellEnded(1.0, (), 7, 0.5, 0.5, "code", "out", 9)), CELL | {"gen_ai.tool.call.arguments": '{"code": "code"}', "gen_ai.tool.call.result": "out"}),
    (PLAIN.tool(ToolEnded(1.0, (), 7, 0, "f", "k", 0.5, "[]", "1")), TOOL | {"gen_ai.tool.name": "f"}),
    (CONTENT.tool(ToolEnded(1.0, (), 7, 0, "f", "k", 0.5, "[]", "1")), TOOL | {"gen_ai.tool.name": "f", "gen_ai.tool.call.arguments": "[]", "gen_ai.tool.call.result": "1"}),
    (PLAIN.map(MapOpened(1.0, (), 1, 2, 3, 1, "q")), MAP), (CONTENT.map(MapOpened(1.0, (), 1, 2, 3, 1)), MAP),
    (CONTENT.map(MapOpened(1.0, (), 1, 2, 3, 1, "q")), MAP | {"rlm.map.query": "q"}),
]  # fmt: skip


@pytest.mark.parametrize(("found", "expected"), CASES)
def test_span_says_what_its_record_does_and_nothing_else(found, expected):
    assert found == expected


@pytest.mark.parametrize(
    ("record", "kind", "why"),
    [
        (CellEnded(1.0, (), 1, 0.5), None, ""), (CellEnded(1.0, (), 1, 0.5, error="ValueError: x"), "code_error", "ValueError: x"),
        (CellEnded(1.0, (), 1, 0.5, killed="too long", error="E: x"), "killed", "too long"), (CellEnded(1.0, (), 1, 0.5, killed=""), "killed", ""),
        (SessionEnded(1.0, (), "answered"), None, ""), (SessionEnded(1.0, (), "error", "why", error_kind="QuotaError"), "QuotaError", "why"),
        (RunFinished(1.0, "max_iterations", "why"), None, ""), (ToolEnded(1.0, (), 1, 0, "f", "k", 0.5, error_kind="E", why="why"), "E", "why"),
        (call(error_kind="E", why="why"), "E", "why"), (call(why="why"), None, ""),
    ],
)  # fmt: skip
def test_failure_has_a_kind_and_its_sentence_only_as_content(record, kind, why):
    assert CONTENT.failure(record) == (None if kind is None else Failure(kind, why))
    assert PLAIN.failure(record) == (None if kind is None else Failure(kind))


@pytest.mark.parametrize(
    ("text", "most", "cut"),
    [
        ("", 5, ""), ("abcde", 5, "abcde"), ("abcdef", 5, "ab…"), ("ääx", 5, "ääx"), ("äää", 5, "ä…"), ("äbäx", 6, "äbäx"), ("ä" * 9, 6, "ä…"),
        ("\ud800b", 5, "?b"), ("abc🙂", 7, "abc🙂"), ("abcd🙂", 7, "abcd…"), ("🙂🙂", 7, "🙂…"),
    ],
)  # fmt: skip
def test_text_is_cut_at_a_character_to_so_many_bytes(text, most, cut):
    assert truncate_utf8(text, most) == cut


@pytest.mark.parametrize("part", ["x", '"', "\x01", "ü\n"])
def test_content_fills_an_attribute_as_far_as_whole_json_can(part):
    text = part * 9_000
    (written,) = (
        value
        for name, value in CONTENT.session_end(SessionEnded(1.0, (), "answered", answer=text)).items()
        if name.endswith("messages")
    )
    assert text.startswith(json.loads(written)[0]["parts"][0]["content"].removesuffix("…"))
    assert 0.9 * MAX_ATTRIBUTE_BYTES < len(written.encode()) <= MAX_ATTRIBUTE_BYTES


def test_long_finish_reason_is_cut_at_a_hundred_bytes():
    found = CONTENT.call(call(finish_reason="f" * 101, text="t"))
    assert found["gen_ai.response.finish_reasons"] == ("f" * 97 + "…",)
    assert json.loads(found["gen_ai.output.messages"])[0]["finish_reason"] == "f" * 97 + "…"


@pytest.mark.parametrize(
    ("seconds", "quantiles"),
    [([3.0], (3.0, 3.0, 3.0)), ([2.0, 1.0], (2.0, 2.0, 2.0)), ([1.0, 2.0, 3.0], (2.0, 3.0, 3.0)), (list(map(float, range(100))), (50.0, 95.0, 99.0))],
)  # fmt: skip
def test_quantiles_are_values_that_occurred(seconds, quantiles):
    totals = CallTotals()
    for each in seconds:
        totals.add(CallEnded(10.0 + each, (0,), 1, "leaf", "m", "k", 10.0))
    assert tuple(totals.attributes("x")[f"x.call_s_{name}"] for name in ("p50", "p95", "max")) == quantiles
