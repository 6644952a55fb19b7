"""What a reply is settled at, whatever the provider says that it used."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core.llm import (
    MAX_CREDIBLE_TOKENS,
    Message,
    ModelReply,
    ModelRequest,
    Usage,
    credible_usage,
    request_tokens,
    text_tokens,
)
from rlm_ray.llm.litellm_client import LitellmProvider
from rlm_ray.llm.litellm_reply import usage_in
from rlm_ray.testing import ModelServer, Raw

REQUEST = ModelRequest("openai/any", (Message("user", "hi " * 50),))
TEXT = "word " * 40
SENT, WRITTEN = request_tokens(REQUEST), max(text_tokens(TEXT, REQUEST.model), len(TEXT) // 4)

odd_counts = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.just([]), st.just({})
)


@pytest.mark.parametrize(
    ("said", "settled"),
    [
        ({"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}, (12, 7, False)),
        ({"prompt_tokens": "12", "completion_tokens": "7"}, (12, 7, False)),
        ({"prompt_tokens": 12.7, "completion_tokens": 7.2}, (12, 7, False)),
        ({"input_tokens": 12, "output_tokens": 7}, (12, 7, False)),
        ({"total_tokens": 500}, (SENT, 500 - SENT, True)),
        ({"total_tokens": 3}, (SENT, WRITTEN, True)),
        ({"prompt_tokens": "many", "completion_tokens": 7}, (SENT, WRITTEN, True)),
        ({"prompt_tokens": 10**30, "completion_tokens": 7}, (SENT, WRITTEN, True)),
        ({"prompt_tokens": 12, "completion_tokens": 0}, (12, WRITTEN, True)),
        ({"prompt_tokens": True, "completion_tokens": 7}, (SENT, WRITTEN, True)),
        *(
            (said, (SENT, WRITTEN, True))
            for said in (
                None, {}, [], "none", 7,
                {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
                {"prompt_tokens": -1, "completion_tokens": -1, "total_tokens": -2},
                {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},
                {"prompt_tokens": math.nan, "completion_tokens": math.inf},
            )
        ),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.filterwarnings("ignore:Item '.*' on TypedDict class:UserWarning")
async def test_a_reply_is_settled_by_its_counts_or_by_our_estimate(said, settled):
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": TEXT}}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "any",
        "choices": [choice],
        "usage": said,
    }
    with ModelServer([Raw(json.dumps(body).encode())]) as server:
        params = {"api_base": server.url, "api_key": "x"}
        reply = await LitellmProvider().complete(ModelRequest(REQUEST.model, REQUEST.messages, params=params))
    usage = credible_usage(REQUEST, reply)
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == settled


@given(st.dictionaries(st.sampled_from(
    ["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens"]), odd_counts))  # fmt: skip
def test_whatever_is_said_an_answer_is_never_settled_below_nothing(said):
    usage = credible_usage(REQUEST, ModelReply(TEXT, usage=usage_in(said)))
    assert 0 < usage.input_tokens <= MAX_CREDIBLE_TOKENS
    assert 0 < usage.output_tokens <= MAX_CREDIBLE_TOKENS


def test_parts_of_a_count_are_no_larger_than_it():
    said = {
        "prompt_tokens": 12, "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 50}, "completion_tokens_details": {"reasoning_tokens": 900},
    }  # fmt: skip
    assert usage_in(said) == Usage(12, 5, 12, 5)


def test_a_reply_that_is_empty_and_counted_so_is_no_estimate():
    assert credible_usage(REQUEST, ModelReply("", usage=Usage(12, 0))) == Usage(12, 0)
