"""`AdmissionServer` gives an `AdmissionController` a clock, a timer and long polls; it decides nothing.

A plain async class; `cluster/services.py` wraps it as the one admission actor. Its callers are
`AdmissionClient`s: each sends messages, and has at most one of them held here until there is a decision for it. A newer
message of the same client frees the older one, so nothing piles up and nothing waits for a tick. Where messages become too
many, clients are asked to collect for longer (`MessagePacer`): a message costs this process as much as the call in it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import TypeVar

from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.permit_table import remember
from rlm_ray.admission.protocol import (
    FAILED,
    BudgetShare,
    ClientMessage,
    Decision,
    PermitRequest,
    Refused,
    RunPolicy,
    RunStatus,
    ServerMessage,
    Settle,
)
from rlm_ray.events.usage import RunUsage
from rlm_ray.util.rpc_service import rpc_method

LONG_POLL_S = 10.0
SHARE_INTERVAL_S = 0.1
"""How old a client's share of a budget may be while it asks: what others are granted meanwhile is not taken off it."""
SILENT_S = 60.0
"""A client sends a heartbeat each second while it works on a run; one that is silent for so long is gone."""
DOUBTED_SILENT_S = 3.0
"""How long a client may be silent that was said to be gone and went on all the same. Its polls are answered each second."""
DOUBTED_POLL_S = 1.0
MAX_DOUBTED = 1_000
SWEEP_INTERVAL_S = 10.0
MAX_MESSAGES_PER_S = 2_000.0
"""So many messages of all clients together come unasked: about a seventh of what one process can take."""
PACE_WINDOW_S = 1.0
MAX_INTERVAL_S = 0.5

PartT = TypeVar("PartT", PermitRequest, Settle, str)

_log = logging.getLogger(__name__)


class _ClientState:
    """What the server knows of one client."""

    __slots__ = ("decisions", "heard_at", "long_poll", "runs", "shares_sent_at")

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.long_poll: asyncio.Future[None] | None = None
        self.runs: set[str] = set()
        self.shares_sent_at = 0.0
        self.heard_at = 0.0

    def wake(self) -> None:
        if self.long_poll is not None and not self.long_poll.done():
            self.long_poll.set_result(None)


class MessagePacer:
    """Says how long each client should collect before its next message, from what came in the second before."""

    __slots__ = ("_clients", "_max_per_s", "_messages", "_since", "interval_s")

    def __init__(self, max_per_s: float = MAX_MESSAGES_PER_S) -> None:
        self.interval_s = 0.0
        self._max_per_s = max_per_s
        self._messages, self._clients, self._since = 0, set[str](), -math.inf

    def count(self, client: str, now: float) -> None:
        """Count a message. Each second says for the next whether clients are asked to collect, until they send half as many."""
        if now - self._since >= PACE_WINDOW_S:
            most = self._max_per_s / 2 if self.interval_s else self._max_per_s
            is_busy = self._messages / (now - self._since) > most
            self.interval_s = min(len(self._clients) / self._max_per_s, MAX_INTERVAL_S) if is_busy else 0.0
            self._messages, self._clients, self._since = 0, set(), now
        self._messages += 1
        self._clients.add(client)


