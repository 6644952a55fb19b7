"""Passes answers on while models write them, from session actors to the drivers that read along.

    AnswerPreview → AnswerOutbox (session actor) → `read_answers`, a long poll → AnswerFeed (driver) → observers of the run

One poll serves all runs of a driver in an actor, at most twenty times a second, so the messages do not grow with the runs. Nothing
here is kept or acknowledged: what is lost on the way is told at the end, from the answer on record.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import ray

from rlm_ray.core.answer_preview import AnswerDelta, AnswerNews

INTERVAL_S = 0.05
WAIT_S = 1.0
"""So long a poll waits for news; the last one of a feed ends by itself."""

NewsOfRuns: TypeAlias = dict[str, list[AnswerNews]]


class AnswerOutbox:
    """The news of answers in one session actor, until their drivers ask for them."""

    def __init__(self) -> None:
        self._news: dict[str, NewsOfRuns] = {}
        self._grown = asyncio.Event()

    def add(self, listener: str, run_id: str, news: AnswerNews) -> None:
        """Add news of a run for its driver."""
        known = self._news.setdefault(listener, {}).setdefault(run_id, [])
        if known and isinstance(news, AnswerDelta) and isinstance(known[-1], AnswerDelta):
            known[-1] = AnswerDelta(known[-1].text + news.text)
        else:
            known.append(news)
        self._grown.set()
        self._grown = asyncio.Event()

    def drop(self, listener: str, run_id: str) -> None:
        """Forget a run that is over: its answer is told as a whole."""
        of_listener = self._news.get(listener, {})
        of_listener.pop(run_id, None)
        if not of_listener:
            self._news.pop(listener, None)

    async def take(self, listener: str, wait_s: float = WAIT_S) -> NewsOfRuns:
        """Return the news for a driver, once there are any; none after so long."""
        try:
            async with asyncio.timeout(wait_s):
                while listener not in self._news:
                    await self._grown.wait()
        except TimeoutError:
            return {}
        return self._news.pop(listener)


class AnswerFeed:
    """Reads the news of all runs of this driver that somebody listens to. Lives on the thread of the connection."""

    def __init__(self) -> None:
        self.listener = secrets.token_hex(8)
        self._hearers: dict[str, dict[str, Callable[[AnswerNews], None]]] = {}
        self._polls: dict[str, asyncio.Task[None]] = {}

    @contextmanager
    def listening(
        self, actor: str, handle: Any, run_id: str, hear: Callable[[AnswerNews], None]
    ) -> Iterator[None]:
        """Have the news of a run in this actor heard within the block."""
        runs = self._hearers.setdefault(actor, {})
        runs[run_id] = hear
        if actor not in self._polls:
            self._polls[actor] = asyncio.create_task(self._poll(actor, handle))
        try:
            yield
        finally:
            runs.pop(run_id, None)
            if not runs and actor not in self._polls:
                self._hearers.pop(actor, None)

    async def _poll(self, actor: str, handle: Any) -> None:
        try:
            while runs := self._hearers.get(actor):
                news: NewsOfRuns = await handle.read_answers.remote(self.listener)
                for run_id, of_run in news.items():
                    for each in of_run:
                        if (hear := runs.get(run_id)) is not None:
                            hear(each)
                await asyncio.sleep(INTERVAL_S)
        except ray.exceptions.RayError:
            return  # the runs there hear of it by themselves
        finally:
            del self._polls[actor]
            if not self._hearers.get(actor):
                self._hearers.pop(actor, None)
