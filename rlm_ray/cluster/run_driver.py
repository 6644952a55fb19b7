"""A run from the driver's side: its root session is sent to an actor, and sent again to another one where that is lost.

Everything here runs on the Ray thread of the connection.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from rlm_ray.cluster.driver import ClusterDriver, Slot
from rlm_ray.cluster.messages import SessionSpec, ShippedSchema
from rlm_ray.cluster.run_attempt import (
    Observer,
    RunAttempt,
    RunSpec,
    answer_teller,
    open_run_attempt,
    wait_teller,
)
from rlm_ray.cluster.session_records import run_recorded
from rlm_ray.core.answer_preview import AnswerRestarted
from rlm_ray.core.context import summarize
from rlm_ray.errors import ActorLostError, ContextLostError, LimitReached, RLMError
from rlm_ray.llm.run_context import OVERDUE_S, in_time
from rlm_ray.session.result import SessionResult

ATTEMPTS = 5
"""How often a root is started when its actors die."""

_log = logging.getLogger(__name__)


class RunDriver:
    """Drives one attempt of a run with one root session."""

    def __init__(self, engine: ClusterDriver, run_spec: RunSpec, observers: Sequence[Observer]) -> None:
        self._engine = engine
        self._run_spec = run_spec
        self._observers = observers
        self._slot: Slot | None = None
        self._attempt = run_spec.previous_attempts

    async def run(self) -> SessionResult:
        """Run to the end. Cancelling this cancels the tree."""
        async with open_run_attempt(self._engine, self._run_spec, self._observers) as run_attempt:
            completion = await self._in_time(run_attempt)
            completion = replace(completion, usage=self._run_spec.usage + completion.usage)
            run_attempt.ended(completion)
        return completion

    @property
    def actor(self) -> str | None:
        """Return the actor of the root session; None before and after it runs."""
        return self._slot.name if self._slot is not None else None

    async def stop(self, reason: str, why: str) -> bool:
        """End the run early; False where the root has not begun."""
        return self._slot is not None and await self._engine.stop(
            self._slot, self._run_spec.run_id, reason, why
        )

    async def _in_time(self, run_attempt: RunAttempt) -> SessionResult:
        """Return the root's result; what is known without it where its actor is late, or no slot came free in time."""
        try:
            async with in_time(run_attempt.run_context.deadline, OVERDUE_S):
                return await self._run_with_retries(run_attempt)
        except LimitReached as limit:
            usage = await self._engine.usage(self._run_spec.run_id)
            return SessionResult(None, limit.reason, limit.why, usage=usage)

    async def _run_with_retries(self, run_attempt: RunAttempt) -> SessionResult:
        """Run the root; again, from its record, where its actor or its context is lost."""
        for left in reversed(range(ATTEMPTS)):
            self._attempt += 1
            try:
                return await self._run_once(run_attempt)
            except (ActorLostError, ContextLostError) as error:
                if run_attempt.run_context.journal is None:
                    raise
                if not left:
                    raise _exhausted(error) from error
                _log.warning("the run goes on from its record: %s", error)
        raise AssertionError

    async def _run_once(self, run_attempt: RunAttempt) -> SessionResult:
        self._slot = slot = await self._engine.acquire_slot(
            self._run_spec.settings.cluster.sessions_per_actor,
            self._run_spec.run_id,
            wait_teller(self._observers),
        )
        try:
            return await self._run_in_slot(run_attempt, slot)
        except BaseException:
            # It may not have begun; one that has ended has left it already.
            self._engine.release_slot(slot)
            raise
        finally:
            self._slot = None

    async def _run_in_slot(self, run_attempt: RunAttempt, slot: Slot) -> SessionResult:
        run_spec = self._run_spec
        context_ref = await self._engine.pack(run_spec.context)
        spec = SessionSpec(
            run_attempt.run_context,
            (),
            "",
            run_spec.query,
            context_ref,
            self._attempt,
            run_spec.follow_ups,
            lease=slot.lease,
            messages=run_spec.messages,
            schemas=tuple(map(ShippedSchema.of, run_spec.schemas)),
        )
        given = summarize(run_spec.context)
        with self._reading_answer(slot):
            work = self._engine.run(slot, spec)
            result = await run_recorded(work, run_attempt.recorder, spec, given, actor=slot.name)
        if isinstance(result, RLMError):
            raise result
        return result

    @contextmanager
    def _reading_answer(self, slot: Slot) -> Iterator[None]:
        """Tell those who read along what the root writes; nothing of an earlier attempt."""
        tell = answer_teller(self._observers)
        if tell is None:
            yield
            return
        tell(AnswerRestarted())
        with self._engine.answers.listening(slot.name, slot.handle, self._run_spec.run_id, tell):
            yield


def _exhausted(error: ActorLostError | ContextLostError) -> ActorLostError | ContextLostError:
    if isinstance(error, ContextLostError):
        return error
    why = f"the actors of the root session died {ATTEMPTS} times; it may need more memory than a node has"
    return ActorLostError(f"{why} ({error})")
