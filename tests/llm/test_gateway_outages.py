"""A provider is down for minutes, in virtual time: who knows it waits, with few attempts; a wrong address is told soon."""

from __future__ import annotations

import random
from contextlib import aclosing

import pytest

from rlm_ray.admission.client import AdmissionClient
from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import RunPolicy
from rlm_ray.admission.server import AdmissionServer
from rlm_ray.config import Settings
from rlm_ray.core.limits import Limits, Rates
from rlm_ray.core.llm import Message, ModelReply, ModelRequest
from rlm_ray.core.output_limit import OutputLimit
from rlm_ray.errors import JournalError, ModelUnavailableError, TransientModelError
from rlm_ray.journal.call_recorder import CallSite
from rlm_ray.journal.recorder import NullRecorder
from rlm_ray.llm.gateway import Gateway
from rlm_ray.llm.run_context import RunContext
from rlm_ray.testing.scripted_model import FunctionModel

RUN = RunContext("run", Settings())
REQUEST = ModelRequest("m", (Message("user", "hi"),))
DOWN = [
    TransientModelError("m", "cannot reach it", None, "connection"),
    TransientModelError("m", "unavailable", 503),
    TransientModelError("m", "overloaded", 529),
]


class Provider(FunctionModel):
    """Answers but from `down_from` on for so many seconds; knows the virtual time."""

    def __init__(self, error, down_from, down_s):
        super().__init__(self._answer)
        self.now, self.attempts = 0.0, 0
        self._error, self._down_from, self._down_s = error, down_from, down_s

    def _answer(self, request):
        self.attempts += 1
        if 0 <= self.now - self._down_from < self._down_s:
            return self._error
        return ModelReply("yes")

    def cost_usd(self, model, usage):
        return 0.0

    def output_limit(self, model):
        return OutputLimit()

    def provider_name(self, model):
        return "scripted"


async def asked(provider, times, seed=0):
    """One call after another; the last reply."""
    shell = AdmissionServer(AdmissionController(), "epoch")
    await shell.open_run(RunPolicy("run", Limits(), Rates()))

    async def sleep(seconds):
        provider.now += seconds

    async with aclosing(AdmissionClient("holder", shell, coalesce_s=0.0)) as client:
        gateway = Gateway(provider, client, sleep=sleep, jitter=random.Random(seed).random)
        for number in range(times):
            reply = await gateway.complete(REQUEST, RUN, CallSite((number,), 1, "leaf"), NullRecorder())
            provider.now += 1.0
    return reply


@pytest.mark.parametrize("error", DOWN, ids=["refused", "503", "529"])
@pytest.mark.parametrize("seed", range(5))
async def test_a_provider_that_is_down_for_a_minute_and_a_half_is_waited_for(error, seed):
    provider = Provider(error, 1.0, 90.0)
    assert (await asked(provider, 3, seed)).text == "yes"
    assert provider.attempts <= 3 + 18


async def test_one_that_is_down_for_hours_is_given_up_after_minutes():
    provider = Provider(DOWN[0], 1.0, 7200.0)
    with pytest.raises(ModelUnavailableError, match="cannot reach it; gave up after 18 attempts"):
        await asked(provider, 2)
    assert 90 < provider.now < 360


async def test_an_address_that_has_never_answered_is_given_up_after_seconds():
    provider = Provider(DOWN[0], 0.0, 7200.0)
    with pytest.raises(ModelUnavailableError, match="gave up after 6 attempts"):
        await asked(provider, 1)
    assert provider.now < 16


async def test_what_fails_otherwise_is_given_up_as_ever():
    provider = Provider(TransientModelError("m", "a bug", 500), 1.0, 7200.0)
    with pytest.raises(ModelUnavailableError, match="gave up after 6 attempts"):
        await asked(provider, 2)


class Refused(NullRecorder):
    """A record that cannot be kept any more."""

    def raise_if_failed(self):
        raise JournalError("run", "the disk is full")


async def test_nothing_is_sent_once_it_is_known_that_it_cannot_be_kept():
    provider = Provider(DOWN[0], 0.0, 0.0)
    shell = AdmissionServer(AdmissionController(), "epoch")
    await shell.open_run(RunPolicy("run", Limits(), Rates()))
    async with aclosing(AdmissionClient("holder", shell, coalesce_s=0.0)) as client:
        with pytest.raises(JournalError, match="the disk is full"):
            await Gateway(provider, client).complete(REQUEST, RUN, CallSite((), 1, "turn"), Refused())
        await client.flush()
    assert provider.attempts == 0
    assert (await shell.usage("run")).total.calls == 0
