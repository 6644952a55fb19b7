"""The `Post` decides when the next batch of a client goes: soon, and with the other things of these milliseconds.

The first after a pause goes at once. The busier the way is, the longer the next collects: as long as an exchange took
of late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

COALESCE_S = 0.003
LONGEST_TRIP_S = 0.05


class Post:
    """Calls `send` when it is time, on the loop of whoever has something to send."""

    __slots__ = ("_coalesce_s", "_due", "_send", "_sent_at", "_shut", "_timer", "_trip_s")

    def __init__(self, send: Callable[[], None], coalesce_s: float = COALESCE_S) -> None:
        self._send, self._coalesce_s = send, coalesce_s
        self._shut = False
        self._sent_at = -1.0
        self._trip_s = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def shut(self) -> bool:
        """Nothing goes, whatever there is to send."""
        return self._shut

    def send_soon(self, patience_s: float = 0.0) -> None:
        """There is something to send, which can wait so long for company."""
        if self._shut:
            return
        loop = asyncio.get_running_loop()
        due = max(self._sent_at + max(self._coalesce_s, self._trip_s), loop.time() + patience_s)
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due, self._timer = due, loop.call_at(due, self._go)

    def learn_trip(self, took_s: float) -> None:
        """One that took longer was held, which says nothing about the way."""
        if took_s <= LONGEST_TRIP_S:
            self._trip_s += 0.2 * (took_s - self._trip_s)

    def close(self) -> None:
        """Until `reopen`: there is nobody to send to."""
        self._shut = True

    def reopen(self) -> None:
        self._shut = False
        self.send_soon()

    def stop(self) -> None:
        """What was to go does not."""
        if self._timer is not None:
            self._timer.cancel()

    def _go(self) -> None:
        self._timer = None
        if not self._shut:
            self._sent_at = asyncio.get_running_loop().time()
            self._send()
