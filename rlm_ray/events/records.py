"""The facts of a run, one frozen record each; a journal is a list of them, and spans, metrics, the live view, the
report and replay are all made from it.

A **node** of the recursion tree is named by its path: the ordinals of the sub-calls that lead to it from the root,
whose path is `()`. A session is a node with turns: a model call and a cell each. A leaf is a node with one call.

- The caller writes when a session begins and ends, so one whose actor was killed still has an end, as an error.
- Records of different actors may arrive out of order; those of one node from one actor do not.
- A record may be written twice, with the same `id`: read it once.
- Times are Unix seconds, of the machine that writes. Texts are empty where content is not recorded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from operator import attrgetter
from types import MappingProxyType, UnionType
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import Usage
from rlm_ray.core.repl_types import Citation, Variable
from rlm_ray.errors import InputError

FORMAT = 1

NodePath: TypeAlias = tuple[int, ...]
Role: TypeAlias = Literal["turn", "last", "direct", "leaf", "summary"]
"""Why a model was called: a session's turn, its last call after a stop, an answer without a REPL, a plain sub-call, a
summary of a conversation that grew too long."""
MAX_NUMBER = 6e10
"""The largest time, cost or temperature of a record; as a time, a year that a calendar can show."""
SUMMARY_CALLS = 1_000_000
"""What is added to the number of turns before a summary, for the number of its call."""


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that failed."""

    at: float
    kind: str
    """`rate_limited`, `server_error`, `timeout`, `connection` ...; `empty`, `tool_call` ... of a reply that was none."""
    why: str


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The first record of a run; another one each time the run is resumed."""

    at: float
    run_id: str
    query: str
    settings: Mapping[str, Any]
    """Without secrets."""
    input: InputSummary
    version: str
    """Of rlm_ray."""
    traceparent: str = ""
    life: int = 1
    """The number of this attempt at the run: 1, and one more with each resume."""
    format: int = FORMAT
    follow_ups: tuple[str, ...] = ()
    """Further questions of a conversation; this attempt answers the last."""
    id: str = ""
    tools: tuple[str, ...] = ()
    """Names of the user's functions that its code can call; no record holds these."""
    schemas: tuple[str, ...] = ()
    """The JSON Schema of the answer to each question, the first and the further ones; empty for text."""


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A session is sent to an actor. Written by its caller."""

    at: float
    path: NodePath
    query: str
    input: InputSummary
    model: str
    actor: str
    attempt: int = 1
    """2 and more: its actor died before."""
    id: str = ""


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """A session is over. Written by its caller. With an `error_kind` it failed."""

    at: float
    path: NodePath
    stop_reason: str
    """`answered`, what stopped it, or `error`, `lost` (its actor died), `cancelled`."""
    why: str = ""
    answer: str | None = None
    turns: int = 0
    error_kind: str = ""
    attempt: int = 1
    key: str = ""
    """Names its question and context: the same key has the same answer."""
    id: str = ""
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True, slots=True)
class CallSent:
    """The first request of a model call goes out."""

    at: float
    path: NodePath
    call: int
    """The number of the call in its node, from 1."""
    role: Role
    model: str
    key: str
    """The hash of all that shapes the reply."""
    id: str = ""
    max_cost_usd: float | None = None
    """The most that an attempt may cost; None where the price is not known."""


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A model call has its reply, or failed for good (`error_kind`)."""

    at: float
    path: NodePath
    call: int
    role: Role
    model: str
    key: str
    started: float
    """When it was wanted: before any wait."""
    provider: str = ""
    queue_wait_s: float = 0.0
    rate_wait_s: float = 0.0
    tries: tuple[FailedAttempt, ...] = ()
    """Attempts that failed before."""
    usage: Usage = Usage()  # noqa: RUF009 - frozen
    cost_usd: float | None = None
    finish_reason: str = ""
    text: str = ""
    tool_call: bool = False
    status: str = ""
    """The status line a turn was asked under."""
    cache_hit: bool = False
    repaid: bool = False
    """The same call was under way when its process died, and may have been paid for then, too."""
    error_kind: str = ""
    why: str = ""
    query: str = ""
    """Of a leaf."""
    input: InputSummary | None = None
    """Of a leaf."""
    id: str = ""
    reasoning: str = ""
    """What the model thought before it replied, where the provider tells."""
    fallback_from: str = ""
    """The model that was asked first and could not answer; empty where this is that model."""
    refused: str = ""
    """Why the answer of the turn before was not taken; the model was asked with that."""
    response_model: str = ""
    """The model that answered, by the provider's own name."""
    response_id: str = ""
    """The provider's name of the reply."""
    max_tokens: int | None = None
    """The most the reply could hold, as it was sent; None: the provider's own limit."""
    temperature: float | None = None
    """As it was sent; None: the provider's own."""


