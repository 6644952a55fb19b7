"""The only way to a model: look up the journal, get a permit, call, settle, record; retry where that may help.

Rules:
- A permit covers one attempt; a back-off is waited for without one.
- Only what may pass by itself is tried again: rate limits, server errors, time-outs, lost connections (`retry_policy.py`).
- One attempt takes `timeout` at most, and all of them together end with the run's time.
- Where a provider stays down, or its replies empty, after all that, the next of the `fallbacks` is asked, if there are any
  (`may_fall_back`): what a user has to know of (keys, accounts, limits, filters) never falls back.
- With a budget on cost or tokens every message is bounded, so that what is reserved is the worst case (`ReplyBounds`).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from rlm_ray.admission.client import AdmissionClient, Permit
from rlm_ray.admission.policy.account import account_key
from rlm_ray.admission.protocol import AttemptOutcome, PermitRequest
from rlm_ray.config import Settings
from rlm_ray.core.limits import Rates
from rlm_ray.core.llm import (
    OUTPUT_BOUNDS,
    ModelReply,
    ModelRequest,
    Usage,
    credible_usage,
    estimate_max_usage,
)
from rlm_ray.core.output_limit import OutputLimit, ReplyBounds, TooLongReplyError, limit_named_by
from rlm_ray.core.prompts import format_budget
from rlm_ray.core.reply import judge, without_thinking
from rlm_ray.errors import (
    ConfigError,
    ModelError,
    ModelUnavailableError,
    QuotaError,
    ReplyError,
    RLMError,
    TransientModelError,
)
from rlm_ray.journal.call_recorder import CallRecorder, CallSite
from rlm_ray.journal.recorder import NullRecorder
from rlm_ray.llm.response_cache import ResponseCacheClient, request_key
from rlm_ray.llm.retry_policy import RetryPolicy, outcome_of
from rlm_ray.llm.run_context import LATE_S, RunContext, in_time

PERMIT_TTL_MARGIN_S = 60.0
LONG_REPLY_CHARS = 100_000
"""A longer reply is parsed in a thread, beside the event loop."""
DEFAULT_TIMEOUT_S = 600.0
DOWN_S = 60.0
"""So long after a provider was given up its calls go to the fallback at once."""

_log = logging.getLogger(__name__)


def may_fall_back(error: ModelError) -> bool:
    """Tell whether another model may answer in place of the one that failed so: its provider is down, or its replies are empty.

    A refused key, an empty account, a limit, a wrong name, a prompt that is too long, a filter and a refusal are for the user
    to know."""
    return isinstance(error, ModelUnavailableError) or (
        isinstance(error, ReplyError) and error.kind == "empty"
    )


def _fallbacks(request: ModelRequest, settings: Settings) -> list[ModelRequest]:
    """Return the same request to the other models that may answer it."""
    own = {name: request.params[name] for name in OUTPUT_BOUNDS if name in request.params}
    return [
        replace(request, model=model, params={**params, **own})
        for model, params in map(settings.model_named, settings.fallbacks)
        if model != request.model
    ]


class Provider(Protocol):
    """Carries requests to models, each once, and knows what replies cost, how long they may be, and who the provider is."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Return the reply. Raises `ModelError` (or a subclass that says more) where there is none; neither retries nor waits."""
        ...

    def cost_usd(self, model: str, usage: Usage) -> float | None:
        """Return the cost of a reply; None where the price is not known."""
        ...

    def output_limit(self, model: str) -> OutputLimit:
        """Return how long its replies may be, as far as that is known."""
        ...

    def provider_name(self, model: str) -> str:
        """Return the name of the provider of this model."""
        ...


@dataclass(slots=True)
class _Call:
    """One call under way."""

    run: RunContext
    log: CallRecorder
    account: str
    has_fallback: bool = False
    """Another model is asked where this one cannot answer."""
    min_output_tokens: int = 0
    """To how little a tight budget may shorten the reply; 0: not at all."""

    @property
    def is_last(self) -> bool:
        """Tell whether it is the root's answer from what it knows."""
        return self.log.place.role == "last"

    @property
    def takes_code(self) -> bool:
        """Tell whether the caller is a session, which runs code that a reply holds."""
        return self.log.place.role == "turn"


