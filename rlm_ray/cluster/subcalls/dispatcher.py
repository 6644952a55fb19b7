"""Dispatches a session's sub-calls over the cluster: plain calls to `LeafCalls`, sessions to `ChildSessions`.

`ParentSession` is the session that asks, and `MapCall` one map of its sub-calls, with a place for each outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from rlm_ray.cluster.messages import SessionSpec
from rlm_ray.core.context import Context, ContextPart
from rlm_ray.core.repl_types import Failed, SubCallAnswer, SubCallOutcome
from rlm_ray.core.retry_after import Refusals
from rlm_ray.errors import AuthenticationError, ConfigError
from rlm_ray.journal.recorder import NullRecorder
from rlm_ray.journal.replay import ReplayIndex
from rlm_ray.llm.gateway import Gateway
from rlm_ray.session.cell_requests import SubCall

if TYPE_CHECKING:
    from rlm_ray.cluster.session_actor import SessionActor


@dataclass(frozen=True, slots=True)
class ParentSession:
    """A session that runs in the actor `host`."""

    host: SessionActor
    spec: SessionSpec
    context: Context
    gateway: Gateway
    recorder: NullRecorder

    @property
    def replay(self) -> ReplayIndex:
        return self.recorder.replay

    @property
    def sessions_per_actor(self) -> int:
        return self.spec.run.settings.cluster.sessions_per_actor

    def path_of(self, ordinal: int) -> tuple[int, ...]:
        """Return the path of a sub-call."""
        return (*self.spec.path, ordinal)


class SiblingFailed(Exception):  # noqa: N818 - a signal to cancel the others of a map, never seen outside
    """Cancels the other sub-calls of a map after a failure."""


class MapCall:
    """The calls of one map, and a place for each outcome."""

    def __init__(
        self, calls: Sequence[SubCall], slots: list[SubCallOutcome | None], first: int, *, stop_on_error: bool
    ) -> None:
        self.calls = calls
        self.first_ordinal = first
        """The ordinal of its first sub-call in the session."""
        self._slots = slots
        self._stop_on_error = stop_on_error
        self._refusals = Refusals()

    def set_outcome(self, index: int, outcome: SubCallOutcome) -> None:
        """Set an outcome. Raises `SiblingFailed` where it ends the map."""
        if isinstance(outcome, SubCallAnswer):
            self._refusals.answered()
        elif (
            isinstance(outcome.fatal_error, AuthenticationError | ConfigError)
            and not self._refusals.refused()
        ):
            outcome = replace(
                outcome, fatal_error=None
            )  # others of the map were answered: it is about this one
        self._slots[index] = outcome
        if isinstance(outcome, Failed) and (self._stop_on_error or outcome.fatal_error is not None):
            raise SiblingFailed


RunCalls: TypeAlias = Callable[[MapCall, list[int]], Coroutine[None, None, None]]
"""Makes the calls of a map with these indexes and sets their outcomes."""


class SubcallDispatcher:
    """Dispatches the sub-calls of one session: its `spawn`."""

    def __init__(self, parent: ParentSession, leaves: RunCalls, children: RunCalls) -> None:
        self._parent, self._leaves, self._children = parent, leaves, children

    async def __call__(
        self, calls: Sequence[SubCall], slots: list[SubCallOutcome | None], *, first: int, stop_on_error: bool
    ) -> None:
        """Fill `slots`, which stand for `calls`; leaves slots empty only where a sibling's failure ended the map."""
        map_ = MapCall(calls, slots, first, stop_on_error=stop_on_error)
        copies = self._copies(calls, first) if self._parent.spec.run.settings.deduplicate_maps else {}
        wanted = [
            index
            for index in range(len(calls))
            if index not in copies and not self._was_cancelled_before(first + index)
        ]
        leaves = [index for index in wanted if not calls[index].is_session]
        children = [index for index in wanted if calls[index].is_session]
        try:
            async with asyncio.TaskGroup() as group:
                if leaves:
                    group.create_task(self._leaves(map_, leaves))
                if children:
                    group.create_task(self._children(map_, children))
        except ExceptionGroup as group:
            _reraise_other_errors(group)
        for index, asked in copies.items():
            slots[index] = slots[asked]

    def _copies(self, calls: Sequence[SubCall], first: int) -> dict[int, int]:
        """Return the calls that equal an earlier one of the map, which is asked for both; not what is on record by itself."""
        asked: dict[Hashable, int] = {}
        copies = {}
        for index, call in enumerate(calls):
            original = asked.setdefault(
                (call.query, _identity(call.part), call.is_session, call.schema, call.model), index
            )
            if (
                original != index
                and self._parent.path_of(first + index) not in self._parent.replay.tree.nodes
            ):
                copies[index] = original
        return copies

    def _was_cancelled_before(self, ordinal: int) -> bool:
        return self._parent.replay.seen_cancelled(self._parent.path_of(ordinal))


def _identity(part: ContextPart) -> Hashable:
    """Return what is equal for parts that hold the same."""
    if not isinstance(part, list):
        return part
    return tuple((item["id"], item["text"]) if isinstance(item, dict) else item for item in part)


def _reraise_other_errors(group: ExceptionGroup[Exception]) -> None:
    """Drop `SiblingFailed`, whose failure is an outcome; raise any other error, as itself and not as a group."""
    _, others = group.split(SiblingFailed)
    while others is not None:
        first = others.exceptions[0]
        if not isinstance(first, ExceptionGroup):
            raise first from group
        others = first
