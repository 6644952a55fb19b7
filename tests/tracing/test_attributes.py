"""What spans say: the names of the conventions, bounded, and no content unless it is asked for."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.semconv._incubating.attributes import error_attributes, gen_ai_attributes
from opentelemetry.trace import SpanKind
from run_records import BEGIN, CELL, CHAT, RUN, SESSION, Child, Leaf, Played, named, spans_of

from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import Usage
from rlm_ray.events.metrics import model_name, provider_name
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
from rlm_ray.tracing import conventions
from rlm_ray.tracing.attributes import MAX_ATTRIBUTE_BYTES, SpanAttributes, truncate_utf8
from rlm_ray.tracing.spans import parent_context, traceparent_of
from rlm_ray.tracing.tracer import Tracer

SECRET = "confidential words"
CALL = CallEnded(
    BEGIN + 2, (), 1, "turn", "azure/gpt-5", "k", BEGIN + 1, "azure", 0.25, 0.5,
    (FailedAttempt(BEGIN + 1.5, "rate_limited", SECRET),), Usage(100, 20, 40, 5), 0.01, "stop", SECRET, status=SECRET,
    query=SECRET,
)  # fmt: skip
CELL_RECORD = CellEnded(BEGIN + 3, (), 1, BEGIN + 2, 0.5, SECRET, SECRET, 18, error=f"ValueError: {SECRET}")
RECORDS = [
    RunStarted(BEGIN, "run-1", SECRET, {}, InputSummary("text", 500, sample=SECRET), "1.0"),
    SessionOpened(BEGIN, (), SECRET, InputSummary("text", 500, sample=SECRET), "azure/gpt-5", "actor"),
    CALL,
    MapOpened(BEGIN + 2.1, (), 1, 0, 0, 0, SECRET),
    CELL_RECORD,
    SessionEnded(BEGIN + 4, (), "error", SECRET, SECRET, 1, "QuotaError"),
    RunFinished(BEGIN + 5, "error", SECRET, SECRET, 1, 5.0, {"total": {"calls": 1, "cost_usd": 0.01}}, "QuotaError"),
]  # fmt: skip


def all_text(spans):
    return json.dumps(
        [(dict(s.attributes), s.status.description, [dict(e.attributes) for e in s.events]) for s in spans]
    )


def test_no_content_is_on_spans_by_default():
    assert SECRET not in all_text(spans_of(RECORDS))


def test_content_is_on_spans_when_it_is_asked_for():
    spans = spans_of(RECORDS, content=True)
    (call,), (cell,), (session,) = named(spans, "chat gpt-5"), named(spans, CELL), named(spans, SESSION)
    said = json.loads(call.attributes["gen_ai.output.messages"])
    assert said == [
        {"role": "assistant", "parts": [{"type": "text", "content": SECRET}], "finish_reason": "stop"}
    ]
    asked = json.loads(call.attributes["gen_ai.input.messages"])
    assert asked == [{"role": "user", "parts": [{"type": "text", "content": SECRET}]}]
    assert json.loads(cell.attributes["gen_ai.tool.call.arguments"]) == {"code": SECRET}
    assert cell.attributes["gen_ai.tool.call.result"] == SECRET
    assert SECRET in session.attributes["gen_ai.output.messages"]
    assert SECRET in session.status.description


@pytest.mark.parametrize(
    ("value", "asked"),
    [(None, False), ("", False), ("NO_CONTENT", False), ("EVENT_ONLY", False), ("false", False),
     ("SPAN_ONLY", True), ("span_and_event", True), ("true", True)],
)  # fmt: skip
def test_content_is_asked_for_by_the_variable_of_the_conventions(value, asked):
    assert conventions.asks_for_content(value) is asked


def test_a_model_call_says_what_the_conventions_ask():
    (call,) = named(spans_of(RECORDS), "chat gpt-5")
    assert call.kind is SpanKind.CLIENT
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "azure.ai.openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.conversation.id": "run-1",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 40,
        "gen_ai.usage.reasoning.output_tokens": 5,
        "gen_ai.response.finish_reasons": ("stop",),
        "rlm.role": "turn",
        "rlm.call": 1,
        "rlm.cost": 0.01,
        "gen_ai.usage.cost": 0.01,
        "llm.cost.total": 0.01,
        "rlm.queue_wait_s": 0.25,
        "rlm.rate_wait_s": 0.5,
        "rlm.retries": 1,
        "rlm.cache_hit": False,
        "rlm.path": "",
        "rlm.depth": 0,
    }
    assert dict(call.attributes) == expected
    (failed,) = call.events
    assert (failed.name, failed.timestamp) == ("rlm.attempt_failed", int((BEGIN + 1.5) * 1e9))
    assert dict(failed.attributes) == {"error.type": "rate_limited"}


def test_failures_set_the_status_and_the_type():
    spans = spans_of(RECORDS)
    types = {
        span.name: span.attributes.get("error.type")
        for span in spans
        if span.status.status_code.name == "ERROR"
    }
    assert types == {RUN: "QuotaError", SESSION: "QuotaError", CELL: "code_error", "recursive_map": "lost"}


def test_every_name_of_the_conventions_is_one_of_theirs():
    theirs = {
        value
        for module in (gen_ai_attributes, error_attributes)
        for value in vars(module).values()
        if isinstance(value, str)
    }
    ours = {value for name, value in vars(conventions).items() if name.isupper() and isinstance(value, str)}
    assert {value for value in ours if value.startswith(("gen_ai.", "error."))} <= theirs
    assert {conventions.WORKFLOW, conventions.AGENT, conventions.TOOL, conventions.CHAT} <= {
        item.value for item in gen_ai_attributes.GenAiOperationNameValues
    }


def test_providers_are_called_as_in_the_conventions():
    theirs = {item.value for item in gen_ai_attributes.GenAiProviderNameValues}
    litellm = [
        "openai",
        "anthropic",
        "azure",
        "bedrock",
        "vertex_ai",
        "gemini",
        "mistral",
        "xai",
        "watsonx",
        "deepseek",
    ]
    assert {provider_name(name, "") for name in litellm} <= theirs
    assert provider_name("", "groq/llama") == "groq"
    assert provider_name("", "llama") == "_OTHER"


@pytest.mark.parametrize(
    ("model", "provider", "name"),
    [("openai/gpt-5", "openai", "gpt-5"), ("gpt-5", "openai", "gpt-5"), ("openrouter/meta/llama", "openrouter", "meta/llama"),
     ("meta/llama", "together_ai", "meta/llama"), ("openai/gpt-5", "", "gpt-5"), ("openai/", "openai", "openai/")],
)  # fmt: skip
def test_models_are_called_as_by_their_provider(model, provider, name):
    assert model_name(model, provider) == name


def longest(spans):
    texts = [value for span in spans for value in span.attributes.values() if isinstance(value, str)]
    return max(len(text.encode()) for text in texts)


@pytest.mark.parametrize("text", ["x" * 100_000, "é" * 9_000, '"\n' * 50_000, "🙂" * 5_000, "\ud800" * 9_000])
def test_long_texts_are_cut_and_json_stays_whole(text):
    record = CallEnded(
        BEGIN + 2, (), 1, "turn", text, "k", BEGIN + 1, text=text, query=text, error_kind=text, why=text
    )
    spans = spans_of([*RECORDS[:2], record], content=True)
    assert longest(spans) <= MAX_ATTRIBUTE_BYTES
    (call,) = [span for span in spans if span.kind is SpanKind.CLIENT]
    said = json.loads(call.attributes["gen_ai.output.messages"])[0]["parts"][0]["content"]
    assert len(said) > 500
    assert len(call.status.description.encode()) <= MAX_ATTRIBUTE_BYTES


@given(st.text(alphabet=st.characters(codec=None), max_size=50), st.integers(3, 40))
def test_a_cut_text_fits_and_begins_as_the_whole(text, most):
    found = truncate_utf8(text, most)
    clean = text.encode("utf-8", "replace").decode()
    assert len(found.encode()) <= most
    assert found == clean or clean.startswith(found.removesuffix("…"))


def test_a_run_belongs_to_the_span_that_traceparent_names():
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    tracer = Tracer(TracerProvider(shutdown_on_exit=False), "run-1", parent=parent_context(parent))
    tracer.add(RECORDS[0])
    assert tracer.trace_id == "0af7651916cd43dd8448eb211c80319c"
    tracer.finish()


def test_a_run_that_is_made_into_spans_again_points_to_the_span_it_belonged_to():
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    (run,) = named(spans_of([replace(RECORDS[0], traceparent=parent)]), RUN)
    assert run.parent is None
    assert [f"{link.context.trace_id:032x}" for link in run.links] == ["0af7651916cd43dd8448eb211c80319c"]


@pytest.mark.parametrize(
    "invalid",
    ["", "nonsense", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
     "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"],
)  # fmt: skip
def test_an_invalid_traceparent_is_ignored_and_the_caller_s_span_is_the_parent(invalid):
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("caller")
    with tracer.start_as_current_span("caller") as span:
        found = traceparent_of(parent_context(invalid, {"TRACEPARENT": invalid, "TRACESTATE": "a=b"}))
    assert found.split("-")[1:3] == [
        f"{span.get_span_context().trace_id:032x}",
        f"{span.get_span_context().span_id:016x}",
    ]


def test_the_environment_names_a_parent_where_no_argument_does():
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    assert traceparent_of(parent_context(None, {"TRACEPARENT": parent})) == parent


def test_without_any_parent_there_is_none():
    assert traceparent_of(parent_context()) == ""


def test_a_killed_cell_and_one_in_order():
    describe = SpanAttributes("run-1")
    killed = CellEnded(BEGIN, (), 1, BEGIN, killed="it took too long", code=SECRET)
    assert describe.cell(killed)["rlm.cell.killed"] is True
    assert describe.failure(killed).kind == "killed"
    assert describe.failure(CellEnded(BEGIN, (), 1, BEGIN)) is None


def test_the_run_s_usage_is_on_its_span():
    run = named(spans_of(RECORDS), RUN)[0].attributes
    assert (run["rlm.total.calls"], run["rlm.total.cost_usd"]) == (1, 0.01)


def test_spans_of_a_played_run_all_carry_the_run_id():
    spans = spans_of(Played().run(Child(((Leaf(),),))).records)
    assert {span.attributes["gen_ai.conversation.id"] for span in spans} == {"run-1"}
    assert named(spans, CHAT)


@pytest.mark.parametrize("content", [False, True])
def test_a_call_of_a_tool_is_a_span_of_its_session(content):
    tools = [
        ToolEnded(BEGIN + 3, (), 1, 0, "weather", "k", BEGIN + 2.5, f'[["{SECRET}"], {{}}]', f'"{SECRET}"'),
        ToolEnded(
            BEGIN + 4, (), 1, 1, "divide", "k", BEGIN + 3.5, "[[1, 0], {}]", "", "ZeroDivisionError", SECRET
        ),
    ]
    spans = spans_of([*RECORDS, *tools], content=content)
    (session,) = named(spans, SESSION)
    (worked,), (failed,) = named(spans, "execute_tool weather"), named(spans, "execute_tool divide")
    assert worked.parent.span_id == failed.parent.span_id == session.context.span_id
    assert (worked.end_time - worked.start_time) == 500_000_000
    assert worked.attributes["gen_ai.tool.name"] == "weather"
    assert failed.attributes["error.type"] == "ZeroDivisionError"
    assert (SECRET in str(worked.attributes)) is content
    assert (SECRET in str(failed.status.description or "")) is content
