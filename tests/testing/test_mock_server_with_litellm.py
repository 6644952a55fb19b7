"""What litellm makes of a scripted provider."""

import os

import pytest

from rlm_ray.testing import Drop, Failure, Hang, ModelServer, Reply

# litellm's types, built when the first stream begins, make pydantic warn about `ReadOnly`.
pytestmark = pytest.mark.filterwarnings("ignore:Item '.*' on TypedDict class:UserWarning")

TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


@pytest.fixture(scope="module")
def litellm():
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    litellm.suppress_debug_info = True
    return litellm


@pytest.fixture
def complete(litellm):
    """`await complete(outcome, **parameters)`: one call to a server that plays one outcome."""

    async def once(outcome, **parameters):
        with ModelServer([outcome]) as server:
            try:
                return await litellm.acompletion(
                    model="openai/any",
                    messages=[{"role": "user", "content": "hello, hello"}],
                    api_base=server.url,
                    api_key="x",
                    num_retries=0,
                    max_retries=0,
                    **parameters,
                )
            finally:
                assert server.calls == 1

    return once


async def test_text_and_usage(complete):
    """Text and token counts arrive."""
    response = await complete(Reply("an answer", cached_tokens=2))
    assert response.choices[0].message.content == "an answer"
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (3, 2)
    assert response.usage.prompt_tokens_details.cached_tokens == 2


async def test_no_content_tool_call_and_cut_answer_arrive_as_they_are(complete):
    """No content, a tool call and a cut answer arrive as they are."""
    assert (await complete(Reply(None))).choices[0].message.content is None
    called = (await complete(Reply(None, "tool_calls", [TOOL_CALL]))).choices[0]
    assert called.finish_reason == "tool_calls"
    assert called.message.tool_calls[0].function.name == "look"
    assert (await complete(Reply("cut", "length"))).choices[0].finish_reason == "length"


async def test_limits_are_reported(complete, litellm):
    """429 is a RateLimitError that carries Retry-After; remaining limits come with answers."""
    with pytest.raises(litellm.RateLimitError) as caught:
        await complete(Failure(429, "slow down", headers={"retry-after": "7"}))
    assert caught.value.litellm_response_headers["retry-after"] == "7"
    response = await complete(Reply("x", headers={"x-ratelimit-remaining-tokens": "5"}))
    headers = response._hidden_params["additional_headers"]
    assert headers["llm_provider-x-ratelimit-remaining-tokens"] == "5"


@pytest.mark.parametrize("outcome", [Drop(), Drop("half an answer" * 30), Failure(500), Failure(529)])
async def test_broken_connections_and_servers(complete, litellm, outcome):
    """Each of them is an error that says the provider failed."""
    with pytest.raises((litellm.InternalServerError, litellm.APIError)) as caught:
        await complete(outcome)
    assert caught.value.status_code >= 500


async def test_hanging_servers(complete, litellm):
    """Silence becomes a Timeout."""
    with pytest.raises(litellm.Timeout):
        await complete(Hang(30), timeout=0.3)


async def test_stream_carries_the_text_of_the_answer(litellm):
    """A stream carries the text."""
    with ModelServer(["a text in several events, one after another"]) as server:
        stream = await litellm.acompletion(
            model="openai/any",
            messages=[{"role": "user", "content": "hello"}],
            api_base=server.url,
            api_key="x",
            stream=True,
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == "a text in several events, one after another"
