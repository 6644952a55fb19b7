"""Reads litellm's response into a `ModelReply`, or raises the error that a 200 carried.

litellm maps finish reasons to OpenAI's few and takes what it does not know for `stop`; the provider's own word stands
beside it, and says more. Its message holds text only, so `content` as a list of parts is joined before it is built.

What providers say that a reply used is read with patience: counts may be missing, negative, texts or fractions. A count
that cannot be meant is 0 here; the gateway settles such a reply at its estimate. Without this litellm throws a whole reply
away, answered and billed, for one odd count.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

from rlm_ray.core.llm import MAX_CREDIBLE_TOKENS, ModelReply, Usage

MAX_NAME_CHARS = 200
"""Of a model's name and a reply's id, which every record of a call holds."""
_RATE_HEADERS = ("x-ratelimit-", "anthropic-ratelimit-", "retry-after")
_CODE_ARGUMENTS = ("code", "source", "python", "script", "input", "command", "program")
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_DETAILS = ("prompt_tokens_details", "completion_tokens_details")
_NO_CHOICES = "the provider sent a reply without choices"
_STATUSES = {
    "invalid_request_error": 400, "invalid_request": 400, "bad_request": 400, "invalid_argument": 400,
    "context_length_exceeded": 400, "authentication_error": 401, "invalid_api_key": 401, "permission_error": 403,
    "not_found_error": 404, "model_not_found": 404, "timeout": 408, "rate_limit_exceeded": 429, "rate_limit_error": 429,
    "rate_limited": 429, "too_many_requests": 429, "insufficient_quota": 429, "resource_exhausted": 429,
    "overloaded_error": 529, "service_unavailable": 503, "unavailable": 503, "bad_gateway": 502,
}  # fmt: skip
_MINIMAX_STATUSES = {1002: 429, 1004: 401, 1008: 402, 1026: 400, 1027: 400, 1039: 429, 2013: 400}


@dataclass(frozen=True, slots=True)
class _Answer:
    """What an HTTP error would have come with."""

    status_code: int
    text: str


class CarriedError(Exception):
    """A 200 that carries an error; it is read like the HTTP error with the same code and body."""

    def __init__(self, status_code: int, message: str, body: Any) -> None:
        super().__init__(message)
        self.status_code, self.message, self.body = status_code, message, body
        self.response = _Answer(status_code, json.dumps(body, default=str))


def read_reply(response: Any) -> ModelReply:
    """Read the first choice. Raises `CarriedError` where there is none, or where it is an error."""
    hidden = getattr(response, "_hidden_params", None) or {}
    if not getattr(response, "choices", None):
        raise CarriedError(500, _NO_CHOICES, {"message": _NO_CHOICES})
    choice = response.choices[0]
    message = choice.message
    of_choice, of_message = _further(choice), _further(message)
    _check(response, of_choice, of_message)
    calls = list(_calls(message))
    return ModelReply(
        text=_text_of(message.content),
        finish_reason=finish_reason_of(choice.finish_reason, of_choice),
        usage=usage_in(getattr(response, "usage", None)),
        tool_call=bool(calls),
        headers=rate_headers(hidden.get("additional_headers") or {}),
        reasoning=reasoning_in(getattr(message, "reasoning_content", None), of_message),
        refusal=_text_of(of_message.get("refusal")),
        code="\n\n".join(filter(None, map(_code_of, calls))),
        model=short_text(getattr(response, "model", None)),
        id=short_text(getattr(response, "id", None)),
    )


def short_text(value: Any) -> str:
    """Return a name that the provider gave, cut to `MAX_NAME_CHARS`; empty for what is no text."""
    return value[:MAX_NAME_CHARS] if isinstance(value, str) else ""


def join_parts(message: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Join the parts of reasoning and text as a provider sent them; in place of litellm's own function for that."""
    content = message.get("content")
    reasoning = _text_of(message.get("reasoning_content") or message.get("reasoning"))
    if isinstance(content, list):
        thoughts = [_thought_of(part) for part in content]
        reasoning = "\n\n".join(filter(None, [reasoning, *thoughts]))
    return reasoning or None, None if content is None else _text_of(content)


