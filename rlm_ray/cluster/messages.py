"""The messages between drivers and session actors."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_ray.cluster.context_ref import ContextRef
from rlm_ray.cluster.shipped_schema import ShippedSchema
from rlm_ray.core.context import ContextPart
from rlm_ray.core.llm import Message
from rlm_ray.llm.run_context import RunContext


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """A session to run."""

    run: RunContext
    path: tuple[int, ...]
    """The ordinals of the sub-calls that lead here from the root; empty for the root."""
    parent: str
    """The actor that sent it out; empty for the root."""
    query: str
    context: ContextRef
    attempt: int = 1
    """2 and more: the actors it was sent to before died, or the run is taken up again."""
    follow_ups: tuple[str, ...] = ()
    """Further questions of a conversation; the session answers the last."""
    lease: str = ""
    """The lease of its slot, which it releases at its end; empty where its caller does that."""
    messages: tuple[Message, ...] = ()
    """What it asks, word by word, where it answers directly; none: the question over the context."""
    model: str = ""
    """The model that its parent chose for it; empty: the one of its depth."""
    schemas: tuple[ShippedSchema | None, ...] = ()
    """What the answer to each question looks like, the first and the further ones."""

    @property
    def replays(self) -> bool:
        """Tell whether something of it may be on record."""
        return self.attempt > 1 or self.run.replays

    @property
    def question(self) -> str:
        """Return the question to be answered."""
        return self.follow_ups[-1] if self.follow_ups else self.query

    @property
    def depth(self) -> int:
        return self.run.depth(self.path)

    @property
    def litellm_model(self) -> str:
        """Return the model that it asks."""
        settings = self.run.settings
        return (settings.model_named(self.model) if self.model else settings.model_at(self.depth))[0]


@dataclass(frozen=True, slots=True)
class LeafCall:
    """One plain model call."""

    ordinal: int
    query: str
    part: ContextPart
    schema: str = ""
    """As `SubCallRequest.schema`."""
    model: str = ""
    """As `SubCallRequest.model`."""


@dataclass(frozen=True, slots=True)
class LeafCallBatch:
    """Plain calls of one session, to be made side by side."""

    run: RunContext
    path: tuple[int, ...]
    """Of the session that asks."""
    leaves: tuple[LeafCall, ...]
    context: ContextRef | None
    """The asking session's, where a leaf refers to it."""
    replays: bool = False
    """Some of them may be on record."""
