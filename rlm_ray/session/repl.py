"""What a session needs of its REPL, and how it has one while the model thinks about its first message."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, Self

from rlm_ray.core.context import Context
from rlm_ray.core.repl_types import CellResult, ReplHistory, ReplRequest, SubCallOutcome
from rlm_ray.errors import RLMError


class Repl(Protocol):
    """An interpreter that runs a model's code for one session."""

    async def run(
        self,
        blocks: Sequence[str],
        serve: Callable[[ReplRequest], Awaitable[Sequence[SubCallOutcome]]],
        *,
        now: float | None = None,
        query: str | None = None,
        history: ReplHistory | None = None,
    ) -> CellResult:
        """Run code: `now` is the Unix time that it sees, `query` the question; None: as they were."""
        ...

    async def aclose(self) -> None: ...


OpenRepl = Callable[[Context, str], Awaitable[Repl]]


class PrefetchedRepl:
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
        # In a task of its own: a second cancel, at the moment when the REPL is there, would leave its process behind.
        closing = asyncio.create_task(self._close())
        _closings.add(closing)
        closing.add_done_callback(_closings.discard)
        await asyncio.shield(closing)

    async def _close(self) -> None:
        assert self._opening is not None
        try:
            repl = await self._opening
        except RLMError:
            return  # whoever asked for the REPL has seen it
        await repl.aclose()


_closings: set[asyncio.Task[None]] = set()
"""The event loop holds tasks weakly."""
