"""The parent session and its map, as `LeafCalls` and `ChildSessions` see them.

`MapCall` is one map: its sub-calls, and a place for each outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rlm_ray.cluster.messages import SessionSpec
from rlm_ray.core.context import Context
from rlm_ray.core.refusals import Refusals
from rlm_ray.core.repl_types import Failed, SubCallAnswer, SubCallOutcome
from rlm_ray.errors import AuthenticationError, ConfigError
from rlm_ray.journal.recorder import NullRecorder
from rlm_ray.journal.replay import ReplayIndex
from rlm_ray.llm.gateway import CallContext, Gateway
from rlm_ray.session.session import SubCall

if TYPE_CHECKING:
    from rlm_ray.cluster.session_actor import SessionActor


@dataclass(frozen=True, slots=True)
class ParentSession:
    """A session that runs in the actor `host`."""

    host: SessionActor
    spec: SessionSpec
    context: Context
    gateway: Gateway
    caller: CallContext

    @property
    def recorder(self) -> NullRecorder:
        return self.caller.recorder

    @property
    def replay(self) -> ReplayIndex:
        return self.caller.recorder.replay

    @property
    def seats_per_actor(self) -> int:
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


def reraise_other_errors(group: ExceptionGroup[Exception]) -> None:
    """Drop `SiblingFailed`, whose failure is an outcome; raise any other error, as itself and not as a group."""
    _, others = group.split(SiblingFailed)
    while others is not None:
        first = others.exceptions[0]
        if not isinstance(first, ExceptionGroup):
            raise first from group
        others = first
