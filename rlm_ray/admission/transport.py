"""The admission's end of a line, for its clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rlm_ray.admission.protocol import Batch, Refused, Replies, RunStatus, RunTerms
from rlm_ray.codec import Codec
from rlm_ray.core.usage import RunUsage
from rlm_ray.line import Address, LineTransport

METHODS = frozenset(
    {"exchange", "open_run", "open_sessions", "close_run", "usage", "status", "hold_run", "forget_holder"}
)
"""What the admission may be asked for over a line."""
CODEC = Codec(Batch, Replies, RunTerms, Refused, RunUsage, RunStatus)
"""Of what is said there."""


class AdmissionTransport(LineTransport):
    """Carries the batches of an `AdmissionClient`."""

    def __init__(self, find: Callable[[], Awaitable[Address]]) -> None:
        super().__init__(find, CODEC)

    async def exchange(self, batch: Batch) -> Replies:
        replies: Replies = await self.call("exchange", batch)
        return replies
