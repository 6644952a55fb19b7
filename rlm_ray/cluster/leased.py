"""A seat for children: the right to run one child session at a time in one actor."""

from __future__ import annotations

from typing import Any

from rlm_ray.cluster.messages import SessionSpec
from rlm_ray.cluster.parent import Parent
from rlm_ray.cluster.replies import owned
from rlm_ray.errors import RLMError
from rlm_ray.session import Completion


class LeasedSeat:
    """One of those that a parent leased from the pool."""

    def __init__(self, parent: Parent, name: str, handle: Any) -> None:
        self.name = name
        """Of the actor."""
        self._parent = parent
        self._handle = handle

    @property
    def at_home(self) -> bool:
        """In the parent's own actor."""
        return self.name == self._parent.host.name

    async def run(self, spec: SessionSpec) -> Completion | RLMError:
        """Run a child here. Raises one of `ACTOR_GONE` where the actor dies."""
        result: Completion | RLMError
        if self.at_home:
            result = await self._parent.host.run(spec)
        else:
            result = await owned(self._handle.run.remote(spec))
        return result

    async def move(self) -> None:
        """Take another seat instead, and not at home: a child that brings its actor down would take its parent along."""
        host, left = self._parent.host, self.name
        there = host.pool.lease_elsewhere.remote(self._parent.seats_per_actor, host.name)
        self.name, self._handle = await owned(there, lambda late: host.leave_seat(late[0]))
        host.leave_seat(left)

    def leave(self) -> None:
        """Give it back."""
        self._parent.host.leave_seat(self.name)
