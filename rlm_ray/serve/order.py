"""A request that wants a run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rlm_ray.core.context import Context
from rlm_ray.serve.keys import Key
from rlm_ray.serve.request import Noted


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked, by whom, and how to get what it is about."""

    noted: Noted
    key: Key
    load: Callable[[], Awaitable[Context]]
    """Its context."""
    traceparent: str = ""
    idempotency: str = ""
    digest: str = ""
    """Of the request, where it has an idempotency key."""

    @property
    def lasting(self) -> bool:
        """It goes on without its client."""
        return self.noted.background or bool(self.idempotency)
