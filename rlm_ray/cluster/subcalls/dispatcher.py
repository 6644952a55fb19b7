"""Sends a session's sub-calls out over the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rlm_ray.cluster.subcalls.child_sessions import Children
from rlm_ray.cluster.subcalls.leaf_calls import Leaves
from rlm_ray.cluster.subcalls.parent import Map, Parent, raise_unless_sibling
from rlm_ray.core.repl_types import Outcome
from rlm_ray.session.session import SubCall


class Spawner:
    """The `spawn` of one session."""

    def __init__(self, parent: Parent) -> None:
        self._parent = parent
        self._leaves = Leaves(parent)
        self._children = Children(parent)

    async def __call__(
        self, calls: Sequence[SubCall], slots: list[Outcome | None], *, first: int, stop_on_error: bool
    ) -> None:
        """Fill `slots`, which stand for `calls`; leaves slots empty only where a sibling's failure ended the map."""
        map_ = Map(calls, slots, first, stop_on_error=stop_on_error)
        wanted = [index for index in range(len(calls)) if not self._given_up(first + index)]
        leaves = [index for index in wanted if not calls[index].as_session]
        children = [index for index in wanted if calls[index].as_session]
        try:
            async with asyncio.TaskGroup() as group:
                if leaves:
                    group.create_task(self._leaves(map_, leaves))
                if children:
                    group.create_task(self._children(map_, children))
        except ExceptionGroup as group:
            raise_unless_sibling(group)

    def _given_up(self, ordinal: int) -> bool:
        return self._parent.replay.given_up(self._parent.path_of(ordinal))
