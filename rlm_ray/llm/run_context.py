"""What is the same for all sessions and model calls of a run, whichever process they are in; and when its time is over (`Deadline`).

    started ─────────────── last_call_at ── at ── + LATE_S ── + OVERDUE_S
             work of the tree             the last call      the driver ends the run itself

Every wait for a model, a slot, a REPL or a child is inside `in_time`, so that no habit of a provider outlasts the
limit: an endless 429, a silent port, a body that comes byte by byte.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from rlm_ray.admission.protocol import RunPolicy
from rlm_ray.config import Settings
from rlm_ray.core.limits import Amount, Limits
from rlm_ray.core.llm import ModelRequest
from rlm_ray.core.prompts import leaf_messages
from rlm_ray.errors import LimitReached
from rlm_ray.journal.server import JournalRef

LAST_CALL_SHARE, MAX_LAST_CALL_S = 0.05, 30.0
"""How much of the time is reserved for the root's last call: a share, and at most so many seconds."""
LATE_S = 1.0
"""How long after the deadline the last call may still be under way."""
OVERDUE_S = 1.5
"""How long after it the driver no longer waits for the actor of the root."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The deadline of one run."""

    at: float
    """Unix time."""
    time_s: float
    """The limit."""

    @classmethod
    def of(cls, started: float, limits: Limits) -> Deadline | None:
        """Return the deadline of a run that began at this Unix time; None without a limit."""
        if limits.time_s is None or not started:
            return None
        return cls(started + limits.time_s, limits.time_s)

    @property
    def last_call_at(self) -> float:
        """Return when the root stops working, so that its last answer is there in time."""
        return self.at - min(LAST_CALL_SHARE * self.time_s, MAX_LAST_CALL_S)

    @property
    def why(self) -> str:
        return f"the time limit of {self.time_s:g} s is over; raise limits.time_s"


@asynccontextmanager
async def in_time(deadline: Deadline | None, late_s: float = 0.0) -> AsyncIterator[None]:
    """Cancel the block where it is not done `late_s` after the deadline, and raise `LimitReached`."""
    if deadline is None:
        yield
        return
    try:
        async with asyncio.timeout(deadline.at + late_s - time.time()) as timer:
            yield
    except TimeoutError:
        if timer.expired():
            raise LimitReached("time_s", deadline.why) from None
        raise


@dataclass(frozen=True, slots=True)
class RunContext:
    """Describes one run: every message about it carries this, and every session and model call reads it."""

    run_id: str
    settings: Settings
    started: float = 0.0
    """Unix time: older runs of a tenant go first."""
    journal: JournalRef | None = None
    """None: no record is kept."""
    replays: bool = False
    """An earlier attempt of the run is on record."""
    spent: Amount = field(default_factory=Amount)
    """Part of the budget that earlier attempts have spent."""
    root_path_length: int = 0
    """How many places of a path are above the first session: 1 for a batch run, whose rows are sessions of depth 0."""
    trace_id: str = ""
    """Of its spans, for log lines; empty where nothing is traced."""
    context_key: str = ""
    """Set where the context is not that of the earlier attempt; answers about it are not used again then."""
    listener: str = ""
    """Names the driver that passes the answer on while a model writes it; empty: nobody reads along."""

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
            attempt=self.started,
        )

    def leaf_request(self, path: tuple[int, ...], query: str, text: str, model: str = "") -> ModelRequest:
        """Return the request of a plain call at this place, to the model of this name where one is given."""
        settings = self.settings
        model, params = settings.model_named(model) if model else settings.model_at(self.depth(path))
        return ModelRequest(
            model, leaf_messages(query, text, settings.prompt_version), settings.max_tokens, params
        )
