"""The only way to a model: look up the journal, get a permit, call, settle, record; retry where that may help.

Rules:
- A permit covers one attempt; a back-off is waited for without one.
- Only what may pass by itself is tried again: rate limits, server errors, time-outs, lost connections.
- After a 429 the admission holds the whole account back as long as the provider asks, so nothing is waited for here;
  after other failures the wait doubles, with full jitter.
- A provider that has answered before and is down now is waited for: minutes, with half a minute between attempts.
- One attempt takes `timeout` at most, and all of them together end with the run's time.
- With a budget on cost or tokens every message is bounded, so that what is reserved is the worst case: by the smallest of
  ours, the model's own maximum and what the budget leaves. A provider that names a smaller bound gets one more request.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

from rlm_ray.admission.client import AdmissionClient, Permit
from rlm_ray.admission.policy.account import account_key
from rlm_ray.admission.protocol import AttemptOutcome, PermitRequest
from rlm_ray.core.limits import Limits, Rates
from rlm_ray.core.llm import (
    BUDGET_OUTPUT_TOKENS,
    LAST_CALL_TOKENS,
    ModelReply,
    ModelRequest,
    Price,
    Usage,
    credible_usage,
    estimate_max_usage,
    request_tokens,
)
from rlm_ray.core.output_limit import NamedLimit, OutputLimit, named_limit
from rlm_ray.core.prompts import format_budget
from rlm_ray.core.refusals import Refusals
from rlm_ray.core.reply import judge, without_thinking
from rlm_ray.errors import (
    AuthenticationError,
    ConfigError,
    JournalError,
    ModelError,
    ModelUnavailableError,
    QuotaError,
    ReplyError,
    RLMError,
    TransientModelError,
)
from rlm_ray.journal.call_recorder import CallRecorder, CallSite
from rlm_ray.journal.recorder import NullRecorder
from rlm_ray.llm.response_cache import CacheProtocol, request_key
from rlm_ray.util.deadline import LATE_S, Deadline, in_time

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
LONGEST_WAIT_S = 600.0
"""A provider that asks to wait longer will not answer this run."""
ATTEMPTS_PER_429 = 10
"""A 429 counts as a tenth of an attempt: the admission already waits as it should."""
ATTEMPTS_PER_OUTAGE = 3
"""A provider that is down and has answered before: a third of an attempt. With 6 attempts, about three minutes."""
UNKNOWN_MODEL_ATTEMPTS = 4
"""A server that does not know the model may be loading it (an adapter); or the name is wrong."""
ACCESS_REFUSED = 403
OUTAGE_STATUSES = frozenset({502, 503, 529})
TOO_LONG_STATUSES = frozenset({400, 402, 403, 413, 422, None})
"""Refusals that may be about the length of the reply."""
MIN_OUTPUT_TOKENS = 64
"""A budget that leaves less of a reply than this leaves no call."""
MAX_LEARNED = 1_000
PERMIT_TTL_MARGIN_S = 60.0
LONG_REPLY_CHARS = 100_000
"""A longer reply is parsed in a thread, beside the event loop."""
DEFAULT_TIMEOUT_S = 600.0

_OUTCOMES = MappingProxyType(
    {
        "rate_limited": AttemptOutcome.RATE_LIMITED,
        "server_error": AttemptOutcome.SERVER_ERROR,
        "timeout": AttemptOutcome.TIMEOUT,
        "connection": AttemptOutcome.UNKNOWN,
        "loading": AttemptOutcome.SERVER_ERROR,
        "no_model_yet": AttemptOutcome.REJECTED,
    }
)


class Provider(Protocol):
    """A `Model` that also knows what its replies cost, how long they may be, and the name of its provider."""

    async def complete(self, request: ModelRequest) -> ModelReply: ...

    def cost_usd(self, model: str, usage: Usage) -> float | None:
        """Return the cost of a reply; None where the price is not known."""
        ...

    def output_limit(self, model: str) -> OutputLimit:
        """Return how long its replies may be, as far as that is known."""
        ...

    def provider_name(self, model: str) -> str:
        """Return the name of the provider of this model."""
        ...


class _TooLongAReply(Exception):  # noqa: N818 - never leaves the gateway
    """The provider refused a request for the reply it asked for, and named what it would take."""

    def __init__(self, error: ModelError, named: NamedLimit) -> None:
        super().__init__(error, named)
        self.error = TransientModelError(error.model, error.why, error.status, "output_limit")
        self.named = named


@dataclass(frozen=True, slots=True)
class CallContext:
    """What a call needs to know of its run."""

    run_id: str
    root_path_length: int = 0
    """How many places of a path are above the first session."""
    started_at: float = 0.0
    """When the run began, Unix time: older runs of a tenant go first."""
    attempts: int = 6
    """How often a call that failed for the moment is tried in all."""
    limits: Limits = field(default_factory=Limits)
    rates: Rates = field(default_factory=Rates)
    prices: Mapping[str, Price] = field(default_factory=dict)
    """The user's own, before litellm's."""
    cache: CacheProtocol | None = None
    """The response cache; None: off."""
    recorder: NullRecorder = field(default_factory=NullRecorder)
    """Records the calls, and knows those of earlier attempts of the run."""

    @property
    def deadline(self) -> Deadline | None:
        """Return when the time of the run is over; None without a limit."""
        return Deadline.of(self.started_at, self.limits)


class Gateway:
    """Sends requests to models under the one admission of the cluster."""

    def __init__(
        self,
        provider: Provider,
        admission: AdmissionClient,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._provider = provider
        self._admission = admission
        self._sleep = sleep
        self._jitter = jitter
        self._responsive_accounts: set[str] = set()
        """Accounts that have answered; an address that never has may be wrong."""
        self._learned: dict[tuple[str, str], OutputLimit] = {}
        """How long providers said a reply may be, by account and model."""
        self._refusals: defaultdict[str, Refusals] = defaultdict(Refusals)

    def window_tokens(self, model: str, params: Mapping[str, Any]) -> int | None:
        """Return what the window of a model holds, where it is known before anything is sent."""
        return self._provider.output_limit(str(params.get("base_model") or model)).window_tokens

    async def complete(self, request: ModelRequest, caller: CallContext, place: CallSite) -> ModelReply:
        """Return the model's reply. Raises `LimitReached` when the run may not make the call, else `ModelError`s."""
        log = CallRecorder(caller.recorder, place, request.model, request_key(request))
        known = log.replayed_reply()
        if known is not None:
            return known
        request, min_output_tokens = self._with_max_tokens(request, caller, last_call=place.role == "last")
        log.provider = self._provider.provider_name(request.model)
        try:
            async with in_time(caller.deadline, LATE_S if place.role == "last" else 0.0):
                reply, cache_hit = await self._call_through_cache(request, caller, log, min_output_tokens)
        except BaseException as error:
            log.on_failure(error)
            raise
        return await log.on_reply(reply, cache_hit=cache_hit)

    async def _call_through_cache(
        self, request: ModelRequest, caller: CallContext, log: CallRecorder, min_output_tokens: int
    ) -> tuple[ModelReply, bool]:
        """Return the reply of an identical call, earlier or in flight; else make the call, for others too."""
        cache = caller.cache
        if cache is None:
            return await self._call_with_retries(request, caller, log, min_output_tokens), False
        key = request_key(request)
        patience_s = request.params.get("timeout", DEFAULT_TIMEOUT_S) * caller.attempts
        found = await cache.look(key, caller.run_id, patience_s)
        if isinstance(found, ModelReply):
            return found, True
        try:
            reply = await self._call_with_retries(request, caller, log, min_output_tokens)
            if judge(reply, takes_code=_takes_code(log.place)).has_text:
                await found.keep(reply)
        finally:
            found.release()
        return reply, False

    async def _call_with_retries(
        self, request: ModelRequest, caller: CallContext, log: CallRecorder, min_output_tokens: int
    ) -> ModelReply:
        """Make the call, again where that may help: once after a reply that was no answer, and once with a smaller
        `max_tokens` where the provider named it."""
        patience = caller.attempts * ATTEMPTS_PER_429 * ATTEMPTS_PER_OUTAGE
        attempt, asked_again, corrected = 1, False, False
        while True:
            try:
                ask = self._permit_request(request, caller, attempt, log, min_output_tokens)
                return await self._attempt(request, caller, ask, log, may_correct=not corrected)
            except _TooLongAReply as refusal:
                log.on_attempt_failed(refusal.error)
                request, corrected = self._corrected(request, caller, refusal.named), True
            except TransientModelError as error:
                log.on_attempt_failed(error)
                account = self._account_key(request, caller)
                patience -= self._attempt_cost(error, account, caller.attempts)
                wait_s = 0.0 if error.kind == "rate_limited" else error.retry_after_s or 0.0
                if patience <= 0 or wait_s > LONGEST_WAIT_S:
                    raise self._given_up(error, attempt, account) from error
                if error.kind != "rate_limited":
                    await self._sleep(self._backoff(attempt, error.retry_after_s))
            except ReplyError as error:
                if asked_again or not error.may_pass:
                    raise
                asked_again = True
                log.on_attempt_failed(error)
            attempt += 1

    def check_prices(self, models: Iterable[str], caller: CallContext) -> None:
        """Raise `ConfigError` where a cost limit is set and the price of a model is not known."""
        if caller.limits.cost_usd is None:
            return
        for model in models:
            if self._cost_usd(model, Usage(), caller) is None:
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
        self,
        request: ModelRequest,
        caller: CallContext,
        ask: PermitRequest,
        log: CallRecorder,
        *,
        may_correct: bool,
    ) -> ModelReply:
        async with self._admission.permit(ask) as permit:
            if permit.ask.output_tokens < ask.output_tokens:
                request = request.with_output_bound(permit.ask.output_tokens)
            try:
                caller.recorder.raise_if_failed()  # nothing is paid for that could not be kept
                log.on_sent(permit.queue_wait_s, permit.rate_wait_s, permit.ask.cost_usd)
                reply = await self._complete_in_time(request)
            except RLMError as error:
                named = _named_limit(error, request) if may_correct else None
                if named is not None and isinstance(error, ModelError):
                    permit.release(AttemptOutcome.REJECTED)
                    raise _TooLongAReply(error, named) from error
                _release_on_error(permit, error)
                raise self._about_one_call(error, request.model, permit.ask.account_key) from error
            self._responsive_accounts.add(permit.ask.account_key)
            reply = replace(reply, usage=credible_usage(request, reply))
            self._refusals[permit.ask.account_key].answered()
            cost_usd = self._cost_usd(request.model, reply.usage, caller)
            permit.release(AttemptOutcome.OK, reply.usage, cost_usd, reply.headers)
        return await _judged(replace(reply, cost_usd=cost_usd), request, log)

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

    def _permit_request(
        self,
        request: ModelRequest,
        caller: CallContext,
        attempt: int,
        log: CallRecorder,
        min_output_tokens: int,
    ) -> PermitRequest:
        worst = estimate_max_usage(request)
        input_only = Usage(worst.input_tokens)
        return PermitRequest(
            run_id=caller.run_id,
            account_key=self._account_key(request, caller),
            model=request.model,
            input_tokens=worst.input_tokens,
            output_tokens=worst.output_tokens,
            cost_usd=self._cost_usd(request.model, worst, caller),
            run_started_at=caller.started_at,
            depth=len(log.place.path) - caller.root_path_length,
            attempt=attempt,
            is_retry_of_lost=log.possibly_double_billed,
            is_final_call=log.place.role == "last",
            min_output_tokens=min_output_tokens,
            input_cost_usd=self._cost_usd(request.model, input_only, caller) if min_output_tokens else None,
            ttl_s=request.params.get("timeout", DEFAULT_TIMEOUT_S) + PERMIT_TTL_MARGIN_S,
        )

    def _with_max_tokens(
        self, request: ModelRequest, caller: CallContext, *, last_call: bool
    ) -> tuple[ModelRequest, int]:
        """Return the request with the bound of its reply, and to how little a tight budget may lower that (0: not at all).

        A budget needs a bound: the user's, else the smallest of ours, the model's and the account's. Without a budget
        a reply is bounded only by what the provider has said before.
        """
        learned = self._learned.get((self._account_key(request, caller), request.model), OutputLimit())
        limits, asked = caller.limits, request.output_bound
        has_budget = limits.cost_usd is not None or limits.tokens is not None
        if asked is None and not has_budget and learned == OutputLimit():
            return request, 0
        bounds = [asked]
        known = learned
        if asked is None and has_budget:
            bounds.append(LAST_CALL_TOKENS if last_call else BUDGET_OUTPUT_TOKENS)
            of_model = self._provider.output_limit(str(request.params.get("base_model") or request.model))
            known = of_model.narrowed_by(learned)
        if known.max_tokens or known.window_tokens:
            bounds.append(known.bound(request_tokens(request) if known.window_tokens else 0))
        bound = min((tokens for tokens in bounds if tokens is not None), default=None)
        if bound is not None and bound != asked:
            request = request.with_output_bound(bound)
        if learned.name:
            request = request.with_bound_named(learned.name)
        return request, MIN_OUTPUT_TOKENS if asked is None and has_budget else 0

    def _corrected(self, request: ModelRequest, caller: CallContext, named: NamedLimit) -> ModelRequest:
        """Return the request with the bound that the provider named, and remember it for the model."""
        key = (self._account_key(request, caller), request.model)
        if named.learned != OutputLimit():
            self._learned[key] = self._learned.pop(key, OutputLimit()).narrowed_by(named.learned)
            if len(self._learned) > MAX_LEARNED:
                del self._learned[next(iter(self._learned))]
        if named.learned.name:
            request = request.with_bound_named(named.learned.name)
        return request if named.tokens is None else request.with_output_bound(named.tokens)

    def _account_key(self, request: ModelRequest, caller: CallContext) -> str:
        """Return the account key: one for all models where rates are declared, else one for each model."""
        group = "" if caller.rates != Rates() else request.model
        provider = self._provider.provider_name(request.model)
        return account_key(provider, request.params.get("api_base"), request.params.get("api_key"), group)

    def _attempt_cost(self, error: TransientModelError, account: str, attempts: int) -> int:
        """Return the cost of a failed attempt, in units that divide an attempt, a 429 and an outage."""
        one = ATTEMPTS_PER_429 * ATTEMPTS_PER_OUTAGE
        if error.kind == "rate_limited":
            return ATTEMPTS_PER_OUTAGE
        if error.kind == "no_model_yet":
            return max(one, -(-one * attempts // UNKNOWN_MODEL_ATTEMPTS))
        is_down = error.kind == "connection" or error.status in OUTAGE_STATUSES
        is_outage = error.kind == "loading" or (is_down and account in self._responsive_accounts)
        return ATTEMPTS_PER_429 if is_outage else one

    def _given_up(self, error: TransientModelError, attempts: int, account: str) -> RLMError:
        if error.kind == "no_model_yet" and self._refusals[account].refused():
            return ConfigError("model", error.why)
        return _unavailable(error, attempts)

    def _about_one_call(self, error: RLMError, model: str, account: str) -> RLMError:
        """Turn a refusal that is about one call only into an error that fails that call and not the run: access or a
        model name that worked before and is refused once. A wrong or missing key fails all."""
        if not isinstance(error, AuthenticationError | ConfigError):
            return error
        status = ACCESS_REFUSED if isinstance(error, ConfigError) else error.status
        if status != ACCESS_REFUSED or self._refusals[account].refused():
            return error
        return ModelError(model, error.why, getattr(error, "status", None))

    def _cost_usd(self, model: str, usage: Usage, caller: CallContext) -> float | None:
        price = caller.prices.get(model)
        return price.cost(usage) if price is not None else self._provider.cost_usd(model, usage)

    def _backoff(self, attempt: int, retry_after_s: float | None) -> float:
        if retry_after_s is not None:
            return retry_after_s * (1 + 0.1 * self._jitter())
        return float(min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (attempt - 1)) * self._jitter())


async def _judged(reply: ModelReply, request: ModelRequest, log: CallRecorder) -> ModelReply:
    """Return the reply without its thinking. Raises `ReplyError` for one that is no answer, unless a session's turn asked:
    the session tells the model what was wrong with it, which is better than the same question again."""
    is_turn = _takes_code(log.place)
    if len(reply.text) + len(reply.reasoning) > LONG_REPLY_CHARS:
        reply = await asyncio.to_thread(partial(without_thinking, reply, takes_code=is_turn))
    else:
        reply = without_thinking(reply, takes_code=is_turn)
    judged = judge(reply, takes_code=is_turn)
    if judged.kind == "broken":
        log.wasted(reply)
        raise TransientModelError(request.model, judged.why, None, judged.kind)
    if judged.has_text or is_turn:
        return reply
    log.wasted(reply)
    raise ReplyError(request.model, judged.why, None, judged.kind, judged.may_pass)


def _takes_code(place: CallSite) -> bool:
    """Tell whether the caller is a session, which runs code that a reply holds."""
    return place.role == "turn"


def _named_limit(error: RLMError, request: ModelRequest) -> NamedLimit | None:
    """Return the shorter reply that a refusal names; None where it names none."""
    if not isinstance(error, ModelError) or isinstance(error, TransientModelError | ReplyError):
        return None
    if error.status not in TOO_LONG_STATUSES:
        return None
    return named_limit(error.why, request.output_bound)


def _release_on_error(permit: Permit, error: RLMError) -> None:
    match error:
        case TransientModelError():
            outcome = _OUTCOMES[error.kind]
            permit.release(outcome, headers=error.headers, retry_after_s=error.retry_after_s)
        case QuotaError():
            permit.release(AttemptOutcome.QUOTA_EXHAUSTED, why=error.why)
        case JournalError():
            permit.release(AttemptOutcome.NOT_SENT)
        case _:
            permit.release(AttemptOutcome.REJECTED)


def _unavailable(error: TransientModelError, attempts: int) -> ModelUnavailableError:
    tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    if (wait_s := error.retry_after_s or 0.0) > LONGEST_WAIT_S:
        tries += f", for the provider asks to wait {wait_s / 60:.0f} minutes"
    return ModelUnavailableError(error.model, f"{error.why}; gave up after {tries}", error.status)
