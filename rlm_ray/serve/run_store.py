"""What was asked of the service, kept in the run's folder: whose it is, and how to go on with it."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from rlm_ray.core.llm import Message
from rlm_ray.core.state_machine import MISFIT
from rlm_ray.events.records import RunFinished, from_line, to_line
from rlm_ray.events.usage import CANCELLED
from rlm_ray.journal.run_store import RunStore
from rlm_ray.runs.run import new_run_id
from rlm_ray.structured.schema import AnswerSchema

Kind: TypeAlias = Literal["chat", "response", "run"]
State: TypeAlias = Literal["running", "answered", "stopped", "cancelled", "failed"]

REQUEST_FILE = "request.json"
_FAILURE = "failure.json"
_RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6,40}")


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A request as it is stored in the run's folder."""

    run_id: str
    key: str
    """The name of who asked."""
    kind: Kind
    model: str
    created: float
    query: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Wishes on top of the model's settings."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Such as `temperature`."""
    messages: tuple[tuple[str, str], ...] = ()
    """Roles and texts of a conversation that is one plain call; none: a question over a context."""
    cost_usd: float | None = None
    """The most it may cost."""
    background: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""
    """The `x-request-id`."""
    schema: str = ""
    """The JSON Schema of the answer; empty for text."""


def messages_of(request: StoredRequest) -> tuple[Message, ...]:
    """Return the messages of a conversation that is one plain call."""
    return tuple(Message(role, text) for role, text in request.messages)


def schemas_of(request: StoredRequest) -> tuple[AnswerSchema, ...]:
    """Return what the answer looks like; empty for text."""
    return (AnswerSchema.of_source(request.schema),) if request.schema else ()


def request_run_id() -> str:
    """Make a run id that no two of many requests in a second share."""
    return new_run_id() + secrets.token_hex(5)


def is_run_id(text: str) -> bool:
    """Tell whether a text can be a run id; what is not must not become a path."""
    return bool(_RUN_ID.fullmatch(text))


def save_request(folder: RunStore, request: StoredRequest) -> None:
    folder.save(REQUEST_FILE, json.dumps(asdict(request)).encode())


def load_request(folder: RunStore) -> StoredRequest | None:
    """Read what was asked; None where the run was not asked of a service."""
    blob = folder.load(REQUEST_FILE)
    if blob is None:
        return None
    table = json.loads(blob)
    messages = tuple((role, text) for role, text in table.pop("messages", ()))
    return StoredRequest(**table, messages=messages)


def save_failure(folder: RunStore, end: RunFinished) -> None:
    """Write how a run ended that could not say so in its journal."""
    folder.save(_FAILURE, to_line(end))


def end_of(folder: RunStore) -> RunFinished | None:
    """Return how a run ended; None while it goes on, and where it was killed."""
    end = folder.last_end() if folder.exists() else None
    if end is None and (blob := folder.load(_FAILURE)) is not None:
        failure = from_line(blob)
        assert isinstance(failure, RunFinished)
        return failure
    return end


def end_from_error(error: BaseException) -> RunFinished:
    """Return the end of a run that has none on record."""
    kind = type(error).__name__ if isinstance(error, Exception) else CANCELLED
    return RunFinished(time.time(), "error", str(error), error_kind=kind)


def state_of(end: RunFinished | None, *, is_open: bool) -> State:
    """Tell how a run stands, by its end and by whether the run registry has it still."""
    if end is None:
        return "running" if is_open else "failed"
    if end.error_kind == CANCELLED:
        return "cancelled"
    if end.error_kind or end.answer is None or end.stop_reason == MISFIT:
        return "failed"
    return "answered" if end.stop_reason == "answered" else "stopped"
