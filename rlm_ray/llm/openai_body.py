"""A body of plain messages goes to the provider as it is.

The openai client looks through every message for values it would have to rewrite (files, dates, models), by the types that
each field may have: a sixth of the CPU of a call. Texts hold nothing of the kind. Should a later client know these names no
more, calls go out as before, only slower.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from importlib import import_module
from typing import Any

_NOT_GIVEN = frozenset({"NotGiven", "Omit"})
"""The client's types of fields that are left out."""
_PLAIN = frozenset({str, int, float, bool, type(None)})


def send_plain_bodies() -> None:
    """Have the client pass on the body of a chat completion whose values are plain. Others are none of our business."""
    try:
        completions: Any = import_module(
            "openai.resources.chat.completions.completions"
        )  # litellm's own client
    except ImportError:
        return
    rewrite: Any = getattr(completions, "async_maybe_transform", None)
    if rewrite is None:
        return

    @wraps(rewrite)
    async def rewrite_unless_plain(data: Any, expected_type: Any) -> Any:
        if isinstance(data, dict):
            given = {name: value for name, value in data.items() if type(value).__name__ not in _NOT_GIVEN}
            if is_plain(given):
                return given
        return await rewrite(data, expected_type)

    completions.async_maybe_transform = rewrite_unless_plain


def is_plain(body: Mapping[str, Any]) -> bool:
    """Whether all messages are texts, and all other values single ones."""
    messages = body.get("messages")
    return (
        type(messages) is list
        and all(type(message) is dict and _is_flat(message) for message in messages)
        and all(type(value) in _PLAIN for name, value in body.items() if name != "messages")
    )


def _is_flat(message: dict[str, Any]) -> bool:
    return all(type(value) in _PLAIN for value in message.values())
