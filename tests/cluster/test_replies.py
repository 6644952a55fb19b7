"""What a provider says of its reply is heard wherever one is used, over Ray, litellm and a real socket."""

from __future__ import annotations

import json

import pytest

from rlm_ray import RLM
from rlm_ray.core.reply import CUT_MARK
from rlm_ray.errors import LimitReached, ReplyError, SubCallError
from rlm_ray.events.records import CallEnded
from rlm_ray.journal.run_store import RunStore
from rlm_ray.testing import ModelServer, Raw
from rlm_ray.testing.responses import is_session

pytestmark = pytest.mark.ray

USAGE = {"prompt_tokens": 10, "completion_tokens": 500, "total_tokens": 510}
ALL_REASONING = USAGE | {"completion_tokens_details": {"reasoning_tokens": 500}}


def said(content, finish="stop", usage=USAGE, **message):
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content, **message},
        "finish_reason": finish,
    }
    body = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }
    return Raw(json.dumps(body).encode())


def block(code):
    return f"```python\n{code}\n```"


CALL = {
    "id": "1",
    "type": "function",
    "function": {"name": "python", "arguments": '{"code": "FINAL(\'by a tool\')"}'},
}
NOTHING = said(None)
ALL_THOUGHT = said(None, "length", ALL_REASONING)
FILTERED = said("part", "content_filter")
REFUSED = said(None, refusal="I can't help.")
CALLED = said(None, "tool_calls", tool_calls=[CALL])
BROKEN = said("part", "error")
CUT = said("It is that the", "length")
WORDS = {
    "empty": (NOTHING, "empty reply"),
    "all thought": (ALL_THOUGHT, "all 500 output tokens went into reasoning; raise max_tokens"),
    "filtered": (FILTERED, "content filter withheld the reply"),
    "refused": (REFUSED, "refused to answer: I can't help"),
    "tool call": (CALLED, "called a tool"),
}


class Play:
    """Sessions get messages turn by turn, plain calls replies in order; the last of each for ever."""

    def __init__(self, turns=(), leaves=("fine",)):
        self.turns, self.leaves = turns, leaves
        self.asked = 0

    def __call__(self, request):
        if is_session(request):
            turn = self.turns[min(request.turn, len(self.turns)) - 1]
            return turn(request) if callable(turn) else turn
        self.asked += 1
        return self.leaves[min(self.asked, len(self.leaves)) - 1]


@pytest.fixture
def play(ask):
    """`rlm, script = play(turns, leaves, **settings)`."""
    servers = []

    def make(turns=(), leaves=("fine",), **settings):
        script = Play(turns, leaves)
        server = ModelServer(script)
        servers.append(server)
        return ask(server.__enter__(), **settings), script

    yield make
    for server in servers:
        server.__exit__(None, None, None)


@pytest.mark.parametrize("kind", WORDS)
def test_a_sub_call_without_an_answer_fails_in_the_code_that_made_it(play, kind):
    reply, words = WORDS[kind]
    code = "try:\n    FINAL(recursive_llm('q', 'piece'))\nexcept SubCallError as error:\n    FINAL(f'failed: {error}')"
    rlm, _ = play([block(code)], [reply])
    answer = rlm.completion("q?", "text " * 1000)
    assert answer.startswith("failed: ReplyError")
    assert words in answer


@pytest.mark.parametrize("kind", WORDS)
def test_a_direct_call_without_an_answer_fails(play, kind):
    reply, words = WORDS[kind]
    rlm, _ = play(leaves=[reply], max_depth=0)
    with pytest.raises(ReplyError, match=words):
        rlm.run("q?", "text")


@pytest.mark.parametrize("reply", [NOTHING, CALLED, BROKEN], ids=["empty", "tool call", "broken"])
def test_what_may_pass_is_asked_once_more_and_all_of_it_is_counted(play, reply, tmp_path):
    rlm, script = play(leaves=[reply, "good"], max_depth=0, run_dir=str(tmp_path))
    result = rlm.run("q?", "text")
    assert (result.answer, script.asked) == ("good", 2)
    (end,) = [r for r in RunStore(str(tmp_path), result.run_id).records() if isinstance(r, CallEnded)]
    total = result.usage.total
    assert end.usage.output_tokens == total.output_tokens > 500
    assert len(end.tries) == total.retries == 1


@pytest.mark.parametrize(
    "reply", [FILTERED, REFUSED, ALL_THOUGHT], ids=["filtered", "refused", "all thought"]
)
def test_what_the_same_question_would_meet_again_is_not_asked_again(play, reply):
    rlm, script = play(leaves=[reply, "good"], max_depth=0)
    with pytest.raises(ReplyError):
        rlm.run("q?", "text")
    assert script.asked == 1


