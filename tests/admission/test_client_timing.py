"""When a client sends what, and what it tells; in virtual time, with an admission that follows a script."""

from __future__ import annotations

import asyncio

import pytest
from virtual_time import in_virtual_time

from rlm_ray.admission.client import AdmissionClient, Permit
from rlm_ray.admission.protocol import (
    AttemptOutcome,
    BudgetShare,
    Granted,
    PermitRequest,
    RunPolicy,
    ServerMessage,
)
from rlm_ray.core.limits import Amount
from rlm_ray.core.llm import Usage
from rlm_ray.core.retry_after import RateLimitHeaders

ASK = PermitRequest("run", "account", "m", 10, 10)


class Admission:
    """Grants what it is asked for, and writes down each message with its moment; a message may take its time."""

    def __init__(self):
        self.messages = []
        self.is_up = True
        self.grants = True
        self.takes_s = []
        self.budget = Amount(10**9, 1_000, 100)
        self.tells_budgets = True
        self.is_told_of = ("run",)

    async def exchange(self, message):
        self.messages.append((asyncio.get_running_loop().time(), message))
        await asyncio.sleep(self.takes_s.pop(0) if self.takes_s else 0)
        if not self.is_up:
            raise ConnectionError("the line is cut")
        granted = message.asks if self.grants else ()
        return ServerMessage(
            "epoch",
            tuple(Granted(ask.request_id, ask.client_id, 0.25, 0.5) for ask in granted),
            tuple(RunPolicy(ask.run_id) for ask in message.asks),
            tuple(BudgetShare(run_id, Amount(), self.budget) for run_id in self.is_told_of)
            if self.tells_budgets
            else None,
        )

    def moments(self, of="asks"):
        return [moment for moment, message in self.messages if getattr(message, of)]


def play(script):
    """Run a script with a client of an admission; returns the admission."""

    async def work():
        admission = Admission()
        clock = asyncio.get_running_loop().time
        client = AdmissionClient("c", admission, clock=clock, wall=lambda: 0.0)
        try:
            await script(client, admission)
        finally:
            await client.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        result.append(admission)

    result = []
    in_virtual_time(work())
    return result[0]


async def call(client, ask=ASK):
    async with client.permit(ask) as permit:
        permit.release(AttemptOutcome.OK, Usage(7, 3), 0.25)
    return permit


def test_requests_of_three_milliseconds_travel_together():
    async def script(client, _):
        async with asyncio.TaskGroup() as group:
            for wait_s in (0.0, 0.001, 0.002, 0.0045):
                group.create_task(later(client, wait_s))

    async def later(client, wait_s):
        await asyncio.sleep(wait_s)
        await client.acquire(ASK)

    admission = play(script)
    assert admission.moments() == pytest.approx([0.0, 0.003, 0.006])
    assert [len(message.asks) for _, message in admission.messages if message.asks] == [1, 2, 1]


def test_settlement_waits_for_company_where_nothing_is_asked_for():
    async def script(client, _):
        permit = await client.acquire(ASK)
        await asyncio.sleep(0.5)
        permit.release(AttemptOutcome.OK)
        await asyncio.sleep(0.1)

    assert play(script).moments("settles") == pytest.approx([0.52])


def test_settlement_goes_at_once_while_a_request_waits():
    async def script(client, admission):
        permit = await client.acquire(ASK)
        admission.grants = False
        admission.takes_s = [1.0]
        waiting = asyncio.create_task(client.acquire(ASK))
        await asyncio.sleep(0.5)
        permit.release(AttemptOutcome.OK)
        await asyncio.sleep(0.1)
        waiting.cancel()

    assert play(script).moments("settles") == pytest.approx([0.5])


def test_client_that_holds_a_permit_or_knows_a_run_is_heard_of_each_second():
    async def script(client, admission):
        await call(client)
        await client.flush()
        admission.messages.clear()
        await asyncio.sleep(2.5)

    assert [moment for moment, _ in play(script).messages] == pytest.approx([1.0, 2.0], abs=0.03)

    async def no_run(client, admission):
        admission.is_told_of = ()
        await call(client)
        await client.flush()
        admission.messages.clear()
        await asyncio.sleep(2.5)

    assert play(no_run).messages == []


@pytest.mark.parametrize(("silent_s", "times"), [(4.99, 1), (5.0, 2), (8.0, 2)])
def test_request_is_sent_again_after_five_silent_seconds(silent_s, times):
    async def script(client, admission):
        admission.grants = False
        admission.takes_s = [silent_s, 1000.0]
        waiting = asyncio.create_task(client.acquire(ASK))
        await asyncio.sleep(silent_s + 1)
        waiting.cancel()

    assert len(play(script).moments()) == times


def test_admission_that_is_gone_is_asked_for_twice_a_second_and_told_all_when_it_is_back():
    async def script(client, admission):
        held = await client.acquire(ASK)
        await asyncio.sleep(0.1)
        admission.is_up = False
        held.release(AttemptOutcome.OK, Usage(7, 3))
        await asyncio.sleep(1.7)
        admission.is_up = True
        await client.flush()

    admission = play(script)
    moments = [moment for moment, _ in admission.messages]
    assert moments == pytest.approx([0.0, 0.12, 0.62, 1.12, 1.62, 2.12, 2.12], abs=0.005)
    first, told = admission.messages[0][1], admission.messages[-1][1]
    assert first.resume is None
    assert [settle.permit for settle in told.settles] == ["c:0"]
    assert [ask.request_id for ask in told.resume.in_flight] == ["c:0"]


