"""How one model call is written down."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count

import pytest
from memory_journal import FULL, REF, MemoryJournal, turns

from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import ModelReply, ModelRequest, Usage
from rlm_ray.errors import JournalError, LimitReached, ModelUnavailableError, QuotaError, TransientModelError
from rlm_ray.events.records import CallEnded, CallSent, FailedAttempt, from_line, to_line
from rlm_ray.journal.call_recorder import CallRecorder, CallSite
from rlm_ray.journal.recorder import JournalRecorder
from rlm_ray.journal.replay import CANCELLED

PLACE = CallSite((0, 3), 1, "leaf", "Turn 1 of 9.", "who?", InputSummary(chars=4, sample="text"))
REPLY = ModelReply("yes", "length", Usage(10, 5, 2, 1), 0.5, tool_call=True)
SENT = CallSent(11.0, (0, 3), 1, "leaf", "m", "key")
END = CallEnded(
    12.0, (0, 3), 1, "leaf", "m", "key", 10.0, status="Turn 1 of 9.", query="who?", input=PLACE.input
)


class Bench:
    """A call over a journal in memory; the clock goes on by a second with each look."""

    def __init__(self, *earlier):
        self.journal = MemoryJournal(b"".join(to_line(record, f"e:{n}") for n, record in enumerate(earlier)))
        self.recorder = JournalRecorder(REF, self.journal, "process")
        self.before = len(earlier)

    async def log(self, key="key"):
        await self.recorder.load_history()
        seconds = count(10.0)
        return CallRecorder(self.recorder, PLACE, "m", key, clock=lambda: next(seconds))

    async def records(self):
        await self.recorder.flush()
        return [replace(record, id="") for record in self.journal.records[self.before :]]


@pytest.mark.parametrize(
    ("max_tokens", "params", "bound", "temperature"),
    [
        (50, {"temperature": 0}, 50, 0), (None, {"max_completion_tokens": 70, "temperature": 0.25}, 70, 0.25), (None, {}, None, None),
        (9, {"temperature": "hot"}, 9, None), (9, {"temperature": True}, 9, None), (None, {"max_tokens": "many", "temperature": None}, None, None),
    ],
)  # fmt: skip
async def test_a_call_has_what_its_last_attempt_asked_for_and_who_answered(
    max_tokens, params, bound, temperature
):
    bench = Bench()
    log = await bench.log()
    log.on_sent(0.0, 0.0, None, ModelRequest("m", (), 1_000, {"temperature": 2.0}))
    log.on_sent(0.0, 0.0, None, ModelRequest("m", (), max_tokens, params))
    await log.on_reply(replace(REPLY, model="m-2026", id="resp_1"), cache_hit=False)
    end = (await bench.records())[-1]
    assert (end.max_tokens, end.temperature) == (bound, temperature)
    assert (end.response_model, end.response_id) == ("m-2026", "resp_1")
    assert from_line(to_line(end)) == end


async def test_an_answered_call_has_its_waits_and_its_usage_on_record():
    bench = Bench()
    log = await bench.log()
    log.provider = "scripted"
    log.on_sent(1.0, 2.0)
    reply = await log.on_reply(REPLY, cache_hit=False)
    assert reply == replace(REPLY, at=12.0)
    assert await bench.records() == [
        SENT,
        replace(
            END, provider="scripted", queue_wait_s=1.0, rate_wait_s=2.0, usage=REPLY.usage, cost_usd=0.5,
            finish_reason="length", text="yes", tool_call=True,
        ),
    ]  # fmt: skip


async def test_attempts_that_failed_are_recorded_with_the_call_and_it_is_sent_once():
    bench = Bench()
    log = await bench.log()
    log.on_sent(1.0, 0.5)
    log.on_attempt_failed(TransientModelError("m", "slow down", 429, "rate_limited"))
    log.on_sent(2.0, 0.25)
    await log.on_reply(REPLY, cache_hit=False)
    sent, end = await bench.records()
    assert sent == SENT
    assert (end.queue_wait_s, end.rate_wait_s) == (3.0, 0.75)
    assert end.tries == (FailedAttempt(12.0, "rate_limited", "slow down"),)


@pytest.mark.parametrize(
    ("costs", "cost"), [((0.5,), 0.5), ((0.5, 0.25, 0.0), 0.75), ((None, 0.25), None), ((0.25, None), None)]
)
@pytest.mark.parametrize("is_answered", [True, False])
async def test_replies_that_were_no_answer_are_paid_for_with_the_last_one(costs, cost, is_answered):
    bench = Bench()
    log = await bench.log()
    replies = [
        replace(REPLY, text=f"reply {n}", cost_usd=usd, reasoning=f"thought {n}")
        for n, usd in enumerate(costs)
    ]
    for reply in replies[:-1] if is_answered else replies:
        log.wasted(reply)
    if is_answered:
        await log.on_reply(replies[-1], cache_hit=False)
    else:
        log.on_failure(QuotaError("m", "empty"))
    (end,) = await bench.records()
    times, last = len(costs), len(costs) - 1
    assert (end.usage, end.cost_usd) == (Usage(10 * times, 5 * times, 2 * times, times), cost)
    assert (end.text, end.reasoning, end.finish_reason) == (f"reply {last}", f"thought {last}", "length")
    assert end.error_kind == ("" if is_answered else "QuotaError")


async def test_a_call_is_recorded_with_the_most_it_may_cost_and_why_it_was_made():
    bench = Bench()
    await bench.recorder.load_history()
    place = replace(PLACE, refused="it is no JSON")
    log = CallRecorder(bench.recorder, place, "m", "key", fallback_from="first", clock=lambda: 10.0)
    log.on_sent(0.0, 0.0, 0.75)
    await log.on_reply(REPLY, cache_hit=False)
    sent, end = await bench.records()
    assert sent.max_cost_usd == 0.75
    assert (end.refused, end.fallback_from, end.tool_call) == ("it is no JSON", "first", True)


async def test_it_is_told_before_a_call_that_it_cannot_be_recorded():
    bench = Bench()
    log = await bench.log()
    log.raise_if_failed()
    bench.journal.error = FULL
    bench.recorder.append(SENT)
    with pytest.raises(JournalError):
        await bench.recorder.flush()
    with pytest.raises(JournalError, match="disk is full"):
        log.raise_if_failed()


async def test_an_answer_is_used_only_when_it_is_on_record():
    bench = Bench()
    log = await bench.log()
    bench.journal.gate.clear()
    answered = asyncio.create_task(log.on_reply(REPLY, cache_hit=True))
    await turns(10)
    assert not answered.done()
    bench.journal.gate.set()
    await answered
    assert [record.cache_hit for record in bench.journal.records] == [True]


async def test_an_answer_that_cannot_be_kept_is_no_answer():
    bench = Bench()
    log = await bench.log()
    bench.journal.error = FULL
    with pytest.raises(JournalError, match="disk is full"):
        await log.on_reply(REPLY, cache_hit=False)


@pytest.mark.parametrize(
    ("error", "kind", "why"),
    [
        (QuotaError("m", "the account is empty", 402), "QuotaError", "the account is empty"),
        (ModelUnavailableError("m", "gave up"), "ModelUnavailableError", "gave up"),
        (LimitReached("calls", "no calls left"), "LimitReached", "no calls left (stop reason: calls)"),
        (asyncio.CancelledError(), CANCELLED, ""),
    ],
)
async def test_a_call_that_failed_says_why(error, kind, why):
    bench = Bench()
    log = await bench.log()
    log.on_failure(error)
    (end,) = await bench.records()
    assert (end.error_kind, end.why, end.at) == (kind, why, 11.0)


async def test_the_reply_of_an_earlier_attempt_comes_back_with_its_time():
    bench = Bench(SENT, replace(END, usage=REPLY.usage, cost_usd=0.5, text="yes"))
    expected = replace(REPLY, finish_reason="stop", tool_call=False, at=12.0, recorded=True)
    assert (await bench.log()).replayed_reply() == expected
    assert (await bench.log("another request")).replayed_reply() is None


async def test_a_call_that_was_under_way_is_reported_as_maybe_paid_twice_once_it_goes_out_again():
    bench = Bench(SENT)
    log = await bench.log()
    assert log.possibly_double_billed
    log.on_sent(0, 0)
    await log.on_reply(REPLY, cache_hit=False)
    assert [record.repaid for record in await bench.records() if isinstance(record, CallEnded)] == [True]


async def test_from_a_cache_nothing_is_paid_twice():
    bench = Bench(SENT)
    await (await bench.log()).on_reply(REPLY, cache_hit=True)
    assert [record.repaid for record in await bench.records()] == [False]


async def test_that_this_very_attempt_is_read_back_does_not_make_it_a_second_one():
    bench = Bench()
    log = await bench.log()
    log.on_sent(0, 0)
    await bench.recorder.load_history()  # for another session of the run in the same process
    assert not log.possibly_double_billed
    await log.on_reply(REPLY, cache_hit=False)
    assert [record.repaid for record in await bench.records() if isinstance(record, CallEnded)] == [False]
