"""Limits hold whatever the provider does: the time of runs, batches and map-reduces, and a budget that many calls share.

The budget is judged by the provider's own ledger, at its own prices.
"""

from __future__ import annotations

import json
import socket
import time
from contextlib import contextmanager

import pytest

from rlm_ray import Limits, Price
from rlm_ray.llm.litellm_client import import_litellm
from rlm_ray.testing import Drop, Failure, Hang, ModelServer, Raw, Slow
from rlm_ray.testing.responses import is_session

pytestmark = pytest.mark.ray

TIME_S = 2.0
LATE_S = 8.0
"""More than a busy machine needs, and less than any habit here would last."""
PRICE = Price(input_usd=10.0, output_usd=20.0)
WORDS = "word " * 400
TRUE_INPUT, TRUE_OUTPUT = 1_000, 500
TRUE_USD = (TRUE_INPUT * PRICE.input_usd + TRUE_OUTPUT * PRICE.output_usd) / 1e6

HABITS = {
    "429 for ever": Failure(429, "slow down"),
    "429 with Retry-After: 600": Failure(429, "slow down", headers={"retry-after": "600"}),
    "503 for ever": Failure(503, "overloaded"),
    "503 with Retry-After: 600": Failure(503, "overloaded", headers={"retry-after": "600"}),
    "no byte": Hang(60.0),
    "a dribbling body": Slow("late", 60.0, 100),
    "a dropped connection": Drop(),
}


@contextmanager
def ends_in_time():
    started = time.monotonic()
    yield
    assert time.monotonic() - started < TIME_S + LATE_S


def after_one_turn(habit):
    """A session that knows something, and then meets the habit, in its last call too."""
    return lambda request: "```python\nprint('known: 42')\n```" if request.turn <= 1 else habit


@pytest.mark.parametrize("habit", HABITS)
def test_a_run_ends_in_time(ask, habit):
    with ModelServer(after_one_turn(HABITS[habit])) as server:
        rlm = ask(server, limits=Limits(time_s=TIME_S))
        with ends_in_time():
            result = rlm.run("q?", "text")
    assert (result.stop_reason, result.answer) == ("time_s", "Last output:\nknown: 42\n")


@pytest.mark.parametrize("habit", ["429 with Retry-After: 600", "no byte", "a dribbling body"])
@pytest.mark.parametrize("code", [
    "recursive_map('q', ['a', 'b'] * 20)", "recursive_llm('q', 'a')", "recursive_llm('q', context)", "map_reduce('q', context)",
])  # fmt: skip
def test_a_run_that_waits_for_its_sub_calls_ends_in_time(ask, habit, code):
    def script(request):
        return (
            f"```python\nprint('known: 42'); r = {code}\n```"
            if request.turn == 1 and is_session(request)
            else HABITS[habit]
        )

    with ModelServer(script) as server:
        rlm = ask(server, limits=Limits(time_s=TIME_S), max_depth=2, max_leaf_chars=100)
        with ends_in_time():
            assert rlm.run("q?", "text " * 100).stop_reason == "time_s"


def test_a_run_whose_code_never_ends_ends_in_time(ask):
    with ModelServer(lambda _: "```python\nprint(1)\nwhile True:\n    pass\n```") as server:
        rlm = ask(server, limits=Limits(time_s=TIME_S))
        with ends_in_time():
            assert rlm.run("q?", "text").stop_reason == "time_s"


@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_a_run_without_a_provider_ends_in_time(ask, server, kind):
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        if kind == "silent":
            port.listen(50)
        address = f"http://127.0.0.1:{port.getsockname()[1]}/v1"
        rlm = ask(server, api_base=address, limits=Limits(time_s=TIME_S), max_attempts=100)
        with ends_in_time():
            assert rlm.run("q?", "text").stop_reason == "time_s"


@pytest.mark.parametrize("max_depth", [0, 1])
@pytest.mark.parametrize(
    "habit", ["429 with Retry-After: 600", "503 for ever", "no byte", "a dribbling body"]
)
def test_a_batch_ends_in_time_with_the_answers_that_it_has(ask, habit, max_depth):
    def script(request):
        if "good" in str(request.messages):
            return "known" if max_depth == 0 else "```python\nprint(context)\nFINAL('known')\n```"
        return HABITS[habit]

    with ModelServer(script) as server:
        rlm = ask(server, limits=Limits(time_s=TIME_S), max_depth=max_depth, max_attempts=100)
        with ends_in_time():
            rows = rlm.map("q?", ["good", *["bad"] * 5, "good"])
    assert {row.stop_reason for row in rows[1:6]} == {"time_s"}


@pytest.mark.parametrize("habit", ["429 with Retry-After: 600", "no byte", "a dribbling body"])
def test_a_map_reduce_ends_in_time(ask, habit):
    import_litellm()  # its prices are for the plan, before the run begins
    with ModelServer(lambda _: HABITS[habit]) as server:
        rlm = ask(server, limits=Limits(time_s=TIME_S))
        with ends_in_time():
            assert rlm.map_reduce("q?", ["some text"] * 8).stop_reason == "time_s"


def answered(usage):
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": WORDS}}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "any", "choices": [choice]}
    return Raw(json.dumps(body if usage is None else body | {"usage": usage}).encode())


def counted(read, written):
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


USAGES = {
    "counted": counted(TRUE_INPUT, TRUE_OUTPUT),
    "no usage": None,
    "zeros": counted(0, 0),
    "-1": counted(-1, -1),
    "text": {"prompt_tokens": "many", "completion_tokens": "some"},
    "only a total": {"total_tokens": TRUE_INPUT + TRUE_OUTPUT},
}


@pytest.mark.parametrize("usage", USAGES)
@pytest.mark.parametrize("limit", ["cost_usd", "tokens"])
def test_two_hundred_parallel_calls_stay_under_a_budget_that_affords_twenty(ask, usage, limit):
    """The provider bills 1,000 + 500 tokens a call, whatever it says of them."""
    affords = 20
    limits = (
        Limits(cost_usd=affords * TRUE_USD)
        if limit == "cost_usd"
        else Limits(tokens=affords * (TRUE_INPUT + TRUE_OUTPUT))
    )
    with ModelServer(lambda _: answered(USAGES[usage]), latency_s=0.05) as server:
        rlm = ask(server, max_depth=0, max_tokens=600, limits=limits, prices={"openai/root": PRICE})
        rows = rlm.map("q?", ["hello " * 950] * 200)
        calls = server.calls
    billed = calls * TRUE_USD if limit == "cost_usd" else calls * (TRUE_INPUT + TRUE_OUTPUT)
    allowed = limits.cost_usd if limit == "cost_usd" else limits.tokens
    print(f"\n{usage}: {calls} of 200 calls, the provider bills {billed:.6g} of {allowed:.6g} {limit}")  # noqa: T201 - shown with -s
    assert affords / 2 < calls
    assert billed <= allowed
    assert {row.stop_reason for row in rows} == {"answered", limit}
    assert sum(row.answered for row in rows) == calls
