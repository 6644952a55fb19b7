"""The messages between drivers and session actors."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rlm_ray.admission.protocol import RunPolicy
from rlm_ray.cluster.context_ref import ContextRef
from rlm_ray.cluster.services import response_cache
from rlm_ray.cluster.shipped_schema import ShippedSchema
from rlm_ray.config import Settings
from rlm_ray.core.context import ContextPart
from rlm_ray.core.limits import Amount
from rlm_ray.core.llm import Message, ModelRequest
from rlm_ray.core.prompts import leaf_messages
from rlm_ray.journal.recorder import NullRecorder
from rlm_ray.journal.server import JournalRef
from rlm_ray.llm.gateway import CallContext
from rlm_ray.util.deadline import Deadline


@dataclass(frozen=True, slots=True)
class RunContext:
    """What every message of a run carries."""

    run_id: str
    settings: Settings
    started: float
    """Unix time."""
    journal: JournalRef | None = None
    """None: no record is kept."""
    replays: bool = False
    """An earlier attempt of the run is on record."""
    spent: Amount = field(default_factory=Amount)
    """Part of the budget that earlier attempts have spent."""
    root_path_length: int = 0
    """How many places of a path are above the first session: 1 for a batch run, whose rows are sessions of depth 0."""
    context_key: str = ""
    """Set where the context is not that of the earlier attempt; answers about it are not used again then."""

    def depth(self, path: tuple[int, ...]) -> int:
        """Return the depth of the recursion: 0 for a session that a user asked for."""
        return len(path) - self.root_path_length

    @property
    def deadline(self) -> Deadline | None:
        """Return when its time is over; None without a limit."""
        return Deadline.of(self.started, self.settings.limits)

    def policy(self) -> RunPolicy:
        """Return the policy that the run is opened with at the admission."""
        settings = self.settings
        return RunPolicy(
            self.run_id,
            settings.limits,
            settings.rates,
            tenant=settings.tenant,
            weight=settings.weight,
            interactive=not self.root_path_length,
            age_s=time.time() - self.started,
            spent=self.spent,
        )

    def leaf_request(self, path: tuple[int, ...], query: str, text: str, model: str = "") -> ModelRequest:
        """Return the request of a plain call at this place, to the model of this name where one is given."""
        settings = self.settings
        model, params = settings.model_named(model) if model else settings.model_at(self.depth(path))
        return ModelRequest(
            model, leaf_messages(query, text, settings.prompt_version), settings.max_tokens, params
        )

    def caller(self, recorder: NullRecorder) -> CallContext:
        settings = self.settings
        return CallContext(
            run_id=self.run_id,
            recorder=recorder,
            root_path_length=self.root_path_length,
            started_at=self.started,
            attempts=settings.max_attempts,
            limits=settings.limits,
            rates=settings.rates,
            prices=settings.prices,
            fallbacks=tuple(map(settings.model_named, settings.fallbacks)),
            cache=response_cache(settings.cache) if settings.cache else None,
        )


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
