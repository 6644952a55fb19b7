"""How long a reply may be where a budget must be kept: ours, the model's, the account's, and what the budget leaves."""

from __future__ import annotations

import asyncio

import pytest

from rlm_ray.admission.client import AdmissionClient
from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import RunPolicy
from rlm_ray.admission.server import AdmissionServer
from rlm_ray.config import Settings
from rlm_ray.core.limits import Limits
from rlm_ray.core.llm import (
    BUDGET_OUTPUT_TOKENS,
    LAST_CALL_TOKENS,
    Message,
    ModelReply,
    ModelRequest,
    Price,
    Usage,
    request_tokens,
)
from rlm_ray.core.output_limit import MIN_OUTPUT_TOKENS, OutputLimit
from rlm_ray.errors import ContextWindowError, LimitReached, ModelError, QuotaError
from rlm_ray.journal.call_recorder import CallSite
from rlm_ray.journal.recorder import NullRecorder
from rlm_ray.llm.gateway import Gateway
from rlm_ray.llm.run_context import RunContext

pytestmark = pytest.mark.usefixtures("closed_clients")

REQUEST = ModelRequest("m", (Message("user", "hi"),))
INPUT = request_tokens(REQUEST)
COST = Limits(cost_usd=10.0)
ANTHROPIC = "max_tokens: {} > 8192, which is the maximum allowed number of output tokens for this model"
OLD_VLLM = (
    "This model's maximum context length is 8192 tokens. However, you requested 19384 tokens (3000 in the messages, "
    "16384 in the completion)."
)
OTHER_NAME = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
AFFORD = "This request requires more credits, or fewer max_tokens. You requested up to {}, but can only afford 9000."


class Provider:
    """Refuses a reply longer than it gives, in its own words."""

    def __init__(self, most=10**9, refusal=None, *, limit=None, name="", usage=None):
        self.most, self.refusal, self.limit, self.name = most, refusal, limit or OutputLimit(), name
        self.usage = usage or Usage(10, 5)
        self.sent = []

    async def complete(self, request):
        self.sent.append(request)
        bound = request.output_bound
        wrong_name = self.name and self.name not in request.params
        if self.refusal is not None and (wrong_name or bound is None or bound > self.most):
            raise self.refusal(bound)
        await asyncio.sleep(0)
        return ModelReply("good", usage=self.usage)

    def cost_usd(self, model, usage):
        return Price(1.0, 1.0).cost(usage)

    def output_limit(self, model):
        return self.limit if model == "m" else OutputLimit(777)

    def provider_name(self, model):
        return "p"

    @property
    def bounds(self):
        return [request.output_bound for request in self.sent]


class Bench:
    def __init__(self, provider, limits=COST):
        self.provider, self.limits = provider, limits
        self.shell = AdmissionServer(AdmissionController(), "epoch")
        self.client = AdmissionClient("holder", self.shell)
        self.gateway = Gateway(provider, self.client)

    async def ask(self, request=REQUEST, role="leaf"):
        await self.shell.open_run(RunPolicy("run", self.limits))
        return await self.gateway.complete(
            request, RunContext("run", Settings(limits=self.limits)), CallSite((0,), 1, role), NullRecorder()
        )


def refuses(kind, status, words):
    return lambda bound: kind("m", words.format(bound), status)


async def test_a_model_is_asked_for_no_longer_a_reply_than_it_gives():
    bench = Bench(Provider(limit=OutputLimit(4096)))
    await bench.ask()
    await bench.ask(role="last")
    await bench.ask(ModelRequest("m", REQUEST.messages, params={"base_model": "azure/other"}))
    assert bench.provider.bounds == [4096, LAST_CALL_TOKENS, 777]


async def test_a_reply_leaves_room_for_its_prompt_in_the_window():
    bench = Bench(Provider(limit=OutputLimit(None, 1000)))
    await bench.ask()
    assert bench.provider.bounds == [1000 - INPUT]


async def test_without_a_budget_a_reply_is_not_bounded():
    bench = Bench(Provider(limit=OutputLimit(4096)), Limits())
    await bench.ask()
    assert bench.provider.bounds == [None]


@pytest.mark.parametrize(
    ("limits", "bound"),
    [
        (Limits(cost_usd=0.002), 1900 - INPUT - 1),
        (Limits(tokens=2000), 1900 - INPUT),
        (Limits(tokens=10**6), BUDGET_OUTPUT_TOKENS),
    ],
)
async def test_a_reply_is_as_long_as_the_budget_leaves(limits, bound):
    bench = Bench(Provider(), limits)
    await bench.ask()
    assert bench.provider.bounds == [pytest.approx(bound, abs=1)]


