"""The bound of a reply that a refusal names, in the words of each provider."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core.output_limit import MIN_NAMED_TOKENS, OutputLimit, named_limit

ASKED = 16_384

MAXIMA = {
    "max_tokens: 16384 > 8192, which is the maximum allowed number of output tokens for claude-3-5-haiku": 8192,
    "max_tokens=16384 cannot be greater than max_model_len=max_total_tokens=8192. Please request fewer output tokens.": 8192,
    "max_tokens is too large: 16384. This model supports at most 4096 completion tokens, whereas you provided 16384.": 4096,
    "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the `context_window`": 8192,
    "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]": 8192,
    "Range of max_tokens should be [1, 2048]": 2048,
    "The maximum tokens you requested exceeds the model limit of 4096. Try again with a maximum tokens value that is "
    "lower than 4096.": 4096,
    "Unable to submit request because it has a maxOutputTokens value of 16384 but the supported range is from 1 (inclusive) "
    "to 8193 (exclusive). Update the value and try again.": 8192,
    "too many tokens: max tokens must be less than or equal to 4000, received 16384": 4000,
    "max_tokens: Input should be less than or equal to 8192": 8192,
    "max_completion_tokens cannot exceed 32,768... requested 65536, max output tokens: 8,192": 8192,
    "Value for max_tokens (16384) must be between 1 and 4096": 4096,
    "The max_tokens 16384 is too large, this model has 8192": 8192,
    "max_tokens should not be greater than 4096 for this endpoint": 4096,
    "The maximum output tokens for this model is 8192": 8192,
}  # fmt: skip

WINDOWS = {
    "This model's maximum context length is 8192 tokens. However, you requested 19384 tokens (3000 in the messages, 16384 in "
    "the completion). Please reduce the length of the messages or completion.": (8192, 5192),
    "'max_tokens' or 'max_completion_tokens' is too large: 16384. This model's maximum context length is 8192 tokens and "
    "your request has 3000 input tokens (16384 > 8192 - 3000).": (8192, 5192),
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 3000 `inputs` tokens and 16384 "
    "`max_new_tokens`": (4096, 1096),
    "Prompt contains 3000 tokens and 16384 draft tokens, too large for model with 8192 maximum context length": (8192, 5192),
}  # fmt: skip


@pytest.mark.parametrize("sentence", MAXIMA)
def test_a_maximum_is_read_and_learned(sentence):
    named = named_limit(sentence, ASKED)
    assert (named.tokens, named.learned) == (MAXIMA[sentence], OutputLimit(MAXIMA[sentence]))


@pytest.mark.parametrize("sentence", WINDOWS)
def test_what_the_prompt_leaves_of_the_window_is_read_and_the_window_learned(sentence):
    window, left = WINDOWS[sentence]
    named = named_limit(sentence, ASKED)
    assert (named.tokens, named.learned) == (left, OutputLimit(window_tokens=window))


@pytest.mark.parametrize("status", [400, 402, 413, 422, 429])
def test_status_of_a_refusal_is_no_bound(status):
    named = named_limit(f"{status}: the max_tokens 16384 is too large, this model has 8192", ASKED)
    assert named.tokens == 8192
    assert (
        named_limit(f"{status + 30}: the max_tokens 16384 is too large, this model has 8192", ASKED) is None
    )


@pytest.mark.parametrize("asked", [16_384, None])
def test_what_an_account_affords_is_read_and_not_learned(asked):
    sentence = (
        "This request requires more credits, or fewer max_tokens. You requested up to 16384 tokens, but can only afford "
        "9000. To increase, visit https://example.com/credits"
    )
    named = named_limit(sentence, asked)
    assert (named.tokens, named.learned) == (9000, OutputLimit())


@pytest.mark.parametrize(
    ("sentence", "name"),
    [
        ("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "max_completion_tokens"),
        ("Unrecognized request argument supplied: max_completion_tokens", "max_tokens"),
        ("Extra inputs are not permitted: max_completion_tokens", "max_tokens"),
    ],
)  # fmt: skip
def test_the_name_that_a_provider_wants_is_read(sentence, name):
    assert named_limit(sentence, ASKED).learned == OutputLimit(name=name)


@pytest.mark.parametrize(
    "sentence",
    [
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
        "maximum context length is 8192 tokens. However, you requested 25384 tokens (9000 in the messages, 16384 in the completion)",
        "insufficient credits: you have $0.0012 left",
        "Invalid value for 'temperature': must be at most 2",
        "max_tokens must be at least 1",
        "max_tokens: 16384 > 0",
        "Output blocked by content filtering policy",
        "The model `gpt-7-16000` does not exist",
        "",
    ],
)
def test_other_refusals_name_no_bound(sentence):
    assert named_limit(sentence, ASKED) is None


@given(st.text(max_size=300), st.one_of(st.none(), st.integers(1, 10**6)))
def test_whatever_is_said_a_bound_is_smaller_than_what_was_asked_for(text, asked):
    named = named_limit(f"max_tokens {text}", asked)
    if named is not None and named.tokens is not None:
        assert named.tokens >= MIN_NAMED_TOKENS
        assert asked is None or named.tokens < asked


@pytest.mark.parametrize(
    ("limit", "input_tokens", "bound"),
    [
        (OutputLimit(), 100, None),
        (OutputLimit(4096), 100, 4096),
        (OutputLimit(4096, 8192), 100, 4096),
        (OutputLimit(4096, 8192), 7000, 1192),
        (OutputLimit(4096, 8192), 9000, 4096),
        (OutputLimit(None, 8192), 9000, None),
    ],
)
def test_a_bound_leaves_room_for_the_prompt(limit, input_tokens, bound):
    assert limit.bound(input_tokens) == bound
