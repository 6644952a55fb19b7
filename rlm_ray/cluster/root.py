"""A run from the driver's side: its journal opened and held, its root session sent to an actor, and sent again to
another one where that is lost; those who watch are told what happens.

Everything here runs on the Ray thread of the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any, Protocol, TypeVar, runtime_checkable

from rlm_ray.admission.protocol import RunStatus
from rlm_ray.cluster.children import ended
from rlm_ray.cluster.engine import Engine, Seat
from rlm_ray.cluster.journal import home
from rlm_ray.cluster.messages import RunTag, SessionSpec
from rlm_ray.config import Settings
from rlm_ray.core.context import Context
from rlm_ray.core.ledger import Amount, nano_usd
from rlm_ray.core.records import Record, RunEnded, RunOpened, SessionOpened, from_line, input_of
from rlm_ray.core.usage import RunUsage
from rlm_ray.errors import ActorLostError, ContextLostError, JournalError, RLMError
from rlm_ray.journal.protocol import JournalRef
from rlm_ray.journal.replay import CANCELLED
from rlm_ray.journal.scribe import Scribe
from rlm_ray.session import Completion

ATTEMPTS = 5
"""How often a root is started when its actors die."""
FOLLOW_S = 10.0
"""How long one wait for news lasts."""
DRAIN_S = 2.0
"""How long the end of a run waits until those who watch have heard all."""
STATUS_S = 0.5
IN_MEMORY = "memory://rlm_ray"
"""Where the journal of a run lies that is watched but keeps no record."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Observer(Protocol):
    """One that watches a run. Called from another thread than the one it was made in; must be quick."""

    def add(self, record: Record) -> None:
        """A fact of the run, once each."""
        ...


@runtime_checkable
class StatusObserver(Protocol):
    """One that also wants to know what is under way and what waits."""

    def status(self, status: RunStatus) -> None:
        """How the run stands, twice a second."""
        ...


@dataclass(frozen=True, slots=True)
class Order:
    """A run to be carried out."""

    run_id: str
    settings: Settings
    query: str
    context: Context
    table: Mapping[str, Any]
    """The settings as they are written down: without secrets."""
    traceparent: str = ""
    lives: int = 0
    """How many lives it has had before."""
    usage: RunUsage = field(default_factory=RunUsage)
    """Of these."""
    context_key: str = ""
    """Set where the context is another one than in the life before."""


