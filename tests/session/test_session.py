"""The loop of a session, with a scripted model and a scripted REPL."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from rlm_ray.config import Settings
from rlm_ray.core.context import ByteRange, make_context
from rlm_ray.core.llm import ModelReply
from rlm_ray.core.repl_types import (
    CellResult,
    CitationRequest,
    Failed,
    SubCallAnswer,
    SubCallRequest,
    ToolRequest,
)
from rlm_ray.core.tools import ToolLimits, ToolSpec
from rlm_ray.errors import ContextWindowError, LimitReached, ModelUnavailableError, QuotaError
from rlm_ray.llm.run_context import RunContext
from rlm_ray.session.session import Session

CODE = "```python\nprint(1)\n```"
FINAL = CellResult(final_answer="the answer", context_was_read=True)
CONTEXT = make_context("x" * 5_000)


class Gateway:
    """Answers with a script of texts and errors."""

    def __init__(self, *script):
        self.script = list(script)
        self.asked = []

    async def complete(self, request, run, place, recorder):
        self.asked.append((request, place))
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        return ModelReply(step)

    def budget_left(self, _):
        return ""

    def window_tokens(self, *_):
        return None


class Repl:
    """Runs a script of results; a `SubCalls` in it is served first."""

    def __init__(self, *script):
        self.script = list(script)
        self.on_success = []
        self.queries = []
        self.closed = False
        self.hanging = asyncio.Event()

    async def run(self, blocks, serve, *, now=None, query=None):
        self.queries.append(query)
        step = self.script.pop(0)
        if step == "hang":
            self.hanging.set()
            await asyncio.Event().wait()
        if isinstance(step, SubCallRequest):
            self.on_success = await serve(step)
            step = self.script.pop(0)
        return step

    async def aclose(self):
        self.closed = True


def session(gateway, repl, *, depth=0, spawn=None, **settings):
    async def open_repl(context, query):
        return repl

    async def no_spawn(calls, slots, *, first, stop_on_error):
        raise AssertionError("no sub-calls here")

    return Session(
        path=(0,) * depth,
        run_context=RunContext("run", Settings(model="root", recursive_model="child", **settings)),
        query="q",
        context=CONTEXT,
        gateway=gateway,
        open_repl=open_repl,
        spawn=spawn or no_spawn,
    )


async def test_it_asks_runs_and_finishes_and_closes_the_repl():
    gateway, repl = Gateway(CODE), Repl(FINAL)
    completion = await session(gateway, repl).run()
    assert (completion.answer, completion.stop_reason) == ("the answer", "answered")
    assert repl.closed


async def test_children_use_the_recursive_model():
    gateway = Gateway(CODE)
    await session(gateway, Repl(FINAL), depth=1, max_depth=2).run()
    assert gateway.asked[0][0].model == "child"


async def test_max_depth_zero_is_one_direct_call():
    gateway = Gateway("direct")
    completion = await session(gateway, Repl(), max_depth=0).run()
    assert completion.answer == "direct"
    assert "x" * 5_000 in gateway.asked[0][0].messages[-1].content


async def test_a_limit_at_the_root_is_followed_by_one_last_call():
    gateway = Gateway(CODE, LimitReached("calls", "no calls left"), "best")
    completion = await session(gateway, Repl(CellResult(output="seen", context_was_read=True))).run()
    assert (completion.answer, completion.stop_reason, completion.why) == ("best", "calls", "no calls left")
    assert gateway.asked[-1][1].role == "last"


async def test_a_limit_in_a_child_goes_up_to_the_root():
    with pytest.raises(LimitReached):
        await session(Gateway(LimitReached("calls", "none left")), Repl(), depth=1, max_depth=2).run()


async def test_when_even_the_last_call_fails_what_was_printed_is_kept():
    gateway = Gateway(CODE, LimitReached("calls", "no"), LimitReached("calls", "no"))
    completion = await session(gateway, Repl(CellResult(output="seen so far", context_was_read=True))).run()
    assert "seen so far" in completion.answer


async def test_a_conversation_too_long_for_the_window_is_ended_with_a_short_last_call():
    window = ContextWindowError("root", "too long")
    gateway = Gateway(CODE, window, "short answer")
    completion = await session(gateway, Repl(CellResult(output="seen", context_was_read=True))).run()
    assert (completion.answer, completion.stop_reason) == ("short answer", "context_window")


async def test_a_model_that_is_down_is_an_error_and_the_repl_is_closed():
    repl = Repl()
    with pytest.raises(ModelUnavailableError):
        await session(Gateway(ModelUnavailableError("m", "down")), repl).run()
    assert repl.closed


async def test_stopping_it_cancels_the_cell_and_gives_what_is_known():
    repl = Repl(CellResult(output="first output", context_was_read=True), "hang")
    work = session(Gateway(CODE, CODE), repl)
    running = asyncio.create_task(work.run())
    await repl.hanging.wait()
    work.stop("interrupted", "stopped by you")
    completion = await running
    assert completion.stop_reason == "interrupted"
    assert "first output" in completion.answer
    assert repl.closed


async def test_cancelling_it_closes_the_repl():
    repl = Repl("hang")
    running = asyncio.create_task(session(Gateway(CODE), repl).run())
    await repl.hanging.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert repl.closed


@pytest.mark.parametrize(
    ("kind", "part", "settings", "as_session"),
    [
        ("recursive", "small", {"max_depth": 2}, False),
        ("recursive", "small", {"max_depth": 2, "max_leaf_chars": 0}, True),
        ("recursive", "y" * 200, {"max_depth": 2, "max_leaf_chars": 100}, True),
        ("recursive", "y" * 200, {"max_depth": 1, "max_leaf_chars": 100}, False),
        ("recursive", ByteRange(0, 200), {"max_depth": 2, "max_leaf_chars": 100}, True),
        (
            "recursive",
            ["y" * 60, {"id": "1", "text": "y" * 60}],
            {"max_depth": 2, "max_leaf_chars": 100},
            True,
        ),
        ("llm", "y" * 200, {"max_depth": 2, "max_leaf_chars": 0}, False),
        ("rlm", "small", {"max_depth": 2}, True),
        ("rlm", "small", {"max_depth": 1}, False),
    ],
)
async def test_a_sub_call_becomes_a_session_by_kind_size_and_depth(kind, part, settings, as_session):
    sent = []

    async def spawn(calls, slots, *, first, stop_on_error):
        sent.extend(calls)
        slots[:] = [SubCallAnswer("a")] * len(calls)

    calls = SubCallRequest(kind, ("q",), (part,), stop_on_error=True)
    await session(Gateway(CODE), Repl(calls, FINAL), spawn=spawn, **settings).run()
    assert [call.is_session for call in sent] == [as_session]


async def test_a_failure_nobody_can_mend_ends_the_session_at_once():
    async def spawn(calls, slots, *, first, stop_on_error):
        slots[0] = Failed("QuotaError", "empty", QuotaError("m", "empty"))

    calls = SubCallRequest("llm", ("q", "q"), ("a", "b"), stop_on_error=False)
    with pytest.raises(QuotaError):
        await session(Gateway(CODE), Repl(calls), spawn=spawn).run()


async def test_siblings_of_a_failed_sub_call_are_told_apart_from_it():
    async def spawn(calls, slots, *, first, stop_on_error):
        slots[0] = Failed("ModelError", "no")

    repl = Repl(SubCallRequest("llm", ("q", "q"), ("a", "b"), stop_on_error=True), FINAL)
    await session(Gateway(CODE), repl, spawn=spawn).run()
    assert [outcome.kind for outcome in repl.on_success] == ["ModelError", "Cancelled"]


async def test_a_conversation_gives_the_answer_to_its_last_question():
    gateway, repl = (
        Gateway(CODE, CODE, CODE),
        Repl(FINAL, CellResult(output="1"), CellResult(final_answer="the second")),
    )
    talk = session(gateway, repl)
    talk.follow_ups = ["and?"]
    done = await talk.run()
    assert (done.answer, done.stop_reason) == ("the second", "answered")
    assert repl.queries == ["q", "and?", "and?"]
    assert "Next question: and?" in gateway.asked[1][0].messages[-1].content


async def test_a_conversation_without_a_repl_asks_each_question_directly():
    gateway = Gateway("yes")
    talk = session(gateway, Repl(), max_depth=0)
    talk.follow_ups = ["and?"]
    assert (await talk.run()).answer == "yes"
    request, place = gateway.asked[0]
    assert "and?" in request.messages[-1].content
    assert place.call == 2


class Asking(Repl):
    """A scripted REPL whose code asks for these things first."""

    def __init__(self, requests, *script):
        super().__init__(*script)
        self.requests, self.outcomes = requests, []

    async def run(self, blocks, serve, *, now=None, query=None):
        self.outcomes += [outcome for request in self.requests for outcome in await serve(request)]
        return await super().run(blocks, serve, now=now, query=query)


async def test_citations_are_looked_for_in_the_context_and_are_in_the_result():
    requests = [
        CitationRequest("xxx xxx"),
        CitationRequest("xxxx"),
        CitationRequest("xxxx"),
        CitationRequest("y"),
    ]
    repl = Asking(requests, FINAL)
    completion = await session(Gateway(CODE), repl).run()
    assert [isinstance(outcome, SubCallAnswer) for outcome in repl.outcomes] == [False, True, True, False]
    assert [(cited.quote, cited.start, cited.end) for cited in completion.citations] == [("xxxx", 0, 4)]
    assert completion.trajectory.turns[0].result.citations == completion.citations


async def test_an_answer_that_must_cite_is_sent_back_and_then_fails_with_the_answer_it_gave():
    gateway = Gateway(CODE, CODE, CODE)
    completion = await session(gateway, Repl(FINAL, FINAL, FINAL), citations="required").run()
    assert (completion.answer, completion.stop_reason) == ("the answer", "no_citations")
    assert "it cites nothing" in gateway.asked[1][0].messages[-1].content
    child = await session(Gateway(CODE), Repl(FINAL), depth=1, max_depth=2, citations="required").run()
    assert child.stop_reason == "answered"


class Doubling:
    specs = (ToolSpec("double", "(n: int) -> int", "Twice as much."),)

    async def call(self, request):
        return SubCallAnswer(request.arguments * 2)


async def test_tools_are_told_to_the_model_and_others_are_refused():
    gateway, repl = Gateway(CODE), Asking([ToolRequest("double", "1"), ToolRequest("other", "1")], FINAL)
    asked = session(gateway, repl, tool_limits=ToolLimits(max_calls=2))
    asked = replace(asked, tools=Doubling())
    await asked.run()
    assert "- `double(n: int) -> int`: Twice as much." in gateway.asked[0][0].messages[0].content
    assert repl.outcomes == [SubCallAnswer("11"), Failed("ToolError", "there is no such tool")]


async def test_a_session_has_so_many_calls_of_tools():
    repl = Asking([ToolRequest("double", "1")] * 3, FINAL)
    asked = replace(session(Gateway(CODE), repl, tool_limits=ToolLimits(max_calls=2)), tools=Doubling())
    await asked.run()
    assert [outcome.kind for outcome in repl.outcomes if isinstance(outcome, Failed)] == ["ToolError"]


async def test_a_session_without_tools_has_none():
    repl = Asking([ToolRequest("double", "1")], FINAL)
    await session(Gateway(CODE), repl).run()
    assert repl.outcomes == [Failed("ToolError", "there is no such tool")]
