"""The contexts of many calls, packed once for all who share one, and again where the object store loses it."""

from __future__ import annotations

import asyncio

from rlm_ray.cluster.engine import Engine
from rlm_ray.cluster.store import Parcel
from rlm_ray.core.context import Context


class Parcels:
    """Packs for one group of calls, whose contexts live at least as long."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._packed: dict[int, Parcel] = {}
        self._packing = asyncio.Lock()

    async def of(self, context: Context, lost: Parcel | None = None) -> Parcel | None:
        """The parcel of a context, another one than that which was lost; None where there is nothing in it."""
        if not context.info.chars:
            return None
        async with self._packing:
            parcel = self._packed.get(id(context))
            if parcel is None or parcel is lost:
                parcel = self._packed[id(context)] = await self._engine.pack(context)
        return parcel
