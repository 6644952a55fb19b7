"""What came of a row: one line of the output."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row of the output; the fields are its columns, `values` further ones."""

    row: int
    """Its number in the input."""
    id: str
    answer: str | None = None
    error: str | None = None
    """Why there is no answer, or not the whole one; the row has failed."""
    stop_reason: str = ""
    """`answered`, what stopped it, or `error`."""
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    """None where the price of a call is not known."""
    turns: int = 0
    seconds: float = 0.0
    run_id: str = ""
    trace_id: str = ""
    key: str = ""
    """Names what was asked; empty where nothing could be."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Columns of the schema."""

    def as_dict(self) -> dict[str, Any]:
        """Its columns, those of the schema behind the answer."""
        plain = {name: getattr(self, name) for name in COLUMNS}
        further = {column_of(name): value for name, value in self.values.items()}
        return {name: plain.pop(name) for name in COLUMNS[:3]} | further | plain


COLUMNS = tuple(item.name for item in fields(Outcome) if item.name != "values")


def column_of(name: str) -> str:
    """The column that a property of the schema has in the output: our own keep their names."""
    return f"answer_{name}" if name in COLUMNS else name


def key_of(question: str, ident: str, text: str) -> str:
    """The same question about the same row has the same key."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (question, ident, text):
        data = part.encode("utf-8", "replace")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def clean(value: Any) -> Any:
    """Without halves of surrogate pairs, which models write now and then and no UTF-8 can hold."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {clean(name): clean(item) for name, item in value.items()}
    if isinstance(value, list):
        return [clean(item) for item in value]
    return value
