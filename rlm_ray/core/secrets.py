"""What must never be written down: keys, by the names they go under and by what they are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

HIDDEN = "***"
LEAST_CHARS = 8
"""A shorter value is no key anybody should mind, and would be found in any text."""

_NAME = re.compile(
    r"key|secret|token|password|passwd|credential|authorization|cookie|bearer|signature", re.IGNORECASE
)
_HARMLESS = re.compile(
    r"^(max_.*tokens?|.*_tokens|tokens|token_limit|logit.*|stop_token.*|.*_token_ids?)$", re.IGNORECASE
)
_IN_URL = re.compile(r"^[\w+.-]+://[^/@\s]*?:([^/\s]+)@")
_SCHEME = re.compile(r"^(bearer|basic|token) +", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Whether what goes under this name is a key or the like."""
    return bool(_NAME.search(name)) and not _HARMLESS.match(name)


def without_secrets(value: Any, name: str = "") -> Any:
    """The same plain value with `***` in place of every secret, however deep."""
    if (
        name
        and is_secret(name)
        and value is not None
        and not isinstance(value, bool | int | float | Mapping | list)
    ):
        return HIDDEN
    if isinstance(value, Mapping):
        return {key: without_secrets(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(inner, name) for inner in value]
    if isinstance(value, str) and _IN_URL.match(value):
        return HIDDEN
    return value


def secret_values(value: Any, name: str = "") -> set[str]:
    """Every secret text in a plain value: what stands under a secret's name, and passwords in URLs."""
    if isinstance(value, Mapping):
        return set().union(*(secret_values(inner, str(key)) for key, inner in value.items()))
    if isinstance(value, list | tuple):
        return set().union(*(secret_values(inner, name) for inner in value))
    if isinstance(value, str) and is_secret(name):
        forms = {value, _SCHEME.sub("", value)}  # providers repeat a key without the scheme it was sent with
        return {form for form in forms if len(form) >= LEAST_CHARS}
    if isinstance(value, str) and (found := _IN_URL.match(value)) and len(found[1]) >= LEAST_CHARS:
        return {found[1]}
    return set()


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
                value = value.replace(secret, HIDDEN)
        return value
