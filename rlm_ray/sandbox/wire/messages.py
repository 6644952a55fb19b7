"""The messages of a REPL's child, written by it and checked by the host; pure.

Everything a child says is hostile: types, ranges and counts are checked here, once, and what
passes is made of the frozen values of `core`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from rlm_ray.core.context import ByteRange, Context, ContextPart, Document, DocumentRange
from rlm_ray.core.repl_types import (
    CitationRequest,
    Failed,
    ReplRequest,
    SubCallAnswer,
    SubCallKind,
    SubCallOutcome,
    SubCallRequest,
    ToolRequest,
    Variable,
)
from rlm_ray.sandbox.wire.frames import (
    MAX_FRAME_BYTES,
    MAX_HEAD_BYTES,
    Frame,
    FrameBounds,
    FrameError,
    encode,
)

MAX_CALLS = 100_000
MAX_ANSWER_CHARS = 10_000_000
MAX_FRAME_DOCUMENTS = 1_000_000
MAX_SCHEMA_CHARS = 200_000
MAX_ERROR_CHARS = 20_000
MAX_NOTES, MAX_NOTE_CHARS = 60, 500
MAX_VARIABLES, MAX_NAME_CHARS, MAX_KIND_CHARS = 100, 200, 100
MAX_QUOTE_CHARS = 20_000
"""Of one citation, as it is sent; the session takes fewer and says so."""
OUTPUT_MARGIN_CHARS = 100
"""What a child's output may be longer than its setting: the words about what was left out."""

_UTF8 = 4
"""Bytes of a character, at most."""
_ESCAPED = 12
"""Bytes of a character in JSON, at most."""

_SMALL_HEAD = 512

EXIT_BROKEN, EXIT_MEMORY = 70, 77
"""How a child exits that cannot say why: no jail, no memory."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The jail stands and the names are in place."""


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The jail could not be built."""

    why: str


@dataclass(frozen=True, slots=True)
class OutputSoFar:
    """All that the running cell has printed so far, already bounded."""

    output: str
    chars: int


@dataclass(frozen=True, slots=True)
class Final:
    """FINAL was called; the first one counts."""

    answer: str


@dataclass(frozen=True, slots=True)
class CellDone:
    """The code of one message has ended."""

    output: str
    chars: int
    error: str | None
    variables: tuple[Variable, ...]
    notes: tuple[str, ...]
    looked: bool


Message: TypeAlias = "Ready | StartFailed | OutputSoFar | Final | ReplRequest | CellDone"


def bounds_of(output_chars: int, argument_bytes: int = 0) -> dict[str, FrameBounds]:
    """Return what a child may send, by kind. Only sub-calls are large: their texts go to a model that somebody pays for."""
    output = (output_chars + OUTPUT_MARGIN_CHARS) * _UTF8
    told = (MAX_ERROR_CHARS + MAX_NOTES * MAX_NOTE_CHARS) * _UTF8
    names = MAX_VARIABLES * (MAX_NAME_CHARS + MAX_KIND_CHARS + _ESCAPED) * _ESCAPED
    return {
        "ready": FrameBounds(_SMALL_HEAD),
        "broken": FrameBounds(_SMALL_HEAD, 1 << 16, 1),
        "printed": FrameBounds(_SMALL_HEAD, output, 1),
        "final": FrameBounds(_SMALL_HEAD, MAX_ANSWER_CHARS * _UTF8, 1),
        "done": FrameBounds(_SMALL_HEAD + names, output + told, 2 + MAX_NOTES),
        "calls": FrameBounds(MAX_HEAD_BYTES, MAX_FRAME_BYTES, 2 * MAX_FRAME_DOCUMENTS),
        "tool": FrameBounds(_SMALL_HEAD, MAX_NAME_CHARS * _UTF8 + argument_bytes, 2),
        "cite": FrameBounds(_SMALL_HEAD, MAX_QUOTE_CHARS * _UTF8, 1),
    }


def decode_message(frame: Frame, context: Context) -> Message:
    """Decode a child's frame. Raises `FrameError` where it is no message."""
    message, rest = _read(frame, context)
    if next(rest, None) is not None:
        raise FrameError("a frame with more texts than it says")
    return message


