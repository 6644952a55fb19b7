"""Runs sessions in actors with their beginning and end on record. Their callers write these records, so a session whose
actor was killed still has an end, as an error.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable

from rlm_ray.cluster.messages import SessionSpec
from rlm_ray.core.context import Context, ContextPart, InputSummary
from rlm_ray.core.repl_types import Failed, SubCallAnswer, SubCallOutcome
from rlm_ray.core.secrets import redact
from rlm_ray.core.state_machine import MISFIT
from rlm_ray.errors import (
    AuthenticationError,
    ConfigError,
    ContextLostError,
    JournalError,
    LimitReached,
    QuotaError,
    RLMError,
    SchemaError,
)
from rlm_ray.events.records import SessionEnded, SessionOpened
from rlm_ray.events.usage import CANCELLED
from rlm_ray.journal.recorder import NullRecorder
from rlm_ray.llm.run_context import RunContext
from rlm_ray.session.result import SessionResult

FATAL_ERRORS = (LimitReached, AuthenticationError, QuotaError, ConfigError, JournalError, ContextLostError)
"""Errors nobody in the tree can mend: they go up to the root at once."""


async def run_recorded(  # noqa: PLR0913 - what the two records say
    work: Awaitable[SessionResult | RLMError],
    recorder: NullRecorder,
    spec: SessionSpec,
    given: InputSummary,
    *,
    key: str = "",
    actor: str,
) -> SessionResult | RLMError:
    """Await the `work` of a session in an actor, with its beginning and its end on record.

    Returns its result, or the error it ended with; raises what `work` raises where the actor died.
    """
    recorder.append(
        SessionOpened(time.time(), spec.path, spec.question, given, spec.litellm_model, actor, spec.attempt)
    )
    result: SessionResult | RLMError = SessionResult(None, "lost", f"{actor} died or was told to stop")
    error_kind = "ActorLostError"
    try:
        result, error_kind = await work, ""
    except asyncio.CancelledError:
        result, error_kind = SessionResult(None, CANCELLED, f"{actor} died or was told to stop"), CANCELLED
        raise
    finally:
        recorder.append(session_finished(spec, result, key, error_kind))
    return result


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
        spec.attempt, key, citations=result.citations,
    )  # fmt: skip


def session_key(run: RunContext, depth: int, query: str, identity: str, *choices: str) -> str:
    """Hash a session's question, context and all settings that shape its answer; `choices` are the schema and the model that
    its caller chose for it."""
    settings = run.settings
    models = [settings.model_at(at) for at in range(depth, depth + 2)]
    shape = [
        query, identity, run.context_key, depth, settings.max_depth, settings.max_iterations, settings.max_leaf_chars,
        settings.profile, settings.max_tokens, redact(models),
    ]  # fmt: skip
    if settings.prompt_version > 1:
        shape += [settings.prompt_version, settings.system_prompt, settings.instructions]
    if settings.has_tools or settings.citations != "off":
        shape += [settings.citations, settings.tool_names, redact(dict(settings.mcp_servers))]
    shape += choices if any(choices) else ()  # none: as it was before there were any
    return hashlib.sha256(json.dumps(shape, sort_keys=True, default=repr).encode()).hexdigest()


def input_identity(given: InputSummary, part: ContextPart, context: Context) -> str:
    """Return a name for what a child reads: its range of the root's context, or a hash of the text."""
    if given.start is not None:
        return f"{given.kind} {given.start}-{given.stop}"
    return context.slice(part).fingerprint()


def to_outcome(result: SessionResult | RLMError) -> SubCallOutcome:
    """Return what the parent's code gets."""
    if isinstance(result, RLMError):
        return failure_of(result)
    if result.stop_reason == MISFIT:
        return Failed(SchemaError.__name__, result.why)
    if result.answer is None:
        return Failed(result.stop_reason, result.why or "the child ended without an answer")
    return SubCallAnswer(result.answer)


def failure_of(error: RLMError) -> Failed:
    """Return an error as the outcome of a sub-call."""
    return Failed(type(error).__name__, str(error), error if isinstance(error, FATAL_ERRORS) else None)
