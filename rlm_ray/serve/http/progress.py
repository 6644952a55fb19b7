"""What a stream says of a run, whichever dialect it speaks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from rlm_ray.core.records import RunEnded
from rlm_ray.serve.http import sse
from rlm_ray.serve.http.service import Service
from rlm_ray.serve.telling import told


async def progress_of(service: Service, run_id: str) -> AsyncGenerator[str | RunEnded]:
    """Lines about its steps; nothing (an empty text) where it has been quiet for a while; its end last."""
    news = sse.with_pauses(service.runs.follow(run_id), service.keep_alive_s)
    async with contextlib.aclosing(news):
        async for records in news:
            if records is None:
                yield ""
                continue
            if text := "".join(map(told, records)):
                yield text
            if isinstance(records[-1], RunEnded):
                yield records[-1]