class Gateway:
    """Sends requests to models under the one admission of the cluster."""

    def __init__(  # noqa: PLR0913 - two it needs, a cache, the others for tests
        self,
        provider: Provider,
        admission: AdmissionClient,
        *,
        open_cache: Callable[[str], ResponseCacheClient] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`open_cache` opens the response cache of a folder; without it there is none."""
        self._provider = provider
        self._admission = admission
        self._open_cache, self._sleep = open_cache, sleep
        self._clock = clock
        self._down_until: dict[str, float] = {}
        """Until when accounts that were given up are not asked where there is a fallback."""
        self._retry_policy = RetryPolicy(jitter)
        self._reply_bounds = ReplyBounds()

    def window_tokens(self, model: str, params: Mapping[str, Any]) -> int | None:
        """Return what the window of a model holds, where it is known before anything is sent."""
        return self._provider.output_limit(str(params.get("base_model") or model)).window_tokens

    async def complete(
        self, request: ModelRequest, run: RunContext, place: CallSite, recorder: NullRecorder
    ) -> ModelReply:
        """Return the model's reply, or that of a fallback; from the record where it is there. Raises `LimitReached` when the run may not make the call, else
        `ModelError`s."""
        key = request_key(request)
        log = CallRecorder(recorder, place, request.model, key)
        known = log.replayed_reply()
        if known is not None:
            return known
        asked = [request, *_fallbacks(request, run.settings)]
        while len(asked) > 1 and self._is_down(asked[0], run):
            del asked[0]
        for at, each in enumerate(asked, 1):
            if each is not request:
                log = CallRecorder(recorder, place, each.model, key, fallback_from=request.model)
            has_fallback = at < len(asked)
            try:
                reply = await self._complete_by(each, run, log, has_fallback=has_fallback)
            except ModelError as error:
                if not (has_fallback and may_fall_back(error)):
                    raise
                self._note_down(each, run, error)
                _log.warning("%s; asking %s instead", error, asked[at].model)
            else:
                self._down_until.pop(self._account_key(each, run), None)
                return reply
        raise AssertionError

    async def _complete_by(
        self, request: ModelRequest, run: RunContext, log: CallRecorder, *, has_fallback: bool
    ) -> ModelReply:
        """Return the reply of this very model."""
        log.provider = self._provider.provider_name(request.model)
        call = _Call(run, log, self._account_key(request, run), has_fallback)
        try:
            async with in_time(run.deadline, LATE_S if call.is_last else 0.0):
                reply, cache_hit = await self._call_through_cache(request, call)
        except BaseException as error:
            log.on_failure(error)
            raise
        return await log.on_reply(reply, cache_hit=cache_hit)

    def _is_down(self, request: ModelRequest, run: RunContext) -> bool:
        """Tell whether its provider was given up a moment ago: calls of that minute go to the fallback at once."""
        return self._down_until.get(self._account_key(request, run), 0.0) > self._clock()

    def _note_down(self, request: ModelRequest, run: RunContext, error: ModelError) -> None:
        if isinstance(error, ModelUnavailableError):
            self._down_until[self._account_key(request, run)] = self._clock() + DOWN_S

    async def _call_through_cache(self, request: ModelRequest, call: _Call) -> tuple[ModelReply, bool]:
        """Return the reply of an identical call, earlier or in flight; else make the call, for others too."""
        of_model = partial(
            self._provider.output_limit, str(request.params.get("base_model") or request.model)
        )
        request, call.min_output_tokens = self._reply_bounds.bounded(
            request, call.account, call.run.settings.limits, of_model, last_call=call.is_last
        )
        settings = call.run.settings
        if not settings.cache or self._open_cache is None:
            return await self._call_with_retries(request, call), False
        patience_s = request.params.get("timeout", DEFAULT_TIMEOUT_S) * call.run.settings.max_attempts
        found = await self._open_cache(settings.cache).get_or_reserve(
            request_key(request), call.run.run_id, patience_s
        )
        if isinstance(found, ModelReply):
            return found, True
        try:
            reply = await self._call_with_retries(request, call)
            if judge(reply, takes_code=call.takes_code).has_text:
                await found.put(reply)
        finally:
            found.release()
        return reply, False

    async def _call_with_retries(self, request: ModelRequest, call: _Call) -> ModelReply:
        """Make the call, again where that may help: once after a reply that was no answer, and once with a smaller
        `max_tokens` where the provider named it."""
        retries = self._retry_policy.start(call.account, call.run.settings.max_attempts)
        corrected = False
        while True:
            try:
                return await self._attempt(request, call, retries.attempt, may_correct=not corrected)
            except TooLongReplyError as refusal:
                call.log.on_attempt_failed(refusal.error)
                request, corrected = self._reply_bounds.corrected(request, call.account, refusal.named), True
                retries.attempt += 1
            except TransientModelError as error:
                call.log.on_attempt_failed(error)
                wait_s = retries.wait_s(error)
                if wait_s:
                    await self._sleep(wait_s)
            except ReplyError as error:
                if not retries.may_ask_again(error):
                    raise
                call.log.on_attempt_failed(error)

    def check_prices(self, models: Iterable[str], run: RunContext) -> None:
        """Raise `ConfigError` where a cost limit is set and the price of a model is not known."""
        if run.settings.limits.cost_usd is None:
            return
        for model in models:
            if self._cost_usd(model, Usage(), run) is None:
                raise ConfigError(
                    "limits.cost_usd",
                    f"cannot be kept: the price of {model!r} is not known; give it as prices={{{model!r}: Price(...)}} "
                    "in US dollars per million tokens, or drop the limit",
                )

    async def flush(self, run_id: str) -> None:
        """Return when the admission knows all that this process spent for the run."""
        await self._admission.flush(run_id)

    def budget_left(self, run_id: str) -> str:
        """Return what is left of the run's limits, as a sentence for a model; empty without limits."""
        known = self._admission.budget_left(run_id)
        return "" if known is None else format_budget(*known)

    async def _attempt(
        self, request: ModelRequest, call: _Call, attempt: int, *, may_correct: bool
    ) -> ModelReply:
        ask = self._permit_request(request, call, attempt)
        async with self._admission.permit(ask) as permit:
            if permit.ask.output_tokens < ask.output_tokens:
                request = request.with_output_bound(permit.ask.output_tokens)
            try:
                call.log.raise_if_failed()  # nothing is paid for that could not be kept
                if request.listener is not None:
                    request.listener.restart()
                call.log.on_sent(permit.queue_wait_s, permit.rate_wait_s, permit.ask.cost_usd, request)
                reply = await self._complete_in_time(replace(request, transport=call.run.settings.transport))
            except RLMError as error:
                named = limit_named_by(error, request) if may_correct else None
                if named is not None:
                    permit.release(AttemptOutcome.REJECTED)
                    raise TooLongReplyError(error, named) from error
                _release_on_error(permit, error)
                raise self._retry_policy.error_of_attempt(error, request.model, call.account) from error
            reply = replace(reply, usage=credible_usage(request, reply))
            self._retry_policy.on_answer(call.account)
            cost_usd = self._cost_usd(request.model, reply.usage, call.run)
            permit.release(AttemptOutcome.OK, reply.usage, cost_usd, reply.headers)
        return await _judged(replace(reply, cost_usd=cost_usd), request, call)

    async def _complete_in_time(self, request: ModelRequest) -> ModelReply:
        """Make one attempt within `timeout` in all; provider clients count it anew for each byte that comes."""
        timeout_s = request.params.get("timeout", DEFAULT_TIMEOUT_S)
        try:
            async with asyncio.timeout(timeout_s) as timer:
                return await self._provider.complete(request)
        except TimeoutError as error:
            if not timer.expired():
                raise
            why = f"no whole answer within {timeout_s:g} s; raise call_timeout_s"
            raise TransientModelError(request.model, why, None, "timeout") from error

    def _permit_request(self, request: ModelRequest, call: _Call, attempt: int) -> PermitRequest:
        worst, run = estimate_max_usage(request), call.run
        input_only, may_shorten = Usage(worst.input_tokens), call.min_output_tokens > 0
        return PermitRequest(
            run_id=run.run_id,
            account_key=call.account,
            model=request.model,
            input_tokens=worst.input_tokens,
            output_tokens=worst.output_tokens,
            cost_usd=self._cost_usd(request.model, worst, run),
            run_started_at=run.started,
            depth=run.depth(call.log.place.path),
            attempt=attempt,
            is_retry_of_lost=call.log.possibly_double_billed,
            is_final_call=call.is_last,
            min_output_tokens=call.min_output_tokens,
            input_cost_usd=self._cost_usd(request.model, input_only, run) if may_shorten else None,
            ttl_s=request.params.get("timeout", DEFAULT_TIMEOUT_S) + PERMIT_TTL_MARGIN_S,
        )

    def _account_key(self, request: ModelRequest, run: RunContext) -> str:
        """Return the account key: one for all models where rates are declared, else one for each model."""
        group = "" if run.settings.rates != Rates() else request.model
        provider = self._provider.provider_name(request.model)
        return account_key(provider, request.params.get("api_base"), request.params.get("api_key"), group)

    def _cost_usd(self, model: str, usage: Usage, run: RunContext) -> float | None:
        price = run.settings.prices.get(model)
        return price.cost(usage) if price is not None else self._provider.cost_usd(model, usage)


async def _judged(reply: ModelReply, request: ModelRequest, call: _Call) -> ModelReply:
    """Return the reply without its thinking. Raises `ReplyError` for one that is no answer, unless a session's turn asked:
    the session tells the model what was wrong with it, which is better than the same question again."""
    if len(reply.text) + len(reply.reasoning) > LONG_REPLY_CHARS:
        reply = await asyncio.to_thread(partial(without_thinking, reply, takes_code=call.takes_code))
    else:
        reply = without_thinking(reply, takes_code=call.takes_code)
    judged = judge(reply, takes_code=call.takes_code)
    is_told = call.takes_code and not (call.has_fallback and judged.kind == "empty")
    if judged.kind != "broken" and (judged.has_text or is_told):
        return reply
    call.log.wasted(reply)
    if judged.kind == "broken":
        raise TransientModelError(request.model, judged.why, None, judged.kind)
    raise ReplyError(request.model, judged.why, None, judged.kind, judged.may_pass)


def _release_on_error(permit: Permit, error: RLMError) -> None:
    outcome = outcome_of(error)
    if isinstance(error, TransientModelError):
        permit.release(outcome, headers=error.headers, retry_after_s=error.retry_after_s)
    else:
        permit.release(outcome, why=error.why if isinstance(error, QuotaError) else "")