@dataclass(frozen=True, slots=True)
class CellEnded:
    """The code of a turn has run."""

    at: float
    path: NodePath
    turn: int
    """From 1."""
    started: float
    waited_s: float = 0.0
    """For sub-calls."""
    code: str = ""
    output: str = ""
    output_chars: int = 0
    error: str | None = None
    killed: str | None = None
    final: str | None = None
    looked: bool = False
    variables: tuple[Variable, ...] = ()
    notes: tuple[str, ...] = ()
    again: bool = False
    """Its REPL was killed through no fault of the code, which is run once more: the model never saw this."""
    id: str = ""
    citations: tuple[Citation, ...] = ()
    """Words that its code cited, found in the context."""


@dataclass(frozen=True, slots=True)
class ToolEnded:
    """A call of a tool in a cell has its result, or failed (`error_kind`)."""

    at: float
    path: NodePath
    turn: int
    number: int
    """Of the call in its cell, from 0."""
    name: str
    key: str
    """The hash of its name and arguments."""
    started: float
    arguments: str = ""
    """JSON, as `ToolRequest.arguments`."""
    result: str = ""
    """JSON."""
    error_kind: str = ""
    why: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class MapOpened:
    """A cell sends sub-calls out: ordinals `first` to `first + count - 1` of the session."""

    at: float
    path: NodePath
    turn: int
    first: int
    count: int
    sessions: int
    """How many of them become child sessions; the others are plain calls."""
    query: str = ""
    """Of the first."""
    id: str = ""


