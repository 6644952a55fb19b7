"""The session that sends sub-calls out, as those who carry them see it.

One map of a session: its sub-calls, and where their outcomes go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rlm_ray.cluster.messages import SessionSpec
from rlm_ray.core.context import Context
from rlm_ray.core.refusals import Refusals
from rlm_ray.core.repl_types import Answered, Failed, Outcome
from rlm_ray.errors import AuthenticationError, ConfigError
from rlm_ray.journal.recorder import Scribe
from rlm_ray.journal.replay import Replay
from rlm_ray.llm.gateway import Caller, Gateway
from rlm_ray.session.session import SubCall

if TYPE_CHECKING:
    from rlm_ray.cluster.session_actor import SessionHost


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


class SiblingFailed(Exception):  # noqa: N818 - a signal to cancel the others of a map, never seen outside
    """A sub-call of a map failed, and the map wants to hear of the first failure only."""


class Map:
    """The calls of one map, and a slot for each outcome."""

    def __init__(
        self, calls: Sequence[SubCall], slots: list[Outcome | None], first: int, *, stop_on_error: bool
    ) -> None:
        self.calls = calls
        self.first = first
        """The ordinal of its first sub-call in the session."""
        self._slots = slots
        self._stop_on_error = stop_on_error
        self._refusals = Refusals()

    def put(self, index: int, outcome: Outcome) -> None:
        """Raises `SiblingFailed` where this outcome ends the map."""
        if isinstance(outcome, Answered):
            self._refusals.answered()
        elif isinstance(outcome.fatal, AuthenticationError | ConfigError) and not self._refusals.refused():
            outcome = replace(outcome, fatal=None)  # others of the map were answered: it is about this one
        self._slots[index] = outcome
        if isinstance(outcome, Failed) and (self._stop_on_error or outcome.fatal is not None):
            raise SiblingFailed


def raise_unless_sibling(group: ExceptionGroup[Exception]) -> None:
    """A failed sibling is told by its slot; anything else goes up, as itself and not as a group."""
    _, others = group.split(SiblingFailed)
    while others is not None:
        first = others.exceptions[0]
        if not isinstance(first, ExceptionGroup):
            raise first from group
        others = first
