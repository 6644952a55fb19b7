"""One admission over real actors: what limits stop, what is shared, what survives, and whether the books are right."""

from __future__ import annotations

import asyncio
import time

import pytest
import ray
from waiting import until

from rlm_ray import LimitReached, Limits, Price, Rates
from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.cluster.services import admission_actor, admission_stub
from rlm_ray.errors import ConfigError
from rlm_ray.testing import Faults, ModelServer, Quota, StrictProvider
from rlm_ray.testing.responses import is_session, recursion, run_query

pytestmark = pytest.mark.ray

TEXT = "some words here " * 1_000
PRICES = {"openai/root": Price(input_usd=1.0, output_usd=4.0)}
LEAVES = run_query("r = recursive_map('q', [context[i:i+100] for i in range(0, 16000, 100)]); print(len(r))")
BELOW = run_query("r = recursive_map('q', [context[i:i+50] for i in range(0, 200, 50)])")
TREE = run_query(
    f"r = recursive_map('''{BELOW}''', [context[i:i+250] for i in range(0, 16000, 250)]); print(len(r))"
)
"""64 children that each ask 4 times."""


def spending(request):
    """A tree that spends, and an answer for the last call."""
    if "has to end now" in request.last:
        return "best so far"
    return recursion(request) if is_session(request) else "an answer of some length " * 10


def counted():
    """A provider that refuses nothing and keeps a ledger."""
    return StrictProvider(spending, Quota(rpm=10**9))


def kill_admission(*, no_restart):
    ray.kill(admission_actor(), no_restart=no_restart)


@pytest.fixture(scope="module")
def whole_tree(cluster):
    """What `TREE` uses without a limit."""
    from rlm_ray import RLM

    with ModelServer(spending) as server:
        rlm = RLM(
            model="openai/root", api_base=server.url, api_key="k", cluster=cluster,
            max_depth=2, max_leaf_chars=100, max_tokens=200, prices=PRICES,
        )  # fmt: skip
        return rlm.run(TREE, TEXT).usage.total


@pytest.mark.parametrize("limit", ["tokens", "cost_usd", "calls"])
def test_a_tree_that_would_spend_ten_times_the_limit_stays_within_it(ask, whole_tree, limit):
    unlimited = {"tokens": whole_tree.tokens, "cost_usd": whole_tree.cost_usd, "calls": whole_tree.calls}
    most = unlimited[limit] / 10 if limit == "cost_usd" else unlimited[limit] // 10
    provider = counted()
    with ModelServer(provider, latency_s=0.02) as server:
        rlm = ask(
            server,
            max_depth=2,
            max_leaf_chars=100,
            max_tokens=200,
            prices=PRICES,
            limits=Limits(**{limit: most}),
        )
        with pytest.raises(LimitReached, match=r"limit of .* is reached") as caught:
            rlm.completion(TREE, TEXT)
        stats = server.stats()
    assert (caught.value.reason, caught.value.partial) == (limit, "best so far")
    inputs, outputs = sum(stats.input_tokens.values()), sum(stats.output_tokens.values())
    spent = {
        "tokens": provider.ledger().tokens,
        "cost_usd": (inputs * 1.0 + outputs * 4.0) / 1e6,
        "calls": stats.answers["200"],
    }
    assert 0.4 * most < spent[limit] <= most


def test_more_sessions_than_the_limit_are_not_opened(ask):
    with ModelServer(spending) as server:
        result = ask(server, max_depth=2, max_leaf_chars=100, limits=Limits(sessions=10)).run(TREE, TEXT)
        assert server.calls == 2
    assert (result.stop_reason, result.answer) == ("sessions", "best so far")
    assert "limit of 10 sessions is reached: 1 opened, 64 more wanted" in result.why


def test_an_unknown_price_under_a_cost_limit_is_refused_before_any_call(ask):
    with ModelServer(spending) as server:
        rlm = ask(server, limits=Limits(cost_usd=1.0))
        with pytest.raises(ConfigError, match=r"price of 'openai/root' is not known; give it as prices="):
            rlm.run(TREE, TEXT)
        assert server.calls == 0


