"""A budget that many requests share is never overspent, by what the provider bills."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import httpx
import pytest
from serve_waiting import eventually

pytestmark = pytest.mark.ray

REQUESTS = 200
BUDGET_USD = 0.02
TEXT = "text " * 400
"""With it a request costs about 0.0005 dollars, and holds 0.001."""


@asynccontextmanager
async def client_of(site, key):
    many = httpx.Limits(max_connections=None)
    headers = {"authorization": f"Bearer sk-{key}"}
    async with httpx.AsyncClient(base_url=site.url, headers=headers, timeout=90, limits=many) as client:
        yield client


async def ask(client, word):
    """How a chat ended: the code of its error."""
    body = {"model": "deep", "messages": [{"role": "user", "content": f"{word} {TEXT}"}]}
    body["rlm"] = {"direct_without_context": True}
    reply = await client.post("/v1/chat/completions", json=body)
    return reply.json()["error"]["code"] if reply.is_error else "answered"


def booked(site, key):
    with site.http(key) as http:
        return http.get("/v1/usage").json()["cost_usd"]


@pytest.mark.parametrize("key", ["crowd", "uncounted"])
async def test_two_hundred_chats_at_once_stay_under_the_budget_of_their_key(site, bills, key):
    async with client_of(site, key) as client:
        first, *later = [
            Counter(await asyncio.gather(*(ask(client, key.upper()) for _ in range(REQUESTS))))
            for _ in range(4)
        ]
    assert first["answered"] >= 20, first
    assert first["budget_held"] > 0
    later = sum(later, Counter())
    assert set(first + later) <= {"answered", "budget_held", "cost_usd", "insufficient_quota"}
    assert later["insufficient_quota"] > 0
    assert BUDGET_USD / 2 < bills.cost_usd(key.upper()) <= booked(site, key) + 1e-9 <= BUDGET_USD + 2e-9


async def test_what_was_under_way_for_clients_that_left_is_charged_to_their_key(site, bills):
    async with client_of(site, "leaving") as client:
        for least_usd in (0.002, 0.004, 0.006):
            asked = [asyncio.create_task(ask(client, "LEAVING")) for _ in range(REQUESTS)]
            async with asyncio.timeout(60):
                while bills.cost_usd("LEAVING") < least_usd:  # noqa: ASYNC110 - a thread counts
                    await asyncio.sleep(0.02)
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
    assert eventually(lambda: bills.cost_usd("LEAVING") <= booked(site, "leaving") + 1e-9, 20)
    assert booked(site, "leaving") <= BUDGET_USD + 1e-9
