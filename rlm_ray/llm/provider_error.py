"""What a provider says of a call it did not carry out, read from whatever carried it: a status, a body, headers.

    read_error(status, body, headers, message) → ProviderError → kind (`provider_rules`) → to_error → an error of ours

It serves an HTTP error and an error inside a 200 alike. Pure: no network, no litellm.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MESSAGE_CHARS = 300
"""How much of a provider's sentence is shown."""
_CODE_FIELDS = ("code", "type", "status", "reason", "error_type", "errorCode", "error_code", "__type", "name")
_MESSAGE_FIELDS = (
    "message",
    "msg",
    "detail",
    "error",
    "error_message",
    "errorMessage",
    "title",
    "errors",
    "Message",
)
_NESTED = ("error", "errors", "details", "detail", "violations", "metadata")
_FIRST_ERROR_STATUS, _LAST_ERROR_STATUS = 400, 599
_DEEPEST = 5


@dataclass(frozen=True, slots=True)
class ProviderError:
    """A failed call in the provider's own words; every field but `message` may be empty."""

    status: int | None = None
    """The HTTP status; in a 200, the status its body names."""
    message: str = ""
    """The provider's sentence, on one line, whole."""
    codes: frozenset[str] = frozenset()
    """Codes, types, states and reasons that the body names, lower case."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Lower-case names."""
    body: Any = None
    """The decoded JSON body, or None."""


def read_error(
    status: int | None, body: Any = None, headers: Mapping[str, str] | None = None, message: str = ""
) -> ProviderError:
    """Read a failure. `body` is decoded JSON or text; `message` is used where the body holds no sentence."""
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    decoded = decode(body)
    if decoded is None:
        decoded = decode(message)
    lower = {str(name).lower(): str(value) for name, value in (headers or {}).items()}
    said = _message(decoded) or _text_of(body if isinstance(body, str) else "") or _text_of(message)
    codes = frozenset(_codes(decoded)) | _header_codes(lower)
    if status is None or status < _FIRST_ERROR_STATUS:
        status = _status_in(codes) or status
    return ProviderError(status, " ".join(said.split()), codes, lower, decoded)


def decode(text: Any) -> Any:
    """Decode a JSON object or list, also where it stands behind other words; None where there is none."""
    if isinstance(text, Mapping | list):
        return text
    start = re.search(r"[{\[]", text) if isinstance(text, str) else None
    if start is None:
        return None
    try:
        found, _ = json.JSONDecoder().raw_decode(text, start.start())
    except (ValueError, RecursionError):
        return None
    return found or None


def _message(body: Any, depth: int = 0) -> str:
    """Return the sentence of a body; a list of them becomes one."""
    if depth > _DEEPEST:
        return ""
    if isinstance(body, str):
        inner = decode(body) if body.lstrip()[:1] in {"{", "["} else None
        return _message(inner, depth + 1) or body.strip()
    if isinstance(body, Mapping):
        said = next((text for name in _MESSAGE_FIELDS if (text := _message(body.get(name), depth + 1))), "")
        place = body.get("loc")
        return f"{'.'.join(map(str, place))}: {said}" if said and isinstance(place, list) else said
    if isinstance(body, Sequence):
        return "; ".join(filter(None, (_message(item, depth + 1) for item in body[:5])))
    return ""


def _codes(body: Any, depth: int = 0) -> Iterator[str]:
    """Return what a program may go by: codes, types, states, reasons and quota ids, at any level of errors."""
    if depth > _DEEPEST:
        return
    if isinstance(body, str):
        if body.lstrip()[:1] == "{":
            yield from _codes(decode(body), depth + 1)
    elif isinstance(body, Mapping):
        for name in (*_CODE_FIELDS, "quotaId"):
            value = body.get(name)
            if (
                isinstance(value, str | int)
                and not isinstance(value, bool)
                and len(str(value)) <= MESSAGE_CHARS
            ):
                yield str(value).strip().lower()
        for name in (*_NESTED, "message"):
            yield from _codes(body.get(name), depth + 1)
    elif isinstance(body, Sequence):
        for item in body[:20]:
            yield from _codes(item, depth + 1)


def _header_codes(headers: Mapping[str, str]) -> frozenset[str]:
    """Yield the codes of headers; AWS names the error in one: `ThrottlingException:http://...`."""
    named = headers.get("x-amzn-errortype", "").partition(":")[0].strip().lower()
    return frozenset({named} if named else ())


def _status_in(codes: frozenset[str]) -> int | None:
    numbers = [int(code) for code in codes if code.isdecimal() and len(code) == 3]
    return next((n for n in sorted(numbers) if _FIRST_ERROR_STATUS <= n <= _LAST_ERROR_STATUS), None)


def _text_of(text: str) -> str:
    """Return plain words: of an HTML page its title."""
    if re.match(r"\s*<(!doctype|html|head|\?xml)", text, re.IGNORECASE):
        title = re.search(r"<title>(.{1,200}?)</title>", text, re.IGNORECASE | re.DOTALL)
        text = title[1] if title else re.sub(r"<[^>]{0,500}>", " ", text[:5_000])
    return text.strip()
