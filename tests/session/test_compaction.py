"""A conversation that nears the model's window goes on from a summary; the turns left out are a variable of the REPL."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from run_lives import Life
from test_session import CONTEXT, Gateway, Repl

from rlm_ray.config import Settings
from rlm_ray.core.llm import Message, ModelReply, ModelRequest, Price, Usage
from rlm_ray.core.prompts import session_messages
from rlm_ray.core.repl_types import CellResult, Variable
from rlm_ray.errors import ContextWindowError, ReplyError
from rlm_ray.llm.litellm_reply import usage_in
from rlm_ray.llm.litellm_request import caches_by_marks, mark_for_cache
from rlm_ray.llm.run_context import RunContext
from rlm_ray.session.session import Session

CODE = "```python\nprint(1)\n```"
FINAL = CellResult(final_answer="done", context_was_read=True)


class Counting(Gateway):
    """Counts what a request holds, as a provider does, and knows its window."""

    def __init__(self, *script, window=None):
        super().__init__(*script)
        self.window = window

    def window_tokens(self, *_):
        return self.window

    async def complete(self, request, run, place, recorder):
        reply = await super().complete(request, run, place, recorder)
        return ModelReply(reply.text, usage=Usage(request.chars // 4, len(reply.text) // 4))

    @property
    def roles(self):
        return [place.role for _, place in self.asked]


class Remembering(Repl):
    """Keeps the history it was given with each cell."""

    def __init__(self, *script):
        super().__init__(*script)
        self.histories = []

    async def run(self, blocks, serve, *, now=None, query=None, history=None):
        self.histories.append(history)
        return await super().run(blocks, serve, now=now, query=query)


def printed(number, chars=2_000, variables=()):
    return CellResult(
        f"output {number} " + "x" * chars, chars + 10, context_was_read=True, variables=variables
    )


def session(gateway, repl, **settings):
    async def open_repl(context, query):
        return repl

    async def no_spawn(*_, **__):
        raise AssertionError("no sub-calls here")

    settings = {"model": "root", "max_iterations": 100} | settings
    return Session((), RunContext("run", Settings(**settings)), "q", CONTEXT, gateway, open_repl, no_spawn)


BASE = sum(len(message.content) for message in session_messages(session(None, None).trajectory, "")) // 4
"""Tokens of a conversation that has not begun."""
TURN = 540
"""Tokens of a turn that printed 2,000 characters."""
LIMIT = BASE + 3_500


def requests(gateway, role="turn"):
    return [request.messages for request, place in gateway.asked if place.role == role]


class Summarizing(Counting):
    """Writes the same code in each turn, and a summary where one is asked for."""

    def __init__(self, summary="the summary", window=None):
        super().__init__(window=window)
        self.summary = summary

    async def complete(self, request, run, place, recorder):
        self.script = [self.summary if place.role == "summary" else CODE]
        return await super().complete(request, run, place, recorder)


@pytest.mark.parametrize(
    ("settings", "window", "least"),
    [
        ({"compact_above_tokens": BASE + 5 * TURN + TURN // 2}, None, 1),
        ({}, (BASE + 5 * TURN + TURN // 2) * 4 // 3, 1),
        ({}, None, 0),
        ({"compact_above_tokens": 0}, BASE + TURN, 0),
        ({"compact_above_tokens": 10**6}, BASE + TURN, 0),
        ({"compact_above_tokens": BASE + 3 * TURN + TURN // 2}, 10**6, 2),
        ({"compact_above_tokens": 1}, 10**6, 4),
    ],
)
async def test_conversation_is_compacted_where_it_nears_the_window(settings, window, least):
    gateway = Summarizing(window=window)
    repl = Remembering(*map(printed, range(1, 10)), FINAL)
    result = await session(gateway, repl, **settings).run()
    summaries = gateway.roles.count("summary")
    assert result.answer == "done"
    assert least <= summaries <= 2 * least


async def run_compacted(summary="the summary", results=None):
    """Five turns, the third of which begins with a summary."""
    gateway = Summarizing(summary)
    repl = Remembering(
        *(results or [printed(1, 9_000), printed(2, 9_000), printed(3, 200), printed(4, 200), FINAL])
    )
    result = await session(gateway, repl, compact_above_tokens=LIMIT).run()
    return gateway, repl, result


async def test_summary_and_last_output_stand_for_the_turns_left_out():
    gateway, _, result = await run_compacted("I found 7.")
    assert (result.answer, gateway.roles) == ("done", ["turn", "turn", "summary", "turn", "turn", "turn"])
    before, summary, after = (gateway.asked[at][0].messages for at in (1, 2, 3))
    assert summary[: len(before)] == before
    assert "Write the summary" in summary[-1].content
    assert [message.role for message in after] == ["system", "user"]
    assert after[0] == before[0]
    for said in ("Question: q", "I found 7.", "output 2", "`history` is a list of those 2 turns"):
        assert said in after[1].content
    assert "output 1" not in after[1].content


async def test_messages_between_compactions_only_grow():
    gateway, *_ = await run_compacted()
    turns = requests(gateway)
    grown = [after[: len(before)] == before for before, after in pairwise(turns)]
    assert grown == [True, False, True, True]


async def test_repl_holds_the_turns_left_out():
    _, repl, _ = await run_compacted()
    assert repl.histories[:2] == [None, None]
    history = repl.histories[2]
    assert history.name == "history"
    items = json.loads(history.items)
    assert [item["turn"] for item in items] == [1, 2]
    assert items[0]["message"] == CODE
    assert "output 1" in items[0]["output"]
    assert repl.histories[4] == history


async def test_variable_of_the_code_named_history_is_left_alone():
    own = (Variable("history", "list", 3),)
    results = [printed(1, 9_000), printed(2, 9_000, own), printed(3, 200), printed(4, 200), FINAL]
    gateway, repl, _ = await run_compacted(results=results)
    assert repl.histories[2].name == "full_history"
    assert "`full_history`" in gateway.asked[3][0].messages[1].content


@pytest.mark.parametrize("error", [ContextWindowError("m", "too long"), ReplyError("m", "empty")])
async def test_conversation_goes_on_without_a_summary_where_none_can_be_made(error):
    gateway, _, result = await run_compacted(error)
    assert result.answer == "done"
    assert "There is no summary" in gateway.asked[3][0].messages[1].content


async def test_conversation_that_does_not_fit_an_unknown_window_goes_on_without_its_turns():
    gateway = Counting(CODE, CODE, CODE, ContextWindowError("m", "too long"), CODE)
    repl = Remembering(*map(printed, (1, 2, 3)), FINAL)
    result = await session(gateway, repl).run()
    assert (result.answer, result.stop_reason) == ("done", "answered")
    assert len(gateway.asked[-1][0].messages) == 2


async def test_compacted_session_is_replayed_from_its_record_for_nothing():
    programs = {"ROOT": ["look"] * 12 + ["final"]}

    class LongLife(Life):
        def __post_init__(self):
            super().__post_init__()
            self.settings = Settings(
                model="m", max_depth=2, max_iterations=50, compact_above_tokens=BASE + 250
            )

            def counted(request):
                if "Write the summary" in request.messages[-1].content:
                    return ModelReply("in short", usage=Usage(100, 10))
                number = len(
                    [
                        end
                        for end in self.records
                        if getattr(end, "role", "") == "turn" and hasattr(end, "text")
                    ]
                )
                code = programs["ROOT"][min(number, 12)]
                return ModelReply(f"```python\n{code}\n```", usage=Usage(request.chars // 4, 10))

            self.provider._function = counted

    whole = LongLife(programs=programs)
    completion = await whole.run()
    summaries = [record for record in whole.records if getattr(record, "role", "") == "summary"]
    assert completion.stop_reason == "answered"
    assert len(summaries) >= 2

    lines = whole.data.splitlines(keepends=True)
    for count in range(0, len(lines) + 1, 3):
        again = LongLife(data=b"".join(lines[:count]), name="life-2", programs=programs)
        assert (await again.run()).answer == completion.answer, count
        replied = sum(b'"kind": "call"' in line for line in lines[:count])
        assert again.calls_made == whole.calls_made - replied, count


# What a provider's prefix cache costs and saves

CLAUDE = [
    Message("system", "rules"),
    Message("user", "one"),
    Message("assistant", "two"),
    Message("user", "three"),
]


@pytest.mark.parametrize(
    ("model", "marked"),
    [
        ("anthropic/claude-opus-4-5", True),
        ("claude-3-5-sonnet-20241022", True),
        ("bedrock/anthropic.claude-3-haiku-20240307-v1:0", True),
        ("vertex_ai/claude-sonnet-4", True),
        ("openrouter/anthropic/claude-3.5-sonnet", True),
        ("openai/gpt-5", False),
        ("gemini/gemini-2.5-pro", False),
        ("offline/extractive", False),
    ],
)
def test_prefixes_are_marked_for_models_that_want_it(model, marked):
    assert caches_by_marks(model) == marked


def test_system_prompt_and_last_message_are_marked():
    messages = [{"role": message.role, "content": message.content} for message in CLAUDE]
    mark_for_cache(messages)
    cache = {"type": "ephemeral"}
    assert messages[0]["content"] == [{"type": "text", "text": "rules", "cache_control": cache}]
    assert messages[-1]["content"] == [{"type": "text", "text": "three", "cache_control": cache}]
    assert messages[1:3] == [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]


def test_mark_changes_no_key_of_a_call():
    from rlm_ray.llm.response_cache import request_key

    plain = ModelRequest("m", tuple(CLAUDE))
    assert request_key(plain) == request_key(ModelRequest("m", tuple(CLAUDE), grows=True))


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ({"prompt_tokens": 100, "completion_tokens": 1, "cache_creation_input_tokens": 60}, 60),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 1,
                "prompt_tokens_details": {"cache_creation_tokens": 7},
            },
            7,
        ),
        ({"prompt_tokens": 100, "completion_tokens": 1, "cache_creation_input_tokens": 500}, 100),
        ({"prompt_tokens": 100, "completion_tokens": 1, "cache_creation_input_tokens": None}, 0),
        ({"prompt_tokens": 100, "completion_tokens": 1, "cache_creation_input_tokens": -3}, 0),
        ({"prompt_tokens": 100, "completion_tokens": 1}, 0),
    ],
)
def test_cache_writes_are_counted(said, written):
    assert usage_in(said).cache_write_tokens == written


def test_cached_and_written_tokens_have_their_own_price():
    price = Price(3.0, 15.0, cached_usd=0.3, cache_write_usd=3.75)
    usage = Usage(1_000_000, 100_000, cached_tokens=600_000, cache_write_tokens=300_000)
    assert price.cost(usage) == pytest.approx(0.1 * 3 + 0.6 * 0.3 + 0.3 * 3.75 + 0.1 * 15)
    assert Price(3.0, 15.0).cost(usage) == pytest.approx(3 + 1.5)


async def test_a_small_model_that_repeats_itself_begins_anew_twice_and_then_gives_what_it_knows():
    same = CellResult("17\n", 3, context_was_read=True)
    gateway, repl = Gateway(*[CODE] * 6, "It is 17."), Remembering(*[same] * 6)
    result = await session(gateway, repl, model="openai/qwen").run()
    assert (result.answer, result.stop_reason) == ("It is 17.", "no_progress")
    sizes = [len(request.messages) for request, place in gateway.asked if place.role == "turn"]
    assert sizes == [2, 4, 2, 4, 2, 4]  # system and question; with a turn; anew
    assert set(repl.histories) == {None}


async def test_a_strong_model_that_repeats_itself_has_all_its_turns():
    same = CellResult("17\n", 3, context_was_read=True)
    gateway, repl = Gateway(*[CODE] * 6, "It is 17."), Repl(*[same] * 6)
    result = await session(gateway, repl, max_iterations=6).run()
    assert (result.answer, result.stop_reason) == ("It is 17.", "max_iterations")


async def test_a_small_model_sees_what_its_code_prints_before_it_answers():
    code = '```python\nprint(context.count("x"))\nFINAL("bob")\n```'
    unseen = CellResult("3\n", 2, final_answer="bob", context_was_read=True)
    seen = CellResult(final_answer="3", context_was_read=True)
    gateway, repl = Gateway(code, "```python\nFINAL(3)\n```"), Repl(unseen, seen)
    result = await session(gateway, repl, model="openai/qwen").run()
    assert (result.answer, result.turns or 2) == ("3", 2)
    assert "before you saw what your code prints" in gateway.asked[-1][0].messages[-1].content
