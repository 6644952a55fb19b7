"""What routes share: wishes for a run, parts of messages, and citations of an answer as OpenAI's clients know them.

A response has `file_citation`s: the document is the file. A chat message knows `url_citation`s only: their URL names the
document and the characters (RFC 5147), and its indexes are those of the quote in the answer, or of the whole answer.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias, TypeVar
from urllib.parse import quote

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from rlm_ray.core.repl_types import Citation
from rlm_ray.errors import InputError
from rlm_ray.events.usage import RunUsage
from rlm_ray.serve.prompt import ContentPart, FileData, FileRef, NamedContext, Text, Uri
from rlm_ray.structured.schema import AnswerSchema

MAX_MESSAGES = 10_000
MAX_FIELDS = 100
"""Of an object in which each field may be a fault."""

Item = TypeVar("Item")
Checked: TypeAlias = Annotated[list[Item], Field(fail_fast=True)]
"""A list that is refused at its first fault. A hundred thousand faults, each told, would take seconds on the loop."""


def check_fields(value: Any) -> Any:
    """Refuse too many fields as one fault, before each of them is one."""
    if isinstance(value, dict) and len(value) > MAX_FIELDS:
        raise ValueError(f"has more than {MAX_FIELDS} fields")
    return value


Metadata: TypeAlias = Annotated[dict[str, str], BeforeValidator(check_fields)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Amount = Annotated[float, Field(gt=0, le=1e9)]


_NO_SETTINGS = {"context", "context_uri", "file_ids", "direct_without_context"}


class StrictObject(BaseModel):
    """An object that has no fields but those named here."""

    model_config = ConfigDict(extra="forbid")

    _check_fields = model_validator(mode="before")(check_fields)


class RunLimits(StrictObject):
    """Limits of one run, within those of its model."""

    cost_usd: Amount | None = None
    tokens: Count | None = None
    calls: Count | None = None
    sessions: Count | None = None
    time_s: Annotated[float, Field(gt=0, le=1e7)] | None = None


class RunOptions(StrictObject):
    """How a run is carried out, and a context beside the messages."""

    context: str | Annotated[Checked[str], Field(max_length=MAX_MESSAGES)] | None = None
    context_uri: str | None = None
    """One of those the service allows."""
    file_ids: Annotated[Checked[str], Field(max_length=10_000)] = []
    max_depth: Annotated[int, Field(ge=0, le=100)] | None = None
    max_iterations: Annotated[int, Field(ge=1, le=10_000)] | None = None
    max_leaf_chars: Annotated[
        int | None, Field(ge=0, le=10**12, validation_alias=AliasChoices("max_leaf_chars", "leaf_chars"))
    ] = None
    direct_call_below_chars: Annotated[
        int | None,
        Field(
            ge=0,
            le=10**12,
            validation_alias=AliasChoices("direct_call_below_chars", "direct_below_chars"),
        ),
    ] = None
    profile: Literal["default", "full", "short", "cautious", "small-window"] | None = None
    citations: Literal["off", "optional", "required"] | None = None
    limits: RunLimits = RunLimits()
    direct_without_context: bool | None = None
    """A conversation without a long text or a file is one plain call, whatever `max_depth` is; null: as the service says."""

    def settings(self) -> dict[str, Any]:
        """Return the options that are settings of the run."""
        return self.model_dump(exclude_none=True, exclude=_NO_SETTINGS)

    def context_parts(self) -> list[NamedContext]:
        """Return the options that are pieces of its context."""
        texts = [self.context] if isinstance(self.context, str) else self.context or []
        names = (
            ["context"] if len(texts) == 1 else [f"context {number}" for number in range(1, len(texts) + 1)]
        )
        found = [NamedContext(name, Text(text)) for name, text in zip(names, texts, strict=True)]
        found += [NamedContext(file_id, FileRef(file_id)) for file_id in self.file_ids]
        return found + ([NamedContext(self.context_uri, Uri(self.context_uri))] if self.context_uri else [])


class FilePart(BaseModel):
    """A file: by the id of its upload, or inside the request in base64."""

    file_id: str | None = None
    file_data: str | None = None
    filename: str | None = None

    def piece(self) -> ContentPart:
        if self.file_id:
            return FileRef(self.file_id)
        if self.file_data is None:
            raise InputError("file", "needs a file_id or file_data")
        _, comma, coded = self.file_data.partition("base64,")
        try:
            data = base64.b64decode(coded if comma else self.file_data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InputError("file_data", "is not base64") from error
        return FileData(self.filename or "", data)


class Usage(BaseModel):
    """What the whole tree used."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


