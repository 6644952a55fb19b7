"""Records the beginning and the end of sessions. Their callers write them, so a session whose actor was killed still has
an end, as an error.
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
    """Takes the result of a session that is under way."""

    result: SessionResult | RLMError | None = None


@contextmanager
def record_session(
    recorder: NullRecorder, spec: SessionSpec, given: InputSummary, key: str, actor: str
) -> Iterator[SessionOutcome]:
    """Record the beginning and the end of a session around the block, which puts the result into the yielded entry."""
    model, _ = spec.run.settings.model_at(spec.depth)
    recorder.append(SessionOpened(time.time(), spec.path, spec.question, given, model, actor, spec.attempt))
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
            recorder.append(session_finished(spec, gone, key, error))
        else:
            recorder.append(session_finished(spec, entry.result, key))


def session_finished(
    spec: SessionSpec, result: SessionResult | RLMError, key: str, error_kind: str = ""
) -> SessionEnded:
    """Return the record of a session's end."""
    if isinstance(result, RLMError):
        return SessionEnded(
            time.time(), spec.path, "error", str(result), None, 0, type(result).__name__, spec.attempt, key
        )
    return SessionEnded(
        time.time(), spec.path, result.stop_reason, result.why, result.answer, result.turns, error_kind,
        spec.attempt, key,
    )  # fmt: skip


def session_key(run: RunContext, depth: int, query: str, identity: str) -> str:
    """Hash a session's question, context and all settings that shape its answer."""
    settings = run.settings
    models = [settings.model_at(at) for at in range(depth, depth + 2)]
    shape = [
        query, identity, run.context_key, depth, settings.max_depth, settings.max_iterations, settings.max_leaf_chars,
        settings.profile, settings.max_tokens, redact(models),
    ]  # fmt: skip
    if settings.prompt_version > 1:
        shape += [settings.prompt_version, settings.system_prompt, settings.instructions]
    return hashlib.sha256(json.dumps(shape, sort_keys=True, default=repr).encode()).hexdigest()


def input_identity(given: InputSummary, part: ContextPart, context: Context) -> str:
    """Return a name for what a child reads: its range of the root's context, or a hash of the text."""
    if given.start is not None:
        return f"{given.kind} {given.start}-{given.stop}"
    return context.slice(part).fingerprint()


def to_outcome(result: SessionResult | RLMError | None) -> SubCallOutcome:
    """Return what the parent's code gets."""
    assert result is not None
    if isinstance(result, RLMError):
        return failure_of(result)
    if result.answer is None:
        return Failed(result.stop_reason, result.why or "the child ended without an answer")
    return SubCallAnswer(result.answer)


def answered(reply: ModelReply) -> SubCallAnswer:
    """Return a plain call's reply as an outcome."""
    judged = judge(reply)
    return SubCallAnswer(reply.text, judged.why if judged.kind == "truncated" else "")


def failure_of(error: RLMError) -> Failed:
    """Return an error as the outcome of a sub-call."""
    return Failed(type(error).__name__, str(error), error if isinstance(error, FATAL_ERRORS) else None)
