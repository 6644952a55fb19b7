"""The bound that a request is sent with: by the user, a budget, the model, and what the provider said before."""

from __future__ import annotations

import pytest

from rlm_ray.core.limits import Limits
from rlm_ray.core.llm import BUDGET_OUTPUT_TOKENS, Message, ModelRequest, request_tokens
from rlm_ray.core.output_limit import (
    MAX_LEARNED,
    MIN_NAMED_TOKENS,
    MIN_OUTPUT_TOKENS,
    NamedLimit,
    OutputLimit,
    ReplyBounds,
    limit_named_by,
    named_limit,
)
from rlm_ray.errors import ModelError, QuotaError, ReplyError, TransientModelError

FREE, BUDGET = Limits(), Limits(tokens=10**6)
ASKS = ModelRequest("m", (Message("user", "x" * 4_000),))
LENGTH = request_tokens(ASKS)


UNKNOWN = OutputLimit()


def bounded(limits, max_tokens=None, learned=UNKNOWN, of_model=UNKNOWN, *, last_call=False):
    bounds, request = ReplyBounds(), ModelRequest(ASKS.model, ASKS.messages, max_tokens)
    bounds.corrected(request, "account", NamedLimit(None, learned))
    sent, least = bounds.bounded(request, "account", limits, lambda: of_model, last_call=last_call)
    return sent.max_tokens, sent.params, least


@pytest.mark.parametrize(
    ("given", "bound", "least"),
    [
        ({"limits": FREE}, None, 0), ({"limits": FREE, "max_tokens": 500}, 500, 0), ({"limits": FREE, "of_model": OutputLimit(100)}, None, 0),
        ({"limits": FREE, "learned": OutputLimit(400)}, 400, 0), ({"limits": FREE, "max_tokens": 500, "learned": OutputLimit(400)}, 400, 0),
        ({"limits": FREE, "max_tokens": 300, "learned": OutputLimit(400)}, 300, 0),
        ({"limits": BUDGET}, 16_384, 64), ({"limits": Limits(cost_usd=1.0)}, BUDGET_OUTPUT_TOKENS, MIN_OUTPUT_TOKENS),
        ({"limits": Limits(calls=5, time_s=9)}, None, 0), ({"limits": BUDGET, "last_call": True}, 2_048, 64),
        ({"limits": BUDGET, "max_tokens": 20_000}, 20_000, 0), ({"limits": BUDGET, "max_tokens": 20_000, "of_model": OutputLimit(100)}, 20_000, 0),
        ({"limits": BUDGET, "of_model": OutputLimit(100)}, 100, MIN_OUTPUT_TOKENS),
        ({"limits": BUDGET, "of_model": OutputLimit(100), "learned": OutputLimit(80)}, 80, MIN_OUTPUT_TOKENS),
        ({"limits": BUDGET, "of_model": OutputLimit(None, LENGTH + 1_000)}, 1_000, MIN_OUTPUT_TOKENS),
        ({"limits": BUDGET, "of_model": OutputLimit(None, LENGTH + MIN_NAMED_TOKENS)}, MIN_NAMED_TOKENS, MIN_OUTPUT_TOKENS),
        ({"limits": BUDGET, "of_model": OutputLimit(None, LENGTH + MIN_NAMED_TOKENS - 1)}, BUDGET_OUTPUT_TOKENS, MIN_OUTPUT_TOKENS),
        ({"limits": FREE, "learned": OutputLimit(None, LENGTH + 1_000)}, 1_000, 0), ({"limits": FREE, "learned": OutputLimit(name="x")}, None, 0),
    ],
)  # fmt: skip
def test_reply_is_bounded_by_the_smallest_that_holds(given, bound, least):
    assert bounded(**given) == (bound, {}, least)


def test_bound_goes_under_the_name_that_the_provider_wants():
    assert bounded(FREE, 500, OutputLimit(name="max_completion_tokens")) == (
        None,
        {"max_completion_tokens": 500},
        0,
    )