def total_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sums of a `RunUsage.as_dict()`; zeros where nothing is known."""
    zeros: dict[str, Any] = RunUsage().as_dict()["total"]
    return zeros | dict(usage.get("total", {}))


def response_schema(form: dict[str, JsonValue] | None) -> str:
    """Return the JSON Schema that `response_format`, or `text.format`, asks for, as text; empty where that is plain text.

    Answers are checked against it, `strict` or not. Raises `InputError` where it cannot be used.
    """
    match form:
        case None | {"type": "text"}:
            return ""
        case {"type": "json_object"}:
            table: Any = {"type": "object"}
        case {"type": "json_schema", "json_schema": {"schema": dict(table)}}:
            pass
        case {"type": "json_schema", "schema": dict(table)}:
            pass
        case _:
            why = (
                'must be {"type": "text"}, {"type": "json_object"}, or {"type": "json_schema"} with a schema'
            )
            raise InputError("response_format", why)
    try:
        return AnswerSchema.parse(table, trusted=False).source
    except InputError as error:
        raise InputError("response_format", f"its schema {error.why}") from error


def readable(
    parts: Sequence[tuple[str, ContentPart | None]], *, is_question: bool
) -> tuple[ContentPart, ...]:
    """Return the parts of a message; a placeholder for each that cannot be read, such as an image.

    Raises `InputError` where that stands in the question itself: nobody could answer it.
    """
    found: list[ContentPart] = []
    for kind, piece in parts:
        if piece is None and is_question:
            why = f"parts of type {kind[:40]!r} cannot be read here; describe it in words, or send text or a file of text"
            raise InputError("content", why)
        found.append(piece if piece is not None else Text(f"[{kind[:40]}: cannot be read here]"))
    return tuple(found)


def last_of_user(roles: Sequence[str]) -> int:
    """Return the place of the last message of the user; -1 where there is none."""
    return max((place for place, role in enumerate(roles) if role == "user"), default=-1)


CONTEXT = "context"
"""What a document is called where the context is one text."""


def file_citations(citations: Sequence[Citation]) -> list[dict[str, Any]]:
    """Return the annotations of a response's text; `index` is the number of the document among those that are cited."""
    files = list(dict.fromkeys(map(_name, citations)))
    return [
        {
            "type": "file_citation",
            "file_id": _name(cited),
            "filename": _name(cited),
            "index": files.index(_name(cited)),
            "quote": cited.quote,
            "start": cited.start,
            "end": cited.end,
            "page": cited.page,
        }
        for cited in citations
    ]


def url_citations(answer: str, citations: Sequence[Citation]) -> list[dict[str, Any]]:
    """Return the annotations of a chat message."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                **_range(answer, cited.quote),
                "title": _name(cited),
                "url": f"rlm:{quote(_name(cited))}#char={cited.start},{cited.end}",
                "quote": cited.quote,
                "page": cited.page,
            },
        }
        for cited in citations
    ]


def _name(cited: Citation) -> str:
    return cited.document if cited.number is not None else CONTEXT


def _range(answer: str, words: str) -> dict[str, int]:
    at = answer.find(words)
    return {"start_index": max(at, 0), "end_index": at + len(words) if at >= 0 else len(answer)}
