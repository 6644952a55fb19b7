"""What must never be written down: keys, by the names they go under and by what they are.

What an HTTP header can hold: keys are pasted with more around them than they have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, unquote, unquote_plus, urlsplit

REDACTED = "***"
LEAST_CHARS = 8
"""A shorter value is no key anybody should mind, and would be found in any text."""

_NAME = re.compile(
    r"key|secret|token|password|passwd|credential|authorization|cookie|bearer|signature", re.IGNORECASE
)
_NOT_SECRET = re.compile(
    r"^(max_.*tokens?|.*_tokens|tokens|token_limit|logit.*|stop_token.*|.*_token_ids?)$", re.IGNORECASE
)
_FIELDS = re.compile(
    r"(^|[._-])(headers?|cookies|(extra|default|url)_query|query_params|query_string)$", re.IGNORECASE
)
"""Tables, or texts of them, that are sent with each request: providers take keys under any name there."""
_PUBLIC_FIELDS = frozenset(
    [
        "accept",
        "accept-encoding",
        "accept-language",
        "anthropic-beta",
        "anthropic-version",
        "api-version",
        "content-type",
        "http-referer",
        "openai-beta",
        "user-agent",
        "x-title",
    ]
)
"""Fields whose values anybody knows: they are not shown, but texts that happen to hold them stay as they are."""
_URL = re.compile(r"[\w+.-]+://\S*$")
_MAX_NAMES = 1_000
"""Of settings and variables whose judgement is remembered: each run asks for the same ones."""
_SCHEME = re.compile(r"^(bearer|basic|token) +", re.IGNORECASE)


@lru_cache(maxsize=_MAX_NAMES)
def is_secret(name: str) -> bool:
    """Tell whether what goes under this name is a key or the like."""
    return bool(_NAME.search(name)) and not _NOT_SECRET.match(name)


def redact(value: Any, name: str = "") -> Any:
    """Return the same plain value with `***` in place of every secret, however deep."""
    if _holds_fields(name):
        return _hidden(value)
    if is_secret(name) and value is not None and not isinstance(value, bool | int | float | Mapping | list):
        return REDACTED
    if isinstance(value, Mapping):
        return {key: redact(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact(inner, name) for inner in value]
    if isinstance(value, str) and _is_confidential_url(value):
        return REDACTED
    return value


def secret_values(value: Any, name: str = "") -> set[str]:
    """Return every secret text in a plain value: under a secret's name, in headers and queries, in URLs."""
    if _holds_fields(name):
        return _field_values(value)
    if isinstance(value, Mapping):
        return set().union(*(secret_values(inner, str(key)) for key, inner in value.items()))
    if isinstance(value, list | tuple):
        return set().union(*(secret_values(inner, name) for inner in value))
    if isinstance(value, str) and is_secret(name):
        return _forms(value)
    return _values_in_url(value) if isinstance(value, str) else set()


@lru_cache(maxsize=_MAX_NAMES)
def _holds_fields(name: str) -> bool:
    """Tell whether a name is that of a table of headers or of query parameters, or of one field of it by its dotted name."""
    return any(_FIELDS.search(part) for part in name.split("."))


def _hidden(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _hidden(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(inner) for inner in value]
    return None if value is None else REDACTED


def _field_values(value: Any, name: str = "") -> set[str]:
    if isinstance(value, Mapping):
        return set().union(*(_field_values(inner, str(key)) for key, inner in value.items()))
    if isinstance(value, list | tuple):
        return set().union(*(_field_values(inner, name) for inner in value))
    if value is None or name.lower() in _PUBLIC_FIELDS:
        return set()
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return _forms(text) | (set() if name else _values_in_text(text))


def _values_in_text(text: str) -> set[str]:
    """Return the secrets in headers or a query written as JSON, or as `name=value` or `name: value` side by side."""
    try:
        table = json.loads(text)
    except ValueError:
        pairs = (re.split(r"[=:]", part, maxsplit=1) for part in re.split(r"[,;&\n]", text))
        table = {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}
    return _field_values(table) if isinstance(table, Mapping) else set()


def _forms(value: str) -> set[str]:
    forms = {value, _SCHEME.sub("", value)}  # providers repeat a key without the scheme it was sent with
    return {form for form in forms if len(form) >= LEAST_CHARS and form != REDACTED}


def _is_confidential_url(text: str) -> bool:
    """Tell whether a URL holds a user, a password or a query, any of which may be a key."""
    parts = _url(text)
    return parts is not None and ("@" in parts.netloc or bool(parts.query))


def _values_in_url(text: str) -> set[str]:
    parts = _url(text)
    if parts is None:
        return set()
    user = parts.netloc.rpartition("@")[0]
    name, _, password = user.partition(":")
    values = {password or name, unquote(password or name)}
    for pair in parts.query.split("&"):
        field, _, value = pair.partition("=")
        if field.lower() not in _PUBLIC_FIELDS:
            values |= {value, unquote_plus(value)}
    return {value for value in values if len(value) >= LEAST_CHARS}


def _url(text: str) -> SplitResult | None:
    if not _URL.match(text):
        return None
    try:
        return urlsplit(text)
    except ValueError:
        return None


class Scrubber:
    """Takes secrets out of lines of JSON."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = sorted(set(secrets), key=len, reverse=True)
        spelled = {json.dumps(secret, ensure_ascii=False)[1:-1] for secret in self._secrets}
        self._signs = [form.encode("utf-8", "replace") for form in spelled]

    def __call__(self, line: bytes) -> bytes:
        if not any(sign in line for sign in self._signs):
            return line
        # A sign may stand across an escape, or in a number: only texts are changed, never the JSON around them.
        scrubbed = self._scrubbed(json.loads(line))
        return json.dumps(scrubbed, ensure_ascii=False).encode("utf-8", "replace") + b"\n"

    def _scrubbed(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._scrubbed(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._scrubbed(inner) for inner in value]
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, REDACTED)
        return value


_QUOTES = "\u2018\u2019\u201c\u201d\u00ab\u00bb\"'`"


def header_fault(value: str) -> str:
    """Return what is wrong with a key or another header's value, and what to do; empty where nothing is."""
    if any(char in value for char in "\r\n"):
        return "holds a line break, which no HTTP header can; take it out"
    if value != value.strip():
        return "begins or ends with a space; take it out"
    if len(value) > 1 and (value[0] in _QUOTES or value[-1] in _QUOTES):
        return "has quotation marks around it; take them out"
    for at, char in enumerate(value):
        if not " " <= char < "\x7f":
            return f"holds {char!a} at character {at}, which no HTTP header can; copy it again"
    return ""
