"""The tools of a session, as functions of a cell: their arguments go to the host as JSON, their results come back as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from rlm_ray.core.repl_types import Failed, ToolRequest
from rlm_ray.errors import ToolError
from rlm_ray.sandbox.guest.model_calls import HostChannel


class ToolCalls:
    """Calls tools of one session by their names."""

    def __init__(self, host: HostChannel, tools: Sequence[str], max_argument_bytes: int) -> None:
        self._host = host
        self._tools = tools
        self._max_bytes = max_argument_bytes

    def names(self) -> dict[str, Any]:
        return {"ToolError": ToolError, **{name: self._function(name) for name in self._tools}}

    def _function(self, name: str) -> Callable[..., Any]:
        def tool(*args: Any, **kwargs: Any) -> Any:
            return self._call(name, args, kwargs)

        tool.__name__ = tool.__qualname__ = name
        return tool

    def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        arguments = _to_json(name, args, kwargs)
        size = len(arguments.encode("utf-8", "replace"))
        if size > self._max_bytes:
            raise ToolError(
                name, f"the arguments are {size:,} bytes, more than {self._max_bytes:,}; pass less at a time"
            )
        outcome = self._host.call(ToolRequest(name, arguments))[0]
        if isinstance(outcome, Failed):
            raise ToolError(name, outcome.why)
        return json.loads(outcome.text)


def _to_json(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    try:
        return json.dumps([args, kwargs], ensure_ascii=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise ToolError(
            name, f"its arguments cannot be sent ({error}); pass str, numbers, lists and dicts"
        ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if type(value).__name__ in {"Decimal", "Fraction"}:
        return str(value)
    raise TypeError(f"a value of type {type(value).__name__}")
