"""`AdmissionShell` gives an `Admission` a clock, a timer and its callers' patience; it decides nothing.

A plain async class; `cluster/` wraps it as the one admission actor. Its callers are `AdmissionClient`s: each sends
batches, and has at most one of them held here until there is a verdict for it (a long poll). A newer batch of the
same holder frees the older one, so nothing piles up and nothing waits for a tick.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rlm_ray.admission.controller import Admission
from rlm_ray.admission.protocol import FAILED, Batch, Refused, Replies, Room, RunStatus, RunTerms, Verdict
from rlm_ray.core.usage import RunUsage

HOLD_S = 10.0
ROOMS_EVERY_S = 1.0
SILENT_S = 60.0
"""A client says something each second while it has anything to do with a run; one that is silent for so long is gone."""
UNHELD_S = 60.0
"""A run whose driver has been gone for so long is over."""
CLEAR_EVERY_S = 10.0

_log = logging.getLogger(__name__)


class _Holder:
    """What the shell knows of one client."""

    __slots__ = ("heard_at", "mailbox", "rooms_at", "runs", "waiter")

    def __init__(self) -> None:
        self.mailbox: list[Verdict] = []
        self.waiter: asyncio.Future[None] | None = None
        self.runs: set[str] = set()
        self.rooms_at = 0.0
        self.heard_at = 0.0

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class AdmissionShell:
    """One admission, served. `epoch` names this life of it: a new one for each start."""

    def __init__(
        self,
        admission: Admission,
        epoch: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        hold_s: float = HOLD_S,
    ) -> None:
        self._admission = admission
        self._epoch = epoch
        self._clock = clock
        self._hold_s = hold_s
        self._holders: dict[str, _Holder] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._drivers: Counter[str] = Counter()
        """How many hold a run that they drive."""
        self._unheld: dict[str, float] = {}
        """Runs whose drivers are gone, and since when."""
        self._cleared_at = self._clock()

    async def exchange(self, batch: Batch) -> Replies:
        """Take in a batch and answer it, at once or when there is a verdict for its holder."""
        if batch.epoch is not None and batch.epoch != self._epoch:
            return Replies(self._epoch)
        holder = self._holders.setdefault(batch.holder, _Holder())
        holder.heard_at = self._clock()
        self._clear()
        self._take_in(batch)
        self._tick()
        holder.wake()
        if batch.hold and not holder.mailbox:
            await self._hold(holder)
        return self._replies(holder, batch)

    async def open_run(self, terms: RunTerms) -> str:
        """The answer is the epoch: another one later means that the run has to be opened again."""
        self._admission.open_run(terms, self._clock())
        self._clear()
        return self._epoch

    async def hold_run(self, run_id: str) -> None:
        """Never returns: the driver of a run waits for it as long as it drives it. When it is gone the run is closed.

        A connection that only broke is there again within `UNHELD_S`.
        """
        self._drivers[run_id] += 1
        self._unheld.pop(run_id, None)
        try:
            await asyncio.Event().wait()
        finally:
            self._drivers[run_id] -= 1
            if not self._drivers[run_id]:
                del self._drivers[run_id]
                self._unheld[run_id] = self._clock()

    async def close_run(self, run_id: str) -> RunUsage:
        usage = self._admission.close_run(run_id)
        self._tick()
        return usage

    async def open_sessions(self, terms: RunTerms, count: int = 1) -> Refused | None:
        """Of a run that goes on; one that this life of the admission has not heard of yet is opened."""
        self._admission.open_run(terms, self._clock())
        return self._admission.open_sessions(terms.run_id, count)

    async def usage(self, run_id: str) -> RunUsage:
        return self._admission.usage(run_id)

    async def status(self, run_id: str) -> RunStatus | None:
        return self._admission.status(run_id, self._clock())

    async def room(self, run_id: str) -> Room | None:
        return self._admission.room(run_id)

    async def census(self) -> dict[str, int]:
        """How many rows each table has."""
        self._clear()
        return {
            **self._admission.census(),
            "holders": len(self._holders),
            "drivers": len(self._drivers),
            "unheld": len(self._unheld),
        }

    def _clear(self) -> None:
        """Forget, every few seconds, those who are gone without a word."""
        now = self._clock()
        if now - self._cleared_at < CLEAR_EVERY_S:
            return
        self._cleared_at = now
        silent = [
            name
            for name, holder in self._holders.items()
            if holder.waiter is None and now - holder.heard_at >= SILENT_S
        ]
        for name in silent:
            del self._holders[name]
            self._admission.forget_holder(name, now)
        for run_id in [run_id for run_id, since in self._unheld.items() if now - since >= UNHELD_S]:
            del self._unheld[run_id]
            self._admission.close_run(run_id)
        self._admission.forget_idle_accounts(now)

    async def forget_holder(self, name: str) -> None:
        self._holders.pop(name, None)
        self._admission.forget_holder(name, self._clock())
        self._tick()

    def _take_in(self, batch: Batch) -> None:
        """An error about one thing is that thing's own: the others of the batch are taken in."""
        now = self._clock()
        if batch.resume is not None:
            self._admission.resume(batch.holder, batch.resume, now)
        for settle in batch.settles:
            with _logged("settle", settle.permit):
                self._admission.settle(settle, now)
        for ticket in batch.withdrawn:
            with _logged("withdraw", ticket):
                self._admission.withdraw(ticket, now)
        for ask in batch.asks:
            with _logged("ask", ask.ticket) as failures:
                self._admission.ask(ask, now)
            for why in failures:
                self._holders[batch.holder].mailbox.append(Refused(ask.ticket, batch.holder, FAILED, why))

    def _tick(self) -> None:
        """Hand out what is due and set the timer for what will be."""
        now = self._clock()
        for verdict in self._admission.poll(now):
            holder = self._holders.get(verdict.holder)
            if holder is not None:
                holder.mailbox.append(verdict)
                holder.wake()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wakeup = self._admission.next_wakeup(now)
        if wakeup is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(wakeup - now, 0.001), self._tick)

    async def _hold(self, holder: _Holder) -> None:
        waiter = holder.waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._hold_s):
                await waiter
        except TimeoutError:
            return
        finally:
            if holder.waiter is waiter:
                holder.waiter = None

    def _replies(self, holder: _Holder, batch: Batch) -> Replies:
        now = self._clock()
        new = {ask.run_id for ask in batch.asks} - holder.runs
        if batch.resume is not None:
            new |= {record.terms.run_id for record in batch.resume.runs}
        holder.runs |= new
        verdicts, holder.mailbox = tuple(holder.mailbox), []
        terms = [self._admission.terms(run_id, now) for run_id in sorted(new)]
        opened = tuple(run for run in terms if run is not None)
        return Replies(self._epoch, verdicts, opened, self._rooms(holder, now, news=bool(new)))

    def _rooms(self, holder: _Holder, now: float, *, news: bool) -> tuple[Room, ...] | None:
        if not news and now - holder.rooms_at < ROOMS_EVERY_S:
            return None
        holder.rooms_at = now
        rooms = [self._admission.room(run_id) for run_id in sorted(holder.runs)]
        opened = tuple(room for room in rooms if room is not None)
        holder.runs = {room.run_id for room in opened}
        return opened


@contextmanager
def _logged(what: str, ticket: str) -> Iterator[list[str]]:
    """Where it raises, the log says so, and the list that it brings has the sentence."""
    failures: list[str] = []
    try:
        yield failures
    except Exception as error:  # noqa: BLE001 - whatever it was, whoever asked is told
        _log.exception("%s of %s failed", what, ticket)
        failures.append(f"the admission could not judge this call: {type(error).__name__}: {error}")
