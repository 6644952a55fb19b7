"""Computes what a settled attempt costs its run: budget (`actual_cost`) and usage (`call_stats`).

Both the admission and its clients use this: a client tells a new admission what was spent.
"""

from __future__ import annotations

from dataclasses import replace

from rlm_ray.admission.protocol import AttemptOutcome, PermitRequest, Settle
from rlm_ray.core.budget import Amount, to_nano_usd
from rlm_ray.core.usage import CallStats

UNBILLED_OUTCOMES = {
    AttemptOutcome.RATE_LIMITED,
    AttemptOutcome.QUOTA_EXHAUSTED,
    AttemptOutcome.REJECTED,
    AttemptOutcome.SERVER_ERROR,
    AttemptOutcome.NOT_SENT,
}


def max_cost(ask: PermitRequest) -> Amount:
    """Return the amount to reserve for `ask`: its worst case."""
    return Amount(to_nano_usd(ask.cost_usd or 0.0), ask.input_tokens + ask.output_tokens, 1)


def smaller(ask: PermitRequest, room: Amount) -> PermitRequest | None:
    """Shorten the reply of `ask` to what `room` leaves; None where that is too short to be of use."""
    if not ask.min_output_tokens or room.calls < 1:
        return None
    tokens = min(ask.output_tokens, room.tokens - ask.input_tokens)
    if ask.cost_usd:
        input_cost = to_nano_usd(ask.input_cost_usd or 0.0)
        output_cost = to_nano_usd(ask.cost_usd) - input_cost
        if output_cost > 0:
            tokens = min(tokens, (room.nano_usd - input_cost - 1) * ask.output_tokens // output_cost)
        elif input_cost > room.nano_usd:  # the reply is free, the input is not
            return None
    if tokens < min(ask.min_output_tokens, ask.output_tokens):
        return None
    share = tokens / ask.output_tokens
    input_usd = ask.input_cost_usd or 0.0
    cost_usd = None if ask.cost_usd is None else input_usd + (ask.cost_usd - input_usd) * share
    return replace(ask, output_tokens=tokens, cost_usd=cost_usd)


def actual_cost(ask: PermitRequest, settle: Settle) -> Amount:
    """Return the amount to charge: what was used where it is known, else the estimate for all that may be billed."""
    answered = settle.outcome is AttemptOutcome.OK
    estimate = max_cost(ask)
    if settle.usage is None:
        free = settle.outcome in UNBILLED_OUTCOMES
        known = Amount() if free else estimate
        cost = 0 if free else estimate.nano_usd
    else:
        known = Amount(tokens=settle.usage.tokens)
        cost = estimate.nano_usd
    if settle.cost_usd is not None:
        cost = to_nano_usd(settle.cost_usd)
    return Amount(cost, known.tokens, 1 if answered or settle.outcome is AttemptOutcome.UNKNOWN else 0)


def call_stats(ask: PermitRequest, settle: Settle, queue_wait_s: float, rate_wait_s: float) -> CallStats:
    """Return the usage of one attempt, for the usage of its run."""
    if settle.outcome is AttemptOutcome.NOT_SENT:
        return CallStats(queue_wait_s=queue_wait_s, rate_wait_s=rate_wait_s)
    usage = settle.usage
    answered = settle.outcome is AttemptOutcome.OK
    return CallStats(
        calls=int(answered),
        attempts=1,
        retries=int(ask.attempt > 1),
        unknown=int(usage is None and settle.outcome not in UNBILLED_OUTCOMES),
        repaid_calls=int(answered and ask.is_retry_of_lost),
        unpriced=int(answered and settle.cost_usd is None),
        input_tokens=usage.input_tokens if usage else 0,
        output_tokens=usage.output_tokens if usage else 0,
        cached_tokens=usage.cached_tokens if usage else 0,
        reasoning_tokens=usage.reasoning_tokens if usage else 0,
        cost_usd=settle.cost_usd or 0.0,
        queue_wait_s=queue_wait_s,
        rate_wait_s=rate_wait_s,
        estimated=int(answered and usage is not None and usage.estimated),
    )
