"""A question through Ray, sandbox, gateway and a model over HTTP."""

from __future__ import annotations

import re

import pytest

from rlm_ray import LimitReached
from rlm_ray.cluster.ray_metrics import RayMetrics
from rlm_ray.errors import AuthenticationError, ConfigError, InputError, ModelUnavailableError
from rlm_ray.testing import Failure, ModelServer, Reply
from rlm_ray.testing.responses import is_session, recursion, run_query

pytestmark = pytest.mark.ray

BOOK = "It was a dark night. The creature spoke. " * 3_000


def code(program):
    return f"```python\n{program}\n```"


def test_a_question_is_answered_over_a_context_the_model_never_sees_whole(ask, server):
    query = run_query("print(context.count('creature'))")
    assert ask(server).completion(query, BOOK) == "session done"
    longest = max(len(str(request.body)) for request in server.requests)
    assert longest < 20_000 < len(BOOK)


async def test_acompletion_does_the_same_on_the_callers_loop(ask, server):
    assert await ask(server).acompletion(run_query("print(1)"), BOOK) == "session done"


def test_a_root_session_is_counted_for_rays_metrics_by_the_process_that_writes_its_end(
    ask, server, monkeypatch
):
    counted = []
    monkeypatch.setattr(RayMetrics, "_count", lambda _, found: counted.append((found.name, found.value > 0)))
    ask(server).completion(run_query("print(1)"), BOOK)
    assert counted == [("rlm.session.duration", True)]


def test_a_tree_of_depth_three_uses_two_models_and_every_answer_comes_back(ask):
    def script(request):
        if not is_session(request):
            return f"leaf:{len(request.last)}"
        level = int(re.search(r"LEVEL (\d)", str(request.body)).group(1))
        if request.turn == 1:
            below = f"LEVEL {level + 1}"
            return code(
                f"n = len(context) // 2\nparts = [context[:n], context[n:]]\n"
                f"answers = recursive_map('{below}', parts)\nprint(answers)"
            )
        return code("FINAL('[' + ','.join(answers) + ']')")

    with ModelServer(script) as server:
        rlm = ask(server, model="openai/root", recursive_model="openai/child", max_depth=3, max_leaf_chars=0)
        answer = rlm.completion("LEVEL 1", "x" * 80_000)
        leaf = re.fullmatch(r"\[\[(\[leaf:\d+,leaf:\d+\],?){2}\],\[(\[leaf:\d+,leaf:\d+\],?){2}\]\]", answer)
        assert leaf, answer
        calls = [request.model for request in server.requests]
        assert calls.count("root") == 2
        assert calls.count("child") == 2 * 2 + 4 * 2 + 8


def test_documents_reach_children_by_reference_and_in_order(ask):
    def script(request):
        if not is_session(request):
            return f"saw {request.last.split()[-1]}"
        if request.turn == 1:
            return code(
                "r = recursive_map('which?', context)\nprint(r[0], r[-1], len(r))\nFINAL(' '.join(r))"
            )
        return code("FINAL('?')")

    with ModelServer(script) as server:
        documents = [{"id": f"d{n}", "text": "word " * 2_000 + f"number{n}"} for n in range(40)]
        answer = ask(server).completion("q", documents)
    assert answer == " ".join(f"saw number{n}" for n in range(40))


def test_a_failed_sub_call_is_an_exception_the_model_can_catch(ask):
    def script(request):
        if not is_session(request):
            return Failure(400, "no such thing", code="bad") if "bad" in request.last else "fine"
        if request.turn == 1:
            return code(
                "print(context[:5])\ntry:\n    recursive_llm('q', 'bad')\nexcept Exception as e:\n    caught = str(e)\n"
                "mixed = recursive_map('q', ['good', 'bad'], on_error='return')\n"
                "FINAL(caught + ' | ' + mixed[0] + ' | ' + str(mixed[1]))"
            )
        return code("FINAL('?')")

    with ModelServer(script) as server:
        answer = ask(server).completion("q", BOOK)
    caught, good, bad = answer.split(" | ")
    assert "no such thing" in caught
    assert good == "fine"
    assert bad.startswith("CallError(")


