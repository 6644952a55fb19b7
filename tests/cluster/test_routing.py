"""Which way a question goes: one plain call, a session; and equal sub-calls, which are asked once."""

from __future__ import annotations

import pytest

from rlm_ray import RLM, Settings
from rlm_ray.core.context import SAMPLE_CHARS
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import is_session

pytestmark = pytest.mark.ray

SHORT = "The fox is red. "
WHOLE = "a" * SAMPLE_CHARS


def script(request):
    if not is_session(request):
        return "plain"
    return "```python\nprint(len(context))\n```" if request.turn == 1 else "FINAL('by a session')"


PLAIN, SESSION = ("plain", 1), ("by a session", 2)
AUTO = None

ROUTES = {
    "no context": ("", {"direct_call_below_chars": AUTO}, PLAIN),
    "a few words": (SHORT, {"direct_call_below_chars": AUTO}, PLAIN),
    "all that the prompt shows": (WHOLE, {"direct_call_below_chars": AUTO}, PLAIN),
    "one document": ([SHORT], {"direct_call_below_chars": AUTO}, PLAIN),
    "one named document": ([{"id": "a", "text": SHORT}], {"direct_call_below_chars": AUTO}, PLAIN),
    "one character more": (f"{WHOLE}b", {"direct_call_below_chars": AUTO}, SESSION),
    "two documents": ([SHORT, SHORT], {"direct_call_below_chars": AUTO}, SESSION),
    "a few words, a session wanted": (SHORT, {"direct_call_below_chars": 0}, SESSION),
    "no context, a session wanted": ("", {"direct_call_below_chars": 0}, SESSION),
    "below a bound of one's own": ("a" * 4_999, {"direct_call_below_chars": 5_000}, PLAIN),
    "at a bound of one's own": ("a" * 5_000, {"direct_call_below_chars": 5_000}, SESSION),
    "two documents below it": ([SHORT, SHORT], {"direct_call_below_chars": 5_000}, PLAIN),
    "a long text at depth 0": ("a" * 9_000, {"max_depth": 0}, PLAIN),
}


@pytest.mark.parametrize("name", ROUTES)
def test_a_question_goes_the_way_of_its_context(ask, name):
    context, settings, (answer, calls) = ROUTES[name]
    with ModelServer(script) as server:
        result = ask(server, **settings).run("What colour is the fox?", context)
        assert (result.answer, server.calls) == (answer, calls)
        assert result.usage.total.calls == calls


def test_a_question_has_a_session_and_each_item_a_call_unless_it_is_told_otherwise():
    settings = Settings(model="openai/m")
    assert settings.direct_call_below_chars == 0
    assert settings.deduplicate_maps is False


def test_questions_of_a_conversation_share_a_session(ask):
    with (
        ModelServer(script) as server,
        ask(server, direct_call_below_chars=AUTO).conversation(SHORT) as conversation,
    ):
        assert conversation.ask("What colour?") == "by a session"


EQUAL = {
    "one text": ("recursive_map('q', ['a'] * 5)", 1, ["q a"] * 5),
    "pairs": ("recursive_map('q', ['a', 'b', 'a', 'b'])", 2, ["q a", "q b"] * 2),
    "other questions": ("recursive_map(['q', 'r', 'q'], ['a'] * 3)", 2, ["q a", "r a", "q a"]),
    "documents": ("recursive_map('q', [documents[0], documents[1], documents[0]])", 2, None),
    "lists of documents": ("recursive_map('q', [documents[:2], documents[:2], documents[1:]])", 2, None),
    "lists of one's own": ("recursive_map('q', [['x', 'y'], ['x', 'y'], ['x']])", 2, None),
    "prompts": ("llm_query_batched(['p', 'p', 'r'])", 2, None),
    "more than one actor takes": ("recursive_map('q', ['a', 'b'] * 50)", 2, ["q a", "q b"] * 50),
    "all different": ("recursive_map('q', ['a', 'b', 'c'])", 3, ["q a", "q b", "q c"]),
    "two maps": ("recursive_map('q', ['a', 'a']) + recursive_map('q', ['a'])", 2, ["q a"] * 3),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal_items_of_a_map_are_asked_once(ask, name):
    cell, calls, answers = EQUAL[name]

    def answer(request):
        if not is_session(request):
            question, _, text = request.last.partition("\n\nContext:\n")
            return f"{question.removeprefix('Question:').strip()} {text}"
        return f"```python\nlen(context)\nfound = {cell}\nFINAL(found)\n```"

    with ModelServer(answer) as server:
        result = ask(server, deduplicate_maps=True).run(
            "q", ["first " * 400, "second " * 400, "third " * 400]
        )
        assert result.usage.total.calls == calls + 1
        assert server.calls == calls + 1
        if answers is not None:
            assert result.answer == str(answers).replace("'", '"')


def test_equal_items_are_answers_of_their_own_where_that_is_wanted(ask):
    def answer(request):
        return (
            "```python\nlen(context)\nFINAL(recursive_map('q', ['a'] * 5))\n```"
            if is_session(request)
            else "x"
        )

    with ModelServer(answer) as server:
        assert ask(server, deduplicate_maps=False).run("q", "text " * 900).usage.total.calls == 6


def test_equal_sessions_of_a_map_are_run_once_and_failures_are_copied(ask):
    def answer(request):
        if "Question: child" in str(request.body):
            return "FINAL('from a child')" if request.turn > 1 else "```python\nprint(len(context))\n```"
        return "```python\nlen(context)\nFINAL(rlm_query_batched(['child'] * 3, ['abc ' * 900] * 3))\n```"

    with ModelServer(answer) as server:
        result = ask(server, max_depth=2, deduplicate_maps=True).run("q", "text " * 900)
        assert result.answer == '["from a child", "from a child", "from a child"]'
        assert result.usage.sessions == 2


def test_a_map_of_equal_items_is_replayed(ask, tmp_path):
    """A run that is stopped after the map goes on without asking again."""

    def answer(request):
        if not is_session(request):
            return "leaf"
        if request.turn == 1:
            return "```python\nfound = recursive_map('q', ['a', 'a', 'b'])\nprint(found)\n```"
        return "```python\nFINAL(found)\n```"

    with ModelServer(answer) as server:
        rlm = ask(server, run_dir=str(tmp_path), limits={"calls": 3}, deduplicate_maps=True)
        stopped = rlm.run("q", "text " * 900)
        assert stopped.stop_reason == "calls"
        result = RLM.resume(
            stopped.run_id, run_dir=str(tmp_path), api_base=server.url, api_key="k", trust_record=True,
            limits={"calls": None},
        )  # fmt: skip
        assert result.answer == '["leaf", "leaf", "leaf"]'
        assert sum(not is_session(request) for request in server.requests) == 2