def test_usage_is_what_the_provider_counted_to_the_token_whatever_failed(ask):
    """Answers, errors, 429s and lost connections: what arrived is booked as the provider reported it, and what was
    answered but never arrived is as many `unknown` as the provider dropped."""
    faults = Faults(error_rate=0.1, drop_rate=0.05, seed=3)
    provider = StrictProvider(spending, Quota(rpm=30, window_s=1.0, headers=False), faults)
    with ModelServer(provider, latency_s=0.02) as server:
        result = ask(server, max_depth=2, max_leaf_chars=100, max_attempts=30).run(TREE, TEXT)
        stats, ledger = server.stats(), provider.ledger()
    used = result.usage.total
    assert result.answered, result
    dropped, failed = ledger.faults["drop"], ledger.faults["500"] + ledger.faults["529"]
    refused = sum(ledger.refused.values())
    assert min(dropped, failed, refused) > 0
    assert used.input_tokens == sum(stats.input_tokens.values())
    assert used.output_tokens == sum(stats.output_tokens.values())
    assert used.calls == stats.answers["200"] == 2 + 64 * 2 + 64 * 4
    assert (used.attempts, used.unknown) == (stats.calls, dropped)
    assert used.retries == dropped + failed + refused
    assert used.calls + used.unknown == ledger.admitted
    assert sum(tally.tokens for tally in result.usage.by_depth.values()) == used.tokens < ledger.tokens


@pytest.mark.parametrize("no_restart", [False, True])
async def test_a_killed_admission_costs_time_and_nothing_else(ask, no_restart):
    provider = counted()
    with ModelServer(provider, latency_s=0.02) as server:
        run = await ask(server, rates=Rates(rpm=3000)).astart(LEAVES, TEXT)
        await until(lambda: server.calls > 60)
        kill_admission(no_restart=no_restart)
        result = await run.result()
    assert result.answer == "session done"
    assert result.usage.total.calls == server.calls == 2 + 160
    assert result.usage.total.tokens == provider.ledger().tokens


async def test_a_killed_admission_forgets_no_budget(ask, whole_tree):
    provider = counted()
    most = whole_tree.tokens // 3
    with ModelServer(provider, latency_s=0.05) as server:
        options = {"max_depth": 2, "max_leaf_chars": 100, "max_tokens": 200, "limits": Limits(tokens=most)}
        run = await ask(server, **options).astart(TREE, TEXT)
        await until(lambda: server.calls > 50)
        kill_admission(no_restart=False)
        result = await run.result()
    assert (result.stop_reason, result.answer) == ("tokens", "best so far")
    assert 0.4 * most < provider.ledger().tokens <= most


async def test_two_runs_at_once_share_the_rate(ask):
    provider = counted()
    with ModelServer(provider, latency_s=0.02) as server:
        rlm = ask(server, rates=Rates(rpm=3000))
        started = time.monotonic()
        results = await asyncio.gather(rlm.arun(LEAVES, TEXT), rlm.arun(LEAVES, TEXT))
        took_s = time.monotonic() - started
    assert [result.answer for result in results] == ["session done"] * 2
    assert took_s >= (2 * 162 - 50) / 50
    assert all(result.usage.total.calls == 162 for result in results)


async def test_a_dead_actors_permits_come_back(ask, cluster):
    """Its places in flight are free again long before their time to live is over."""
    with ModelServer(spending, latency_s=1.0) as server:
        engine = await ClusterDriver.connect(cluster)
        run = await ask(server, max_depth=2, max_leaf_chars=0, rates=Rates(in_flight=8)).astart(TREE, TEXT)
        await until(lambda: server.calls >= 9 and server.in_flight == 8)
        handles = await engine._pool.handles.remote()
        ray.kill(next(handle for name, handle in handles.items() if name != run.actor))
        await asyncio.sleep(1.5)  # what the dead actor had under way is over
        server.reset()
        await until(lambda: server.peak_in_flight == 8, 30.0)
        await run.stop()
        await run.result()
    await engine.grow_to(2)


async def test_a_run_that_is_over_leaves_nothing_at_the_admission(ask, cluster):
    with ModelServer(spending) as server:
        result = await ask(server).arun(LEAVES, TEXT)
    assert result.usage.total.calls == 162
    assert (await admission_stub().usage(result.run_id)).rows == {}
