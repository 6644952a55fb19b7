"""A run told as it goes."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from rlm_ray import AnswerDelta, AnswerRestarted, Result
from rlm_ray.errors import InputError
from rlm_ray.events.records import CallEnded, RunFinished, RunStarted
from rlm_ray.journal.run_store import find_run
from rlm_ray.testing import Drop, ModelServer, Slow
from rlm_ray.testing.responses import recursion, run_query

pytestmark = pytest.mark.ray

QUERY = run_query("r = recursive_map('q', [context[:9]] * 3)", "FINAL(str(len(r)))")


def test_every_record_comes_once_and_the_result_last(ask, server):
    *events, result = ask(server).stream(QUERY, "some text")
    records = [event for event in events if not isinstance(event, AnswerDelta)]
    assert events[len(records) :] == [AnswerDelta("3")]
    assert isinstance(result, Result)
    assert result.answer == "3"
    assert isinstance(records[0], RunStarted)
    assert isinstance(records[-1], RunFinished)
    assert [type(record) for record in records].count(CallEnded) == server.calls == 5
    assert len({record.id for record in records}) == len(records)


def test_the_start_of_a_run_is_its_first_record_whoever_writes_the_next(ask, server, tmp_path):
    results = [ask(server, run_dir=str(tmp_path)).run(QUERY, "some text") for _ in range(10)]
    stores = [find_run(result.run_id, str(tmp_path)) for result in results]
    assert [type(store.first_record()) for store in stores] == [RunStarted] * 10


async def test_an_answer_comes_while_it_is_written_and_is_the_one_on_record(ask):
    lines = [f"Line {number} of the answer." for number in range(40)]
    answer = "\n".join(lines)
    replies = [Drop("Another answer " * 20), Slow(answer, 0.4, pieces=40)]
    with ModelServer(replies) as server:
        rlm = ask(server, max_depth=0, max_attempts=2)
        events = [event async for event in rlm.astream("Tell me.", "")]
    result, shown = events[-1], ""
    assert isinstance(result, Result)
    for event in events:
        match event:
            case AnswerRestarted():
                shown = ""
            case AnswerDelta(text):
                shown += text
    assert shown == result.answer == answer
    ended = next(place for place, event in enumerate(events) if isinstance(event, CallEnded))
    assert any(isinstance(event, AnswerDelta) for event in events[:ended])
    assert result.usage.total.output_tokens == len(answer) // 4


async def test_records_come_while_the_run_goes_on(ask):
    with ModelServer(recursion, latency_s=0.3) as server:
        async with aclosing(ask(server).astream(QUERY, "some text")) as events:
            async for event in events:
                if isinstance(event, CallEnded):
                    break
            assert server.calls < 5


def test_a_stream_left_early_cancels_its_run(ask):
    with ModelServer(recursion, latency_s=0.5) as server:
        events = ask(server).stream(QUERY, "some text")
        assert isinstance(next(events), RunStarted)
        events.close()
        assert server.calls <= 1


def test_a_question_that_is_none_is_said_at_the_first_step(ask, server):
    with pytest.raises(InputError, match="ask a question"):
        next(ask(server).stream(" "))