def _text_of(content: Any) -> str:
    """Join text parts; pictures, sounds and thinking are no text."""
    match content:
        case str():
            return content
        case list():
            return "".join(_text_of(part) for part in content)
        case {"type": "thinking" | "reasoning" | "redacted_thinking" | "refusal"}:
            return ""
        case {"text": str(text)} | {"text": {"value": str(text)}} | {"content": str(text)}:
            return text
        case int() | float() if not isinstance(content, bool):
            return str(content)
        case _:
            return ""


def _thought_of(part: Any) -> str:
    match part:
        case {"type": "thinking" | "reasoning"}:
            said = part.get("thinking") or part.get("text") or part.get("summary") or part.get("content")
            return _text_of(said)
        case _:
            return ""


def _further(part: Any) -> Mapping[str, Any]:
    """Return what litellm had no field for."""
    return getattr(part, "provider_specific_fields", None) or {}


def _check(response: Any, of_choice: Mapping[str, Any], of_message: Mapping[str, Any]) -> None:
    """Raise the error that came with it: in the choice, in the message, or beside them in MiniMax's own form."""
    for error in (of_choice.get("error"), of_message.get("error")):
        _check_error(error)
    base = getattr(response, "base_resp", None)
    if isinstance(base, Mapping) and base.get("status_code"):
        status = _MINIMAX_STATUSES.get(base["status_code"], 500)
        raise CarriedError(status, str(base.get("status_msg") or base), dict(base))


def check_body(body: Any) -> None:
    """Raise the error that the body of a 200 is, or holds beside its choices."""
    if not isinstance(body, Mapping):
        raise CarriedError(500, _NO_CHOICES, {"message": _NO_CHOICES})
    _check_error(body.get("error"))
    if not isinstance(body.get("choices"), list) or not body["choices"]:
        said = body.get("message") or body.get("detail") or body.get("msg") or body.get("errors")
        message = str(said or _NO_CHOICES)
        raise CarriedError(_status_of(body), message, {"message": message, **body})
    for choice in body["choices"]:
        sent = choice.get("message") if isinstance(choice, Mapping) else None
        if not isinstance(sent, dict):
            why = "the provider sent a choice without a message"
            raise CarriedError(500, why, {"message": why})
        sent.setdefault("role", "assistant")


def read_bodies_first(litellm: Any) -> None:
    """Have every body checked before litellm reads it, which of an error beside the choices passes on the code alone; and
    its usage made readable."""
    source: Any = sys.modules[
        f"{litellm.__name__}.litellm_core_utils.llm_response_utils.convert_dict_to_response"
    ]
    function = "convert_to_model_response_object"
    convert: Any = getattr(source, function)

    @wraps(convert)
    def checked(response_object: Any = None, *rest: Any, **named: Any) -> Any:
        if named.get("response_type", "completion") == "completion":
            check_body(response_object)
        if isinstance(response_object, dict) and "usage" in response_object:
            response_object = {**response_object, "usage": _readable(response_object["usage"])}
        return convert(response_object, *rest, **named)

    source.extract_reasoning_content = join_parts  # its own refuses `content` as a list of parts
    for name, module in list(sys.modules.items()):
        if name.startswith(litellm.__name__) and vars(module).get(function) is convert:
            setattr(module, function, checked)


def _check_error(error: Any) -> None:
    if isinstance(error, Mapping) and (error.get("message") or error.get("code") is not None):
        raise CarriedError(_status_of(error), str(error.get("message") or error), {"error": error})
    if isinstance(error, str) and error:
        raise CarriedError(500, error, {"error": {"message": error}})


def _status_of(error: Mapping[str, Any]) -> int:
    """Return the HTTP status by its code or type; 500 where they say nothing, for it is the provider that failed to answer."""
    for name in ("code", "status", "status_code", "type"):
        code = error.get(name)
        if isinstance(code, str):
            code = int(code) if code.isdecimal() else _STATUSES.get(code.lower())
        if isinstance(code, int) and 400 <= code <= 599:
            return code
    return 500