def test_a_sub_call_larger_than_the_models_window_says_so_inside_the_repl(ask):
    def script(request):
        if not is_session(request):
            return Failure(
                400, "This model's maximum context length is 100 tokens", code="context_length_exceeded"
            )
        if request.turn == 1:
            return code(
                "try:\n    recursive_llm('q', context[:5000])\nexcept Exception as e:\n    FINAL(str(e))"
            )
        return code("FINAL('?')")

    with ModelServer(script) as server:
        answer = ask(server).completion("q", BOOK)
        assert server.calls == 2
    assert "ContextWindowError" in answer
    assert "pass smaller pieces" in answer


def test_a_rate_limited_call_is_retried_and_an_outage_is_given_up_with_advice(ask):
    replies = [Failure(429, "slow down", headers={"retry-after": "0.05"}), Failure(503), "direct answer"]
    with ModelServer(replies) as server:
        assert ask(server, max_depth=0).completion("q", "short") == "direct answer"
        assert server.calls == 3
    broken = ModelServer(lambda _: Failure(500, "broken"))
    with broken, pytest.raises(ModelUnavailableError, match=r"broken.*gave up after 2 attempts"):
        ask(broken, max_depth=0, max_attempts=2).completion("q", "short")


def test_a_refused_key_stops_the_whole_tree_at_once(ask):
    def script(request):
        if is_session(request):
            return code("print(len(context)); recursive_map('q', [context[:100]] * 50)")
        return Failure(401, "Incorrect API key provided", code="invalid_api_key")

    with ModelServer(script) as server:
        with pytest.raises(AuthenticationError, match="refused the key"):
            ask(server).completion("q", BOOK)
        assert len([request for request in server.requests if is_session(request)]) == 1


def test_an_address_nobody_listens_at_is_named(ask):
    class Nowhere:
        url = "http://127.0.0.1:9/v1"

    with pytest.raises(ModelUnavailableError, match=r"cannot reach http://127.0.0.1:9/v1; check api_base"):
        ask(Nowhere, max_attempts=1).completion("q", BOOK)


def test_a_missing_key_is_named(ask, server):
    with pytest.raises(AuthenticationError, match="ANTHROPIC_API_KEY"):
        ask(
            server, model="anthropic/claude-sonnet-4-5", api_base=None, api_key=None, max_attempts=1
        ).completion("q", BOOK)


def test_an_unknown_model_is_named(ask, server):
    with pytest.raises(ConfigError, match="knows no provider for 'nobody-knows-me'"):
        ask(server, model="nobody-knows-me").completion("q", BOOK)


@pytest.mark.parametrize(("query", "context"), [("", "x"), ("  ", "x"), (7, "x"), ("q", 5), ("q", b"\xff")])
def test_bad_input_is_refused_before_anything_starts(ask, server, query, context):
    with pytest.raises(InputError):
        ask(server).completion(query, context)
    assert server.calls == 0


def test_an_empty_context_may_be_answered_at_once(ask):
    with ModelServer(["FINAL(nothing to look at)"]) as server:
        assert ask(server).completion("q", "") == "nothing to look at"


def test_a_model_that_never_writes_code_is_asked_for_its_best_answer(ask):
    def script(request):
        return "my best guess" if "has to end now" in request.last else "I am thinking about it."

    with ModelServer(script) as server:
        result = ask(server).run("q", BOOK)
        assert (result.answer, result.stop_reason) == ("my best guess", "no_code")
        assert server.calls == 4
        with pytest.raises(LimitReached) as caught:
            ask(server).completion("q", BOOK)
    assert caught.value.partial == "my best guess"


