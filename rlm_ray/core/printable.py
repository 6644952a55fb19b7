"""Text of models and files as a terminal may be sent it.

A terminal obeys control characters: escape sequences set its title, its clipboard (OSC 52), links (OSC 8) and colours,
move the cursor over what was printed before, or answer with input; overrides of the writing direction show text as what
it is not. They are shown as JSON escapes (`\\u001b`), so a line of JSON stays one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""C0 but tab and line feed, DEL, C1, marks and overrides of direction, separators of lines, halves of pairs."""


def printable(text: str) -> str:
    """Return the text with what a terminal would obey shown as escapes; line feeds and tabs stay."""
    text = text.replace("\r\n", "\n")
    return text if text.isascii() and text.isprintable() else _OBEYED.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def replace_surrogates(value: Any) -> Any:
    """Return the value without halves of surrogate pairs, which models and files hold now and then and no UTF-8 can."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {replace_surrogates(name): replace_surrogates(item) for name, item in value.items()}
    if isinstance(value, list):
        return [replace_surrogates(item) for item in value]
    return value