def finish_reason_of(reason: Any, of_choice: Mapping[str, Any]) -> str:
    """Return why the reply ended, in the provider's own word where there is one."""
    filters = of_choice.get("content_filter_results")
    if isinstance(filters, Mapping) and any(
        isinstance(each, Mapping) and each.get("filtered") for each in filters.values()
    ):
        return "content_filter"
    own = of_choice.get("native_finish_reason")
    return own if isinstance(own, str) and own else str(reason or "stop")


def reasoning_in(content: Any, of_message: Mapping[str, Any]) -> str:
    """Return what the model thought: the reasoning beside its text, else the details of it."""
    said = _text_of(content)
    details = of_message.get("reasoning_details")
    if said or not isinstance(details, list):
        return said
    return "\n".join(
        filter(
            None,
            (
                _text_of(part.get("text") or part.get("summary"))
                for part in details
                if isinstance(part, Mapping)
            ),
        )
    )


def _calls(message: Any) -> Iterator[Any]:
    """Yield the arguments of the tools it calls."""
    for call in getattr(message, "tool_calls", None) or ():
        function = getattr(call, "function", None)
        yield getattr(function, "arguments", None) if function is not None else None
    if (function := getattr(message, "function_call", None)) is not None:
        yield getattr(function, "arguments", None)


def _code_of(arguments: Any) -> str:
    """Return the Python that a tool call holds; empty where it holds none that is easily recognised."""
    try:
        given = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        return ""
    if not isinstance(given, Mapping):
        return ""
    named: Iterable[Any] = (given.get(name) for name in _CODE_ARGUMENTS)
    return next((code for code in named if isinstance(code, str) and code.strip()), "")


def rate_headers(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return the provider's rate-limit headers; litellm puts its mark before their names."""
    names = ((str(name).lower().removeprefix("llm_provider-"), value) for name, value in headers.items())
    return {name: str(value) for name, value in names if name.startswith(_RATE_HEADERS)}


def usage_in(said: Any) -> Usage:
    """Return the usage of a reply, as far as it was counted; a total alone is in `output_tokens`."""
    read = _first_count(said, "prompt_tokens", "input_tokens")
    written = _first_count(said, "completion_tokens", "output_tokens")
    if not read and not written:
        written = count(_get(said, "total_tokens"))
    return Usage(
        read,
        written,
        min(count(_get(_get(said, _DETAILS[0]), "cached_tokens")), read),
        min(count(_get(_get(said, _DETAILS[1]), "reasoning_tokens")), written),
        cache_write_tokens=min(_cache_writes(said), read),
    )


def _cache_writes(said: Any) -> int:
    """Return the tokens written to a cache, as Anthropic counts them, and litellm for it."""
    details = _get(said, _DETAILS[0])
    counted = _get(said, "cache_creation_input_tokens"), _get(details, "cache_creation_tokens")
    return next((number for number in map(count, counted) if number), 0)


def count(value: Any) -> int:
    """Return a number of tokens; 0 for what is none."""
    try:
        number = 0 if isinstance(value, bool) else int(float(value))
    except (TypeError, ValueError, OverflowError):
        return 0
    return max(number, 0) if number <= MAX_CREDIBLE_TOKENS else 0


def _readable(said: Any) -> Any:
    """Return the same usage where litellm can read it; else what can be read of it."""
    if not isinstance(said, dict):
        return None
    if all(type(said.get(name)) in {int, type(None)} for name in _COUNTS):
        return said
    counts = {
        name: count(said.get(name)) for name in (*_COUNTS, "input_tokens", "output_tokens") if name in said
    }
    details = {name: said[name] for name in _DETAILS if isinstance(said.get(name), Mapping)}
    return {**counts, **details}


def _first_count(said: Any, *names: str) -> int:
    return next((number for name in names if (number := count(_get(said, name)))), 0)


def _get(said: Any, name: str) -> Any:
    return said.get(name) if isinstance(said, Mapping) else getattr(said, name, None)
