"""What a reply is settled at, and what a request reserves."""

from __future__ import annotations

import pytest

from rlm_ray.core.llm import (
    Message,
    ModelReply,
    ModelRequest,
    Price,
    Usage,
    credible_usage,
    estimate_max_usage,
    request_tokens,
    sum_of,
    text_tokens,
)

REQUEST = ModelRequest("m", (Message("user", "word " * 100),))
READ = request_tokens(REQUEST)
WRITTEN = "word " * 20
WROTE = text_tokens(WRITTEN, "m")
BLANK = ModelRequest("m", (Message("user", " " * 4_000),))


@pytest.mark.parametrize(
    ("counted", "text", "usage"),
    [
        (Usage(10, 5), WRITTEN, Usage(10, 5)), (Usage(10, 0), "", Usage(10, 0)), (Usage(100_000_000, 1), WRITTEN, Usage(100_000_000, 1)),
        (Usage(1, 100_000_000), WRITTEN, Usage(1, 100_000_000)), (Usage(10, 5, 3, 2, False, 1), WRITTEN, Usage(10, 5, 3, 2, False, 1)),
        (Usage(10, 0, 4), WRITTEN, Usage(10, WROTE, 4, estimated=True)), (Usage(0, 0), WRITTEN, Usage(READ, WROTE, estimated=True)),
        (Usage(0, 0, 9), "", Usage(READ, 0, 0, estimated=True)), (Usage(100_000_000 + 1, 5), WRITTEN, Usage(READ, WROTE, estimated=True)),
        (Usage(10, 100_000_000 + 1), WRITTEN, Usage(10, WROTE, estimated=True)), (Usage(-1, 5), WRITTEN, Usage(READ, WROTE, estimated=True)),
        (Usage(0, READ + WROTE + 7), WRITTEN, Usage(READ, WROTE + 7, estimated=True)), (Usage(10, -1), "", Usage(10, 0, estimated=True)),
    ],
)  # fmt: skip
def test_what_a_provider_did_not_count_is_estimated(counted, text, usage):
    assert credible_usage(REQUEST, ModelReply(text, usage=counted)) == usage


def test_thinking_is_written_too():
    reply = ModelReply("", reasoning=WRITTEN, usage=Usage(10, 0))
    assert credible_usage(REQUEST, reply) == Usage(10, WROTE, estimated=True)


def test_four_characters_are_a_token_at_least():
    assert request_tokens(BLANK) < 1_000
    assert estimate_max_usage(BLANK) == Usage(1_000, 4_096)
    assert credible_usage(BLANK, ModelReply(" " * 4_000)) == Usage(1_000, 1_000, estimated=True)


def test_request_reserves_its_bound_and_its_messages():
    assert estimate_max_usage(ModelRequest("m", REQUEST.messages, 77)) == Usage(READ, 77)
    two = ModelRequest("m", (*REQUEST.messages, *REQUEST.messages))
    assert request_tokens(ModelRequest("m", ())) == 1
    assert request_tokens(two) == 2 * READ - 1 == 2 * (text_tokens("word " * 100, "m") + 8) + 1


def test_usages_add_up_field_by_field():
    assert sum_of([]) == Usage()
    one, other = Usage(1, 2, 3, 4, False, 5), Usage(10, 20, 30, 40, True, 50)
    assert sum_of([one, other]) == sum_of([other, one]) == Usage(11, 22, 33, 44, True, 55)
    assert sum_of([one, one]).estimated is False
    assert (one.tokens, other.tokens) == (3, 30)


@pytest.mark.parametrize(
    ("price", "usage", "usd"),
    [
        (Price(2, 8), Usage(1_000_000, 0), 2.0), (Price(2, 8), Usage(0, 1_000_000), 8.0), (Price(2, 8), Usage(500_000, 0, 100_000, 0, False, 100_000), 1.0),
        (Price(2, 8, 1, 4), Usage(500_000, 250_000, 100_000, 0, False, 100_000), 0.6 + 0.1 + 0.4 + 2.0),
        (Price(2, 8, 0, 4), Usage(100_000, 0, 100_000, 0, False, 100_000), 0.4), (Price(2, 8, 1, 0), Usage(100_000, 0, 0, 0, False, 100_000), 0.0),
    ],
)  # fmt: skip
def test_each_kind_of_token_has_its_price(price, usage, usd):
    assert price.cost(usage) == pytest.approx(usd, rel=1e-12)
