"""What calls may have cost whose usage nobody knows: given up, lost with their process, timed out."""

from __future__ import annotations

import pytest

from rlm_ray.core.llm import Message, ModelReply, ModelRequest, Usage, credible_usage, estimate_max_usage
from rlm_ray.events.records import CallEnded, CallSent, FailedAttempt
from rlm_ray.events.usage import max_unknown_cost_usd
from rlm_ray.serve.run_launcher import with_unknown_cost
from rlm_ray.serve.run_registry import KeySpending


def sent(call=1, path=(), cost_usd=0.5):
    return CallSent(1.0, path, call, "turn", "m", "k", max_cost_usd=cost_usd)


def ended(call=1, path=(), kind="", tries=()):
    attempts = tuple(FailedAttempt(1.5, each, "") for each in tries)
    return CallEnded(2.0, path, call, "turn", "m", "k", 1.0, error_kind=kind, tries=attempts, cost_usd=0.1)


@pytest.mark.parametrize(
    ("records", "cost_usd"),
    [
        ([], 0.0),
        ([sent(), ended()], 0.0),
        ([sent(), ended(kind="cancelled")], 0.5),
        ([sent()], 0.5),
        ([sent(), sent(), ended()], 0.5),
        ([sent(1), sent(2), sent(1, (0,)), ended(2)], 1.0),
        ([sent(), ended(tries=["timeout"])], 0.5),
        ([sent(), ended(tries=["connection", "timeout"], kind="cancelled")], 1.5),
        ([sent(), ended(tries=["rate_limited", "server_error"])], 0.0),
        ([sent(cost_usd=None), ended(kind="cancelled")], 0.0),
        ([ended(kind="cancelled")], 0.0),
    ],
    ids=str,
)
def test_the_most_that_lost_calls_may_have_cost(records, cost_usd):
    assert max_unknown_cost_usd(records) == cost_usd


class Records:
    """Of a run whose only call was given up."""

    def exists(self):
        return True

    def records(self):
        return [sent(), ended(kind="cancelled")]


@pytest.mark.parametrize(
    ("known_usd", "max_usd", "charged_usd"),
    [(0.1, None, 0.1), (0.1, 1.0, 0.6), (0.1, 0.3, 0.3), (0.4, 0.3, 0.4), (0.0, 0.5, 0.5)],
)
def test_a_key_with_a_budget_is_charged_for_them_within_what_its_run_held(known_usd, max_usd, charged_usd):
    spent = with_unknown_cost(KeySpending(1, 10, 5, known_usd), Records(), max_usd)
    assert (spent.cost_usd, spent.runs, spent.input_tokens) == (pytest.approx(charged_usd), 1, 10)


@pytest.mark.parametrize(
    "text", ["text " * 400, "a b c " * 300, " " * 4_000, "x = 1\n" * 200, "0123456789" * 50, "ж" * 999, ""]
)
def test_what_is_not_counted_is_charged_at_a_quarter_of_its_characters_at_least_and_reserved_so(text):
    request = ModelRequest("m", (Message("user", text),))
    usage = credible_usage(request, ModelReply(text, usage=Usage()))
    assert min(usage.input_tokens, usage.output_tokens) >= len(text) // 4
    assert usage.input_tokens <= estimate_max_usage(request).input_tokens
