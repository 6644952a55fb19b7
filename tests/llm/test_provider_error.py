"""Real bodies of providers' errors, and the kind each is."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.errors import (
    AuthenticationError,
    ConfigError,
    ContextWindowError,
    ModelError,
    QuotaError,
    RLMError,
    TransientModelError,
)
from rlm_ray.llm.litellm_errors import Called, to_error
from rlm_ray.llm.provider_error import decode, read_error
from rlm_ray.llm.provider_rules import kind_of


def openai(message, type_="invalid_request_error", code=None, param=None):
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


def google(code, status, message, *details):
    return {"error": {"code": code, "status": status, "message": message, "details": list(details)}}


def exhausted(quota_id, retry="38s", limit="15"):
    return google(
        429,
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota, please check your plan and billing details. * Quota exceeded for metric: "
        f"generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: {limit}\nPlease retry in {retry}.",
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaMetric": "generate_content", "quotaId": quota_id, "quotaValue": limit}],
        },
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": retry},
    )


def anthropic(type_, message):
    return {"type": "error", "error": {"type": type_, "message": message}}


NGINX_413 = "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>nginx</body></html>"
AZURE_FILTER = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. "
    "Please modify your prompt and retry."
)
TPM = (
    "Request too large for model `llama-3.3-70b-versatile` in organization `org_1` service tier `on_demand` on tokens "
    "per minute (TPM): Limit 6000, Requested 9012, please reduce your message size and try again."
)

WINDOW = [
    (400, openai("This model's maximum context length is 128000 tokens. However, your messages resulted in 150001 "
                 "tokens. Please reduce the length of the messages.", code="context_length_exceeded", param="messages")),
    (400, openai("Your input exceeds the context window of this model. Please adjust your input and try again.",
                 code="context_length_exceeded", param="input")),
    (400, {"error": {"code": "context_length_exceeded", "message": "Input tokens exceed the configured limit of 272000 "
                     "tokens. Your messages resulted in 300000 tokens."}}),  # Azure
    (400, {"message": "Input is too long for requested model."}),  # Bedrock
    (400, {"message": "The model returned the following errors: prompt is too long: 213462 tokens > 200000 maximum"}),
    (400, {"code": "Client specified an invalid argument", "error": "This model's maximum prompt length is 131072 but "
           "the request contains 150000 tokens."}),  # xAI
    (422, {"error": "Input validation error: `inputs` must have less than 4095 tokens. Given: 5000",
           "error_type": "validation"}),  # TGI
    (422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` "
           "tokens and 100 `max_new_tokens`", "error_type": "validation"}),
    (413, NGINX_413),
    (413, "Request Entity Too Large"),
    (413, {"error": {"code": "tokens_limit_reached", "message": "Request body too large for gpt-4o model. Max size: 8000 "
                     "tokens.", "details": "Request body too large"}}),  # GitHub Models
    (413, anthropic("request_too_large", "Request exceeds the maximum size")),
    (400, anthropic("invalid_request_error", "prompt is too long: 213462 tokens > 200000 maximum")),
    (400, anthropic("invalid_request_error", "input length and `max_tokens` exceed context limit: 201000 + 20000 > "
                    "200000, decrease input length or `max_tokens` and try again")),
    (400, google(400, "INVALID_ARGUMENT", "The input token count (1200000) exceeds the maximum number of tokens allowed "
                 "(1048576).")),
    (400, {"error": {"code": 400, "message": "the request exceeds the available context size, try increasing it",
                     "type": "exceed_context_size_error", "n_prompt_tokens": 9000, "n_ctx": 4096}}),  # llama.cpp
    (500, {"error": {"code": 500, "message": "input is too large to process. increase the physical batch size",
                     "type": "server_error"}}),  # llama.cpp
    (400, {"object": "error", "message": "This model's maximum context length is 8192 tokens. However, your request has "
           "9000 input tokens. Please reduce the length of the input messages.", "type": "BadRequestError", "code": 400}),
    (400, {"object": "error", "message": "This model's maximum context length is 8192 tokens. However, you requested "
           "25384 tokens (9000 in the messages, 16384 in the completion). Please reduce the length of the messages or "
           "completion.", "type": "BadRequestError", "param": None, "code": 400}),
    (400, {"object": "error", "message": "The decoder prompt (length 40981) is longer than the maximum model length of "
           "32768. Make sure that `max_model_len` is no smaller than the number of text tokens.", "code": 400}),  # vLLM
    (400, {"error": {"message": "The input (41044 tokens) is longer than the model's context length (32768 tokens).",
                     "type": "BadRequestError", "code": 400}}),  # SGLang
    (400, {"error": {"code": None, "message": "The maximum context length of Meta-Llama-3.1-8B-Instruct is 16384. However, "
                     "answering your request will take 20000 tokens.", "type": "invalid_request_error"}}),  # SambaNova
    (400, {"error": {"message": "This endpoint's maximum context length is 131072 tokens. However, you requested about "
                     "200000 tokens (200000 of text input). Please reduce the length of either one", "code": 400}}),
    (400, {"message": "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 9000."}),
    (400, {"object": "error", "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 "
           "maximum context length", "type": "invalid_request_error", "code": "3051"}),  # Mistral
    (422, {"message": {"detail": [{"type": "value_error", "loc": ["body"], "msg": "Value error, The prompt is too long: "
           "140000, model maximum context length: 131072"}]}}),
    (400, {"error": {"message": "Range of input length should be [1, 129024]", "type": "invalid_request_error",
                     "code": "invalid_parameter_error"}}),  # DashScope
    (400, {"error": {"message": "Please reduce the length of the messages or completion. Current length is 9000 while limit "
                     "is 8192", "code": "context_length_exceeded"}}),  # Cerebras
    (400, {"error": {"message": "Invalid request: Your request exceeded model token limit: 8192 (requested: 9000)",
                     "type": "invalid_request_error"}}),  # Moonshot
    (400, {"error": {"code": "1261", "message": "Prompt exceeds max length"}}),  # Zhipu
    (400, {"error": {"message": "The prompt size exceeds the context window size and cannot be processed.", "type": "x"}}),
    (400, {"detail": "Input length 9000 exceeds maximum allowed token size 8192"}),
    # more than a minute's tokens in one request: waiting never helps
    (413, openai(TPM, "tokens", "rate_limit_exceeded")),
    (429, openai("Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Requested 50100. "
                 "The input or output tokens must be reduced in order to run successfully.", "tokens",
                 "rate_limit_exceeded")),
]  # fmt: skip

RATE_LIMITED = [
    (429, exhausted("GenerateRequestsPerMinutePerProjectPerModel-FreeTier")),
    (429, exhausted("GenerateContentInputTokensPerModelPerMinute-FreeTier", "4.2s", "250000")),
    (429, google(429, "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later. Please refer to the error code "
                 "429 documentation")),
    (429, openai("Rate limit reached for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Used 29000, "
                 "Requested 2000. Please try again in 2s.", "tokens", "rate_limit_exceeded")),
    (429, openai("Rate limit reached for gpt-4o in organization org-1 on requests per min (RPM): Limit 3, Used 3, "
                 "Requested 1. Please try again in 20s. Visit https://platform.openai.com/account/billing to add a "
                 "payment method.", "requests", "rate_limit_exceeded")),
    (429, anthropic("rate_limit_error", "This request would exceed your organization's rate limit of 40,000 input tokens "
                    "per minute.")),
    (429, {"message": "Too many tokens, please wait before trying again."}),  # Bedrock
    (429, {"message": "Too many requests, please wait before trying again."}),
    (400, {"__type": "ThrottlingException", "message": "Too many tokens, please wait before trying again."}),
    (None, {"message": "Too many tokens, please wait before trying again."}),
    (429, {"error": {"code": "429", "message": "Requests to the ChatCompletions_Create Operation under Azure OpenAI API "
                     "version 2024-06-01 have exceeded token rate limit of your current OpenAI S0 pricing tier. Please "
                     "retry after 26 seconds. Please go here: https://aka.ms/oai/quotaincrease"}}),
    (429, {"message": "You are using a Trial key, which is limited to 10 API calls / minute. You can continue to use the "
           "Trial key for free or upgrade to a Production key with higher rate limits"}),  # Cohere
    (429, {"object": "error", "message": "Service tier capacity exceeded for this model.", "type":
           "service_tier_capacity_exceeded", "code": "3505"}),  # Mistral
    (429, {"error": {"message": "Rate limit exceeded: free-models-per-min. ", "code": 429}}),  # OpenRouter
    (200, {"error": {"code": 429, "message": "Provider returned error", "metadata": {"raw": "upstream is rate-limited"}}}),
    (429, ""),
    (429, "<html><head><title>429 Too Many Requests</title></head></html>"),
]  # fmt: skip

QUOTA = [
    (429, exhausted("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "4s", "0")),
    (429, exhausted("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "4s", "0")),  # none at all
    (429, openai("You exceeded your current quota, please check your plan and billing details.", "insufficient_quota",
                 "insufficient_quota")),
    (429, openai("You've reached your usage limit. See your usage dashboard and billing settings for more details.",
                 "insufficient_quota", "billing_hard_limit_reached")),
    (400, openai("Billing hard limit has been reached.", code="billing_hard_limit_reached")),
    (429, openai("Rate limit reached for model in organization on tokens per day (TPD): Limit 100000, Used 99000, "
                 "Requested 2000. Please try again in 7m30s.", "tokens", "rate_limit_exceeded")),
    (429, openai("Rate limit reached for gpt-4 in organization org-1 on requests per day (RPD): Limit 200, Used 200, "
                 "Requested 1. Please try again in 7m12s.", "requests", "rate_limit_exceeded")),
    (429, {"message": "Too many tokens per day, please wait before trying again."}),  # Bedrock
    (429, {"message": "You are using a Trial key, which is limited to 1000 API calls / month."}),
    (429, {"error": {"message": "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model "
                     "requests per day", "code": 429}}),
    (402, openai("Insufficient Balance", "unknown_error", "invalid_request_error")),  # DeepSeek
    (402, {"error": {"message": "This request requires more credits, or fewer max_tokens. You requested up to 16384 "
                     "tokens, but can only afford 9000.", "code": 402}}),
    (402, ""),
    (402, {"error": "You have exceeded your monthly included credits for Inference Providers."}),
    (200, {"error": {"code": 402, "message": "Insufficient credits"}}),
    (400, anthropic("invalid_request_error", "Your credit balance is too low to access the Anthropic API. Please go to "
                    "Plans & Billing to upgrade or purchase credits.")),
    (400, anthropic("invalid_request_error", "You have reached your specified API usage limits. You will regain access on "
                    "2026-12-01 at 00:00 UTC.")),
    (403, {"code": "The caller does not have permission to execute the specified operation", "error": "Your team has "
           "either used all available credits or reached its monthly spending limit."}),  # xAI
    (403, google(403, "PERMISSION_DENIED", "This API method requires billing to be enabled.",
                 {"reason": "BILLING_DISABLED"})),
    (403, {"statusCode": 403, "message": "Out of call volume quota. Quota will be replenished in 12:34:56."}),  # Azure
    (429, {"error": {"code": "1113", "message": "余额不足或无可用资源包,请充值。"}}),  # Zhipu
    (400, {"code": "Arrearage", "message": "Access denied, please make sure your account is in good standing."}),
    (429, {"error": {"type": "exceeded_current_quota_error", "message": "Your account is suspended, please check your plan "
                     "and billing details"}}),  # Moonshot
    (412, {"error": {"message": "Account x is suspended, possibly due to reaching the monthly spending limit"}}),
]  # fmt: skip

AUTH = [
    (401, openai("Incorrect API key provided: sk-x.", code="invalid_api_key")),
    (401, anthropic("authentication_error", "invalid x-api-key")),
    (403, google(403, "PERMISSION_DENIED", "Your API key was reported as leaked. Please use another API key.")),
    (400, google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.",
                 {"reason": "API_KEY_INVALID", "domain": "googleapis.com"})),
    (403, {"__type": "UnrecognizedClientException", "message": "The security token included in the request is invalid."}),
    (None, "The api_key client option must be set either by passing api_key to the client or by OPENAI_API_KEY"),
    (None, "Unable to locate credentials"),
    (500, "Missing credentials. Please pass an `api_key`, `workload_identity`, `admin_api_key`, or set the `OPENAI_API_KEY`"),
    (401, "Unauthorized"),
    (403, openai("Country, region, or territory not supported", "request_forbidden", "unsupported_country_region_territory")),
]  # fmt: skip

NOT_NOW = [
    (503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}, "loading"),  # llama.cpp
    (503, {"error": "Model meta-llama/Llama-3-8B is currently loading", "estimated_time": 20.0}, "loading"),  # HF
    (404, {"error": "model 'x' is loading"}, "loading"),
    (404, {"object": "error", "message": "The model `my-lora` does not exist.", "type": "NotFoundError", "code": 404},
     "no_model_yet"),  # vLLM
    (404, {"error": "model 'llama3' not found"}, "no_model_yet"),  # Ollama
    (404, "404 page not found", "no_model_yet"),
    (503, google(503, "UNAVAILABLE", "The model is overloaded. Please try again later."), "server_error"),
    (529, anthropic("overloaded_error", "Overloaded"), "server_error"),
    (200, anthropic("overloaded_error", "Overloaded"), "server_error"),
    (500, openai("The server had an error while processing your request. Sorry about that!", "server_error"),
     "server_error"),
    (502, "<html><head><title>502 Bad Gateway</title></head></html>", "server_error"),
    (504, "upstream request timeout", "server_error"),
    (408, "", "timeout"),
    (200, {"error": {"code": 502, "message": "Upstream error"}}, "server_error"),
]  # fmt: skip

REJECTED = [
    (400, openai("is poisoned", "server_error"), "rejected"),
    (400, openai("Unsupported value: 'temperature' does not support 0.2 with this model.", code="unsupported_value"),
     "rejected"),
    (422, {"detail": [{"type": "missing", "loc": ["body", "messages"], "msg": "Field required",
                       "input": {"text": "please check your billing and credentials"}}]}, "rejected"),
    (400, openai("Invalid value: 'my credentials and billing are per day'. Supported values are: 'a'."), "rejected"),
    (400, openai('Could not parse "the credit balance is too low and the context length is short" as JSON'), "rejected"),
    (400, openai("Invalid 'messages[1].content': text about credentials, billing, quota and daily limits"), "rejected"),
    (400, openai(AZURE_FILTER, code="content_filter"), "content_filter"),
    (403, {"error": {"code": 403, "message": "openai/gpt-4o requires moderation on OpenRouter. Your input was flagged for "
                     '"violence".'}}, "content_filter"),
    (400, {"error": {"code": "data_inspection_failed", "message": "Input data may contain inappropriate content."}},
     "content_filter"),
    (400, anthropic("invalid_request_error", "max_tokens: 16384 > 8192, which is the maximum allowed number of output "
                    "tokens for claude-3-5-sonnet"), "output_limit"),
    (400, {"object": "error", "message": "This model's maximum context length is 8192 tokens. However, you requested "
           "19384 tokens (3000 in the messages, 16384 in the completion). Please reduce the length", "code": 400},
     "output_limit"),
    (400, anthropic("invalid_request_error", "input length and `max_tokens` exceed context limit: 190000 + 20000 > "
                    "200000, decrease input length or `max_tokens` and try again"), "output_limit"),
    (400, {"message": "max_tokens=16384 cannot be greater than max_model_len=max_total_tokens=8192. Please request fewer "
           "output tokens."}, "output_limit"),
    (400, openai("max_tokens is too large: 16384. This model supports at most 4096 completion tokens, whereas you provided "
                 "16384.", code="invalid_value"), "output_limit"),
    (400, {"message": "'max_tokens' or 'max_completion_tokens' is too large: 16384. This model's maximum context length is "
           "8192 tokens and your request has 3000 input tokens (16384 > 8192 - 3000).", "code": 400}, "output_limit"),
    (422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 1000 `inputs` "
           "tokens and 16384 `max_new_tokens`", "error_type": "validation"}, "output_limit"),
    (404, openai("The model `gpt-9` does not exist or you do not have access to it.", code="model_not_found"),
     "unknown_model"),
    (404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}},
     "unknown_model"),
]  # fmt: skip

OURS = [
    *[(status, body, {"window", "rate_window"}, ContextWindowError) for status, body in WINDOW],
    *[(status, body, {"rate_limited"}, TransientModelError) for status, body in RATE_LIMITED],
    *[(status, body, {"quota"}, QuotaError) for status, body in QUOTA],
    *[(status, body, {"auth"}, AuthenticationError) for status, body in AUTH],
    *[(status, body, {kind}, TransientModelError) for status, body, kind in NOT_NOW],
    *[
        (status, body, {kind}, ConfigError if kind == "unknown_model" else ModelError)
        for status, body, kind in REJECTED
    ],
]


@pytest.mark.parametrize(("status", "body", "kinds", "of_ours"), OURS)
@pytest.mark.parametrize("as_text", [False, True])
def test_each_error_of_a_provider_is_of_its_kind(status, body, kinds, of_ours, as_text):
    if as_text:
        body = f"SomeException - {json.dumps(body)}" if isinstance(body, dict) else body
    read = read_error(status, body)
    assert kind_of(read) in kinds
    assert type(to_error(read, Called("m"))) is of_ours


def test_the_provider_s_sentence_is_kept():
    body = {
        "detail": [{"loc": ["body", "messages", 0], "msg": "Field required", "type": "missing", "input": {}}]
    }
    error = to_error(read_error(422, body), Called("m"))
    assert str(error) == "m: the provider refused the request (body.messages.0: Field required)"
    assert error.status == 422


def test_an_error_inside_a_200_has_the_status_its_body_names():
    assert read_error(200, {"error": {"code": 402, "message": "no"}}).status == 402
    assert read_error(200, {"error": {"code": 4020, "message": "no"}}).status == 200


def test_a_body_that_says_how_long_to_wait_is_heard():
    body = exhausted("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "38s")
    assert to_error(read_error(429, body), Called("m")).retry_after_s == 38


def test_the_key_that_is_missing_is_named():
    error = to_error(read_error(401, ""), Called("m", missing_keys=("A_KEY",)))
    assert "set A_KEY or pass api_key" in str(error)


@pytest.mark.parametrize(
    ("body", "message", "said"),
    [
        ({"message": "a"}, "m", "a"), ({"x": 1}, "m", "m"), ({"x": 1}, "", ""), (None, "m", "m"), (None, "", ""), (5, "m", "m"), ("", "m", "m"), (" \n", "m", "m"),
        ("plain  \n words", "m", "plain words"), (b"plain words \xff", "m", "plain words \ufffd"), (b'{"message": "a"}', "m", "a"), ('{"x": 1}', "m", '{"x": 1}'),
        (None, 'HTTP 400 - {"error": {"message": "a"}} (end)', "a"), ("{broken", "m", "{broken"), ("[]", "m", "[]"), ({}, "m", "m"), ("", '{"message": "a"}', "a"),
        ("<HTML><title>\nBad\nGateway </title>", "m", "Bad Gateway"), ("<html><body>Bad<br>Gateway</body>", "m", "Bad Gateway"), (" <!DOCTYPE x><p>a</p>", "m", "a"),
        ("<?xml version='1.0'?><e>no</e>", "m", "no"), ("<head><title></title></head>odd", "m", "odd"), ("<b>bold</b>", "m", "<b>bold</b>"), ("a <html>", "m", "a <html>"),
        ("<html></html>", "m", "m"), ("<html>" + "x" * 5_000, "m", "x" * 4_994), (f"<html><title>{'x' * 200}</title>", "", "x" * 200),
        (f"<html><title>{'x' * 201}</title>", "", "x" * 201), ({"msg": "a", "error": "b"}, "", "a"), ({"error": "b", "title": "c"}, "", "b"), ({"message": " ", "title": "c"}, "", "c"),
        ({"message": "", "title": "c"}, "", "c"), ({"message": 5, "detail": ["a", {"msg": "b"}, 7, ""]}, "", "a; b"), ({"errors": list("abcdefg")}, "", "a; b; c; d; e"),
        ({"errors": [{"loc": ["body", 0], "msg": "no"}]}, "", "body.0: no"), ({"loc": ["body", 0]}, "m", "m"), ({"loc": "body", "msg": "no"}, "", "no"), ({"msg": "no"}, "", "no"),
        ({"message": ' {"error": "a"}'}, "", "a"), ({"message": '["a", "b"]'}, "", "a; b"), ({"message": '{"x": "a"}'}, "", '{"x": "a"}'), ({"message": "{a"}, "", "{a"),
        ({"message": 'see [1] and {"error": "a"}'}, "", 'see [1] and {"error": "a"}'), ({"Message": "a"}, "", "a"), ({"errorMessage": "a"}, "", "a"),
    ],
)  # fmt: skip
def test_sentence_is_found_in_whatever_a_provider_sends(body, message, said):
    assert read_error(400, body, None, message).message == said


def nested(wrap, inner, times):
    for _ in range(times):
        inner = wrap(inner)
    return inner


@pytest.mark.parametrize(
    "wrap", [lambda inner: {"error": inner}, lambda inner: {"detail": inner}, lambda inner: [inner]]
)
def test_sentence_is_looked_for_five_levels_deep(wrap):
    assert read_error(400, nested(wrap, "deep", 5)).message == "deep"
    assert read_error(400, nested(wrap, "deep", 6), None, "m").message == "m"


def test_sentence_in_json_in_a_sentence_is_looked_for_five_levels_deep():
    def wrap(inner):
        return json.dumps({"message": inner})

    assert read_error(400, nested(wrap, "deep", 3)).message == "deep"
    assert read_error(400, nested(wrap, "deep", 4)).message == wrap("deep")


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        (None, ()), ("words", ()), ({"code": " Bad_Key ", "type": "T", "x": "y"}, ("bad_key", "t")), ({"code": 429, "status": True, "reason": None, "name": 1.5}, ("429",)),
        ({"error": {"status": "S", "details": [{"reason": "R", "violations": [{"quotaId": "Q"}]}, "x", 5]}}, ("s", "r", "q")), ({"code": "x" * 300}, ("x" * 300,)), ({"code": "x" * 301}, ()),
        ({"message": {"code": "a"}}, ("a",)), ({"message": ' {"code": "a"}'}, ("a",)), ({"message": '[{"code": "a"}]'}, ()), ({"message": 'x {"code": "a"}'}, ()), ({"message": "{a"}, ()),
        ({"metadata": {"error_type": "a", "errorCode": "b", "error_code": "c", "__type": "d", "name": "e"}}, tuple("abcde")), ({"x": {"code": "a"}}, ()),
        ([{"code": str(number)} for number in range(22)], tuple(map(str, range(20)))), ('{"code": "a"}', ("a",)),
    ],
)  # fmt: skip
def test_codes_are_those_of_the_body_and_of_the_errors_in_it(body, codes):
    assert read_error(400, body).codes == frozenset(codes)


@pytest.mark.parametrize("wrap", [lambda inner: {"error": inner}, lambda inner: [inner]])
def test_codes_are_looked_for_five_levels_deep(wrap):
    assert read_error(400, nested(wrap, {"code": "deep"}, 5)).codes == {"deep"}
    assert read_error(400, nested(wrap, {"code": "deep"}, 6)).codes == frozenset()


def test_codes_in_json_in_a_sentence_are_looked_for_five_levels_deep():
    def wrap(inner):
        return json.dumps({"message": inner})

    assert read_error(400, nested(wrap, '{"code": "deep"}', 2)).codes == {"deep"}
    assert read_error(400, nested(wrap, '{"code": "deep"}', 3)).codes == frozenset()


@pytest.mark.parametrize(
    ("status", "codes", "expected"),
    [
        (None, [], None), (None, [429], 429), (200, [402], 402), (399, ["402"], 402), (400, [402], 400), (500, [402], 500), (200, [399], 200), (200, [400], 400),
        (200, [599], 599), (200, [600], 200), (200, [500, 429, 503], 429), (200, ["0429"], 200), (200, [4290], 200), (200, ["4x9"], 200), (None, [200], None), (200, [42], 200),
    ],
)  # fmt: skip
def test_status_of_a_body_stands_where_there_is_no_other(status, codes, expected):
    assert read_error(status, {"errors": [{"code": code} for code in codes]}).status == expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, None), (5, None), ("", None), ("words", None), ("{}", None), ("[]", None), ({}, {}), ([1], [1]), ("[1]", [1]), ('x: {"a": 1} y', {"a": 1}), ('{"a": 1} {"b": 2}', {"a": 1}),
        ("{a} [1]", None), ("[" * 100_000, None),
    ],
)  # fmt: skip
def test_json_is_read_where_it_begins_in_a_text(text, found):
    assert decode(text) == found


@pytest.mark.parametrize(
    ("headers", "codes"),
    [
        (None, ()), ({"X-Amzn-ErrorType": " ThrottlingException:http://internal.amazon.com/coral/"}, ("throttlingexception",)), ({"x-amzn-errortype": "A"}, ("a",)),
        ({"x-amzn-errortype": ""}, ()), ({"x-amzn-errortype": ":x"}, ()), ({"x-other": "A"}, ()),
    ],
)  # fmt: skip
def test_headers_have_lower_case_names_and_the_code_of_aws(headers, codes):
    error = read_error(400, "", headers)
    assert error.codes == frozenset(codes)
    assert error.headers == {name.lower(): value for name, value in (headers or {}).items()}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["error", "message", "code", "type", "detail", "details", "msg", "loc", "x"]), inner, max_size=4
    ),
    max_leaves=20,
)  # fmt: skip


@given(st.none() | st.integers(100, 700), _JSON | st.text() | st.binary(), st.text(max_size=50))
def test_no_body_breaks_the_reading(status, body, message):
    assert isinstance(to_error(read_error(status, body, {}, message), Called("m")), RLMError)


@pytest.mark.parametrize(
    "text",
    ["'" * 200_000, "limit: 1, " * 50_000, '{"a":' * 100_000, "<html>" * 50_000, "max_tokens " * 40_000],
)
def test_a_large_body_is_judged_quickly(text):
    started = time.process_time()
    to_error(read_error(400, text), Called("m"))
    assert time.process_time() - started < 0.5
