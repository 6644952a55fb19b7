"""One life of a run, on record: its journal opened and held by the driver, its beginning and its end written down, and
those who watch told what happens.

Everything here runs on the Ray thread of the connection.

Each record once, though a scribe that had no answer sent it again: in little memory, however many there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any, Protocol, TypeVar, runtime_checkable

from rlm_ray.admission.protocol import RunStatus
from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.cluster.messages import RunContext
from rlm_ray.cluster.services.journal import current_node_id
from rlm_ray.config import Settings
from rlm_ray.core.budget import Amount, to_nano_usd
from rlm_ray.core.context import Context, summarize
from rlm_ray.core.llm import Message
from rlm_ray.core.usage import RunUsage
from rlm_ray.errors import JournalError
from rlm_ray.events.records import Record, RunFinished, RunStarted, from_line
from rlm_ray.events.usage import CANCELLED
from rlm_ray.journal.protocol import JournalRef
from rlm_ray.journal.recorder import NullRecorder
from rlm_ray.session.session import SessionResult

LONG_POLL_S = 10.0
"""How long one wait for news lasts."""
READ_INTERVAL_S = 0.05
"""News of so long are read at once: who watches sees no difference, and reading them one by one costs the run."""
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
class RunSpec:
    """A run to be carried out."""

    run_id: str
    settings: Settings
    query: str
    context: Context
    settings_dict: Mapping[str, Any]
    """The settings as they are written down: without secrets."""
    traceparent: str = ""
    previous_attempts: int = 0
    """How many lives it has had before."""
    usage: RunUsage = field(default_factory=RunUsage)
    """Of these."""
    context_key: str = ""
    """Set where the context is another one than in the life before."""
    follow_ups: tuple[str, ...] = ()
    """Further questions of a conversation; this life answers the last."""
    messages: tuple[Message, ...] = ()
    """What a root that answers directly asks, word by word; none: the question over the context."""


@dataclass(frozen=True, slots=True)
class RunAttempt:
    """What a life of a run has to work with."""

    tag: RunContext
    scribe: NullRecorder
    started: float

    def ended(self, completion: SessionResult) -> None:
        """Write the end of this life down."""
        self.scribe.append(
            RunFinished(
                time.time(), completion.stop_reason, completion.why, completion.answer, completion.turns,
                time.time() - self.started, completion.usage.as_dict(),
            )
        )  # fmt: skip

    def failed(self, error: BaseException) -> None:
        """It ends with an error."""
        kind = type(error).__name__ if isinstance(error, Exception) else CANCELLED
        seconds = time.time() - self.started
        self.scribe.append(RunFinished(time.time(), "error", str(error), seconds=seconds, error_kind=kind))


@asynccontextmanager
async def open_run_attempt(
    engine: ClusterDriver, order: RunSpec, observers: Sequence[Observer], *, trunk: int = 0
) -> AsyncIterator[RunAttempt]:
    """Begin a life of the run; whatever ends the block ends it. Say `ended` before, where it went well."""
    ref, offset = await _open_journal(engine, order, watched=bool(observers))
    tag = _run_context(order, ref, trunk)
    async with (
        engine.journal.scribe(ref, order.settings) as scribe,
        _RecordFeed(engine, ref, offset, observers, order.run_id),
    ):
        life = RunAttempt(tag, scribe, tag.started)
        given = summarize(order.context)
        number = order.previous_attempts + 1
        scribe.append(
            RunStarted(
                tag.started,
                order.run_id,
                order.query,
                order.settings_dict,
                given,
                _version(),
                order.traceparent,
                number,
                follow_ups=order.follow_ups,
            )
        )
        try:
            yield life
        except BaseException as error:
            life.failed(error)
            raise
        finally:
            with contextlib.suppress(JournalError):  # who waited for it has been told
                await scribe.flush()


async def _open_journal(
    engine: ClusterDriver, order: RunSpec, *, watched: bool
) -> tuple[JournalRef | None, int]:
    """The journal and where in it this life begins."""
    run_dir = order.settings.run_dir or (IN_MEMORY if watched else "")
    if not run_dir:
        return None, 0
    ref = JournalRef(run_dir, order.run_id, secrets.token_hex(8), current_node_id())
    try:
        return ref, await engine.remote_journal.open(ref)
    except JournalError as error:
        if order.settings.on_journal_error == "stop":
            raise
        _log.warning("%s", error)
        return None, 0


def _run_context(order: RunSpec, ref: JournalRef | None, trunk: int) -> RunContext:
    total = order.usage.total
    return RunContext(
        order.run_id,
        order.settings,
        time.time(),
        ref,
        replays=order.previous_attempts > 0,
        spent=Amount(to_nano_usd(total.cost_usd), total.tokens, total.calls),
        root_path_length=trunk,
        context_key=order.context_key,
    )


class _RecordFeed:
    """Holds the run's journal, and tells those who watch what is written there."""

    def __init__(
        self,
        engine: ClusterDriver,
        ref: JournalRef | None,
        offset: int,
        observers: Sequence[Observer],
        run_id: str,
    ) -> None:
        self._engine, self._ref, self._offset = engine, ref, offset
        self._observers, self._run_id = observers, run_id
        self._tasks: list[asyncio.Task[None]] = []
        self._following: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    async def __aenter__(self) -> None:
        self._tasks.append(asyncio.create_task(self._engine.hold_run(self._run_id)))
        if self._ref is None:
            return
        self._tasks.append(asyncio.create_task(self._engine.remote_journal.hold(self._ref)))
        if self._observers:
            self._following = asyncio.create_task(self._tail(self._ref))
            self._tasks.append(asyncio.create_task(self._tell_status()))

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._ref is None:
                return
            await self._drain()
            await self._engine.remote_journal.close(self._ref)
        except JournalError as error:
            _log.warning("%s", error)
        finally:
            for task in self._tasks:
                task.cancel()

    async def _drain(self) -> None:
        self._over.set()
        if self._following is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self._following

    async def _tail(self, ref: JournalRef) -> None:
        """Until the end of this life has been read."""
        offset = self._offset
        once = RecordDeduplicator()
        while True:
            data = await self._engine.remote_journal.read(ref, offset, LONG_POLL_S)
            offset += len(data)
            for line in data.splitlines():
                record = from_line(line)
                for observer in self._observers if once(record.id) else ():
                    _tell(observer.add, record)
                if isinstance(record, RunFinished):
                    return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(READ_INTERVAL_S):
                    await self._over.wait()

    async def _tell_status(self) -> None:
        told = [observer for observer in self._observers if isinstance(observer, StatusObserver)]
        while told:
            status = await self._engine.status(self._run_id)
            if status is not None:
                for observer in told:
                    _tell(observer.status, status)
            await asyncio.sleep(STATUS_S)


@cache
def _version() -> str:
    return version("rlm-ray")


def _tell(hear: Callable[[T], None], news: T) -> None:
    """Whoever watches a run must not harm it."""
    try:
        hear(news)
    except Exception:  # noqa: BLE001 - whatever it was
        _log.warning("one that watches the run failed", exc_info=True)


class RecordDeduplicator:
    """Knows how far each scribe's records have come: they are numbered, and come in their order."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def __call__(self, ident: str) -> bool:
        """The record of this id comes for the first time."""
        scribe, _, number = ident.rpartition(":")
        if not number.isdigit():
            return True
        if int(number) <= self._last.get(scribe, 0):
            return False
        self._last[scribe] = int(number)
        return True
