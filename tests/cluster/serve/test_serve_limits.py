"""What a key may use, and that nobody else is stopped by it."""

from __future__ import annotations

import time

import openai
import pytest
from serve_waiting import MODEL, QUICK, SLOW, asked

pytestmark = pytest.mark.ray


def ask(client, text=QUICK):
    return client.chat.completions.create(model=MODEL, messages=asked(text))


def test_a_spent_budget_stops_only_its_own_key(site):
    poor = site.client("poor")
    codes = []
    while codes[-1:] != ["insufficient_quota"] and len(codes) < 60:
        try:
            ask(poor)
        except openai.APIStatusError as error:
            codes.append(error.code)
        else:
            codes.append("answered")
    assert codes[-1] == "insufficient_quota"
    assert codes.count("answered") >= 3
    with site.http("poor") as http:
        usage = http.get("/v1/usage").json()
    assert usage["budget_usd"] == 0.01
    assert 0.005 < usage["cost_usd"] <= 0.01
    assert ask(site.client("ann")).choices[0].message.content == "session done"


def test_a_key_with_one_slot_is_told_to_come_again_while_that_is_taken(site):
    client = site.client("narrow")
    begun = client.responses.create(model=MODEL, input=SLOW, background=True)
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client)
    assert caught.value.code == "concurrency_exceeded"
    assert int(caught.value.response.headers["retry-after"]) > 0
    client.responses.cancel(begun.id)
    assert ask(client).choices[0].message.content == "session done"


def test_a_key_above_its_rate_is_told_when_to_come_again(site):
    client = site.client("slow")
    ask(client)
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client)
    assert caught.value.code == "rate_limit_exceeded"
    assert 0 < int(caught.value.response.headers["retry-after"]) <= 60


@pytest.mark.parametrize("direct", [True, False], ids=["a plain call", "a session"])
def test_a_chat_ends_with_its_time_where_the_provider_refuses_for_ever(site, direct):
    ask(site.client())  # the actors of the service are up
    wishes = {"direct_without_context": direct, "limits": {"time_s": 3}}
    started = time.monotonic()
    with pytest.raises(
        openai.BadRequestError, match=r"the time limit of 3 s is over; raise limits\.time_s"
    ) as caught:
        site.client().chat.completions.create(
            model="refused", messages=asked("Who?"), extra_body={"rlm": wishes}
        )
    assert caught.value.code == "time_s"
    assert 2.5 < time.monotonic() - started < 12
