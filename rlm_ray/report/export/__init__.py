"""A run in the formats of other tools, made from its records at any time after it.

otlp    OTLP JSON: an OpenTelemetry collector's file format, with the original times
chrome  trace events for ui.perfetto.dev and chrome://tracing
jsonl   the records themselves, a line each
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias, get_args

from rlm_ray.errors import InputError
from rlm_ray.events.records import Record, to_line
from rlm_ray.report.export.chrome import chrome_json
from rlm_ray.report.export.otlp import otlp_json, send_otlp, spans_of
from rlm_ray.report.export.trace_layout import layout_spans

Format: TypeAlias = Literal["otlp", "chrome", "jsonl"]
FORMATS: tuple[str, ...] = get_args(Format)


def export(records: Iterable[Record], to: str, *, content: bool = False) -> bytes:
    """Write the run in this format; `content` adds questions, replies and code to spans. `jsonl` has what was
    recorded.
    """
    known = list(records)
    match to:
        case "jsonl":
            return b"".join(map(to_line, known))
        case "otlp":
            return otlp_json(spans_of(known, content=content))
        case "chrome":
            return chrome_json(layout_spans(spans_of(known, content=content)))
        case _:
            raise InputError("format", f"must be one of {', '.join(FORMATS)}; got {to!r}")


__all__ = ["FORMATS", "Format", "export", "send_otlp"]