@pytest.mark.parametrize(
    "odd",
    [
        Reply(None),
        Reply(""),
        Reply(
            None, tool_calls=[{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
        ),
        Reply("```python\nx = [1, 2", finish_reason="length"),
        Reply("just prose"),
    ],
)
def test_an_odd_first_message_is_answered_with_advice_and_the_run_goes_on(ask, odd):
    with ModelServer([odd, code("print(len(context))"), code("FINAL('done')")]) as server:
        assert ask(server).completion("q", BOOK) == "done"


def test_a_model_that_writes_endless_code_is_stopped_and_gives_its_best(ask):
    def script(request):
        return "best" if "has to end now" in request.last else code("print('more')")

    with ModelServer(script) as server:
        result = ask(server, max_iterations=3).run("q", BOOK)
        assert (result.answer, result.stop_reason, result.turns) == ("best", "max_iterations", 3)
        assert "raise max_iterations" in result.why


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("for i in range(10**7): print('x' * 100)", "characters left out"),
        ("x = 'a' * 10**11", "memory"),
        ("while True: pass", "kept"),
        ("sum(range(10**12))", "lost"),
        ("def f(): return f()\nf()", "RecursionError"),
    ],
)
def test_a_cell_that_goes_wrong_is_an_observation_and_the_session_goes_on(ask, cell, said):
    from rlm_ray import Sandbox

    with ModelServer([code(cell), code("print(len(context))"), code("FINAL('alive')")]) as server:
        rlm = ask(server, sandbox=Sandbox(cell_timeout_s=2, cell_cpu_s=2))
        assert rlm.completion("q", BOOK) == "alive"
        assert said.lower() in server.requests[1].last.lower()


def test_small_contexts_are_answered_directly_when_asked_for(ask):
    with ModelServer(["direct"]) as server:
        assert ask(server, direct_call_below_chars=1000).completion("q", "short text") == "direct"
        assert "Context:\nshort text" in server.requests[0].last


def test_many_questions_at_once_do_not_mix_up(ask):
    import asyncio

    def script(request):
        if request.turn == 1:
            return code("print(context)")
        return code("FINAL(context[-20:])")

    async def all_of_them(rlm):
        return await asyncio.gather(*(rlm.acompletion("q", "x" * 3000 + f"{n:020d}") for n in range(40)))

    with ModelServer(script, latency_s=0.02) as server:
        answers = asyncio.run(all_of_them(ask(server)))
    assert answers == [f"{n:020d}" for n in range(40)]


def test_completion_works_inside_a_running_loop(ask, server):
    import asyncio

    async def notebook():
        return ask(server).completion(run_query("print(1)"), BOOK)

    assert asyncio.run(notebook()) == "session done"


def test_the_offline_model_takes_the_same_road(ask, cluster):
    from rlm_ray import RLM

    text = (
        "The sky was grey. " * 4000
        + "Elizabeth keeps the brass key under the blue teapot. "
        + "Rain fell. " * 4000
    )
    answer = RLM(model="offline/extractive", cluster=cluster).completion(
        "Where does Elizabeth keep the brass key?", text
    )
    assert "under the blue teapot" in answer
    assert "xtractive" in answer


def test_a_key_set_after_the_actors_started_reaches_them(ask, server, monkeypatch):
    rlm = ask(server, max_depth=0, api_key=None)
    with pytest.raises(AuthenticationError, match="OPENAI_API_KEY"):
        rlm.completion("q", "c")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert rlm.completion("q", "c")
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(AuthenticationError, match="OPENAI_API_KEY"):
        rlm.completion("q", "c")


def test_identical_calls_are_paid_once_over_calls_and_runs(ask, tmp_path):
    query = run_query(
        "print(len(context)); r = recursive_map('same', [context[:9]] * 40); assert len(set(r)) == 1"
    )
    with ModelServer(recursion, latency_s=0.05) as server:
        first = ask(server, cache=str(tmp_path)).run(query, BOOK)
        assert (first.answer, server.calls) == ("session done", 3)
        assert first.usage.cache_hits == 39
        second = ask(server, cache=str(tmp_path)).run(query, BOOK)
        assert (second.answer, server.calls) == ("session done", 3)
        assert second.usage.total.calls == 0
        assert second.usage.cache_hits == 42