@dataclass(frozen=True, slots=True)
class MapEnded:
    """All of its sub-calls are over."""

    at: float
    path: NodePath
    first: int
    answered: int
    failed: int
    id: str = ""


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The last record of an attempt at the run."""

    at: float
    stop_reason: str
    """As `Result.stop_reason`, or `error`."""
    why: str = ""
    answer: str | None = None
    turns: int = 0
    seconds: float = 0.0
    usage: Mapping[str, Any] = field(default_factory=dict)
    """`RunUsage.as_dict()`."""
    error_kind: str = ""
    id: str = ""
    citations: tuple[Citation, ...] = ()
    """What the root cited for its answer."""


NodeRecord: TypeAlias = (
    "SessionOpened | SessionEnded | CallSent | CallEnded | CellEnded | ToolEnded | MapOpened | MapEnded"
)
"""A fact of one node of the tree."""
Record: TypeAlias = "RunStarted | NodeRecord | RunFinished"

KINDS: Mapping[str, type[Any]] = MappingProxyType(
    {
        "run": RunStarted,
        "session": SessionOpened,
        "session_end": SessionEnded,
        "sent": CallSent,
        "call": CallEnded,
        "cell": CellEnded,
        "tool": ToolEnded,
        "map": MapOpened,
        "map_end": MapEnded,
        "run_end": RunFinished,
    }
)
_NAMES = {cls: kind for kind, cls in KINDS.items()}
_FIELDS = {cls: tuple((item.name, item.default) for item in fields(cls)) for cls in KINDS.values()}
_VALUES_OF = {cls: attrgetter(*(item.name for item in fields(cls))) for cls in KINDS.values()}
_CONTENT = (
    "query", "answer", "text", "code", "output", "final", "why", "error", "status", "reasoning", "refused", "arguments",
    "result",
)  # fmt: skip
"""Fields that hold what users, models or their code wrote."""


def without_content(record: Record) -> Record:
    """Return the same record without what users, models or their code wrote."""
    changes: dict[str, Any] = {
        name: "" for name, _ in _FIELDS[type(record)] if name in _CONTENT and getattr(record, name)
    }
    given = getattr(record, "input", None)
    if given is not None:
        changes["input"] = replace(given, sample="", origin="")
    if isinstance(record, RunStarted):
        changes |= {"follow_ups": (), "schemas": ()}
    if isinstance(record, CallEnded):
        changes["tries"] = tuple(replace(item, why="") for item in record.tries)
    if isinstance(record, CellEnded):  # a model chose the names of its variables
        changes["variables"] = ()
    if isinstance(record, CellEnded | SessionEnded | RunFinished):
        changes["citations"] = ()
    bare: Record = replace(record, **changes)
    return bare


def to_line(record: Record, ident: str = "") -> bytes:
    """Encode a record as one line of JSON with its newline; fields that have their default are left out. `ident` becomes its `id`."""
    kind = type(record)
    plain: dict[str, Any] = {"kind": _NAMES[kind]}
    for (name, default), value in zip(_FIELDS[kind], _VALUES_OF[kind](record), strict=True):
        if value is not default and value != default:
            plain[name] = value
    if ident:
        plain["id"] = ident
    return _ENCODER.encode(plain).encode("utf-8", "replace") + b"\n"


def from_line(line: bytes | str) -> Record:
    """Decode a line. Raises `InputError` where it is no record."""
    try:
        plain = json.loads(line)
        cls = KINDS[plain.pop("kind")]
        known = {name: _from_json(name, plain[name]) for name, _ in _FIELDS[cls] if name in plain}
        record: Record = cls(**known)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        shown = line[:80] if isinstance(line, str) else line[:80].decode("utf-8", "replace")
        raise InputError("journal", f"a line is no record of this version: {shown!r} ({error!r})") from error
    return record


def check_types(record: Any) -> None:
    """Raise `InputError` where a field holds what it cannot: `from_line` does not look, and anybody may have written a journal."""
    for name, types in _TYPES[type(record)].items():
        value = getattr(record, name)
        items = value if isinstance(value, tuple) else ()
        item_types = int if name == "path" else (str, *_PLAIN_FIELDS)
        is_right = isinstance(value, types) and all(isinstance(item, item_types) for item in items)
        if is_right and float in types and value is not None:
            is_right = abs(value) <= MAX_NUMBER  # nor infinite, nor no number
        if not is_right:
            raise InputError("journal", f"{name} of a record cannot be {value!r:.40}")
        for inner in items or (value,):
            if type(inner) in _PLAIN_FIELDS:
                check_types(inner)


def _types_of(hint: Any) -> tuple[type[Any], ...]:
    """Return the types that values of a field with this annotation have."""
    origin = get_origin(hint)
    if origin is UnionType:
        return tuple(chain.from_iterable(map(_types_of, get_args(hint))))
    if origin is Literal:
        return (str,)
    return (int, float) if hint is float else (origin or hint,)


def _to_json(value: Any) -> Any:
    if type(value) in _PLAIN_FIELDS:
        return [getattr(value, name) for name in _PLAIN_FIELDS[type(value)]]
    if isinstance(value, Mapping):
        return dict(value)
    return repr(value)


_ENCODER = json.JSONEncoder(ensure_ascii=False, default=_to_json)
_PLAIN_FIELDS = {
    cls: tuple(item.name for item in fields(cls))
    for cls in (InputSummary, FailedAttempt, Usage, Variable, Citation)
}
_TYPES = {
    cls: {name: _types_of(hint) for name, hint in get_type_hints(cls).items()}
    for cls in (*KINDS.values(), *_PLAIN_FIELDS)
}
_ITEMS: Mapping[str, type[Any]] = MappingProxyType(
    {"tries": FailedAttempt, "variables": Variable, "citations": Citation}
)
_VALUES: Mapping[str, type[Any]] = MappingProxyType({"input": InputSummary, "usage": Usage})


def _from_json(name: str, value: Any) -> Any:
    if name in _ITEMS:
        return tuple(_ITEMS[name](*item) for item in value)
    if name in _VALUES and isinstance(value, list):
        return _VALUES[name](*value)
    return tuple(value) if name in {"path", "notes", "follow_ups", "tools", "schemas"} else value
