"""What a reply is worth."""

from __future__ import annotations

import pytest

from rlm_ray.core.llm import ModelReply, Usage
from rlm_ray.core.reply import CUT_MARK, answered, judge, marked, without_thinking

ALL_REASONING = Usage(10, 16_384, 0, 16_384)


def judged(reply, **options):
    return judge(without_thinking(reply, takes_code=options.get("takes_code", False)), **options)


@pytest.mark.parametrize(
    "reason",
    [
        "stop",
        "",
        "eos",
        "eos_token",
        "stop_sequence",
        "end_turn",
        "STOP",
        "COMPLETE",
        "FINISH_REASON_STOP",
        "7",
        "anything",
    ],
)
def test_text_that_ended_by_itself_is_usable(reason):
    assert judged(ModelReply("yes", reason)).kind == "usable"


def test_text_is_usable_whatever_its_usage_says():
    assert judged(ModelReply("yes", usage=Usage(0, 0))).kind == "usable"
    assert judged(ModelReply("yes", "tool_calls")).kind == "usable"


@pytest.mark.parametrize(
    "reason",
    [
        "length",
        "max_tokens",
        "MAX_TOKENS",
        "incomplete",
        "model_length",
        "max_output_tokens",
        " Length ",
        "max-tokens",
        "MAX TOKENS",
        "FINISH_REASON_MAX_TOKENS",
    ],
)
def test_text_at_the_limit_is_cut_off(reason):
    found = judged(ModelReply("The answer is", reason, Usage(5, 1_024)))
    assert (found.kind, found.has_text) == ("truncated", True)
    assert "after 1,024 tokens; raise max_tokens" in found.why
    assert marked("The answer is").endswith(CUT_MARK)


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b", "\ufeff \u2060", "\u00ad", "<think>\nhm\n</think>"])
def test_a_reply_without_a_visible_character_is_empty(text):
    found = judged(ModelReply(text))
    assert (found.kind, found.has_text, found.may_pass) == ("empty", False, True)


@pytest.mark.parametrize("reason", ["length", "stop"])
def test_a_limit_that_went_into_reasoning_says_so_and_is_not_tried_again(reason):
    found = judged(ModelReply("", reason, ALL_REASONING))
    assert (
        found.why
        == "all 16,384 output tokens went into reasoning; raise max_tokens or lower reasoning_effort"
    )
    assert not found.may_pass


def test_thinking_that_was_cut_off_is_no_answer():
    for reply in (
        ModelReply("<think>\nso", "length", Usage(1, 50)),
        ModelReply("", "length", Usage(1, 50), reasoning="so"),
    ):
        assert "all 50 output tokens went into reasoning" in judged(reply).why


@pytest.mark.parametrize("text", ["", "part of it"])
@pytest.mark.parametrize(
    "reason", ["content_filter", "SAFETY", "RECITATION", "PROHIBITED_CONTENT", "sensitive", "OTHER"]
)
def test_what_a_filter_held_back_is_no_answer(reason, text):
    found = judged(ModelReply(text, reason))
    assert (found.kind, found.may_pass) == ("filtered", False)
    assert reason in found.why


@pytest.mark.parametrize(
    "reason", ["error", "abort", "network_error", "insufficient_system_resource", "ERROR"]
)
def test_a_reply_that_broke_off_is_a_failure_of_the_moment(reason):
    assert judged(ModelReply("half of", reason)).kind == "broken"


def test_a_refusal_is_reported_in_the_models_words():
    found = judged(ModelReply("", refusal="I can't help\nwith that."))
    assert (found.kind, found.may_pass) == ("refused", False)
    assert "refused to answer: I can't help with that." in found.why
    assert judged(ModelReply("no", "refusal")).kind == "refused"
    assert judged(ModelReply("", refusal=" ")).kind == "empty"
    assert f": {'x' * 300}; put the question" in judged(ModelReply("", refusal="x" * 300)).why
    assert f": {'x' * 300}; put the question" in judged(ModelReply("", refusal="x" * 301)).why
    assert judged(ModelReply("", "refusal")).why.startswith("the model refused to answer; put")


