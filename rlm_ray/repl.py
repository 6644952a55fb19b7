"""What a session asks of its REPL, and how it opens one while the model thinks about its first message."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, Self

from rlm_ray.core.cell import CellResult, Outcome, SubCalls
from rlm_ray.core.context import Context
from rlm_ray.errors import RLMError


class Repl(Protocol):
    """An interpreter that runs a model's code for one session."""

    async def run(
        self,
        blocks: Sequence[str],
        serve: Callable[[SubCalls], Awaitable[Sequence[Outcome]]],
        *,
        now: float | None = None,
        query: str | None = None,
    ) -> CellResult:
        """`now` is the Unix time that the code sees, `query` the question; None: as they were."""
        ...

    async def aclose(self) -> None: ...


OpenRepl = Callable[[Context, str], Awaitable[Repl]]


class LazyRepl:
    """Opens the REPL at once, for whoever asks for it later, and closes it whatever happens."""

    def __init__(self, open_repl: OpenRepl, context: Context, query: str) -> None:
        self._open = open_repl
        self._arguments = (context, query)
        self._opening: asyncio.Task[Repl] | None = None

    async def __aenter__(self) -> Self:
        self._opening = asyncio.ensure_future(self._open(*self._arguments))
        return self

    async def get(self) -> Repl:
        assert self._opening is not None
        return await asyncio.shield(self._opening)

    async def __aexit__(self, *_: object) -> None:
        assert self._opening is not None
        try:
            repl = await self._opening  # an opening cut short would leave its process behind
        except RLMError:
            return  # whoever asked for the REPL has seen it
        await repl.aclose()
