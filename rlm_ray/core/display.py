r"""How values and texts show themselves to people, in a console and in a notebook: short, without secrets, and nothing in them is obeyed.

A terminal obeys control characters: escape sequences set its title, its clipboard (OSC 52), links (OSC 8) and colours,
move the cursor over what was printed before, or answer with input; overrides of the writing direction show text as what
it is not. They are shown as JSON escapes (`\u001b`), so a line of JSON stays one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from html import escape
from typing import Any

from rlm_ray.core.secrets import redact
from rlm_ray.core.tools import Tool

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


TEXT_CHARS = 200
"""So much of a text is shown in a `repr`."""
HTML_CHARS = 20_000
"""So much of it is shown in a notebook."""


def show_changes(value: Any, name: str = "", always: Collection[str] = ()) -> str:
    """Return a dataclass as a call that makes it, with what differs from its defaults only and `***` for secrets."""
    shown = []
    made_of_nothing = all(
        item.default is not MISSING or item.default_factory is not MISSING for item in fields(value)
    )
    plain = type(value)() if made_of_nothing else None
    for item in fields(value):
        current, default = getattr(value, item.name), getattr(plain, item.name, item.default)
        if current != default or item.name in always:
            shown.append(f"{item.name}={_show(current, item.name)}")
    return f"{name or type(value).__name__}({', '.join(shown)})"


def _show(value: Any, name: str) -> str:
    if is_dataclass(value):
        return f"Tool({value.name!r})" if isinstance(value, Tool) else show_changes(value)
    if isinstance(value, Mapping) and any(is_dataclass(inner) for inner in value.values()):
        return "{" + ", ".join(f"{key!r}: {_show(inner, str(key))}" for key, inner in value.items()) + "}"
    if isinstance(value, tuple) and any(is_dataclass(inner) for inner in value):
        return "[" + ", ".join(_show(inner, name) for inner in value) + "]"
    return shorten(redact(value, name))


def shorten(value: Any, max_chars: int = TEXT_CHARS) -> str:
    """Return a value as Python writes it; of a long text its head, and how long it is."""
    if isinstance(value, str) and len(value) > max_chars:
        return f"{value[:max_chars]!r}… ({len(value):,} characters)"
    shown = repr(value)
    return shown if len(shown) <= 2 * max_chars else f"{shown[: 2 * max_chars]}… ({len(shown):,} characters)"


def show_call(name: str, facts: Mapping[str, Any]) -> str:
    """Return `name(fact=value, ...)` without facts that are None or empty."""
    shown = [
        f"{key}={shorten(value)}"
        for key, value in facts.items()
        if value is not None and value not in ("", (), [])
    ]
    return f"{name}({', '.join(shown)})"


def one_line(text: str, max_chars: int) -> str:
    """Return the head of a text on one line, in quotes."""
    words = " ".join(text[: 2 * max_chars].split())
    return repr(
        words if len(words) <= max_chars and len(text) <= 2 * max_chars else words[: max_chars - 1] + "…"
    )


def html_box(head: str, text: str | None, facts: Mapping[str, Iterable[str]]) -> str:
    """Return a box for a notebook: a line, a text as it is, and lists to unfold. All of it is escaped."""
    parts = [f"<p><b>{escape(head)}</b></p>"]
    if text is not None:
        more = f"\n… ({len(text):,} characters in all)" if len(text) > HTML_CHARS else ""
        parts.append(f'<pre style="white-space: pre-wrap">{escape(text[:HTML_CHARS] + more)}</pre>')
    for name, lines in facts.items():
        items = "".join(f"<li>{escape(line)}</li>" for line in lines)
        if items:
            parts.append(f"<details><summary>{escape(name)}</summary><ul>{items}</ul></details>")
    return f"<div>{''.join(parts)}</div>"


def html_text(text: str) -> str:
    """Return a text of fixed width for a notebook."""
    return f"<pre>{escape(text)}</pre>"