@pytest.mark.parametrize(
    "reply", [NOTHING, ALL_THOUGHT, FILTERED, REFUSED], ids=["empty", "thought", "filtered", "refused"]
)
def test_a_turn_without_a_message_is_shown_to_the_model(play, reply):
    rlm, _ = play([block("print(len(context))"), reply, block("FINAL('later')")])
    assert rlm.completion("q?", "text " * 1000) == "later"


def test_a_session_that_hears_nothing_but_that_says_why_it_ended(play):
    rlm, _ = play([ALL_THOUGHT], ["nothing is known"])
    result = rlm.run("q?", "text " * 1000)
    assert result.stop_reason == "no_code"
    assert (
        "all 500 output tokens went into reasoning; raise max_tokens or lower reasoning_effort" in result.why
    )


def test_the_code_of_a_tool_call_is_run(play):
    rlm, _ = play([block("print(len(context))"), CALLED])
    assert rlm.completion("q?", "text " * 1000) == "by a tool"


def test_nothing_of_a_withheld_message_is_run(play):
    withheld = said(block("FINAL('withheld')"), "content_filter")
    rlm, _ = play([block("print(len(context))"), withheld, block("FINAL('later')")])
    assert rlm.completion("q?", "text " * 1000) == "later"


def test_words_that_were_cut_off_are_no_final_answer(play):
    rlm, _ = play(
        [block("print(len(context))"), said("FINAL(The answer is the", "length"), block("FINAL('later')")]
    )
    assert rlm.completion("q?", "text " * 1000) == "later"


def test_a_cut_text_is_marked_for_code_and_shown_to_the_model(play):
    look = block("print(recursive_map('q', ['a', 'b', 'c']))")
    rlm, _ = play([look, lambda request: block(f"FINAL({request.last!r})")], ["one", CUT, "three"])
    seen = rlm.completion("q?", "text " * 1000)
    assert seen.count(CUT_MARK) == 1
    assert "Note: The answer of a sub-call was cut off at the token limit" in seen


def test_a_direct_answer_that_was_cut_off_is_not_the_whole_answer(play):
    rlm, _ = play(leaves=[CUT], max_depth=0)
    result = rlm.run("q?", "text")
    assert (result.answer, result.stop_reason) == ("It is that the", "max_tokens")
    assert "cut off at the token limit after 500 tokens; raise max_tokens" in result.why
    with pytest.raises(LimitReached) as stopped:
        rlm.completion("q?", "text")
    assert stopped.value.partial == "It is that the"


def test_a_map_reduce_over_cut_answers_says_so(play):
    rlm, _ = play(leaves=[CUT])
    found = rlm.map_reduce(
        "What?", ["doc one", "doc two"], reduce="collect", split_by="documents", pack=False
    )
    assert found.stop_reason == "max_tokens"
    assert len(found.cut) == 2
    assert found.value == [f"It is that the\n{CUT_MARK}"] * 2


def test_a_cut_object_is_not_put_right_by_invention(play):
    rlm, script = play(leaves=[said('{"items": ["a", "b"', "length"), '{"items": ["a", "b"]}'])
    schema = {"type": "object", "properties": {"items": {"type": "array"}}, "required": ["items"]}
    with pytest.raises(SubCallError, match="cut off at the token limit"):
        rlm.map_reduce("What?", ["doc one"], schema=schema, reduce="collect:items", split_by="documents")
    assert script.asked == 1


def test_thinking_is_kept_in_the_record_only(play, tmp_path):
    rlm, _ = play(leaves=["hm, 2 + 2\n</think>\n\n4"], max_depth=0, run_dir=str(tmp_path))
    result = rlm.run("q?", "text")
    (end,) = [r for r in RunStore(str(tmp_path), result.run_id).records() if isinstance(r, CallEnded)]
    assert (result.answer, end.text, end.reasoning) == ("4", "4", "hm, 2 + 2")


@pytest.mark.parametrize("reply", [CUT, NOTHING], ids=["cut", "empty"])
def test_the_cache_remembers_whole_answers_only(play, reply, tmp_path):
    rlm, script = play(leaves=[reply, reply, "good"], max_depth=0, cache=str(tmp_path / "cache"))
    for _ in range(3):
        try:
            last = rlm.run("q?", "text")
        except ReplyError:
            continue
    assert (last.answer, script.asked) == ("good", 3)


def test_a_resumed_run_asks_again_what_had_no_answer(play, tmp_path):
    rlm, script = play(leaves=[REFUSED, "good"], max_depth=0, run_dir=str(tmp_path))
    with pytest.raises(ReplyError):
        rlm.run("q?", "text")
    (run_id,) = [path.name for path in tmp_path.iterdir() if path.is_dir()]
    result = RLM.resume(run_id, run_dir=str(tmp_path), api_key="k", trust_record=True)
    assert (result.answer, script.asked) == ("good", 2)
