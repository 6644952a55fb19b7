"""Requests as litellm makes them, learned by looking at what it sends, so that the next ones need no litellm.

litellm says where a request goes, with which key and headers, and under which names parameters travel. All of that is the
same for all requests of a kind (`kind_of_request`); only the messages differ, and the bound of the reply. What litellm sent
is a template where it holds the messages as they were given, and nothing that changes by itself: no token that expires.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

from pydantic_core import from_json, to_json

from rlm_ray.core.llm import OUTPUT_BOUNDS, ModelRequest
from rlm_ray.llm.http_client import HttpTarget

PARAMS = frozenset(
    {
        # where to, and as whom
        "api_base", "api_key", "api_version", "base_url", "extra_headers", "organization", "timeout",
        # how the model answers
        "frequency_penalty", "logit_bias", "max_completion_tokens", "max_tokens", "min_p", "presence_penalty",
        "prompt_cache_key", "reasoning_effort", "repetition_penalty", "safety_identifier", "seed", "service_tier", "stop",
        "store", "temperature", "top_k", "top_p", "user", "verbosity",
        # of servers of one's own, as fields of the body
        "chat_template_kwargs", "extra_body", "ignore_eos", "include_reasoning", "min_tokens", "provider", "reasoning",
        "skip_special_tokens", "stop_token_ids",
    }
)  # fmt: skip
"""What may be given with a request of a template; litellm does something of its own with others."""
CHAT_PATH = "/chat/completions"
"""What the addresses of all of them end in."""
_KEY_HEADERS = frozenset({"authorization", "api-key", "x-api-key"})
_OF_CONNECTION = frozenset(
    {"accept-encoding", "connection", "content-length", "cookie", "host", "transfer-encoding"}
)
_NO_KEY = "fake-api-key"
"""What litellm sends to a server that checks no key."""

Kind: TypeAlias = tuple[str, str, bool, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """A request without its messages."""

    target: HttpTarget
    fields: bytes
    """All other fields of the body: a JSON object without its last brace."""
    bound_name: str = ""
    """The field that bounds the reply, where the request gives a bound."""
    roles: tuple[tuple[str, str], ...] = ()
    """Roles that go by another name there, such as `system` by `developer`."""

    def body(self, messages: Sequence[Mapping[str, Any]], max_tokens: int | None) -> bytes:
        """Return the body of a request."""
        if self.roles:
            names = dict(self.roles)
            messages = [
                {**message, "role": names.get(message["role"], message["role"])} for message in messages
            ]
        bound = f'"{self.bound_name}":{max_tokens},'.encode() if self.bound_name else b""
        return b"".join((self.fields, bound, b'"messages":', to_json(messages), b"}"))


def kind_of_request(request: ModelRequest) -> Kind | None:
    """Return what the requests of one template have in common; None for one that litellm has to send itself."""
    messages = request.messages
    if not messages:
        return None
    roles = [message.role for message in messages]
    if any(not message.content or message.content.isspace() for message in messages):
        return None  # some providers take none, and litellm mends that
    follows = frozenset(pairwise(roles))
    return request.model, repr(request.params), request.max_tokens is None, (roles[0], roles[-1], follows)


def may_have_template(params: Mapping[str, Any]) -> bool:
    """Tell whether litellm does nothing with such a request but send it."""
    return (
        params.keys() <= PARAMS
        and isinstance(params.get("timeout", 0), int | float)
        and all(map(_is_plain, params.values()))
        and "stream" not in (params.get("extra_body") or {})
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _is_plain(each) for name, each in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)


def read_template(
    sent: Any,
    transport: Any,
    proxy: str | None,
    arguments: Mapping[str, Any],
    environment: Mapping[str, str],
) -> RequestTemplate | None:
    """Return the template of what litellm sent, an `httpx.Request`, for these arguments; None where it is none."""
    headers = tuple(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in sent.headers.raw
        if name.decode("latin-1").lower() not in _OF_CONNECTION
    )
    timeouts = sent.extensions.get("timeout") or {}
    if (
        sent.method != "POST"
        or "content-encoding" in sent.headers
        or not _has_lasting_keys(headers, arguments, environment)
    ):
        return None
    body = from_json(sent.content)
    roles = (
        _renamed_roles(arguments["messages"], body.pop("messages", None)) if isinstance(body, dict) else None
    )
    if roles is None or body.get("stream"):
        return None
    bound, name = arguments.get("max_tokens"), ""
    if bound is not None:
        names = [each for each in OUTPUT_BOUNDS if body.get(each) == bound]
        if len(names) != 1:
            return None
        name = names[0]
        del body[name]
    target = HttpTarget(
        str(sent.url),
        (*headers, ("accept-encoding", "gzip, deflate")),
        (timeouts.get("connect"), timeouts.get("read"), timeouts.get("pool")),
        proxy,
        transport,
    )
    fields = to_json(body)[:-1]
    return RequestTemplate(target, fields + b"," if body else fields, name, roles)


def _renamed_roles(given: Sequence[Mapping[str, Any]], sent: Any) -> tuple[tuple[str, str], ...] | None:
    """Return the roles that have another name in what was sent; None where anything else is not as it was given."""
    names: dict[str, str] = {}
    if not isinstance(sent, list) or len(sent) != len(given):
        return None
    for before, after in zip(given, sent, strict=True):
        role = after.get("role") if isinstance(after, dict) else None
        if not isinstance(role, str) or names.setdefault(before["role"], role) != role:
            return None
        if {**after, "role": before["role"]} != before:
            return None
    return tuple((before, after) for before, after in names.items() if before != after)


def _has_lasting_keys(
    headers: Sequence[tuple[str, str]], arguments: Mapping[str, Any], environment: Mapping[str, str]
) -> bool:
    """Tell whether all keys are those that were given, or stand in the environment: a token would expire."""
    given = {str(arguments.get("api_key")), _NO_KEY, *environment.values()}
    given.update(str(value) for value in (arguments.get("extra_headers") or {}).values())
    return all(
        value in given or value.removeprefix("Bearer ") in given
        for name, value in headers
        if name.lower() in _KEY_HEADERS
    )