def test_without_the_admission_calls_go_at_half_their_rate_within_the_share_of_the_budget():
    moments = []

    async def script(client, admission):
        admission.budget = Amount(0, 70, 100)  # of tokens: three calls
        for _ in range(40):
            await call(client)
        await client.flush()
        admission.is_up = False
        start = asyncio.get_running_loop().time()
        waiting = [asyncio.create_task(alone(client)) for _ in range(8)]
        await asyncio.sleep(10)
        moments[:] = [moment - start for moment in moments]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def alone(client):
        permit = await client.acquire(ASK)
        assert (permit.queue_wait_s, permit.rate_wait_s) == (0.0, 0.0)
        moments.append(asyncio.get_running_loop().time())

    play(script)
    assert moments == pytest.approx([0.0, 0.0, 0.5], abs=0.05)


@pytest.mark.parametrize(("granted_since", "alone"), [(0, 3), (1, 2), (2, 1), (3, 0), (9, 0)])
def test_what_was_granted_since_a_share_was_told_is_taken_off_it(granted_since, alone):
    permits = []

    async def script(client, admission):
        admission.budget = Amount(0, 70, 100)  # of tokens: three calls
        for _ in range(40 - granted_since):
            await call(client)
        admission.tells_budgets = False
        for _ in range(granted_since):
            await call(client)
        await client.flush()
        admission.is_up = False
        waiting = [asyncio.create_task(client.acquire(ASK)) for _ in range(8)]
        await asyncio.sleep(10)
        permits[:] = [task.result() for task in waiting if task.done()]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    play(script)
    assert len(permits) == alone


def test_permit_says_how_long_its_request_waited():
    async def script(client, _):
        permit = await call(client)
        assert (permit.queue_wait_s, permit.rate_wait_s) == (0.25, 0.5)

    play(script)


def test_flush_waits_for_the_settlements_of_its_run_only():
    async def script(client, admission):
        admission.is_told_of = ("run", "other")
        other = await client.acquire(PermitRequest("other", "account", "m", 1, 1))
        held = await client.acquire(ASK)
        await client.flush()
        mine = await client.acquire(ASK)
        admission.takes_s = [1.0]
        other.release(AttemptOutcome.OK)
        await client.flush("run")
        await asyncio.sleep(0.05)
        assert asyncio.get_running_loop().time() < 0.1
        mine.release(AttemptOutcome.OK)
        await client.flush("run")
        assert asyncio.get_running_loop().time() < 0.2
        await client.flush()
        assert asyncio.get_running_loop().time() == pytest.approx(1.05, abs=0.05)
        held.release(AttemptOutcome.OK)

    play(script)


def test_limits_and_spending_of_a_run_are_known_after_its_first_call():
    async def script(client, _):
        assert client.budget_left("run") is None
        await call(client)
        limits, spent = client.budget_left("run")
        assert (limits.tokens, spent) == (None, Amount())

    play(script)


def test_attempt_that_is_cancelled_or_left_is_settled_so():
    async def script(client, _):
        async def attempt():
            async with client.permit(ASK):
                await asyncio.Event().wait()

        task = asyncio.create_task(attempt())
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(ValueError, match="broke"):
            async with client.permit(ASK):
                raise ValueError("broke")
        await client.flush()

    outcomes = [settle.outcome for _, message in play(script).messages for settle in message.settles]
    assert outcomes == [AttemptOutcome.CANCELLED, AttemptOutcome.UNKNOWN]


@pytest.mark.parametrize(
    ("headers", "retry_after_s", "facts"),
    [
        (None, None, None),
        ({}, None, None),
        (None, 3.0, RateLimitHeaders({}, None, 3.0)),
        ({}, 0.0, RateLimitHeaders({}, None, 0.0)),
        ({"retry-after": "7"}, None, RateLimitHeaders({}, None, 7.0)),
        ({"retry-after": "7"}, 3.0, RateLimitHeaders({}, None, 3.0)),
        ({"x-ratelimit-limit-requests": "60"}, 3.0, RateLimitHeaders({"requests": 60.0}, None, 3.0)),
    ],
)
def test_what_a_provider_said_of_its_limits_is_settled_once(headers, retry_after_s, facts):
    settled = []
    permit = Permit(ASK, settled.append, lambda: 0.0)
    assert (permit.settled, permit.queue_wait_s, permit.rate_wait_s) == (False, 0.0, 0.0)
    permit.release(
        AttemptOutcome.RATE_LIMITED, None, None, headers, retry_after_s=retry_after_s, why="too many"
    )
    permit.release(AttemptOutcome.OK)
    assert permit.settled is True
    assert [(each.outcome, each.rate_headers, each.why) for each in settled] == [
        (AttemptOutcome.RATE_LIMITED, facts, "too many")
    ]
