"""The `Deadline` of a run: when its `limits.time_s` is over, and waits that end there whatever they wait for.

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
from dataclasses import dataclass

from rlm_ray.core.limits import Limits
from rlm_ray.errors import LimitReached

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
