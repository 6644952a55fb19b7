"""The one door to a model: admitted, tried again, settled."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from rlm_ray.admission.client import AdmissionClient
from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import RunPolicy
from rlm_ray.admission.server import AdmissionServer
from rlm_ray.config import Settings
from rlm_ray.core.limits import Limits, Rates
from rlm_ray.core.llm import BUDGET_OUTPUT_TOKENS, Message, ModelReply, ModelRequest, Price, Usage
from rlm_ray.core.output_limit import OutputLimit
from rlm_ray.errors import (
    AuthenticationError,
    ConfigError,
    LimitReached,
    ModelError,
    ModelUnavailableError,
    ReplyError,
    TransientModelError,
)
from rlm_ray.journal.call_recorder import CallSite
from rlm_ray.journal.recorder import NullRecorder
from rlm_ray.llm.gateway import Gateway
from rlm_ray.llm.run_context import RunContext
from rlm_ray.testing.scripted_model import ScriptedModel

pytestmark = pytest.mark.usefixtures("closed_clients")

REQUEST = ModelRequest("m", (Message("user", "hi"),))
ANSWER = ModelReply("yes", usage=Usage(10, 5))


def failing(kind, retry_after_s=None):
    return TransientModelError("m", "not now", None, kind, retry_after_s)


class Scripted(ScriptedModel):
    """A scripted model with a price list."""

    prices: dict[str, Price] = {}  # noqa: RUF012 - read only

    def cost_usd(self, model, usage):
        price = self.prices.get(model)
        return price.cost(usage) if price else None

    def output_limit(self, model):
        return OutputLimit()

    def provider_name(self, model):
        return "scripted"


class Bench:
    """A gateway over an admission in this process; sleeps are noted, not slept."""

    def __init__(self, replies, limits=None, rates=None):
        self.model = Scripted(replies)
        self.shell = AdmissionServer(AdmissionController(), "epoch")
        self.client = AdmissionClient("holder", self.shell)
        self.slept = []
        self.cache = None
        self.gateway = Gateway(
            self.model, self.client, open_cache=lambda _: self.cache, sleep=self._sleep, jitter=lambda: 1.0
        )
        self.settings = Settings(limits=limits or Limits(), rates=rates or Rates(), max_attempts=6)

    async def _sleep(self, seconds):
        self.slept.append(seconds)

    async def ask(self, request=REQUEST, role="turn", *, cache=None, **settings):
        await self.shell.open_run(RunPolicy("run", self.settings.limits, self.settings.rates))
        place = CallSite((), 1, role)
        self.cache = cache
        run = RunContext("run", replace(self.settings, cache="folder" if cache else "", **settings))
        return await self.gateway.complete(request, run, place, NullRecorder())

    async def usage(self):
        await self.client.flush()
        return (await self.shell.usage("run")).total


async def test_an_answer_is_settled_with_its_usage_and_its_price():
    bench = Bench([ANSWER])
    reply = await bench.ask(prices={"m": Price(1e6, 2e6)})
    assert (reply.text, reply.cost_usd) == ("yes", 20.0)
    total = await bench.usage()
    assert (total.calls, total.input_tokens, total.output_tokens, total.cost_usd) == (1, 10, 5, 20.0)


async def test_an_unknown_price_is_counted_apart_and_never_zero():
    bench = Bench([ANSWER])
    assert (await bench.ask()).cost_usd is None
    assert (await bench.usage()).unpriced == 1


@pytest.mark.parametrize("transport", ["auto", "litellm"])
async def test_the_provider_is_told_which_transport_the_settings_want(transport):
    bench = Bench([ANSWER])
    await bench.ask(transport=transport)
    assert [request.transport for request in bench.model.requests] == [transport]


@pytest.mark.parametrize("kind", ["server_error", "timeout", "connection"])
async def test_what_may_pass_is_tried_again_with_growing_waits(kind):
    bench = Bench([failing(kind), failing(kind), ANSWER])
    assert (await bench.ask()).text == "yes"
    assert bench.slept == [0.5, 1.0]
    assert (await bench.usage()).retries == 2


async def test_a_wait_the_provider_asks_for_is_kept():
    bench = Bench([failing("server_error", 7.0), ANSWER])
    await bench.ask()
    assert bench.slept == [pytest.approx(7.7)]


async def test_it_gives_up_after_so_many_attempts_and_says_so():
    bench = Bench([failing("timeout")] * 3)
    with pytest.raises(ModelUnavailableError, match="not now; gave up after 3 attempts"):
        await bench.ask(max_attempts=3)


async def test_a_rate_limit_is_waited_out_at_the_admission_and_costs_little_patience():
    bench = Bench([*[failing("rate_limited", 0.001)] * 15, ANSWER])
    assert (await bench.ask(max_attempts=2)).text == "yes"
    assert bench.slept == []


async def test_a_refused_key_is_not_tried_again():
    bench = Bench([AuthenticationError("m", "refused"), ANSWER])
    with pytest.raises(AuthenticationError):
        await bench.ask()
    assert bench.model.remaining == 1


async def test_the_budget_stops_the_call_before_it_is_made():
    bench = Bench([ANSWER] * 9, Limits(calls=3))
    for _ in range(2):
        await bench.ask()
    with pytest.raises(LimitReached, match="limit of 3 calls") as caught:
        await bench.ask()
    assert caught.value.reason == "calls"
    assert (await bench.ask(role="last")).text == "yes"


@pytest.mark.parametrize(
    ("limits", "max_tokens", "sent"),
    [
        (Limits(), None, None),
        (Limits(tokens=10**6), None, BUDGET_OUTPUT_TOKENS),
        (Limits(cost_usd=1.0), 50, 50),
    ],
)
async def test_with_a_budget_every_message_is_bounded(limits, max_tokens, sent):
    bench = Bench([ANSWER], limits)
    await bench.ask(replace(REQUEST, max_tokens=max_tokens), prices={"m": Price(1, 1)})
    assert bench.model.requests[0].max_tokens == sent


async def test_a_name_no_server_knows_is_a_wrong_setting_after_a_few_attempts():
    bench = Bench([failing("no_model_yet")] * 4)
    with pytest.raises(ConfigError, match="model: not now"):
        await bench.ask()
    assert len(bench.slept) == 3


async def test_a_model_that_is_being_loaded_is_waited_for():
    assert (await Bench([*[failing("no_model_yet")] * 3, ANSWER]).ask()).text == "yes"
    assert (await Bench([*[failing("loading")] * 17, ANSWER]).ask()).text == "yes"


def test_a_cost_limit_needs_the_price_of_every_model():
    gateway = Gateway(Scripted([]), AdmissionClient("h", AdmissionServer(AdmissionController(), "e")))
    run = RunContext("run", Settings(limits=Limits(cost_usd=1.0), prices={"known": Price(1, 1)}))
    gateway.check_prices(["known"], run)
    gateway.check_prices(["other"], RunContext("run", Settings()))
    with pytest.raises(ConfigError, match="the price of 'other' is not known; give it as prices="):
        gateway.check_prices(["known", "other"], run)


async def test_a_provider_that_asks_to_wait_for_hours_is_not_waited_for():
    bench = Bench([failing("server_error", 7200.0), ANSWER])
    with pytest.raises(ModelUnavailableError, match="asks to wait 120 minutes"):
        await bench.ask()
    assert bench.slept == []


class FakeCache:
    """Reserves every call; what becomes of its reservations is noted."""

    def __init__(self):
        self.ends = []

    async def get_or_reserve(self, key, run_id, lease_s):
        return self

    async def put(self, reply):
        self.ends.append(reply.text)

    def release(self):
        self.ends.append("released")


@pytest.mark.parametrize(
    ("replies", "ends"),
    [
        ([ANSWER], ["yes", "released"]),
        ([failing("timeout")], ["released"]),
        ([AuthenticationError("m", "no")], ["released"]),
    ],
)
async def test_a_reservation_ends_with_the_call_whatever_becomes_of_it(replies, ends):
    bench, cache = Bench(replies), FakeCache()
    with contextlib.suppress(AuthenticationError, ModelUnavailableError):
        await bench.ask(cache=cache, max_attempts=1)
    assert cache.ends == ends


async def test_a_reservation_ends_when_its_caller_is_cancelled():
    bench, cache = Bench([ANSWER], rates=Rates(in_flight=1)), FakeCache()

    async def never(request):
        await asyncio.Event().wait()

    bench.model.complete = never
    call = asyncio.create_task(bench.ask(cache=cache))
    while not bench.client._permits:  # noqa: ASYNC110 - its request is under way then
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert cache.ends == ["released"]


EMPTY = ModelReply("", usage=Usage(10, 3), cost_usd=None)


@pytest.mark.parametrize("role", ["leaf", "direct", "last"])
async def test_an_empty_reply_is_asked_for_once_more_and_paid_for_each_time(role):
    bench = Bench([EMPTY, ANSWER])
    assert (await bench.ask(role=role)).text == "yes"
    total = await bench.usage()
    assert (total.calls, total.retries, total.output_tokens, bench.slept) == (2, 1, 8, [])


@pytest.mark.parametrize("role", ["leaf", "direct", "last"])
async def test_a_second_empty_reply_is_a_failure_that_says_so(role):
    bench = Bench([EMPTY, EMPTY, ANSWER])
    with pytest.raises(ReplyError, match="empty reply") as caught:
        await bench.ask(role=role)
    assert (caught.value.kind, bench.model.remaining) == ("empty", 1)


@pytest.mark.parametrize(
    "reply",
    [
        replace(EMPTY, finish_reason="content_filter"),
        replace(EMPTY, refusal="no"),
        replace(EMPTY, finish_reason="length"),
    ],
)
async def test_a_reply_that_would_come_again_fails_at_once(reply):
    bench = Bench([reply, ANSWER])
    with pytest.raises(ReplyError):
        await bench.ask(role="leaf")
    assert bench.model.remaining == 1


async def test_a_reply_that_broke_off_is_tried_again_like_a_failed_server():
    bench = Bench([replace(ANSWER, finish_reason="error"), ANSWER])
    assert (await bench.ask(role="leaf")).text == "yes"
    assert bench.slept == [0.5]
    bench = Bench([replace(ANSWER, finish_reason="abort")] * 2)
    with pytest.raises(ModelUnavailableError, match="broke the reply off"):
        await bench.ask(max_attempts=2)


async def test_a_turn_gets_its_reply_whatever_it_is():
    bench = Bench([EMPTY, ANSWER])
    assert (await bench.ask(role="turn")).text == ""
    assert bench.model.remaining == 1


async def test_thinking_is_taken_off_whatever_the_size():
    for size in (10, 200_000):
        bench = Bench([ModelReply(f"<think>{'x ' * size}</think>yes")])
        assert (await bench.ask(role="leaf")).text == "yes"


async def test_only_whole_answers_are_given_to_a_cache():
    class Cache:
        kept = ()

        async def get_or_reserve(self, *_):
            return self

        async def put(self, reply):
            self.kept = (*self.kept, reply.text)

        def release(self): ...

    cache = Cache()
    bench = Bench([EMPTY, ANSWER])
    await bench.ask(role="turn", cache=cache)
    await bench.ask(role="turn", cache=cache)
    assert cache.kept == ("yes",)


async def test_access_that_is_refused_among_answers_fails_one_call_until_it_repeats():
    refused = AuthenticationError("m", "no", 403)
    bench = Bench([ANSWER, *[refused] * 8])
    await bench.ask()
    for _ in range(7):
        with pytest.raises(ModelError) as raised:
            await bench.ask()
        assert type(raised.value) is ModelError
    with pytest.raises(AuthenticationError):
        await bench.ask()


async def test_a_key_that_is_no_good_is_refused_at_once():
    bench = Bench([ANSWER, AuthenticationError("m", "no", 401)])
    await bench.ask()
    with pytest.raises(AuthenticationError):
        await bench.ask()
    with pytest.raises(AuthenticationError):
        await Bench([AuthenticationError("m", "no", 403)]).ask()
