"""The journal entries of sessions, as their callers write them: a caller owns the beginning and the end, so a session
whose actor was killed still shows, as an error.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rlm_ray.cluster.messages import RunContext, SessionSpec
from rlm_ray.core.context import Context, ContextPart, InputSummary
from rlm_ray.core.llm import ModelReply
from rlm_ray.core.repl_types import Failed, SubCallAnswer, SubCallOutcome
from rlm_ray.core.reply import judge
from rlm_ray.core.secrets import redact
from rlm_ray.errors import (
    AuthenticationError,
    ConfigError,
    ContextLostError,
    JournalError,
    LimitReached,
    QuotaError,
    RLMError,
)
from rlm_ray.events.records import SessionEnded, SessionOpened
from rlm_ray.events.usage import CANCELLED
from rlm_ray.journal.recorder import NullRecorder
from rlm_ray.session.session import SessionResult

FATAL_ERRORS = (LimitReached, AuthenticationError, QuotaError, ConfigError, JournalError, ContextLostError)
"""Errors nobody in the tree can mend: they go up to the root at once."""


@dataclass(slots=True)
class SessionOutcome:
    """A session at work."""

    result: SessionResult | RLMError | None = None


@contextmanager
def record_session(
    scribe: NullRecorder, spec: SessionSpec, given: InputSummary, key: str, actor: str
) -> Iterator[SessionOutcome]:
    """The session is sent to an actor; put its result into the entry."""
    model, _ = spec.run.settings.model_at(spec.depth)
    scribe.append(SessionOpened(time.time(), spec.path, spec.question, given, model, actor, spec.attempt))
    entry = SessionOutcome()
    stop_reason, error = "lost", "ActorLostError"
    try:
        yield entry
    except asyncio.CancelledError:
        stop_reason = error = CANCELLED
        raise
    finally:
        if entry.result is None:
            gone = SessionResult(None, stop_reason, f"{actor} died or was told to stop")
            scribe.append(session_finished(spec, gone, key, error))
        else:
            scribe.append(session_finished(spec, entry.result, key))


def session_finished(
    spec: SessionSpec, result: SessionResult | RLMError, key: str, error_kind: str = ""
) -> SessionEnded:
    """The record of a session's end."""
    if isinstance(result, RLMError):
        return SessionEnded(
            time.time(), spec.path, "error", str(result), None, 0, type(result).__name__, spec.attempt, key
        )
    return SessionEnded(
        time.time(), spec.path, result.stop_reason, result.why, result.answer, result.turns, error_kind,
        spec.attempt, key,
    )  # fmt: skip


def session_key(run: RunContext, depth: int, query: str, identity: str) -> str:
    """Names a session's question, context and all settings that shape its answer."""
    settings = run.settings
    models = [settings.model_at(at) for at in range(depth, depth + 2)]
    shape = [
        query, identity, run.context_key, depth, settings.max_depth, settings.max_iterations, settings.max_leaf_chars,
        settings.profile, settings.max_tokens, redact(models),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(shape, sort_keys=True, default=repr).encode()).hexdigest()


def input_identity(given: InputSummary, part: ContextPart, context: Context) -> str:
    """Names what a child reads: where it stands in the root's context, or a hash of the text."""
    if given.start is not None:
        return f"{given.kind} {given.start}-{given.stop}"
    return context.slice(part).fingerprint()


def to_outcome(result: SessionResult | RLMError | None) -> SubCallOutcome:
    """What the parent's code gets."""
    assert result is not None
    if isinstance(result, RLMError):
        return failure_of(result)
    if result.answer is None:
        return Failed(result.stop_reason, result.why or "the child ended without an answer")
    return SubCallAnswer(result.answer)


def answered(reply: ModelReply) -> SubCallAnswer:
    """A plain call's reply as its outcome."""
    judged = judge(reply)
    return SubCallAnswer(reply.text, judged.why if judged.kind == "truncated" else "")


def failure_of(error: RLMError) -> Failed:
    """An error as the outcome of a sub-call."""
    return Failed(type(error).__name__, str(error), error if isinstance(error, FATAL_ERRORS) else None)
