"""What an HTTP header can hold: keys are pasted with more around them than they have."""

from __future__ import annotations

_QUOTES = "\u2018\u2019\u201c\u201d\u00ab\u00bb\"'`"


def header_fault(value: str) -> str:
    """What is wrong with a key or another header's value, and what to do; empty where nothing is."""
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
