"""An `Input`: what a node of the recursion tree was given to read, as its records tell it; never the text itself."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_ray.core.context import Context, Docs, Part, Span

SAMPLE_CHARS = 200


@dataclass(frozen=True, slots=True)
class Input:
    """What a node was given to read."""

    kind: str = "text"
    """`text` or `documents`."""
    chars: int = 0
    documents: int = 1
    start: int | None = None
    """Where it begins in the root's context, in bytes; None where it is a text of its own."""
    stop: int | None = None
    sample: str = ""
    """Its head."""


def input_of(context: Context) -> Input:
    """What a node reads that gets the whole of a context."""
    info, origin = context.info, context.origin
    stop = None if origin is None else origin + context.nbytes
    return Input(info.kind, info.chars, info.documents, origin, stop, info.sample[:SAMPLE_CHARS])


def input_of_part(part: Part, context: Context | None) -> Input:
    """What a sub-call reads: a piece of its session's context, or a text of its own.

    Of a piece, `chars` are bytes where the context has characters of several bytes; counting would mean decoding.
    """
    match part:
        case Span(start, stop):
            assert context is not None
            return _piece("text", 1, start, stop, context)
        case Docs(start, stop):
            assert context is not None
            offsets = context.offsets
            assert offsets is not None
            return _piece("documents", stop - start, offsets[start], offsets[stop], context)
        case str():
            return Input("text", len(part), sample=part[:SAMPLE_CHARS])
        case _:
            texts = [item if isinstance(item, str) else item["text"] for item in part]
            head = texts[0][:SAMPLE_CHARS] if texts else ""
            return Input("documents", sum(map(len, texts)), len(texts), sample=head)


def _piece(kind: str, documents: int, start: int, stop: int, context: Context) -> Input:
    head = bytes(memoryview(context.data)[start : min(stop, start + SAMPLE_CHARS)])
    bounds = (context.origin_of(start), context.origin_of(stop))
    return Input(kind, stop - start, documents, *bounds, head.decode("utf-8", "ignore"))
