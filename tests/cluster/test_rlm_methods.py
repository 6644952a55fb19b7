"""What the methods of `RLM` take for one question, and the counts it has of the last run."""

from __future__ import annotations

import pytest

from rlm_ray import RLM, InputError, Limits, QuotaError
from rlm_ray.testing import Failure, ModelServer
from rlm_ray.testing.responses import is_session, run_query

pytestmark = pytest.mark.ray

TEXT = "some text " * 100
LEAVES = run_query("FINAL(len(recursive_map('what?', [context[:300], context[300:600], context[600:]])))")


def test_stats_are_those_of_the_last_run(ask, server):
    rlm = ask(server)
    assert rlm.completion(LEAVES, TEXT) == "3"
    assert rlm.stats == {"llm_calls": 4, "iterations": 1, "depth": 1}
    *_, result = rlm.stream(run_query("print(1)", "FINAL(2)"), TEXT)
    assert rlm.stats == {"llm_calls": 2, "iterations": 2, "depth": 0}
    assert (result.usage.total.calls, result.turns) == (2, 2)
    rlm.map([LEAVES, "look"], [TEXT, TEXT])
    assert rlm.stats == {"llm_calls": 6, "iterations": 2, "depth": 1}


def test_stats_of_a_run_that_failed_are_zero(ask):
    def refuse_the_second(request):
        return "```python\nFINAL(1)\n```" if request.ordinal == 0 else Failure(429, code="insufficient_quota")

    with ModelServer(refuse_the_second) as server:
        rlm = ask(server)
        rlm.completion("q", TEXT)
        with pytest.raises(QuotaError):
            rlm.completion("q", TEXT)
    assert rlm.stats == {"llm_calls": 0, "iterations": 0, "depth": 0}


def test_keywords_of_one_question_hold_for_that_one_only(ask, server):
    rlm = ask(server, temperature=0.5)
    assert rlm.completion("q", TEXT, max_depth=0, temperature=0.1, model="openai/other").startswith("leaf")
    assert rlm.run(LEAVES, TEXT, limits=Limits(calls=2)).stop_reason == "calls"
    assert rlm.completion(LEAVES, TEXT) == "3"
    first, *_, last = server.requests
    assert (first.model, first.body["temperature"], is_session(first)) == ("other", 0.1, False)
    assert (last.model, last.body["temperature"]) == ("root", 0.5)


def test_task_that_stands_in_the_context_is_asked_for(ask, server):
    assert ask(server).completion(context="Translate: Hund") == "session done"
    assert "The task stands in the context itself" in server.requests[0].last
    assert "Translate: Hund" in server.requests[0].last


def test_map_and_map_reduce_go_on_by_their_run_and_pay_nothing_twice(ask, server):
    rlm = ask(server)
    before = [result.answer for result in rlm.map([LEAVES, "look"], [TEXT, TEXT])]
    paid = server.calls
    assert [result.answer for result in rlm.map([LEAVES, "look"], [TEXT, TEXT], run_id="last")] == before
    assert server.calls == paid
    reduced = rlm.map_reduce("What?", [TEXT, "other text"], pack=False)
    paid = server.calls
    again = rlm.map_reduce("What?", [TEXT, "other text"], pack=False, run_id=reduced.run_id)
    assert (again.answer, again.run_id, server.calls) == (reduced.answer, reduced.run_id, paid)
    with pytest.raises(InputError, match="is a map-reduce over contexts of a Python program"):
        RLM.resume(reduced.run_id)
    with pytest.raises(InputError, match=r"it goes on there: rlm.map_reduce\(question, contexts, run_id="):
        rlm.map("q", [TEXT], run_id=reduced.run_id)


def test_keywords_of_a_map_hold_for_that_one_only(ask, server):
    rlm = ask(server)
    (result,) = rlm.map("q", [TEXT], max_depth=0)
    assert (result.turns, rlm.settings.max_depth) == (0, 1)