def test_a_tool_call_is_no_answer_but_its_code_is_code():
    call = ModelReply("", "tool_calls", tool_call=True, code="print(1)")
    assert judged(call).kind == "tool_call"
    assert judged(ModelReply("let me look", "tool_calls", tool_call=True)).kind == "tool_call"
    assert judged(ModelReply("", "MALFORMED_FUNCTION_CALL")).kind == "tool_call"
    assert judged(call, takes_code=True).kind == "usable"
    tildes = ModelReply("~~~python\nx\n~~~", "tool_calls", tool_call=True)
    assert (judged(tildes, takes_code=True).kind, judged(tildes).kind) == ("usable", "tool_call")
    assert judged(ModelReply("x", tool_call=True), takes_code=True).kind == "tool_call"
    assert without_thinking(call, takes_code=True).text == "```python\nprint(1)\n```"
    assert judged(ModelReply("", tool_call=True), takes_code=True).kind == "tool_call"


def test_reasoning_is_the_answer_where_it_is_all_there_is():
    assert without_thinking(ModelReply("", reasoning="It is 4."), takes_code=False).text == "It is 4."
    assert without_thinking(ModelReply("\n", reasoning="hm\n</think>\n\n4"), takes_code=False).text == "4"
    beside = without_thinking(ModelReply("4", reasoning="hm"), takes_code=False)
    assert (beside.text, beside.reasoning) == ("4", "hm")


@pytest.mark.parametrize(
    "reply",
    [
        ModelReply("", "length", reasoning="so"),
        ModelReply("", "content_filter", reasoning="so"),
        ModelReply("", "tool_calls", tool_call=True, reasoning="so"),
        ModelReply("", refusal="no", reasoning="so"),
        ModelReply("<think>\nso\n</think>", reasoning="so"),
    ],
)
def test_reasoning_is_no_answer_where_the_model_did_not_come_to_its_end(reply):
    assert not judged(reply).has_text


def test_taking_thinking_off_twice_changes_nothing():
    once = without_thinking(ModelReply("<think>a</think>4"), takes_code=True)
    assert (once.text, once.reasoning) == ("4", "a")
    assert without_thinking(once, takes_code=True) == once


@pytest.mark.parametrize(
    ("reply", "text", "reasoning"),
    [
        (ModelReply("", "stop", reasoning="answer"), "answer", ""),
        (ModelReply(" ", "stop", reasoning="<think>x</think>answer"), "answer", "<think>x</think>answer"),
        (ModelReply("", "length", reasoning="answer"), "", "answer"),
        (ModelReply("said", "stop", reasoning="thought"), "said", "thought"),
        (ModelReply("<think>a</think>said", "stop", reasoning="thought"), "said", "thought\n\na"),
        (ModelReply("<think>a</think>", "stop", reasoning="thought"), "", "thought\n\na"),
    ],
)
def test_answer_that_a_server_took_for_reasoning_is_the_text(reply, text, reasoning):
    found = without_thinking(reply, takes_code=False)
    assert (found.text, found.reasoning) == (text, reasoning)


@pytest.mark.parametrize(
    ("reply", "why", "may_pass"),
    [
        (ModelReply("", "stop", ALL_REASONING), "all 16,384 output tokens went into reasoning; raise max_tokens or lower", False),
        (ModelReply("", "length", Usage(10, 0), reasoning="hm"), "all output tokens went into reasoning; raise", False),
        (ModelReply("", "length", Usage(10, 0, 0, 7), reasoning="hm"), "all 7 output tokens went into reasoning", False),
        (ModelReply("", "length", Usage(10, 9)), "the token limit of 9 tokens was reached before any text came", False),
        (ModelReply("", "length", Usage(10, 0)), "the token limit was reached before any text came", False),
        (ModelReply("", "stop", Usage(10, 9)), "the model sent an empty reply", True),
    ],
)  # fmt: skip
def test_empty_reply_says_what_to_do(reply, why, may_pass):
    found = judge(reply)
    assert found.why.startswith(why)
    assert (found.kind, found.may_pass) == ("empty", may_pass)


def test_reply_that_only_thought_says_so():
    found = judge(ModelReply("", "stop", Usage(10, 9), reasoning="hm"))
    assert (found.kind, found.may_pass) == ("empty", True)
    assert found.why.startswith("the reply held thinking and no answer")


@pytest.mark.parametrize(
    ("reply", "cut"),
    [
        (ModelReply("text", "stop"), ""),
        (ModelReply("text", "length"), "the text was cut off at the token limit; raise max_tokens"),
        (
            ModelReply("text", "length", Usage(5, 1_000)),
            "the text was cut off at the token limit after 1,000 tokens",
        ),
        (ModelReply("", "stop"), ""),
        (ModelReply("text", "content_filter"), ""),
    ],
)
def test_outcome_of_a_plain_call_says_whether_it_was_cut_off(reply, cut):
    found = answered(reply)
    assert found.text == reply.text
    assert found.cut.startswith(cut)
    assert bool(found.cut) is bool(cut)
