"""Dispatches a session's sub-calls over the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rlm_ray.cluster.subcalls.child_sessions import ChildSessions
from rlm_ray.cluster.subcalls.leaf_calls import LeafCalls
from rlm_ray.cluster.subcalls.parent import MapCall, ParentSession, reraise_other_errors
from rlm_ray.core.repl_types import SubCallOutcome
from rlm_ray.session.session import SubCall


class SubcallDispatcher:
    """Dispatches the sub-calls of one session: its `spawn`."""

    def __init__(self, parent: ParentSession) -> None:
        self._parent = parent
        self._leaves = LeafCalls(parent)
        self._children = ChildSessions(parent)

    async def __call__(
        self, calls: Sequence[SubCall], slots: list[SubCallOutcome | None], *, first: int, stop_on_error: bool
    ) -> None:
        """Fill `slots`, which stand for `calls`; leaves slots empty only where a sibling's failure ended the map."""
        map_ = MapCall(calls, slots, first, stop_on_error=stop_on_error)
        wanted = [index for index in range(len(calls)) if not self._was_cancelled_before(first + index)]
        leaves = [index for index in wanted if not calls[index].is_session]
        children = [index for index in wanted if calls[index].is_session]
        try:
            async with asyncio.TaskGroup() as group:
                if leaves:
                    group.create_task(self._leaves(map_, leaves))
                if children:
                    group.create_task(self._children(map_, children))
        except ExceptionGroup as group:
            reraise_other_errors(group)

    def _was_cancelled_before(self, ordinal: int) -> bool:
        return self._parent.replay.seen_cancelled(self._parent.path_of(ordinal))
