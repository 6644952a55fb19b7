"""The only door to a model: be admitted, call, retry, settle.

Rules:
- A permit covers one attempt; a back-off is waited for without one.
- Only what may pass by itself is retried: rate limits, server errors, time-outs, lost connections.
- `Retry-After` is obeyed; otherwise the wait doubles, with full jitter.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rlm_ray.core.model import Model, ModelReply, ModelRequest
from rlm_ray.errors import ModelUnavailableError, TransientModelError

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a call is made."""

    run_id: str
    depth: int
    last_call: bool = False
    """The "best answer from what is known" call; it may use the reserve of the budget."""
    attempts: int = 6
    """How often a call that failed for the moment is tried in all."""


class Gateway:
    """Carries requests to a model under one admission."""

    def __init__(
        self,
        model: Model,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._model = model
        self._sleep = sleep
        self._jitter = jitter

    async def complete(self, request: ModelRequest, caller: Caller) -> ModelReply:
        """The model's answer. Raises `LimitReached` when the run may not make the call, else `ModelError`s."""
        for attempt in range(1, caller.attempts + 1):
            try:
                return await self._model.complete(request)
            except TransientModelError as error:
                if attempt == caller.attempts:
                    raise _given_up(error, attempt) from error
                await self._sleep(self._backoff(attempt, error.retry_after_s))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _backoff(self, attempt: int, retry_after_s: float | None) -> float:
        if retry_after_s is not None:
            return retry_after_s * (1 + 0.1 * self._jitter())
        return float(min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (attempt - 1)) * self._jitter())


def _given_up(error: TransientModelError, attempts: int) -> ModelUnavailableError:
    return ModelUnavailableError(error.model, f"{error.why}; gave up after {attempts} attempts", error.status)
