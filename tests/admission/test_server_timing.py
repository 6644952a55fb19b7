"""When the admission answers, of what it tells whom, and whom it forgets; in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from virtual_time import in_virtual_time

from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import (
    AttemptOutcome,
    ClientMessage,
    PermitRequest,
    Resume,
    RunPolicy,
    RunSnapshot,
    ServerMessage,
    Settle,
)
from rlm_ray.admission.server import AdmissionServer
from rlm_ray.core.limits import Amount, Limits, Rates
from rlm_ray.core.llm import Usage


def ask(request_id, run="run", client="c"):
    return PermitRequest(run, "account", "m", 10, 10, request_id=request_id, client_id=client)


def message(*asks, client="c", **more):
    return ClientMessage(client, "epoch", asks, **more)


def play(script, **rates):
    """Run a script with a server whose one run has these rates; returns what the script returns."""

    async def work():
        server = AdmissionServer(AdmissionController(), "epoch", clock=asyncio.get_running_loop().time)
        await server.open_run(RunPolicy("run", Limits(tokens=1000), Rates(**rates)))
        result.append(await script(server))

    result = []
    in_virtual_time(work())
    return result[0]


def now():
    return asyncio.get_running_loop().time()


def test_message_for_another_start_of_the_admission_changes_nothing():
    async def script(server):
        assert await server.exchange(ClientMessage("c", "before", (ask("a"),))) == ServerMessage("epoch")
        assert (await server.stats())["permits"] == 0
        return await server.exchange(ClientMessage("c", None, (ask("a"),)))

    assert [verdict.request_id for verdict in play(script).verdicts] == ["a"]


def test_long_poll_is_answered_after_ten_seconds_or_with_the_first_decision():
    async def script(server):
        await server.exchange(message(ask("a")))
        nothing = await server.exchange(message(ask("b"), long_poll=True))
        assert (nothing.verdicts, now()) == ((), 10.0)
        polling = asyncio.create_task(server.exchange(message(long_poll=True)))
        await asyncio.sleep(1.5)
        await server.exchange(message(settles=(Settle("a", AttemptOutcome.OK, Usage(1, 1)),), client="d"))
        verdicts = (await polling).verdicts
        return now(), [verdict.request_id for verdict in verdicts]

    assert play(script, in_flight=1) == (11.5, ["b"])


def test_newer_message_of_a_client_ends_its_long_poll():
    async def script(server):
        await server.exchange(message(ask("a")))
        polling = asyncio.create_task(server.exchange(message(ask("b"), long_poll=True)))
        await asyncio.sleep(2)
        await server.exchange(message(client="other"))
        await asyncio.sleep(1)
        assert not polling.done()
        await server.exchange(message())
        assert (await polling).verdicts == ()
        return now()

    assert play(script, in_flight=1) == 3.0


def test_message_that_does_not_poll_is_answered_at_once():
    async def script(server):
        replies = await server.exchange(message(ask("a"), ask("b")))
        return now(), len(replies.verdicts)

    assert play(script, in_flight=1) == (0.0, 1)


def test_decision_that_time_alone_brings_comes_in_time():
    async def script(server):
        await server.exchange(message(*map(ask, "abc")))
        moments = []
        for _ in range(2):
            assert len((await server.exchange(message(long_poll=True))).verdicts) == 1
            moments.append(now())
        return moments

    assert play(script, rpm=60) == pytest.approx([1.0, 2.0], abs=0.002)


def test_client_hears_of_each_run_once_and_of_budgets_at_most_ten_times_a_second():
    async def script(server):
        await server.open_run(RunPolicy("other"))
        told = []
        for wait_s, asks in [(0, "a"), (0.05, "b"), (0.049, ""), (0.002, ""), (0.05, ""), (0.051, "")]:
            await asyncio.sleep(wait_s)
            replies = await server.exchange(message(*map(ask, asks)))
            told.append((len(replies.runs), replies.budget_shares and len(replies.budget_shares)))
        replies = await server.exchange(message(ask("x", "other"), ask("y", "unknown")))
        told.append((len(replies.runs), len(replies.budget_shares)))
        await server.close_run("run", 0.0)
        await asyncio.sleep(1)
        assert [share.run_id for share in (await server.exchange(message())).budget_shares] == ["other"]
        return told

    none, once = (0, None), (0, 1)
    assert play(script) == [(1, 1), none, none, once, none, once, (1, 2)]


def test_client_that_resumes_hears_of_the_runs_it_named():
    async def script(server):
        resume = Resume((RunSnapshot(RunPolicy("mine", Limits(tokens=100)), Amount(tokens=7)),))
        return await server.exchange(message(resume=resume))

    replies = play(script)
    assert [policy.run_id for policy in replies.runs] == ["mine"]
    assert [(share.run_id, share.spent.tokens) for share in replies.budget_shares] == [("mine", 7)]


@pytest.mark.parametrize(("silent_s", "clients"), [(59.9, 2), (60.0, 1)])
def test_client_is_gone_after_a_minute_of_silence(silent_s, clients):
    async def script(server):
        driver = asyncio.create_task(server.hold_run("run"))
        await server.exchange(message(ask("a")))
        await asyncio.sleep(silent_s)
        await server.exchange(message(client="other"))
        driver.cancel()
        return (await server.stats())["holders"]

    assert play(script) == clients


def test_who_is_gone_is_looked_for_each_ten_seconds():
    async def script(server):
        await server.exchange(message(ask("a")))
        await asyncio.sleep(55)
        await server.exchange(message(client="other"))
        counts = []
        for wait_s in (9.9, 0.1):
            await asyncio.sleep(wait_s)
            counts.append((await server.stats())["holders"])
        return counts

    assert play(script) == [2, 1]


def test_client_that_is_dropped_gives_back_what_it_held():
    async def script(server):
        await server.exchange(message(ask("a")))
        waiting = asyncio.create_task(
            server.exchange(message(ask("b", client="d"), client="d", long_poll=True))
        )
        await asyncio.sleep(0)
        await server.forget_holder("c")
        assert [verdict.request_id for verdict in (await waiting).verdicts] == ["b"]
        assert now() == 0.0
        return (await server.stats())["holders"], (await server.usage("run")).total.unknown

    assert play(script, in_flight=1) == (1, 1)


@pytest.mark.parametrize("long_poll", [False, True])
def test_last_message_of_a_dead_client_takes_nothing_from_the_others_for_long(long_poll):
    async def script(server):
        await server.forget_holder("c")
        await server.exchange(message(ask("a")))
        late = asyncio.create_task(server.exchange(message(ask("z"), long_poll=long_poll)))
        waiting = asyncio.create_task(
            server.exchange(message(ask("b", client="d"), client="d", long_poll=True))
        )
        assert [verdict.request_id for verdict in (await waiting).verdicts] == ["b"]
        assert not (await late).verdicts
        stats = await server.stats()
        return now(), stats["holders"], stats["waiting"]

    assert play(script, in_flight=1) == (3.0, 1, 0)


def test_client_that_was_taken_for_dead_goes_on_while_it_speaks():
    async def script(server):
        await server.exchange(message(ask("a")))
        await server.forget_holder("c")
        await server.exchange(message(ask("b"), settles=(Settle("a", AttemptOutcome.OK, Usage(1, 1)),)))
        for _ in range(5):
            await asyncio.sleep(2.9)
            await server.exchange(message())
        return (await server.stats())["permits"], (await server.usage("run")).total.unknown

    assert play(script, in_flight=1) == (1, 0)


def test_client_that_was_taken_for_dead_polls_each_second():
    async def script(server):
        await server.forget_holder("c")
        await server.exchange(message(ask("a")))
        await server.exchange(message(ask("b"), long_poll=True))
        return now()

    assert play(script, in_flight=1) == 1.0


def test_run_that_is_closed_refuses_who_waits_at_once():
    async def script(server):
        await server.exchange(message(ask("a")))
        waiting = asyncio.create_task(server.exchange(message(ask("b"), long_poll=True)))
        await asyncio.sleep(1)
        usage = await server.close_run("run", 0.0)
        assert [verdict.reason for verdict in (await waiting).verdicts] == ["closed"]
        assert (usage.sessions, await server.status("run")) == (1, None)
        return now()

    assert play(script, in_flight=1) == 1.0


def test_sessions_are_opened_one_at_a_time_unless_said():
    async def script(server):
        policy = RunPolicy("run")
        assert await server.open_sessions(policy) is None
        assert await server.open_sessions(policy, 3) is None
        return (await server.usage("run")).sessions

    assert play(script) == 5
