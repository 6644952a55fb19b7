"""Chat completions through the unmodified `openai` client."""

from __future__ import annotations

import time

import openai
import pytest
from serve_waiting import MODEL, QUICK, asked

from rlm_ray.journal.run_store import RunStore
from rlm_ray.runs.context_loader import load_context
from rlm_ray.testing.responses import run_query

pytestmark = pytest.mark.ray


def test_the_models_of_a_key_are_listed(site):
    assert [model.id for model in site.client().models.list()] == [
        "deep",
        "shallow",
        "refused",
        "rlm/openai/root",
    ]
    assert [model.id for model in site.client("guest").models.list()] == ["shallow"]


def test_a_question_about_a_long_message_is_answered_from_its_whole_length(site):
    question = run_query("FINAL(f'{len(context)} characters')")
    reply = site.client().chat.completions.create(model=MODEL, messages=asked(question, "word " * 10_000))
    assert reply.choices[0].message.content == "50000 characters"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 0
    assert reply.id == f"chatcmpl-{reply.rlm['run_id']}"


async def test_the_async_client_gets_the_same(site):
    async with site.async_client() as client:
        reply = await client.chat.completions.create(model=MODEL, messages=asked(QUICK))
    assert reply.choices[0].message.content == "session done"


def test_a_stream_begins_at_once_tells_progress_and_ends_with_the_usage_of_the_whole_tree(site):
    question = run_query("recursive_map('q', ['a', 'b', 'c'])", *["print(1)"] * 4)
    started = time.monotonic()
    stream = site.client().chat.completions.create(
        model=MODEL, messages=asked(question), stream=True, stream_options={"include_usage": True}
    )
    first = next(stream)
    waited = time.monotonic() - started
    *middle, usage = stream
    told = "".join(getattr(chunk.choices[0].delta, "reasoning_content", "") for chunk in middle)
    assert first.choices[0].delta.role == "assistant"
    assert waited < (time.monotonic() - started) / 2
    assert "asks 3 sub-calls" in told
    assert "3 answered" in told
    assert "".join(chunk.choices[0].delta.content or "" for chunk in middle) == "session done"
    assert middle[-1].choices[0].finish_reason == "stop"
    assert usage.choices == []
    assert usage.usage.total_tokens > 0
    assert all(chunk.usage is None for chunk in middle)


def test_wishes_of_a_request_hold_within_those_of_its_model(site, models):
    before = models.calls
    reply = site.client().chat.completions.create(
        model=MODEL, messages=asked("hello"), extra_body={"rlm": {"max_depth": 0, "context": "some text"}}
    )
    assert reply.choices[0].message.content.startswith("leaf answer")
    assert models.calls == before + 1


def test_a_context_uri_is_read_where_its_beginning_is_allowed_and_nowhere_else(site):
    shared = site.run_dir.removesuffix("runs") + "shared"
    question = run_query("FINAL(str(len(context)))")

    def ask(uri):
        return site.client().chat.completions.create(
            model=MODEL, messages=asked(question), extra_body={"rlm": {"context_uri": uri}}
        )

    assert ask(f"file://{shared}/note.txt").choices[0].message.content == "1200"
    for forbidden in (f"file://{site.keys_file}", f"file://{shared}/../keys.yaml", "http://127.0.0.1/"):
        with pytest.raises(openai.PermissionDeniedError):
            ask(forbidden)


def test_a_limit_that_is_reached_is_a_finish_reason_or_an_error_and_never_a_plain_answer(site):
    def ask(**limits):
        return site.client().chat.completions.create(
            model=MODEL, messages=asked(run_query(*["print(1)"] * 6)), extra_body={"rlm": {"limits": limits}}
        )

    stopped = ask(calls=3)
    assert stopped.choices[0].finish_reason == "length"
    assert load_context(RunStore(site.run_dir, stopped.rlm["run_id"]))[0].text() == ""
    with pytest.raises(openai.BadRequestError) as caught:
        ask(tokens=1)
    assert caught.value.code == "tokens"


@pytest.mark.parametrize(
    ("key", "model", "error", "code"),
    [
        ("stranger", MODEL, openai.AuthenticationError, "invalid_api_key"),
        ("ann", "gpt-5", openai.NotFoundError, "model_not_found"),
        ("guest", MODEL, openai.PermissionDeniedError, "model_not_allowed"),
    ],
)
def test_what_is_not_allowed_is_refused_in_the_shape_clients_know(site, key, model, error, code):
    with pytest.raises(error) as caught:
        site.client(key).chat.completions.create(model=model, messages=asked("hello"))
    assert caught.value.code == code
    assert caught.value.type


def test_a_field_of_the_wrong_kind_is_named(site):
    with pytest.raises(openai.UnprocessableEntityError, match="temperature") as caught:
        site.client().chat.completions.create(model=MODEL, messages=asked("hello"), temperature=7)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.UnprocessableEntityError, match="extra"):
        site.client().chat.completions.create(
            model=MODEL, messages=asked("hello"), extra_body={"rlm": {"depth": 1}}
        )


def test_litellm_is_a_client_so_that_a_run_can_be_another_runs_model(site):
    import litellm

    reply = litellm.completion(
        model=f"openai/{MODEL}",
        api_base=f"{site.url}/v1",
        api_key="sk-ann",
        messages=asked(QUICK),
        num_retries=0,
    )
    assert reply.choices[0].message.content == "session done"


DIRECT = {"rlm": {"direct_without_context": True}}


def test_a_conversation_without_context_is_one_plain_call_with_its_roles(site, models):
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "A title for this, please"},
    ]
    before = models.calls
    reply = site.client().chat.completions.create(model=MODEL, messages=talk, extra_body=DIRECT)
    assert models.calls == before + 1
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens > 0
    assert reply.rlm["turns"] == 0
    [sent] = [one for one in models.requests if "A title for this, please" in str(one.messages)]
    assert [(message["role"], message["content"]) for message in sent.messages] == [
        (message["role"], message["content"]) for message in talk
    ]


def test_a_plain_call_streams_from_its_model_and_is_on_record_like_any_run(site, models):
    stream = site.client().chat.completions.create(
        model=MODEL,
        messages=asked("Who streams?"),
        stream=True,
        stream_options={"include_usage": True},
        extra_body=DIRECT,
    )
    *middle, usage = stream
    assert usage.usage.total_tokens > 0
    end = RunStore(site.run_dir, usage.id.removeprefix("chatcmpl-")).last_end()
    assert end.stop_reason == "answered"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in middle) == end.answer
    again = site.client().responses.create(model=MODEL, input="Who streams?", stream=True, extra_body=DIRECT)
    assert "".join(event.delta for event in again if event.type == "response.output_text.delta") == end.answer
    assert [sent.stream for sent in models.requests if "Who streams?" in sent.last] == [True] * 2


def test_a_plain_call_with_a_budget_is_admitted_and_settled_like_any_run(site):
    client = site.client("poor")
    http = site.http("poor")
    before = http.get("/v1/usage").json()["runs"]
    client.chat.completions.create(model="shallow", messages=asked("Who?"), extra_body=DIRECT)
    assert http.get("/v1/usage").json()["runs"] == before + 1
    http.close()
