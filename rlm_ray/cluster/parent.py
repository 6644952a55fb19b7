"""The session that sends sub-calls out, as those who carry them see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlm_ray.cluster.messages import SessionSpec
from rlm_ray.core.context import Context
from rlm_ray.gateway import Caller, Gateway
from rlm_ray.journal.replay import Replay
from rlm_ray.journal.scribe import Scribe

if TYPE_CHECKING:
    from rlm_ray.cluster.actors import SessionHost


@dataclass(frozen=True, slots=True)
class Parent:
    """A session at work in the actor of `host`."""

    host: SessionHost
    spec: SessionSpec
    context: Context
    gateway: Gateway
    caller: Caller

    @property
    def scribe(self) -> Scribe:
        return self.caller.scribe

    @property
    def replay(self) -> Replay:
        return self.caller.scribe.replay

    @property
    def seats_per_actor(self) -> int:
        return self.spec.run.settings.cluster.sessions_per_actor

    def path_of(self, ordinal: int) -> tuple[int, ...]:
        """Of a sub-call."""
        return (*self.spec.path, ordinal)
