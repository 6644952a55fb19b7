"""`cite`: says that words stand in the context. The session looks for itself, in the context as it was given."""

from __future__ import annotations

import json
from typing import Any

from rlm_ray.core.repl_types import CitationRequest, Failed
from rlm_ray.errors import CitationError
from rlm_ray.sandbox.guest.context_parts import ContextReferences, DocumentReferences
from rlm_ray.sandbox.guest.model_calls import HostChannel
from rlm_ray.sandbox.guest.search import SearchHit
from rlm_ray.sandbox.wire.messages import MAX_QUOTE_CHARS


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
        """The words to look for, and the document they are said to stand in."""
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
