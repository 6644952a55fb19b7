"""Dispatches a session's sub-calls over the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence

from rlm_ray.cluster.subcalls.child_sessions import ChildSessions
from rlm_ray.cluster.subcalls.leaf_calls import LeafCalls
from rlm_ray.cluster.subcalls.parent import MapCall, ParentSession, reraise_other_errors
from rlm_ray.core.context import ContextPart
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
            reraise_other_errors(group)
        for index, asked in copies.items():
            slots[index] = slots[asked]

    def _copies(self, calls: Sequence[SubCall], first: int) -> dict[int, int]:
        """Return the calls that equal an earlier one of the map, which is asked for both; not what is on record by itself."""
        asked: dict[Hashable, int] = {}
        copies = {}
        for index, call in enumerate(calls):
            original = asked.setdefault((call.query, _identity(call.part), call.is_session), index)
            if (
                original != index
                and self._parent.path_of(first + index) not in self._parent.replay.tree.nodes
            ):
                copies[index] = original
        return copies

    def _was_cancelled_before(self, ordinal: int) -> bool:
        return self._parent.replay.seen_cancelled(self._parent.path_of(ordinal))


def _identity(part: ContextPart) -> Hashable:
    """What is equal for parts that hold the same."""
    if not isinstance(part, list):
        return part
    return tuple((item["id"], item["text"]) if isinstance(item, dict) else item for item in part)
