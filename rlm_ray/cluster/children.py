"""The children of one session, as their parent writes them down: it owns their beginning and their end, so one whose
actor was killed still shows, as an error.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rlm_ray.cluster.messages import SessionSpec
from rlm_ray.core.cell import Answered, Failed, Outcome
from rlm_ray.core.context import Context
from rlm_ray.core.records import SessionEnded, SessionOpened, input_of_part
from rlm_ray.core.secrets import without_secrets
from rlm_ray.errors import (
    AuthenticationError,
    ConfigError,
    ContextLostError,
    JournalError,
    LimitReached,
    QuotaError,
    RLMError,
)
from rlm_ray.journal.replay import CANCELLED
from rlm_ray.journal.scribe import Scribe
from rlm_ray.session import Completion, SubCall

FATAL = (LimitReached, AuthenticationError, QuotaError, ConfigError, JournalError, ContextLostError)
"""Errors nobody in the tree can mend: they go up to the root at once."""


@dataclass(slots=True)
class Entry:
    """A child at work."""

    result: Completion | RLMError | None = None


class Children:
    """Beginnings and ends of a session's children."""

    def __init__(self, scribe: Scribe, spec: SessionSpec, context: Context) -> None:
        self._scribe, self._spec, self._context = scribe, spec, context

    def known(self, ordinal: int, call: SubCall) -> Outcome | None:
        """How this child ended in an earlier life of its parent, where that holds again."""
        path = (*self._spec.path, ordinal)
        if not self._scribe.replay.attempts(path):
            return None
        return self._scribe.replay.child(path, self._key(call))

    @contextmanager
    def under_way(self, spec: SessionSpec, call: SubCall, actor: str) -> Iterator[Entry]:
        """The child is sent to an actor; put its result into the entry."""
        model, _ = spec.run.settings.model_at(spec.depth)
        given = input_of_part(call.part, self._context)
        self._scribe.put(SessionOpened(time.time(), spec.path, call.query, given, model, actor, spec.attempt))
        entry = Entry()
        stop_reason, error = "lost", "ClusterError"
        try:
            yield entry
        except asyncio.CancelledError:
            stop_reason = error = CANCELLED
            raise
        finally:
            result = entry.result or Completion(None, stop_reason, f"{actor} died or was told to stop")
            self._scribe.put(ended(spec, result, self._key(call), error if entry.result is None else ""))

    def _key(self, call: SubCall) -> str:
        """Names the child's question and all that shapes its answer."""
        return session_key(self._spec, call.query, _identity(call, self._context), len(self._spec.path) + 1)


def ended(spec: SessionSpec, result: Completion | RLMError, key: str, error_kind: str = "") -> SessionEnded:
    """The record of a session's end."""
    if isinstance(result, RLMError):
        return SessionEnded(
            time.time(), spec.path, "error", str(result), None, 0, type(result).__name__, spec.attempt, key
        )
    return SessionEnded(
        time.time(), spec.path, result.stop_reason, result.why, result.answer, result.turns, error_kind,
        spec.attempt, key,
    )  # fmt: skip


def session_key(spec: SessionSpec, query: str, identity: str, depth: int) -> str:
    """Names a session's question, context and all settings that shape its answer."""
    settings = spec.run.settings
    models = [settings.model_at(at) for at in range(depth, depth + 2)]
    shape = [
        query, identity, spec.run.context_key, depth, settings.max_depth, settings.max_iterations, settings.leaf_chars,
        settings.profile, settings.max_tokens, without_secrets(models),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(shape, sort_keys=True, default=repr).encode()).hexdigest()


def _identity(call: SubCall, context: Context) -> str:
    """Names what a child reads: where it stands in the root's context, or a hash of the text."""
    given = input_of_part(call.part, context)
    if given.start is not None:
        return f"{given.kind} {given.start}-{given.stop}"
    text = context.part(call.part)
    digest = hashlib.blake2b(text.data, digest_size=16)
    digest.update(repr((text.offsets, text.ids)).encode())
    return digest.hexdigest()


def outcome_of_session(result: Completion | RLMError | None) -> Outcome:
    """What the parent's code gets."""
    assert result is not None
    if isinstance(result, RLMError):
        return failed(result)
    if result.answer is None:
        return Failed(result.stop_reason, result.why or "the child ended without an answer")
    return Answered(result.answer)


def failed(error: RLMError) -> Failed:
    """An error as the outcome of a sub-call."""
    return Failed(type(error).__name__, str(error), error if isinstance(error, FATAL) else None)