async def test_the_sentence_of_a_limit_names_max_tokens():
    for limits, name in (
        (Limits(cost_usd=0.00005), "cost_usd"),
        (Limits(tokens=INPUT + MIN_OUTPUT_TOKENS), "tokens"),
    ):
        with pytest.raises(LimitReached, match=f"raise limits.{name}, or lower max_tokens") as caught:
            await Bench(Provider(), limits).ask()
        assert caught.value.reason == name


async def test_a_bound_of_the_user_is_not_lowered_by_the_budget():
    with pytest.raises(LimitReached):
        await Bench(Provider(), Limits(tokens=2000)).ask(ModelRequest("m", REQUEST.messages, 5000))


@pytest.mark.parametrize(
    ("most", "refusal", "sent", "later"),
    [
        (8192, refuses(ModelError, 400, ANTHROPIC), [16384, 8192], [8192]),
        (5192, refuses(ContextWindowError, 400, OLD_VLLM), [16384, 5192], [5192]),
        (9000, refuses(QuotaError, 402, AFFORD), [16384, 9000], [16384, 9000]),
    ],
)
async def test_a_refusal_that_names_a_smaller_bound_is_tried_once_more_with_it(most, refusal, sent, later):
    bench = Bench(Provider(most, refusal))
    request = ModelRequest("m", (Message("user", "word " * 2000),)) if most == 5192 else REQUEST
    assert (await bench.ask(request)).text == "good"
    assert bench.provider.bounds == sent
    if most != 5192:
        await bench.ask(request)
        assert bench.provider.bounds == sent + later
    await bench.client.flush()
    total = (await bench.shell.usage("run")).total
    assert (total.retries, total.tokens) == (1 if most != 9000 else total.retries, 15 * total.calls)


async def test_a_bound_is_learned_for_replies_without_a_budget_too():
    bench = Bench(Provider(9000, refuses(QuotaError, 402, AFFORD)), Limits())
    assert (await bench.ask()).text == "good"
    assert bench.provider.bounds == [None, 9000]


async def test_it_is_tried_only_once():
    bench = Bench(Provider(10, refuses(ModelError, 400, ANTHROPIC)))
    with pytest.raises(ModelError, match="8192"):
        await bench.ask()
    assert bench.provider.bounds == [16384, 8192]


async def test_a_provider_gets_the_name_of_the_parameter_that_it_wants():
    bench = Bench(Provider(refusal=refuses(ModelError, 400, OTHER_NAME), name="max_completion_tokens"))
    await bench.ask()
    await bench.ask()
    assert [request.max_tokens for request in bench.provider.sent] == [16384, None, None]
    assert [request.params.get("max_completion_tokens") for request in bench.provider.sent] == [
        None,
        16384,
        16384,
    ]


@pytest.mark.parametrize("limits", [COST, Limits()])
async def test_max_completion_tokens_is_the_bound_of_the_user(limits):
    bench = Bench(Provider(), limits)
    await bench.ask(ModelRequest("m", REQUEST.messages, params={"max_completion_tokens": 500}))
    (sent,) = bench.provider.sent
    assert (sent.max_tokens, sent.params) == (None, {"max_completion_tokens": 500})


async def test_other_refusals_are_raised_at_once():
    bench = Bench(Provider(0, refuses(ModelError, 400, "temperature must be at most 2")))
    with pytest.raises(ModelError, match="temperature"):
        await bench.ask()
    assert len(bench.provider.sent) == 1


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("limits", [Limits(tokens=20 * 1000), Limits(cost_usd=0.02)])
async def test_parallel_calls_never_spend_more_than_the_budget_together(limits, counts):
    """200 calls where the budget affords 20 of a thousand tokens each."""
    text = "word " * 700
    provider = Provider(usage=Usage(200, 800) if counts else Usage())

    async def reply(request):
        provider.sent.append(request)
        await asyncio.sleep(0.001)
        return ModelReply(text if not counts else "good", usage=provider.usage)

    provider.complete = reply
    bench = Bench(provider, limits)
    request = ModelRequest("m", (Message("user", "hello " * 170),))
    outcomes = await asyncio.gather(*(bench.ask(request) for _ in range(200)), return_exceptions=True)
    answered = [outcome for outcome in outcomes if isinstance(outcome, ModelReply)]
    assert all(isinstance(outcome, ModelReply | LimitReached) for outcome in outcomes)
    assert 15 <= len(answered) <= 20
    assert len(provider.sent) == len(answered)