class RootRun:
    """One life of a run."""

    def __init__(self, engine: Engine, order: Order, observers: Sequence[Observer]) -> None:
        self._engine = engine
        self._order = order
        self._observers = observers
        self._seat: Seat | None = None
        self._attempt = order.lives
        self._offset = 0
        """Where this life begins in the journal."""

    async def run(self) -> Completion:
        """To its end. Cancelling this cancels the tree."""
        ref = await self._open()
        async with (
            self._engine.journal.scribe(ref, self._order.settings) as scribe,
            _Watching(self._engine, ref, self._offset, self._observers, self._order.run_id),
        ):
            try:
                return await self._recorded(ref, scribe)
            finally:
                with contextlib.suppress(JournalError):
                    await scribe.written()

    @property
    def actor(self) -> str | None:
        """Where the root session is; None before and after that."""
        return self._seat.name if self._seat is not None else None

    async def stop(self, reason: str, why: str) -> bool:
        """End it early; False where the root has not begun."""
        return self._seat is not None and await self._engine.stop(self._seat, self._order.run_id, reason, why)

    async def _open(self) -> JournalRef | None:
        settings = self._order.settings
        run_dir = settings.run_dir or (IN_MEMORY if self._observers else "")
        if not run_dir:
            return None
        ref = JournalRef(run_dir, self._order.run_id, secrets.token_hex(8), home())
        try:
            self._offset = await self._engine.remote_journal.open(ref)
        except JournalError as error:
            if settings.on_journal_error == "stop":
                raise
            _log.warning("%s", error)
            return None
        return ref

    async def _recorded(self, ref: JournalRef | None, scribe: Scribe) -> Completion:
        order = self._order
        started = time.time()
        given = input_of(order.context)
        life = order.lives + 1
        scribe.put(
            RunOpened(
                started,
                order.run_id,
                order.query,
                order.table,
                given,
                version("rlm-ray"),
                order.traceparent,
                life,
            )
        )
        spent = Amount(
            nano_usd(order.usage.total.cost_usd), order.usage.total.tokens, order.usage.total.calls
        )
        tag = RunTag(
            order.run_id, order.settings, started, ref,
            replays=order.lives > 0, spent=spent, context_key=order.context_key,
        )  # fmt: skip
        try:
            completion = await self._insist(tag, scribe)
        except BaseException as error:
            kind = type(error).__name__ if isinstance(error, Exception) else CANCELLED
            seconds = time.time() - started
            scribe.put(RunEnded(time.time(), "error", str(error), seconds=seconds, error_kind=kind))
            raise
        completion = replace(completion, usage=order.usage + completion.usage)
        scribe.put(
            RunEnded(
                time.time(), completion.stop_reason, completion.why, completion.answer, completion.turns,
                time.time() - started, completion.usage.as_dict(),
            )
        )  # fmt: skip
        return completion

    async def _insist(self, tag: RunTag, scribe: Scribe) -> Completion:
        """Run the root; again, from its record, where its actor or its context is lost."""
        for left in reversed(range(ATTEMPTS)):
            self._attempt += 1
            try:
                return await self._once(tag, scribe)
            except (ActorLostError, ContextLostError) as error:
                if not left or tag.journal is None:
                    raise
                _log.warning("the run goes on from its record: %s", error)
                self._engine = await Engine.connect(tag.settings.cluster)
        raise AssertionError

    async def _once(self, tag: RunTag, scribe: Scribe) -> Completion:
        order = self._order
        seat = await self._engine.take_seat(tag.settings.cluster.sessions_per_actor)
        parcel = await self._engine.pack(order.context)
        spec = SessionSpec(tag, (), "", order.query, parcel, self._attempt)
        model, _ = tag.settings.model_at(0)
        given = input_of(order.context)
        scribe.put(SessionOpened(time.time(), (), order.query, given, model, seat.name, self._attempt))
        self._seat = seat
        try:
            completion = await self._engine.run(seat, spec)
        except RLMError as error:
            scribe.put(ended(spec, error, ""))
            raise
        except asyncio.CancelledError:
            scribe.put(ended(spec, Completion(None, CANCELLED), "", CANCELLED))
            raise
        else:
            scribe.put(ended(spec, completion, ""))
            return completion
        finally:
            self._seat = None
            await self._engine.leave_seat(seat)


class _Watching:
    """Holds the run's journal, and tells those who watch what is written there."""

    def __init__(
        self, engine: Engine, ref: JournalRef | None, offset: int, observers: Sequence[Observer], run_id: str
    ) -> None:
        self._engine, self._ref, self._offset = engine, ref, offset
        self._observers, self._run_id = observers, run_id
        self._tasks: list[asyncio.Task[None]] = []
        self._following: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        if self._ref is None:
            return
        self._tasks.append(asyncio.create_task(self._engine.remote_journal.hold(self._ref)))
        if self._observers:
            self._following = asyncio.create_task(self._follow(self._ref))
            self._tasks.append(asyncio.create_task(self._tell_status()))

    async def __aexit__(self, *_: object) -> None:
        if self._ref is None:
            return
        try:
            await self._drain()
            await self._engine.remote_journal.close(self._ref)
        except JournalError as error:
            _log.warning("%s", error)
        finally:
            for task in self._tasks:
                task.cancel()

    async def _drain(self) -> None:
        if self._following is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self._following

    async def _follow(self, ref: JournalRef) -> None:
        """Until the end of this life has been read."""
        offset = self._offset
        seen: set[str] = set()
        while True:
            data = await self._engine.remote_journal.read(ref, offset, FOLLOW_S)
            offset += len(data)
            for line in data.splitlines():
                record = from_line(line)
                if record.id in seen:
                    continue
                seen.add(record.id)
                for observer in self._observers:
                    _tell(observer.add, record)
                if isinstance(record, RunEnded):
                    return

    async def _tell_status(self) -> None:
        told = [observer for observer in self._observers if isinstance(observer, StatusObserver)]
        while told:
            status = await self._engine.status(self._run_id)
            if status is not None:
                for observer in told:
                    _tell(observer.status, status)
            await asyncio.sleep(STATUS_S)


def _tell(hear: Callable[[T], None], news: T) -> None:
    """Whoever watches a run must not harm it."""
    try:
        hear(news)
    except Exception:  # noqa: BLE001 - whatever it was
        _log.warning("one that watches the run failed", exc_info=True)
