"""What a cell calls that is no model: tools of the session by their names, and `cite`.

Arguments of a tool go to the host as JSON, its result comes back as JSON. `cite` says that words stand in the context: the
session looks for itself, in the context as it was given.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from rlm_ray.core.repl_types import CitationRequest, Failed, ToolRequest
from rlm_ray.errors import CitationError, ToolError
from rlm_ray.sandbox.guest.context_parts import ContextReferences, DocumentReferences
from rlm_ray.sandbox.guest.model_calls import HostChannel
from rlm_ray.sandbox.guest.search import SearchHit
from rlm_ray.sandbox.wire.messages import MAX_QUOTE_CHARS


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


class Cite:
    """Citations of one session."""

    def __init__(self, host: HostChannel, parts: ContextReferences) -> None:
        self._host = host
        self._parts = parts

    def names(self) -> dict[str, Any]:
        return {"cite": self.cite, "CitationError": CitationError}

    def cite(self, quote: Any, document: Any = None) -> Any:
        """Return where words stand in the context, as a dict; of several, a list. `document`: its id or number."""
        if isinstance(quote, list | tuple):
            return [self.cite(each, document) for each in quote]
        text, number = self._words(quote)
        if number is None and document is not None:
            number = self._number(document)
        if len(text) > MAX_QUOTE_CHARS:
            raise CitationError(
                f"a quote of {len(text):,} characters; cite the few sentences that matter, each by itself"
            )
        outcome = self._host.call(CitationRequest(text, number))[0]
        if isinstance(outcome, Failed):
            raise CitationError(outcome.why)
        return json.loads(outcome.text)

    def _words(self, quote: Any) -> tuple[str, int | None]:
        """Return the words to look for, and the document they are said to stand in."""
        if type(quote) is SearchHit:
            return str(quote.get("line", "")), quote.number
        if isinstance(quote, str):
            return str.__str__(quote), None
        if hasattr(quote, "group") and hasattr(quote, "span"):  # a match of re
            return str(quote.group()), None
        raise TypeError(
            f"cite(words, document=None) takes the words as they stand in the context, or a hit of search or bm25, "
            f"not {type(quote).__name__}"
        )

    def _number(self, document: Any) -> int:
        if not isinstance(self._parts, DocumentReferences):
            raise CitationError("the context is one text, it has no documents; leave `document` out")
        number = self._parts.number_of(document)
        if number is None:
            raise CitationError(f"there is no document {document!r}; give its id or its number")
        return number