def _read(frame: Frame, context: Context) -> tuple[Message, Iterator[str]]:  # noqa: PLR0911 - one for each kind
    """Read a message, with the texts that belong to nothing."""
    fields, texts = frame.fields, list(frame.texts)
    nothing, rest = iter(()), iter(texts)
    match frame.kind:
        case "ready":
            return Ready(), rest
        case "broken" if len(texts) == 1:
            return StartFailed(texts[0][:1000]), nothing
        case "printed" if len(texts) == 1:
            return OutputSoFar(texts[0], _checked_int(fields.get("chars"))), nothing
        case "final" if len(texts) == 1 and len(texts[0]) <= MAX_ANSWER_CHARS:
            return Final(texts[0]), nothing
        case "calls":
            return _read_calls(fields, rest, context), rest
        case "tool" if len(texts) == 2 and len(texts[0]) <= MAX_NAME_CHARS:
            return ToolRequest(texts[0], texts[1]), nothing
        case "cite" if len(texts) == 1:
            number = fields.get("document")
            return CitationRequest(texts[0], None if number is None else _checked_int(number)), nothing
        case "done":
            return _read_done(fields, rest), rest
        case _:
            raise FrameError(f"an unknown frame {frame.kind[:40]!r}")


def write_done(done: CellDone) -> bytes:
    """Write it within what `bounds_of` allows, whatever the cell named its variables."""
    notes = [note[:MAX_NOTE_CHARS] for note in done.notes[:MAX_NOTES]]
    texts = [done.output, *notes]
    if done.error is not None:
        texts.append(done.error[:MAX_ERROR_CHARS])
    return encode(
        "done",
        texts,
        chars=done.chars,
        failed=done.error is not None,
        notes=len(notes),
        looked=done.looked,
        variables=[
            [variable.name[:MAX_NAME_CHARS], variable.kind[:MAX_KIND_CHARS], variable.size]
            for variable in done.variables[-MAX_VARIABLES:]
        ],
    )


def _read_done(fields: dict[str, Any], texts: Iterator[str]) -> CellDone:
    output = _next_text(texts)
    notes = tuple(
        _next_text(texts, MAX_NOTE_CHARS) for _ in range(_checked_int(fields.get("notes"), MAX_NOTES))
    )
    error = _next_text(texts, MAX_ERROR_CHARS) if fields.get("failed") is True else None
    looked = fields.get("looked") is True
    variables = tuple(_variable(item) for item in _checked_list(fields.get("variables"), MAX_VARIABLES))
    return CellDone(output, _checked_int(fields.get("chars")), error, variables, notes, looked)


