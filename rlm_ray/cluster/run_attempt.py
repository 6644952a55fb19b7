"""One attempt of a run: opens and holds its journal, records its beginning and its end, and feeds its observers.

Observers get each record once, although a recorder that had no answer sends it again (`RecordDeduplicator`). Everything
here runs on the Ray thread of the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib.metadata import version
from typing import Any, Protocol, TypeVar, runtime_checkable

from rlm_ray.admission.protocol import RunPolicy, RunStatus
from rlm_ray.admission.server import AdmissionServer
from rlm_ray.cluster.detached_actor import RETRY_S, current_node_id
from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.config import Settings
from rlm_ray.core.answer_preview import AnswerNews
from rlm_ray.core.context import Context, summarize
from rlm_ray.core.limits import Amount, to_nano_usd
from rlm_ray.core.llm import Message
from rlm_ray.errors import ClusterError, JournalError
from rlm_ray.events.records import Record, RunFinished, RunStarted, from_line
from rlm_ray.events.usage import CANCELLED, RunUsage
from rlm_ray.journal.recorder import NullRecorder
from rlm_ray.journal.server import IN_MEMORY, JournalRef
from rlm_ray.llm.run_context import RunContext
from rlm_ray.session.result import SessionResult
from rlm_ray.structured.schema import AnswerSchema
from rlm_ray.util.log_format import trace_id_of

LONG_POLL_S = 10.0
"""How long one read of the journal waits for new records."""
READ_INTERVAL_S = 0.05
"""Records of so long are read together: observers see no difference, and reading them one by one costs the run."""
DRAIN_S = 2.0
"""How long the end of a run waits until its observers have got all records."""
STATUS_S = 0.5
CLOSE_S = 5.0
"""How long the end of a run waits for an admission that is gone: it closes the run by itself, later."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Observer(Protocol):
    """Watches a run. Called from another thread than the one it was made in; must be quick."""

    def add(self, record: Record) -> None:
        """Take a record of the run; each comes once."""
        ...


@runtime_checkable
class StatusObserver(Protocol):
    """Also watches what is under way and what waits."""

    def status(self, status: RunStatus) -> None:
        """Take the status of the run, twice a second."""
        ...


@runtime_checkable
class WaitObserver(Protocol):
    """Also hears what keeps sessions from beginning: Ray that starts, CPUs that others hold, slots that are taken."""

    def waits_for(self, what: str) -> None:
        """Take what is waited for, and why, in a few words; empty where it is there."""
        ...


@runtime_checkable
class AnswerObserver(Protocol):
    """Also hears the answer while a model writes it."""

    def hear_answer(self, news: AnswerNews) -> None:
        """Take what the answer goes on with, or that it begins anew; it is an answer only when the run has ended with it."""
        ...


def answer_teller(observers: Sequence[Observer]) -> Callable[[AnswerNews], None] | None:
    """Return what tells the observers that read along how the answer goes on; None where nobody does."""
    readers = [observer for observer in observers if isinstance(observer, AnswerObserver)]

    def tell(news: AnswerNews) -> None:
        for reader in readers:
            _tell(reader.hear_answer, news)

    return tell if readers else None