class AdmissionServer:
    """Serves one admission. `epoch` is the name of this start of it."""

    def __init__(
        self,
        admission: AdmissionController,
        epoch: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        hold_s: float = LONG_POLL_S,
        max_messages_per_s: float = MAX_MESSAGES_PER_S,
    ) -> None:
        self._controller = admission
        self._epoch = epoch
        self._clock = clock
        self._hold_s = hold_s
        self._holders: dict[str, _ClientState] = {}
        self._doubted: dict[str, None] = {}
        """Clients that were said to be gone, the last ones."""
        self._timer: asyncio.TimerHandle | None = None
        self._swept_at = self._clock()
        self._pacer = MessagePacer(max_messages_per_s)

    @rpc_method(is_repeated=False)
    async def exchange(self, batch: ClientMessage) -> ServerMessage:
        """Take in a message and answer it, at once or when there is a decision for its client."""
        if batch.epoch is not None and batch.epoch != self._epoch:
            return ServerMessage(self._epoch)
        holder = self._holders.setdefault(batch.holder, _ClientState())
        holder.heard_at = self._clock()
        is_doubted = batch.holder in self._doubted
        if is_doubted:
            loop = asyncio.get_running_loop()
            loop.call_later(DOUBTED_SILENT_S, self._drop_if_silent, batch.holder, holder.heard_at)
        self._pacer.count(batch.holder, holder.heard_at)
        self._sweep()
        self._apply(batch)
        self._deliver()
        holder.wake()
        if batch.long_poll and not holder.decisions:
            await self._long_poll(holder, min(self._hold_s, DOUBTED_POLL_S) if is_doubted else self._hold_s)
        return self._replies(holder, batch)

    @rpc_method()
    async def open_run(self, policy: RunPolicy) -> str:
        """Open a run and return the epoch: another one later means that the run has to be opened again."""
        self._controller.open_run(policy, self._clock())
        self._sweep()
        return self._epoch

    @rpc_method(timeout_s=None)
    async def hold_run(self, run_id: str) -> None:
        """Never return: the driver of a run waits here as long as it drives it. Where it is gone the run is closed."""
        self._controller.hold_run(run_id)
        try:
            await asyncio.Event().wait()
        finally:
            self._controller.leave_run(run_id, self._clock())

    @rpc_method()
    async def driverless(self, run_ids: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of these runs that no driver holds."""
        return tuple(run_id for run_id in run_ids if not self._controller.is_held(run_id))

    @rpc_method()
    async def close_run(self, run_id: str, attempt: float) -> RunUsage:
        """Close the run of this attempt and return its usage. Its `open_run` may come later: it is not heard."""
        usage = self._controller.close_run(run_id, attempt)
        self._deliver()
        return usage

    @rpc_method()
    async def open_sessions(self, policy: RunPolicy, count: int = 1) -> Refused | None:
        """Count more sessions of a run; one that an earlier admission had is opened here."""
        return self._controller.open_sessions(policy, count, self._clock())

    @rpc_method()
    async def usage(self, run_id: str) -> RunUsage:
        return self._controller.usage(run_id)

    @rpc_method()
    async def status(self, run_id: str) -> RunStatus | None:
        return self._controller.status(run_id, self._clock())

    async def stats(self) -> dict[str, int]:
        """Count the rows of each table."""
        self._sweep()
        return {**self._controller.stats(), "holders": len(self._holders)}

    def _sweep(self) -> None:
        """Drop, every few seconds, clients and runs that are gone without notice."""
        now = self._clock()
        if now - self._swept_at < SWEEP_INTERVAL_S:
            return
        self._swept_at = now
        silent = [
            name
            for name, holder in self._holders.items()
            if holder.long_poll is None and now - holder.heard_at >= SILENT_S
        ]
        for name in silent:
            self._drop(name)
        self._controller.close_abandoned_runs(now)
        self._controller.forget_idle_accounts(now)
        self._deliver()

    @rpc_method()
    async def forget_holder(self, name: str) -> None:
        """Drop a client that is gone. Its last messages may still come, for Ray says so before the process has ended; or it
        was taken for dead and goes on. So it is heard again, and dropped again as soon as it is silent."""
        remember(self._doubted, name, None, MAX_DOUBTED)
        self._drop(name)
        self._deliver()

    def _drop(self, name: str) -> None:
        self._holders.pop(name, None)
        self._controller.drop_client(name, self._clock())

    def _drop_if_silent(self, name: str, heard_at: float) -> None:
        if name in self._holders and self._holders[name].heard_at == heard_at:
            self._drop(name)
            self._deliver()

    def _apply(self, batch: ClientMessage) -> None:
        """Take in each part of a message by itself: an error about one does not lose the others."""
        now = self._clock()
        if batch.resume is not None:
            self._controller.restore(batch.holder, batch.resume, now)
        for settle in batch.settles:
            _failure_of("settle", settle.permit, self._controller.release, settle, now)
        for request_id in batch.cancelled:
            _failure_of("withdraw", request_id, self._controller.cancel, request_id, now)
        for ask in batch.asks:
            why = _failure_of("ask", ask.request_id, self._controller.request, ask, now)
            if why:
                self._holders[batch.holder].decisions.append(
                    Refused(ask.request_id, batch.holder, FAILED, why)
                )

    def _deliver(self) -> None:
        """Deliver the decisions that are due and set the timer for the next."""
        now = self._clock()
        for verdict in self._controller.decisions(now):
            holder = self._holders.get(verdict.holder)
            if holder is not None:
                holder.decisions.append(verdict)
                holder.wake()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wakeup = self._controller.next_wakeup(now)
        if wakeup is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(wakeup - now, 0.001), self._deliver)

    async def _long_poll(self, holder: _ClientState, hold_s: float) -> None:
        waiter = holder.long_poll = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(hold_s):
                await waiter
        except TimeoutError:
            return
        finally:
            if holder.long_poll is waiter:
                holder.long_poll = None

    def _replies(self, holder: _ClientState, batch: ClientMessage) -> ServerMessage:
        now = self._clock()
        new = {ask.run_id for ask in batch.asks} - holder.runs
        if batch.resume is not None:
            new |= {record.policy.run_id for record in batch.resume.runs}
        holder.runs |= new
        verdicts, holder.decisions = tuple(holder.decisions), []
        policy = [self._controller.run_policy(run_id, now) for run_id in sorted(new)]
        opened = tuple(run for run in policy if run is not None)
        shares = self._budget_shares(holder, now, news=bool(new))
        return ServerMessage(self._epoch, verdicts, opened, shares, self._pacer.interval_s)

    def _budget_shares(
        self, holder: _ClientState, now: float, *, news: bool
    ) -> tuple[BudgetShare, ...] | None:
        if not news and now - holder.shares_sent_at < SHARE_INTERVAL_S:
            return None
        holder.shares_sent_at = now
        shares = [self._controller.budget_share(run_id) for run_id in sorted(holder.runs)]
        opened = tuple(share for share in shares if share is not None)
        holder.runs = {share.run_id for share in opened}
        return opened


def _failure_of(
    what: str, request_id: str, take_in: Callable[[PartT, float], None], part: PartT, now: float
) -> str:
    """Take in one part of a message; returns what went wrong, logged, and nothing where all is well."""
    try:
        take_in(part, now)
    except Exception as error:  # noqa: BLE001 - whatever it was, the caller gets it as an error
        _log.exception("%s of %s failed", what, request_id)
        return f"the admission could not judge this call: {type(error).__name__}: {error}"
    return ""