def test_what_a_provider_said_holds_for_its_account_and_model_alone():
    bounds = ReplyBounds()
    assert bounds.corrected(ASKS, "a", NamedLimit(300, OutputLimit(400))).max_tokens == 300
    bounds.corrected(ASKS, "a", NamedLimit(300, OutputLimit(500)))
    other = ModelRequest("other", ASKS.messages)
    sent = [
        bounds.bounded(asks, account, FREE, OutputLimit, last_call=False)[0]
        for asks, account in ((ASKS, "a"), (ASKS, "b"), (other, "a"))
    ]
    assert [request.max_tokens for request in sent] == [400, None, None]


def test_correction_that_teaches_nothing_is_not_remembered():
    bounds = ReplyBounds()
    assert bounds.corrected(ASKS, "a", NamedLimit(None)) == ASKS
    assert bounds.corrected(ASKS, "a", NamedLimit(9_000)).max_tokens == 9_000
    assert bounds.bounded(ASKS, "a", FREE, OutputLimit, last_call=False) == (ASKS, 0)
    asked = ModelRequest("m", ASKS.messages, 7)
    renamed = bounds.corrected(asked, "a", NamedLimit(None, OutputLimit(name="max_completion_tokens")))
    assert (renamed.max_tokens, renamed.params) == (None, {"max_completion_tokens": 7})


def test_oldest_of_too_many_models_is_forgotten():
    bounds = ReplyBounds()
    for number in range(MAX_LEARNED + 1):
        bounds.corrected(ModelRequest(str(number), ()), "a", NamedLimit(None, OutputLimit(100)))
    known = [
        bounds.bounded(ModelRequest(str(n), ()), "a", FREE, OutputLimit, last_call=False)[0].max_tokens
        for n in (0, 1, MAX_LEARNED)
    ]
    assert known == [None, 100, 100]


@pytest.mark.parametrize(
    ("error", "tokens"),
    [
        (ModelError("m", "max_tokens must be at most 100", 400), 100), (ModelError("m", "max_tokens must be at most 100"), 100),
        (ModelError("m", "max_tokens must be at most 100", 500), None), (ModelError("m", "max_tokens must be at most 100", 429), None),
        (TransientModelError("m", "max_tokens must be at most 100", 400), None), (ReplyError("m", "max_tokens must be at most 100", 400), None),
        (QuotaError("m", "max_tokens must be at most 100", 402), 100), (ModelError("m", "no such model", 400), None),
    ],
)  # fmt: skip
def test_only_refusals_of_a_request_name_a_bound(error, tokens):
    named = limit_named_by(error, ModelRequest("m", (), 200))
    assert (None if named is None else named.tokens) == tokens


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (OutputLimit(), OutputLimit(), OutputLimit()), (OutputLimit(5), OutputLimit(), OutputLimit(5)), (OutputLimit(), OutputLimit(5), OutputLimit(5)),
        (OutputLimit(5, 9, "a"), OutputLimit(4, 10, "b"), OutputLimit(4, 9, "b")), (OutputLimit(5, None, "a"), OutputLimit(6, 7), OutputLimit(5, 7, "a")),
    ],
)  # fmt: skip
def test_smaller_of_two_limits_holds_and_the_later_name(one, other, both):
    assert one.narrowed_by(other) == both


@pytest.mark.parametrize(
    ("tokens", "asked", "named"),
    [
        (16, 100, 16),
        (15, 100, None),
        (99, 100, 99),
        (100, 100, None),
        (100, None, 100),
    ],
)
def test_bound_is_of_use_where_it_is_smaller_than_asked_and_not_tiny(tokens, asked, named):
    found = named_limit(f"max_tokens must be at most {tokens}", asked)
    assert (None if found is None else found.tokens) == named


@pytest.mark.parametrize(
    ("status", "is_read"),
    [(400, True), (402, True), (403, True), (413, True), (422, True), (None, True), (401, False), (404, False), (423, False), (500, False)],
)  # fmt: skip
def test_limit_is_read_from_refusals_of_the_request_only(status, is_read):
    found = limit_named_by(
        ModelError("m", "max_tokens must be at most 100", status), ModelRequest("m", (), max_tokens=500)
    )
    assert (found is not None and found.tokens == 100) is is_read
