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
    return value


def secret_values(value: Any, name: str = "") -> set[str]:
    """Every secret text in a plain value: what stands under a secret's name."""
    if isinstance(value, Mapping):
        return set().union(*(secret_values(inner, str(key)) for key, inner in value.items()))
    if isinstance(value, list | tuple):
        return set().union(*(secret_values(inner, name) for inner in value))
    if isinstance(value, str) and is_secret(name) and len(value) >= LEAST_CHARS and value != HIDDEN:
        return {value}
    return set()


class Scrubber:
    """Takes secrets out of lines of JSON."""

    def __init__(self, secrets: Iterable[str]) -> None:
        spelled = {
            form
            for secret in secrets
            for form in (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
        }
        self._secrets = [form.encode() for form in sorted(spelled, key=len, reverse=True)]

    def __call__(self, line: bytes) -> bytes:
        for secret in self._secrets:
            if secret in line:
                line = line.replace(secret, HIDDEN.encode())
        return line