def wait_teller(observers: Sequence[Observer]) -> Callable[[str], None]:
    """Return what tells the observers that care what is waited for."""

    def tell(what: str) -> None:
        for observer in observers:
            if isinstance(observer, WaitObserver):
                _tell(observer.waits_for, what)

    return tell


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A run to be carried out."""

    run_id: str
    settings: Settings
    query: str
    context: Context
    settings_dict: Mapping[str, Any]
    """The settings as they are recorded: without secrets."""
    traceparent: str = ""
    previous_attempts: int = 0
    """How many attempts there were before."""
    usage: RunUsage = field(default_factory=RunUsage)
    """Of these."""
    context_key: str = ""
    """Set where the context is another one than in the attempt before."""
    follow_ups: tuple[str, ...] = ()
    """Further questions of a conversation; this attempt answers the last."""
    messages: tuple[Message, ...] = ()
    """What a root that answers directly asks, word by word; none: the question over the context."""
    schemas: tuple[AnswerSchema | None, ...] = ()
    """What the answer to each question looks like, the first and the further ones."""


@dataclass(frozen=True, slots=True)
class RunAttempt:
    """One attempt of a run: its context for messages, and its recorder."""

    run_context: RunContext
    recorder: NullRecorder
    started: float

    def ended(self, completion: SessionResult) -> None:
        """Record the end of this attempt."""
        self.recorder.append(
            RunFinished(
                time.time(), completion.stop_reason, completion.why, completion.answer, completion.turns,
                time.time() - self.started, completion.usage.as_dict(), citations=completion.citations,
            )
        )  # fmt: skip

    def failed(self, error: BaseException) -> None:
        """Record that this attempt ends with an error."""
        kind = type(error).__name__ if isinstance(error, Exception) else CANCELLED
        seconds = time.time() - self.started
        self.recorder.append(RunFinished(time.time(), "error", str(error), seconds=seconds, error_kind=kind))


@asynccontextmanager
async def open_run_attempt(
    engine: ClusterDriver, run_spec: RunSpec, observers: Sequence[Observer], *, root_path_length: int = 0
) -> AsyncIterator[RunAttempt]:
    """Begin an attempt of the run; whatever ends the block ends it. Call `ended` before, where it went well."""
    ref, offset = await _open_journal(engine, run_spec, watched=bool(observers))
    run_context = _run_context(run_spec, ref, root_path_length)
    if answer_teller(observers) is not None:
        run_context = replace(run_context, listener=engine.answers.listener)
    async with (
        engine.journal_client.recorder(ref, run_spec.settings) as recorder,
        _RecordFeed(engine, ref, offset, observers, run_spec.run_id),
        held_at_admission(
            engine.admission, run_context.policy()
        ),  # ends first: the next attempt waits for the journal
    ):
        run_attempt = RunAttempt(run_context, recorder, run_context.started)
        given = summarize(run_spec.context)
        number = run_spec.previous_attempts + 1
        recorder.append(
            RunStarted(
                run_context.started,
                run_spec.run_id,
                run_spec.query,
                run_spec.settings_dict,
                given,
                _version(),
                run_spec.traceparent,
                number,
                follow_ups=run_spec.follow_ups,
                tools=run_spec.settings.tool_names,
                schemas=tuple("" if schema is None else schema.source for schema in run_spec.schemas),
            )
        )
        try:
            await recorder.flush()  # the first line of the journal, whatever the run's actors write
            yield run_attempt
        except BaseException as error:
            run_attempt.failed(error)
            raise
        finally:
            with contextlib.suppress(JournalError):  # the caller has got the error
                await recorder.flush()


@asynccontextmanager
async def held_at_admission(admission: AdmissionServer, policy: RunPolicy) -> AsyncIterator[None]:
    """Hold the run at the admission as its driver, and close it there whatever ends the block.

    Where the closing does not arrive, the hold ends with this process at the latest, and the admission closes the run.
    """
    holding = asyncio.create_task(_hold(lambda: admission.hold_run(policy.run_id)))
    try:
        yield
    finally:
        closing = asyncio.create_task(_close_at_admission(admission, policy))
        closing.add_done_callback(lambda _: holding.cancel())
        await asyncio.shield(closing)  # a second cancel must not stop it


async def _hold(hold: Callable[[], Awaitable[None]]) -> None:
    """Hold a run until this is cancelled or the run closed, again where the connection or the actor is lost."""
    while True:
        try:
            return await hold()
        except Exception as error:  # noqa: BLE001 - whatever it was: not held, the run would be closed under its driver
            _log.debug("a run is not held: %s", error)
        await asyncio.sleep(RETRY_S)


async def _close_at_admission(admission: AdmissionServer, policy: RunPolicy) -> None:
    try:
        async with asyncio.timeout(CLOSE_S):
            await admission.close_run(policy.run_id, policy.attempt)
    except Exception as error:  # noqa: BLE001 - whatever it was, the run has its answer
        _log.debug("the admission closes run %s by itself: %s", policy.run_id, error)


async def _open_journal(
    engine: ClusterDriver, run_spec: RunSpec, *, watched: bool
) -> tuple[JournalRef | None, int]:
    """Return the journal, and the offset at which this attempt begins. Observers are told also of a run that goes on without a
    record."""
    for run_dir in (run_spec.settings.run_dir, IN_MEMORY if watched else ""):
        if not run_dir:
            continue
        ref = JournalRef(run_dir, run_spec.run_id, secrets.token_hex(8), current_node_id())
        try:
            return ref, await engine.journal.open(ref)
        except JournalError as error:
            if run_spec.settings.on_journal_error == "stop":
                raise
            _log.warning("%s", error)
    return None, 0


def _run_context(run_spec: RunSpec, ref: JournalRef | None, root_path_length: int) -> RunContext:
    total = run_spec.usage.total
    return RunContext(
        run_spec.run_id,
        run_spec.settings,
        time.time(),
        ref,
        replays=run_spec.previous_attempts > 0,
        spent=Amount(to_nano_usd(total.cost_usd), total.tokens, total.calls),
        root_path_length=root_path_length,
        trace_id=trace_id_of(run_spec.traceparent),
        context_key=run_spec.context_key,
    )


class _RecordFeed:
    """Holds the run's journal, and passes its records to the observers."""

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
        if self._ref is None:
            return
        self._tasks.append(asyncio.create_task(_hold(partial(self._engine.journal.hold, self._ref))))
        if self._observers:
            self._following = asyncio.create_task(self._tail(self._ref))
            self._tasks.append(asyncio.create_task(self._tell_status()))

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._ref is None:
                return
            await self._drain()
            await self._engine.journal.close(self._ref)
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
        """Read records until the end of this attempt."""
        offset = self._offset
        once = RecordDeduplicator()
        while True:
            data = await self._engine.journal.read(ref, offset, LONG_POLL_S)
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
        status_observers = [observer for observer in self._observers if isinstance(observer, StatusObserver)]
        while status_observers:
            with contextlib.suppress(ClusterError):  # it is there again soon
                status = await self._engine.admission.status(self._run_id)
                if status is not None:
                    for observer in status_observers:
                        _tell(observer.status, status)
            await asyncio.sleep(STATUS_S)


@cache
def _version() -> str:
    return version("rlm-ray")


def _tell(hear: Callable[[T], None], news: T) -> None:
    """Call an observer; its errors must not harm the run."""
    try:
        hear(news)
    except Exception:  # noqa: BLE001 - whatever it was
        _log.warning("an observer of the run failed", exc_info=True)


class RecordDeduplicator:
    """Remembers how far the records of each recorder have come: they are numbered, and come in run_spec."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def __call__(self, ident: str) -> bool:
        """Tell whether the record of this id comes for the first time."""
        recorder, _, number = ident.rpartition(":")
        if not number.isdigit():
            return True
        if int(number) <= self._last.get(recorder, 0):
            return False
        self._last[recorder] = int(number)
        return True
