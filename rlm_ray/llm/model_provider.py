"""Every model by its name: `offline/...` answers in this process, all others through litellm.

litellm takes seconds of CPU to import, so it is imported only where a run names a model that needs it: `prepare` does that
beforehand, in a thread. Without it the first call does, and holds up the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rlm_ray.core.llm import ModelReply, ModelRequest, Usage
from rlm_ray.core.output_limit import OutputLimit
from rlm_ray.llm.offline.provider import OfflineProvider, is_offline

if TYPE_CHECKING:
    from rlm_ray.llm.litellm_client import LitellmProvider


class ModelProvider:
    """Passes each request on to who answers it."""

    def __init__(self) -> None:
        self._offline = OfflineProvider()
        self._litellm: LitellmProvider | None = None
        self._importing: asyncio.Task[LitellmProvider] | None = None

    async def prepare(self, models: Iterable[str]) -> None:
        """Import what these models need; nothing the second time."""
        if self._litellm is None and not all(map(is_offline, models)):
            if self._importing is None:
                self._importing = asyncio.create_task(asyncio.to_thread(_imported))
            self._litellm = await asyncio.shield(self._importing)  # others may wait for it, too

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Make one attempt. Raises `ModelError` and its kinds, or `ConfigError` for a name nobody knows."""
        return await self._of(request.model).complete(request)

    def cost_usd(self, model: str, usage: Usage) -> float | None:
        """Return the cost of a reply; None where the price is not known."""
        return self._of(model).cost_usd(model, usage)

    def output_limit(self, model: str) -> OutputLimit:
        """Return how long replies may be; empty where that is not known."""
        return self._of(model).output_limit(model)

    def provider_name(self, model: str) -> str:
        """Return the name of the provider of this model."""
        return self._of(model).provider_name(model)

    def _of(self, model: str) -> OfflineProvider | LitellmProvider:
        if is_offline(model):
            return self._offline
        if self._litellm is None:
            self._litellm = _imported()
        return self._litellm


def _imported() -> LitellmProvider:
    from rlm_ray.llm.litellm_client import LitellmProvider, import_litellm

    import_litellm()
    return LitellmProvider()
