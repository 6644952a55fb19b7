"""The admission's client: one for each process, on the event loop of its session actor.

    async with client.permit(ask) as permit:        # waits for its turn; raises LimitReached or QuotaError
        reply = await model.complete(request)
        permit.release(AttemptOutcome.OK, reply.usage, reply.cost_usd, reply.headers)

1. Requests, settlements and cancellations of a few milliseconds are sent together: at once after a pause, else after as
   long as an exchange took lately, or as the admission asks where it has very many clients (`util/batcher.py`). A
   settlement that frees nothing anybody here waits for may be 20 ms late.
2. While requests wait, one exchange is held open at the admission (a long poll), so a decision arrives the moment it is
   made. While permits are held and nothing is to be sent, a heartbeat each second finds out whether the admission is new.
3. A permit that is left without `release` is settled as lost: charged at its estimate. Cancelling the wait takes the
   request out of the queue; a permit that arrives for it is returned.
4. While the admission cannot be reached, the process goes on at half the rate it had (`DegradedLimiter`), within half of
   its share of the budget. When it is back, perhaps as a new and empty one, it is told what was spent and what is under
   way before it is asked again.

`Permit` is the holder's side of a permit; the admission's side is `PermitRecord` in `permit_table.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import replace
from typing import TypeAlias

from rlm_ray.admission.degraded_mode import DegradedLimiter, RunReplica
from rlm_ray.admission.protocol import (
    FAILED,
    AttemptOutcome,
    ClientMessage,
    Decision,
    Granted,
    PermitRequest,
    Refused,
    Resume,
    ServerMessage,
    Settle,
)
from rlm_ray.admission.server import AdmissionServer
from rlm_ray.core.limits import Amount, Limits
from rlm_ray.core.llm import Usage
from rlm_ray.core.retry_after import RateLimitHeaders, parse_rate_limit_headers
from rlm_ray.errors import ClusterError, LimitReached, QuotaError, RemoteCallError
from rlm_ray.util.batcher import Batcher

COALESCE_S = 0.003
RELEASE_LINGER_S = 0.02
RESEND_AFTER_S = 5.0
RETRY_S = 0.5
HEARTBEAT_S = 1.0
POLL_S = 0.02

_Item: TypeAlias = PermitRequest | Settle | str
"""What a message is made of; a text is the id of a cancelled request."""

_log = logging.getLogger(__name__)


class Permit:
    """Allows one HTTP attempt. Call `release` when the attempt is over: `settle` is called with its outcome.

    `wall` gives the time of day, from which times in headers are counted.
    """

    __slots__ = ("_settle", "_wall_clock", "ask", "queue_wait_s", "rate_wait_s", "settled")

    def __init__(
        self,
        ask: PermitRequest,
        settle: Callable[[Settle], None],
        wall: Callable[[], float],
        waits_s: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.ask = ask
        self.queue_wait_s, self.rate_wait_s = waits_s
        self.settled = False
        self._settle, self._wall_clock = settle, wall

    def release(  # noqa: PLR0913 - what an answer says, most of it optional
        self,
        outcome: AttemptOutcome,
        usage: Usage | None = None,
        cost_usd: float | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        retry_after_s: float | None = None,
        why: str = "",
    ) -> None:
        """Settle the attempt; sent with the next message. A second call changes nothing."""
        if not self.settled:
            self.settled = True
            facts = self._rate_headers(headers, retry_after_s)
            self._settle(Settle(self.ask.request_id, outcome, usage, cost_usd, facts, why))

    def _rate_headers(
        self, headers: Mapping[str, str] | None, retry_after_s: float | None
    ) -> RateLimitHeaders | None:
        """Read the headers of a reply; `retry_after_s` where the caller knows it from elsewhere."""
        facts = parse_rate_limit_headers(headers, self._wall_clock()) if headers else None
        if retry_after_s is None:
            return facts
        return replace(facts or RateLimitHeaders({}), retry_after_s=retry_after_s)


class AdmissionClient:
    """The one client of a process. `holder` is the process's name, unique for ever; `admission` is most often a stub."""

    def __init__(  # noqa: PLR0913 - two it needs, the others for tests
        self,
        holder: str,
        admission: AdmissionServer,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        coalesce_s: float = COALESCE_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._holder, self._admission, self._clock, self._wall = holder, admission, clock, wall
        self._coalesce_s, self._retry_s = coalesce_s, retry_s
        self._batcher: Batcher[_Item, None] = Batcher(self._send, interval_s=coalesce_s)
        self._numbers = itertools.count()
        self._epoch: str | None = None
        self._synced_epoch: str | None = None
        self._must_resume = False
        self._degraded_limiter = DegradedLimiter()
        self._replicas: dict[str, RunReplica] = {}
        self._waiting: dict[str, tuple[PermitRequest, asyncio.Future[Permit]]] = {}
        self._permits: dict[str, Permit] = {}
        self._long_polls = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushes: list[tuple[set[str], asyncio.Future[None]]] = []

    @asynccontextmanager
    async def permit(self, ask: PermitRequest) -> AsyncIterator[Permit]:
        """Hold a permit for one attempt. `request_id` and `client_id` of `ask` are filled in here."""
        permit = await self.acquire(ask)
        try:
            yield permit
        except asyncio.CancelledError:
            permit.release(AttemptOutcome.CANCELLED)
            raise
        finally:
            permit.release(AttemptOutcome.UNKNOWN)

    async def acquire(self, ask: PermitRequest) -> Permit:
        """Wait for a permit; the caller has to `release` it."""
        request_id = f"{self._holder}:{next(self._numbers)}"
        ask = replace(ask, request_id=request_id, client_id=self._holder)
        future: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = (ask, future)
        self._batcher.add(ask)
        try:
            return await future
        except asyncio.CancelledError:
            self._cancel_request(request_id)
            raise

    async def flush(self, run_id: str | None = None) -> None:
        """Return when everything settled so far (of this run) is known to the admission."""
        unacknowledged = {
            request_id
            for request_id, permit in self._permits.items()
            if permit.settled and (run_id is None or permit.ask.run_id == run_id)
        }
        if unacknowledged:
            flushed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._flushes.append((unacknowledged, flushed))
            self._batcher.send_soon()
            await flushed

    def budget_left(self, run_id: str) -> tuple[Limits, Amount] | None:
        """Return the limits of a run and what it had spent by the last message; None before its first call here."""
        replica = self._replicas.get(run_id)
        return None if replica is None else (replica.limits, replica.spent)

    async def aclose(self) -> None:
        """Stop. What has not been sent is lost: call `flush` before."""
        await self._batcher.aclose()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Out

    def _settle(self, settle: Settle) -> None:
        self._batcher.add(settle, linger_s=0.0 if self._waiting else RELEASE_LINGER_S)

    async def _send(self, items: Sequence[_Item]) -> None:
        await self._exchange(self._message(items))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        """Start a task that lives as long as the client: no caller's scope could hold what all callers share."""
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _message(self, items: Sequence[_Item]) -> ClientMessage:
        resume = None
        asked = [item.request_id for item in items if isinstance(item, PermitRequest)]
        if self._must_resume:
            self._must_resume = False
            now = self._clock()
            new = self._synced_epoch != self._epoch
            records = tuple(replica.snapshot(now) for replica in self._replicas.values()) if new else ()
            resume = Resume(records, tuple(permit.ask for permit in self._permits.values()))
            asked = list(self._waiting)
        return ClientMessage(
            self._holder,
            self._epoch,
            tuple(self._waiting[id_][0] for id_ in dict.fromkeys(asked) if id_ in self._waiting),
            tuple(item for item in items if isinstance(item, Settle)),
            tuple(item for item in items if isinstance(item, str)),
            resume,
            long_poll=bool(self._waiting),
        )

    async def _exchange(self, batch: ClientMessage) -> None:
        self._long_polls += batch.long_poll
        sent_at = self._clock()
        try:
            replies = await self._admission.exchange(batch)
        except ClusterError as error:  # it arrived, and was answered with an error
            self._fail(batch, error)
            return
        except Exception as error:  # noqa: BLE001 - any other failure of a foreign transport means the same
            self._on_unreachable(batch, error)
            return
        finally:
            self._long_polls -= batch.long_poll
        took_s = self._clock() - sent_at
        self._batcher.record_rtt(took_s)
        self._on_message(batch, replies)
        if took_s >= RESEND_AFTER_S and not replies.verdicts:
            self._resend_requests()
        if self._waiting and not self._long_polls:
            self._batcher.send_soon()
        elif (self._permits or self._replicas) and not self._long_polls:
            # A new admission must hear what was spent also from those with nothing to ask.
            self._batcher.send_soon(linger_s=HEARTBEAT_S)

    def _resend_requests(self) -> None:
        """Send requests again after a long silence: if this process was taken for dead, they were dropped."""
        for ask, _ in self._waiting.values():
            self._batcher.add(ask)

    def _send_again(self, batch: ClientMessage) -> None:
        """Put back what was not delivered. Requests are sent again with what the admission is told when it is back."""
        for settle in batch.settles:
            self._batcher.add(settle)
        for request_id in batch.cancelled:
            self._batcher.add(request_id)
        self._batcher.send_soon()

    def _fail(self, batch: ClientMessage, error: ClusterError) -> None:
        """Send the parts of a failed message again one by one, so that only what cannot be answered fails."""
        parts = batch.parts()
        if len(parts) > 1:
            for part in parts:
                self._spawn(self._exchange(part))
            return
        _log.warning("the admission refused a message: %s", error)
        for ask in batch.asks:
            _, future = self._waiting.pop(ask.request_id, (None, None))
            if future is not None and not future.done():
                future.set_exception(error)
        for settle in batch.settles:
            self._acknowledge(settle)
        if self._waiting and not self._long_polls:
            self._batcher.send_soon(linger_s=self._retry_s)

    def _cancel_request(self, request_id: str) -> None:
        self._waiting.pop(request_id, None)
        if request_id in self._permits:
            self._permits[request_id].release(AttemptOutcome.NOT_SENT)
        else:
            self._batcher.add(request_id)

    # In

    def _on_message(self, batch: ClientMessage, replies: ServerMessage) -> None:
        if batch.epoch is not None and replies.epoch != batch.epoch:
            self._must_resume = self._must_resume or replies.epoch != self._epoch
            self._epoch = replies.epoch
            self._send_again(batch)
            return
        self._epoch = self._synced_epoch = replies.epoch
        self._batcher.interval_s = max(self._coalesce_s, replies.interval_s)
        for policy in replies.runs:
            self._replicas.setdefault(policy.run_id, RunReplica(policy, self._clock()))
        for settle in batch.settles:
            self._acknowledge(settle)
        for decision in replies.verdicts:
            self._on_decision(decision)
        self._update_shares(replies)  # what this message grants is taken off these already

    def _update_shares(self, replies: ServerMessage) -> None:
        if replies.budget_shares is None:
            return
        rooms = {room.run_id: room for room in replies.budget_shares}
        self._replicas = {run_id: replica for run_id, replica in self._replicas.items() if run_id in rooms}
        for run_id, replica in self._replicas.items():
            replica.update_share(rooms[run_id])

    def _on_decision(self, decision: Decision) -> None:
        ask, future = self._waiting.pop(decision.request_id, (None, None))
        match decision:
            case Granted() if ask is not None and future is not None and not future.done():
                self._degraded_limiter.record_grant(ask.account_key, self._clock())
                self._deliver_permit(
                    decision.smaller or ask, future, (decision.queue_wait_s, decision.rate_wait_s)
                )
            case Granted() if decision.request_id not in self._permits:
                self._batcher.add(decision.request_id)
            case Refused() if ask is not None and future is not None and not future.done():
                future.set_exception(_error(ask, decision))
            case _:
                _log.debug("nobody waits for %s", decision)

    def _deliver_permit(
        self, ask: PermitRequest, future: asyncio.Future[Permit], waits_s: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        """Deliver a permit, whoever granted it, and take it off this client's share of the budget."""
        if ask.run_id in self._replicas:
            self._replicas[ask.run_id].spend_share(ask)
        permit = self._permits[ask.request_id] = Permit(ask, self._settle, self._wall, waits_s)
        future.set_result(permit)

    def _acknowledge(self, settle: Settle) -> None:
        permit = self._permits.pop(settle.permit, None)
        if permit is not None and permit.ask.run_id in self._replicas:
            waits_s = (permit.queue_wait_s, permit.rate_wait_s)
            self._replicas[permit.ask.run_id].record_settlement(permit.ask, settle, waits_s)
        for unacknowledged, flushed in self._flushes:
            unacknowledged.discard(settle.permit)
            if not unacknowledged and not flushed.done():
                flushed.set_result(None)
        self._flushes = [flush for flush in self._flushes if flush[0]]

    # Alone

    def _on_unreachable(self, batch: ClientMessage, error: Exception) -> None:
        self._must_resume = True
        self._send_again(batch)
        if not self._batcher.is_paused:
            _log.warning("the admission cannot be reached, going on at half the rate: %s", error)
            self._batcher.pause()
            self._degraded_limiter.start(self._clock())
            self._spawn(self._run_degraded())

    async def _run_degraded(self) -> None:
        async with asyncio.TaskGroup() as group:
            granting = group.create_task(self._grant_degraded())
            await self._wait_until_reachable()
            granting.cancel()
        _log.warning("the admission is back")
        self._batcher.resume()

    async def _wait_until_reachable(self) -> None:
        """Return once the admission answers."""
        while True:
            await asyncio.sleep(self._retry_s)
            try:
                replies = await self._admission.exchange(ClientMessage(self._holder, self._epoch))
            except Exception as error:  # noqa: BLE001 - as in _exchange
                _log.debug("still no admission: %s", error)
            else:
                self._epoch = replies.epoch
                return

    async def _grant_degraded(self) -> None:
        while True:
            for ask, future in list(self._waiting.values()):
                replica = self._replicas.get(ask.run_id)
                if replica is None or future.done() or not replica.can_afford(ask):
                    continue
                if await self._degraded_limiter.try_acquire(ask.account_key):
                    del self._waiting[ask.request_id]
                    self._deliver_permit(ask, future)
            await asyncio.sleep(POLL_S)


def _error(ask: PermitRequest, refused: Refused) -> LimitReached | QuotaError | RemoteCallError:
    if refused.reason == FAILED:
        return RemoteCallError(refused.why)
    if refused.reason == "quota":
        return QuotaError(ask.model, refused.why)
    return LimitReached(refused.reason, refused.why)
