"""The registry: limits of keys over all replicas, budgets that are never overspent, and runs of dead replicas."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.cluster.detached_actor import service_stub
from rlm_ray.config import Settings
from rlm_ray.errors import ClusterError, JournalError
from rlm_ray.events.usage import CANCELLED
from rlm_ray.journal.run_store import RunStore
from rlm_ray.serve import run_manager
from rlm_ray.serve.api_keys import ApiKey
from rlm_ray.serve.registry_actor import FOLDER, STATE, RunRegistryActor
from rlm_ray.serve.run_manager import RunManager, SubmittedRun
from rlm_ray.serve.run_registry import (
    REPLICA_TIMEOUT_S,
    UNCLAIMED_S,
    AdmissionRequest,
    Admitted,
    Duplicate,
    KeySpending,
    Rejected,
    RunRegistry,
    registry_from_state,
)
from rlm_ray.serve.run_store import StoredRequest
from rlm_ray.util.rpc import RpcServer
from rlm_ray.util.rpc_service import service_of

HASH = "0" * 64


def ask(run_id="r1", replica="a", max_runs=100, cost_usd=None, *, lasting=False, again=("", ""), **rights):
    return AdmissionRequest(
        run_id, ApiKey("ann", HASH, **rights), replica, max_runs, cost_usd, lasting, *again
    )


def code_of(answer):
    return answer.code if isinstance(answer, Rejected) else type(answer).__name__


def test_runs_are_counted_over_all_replicas_until_they_are_settled():
    registry = RunRegistry()
    assert code_of(registry.admit(ask("r1", "a", concurrency=2), 0)) == "Admitted"
    assert code_of(registry.admit(ask("r2", "b", concurrency=2), 0)) == "Admitted"
    assert code_of(registry.admit(ask("r3", "b", concurrency=2), 0)) == "concurrency_exceeded"
    registry.settle("r1", KeySpending(1))
    assert code_of(registry.admit(ask("r4", "b", concurrency=2), 0)) == "Admitted"


def test_who_asks_again_because_the_answer_was_lost_has_its_ticket_still():
    registry = RunRegistry()
    asked = ask("r1", concurrency=1, budget_usd=1.0, lasting=True, again=("k", "d"))
    assert registry.admit(asked, 0) == registry.admit(asked, 1) == Admitted(0.05)
    assert len(registry.leases) == 1


def test_a_full_service_says_so():
    registry = RunRegistry()
    registry.admit(ask("r1", max_runs=1), 0)
    refused = registry.admit(ask("r2", max_runs=1), 0)
    assert (refused.code, refused.status) == ("service_busy", 429)
    assert refused.retry_after_s > 0


def test_a_rate_allows_a_burst_and_then_its_pace():
    registry = RunRegistry()
    codes = [code_of(registry.admit(ask(f"r{n}", rpm=30), 0)) for n in range(7)]
    assert codes == ["Admitted"] * 5 + ["rate_limit_exceeded"] * 2
    refused = registry.admit(ask("x", rpm=30), 1.0)
    assert refused.retry_after_s == pytest.approx(1.0)
    assert code_of(registry.admit(ask("y", rpm=30), 2.0)) == "Admitted"


def test_a_run_gets_a_share_of_its_keys_budget_or_its_own_limit_if_that_is_less():
    registry = RunRegistry()
    assert registry.admit(ask("r1", budget_usd=10.0), 0) == Admitted(0.5)
    assert registry.admit(ask("r2", budget_usd=10.0, cost_usd=0.2), 0) == Admitted(0.2)
    assert registry.admit(ask("r3", budget_usd=10.0, run_usd=4.0), 0) == Admitted(4.0)
    assert registry.admit(ask("r4", cost_usd=0.3), 0) == Admitted(0.3)
    assert registry.admit(ask("r5"), 0) == Admitted(None)


def test_what_runs_hold_is_not_given_twice_and_a_spent_budget_is_said_to_be_spent():
    registry = RunRegistry()
    rights = {"budget_usd": 1.0, "run_usd": 0.6}
    assert registry.admit(ask("r1", **rights), 0) == Admitted(0.6)
    assert registry.admit(ask("r2", **rights), 0) == Admitted(pytest.approx(0.4))
    assert code_of(registry.admit(ask("r3", **rights), 0)) == "budget_held"
    registry.settle("r1", KeySpending(1, cost_usd=0.6))
    registry.settle("r2", KeySpending(1, cost_usd=0.4))
    refused = registry.admit(ask("r4", **rights), 0)
    assert (refused.code, refused.status, refused.retry_after_s) == ("insufficient_quota", 429, None)
    assert code_of(registry.admit(ask("r5", budget_usd=2.0), 0)) == "Admitted"


def test_a_rest_too_small_for_a_call_is_a_spent_budget_until_there_is_more():
    registry = RunRegistry()
    registry.spent["ann"] = KeySpending(cost_usd=0.99)
    assert registry.admit(ask("r1", budget_usd=1.0), 0) == Admitted(pytest.approx(0.01))
    registry.settle("r1", KeySpending(1), out_of_money=True)
    assert code_of(registry.admit(ask("r2", budget_usd=1.0), 0)) == "insufficient_quota"
    assert code_of(registry.admit(ask("r3", budget_usd=2.0), 0)) == "Admitted"


COSTS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=40)


@given(st.floats(0.01, 5), st.floats(0.01, 5), COSTS)
def test_however_runs_come_and_go_a_key_never_spends_more_than_its_budget(budget, share, runs):
    registry, held = RunRegistry(), {}
    for number, (part, settles) in enumerate(runs):
        answer = registry.admit(ask(f"r{number}", budget_usd=budget, run_usd=share), 0)
        if isinstance(answer, Admitted):
            held[f"r{number}"] = answer.cost_usd * part
        if settles and held:
            run_id = next(iter(held))
            registry.settle(run_id, KeySpending(1, cost_usd=held.pop(run_id)))
    for run_id, cost in held.items():
        registry.settle(run_id, KeySpending(1, cost_usd=cost))
    assert registry.spent.get("ann", KeySpending()).cost_usd <= budget * (1 + 1e-9)


def test_the_same_request_is_the_same_run_and_another_one_is_refused():
    registry = RunRegistry()
    registry.admit(ask("r1", again=("key-1", "digest")), 0)
    assert registry.admit(ask("r2", again=("key-1", "digest")), 1) == Duplicate("r1")
    assert code_of(registry.admit(ask("r3", again=("key-1", "other")), 1)) == "idempotency_key_reused"
    registry.settle("r1", KeySpending(1))
    assert registry.admit(ask("r4", again=("key-1", "digest")), 2) == Duplicate("r1")
    assert code_of(registry.admit(ask("r5", again=("key-1", "digest")), 1e6)) == "Admitted"


def test_a_request_whose_run_failed_may_start_another_one():
    registry = RunRegistry()
    registry.admit(ask("r1", again=("key-1", "digest")), 0)
    registry.settle("r1", KeySpending(1), repeatable=True)
    assert code_of(registry.admit(ask("r2", again=("key-1", "digest")), 1)) == "Admitted"


def test_a_replica_hears_of_its_cancelled_runs_only():
    registry = RunRegistry()
    registry.admit(ask("r1", "a"), 0)
    registry.admit(ask("r2", "b"), 0)
    assert registry.cancel("r1")
    assert not registry.cancel("r9")
    assert registry.listen("b", ("r2",), 1).cancel == ()
    assert registry.listen("a", ("r1",), 1).cancel == ("r1",)
    registry.settle("r1", KeySpending(1))
    assert not registry.listen("a", (), 2)


def test_the_lasting_runs_of_a_silent_replica_are_taken_up_once_and_the_others_accounted_for():
    registry = RunRegistry()
    registry.admit(ask("r1", "a", lasting=True), 0)
    registry.admit(ask("r2", "a"), 0)
    assert not registry.listen("b", (), REPLICA_TIMEOUT_S - 0.1)
    commands = registry.listen("b", (), REPLICA_TIMEOUT_S)
    assert (commands.take_up, commands.account_for) == (("r1",), ("r2",))
    assert not registry.listen("c", (), REPLICA_TIMEOUT_S)


def test_a_jump_of_the_wall_clock_ends_no_replica_and_fills_no_rate():
    registry = RunRegistry()
    registry.admit(ask("r1", "a", lasting=True, rpm=6, again=("k", "d")), 0, 1e9)
    assert code_of(registry.admit(ask("r2", "b", rpm=6), 1, 2e9)) == "rate_limit_exceeded"
    assert not registry.listen("b", (), 2)
    assert code_of(registry.admit(ask("r3", "b", again=("k", "d")), 3, 1e9 + 3)) == "Duplicate"
    assert code_of(registry.admit(ask("r4", "b", again=("k", "d")), 4, 2e9)) == "Admitted"


def test_a_replica_that_leaves_hands_over_at_once():
    registry = RunRegistry()
    registry.admit(ask("r1", "a", lasting=True), 5)
    registry.leave("a")
    assert registry.listen("b", (), 5).take_up == ("r1",)


def test_a_cancelled_run_of_a_dead_replica_is_not_taken_up():
    registry = RunRegistry()
    registry.admit(ask("r1", "a", lasting=True), 0)
    registry.cancel("r1")
    assert registry.listen("b", (), REPLICA_TIMEOUT_S).account_for == ("r1",)


def test_a_registry_goes_on_from_its_state_and_waits_for_the_replicas_it_knew():
    registry = RunRegistry()
    registry.admit(ask("r1", "a", lasting=True, again=("k", "d"), budget_usd=1.0), 0)
    registry.admit(ask("r2", "a"), 0)
    registry.settle("r2", KeySpending(1, 10, 20, 0.25))
    again = registry_from_state(json.loads(json.dumps(registry.state())))
    assert again.spent == {"ann": KeySpending(1, 10, 20, 0.25)}
    assert again.admit(ask("r3", again=("k", "d")), 1) == Duplicate("r1")
    assert not again.listen("b", (), 100)
    assert not again.listen("a", ("r1",), 100 + REPLICA_TIMEOUT_S)
    assert again.listen("b", (), 100 + 3 * REPLICA_TIMEOUT_S).take_up == ("r1",)


async def test_what_the_registry_has_answered_is_in_the_run_store(tmp_path):
    registry = RunRegistryActor(str(tmp_path))
    await registry.admit(ask("r1"))
    await registry.settle("r1", KeySpending(1, 1, 2, 0.5))
    assert (await RunRegistryActor(str(tmp_path)).spent("ann")).cost_usd == 0.5
    assert json.loads(RunStore(str(tmp_path), FOLDER).load(STATE))["tickets"] == []


def test_a_run_that_no_replica_names_any_more_is_given_to_one_again():
    registry = RunRegistry()
    registry.admit(ask("named", "a"), 0)
    registry.admit(ask("silent", "a"), 0)
    registry.admit(ask("lasting", "a", lasting=True), 0)
    registry.admit(ask("settled", "a"), 0)
    for now in range(0, int(UNCLAIMED_S), 5):
        assert not registry.listen("a", ("named", "settled"), now)
    registry.settle("settled", KeySpending())
    given = registry.listen("b", (), UNCLAIMED_S)
    assert (given.take_up, given.account_for) == (("lasting",), ("silent",))
    for now in range(int(UNCLAIMED_S), int(2 * UNCLAIMED_S), 5):  # the word of it was lost
        assert not registry.listen("a", ("named",), now)
        assert not registry.listen("b", (), now)
    assert registry.listen("b", (), UNCLAIMED_S * 2).take_up == ("lasting",)


@pytest.mark.parametrize("error", [JournalError("the run store", "is full"), ClusterError("no answer")])
async def test_a_request_that_is_refused_for_want_of_an_answer_holds_nothing_of_its_key(
    tmp_path, monkeypatch, error
):
    registry = RunRegistryActor(str(tmp_path))
    admit = registry.admit

    async def lost(request):
        await admit(request)
        raise error

    monkeypatch.setattr(registry, "admit", lost)
    manager = RunManager(SimpleNamespace(settings=lambda _: Settings()), registry, max_runs=10)
    request = StoredRequest("20260101-000000-abcdef", "ann", "chat", "m", 0.0, "why?")
    key = ask(concurrency=1, budget_usd=1.0).key
    with pytest.raises(type(error)):
        await manager.start(SubmittedRun(request, key, load=None, idempotency="again", digest="d"))
    await asyncio.gather(*manager._background_tasks)
    assert await registry.stats() == {"runs": 0, "keys": 1, "remembered": 0, "replicas": 1, "cancelled": 0}


@pytest.mark.parametrize("idempotency", ["", "again"])
async def test_a_run_is_cancelled_with_its_client_unless_the_client_will_come_again(tmp_path, idempotency):
    async def wait_forever(*_, **__):
        await asyncio.Event().wait()

    def folder(run_id):
        return RunStore(str(tmp_path), run_id)

    launcher = SimpleNamespace(settings=lambda _: Settings(), start=wait_forever, folder=folder)
    manager = RunManager(launcher, RunRegistryActor(str(tmp_path)), max_runs=10)
    request = StoredRequest("20260101-000000-abcdef", "ann", "chat", "m", 0.0, "why?")
    run_id = await manager.start(
        SubmittedRun(request, ask().key, load=None, idempotency=idempotency, digest="d")
    )
    task = manager._local_runs[run_id].task
    await asyncio.sleep(0)
    async with manager.client_attached(run_id):
        pass
    assert bool(task.cancelling()) is not bool(idempotency)
    await manager.cancel(run_id)
    assert (await manager.end(run_id))[0].error_kind == CANCELLED


async def test_a_request_that_is_repeated_while_it_is_saved_has_its_run(tmp_path, monkeypatch):
    may_save = threading.Event()
    monkeypatch.setattr(run_manager, "save_request", lambda *_: may_save.wait(10))

    async def fail(*_, **__):
        raise ClusterError("no actor")

    launcher = SimpleNamespace(
        settings=lambda _: Settings(),
        start=fail,
        folder=lambda run_id: RunStore(str(tmp_path), run_id),
        run_dir=str(tmp_path),
    )
    manager, key = RunManager(launcher, RunRegistryActor(str(tmp_path)), max_runs=10), ask().key
    request = StoredRequest("20260101-000000-abcdef", "ann", "chat", "m", 0.0, "why?", background=True)
    submitted = SubmittedRun(request, key, load=None, idempotency="again", digest="d")
    first = asyncio.create_task(manager.start(submitted))
    while not manager._saving:  # noqa: ASYNC110 - for a task of this loop
        await asyncio.sleep(0)
    again = replace(submitted, request=replace(request, run_id="20260101-000000-fedcba"))
    assert await manager.start(again) == request.run_id
    assert await manager.stored_request(request.run_id, key) == request
    may_save.set()
    await first
    await asyncio.wait([manager._local_runs[request.run_id].task])
    assert not manager._saving


async def test_many_changes_at_once_are_all_saved(tmp_path):
    registry = RunRegistryActor(str(tmp_path))
    await asyncio.gather(*(registry.admit(ask(f"r{n}", lasting=True)) for n in range(50)))
    state = json.loads(RunStore(str(tmp_path), FOLDER).load(STATE))
    assert len(state["tickets"]) == 50


async def test_a_listener_hears_of_a_cancellation_at_once(tmp_path):
    registry = RunRegistryActor(str(tmp_path))
    await registry.admit(ask("r1", "a"))
    listening = asyncio.create_task(registry.listen("a", ("r1",)))
    await asyncio.sleep(0)
    await registry.cancel("r1")
    assert (await listening).cancel == ("r1",)


async def test_the_secret_of_links_is_made_once_for_a_run_store(tmp_path):
    registry = RunRegistryActor(str(tmp_path / "a"))
    found = set(await asyncio.gather(*(registry.link_secret() for _ in range(5))))
    found.add(await RunRegistryActor(str(tmp_path / "a")).link_secret())
    assert [len(secret) for secret in found] == [32]
    assert await RunRegistryActor(str(tmp_path / "b")).link_secret() not in found


async def test_a_replica_calls_the_registry_over_a_connection(tmp_path, monkeypatch):
    registry = RunRegistryActor(str(tmp_path))
    service = service_of(RunRegistryActor)
    server = RpcServer(registry, frozenset(service.methods), b"token", service.codec)
    address = await server.listen("127.0.0.1")
    stub = service_stub(RunRegistryActor, "run registry", lambda _: lambda: asyncio.sleep(0, address))
    assert isinstance(await stub.admit(ask("r1", cost_usd=2.0)), Admitted)
    assert await stub.is_open("r1")
    await stub.settle("r1", KeySpending(1, 1, 2, 0.5), repeatable=False, out_of_money=True)
    assert not await stub.is_open("r1")
    assert (await stub.spent("ann")).cost_usd == 0.5
    assert await stub.link_secret() == await registry.link_secret()

    def full(*_):
        raise JournalError("the run store", "is full")

    monkeypatch.setattr(registry._folder, "save", full)
    with pytest.raises(JournalError, match="is full"):
        await stub.admit(ask("r2"))
    await stub.aclose()
    await server.close()
