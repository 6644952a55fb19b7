"""A run from the driver's side: its root session is sent to an actor, and sent again to another one where that is lost.

Everything here runs on the Ray thread of the connection.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from rlm_ray.cluster.driver import ClusterDriver, Slot
from rlm_ray.cluster.messages import SessionSpec
from rlm_ray.cluster.run_attempt import Observer, RunAttempt, RunSpec, open_run_attempt
from rlm_ray.cluster.session_records import record_session
from rlm_ray.core.context import summarize
from rlm_ray.errors import ActorLostError, ContextLostError, LimitReached, RLMError
from rlm_ray.session.session import SessionResult
from rlm_ray.util.deadline import OVERDUE_S, in_time

ATTEMPTS = 5
"""How often a root is started when its actors die."""

_log = logging.getLogger(__name__)


class RunDriver:
    """One life of a run with one root."""

    def __init__(self, engine: ClusterDriver, order: RunSpec, observers: Sequence[Observer]) -> None:
        self._engine = engine
        self._order = order
        self._observers = observers
        self._seat: Slot | None = None
        self._attempt = order.previous_attempts

    async def run(self) -> SessionResult:
        """To its end. Cancelling this cancels the tree."""
        async with open_run_attempt(self._engine, self._order, self._observers) as life:
            completion = await self._in_time(life)
            completion = replace(completion, usage=self._order.usage + completion.usage)
            life.ended(completion)
        return completion

    @property
    def actor(self) -> str | None:
        """Where the root session is; None before and after that."""
        return self._seat.name if self._seat is not None else None

    async def stop(self, reason: str, why: str) -> bool:
        """End it early; False where the root has not begun."""
        return self._seat is not None and await self._engine.stop(self._seat, self._order.run_id, reason, why)

    async def _in_time(self, life: RunAttempt) -> SessionResult:
        """Its answer; what is known without it where its actor is late, or no seat came free in time."""
        try:
            async with in_time(life.tag.deadline, OVERDUE_S):
                return await self._run_with_retries(life)
        except LimitReached as limit:
            usage = await self._engine.usage(self._order.run_id)
            return SessionResult(None, limit.reason, limit.why, usage=usage)

    async def _run_with_retries(self, life: RunAttempt) -> SessionResult:
        """Run the root; again, from its record, where its actor or its context is lost."""
        for left in reversed(range(ATTEMPTS)):
            self._attempt += 1
            try:
                return await self._run_once(life)
            except (ActorLostError, ContextLostError) as error:
                if life.tag.journal is None:
                    raise
                if not left:
                    raise _exhausted(error) from error
                _log.warning("the run goes on from its record: %s", error)
                self._engine = await ClusterDriver.connect(life.tag.settings.cluster)
        raise AssertionError

    async def _run_once(self, life: RunAttempt) -> SessionResult:
        self._seat = seat = await self._engine.acquire_slot(self._order.settings.cluster.sessions_per_actor)
        try:
            return await self._run_in_slot(life, seat)
        except BaseException:
            # It may not have begun; one that has ended has left it already.
            await self._engine.release_slot(seat)
            raise
        finally:
            self._seat = None

    async def _run_in_slot(self, life: RunAttempt, seat: Slot) -> SessionResult:
        order = self._order
        parcel = await self._engine.pack(order.context)
        spec = SessionSpec(
            life.tag,
            (),
            "",
            order.query,
            parcel,
            self._attempt,
            order.follow_ups,
            lease=seat.lease,
            messages=order.messages,
        )
        with record_session(life.scribe, spec, summarize(order.context), "", seat.name) as entry:
            try:
                entry.result = completion = await self._engine.run(seat, spec)
            except RLMError as error:
                entry.result = error
                raise
        return completion


def _exhausted(error: ActorLostError | ContextLostError) -> ActorLostError | ContextLostError:
    if isinstance(error, ContextLostError):
        return error
    why = f"the actors of the root session died {ATTEMPTS} times; it may need more memory than a node has"
    return ActorLostError(f"{why} ({error})")
