"""The admission's end of a line, for its clients."""

from __future__ import annotations

from rlm_ray.admission.protocol import Batch, Replies
from rlm_ray.line import LineTransport

METHODS = frozenset(
    {"exchange", "open_run", "open_sessions", "close_run", "usage", "status", "forget_holder"}
)
"""What the admission may be asked for over a line."""


class AdmissionTransport(LineTransport):
    """Carries the batches of an `AdmissionClient`."""

    async def exchange(self, batch: Batch) -> Replies:
        replies: Replies = await self.call("exchange", batch)
        return replies
