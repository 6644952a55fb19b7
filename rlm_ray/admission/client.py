"""`AdmissionClient` asks the admission for a whole process: one per actor, on the actor's event loop.

    async with client.permit(ask) as permit:        # waits for its turn; LimitReached, QuotaError if there is none
        reply = await model.complete(request)
        permit.settle(Outcome.OK, reply.usage, reply.cost_usd, reply.headers)

1. Asks, settles and withdrawals of a few milliseconds travel together (`Post`). A settle that frees nothing anybody
   here waits for is in no hurry (20 ms).
2. While asks wait, one exchange is held open at the admission, so a verdict comes the moment it is made.
   While permits are out but nothing is to be said, a word each second finds out whether the admission is new.
3. A permit that is left without a settle is settled as lost: charged at its estimate. Cancelling the wait takes the
   ask out of the queue; a grant that arrives for it is given back.
4. When the admission cannot be reached the process goes on alone at half the rate it had (`Alone`), within half of
   its part of the budget. When it is back, perhaps as a new and empty one, it is told what was spent and what is
   under way, and only then asked again.

The `Outbox` of a client: what it has to say and has not been heard with yet.

A `Permit` as its holder has it: leave for one HTTP attempt. What the admission keeps of it stands in `permits.py`.

The `Post` decides when the next batch of a client goes: soon, and with the other things of these milliseconds.

The first after a pause goes at once. The busier the way is, the longer the next collects: as long as an exchange took
of late.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Protocol

from rlm_ray.admission.degraded_mode import Alone, Book
from rlm_ray.admission.policy.rate_headers import RateFacts, rate_facts
from rlm_ray.admission.protocol import (
    FAILED,
    Ask,
    Batch,
    Granted,
    Outcome,
    Refused,
    Replies,
    Resume,
    Settle,
    Verdict,
)
from rlm_ray.core.budget import Amount
from rlm_ray.core.limits import Limits
from rlm_ray.core.llm import Usage
from rlm_ray.errors import ClusterError, LimitReached, QuotaError, RemoteCallError


class Outbox:
    """Collects; `take` empties it into a batch, `give_back` undoes that for a batch that was not heard."""

    __slots__ = ("_asks", "_settles", "_withdrawn")

    def __init__(self) -> None:
        self._asks: dict[str, Ask] = {}
        self._settles: list[Settle] = []
        self._withdrawn: list[str] = []

    def ask(self, ask: Ask) -> None:
        self._asks[ask.ticket] = ask

    def settle(self, settle: Settle) -> None:
        self._settles.append(settle)

    def withdraw(self, ticket: str) -> None:
        """An ask that has not left yet need not."""
        if self._asks.pop(ticket, None) is None:
            self._withdrawn.append(ticket)

    def forget_ask(self, ticket: str) -> None:
        self._asks.pop(ticket, None)

    def take(self, holder: str, epoch: str | None, resume: Resume | None, *, hold: bool) -> Batch:
        batch = Batch(
            holder,
            epoch,
            tuple(self._asks.values()),
            tuple(self._settles),
            tuple(self._withdrawn),
            resume,
            hold,
        )
        self._asks, self._settles, self._withdrawn = {}, [], []
        return batch

    def give_back(self, batch: Batch) -> None:
        """Asks are not put back: whoever still waits asks again, when there is somebody to ask."""
        self._settles[:0] = batch.settles
        self._withdrawn[:0] = batch.withdrawn


class Permit:
    """Settle it once the attempt is over; `settle` is who hears of it, `wall` the time that headers count from."""

    __slots__ = ("_settle", "_wall", "ask", "queue_wait_s", "rate_wait_s", "settled")

    def __init__(
        self,
        ask: Ask,
        settle: Callable[[Settle], None],
        wall: Callable[[], float],
        waits_s: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.ask = ask
        self.queue_wait_s, self.rate_wait_s = waits_s
        self.settled = False
        self._settle, self._wall = settle, wall

    def settle(  # noqa: PLR0913 - what an answer says, most of it optional
        self,
        outcome: Outcome,
        usage: Usage | None = None,
        cost_usd: float | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        retry_after_s: float | None = None,
        why: str = "",
    ) -> None:
        """Say what became of the attempt; it travels with the next batch. The second time changes nothing."""
        if not self.settled:
            self.settled = True
            facts = self._facts(headers, retry_after_s)
            self._settle(Settle(self.ask.ticket, outcome, usage, cost_usd, facts, why))

    def _facts(self, headers: Mapping[str, str] | None, retry_after_s: float | None) -> RateFacts | None:
        """What the headers of an answer say; `retry_after_s` where the caller knows it otherwise."""
        facts = rate_facts(headers, self._wall()) if headers else None
        if retry_after_s is None:
            return facts
        return replace(facts or RateFacts({}), retry_after_s=retry_after_s)


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


SETTLE_PATIENCE_S = 0.02
ASK_AGAIN_S = 5.0
RETRY_S = 0.5
HEARTBEAT_S = 1.0
TICK_S = 0.02

_log = logging.getLogger(__name__)


class Transport(Protocol):
    """The way to an `AdmissionShell`. Whatever it raises means that the admission cannot be reached."""

    async def exchange(self, batch: Batch) -> Replies: ...


class AdmissionClient:
    """The one client of a process. `holder` names the process, unique for ever."""

    def __init__(  # noqa: PLR0913 - two it needs, the others for tests
        self,
        holder: str,
        transport: Transport,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        coalesce_s: float = COALESCE_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._holder, self._transport, self._clock, self._wall = holder, transport, clock, wall
        self._retry_s = retry_s
        self._post = Post(self._send, coalesce_s)
        self._numbers = itertools.count()
        self._epoch: str | None = None
        self._told_epoch: str | None = None
        self._must_resume = False
        self._alone = Alone()
        self._books: dict[str, Book] = {}
        self._pending: dict[str, tuple[Ask, asyncio.Future[Permit]]] = {}
        self._open: dict[str, Permit] = {}
        self._outbox = Outbox()
        self._held = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushes: list[tuple[set[str], asyncio.Future[None]]] = []

    @asynccontextmanager
    async def permit(self, ask: Ask) -> AsyncIterator[Permit]:
        """Hold a permit for one attempt; give no ticket and no holder, they are filled in here."""
        permit = await self.acquire(ask)
        try:
            yield permit
        except asyncio.CancelledError:
            permit.settle(Outcome.CANCELLED)
            raise
        finally:
            permit.settle(Outcome.LOST)

    async def acquire(self, ask: Ask) -> Permit:
        """Wait for a permit. Whoever calls this settles it."""
        ticket = f"{self._holder}:{next(self._numbers)}"
        ask = replace(ask, ticket=ticket, holder=self._holder)
        future: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self._pending[ticket] = (ask, future)
        self._outbox.ask(ask)
        self._post.send_soon()
        try:
            return await future
        except asyncio.CancelledError:
            self._abandon(ticket)
            raise

    async def flush(self, run_id: str | None = None) -> None:
        """Return when everything settled so far (of this run) is known to the admission."""
        unheard = {
            ticket
            for ticket, permit in self._open.items()
            if permit.settled and (run_id is None or permit.ask.run_id == run_id)
        }
        if unheard:
            heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._flushes.append((unheard, heard))
            self._post.send_soon()
            await heard

    def left(self, run_id: str) -> tuple[Limits, Amount] | None:
        """The limits of a run and what it has spent, as last heard; None before its first call here."""
        book = self._books.get(run_id)
        return None if book is None else (book.limits, book.spent)

    async def aclose(self) -> None:
        """Stop. What has not been sent is lost: `flush` before."""
        self._post.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Out

    def _settle(self, settle: Settle) -> None:
        self._outbox.settle(settle)
        self._post.send_soon(0.0 if self._pending else SETTLE_PATIENCE_S)

    def _send(self) -> None:
        self._own(self._exchange(self._take_batch()))

    def _own(self, work: Coroutine[None, None, None]) -> None:
        """Tasks of a client live as long as it: no caller's scope could hold what all callers share."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take_batch(self) -> Batch:
        resume = None
        if self._must_resume:
            self._must_resume = False
            now = self._clock()
            new = self._told_epoch != self._epoch
            records = tuple(book.record(now) for book in self._books.values()) if new else ()
            resume = Resume(records, tuple(permit.ask for permit in self._open.values()))
            self._ask_again()
        return self._outbox.take(self._holder, self._epoch, resume, hold=bool(self._pending))

    async def _exchange(self, batch: Batch) -> None:
        self._held += batch.hold
        sent_at = self._clock()
        try:
            replies = await self._transport.exchange(batch)
        except ClusterError as error:  # it was heard, and answered with an error
            self._fail(batch, error)
            return
        except Exception as error:  # noqa: BLE001 - any other failure of a foreign transport means the same
            self._lose_touch(batch, error)
            return
        finally:
            self._held -= batch.hold
        took_s = self._clock() - sent_at
        self._post.learn_trip(took_s)
        self._hear(batch, replies)
        if took_s >= ASK_AGAIN_S and not replies.verdicts:
            self._ask_again()
        if self._pending and not self._held:
            self._post.send_soon()
        elif (self._open or self._books) and not self._held:
            # A new admission must hear what was spent also from those with nothing to ask.
            self._post.send_soon(HEARTBEAT_S)

    def _ask_again(self) -> None:
        """Nothing for long: should this process have been taken for dead meanwhile, its asks were dropped."""
        for ask, _ in self._pending.values():
            self._outbox.ask(ask)

    def _fail(self, batch: Batch, error: ClusterError) -> None:
        """What of a batch cannot be answered fails alone: the others are sent again, each by itself."""
        parts = batch.parts()
        if len(parts) > 1:
            for part in parts:
                self._own(self._exchange(part))
            return
        _log.warning("the admission refused a message: %s", error)
        for ask in batch.asks:
            _, future = self._pending.pop(ask.ticket, (None, None))
            if future is not None and not future.done():
                future.set_exception(error)
        for settle in batch.settles:
            self._acknowledge(settle)
        if self._pending and not self._held:
            self._post.send_soon(self._retry_s)

    def _abandon(self, ticket: str) -> None:
        self._pending.pop(ticket, None)
        if ticket in self._open:
            self._open[ticket].settle(Outcome.UNSENT)
        else:
            self._outbox.withdraw(ticket)
            self._post.send_soon()

    # In

    def _hear(self, batch: Batch, replies: Replies) -> None:
        if batch.epoch is not None and replies.epoch != batch.epoch:
            self._outbox.give_back(batch)
            self._must_resume = self._must_resume or replies.epoch != self._epoch
            self._epoch = replies.epoch
            self._post.send_soon()
            return
        self._epoch = self._told_epoch = replies.epoch
        for terms in replies.runs:
            self._books.setdefault(terms.run_id, Book(terms, self._clock()))
        for settle in batch.settles:
            self._acknowledge(settle)
        self._hear_rooms(replies)
        for verdict in replies.verdicts:
            self._hear_verdict(verdict)

    def _hear_rooms(self, replies: Replies) -> None:
        if replies.rooms is None:
            return
        rooms = {room.run_id: room for room in replies.rooms}
        self._books = {run_id: book for run_id, book in self._books.items() if run_id in rooms}
        for run_id, book in self._books.items():
            book.hear(rooms[run_id])

    def _hear_verdict(self, verdict: Verdict) -> None:
        ask, future = self._pending.pop(verdict.ticket, (None, None))
        match verdict:
            case Granted() if ask is not None and future is not None and not future.done():
                self._alone.granted(ask.account_key, self._clock())
                self._hand_out(verdict.smaller or ask, future, (verdict.queue_wait_s, verdict.rate_wait_s))
            case Granted() if verdict.ticket not in self._open:
                self._outbox.withdraw(verdict.ticket)
                self._post.send_soon()
            case Refused() if ask is not None and future is not None and not future.done():
                future.set_exception(_error(ask, verdict))
            case _:
                _log.debug("nobody waits for %s", verdict)

    def _hand_out(
        self, ask: Ask, future: asyncio.Future[Permit], waits_s: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        permit = self._open[ask.ticket] = Permit(ask, self._settle, self._wall, waits_s)
        future.set_result(permit)

    def _acknowledge(self, settle: Settle) -> None:
        permit = self._open.pop(settle.permit, None)
        if permit is not None and permit.ask.run_id in self._books:
            waits_s = (permit.queue_wait_s, permit.rate_wait_s)
            self._books[permit.ask.run_id].settled(permit.ask, settle, waits_s)
        for unheard, heard in self._flushes:
            unheard.discard(settle.permit)
            if not unheard and not heard.done():
                heard.set_result(None)
        self._flushes = [flush for flush in self._flushes if flush[0]]

    # Alone

    def _lose_touch(self, batch: Batch, error: Exception) -> None:
        self._outbox.give_back(batch)
        self._must_resume = True
        if not self._post.shut:
            _log.warning("the admission cannot be reached, going on at half the rate: %s", error)
            self._post.close()
            self._alone.begin(self._clock())
            self._own(self._go_alone())

    async def _go_alone(self) -> None:
        async with asyncio.TaskGroup() as group:
            granting = group.create_task(self._grant_alone())
            await self._reach()
            granting.cancel()
        _log.warning("the admission is back")
        self._post.reopen()

    async def _reach(self) -> None:
        """Return once somebody answers; what is to be said comes after."""
        while True:
            await asyncio.sleep(self._retry_s)
            try:
                replies = await self._transport.exchange(Batch(self._holder, self._epoch))
            except Exception as error:  # noqa: BLE001 - as in _exchange
                _log.debug("still no admission: %s", error)
            else:
                self._epoch = replies.epoch
                return

    async def _grant_alone(self) -> None:
        while True:
            for ask, future in list(self._pending.values()):
                book = self._books.get(ask.run_id)
                if book is None or future.done() or not book.affords(ask):
                    continue
                if await self._alone.take(ask.account_key):
                    book.spend_alone(ask)
                    del self._pending[ask.ticket]
                    self._hand_out(ask, future)
            await asyncio.sleep(TICK_S)


def _error(ask: Ask, refused: Refused) -> LimitReached | QuotaError | RemoteCallError:
    if refused.reason == FAILED:
        return RemoteCallError(refused.why)
    if refused.reason == "quota":
        return QuotaError(ask.model, refused.why)
    return LimitReached(refused.reason, refused.why)