def _printable(text: str) -> str:
    """Return a name without halves of surrogate pairs, which code may put into a name and no provider can be sent."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _variable(item: Any) -> Variable:
    match item:
        case [str(name), str(kind), int() | None as size]:
            return Variable(
                _printable(name[:MAX_NAME_CHARS]),
                _printable(kind[:MAX_KIND_CHARS]),
                None if size is None else _checked_int(size),
            )
        case _:
            raise FrameError("a variable that is not one")


def write_request(request: ReplRequest) -> bytes:
    match request:
        case ToolRequest(name, arguments):
            return encode("tool", [name, arguments])
        case CitationRequest(quote, number):
            return encode("cite", [quote], document=number)
        case _:
            return write_calls(request)


def write_calls(calls: SubCallRequest) -> bytes:
    """Write each query that differs and each text once; pieces of the context as numbers."""
    texts: list[str] = []
    queries = list(dict.fromkeys(calls.queries))
    number = {query: index for index, query in enumerate(queries)}
    texts.extend(queries)
    parts = [_write_part(part, texts) for part in calls.contexts]
    if calls.schema:
        texts.append(calls.schema)
    return encode(
        "calls",
        texts,
        call=calls.kind,
        stop=calls.stop_on_error,
        queries=len(queries),
        asks=[number[query] for query in calls.queries],
        parts=parts,
        typed=bool(calls.schema),
        model=calls.model,
    )


def _write_part(part: ContextPart, texts: list[str]) -> list[Any]:
    match part:
        case str():
            texts.append(part)
            return ["text"]
        case ByteRange(start, stop):
            return ["span", start, stop]
        case DocumentRange(start, stop):
            return ["docs", start, stop]
        case _:
            for document in part:
                texts.extend(document.values() if isinstance(document, dict) else [document])
            return ["list", len(part), bool(part) and isinstance(part[0], dict)]


def _read_calls(fields: dict[str, Any], texts: Iterator[str], context: Context) -> SubCallRequest:
    kind, asks = fields.get("call"), _checked_list(fields.get("asks"), MAX_CALLS)
    parts = _checked_list(fields.get("parts"), MAX_CALLS)
    if kind not in ("recursive", "llm", "rlm") or not asks or len(asks) != len(parts):
        raise FrameError("a sub-call that is none")
    queries = [_next_text(texts) for _ in range(_checked_int(fields.get("queries"), MAX_CALLS))]
    chosen = tuple(queries[_checked_int(ask, len(queries) - 1)] for ask in asks)
    contexts = tuple(_read_part(part, texts, context) for part in parts)
    schema = _next_text(texts, MAX_SCHEMA_CHARS) if fields.get("typed") is True else ""
    model = fields.get("model", "")
    if not isinstance(model, str) or len(model) > MAX_NAME_CHARS:
        raise FrameError("the name of a model that is none")
    stop = fields.get("stop") is True
    return SubCallRequest(cast("SubCallKind", kind), chosen, contexts, stop, schema, model)


def _read_part(part: Any, texts: Iterator[str], context: Context) -> ContextPart:
    match part:
        case ["text"]:
            return _next_text(texts)
        case ["span", int(start), int(stop)] if 0 <= start <= stop <= context.nbytes:
            return ByteRange(start, stop)
        case ["docs", int(start), int(stop)] if context.offsets is not None and (
            0 <= start <= stop < len(context.offsets)
        ):
            return DocumentRange(start, stop)
        case ["list", int(count), bool(with_ids)] if 0 <= count <= MAX_FRAME_DOCUMENTS:
            return [_document(texts, with_ids=with_ids) for _ in range(count)]
        case _:
            raise FrameError("a part of the context that is none")


def _document(texts: Iterator[str], *, with_ids: bool) -> Document:
    return {"id": _next_text(texts), "text": _next_text(texts)} if with_ids else _next_text(texts)


def write_outcomes(outcomes: Sequence[SubCallOutcome]) -> bytes:
    texts: list[str] = []
    for outcome in outcomes:
        texts.extend([outcome.text] if isinstance(outcome, SubCallAnswer) else [outcome.kind, outcome.why])
    return encode("outcomes", texts, failed=[isinstance(outcome, Failed) for outcome in outcomes])


def read_outcomes(frame: Frame) -> list[SubCallOutcome]:
    texts = iter(frame.texts)
    return [
        Failed(next(texts), next(texts)) if failed else SubCallAnswer(next(texts))
        for failed in frame.fields["failed"]
    ]


def _next_text(texts: Iterator[str], max_chars: int | None = None) -> str:
    text = next(texts, None)
    if text is None:
        raise FrameError("a frame with fewer texts than it says")
    if max_chars is not None and len(text) > max_chars:
        raise FrameError(f"a text of {len(text):,} characters, more than {max_chars:,}")
    return text


def _checked_int(value: Any, most: int = 1 << 62) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise FrameError("a number out of range")
    return value


def _checked_list(value: Any, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise FrameError("a list that is none, or too long")
    return value
